//! Laws of the line: never too many, nobody forgotten, first come first served.

use super::*;
use crate::{spec::control_plane::tests::vcp as some, status};
use proptest::prelude::*;

/// A time so many seconds after the beginning.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

/// One of several, created one after the other.
fn vcp(number: usize) -> VirtualControlPlane {
    let mut vcp = some();
    vcp.metadata.name = Some(format!("t{number:02}"));
    vcp.metadata.creation_timestamp = Some(
        serde_json::from_value(serde_json::json!(at(number as i64 - 100).to_string())).unwrap(),
    );
    vcp
}

fn say(vcp: &mut VirtualControlPlane, facts: &[Fact], now: Timestamp) {
    let conditions = status::conditions(vcp, facts, now);
    vcp.status.get_or_insert_default().conditions = conditions;
}

/// Several control planes, of which some never become ready.
struct World {
    all: Vec<VirtualControlPlane>,
    started: Vec<usize>,
    limit: usize,
    now: Timestamp,
}

impl World {
    fn of(count: usize, limit: usize) -> Self {
        Self {
            all: (0..count).map(vcp).collect(),
            started: vec![],
            limit,
            now: at(0),
        }
    }

    fn known(&self) -> Vec<Start> {
        self.all.iter().filter_map(Start::of).collect()
    }

    fn places(&self) -> usize {
        let has = |vcp: &&VirtualControlPlane| has_place(vcp, self.now);
        self.all.iter().filter(has).count()
    }

    /// One wants to start; what is decided is written down as the manager does it.
    fn ask(&mut self, number: usize) {
        let one = &self.all[number];
        if is_set_aside(one) || has_place(one, self.now) {
            return;
        }
        let turn = turn(&self.known(), one, self.limit, self.now);
        let one = &mut self.all[number];
        match turn {
            Turn::Now => {
                say(one, &begun(), self.now);
                self.started.push(number);
            }
            Turn::Later {
                starting, before, ..
            } => {
                let line = Fact {
                    message: words(starting, before),
                    ..Fact::yes(WAITING, WAITING)
                };
                say(one, &[Fact::no(STARTING, WAITING, ""), line], self.now);
            }
        }
    }
}

fn is_set_aside(vcp: &VirtualControlPlane) -> bool {
    vcp.spec.paused || vcp.metadata.deletion_timestamp.is_some()
}

/// What may happen to one of the control planes.
#[derive(Clone, Copy, Debug)]
enum Event {
    Asks,
    IsReady,
    IsDeleted,
    IsPaused,
    IsRefused,
    Nothing,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Asks),
        2 => Just(Event::IsReady),
        1 => Just(Event::IsDeleted),
        1 => Just(Event::IsPaused),
        1 => Just(Event::IsRefused),
        1 => Just(Event::Nothing),
    ]
}

