//! Measures the DNS server of all tenants: memory of a tenant, answers a second, and how long they take.

use apiserver_proxy::dns_load::{Plan, run};
use clap::Parser;
use std::time::Duration;

/// Measures the shared DNS server.
#[derive(Parser)]
struct Args {
    /// Tenants
    #[arg(long, default_value_t = 500)]
    tenants: u16,
    /// Services of each, with four endpoints
    #[arg(long, default_value_t = 40)]
    services: usize,
    /// Questions that are open at once
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// How long questions are asked
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let Args {
        tenants,
        services,
        clients,
        seconds,
    } = Args::parse();
    let plan = Plan {
        tenants,
        services,
        clients,
        time: Duration::from_secs_f64(seconds),
    };
    let figures = run(plan).await?;
    println!(
        "{tenants} tenants with {services} Services each: {:.1} KiB of memory per tenant",
        figures.memory_per_tenant as f64 / 1024.0
    );
    println!(
        "{:.0} answers a second with {clients} open at once; median {:.3} ms, p99 {:.3} ms; {} wrong of {}",
        figures.per_second,
        figures.median * 1000.0,
        figures.p99 * 1000.0,
        figures.wrong,
        figures.answered
    );
    Ok(())
}
