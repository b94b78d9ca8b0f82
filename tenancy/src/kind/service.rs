//! Services: the selector goes down and the super cluster makes the slices; load-balancer status and node ports go up.
//!
//! The tenant's API server gives a Service its cluster IP from the tenant's slice, and the super Service has that same
//! address, so both sides agree from the first moment.

use super::{Cx, Kind, Refused, Resource, TenantView, Upward, UpwardVerb, isolation};
use crate::{
    left_out, meta,
    object::{Object, pick},
    plan::{Change, holds},
    selector, sharing,
};
use api::keys;
use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;

pub(super) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    namespaced: true,
};

/// Spec fields that cross as they are, the selector by the keys of super pods. Addresses outside the slice, load-balancer addresses, and external names and IPs are
/// absent on purpose (T14, T15, T18).
const CROSSING: [&str; 14] = [
    "selector",
    "type",
    "sessionAffinity",
    "sessionAffinityConfig",
    "publishNotReadyAddresses",
    "internalTrafficPolicy",
    "externalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "allocateLoadBalancerNodePorts",
    "loadBalancerClass",
    "loadBalancerSourceRanges",
    "trafficDistribution",
    "clusterIP",
];

/// Fields of a port that cross; `nodePort` is asked for and may be answered otherwise.
const PORT: [&str; 6] = [
    "name",
    "protocol",
    "appProtocol",
    "port",
    "targetPort",
    "nodePort",
];

/// Annotations of twins that only say where a name leads, and where they stand.
const SIGNPOSTS: [(&str, &str); 2] = [
    (
        keys::EXTERNAL_NAME,
        "/metadata/annotations/sublet.dev~1external-name",
    ),
    (
        keys::SHOWN_ADDRESS,
        "/metadata/annotations/sublet.dev~1shown-address",
    ),
];

/// Fields of their ports that cross.
const SIGNPOST_PORT: [&str; 4] = ["name", "protocol", "appProtocol", "port"];

/// Spec fields that the super cluster allocates or defaults: kept when a patch replaces the spec.
const ALLOCATED: [&str; 6] = [
    "clusterIPs",
    // By webhooks of load-balancer controllers; it can't be changed.
    "loadBalancerClass",
    "ipFamilies",
    "ipFamilyPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
];

/// The kind.
#[derive(Debug)]
pub(super) struct Service;

