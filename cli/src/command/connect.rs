//! `sublet connect`: a command or a shell that talks to a tenant, through a kubeconfig that is gone afterwards.

mod child;
mod temporary;

use crate::{cluster::Cluster, error, kubeconfig, output, tenant};
use anyhow::Result;
use std::{ffi::OsString, io::IsTerminal, process::ExitCode};

/// Flags of `sublet connect`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// The command; $SHELL when left out
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  sublet connect team-a                              a shell in which kubectl talks to the tenant
  sublet connect team-a -- kubectl get pods -A
  sublet connect team-a -- helm list -A";

/// Runs the command and ends as it ends.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<ExitCode> {
    let vcp = tenant::find(cluster, &args.name).await?;
    let access = tenant::access(cluster, &vcp).await?;
    let text = output::yaml(&kubeconfig::named(
        &access,
        &args.name,
        &tenant::mark(cluster, &vcp),
    ))?;
    let (program, rest) = match args.command.split_first() {
        Some((program, rest)) => (program.clone(), rest),
        None => (shell(cluster, &args.name)?, [].as_slice()),
    };
    // Handlers come before the file: no signal may end the process while the file is there.
    let signals = child::Signals::take()?;
    let file = temporary::File::write(&text)?;
    let code = child::run(&program, rest, file.path(), signals).await;
    drop(file);
    code.map(ExitCode::from)
}

fn shell(cluster: &Cluster, name: &str) -> Result<OsString> {
    if !std::io::stdin().is_terminal() {
        let hint = cluster.hint(&format!("connect {name} -- kubectl get pods"));
        return Err(error::usage(format!(
            "there is no terminal for a shell: name a command, as in `{hint}`"
        )));
    }
    tell!("kubectl talks to {name} in this shell; leave it with `exit`.");
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    Ok(shell.unwrap_or_else(|| "/bin/sh".into()))
}
