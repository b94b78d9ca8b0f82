//! A tenant as the manager tells of it, in a ConfigMap of Sublet's own namespace: its route.

use crate::{
    destination::Allowed,
    dns::{Cache, Zone},
    identity::{self, Authority},
    limit::Limits,
};
use api::{NodeAffinity, keys};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tenancy::{
    block::Block,
    route::{self, Sleep},
    tenant::{InvalidIdentity, TenantId},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Keys of a route that tell who a caller at the way out is, and where the tenant's own names lead from there.
const CALLER: [&str; 3] = [route::AUTHORITY, route::API_ADDRESS, route::DOMAIN];

/// One tenant.
pub(crate) struct Tenant {
    /// Identity.
    pub(crate) id: TenantId,
    /// Name of the VirtualControlPlane: part of the names of super namespaces.
    pub(crate) name: String,
    /// Signs the certificates of its API servers towards the proxy.
    pub(crate) authority: Authority,
    /// Where its API servers answer; nowhere that the front door leads to, if Sublet doesn't run them.
    pub(crate) backend: Option<SocketAddr>,
    /// Address of the tenant's own `kubernetes` Service.
    pub(crate) api_address: Option<IpAddr>,
    /// DNS suffix of its Services.
    pub(crate) domain: String,
    /// Its names, when the proxy serves them.
    pub(crate) zone: Option<Zone>,
    /// A host name of the tenant's own that clients reach it by.
    pub(crate) host: Option<String>,
    /// Where its API server may go beside its own pods and Services.
    pub(crate) allowed: Vec<Allowed>,
    /// Networks in which [`Self::allowed`] opens nothing.
    pub(crate) closed: Vec<Block>,
    /// Labels of the nodes that it sees.
    pub(crate) node_selector: BTreeMap<String, String>,
    /// What else must hold of them.
    pub(crate) node_affinity: Vec<NodeAffinity>,
    /// Labels of nodes that it sees beside those that all do.
    pub(crate) node_labels: Vec<String>,
    /// Whether it sees those alone that its pods run on.
    pub(crate) sees_used_nodes: bool,
    /// Whether its control plane sleeps.
    pub(crate) sleep: Sleep,
    /// When a connection woke it, since it fell asleep.
    pub(crate) asked: Mutex<Option<Instant>>,
    /// Somebody came to the front door since that was told last.
    visited: AtomicBool,
    /// Since when it asks for its host, as the manager has noted: so replicas agree, and a restart changes nothing.
    pub(crate) since: Timestamp,
    /// How much of the proxy it may use.
    pub(crate) limits: Arc<Limits>,
    /// What servers outside answered its pods.
    pub(crate) outside: Mutex<Cache>,
    /// Cancelled when the route is gone or another tenant's, or when the tenant falls asleep: all connections end.
    pub(crate) gone: CancellationToken,
    /// Cancelled when its API servers are elsewhere: connections at the front door end in a while.
    pub(crate) moved: CancellationToken,
    /// Cancelled when its API servers prove in another way who they are: connections at the way out end.
    pub(crate) known: CancellationToken,
    /// Cancelled when its API servers may no longer go where they might: tunnels to addresses end.
    pub(crate) let_out: CancellationToken,
    /// Namespace and name of the VirtualControlPlane.
    path: String,
    /// What was read.
    data: BTreeMap<String, String>,
}

/// A route that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    /// A key isn't there.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A key holds something else.
    #[error("its {0} can't be read")]
    Value(&'static str),
    /// The label isn't an identity.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
    /// The authority isn't one.
    #[error(transparent)]
    Authority(#[from] identity::Error),
}

impl Tenant {
    /// Reads a route.
    pub(crate) fn read(map: &ConfigMap) -> Result<Self, Malformed> {
        let data = |key: &'static str| {
            let data = map.data.as_ref().and_then(|data| data.get(key));
            data.map(String::as_str).filter(|text| !text.is_empty())
        };
        let needed = |key: &'static str| data(key).ok_or(Malformed::Missing(key));
        let label = map.labels().get(keys::TENANT);
        let label = label.ok_or(Malformed::Missing(keys::TENANT))?;
        let path = map.annotations().get(keys::CONTROL_PLANE);
        let path = path.ok_or(Malformed::Missing(keys::CONTROL_PLANE))?;
        let (_, name) = path
            .split_once('/')
            .ok_or(Malformed::Value(keys::CONTROL_PLANE))?;
        let backend = data(route::BACKEND).map(str::parse).transpose();
        let api_address = data(route::API_ADDRESS).map(str::parse).transpose();
        let api_address = api_address.map_err(|_| Malformed::Value(route::API_ADDRESS))?;
        let id = TenantId::parse(label)?;
        let domain = data(route::DOMAIN).unwrap_or("cluster.local");
        let server = data(route::DNS).map(str::parse).transpose();
        let server = server.map_err(|_| Malformed::Value(route::DNS))?;
        let blocks = |key: &'static str| {
            let lines = data(key).unwrap_or_default().lines();
            let blocks = lines.map(|line| Block::parse(line).ok_or(Malformed::Value(key)));
            blocks.collect::<Result<Vec<Block>, _>>()
        };
        let ranges = blocks(route::RANGES)?;
        let zone = server.map(|server| Zone::new(id.as_str(), domain, api_address, server, ranges));
        let sleep = data(route::SLEEP).map(|word| Sleep::parse(word).ok_or(route::SLEEP));
        let sleep = sleep.transpose().map_err(Malformed::Value)?;
        let allowed = data(route::ALLOWED).unwrap_or_default();
        let allowed: Result<_, _> = allowed.lines().map(str::parse).collect();
        let affinity = data(route::NODE_AFFINITY).map(route::parse_node_affinity);
        let affinity = affinity.transpose();
        let since = data(route::HOST_SINCE).map(str::parse).transpose();
        let since = since.map_err(|_| Malformed::Value(route::HOST_SINCE))?;
        // A manager that notes nothing is an older one.
        let created = || map.creation_timestamp().map(|created| created.0);
        let since = since.or_else(created);
        let gone = CancellationToken::new();
        let known = gone.child_token();
        Ok(Self {
            id,
            name: name.to_owned(),
            authority: Authority::from_pem(needed(route::AUTHORITY)?)?,
            backend: backend.map_err(|_| Malformed::Value(route::BACKEND))?,
            api_address,
            domain: domain.to_owned(),
            zone: zone
                .transpose()
                .map_err(|_| Malformed::Value(route::DOMAIN))?,
            host: data(route::HOST).map(str::to_ascii_lowercase),
            allowed: allowed.map_err(|_| Malformed::Value(route::ALLOWED))?,
            closed: blocks(route::CLOSED)?,
            node_selector: route::parse_node_selector(
                data(route::NODE_SELECTOR).unwrap_or_default(),
            ),
            node_affinity: affinity
                .map_err(|_| Malformed::Value(route::NODE_AFFINITY))?
                .unwrap_or_default(),
            node_labels: data(route::NODE_LABELS)
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect(),
            sees_used_nodes: data(route::SHOWN_NODES) == Some(route::USED),
            sleep: sleep.unwrap_or_default(),
            asked: Mutex::default(),
            visited: AtomicBool::new(false),
            since: since.unwrap_or(Timestamp::MAX),
            limits: Arc::default(),
            outside: Mutex::default(),
            moved: gone.child_token(),
            let_out: known.child_token(),
            known,
            gone,
            path: path.clone(),
            data: map.data.clone().unwrap_or_default(),
        })
    }

    /// Somebody is at its front door.
    pub(crate) fn visit(&self) {
        self.visited.store(true, Ordering::Relaxed);
    }

    /// Whether somebody came since this was asked last, or is still there.
    pub(crate) fn was_visited(&self) -> bool {
        self.visited.swap(false, Ordering::Relaxed) || self.limits.door.open() > 0
    }

    /// Whether nothing would change.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.data == other.data && self.path == other.path && self.id == other.id
    }

    /// Takes over what goes on of `before`: its limits, with what counts for them, and connections. They go on while they
    /// would be let in now and lead to the same place. Returns what ends: an edited class cuts nobody's session.
    pub(crate) fn succeed(&mut self, before: &Self) -> Vec<CancellationToken> {
        let is_other = self.path != before.path || self.id != before.id;
        if is_other || matches!(self.sleep, Sleep::Wakeable | Sleep::Shut) {
            return vec![before.gone.clone()];
        }
        self.limits = before.limits.clone();
        *self.visited.get_mut() = before.visited.load(Ordering::Relaxed);
        self.gone = before.gone.clone();
        let differ = |key: &&str| self.data.get(*key) != before.data.get(*key);
        let mut ended = vec![];
        let mut go_on = |goes_on: bool, token: &CancellationToken, parent: &CancellationToken| {
            if goes_on {
                return token.clone();
            }
            ended.push(token.clone());
            parent.child_token()
        };
        let stays = self.backend == before.backend;
        self.moved = go_on(stays, &before.moved, &self.gone);
        let is_known = !CALLER.iter().any(differ);
        self.known = go_on(is_known, &before.known, &self.gone);
        let may = before.allowed.iter().all(|one| self.allowed.contains(one))
            && self.closed.iter().all(|one| before.closed.contains(one));
        self.let_out = go_on(is_known && may, &before.let_out, &self.known);
        ended
    }
}
