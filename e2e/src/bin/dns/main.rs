//! The DNS server that tenants share: memory of a tenant, answers a second, and how long they take.
//!
//! `cargo xtask bench dns` runs it. Server and clients are a program of the proxy's own crate, so that what is measured is the
//! proxy's code as a release holds it.

use anyhow::{Context, ensure};
use clap::Parser;
use e2e::bench::{keeper::Keeper, numbers, others::With};
use serde_json::{Value, json};
use std::{path::PathBuf, process::Command};

/// Its name among the results that are kept.
const SCENARIO: &str = "dns";

/// Measures the shared DNS server: memory of a tenant, answers a second, and how long they take.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench dns",
    after_help = "Examples:\n  cargo xtask bench dns --tenants 500 --services 40\n  \
                  cargo xtask bench dns --rounds 3 --save        what a release keeps in docs/bench"
)]
struct Args {
    /// Tenants; each has a socket of its own
    #[arg(long, default_value_t = 500)]
    tenants: u16,
    /// Services of each with four endpoints, every other one headless
    #[arg(long, default_value_t = 40)]
    services: usize,
    /// Questions that are open at once
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Seconds in which questions are asked
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How often all is done; medians are told
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Keep what was measured in docs/bench, and draw chart and table anew
    #[arg(long, conflicts_with_all = ["tenants", "services", "clients", "seconds"])]
    save: bool,
    /// Where the document goes as well
    #[arg(long, value_name = "PATH", default_value = "target/bench/dns.json")]
    out: PathBuf,
    /// The program with server and clients
    #[arg(long, hide = true, env = "SUBLET_DNS_LOAD")]
    load: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let begin = || Keeper::begin(With::Nothing, args.rounds);
    let keeper = args.save.then(begin).transpose()?;
    let mut rounds = vec![];
    for _ in 0..args.rounds {
        rounds.push(round(&args)?);
    }
    let median = numbers::median(&rounds);
    eprintln!("{}", told(&args, &median));
    let figures = json!({"median": median, "rounds": rounds});
    e2e::document::hand_out(&args.out, &figures)?;
    match keeper {
        Some(keeper) => keeper.keep(vec![(SCENARIO, args.tenants.into(), figures)]),
        None => Ok(()),
    }
}

fn round(args: &Args) -> anyhow::Result<Value> {
    let flags = [
        ("--tenants", args.tenants.to_string()),
        ("--services", args.services.to_string()),
        ("--clients", args.clients.to_string()),
        ("--seconds", args.seconds.to_string()),
    ];
    let mut load = Command::new(&args.load);
    for (flag, value) in flags {
        load.args([flag, &value]);
    }
    let done = load
        .output()
        .with_context(|| format!("starting {}", args.load.display()))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{}", said.trim());
    serde_json::from_slice(&done.stdout).context("reading what was measured")
}

fn told(args: &Args, median: &Value) -> String {
    let times = &median["milliseconds"];
    format!(
        "{} tenants with {} Services each: {} KiB of memory per tenant\n\
         {} answers a second with {} open at once; median {} ms, p99 {} ms; {} wrong of {}",
        args.tenants,
        args.services,
        median["memoryKiBPerTenant"],
        median["answersPerSecond"],
        args.clients,
        times["p50"],
        times["p99"],
        median["wrong"],
        median["answers"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use e2e::bench::{results, table};
    use expect_test::expect_file;

    /// What the program with server and clients prints; its own test holds it to these names.
    const FIGURES: &str = include_str!("figures.json");

    #[test]
    fn every_figure_that_is_told_and_kept_is_one_that_is_measured() {
        let median: Value = serde_json::from_str(FIGURES).unwrap();
        let args = Args::parse_from(["dns", "--load", "x"]);
        let text = told(&args, &median);
        assert!(!text.contains("null"), "{text}");
        let one = json!({"scenario": SCENARIO, "tokens": "on", "figures": {"median": median}});
        let page = table::draw(&results::with(json!({}), one));
        let rows = page.lines().filter(|line| line.starts_with("| dns: "));
        let measured: Vec<&str> = rows.filter(|row| !row.contains("not measured")).collect();
        assert_eq!(measured.len(), 4, "{page}");
    }

    /// The task tells it without building this program; `UPDATE_EXPECT=1` writes it anew.
    #[test]
    fn the_help_is_what_the_task_tells() {
        let help = e2e::document::help(Args::command());
        expect_file!["../../../../hack/src/bench/dns.txt"].assert_eq(&help);
    }
}
