//! The checks, each a question to the API server and a verdict on the answer.

use super::Check;
use crate::{
    cluster::Cluster,
    condition::{self, State},
    error,
    helm::Lines,
    image,
    manifest::{self, Daemon},
    rollout, tenant,
};
use api::{ControlPlaneClass, SYSTEM_NAMESPACE, VirtualControlPlane};
use k8s_openapi::{
    api::{
        apps::v1::Deployment, coordination::v1::Lease, core::v1::Node, networking::v1::ServiceCIDR,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    jiff::Timestamp,
};
use kube::{Api, ResourceExt, api::ListParams};

/// A check that was made, or the subject of one that couldn't be.
pub(super) type Outcome = Result<Vec<Check>, (&'static str, kube::Error)>;

/// Whether the API server answers.
pub(super) async fn cluster(cluster: &Cluster) -> Result<Check, kube::Error> {
    let info = cluster.client.apiserver_version().await?;
    Ok(Check::ok(
        "cluster",
        format!(
            "Kubernetes {} at {}",
            info.git_version.trim_start_matches('v'),
            cluster.url
        ),
    ))
}

/// Whether tenants' Services can have addresses: Sublet gives them IPv4 ones, out of the super cluster's Service range.
pub(super) async fn addresses(cluster: &Cluster) -> Outcome {
    let api: Api<ServiceCIDR> = Api::all(cluster.client.clone());
    let ranges = api.list(&ListParams::default()).await;
    let ranges = ranges.map_err(|err| ("cluster", err))?.items;
    Ok(judge_addresses(&ranges).into_iter().collect())
}

fn judge_addresses(ranges: &[ServiceCIDR]) -> Option<Check> {
    if ranges.is_empty() {
        return None;
    }
    let cidrs = ranges
        .iter()
        .filter_map(|range| range.spec.as_ref()?.cidrs.as_ref());
    let (six, four): (Vec<&String>, Vec<&String>) =
        cidrs.flatten().partition(|cidr| cidr.contains(':'));
    match (four.is_empty(), six.first()) {
        (true, _) => Some(Check::fail(
            "cluster",
            "it has no IPv4 Service range, out of which tenants' Services get their addresses",
            "add one as a ServiceCIDR of networking.k8s.io, or use a cluster with IPv4 or dual-stack",
        )),
        (false, Some(six)) => Some(Check::warn(
            "cluster",
            format!(
                "it has the IPv6 Service range {six}, and tenants' Services have IPv4 addresses alone"
            ),
            "",
        )),
        (false, None) => None,
    }
}

/// Whether there are nodes to run pods.
pub(super) async fn nodes(cluster: &Cluster) -> Outcome {
    let api: Api<Node> = Api::all(cluster.client.clone());
    let nodes = api
        .list(&ListParams::default())
        .await
        .map_err(|err| ("nodes", err))?
        .items;
    Ok(judge_nodes(&nodes, &cluster.kubectl_anywhere("get nodes")))
}

fn judge_nodes(nodes: &[Node], look: &str) -> Vec<Check> {
    let ready = |node: &Node| {
        let conditions = node
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let unready: Vec<String> = nodes
        .iter()
        .filter(|node| !ready(node))
        .map(ResourceExt::name_any)
        .collect();
    let text = format!(
        "{} of {} nodes ready",
        nodes.len() - unready.len(),
        nodes.len()
    );
    if unready.len() == nodes.len() {
        return vec![Check::fail(
            "nodes",
            text,
            format!("no pod can start; see `{look}`"),
        )];
    }
    if unready.is_empty() {
        vec![Check::ok("nodes", text)]
    } else {
        vec![Check::warn(
            "nodes",
            text,
            format!("look at {}", unready.join(", ")),
        )]
    }
}

/// Whether any definition or any daemon of Sublet is there.
pub(super) async fn is_installed(cluster: &Cluster) -> Result<bool, kube::Error> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    for wanted in api::crds() {
        if definitions
            .get_metadata_opt(&wanted.name_any())
            .await?
            .is_some()
        {
            return Ok(true);
        }
    }
    let daemons: Api<Deployment> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let daemons = daemons.list_metadata(&ListParams::default()).await?;
    Ok(!daemons.items.is_empty())
}

/// Whether the resource definitions are those of this version.
pub(super) async fn definitions(cluster: &Cluster, lines: &Lines) -> Outcome {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let advice = Advice {
        install: lines.definitions.clone(),
        describe: cluster.kubectl_anywhere("describe crd"),
    };
    let mut checks = vec![];
    for wanted in api::crds() {
        let live = api
            .get_opt(&wanted.name_any())
            .await
            .map_err(|err| ("definitions", err))?;
        checks.extend(judge_definition(&wanted, live.as_ref(), &advice));
    }
    if checks.is_empty() {
        checks.push(Check::ok(
            "definitions",
            "all resource definitions are served, as this version has them",
        ));
    }
    Ok(checks)
}

/// Command lines that the findings say to type.
struct Advice {
    install: String,
    describe: String,
}

fn judge_definition(
    wanted: &CustomResourceDefinition,
    live: Option<&CustomResourceDefinition>,
    advice: &Advice,
) -> Option<Check> {
    let Advice { install, describe } = advice;
    let name = wanted.name_any();
    let Some(live) = live else {
        return Some(Check::fail(
            "definitions",
            format!("{name} isn't there"),
            format!("run `{install}`"),
        ));
    };
    if !rollout::is_established(live) {
        return Some(Check::fail(
            "definitions",
            format!("{name} isn't served"),
            format!("see `{describe} {name}`"),
        ));
    }
    let schemas = |crd: &CustomResourceDefinition| -> Vec<_> {
        crd.spec
            .versions
            .iter()
            .map(|version| (version.name.clone(), version.schema.clone()))
            .collect()
    };
    (schemas(wanted) != schemas(live)).then(|| {
        let advice = format!("run `{install}` with the version that is wanted");
        Check::warn(
            "definitions",
            format!("{name} is of another version than this program"),
            advice,
        )
    })
}

/// Whether Sublet's own Deployments run, and in this version.
pub(super) async fn daemons(cluster: &Cluster, lines: &Lines) -> Outcome {
    let built_in = manifest::daemons()
        .map(|objects| manifest::deployments(&objects))
        .unwrap_or_default();
    let mut checks = vec![];
    for daemon in built_in {
        let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), &daemon.namespace);
        let live = api
            .get_opt(&daemon.name)
            .await
            .map_err(|err| ("daemons", err))?;
        let why = match &live {
            Some(live) if rollout::missing(live).is_some() => {
                rollout::trouble(&cluster.client, live).await
            }
            _ => None,
        };
        checks.push(judge_daemon(&daemon, live.as_ref(), why, cluster, lines));
    }
    Ok(checks)
}

