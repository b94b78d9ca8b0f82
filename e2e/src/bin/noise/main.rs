//! What one tenant's noise costs another, on a running super cluster with Sublet: the time from a pod's create until its
//! tenant sees it run, without noise and beside it.
//!
//! `cargo xtask bench noise` runs it. Figures of a debug build of the daemons say little.

use clap::Parser;
use e2e::{
    kind::NAMESPACE,
    noise::{Extent, Figures, Starts, measure},
    space::Space,
    tenant::{A, B},
};
use serde_json::{Value, json};
use std::{path::PathBuf, time::SystemTime};

/// What is wanted of the p99 beside noise, in times of the quiet one.
const WANTED: f64 = 1.5;

/// Measures what one tenant's noise costs another, and prints a table and one JSON document.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench noise",
    after_help = "Examples:\n  cargo xtask bench noise\n  cargo xtask bench noise --rounds 3 --pods 50"
)]
struct Args {
    /// Pods that are timed in each half; a hundred fill some two minutes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pods: u32,
    /// Pods that start at the same time
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=50))]
    at_once: u32,
    /// How often all is done; the median ratio is told
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Where the document goes as well
    #[arg(long, value_name = "PATH", default_value = "target/bench/noise.json")]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let extent = Extent {
        pods: usize::try_from(args.pods)?,
        at_once: usize::try_from(args.at_once)?,
    };
    let mut rounds = vec![];
    for _ in 0..args.rounds {
        rounds.push(round(extent).await?);
    }
    eprintln!("{}", table(&rounds));
    let document = json!({
        "measuredAt": SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
        "processors": std::thread::available_parallelism()?.get(),
        "loadAverage": std::fs::read_to_string("/proc/loadavg")?.trim(),
        "pods": extent.pods,
        "atOnce": extent.at_once,
        "ratio": median(&rounds),
        "wantedAtMost": WANTED,
        "rounds": rounds.iter().map(described).collect::<Vec<_>>(),
    });
    e2e::document::hand_out(&args.out, &document)
}

/// One round in a new namespace of the same name in both tenants, which goes whatever happens.
async fn round(extent: Extent) -> anyhow::Result<Figures> {
    let name = e2e::make::unique("noise");
    let timed = Space::open(A.get().await?.clone(), &name).await?;
    let noisy = Space::open(B.get().await?.clone(), &name).await?;
    let figures = measure(&timed, &noisy, extent).await;
    for space in [&timed, &noisy] {
        space.side().delete(NAMESPACE, "", &space.name).await?;
    }
    figures
}

fn median(rounds: &[Figures]) -> f64 {
    let mut ratios: Vec<f64> = rounds.iter().map(Figures::ratio).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn described(figures: &Figures) -> Value {
    let half = |starts: &Starts| {
        json!({
            "medianSeconds": starts.median.as_secs_f64(),
            "p99Seconds": starts.p99.as_secs_f64(),
            "seconds": starts.all.as_secs_f64(),
        })
    };
    json!({
        "quiet": half(&figures.quiet), "loud": half(&figures.loud),
        "ratio": figures.ratio(), "restartsOfFailingPods": figures.restarts,
    })
}

fn table(rounds: &[Figures]) -> String {
    let mut text = "round  quiet p50  quiet p99  loud p50  loud p99  ratio\n".to_owned();
    for (number, figures) in rounds.iter().enumerate() {
        let (quiet, loud) = (&figures.quiet, &figures.loud);
        text += &format!(
            "{:>5}  {:>8.2}s  {:>8.2}s  {:>7.2}s  {:>7.2}s  {:>5.2}\n",
            number + 1,
            quiet.median.as_secs_f64(),
            quiet.p99.as_secs_f64(),
            loud.median.as_secs_f64(),
            loud.p99.as_secs_f64(),
            figures.ratio()
        );
    }
    text + &format!(
        "p99 beside noise: {:.2} times the quiet one, wanted {WANTED} at most",
        median(rounds)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use expect_test::expect_file;

    /// The task tells it without building this program; `UPDATE_EXPECT=1` writes it anew.
    #[test]
    fn the_help_is_what_the_task_tells() {
        let help = e2e::document::help(Args::command());
        expect_file!["../../../../hack/src/bench/noise.txt"].assert_eq(&help);
    }
}
