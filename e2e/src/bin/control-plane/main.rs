//! What an idle tenant's control plane holds of memory and uses of the processors, part by part, on a running super cluster
//! with Sublet: with the images, flags and variables that the manager gives it.
//!
//! `cargo xtask bench control-plane` runs it, as root, since it reads of other users' processes.

mod parts;

use clap::Parser;
use e2e::{
    bench::{keeper::Keeper, numbers, others::With},
    tenant::Tenant,
};
use parts::Parts;
use serde_json::{Value, json};
use std::{fmt::Write, path::PathBuf, time::Duration};

/// Its name among the results that are kept.
const SCENARIO: &str = "control-plane";
/// The tenant that is made for it.
const TENANT: &str = "bench-idle";
/// How far looks at the memory are apart: it rises until the garbage is collected.
const GLANCE: Duration = Duration::from_secs(5);

/// Measures the control plane of a tenant that does nothing, and prints a table and one JSON document.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench control-plane",
    after_help = "Examples:\n  cargo xtask bench control-plane\n  \
                  cargo xtask bench control-plane --rounds 3 --save   what a release keeps in docs/bench"
)]
struct Args {
    /// How long the new tenant is left alone first, in seconds
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(0..=3600))]
    settle: u64,
    /// How long is looked, in seconds
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(10..=3600))]
    seconds: u64,
    /// How often all is done, each time with a new tenant; medians are told
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Keep what was measured in docs/bench, and draw chart and table anew
    #[arg(long, conflicts_with_all = ["settle", "seconds"])]
    save: bool,
    /// Where the document goes as well
    #[arg(
        long,
        value_name = "PATH",
        default_value = "target/bench/control-plane.json"
    )]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let begin = || Keeper::begin(With::Cluster, args.rounds);
    let keeper = args.save.then(begin).transpose()?;
    let mut rounds = vec![];
    for _ in 0..args.rounds {
        rounds.push(round(&args).await?);
    }
    let median = numbers::median(&rounds);
    eprintln!("{}", table(&median));
    let figures = json!({"median": median, "rounds": rounds});
    e2e::document::hand_out(&args.out, &figures)?;
    match keeper {
        Some(keeper) => keeper.keep(vec![(SCENARIO, 1, figures)]),
        None => Ok(()),
    }
}

/// The medians over many looks at a new tenant, which goes whatever happens.
async fn round(args: &Args) -> anyhow::Result<Value> {
    let mut figures = Value::Null;
    Tenant::within(TENANT, json!({}), async |tenant| {
        tokio::time::sleep(Duration::from_secs(args.settle)).await;
        let parts = Parts::of(tenant).await?;
        figures = look(&parts, Duration::from_secs(args.seconds)).await?;
        Ok(())
    })
    .await?;
    Ok(figures)
}

async fn look(parts: &Parts, time: Duration) -> anyhow::Result<Value> {
    let before = parts.cpu()?;
    let began = tokio::time::Instant::now();
    let mut looks = vec![];
    while began.elapsed() < time {
        tokio::time::sleep(GLANCE).await;
        looks.push(parts.pss()?);
    }
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = parts.cpu()?.into_iter().map(|(part, cpu)| {
        let used = cpu.saturating_sub(before[part]).as_secs_f64();
        (part, numbers::round(100.0 * used / elapsed))
    });
    let cpu: serde_json::Map<_, _> = cpu
        .map(|(part, percent)| (part.to_owned(), percent.into()))
        .collect();
    Ok(json!({"pssMiB": numbers::median(&looks), "percentOfACore": cpu}))
}

fn table(median: &Value) -> String {
    let mut text = format!("{:<26} {:>9} {:>12}\n", "part", "PSS, MiB", "% of a core");
    let column = |name: &str| -> Vec<(String, f64)> {
        let parts = median[name].as_object().into_iter().flatten();
        let mut all: Vec<_> = parts
            .filter_map(|(part, figure)| Some((part.clone(), figure.as_f64()?)))
            .collect();
        let sum = all.iter().map(|(_, figure)| figure).sum();
        all.push(("all".into(), sum));
        all
    };
    for ((part, pss), (_, cpu)) in column("pssMiB").into_iter().zip(column("percentOfACore")) {
        let _ = writeln!(text, "{part:<26} {pss:>9.1} {cpu:>12.2}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use e2e::bench::{results, table as kept};
    use expect_test::expect_file;

    #[test]
    fn each_part_has_a_line_and_all_together_one() {
        let shares = |api: f64| json!({"etcd": 30.0, "kube-apiserver": api, "kube-controller-manager": 40.5});
        let median = json!({"pssMiB": shares(150.0), "percentOfACore": shares(2.0)});
        let table = table(&median);
        for line in [
            "kube-apiserver                 150.0         2.00",
            "all                            220.5",
        ] {
            assert!(table.contains(line), "{table}");
        }
    }

    #[test]
    fn the_results_have_a_row_of_each_part_and_of_all() {
        let pss = json!({"etcd": 30, "kube-apiserver": 150, "kube-controller-manager": 40});
        let one =
            json!({"scenario": SCENARIO, "tokens": "on", "figures": {"median": {"pssMiB": pss}}});
        let page = kept::draw(&results::with(json!({}), one));
        let rows = ["| 220 | yes |", "| 150 | – |", "| 30 | – |", "| 40 | – |"];
        for row in rows {
            assert!(page.contains(row), "{page}");
        }
    }

    /// The task tells it without building this program; `UPDATE_EXPECT=1` writes it anew.
    #[test]
    fn the_help_is_what_the_task_tells() {
        let help = e2e::document::help(Args::command());
        expect_file!["../../../../hack/src/bench/control-plane.txt"].assert_eq(&help);
    }
}
