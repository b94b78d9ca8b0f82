//! `sublet top`: what tenants use now, as the super cluster's metrics API measures it: their pods, and beside them the
//! control plane that they cost.

use super::list;
use crate::{
    cluster::Cluster,
    error,
    output::{self, Data, Format},
    paging, style,
    table::{Table, terminal_width},
    tenant,
};
use anyhow::Result;
use api::{VirtualControlPlane, keys};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
    core::ApiResource,
};
use serde_json::{Value, json};
use std::{cmp::Reverse, collections::BTreeMap};
use tenancy::quota::amount;

/// Flags of `sublet top`.
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
    /// Whoever uses most of it first, pods and control plane together
    #[arg(long, value_enum, value_name = "WHAT")]
    sort_by: Option<Order>,
    /// Leave out the headings
    #[arg(long)]
    no_headers: bool,
    /// Format: `wide` adds sums and pods of control planes (CP), `name` is KIND/NAME
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
  sublet top -A --sort-by memory
  sublet top -l customer=acme
  sublet top team-a -o wide       with sums, and the pods of its control plane
  sublet top -o json";

/// Tenants that a selector names at most.
const NAMED: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    Cpu,
    Memory,
}

/// CPU in thousandths of a core, memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    pods: usize,
    cpu: i128,
    memory: i128,
}

/// What one tenant uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Usage {
    /// Its pods.
    own: Sum,
    /// Pods of its control plane.
    control_plane: Sum,
}

/// Whose namespace it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamespaceOwner {
    tenant: String,
    is_control_plane: bool,
}

/// Prints the table.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let tenants = tenants(args, cluster).await?;
    let used = if tenants.is_empty() {
        BTreeMap::new()
    } else {
        let theirs = ListParams::default().labels(&of_tenants(&tenants));
        let places = places(cluster, &theirs).await?;
        sum(&measured(cluster, &theirs).await?, &places)
    };
    let mut rows: Vec<(VirtualControlPlane, Usage)> = tenants
        .into_iter()
        .map(|vcp| {
            let id = vcp.spec.identity.clone().unwrap_or_default();
            (vcp, used.get(&id).cloned().unwrap_or_default())
        })
        .collect();
    rows.sort_by_key(|(vcp, _)| (vcp.namespace(), vcp.name_any()));
    if let Some(order) = args.sort_by {
        rows.sort_by_key(|(_, usage)| Reverse(whole(usage, order)));
    }
    if args.output == Format::Name {
        return list::print_names(rows.iter().map(|(vcp, _)| vcp));
    }
    if let Some(text) = text(&rows, args)? {
        return output::print(&text);
    }
    let namespace = (!args.all_namespaces).then_some(&*cluster.namespace);
    let none = match &args.selector {
        Some(selector) => list::none_match(selector, namespace),
        None => list::there_are_none(namespace, &cluster.hint("create NAME")),
    };
    tell!("{none}");
    Ok(())
}

/// The table, or the data; no table where there is nothing to be shown in it.
fn text(rows: &[(VirtualControlPlane, Usage)], args: &Args) -> Result<Option<String>> {
    let width = match args.output {
        Format::Json => return Data::Json.text(&data(rows)).map(Some),
        Format::Yaml => return Data::Yaml.text(&data(rows)).map(Some),
        Format::Wide => None,
        Format::Table | Format::Name => terminal_width(),
    };
    let table = || table(rows, args).render(style::stdout(), width);
    Ok((!rows.is_empty()).then(table))
}

async fn tenants(args: &Args, cluster: &Cluster) -> Result<Vec<VirtualControlPlane>> {
    if args.names.is_empty() {
        let api = if args.all_namespaces {
            Api::all(cluster.client.clone())
        } else {
            tenant::api(cluster)
        };
        let mut params = ListParams::default();
        params.label_selector.clone_from(&args.selector);
        return Ok(paging::all(&api, &params).await?);
    }
    let mut found = vec![];
    for name in &args.names {
        found.push(tenant::find(cluster, name).await?);
    }
    Ok(found)
}

/// Selects what is of these tenants; of many of them what is of any tenant, since a request's line has an end.
fn of_tenants(tenants: &[VirtualControlPlane]) -> String {
    let identities = tenants
        .iter()
        .filter_map(|vcp| vcp.spec.identity.as_deref());
    let identities: Vec<&str> = identities.collect();
    match identities.len() {
        1..=NAMED => format!("{} in ({})", keys::TENANT, identities.join(",")),
        _ => keys::TENANT.to_owned(),
    }
}

