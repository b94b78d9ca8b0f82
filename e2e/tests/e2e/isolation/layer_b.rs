//! Layer B: whatever Sublet's daemons decide, the super cluster refuses what their identities aren't for.
//!
//! The daemons are impersonated with all rights there are, so what refuses is admission and nothing else.

use anyhow::ensure;
use api::keys;
use e2e::{
    kind::{
        ADMISSION_BINDING, CLAIM, CLUSTER_ROLE_BINDING, CONFIG_MAP, CONTROL_PLANE, CRD,
        DISRUPTION_BUDGET, ENDPOINT_SLICE, GROUP, INGRESS, Kind, LEASE, NAMESPACE, NETWORK_POLICY,
        PERSISTENT_VOLUME, POD, RESOURCE_CLAIM, RESOURCE_QUOTA, ROLE, ROLE_BINDING, SECRET,
        SERVICE, SERVICE_ACCOUNT,
    },
    make, oracle,
    read::condition,
    rig::{Rig, Wish, on_rig},
    side::{PatchType, Problem, Side},
    tenant::NAMESPACE_OF_TESTS,
    wait::{SOON, eventually},
};
use http::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

/// Where a control plane's own pods would be.
const CONTROL_PLANE_PLACE: &str = "t0-control-plane";
/// A super namespace that Pod Security lets everything into, so that layer B is alone.
const UNGUARDED: &str = "t0-unguarded";
/// A namespace of the platform.
const FOREIGN: &str = "platform";
/// Of the super cluster's Service range, and of nobody's slice.
const ADDRESS: &str = "10.200.0.77";
/// What the pods that are there wait for.
const GATE: &str = "example.com/ready";

async fn acting(rig: &Rig, daemon: &str) -> anyhow::Result<Side> {
    let kubeconfig = rig.above.admin_kubeconfig();
    let user = format!("system:serviceaccount:{}:{daemon}", api::SYSTEM_NAMESPACE);
    Side::acting(&kubeconfig, &user).await
}

/// What a request is to come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Denied,
    Allowed,
}
use Expect::{Allowed, Denied};

