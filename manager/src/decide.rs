//! What comes next for a VirtualControlPlane; pure: what was seen in, actions and a report out.
//!
//! A pass carries out the actions, looks again and decides again, until none is left; then the report becomes the
//! status. So a decision needs to be right only for what was seen, and may name the next actions alone.

mod provisioning;

use crate::{
    elsewhere::{external, twin},
    lifecycle::{
        backup, deletion, pause, restore,
        sleep::{self, Scale},
        upgrade::{self, Step},
        version,
    },
    object::{CONFIG_MAP, DEPLOYMENT, Object, SECRET, STATEFUL_SET},
    observe::Seen,
    pki::Order,
    provision::{self, Addresses, apiserver, cluster_keys, controller_manager, etcd, pod},
    running::{
        parts::{self, MAINS},
        quorum,
    },
    spec::{
        authentication, ceilings,
        claims::{self, Standing},
        control_plane::{ControlPlane, Owner, Refusal, given_slice},
        membership,
    },
    status::Report,
    store::{
        room::{self, Space},
        stored::{Limits, Used},
    },
    tenant::{self, Tenant},
};
use api::{Phase, keys as marks};
use jiff::Timestamp;
use serde_json::{Value, json};
use tenancy::slice::Slice;

/// Something to be done, in the super cluster unless it says otherwise.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Give the VirtualControlPlane a finalizer, and an identity if it has none.
    Adopt,
    /// Change the VirtualControlPlane, if it still is what was seen.
    Patch(Value),
    /// Create what must not exist yet.
    Create(Object),
    /// Update what was seen.
    Replace(Object),
    /// Make an object hold what it must.
    Apply(Object),
    /// The same inside the tenant.
    ApplyInTenant(Object),
    /// Something in the other super cluster that the tenant runs in.
    Beyond(Deed),
    /// Make keys or certificates; those of an authority are made before what it signs.
    Issue(Order),
    /// Delete what was seen.
    Delete(Object),
    /// Change a pod that was seen, if it is still there, so that its kubelet looks at it.
    Remind(Object, Value),
    /// Delete a pod that nobody needs any more, within a second.
    EndPod(Object),
    /// Take the finalizer away: the last action of all.
    Release,
    /// Take a place among those that start, if one is free.
    TakePlace,
    /// Write on a claim that was seen what came of its snapshot.
    Note(Object, Value),
    /// Write into the status what must stand there before something else is done.
    Tell(Value),
    /// Make room in the tenant's etcd, for which there is so much.
    MakeRoom(Space),
}

/// Something to be done to a twin in another super cluster.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Make it hold what it must.
    Apply(Object),
    /// Change it, if it still is what was seen.
    Merge(Object, Value),
    /// Delete what was seen.
    Delete(Object),
}

/// The outcome of deciding.
#[derive(Debug)]
pub(crate) struct Decision {
    /// What to do now.
    pub(crate) actions: Vec<Action>,
    /// What to say when there is nothing to do.
    pub(crate) report: Report,
}

impl Decision {
    pub(crate) fn act(actions: Vec<Action>) -> Self {
        Self {
            actions,
            report: Report::provisioning("starting"),
        }
    }

    pub(crate) fn rest(report: Report) -> Self {
        Self {
            actions: vec![],
            report,
        }
    }
}

/// Decides; `system` is Sublet's own namespace.
pub(crate) fn decide(seen: &Seen, system: &str) -> Decision {
    let deciding = || {
        let is_going = seen.vcp.metadata.deletion_timestamp.is_some();
        if let (Standing::Theirs { holder }, false) = (&seen.standing, is_going) {
            return Err(conflict(holder));
        }
        if let Some(why) = pause::of(seen) {
            let report = Report::paused(why);
            // Its own pause is in its spec.
            let report = match seen.vcp.spec.paused {
                true => report,
                false => report.unseen(seen),
            };
            return Ok(Decision::rest(report));
        }
        if is_going {
            let decision = deletion::decide(seen, system);
            let report = decision.report.patient(seen);
            return Ok(Decision { report, ..decision });
        }
        Owner::of(&seen.vcp).transpose()?;
        let (Some(owner), true) = (&seen.owner, has_finalizer(seen)) else {
            return Ok(Decision::act(vec![Action::Adopt]));
        };
        is_here(seen)?;
        match &seen.standing {
            Standing::Ours => claimed(seen, owner, system),
            Standing::Free => Ok(Decision::act(vec![Action::Create(claims::identity_claim(
                system, owner,
            ))])),
            Standing::Movable => Ok(Decision::act(vec![Action::Replace(taken_over(
                seen, owner, system,
            ))])),
            Standing::Theirs { holder } => Err(conflict(holder)),
        }
    };
    deciding().unwrap_or_else(|refusal: Refusal| {
        Decision::rest(Report::refused(&refusal).with_what_runs(seen))
    })
}

