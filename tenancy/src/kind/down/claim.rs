//! PersistentVolumeClaims: the wish goes down, the binding comes up.
//!
//! Which volume a claim gets is the super cluster's to say. So a claim can't choose one by name or label, can't take its
//! data from another namespace, and needs a storage class that the tenant is offered (T20, T21). One that was bound is never
//! bound to another volume: the engine asks [`had_volume`] before it makes a claim in the super cluster.

use super::{Crossing, Down, plain, require_offered};
use crate::{
    kind::{Cx, Refused, Resource, pod::fields::Rule},
    object::Object,
};
use serde_json::Value;

/// Written by the super cluster's volume controller together with the volume's name.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// Phase of a claim whose volume is gone, as Kubernetes itself says it.
pub const LOST: &str = "Lost";

/// Whether a tenant's claim says that it has, or had, a volume: by the binding that came up, or by its phase.
pub fn had_volume(claim: &Object) -> bool {
    is_bound(claim) || matches!(claim.text("/status/phase"), Some("Bound" | LOST))
}

/// Whether the volume that the claim names is its own.
fn is_bound(claim: &Object) -> bool {
    names_volume(claim) && claim.annotation(BIND_COMPLETED).is_some()
}

fn names_volume(claim: &Object) -> bool {
    let name = claim.text("/spec/volumeName");
    name.is_some_and(|name| !name.is_empty())
}

/// The kind.
pub(in crate::kind) const CLAIM: Down = Down {
    step,
    upward,
    is_kept: true,
    filled: &[
        "dataSource",
        "dataSourceRef",
        "storageClassName",
        "volumeMode",
        "volumeName",
    ],
    given: &["volumeName"],
    annotations: &[
        BIND_COMPLETED,
        "pv.kubernetes.io/bound-by-controller",
        "volume.kubernetes.io/storage-provisioner",
        "volume.kubernetes.io/selected-node",
    ],
    brings: Some(("PersistentVolume", "/spec/volumeName")),
    ..plain(
        &Resource {
            group: "",
            version: "v1",
            kind: "PersistentVolumeClaim",
            plural: "persistentvolumeclaims",
            namespaced: true,
        },
        &[
            ("accessModes", Rule::Pass),
            ("dataSource", Rule::Object(SOURCE)),
            ("dataSourceRef", Rule::Object(SOURCE)),
            (
                "resources",
                Rule::Object(&[("limits", Rule::Pass), ("requests", Rule::Pass)]),
            ),
            (
                "selector",
                Rule::Refuse(
                    "VolumeSelector",
                    "volumes can't be chosen by label: name a storage class",
                ),
            ),
            ("storageClassName", Rule::Pass),
            (
                "volumeAttributesClassName",
                Rule::Refuse(
                    "VolumeAttributesClassNotOffered",
                    "the platform offers none: leave it out",
                ),
            ),
            ("volumeMode", Rule::Pass),
            ("volumeName", Rule::Omit("the super cluster binds")),
        ],
        &[
            ("accessModes", Rule::Pass),
            ("allocatedResourceStatuses", Rule::Pass),
            ("allocatedResources", Rule::Pass),
            ("capacity", Rule::Pass),
            ("conditions", Rule::Pass),
            ("phase", Rule::Pass),
        ],
    )
};

const SOURCE: crate::kind::pod::fields::Fields = &[
    (
        "apiGroup",
        Rule::Only(
            &["snapshot.storage.k8s.io"],
            "DataSourceRefused",
            "volumes come from a VolumeSnapshot or a PersistentVolumeClaim",
        ),
    ),
    (
        "kind",
        Rule::Only(
            &["PersistentVolumeClaim", "VolumeSnapshot"],
            "DataSourceRefused",
            "volumes come from a VolumeSnapshot or a PersistentVolumeClaim",
        ),
    ),
    ("name", Rule::Pass),
    (
        "namespace",
        Rule::Refuse(
            "DataSourceRefused",
            "data can't come from another namespace: leave it out",
        ),
    ),
];

fn step(spec: &mut Value, claim: &Object, cx: &Cx<'_>) -> Result<Crossing, Refused> {
    if names_volume(claim) && !had_volume(claim) {
        return Err(Refused::new(
            "VolumeNameSet",
            "spec.volumeName can't be chosen: leave it out and a volume is made by the storage class",
        ));
    }
    match spec.get("storageClassName").and_then(Value::as_str) {
        Some(class) if !class.is_empty() => {
            if cx.facts.is_kept_back(class) {
                return Err(Refused::new(
                    "StorageClassKeepsVolumes",
                    format!(
                        "spec.storageClassName names StorageClass {class:?}, which keeps volumes whose claims are deleted \
                         (reclaimPolicy Retain), and the platform offers none that does: name another, see which there are"
                    ),
                ));
            }
            require_offered(
                "StorageClass",
                "spec.storageClassName",
                class,
                "StorageClassNotOffered",
                cx,
            )?;
        }
        _ => return Err(Refused::new("NoStorageClass", unnamed(cx))),
    }
    Ok(Crossing::Now)
}