proptest! {
    #[test]
    fn never_do_more_start_than_may(
        limit in 1usize..5,
        events in prop::collection::vec((0usize..12, event(), 0i64..100), 1..200),
    ) {
        let mut world = World::of(12, limit);
        for (number, event, seconds) in events {
            world.now += SignedDuration::from_secs(seconds);
            let now = world.now;
            let one = &mut world.all[number];
            match event {
                Event::Asks => world.ask(number),
                Event::IsReady | Event::IsRefused => say(one, &over(), now),
                Event::IsDeleted => {
                    one.metadata.deletion_timestamp = one.metadata.creation_timestamp.clone();
                }
                Event::IsPaused => one.spec.paused = true,
                Event::Nothing => {}
            }
            prop_assert!(world.places() <= limit);
            // Whoever is called does get its turn.
            let known = world.known();
            for who in next(&known, limit, world.now) {
                let called = world.all.iter().find(|vcp| super::who(vcp) == who).unwrap();
                prop_assert_eq!(turn(&known, called, limit, world.now), Turn::Now);
            }
        }
    }

    #[test]
    fn everybody_starts_whoever_is_stuck_or_never_comes(
        limit in 1usize..5,
        stuck in prop::collection::vec(any::<bool>(), 12),
        absent in prop::collection::vec(prop::bool::weighted(0.2), 12),
    ) {
        let mut world = World::of(12, limit);
        // All ask at once; those that are absent never come again.
        (0..12).for_each(|number| world.ask(number));
        for _ in 0..120 {
            world.now += SignedDuration::from_secs(60);
            let now = world.now;
            for (number, stuck) in stuck.iter().enumerate() {
                if world.started.contains(&number) && !stuck {
                    say(&mut world.all[number], &over(), now);
                }
            }
            for (number, absent) in absent.iter().enumerate() {
                if !world.started.contains(&number) && !absent {
                    world.ask(number);
                }
            }
            prop_assert!(world.places() <= limit);
        }
        for (number, absent) in absent.iter().enumerate() {
            prop_assert!(*absent || world.started.contains(&number), "{} never started", number);
        }
    }

    #[test]
    fn who_came_first_goes_first_in_whatever_order_they_ask(
        order in Just((0usize..12).collect::<Vec<_>>()).prop_shuffle(),
        limit in 1usize..4,
    ) {
        let mut world = World::of(12, limit);
        for number in 0..12 {
            world.now += SignedDuration::from_secs(1);
            world.ask(number);
        }
        while world.started.len() < 12 {
            world.now += SignedDuration::from_secs(1);
            let now = world.now;
            for number in &world.started {
                say(&mut world.all[*number], &over(), now);
            }
            for number in &order {
                if !world.started.contains(number) {
                    world.ask(*number);
                }
            }
            let mut sorted = world.started.clone();
            sorted.sort_unstable();
            // Those that start at once may ask in any order.
            let done = world.started.len();
            prop_assert_eq!(&sorted, &(0..done).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_line_is_kept_while_its_statuses_are_written_anew() {
    let mut world = World::of(3, 1);
    (0..3).for_each(|number| world.ask(number));
    let before = world.known();
    world.now += SignedDuration::from_secs(50);
    (1..3).for_each(|number| world.ask(number));
    assert_eq!(before, world.known());
}

#[test]
fn a_place_is_asked_for_again_when_one_may_be_lost() {
    let mut world = World::of(2, 1);
    world.ask(0);
    world.now += SignedDuration::from_secs(170);
    let turn = turn(&world.known(), &world.all[1], 1, world.now);
    let Turn::Later { again, .. } = turn else {
        panic!("{turn:?}");
    };
    assert_eq!(again, Duration::from_secs(10));
}

#[test]
fn what_is_waited_for_is_said_in_plain_words() {
    for (starting, before, said) in [
        (1, 0, "waits for 1 other that starts"),
        (
            4,
            1,
            "waits for 4 others that start; 1 more waits before it",
        ),
        (4, 9, "waits for 4 others that start; 9 more wait before it"),
        (0, 4, "waits for its turn to start; 4 more wait before it"),
    ] {
        assert_eq!(words(starting, before), said);
    }
}

#[test]
fn what_runs_elsewhere_takes_no_place_here() {
    let mut elsewhere = vcp(0);
    say(&mut elsewhere, &begun(), at(0));
    assert!(Start::of(&elsewhere).is_some());
    elsewhere.spec.super_cluster = Some(
        serde_json::from_value(serde_json::json!({
            "kubeconfigSecretRef": {"name": "s"},
        }))
        .unwrap(),
    );
    assert!(Start::of(&elsewhere).is_none());
}

#[test]
fn a_time_that_nobody_can_reckon_with_ends_nothing() {
    for time in [Timestamp::MIN, Timestamp::MAX] {
        let mut world = World::of(2, 1);
        say(&mut world.all[0], &begun(), at(0));
        let conditions = &mut world.all[0].status.as_mut().unwrap().conditions;
        for condition in conditions {
            condition.last_transition_time = time.to_string();
        }
        let turn = turn(&world.known(), &world.all[1], 1, at(0));
        assert_eq!(turn == Turn::Now, time == Timestamp::MIN);
    }
}
