//! `sublet attach`: an API server that runs already becomes a tenant (`external`); nothing is provisioned for it.

mod range;
mod rights;

use super::create::check;
use crate::{
    cluster::Cluster,
    condition, error, interrupt,
    kubeconfig::Access,
    output,
    progress::Progress,
    tenant,
    waiting::Waiting,
    watch::{self, Limit},
};
use anyhow::Result;
use api::{
    Endpoint, External, Network, SecretRef, Sync, SyncObjects, ToSuper, VirtualControlPlane,
    VirtualControlPlaneSpec, keys,
};
use k8s_openapi::api::{
    core::v1::{Namespace, Secret},
    rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, path::PathBuf};
use tenancy::{slice::Slice, tenant::TenantId};

/// Flags of `sublet attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the tenant: a DNS label
    #[arg(value_parser = crate::name::tenant)]
    name: String,
    /// Kubeconfig of the tenant's API server; its current context is taken
    #[arg(long, value_name = "FILE")]
    tenant_kubeconfig: PathBuf,
    /// The tenant's Service range; asked of its API server when left out
    #[arg(long, value_name = "CIDR")]
    service_cidr: Option<Slice>,
    /// Where its API server reaches the way out of Sublet's proxy, so that logs, exec, attach, port-forward and top work
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    way_out: Option<Endpoint>,
    /// ControlPlaneClass that gives defaults and ceilings; `default` when left out
    #[arg(long, value_name = "NAME", value_parser = crate::name::class)]
    class: Option<String>,
    /// Copy all ConfigMaps and Secrets, not only those that pods refer to
    #[arg(long)]
    all_config_objects: bool,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<2>,
}

const EXAMPLES: &str = "\
Examples:
  sublet attach team-a --tenant-kubeconfig team-a.conf
  sublet attach team-a --tenant-kubeconfig new.conf     gives it another kubeconfig
  sublet attach team-a --tenant-kubeconfig team-a.conf --way-out way.example.com:8131";

/// What `--all-config-objects` is about.
const CONFIG_OBJECTS: [&str; 2] = ["configmaps", "secrets"];

/// Key of the Secret that holds the kubeconfig.
const KEY: &str = "value";

/// Makes the tenant, or gives it another kubeconfig.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let access = read(args)?;
    let theirs = client(&access).await?;
    let range = reach(&theirs, &access).await?;
    rights::check(&theirs).await?;
    let known = tenant::api(cluster).get_opt(&args.name).await?;
    let left = || {
        format!(
            "the tenant may be there and lack its kubeconfig: run the same command again, or remove it with `{}`",
            cluster.hint(&format!("delete {}", args.name))
        )
    };
    let vcp = interrupt::or_ctrl_c(put(args, cluster, known, &access, range), left).await?;
    if args.way_out.is_some() {
        tell!(
            "the manager puts what its API server must be started with into Secret {}/{}-way-out (docs/access.md)",
            cluster.namespace,
            args.name
        );
    }
    if args.waiting.no_wait {
        return output::print_line(&format!(
            "virtualcontrolplane.sublet.dev/{} attached",
            args.name
        ));
    }
    wait(args, cluster, &vcp).await
}

/// Makes the tenant, or takes the one that is there, and gives it the kubeconfig.
async fn put(
    args: &Args,
    cluster: &Cluster,
    known: Option<VirtualControlPlane>,
    access: &Access,
    range: Option<Slice>,
) -> Result<VirtualControlPlane> {
    let vcp = match known {
        Some(vcp) if vcp.spec.external.is_some() => lead(args, cluster, vcp).await?,
        Some(_) => {
            return Err(error::fail(format!(
                "the tenant {:?} exists and its control plane is Sublet's own: choose another name",
                args.name
            )));
        }
        None => make(args, cluster, args.service_cidr.or(range)).await?,
    };
    let handed_over = hand_over(cluster, &vcp, access).await;
    handed_over.map_err(|err| {
        let why = cluster.clear(err);
        error::fail(format!(
            "{why}; the tenant is there and its kubeconfig isn't handed over: run the same command again once that is \
             mended, or remove it with `{}`",
            cluster.hint(&format!("delete {}", args.name))
        ))
    })?;
    Ok(vcp)
}

