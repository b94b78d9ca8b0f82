//! `sublet-syncer`: copies what must run into the super cluster and mirrors status back.

use clap::Parser;
use std::process::ExitCode;

/// In the bench's `ceiling` a pod costs 1.45 ms of CPU time with glibc's allocator, 1.15 ms with mimalloc and 0.9 ms with
/// jemalloc, and the process then takes 112, 73 and 43 MiB: threads of glibc wait for each other's arenas.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One thread: what is handed from one to another costs more than a second one adds. In the same bench a pod costs 0.57 ms
/// with two and 0.48 ms with one, which is some 2,000 pods a second; where that isn't enough, there are more syncers.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Exactly one provider is compiled in; installing it first makes that explicit.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    telemetry::end(syncer::args::Args::parse().run().await)
}