/// Whose each super namespace is.
async fn places(
    cluster: &Cluster,
    theirs: &ListParams,
) -> Result<BTreeMap<String, NamespaceOwner>> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let namespaces = paging::metadata(&api, theirs).await?;
    let places = namespaces.iter().filter_map(|namespace| {
        let labels = namespace.labels();
        let place = NamespaceOwner {
            tenant: labels.get(keys::TENANT)?.clone(),
            is_control_plane: labels.contains_key(keys::ROLE),
        };
        Some((namespace.name_any(), place))
    });
    Ok(places.collect())
}

/// What each pod uses that is a tenant's or of its control plane.
async fn measured(cluster: &Cluster, theirs: &ListParams) -> Result<Vec<DynamicObject>> {
    let resource = ApiResource {
        group: "metrics.k8s.io".into(),
        version: "v1beta1".into(),
        api_version: "metrics.k8s.io/v1beta1".into(),
        kind: "PodMetrics".into(),
        plural: "pods".into(),
    };
    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
    match paging::all(&api, theirs).await {
        Ok(pods) => Ok(pods),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(error::fail(
            "the super cluster measures nothing: install metrics-server in it",
        )),
        Err(kube::Error::Api(status)) if status.code == 503 => {
            let look = cluster.kubectl_anywhere("get apiservice v1beta1.metrics.k8s.io");
            Err(error::fail(format!(
                "the super cluster's metrics can't be had now: see `{look}`"
            )))
        }
        Err(err) => Err(err.into()),
    }
}

/// Adds up by tenant. A pod outside of the known namespaces is none of them.
fn sum(
    pods: &[DynamicObject],
    places: &BTreeMap<String, NamespaceOwner>,
) -> BTreeMap<String, Usage> {
    let mut used: BTreeMap<String, Usage> = BTreeMap::new();
    for pod in pods {
        let namespace = pod.namespace().unwrap_or_default();
        let Some(place) = places.get(&namespace) else {
            continue;
        };
        let usage = used.entry(place.tenant.clone()).or_default();
        let part = if place.is_control_plane {
            &mut usage.control_plane
        } else {
            &mut usage.own
        };
        part.pods += 1;
        for container in pod.data["containers"].as_array().into_iter().flatten() {
            let amount = |what: &str| {
                let text = container["usage"][what].as_str();
                text.and_then(amount::parse).unwrap_or_default()
            };
            part.cpu += amount("cpu");
            // Amounts are thousandths of the unit.
            part.memory += amount("memory") / 1000;
        }
    }
    used
}

fn whole(usage: &Usage, order: Order) -> i128 {
    match order {
        Order::Cpu => usage.own.cpu + usage.control_plane.cpu,
        Order::Memory => usage.own.memory + usage.control_plane.memory,
    }
}

fn table(rows: &[(VirtualControlPlane, Usage)], args: &Args) -> Table {
    let mut headings = vec![
        "NAME",
        "PODS",
        "CPU(cores)",
        "MEMORY(bytes)",
        "CP-CPU",
        "CP-MEMORY",
    ];
    if args.all_namespaces {
        headings.insert(0, "NAMESPACE");
    }
    let is_wide = args.output == Format::Wide;
    if is_wide {
        headings.extend(["CP-PODS", "TOTAL-CPU", "TOTAL-MEMORY", "IDENTITY"]);
    }
    let mut table = Table::new(&headings);
    for (vcp, usage) in rows {
        let Usage { own, control_plane } = usage;
        let mut row = vec![
            vcp.name_any(),
            own.pods.to_string(),
            cores(own.cpu),
            mebibytes(own.memory),
            cores(control_plane.cpu),
            mebibytes(control_plane.memory),
        ];
        if args.all_namespaces {
            row.insert(0, vcp.namespace().unwrap_or_default());
        }
        if is_wide {
            row.extend([
                control_plane.pods.to_string(),
                cores(whole(usage, Order::Cpu)),
                mebibytes(whole(usage, Order::Memory)),
                vcp.spec.identity.clone().unwrap_or_default(),
            ]);
        }
        table.row(row);
    }
    if args.no_headers {
        table = table.without_headings();
    }
    table
}

/// As kubectl writes them.
fn cores(thousandths: i128) -> String {
    format!("{thousandths}m")
}

fn mebibytes(bytes: i128) -> String {
    format!("{}Mi", bytes >> 20)
}

