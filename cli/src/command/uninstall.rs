//! `sublet uninstall`: takes out what `install` put in, once no tenant is left.

use super::{delete, install::prune};
use crate::{
    age,
    ask::{self, Confirmation},
    cluster::Cluster,
    discovery::Kinds,
    error, helm, interrupt, manifest, output,
    progress::Progress,
    tenant,
    waiting::Waiting,
};
use anyhow::Result;
use api::{
    ControlPlaneClass, VirtualControlPlane,
    capi::{SubletCluster, SubletControlPlane},
    keys,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{fmt::Debug, time::Duration};

/// Flags of `sublet uninstall`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
    /// Delete all tenants first
    #[arg(long, conflicts_with = "no_wait")]
    force: bool,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<5>,
}

const EXAMPLES: &str = "\
Examples:
  sublet uninstall
  sublet uninstall --force --yes --timeout 20m   with all tenants and their data";

const PERIOD: Duration = Duration::from_millis(300);
/// Names that a message has at most.
const NAMED: usize = 5;

/// Asks, deletes tenants if forced, and removes the manifests in reverse order.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    helm::refuse(cluster, helm::Asked::Uninstall).await?;
    let of_clusters = of_clusters(&cluster.client).await?;
    if !of_clusters.is_empty() {
        return Err(error::fail(still_of_clusters(&of_clusters, cluster)));
    }
    let tenants = tenants(cluster).await?;
    if !tenants.is_empty() && !args.force {
        return Err(error::fail(still_there(&tenants, cluster)));
    }
    delete::not_of_clusters(cluster, &tenants)?;
    let names: Vec<String> = tenants.iter().map(place).collect();
    let answer = match names.as_slice() {
        [] => Confirmation::Yes,
        names => delete::answer(names),
    };
    ask::confirm(&question(&names, &cluster.url), answer, args.yes).await?;
    if !tenants.is_empty() {
        delete::delete(cluster, &tenants).await?;
        delete::gone(cluster, &tenants, args.waiting.timeout).await?;
    }
    let mut progress = Progress::start("removing Sublet");
    let removal = async {
        let_go_of_classes(&cluster.client).await?;
        let going = ask_to_go(&cluster.client).await?;
        let count = going.objects.len() + going.policies;
        if !args.waiting.no_wait {
            until_gone(going, &mut progress).await?;
        }
        anyhow::Ok(count)
    };
    let outcome = interrupt::or_ctrl_c(
        async { Ok(tokio::time::timeout(args.waiting.timeout, removal).await) },
        || "some of Sublet may be left; run the same command again to complete it".to_owned(),
    )
    .await?;
    let removed = match outcome {
        Ok(result) => result?,
        Err(_) => {
            return Err(error::fail(format!(
                "not all is gone after {}: {}; run the same command again",
                age::elapsed(args.waiting.timeout),
                progress.last()
            )));
        }
    };
    drop(progress);
    leftovers(&cluster.client).await?;
    output::print_line(match removed {
        0 => "there was nothing to remove: Sublet isn't installed in this cluster",
        _ if args.waiting.no_wait => "removal of Sublet requested",
        _ => "Sublet is uninstalled",
    })
}

/// All tenants; none where Sublet's resources aren't known.
async fn tenants(cluster: &Cluster) -> Result<Vec<VirtualControlPlane>> {
    match tenant::all(cluster).await {
        Ok(tenants) => Ok(tenants),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(vec![]),
        Err(err) => Err(err.into()),
    }
}

/// All objects that Cluster API's Clusters are made of: their finalizers are the manager's to take off, so they would stay for
/// good without it, and their definitions with them.
async fn of_clusters(client: &Client) -> Result<Vec<String>> {
    let mut found = all_of::<SubletControlPlane>(client).await?;
    found.extend(all_of::<SubletCluster>(client).await?);
    Ok(found)
}

/// No class is in use any more; the manager, which would say so a moment later, may be gone by then or already.
async fn let_go_of_classes(client: &Client) -> Result<()> {
    let api: Api<ControlPlaneClass> = Api::all(client.clone());
    let listed = match api.list_metadata(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        listed => listed?,
    };
    for class in listed.items {
        let mut finalizers = class.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != keys::CLASS_FINALIZER);
        if finalizers.len() == class.finalizers().len() {
            continue;
        }
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        let (name, how) = (class.name_any(), PatchParams::default());
        match api.patch_metadata(&name, &how, &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            patched => drop(patched?),
        }
    }
    Ok(())
}

/// Kind, namespace and name of all objects of a kind; none where it isn't known.
async fn all_of<K>(client: &Client) -> Result<Vec<String>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let listed = match api.list_metadata(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(vec![]),
        listed => listed?,
    };
    let named = listed.items.iter().map(|object| {
        let namespace = object.namespace().unwrap_or_default();
        format!("{} {namespace}/{}", K::kind(&()), object.name_any())
    });
    Ok(named.collect())
}

fn still_of_clusters(objects: &[String], cluster: &Cluster) -> String {
    format!(
        "there {} of Cluster API's Clusters ({}): delete the Clusters first with `{}`, and what belongs to none by its name",
        still(objects.len(), "object"),
        few(objects),
        cluster.kubectl_anywhere("delete cluster NAME -n NAMESPACE")
    )
}

