//! ConfigMaps and Secrets.

use anyhow::{bail, ensure};
use api::keys;
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    kind::{CONFIG_MAP, CONTROL_PLANE, DISRUPTION_BUDGET, Kind, POD, SECRET},
    make, oracle,
    read::{self, annotation, condition, text, uid},
    rig::{Wish, on_rig, syncer::Periods},
    space::within,
    tenant::{A, NAMESPACE_OF_TESTS},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

#[test]
fn only_what_pods_refer_to_is_copied_and_it_goes_when_they_are_gone() {
    let wish = Wish {
        periods: Periods {
            unneeded: Some(2),
            ..Periods::default()
        },
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        let guest = &rig.tenants[0];
        let referenced = json!({"spec": {"sync": {"toSuper": null}}});
        rig.side
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &guest.name, referenced)
            .await?;
        guest.namespace("work").await?;
        let put = async |kind: Kind, mut object: Value| {
            object["metadata"]["namespace"] = "work".into();
            guest.side.create(kind, object).await
        };
        let twin = guest.twin("work");
        for name in ["loose", "used"] {
            put(CONFIG_MAP, make::config_map(name, "k", "v")).await?;
        }
        let used = guest.side.get(CONFIG_MAP, "work", "used").await?;
        let mut container = make::idle();
        container["envFrom"] = make::env_from("used");
        let pod = json!({"metadata": {"name": "reader"}, "spec": make::pod_spec(container)});
        put(POD, pod).await?;
        eventually(SOON, "the pod runs", async || {
            let pod = guest.side.get(POD, "work", "reader").await?;
            ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
            Ok(())
        })
        .await?;
        let copy = rig.side.get(CONFIG_MAP, &twin, "used").await?;
        ensure!(copy["data"] == used["data"], "{copy}");
        ensure!(annotation(&copy, keys::UID) == Some(uid(&used)), "{copy}");
        eventually(SOON, "what nothing refers to isn't there", async || {
            let loose = rig.side.find(CONFIG_MAP, &twin, "loose").await?;
            ensure!(loose.is_none(), "{loose:?}");
            Ok(())
        })
        .await?;

        guest.side.delete(POD, "work", "reader").await?;
        eventually(SOON, "the copy goes after its last reader", async || {
            ensure!(
                rig.side.find(CONFIG_MAP, &twin, "used").await?.is_none(),
                "it is still there"
            );
            Ok(())
        })
        .await?;
        let own = guest.side.get(CONFIG_MAP, "work", "used").await?;
        ensure!(uid(&own) == uid(&used), "the tenant's own was touched");
        // Copies were deleted whose originals are there, which the oracle of deeds takes for a fault.
        oracle::pairs::agree(rig, guest).await?;
        oracle::calm::nothing_is_written(rig).await
    });
}

#[test]
fn a_kind_that_a_tenant_keeps_to_itself_stays_there_and_what_had_crossed_goes() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        let keep = async |objects: &str| {
            let entry = json!({"resource": "poddisruptionbudgets.policy", "objects": objects});
            let spec = json!({"spec": {"sync": {"toSuper": [entry]}}});
            let name = &guest.name;
            rig.side
                .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, name, spec)
                .await
        };
        guest.namespace("work").await?;
        let twin = guest.twin("work");
        let is_there = async |wanted: bool| {
            let what = format!("the budget is in the super cluster: {wanted}");
            eventually(SOON, &what, async || {
                let found = rig.side.find(DISRUPTION_BUDGET, &twin, "some").await?;
                ensure!(found.is_some() == wanted, "{found:?}");
                Ok(())
            })
            .await
        };
        let budget = json!({"metadata": {"name": "some", "namespace": "work"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
        let budget = guest.side.create(DISRUPTION_BUDGET, budget).await?;
        let desired = json!({"desiredHealthy": 1, "observedGeneration": 1});
        guest
            .side
            .merge_status(DISRUPTION_BUDGET, "work", "some", desired)
            .await?;
        is_there(true).await?;
        keep("None").await?;
        is_there(false).await?;
        read::event(&guest.side, DISRUPTION_BUDGET, &budget, "KindNotSynced").await?;
        let own = guest.side.get(DISRUPTION_BUDGET, "work", "some").await?;
        ensure!(uid(&own) == uid(&budget), "the tenant's own was touched");
        keep("All").await?;
        is_there(true).await
    });
}

