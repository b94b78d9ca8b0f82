//! The tenant's API server.
//!
//! Anonymous requests reach the health paths only, tokens are bound and short-lived and have an issuer that no other
//! tenant has, Secrets are encrypted with the tenant's own key, and one client can't use up what others need.

use super::{
    Addresses, audit, etcd, keys, metadata,
    pod::{self, CONFIG_DIR, Part, Source, Spread},
    selector,
};
use crate::{
    network::proxy::Proxy,
    object::{CONFIG_MAP, DEPLOYMENT, DISRUPTION_BUDGET, Object},
    spec::{authentication, control_plane::ControlPlane},
    store::stored,
};
use serde_json::{Value, json};
use tenancy::naming;

/// Name of the part, its Deployment and its Service.
pub(crate) const NAME: &str = "kube-apiserver";
/// Where it listens.
pub(crate) const PORT: u16 = 6443;
/// File that says who may do what, where that depends on what the tenant stores.
pub(crate) const AUTHORIZERS: &str = "authorization.json";
/// File that says whom it believes.
pub(crate) const AUTHENTICATION: &str = "authentication.json";
/// Seconds for which one that is asked to end goes on taking connections: until all who lead connections to it, kube-proxy and
/// the front door above all, know that it is going.
const LAME_DUCK: u32 = 3;
/// Organization of the front-proxy client's certificate.
pub(crate) const FRONT_PROXY_CLIENT: &str = "front-proxy-client";

/// The configuration, the Deployment, and a disruption budget when one server may be missing.
pub(crate) fn objects(cp: &ControlPlane, addresses: &Addresses, digest: &str) -> Vec<Object> {
    let mut config = config(cp, addresses);
    let files = naming::hash(&[
        digest.as_bytes(),
        config.body["data"].to_string().as_bytes(),
    ]);
    let mut sources = sources(cp);
    if audit::policy(cp.audit).is_some() {
        sources.push(Source::ConfigMap(NAME, audit::POLICY, audit::POLICY));
    }
    // Read anew whenever it changes, so its pods needn't start anew.
    if let Some(authorizers) = &cp.authorizers {
        config.body["data"][AUTHORIZERS] = json!(authorizers);
        config.body["data"][stored::NOWHERE] = json!(stored::nowhere().to_string());
        sources.push(Source::ConfigMap(NAME, AUTHORIZERS, AUTHORIZERS));
        sources.push(Source::ConfigMap(NAME, stored::NOWHERE, stored::NOWHERE));
    }
    let part = Part {
        name: NAME,
        image: &cp.images.kube_apiserver,
        command: command(cp, addresses),
        // Measured, idle: 168 MiB instead of 204, for 0.3 s more of one core at the start.
        env: vec![("GOGC", "50")],
        ports: vec![("https", PORT)],
        startup: pod::http("HTTPS", "https", "/readyz"),
        readiness: Some(pod::http("HTTPS", "https", "/readyz")),
        liveness: pod::http("HTTPS", "https", "/livez"),
        resources: &cp.pods.resources.kube_apiserver,
        default_requests: [("cpu", "100m"), ("memory", "256Mi")],
        files: sources,
        data: None,
        // It ends no watch by itself, so it always uses all of this.
        grace: LAME_DUCK + 5,
        digest: &files,
        spread: if cp.replicas > 1 {
            Spread::Preferred
        } else {
            Spread::Single
        },
    };
    let template = pod::begun_anew(cp, pod::template(cp, part));
    let mut template = authentication::annotated(cp.authentication.as_deref(), template);
    template["metadata"]["labels"][api::keys::VERSION] = json!(cp.version);
    let body = json!({
        "metadata": metadata(cp, NAME),
        "spec": {
            "replicas": cp.stage.scale().others(cp.replicas),
            "revisionHistoryLimit": 2,
            // The next one must answer before the last one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector(NAME)},
            "template": template,
        },
    });
    let mut objects = vec![
        config,
        Object::new(DEPLOYMENT, Some(&cp.namespace), NAME, body),
    ];
    if cp.replicas > 1 {
        let spec = json!({"maxUnavailable": 1, "selector": {"matchLabels": selector(NAME)}});
        let body = json!({"metadata": metadata(cp, NAME), "spec": spec});
        objects.push(Object::new(
            DISRUPTION_BUDGET,
            Some(&cp.namespace),
            NAME,
            body,
        ));
    }
    objects
}

