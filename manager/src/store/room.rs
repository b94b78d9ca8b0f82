//! Room in an etcd that was full: once its tenant has deleted enough, it is made to take writes again.
//!
//! A full etcd raises an alarm and takes nothing but deletions, which free nothing by themselves: what was deleted is
//! remembered until a compaction, the file keeps its size until it is defragmented, and the alarm stays until somebody takes
//! it back. The API server compacts every few minutes as a rule, but notes each time in etcd that it does, and so doesn't
//! while etcd is full. All of it is done here, and only when it helps: a member serves nothing while it is defragmented.

use crate::{
    object::{Objects, POD, SECRET, STATEFUL_SET},
    observe::Seen,
    pki,
    provision::etcd::{self, CLIENT_PORT, NAME},
    running::parts,
    spec::control_plane::ControlPlane,
    store::{
        etcd::{Alarm, Error, Member, Status, Way},
        stored,
    },
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tenancy::tenant::TenantId;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Of what etcd may hold, one part in so many must be free before it is worth its while.
const WORTH: u64 = 20;
/// Of a volume, one part in so many is left to etcd's log, and never more than so many bytes.
const LOG: (u64, u64) = (8, 512 << 20);

/// An etcd of which nothing is known to be full is asked so often: where no size is limited, nothing else would tell.
const EVERY: Duration = Duration::from_secs(300);

/// When tenants' etcds were asked last.
#[derive(Default)]
pub(crate) struct Asked(Mutex<HashMap<TenantId, Instant>>);

impl Asked {
    /// Whether a tenant's should be asked again.
    pub(crate) fn is_due(&self, tenant: &TenantId, now: Instant) -> bool {
        let last = self.0.lock().get(tenant).copied();
        last.is_none_or(|last| now.duration_since(last) >= EVERY)
    }

    /// It is asked now.
    pub(crate) fn note(&self, tenant: &TenantId, now: Instant) {
        let mut asked = self.0.lock();
        // Those of tenants that are gone go with time.
        asked.retain(|_, last| now.duration_since(*last) < EVERY);
        asked.insert(tenant.clone(), now);
    }

    /// It is asked by the next pass.
    pub(crate) fn hurry(&self, tenant: &TenantId) {
        self.0.lock().remove(tenant);
    }
}

/// What there is for a tenant's etcd, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// What a member's file may hold.
    pub(crate) quota: u64,
    /// A member's volume; `None` if it has none of its own.
    pub(crate) volume: Option<u64>,
}

impl Space {
    /// That of a control plane.
    pub(crate) fn of(cp: &ControlPlane) -> Self {
        Self {
            quota: etcd::quota(cp),
            volume: etcd::volume(cp),
        }
    }
}

/// What a tenant's etcd says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    /// All members.
    pub(crate) members: Vec<Status>,
    /// Their alarms.
    pub(crate) alarms: Vec<Alarm>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// It takes writes again.
    Room,
    /// The tenant hasn't deleted enough yet.
    Nothing,
}

impl Store {
    /// Whether it refuses writes, or may refuse the next one.
    pub(crate) fn is_full(&self, space: Space) -> bool {
        self.is_alarmed() || self.has_no_room(space)
    }

    /// Whether the largest request may have no room in a file.
    fn has_no_room(&self, space: Space) -> bool {
        let reached = |member: &Status| member.size.saturating_add(stored::LARGEST) >= space.quota;
        self.members.iter().any(reached)
    }

    fn is_alarmed(&self) -> bool {
        self.alarms.iter().any(is_about_space)
    }

    /// Whether what is in use leaves enough free.
    fn would_have_room(&self, space: Space) -> bool {
        self.in_use() <= self.most(space)
    }

    /// Bytes in use, of the member that uses most.
    pub(crate) fn in_use(&self) -> u64 {
        let all = self.members.iter().map(|member| member.in_use);
        all.max().unwrap_or_default()
    }

    /// So many bytes may be in use for room to be made.
    pub(crate) fn most(&self, space: Space) -> u64 {
        let free = (space.quota / WORTH).max(2 * stored::LARGEST);
        let most = space.quota.saturating_sub(free);
        // What is in use is written anew beside the file as it is. A volume that is filled by that would stop etcd.
        let left = space.volume.map(|volume| {
            let (part, bytes) = LOG;
            let largest = self.members.iter().map(|member| member.size).max();
            let log = (volume / part).min(bytes);
            // A member may say anything of itself.
            volume
                .saturating_sub(log)
                .saturating_sub(largest.unwrap_or_default())
        });
        left.map_or(most, |left| left.min(most))
    }

