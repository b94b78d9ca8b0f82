//! Inside a tenant: how the manager reaches its API server, and what it puts there.

use crate::{
    clients::kubeconfig::{Access, Credentials},
    network::proxy::Proxy,
    object::{
        API_SERVICE, CLUSTER_ROLE, CLUSTER_ROLE_BINDING, CONFIG_MAP, Kind, Object, Objects, POD,
        ROLE_BINDING, SECRET,
    },
    pki,
    provision::{apiserver, coredns, figures, keys},
    running::parts,
    spec::control_plane::ControlPlane,
    store::stored::Used,
};
use api::Dns;
use serde_json::json;
use tenancy::kind::KINDS;

/// Role of the syncer in a tenant's kube-system.
const ROLE: Kind = Kind {
    api_version: "rbac.authorization.k8s.io/v1",
    kind: "Role",
    plural: "roles",
};

/// What is known of the tenant's API server.
#[derive(Clone, Debug)]
pub(crate) enum Tenant {
    /// No pod of it is ready: it wasn't asked.
    NotAsked,
    /// It was asked and gave no good answer.
    Silent(String),
    /// It answers.
    Answers {
        /// UID of its `kube-system` namespace.
        kube_system_uid: String,
        /// Of [`objects`] those that exist.
        objects: Objects,
        /// What it stores of what is limited, if that could be counted.
        stored: Option<Used>,
    },
}

impl Tenant {
    /// Whether it answers.
    pub(crate) fn answers(&self) -> bool {
        matches!(self, Self::Answers { .. })
    }
}

/// No access to the tenant can be built from what was seen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A Secret is damaged.
    #[error(transparent)]
    Keys(#[from] pki::Error),
}

/// How the manager reaches the tenant, once an API server pod of it is ready.
///
/// By the pod's address: it is there before any Service has been programmed. The certificate is checked for a name.
pub(crate) fn access(seen: &Objects) -> Result<Option<Access>, Error> {
    let pod = seen.of(POD).find(|pod| is_ready_apiserver(pod));
    let (Some(pod), Some(ca), Some(own)) =
        (pod, seen.get(SECRET, "ca"), seen.get(SECRET, keys::MANAGER))
    else {
        return Ok(None);
    };
    Ok(Some(Access {
        server: keys::url(pod.text("/status/podIP"), apiserver::PORT),
        ca: pki::text(ca, "tls.crt")?,
        tls_server_name: Some("kubernetes".into()),
        namespace: None,
        credentials: Credentials::Certificate {
            certificate: pki::text(own, "tls.crt")?,
            key: pki::text(own, "tls.key")?,
        },
    }))
}

/// What the tenant must hold, in order: rights first, so that nobody is refused who comes after.
pub(crate) fn objects(cp: &ControlPlane, proxy: &Proxy, stored: Option<&Used>) -> Vec<Object> {
    let mut objects: Vec<Object> = rights(&cp.custom_resources)
        .into_iter()
        .map(Object::sealed)
        .collect();
    if cp.dns == Dns::Dedicated {
        objects.extend(coredns::objects(cp));
    }
    objects.extend(figures::objects(&proxy.authority));
    objects.extend(stored.and_then(|used| cp.stored.shown(used)));
    objects
}

/// Whether the tenant holds `want`.
///
/// A ConfigMap counts as met once it was applied: its content is the tenant's to edit. So is who serves its metrics.
pub(crate) fn is_met(want: &Object, seen: &Objects) -> bool {
    seen.get(want.kind, want.name())
        .is_some_and(|have| match want.kind {
            CONFIG_MAP => {
                want.annotation(api::keys::APPLIED) == have.annotation(api::keys::APPLIED)
            }
            API_SERVICE => figures::is_anothers(have) || want.is_met_by(have),
            _ => want.is_met_by(have),
        })
}

/// Whether a pod of the API server is ready.
pub(crate) fn has_ready_apiserver(seen: &Objects) -> bool {
    seen.of(POD).any(is_ready_apiserver)
}

