//! `sublet events`: what happened to a tenant, on both sides, in one list.

mod follow;

use crate::{
    cluster::Cluster,
    error, event,
    output::{self, Data},
    style,
    table::terminal_width,
    tenant,
};
use anyhow::Result;
use api::{VirtualControlPlane, keys::SYNCER_COMPONENT};
use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;

/// Flags of `sublet events`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// Warnings only
    #[arg(long)]
    warnings: bool,
    /// Watch: go on with each event when it happens
    #[arg(short, long, alias = "follow")]
    watch: bool,
    /// Leave out the headings
    #[arg(long)]
    no_headers: bool,
    /// Format: `wide` cuts nothing
    #[arg(
        short,
        long,
        value_enum,
        default_value = "table",
        hide_default_value = true
    )]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Wide,
    Json,
    Yaml,
}

const EXAMPLES: &str = "\
Examples:
  sublet events team-a
  sublet events team-a --warnings -o wide
  sublet events team-a --watch               until Ctrl-C
  sublet events team-a -o json";

/// An event, and the side that it is on.
type Sided = (&'static str, Event);

/// How long the tenant's API server may take; its events are no reason to wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints the events.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    let mut events = of_super(cluster, &vcp).await?;
    match tokio::time::timeout(PATIENCE, of_tenant(cluster, &vcp)).await {
        Ok(Ok(found)) => events.extend(found),
        Ok(Err(err)) => tell!(
            "The tenant's own events are left out: {}",
            cluster.clear(err)
        ),
        Err(_) => tell!(
            "The tenant's own events are left out: its API server gave no answer within {} s",
            PATIENCE.as_secs()
        ),
    }
    events.retain(|(_, event)| is_asked(args, event));
    events.sort_by_key(|(_, event)| event::when(event));
    if args.watch {
        return follow::run(args, cluster, &vcp, events).await;
    }
    let width = match args.output {
        Output::Json => return output::print(&Data::Json.text(&data(&events))?),
        Output::Yaml => return output::print(&Data::Yaml.text(&data(&events))?),
        Output::Table => terminal_width(),
        Output::Wide => None,
    };
    if events.is_empty() {
        tell!("Nothing happened lately: Kubernetes keeps events for an hour.");
        return Ok(());
    }
    let mut table = event::table(&events, Timestamp::now());
    if args.no_headers {
        table = table.without_headings();
    }
    output::print(&table.render(style::stdout(), width))
}

fn is_asked(args: &Args, event: &Event) -> bool {
    !args.warnings || event.type_.as_deref() == Some("Warning")
}

fn data(events: &[Sided]) -> Value {
    json!({"events": listed(events)})
}

/// A list that says of each event on which side it is.
pub(super) fn listed(events: &[Sided]) -> Vec<Value> {
    events.iter().map(told).collect()
}

fn told((side, event): &Sided) -> Value {
    let mut told = event::data(event);
    told["side"] = (*side).into();
    told
}

/// Where events are that one asks for.
struct EventSource {
    side: &'static str,
    api: Api<Event>,
    fields: String,
}

/// Those in the super cluster: about the VirtualControlPlane, and in the namespace of its control plane.
fn sources(client: &Client, vcp: &VirtualControlPlane) -> Vec<EventSource> {
    let source = |namespace: &str, fields: String| EventSource {
        side: "super",
        api: Api::namespaced(client.clone(), namespace),
        fields,
    };
    let about = event::about("VirtualControlPlane", &vcp.name_any());
    let mut sources = vec![source(&vcp.namespace().unwrap_or_default(), about)];
    let status = vcp.status.as_ref();
    let inside = status.and_then(|status| status.control_plane_namespace.as_deref());
    sources.extend(inside.map(|inside| source(inside, String::new())));
    sources
}

/// Events of all of these.
pub(super) async fn of_super(cluster: &Cluster, vcp: &VirtualControlPlane) -> Result<Vec<Sided>> {
    let mut events = vec![];
    for EventSource { side, api, fields } in sources(&cluster.client, vcp) {
        let found = event::list(&api, &fields).await?;
        events.extend(found.into_iter().map(|event| (side, event)));
    }
    Ok(events)
}

/// The one in the tenant: what the syncer reported.
fn of_syncer(client: Client) -> EventSource {
    EventSource {
        side: "tenant",
        api: Api::all(client),
        fields: format!("reportingComponent={SYNCER_COMPONENT}"),
    }
}

/// What the syncer told the tenant.
async fn of_tenant(cluster: &Cluster, vcp: &VirtualControlPlane) -> Result<Vec<Sided>> {
    let access = tenant::access(cluster, vcp).await?;
    let client = tenant::client(cluster, vcp, &access).await?;
    let EventSource { side, api, fields } = of_syncer(client);
    // The caller's kubeconfig has nothing to do with it: it leads to the super cluster.
    let events = event::most(&api, &fields).await.map_err(|err| {
        let why = error::reason(&err);
        error::fail(format!(
            "its API server at {} can't be asked: {why}",
            access.server
        ))
    })?;
    Ok(events.into_iter().map(|event| (side, event)).collect())
}
