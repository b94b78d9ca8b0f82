//! An upgrade that doesn't become ready is taken back; pure.
//!
//! Before a control plane gets another version, what it runs is written down in an annotation of the VirtualControlPlane,
//! which outlasts a move. Each part bears the time at which it was changed last. A part that doesn't run what it was changed
//! to within [`LIMIT`] for each of its pods gets the image that it had, and so do those after it; those before it are through and stay, since what
//! they have written may be unreadable to what they were. That lasts until something else is asked for.

use crate::{
    control_plane::Refusal,
    object::{Kind, Object},
    observe::Seen,
    parts::{self, MAINS, Parts, rolled_out},
    provision::apiserver,
    version,
};
use api::{Images, Version, keys};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long a part may take to run what it was changed to, for each of its pods.
const LIMIT: SignedDuration = SignedDuration::from_mins(5);

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
    },
}

/// On the way to what was chosen.
pub(crate) fn step(seen: &Seen, chosen: Version) -> Step {
    let on = |version| Step::Run {
        version,
        taken_back: None,
    };
    let Some(runs) = version::as_it_runs(seen) else {
        return on(chosen);
    };
    match read(seen) {
        Some(record) if record.to == chosen => match &record.back {
            Some(back) => taken_back(&record, back, chosen),
            None => match late(seen, &record) {
                Some(back) => write(Some(&Record {
                    back: Some(back),
                    ..record
                })),
                None if runs == chosen && Parts::of(&seen.objects).rolled_out => write(None),
                None => on(chosen),
            },
        },
        Some(_) if runs.version == chosen.version => write(None),
        // Somebody takes it back.
        Some(record) if record.from.version == chosen.version => on(chosen),
        _ if runs.version != chosen.version => write(Some(&Record {
            from: runs,
            to: chosen,
            since: seen.now.to_string(),
            back: None,
        })),
        _ => on(chosen),
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

/// What can't be read, or names images that neither the class offers nor the control plane runs, was written by somebody
/// else, and is no record: who writes the VirtualControlPlane chooses no images.
fn read(seen: &Seen) -> Option<Record> {
    let record: Record = serde_json::from_str(seen.object.annotation(keys::UPGRADE)?).ok()?;
    let offered = seen.class.iter().flat_map(|class| &class.spec.versions);
    let known: Vec<[String; 3]> = offered
        .map(|version| version.images.clone())
        .chain(version::as_it_runs(seen).map(|runs| runs.images))
        .map(each)
        .collect();
    let mut images = each(record.from.images.clone()).into_iter().enumerate();
    images
        .all(|(part, image)| known.iter().any(|known| known[part] == image))
        .then_some(record)
}

/// The images in the order of [`MAINS`].
fn each(images: Images) -> [String; 3] {
    [
        images.etcd,
        images.kube_apiserver,
        images.kube_controller_manager,
    ]
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
        // Pods are replaced one after the other.
        let pods = i32::try_from(main.number("/spec/replicas"))
            .unwrap_or(1)
            .max(1);
        let is_late = seen.now - LIMIT * pods > at && !rolled_out(main);
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
    }
}

#[cfg(test)]
mod tests;
