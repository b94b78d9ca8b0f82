use super::*;
use crate::{
    decide::tests::seen_as,
    spec::control_plane::tests::{owner, vcp},
};
use api::{External, SecretRef};

const SYSTEM: &str = "sublet-system";

fn seen(asked: Option<&str>) -> Seen {
    let mut vcp = vcp();
    vcp.metadata.finalizers = Some(vec![marks::FINALIZER.into()]);
    vcp.spec.policy.node_selector = [("pool".to_owned(), "a".to_owned())].into();
    vcp.spec.external = Some(External {
        kubeconfig_secret_ref: SecretRef::default(),
        way_out: asked.map(endpoint),
    });
    seen_as(vcp)
}

fn endpoint(host: &str) -> Endpoint {
    Endpoint {
        host: host.into(),
        port: 30131,
    }
}

fn decided(seen: &Seen) -> (Vec<Action>, Fact) {
    let external = seen.vcp.spec.external.clone().unwrap();
    decide(seen, &owner(), external.way_out.as_ref(), SYSTEM).unwrap()
}

/// Carries out all until nothing is left; what it says then, and what was done.
fn settle(seen: &mut Seen) -> (Fact, Vec<String>) {
    let mut said = vec![];
    loop {
        let (actions, fact) = decided(seen);
        if actions.is_empty() {
            return (fact, said);
        }
        for action in actions {
            match action {
                Action::Issue(order) => {
                    said.push(order.name.clone());
                    seen.way_out.insert(seen.issue(&order).unwrap());
                }
                Action::Apply(object) if object.kind == SECRET => {
                    said.push(object.name().to_owned());
                    seen.way_out.insert(object);
                }
                Action::Apply(object) => {
                    said.push(object.name().to_owned());
                    seen.route = Some(object);
                }
                Action::Delete(object) => {
                    said.push(format!("no {}", object.name()));
                    if object.kind == SECRET {
                        seen.way_out.remove(SECRET, object.name());
                    } else {
                        seen.route = None;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn file(seen: &Seen, name: &str) -> String {
    let [_, _, files] = secrets(&owner());
    let secret = seen.way_out.get(SECRET, &files).unwrap();
    pki::text_of(secret, name).unwrap()
}

#[test]
fn whoever_runs_the_api_server_gets_all_files_and_the_proxy_knows_who_comes() {
    let mut seen = seen(Some("way.example.com"));
    let (fact, said) = settle(&mut seen);
    let route = route::name(&owner().id);
    let [authority, client, files] = secrets(&owner());
    let all = [&authority, &client, &files, &route].map(String::as_str);
    assert_eq!(said, all);
    assert!(fact.holds);
    let names_it = format!("tenants/{files}");
    for words in [names_it.as_str(), "2026-04-01"] {
        assert!(fact.message.contains(words), "{}", fact.message);
    }
    for secret in seen.way_out.of(SECRET) {
        let owner = &secret.body["metadata"]["ownerReferences"][0]["kind"];
        assert_eq!(owner, "VirtualControlPlane", "{secret:?} ends with it");
    }

    let egress: Value = serde_json::from_str(&file(&seen, "egress.json")).unwrap();
    let selections = egress["egressSelections"].as_array().unwrap();
    assert_eq!(selections.len(), 1, "what it dials by URL isn't Sublet's");
    let tcp = &selections[0]["connection"]["transport"]["tcp"];
    assert_eq!(selections[0]["name"], "cluster");
    assert_eq!(tcp["url"], "https://way.example.com:30131");
    // Each file that is named is there.
    let flags = file(&seen, "flags");
    let named = flags.split(['=', '\n']).chain(
        tcp["tlsConfig"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_str),
    );
    let named: Vec<&str> = named.filter_map(|path| path.strip_prefix(FOLDER)).collect();
    assert_eq!(named.len(), 7, "{named:?}");
    for name in named {
        assert!(!file(&seen, name.trim_start_matches('/')).is_empty());
    }
    let metrics: Value = serde_json::from_str(&file(&seen, "metrics.json")).unwrap();
    assert_eq!(metrics["items"].as_array().unwrap().len(), 3);

    let route = seen.route.as_ref().unwrap();
    let data = &route.body["data"];
    let known = seen.way_out.get(SECRET, &authority).unwrap();
    assert_eq!(
        data["authority.crt"],
        pki::text_of(known, "tls.crt").unwrap()
    );
    assert_eq!(data["nodeSelector"], "pool=a");
    assert!(
        data["backend"].is_null(),
        "no client goes by the front door"
    );
    let secret = pki::text_of(known, "tls.key").unwrap();
    assert!(!route.body.to_string().contains(&secret));
    assert!(!file(&seen, "proxy-ca.crt").contains(&secret));
}

#[test]
fn a_certificate_is_renewed_and_handed_over_anew_and_its_authority_stays() {
    let mut seen = seen(Some("192.0.2.7"));
    settle(&mut seen);
    let before = [
        file(&seen, CERTIFICATE),
        seen.route
            .as_ref()
            .unwrap()
            .text("/data/authority.crt")
            .to_owned(),
    ];
    seen.now = "2026-03-10T00:00:00Z".parse().unwrap();
    let (_, said) = settle(&mut seen);
    let [_, client, files] = secrets(&owner());
    assert_eq!(said, [client, files]);
    assert_ne!(file(&seen, CERTIFICATE), before[0]);
    assert_eq!(
        seen.route.as_ref().unwrap().text("/data/authority.crt"),
        before[1]
    );
}

#[test]
fn without_a_way_it_is_said_what_does_not_work_and_what_was_offered_is_taken_back() {
    let mut never = seen(None);
    let (fact, said) = settle(&mut never);
    assert!(said.is_empty() && !fact.holds);
    for word in ["logs", "exec", "top", "spec.external.wayOut"] {
        assert!(fact.message.contains(word), "{}", fact.message);
    }

    let mut once = seen(Some("way.example.com"));
    settle(&mut once);
    once.vcp.spec.external.as_mut().unwrap().way_out = None;
    let (fact, said) = settle(&mut once);
    assert_eq!(fact.reason, "NotAskedFor");
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[3].starts_with("no route-"), "it goes last: {said:?}");
    assert!(once.route.is_none() && once.way_out.of(SECRET).next().is_none());
}

#[test]
fn what_cannot_be_offered_is_told() {
    for host in ["", "a b", "UPPER.example", "a..b", &"a".repeat(64)] {
        let (actions, fact) = decided(&seen(Some(host)));
        assert!(actions.is_empty());
        assert_eq!(fact.reason, "HostRefused", "{host:?}");
    }
    let mut seen = seen(Some("fd00::7"));
    seen.proxy = None;
    assert_eq!(decided(&seen).1.reason, "Waiting");
}

#[test]
fn a_secret_of_somebody_else_is_left_alone() {
    let mut seen = seen(Some("way.example.com"));
    let [_, _, files] = secrets(&owner());
    let theirs = Object::new(SECRET, Some("tenants"), &files, json!({"data": {}}));
    seen.way_out.insert(theirs);
    let external = seen.vcp.spec.external.clone().unwrap();
    let refusal = decide(&seen, &owner(), external.way_out.as_ref(), SYSTEM).unwrap_err();
    assert!(refusal.to_string().contains(&files), "{refusal}");
    seen.vcp.spec.external.as_mut().unwrap().way_out = None;
    assert!(decided(&seen).0.is_empty());
}

#[test]
fn the_proxy_is_told_of_the_nodes_that_the_class_asks_for_too() {
    let mut seen = seen(Some("192.0.2.7"));
    let class = &mut seen.class.as_mut().unwrap().spec;
    class.pods.node_selector = [("zone".to_owned(), "x".to_owned())].into();
    let gpu = json!([{"required": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]}]);
    class.pods.node_affinity = serde_json::from_value(gpu[0].clone()).unwrap();
    settle(&mut seen);
    let told = seen.route.unwrap();
    assert_eq!(told.body["data"][route::NODE_SELECTOR], "pool=a\nzone=x");
    assert_eq!(told.body["data"][route::NODE_AFFINITY], gpu.to_string());
}
