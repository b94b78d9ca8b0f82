//! Classes of the super cluster that tenants are shown.

use anyhow::{bail, ensure};
use api::keys;
use e2e::{
    kind::{CLAIM, Kind, POD, PRIORITY_CLASS, RUNTIME_CLASS, STORAGE_CLASS},
    make,
    read::{annotation, label, text, uid},
    side::Side,
    space::{Space, run, within},
    tenant::{A, B, Tenant, super_cluster},
    wait::{SOON, eventually},
};
use serde_json::{Value, json};

/// Runs a test with an object of the super cluster that goes afterwards, whatever happens.
async fn with_class(
    above: &Side,
    kind: Kind,
    class: Value,
    body: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = text(&class, "/metadata/name").to_owned();
    above.create(kind, class).await?;
    let result = body().await;
    above.delete(kind, "", &name).await?;
    result
}

async fn seen(side: &Side, kind: Kind, name: &str) -> anyhow::Result<Value> {
    eventually(SOON, &format!("the tenant sees {name}"), async || {
        Ok(side.get(kind, "", name).await?)
    })
    .await
}

async fn unseen(side: &Side, kind: Kind, name: &str) -> anyhow::Result<()> {
    eventually(
        SOON,
        &format!("the tenant no longer sees {name}"),
        async || match side.find(kind, "", name).await? {
            Some(object) => bail!("{object}"),
            None => Ok(()),
        },
    )
    .await
}

fn priority(name: &str, value: u32) -> Value {
    json!({"metadata": {"name": name, "labels": {keys::PUBLISHED: "true"}}, "value": value, "description": "first"})
}

#[test]
fn a_published_class_appears_is_repaired_and_is_withdrawn() {
    run(async || {
        let tenant = B.get().await?;
        let name = make::unique("repaired");
        with_class(&tenant.above, PRIORITY_CLASS, priority(&name, 7), async || {
            let class = seen(&tenant.side, PRIORITY_CLASS, &name).await?;
            ensure!(
                class["value"] == 7 && label(&class, keys::PUBLISHED) == Some("true"),
                "{class}"
            );

            let edit = json!({"description": "mine", "metadata": {"labels": {"mine": "1", keys::PUBLISHED: null}}});
            tenant.side.merge(PRIORITY_CLASS, "", &name, edit).await?;
            eventually(SOON, "an edit is undone", async || {
                let class = tenant.side.get(PRIORITY_CLASS, "", &name).await?;
                ensure!(
                    class["description"] == "first" && label(&class, "mine").is_none(),
                    "{class}"
                );
                ensure!(label(&class, keys::PUBLISHED) == Some("true"), "{class}");
                Ok(())
            })
            .await?;

            tenant.side.delete(PRIORITY_CLASS, "", &name).await?;
            let again = seen(&tenant.side, PRIORITY_CLASS, &name).await?;
            ensure!(uid(&again) != uid(&class), "it is still the old one");

            let edit = json!({"description": "second"});
            tenant.above.merge(PRIORITY_CLASS, "", &name, edit).await?;
            eventually(SOON, "an edit of the platform's shows", async || {
                let class = tenant.side.get(PRIORITY_CLASS, "", &name).await?;
                ensure!(class["description"] == "second", "{class}");
                Ok(())
            })
            .await?;

            // A value can't change, so the class is made anew on both sides.
            tenant.above.delete(PRIORITY_CLASS, "", &name).await?;
            tenant.above.create(PRIORITY_CLASS, priority(&name, 8)).await?;
            eventually(SOON, "a class that was made anew shows", async || {
                let class = tenant.side.get(PRIORITY_CLASS, "", &name).await?;
                ensure!(class["value"] == 8, "{class}");
                Ok(())
            })
            .await?;

            let unlabel = json!({"metadata": {"labels": {keys::PUBLISHED: null}}});
            tenant.above.merge(PRIORITY_CLASS, "", &name, unlabel).await?;
            unseen(&tenant.side, PRIORITY_CLASS, &name).await
        })
        .await
    });
}

#[test]
fn a_tenants_own_object_of_a_published_name_is_never_touched() {
    run(async || {
        let tenant = B.get().await?;
        let name = make::unique("own");
        let own = json!({"metadata": {"name": name}, "value": 1, "description": "own"});
        let own = tenant.side.create(PRIORITY_CLASS, own).await?;
        let next = make::unique("next");
        with_class(
            &tenant.above,
            PRIORITY_CLASS,
            priority(&name, 9),
            async || {
                with_class(
                    &tenant.above,
                    PRIORITY_CLASS,
                    priority(&next, 9),
                    async || {
                        // Published later, so the other one was worked before.
                        seen(&tenant.side, PRIORITY_CLASS, &next).await.map(drop)
                    },
                )
                .await
            },
        )
        .await?;
        unseen(&tenant.side, PRIORITY_CLASS, &next).await?;
        let still = tenant.side.get(PRIORITY_CLASS, "", &name).await?;
        ensure!(
            uid(&still) == uid(&own) && still["value"] == 1 && still["description"] == "own",
            "{still}"
        );
        tenant.side.delete(PRIORITY_CLASS, "", &name).await?;
        Ok(())
    });
}

