//! Whether clients can come in: the one address of all tenants.

use super::{Check, checks::Outcome};
use crate::{cluster::Cluster, condition, helm::Lines, tenant};
use api::{Phase, SYSTEM_NAMESPACE, VirtualControlPlane, keys::FRONT_DOOR};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the front door's Service. Whether the proxy behind it runs is told with the other daemons.
pub(super) async fn check(cluster: &Cluster, lines: &Lines) -> Outcome {
    let api: Api<Service> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let service = api
        .get_opt(FRONT_DOOR)
        .await
        .map_err(|err| ("access", err))?;
    let describe = format!("describe service {FRONT_DOOR}");
    Ok(vec![judge(
        service.as_ref(),
        &lines.install,
        &cluster.kubectl(SYSTEM_NAMESPACE, &describe),
    )])
}

/// Tries the address of a tenant from here: that of a node often leads nowhere from where its users are.
pub(super) async fn reached(cluster: &Cluster) -> Outcome {
    let failed = |err| ("access", err);
    // By whom clients go then isn't known here.
    let proxies = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    if proxies.iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(vec![]);
    }
    let api: Api<Service> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let service = api.get_opt(FRONT_DOOR).await.map_err(failed)?;
    let spec = service.and_then(|service| service.spec);
    if spec.and_then(|spec| spec.type_).as_deref() != Some("NodePort") {
        return Ok(vec![]);
    }
    let tenants = tenant::all(cluster).await.map_err(failed)?;
    let Some((name, host, port)) = tenants.iter().find_map(way_in) else {
        return Ok(vec![]);
    };
    let connection = TcpStream::connect((&*host, port));
    let wrong = match tokio::time::timeout(PATIENCE, connection).await {
        Ok(Ok(_)) => None,
        Ok(Err(err)) => Some(err.to_string()),
        Err(_) => Some("nothing answers".to_owned()),
    };
    Ok(vec![judge_way(
        &name,
        &format!("{host}:{port}"),
        wrong.as_deref(),
    )])
}

/// Name and address of a tenant that must be reached, if it is one.
fn way_in(vcp: &VirtualControlPlane) -> Option<(String, String, u16)> {
    if vcp.spec.external.is_some() || condition::phase(vcp) != Some(Phase::Ready) {
        return None;
    }
    let endpoint: http::Uri = vcp.status.as_ref()?.endpoint.as_ref()?.parse().ok()?;
    let host = endpoint.host()?.trim_matches(['[', ']']).to_owned();
    Some((vcp.name_any(), host, endpoint.port_u16().unwrap_or(443)))
}

fn judge_way(tenant: &str, address: &str, wrong: Option<&str>) -> Check {
    match wrong {
        None => Check::ok(
            "access",
            format!("{address} of tenant {tenant} is reached from here"),
        ),
        Some(why) => Check::warn(
            "access",
            format!("{address} of tenant {tenant} isn't reached from here: {why}"),
            "if its users are where you are, make the front door's Service a LoadBalancer, or set `endpointHost` of its class \
             (docs/access.md)",
        ),
    }
}

fn judge(service: Option<&Service>, install: &str, describe: &str) -> Check {
    let Some(service) = service else {
        return Check::fail(
            "access",
            format!("Service {FRONT_DOOR} isn't there: tenants can't be reached from outside"),
            format!("run `{install}`"),
        );
    };
    let spec = service.spec.as_ref();
    let port = spec
        .and_then(|spec| spec.ports.as_ref()?.first())
        .map(|port| (port.port, port.node_port));
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref()?.first());
    let host = ingress.and_then(|ingress| ingress.hostname.as_ref().or(ingress.ip.as_ref()));
    let is_balanced = spec.and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
    match (host, port) {
        (Some(host), Some((port, _))) => Check::ok(
            "access",
            format!("tenants are reached at load balancer {host}:{port}"),
        ),
        (None, Some((_, Some(port)))) if is_balanced => Check::warn(
            "access",
            format!(
                "{FRONT_DOOR} has no load balancer yet; until then tenants are reached at port {port} of any node"
            ),
            format!("look at `{describe}`"),
        ),
        (None, Some((_, Some(port)))) => Check::ok(
            "access",
            format!("tenants are reached at port {port} of any node"),
        ),
        _ => Check::fail(
            "access",
            format!(
                "Service {FRONT_DOOR} has neither a node port nor a load balancer: tenants can't be reached from outside"
            ),
            format!("make its type NodePort or LoadBalancer, or run `{install}`"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::Level;
    use serde_json::{Value, json};

    fn judged(spec: Value, status: Value) -> (Level, String) {
        let service = json!({"metadata": {}, "spec": spec, "status": status});
        let service: Service = serde_json::from_value(service).unwrap();
        let check = judge(Some(&service), "sublet install", "kubectl describe");
        (check.level, check.text)
    }

    #[test]
    fn the_address_of_a_tenant_that_works_is_tried() {
        let way = |spec: Value, phase: &str, endpoint: &str| {
            let vcp = json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane", "metadata": {"name": "a"},
                "spec": spec, "status": {"phase": phase, "endpoint": endpoint},
            });
            way_in(&serde_json::from_value(vcp).unwrap())
        };
        let to = |host: &str, port| Some(("a".to_owned(), host.to_owned(), port));
        assert_eq!(
            way(json!({}), "Ready", "https://10.0.0.2:31000"),
            to("10.0.0.2", 31000)
        );
        assert_eq!(
            way(json!({}), "Ready", "https://[fd00::2]:31000"),
            to("fd00::2", 31000)
        );
        assert_eq!(
            way(json!({}), "Ready", "https://a.example.com"),
            to("a.example.com", 443)
        );
        assert_eq!(
            way(json!({}), "Provisioning", "https://10.0.0.2:31000"),
            None
        );
        let external = json!({"external": {"kubeconfigSecretRef": {"name": "a"}}});
        assert_eq!(way(external, "Ready", "https://10.0.0.2:31000"), None);
        assert_eq!(judge_way("a", "10.0.0.2:31000", None).level, Level::Ok);
        let told = judge_way("a", "10.0.0.2:31000", Some("nothing answers"));
        assert_eq!(told.level, Level::Warn);
        assert!(told.advice.contains("LoadBalancer"), "{told:?}");
    }

    #[test]
    fn the_way_in_is_named() {
        let port = json!([{"port": 443, "nodePort": 30443}]);
        let (level, text) = judged(json!({"type": "NodePort", "ports": port}), json!({}));
        assert_eq!(
            (level, &*text),
            (Level::Ok, "tenants are reached at port 30443 of any node")
        );
        let balanced = json!({"type": "LoadBalancer", "ports": port});
        assert_eq!(judged(balanced.clone(), json!({})).0, Level::Warn);
        let there = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
        let (level, text) = judged(balanced, there);
        assert_eq!(
            (level, &*text),
            (
                Level::Ok,
                "tenants are reached at load balancer 192.0.2.1:443"
            )
        );
        let hidden = json!({"type": "ClusterIP", "ports": [{"port": 443}]});
        assert_eq!(judged(hidden, json!({})).0, Level::Fail);
        assert_eq!(judge(None, "sublet install", "").level, Level::Fail);
    }
}
