//! What a ledger grants, and what of it the groups must be asked.

use super::*;

fn pod(number: usize) -> Key {
    Key::new(crate::kind::index("Pod"), "default", &format!("p{number}"))
}

fn amounts(pairs: &[(&str, i128)]) -> Amounts {
    pairs
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), *amount))
        .collect()
}

fn one() -> Amounts {
    amounts(&[("pods", 1000), ("requests.cpu", 500)])
}

fn own(hard: &[(&str, i128)]) -> Limits {
    Limits {
        own: amounts(hard),
        ..Limits::default()
    }
}

fn counted(hard: &[(&str, i128)]) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.limit(own(hard));
    finish(&mut ledger);
    ledger
}

/// Ends the count that is under way.
fn finish(ledger: &mut Ledger) -> Vec<Key> {
    let count = ledger.counting().unwrap();
    ledger.counted(count).unwrap()
}

#[test]
fn exactly_what_fits_is_granted_and_the_rest_waits() {
    let mut ledger = counted(&[("pods", 3000)]);
    let granted = (0..9).filter(|number| ledger.reserve(&pod(*number), &one()).is_ok());
    assert_eq!(granted.count(), 3);
    assert_eq!(ledger.state()["pods"], (3000, 3000));
    // Again and again changes nothing.
    assert_eq!(ledger.reserve(&pod(0), &one()), Ok(()));
    assert_eq!(
        ledger.reserve(&pod(5), &one()),
        Err(NoRoom::Exceeded(vec![("pods".into(), 1000, 3000)]))
    );
    ledger.exists(&pod(0), "u0", &one());
    let woken = ledger.ended(&pod(0), "u0");
    assert_eq!(woken.len(), 6);
    assert_eq!(ledger.reserve(&pod(5), &one()), Ok(()));
    assert_eq!(ledger.state()["pods"], (3000, 3000));
}

#[test]
fn nothing_is_granted_before_what_exists_is_counted() {
    let mut ledger = Ledger::default();
    ledger.limit(own(&[("pods", 1000)]));
    assert_eq!(ledger.reserve(&pod(1), &one()), Err(NoRoom::Uncounted));
    // It ended after the list was made and before the list arrived.
    ledger.ended(&pod(2), "u2");
    ledger.exists(&pod(2), "u2", &one());
    assert_eq!(finish(&mut ledger), [pod(1)]);
    assert_eq!(ledger.reserve(&pod(1), &one()), Ok(()));
}

#[test]
fn a_count_ends_with_the_limits_that_it_was_begun_under() {
    let mut ledger = Ledger::default();
    ledger.limit(own(&[("pods", 1000)]));
    let old = ledger.counting().unwrap();
    ledger.came_upon(old, &pod(0), "u0", &one());
    ledger.ended(&pod(1), "u1");

    ledger.limit(own(&[("pods", 2000)]));
    let new = ledger.counting().unwrap();
    // The old list tells of one that has ended since, and comes to its end.
    ledger.came_upon(old, &pod(1), "u1", &one());
    assert_eq!(ledger.counted(old), None);
    assert_eq!(ledger.reserve(&pod(2), &one()), Err(NoRoom::Uncounted));

    ledger.came_upon(new, &pod(0), "u0", &one());
    assert_eq!(ledger.counted(new), Some(vec![pod(2)]));
    assert_eq!(ledger.state()["pods"], (1000, 2000));
    assert_eq!(ledger.counted(new), None, "once");
    assert_eq!(ledger.counting(), None);
}

#[test]
fn what_was_told_during_a_count_is_newer_than_its_list() {
    let mut ledger = Ledger::default();
    ledger.limit(own(&[("requests.cpu", 1000)]));
    let count = ledger.counting().unwrap();
    // A pod that has ended its work takes nothing any more.
    ledger.exists(&pod(0), "u0", &Amounts::new());
    ledger.came_upon(count, &pod(0), "u0", &one());
    ledger.counted(count).unwrap();
    assert_eq!(ledger.state()["requests.cpu"], (0, 1000));
}

