//! Which Kubernetes version a control plane has; pure.
//!
//! The spec says it. Where it doesn't, the manager writes the class's first one there when the control plane is made, and
//! only a person changes it from then on: a class that offers another version upgrades nobody. It stands in the spec and not
//! in the status, so that it survives a move to another management cluster.

use crate::{
    object::{DEPLOYMENT, Kind, Object, STATEFUL_SET},
    observe::Seen,
    provision::{apiserver, controller_manager, etcd},
    running::parts,
    spec::control_plane::Refusal,
    status::{Fact, condition},
};
use api::{ControlPlaneClass, Images, Version};

/// Condition of one that runs a version which its class has ceased to offer; there only meanwhile and afterwards.
const OFFERED: &str = "VersionOffered";
/// Condition of one whose etcd is a newer one than its version comes with; there only meanwhile.
pub(crate) const ETCD_KEPT: &str = "EtcdKept";

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

/// What a control plane is made to run.
pub(crate) struct Choice {
    /// The version.
    pub(crate) version: Version,
    /// Why that isn't what is asked for: what runs goes on instead.
    pub(crate) refused: Option<Refusal>,
}

/// What is asked for, or else what runs already and is looked after as before.
///
/// # Errors
/// What is asked for can't be had, and nothing runs.
pub(crate) fn choose(class: &ControlPlaneClass, seen: &Seen) -> Result<Choice, Refusal> {
    let refusal = match wanted(class, seen) {
        Ok(version) => {
            return Ok(Choice {
                version,
                refused: None,
            });
        }
        Err(refusal) => refusal,
    };
    match going_on(class, seen) {
        Some(version) => Ok(Choice {
            version,
            refused: Some(refusal),
        }),
        None => Err(refusal),
    }
}

/// What the spec asks for: as the class offers it, or as it runs when the class no longer does.
fn wanted(class: &ControlPlaneClass, seen: &Seen) -> Result<Version, Refusal> {
    let asked = seen.vcp.spec.version.as_deref();
    let mut offered = class.spec.versions.iter();
    let found = offered.find(|offered| asked.is_none_or(|asked| is(&offered.version, asked)));
    let found = found.cloned().or_else(|| abandoned(class, seen));
    let version = found.ok_or_else(|| Refusal::VersionNotOffered {
        class: seen.vcp.spec.class_name.clone(),
        version: asked.unwrap_or("(any)").to_owned(),
        offered: class
            .spec
            .versions
            .iter()
            .map(|offered| offered.version.clone())
            .collect(),
    })?;
    // What was begun is brought to its end.
    if running(seen) != Some(&version.version) {
        may_follow(lowest(seen), &version.version)?;
    }
    Ok(version)
}

/// What the API servers run or are on the way to; etcd keeps what it has, since its data may not go back.
fn going_on(class: &ControlPlaneClass, seen: &Seen) -> Option<Version> {
    let runs = running(seen)?;
    let mut offered = class.spec.versions.iter();
    let offered = offered.find(|offered| offered.version == runs);
    let offered =
        |part: fn(&Images) -> &String| offered.map(|offered| part(&offered.images).clone());
    let images = Images {
        etcd: image(seen, STATEFUL_SET, etcd::NAME).or_else(|| offered(|images| &images.etcd))?,
        kube_apiserver: offered(|images| &images.kube_apiserver)
            .or_else(|| image(seen, DEPLOYMENT, apiserver::NAME))?,
        kube_controller_manager: offered(|images| &images.kube_controller_manager)
            .or_else(|| image(seen, DEPLOYMENT, controller_manager::NAME))?,
    };
    Some(Version {
        version: runs.to_owned(),
        images,
    })
}

/// The same with the etcd that runs, where that is a newer one, and what there is to say of it: an older one may be unable
/// to read what it wrote.
pub(crate) fn with_its_store(seen: &Seen, mut version: Version) -> (Version, Fact) {
    let Some(kept) = store_that_stays(seen, &version) else {
        return (version, Fact::no(ETCD_KEPT, "Over", ""));
    };
    let fact = Fact {
        message: format!(
            "version {} comes with etcd {}, and {kept} ran already: it stays, since an older one may not read its data",
            version.version, version.images.etcd
        ),
        ..Fact::yes(ETCD_KEPT, "NewerRan")
    };
    version.images.etcd = kept;
    (version, fact)
}

fn store_that_stays(seen: &Seen, version: &Version) -> Option<String> {
    let main = seen.objects.get(STATEFUL_SET, etcd::NAME)?;
    // Data in a pod end with it.
    main.body.pointer("/spec/volumeClaimTemplates")?;
    let given = image(seen, STATEFUL_SET, etcd::NAME)?;
    (store_has_run(seen) && has_older_store(seen, version, &given)).then_some(given)
}

