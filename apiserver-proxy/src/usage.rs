//! What a tenant's pods use, as the super cluster's metrics API (`metrics.k8s.io`) tells.
//!
//! The proxy has no right on nodes, so a node's figures here are the sums over the tenant's own pods on it: whatever
//! else runs there shows in no number. Each item is looked up in the index before it counts, whatever its labels say.

use crate::{
    index::{Index, Tenant},
    list::{self, Turns},
    node_pods, query,
};
use http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tenancy::quota::amount;
use tokio::{sync::Semaphore, time::timeout};

/// The group and version that are asked for, and served.
pub(crate) const API: &str = "/apis/metrics.k8s.io/v1beta1";
/// Lists above a mebibyte that are read at once, for all tenants together.
const LARGE: usize = 2;
/// How long the super cluster may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The super cluster's metrics API.
#[derive(Clone)]
pub(crate) struct Usage {
    client: kube::Client,
    index: Arc<Index>,
    turns: Turns,
}

/// What one pod uses; names are the tenant's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodUsage {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// UID in the tenant.
    pub(crate) uid: String,
    /// Name of its node.
    pub(crate) node: String,
    /// Its labels as they crossed, some of them under other keys than the tenant set.
    pub(crate) labels: BTreeMap<String, String>,
    /// When it was measured.
    pub(crate) timestamp: String,
    /// Over which time.
    pub(crate) window: String,
    /// By container.
    pub(crate) containers: Vec<ContainerUsage>,
}

/// What one container uses.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct ContainerUsage {
    /// Name.
    pub(crate) name: String,
    /// `cpu` in cores, `memory` in bytes.
    pub(crate) usage: BTreeMap<String, String>,
}

/// A node, and when it was measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeTime {
    /// Name.
    pub(crate) name: String,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// When it was measured.
    pub(crate) timestamp: String,
    /// Over which time.
    pub(crate) window: String,
}

/// Thousand-millionths of a core, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// CPU.
    pub(crate) nanocores: u128,
    /// Memory.
    pub(crate) bytes: u128,
}

/// No figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The super cluster has no such API.
    #[error(
        "this cluster measures nothing: its operator has to install metrics-server in the cluster that runs it"
    )]
    NotServed,
    /// It has one that doesn't answer.
    #[error("the cluster's metrics can't be had just now")]
    Unavailable,
    /// The tenant asks too much.
    #[error("too many requests for metrics: try again in a second")]
    Busy,
}

impl Error {
    /// The answer's status.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::NotServed | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// For metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NotServed => "not_measured",
            Self::Unavailable => "unavailable",
            Self::Busy => "limited",
        }
    }
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Measured {
    metadata: Metadata,
    timestamp: String,
    window: String,
    #[serde(default)]
    containers: Vec<ContainerUsage>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Usage {
    /// `client` repeats no request.
    pub(crate) fn new(client: kube::Client, index: Arc<Index>) -> Self {
        let turns = Arc::new(Semaphore::new(LARGE));
        Self {
            client,
            index,
            turns,
        }
    }

    /// The tenant's pods that were measured, of one of its namespaces or of all.
    pub(crate) async fn pods(
        &self,
        tenant: &Tenant,
        namespace: Option<&str>,
    ) -> Result<Vec<PodUsage>, Error> {
        let _slot = tenant.limits.figures.take().map_err(|_| Error::Busy)?;
        let own = format!("{}={}", api::keys::TENANT, tenant.id);
        let path = match namespace {
            Some(namespace) => {
                let place = self.index.place(tenant, namespace);
                format!("{API}/namespaces/{place}/pods")
            }
            None => format!("{API}/pods"),
        };
        let list: List<Measured> = self.list(tenant, &path, own, "").await?;
        let known = list.items.into_iter().filter_map(|pod| {
            let place = (pod.metadata.namespace, pod.metadata.name);
            let seen = self.index.own_pod(tenant, &place)?;
            let mut labels = pod.metadata.labels;
            labels.retain(|key, _| !key.starts_with("sublet.dev/"));
            Some(PodUsage {
                namespace: seen.namespace,
                name: seen.name,
                uid: seen.uid,
                node: seen.node,
                labels,
                timestamp: pod.timestamp,
                window: pod.window,
                containers: pod.containers,
            })
        });
        Ok(known.collect())
    }

    /// The nodes that the tenant sees and that were measured.
    pub(crate) async fn nodes(&self, tenant: &Tenant) -> Result<Vec<NodeTime>, Error> {
        let _slot = tenant.limits.figures.take().map_err(|_| Error::Busy)?;
        let list: List<Measured> = self
            .list(
                tenant,
                &format!("{API}/nodes"),
                selector_of(&tenant.node_selector),
                "",
            )
            .await?;
        let nodes = list.items.into_iter().map(|node| NodeTime {
            name: node.metadata.name,
            labels: node.metadata.labels,
            timestamp: node.timestamp,
            window: node.window,
        });
        Ok(nodes.collect())
    }

    /// The super cluster's pods of the tenant on a node, as far as they are told of.
    pub(crate) async fn objects(
        &self,
        tenant: &Tenant,
        node: &str,
    ) -> Result<Vec<node_pods::Item>, Error> {
        let _slot = tenant.limits.figures.take().map_err(|_| Error::Busy)?;
        let own = format!("{}={}", api::keys::TENANT, tenant.id);
        let here = query::build(&[("fieldSelector", format!("spec.nodeName={node}"))]);
        let list: List<_> = self.list(tenant, "/api/v1/pods", own, &here).await?;
        Ok(list.items)
    }

    async fn list<T: DeserializeOwned>(
        &self,
        tenant: &Tenant,
        path: &str,
        selector: String,
        further: &str,
    ) -> Result<List<T>, Error> {
        let query = query::build(&[("labelSelector", selector)]) + "&" + further;
        let path = format!("{path}?{query}");
        let reading = async {
            let turns = [&tenant.limits.large_lists, &self.turns];
            let read = list::get(&self.client, &path, &turns).await?;
            Ok::<_, list::Error>(serde_json::from_slice(&read.bytes)?)
        };
        match timeout(LIMIT, reading).await {
            Ok(Ok(list)) => Ok(list),
            // Without such an API server; a Service of one that doesn't answer is 503.
            Ok(Err(list::Error::Status(StatusCode::NOT_FOUND))) => Err(Error::NotServed),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(_) => Err(unavailable(&list::Error::Late)),
        }
    }
}

/// All of these labels.
fn selector_of(labels: &BTreeMap<String, String>) -> String {
    let terms = labels.iter().map(|(key, value)| format!("{key}={value}"));
    terms.collect::<Vec<_>>().join(",")
}

fn unavailable(why: &dyn std::fmt::Display) -> Error {
    tracing::debug!(%why, "the super cluster's metrics API gives no list");
    Error::Unavailable
}

impl ContainerUsage {
    /// As numbers; what isn't one counts as nothing.
    pub(crate) fn sum(&self) -> Sum {
        let nanos = |name: &str| {
            let amount = amount::nanos(self.usage.get(name)?)?;
            u128::try_from(amount).ok()
        };
        Sum {
            nanocores: nanos("cpu").unwrap_or_default(),
            bytes: nanos("memory").unwrap_or_default() / 1_000_000_000,
        }
    }
}

impl PodUsage {
    /// All of its containers together.
    pub(crate) fn sum(&self) -> Sum {
        self.containers.iter().map(ContainerUsage::sum).sum()
    }
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), |acc, sum| Self {
            nanocores: acc.nanocores.saturating_add(sum.nanocores),
            bytes: acc.bytes.saturating_add(sum.bytes),
        })
    }
}
