//! `sublet-apiserver-proxy`: front door, kubelet of the virtual nodes, way out.

use clap::Parser;
use std::process::ExitCode;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    // Exactly one provider is compiled in; installing it first makes that explicit.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    telemetry::end(apiserver_proxy::args::Args::parse().run().await)
}
