//! Objects that the super cluster makes for a tenant's claims and snapshots: volumes and snapshot contents.
//!
//! They have no owner mark; whose they are is told by the super namespace that they name. The tenant is shown them under
//! the name by which its claim knows them, with its own names inside, and without where the data really is.

use super::{
    Cx, Kind, Refused, Resource, SuperWatch, Upward, UpwardVerb, Withdrawal,
    pod::fields::{Fields, Rule, select},
};
use crate::object::Object;
use api::keys;
use serde_json::{Map, Value, json};

/// One kind.
#[derive(Debug)]
pub(super) struct Placed {
    resource: &'static Resource,
    /// Pointer of the reference to the tenant's object.
    reference: &'static str,
    /// Kind of the tenant's object.
    owner: &'static str,
    fields: Fields,
    annotations: &'static [&'static str],
    /// Puts something in the place of where the data is.
    stand_in: fn(&mut Value, &Object),
    withdrawal: fn(&Object) -> Withdrawal,
    is_optional: bool,
}

/// PersistentVolume.
pub(super) const VOLUME: Placed = Placed {
    resource: &Resource {
        group: "",
        version: "v1",
        kind: "PersistentVolume",
        plural: "persistentvolumes",
        namespaced: false,
    },
    reference: "/spec/claimRef",
    owner: "PersistentVolumeClaim",
    fields: &[
        (
            "spec",
            Rule::Object(&[
                ("accessModes", Rule::Pass),
                ("capacity", Rule::Pass),
                ("nodeAffinity", Rule::Pass),
                ("persistentVolumeReclaimPolicy", Rule::Pass),
                ("storageClassName", Rule::Pass),
                ("volumeMode", Rule::Pass),
            ]),
        ),
        (
            "status",
            Rule::Object(&[
                ("lastPhaseTransitionTime", Rule::Pass),
                ("phase", Rule::Pass),
            ]),
        ),
    ],
    annotations: &["pv.kubernetes.io/provisioned-by"],
    stand_in: |copy, volume| {
        let driver = volume
            .text("/spec/csi/driver")
            .or_else(|| volume.annotation("pv.kubernetes.io/provisioned-by"));
        // The API asks for a source; a driver's handle of the super cluster isn't the tenant's to know.
        let driver: String = driver
            .unwrap_or("sublet.dev")
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '.' {
                    c
                } else {
                    '-'
                }
            })
            .take(63)
            .collect();
        copy["spec"]["csi"] = json!({"driver": driver, "volumeHandle": volume.name()});
    },
    withdrawal: |have| {
        if have.text("/status/phase") == Some("Bound") {
            // A bound volume is protected from deletion.
            let body = json!({"status": {"phase": "Released"}});
            return Withdrawal::DeleteAfter(Upward {
                subresource: Some("status"),
                verb: UpwardVerb::Merge,
                body,
                shows: None,
            });
        }
        Withdrawal::Delete
    },
    is_optional: false,
};

/// VolumeSnapshotContent.
pub(super) const SNAPSHOT_CONTENT: Placed = Placed {
    resource: &Resource {
        group: "snapshot.storage.k8s.io",
        version: "v1",
        kind: "VolumeSnapshotContent",
        plural: "volumesnapshotcontents",
        namespaced: false,
    },
    reference: "/spec/volumeSnapshotRef",
    owner: "VolumeSnapshot",
    fields: &[
        (
            "spec",
            Rule::Object(&[
                ("deletionPolicy", Rule::Pass),
                ("driver", Rule::Pass),
                ("sourceVolumeMode", Rule::Pass),
                ("volumeSnapshotClassName", Rule::Pass),
            ]),
        ),
        (
            "status",
            Rule::Object(&[
                ("creationTime", Rule::Pass),
                ("readyToUse", Rule::Pass),
                ("restoreSize", Rule::Pass),
            ]),
        ),
    ],
    annotations: &[],
    stand_in: |copy, content| {
        copy["spec"]["source"] = json!({"snapshotHandle": content.name()});
    },
    withdrawal: |_| Withdrawal::Delete,
    is_optional: true,
};

