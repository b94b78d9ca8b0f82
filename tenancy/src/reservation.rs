//! Addresses of a tenant's Service slice that Services of the platform have: they are reserved in the tenant.
//!
//! The super cluster gives its own Services addresses from all of its range, slices included. A reservation is an IPAddress
//! in the tenant that its API server finds taken, and that its repair loop leaves alone, since its label says that
//! somebody else manages it. It tells nothing of whose the address is.

use crate::{kind::Resource, object::Object, slice::Slice};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::Ipv4Addr};

/// IPAddress.
pub static RESOURCE: Resource = Resource {
    group: "networking.k8s.io",
    version: "v1",
    kind: "IPAddress",
    plural: "ipaddresses",
    namespaced: false,
};

/// Label of an IPAddress that names its manager, as Kubernetes defines it.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// Who manages a reservation.
const MANAGER: &str = "sublet.dev";

/// Label selector of reservations.
pub fn selector() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}

/// The addresses that a Service has.
pub fn addresses(service: &Object) -> Vec<Ipv4Addr> {
    let list = service.at("/spec/clusterIPs").and_then(Value::as_array);
    let one = service.at("/spec/clusterIP");
    let all = list.into_iter().flatten().chain(one);
    let mut found: Vec<Ipv4Addr> = all.filter_map(|text| text.as_str()?.parse().ok()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Of addresses of others those that must be reserved in a tenant with this slice: its own API server's isn't one.
pub fn within(slice: Slice, others: impl IntoIterator<Item = Ipv4Addr>) -> BTreeSet<Ipv4Addr> {
    let others = others.into_iter();
    others
        .filter(|address| slice.contains(*address) && *address != slice.api_address())
        .collect()
}

/// The reservation of an address.
pub fn object(address: Ipv4Addr) -> Value {
    json!({
        "apiVersion": RESOURCE.api_version(), "kind": RESOURCE.kind,
        "metadata": {"name": address.to_string(), "labels": {MANAGED_BY: MANAGER}},
        "spec": {"parentRef": {"group": MANAGER, "resource": "reservations", "name": "platform"}},
    })
}

/// The address that an object reserves, if it is one of those wanted; an object of no such address must go.
pub fn kept(wanted: &BTreeSet<Ipv4Addr>, object: &Object) -> Option<Ipv4Addr> {
    let address = object.name().parse().ok();
    address.filter(|address| wanted.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn service(spec: Value) -> Object {
        Object::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_service_has_the_addresses_that_its_spec_names_once() {
        let both = json!({"clusterIP": "10.96.4.7", "clusterIPs": ["10.96.4.7", "fd00::7"]});
        assert_eq!(addresses(&service(both)), [parse("10.96.4.7")]);
        for none in [
            json!({"clusterIP": "None"}),
            json!({"type": "ExternalName"}),
        ] {
            assert!(addresses(&service(none)).is_empty());
        }
    }

    #[test]
    fn what_others_have_in_a_slice_is_reserved_and_the_tenants_own_api_is_not() {
        let slice: Slice = "10.96.4.0/22".parse().unwrap();
        let others = ["10.96.4.1", "10.96.5.9", "10.96.8.1", "10.96.0.1"].map(parse);
        assert_eq!(within(slice, others), BTreeSet::from([parse("10.96.5.9")]));
    }

    #[test]
    fn a_reservation_is_ours_and_says_nothing_of_the_platform() {
        let object = object(parse("10.96.5.9"));
        assert_eq!(object["metadata"]["name"], "10.96.5.9");
        assert_eq!(object["metadata"]["labels"][MANAGED_BY], MANAGER);
        assert_eq!(selector(), "ipaddress.kubernetes.io/managed-by=sublet.dev");
        // The API server asks for a parent; that of its own allocator is a Service.
        assert_ne!(object["spec"]["parentRef"]["resource"], "services");
    }

    #[test]
    fn reservations_are_kept_while_they_are_wanted() {
        let wanted = BTreeSet::from([parse("10.96.5.9")]);
        let kept = |name: &str| {
            let object = Object::from_value(json!({"metadata": {"name": name}})).unwrap();
            kept(&wanted, &object)
        };
        assert_eq!(kept("10.96.5.9"), Some(parse("10.96.5.9")));
        assert_eq!(kept("10.96.4.3"), None);
        assert_eq!(kept("no-address"), None);
    }
}
