//! `sublet`: the command line of a super cluster's admin; under the name `kubectl-sublet` a plugin of kubectl.
//!
//! Every command reads like a kubectl command: it works on the current context, prints a table or `-o json|yaml|name`,
//! and fails with one line on stderr that says what to do next. [`args`] holds the flags, [`command`] one file for each
//! command; the other modules are what commands share, pure where they can be.

// These end the process when nobody reads on.
#![warn(clippy::print_stdout, clippy::print_stderr)]

/// `eprintln!` that goes on when nobody reads, as in `… 2>&1 | head`.
macro_rules! tell {
    ($($text:tt)*) => { $crate::output::tell(format_args!($($text)*)) };
}

mod args;
mod command;

mod cluster;
mod proxy;
mod tenant;
mod waiting;
mod watch;

mod discovery;
mod helm;
mod image;
mod kubeconfig;
mod manifest;
mod object_ref;
mod paging;
mod rollout;

mod age;
mod certificate;
mod condition;
mod event;
mod identity;
mod lag;
mod leader;
mod name;
mod owner;
mod pod;
mod quota;

mod ask;
mod error;
mod interrupt;
mod output;
mod progress;
mod shell;
mod slow;
mod style;
mod table;

#[cfg(test)]
mod pages;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The one TLS provider; a second call can only find the same one in place.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (args, program) = args::parse(std::env::args_os());
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(err) => return error::report(&anyhow::Error::new(err).context("can't start")),
    };
    let result = runtime.block_on(interrupt::wholly(command::run(args, program)));
    // A thread that still reads stdin must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(err) => error::report(&err),
    }
}