impl Kind for Placed {
    fn resource(&self) -> &'static Resource {
        self.resource
    }

    fn goes_down(&self) -> bool {
        false
    }

    fn super_watch(&self) -> SuperWatch {
        SuperWatch::Placed
    }

    fn is_optional(&self) -> bool {
        self.is_optional
    }

    fn placed_in<'a>(&self, object: &'a Object) -> &'a str {
        object
            .at(self.reference)
            .and_then(|reference| reference["namespace"].as_str())
            .unwrap_or_default()
    }

    fn down(&self, _object: &Object, _cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        Ok(None)
    }

    fn publish(&self, object: &Object, namespace: &str, cx: &Cx<'_>) -> Option<Object> {
        let reference = object.at(self.reference)?;
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        // Only what the tenant's own object is bound to, not what a namesake had.
        let uid = cx
            .facts
            .uid(self.owner, namespace, text("name"), text("uid"))?;
        let mut copy = select(self.fields, object.value());
        (self.stand_in)(&mut copy, object);
        let pointer = self.reference.rsplit_once('/')?.1;
        copy["spec"][pointer] = json!({
            "apiVersion": text("apiVersion"), "kind": self.owner, "namespace": namespace, "name": text("name"), "uid": uid,
        });
        let annotations: Map<String, Value> = object
            .annotations()
            .filter(|(key, _)| self.annotations.contains(key))
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        copy["apiVersion"] = self.resource.api_version().into();
        copy["kind"] = self.resource.kind.into();
        copy["metadata"] = json!({
            "name": object.name(), "labels": {keys::PUBLISHED: "true"}, "annotations": annotations,
        });
        Object::from_value(copy).ok()
    }

    fn withdrawal(&self, have: &Object) -> Withdrawal {
        (self.withdrawal)(have)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::testing::{Answers, object, tenant};
    use expect_test::expect;

    fn seen(kind: &Placed, body: Value, uid: Option<&str>) -> Option<String> {
        let facts = Answers {
            uid: uid.map(str::to_owned),
            ..Answers::default()
        };
        let tenant = tenant();
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let copy = kind.publish(&object(body), "default", &cx)?;
        Some(serde_saphyr::to_string(copy.value()).unwrap())
    }

    fn volume() -> Value {
        json!({
            "metadata": {"name": "pvc-1", "uid": "x", "labels": {"secret": "1"}, "finalizers": ["f"],
                "annotations": {"pv.kubernetes.io/provisioned-by": "sublet.dev/local", "secret": "1"}},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "persistentVolumeReclaimPolicy": "Delete", "volumeMode": "Filesystem",
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "acme-default-x",
                    "name": "data", "uid": "super", "resourceVersion": "7"},
                "local": {"path": "/secret"},
            },
            "status": {"phase": "Bound"},
        })
    }

    #[test]
    fn a_volume_is_shown_without_where_it_is() {
        assert_eq!(VOLUME.placed_in(&object(volume())), "acme-default-x");
        expect![[r#"
            apiVersion: v1
            kind: PersistentVolume
            metadata:
              annotations:
                pv.kubernetes.io/provisioned-by: sublet.dev/local
              labels:
                sublet.dev/published: "true"
              name: pvc-1
            spec:
              accessModes:
              - ReadWriteOnce
              capacity:
                storage: 1Gi
              claimRef:
                apiVersion: v1
                kind: PersistentVolumeClaim
                name: data
                namespace: default
                uid: tenant-uid
              csi:
                driver: sublet.dev-local
                volumeHandle: pvc-1
              persistentVolumeReclaimPolicy: Delete
              storageClassName: fast
              volumeMode: Filesystem
            status:
              phase: Bound
        "#]]
        .assert_eq(&seen(&VOLUME, volume(), Some("tenant-uid")).unwrap());
        assert_eq!(
            seen(&VOLUME, volume(), None),
            None,
            "not the volume of a claim of that name that is gone"
        );
    }

    #[test]
    fn a_bound_volume_is_released_before_it_goes() {
        assert!(matches!(
            VOLUME.withdrawal(&object(volume())),
            Withdrawal::DeleteAfter(_)
        ));
        let mut released = volume();
        released["status"]["phase"] = "Released".into();
        assert_eq!(VOLUME.withdrawal(&object(released)), Withdrawal::Delete);
    }

    #[test]
    fn a_snapshots_content_is_shown_without_its_handle() {
        let content = json!({
            "metadata": {"name": "snapcontent-1"},
            "spec": {"driver": "csi.example", "deletionPolicy": "Delete", "source": {"volumeHandle": "secret"},
                "volumeSnapshotRef": {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                    "namespace": "acme-default-x", "name": "s", "uid": "super"}},
            "status": {"snapshotHandle": "secret", "readyToUse": true, "restoreSize": 1},
        });
        expect![[r#"
            apiVersion: snapshot.storage.k8s.io/v1
            kind: VolumeSnapshotContent
            metadata:
              annotations: {}
              labels:
                sublet.dev/published: "true"
              name: snapcontent-1
            spec:
              deletionPolicy: Delete
              driver: csi.example
              source:
                snapshotHandle: snapcontent-1
              volumeSnapshotRef:
                apiVersion: snapshot.storage.k8s.io/v1
                kind: VolumeSnapshot
                name: s
                namespace: default
                uid: tenant-uid
            status:
              readyToUse: true
              restoreSize: 1
        "#]]
        .assert_eq(&seen(&SNAPSHOT_CONTENT, content, Some("tenant-uid")).unwrap());
    }
}
