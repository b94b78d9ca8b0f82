//! Which tenants are served: VirtualControlPlanes, their classes and groups, and the Secrets that lead to them.

mod claims;
mod classes;
mod control_planes;
mod gone;
mod groups;
mod refused;
mod rules;
mod serving;
mod sharing;
mod sink;

use crate::{
    budget::Shared,
    engine::Engine,
    external,
    fleet::Stored,
    guard,
    intake::SuperSink,
    kubeconfig::Text,
    lasting, reserve,
    tenants::{Record, kinds},
    verdict::{self, ControlPlane},
    watch::{self, Target},
};
use api::{Condition, ControlPlaneGroup, SyncStatus, VirtualControlPlane, keys};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tenancy::{
    bucket::Rate,
    kind::{self, KINDS, SuperWatch},
    object::NamespacedName,
    tenant::{TenantId, TenantRules},
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info_span;

pub(crate) use gone::forget_gone;

use claims::Claims;
use classes::{Classes, Ruled};
use control_planes::ControlPlanes;
use groups::Groups;
use rules::{rate, rules, weight};
use serving::{Served, reconcile};
use sink::{RegistrySink, SOURCES};

/// Reason of `Synced` for a VirtualControlPlane whose identity is another one's (T46).
const CONFLICT: &str = "IdentityConflict";

/// Looking at all tenants takes no more than a twentieth of the syncer's time, unless the next look came later than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// All that is known of VirtualControlPlanes and of what they go by, from watches.
#[derive(Default)]
pub(crate) struct Registry {
    state: Mutex<RegistryState>,
    changed: Notify,
}

#[derive(Default)]
struct RegistryState {
    control_planes: ControlPlanes,
    /// Identities of those that can't be parsed: they are there, too.
    unreadable: BTreeMap<(String, String), String>,
    classes: Classes,
    /// By which class each tenant was wanted last.
    ruled: Ruled,
    groups: BTreeMap<String, ControlPlaneGroup>,
    /// Kubeconfigs by identity.
    kubeconfigs: HashMap<String, Text>,
    /// Kubeconfigs beside the VirtualControlPlanes of external tenants.
    external: external::Texts,
    /// What the manager claimed for whom.
    claims: Claims,
    /// Who leads which tenant.
    titles: HashMap<TenantId, Stored>,
    /// Lists that are complete.
    complete: u8,
}

/// A tenant that is to be served, and by which credentials.
struct Wanted {
    rules: TenantRules,
    record: Record,
    /// Its text, or why there is none.
    kubeconfig: Result<Text, String>,
    /// What the VirtualControlPlane says of the syncer.
    told: Vec<(String, String, String)>,
    /// What it says of the lag.
    lag: Option<SyncStatus>,
    weight: u32,
    rate: Rate,
    /// Budgets that it shares with others, by group.
    shared: BTreeMap<String, Shared>,
}

impl Registry {
    /// Watches, and starts and stops the tenants that this process leads until cancelled.
    pub(crate) async fn run(
        self: Arc<Self>,
        engine: Arc<Engine>,
        tasks: TaskTracker,
        cancel: CancellationToken,
    ) {
        for source in SOURCES {
            let sink = RegistrySink {
                registry: self.clone(),
                engine: engine.clone(),
                source,
            };
            let (cluster, cancel) = (engine.cluster.clone(), cancel.clone());
            lasting::spawn(
                &tasks,
                info_span!("registry watch"),
                &cancel.clone(),
                async move {
                    watch::run(&cluster, &source.target(), &sink, &cancel).await;
                },
            );
        }
        guard::watch(&engine, &tasks, &cancel);
        let platform = reserve::watch_platform(engine.clone(), cancel.clone());
        lasting::spawn(&tasks, info_span!("platform watch"), &cancel, platform);
        let mut watching = HashSet::new();
        let table = crate::engine::watched();
        watch_super(&engine, &tasks, &cancel, &mut watching, table);
        let mut running: HashMap<TenantId, Served> = HashMap::new();
        let mut secrets = HashMap::new();
        engine.super_known().await;
        loop {
            // Whether all who aren't served have been told why.
            let mut is_said = true;
            if let Some(places) = self.external_places() {
                external::follow(
                    &self,
                    &engine.cluster,
                    &tasks,
                    &cancel,
                    &mut secrets,
                    &places,
                );
            }
            let began = Instant::now();
            let wanted = self.wanted();
            let pause = (began.elapsed() * 19).min(LONGEST_PAUSE);
            if let Some(mut wanted) = wanted {
                let (over, refused) = (self.over(), self.state.lock().refused());
                let unserved = over.iter().chain(refused.iter().map(|(of, _)| of));
                let tenants = wanted.keys().chain(unserved.map(|of| &of.id));
                let mut tenants: HashSet<TenantId> = tenants.cloned().collect();
                // Of one that rests, addresses of pods that end must leave its slices all the same.
                let mut leading = engine.slices.tenants();
                leading.retain(|id| !self.is_gone(id));
                tenants.extend(leading);
                let titles = self.state.lock().titles.clone();
                let led = engine.fleet.settle(&tenants, &titles).await;
                engine.slices.led(|id| led.contains_key(id));
                wanted.retain(|id, _| led.contains_key(id));
                for tenant in wanted.values() {
                    let custom = kinds(&tenant.rules).into_iter().skip(KINDS.len());
                    watch_super(&engine, &tasks, &cancel, &mut watching, custom);
                }
                let conflicting = self.conflicting().into_iter().map(|(of, holder)| {
                    let text = format!(
                        "the identity belongs to VirtualControlPlane {holder}: nothing is synced for this one"
                    );
                    (of, CONFLICT, text)
                });
                is_said &= verdict::unserved(&engine, conflicting.collect(), &led).await;
                is_said &=
                    reconcile(&self, &engine, &tasks, &cancel, &mut running, wanted, &led).await;
                let is_quiet = |id: &TenantId| !running.contains_key(id) && !engine.is_stopping(id);
                let mut unserved: Vec<_> = over.into_iter().map(verdict::over).collect();
                for (of, refused) in refused {
                    unserved.push((of, refused.reason, refused.message));
                }
                // One that is being stopped says so itself, once its work has ended.
                unserved.retain(|(of, ..)| is_quiet(&of.id));
                is_said &= verdict::unserved(&engine, unserved, &led).await;
                let is_idle = |id: &TenantId| is_quiet(id) && !engine.slices.is_at_work(id);
                engine.fleet.give_away(is_idle).await;
            }
            // What comes meanwhile is looked at together.
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.changed.notified() => {}
                () = engine.fleet.changed.notified() => {}
                () = tokio::time::sleep(verdict::SAY_AGAIN), if !is_said => {}
            }
        }
    }

    /// Where the kubeconfigs of external tenants are; while a list goes on, nobody knows.
    fn external_places(&self) -> Option<HashSet<NamespacedName>> {
        let state = self.state.lock();
        let control_planes = state.control_planes.iter();
        let places = control_planes
            .filter_map(|((namespace, _), vcp)| external::place(namespace, vcp))
            .collect();
        state.is_complete().then_some(places)
    }

    /// A kubeconfig beside a VirtualControlPlane changed.
    pub(crate) fn heard_external(&self, change: impl FnOnce(&mut external::Texts)) {
        change(&mut self.state.lock().external);
        self.changed.notify_one();
    }

    /// VirtualControlPlanes whose identity is another one's, which they haven't been told yet.
    fn conflicting(&self) -> Vec<(ControlPlane, String)> {
        let state = self.state.lock();
        let later = state
            .control_planes
            .iter()
            .filter_map(|((namespace, name), vcp)| {
                let id = TenantId::parse(vcp.spec.identity.as_deref()?).ok()?;
                let (holder_namespace, holder) = state.holder(&id)?;
                let is_holder = (namespace, name) == (holder_namespace, holder);
                let control_plane = ControlPlane {
                    id,
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                let told = is_conflicting(vcp) || is_told(vcp, CONFLICT);
                (!is_holder && !told)
                    .then(|| (control_plane, format!("{holder_namespace}/{holder}")))
            });
        later.collect()
    }

    /// Whether no VirtualControlPlane of this identity exists any more; while a list goes on, nobody knows.
    fn is_gone(&self, id: &TenantId) -> bool {
        let state = self.state.lock();
        let mut unreadable = state.unreadable.values();
        state.is_complete()
            && state.control_planes.claimants(id.as_str()).next().is_none()
            && !unreadable.any(|identity| identity == id.as_str())
    }

    /// Tenants that have a Lease.
    fn titled(&self) -> Vec<TenantId> {
        self.state.lock().titles.keys().cloned().collect()
    }

    /// VirtualControlPlanes that are being deleted and haven't been told yet that nothing is written for them, and those
    /// that rest and say something else.
    fn over(&self) -> Vec<ControlPlane> {
        let state = self.state.lock();
        let ending = state.control_planes.iter().filter(|(_, vcp)| {
            if is_told(vcp, "Stopped") {
                return false;
            }
            let was_served = synced(vcp).is_some() && (vcp.spec.paused || is_sleeping(vcp));
            was_served || vcp.metadata.deletion_timestamp.is_some()
        });
        ending
            .filter_map(|((namespace, name), vcp)| {
                Some(ControlPlane {
                    id: TenantId::parse(vcp.spec.identity.as_deref()?).ok()?,
                    namespace: namespace.clone(),
                    name: name.clone(),
                })
            })
            .collect()
    }

    /// The tenants to serve, once all lists are complete.
    fn wanted(&self) -> Option<HashMap<TenantId, Wanted>> {
        let mut state = self.state.lock();
        if !state.is_complete() {
            return None;
        }
        let groups = Groups::of(&state);
        let mut ruled = Ruled::new();
        let mut wanted = HashMap::new();
        for ((namespace, name), vcp) in state.control_planes.iter() {
            if is_resting(vcp) {
                continue;
            }
            let Some(id) = state.identity(namespace, name, vcp) else {
                continue;
            };
            let Ok(class) = state.class(namespace, &id, vcp) else {
                continue;
            };
            let own = external::text(namespace, vcp, &state.external);
            let copy = || state.kubeconfigs.get(id.as_str()).cloned();
            let missing = || external::missing(namespace, vcp, &state.external);
            let Some(kubeconfig) = own.or_else(copy).map(Ok).or_else(|| missing().map(Err)) else {
                continue;
            };
            let rules = rules(id.clone(), namespace, name, vcp, class, &state);
            let record = record(vcp);
            let entry = Wanted {
                rules,
                record,
                kubeconfig,
                told: verdict::told(vcp),
                lag: vcp.status.as_ref().and_then(|status| status.sync.clone()),
                weight: weight(vcp, class),
                rate: rate(vcp, class),
                shared: groups.over(namespace),
            };
            ruled.insert(id.clone(), vcp.spec.class_name.clone());
            wanted.insert(id, entry);
        }
        state.classes.tidy(&ruled);
        state.ruled = ruled;
        Some(wanted)
    }
}

impl RegistryState {
    fn is_complete(&self) -> bool {
        self.complete.count_ones() as usize == SOURCES.len()
    }
}

fn record(vcp: &VirtualControlPlane) -> Record {
    let status = vcp.status.as_ref();
    let annotations = vcp.metadata.annotations.as_ref();
    Record {
        proof: status.and_then(|status| Some(status.proof.as_ref()?.kube_system_uid.clone())),
        is_external: vcp.spec.external.is_some(),
        release: annotations.and_then(|all| all.get(keys::RELEASE).cloned()),
    }
}

/// Nothing is to be done for it, whatever it says otherwise.
fn is_resting(vcp: &VirtualControlPlane) -> bool {
    let ending = vcp.metadata.deletion_timestamp.is_some();
    ending || vcp.spec.paused || is_sleeping(vcp) || is_conflicting(vcp)
}

/// What the syncer says of it.
fn synced(vcp: &VirtualControlPlane) -> Option<&Condition> {
    let mut conditions = vcp.status.iter().flat_map(|status| &status.conditions);
    conditions.find(|condition| condition.type_ == "Synced")
}

/// Whether it was told that for this reason nothing is synced for it.
fn is_told(vcp: &VirtualControlPlane, reason: &str) -> bool {
    synced(vcp).is_some_and(|synced| synced.reason == reason)
}

/// The manager found that the identity or slice belongs to another VirtualControlPlane (T46).
fn is_conflicting(vcp: &VirtualControlPlane) -> bool {
    holds(vcp, "IdentityConflict")
}

/// Its control plane sleeps: it isn't dead, so nobody is alarmed; and what it runs is left as it is.
fn is_sleeping(vcp: &VirtualControlPlane) -> bool {
    holds(vcp, "Sleeping")
}

fn holds(vcp: &VirtualControlPlane, type_: &str) -> bool {
    let conditions = vcp.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Starts a watch for each kind that isn't watched in the super cluster yet.
fn watch_super(
    engine: &Arc<Engine>,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
    watching: &mut HashSet<u8>,
    kinds: impl Iterator<Item = u8>,
) {
    for kind in kinds {
        if !watching.insert(kind) {
            continue;
        }
        let rule = kind::rule(kind);
        let target = Target {
            selector: (rule.super_watch() == SuperWatch::Owned).then(|| keys::TENANT.to_owned()),
            ..Target::of(rule)
        };
        let sink = SuperSink {
            engine: engine.clone(),
            kind,
            roll: crate::table::Roll::default(),
            owners: crate::table::Roll::default(),
        };
        let (engine, cancel) = (engine.clone(), cancel.clone());
        lasting::spawn(
            tasks,
            info_span!("super watch"),
            &cancel.clone(),
            async move {
                if rule.super_watch() == SuperWatch::Placed {
                    // Whose an object is, is known by the namespaces.
                    engine.super_knows(kind::index("Namespace")).await;
                }
                if rule.resource().kind == "Pod" {
                    // Each that is listed shows of which address of a slice there is no doubt.
                    engine.super_knows(kind::index("EndpointSlice")).await;
                }
                watch::run(&engine.cluster, &target, &sink, &cancel).await;
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ControlPlaneClassSpec;

    #[test]
    fn a_tenant_that_sleeps_is_known_and_not_served() {
        let registry = Registry::default();
        let id = TenantId::from_bits([7; 16]);
        let mut vcp: VirtualControlPlane = serde_json::from_value(serde_json::json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "t", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"identity": id.as_str()},
        }))
        .unwrap();
        let hear = |vcp: &VirtualControlPlane| {
            let mut state = registry.state.lock();
            state.complete = (1 << SOURCES.len()) - 1;
            state
                .kubeconfigs
                .insert(id.to_string(), Text::new("a way".into()));
            state
                .classes
                .take("default", ControlPlaneClassSpec::default());
            let place = ("t".to_owned(), "a".to_owned());
            state.control_planes.insert(place, vcp.clone());
        };
        hear(&vcp);
        assert!(registry.wanted().unwrap().contains_key(&id));
        let sleeping = api::Condition {
            type_: "Sleeping".into(),
            status: "True".into(),
            ..api::Condition::default()
        };
        vcp.status.get_or_insert_default().conditions = vec![sleeping];
        hear(&vcp);
        assert!(registry.wanted().unwrap().is_empty());
        assert!(!registry.is_gone(&id), "its memory and its Lease stay");
        assert!(registry.over().is_empty() && registry.conflicting().is_empty());
        // Its last syncer couldn't say that it left it.
        let synced = api::Condition {
            type_: "Synced".into(),
            status: "True".into(),
            reason: "Watching".into(),
            ..api::Condition::default()
        };
        vcp.status.get_or_insert_default().conditions.push(synced);
        hear(&vcp);
        assert_eq!(registry.over().len(), 1);
    }

    #[test]
    fn a_tenant_whose_class_is_for_other_namespaces_is_not_served() {
        let registry = Registry::default();
        let id = TenantId::from_bits([7; 16]);
        let vcp: VirtualControlPlane = serde_json::from_value(serde_json::json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "t"},
            "spec": {"identity": id.as_str(), "className": "gold"},
        }))
        .unwrap();
        let is_wanted = |namespaces: serde_json::Value| {
            let class = serde_json::json!({"versions": [], "namespaces": namespaces});
            let class = serde_json::from_value(class).unwrap();
            let mut state = registry.state.lock();
            state.complete = (1 << SOURCES.len()) - 1;
            state
                .kubeconfigs
                .insert(id.to_string(), Text::new("a way".into()));
            state.classes.take("gold", class);
            let place = ("t".to_owned(), "a".to_owned());
            state.control_planes.insert(place, vcp.clone());
            drop(state);
            registry.wanted().unwrap().contains_key(&id)
        };
        assert!(is_wanted(serde_json::json!([])));
        assert!(is_wanted(serde_json::json!(["s", "t"])));
        assert!(!is_wanted(serde_json::json!(["s"])));
    }

    #[test]
    fn a_class_that_is_gone_goes_on_ruling_whom_it_ruled_and_nobody_else() {
        let vcp = |number: u8, name: &str, more: serde_json::Value| -> VirtualControlPlane {
            let mut vcp = serde_json::json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": name, "namespace": "t"}, "spec": more,
            });
            vcp["spec"]["identity"] = TenantId::from_bits([number; 16]).as_str().into();
            serde_json::from_value(vcp).unwrap()
        };
        let hear = |registry: &Registry, number: u8, name: &str, more| {
            let mut state = registry.state.lock();
            state.complete = (1 << SOURCES.len()) - 1;
            let id = TenantId::from_bits([number; 16]).to_string();
            state.kubeconfigs.insert(id, Text::new("a way".into()));
            let place = ("t".to_owned(), name.to_owned());
            state.control_planes.insert(place, vcp(number, name, more));
        };
        let pods = |registry: &Registry| -> Vec<(String, Option<i128>)> {
            let wanted = registry.wanted().unwrap().into_values();
            let mut all: Vec<_> = wanted
                .map(|one| (one.rules.vcp_name, one.rules.quota.get("pods").copied()))
                .collect();
            all.sort();
            all
        };
        let class = || {
            let class = serde_json::json!({"versions": [], "quota": {"pods": "7"}});
            serde_json::from_value::<ControlPlaneClassSpec>(class).unwrap()
        };
        let registry = Registry::default();
        let gold = || serde_json::json!({"className": "gold"});
        registry.state.lock().classes.take("gold", class());
        hear(&registry, 1, "a", gold());
        let ruled = vec![("a".to_owned(), Some(7000))];
        assert_eq!(pods(&registry), ruled);
        registry.state.lock().classes.gone("gold");
        hear(&registry, 2, "b", gold());
        assert_eq!(
            pods(&registry),
            ruled,
            "a's quota holds, and b has none to be held to"
        );
        let told = registry.state.lock().refused();
        assert_eq!(
            (&*told[0].0.name, told[0].1.reason, told.len()),
            ("b", "ClassMissing", 1)
        );
        registry.state.lock().classes.listing();
        assert_eq!(
            pods(&registry),
            ruled,
            "nor does a list bring another answer"
        );

        // It wasn't ruled in between.
        hear(
            &registry,
            1,
            "a",
            serde_json::json!({"className": "gold", "paused": true}),
        );
        assert_eq!(pods(&registry), []);
        hear(&registry, 1, "a", gold());
        assert_eq!(pods(&registry), []);
        registry.state.lock().classes.take("gold", class());
        assert_eq!(pods(&registry).len(), 2);

        let restarted = Registry::default();
        hear(&restarted, 1, "a", gold());
        assert_eq!(pods(&restarted), []);
        let told = &restarted.state.lock().refused()[0].1.message;
        assert!(
            told.contains("there is no ControlPlaneClass gold: nothing is synced; create it"),
            "{told}"
        );
    }

    #[test]
    fn an_external_tenant_whose_secret_was_looked_for_and_is_not_there_is_told_so() {
        let registry = Registry::default();
        let id = TenantId::from_bits([7; 16]);
        let vcp: VirtualControlPlane = serde_json::from_value(serde_json::json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "t", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"identity": id.as_str(), "external": {"kubeconfigSecretRef": {"name": "way", "key": "value"}}},
        }))
        .unwrap();
        assert_eq!(
            registry.external_places(),
            None,
            "what was followed goes on"
        );
        registry.state.lock().complete = (1 << SOURCES.len()) - 1;
        let class = ControlPlaneClassSpec::default();
        registry.state.lock().classes.take("default", class);
        let place = ("t".to_owned(), "a".to_owned());
        registry.state.lock().control_planes.insert(place, vcp);
        assert_eq!(registry.external_places().unwrap().len(), 1);
        assert!(registry.wanted().unwrap().is_empty(), "nobody looked yet");
        let secret = ("t".to_owned(), "way".to_owned());
        let hear = |keys: BTreeMap<String, Text>| {
            registry.heard_external(|texts| drop(texts.insert(secret.clone(), keys)));
            let wanted = registry.wanted().unwrap().remove(&id).unwrap();
            wanted.kubeconfig.map(|text| text.as_str().to_owned())
        };
        let why = hear(BTreeMap::new()).unwrap_err();
        assert!(why.contains("Secret t/way with the key value"), "{why}");
        let there = BTreeMap::from([("value".to_owned(), Text::new("a way".to_owned()))]);
        assert_eq!(hear(there), Ok("a way".to_owned()));
    }
}
