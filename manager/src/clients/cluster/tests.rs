use super::*;
use crate::object::{CONFIG_MAP, DEPLOYMENT, NAMESPACE};
use http::Response;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::json;
use tower_test::mock;

type Handle = mock::Handle<Request<Body>, Response<Body>>;

fn fake() -> (Cluster, Handle) {
    let (service, handle) = mock::pair();
    (Cluster::new(Client::new(service, "default")), handle)
}

/// Answers the next request; returns its method, URI and body.
async fn answer(handle: &mut Handle, status: u16, body: Value) -> (Method, String, Value) {
    let (request, send) = handle.next_request().await.unwrap();
    let (parts, sent) = request.into_parts();
    let sent = sent.collect().await.unwrap().to_bytes();
    let response = Response::builder()
        .status(status)
        .body(Body::from(body.to_string().into_bytes()));
    send.send_response(response.unwrap());
    (
        parts.method,
        parts.uri.to_string(),
        serde_json::from_slice(&sent).unwrap_or_default(),
    )
}

fn failure(code: u16, message: &str) -> Value {
    let reason = if code == 404 { NOT_FOUND } else { "R" };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": reason})
}

fn config_map() -> Object {
    Object::new(
        CONFIG_MAP,
        Some("n"),
        "c",
        json!({"metadata": {"uid": "u", "resourceVersion": "7"}}),
    )
}

#[test]
fn paths_are_those_of_the_api() {
    assert_eq!(path(NAMESPACE, None, Some("a")), "/api/v1/namespaces/a");
    assert_eq!(
        path(DEPLOYMENT, Some("n"), None),
        "/apis/apps/v1/namespaces/n/deployments"
    );
    assert_eq!(encode("a/b=c,d"), "a%2Fb%3Dc%2Cd");
}

#[tokio::test]
async fn an_answer_that_is_no_list_does_not_say_that_there_is_nothing() {
    for odd in [
        json!([]),
        json!("x"),
        json!(7),
        json!(null),
        json!({"items": {"a": 1}}),
    ] {
        let (cluster, mut handle) = fake();
        let both = tokio::spawn(async move {
            let some = cluster.some(CONFIG_MAP, 8).await;
            (some, cluster.list(CONFIG_MAP, None, "").await)
        });
        answer(&mut handle, 200, odd.clone()).await;
        answer(&mut handle, 200, odd.clone()).await;
        let (some, all) = both.await.unwrap();
        assert_eq!(some.unwrap(), vec![], "{odd}");
        assert!(matches!(all, Err(Error::Another { .. })), "{odd}");
    }
    for empty in [
        json!({"items": []}),
        json!({"kind": "ConfigMapList", "items": null}),
    ] {
        let (cluster, mut handle) = fake();
        let all = tokio::spawn(async move { cluster.list(CONFIG_MAP, None, "").await });
        answer(&mut handle, 200, empty).await;
        assert_eq!(all.await.unwrap().unwrap(), vec![]);
    }
    // Nor is what such a list holds any object.
    let (cluster, mut handle) = fake();
    let some = tokio::spawn(async move { cluster.some(CONFIG_MAP, 8).await });
    answer(&mut handle, 200, json!({"items": [[], "x", null]})).await;
    let some = some.await.unwrap().unwrap();
    assert!(some.len() == 3 && some.iter().all(|odd| odd.name().is_empty()));
}

#[tokio::test]
async fn a_list_goes_on_to_its_last_page() {
    let (cluster, mut handle) = fake();
    let list = tokio::spawn(async move { cluster.list(CONFIG_MAP, Some("n"), "a=b").await });
    let item = |name: &str| json!({"metadata": {"name": name}});
    let page = json!({"metadata": {"continue": "next"}, "items": [item("one")]});
    let (_, first, _) = answer(&mut handle, 200, page).await;
    assert!(
        first.contains("labelSelector=a%3Db") && first.ends_with("continue="),
        "{first}"
    );
    let (_, second, _) = answer(
        &mut handle,
        200,
        json!({"metadata": {}, "items": [item("two")]}),
    )
    .await;
    assert!(second.ends_with("continue=next"), "{second}");
    let names: Vec<String> = list
        .await
        .unwrap()
        .unwrap()
        .iter()
        .map(|object| object.name().to_owned())
        .collect();
    assert_eq!(names, ["one", "two"]);
}

