use super::*;
use http::{Request, Response};
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::json;
use std::{collections::BTreeMap, convert::Infallible};

/// An API server that answers so at these paths, and never at those that hang. Of several answers in an array each comes once,
/// the last one again and again.
fn tenant(answers: &[(&'static str, Value)]) -> Cluster {
    let answers: BTreeMap<&str, Value> = answers.iter().cloned().collect();
    let answers = Mutex::new(answers);
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = match answers.lock().get_mut(request.uri().path()) {
            Some(Value::Array(turns)) if turns.len() > 1 => Some(turns.remove(0)),
            Some(Value::Array(turns)) => turns.first().cloned(),
            answer => answer.cloned(),
        };
        async move {
            let (status, body) = match answer {
                Some(Value::Null) => std::future::pending().await,
                Some(Value::Number(code)) => (code.as_u64().unwrap(), json!({})),
                Some(body) => (200, body),
                None => (404, json!({})),
            };
            let failure = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": "", "reason": "",
            });
            let body = if status == 200 { body } else { failure };
            let status = u16::try_from(status).unwrap();
            let body = Body::from(body.to_string().into_bytes());
            let answer = Response::builder().status(status).body(body).unwrap();
            Ok::<_, Infallible>(answer)
        }
    });
    Cluster::new(Client::new(service, "default"))
}

fn some(number: usize) -> Value {
    json!({"items": vec![json!({}); number]})
}

fn versions(names: &[&str]) -> Value {
    let all: Vec<Value> = names.iter().map(|name| json!({"version": name})).collect();
    json!({"versions": all})
}

fn service(elsewhere: bool) -> Value {
    let service = elsewhere.then(|| json!({"namespace": "n", "name": "s"}));
    json!({"kind": "APIService", "spec": {"service": service}})
}

/// The same, changed since.
fn changed(mut service: Value) -> Value {
    service["metadata"] = json!({"uid": "u", "resourceVersion": "2"});
    service
}