fn judge_daemon(
    daemon: &Daemon,
    live: Option<&Deployment>,
    why: Option<String>,
    cluster: &Cluster,
    lines: &Lines,
) -> Check {
    let Daemon {
        namespace,
        name,
        images,
    } = daemon;
    let install = &lines.install;
    let Some(live) = live else {
        return Check::fail(
            "daemons",
            format!("{name} isn't there"),
            format!("run `{install}`"),
        );
    };
    if live.spec.as_ref().and_then(|spec| spec.replicas) == Some(0) {
        let scale = cluster.kubectl(namespace, &format!("scale deploy/{name} --replicas=1"));
        return Check::fail(
            "daemons",
            format!("{name} is scaled to none"),
            format!("start it with `{scale}`"),
        );
    }
    let running = serde_json::to_value(live)
        .map(|value| manifest::images(&value))
        .unwrap_or_default();
    if let Some(missing) = rollout::missing(live) {
        let image = why.as_deref().is_some_and(rollout::is_about_images);
        let why = why.map(|why| format!(", {why}")).unwrap_or_default();
        let logs = cluster.kubectl(namespace, &format!("logs deploy/{name}"));
        let advice = if image {
            format!(
                "nodes must be able to get {}; `{}` takes them from another registry",
                running.join(", "),
                lines.registry
            )
        } else {
            format!("see `{logs}`")
        };
        return Check::fail("daemons", format!("{name}: {missing}{why}"), advice);
    }
    if !are_same(&running, images) {
        let text = format!(
            "{name} runs {}, and this program is of {}",
            running.join(", "),
            images.join(", ")
        );
        return Check::warn(
            "daemons",
            text,
            format!("run `{install}` with the version that is wanted"),
        );
    }
    Check::ok("daemons", format!("{name} runs"))
}