impl Kind for Service {
    fn resource(&self) -> &'static Resource {
        &RESOURCE
    }

    fn super_writes(&self) -> bool {
        true
    }

    fn mirrors(&self) -> bool {
        true
    }

    fn down(&self, object: &Object, cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        if is_api_server(object.namespace(), object.name()) {
            // It is served from the control plane's namespace.
            return Ok(None);
        }
        if object.text("/spec/type") == Some("ExternalName") || sharing::is_shown(object) {
            // The first is an answer of the tenant's DNS alone; the second is in the super cluster already, as somebody
            // else's. A DNS server that isn't the tenant's own learns both from a twin that leads nowhere.
            return Ok(cx
                .rules
                .resolver
                .is_shared()
                .then(|| signpost(object, cx))
                .flatten());
        }
        if object
            .at("/spec/externalIPs")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
        {
            return Err(Refused::new(
                "ExternalIPs",
                "spec.externalIPs isn't allowed: it takes traffic of others; use type LoadBalancer or NodePort",
            ));
        }
        check_address(object, cx)?;
        let mut twin = meta::twin(&RESOURCE, object, object.name(), cx);
        if is_balanced(object) {
            check_balancer_class(object, cx)?;
            for (key, value) in left_out::annotations(RESOURCE.kind, object, cx)? {
                twin.annotate(key, value);
            }
        }
        let spec = object.value().get("spec").unwrap_or(&Value::Null);
        let mut crossing = pick(spec, &CROSSING);
        let selects = crossing.get_mut("selector");
        if let Some(selects) = selects.and_then(Value::as_object_mut) {
            selector::carry_labels(selects);
        }
        if crossing.get("clusterIP").is_some_and(|own| own != "None") {
            one_family(&mut crossing);
        }
        let ports = spec
            .get("ports")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        crossing.insert(
            "ports".into(),
            ports.map(|port| Value::Object(pick(port, &PORT))).collect(),
        );
        twin.value_mut()["spec"] = crossing.into();
        Ok(Some(twin))
    }

    fn isolation(&self, object: &Object, cx: &Cx<'_>) -> Vec<Object> {
        let twin = meta::super_namespace(object.namespace(), cx);
        isolation::of_service(object, &twin, cx)
            .into_iter()
            .collect()
    }

    fn changes(&self, want: &Object, have: &Object) -> Vec<Change> {
        let mut spec = want.value()["spec"].clone();
        let now = &have.value()["spec"];
        for field in ALLOCATED {
            if let (None, Some(value)) = (spec.get(field), now.get(field)) {
                spec[field] = value.clone();
            }
        }
        keep_node_ports(&mut spec, now);
        let edited = meta::applied(want) != meta::applied(have);
        let same = if edited {
            spec == *now
        } else {
            // The server adds to the spec, and nothing to the selector.
            holds(now, &spec) && spec.get("selector") == now.get("selector")
        };
        let spec = (!same).then(|| Change {
            subresource: None,
            pointer: "/spec".into(),
            value: Some(spec),
        });
        let leads = SIGNPOSTS
            .into_iter()
            .filter(|(key, _)| want.annotation(key).is_none() && have.annotation(key).is_some());
        let leads = leads.map(|(_, pointer)| Change {
            subresource: None,
            pointer: pointer.into(),
            value: None,
        });
        spec.into_iter().chain(leads).collect()
    }

    fn must_be_remade(&self, want: &Object, have: &Object) -> bool {
        let address = |object: &Object| {
            let address = object
                .text("/spec/clusterIP")
                .filter(|address| !address.is_empty());
            address.map(str::to_owned)
        };
        // Only a Service that became one with an address, or had one, differs there: addresses themselves never change.
        let other_address =
            address(want).is_some_and(|want| address(have).is_some_and(|have| have != want));
        // Neither does a load balancer's class, which the tenant may not have been offered before.
        let class = want.text("/spec/loadBalancerClass");
        let other_class =
            class.is_some() && is_balanced(have) && class != have.text("/spec/loadBalancerClass");
        other_address || other_class
    }

    fn shortfall(&self, object: &Object, cx: &Cx<'_>) -> Option<Refused> {
        if is_api_server(object.namespace(), object.name()) {
            return None;
        }
        let selector = object.at("/spec/selector").and_then(Value::as_object);
        let keys = selector.into_iter().flat_map(Map::keys);
        let selects =
            object.text("/spec/type") != Some("ExternalName") && !sharing::is_shown(object);
        let unmatched = left_out::of_selector(
            keys.map(String::as_str).filter(|_| selects),
            "so it leads to none",
        );
        if unmatched.is_some() || !is_balanced(object) {
            return unmatched;
        }
        let asks = object
            .text("/spec/loadBalancerIP")
            .is_some_and(|address| !address.is_empty());
        let fields: &[&str] = if asks { &["spec.loadBalancerIP"] } else { &[] };
        left_out::of_steered(RESOURCE.kind, object, fields, cx)
    }

    fn relax(&self, want: &Object) -> Option<Object> {
        let mut relaxed = want.clone();
        let ports = relaxed
            .value_mut()
            .pointer_mut("/spec/ports")?
            .as_array_mut()?;
        let given = ports
            .iter_mut()
            .filter_map(|port| port.as_object_mut()?.remove("nodePort"))
            .count();
        (given > 0).then_some(relaxed)
    }

    fn up_projection(&self, object: &Object) -> Value {
        json!({"loadBalancer": balancer(object), "nodePorts": node_ports(object)})
    }

    fn up_reads(&self) -> bool {
        true
    }

    fn up(&self, super_object: &Object, tenant: &TenantView, _cx: &Cx<'_>) -> Vec<Upward> {
        let differs = meta::fingerprint(&self.up_projection(super_object)) != tenant.projection;
        let Some(now) = tenant.now.as_ref().filter(|_| differs) else {
            return vec![];
        };
        let merge = |subresource, body| Upward {
            subresource,
            verb: UpwardVerb::Merge,
            body,
            shows: None,
        };
        let mut writes = vec![];
        // The ports are the tenant's own, and what it edited may not be in the super cluster yet, or ever.
        let mut spec = now.value()["spec"].clone();
        keep_node_ports(&mut spec, &super_object.value()["spec"]);
        if spec.get("ports") != now.at("/spec/ports") {
            let body = json!({
                "metadata": {"resourceVersion": now.text("/metadata/resourceVersion")},
                "spec": {"ports": spec["ports"]},
            });
            writes.push(merge(None, body));
        }
        let shown = if is_balanced(now) {
            balancer(super_object)
        } else {
            json!({})
        };
        if shown != balancer(now) {
            // In a merge patch only null takes away what the tenant made up.
            let status = json!({"loadBalancer": {"ingress": shown.get("ingress")}});
            writes.push(merge(Some("status"), json!({"status": status})));
        }
        writes
    }
}