fn read(args: &Args) -> Result<Access> {
    let path = args.tenant_kubeconfig.display();
    let text = std::fs::read_to_string(&args.tenant_kubeconfig)
        .map_err(|err| error::usage(format!("can't read --tenant-kubeconfig {path}: {err}")))?;
    Access::parse(&text).map_err(|err| {
        error::fail(format!(
            "the kubeconfig in {path} can't be handed to the syncer: {err}; write one with `kubectl config view --raw \
             --flatten --minify`, with a certificate or a token in it"
        ))
    })
}

async fn client(access: &Access) -> Result<Client> {
    let kubeconfig = serde_json::from_value(access.to_value("tenant", "tenant"))?;
    crate::cluster::client_of(kubeconfig).await
}

/// Asks the tenant who it is, and its Service range.
async fn reach(theirs: &Client, access: &Access) -> Result<Option<Slice>> {
    let namespaces: Api<Namespace> = Api::all(theirs.clone());
    namespaces.get("kube-system").await.map_err(|err| {
        error::fail(format!(
            "the tenant's API server at {} can't be asked for its kube-system namespace: {}",
            access.server,
            error::reason(&err)
        ))
    })?;
    Ok(range::of(theirs).await.unwrap_or_default().first().copied())
}

/// The VirtualControlPlane, with the tenant's Service range if Services with its addresses can exist in the super cluster.
async fn make(args: &Args, cluster: &Cluster, range: Option<Slice>) -> Result<VirtualControlPlane> {
    let default = || VirtualControlPlaneSpec::default().class_name;
    let class = args.class.clone().unwrap_or_else(default);
    let served = match range {
        None => Err(
            "the tenant's API server doesn't tell its Service range; give it by --service-cidr"
                .to_owned(),
        ),
        Some(range) => range::check(cluster, range, &class).await?.map(|()| range),
    };
    let spec = spec(args, class, served.as_ref().ok().copied());
    let mut vcp = VirtualControlPlane::new(&args.name, spec);
    vcp.metadata.namespace = Some(cluster.namespace.clone());
    check::class(cluster, &vcp).await?;
    if let Err(why) = &served {
        tell!("ClusterIP Services won't be synced (ServiceRangeNotServed), all else will: {why}");
    }
    Ok(tenant::api(cluster)
        .create(&PostParams::default(), &vcp)
        .await?)
}

/// What a tenant that is attached for the first time asks for.
fn spec(args: &Args, class: String, range: Option<Slice>) -> VirtualControlPlaneSpec {
    VirtualControlPlaneSpec {
        class_name: class,
        identity: Some(TenantId::from_bits(rand::random()).as_str().to_owned()),
        external: Some(External {
            kubeconfig_secret_ref: SecretRef {
                name: secret_name(&args.name),
                key: KEY.into(),
            },
            way_out: args.way_out.clone(),
        }),
        network: Network {
            service_cidr: range.map(|slice| slice.to_string()),
            ..Network::default()
        },
        sync: Sync {
            to_super: if args.all_config_objects {
                CONFIG_OBJECTS.map(all).into()
            } else {
                vec![]
            },
            ..Sync::default()
        },
        ..VirtualControlPlaneSpec::default()
    }
}

/// All objects of a resource go down.
fn all(resource: &str) -> ToSuper {
    ToSuper {
        resource: resource.to_owned(),
        objects: SyncObjects::All,
    }
}

/// Writes what was given of a tenant that is attached already and is another than it has.
async fn lead(
    args: &Args,
    cluster: &Cluster,
    vcp: VirtualControlPlane,
) -> Result<VirtualControlPlane> {
    if let Some(class) = args
        .class
        .as_ref()
        .filter(|class| **class != vcp.spec.class_name)
    {
        return Err(error::usage(format!(
            "{} is of class {} and not {class}: leave out --class, or change spec.className of the VirtualControlPlane",
            args.name, vcp.spec.class_name
        )));
    }
    match (args.service_cidr, vcp.spec.network.service_cidr.as_deref()) {
        (Some(range), Some(known)) if known.parse() != Ok(range) => {
            return Err(error::usage(format!(
                "the Service range of {} is {known} and can't change: leave out --service-cidr",
                args.name
            )));
        }
        (Some(_), None) => tell!(
            "--service-cidr is left out: the Service range of a tenant is set when it is attached for the first time"
        ),
        _ => {}
    }
    let spec = changes(args, &vcp);
    if spec.is_empty() {
        return Ok(vcp);
    }
    let (params, patch) = (PatchParams::default(), Patch::Merge(json!({"spec": spec})));
    Ok(tenant::api(cluster)
        .patch(&args.name, &params, &patch)
        .await?)
}