/// A dozen objects of a megabyte, which anybody may make, must not end what all tenants go by.
#[tokio::test]
async fn t40_a_page_that_is_too_large_is_asked_for_by_halves_from_where_it_began() {
    let (cluster, mut handle) = fake();
    let list = tokio::spawn(async move {
        let name = |object: Object| object.name().strip_prefix("a").map(str::to_owned);
        cluster.list_of(CONFIG_MAP, None, "", name).await
    });
    let page = |name: &str, next: &str| json!({"metadata": {"continue": next}, "items": [{"metadata": {"name": name}}]});
    let large = json!({"data": "x".repeat(16 << 20)});
    let mut asked = vec![];
    for body in [
        page("a1", "2"),
        large.clone(),
        large,
        page("b2", "3"),
        page("a3", ""),
    ] {
        let (_, url, _) = answer(&mut handle, 200, body).await;
        let (_, query) = url.split_once("limit=").unwrap();
        let (size, token) = query.split_once("&labelSelector=&continue=").unwrap();
        asked.push(format!("{size} from {token:?}"));
    }
    assert_eq!(
        asked,
        [
            r#"500 from """#,
            r#"500 from "2""#,
            r#"250 from "2""#,
            r#"125 from "2""#,
            r#"125 from "3""#
        ]
    );
    assert_eq!(list.await.unwrap().unwrap(), ["1", "3"]);

    let (cluster, mut handle) = fake();
    let list = tokio::spawn(async move { cluster.list(CONFIG_MAP, None, "").await });
    for _ in 0..9 {
        answer(&mut handle, 200, json!({"data": "x".repeat(16 << 20)})).await;
    }
    let error = list.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_fresh_role_binding_is_waited_for() {
    let (cluster, mut handle) = fake();
    let create = tokio::spawn(async move { cluster.create(&config_map()).await });
    answer(&mut handle, 403, failure(403, "no")).await;
    answer(&mut handle, 201, config_map().body.clone()).await;
    assert!(create.await.unwrap().is_ok());

    let (cluster, mut handle) = fake();
    let create = tokio::spawn(async move { cluster.create(&config_map()).await });
    for _ in 0..=BINDING_LAG.len() {
        answer(&mut handle, 403, failure(403, "no")).await;
    }
    let error = create.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "create ConfigMap n/c: no");
}

