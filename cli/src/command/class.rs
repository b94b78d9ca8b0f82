//! `sublet class`: what tenants can be made of.

mod limits;

use crate::{
    age,
    cluster::Cluster,
    error, name,
    output::{self, Data, Format},
    style,
    table::{Table, terminal_width},
    tenant,
};
use anyhow::Result;
use api::{ControlPlaneClass, EtcdStorage, PodResources, Quantities};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Examples of both.
pub(super) const EXAMPLES: &str = "\
Examples:
  sublet class list
  sublet class describe default";

/// Commands of `sublet class`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the classes
    #[command(visible_alias = "ls", alias = "get")]
    List(List),
    /// Show everything about one class
    #[command(
        after_help = "Examples:\n  sublet class describe default\n  sublet class describe default -o json"
    )]
    Describe {
        /// Name of the class
        #[arg(value_parser = name::class)]
        name: String,
        /// Print it as data
        #[arg(short, long, value_enum)]
        output: Option<Data>,
    },
}

/// Flags of `sublet class list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sublet class list\n  sublet class list default -o yaml")]
pub(crate) struct List {
    /// Names of the classes; all when left out
    #[arg(value_name = "NAME", value_parser = name::class)]
    names: Vec<String>,
    /// Leave out the headings
    #[arg(long)]
    no_headers: bool,
    /// Format: `wide` cuts nothing, `name` is KIND/NAME
    #[arg(
        short,
        long,
        value_enum,
        default_value = "table",
        hide_default_value = true
    )]
    output: Format,
}

/// Runs one of the commands.
pub(crate) async fn run(command: &Command, cluster: &Cluster) -> Result<()> {
    match command {
        Command::List(args) => list(args, cluster).await,
        Command::Describe { name, output } => describe(name, *output, cluster).await,
    }
}

async fn list(args: &List, cluster: &Cluster) -> Result<()> {
    let mut classes = vec![];
    for name in &args.names {
        classes.push(find(name, cluster).await?);
    }
    if args.names.is_empty() {
        classes = all(cluster).await?;
    }
    classes.sort_by_key(ResourceExt::name_any);
    let data = |format: Data| {
        let found = output::found(&classes, args.names.len())?;
        output::print(&format.text(&found)?)
    };
    let format = args.output;
    match format {
        Format::Json => data(Data::Json),
        Format::Yaml => data(Data::Yaml),
        Format::Name => classes.iter().try_for_each(|class| {
            output::print_line(&format!(
                "controlplaneclass.sublet.dev/{}",
                class.name_any()
            ))
        }),
        Format::Table | Format::Wide if classes.is_empty() => {
            tell!(
                "There are no classes; `{}` makes the default one.",
                cluster.hint_anywhere("install")
            );
            Ok(())
        }
        Format::Table | Format::Wide => {
            let users = users(cluster).await;
            let width = if format == Format::Wide {
                None
            } else {
                terminal_width()
            };
            let mut table = table(&classes, &users, Timestamp::now());
            if args.no_headers {
                table = table.without_headings();
            }
            output::print(&table.render(style::stdout(), width))
        }
    }
}

async fn all(cluster: &Cluster) -> Result<Vec<ControlPlaneClass>> {
    let api: Api<ControlPlaneClass> = Api::all(cluster.client.clone());
    Ok(api.list(&ListParams::default()).await?.items)
}

/// Tenants by class; empty when they may not be listed.
async fn users(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for vcp in tenant::all(cluster).await.unwrap_or_default() {
        *count.entry(vcp.spec.class_name).or_default() += 1;
    }
    count
}

fn table(classes: &[ControlPlaneClass], users: &BTreeMap<String, usize>, now: Timestamp) -> Table {
    let mut table = Table::new(&["NAME", "TENANTS", "VERSIONS", "POD-SECURITY", "ETCD", "AGE"]);
    for class in classes {
        let spec = &class.spec;
        table.row(vec![
            class.name_any(),
            users
                .get(&class.name_any())
                .copied()
                .unwrap_or_default()
                .to_string(),
            versions(class).join(","),
            format!("{:?}", spec.pod_security).to_lowercase(),
            storage(&spec.etcd_storage),
            age::since(class.metadata.creation_timestamp.as_ref(), now),
        ]);
    }
    table
}

fn versions(class: &ControlPlaneClass) -> Vec<String> {
    class
        .spec
        .versions
        .iter()
        .map(|version| version.version.clone())
        .collect()
}

fn storage(storage: &EtcdStorage) -> String {
    match (&storage.storage_class_name, storage.ephemeral) {
        (_, true) => "ephemeral".to_owned(),
        (Some(class), false) => format!("{} of {class}", storage.size),
        (None, false) => storage.size.clone(),
    }
}

/// The class called `name`, or an error that names what may have been meant.
async fn find(name: &str, cluster: &Cluster) -> Result<ControlPlaneClass> {
    let api: Api<ControlPlaneClass> = Api::all(cluster.client.clone());
    match api.get(name).await {
        Ok(class) => Ok(class),
        Err(err) if error::is_missing(&err) => Err(unknown(name, &all(cluster).await?, cluster)),
        Err(err) => Err(err.into()),
    }
}

async fn describe(name: &str, format: Option<Data>, cluster: &Cluster) -> Result<()> {
    let class = find(name, cluster).await?;
    let users = users(cluster).await.get(name).copied().unwrap_or_default();
    output::print(&match format {
        Some(format) => format.text(&data(&class, users)?)?,
        None => page(&class, users, Timestamp::now()),
    })
}

fn data(class: &ControlPlaneClass, users: usize) -> Result<Value> {
    Ok(json!({"controlPlaneClass": output::tidy(class)?, "tenants": users}))
}