/// A headless Service without pods that says in an annotation where the tenant's name leads: nothing in the super cluster
/// resolves or routes by it (T15).
fn signpost(object: &Object, cx: &Cx<'_>) -> Option<Object> {
    let (key, target) = match object.text("/spec/type") {
        Some("ExternalName") => (keys::EXTERNAL_NAME, object.text("/spec/externalName")),
        _ => (keys::SHOWN_ADDRESS, object.annotation(keys::SHOWN_ADDRESS)),
    };
    let mut twin = meta::twin(&RESOURCE, object, object.name(), cx);
    twin.annotate(key, target?);
    let ports = object.at("/spec/ports").and_then(Value::as_array);
    let ports = ports.into_iter().flatten();
    twin.value_mut()["spec"] = json!({
        "type": "ClusterIP",
        "clusterIP": "None",
        "ports": ports.map(|port| Value::Object(pick(port, &SIGNPOST_PORT))).collect::<Value>(),
    });
    Some(twin)
}

/// The Service of the tenant's own API, which the manager serves from the control plane's namespace.
pub(super) fn is_api_server(namespace: &str, name: &str) -> bool {
    namespace == "default" && name == "kubernetes"
}

/// Whether a load balancer of the platform leads to it.
fn is_balanced(object: &Object) -> bool {
    object.text("/spec/type") == Some("LoadBalancer")
}

/// Without its class whatever balancer is the super cluster's own would serve it, an outside one perhaps.
fn check_balancer_class(object: &Object, cx: &Cx<'_>) -> Result<(), Refused> {
    let Some(class) = object.text("/spec/loadBalancerClass") else {
        return Ok(());
    };
    let offered = &cx.rules.offers.balancer_classes;
    if offered.iter().any(|other| other == class) {
        return Ok(());
    }
    let remedy = match offered.as_slice() {
        [] => "leave it out, or ask the platform's admins for it (loadBalancerClasses of your ControlPlaneClass)".to_owned(),
        offered => format!("the platform offers {}", offered.join(", ")),
    };
    Err(Refused::new(
        "LoadBalancerClassNotOffered",
        format!("spec.loadBalancerClass {class:?} isn't offered: {remedy}"),
    ))
}

/// Of another family the super cluster would choose an address by itself.
fn one_family(spec: &mut Map<String, Value>) {
    if let Some(families) = spec.get_mut("ipFamilies") {
        *families = json!(["IPv4"]);
    }
    if let Some(policy) = spec.get_mut("ipFamilyPolicy") {
        *policy = "SingleStack".into();
    }
}