/// Why a claim without a storage class has none, and what to do.
fn unnamed(cx: &Cx<'_>) -> String {
    let default = cx.rules.offers.storage.default.as_deref();
    match default.filter(|default| !cx.facts.is_offered("StorageClass", default)) {
        Some(default) => format!(
            "the claim names no storage class, and {default:?}, which was to be the default, isn't offered: make a claim that \
             names one of those that there are"
        ),
        None => "the claim names no storage class, and volumes made by hand don't cross: make a claim that names one"
            .to_owned(),
    }
}

/// A super claim that names a volume and isn't bound is one by which an admin gives a lost volume back: it is lost until
/// that is done.
fn upward(status: &mut Value, super_claim: &Object, _: &Cx<'_>) {
    if names_volume(super_claim) && !is_bound(super_claim) {
        status["phase"] = LOST.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kind::{
            Kind, TenantView,
            testing::{Answers, object, tenant},
            translate,
        },
        meta,
        plan::{Plan, plan},
    };
    use expect_test::expect;
    use serde_json::json;

    fn claim(spec: Value) -> Object {
        object(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": spec,
            "metadata": {"name": "data", "namespace": "default", "uid": "u", "labels": {"app": "db"}},
        }))
    }

    fn with<R>(rule: impl FnOnce(&Cx<'_>) -> R) -> R {
        let facts = Answers {
            offered: vec![("StorageClass", "fast")],
            ..Answers::default()
        };
        rule(&Cx {
            rules: &tenant(),
            facts: &facts,
        })
    }

    fn down(spec: Value) -> Result<Object, Refused> {
        with(|cx| translate(&CLAIM, &claim(spec), cx)).map(Option::unwrap)
    }

    fn wish() -> Value {
        json!({
            "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": "1Gi"}},
        })
    }

    #[test]
    fn the_wish_goes_down() {
        let mut spec = wish();
        spec["dataSource"] =
            json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
        expect![[r#"
            accessModes:
            - ReadWriteOnce
            dataSource:
              apiGroup: snapshot.storage.k8s.io
              kind: VolumeSnapshot
              name: s
            resources:
              requests:
                storage: 1Gi
            storageClassName: fast
            volumeMode: Filesystem
        "#]]
        .assert_eq(&serde_saphyr::to_string(&down(spec).unwrap().at("/spec").unwrap()).unwrap());
    }

    #[test]
    fn what_reaches_for_other_volumes_is_refused() {
        let cases = [
            ("volumeName", json!("pv-1"), "VolumeNameSet"),
            (
                "selector",
                json!({"matchLabels": {"a": "b"}}),
                "VolumeSelector",
            ),
            ("storageClassName", json!("slow"), "StorageClassNotOffered"),
            ("storageClassName", json!(""), "NoStorageClass"),
            ("storageClassName", Value::Null, "NoStorageClass"),
            (
                "volumeAttributesClassName",
                json!("gold"),
                "VolumeAttributesClassNotOffered",
            ),
            (
                "dataSourceRef",
                json!({"kind": "PersistentVolumeClaim", "name": "x", "namespace": "victim"}),
                "DataSourceRefused",
            ),
            (
                "dataSourceRef",
                json!({"apiGroup": "evil.example", "kind": "Populator", "name": "x"}),
                "DataSourceRefused",
            ),
            ("future", json!(1), "UnknownField"),
        ];
        for (field, value, reason) in cases {
            let mut spec = wish();
            spec[field] = value;
            assert_eq!(down(spec).unwrap_err().reason, reason, "{field}");
        }
    }

    #[test]
    fn t20_a_class_that_keeps_volumes_is_refused_in_words_that_say_so() {
        let facts = Answers {
            kept_back: vec!["kept"],
            ..Answers::default()
        };
        let mut spec = wish();
        spec["storageClassName"] = "kept".into();
        let refused = translate(
            &CLAIM,
            &claim(spec),
            &Cx {
                rules: &tenant(),
                facts: &facts,
            },
        )
        .unwrap_err();
        assert_eq!(refused.reason, "StorageClassKeepsVolumes");
        assert!(refused.message.contains("Retain"), "{refused}");
    }

    #[test]
    fn a_claim_without_a_class_is_told_of_a_default_that_is_not_offered() {
        let told = |default: &str| {
            let facts = Answers {
                offered: vec![("StorageClass", "fast")],
                ..Answers::default()
            };
            let mut rules = tenant();
            rules.offers.storage.default = Some(default.to_owned());
            let mut spec = wish();
            spec["storageClassName"] = "".into();
            let cx = Cx {
                rules: &rules,
                facts: &facts,
            };
            translate(&CLAIM, &claim(spec), &cx).unwrap_err().message
        };
        assert!(told("gold").contains("\"gold\", which was to be the default"));
        assert!(!told("fast").contains("fast"));
    }

    /// The super claim as it is once it is bound.
    fn bound() -> Object {
        let mut twin = down(wish()).unwrap();
        twin.value_mut()["spec"]["volumeName"] = "pvc-1".into();
        twin.annotate(BIND_COMPLETED, "yes");
        twin.value_mut()["status"] = json!({
            "phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "future": 1,
        });
        twin
    }

    #[test]
    fn the_binding_comes_up_once() {
        let seen = TenantView {
            projection: meta::fingerprint(&CLAIM.up_projection(&claim(wish()))),
            ..TenantView::default()
        };
        let writes = with(|cx| CLAIM.up(&bound(), &seen, cx));
        expect![[r#"
            - metadata:
                annotations:
                  pv.kubernetes.io/bind-completed: "yes"
                  pv.kubernetes.io/bound-by-controller: null
                  volume.kubernetes.io/selected-node: null
                  volume.kubernetes.io/storage-provisioner: null
              spec:
                volumeName: pvc-1
            - - op: add
                path: /status
                value:
                  accessModes:
                  - ReadWriteOnce
                  capacity:
                    storage: 1Gi
                  phase: Bound
        "#]]
        .assert_eq(
            &serde_saphyr::to_string(&writes.iter().map(|write| &write.body).collect::<Vec<_>>())
                .unwrap(),
        );
        assert_eq!(
            CLAIM.brings(&bound()),
            Some(("PersistentVolume", "pvc-1".into()))
        );
        let agreed = TenantView {
            projection: meta::fingerprint(&CLAIM.up_projection(&bound())),
            ..TenantView::default()
        };
        assert_eq!(with(|cx| CLAIM.up(&bound(), &agreed, cx)), vec![]);
    }

    #[test]
    fn what_the_super_cluster_filled_in_stays_and_a_claim_can_grow() {
        assert_eq!(
            plan(&CLAIM, down(wish()).unwrap(), Some(&bound())),
            Ok(Plan::Nothing)
        );
        let mut larger = wish();
        larger["resources"]["requests"]["storage"] = "2Gi".into();
        let changes = CLAIM.changes(&down(larger).unwrap(), &bound());
        let spec = changes[0].value.as_ref().unwrap();
        assert_eq!(
            (
                &spec["volumeName"],
                &spec["resources"]["requests"]["storage"]
            ),
            (&json!("pvc-1"), &json!("2Gi"))
        );
    }

    #[test]
    fn the_binding_that_came_up_is_no_wish_of_the_tenants() {
        let mut tenants = claim(wish());
        tenants.value_mut()["spec"]["volumeName"] = "pvc-1".into();
        tenants.annotate(BIND_COMPLETED, "yes");
        let same = with(|cx| translate(&CLAIM, &tenants, cx)).unwrap();
        assert_eq!(same, Some(down(wish()).unwrap()));
    }

    #[test]
    fn a_claim_had_a_volume_if_its_binding_came_up_or_its_phase_says_so() {
        let with = |volume: &str, is_noted: bool, phase: &str| {
            let mut claim = claim(wish());
            claim.value_mut()["spec"]["volumeName"] = volume.into();
            claim.value_mut()["status"] = json!({"phase": phase});
            if is_noted {
                claim.annotate(BIND_COMPLETED, "yes");
            }
            had_volume(&claim)
        };
        assert!(with("pvc-1", true, "Pending"));
        assert!(with("pvc-1", false, "Bound") && with("", false, "Bound"));
        assert!(with("pvc-1", false, "Lost"));
        assert!(!with("pvc-1", false, "Pending") && !with("", true, "Pending"));
        assert!(!had_volume(&claim(wish())));
    }

    #[test]
    fn a_lost_claim_to_which_its_volume_is_given_back_stays_lost_until_it_is_bound() {
        let mut twin = bound();
        let annotations = twin.value_mut()["metadata"]["annotations"].as_object_mut();
        annotations.unwrap().remove(BIND_COMPLETED);
        twin.value_mut()["status"] = json!({"phase": "Pending"});
        let mut tenants = claim(wish());
        for write in with(|cx| CLAIM.up(&twin, &TenantView::default(), cx)) {
            let (mut body, tenants) = (write.body, tenants.value_mut());
            if write.subresource.is_some() {
                tenants["status"] = body[0]["value"].take();
            } else {
                tenants["spec"]["volumeName"] = body["spec"]["volumeName"].take();
            }
        }
        assert_eq!(tenants.text("/status/phase"), Some(LOST));
        // Nor is the volume's name taken for the tenant's own choice meanwhile.
        let same = with(|cx| translate(&CLAIM, &tenants, cx)).unwrap();
        assert_eq!(same, Some(down(wish()).unwrap()));
    }
}
