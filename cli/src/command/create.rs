//! `sublet create`: makes a tenant, and waits until it works.

mod as_cluster;
mod wait;

pub(super) mod check;

use crate::{
    age,
    args::Global,
    cluster::Cluster,
    error, interrupt, name,
    output::{self, Data},
    tenant,
    waiting::Waiting,
};
use anyhow::Result;
use api::{
    Dns, Etcd, EtcdStorage, Network, PodSecurity, Policy, VirtualControlPlane,
    VirtualControlPlaneSpec,
};
use kube::{ResourceExt, api::PostParams};
use serde_json::Value;
use std::process::ExitCode;
use tenancy::slice::Slice;

/// Flags of `sublet create`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the tenant: a DNS label
    #[arg(value_parser = crate::name::tenant)]
    name: String,
    /// ControlPlaneClass that gives defaults and ceilings
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = name::class)]
    class: String,
    /// Kubernetes version, such as 1.36.3, or 1.36 for the class's first of it; the class's first one when left out
    #[arg(long, value_name = "VERSION", value_parser = check::version)]
    version: Option<String>,
    /// Number of API servers
    #[arg(long, value_name = "1..3", value_parser = check::replicas)]
    replicas: Option<i32>,
    /// Keep etcd's data on an emptyDir: they end with the pod
    #[arg(long)]
    ephemeral_etcd: bool,
    /// Pod Security level that its pods are held to; the class's when left out
    #[arg(long, value_enum, value_name = "LEVEL")]
    pod_security: Option<Level>,
    /// Who answers DNS for its pods: CoreDNS in the tenant, Sublet's server, or what the tenant brings as kube-dns
    #[arg(long, value_enum, value_name = "MODE", default_value = "dedicated")]
    dns: DnsMode,
    /// Its slice of the super cluster's Service range; a free one is taken when left out
    #[arg(long, value_name = "CIDR")]
    service_cidr: Option<Slice>,
    /// Make it as a Cluster of Cluster API
    #[arg(long)]
    cluster_api: bool,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<5>,
    /// Print the object and make nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the object in this format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

const EXAMPLES: &str = "\
Examples:
  sublet create team-a                                  with the defaults of the class `default`
  sublet create team-a --version 1.36 --replicas 3 -n customers
  sublet create scratch --ephemeral-etcd --no-wait      for a test; gone with its pods
  sublet create team-a --dry-run -o yaml                the object, for a repository
  sublet create team-a --cluster-api --dry-run          the same as objects of Cluster API";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    Restricted,
    Baseline,
    Privileged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DnsMode {
    Dedicated,
    Shared,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Json,
    Yaml,
    Name,
}

