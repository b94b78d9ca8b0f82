//! `sublet-syncer`: copies what must run into the super cluster and mirrors status back.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    // Exactly one provider is compiled in; installing it first makes that explicit.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    syncer::args::Args::parse().run().await
}
