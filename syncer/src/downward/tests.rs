//! What a work does, against API servers that answer as a test says.

use super::{make::record, *};
use crate::{
    fake::{self, fake, tenant},
    table::TenantSide,
};
use serde_json::json;

#[test]
fn a_twin_whose_end_is_told_before_its_making_is_answered_is_made_again() {
    let (cluster, _server) = fake();
    let engine = fake::engine(&cluster);
    let tenant = tenant(&cluster);
    let key = Key::new(kind::index("ConfigMap"), "work", "settings");
    let stored = Object::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "acme-work", "uid": "u1", "resourceVersion": "7"},
    }))
    .unwrap();
    let under_way = tenant.table.write(&key);
    tenant.table.ended(&key, "u1");
    assert!(record(&engine, &tenant, &key, &stored, "owner").is_err());
    assert!(tenant.table.get(&key).twin.is_none());
    drop(under_way);
    // An end that comes in its turn is not held against what follows.
    tenant.table.ended(&key, "u1");
    let _under_way = tenant.table.write(&key);
    assert!(record(&engine, &tenant, &key, &stored, "owner").is_ok());
}

#[test]
fn what_is_suspected_while_it_is_written_is_compared_again() {
    let (cluster, _server) = fake();
    let engine = fake::engine(&cluster);
    let tenant = tenant(&cluster);
    let key = Key::new(kind::index("Namespace"), "", "work");
    let stored = Object::from_value(json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "acme-work", "uid": "u1", "resourceVersion": "7"},
    }))
    .unwrap();
    let recorded = || record(&engine, &tenant, &key, &stored, "owner").unwrap();
    let under_way = tenant.table.write(&key);
    tenant.table.suspect(&key);
    assert_eq!(recorded().baseline, 0);
    drop(under_way);
    // The next round tells that it is right.
    let _under_way = tenant.table.write(&key);
    assert_ne!(recorded().baseline, 0);
}

/// A pod that has a twin, in a namespace that has one.
fn runs(tenant: &Tenant) -> Key {
    tenant.gate.listed(kind::index("NetworkPolicy"), false);
    let namespace = Key::new(kind::index("Namespace"), "", "work");
    let key = Key::new(kind::index("Pod"), "work", "web");
    for key in [&namespace, &key] {
        tenant.table.update(key, |entry| {
            entry.twin = Some(fake::super_side("t", "own"));
        });
    }
    key
}

/// A ConfigMap of a tenant whose ConfigMaps all go down, in a namespace that has a twin: keys of both, and itself.
fn settings(tenant: &Tenant, uid: &str) -> ([Key; 2], Arc<Object>) {
    let mut rules = (*tenant.rules()).clone();
    rules.to_super = fake::all_config_maps();
    tenant.revise(rules, tenant.record());
    let namespace = Key::new(kind::index("Namespace"), "", "work");
    tenant.table.update(&namespace, |entry| {
        entry.twin = Some(fake::super_side("n", "own"));
    });
    let key = Key::new(kind::index("ConfigMap"), "work", "settings");
    let object = Object::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "work", "uid": uid, "resourceVersion": "7"},
    }));
    ([namespace, key], Arc::new(object.unwrap()))
}

/// Nobody watches what stands beside objects in a super namespace.
#[tokio::test(start_paused = true)]
async fn a_right_or_an_account_that_is_gone_from_a_super_namespace_is_made_again_and_no_fault_of_the_tenants()
 {
    for words in [
        "configmaps is forbidden: User \"s\" cannot create resource",
        "pods \"web\" is forbidden: error looking up service account acme-work/sublet: serviceaccount \"sublet\" not found",
    ] {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let ([namespace, key], object) = settings(&tenant, "u");
        let forbidden = json!({"kind": "Status", "code": 403, "message": words});
        for is_worked in [false, true] {
            tenant.down.put(key.clone(), object.clone());
            let (worked, _) = tokio::join!(
                work(&engine, &tenant, &key),
                super_server.answer("POST", 403, &forbidden)
            );
            assert!(worked.is_err_and(|failure| failure.is_race()));
            assert_eq!(engine.down.has(&tenant.id, &namespace), is_worked);
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        }
        assert_eq!(tenant.table.get(&namespace).twin.unwrap().baseline, 0);
        assert!(tenant_server.is_silent(), "the tenant is told nothing");
    }
}

