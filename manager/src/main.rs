//! Entry point of `sublet-manager`.

use clap::Parser;

/// One thread: passes wait for API servers, and each thread more has an arena of memory of its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // Exactly one TLS provider is compiled in; it must be chosen before the first handshake.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was already installed"))?;
    manager::args::Args::parse().run().await
}
