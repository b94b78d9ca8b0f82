//! Requests to the super API server's pod subresources, made anew from a question and a target.
//!
//! Of the caller's request only a handful of headers about the upgrade goes on; of the answer only those that belong to
//! it come back. Streams pass as bytes.

use crate::{index::SuperPodRef, kubelet::Audit, mask, moved::IDLE_LIMIT, query, route::Question};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long the head of an answer may take.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Longest error text that is read.
const ERROR_MAX: usize = 64 << 10;
/// A bearer token in the guise of a WebSocket protocol: an identity that nobody here may bring along.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Headers of an upgrade, apart from `Connection` and `Upgrade`.
static UPGRADE_HEADERS: [HeaderName; 6] = [
    HeaderName::from_static("x-stream-protocol-version"),
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_ACCEPT,
];

/// The body of an answer.
pub(crate) type ResponseBody = Either<Full<Bytes>, Counted>;

/// The super API server.
#[derive(Clone)]
pub(crate) struct Upstream {
    client: kube::Client,
}

/// A body that is counted for the audit, which is written when it ends.
pub(crate) struct Counted {
    body: Body,
    audit: Audit,
}

impl Upstream {
    /// `client` speaks HTTP/1.1, puts no limit on the time of a request and repeats none.
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// The head of an answer and what follows, or what the caller is told instead.
    async fn ask(
        &self,
        request: Request<Body>,
        question: &Question,
        target: &SuperPodRef,
    ) -> Result<Response<Body>, StatusCode> {
        let namespace = &target.namespace;
        match timeout(head_limit(question), self.client.send(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                tracing::warn!(%error, namespace, "the super API server can't be reached");
                Err(StatusCode::BAD_GATEWAY)
            }
            Err(_) => {
                tracing::warn!(namespace, "the super API server doesn't answer in time");
                Err(StatusCode::GATEWAY_TIMEOUT)
            }
        }
    }

    /// A container's log.
    pub(crate) async fn logs(
        &self,
        question: &Question,
        target: &SuperPodRef,
        mut audit: Audit,
    ) -> Response<ResponseBody> {
        let Some(request) = build(Request::get(uri(question, target))) else {
            return unreachable();
        };
        let response = match self.ask(request, question, target).await {
            Ok(response) => response,
            Err(status) => return unanswered(status, &mut audit),
        };
        audit.answered(response.status());
        if response.status() != StatusCode::OK {
            return explain(response, question, target, &mut audit).await;
        }
        let counted = Counted {
            body: response.into_body(),
            audit,
        };
        let mut response = Response::new(Either::Right(counted));
        let plain = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    }

    /// Exec, attach and port-forward.
    pub(crate) async fn stream(
        &self,
        mut request: Request<Incoming>,
        question: &Question,
        target: &SuperPodRef,
        mut audit: Audit,
        tasks: &TaskTracker,
        gone: CancellationToken,
    ) -> Response<ResponseBody> {
        let Some(upgrade) = upgrade_of(request.headers()) else {
            audit.status = StatusCode::BAD_REQUEST;
            return text(
                audit.status,
                "an upgrade to SPDY or WebSocket is required".into(),
            );
        };
        let mut onward = Request::builder()
            .method(request.method())
            .uri(uri(question, target));
        if let Some(headers) = onward.headers_mut() {
            *headers = upgrade_headers(request.headers());
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
        }
        let Some(onward) = build(onward) else {
            return unreachable();
        };
        let mut answer = match self.ask(onward, question, target).await {
            Ok(answer) => answer,
            Err(status) => return unanswered(status, &mut audit),
        };
        audit.answered(answer.status());
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return explain(answer, question, target, &mut audit).await;
        }
        let mut response = Response::new(Either::Left(Full::default()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = upgrade_headers(answer.headers());
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
        let (near, far) = (
            hyper::upgrade::on(&mut request),
            hyper::upgrade::on(&mut answer),
        );
        tasks.spawn(async move {
            let (Ok(near), Ok(far)) = tokio::join!(near, far) else {
                return;
            };
            let (near, far) = (TokioIo::new(near), TokioIo::new(far));
            let moved = audit.moved.clone();
            // Most streams end by an error: one side is gone before the other has said its last.
            moved.pass(near, far, IDLE_LIMIT, &gone).await;
            drop(audit);
        });
        response
    }
}

/// The path and query at the super API server. All parts are names that were checked, or encoded.
fn uri(question: &Question, target: &SuperPodRef) -> String {
    format!(
        "/api/v1/namespaces/{}/pods/{}/{}?{}",
        target.namespace,
        target.name,
        question.verb.subresource(),
        query::build(&question.parameters)
    )
}

fn build(builder: http::request::Builder) -> Option<Request<Body>> {
    builder.body(Body::empty()).ok()
}

/// What the caller wants to speak; `None` unless it is one of two, asked for once and without a body.
fn upgrade_of(headers: &HeaderMap) -> Option<&'static str> {
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| length != "0");
    let mut asked = headers.get_all(header::UPGRADE).iter();
    let (Some(first), None, false) = (asked.next(), asked.next(), has_body) else {
        return None;
    };
    let first = first.to_str().ok()?;
    ["SPDY/3.1", "websocket"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(first))
}

