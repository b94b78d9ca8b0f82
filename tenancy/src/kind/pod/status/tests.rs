use super::*;
use crate::kind::{
    Kind,
    pod::{
        Pod,
        tests::{default_pod, down, stored, yaml},
    },
    testing::{Answers, tenant},
};
use expect_test::expect;

/// The super pod of the default pod, running.
fn running() -> Object {
    let mut pod = stored(down(&default_pod()));
    let namespace = pod.namespace().to_owned();
    let status: Value = serde_saphyr::from_str(&format!(
        r#"
        phase: Running
        qosClass: Burstable
        observedGeneration: 1
        hostIP: 192.168.0.4
        hostIPs: [{{ip: 192.168.0.4}}]
        podIP: 10.0.0.7
        podIPs: [{{ip: 10.0.0.7}}]
        startTime: "2026-11-24T08:00:02Z"
        conditions:
        - {{type: Ready, status: "False", reason: ContainersNotReady, message: "containers with unready status: [c]", lastProbeTime: null, lastTransitionTime: "2026-11-24T08:00:03Z", observedGeneration: 1}}
        - {{type: PodScheduled, status: "True", lastProbeTime: null, lastTransitionTime: "2026-11-24T08:00:02Z"}}
        - {{type: platform.example/cost, status: "True"}}
        containerStatuses:
        - name: c
          image: docker.io/library/nginx:latest
          imageID: sha256:1
          containerID: containerd://2
          ready: false
          restartCount: 0
          started: false
          lastState: {{}}
          state: {{waiting: {{reason: CrashLoopBackOff, message: "back-off 10s restarting failed container=c pod=web_{namespace}(super-uid)"}}}}
          allocatedResourcesStatus: [{{name: example.com/gpu, resources: [{{resourceID: gpu-7}}]}}]
          volumeMounts: [{{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: Disabled}}]
          user: {{linux: {{uid: 0, gid: 0, supplementalGroups: [0]}}}}
        "#
    ))
    .unwrap();
    pod.value_mut()["status"] = status;
    pod
}

fn view(pod: &Object) -> TenantView {
    let projection = meta::fingerprint(&Pod.up_projection(pod));
    TenantView {
        uid: pod.uid().into(),
        bound: pod.text("/spec/nodeName").is_some(),
        projection,
        ..TenantView::default()
    }
}

fn up_to(pod: &Object, tenants: &Object) -> Vec<Upward> {
    let (tenant, facts) = (tenant(), Answers::default());
    Pod.up(
        pod,
        &view(tenants),
        &Cx {
            rules: &tenant,
            facts: &facts,
        },
    )
}

/// Strategic merge as the API server does it for a pod's status.
fn merge(into: &mut Value, patch: &Value) {
    let (Value::Object(into), Value::Object(patch)) = (into, patch) else {
        panic!("maps")
    };
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.remove(key)),
            Value::Object(_) => merge(into.entry(key.clone()).or_insert_with(|| json!({})), value),
            Value::Array(list) if ["podIPs", "hostIPs"].contains(&key.as_str()) => {
                assert_eq!(list[0], json!({"$patch": "replace"}));
                into.insert(key.clone(), list[1..].to_vec().into());
            }
            Value::Array(list) if key == "conditions" => {
                let mut now = into
                    .get(key)
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default();
                for entry in list {
                    let at = now.iter().position(|known| known["type"] == entry["type"]);
                    match (entry.get("$patch").is_some(), at) {
                        (true, Some(at)) => drop(now.remove(at)),
                        (true, None) => {}
                        (false, Some(at)) => merge(&mut now[at], entry),
                        (false, None) => now.push(entry.clone()),
                    }
                }
                into.insert(key.clone(), now.into());
            }
            value => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