/// T22: beside an ephemeral container that is refused, another one is judged as it is alone.
#[tokio::test(start_paused = true)]
async fn t22_a_refused_container_hides_no_reference_of_another() {
    let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
    let (engine, tenant) = (fake::engine(&above), tenant(&own));
    let key = runs(&tenant);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "work", "uid": "own", "resourceVersion": "7"},
        "spec": {
            "dnsPolicy": "Default", "containers": [{"name": "c", "image": "i"}],
            "ephemeralContainers": [
                {"name": "x", "image": "i", "securityContext": {"privileged": true}},
                {"name": "y", "image": "i", "envFrom": [{"secretRef": {"name": "platforms"}}]},
            ],
        },
    });
    let pod = Object::from_value(pod).unwrap();
    tenant.down.put(key.clone(), Arc::new(pod));
    let answers = async {
        let secret = json!({"metadata": {"name": "platforms"}});
        let asked = super_server.answer("GET", 200, &secret).await;
        assert!(asked.path.ends_with("/secrets/platforms"), "{}", asked.path);
        let told = tenant_server.answer("POST", 201, &json!({})).await;
        assert_eq!(told.body["reason"], "ReferenceTaken");
    };
    let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
    assert!(worked.is_ok(), "{worked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_change_the_super_cluster_refuses_keeps_its_tokens() {
    let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
    let (engine, tenant) = (fake::engine(&above), tenant(&own));
    let key = runs(&tenant);
    let pod = Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "work", "uid": "own", "resourceVersion": "7"},
        "spec": {
            "dnsPolicy": "Default", "containers": [{"name": "c", "image": "i:2"}],
            "volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        },
    }))
    .unwrap();
    let twin = tenant.with_cx(|cx| translate(key.kind(), &pod, cx));
    let mut twin = twin.unwrap().unwrap();
    twin.value_mut()["metadata"]["uid"] = "t".into();
    twin.value_mut()["metadata"]["resourceVersion"] = "9".into();
    twin.value_mut()["spec"]["containers"][0]["image"] = "i:1".into();
    tenant.down.put(key.clone(), Arc::new(pod));
    let answers = async {
        super_server.answer("GET", 200, twin.value()).await;
        let refused = json!({"kind": "Status", "code": 422, "message": "no such image"});
        super_server.answer("PATCH", 422, &refused).await;
        let secret = json!({"metadata": {"name": "token", "ownerReferences": [{"uid": "t"}]}});
        let asked = super_server.answer("GET", 200, &secret).await;
        assert!(asked.path.contains("/secrets/"), "{}", asked.path);
        let told = tenant_server.answer("POST", 201, &json!({})).await;
        assert_eq!(told.body["reason"], "RefusedBySuperCluster");
    };
    let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
    assert!(worked.is_ok(), "{worked:?}");
    assert!(tenant.table.get(&key).renew_at.is_some());
}

/// Neither the tenant nor whoever runs the super cluster would learn otherwise why nothing happens.
#[tokio::test(start_paused = true)]
async fn that_a_webhook_of_the_super_cluster_holds_up_an_object_is_told_below_and_above() {
    let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
    let (engine, tenant) = (fake::engine(&above), tenant(&own));
    let ([_, key], object) = settings(&tenant, "u");
    tenant.table.update(&key, |entry| {
        entry.tenant = Some(TenantSide::published(&object, 1));
    });
    engine.down.add(&tenant.id, key.clone());
    let words = "Internal error occurred: failed calling webhook \"inject.example.com\": failed to call webhook: EOF";
    let fails = json!({"kind": "Status", "code": 500, "message": words});
    for (is_told, is_told_above) in [(false, false), (true, true), (false, false)] {
        tenant.down.put(key.clone(), object.clone());
        let answers = async {
            let asked = super_server.answer("POST", 500, &fails).await;
            assert_eq!(asked.body["kind"], "ConfigMap");
            if is_told_above {
                let told = super_server.answer("POST", 201, &json!({})).await;
                assert_eq!(told.body["reason"], "WebhookFailing");
                assert_eq!(told.body["message"], words);
                assert_eq!(told.body["involvedObject"]["name"], "settings");
            }
            if is_told {
                let told = tenant_server.answer("POST", 201, &json!({})).await;
                assert_eq!(told.body["reason"], "NotSyncedYet");
                let message = told.body["message"].as_str().unwrap();
                assert!(!message.contains("example.com"), "{message}");
            }
        };
        let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
        // It is tried again.
        assert!(
            matches!(worked, Err(Failure::Api(Error::Internal(_)))),
            "{worked:?}"
        );
        assert!(super_server.is_silent() && tenant_server.is_silent());
        tokio::time::sleep(webhook::PATIENCE).await;
    }
}

