//! The tenant's etcd: one or three members, its own authority, nothing shared.

use super::{
    metadata,
    pod::{self, CONFIG_DIR, Data, Part, Source, Spread},
    selector,
};
use crate::{
    object::{DISRUPTION_BUDGET, Object, STATEFUL_SET},
    spec::control_plane::{ControlPlane, Refusal},
};
use api::EtcdStorage;
use serde_json::{Value, json};

/// Name of the part, its StatefulSet and its Service.
pub(crate) const NAME: &str = "etcd";
/// Headless Service by which members find each other.
pub(crate) const PEERS: &str = "etcd-peers";
/// Clients.
pub(crate) const CLIENT_PORT: u16 = 2379;
/// Members among each other.
pub(crate) const PEER_PORT: u16 = 2380;
/// Health and metrics, without TLS and without data.
pub(crate) const HEALTH_PORT: u16 = 2381;
/// etcd's own HTTP paths, which nobody asks; on the loopback address alone.
const HTTP_PORT: u16 = 2382;

const GIB: u64 = 1 << 30;
/// An API server that has just started stores some MiB.
const LEAST: u64 = 16 << 20;
/// Where a member's volume is mounted.
pub(crate) const FOLDER: &str = "/var/lib/etcd";
/// What a member's first volume is called, and all others begin with.
const VOLUME: &str = "data";
/// What is between that and the number of a restore.
const RESTORED: &str = "-r";
/// The flag that lists all members.
const INITIAL_CLUSTER: &str = "--initial-cluster=";

/// Host names of all members, as peers know them.
pub(crate) fn members(cp: &ControlPlane) -> Vec<String> {
    (0..cp.members)
        .map(|n| format!("{NAME}-{n}.{PEERS}.{}.svc", cp.namespace))
        .collect()
}

/// Name of a member.
pub(crate) fn member(number: i32) -> String {
    format!("{NAME}-{number}")
}

/// What members' volumes are called: those that they were made with, or those of a restore.
pub(crate) fn volume_name(store: u32) -> String {
    match store {
        0 => VOLUME.to_owned(),
        restore => format!("{VOLUME}{RESTORED}{restore}"),
    }
}

/// Name of a member's claim.
pub(crate) fn claim_name(store: u32, number: i32) -> String {
    format!("{}-{}", volume_name(store), member(number))
}

/// Of which volumes a claim is, if it is a member's.
pub(crate) fn store_of_claim(claim: &Object) -> Option<u32> {
    let (volume, number) = claim.name().rsplit_once(&format!("-{NAME}-"))?;
    number.parse::<u32>().ok()?;
    store_of_volume(volume)
}

/// Which volumes a StatefulSet's claims are for.
pub(crate) fn store_of(existing: &Object) -> Option<u32> {
    store_of_volume(existing.text("/spec/volumeClaimTemplates/0/metadata/name"))
}

/// Whether a StatefulSet's claims are for others of a member's volumes than those that are wanted.
pub(crate) fn has_other_volumes(want: &Object, have: &Object) -> bool {
    let [wanted, had] = [want, have].map(store_of);
    want.kind == STATEFUL_SET && wanted.is_some() && had.is_some() && wanted != had
}

fn store_of_volume(name: &str) -> Option<u32> {
    match name.strip_prefix(VOLUME)? {
        "" => Some(0),
        rest => rest.strip_prefix(RESTORED)?.parse().ok(),
    }
}

