//! `sublet list`: the tenants as a table, or as objects.

mod follow;

use crate::{
    age,
    cluster::Cluster,
    condition, error, lag,
    leader::{self, Leaders},
    output::{self, Data, Format},
    paging, style,
    table::{Mood, Table, terminal_width},
};
use anyhow::Result;
use api::{VirtualControlPlane, keys};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DynamicObject, ListParams},
    core::ApiResource,
};
use std::collections::BTreeMap;

/// Flags of `sublet list`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Names of the tenants, or their identities; all of the namespace when left out
    #[arg(value_name = "NAME", value_parser = crate::name::known_tenant)]
    pub(super) names: Vec<String>,
    /// Tenants of all namespaces
    #[arg(short = 'A', long, conflicts_with = "names")]
    all_namespaces: bool,
    /// Only tenants with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names")]
    selector: Option<String>,
    /// Watch: print a tenant's row again when it changes
    #[arg(short, long)]
    watch: bool,
    /// Leave out the headings
    #[arg(long)]
    no_headers: bool,
    /// Format: `wide` has more columns and cuts nothing, `name` is KIND/NAME
    #[arg(
        short,
        long,
        value_enum,
        default_value = "table",
        hide_default_value = true
    )]
    output: Format,
}

const EXAMPLES: &str = "\
Examples:
  sublet list
  sublet list -A -o wide
  sublet list team-a -o yaml
  sublet list -o name
  sublet list -A --watch          until Ctrl-C";

/// Prints the tenants.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let mut objects = fetch(args, cluster).await?;
    if args.watch {
        return follow::run(args, cluster).await;
    }
    objects.sort_by_key(place);
    let data = |format: Data| {
        let found = output::found(&objects, args.names.len())?;
        output::print(&format.text(&found)?)
    };
    match args.output {
        Format::Json => data(Data::Json),
        Format::Yaml => data(Data::Yaml),
        Format::Name => print_names(&objects),
        Format::Table | Format::Wide => print_table(args, cluster, &objects).await,
    }
}

/// Prints each as `kubectl` takes it.
pub(super) fn print_names<'a, K: ResourceExt + 'a>(
    tenants: impl IntoIterator<Item = &'a K>,
) -> Result<()> {
    let mut names = tenants.into_iter().map(ResourceExt::name_any);
    names.try_for_each(|name| output::print_line(&format!("virtualcontrolplane.sublet.dev/{name}")))
}

fn place(object: &DynamicObject) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn api(args: &Args, cluster: &Cluster, client: Client) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<VirtualControlPlane>(&());
    if args.all_namespaces {
        Api::all_with(client, &resource)
    } else {
        Api::namespaced_with(client, &cluster.namespace, &resource)
    }
}

