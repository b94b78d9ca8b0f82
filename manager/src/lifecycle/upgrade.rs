//! An upgrade that doesn't become ready is taken back; pure.
//!
//! Before a control plane gets another version, what it runs is written down in an annotation of the VirtualControlPlane,
//! which outlasts a move. Each part bears the time at which it was changed last. A part that doesn't run what it was changed
//! to within [`parts::LIMIT`] for each of its pods gets the image that it had, and so do those after it; those before it are
//! through and stay, since what they have written may be unreadable to what they were. That lasts until something else is
//! asked for.
//! What is asked for while it sleeps waits until it is awake, since nothing shows then whether it works. Where etcd waits for a
//! member ([`crate::running::quorum`]) nothing has been changed yet, and so nothing is late.

use crate::{
    lifecycle::{sleep::Stage, version},
    object::{Kind, Object},
    observe::Seen,
    provision::{apiserver, etcd},
    running::parts::{self, MAINS, Parts, rolled_out},
    spec::control_plane::Refusal,
    status::Fact,
};
use api::{Images, Version, keys};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Condition of one that shall have another version and sleeps, or whose etcd can't be changed now.
pub(crate) const WAITS: &str = "UpgradeWaiting";

/// An upgrade under way, or taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    /// What ran before.
    from: Version,
    /// What was asked for.
    to: Version,
    /// When it began.
    since: String,
    /// Where it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back: Option<Back>,
}

/// Where and why an upgrade was taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Back {
    /// The first part that has what it had before.
    part: String,
    /// What it waited for.
    why: String,
}

/// What comes next on the way to a version.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Change the VirtualControlPlane by this first.
    Record(Value),
    /// Run this.
    Run {
        /// The version.
        version: Version,
        /// Why that isn't what was chosen.
        taken_back: Option<Refusal>,
        /// What was chosen, where that waits until the control plane is awake.
        awaited: Option<String>,
    },
}

/// On the way to what was chosen, which is to be judged: a control plane that sleeps keeps what it has, and one that wakes
/// comes up with it first, unless it fell asleep in the middle.
pub(crate) fn step(seen: &Seen, chosen: Version, stage: Stage) -> Step {
    let on = |version| Step::Run {
        version,
        taken_back: None,
        awaited: None,
    };
    let record = read(seen);
    let runs = version::as_it_runs(seen);
    let begun = record.as_ref().filter(|record| record.to == chosen);
    if let Some(back) = begun.and_then(|record| Some((record, record.back.as_ref()?))) {
        return taken_back(back.0, back.1, chosen);
    }
    let is_another = |runs: &&Version| match begun {
        None => runs.version != chosen.version,
        Some(_) => **runs != chosen,
    };
    let may = match stage {
        Stage::Awake => true,
        Stage::Waking => begun.is_some(),
        Stage::Stopping | Stage::LettingGo | Stage::Ending | Stage::Asleep => false,
    };
    if !may && let Some(runs) = runs.as_ref().filter(is_another) {
        return Step::Run {
            version: runs.clone(),
            taken_back: None,
            awaited: Some(chosen.version),
        };
    }
    match (record, runs) {
        (Some(record), runs) if record.to == chosen => match late(seen, &record) {
            Some(back) => write(Some(&Record {
                back: Some(back),
                ..record
            })),
            None if runs.as_ref() == Some(&chosen) && is_through(seen, stage) => write(None),
            None => on(chosen),
        },
        (Some(_), Some(runs)) if runs.version == chosen.version => write(None),
        // Somebody takes it back.
        (Some(record), _) if record.from.version == chosen.version => on(chosen),
        (_, Some(runs)) if runs.version != chosen.version => write(Some(&Record {
            from: runs,
            to: chosen,
            since: seen.now.to_string(),
            back: None,
        })),
        _ => on(chosen),
    }
}

/// Whether all parts run what was asked for; none of one that sleeps does.
fn is_through(seen: &Seen, stage: Stage) -> bool {
    stage == Stage::Awake && Parts::of(&seen.objects, seen.now).rolled_out
}

/// What there is to say of a version that waits until the control plane is awake, or whose etcd is `held`.
pub(crate) fn told(awaited: Option<&str>, held: Option<&str>, version: &str) -> Fact {
    match (awaited, held) {
        (None, None) => Fact::no(WAITS, "Over", ""),
        (Some(awaited), _) => Fact {
            message: format!(
                "version {awaited} is asked for: it is put in place once the control plane is awake, which has {version} until then"
            ),
            ..Fact::yes(WAITS, "Asleep")
        },
        (None, Some(held)) => Fact {
            message: format!("version {version} is asked for: {held}"),
            ..Fact::yes(WAITS, "MemberMissing")
        },
    }
}

