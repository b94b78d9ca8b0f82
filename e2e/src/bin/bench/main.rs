//! The load program: how fast and how small Sublet is, beside the same work straight in the super cluster.
//!
//! It starts plain API servers and a syncer, or takes what kubeconfigs lead to, makes pods, plays scheduler and kubelet,
//! and watches both sides: one process, so there is one clock. What is measured is what everybody sees: the arrival of
//! watch events, with their way through the API servers and this program's own decoding.

mod figures;
mod load;
mod node;
mod plant;
mod player;
mod pod;
mod pods;
mod release;
mod report;
mod requests;
mod scenario;
mod sim;
mod times;
mod world;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use e2e::{
    bench::{
        chart, machine, numbers,
        others::{self, Others, With},
        results,
    },
    document,
};
use pod::Tokens;
use scenario::{Extent, RELEASE, Scenario, Step};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use world::Given;

/// Measures Sublet, or another syncer, and prints one JSON document.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench",
    after_help = "Instead of scenarios the first word may be:\n  \
                  all    all that a release is measured by, as --all\n  \
                  chart  the chart and the table of docs/bench, drawn anew\n  \
                  proxy  the proxy of the running super cluster; `bench proxy --help`\n  \
                  noise  what a noisy tenant costs another one there; `bench noise --help`\n  \
                  control-plane  what an idle tenant's control plane holds; `bench control-plane --help`\n  \
                  dns    the DNS server that tenants share; `bench dns --help`\n\nExamples:\n  cargo xtask bench burst --tokens both --rounds 3\n  \
                  cargo xtask bench steady fair restart idle\n  \
                  cargo xtask bench idle --simulated 500\n  \
                  cargo xtask bench ceiling reads handover --rounds 3\n  \
                  cargo xtask bench all --save                   what a release keeps, in hours\n  \
                  cargo xtask bench chart                        the chart of what is kept\n  \
                  cargo xtask bench steady --super-kubeconfig super.conf --tenant-kubeconfig a.conf --syncer-pid 4711"
)]
struct Args {
    /// What to measure
    #[arg(value_enum, required_unless_present_any = ["from", "all", "redraw"])]
    scenarios: Vec<Scenario>,
    /// Measure all that a release is measured by
    #[arg(long, conflicts_with_all = ["scenarios", "tokens", "simulated", "super_kubeconfig"])]
    all: bool,
    /// Keep what was measured in docs/bench, as soon as each scenario has ended, and draw chart and table anew
    #[arg(long, conflicts_with = "super_kubeconfig")]
    save: bool,
    /// Measure nothing: draw chart and table in docs/bench anew
    #[arg(long, conflicts_with_all = ["scenarios", "all", "save"])]
    redraw: bool,
    /// Pods without a token, default pods, or first the one and then the other
    #[arg(long, value_enum, default_value = "off")]
    tokens: Kinds,
    /// How often; the table shows medians [default: 1, with --all or --save 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: Option<u32>,
    /// Tenants that are started
    #[arg(long, default_value_t = release::TENANTS, value_parser = clap::value_parser!(u32).range(1..=60))]
    tenants: u32,
    /// Pods of each tenant in `burst`
    #[arg(long, default_value_t = release::BURST_PODS)]
    burst_pods: usize,
    /// Pods of all tenants in `steady`
    #[arg(long, default_value_t = release::STEADY_PODS)]
    steady_pods: usize,
    /// Pods a second in `steady`
    #[arg(long, default_value_t = release::RATE, value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: u32,
    /// Objects in `restart`; pods in `ceiling` and `reads`
    #[arg(long, default_value_t = release::OBJECTS)]
    objects: usize,
    /// So many tenants in `idle`, all of them simulated
    #[arg(long, value_name = "TENANTS", value_parser = clap::value_parser!(u32).range(1..=1000))]
    simulated: Option<u32>,
    /// A super cluster that is there, by its admin's kubeconfig; with --tenant-kubeconfig
    #[arg(long, value_name = "PATH", requires = "tenant_kubeconfig")]
    super_kubeconfig: Option<PathBuf>,
    /// A tenant that is there, by its admin's kubeconfig; may be given again
    #[arg(long, value_name = "PATH", requires = "super_kubeconfig")]
    tenant_kubeconfig: Vec<PathBuf>,
    /// Process of the syncer of such tenants, if it runs on this machine
    #[arg(long, value_name = "PID", requires = "super_kubeconfig")]
    syncer_pid: Option<u32>,
    /// Where the document goes as well
    #[arg(long, value_name = "PATH", default_value = "target/bench/latest.json")]
    out: PathBuf,
    /// Measure nothing: take a document that is there
    #[arg(long, value_name = "PATH", conflicts_with = "scenarios")]
    from: Option<PathBuf>,
    /// Draw a chart of the document as SVG
    #[arg(long, value_name = "PATH")]
    chart: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kinds {
    Off,
    On,
    Both,
}

impl Args {
    fn rounds(&self) -> u32 {
        let usual = if self.all || self.save {
            results::ROUNDS
        } else {
            1
        };
        self.rounds.unwrap_or(usual)
    }

