//! What every daemon tells about itself: log lines, `/livez`, `/readyz` and `/metrics`.
//!
//! What is counted stays with the daemon that counts it; this crate only shows it. What every daemon does at its start is
//! here as well.

mod logging;

mod page;
mod text;

mod files;

pub use files::raise_file_limit;
pub use logging::{InvalidFilter, LogArgs, LogFormat};
pub use page::{Page, serve};
pub use text::{Gauges, Labels, text};
