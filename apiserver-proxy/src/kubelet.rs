//! The kubelet of the virtual nodes: logs, exec, attach and port-forward of the tenant's own pods, their list, and what
//! they use.
//!
//! It lives behind the way out, so a caller proves twice who it is, and both proofs must name the same tenant. What is
//! told of a node is made of the tenant's own pods: no answer can tell of another's.

use crate::{
    forward::{self, Answer, Upstream},
    identity::Gate,
    index::{Index, Tenant},
    limit::Slot,
    metrics::{Metrics, Open, Plane},
    moved::Moved,
    node_figures::{self, Counters},
    node_pods,
    route::{self, Question, Verb, Whole},
    tunnel::{Inner, START_LIMIT},
    usage::{self, Usage},
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use std::sync::Arc;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// Room for a request's head: commands stand in the query.
pub(crate) const HEAD_MAX: usize = 128 << 10;

const JSON: &str = "application/json";

/// The kubelet.
pub(crate) struct Kubelet {
    pub(crate) gate: Arc<Gate>,
    pub(crate) index: Arc<Index>,
    pub(crate) upstream: Upstream,
    pub(crate) usage: Usage,
    pub(crate) counters: Arc<Counters>,
    pub(crate) inner: Inner,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: TaskTracker,
}

/// What is written down of every request, once it has ended.
pub(crate) struct Audit {
    metrics: Arc<Metrics>,
    tenant: Arc<Tenant>,
    node: String,
    question: Question,
    began: Instant,
    /// Status of the answer.
    pub(crate) status: StatusCode,
    /// Bytes to the pod, and from it.
    pub(crate) moved: Arc<Moved>,
    /// Of the tenant's requests to its pods.
    _place: Slot,
    _held: Arc<Held>,
}

/// What a connection holds, and each stream that it becomes.
struct Held {
    _slot: Arc<Slot>,
    _open: Open,
}

impl Kubelet {
    /// Serves a caller that the way out knows as `tenant`.
    pub(crate) async fn serve(
        self: Arc<Self>,
        tunnel: TokioIo<Upgraded>,
        tls: TlsAcceptor,
        tenant: Arc<Tenant>,
        node: String,
        slot: Arc<Slot>,
    ) {
        let Ok(Ok(tls)) = timeout(START_LIMIT, tls.accept(tunnel)).await else {
            return self.metrics.turned_away(Plane::Kubelet, "no_identity");
        };
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let inner = self.gate.identify(chain, UnixTime::now());
        if !inner.is_ok_and(|inner| inner.id == tenant.id) {
            return self.metrics.turned_away(Plane::Kubelet, "no_identity");
        }
        let held = Arc::new(Held {
            _slot: slot,
            _open: self.metrics.open(tenant.id.as_str(), Plane::Kubelet),
        });
        let answer = |request| {
            let (kubelet, tenant, node) = (self.clone(), tenant.clone(), node.clone());
            let held = held.clone();
            async move { kubelet.answer(tenant, node, held, request).await }
        };
        self.inner.serve(tls, &tenant, answer).await;
    }

    async fn answer(
        &self,
        tenant: Arc<Tenant>,
        node: String,
        held: Arc<Held>,
        request: Request<Incoming>,
    ) -> Response<Answer> {
        let uri = request.uri();
        let question = match route::parse(
            request.method(),
            uri.path(),
            uri.query().unwrap_or_default(),
        ) {
            Ok(route::Request::Pod(question)) => question,
            Ok(route::Request::Node(whole)) => return self.tell(&tenant, &node, whole).await,
            Ok(route::Request::Healthz) => return forward::text(StatusCode::OK, "ok".into()),
            Err(refusal) => {
                let id = tenant.id.as_str();
                self.metrics.count(id, Plane::Kubelet, refusal.word());
                if tenant.limits.noise.may_speak() {
                    tracing::warn!(tenant = id, node, why = %refusal, "refused a request to a virtual node");
                }
                return forward::text(refusal.status(), refusal.to_string());
            }
        };
        let Ok(place) = tenant.limits.pods.take() else {
            self.metrics
                .count(tenant.id.as_str(), Plane::Kubelet, "limited");
            return busy();
        };
        let mut audit = Audit {
            metrics: self.metrics.clone(),
            tenant: tenant.clone(),
            node,
            question: question.clone(),
            began: Instant::now(),
            status: StatusCode::NOT_FOUND,
            moved: Arc::default(),
            _place: place,
            _held: held,
        };
        let target = self.index.pod(
            &tenant,
            &question.namespace,
            &question.pod,
            question.uid.as_deref(),
        );
        let Some(target) = target else {
            return forward::text(
                audit.status,
                format!("pod {:?} does not exist", question.pod),
            );
        };
        audit.status = StatusCode::BAD_GATEWAY;
        // The caller may have called it by its address.
        audit.node.clone_from(&target.node);
        match question.verb {
            Verb::Logs => self.upstream.logs(&question, &target, audit).await,
            Verb::Exec | Verb::Attach | Verb::PortForward => {
                let (request, gone) = (request, tenant.known.clone());
                self.upstream
                    .stream(request, &question, &target, audit, &self.tasks, gone)
                    .await
            }
        }
    }
}

impl Kubelet {
    /// What the node's kubelet would tell of all its pods, if the tenant's were all.
    async fn tell(&self, tenant: &Tenant, node: &str, whole: Whole) -> Response<Answer> {
        let (began, id) = (Instant::now(), tenant.id.as_str());
        let known = self.index.node_of(tenant, node);
        let told = self.told(tenant, node, known.as_deref(), whole).await;
        let node = known.as_deref().unwrap_or(node);
        let (outcome, response) = match told {
            Ok((kind, text)) => {
                let mut response = forward::text(StatusCode::OK, text);
                let kind = HeaderValue::from_static(kind);
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                ("done", response)
            }
            Err(error) => (
                error.word(),
                forward::text(error.status(), error.to_string()),
            ),
        };
        self.metrics.count(id, Plane::Kubelet, outcome);
        self.metrics
            .started(Plane::Kubelet, whole.word(), began.elapsed());
        tracing::info!(
            target: "audit",
            tenant = id,
            control_plane = tenant.name,
            node,
            verb = whole.word(),
            status = response.status().as_u16(),
            seconds = began.elapsed().as_secs_f64(),
            "kubelet request"
        );
        response
    }

    /// Media type and text.
    async fn told(
        &self,
        tenant: &Tenant,
        called: &str,
        known: Option<&str>,
        whole: Whole,
    ) -> Result<(&'static str, String), usage::Error> {
        let name = known.unwrap_or(called);
        let here = async || {
            let pods = self.usage.pods(tenant, None).await?;
            Ok::<_, usage::Error>(node_figures::on_node(pods, called))
        };
        let now = Timestamp::now();
        Ok(match whole {
            Whole::Pods => {
                let items = match known {
                    Some(node) => self.usage.objects(tenant, node).await?,
                    None => vec![],
                };
                let list = node_pods::list(items, tenant, called, &self.index);
                (JSON, list.to_string())
            }
            Whole::Summary => (
                JSON,
                node_figures::summary(name, &here().await?, now).to_string(),
            ),
            Whole::Resource => (
                "text/plain; version=0.0.4; charset=utf-8",
                self.counters.resource(tenant, name, &here().await?, now),
            ),
        })
    }
}

impl Audit {
    /// The super API server has answered.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = status;
        let verb = self.question.verb.word();
        self.metrics
            .started(Plane::Kubelet, verb, self.began.elapsed());
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        let id = self.tenant.id.as_str();
        self.metrics.count(id, Plane::Kubelet, outcome(self.status));
        self.metrics.moved(id, Plane::Kubelet, self.moved.all());
        tracing::info!(
            target: "audit",
            tenant = id,
            control_plane = self.tenant.name,
            node = self.node,
            verb = self.question.verb.word(),
            namespace = self.question.namespace,
            pod = self.question.pod,
            container = self.question.container.as_deref().unwrap_or_default(),
            status = self.status.as_u16(),
            seconds = self.began.elapsed().as_secs_f64(),
            there = self.moved.there(),
            back = self.moved.back(),
            "kubelet request"
        );
    }
}

/// What an answer comes to, for metrics.
fn outcome(status: StatusCode) -> &'static str {
    match status.as_u16() {
        101 | 200..300 => "done",
        404 => "not_found",
        // What the caller asked for can't be, such as the log of a container that hasn't started.
        400..500 => "invalid",
        502..=504 => "unreachable",
        _ => "failed",
    }
}

/// The tenant asks too much of its pods.
fn busy() -> Response<Answer> {
    let mut response = forward::text(
        StatusCode::TOO_MANY_REQUESTS,
        "too many requests to pods: try again in a second".into(),
    );
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests;
