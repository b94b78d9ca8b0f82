//! `sublet install`: puts the built-in manifests into the super cluster; a second run brings them up to this version.

mod apply;

pub(crate) mod prune;

use crate::{
    age, cluster::Cluster, error, helm, image, interrupt, manifest, output, progress::Progress,
    rollout, waiting::Waiting,
};
use anyhow::Result;
use std::process::ExitCode;

/// Flags of `sublet install`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print the manifests and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Let the default class keep etcd's data on emptyDirs, for clusters without storage: they end with the pod
    #[arg(long)]
    ephemeral_etcd: bool,
    /// Let Cluster API make tenants: puts in the provider's kinds and rights, and the manager looks after Clusters. A
    /// later run without the flag keeps it
    #[arg(long)]
    cluster_api: bool,
    /// Take the daemons' images from here; a later run without the flag goes on doing so
    #[arg(long, value_name = "HOST[/PATH]", value_parser = image::registry)]
    registry: Option<String>,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<3>,
}

const EXAMPLES: &str = "\
Examples:
  sublet install --registry registry.example.com/sublet --timeout 10m
  sublet install                           later on, or where nodes have its images
  sublet install --ephemeral-etcd          where there is no StorageClass
  sublet install --cluster-api             for platforms that make tenants as Cluster objects
  sublet install --dry-run > sublet.yaml   for a repository";

/// Prints what would be applied.
pub(crate) fn print(args: &Args) -> Result<ExitCode> {
    let provider = if args.cluster_api {
        Provider::On
    } else {
        Provider::Off
    };
    let mut all = definitions(provider)?;
    all.extend(daemons(provider, |_| args.registry.clone())?);
    all.extend(classes(args)?);
    output::print(&manifest::yaml(&all)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Applies the manifests and waits for the daemons.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let mut progress = Progress::start("applying the resource definitions");
    let outcome = interrupt::or_ctrl_c(
        async { Ok(tokio::time::timeout(args.waiting.timeout, all(args, cluster, &mut progress)).await) },
        || {
            let uninstall = cluster.hint_anywhere("uninstall");
            format!("what was applied stays; run the same command again to complete it, or `{uninstall}`")
        },
    )
    .await?;
    let elapsed = age::elapsed(progress.elapsed());
    let (after, doctor) = (
        age::elapsed(args.waiting.timeout),
        cluster.hint_anywhere("doctor"),
    );
    let lacking = match outcome {
        Ok(rollout) => match rollout? {
            rollout::Rollout::Runs => None,
            rollout::Rollout::NoImage(lacking) => Some(lacking),
        },
        Err(_) if rollout::is_about_images(progress.last()) => Some(progress.last().to_owned()),
        Err(_) => {
            return Err(error::fail(format!(
                "Sublet doesn't work after {after}: {}; it may still come up: look with `{doctor}`",
                progress.last(),
            )));
        }
    };
    if let Some(lacking) = lacking {
        let install = cluster.hint_anywhere("install --registry HOST");
        return Err(error::fail(no_images(&lacking, &install)));
    }
    drop(progress);
    super::doctor::storage::tell(cluster).await;
    let state = if args.waiting.no_wait {
        "applied"
    } else {
        "installed"
    };
    output::print(&format!(
        "Sublet {} is {state} (after {elapsed})\n\nNext:\n  {}\n  {}\n",
        env!("CARGO_PKG_VERSION"),
        cluster.hint("create NAME"),
        cluster.hint_anywhere("doctor"),
    ))
}

/// What to do where nodes can't get the daemons' images.
fn no_images(lacking: &str, install: &str) -> String {
    format!(
        "{lacking}: nodes can't get Sublet's images, which no public registry has: push them to one of yours \
         (docs/install.md#images) and run `{install}`"
    )
}

async fn all(args: &Args, cluster: &Cluster, progress: &mut Progress) -> Result<rollout::Rollout> {
    let client = &cluster.client;
    helm::refuse(cluster, helm::Asked::Install).await?;
    let provider = if args.cluster_api || apply::serves_cluster_api(client).await? {
        Provider::On
    } else {
        Provider::Off
    };
    let definitions = definitions(provider)?;
    apply::known(client, &definitions).await?;
    rollout::established(client, &definitions, progress).await?;
    progress.done("resource definitions are in place");
    progress.state("applying the daemons");
    let found = apply::images(client).await?;
    let daemons = daemons(provider, |image| {
        let found = || apply::registry_of(image, &found);
        args.registry.clone().or_else(found)
    })?;
    apply::known(client, &daemons).await?;
    progress.done("daemons and their rights are applied");
    let removed = prune::policies(client, &daemons).await?;
    if !removed.is_empty() {
        progress.note(&format!(
            "of an earlier version, and removed: {}",
            removed.join(", ")
        ));
    }
    for class in classes(args)? {
        apply::class(client, class, args.ephemeral_etcd, progress).await?;
    }
    progress.done("the default class is in place");
    if args.waiting.no_wait {
        return Ok(rollout::Rollout::Runs);
    }
    rollout::available(client, &manifest::deployments(&daemons), progress).await
}

/// Whether the manager is a Cluster API provider too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provider {
    On,
    Off,
}

fn definitions(provider: Provider) -> Result<Vec<kube::api::DynamicObject>> {
    let mut definitions = manifest::crds()?;
    if provider == Provider::On {
        manifest::with_move(&mut definitions);
        definitions.extend(manifest::cluster_api_crds()?);
    }
    Ok(definitions)
}

fn daemons(
    provider: Provider,
    registry: impl Fn(&str) -> Option<String>,
) -> Result<Vec<kube::api::DynamicObject>> {
    let mut daemons = manifest::daemons()?;
    manifest::with_registry(&mut daemons, registry);
    if provider == Provider::On {
        manifest::with_cluster_api(&mut daemons);
        daemons.extend(manifest::cluster_api_rights()?);
    }
    Ok(daemons)
}

fn classes(args: &Args) -> Result<Vec<kube::api::DynamicObject>> {
    let mut classes = manifest::classes()?;
    if args.ephemeral_etcd {
        classes.iter_mut().for_each(manifest::with_ephemeral_etcd);
    }
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_nodes_cannot_get_are_told_with_what_to_do() {
        let lacking =
            "waiting for sublet-manager: 0 of 1 pods available: ImagePullBackOff (not found)";
        assert!(rollout::is_about_images(lacking));
        for other in ["ErrImagePull", "ErrImageNeverPull", "InvalidImageName"] {
            assert!(rollout::is_about_images(other), "{other}");
        }
        assert!(!rollout::is_about_images(
            "0 of 1 pods available: Pending (0/3 nodes)"
        ));
        let told = no_images(lacking, "sublet install --registry HOST");
        assert!(told.starts_with(lacking), "{told}");
        assert!(
            told.ends_with("run `sublet install --registry HOST`"),
            "{told}"
        );
    }
}
