//! The kubelet of the virtual nodes: logs, exec, attach and port-forward of the tenant's own pods, their list, and what
//! they use.
//!
//! It lives behind the way out, so a caller proves twice who it is, and both proofs must name the same tenant. What is
//! told of a node is made of the tenant's own pods: no answer can tell of another's.

use crate::{
    forward::{self, ResponseBody, Upstream},
    identity::{self, Gate},
    index::{Index, Tenant},
    limit::Slot,
    metrics::{Metrics, Plane},
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
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// Room for a request's head: commands stand in the query.
pub(crate) const HEAD_MAX: usize = 128 << 10;

mod audit;

pub(crate) use audit::Audit;
use audit::Caller;

const JSON: &str = "application/json";
/// The tenant asks too much of its pods.
const BUSY: &str = "too many requests to pods: try again in a second";

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
        let no_identity = || {
            self.metrics
                .turned_down(&tenant, Plane::Kubelet, "no_identity", None);
        };
        let Ok(Ok(tls)) = timeout(START_LIMIT, tls.accept(tunnel)).await else {
            return no_identity();
        };
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let inner = self.gate.identify(chain, UnixTime::now());
        if !inner.is_ok_and(|inner| inner.id == tenant.id) {
            return no_identity();
        }
        let open = self.metrics.open(tenant.id.as_str(), Plane::Kubelet);
        let caller = Caller {
            tenant: tenant.clone(),
            node,
            subject: identity::subject(chain),
            _held: Arc::new((slot, open)),
        };
        let answer = |request| {
            let (kubelet, caller) = (self.clone(), caller.clone());
            async move { kubelet.answer(caller, request).await }
        };
        self.inner.serve(tls, &tenant, answer).await;
    }

    async fn answer(&self, caller: Caller, request: Request<Incoming>) -> Response<ResponseBody> {
        let tenant = caller.tenant.clone();
        let place = tenant.limits.pods.take().ok();
        let is_limited = place.is_none();
        let mut audit = Audit::new(self.metrics.clone(), caller, place);
        let (method, uri) = (request.method(), request.uri());
        if is_limited {
            let limited = (StatusCode::TOO_MANY_REQUESTS, "limited");
            return audit.refused(limited, BUSY, method, uri.path());
        }
        let query = uri.query().unwrap_or_default();
        match route::parse(method, uri.path(), query) {
            Ok(route::Request::Healthz) => {
                let known = self.index.node_of(&tenant, audit.node());
                audit.of_node("healthz", known);
                audit.answered(StatusCode::OK);
                forward::text(StatusCode::OK, "ok".into())
            }
            Ok(route::Request::Pod(question)) => {
                self.pass(request, &question, &tenant, audit).await
            }
            Ok(route::Request::Node(whole)) => self.tell(&tenant, whole, audit).await,
            Err(refusal) => {
                let outcome = (refusal.status(), refusal.word());
                audit.refused(outcome, &refusal.to_string(), method, uri.path())
            }
        }
    }

    /// What the super API server says of a pod.
    async fn pass(
        &self,
        request: Request<Incoming>,
        question: &Question,
        tenant: &Tenant,
        mut audit: Audit,
    ) -> Response<ResponseBody> {
        audit.of_pod(question);
        let (namespace, name) = (&question.namespace, &question.pod);
        let uid = question.uid.as_deref();
        let Some(target) = self.index.pod(tenant, namespace, name, uid) else {
            return forward::text(audit.status, format!("pod {name:?} does not exist"));
        };
        audit.found(&target);
        match question.verb {
            Verb::Logs => self.upstream.logs(question, &target, audit).await,
            Verb::Exec | Verb::Attach | Verb::PortForward => {
                let gone = tenant.known.clone();
                self.upstream
                    .stream(request, question, &target, audit, &self.tasks, gone)
                    .await
            }
        }
    }

    /// What the node's kubelet would tell of all its pods, if the tenant's were all.
    async fn tell(
        &self,
        tenant: &Tenant,
        whole: Whole,
        mut audit: Audit,
    ) -> Response<ResponseBody> {
        let called = audit.node().to_owned();
        let known = self.index.node_of(tenant, &called);
        audit.of_node(whole.word(), known.clone());
        let told = self.told(tenant, &called, known.as_deref(), whole).await;
        let response = match told {
            Ok((kind, text)) => {
                let mut response = forward::text(StatusCode::OK, text);
                let kind = HeaderValue::from_static(kind);
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(error) => {
                audit.outcome = Some(error.word());
                forward::text(error.status(), error.to_string())
            }
        };
        audit.answered(response.status());
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

#[cfg(test)]
mod tests;
