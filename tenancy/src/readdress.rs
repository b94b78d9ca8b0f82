//! What becomes of a tenant's Service whose address something else in the super cluster has.
//!
//! The tenant is told, and its Service stays as it is. Where an annotation asks for it, the Service is given another address.
//! An address can't be changed, so its type becomes `ExternalName`, which has none, and what it was is given back. It is
//! the same object all the time, and what it was stands on it, so that whoever comes after a crash ends what was begun.

use crate::{kind::Refused, object::Object};
use api::keys;
use serde_json::{Value, json};

/// Reason of a refusal: something else in the super cluster has the Service's address.
pub const TAKEN: &str = "AddressTaken";

/// Where [`keys::READDRESSED`] stands.
const READDRESSED: &str = "/metadata/annotations/sublet.dev~1readdressed";

/// How the super cluster's API server says that an address is taken; a node port that is says `provided port`.
const SAID: &str = "provided IP is already allocated";

/// What the tenant is told, if that is why its Service was refused.
pub fn clash(service: &Object, message: &str) -> Option<Refused> {
    if !message.contains(SAID) {
        return None;
    }
    let address = service.text("/spec/clusterIP").unwrap_or_default();
    let what = if asks(service) {
        "it is given another one".to_owned()
    } else {
        format!(
            "create it anew without clusterIP, or annotate it with {}=true to have it given another one",
            keys::RECREATE_ON_CLASH
        )
    };
    let message =
        format!("clusterIP {address} belongs to something else in the super cluster: {what}");
    Some(Refused::new(TAKEN, message))
}

/// Whether the tenant wants its Service to have another address then.
fn asks(service: &Object) -> bool {
    service.annotation(keys::RECREATE_ON_CLASH) == Some("true")
}

/// The JSON Patch of the tenant's Service that takes its address away, if its annotation asks for that.
pub fn release(service: &Object) -> Option<Value> {
    let spec = service.at("/spec").filter(|_| asks(service))?;
    let nowhere = json!({"type": "ExternalName", "externalName": "readdressed.invalid"});
    Some(json!([
        version(service),
        {"op": "add", "path": READDRESSED, "value": spec.to_string()},
        {"op": "replace", "path": "/spec", "value": nowhere},
    ]))
}

/// The JSON Patch that gives the Service back what it was, without its address, if that is what it waits for.
pub fn give_back(service: &Object) -> Option<Value> {
    if service.text("/spec/type") != Some("ExternalName") {
        return None;
    }
    let spec = service.annotation(keys::READDRESSED)?;
    let mut spec: Value = serde_json::from_str(spec).ok()?;
    let fields = spec.as_object_mut()?;
    for of_the_address in ["clusterIP", "clusterIPs"] {
        fields.remove(of_the_address);
    }
    Some(json!([
        version(service),
        {"op": "remove", "path": READDRESSED},
        {"op": "replace", "path": "/spec", "value": spec},
    ]))
}

/// The tenant may be writing to it as well (R4).
fn version(service: &Object) -> Value {
    json!({"op": "test", "path": "/metadata/resourceVersion", "value": service.at("/metadata/resourceVersion")})
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "Service \"web\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.4.9\"]: failed to allocate \
        IP 10.96.4.9: provided IP is already allocated";

    fn service(spec: &Value, annotations: &Value) -> Object {
        Object::from_value(json!({
            "apiVersion": "v1", "kind": "Service", "spec": spec,
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "7", "annotations": annotations},
        }))
        .unwrap()
    }

    fn spec() -> Value {
        json!({
            "type": "NodePort", "clusterIP": "10.96.4.9", "clusterIPs": ["10.96.4.9"], "selector": {"app": "web"},
            "ports": [{"port": 80, "nodePort": 30001}],
        })
    }

    #[test]
    fn a_clash_is_told_from_other_refusals_and_says_what_helps() {
        let plain = service(&spec(), &json!({}));
        let told = clash(&plain, MESSAGE).unwrap();
        assert_eq!(told.reason, TAKEN);
        assert!(told.message.contains("clusterIP 10.96.4.9"), "{told:?}");
        assert!(told.message.contains("sublet.dev/recreate-on-clash=true"));
        let port =
            "spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated";
        assert_eq!(clash(&plain, port), None);
    }

    #[test]
    fn a_service_is_readdressed_only_if_it_asks_and_is_what_it_was_but_for_its_address() {
        for no in [
            json!({}),
            json!({keys::RECREATE_ON_CLASH: "false"}),
            json!({"other": "true"}),
        ] {
            assert_eq!(release(&service(&spec(), &no)), None, "{no}");
        }
        let patch = release(&service(&spec(), &json!({keys::RECREATE_ON_CLASH: "true"}))).unwrap();
        assert_eq!(
            patch[0],
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"})
        );
        let annotations =
            json!({keys::RECREATE_ON_CLASH: "true", keys::READDRESSED: patch[1]["value"]});
        let begun = service(&patch[2]["value"], &annotations);
        let patch = give_back(&begun).unwrap();
        let mut expected = spec();
        let fields = expected.as_object_mut().unwrap();
        fields.retain(|name, _| !name.starts_with("clusterIP"));
        assert_eq!(patch[2]["value"], expected);
        assert_eq!(patch[1], json!({"op": "remove", "path": READDRESSED}));
        // Whoever writes that by hand gets nothing by it.
        assert_eq!(give_back(&service(&spec(), &annotations)), None);
        let nonsense = json!({keys::READDRESSED: "x"});
        let name = json!({"type": "ExternalName", "externalName": "example.com"});
        assert_eq!(give_back(&service(&name, &nonsense)), None);
    }
}
