//! Whether the admission policies that hold Sublet's daemons stand and deny.

use super::{Check, checks::Outcome};
use crate::cluster::Cluster;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::Api;

/// Looks at every policy and its binding.
pub(super) async fn check(cluster: &Cluster) -> Outcome {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(cluster.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.client.clone());
    let mut checks = vec![];
    for name in api::ADMISSION_POLICIES {
        let policy = policies.get_opt(name).await;
        let policy = policy.map_err(|err| ("admission", err))?;
        let binding = bindings.get_opt(name).await;
        let binding = binding.map_err(|err| ("admission", err))?;
        if let Some(text) = fault(name, policy.as_ref(), binding.as_ref()) {
            let program = cluster.program.as_str();
            let advice = format!("run `{program} install`; until then the syncer writes nothing");
            checks.push(Check::fail("admission", text, advice));
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(
            "admission",
            "all policies that hold Sublet's daemons stand",
        ));
    }
    Ok(checks)
}

fn fault(
    name: &str,
    policy: Option<&ValidatingAdmissionPolicy>,
    binding: Option<&ValidatingAdmissionPolicyBinding>,
) -> Option<String> {
    let Some(policy) = policy else {
        return Some(format!("the ValidatingAdmissionPolicy {name} isn't there"));
    };
    let Some(binding) = binding else {
        return Some(format!(
            "the ValidatingAdmissionPolicyBinding {name} isn't there"
        ));
    };
    let closes = policy.spec.as_ref().is_some_and(|spec| {
        let rules = spec.validations.as_deref().unwrap_or_default();
        spec.failure_policy.as_deref() == Some("Fail") && !rules.is_empty()
    });
    let spec = &binding.spec;
    let mut actions = spec.validation_actions.iter();
    let denies = spec.match_resources.is_none() && actions.any(|action| action == "Deny");
    (!closes || !denies).then(|| {
        format!(
            "the ValidatingAdmissionPolicy {name} was changed and doesn't deny all that it should"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_or_weaker_is_a_fault() {
        let policy = |failure: &str| -> ValidatingAdmissionPolicy {
            let spec = json!({"failurePolicy": failure, "validations": [{"expression": "true"}]});
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
        };
        let binding = |action: &str| -> ValidatingAdmissionPolicyBinding {
            let spec = json!({"policyName": "p", "validationActions": [action]});
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
        };
        let (fail, deny) = (policy("Fail"), binding("Deny"));
        assert_eq!(fault("p", Some(&fail), Some(&deny)), None);
        for (policy, binding) in [
            (None, Some(&deny)),
            (Some(&fail), None),
            (Some(&policy("Ignore")), Some(&deny)),
            (Some(&fail), Some(&binding("Audit"))),
        ] {
            assert!(fault("p", policy, binding).is_some_and(|text| text.contains("p")));
        }
    }
}
