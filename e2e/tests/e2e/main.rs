//! Tests against a real super cluster; `cargo xtask test` prepares it and runs them.
#![allow(clippy::too_many_lines, reason = "a test tells one story")]

mod capi;
mod cli;
mod control_plane;
mod crds;
mod faults;
mod install;
mod isolation;
mod kubectl;
mod lifecycle;
mod logins;
mod operators;
mod pods;
mod proxy;
mod rules;
mod sync;