/// Whether all members of etcd run, or ran, what they were given last.
pub(crate) fn store_has_run(seen: &Seen) -> bool {
    let given = image(seen, STATEFUL_SET, etcd::NAME);
    let status = seen.vcp.status.as_ref();
    let ran = status.and_then(|status| status.etcd_image.as_ref());
    let main = seen.objects.get(STATEFUL_SET, etcd::NAME);
    given.is_some() && (given.as_ref() == ran || main.and_then(parts::image_of_all) == given)
}

/// Whether a version comes with an older minor version of etcd than this image's: by the tags, or else by which of the class's
/// versions come with it.
fn has_older_store(seen: &Seen, version: &Version, image: &str) -> bool {
    let own = &version.images.etcd;
    if let Some((own, other)) = release(own).zip(release(image)) {
        return own < other;
    }
    let minor = |version: &str| order(version.trim_start_matches('v')).into_iter().take(2);
    let offered = seen.class.iter().flat_map(|class| &class.spec.versions);
    let with_it = offered.filter(|offered| offered.images.etcd == image);
    let first = with_it.map(|offered| minor(&offered.version).collect::<Vec<_>>());
    own != image
        && first
            .min()
            .is_some_and(|first| minor(&version.version).lt(first))
}

/// The minor version in the tag of an image: of `registry:5000/etcd:v3.6.4-0@sha256:…` that is 3.6.
fn release(image: &str) -> Option<[u64; 2]> {
    let name = image.split('@').next()?.rsplit('/').next()?;
    let (_, tag) = name.split_once(':')?;
    let mut numbers = tag.trim_start_matches('v').split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some([next()?, next()?])
}

/// The oldest version that any part may run still. The status names what all parts ran last.
fn lowest(seen: &Seen) -> Option<&str> {
    let status = seen.vcp.status.as_ref();
    let all_ran = status.and_then(|status| status.version.as_deref());
    let pods = parts::running_versions(&seen.objects);
    let all = pods.chain(running(seen)).chain(all_ran);
    all.min_by_key(|version| order(version))
}

/// By what versions are sorted: their numbers.
pub(crate) fn order(version: &str) -> Vec<u64> {
    let numbers = version.split('.');
    numbers.map(|part| part.parse().unwrap_or(0)).collect()
}

/// Upgrades go one minor version at a time and never back: a newer API server may have written what an older can't read.
fn may_follow(running: Option<&str>, wanted: &str) -> Result<(), Refusal> {
    let Some(running) = running else {
        return Ok(());
    };
    let minor = |version: &str| {
        version
            .split('.')
            .nth(1)
            .and_then(|minor| minor.parse::<i64>().ok())
    };
    let why = match minor(wanted)
        .zip(minor(running))
        .map(|(wanted, running)| wanted - running)
    {
        Some(0 | 1) | None => return Ok(()),
        Some(step) if step < 0 => {
            "a tenant can't go back to an older minor version; set spec.version to a newer one"
        }
        Some(_) => {
            "upgrade by one minor version at a time; set spec.version to one in between first"
        }
    };
    Err(Refusal::Skew {
        running: running.to_owned(),
        wanted: wanted.to_owned(),
        why,
    })
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

/// What the workloads were given, whether they run it yet or not. Of one that is missing it is told by what the class offers
/// with the others' version; `None` when nobody can tell.
pub(crate) fn as_it_runs(seen: &Seen) -> Option<Version> {
    let status = seen.vcp.status.as_ref();
    let version = running(seen).or_else(|| status?.version.as_deref())?;
    let mut offered = seen.class.iter().flat_map(|class| &class.spec.versions);
    let offered = offered.find(|offered| offered.version == version);
    let offered = |part: fn(&Images) -> &String| Some(part(&offered?.images).clone());
    let [etcd, server, controllers] = given(seen);
    Some(Version {
        version: version.to_owned(),
        images: Images {
            etcd: etcd.or_else(|| offered(|images| &images.etcd))?,
            kube_apiserver: server.or_else(|| offered(|images| &images.kube_apiserver))?,
            kube_controller_manager: controllers
                .or_else(|| offered(|images| &images.kube_controller_manager))?,
        },
    })
}

/// The images that the workloads were given, in their order.
pub(crate) fn given(seen: &Seen) -> [Option<String>; 3] {
    parts::MAINS.map(|(kind, name)| image(seen, kind, name))
}

/// The version that runs, if it is asked for and the class doesn't offer it.
fn abandoned(class: &ControlPlaneClass, seen: &Seen) -> Option<Version> {
    let wanted = seen.vcp.spec.version.as_deref()?;
    let mut offered = class.spec.versions.iter();
    if offered.any(|offered| is(&offered.version, wanted)) {
        return None;
    }
    as_it_runs(seen).filter(|runs| is(&runs.version, wanted))
}

fn image(seen: &Seen, kind: Kind, name: &str) -> Option<String> {
    let main: &Object = seen.objects.get(kind, name)?;
    let image = main.text("/spec/template/spec/containers/0/image");
    (!image.is_empty()).then(|| image.to_owned())
}

/// What the API servers shall run by what was made of them.
fn running(seen: &Seen) -> Option<&str> {
    parts::asked_version(&seen.objects)
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
