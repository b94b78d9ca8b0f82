//! What keeps a ConfigMap or Secret in the super cluster: only what something refers to crosses, unless all are asked for.

use super::{
    gather::{class, each},
    verdict::{Facts, Verdict, good},
};
use crate::{cluster::Cluster, discovery::Kind};
use anyhow::Result;
use api::{CustomResource, SyncObjects, VirtualControlPlane};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use tenancy::{
    kind::{self, KINDS},
    object::Object,
    to_super::Extent,
};

/// How many referrers are named.
const NAMED: usize = 5;

/// Why an object crosses, of a kind of which not all do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// All objects of the kind do.
    All,
    /// These objects of its namespace refer to it, as `KIND NAME`; none do if it is empty.
    By(Vec<String>),
}

impl Need {
    /// Whether nothing takes the object down.
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::By(referrers) if referrers.is_empty())
    }

    /// Those that refer to it, where that matters.
    pub(super) fn referrers(&self) -> Option<&[String]> {
        match self {
            Self::All => None,
            Self::By(referrers) => Some(referrers),
        }
    }

    /// The same in a line, or nothing.
    pub(super) fn line(&self) -> String {
        let all = self.referrers().unwrap_or_default();
        if all.is_empty() {
            return String::new();
        }
        let named = all[..all.len().min(NAMED)].join(", ");
        match all.len().saturating_sub(NAMED) {
            0 => format!("Referred to by: {named}\n"),
            more => format!("Referred to by: {named} and {more} more\n"),
        }
    }
}

/// Of an object that is on both sides and that nothing needs any more: its twin goes, or its deletion is held.
pub(super) fn outlived(facts: &Facts) -> Option<Verdict> {
    facts.need.as_ref().filter(|need| need.is_none())?;
    let text = "nothing of its namespace that crosses refers to it any more";
    let held = facts.held.as_ref().filter(|held| !held.holds_ends());
    Some(match held {
        Some(held) => facts.kept(
            "Nothing of its namespace that crosses refers to it any more, and its twin is kept",
            held,
        ),
        None => good(format!(
            "It is synced, but {text}: its twin goes in a while if that stays so."
        )),
    })
}

/// For ConfigMaps and Secrets: what of the namespace that crosses refers to it.
pub(super) async fn of(
    cluster: &Cluster,
    client: &Client,
    vcp: &VirtualControlPlane,
    kind: &Kind,
    (namespace, name): (&str, &str),
) -> Result<Option<Need>> {
    let wanted = kind.resource.kind.as_str();
    if !kind.resource.group.is_empty() || !matches!(wanted, "ConfigMap" | "Secret") {
        return Ok(None);
    }
    let class = class(cluster, vcp).await?;
    let class = class.map(|class| class.spec).unwrap_or_default();
    let extent = Extent::of(&class.to_super, &vcp.spec.sync.to_super);
    if extent.objects(kind::rule(kind::index(wanted)).resource()) == SyncObjects::All {
        return Ok(Some(Need::All));
    }
    let mut custom = class.custom_resources;
    custom.retain(|custom| vcp.spec.sync.custom_resources.contains(&custom.name));
    let mut referrers = vec![];
    for rule in referring(&custom) {
        let resource = rule.resource();
        let resource = ApiResource {
            group: resource.group.into(),
            version: resource.version.into(),
            api_version: resource.api_version(),
            kind: resource.kind.into(),
            plural: resource.plural.into(),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        each(&api, ListParams::default(), |object| {
            if refers(rule, &object, (wanted, name), &custom)? {
                referrers.push(format!("{} {}", resource.kind, object.name_any()));
            }
            Ok(())
        })
        .await?;
    }
    Ok(Some(Need::By(referrers)))
}

/// Whether an object refers to the one of that kind and name.
fn refers(
    rule: &dyn kind::Kind,
    object: &DynamicObject,
    (wanted, name): (&str, &str),
    custom: &[CustomResource],
) -> Result<bool> {
    let Ok(object) = Object::from_value(serde_json::to_value(object)?) else {
        return Ok(false);
    };
    let references = rule.references(&object, custom);
    Ok(references
        .iter()
        .any(|found| found.kind == wanted && found.name == name))
}

/// The kinds whose objects cross and may refer to ConfigMaps and Secrets, with those custom resources.
fn referring(custom: &[CustomResource]) -> impl Iterator<Item = &'static dyn kind::Kind> {
    let table = KINDS.iter().copied();
    let all = table.chain(custom.iter().filter_map(kind::intern).map(kind::rule));
    all.filter(|rule| rule.goes_down() && rule.may_refer(custom))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::explain::verdict::{
        self, Held,
        tests::{facts, twin},
    };
    use serde_json::json;

    #[test]
    fn whatever_crosses_and_may_refer_is_looked_at() {
        let custom: CustomResource = serde_json::from_value(json!({
            "name": "backups.a.example", "version": "v1", "kind": "Backup", "direction": "ToSuper",
            "references": [{"path": "spec.secretName", "kind": "Secret"}],
        }))
        .unwrap();
        let custom = [custom];
        let kinds: Vec<_> = referring(&custom)
            .map(|rule| rule.resource().kind)
            .collect();
        assert_eq!(kinds, ["Pod", "Ingress", "Gateway", "Backup"]);
        let refers_to = |kind: &str, spec: serde_json::Value| {
            let object = json!({"metadata": {"name": "b"}, "spec": spec});
            let object = serde_json::from_value(object).unwrap();
            let rule = referring(&custom).find(|rule| rule.resource().kind == kind);
            refers(rule.unwrap(), &object, ("Secret", "key"), &custom).unwrap()
        };
        assert!(refers_to("Backup", json!({"secretName": "key"})));
        assert!(!refers_to("Backup", json!({"secretName": "other"})));
        assert!(refers_to(
            "Ingress",
            json!({"tls": [{"secretName": "key"}]})
        ));
    }

    #[test]
    fn those_that_refer_to_it_are_named_and_the_many_counted() {
        let by = |count: usize| Need::By((0..count).map(|it| format!("Pod p{it}")).collect());
        assert_eq!(
            (Need::All.line(), by(0).line()),
            (String::new(), String::new())
        );
        assert_eq!(by(2).line(), "Referred to by: Pod p0, Pod p1\n");
        assert!(by(7).line().ends_with("Pod p4 and 2 more\n"));
        assert!(by(0).is_none() && !by(1).is_none() && !Need::All.is_none());
    }

    #[test]
    fn a_twin_that_nothing_needs_goes_unless_its_deletion_is_held() {
        let of = |need: Need, reason: Option<&str>| {
            let mut facts = facts(Some(twin("u1", None)), Some(twin("s1", Some(("t", "u1")))));
            facts.kind = "Secret".into();
            facts.need = Some(need);
            facts.held = reason.map(|reason| Held {
                reason: reason.into(),
                message: "30 of 40".into(),
            });
            verdict::of(&facts)
        };
        let nobody = || Need::By(vec![]);
        assert_eq!(of(Need::All, Some("BreakerOpen")).text, "It is synced.");
        for reason in [None, Some("UpwardBreakerOpen")] {
            let goes = of(nobody(), reason);
            assert!(
                goes.synced && goes.text.contains("its twin goes"),
                "{goes:?}"
            );
        }
        let kept = of(nobody(), Some("MarkRefused"));
        assert!(
            !kept.synced && kept.text.contains("(MarkRefused)"),
            "{kept:?}"
        );
        assert!(kept.advice.contains("sublet breaker show a"), "{kept:?}");
    }
}
