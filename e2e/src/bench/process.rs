//! What the kernel knows of processes, and of the machine while they work.

use anyhow::Context;
use std::{fs, path::Path, time::Duration};

/// The kernel counts CPU time in hundredths of a second on every architecture that Linux runs containers on.
const TICK: Duration = Duration::from_millis(10);

/// Some processes of this machine, counted together.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    pids: Vec<u32>,
}

impl Processes {
    /// Those with these IDs.
    pub fn new(pids: impl IntoIterator<Item = u32>) -> Self {
        Self {
            pids: pids.into_iter().collect(),
        }
    }

    /// This program itself.
    pub fn own() -> Self {
        Self::new([std::process::id()])
    }

    /// CPU time that they have used.
    ///
    /// # Errors
    /// One of them has ended.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        self.pids.iter().map(|pid| cpu(*pid)).sum()
    }

    /// Their proportional share of memory, in MiB.
    ///
    /// # Errors
    /// One of them has ended, or is another user's.
    pub fn pss(&self) -> anyhow::Result<f64> {
        self.pids.iter().map(|pid| pss(*pid)).sum()
    }
}

/// The cgroup of the super cluster that `cargo xtask super up` makes, with the control plane, the nodes and their pods.
const CLUSTER: &str = "sublet-dev";

/// CPU time that the super cluster of this machine has used, with pods that are gone.
///
/// # Errors
/// None runs.
pub fn cluster() -> anyhow::Result<Duration> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let used = cgroups(&mounts).find_map(|mount| used(&Path::new(mount).join(CLUSTER)));
    used.context("no super cluster runs on this machine: `cargo xtask super up` starts one")
}

/// Where cgroups are mounted.
fn cgroups(mountinfo: &str) -> impl Iterator<Item = &str> {
    mountinfo.lines().filter_map(|line| {
        let (before, behind) = line.split_once(" - ")?;
        let mount = before.split(' ').nth(4)?;
        behind.starts_with("cgroup").then_some(mount)
    })
}

/// CPU time of a cgroup and all below it, if this hierarchy counts it.
fn used(folder: &Path) -> Option<Duration> {
    if let Ok(nanoseconds) = fs::read_to_string(folder.join("cpuacct.usage")) {
        return Some(Duration::from_nanos(nanoseconds.trim().parse().ok()?));
    }
    let stat = fs::read_to_string(folder.join("cpu.stat")).ok()?;
    let microseconds = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(Duration::from_micros(microseconds.parse().ok()?))
}

/// CPU time of this program and of all processes that it started and saw the end of.
///
/// # Errors
/// The kernel doesn't tell.
pub fn with_ended_children() -> anyhow::Result<Duration> {
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
///
/// # Errors
/// The kernel doesn't tell.
pub fn machine() -> anyhow::Result<Duration> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_tells_its_time_in_either_version() {
        let mounts = "30 24 0:26 / /sys rw - sysfs sysfs rw\n31 30 0:27 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n\
                      32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found: Vec<&str> = cgroups(mounts).collect();
        assert_eq!(found, ["/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/unified"]);
        let folder = std::env::temp_dir().join(format!("cgroup-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(used(&folder), None);
        fs::write(folder.join("cpu.stat"), "nr_periods 0\n").unwrap();
        assert_eq!(used(&folder), None, "a hierarchy that doesn't count");
        fs::write(folder.join("cpu.stat"), "usage_usec 1500000\nuser_usec 1\n").unwrap();
        assert_eq!(used(&folder), Some(Duration::from_millis(1500)));
        fs::write(folder.join("cpuacct.usage"), "2500000000\n").unwrap();
        assert_eq!(used(&folder), Some(Duration::from_millis(2500)));
        fs::remove_dir_all(&folder).unwrap();
    }
}
