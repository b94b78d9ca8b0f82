//! `cargo xtask super enforce`: makes the nodes obey NetworkPolicies, which the CNI plugins of the super cluster don't.
//!
//! For tests only. It watches pods, namespaces and policies, compiles them to one nftables table ([`compile`]) and loads
//! that into the network namespace of every node whenever it changes. A pod is held to policies from the moment its
//! address is in its status, so one that has just started may get a packet through that it shouldn't; clusters for real
//! use have a CNI that makes pods wait.

mod compile;
mod model;

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde_json::Value;

use crate::kube_api::KubeApi;
use crate::run;
use crate::super_cluster::layout::{Node, pki};
use crate::super_cluster::network;
use model::State;

/// The nftables table that holds everything.
pub(crate) const TABLE: &str = "sublet_policies";

/// Changes come in bursts; what comes within this time is compiled together.
const BURST: Duration = Duration::from_millis(20);
/// The server ends a watch after so long; shorter than the client's own limit for reading.
const WATCH_SECONDS: u32 = 20;

/// What is watched: where, and how an object becomes part of the state.
struct Source {
    path: &'static str,
    put: fn(&mut State, String, Option<&Value>) -> bool,
}

const SOURCES: [Source; 3] = [
    Source {
        path: "/api/v1/pods",
        put: |state, key, object| model::put(&mut state.pods, key, object.and_then(model::pod)),
    },
    Source {
        path: "/api/v1/namespaces",
        put: |state, key, object| model::put(&mut state.namespaces, key, object.map(model::labels)),
    },
    Source {
        path: "/apis/networking.k8s.io/v1/networkpolicies",
        put: |state, key, object| {
            model::put(&mut state.policies, key, object.and_then(model::policy))
        },
    },
];

/// Enforces until it is ended.
pub(crate) fn enforce(nodes: &[Node]) -> Result<()> {
    let api = KubeApi::from_kubeconfig(&pki("admin.kubeconfig"))?;
    let state = Arc::new(Mutex::new(State::default()));
    // One place: a change while another waits to be compiled is compiled with it.
    let (changed, changes) = sync_channel(1);
    let mut listed = vec![];
    for source in SOURCES {
        let (api, state, changed) = (api.clone(), Arc::clone(&state), changed.clone());
        let (first, done) = sync_channel(1);
        listed.push(done);
        thread::spawn(move || follow(&api, &source, &state, &changed, &first));
    }
    // With half of the objects known, pods would be cut off from each other.
    for done in listed {
        done.recv().context("a watch ended")?;
    }
    load_changes(nodes, &state, &changes)
}

fn load_changes(nodes: &[Node], state: &Mutex<State>, changes: &Receiver<()>) -> Result<()> {
    let mut loaded = String::new();
    loop {
        let rules = compile::rules(TABLE, &state.lock());
        if rules != loaded {
            for node in nodes {
                load(*node, &rules)?;
            }
            loaded = rules;
        }
        changes.recv().context("all watches ended")?;
        sleep(BURST);
        while changes.try_recv().is_ok() {}
    }
}

/// Replaces the table on one node, all at once.
fn load(node: Node, rules: &str) -> Result<()> {
    let mut command = network::in_namespace(node, &["nft", "-f", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start nft")?;
    child
        .stdin
        .take()
        .context("nft has no input")?
        .write_all(rules.as_bytes())?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!(
            "{} refuses the rules: {}",
            node.name(),
            run::tail(&said, 10)
        );
    }
    Ok(())
}

/// Keeps the state of one kind, whatever happens to the connection.
fn follow(
    api: &KubeApi,
    source: &Source,
    state: &Mutex<State>,
    changed: &SyncSender<()>,
    first: &SyncSender<()>,
) {
    loop {
        if let Err(error) = list_and_watch(api, source, state, changed, first) {
            tell!("{}: {error:#}", source.path);
        }
        sleep(Duration::from_millis(200));
    }
}

fn list_and_watch(
    api: &KubeApi,
    source: &Source,
    state: &Mutex<State>,
    changed: &SyncSender<()>,
    first: &SyncSender<()>,
) -> Result<()> {
    let put = |key: String, object: Option<&Value>| {
        let mut state = state.lock();
        if (source.put)(&mut state, key, object) {
            // A full channel tells already.
            let _ = changed.try_send(());
        }
    };
    let list = api.get(source.path)?;
    let mut known = BTreeSet::new();
    for object in list["items"].as_array().into_iter().flatten() {
        known.insert(key(object));
        put(key(object), Some(object));
    }
    let gone = {
        let state = state.lock();
        state.keys(source.path, |key| !known.contains(key))
    };
    for key in gone {
        put(key, None);
    }
    let _ = first.try_send(());
    let mut version = text(&list, "/metadata/resourceVersion").to_owned();
    loop {
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}",
            source.path
        );
        for line in api.lines(&path)?.lines() {
            let event: Value = serde_json::from_str(&line?)?;
            let object = &event["object"];
            match text(&event, "/type") {
                "ADDED" | "MODIFIED" => put(key(object), Some(object)),
                "DELETED" => put(key(object), None),
                "BOOKMARK" => {}
                _ => bail!("the watch ended: {}", text(object, "/message")),
            }
            version = text(object, "/metadata/resourceVersion").to_owned();
        }
    }
}

fn key(object: &Value) -> String {
    format!(
        "{}/{}",
        text(object, "/metadata/namespace"),
        text(object, "/metadata/name")
    )
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
