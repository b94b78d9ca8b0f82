//! Tries what reads bytes of unknown callers with millions of bent inputs; an input that breaks a rule ends it with the
//! seed that makes it again.

use apiserver_proxy::fuzz::{Random, TARGETS};
use clap::Parser;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Duration,
};
use tokio::time::Instant;

/// Fuzzes the proxy's parsers.
#[derive(Parser)]
struct Args {
    /// How long each target is tried
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The first seed; each input has one of its own, counted up from here
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Targets by name; all when none is given
    targets: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let chosen = TARGETS
        .iter()
        .filter(|(name, _)| args.targets.is_empty() || args.targets.iter().any(|t| t == name));
    for (name, target) in chosen {
        let end = Instant::now() + Duration::from_secs_f64(args.minutes * 60.0);
        let mut seed = args.seed;
        while Instant::now() < end {
            for _ in 0..1000 {
                // Seeds that are close to each other must not give inputs that are.
                let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let tried = catch_unwind(AssertUnwindSafe(|| target(&mut random)));
                if tried.is_err() {
                    eprintln!("{name}: seed {seed} breaks a rule: --seed {seed} {name}");
                    return ExitCode::FAILURE;
                }
                seed = seed.wrapping_add(1);
            }
        }
        println!(
            "{name}: {} inputs, no finding",
            seed.wrapping_sub(args.seed)
        );
    }
    ExitCode::SUCCESS
}
