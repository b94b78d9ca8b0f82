//! Processes of the super cluster: started detached, known by pid and start time, ended by pid.
//!
//! A pid alone names nothing for long, since pids are reused; with the start time it names one process.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::{cgroups, layout};
use crate::{paths, run};

/// One process, unmistakably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Its pid.
    pub(crate) pid: i32,
    /// Clock ticks between boot and its start.
    pub(crate) start: u64,
}

impl Identity {
    /// The process that has this pid now. None when there is none, or only what is left of one.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start) = parse_stat(&stat)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, start })
    }

    /// True while exactly this process runs.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, unless the process is gone.
    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Ends the process: politely, then by force after `patience`. Returns when it is gone.
    pub(crate) fn end(self, patience: Duration) -> Result<()> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + patience;
        while self.is_alive() && Instant::now() < deadline {
            sleep(Duration::from_millis(50));
        }
        self.signal(Signal::KILL);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.is_alive() {
            if Instant::now() > deadline {
                bail!("process {} does not end", self.pid);
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// State letter and start time from the text of /proc/PID/stat. The name in it may hold anything.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// What to start.
pub(crate) struct Program {
    /// Names its log and pid file.
    pub(crate) name: String,
    /// The file and its arguments.
    pub(crate) command: Vec<String>,
    /// The process whose network, mount and host-name namespaces it runs in; the host's when none.
    pub(crate) home: Option<Identity>,
}

/// PATH of started programs; the user's own environment doesn't reach them.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Program {
    /// Starts it detached, in our cgroup, and writes its pid file.
    pub(crate) fn start(&self) -> Result<Identity> {
        let log = layout::log(&self.name);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        // The shell puts itself into the cgroups and then becomes the program, so no child escapes them
        // and the pid stays the same all the way.
        let mut words = vec!["sh".to_owned(), "-c".to_owned()];
        let joins: Vec<String> = cgroups::join_files()?
            .iter()
            .map(|file| format!("echo $$ > {}", layout::text(file)))
            .collect();
        words.push(format!("{}; exec \"$@\"", joins.join("; ")));
        words.push("sh".to_owned());
        if let Some(home) = self.home {
            words.extend(enter(home));
        }
        words.extend(self.command.iter().cloned());
        let mut command = run::command("setsid", words);
        command
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            // They are programs in Go on a small machine: memory is spent for less work.
            .env("GOGC", "300")
            .env("LANG", "C.UTF-8");
        command
            .stdout(file.try_clone()?)
            .stderr(file)
            .stdin(Stdio::null())
            .current_dir("/");
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        let pid = i32::try_from(child.id()).context("pid out of range")?;
        let identity = Identity::of(pid).with_context(|| format!("{} ended at once", self.name))?;
        fs::write(pid_file(&self.name), serde_json::to_vec(&identity)?)?;
        Ok(identity)
    }
}

/// The words that put a command into the namespaces of `home`.
pub(crate) fn enter(home: Identity) -> Vec<String> {
    let target = home.pid.to_string();
    [
        "nsenter", "--target", &target, "--mount", "--net", "--uts", "--",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The process that was started under `name`, if it still runs.
pub(crate) fn running(name: &str) -> Option<Identity> {
    recorded(name).filter(|identity| identity.is_alive())
}

/// What the pid file of `name` says.
pub(crate) fn recorded(name: &str) -> Option<Identity> {
    serde_json::from_slice(&fs::read(pid_file(name)).ok()?).ok()
}

/// All pid files' contents.
pub(crate) fn all_recorded() -> Vec<(String, Identity)> {
    let listing = fs::read_dir(pid_folder()).into_iter().flatten().flatten();
    let mut found: Vec<(String, Identity)> = listing
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            recorded(&name).map(|identity| (name, identity))
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Where pid files are.
pub(crate) fn pid_folder() -> PathBuf {
    paths::state().join("pids")
}

fn pid_file(name: &str) -> PathBuf {
    pid_folder().join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_nasty_name() {
        let stat = "7 (a) S (b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(parse_stat(stat), Some(('R', 4242)));
        assert_eq!(parse_stat("7 (cut"), None);
    }

    #[test]
    fn a_reused_pid_is_not_ours() {
        let me = Identity::of(std::process::id().cast_signed()).unwrap();
        assert!(me.is_alive());
        assert!(
            !Identity {
                start: me.start + 1,
                ..me
            }
            .is_alive()
        );
    }

    #[test]
    fn identity_survives_its_file() {
        let one = Identity { pid: 12, start: 34 };
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), one);
    }
}
