//! What becomes of a pod, against API servers that answer as a test says.

use super::*;
use crate::{
    downward::work,
    fake::{self, Server, fake, tenant},
    intake::twin_name,
    table::TenantSide,
};
use serde_json::{Value, json};
use std::sync::Arc;

fn web() -> Key {
    Key::new(kind::index("Pod"), "work", "web")
}

/// A tenant that falls asleep without its pods, and is known as well as it must be for deletions.
fn stopping(tenant: &Tenant) {
    let mut rules = (*tenant.rules()).clone();
    rules.workload = Workload::Stops;
    tenant.revise(rules, tenant.record());
    fake::list_all(tenant);
    tenant.set_proof("right");
    tenant.marks.read(1);
    let namespace = Key::new(kind::index("Namespace"), "", "work");
    tenant.table.update(&namespace, |entry| {
        entry.twin = Some(fake::super_side("n", "own"));
    });
}

/// A pod on one side, made for the tenant's pod with the UID `owner`.
fn pod(tenant: &Tenant, namespace: &str, uid: &str, owner: &str, phase: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web", "namespace": namespace, "uid": uid, "resourceVersion": "9",
            "labels": {api::keys::TENANT: tenant.id.as_str()},
            "annotations": {api::keys::NAMESPACE: "work", api::keys::NAME: "web", api::keys::UID: owner},
        },
        "spec": {"dnsPolicy": "Default", "nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": phase},
    })
}

/// It has a super pod, and is told of.
fn runs(tenant: &Tenant) -> [Value; 2] {
    let own = pod(tenant, "work", "u", "u", "Running");
    let above = twin_name(tenant, &web()).namespace;
    let twin = pod(tenant, &above, "s", "u", "Running");
    let object = Object::from_value(own.clone()).unwrap();
    tenant.table.update(&web(), |entry| {
        entry.tenant = Some(TenantSide::published(&object, 1));
        entry.twin = Some(fake::super_side("s", "u"));
    });
    tenant.down.put(web(), Arc::new(object));
    [own, twin]
}

async fn prove_it(tenant_server: &mut Server) {
    let kube_system = json!({"metadata": {"name": "kube-system", "uid": "right"}});
    let mark = json!({"metadata": {"name": api::MARK_NAME}, "data": {"nonce": "1"}});
    tenant_server.answer("GET", 200, &kube_system).await;
    tenant_server.answer("GET", 200, &mark).await;
}

/// R1: what goes down afterwards is the tenant's own word.
#[tokio::test(start_paused = true)]
async fn r1_a_pod_of_a_tenant_that_falls_asleep_is_ended_in_the_tenant_with_its_grace() {
    let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
    let (engine, tenant, web) = (fake::engine(&above), tenant(&own), web());
    stopping(&tenant);
    let [own, twin] = runs(&tenant);
    let answers = async {
        super_server.answer("GET", 200, &twin).await;
        tenant_server.answer("GET", 200, &own).await;
        prove_it(&mut tenant_server).await;
        tenant_server.answer("DELETE", 200, &json!({})).await
    };
    let (worked, ended) = tokio::join!(work(&engine, &tenant, &web), answers);
    worked.unwrap();
    assert!(ended.path.ends_with("/namespaces/work/pods/web"));
    assert_eq!(ended.body["preconditions"], json!({"uid": "u"}));
    assert_eq!(ended.body.get("gracePeriodSeconds"), None, "its own");
    assert!(super_server.is_silent() && tenant_server.is_silent());
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_or_ends_or_is_another_ones_is_left_alone() {
    let finished = |pod: &mut Value| pod["status"]["phase"] = json!("Succeeded");
    let ends =
        |pod: &mut Value| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let anew = |pod: &mut Value| pod["metadata"]["uid"] = json!("anew");
    let foreign = |pod: &mut Value| pod["metadata"]["labels"] = json!({});
    let nothing = |_: &mut Value| {};
    type Change = fn(&mut Value);
    let cases: [[Change; 2]; 6] = [
        [finished, nothing],
        [ends, nothing],
        [anew, nothing],
        [nothing, finished],
        [nothing, ends],
        [nothing, foreign],
    ];
    for (number, [own_change, twin_change]) in cases.into_iter().enumerate() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant, web) = (fake::engine(&above), tenant(&own), web());
        stopping(&tenant);
        let [mut own, mut twin] = runs(&tenant);
        own_change(&mut own);
        twin_change(&mut twin);
        let answers = async {
            super_server.answer("GET", 200, &twin).await;
            tenant_server.answer("GET", 200, &own).await;
        };
        let (worked, ()) = tokio::join!(work(&engine, &tenant, &web), answers);
        assert!(worked.is_ok(), "{number}: {worked:?}");
        assert!(
            super_server.is_silent() && tenant_server.is_silent(),
            "{number}"
        );
    }
}

