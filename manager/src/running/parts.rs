//! etcd, API server and controller-manager: whether each works, and what holds it up.

use crate::{
    lifecycle::version,
    object::{DEPLOYMENT, Kind, Object, Objects, POD, STATEFUL_SET},
    provision::{apiserver, controller_manager, etcd},
};
use api::{ApiServers, RunningVersion, keys};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long a part may take to run what it was changed to, for each of its pods.
pub(crate) const LIMIT: SignedDuration = SignedDuration::from_mins(5);

/// Kind and name of the workload of each part, in the order in which they need each other.
pub(crate) const MAINS: [(Kind, &str); 3] = [
    (STATEFUL_SET, etcd::NAME),
    (DEPLOYMENT, apiserver::NAME),
    (DEPLOYMENT, controller_manager::NAME),
];

/// What each part of the control plane waits for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    /// Why a part isn't ready, in order of the parts; empty: all are.
    pub(crate) blockers: Vec<String>,
    /// Why etcd isn't ready.
    pub(crate) etcd: Option<String>,
    /// Why no API server is.
    pub(crate) server: Option<String>,
    /// Which members an etcd that works lacks, and why.
    pub(crate) missing: Option<String>,
    /// Why a change of etcd waits; told by whoever would make it.
    pub(crate) held: Option<String>,
    /// Whether all run what was asked for, as far as they run.
    pub(crate) rolled_out: bool,
}

impl Parts {
    /// Looks at the three workloads and their pods.
    pub(crate) fn of(seen: &Objects, now: Timestamp) -> Self {
        let mut parts = Self {
            blockers: vec![],
            etcd: None,
            server: None,
            missing: None,
            held: None,
            rolled_out: true,
        };
        for (kind, name) in MAINS {
            let main = seen.get(kind, name);
            parts.rolled_out &= main.is_some_and(|main| is_through(main, now));
            let lacking = main.filter(|main| lacks_members(main, now));
            parts.missing = parts.missing.or(lacking.map(|main| missing(seen, main)));
            let wanted = main.map_or(1, |main| main.number("/spec/replicas"));
            let counted = main.map_or(0, |main| main.number("/status/readyReplicas"));
            // Sooner known than by the workload, whose controllers count them again, one after the other.
            let ready = counted.max(main.map_or(0, |_| ready_pods(seen, name)));
            // A majority of etcd's members is enough, and so is one API server.
            let enough = if kind == STATEFUL_SET {
                wanted / 2 + 1
            } else {
                1
            };
            if ready < enough {
                let blocker = blocker(seen, main, name);
                match name {
                    etcd::NAME => parts.etcd = Some(blocker.clone()),
                    apiserver::NAME => parts.server = Some(blocker.clone()),
                    _ => {}
                }
                parts.blockers.push(blocker);
            }
        }
        parts
    }
}

/// How many API servers there are, and which versions they run; `wanted` is the version that they shall have.
pub(crate) fn api_servers(seen: &Objects, wanted: &str) -> ApiServers {
    let main = seen.get(DEPLOYMENT, apiserver::NAME);
    let count = |field: &str| {
        let number = main.map_or(0, |main| main.number(&format!("/status/{field}")));
        i32::try_from(number).unwrap_or(i32::MAX)
    };
    // The upgrade of etcd comes first: until then the Deployment still asks for the old version.
    let asked = asked_version(seen);
    let mut versions: BTreeMap<Vec<u64>, RunningVersion> = BTreeMap::new();
    for version in running_versions(seen) {
        let running = versions.entry(version::order(version)).or_default();
        running.version = version.to_owned();
        running.replicas += 1;
    }
    let versions: Vec<RunningVersion> = versions.into_values().collect();
    let is_through = |(kind, name): &(Kind, &str)| {
        let main = seen.get(*kind, name);
        main.is_some_and(|main| !is_replacing(main))
    };
    ApiServers {
        replicas: count("replicas"),
        ready_replicas: count("readyReplicas"),
        available_replicas: count("availableReplicas"),
        up_to_date_replicas: if asked == Some(wanted) {
            count("updatedReplicas")
        } else {
            0
        },
        rolled_out: asked == Some(wanted)
            && MAINS.iter().all(is_through)
            && versions.iter().all(|running| running.version == wanted),
        versions,
    }
}