/// One request: what it is, method, path, body, and how it must end.
struct Case(&'static str, Method, String, Value, Expect);

fn create(
    what: &'static str,
    kind: Kind,
    namespace: &str,
    mut body: Value,
    expect: Expect,
) -> Case {
    body["apiVersion"] = kind.api_version.into();
    body["kind"] = kind.name.into();
    let path = kind.path(namespace, "") + "?dryRun=All";
    Case(what, Method::POST, path, body, expect)
}

fn delete(what: &'static str, kind: Kind, namespace: &str, name: &str, expect: Expect) -> Case {
    let path = kind.path(namespace, name) + "?dryRun=All";
    Case(what, Method::DELETE, path, json!({}), expect)
}

fn merge(what: &'static str, path: String, body: Value, expect: Expect) -> Case {
    Case(what, Method::PATCH, path + "?dryRun=All", body, expect)
}

async fn send(side: &Side, method: &Method, path: &str, body: &Value) -> Result<Value, Problem> {
    match *method {
        Method::PATCH => {
            let by = if body.is_array() {
                PatchType::Json
            } else {
                PatchType::Merge
            };
            side.patch(path, by, body.clone()).await
        }
        Method::DELETE => side.request(Method::DELETE, path, None).await,
        _ => side.request(method.clone(), path, Some(body.clone())).await,
    }
}

/// The same request, which changes nothing: streams are asked for into pods that aren't there.
fn only_tried(path: String) -> String {
    match path.contains("dryRun=") || path.contains("/pods/any/") {
        true => path,
        false if path.contains('?') => path + "&dryRun=All",
        false => path + "?dryRun=All",
    }
}

/// Judges what a daemon's identity may do. What it is denied must be possible to somebody else, an admin of the super
/// cluster, or its denial would show nothing.
async fn judge(daemon: &Side, admin: &Side, cases: Vec<Case>) -> anyhow::Result<()> {
    let mut wrong = vec![];
    let count = cases.len();
    for Case(what, method, path, body, expect) in cases {
        let answer = send(daemon, &method, &path, &body).await;
        let denied = answer
            .as_ref()
            .is_err_and(|problem| problem.message.contains("ValidatingAdmissionPolicy"));
        let is_right = match expect {
            Denied => denied,
            Allowed => answer.is_ok(),
        };
        if !is_right {
            wrong.push(format!("{what}: {answer:?}"));
        }
        if expect == Denied {
            let possible = send(admin, &method, &only_tried(path), &body).await;
            // What isn't there, or is there already, is no matter of who asks.
            let is_possible = match &possible {
                Ok(_) => true,
                Err(problem) => matches!(problem.code, 404 | 409),
            };
            if !is_possible {
                wrong.push(format!("{what}, by an admin: {possible:?}"));
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

fn metadata(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}})
}

/// What every container of a tenant says of capabilities.
fn no_raw_sockets() -> Value {
    json!({"capabilities": {"drop": ["NET_RAW"]}})
}

fn super_pod(change: impl FnOnce(&mut Value)) -> Value {
    let mut container = make::idle();
    container["securityContext"] = no_raw_sockets();
    let mut spec = make::pod_spec(container);
    spec["serviceAccountName"] = keys::POD_SERVICE_ACCOUNT.into();
    spec["automountServiceAccountToken"] = false.into();
    spec["dnsPolicy"] = "Default".into();
    let mut pod = json!({"metadata": {"name": "attack"}, "spec": spec});
    change(&mut pod);
    pod
}

/// A pod that says how large it is and what it waits for.
fn pod_that_is_there(namespace: &str, name: &str) -> Value {
    let mut pod = super_pod(|pod| {
        pod["spec"]["readinessGates"] = json!([{"conditionType": GATE}]);
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    });
    pod["metadata"] = json!({"name": name, "namespace": namespace});
    pod
}

/// What the syncer writes to pods by their `resize` and their `status`, and what it must not (T37, T38).
fn other_doors() -> Vec<Case> {
    let resize = |what, namespace: &str, name: &str, expect| {
        let mut container = make::idle();
        container["resources"] = json!({"requests": {"cpu": "200m"}});
        let body = json!({"spec": {"containers": [container]}});
        merge(what, POD.path(namespace, name) + "/resize", body, expect)
    };
    let status = |what, namespace: &str, body: Value, expect| {
        merge(what, POD.path(namespace, "web") + "/status", body, expect)
    };
    let opens = || json!([{"op": "add", "path": "/status/conditions/-", "value": {"type": GATE, "status": "True"}}]);
    let hides = json!([{"op": "replace", "path": "/status/conditions/0/status", "value": "False"}]);
    let address = json!({"podIP": "10.99.0.66", "podIPs": [{"ip": "10.99.0.66"}]});
    let labelled = json!({"labels": {"sidecar.istio.io/inject": "true"}});
    let held = json!({"finalizers": ["example.com/hold"]});
    let own = UNGUARDED;
    vec![
        resize("a resize", own, "web", Allowed),
        resize(
            "T38 a resize of what the platform put there",
            own,
            "platforms",
            Denied,
        ),
        resize(
            "T38 a resize of a control plane's pod",
            CONTROL_PLANE_PLACE,
            "web",
            Denied,
        ),
        resize("T38 a resize of the platform's pod", FOREIGN, "web", Denied),
        status("a readiness gate that opens", own, opens(), Allowed),
        status("T37 a condition of the kubelet's", own, hides, Denied),
        status(
            "T37 an address of a pod",
            own,
            json!({"status": address}),
            Denied,
        ),
        status(
            "T37 that a pod has ended",
            own,
            json!({"status": {"phase": "Succeeded"}}),
            Denied,
        ),
        status(
            "T4 a label by the status",
            own,
            json!({"metadata": labelled}),
            Denied,
        ),
        status(
            "T26 a finalizer by the status",
            own,
            json!({"metadata": held}),
            Denied,
        ),
        status(
            "T37 the status of a control plane's pod",
            CONTROL_PLANE_PLACE,
            opens(),
            Denied,
        ),
        status(
            "T37 the status of the platform's pod",
            FOREIGN,
            opens(),
            Denied,
        ),
    ]
}

/// A Service that says which address it has.
fn addressed(mut service: Value) -> Value {
    service["spec"]["clusterIP"] = ADDRESS.into();
    service
}

/// Objects of groups beside the core one.
fn ingress() -> Value {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}})
}

fn budget() -> Value {
    json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}})
}

fn devices() -> Value {
    let request = json!({"name": "one", "exactly": {"deviceClassName": "gpu"}});
    json!({"metadata": {"name": "d"}, "spec": {"devices": {"requests": [request]}}})
}

fn slice(family: &str, endpoints: Value) -> Value {
    json!({"metadata": {"name": "e"}, "addressType": family, "endpoints": endpoints, "ports": []})
}

