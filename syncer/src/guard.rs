//! Layer B: the admission policies of the super cluster that hold the syncer's own identity to what it is for.
//!
//! The syncer can read them and change none. While one of them, or its binding, is missing or wouldn't deny, nothing goes
//! down, and every tenant's VirtualControlPlane says why. No key is worked downward meanwhile; and each write to the super
//! cluster, whichever task it is of, needs a permit that holds only while they stand ([`crate::apply`]).

use crate::{
    engine::Engine,
    lasting,
    watch::{self, Presence, Sink, Target},
};
use api::ADMISSION_POLICIES;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use tenancy::object::Object;
use tokio::sync;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info_span;

const GROUP: &str = "admissionregistration.k8s.io/v1";

/// What a policy and its binding are each watched as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Policy,
    Binding,
}

impl Half {
    fn target(self) -> Target {
        let (plural, kind) = match self {
            Self::Policy => ("validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
            Self::Binding => (
                "validatingadmissionpolicybindings",
                "ValidatingAdmissionPolicyBinding",
            ),
        };
        Target {
            path: format!("/apis/{GROUP}/{plural}"),
            selector: Some("app.kubernetes.io/part-of=sublet".into()),
            name: None,
            api_version: GROUP.into(),
            kind: kind.into(),
            presence: Presence::Optional,
        }
    }

    /// The policy that this object, as it stands, does its half for.
    fn holds(self, object: &Object) -> Option<&'static str> {
        let name = ADMISSION_POLICIES
            .into_iter()
            .find(|name| *name == object.name())?;
        let lists = |pointer: &str, word: &str| {
            let list = object.at(pointer).and_then(serde_json::Value::as_array);
            list.is_some_and(|list| list.iter().any(|entry| entry == word))
        };
        let is_whole = match self {
            Self::Policy => {
                object.text("/spec/failurePolicy") == Some("Fail")
                    && object.at("/spec/validations/0").is_some()
                    && !is_narrowed(object)
            }
            Self::Binding => {
                object.text("/spec/policyName") == Some(name)
                    && lists("/spec/validationActions", "Deny")
                    && object.at("/spec/matchResources").is_none()
            }
        };
        (is_whole && !object.is_terminating()).then_some(name)
    }
}

/// Whether a policy looks at less of the daemons' requests than this version has it look at: one condition says whose they
/// are, and any other, or another selector, would let some of them by.
fn is_narrowed(policy: &Object) -> bool {
    let holds = |field: &str| {
        let value = policy.at(&format!("/spec/matchConstraints/{field}"));
        let is_empty = |value: &Value| {
            value.as_object().is_some_and(serde_json::Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty)
        };
        match narrowing(policy.name(), field) {
            None => value.is_none_or(is_empty),
            Some(shipped) => value == Some(&shipped),
        }
    };
    policy.at("/spec/matchConditions/1").is_some()
        || ![
            "namespaceSelector",
            "objectSelector",
            "excludeResourceRules",
        ]
        .into_iter()
        .all(holds)
}

/// What a policy leaves out in `manifests/install.yaml`, since another one sees to it or it isn't Sublet's to judge.
fn narrowing(policy: &str, field: &str) -> Option<Value> {
    let own = || json!({"matchLabels": {api::keys::MANAGED: "true"}});
    match (policy, field) {
        ("sublet-daemons", "excludeResourceRules") => Some(json!([{
            "apiGroups": [""], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
            "resources": ["pods", "pods/ephemeralcontainers", "pods/resize"], "scope": "*",
        }])),
        ("sublet-daemons-pods", "namespaceSelector") => Some(json!({"matchExpressions": [
            {"key": api::keys::MANAGED, "operator": "NotIn", "values": ["true"]},
        ]})),
        ("sublet-syncer-pods", "namespaceSelector")
        | ("sublet-syncer-levels", "objectSelector") => Some(own()),
        _ => None,
    }
}