/// The tenant's pod after the requests were carried out.
fn applied(mut pod: Object, requests: &[Upward]) -> Object {
    for request in requests {
        match (request.subresource, request.verb) {
            (Some("binding"), UpwardVerb::Create) => {
                pod.value_mut()["spec"]["nodeName"] = request.body["target"]["name"].clone();
            }
            (Some("status"), UpwardVerb::StrategicMerge) => {
                if pod.at("/status").is_none() {
                    pod.value_mut()["status"] = json!({});
                }
                merge(&mut pod.value_mut()["status"], &request.body["status"]);
            }
            other => panic!("{other:?}"),
        }
    }
    pod
}

#[test]
fn a_running_pod_is_bound_and_shown_in_the_tenants_words() {
    let requests = up_to(&running(), &default_pod());
    assert_eq!(requests.len(), 2);
    assert_eq!(
        requests[0].body,
        json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": "web", "namespace": "shop", "uid": default_pod().uid()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "n1"},
        })
    );
    expect![[r#"
        conditions:
        - lastProbeTime: null
          lastTransitionTime: "2026-11-24T08:00:02Z"
          message: null
          reason: null
          status: "True"
          type: PodScheduled
        - lastProbeTime: null
          lastTransitionTime: "2026-11-24T08:00:03Z"
          message: "containers with unready status: [c]"
          reason: ContainersNotReady
          status: "False"
          type: Ready
        containerStatuses:
        - containerID: containerd://2
          image: docker.io/library/nginx:latest
          imageID: sha256:1
          lastState: {}
          name: c
          ready: false
          restartCount: 0
          started: false
          state:
            waiting:
              message: >-
                back-off 10s restarting failed container=c
                pod=web_shop(0e0e9cbb-7a9a-4a3e-9d4e-6a3f3c6d1f0a)
              reason: CrashLoopBackOff
          user:
            linux:
              gid: 0
              supplementalGroups:
              - 0
              uid: 0
          volumeMounts:
          - mountPath: /v
            name: v
            readOnly: true
            recursiveReadOnly: Disabled
        hostIP: "192.168.0.4"
        hostIPs:
        - ip: "192.168.0.4"
        observedGeneration: 1
        phase: Running
        podIP: "10.0.0.7"
        podIPs:
        - ip: "10.0.0.7"
        qosClass: BestEffort
        startTime: "2026-11-24T08:00:02Z"
    "#]]
    .assert_eq(&yaml(
        applied(default_pod(), &requests).at("/status").unwrap(),
    ));
}

/// What the API server makes of a binding: the condition has the time of the binding there.
fn bound(mut pod: Object) -> Object {
    pod.value_mut()["spec"]["nodeName"] = "n1".into();
    pod.value_mut()["status"]["conditions"] = json!([{
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": "2026-11-24T08:00:04Z",
    }]);
    pod
}

#[test]
fn a_binding_is_one_request_and_its_own_event_is_no_news() {
    let mut pending = default_pod();
    pending.value_mut()["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    let mut pod = running();
    pod.value_mut()["status"] = json!({"phase": "Pending", "qosClass": "BestEffort", "conditions": [{
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": "2026-11-24T08:00:02Z",
    }]});
    let requests = up_to(&pod, &pending);
    let subresources: Vec<_> = requests.iter().map(|write| write.subresource).collect();
    assert_eq!(subresources, [Some("binding")]);
    let after = bound(pending.clone());
    let shown = meta::fingerprint(&Pod.up_projection(&after));
    assert_eq!(requests[0].shows, Some(shown));
    assert_eq!(up_to(&pod, &after), []);
    // Anything else that the super cluster says goes up at once.
    pod.value_mut()["status"]["conditions"][0]["reason"] = "Other".into();
    assert_eq!(up_to(&pod, &pending).len(), 2);
}

#[test]
fn a_status_tells_what_the_tenant_shows_once_it_is_written() {
    let requests = up_to(&running(), &default_pod());
    let after = applied(default_pod(), &requests);
    let shown = meta::fingerprint(&Pod.up_projection(&after));
    assert!(requests.iter().all(|write| write.shows == Some(shown)));
}

#[test]
fn a_second_look_writes_nothing() {
    let after = applied(default_pod(), &up_to(&running(), &default_pod()));
    assert_eq!(up_to(&running(), &after), []);
}

#[test]
fn each_side_says_for_itself_what_is_about_to_end_the_pod() {
    let disruption = |reason: &str| {
        json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": null,
            "lastProbeTime": null, "lastTransitionTime": "2026-11-24T09:00:00Z"})
    };
    let conditions = |pod: &mut Object, more: Value| {
        let conditions = &mut pod.value_mut()["status"]["conditions"];
        conditions.as_array_mut().unwrap().push(more);
    };
    // An eviction in the tenant: the super pod's end goes up and takes nothing of it away.
    let mut evicted = applied(default_pod(), &up_to(&running(), &default_pod()));
    conditions(&mut evicted, disruption("EvictionByEvictionAPI"));
    assert_eq!(up_to(&running(), &evicted), []);
    let mut ended = running();
    ended.value_mut()["status"]["phase"] = "Failed".into();
    let after = applied(evicted.clone(), &up_to(&ended, &evicted));
    assert_eq!(after.text("/status/phase"), Some("Failed"));
    assert!(
        after
            .at("/status/conditions")
            .unwrap()
            .to_string()
            .contains("EvictionByEvictionAPI")
    );
    assert_eq!(up_to(&ended, &after), []);
    // A preemption in the super cluster goes up with the end that it leads to.
    conditions(&mut ended, disruption("PreemptionByScheduler"));
    let told = applied(default_pod(), &up_to(&ended, &default_pod()));
    assert!(
        told.at("/status/conditions")
            .unwrap()
            .to_string()
            .contains("PreemptionByScheduler")
    );
    assert_eq!(up_to(&ended, &told), []);
    conditions(&mut ended, json!({"type": "Initialized", "status": "True"}));
    let requests = up_to(&ended, &told);
    let shown = meta::fingerprint(&Pod.up_projection(&applied(told, &requests)));
    assert_eq!(requests[0].shows, Some(shown));
}

