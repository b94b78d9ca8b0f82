//! Figures for people, and one line of JSON for programs.

use crate::process::Process;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// All figures.
pub(crate) struct Report {
    rate: u32,
    count: u32,
    rows: Vec<Row>,
    cpu: Vec<(String, Duration, Duration)>,
}

/// One latency over all pods.
pub(crate) struct Row {
    what: String,
    mode: String,
    sorted: Vec<Duration>,
}

impl Row {
    pub(crate) fn new(what: &str, mode: &str, mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        Self {
            what: what.to_owned(),
            mode: mode.to_owned(),
            sorted: took,
        }
    }

    /// The smallest value that so many per cent of the pods don't exceed, in milliseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted
            .get(rank - 1)
            .map(|took| took.as_secs_f64() * 1000.0)
            .unwrap_or_default()
    }
}

impl Report {
    pub(crate) fn new(rate: u32, count: u32) -> Self {
        Self {
            rate,
            count,
            rows: vec![],
            cpu: vec![],
        }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// CPU time that the syncer used for all creates, and for all status changes.
    pub(crate) fn cpu(&mut self, mode: &str, create: Duration, status: Duration) {
        self.cpu.push((mode.to_owned(), create, status));
    }

    pub(crate) fn print(&self, syncer: &Process) -> anyhow::Result<()> {
        println!(
            "{} pods at {} a second; milliseconds\n",
            self.count, self.rate
        );
        println!(
            "{:<40} {:<14} {:>8} {:>8} {:>8} {:>8}",
            "", "pods", "p50", "p90", "p99", "max"
        );
        let mut latencies = vec![];
        for row in &self.rows {
            let [p50, p90, p99, max] = [50, 90, 99, 100].map(|percent| row.percentile(percent));
            println!(
                "{:<40} {:<14} {p50:>8.1} {p90:>8.1} {p99:>8.1} {max:>8.1}",
                row.what, row.mode
            );
            let figures = [("p50", p50), ("p90", p90), ("p99", p99), ("max", max)];
            let figures: Map<String, Value> = figures
                .into_iter()
                .map(|(name, figure)| (name.to_owned(), round(figure).into()))
                .collect();
            latencies.push(json!({"what": row.what, "pods": row.mode, "milliseconds": figures}));
        }
        println!();
        let mut cpu = vec![];
        for (mode, create, status) in &self.cpu {
            let per_pod =
                |all: &Duration| round(all.as_secs_f64() * 1000.0 / f64::from(self.count));
            let (create, status) = (per_pod(create), per_pod(status));
            println!(
                "syncer CPU per pod {mode}: {create:.2} ms to create and bind, {status:.2} ms for a status"
            );
            cpu.push(json!({"pods": mode, "create": create, "status": status}));
        }
        let pss = syncer.pss()?;
        println!("syncer memory (PSS): {:.1} MiB\n", pss as f64 / 1024.0);
        let all = json!({
            "rate": self.rate, "count": self.count, "latencies": latencies, "cpuMillisecondsPerPod": cpu, "pssKiB": pss,
        });
        println!("{all}");
        Ok(())
    }
}

/// To hundredths: more digits would claim more than was measured.
fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}
