use super::*;
use serde_json::{Value, json};

fn definitions() -> Vec<Value> {
    let values = crds().into_iter().map(serde_json::to_value);
    values.collect::<Result<_, _>>().unwrap()
}

/// Pitfalls 1 and 2: Cluster API works out the name and reads the labels of what it finds there.
#[test]
fn each_definition_has_the_computed_name_and_the_contract_label() {
    for crd in definitions() {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
        let group = crd["spec"]["group"].as_str().unwrap();
        let computed = format!("{}s.{group}", kind.to_lowercase());
        assert_eq!(crd["metadata"]["name"], computed.as_str());
        assert_eq!(
            crd["metadata"]["labels"]["cluster.x-k8s.io/v1beta2"], "v1alpha1",
            "{computed}"
        );
        // Left out, it is `KINDList`.
        assert!(crd["spec"]["names"]["listKind"].is_null(), "{computed}");
        assert_eq!(crd["spec"]["scope"], "Namespaced");
        let version = &crd["spec"]["versions"][0];
        let names = &crd["spec"]["names"];
        assert!(
            names["categories"]
                .as_array()
                .unwrap()
                .contains(&json!("cluster-api"))
        );
        assert_eq!(names["shortNames"].as_array().unwrap().len(), 1);
        assert_eq!(
            version["subresources"]["status"].is_object(),
            !kind.ends_with("Template"),
            "{kind}"
        );
    }
}

#[test]
fn every_definition_belongs_to_a_provider_and_is_moved() {
    for crd in definitions() {
        let labels = &crd["metadata"]["labels"];
        let provider = labels["cluster.x-k8s.io/provider"].as_str().unwrap();
        let role = provider.trim_end_matches("-sublet").replace('-', "");
        let group = crd["spec"]["group"].as_str().unwrap();
        assert!(group.starts_with(&role), "{provider}: {group}");
        assert_eq!(labels["clusterctl.cluster.x-k8s.io"], "");
    }
}

#[test]
fn the_control_plane_can_be_scaled() {
    let crd = &definitions()[0];
    assert_eq!(
        crd["spec"]["versions"][0]["subresources"]["scale"],
        json!({
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        })
    );
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let replicas = &schema["properties"]["spec"]["properties"]["replicas"];
    let rule = &replicas["x-kubernetes-validations"][0]["rule"];
    assert_eq!(*rule, "self >= 1 && self <= 3");
}

/// Failures are told by conditions, and control planes aren't made of Machines.
#[test]
fn what_is_for_machines_or_was_taken_away_is_not_there() {
    for crd in definitions() {
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        for (half, field) in [
            ("spec", "machineTemplate"),
            ("status", "failureReason"),
            ("status", "failureMessage"),
        ] {
            let found = &schema[half]["properties"][field];
            assert!(
                found.is_null(),
                "{}: {half}.{field}",
                crd["metadata"]["name"]
            );
        }
    }
}

/// Pitfall 3: an empty structure is refused where one property at least is asked for.
#[test]
fn nothing_is_ever_written_as_an_empty_structure() {
    for (definition, field) in [(0, "controlPlaneInitialized"), (2, "provisioned")] {
        let crd = &definitions()[definition];
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let initialization = &schema["properties"]["status"]["properties"]["initialization"];
        assert_eq!(initialization["minProperties"], 1);
        assert_eq!(initialization["properties"][field]["type"], "boolean");
    }
    let empty = |value: Value| assert_eq!(value, json!({}));
    empty(serde_json::to_value(SubletControlPlaneStatus::default()).unwrap());
    empty(serde_json::to_value(SubletClusterStatus::default()).unwrap());
    empty(serde_json::to_value(SubletControlPlaneSpec::default()).unwrap());
    empty(serde_json::to_value(SubletClusterSpec::default()).unwrap());
}

/// Pitfall 17, and pitfall 19 of ports: they go to 65535.
#[test]
fn templates_ask_for_nothing_and_know_neither_version_nor_replicas_nor_endpoint() {
    for definition in [1, 3] {
        let crd = &definitions()[definition];
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let template = &schema["properties"]["spec"]["properties"]["template"];
        let spec = &template["properties"]["spec"];
        assert!(template["required"].is_null(), "{template}");
        assert!(spec["required"].is_null(), "{spec}");
        for field in [
            "version",
            "replicas",
            "controlPlaneEndpoint",
            "identity",
            "serviceCIDR",
        ] {
            assert!(spec["properties"][field].is_null(), "{field}");
        }
    }
    let crd = &definitions()[0];
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let spec = &schema["properties"]["spec"]["properties"];
    let port = &spec["controlPlaneEndpoint"]["properties"]["port"];
    assert_eq!(
        (&port["maximum"], &port["format"]),
        (&json!(65535.0), &json!("int32"))
    );
    // What the template has, the control plane has at the same place.
    let shared = &definitions()[1]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        ["spec"]["properties"]["template"]["properties"]["spec"]["properties"];
    for (field, schema) in shared.as_object().unwrap() {
        assert_eq!(&spec[field], schema, "{field}");
    }
}
