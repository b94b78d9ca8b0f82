mod rate;

use super::*;
use proptest::prelude::*;

type Queue = FairQueue<&'static str, u32>;

/// Some instant; tests only ever add to it.
fn start() -> Instant {
    #[allow(clippy::disallowed_methods, reason = "a test's origin of time")]
    Instant::now()
}

fn keys(queue: &mut Queue, now: Instant, count: usize) -> Vec<(&'static str, u32)> {
    (0..count)
        .map_while(|_| queue.take(now))
        .map(|taken| (taken.tenant, taken.key))
        .collect()
}

#[test]
fn tenants_take_turns_whoever_came_first() {
    let (mut queue, now) = (Queue::new(100), start());
    (0..50).for_each(|key| queue.add(&"noisy", key, now));
    queue.add(&"quiet", 1, now);
    let served = keys(&mut queue, now, 2);
    assert!(served.contains(&("quiet", 1)), "{served:?}");
}

#[test]
fn weight_gives_more_keys_in_a_turn() {
    let (mut queue, now) = (Queue::new(100), start());
    queue.set_weight(&"paid", 3);
    (0..9).for_each(|key| queue.add(&"paid", key, now));
    (0..9).for_each(|key| queue.add(&"free", key, now));
    let served = keys(&mut queue, now, 8);
    assert_eq!(
        served
            .iter()
            .filter(|(tenant, _)| *tenant == "paid")
            .count(),
        6
    );
}

#[test]
fn a_key_stands_once_and_a_change_during_work_is_not_lost() {
    let (mut queue, now) = (Queue::new(9), start());
    queue.add(&"a", 1, now);
    queue.add(&"a", 1, now);
    assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
    queue.add(&"a", 1, now);
    assert_eq!(queue.take(now), None);
    queue.done(&"a", &1, now);
    assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
    queue.done(&"a", &1, now);
    assert_eq!(queue.take(now), None);
    assert_eq!(queue.depth(&"a"), 0);
}

#[test]
fn a_change_before_the_work_begins_is_part_of_it() {
    let (mut queue, now) = (Queue::new(9), start());
    queue.add(&"a", 1, now);
    assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
    queue.add(&"a", 1, now);
    queue.begin(&"a", &1);
    queue.done(&"a", &1, now);
    assert_eq!(queue.take(now), None);
    // A key that isn't being worked has nothing to begin.
    queue.add(&"a", 1, now);
    queue.begin(&"a", &1);
    assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
}

#[test]
fn a_key_ages_until_it_is_done_however_often_it_is_tried_and_one_that_is_only_planned_does_not() {
    let (mut queue, began) = (Queue::new(9), start());
    let at = |seconds| began + Duration::from_secs(seconds);
    queue.add(&"a", 1, at(0));
    queue.add_at(&"a", 2, at(1000));
    for round in 1..9 {
        let now = at(round * 100);
        assert_eq!(queue.take(now).unwrap().key, 1);
        assert_eq!(queue.since(&"a", &1), Some(at(0)), "while it is worked");
        queue.add(&"a", 1, now);
        match round % 3 {
            0 => drop(queue.retry(&"a", &1, now)),
            1 => queue.put_back(&"a", &1, now),
            _ => {
                queue.begin(&"a", &1);
                queue.retry(&"a", &1, now);
                queue.add(&"a", 1, now);
            }
        }
        let overdue = queue.overdue(&"a", now);
        assert_eq!((overdue.waiting, overdue.oldest), (1, Some(at(0))));
        assert_eq!(queue.overdue(&"b", now), Backlog::default());
    }
    assert_eq!(queue.take(at(900)).unwrap().key, 1);
    queue.add(&"a", 1, at(901));
    queue.done(&"a", &1, at(902));
    assert_eq!(queue.since(&"a", &1), Some(at(902)), "the change since");
    queue.add_since(&"a", 1, at(500), at(903));
    assert_eq!(queue.since(&"a", &1), Some(at(500)), "it waited elsewhere");
    assert_eq!(queue.take(at(904)).unwrap().key, 1);
    queue.done(&"a", &1, at(905));
    assert_eq!(queue.overdue(&"a", at(999)), Backlog::default());
    assert_eq!(queue.take(at(1001)).unwrap().key, 2);
    assert_eq!(queue.since(&"a", &2), Some(at(1001)));
}

#[test]
fn a_key_that_rests_comes_again_and_has_no_age_meanwhile() {
    let (mut queue, began) = (Queue::new(9), start());
    queue.add(&"a", 1, began);
    let mut now = began;
    for _ in 0..9 {
        assert_eq!(queue.take(now).unwrap().key, 1);
        let delay = queue.rest(&"a", &1, now);
        assert!(delay > Duration::ZERO);
        assert_eq!(queue.since(&"a", &1), None);
        assert_eq!(queue.overdue(&"a", now + delay), Backlog::default());
        now += delay;
    }
    queue.add(&"a", 1, now);
    assert_eq!(queue.since(&"a", &1), Some(now), "a change has one");
    queue.take(now).unwrap();
    let later = now + Duration::from_secs(1);
    queue.add(&"a", 1, later);
    assert_eq!(queue.rest(&"a", &1, later), Duration::ZERO);
    assert_eq!(queue.since(&"a", &1), Some(later), "the change meanwhile");
}