#[test]
fn whatever_the_tenant_had_becomes_what_the_super_cluster_has() {
    let mut before = applied(default_pod(), &up_to(&running(), &default_pod()));
    let status = &mut before.value_mut()["status"];
    status["message"] = "old".into();
    status["nominatedNodeName"] = "old".into();
    status["podIPs"] = json!([{"ip": "10.9.9.9"}]);
    status["allocatedResources"] = json!({"cpu": "1"});
    status["resources"] = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    status["conditions"] = json!([
        {"type": "Ready", "status": "True", "reason": "Forged", "message": "forged"},
        {"type": "PodResizePending", "status": "True"},
        {"type": "own.example/gate", "status": "True"},
    ]);
    let mut pod = running();
    pod.value_mut()["status"]["resources"] = json!({"limits": {"cpu": "2"}});
    pod.value_mut()["status"]["conditions"][0]
        .as_object_mut()
        .unwrap()
        .remove("reason");
    let after = applied(before.clone(), &up_to(&pod, &before));
    assert_eq!(up_to(&pod, &after), []);
    assert_eq!(
        after.at("/status/resources"),
        Some(&json!({"limits": {"cpu": "2"}}))
    );
    let kinds: Vec<&str> = items(after.at("/status").unwrap(), "conditions")
        .map(|entry| text(entry, "type"))
        .collect();
    assert_eq!(
        kinds,
        ["Ready", "own.example/gate", "PodScheduled"],
        "the tenant's own condition stays, ours follow"
    );
}

