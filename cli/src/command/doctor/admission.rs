//! Whether what holds Sublet's daemons stands as this version has it: their admission policies, their rights, and their
//! share of the API server.
//!
//! A policy that is there and lets more pass, or a role that gives more, is as bad as none, so whole objects are compared
//! with those that are built in. What an API server adds to them by default is no difference. Another share than the
//! built-in one may be an admin's choice: that is told and no failure.

use super::{Check, checks::Outcome};
use crate::{cluster::Cluster, helm::Lines, manifest};
use api::{SYSTEM_NAMESPACE, TRUSTED_TENANTS};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

/// Kinds of the manifest that hold the daemons: what is looked at, and the fields that count.
const HELD_BY: [(&str, &str, &[&str]); 8] = [
    ("ValidatingAdmissionPolicy", ADMISSION, &["spec"]),
    ("ValidatingAdmissionPolicyBinding", ADMISSION, &["spec"]),
    ("ClusterRole", ROLES, &["rules"]),
    ("Role", ROLES, &["rules"]),
    ("ClusterRoleBinding", ROLES, &["roleRef", "subjects"]),
    ("RoleBinding", ROLES, &["roleRef", "subjects"]),
    ("PriorityLevelConfiguration", SHARE, &["spec"]),
    ("FlowSchema", SHARE, &["spec"]),
];

const ADMISSION: &str = "admission";
const ROLES: &str = "roles";
const SHARE: &str = "share";

/// Looks at every policy, binding and role.
pub(super) async fn check(cluster: &Cluster, lines: &Lines) -> Outcome {
    let wanted = manifest::daemons().unwrap_or_default();
    let install = format!("run `{}`", lines.install);
    let mut checks = vec![];
    for object in &wanted {
        let Some((kind, subject, fields)) = held_by(object) else {
            continue;
        };
        let live = find(cluster, object).await.map_err(|err| (subject, err))?;
        if let Some(fault) = fault(object, live.as_ref(), fields) {
            let object = format!("{kind} {}", object.name_any());
            checks.push(judge(subject, &object, fault, &install));
        }
    }
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let trusted = maps
        .get_opt(TRUSTED_TENANTS)
        .await
        .map_err(|err| (ADMISSION, err))?;
    if trusted.is_none() {
        let text = format!(
            "ConfigMap {TRUSTED_TENANTS} isn't there: the policies let no namespace and no pod of a tenant pass"
        );
        checks.push(Check::fail(ADMISSION, text, install));
    }
    for (subject, text) in [
        (ADMISSION, "all policies that hold Sublet's daemons stand"),
        (
            ROLES,
            "Sublet's daemons have the rights of this version and no others",
        ),
        (
            SHARE,
            "Sublet's daemons have their share of the API server's work",
        ),
    ] {
        if !checks.iter().any(|check| check.subject == subject) {
            checks.push(Check::ok(subject, text));
        }
    }
    Ok(checks)
}

/// How an object of the manifest is compared; `None` for one that holds nobody, or that an admin adds to.
fn held_by(
    object: &DynamicObject,
) -> Option<(&'static str, &'static str, &'static [&'static str])> {
    let kind = &object.types.as_ref()?.kind;
    let found = HELD_BY.iter().find(|(name, ..)| name == kind)?;
    object
        .data
        .get("aggregationRule")
        .is_none()
        .then_some(*found)
}

async fn find(
    cluster: &Cluster,
    object: &DynamicObject,
) -> Result<Option<DynamicObject>, kube::Error> {
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types
        .api_version
        .split_once('/')
        .unwrap_or(("", &types.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
    let client = cluster.client.clone();
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client, &namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    api.get_opt(&object.name_any()).await
}

/// How an object isn't as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Missing,
    Differs,
}

fn judge(subject: &'static str, object: &str, fault: Fault, install: &str) -> Check {
    let what = match fault {
        Fault::Missing => "isn't there",
        Fault::Differs => "isn't as this version has it",
    };
    let harm = match (subject, fault) {
        (SHARE, _) => ": Sublet and others may wait for each other",
        (_, Fault::Missing) => "",
        (_, Fault::Differs) => ", and may let pass what it should not",
    };
    let text = format!("the {object} {what}{harm}");
    match subject {
        SHARE => Check::warn(subject, text, format!("{install}, if that isn't meant")),
        ADMISSION => {
            let advice = format!("{install}; while one is missing the syncer writes nothing");
            Check::fail(subject, text, advice)
        }
        _ => Check::fail(subject, text, install),
    }
}

fn fault(wanted: &DynamicObject, live: Option<&DynamicObject>, fields: &[&str]) -> Option<Fault> {
    let Some(live) = live else {
        return Some(Fault::Missing);
    };
    let differs = fields
        .iter()
        .any(|field| !is_same(&wanted.data[field], &live.data[field]));
    differs.then_some(Fault::Differs)
}

/// Whether two values say the same; what the API server adds by default says nothing.
fn is_same(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            let is_there = |(key, value): (&String, &Value)| {
                is_same(value, live.get(key).unwrap_or(&Value::Null))
            };
            let mut added = live.iter().filter(|(key, _)| !wanted.contains_key(*key));
            wanted.iter().all(is_there) && added.all(|(_, value)| is_default(value))
        }
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() == live.len() && wanted.iter().zip(live).all(|(a, b)| is_same(a, b))
        }
        // Left out by an API server that has nothing to say.
        (wanted, Value::Null) => is_default(wanted),
        _ => wanted == live,
    }
}

