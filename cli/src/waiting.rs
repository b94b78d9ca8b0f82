//! Waiting: whether a command does it and for how long, by flags that are the same of all that do.

use crate::age;
use std::time::Duration;

/// Flags of a command that waits, for `MINUTES` at most when nothing else is said.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Waiting<const MINUTES: u8> {
    /// Wait until it is done (the default)
    #[arg(long)]
    wait: bool,
    /// Return as soon as it is asked for
    #[arg(long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = Self::DEFAULT, value_parser = age::parse)]
    pub(crate) timeout: Duration,
}

impl<const MINUTES: u8> Waiting<MINUTES> {
    const DEFAULT: &'static str = match MINUTES {
        1 => "1m",
        2 => "2m",
        3 => "3m",
        5 => "5m",
        10 => "10m",
        15 => "15m",
        _ => panic!("spell it here"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        waiting: Waiting<3>,
    }

    fn parsed(flags: &[&str]) -> Option<(bool, u64)> {
        let words = ["command"].iter().chain(flags);
        let waiting = Line::try_parse_from(words).ok()?.waiting;
        Some((waiting.no_wait, waiting.timeout.as_secs()))
    }

    #[test]
    fn who_says_nothing_waits_for_the_minutes_of_the_command() {
        assert_eq!(parsed(&[]), Some((false, 180)));
        assert_eq!(parsed(&["--wait", "--timeout", "90s"]), Some((false, 90)));
        assert_eq!(parsed(&["--no-wait"]), Some((true, 180)));
        assert_eq!(parsed(&["--wait", "--no-wait"]), None);
        assert_eq!(parsed(&["--timeout", "soon"]), None);
    }

    #[test]
    fn every_default_is_spelled_as_the_minutes_that_it_stands_for() {
        let spelled = [
            (1, Waiting::<1>::DEFAULT),
            (2, Waiting::<2>::DEFAULT),
            (3, Waiting::<3>::DEFAULT),
            (5, Waiting::<5>::DEFAULT),
            (10, Waiting::<10>::DEFAULT),
            (15, Waiting::<15>::DEFAULT),
        ];
        for (minutes, text) in spelled {
            assert_eq!(age::parse(text), Ok(Duration::from_secs(minutes * 60)));
        }
    }
}
