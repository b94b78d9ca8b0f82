use super::*;
use proptest::prelude::*;

fn replica(name: &str, instance: &str) -> Replica {
    Replica {
        name: name.into(),
        instance: instance.into(),
    }
}

fn replicas(names: &BTreeSet<String>) -> Vec<Replica> {
    names.iter().map(|name| replica(name, "1")).collect()
}

fn tenant(number: u64) -> TenantId {
    TenantId::from_bits((u128::from(number) * 0x9e37_79b9_7f4a_7c15).to_be_bytes())
}

fn names(most: usize) -> impl Strategy<Value = BTreeSet<String>> {
    proptest::collection::btree_set("[a-z]{1,8}", 1..=most)
}

proptest! {
    #[test]
    fn a_tenant_has_one_owner_whoever_is_asked(names in names(6), bits: [u8; 16]) {
        let (tenant, mut replicas) = (TenantId::from_bits(bits), replicas(&names));
        let found = owner(&tenant, &replicas).cloned();
        prop_assert!(found.is_some());
        replicas.reverse();
        prop_assert_eq!(owner(&tenant, &replicas).cloned(), found);
    }

    #[test]
    fn who_joins_takes_only_what_it_leads_and_who_leaves_gives_only_what_it_led(
        names in names(6), joins in "[a-z]{9}", bits: [u8; 16],
    ) {
        let tenant = TenantId::from_bits(bits);
        let few = replicas(&names);
        let many: Vec<Replica> = few.iter().cloned().chain([replica(&joins, "1")]).collect();
        let (with, without) = (owner(&tenant, &many), owner(&tenant, &few));
        prop_assert!(with == without || with.is_some_and(|owner| owner.name == joins));
    }

    #[test]
    fn tenants_are_shared_within_the_stated_bound(names in names(6), first: u32, count in 1_u64..600) {
        let replicas = replicas(&names);
        let mut load = BTreeMap::new();
        for number in 0..count {
            let owner = owner(&tenant(u64::from(first) + number), &replicas).unwrap();
            *load.entry(owner.name.clone()).or_insert(0.0) += 1.0;
        }
        let mean = count as f64 / replicas.len() as f64;
        let most = mean + 5.0 * mean.sqrt() + 1.0;
        prop_assert!(load.values().all(|load| *load <= most), "{load:?}, at most {most}");
    }

    /// Whatever the delays, a syncer doesn't write once another may have taken over.
    #[test]
    fn nobody_writes_that_another_calls_dead(
        renewals in proptest::collection::vec((0_u64..4_000, 0_u64..6_000), 1..8),
        looks in proptest::collection::vec((1_u64..3_000, 0_u64..2_000, 0_u64..2_000), 1..20),
    ) {
        let zero = Instant::now_for_tests();
        let at = |millis: u64| zero + Duration::from_millis(millis);
        // (sent, carried out, answered): the next is sent once this one was answered.
        let mut sent = 0;
        let mut history = vec![];
        for (pause, delay) in renewals {
            history.push((sent, sent + delay / 2, sent + delay));
            sent += delay + pause;
        }
        let mut tenure = Tenure::default();
        let mut sightings = Sightings::default();
        let mut renewals = history.iter().peekable();
        let mut now = 0;
        let mut death: Option<u64> = None;
        let mut taken_from = 0;
        for (pause, there, back) in looks {
            let (asked, seen, answered) = (now + pause, now + pause + there, now + pause + there + back);
            let version = history.iter().filter(|(_, done, _)| *done <= seen).count();
            let told = BTreeMap::from([("a_1".to_owned(), LeaseSighting { version: version.to_string(), has_ended: false })]);
            while let Some((sent, _, came)) = renewals.next_if(|(.., came)| *came <= asked) {
                tenure.renewed(at(*sent), at(*came));
            }
            sightings.look(&told, &BTreeSet::new(), at(asked), at(answered));
            if version > 0 && sightings.is_dead("a_1") && death.is_none() {
                death = Some(answered);
                taken_from = tenure.generation();
                // What it held before it was called dead allows no write any more, and never will again.
                prop_assert!(!tenure.allows(taken_from, at(asked)));
            }
            now = answered;
        }
        if death.is_some() {
            for (sent, _, came) in renewals {
                let before = tenure.generation();
                tenure.renewed(at(*sent), at(*came));
                prop_assert!(tenure.generation() > before || before > taken_from);
                prop_assert!(!tenure.allows(taken_from, at(*came)));
            }
        }
    }
}

