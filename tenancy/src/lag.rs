//! How far the sync of a tenant lags behind, and when that is told on its VirtualControlPlane. Time is an argument.
//!
//! A change that waits for less than [`BEHIND`] is no lag: a tenant without one that waits longer is *in step*, and is told
//! to be so once, however much it is at work. Of one that isn't, it is told since when the oldest change waits. That stays
//! true while the same change waits, so that a lag that only grows is told once. It is told again when what stands there
//! would mislead by a factor of [`FAR`]; and all in all no more often than [`TELLING`] allows, whatever happens.

use crate::bucket::{Bucket, Rate};
use std::time::{Duration, Instant};

/// What waits for less is on its way.
pub const BEHIND: Duration = Duration::from_secs(10);
/// What is told misleads when it is so many times as much as what is so, or so many times as little.
const FAR: u64 = 4;
/// So many times at once, for a tenant that falls behind and catches up again, and then one in each period.
const TELLING: Rate = Rate {
    burst: 6,
    period: Duration::from_secs(300),
};

/// What waits in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Objects with a change that waits for long.
    pub waiting: u64,
    /// Since when the first of them does.
    pub oldest: Option<Instant>,
}

impl Backlog {
    /// Of changes that wait since these times, those that do since `before` or longer.
    pub fn of(all: impl IntoIterator<Item = Instant>, before: Instant) -> Self {
        let long = all.into_iter().filter(|since| *since <= before);
        long.fold(Self::default(), |backlog, since| Self {
            waiting: backlog.waiting + 1,
            oldest: earlier(backlog.oldest, Some(since)),
        })
    }

    /// Both together, when no change is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            waiting: self.waiting + other.waiting,
            oldest: earlier(self.oldest, other.oldest),
        }
    }

    fn is_far_from(self, other: Self, now: Instant) -> bool {
        are_far(self.waiting, other.waiting, 1)
            || are_far(
                age(self.oldest, now),
                age(other.oldest, now),
                BEHIND.as_secs(),
            )
    }
}

/// How far the sync of a tenant lags behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Changes in the tenant that the super cluster hasn't yet.
    pub to_super: Backlog,
    /// Changes in the super cluster that the tenant isn't shown yet.
    pub from_super: Backlog,
    /// Since when not all of the tenant is watched: what changed there since then isn't known, and so not counted.
    pub unwatched: Option<Instant>,
}

impl Lag {
    /// Since when the tenant isn't in step; it is if none.
    pub fn since(&self) -> Option<Instant> {
        let oldest = earlier(self.to_super.oldest, self.from_super.oldest);
        earlier(oldest, self.unwatched)
    }

    /// Without what hasn't lasted.
    fn lasting(mut self, now: Instant) -> Self {
        let lasts = |since: &Instant| now.saturating_duration_since(*since) >= BEHIND;
        self.unwatched = self.unwatched.filter(lasts);
        self
    }

    /// Whether whoever is told the one is misled when the other is so.
    fn is_far_from(self, other: Self, now: Instant) -> bool {
        let unwatched = [self, other].map(|lag| age(lag.unwatched, now));
        self.since().is_some() != other.since().is_some()
            || self.to_super.is_far_from(other.to_super, now)
            || self.from_super.is_far_from(other.from_super, now)
            || are_far(unwatched[0], unwatched[1], BEHIND.as_secs())
    }
}

/// What was told last of a tenant, and how often.
#[derive(Debug)]
pub struct Telling {
    told: Option<Lag>,
    /// Since when all of the tenant was found to be watched.
    watched: Option<Instant>,
    times: Bucket,
}

impl Default for Telling {
    fn default() -> Self {
        Self {
            told: None,
            watched: None,
            times: Bucket::of(TELLING),
        }
    }
}

impl Telling {
    /// That it is in step stands there already, by whoever served it before.
    pub fn in_step() -> Self {
        Self {
            told: Some(Lag::default()),
            ..Self::default()
        }
    }

    /// What was told last, if anything was.
    pub fn told(&self) -> Option<Lag> {
        self.told
    }

    /// Whether something may be told again.
    pub fn has_room(&self, now: Instant) -> bool {
        self.times.has_room(now)
    }

    /// What was told doesn't stand there any more.
    pub fn forget(&mut self) {
        self.told = None;
    }

    /// What is to be told now, if anything is.
    pub fn due(&mut self, lag: Lag, now: Instant) -> Option<Lag> {
        match lag.unwatched {
            Some(_) => self.watched = None,
            None => drop(self.watched.get_or_insert(now)),
        }
        let lasting = lag.lasting(now);
        let is_news = match self.told {
            // One that is just being listed may lag by anything, and what waits is too young to count.
            None => lasting.since().is_some() || age(self.watched, now) >= BEHIND.as_secs(),
            Some(told) => told.is_far_from(lasting, now),
        };
        (is_news && self.times.has_room(now)).then_some(lasting)
    }

    /// It is tried to tell it.
    pub fn tried(&mut self, now: Instant) {
        self.times.charge(1, now);
    }

    /// It was told.
    pub fn note(&mut self, lag: Lag) {
        self.told = Some(lag);
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

/// In seconds.
fn age(since: Option<Instant>, now: Instant) -> u64 {
    since.map_or(0, |since| now.saturating_duration_since(since).as_secs())
}

/// Whether one is many times the other, of which no less than `least` counts.
fn are_far(one: u64, other: u64, least: u64) -> bool {
    one.min(other).max(least).saturating_mul(FAR) <= one.max(other)
}

#[cfg(test)]
mod tests;
