//! What the proxy costs, on a running super cluster with Sublet: the front door beside a direct connection, the kubelet of
//! the virtual nodes beside the real one, and what many clients at once cost others.
//!
//! `cargo xtask bench proxy` runs it; with `--local` the front door is measured without a cluster. Figures of a debug build of the daemons say little.

mod connection;
mod door;
mod exec;
mod figure;
mod kubelet;
mod local;
mod site;
mod stream;

use anyhow::bail;
use clap::{Parser, ValueEnum};
use e2e::bench::{keeper::Keeper, others::With};
use figure::Figure;
use serde_json::json;
use site::Site;
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// Measures the proxy, and prints a table and one JSON document.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench proxy",
    after_help = "Examples:\n  cargo xtask bench proxy\n  cargo xtask bench proxy kubelet --rounds 5\n  \
                  cargo xtask bench proxy door --seconds 10\n  \
                  cargo xtask bench proxy door --local\n  \
                  cargo xtask bench proxy --save                 what a release keeps in docs/bench"
)]
struct Args {
    /// What to measure; all when left out
    #[arg(value_enum)]
    planes: Vec<Plane>,
    /// Without a cluster: the front door alone, before a server that this program plays
    #[arg(long, requires = "proxy")]
    local: bool,
    /// With --local: the program of the proxy
    #[arg(long, value_name = "PATH", env = "SUBLET_PROXY")]
    proxy: Option<PathBuf>,
    /// With --local: how long that server works on each request, in microseconds; a kube-apiserver takes several hundred
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 500)]
    work: u64,
    /// How often both ways take turns, so that a busy moment of the machine meets both
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// How long one round of one way lasts at the front door, in seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Connections to the front door that do nothing
    #[arg(long, default_value_t = 5000)]
    idle: usize,
    /// Clients of the front door that never finish their first message
    #[arg(long, default_value_t = 10_000)]
    half_open: usize,
    /// Size of the log that is read, in MB
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=200))]
    log_size: u32,
    /// `exec` sessions at the same time
    #[arg(long, default_value_t = 200)]
    sessions: usize,
    /// Keep what was measured in docs/bench, and draw chart and table anew
    #[arg(long, conflicts_with_all = ["local", "idle", "half_open", "log_size", "sessions"])]
    save: bool,
    /// Where the document goes as well
    #[arg(long, value_name = "PATH", default_value = "target/bench/proxy.json")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Plane {
    /// The front door: throughput, latency, idle and half-open connections
    Door,
    /// The kubelet of the virtual nodes: logs and exec
    Kubelet,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let has = |plane| args.planes.is_empty() || args.planes.contains(&plane);
    if args.local && args.planes != [Plane::Door] {
        bail!("without a cluster only the front door can be measured: `door --local`");
    }
    let begin = || Keeper::begin(With::Cluster, args.rounds);
    let keeper = args.save.then(begin).transpose()?;
    let (mut figures, mut kept): (Vec<Figure>, _) = (vec![], vec![]);
    if has(Plane::Door) {
        let time = Duration::from_secs(args.seconds);
        let crowd = (args.idle, args.half_open);
        let site = match &args.proxy {
            Some(proxy) if args.local => {
                local::start(proxy, Duration::from_micros(args.work)).await?
            }
            _ => Site::cluster().await?,
        };
        let door = door::measure(&site, args.rounds, time, crowd).await?;
        kept.push((door::SCENARIO, site.tenants.len(), figure::kept(&door)));
        figures.extend(door);
    }
    if has(Plane::Kubelet) {
        let size = usize::try_from(args.log_size)? << 20;
        let kubelet = kubelet::measure(args.rounds, size, args.sessions).await?;
        kept.push((kubelet::SCENARIO, 1, figure::kept(&kubelet)));
        figures.extend(kubelet);
    }
    eprintln!("{}", figure::table(&figures));
    let document = json!({
        "measuredAt": SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
        "local": args.local.then_some(json!({"workMicroseconds": args.work})),
        "processors": std::thread::available_parallelism()?.get(),
        "loadAverage": std::fs::read_to_string("/proc/loadavg")?.trim(),
        "figures": figures,
    });
    e2e::document::hand_out(&args.out, &document)?;
    match keeper {
        Some(keeper) => keeper.keep(kept),
        None => Ok(()),
    }
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
        expect_file!["../../../../hack/src/bench/proxy.txt"].assert_eq(&help);
    }
}