fn unknown(name: &str, known: &[ControlPlaneClass], cluster: &Cluster) -> anyhow::Error {
    let names: Vec<String> = known.iter().map(ResourceExt::name_any).collect();
    let close = name::close(name, names.iter().map(String::as_str));
    let hint = match (close.as_slice(), names.as_slice()) {
        ([], []) => format!(
            "there is none; `{}` makes the default one",
            cluster.hint_anywhere("install")
        ),
        ([], _) => format!("there is {}", names.join(", ")),
        (close, _) => format!("did you mean {}?", close.join(" or ")),
    };
    error::fail(format!("there is no ControlPlaneClass {name:?}: {hint}"))
}

fn page(class: &ControlPlaneClass, users: usize, now: Timestamp) -> String {
    let spec = &class.spec;
    let mut table = Table::default();
    let mut line = |key: &str, value: String| table.row(vec![key.to_owned(), value]);
    line("Name:", class.name_any());
    line("Tenants:", users.to_string());
    line(
        "Age:",
        age::since(class.metadata.creation_timestamp.as_ref(), now),
    );
    line(
        "Pod Security:",
        format!("{:?} at most", spec.pod_security).to_lowercase(),
    );
    line("etcd storage:", storage(&spec.etcd_storage));
    line("Service slice:", format!("/{}", spec.service_slice_prefix));
    let host = spec.endpoint_host.clone();
    let host = host.unwrap_or_else(|| "the first ready node's address".to_owned());
    let port = spec.endpoint_port.map(|port| format!(" port {port}"));
    line("Endpoint:", format!("{host}{}", port.unwrap_or_default()));
    let nodes = limits::labels(&spec.control_plane.node_selector);
    line(
        "Nodes:",
        if nodes.is_empty() {
            "all".to_owned()
        } else {
            nodes
        },
    );
    if !spec.control_plane.tolerations.is_empty() {
        line(
            "Taints tolerated:",
            limits::all(&spec.control_plane.tolerations, limits::toleration),
        );
    }
    line("CoreDNS:", spec.coredns_image.clone());
    let gates = spec.feature_gates.iter();
    let gates: Vec<String> = gates.map(|(name, on)| format!("{name}={on}")).collect();
    if !gates.is_empty() {
        line("Feature gates:", gates.join(","));
    }
    let every = |interval: &Option<String>| interval.clone().unwrap_or_else(|| "5m".to_owned());
    line(
        "etcd compaction:",
        format!("every {}", every(&spec.intervals.etcd_compaction)),
    );
    line(
        "Quota sync:",
        format!("every {}", every(&spec.intervals.resource_quota_sync)),
    );
    let resources = &spec.control_plane.resources;
    for (part, resources) in [
        ("etcd", &resources.etcd),
        ("kube-apiserver", &resources.kube_apiserver),
        (
            "kube-controller-manager",
            &resources.kube_controller_manager,
        ),
    ] {
        line(&format!("Resources of {part}:"), quantities(resources));
    }
    for (what, value) in limits::lines(spec) {
        line(what, value);
    }
    for (at, version) in spec.versions.iter().enumerate() {
        let default = if at == 0 { " (default)" } else { "" };
        line(
            &format!("Version {}{default}:", version.version),
            version.images.kube_apiserver.clone(),
        );
        line("", version.images.kube_controller_manager.clone());
        line("", version.images.etcd.clone());
    }
    table.render(style::stdout(), None)
}

fn quantities(resources: &PodResources) -> String {
    let list = |amounts: &Quantities| {
        amounts
            .0
            .iter()
            .map(|(key, value)| format!("{key} {value}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (list(&resources.requests), list(&resources.limits)) {
        (requests, limits) if requests.is_empty() && limits.is_empty() => {
            "no requests, no limits".to_owned()
        }
        (requests, limits) if limits.is_empty() => format!("requests {requests}"),
        (requests, limits) if requests.is_empty() => format!("limits {limits}"),
        (requests, limits) => format!("requests {requests}; limits {limits}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> ControlPlaneClass {
        serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "ControlPlaneClass",
            "metadata": {"name": "default", "creationTimestamp": "2025-01-01T00:00:00Z"},
            "spec": {
                "versions": [{"version": "1.36.3", "images": {"etcd": "e", "kubeApiserver": "a", "kubeControllerManager": "m"}}],
                "controlPlane": {
                    "nodeSelector": {"pool": "platform"},
                    "tolerations": [{"key": "pool", "value": "platform", "effect": "NoSchedule"}, {"key": "set-aside"}],
                    "resources": {"etcd": {"requests": {"cpu": "100m", "memory": "64Mi"}}},
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_table_counts_tenants() {
        let now = "2025-01-01T00:01:00Z".parse().unwrap();
        let text = table(
            &[class()],
            &BTreeMap::from([("default".to_owned(), 2)]),
            now,
        )
        .render(style::plain(), None);
        assert!(
            text.ends_with("default   2         1.36.3     baseline       8Gi    60s\n"),
            "{text}"
        );
    }

    #[test]
    fn the_page_names_images_and_resources() {
        let text = page(&class(), 1, Timestamp::now());
        assert!(text.contains("requests cpu 100m, memory 64Mi"), "{text}");
        assert!(text.contains("pool=platform, set-aside\n"), "{text}");
        assert!(text.contains("Version 1.36.3 (default):"), "{text}");
    }

    #[test]
    fn data_hold_the_class_and_how_many_use_it() {
        let told = data(&class(), 2).unwrap();
        assert_eq!(told["tenants"], 2);
        assert_eq!(told["controlPlaneClass"]["kind"], "ControlPlaneClass");
        let version = &told["controlPlaneClass"]["spec"]["versions"][0];
        assert_eq!(version["version"], "1.36.3");
    }
}
