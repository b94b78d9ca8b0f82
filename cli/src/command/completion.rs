//! `sublet completion`: a script that teaches a shell the commands and flags.

use crate::{
    args::{self, Program},
    output,
};
use anyhow::Result;
use std::process::ExitCode;

/// Flags of `sublet completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

const EXAMPLES: &str = "\
Examples:
  sublet completion bash > /etc/bash_completion.d/sublet
  sublet completion zsh > \"${fpath[1]}/_sublet\"
  sublet completion fish > ~/.config/fish/completions/sublet.fish";

/// Prints the script.
pub(crate) fn run(args: &Args, program: Program) -> Result<ExitCode> {
    let name = match program {
        Program::Sublet => "sublet",
        // kubectl completes its plugins by another program of its own; this is for the plugin called directly.
        Program::Plugin => "kubectl-sublet",
    };
    let mut script = vec![];
    clap_complete::generate(
        args.shell,
        &mut args::command(Program::Sublet),
        name,
        &mut script,
    );
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
