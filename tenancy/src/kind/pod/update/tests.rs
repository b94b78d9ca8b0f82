use crate::{
    kind::{
        Kind,
        pod::{
            Pod,
            tests::{default_pod, down, stored},
        },
    },
    meta,
    object::Object,
    plan::{Change, Plan, plan},
};
use serde_json::{Value, json};

/// What is asked of a super pod, made from the default pod after `before`, once the tenant's pod is changed by `after`.
fn changes(before: impl FnOnce(&mut Value), after: impl FnOnce(&mut Value)) -> Vec<Change> {
    let mut pod = default_pod();
    before(pod.value_mut());
    let have = stored(down(&pod));
    after(pod.value_mut());
    Pod.changes(&down(&pod), &have)
}

fn one(subresource: Option<&'static str>, pointer: &str, value: Value) -> Vec<Change> {
    vec![Change {
        subresource,
        pointer: pointer.into(),
        value: Some(value),
    }]
}

/// Whatever the pod was made with, and however old: a label is no reason to end it.
#[test]
fn a_label_that_crosses_under_another_key_is_added_to_a_pod_that_runs() {
    let mut pod = default_pod();
    let key = "jobset.sigs.k8s.io/jobset-name";
    pod.value_mut()["metadata"]["labels"][key] = "j".into();
    let carried = meta::pod_label(key).unwrap();
    let want = down(&pod);
    assert_eq!(want.label(&carried), Some("j"));
    let mut have = stored(down(&default_pod()));
    let Ok(Plan::Patch(patches)) = plan(&Pod, want.clone(), Some(&have)) else {
        panic!("it is patched");
    };
    assert_eq!((patches.len(), patches[0].subresource), (1, None));
    let operations = &patches[0].operations;
    let path = format!("/metadata/labels/{}", carried.replace('/', "~1"));
    let adds = json!({"op": "add", "path": path, "value": "j"});
    assert!(operations.contains(&adds), "{operations:?}");
    let of_metadata = |operation: &Value| {
        let path = operation["path"].as_str();
        path.is_some_and(|path| path.starts_with("/metadata/"))
    };
    assert!(operations.iter().all(of_metadata), "{operations:?}");
    // It is Sublet's to take away again when the tenant does.
    have = stored(want);
    let Ok(Plan::Patch(patches)) = plan(&Pod, down(&default_pod()), Some(&have)) else {
        panic!("it is patched");
    };
    let removes = json!({"op": "remove", "path": path});
    assert!(patches[0].operations.contains(&removes), "{patches:?}");
}

#[test]
fn an_image_is_changed_by_the_containers_name() {
    let changed = changes(
        |pod| {
            pod["spec"]["containers"] =
                json!([{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]);
        },
        |pod| pod["spec"]["containers"][1]["image"] = "b:2".into(),
    );
    assert_eq!(changed, one(None, "/spec/containers/1/image", json!("b:2")));
    // A sidecar that the super cluster injected first.
    let mut have = stored(down(&default_pod()));
    have.value_mut()["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"name": "injected", "image": "i"}));
    let mut pod = default_pod();
    pod.value_mut()["spec"]["containers"][0]["image"] = "nginx:2".into();
    assert_eq!(
        Pod.changes(&down(&pod), &have),
        one(None, "/spec/containers/1/image", json!("nginx:2"))
    );
}

#[test]
fn a_resize_goes_through_its_subresource_and_keeps_what_the_super_cluster_limited() {
    let changed = changes(
        |pod| pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}}),
        |pod| pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "200m".into(),
    );
    let resources = json!({"requests": {"cpu": "200m"}, "limits": {"memory": "512Mi"}});
    assert_eq!(
        changed,
        one(Some("resize"), "/spec/containers/0/resources", resources)
    );
    let whole_pod = changes(
        |pod| pod["spec"]["resources"] = json!({"requests": {"cpu": "1"}}),
        |pod| pod["spec"]["resources"]["requests"]["cpu"] = "2".into(),
    );
    assert_eq!(
        whole_pod,
        one(
            Some("resize"),
            "/spec/resources",
            json!({"requests": {"cpu": "2"}})
        )
    );
}

#[test]
fn a_deadline_is_set_and_shortened_but_never_lengthened() {
    let set = |before: Option<i64>, after: i64| {
        changes(
            |pod| {
                if let Some(before) = before {
                    pod["spec"]["activeDeadlineSeconds"] = before.into();
                }
            },
            |pod| pod["spec"]["activeDeadlineSeconds"] = after.into(),
        )
    };
    let change = one(None, "/spec/activeDeadlineSeconds", json!(60));
    assert_eq!(
        (set(None, 60), set(Some(90), 60), set(Some(30), 60)),
        (change.clone(), change, vec![])
    );
}

