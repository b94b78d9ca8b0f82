//! The ResourceQuotas of super namespaces, and what they refuse.

use super::*;
use crate::{
    downward,
    fake::{self, Received, Server, fake, tenant},
    quota as first,
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};
use tenancy::quota::amount::Amounts;

const TWIN: &str = "acme-work";

fn limit(tenant: &Tenant, name: &str, units: i128) {
    let mut rules = (*tenant.rules()).clone();
    rules.quota = Amounts::from([(name.to_owned(), units * 1000)]);
    rules.to_super = crate::fake::all_config_maps();
    tenant.quota.limit(&rules.quota, BTreeMap::new());
    tenant.quota.counted();
    tenant.revise(rules, tenant.record());
}

fn stored(tenant: &Tenant, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {
            "name": api::QUOTA_NAME, "namespace": TWIN, "uid": "q", "resourceVersion": "7",
            "labels": {api::keys::TENANT: tenant.id.as_str()},
        },
        "spec": spec, "status": {"hard": {"pods": "1"}, "used": {"pods": "1"}},
    })
}

struct Fixture {
    engine: Engine,
    tenant: Arc<Tenant>,
    above: Server,
    own: Server,
}

fn fixture() -> Fixture {
    let ((cluster, above), (inside, own)) = (fake(), fake());
    Fixture {
        engine: fake::engine(&cluster),
        tenant: Arc::new(tenant(&inside)),
        above,
        own,
    }
}

/// One whose tenant was only just taken up.
fn starting() -> Fixture {
    let mut fixture = fixture();
    Arc::get_mut(&mut fixture.tenant).unwrap().listed = Listed::default();
    fixture
}

impl Fixture {
    /// Keeps what stands, and answers the one write that it takes.
    async fn keep(&mut self, have: Option<Value>, write: Option<(&str, u16)>) -> Option<Received> {
        let answers = async {
            match &have {
                Some(have) => self.above.answer("GET", 200, have).await,
                None => {
                    let gone = json!({"kind": "Status", "code": 404});
                    self.above.answer("GET", 404, &gone).await
                }
            };
            let answer = json!({"metadata": {"name": api::QUOTA_NAME}, "message": "no"});
            let (verb, code) = write?;
            Some(self.above.answer(verb, code, &answer).await)
        };
        let (kept, received) = tokio::join!(keep(&self.engine, &self.tenant, TWIN), answers);
        assert!(kept.is_ok(), "{kept:?}");
        assert!(self.above.is_silent());
        received
    }
}

#[tokio::test]
async fn it_follows_the_limits_until_none_is_left() {
    let mut fixture = fixture();
    fixture.keep(None, None).await;
    limit(&fixture.tenant, "pods", 5);
    let made = fixture.keep(None, Some(("POST", 201))).await.unwrap();
    assert_eq!(made.path, "/api/v1/namespaces/acme-work/resourcequotas");
    let five = json!({"hard": {"pods": "5"}});
    assert_eq!(made.body["spec"], five);
    let tenant = fixture.tenant.clone();
    fixture.keep(Some(stored(&tenant, &five)), None).await;
    limit(&tenant, "pods", 9);
    let have = stored(&tenant, &five);
    let patched = fixture.keep(Some(have), Some(("PATCH", 200))).await;
    let nine = json!({"hard": {"pods": "9"}});
    let expected = json!([
        {"op": "test", "path": "/metadata/uid", "value": "q"},
        // The status changes all the time, and with it the version.
        {"op": "test", "path": "/spec", "value": five},
        {"op": "replace", "path": "/spec", "value": nine},
    ]);
    assert_eq!(patched.unwrap().body, expected);
    limit(&tenant, "secrets", 9);
    let have = stored(&tenant, &nine);
    let deleted = fixture.keep(Some(have), Some(("DELETE", 200))).await;
    assert_eq!(deleted.unwrap().body["preconditions"]["uid"], "q");
}

#[tokio::test]
async fn what_somebody_else_made_or_the_super_cluster_refuses_stops_no_namespace() {
    let mut fixture = fixture();
    limit(&fixture.tenant, "pods", 5);
    let mut foreign = stored(&fixture.tenant, &json!({"hard": {"pods": "1"}}));
    foreign["metadata"]["labels"] = json!({});
    fixture.keep(Some(foreign), None).await;
    fixture.keep(None, Some(("POST", 422))).await;
}

