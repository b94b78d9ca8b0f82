//! Pauses that grow, each twice as long as the one before; pure.

use std::time::Duration;

/// The pause after so many failures, one after the other.
pub(crate) fn pause(first: Duration, fails: u32, longest: Duration) -> Duration {
    first
        .saturating_mul(1 << fails.saturating_sub(1).min(10))
        .min(longest)
}
