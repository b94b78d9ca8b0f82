//! Pods of the platform itself, and addresses on nodes that stand for what is outside of the cluster.

use anyhow::ensure;
use e2e::{
    kind::POD,
    make,
    read::{condition, text},
    side::Side,
    tenant::NAMESPACE_OF_TESTS,
    wait::{PODS, eventually},
};
use futures::FutureExt;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, resume_unwind};
use tokio::sync::Mutex;

/// The address at which clouds give credentials away.
pub(super) const METADATA: &str = "169.254.169.254";
/// Public: networks for documentation, which nobody routes.
pub(super) const PUBLIC: [&str; 2] = ["203.0.113.9", "198.51.100.9"];
/// In a private network that is nobody's here.
pub(super) const PRIVATE: [&str; 2] = ["172.31.255.9", "172.31.255.10"];
/// Ports at which each of them answers HTTP; the second is that of DNS.
pub(super) const PORTS: [u16; 2] = [18080, 53];

/// What a test that was killed leaves behind ends by itself after so many seconds, and takes its addresses along.
const AT_LONGEST: u32 = 1200;

/// Two of them would take each other's addresses and ports.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// On some nodes a pod on the node's own network, which answers at the addresses above, too; and one that no policy holds back.
pub(super) struct Platform {
    side: Side,
    suffix: String,
    nodes: Vec<String>,
    /// Address of the pod that no policy holds back; it answers at port 8080.
    pub(super) address: String,
}

impl Platform {
    /// Runs `body` beside them; they go whatever happens. The first node is also that of the pod that no policy holds back.
    pub(super) async fn beside(
        side: &Side,
        nodes: &[&str],
        suffix: &str,
        body: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let _one = ONE_AT_A_TIME.lock().await;
        let mut distinct: Vec<String> = vec![];
        for node in nodes {
            if !distinct.iter().any(|known| known == node) {
                distinct.push((*node).to_owned());
            }
        }
        let mut platform = Self {
            side: side.clone(),
            suffix: suffix.to_owned(),
            nodes: distinct,
            address: String::new(),
        };
        let whole = async {
            platform.start().await?;
            body(&platform).await
        };
        let result = AssertUnwindSafe(whole).catch_unwind().await;
        let stopped = platform.stop().await;
        match result {
            Ok(result) => result.and(stopped),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Name of the pod that no policy holds back.
    pub(super) fn free(&self) -> String {
        format!("free-{}", self.suffix)
    }

    /// Name of the pod on the network of a node.
    pub(super) fn on(&self, node: &str) -> String {
        format!("on-{node}-{}", self.suffix)
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        for node in &self.nodes {
            let mut spec = on_the_network_of_the_node();
            spec["nodeName"] = node.as_str().into();
            start(&self.side, NAMESPACE_OF_TESTS, &self.on(node), spec).await?;
        }
        for node in &self.nodes {
            ready(&self.side, NAMESPACE_OF_TESTS, &self.on(node)).await?;
        }
        let mut spec = make::pod_spec(make::server());
        spec["nodeName"] = self.nodes.first().map(String::as_str).into();
        start(&self.side, NAMESPACE_OF_TESTS, &self.free(), spec).await?;
        self.address = ready(&self.side, NAMESPACE_OF_TESTS, &self.free()).await?;
        Ok(())
    }

    async fn stop(&self) -> anyhow::Result<()> {
        let on_nodes = self.nodes.iter().map(|node| self.on(node));
        let names: Vec<String> = on_nodes.chain([self.free()]).collect();
        for name in &names {
            self.side.delete(POD, NAMESPACE_OF_TESTS, name).await?;
        }
        for name in &names {
            eventually(PODS, &format!("{name} is gone"), async || {
                let left = self.side.find(POD, NAMESPACE_OF_TESTS, name).await?;
                ensure!(left.is_none(), "it is still there");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

/// Gives the node the addresses for as long as it runs, and answers there.
fn on_the_network_of_the_node() -> Value {
    let addresses = [&[METADATA][..], &PUBLIC, &PRIVATE].concat().join(" ");
    let each = |verb: &str| {
        format!("for address in {addresses}; do ip address {verb} $address/32 dev lo; done")
    };
    let serve =
        PORTS.map(|port| format!("/agnhost netexec --http-port={port} --udp-port={port} &"));
    let script = format!(
        "{}; trap '{}; exit 0' TERM; {} wait",
        each("add"),
        each("delete"),
        serve.join(" ")
    );
    let mut container = make::container(make::AGNHOST, &["sh", "-c", &script]);
    container["securityContext"] = json!({"privileged": true});
    container["readinessProbe"] =
        json!({"httpGet": {"path": "/healthz", "port": PORTS[0]}, "periodSeconds": 1});
    let mut spec = make::pod_spec(container);
    spec["hostNetwork"] = true.into();
    spec["terminationGracePeriodSeconds"] = 5.into();
    spec
}

/// Starts a pod of the platform, which doesn't outlast its test by much.
pub(super) async fn start(
    side: &Side,
    namespace: &str,
    name: &str,
    mut spec: Value,
) -> anyhow::Result<()> {
    spec["activeDeadlineSeconds"] = AT_LONGEST.into();
    let metadata = json!({"name": name, "namespace": namespace});
    side.create(POD, json!({"metadata": metadata, "spec": spec}))
        .await?;
    Ok(())
}

/// Waits until a pod of the platform is Ready; returns its address.
pub(super) async fn ready(side: &Side, namespace: &str, name: &str) -> anyhow::Result<String> {
    eventually(PODS, &format!("{name} is Ready"), async || {
        let pod = side.get(POD, namespace, name).await?;
        ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
        Ok(text(&pod, "/status/podIP").to_owned())
    })
    .await
}
