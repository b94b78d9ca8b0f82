//! The version of a control plane that no topology writes: what is refused changes nothing, and a newer one comes without a break.

use super::{
    Place, VERSION,
    class::{NEW, two_versions},
    cluster, control_plane_of, control_plane_spec, place_of, while_true, with_clusters,
    without_a_lost_answer,
};
use anyhow::ensure;
use e2e::{
    kind::{CLASS, CLUSTER, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    read::{condition, text},
    tenant::{Tenant, conditions},
    wait::PODS,
};
use serde_json::{Value, json};

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

    let upgraded = without_a_lost_answer(&tenant, async {
        say(place, NEW).await?;
        place
            .like(
                SUBLET_CONTROL_PLANE,
                &control_plane,
                "rolls out",
                PODS,
                |object| condition(object, "RollingOut") == "True",
            )
            .await?;
        place
            .like(
                SUBLET_CONTROL_PLANE,
                &control_plane,
                "runs the new version alone",
                2 * PODS,
                |object| {
                    object["status"]["version"] == NEW && condition(object, "RollingOut") == "False"
                },
            )
            .await
    });
    let all_the_time = ["RemoteConnectionProbe", "ControlPlaneAvailable"];
    let upgraded = while_true(place, "plain", &all_the_time, upgraded).await?;
    ensure!(
        upgraded["status"]["versions"] == json!([{"version": NEW, "replicas": 1}]),
        "{}",
        upgraded["status"]
    );
    let told: Value = serde_json::from_str(&tenant.side.text("/version").await?)?;
    ensure!(text(&told, "/gitVersion") == NEW, "{told}");

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