/// Prints the object that would be made.
pub(crate) fn print(args: &Args, global: &Global) -> Result<ExitCode> {
    let vcp = object(args, global.namespace.as_deref());
    if args.cluster_api {
        show_cluster(
            &as_cluster::objects(&vcp)?,
            args.output.unwrap_or(Output::Yaml),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut value = output::tidy(&vcp)?;
    let defaults = serde_json::to_value(VirtualControlPlaneSpec::default())?;
    leave_out_defaults(&mut value["spec"], &defaults);
    value["spec"]["className"] = vcp.spec.class_name.as_str().into();
    show(&value, args.output.unwrap_or(Output::Yaml))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the tenant.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let vcp = object(args, Some(&cluster.namespace));
    let look = || {
        format!(
            "the tenant may be made already: look with `{}`",
            cluster.hint("list")
        )
    };
    check::class(cluster, &vcp).await?;
    let made = if args.cluster_api {
        let objects = as_cluster::objects(&vcp)?;
        interrupt::or_ctrl_c(as_cluster::make(cluster, &objects), look).await?;
        if args.waiting.no_wait {
            return show_cluster(&objects, args.output.unwrap_or(Output::Name));
        }
        as_cluster::tenant(cluster, &args.name, args.waiting.timeout).await?
    } else {
        interrupt::or_ctrl_c(make(cluster, &vcp), look).await?
    };
    if args.waiting.no_wait {
        return match args.output {
            Some(format) => show(&output::tidy(&made)?, format),
            None => {
                output::print_line(&format!(
                    "virtualcontrolplane.sublet.dev/{} created",
                    args.name
                ))?;
                tell!(
                    "see how it goes with `{}`",
                    cluster.hint(&format!("describe {}", args.name))
                );
                Ok(())
            }
        };
    }
    let ready = wait::ready(cluster, &made, args.waiting.timeout).await?;
    match args.output {
        Some(format) => show(&output::tidy(&ready.vcp)?, format),
        None => output::print(&next_steps(cluster, &ready)),
    }
}

async fn make(cluster: &Cluster, vcp: &VirtualControlPlane) -> Result<VirtualControlPlane> {
    match tenant::api(cluster)
        .create(&PostParams::default(), vcp)
        .await
    {
        Ok(made) => Ok(made),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            Err(exists(cluster, &vcp.name_any()).await)
        }
        Err(err) => Err(err.into()),
    }
}

fn object(args: &Args, namespace: Option<&str>) -> VirtualControlPlane {
    let spec = VirtualControlPlaneSpec {
        class_name: args.class.clone(),
        version: args.version.clone(),
        replicas: args.replicas,
        etcd: args.ephemeral_etcd.then(|| Etcd {
            replicas: None,
            storage: Some(EtcdStorage {
                ephemeral: true,
                ..EtcdStorage::default()
            }),
        }),
        network: Network {
            service_cidr: args.service_cidr.map(|slice| slice.to_string()),
            dns: args.dns.into(),
            ..Network::default()
        },
        policy: Policy {
            pod_security: args.pod_security.map(Into::into),
            ..Policy::default()
        },
        ..VirtualControlPlaneSpec::default()
    };
    let mut vcp = VirtualControlPlane::new(&args.name, spec);
    vcp.metadata.namespace = namespace.map(str::to_owned);
    vcp
}

/// Removes what the API server fills in by itself, so that the text says only what was asked for.
fn leave_out_defaults(value: &mut Value, defaults: &Value) {
    let (Some(map), Some(defaults)) = (value.as_object_mut(), defaults.as_object()) else {
        return;
    };
    map.retain(|key, value| {
        let Some(default) = defaults.get(key) else {
            return true;
        };
        leave_out_defaults(value, default);
        value != default && value.as_object().is_none_or(|map| !map.is_empty())
    });
}

fn show(value: &Value, format: Output) -> Result<()> {
    match format {
        Output::Json => output::print(&Data::Json.text(value)?),
        Output::Yaml => output::print(&Data::Yaml.text(value)?),
        Output::Name => {
            let name = value["metadata"]["name"].as_str().unwrap_or_default();
            output::print_line(&format!("virtualcontrolplane.sublet.dev/{name}"))
        }
    }
}

fn show_cluster(objects: &[Value], format: Output) -> Result<()> {
    match format {
        Output::Json => output::print(&Data::Json.text(&output::list(objects))?),
        Output::Yaml => objects
            .iter()
            .try_for_each(|object| output::print(&format!("---\n{}", Data::Yaml.text(object)?))),
        Output::Name => objects.iter().try_for_each(|object| {
            let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
            let group = text("/apiVersion").and_then(|version| version.split('/').next());
            output::print_line(&format!(
                "{}.{}/{}",
                text("/kind").unwrap_or_default().to_lowercase(),
                group.unwrap_or_default(),
                text("/metadata/name").unwrap_or_default()
            ))
        }),
    }
}

async fn exists(cluster: &Cluster, name: &str) -> anyhow::Error {
    let Ok(Some(old)) = tenant::api(cluster).get_opt(name).await else {
        return error::fail(format!("the tenant {name:?} exists already"));
    };
    let place = format!("the tenant {name:?} in namespace {}", cluster.namespace);
    if old.metadata.deletion_timestamp.is_some() {
        return error::fail(format!(
            "{place} is still being deleted: see `{}`",
            cluster.hint(&format!("describe {name}"))
        ));
    }
    error::fail(format!(
        "{place} exists already ({}): see `{}`, or choose another name",
        crate::condition::phase_word(&old),
        cluster.hint(&format!("describe {name}"))
    ))
}

fn next_steps(cluster: &Cluster, ready: &wait::Ready) -> String {
    let name = ready.vcp.name_any();
    let status = ready.vcp.status.clone().unwrap_or_default();
    let version = status
        .version
        .map(|version| format!(", Kubernetes {}", version.trim_start_matches('v')))
        .unwrap_or_default();
    let endpoint = status
        .endpoint
        .map(|endpoint| format!(" at {endpoint}"))
        .unwrap_or_default();
    let api = ready
        .api
        .map(|time| format!(", its API after {}", age::elapsed(time)))
        .unwrap_or_default();
    let style = crate::style::stdout();
    format!(
        "{} works{endpoint}{version} (after {}{api})\n\nNext:\n  {}\n  {}\n  {}\n",
        style.bold(&format!("Tenant {name}")),
        age::elapsed(ready.total),
        cluster.hint(&format!("connect {name} -- kubectl get namespaces")),
        cluster.hint(&format!("kubeconfig {name} --merge")),
        cluster.hint(&format!("describe {name}")),
    )
}

impl From<Level> for PodSecurity {
    fn from(level: Level) -> Self {
        match level {
            Level::Restricted => Self::Restricted,
            Level::Baseline => Self::Baseline,
            Level::Privileged => Self::Privileged,
        }
    }
}

impl From<DnsMode> for Dns {
    fn from(mode: DnsMode) -> Self {
        match mode {
            DnsMode::Dedicated => Self::Dedicated,
            DnsMode::Shared => Self::Shared,
            DnsMode::None => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use expect_test::expect;
    use std::time::Duration;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Args {
        Cli::try_parse_from(std::iter::once("create").chain(line.split_whitespace()))
            .unwrap()
            .args
    }

    #[test]
    fn flags_become_the_object() {
        let vcp = object(
            &args(
                "a --class big --version 1.36 --replicas 3 --ephemeral-etcd --pod-security restricted --dns none --service-cidr 10.96.4.0/22",
            ),
            Some("customers"),
        );
        expect![[r#"
            apiVersion: sublet.dev/v1alpha1
            kind: VirtualControlPlane
            metadata:
              name: a
              namespace: customers
            spec:
              className: big
              etcd:
                storage:
                  ephemeral: true
                  size: 8Gi
              network:
                clusterDomain: cluster.local
                dns: none
                serviceCIDR: 10.96.4.0/22
              paused: false
              policy:
                podSecurity: restricted
              replicas: 3
              sync: {}
              version: "1.36"
        "#]]
        .assert_eq(&output::yaml(&output::tidy(&vcp).unwrap()).unwrap());
    }

    #[tokio::test]
    async fn a_class_that_is_not_there_ends_it_before_a_cluster_is_made() {
        let cluster = crate::cluster::fake::answering(|_| None);
        let args = args("a --class gold --cluster-api");
        let err = run(&args, &cluster).await.unwrap_err().to_string();
        assert!(err.contains("no ControlPlaneClass \"gold\""), "{err}");
    }

    #[test]
    fn without_flags_the_class_decides() {
        let vcp = object(&args("a"), None);
        assert_eq!(vcp.spec, VirtualControlPlaneSpec::default());
        assert_eq!(vcp.metadata.namespace, None);
        assert_eq!(args("a").waiting.timeout, Duration::from_secs(300));
    }

    #[test]
    fn defaults_are_left_out_of_the_text() {
        let printed = |line: &str| {
            let mut spec = serde_json::to_value(object(&args(line), None).spec).unwrap();
            leave_out_defaults(
                &mut spec,
                &serde_json::to_value(VirtualControlPlaneSpec::default()).unwrap(),
            );
            spec
        };
        assert_eq!(printed("a"), serde_json::json!({}));
        assert_eq!(
            printed("a --dns none"),
            serde_json::json!({"network": {"dns": "none"}})
        );
    }
}
