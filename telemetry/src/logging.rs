//! Log lines, written to standard error.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Plain,
    /// One JSON object per line.
    Json,
}

/// The flags about logging.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,

    /// What is logged, such as `info` or `info,kube_client=debug`
    #[arg(
        long,
        value_name = "FILTER",
        env = "SUBLET_LOG",
        default_value = "info,kube_runtime=warn,kube_client=off"
    )]
    log: String,
}

impl LogArgs {
    /// Starts logging as the flags say. To be called once.
    pub fn start(&self) -> Result<(), InvalidFilter> {
        start_logging(self.log_format, &self.log)
    }
}

/// The text says nothing that could be logged.
#[derive(Debug, thiserror::Error)]
#[error("{filter:?} is no log filter such as `info` or `info,manager=debug`: {source}")]
pub struct InvalidFilter {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

fn start_logging(format: LogFormat, filter: &str) -> Result<(), InvalidFilter> {
    let filter = EnvFilter::try_new(filter).map_err(|source| InvalidFilter {
        filter: filter.to_owned(),
        source,
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Plain => subscriber.init(),
        LogFormat::Json => subscriber.with_target(false).json().init(),
    }
    Ok(())
}