/// The first of these names.
fn few(names: &[String]) -> String {
    let more = if names.len() > NAMED { ", …" } else { "" };
    let named = names.iter().take(NAMED);
    format!("{}{more}", named.cloned().collect::<Vec<_>>().join(", "))
}

fn still_there(tenants: &[VirtualControlPlane], cluster: &Cluster) -> String {
    let names: Vec<String> = tenants.iter().map(place).collect();
    format!(
        "there {} ({}): delete them first with `{}`, or add --force to delete them all",
        still(tenants.len(), "tenant"),
        few(&names),
        cluster.hint_anywhere("delete NAME -n NAMESPACE")
    )
}

fn place(vcp: &VirtualControlPlane) -> String {
    format!("{}/{}", vcp.namespace().unwrap_or_default(), vcp.name_any())
}

/// What is asked before Sublet goes, with every tenant that goes with it.
fn question(tenants: &[String], url: &str) -> String {
    let with = if tenants.is_empty() {
        ".".to_owned()
    } else {
        format!(
            ", and deletes {} with all their data:\n  {}",
            counted(tenants.len(), "tenant"),
            tenants.join("\n  ")
        )
    };
    format!("This takes Sublet out of the cluster at {url}{with}")
}

fn still(count: usize, noun: &str) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("{verb} still {}", counted(count, noun))
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// What was asked to go.
struct Going {
    /// Kind and name of each, and where it is asked for.
    objects: Vec<(String, String, Api<DynamicObject>)>,
    /// How many policies of earlier versions went with them.
    policies: usize,
}

/// Asks all that is there to go.
async fn ask_to_go(client: &Client) -> Result<Going> {
    let kinds = Kinds::load(client).await?;
    let mut objects = manifest::crds()?;
    objects.extend(manifest::cluster_api_crds()?);
    objects.extend(manifest::daemons()?);
    objects.extend(manifest::cluster_api_rights()?);
    objects.extend(manifest::classes()?);
    // Everything is asked to go before anything is waited for: a namespace takes a while.
    let mut asked = vec![];
    for object in in_reverse(objects) {
        let types = object.types.clone().unwrap_or_default();
        // A kind that isn't served has no objects.
        let Some(kind) = kinds.exact(&types.api_version, &types.kind) else {
            continue;
        };
        let api = kind.api(client, object.metadata.namespace.as_deref());
        let name = object.name_any();
        match api.delete(&name, &DeleteParams::background()).await {
            Ok(_) => asked.push((types.kind, name, api)),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(Going {
        objects: asked,
        policies: prune::policies(client, &[]).await?.len(),
    })
}

async fn until_gone(going: Going, progress: &mut Progress) -> Result<()> {
    for (kind, name, api) in going.objects {
        while !is_gone(&api, &name).await? {
            progress.state(&format!("waiting for {kind} {name} to go"));
            tokio::time::sleep(PERIOD).await;
        }
    }
    Ok(())
}

async fn is_gone(api: &Api<DynamicObject>, name: &str) -> Result<bool> {
    match api.get_metadata(name).await {
        Ok(_) => Ok(false),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(err) => Err(err.into()),
    }
}

/// The last first, so that daemons end before their rights go, and the namespace before the definitions.
fn in_reverse(mut objects: Vec<DynamicObject>) -> Vec<DynamicObject> {
    objects.reverse();
    objects
}

/// Says which namespaces of tenants are left; nothing deletes them any more.
async fn leftovers(client: &Client) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let left = api
        .list(&ListParams::default().labels(&format!("{}=true", keys::MANAGED)))
        .await?
        .items;
    if !left.is_empty() {
        let names: Vec<String> = left.iter().map(ResourceExt::name_any).collect();
        tell!(
            "warning: namespaces of former tenants are left: {}; delete them with kubectl",
            names.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_goes_after_what_is_in_it() {
        let order: Vec<String> = in_reverse(manifest::daemons().unwrap())
            .iter()
            .map(|object| object.types.clone().unwrap_or_default().kind)
            .collect();
        let at = |kind: &str| order.iter().position(|other| other == kind);
        if let (Some(deployment), Some(namespace)) = (at("Deployment"), at("Namespace")) {
            assert!(deployment < namespace, "{order:?}");
        }
        assert_eq!(
            (counted(1, "tenant"), counted(2, "tenant")),
            ("1 tenant".into(), "2 tenants".into())
        );
        assert_eq!(still(1, "tenant"), "is still 1 tenant");
    }

    #[test]
    fn of_many_names_a_few_are_told() {
        let names: Vec<String> = (0..7).map(|number| format!("n{number}")).collect();
        assert_eq!(few(&names[..2]), "n0, n1");
        assert_eq!(few(&names), "n0, n1, n2, n3, n4, …");
    }

    #[test]
    fn every_tenant_that_would_go_is_named_before() {
        assert_eq!(
            question(&[], "https://k"),
            "This takes Sublet out of the cluster at https://k."
        );
        assert_eq!(
            question(&["a/b".into(), "c/d".into()], "https://k"),
            "This takes Sublet out of the cluster at https://k, and deletes 2 tenants with all their data:\n  a/b\n  c/d"
        );
    }
}