/// The StatefulSet, and a disruption budget when a member may be missing.
pub(crate) fn objects(cp: &ControlPlane, digest: &str) -> Vec<Object> {
    let claim = (!cp.storage.ephemeral).then(|| claim_template(cp));
    let volume = match claim {
        Some(_) => Value::Null,
        None => json!({"name": VOLUME, "emptyDir": {}}),
    };
    let part = Part {
        name: NAME,
        image: &cp.images.etcd,
        command: command(cp),
        // Half of Go's default growth: an idle etcd holds a third less memory for little work.
        env: vec![("GOGC", "50")],
        ports: vec![
            ("client", CLIENT_PORT),
            ("peer", PEER_PORT),
            ("health", HEALTH_PORT),
        ],
        startup: pod::http("HTTP", "health", "/readyz"),
        readiness: Some(pod::http("HTTP", "health", "/readyz")),
        liveness: pod::http("HTTP", "health", "/livez"),
        resources: &cp.pods.resources.etcd,
        default_requests: [("cpu", "50m"), ("memory", "64Mi")],
        files: vec![
            Source::Secret("etcd-ca", "tls.crt", "ca.crt"),
            Source::Secret("etcd-server", "tls.crt", "server.crt"),
            Source::Secret("etcd-server", "tls.key", "server.key"),
            Source::Secret("etcd-peer", "tls.crt", "peer.crt"),
            Source::Secret("etcd-peer", "tls.key", "peer.key"),
        ],
        data: Some(Data {
            name: volume_name(cp.store),
            volume,
            path: FOLDER,
        }),
        // It waits for its clients to leave; what it has acknowledged is on disk.
        grace: 5,
        digest,
        spread: if cp.members > 1 {
            Spread::Preferred
        } else {
            Spread::Single
        },
    };
    let mut spec = json!({
        "serviceName": PEERS,
        "replicas": cp.stage.scale().store(cp.members),
        // Members of a new cluster wait for each other.
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector(NAME)},
        "template": pod::template(cp, part),
    });
    match claim {
        Some(claim) => spec["volumeClaimTemplates"] = json!([claim]),
        // To replace a pod is to lose its data: whatever changes waits until the pod ends anyhow.
        None => spec["updateStrategy"] = json!({"type": "OnDelete"}),
    }
    let body = json!({"metadata": metadata(cp, NAME), "spec": spec});
    let mut objects = vec![Object::new(STATEFUL_SET, Some(&cp.namespace), NAME, body)];
    if cp.members > 1 {
        objects.push(budget(cp));
    }
    objects
}

