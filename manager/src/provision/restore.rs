//! New volumes for etcd, with the data of a snapshot: a claim for each member, and a Job that fills it.
//!
//! They are beside those that etcd has, which nobody touches: what goes wrong here costs the tenant nothing. The pods have
//! no keys, and no policy lets them reach anything.

use super::{
    metadata, pod,
    snapshot::{self, Work, container, job_beside},
};
use crate::{
    object::{CLAIM, Object},
    provision::etcd,
    spec::control_plane::ControlPlane,
};
use serde_json::json;

/// Name of the part.
pub(crate) const NAME: &str = "restore";
/// By so much revisions differ from volumes to those of the next restore, which is more than is ever written into one.
const STEP: u64 = 10_000_000_000;
/// A Job that takes longer has failed, in seconds. etcd's largest file is 8 GiB, and a claim may be slow to come.
const PATIENCE: u32 = 1800;

/// Name of the Job that fills a member's claim.
pub(crate) fn job_name(store: u32, number: i32) -> String {
    format!("{NAME}-{store}-{number}")
}

/// As large as the member's first one, and of the same class; its StatefulSet will find it by its name.
pub(crate) fn claim(cp: &ControlPlane, store: u32, number: i32) -> Object {
    let body = json!({"metadata": metadata(cp, etcd::NAME), "spec": etcd::claim_spec(cp)});
    Object::new(
        CLAIM,
        Some(&cp.namespace),
        &etcd::claim_name(store, number),
        body,
    )
}

/// What is added to the revisions of a snapshot that was taken from some volumes and is written to others. Clients wait for a
/// revision that they know and the store doesn't. So its next is greater than any that was, also where the same snapshot is
/// restored again, or one from before another restore.
pub(crate) fn bump(from: u32, to: u32) -> u64 {
    STEP * u64::from(to.saturating_sub(from))
}

/// Writes a member's data, with revisions that are greater by so much. It isn't tried again, since what is half written can't be
/// overwritten; it ends with its claim.
pub(crate) fn job(
    cp: &ControlPlane,
    claim: &Object,
    name: &str,
    number: i32,
    snapshot: &str,
    bump: u64,
) -> Object {
    let member = etcd::member(number);
    let mut command = ["etcdutl", "snapshot", "restore"]
        .map(str::to_owned)
        .to_vec();
    command.extend([
        snapshot::file(snapshot),
        format!("--data-dir={}/data", etcd::FOLDER),
        format!("--name={member}"),
        format!("--bump-revision={bump}"),
        "--mark-compacted".to_owned(),
    ]);
    command.extend(etcd::beginning(cp, &member));
    let mounts = json!([
        {"name": "snapshot", "mountPath": snapshot::FOLDER, "readOnly": true},
        {"name": "data", "mountPath": etcd::FOLDER},
    ]);
    let claim_of = |name: &str| json!({"claimName": name});
    let mut spec = pod::base(cp);
    spec["containers"] = json!([container(cp, "restore", &command, &mounts)]);
    spec["volumes"] = json!([
        {"name": "snapshot", "persistentVolumeClaim": claim_of(&snapshot::name(snapshot))},
        {"name": "data", "persistentVolumeClaim": claim_of(claim.name())},
    ]);
    let work = Work {
        part: NAME,
        pod: spec,
        patience: PATIENCE,
        retries: 0,
    };
    job_beside(cp, claim, name, work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::control_plane::tests::control_plane;
    use serde_json::Value;

    fn made(cp: &ControlPlane, number: i32) -> Object {
        let claim = claim(cp, 2, number);
        job(cp, &claim, &job_name(2, number), number, "a", bump(0, 2))
    }

    fn words(job: &Object) -> String {
        let command = job.items("/spec/template/spec/containers/0/command");
        let words: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
        words.join(" ")
    }

    #[test]
    fn a_member_is_written_as_the_one_that_starts_with_it() {
        let mut cp = control_plane();
        let job = made(&cp, 0);
        assert_eq!(job.name(), "restore-2-0");
        let id = cp.owner.id.clone();
        assert_eq!(
            words(&job),
            format!(
                "etcdutl snapshot restore /snapshots/a.db --data-dir=/var/lib/etcd/data --name=etcd-0 \
                 --bump-revision=20000000000 --mark-compacted --initial-advertise-peer-urls=https://127.0.0.1:2380 \
                 --initial-cluster=etcd-0=https://127.0.0.1:2380 --initial-cluster-token={id}"
            )
        );
        cp.members = 3;
        let third = words(&made(&cp, 2));
        let set = etcd::objects(&cp, "").remove(0);
        let flags = set.items("/spec/template/spec/containers/0/command");
        for flag in [
            "--data-dir=",
            "--initial-cluster=",
            "--initial-cluster-token=",
        ] {
            let of_set = flags.iter().filter_map(Value::as_str);
            let flag = of_set.into_iter().find(|text| text.starts_with(flag));
            assert!(third.contains(flag.unwrap()), "{third}");
        }
        assert!(third.contains("--name=etcd-2 "), "{third}");
        let own = format!(
            "peer-urls=https://etcd-2.etcd-peers.{}.svc:2380",
            cp.namespace
        );
        assert!(third.contains(&own), "{third}");
    }

    #[test]
    fn revisions_are_greater_than_any_that_was_whichever_snapshot_is_restored_in_whatever_order() {
        // What was written last, and snapshots with the volumes that they are of.
        let (mut last, mut snapshots) = (5_000, vec![(5_000, 0)]);
        for (to, which) in [0, 0, 2, 1, 0, 4].into_iter().enumerate() {
            let to = u32::try_from(to).unwrap() + 1;
            let (revision, from) = snapshots[which];
            let begins = revision + bump(from, to);
            assert!(begins > last, "{snapshots:?}");
            last = begins + 900_000_000;
            snapshots.push((last, to));
        }
    }

    #[test]
    fn its_claims_are_those_that_the_stateful_set_asks_for() {
        let mut cp = control_plane();
        cp.storage.size = "3Gi".into();
        cp.store = 2;
        let claim = claim(&cp, 2, 1);
        let set = etcd::objects(&cp, "").remove(0);
        let template = set.text("/spec/volumeClaimTemplates/0/metadata/name");
        assert_eq!(claim.name(), format!("{template}-etcd-1"));
        let asked = "/spec/volumeClaimTemplates/0/spec";
        assert_eq!(set.body.pointer(asked), claim.body.pointer("/spec"));
        assert_eq!(snapshot::of_claim(&claim), None, "it is no snapshot");
    }

    #[test]
    fn pods_have_no_key_change_no_snapshot_and_meet_the_restricted_level() {
        let job = made(&control_plane(), 0);
        let pod = &job.body["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["automountServiceAccountToken"], false);
        let [container] = job.items("/spec/template/spec/containers") else {
            panic!("{pod}")
        };
        assert_eq!(
            container["securityContext"]["capabilities"],
            json!({"drop": ["ALL"]})
        );
        assert_eq!(container["volumeMounts"][0]["readOnly"], true);
        for volume in pod["volumes"].as_array().unwrap() {
            assert!(volume["persistentVolumeClaim"].is_object(), "{volume}");
        }
        assert_eq!(job.number("/spec/backoffLimit"), 0);
        assert_eq!(pod["restartPolicy"], "Never");
    }
}
