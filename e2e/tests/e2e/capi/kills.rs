//! The manager dies at any moment of a Cluster's life, and the next one goes on where it stopped.

use super::{LONG, Place, control_plane_of, inside, place_of, with_clusters};
use anyhow::ensure;
use e2e::{
    daemon::{self, Daemon, MANAGER},
    kind::{CLUSTER, CONTROL_PLANE, Kind, NAMESPACE, SECRET, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    read::{is_terminating, items, text},
    tenant::conditions,
    wait::{PODS, eventually},
};
use serde_json::Value;

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_manager_that_dies_while_a_cluster_comes_or_goes_leaves_nothing_half_done() {
    with_clusters(async |place| {
        daemon::alone(async || {
            place.cluster("hardy").await?;
            let (control_plane, own) = (control_plane_of("hardy"), place_of("hardy"));
            let has_finalizer = |object: &Value| !items(object, "/metadata/finalizers").is_empty();
            let place_is_named = |object: &Value| object["spec"]["identity"].is_string();
            killed_when(place, SUBLET_CONTROL_PLANE, &control_plane, has_finalizer).await?;
            killed_when(place, SUBLET_CLUSTER, &own, place_is_named).await?;
            killed_when(place, CONTROL_PLANE, "hardy", |_| true).await?;
            let vcp = place.get(CONTROL_PLANE, "hardy").await?;
            let namespace = inside(&vcp)?;
            // In the middle of the keys.
            eventually(PODS, "the tenant's authority is made", async || {
                place.above.get(SECRET, &namespace, "ca").await?;
                Ok(())
            })
            .await?;
            Daemon::of_sublet(MANAGER).kill(&place.above).await?;
            let took = place.available("hardy", LONG).await?;
            eprintln!("Available {:.1} s after the last death", took.as_secs_f64());
            let after = place.get(CONTROL_PLANE, "hardy").await?;
            ensure!(
                text(&after, "/metadata/uid") == text(&vcp, "/metadata/uid"),
                "the tenant was made twice"
            );

            place.delete(CLUSTER, "hardy").await?;
            killed_when(place, SUBLET_CONTROL_PLANE, &control_plane, is_terminating).await?;
            killed_when(place, CONTROL_PLANE, "hardy", is_terminating).await?;
            killed_when(place, SUBLET_CLUSTER, &own, is_terminating).await?;
            place.gone(CLUSTER, "hardy", LONG).await?;
            for kind in [SUBLET_CLUSTER, SUBLET_CONTROL_PLANE, CONTROL_PLANE] {
                let left = place.above.list(kind, &place.namespace, "").await?;
                ensure!(left.is_empty(), "{} {}", kind.name, conditions(&left[0]));
            }
            let left = place.above.find(NAMESPACE, "", &namespace).await?;
            ensure!(left.is_none(), "{namespace} is left");
            Ok(())
        })
        .await
    });
}

/// Kills the manager as soon as an object is so; one that is gone already was too fast, which is no fault.
async fn killed_when(
    place: &Place,
    kind: Kind,
    name: &str,
    check: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    eventually(
        LONG,
        &format!("the moment of {} {name}", kind.name),
        async || match place.find(kind, name).await? {
            Some(object) if !check(&object) => anyhow::bail!("{}", conditions(&object)),
            Some(_) => Ok(()),
            None if place.find(CLUSTER, name).await?.is_none() => Ok(()),
            None => anyhow::bail!("it isn't there"),
        },
    )
    .await?;
    Daemon::of_sublet(MANAGER).kill(&place.above).await
}
