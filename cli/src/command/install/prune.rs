//! Removes admission policies that an earlier version put in and this one doesn't know any more.
//!
//! What is left of them would go on refusing by rules of the past. They are known by their label, and by who applied them:
//! a policy of an admin's own stays whatever its labels say, and so does what another tool applied, which removes it itself.

use super::apply;
use crate::discovery::Kinds;
use anyhow::Result;
use kube::{
    Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, Preconditions},
};

/// Label on all policies of Sublet.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "sublet");
/// Their API.
const ADMISSION: &str = "admissionregistration.k8s.io/v1";
/// A binding goes before its policy, as nothing may be bound to a policy that isn't there.
const KINDS: [&str; 2] = [
    "ValidatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
];

/// Deletes what isn't among the objects that were just applied, all of it where none were, and returns what that was.
pub(crate) async fn policies(client: &Client, applied: &[DynamicObject]) -> Result<Vec<String>> {
    let kinds = Kinds::load(client).await?;
    let mut removed = vec![];
    for name in KINDS {
        let Some(kind) = kinds.exact(ADMISSION, name) else {
            continue;
        };
        let api = kind.api(client, None);
        let labelled = ListParams::default().labels(&format!("{}={}", PART_OF.0, PART_OF.1));
        for policy in api.list(&labelled).await?.items {
            if !is_left_over(name, &policy.metadata, applied) {
                continue;
            }
            let found = DeleteParams::default().preconditions(Preconditions {
                uid: policy.metadata.uid.clone(),
                resource_version: None,
            });
            match api.delete(&policy.name_any(), &found).await {
                Ok(_) => removed.push(format!("{name} {}", policy.name_any())),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(err) => return Err(err.into()),
            }
        }
    }
    Ok(removed)
}

/// Whether a policy was put in by an earlier `sublet install` and isn't among what was just applied.
fn is_left_over(kind: &str, policy: &ObjectMeta, applied: &[DynamicObject]) -> bool {
    let is_ours = apply::own(policy).next().is_some();
    let is_known = applied.iter().any(|object| {
        let types = object.types.as_ref();
        types.is_some_and(|types| types.kind == kind) && object.metadata.name == policy.name
    });
    is_ours && !is_known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use serde_json::json;

    fn policy(name: &str, manager: &str, operation: &str) -> ObjectMeta {
        serde_json::from_value(json!({
            "name": name, "managedFields": [{"manager": manager, "operation": operation}],
        }))
        .unwrap()
    }

    #[test]
    fn policies_of_an_earlier_version_go_and_all_others_stay() {
        let applied = manifest::daemons().unwrap();
        let left_over = |kind: &str, name: &str, manager: &str, operation: &str| {
            is_left_over(kind, &policy(name, manager, operation), &applied)
        };
        for kind in KINDS {
            assert!(
                left_over(kind, "sublet-manager", "sublet", "Apply"),
                "{kind}"
            );
            assert!(
                !left_over(kind, "sublet-daemons", "sublet", "Apply"),
                "{kind}"
            );
            assert!(
                !left_over(kind, "an-admins-own", "kubectl", "Apply"),
                "{kind}"
            );
            assert!(
                !left_over(kind, "an-admins-own", "sublet", "Update"),
                "{kind}"
            );
        }
    }

    /// Else a later version couldn't find it.
    #[test]
    fn every_built_in_policy_carries_the_label() {
        let mut policies = 0;
        for object in manifest::daemons().unwrap() {
            let kind = object.types.clone().unwrap_or_default().kind;
            if KINDS.contains(&kind.as_str()) {
                policies += 1;
                assert_eq!(
                    object.labels().get(PART_OF.0).map(String::as_str),
                    Some(PART_OF.1)
                );
            }
        }
        assert!(policies > 8);
    }
}
