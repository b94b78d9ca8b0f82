//! Tests against a real super cluster; `cargo xtask test` prepares it and runs them.

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
