//! One line for every request to a virtual node's kubelet: who asked for what, and what came of it. Of a stream there is one
//! more when it begins.

use crate::{
    forward::{self, ResponseBody},
    index::{SuperPodRef, Tenant},
    limit::Slot,
    metrics::{Metrics, Open, Plane},
    moved::Moved,
    route::Question,
};
use http::{Response, StatusCode};
use std::sync::Arc;
use tokio::time::Instant;

/// Characters of a path that is refused.
const PATH_MAX: usize = 200;

/// Who asks, and what its connection holds, and each stream that it becomes.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(super) tenant: Arc<Tenant>,
    /// The node that it called.
    pub(super) node: String,
    /// The subject of its certificate.
    pub(super) subject: String,
    pub(super) _held: Arc<(Arc<Slot>, Open)>,
}

/// What is written down of a request once it has ended.
pub(crate) struct Audit {
    metrics: Arc<Metrics>,
    caller: Caller,
    asked: Asked,
    began: Instant,
    /// Status of the answer.
    pub(crate) status: StatusCode,
    /// What came of it, if the status doesn't say it.
    pub(crate) outcome: Option<&'static str>,
    /// Bytes to the pod, and from it.
    pub(crate) moved: Arc<Moved>,
    _place: Option<Slot>,
}

/// What was asked for, as far as it is known.
#[derive(Default)]
struct Asked {
    verb: &'static str,
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    /// Method and path of what was refused.
    path: String,
}

/// A line about a request.
macro_rules! line {
    ($audit:expr, $message:literal $(, $name:ident = $value:expr)*) => {
        tracing::info!(
            target: "audit",
            tenant = $audit.caller.tenant.id.as_str(),
            control_plane = $audit.caller.tenant.name,
            subject = $audit.caller.subject,
            node = $audit.caller.node,
            verb = $audit.asked.verb,
            namespace = $audit.asked.namespace,
            pod = $audit.asked.pod,
            uid = $audit.asked.uid,
            container = $audit.asked.container,
            status = $audit.status.as_u16(),
            $($name = $value,)*
            $message
        )
    };
}

impl Audit {
    /// A request has come; `place` is among those that its tenant may have, if it has one left.
    pub(super) fn new(metrics: Arc<Metrics>, caller: Caller, place: Option<Slot>) -> Self {
        Self {
            metrics,
            caller,
            asked: Asked::default(),
            began: Instant::now(),
            status: StatusCode::NOT_FOUND,
            outcome: None,
            moved: Arc::default(),
            _place: place,
        }
    }

    /// It is about a pod.
    pub(super) fn of_pod(&mut self, question: &Question) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        self.asked = Asked {
            verb: question.verb.word(),
            namespace: question.namespace.clone(),
            pod: question.pod.clone(),
            uid: text(&question.uid),
            container: text(&question.container),
            path: String::new(),
        };
    }

    /// That pod is known. The caller may have called its node by the address.
    pub(super) fn found(&mut self, target: &SuperPodRef) {
        self.caller.node.clone_from(&target.node);
        self.asked.uid.clone_from(&target.uid);
        self.status = StatusCode::BAD_GATEWAY;
    }

    /// The node, by the name that is known.
    pub(super) fn node(&self) -> &str {
        &self.caller.node
    }

    /// It is about a node.
    pub(super) fn of_node(&mut self, verb: &'static str, node: Option<String>) {
        self.asked.verb = verb;
        self.caller.node = node.unwrap_or_else(|| std::mem::take(&mut self.caller.node));
    }

    /// It is refused, by this status and for this word.
    pub(super) fn refused(
        mut self,
        (status, word): (StatusCode, &'static str),
        why: &str,
        method: &http::Method,
        path: &str,
    ) -> Response<ResponseBody> {
        let all = format!("{method} {path}");
        self.asked.path = all.chars().take(PATH_MAX).collect();
        self.status = status;
        self.outcome = Some(word);
        let tenant = &self.caller.tenant;
        if tenant.limits.noise.may_speak(Plane::Kubelet, word) {
            tracing::warn!(
                tenant = tenant.id.as_str(),
                node = self.caller.node,
                path = self.asked.path,
                why,
                "refused a request to a virtual node"
            );
        }
        forward::text(status, why.to_owned())
    }

    /// The other side has answered.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = status;
        let id = self.caller.tenant.id.as_str();
        self.metrics
            .started(id, Plane::Kubelet, self.asked.verb, self.began.elapsed());
        if status == StatusCode::SWITCHING_PROTOCOLS {
            line!(self, "kubelet request begins");
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        let id = self.caller.tenant.id.as_str();
        let outcome = self.outcome.unwrap_or_else(|| outcome(self.status));
        self.metrics.count(id, Plane::Kubelet, outcome);
        self.metrics.moved(id, Plane::Kubelet, self.moved.all());
        line!(
            self,
            "kubelet request",
            outcome = outcome,
            path = self.asked.path,
            seconds = self.began.elapsed().as_secs_f64(),
            there = self.moved.there(),
            back = self.moved.back()
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
