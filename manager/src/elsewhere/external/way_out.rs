//! How the API server of an external tenant reaches the kubelets of its virtual nodes: by the proxy's way out, as those do
//! that Sublet runs. Sublet can't start it so; whoever runs it gets all files that it takes, in one Secret.
//!
//! The authority and the certificate that it signed lie beside the VirtualControlPlane, too, and end with it. Whoever may
//! read them may read the tenant's kubeconfig there anyhow.

use crate::{
    decide::{Action, push_unmet, renew},
    network::proxy::{AWAITED, Proxy},
    object::{CONFIG_MAP, Object, SECRET},
    observe::Seen,
    pki::{self, Authority, Form, LEAF_DAYS, Leaf, Material, OPAQUE, Order, Usage},
    provision::{apiserver, cluster_keys, figures, keys, owner_reference, route::labels},
    spec::control_plane::{Owner, Refusal},
    status::{Fact, condition},
};
use api::{Endpoint, PodRules, VirtualControlPlane, keys as marks};
use serde_json::{Value, json};
use tenancy::route;

/// Condition of external tenants: whether their API server is offered a way to kubelets.
pub(crate) const CONDITION: &str = "WayOutOffered";
/// Reason of what isn't there yet.
const WAITING: &str = "Waiting";
/// Where the files lie on the machine of the API server. kubeadm's API servers see this folder's parent.
pub(crate) const FOLDER: &str = "/etc/kubernetes/pki/sublet";

const CERTIFICATE: &str = "client.crt";
const KEY: &str = "client.key";
const PROXY: &str = "proxy-ca.crt";
const NODES: &str = "kubelet-ca.crt";

/// Secrets beside the VirtualControlPlane: the authority, what it signed, and all that is handed over.
pub(crate) fn secrets(owner: &Owner) -> [String; 3] {
    ["way-out-ca", "way-out-client", "way-out"].map(|suffix| format!("{}-{suffix}", owner.name))
}

/// What is to be done so that the API server can come, and what there is to say about it.
pub(super) fn decide(
    seen: &Seen,
    owner: &Owner,
    asked: Option<&Endpoint>,
    system: &str,
) -> Result<(Vec<Action>, Fact), Refusal> {
    let Some(asked) = asked else {
        let words = "kubectl logs, exec, attach, port-forward and top don't work in it: its API server has no way to the \
                     kubelets of virtual nodes; spec.external.wayOut offers it one (docs/access.md)";
        let fact = Fact::no(CONDITION, "NotAskedFor", words);
        return Ok((take_back(seen, owner), fact));
    };
    if !is_host(&asked.host) {
        let words = format!(
            "spec.external.wayOut.host {:?} is neither a DNS name nor an IP address",
            asked.host
        );
        return Ok((vec![], Fact::no(CONDITION, "HostRefused", words)));
    }
    let Some(proxy) = &seen.proxy else {
        return Ok((vec![], Fact::no(CONDITION, WAITING, AWAITED)));
    };
    let [authority, client, files] = secrets(owner);
    for name in [&authority, &client, &files] {
        let have = seen.way_out.get(SECRET, name);
        if have.is_some_and(|have| cluster_keys::is_anothers(owner, have)) {
            return Err(Refusal::ForeignSecret(format!(
                "{}/{name}",
                owner.namespace
            )));
        }
    }
    let waiting = Fact::no(CONDITION, WAITING, "waiting for its keys");
    for order in orders(owner) {
        let have = seen.way_out.get(SECRET, &order.name);
        if seen.is_due(&order, have) {
            return Ok((vec![renew(order, have)], waiting));
        }
    }
    let known = seen.way_out.get(SECRET, &authority);
    let (Some(known), Some(signed)) = (known, seen.way_out.get(SECRET, &client)) else {
        return Ok((vec![], waiting));
    };
    let damaged = |error: pki::Error| Fact::no(CONDITION, "KeysDamaged", error.to_string());
    let pem = |secret, key| pki::text(secret, key).map_err(damaged);
    let texts = pem(known, "tls.crt")
        .and_then(|known| Ok((known, pem(signed, "tls.crt")?, pem(signed, "tls.key")?)));
    let (known, certificate, key) = match texts {
        Ok(texts) => texts,
        Err(fact) => return Ok((vec![], fact)),
    };
    let handed = handed_over(owner, asked, proxy, [&certificate, &key]);
    let route = route_of(seen, owner, &known, system);
    let mut actions = vec![];
    push_unmet(&mut actions, handed, seen.way_out.get(SECRET, &files));
    push_unmet(&mut actions, route, seen.route.as_ref());
    let mut fact = Fact::yes(CONDITION, "Offered");
    fact.message = format!(
        "kubectl logs, exec, attach and port-forward work once its API server runs with the files of Secret {}/{files} \
         (docs/access.md); their certificate is good until {}",
        owner.namespace,
        signed
            .annotation(marks::EXPIRES)
            .unwrap_or("an unknown time"),
    );
    Ok((actions, fact))
}

/// What was offered before isn't any more: without its route nobody is let in.
fn take_back(seen: &Seen, owner: &Owner) -> Vec<Action> {
    let is_ours = |object: &&Object| !cluster_keys::is_anothers(owner, object);
    let route = seen.route.iter();
    let secrets = seen.way_out.of(SECRET);
    // The route is what the Secrets are found by, so it goes last.
    let all = secrets.chain(route).filter(is_ours).cloned();
    all.map(Action::Delete).collect()
}

