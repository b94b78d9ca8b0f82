//! What a ResourceQuota says, and what is read out of the API server's words.

use super::*;
use crate::{
    kind::{
        KINDS, SuperWatch,
        testing::{Answers, tenant},
    },
    quota::{
        Ledger, Limits,
        amount::{canonical, limits as read},
        demand::{self, concerns},
    },
    tenant::{Key, TenantRules},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn limits(pairs: &[(&str, &str)]) -> Amounts {
    let written: BTreeMap<String, String> = pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    read(&written).unwrap()
}

fn with<R>(quota: &[(&str, &str)], body: impl FnOnce(&Cx<'_>) -> R) -> R {
    let tenant = TenantRules {
        quota: limits(quota),
        ..tenant()
    };
    let facts = Answers::default();
    body(&Cx {
        rules: &tenant,
        facts: &facts,
    })
}

fn object(quota: &[(&str, &str)]) -> Option<Object> {
    with(quota, |cx| wanted("acme-work", cx))
}

#[test]
fn it_says_the_whole_limits_under_the_names_that_the_api_server_knows() {
    let quota = object(&[
        ("pods", "20"),
        ("count/pods", "500"),
        ("count/services", "5"),
        ("cpu", "1500m"),
        ("limits.memory", "3Gi"),
        ("requests.storage", "1Ti"),
        ("requests.nvidia.com/gpu", "2"),
        ("requests.hugepages-2Mi", "1073741824"),
        ("fast.storageclass.storage.k8s.io/requests.storage", "10Gi"),
        ("services.nodeports", "3"),
        ("services.loadbalancers", "1"),
        ("count/ingresses.networking.k8s.io", "4"),
        ("configmaps", "10"),
    ])
    .unwrap();
    assert_eq!(
        quota.at("/spec"),
        Some(&json!({"hard": {
            "pods": "20", "count/pods": "500", "services": "5", "requests.cpu": "1500m", "limits.memory": "3Gi", "requests.storage": "1Ti",
            "requests.nvidia.com/gpu": "2", "requests.hugepages-2Mi": "1073741824",
            "fast.storageclass.storage.k8s.io/requests.storage": "10Gi", "services.nodeports": "3",
            "services.loadbalancers": "1", "count/ingresses.networking.k8s.io": "4",
            // Others have some there, too.
            "configmaps": "26",
        }}))
    );
    assert_eq!(
        (quota.name(), quota.namespace()),
        (api::QUOTA_NAME, "acme-work")
    );
    assert_eq!(quota.label(keys::TENANT), Some(tenant().id.as_str()));
}

#[test]
fn what_the_layers_count_differently_or_the_api_server_refuses_is_left_out() {
    let long = format!("requests.example.com/{}", "x".repeat(64));
    for name in [
        // The first layer doesn't count them.
        "secrets",
        "replicationcontrollers",
        "resourcequotas",
        "hugepages-2Mi",
        "count/certificates.cert-manager.io",
        "count/deployments.apps",
        // The super cluster or Sublet makes them as well.
        "count/networkpolicies.networking.k8s.io",
        "count/endpointslices.discovery.k8s.io",
        "count/resourceclaims.resource.k8s.io",
        "count/namespaces",
        // No names of a ResourceQuota.
        "limits.nvidia.com/gpu",
        "limits.hugepages-2Mi",
        "requests.nothing",
        "requests.kubernetes.io/x",
        "requests.Example.com/gpu",
        "requests.example.com/",
        "requests.example.com/a/b",
        "requests.hugepages-",
        "Fast.storageclass.storage.k8s.io/requests.storage",
        "fast.storageclass.storage.k8s.io/pods",
        "",
        &long,
    ] {
        assert_eq!(object(&[(name, "1")]), None, "{name}");
    }
}

#[test]
fn amounts_are_such_as_the_api_server_takes_and_keeps() {
    let hard = |name: &str, text: &str| {
        let quota = object(&[(name, text)]).unwrap();
        quota.at("/spec/hard").unwrap()[name].clone()
    };
    assert_eq!(hard("pods", "1500m"), "2", "whole, and not less");
    assert_eq!(hard("requests.memory", "0.5"), "1");
    assert_eq!(hard("requests.cpu", "0.5"), "500m");
    assert_eq!(hard("pods", "0"), "0");
    assert_eq!(hard("requests.memory", "100E"), i64::MAX.to_string());
}

#[test]
fn kinds_are_held_by_their_number_if_only_tenants_have_any() {
    // Why others aren't.
    let beside = ["EndpointSlice", "NetworkPolicy", "ResourceClaim"];
    let owned = KINDS.iter().filter(|kind| {
        kind.super_watch() == SuperWatch::Owned && kind.goes_down() && kind.resource().namespaced
    });
    let mut names = vec![];
    for kind in owned {
        let resource = kind.resource();
        let name = match resource.group {
            "" => canonical(&format!("count/{}", resource.plural)),
            group => format!("count/{}.{group}", resource.plural),
        };
        let is_held = COUNTED.contains(&name.as_str());
        assert_ne!(is_held, beside.contains(&resource.kind), "{name}: decide");
        if is_held {
            assert!(concerns(resource, &Amounts::from([(name.clone(), 1000)])));
            names.push(name);
        }
    }
    names.sort_unstable();
    assert_eq!(names, COUNTED);
}

#[test]
fn it_is_made_replaced_and_removed_as_limits_come_change_and_go() {
    let (few, more) = ([("pods", "5")], [("pods", "9")]);
    let made = object(&few).unwrap();
    with(&few, |cx| {
        assert_eq!(
            step(wanted("acme-work", cx), None, cx),
            Step::Create(made.clone())
        );
        assert_eq!(step(None, None, cx), Step::Nothing);
        assert_eq!(
            step(None, Some(made.clone()), cx),
            Step::Delete(made.clone())
        );
    });
    with(&more, |cx| {
        let spec = json!({"hard": {"pods": "9"}});
        let want = wanted("acme-work", cx);
        assert_eq!(
            step(want, Some(made.clone()), cx),
            Step::Replace(made.clone(), spec)
        );
    });
}

#[test]
fn what_the_super_cluster_writes_is_no_difference_and_what_people_write_is() {
    let quota = [("requests.memory", "1000"), ("pods", "2000")];
    with(&quota, |cx| {
        let want = || wanted("acme-work", cx);
        let stored = |spec: Value| {
            let mut have = want().unwrap();
            have.value_mut()["spec"] = spec;
            have.value_mut()["metadata"]["resourceVersion"] = "7".into();
            have.value_mut()["status"] = json!({"hard": {"pods": "2k"}, "used": {"pods": "3"}});
            have
        };
        let same = json!({"hard": {"requests.memory": "1k", "pods": "2k"}});
        assert_eq!(step(want(), Some(stored(same)), cx), Step::Nothing);
        for edited in [
            json!({"hard": {"requests.memory": "1k", "pods": "3k"}}),
            json!({"hard": {"requests.memory": "1k"}}),
            json!({"hard": {"requests.memory": "1k", "pods": "2k", "secrets": "1"}}),
            json!({"hard": {"requests.memory": "1k", "pods": "2k"}, "scopes": ["BestEffort"]}),
            json!({}),
        ] {
            let step = step(want(), Some(stored(edited.clone())), cx);
            assert!(matches!(step, Step::Replace(..)), "{edited}: {step:?}");
        }
        let mut foreign = want().unwrap();
        foreign.value_mut()["metadata"]["labels"] = json!({});
        assert_eq!(step(want(), Some(foreign.clone()), cx), Step::Foreign);
        assert_eq!(step(None, Some(foreign), cx), Step::Nothing, "it stays");
    });
}

const FULL: &str = "pods \"web\" is forbidden: exceeded quota: sublet-quota, requested: pods=1,requests.cpu=500m, \
                    used: pods=20,requests.cpu=4, limited: pods=20,requests.cpu=4";

#[test]
fn what_is_full_is_read_out_of_the_refusal() {
    let quota = limits(&[("pods", "20"), ("requests.cpu", "4")]);
    let excess = |name: &str, asked, hard| (name.to_owned(), asked, hard);
    assert_eq!(
        refusal(FULL, &quota),
        Some(Refusal::Full(vec![
            excess("pods", 1000, 20_000),
            excess("requests.cpu", 500, 4000)
        ]))
    );
    let others = "configmaps \"a\" is forbidden: exceeded quota: sublet-quota, requested: configmaps=1, used: \
                  configmaps=26, limited: configmaps=26";
    let configs = limits(&[("configmaps", "10")]);
    let expected = Refusal::Full(vec![excess("configmaps", 1000, 10_000)]);
    assert_eq!(refusal(others, &configs), Some(expected));
}

#[test]
fn a_quota_that_says_something_else_yet_is_no_limit_to_tell_of() {
    for now in [
        limits(&[("pods", "25"), ("requests.cpu", "4")]),
        limits(&[]),
    ] {
        assert_eq!(refusal(FULL, &now), Some(Refusal::Unsettled));
    }
    let quota = limits(&[("pods", "20")]);
    let unknown =
        "pods \"web\" is forbidden: status unknown for quota: sublet-quota, resources: pods";
    assert_eq!(refusal(unknown, &quota), Some(Refusal::Unsettled));
    let cut = FULL.split(", limited").next().unwrap();
    assert_eq!(refusal(cut, &quota), Some(Refusal::Unsettled));
}

#[test]
fn what_containers_do_not_say_is_read_out_of_the_refusal() {
    let message = "pods \"web\" is forbidden: failed quota: sublet-quota: must specify limits.memory for: a,b; \
                   requests.cpu for: a";
    let one = |limit: &str, containers: &[&str]| Unsaid {
        limit: limit.into(),
        containers: containers.iter().copied().map(str::to_owned).collect(),
    };
    let unsaid = vec![
        one("limits.memory", &["a", "b"]),
        one("requests.cpu", &["a"]),
    ];
    assert_eq!(
        refusal(message, &Amounts::new()),
        Some(Refusal::Unsaid(unsaid.clone()))
    );
    let pod = |field: &str, name: &str| {
        Object::from_value(json!({"metadata": {}, "spec": {field: [{"name": name}]}})).unwrap()
    };
    let both = ["limits.memory", "requests.cpu"].map(str::to_owned);
    let none = BTreeSet::new();
    assert_eq!(
        unsaid_by_others(&unsaid, &pod("containers", "c")),
        both.into()
    );
    for field in ["containers", "initContainers"] {
        assert_eq!(unsaid_by_others(&unsaid, &pod(field, "b")), none, "{field}");
    }
}

#[test]
fn what_is_held_no_longer_stays_so_until_its_annotation_goes() {
    with(&[("limits.cpu", "4"), ("pods", "9")], |cx| {
        let mut have = wanted("acme-work", cx).unwrap();
        let cpu = BTreeSet::from(["limits.cpu".to_owned()]);
        let (annotations, spec) = less(&have, &cpu, cx).unwrap();
        assert_eq!(spec, json!({"hard": {"pods": "9"}}));
        have.value_mut()["metadata"]["annotations"] = annotations;
        have.value_mut()["spec"] = spec;
        assert_eq!(less(&have, &cpu, cx), None, "it does already");
        let want = || wanted("acme-work", cx);
        assert_eq!(step(want(), Some(have.clone()), cx), Step::Nothing);
        have.value_mut()["metadata"]["annotations"] = json!({});
        assert!(matches!(
            step(want(), Some(have.clone()), cx),
            Step::Replace(..)
        ));
        have.value_mut()["metadata"]["labels"] = json!({});
        assert_eq!(less(&have, &cpu, cx), None, "it isn't Sublet's");
    });
}

#[test]
fn refusals_by_quotas_of_others_are_not_ours() {
    let quota = limits(&[("pods", "20")]);
    for message in [
        "pods \"web\" is forbidden: exceeded quota: platform, requested: pods=1, used: pods=20, limited: pods=20",
        "pods \"web\" is forbidden: failed quota: sublet-quota-2: must specify requests.cpu for: a",
        "pods \"web\" is forbidden: violates PodSecurity",
    ] {
        assert_eq!(refusal(message, &quota), None, "{message}");
    }
    let name = format!(" quota: {}", api::QUOTA_NAME);
    for begun in [TOO_MUCH, UNKNOWN, FAILED] {
        assert!(begun.contains(&name), "{begun}");
    }
}

fn pod(cpu: u32, memory: u32) -> Object {
    let requests = json!({"cpu": format!("{cpu}m"), "memory": format!("{memory}Mi")});
    let container = json!({"resources": {"requests": requests}});
    let pod = json!({"metadata": {}, "spec": {"containers": [container]}});
    Object::from_value(pod).unwrap()
}

proptest! {
    /// Whatever the ledger grants finds room in the namespace that it is for, in whichever that is.
    #[test]
    fn what_the_first_layer_grants_finds_room_in_the_second(
        most in (1u32..20, 1u32..4000, 1u32..4000),
        asked in prop::collection::vec((0usize..3, 1u32..900, 1u32..900), 0..60),
    ) {
        let own = limits(&[
            ("pods", &most.0.to_string()),
            ("count/pods", &(most.0 / 2).to_string()),
            ("requests.cpu", &format!("{}m", most.1)),
            ("requests.memory", &format!("{}Mi", most.2)),
        ]);
        let hard = hard(&own);
        let mut ledger = Ledger::default();
        ledger.limit(Limits { own, budgets: BTreeMap::new() });
        let count = ledger.counting().unwrap();
        ledger.counted(count);
        let kind = crate::kind::index("Pod");
        let resource = crate::kind::rule(kind).resource();
        let mut used = [const { Amounts::new() }; 3];
        for (number, (namespace, cpu, memory)) in asked.into_iter().enumerate() {
            let takes = demand::of(resource, &pod(cpu, memory));
            let key = Key::new(kind, &namespace.to_string(), &number.to_string());
            if ledger.reserve(&key, &takes).is_err() {
                continue;
            }
            for (name, hard) in &hard {
                let sum = used[namespace].entry(name.clone()).or_default();
                *sum += takes.get(name).copied().unwrap_or_default();
                prop_assert!(*sum <= *hard, "{name}: {sum} of {hard}");
            }
        }
    }
}