/// A Service has an address of the tenant's own, or says that it has none. To one that says nothing, as no API server that
/// keeps to the rules would, the super cluster would give one out of another tenant's slice (T14, T42).
fn check_address(object: &Object, cx: &Cx<'_>) -> Result<(), Refused> {
    let address = object.text("/spec/clusterIP").unwrap_or_default();
    if address == "None" {
        return Ok(());
    }
    let Some(slice) = cx.rules.slice else {
        return Err(Refused::new(
            "ServiceRangeNotServed",
            "this tenant's Service range isn't part of the super cluster's: only headless Services (clusterIP: None) work",
        ));
    };
    if address.is_empty() {
        return Err(Refused::new(
            "AddressOutsideSlice",
            format!(
                "the tenant's API server gave it no clusterIP: it needs one of this tenant's range {slice}, or None"
            ),
        ));
    }
    let inside = address
        .parse::<Ipv4Addr>()
        .is_ok_and(|address| slice.contains(address));
    if inside {
        return Ok(());
    }
    Err(Refused::new(
        "AddressOutsideSlice",
        format!("clusterIP {address} isn't in this tenant's range {slice}"),
    ))
}

/// The super cluster may have given other node ports than the tenant asked for; they stay.
fn keep_node_ports(spec: &mut Value, now: &Value) {
    if !matches!(
        spec.get("type").and_then(Value::as_str),
        Some("NodePort" | "LoadBalancer")
    ) {
        return;
    }
    let given = now
        .get("ports")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        let twin = given
            .iter()
            .find(|other| other["port"] == port["port"] && protocol(other) == protocol(port));
        let node_port = twin.and_then(|twin| twin.get("nodePort"));
        if let (Some(node_port), Some(port)) = (node_port, port.as_object_mut()) {
            port.insert("nodePort".into(), node_port.clone());
        }
    }
}

fn protocol(port: &Value) -> &str {
    port.get("protocol")
        .and_then(Value::as_str)
        .unwrap_or("TCP")
}