#[test]
fn what_exists_counts_even_beyond_the_limit_and_may_shrink() {
    let mut ledger = Ledger::default();
    ledger.limit(own(&[("requests.cpu", 600)]));
    for number in 0..2 {
        ledger.exists(&pod(number), &format!("u{number}"), &one());
    }
    finish(&mut ledger);
    assert_eq!(ledger.state()["requests.cpu"], (1000, 600));
    let smaller = amounts(&[("requests.cpu", 100)]);
    assert_eq!(ledger.reserve(&pod(0), &smaller), Ok(()));
    let larger = amounts(&[("requests.cpu", 200)]);
    ledger.exists(&pod(0), "u0", &smaller);
    assert!(ledger.reserve(&pod(0), &larger).is_err());
    assert_eq!(ledger.state()["requests.cpu"], (600, 600));
}

/// T43: a volume that asks for less than it has is refused by the super cluster, and stays as large as it was.
#[test]
fn t43_a_shrink_gives_back_nothing_before_it_is_stored() {
    let claim = |size| amounts(&[("persistentvolumeclaims", 1000), ("requests.storage", size)]);
    let hard = [("persistentvolumeclaims", 9000), ("requests.storage", 100)];
    let mut ledger = counted(&hard);
    ledger.reserve(&pod(0), &claim(100)).unwrap();
    ledger.exists(&pod(0), "u0", &claim(100));
    assert_eq!(ledger.reserve(&pod(0), &claim(2)), Ok(()));
    assert_eq!(ledger.state()["requests.storage"], (100, 100));
    assert!(ledger.reserve(&pod(1), &claim(98)).is_err());
    // It was stored after all.
    assert_eq!(ledger.exists(&pod(0), "u0", &claim(2)), [pod(1)]);
    assert_eq!(ledger.reserve(&pod(1), &claim(98)), Ok(()));
    // What was never made is reserved anew as it is wanted now.
    assert_eq!(ledger.reserve(&pod(1), &claim(8)), Ok(()));
    assert_eq!(ledger.state()["requests.storage"], (10, 100));
}

#[test]
fn an_older_objects_end_frees_nothing_of_a_newer_one() {
    let mut ledger = counted(&[("pods", 1000)]);
    ledger.exists(&pod(1), "new", &one());
    ledger.ended(&pod(1), "old");
    assert_eq!(ledger.state()["pods"], (1000, 1000));
    ledger.abandon(&pod(1));
    assert_eq!(ledger.state()["pods"], (1000, 1000));
}

#[test]
fn a_reservation_that_is_given_up_is_free_again() {
    let mut ledger = counted(&[("pods", 1000)]);
    ledger.reserve(&pod(1), &one()).unwrap();
    assert!(ledger.reserve(&pod(2), &one()).is_err());
    assert_eq!(ledger.abandon(&pod(1)), [pod(2)]);
    assert_eq!(ledger.state()["pods"], (0, 1000));
    assert_eq!(Ledger::default().reserve(&pod(1), &one()), Ok(()));
}

fn shared(budget: &[(&str, i128)]) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.limit(Limits {
        own: Amounts::new(),
        budgets: BTreeMap::from([("acme".to_owned(), amounts(budget))]),
    });
    finish(&mut ledger);
    ledger
}

/// Asks a group that grants pods up to a share.
fn ask(ledger: &mut Ledger, pods: i128) -> Vec<Key> {
    let claim = ledger.claim();
    let mut share = claim.held.get("pods").copied().unwrap_or_default();
    let mut refusals = BTreeMap::new();
    for want in &claim.wants {
        let more = want.growth["pods"];
        if share + more <= pods {
            share += more;
        } else {
            let exceeded = vec![("pods".to_owned(), more, pods)];
            let group = "acme".to_owned();
            refusals.insert(want.key.clone(), Refusal { group, exceeded });
        }
    }
    let shares = BTreeMap::from([("acme".to_owned(), amounts(&[("pods", share)]))]);
    ledger.settle(&claim, shares, refusals)
}