trait Clock {
    fn now_for_tests() -> Instant;
}

impl Clock for Instant {
    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn now_for_tests() -> Instant {
        Instant::now()
    }
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn told(version: &str) -> BTreeMap<String, LeaseSighting> {
    let told = LeaseSighting {
        version: version.into(),
        has_ended: false,
    };
    BTreeMap::from([("a_1".to_owned(), told)])
}

#[test]
fn r6_a_syncer_is_dead_when_it_was_seen_unchanged_for_the_whole_duration() {
    let (zero, nobody) = (Instant::now_for_tests(), BTreeSet::new());
    let mut sightings = Sightings::default();
    let mut look = |version: &str, at: u64| {
        sightings.look(
            &told(version),
            &nobody,
            zero + seconds(at),
            zero + seconds(at),
        );
        sightings.is_dead("a_1")
    };
    assert!(!look("1", 0) && !look("1", 7) && !look("2", 8) && !look("2", 15));
    assert!(look("2", 16) && !look("3", 17), "it lives again");
}

#[test]
fn a_process_that_was_stopped_itself_blames_nobody() {
    let (zero, nobody) = (Instant::now_for_tests(), BTreeSet::new());
    let mut sightings = Sightings::default();
    sightings.look(&told("1"), &nobody, zero, zero);
    sightings.forgive(zero + seconds(60));
    sightings.look(&told("1"), &nobody, zero + seconds(61), zero + seconds(61));
    assert!(!sightings.is_dead("a_1"));
    assert_eq!(sightings.alive().len(), 1);
}

#[test]
fn a_holder_without_a_lease_is_waited_for_as_long() {
    let (zero, holders) = (Instant::now_for_tests(), BTreeSet::from(["a_1".to_owned()]));
    let mut sightings = Sightings::default();
    let title = Title {
        holder: "a_1".into(),
        epoch: 4,
    };
    for (at, claim) in [(0, Claim::Wait), (8, Claim::Take { epoch: 5 })] {
        let now = zero + seconds(at);
        sightings.look(&BTreeMap::new(), &holders, now, now);
        assert_eq!(title.claim("b_1", &sightings), claim);
        assert!(sightings.alive().is_empty());
    }
}

#[test]
fn r7_a_higher_epoch_or_another_holder_ends_a_term() {
    let title = |holder: &str, epoch| Title {
        holder: holder.into(),
        epoch,
    };
    assert!(!title("a_1", 4).supersedes("a_1", 4));
    assert!(!title("b_1", 3).supersedes("a_1", 4), "old news");
    assert!(title("b_1", 4).supersedes("a_1", 4) && title("a_1", 5).supersedes("a_1", 4));
}

#[test]
fn r7_writes_end_before_the_lease_does_and_a_gap_begins_anew() {
    let zero = Instant::now_for_tests();
    let mut tenure = Tenure::default();
    assert!(!tenure.allows(0, zero));
    assert!(!tenure.renewed(zero, zero) && tenure.allows(1, zero + seconds(4)));
    assert!(tenure.renewed(zero + seconds(4), zero + seconds(4)));
    assert!(tenure.allows(1, zero + seconds(8)) && !tenure.allows(1, zero + seconds(9)));
    assert!(!tenure.renewed(zero + seconds(10), zero + seconds(10)));
    assert!(!tenure.allows(1, zero + seconds(10)) && tenure.allows(2, zero + seconds(10)));
    tenure.lost();
    assert!(!tenure.allows(2, zero + seconds(10)));
}

#[test]
fn a_restarted_process_of_the_same_name_leads_what_the_one_before_led() {
    let all = [replica("a", "1"), replica("b", "1")];
    let later = [replica("a", "2"), replica("b", "1")];
    for number in 0..100 {
        let tenant = tenant(number);
        let (before, after) = (
            owner(&tenant, &all).unwrap(),
            owner(&tenant, &later).unwrap(),
        );
        assert_eq!(before.name, after.name);
    }
}

#[test]
fn identities_are_read_back() {
    let found = replica("sublet-syncer-7c_x", "k3");
    assert_eq!(Replica::parse(&found.identity()), Some(found));
    assert_eq!(Replica::parse("sublet"), None);
}
