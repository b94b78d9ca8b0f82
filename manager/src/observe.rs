//! Reading all that matters for one VirtualControlPlane; as little as its stage needs, and what was just answered not twice
//! ([`crate::watching::answers`]).

use crate::{
    capi::referred,
    clients::{
        cluster::{self, Cluster},
        kubeconfig::{self, Access, Enter},
        remotes::Remotes,
    },
    elsewhere::external::way_out,
    lifecycle::{
        backup, pause,
        sleep::Visit,
        starts::{Limit, Turn},
        visits::Visits,
    },
    network::{endpoint, proxy::Proxy, zones},
    object::{
        CLUSTER, CONFIG_MAP, CONTROL_PLANE_CLASS, CONTROL_PLANE_GROUP, DEPLOYMENT,
        DISRUPTION_BUDGET, NAMESPACE, NETWORK_POLICY, Object, Objects, POD, ROLE_BINDING, SECRET,
        SERVICE, STATEFUL_SET, SUBLET_CLUSTER, VIRTUAL_CONTROL_PLANE,
    },
    provision::{self, cluster_keys},
    spec::{
        claims::{self, Range, Standing},
        control_plane::Owner,
    },
    store::{
        room::{Asked, Store},
        uncounted::{Lasting, Uncounted},
    },
    tenant::{self, Tenant},
    watching::{
        answers::{Answers, Reader, Whose},
        caches::Caches,
        news::OwnWords,
    },
};
use api::{ControlPlaneClass, ControlPlaneGroup, FailureDomain, VirtualControlPlane, keys};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use std::sync::{Arc, OnceLock};
use tenancy::{naming, route, slice::Slice};
use tokio::{sync::Mutex, time::Instant};

mod beyond;
mod claimed;
mod inside;
mod issue;
mod left;
mod place;
mod shared;
mod workload;

pub(crate) use beyond::Beyond;
use left::look_at_what_is_left;

/// Kinds in a control plane's namespace.
pub(crate) const INSIDE: [crate::object::Kind; 8] = [
    SECRET,
    CONFIG_MAP,
    SERVICE,
    NETWORK_POLICY,
    DISRUPTION_BUDGET,
    STATEFUL_SET,
    DEPLOYMENT,
    POD,
];

/// What one pass goes by.
pub(crate) struct Seen {
    /// The VirtualControlPlane as JSON.
    pub(crate) object: Object,
    /// The same, typed.
    pub(crate) vcp: VirtualControlPlane,
    /// Its coordinates, once it has an identity.
    pub(crate) owner: Option<Owner>,
    /// How it stands to its identity, and the claim.
    pub(crate) standing: Standing,
    /// The claim of its identity, whoever holds it.
    pub(crate) claim: Option<Object>,
    /// Claims of slices that it holds.
    pub(crate) slice_claims: Vec<Object>,
    /// The Service range, or why it isn't known; read only to claim a slice.
    pub(crate) range: Option<Result<Range, String>>,
    /// Its class.
    pub(crate) class: Option<ControlPlaneClass>,
    /// Names of all classes; read only when its own is missing.
    pub(crate) classes: Vec<String>,
    /// All groups.
    pub(crate) groups: Vec<ControlPlaneGroup>,
    /// Super namespaces of the tenant, the control plane's own among them.
    pub(crate) namespaces: Vec<Object>,
    /// What is in those that wait for something, of the kinds that the manager may read.
    pub(crate) remaining: Vec<Object>,
    /// Whether it is known that no pod of the tenant's runs any more.
    pub(crate) has_stopped: bool,
    /// The namespace under the control plane's name, whoever it belongs to.
    pub(crate) namespace: Option<Object>,
    /// The manager's rights in it.
    pub(crate) access: Option<Object>,
    /// The manager's rights beside the VirtualControlPlane.
    pub(crate) access_beside: Option<Object>,
    /// The VirtualControlPlane's namespace; read only when those rights are missing to a deletion in another super cluster.
    pub(crate) home: Option<Object>,
    /// What this super cluster is known by; read for Clusters of Cluster API alone.
    pub(crate) here: Option<String>,
    /// What is in the control plane's namespace.
    pub(crate) objects: Objects,
    /// The Secret under the name of the users' kubeconfig, whoever it belongs to.
    pub(crate) user_secret: Option<Object>,
    /// The Cluster of Cluster API that it is the control plane of.
    pub(crate) cluster: Option<Object>,
    /// The SubletCluster that this one names, if it names one.
    pub(crate) place: Option<Object>,
    /// The Secrets under the names of Cluster API's contract, whoever they belong to.
    pub(crate) cluster_secrets: Objects,
    /// Its twin in another super cluster, when it runs in one.
    pub(crate) beyond: Beyond,
    /// The way there.
    pub(crate) way: Option<Cluster>,
    /// What the Secret that leads there says.
    pub(crate) given: Option<Access>,
    /// What it said last, in Sublet's own namespace.
    pub(crate) kept: Option<Object>,
    /// The syncer's kubeconfig.
    pub(crate) syncer_secret: Option<Object>,
    /// The kubeconfig of an external tenant.
    pub(crate) external_secret: Option<Object>,
    /// Secrets of an external tenant's way to the proxy, whoever they belong to.
    pub(crate) way_out: Objects,
    /// What the proxy is told of it.
    pub(crate) route: Option<Object>,
    /// The proxy, once it can be reached.
    pub(crate) proxy: Option<Proxy>,
    /// Zones that the control plane may run in; read for Clusters of Cluster API alone.
    pub(crate) zones: Vec<FailureDomain>,
    /// Address of the node that the front door's NodePort is reached at.
    pub(crate) node: Option<String>,
    /// The tenant's API server.
    pub(crate) tenant: Tenant,
    /// Whether it may start now; known only once it was asked for.
    pub(crate) turn: Option<Turn>,
    /// What it stores of what is limited and couldn't be counted for too long.
    pub(crate) uncounted: Lasting,
    /// What the tenant's API server said when it refused a write since its etcd is full; known only after such a write.
    pub(crate) refused: Option<String>,
    /// Why the super cluster takes no claim or Job of a snapshot; known only after such a write.
    pub(crate) unmade: Option<String>,
    /// What the tenant's etcd says of itself, or why it says nothing; it is asked now and then, and while it is full.
    pub(crate) store: Option<Result<Store, String>>,
    /// What the front door told of its clients; `None` as long as nobody knows.
    pub(crate) visit: Option<Visit>,
    /// The tenant's pods that run; read only when they are to end before it sleeps.
    pub(crate) workload: Option<Vec<Object>>,
    /// When this was seen.
    pub(crate) now: Timestamp,
}

