//! Who may ask another API server now: that of another super cluster, or a tenant's.
//!
//! One that hangs takes seconds of each pass that asks it, and passes are few. One that was silent rests, longer each time,
//! and then one pass tries it; what it was silent with is told to all others meanwhile. An answer, whatever it says, ends
//! that. Of passes that ask other super clusters, only some may do so at a time, and fewer of them the same one. One that
//! answers slowly doesn't rest, but shares its places with those that are tried.

use crate::{clients::kubeconfig::Access, watching::growing};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tenancy::naming;
use tokio::time::Instant;

/// Passes that may ask one super cluster at a time.
const OF_ONE: usize = 3;
/// Passes that may ask any super cluster: half of all ([`crate::watching::patient`]).
const OF_ALL: usize = 8;
/// Passes that may ask any of those that were silent, or slow.
const OF_SLOW: usize = 4;
/// Who takes so long to answer all that is asked is slow; who takes so long not to answer hangs. One that starts refuses at
/// once.
pub(crate) const SLOW: Duration = Duration::from_secs(2);
/// All that a pass asks or tells one takes no longer; what does counts as no answer.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);
/// How long one counts as slow that was.
const SLOW_FOR: Duration = Duration::from_secs(60);
/// How long one rests that was silent once.
const FIRST: Duration = Duration::from_secs(2);
/// The longest rest: one that is back is noticed after it at the latest.
const LONGEST: Duration = Duration::from_secs(20);

/// What is known of all that were asked.
#[derive(Clone)]
pub(crate) struct Remotes {
    known: Arc<Mutex<HashMap<String, Remote>>>,
    /// Passes that may ask one at a time.
    of_one: usize,
    /// Passes that may ask any.
    of_all: usize,
}

/// What is known of one.
#[derive(Default)]
struct Remote {
    asking: usize,
    /// How often it was silent, one time after the other.
    silent: u32,
    rests_until: Option<Instant>,
    slow_until: Option<Instant>,
    why: String,
}

impl Remote {
    fn is_slow(&self, now: Instant) -> bool {
        self.silent > 0 || self.slow_until.is_some_and(|until| now < until)
    }
}

/// Whether a pass may ask.
pub(crate) enum Turn {
    /// It may.
    Now(Asking),
    /// It was silent a moment ago; with what.
    Silent(String),
    /// Others ask.
    Later,
}

/// The right to ask; it ends when this is dropped.
pub(crate) struct Asking {
    remotes: Remotes,
    remote: String,
    /// How often it had been silent by then.
    silent: u32,
}

impl Remotes {
    /// Other super clusters: many tenants may have the same one.
    pub(crate) fn of_super_clusters() -> Self {
        Self {
            known: Arc::default(),
            of_one: OF_ONE,
            of_all: OF_ALL,
        }
    }

    /// Tenants: each is asked by one pass.
    pub(crate) fn of_tenants() -> Self {
        Self {
            known: Arc::default(),
            of_one: usize::MAX,
            of_all: usize::MAX,
        }
    }

    /// Whether what a kubeconfig leads to may be asked. Another kubeconfig leads to another one: what is wrong with one says
    /// nothing of the others.
    pub(crate) fn turn(&self, access: &Access, now: Instant) -> Turn {
        let mut all = self.known.lock();
        let asking: usize = all.values().map(|remote| remote.asking).sum();
        let slow = all.values().filter(|remote| remote.is_slow(now));
        let trying: usize = slow.map(|remote| remote.asking).sum();
        // One that nobody asks any more is forgotten with time.
        all.retain(|_, remote| {
            remote.asking > 0
                || remote.slow_until.is_some_and(|until| now < until)
                || remote
                    .rests_until
                    .is_some_and(|until| now < until + LONGEST * 3)
        });
        let text = access.to_value("", "").to_string();
        let key = naming::hash(&[text.as_bytes()]);
        let remote = all.entry(key.clone()).or_default();
        let is_silent = remote.silent > 0;
        let rests = remote.rests_until.is_some_and(|until| now < until);
        let of_one = if is_silent { 1 } else { self.of_one };
        let is_full = match remote.is_slow(now) {
            true => trying >= OF_SLOW,
            false => asking >= self.of_all,
        };
        let is_busy = is_full || remote.asking >= of_one;
        if is_silent && (rests || is_busy) {
            return Turn::Silent(remote.why.clone());
        }
        if is_busy {
            return Turn::Later;
        }
        remote.asking += 1;
        Turn::Now(Asking {
            remotes: self.clone(),
            remote: key,
            silent: remote.silent,
        })
    }
}

impl Asking {
    /// Whether it wasn't silent when it was asked last.
    pub(crate) fn is_first(&self) -> bool {
        self.silent == 0
    }

    /// It gave an answer, and took so long.
    pub(crate) fn answered(self, took: Duration, now: Instant) {
        self.change(|remote| {
            (remote.silent, remote.rests_until) = (0, None);
            remote.slow_until = (took >= SLOW).then(|| now + SLOW_FOR);
        });
    }

