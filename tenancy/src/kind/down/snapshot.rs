//! VolumeSnapshots of the tenant's own claims.

use super::{Crossing, Down, plain, require_offered};
use crate::{
    kind::{Cx, Refused, Resource, pod::fields::Rule},
    object::Object,
    refs::Referent,
};
use serde_json::Value;

/// The kind.
pub(in crate::kind) const SNAPSHOT: Down = Down {
    step,
    is_kept: true,
    filled: &["volumeSnapshotClassName"],
    brings: Some((
        "VolumeSnapshotContent",
        "/status/boundVolumeSnapshotContentName",
    )),
    is_optional: true,
    ..plain(
        &Resource {
            group: "snapshot.storage.k8s.io",
            version: "v1",
            kind: "VolumeSnapshot",
            plural: "volumesnapshots",
            namespaced: true,
        },
        &[
            (
                "source",
                Rule::Object(&[
                    ("persistentVolumeClaimName", Rule::Refers(Referent::Claim)),
                    (
                        "volumeSnapshotContentName",
                        Rule::Refuse(
                            "SnapshotContentNamed",
                            "snapshots made elsewhere don't cross: name a claim",
                        ),
                    ),
                ]),
            ),
            ("volumeSnapshotClassName", Rule::Pass),
        ],
        &[
            ("boundVolumeSnapshotContentName", Rule::Pass),
            ("creationTime", Rule::Pass),
            (
                "error",
                Rule::Object(&[("message", Rule::Pass), ("time", Rule::Pass)]),
            ),
            ("readyToUse", Rule::Pass),
            ("restoreSize", Rule::Pass),
        ],
    )
};

fn step(spec: &mut Value, _: &Object, cx: &Cx<'_>) -> Result<Crossing, Refused> {
    let class = spec.get("volumeSnapshotClassName").and_then(Value::as_str);
    let Some(class) = class.filter(|class| !class.is_empty()) else {
        // The super cluster's controller would take its default, whoever that is for (T21).
        return Err(Refused::new(
            "SnapshotClassNotOffered",
            "spec.volumeSnapshotClassName names none, and the platform's default may not be yours: name one that \
             `kubectl get volumesnapshotclasses` shows",
        ));
    };
    require_offered(
        "VolumeSnapshotClass",
        "spec.volumeSnapshotClassName",
        class,
        "SnapshotClassNotOffered",
        cx,
    )?;
    Ok(Crossing::Now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{
        Kind, TenantView,
        testing::{Answers, object, tenant},
        translate,
    };
    use serde_json::json;

    #[test]
    fn a_snapshot_of_an_own_claim_crosses_and_its_state_comes_up() {
        let facts = Answers {
            offered: vec![("VolumeSnapshotClass", "daily")],
            ..Answers::default()
        };
        let tenant = tenant();
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let snapshot = |spec| {
            object(
                json!({"metadata": {"name": "s", "namespace": "default", "uid": "u", "generation": 4}, "spec": spec}),
            )
        };
        let spec = json!({"source": {"persistentVolumeClaimName": "data"}, "volumeSnapshotClassName": "daily"});
        let mut twin = translate(&SNAPSHOT, &snapshot(spec.clone()), &cx)
            .unwrap()
            .unwrap();
        assert_eq!(twin.at("/spec"), Some(&spec));
        for (field, value, reason) in [
            (
                "source",
                json!({"volumeSnapshotContentName": "x"}),
                "SnapshotContentNamed",
            ),
            (
                "volumeSnapshotClassName",
                json!("other"),
                "SnapshotClassNotOffered",
            ),
            (
                "volumeSnapshotClassName",
                Value::Null,
                "SnapshotClassNotOffered",
            ),
        ] {
            let mut spec = spec.clone();
            spec[field] = value;
            let refused = translate(&SNAPSHOT, &snapshot(spec), &cx).unwrap_err();
            assert_eq!(refused.reason, reason);
        }
        let message = format!("{}/data can't be read", twin.namespace());
        twin.value_mut()["status"] = json!({
            "boundVolumeSnapshotContentName": "snapcontent-1", "readyToUse": false,
            "error": {"message": message, "time": "t"}, "future": 1,
        });
        let writes = SNAPSHOT.up(&twin, &TenantView::default(), &cx);
        let status = json!({
            "boundVolumeSnapshotContentName": "snapcontent-1", "readyToUse": false,
            "error": {"message": "default/data can't be read", "time": "t"},
        });
        assert_eq!(
            writes[0].body,
            json!([{"op": "add", "path": "/status", "value": status}])
        );
    }
}
