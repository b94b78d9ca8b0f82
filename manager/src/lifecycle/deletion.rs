//! Leaving nothing behind: the order in which a tenant is taken out of the super cluster.
//!
//! The syncer stops first, so that nothing is made anew behind the deletions; then the workload goes, then, when none of its
//! pods is left, the control plane, then credentials and claims, and last the finalizer. The tenant's own API server is never
//! asked: it may be gone. Only what carries the tenant's identity is deleted, and by UID. The manager's RoleBinding beside the
//! VirtualControlPlane is owned by it and ends with it.
//!
//! A tenant that is a Cluster of Cluster API goes in two steps, since its infrastructure is deleted after its control
//! plane: until the SubletCluster takes its finalizer away, keys, addresses and identity stay.

use crate::{
    decide::{Action, Decision, has_finalizer, taken_over},
    elsewhere::twin,
    object::{JOB, Object, POD, SECRET},
    observe::Seen,
    running::parts::MAINS,
    spec::claims::{self, Standing},
    status::{Report, condition},
};
use api::keys;
use jiff::SignedDuration;

pub(crate) mod holdup;

/// How long the syncer is waited for: a dead one must not hold up a deletion for good.
const SYNCER_PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// What comes next for a VirtualControlPlane that is being deleted.
pub(crate) fn decide(seen: &Seen, system: &str) -> Decision {
    if !has_finalizer(seen) {
        return Decision::rest(Report::deleting("waiting for the finalizers of others"));
    }
    let (Some(owner), Standing::Ours | Standing::Free | Standing::Movable) =
        (&seen.owner, &seen.standing)
    else {
        // Nothing was ever done for it, and what carries the identity is another's.
        return Decision::act(vec![Action::Release]);
    };
    // A claim that got lost is made again first: what is deleted is deleted in its name.
    match seen.standing {
        Standing::Free => {
            return Decision::act(vec![Action::Create(claims::identity_claim(system, owner))]);
        }
        Standing::Movable => {
            return Decision::act(vec![Action::Replace(taken_over(seen, owner, system))]);
        }
        Standing::Ours | Standing::Theirs { .. } => {}
    }
    if seen.vcp.spec.super_cluster.is_some()
        && let Some(decision) = twin::leave(seen, owner, system)
    {
        return decision;
    }
    if let Some(waits) = syncer_at_work(seen) {
        return Decision::rest(Report::deleting(&waits));
    }
    let is_control_plane =
        |namespace: &&Object| namespace.label(keys::ROLE) == Some(keys::ROLE_CONTROL_PLANE);
    let (control_plane, workload): (Vec<&Object>, Vec<&Object>) =
        seen.namespaces.iter().partition(is_control_plane);
    if let Some(decision) = delete_namespaces(&workload, "the tenant's", seen) {
        if !decision.actions.is_empty() || !seen.has_stopped {
            return decision;
        }
        // An empty namespace still takes its seconds; the control plane, which nobody needs any more, ends meanwhile.
        let next = match is_held(seen) {
            true => Some(end_control_plane(seen, vec![])),
            false => delete_namespaces(&control_plane, "the control plane's", seen),
        };
        let actions = next.map(|next| next.actions).unwrap_or_default();
        return Decision {
            actions,
            ..decision
        };
    }
    let is_ours = |object: &&Object| object.label(keys::TENANT) == Some(owner.id.as_str());
    let mut leftovers: Vec<Object> = seen.syncer_secret.iter().cloned().collect();
    leftovers.extend(seen.route.iter().filter(is_ours).cloned());
    leftovers.extend(seen.kept.iter().filter(is_ours).cloned());
    leftovers.extend(seen.user_secret.iter().filter(is_ours).cloned());
    leftovers.extend(seen.cluster_secrets.of(SECRET).filter(is_ours).cloned());
    if is_held(seen) {
        return end_control_plane(seen, leftovers);
    }
    if let Some(decision) = delete_namespaces(&control_plane, "the control plane's", seen) {
        return decision;
    }
    if leftovers.is_empty() {
        leftovers.extend(seen.slice_claims.iter().cloned());
    }
    if leftovers.is_empty() {
        // The claim of the identity goes last: until then nobody else may take up what carries it.
        leftovers.extend(
            seen.claim
                .iter()
                .filter(|claim| claims::holder_uid(claim) == owner.uid)
                .cloned(),
        );
        let mut actions: Vec<Action> = leftovers.into_iter().map(Action::Delete).collect();
        actions.push(Action::Release);
        return Decision::act(actions);
    }
    let mut decision = Decision::act(leftovers.into_iter().map(Action::Delete).collect());
    decision.report = Report::deleting("waiting for its Secrets and claims to end");
    decision
}

