//! What others use of the machine while something is measured.

use super::process;
use anyhow::ensure;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Figures that were taken beside more than this share of the machine aren't kept.
const MOST: f64 = 0.1;
/// Where the share is in what was measured.
pub const FIELD: &str = "cpuOfOthers";

/// What is measured beside this program and what it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// Nothing.
    Nothing,
    /// The super cluster of this machine and all that runs in it.
    Cluster,
}

impl With {
    /// CPU time that is no others'.
    fn own(self) -> anyhow::Result<Duration> {
        let cluster = match self {
            Self::Nothing => Duration::ZERO,
            Self::Cluster => process::cluster()?,
        };
        Ok(process::with_ended_children()? + cluster)
    }
}

/// The machine as it was when the measurement began.
pub struct Others {
    with: With,
    machine: Duration,
    own: Duration,
    at: Instant,
}

impl Others {
    /// Looks at the machine as a measurement begins.
    ///
    /// # Errors
    /// The kernel doesn't tell, or the cluster that is measured doesn't run on this machine.
    pub fn watch(with: With) -> anyhow::Result<Self> {
        Ok(Self {
            with,
            machine: process::machine()?,
            own: with.own()?,
            at: Instant::now(),
        })
    }

    /// The share of all processors that others used since, from 0 to 1. Whatever the measurement started must have ended:
    /// what still runs counts as others'.
    ///
    /// # Errors
    /// As [`Others::watch`].
    pub fn share(&self) -> anyhow::Result<f64> {
        let elapsed = self.at.elapsed().as_secs_f64();
        let own = self.with.own()?.saturating_sub(self.own);
        let machine = process::machine()?.saturating_sub(self.machine);
        let processors = std::thread::available_parallelism()?.get() as f64;
        Ok(machine.saturating_sub(own).as_secs_f64() / elapsed / processors)
    }
}

/// Refuses what was measured beside too much else, or without knowing that.
///
/// # Errors
/// It says how much the others used, and what to do.
pub fn judge(measured: &Value) -> anyhow::Result<()> {
    let share = measured[FIELD].as_f64();
    ensure!(
        share.is_some_and(|share| share <= MOST),
        "{} isn't kept: others used {} of the machine meanwhile, and {MOST} is the most; measure it again when nothing else works",
        measured["scenario"],
        share.map_or("an unknown share".to_owned(), |share| share.to_string())
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_figure_is_kept_only_of_a_machine_that_was_quiet() {
        let of = |share: Value| judge(&json!({"scenario": "idle", FIELD: share}));
        assert!(of(json!(0.1)).is_ok());
        let refused = of(json!(0.11)).unwrap_err().to_string();
        assert!(
            refused.contains("idle") && refused.contains("0.11"),
            "{refused}"
        );
        assert!(of(Value::Null).is_err(), "nobody looked");
    }

    #[test]
    fn work_of_this_program_and_of_its_children_is_not_others() {
        let before = process::with_ended_children().unwrap();
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let status = std::process::Command::new("sh")
            .args(["-c", script])
            .status();
        assert!(status.unwrap().success());
        let worked = process::with_ended_children()
            .unwrap()
            .saturating_sub(before);
        assert!(worked >= Duration::from_millis(20), "{worked:?}");
    }
}