fn conflict(holder: &str) -> Refusal {
    Refusal::IdentityConflict {
        holder: holder.to_owned(),
    }
}

/// Whether there are API servers, or were to be some.
pub(crate) fn has_begun(seen: &Seen) -> bool {
    seen.objects.get(DEPLOYMENT, apiserver::NAME).is_some()
}

/// Whether its tenant, if it has one, is one of this super cluster: a move takes along objects and no tenants.
fn is_here(seen: &Seen) -> Result<(), Refusal> {
    let Some(here) = &seen.here else {
        return Ok(());
    };
    match seen.object.annotation(marks::SUPER_CLUSTER) {
        Some(there) if there != here => Err(Refusal::Elsewhere {
            there: there.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Whether our finalizer is on the VirtualControlPlane.
pub(crate) fn has_finalizer(seen: &Seen) -> bool {
    seen.vcp
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == marks::FINALIZER)
}

/// What the tenant must hold, as far as that can be told yet.
pub(crate) fn tenant_objects(seen: &Seen) -> Vec<Object> {
    let cp = read_so_far(seen);
    cp.zip(seen.proxy.as_ref())
        .map(|(cp, proxy)| tenant::objects(&cp, proxy, Some(&Used::new())))
        .unwrap_or_default()
}

/// What the tenant may store, as far as that can be told yet.
pub(crate) fn stored_limits(seen: &Seen) -> Limits {
    read_so_far(seen).map(|cp| cp.stored).unwrap_or_default()
}

fn read_so_far(seen: &Seen) -> Option<ControlPlane> {
    let slice = seen.slice_claims.iter().find_map(claims::claimed_slice);
    let parsed = seen.owner.as_ref().zip(seen.class.as_ref()).zip(slice);
    let parsed = parsed.map(|((owner, class), slice)| {
        let chosen = version::choose(class, seen).ok()?.version;
        Some(ControlPlane::read(
            owner,
            &seen.vcp,
            class,
            &chosen,
            slice,
            &[],
        ))
    });
    parsed.flatten()
}

/// The claim of a holder that is gone, with our name in it.
pub(crate) fn taken_over(seen: &Seen, owner: &Owner, system: &str) -> Object {
    let mut claim = claims::identity_claim(system, owner);
    if let Some(old) = &seen.claim {
        claim.body["metadata"]["resourceVersion"] = old.body["metadata"]["resourceVersion"].clone();
        claim.body["metadata"]["uid"] = json!(old.uid());
    }
    claim
}

fn claimed(seen: &Seen, owner: &Owner, system: &str) -> Result<Decision, Refusal> {
    if let Some(external) = &seen.vcp.spec.external {
        return external::decide(seen, owner, external, system);
    }
    membership::check(seen, owner)?;
    if seen.vcp.spec.super_cluster.is_some() {
        return twin::decide(seen, owner, system);
    }
    if let (Some(here), None) = (&seen.here, seen.object.annotation(marks::SUPER_CLUSTER)) {
        let patch = json!({"metadata": {"annotations": {marks::SUPER_CLUSTER: here}}});
        return Ok(Decision::act(vec![Action::Patch(patch)]));
    }
    let class = ceilings::class(seen)?;
    ceilings::allowed(owner, class)?;
    let beyond = ceilings::check(seen, class)?;
    if let Some(version) = version::to_record(seen, class) {
        let patch = json!({"spec": {"version": version}});
        return Ok(Decision::act(vec![Action::Patch(patch)]));
    }
    let fact = version::fact(class, seen);
    let version::Choice {
        version,
        mut refused,
    } = version::choose(class, seen)?;
    let slice = match settle_slice(seen, owner, class.spec.service_slice_prefix, system)? {
        Settled::Slice(slice) => slice,
        Settled::Not(actions) => return Ok(Decision::act(actions)),
    };
    let mut cp = ControlPlane::read(owner, &seen.vcp, class, &version, slice, &seen.groups);
    cp.replicas = ceilings::servers(seen, class);
    let existing = seen.objects.get(STATEFUL_SET, etcd::NAME);
    let fixed = existing.and_then(|existing| etcd::keep_what_is_fixed(&mut cp, existing));
    restore::keep(&mut cp, seen);
    cp.upgrade = upgrade::noted(seen);
    cp.stage = sleep::stage(seen, &cp);
    if let Some(record) = restore::step(seen, &cp) {
        cp.restore = Some(record);
        let noted = provision::namespace(&cp);
        return Ok(Decision::act(vec![Action::Apply(noted)]));
    }
    let (version, kept) = version::with_its_store(seen, version);
    let awaited = match upgrade::step(seen, version, cp.stage) {
        Step::Record(patch) => return Ok(Decision::act(vec![Action::Patch(patch)])),
        Step::Run {
            version,
            taken_back,
            awaited,
        } => {
            (cp.version, cp.images) = (version.version, version.images);
            refused = refused.or(taken_back);
            awaited
        }
    };
    // Until its time has come they bear the mark that they have, so that nothing else than time starts them anew.
    let has_come = |after: &Timestamp| seen.now >= *after;
    let main = seen.objects.get(DEPLOYMENT, apiserver::NAME);
    cp.rollout = cp.rollout.filter(has_come).or_else(|| pod::mark(main?));
    let issuers = &seen.vcp.spec.authentication.jwt;
    let (believed, unusable) = authentication::settle(issuers, &cp.issuer(), main);
    cp.authentication = believed;
    let refused = refused
        .or(beyond)
        .or(fixed)
        .or(unusable)
        .or_else(|| foreign_secret(seen, owner));
    let quota = etcd::quota(&cp);
    cp.stored.hold(quota);
    let config = seen.objects.get(CONFIG_MAP, apiserver::NAME);
    let now = config.and_then(|config| config.body["data"][apiserver::AUTHORIZERS].as_str());
    cp.authorizers = cp.authorizers_for(used(seen), now, &seen.uncounted);
    let mut decision = provisioning::provision(seen, &cp, system)?;
    decision.report.conditions.extend(fact);
    let held = quorum::holds_image(seen, &cp.images.etcd);
    let waits = upgrade::told(awaited.as_deref(), held.as_deref(), &cp.version);
    decision.report.conditions.extend([waits, kept]);
    decision = backup::added(decision, seen, &cp);
    decision = restore::added(decision, seen, &cp);
    if let Some(refusal) = &refused {
        // What runs is looked after as if it hadn't been asked for.
        decision.report = decision.report.but(refusal);
    }
    Ok(decision)
}

/// A Secret of somebody else's under the name of one of the tenant's kubeconfigs.
fn foreign_secret(seen: &Seen, owner: &Owner) -> Option<Refusal> {
    let users = seen.user_secret.as_ref();
    let name = owner.cluster_secret(cluster_keys::KUBECONFIG);
    let clusters = name.and_then(|name| seen.cluster_secrets.get(SECRET, &name));
    let mut both = users.into_iter().chain(clusters);
    let foreign = both.find(|secret| cluster_keys::is_anothers(owner, secret))?;
    let path = format!("{}/{}", owner.namespace, foreign.name());
    Some(Refusal::ForeignSecret(path))
}

/// What the tenant stores, when that was counted.
pub(crate) fn used(seen: &Seen) -> Option<&Used> {
    match &seen.tenant {
        Tenant::Answers { stored, .. } => stored.as_ref(),
        _ => None,
    }
}

/// What the tenant doesn't hold and must. How much it stores is shown there while there is room to show it; what is shown
/// already stays.
pub(crate) fn lacking(seen: &Seen, cp: &ControlPlane) -> Vec<Object> {
    let (Tenant::Answers { objects, .. }, Some(proxy)) = (&seen.tenant, &seen.proxy) else {
        return vec![];
    };
    let is_full = seen.refused.is_some() || room::is_lacking(seen, cp);
    let has_room = |used: &&Used| !is_full && cp.stored.has_room(used);
    let mut wanted = tenant::objects(cp, proxy, used(seen).filter(has_room));
    wanted.retain(|want| !tenant::is_met(want, objects));
    wanted
}

/// The slice, or what must be done to have one.
pub(crate) enum Settled {
    Slice(Slice),
    Not(Vec<Action>),
}

/// Claims the slice that the spec gives, or a free one, and writes it into the spec.
pub(crate) fn settle_slice(
    seen: &Seen,
    owner: &Owner,
    prefix: u8,
    system: &str,
) -> Result<Settled, Refusal> {
    let given = given_slice(&seen.vcp)?;
    let held = seen.slice_claims.iter().find_map(claims::claimed_slice);
    let patch = |slice: Slice| {
        Action::Patch(json!({"spec": {"network": {"serviceCIDR": slice.to_string()}}}))
    };
    match (given, held) {
        (Some(given), Some(held)) if given == held => {
            let stale = seen
                .slice_claims
                .iter()
                .find(|claim| claims::holder_uid(claim) != owner.uid);
            Ok(match stale {
                // The VirtualControlPlane moved; the identity's claim already says so.
                Some(old) => Settled::Not(vec![Action::Apply(with_uid(
                    claims::slice_claim(system, held, owner),
                    old,
                ))]),
                None => Settled::Slice(given),
            })
        }
        (None, Some(held)) => Ok(Settled::Not(vec![patch(held)])),
        (given, _) => {
            let range = match &seen.range {
                Some(Ok(range)) => range,
                Some(Err(why)) => return Err(Refusal::RangeUnknown(why.clone())),
                None => return Err(Refusal::RangeUnknown("it wasn't read".into())),
            };
            let slice = claims::choose(given, prefix, range)?;
            let mut actions = vec![Action::Create(claims::slice_claim(system, slice, owner))];
            if given.is_none() {
                actions.push(patch(slice));
            }
            Ok(Settled::Not(actions))
        }
    }
}

fn with_uid(mut object: Object, seen: &Object) -> Object {
    object.body["metadata"]["uid"] = json!(seen.uid());
    object
}

/// etcd, API server and controller-manager that don't hold what they must, and why one isn't changed.
///
/// etcd and API server are created together. The controller-manager ends when it finds no API server, and is then
/// started again after ten seconds only, so it is created when there is one: measured, that is sooner for both. Those that
/// sleep wake as if they were created. What runs is changed only when those before it are through, and put to sleep at once.
fn workloads(
    seen: &Seen,
    cp: &ControlPlane,
    addresses: &Addresses,
) -> (Vec<Action>, Option<String>) {
    let mut actions = vec![];
    let mut held = None;
    let mut settled = true;
    for (wanted, (kind, name)) in provision::workloads(cp, addresses, &seen.objects)
        .into_iter()
        .zip(MAINS)
    {
        let main = seen.objects.get(kind, name);
        let before = actions.len();
        let may_be_created =
            name != controller_manager::NAME || tenant::has_ready_apiserver(&seen.objects);
        let runs = main.is_some_and(|main| main.number("/spec/replicas") > 0);
        let may = match cp.stage.scale() {
            Scale::Full if runs => settled,
            Scale::Full => may_be_created,
            Scale::StoreAlone | Scale::Nothing => true,
        };
        if may {
            for want in wanted {
                let have = seen.objects.get(want.kind, want.name());
                if have.is_some_and(|have| want.is_met_by(have)) {
                    continue;
                }
                let is_main = (want.kind, want.name()) == (kind, name);
                let stays = have.filter(|_| is_main);
                let stays = stays.and_then(|have| quorum::held(seen, have, &want));
                if let Some(stays) = stays {
                    settled &= !stays.comes_first;
                    held = Some(stays.why);
                    continue;
                }
                let has_others = |have: &&Object| is_main && etcd::has_other_volumes(&want, have);
                // They can't be changed, and no pod has them now.
                let replaced = have.filter(has_others).cloned();
                actions.extend(replaced.map(Action::Delete));
                actions.push(Action::Apply(match is_main {
                    true => upgrade::stamped(want, have, seen.now),
                    false => want,
                }));
            }
        }
        let is_through = |main| parts::is_through(main, seen.now);
        settled &= actions.len() == before && main.is_some_and(is_through);
    }
    (actions, held)
}

fn due<'a>(
    orders: Vec<Order>,
    find: impl Fn(&Order) -> Option<&'a Object>,
    seen: &Seen,
) -> Vec<Action> {
    let due = orders.into_iter().filter_map(|order| {
        let have = find(&order);
        seen.is_due(&order, have).then(|| renew(order, have))
    });
    due.collect()
}

/// What makes a Secret anew: the type of one that there is can't be changed, so one of another type goes first.
pub(crate) fn renew(order: Order, have: Option<&Object>) -> Action {
    match have {
        Some(have) if have.text("/type") != order.secret_type => Action::Delete(have.clone()),
        _ => Action::Issue(order),
    }
}

pub(crate) fn push_unmet(actions: &mut Vec<Action>, want: Object, have: Option<&Object>) {
    if !have.is_some_and(|have| want.is_met_by(have)) {
        actions.push(Action::Apply(want));
    }
}

/// The phase while something is missing: it ran before, or it never did.
pub(crate) fn unready_phase(seen: &Seen) -> Phase {
    let status = seen.vcp.status.as_ref();
    let has_run = status.is_some_and(|status| status.version.is_some());
    match status.and_then(|status| status.phase) {
        Some(Phase::Ready | Phase::Degraded) => Phase::Degraded,
        Some(Phase::Failed) if has_run => Phase::Degraded,
        _ => Phase::Provisioning,
    }
}

#[cfg(test)]
pub(crate) mod tests;