/// The authority, then what it signs.
fn orders(owner: &Owner) -> [Order; 2] {
    let [authority, client, _] = secrets(owner);
    let order = |name, material| Order {
        namespace: owner.namespace.clone(),
        name,
        metadata: metadata(owner),
        material,
        secret_type: OPAQUE,
        identity: owner.id.to_string(),
    };
    let leaf = Leaf {
        authority: Authority::ProxyClient,
        common_name: "kube-apiserver-kubelet-client".into(),
        organization: None,
        usage: Usage::Client,
        names: vec![],
        form: Form::Files,
        days: LEAF_DAYS,
    };
    [
        order(authority, Material::Authority(Authority::ProxyClient)),
        order(client, Material::Leaf(leaf)),
    ]
}

/// All files of the API server, and what is applied in the tenant for `kubectl top`.
fn handed_over(
    owner: &Owner,
    asked: &Endpoint,
    proxy: &Proxy,
    [certificate, key]: [&str; 2],
) -> Object {
    let file = |name: &str| format!("{FOLDER}/{name}");
    let connection = apiserver::by_the_way_out(
        &keys::url(&asked.host, asked.port),
        [&file(PROXY), &file(CERTIFICATE), &file(KEY)],
    );
    // What it dials by URL, and its etcd, it dials as before: only nodes, pods and Services are Sublet's to lead to.
    let egress = json!({
        "apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    });
    let metrics = figures::objects(&proxy.authority);
    let metrics: Vec<&Value> = metrics.iter().map(|object| &object.body).collect();
    let metrics = json!({"apiVersion": "v1", "kind": "List", "items": metrics});
    let flags = [
        ("egress-selector-config-file", file("egress.json")),
        ("kubelet-client-certificate", file(CERTIFICATE)),
        ("kubelet-client-key", file(KEY)),
        ("kubelet-certificate-authority", file(NODES)),
        (
            "kubelet-preferred-address-types",
            "InternalDNS,Hostname".into(),
        ),
    ];
    let flags = flags.map(|(flag, value)| format!("--{flag}={value}\n"));
    let data = json!({
        CERTIFICATE: encoded(certificate),
        KEY: encoded(key),
        PROXY: encoded(&proxy.authority),
        NODES: encoded(&apiserver::node_authorities(proxy)),
        "egress.json": encoded(&egress.to_string()),
        "metrics.json": encoded(&metrics.to_string()),
        "flags": encoded(&flags.concat()),
    });
    let [_, _, name] = secrets(owner);
    let body = json!({"metadata": metadata(owner), "type": OPAQUE, "data": data});
    Object::new(SECRET, Some(&owner.namespace), &name, body).sealed()
}

/// What the proxy is told: who comes, and nothing of where clients go.
fn route_of(seen: &Seen, owner: &Owner, authority: &str, system: &str) -> Object {
    let spec = &seen.vcp.spec;
    let own = &spec.policy.node_selector;
    let class = seen.class.as_ref();
    let nodes = class.map_or_else(|| own.clone(), |class| class.spec.pods.nodes(own));
    let own = &spec.policy.node_affinity;
    let affinities = class.map_or_else(
        || PodRules::default().affinities(own),
        |class| class.spec.pods.affinities(own),
    );
    let wish = &spec.sync;
    let shown = class.map_or(wish.nodes.unwrap_or_default(), |class| {
        class.spec.shown_nodes(wish)
    });
    let mut body = json!({
        "metadata": {"labels": labels(owner), "annotations": {marks::CONTROL_PLANE: owner.path()}},
        "data": {
            route::AUTHORITY: authority,
            route::DOMAIN: spec.network.cluster_domain,
            route::NODE_SELECTOR: route::node_selector(&nodes),
        },
    });
    if let Some(affinity) = route::node_affinity(&affinities) {
        body["data"][route::NODE_AFFINITY] = json!(affinity);
    }
    let labels = class.map(|class| class.spec.pods.node_labels.join("\n"));
    if let Some(labels) = labels.filter(|labels| !labels.is_empty()) {
        body["data"][route::NODE_LABELS] = json!(labels);
    }
    if let Some(word) = route::shown_nodes(shown) {
        body["data"][route::SHOWN_NODES] = json!(word);
    }
    Object::new(CONFIG_MAP, Some(system), &route::name(&owner.id), body).sealed()
}

fn metadata(owner: &Owner) -> Value {
    json!({
        "labels": owner.labels(),
        "annotations": {marks::CONTROL_PLANE: owner.path()},
        "ownerReferences": [owner_reference(owner)],
    })
}

fn encoded(text: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(text)
}

/// Whether the manager offered one, or is about to: the identity is claimed, and the class allows the tenant.
pub(crate) fn is_offered(vcp: &VirtualControlPlane) -> bool {
    let said = condition(vcp, CONDITION);
    said.is_some_and(|said| said.status == "True" || said.reason == WAITING)
}

/// Whether a certificate may carry it.
pub(crate) fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(is_plain)
    };
    host.parse::<std::net::IpAddr>().is_ok() || host.len() <= 253 && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests;