/// Whether an upgrade was taken back: that waits for nobody's turn.
pub(crate) fn is_taken_back(seen: &Seen) -> bool {
    read(seen).is_some_and(|record| record.back.is_some())
}

/// A workload with the time at which it is changed; not compared, as it is another one each time. One that is applied again
/// as it was keeps its time: where an API server stores what it is given in another way, that is done in each pass, and must
/// be no news.
pub(crate) fn stamped(mut main: Object, have: Option<&Object>, now: Timestamp) -> Object {
    let same = have.filter(|have| have.annotation(keys::APPLIED) == main.annotation(keys::APPLIED));
    let at: Option<Timestamp> = same.and_then(|have| have.annotation(keys::CHANGED)?.parse().ok());
    main.body["metadata"]["annotations"][keys::CHANGED] = json!(at.unwrap_or(now).to_string());
    main
}

/// What can't be read, or names images that neither the class offers nor the control plane runs nor ran, was written by
/// somebody else, and is no record: who writes the VirtualControlPlane chooses no images.
fn read(seen: &Seen) -> Option<Record> {
    let record = parsed(&seen.object)?;
    let offered = seen.class.iter().flat_map(|class| &class.spec.versions);
    let mut known: Vec<[String; 3]> = offered.map(|version| each(&version.images)).collect();
    // The class may have ceased to offer what ran. Only super-cluster admins write there.
    let noted = seen.namespace.as_ref().and_then(parsed);
    known.extend(noted.map(|noted| each(&noted.from.images)));
    let given = version::given(seen);
    let mut images = each(&record.from.images).into_iter().enumerate();
    images
        .all(|(part, image)| {
            given[part].as_ref() == Some(&image) || known.iter().any(|known| known[part] == image)
        })
        .then_some(record)
}

fn parsed(object: &Object) -> Option<Record> {
    serde_json::from_str(object.annotation(keys::UPGRADE)?).ok()
}

/// The record as it is noted in the control plane's own namespace, where it vouches for the images in it.
pub(crate) fn noted(seen: &Seen) -> Option<String> {
    read(seen).map(|record| json!(record).to_string())
}

/// The images in the order of [`MAINS`].
fn each(images: &Images) -> [String; 3] {
    [
        &images.etcd,
        &images.kube_apiserver,
        &images.kube_controller_manager,
    ]
    .map(Clone::clone)
}

fn write(record: Option<&Record>) -> Step {
    let text = record.map(|record| json!(record).to_string());
    Step::Record(json!({"metadata": {"annotations": {keys::UPGRADE: text}}}))
}

/// The part that was changed last for this upgrade, if it should have been through by now. Each part is changed once those
/// before it are through, so what isn't ready of these is another matter.
fn late(seen: &Seen, record: &Record) -> Option<Back> {
    let began: Timestamp = record.since.parse().ok()?;
    let changed = |(kind, part): &(Kind, &str)| -> Option<Timestamp> {
        let main = seen.objects.get(*kind, part)?;
        main.annotation(keys::CHANGED)?.parse().ok()
    };
    let last = MAINS.iter().filter_map(changed).max()?;
    MAINS.iter().find_map(|main| {
        let at = changed(main).filter(|at| *at == last && *at >= began)?;
        let (kind, part) = main;
        let main = seen.objects.get(*kind, part)?;
        // What ran and doesn't now has other troubles, and etcd's data are its own.
        let has_run = *part == etcd::NAME && version::store_has_run(seen);
        let is_long = seen.now.duration_since(at) > parts::time_for(main);
        let is_late = is_long && !rolled_out(main) && !has_run;
        is_late.then(|| Back {
            part: (*part).to_owned(),
            why: parts::blocker(&seen.objects, Some(main), part),
        })
    })
}

fn taken_back(record: &Record, back: &Back, chosen: Version) -> Step {
    let place = |part: &str| MAINS.iter().position(|(_, name)| *name == part);
    let at = place(&back.part).unwrap_or_default();
    let [etcd, server, controllers] = [0, 1, 2].map(|part| match part < at {
        true => &chosen.images,
        false => &record.from.images,
    });
    let images = Images {
        etcd: etcd.etcd.clone(),
        kube_apiserver: server.kube_apiserver.clone(),
        kube_controller_manager: controllers.kube_controller_manager.clone(),
    };
    // The version is the API servers'.
    let version = match place(apiserver::NAME) < Some(at) {
        true => chosen.version,
        false => record.from.version.clone(),
    };
    let refusal = Refusal::RolledBack {
        to: record.to.version.clone(),
        from: record.from.version.clone(),
        part: back.part.clone(),
        why: back.why.clone(),
    };
    Step::Run {
        version: Version { version, images },
        taken_back: Some(refusal),
        awaited: None,
    }
}

#[cfg(test)]
mod tests;
