//! `metrics.k8s.io` of a tenant: what `kubectl top` and HorizontalPodAutoscalers ask, answered from the super cluster's.
//!
//! The tenant's API server reaches it by the way out, as the server of an APIService, after it has judged itself whether
//! the user may ask. So no name of a user is read here: whoever comes by the tunnel of a tenant sees that tenant's
//! figures. A tenant that installs a metrics-server of its own points the APIService there.

use crate::{
    forward::{self, ResponseBody},
    index::Tenant,
    metrics::{Metrics, Plane},
    selector::Selector,
    tunnel::{Inner, START_LIMIT},
    usage::{Error, NodeTime, PodUsage, Sum, Usage},
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

mod ask;

use ask::{Question, Refusal};

/// Room for a request's head: users and their groups stand in it.
pub(crate) const HEAD_MAX: usize = 64 << 10;
const GROUP: &str = "metrics.k8s.io";
const GROUP_VERSION: &str = "metrics.k8s.io/v1beta1";

/// The names that a request asks about, for the fuzzer.
pub(crate) fn names_in(path: &str, query: &str) -> Vec<String> {
    match ask::parse(&http::Method::GET, path, query) {
        Ok(Question::Pod { namespace, name }) => vec![namespace, name],
        Ok(Question::Pods { namespace, .. }) => namespace.into_iter().collect(),
        Ok(Question::Node { name }) => vec![name],
        _ => vec![],
    }
}

/// The API server of every tenant's metrics.
pub(crate) struct MetricsApi {
    /// TLS that asks for no certificate: the tunnel's has told whose it is.
    pub(crate) tls: TlsAcceptor,
    pub(crate) inner: Inner,
    pub(crate) usage: Usage,
    pub(crate) metrics: Arc<Metrics>,
}

impl MetricsApi {
    /// Serves a caller that the way out knows as `tenant`.
    pub(crate) async fn serve(self: Arc<Self>, tunnel: TokioIo<Upgraded>, tenant: Arc<Tenant>) {
        let Ok(Ok(tls)) = timeout(START_LIMIT, self.tls.accept(tunnel)).await else {
            return self.metrics.turned_away(Plane::Figures, "no_handshake");
        };
        let _open = self.metrics.open(tenant.id.as_str(), Plane::Figures);
        let answer = |request: Request<Incoming>| {
            let (api, tenant) = (self.clone(), tenant.clone());
            let asked = asked(&request);
            async move { api.answer(&tenant, asked).await }
        };
        self.inner.serve(tls, &tenant, answer).await;
    }

    async fn answer(
        &self,
        tenant: &Tenant,
        asked: Result<Question, Refusal>,
    ) -> Response<ResponseBody> {
        let (began, id) = (Instant::now(), tenant.id.as_str());
        let question = match asked {
            Ok(question) => question,
            Err(refusal) => {
                self.metrics.count(id, Plane::Figures, refusal.word());
                return status(refusal.status(), refusal.reason(), &refusal.to_string());
            }
        };
        let verb = question.word();
        let answer = self.figures(tenant, question).await;
        self.metrics
            .started(id, Plane::Figures, verb, began.elapsed());
        match answer {
            Ok(Some(body)) => {
                self.metrics.count(id, Plane::Figures, "done");
                json_of(StatusCode::OK, &body)
            }
            Ok(None) => {
                self.metrics.count(id, Plane::Figures, "not_found");
                let code = StatusCode::NOT_FOUND;
                status(code, "NotFound", "it doesn't exist, or wasn't measured yet")
            }
            Err(error) => {
                self.metrics.count(id, Plane::Figures, error.word());
                if tenant.limits.noise.may_speak(Plane::Figures, error.word()) {
                    tracing::warn!(tenant = id, why = %error, "a tenant asks for metrics and gets none");
                }
                unavailable(error)
            }
        }
    }

    async fn figures(&self, tenant: &Tenant, question: Question) -> Result<Option<Value>, Error> {
        let usage = &self.usage;
        Ok(match question {
            Question::Group => Some(group()),
            Question::Resources => Some(resources()),
            Question::Pods { namespace, filter } => {
                let pods = usage.pods(tenant, namespace.as_deref()).await?;
                let labels = filter.labels.of_super_pods();
                let pods = pods.iter().filter(|pod| {
                    filter.lets_through(&pod.namespace, &pod.name) && labels.matches(&pod.labels)
                });
                Some(list("PodMetricsList", pods.map(pod_metrics).collect()))
            }
            Question::Pod { namespace, name } => {
                let pods = usage.pods(tenant, Some(&namespace)).await?;
                let pod = pods.iter().find(|pod| pod.name == name);
                pod.map(|pod| with_kind("PodMetrics", pod_metrics(pod)))
            }
            Question::Nodes { filter } => {
                let (nodes, pods) = (usage.nodes(tenant).await?, usage.pods(tenant, None).await?);
                let nodes = nodes.iter().filter(|node| {
                    filter.lets_through("", &node.name)
                        && matches_node(&filter.labels, node, tenant)
                        && is_seen(node, &pods, tenant)
                });
                let nodes = nodes.map(|node| node_metrics(node, &pods)).collect();
                Some(list("NodeMetricsList", nodes))
            }
            Question::Node { name } => {
                let nodes = usage.nodes(tenant).await?;
                match nodes.iter().find(|node| node.name == name) {
                    Some(node) => {
                        let pods = usage.pods(tenant, None).await?;
                        let measured = || with_kind("NodeMetrics", node_metrics(node, &pods));
                        is_seen(node, &pods, tenant).then(measured)
                    }
                    None => None,
                }
            }
        })
    }
}

fn asked(request: &Request<Incoming>) -> Result<Question, Refusal> {
    let uri = request.uri();
    ask::parse(
        request.method(),
        uri.path(),
        uri.query().unwrap_or_default(),
    )
}

/// Whether the tenant sees the node, as far as terms over its labels and pods of the tenant's own decide it.
fn is_seen(node: &NodeTime, pods: &[PodUsage], tenant: &Tenant) -> bool {
    let label = |key: &str| node.labels.get(key).map(String::as_str);
    let mut asked = tenant.node_affinity.iter();
    asked.all(|asked| asked.allows(label))
        && (!tenant.sees_used_nodes || pods.iter().any(|pod| pod.node == node.name))
}

/// Labels that the tenant doesn't see on its virtual nodes select nothing here.
fn matches_node(selector: &Selector, node: &NodeTime, tenant: &Tenant) -> bool {
    let mut seen = node.labels.clone();
    seen.retain(|key, _| {
        tenancy::kind::is_shown_of_nodes(key)
            || tenant.node_selector.contains_key(key)
            || tenant.node_labels.contains(key)
    });
    selector.matches(&seen)
}

fn pod_metrics(pod: &PodUsage) -> Value {
    let mut labels = pod.labels.clone();
    labels.retain(|key, _| !tenancy::meta::is_carried(key));
    let containers = pod.containers.iter();
    let containers = containers.map(|one| json!({"name": one.name, "usage": one.usage}));
    json!({
        "metadata": {
            "name": pod.name, "namespace": pod.namespace, "labels": labels,
            "creationTimestamp": pod.timestamp,
        },
        "timestamp": pod.timestamp,
        "window": pod.window,
        "containers": containers.collect::<Vec<_>>(),
    })
}

/// The sum over the tenant's own pods.
fn node_metrics(node: &NodeTime, pods: &[PodUsage]) -> Value {
    let here = pods.iter().filter(|pod| pod.node == node.name);
    let sum: Sum = here.map(PodUsage::sum).sum();
    json!({
        "metadata": {"name": node.name, "creationTimestamp": node.timestamp},
        "timestamp": node.timestamp,
        "window": node.window,
        "usage": {"cpu": crate::quantity::cpu(sum.nanocores), "memory": crate::quantity::memory(sum.bytes)},
    })
}

fn with_kind(kind: &str, mut object: Value) -> Value {
    object["kind"] = kind.into();
    object["apiVersion"] = GROUP_VERSION.into();
    object
}

fn list(kind: &str, items: Vec<Value>) -> Value {
    with_kind(kind, json!({"metadata": {}, "items": items}))
}

fn group() -> Value {
    let version = json!({"groupVersion": GROUP_VERSION, "version": "v1beta1"});
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": GROUP,
        "versions": [version], "preferredVersion": version,
    })
}