fn data(rows: &[(VirtualControlPlane, Usage)]) -> Value {
    let part = |sum: &Sum| json!({"pods": sum.pods, "cpu": cores(sum.cpu), "memory": format!("{}Ki", sum.memory >> 10)});
    let tenants = rows.iter().map(|(vcp, usage)| {
        json!({
            "namespace": vcp.namespace(), "name": vcp.name_any(), "identity": vcp.spec.identity,
            "own": part(&usage.own), "controlPlane": part(&usage.control_plane),
        })
    });
    json!({"tenants": tenants.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::VirtualControlPlaneSpec;
    use expect_test::expect;

    fn pod(namespace: &str, usage: &[(&str, &str)]) -> DynamicObject {
        let containers = usage
            .iter()
            .map(|(cpu, memory)| json!({"name": "c", "usage": {"cpu": cpu, "memory": memory}}));
        serde_json::from_value(json!({
            "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
            "metadata": {"name": "p", "namespace": namespace}, "containers": containers.collect::<Vec<_>>(),
        }))
        .unwrap()
    }

    fn used() -> BTreeMap<String, Usage> {
        let place = |tenant: &str, is_control_plane| NamespaceOwner {
            tenant: tenant.into(),
            is_control_plane,
        };
        let places = BTreeMap::from([
            ("a-default-x".to_owned(), place("a", false)),
            ("a-y".to_owned(), place("a", true)),
            ("b-z".to_owned(), place("b", true)),
        ]);
        let pods = [
            pod("a-default-x", &[("1500000n", "1024Ki"), ("10m", "1Mi")]),
            pod("a-default-x", &[("1", "512Mi")]),
            pod("a-y", &[("30m", "250Mi")]),
            pod("b-z", &[("20m", "2Gi")]),
            pod("elsewhere", &[("9", "9Gi")]),
        ];
        sum(&pods, &places)
    }

    #[test]
    fn pods_and_control_planes_are_added_up_by_tenant() {
        let used = used();
        let sum = |pods, cpu, memory: i128| Sum {
            pods,
            cpu,
            memory: memory << 20,
        };
        assert_eq!(used["a"].own, sum(2, 1012, 514));
        assert_eq!(used["a"].control_plane, sum(1, 30, 250));
        assert_eq!(used["b"].own, Sum::default());
        assert_eq!(used.len(), 2);
        assert!(whole(&used["a"], Order::Cpu) > whole(&used["b"], Order::Cpu));
        assert!(whole(&used["a"], Order::Memory) < whole(&used["b"], Order::Memory));
    }

    #[test]
    fn the_table_reads_as_kubectls() {
        let used = used();
        let mut args = Args {
            names: vec![],
            all_namespaces: false,
            selector: None,
            sort_by: None,
            no_headers: false,
            output: Format::Table,
        };
        let rows = ["a", "b"].map(|name| {
            let vcp = VirtualControlPlane::new(name, VirtualControlPlaneSpec::default());
            (vcp, used[name].clone())
        });
        expect![[r#"
            NAME   PODS   CPU(cores)   MEMORY(bytes)   CP-CPU   CP-MEMORY
            a      2      1012m        514Mi           30m      250Mi
            b      0      0m           0Mi             20m      2048Mi
        "#]]
        .assert_eq(&table(&rows, &args).render(style::plain(), None));
        args.output = Format::Wide;
        let wide = table(&rows, &args).render(style::plain(), None);
        let row: Vec<&str> = wide.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[6..], ["1", "1042m", "764Mi"], "{wide}");
        assert_eq!(data(&rows)["tenants"][0]["own"]["memory"], "526336Ki");
    }

    #[test]
    fn of_a_few_tenants_no_others_are_asked_for() {
        let named = |count: usize| -> Vec<VirtualControlPlane> {
            let tenants = (0..count).map(|number| {
                let spec = VirtualControlPlaneSpec {
                    identity: Some(format!("id{number}")),
                    ..VirtualControlPlaneSpec::default()
                };
                VirtualControlPlane::new("a", spec)
            });
            tenants.collect()
        };
        assert_eq!(of_tenants(&named(2)), "sublet.dev/tenant in (id0,id1)");
        assert_eq!(of_tenants(&named(NAMED + 1)), "sublet.dev/tenant");
        assert_eq!(of_tenants(&named(0)), "sublet.dev/tenant");
    }

    #[test]
    fn no_tenants_are_data_too() {
        let mut args = Args {
            names: vec![],
            all_namespaces: false,
            selector: None,
            sort_by: None,
            no_headers: false,
            output: Format::Json,
        };
        let told = text(&[], &args).unwrap().expect("no data");
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told, json!({"tenants": []}));
        args.output = Format::Table;
        assert_eq!(text(&[], &args).unwrap(), None);
    }
}