#[test]
fn storage_and_runtime_classes_are_shown_without_what_is_the_platforms() {
    run(async || {
        let tenant = B.get().await?;
        let class = seen(&tenant.side, STORAGE_CLASS, "local").await?;
        ensure!(class.get("parameters").is_none(), "{class}");
        ensure!(
            text(
                &class,
                "/metadata/annotations/storageclass.kubernetes.io~1is-default-class"
            ) == "true",
            "{class}"
        );
        let name = make::unique("runtime");
        let class = json!({
            "metadata": {"name": name, "labels": {keys::PUBLISHED: "true"}}, "handler": "sandbox",
            "scheduling": {"nodeSelector": {"secret": "pool"}},
        });
        with_class(&tenant.above, RUNTIME_CLASS, class, async || {
            let class = seen(&tenant.side, RUNTIME_CLASS, &name).await?;
            ensure!(
                class["handler"] == "sandbox" && class.get("scheduling").is_none(),
                "{class}"
            );
            Ok(())
        })
        .await?;
        unseen(&tenant.side, RUNTIME_CLASS, &name).await
    });
}

fn storage(name: &str, policy: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {keys::PUBLISHED: "true"}},
        "provisioner": "example.com/none", "reclaimPolicy": policy,
    })
}

fn claim_of(name: &str, class: Option<&str>) -> Value {
    let mut spec =
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
    if let Some(class) = class {
        spec["storageClassName"] = class.into();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

#[test]
fn t20_a_storage_class_that_keeps_volumes_is_not_offered_unless_that_is_allowed() {
    within(A, "kept", async |space| {
        let (kept, next) = (make::unique("kept"), make::unique("next"));
        let above = space.above();
        with_class(above, STORAGE_CLASS, storage(&kept, "Retain"), async || {
            with_class(above, STORAGE_CLASS, storage(&next, "Delete"), async || {
                // Published later, so the other one was worked before.
                seen(space.side(), STORAGE_CLASS, &next).await?;
                let shown = space.side().find(STORAGE_CLASS, "", &kept).await?;
                ensure!(shown.is_none(), "{shown:?}");
                let claim = space.create(CLAIM, claim_of("data", Some(&kept))).await?;
                let reason = "StorageClassKeepsVolumes";
                space.refused(CLAIM, &claim, reason).await.map(drop)
            })
            .await
        })
        .await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn the_default_storage_class_that_is_chosen_for_a_tenant_is_its_only_one() {
    run(async || {
        let above = super_cluster().await?;
        let chosen = make::unique("chosen");
        let class = storage(&chosen, "Delete");
        with_class(&above, STORAGE_CLASS, class, async || {
            let spec = json!({"policy": {"storage": {"default": chosen}}});
            Tenant::within("e2e-default-class", spec, async |tenant| {
                chosen_is_default(tenant, &chosen).await
            })
            .await
        })
        .await
    });
}

async fn chosen_is_default(tenant: &Tenant, chosen: &str) -> anyhow::Result<()> {
    let key = "storageclass.kubernetes.io/is-default-class";
    let class = seen(&tenant.side, STORAGE_CLASS, chosen).await?;
    ensure!(annotation(&class, key) == Some("true"), "{class}");
    let class = seen(&tenant.side, STORAGE_CLASS, "local").await?;
    ensure!(annotation(&class, key).is_none(), "{class}");
    let space = Space::open(tenant.clone(), "work").await?;
    // The tenant's admission has a watch of its own.
    eventually(SOON, "a claim is given the default", async || {
        let name = make::unique("data");
        let made = space.create(CLAIM, claim_of(&name, None)).await?;
        ensure!(text(&made, "/spec/storageClassName") == chosen, "{made}");
        let twin = space.twin(CLAIM, &name).await?;
        ensure!(text(&twin, "/spec/storageClassName") == chosen, "{twin}");
        Ok(())
    })
    .await
}

#[test]
fn a_pod_may_use_the_classes_that_its_tenant_is_offered() {
    within(A, "priority", async |space| {
        let (offered, own) = (make::unique("offered"), make::unique("own"));
        let class = json!({"metadata": {"name": own}, "value": 2_000_000});
        space.side().create(PRIORITY_CLASS, class).await?;
        with_class(
            space.above(),
            PRIORITY_CLASS,
            priority(&offered, 11),
            async || {
                seen(space.side(), PRIORITY_CLASS, &offered).await?;
                for (pod, class) in [("offered", &offered), ("own", &own)] {
                    let mut spec = make::pod_spec(make::idle());
                    spec["priorityClassName"] = class.as_str().into();
                    // Its admission has a watch of its own.
                    eventually(SOON, "the API server knows the class", async || {
                        Ok(space.pod(pod, spec.clone()).await?)
                    })
                    .await?;
                }
                let twin = space.twin(POD, "offered").await?;
                ensure!(twin["spec"]["priority"] == 11, "{}", twin["spec"]);
                let twin = space.twin(POD, "own").await?;
                ensure!(twin["spec"]["priority"] == 0, "{}", twin["spec"]);
                Ok(())
            },
        )
        .await?;
        space.side().delete(PRIORITY_CLASS, "", &own).await?;
        Ok(())
    });
}
