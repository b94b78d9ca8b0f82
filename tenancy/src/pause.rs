//! How long to wait after failures: twice as long after each, up to a limit, and spread so that those which failed
//! together part. What chance would do, the name of who waits does: there is no randomness here.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// The shortest and the longest wait.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// After the first failure.
    pub first: Duration,
    /// After many; no wait is longer.
    pub longest: Duration,
}

impl Pauses {
    /// The wait of `who` after so many failures in a row: up to a quarter shorter than the doubled one, never longer.
    pub fn after(self, failures: u32, who: &impl Hash) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        let mut hasher = DefaultHasher::new();
        (who, failures).hash(&mut hasher);
        let spread = u32::try_from(hasher.finish() % 256).unwrap_or_default();
        full - full / 4 * spread / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const PAUSES: Pauses = Pauses {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(60),
    };

    #[test]
    fn they_double_up_to_the_limit_and_are_never_longer() {
        for (failures, full) in [(0, 100), (1, 100), (2, 200), (5, 1_600), (11, 60_000)] {
            let full = Duration::from_millis(full);
            let pause = PAUSES.after(failures, &"a");
            assert!(pause <= full && pause >= full * 3 / 4, "{failures}");
        }
        assert!(PAUSES.after(u32::MAX, &"a") <= PAUSES.longest);
    }

    #[test]
    fn those_that_failed_together_part() {
        let pauses: HashSet<_> = (0..20).map(|who| PAUSES.after(8, &who)).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
        assert_eq!(PAUSES.after(8, &"a"), PAUSES.after(8, &"a"));
    }
}
