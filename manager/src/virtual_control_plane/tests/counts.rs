//! The syncer counts what a tenant uses, and writes it beside what the manager says.

use super::*;
use crate::act::say;

async fn seen(world: &World) -> Seen {
    let looked = world.cx.observer.look("tenants", "acme").await;
    looked.unwrap().unwrap()
}

#[tokio::test]
async fn a_count_that_came_meanwhile_does_not_stand_against_a_status() {
    let mut world = World::new().await;
    world.pass().await;
    let mut seen = seen(&world).await;
    world.cluster.change(OWN, |vcp| {
        vcp["status"]["quota"] = json!({"hard": {"pods": "9"}, "used": {"pods": "3"}});
        vcp["status"]["sync"] =
            json!({"observedTime": "2026-01-01T00:00:00Z", "toSuper": {"waiting": 7}});
    });
    let patch = json!({"status": {"message": "said"}});
    say(&world.cx.observer, &mut seen, patch).await.unwrap();
    let status = world.vcp().status.unwrap();
    assert_eq!(status.message.as_deref(), Some("said"));
    assert_eq!(status.quota.unwrap().used["pods"], "3");
    assert_eq!(status.sync.unwrap().to_super.waiting, 7);
}

#[tokio::test]
async fn all_else_that_came_meanwhile_does() {
    let mut world = World::new().await;
    world.pass().await;
    let mut seen = seen(&world).await;
    world
        .cluster
        .change(OWN, |vcp| vcp["spec"]["paused"] = json!(true));
    let patch = json!({"status": {"message": "said"}});
    let said = say(&world.cx.observer, &mut seen, patch).await;
    assert!(said.unwrap_err().is_conflict());
}