/// Those of the headers that belong to an upgrade.
fn upgrade_headers(all: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in &UPGRADE_HEADERS {
        for value in all.get_all(name) {
            let value = if *name == header::SEC_WEBSOCKET_PROTOCOL {
                without_tokens(value)
            } else {
                Some(value.clone())
            };
            if let Some(value) = value {
                kept.append(name, value);
            }
        }
    }
    kept
}

fn without_tokens(protocols: &HeaderValue) -> Option<HeaderValue> {
    let protocols = protocols.to_str().ok()?.split(',').map(str::trim);
    let kept: Vec<&str> = protocols
        .filter(|protocol| !protocol.starts_with(TOKEN_PROTOCOL))
        .collect();
    HeaderValue::from_str(&kept.join(", ")).ok()
}

/// What a kubelet would have said: the super API server's words, in the tenant's names.
async fn explain(
    answer: Response<Body>,
    question: &Question,
    target: &SuperPodRef,
    audit: &mut Audit,
) -> Response<ResponseBody> {
    let said = in_the_tenants_words(answer, question, target).await;
    audit.status = said.status();
    said
}

async fn in_the_tenants_words(
    answer: Response<Body>,
    question: &Question,
    target: &SuperPodRef,
) -> Response<ResponseBody> {
    let status = answer.status();
    // The proxy's own rights are no business of the tenant's.
    if matches!(status.as_u16(), 401 | 403 | 429) || status.is_redirection() {
        tracing::warn!(
            namespace = target.namespace,
            status = status.as_u16(),
            "the super API server refuses the proxy's request"
        );
        return unreachable();
    }
    let body = Limited::new(answer.into_body(), ERROR_MAX).collect().await;
    let Ok(body) = body else {
        return unreachable();
    };
    let bytes = body.to_bytes();
    let said: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    let message = said.as_ref().and_then(|said| said["message"].as_str());
    let message = message.map_or_else(
        || String::from_utf8_lossy(&bytes).into_owned(),
        str::to_owned,
    );
    let (masked, has_addresses) = mask::addresses(&message);
    let mut status = status;
    if mask::is_of_a_connection(&message) {
        status = StatusCode::BAD_GATEWAY;
    }
    if has_addresses {
        tracing::warn!(
            namespace = target.namespace,
            pod = target.name,
            message,
            "what the super API server says is told without addresses"
        );
    }
    text(
        status,
        masked.replace(&target.namespace, &question.namespace),
    )
}

/// A kubelet says nothing of a log that is followed before there is a line of it.
fn head_limit(question: &Question) -> Duration {
    let follows = |(name, value): &(&str, String)| *name == "follow" && value == "true";
    if question.parameters.iter().any(follows) {
        IDLE_LIMIT
    } else {
        HEAD_LIMIT
    }
}