/// Pods that must not be, by what is wrong with them.
fn bad_pods() -> Vec<(&'static str, Value)> {
    let container = |field: &str, value: Value| {
        let field = field.to_owned();
        super_pod(move |pod| pod["spec"]["containers"][0][field] = value)
    };
    let spec = |field: &str, value: Value| {
        let field = field.to_owned();
        super_pod(move |pod| pod["spec"][field] = value)
    };
    let volume = |source: Value| spec("volumes", json!([source]));
    let init = json!([{"name": "i", "image": "i", "securityContext": {"privileged": true}}]);
    vec![
        ("T5 the node's network", spec("hostNetwork", true.into())),
        ("T5 the node's processes", spec("hostPID", true.into())),
        ("T5 the node's IPC", spec("hostIPC", true.into())),
        (
            "T6 a path of the node",
            volume(json!({"name": "v", "hostPath": {"path": "/"}})),
        ),
        (
            "T6 a repository",
            volume(json!({"name": "v", "gitRepo": {"repository": "r"}})),
        ),
        (
            "T7 privileged",
            container("securityContext", json!({"privileged": true})),
        ),
        ("T7 privileged at first", spec("initContainers", init)),
        (
            "T7 a capability",
            container(
                "securityContext",
                json!({"capabilities": {"add": ["SYS_ADMIN"]}}),
            ),
        ),
        (
            "T45 raw sockets",
            container(
                "securityContext",
                json!({"capabilities": {"drop": ["KILL"]}}),
            ),
        ),
        (
            "T7 a level of SELinux",
            container(
                "securityContext",
                json!({"seLinuxOptions": {"level": "s0:c1,c2"}}),
            ),
        ),
        (
            "T7 a level of SELinux for all",
            spec(
                "securityContext",
                json!({"seLinuxOptions": {"level": "s0:c1,c2"}}),
            ),
        ),
        (
            "T8 a port of the node",
            container("ports", json!([{"containerPort": 80, "hostPort": 80}])),
        ),
        (
            "T6 a share of the network",
            volume(json!({"name": "v", "nfs": {"server": "192.0.2.9", "path": "/"}})),
        ),
        ("T9 a chosen node", spec("nodeName", "rig-node".into())),
        (
            "T10 a toleration of all taints",
            spec("tolerations", json!([{"operator": "Exists"}])),
        ),
        (
            "T10 a toleration of nodes that are out of service",
            spec(
                "tolerations",
                json!([{"key": "node.kubernetes.io/out-of-service", "operator": "Exists", "effect": "NoExecute"}]),
            ),
        ),
        (
            "T10 a toleration of nodes under pressure, whatever it is",
            spec(
                "tolerations",
                json!([{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]),
            ),
        ),
        (
            "T12 affinity to pods of others",
            spec(
                "affinity",
                json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {}}},
                ]}}),
            ),
        ),
        (
            "T13 another scheduler",
            spec("schedulerName", "other".into()),
        ),
        (
            "T21 a CSI volume",
            volume(json!({"name": "v", "csi": {"driver": "csi.example.com"}})),
        ),
        (
            "T4 a label of Kubernetes'",
            super_pod(|pod| pod["metadata"]["labels"] = json!({"a.k8s.io/b": "c"})),
        ),
        (
            "T4 a label of a project beside it",
            super_pod(|pod| pod["metadata"]["labels"] = json!({"kueue.x-k8s.io/queue-name": "q"})),
        ),
        (
            "T4 a label that asks for a sidecar",
            super_pod(|pod| {
                pod["metadata"]["labels"] = json!({"sidecar.istio.io/inject": "true"});
            }),
        ),
        (
            "T44 the super cluster's DNS server",
            spec("dnsPolicy", "ClusterFirst".into()),
        ),
        (
            "T11 a system priority",
            spec("priorityClassName", "system-node-critical".into()),
        ),
        (
            "T23 another account",
            spec("serviceAccountName", "default".into()),
        ),
        (
            "T23 the account's token",
            spec("automountServiceAccountToken", true.into()),
        ),
        (
            "T23 a token as a volume",
            volume(
                json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
            ),
        ),
    ]
}

