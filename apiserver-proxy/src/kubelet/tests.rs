use super::*;
use crate::{
    index::tests::place,
    world::{World, code, counted, head, id, say, text},
};
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// A super API server that has one log.
async fn world() -> World {
    World::new(|_| Response::new(text("a line\n"))).await
}

/// A super API server that answers everything with this.
async fn saying(status: u16, message: String) -> World {
    World::new(move |_| {
        let said = serde_json::json!({"kind": "Status", "message": message}).to_string();
        let response = Response::builder().status(status);
        let response = response.header("Location", "https://10.0.0.1:6443/api/v1/secrets");
        response.body(text(said)).unwrap()
    })
    .await
}

/// Asks the kubelet as tenant 1; `rest` is all after the path.
async fn ask(world: &World, method: &str, path: &str, rest: &str) -> String {
    let one = world.one();
    let mut stream = world.tunnel(&one, &one).await.unwrap();
    let text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{rest}\r\n");
    say(&mut stream, text.as_bytes()).await
}

/// T31, T32, T33: a request in a form that no client uses is answered with its code, and nothing is asked for it.
#[tokio::test]
async fn t32_t33_bad_requests_are_answered_with_their_code_and_ask_for_nothing() {
    let world = world().await;
    let long = format!("X: {}\r\n", "x".repeat(2 * HEAD_MAX));
    let many = "X: y\r\n".repeat(200);
    let exec = "/exec/default/web/main?command=id&output=1";
    let logs = "/containerLogs/default/web/main";
    let far = format!("{exec}&command={}", "x".repeat(1 << 16));
    let rows: &[(&str, &str, &str, u16)] = &[
        ("GET", "/containerLogs/default/../web/main", "", 400),
        ("GET", "/containerLogs/other/../default/web/main", "", 400),
        ("GET", "/containerLogs/..%2fdefault/web/main", "", 400),
        ("GET", "/containerLogs/default%2fweb/main", "", 400),
        ("GET", "/containerLogs/default/web%00/main", "", 400),
        ("GET", "/containerLogs//default/web/main", "", 400),
        ("GET", "/containerLogs/default//main", "", 400),
        ("GET", "/containerLogs/default/web/main/", "", 400),
        ("GET", "//containerLogs/default/web/main", "", 403),
        ("GET", "/CONTAINERLOGS/default/web/main", "", 403),
        ("GET", "/containerLogs/DEFAULT/web/main", "", 400),
        ("GET", "/containerLogs/default/Web/main", "", 400),
        (
            "GET",
            "/containerLogs/default/web/main?tailLines=x",
            "",
            400,
        ),
        ("GET", "/containerLogs/default/web/main?follow=%zz", "", 400),
        ("GET", "/containerLogs/default/none/main", "", 404),
        (
            "GET",
            "http://10.0.0.1/containerLogs/default/none/main",
            "",
            404,
        ),
        ("POST", logs, "Content-Length: 0\r\n", 405),
        ("TRACE", logs, "", 405),
        ("GET", "/metrics", "", 403),
        (
            "POST",
            "/run/default/web/main?cmd=id",
            "Content-Length: 0\r\n",
            403,
        ),
        ("OPTIONS", "*", "", 400),
        ("POST", exec, "", 400),
        (
            "POST",
            exec,
            "Upgrade: SPDY/3.1\r\nUpgrade: websocket\r\n",
            400,
        ),
        (
            "POST",
            exec,
            "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            400,
        ),
        (
            "POST",
            exec,
            "Upgrade: SPDY/3.1\r\nContent-Length: 5\r\n",
            400,
        ),
        (
            "POST",
            exec,
            "Upgrade: SPDY/3.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            400,
        ),
        (
            "POST",
            exec,
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            400,
        ),
        ("POST", exec, "Transfer-Encoding: gzip\r\n", 400),
        ("GET", logs, " folded: x\r\n", 400),
        ("GET", logs, &long, 431),
        ("GET", logs, &many, 431),
        ("GET", &far, "", 414),
    ];
    for (method, path, headers, wanted) in rows {
        let got = ask(&world, method, path, headers).await;
        assert_eq!(
            code(&got),
            *wanted,
            "{method} {path} {headers:.60}: {got:.200}"
        );
    }
    // HTTP/2 in the middle of HTTP/1.1: it is closed without a word.
    let one = world.one();
    let mut stream = world.tunnel(&one, &one).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    assert_eq!(say(&mut stream, preface).await, "");
    assert!(world.asked.lock().is_empty(), "{:?}", world.asked.lock());
    let odd = rows.iter().filter(|(_, path, headers, code)| {
        *code == 400 && headers.is_empty() && !path.contains('?')
    });
    let times = odd.count() as u64;
    counted(&world.metrics, &id(1), Plane::Kubelet, "path", times).await;
}