/// The version that the API servers' Deployment asks for.
pub(crate) fn asked_version(seen: &Objects) -> Option<&str> {
    let main = seen.get(DEPLOYMENT, apiserver::NAME)?;
    main.body["spec"]["template"]["metadata"]["labels"][keys::VERSION].as_str()
}

/// The version of each API server that there is.
pub(crate) fn running_versions(seen: &Objects) -> impl Iterator<Item = &str> {
    let is_running = |pod: &&Object| {
        pod.label("app.kubernetes.io/name") == Some(apiserver::NAME) && !has_ended(pod)
    };
    let servers = seen.of(POD).filter(is_running);
    servers.filter_map(|pod| pod.label(keys::VERSION))
}

/// Pods of a part that are ready and stay.
fn ready_pods(seen: &Objects, part: &str) -> i64 {
    let counts = |pod: &&Object| !pod.is_going() && is_ready(pod);
    pods_of(seen, part).filter(counts).count() as i64
}

/// Whether a pod says that it is ready.
pub(crate) fn is_ready(pod: &Object) -> bool {
    let mut conditions = pod.items("/status/conditions").iter();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

pub(crate) fn has_ended(pod: &Object) -> bool {
    ["Succeeded", "Failed"].contains(&pod.text("/status/phase"))
}

/// Whether a Deployment or StatefulSet runs what its spec says, and nothing else; one whose pods are replaced only when
/// they end counts as soon as they are ready.
pub(crate) fn rolled_out(main: &Object) -> bool {
    let wanted = main.number("/spec/replicas");
    let on_delete = main.text("/spec/updateStrategy/type") == "OnDelete";
    main.number("/status/observedGeneration") >= main.number("/metadata/generation")
        && (on_delete || main.number("/status/updatedReplicas") == wanted)
        && main.number("/status/readyReplicas") == wanted
        && main.number("/status/replicas") == wanted
}

/// The image of all pods of a workload, once they run it.
pub(crate) fn image_of_all(main: &Object) -> Option<String> {
    let image = main.text("/spec/template/spec/containers/0/image");
    let runs = main.number("/spec/replicas") > 0 && rolled_out(main);
    (runs && !image.is_empty()).then(|| image.to_owned())
}

/// Whether those that need a part may be changed: it runs what its spec says, or is an etcd that works without a member
/// which may never come back.
pub(crate) fn is_through(main: &Object, now: Timestamp) -> bool {
    rolled_out(main) || lacks_members(main, now)
}

/// Whether a majority of etcd's members are ready and others aren't, though what they were changed to had its time. Where
/// some wait to be changed still, that comes first.
fn lacks_members(main: &Object, now: Timestamp) -> bool {
    let [wanted, there, ready, updated] = [
        "/spec/replicas",
        "/status/replicas",
        "/status/readyReplicas",
        "/status/updatedReplicas",
    ]
    .map(|field| main.number(field));
    main.kind == STATEFUL_SET
        && (wanted / 2 + 1..wanted).contains(&ready)
        && main.number("/status/observedGeneration") >= main.number("/metadata/generation")
        && updated == there
        && has_had_its_time(main, now)
}

/// Whether a workload should be through with what it was changed to last.
pub(crate) fn has_had_its_time(main: &Object, now: Timestamp) -> bool {
    let changed = main.annotation(keys::CHANGED);
    let changed: Option<Timestamp> = changed.and_then(|at| at.parse().ok());
    changed.is_none_or(|at| now.duration_since(at) > time_for(main))
}

/// How long a workload may take for what it was changed to: pods are replaced one after the other.
pub(crate) fn time_for(main: &Object) -> SignedDuration {
    let pods = i32::try_from(main.number("/spec/replicas")).unwrap_or(1);
    LIMIT * pods.max(1)
}

/// Which members of etcd aren't ready, with what holds them up.
fn missing(seen: &Objects, main: &Object) -> String {
    let wanted = main.number("/spec/replicas");
    let names = (0..wanted).map(|n| format!("{}-{n}", main.name()));
    let not_ready = names.filter_map(|name| match seen.get(POD, &name) {
        Some(pod) if is_ready(pod) && !pod.is_going() => None,
        pod => Some(pod.and_then(trouble).unwrap_or(name)),
    });
    let not_ready: Vec<String> = not_ready.collect();
    let ready = main.number("/status/readyReplicas");
    format!(
        "{ready} of {wanted} members are ready; missing: {}",
        not_ready.join(", ")
    )
}

/// Whether pods of a Deployment or StatefulSet are to be replaced still; whether they are ready, and how many there shall
/// be, is another matter. Those that are replaced only when they end aren't waited for.
pub(crate) fn is_replacing(main: &Object) -> bool {
    let there = main.number("/status/replicas");
    // Where an old pod ends first, there may be none for a moment.
    let ends_first = main.kind == STATEFUL_SET || main.text("/spec/strategy/type") == "Recreate";
    let due = match ends_first {
        true => there.max(main.number("/spec/replicas")),
        false => there,
    };
    let on_delete = main.text("/spec/updateStrategy/type") == "OnDelete";
    main.number("/status/observedGeneration") < main.number("/metadata/generation")
        || (!on_delete && main.number("/status/updatedReplicas") < due)
}

/// What is gone by of a pod of a control plane, here and where it is asked for an address or ended.
pub(crate) fn essence_of_pod(pod: &Object) -> Value {
    let is_ready = is_ready(pod);
    json!([
        pod.uid(),
        pod.body["metadata"]["labels"],
        pod.is_going(),
        pod.number("/metadata/deletionGracePeriodSeconds"),
        has_ended(pod),
        is_ready,
        is_ready.then(|| pod.text("/status/podIP")),
        trouble(pod),
    ])
}

/// What is gone by of a Deployment or StatefulSet of a control plane; a new generation tells of its spec.
pub(crate) fn essence_of_workload(main: &Object) -> Value {
    let metadata = &main.body["metadata"];
    let ours = |(key, _): &(&String, &Value)| key.starts_with(keys::PREFIX);
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    let counts = [
        "observedGeneration",
        "replicas",
        "readyReplicas",
        "availableReplicas",
        "updatedReplicas",
    ]
    .map(|field| main.number(&format!("/status/{field}")));
    json!([
        main.uid(),
        metadata["labels"],
        annotations.filter(ours).collect::<Vec<_>>(),
        main.number("/metadata/generation"),
        main.is_going(),
        counts,
        failure(main),
    ])
}

/// Why a part isn't ready, as its pods or its controller tell.
pub(crate) fn blocker(seen: &Objects, main: Option<&Object>, part: &str) -> String {
    if let Some((_, trouble)) = in_trouble(seen, part) {
        return format!("waiting for pod {trouble}");
    }
    let pods = pods_of(seen, part).filter(|pod| !has_ended(pod));
    let pods: Vec<&Object> = pods.collect();
    let unready = pods.iter().find(|pod| !is_ready(pod) && !pod.is_going());
    if let Some(pod) = unready.or(pods.first()) {
        return format!("waiting for pod {} to be ready", pod.name());
    }
    match main.and_then(failure) {
        Some(message) => format!("no pod of {part} can be created: {message}"),
        None => format!("waiting for a pod of {part}"),
    }
}

/// A pod of a part that is held up, and by what.
pub(crate) fn in_trouble<'a>(seen: &'a Objects, part: &str) -> Option<(&'a Object, String)> {
    pods_of(seen, part).find_map(|pod| Some((pod, trouble(pod)?)))
}

