//! The commands, one file each, and which of them runs.

mod attach;
mod breaker;
mod certs;
mod class;
mod completion;
mod connect;
mod create;
mod delete;
mod describe;
mod doctor;
mod events;
mod explain;
mod install;
mod kubeconfig;
mod list;
mod pause;
mod sleep;
mod snapshot;
mod top;
mod uninstall;
mod upgrade;
mod version;
mod whose;

use crate::{
    args::{Args, Global, Program},
    cluster::Cluster,
    error, identity,
};
use anyhow::Result;
use std::process::ExitCode;

/// The commands, in the order of the help.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Put Sublet into the super cluster, or bring it up to this version
    Install(install::Args),
    /// Take Sublet out of the super cluster
    Uninstall(uninstall::Args),
    /// Make a tenant and wait until it works
    Create(create::Args),
    /// Take an existing API server as a tenant, or give it another kubeconfig
    Attach(attach::Args),
    /// Delete tenants with all that they run
    #[command(aliases = ["rm", "remove", "destroy"])]
    Delete(delete::Args),
    /// List tenants
    #[command(visible_alias = "ls", aliases = ["get", "status"])]
    List(list::Args),
    /// Show everything about one tenant
    Describe(describe::Args),
    /// Print a tenant's kubeconfig, write it to a file, or merge it into yours
    Kubeconfig(kubeconfig::Args),
    /// Run a command, or a shell, against a tenant
    #[command(aliases = ["shell", "exec"])]
    Connect(connect::Args),
    /// Give a tenant another Kubernetes version
    Upgrade(upgrade::Args),
    /// Stop managing and syncing a tenant; its API and its pods keep running
    Pause(pause::Pause),
    /// End a pause
    Resume(pause::Resume),
    /// Let a tenant's control plane sleep; what the tenant runs goes on
    Sleep(sleep::ToSleep),
    /// Wake a tenant's control plane
    Wake(sleep::Wake),
    /// Make, list, restore and delete snapshots of a tenant's etcd
    #[command(subcommand, after_help = snapshot::EXAMPLES)]
    Snapshot(snapshot::Command),
    /// Show what tenants use of CPU and memory
    Top(top::Args),
    /// Show what happened to a tenant
    Events(events::Args),
    /// Say which tenant object a super-cluster object belongs to
    Whose(whose::Args),
    /// Say where a tenant's object is on both sides, and why it isn't synced
    Explain(explain::Args),
    /// Check that Sublet and its tenants are well
    Doctor(doctor::Args),
    /// Say what deletions are held for a tenant, and release them
    #[command(subcommand, after_help = breaker::EXAMPLES)]
    Breaker(breaker::Command),
    /// Say until when a tenant's certificates are good, and renew them
    #[command(subcommand, after_help = certs::EXAMPLES)]
    Certs(certs::Command),
    /// Show ControlPlaneClasses
    #[command(subcommand, after_help = class::EXAMPLES)]
    Class(class::Command),
    /// Print a completion script for a shell
    Completion(completion::Args),
    /// Print versions of this program, the cluster and Sublet's daemons
    Version(version::Args),
}

/// Runs the command that `args` holds.
pub(crate) async fn run(args: Args, program: Program) -> Result<ExitCode> {
    let Args { global, command } = args;
    if global.namespace.is_some()
        && let Some(why) = without_namespace(&command)
    {
        return Err(error::usage(format!("{why}: leave out -n")));
    }
    match command {
        Command::Completion(args) => completion::run(&args, program),
        Command::Install(args) if args.dry_run => install::print(&args),
        Command::Create(args) if args.dry_run => create::print(&args, &global),
        Command::Version(args) => version::run(&args, &global, program).await,
        Command::Doctor(args) => doctor::run(&args, &global, program).await,
        other => on_cluster(&global, program, other).await,
    }
}