fn unanswered(status: StatusCode, audit: &mut Audit) -> Response<ResponseBody> {
    audit.status = status;
    if status == StatusCode::GATEWAY_TIMEOUT {
        return text(status, "the node doesn't answer in time".into());
    }
    unreachable()
}

fn unreachable() -> Response<ResponseBody> {
    text(
        StatusCode::BAD_GATEWAY,
        "the node can't be reached just now".into(),
    )
}

/// A plain answer.
pub(crate) fn text(status: StatusCode, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(Either::Left(Full::from(text)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    // All limits here give room again within a second.
    if status == StatusCode::TOO_MANY_REQUESTS {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = kube::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, kube::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.audit.moved.add_back(data.len());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).unwrap();
            (HeaderName::from_static(name), value)
        });
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    /// T33: no header but those of the upgrade goes on, and no token hides among those.
    #[test]
    fn t33_identity_headers_do_not_go_on() {
        let kept = upgrade_headers(&headers(&[
            ("authorization", "Bearer "),
            ("authorization", "Bearer stolen"),
            ("impersonate-user", "system:admin"),
            ("x-remote-user", "system:admin"),
            ("x-remote-group", "system:masters"),
            ("x-forwarded-for", "10.0.0.1"),
            ("connection", "upgrade, x-stream-protocol-version"),
            ("cookie", "a=b"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-stream-protocol-version", "v5.channel.k8s.io"),
            (
                "sec-websocket-protocol",
                "base64url.bearer.authorization.k8s.io.c3RvbGVu, v5.channel.k8s.io",
            ),
        ]));
        let kept: Vec<_> = kept
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        assert_eq!(
            kept,
            [
                "x-stream-protocol-version: v4.channel.k8s.io",
                "x-stream-protocol-version: v5.channel.k8s.io",
                "sec-websocket-protocol: v5.channel.k8s.io",
            ]
        );
    }

    /// T40: a super API server that hangs holds no place for longer than that, unless there may be nothing to tell yet.
    #[tokio::test(start_paused = true)]
    async fn t40_an_answer_that_does_not_begin_is_given_up() {
        let service = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, std::convert::Infallible>>()
        });
        let upstream = Upstream::new(kube::Client::new(service, "s"));
        let target = SuperPodRef {
            namespace: "twin".into(),
            name: "web".into(),
            uid: "u1".into(),
            node: "n1".into(),
        };
        let logs = "/containerLogs/default/web/main";
        for (path, query, limit) in [
            (logs, "", HEAD_LIMIT),
            (logs, "follow=false", HEAD_LIMIT),
            (logs, "follow=true", IDLE_LIMIT),
            ("/exec/default/web/main", "command=id&output=1", HEAD_LIMIT),
        ] {
            let asked = route::parse(&http::Method::GET, path, query);
            let Ok(route::Request::Pod(question)) = asked else {
                panic!("{path}");
            };
            let began = tokio::time::Instant::now();
            let request = Request::get("/").body(Body::empty()).unwrap();
            let answer = upstream.ask(request, &question, &target).await;
            assert_eq!(answer.err(), Some(StatusCode::GATEWAY_TIMEOUT));
            let waited = began.elapsed();
            assert!(waited >= limit && waited < 2 * limit, "{query} {waited:?}");
        }
    }

    #[test]
    fn t33_an_upgrade_is_asked_for_once_and_without_a_body() {
        let asks = |pairs: &[(&'static str, &str)]| upgrade_of(&headers(pairs));
        assert_eq!(asks(&[("upgrade", "spdy/3.1")]), Some("SPDY/3.1"));
        assert_eq!(
            asks(&[("upgrade", "websocket"), ("content-length", "0")]),
            Some("websocket")
        );
        for refused in [
            &[("upgrade", "h2c")][..],
            &[("upgrade", "websocket"), ("upgrade", "SPDY/3.1")],
            &[("upgrade", "websocket, SPDY/3.1")],
            &[("upgrade", "websocket"), ("content-length", "5")],
            &[("upgrade", "websocket"), ("transfer-encoding", "chunked")],
            &[("connection", "upgrade")],
        ] {
            assert_eq!(asks(refused), None, "{refused:?}");
        }
    }
}
