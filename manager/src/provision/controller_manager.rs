//! The tenant's controller-manager, without the controllers whose work is the super cluster's.

use super::{
    Addresses, apiserver, metadata,
    pod::{self, CONFIG_DIR, Part, Source, Spread},
    selector,
};
use crate::{
    object::{CONFIG_MAP, DEPLOYMENT, Object},
    spec::control_plane::ControlPlane,
};
use serde_json::json;

/// Name of the part and its Deployment.
pub(crate) const NAME: &str = "kube-controller-manager";
/// User of its client certificate.
pub(crate) const USER: &str = "system:kube-controller-manager";

const PORT: u16 = 10257;

/// Nodes, volumes and load balancers are the super cluster's, and a pod without a node there may have one here.
///
/// Those that need a cloud provider (`service-lb-controller` and its like) run nowhere without one, and aren't named: since
/// 1.37 nobody knows them, and a name that isn't known ends the process.
const WITHOUT: [&str; 9] = [
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "device-taint-eviction-controller",
    "node-ipam-controller",
    "ttl-controller",
    "pod-garbage-collector-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-attach-detach-controller",
    "persistentvolume-expander-controller",
];

/// The kubeconfig and the Deployment.
pub(crate) fn objects(cp: &ControlPlane, addresses: &Addresses, digest: &str) -> Vec<Object> {
    let config = config(cp, addresses);
    let files = tenancy::naming::hash(&[
        digest.as_bytes(),
        config.body["data"].to_string().as_bytes(),
    ]);
    let part = Part {
        name: NAME,
        image: &cp.images.kube_controller_manager,
        command: command(cp),
        // One tenant's controllers don't need a second core, and threads that look for work on others wake for nothing:
        // measured, a quarter of its CPU at the start and when idle.
        env: vec![("GOGC", "50"), ("GOMAXPROCS", "1")],
        ports: vec![("https", PORT)],
        startup: pod::http("HTTPS", "https", "/healthz"),
        readiness: None,
        liveness: pod::http("HTTPS", "https", "/healthz"),
        resources: &cp.pods.resources.kube_controller_manager,
        default_requests: [("cpu", "50m"), ("memory", "64Mi")],
        files: vec![
            Source::Secret("ca", "tls.crt", "ca.crt"),
            Source::Secret("ca", "tls.key", "ca.key"),
            Source::Secret("controller-manager", "tls.crt", "client.crt"),
            Source::Secret("controller-manager", "tls.key", "client.key"),
            Source::Secret("service-account", "sa.key", "sa.key"),
            Source::ConfigMap(NAME, "kubeconfig.json", "kubeconfig.json"),
        ],
        data: None,
        grace: 5,
        digest: &files,
        spread: Spread::Single,
    };
    let body = json!({
        "metadata": metadata(cp, NAME),
        "spec": {
            "replicas": cp.stage.scale().others(1),
            "revisionHistoryLimit": 2,
            // It runs without leader election, so two must never run at once.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": selector(NAME)},
            "template": pod::begun_anew(cp, pod::template(cp, part)),
        },
    });
    vec![
        config,
        Object::new(DEPLOYMENT, Some(&cp.namespace), NAME, body),
    ]
}

/// Certificate and key are files, which the client reads again when they are renewed.
fn config(cp: &ControlPlane, addresses: &Addresses) -> Object {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": "tenant", "cluster": {
            "server": format!("https://{}:{}", addresses.apiserver, apiserver::PORT),
            "certificate-authority": format!("{CONFIG_DIR}/ca.crt"),
        }}],
        "users": [{"name": USER, "user": {
            "client-certificate": format!("{CONFIG_DIR}/client.crt"),
            "client-key": format!("{CONFIG_DIR}/client.key"),
        }}],
        "contexts": [{"name": "tenant", "context": {"cluster": "tenant", "user": USER}}],
        "current-context": "tenant",
    });
    let body = json!({
        "metadata": metadata(cp, NAME),
        "data": {"kubeconfig.json": kubeconfig.to_string()},
    });
    Object::new(CONFIG_MAP, Some(&cp.namespace), NAME, body)
}

fn command(cp: &ControlPlane) -> Vec<String> {
    let file = |name: &str| format!("{CONFIG_DIR}/{name}");
    let without: String = WITHOUT
        .iter()
        .map(|controller| format!(",-{controller}"))
        .collect();
    let mut command = vec![
        "kube-controller-manager".into(),
        format!("--kubeconfig={}", file("kubeconfig.json")),
        format!("--authentication-kubeconfig={}", file("kubeconfig.json")),
        format!("--authorization-kubeconfig={}", file("kubeconfig.json")),
        format!("--secure-port={PORT}"),
        format!("--controllers=*{without}"),
        "--leader-elect=false".into(),
        "--profiling=false".into(),
        "--use-service-account-credentials=true".into(),
        // At its start it makes an account and a token for each controller, a hundred requests and more. With the usual
        // 20 a second that takes over three seconds, in which nothing of the tenant's is worked. One that asks too much
        // is held back by the tenant's API server.
        "--kube-api-qps=100".into(),
        "--kube-api-burst=200".into(),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--cluster-signing-cert-file={}", file("ca.crt")),
        format!("--cluster-signing-key-file={}", file("ca.key")),
        format!("--service-account-private-key-file={}", file("sa.key")),
        format!("--service-cluster-ip-range={}", cp.slice),
    ];
    if let Some(period) = &cp.intervals.resource_quota_sync {
        command.push(format!("--resource-quota-sync-period={period}"));
    }
    command.extend(cp.feature_flag());
    command
}