impl Command {
    /// The names of tenants that the command looks up; each may be an identity.
    pub(crate) fn tenants(&mut self) -> Vec<&mut String> {
        match self {
            Self::Delete(args) => args.names.iter_mut().collect(),
            Self::List(args) => args.names.iter_mut().collect(),
            Self::Describe(args) => args.names.iter_mut().collect(),
            Self::Kubeconfig(args) => vec![&mut args.name],
            Self::Connect(args) => vec![&mut args.name],
            Self::Upgrade(args) => vec![&mut args.name],
            Self::Pause(args) => vec![&mut args.name],
            Self::Resume(args) => vec![&mut args.name],
            Self::Sleep(args) => vec![&mut args.name],
            Self::Wake(args) => vec![&mut args.name],
            Self::Top(args) => args.names.iter_mut().collect(),
            Self::Events(args) => vec![&mut args.name],
            Self::Explain(args) => vec![&mut args.name],
            Self::Breaker(breaker::Command::Show(args)) => vec![&mut args.name],
            Self::Breaker(breaker::Command::Release(args)) => vec![&mut args.name],
            Self::Certs(certs::Command::Check(args)) => args.names.iter_mut().collect(),
            Self::Certs(certs::Command::Rotate(args)) => vec![&mut args.name],
            Self::Snapshot(command) => vec![command.tenant()],
            // Of no tenant, or of one whose name is given here.
            _ => vec![],
        }
    }
}

/// Why a command is of no namespace; `None` for one that is.
fn without_namespace(command: &Command) -> Option<String> {
    let fixed = |name: &str| {
        let namespace = api::SYSTEM_NAMESPACE;
        Some(format!("`{name}` always uses the namespace {namespace}"))
    };
    match command {
        Command::Install(_) => fixed("install"),
        Command::Uninstall(_) => fixed("uninstall"),
        Command::Class(_) => Some("classes have no namespace".to_owned()),
        Command::Completion(_) => Some("`completion` asks no cluster".to_owned()),
        _ => None,
    }
}

/// The commands that need the super cluster before anything else.
async fn on_cluster(global: &Global, program: Program, mut command: Command) -> Result<ExitCode> {
    let mut cluster = Cluster::connect(global, program).await?;
    let resolved = identity::resolve(&mut cluster, command.tenants()).await;
    resolved.map_err(|err| cluster.clear(err))?;
    let result = match command {
        Command::Install(args) => install::run(&args, &cluster).await,
        Command::Uninstall(args) => uninstall::run(&args, &cluster).await,
        Command::Create(args) => create::run(&args, &cluster).await,
        Command::Delete(args) => delete::run(&args, &cluster).await,
        Command::List(args) => list::run(&args, &cluster).await,
        Command::Describe(args) => describe::run(&args, &cluster).await,
        Command::Kubeconfig(args) => kubeconfig::run(&args, &cluster).await,
        Command::Connect(args) => {
            return connect::run(&args, &cluster)
                .await
                .map_err(|err| cluster.clear(err));
        }
        Command::Upgrade(args) => upgrade::run(&args, &cluster).await,
        Command::Pause(args) => pause::pause(&args, &cluster).await,
        Command::Resume(args) => pause::resume(&args, &cluster).await,
        Command::Sleep(args) => sleep::sleep(&args, &cluster).await,
        Command::Wake(args) => sleep::wake(&args, &cluster).await,
        Command::Snapshot(command) => snapshot::run(&command, &cluster).await,
        Command::Top(args) => top::run(&args, &cluster).await,
        Command::Events(args) => events::run(&args, &cluster).await,
        Command::Whose(args) => whose::run(&args, &cluster).await,
        Command::Explain(args) => explain::run(&args, &cluster).await,
        Command::Attach(args) => attach::run(&args, &cluster).await,
        Command::Breaker(command) => breaker::run(&command, &cluster).await,
        Command::Certs(command) => certs::run(&command, &cluster).await,
        Command::Class(command) => class::run(&command, &cluster).await,
        Command::Completion(_) | Command::Version(_) | Command::Doctor(_) => Ok(()),
    };
    result
        .map(|()| ExitCode::SUCCESS)
        .map_err(|err| cluster.clear(err))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_namespace_is_refused_where_it_would_be_ignored() {
        let why = |line: &str| {
            let args = Args::try_parse_from(line.split_whitespace()).unwrap();
            without_namespace(&args.command)
        };
        assert_eq!(
            why("sublet install -n x").as_deref(),
            Some("`install` always uses the namespace sublet-system")
        );
        assert!(why("sublet class list -n x").is_some());
        assert_eq!(why("sublet list -n x"), None);
        assert_eq!(why("sublet doctor -n x"), None);
    }
}
