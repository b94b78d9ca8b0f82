//! Tenants' objects: what the super cluster gets for them, whatever they are made of.

use super::{
    FuzzFacts, Random,
    samples::{FIELDS, pod, sample},
    tenant,
};
use crate::{
    kind::{
        Cx, KINDS, Kind, TenantView, decisions, index, pins_node, pod_references, rule,
        token_requests, translate, was_bound,
    },
    naming,
    object::Object,
    plan::plan,
    to_super::Extent,
};
use api::{PodSecurity, SyncObjects, ToSuper, keys};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

/// Known paths of a pod's spec, and those that have others below them.
static PATHS: LazyLock<[BTreeSet<String>; 2]> = LazyLock::new(|| {
    let all: BTreeSet<String> = decisions().into_iter().map(|(path, _)| path).collect();
    let above = all.iter().flat_map(|path| {
        let ends = path.match_indices('.');
        ends.map(|(end, _)| path[..end].trim_end_matches("[]").to_owned())
    });
    let above = above.collect();
    [all, above]
});

fn bent(random: &mut Random, mut value: Value) -> Option<Object> {
    let names: Vec<&str> = FIELDS.iter().map(String::as_str).collect();
    if random.below(16) > 0 {
        random.bend_json(&mut value, &names);
    }
    Object::from_value(value).ok()
}

/// T5 to T13, T22, T38: a pod goes down with known fields alone, and with nothing that its level forbids.
pub(super) fn pods(random: &mut Random) {
    let Some(object) = bent(random, pod()) else {
        return;
    };
    let mut tenant = tenant();
    tenant.pod_security = random.pick(&[
        PodSecurity::Baseline,
        PodSecurity::Restricted,
        PodSecurity::Privileged,
    ]);
    tenant.node_selector = BTreeMap::from([("pool".to_owned(), "acme".to_owned())]);
    let facts = FuzzFacts {
        offers: random.below(2) == 0,
        has_selector: None,
    };
    let cx = Cx {
        rules: &tenant,
        facts: &facts,
    };
    let kind = rule(index("Pod"));
    let _ = (
        pod_references(&object),
        token_requests(&object),
        pins_node(&object),
        was_bound(&object),
    );
    let first = translate(kind, &object, &cx);
    assert_eq!(first, translate(kind, &object, &cx), "it is no function");
    let Ok(Some(down)) = first else { return };
    marked(kind, &object, &down, &cx);
    let spec = down.at("/spec").unwrap_or(&Value::Null);
    assert_eq!(spec["serviceAccountName"], keys::POD_SERVICE_ACCOUNT);
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert!(spec.get("nodeName").is_none() && spec["nodeSelector"]["pool"] == "acme");
    if !facts.offers {
        assert!(spec.get("priorityClassName").is_none() && spec.get("runtimeClassName").is_none());
    }
    assert!(spec.get("priority").is_none() && spec.get("preemptionPolicy").is_none());
    let [known, above] = &*PATHS;
    each(spec, "spec", &mut |path, value| {
        if known.contains(path) {
            owned(path, value, &cx);
        }
    });
    if tenant.pod_security == PodSecurity::Privileged {
        return;
    }
    each(spec, "spec", &mut |path, value| {
        // What stands in a map of a tenant's own keys has no path.
        let parent = path
            .rfind('.')
            .map_or("", |end| path[..end].trim_end_matches("[]"));
        let is_free = known.contains(parent) && !above.contains(parent);
        let is_below_free = !known.contains(parent) && parent != "spec";
        assert!(
            known.contains(path) || is_free || is_below_free,
            "{path} = {value} isn't known"
        );
        harmless(path, value);
    });
}

/// Every value but those in lists of scalars, with its path.
fn each(value: &Value, path: &str, seen: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let path = format!("{path}.{name}");
                seen(&path, value);
                each(value, &path, seen);
            }
        }
        Value::Array(list) => {
            let path = format!("{path}[]");
            list.iter().for_each(|item| each(item, &path, seen));
        }
        _ => {}
    }
}

/// T12: whoever is near or far is the tenant's.
fn owned(path: &str, value: &Value, cx: &Cx<'_>) {
    let is_term = path.ends_with("podAffinityTerm")
        || path.contains("odAffinity.required")
        || path.contains("ntiAffinity.required");
    if is_term && path.ends_with("namespaceSelector") {
        panic!("{path} = {value} crosses");
    }
    let selects = path.ends_with(".labelSelector")
        && (path.contains("ffinity") || path.contains("topologySpreadConstraints"));
    if selects {
        assert_eq!(
            value["matchLabels"][keys::TENANT],
            cx.rules.id.as_str(),
            "{path}"
        );
    }
}

/// What no level but `privileged` lets through.
fn harmless(path: &str, value: &Value) {
    let last = path.rsplit('.').next().unwrap_or_default();
    let is_free =
        path.contains("Selector.") || path.contains(".limits.") || path.contains(".requests.");
    if is_free {
        return;
    }
    match last {
        "hostNetwork" | "hostPID" | "hostIPC" | "hostUsers" | "privileged" | "hostProcess" => {
            assert_ne!(*value, true, "{path}");
        }
        "hostPort" => assert!(value.as_i64().unwrap_or_default() == 0, "{path} = {value}"),
        "hostPath" | "nfs" | "iscsi" | "gitRepo" | "rbd" | "flexVolume" | "local" => {
            panic!("{path} = {value} crosses");
        }
        "procMount" => assert!(
            value
                .as_str()
                .is_none_or(|kind| ["", "Default"].contains(&kind)),
            "{path} = {value}"
        ),
        _ => {}
    }
}