/// R2: as any other deletion.
#[tokio::test(start_paused = true)]
async fn r2_no_pod_is_ended_in_a_tenant_that_is_not_proven_to_be_itself() {
    let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
    let (engine, tenant, web) = (fake::engine(&above), tenant(&own), web());
    stopping(&tenant);
    let [own, twin] = runs(&tenant);
    let another = json!({"metadata": {"name": "kube-system", "uid": "another"}});
    let answers = async {
        super_server.answer("GET", 200, &twin).await;
        tenant_server.answer("GET", 200, &own).await;
        tenant_server.answer("GET", 200, &another).await;
    };
    let (worked, ()) = tokio::join!(work(&engine, &tenant, &web), answers);
    assert!(matches!(worked, Err(Failure::Held(_))), "{worked:?}");
    assert!(super_server.is_silent() && tenant_server.is_silent());
}

#[tokio::test(start_paused = true)]
async fn a_new_pod_waits_and_is_told_why_until_the_tenant_goes_on() {
    let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
    let (engine, tenant, web) = (fake::engine(&above), tenant(&own), web());
    stopping(&tenant);
    let new = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "work", "uid": "u", "resourceVersion": "7"},
        "spec": {"dnsPolicy": "Default", "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Pending"},
    });
    let object = Arc::new(Object::from_value(new).unwrap());
    tenant.table.update(&web, |entry| {
        entry.tenant = Some(TenantSide::published(&object, 1));
    });
    tenant.down.put(web.clone(), object.clone());
    let stored = json!({});
    let (worked, told) = tokio::join!(
        work(&engine, &tenant, &web),
        tenant_server.answer("POST", 201, &stored)
    );
    worked.unwrap();
    assert_eq!(told.body["reason"], "WorkloadStopped");
    assert!(super_server.is_silent());

    let mut rules = (*tenant.rules()).clone();
    rules.workload = Workload::Runs;
    assert!(
        tenant.revise(rules, tenant.record()),
        "so that its key is worked again"
    );
    tenant.down.put(web.clone(), object);
    tokio::select! {
        worked = work(&engine, &tenant, &web) => panic!("no request came: {worked:?}"),
        () = super_server.wait() => {}
    }
    let asked = super_server.awaited_path();
    assert!(asked.ends_with("/pods"), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn whom_the_tenants_own_webhook_keeps_is_told_of_and_tried_again() {
    let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
    let (engine, tenant, web) = (fake::engine(&above), tenant(&own), web());
    stopping(&tenant);
    let [own, twin] = runs(&tenant);
    let denied =
        json!({"kind": "Status", "code": 403, "message": "admission webhook \"w\" denied it"});
    let answers = async {
        super_server.answer("GET", 200, &twin).await;
        tenant_server.answer("GET", 200, &own).await;
        prove_it(&mut tenant_server).await;
        tenant_server.answer("DELETE", 403, &denied).await;
        tenant_server.answer("POST", 201, &json!({})).await
    };
    let (worked, told) = tokio::join!(work(&engine, &tenant, &web), answers);
    assert!(worked.is_err());
    assert_eq!(told.body["reason"], "StopRefused");
    let message = told.body["message"].as_str().unwrap();
    assert!(message.contains("admission webhook"), "{message}");
    assert!(super_server.is_silent());
}
