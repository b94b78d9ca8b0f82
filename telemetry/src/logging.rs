//! Log lines, written to standard error. What is logged can be changed while the daemon runs.

use std::{io::IsTerminal, sync::OnceLock};
use tracing_subscriber::{EnvFilter, reload};

/// How it is changed; set when logging starts.
static CHANGE: OnceLock<Change> = OnceLock::new();

struct Change {
    /// What the flag says.
    flag: String,
    to: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

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
    /// As if the flag said this.
    #[cfg(test)]
    pub(crate) fn of(filter: &str) -> Self {
        Self {
            log_format: LogFormat::Json,
            log: filter.to_owned(),
        }
    }

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
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parse(filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let to: Box<dyn Fn(EnvFilter) -> _ + Send + Sync> = match format {
        LogFormat::Plain => {
            let subscriber = subscriber.with_filter_reloading();
            let handle = subscriber.reload_handle();
            subscriber.init();
            Box::new(move |filter| handle.reload(filter))
        }
        LogFormat::Json => {
            let subscriber = subscriber
                .with_target(false)
                .json()
                // Tasks have one span each, and none within another.
                .with_span_list(false)
                .with_filter_reloading();
            let handle = subscriber.reload_handle();
            subscriber.init();
            Box::new(move |filter| handle.reload(filter))
        }
    };
    let flag = filter.to_owned();
    // It is the first: a second subscriber can't be made.
    let _ = CHANGE.set(Change { flag, to });
    Ok(())
}

/// Logs what `filter` says from now on, or what the flag does when it is empty; returns what that is, or why not.
pub(crate) fn change(filter: &str) -> Result<String, String> {
    let change = CHANGE.get().ok_or("nothing is logged")?;
    let filter = match filter.trim() {
        "" => change.flag.as_str(),
        filter => filter,
    };
    let parsed = parse(filter).map_err(|error| error.to_string())?;
    (change.to)(parsed).map_err(|error| error.to_string())?;
    tracing::info!(filter, "what is logged was changed");
    Ok(filter.to_owned())
}

fn parse(filter: &str) -> Result<EnvFilter, InvalidFilter> {
    EnvFilter::try_new(filter).map_err(|source| InvalidFilter {
        filter: filter.to_owned(),
        source,
    })
}
