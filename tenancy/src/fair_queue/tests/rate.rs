//! Laws of a tenant's rate.

use super::*;
use crate::bucket::Rate;
use std::collections::VecDeque;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Works the next key at once: whose, and at the cost of so many writes.
fn work(queue: &mut Queue, now: Instant, writes: u32) -> Option<Taken<&'static str, u32>> {
    let taken = queue.take(now)?;
    queue.charge(&taken.tenant, writes, now);
    queue.done(&taken.tenant, &taken.key, now);
    Some(taken)
}

#[test]
fn a_tenant_that_used_up_its_rate_waits_for_a_write_and_is_told_how_long() {
    let (mut queue, mut now) = (Queue::new(9), start());
    queue.set_rate(&"noisy", Rate::per_second(2, 3), now);
    (0..5).for_each(|key| queue.add(&"noisy", key, now));
    for key in 0..3 {
        let taken = work(&mut queue, now, 1).unwrap();
        assert_eq!((taken.key, taken.limited), (key, Duration::ZERO));
    }
    for key in 3..5 {
        assert_eq!(work(&mut queue, now, 1), None);
        assert!(!queue.has_turns());
        assert_eq!(queue.next_wake(), Some(now + millis(500)));
        now += millis(200);
        queue.add(&"quiet", key, now);
        let taken = work(&mut queue, now, 1).unwrap();
        assert_eq!((taken.tenant, taken.limited), ("quiet", Duration::ZERO));
        now += millis(300);
        let taken = work(&mut queue, now, 1).unwrap();
        assert_eq!((taken.key, taken.limited), (key, millis(500)));
    }
    assert_eq!(queue.depth(&"noisy"), 0);
}

#[test]
fn keys_that_write_nothing_are_as_many_as_there_are() {
    let (mut queue, now) = (Queue::new(9), start());
    queue.set_rate(&"restarted", Rate::per_second(1, 1), now);
    (0..100).for_each(|key| queue.add(&"restarted", key, now));
    let worked = std::iter::from_fn(|| work(&mut queue, now, 0)).count();
    assert_eq!(worked, 100);
}

#[test]
fn a_write_is_set_aside_for_each_key_in_flight_and_what_it_costs_beyond_is_owed() {
    let (mut queue, now) = (Queue::new(9), start());
    queue.set_rate(&"a", Rate::per_second(1, 3), now);
    (0..9).for_each(|key| queue.add(&"a", key, now));
    assert_eq!(keys(&mut queue, now, 9).len(), 3);
    for key in 0..3 {
        queue.charge(&"a", 2, now);
        queue.done(&"a", &key, now);
    }
    assert_eq!(queue.take(now + millis(3_999)), None);
    assert_eq!(keys(&mut queue, now + millis(4_000), 9).len(), 1);
}

#[test]
fn keys_that_failed_or_were_put_back_have_no_rate_of_their_own() {
    let (mut queue, mut now) = (Queue::new(9), start());
    queue.set_rate(&"a", Rate::per_second(1, 2), now);
    queue.add(&"a", 1, now);
    queue.add(&"a", 2, now);
    assert_eq!(keys(&mut queue, now, 9).len(), 2);
    queue.charge(&"a", 4, now);
    queue.retry(&"a", &1, now);
    queue.put_back(&"a", &2, now);
    now += millis(2_999);
    assert_eq!(queue.take(now), None, "both are ready, and two are owed");
    now += millis(1);
    assert_eq!(keys(&mut queue, now, 9), [("a", 2)]);
}

#[test]
fn a_raised_rate_ends_the_wait_and_a_rate_that_is_set_again_changes_nothing() {
    let (mut queue, now) = (Queue::new(9), start());
    let rate = Rate::per_second(1, 1);
    queue.set_rate(&"a", rate, now);
    (0..3).for_each(|key| queue.add(&"a", key, now));
    work(&mut queue, now, 1).unwrap();
    queue.set_rate(&"a", rate, now);
    assert_eq!(queue.take(now), None);
    queue.set_rate(&"a", Rate::per_second(10, 1), now);
    assert_eq!(queue.take(now), None, "it is no longer a wait of a second");
    assert_eq!(queue.next_wake(), Some(now + millis(100)));
    assert!(work(&mut queue, now + millis(100), 1).is_some());
}

#[test]
fn a_removed_tenant_owes_nothing_when_it_comes_again() {
    let (mut queue, now) = (Queue::new(9), start());
    let rate = Rate::per_second(1, 1);
    for _ in 0..2 {
        queue.set_rate(&"a", rate, now);
        queue.add(&"a", 1, now);
        work(&mut queue, now, 500).unwrap();
        queue.add(&"a", 1, now);
        assert_eq!(queue.take(now), None);
        queue.remove(&"a");
        queue.charge(&"a", 500, now);
        assert_eq!(queue.depth(&"a"), 0);
    }
}

