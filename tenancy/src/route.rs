//! Keys of a route: the ConfigMap in Sublet's own namespace by which the manager tells the proxy of a tenant.
//!
//! Nothing in it is secret.

use crate::tenant::TenantId;
use api::{NodeAffinity, ShownNodes};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// PEM of the authority that signs the certificates of the tenant's API servers towards the proxy.
pub const AUTHORITY: &str = "authority.crt";
/// `ADDRESS:PORT` of the tenant's API servers, where the front door leads to; not there if Sublet doesn't run them.
pub const BACKEND: &str = "backend";
/// Address of the tenant's own `kubernetes` Service.
pub const API_ADDRESS: &str = "apiAddress";
/// DNS suffix of the tenant's Services.
pub const DOMAIN: &str = "clusterDomain";
/// Address of the DNS server that answers for the tenant, when it has none of its own.
pub const DNS: &str = "dnsAddress";
/// Networks of the super cluster, one a line: names of their addresses are asked of nobody outside.
pub const RANGES: &str = "clusterRanges";
/// A host name that clients reach the tenant by, when it has one of its own.
pub const HOST: &str = "host";
/// Since when the tenant asks for [`HOST`], RFC 3339: of several that ask for one it is the first one's, whoever reads this
/// and whenever.
pub const HOST_SINCE: &str = "hostSince";
/// Where the tenant's API server may go beside its own pods and Services: `CIDR` or `CIDR PORT`, one a line.
pub const ALLOWED: &str = "allowedEgress";

/// What the front door does for a control plane that sleeps at times: a word of [`Sleep`].
pub const SLEEP: &str = "sleep";

/// Networks of the super cluster and of its nodes, one a line: [`ALLOWED`] opens nothing in them.
pub const CLOSED: &str = "closedRanges";

/// Labels of the nodes that the tenant sees: `KEY=VALUE`, one a line.
pub const NODE_SELECTOR: &str = "nodeSelector";

/// What else must hold of the nodes that the tenant sees, as JSON: a list of [`NodeAffinity`], each of which must allow a node.
/// It isn't there when nothing must.
pub const NODE_AFFINITY: &str = "nodeAffinity";

/// Labels of nodes that the tenant sees beside those that all do: keys, one a line.
pub const NODE_LABELS: &str = "nodeLabels";

/// Which of those nodes it sees: [`USED`], or all of them when it isn't there.
pub const SHOWN_NODES: &str = "shownNodes";
/// Those that its pods run on.
pub const USED: &str = "used";

/// Whether a control plane sleeps, as far as the front door must know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sleep {
    /// It doesn't, and nobody wants to know who visits it.
    #[default]
    Never,
    /// It is awake, and falls asleep when nobody visits it.
    Awake,
    /// It sleeps, and a connection wakes it.
    Wakeable,
    /// It sleeps, and no connection wakes it.
    Shut,
}

impl Sleep {
    /// All that are written down, with their words.
    const WORDS: [(Self, &str); 3] = [
        (Self::Awake, "awake"),
        (Self::Wakeable, "wakeable"),
        (Self::Shut, "shut"),
    ];

    /// What stands in a route; nothing for [`Sleep::Never`].
    pub fn word(self) -> Option<&'static str> {
        let found = Self::WORDS.iter().find(|(sleep, _)| *sleep == self);
        found.map(|(_, word)| *word)
    }

    /// Reads a word.
    pub fn parse(word: &str) -> Option<Self> {
        let found = Self::WORDS.iter().find(|(_, known)| *known == word);
        found.map(|(sleep, _)| *sleep)
    }
}

/// Reads [`NODE_SELECTOR`]; lines without a value are left out.
pub fn parse_node_selector(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Writes [`NODE_SELECTOR`].
pub fn node_selector(labels: &BTreeMap<String, String>) -> String {
    let lines = labels.iter().map(|(key, value)| format!("{key}={value}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Writes [`NODE_AFFINITY`]; what is merely preferred hides no node.
pub fn node_affinity(all: &[NodeAffinity]) -> Option<String> {
    let required = all.iter().map(|asked| &asked.required);
    let required = required.filter(|terms| !terms.is_empty());
    let required: Vec<Value> = required.map(|terms| json!({"required": terms})).collect();
    (!required.is_empty()).then(|| Value::from(required).to_string())
}

/// Reads [`NODE_AFFINITY`].
///
/// # Errors
/// It is something else.
pub fn parse_node_affinity(text: &str) -> serde_json::Result<Vec<NodeAffinity>> {
    serde_json::from_str(text)
}

/// What stands in a route of [`SHOWN_NODES`]; nothing when all are shown.
pub fn shown_nodes(shown: ShownNodes) -> Option<&'static str> {
    (shown == ShownNodes::Used).then_some(USED)
}

/// Name of a tenant's route.
pub fn name(tenant: &TenantId) -> String {
    format!("route-{tenant}")
}
