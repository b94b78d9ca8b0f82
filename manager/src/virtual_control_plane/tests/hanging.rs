//! API servers that hang: that of another super cluster, with many tenants, and a tenant's own.

use super::*;
use crate::{
    clients::kubeconfig::Access,
    elsewhere::twin::tests::kubeconfig,
    observe::{Beyond, Error},
    tenant::Tenant,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use kube::Client;
use std::convert::Infallible;
use tokio::time::Instant;

const WEST: &str = "/api/v1/namespaces/tenants/secrets/west";

/// Whoever is asked by it takes what is asked and never says anything.
fn hang(world: &mut World) {
    let cx = Arc::get_mut(&mut world.cx).unwrap();
    cx.observer.enter = Arc::new(|_: Access| {
        let silent = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, Infallible>>()
        });
        let client = Client::new(silent, "default");
        async move { Ok(client) }.boxed()
    });
}

/// One whose super cluster hangs.
async fn hanging() -> World {
    let mut world = World::new().await;
    hang(&mut world);
    world.cluster.change(OWN, |vcp| {
        let leads = json!({"name": "west", "key": "value"});
        vcp["spec"]["superCluster"] = json!({"kubeconfigSecretRef": leads});
    });
    world.tell();
    while world.phase() != Some(Phase::Provisioning) {
        world.pass().await;
        world.tell();
    }
    let text = BASE64_STANDARD.encode(kubeconfig("https://west:1"));
    world.cluster.put(WEST, json!({"data": {"value": text}}));
    world
}

/// So many look at once; returns how many of them waited, were told that it is silent, and were sent away.
async fn look(world: &World, many: usize) -> [usize; 3] {
    let looks = (0..many).map(|_| {
        let cx = world.cx.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let looked = cx.observer.look("tenants", "acme").await;
            let waited = began.elapsed() > Duration::from_secs(1);
            match looked.map(|seen| seen.unwrap().beyond) {
                Ok(Beyond::Unreachable(_)) => [usize::from(waited), 1, 0],
                Err(Error::Busy) => [usize::from(waited), 0, 1],
                other => panic!("{other:?}"),
            }
        })
    });
    let mut sum = [0; 3];
    for one in futures::future::join_all(looks.collect::<Vec<_>>()).await {
        let one = one.unwrap();
        sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
    }
    sum
}

#[tokio::test(start_paused = true)]
async fn many_of_a_super_cluster_that_hangs_take_few_passes_and_then_one() {
    let world = hanging().await;
    assert_eq!(look(&world, 40).await, [3, 3, 37]);
    assert_eq!(look(&world, 40).await, [0, 40, 0], "it rests");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(look(&world, 40).await, [1, 40, 0], "one tries");
    assert_eq!(look(&world, 40).await, [0, 40, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_hangs_rests_before_it_is_asked_again() {
    let mut world = World::new().await;
    world.start().await;
    hang(&mut world);
    let look = async || {
        let began = Instant::now();
        let looked = world.cx.observer.look("tenants", "acme").await;
        let tenant = looked.unwrap().unwrap().tenant;
        assert!(matches!(tenant, Tenant::Silent(_)));
        began.elapsed()
    };
    assert!(look().await >= Duration::from_secs(2));
    assert_eq!(look().await, Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(look().await >= Duration::from_secs(2), "it is tried again");
}

/// As when its API servers are replaced, and a connection led to one that is gone.
#[tokio::test(start_paused = true)]
async fn a_tenant_that_misses_one_question_is_asked_once_more_before_it_counts_as_silent() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let mut world = World::new().await;
    world.start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, missed) = (asked.clone(), Arc::new(AtomicUsize::new(1)));
    let misses = missed.clone();
    world.answered_by(move |inside, request| {
        let is_missed = request.uri().path() == "/readyz"
            && count.fetch_add(1, Ordering::Relaxed) < misses.load(Ordering::Relaxed);
        async move {
            if is_missed {
                std::future::pending::<()>().await;
            }
            inside.answer(request).await
        }
    });
    let look = async || {
        let looked = world.cx.observer.look("tenants", "acme").await;
        looked.unwrap().unwrap().tenant
    };
    assert!(look().await.answers());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    // Who misses both is silent, and is asked once when it has rested.
    asked.store(0, Ordering::Relaxed);
    missed.store(usize::MAX, Ordering::Relaxed);
    assert!(!look().await.answers());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!look().await.answers());
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

/// What the tenant keeps waits so long before each answer.
fn slow(world: &mut World, wait: Duration, is_held: fn(&http::Method) -> bool) {
    world.answered_by(move |inside, request| async move {
        if is_held(request.method()) {
            tokio::time::sleep(wait).await;
        }
        inside.answer(request).await
    });
}

/// None of its answers is late by itself.
#[tokio::test(start_paused = true)]
async fn t40_a_tenant_that_is_slow_with_each_answer_holds_a_pass_no_longer_than_one_that_hangs() {
    let mut world = World::new().await;
    world.start().await;
    slow(&mut world, Duration::from_secs(1), |_| true);
    let began = Instant::now();
    let looked = world.cx.observer.look("tenants", "acme").await;
    let tenant = looked.unwrap().unwrap().tenant;
    assert!(matches!(tenant, Tenant::Silent(_)), "{tenant:?}");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    let began = Instant::now();
    let looked = world.cx.observer.look("tenants", "acme").await;
    assert!(matches!(looked.unwrap().unwrap().tenant, Tenant::Silent(_)));
    assert_eq!(began.elapsed(), Duration::ZERO, "it rests");
}

/// Such as one of the tenant's own on ClusterRoles.
#[tokio::test(start_paused = true)]
async fn t40_a_webhook_that_hangs_holds_a_pass_once_and_then_ever_less_often() {
    let mut world = World::new().await;
    world.start().await;
    slow(&mut world, Duration::from_secs(60), |method| {
        *method != http::Method::GET
    });
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/sublet:syncer";
    world.tenant.change(role, |role| role["rules"] = json!([]));
    let (mut held, mut waits) = (vec![], vec![]);
    for _ in 0..6 {
        world.cx.observer.forget(&("tenants".into(), "acme".into()));
        let (own, began) = (Arc::new(world.vcp()), Instant::now());
        let error = reconcile(own.clone(), world.cx.clone()).await.unwrap_err();
        held.push(began.elapsed().as_secs());
        waits.push(retry(own, &error, world.cx.clone()));
    }
    assert_eq!(held, [10, 0, 0, 0, 0, 0]);
    let grown =
        [1, 2, 4, 8, 16, 32].map(|wait| controller::Action::requeue(Duration::from_secs(wait)));
    assert_eq!(waits, grown);
    world.cx.fails.forget(&("tenants".into(), "acme".into()));
    assert!(world.cx.fails.0.lock().is_empty());
}