    /// The order in which members are defragmented: the leader last, so that it has to be left once at most.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by_key(|&index| self.members[index].member == self.members[index].leader);
        order
    }
}

fn is_about_space(alarm: &Alarm) -> bool {
    alarm.kind == Alarm::NO_SPACE
}

/// Whether the tenant's etcd said that it is full.
pub(crate) fn is_lacking(seen: &Seen, cp: &ControlPlane) -> bool {
    matches!(&seen.store, Some(Ok(store)) if store.is_full(Space::of(cp)))
}

/// How to reach the members that are ready of the etcd whose objects were seen; `None` while most of it isn't. One that comes
/// back with a full file raises the alarm anew.
///
/// # Errors
/// A Secret is damaged.
pub(crate) fn way(seen: &Objects, namespace: &str) -> Result<Option<Way>, pki::Error> {
    let wanted = seen.get(STATEFUL_SET, NAME);
    let wanted = wanted.map_or(0, |set| set.number("/spec/replicas"));
    let ready = seen.of(POD).filter(|pod| {
        pod.label("app.kubernetes.io/name") == Some(NAME) && !pod.is_going() && parts::is_ready(pod)
    });
    let address = |text: &str| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, CLIENT_PORT));
    let members: Vec<SocketAddr> = ready
        .filter_map(|pod| address(pod.text("/status/podIP")))
        .collect();
    let (Some(authority), Some(own)) = (
        seen.get(SECRET, pki::Authority::Etcd.secret()),
        seen.get(SECRET, "apiserver-etcd-client"),
    ) else {
        return Ok(None);
    };
    if members.is_empty() || members.len() as i64 * 2 <= wanted {
        return Ok(None);
    }
    Ok(Some(Way {
        members,
        name: format!("{NAME}.{namespace}.svc"),
        authority: pki::text(authority, "tls.crt")?,
        certificate: pki::text(own, "tls.crt")?,
        key: Zeroizing::new(pki::text(own, "tls.key")?),
    }))
}

/// Asks all members.
///
/// # Errors
/// One of them doesn't answer.
pub(crate) async fn look(way: &Way) -> Result<Store, Error> {
    ask(&mut connect(way).await?).await
}

/// Makes room, if there would be enough of it.
///
/// # Errors
/// A member doesn't answer, or refuses. What was done is done, and the next try goes on from there.
pub(crate) async fn make(way: &Way, space: Space) -> Result<Made, Error> {
    let mut members = connect(way).await?;
    let before = ask(&mut members).await?;
    // Its quota may have grown, or this may have come so far before. What is left is the alarm.
    if before.has_no_room(space) && shrink(&mut members, &before, space).await? == Made::Nothing {
        return Ok(Made::Nothing);
    }
    if let Some(first) = members.first_mut() {
        for alarm in first.alarms().await?.into_iter().filter(is_about_space) {
            first.disarm(alarm).await?;
        }
    }
    Ok(Made::Room)
}

/// Makes the members' files smaller, if they would be small enough.
async fn shrink(members: &mut [Member], before: &Store, space: Space) -> Result<Made, Error> {
    let newest = before.members.iter().map(|member| member.revision).max();
    let newest = newest.unwrap_or_default();
    // Twice: etcd counts pages as free only once it has written something after they were freed.
    for revision in [newest.saturating_sub(1), newest] {
        if let Some(first) = members.first_mut() {
            first.compact(revision).await?;
        }
    }
    let store = ask(members).await?;
    if !store.would_have_room(space) {
        return Ok(Made::Nothing);
    }
    for index in store.order() {
        members[index].defragment().await?;
    }
    Ok(Made::Room)
}

async fn connect(way: &Way) -> Result<Vec<Member>, Error> {
    let mut members = vec![];
    for address in &way.members {
        members.push(Member::connect(way, *address).await?);
    }
    Ok(members)
}

