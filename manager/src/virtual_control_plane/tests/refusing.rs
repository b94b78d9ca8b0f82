//! Tenants that refuse what is written into them: a webhook of theirs that nobody answers for, or a policy.

use super::*;
use tenancy::naming;

/// The tenant answers as before, and takes nothing. There is something to be written.
fn refuse(world: &mut World) {
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/sublet:syncer";
    world.tenant.change(role, |role| role["rules"] = json!([]));
    world.answered_by(|inside, request| async move {
        if *request.method() == http::Method::GET {
            return inside.answer(request).await;
        }
        let refusal = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500,
            "reason": "InternalError", "message": "failed calling webhook",
        });
        let body = kube::client::Body::from(refusal.to_string().into_bytes());
        http::Response::builder().status(500).body(body).unwrap()
    });
    world.cx.observer.forget(&("tenants".into(), "acme".into()));
}

/// One more pass, which the tenant ends.
async fn fail(world: &World) {
    let failed = reconcile(Arc::new(world.vcp()), world.cx.clone()).await;
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("failed calling webhook"), "{error}");
}

fn is_sleeping(world: &World) -> bool {
    crate::lifecycle::sleep::is_sleeping(&world.vcp()).is_some()
}

/// What the webhook runs in may have ended meanwhile: only the syncer brings it back, and it serves none that sleeps.
#[tokio::test]
async fn one_that_answers_again_is_awake_whatever_it_refuses() {
    let mut world = World::new().await;
    world.start().await;
    world.cluster.change(OWN, |vcp| {
        let sleeps = json!({
            "type": "Sleeping", "status": "True", "reason": "WakingUp", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let conditions = vcp["status"]["conditions"].as_array_mut();
        conditions.unwrap().push(sleeps);
    });
    world.tell();
    assert!(is_sleeping(&world));
    refuse(&mut world);
    fail(&world).await;
    assert!(!is_sleeping(&world));
    let message = world.vcp().status.unwrap().message;
    assert!(message.unwrap().contains("failed calling webhook"));
}

#[tokio::test]
async fn the_syncer_gets_new_credentials_whatever_the_tenant_refuses() {
    let mut world = World::new().await;
    world.start().await;
    let secret = naming::tenant_kubeconfig(&owner().id);
    let secret = format!("/api/v1/namespaces/{SYSTEM}/secrets/{secret}");
    let before = world.cluster.change(&secret, |secret| {
        secret["metadata"]["annotations"][keys::EXPIRES] = Value::Null;
    });
    refuse(&mut world);
    fail(&world).await;
    let renewed = world.cluster.get(&secret).unwrap();
    assert_ne!(renewed["data"], before["data"]);

    // Its rights come before the first ones.
    world.cluster.remove(&secret);
    fail(&world).await;
    assert_eq!(world.cluster.get(&secret), None);
}
