//! Looking at what is left of a tenant that is being deleted.

use super::{Error, Seen};
use crate::{
    lifecycle::deletion::{holdup, is_held, of_a_job},
    object::{DEPLOYMENT, JOB, NAMESPACE, Object, POD, STATEFUL_SET},
    running::parts,
    spec::control_plane::Owner,
    watching::answers::Reader,
};
use api::keys;

/// So many namespaces of the tenant are looked into, and none of one that has more.
const FEW: usize = 10;

/// Its namespaces, what holds them up, and what is left of the control plane.
pub(super) async fn look_at_what_is_left(
    from: &Reader,
    seen: &mut Seen,
    owner: &Owner,
) -> Result<(), Error> {
    let selector = format!("{}=true,{}={}", keys::MANAGED, keys::TENANT, owner.id);
    seen.namespaces = from.list(NAMESPACE, None, &selector).await?;
    let inside = owner.control_plane_namespace();
    let others = seen.namespaces.iter();
    let others: Vec<&Object> = others.filter(|space| space.name() != inside).collect();
    if others.len() <= FEW && others.iter().all(|space| space.is_going()) {
        let mut left = vec![];
        for space in others {
            let name = Some(space.name());
            left.extend(from.list(POD, name, "").await?);
            if holdup::is_held_up(space) {
                for kind in holdup::NAMED.into_iter().filter(|kind| *kind != POD) {
                    left.extend(from.list(kind, name, "").await?);
                }
            }
        }
        let mut pods = left.iter().filter(|left| left.kind == POD);
        seen.has_stopped = pods.all(parts::has_ended);
        seen.remaining = left;
    }
    for kind in [POD, DEPLOYMENT, STATEFUL_SET] {
        let objects = from.list(kind, Some(&inside), "").await?;
        objects
            .into_iter()
            .for_each(|object| seen.objects.insert(object));
    }
    // Their pods stay when they have ended.
    if is_held(seen) && seen.objects.of(POD).any(of_a_job) {
        let jobs = from.list(JOB, Some(&inside), "").await?;
        seen.objects.extend(jobs);
    }
    Ok(())
}