/// Else the last word about it is the refusal.
#[tokio::test(start_paused = true)]
async fn what_was_refused_and_is_put_right_is_told_to_be_synced() {
    for was_refused in [true, false] {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let ([_, key], object) = settings(&tenant, "u");
        tenant.table.update(&key, |entry| {
            entry.twin = Some(fake::super_side("t", "u"));
            entry.refused = was_refused;
        });
        let twin = tenant.with_cx(|cx| translate(key.kind(), &object, cx));
        let mut twin = twin.unwrap().unwrap();
        twin.value_mut()["metadata"]["uid"] = "t".into();
        twin.value_mut()["metadata"]["resourceVersion"] = "9".into();
        tenant.down.put(key.clone(), object);
        let answers = async {
            super_server.answer("GET", 200, twin.value()).await;
            if was_refused {
                let told = tenant_server.answer("POST", 201, &json!({})).await;
                assert_eq!(told.body["reason"], "Synced");
                assert_eq!(told.body["involvedObject"]["uid"], "u");
            }
        };
        let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(worked.is_ok(), "{worked:?}");
        assert!(!tenant.table.get(&key).refused);
        assert!(super_server.is_silent() && tenant_server.is_silent());
    }
}

/// T43: what is there stays as it is.
#[tokio::test(start_paused = true)]
async fn t43_what_exceeds_the_limit_of_bytes_is_neither_made_nor_grows() {
    for is_there in [false, true] {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let ([_, key], object) = settings(&tenant, "u");
        tenant.table.update(&key, |entry| {
            entry.tenant = Some(TenantSide::published(&object, 1));
            entry.twin = is_there.then(|| fake::super_side("t", "u"));
        });
        tenant.quota.bytes.limit(10);
        tenant.down.put(key.clone(), object);
        let answers = async {
            let told = tenant_server.answer("POST", 201, &json!({})).await;
            assert_eq!(told.body["reason"], "QuotaExceeded");
        };
        let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(worked.is_ok(), "{worked:?}");
        assert!(super_server.is_silent());
        let entry = tenant.table.get(&key);
        assert_eq!((entry.twin.is_some(), entry.refused), (is_there, true));
    }
}

/// F21: by another super pod it would run elsewhere than where the tenant sees it.
#[tokio::test(start_paused = true)]
async fn r5_a_pod_that_was_bound_since_it_was_told_of_is_not_placed_a_second_time() {
    let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
    let (engine, tenant) = (fake::engine(&above), tenant(&own));
    let key = runs(&tenant);
    let pod = Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "work", "uid": "own", "resourceVersion": "7"},
        "spec": {"dnsPolicy": "Default", "containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap();
    for is_being_bound in [true, false] {
        tenant.table.update(&key, |entry| {
            entry.twin = None;
            entry.tenant = Some(TenantSide {
                node: (!is_being_bound).then(|| "n".into()),
                ..TenantSide::published(&pod, 1)
            });
        });
        if is_being_bound {
            tenant.binding.lock().insert(key.clone());
        }
        tenant.down.put(key.clone(), Arc::new(pod.clone()));
        let worked = work(&engine, &tenant, &key).await;
        assert!(matches!(worked, Err(Failure::Waiting(_))), "{worked:?}");
        assert!(super_server.is_silent() && tenant_server.is_silent());
        tenant.binding.lock().clear();
    }
}

/// The ownership is part of the create, and what another one owns stays as it is.
#[tokio::test(start_paused = true)]
async fn r3_what_stands_under_the_name_and_is_another_ones_is_neither_adopted_nor_touched() {
    let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
    let (engine, tenant) = (fake::engine(&above), tenant(&own));
    let ([_, key], object) = settings(&tenant, "u1");
    tenant.down.put(key.clone(), object);
    let taken =
        json!({"kind": "Status", "code": 409, "message": "configmaps \"settings\" already exists"});
    let foreign = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "acme-work", "uid": "theirs", "resourceVersion": "3"},
    });
    let answers = async {
        let made = super_server.answer("POST", 409, &taken).await;
        let metadata = &made.body["metadata"];
        assert_eq!(metadata["annotations"][api::keys::UID], "u1");
        assert_eq!(metadata["labels"][api::keys::TENANT], tenant.id.as_str());
        super_server.answer("GET", 200, &foreign).await;
        let told = tenant_server.answer("POST", 201, &json!({})).await;
        assert_eq!(told.body["reason"], "NameTaken");
    };
    let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
    assert!(worked.is_ok(), "{worked:?}");
    assert!(super_server.is_silent());
    assert!(tenant.table.get(&key).twin.is_none());
}