async fn ask(members: &mut [Member]) -> Result<Store, Error> {
    let mut store = Store::default();
    for member in members.iter_mut() {
        store.members.push(member.status().await?);
    }
    if let Some(first) = members.first_mut() {
        store.alarms = first.alarms().await?;
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        object::Object,
        store::etcd::tests::{Played, pair},
    };
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde_json::json;

    const SPACE: Space = Space {
        quota: 48 << 20,
        volume: None,
    };

    fn member(number: u64, size: u64, in_use: u64) -> Status {
        Status {
            member: number,
            leader: 2,
            revision: 500,
            size: size << 20,
            in_use: in_use << 20,
        }
    }

    fn alarm(member: u64) -> Alarm {
        Alarm {
            member,
            kind: Alarm::NO_SPACE,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_etcd_is_asked_now_and_then_and_at_once_when_it_refused() {
        let (asked, tenant) = (Asked::default(), TenantId::from_bits([1; 16]));
        let due = || asked.is_due(&tenant, Instant::now());
        assert!(due());
        asked.note(&tenant, Instant::now());
        assert!(!due());
        tokio::time::advance(EVERY / 2).await;
        assert!(!due());
        asked.hurry(&tenant);
        assert!(due());
        asked.note(&tenant, Instant::now());
        tokio::time::advance(EVERY).await;
        assert!(due());
        // Of others nothing is kept for longer.
        asked.note(&TenantId::from_bits([2; 16]), Instant::now());
        assert_eq!(asked.0.lock().len(), 1);
    }

    #[test]
    fn an_etcd_is_full_by_its_alarm_or_when_the_largest_request_has_no_room() {
        let store = |size, alarms| Store {
            members: vec![member(1, 10, 10), member(2, size, 10)],
            alarms,
        };
        assert!(!store(40, vec![]).is_full(SPACE));
        assert!(store(47, vec![]).is_full(SPACE));
        assert!(store(40, vec![alarm(2)]).is_full(SPACE));
        let corrupt = Alarm { member: 2, kind: 2 };
        assert!(!store(40, vec![corrupt]).is_full(SPACE));
    }

    #[test]
    fn t42_a_member_that_says_it_is_larger_than_any_volume_gets_no_room() {
        let store = Store {
            members: vec![Status {
                size: u64::MAX,
                in_use: u64::MAX,
                ..member(1, 0, 0)
            }],
            alarms: vec![],
        };
        let space = Space {
            volume: Some(1 << 30),
            ..SPACE
        };
        assert!(store.is_full(space) && !store.would_have_room(space));
    }

    #[test]
    fn room_is_made_where_every_member_would_have_some() {
        let store = |in_use: [u64; 2]| Store {
            members: vec![member(1, 47, in_use[0]), member(2, 47, in_use[1])],
            alarms: vec![],
        };
        assert!(store([40, 45]).would_have_room(SPACE));
        assert!(!store([40, 46]).would_have_room(SPACE));
        // Of much, a twentieth.
        let much = Space {
            quota: 8 << 30,
            volume: None,
        };
        assert_eq!(store([1, 1]).most(much) >> 20, 7782);
        let leader_first = Store {
            members: vec![member(2, 1, 1), member(1, 1, 1), member(3, 1, 1)],
            alarms: vec![],
        };
        assert_eq!(leader_first.order(), [1, 2, 0]);
    }

    #[test]
    fn a_volume_is_not_filled_by_a_copy_of_what_is_in_use() {
        let full = Store {
            members: vec![member(1, 6 << 10, 2 << 10)],
            alarms: vec![],
        };
        let space = |volume: Option<u64>| Space {
            quota: 6 << 30,
            volume: volume.map(|volume| volume << 30),
        };
        assert!(full.would_have_room(space(None)));
        // Six of eight are the file, and half a one is the log's.
        assert_eq!(full.most(space(Some(8))), 3 << 29);
        assert!(!full.would_have_room(space(Some(8))));
        assert!(full.would_have_room(space(Some(9))));
        assert_eq!(full.most(space(Some(6))), 0);
    }

    #[test]
    fn a_way_leads_to_the_members_that_are_ready_while_they_are_most() {
        let secret = |name: &str| {
            let text = BASE64_STANDARD.encode("pem");
            let data = json!({"data": {"tls.crt": text, "tls.key": text}});
            Object::new(SECRET, Some("cp"), name, data)
        };
        let pod = |name: &str, address: &str, ready: &str| {
            let labels = json!({"app.kubernetes.io/name": NAME});
            let status =
                json!({"podIP": address, "conditions": [{"type": "Ready", "status": ready}]});
            let body = json!({"metadata": {"labels": labels}, "status": status});
            Object::new(POD, Some("cp"), name, body)
        };
        let all = |replicas: u8, second: Object| {
            let spec = json!({"spec": {"replicas": replicas}});
            Objects::from_iter([
                secret("etcd-ca"),
                secret("apiserver-etcd-client"),
                Object::new(STATEFUL_SET, Some("cp"), NAME, spec),
                pod("etcd-0", "10.0.0.1", "True"),
                second,
            ])
        };
        let three = all(3, pod("etcd-1", "fd00::2", "True"));
        let found = way(&three, "cp").unwrap();
        let found = found.unwrap();
        let members: Vec<String> = found.members.iter().map(SocketAddr::to_string).collect();
        assert_eq!(members, ["10.0.0.1:2379", "[fd00::2]:2379"]);
        assert_eq!(found.name, "etcd.cp.svc");
        for replicas in [2, 3] {
            let behind = all(replicas, pod("etcd-1", "10.0.0.2", "False"));
            assert!(way(&behind, "cp").unwrap().is_none(), "{replicas}");
        }
        assert!(way(&Objects::default(), "cp").unwrap().is_none());
    }

    #[tokio::test]
    async fn a_full_etcd_takes_writes_again_once_enough_was_deleted() {
        let played = Played::start(member(2, 48, 10), vec![alarm(2)]).await;
        let store = look(&played.way()).await.unwrap();
        assert!(store.is_full(SPACE));
        drop(played.take_asked());
        assert_eq!(make(&played.way(), SPACE).await.unwrap(), Made::Room);
        let wanted = [
            "Maintenance/Status",
            "Maintenance/Alarm",
            "KV/Compact 499",
            "KV/Compact 500",
            "Maintenance/Status",
            "Maintenance/Alarm",
            "Maintenance/Defragment",
            "Maintenance/Alarm",
            "Maintenance/Alarm disarm 2",
        ];
        assert_eq!(played.take_asked(), wanted);
        assert!(!look(&played.way()).await.unwrap().is_full(SPACE));
    }

    /// Whose quota was raised, or who was defragmented by somebody.
    #[tokio::test]
    async fn of_an_etcd_that_has_room_already_the_alarm_alone_is_taken_back() {
        let played = Played::start(member(2, 20, 10), vec![alarm(2)]).await;
        assert_eq!(make(&played.way(), SPACE).await.unwrap(), Made::Room);
        let asked = played.take_asked();
        let wanted = ["Maintenance/Alarm", "Maintenance/Alarm disarm 2"];
        assert_eq!(asked[asked.len() - 2..], wanted);
        assert_eq!(asked.len(), 4, "{asked:?}");
        assert!(!look(&played.way()).await.unwrap().is_full(SPACE));
    }

    /// A defragmentation would hold it up for nothing.
    #[tokio::test]
    async fn an_etcd_that_is_still_full_is_compacted_and_left_alone() {
        let played = Played::start(member(2, 48, 47), vec![alarm(2)]).await;
        for _ in 0..2 {
            // The second time there is nothing to forget, which etcd refuses.
            assert_eq!(make(&played.way(), SPACE).await.unwrap(), Made::Nothing);
        }
        let asked = played.take_asked();
        assert!(
            !asked.iter().any(|what| what.contains("Defragment")),
            "{asked:?}"
        );
        assert!(look(&played.way()).await.unwrap().is_full(SPACE));
    }

    #[tokio::test]
    async fn whoever_does_not_prove_to_be_this_etcd_is_told_nothing() {
        let played = Played::start(member(2, 48, 10), vec![]).await;
        let mut way = played.way();
        way.authority = pair("another").0;
        let error = look(&way).await.unwrap_err();
        assert!(error.to_string().contains("can't be reached"), "{error}");
        let mut way = played.way();
        way.name = "etcd.another.svc".into();
        assert!(look(&way).await.is_err());
        assert!(played.take_asked().is_empty());
    }

    #[tokio::test]
    async fn what_etcd_refuses_is_told_in_its_words() {
        let played = Played::start(member(2, 48, 10), vec![alarm(2)]).await;
        played.refuse("etcdserver: not capable");
        let error = make(&played.way(), SPACE).await.unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("refuses Maintenance/Status: etcdserver: not capable"),
            "{said}"
        );
    }
}
