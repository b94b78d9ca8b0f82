//! What every daemon tells about itself: log lines, `/livez`, `/readyz` and `/metrics`.
//!
//! What is counted stays with the daemon that counts it; this crate only shows it. What every daemon does at its start is
//! here as well.

mod logging;

mod page;
mod text;

mod files;
mod start;

pub use files::raise_file_limit;
pub use logging::{InvalidFilter, LogArgs, LogFormat};
pub use page::{Page, serve};
pub use start::{ConfigError, asked_to_end, config, end, with_causes};
pub use text::{Gauges, Labels, text};