/// Keys and files that every API server reads.
fn sources(cp: &ControlPlane) -> Vec<Source> {
    vec![
        Source::Secret("ca", "tls.crt", "ca.crt"),
        Source::Secret("apiserver", "tls.crt", "server.crt"),
        Source::Secret("apiserver", "tls.key", "server.key"),
        Source::Secret(keys::PROXY_CLIENT, "tls.crt", "proxy-client.crt"),
        Source::Secret(keys::PROXY_CLIENT, "tls.key", "proxy-client.key"),
        Source::Secret("etcd-ca", "tls.crt", "etcd-ca.crt"),
        Source::Secret("apiserver-etcd-client", "tls.crt", "etcd-client.crt"),
        Source::Secret("apiserver-etcd-client", "tls.key", "etcd-client.key"),
        Source::Secret("front-proxy-ca", "tls.crt", "front-proxy-ca.crt"),
        Source::Secret("front-proxy-client", "tls.crt", "front-proxy-client.crt"),
        Source::Secret("front-proxy-client", "tls.key", "front-proxy-client.key"),
        Source::Secret("service-account", "sa.key", "sa.key"),
        Source::Secret("service-account", "sa.pub", "sa.pub"),
        Source::Secret("encryption", "encryption.json", "encryption.json"),
        authentication::source(cp.authentication.as_deref()),
        Source::ConfigMap(NAME, "admission.json", "admission.json"),
        Source::ConfigMap(NAME, "egress.json", "egress.json"),
        Source::ConfigMap(NAME, "proxy-ca.crt", "proxy-ca.crt"),
        Source::ConfigMap(NAME, "nodes-ca.crt", "nodes-ca.crt"),
    ]
}

/// Names and addresses that clients know the API server by.
pub(crate) fn names(cp: &ControlPlane, addresses: &Addresses) -> Vec<String> {
    let mut names = vec![
        "kubernetes".to_owned(),
        "kubernetes.default".into(),
        "kubernetes.default.svc".into(),
        format!("kubernetes.default.svc.{}", cp.domain),
        cp.issuer_host(),
        format!("{NAME}.{}.svc", cp.namespace),
        "localhost".into(),
        "127.0.0.1".into(),
        cp.slice.api_address().to_string(),
        addresses.apiserver.clone(),
        addresses.endpoint.host.clone(),
        naming::tenant_host(&cp.owner.id),
    ];
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn config(cp: &ControlPlane, addresses: &Addresses) -> Object {
    // Wide enough for a busy tenant; a storm of events must not fill the tenant's etcd, nor the queues behind it.
    let admission = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": [{"name": "EventRateLimit", "configuration": {
            "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration",
            "limits": [{"type": "Server", "qps": 100, "burst": 2000}],
        }}],
    });
    let mut body = json!({
        "metadata": metadata(cp, NAME),
        "data": {
            // Without issuers; pods that have some bear it themselves.
            AUTHENTICATION: authentication::configuration(&[]).to_string(),
            "admission.json": admission.to_string(),
            "egress.json": egress(addresses).to_string(),
            "proxy-ca.crt": addresses.proxy.authority,
            "nodes-ca.crt": node_authorities(&addresses.proxy),
        },
    });
    if let Some(policy) = audit::policy(cp.audit) {
        body["data"][audit::POLICY] = json!(policy.to_string());
    }
    Object::new(CONFIG_MAP, Some(&cp.namespace), NAME, body)
}

/// Whatever it dials, it dials through the proxy's way out; etcd is reached directly.
fn egress(addresses: &Addresses) -> Value {
    let file = |name: &str| format!("{CONFIG_DIR}/{name}");
    let out = by_the_way_out(
        &keys::url(&addresses.proxy.address, naming::WAY_OUT_PORT),
        [
            &file("proxy-ca.crt"),
            &file("proxy-client.crt"),
            &file("proxy-client.key"),
        ],
    );
    json!({
        "apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
        "egressSelections": [
            {"name": "cluster", "connection": out},
            {"name": "controlplane", "connection": out},
            {"name": "etcd", "connection": {"proxyProtocol": "Direct"}},
        ],
    })
}

