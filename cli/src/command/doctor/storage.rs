//! Whether what tenants delete of their storage goes.

use super::{Check, checks::Outcome};
use crate::cluster::Cluster;
use api::{ControlPlaneClass, keys};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, ResourceExt, api::ListParams};

const SUBJECT: &str = "storage";

/// Looks for storage classes that tenants are offered and that keep volumes whose claims are gone.
pub(super) async fn check(cluster: &Cluster) -> Outcome {
    let storage: Api<StorageClass> = Api::all(cluster.client.clone());
    let classes: Api<ControlPlaneClass> = Api::all(cluster.client.clone());
    let all = ListParams::default();
    let storage = storage.list(&all).await.map_err(|err| (SUBJECT, err))?;
    let classes = classes.list(&all).await.map_err(|err| (SUBJECT, err))?;
    Ok(keeping(&storage.items, &classes.items))
}

fn keeping(storage: &[StorageClass], classes: &[ControlPlaneClass]) -> Vec<Check> {
    let keeps = |class: &&StorageClass| class.reclaim_policy.as_deref() == Some("Retain");
    let is_offered = |class: &&StorageClass| {
        let name = class.name_any();
        let is_labelled = class.labels().get(keys::PUBLISHED).map(String::as_str) == Some("true");
        let mut offers = classes.iter().flat_map(|class| &class.spec.offers);
        is_labelled
            || offers.any(|offer| {
                offer.resource == "storageclasses.storage.k8s.io" && offer.names.contains(&name)
            })
    };
    let kept = storage.iter().filter(keeps).filter(is_offered);
    let told = kept.map(|class| {
        Check::warn(
            SUBJECT,
            format!(
                "StorageClass {} keeps volumes that tenants delete, with their data, and no quota counts them",
                class.name_any()
            ),
            "offer one with reclaimPolicy Delete instead, or delete released volumes yourself",
        )
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn t20_an_offered_class_that_keeps_volumes_is_told() {
        let storage = |name: &str, policy: &str, label: &str| -> StorageClass {
            serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {keys::PUBLISHED: label}},
                "provisioner": "example.com/disk", "reclaimPolicy": policy,
            }))
            .unwrap()
        };
        let class: ControlPlaneClass = serde_json::from_value(json!({
            "metadata": {"name": "gold"},
            "spec": {"versions": [], "offers": [{"resource": "storageclasses.storage.k8s.io", "names": ["named"]}]},
        }))
        .unwrap();
        let told = keeping(
            &[
                storage("labelled", "Retain", "true"),
                storage("named", "Retain", ""),
                storage("hidden", "Retain", "false"),
                storage("fast", "Delete", "true"),
            ],
            &[class],
        );
        let names: Vec<&str> = told
            .iter()
            .filter_map(|check| check.text.split(' ').nth(1))
            .collect();
        assert_eq!(names, ["labelled", "named"]);
    }
}
