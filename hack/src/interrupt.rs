//! What happens when this process is asked to end: what it runs ends with it, and nothing that it started to stay.
//!
//! A terminal's Ctrl-C reaches all of them. A signal to this process alone, as a supervisor or a time limit sends it, would
//! leave cargo, tests and load programs behind.

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};

/// How long they have to end by themselves.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far looks at them are apart.
const GLANCE: Duration = Duration::from_millis(50);
/// As shells count an end by Ctrl-C.
const EXIT: i32 = 130;

static ENDING: AtomicBool = AtomicBool::new(false);
static ADVICE: OnceLock<&'static str> = OnceLock::new();

/// From now on an interrupt, SIGTERM or SIGHUP ends what this process runs, and then this process.
pub(crate) fn obey() -> Result<()> {
    let obeyed = ctrlc::set_handler(|| {
        ENDING.store(true, Ordering::SeqCst);
        end_all(getpid());
        if let Some(advice) = ADVICE.get() {
            tell!("\ninterrupted; {advice}");
        }
        std::process::exit(EXIT);
    });
    obeyed.context("cannot listen to signals")
}

/// What to say then of what stays.
pub(crate) fn advise(advice: &'static str) {
    ADVICE.get_or_init(|| advice);
}

/// Stops here if this process is ending: what failed since has failed by that, and isn't worth a word.
pub(crate) fn rest_if_ending() {
    while ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// Ends all below `own`, at first politely.
fn end_all(own: Pid) {
    // Whose parent ends first is found below this process again.
    let _ = set_child_subreaper(Some(own));
    let began = Instant::now();
    let mut asked = BTreeSet::new();
    loop {
        let left = below(&processes(), own.as_raw_nonzero().get());
        if left.is_empty() {
            return;
        }
        let is_late = began.elapsed() > PATIENCE;
        for pid in left {
            let Some(one) = Pid::from_raw(pid) else {
                continue;
            };
            if is_late {
                let _ = kill_process(one, Signal::KILL);
            } else if asked.insert(pid) {
                let _ = kill_process(one, Signal::TERM);
            }
        }
        if began.elapsed() > 2 * PATIENCE {
            return;
        }
        thread::sleep(GLANCE);
    }
}

/// A process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
}

/// The living ones.
fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(|stat| parse(&stat)).collect()
}

/// One from its `/proc/PID/stat`, unless it only waits to be buried.
fn parse(stat: &str) -> Option<Process> {
    // The name in parentheses may hold anything.
    let (pid, _) = stat.split_once(' ')?;
    let (_, behind) = stat.rsplit_once(") ")?;
    let mut fields = behind.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.next()?.parse().ok()?,
        session: fields.nth(1)?.parse().ok()?,
    })
}

/// All below a process, but those with a session of their own, which are to stay, and what is below them.
fn below(all: &[Process], root: i32) -> Vec<i32> {
    let Some(session) = all
        .iter()
        .find(|one| one.pid == root)
        .map(|one| one.session)
    else {
        return vec![];
    };
    let (mut found, mut next) = (vec![], vec![root]);
    while let Some(parent) = next.pop() {
        let children = all
            .iter()
            .filter(|one| one.parent == parent && one.session == session);
        let children: Vec<i32> = children.map(|one| one.pid).collect();
        found.extend(&children);
        next.extend(children);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;
    use std::process::{Child, Command, Stdio};

    /// Set for the copy of this program that is ended.
    const COPY: &str = "SUBLET_TEST_OF_INTERRUPT";

    #[test]
    fn what_has_a_session_of_its_own_stays_with_all_below_it() {
        let process = |pid, parent, session| Process {
            pid,
            parent,
            session,
        };
        let all = [
            process(10, 1, 7),
            process(11, 10, 7),
            process(12, 11, 7),
            process(13, 10, 13),
            process(14, 13, 13),
            process(15, 1, 7),
        ];
        assert_eq!(below(&all, 10), [11, 12]);
        assert!(below(&all, 99).is_empty());
    }

    #[test]
    fn a_process_is_read_whatever_its_name_is_and_a_dead_one_is_none() {
        let expected = Process {
            pid: 42,
            parent: 7,
            session: 5,
        };
        assert_eq!(parse("42 (a) b (c) S 7 6 5 0 -1"), Some(expected));
        assert_eq!(parse("42 (a) Z 7 6 5 0 -1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn what_it_runs_ends_with_it() {
        if std::env::var_os(COPY).is_some() {
            obey().unwrap();
            // As cargo is: it ends at once, and doesn't care what it runs.
            let _ = run::visibly(&mut run::command("sh", ["-c", "sleep 300; true"]));
            rest_if_ending();
            return;
        }
        let mut copy = Command::new(std::env::current_exe().unwrap());
        copy.args(["--exact", "interrupt::tests::what_it_runs_ends_with_it"])
            .env(COPY, "1")
            .stdout(Stdio::null());
        let mut copy = copy.spawn().unwrap();
        let running = within(|| {
            let below = below(&processes(), pid(&copy));
            (below.len() >= 2).then_some(below)
        });
        kill_process(Pid::from_child(&copy), Signal::TERM).unwrap();
        assert_eq!(copy.wait().unwrap().code(), Some(EXIT));
        let left = processes();
        let left = left.iter().filter(|one| running.contains(&one.pid));
        assert_eq!(left.count(), 0, "{running:?}");
    }

    fn pid(child: &Child) -> i32 {
        Pid::from_child(child).as_raw_nonzero().get()
    }

    fn within<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "nothing came");
            thread::sleep(GLANCE);
        }
    }
}
