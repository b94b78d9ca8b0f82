//! Whether clients can come in: the one address of all tenants.

use super::{Check, checks::Outcome};
use crate::cluster::Cluster;
use api::{SYSTEM_NAMESPACE, keys::FRONT_DOOR};
use k8s_openapi::api::core::v1::Service;
use kube::Api;

/// Looks at the front door's Service. Whether the proxy behind it runs is told with the other daemons.
pub(super) async fn check(cluster: &Cluster) -> Outcome {
    let api: Api<Service> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let service = api
        .get_opt(FRONT_DOOR)
        .await
        .map_err(|err| ("access", err))?;
    let describe = format!("describe service {FRONT_DOOR}");
    Ok(vec![judge(
        service.as_ref(),
        &cluster.hint_anywhere("install"),
        &cluster.kubectl(SYSTEM_NAMESPACE, &describe),
    )])
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
