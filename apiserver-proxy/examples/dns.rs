//! Measures the DNS server of all tenants: memory of a tenant, answers a second, and how long they take.

use apiserver_proxy::dns_load::{Plan, run};
use clap::Parser;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let plan = Plan::parse();
    let figures = run(plan).await?;
    println!(
        "{} tenants with {} Services each: {:.1} KiB of memory per tenant",
        plan.tenants,
        plan.services,
        figures.memory_per_tenant as f64 / 1024.0
    );
    println!(
        "{:.0} answers a second with {} open at once; median {:.3} ms, p99 {:.3} ms; {} wrong of {}",
        figures.per_second,
        plan.clients,
        figures.median * 1000.0,
        figures.p99 * 1000.0,
        figures.wrong,
        figures.answered
    );
    Ok(())
}
