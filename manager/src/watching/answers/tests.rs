use super::*;
use crate::object::{CONFIG_MAP, POD, SECRET, SERVICE};
use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

fn whose() -> Whose {
    ("tenants".into(), "acme".into())
}

/// An API server that has one object of whatever it is asked for, in a new version each time; and how often it was asked.
fn fake() -> (Cluster, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let version = counted.fetch_add(1, Ordering::Relaxed) + 1;
        let object = json!({"metadata": {
            "name": "a", "namespace": "n", "resourceVersion": version.to_string(),
        }});
        let is_list = request.uri().query().is_some();
        let body = if is_list {
            json!({"metadata": {}, "items": [object]})
        } else {
            object
        };
        async move {
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(
                body.to_string().into_bytes(),
            )))
        }
    });
    (Cluster::new(Client::new(service, "default")), asked)
}

fn object(kind: Kind, version: &str, labels: Value) -> Object {
    let metadata = json!({"resourceVersion": version, "labels": labels});
    Object::new(kind, Some("n"), "a", json!({"metadata": metadata}))
}

fn told(kind: Kind, version: &str) -> ObjectVersion<'_> {
    ObjectVersion {
        kind,
        name: "a",
        version,
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_is_not_asked_again_until_it_is_too_old() {
    let (cluster, asked) = fake();
    let answers = Answers::default();
    for _ in 0..3 {
        let from = answers.reader(&cluster, whose());
        from.get(SECRET, Some("n"), "a").await.unwrap();
        from.list(POD, Some("n"), "").await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let other = answers.reader(&cluster, ("tenants".into(), "beta".into()));
    other.get(SECRET, Some("n"), "a").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 3, "it is another's");
    tokio::time::advance(FRESH).await;
    let from = answers.reader(&cluster, whose());
    from.get(SECRET, Some("n"), "a").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    // Of others nothing is kept for longer.
    assert_eq!(answers.0.lock().len(), 1);
    answers.forget(&whose());
    from.get(SECRET, Some("n"), "a").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn news_of_a_kind_make_its_answers_old_and_what_is_known_is_no_news() {
    let (cluster, asked) = fake();
    let answers = Answers::default();
    assert!(answers.heard(&whose(), &told(POD, "1")), "nothing is known");
    let from = answers.reader(&cluster, whose());
    from.list(POD, Some("n"), "").await.unwrap();
    from.list(SERVICE, Some("n"), "").await.unwrap();
    assert!(
        !answers.heard(&whose(), &told(POD, "1")),
        "it was just read"
    );
    from.list(POD, Some("n"), "").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert!(answers.heard(&whose(), &told(POD, "9")));
    from.list(POD, Some("n"), "").await.unwrap();
    from.list(SERVICE, Some("n"), "").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

/// Else it would be made, and what somebody put there meanwhile be written over.
#[tokio::test]
async fn that_there_is_nothing_of_a_name_is_asked_each_time() {
    let played = crate::played::Played::default();
    let (cluster, answers) = (played.cluster(), Answers::default());
    let from = answers.reader(&cluster, whose());
    assert!(from.get(SECRET, Some("n"), "a").await.unwrap().is_none());
    let theirs = json!({"metadata": {"labels": {"theirs": "yes"}}});
    played.put("/api/v1/namespaces/n/secrets/a", theirs);
    let found = from.get(SECRET, Some("n"), "a").await.unwrap().unwrap();
    assert_eq!(found.label("theirs"), Some("yes"));
}

/// What is told of after the question may not be in the answer.
#[tokio::test]
async fn news_that_come_while_it_is_asked_make_an_answer_old_at_once() {
    let answers = Answers::default();
    let told_meanwhile = answers.clone();
    let asked = Arc::new(AtomicU32::new(0));
    let counted = asked.clone();
    let service = tower::service_fn(move |_: Request<Body>| {
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            assert!(told_meanwhile.heard(&whose(), &told(POD, "5")));
        }
        let body = json!({"metadata": {}, "items": []}).to_string();
        async move { Ok::<_, std::convert::Infallible>(Response::new(Body::from(body.into_bytes()))) }
    });
    let cluster = Cluster::new(Client::new(service, "default"));
    let from = answers.reader(&cluster, whose());
    for _ in 0..3 {
        from.list(POD, Some("n"), "").await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_was_written_takes_the_place_of_what_was_answered() {
    let (cluster, asked) = fake();
    let answers = Answers::default();
    let from = answers.reader(&cluster, whose());
    from.list(SERVICE, Some("n"), "").await.unwrap();
    from.get(CONFIG_MAP, Some("n"), "a").await.unwrap();
    let selected = |value: &str| format!("role={value}");
    from.list(CONFIG_MAP, Some("n"), &selected("slice"))
        .await
        .unwrap();
    from.list(CONFIG_MAP, Some("n"), &selected("other"))
        .await
        .unwrap();
    answers.learn(&whose(), &object(SERVICE, "8", json!({})));
    answers.learn(&whose(), &object(CONFIG_MAP, "9", json!({"role": "slice"})));

    let versions = |found: Vec<Object>| -> Vec<String> {
        found
            .iter()
            .map(|object| version_of(object).to_owned())
            .collect()
    };
    let all = from.list(SERVICE, Some("n"), "").await.unwrap();
    assert_eq!(versions(all), ["8"]);
    let one = from.get(CONFIG_MAP, Some("n"), "a").await.unwrap();
    assert_eq!(versions(one.into_iter().collect()), ["9"]);
    let slices = from
        .list(CONFIG_MAP, Some("n"), &selected("slice"))
        .await
        .unwrap();
    assert_eq!(versions(slices), ["9"]);
    let others = from
        .list(CONFIG_MAP, Some("n"), &selected("other"))
        .await
        .unwrap();
    assert!(others.is_empty(), "it has another label now");
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    assert!(!answers.heard(&whose(), &told(SERVICE, "8")), "it is known");
}
