//! The version of a control plane that no topology writes: what is refused changes nothing, and a newer one comes without a break.

use super::{
    Place, VERSION,
    class::{NEW, two_versions, upgraded},
    cluster, control_plane_of, control_plane_spec, place_of, with_clusters,
};
use anyhow::ensure;
use e2e::{
    kind::{CLASS, CLUSTER, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    read::condition,
    tenant::{Tenant, conditions},
    wait::PODS,
};
use serde_json::json;

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_control_plane_goes_to_the_version_that_it_is_told_and_to_no_other() {
    with_clusters(async |place| {
        let class = format!("plain-{}", &place.namespace[place.namespace.len() - 6..]);
        two_versions(place, &class).await?;
        let result = versions(place, &class).await;
        place.above.delete(CLASS, "", &class).await?;
        result
    });
}

async fn versions(place: &Place, class: &str) -> anyhow::Result<()> {
    let (control_plane, own) = (control_plane_of("plain"), place_of("plain"));
    place.create(SUBLET_CLUSTER, &own, json!({})).await?;
    let mut spec = control_plane_spec();
    spec["className"] = json!(class);
    place
        .create(SUBLET_CONTROL_PLANE, &control_plane, spec)
        .await?;
    place
        .create(CLUSTER, "plain", cluster(&control_plane, &own))
        .await?;
    place.available("plain", 2 * PODS).await?;
    let tenant = place.tenant("plain").await?;
    is_refused(place, &tenant, "v1.99.1", "VersionNotOffered").await?;

    upgraded(
        place,
        ["plain", &control_plane],
        &tenant,
        1,
        say(place, NEW),
    )
    .await?;

    // There is no way back.
    is_refused(place, &tenant, VERSION, "VersionSkew").await?;
    say(place, NEW).await?;
    place
        .told(
            SUBLET_CONTROL_PLANE,
            &control_plane,
            ["Available", "True", "Answers"],
        )
        .await?;
    place
        .like(
            SUBLET_CONTROL_PLANE,
            &control_plane,
            "is Ready again",
            PODS,
            |object| condition(object, "Ready") == "True",
        )
        .await?;
    Ok(())
}

async fn say(place: &Place, version: &str) -> anyhow::Result<()> {
    let version = json!({"spec": {"version": version}});
    let control_plane = control_plane_of("plain");
    place
        .merge(SUBLET_CONTROL_PLANE, &control_plane, version)
        .await?;
    Ok(())
}

/// The version is refused for that reason, and what runs goes on.
async fn is_refused(
    place: &Place,
    tenant: &Tenant,
    version: &str,
    reason: &str,
) -> anyhow::Result<()> {
    let control_plane = control_plane_of("plain");
    let before = place.get(SUBLET_CONTROL_PLANE, &control_plane).await?;
    say(place, version).await?;
    place
        .told(
            SUBLET_CONTROL_PLANE,
            &control_plane,
            ["Ready", "False", reason],
        )
        .await?;
    let after = place.get(SUBLET_CONTROL_PLANE, &control_plane).await?;
    ensure!(
        condition(&after, "Available") == "True"
            && after["status"]["versions"] == before["status"]["versions"],
        "{} {}",
        after["status"]["versions"],
        conditions(&after)
    );
    tenant.side.text("/").await?;
    Ok(())
}