#[test]
fn the_syncers_identity_is_held_to_super_namespaces_and_harmless_objects() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        guest.namespace("work").await?;
        let pod = json!({"metadata": {"name": "web", "namespace": "work"}, "spec": make::pod_spec(make::idle())});
        guest.side.create(POD, pod).await?;
        let twin = guest.twin("work");
        eventually(SOON, "the pod crosses", async || {
            Ok(rig.side.get(POD, &twin, "web").await?)
        })
        .await?;
        let managed = json!({keys::MANAGED: "true", keys::TENANT: guest.id.as_str(), "pod-security.kubernetes.io/enforce": "baseline"});
        let mut of_control_plane = managed.clone();
        of_control_plane[keys::ROLE] = keys::ROLE_CONTROL_PLANE.into();
        rig.side
            .create(NAMESPACE, metadata(FOREIGN, json!({})))
            .await?;
        rig.side
            .create(
                NAMESPACE,
                metadata(CONTROL_PLANE_PLACE, of_control_plane.clone()),
            )
            .await?;
        let mut unguarded = managed.clone();
        unguarded["pod-security.kubernetes.io/enforce"] = "privileged".into();
        let mut unguarded = metadata(UNGUARDED, unguarded);
        let holder = format!("{NAMESPACE_OF_TESTS}/{}", guest.name);
        unguarded["metadata"]["annotations"] = json!({keys::CONTROL_PLANE: holder});
        rig.side.create(NAMESPACE, unguarded).await?;
        for place in [UNGUARDED, CONTROL_PLANE_PLACE, FOREIGN] {
            let mut account = metadata(keys::POD_SERVICE_ACCOUNT, json!({}));
            account["metadata"]["namespace"] = place.into();
            rig.side.create(SERVICE_ACCOUNT, account).await?;
            rig.side
                .create(POD, pod_that_is_there(place, "web"))
                .await?;
            eventually(SOON, "the pod runs", async || {
                let pod = rig.side.get(POD, place, "web").await?;
                ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
                Ok(())
            })
            .await?;
        }
        let mut platforms = pod_that_is_there(UNGUARDED, "platforms");
        platforms["spec"]["hostPID"] = true.into();
        rig.side.create(POD, platforms).await?;
        let group = json!({"metadata": {"name": "g"}, "spec": {"namespaces": ["nobodys"], "quota": {"pods": "1"}}});
        rig.side.create(GROUP, group).await?;
        let syncer = acting(rig, "sublet-syncer").await?;

        let map = || make::config_map("m", "k", "v");
        let quota = || json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}});
        let mut loose = managed.clone();
        loose["pod-security.kubernetes.io/enforce"] = "privileged".into();
        let binding = |role: &str, account: &str, namespace: &str| {
            json!({
                "metadata": {"name": "b"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            })
        };
        let owned = |mut object: Value, kind: &str, version: &str| {
            object["metadata"]["ownerReferences"] =
                json!([{"apiVersion": version, "kind": kind, "name": "o", "uid": "u"}]);
            object
        };
        let secret = || json!({"metadata": {"name": "s"}});
        let closed = || json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}}});
        let service = |field: &str, value: Value| {
            let mut service = addressed(make::service("s"));
            service["spec"][field] = value;
            service
        };
        let claim = |more: Value| {
            let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "resources": {"requests": {"storage": "1Gi"}}});
            for (field, value) in more.as_object().into_iter().flatten() {
                spec[field] = value.clone();
            }
            json!({"metadata": {"name": "c"}, "spec": spec})
        };
        let mut there = make::service("there");
        there["metadata"]["namespace"] = twin.as_str().into();
        // Only the status of such a Service may name an address at all.
        there["spec"]["type"] = "LoadBalancer".into();
        rig.side.create(SERVICE, there).await?;
        let mut inside = make::service("inside");
        inside["metadata"]["namespace"] = twin.as_str().into();
        rig.side.create(SERVICE, inside).await?;
        let balancer = |more: Value| {
            let mut spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
            json_patch::merge(&mut spec, &more);
            json!({"metadata": {"name": "b"}, "spec": spec})
        };
        let system = api::SYSTEM_NAMESPACE;
        let mut cases = vec![
            // Where.
            create("an object of a tenant", CONFIG_MAP, &twin, map(), Allowed),
            create(
                "T36 an object of the platform",
                CONFIG_MAP,
                FOREIGN,
                map(),
                Denied,
            ),
            create("a tenant's limits", RESOURCE_QUOTA, &twin, quota(), Allowed),
            create(
                "T43 limits of the platform",
                RESOURCE_QUOTA,
                FOREIGN,
                quota(),
                Denied,
            ),
            create(
                "T36 a Secret of the platform",
                SECRET,
                "kube-system",
                json!({"metadata": {"name": "s"}}),
                Denied,
            ),
            create("an object of Sublet", CONFIG_MAP, system, map(), Denied),
            create(
                "an object of a control plane",
                CONFIG_MAP,
                CONTROL_PLANE_PLACE,
                map(),
                Denied,
            ),
            create(
                "a Lease of Sublet",
                LEASE,
                system,
                json!({"metadata": {"name": "l"}, "spec": {}}),
                Allowed,
            ),
            create(
                "a Lease of the platform",
                LEASE,
                "kube-system",
                json!({"metadata": {"name": "l"}, "spec": {}}),
                Denied,
            ),
            create(
                "T36 a volume",
                PERSISTENT_VOLUME,
                "",
                json!({"metadata": {"name": "v"}, "spec": {
                    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/"},
                }}),
                Denied,
            ),
            create(
                "T36 rights everywhere",
                CLUSTER_ROLE_BINDING,
                "",
                binding("cluster-admin", "sublet-syncer", system),
                Denied,
            ),
            delete(
                "T36 a definition",
                CRD,
                "",
                "virtualcontrolplanes.sublet.dev",
                Denied,
            ),
            merge(
                "a VirtualControlPlane",
                CONTROL_PLANE.path(NAMESPACE_OF_TESTS, &guest.name),
                json!({"spec": {"paused": true}}),
                Denied,
            ),
            merge(
                "the status of a VirtualControlPlane",
                CONTROL_PLANE.path(NAMESPACE_OF_TESTS, &guest.name) + "/status",
                json!({"status": {"message": "m"}}),
                Allowed,
            ),
            merge(
                "T43 the budget of a group",
                GROUP.path("", "g"),
                json!({"spec": {"quota": {"pods": "1000"}}}),
                Denied,
            ),
            merge(
                "the status of a group",
                GROUP.path("", "g") + "/status",
                json!({"status": {"shares": {}}}),
                Allowed,
            ),
            // Namespaces (T27).
            create(
                "a super namespace",
                NAMESPACE,
                "",
                metadata("n", managed.clone()),
                Allowed,
            ),
            create(
                "a namespace without the label",
                NAMESPACE,
                "",
                metadata("n", json!({})),
                Denied,
            ),
            create(
                "a namespace of a control plane",
                NAMESPACE,
                "",
                metadata("n", of_control_plane),
                Denied,
            ),
            create(
                "a privileged namespace",
                NAMESPACE,
                "",
                metadata("n", loose),
                Denied,
            ),
            merge(
                "a namespace of the platform",
                NAMESPACE.path("", FOREIGN),
                json!({"metadata": {"labels": managed}}),
                Denied,
            ),
            merge(
                "T27 the status of a namespace",
                NAMESPACE.path("", &twin) + "/status",
                json!({"metadata": {"labels": {"a": "b"}}}),
                Denied,
            ),
            merge(
                "a namespace to another tenant",
                NAMESPACE.path("", &twin),
                json!({"metadata": {"labels": {keys::TENANT: "other"}}}),
                Denied,
            ),
            merge(
                "a namespace out of control",
                NAMESPACE.path("", &twin),
                json!({"metadata": {"labels": {keys::MANAGED: null}}}),
                Denied,
            ),
            delete(
                "a namespace of the platform",
                NAMESPACE,
                "",
                FOREIGN,
                Denied,
            ),
            delete("a super namespace", NAMESPACE, "", &twin, Allowed),
            Case(
                "T27 the end of a namespace",
                Method::PUT,
                NAMESPACE.path("", &twin) + "/finalize?dryRun=All",
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": twin}, "spec": {"finalizers": []}}),
                Denied,
            ),
            // Rights.
            create(
                "Sublet's own binding",
                ROLE_BINDING,
                &twin,
                binding("sublet-syncer-namespace", "sublet-syncer", system),
                Allowed,
            ),
            create(
                "rights of an admin",
                ROLE_BINDING,
                &twin,
                binding("cluster-admin", "sublet-syncer", system),
                Denied,
            ),
            create(
                "rights for another",
                ROLE_BINDING,
                &twin,
                binding("sublet-syncer-namespace", "sublet-pod", &twin),
                Denied,
            ),
            create(
                "a role",
                ROLE,
                &twin,
                json!({"metadata": {"name": "r"}, "rules": []}),
                Denied,
            ),
            delete("a binding", ROLE_BINDING, &twin, "sublet-syncer", Denied),
            create(
                "another account",
                SERVICE_ACCOUNT,
                &twin,
                json!({"metadata": {"name": "a"}}),
                Denied,
            ),
            Case(
                "T23 a token of the super cluster",
                Method::POST,
                SERVICE_ACCOUNT.path(&twin, keys::POD_SERVICE_ACCOUNT) + "/token",
                json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}),
                Denied,
            ),
            // Services.
            create(
                "a Service",
                SERVICE,
                &twin,
                addressed(make::service("s")),
                Allowed,
            ),
            create(
                "a Service without an address",
                SERVICE,
                &twin,
                service("clusterIP", "None".into()),
                Allowed,
            ),
            create(
                "T14 a Service to which the super cluster gives an address",
                SERVICE,
                &twin,
                make::service("s"),
                Denied,
            ),
            create(
                "T14 an external IP",
                SERVICE,
                &twin,
                service("externalIPs", json!(["192.0.2.1"])),
                Denied,
            ),
            create(
                "T18 an external name",
                SERVICE,
                &twin,
                json!({"metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": "example.com"}}),
                Denied,
            ),
            create(
                "T15 a load balancer's address",
                SERVICE,
                &twin,
                addressed(json!({"metadata": {"name": "s"},
                    "spec": {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1", "ports": [{"port": 80}]}})),
                Denied,
            ),
            create(
                "a load balancer whose checks have a port",
                SERVICE,
                &twin,
                addressed(balancer(json!({}))),
                Allowed,
            ),
            create(
                "T15 a port for a load balancer's checks",
                SERVICE,
                &twin,
                addressed(balancer(json!({"healthCheckNodePort": 32_123}))),
                Denied,
            ),
            merge(
                "a Service that becomes a load balancer whose checks have a port",
                SERVICE.path(&twin, "inside"),
                json!({"spec": balancer(json!({}))["spec"]}),
                Allowed,
            ),
            merge(
                "T15 a port for a load balancer's checks, later",
                SERVICE.path(&twin, "inside"),
                json!({"spec": balancer(json!({"healthCheckNodePort": 32_124}))["spec"]}),
                Denied,
            ),
            merge(
                "T15 the status of a Service",
                SERVICE.path(&twin, "there") + "/status",
                json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}),
                Denied,
            ),
            create(
                "endpoints",
                ENDPOINT_SLICE,
                &twin,
                slice("IPv4", json!([{"addresses": ["10.1.0.5"]}])),
                Allowed,
            ),
            create(
                "no endpoints",
                ENDPOINT_SLICE,
                &twin,
                slice("IPv6", Value::Null),
                Allowed,
            ),
            create(
                "T17 a name as an endpoint",
                ENDPOINT_SLICE,
                &twin,
                slice("FQDN", json!([{"addresses": ["victim.example.com"]}])),
                Denied,
            ),
            create(
                "T17 a cloud's metadata service as an endpoint",
                ENDPOINT_SLICE,
                &twin,
                slice("IPv4", json!([{"addresses": ["100.100.100.200"]}])),
                Denied,
            ),
            create(
                "T17 a cloud's metadata service as an endpoint, by IPv6",
                ENDPOINT_SLICE,
                &twin,
                slice("IPv6", json!([{"addresses": ["fd00:ec2::254"]}])),
                Denied,
            ),
            // Claims.
            create("a claim", CLAIM, &twin, claim(json!({})), Allowed),
            create(
                "T20 a volume by its name",
                CLAIM,
                &twin,
                claim(json!({"volumeName": "v"})),
                Denied,
            ),
            create(
                "T20 a volume by its labels",
                CLAIM,
                &twin,
                claim(json!({"selector": {}})),
                Denied,
            ),
            // Owners (T25).
            create(
                "T25 owned by a Deployment",
                CONFIG_MAP,
                &twin,
                owned(map(), "Deployment", "apps/v1"),
                Denied,
            ),
            create(
                "T25 owned by a Node",
                CONFIG_MAP,
                &twin,
                owned(map(), "Node", "v1"),
                Denied,
            ),
            create(
                "T25 a ConfigMap that is owned by a pod",
                CONFIG_MAP,
                &twin,
                owned(map(), "Pod", "v1"),
                Denied,
            ),
            create(
                "a token that is owned by its pod",
                SECRET,
                &twin,
                owned(secret(), "Pod", "v1"),
                Allowed,
            ),
            create(
                "a policy that is owned by its Service",
                NETWORK_POLICY,
                &twin,
                owned(closed(), "Service", "v1"),
                Allowed,
            ),
            create(
                "T25 a policy that is owned by a pod",
                NETWORK_POLICY,
                &twin,
                owned(closed(), "Pod", "v1"),
                Denied,
            ),
            // Finalizers (T26), and whose an object is (T3).
            create(
                "T26 a finalizer",
                CONFIG_MAP,
                &twin,
                json!({"metadata": {"name": "m", "finalizers": ["example.com/hold"]}}),
                Denied,
            ),
            merge(
                "T26 a finalizer that comes later",
                POD.path(&twin, "web"),
                json!({"metadata": {"finalizers": ["example.com/hold"]}}),
                Denied,
            ),
            create(
                "T3 the mark of another tenant",
                CONFIG_MAP,
                &twin,
                metadata("m", json!({keys::TENANT: "victim"})),
                Denied,
            ),
            // Labels that steer (T4).
            create(
                "labels that selectors need",
                CONFIG_MAP,
                &twin,
                metadata(
                    "m",
                    json!({
                        "app.kubernetes.io/name": "m", "example.com/a": "b",
                        "label.sublet.dev/hmmw7veqppw7khbqsduygxzppq": "c",
                    }),
                ),
                Allowed,
            ),
            create(
                "T4 a label of Kubernetes'",
                CONFIG_MAP,
                &twin,
                metadata("m", json!({"node.kubernetes.io/a": "b"})),
                Denied,
            ),
            merge(
                "T4 a label that asks for a sidecar, later",
                POD.path(&twin, "web"),
                json!({"metadata": {"labels": {"sidecar.istio.io/inject": "true"}}}),
                Denied,
            ),
            // Pods, and their other ways in (T38).
            create("a pod", POD, &twin, super_pod(|_| {}), Allowed),
            merge(
                "T38 a privileged ephemeral container",
                POD.path(UNGUARDED, "web") + "/ephemeralcontainers",
                json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i", "securityContext": {"privileged": true}}]}}),
                Denied,
            ),
            merge(
                "T38 an ephemeral container",
                POD.path(UNGUARDED, "web") + "/ephemeralcontainers",
                json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i", "securityContext": no_raw_sockets()}]}}),
                Allowed,
            ),
            merge(
                "a pod's label",
                POD.path(&twin, "web"),
                json!({"metadata": {"labels": {"a": "b"}}}),
                Allowed,
            ),
        ];
        let policy = |direction: &str, rule: Value| json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, direction: [rule]}});
        let bucket =
            json!({"resource": {"apiGroup": "example.com", "kind": "Bucket", "name": "b"}});
        let own = json!({"namespaceSelector": {"matchLabels": {keys::TENANT: guest.id.as_str()}}});
        let named =
            json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["any"]});
        let nobodys = json!({"key": keys::TENANT, "operator": "DoesNotExist"});
        let platforms = json!({"namespaceSelector": {"matchExpressions": [named, nobodys]}});
        let by_name = json!({"namespaceSelector": {"matchExpressions": [named]}});
        let except = json!([
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
        ]);
        let world = json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": except}});
        let but_metadata = json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}});
        let driver = json!([{"opaque": {"driver": "gpu.example.com", "parameters": {}}}]);
        let mut told = devices();
        told["spec"]["devices"]["config"] = driver;
        for (what, kind, object, expect) in [
            (
                "a policy within the tenant",
                NETWORK_POLICY,
                policy("ingress", json!({"from": [own, platforms, world]})),
                Allowed,
            ),
            (
                "T45 a policy that lets a namespace in by its name",
                NETWORK_POLICY,
                policy("ingress", json!({"from": [by_name]})),
                Denied,
            ),
            (
                "T45 a policy that lets pods into a namespace by its name",
                NETWORK_POLICY,
                policy("egress", json!({"to": [by_name]})),
                Denied,
            ),
            (
                "T45 a policy that lets private addresses in",
                NETWORK_POLICY,
                policy(
                    "ingress",
                    json!({"from": [{"ipBlock": {"cidr": "10.244.0.0/16"}}]}),
                ),
                Denied,
            ),
            (
                "T45 a policy that opens all addresses but the metadata service's",
                NETWORK_POLICY,
                policy("egress", json!({"to": [but_metadata]})),
                Denied,
            ),
            (
                "T45 a policy that lets all namespaces in",
                NETWORK_POLICY,
                policy("ingress", json!({"from": [{"namespaceSelector": {}}]})),
                Denied,
            ),
            (
                "T45 a policy that lets pods go anywhere",
                NETWORK_POLICY,
                policy("egress", json!({})),
                Denied,
            ),
            (
                "T45 a policy that opens the metadata service",
                NETWORK_POLICY,
                policy(
                    "egress",
                    json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
                ),
                Denied,
            ),
            (
                "T19 an Ingress that leads to something of a controller's",
                INGRESS,
                json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": bucket}}),
                Denied,
            ),
            (
                "T21 parameters for a driver of devices",
                RESOURCE_CLAIM,
                told,
                Denied,
            ),
        ] {
            cases.push(create(what, kind, &twin, object, expect));
        }
        for (what, kind, mut object) in [
            (
                "a NetworkPolicy, T26 with a finalizer",
                NETWORK_POLICY,
                closed(),
            ),
            ("an Ingress, T26 with a finalizer", INGRESS, ingress()),
            (
                "a budget, T26 with a finalizer",
                DISRUPTION_BUDGET,
                budget(),
            ),
            (
                "a claim of devices, T26 with a finalizer",
                RESOURCE_CLAIM,
                devices(),
            ),
        ] {
            cases.push(create(what, kind, &twin, object.clone(), Allowed));
            object["metadata"]["finalizers"] = json!(["example.com/hold"]);
            cases.push(create(what, kind, &twin, object, Denied));
        }
        for (what, pod) in bad_pods() {
            cases.push(create(what, POD, UNGUARDED, pod, Denied));
        }
        cases.extend(other_doors());
        judge(&syncer, &rig.side, cases).await?;

        // A tenant that an admin trusts may have them; the syncer can't say so itself.
        let trust = json!({"data": {guest.id.as_str(): holder}});
        let path = CONFIG_MAP.path(system, "sublet-trusted-tenants");
        let own = vec![merge(
            "trust of its own making",
            path,
            trust.clone(),
            Denied,
        )];
        judge(&syncer, &rig.side, own).await?;
        rig.side
            .merge(CONFIG_MAP, system, "sublet-trusted-tenants", trust)
            .await?;
        eventually(
            SOON,
            "a trusted tenant's pod may be privileged",
            async || {
                let privileged = super_pod(|pod| pod["spec"]["hostPID"] = true.into());
                judge(
                    &syncer,
                    &rig.side,
                    vec![create("a trusted pod", POD, UNGUARDED, privileged, Allowed)],
                )
                .await
            },
        )
        .await
    });
}