/// The objects as they are, with fields that this version doesn't know.
async fn fetch(args: &Args, cluster: &Cluster) -> Result<Vec<DynamicObject>> {
    let api = api(args, cluster, cluster.client.clone());
    if args.names.is_empty() {
        let mut params = ListParams::default();
        params.label_selector.clone_from(&args.selector);
        let items = paging::all(&api, &params).await?;
        return Ok(items.into_iter().map(with_types).collect());
    }
    let mut found = vec![];
    for name in &args.names {
        match api.get(name).await {
            Ok(object) => found.push(object),
            Err(err) if error::is_missing(&err) => {
                return Err(crate::tenant::unknown(cluster, name).await);
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(found)
}

/// What items of a list leave out.
fn with_types(mut object: DynamicObject) -> DynamicObject {
    object.types = Some(kube::api::TypeMeta {
        api_version: VirtualControlPlane::api_version(&()).into_owned(),
        kind: VirtualControlPlane::kind(&()).into_owned(),
    });
    object
}

async fn print_table(args: &Args, cluster: &Cluster, objects: &[DynamicObject]) -> Result<()> {
    if objects.is_empty() {
        let create = cluster.hint("create NAME");
        tell!("{}", none(args, &cluster.namespace, &create));
        return Ok(());
    }
    let vcps = typed(objects)?;
    let more = more(args, cluster).await;
    let table = table(&vcps, args, more.as_ref(), Timestamp::now());
    let width = if more.is_some() {
        None
    } else {
        terminal_width()
    };
    output::print(&table.render(style::stdout(), width))
}

/// What an empty list says.
fn none(args: &Args, namespace: &str, create: &str) -> String {
    let namespace = (!args.all_namespaces).then_some(namespace);
    match &args.selector {
        Some(selector) => none_match(selector, namespace),
        None if args.watch => {
            let place = place_of(namespace);
            format!("No tenants yet{place}; watching, end with Ctrl-C.")
        }
        None => there_are_none(namespace, create),
    }
}

/// What is said where no tenant is, in one namespace or in any.
pub(super) fn there_are_none(namespace: Option<&str>, create: &str) -> String {
    let place = place_of(namespace);
    format!("There are no tenants{place}; make one with `{create}`.")
}

/// The same of those that a selector asks for.
pub(super) fn none_match(selector: &str, namespace: Option<&str>) -> String {
    format!("No tenants match -l {selector}{}.", place_of(namespace))
}

fn place_of(namespace: Option<&str>) -> String {
    namespace.map_or_else(String::new, |name| format!(" in namespace {name}"))
}

fn typed<'a>(
    objects: impl IntoIterator<Item = &'a DynamicObject>,
) -> Result<Vec<VirtualControlPlane>> {
    let values = objects.into_iter().map(serde_json::to_value);
    values
        .map(|value| Ok(serde_json::from_value(value?)?))
        .collect()
}

/// What a wide table needs besides the objects.
async fn more(args: &Args, cluster: &Cluster) -> Option<More> {
    if args.output != Format::Wide {
        return None;
    }
    Some(More {
        pods: count_pods(cluster).await,
        // Empty when Leases may not be listed.
        leaders: leader::all(cluster).await.unwrap_or_default(),
    })
}

/// What the wide table shows besides.
struct More {
    /// Pods by tenant, where they are known.
    pods: Option<BTreeMap<String, usize>>,
    leaders: Leaders,
}

/// Pods in the super cluster by tenant; `None` when they can't be listed.
async fn count_pods(cluster: &Cluster) -> Option<BTreeMap<String, usize>> {
    let api: Api<Pod> = Api::all(cluster.client.clone());
    let of_tenants = ListParams::default().labels(keys::TENANT);
    let mut count = BTreeMap::new();
    for pod in paging::metadata(&api, &of_tenants).await.ok()? {
        // The control plane's own pods carry a role; pods of the tenant don't.
        let tenant = pod.labels().get(keys::TENANT);
        if let Some(tenant) = tenant.filter(|_| !pod.labels().contains_key(keys::ROLE)) {
            *count.entry(tenant.clone()).or_default() += 1;
        }
    }
    Some(count)
}

fn table(vcps: &[VirtualControlPlane], args: &Args, more: Option<&More>, now: Timestamp) -> Table {
    let mut headings = vec!["NAME", "PHASE", "VERSION", "ENDPOINT", "AGE"];
    if args.all_namespaces {
        headings.insert(0, "NAMESPACE");
    }
    if more.is_some() {
        headings.extend([
            "CLASS",
            "PODS",
            "SERVICE-CIDR",
            "SYNCER",
            "BEHIND",
            "IDENTITY",
        ]);
    }
    headings.push("MESSAGE");
    let mut table = Table::new(&headings);
    if args.no_headers {
        table = table.without_headings();
    }
    for vcp in vcps {
        let status = vcp.status.clone().unwrap_or_default();
        let plain = |text: String| (text, Mood::Plain);
        let phase = condition::phase_word(vcp);
        let mut row = vec![];
        if args.all_namespaces {
            row.push(plain(vcp.namespace().unwrap_or_default()));
        }
        row.extend([
            plain(vcp.name_any()),
            (phase.clone(), Mood::of(&phase)),
            plain(or_none(status.version)),
            plain(or_none(status.endpoint)),
            plain(age::since(vcp.metadata.creation_timestamp.as_ref(), now)),
        ]);
        if let Some(more) = more {
            let identity = vcp.spec.identity.clone();
            let count = identity.as_ref().map(|id| match &more.pods {
                Some(pods) => pods.get(id).copied().unwrap_or_default().to_string(),
                None => "<unknown>".to_owned(),
            });
            let leader = identity.as_ref().and_then(|id| more.leaders.name(id));
            let is_led = !identity.as_ref().is_some_and(|id| more.leaders.is_gone(id));
            row.extend([
                plain(vcp.spec.class_name.clone()),
                plain(or_none(count)),
                plain(or_none(vcp.spec.network.service_cidr.clone())),
                plain(or_none(leader)),
                plain(or_none(lag::brief(vcp, is_led, now))),
                plain(or_none(identity)),
            ]);
        }
        row.push(plain(if more.is_some() {
            message(vcp)
        } else {
            condition::brief(&message(vcp))
        }));
        table.moody(row);
    }
    table
}

/// What is waited for, and nothing when all is well.
fn message(vcp: &VirtualControlPlane) -> String {
    let told = vcp
        .status
        .as_ref()
        .and_then(|status| status.message.clone())
        .filter(|message| !message.is_empty());
    let text = told.or_else(|| condition::blocker(vcp)).unwrap_or_default();
    error::one_line(&text)
}

fn or_none(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty())
        .unwrap_or_else(|| "<none>".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use expect_test::expect;
    use serde_json::json;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn render(line: &str, more: Option<&More>) -> String {
        let args = Cli::try_parse_from(std::iter::once("list").chain(line.split_whitespace()))
            .unwrap()
            .args;
        let vcp = |value| serde_json::from_value(value).unwrap();
        let vcps: Vec<VirtualControlPlane> = vec![
            vcp(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": "team-a", "namespace": "default", "creationTimestamp": "2025-01-01T00:00:00Z"},
                "spec": {"identity": "abcdefghijklmnopqrstuvwxyz", "network": {"serviceCIDR": "10.96.4.0/22"}},
                "status": {"phase": "Ready", "version": "1.36.3", "endpoint": "https://10.0.0.2:31000",
                           "sync": {"observedTime": "2025-01-01T00:58:40Z", "behindSince": "2025-01-01T00:58:30Z"}},
            })),
            vcp(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": "b", "namespace": "shop", "creationTimestamp": "2025-01-01T00:59:30Z"}, "spec": {},
                "status": {"phase": "Provisioning", "message": "etcd-0 has no node"},
            })),
        ];
        let now = "2025-01-01T01:00:00Z".parse().unwrap();
        table(&vcps, &args, more, now).render(style::plain(), None)
    }

    #[test]
    fn the_table_reads_well() {
        expect![[r#"
            NAME     PHASE          VERSION   ENDPOINT                 AGE   MESSAGE
            team-a   Ready          1.36.3    https://10.0.0.2:31000   60m
            b        Provisioning   <none>    <none>                   30s   etcd-0 has no node
        "#]]
        .assert_eq(&render("", None));
    }

    #[test]
    fn all_namespaces_and_wide_add_columns() {
        let more = More {
            pods: Some(BTreeMap::from([(
                "abcdefghijklmnopqrstuvwxyz".to_owned(),
                3,
            )])),
            leaders: Leaders::default(),
        };
        expect![[r#"
            NAMESPACE   NAME     PHASE          VERSION   ENDPOINT                 AGE   CLASS     PODS     SERVICE-CIDR   SYNCER   BEHIND   IDENTITY                     MESSAGE
            default     team-a   Ready          1.36.3    https://10.0.0.2:31000   60m   default   3        10.96.4.0/22   <none>   90s      abcdefghijklmnopqrstuvwxyz
            shop        b        Provisioning   <none>    <none>                   30s   default   <none>   <none>         <none>   <none>   <none>                       etcd-0 has no node
        "#]]
        .assert_eq(&render("-A -o wide", Some(&more)));
    }

    #[test]
    fn pods_that_cannot_be_counted_are_not_none() {
        let more = More {
            pods: None,
            leaders: Leaders::default(),
        };
        let told = render("-o wide --no-headers", Some(&more));
        let pods = |line: &str| line.split_whitespace().nth(6).map(str::to_owned);
        assert_eq!(
            told.lines().next().and_then(pods).as_deref(),
            Some("<unknown>")
        );
    }

    #[test]
    fn an_empty_list_says_why_it_may_be_empty() {
        let said = |line: &str| {
            let words = std::iter::once("list").chain(line.split_whitespace());
            none(
                &Cli::try_parse_from(words).unwrap().args,
                "n",
                "sublet create NAME",
            )
        };
        assert_eq!(
            said(""),
            "There are no tenants in namespace n; make one with `sublet create NAME`."
        );
        assert_eq!(said("-l a=b"), "No tenants match -l a=b in namespace n.");
        assert_eq!(said("-A -l a=b"), "No tenants match -l a=b.");
        assert_eq!(said("-A -w"), "No tenants yet; watching, end with Ctrl-C.");
    }

    #[test]
    fn headings_can_be_left_out() {
        assert!(render("--no-headers", None).starts_with("team-a   Ready"));
    }
}