#[test]
fn an_unscheduled_pod_shows_why() {
    let mut pod = running();
    pod.value_mut()["spec"]
        .as_object_mut()
        .unwrap()
        .remove("nodeName");
    pod.value_mut()["status"] = json!({"phase": "Pending", "qosClass": "BestEffort", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient cpu.",
    }]});
    let requests = up_to(&pod, &default_pod());
    assert_eq!(requests.len(), 1);
    let after = applied(default_pod(), &requests);
    assert_eq!(
        after.text("/status/conditions/0/message"),
        Some("no node is available: Insufficient cpu")
    );
    assert_eq!(after.at("/spec/nodeName"), None);
    assert_eq!(up_to(&pod, &after), []);
}

#[test]
fn the_status_of_another_super_pod_reaches_no_bound_pod() {
    let bound = applied(default_pod(), &up_to(&running(), &default_pod()));
    let mut unbound = running();
    unbound.value_mut()["spec"]
        .as_object_mut()
        .unwrap()
        .remove("nodeName");
    assert_eq!(up_to(&unbound, &bound), []);
}

#[test]
fn a_generation_is_shown_once_the_kubelet_has_seen_it() {
    let mut pod = running();
    pod.annotate(GENERATION, "7");
    let shown =
        |pod: &Object| up_to(pod, &default_pod())[1].body["status"]["observedGeneration"].clone();
    assert_eq!(shown(&pod), json!(7));
    pod.value_mut()["metadata"]["generation"] = 2.into();
    assert_eq!(shown(&pod), Value::Null);
}

#[test]
fn only_conditions_of_gates_go_down() {
    let mut pod = default_pod();
    pod.value_mut()["spec"]["readinessGates"] =
        json!([{"conditionType": "own.example/gate"}, {"conditionType": "Ready"}]);
    pod.value_mut()["status"] = json!({"phase": "Running", "podIP": "1.2.3.4", "conditions": [
        {"type": "own.example/gate", "status": "True", "lastProbeTime": null, "observedGeneration": 4},
        {"type": "own.example/other", "status": "True"},
        {"type": "Ready", "status": "True"},
    ]});
    let wanted = json!({"conditions": [{"type": "own.example/gate", "status": "True"}]});
    assert_eq!(down(&pod).at("/status"), Some(&wanted));
}

#[test]
fn ended_pods_are_known() {
    let mut pod = default_pod();
    assert!(!is_finished(&pod));
    for phase in ["Succeeded", "Failed"] {
        pod.value_mut()["status"]["phase"] = phase.into();
        assert!(is_finished(&pod));
    }
}

/// The API server refuses a status that nominates a node for a bound pod, and drops a map that says `$patch: replace`
/// where there was none.
#[test]
fn what_the_api_server_would_refuse_or_drop_is_not_written() {
    let mut pod = running();
    pod.value_mut()["status"]["nominatedNodeName"] = "n1".into();
    pod.value_mut()["status"]["allocatedResources"] = json!({"cpu": "1"});
    let status = &up_to(&pod, &default_pod())[1].body["status"];
    assert_eq!(status["nominatedNodeName"], Value::Null);
    assert_eq!(
        status["allocatedResources"],
        json!({"cpu": "1", "memory": null})
    );
    pod.value_mut()["spec"]["nodeName"] = "".into();
    assert_eq!(
        up_to(&pod, &default_pod())[0].body["status"]["nominatedNodeName"],
        "n1"
    );
}

#[test]
fn a_super_pod_that_somebody_holds_is_told_of_once_it_is_to_end() {
    let mut pod = running();
    pod.value_mut()["metadata"]["finalizers"] =
        serde_json::json!(["foregroundDeletion", "example.com/audit"]);
    assert_eq!(held_up(&pod), None, "nobody asked for its end");
    pod.value_mut()["metadata"]["deletionTimestamp"] = "2026-11-24T08:00:05Z".into();
    let told = held_up(&pod).unwrap();
    assert!(told.message.contains("holds it by example.com/audit:"));
    pod.value_mut()["metadata"]["finalizers"] = serde_json::json!(["foregroundDeletion"]);
    assert_eq!(held_up(&pod), None, "that is Kubernetes' own order");
}