#[test]
fn what_a_running_pod_has_mounted_is_updated() {
    within(A, "mounted", async |space| {
        space
            .create(CONFIG_MAP, make::config_map("settings", "mode", "first"))
            .await?;
        let secret = json!({"metadata": {"name": "key"}, "stringData": {"key": "first"}});
        space.create(SECRET, secret).await?;
        let mut container = make::shell("sleep 600");
        container["volumeMounts"] = json!([{"name": "settings", "mountPath": "/settings"}, {"name": "key", "mountPath": "/key"}]);
        let both = "grep -q second /settings/mode && grep -q second /key/key";
        container["readinessProbe"] =
            json!({"exec": {"command": ["sh", "-c", both]}, "periodSeconds": 1});
        let mut spec = make::pod_spec(container);
        spec["volumes"] = json!([
            {"name": "settings", "configMap": {"name": "settings"}}, {"name": "key", "secret": {"secretName": "key"}},
        ]);
        let pod = space.pod("reader", spec).await?;
        space
            .like(POD, "reader", "runs", PODS, |pod| {
                text(pod, "/status/phase") == "Running"
            })
            .await?;

        space
            .merge(CONFIG_MAP, "settings", json!({"data": {"mode": "second"}}))
            .await?;
        space
            .merge(SECRET, "key", json!({"stringData": {"key": "second"}}))
            .await?;
        space
            .twin_like(CONFIG_MAP, "settings", "is updated", |twin| {
                twin["data"]["mode"] == "second"
            })
            .await?;
        let second = json!(BASE64_STANDARD.encode("second"));
        space
            .twin_like(SECRET, "key", "is updated", |twin| {
                twin["data"]["key"] == second
            })
            .await?;
        // Any change to a pod makes the kubelet look at its volumes; otherwise it takes its time, up to a minute.
        space
            .merge(
                POD,
                "reader",
                json!({"metadata": {"labels": {"touched": "yes"}}}),
            )
            .await?;
        let ready = space.ready("reader").await?;
        ensure!(
            uid(&ready) == uid(&pod),
            "it is the same pod, which never was restarted"
        );
        ensure!(
            ready["status"]["containerStatuses"][0]["restartCount"] == 0,
            "{}",
            ready["status"]
        );
        Ok(())
    });
}

#[test]
fn a_config_map_that_comes_late_reaches_the_pod_that_waits_for_it() {
    within(A, "late", async |space| {
        let mut container = make::shell("echo \"$mode\" > /dev/termination-log");
        container["envFrom"] = make::env_from("settings");
        space.pod("reader", make::once(container)).await?;
        let waits = "waits for its ConfigMap";
        space
            .like(POD, "reader", waits, PODS, |pod| {
                text(pod, "/status/containerStatuses/0/state/waiting/reason")
                    == "CreateContainerConfigError"
            })
            .await?;
        space
            .create(CONFIG_MAP, make::config_map("settings", "mode", "late"))
            .await?;
        ensure!(space.outcome("reader").await? == "late");
        Ok(())
    });
}

#[test]
fn a_secret_keeps_its_type_and_an_immutable_config_map_can_be_mended() {
    within(A, "types", async |space| {
        let data = json!({"username": "dQ==", "password": "cA=="});
        let secret = json!({"metadata": {"name": "login"}, "type": "kubernetes.io/basic-auth", "data": data});
        space.create(SECRET, secret).await?;
        let mut fixed = make::config_map("fixed", "k", "v");
        fixed["immutable"] = true.into();
        space.create(CONFIG_MAP, fixed).await?;
        let mut container = make::idle();
        container["envFrom"] =
            json!([{"configMapRef": {"name": "fixed"}}, {"secretRef": {"name": "login"}}]);
        space.pod("reader", make::pod_spec(container)).await?;
        let pod = space.ready("reader").await?;
        ensure!(condition(&pod, "Ready") == "True");

        let twin = space.twin(SECRET, "login").await?;
        ensure!(
            text(&twin, "/type") == "kubernetes.io/basic-auth" && twin["data"] == data,
            "{}",
            twin["type"]
        );
        let twin = space.twin(CONFIG_MAP, "fixed").await?;
        if twin.get("immutable").is_some() {
            bail!("a copy that can't be changed can't be mended: {twin}");
        }
        space
            .above()
            .merge(
                CONFIG_MAP,
                &space.twin,
                "fixed",
                json!({"data": {"k": "edited"}}),
            )
            .await?;
        space
            .twin_like(CONFIG_MAP, "fixed", "is mended", |twin| {
                twin["data"]["k"] == "v"
            })
            .await?;
        Ok(())
    });
}
