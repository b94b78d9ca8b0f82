//! Measures the DNS server of all tenants: memory of a tenant, answers a second, and how long they take, as JSON.

use apiserver_proxy::dns_load::{Plan, run};
use clap::Parser;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let figures = run(Plan::parse()).await?;
    println!("{}", figures.told());
    Ok(())
}