impl Seen {
    /// A VirtualControlPlane of which nothing else was looked at.
    pub(crate) fn nothing(object: Object, vcp: VirtualControlPlane) -> Self {
        Self {
            object,
            // One that doesn't parse counts as none here; what to do about it is decided, not observed.
            owner: Owner::of(&vcp).and_then(Result::ok),
            vcp,
            standing: Standing::Free,
            claim: None,
            slice_claims: vec![],
            range: None,
            class: None,
            classes: vec![],
            groups: vec![],
            namespaces: vec![],
            remaining: vec![],
            has_stopped: false,
            namespace: None,
            access: None,
            access_beside: None,
            home: None,
            here: None,
            objects: Objects::default(),
            user_secret: None,
            cluster: None,
            place: None,
            cluster_secrets: Objects::default(),
            beyond: Beyond::NotAsked,
            way: None,
            given: None,
            kept: None,
            syncer_secret: None,
            external_secret: None,
            way_out: Objects::default(),
            route: None,
            proxy: None,
            zones: vec![],
            node: None,
            tenant: Tenant::NotAsked,
            uncounted: Lasting::new(),
            turn: None,
            refused: None,
            unmade: None,
            store: None,
            visit: None,
            workload: None,
            now: Timestamp::now(),
        }
    }

    /// Whose it is: the VirtualControlPlane's namespace and name.
    pub(crate) fn whose(&self) -> Whose {
        let namespace = self.object.namespace().unwrap_or_default();
        (namespace.to_owned(), self.object.name().to_owned())
    }

    /// Takes up the VirtualControlPlane as it is now.
    ///
    /// # Errors
    /// It has a form that this version doesn't know.
    pub(crate) fn take(&mut self, object: Object) -> Result<(), Error> {
        self.vcp = decode(&object)?;
        self.object = object;
        Ok(())
    }