fn pods_of<'a>(seen: &'a Objects, part: &str) -> impl Iterator<Item = &'a Object> {
    let is_of_it = move |pod: &&Object| pod.label("app.kubernetes.io/name") == Some(part);
    seen.of(POD).filter(is_of_it)
}

/// Why a workload's controller can't create a pod.
fn failure(main: &Object) -> Option<&str> {
    let mut conditions = main.items("/status/conditions").iter();
    let failure = conditions.find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True");
    failure?["message"].as_str()
}

/// What holds a pod up, when that is more than time.
pub(crate) fn trouble(pod: &Object) -> Option<String> {
    let words = |reason: &str, more: Option<&str>| match more {
        Some(more) => format!("{}: {reason} ({more})", pod.name()),
        None => format!("{}: {reason}", pod.name()),
    };
    for container in pod.items("/status/containerStatuses") {
        let waiting = &container["state"]["waiting"];
        let reason = waiting["reason"].as_str().unwrap_or_default();
        let message = waiting["message"].as_str();
        // The kubelet says in two ways, by turns, that it has no image, and at length.
        if reason.contains("ImagePull") {
            let cause = message.and_then(|message| Some(message.rsplit_once(": ")?.1));
            let image = container["image"].as_str();
            let image = image.map(|image| match cause {
                Some(cause) => format!("{image}: {cause}"),
                None => image.to_owned(),
            });
            return Some(words("ErrImagePull", image.as_deref()));
        }
        // Between two restarts it counts the seconds, and that isn't what holds it up.
        let says_nothing = [
            "",
            "ContainerCreating",
            "PodInitializing",
            "CrashLoopBackOff",
        ];
        if !says_nothing.contains(&reason) {
            return Some(words(reason, message));
        }
        if let Some(code) = exit_code(container) {
            return Some(words(&format!("restarted after exit code {code}"), None));
        }
    }
    let unscheduled = |c: &&Value| c["type"] == "PodScheduled" && c["status"] == "False";
    let condition = pod.items("/status/conditions").iter().find(unscheduled)?;
    let reason = condition["reason"].as_str()?;
    Some(words(reason, condition["message"].as_str()))
}