/// A connection of an egress selector that leads to the way out at `url`; the files are the authority of its certificate,
/// and the certificate and key by which the API server is known there.
pub(crate) fn by_the_way_out(url: &str, [authority, certificate, key]: [&str; 3]) -> Value {
    json!({"proxyProtocol": "HTTPConnect", "transport": {"tcp": {
        "url": url,
        "tlsConfig": {"caBundle": authority, "clientCert": certificate, "clientKey": key},
    }}})
}

/// PEM of those that sign for kubelets of virtual nodes: a node is known by its host name or by its address.
pub(crate) fn node_authorities(proxy: &Proxy) -> String {
    format!("{}\n{}", proxy.authority, proxy.nodes)
}

fn command(cp: &ControlPlane, addresses: &Addresses) -> Vec<String> {
    let file = |name: &str| format!("{CONFIG_DIR}/{name}");
    let mut command = vec![
        "kube-apiserver".into(),
        "--advertise-address=$(POD_IP)".into(),
        format!("--secure-port={PORT}"),
        format!("--service-cluster-ip-range={}", cp.slice),
        "--allow-privileged=true".into(),
        "--profiling=false".into(),
        format!("--shutdown-delay-duration={LAME_DUCK}s"),
        // Whom it knows.
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--authentication-config={}", file(AUTHENTICATION)),
        format!(
            "--requestheader-client-ca-file={}",
            file("front-proxy-ca.crt")
        ),
        format!("--requestheader-allowed-names={FRONT_PROXY_CLIENT}"),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        format!(
            "--proxy-client-cert-file={}",
            file("front-proxy-client.crt")
        ),
        format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
        format!("--service-account-issuer={}", cp.issuer()),
        format!(
            "--service-account-jwks-uri=https://kubernetes.default.svc.{}/openid/v1/jwks",
            cp.domain
        ),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--service-account-extend-token-expiration=false".into(),
        // What they may do.
        match cp.authorizers {
            None => "--authorization-mode=Node,RBAC".into(),
            Some(_) => format!("--authorization-config={}", file(AUTHORIZERS)),
        },
        "--enable-admission-plugins=NodeRestriction,DenyServiceExternalIPs,EventRateLimit".into(),
        // It would taint virtual nodes at birth, and no node-lifecycle controller takes the taint away.
        "--disable-admission-plugins=TaintNodesByCondition".into(),
        format!("--admission-control-config-file={}", file("admission.json")),
        "--max-requests-inflight=200".into(),
        "--max-mutating-requests-inflight=100".into(),
        // Where it stores.
        format!(
            "--etcd-servers=https://{}:{}",
            addresses.etcd,
            etcd::CLIENT_PORT
        ),
        format!("--etcd-cafile={}", file("etcd-ca.crt")),
        format!("--etcd-certfile={}", file("etcd-client.crt")),
        format!("--etcd-keyfile={}", file("etcd-client.key")),
        format!("--encryption-provider-config={}", file("encryption.json")),
        // How it reaches nodes and everything else: by the proxy alone. It must resolve what it proxies requests to, so
        // nodes have an address that needs no resolving; nobody routes it but the proxy, which serves their kubelet.
        format!("--egress-selector-config-file={}", file("egress.json")),
        format!("--kubelet-certificate-authority={}", file("nodes-ca.crt")),
        format!("--kubelet-client-certificate={}", file("proxy-client.crt")),
        format!("--kubelet-client-key={}", file("proxy-client.key")),
        "--kubelet-preferred-address-types=InternalDNS,Hostname".into(),
    ];
    if audit::policy(cp.audit).is_some() {
        command.push(format!("--audit-policy-file={}", file(audit::POLICY)));
        // Its log, which whoever collects logs has already. A reader that is slow holds up no request.
        command.push("--audit-log-path=-".into());
        command.push("--audit-log-mode=batch".into());
    }
    if let Some(interval) = &cp.intervals.etcd_compaction {
        command.push(format!("--etcd-compaction-interval={interval}"));
    }
    command.extend(cp.feature_flag());
    command
}