#[tokio::test]
async fn deletes_name_the_uid_and_updates_the_version_that_was_seen() {
    let (cluster, mut handle) = fake();
    let work = tokio::spawn(async move {
        cluster.delete(&config_map(), Some(1)).await?;
        cluster
            .merge(&config_map(), "/status", json!({"status": {"a": 1}}))
            .await
    });
    let (method, _, options) = answer(&mut handle, 404, failure(404, "gone")).await;
    assert_eq!(
        (method, &options["preconditions"]),
        (Method::DELETE, &json!({"uid": "u"}))
    );
    assert_eq!(options["gracePeriodSeconds"], 1);
    let (method, url, patch) = answer(&mut handle, 409, failure(409, "changed")).await;
    assert_eq!(method, Method::PATCH);
    assert!(
        url.starts_with("/api/v1/namespaces/n/configmaps/c/status?"),
        "{url}"
    );
    assert_eq!(
        patch["metadata"],
        json!({"uid": "u", "resourceVersion": "7"})
    );
    assert!(work.await.unwrap().unwrap_err().is_conflict());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_given_up() {
    let (cluster, mut handle) = fake();
    let ready = tokio::spawn(async move { cluster.ready().await });
    let _held = handle.next_request().await;
    assert_eq!(
        ready.await.unwrap().unwrap_err().to_string(),
        "get /readyz: no answer within 10 s"
    );
}

#[tokio::test]
async fn a_full_etcd_is_told_from_all_other_failures() {
    for (message, full) in [
        ("etcdserver: mvcc: database space exceeded", true),
        ("etcdserver: request timed out", false),
    ] {
        let (cluster, mut handle) = fake();
        let apply = tokio::spawn(async move { cluster.apply(&config_map()).await });
        answer(&mut handle, 500, failure(500, message)).await;
        let error = apply.await.unwrap().unwrap_err();
        assert_eq!(error.is_full(), full, "{error}");
    }
}

/// Whoever runs the API server says how large its answers are.
#[tokio::test]
async fn t42_an_answer_that_is_larger_than_any_is_a_failure_like_another() {
    let (cluster, mut handle) = fake();
    let get = tokio::spawn(async move { cluster.get(CONFIG_MAP, Some("n"), "c").await });
    answer(&mut handle, 200, json!({"data": "x".repeat(16 << 20)})).await;
    let error = get.await.unwrap().unwrap_err();
    assert_eq!(error.code(), None);
    assert_eq!(
        error.to_string(),
        "get ConfigMap n/c: the answer is larger than any should be"
    );
}

/// Whoever runs another super cluster, or is one's tenant, would name what is written here.
#[tokio::test]
async fn t42_an_answer_under_another_name_is_no_answer() {
    for (metadata, is_it) in [
        (json!({"name": "c", "namespace": "n"}), true),
        (json!({"name": "other", "namespace": "n"}), false),
        (json!({"name": "c", "namespace": "other"}), false),
        (json!({"name": "c"}), false),
        (json!({}), false),
    ] {
        let (cluster, mut handle) = fake();
        let get = tokio::spawn(async move { cluster.get(CONFIG_MAP, Some("n"), "c").await });
        answer(&mut handle, 200, json!({"metadata": metadata})).await;
        match get.await.unwrap() {
            Ok(found) => assert!(is_it && found.is_some(), "{metadata}"),
            Err(error) => {
                assert!(!is_it, "{metadata}");
                let said = "get ConfigMap n/c: the answer is another object";
                assert_eq!(error.to_string(), said);
            }
        }
    }
    let (cluster, mut handle) = fake();
    let get = tokio::spawn(async move { cluster.get(NAMESPACE, None, "a").await });
    answer(&mut handle, 200, json!({"metadata": {"name": "a"}})).await;
    assert!(get.await.unwrap().unwrap().is_some());
}

/// A load balancer's page during an outage, and another API than Kubernetes', say nothing of the object.
#[tokio::test]
async fn only_an_api_server_says_that_an_object_is_gone() {
    for (body, is_gone) in [
        (failure(404, "gone"), true),
        (json!("404 page not found"), false),
        (json!({"error": "no backend"}), false),
        (json!({"kind": "Status", "reason": "Other"}), false),
    ] {
        let (cluster, mut handle) = fake();
        let asked = tokio::spawn(async move {
            let found = cluster.get(CONFIG_MAP, Some("n"), "c").await;
            let optional = cluster.get_if_served(CONFIG_MAP, Some("n"), "c").await;
            (found, optional, cluster.delete(&config_map(), None).await)
        });
        for _ in 0..3 {
            answer(&mut handle, 404, body.clone()).await;
        }
        let (found, optional, deleted) = asked.await.unwrap();
        assert_eq!(found.is_ok(), is_gone, "{body}");
        assert_eq!(deleted.is_ok(), is_gone, "{body}");
        assert_eq!(optional.unwrap(), None, "{body}");
    }
}

#[tokio::test]
async fn what_is_read_by_lines_may_be_of_any_size() {
    let (cluster, mut handle) = fake();
    let read = tokio::spawn(async move {
        let mut last = String::new();
        let each = |line: &str| {
            line.clone_into(&mut last);
            ControlFlow::Continue(())
        };
        cluster.lines("/metrics", "text/plain", each).await?;
        Ok::<_, Error>(last)
    });
    let (request, send) = handle.next_request().await.unwrap();
    assert_eq!(request.uri(), "/metrics");
    let text = format!("{}last", "apiserver_requests 1\n".repeat(1 << 20));
    send.send_response(Response::new(Body::from(text.into_bytes())));
    assert_eq!(read.await.unwrap().unwrap(), "last");
}

#[tokio::test]
async fn t42_a_count_beyond_all_numbers_is_the_largest() {
    let (cluster, mut handle) = fake();
    let count = tokio::spawn(async move { cluster.count("/api/v1/configmaps").await });
    let page = json!({"items": [{}], "metadata": {"remainingItemCount": u64::MAX}});
    answer(&mut handle, 200, page).await;
    assert_eq!(count.await.unwrap().unwrap(), u64::MAX);
}