/// Whether keys, addresses and identity outlive the control plane.
pub(crate) fn is_held(seen: &Seen) -> bool {
    let mut finalizers = seen.vcp.metadata.finalizers.iter().flatten();
    finalizers.any(|finalizer| finalizer == keys::INFRASTRUCTURE_FINALIZER)
}

/// Whether a pod is a Job's, of a snapshot or of a restore.
pub(crate) fn of_a_job(pod: &Object) -> bool {
    pod.label("batch.kubernetes.io/job-name").is_some()
}

/// Ends the control plane's processes and the ways to it; its namespace, with keys and data, stays.
fn end_control_plane(seen: &Seen, ways: Vec<Object>) -> Decision {
    let mains = MAINS
        .iter()
        .filter_map(|(kind, name)| seen.objects.get(*kind, name))
        .chain(seen.objects.of(JOB))
        .filter(|main| !main.is_going());
    let mut actions: Vec<Action> = ways.into_iter().map(Action::Delete).collect();
    actions.extend(mains.cloned().map(Action::Delete));
    // Not before the garbage collector has begun: until then another pod would be made in its place.
    let may_be_hurried =
        |pod: &&Object| pod.is_going() && pod.number("/metadata/deletionGracePeriodSeconds") > 1;
    let pods: Vec<&Object> = seen.objects.of(POD).collect();
    let hurried = pods.iter().copied().filter(may_be_hurried).cloned();
    actions.extend(hurried.map(Action::EndPod));
    if actions.is_empty() && pods.is_empty() {
        return Decision::rest(Report::ended());
    }
    let names: Vec<&str> = pods.iter().map(|pod| pod.name()).take(3).collect();
    let waits = format!(
        "waiting for {} pods of the control plane to end: {}",
        pods.len(),
        names.join(", ")
    );
    Decision {
        actions,
        report: Report::deleting(&waits),
    }
}

/// Why the syncer is still waited for.
fn syncer_at_work(seen: &Seen) -> Option<String> {
    // It can't have served a tenant whose credentials were never made.
    seen.syncer_secret
        .as_ref()
        .filter(|secret| secret.kind == SECRET)?;
    let stopped = |synced: &api::Condition| synced.status == "False" && synced.reason == "Stopped";
    if condition(&seen.vcp, "Synced").is_some_and(stopped) {
        return None;
    }
    let asked = seen.vcp.metadata.deletion_timestamp.as_ref()?.0;
    let until = asked + SYNCER_PATIENCE;
    (seen.now < until).then(|| format!("waiting for the syncer to stop, until {until} at most"))
}

/// Deletes what isn't going yet, then waits; `None` when all are gone.
///
/// The control plane's pods are ended with their namespace: nobody needs a graceful end any more, and a namespace looks
/// at what is left in it after five seconds, then after half of what its pods may take.
fn delete_namespaces(namespaces: &[&Object], whose: &str, seen: &Seen) -> Option<Decision> {
    if namespaces.is_empty() {
        return None;
    }
    let staying = namespaces.iter().filter(|namespace| !namespace.is_going());
    let mut actions = vec![];
    for namespace in staying {
        actions.push(Action::Delete((*namespace).clone()));
        let inside = |pod: &&Object| pod.namespace() == Some(namespace.name());
        actions.extend(
            seen.objects
                .of(POD)
                .filter(inside)
                .cloned()
                .map(Action::EndPod),
        );
    }
    let held: Vec<String> = namespaces
        .iter()
        .filter_map(|namespace| holdup::of(namespace, &seen.remaining))
        .collect();
    let waits = if held.is_empty() {
        let names: Vec<&str> = namespaces
            .iter()
            .map(|namespace| namespace.name())
            .take(3)
            .collect();
        format!(
            "waiting for {} of {whose} namespaces to end: {}",
            namespaces.len(),
            names.join(", ")
        )
    } else {
        held.join("; ")
    };
    Some(Decision {
        actions,
        report: Report::deleting(&waits),
    })
}

#[cfg(test)]
mod tests;
