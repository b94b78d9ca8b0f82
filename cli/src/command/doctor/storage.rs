//! Whether tenants' etcds have storage, and whether what tenants delete of theirs goes.

use super::{Check, Level, checks::Outcome};
use crate::{cluster::Cluster, helm::Lines};
use api::{ControlPlaneClass, keys};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, ResourceExt, api::ListParams};

const SUBJECT: &str = "storage";

/// What makes a StorageClass the one of claims that name none: either annotation, and Kubernetes still honours the older.
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// Looks for classes whose etcds have no storage, and for storage classes that tenants are offered and that keep volumes whose
/// claims are gone.
pub(super) async fn check(cluster: &Cluster, lines: &Lines) -> Outcome {
    let storage: Api<StorageClass> = Api::all(cluster.client.clone());
    let classes: Api<ControlPlaneClass> = Api::all(cluster.client.clone());
    let all = ListParams::default();
    let storage = storage.list(&all).await.map_err(|err| (SUBJECT, err))?;
    let classes = classes.list(&all).await.map_err(|err| (SUBJECT, err))?;
    let mut checks = lacking(&storage.items, &classes.items, &lines.ephemeral_etcd);
    checks.extend(keeping(&storage.items, &classes.items));
    Ok(checks)
}

/// Says on standard error what etcds lack, after an installation; what can't be asked is left to `doctor`.
pub(in crate::command) async fn tell(cluster: &Cluster) {
    let checks = check(cluster, &Lines::own(cluster)).await;
    let checks = checks.unwrap_or_default();
    let lacking = checks.iter().filter(|check| check.level == Level::Fail);
    for check in lacking {
        tell!("warning: {}: {}", check.text, check.advice);
    }
}

/// Classes whose etcds ask for the default StorageClass, where there is none: their claims stay pending.
fn lacking(storage: &[StorageClass], classes: &[ControlPlaneClass], install: &str) -> Vec<Check> {
    let says = |class: &StorageClass, key: &str| {
        class.annotations().get(key).map(String::as_str) == Some("true")
    };
    let is_default = |class: &StorageClass| DEFAULT.iter().any(|key| says(class, key));
    if storage.iter().any(is_default) {
        return vec![];
    }
    let asks = |class: &&ControlPlaneClass| {
        let etcd = &class.spec.etcd_storage;
        !etcd.ephemeral && etcd.storage_class_name.is_none()
    };
    let told = classes.iter().filter(asks).map(|class| {
        Check::fail(
            SUBJECT,
            format!(
                "class {} keeps etcd's data on the default StorageClass, and there is none",
                class.name_any()
            ),
            format!("name one in its etcdStorage.storageClassName, make one the default, or run `{install}`"),
        )
    });
    told.collect()
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
    fn a_class_whose_etcds_find_no_storage_is_told() {
        let storage = |key: &str, default: &str| -> StorageClass {
            serde_json::from_value(json!({
                "metadata": {"name": "disk", "annotations": {key: default}}, "provisioner": "example.com/disk",
            }))
            .unwrap()
        };
        let class = |name: &str, etcd: serde_json::Value| -> ControlPlaneClass {
            serde_json::from_value(json!({
                "metadata": {"name": name}, "spec": {"versions": [], "etcdStorage": etcd},
            }))
            .unwrap()
        };
        let classes = [
            class("default", json!({})),
            class("named", json!({"storageClassName": "disk"})),
            class("brief", json!({"ephemeral": true})),
        ];
        let none = storage(DEFAULT[0], "false");
        let told = lacking(&[none], &classes, "sublet install");
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].level, Level::Fail);
        assert!(told[0].text.starts_with("class default keeps"), "{told:?}");
        for key in DEFAULT {
            assert_eq!(lacking(&[storage(key, "true")], &classes, ""), [], "{key}");
        }
    }

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