/// Whether the images that run are those that are built in, from whatever registry.
fn are_same(running: &[String], built_in: &[String]) -> bool {
    let mut pairs = running.iter().zip(built_in);
    running.len() == built_in.len() && pairs.all(|(one, other)| image::is_same(one, other))
}

/// Whether those who hold leases renew them; no leases are no finding.
pub(super) async fn leases(cluster: &Cluster) -> Outcome {
    let api: Api<Lease> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let leases = api
        .list(&ListParams::default())
        .await
        .map_err(|err| ("leases", err))?
        .items;
    let now = Timestamp::now();
    Ok(leases
        .iter()
        .filter_map(|lease| judge_lease(lease, now))
        .collect())
}

fn judge_lease(lease: &Lease, now: Timestamp) -> Option<Check> {
    let spec = lease.spec.as_ref()?;
    let holder = spec
        .holder_identity
        .clone()
        .filter(|holder| !holder.is_empty())?;
    let name = lease.name_any();
    let age = now.as_second() - spec.renew_time.as_ref()?.0.as_second();
    let limit = i64::from(spec.lease_duration_seconds.unwrap_or(15));
    if age <= limit {
        return Some(Check::ok("leases", format!("{name} is held by {holder}")));
    }
    let text = format!(
        "{name} of {holder} wasn't renewed for {}",
        crate::age::short(age)
    );
    Some(Check::warn(
        "leases",
        text,
        "its holder is dead, or another takes over at this moment",
    ))
}

/// Whether there is something to make tenants of.
pub(super) async fn classes(cluster: &Cluster, lines: &Lines) -> Outcome {
    let api: Api<ControlPlaneClass> = Api::all(cluster.client.clone());
    let classes = api
        .list(&ListParams::default())
        .await
        .map_err(|err| ("classes", err))?
        .items;
    let names: Vec<String> = classes.iter().map(ResourceExt::name_any).collect();
    if names.iter().any(|name| name == "default") {
        return Ok(vec![Check::ok("classes", names.join(", "))]);
    }
    let text = if names.is_empty() {
        "there is none".to_owned()
    } else {
        format!("there is {} and no class `default`", names.join(", "))
    };
    let install = &lines.install;
    let advice = format!("run `{install}`, or pass --class to `create`");
    Ok(vec![if names.is_empty() {
        Check::fail("classes", text, advice)
    } else {
        Check::warn("classes", text, advice)
    }])
}

/// Which tenants don't work, and why.
pub(super) async fn tenants(cluster: &Cluster) -> Outcome {
    let tenants = tenant::all(cluster).await.map_err(|err| ("tenants", err))?;
    let mut checks: Vec<Check> = tenants
        .iter()
        .filter_map(|vcp| judge_tenant(vcp, cluster))
        .collect();
    if checks.is_empty() {
        let text = match tenants.len() {
            0 => "there are none yet".to_owned(),
            1 => "1 tenant, and it works".to_owned(),
            count => format!("{count} tenants, and all work"),
        };
        checks.push(Check::ok("tenants", text));
    }
    Ok(checks)
}