/// What must be another in the spec of a tenant that is attached already.
fn changes(args: &Args, vcp: &VirtualControlPlane) -> Map<String, Value> {
    let mut spec = Map::new();
    let known = vcp.spec.external.as_ref();
    let known = known.and_then(|external| external.way_out.as_ref());
    if args.way_out.is_some() && args.way_out.as_ref() != known {
        spec.insert("external".into(), json!({"wayOut": args.way_out}));
    }
    let mut to_super = vcp.spec.sync.to_super.clone();
    let is_missing = |resource: &&str| !to_super.contains(&all(resource));
    if args.all_config_objects && CONFIG_OBJECTS.iter().any(is_missing) {
        to_super.retain(|entry| !CONFIG_OBJECTS.contains(&&*entry.resource));
        to_super.extend(CONFIG_OBJECTS.map(all));
        spec.insert("sync".into(), json!({"toSuper": to_super}));
    }
    spec
}

/// `HOST:PORT`; an IPv6 address stands in brackets.
fn host_and_port(text: &str) -> Result<Endpoint, String> {
    let parts = text.rsplit_once(':');
    let parsed = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let bare = |host: &str| match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').map(str::to_owned),
        None => (!host.contains(':')).then(|| host.to_owned()),
    };
    let endpoint = parsed.and_then(|(host, port)| Some((bare(host)?, port)));
    match endpoint {
        Some((host, port)) if !host.is_empty() && port > 0 => Ok(Endpoint { host, port }),
        _ => Err("write HOST:PORT, and an IPv6 address in brackets".into()),
    }
}

/// Gives the syncer the kubeconfig, and the right to read just that. All of it goes with the VirtualControlPlane.
async fn hand_over(cluster: &Cluster, vcp: &VirtualControlPlane, access: &Access) -> Result<()> {
    let name = vcp.spec.external.as_ref().map_or_else(
        || secret_name(&vcp.name_any()),
        |external| external.kubeconfig_secret_ref.name.clone(),
    );
    let key = vcp.spec.external.as_ref().map_or_else(
        || KEY.to_owned(),
        |external| external.kubeconfig_secret_ref.key.clone(),
    );
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(cluster.namespace.clone()),
        owner_references: vcp.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let text = access.to_yaml(&vcp.name_any(), "sublet")?;
    let secret = Secret {
        metadata: metadata.clone(),
        string_data: Some(BTreeMap::from([(key, text)])),
        ..Secret::default()
    };
    let role = Role {
        metadata: metadata.clone(),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec![String::new()]),
            resources: Some(vec!["secrets".into()]),
            resource_names: Some(vec![name.clone()]),
            verbs: vec!["get".into(), "list".into(), "watch".into()],
            ..PolicyRule::default()
        }]),
    };
    let binding = RoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "Role".into(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: "sublet-syncer".into(),
            namespace: Some(api::SYSTEM_NAMESPACE.into()),
            ..Subject::default()
        }]),
    };
    apply(cluster, &name, &secret).await?;
    apply(cluster, &name, &role).await?;
    apply(cluster, &name, &binding).await
}

async fn apply<K>(cluster: &Cluster, name: &str, object: &K) -> Result<()>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + k8s_openapi::Resource
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = K::API_VERSION.into();
    value["kind"] = <K as k8s_openapi::Resource>::KIND.into();
    let params = PatchParams::apply(keys::FIELD_MANAGER);
    api.patch(name, &params, &Patch::Apply(value)).await?;
    Ok(())
}