fn node_ports(object: &Object) -> Value {
    let ports = object
        .at("/spec/ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    ports
        .filter_map(|port| Some(json!([port["port"], protocol(port), port.get("nodePort")?])))
        .collect()
}

/// The load balancer's addresses and nothing else of its status.
fn balancer(object: &Object) -> Value {
    let ingress = object
        .at("/status/loadBalancer/ingress")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if ingress.is_empty() {
        json!({})
    } else {
        json!({"ingress": ingress})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::testing::{Answers, object, tenant};
    use crate::plan::{Plan, plan};
    use crate::resolver::Resolver;

    fn service(spec: Value) -> Object {
        object(json!({
            "apiVersion": "v1", "kind": "Service", "spec": spec,
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
        }))
    }

    fn down(spec: Value) -> Result<Option<Object>, Refused> {
        Service.down(
            &service(spec),
            &Cx {
                rules: &tenant(),
                facts: &Answers::default(),
            },
        )
    }

    fn down_as_shared(object: &Object) -> Option<Object> {
        let mut tenant = tenant();
        tenant.resolver = Resolver::Shared(None);
        let cx = Cx {
            rules: &tenant,
            facts: &Answers::default(),
        };
        crate::kind::translate(&Service, object, &cx).unwrap()
    }

    /// T15: no name of a tenant leads anywhere in the super cluster, whoever answers the tenant's DNS.
    #[test]
    fn t15_the_shared_dns_server_learns_where_names_lead_and_nobody_is_led() {
        let spec = json!({"type": "ExternalName", "externalName": "example.com", "externalIPs": ["10.0.0.1"],
            "selector": {"a": "b"}, "ports": [{"name": "http", "port": 80, "nodePort": 30000, "targetPort": 8080}]});
        assert_eq!(down(spec.clone()), Ok(None));
        let twin = down_as_shared(&service(spec)).unwrap();
        assert_eq!(twin.annotation(keys::EXTERNAL_NAME), Some("example.com"));
        let expected = json!({"type": "ClusterIP", "clusterIP": "None", "ports": [{"name": "http", "port": 80}]});
        assert_eq!(twin.at("/spec"), Some(&expected));
        let mut shown = service(json!({"clusterIP": "None", "ports": [{"port": 5432}]}));
        shown.value_mut()["metadata"]["labels"] = json!({keys::SHARED: "true"});
        assert_eq!(down_as_shared(&shown), None);
        shown.annotate(keys::SHOWN_ADDRESS, "10.96.8.9");
        let twin = down_as_shared(&shown).unwrap();
        assert_eq!(twin.annotation(keys::SHOWN_ADDRESS), Some("10.96.8.9"));
        assert_eq!(twin.at("/spec/clusterIP"), Some(&json!("None")));
    }

    #[test]
    fn what_becomes_a_name_or_stops_being_one_is_made_anew_where_it_has_an_address() {
        let name = service(json!({"type": "ExternalName", "externalName": "example.com"}));
        let address = service(json!({"clusterIP": "10.96.4.77", "ports": [{"port": 80}]}));
        let headless = service(json!({"clusterIP": "None", "ports": [{"port": 80}]}));
        let [name, address, headless] = [name, address, headless].map(|object| {
            let mut twin = down_as_shared(&object).unwrap();
            twin.value_mut()["metadata"]["uid"] = "twin".into();
            twin
        });
        for (want, have) in [(&name, &address), (&address, &name), (&address, &headless)] {
            assert_eq!(plan(&Service, want.clone(), Some(have)), Ok(Plan::Remake));
        }
        // Without an address both are the same object; the way is taken away from it.
        let Ok(Plan::Patch(patches)) = plan(&Service, headless, Some(&name)) else {
            panic!("it is patched");
        };
        let removes =
            |operation: &Value| operation["op"] == "remove" && operation["path"] == SIGNPOSTS[0].1;
        assert!(
            patches
                .iter()
                .any(|patch| patch.operations.iter().any(removes))
        );
    }

    #[test]
    fn a_selector_asks_for_what_super_pods_have_and_an_edit_of_it_is_none_of_the_service() {
        let key = "jobset.sigs.k8s.io/jobset-name";
        let spec = json!({"clusterIP": "None", "selector": {key: "j", "app": "a"}, "ports": []});
        let cx = Cx {
            rules: &tenant(),
            facts: &Answers::default(),
        };
        let own = service(spec.clone());
        let twin = crate::kind::translate(&Service, &own, &cx)
            .unwrap()
            .unwrap();
        let carried = meta::selected(key).unwrap();
        assert_eq!(
            twin.at("/spec/selector"),
            Some(&json!({carried: "j", "app": "a"}))
        );
        assert_eq!(Service.shortfall(&own, &cx), None);
        // As it was made before such labels crossed.
        let mut before = twin.clone();
        before.value_mut()["spec"] = spec;
        before.annotate(keys::APPLIED, "1");
        let Ok(Plan::Patch(patches)) = plan(&Service, twin.clone(), Some(&before)) else {
            panic!("it is patched");
        };
        let operations = &patches[0].operations;
        let selects = |operation: &Value| {
            operation["path"] == "/spec"
                && Some(&operation["value"]["selector"]) == twin.at("/spec/selector")
        };
        assert!(operations.iter().any(selects), "{operations:?}");
    }

    #[test]
    fn the_address_is_kept_and_a_load_balancers_address_is_not_chosen() {
        let twin = down(json!({
            "type": "LoadBalancer", "clusterIP": "10.96.4.77", "clusterIPs": ["10.96.4.77"], "selector": {"app": "web"},
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30001, "future": 1}],
            "loadBalancerIP": "1.2.3.4", "healthCheckNodePort": 30009,
        }));
        let want = json!({
            "type": "LoadBalancer", "clusterIP": "10.96.4.77", "selector": {"app": "web"},
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30001}],
        });
        assert_eq!(twin.unwrap().unwrap().at("/spec"), Some(&want));
    }

    #[test]
    fn a_load_balancer_that_had_no_class_is_made_anew_with_it() {
        let balancer = |class: Option<&str>| {
            let mut spec = json!({"type": "LoadBalancer"});
            if let Some(class) = class {
                spec["loadBalancerClass"] = class.into();
            }
            object(json!({"metadata": {}, "spec": spec}))
        };
        let (with, without) = (balancer(Some("internal")), balancer(None));
        assert!(Service.must_be_remade(&with, &without));
        assert!(!Service.must_be_remade(&with, &with));
        // One that a webhook of the platform gave stays.
        assert!(!Service.must_be_remade(&without, &with));
        assert_eq!(Service.changes(&without, &with), vec![]);
        let inside = object(json!({"metadata": {}, "spec": {"type": "ClusterIP"}}));
        assert!(!Service.must_be_remade(&with, &inside));
    }

    #[test]
    fn addresses_of_others_are_refused() {
        assert_eq!(
            down(json!({"clusterIP": "10.96.0.10"})).unwrap_err().reason,
            "AddressOutsideSlice"
        );
        assert_eq!(
            down(json!({"clusterIP": "fd00::1"})).unwrap_err().reason,
            "AddressOutsideSlice"
        );
        assert_eq!(
            down(json!({"externalIPs": ["10.0.0.1"]}))
                .unwrap_err()
                .reason,
            "ExternalIPs"
        );
        assert!(down(json!({"clusterIP": "None"})).unwrap().is_some());
        assert_eq!(
            down(json!({"type": "ExternalName", "externalName": "x"})),
            Ok(None)
        );
    }

    /// T14, T42: what an API server that lies leaves out, the super cluster would fill in out of everybody's range.
    #[test]
    fn t14_a_service_without_an_address_gets_none_of_others() {
        for spec in [
            json!({}),
            json!({"clusterIP": ""}),
            json!({"clusterIP": null}),
            json!({"clusterIP": 7}),
            json!({"clusterIPs": ["None"]}),
            json!({"type": "ClusterIP"}),
            json!({"type": "NodePort", "clusterIP": ""}),
            json!({"type": "LoadBalancer"}),
        ] {
            let refused = down(spec.clone()).unwrap_err();
            assert_eq!(refused.reason, "AddressOutsideSlice", "{spec}");
            let mut tenant = tenant();
            tenant.slice = None;
            let cx = Cx {
                rules: &tenant,
                facts: &Answers::default(),
            };
            let refused = Service.down(&service(spec.clone()), &cx).unwrap_err();
            assert_eq!(refused.reason, "ServiceRangeNotServed", "{spec}");
        }
        // One that was a name, or becomes one, needs no address: nothing of it has any.
        let name = service(json!({"type": "ExternalName", "externalName": "x"}));
        assert_eq!(
            down_as_shared(&name).unwrap().at("/spec/clusterIP"),
            Some(&json!("None"))
        );
    }

    #[test]
    fn t14_no_address_of_another_family_is_had_from_the_super_cluster() {
        let families = json!(["IPv6", "IPv4"]);
        for policy in ["PreferDualStack", "RequireDualStack"] {
            let spec = |address: &str| json!({"clusterIP": address, "ipFamilies": families, "ipFamilyPolicy": policy});
            let twin = down(spec("10.96.4.7")).unwrap().unwrap();
            assert_eq!(twin.at("/spec/ipFamilies"), Some(&json!(["IPv4"])));
            assert_eq!(twin.text("/spec/ipFamilyPolicy"), Some("SingleStack"));
            // Without an address it says which addresses of pods are told.
            let headless = down(spec("None")).unwrap().unwrap();
            assert_eq!(headless.at("/spec/ipFamilies"), Some(&families));
            assert_eq!(headless.text("/spec/ipFamilyPolicy"), Some(policy));
        }
        let plain = down(json!({"clusterIP": "10.96.4.7"})).unwrap().unwrap();
        assert_eq!(
            plain.at("/spec"),
            Some(&json!({"clusterIP": "10.96.4.7", "ports": []}))
        );
    }

    #[test]
    fn a_node_port_that_the_super_cluster_chose_stays_and_goes_up() {
        let (tenant, facts) = (tenant(), Answers::default());
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let wish = service(
            json!({"type": "NodePort", "clusterIP": "10.96.4.9", "ports": [{"port": 80, "nodePort": 30001}]}),
        );
        let want = crate::kind::translate(&Service, &wish, &cx)
            .unwrap()
            .unwrap();
        let mut have = Service.relax(&want).unwrap();
        have.value_mut()["spec"]["ports"][0]["nodePort"] = 31234.into();
        assert_eq!(plan(&Service, want, Some(&have)), Ok(Plan::Nothing));
        let seen = view(&wish);
        let writes = Service.up(&have, &seen, &cx);
        assert_eq!(writes[0].body["spec"]["ports"][0]["nodePort"], 31234);
        assert_eq!(writes[0].body["metadata"]["resourceVersion"], "5");
        let agreed = TenantView {
            projection: meta::fingerprint(&Service.up_projection(&have)),
            ..seen
        };
        assert_eq!(Service.up(&have, &agreed, &cx), vec![]);
    }

    /// A tenant's Service as it was just read.
    fn view(now: &Object) -> TenantView {
        let mut now = now.clone();
        now.value_mut()["metadata"]["resourceVersion"] = "5".into();
        TenantView {
            projection: meta::fingerprint(&Service.up_projection(&now)),
            now: Some(now),
            ..TenantView::default()
        }
    }

    /// Tenet 1: whatever stands in the super cluster, of the tenant's ports only the node port changes.
    #[test]
    fn ports_that_the_tenant_edited_stay_though_the_super_cluster_has_others() {
        let (tenant, facts) = (tenant(), Answers::default());
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let have = service(json!({"type": "LoadBalancer", "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 31000},
            {"name": "web", "port": 80, "targetPort": 8080, "nodePort": 31234},
        ]}));
        let up = |spec| Service.up(&have, &view(&service(spec)), &cx);
        let edited = json!({"type": "NodePort", "ports": [
            {"name": "tcp", "port": 53, "nodePort": 30002},
            {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 9090, "nodePort": 30001},
            {"name": "new", "port": 81, "nodePort": 30003},
        ]});
        let mut expected = edited["ports"].clone();
        expected[1]["nodePort"] = 31234.into();
        let writes = up(edited);
        assert_eq!(writes.len(), 1);
        assert_eq!(writes[0].body["spec"], json!({"ports": expected}));
        // A Service that has no node ports any more, or none of these ports, gets none.
        assert_eq!(
            up(json!({"type": "ClusterIP", "ports": [{"port": 80}]})),
            vec![]
        );
        let others = json!({"type": "NodePort", "ports": [{"port": 81, "nodePort": 30003}]});
        assert_eq!(up(others), vec![]);
    }

    #[test]
    fn a_load_balancers_addresses_go_up_only_to_one_that_is_one_still() {
        let (tenant, facts) = (tenant(), Answers::default());
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let of = |kind: &str, ingress: Value| {
            let mut object = service(json!({"type": kind, "ports": [{"port": 80}]}));
            object.value_mut()["status"] = json!({"loadBalancer": {"ingress": ingress}});
            object
        };
        let have = of("LoadBalancer", json!([{"ip": "192.0.2.7"}]));
        let up = |own: &Object| Service.up(&have, &view(own), &cx);
        assert_eq!(up(&of("ClusterIP", json!([]))), vec![]);
        let writes = up(&of("LoadBalancer", json!([])));
        assert_eq!(writes.len(), 1);
        assert_eq!(writes[0].body["status"], have.value()["status"]);
        let forged = up(&of("ClusterIP", json!([{"ip": "192.0.2.9"}])));
        assert_eq!(
            forged[0].body["status"],
            json!({"loadBalancer": {"ingress": null}})
        );
    }

    #[test]
    fn what_the_server_allocated_survives_an_edit() {
        let (tenant, facts) = (tenant(), Answers::default());
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let translate = |spec| {
            crate::kind::translate(&Service, &service(spec), &cx)
                .unwrap()
                .unwrap()
        };
        let mut have = translate(json!({"clusterIP": "10.96.4.9", "ports": [{"port": 80}]}));
        have.value_mut()["spec"]["clusterIPs"] = json!(["10.96.4.9"]);
        let want = translate(json!({"clusterIP": "10.96.4.9", "ports": [{"port": 81}]}));
        let changes = Service.changes(&want, &have);
        assert_eq!(
            changes[0].value.as_ref().unwrap()["clusterIPs"],
            json!(["10.96.4.9"])
        );
        assert_eq!(changes[0].value.as_ref().unwrap()["ports"][0]["port"], 81);
    }
}