    fn extent(&self) -> anyhow::Result<Extent> {
        let given = self.super_kubeconfig.clone().map(|above| Given {
            above,
            tenants: self.tenant_kubeconfig.clone(),
            syncer: self.syncer_pid,
        });
        Ok(Extent {
            tenants: match &given {
                Some(given) => given.tenants.len(),
                None => usize::try_from(self.tenants)?,
            },
            rounds: usize::try_from(self.rounds())?,
            burst_pods: self.burst_pods,
            steady_pods: self.steady_pods,
            rate: self.rate,
            objects: self.objects,
            given,
        })
    }

    /// What is measured, one after the other.
    fn steps(&self) -> anyhow::Result<Vec<Step>> {
        if self.all {
            return Ok(RELEASE.to_vec());
        }
        let kinds: &[Tokens] = match self.tokens {
            Kinds::Off => &[Tokens::Off],
            Kinds::On => &[Tokens::On],
            Kinds::Both => &[Tokens::Off, Tokens::On],
        };
        let simulated = self.simulated.map(usize::try_from).transpose()?;
        let step = |scenario: Scenario| {
            let simulated = simulated.filter(|_| scenario == Scenario::Idle);
            kinds.iter().map(move |tokens| Step {
                scenario,
                tokens: *tokens,
                simulated,
            })
        };
        Ok(self.scenarios.iter().copied().flat_map(step).collect())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.redraw {
        return results::redraw(Path::new(""));
    }
    let document = match &args.from {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path)?)
            .with_context(|| format!("reading {}", path.display()))?,
        None => measured(&args).await?,
    };
    if let Some(path) = &args.chart {
        document::write(path, &chart::draw(&document))?;
    }
    if args.from.is_some() {
        return Ok(());
    }
    document::hand_out(&args.out, &document)?;
    if args.save {
        for one in document["measured"].as_array().into_iter().flatten() {
            others::judge(one)?;
        }
    }
    Ok(())
}

/// Measures all that is asked for.
async fn measured(args: &Args) -> anyhow::Result<Value> {
    let (extent, steps) = (args.extent()?, args.steps()?);
    if args.save {
        results::judge_rounds(args.rounds())?;
        for step in &steps {
            release::judge(step, &extent)?;
        }
    }
    let machine = machine::describe()?;
    let origin = args
        .save
        .then(|| results::origin(Path::new(""), &machine))
        .transpose()?;
    let mut measured = vec![];
    for step in steps {
        let others = Others::watch(With::Nothing)?;
        let mut one = step
            .measure(&extent)
            .await
            .with_context(|| format!("{:?} with tokens {}", step.scenario, step.tokens.name()))?;
        // What is there already works beside this program, and nobody knows for whom.
        if extent.given.is_none() {
            one[others::FIELD] = numbers::round(others.share()?).into();
        }
        eprintln!("{}", report::table(&one));
        if let Some(origin) = &origin {
            match others::judge(&one) {
                Ok(()) => results::keep(Path::new(""), origin, &one)?,
                Err(why) => eprintln!("{why}"),
            }
        }
        measured.push(one);
    }
    Ok(json!({"machine": machine, "measured": measured}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use expect_test::expect_file;

    #[test]
    fn what_is_kept_is_measured_three_times_unless_another_number_is_given() {
        let rounds = |words: &[&str]| {
            let words = ["bench", "burst"].iter().chain(words);
            Args::parse_from(words).rounds()
        };
        assert_eq!(
            [
                rounds(&[]),
                rounds(&["--save"]),
                rounds(&["--save", "--rounds", "5"])
            ],
            [1, 3, 5]
        );
    }

    /// The task tells it without building this program; `UPDATE_EXPECT=1` writes it anew.
    #[test]
    fn the_help_is_what_the_task_tells() {
        let help = e2e::document::help(Args::command());
        expect_file!["../../../../hack/src/bench/bench.txt"].assert_eq(&help);
    }
}
