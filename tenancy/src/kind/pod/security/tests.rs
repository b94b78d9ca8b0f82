use super::*;
use serde_json::json;

/// A container that meets `restricted`, with `change` merged into it.
fn container(change: &Value) -> Value {
    let mut container = json!({"name": "c", "securityContext": {
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    }});
    merge(&mut container, change);
    container
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

fn refusal(spec: &Value, level: PodSecurity) -> String {
    check(spec, level).map_or_else(|refused| refused.message, |()| "allowed".into())
}

/// Changes to a container or pod, and the check that must find them; each alone at `baseline` and at `restricted`.
fn baseline_cases() -> Vec<(&'static str, Value, Value)> {
    let in_container = |reason, change: Value| (reason, change, json!({}));
    let in_pod = |reason, change: Value| (reason, json!({}), change);
    let context = |change: Value| json!({"securityContext": change});
    vec![
        in_pod("host namespaces", json!({"hostNetwork": true})),
        in_pod("host namespaces", json!({"hostPID": true})),
        in_pod("host namespaces", json!({"hostIPC": true})),
        in_pod(
            "forbidden AppArmor profile",
            context(json!({"appArmorProfile": {"type": "Unconfined"}})),
        ),
        in_container(
            "forbidden AppArmor profile",
            context(json!({"appArmorProfile": {"type": "Unconfined"}})),
        ),
        in_pod(
            "seccompProfile",
            context(json!({"seccompProfile": {"type": "Unconfined"}})),
        ),
        in_container(
            "seccompProfile",
            context(json!({"seccompProfile": {"type": "Unconfined"}})),
        ),
        in_pod(
            "seLinuxOptions",
            context(json!({"seLinuxOptions": {"type": "spc_t"}})),
        ),
        in_container(
            "seLinuxOptions",
            context(json!({"seLinuxOptions": {"user": "u"}})),
        ),
        in_container(
            "seLinuxOptions",
            context(json!({"seLinuxOptions": {"role": "r"}})),
        ),
        in_pod(
            "forbidden sysctls",
            context(json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]})),
        ),
        in_pod(
            "hostProcess",
            context(json!({"windowsOptions": {"hostProcess": true}})),
        ),
        in_container(
            "hostProcess",
            context(json!({"windowsOptions": {"hostProcess": true}})),
        ),
        in_container(
            "hostPort",
            json!({"ports": [{"containerPort": 80, "hostPort": 80}]}),
        ),
        in_container("privileged", context(json!({"privileged": true}))),
        in_container("procMount", context(json!({"procMount": "Unmasked"}))),
        in_container(
            "capabilities",
            context(json!({"capabilities": {"add": ["NET_RAW"]}})),
        ),
        in_container(
            "probe or lifecycle host",
            json!({"livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}),
        ),
        in_container(
            "probe or lifecycle host",
            json!({"readinessProbe": {"tcpSocket": {"host": "10.0.0.1"}}}),
        ),
        in_container(
            "probe or lifecycle host",
            json!({"startupProbe": {"httpGet": {"host": "10.0.0.1"}}}),
        ),
        in_container(
            "probe or lifecycle host",
            json!({"lifecycle": {"preStop": {"httpGet": {"host": "10.0.0.1"}}}}),
        ),
        in_container(
            "probe or lifecycle host",
            json!({"lifecycle": {"postStart": {"tcpSocket": {"host": "a"}}}}),
        ),
    ]
}

#[test]
fn each_check_of_baseline_finds_its_violation_in_every_list_of_containers() {
    for (reason, in_container, in_pod) in baseline_cases() {
        for list in containers::LISTS {
            let mut spec = json!({list: [container(&in_container)]});
            merge(&mut spec, &in_pod);
            for level in [PodSecurity::Baseline, PodSecurity::Restricted] {
                let message = refusal(&spec, level);
                assert!(message.contains(reason), "{reason} {list}: {message}");
            }
            assert_eq!(refusal(&spec, PodSecurity::Privileged), "allowed");
        }
    }
}

#[test]
fn each_check_of_restricted_finds_its_violation_in_every_list_of_containers() {
    let context = |change: Value| json!({"securityContext": change});
    for (reason, change) in [
        (
            "allowPrivilegeEscalation != false",
            context(json!({"allowPrivilegeEscalation": null})),
        ),
        (
            "allowPrivilegeEscalation != false",
            context(json!({"allowPrivilegeEscalation": true})),
        ),
        (
            "unrestricted capabilities",
            context(json!({"capabilities": {"drop": ["NET_RAW"]}})),
        ),
        (
            "unrestricted capabilities",
            context(json!({"capabilities": {"add": ["CHOWN"]}})),
        ),
        (
            "runAsNonRoot != true",
            context(json!({"runAsNonRoot": null})),
        ),
        (
            "runAsNonRoot != true",
            context(json!({"runAsNonRoot": false})),
        ),
        ("runAsUser=0", context(json!({"runAsUser": 0}))),
        ("seccompProfile", json!({"securityContext": null})),
    ] {
        for list in containers::LISTS {
            let spec = json!({list: [container(&change)]});
            let message = refusal(&spec, PodSecurity::Restricted);
            assert!(message.contains(reason), "{reason} {list}: {message}");
            assert_eq!(refusal(&spec, PodSecurity::Baseline), "allowed");
        }
    }
}

#[test]
fn what_the_levels_allow() {
    let spec =
        json!({"containers": [container(&json!({}))], "volumes": [{"name": "a", "emptyDir": {}}]});
    assert_eq!(refusal(&spec, PodSecurity::Restricted), "allowed");
    let by_the_pod = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container(&json!({"securityContext": {"runAsNonRoot": null}}))],
    });
    assert_eq!(refusal(&by_the_pod, PodSecurity::Restricted), "allowed");
    let in_user_namespace = json!({"hostUsers": false, "containers": [container(&json!({
        "securityContext": {"runAsUser": 0, "runAsNonRoot": false, "procMount": "Unmasked"},
    }))]});
    assert_eq!(
        refusal(&in_user_namespace, PodSecurity::Baseline),
        "allowed"
    );
    let message = refusal(&in_user_namespace, PodSecurity::Restricted);
    assert!(
        message.contains("procMount") && !message.contains("runAs"),
        "{message}"
    );
    let windows = json!({"os": {"name": "windows"}, "containers": [{"name": "c", "securityContext": {"runAsNonRoot": true}}]});
    assert_eq!(refusal(&windows, PodSecurity::Restricted), "allowed");
}

#[test]
fn every_violation_is_named_as_kubernetes_names_it() {
    let spec = json!({
        "hostNetwork": true,
        "initContainers": [{"name": "a", "securityContext": {"privileged": true}}],
        "containers": [{"name": "b", "ports": [{"hostPort": 12345}, {"hostPort": 12346}]}],
        "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
    });
    assert_eq!(
        refusal(&spec, PodSecurity::Baseline),
        "violates PodSecurity \"baseline\": host namespaces (hostNetwork=true), hostPort (container \"b\" uses hostPorts \
         12345, 12346), privileged (container \"a\" must not set securityContext.privileged=true), hostPath volumes \
         (volume \"v\")"
    );
    assert_eq!(
        refusal(
            &json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            PodSecurity::Restricted
        ),
        "violates PodSecurity \"restricted\": allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"a\", \"b\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"a\", \"b\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
}