/// Which of the policies stand.
pub(crate) struct Guard {
    standing: Mutex<[Standing; 2]>,
    missing: sync::watch::Sender<Option<Vec<&'static str>>>,
}

/// What stands of one half.
#[derive(Default)]
struct Standing {
    names: BTreeSet<&'static str>,
    /// What a list that goes on has told.
    listing: Option<BTreeSet<&'static str>>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            standing: Mutex::default(),
            missing: sync::watch::Sender::new(Some(ADMISSION_POLICIES.to_vec())),
        }
    }
}

impl Guard {
    /// The policies that don't stand; `None` when all do.
    pub(crate) fn missing(&self) -> sync::watch::Receiver<Option<Vec<&'static str>>> {
        self.missing.subscribe()
    }

    /// Whether all policies stand at this very moment.
    pub(crate) fn is_intact(&self) -> bool {
        self.missing.borrow().is_none()
    }

    /// Waits until all policies stand.
    pub(crate) async fn intact(&self) {
        // The sender lives as long as the engine.
        let _ = self.missing.subscribe().wait_for(Option::is_none).await;
    }

    fn change(&self, half: Half, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.standing.lock();
        change(&mut standing[half as usize]);
        let lacks = |name: &&'static str| !standing.iter().all(|half| half.names.contains(name));
        let missing: Vec<&'static str> = ADMISSION_POLICIES.into_iter().filter(lacks).collect();
        let missing = (!missing.is_empty()).then_some(missing);
        drop(standing);
        self.missing.send_if_modified(|known| {
            let is_news = *known != missing;
            if is_news {
                match &missing {
                    // What is told while lists arrive is no news.
                    Some(missing) if known.is_none() => {
                        tracing::warn!(
                            ?missing,
                            "admission policies are missing: nothing goes down"
                        );
                    }
                    Some(_) => {}
                    None => tracing::info!("all admission policies stand"),
                }
                *known = missing;
            }
            is_news
        });
    }
}

/// Watches the policies and their bindings until cancelled.
pub(crate) fn watch(engine: &Arc<Engine>, tasks: &TaskTracker, cancel: &CancellationToken) {
    for half in [Half::Policy, Half::Binding] {
        let (engine, cancel) = (engine.clone(), cancel.clone());
        lasting::spawn(
            tasks,
            info_span!("guard watch"),
            &cancel.clone(),
            async move {
                let sink = GuardSink {
                    guard: &engine.guard,
                    half,
                };
                watch::run(&engine.cluster, &half.target(), &sink, &cancel).await;
            },
        );
    }
}

struct GuardSink<'a> {
    guard: &'a Guard,
    half: Half,
}

impl Sink for GuardSink<'_> {
    fn listing(&self) {
        self.guard.standing.lock()[self.half as usize].listing = Some(BTreeSet::new());
    }

    fn applied(&self, object: Object) {
        let half = self.half;
        self.guard
            .change(half, |standing| match half.holds(&object) {
                Some(name) => {
                    standing.names.insert(name);
                    standing.listing.iter_mut().for_each(|listing| {
                        listing.insert(name);
                    });
                }
                None => standing.names.retain(|name| *name != object.name()),
            });
    }

    fn deleted(&self, object: Object) {
        self.guard.change(self.half, |standing| {
            standing.names.retain(|name| *name != object.name());
        });
    }

    fn listed(&self, _version: u64) {
        self.guard.change(self.half, |standing| {
            if let Some(listed) = standing.listing.take() {
                standing.names = listed;
            }
        });
    }

    fn absent(&self) {
        self.guard
            .change(self.half, |standing| *standing = Standing::default());
    }
}

#[cfg(test)]
impl Guard {
    /// For tests whose super cluster is a fake.
    pub(crate) fn let_pass(&self) {
        self.missing.send_replace(None);
    }

