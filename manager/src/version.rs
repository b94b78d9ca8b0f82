//! Which Kubernetes version a control plane has; pure.
//!
//! The spec says it. Where it doesn't, the manager writes the class's first one there when the control plane is made, and
//! only a person changes it from then on: a class that offers another version upgrades nobody. It stands in the spec and not
//! in the status, so that it survives a move to another management cluster.

use crate::{
    object::{DEPLOYMENT, Object, STATEFUL_SET},
    observe::Seen,
    provision::{apiserver, controller_manager, etcd},
    status::{Fact, condition},
};
use api::{ControlPlaneClass, Images, Version, keys};
use std::borrow::Cow;

/// Condition of one that runs a version which its class has ceased to offer; there only meanwhile and afterwards.
const OFFERED: &str = "VersionOffered";

/// What must be written into a spec that names no version: what runs, or else what the class offers first.
pub(crate) fn to_record(seen: &Seen, class: &ControlPlaneClass) -> Option<String> {
    if seen.vcp.spec.version.is_some() {
        return None;
    }
    let status = seen.vcp.status.as_ref();
    let runs = running(seen).or_else(|| status?.version.as_deref());
    let first = class.spec.versions.first();
    runs.or(first.map(|first| first.version.as_str()))
        .map(str::to_owned)
}

/// The class with what runs in it, if that is asked for and no longer offered: it goes on with the images that it has, and
/// is looked after as before.
pub(crate) fn with_what_runs<'a>(
    class: &'a ControlPlaneClass,
    seen: &Seen,
) -> Cow<'a, ControlPlaneClass> {
    match abandoned(class, seen) {
        None => Cow::Borrowed(class),
        Some(version) => {
            let mut class = class.clone();
            class.spec.versions.push(version);
            Cow::Owned(class)
        }
    }
}

/// What there is to say of it.
pub(crate) fn fact(class: &ControlPlaneClass, seen: &Seen) -> Option<Fact> {
    if let Some(runs) = abandoned(class, seen) {
        let offered = class.spec.versions.iter();
        let offered: Vec<&str> = offered.map(|offered| offered.version.as_str()).collect();
        let words = format!(
            "ControlPlaneClass {} no longer offers version {}: what runs goes on; set spec.version to one of {}",
            seen.vcp.spec.class_name,
            runs.version,
            offered.join(", ")
        );
        return Some(Fact::no(OFFERED, "NotOffered", words));
    }
    condition(&seen.vcp, OFFERED).map(|_| Fact::yes(OFFERED, "Offered"))
}

/// The version that runs, if it is asked for and the class doesn't offer it.
fn abandoned(class: &ControlPlaneClass, seen: &Seen) -> Option<Version> {
    let wanted = seen.vcp.spec.version.as_deref()?;
    let mut offered = class.spec.versions.iter();
    if offered.any(|offered| is(&offered.version, wanted)) {
        return None;
    }
    let version = running(seen).filter(|runs| is(runs, wanted))?;
    let image = |kind, name| {
        let main: &Object = seen.objects.get(kind, name)?;
        let image = main.text("/spec/template/spec/containers/0/image");
        (!image.is_empty()).then(|| image.to_owned())
    };
    Some(Version {
        version: version.to_owned(),
        images: Images {
            etcd: image(STATEFUL_SET, etcd::NAME)?,
            kube_apiserver: image(DEPLOYMENT, apiserver::NAME)?,
            kube_controller_manager: image(DEPLOYMENT, controller_manager::NAME)?,
        },
    })
}

/// What the API servers shall run by what was made of them.
fn running(seen: &Seen) -> Option<&str> {
    let main = seen.objects.get(DEPLOYMENT, apiserver::NAME)?;
    main.body["spec"]["template"]["metadata"]["labels"][keys::VERSION].as_str()
}

/// Whether `offered` (`1.36.3`) is what `wanted` (`1.36.3`, `v1.36.3`, `1.36`) asks for.
pub(crate) fn is(offered: &str, wanted: &str) -> bool {
    let wanted = wanted.trim_start_matches('v');
    offered == wanted
        || offered
            .strip_prefix(wanted)
            .is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests;
