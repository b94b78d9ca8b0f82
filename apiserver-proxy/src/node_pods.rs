//! What a virtual node's kubelet tells of its pods: `/pods`, read live from the super cluster.
//!
//! An item is built from the tenant's names in the index and from an allow-list of fields; the spec that the tenant
//! wrote is in its own API server.

use crate::{
    index::{Index, Place, Tenant},
    node_figures::is_node,
};
use serde_json::{Map, Value, json};

/// Fields of the spec, apart from containers.
const SPEC: [&str; 3] = ["nodeName", "restartPolicy", "terminationGracePeriodSeconds"];
/// Fields of a container.
const CONTAINER: [&str; 4] = ["name", "image", "ports", "resources"];
/// Fields of the status; addresses of the host are none of them.
const STATUS: [&str; 8] = [
    "phase",
    "startTime",
    "podIP",
    "podIPs",
    "qosClass",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];

/// The list, of those of `items` that are the tenant's and on the node that `label` means.
pub(crate) fn list(items: &[Value], tenant: &Tenant, label: &str, index: &Index) -> Value {
    let seen = items.iter().filter_map(|pod| {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str);
        let place: Place = (
            text("/metadata/namespace")?.to_owned(),
            text("/metadata/name")?.to_owned(),
        );
        let own = index.own_pod(tenant, &place)?;
        if !is_node(&own.node, label) {
            return None;
        }
        let mut metadata = pick(&pod["metadata"], &["creationTimestamp", "labels"]);
        if let Some(Value::Object(labels)) = metadata.get_mut("labels") {
            labels.retain(|key, _| !key.starts_with("sublet.dev/"));
        }
        metadata.insert("namespace".into(), own.namespace.clone().into());
        metadata.insert("name".into(), own.name.into());
        metadata.insert("uid".into(), own.uid.into());
        let mut spec = pick(&pod["spec"], &SPEC);
        for field in ["containers", "initContainers"] {
            if let Some(all) = pod["spec"][field].as_array() {
                let all = all.iter().map(|one| pick(one, &CONTAINER).into());
                spec.insert(field.into(), Value::Array(all.collect()));
            }
        }
        let status = pick(&pod["status"], &STATUS);
        let pod = json!({"metadata": metadata, "spec": spec, "status": status});
        // Texts of the kubelet name the pod's super namespace, whose hash makes it a word that means nothing else.
        let renamed = pod.to_string().replace(&place.0, &own.namespace);
        serde_json::from_str(&renamed).ok()
    });
    let seen: Vec<Value> = seen.collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": seen})
}

fn pick(of: &Value, fields: &[&str]) -> Map<String, Value> {
    let known = fields.iter().filter_map(|field| {
        let value = of.get(*field)?;
        Some(((*field).to_owned(), value.clone()))
    });
    known.collect()
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
        let mut items = vec![];
        for (n, name) in [(1, "web"), (2, "other")] {
            let (twin, _) = place(n, "shop", name);
            let mut metadata = meta(n, "shop", name);
            (metadata["namespace"], metadata["name"]) = (json!(twin), json!(name));
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
            items.push(item);
        }
        let seen = list(&items, &tenant, "n1", &index);
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
        assert_eq!(list(&items, &tenant, "n2", &index)["items"], json!([]));
    }
}
