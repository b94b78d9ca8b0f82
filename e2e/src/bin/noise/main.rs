//! What one tenant's noise costs another, on a running super cluster with Sublet: the time from a pod's create until its
//! tenant sees it run, without noise and beside it.
//!
//! `cargo xtask bench noise` runs it. Figures of a debug build of the daemons say little.

use clap::Parser;
use e2e::{
    bench::{
        keeper::Keeper,
        numbers,
        others::With,
        table::{self, Wanted},
    },
    kind::NAMESPACE,
    noise::{Extent, Figures, Starts, measure},
    space::Space,
    tenant::{A, B},
};
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// Its name among the results that are kept, and where the one figure is of which something is wanted: the p99 beside noise, in times
/// of the quiet one.
const SCENARIO: &str = "noise";
const RATIO: &str = "ratio";

/// Measures what one tenant's noise costs another, and prints a table and one JSON document.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench noise",
    after_help = "Examples:\n  cargo xtask bench noise\n  cargo xtask bench noise --rounds 3 --pods 50\n  \
                  cargo xtask bench noise --rounds 3 --save      what a release keeps in docs/bench"
)]
struct Args {
    /// Pods that are timed in each half
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pods: u32,
    /// Pods that start at the same time
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=50))]
    at_once: u32,
    /// Seconds that the noise lasts at least: more pods are timed until then
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(..=3600))]
    seconds: u64,
    /// How often all is done; the median ratio is told
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Keep what was measured in docs/bench, and draw chart and table anew
    #[arg(long, conflicts_with_all = ["pods", "at_once", "seconds"])]
    save: bool,
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
        least: Duration::from_secs(args.seconds),
    };
    let begin = || Keeper::begin(With::Cluster, args.rounds);
    let keeper = args.save.then(begin).transpose()?;
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
        RATIO: median(&rounds),
        "wanted": wanted(),
        "rounds": rounds.iter().map(described).collect::<Vec<_>>(),
    });
    e2e::document::hand_out(&args.out, &document)?;
    match keeper {
        Some(keeper) => keeper.keep(vec![(SCENARIO, 2, kept(&rounds))]),
        None => Ok(()),
    }
}

/// What the results' table wants of the ratio.
fn wanted() -> Option<Wanted> {
    table::wanted(SCENARIO, &format!("/{RATIO}"))
}

/// The rounds in the shape in which they are kept.
fn kept(rounds: &[Figures]) -> Value {
    let rounds: Vec<Value> = rounds.iter().map(described).collect();
    json!({"median": numbers::median(&rounds), "rounds": rounds})
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
            "pods": starts.pods,
        })
    };
    json!({
        "quiet": half(&figures.quiet), "loud": half(&figures.loud),
        RATIO: figures.ratio(), "restartsOfFailingPods": figures.restarts,
        "writesPerSecond": figures.writes_per_second(), "refusedWrites": figures.refused, "openWatches": figures.watches,
        "syncerMiB": figures.memory,
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
        "p99 beside noise: {:.2} times the quiet one, wanted {}",
        median(rounds),
        wanted().map_or_else(String::new, Wanted::shown)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use expect_test::expect_file;

    #[test]
    fn the_median_ratio_is_kept_where_the_table_looks_for_it() {
        let starts = |p99| Starts {
            pods: 9,
            median: Duration::from_secs(1),
            p99: Duration::from_millis(p99),
            all: Duration::from_secs(9),
        };
        let round = |loud| Figures {
            quiet: starts(1000),
            loud: starts(loud),
            restarts: 1,
            writes: 900,
            refused: 1,
            watches: 1000,
            memory: 20.0,
        };
        let rounds = [round(1200), round(9000), round(1400)];
        assert_eq!(kept(&rounds)["median"][RATIO], 1.4);
        assert_eq!(wanted(), Some(Wanted::AtMost(1.5)));
        assert!(table(&rounds).ends_with("wanted at most 1.5"));
    }

    /// The task tells it without building this program; `UPDATE_EXPECT=1` writes it anew.
    #[test]
    fn the_help_is_what_the_task_tells() {
        let help = e2e::document::help(Args::command());
        expect_file!["../../../../hack/src/bench/noise.txt"].assert_eq(&help);
    }
}
