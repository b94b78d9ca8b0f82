//! Tries what reads the words of tenants and of unknown callers with millions of bent inputs; an input that breaks a rule ends
//! it with the seed that makes it again.

use apiserver_proxy::fuzz::TARGETS;
use clap::Parser;
use std::{
    panic,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};
use tenancy::fuzz::{Random, TARGETS as RULES};
use tokio::time::Instant;

/// What is tried just now, for whoever reads of a finding. A release ends at a panic, so that nobody could catch it.
static TARGET: AtomicUsize = AtomicUsize::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);

/// Fuzzes what reads the words of tenants and of unknown callers.
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

fn main() {
    let args = Args::parse();
    let all: Vec<_> = TARGETS.into_iter().chain(RULES).collect();
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = args
        .targets
        .iter()
        .find(|target| !names.contains(&target.as_str()))
    {
        eprintln!("error: there is no target {unknown}: {}", names.join(", "));
        std::process::exit(2);
    }
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |found| {
        usual(found);
        let name = names[TARGET.load(Ordering::Relaxed)];
        let seed = SEED.load(Ordering::Relaxed);
        eprintln!("{name}: seed {seed} breaks a rule: --seed {seed} {name}");
    }));
    let chosen =
        |name: &str| args.targets.is_empty() || args.targets.iter().any(|target| target == name);
    for (number, (name, target)) in all.iter().enumerate() {
        if !chosen(name) {
            continue;
        }
        TARGET.store(number, Ordering::Relaxed);
        let end = Instant::now() + Duration::from_secs_f64(args.minutes * 60.0);
        let mut seed = args.seed;
        while Instant::now() < end {
            for _ in 0..1000 {
                SEED.store(seed, Ordering::Relaxed);
                // Seeds that are close to each other must not give inputs that are.
                target(&mut Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                seed = seed.wrapping_add(1);
            }
        }
        println!(
            "{name}: {} inputs, no finding",
            seed.wrapping_sub(args.seed)
        );
    }
}
