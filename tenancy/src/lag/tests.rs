use super::*;
use proptest::prelude::*;

/// Some instant, late enough that others come before it.
fn start() -> Instant {
    #[allow(clippy::disallowed_methods, reason = "a test's origin of time")]
    let origin = Instant::now();
    origin + seconds(1_000_000)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// So many changes wait, the first for so many seconds.
fn backlog(waiting: u64, age: u64, now: Instant) -> Backlog {
    Backlog {
        waiting,
        oldest: (waiting > 0).then(|| now - seconds(age)),
    }
}

/// Changes that wait downward, upward, and for how long not all is watched.
fn lag(down: (u64, u64), up: (u64, u64), unwatched: Option<u64>, now: Instant) -> Lag {
    Lag {
        to_super: backlog(down.0, down.1, now),
        from_super: backlog(up.0, up.1, now),
        unwatched: unwatched.map(|age| now - seconds(age)),
    }
}

#[test]
fn what_waits_for_a_moment_is_no_backlog() {
    let now = start();
    let before = now - BEHIND;
    let of = |ages: &[u64]| Backlog::of(ages.iter().map(|age| now - seconds(*age)), before);
    let cases: [(&[u64], u64, u64); 4] = [
        (&[], 0, 0),
        (&[0, 9], 0, 0),
        (&[10], 1, 10),
        (&[3, 70, 12, 9], 2, 70),
    ];
    for (ages, waiting, oldest) in cases {
        assert_eq!(of(ages), backlog(waiting, oldest, now), "{ages:?}");
    }
    let both = of(&[20]).and(of(&[30, 40]));
    assert_eq!(both, backlog(3, 40, now));
    assert_eq!(both.and(Backlog::default()), both);
}

#[test]
fn what_is_told_is_told_again_when_it_misleads() {
    const NONE: (u64, u64) = (0, 0);
    let now = start();
    let of = |down, up, unwatched| lag(down, up, unwatched, now);
    let in_step = Lag::default();
    let cases = [
        ("in step as before", in_step, in_step, false),
        (
            "a watch that was lost a moment ago",
            in_step,
            of(NONE, NONE, Some(9)),
            false,
        ),
        (
            "a watch that is lost",
            in_step,
            of(NONE, NONE, Some(10)),
            true,
        ),
        ("one waits", in_step, of((1, 10), NONE, None), true),
        (
            "one waits to be shown",
            in_step,
            of(NONE, (1, 10), None),
            true,
        ),
        ("in step again", of((1, 10), NONE, None), in_step, true),
        (
            "a few more behind the same one",
            of((2, 700), NONE, None),
            of((7, 700), NONE, None),
            false,
        ),
        (
            "many more behind the same one",
            of((2, 700), NONE, None),
            of((8, 700), NONE, None),
            true,
        ),
        (
            "many fewer",
            of((8, 700), NONE, None),
            of((2, 700), NONE, None),
            true,
        ),
        (
            "the first of them has crossed",
            of((9, 700), NONE, None),
            of((9, 200), NONE, None),
            false,
        ),
        (
            "all that were old have",
            of((9, 700), NONE, None),
            of((9, 175), NONE, None),
            true,
        ),
        (
            "the other direction, for a moment",
            of((9, 700), NONE, None),
            of((9, 700), (3, 39), None),
            false,
        ),
        (
            "the other direction",
            of((9, 700), NONE, None),
            of((9, 700), (1, 40), None),
            true,
        ),
        (
            "all is watched again and something waits",
            of((1, 60), NONE, Some(60)),
            of((1, 60), NONE, None),
            true,
        ),
    ];
    for (name, told, is, again) in cases {
        let mut telling = Telling::default();
        telling.note(told);
        assert_eq!(telling.due(is, now).is_some(), again, "{name}");
    }
}

#[test]
fn a_tenant_that_is_in_step_is_told_so_once_and_not_before_that_is_known() {
    let now = start();
    let mut telling = Telling::default();
    let listing = lag((0, 0), (0, 0), Some(2), now);
    assert_eq!(telling.due(listing, now), None);
    let watched = now + seconds(1);
    assert_eq!(telling.due(Lag::default(), watched), None);
    let again = watched + seconds(9);
    let listing = lag((0, 0), (0, 0), Some(2), again);
    assert_eq!(telling.due(listing, again), None, "it began anew");
    let listed = again + seconds(1);
    assert_eq!(telling.due(Lag::default(), listed), None);
    let sure = listed + BEHIND;
    assert_eq!(telling.due(Lag::default(), sure), Some(Lag::default()));
    telling.note(Lag::default());
    let later = now + seconds(100_000);
    assert_eq!(telling.due(Lag::default(), later), None);
    assert_eq!(Telling::in_step().due(Lag::default(), now), None);
    telling.forget();
    assert_eq!(telling.due(Lag::default(), later), Some(Lag::default()));
    // One that can't be listed is behind all the same.
    let unlisted = lag((0, 0), (0, 0), Some(10), now);
    assert_eq!(Telling::default().due(unlisted, now), Some(unlisted));
}

#[test]
fn what_lasts_for_a_moment_is_not_told_with_what_lasts() {
    let now = start();
    let is = lag((1, 50), (0, 0), Some(1), now);
    let told = Telling::in_step().due(is, now);
    assert_eq!(told, Some(lag((1, 50), (0, 0), None, now)));
}

/// Looks at what is so every five seconds; what was told at each look at which something was.
fn played(telling: &mut Telling, lags: impl IntoIterator<Item = Lag>, began: Instant) -> Vec<Lag> {
    let mut all = vec![];
    for (lag, now) in lags.into_iter().zip(looks(began)) {
        if let Some(told) = telling.due(lag, now) {
            telling.tried(now);
            telling.note(told);
            all.push(told);
        }
    }
    all
}

fn looks(began: Instant) -> impl Iterator<Item = Instant> {
    (0..).map(move |look| began + LOOK * look)
}

const LOOK: Duration = Duration::from_secs(5);

#[test]
fn one_change_that_never_crosses_is_told_once() {
    let began = start();
    let stuck = |now: Instant| lag((1, (now - began).as_secs()), (0, 0), None, now);
    let lags = looks(began).map(|now| match stuck(now) {
        young if now - began < BEHIND => Lag {
            to_super: Backlog::default(),
            ..young
        },
        old => old,
    });
    // For some days.
    let told = played(&mut Telling::in_step(), lags.take(100_000), began);
    assert_eq!(told, [lag((1, 0), (0, 0), None, began)]);
}

#[test]
fn an_hour_without_the_tenants_api_server_takes_few_words() {
    let began = start();
    let lags = looks(began).take(720).map(|now| {
        let age = (now - began).as_secs();
        // Ever more pods change above.
        let waiting = age / 10;
        lag((0, 0), (waiting, age), Some(age), now)
    });
    let mut telling = Telling::in_step();
    let told = played(&mut telling, lags, began).len();
    assert!((2..=6).contains(&told), "{told}");
    let back = began + seconds(3600);
    assert_eq!(telling.due(Lag::default(), back), Some(Lag::default()));
}

fn lags() -> impl Strategy<Value = (u64, u64, u64, u64, Option<u64>)> {
    let age = || prop_oneof![Just(0u64), 0..30u64, 0..5000u64];
    let count = || prop_oneof![Just(0u64), 0..9u64, 0..100_000u64];
    (count(), age(), count(), age(), proptest::option::of(age()))
}

proptest! {
    /// Whatever happens, a tenant costs its API server no more.
    #[test]
    fn writes_are_bounded(states in proptest::collection::vec(lags(), 1..600)) {
        let began = start();
        let looks: Vec<Instant> = looks(began).take(states.len()).collect();
        let lags = states.iter().zip(&looks).map(|((down, old, up, older, unwatched), now)| {
            lag((*down, *old), (*up, *older), *unwatched, *now)
        });
        let told = u64::try_from(played(&mut Telling::default(), lags, began).len()).unwrap();
        let lasted = LOOK * u32::try_from(states.len()).unwrap();
        let most = u64::from(TELLING.burst) + lasted.as_secs() / TELLING.period.as_secs();
        prop_assert!(told <= most, "{told} times in {lasted:?}");
    }

    /// However much a tenant is at work, while nothing waits for long.
    #[test]
    fn a_tenant_in_step_costs_no_write(unwatched in proptest::collection::vec(proptest::option::of(0..10u64), 1..600)) {
        let began = start();
        let lags = unwatched.iter().zip(looks(began)).map(|(unwatched, now)| lag((0, 0), (0, 0), *unwatched, now));
        prop_assert_eq!(played(&mut Telling::in_step(), lags, began).len(), 0);
    }

    /// What stands there is about right, but for the time that a tenant must wait that was told of too often.
    #[test]
    fn what_stands_there_does_not_mislead(states in proptest::collection::vec(lags(), 1..100)) {
        let began = start();
        let mut telling = Telling::in_step();
        let mut stands = Lag::default();
        for ((down, old, up, older, unwatched), now) in states.into_iter().zip(looks(began)) {
            let is = lag((down, old), (up, older), unwatched, now).lasting(now);
            if let Some(told) = telling.due(is, now) {
                telling.tried(now);
                telling.note(told);
                stands = told;
            }
            if telling.times.has_room(now) {
                prop_assert!(!stands.is_far_from(is, now));
                prop_assert_eq!(stands.since().is_some(), is.since().is_some());
            }
        }
    }
}
