use super::*;
use crate::kind::testing::{Answers, object, tenant};
use api::Retain;
use expect_test::{Expect, expect};

/// What a tenant that is offered everything sees of an object, as YAML.
fn seen(kind: &Published, body: Value) -> Option<String> {
    let (tenant, facts) = (
        tenant(),
        Answers {
            offered: vec![("StorageClass", "fast")],
            ..Answers::default()
        },
    );
    let cx = Cx {
        rules: &tenant,
        facts: &facts,
    };
    let mut body = body;
    body["metadata"] = json!({
        "name": "a", "uid": "u", "resourceVersion": "7", "labels": {keys::PUBLISHED: "true", "team": "platform"},
        "annotations": {
            "note": "secret", "storageclass.kubernetes.io/is-default-class": "true",
            "ingressclass.kubernetes.io/is-default-class": "true", "api-approved.kubernetes.io": "url",
        },
        "ownerReferences": [{"name": "x"}],
    });
    let copy = kind.publish(&object(body), kind.published_namespace(), &cx)?;
    Some(serde_saphyr::to_string(copy.value()).unwrap())
}

fn shows(kind: &Published, body: Value, expected: &Expect) {
    expected.assert_eq(&seen(kind, body).unwrap());
}

#[test]
fn a_storage_class_is_shown_without_its_parameters() {
    let body = json!({
        "provisioner": "csi.example", "parameters": {"csi.storage.k8s.io/provisioner-secret-name": "key"},
        "mountOptions": ["x"], "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true, "allowedTopologies": [{"matchLabelExpressions": []}],
    });
    shows(
        &STORAGE_CLASS,
        body,
        &expect![[r#"
        allowVolumeExpansion: true
        apiVersion: storage.k8s.io/v1
        kind: StorageClass
        metadata:
          annotations:
            storageclass.kubernetes.io/is-default-class: "true"
          labels:
            sublet.dev/published: "true"
          name: a
        provisioner: csi.example
        reclaimPolicy: Delete
        volumeBindingMode: WaitForFirstConsumer
    "#]],
    );
}

#[test]
fn ingress_and_gateway_classes_name_their_controller() {
    let body =
        json!({"spec": {"controller": "example.com/ingress", "parameters": {"name": "secret"}}});
    shows(
        &INGRESS_CLASS,
        body,
        &expect![[r#"
        apiVersion: networking.k8s.io/v1
        kind: IngressClass
        metadata:
          annotations:
            ingressclass.kubernetes.io/is-default-class: "true"
          labels:
            sublet.dev/published: "true"
          name: a
        spec:
          controller: example.com/ingress
    "#]],
    );
    let body = json!({
        "spec": {"controllerName": "example.com/gateway", "parametersRef": {"name": "secret"}},
        "status": {"conditions": [{"type": "Accepted", "status": "True"}]},
    });
    shows(
        &GATEWAY_CLASS,
        body,
        &expect![[r#"
        apiVersion: gateway.networking.k8s.io/v1
        kind: GatewayClass
        metadata:
          annotations: {}
          labels:
            sublet.dev/published: "true"
          name: a
        spec:
          controllerName: example.com/gateway
        status:
          conditions:
          - status: "True"
            type: Accepted
    "#]],
    );
}

#[test]
fn priority_and_runtime_classes_are_shown() {
    let body = json!({"value": 1000, "globalDefault": false, "description": "d", "preemptionPolicy": "Never"});
    shows(
        &PRIORITY_CLASS,
        body,
        &expect![[r#"
        apiVersion: scheduling.k8s.io/v1
        description: d
        globalDefault: false
        kind: PriorityClass
        metadata:
          annotations: {}
          labels:
            sublet.dev/published: "true"
          name: a
        preemptionPolicy: Never
        value: 1000
    "#]],
    );
    let body = json!({
        "handler": "kata", "overhead": {"podFixed": {"memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"pool": "secret"}},
    });
    shows(
        &RUNTIME_CLASS,
        body,
        &expect![[r#"
        apiVersion: node.k8s.io/v1
        handler: kata
        kind: RuntimeClass
        metadata:
          annotations: {}
          labels:
            sublet.dev/published: "true"
          name: a
        overhead:
          podFixed:
            memory: 64Mi
    "#]],
    );
}

#[test]
fn drivers_and_capacities_are_shown() {
    let body = json!({"spec": {"attachRequired": false, "tokenRequests": [{"audience": "secret"}], "volumeLifecycleModes": ["Persistent"]}});
    shows(
        &CSI_DRIVER,
        body,
        &expect![[r#"
        apiVersion: storage.k8s.io/v1
        kind: CSIDriver
        metadata:
          annotations: {}
          labels:
            sublet.dev/published: "true"
          name: a
        spec:
          attachRequired: false
          volumeLifecycleModes:
          - Persistent
    "#]],
    );
    let body = json!({"storageClassName": "fast", "capacity": "1Gi", "nodeTopology": {"matchLabels": {"zone": "a"}}});
    shows(
        &CSI_STORAGE_CAPACITY,
        body,
        &expect![[r#"
        apiVersion: storage.k8s.io/v1
        capacity: 1Gi
        kind: CSIStorageCapacity
        metadata:
          annotations: {}
          labels:
            sublet.dev/published: "true"
          name: a
          namespace: kube-system
        nodeTopology:
          matchLabels:
            zone: a
        storageClassName: fast
    "#]],
    );
    assert_eq!(
        seen(&CSI_STORAGE_CAPACITY, json!({"storageClassName": "slow"})),
        None,
        "a class that the tenant isn't offered"
    );
}

/// T39: local storage has a capacity for each node.
#[test]
fn t39_a_capacity_names_no_node_that_is_not_shown() {
    let facts = Answers {
        offers_all: true,
        ..Answers::default()
    };
    let shown = |tenant: &crate::tenant::TenantRules, topology: Value| {
        let cx = Cx {
            rules: tenant,
            facts: &facts,
        };
        let capacity = object(json!({
            "metadata": {"name": "a"}, "storageClassName": "fast", "nodeTopology": topology,
        }));
        CSI_STORAGE_CAPACITY
            .publish(&capacity, "kube-system", &cx)
            .is_some()
    };
    let node = json!({"matchLabels": {"topology.example.com/node": "n1"}});
    let nodes = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]});
    let zone = json!({"matchLabels": {"topology.kubernetes.io/zone": "a"}});
    let mut used = tenant();
    used.nodes = ShownNodes::Used;
    let mut selected = tenant();
    selected.node_selector.insert("pool".into(), "a".into());
    let mut by_terms = tenant();
    let pool = json!({"matchExpressions": [{"key": "pool", "operator": "Exists"}]});
    let required = json!({"required": [pool]});
    by_terms.node_affinity = vec![serde_json::from_value(required).unwrap()];
    for (tenant, sees_nodes) in [
        (tenant(), true),
        (used, false),
        (selected, false),
        (by_terms, false),
    ] {
        assert_eq!(shown(&tenant, node.clone()), sees_nodes);
        assert_eq!(shown(&tenant, nodes.clone()), sees_nodes);
        assert!(shown(&tenant, zone.clone()) && shown(&tenant, Value::Null));
    }
}

#[test]
fn snapshot_and_device_classes_are_shown_without_parameters() {
    let body =
        json!({"driver": "csi.example", "deletionPolicy": "Delete", "parameters": {"secret": "x"}});
    shows(
        &VOLUME_SNAPSHOT_CLASS,
        body,
        &expect![[r#"
        apiVersion: snapshot.storage.k8s.io/v1
        deletionPolicy: Delete
        driver: csi.example
        kind: VolumeSnapshotClass
        metadata:
          annotations: {}
          labels:
            sublet.dev/published: "true"
          name: a
    "#]],
    );
    let body = json!({"spec": {"selectors": [{"cel": {"expression": "true"}}], "config": [{"opaque": {"driver": "secret"}}]}});
    shows(
        &DEVICE_CLASS,
        body,
        &expect![[r#"
        apiVersion: resource.k8s.io/v1
        kind: DeviceClass
        metadata:
          annotations: {}
          labels:
            sublet.dev/published: "true"
          name: a
        spec:
          selectors:
          - cel:
              expression: "true"
    "#]],
    );
}

#[test]
fn a_definition_loses_the_super_clusters_webhook() {
    let versions = json!([{"name": "v1", "served": true, "storage": false}, {"name": "v2", "served": true, "storage": true}]);
    let body = |strategy: &str| {
        json!({
            "spec": {
                "group": "example.com", "scope": "Namespaced", "names": {"kind": "A", "plural": "as"}, "versions": versions,
                "conversion": {"strategy": strategy, "webhook": {"clientConfig": {"service": {"name": "secret"}}}},
            },
            "status": {"storedVersions": ["v1"]},
        })
    };
    shows(
        &DEFINITION,
        body("Webhook"),
        &expect![[r#"
        apiVersion: apiextensions.k8s.io/v1
        kind: CustomResourceDefinition
        metadata:
          annotations:
            api-approved.kubernetes.io: url
          labels:
            sublet.dev/published: "true"
          name: a
        spec:
          conversion:
            strategy: None
          group: example.com
          names:
            kind: A
            plural: as
          scope: Namespaced
          versions:
          - name: v2
            served: true
            storage: true
    "#]],
    );
    let all = seen(&DEFINITION, body("None")).unwrap();
    assert!(all.contains("name: v1"), "{all}");
}

#[test]
fn what_is_not_offered_is_not_seen() {
    let (tenant, facts) = (tenant(), Answers::default());
    let cx = Cx {
        rules: &tenant,
        facts: &facts,
    };
    let class = object(json!({"metadata": {"name": "a"}, "provisioner": "p"}));
    assert_eq!(STORAGE_CLASS.publish(&class, "", &cx), None);
}

/// Names of the StorageClasses that a tenant with these rules is shown, and of those of them that are the default there.
fn defaults(rules: &crate::tenant::TenantRules) -> (Vec<String>, Vec<String>) {
    let facts = Answers::default();
    let cx = Cx {
        rules,
        facts: &facts,
    };
    let class = |name: &str, default: Option<&str>, policy: &str| {
        let mut class = json!({
            "metadata": {"name": name, "labels": {keys::PUBLISHED: "true"}, "annotations": {}},
            "provisioner": "p", "reclaimPolicy": policy,
        });
        if let Some(default) = default {
            class["metadata"]["annotations"][DEFAULT_STORAGE_CLASS] = default.into();
        }
        STORAGE_CLASS.publish(&object(class), "", &cx)
    };
    let shown: Vec<Object> = [
        class("super-default", Some("true"), "Delete"),
        class("other-default", Some("true"), "Delete"),
        class("fast", None, "Delete"),
        class("slow", Some("false"), "Delete"),
        class("kept", None, "Retain"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let names = |all: Vec<&Object>| -> Vec<String> {
        all.iter().map(|class| class.name().to_owned()).collect()
    };
    let is_default = |class: &&Object| class.annotation(DEFAULT_STORAGE_CLASS) == Some("true");
    (
        names(shown.iter().collect()),
        names(shown.iter().filter(is_default).collect()),
    )
}

#[test]
fn the_default_that_was_chosen_is_the_only_one() {
    let mut rules = tenant();
    let default = |rules: &crate::tenant::TenantRules| defaults(rules).1;
    assert_eq!(default(&rules), ["super-default", "other-default"]);
    for chosen in ["fast", "slow", "super-default"] {
        rules.offers.storage.default = Some(chosen.to_owned());
        assert_eq!(default(&rules), [chosen]);
    }
    for unseen in ["kept", "gone"] {
        rules.offers.storage.default = Some(unseen.to_owned());
        assert!(default(&rules).is_empty(), "{unseen}");
    }
    rules.offers.storage.retain = Retain::Allowed;
    rules.offers.storage.default = Some("kept".to_owned());
    assert_eq!(default(&rules), ["kept"]);
}

#[test]
fn t20_a_class_that_keeps_volumes_is_shown_to_those_alone_that_may_have_them() {
    let mut rules = tenant();
    let is_seen =
        |rules: &crate::tenant::TenantRules| defaults(rules).0.iter().any(|name| name == "kept");
    assert!(!is_seen(&rules));
    rules.offers.storage.retain = Retain::Allowed;
    assert!(is_seen(&rules));
}

#[test]
fn a_copy_that_is_the_default_no_more_loses_the_annotation() {
    let class = |annotations: Value| {
        object(json!({"metadata": {"name": "a", "annotations": annotations}, "provisioner": "p"}))
    };
    let mark = json!({DEFAULT_STORAGE_CLASS: "true"});
    let cleared = json!({"metadata": {"annotations": {DEFAULT_STORAGE_CLASS: null}}});
    let writes = changes(&class(json!({})), &class(mark.clone()));
    assert_eq!(writes, vec![merge(None, cleared)]);
    let writes = changes(&class(mark.clone()), &class(json!({})));
    let set = json!({"metadata": {"annotations": mark}});
    assert_eq!(writes, vec![merge(None, set)]);
}

#[test]
fn edits_are_undone_and_additions_removed() {
    let want = object(json!({
        "metadata": {"name": "a", "labels": {keys::PUBLISHED: "true"}, "annotations": {}},
        "spec": {"x": 1, "y": {"z": []}},
    }));
    let same = object(json!({
        "metadata": {"name": "a", "uid": "u", "labels": {keys::PUBLISHED: "true"}},
        "spec": {"x": 1}, "status": {"foreign": true},
    }));
    assert_eq!(changes(&want, &same), vec![]);
    let edited = object(json!({
        "metadata": {"name": "a", "labels": {"mine": "1"}, "annotations": {"n": "1"}},
        "spec": {"x": 2, "extra": true}, "parameters": {"k": "v"},
    }));
    let body = json!({
        "metadata": {"labels": {keys::PUBLISHED: "true", "mine": null}, "annotations": {"n": null}},
        "spec": {"x": 1, "extra": null}, "parameters": null,
    });
    assert_eq!(changes(&want, &edited), vec![merge(None, body)]);
    assert_ne!(state(&want), state(&edited));
}

#[test]
fn a_withdrawn_definition_stays() {
    let have = object(json!({"metadata": {"name": "a"}}));
    assert!(matches!(
        DEFINITION.withdrawal(&have),
        Withdrawal::Release(_)
    ));
    assert_eq!(STORAGE_CLASS.withdrawal(&have), Withdrawal::Delete);
}

#[test]
fn a_name_and_a_label_tell_which_object_is_not_read_at_all() {
    let mut tenant = tenant();
    let facts = Answers::default();
    let may =
        |tenant: &crate::tenant::TenantRules, kind: &Published, name: &str, labelled: bool| {
            let cx = Cx {
                rules: tenant,
                facts: &facts,
            };
            kind.may_be_shown(name, labelled, &cx)
        };
    assert!(may(&tenant, &PRIORITY_CLASS, "high", true));
    assert!(!may(&tenant, &PRIORITY_CLASS, "high", false));
    // What it is comes from its StorageClass.
    assert!(may(&tenant, &CSI_STORAGE_CAPACITY, "any", false));
    assert!(!may(&tenant, &DEFINITION, "widgets.example.com", false));
    let named = json!({"name": "widgets.example.com", "version": "v1", "kind": "Widget"});
    tenant.custom = vec![serde_json::from_value(named).unwrap()];
    assert!(may(&tenant, &DEFINITION, "widgets.example.com", false));
    assert!(!may(&tenant, &DEFINITION, "gadgets.example.com", false));
}