/// What took a host, and when, must outlive this process.
#[tokio::test(start_paused = true)]
async fn a_host_that_an_edit_takes_is_dated_on_the_super_object() {
    let ((above, mut super_server), (own, _tenant_server)) = (fake(), fake());
    let (engine, tenant) = (fake::engine(&above), tenant(&own));
    let mut rules = (*tenant.rules()).clone();
    rules.offers.hosts = vec!["*".into()];
    tenant.revise(rules, tenant.record());
    let route = |host: &str| {
        Object::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "web", "namespace": "work", "uid": "own", "resourceVersion": "7"},
            "spec": {"hostnames": ["first.example", host]},
        }))
        .unwrap()
    };
    let namespace = Key::new(kind::index("Namespace"), "", "work");
    let key = Key::new(kind::index("HTTPRoute"), "work", "web");
    for key in [&namespace, &key] {
        tenant.table.update(key, |entry| {
            entry.twin = Some(fake::super_side("t", "own"));
        });
    }
    let twin = tenant.with_cx(|cx| translate(key.kind(), &route("old.example"), cx));
    let mut twin = twin.unwrap().unwrap();
    twin.value_mut()["metadata"]["uid"] = "t".into();
    twin.value_mut()["metadata"]["resourceVersion"] = "9".into();
    tenant
        .down
        .put(key.clone(), Arc::new(route("shop.example")));
    let answers = async {
        super_server.answer("GET", 200, twin.value()).await;
        let patch = super_server.answer("PATCH", 200, twin.value()).await.body;
        let mut operations = patch.as_array().into_iter().flatten();
        let path = format!(
            "/metadata/annotations/{}",
            api::keys::HOSTS.replace('/', "~1")
        );
        let dated = operations.find(|operation| operation["path"] == *path);
        let dated = dated.and_then(|operation| operation["value"].as_str());
        let dated: serde_json::Value = serde_json::from_str(dated.unwrap()).unwrap();
        let dated = dated.as_object().unwrap();
        assert_eq!(dated.keys().collect::<Vec<_>>(), ["shop.example"]);
    };
    let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
    assert!(worked.is_ok(), "{worked:?}");
}

/// A claim of a tenant that is offered its class, as it names its volume, and its key.
fn data(tenant: &Tenant, volume: Option<&str>) -> (Key, Object) {
    let class = Object::from_value(json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "fast", "labels": {api::keys::PUBLISHED: "true"}},
    }));
    let offer = Key::new(kind::index("StorageClass"), "", "fast");
    tenant.offered.note(&offer, &class.unwrap());
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "work", "uid": "own", "resourceVersion": "7"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    if let Some(volume) = volume {
        claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
        claim["spec"]["volumeName"] = volume.into();
        claim["status"] = json!({"phase": "Bound"});
    }
    let key = Key::new(kind::index("PersistentVolumeClaim"), "work", "data");
    (key, Object::from_value(claim).unwrap())
}

#[tokio::test(start_paused = true)]
async fn r5_a_claim_that_was_bound_and_has_no_super_claim_gets_no_empty_volume_and_is_lost() {
    for (uid, is_told) in [("another", false), ("right", true)] {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        engine.super_proof.set("right".into()).unwrap();
        let (key, claim) = data(&tenant, Some("pvc-1"));
        tenant.down.put(key.clone(), Arc::new(claim));
        let gone = json!({"kind": "Status", "code": 404});
        let kube_system = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": uid}});
        let answers = async {
            let asked = super_server.answer("GET", 404, &gone).await;
            let path = "/persistentvolumeclaims/data";
            assert!(asked.path.ends_with(path), "{}", asked.path);
            super_server.answer("GET", 200, &kube_system).await;
            if is_told {
                let answer = json!({"metadata": {}});
                let shown = tenant_server.answer("PATCH", 200, &answer).await;
                assert!(shown.path.ends_with("/data/status"), "{}", shown.path);
                let lost = json!({"metadata": {"uid": "own"}, "status": {"phase": "Lost"}});
                assert_eq!(shown.body, lost);
                let told = tenant_server.answer("POST", 201, &answer).await.body;
                assert_eq!(told["reason"], "VolumeLost");
                assert!(told["message"].to_string().contains("pvc-1"), "{told}");
            }
        };
        let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
        // By another super cluster nothing is lost.
        assert_eq!(worked.is_ok(), is_told, "{worked:?}");
        assert!(super_server.is_silent() && tenant_server.is_silent());
    }
}

