//! `sublet kubeconfig`: a tenant's kubeconfig on standard output, in a file, or merged into one's own.

use crate::{
    cluster::Cluster,
    error,
    kubeconfig::{
        self, Access, Mark, file,
        merge::{self, Foreign},
    },
    output, shell, tenant,
};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Flags of `sublet kubeconfig`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// Write it to a file that only you can read
    #[arg(short, long, value_name = "FILE", conflicts_with = "merge", value_parser = file_name)]
    output: Option<PathBuf>,
    /// Merge it into your kubeconfig, as a context called like the tenant
    #[arg(long)]
    merge: bool,
    /// Name of the context; the tenant's name when left out
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    context_name: Option<String>,
    /// Replace what isn't this tenant's: a context of the same name, or a file with other contexts
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  sublet kubeconfig team-a > team-a.yaml
  sublet kubeconfig team-a -o team-a.yaml
  sublet kubeconfig team-a --merge          then: kubectl --context team-a get pods";

/// A file; a format is none, whose name would become that of a file with credentials.
fn file_name(text: &str) -> Result<PathBuf, String> {
    match text {
        "json" | "yaml" | "name" | "wide" | "table" => Err(format!(
            "that would be a file called {text}: name one such as team-a.yaml; without -o it is printed as YAML"
        )),
        _ => Ok(PathBuf::from(text)),
    }
}

/// Prints, writes or merges.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    let access = tenant::access(cluster, &vcp).await?;
    let mark = tenant::mark(cluster, &vcp);
    let name = args.context_name.as_deref().unwrap_or(&args.name);
    let foreign = if args.force {
        Foreign::Replace
    } else {
        Foreign::Keep
    };
    if args.merge {
        let home = std::env::home_dir();
        let flag = cluster.global.kubeconfig.as_deref();
        let candidates = file::candidates(flag, std::env::var_os("KUBECONFIG"), home);
        let path = merge_into(&candidates, name, &access, &mark, foreign)?;
        return output::print_line(&format!(
            "context {name} is in {}; use it with `kubectl --context {quoted} get pods`",
            path.display(),
            quoted = shell::quoted(name)
        ));
    }
    let text = output::yaml(&kubeconfig::named(&access, name, &mark))?;
    match &args.output {
        None => output::print(&text),
        Some(path) => {
            write(path, &text, &mark, foreign)?;
            output::print_line(&format!(
                "written to {}; use it with `kubectl --kubeconfig {quoted} get pods`",
                path.display(),
                quoted = shell::quoted(&path.display().to_string())
            ))
        }
    }
}

fn merge_into(
    candidates: &[PathBuf],
    name: &str,
    access: &Access,
    mark: &Mark,
    foreign: Foreign,
) -> Result<PathBuf> {
    let holds =
        |path: &Path| file::read(path).is_ok_and(|config| merge::has_context(&config, name));
    let Some(path) = file::target(candidates, holds) else {
        return Err(error::fail(
            "there is no home folder to keep a kubeconfig in: set KUBECONFIG, or use -o FILE",
        ));
    };
    let _lock = file::Lock::take(path)?;
    let old = file::read(path)?;
    let merged = merge::merge(old, name, access, mark, foreign).map_err(|err| {
        let hint = match err {
            merge::Error::Taken { .. } => {
                "; choose another with --context-name, or replace it with --force"
            }
            merge::Error::Malformed(_) => "",
        };
        error::fail(format!("can't merge into {}: {err}{hint}", path.display()))
    })?;
    file::write(path, &output::yaml(&merged)?)?;
    Ok(path.clone())
}

fn write(path: &Path, text: &str, mark: &Mark, foreign: Foreign) -> Result<()> {
    if path.is_dir() {
        return Err(error::usage(format!(
            "{} is a folder: name a file",
            path.display()
        )));
    }
    if foreign == Foreign::Keep && path.exists() {
        let others = file::read(path).map_or(true, |config| {
            merge::has_others(&config, mark) || !has_contexts(&config)
        });
        if others {
            return Err(error::fail(format!(
                "{} exists and holds more than this tenant's kubeconfig: name another file, or replace it with --force",
                path.display()
            )));
        }
    }
    file::write(path, text)
}

/// An empty file is free to be written; one that isn't a kubeconfig isn't.
fn has_contexts(config: &serde_json::Value) -> bool {
    config.is_null()
        || config["contexts"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
}
