//! Whether tenants' etcds have storage, and whether what tenants delete of theirs goes.

use super::{Check, Level, checks::Outcome};
use crate::{cluster::Cluster, helm::Lines, tenant};
use api::{ControlPlaneClass, VirtualControlPlane, keys};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, ResourceExt, api::ListParams};
use tenancy::{kind, offer::Offers};

const SUBJECT: &str = "storage";

/// What StorageClasses are called in what a class offers.
const RESOURCE: &str = "storageclasses.storage.k8s.io";

/// What makes a StorageClass the one of claims that name none: either annotation, and Kubernetes still honours the older.
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// Looks for classes whose etcds have no storage, for storage classes that tenants are offered and that keep volumes whose
/// claims are gone, and for tenants' defaults that these aren't offered.
pub(super) async fn check(cluster: &Cluster, lines: &Lines) -> Outcome {
    let storage: Api<StorageClass> = Api::all(cluster.client.clone());
    let classes: Api<ControlPlaneClass> = Api::all(cluster.client.clone());
    let all = ListParams::default();
    let storage = storage.list(&all).await.map_err(|err| (SUBJECT, err))?;
    let classes = classes.list(&all).await.map_err(|err| (SUBJECT, err))?;
    let tenants = tenant::all(cluster).await.map_err(|err| (SUBJECT, err))?;
    let mut checks = lacking(&storage.items, &classes.items, &lines.ephemeral_etcd);
    checks.extend(keeping(&storage.items, &classes.items));
    checks.extend(unoffered(&storage.items, &classes.items, &tenants));
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

/// StorageClasses that keep volumes: those that tenants have, and those that are offered in vain.
fn keeping(storage: &[StorageClass], classes: &[ControlPlaneClass]) -> Vec<Check> {
    let kept = storage.iter().filter(|class| keeps(class));
    let told = kept.flat_map(|class| [had(class, classes), withheld(class, classes)]);
    told.flatten().collect()
}

/// That a StorageClass keeps volumes which tenants delete, if tenants have it.
fn had(storage: &StorageClass, classes: &[ControlPlaneClass]) -> Option<Check> {
    let mut classes = classes.iter();
    let is_had = classes.any(|class| is_offered(storage, &offers(class, None)));
    is_had.then(|| {
        Check::warn(
            SUBJECT,
            format!(
                "StorageClass {} keeps volumes that tenants delete, with their data, and no quota counts them",
                storage.name_any()
            ),
            "offer one with reclaimPolicy Delete instead, or delete released volumes yourself",
        )
    })
}

/// That a StorageClass is offered in vain, since it keeps volumes: by a class that names it, or by its label alone.
fn withheld(storage: &StorageClass, classes: &[ControlPlaneClass]) -> Option<Check> {
    let name = storage.name_any();
    let has = |class: &&ControlPlaneClass| is_offered(storage, &offers(class, None));
    let is_named = |class: &&ControlPlaneClass| {
        let mut offers = class.spec.offers.iter();
        offers.any(|offer| offer.resource == RESOURCE && offer.names.contains(&name))
    };
    let in_vain = classes
        .iter()
        .filter(|class| is_named(class) && !has(class));
    let in_vain: Vec<String> = in_vain.map(ResourceExt::name_any).collect();
    let whose = match in_vain.as_slice() {
        [] if is_labelled(storage) && !classes.iter().any(|class| has(&class)) => String::new(),
        [] => return None,
        names => format!(" of class {}", names.join(", ")),
    };
    Some(Check::warn(
        SUBJECT,
        format!(
            "StorageClass {name} is offered and keeps volumes (reclaimPolicy Retain), so no tenant{whose} is shown it"
        ),
        "offer one with reclaimPolicy Delete, or set storage.retain: Allowed in the class",
    ))
}

/// Defaults that were chosen for tenants which aren't offered them: claims that name no StorageClass are refused there.
fn unoffered(
    storage: &[StorageClass],
    classes: &[ControlPlaneClass],
    tenants: &[VirtualControlPlane],
) -> Vec<Check> {
    let lacks = |offers: &Offers| {
        let default = offers.storage.default.clone()?;
        let mut there = storage.iter().filter(|class| class.name_any() == default);
        (!there.any(|class| is_offered(class, offers))).then_some(default)
    };
    let told = |whose: &str, default: &str, advice: &str| {
        Check::warn(
            SUBJECT,
            format!(
                "StorageClass {default} is to be the default of {whose}, and isn't offered there: \
                 claims that name none are refused"
            ),
            advice,
        )
    };
    let of_classes = classes.iter().filter_map(|class| {
        let default = lacks(&offers(class, None))?;
        let whose = format!("the tenants of class {}", class.name_any());
        Some(told(
            &whose,
            &default,
            "offer it, or name another in storage.default of the class",
        ))
    });
    let of_tenants = tenants.iter().filter_map(|vcp| {
        let mut named = classes.iter();
        let class = named.find(|class| class.name_any() == vcp.spec.class_name)?;
        let default = lacks(&offers(class, Some(vcp)))?;
        // What is wrong with the class is told once.
        if lacks(&offers(class, None)).as_ref() == Some(&default) {
            return None;
        }
        let namespace = vcp.namespace().unwrap_or_default();
        let whose = format!("VirtualControlPlane {namespace}/{}", vcp.name_any());
        Some(told(
            &whose,
            &default,
            "offer it, or name another in its policy.storage.default",
        ))
    });
    of_classes.chain(of_tenants).collect()
}

/// What is offered to the tenants of a class, or to one of them.
fn offers(class: &ControlPlaneClass, vcp: Option<&VirtualControlPlane>) -> Offers {
    let own = vcp.map(|vcp| vcp.spec.policy.storage.clone());
    Offers {
        class: class.spec.offers.clone(),
        only: vcp
            .map(|vcp| vcp.spec.sync.from_super.clone())
            .unwrap_or_default(),
        storage: class.spec.storage.narrowed(&own.unwrap_or_default()),
        ..Offers::default()
    }
}

fn is_offered(class: &StorageClass, offers: &Offers) -> bool {
    let resource = kind::rule(kind::index("StorageClass")).resource();
    offers.includes(resource, &class.name_any(), is_labelled(class))
        && !offers.keeps_back(keeps(class))
}

fn is_labelled(class: &StorageClass) -> bool {
    class.labels().get(keys::PUBLISHED).map(String::as_str) == Some("true")
}

fn keeps(class: &StorageClass) -> bool {
    class.reclaim_policy.as_deref() == Some("Retain")
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

    fn storage(name: &str, policy: &str, label: &str) -> StorageClass {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {keys::PUBLISHED: label}},
            "provisioner": "example.com/disk", "reclaimPolicy": policy,
        }))
        .unwrap()
    }

    /// A class that offers these StorageClasses beside those that are labelled.
    fn offering(name: &str, offered: &[&str], storage: serde_json::Value) -> ControlPlaneClass {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"versions": [], "storage": storage, "offers": [{"resource": RESOURCE, "names": offered}]},
        }))
        .unwrap()
    }

    fn kept() -> [StorageClass; 4] {
        [
            storage("labelled", "Retain", "true"),
            storage("named", "Retain", ""),
            storage("hidden", "Retain", "false"),
            storage("fast", "Delete", "true"),
        ]
    }

    #[test]
    fn t20_a_class_that_keeps_volumes_and_that_tenants_have_is_told() {
        let gold = offering("gold", &["named"], json!({"retain": "Allowed"}));
        let told = keeping(&kept(), &[gold]);
        assert_eq!(told.len(), 2, "{told:?}");
        for (check, name) in told.iter().zip(["labelled", "named"]) {
            let begin = format!("StorageClass {name} keeps volumes that tenants delete");
            assert!(check.text.starts_with(&begin), "{check:?}");
        }
    }

    #[test]
    fn t20_a_class_that_keeps_volumes_and_is_offered_in_vain_is_told() {
        let gold = || offering("gold", &["named"], json!({}));
        let told = keeping(&kept(), &[gold()]);
        let texts: Vec<&str> = told.iter().map(|check| check.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "StorageClass labelled is offered and keeps volumes (reclaimPolicy Retain), so no tenant is shown it",
                "StorageClass named is offered and keeps volumes (reclaimPolicy Retain), so no tenant of class gold is shown it",
            ]
        );
        // That of a label isn't told while another class allows it.
        let open = offering("open", &[], json!({"retain": "Allowed"}));
        let told = keeping(&[storage("labelled", "Retain", "true")], &[gold(), open]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].text.contains("no quota counts them"), "{told:?}");
    }

    #[test]
    fn a_default_that_tenants_are_not_offered_is_told() {
        let there = [
            storage("fast", "Delete", "true"),
            storage("kept", "Retain", "true"),
            storage("hidden", "Delete", ""),
        ];
        let vcp = |spec: serde_json::Value| -> VirtualControlPlane {
            serde_json::from_value(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": "a", "namespace": "n"}, "spec": spec,
            }))
            .unwrap()
        };
        let told = |default: serde_json::Value, own: serde_json::Value| {
            let class = offering("gold", &[], json!({"default": default}));
            let mut spec = own;
            spec["className"] = "gold".into();
            let told = unoffered(&there, &[class], &[vcp(spec)]);
            let words = told
                .iter()
                .map(|check| check.text.split(',').next().unwrap_or_default().to_owned());
            words.collect::<Vec<String>>()
        };
        let nothing = serde_json::Value::Null;
        assert!(told(nothing.clone(), json!({})).is_empty());
        assert!(told("fast".into(), json!({})).is_empty());
        for wrong in ["kept", "hidden", "gone"] {
            let of_class =
                format!("StorageClass {wrong} is to be the default of the tenants of class gold");
            assert_eq!(told(wrong.into(), json!({})), [of_class]);
            let own = json!({"policy": {"storage": {"default": wrong}}});
            let of_tenant =
                format!("StorageClass {wrong} is to be the default of VirtualControlPlane n/a");
            assert_eq!(told(nothing.clone(), own), [of_tenant]);
        }
        let narrowed = json!({"sync": {"fromSuper": [{"resource": RESOURCE, "names": []}]}});
        assert_eq!(
            told("fast".into(), narrowed),
            ["StorageClass fast is to be the default of VirtualControlPlane n/a"]
        );
    }
}
