//! What reads bytes of callers whom nobody knows yet, and what must hold whatever the bytes are.
//!
//! `cargo xtask fuzz` tries them, together with those of [`tenancy::fuzz`].

mod watched;

use crate::{
    dns,
    identity::provider,
    metrics_api, proxy_header, query, route, selector,
    sni::{HELLO_MAX, Hello},
};
use http::{Method, Uri};
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
use std::sync::{Arc, LazyLock};
use tenancy::{
    fuzz::{Random, Target},
    naming,
};

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("client-hello", client_hello),
    ("proxy-header", balancers_header),
    ("kubelet-request", kubelet_request),
    ("metrics-request", metrics_request),
    ("selector", label_selector),
    ("dns-question", dns_question),
    ("dns-objects", watched::names),
    ("pages", watched::pages),
    ("way-out", watched::destinations),
];

/// First messages of clients that ask for a name, for none, and in old versions.
static HELLOS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let names = ["tenant.example", "a.b", "192.0.2.1"];
    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    let all = names.iter().flat_map(|name| {
        versions.into_iter().filter_map(move |version| {
            let config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .ok()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            let name = ServerName::try_from((*name).to_owned()).ok()?;
            let mut client = ClientConnection::new(Arc::new(config), name).ok()?;
            let mut bytes = vec![];
            client.write_tls(&mut bytes).ok()?;
            Some(bytes)
        })
    });
    all.collect()
});

/// It ends, keeps every byte, names one tenant in whatever pieces it comes, and a name is one.
fn client_hello(random: &mut Random) {
    let mut bytes = HELLOS[random.below(HELLOS.len())].clone();
    let alphabet: Vec<u8> = (0..=255).collect();
    random.bend(&mut bytes, &alphabet);
    if random.below(8) == 0 {
        bytes.resize(bytes.len() + random.below(2 * HELLO_MAX), 0);
    }
    let whole = Hello::default().feed(&bytes);
    let mut pieces = Hello::default();
    let (mut rest, mut fed) = (bytes.as_slice(), 0);
    let mut outcome = Ok(None);
    while !rest.is_empty() {
        let (piece, more) = rest.split_at((1 + random.below(200)).min(rest.len()));
        (rest, fed) = (more, fed + piece.len());
        outcome = pieces.feed(piece);
        if !matches!(outcome, Ok(None)) {
            break;
        }
    }
    assert_eq!(pieces.into_bytes(), bytes[..fed], "a byte was lost");
    if let Ok(Some(name)) = &outcome {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        assert!(!name.is_empty() && name.chars().all(is_plain), "{name:?}");
        assert_eq!(name, &name.to_ascii_lowercase());
    }
    // What comes behind a first message may spoil it, or come too late to; two names it never has.
    if let (Ok(Some(one)), Ok(Some(other))) = (&whole, &outcome) {
        assert_eq!(one, other, "it depends on how it is cut");
    }
}

/// T33: it ends, a header is no longer than what came, and more bytes change no answer.
fn balancers_header(random: &mut Random) {
    const GOOD: [&[u8]; 4] = [
        b"PROXY TCP4 192.0.2.1 10.0.0.1 258 443\r\n\x16\x03\x01",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\x01\x02\x01\xbb\x16",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ];
    let mut bytes = random.pick(&GOOD).to_vec();
    let alphabet: Vec<u8> = (0..=255).collect();
    random.bend(&mut bytes, &alphabet);
    let whole = proxy_header::read(&bytes);
    if let Ok(Some(header)) = whole {
        assert!(header.length <= bytes.len());
        let early = proxy_header::read(&bytes[..header.length - 1]);
        assert_eq!(early, Ok(None), "it ends sooner");
        assert_eq!(proxy_header::read(&bytes[..header.length]), whole);
    }
}

const PATHS: [&str; 28] = [
    "/",
    "exec",
    "attach",
    "containerLogs",
    "portForward",
    "pods",
    "stats",
    "summary",
    "metrics",
    "resource",
    "healthz",
    "default",
    "kube-system",
    "web-0",
    "web.x",
    "main",
    "..",
    ".",
    "%2f",
    "%2e",
    "//",
    ";",
    "?",
    "#",
    "run",
    "checkpoint",
    "0a-1",
    "WEB",
];
const QUERIES: [&str; 18] = [
    "&",
    "=",
    "command",
    "follow",
    "tailLines",
    "sinceTime",
    "input",
    "output",
    "tty",
    "port",
    "true",
    "1",
    "80",
    "%26",
    "%",
    "+",
    "2024-01-02T03:04:05Z",
    "limitBytes",
];

/// T32: what is understood names a pod in one way, and what is sent on holds nothing that wasn't understood.
fn kubelet_request(random: &mut Random) {
    let (path, query) = ("/".to_owned() + &random.text(&PATHS), random.text(&QUERIES));
    let methods = [Method::GET, Method::POST, Method::PUT];
    let method = &methods[random.below(methods.len())];
    // As a server sees it, and as no server would let it through.
    let read = format!("{path}?{query}").parse::<Uri>();
    if let Ok(uri) = &read {
        judge(method, uri.path(), uri.query().unwrap_or_default());
    }
    judge(method, &path, &query);
}

fn judge(method: &Method, path: &str, query: &str) {
    let Ok(route::Request::Pod(question)) = route::parse(method, path, query) else {
        return;
    };
    assert!(naming::is_label(&question.namespace) && naming::is_name(&question.pod));
    assert!(question.container.as_deref().is_none_or(naming::is_label));
    let names = format!("/{}/{}", question.namespace, question.pod);
    assert!(
        path.contains(&names) && !path.contains('%') && !path.contains("//"),
        "{path}"
    );
    let sent = query::build(&question.parameters);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~%&=".contains(c);
    assert!(sent.chars().all(is_plain), "{sent}");
    let again = query::parse(&sent).expect("what was built can be read");
    assert_eq!(again.len(), question.parameters.len());
}

/// What is understood names a namespace and a pod in one way.
fn metrics_request(random: &mut Random) {
    const WORDS: [&str; 14] = [
        "/apis/metrics.k8s.io",
        "/v1beta1",
        "/nodes",
        "/pods",
        "/namespaces",
        "/shop",
        "/web",
        "/",
        "..",
        "%2f",
        "labelSelector",
        "fieldSelector",
        "metadata.name",
        "=",
    ];
    let path = "/apis/metrics.k8s.io/v1beta1".to_owned() + &random.text(&WORDS);
    let query = random.text(&WORDS);
    for name in metrics_api::names_in(&path, &query) {
        assert!(
            naming::is_name(&name) && path.contains(&name),
            "{name} of {path}"
        );
    }
}

/// It ends, and two readings agree.
fn label_selector(random: &mut Random) {
    const WORDS: [&str; 12] = [
        "app", "=", "!=", "==", ",", " in ", " notin ", "(", ")", "!", "a.b/c", "web",
    ];
    let text = random.text(&WORDS);
    assert_eq!(
        selector::Selector::parse(&text),
        selector::Selector::parse(&text)
    );
}

static QUESTIONS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(dns::questions);

/// T44: it ends, with an answer that fits and tells of one tenant alone.
fn dns_question(random: &mut Random) {
    let mut bytes = QUESTIONS[random.below(QUESTIONS.len())].clone();
    let alphabet: Vec<u8> = (0..=255).collect();
    random.bend(&mut bytes, &alphabet);
    dns::judge(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_finds_nothing() {
        tenancy::fuzz::briefly(&TARGETS, 500);
    }
}