fn judge_tenant(vcp: &VirtualControlPlane, cluster: &Cluster) -> Option<Check> {
    let (namespace, name) = (vcp.namespace().unwrap_or_default(), vcp.name_any());
    let phase = condition::phase_word(vcp);
    let state = condition::state(vcp);
    let advice = format!(
        "see `{}`",
        cluster.hint_in(&namespace, &format!("describe {name}"))
    );
    if vcp.metadata.deletion_timestamp.is_some() {
        let held = vcp
            .status
            .as_ref()
            .and_then(|status| status.message.clone())
            .unwrap_or_default();
        return Some(Check::warn(
            "tenants",
            format!(
                "{namespace}/{name} is being deleted: {}",
                error::one_line(&held)
            )
            .trim_end_matches([':', ' ']),
            advice,
        ));
    }
    match state {
        State::Working | State::Asleep(_) => None,
        State::Waiting(text) => Some(Check::warn(
            "tenants",
            format!("{namespace}/{name} is {phase}: {}", condition::brief(&text)),
            advice,
        )),
        State::Stuck(_) if vcp.spec.paused => Some(Check::warn(
            "tenants",
            format!("{namespace}/{name} is paused"),
            format!(
                "end it with `{}`",
                cluster.hint_in(&namespace, &format!("resume {name}"))
            ),
        )),
        State::Stuck(text) => Some(Check::fail(
            "tenants",
            format!("{namespace}/{name} is {phase}: {}", condition::brief(&text)),
            advice,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::Level;
    use serde_json::json;

    #[test]
    fn nodes_are_counted() {
        let node = |name: &str, ready: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}})).unwrap()
        };
        let level = |nodes: &[Node]| judge_nodes(nodes, "kubectl get nodes")[0].level;
        assert_eq!(level(&[node("a", "True")]), Level::Ok);
        assert_eq!(
            level(&[node("a", "True"), node("b", "Unknown")]),
            Level::Warn
        );
        assert_eq!(level(&[node("a", "False")]), Level::Fail);
        assert_eq!(level(&[]), Level::Fail);
    }

    #[test]
    fn definitions_are_compared() {
        let wanted = api::crds().remove(0);
        let advice = Advice {
            install: "sublet install".into(),
            describe: "kubectl describe crd".into(),
        };
        assert_eq!(
            judge_definition(&wanted, None, &advice).unwrap().level,
            Level::Fail
        );
        assert_eq!(
            judge_definition(&wanted, Some(&wanted), &advice)
                .unwrap()
                .level,
            Level::Fail
        );
        let mut live = wanted.clone();
        live.status = serde_json::from_value(json!({"conditions": [{"type": "Established", "status": "True", "lastTransitionTime": null, "message": "", "reason": ""}],
            "acceptedNames": {"kind": "", "plural": ""}, "storedVersions": []})).unwrap();
        assert_eq!(judge_definition(&wanted, Some(&live), &advice), None);
        live.spec.versions[0].schema = None;
        assert_eq!(
            judge_definition(&wanted, Some(&live), &advice)
                .unwrap()
                .level,
            Level::Warn
        );
    }

    #[test]
    fn an_image_from_a_registry_of_ones_own_is_no_other_version() {
        let same = |running: &str| {
            are_same(
                &[running.to_owned()],
                &["sublet.dev/sublet-syncer:0.1.0".to_owned()],
            )
        };
        assert!(same("registry.example.com/mine/sublet-syncer:0.1.0"));
        assert!(!same("registry.example.com/mine/sublet-syncer:0.0.9"));
    }

    #[test]
    fn a_lease_must_be_renewed() {
        let lease: Lease = serde_json::from_value(json!({"metadata": {"name": "l"}, "spec": {
            "holderIdentity": "s-0", "leaseDurationSeconds": 15, "renewTime": "2025-01-01T00:00:00.000000Z"}}))
        .unwrap();
        let level = |now: &str| judge_lease(&lease, now.parse().unwrap()).map(|check| check.level);
        assert_eq!(level("2025-01-01T00:00:10Z"), Some(Level::Ok));
        assert_eq!(level("2025-01-01T00:01:00Z"), Some(Level::Warn));
        assert_eq!(judge_lease(&Lease::default(), Timestamp::now()), None);
    }

    #[test]
    fn ranges_that_tenants_cannot_have_are_told() {
        let judged = |cidrs: &[&str]| {
            let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}});
            judge_addresses(&[serde_json::from_value(range).unwrap()]).map(|check| check.level)
        };
        assert_eq!(judged(&["10.96.0.0/12"]), None);
        assert_eq!(judged(&["10.96.0.0/12", "fd00::/112"]), Some(Level::Warn));
        assert_eq!(judged(&["fd00::/112"]), Some(Level::Fail));
    }
}