#[test]
fn the_managers_and_the_proxys_identities_are_held_too() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        let twin = rig.twin_of(0, "work").await?;
        let labels = json!({keys::MANAGED: "true", keys::TENANT: guest.id.as_str(), keys::ROLE: keys::ROLE_CONTROL_PLANE});
        rig.side
            .create(NAMESPACE, metadata(CONTROL_PLANE_PLACE, labels.clone()))
            .await?;
        rig.side
            .create(NAMESPACE, metadata(FOREIGN, json!({})))
            .await?;
        let map = || make::config_map("m", "k", "v");
        let secret = |labels: Value| metadata("s", labels);
        let binding = |role: &str| {
            json!({
                "metadata": {"name": "b"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": "sublet-manager", "namespace": api::SYSTEM_NAMESPACE}],
            })
        };
        let manager = acting(rig, "sublet-manager").await?;
        let own = json!({keys::TENANT: guest.id.as_str()});
        judge(
            &manager,
            &rig.side,
            vec![
                create(
                    "an object of a control plane",
                    CONFIG_MAP,
                    CONTROL_PLANE_PLACE,
                    map(),
                    Allowed,
                ),
                create(
                    "a namespace of a control plane",
                    NAMESPACE,
                    "",
                    metadata("n", labels),
                    Allowed,
                ),
                create(
                    "a kubeconfig",
                    SECRET,
                    NAMESPACE_OF_TESTS,
                    secret(own),
                    Allowed,
                ),
                create(
                    "its own binding",
                    ROLE_BINDING,
                    NAMESPACE_OF_TESTS,
                    binding("sublet-manager-kubeconfig"),
                    Allowed,
                ),
                create(
                    "its own binding to control planes",
                    ROLE_BINDING,
                    CONTROL_PLANE_PLACE,
                    binding("sublet-manager-control-plane"),
                    Allowed,
                ),
                create(
                    "rights on a tenant's Secrets",
                    ROLE_BINDING,
                    &twin,
                    binding("sublet-manager-kubeconfig"),
                    Denied,
                ),
                create(
                    "rights on the platform's Secrets",
                    ROLE_BINDING,
                    "kube-system",
                    binding("sublet-manager-kubeconfig"),
                    Denied,
                ),
                create(
                    "rights on Sublet's own Secrets",
                    ROLE_BINDING,
                    api::SYSTEM_NAMESPACE,
                    binding("sublet-manager-kubeconfig"),
                    Denied,
                ),
                create(
                    "rights of a control plane beside it",
                    ROLE_BINDING,
                    NAMESPACE_OF_TESTS,
                    binding("sublet-manager-control-plane"),
                    Denied,
                ),
                create("a claim", CONFIG_MAP, api::SYSTEM_NAMESPACE, map(), Allowed),
                create("an object of a tenant", CONFIG_MAP, &twin, map(), Denied),
                create(
                    "an object of the platform",
                    CONFIG_MAP,
                    "kube-system",
                    map(),
                    Denied,
                ),
                create(
                    "a Secret of the platform",
                    SECRET,
                    "kube-system",
                    secret(json!({})),
                    Denied,
                ),
                create(
                    "rights of an admin",
                    ROLE_BINDING,
                    NAMESPACE_OF_TESTS,
                    binding("cluster-admin"),
                    Denied,
                ),
                create(
                    "a namespace of the platform",
                    NAMESPACE,
                    "",
                    metadata("n", json!({})),
                    Denied,
                ),
                delete("a super namespace", NAMESPACE, "", &twin, Allowed),
                delete(
                    "a namespace of the platform",
                    NAMESPACE,
                    "",
                    FOREIGN,
                    Denied,
                ),
                create(
                    "rights everywhere",
                    CLUSTER_ROLE_BINDING,
                    "",
                    binding("cluster-admin"),
                    Denied,
                ),
            ],
        )
        .await?;
        let proxy = acting(rig, "sublet-apiserver-proxy").await?;
        let visits = format!(
            "/api/v1/namespaces/{}/configmaps/{}",
            api::SYSTEM_NAMESPACE,
            api::keys::VISITS
        );
        judge(
            &proxy,
            &rig.side,
            vec![
                create("an object of a tenant", CONFIG_MAP, &twin, map(), Denied),
                create(
                    "an object of Sublet",
                    CONFIG_MAP,
                    api::SYSTEM_NAMESPACE,
                    map(),
                    Denied,
                ),
                Case(
                    "T40 who was visited at the front door",
                    Method::PATCH,
                    visits.clone(),
                    json!({"data": {"a": "1"}}),
                    Allowed,
                ),
                Case(
                    "another object of Sublet",
                    Method::PATCH,
                    visits.replace("sublet-visits", "sublet-trusted-tenants"),
                    json!({"data": {"a": "1"}}),
                    Denied,
                ),
                Case(
                    "T32 a stream into a pod of the platform",
                    Method::POST,
                    "/api/v1/namespaces/kube-system/pods/any/exec?command=sh&stdout=true".into(),
                    json!({}),
                    Denied,
                ),
            ],
        )
        .await
    });
}

