//! PodDisruptionBudgets: what must keep running goes down as a number.
//!
//! Budgets that are percentages, or that say how many may be missing, need the scale of the pods' controllers, which only
//! the tenant has. Its disruption controller finds it and writes it into the status, so what must keep running is worked out
//! of that and the status stays the tenant's: no field has two owners. What the status says of the number itself isn't read.
//!
//! A budget that lets none of its pods go holds up every drain of the platform, so it stays in the tenant, whose own API
//! server evicts by it. Not promised is that no other one ever does: as many pods as are to stay may be all that there are,
//! and a tenant may write a status itself. `sublet doctor` finds those, by what the super cluster counts.

use super::{Crossing, Down, LABEL_SELECTOR, NO_STATUS, plain};
use crate::{
    kind::{Cx, Refused, Resource, pod::fields::Rule},
    left_out,
    object::Object,
    selector,
};
use api::Budgets;
use serde_json::{Value, json};

/// Why a budget that lets no pod go stays in the tenant.
pub(in crate::kind) const BLOCKS: &str = "BudgetBlocksDrains";

/// The kind.
pub(in crate::kind) const BUDGET: Down = Down {
    step,
    shortfall: |budget, _| {
        let selector = budget.at("/spec/selector")?;
        left_out::of_selector(selector::keys(selector), "and protects none by one")
    },
    wish: &["/status/expectedPods"],
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

fn step(spec: &mut Value, budget: &Object, cx: &Cx<'_>) -> Result<Crossing, Refused> {
    if let Some(selects) = spec.get_mut("selector") {
        selector::carry(selects);
    }
    let expected = expected(budget);
    if cx.rules.budgets == Budgets::Yielding
        && let Some(field) = blocking(budget, expected)
    {
        let message = format!(
            "{field} lets none of its pods go, so a node of the platform that runs one could never be drained: it holds in \
             your control plane alone. Write maxUnavailable: 1, or a minAvailable below the number of pods; or ask the \
             platform's admins for budgets that block (budgets of your ControlPlaneClass)"
        );
        return Err(Refused::new(BLOCKS, message));
    }
    let is_share = budget.at("/spec/maxUnavailable").is_some();
    if !is_share && spec.get("minAvailable").is_some_and(Value::is_number) {
        return Ok(Crossing::Now);
    }
    let Some(desired) = expected.and_then(|expected| desired(budget, expected)) else {
        return Ok(Crossing::Later);
    };
    spec["minAvailable"] = json!(desired);
    Ok(Crossing::Now)
}

/// How many pods the tenant's disruption controller goes by: those that there are, or where it needs a scale those that there
/// are to be.
fn expected(budget: &Object) -> Option<i64> {
    let expected = budget.at("/status/expectedPods")?.as_i64()?;
    Some(expected.clamp(0, i32::MAX.into()))
}

/// How many of so many pods must keep running, as a disruption controller works it out.
fn desired(budget: &Object, expected: i64) -> Option<i64> {
    if let Some(missing) = budget.at("/spec/maxUnavailable") {
        return Some((expected - amount(missing, expected)?).max(0));
    }
    match budget.at("/spec/minAvailable") {
        Some(least) => amount(least, expected),
        None => Some(0),
    }
}

/// The field by which a budget lets none of its pods go.
fn blocking(budget: &Object, expected: Option<i64>) -> Option<String> {
    if let Some(missing) = budget.at("/spec/maxUnavailable") {
        return (amount(missing, 100) == Some(0)).then(|| format!("maxUnavailable: {missing}"));
    }
    let least = budget.at("/spec/minAvailable")?;
    let expected = expected.filter(|expected| *expected > 0);
    let blocks = match least.as_i64() {
        // Of a number the pods count that there are, of which one that is evicted is missing for a moment: a budget that is
        // taken away then would let the next one go as well.
        Some(least) => expected.is_some_and(|expected| least > expected),
        None => {
            amount(least, 100) == Some(100)
                || expected.is_some_and(|expected| amount(least, expected) == Some(expected))
        }
    };
    blocks.then(|| format!("minAvailable: {least}"))
}

/// A number, or a share of `all`, rounded up.
fn amount(written: &Value, all: i64) -> Option<i64> {
    if let Some(number) = written.as_i64() {
        return Some(number.max(0));
    }
    let percent: i64 = written.as_str()?.strip_suffix('%')?.parse().ok()?;
    Some((all * percent.clamp(0, 100) + 99) / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kind::{
            Kind, takes_away,
            testing::{Answers, object, tenant},
            translate,
        },
        meta,
    };
    use proptest::prelude::*;

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
        for share in [
            json!({"maxUnavailable": 2}),
            json!({"maxUnavailable": "30%"}),
            json!({"minAvailable": "50%"}),
        ] {
            let mut spec = share;
            spec["selector"] = selector.clone();
            let unknown = budget(spec.clone(), json!({}));
            // What the tenant says of the number itself counts for nothing.
            let known = budget(spec, json!({"desiredHealthy": 900, "expectedPods": 5}));
            assert_eq!(down(&unknown), None, "not before it is worked out");
            assert_eq!(
                down(&known),
                Some(json!({"minAvailable": 3, "selector": selector}))
            );
            assert_ne!(BUDGET.intent(&unknown), BUDGET.intent(&known));
        }
    }

    fn judged(spec: Value, expected: u32, budgets: Budgets) -> Result<Option<Object>, Refused> {
        let budget = budget(spec, json!({"expectedPods": expected, "desiredHealthy": 0}));
        let mut rules = tenant();
        rules.budgets = budgets;
        let cx = Cx {
            rules: &rules,
            facts: &Answers::default(),
        };
        translate(&BUDGET, &budget, &cx)
    }

    /// T40: whoever drains a node waits for it.
    #[test]
    fn t40_a_budget_that_lets_no_pod_go_stays_in_the_tenant_unless_the_class_says_otherwise() {
        for (spec, expected) in [
            (json!({"maxUnavailable": 0}), 0),
            (json!({"maxUnavailable": 0}), 900),
            (json!({"maxUnavailable": "0%"}), 3),
            (json!({"minAvailable": "100%"}), 0),
            (json!({"minAvailable": "100%"}), 3),
            (json!({"minAvailable": "90%"}), 3),
            (json!({"minAvailable": "1%"}), 1),
            (json!({"minAvailable": 1000}), 3),
        ] {
            let refused = judged(spec.clone(), expected, Budgets::Yielding).unwrap_err();
            assert_eq!(refused.reason, BLOCKS, "{spec}");
            assert!(takes_away(&BUDGET, &refused), "what was there goes");
            let (field, value) = spec.as_object().and_then(|map| map.iter().next()).unwrap();
            let says = format!("{field}: {value} lets none");
            assert!(refused.message.starts_with(&says), "{}", refused.message);
            let allowed = judged(spec.clone(), expected, Budgets::Blocking).unwrap();
            assert!(allowed.is_some(), "{spec}");
        }
    }

    #[test]
    fn a_budget_that_lets_a_pod_go_or_has_none_yet_crosses() {
        for (spec, expected, least) in [
            (json!({"maxUnavailable": 1}), 1, 0),
            (json!({"maxUnavailable": "1%"}), 3, 2),
            (json!({"maxUnavailable": 5}), 3, 0),
            (json!({"minAvailable": "50%"}), 3, 2),
            (json!({"minAvailable": "90%"}), 0, 0),
            (json!({"minAvailable": 2}), 0, 2),
            (json!({"minAvailable": 2}), 3, 2),
            // One of the three is just being replaced.
            (json!({"minAvailable": 2}), 2, 2),
            (json!({}), 3, 0),
        ] {
            let twin = judged(spec.clone(), expected, Budgets::Yielding).unwrap();
            let twin = twin.unwrap();
            assert_eq!(
                twin.at("/spec"),
                Some(&json!({"minAvailable": least})),
                "{spec}"
            );
        }
    }

    proptest! {
        #[test]
        fn t40_of_a_share_that_crosses_a_pod_may_always_go(
            percent in 0..=100u8, may_miss in any::<bool>(), expected in 1..2000u32,
        ) {
            let field = if may_miss { "maxUnavailable" } else { "minAvailable" };
            let share = json!({field: format!("{percent}%")});
            if let Ok(twin) = judged(share, expected, Budgets::Yielding) {
                let least = twin.and_then(|twin| twin.at("/spec/minAvailable")?.as_u64());
                prop_assert!(least.is_some_and(|least| least < u64::from(expected)), "{least:?} of {expected}");
            }
        }
    }

    #[test]
    fn what_no_api_server_takes_as_an_amount_is_none() {
        for wrong in [json!("2"), json!("x%"), json!("%"), json!(true)] {
            assert_eq!(amount(&wrong, 3), None, "{wrong}");
        }
        assert_eq!(amount(&json!("900%"), 3), Some(3));
        assert_eq!(amount(&json!(-1), 3), Some(0));
        let much = json!({"maxUnavailable": i64::MAX});
        assert_eq!(desired(&budget(much, json!({})), 3), Some(0));
    }
}