#[tokio::test]
async fn an_edit_is_found_by_the_patrol_and_a_new_status_is_none() {
    let mut fixture = fixture();
    let key = Key::new(kind::index("Namespace"), "", "work");
    fixture.tenant.table.update(&key, |entry| {
        entry.twin = Some(fake::super_side("n", "own"));
    });
    patrol(&fixture.engine, &fixture.tenant).await.unwrap();
    assert!(fixture.above.is_silent(), "without limits there is none");
    limit(&fixture.tenant, "pods", 5);
    let baseline = |tenant: &Tenant| tenant.table.get(&key).twin.unwrap().baseline;
    for (hard, suspects) in [("5", 0), ("500", 1)] {
        let have = stored(&fixture.tenant, &json!({"hard": {"pods": hard}}));
        let (patrolled, _) = tokio::join!(
            patrol(&fixture.engine, &fixture.tenant),
            fixture.above.answer("GET", 200, &have)
        );
        patrolled.unwrap();
        let depth = fixture.engine.down.depth(&fixture.tenant.id);
        assert_eq!(depth, suspects, "{hard}");
        assert_eq!(baseline(&fixture.tenant) == 0, suspects == 1);
    }
    assert!(fixture.above.is_silent(), "a suspicion writes nothing");
}

#[tokio::test(start_paused = true)]
async fn the_start_of_a_tenant_lists_them_once_whatever_the_number_of_its_namespaces() {
    let Fixture {
        engine,
        tenant,
        mut above,
        own: _own,
    } = starting();
    limit(&tenant, "pods", 5);
    let in_namespace = |number: u32, hard: &str| {
        let mut quota = stored(&tenant, &json!({"hard": {"pods": hard}}));
        quota["metadata"]["namespace"] = json!(format!("acme-{number}"));
        quota
    };
    let mut items: Vec<Value> = (0..300).map(|number| in_namespace(number, "5")).collect();
    items[7] = in_namespace(7, "4");
    let list = json!({"metadata": {"resourceVersion": "9"}, "items": items});
    let keep = |number: u32| {
        let (engine, tenant) = (&engine, &tenant);
        async move { keep(engine, tenant, &format!("acme-{number}")).await }
    };
    let answers = async {
        let listed = above.answer("GET", 200, &list).await;
        above.answer("PATCH", 200, &in_namespace(7, "5")).await;
        listed
    };
    let all = futures::future::join_all((0..300).map(keep));
    let (kept, listed) = tokio::join!(all, answers);
    assert!(kept.iter().all(Result::is_ok), "{kept:?}");
    assert!(above.is_silent());
    let Received { path, query, .. } = listed;
    assert_eq!(path, "/api/v1/resourcequotas");
    let selector = format!("labelSelector=sublet.dev%2Ftenant%3D{}", tenant.id);
    assert!(query.contains(&selector), "{query}");

    // A namespace that came meanwhile has none; one that is worked again is read, and so is every one later.
    let made = in_namespace(300, "5");
    let (kept, _) = tokio::join!(keep(300), above.answer("POST", 201, &made));
    kept.unwrap();
    for number in [7, 300] {
        let have = in_namespace(number, "5");
        let (kept, asked) = tokio::join!(keep(number), above.answer("GET", 200, &have));
        kept.unwrap();
        assert!(
            asked
                .path
                .ends_with(&format!("acme-{number}/resourcequotas/sublet-quota"))
        );
    }
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let have = in_namespace(301, "5");
    let (kept, _) = tokio::join!(keep(301), above.answer("GET", 200, &have));
    kept.unwrap();
    assert!(above.is_silent());
}

#[tokio::test]
async fn without_the_right_to_list_them_each_is_read() {
    let mut fixture = starting();
    let (engine, tenant) = (&fixture.engine, &fixture.tenant);
    let answers = async {
        let message = json!({"kind": "Status", "code": 403, "message": "is forbidden: User"});
        fixture.above.answer("GET", 403, &message).await;
        let gone = json!({"kind": "Status", "code": 404});
        fixture.above.answer("GET", 404, &gone).await
    };
    let (kept, asked) = tokio::join!(keep(engine, tenant, TWIN), answers);
    kept.unwrap();
    assert!(
        asked
            .path
            .ends_with("acme-work/resourcequotas/sublet-quota")
    );
}

/// A ConfigMap of a tenant that may have one, in a namespace that stands.
fn one_config_map(tenant: &Tenant) -> Key {
    limit(tenant, "configmaps", 1);
    let namespace = Key::new(kind::index("Namespace"), "", "work");
    tenant.table.update(&namespace, |entry| {
        entry.twin = Some(fake::super_side("n", "own"));
    });
    Key::new(kind::index("ConfigMap"), "work", "settings")
}

fn config_map(name: &str) -> Object {
    Object::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "work", "uid": "u1", "resourceVersion": "7"},
    }))
    .unwrap()
}

fn refused(reason: &str) -> Value {
    let message = format!("configmaps \"settings\" is forbidden: {reason}");
    json!({"kind": "Status", "code": 403, "message": message})
}