    /// It gave none.
    pub(crate) fn was_silent(self, why: &str, now: Instant) {
        let before = self.silent;
        self.change(|remote| {
            why.clone_into(&mut remote.why);
            // Several that asked together count once.
            if remote.silent == before {
                remote.silent += 1;
                remote.rests_until = Some(now + growing::pause(FIRST, remote.silent, LONGEST));
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Remote)) {
        if let Some(remote) = self.remotes.known.lock().get_mut(&self.remote) {
            change(remote);
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.change(|remote| remote.asking -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::kubeconfig::Credentials;

    fn turn(remotes: &Remotes, token: &str, at: Instant) -> Turn {
        let access = Access {
            server: "https://west:1".into(),
            ca: "authority".into(),
            tls_server_name: None,
            namespace: None,
            credentials: Credentials::Token(token.into()),
        };
        remotes.turn(&access, at)
    }

    fn now(turn: Turn) -> Asking {
        match turn {
            Turn::Now(asking) => asking,
            Turn::Silent(why) => panic!("silent: {why}"),
            Turn::Later => panic!("later"),
        }
    }

    #[test]
    fn a_few_ask_one_and_more_ask_all() {
        let (remotes, at) = (Remotes::of_super_clusters(), Instant::now());
        let mut asking: Vec<Asking> = (0..OF_ONE).map(|_| now(turn(&remotes, "a", at))).collect();
        assert!(matches!(turn(&remotes, "a", at), Turn::Later));
        for other in 0..OF_ALL - OF_ONE {
            asking.push(now(turn(&remotes, &other.to_string(), at)));
        }
        assert!(matches!(turn(&remotes, "b", at), Turn::Later));
        asking.remove(0).answered(Duration::ZERO, at);
        asking.push(now(turn(&remotes, "a", at)));
        assert!(matches!(turn(&remotes, "b", at), Turn::Later));
        drop(asking);
        now(turn(&remotes, "b", at));
    }

    #[test]
    fn a_silent_one_rests_longer_each_time_and_is_then_tried_by_one() {
        let (remotes, mut at) = (Remotes::of_super_clusters(), Instant::now());
        let together = [now(turn(&remotes, "a", at)), now(turn(&remotes, "a", at))];
        for asking in together {
            asking.was_silent("no answer", at);
        }
        for wait in [2, 4, 8, 16, 20, 20] {
            let wait = Duration::from_secs(wait);
            at += wait - Duration::from_millis(1);
            assert!(matches!(turn(&remotes, "a", at), Turn::Silent(why) if why == "no answer"));
            drop(now(turn(&remotes, "b", at)));
            at += Duration::from_millis(1);
            let tries = now(turn(&remotes, "a", at));
            assert!(
                matches!(turn(&remotes, "a", at), Turn::Silent(_)),
                "one alone"
            );
            tries.was_silent("no answer", at);
        }
        at += LONGEST;
        now(turn(&remotes, "a", at)).answered(Duration::ZERO, at);
        let all: Vec<Asking> = (0..OF_ONE).map(|_| now(turn(&remotes, "a", at))).collect();
        drop(all);
    }

    #[test]
    fn of_many_that_are_silent_a_few_are_tried_at_a_time() {
        let (remotes, at) = (Remotes::of_tenants(), Instant::now());
        let all: Vec<String> = (0..20).map(|tenant| tenant.to_string()).collect();
        let asking: Vec<Asking> = all
            .iter()
            .map(|tenant| now(turn(&remotes, tenant, at)))
            .collect();
        for asking in asking {
            asking.was_silent("no answer", at);
        }
        let later = at + FIRST;
        let turns: Vec<Turn> = all
            .iter()
            .map(|tenant| turn(&remotes, tenant, later))
            .collect();
        let tried = turns.iter().filter(|turn| matches!(turn, Turn::Now(_)));
        assert_eq!(tried.count(), OF_SLOW);
        drop(now(turn(&remotes, "another", later)));
    }

    /// Each of them answers in the end, so none ever rests.
    #[test]
    fn t40_of_many_that_are_slow_a_few_are_asked_at_a_time() {
        let (remotes, at) = (Remotes::of_tenants(), Instant::now());
        let all: Vec<String> = (0..20).map(|tenant| tenant.to_string()).collect();
        for tenant in &all {
            now(turn(&remotes, tenant, at)).answered(SLOW, at);
        }
        let turns: Vec<Turn> = all
            .iter()
            .map(|tenant| turn(&remotes, tenant, at))
            .collect();
        let asked = turns.iter().filter(|turn| matches!(turn, Turn::Now(_)));
        assert_eq!(asked.count(), OF_SLOW);
        let later = turns.iter().filter(|turn| matches!(turn, Turn::Later));
        assert_eq!(later.count(), all.len() - OF_SLOW);
        drop(now(turn(&remotes, "another", at)));
        drop(turns);
        // Who was quick again is as good as any.
        let quick = &all[..OF_SLOW * 2];
        for tenant in quick {
            now(turn(&remotes, tenant, at)).answered(Duration::ZERO, at);
        }
        let turns: Vec<Asking> = quick
            .iter()
            .map(|tenant| now(turn(&remotes, tenant, at)))
            .collect();
        drop(turns);
    }

    #[test]
    fn those_that_nobody_asks_any_more_are_forgotten() {
        let (remotes, at) = (Remotes::of_super_clusters(), Instant::now());
        now(turn(&remotes, "a", at)).was_silent("no answer", at);
        now(turn(&remotes, "b", at)).answered(Duration::ZERO, at);
        now(turn(&remotes, "c", at + LONGEST * 4)).answered(Duration::ZERO, at + LONGEST * 4);
        assert_eq!(remotes.known.lock().len(), 1);
    }
}
