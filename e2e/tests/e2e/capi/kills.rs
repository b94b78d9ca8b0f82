//! The manager dies at any moment of a Cluster's life, and the next one goes on where it stopped.

use super::{LONG, Place, control_plane_of, inside, place_of, with_clusters};
use anyhow::ensure;
use e2e::{
    daemon::{self, Daemon, MANAGER},
    kind::{CLUSTER, CONTROL_PLANE, Kind, SECRET, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    read::{is_terminating, items, text},
    tenant::conditions,
    wait::{PODS, eventually},
};
use serde_json::Value;
use tenancy::tenant::TenantId;

/// The one Cluster.
const CLUSTER_NAME: &str = "hardy";

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_manager_that_dies_while_a_cluster_comes_or_goes_leaves_nothing_half_done() {
    with_clusters(async |place| {
        daemon::alone(async || {
            place.cluster(CLUSTER_NAME).await?;
            let (control_plane, own) = (control_plane_of(CLUSTER_NAME), place_of(CLUSTER_NAME));
            let has_finalizer = |object: &Value| !items(object, "/metadata/finalizers").is_empty();
            let place_is_named = |object: &Value| object["spec"]["identity"].is_string();
            for met in [
                killed_when(place, SUBLET_CONTROL_PLANE, &control_plane, has_finalizer).await?,
                killed_when(place, SUBLET_CLUSTER, &own, place_is_named).await?,
                killed_when(place, CONTROL_PLANE, CLUSTER_NAME, |_| true).await?,
            ] {
                // What comes stays.
                ensure!(met == Moment::Met, "a Cluster that isn't deleted has gone");
            }
            let vcp = place.get(CONTROL_PLANE, CLUSTER_NAME).await?;
            let (namespace, id) = (
                inside(&vcp)?,
                TenantId::parse(text(&vcp, "/spec/identity"))?,
            );
            // In the middle of the keys.
            eventually(PODS, "the tenant's authority is made", async || {
                place.above.get(SECRET, &namespace, "ca").await?;
                Ok(())
            })
            .await?;
            Daemon::of_sublet(MANAGER).kill(&place.above).await?;
            let took = place.available(CLUSTER_NAME, LONG).await?;
            e2e::told!("Available {:.1} s after the last death", took.as_secs_f64());
            let after = place.get(CONTROL_PLANE, CLUSTER_NAME).await?;
            ensure!(
                text(&after, "/metadata/uid") == text(&vcp, "/metadata/uid"),
                "the tenant was made twice"
            );

            place.delete(CLUSTER, CLUSTER_NAME).await?;
            let moments = [
                killed_when(place, SUBLET_CONTROL_PLANE, &control_plane, is_terminating).await?,
                killed_when(place, CONTROL_PLANE, CLUSTER_NAME, is_terminating).await?,
                killed_when(place, SUBLET_CLUSTER, &own, is_terminating).await?,
            ];
            let met = moments.iter().filter(|met| **met == Moment::Met).count();
            ensure!(met > 1, "the deletion was too fast: {moments:?}");
            place.nothing_is_left(CLUSTER_NAME, &id).await
        })
        .await
    });
}

/// Whether the manager was killed at the moment that was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Met,
    /// The whole Cluster had gone before.
    Missed,
}

/// Kills the manager as soon as an object of the Cluster is so; a Cluster that is gone already was too fast.
async fn killed_when(
    place: &Place,
    kind: Kind,
    name: &str,
    check: impl Fn(&Value) -> bool,
) -> anyhow::Result<Moment> {
    let what = format!("the moment of {} {name}", kind.name);
    let moment = eventually(LONG, &what, async || match place.find(kind, name).await? {
        Some(object) if !check(&object) => anyhow::bail!("{}", conditions(&object)),
        Some(_) => Ok(Moment::Met),
        None if place.find(CLUSTER, CLUSTER_NAME).await?.is_none() => Ok(Moment::Missed),
        None => anyhow::bail!("it isn't there"),
    })
    .await?;
    if moment == Moment::Met {
        Daemon::of_sublet(MANAGER).kill(&place.above).await?;
    }
    Ok(moment)
}
