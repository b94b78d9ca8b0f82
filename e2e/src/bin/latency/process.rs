//! What the kernel knows of the syncer's process.

use anyhow::Context;
use std::{fs, time::Duration};

/// The kernel counts CPU time in hundredths of a second on every architecture that Linux runs containers on.
const TICK: Duration = Duration::from_millis(10);

/// A process of this machine.
pub(crate) struct Process {
    pid: u32,
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// CPU time it has used.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let path = format!("/proc/{}/stat", self.pid);
        let stat = fs::read_to_string(&path)
            .with_context(|| format!("reading {path}: did the syncer restart?"))?;
        // The name in parentheses may hold blanks; utime and stime are the 12th and 13th field behind it.
        let (_, behind) = stat.rsplit_once(')').context("a process has a name")?;
        let ticks: u32 = behind
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u32>().ok())
            .sum();
        Ok(TICK * ticks)
    }

    /// Its proportional share of memory, in KiB.
    pub(crate) fn pss(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.pid);
        let rollup =
            fs::read_to_string(&path).with_context(|| format!("reading {path} as root"))?;
        let line = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .context("the rollup tells Pss")?;
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse()
            .context("Pss is a number")
    }
}
