//! Whether nodes can be emptied of tenants' pods.

use super::{Check, checks::Outcome};
use crate::{cluster::Cluster, paging};
use api::keys;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Api, ResourceExt, api::ListParams};

const SUBJECT: &str = "drain";

/// Looks for budgets of tenants that permit no eviction though all of their pods are well: a drain waits for them forever.
pub(super) async fn check(cluster: &Cluster) -> Outcome {
    let api: Api<PodDisruptionBudget> = Api::all(cluster.client.clone());
    let of_tenants = ListParams::default().labels(keys::TENANT);
    let budgets = paging::all(&api, &of_tenants).await;
    let budgets = budgets.map_err(|err| (SUBJECT, err))?;
    Ok(budgets.iter().filter_map(holding).collect())
}

fn holding(budget: &PodDisruptionBudget) -> Option<Check> {
    let status = budget.status.as_ref()?;
    let expected = status.expected_pods.unwrap_or_default();
    let is_full = expected > 0 && status.current_healthy.unwrap_or_default() >= expected;
    (is_full && status.disruptions_allowed.unwrap_or_default() == 0).then(|| {
        Check::warn(
            SUBJECT,
            format!(
                "PodDisruptionBudget {}/{} lets none of its {expected} pods go",
                budget.namespace().unwrap_or_default(),
                budget.name_any(),
            ),
            "before a node is drained ask whose it is, or delete its pods yourself",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_budget_that_lets_no_well_pod_go_is_told() {
        let told = |expected: i32, healthy: i32, allowed: i32| {
            let budget = serde_json::from_value(json!({
                "metadata": {"name": "all", "namespace": "s"},
                "status": {
                    "expectedPods": expected, "currentHealthy": healthy, "desiredHealthy": expected,
                    "disruptionsAllowed": allowed,
                },
            }));
            holding(&budget.unwrap()).map(|check| check.text)
        };
        assert_eq!(
            told(3, 3, 0).as_deref(),
            Some("PodDisruptionBudget s/all lets none of its 3 pods go")
        );
        assert_eq!(told(3, 3, 1), None);
        // Once the third is well it may go again.
        assert_eq!(told(3, 2, 0), None);
        assert_eq!(told(0, 0, 0), None);
    }
}
