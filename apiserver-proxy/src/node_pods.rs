//! What a virtual node's kubelet tells of its pods: `/pods`, read live from the super cluster.
//!
//! An item is built from the tenant's names in the index and from an allow-list of fields; the spec that the tenant
//! wrote is in its own API server.

use crate::{
    index::{Index, Tenant},
    node_figures::is_node,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tenancy::object::NamespacedName;

/// What is read of a pod of the super cluster. Addresses of the host are not among it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Item {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    namespace: String,
    name: String,
    creation_timestamp: Option<Value>,
    labels: Option<Map<String, Value>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_policy: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    termination_grace_period_seconds: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Vec<Container>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init_containers: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Container {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<Value>,
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pod_ip: Option<Value>,
    #[serde(rename = "podIPs", skip_serializing_if = "Option::is_none")]
    pod_ips: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qos_class: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_statuses: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init_container_statuses: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ephemeral_container_statuses: Option<Value>,
}

/// The list, of those of `items` that are the tenant's and on the node that `label` means.
pub(crate) fn list(items: Vec<Item>, tenant: &Tenant, label: &str, index: &Index) -> Value {
    let seen = items.into_iter().filter_map(|pod| {
        let place: NamespacedName = (pod.metadata.namespace, pod.metadata.name);
        let own = index.own_pod(tenant, &place)?;
        if !is_node(&own.node, label) {
            return None;
        }
        let mut metadata = json!({"namespace": own.namespace, "name": own.name, "uid": own.uid});
        if let Some(created) = pod.metadata.creation_timestamp {
            metadata["creationTimestamp"] = created;
        }
        if let Some(mut labels) = pod.metadata.labels {
            labels.retain(|key, _| {
                !key.starts_with("sublet.dev/") && !tenancy::meta::is_carried(key)
            });
            metadata["labels"] = labels.into();
        }
        let pod = json!({"metadata": metadata, "spec": pod.spec, "status": pod.status});
        // Texts of the kubelet name the pod's super namespace, whose hash makes it a word that means nothing else.
        let renamed = pod.to_string().replace(&place.0, &own.namespace);
        serde_json::from_str(&renamed).ok()
    });
    let seen: Vec<Value> = seen.collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": seen})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::{PEM_AUTHORITY, meta, place, route};

    /// T31, T39: other tenants' pods, addresses of the host and what Sublet added aren't told of.
    #[test]
    fn t31_t39_pods_are_told_of_by_allow_list() {
        let index = Index::default();
        let tenant = Tenant::read(&route(1, "acme", &PEM_AUTHORITY)).unwrap();
        let mut items: Vec<Item> = vec![];
        for (n, name) in [(1, "web"), (2, "other")] {
            let (twin, _) = place(n, "shop", name);
            let mut metadata = meta(n, "shop", name);
            (metadata["namespace"], metadata["name"]) = (json!(twin), json!(name));
            metadata["labels"]["label.sublet.dev/hmmw7veqppw7khbqsduygxzppq"] = "hidden".into();
            let env = json!([{"name": "A", "value": "hidden"}]);
            let waiting =
                json!({"waiting": {"reason": "R", "message": format!("pod {name}_{twin}")}});
            let state = json!({
                "name": "main", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": waiting,
            });
            let item = json!({
                "metadata": metadata,
                "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "i", "env": env}]},
                "status": {"phase": "Pending", "hostIP": "10.0.0.1", "containerStatuses": [state]},
            });
            let pod = serde_json::from_value(item.clone()).unwrap();
            index.set_pod(place(n, "shop", name), &pod);
            items.push(serde_json::from_value(item).unwrap());
        }
        let seen = list(items.clone(), &tenant, "n1", &index);
        assert_eq!(seen["items"].as_array().unwrap().len(), 1);
        let seen = &seen["items"][0];
        assert_eq!(seen["metadata"]["namespace"], "shop");
        assert_eq!(
            seen["status"]["containerStatuses"][0]["state"]["waiting"]["message"],
            "pod web_shop"
        );
        let text = seen.to_string();
        for hidden in ["hidden", "10.0.0.1", "sublet.dev"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
        assert_eq!(list(items, &tenant, "n2", &index)["items"], json!([]));
    }
}
