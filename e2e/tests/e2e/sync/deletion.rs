//! Pods that end: by the tenant, with grace.

use anyhow::ensure;
use e2e::{
    kind::POD,
    make,
    read::{brief, is_terminating, text, uid},
    space::{Space, within},
    tenant::A,
    wait::{PODS, eventually},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

#[test]
fn a_pod_has_its_grace_and_is_gone_only_when_its_container_is() {
    within(A, "grace", async |space| {
        // Takes four of its ninety seconds to end.
        let mut container =
            make::shell("trap 'sleep 4; exit 0' TERM; touch /tmp/up; while :; do sleep 0.2; done");
        container["readinessProbe"] =
            json!({"exec": {"command": ["test", "-f", "/tmp/up"]}, "periodSeconds": 1});
        let mut spec = make::pod_spec(container);
        spec["terminationGracePeriodSeconds"] = 90.into();
        let pod = space.pod("web", spec).await?;
        space.ready("web").await?;

        let asked = Instant::now();
        space.delete(POD, "web").await?;
        let own = space.get(POD, "web").await?;
        ensure!(
            uid(&own) == uid(&pod) && is_terminating(&own),
            "it went without waiting for its container"
        );
        let ending = space
            .twin_like(POD, "web", "is asked to end", is_terminating)
            .await?;
        ensure!(
            ending["metadata"]["deletionGracePeriodSeconds"] == 90,
            "{}",
            ending["metadata"]
        );
        eventually(PODS, "the pod is gone on both sides", async || {
            // First the tenant, then the super cluster: what is gone in the tenant must be gone below.
            let own = space.find(POD, "web").await?;
            let twin = space.find_twin(POD, "web").await?;
            if own.is_none()
                && let Some(twin) = &twin
            {
                // Not an error to be asked again about.
                panic!(
                    "the tenant's pod is gone and its super pod isn't: {}",
                    brief(twin)
                );
            }
            ensure!(own.is_none(), "{}", brief(&own.unwrap_or_default()));
            Ok(())
        })
        .await?;
        let took = asked.elapsed();
        ensure!(
            took >= Duration::from_secs(4),
            "the container had {took:?} of its four seconds"
        );
        ensure!(
            took < Duration::from_secs(80),
            "its end came with the kill, after {took:?}"
        );
        Ok(())
    });
}

#[test]
fn a_pod_removed_by_force_leaves_nothing_behind() {
    within(A, "force", async |space| {
        let mut spec = make::pod_spec(make::idle());
        spec["terminationGracePeriodSeconds"] = 30.into();
        space.pod("web", spec).await?;
        space.ready("web").await?;
        let path = POD.path(&space.name, "web");
        let now = json!({"gracePeriodSeconds": 0});
        space
            .side()
            .request(http::Method::DELETE, &path, Some(now))
            .await?;
        space.gone(POD, "web").await
    });
}

/// Seconds that a stubborn pod has to end.
const GRACE: u32 = 20;

/// Whether a super pod is to end within so many seconds.
fn ends_within(seconds: u32) -> impl Fn(&Value) -> bool {
    move |twin| twin["metadata"]["deletionGracePeriodSeconds"] == seconds
}

/// Its container doesn't end before it is killed, which is after the first grace: the container runtime isn't told of a shorter one.
fn stubborn() -> Value {
    let mut spec = make::pod_spec(make::shell("trap '' TERM; while :; do sleep 0.2; done"));
    spec["terminationGracePeriodSeconds"] = GRACE.into();
    spec
}

/// Deletes a pod of the tenant with this grace.
async fn end_within(space: &Space, pod: &str, seconds: u32) -> anyhow::Result<()> {
    let path = POD.path(&space.name, pod);
    let options = json!({"gracePeriodSeconds": seconds});
    let side = space.side();
    side.request(http::Method::DELETE, &path, Some(options))
        .await?;
    Ok(())
}

#[test]
fn a_pod_that_is_deleted_again_with_a_shorter_grace_has_no_more_than_that() {
    within(A, "shorter", async |space| {
        space.pod("web", stubborn()).await?;
        space.ready("web").await?;
        space.delete(POD, "web").await?;
        space
            .twin_like(POD, "web", "has all of its grace", ends_within(GRACE))
            .await?;
        end_within(space, "web", 5).await?;
        space
            .twin_like(POD, "web", "has the shorter grace", ends_within(5))
            .await?;
        space.gone(POD, "web").await
    });
}

#[test]
fn a_pod_that_ends_slowly_and_is_removed_by_force_makes_room_for_the_next_one() {
    within(A, "forced", async |space| {
        space.pod("web", stubborn()).await?;
        space.ready("web").await?;
        let old = space.twin(POD, "web").await?;
        space.delete(POD, "web").await?;
        space
            .twin_like(POD, "web", "is asked to end", is_terminating)
            .await?;
        // As a StatefulSet's controller: the next one is there at once.
        end_within(space, "web", 0).await?;
        space.pod("web", make::pod_spec(make::idle())).await?;
        space
            .twin_like(POD, "web", "has no grace left", |twin| {
                uid(twin) != uid(&old) || ends_within(1)(twin)
            })
            .await?;
        space.ready("web").await?;
        let new = space.twin(POD, "web").await?;
        ensure!(uid(&new) != uid(&old), "it is still the old one");
        Ok(())
    });
}

#[test]
fn a_new_pod_under_an_old_name_is_another_pod() {
    within(A, "again", async |space| {
        let mut last = String::new();
        for round in ["one", "two", "three"] {
            let script = format!("echo {round} > /dev/termination-log");
            let pod = space.pod("job", make::once(make::shell(&script))).await?;
            let said = |pod: &Value| {
                let words = e2e::read::last_words(pod).to_owned();
                (text(pod, "/status/phase") == "Succeeded").then_some(words)
            };
            let words = eventually(PODS, &format!("pod {round} has ended"), async || {
                let now = space.get(POD, "job").await?;
                ensure!(uid(&now) == uid(&pod), "another pod has its name");
                said(&now).ok_or_else(|| anyhow::anyhow!("{}", brief(&now)))
            })
            .await?;
            ensure!(
                words == round,
                "pod {round} shows the status of pod {words}"
            );
            let twin = space.twin(POD, "job").await?;
            ensure!(
                e2e::read::annotation(&twin, api::keys::UID) == Some(uid(&pod)),
                "{twin}"
            );
            ensure!(uid(&twin) != last, "one super pod served two pods");
            last = uid(&twin).to_owned();
            // Recreated at once, while the old one's super pod may still be there.
            let now = json!({"gracePeriodSeconds": 0});
            space
                .side()
                .request(
                    http::Method::DELETE,
                    &POD.path(&space.name, "job"),
                    Some(now),
                )
                .await?;
        }
        space.gone(POD, "job").await
    });
}
