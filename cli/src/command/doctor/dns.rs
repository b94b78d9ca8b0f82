//! Whether pods of tenants that have no DNS server of their own are answered.

use super::{Check, checks::Outcome};
use crate::{cluster::Cluster, helm::Lines, tenant};
use api::{Dns, SYSTEM_NAMESPACE, VirtualControlPlane, keys::SHARED_DNS};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, api::ListParams};

const SUBJECT: &str = "dns";

/// Looks at the Service of the shared DNS server, and at what stands behind it.
pub(super) async fn check(cluster: &Cluster, lines: &Lines) -> Outcome {
    let failed = |err| (SUBJECT, err);
    let client = &cluster.client;
    let services: Api<Service> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let service = services.get_opt(SHARED_DNS).await.map_err(failed)?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let own = ListParams::default().labels(&format!("kubernetes.io/service-name={SHARED_DNS}"));
    let slices = slices.list(&own).await.map_err(failed)?.items;
    let tenants = tenant::all(cluster).await.map_err(failed)?;
    let users = tenants.iter().filter(|vcp| is_shared(vcp)).count();
    let pods = cluster.kubectl(
        SYSTEM_NAMESPACE,
        "get pods -l app.kubernetes.io/name=sublet-apiserver-proxy",
    );
    Ok(vec![judge(
        service.as_ref(),
        &slices,
        users,
        &lines.install,
        &pods,
    )])
}

fn is_shared(vcp: &VirtualControlPlane) -> bool {
    vcp.spec.network.dns == Dns::Shared
}

/// `users` is the number of tenants that ask it; without any a fault harms nobody yet.
fn judge(
    service: Option<&Service>,
    slices: &[EndpointSlice],
    users: usize,
    install: &str,
    pods: &str,
) -> Check {
    let fault = |text: String, advice: String| {
        let text = format!("{text}: pods of {users} tenants with network.dns `shared` ask it");
        match users {
            0 => Check::warn(SUBJECT, text, advice),
            _ => Check::fail(SUBJECT, text, advice),
        }
    };
    let run = format!("run `{install}`");
    let Some(spec) = service.and_then(|service| service.spec.as_ref()) else {
        return fault(format!("Service {SHARED_DNS} isn't there"), run);
    };
    let has = |protocol: &str| {
        let ports = spec.ports.as_deref().unwrap_or_default();
        let is_open = |port: &k8s_openapi::api::core::v1::ServicePort| {
            port.port == 53 && port.protocol.as_deref().unwrap_or("TCP") == protocol
        };
        ports.iter().any(is_open)
    };
    if let Some(missing) = ["UDP", "TCP"].into_iter().find(|protocol| !has(protocol)) {
        let text = format!("Service {SHARED_DNS} has no port 53 for {missing}");
        return fault(text, run);
    }
    let ready = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.and_then(|conditions| conditions.ready) != Some(false)
        })
        .count();
    if ready == 0 {
        let text = format!("nothing answers behind Service {SHARED_DNS}");
        return fault(text, format!("see `{pods}`"));
    }
    let text = match users {
        0 => format!("{SHARED_DNS} answers; no tenant asks it"),
        1 => format!("{SHARED_DNS} answers for 1 tenant"),
        users => format!("{SHARED_DNS} answers for {users} tenants"),
    };
    Check::ok(SUBJECT, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::Level;
    use serde_json::{Value, json};

    fn judged(ports: Value, endpoints: Value, users: usize) -> Level {
        let service: Service =
            serde_json::from_value(json!({"metadata": {}, "spec": {"ports": ports}})).unwrap();
        let slice: EndpointSlice = serde_json::from_value(
            json!({"metadata": {}, "addressType": "IPv4", "endpoints": endpoints}),
        )
        .unwrap();
        judge(Some(&service), &[slice], users, "sublet install", "").level
    }

    #[test]
    fn who_asks_must_be_answered() {
        let both = json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]);
        let one = json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]);
        let none = json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}]);
        assert_eq!(judged(both.clone(), one.clone(), 3), Level::Ok);
        assert_eq!(judged(both.clone(), none, 3), Level::Fail);
        assert_eq!(judged(both, json!([]), 0), Level::Warn);
        assert_eq!(
            judged(json!([{"port": 53, "protocol": "UDP"}]), one, 1),
            Level::Fail
        );
        let check = judge(None, &[], 2, "sublet install", "");
        assert_eq!(check.level, Level::Fail);
        assert_eq!(
            check.text,
            "Service sublet-dns isn't there: pods of 2 tenants with network.dns `shared` ask it"
        );
    }
}
