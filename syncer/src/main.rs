//! `sublet-syncer`: copies what must run into the super cluster and mirrors status back.

use clap::Parser;

/// In the bench's `ceiling` a pod costs 1.45 ms of CPU time with glibc's allocator, 1.15 ms with mimalloc and 0.9 ms with
/// jemalloc, and the process then takes 112, 73 and 43 MiB: threads of glibc wait for each other's arenas.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    // Exactly one provider is compiled in; installing it first makes that explicit.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    syncer::args::Args::parse().run().await
}