/// What API servers write where nothing was said: no selector, all scopes, all versions that mean the same.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => matches!(&**text, "" | "*" | "Equivalent"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn built_in(kind: &str, name: &str) -> DynamicObject {
        let of_kind = |object: &DynamicObject| {
            object
                .types
                .as_ref()
                .is_some_and(|types| types.kind == kind)
                && object.name_any() == name
        };
        let mut all = manifest::daemons().unwrap();
        let at = all.iter().position(of_kind).unwrap();
        all.swap_remove(at)
    }

    fn told(wanted: &DynamicObject, change: impl FnOnce(&mut DynamicObject)) -> Option<Fault> {
        let mut live = wanted.clone();
        change(&mut live);
        let (_, _, fields) = held_by(wanted).unwrap();
        fault(wanted, Some(&live), fields)
    }

    #[test]
    fn what_is_missing_or_weaker_is_a_fault() {
        let policy = built_in("ValidatingAdmissionPolicy", "sublet-syncer-pods");
        assert_eq!(fault(&policy, None, &["spec"]), Some(Fault::Missing));
        assert_eq!(
            told(&policy, |live| {
                let constraints = &mut live.data["spec"]["matchConstraints"];
                constraints["matchPolicy"] = json!("Equivalent");
                constraints["objectSelector"] = json!({});
                constraints["resourceRules"][0]["scope"] = json!("*");
                live.metadata.uid = Some("u".into());
            }),
            None
        );
        type Change = fn(&mut Value);
        let weaker: [Change; 7] = [
            |spec| spec["failurePolicy"] = json!("Ignore"),
            |spec| spec["validations"][3]["expression"] = json!("true"),
            |spec| spec["validations"] = json!([]),
            |spec| {
                let never = json!({"name": "never", "expression": "false"});
                spec["matchConditions"].as_array_mut().unwrap().push(never);
            },
            |spec| {
                spec["matchConstraints"]["namespaceSelector"] = json!({"matchLabels": {"a": "b"}});
            },
            |spec| spec["matchConstraints"]["namespaceSelector"] = json!({}),
            |spec| {
                spec["matchConstraints"]["excludeResourceRules"] = json!([{"resources": ["pods"]}]);
            },
        ];
        for (number, change) in weaker.into_iter().enumerate() {
            let fault = told(&policy, |live| change(&mut live.data["spec"]));
            assert_eq!(fault, Some(Fault::Differs), "{number}");
        }
        let binding = built_in("ValidatingAdmissionPolicyBinding", "sublet-daemons");
        let audit = |live: &mut DynamicObject| {
            live.data["spec"]["validationActions"] = json!(["Audit"]);
        };
        assert!(told(&binding, audit).is_some());
    }

    #[test]
    fn rights_that_were_widened_are_a_fault_and_those_that_admins_add_are_not() {
        let role = built_in("ClusterRole", "sublet-syncer");
        assert_eq!(told(&role, |_| ()), None);
        let wider = |live: &mut DynamicObject| {
            let all = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]});
            live.data["rules"].as_array_mut().unwrap().push(all);
        };
        assert!(told(&role, wider).is_some());
        assert!(held_by(&built_in("ClusterRole", "sublet-syncer-custom")).is_none());
        let held = manifest::daemons().unwrap();
        let policies = held.iter().filter_map(held_by);
        let policies = policies.filter(|(kind, ..)| *kind == "ValidatingAdmissionPolicy");
        assert_eq!(policies.count(), api::ADMISSION_POLICIES.len());
    }

    #[test]
    fn another_share_of_the_api_server_is_told_and_no_failure() {
        let level = built_in("PriorityLevelConfiguration", "sublet");
        assert_eq!(told(&level, |_| ()), None);
        let more = |live: &mut DynamicObject| {
            live.data["spec"]["limited"]["nominalConcurrencyShares"] = json!(200);
        };
        assert_eq!(told(&level, more), Some(Fault::Differs));
        let schema = built_in("FlowSchema", "sublet-leases");
        let bulk = |live: &mut DynamicObject| {
            live.data["spec"]["priorityLevelConfiguration"]["name"] = json!("workload-low");
        };
        assert_eq!(told(&schema, bulk), Some(Fault::Differs));
        assert_eq!(
            judge(
                SHARE,
                "FlowSchema sublet",
                Fault::Differs,
                "run `sublet install`"
            ),
            Check::warn(
                SHARE,
                "the FlowSchema sublet isn't as this version has it: Sublet and others may wait for each other",
                "run `sublet install`, if that isn't meant"
            )
        );
        assert_eq!(
            judge(ROLES, "Role a", Fault::Missing, "run `sublet install`"),
            Check::fail(ROLES, "the Role a isn't there", "run `sublet install`")
        );
    }
}
