//! Entry point of `sublet-manager`.

use clap::Parser;
use std::process::ExitCode;

/// One thread: passes wait for API servers, and each thread more has an arena of memory of its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Exactly one provider is compiled in; installing it first makes that explicit.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    telemetry::end(manager::args::Args::parse().run().await)
}