#[test]
fn a_hold_of_a_tenant_that_owes_ends_without_a_turn() {
    let (mut queue, now) = (Queue::new(9), start());
    queue.set_rate(&"a", Rate::per_second(1, 1), now);
    queue.add(&"a", 1, now);
    work(&mut queue, now, 10).unwrap();
    queue.add(&"a", 1, now);
    queue.govern(&"a", 9, Some(now + millis(2_000)), now);
    assert_eq!(queue.take(now + millis(2_000)), None);
    let taken = queue.take(now + millis(10_000)).unwrap();
    assert_eq!(
        taken.limited,
        millis(8_000),
        "a hold isn't the rate's doing"
    );
}

/// What happens next in a tenant's history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Add(u32),
    Take,
    /// The longest in work ends at a cost.
    End(End, u32),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Done,
    Retry,
    PutBack,
}

fn steps(most: u32) -> impl Strategy<Value = Vec<Step>> {
    let end = prop::sample::select(vec![End::Done, End::Retry, End::PutBack]);
    let step = prop_oneof![
        (0u64..300).prop_map(Step::Wait),
        (0u32..50).prop_map(Step::Add),
        (0u32..50).prop_map(Step::Add),
        Just(Step::Take),
        Just(Step::Take),
        (end, 0..=most).prop_map(|(end, cost)| Step::End(end, cost)),
    ];
    prop::collection::vec(step, 0..80)
}

/// A tenant `a` in a queue, and what it was charged when.
struct History {
    queue: Queue,
    now: Instant,
    working: VecDeque<u32>,
    charged: Vec<(Instant, u32)>,
}

impl History {
    fn of(rate: Rate, places: usize, steps: &[Step]) -> Self {
        let (mut queue, now) = (Queue::new(places), start());
        queue.set_rate(&"a", rate, now);
        let mut history = Self {
            queue,
            now,
            working: VecDeque::new(),
            charged: vec![],
        };
        for step in steps {
            history.step(*step);
        }
        history
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Wait(time) => self.now += millis(time),
            Step::Add(key) => self.queue.add(&"a", key, self.now),
            Step::Take => {
                let taken = self.queue.take(self.now);
                self.working.extend(taken.map(|taken| taken.key));
            }
            Step::End(end, cost) => {
                let Some(key) = self.working.pop_front() else {
                    return;
                };
                self.queue.charge(&"a", cost, self.now);
                self.charged.push((self.now, cost));
                match end {
                    End::Done => self.queue.done(&"a", &key, self.now),
                    End::Retry => drop(self.queue.retry(&"a", &key, self.now)),
                    End::PutBack => self.queue.put_back(&"a", &key, self.now),
                }
            }
        }
    }

    /// Works on for as long as there is something, waiting no longer than the queue says; whether all of it was worked.
    fn ends(&mut self, cost: u32) -> bool {
        while !self.working.is_empty() {
            self.step(Step::End(End::Done, cost));
        }
        for _ in 0..1_000 {
            if self.queue.depth(&"a") == 0 {
                return true;
            }
            self.step(Step::Take);
            if self.working.is_empty() {
                let Some(wake) = self.queue.next_wake() else {
                    break;
                };
                self.now = self.now.max(wake);
            }
            self.step(Step::End(End::Done, cost));
        }
        false
    }
}

proptest! {
    /// Whatever happens, in any stretch of time no more is written than a burst and what the rate gives meanwhile; keys that
    /// cost more than a write exceed it by that alone, once.
    #[test]
    fn no_stretch_of_time_has_more_writes_than_the_rate_allows(
        steps in steps(3),
        (writes, burst) in (1u32..40, 1u32..30),
        places in 1usize..9,
        most in 1u32..4,
    ) {
        let rate = Rate::per_second(writes, burst);
        let steps: Vec<Step> = steps.into_iter().map(|step| match step {
            Step::End(end, cost) => Step::End(end, cost.min(most)),
            other => other,
        }).collect();
        let mut history = History::of(rate, places, &steps);
        history.ends(most);
        let beyond = (most - 1) * u32::try_from(places).unwrap();
        for (first, (from, _)) in history.charged.iter().enumerate() {
            let mut sum = 0;
            for (until, cost) in &history.charged[first..] {
                sum += cost;
                let time = (*until - *from).as_nanos() / rate.period.as_nanos();
                let allowed = u128::from(burst + beyond) + time;
                prop_assert!(u128::from(sum) <= allowed, "{sum} in {:?}", *until - *from);
            }
        }
    }

    /// Whatever happened, everything is worked in the end, by whoever wakes when the queue says.
    #[test]
    fn nothing_starves(steps in steps(3), (writes, burst) in (1u32..40, 1u32..30), places in 1usize..9, cost in 0u32..4) {
        let mut history = History::of(Rate::per_second(writes, burst), places, &steps);
        prop_assert!(history.ends(cost));
    }

    /// Whatever a tenant with a rate did, a key of another is taken at once, with one of the former before it at most.
    #[test]
    fn t40_a_tenant_beyond_its_rate_delays_no_other(steps in steps(30), (writes, burst) in (1u32..40, 1u32..30)) {
        let mut history = History::of(Rate::per_second(writes, burst), 9, &steps);
        let now = history.now;
        history.queue.add(&"quiet", 7, now);
        let served = keys(&mut history.queue, now, 2);
        prop_assert!(served.contains(&("quiet", 7)), "{served:?}");
    }
}