async fn counted(answers: &[(&'static str, Value)]) -> Vec<(String, u64)> {
    let names = ["configmaps", "deployments.apps"];
    let most = names.map(|name| (name.to_owned(), "5".to_owned()));
    let limits = Limits::of(&api::Quantities(most.into()), &api::Quantities::default());
    let until = Instant::now() + LIMIT;
    let used = count(&tenant(answers), &limits, until).await;
    used.into_iter().collect()
}

const GROUP: &str = "/apis/apps";
const MAPS: &str = "/api/v1/configmaps";
const V1: &str = "/apis/apps/v1/deployments";
const V2: &str = "/apis/apps/v2/deployments";
const LOCAL: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1.apps";
const CORE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1.";
const THEIRS: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v2.apps";

fn known(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, number)| ((*name).to_owned(), *number))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_counted_keeps_nothing_else_from_being_counted() {
    let both = known(&[("configmaps", 3), ("deployments.apps", 2)]);
    let maps = (MAPS, some(3));
    let whole = [maps.clone(), (GROUP, versions(&["v1"])), (V1, some(2))];
    assert_eq!(counted(&whole).await, both, "without an APIService");
    for broken in [Value::Null, json!(503)] {
        for at in [GROUP, LOCAL, V1] {
            let mut answers = whole.to_vec();
            answers.retain(|(path, _)| *path != at);
            answers.push((at, broken.clone()));
            let only = known(&[("configmaps", 3)]);
            assert_eq!(counted(&answers).await, only, "{at}: {broken}");
        }
    }
    let none = known(&[("configmaps", 3), ("deployments.apps", 0)]);
    assert_eq!(
        counted(&[maps]).await,
        none,
        "what isn't served isn't stored"
    );
}

/// A tenant may have another server say that there is nothing, and prefer it; or let one take the place of what counts.
#[tokio::test(start_paused = true)]
async fn only_what_the_api_server_lists_itself_counts() {
    let lying = [
        (MAPS, some(3)),
        (GROUP, versions(&["v2", "v1"])),
        (THEIRS, service(true)),
        (V2, some(0)),
        (LOCAL, service(false)),
        (V1, some(2)),
    ];
    let [both, only] = [
        known(&[("configmaps", 3), ("deployments.apps", 2)]),
        known(&[("configmaps", 3)]),
    ];
    assert_eq!(
        counted(&lying).await,
        only,
        "what is served there is hidden"
    );
    let mut full = lying.to_vec();
    full.retain(|(path, _)| *path != V1);
    full.push((V1, some(5)));
    let as_many = known(&[("configmaps", 3), ("deployments.apps", 5)]);
    assert_eq!(
        counted(&full).await,
        as_many,
        "it is full whatever else there is"
    );
    let mut all = lying.to_vec();
    all.retain(|(path, _)| *path != LOCAL);
    all.push((LOCAL, service(true)));
    assert_eq!(counted(&all).await, only);
    // A version of its own that has no such resource hides nothing.
    let mut other = lying.to_vec();
    other.retain(|(path, _)| ![THEIRS, V2].contains(path));
    assert_eq!(counted(&other).await, both);
}

/// A group may have versions of the API server's own and others of a CustomResourceDefinition of the same name.
#[tokio::test(start_paused = true)]
async fn the_version_that_has_most_counts_and_none_is_hidden_by_another() {
    let two = [
        (MAPS, some(3)),
        (GROUP, versions(&["v2", "v1"])),
        (V2, some(1)),
        (V1, some(2)),
    ];
    let both = known(&[("configmaps", 3), ("deployments.apps", 2)]);
    assert_eq!(counted(&two).await, both);
    // One whose APIService the tenant deleted isn't named, and is served all the same.
    let mut unnamed = two.to_vec();
    unnamed.retain(|(path, _)| *path != GROUP);
    unnamed.push((GROUP, versions(&["v2"])));
    assert_eq!(counted(&unnamed).await, both);
    let mut broken = two.to_vec();
    broken.retain(|(path, _)| *path != V1);
    broken.push((V1, json!(503)));
    assert_eq!(counted(&broken).await, known(&[("configmaps", 3)]));
}

#[tokio::test(start_paused = true)]
async fn a_version_with_a_dash_is_counted() {
    let answers = [
        (MAPS, some(3)),
        (GROUP, versions(&["v1-beta", "../v1"])),
        ("/apis/apps/v1-beta/deployments", some(2)),
    ];
    let both = known(&[("configmaps", 3), ("deployments.apps", 2)]);
    assert_eq!(counted(&answers).await, both);
}

/// The core group, too, may be led elsewhere.
#[tokio::test(start_paused = true)]
async fn core_resources_count_only_while_the_api_server_lists_them_itself() {
    let [both, only] = [
        known(&[("configmaps", 3), ("deployments.apps", 0)]),
        known(&[("deployments.apps", 0)]),
    ];
    let maps = (MAPS, some(3));
    let local = service(false);
    assert_eq!(counted(&[maps.clone(), (CORE, local.clone())]).await, both);
    for elsewhere in [
        service(true),
        json!([local.clone(), service(true)]),
        // Led away and back while it was counted.
        json!([local.clone(), changed(local)]),
        json!(503),
        Value::Null,
    ] {
        let said = counted(&[maps.clone(), (CORE, elsewhere.clone())]).await;
        assert_eq!(said, only, "{elsewhere}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_led_elsewhere_while_it_is_counted_is_unknown() {
    let flipped = json!([service(false), changed(service(false))]);
    let answers = [
        (MAPS, some(3)),
        (GROUP, versions(&["v1"])),
        (LOCAL, flipped),
        (V1, some(2)),
    ];
    assert_eq!(counted(&answers).await, known(&[("configmaps", 3)]));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_list_says_nothing() {
    let answers = [
        (MAPS, json!({})),
        (GROUP, versions(&["v1"])),
        (V1, json!({"kind": "Deployment"})),
    ];
    assert_eq!(counted(&answers).await, known(&[]));
}