/// T1 to T3: it is the tenant's, in its place, and has nothing of the tenant's metadata that would mean something.
fn marked(kind: &dyn Kind, object: &Object, down: &Object, cx: &Cx<'_>) {
    let resource = kind.resource();
    assert_eq!(down.label(keys::TENANT), Some(cx.rules.id.as_str()));
    if resource.namespaced {
        let place = naming::super_namespace(&cx.rules.id, &cx.rules.vcp_name, object.namespace());
        assert_eq!(down.namespace(), place);
    }
    for field in [
        "uid",
        "resourceVersion",
        "ownerReferences",
        "finalizers",
        "generateName",
        "deletionTimestamp",
    ] {
        assert!(down.at(&format!("/metadata/{field}")).is_none(), "{field}");
    }
    for name in [down.name(), down.namespace()] {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"/?#%".contains(&byte);
        assert!(
            name.bytes().all(is_plain) && name != ".." && name != ".",
            "{name:?} in a path"
        );
    }
    let steers =
        |(key, _): (&str, &str)| key.starts_with("pod-security.") && resource.kind != "Namespace";
    assert!(!down.labels().any(steers));
    let again = plan(kind, down.clone(), Some(down));
    assert!(again.is_ok() || object.uid().is_empty(), "it isn't its own");
}

/// No object of any kind does harm, on its way down, up, or as one that is there.
pub(super) fn kinds(random: &mut Random) {
    let kind = random.pick(KINDS);
    let (Some(object), Some(other)) = (bent(random, sample(kind)), bent(random, sample(kind)))
    else {
        return;
    };
    let mut tenant = tenant();
    tenant.pod_security = random.pick(&[
        PodSecurity::Baseline,
        PodSecurity::Restricted,
        PodSecurity::Privileged,
    ]);
    tenant.offers.hosts = vec!["a.example".into()];
    let all = ["configmaps", "secrets"].map(|resource| ToSuper {
        resource: resource.into(),
        objects: SyncObjects::All,
    });
    tenant.to_super = Extent::of(&[], &all);
    let facts = FuzzFacts {
        offers: random.below(4) > 0,
        has_selector: random.pick(&[None, Some(false), Some(true)]),
    };
    let cx = Cx {
        rules: &tenant,
        facts: &facts,
    };
    let down = kind.goes_down().then(|| translate(kind, &object, &cx));
    if let Some(Ok(Some(down))) = &down {
        marked(kind, &object, down, &cx);
        let _ = (
            kind.changes(down, &other),
            kind.must_be_remade(down, &other),
        );
        let _ = (
            plan(kind, down.clone(), Some(&other)),
            plan(kind, down.clone(), None),
        );
        let _ = (kind.creatable(down), kind.relax(down));
        services(down, &cx);
    }
    let _ = (
        kind.companions(&object, &cx),
        kind.isolation(&object, &cx),
        kind.shortfall(&object, &cx),
    );
    let _ = (
        kind.references(&object, &cx.rules.custom),
        kind.intent(&object),
        kind.edition(&object),
        kind.awaits(&object),
    );
    let _ = (
        kind.up_projection(&object),
        kind.reduced(&object, &cx),
        kind.brings(&object),
        kind.placed_in(&object),
    );
    let view = TenantView {
        uid: "u1".into(),
        now: Some(other.clone()),
        bound: random.below(2) == 0,
        projection: 0,
    };
    let _ = kind.up(&object, &view, &cx);
    if let Some(shown) = kind.publish(&object, "shop", &cx) {
        let _ = (
            kind.published_changes(&shown, &other),
            kind.published_state(&other),
        );
    }
    let _ = (kind.withdrawal(&object), kind.is_published_copy(&object));
}

/// T14, T17: addresses are the tenant's own.
fn services(down: &Object, cx: &Cx<'_>) {
    assert!(
        down.at("/spec/externalIPs").is_none(),
        "{:?}",
        down.at("/spec")
    );
    // One that says nothing of its address would get one of others.
    let address = down.text("/spec/clusterIP").unwrap_or_default();
    if down.text("/kind") == Some("Service") && address != "None" {
        let address = address.parse().ok();
        let slice = cx.rules.slice;
        let is_own = address
            .zip(slice)
            .is_some_and(|(address, slice)| slice.contains(address));
        assert!(is_own, "{:?}", down.at("/spec"));
    }
    if down.text("/kind") == Some("EndpointSlice") {
        let endpoints = down.at("/endpoints").and_then(Value::as_array);
        let addresses = endpoints
            .into_iter()
            .flatten()
            .filter_map(|endpoint| endpoint["addresses"].as_array());
        for address in addresses.flatten() {
            assert_eq!(address, "10.0.0.1", "{:?}", down.at("/endpoints"));
        }
    }
}