/// T33: the request to the super cluster is made anew, of names and headers that are known.
#[tokio::test]
async fn t33_of_a_callers_headers_none_but_those_of_an_upgrade_go_on() {
    let world = world().await;
    let bad = "X-Remote-User: system:admin\r\nX-Remote-Group: system:masters\r\nImpersonate-User: system:admin\r\n\
               Authorization: Bearer \r\nAuthorization: Bearer stolen\r\nX-Forwarded-For: 127.0.0.1\r\n\
               Proxy-Authorization: Basic x\r\nTE: trailers\r\nKeep-Alive: timeout=5\r\nTrailer: X\r\n\
               Connection: X-Remote-User, Upgrade\r\nX-Sublet-Tenant: other\r\n";
    let path = "/containerLogs/default/web/main?tailLines=5&command=rm&x=%26follow%3dtrue";
    let got = ask(&world, "GET", path, bad).await;
    assert_eq!(code(&got), 200, "{got}");
    assert!(got.contains("a line"), "{got}");
    let exec = "/exec/default/web/main?command=a+b%26c&input=1";
    let upgrade =
        format!("{bad}Upgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n");
    // The super API server that is played doesn't upgrade: its answer is passed on.
    ask(&world, "GET", exec, &upgrade).await;
    let asked = world.asked.lock();
    let told: Vec<_> = asked
        .iter()
        .map(|parts| (parts.method.as_str(), parts.uri.to_string()))
        .collect();
    let pod = format!(
        "/api/v1/namespaces/{}/pods/web",
        place(1, "default", "web").0
    );
    let wanted = [
        ("GET", format!("{pod}/log?tailLines=5&container=main")),
        (
            "GET",
            format!("{pod}/exec?command=a%20b%26c&stdin=true&container=main"),
        ),
    ];
    assert_eq!(told, wanted);
    assert!(asked[0].headers.is_empty(), "{:?}", asked[0].headers);
    let mut names: Vec<&str> = asked[1].headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "connection",
            "sec-websocket-key",
            "sec-websocket-version",
            "upgrade"
        ]
    );
}

/// T28, T39: a redirect isn't followed, and what the super cluster says of itself stays here.
#[tokio::test]
async fn t28_redirects_and_refusals_of_the_super_cluster_stay_here() {
    let twin = place(1, "default", "web").0;
    for status in [301, 302, 307, 401, 403, 429] {
        let world = saying(status, format!("user sublet may not get pods in {twin}")).await;
        let got = ask(&world, "GET", "/containerLogs/default/web/main", "").await;
        assert_eq!(code(&got), 502, "{status}: {got}");
        assert!(!got.contains(&twin) && !got.contains("10.0.0.1"), "{got}");
        assert_eq!(world.asked.lock().len(), 1, "{status} was followed");
        counted(&world.metrics, &id(1), Plane::Kubelet, "unreachable", 1).await;
    }
    let world = saying(500, "dial tcp 10.0.0.7:10250: connection refused".into()).await;
    let got = ask(&world, "GET", "/containerLogs/default/web/main", "").await;
    assert!(code(&got) == 502 && !got.contains("10.0.0.7"), "{got}");
    assert!(got.contains("connection refused"), "{got}");
    let gone = "unable to retrieve container logs for containerd://0a1b2c";
    let world = saying(400, gone.into()).await;
    let got = ask(&world, "GET", "/containerLogs/default/web/main", "").await;
    assert!(code(&got) == 400 && got.ends_with(gone), "{got}");
    let world = saying(400, format!("container main in {twin} is waiting to start")).await;
    let got = ask(&world, "GET", "/containerLogs/default/web/main", "").await;
    assert!(
        code(&got) == 400 && got.contains("main in default is waiting"),
        "{got}"
    );
}

