//! Laws that hold for every kind of the table.

use super::{
    Cx, KINDS,
    testing::{Answers, object, tenant},
    translate,
};
use crate::{
    meta,
    plan::{Plan, plan},
};
use serde_json::{Value, json};

/// An object of the kind with everything in its metadata that must not cross.
fn hostile(kind: &str, api_version: &str, namespaced: bool) -> Value {
    let mut object = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {
            "name": "a", "uid": "3f1c", "resourceVersion": "9", "generation": 3,
            "ownerReferences": [{"kind": "Node", "name": "n", "uid": "x"}],
            "finalizers": ["example.com/hold"],
            "labels": {"app": "a", "sublet.dev/tenant": "forged", "pod-security.kubernetes.io/enforce": "privileged"},
            "annotations": {"sublet.dev/uid": "forged", "scheduler.alpha.kubernetes.io/critical-pod": ""},
        },
        "spec": sample(kind), "status": status(kind),
        "data": {}, "addressType": "IPv4", "endpoints": [],
    });
    if namespaced {
        object["metadata"]["namespace"] = "default".into();
    }
    if kind == "EndpointSlice" {
        object["metadata"]["labels"]["kubernetes.io/service-name"] = "a".into();
    }
    object
}

/// A spec that crosses.
fn sample(kind: &str) -> Value {
    match kind {
        "Pod" => json!({"containers": [{"name": "c", "image": "i"}]}),
        "Service" => json!({"ports": [{"port": 80}], "clusterIP": "10.96.4.9"}),
        "PersistentVolumeClaim" => {
            json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "fast"})
        }
        "Ingress" => json!({"ingressClassName": "public", "rules": [{"host": "a.example"}]}),
        "PodDisruptionBudget" => json!({"maxUnavailable": 1}),
        "Gateway" => {
            json!({"gatewayClassName": "public", "listeners": [{"name": "a", "hostname": "a.example"}]})
        }
        "VolumeSnapshot" => {
            json!({"source": {"persistentVolumeClaimName": "data"}, "volumeSnapshotClassName": "daily"})
        }
        _ => json!({}),
    }
}

/// A status that a tenant made up, with what is its wish all the same.
fn status(kind: &str) -> Value {
    match kind {
        "PersistentVolumeClaim" => json!({"phase": "Bound"}),
        "PodDisruptionBudget" => json!({"expectedPods": 2}),
        _ => json!({}),
    }
}

/// Every translated object of the table.
fn translated() -> Vec<(&'static dyn super::Kind, crate::object::Object)> {
    let mut tenant = tenant();
    tenant.offers.hosts = vec!["a.example".into()];
    let facts = Answers {
        referenced: true,
        has_selector: Some(false),
        offers_all: true,
        ..Answers::default()
    };
    let cx = Cx {
        rules: &tenant,
        facts: &facts,
    };
    let down = KINDS.iter().filter(|kind| kind.goes_down());
    down.map(|kind| {
        let resource = kind.resource();
        let input = object(hostile(
            resource.kind,
            &resource.api_version(),
            resource.namespaced,
        ));
        let output = translate(*kind, &input, &cx)
            .unwrap()
            .unwrap_or_else(|| panic!("{} stays", resource.kind));
        (*kind, output)
    })
    .collect()
}

#[test]
fn each_resource_stands_once_in_the_table() {
    let mut names: Vec<_> = KINDS
        .iter()
        .map(|kind| (kind.resource().group, kind.resource().plural))
        .collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn no_identity_or_hold_of_the_tenant_crosses() {
    for (kind, output) in translated() {
        let name = kind.resource().kind;
        for field in [
            "uid",
            "resourceVersion",
            "ownerReferences",
            "finalizers",
            "managedFields",
            "generation",
        ] {
            assert_eq!(
                output.at(&format!("/metadata/{field}")),
                None,
                "{name} {field}"
            );
        }
        assert_eq!(output.at("/status"), None, "{name}");
        assert_ne!(
            output.label("pod-security.kubernetes.io/enforce"),
            Some("privileged"),
            "{name}"
        );
        assert_eq!(
            output.annotation("scheduler.alpha.kubernetes.io/critical-pod"),
            None,
            "{name}"
        );
    }
}

#[test]
fn ownership_is_written_on_the_object_and_cannot_be_forged() {
    for (kind, output) in translated() {
        let owner =
            meta::owner(&output).unwrap_or_else(|| panic!("{} has no owner", kind.resource().kind));
        assert_eq!(
            (owner.tenant, owner.name.as_str(), owner.uid.as_str()),
            (tenant().id, "a", "3f1c")
        );
        assert_eq!(owner.namespace.is_empty(), !kind.resource().namespaced);
        assert_ne!(meta::applied(&output), 0);
        assert_eq!(output.namespace().is_empty(), !kind.resource().namespaced);
        assert!(output.name().len() <= 253 && output.namespace().len() <= 63);
    }
}

#[test]
fn translation_is_a_function_and_its_result_needs_no_patch() {
    for ((kind, first), (_, second)) in translated().into_iter().zip(translated()) {
        assert_eq!(first, second);
        assert_eq!(
            plan(kind, second, Some(&first)),
            Ok(Plan::Nothing),
            "{}",
            kind.resource().kind
        );
    }
}

/// T42: the name of an object is a part of the paths of requests about it.
#[test]
fn t42_a_name_that_no_api_server_takes_goes_nowhere() {
    let (tenant, facts) = (
        tenant(),
        Answers {
            referenced: true,
            ..Answers::default()
        },
    );
    let cx = Cx {
        rules: &tenant,
        facts: &facts,
    };
    for kind in KINDS.iter().filter(|kind| kind.goes_down()) {
        let resource = kind.resource();
        let named = |field: &str, text: &str| {
            let mut value = hostile(resource.kind, &resource.api_version(), resource.namespaced);
            value["metadata"][field] = text.into();
            translate(*kind, &object(value), &cx).map_err(|refused| refused.reason)
        };
        for name in [
            "",
            "..",
            "a/status",
            "a?dryRun=All",
            "a%2fstatus",
            "a#",
            "A",
            "a b",
            "\u{e4}",
        ] {
            assert_eq!(
                named("name", name),
                Err("NameNotPossible"),
                "{} {name:?}",
                resource.kind
            );
            if resource.namespaced {
                assert_eq!(
                    named("namespace", name),
                    Err("NameNotPossible"),
                    "{} {name:?}",
                    resource.kind
                );
            }
        }
    }
}
