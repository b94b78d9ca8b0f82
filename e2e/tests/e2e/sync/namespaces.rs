use anyhow::{bail, ensure};
use api::keys;
use e2e::{
    kind::{CONFIG_MAP, NAMESPACE, POD, ROLE_BINDING, SERVICE_ACCOUNT},
    make,
    read::{annotation, label, uid},
    space::within,
    tenant::A,
    wait::{PODS, eventually},
};
use serde_json::json;

#[test]
fn a_namespace_has_a_twin_with_marks_and_without_the_tenants_labels() {
    within(A, "twin", async |space| {
        let forged = json!({"metadata": {"labels": {
            "team": "x", "pod-security.kubernetes.io/enforce": "privileged", keys::TENANT: "forged",
        }}});
        let own = space
            .side()
            .merge(NAMESPACE, "", &space.name, forged)
            .await?;
        space
            .twin(SERVICE_ACCOUNT, keys::POD_SERVICE_ACCOUNT)
            .await?;

        let twin = space.above().get(NAMESPACE, "", &space.twin).await?;
        ensure!(
            label(&twin, keys::TENANT) == Some(space.tenant.id.as_str()),
            "{twin}"
        );
        ensure!(label(&twin, keys::MANAGED) == Some("true"), "{twin}");
        ensure!(
            label(&twin, "pod-security.kubernetes.io/enforce") == Some("baseline"),
            "{twin}"
        );
        ensure!(label(&twin, "team").is_none(), "{twin}");
        ensure!(annotation(&twin, keys::NAME) == Some(&space.name), "{twin}");
        ensure!(annotation(&twin, keys::UID) == Some(uid(&own)), "{twin}");
        let control_plane = format!("{}/{}", e2e::tenant::NAMESPACE_OF_TESTS, space.tenant.name);
        ensure!(
            annotation(&twin, keys::CONTROL_PLANE) == Some(&control_plane),
            "{twin}"
        );

        let account = space
            .twin(SERVICE_ACCOUNT, keys::POD_SERVICE_ACCOUNT)
            .await?;
        ensure!(
            account["automountServiceAccountToken"] == false,
            "{account}"
        );
        space.twin(ROLE_BINDING, "sublet-syncer").await?;
        Ok(())
    });
}

#[test]
fn a_deleted_namespace_takes_its_twin_along() {
    within(A, "gone", async |space| {
        space
            .create(CONFIG_MAP, make::config_map("settings", "k", "v"))
            .await?;
        let mut container = make::idle();
        container["envFrom"] = make::env_from("settings");
        space.pod("web", make::pod_spec(container)).await?;
        space.ready("web").await?;
        space.twin(CONFIG_MAP, "settings").await?;

        space.side().delete(NAMESPACE, "", &space.name).await?;
        eventually(PODS, "the namespace is gone on both sides", async || {
            if space
                .side()
                .find(NAMESPACE, "", &space.name)
                .await?
                .is_some()
            {
                bail!("the tenant's is still there");
            }
            if let Some(twin) = space.above().find(NAMESPACE, "", &space.twin).await? {
                let pods = space.above().list(POD, &space.twin, "").await?.len();
                bail!(
                    "its twin is still there, with {pods} pods: {}",
                    twin["status"]
                );
            }
            Ok(())
        })
        .await
    });
}