/// T34: a thief inside a tunnel, with another tenant's certificate or with none of the tunnel's.
#[tokio::test]
async fn t34_both_proofs_must_name_the_same_tenant() {
    let world = world().await;
    let (one, two) = (world.one(), world.authorities[1].client(36_500));
    for (outer, inner) in [(&one, &two), (&two, &one)] {
        if let Ok(mut stream) = world.tunnel(outer, inner).await {
            let answer = say(&mut stream, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
            assert_eq!(answer, "");
        }
    }
    for n in [1, 2] {
        counted(&world.metrics, &id(n), Plane::Kubelet, "no_identity", 1).await;
    }
    // The same pod's name leads each to its own.
    for (who, n) in [(&one, 1), (&two, 2)] {
        let mut stream = world.tunnel(who, who).await.unwrap();
        let request =
            b"GET /containerLogs/default/web/main HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert_eq!(code(&say(&mut stream, request).await), 200);
        let asked = world.asked.lock().pop().unwrap().uri.to_string();
        assert!(asked.contains(&place(n, "default", "web").0), "{asked}");
    }
}

/// T40: a client that never reads is served as little as it takes, and holds up nobody.
#[tokio::test]
async fn t40_for_a_client_that_never_reads_little_is_held() {
    const CHUNK: u64 = 64 << 10;
    let given = Arc::new(AtomicU64::new(0));
    let giving = given.clone();
    let world = World::new(move |_| {
        let giving = giving.clone();
        let endless = stream::repeat_with(move || {
            giving.fetch_add(CHUNK, Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; CHUNK as usize])))
        });
        Response::new(StreamBody::new(endless).boxed_unsync())
    })
    .await;
    let one = world.one();
    let mut stream = world.tunnel(&one, &one).await.unwrap();
    let request = b"GET /containerLogs/default/web/main?follow=true HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    assert_eq!(code(&head(&mut stream).await.unwrap()), 200);
    // Another client is answered meanwhile, until no more is taken for the first.
    let (mut before, mut others) = (u64::MAX, 0);
    loop {
        others += 1;
        let healthz = ask(&world, "GET", "/healthz", "").await;
        assert_eq!(code(&healthz), 200);
        let now = given.load(Ordering::Relaxed);
        assert!(now < 64 << 20, "{now} bytes were taken for nobody");
        if now == before {
            break;
        }
        before = now;
    }
    drop(stream);
    counted(&world.metrics, &id(1), Plane::Kubelet, "done", others + 1).await;
}

/// The beginning of an exec, as tenant 1.
async fn exec(world: &World) -> TlsStream<TlsStream<TcpStream>> {
    let one = world.one();
    let mut stream = world.tunnel(&one, &one).await.unwrap();
    let request = b"GET /exec/default/web/main?command=sh&input=1&output=1 HTTP/1.1\r\nHost: x\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(request).await.unwrap();
    assert_eq!(code(&head(&mut stream).await.unwrap()), 101);
    stream.write_all(b"ping").await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
    stream
}

