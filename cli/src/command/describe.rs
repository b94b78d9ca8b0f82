//! `sublet describe`: all about one tenant on one page.

mod data;
mod page;

use crate::{
    cluster::Cluster,
    error, leader,
    output::{self, Data},
    paging, quota, style,
    table::terminal_width,
    tenant,
};
use anyhow::Result;
use api::{VirtualControlPlane, keys};
use k8s_openapi::{
    api::core::v1::{Namespace, Pod},
    jiff::Timestamp,
};
use kube::{Api, ResourceExt, api::ListParams};
use page::Page;

/// Flags of `sublet describe`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Names of the tenants, or their identities
    #[arg(required = true, value_name = "NAME", value_parser = crate::name::known_tenant)]
    pub(super) names: Vec<String>,
    /// Print it as data
    #[arg(short, long, value_enum)]
    output: Option<Data>,
}

const EXAMPLES: &str = "\
Examples:
  sublet describe team-a
  sublet describe team-a team-b -n customers
  sublet describe team-a -o json";

/// Events at the end of the page.
const EVENTS: usize = 10;

/// Prints the pages.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let mut reports = vec![];
    for (at, name) in args.names.iter().enumerate() {
        let vcp = tenant::find(cluster, name).await?;
        let page = gather(cluster, vcp).await?;
        if args.output.is_some() {
            reports.push(data::of(&page)?);
            continue;
        }
        let text = page.render(style::stdout(), terminal_width(), Timestamp::now());
        output::print(&if at == 0 { text } else { format!("\n\n{text}") })?;
    }
    match args.output {
        Some(format) => output::print(&format.text(&data::all(reports))?),
        None => Ok(()),
    }
}

/// What a person may not list is left out, not a failure: the rest of the page still helps.
async fn gather(cluster: &Cluster, vcp: VirtualControlPlane) -> Result<Page> {
    let namespaces = match &vcp.spec.identity {
        Some(identity) => allowed(namespaces(cluster, identity).await)?,
        None => Some(vec![]),
    };
    let pods = match vcp
        .status
        .as_ref()
        .and_then(|status| status.control_plane_namespace.as_deref())
    {
        Some(namespace) => {
            let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
            allowed(api.list(&ListParams::default()).await)?.map(|list| list.items)
        }
        None => Some(vec![]),
    };
    let (mut leader, mut is_led) = (None, true);
    if let Some(identity) = &vcp.spec.identity
        && let Some(leaders) = allowed(leader::all(cluster).await)?
    {
        leader = Some(leaders.name(identity).unwrap_or_else(|| "none".to_owned()));
        is_led = !leaders.is_gone(identity);
    }
    let mut events = match super::events::of_super(cluster, &vcp).await {
        Ok(events) => events,
        Err(err)
            if err
                .downcast_ref::<kube::Error>()
                .is_some_and(error::is_forbidden) =>
        {
            vec![]
        }
        Err(err) => return Err(err),
    };
    events.sort_by_key(|(_, event)| crate::event::when(event));
    let events = events.split_off(events.len().saturating_sub(EVENTS));
    let groups = quota::groups(cluster, &vcp).await?.unwrap_or_default();
    Ok(Page {
        wake: cluster.hint(&format!("wake {}", vcp.name_any())),
        attach_help: cluster.hint_anywhere("attach --help"),
        limits: quota::limits(&vcp, &groups),
        groups: groups.iter().map(ResourceExt::name_any).collect(),
        vcp,
        leader,
        is_led,
        namespaces,
        pods,
        events,
    })
}

async fn namespaces(cluster: &Cluster, identity: &str) -> Result<Vec<Namespace>, kube::Error> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let of_tenant = ListParams::default().labels(&format!("{}={identity}", keys::TENANT));
    let mut items = paging::all(&api, &of_tenant).await?;
    items.retain(|namespace| !namespace.labels().contains_key(keys::ROLE));
    items.sort_by_key(ResourceExt::name_any);
    Ok(items)
}

fn allowed<T>(result: Result<T, kube::Error>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(err) if error::is_forbidden(&err) => Ok(None),
        Err(err) => Err(err.into()),
    }
}