fn is_ready_apiserver(pod: &Object) -> bool {
    pod.label("app.kubernetes.io/name") == Some(apiserver::NAME)
        && !pod.is_going()
        && parts::is_ready(pod)
}

fn rights(custom: &[String]) -> Vec<Object> {
    vec![
        cluster_binding("sublet:admins", "cluster-admin", keys::ADMINS),
        Object::new(
            CLUSTER_ROLE,
            None,
            keys::SYNCER,
            json!({"rules": syncer_rules(custom)}),
        ),
        cluster_binding(keys::SYNCER, keys::SYNCER, keys::SYNCER),
        Object::new(
            ROLE,
            Some(coredns::NAMESPACE),
            keys::SYNCER,
            json!({"rules": [
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "update", "patch"]},
            ]}),
        ),
        Object::new(
            ROLE_BINDING,
            Some(coredns::NAMESPACE),
            keys::SYNCER,
            json!({
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": keys::SYNCER},
                "subjects": [group(keys::SYNCER)],
            }),
        ),
    ]
}

/// Spec and metadata are the tenant's: the syncer reads them and writes status, bindings, nodes and events, and what is
/// published to the tenant.
fn syncer_rules(custom: &[String]) -> serde_json::Value {
    let read = ["get", "list", "watch"];
    let mut rules = json!([
        {"apiGroups": [""], "resources": [
            "namespaces", "pods", "configmaps", "secrets", "services", "endpoints", "serviceaccounts", "nodes",
            "events",
        ], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        // What the tenant is shown of others' Services; it must go, too, when nothing is shared any more.
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["create", "patch", "delete"]},
        // A pod deleted in the super cluster is a pod that ended; and pods end before the tenant sleeps, if they are to.
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]},
        {"apiGroups": [""], "resources": ["pods/status", "services/status"], "verbs": ["patch", "update"]},
        {"apiGroups": [""], "resources": ["pods/binding", "serviceaccounts/token"], "verbs": ["create"]},
        // The same, and node ports that the super cluster chose.
        {"apiGroups": [""], "resources": ["services"], "verbs": ["create", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["create", "patch", "update", "delete"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch", "update"]},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
        // Addresses of its slice that Services of the platform have.
        {"apiGroups": ["networking.k8s.io"], "resources": ["ipaddresses"], "verbs": ["list", "create", "delete"]},
    ]);
    let named = rules.to_string();
    let further = KINDS
        .iter()
        .filter(|kind| !named.contains(&format!("\"{}\"", kind.resource().plural)));
    for kind in further {
        let resource = kind.resource();
        let (groups, plural) = ([resource.group], resource.plural);
        let verbs: &[&str] = if kind.goes_down() {
            &["get", "list", "watch", "patch"]
        } else {
            &["get", "list", "watch", "create", "patch", "delete"]
        };
        let status = [format!("{plural}/status")];
        rules.as_array_mut().expect("it was made above").extend([
            json!({"apiGroups": groups, "resources": [plural], "verbs": verbs}),
            json!({"apiGroups": groups, "resources": status, "verbs": ["patch"]}),
        ]);
    }
    for (plural, group) in custom.iter().filter_map(|name| name.split_once('.')) {
        let verbs = ["get", "list", "watch", "create", "patch", "delete"];
        let resources = [plural.to_owned(), format!("{plural}/status")];
        rules
            .as_array_mut()
            .expect("it was made above")
            .push(json!({"apiGroups": [group], "resources": resources, "verbs": verbs}));
    }
    rules
}

fn cluster_binding(name: &str, role: &str, to: &str) -> Object {
    Object::new(
        CLUSTER_ROLE_BINDING,
        None,
        name,
        json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [group(to)],
        }),
    )
}

fn group(name: &str) -> serde_json::Value {
    json!({"kind": "Group", "name": name, "apiGroup": "rbac.authorization.k8s.io"})
}