/// T40: what was upgraded counts as long as it lasts, for its tenant's limits and for those who look.
#[tokio::test]
async fn t40_streams_count_until_they_end() {
    let world = World::echoing().await;
    let stream = exec(&world).await;
    let limits = world.tenant().limits.clone();
    let all = || {
        let open = world.metrics.opened(&id(1), Plane::Kubelet);
        (limits.out.open(), limits.pods.open(), open)
    };
    assert_eq!(all(), (1, 1, 1));
    drop(stream);
    counted(&world.metrics, &id(1), Plane::Kubelet, "done", 1).await;
    let none = async {
        while all() != (0, 0, 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(START_LIMIT, none).await.is_ok(), "{:?}", all());
}

/// T40: requests of one connection count as well as connections do.
#[tokio::test]
async fn t40_who_asks_too_much_of_pods_is_told_to_wait() {
    let world = world().await;
    let all = world.tenant().limits.pods.fill();
    let got = ask(&world, "GET", "/containerLogs/default/web/main", "").await;
    assert!(code(&got) == 429 && got.contains("retry-after: 1"), "{got}");
    counted(&world.metrics, &id(1), Plane::Kubelet, "limited", 1).await;
    drop(all);
    let got = ask(&world, "GET", "/containerLogs/default/web/main", "").await;
    assert_eq!(code(&got), 200, "{got}");
}

/// A node that doesn't answer is told apart from what the caller did, so that somebody hears of it.
#[tokio::test]
async fn what_an_answer_comes_to_is_counted() {
    for (status, message, outcome) in [
        (
            500,
            "error dialing backend: dial tcp 10.0.0.7:10250: i/o timeout",
            "unreachable",
        ),
        (403, "no right", "unreachable"),
        (400, "container main is waiting to start", "invalid"),
        (404, "container not found", "not_found"),
        (500, "the runtime says no", "failed"),
    ] {
        let world = saying(status, message.into()).await;
        ask(&world, "GET", "/containerLogs/default/web/main", "").await;
        counted(&world.metrics, &id(1), Plane::Kubelet, outcome, 1).await;
    }
}

/// On shutdown idle connections end at once, a log that flows goes on to its end, and what a stream moved is known when it is cut.
#[tokio::test]
async fn idle_connections_end_with_the_proxy_and_others_are_waited_for() {
    let world = World::echoing().await;
    let one = world.one();
    let mut idle = world.tunnel(&one, &one).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(code(&head(&mut idle).await.unwrap()), 200);
    let stream = exec(&world).await;
    world.cancel.cancel();
    world.tasks.close();
    // Its end, and no answer but the one to what it asked.
    assert!(say(&mut idle, b"").await.ends_with("ok"));
    assert_eq!(world.tenant().limits.pods.open(), 1, "exec goes on");
    drop(stream);
    let ended = timeout(START_LIMIT, world.tasks.wait()).await;
    assert!(ended.is_ok(), "{} are open", world.tasks.len());
}

/// Lines of the log, as they are written on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn heard() -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// The fields of so many lines of the audit.
    async fn audit(&self, count: usize) -> Vec<serde_json::Value> {
        let waiting = async {
            loop {
                let text = String::from_utf8(self.0.lock().clone()).unwrap();
                let lines = text
                    .lines()
                    .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
                let lines = lines.filter(|line| line["target"] == "audit");
                let fields: Vec<_> = lines.map(|line| line["fields"].clone()).collect();
                if fields.len() >= count {
                    return fields;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let fields = timeout(START_LIMIT, waiting).await.expect("lines");
        assert_eq!(fields.len(), count, "{fields:?}");
        fields
    }
}

/// T31, T32: what was refused is written down like what was served: who asked for what, and why not.
#[tokio::test]
async fn t31_t32_refused_requests_leave_their_line() {
    let world = world().await;
    let (lines, _guard) = Lines::heard();
    for (method, path, outcome, status) in [
        (
            "POST",
            "/run/default/web/main?cmd=secret",
            "not_served",
            403,
        ),
        ("POST", "/checkpoint/default/web/main", "not_served", 403),
        ("GET", "/containerLogs/default/../web/main", "path", 400),
        ("DELETE", "/containerLogs/default/web/main", "method", 405),
        (
            "GET",
            "/containerLogs/default/web/main?tailLines=x",
            "query",
            400,
        ),
        ("GET", "/containerLogs/default/none/main", "not_found", 404),
        ("GET", "/containerLogs/default/web/main", "done", 200),
    ] {
        lines.0.lock().clear();
        ask(&world, method, path, "Content-Length: 0\r\n").await;
        let line = lines.audit(1).await.remove(0);
        assert_eq!(line["message"], "kubelet request");
        assert_eq!(line["tenant"], id(1));
        assert_eq!(line["subject"], "CN=rcgen self signed cert");
        assert_eq!(line["outcome"], outcome, "{path}");
        assert_eq!(line["status"], status, "{path}");
        let refused = !["not_found", "done"].contains(&outcome);
        let bare = path.split('?').next().unwrap();
        let told = if refused {
            format!("{method} {bare}")
        } else {
            String::new()
        };
        assert_eq!(line["path"], told);
        assert!(!line.to_string().contains("secret"), "{line}");
    }
}

/// T31: one that comes too often, or asks for no pod, is written down as well.
#[tokio::test]
async fn t31_requests_beyond_the_limit_and_of_health_leave_their_line() {
    let world = world().await;
    let (lines, _guard) = Lines::heard();
    let all = world.tenant().limits.pods.fill();
    ask(&world, "GET", "/containerLogs/default/web/main", "").await;
    let line = lines.audit(1).await.remove(0);
    assert_eq!(
        (&line["outcome"], &line["status"]),
        (&"limited".into(), &429.into())
    );
    assert_eq!(line["path"], "GET /containerLogs/default/web/main");
    drop(all);
    ask(&world, "GET", "/healthz", "").await;
    let line = lines.audit(2).await.remove(1);
    assert_eq!(
        (&line["outcome"], &line["verb"]),
        (&"done".into(), &"healthz".into())
    );
    assert_eq!(line["tenant"], id(1));
}

/// An exec is written down when it begins, and what it moved when it has ended.
#[tokio::test]
async fn a_stream_leaves_a_line_when_it_begins_and_one_when_it_ends() {
    let world = World::echoing().await;
    let (lines, _guard) = Lines::heard();
    let stream = exec(&world).await;
    let begins = lines.audit(1).await.remove(0);
    drop(stream);
    let ends = lines.audit(2).await.remove(1);
    for (line, message) in [
        (&begins, "kubelet request begins"),
        (&ends, "kubelet request"),
    ] {
        assert_eq!(line["message"], message);
        for (field, wanted) in [
            ("verb", "exec"),
            ("namespace", "default"),
            ("pod", "web"),
            ("uid", "u1"),
            ("container", "main"),
        ] {
            assert_eq!(line[field], wanted, "{field} of {message}");
        }
        assert_eq!(line["status"], 101);
    }
    assert_eq!((&ends["there"], &ends["back"]), (&4.into(), &4.into()));
}

/// T40: lists of metrics have a limit of their own, and its answer says as well when to come again.
#[tokio::test]
async fn t40_who_asks_too_often_what_pods_use_is_told_to_wait() {
    let world = world().await;
    let _all = world.tenant().limits.figures.fill();
    for path in ["/stats/summary", "/metrics/resource"] {
        let got = ask(&world, "GET", path, "").await;
        assert!(code(&got) == 429 && got.contains("retry-after: 1"), "{got}");
    }
    counted(&world.metrics, &id(1), Plane::Kubelet, "limited", 2).await;
}