#[test]
fn tolerations_are_added_to_those_that_are_there() {
    let more = json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"});
    let changed = changes(
        |_| (),
        |pod| {
            pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "n1"});
            pod["spec"]["tolerations"]
                .as_array_mut()
                .unwrap()
                .push(more.clone());
        },
    );
    let list = changed[0].value.as_ref().unwrap().as_array().unwrap();
    assert_eq!((list.len(), &list[2]), (3, &more));
    let seconds = changes(
        |_| (),
        |pod| pod["spec"]["tolerations"][0]["tolerationSeconds"] = 5.into(),
    );
    assert_eq!(
        seconds[0].value.as_ref().unwrap()[0]["tolerationSeconds"],
        5
    );
    assert_eq!(
        changes(|_| (), |pod| pod["spec"]["tolerations"] = json!([])),
        vec![]
    );
}

#[test]
fn gates_are_removed_and_placement_is_narrowed_while_there_are_any() {
    let gated = |pod: &mut Value| {
        pod["spec"]["schedulingGates"] = json!([{"name": "a.b/c"}, {"name": "a.b/d"}]);
    };
    let one_left = changes(gated, |pod| {
        pod["spec"]["schedulingGates"] = json!([{"name": "a.b/d"}]);
    });
    assert_eq!(
        one_left,
        one(None, "/spec/schedulingGates", json!([{"name": "a.b/d"}]))
    );
    let none_left = changes(gated, |pod| {
        drop(
            pod["spec"]
                .as_object_mut()
                .unwrap()
                .remove("schedulingGates"),
        );
    });
    assert_eq!(
        none_left,
        [Change {
            subresource: None,
            pointer: "/spec/schedulingGates".into(),
            value: None
        }]
    );
    let selector =
        |pod: &mut Value| pod["spec"]["nodeSelector"] = json!({"kubernetes.io/arch": "arm64"});
    assert_eq!(
        changes(gated, selector),
        one(
            None,
            "/spec/nodeSelector",
            json!({"kubernetes.io/arch": "arm64"})
        )
    );
    assert_eq!(changes(|_| (), selector), vec![], "not any more");
    let terms =
        json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}});
    let affinity = |pod: &mut Value| pod["spec"]["affinity"] = json!({"nodeAffinity": terms});
    assert_eq!(
        changes(gated, affinity),
        one(None, "/spec/affinity", json!({"nodeAffinity": terms}))
    );
}

/// The API server would refuse all of the patch, and the gates would stay for ever.
#[test]
fn gates_go_though_terms_of_the_class_are_others_by_now() {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    // Terms by `;`, the labels that each asks for by `,`.
    let asks = |pod: &mut Object, terms: &str| {
        let terms = terms.split(';').map(|labels| {
            let labels = labels.split(',').filter(|label| !label.is_empty());
            let all = labels.map(|label| json!({"key": label, "operator": "Exists"}));
            json!({"matchExpressions": all.collect::<Vec<_>>()})
        });
        let terms = json!({"nodeSelectorTerms": terms.collect::<Vec<_>>()});
        pod.value_mut()["spec"]["affinity"] = json!({"nodeAffinity": {REQUIRED: terms}});
    };
    for (before, after, is_changed) in [
        (None, "a;b", true),
        (Some("a"), "a,b", true),
        (Some("a"), "b,a", false),
        (Some("a"), "b", false),
        (Some("a"), "a;b", false),
        (Some("a;b"), "a", false),
        (Some("a;b"), "a,c;b,c", true),
        (Some(""), "a", false),
    ] {
        let mut want = down(&default_pod());
        let mut have = stored(want.clone());
        have.value_mut()["spec"]["schedulingGates"] = json!([{"name": "a.b/c"}]);
        if let Some(before) = before {
            asks(&mut have, before);
        }
        asks(&mut want, after);
        let changed = Pod.changes(&want, &have);
        let pointers: Vec<&str> = changed
            .iter()
            .map(|change| change.pointer.as_str())
            .collect();
        let mut affinity = pointers.iter();
        let affinity = affinity.any(|pointer| pointer.starts_with("/spec/affinity"));
        assert_eq!(affinity, is_changed, "{before:?} {after:?}: {pointers:?}");
        assert_eq!(pointers[0], "/spec/schedulingGates");
    }
}