async fn wait(args: &Args, cluster: &Cluster, vcp: &VirtualControlPlane) -> Result<()> {
    let mut progress = Progress::start("waiting for the syncer");
    let left = |_: &str| {
        format!(
            "the tenant stays and the syncer takes it up by itself, if it runs and reaches the tenant's API server; look \
             with `{}`, remove it with `{}`",
            cluster.hint(&format!("describe {}", args.name)),
            cluster.hint(&format!("delete {}", args.name))
        )
    };
    let limit = Limit {
        time: args.waiting.timeout,
        late: "isn't synced",
        left: &left,
    };
    let synced = watch::until(cluster, vcp, &mut progress, limit, |now, progress| {
        let synced = condition::find(&now, "Synced");
        match synced {
            Some(condition) if condition.status == "True" => Ok(Some(())),
            Some(condition) if condition.reason == "KubeconfigRefused" => {
                Err(error::fail(condition.message.clone()))
            }
            Some(condition) => {
                progress.state(&condition.message);
                Ok(None)
            }
            None => Ok(None),
        }
    });
    synced.await?;
    drop(progress);
    output::print_line(&format!("{} is attached and synced", args.name))
}

fn secret_name(tenant: &str) -> String {
    format!("{tenant}-tenant-kubeconfig")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_attached_tenant_is_of_the_class_that_is_named() {
        use clap::Parser;
        #[derive(Parser)]
        struct Command {
            #[command(flatten)]
            args: Args,
        }
        let line = [
            "attach",
            "a",
            "--tenant-kubeconfig",
            "a.conf",
            "--class",
            "gold",
        ];
        let args = Command::parse_from(line).args;
        // Only this class is there, and what is made is given back.
        let cluster = crate::cluster::fake::answering(|path| {
            let kind = |kind: &str| json!({"apiVersion": "sublet.dev/v1alpha1", "kind": kind, "metadata": {"name": "a"}});
            let mut vcp = kind("VirtualControlPlane");
            vcp["spec"] = json!({});
            let mut class = kind("ControlPlaneClass");
            class["spec"] = json!({"versions": []});
            match path.rsplit('/').next() {
                Some("gold") => Some(class),
                Some("virtualcontrolplanes") => Some(vcp),
                _ => None,
            }
        });
        assert!(make(&args, &cluster, None).await.is_ok());
        let spec = spec(&args, "gold".into(), None);
        assert_eq!(spec.class_name, "gold");
        let other = VirtualControlPlane::new("a", VirtualControlPlaneSpec::default());
        let err = lead(&args, &cluster, other).await.unwrap_err().to_string();
        assert!(err.contains("is of class default and not gold"), "{err}");
    }

    #[test]
    fn what_is_given_of_a_tenant_that_is_attached_already_is_changed_if_it_is_another() {
        use clap::Parser;
        #[derive(Parser)]
        struct Command {
            #[command(flatten)]
            args: Args,
        }
        let args = |more: &[&str]| {
            let line = ["attach", "a", "--tenant-kubeconfig", "a.conf"];
            Command::parse_from(line.iter().chain(more)).args
        };
        let mut vcp = VirtualControlPlane::new("a", VirtualControlPlaneSpec::default());
        vcp.spec.sync.to_super = ["ingresses.networking.k8s.io", "configmaps"]
            .map(all)
            .into();
        assert!(changes(&args(&[]), &vcp).is_empty());
        let more = ["--all-config-objects", "--way-out", "way.example.com:8131"];
        let changed = changes(&args(&more), &vcp);
        assert_eq!(changed["external"]["wayOut"]["port"], 8131);
        let to_super = changed["sync"]["toSuper"].as_array().unwrap().iter();
        let names: Vec<&str> = to_super
            .map(|it| it["resource"].as_str().unwrap())
            .collect();
        let wanted = ["ingresses.networking.k8s.io", "configmaps", "secrets"];
        assert_eq!(names, wanted);
        vcp.spec.sync.to_super = wanted.map(all).into();
        assert!(changes(&args(&more[..1]), &vcp).is_empty());
    }

    #[test]
    fn a_way_out_is_a_host_with_a_port() {
        for (text, host, port) in [
            ("way.example.com:8131", "way.example.com", 8131),
            ("192.0.2.7:30131", "192.0.2.7", 30131),
            ("[fd00::7]:8131", "fd00::7", 8131),
        ] {
            let host = host.to_owned();
            assert_eq!(host_and_port(text), Ok(Endpoint { host, port }));
        }
        for text in [
            "",
            "host",
            "host:",
            ":8131",
            "host:0",
            "host:70000",
            "fd00::7",
            "fd00::7:8131",
            "[fd00::7:1",
        ] {
            assert!(host_and_port(text).is_err(), "{text}");
        }
    }
}