/// Takes from a StatefulSet that exists what can't change on it: the class may have changed its mind since.
pub(crate) fn keep_what_is_fixed(cp: &mut ControlPlane, existing: &Object) -> Option<Refusal> {
    cp.store = store_of(existing).unwrap_or_default();
    let members = members_of(existing);
    let asked = cp.members;
    cp.members = i32::try_from(members).unwrap_or(asked);
    let claim = "/spec/volumeClaimTemplates/0/spec";
    cp.storage = match existing.body.pointer(claim) {
        None => EtcdStorage {
            ephemeral: true,
            ..EtcdStorage::default()
        },
        Some(spec) => EtcdStorage {
            ephemeral: false,
            storage_class_name: spec["storageClassName"].as_str().map(str::to_owned),
            size: spec["resources"]["requests"]["storage"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        },
    };
    (cp.members != asked).then_some(Refusal::MembersFixed(members, asked))
}

/// How many members there are, whether they sleep or not, and whatever somebody made of the number of pods.
fn members_of(existing: &Object) -> i64 {
    let flag = existing
        .items("/spec/template/spec/containers/0/command")
        .iter()
        .find_map(|flag| flag.as_str()?.strip_prefix(INITIAL_CLUSTER));
    match flag {
        Some(list) => list.split(',').count() as i64,
        None => existing.number("/spec/replicas"),
    }
}

/// What a member is told of the cluster that it begins, by flags that its restored data are made with too.
pub(crate) fn beginning(cp: &ControlPlane, member: &str) -> [String; 3] {
    let url = |member: &str| match cp.members {
        // A single member talks to itself: no name has to be resolved before it starts.
        1 => format!("https://127.0.0.1:{PEER_PORT}"),
        _ => format!("https://{member}.{PEERS}.{}.svc:{PEER_PORT}", cp.namespace),
    };
    let all = (0..cp.members).map(self::member);
    let all: Vec<String> = all.map(|one| format!("{one}={}", url(&one))).collect();
    [
        format!("--initial-advertise-peer-urls={}", url(member)),
        format!("{INITIAL_CLUSTER}{}", all.join(",")),
        format!("--initial-cluster-token={}", cp.owner.id),
    ]
}

fn command(cp: &ControlPlane) -> Vec<String> {
    let listen = match cp.members {
        1 => "127.0.0.1",
        _ => "0.0.0.0",
    };
    let file = |name: &str| format!("{CONFIG_DIR}/{name}");
    let mut command = vec![
        "etcd".into(),
        "--name=$(POD_NAME)".into(),
        format!("--data-dir={FOLDER}/data"),
        format!("--listen-client-urls=https://0.0.0.0:{CLIENT_PORT}"),
        format!("--advertise-client-urls=https://$(POD_IP):{CLIENT_PORT}"),
        format!("--listen-peer-urls=https://{listen}:{PEER_PORT}"),
    ];
    command.extend(beginning(cp, "$(POD_NAME)"));
    command.extend([
        format!("--listen-metrics-urls=http://0.0.0.0:{HEALTH_PORT}"),
        "--client-cert-auth=true".to_owned(),
        format!("--trusted-ca-file={}", file("ca.crt")),
        format!("--cert-file={}", file("server.crt")),
        format!("--key-file={}", file("server.key")),
        "--peer-client-cert-auth=true".into(),
        format!("--peer-trusted-ca-file={}", file("ca.crt")),
        format!("--peer-cert-file={}", file("peer.crt")),
        format!("--peer-key-file={}", file("peer.key")),
        format!("--quota-backend-bytes={}", quota(cp)),
        // Without these the API server's caches of kinds that rest don't move on, and watches of them get no bookmarks,
        // which are due once a minute. Each costs both sides a word on every one of some seventy watches: every five
        // seconds, as is usual, they were a third of what an idle tenant costs. Whoever needs a cache to be up to date
        // at once makes the API server ask for it.
        "--watch-progress-notify-interval=30s".into(),
        // Where gRPC has the port for itself, its own server serves it, for less than Go's one for HTTP.
        format!("--listen-client-http-urls=https://127.0.0.1:{HTTP_PORT}"),
    ]);
    if cp.members == 1 {
        // There is nobody to be told in time that the leader lives: half of an idle etcd's work would be to count that
        // time. It elects itself after one heartbeat.
        command.extend([
            "--heartbeat-interval=500".into(),
            "--election-timeout=2500".into(),
        ]);
    }
    command
}

/// Three quarters of the volume, so that a compaction and a snapshot still fit; at most etcd's advised 8 GiB, and what the
/// class lets the tenant keep.
pub(crate) fn quota(cp: &ControlPlane) -> u64 {
    let room = volume(cp).map_or(2 * GIB, |size| (size / 4 * 3).min(8 * GIB));
    cp.stored
        .bytes()
        .map_or(room, |most| most.clamp(LEAST, room))
}

/// Size of a member's volume, where it has one of its own.
pub(crate) fn volume(cp: &ControlPlane) -> Option<u64> {
    bytes(&cp.storage.size).filter(|_| !cp.storage.ephemeral)
}

/// A Kubernetes quantity in bytes; `None` when it has a form that storage sizes don't take.
fn bytes(quantity: &str) -> Option<u64> {
    let digits = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &quantity[digits.len()..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => GIB,
        "Ti" => 1 << 40,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn claim_template(cp: &ControlPlane) -> Value {
    json!({"metadata": {"name": volume_name(cp.store)}, "spec": claim_spec(cp)})
}

/// What is asked for to keep a member's data in.
pub(crate) fn claim_spec(cp: &ControlPlane) -> Value {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": cp.storage.size}},
    });
    if let Some(class) = &cp.storage.storage_class_name {
        spec["storageClassName"] = json!(class);
    }
    spec
}

fn budget(cp: &ControlPlane) -> Object {
    let spec = json!({"maxUnavailable": 1, "selector": {"matchLabels": selector(NAME)}});
    let body = json!({"metadata": metadata(cp, NAME), "spec": spec});
    Object::new(DISRUPTION_BUDGET, Some(&cp.namespace), NAME, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lifecycle::sleep::Stage, spec::control_plane::tests::control_plane};

    fn flag(command: &[String], name: &str) -> String {
        command
            .iter()
            .find_map(|arg| arg.strip_prefix(name))
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_single_member_needs_no_dns_and_three_name_each_other() {
        let mut cp = control_plane();
        assert_eq!(
            flag(&command(&cp), "--initial-cluster="),
            "etcd-0=https://127.0.0.1:2380"
        );
        cp.members = 3;
        let command = command(&cp);
        assert_eq!(flag(&command, "--initial-cluster=").split(',').count(), 3);
        for (n, host) in members(&cp).iter().enumerate() {
            let own = flag(&command, "--initial-advertise-peer-urls=")
                .replace("$(POD_NAME)", &format!("etcd-{n}"));
            assert_eq!(own, format!("https://{host}:2380"));
        }
    }

    #[test]
    fn names_of_volumes_and_claims_give_back_which_they_are() {
        let mut cp = control_plane();
        for store in [0, 1, 12] {
            cp.store = store;
            let set = objects(&cp, "").remove(0);
            assert_eq!(store_of(&set), Some(store));
            let name = claim_name(store, 2);
            let claim = Object::new(crate::object::CLAIM, Some("n"), &name, json!({}));
            assert_eq!(store_of_claim(&claim), Some(store));
            let mount = "/spec/template/spec/containers/0/volumeMounts/1/name";
            assert_eq!(set.text(mount), volume_name(store));
            cp.store = 99;
            assert_eq!(keep_what_is_fixed(&mut cp, &set), None);
            assert_eq!(cp.store, store);
        }
        assert_eq!(claim_name(0, 0), "data-etcd-0", "as it always was");
        for other in [
            "snapshot-a",
            "data-etcd",
            "data-etcd-x",
            "database-etcd-0",
            "data-r-etcd-0",
            "data-r1x-etcd-0",
        ] {
            let claim = Object::new(crate::object::CLAIM, Some("n"), other, json!({}));
            assert_eq!(store_of_claim(&claim), None, "{other}");
        }
    }

    #[test]
    fn members_that_sleep_are_still_counted() {
        let mut cp = control_plane();
        cp.members = 3;
        cp.stage = Stage::Asleep;
        let set = objects(&cp, "").remove(0);
        assert_eq!(set.number("/spec/replicas"), 0);
        assert_eq!(keep_what_is_fixed(&mut cp, &set), None);
        cp.members = 1;
        let refusal = keep_what_is_fixed(&mut cp, &set).unwrap();
        assert_eq!(refusal, Refusal::MembersFixed(3, 1));
    }

    #[test]
    fn only_a_single_member_beats_slowly_and_none_shows_its_http_paths() {
        let mut cp = control_plane();
        assert_eq!(flag(&command(&cp), "--heartbeat-interval="), "500");
        cp.members = 3;
        let command = command(&cp);
        assert!(!command.iter().any(|arg| arg.contains("heartbeat")));
        let http = flag(&command, "--listen-client-http-urls=");
        assert_eq!(http, "https://127.0.0.1:2382");
    }

    #[test]
    fn the_quota_fits_the_volume() {
        let mut cp = control_plane();
        let mut quota_of = |size: &str| {
            cp.storage.size = size.into();
            quota(&cp)
        };
        assert_eq!(quota_of("4Gi"), 3 * GIB);
        assert_eq!(quota_of("100Gi"), 8 * GIB);
        assert_eq!(quota_of("500M"), 375_000_000);
        assert_eq!(quota_of("1.5Gi"), 2 * GIB);
        let mut limited = |size: &str| {
            let most = api::Quantities([("size".to_owned(), size.to_owned())].into());
            cp.stored = crate::store::stored::Limits::of(&most, &api::Quantities::default());
            quota(&cp)
        };
        assert_eq!(limited("1Gi"), GIB);
        assert_eq!(limited("100Gi"), 2 * GIB);
        assert_eq!(limited("1"), LEAST);
    }

    #[test]
    fn storage_is_a_claim_unless_it_is_ephemeral() {
        let mut cp = control_plane();
        let set = |cp: &ControlPlane| objects(cp, "").remove(0);
        assert_eq!(
            set(&cp).text("/spec/volumeClaimTemplates/0/spec/resources/requests/storage"),
            "8Gi"
        );
        assert_eq!(set(&cp).items("/spec/template/spec/volumes").len(), 1);

        let mut changed = ControlPlane {
            storage: EtcdStorage {
                size: "1Gi".into(),
                ..cp.storage.clone()
            },
            ..cp.clone()
        };
        assert_eq!(keep_what_is_fixed(&mut changed, &set(&cp)), None);
        assert_eq!(changed.storage, cp.storage);
        changed.members = 3;
        assert!(keep_what_is_fixed(&mut changed, &set(&cp)).is_some());

        cp.storage.ephemeral = true;
        assert!(
            set(&cp)
                .body
                .pointer("/spec/volumeClaimTemplates")
                .is_none()
        );
        assert!(
            set(&cp)
                .body
                .pointer("/spec/template/spec/volumes/1/emptyDir")
                .is_some()
        );
    }
}