#[test]
fn ephemeral_containers_are_added_after_the_pod_is_made() {
    let mut pod = default_pod();
    pod.value_mut()["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox"}]);
    let want = down(&pod);
    let made = Pod.creatable(&want).unwrap();
    assert_eq!(made.at("/spec/ephemeralContainers"), None);
    assert_ne!(
        meta::applied(&made),
        meta::applied(&want),
        "it counts as not yet whole"
    );
    let Ok(Plan::Patch(patches)) = plan(&Pod, want, Some(&stored(made))) else {
        panic!()
    };
    assert_eq!(
        (patches[0].subresource, patches[1].subresource),
        (Some("ephemeralcontainers"), None)
    );
    assert_eq!(
        patches[0].operations[0]["path"],
        "/spec/ephemeralContainers"
    );
    let env = &patches[0].operations[0]["value"][0]["env"];
    assert!(
        env.as_array()
            .unwrap()
            .iter()
            .any(|variable| variable["name"] == "KUBERNETES_SERVICE_HOST")
    );
    assert_eq!(Pod.creatable(&down(&default_pod())), None);
}

#[test]
fn one_more_ephemeral_container_leaves_the_others_as_they_are() {
    let debug = |name: &str| json!({"name": name, "image": "busybox"});
    let changed = changes(
        |pod| pod["spec"]["ephemeralContainers"] = json!([debug("a")]),
        |pod| pod["spec"]["ephemeralContainers"] = json!([debug("a"), debug("b")]),
    );
    let list = changed[0].value.as_ref().unwrap().as_array().unwrap();
    assert_eq!(
        (changed.len(), list.len(), &list[1]["name"]),
        (1, 2, &json!("b"))
    );
}

/// A super pod whose status holds conditions of these types, all True.
fn have_conditions(gates: &[&str], kinds: &[&str]) -> (Object, Object) {
    let mut pod = default_pod();
    let gates: Vec<Value> = gates
        .iter()
        .map(|gate| json!({"conditionType": gate}))
        .collect();
    pod.value_mut()["spec"]["readinessGates"] = gates.into();
    let mut have = stored(down(&pod));
    let conditions: Vec<Value> = kinds
        .iter()
        .map(|kind| json!({"type": kind, "status": "True"}))
        .collect();
    have.value_mut()["status"] = json!({"conditions": conditions});
    (pod, have)
}

#[test]
fn conditions_of_gates_follow_the_tenant() {
    let (mut pod, have) = have_conditions(
        &["x/a", "x/b", "x/c", "x/d"],
        &["Ready", "x/a", "x/b", "x/c"],
    );
    pod.value_mut()["status"]["conditions"] = json!([
        {"type": "x/a", "status": "False", "reason": "R"}, {"type": "x/d", "status": "True"}, {"type": "Ready", "status": "False"},
    ]);
    let brief: Vec<String> = Pod
        .changes(&down(&pod), &have)
        .iter()
        .map(|change| {
            format!(
                "{} {}",
                change.pointer,
                change.value.as_ref().map_or("-".into(), Value::to_string)
            )
        })
        .collect();
    assert_eq!(
        brief,
        [
            "/status/conditions/1/reason \"R\"",
            "/status/conditions/1/status \"False\"",
            "/status/conditions/3 -",
            "/status/conditions/2 -",
            "/status/conditions/- {\"status\":\"True\",\"type\":\"x/d\"}",
        ]
    );
}

#[test]
fn a_gate_that_the_super_cluster_injected_is_not_the_tenants_to_close() {
    let (mut pod, have) = have_conditions(&["x/a", "load-balancer/y"], &["x/a", "load-balancer/y"]);
    pod.value_mut()["spec"]["readinessGates"] = json!([{"conditionType": "x/a"}]);
    pod.value_mut()["status"]["conditions"] = json!([{"type": "x/a", "status": "True"}]);
    assert_eq!(Pod.changes(&down(&pod), &have), vec![]);
}

#[test]
fn what_cannot_change_is_not_compared() {
    let changed = changes(
        |_| (),
        |pod| {
            pod["spec"]["restartPolicy"] = "Never".into();
            pod["spec"]["volumes"] = json!([]);
            pod["spec"]["terminationGracePeriodSeconds"] = 1.into();
        },
    );
    assert_eq!(changed, vec![]);
}