fn resources() -> Value {
    let resource = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]});
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION,
        "resources": [resource("nodes", "NodeMetrics", false), resource("pods", "PodMetrics", true)],
    })
}

fn unavailable(error: Error) -> Response<ResponseBody> {
    let reason = match error {
        Error::Busy => "TooManyRequests",
        Error::NotServed | Error::Unavailable => "ServiceUnavailable",
    };
    status(error.status(), reason, &error.to_string())
}

/// A refusal as API servers say it.
fn status(code: StatusCode, reason: &str, message: &str) -> Response<ResponseBody> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    json_of(code, &body)
}

fn json_of(code: StatusCode, body: &Value) -> Response<ResponseBody> {
    let mut response = forward::text(code, body.to_string());
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn pod(name: &str, node: &str, cpu: &str) -> PodUsage {
        let usage = [("cpu", cpu), ("memory", "1Ki")];
        let usage = usage.map(|(name, amount)| (name.to_owned(), amount.to_owned()));
        PodUsage {
            namespace: "shop".into(),
            name: name.into(),
            uid: "u".into(),
            node: node.into(),
            labels: BTreeMap::from([("app".into(), name.into())]),
            timestamp: "2026-01-01T00:00:00Z".into(),
            window: "15s".into(),
            containers: vec![crate::usage::ContainerUsage {
                name: "main".into(),
                usage: usage.into(),
            }],
        }
    }

    fn node(labels: &[(&str, &str)]) -> NodeTime {
        let labels = labels.iter();
        NodeTime {
            name: "n1".into(),
            labels: labels.map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            timestamp: "2026-01-01T00:00:00Z".into(),
            window: "15s".into(),
        }
    }

    /// T31: a node's figures hold what the tenant's pods use, and nothing of what else runs there.
    #[test]
    fn t31_a_node_uses_what_the_tenants_pods_use() {
        let pods = [
            pod("a", "n1", "2m"),
            pod("b", "n1", "3m"),
            pod("c", "n2", "1"),
        ];
        let seen = node_metrics(&node(&[]), &pods);
        assert_eq!(seen["usage"], json!({"cpu": "5000000n", "memory": "2Ki"}));
        let idle = node_metrics(&node(&[]), &[]);
        assert_eq!(idle["usage"], json!({"cpu": "0", "memory": "0"}));
    }

    /// T39: a selector can't ask for what the tenant doesn't see.
    #[test]
    fn t39_hidden_labels_of_nodes_select_nothing() {
        let node = node(&[("kubernetes.io/os", "linux"), ("pool", "a"), ("rack", "7")]);
        let mut route = crate::index::tests::route(1, "acme", &crate::index::tests::PEM_AUTHORITY);
        let data = route.data.as_mut().unwrap();
        data.insert("nodeSelector".into(), "pool=a".into());
        let tenant = Tenant::read(&route).unwrap();
        let matches = |text: &str| matches_node(&Selector::parse(text).unwrap(), &node, &tenant);
        assert!(matches("kubernetes.io/os=linux,pool=a"));
        assert!(!matches("rack=7"));
        assert!(matches("!rack"));
    }

    #[test]
    fn a_tenant_that_sees_the_nodes_in_use_sees_figures_of_no_other() {
        let mut route = crate::index::tests::route(1, "acme", &crate::index::tests::PEM_AUTHORITY);
        let pods = [pod("a", "n2", "2m")];
        let seen = |route: &_| is_seen(&node(&[]), &pods, &Tenant::read(route).unwrap());
        assert!(seen(&route));
        let data = route.data.as_mut().unwrap();
        data.insert("shownNodes".into(), "used".into());
        assert!(!seen(&route));
        assert!(is_seen(
            &node(&[]),
            &[pod("a", "n1", "2m")],
            &Tenant::read(&route).unwrap()
        ));
    }

    /// An autoscaler asks for the pods of a workload by its selector, whatever the labels are.
    #[test]
    fn a_pod_is_found_by_labels_that_crossed_under_other_keys_and_shows_none_of_those() {
        let key = "jobset.sigs.k8s.io/jobset-name";
        let mut measured = pod("web", "n1", "7n");
        let carried = tenancy::meta::pod_label(key).unwrap();
        measured.labels.insert(carried.clone(), "j".into());
        let matches = |text: &str| {
            let asked = Selector::parse(text).unwrap().of_super_pods();
            asked.matches(&measured.labels)
        };
        for (text, is_found) in [
            (format!("app=web,{key}=j"), true),
            (format!("{key} in (a,j)"), true),
            (key.to_owned(), true),
            (format!("{key}!=j"), false),
            (format!("!{key}"), false),
            (carried, false),
        ] {
            assert_eq!(matches(&text), is_found, "{text}");
        }
        let shown = pod_metrics(&measured);
        assert_eq!(shown["metadata"]["labels"], json!({"app": "web"}));
    }

    #[test]
    fn a_node_that_meets_no_term_of_the_tenants_nodes_is_seen_by_none() {
        let mut route = crate::index::tests::route(1, "acme", &crate::index::tests::PEM_AUTHORITY);
        let pool = |values: &str| {
            let asked = format!(r#"{{"key": "pool", "operator": "In", "values": [{values}]}}"#);
            format!(r#"[{{"required": [{{"matchExpressions": [{asked}]}}]}}]"#)
        };
        let mut seen = |affinity: String| {
            let data = route.data.as_mut().unwrap();
            data.insert("nodeAffinity".into(), affinity);
            let tenant = Tenant::read(&route).unwrap();
            let on = |pool: &str| is_seen(&node(&[("pool", pool)]), &[], &tenant);
            [on("a"), on("b")]
        };
        assert_eq!(seen(String::new()), [true, true]);
        assert_eq!(seen(pool(r#""a""#)), [true, false]);
        assert_eq!(seen(pool(r#""a", "b""#)), [true, true]);
    }

    #[test]
    fn a_pod_is_shown_as_the_metrics_api_shows_it() {
        assert_eq!(
            with_kind("PodMetrics", pod_metrics(&pod("web", "n1", "7n"))),
            json!({
                "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {
                    "name": "web", "namespace": "shop", "labels": {"app": "web"},
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                },
                "timestamp": "2026-01-01T00:00:00Z", "window": "15s",
                "containers": [{"name": "main", "usage": {"cpu": "7n", "memory": "1Ki"}}],
            })
        );
    }
}