/// Whether a pod ends by itself, and is started again.
pub(crate) fn crashes(pod: &Object) -> bool {
    let mut containers = pod.items("/status/containerStatuses").iter();
    containers.any(|container| exit_code(container).is_some())
}

/// What a container that isn't ready ended with last.
fn exit_code(container: &Value) -> Option<i64> {
    let ended = &container["lastState"]["terminated"];
    let is_down = container["ready"] == false && ended.is_object();
    is_down.then(|| ended["exitCode"].as_i64().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_steps_on_its_way_are_no_news_and_its_readiness_and_troubles_are() {
        let pod = |status: Value| Object::new(POD, Some("n"), "etcd-0", json!({"status": status}));
        let essence = |status| essence_of_pod(&pod(status));
        let waiting = |reason: &str| json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason}}}]});
        let new = essence(json!({}));
        assert_eq!(new, essence(waiting("ContainerCreating")));
        assert_eq!(
            new,
            essence(json!({"phase": "Running", "podIP": "10.0.0.1"}))
        );
        assert_ne!(new, essence(waiting("ErrImagePull")));
        let ready =
            |ip: &str| json!({"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]});
        assert_ne!(new, essence(ready("10.0.0.1")));
        assert_ne!(essence(ready("10.0.0.1")), essence(ready("10.0.0.2")));
        assert_ne!(new, essence(json!({"phase": "Failed"})));
    }

    #[test]
    fn a_workloads_spec_marks_and_counts_are_news_and_its_conditions_times_are_not() {
        let main = |change: fn(&mut Value)| {
            let mut body = json!({
                "metadata": {"generation": 1, "annotations": {keys::APPLIED: "a"}},
                "status": {"replicas": 1, "conditions": [{"type": "Progressing", "lastUpdateTime": "1"}]},
            });
            change(&mut body);
            essence_of_workload(&Object::new(DEPLOYMENT, Some("n"), "kube-apiserver", body))
        };
        let same: [fn(&mut Value); 2] = [
            |main| {
                let annotations = &mut main["metadata"]["annotations"];
                annotations["deployment.kubernetes.io/revision"] = json!("2");
            },
            |main| main["status"]["conditions"][0]["lastUpdateTime"] = json!("2"),
        ];
        let other: [fn(&mut Value); 4] = [
            |main| main["metadata"]["generation"] = json!(2),
            |main| main["metadata"]["annotations"][keys::APPLIED] = json!("b"),
            |main| main["status"]["readyReplicas"] = json!(1),
            |main| {
                main["status"]["conditions"] = json!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]);
            },
        ];
        assert!(same.into_iter().all(|change| main(change) == main(|_| ())));
        assert!(other.into_iter().all(|change| main(change) != main(|_| ())));
    }

    #[test]
    fn versions_are_those_of_the_pods_the_oldest_first() {
        let pod = |name: &str, version: &str, phase: &str| {
            let labels = json!({"app.kubernetes.io/name": apiserver::NAME, keys::VERSION: version});
            let body = json!({"metadata": {"labels": labels}, "status": {"phase": phase}});
            Object::new(POD, Some("n"), name, body)
        };
        let template = json!({"metadata": {"labels": {keys::VERSION: "1.36.10"}}});
        let main = json!({
            "spec": {"replicas": 2, "template": template},
            "status": {"replicas": 3, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 1},
        });
        let seen: Objects = [
            pod("a", "1.36.9", "Running"),
            pod("b", "1.36.10", "Running"),
            pod("c", "1.36.9", "Running"),
            pod("d", "1.35.1", "Failed"),
            Object::new(DEPLOYMENT, Some("n"), apiserver::NAME, main),
        ]
        .into_iter()
        .collect();
        let running = |version: &str, replicas| RunningVersion {
            version: version.into(),
            replicas,
        };
        let servers = api_servers(&seen, "1.36.10");
        assert_eq!(
            servers.versions,
            [running("1.36.9", 2), running("1.36.10", 1)]
        );
        assert_eq!((servers.replicas, servers.up_to_date_replicas), (3, 1));
        assert!(!servers.rolled_out);
        assert_eq!(api_servers(&seen, "1.36.11").up_to_date_replicas, 0);
        assert_eq!(api_servers(&Objects::default(), "1").replicas, 0);
    }

    #[test]
    fn a_control_plane_rolls_out_while_pods_of_any_part_are_replaced_and_not_while_one_is_not_ready()
     {
        let main = |name: &str, counts: [i64; 4]| {
            let (kind, name) = *MAINS.iter().find(|(_, part)| *part == name).unwrap();
            let [wanted, there, updated, ready] = counts;
            let strategy = match name {
                controller_manager::NAME => "Recreate",
                _ => "RollingUpdate",
            };
            let body = json!({
                "spec": {
                    "replicas": wanted, "strategy": {"type": strategy},
                    "template": {"metadata": {"labels": {keys::VERSION: "1.36.3"}}},
                },
                "status": {"replicas": there, "updatedReplicas": updated, "readyReplicas": ready},
            });
            Object::new(kind, Some("n"), name, body)
        };
        let rolled_out = |changed: &[Object]| {
            let all = MAINS.map(|(_, name)| main(name, [2, 2, 2, 2]));
            let seen: Objects = all.into_iter().chain(changed.iter().cloned()).collect();
            api_servers(&seen, "1.36.3").rolled_out
        };
        assert!(rolled_out(&[]));
        for (_, name) in MAINS {
            assert!(
                rolled_out(&[main(name, [2, 2, 2, 1])]),
                "{name} isn't ready"
            );
            assert!(
                !rolled_out(&[main(name, [2, 2, 1, 2])]),
                "an old pod of {name}"
            );
        }
        assert!(
            rolled_out(&[main(apiserver::NAME, [3, 2, 2, 2])]),
            "it scales"
        );
        for (part, counts) in [
            (controller_manager::NAME, [1, 0, 0, 0]),
            (etcd::NAME, [3, 2, 2, 2]),
        ] {
            assert!(
                !rolled_out(&[main(part, counts)]),
                "the old one of {part} has ended"
            );
        }
        let labels = json!({"app.kubernetes.io/name": apiserver::NAME, keys::VERSION: "1.35.1"});
        let old = json!({"metadata": {"labels": labels}, "status": {"phase": "Running"}});
        assert!(!rolled_out(&[Object::new(POD, Some("n"), "old", old)]));
    }

    #[test]
    fn a_part_is_ready_as_soon_as_its_pod_is() {
        let pod = |name: &str, ready: &str| {
            let body = json!({
                "metadata": {"labels": {"app.kubernetes.io/name": name}},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            });
            Object::new(POD, Some("n"), name, body)
        };
        let mains = MAINS.map(|(kind, name)| {
            let body = json!({"spec": {"replicas": 1}, "status": {"readyReplicas": 0}});
            Object::new(kind, Some("n"), name, body)
        });
        let ready = MAINS.map(|(_, name)| pod(name, "True"));
        let seen: Objects = mains.into_iter().chain(ready).collect();
        assert!(Parts::of(&seen, Timestamp::UNIX_EPOCH).blockers.is_empty());
        assert!(
            !Parts::of(&seen, Timestamp::UNIX_EPOCH).rolled_out,
            "that is the workload's to say"
        );
        let mut one_less = seen;
        one_less.insert(pod(etcd::NAME, "False"));
        assert_eq!(
            Parts::of(&one_less, Timestamp::UNIX_EPOCH).blockers.len(),
            1
        );
    }

    #[test]
    fn a_blocker_names_pod_and_reason() {
        let pod = |status: Value| {
            let body = json!({"metadata": {"labels": {"app.kubernetes.io/name": "etcd"}}, "status": status});
            Object::new(POD, Some("n"), "etcd-0", body)
        };
        let text = |status: Value| blocker(&[pod(status)].into_iter().collect(), None, "etcd");
        let pull = |reason: &str, message: &str| {
            let waiting = json!({"reason": reason, "message": message});
            text(json!({"containerStatuses": [{"image": "r/a:1", "state": {"waiting": waiting}}]}))
        };
        assert_eq!(
            pull("ImagePullBackOff", "Back-off pulling image \"r/a:1\""),
            "waiting for pod etcd-0: ErrImagePull (r/a:1)"
        );
        assert_eq!(
            pull("ErrImagePull", "failed to pull \"r/a:1\": r/a:1: not found"),
            "waiting for pod etcd-0: ErrImagePull (r/a:1: not found)"
        );
        let back_off = json!({"reason": "CrashLoopBackOff", "message": "back-off 10s"});
        let ended = json!({"terminated": {"exitCode": 2}});
        assert_eq!(
            text(json!({"containerStatuses": [
                {"ready": false, "state": {"waiting": back_off}, "lastState": ended},
            ]})),
            "waiting for pod etcd-0: restarted after exit code 2"
        );
        let unscheduled = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2"});
        assert_eq!(
            text(json!({"conditions": [unscheduled]})),
            "waiting for pod etcd-0: Unschedulable (0/2)"
        );
        assert_eq!(text(json!({})), "waiting for pod etcd-0 to be ready");

        let failure = json!({"type": "ReplicaFailure", "status": "True", "message": "quota"});
        let main = Object::new(
            DEPLOYMENT,
            Some("n"),
            "etcd",
            json!({"status": {"conditions": [failure]}}),
        );
        assert_eq!(
            blocker(&Objects::default(), Some(&main), "etcd"),
            "no pod of etcd can be created: quota"
        );
    }
}
