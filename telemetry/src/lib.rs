//! What every daemon tells about itself: log lines, `/livez`, `/readyz` and `/metrics`.
//!
//! What is counted stays with the daemon that counts it; this crate only shows it.

mod logging;

mod page;

pub use logging::{InvalidFilter, LogArgs, LogFormat, start_logging};
pub use page::{Page, serve};