#[test]
fn a_tenant_holds_no_more_than_its_places() {
    let (mut queue, now) = (Queue::new(2), start());
    (0..5).for_each(|key| queue.add(&"slow", key, now));
    queue.add(&"fast", 9, now);
    assert_eq!(keys(&mut queue, now, 9).len(), 3);
    queue.done(&"slow", &0, now);
    assert_eq!(keys(&mut queue, now, 9), [("slow", 2)]);
}

#[test]
fn failures_wait_longer_each_time_and_a_change_ends_the_wait() {
    let (mut queue, mut now) = (Queue::new(2), start());
    queue.add(&"a", 1, now);
    let mut last = Duration::ZERO;
    for _ in 0..6 {
        assert_eq!(keys(&mut queue, now, 2).len(), 1);
        let delay = queue.retry(&"a", &1, now);
        assert!(delay > last && delay <= BACKOFF.longest);
        last = delay;
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.next_wake(), Some(now + delay));
        now += delay;
    }
    assert_eq!(keys(&mut queue, now, 2).len(), 1);
    queue.retry(&"a", &1, now);
    queue.add(&"a", 1, now);
    assert_eq!(keys(&mut queue, now, 2).len(), 1);
    queue.done(&"a", &1, now);
    now += BACKOFF.longest;
    assert_eq!(queue.take(now), None, "the stale delay brings nothing back");
}

#[test]
fn a_removed_tenant_leaves_nothing() {
    let (mut queue, now) = (Queue::new(2), start());
    queue.add(&"a", 1, now);
    queue.add_at(&"a", 2, now);
    queue.remove(&"a");
    assert_eq!(queue.take(now), None);
    queue.done(&"a", &1, now);
    assert_eq!(queue.take(now), None);
}

#[test]
fn a_key_that_was_taken_before_its_tenant_was_removed_is_not_counted_in_what_comes_after() {
    let end: [fn(&mut Queue, Instant); 3] = [
        |queue, now| queue.done(&"a", &1, now),
        |queue, now| queue.put_back(&"a", &1, now),
        |queue, now| {
            queue.retry(&"a", &1, now);
        },
    ];
    for end in end {
        let (mut queue, now) = (Queue::new(9), start());
        queue.add(&"a", 1, now);
        assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
        queue.remove(&"a");
        queue.add(&"a", 1, now);
        end(&mut queue, now);
        assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
        queue.done(&"a", &1, now);
        assert_eq!(queue.depth(&"a"), 0);
        assert_eq!(keys(&mut queue, now + Duration::from_secs(60), 9), []);
    }
}

#[test]
fn a_held_tenant_waits_and_the_others_go_on() {
    let (mut queue, mut now) = (Queue::new(9), start());
    (0..3).for_each(|key| queue.add(&"dead", key, now));
    queue.add(&"fine", 7, now);
    let until = now + Duration::from_secs(1);
    queue.govern(&"dead", 1, Some(until), now);
    assert_eq!(keys(&mut queue, now, 9), [("fine", 7)]);
    assert_eq!(queue.next_wake(), Some(until));
    now = until;
    assert_eq!(keys(&mut queue, now, 9), [("dead", 0)], "one probe");
    queue.put_back(&"dead", &0, now);
    queue.govern(&"dead", 9, None, now);
    assert_eq!(keys(&mut queue, now, 9).len(), 3);
}

#[test]
fn a_hold_that_is_lifted_early_or_made_longer_counts_as_it_is() {
    let (mut queue, mut now) = (Queue::new(9), start());
    queue.add(&"a", 1, now);
    let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(5));
    queue.govern(&"a", 9, Some(soon), now);
    queue.govern(&"a", 9, Some(late), now);
    now = soon;
    assert_eq!(queue.take(now), None);
    queue.govern(&"a", 9, None, now);
    assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
}

#[test]
fn a_key_that_is_put_back_has_not_failed() {
    let (mut queue, now) = (Queue::new(9), start());
    queue.add(&"a", 1, now);
    for _ in 0..5 {
        assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
        queue.put_back(&"a", &1, now);
    }
    assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
    assert!(queue.retry(&"a", &1, now) <= BACKOFF.first);
}

proptest! {
    /// A quiet tenant's key is served within one round, however much the others have waiting.
    #[test]
    fn one_round_bounds_the_wait(noisy in prop::collection::vec(1usize..40, 1..8)) {
        const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let (mut queue, now) = (Queue::new(1000), start());
        for (tenant, count) in NAMES.iter().zip(&noisy) {
            (0..*count).for_each(|key| queue.add(tenant, key as u32, now));
        }
        queue.add(&"quiet", 0, now);
        let served = keys(&mut queue, now, noisy.len() + 1);
        prop_assert!(served.contains(&("quiet", 0)));
    }

    /// Whatever is added comes out exactly once.
    #[test]
    fn nothing_is_lost_or_doubled(added in prop::collection::vec((0usize..4, 0u32..20), 0..200)) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let (mut queue, now) = (Queue::new(1000), start());
        for (tenant, key) in &added {
            queue.add(&NAMES[*tenant], *key, now);
        }
        let mut want: Vec<_> = added.iter().map(|(tenant, key)| (NAMES[*tenant], *key)).collect();
        want.sort_unstable();
        want.dedup();
        let mut served = keys(&mut queue, now, 1000);
        served.sort_unstable();
        prop_assert_eq!(served, want);
    }
}