#[test]
fn a_syncer_without_its_admission_policies_writes_nothing() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        let twin = rig.twin_of(0, "work").await?;
        // From here on the syncer waits for something to do.
        oracle::calm::nothing_is_written(rig).await?;
        let name = "sublet-syncer-pods";
        let binding = rig.side.get(ADMISSION_BINDING, "", name).await?;
        rig.side.delete(ADMISSION_BINDING, "", name).await?;
        eventually(SOON, "the syncer says that it has stopped", async || {
            let vcp = rig.vcp(0).await?;
            let said = vcp["status"]["conditions"].to_string();
            ensure!(
                condition(&vcp, "Synced") == "False"
                    && said.contains("AdmissionPoliciesMissing")
                    && said.contains(name),
                "{said}"
            );
            Ok(())
        })
        .await?;
        drop(rig.proxy.take_trace());
        let idle = json!({"metadata": {"name": "late"}, "spec": make::pod_spec(make::idle())});
        let late = [
            (CONFIG_MAP, make::config_map("late", "k", "v")),
            (SERVICE, make::service("late")),
            (POD, idle),
        ];
        for (kind, mut object) in late.clone() {
            object["metadata"]["namespace"] = "work".into();
            guest.side.create(kind, object).await?;
        }
        let mut told = BTreeSet::new();
        eventually(SOON, "the syncer is told of all", async || {
            let trace = guest.proxy.take_trace().into_iter();
            let news = trace.filter(|it| it.asked.verb == "ADDED" && it.asked.name == "late");
            told.extend(news.map(|it| it.asked.resource));
            ensure!(told.len() == late.len(), "{told:?}");
            Ok(())
        })
        .await?;
        // One that would write does so in moments.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let status = format!("{}/status", CONTROL_PLANE.plural);
        let mut written = rig.proxy.take_trace();
        written.retain(|it| {
            let asked = &it.asked;
            asked.is_write() && !oracle::calm::is_mark(asked) && asked.resource != status
        });
        ensure!(written.is_empty(), "the syncer wrote: {written:?}");
        let mut again =
            json!({"metadata": {"name": name, "labels": binding["metadata"]["labels"]}});
        again["spec"] = binding["spec"].clone();
        rig.side.create(ADMISSION_BINDING, again).await?;
        rig.synced(0).await?;
        eventually(SOON, "what waited goes down", async || {
            for (kind, _) in &late {
                rig.side.get(*kind, &twin, "late").await?;
            }
            Ok(())
        })
        .await?;
        oracle::all(rig).await
    });
}