/// As after a start between its making and the first list.
#[tokio::test(start_paused = true)]
async fn r10_a_claim_that_was_bound_keeps_a_super_claim_that_no_watch_has_told_of() {
    for is_ending in [false, true] {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let (key, claim) = data(&tenant, Some("pvc-1"));
        let twin = tenant.with_cx(|cx| translate(key.kind(), &claim, cx));
        let mut twin = twin.unwrap().unwrap().into_value();
        twin["metadata"]["uid"] = "s".into();
        twin["metadata"]["resourceVersion"] = "9".into();
        if is_ending {
            twin["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        tenant.down.put(key.clone(), Arc::new(claim));
        let (worked, _) = tokio::join!(
            work(&engine, &tenant, &key),
            super_server.answer("GET", 200, &twin)
        );
        assert!(matches!(worked, Err(Failure::Waiting(_))), "{worked:?}");
        // Of one that ends its end is told, or the next read tells it.
        assert_eq!(tenant.table.get(&key).twin.is_none(), is_ending);
        assert!(super_server.is_silent() && tenant_server.is_silent());
    }
}

#[tokio::test(start_paused = true)]
async fn r3_a_claim_that_was_bound_is_not_lost_to_one_that_is_another_ones() {
    let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
    let (engine, tenant) = (fake::engine(&above), tenant(&own));
    let (key, claim) = data(&tenant, Some("pvc-1"));
    tenant.down.put(key.clone(), Arc::new(claim));
    let foreign = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "acme-work", "uid": "theirs", "resourceVersion": "3"},
    });
    let answers = async {
        super_server.answer("GET", 200, &foreign).await;
        let told = tenant_server.answer("POST", 201, &json!({})).await;
        assert_eq!(told.body["reason"], "NameTaken");
    };
    let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
    assert!(worked.is_ok(), "{worked:?}");
    assert!(super_server.is_silent());
}

/// What it says now is read before another volume could be made for it; one that never had any gets its first.
#[tokio::test(start_paused = true)]
async fn r5_a_claim_that_was_bound_since_it_was_told_of_gets_no_second_volume() {
    let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
    let (engine, tenant) = (fake::engine(&above), tenant(&own));
    let (key, claim) = data(&tenant, None);
    let namespace = Key::new(kind::index("Namespace"), "", "work");
    tenant.table.update(&namespace, |entry| {
        entry.twin = Some(fake::super_side("n", "own"));
    });
    let shows = meta::fingerprint(&key.kind().up_projection(&claim));
    for (projection, is_being_bound) in [(shows, true), (shows ^ 1, false)] {
        tenant.table.update(&key, |entry| {
            entry.tenant = Some(TenantSide {
                projection,
                ..TenantSide::published(&claim, 1)
            });
        });
        if is_being_bound {
            tenant.binding.lock().insert(key.clone());
        }
        tenant.down.put(key.clone(), Arc::new(claim.clone()));
        let worked = work(&engine, &tenant, &key).await;
        assert!(matches!(worked, Err(Failure::Waiting(_))), "{worked:?}");
        assert!(super_server.is_silent() && tenant_server.is_silent());
        tenant.binding.lock().clear();
    }
    tenant.table.update(&key, |entry| {
        if let Some(side) = &mut entry.tenant {
            side.projection = shows;
        }
    });
    tenant.down.put(key.clone(), Arc::new(claim));
    let answers = async {
        let refused = json!({"kind": "Status", "code": 422, "message": "too small"});
        let made = super_server.answer("POST", 422, &refused).await;
        assert_eq!(made.body["kind"], "PersistentVolumeClaim");
        let told = tenant_server.answer("POST", 201, &json!({})).await;
        assert_eq!(told.body["reason"], "RefusedBySuperCluster");
    };
    let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
    assert!(worked.is_ok(), "{worked:?}");
}
