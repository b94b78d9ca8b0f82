//! The small HTTP server for probes and scrapers, and for whoever changes what is logged.

use crate::logging;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::VecDeque, convert::Infallible, fmt, net::IpAddr, sync::Arc, time::Duration,
};
use tokio::{net::TcpListener, task::AbortHandle, time::timeout};

/// Connections served at once: probes and a scraper or two. When one more comes, the oldest goes, so that whoever opens
/// connections and is silent keeps no probe out.
const CONNECTIONS: usize = 32;
/// A client that asks nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of a log filter.
const FILTER: usize = 4096;
/// Prometheus 3 reads no page that doesn't say its format.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// What a daemon shows.
pub trait Page: Send + Sync + 'static {
    /// Whether it does its work; if not, what it waits for.
    fn ready(&self) -> Result<(), &'static str>;

    /// Its metrics in the text format of OpenMetrics.
    fn metrics(&self) -> Result<String, fmt::Error>;
}

/// Answers probes and scrapes until the task is dropped.
pub async fn serve(listener: TcpListener, page: Arc<impl Page>) {
    let mut open = VecDeque::<AbortHandle>::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection to the metrics port could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        open.retain(|task| !task.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let page = page.clone();
        // Its end is of no interest: a probe that failed asks again.
        let task = tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let page = page.clone();
                async move {
                    let response = match request.uri().path() {
                        "/log" => log(peer.ip(), request).await,
                        path => answer(path, &*page),
                    };
                    Ok::<_, Infallible>(response)
                }
            });
            let mut server = http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE);
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
        open.push_back(task.abort_handle());
    }
}

fn answer(path: &str, page: &impl Page) -> Response<Full<Bytes>> {
    let (status, kind, text) = match path {
        "/livez" => (StatusCode::OK, PLAIN, "ok".to_owned()),
        "/readyz" => match page.ready() {
            Ok(()) => (StatusCode::OK, PLAIN, "ok".to_owned()),
            Err(waits) => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, waits.to_owned()),
        },
        "/metrics" => match page.metrics() {
            Ok(text) => (StatusCode::OK, METRICS, text),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, String::new()),
        },
        _ => (StatusCode::NOT_FOUND, PLAIN, "not found".to_owned()),
    };
    respond(status, kind, text)
}

/// Changes what is logged, to what the body says. Only who is on the same machine, or in the same pod, may: that is whoever
/// may forward a port to it.
async fn log(peer: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, text) = if !peer.to_canonical().is_loopback() {
        let text = "only from this machine: use kubectl port-forward";
        (StatusCode::FORBIDDEN, text.to_owned())
    } else if request.method() != Method::PUT {
        let text = "PUT a log filter such as info,syncer=debug; an empty one is that of the flag";
        (StatusCode::METHOD_NOT_ALLOWED, text.to_owned())
    } else {
        let body = Limited::new(request.into_body(), FILTER).collect();
        match timeout(PATIENCE, body).await {
            Ok(Ok(body)) => match logging::change(&String::from_utf8_lossy(&body.to_bytes())) {
                Ok(filter) => (StatusCode::OK, filter),
                Err(why) => (StatusCode::BAD_REQUEST, why),
            },
            _ => (StatusCode::BAD_REQUEST, "no whole filter".to_owned()),
        }
    };
    respond(status, PLAIN, text + "\n")
}

fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Waiting;

    impl Page for Waiting {
        fn ready(&self) -> Result<(), &'static str> {
            Err("it waits")
        }
        fn metrics(&self) -> Result<String, fmt::Error> {
            Ok("# EOF\n".into())
        }
    }

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        ask(address, "GET", path, "").await
    }

    async fn ask(address: std::net::SocketAddr, verb: &str, path: &str, body: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let size = body.len();
        let request = format!(
            "{verb} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// T40: who is silent keeps no probe out.
    #[tokio::test]
    async fn t40_idle_connections_keep_no_probe_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Arc::new(Waiting)));
        let mut idle = vec![];
        for _ in 0..2 * CONNECTIONS {
            idle.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        let live = tokio::time::timeout(PATIENCE / 2, get(address, "/livez")).await;
        assert!(live.unwrap().starts_with("HTTP/1.1 200"));
        // The first were let go to make room.
        assert_eq!(idle[0].read(&mut [0]).await.unwrap_or_default(), 0);
        server.abort();
    }

    #[tokio::test]
    async fn probes_and_scrapes_are_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Arc::new(Waiting)));
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let waits = get(address, "/readyz").await;
        assert!(waits.starts_with("HTTP/1.1 503") && waits.ends_with("it waits"));
        let metrics = get(address, "/metrics").await;
        assert!(metrics.ends_with("\r\n\r\n# EOF\n"), "{metrics}");
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        assert!(metrics.contains(kind), "{metrics}");
        assert!(waits.contains("content-type: text/plain"), "{waits}");
        assert!(get(address, "/debug").await.starts_with("HTTP/1.1 404"));
        server.abort();
    }

    /// The only test that logs: a process has one subscriber.
    #[tokio::test]
    async fn what_is_logged_is_changed_by_a_request_from_this_machine_alone() {
        use tracing::{Level, enabled};
        let listener = TcpListener::bind("[::]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(serve(listener, Arc::new(Waiting)));
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let put = |filter: &'static str| ask(address, "PUT", "/log", filter);
        assert!(put("debug").await.starts_with("HTTP/1.1 400"));

        crate::LogArgs::of("info").start().unwrap();
        assert!(enabled!(Level::INFO) && !enabled!(Level::DEBUG));
        assert!(put("debug").await.ends_with("\r\n\r\ndebug\n"));
        assert!(enabled!(Level::DEBUG));
        let wrong = put("info,=").await;
        assert!(wrong.starts_with("HTTP/1.1 400"), "{wrong}");
        assert!(enabled!(Level::DEBUG), "a wrong one changes nothing");
        assert!(put("").await.ends_with("\r\n\r\ninfo\n"));
        assert!(!enabled!(Level::DEBUG));
        assert!(get(address, "/log").await.starts_with("HTTP/1.1 405"));
        server.abort();
    }

    #[tokio::test]
    async fn who_is_elsewhere_changes_nothing_of_what_is_logged() {
        let (near, far) = tokio::io::duplex(4096);
        let service = service_fn(|request| async {
            let elsewhere = IpAddr::from([10, 0, 0, 7]);
            Ok::<_, Infallible>(log(elsewhere, request).await)
        });
        let server = http1::Builder::new().serve_connection(TokioIo::new(far), service);
        let asks = async {
            let (mut read, mut write) = tokio::io::split(near);
            let request = "PUT /log HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\ndebug";
            write.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            read.read_to_string(&mut text).await.unwrap();
            text
        };
        let (_, said) = tokio::join!(server, asks);
        assert!(said.starts_with("HTTP/1.1 403"), "{said}");
        assert!(said.contains("port-forward"), "{said}");
    }
}