    /// Puts a written object in its place; `false` when it isn't one whose writing changes nothing else.
    ///
    /// # Errors
    /// The VirtualControlPlane has a form that this version doesn't know.
    pub(crate) fn learn(&mut self, object: Object) -> Result<bool, Error> {
        if object.kind == VIRTUAL_CONTROL_PLANE {
            self.take(object)?;
            // By its owner and its place it is decided what is looked at.
            let is_as_before = self.owner == Owner::of(&self.vcp).and_then(Result::ok);
            return Ok(is_as_before && may_remember(&self.vcp));
        }
        let Some(owner) = &self.owner else {
            return Ok(false);
        };
        let namespace = object.namespace().unwrap_or_default();
        let is_inside = INSIDE.contains(&object.kind) || backup::KINDS.contains(&object.kind);
        if namespace == owner.control_plane_namespace() && is_inside {
            self.objects.insert(object);
        } else if object.kind == SECRET
            && (namespace, object.name()) == (&owner.namespace, &owner.kubeconfig_secret())
        {
            self.user_secret = Some(object);
        } else if object.kind == SECRET
            && namespace == owner.namespace
            && cluster_keys::names(owner)
                .iter()
                .any(|name| name == object.name())
        {
            self.cluster_secrets.insert(object);
        } else if object.kind == SECRET && object.name() == naming::tenant_kubeconfig(&owner.id) {
            self.syncer_secret = Some(object);
        } else if object.kind == CONFIG_MAP && object.name() == route::name(&owner.id) {
            self.route = Some(object);
        } else if object.kind == CONFIG_MAP && claims::claimed_slice(&object).is_some() {
            let is_another = |claim: &Object| claim.name() != object.name();
            self.slice_claims.retain(is_another);
            self.slice_claims.push(object);
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

/// Something could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An API server's answer.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// An object of Sublet's own kinds has a form that this version doesn't know.
    #[error("{what} can't be read: {source}")]
    Decode {
        /// Which object.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The way into the tenant.
    #[error(transparent)]
    Tenant(#[from] tenant::Error),
    /// Others ask the same super cluster just now, or tenants that are as slow.
    #[error("others are asked just now")]
    Busy,
}

/// Whether Clusters of Cluster API are looked after, and so may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    /// They are.
    On,
    /// They aren't.
    Off,
}

/// Where to look.
pub(crate) struct Observer {
    /// The super cluster.
    pub(crate) cluster: Cluster,
    /// Sublet's own namespace.
    pub(crate) system: String,
    /// The super cluster's Service range, when it was given by flag.
    pub(crate) service_range: Option<Slice>,
    /// Whether the manager is a provider of Cluster API too.
    pub(crate) cluster_api: Provider,
    /// How many control planes may start at a time.
    pub(crate) starts_at_once: Limit,
    /// Held from reading who starts to writing that one more does.
    pub(crate) places: Mutex<()>,
    /// Who was visited at the front door.
    pub(crate) visits: Arc<Visits>,
    /// What the manager itself wrote last into each status.
    pub(crate) own: OwnWords,
    /// Which tenants' etcds were asked lately.
    pub(crate) stores: Asked,
    /// What of tenants couldn't be counted lately.
    pub(crate) uncounted: Uncounted,
    /// What was answered lately.
    pub(crate) answers: Answers,
    /// The same of tenants.
    pub(crate) inside: Answers,
    /// What watches tell.
    pub(crate) caches: Caches,
    /// Who may ask other super clusters.
    pub(crate) remotes: Remotes,
    /// Who may ask tenants.
    pub(crate) tenants: Remotes,
    /// Who may write into them: one that answers may yet have a webhook that hangs.
    pub(crate) writes: Remotes,
    /// How tenants and other super clusters are reached.
    pub(crate) enter: Enter,
    here: OnceLock<String>,
    // Of many who want to know one asks.
    nodes: Mutex<Option<(Instant, Vec<Object>)>>,
    proxy: Mutex<Option<(Instant, Proxy)>>,
}

impl Observer {
    pub(crate) fn new(
        cluster: Cluster,
        system: String,
        service_range: Option<Slice>,
        cluster_api: Provider,
        starts_at_once: Limit,
        visits: Arc<Visits>,
        caches: Caches,
    ) -> Self {
        Self {
            cluster,
            system,
            service_range,
            cluster_api,
            starts_at_once,
            places: Mutex::new(()),
            visits,
            own: OwnWords::default(),
            stores: Asked::default(),
            uncounted: Uncounted::default(),
            answers: Answers::default(),
            inside: Answers::default(),
            caches,
            remotes: Remotes::of_super_clusters(),
            tenants: Remotes::of_tenants(),
            writes: Remotes::of_tenants(),
            enter: kubeconfig::enter(),
            here: OnceLock::new(),
            nodes: Mutex::new(None),
            proxy: Mutex::new(None),
        }
    }

    /// Looks at one VirtualControlPlane; `None` when it is gone.
    pub(crate) async fn look(&self, namespace: &str, name: &str) -> Result<Option<Seen>, Error> {
        let whose = (namespace.to_owned(), name.to_owned());
        let mut from = self.answers.reader(&self.cluster, whose.clone());
        let Some(object) = self.virtual_control_plane(namespace, name).await? else {
            self.forget(&whose);
            return Ok(None);
        };
        let vcp: VirtualControlPlane = decode(&object)?;
        if !may_remember(&vcp) {
            self.forget(&whose);
            from = Reader::asking(&self.cluster);
        }
        let mut seen = Seen::nothing(object, vcp);
        let owner = seen.owner.clone();
        seen.visit = owner.as_ref().and_then(|owner| self.visits.of(&owner.id));
        let Some(owner) = owner else {
            return Ok(Some(seen));
        };
        if let (Provider::On, Some(membership)) = (self.cluster_api, &owner.cluster) {
            let told = match may_remember(&seen.vcp) {
                true => self.caches.cluster(namespace, &membership.cluster),
                false => None,
            };
            seen.cluster = match told {
                Some(cluster) => Some(cluster),
                None => {
                    let read =
                        self.cluster
                            .get_if_served(CLUSTER, Some(namespace), &membership.cluster);
                    read.await?
                }
            };
        }
        // Whose the identity is, is told while it is paused too.
        self.look_at_claims(&from, &mut seen, &owner).await?;
        if pause::of(&seen).is_some() {
            return Ok(Some(seen));
        }
        let is_elsewhere =
            seen.vcp.spec.external.is_some() || seen.vcp.spec.super_cluster.is_some();
        if owner.cluster.is_some() && !is_elsewhere {
            seen.here = self.here().await?;
        }
        if let Some(cluster) = &seen.cluster
            && let Some(place) = referred(cluster, "infrastructureRef", SUBLET_CLUSTER)
        {
            seen.place = from.get(SUBLET_CLUSTER, Some(namespace), place).await?;
        }
        if seen.standing != Standing::Ours {
            return Ok(Some(seen));
        }
        let syncer_secret = naming::tenant_kubeconfig(&owner.id);
        seen.syncer_secret = from.get(SECRET, Some(&self.system), &syncer_secret).await?;
        seen.route = from
            .get(CONFIG_MAP, Some(&self.system), &route::name(&owner.id))
            .await?;
        let beside = provision::access_beside(&owner, &self.system);
        seen.access_beside = from
            .get(ROLE_BINDING, Some(&owner.namespace), beside.name())
            .await?;
        let is_going = seen.vcp.metadata.deletion_timestamp.is_some();
        if is_going && seen.access_beside.is_none() && seen.vcp.spec.super_cluster.is_some() {
            seen.home = from.get(NAMESPACE, None, &owner.namespace).await?;
        }
        if seen.access_beside.is_some() {
            let secret = owner.kubeconfig_secret();
            seen.user_secret = from.get(SECRET, Some(&owner.namespace), &secret).await?;
            for secret in cluster_keys::names(&owner) {
                let found = from.get(SECRET, Some(&owner.namespace), &secret);
                found
                    .await?
                    .into_iter()
                    .for_each(|secret| seen.cluster_secrets.insert(secret));
            }
            if let Some(external) = &seen.vcp.spec.external.clone() {
                self.look_at_class(&mut seen).await?;
                let secret = &external.kubeconfig_secret_ref.name;
                seen.external_secret = from.get(SECRET, Some(&owner.namespace), secret).await?;
                if external.way_out.is_some() || seen.route.is_some() {
                    for secret in way_out::secrets(&owner) {
                        let found = from.get(SECRET, Some(&owner.namespace), &secret);
                        seen.way_out.extend(found.await?);
                    }
                    seen.proxy = self.proxy().await?;
                }
            }
        }
        if let Some(super_cluster) = seen.vcp.spec.super_cluster.clone()
            && (is_going || seen.access_beside.is_some())
        {
            self.look_beyond(&mut seen, &owner, &super_cluster).await?;
        }
        if seen.vcp.metadata.deletion_timestamp.is_some() {
            look_at_what_is_left(&from, &mut seen, &owner).await?;
        } else if seen.vcp.spec.external.is_none() && seen.vcp.spec.super_cluster.is_none() {
            self.look_at_control_plane(&from, &mut seen, &owner).await?;
        }
        Ok(Some(seen))
    }

    /// Lets go of what was answered about one.
    pub(crate) fn forget(&self, whose: &Whose) {
        self.answers.forget(whose);
        self.inside.forget(whose);
    }

    /// The VirtualControlPlane: as it was read or written here last, if that is what is told of it.
    async fn virtual_control_plane(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Object>, Error> {
        let whose = (namespace.to_owned(), name.to_owned());
        let version = self.caches.version_of(namespace, name);
        let known = (self.answers).in_version(&whose, VIRTUAL_CONTROL_PLANE, version.as_deref());
        if known.is_some() {
            return Ok(known);
        }
        let read = (self.cluster).get(VIRTUAL_CONTROL_PLANE, Some(namespace), name);
        let read = read.await?;
        if let Some(read) = &read {
            self.answers.learn(&whose, read);
        }
        Ok(read)
    }

    async fn look_at_class(&self, seen: &mut Seen) -> Result<(), Error> {
        let name = &seen.vcp.spec.class_name;
        seen.class = self.caches.class(name);
        if seen.class.is_some() {
            return Ok(());
        }
        match self.cluster.get(CONTROL_PLANE_CLASS, None, name).await? {
            Some(class) => seen.class = Some(decode(&class)?),
            None => {
                let classes = self.cluster.list(CONTROL_PLANE_CLASS, None, "").await?;
                seen.classes = classes
                    .iter()
                    .map(|class| class.name().to_owned())
                    .collect();
            }
        }
        Ok(())
    }

    async fn groups(&self) -> Result<Vec<ControlPlaneGroup>, Error> {
        if let Some(groups) = self.caches.groups() {
            return Ok(groups);
        }
        let groups = self.cluster.list(CONTROL_PLANE_GROUP, None, "").await?;
        groups.iter().map(decode).collect()
    }

    async fn look_at_control_plane(
        &self,
        from: &Reader,
        seen: &mut Seen,
        owner: &Owner,
    ) -> Result<(), Error> {
        self.look_at_class(seen).await?;
        seen.groups = self.groups().await?;
        seen.proxy = self.proxy().await?;
        let host_given = seen
            .class
            .as_ref()
            .is_some_and(|class| class.spec.endpoint_host.is_some());
        if seen.vcp.spec.endpoint.is_none() && !host_given {
            let named = self.named_host(from, &seen.vcp, owner).await?;
            let nodes = self.nodes().await?;
            seen.node = endpoint::node_address(&nodes, named.as_deref());
        }
        if let (Some(_), Some(class)) = (&owner.cluster, &seen.class) {
            seen.zones = zones::of(&self.nodes().await?, &class.spec.control_plane);
        }

        let name = owner.control_plane_namespace();
        let inside = Some(name.as_str());
        seen.namespace = from.get(NAMESPACE, None, &name).await?;
        let is_ours = |namespace: &Object| namespace.label(keys::TENANT) == Some(owner.id.as_str());
        if !seen.namespace.as_ref().is_some_and(is_ours) {
            return Ok(());
        }
        seen.access = from.get(ROLE_BINDING, inside, provision::ACCESS).await?;
        if seen.access.is_none() {
            return Ok(());
        }
        for kind in INSIDE {
            seen.objects.extend(from.list(kind, inside, "").await?);
        }
        self.look_at_volumes(seen, inside).await?;
        self.look_at_workload(seen, owner).await?;
        if let Some(access) = tenant::access(&seen.objects)? {
            let wanted = crate::decide::tenant_objects(seen);
            let limits = crate::decide::stored_limits(seen);
            let looked = self.look_at_tenant(seen.whose(), &access, &wanted, &limits);
            seen.tenant = looked.await?;
            if let Some(used) = crate::decide::used(seen) {
                let names = limits.uncounted(used);
                seen.uncounted = self.uncounted.take(&owner.id, names, Instant::now());
            }
            self.look_at_store(seen, owner, &limits).await?;
        }
        Ok(())
    }
}

/// Whether what was answered a moment ago is good enough: not for what is deleted, nor where another cluster or a person's
/// kubeconfig is asked, of which no watch tells anything.
fn may_remember(vcp: &VirtualControlPlane) -> bool {
    let is_elsewhere = vcp.spec.external.is_some() || vcp.spec.super_cluster.is_some();
    vcp.metadata.deletion_timestamp.is_none() && !is_elsewhere
}

pub(crate) fn decode<T: DeserializeOwned>(object: &Object) -> Result<T, Error> {
    T::deserialize(&object.body).map_err(|source| Error::Decode {
        what: format!("{object:?}"),
        source,
    })
}