#[test]
fn a_budget_is_asked_before_anything_is_made() {
    let mut ledger = shared(&[("pods", 20000)]);
    assert!(ledger.must_claim(), "what is used must be told");
    for number in 0..3 {
        assert_eq!(ledger.reserve(&pod(number), &one()), Err(NoRoom::Unasked));
    }
    assert!(ledger.is_asking());
    assert_eq!(ask(&mut ledger, 2000), [pod(0), pod(1), pod(2)]);
    assert_eq!(ledger.reserve(&pod(0), &one()), Ok(()));
    assert_eq!(ledger.reserve(&pod(1), &one()), Ok(()));
    assert!(matches!(
        ledger.reserve(&pod(2), &one()),
        Err(NoRoom::Shared(_))
    ));
    assert!(!ledger.must_claim());
    // The same answer again is no news.
    assert!(ask(&mut ledger, 2000).is_empty());
}

#[test]
fn what_is_given_back_is_not_used_meanwhile() {
    let mut ledger = shared(&[("pods", 20000)]);
    ledger.reserve(&pod(0), &one()).unwrap_err();
    ask(&mut ledger, 20000);
    ledger.exists(&pod(0), "u0", &one());
    ledger.ended(&pod(0), "u0");
    assert!(ledger.must_claim());
    let claim = ledger.claim();
    assert_eq!(claim.held["pods"], 0);
    // The group is being told that nothing is used.
    assert_eq!(ledger.reserve(&pod(1), &one()), Err(NoRoom::Unasked));
    let shares = BTreeMap::from([("acme".to_owned(), amounts(&[("pods", 0)]))]);
    assert!(ledger.settle(&claim, shares, BTreeMap::new()).is_empty());
    assert!(ledger.is_asking());
}

#[test]
fn who_was_refused_is_asked_for_again_once_there_is_room() {
    let mut ledger = shared(&[("pods", 2000)]);
    ledger.reserve(&pod(0), &one()).unwrap_err();
    ask(&mut ledger, 0);
    assert!(!ledger.is_asking());
    assert!(!ledger.reconsider("acme", &amounts(&[("pods", 0)])));
    assert!(!ledger.reconsider("other", &amounts(&[("pods", 2000)])));
    assert!(ledger.reconsider("acme", &amounts(&[("pods", 1000)])));
    assert_eq!(ask(&mut ledger, 2000), [pod(0)]);
    assert_eq!(ledger.reserve(&pod(0), &one()), Ok(()));
    // Nobody made it after all.
    ledger.unmade(&pod(0));
    assert!(ledger.must_claim());
}

#[test]
fn what_nobody_wants_any_more_is_not_granted() {
    let mut ledger = shared(&[("pods", 2000)]);
    ledger.reserve(&pod(0), &one()).unwrap_err();
    let claim = ledger.claim();
    ledger.abandon(&pod(0));
    let shares = BTreeMap::from([("acme".to_owned(), amounts(&[("pods", 1000)]))]);
    assert!(ledger.settle(&claim, shares, BTreeMap::new()).is_empty());
    // It is given back with the next claim.
    assert!(ledger.must_claim() && !ledger.claim().held.contains_key("pods"));
}

#[test]
fn without_a_budget_those_who_asked_it_are_worked() {
    let mut ledger = shared(&[("pods", 1000)]);
    ledger.reserve(&pod(0), &one()).unwrap_err();
    let mut own_too = own(&[("pods", 9000)]);
    own_too.budgets = ledger.limits().budgets.clone();
    ledger.limit(own_too);
    assert_eq!(finish(&mut ledger), [pod(0)]);
    ledger.reserve(&pod(0), &one()).unwrap_err();
    assert_eq!(ledger.limit(own(&[("pods", 9000)])), [pod(0)]);
    assert_eq!(ledger.reserve(&pod(0), &one()), Ok(()));
}