#[tokio::test(start_paused = true)]
async fn what_the_second_layer_turns_away_is_told_keeps_its_place_and_comes_again() {
    let Fixture {
        engine,
        tenant,
        mut above,
        mut own,
    } = fixture();
    let key = one_config_map(&tenant);
    let is_waiting = |worked: Result<(), Failure>| {
        matches!(worked, Err(Failure::Waiting(_) | Failure::Rests(_)))
    };

    // Its limits were others a moment ago: nothing to tell.
    tenant
        .down
        .put(key.clone(), Arc::new(config_map("settings")));
    let late = refused(
        "exceeded quota: sublet-quota, requested: configmaps=1, used: configmaps=16, limited: configmaps=16",
    );
    let (worked, _) = tokio::join!(
        downward::work(&engine, &tenant, &key),
        above.answer("POST", 403, &late)
    );
    assert!(is_waiting(worked));
    assert!(own.is_silent());

    tenant
        .down
        .put(key.clone(), Arc::new(config_map("settings")));
    let full = refused(
        "exceeded quota: sublet-quota, requested: configmaps=1, used: configmaps=17, limited: configmaps=17",
    );
    let answers = async {
        above.answer("POST", 403, &full).await;
        own.answer("POST", 201, &json!({})).await
    };
    let (worked, told) = tokio::join!(downward::work(&engine, &tenant, &key), answers);
    assert!(is_waiting(worked));
    assert_eq!(told.body["reason"], EXCEEDED);
    let text = told.body["message"].as_str().unwrap();
    assert!(text.contains("configmaps: 1 more of at most 1"), "{text}");

    // Who comes after it isn't let past it.
    let other = Key::new(kind::index("ConfigMap"), "work", "other");
    let second = first::reserve(&tenant, &other, &config_map("other")).unwrap();
    assert_eq!(second.unwrap().reason, EXCEEDED);

    tenant
        .down
        .put(key.clone(), Arc::new(config_map("settings")));
    let made = json!({"metadata": {"name": "settings", "namespace": TWIN, "uid": "t", "resourceVersion": "9"}});
    let (worked, _) = tokio::join!(
        downward::work(&engine, &tenant, &key),
        above.answer("POST", 201, &made)
    );
    assert!(worked.is_ok(), "{worked:?}");
    assert!(tenant.table.get(&key).twin.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_the_second_layer_refuses_for_good_is_told_as_by_the_first() {
    let Fixture {
        engine,
        tenant,
        mut above,
        mut own,
    } = fixture();
    let key = one_config_map(&tenant);
    for (words, reason) in [
        (
            "failed quota: sublet-quota: must specify requests.cpu for: a",
            UNSAID,
        ),
        (
            "exceeded quota: platform, requested: configmaps=1, used: configmaps=1, limited: configmaps=1",
            "RefusedBySuperCluster",
        ),
    ] {
        tenant
            .down
            .put(key.clone(), Arc::new(config_map("settings")));
        let answers = async {
            above.answer("POST", 403, &refused(words)).await;
            own.answer("POST", 201, &json!({})).await
        };
        let (worked, told) = tokio::join!(downward::work(&engine, &tenant, &key), answers);
        assert!(worked.is_ok(), "{worked:?}");
        assert_eq!(told.body["reason"], reason);
        // Its place is free again.
        let other = Key::new(kind::index("ConfigMap"), "work", "other");
        let second = first::reserve(&tenant, &other, &config_map("other")).unwrap();
        assert_eq!(second, None);
        first::unmade(&engine, &tenant, &other);
    }
}

#[tokio::test]
async fn what_containers_of_the_super_clusters_admission_do_not_say_is_held_no_longer() {
    let mut fixture = fixture();
    limit(&fixture.tenant, "limits.cpu", 5);
    let key = Key::new(kind::index("Pod"), "work", "web");
    let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "own"}]}});
    let pod = Object::from_value(pod).unwrap();
    let limits = fixture.tenant.rules().limits();
    let refused = |containers: &str| {
        let words =
            format!("failed quota: sublet-quota: must specify limits.cpu for: {containers}");
        namespace::refusal(&words, &limits).unwrap()
    };
    let (engine, tenant) = (&fixture.engine, fixture.tenant.clone());
    let own = gives_way(engine, &tenant, &key, &pod, &refused("mesh,own")).await;
    assert!(!own.unwrap() && fixture.above.is_silent());

    let mut have = stored(&tenant, &json!({"hard": {"limits.cpu": "5"}}));
    let refusal = refused("mesh");
    let answers = async {
        fixture.above.answer("GET", 200, &have).await;
        fixture.above.answer("PATCH", 200, &have).await
    };
    let (given, patched) = tokio::join!(gives_way(engine, &tenant, &key, &pod, &refusal), answers);
    assert!(given.unwrap());
    let body = patched.body;
    assert_eq!(body[2]["value"], json!({api::keys::UNHELD: "limits.cpu"}));
    assert_eq!(body[3]["value"], json!({"hard": {}}));

    // So it stays: neither another refusal, which comes late, nor the namespace's next work changes it.
    have["metadata"]["annotations"] = body[2]["value"].clone();
    have["spec"] = body[3]["value"].clone();
    let (given, _) = tokio::join!(
        gives_way(engine, &tenant, &key, &pod, &refusal),
        fixture.above.answer("GET", 200, &have)
    );
    assert!(given.unwrap());
    fixture.keep(Some(have), None).await;
}
