//! PodDisruptionBudgets: what must keep running goes down as a number.
//!
//! Budgets that are percentages, or that say how many may be missing, need the scale of the pods' controllers, which only
//! the tenant has. Its disruption controller works the number out and writes it into the status, so that number goes
//! down and the status stays the tenant's: no field has two owners.

use super::{Crossing, Down, LABEL_SELECTOR, NO_STATUS, plain};
use crate::{
    kind::{Cx, Refused, Resource, pod::fields::Rule},
    left_out,
    object::Object,
    selector,
};
use serde_json::{Value, json};

/// The kind.
pub(in crate::kind) const BUDGET: Down = Down {
    step,
    shortfall: |budget, _| {
        let selector = budget.at("/spec/selector")?;
        left_out::of_selector(selector::keys(selector), "and protects none by one")
    },
    wish: &["/status/desiredHealthy"],
    ..plain(
        &Resource {
            group: "policy",
            version: "v1",
            kind: "PodDisruptionBudget",
            plural: "poddisruptionbudgets",
            namespaced: true,
        },
        &[
            ("maxUnavailable", Rule::Omit("becomes minAvailable")),
            ("minAvailable", Rule::Pass),
            ("selector", Rule::Object(LABEL_SELECTOR)),
            ("unhealthyPodEvictionPolicy", Rule::Pass),
        ],
        NO_STATUS,
    )
};

fn step(spec: &mut Value, budget: &Object, _: &Cx<'_>) -> Result<Crossing, Refused> {
    if let Some(selects) = spec.get_mut("selector") {
        selector::carry(selects);
    }
    if spec.get("minAvailable").is_some_and(Value::is_number) {
        return Ok(Crossing::Now);
    }
    let Some(desired) = budget.at("/status/desiredHealthy").and_then(Value::as_i64) else {
        return Ok(Crossing::Later);
    };
    spec["minAvailable"] = json!(desired);
    Ok(Crossing::Now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kind::{
            Kind,
            testing::{Answers, object, tenant},
            translate,
        },
        meta,
    };

    fn budget(spec: Value, status: Value) -> Object {
        object(json!({
            "metadata": {"name": "b", "namespace": "default", "uid": "u"}, "spec": spec, "status": status,
        }))
    }

    fn down(budget: &Object) -> Option<Value> {
        let cx = Cx {
            rules: &tenant(),
            facts: &Answers::default(),
        };
        let twin = translate(&BUDGET, budget, &cx).unwrap()?;
        twin.at("/spec").cloned()
    }

    #[test]
    fn it_protects_pods_by_the_labels_that_super_pods_have() {
        let key = "jobset.sigs.k8s.io/jobset-name";
        let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {key: "j"}}});
        let carried = meta::pod_label(key).unwrap();
        assert_eq!(
            down(&budget(spec, json!({}))).unwrap()["selector"],
            json!({"matchLabels": {carried: "j"}})
        );
    }

    #[test]
    fn a_number_crosses_as_it_is_and_a_share_as_the_number_that_the_tenant_works_out() {
        let selector = json!({"matchLabels": {"app": "web"}});
        let fixed = json!({"minAvailable": 2, "selector": selector, "unhealthyPodEvictionPolicy": "AlwaysAllow"});
        assert_eq!(down(&budget(fixed.clone(), json!({}))), Some(fixed));
        for share in [json!({"maxUnavailable": 1}), json!({"minAvailable": "50%"})] {
            let mut spec = share;
            spec["selector"] = selector.clone();
            let unknown = budget(spec.clone(), json!({}));
            let known = budget(spec, json!({"desiredHealthy": 3, "currentHealthy": 4}));
            assert_eq!(down(&unknown), None, "not before it is worked out");
            assert_eq!(
                down(&known),
                Some(json!({"minAvailable": 3, "selector": selector}))
            );
            assert_ne!(BUDGET.intent(&unknown), BUDGET.intent(&known));
        }
    }
}
