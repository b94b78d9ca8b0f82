//! Who may not have a class, and what a control plane may not have by it; pure.
//!
//! A ceiling holds for what is new. What runs goes on when its class comes to allow less, and so it does while more than the
//! class allows is asked for.

use crate::{
    object::{DEPLOYMENT, Object, STATEFUL_SET},
    observe::Seen,
    provision::{apiserver, etcd},
    spec::control_plane::{Owner, Refusal},
};
use api::ControlPlaneClass;
use tenancy::ceiling::{self, Excess};

/// The class.
///
/// # Errors
/// There is none: without one nothing is allowed.
pub(crate) fn class(seen: &Seen) -> Result<&ControlPlaneClass, Refusal> {
    seen.class.as_ref().ok_or_else(|| Refusal::ClassMissing {
        class: seen.vcp.spec.class_name.clone(),
        existing: seen.classes.clone(),
    })
}

/// Whether a class may be had where the VirtualControlPlane is.
///
/// # Errors
/// It may not.
pub(crate) fn allowed(owner: &Owner, class: &ControlPlaneClass) -> Result<(), Refusal> {
    let is_for = class.spec.is_for(&owner.namespace);
    is_for
        .then_some(())
        .ok_or_else(|| Refusal::ClassNotAllowed {
            class: class.metadata.name.clone().unwrap_or_default(),
            namespace: owner.namespace.clone(),
        })
}

/// What is refused of the spec, where something runs that is looked after meanwhile.
///
/// # Errors
/// The same where nothing was made yet.
pub(crate) fn check(seen: &Seen, class: &ControlPlaneClass) -> Result<Option<Refusal>, Refusal> {
    let of_store = match store(seen) {
        None => ceiling::store(&seen.vcp.spec, &class.spec),
        // It keeps what it has.
        Some(_) => vec![],
    };
    let all = too_many_servers(seen, class).into_iter().chain(of_store);
    let excess: Vec<String> = all.map(|excess| excess.to_string()).collect();
    if excess.is_empty() {
        return Ok(None);
    }
    let refusal = Refusal::BeyondClass {
        class: seen.vcp.spec.class_name.clone(),
        excess: excess.join("; "),
    };
    match store(seen).or(running(seen)) {
        Some(_) => Ok(Some(refusal)),
        None => Err(refusal),
    }
}

/// How many API servers there shall be: as many as are asked for, or else those that run, or else as many as may be.
pub(crate) fn servers(seen: &Seen, class: &ControlPlaneClass) -> i32 {
    let asked = asked(seen);
    match too_many_servers(seen, class) {
        None => asked,
        Some(_) => replicas(seen).unwrap_or_else(|| class.spec.max.replicas.unwrap_or(asked)),
    }
}

fn too_many_servers(seen: &Seen, class: &ControlPlaneClass) -> Option<Excess> {
    let is_new = replicas(seen) != Some(asked(seen));
    ceiling::servers(&seen.vcp.spec, &class.spec).filter(|_| is_new)
}

fn asked(seen: &Seen) -> i32 {
    seen.vcp.spec.replicas.unwrap_or(1)
}

/// API servers that there are, unless they sleep.
fn replicas(seen: &Seen) -> Option<i32> {
    let replicas = running(seen)?.number("/spec/replicas");
    i32::try_from(replicas)
        .ok()
        .filter(|replicas| *replicas > 0)
}

fn running(seen: &Seen) -> Option<&Object> {
    seen.objects.get(DEPLOYMENT, apiserver::NAME)
}

fn store(seen: &Seen) -> Option<&Object> {
    seen.objects.get(STATEFUL_SET, etcd::NAME)
}
