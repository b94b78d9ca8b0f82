//! What the kernel knows of processes, and of the machine while they work.

use anyhow::Context;
use std::{fs, time::Duration};

/// The kernel counts CPU time in hundredths of a second on every architecture that Linux runs containers on.
const TICK: Duration = Duration::from_millis(10);

/// Some processes of this machine, counted together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes {
    pids: Vec<u32>,
}

impl Processes {
    pub(crate) fn new(pids: impl IntoIterator<Item = u32>) -> Self {
        Self {
            pids: pids.into_iter().collect(),
        }
    }

    /// This program itself.
    pub(crate) fn own() -> Self {
        Self::new([std::process::id()])
    }

    /// CPU time that they have used.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.pids.iter().map(|pid| cpu(*pid)).sum()
    }

    /// Their proportional share of memory, in MiB.
    pub(crate) fn pss(&self) -> anyhow::Result<f64> {
        self.pids.iter().map(|pid| pss(*pid)).sum()
    }
}

/// CPU time of this program and of all processes that it started and saw the end of.
pub(crate) fn with_ended_children() -> anyhow::Result<Duration> {
    times(std::process::id(), 4)
}

fn cpu(pid: u32) -> anyhow::Result<Duration> {
    times(pid, 2)
}

/// The first `count` of a process's CPU times: user and system, then both of its children that ended.
fn times(pid: u32, count: usize) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat =
        fs::read_to_string(&path).with_context(|| format!("reading {path}: did it restart?"))?;
    // The name in parentheses may hold blanks; the first is the 12th field behind it.
    let (_, behind) = stat.rsplit_once(')').context("a process has a name")?;
    let fields = behind.split_whitespace().skip(11).take(count);
    let ticks: u32 = fields.filter_map(|field| field.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}

fn pss(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(&path).with_context(|| format!("reading {path} as root"))?;
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .context("the rollup tells Pss")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// CPU time that the whole machine has used, over all processors, without waiting and without what a hypervisor took.
pub(crate) fn machine() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all = stat.lines().next().context("/proc/stat has a first line")?;
    // user, nice, system, idle, iowait, irq, softirq
    let fields: Vec<u32> = all
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let busy = [0, 1, 2, 5, 6].map(|field| fields.get(field).copied().unwrap_or_default());
    Ok(TICK * busy.iter().sum::<u32>())
}
