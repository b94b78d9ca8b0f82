//! What the contract asks of both kinds alike, in its order: an owner, then the finalizer, then no pause; a pause holds a
//! deletion, too. Pure.

use super::{Action, Decision, facts::Facts, report::Blocker, with_finalizer};
use crate::lifecycle::pause;
use api::capi::{BLOCK_MOVE, FINALIZER};
use serde_json::json;

/// Reason of all that more than one Cluster holds up.
pub(super) const OWNED_TWICE: &str = "OwnedTwice";

/// How far an object is before anything is done for it.
pub(super) enum Stage<'a> {
    /// All is decided already.
    Decided(Decision),
    /// It is to be left alone; why.
    Paused(&'static str),
    /// Not exactly one Cluster owns it, or that one names another; and why it is to be left alone besides, if it is.
    Unowned(Blocker, Option<&'static str>),
    /// Its deletion was asked for and may be carried out.
    Leaving,
    /// Its deletion was asked for and must not be carried out: it would end another Cluster's tenant.
    Held(Blocker),
    /// The Cluster of this name owns it, and work may go on.
    Owned(&'a str),
}

/// The stage of an object that Clusters name in `spec.FIELD`.
pub(super) fn of<'a>(seen: &'a Facts, field: &str) -> Stage<'a> {
    let owners = seen.owners();
    let patch = with_finalizer(&seen.object);
    let paused = pause::by_cluster_api(&seen.object, seen.cluster.as_ref());
    if seen.is_going() {
        return match (patch, paused) {
            // Others hold it still.
            (Some(_), _) => Stage::Decided(Decision::default()),
            (None, Some(why)) => Stage::Paused(why),
            (None, None) => still_serves(seen, field).map_or(Stage::Leaving, Stage::Held),
        };
    }
    let [owner] = owners[..] else {
        return Stage::Unowned(unowned(&owners, field), paused);
    };
    if let Some(named) = named_instead(seen, field) {
        let kind = seen.object.kind.kind;
        let message = format!(
            "Cluster {owner} names {kind} {named} in spec.{field} and not this one: delete this one, or name it there"
        );
        return Stage::Unowned(Blocker::new("NotNamed", message), paused);
    }
    match (patch, paused) {
        (Some(mut patch), paused) => {
            if paused.is_none() {
                patch["metadata"]["annotations"] = json!({BLOCK_MOVE: ""});
            }
            Stage::Decided(Decision::act(Action::Patch(patch)))
        }
        (None, Some(why)) => Stage::Paused(why),
        (None, None) => Stage::Owned(owner),
    }
}

/// What lets a move take the object along; `None` when it may already.
///
/// One that comes up is held back until all that a move must keep is written down. Before a move all is paused: once no pass
/// is under way any more, what there is can be taken along as it is, since the rest is worked out from it.
pub(super) fn let_move(seen: &Facts) -> Option<Action> {
    seen.object.annotation(BLOCK_MOVE)?;
    let patch = json!({"metadata": {"annotations": {BLOCK_MOVE: null}}});
    Some(Action::Patch(patch))
}

/// The object of the same kind that the Cluster names in `spec.FIELD`, when that is another one.
pub(super) fn named_instead<'a>(seen: &'a Facts, field: &str) -> Option<&'a str> {
    let named = Facts::referred(seen.cluster.as_ref()?, field, seen.object.kind)?;
    (named != seen.object.name()).then_some(named)
}

/// Why a deleted object stays: Cluster API deletes what a Cluster names, whoever else names it, and the Cluster whose tenant
/// it is isn't deleted. What was held once is held on, whatever becomes of the references.
fn still_serves(seen: &Facts, field: &str) -> Option<Blocker> {
    let was_held = seen.said("Deleting") == Some(OWNED_TWICE);
    let only = || seen.cluster.as_ref().filter(|_| was_held);
    let cluster = seen.named_after.as_ref().or_else(only)?;
    let named = Facts::referred(cluster, field, seen.object.kind) == Some(seen.object.name());
    (named && !cluster.is_going()).then(|| {
        let name = cluster.name();
        let message = format!(
            "it serves Cluster {name}, which isn't deleted, and another Cluster that named it was: the tenant goes on. \
             To end it, delete Cluster {name}. To keep it, name something else in spec.{field} of the other Cluster, take \
             the finalizer {FINALIZER} off this object and create it again"
        );
        Blocker::new(OWNED_TWICE, message)
    })
}

/// Why an object without exactly one Cluster isn't looked after.
fn unowned(owners: &[&str], field: &str) -> Blocker {
    match owners {
        [] => Blocker::new(
            "WaitingForCluster",
            format!(
                "no Cluster owns this object: name it in spec.{field} of a Cluster in this namespace"
            ),
        ),
        _ => Blocker::new(
            OWNED_TWICE,
            format!(
                "Clusters {} all name this object in spec.{field}, and it can serve one only: nothing is changed \
                 until all others name objects of their own and are taken out of its metadata.ownerReferences; delete none \
                 of them before, since Cluster API would delete this object with it",
                owners.join(", ")
            ),
        ),
    }
}