    /// This policy went.
    pub(crate) fn lack(&self, policy: &'static str) {
        self.missing.send_replace(Some(vec![policy]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    /// As the super cluster holds what `manifests/install.yaml` ships.
    fn shipped(kind: &str, name: &str) -> Value {
        static DOCUMENTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
            let text = include_str!("../../manifests/install.yaml");
            serde_saphyr::from_multiple(text).unwrap()
        });
        let is_it =
            |document: &&Value| document["kind"] == kind && document["metadata"]["name"] == name;
        let mut found = DOCUMENTS.iter().find(is_it).unwrap().clone();
        if let Some(constraints) = found["spec"]["matchConstraints"].as_object_mut() {
            for selector in ["namespaceSelector", "objectSelector"] {
                constraints.entry(selector).or_insert(json!({}));
            }
        }
        found
    }

    fn policy(name: &str) -> Object {
        Object::from_value(shipped("ValidatingAdmissionPolicy", name)).unwrap()
    }

    fn binding(name: &str) -> Object {
        Object::from_value(shipped("ValidatingAdmissionPolicyBinding", name)).unwrap()
    }

    fn all() -> Guard {
        let guard = Guard::default();
        for (half, make) in [
            (Half::Policy, policy as fn(&str) -> Object),
            (Half::Binding, binding),
        ] {
            let sink = GuardSink {
                guard: &guard,
                half,
            };
            sink.listing();
            for name in ADMISSION_POLICIES {
                sink.applied(make(name));
            }
            sink.listed(1);
        }
        guard
    }

    fn missing(guard: &Guard) -> Option<Vec<&'static str>> {
        guard.missing.borrow().clone()
    }

    #[test]
    fn all_policies_and_all_bindings_must_stand_and_deny() {
        assert_eq!(
            missing(&Guard::default()),
            Some(ADMISSION_POLICIES.to_vec())
        );
        assert_eq!(missing(&all()), None);
        let selector = json!({"matchLabels": {"a": "b"}});
        let some = json!([{"resources": ["secrets"]}]);
        let weaker = [
            (Half::Policy, "failurePolicy", json!("Ignore")),
            (Half::Policy, "validations", json!([])),
            (
                Half::Policy,
                "matchConditions",
                json!([{"name": "who"}, {"name": "never", "expression": "false"}]),
            ),
            (
                Half::Policy,
                "matchConstraints/namespaceSelector",
                selector.clone(),
            ),
            (Half::Policy, "matchConstraints/objectSelector", selector),
            (Half::Policy, "matchConstraints/excludeResourceRules", some),
            (Half::Binding, "validationActions", json!(["Audit"])),
            (Half::Binding, "policyName", json!("other")),
            (Half::Binding, "matchResources", json!({})),
        ];
        for name in ADMISSION_POLICIES {
            for (half, field, value) in &weaker {
                let kind = match half {
                    Half::Policy => "ValidatingAdmissionPolicy",
                    Half::Binding => "ValidatingAdmissionPolicyBinding",
                };
                let mut weak = shipped(kind, name);
                let (parent, last) = field.rsplit_once('/').unwrap_or(("", field));
                let parent = match parent {
                    "" => &mut weak["spec"],
                    parent => &mut weak["spec"][parent],
                };
                parent[last] = value.clone();
                let guard = all();
                let sink = GuardSink {
                    guard: &guard,
                    half: *half,
                };
                sink.applied(Object::from_value(weak).unwrap());
                assert_eq!(missing(&guard), Some(vec![name]), "{field}");
            }
        }
    }

    #[test]
    fn what_is_deleted_or_no_longer_listed_is_missing() {
        let guard = all();
        let sink = GuardSink {
            guard: &guard,
            half: Half::Binding,
        };
        sink.deleted(binding("sublet-syncer-pods"));
        assert_eq!(missing(&guard), Some(vec!["sublet-syncer-pods"]));
        sink.applied(binding("sublet-syncer-pods"));
        assert_eq!(missing(&guard), None);
        sink.listing();
        sink.listed(2);
        assert_eq!(missing(&guard), Some(ADMISSION_POLICIES.to_vec()));
    }
}
