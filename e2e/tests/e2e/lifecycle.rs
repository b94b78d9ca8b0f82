//! A VirtualControlPlane from its beginning to its end.

mod deleted;
mod restore;
mod snapshot;

use anyhow::{Context, bail, ensure};
use api::keys;
use e2e::{
    kind::{
        CLASS, CLUSTER_ROLE, CLUSTER_ROLE_BINDING, CONFIG_MAP, CONTROL_PLANE, Kind, NAMESPACE,
        PERSISTENT_VOLUME, POD, SECRET,
    },
    make,
    read::{condition, items, name, text, uid},
    side::Side,
    space::{Space, run},
    tenant::{A, NAMESPACE_OF_TESTS, Tenant, conditions, delete, request, super_cluster},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use tenancy::tenant::TenantId;

#[test]
fn a_tenant_comes_up_works_and_leaves_nothing_behind() {
    run(async || {
        let name = make::unique("e2e-life");
        let tenant = Tenant::make(&name, json!({})).await?;
        let result = lives_and_goes(&tenant).await;
        if result.is_err() {
            eprintln!("{}", e2e::dump::control_plane(&tenant.above, &name).await);
            tenant.delete().await?;
        }
        result
    });
}

async fn lives_and_goes(tenant: &Tenant) -> anyhow::Result<()> {
    let above = &tenant.above;
    let vcp = above
        .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
        .await?;
    for kind in ["Ready", "ControlPlaneReady", "DNSReady", "Synced"] {
        ensure!(
            condition(&vcp, kind) == "True",
            "{kind}: {}",
            conditions(&vcp)
        );
    }
    ensure!(
        text(&vcp, "/status/phase") == "Ready",
        "{}",
        conditions(&vcp)
    );
    ensure!(text(&vcp, "/status/controlPlaneNamespace") == tenant.control_plane_namespace());
    ensure!(
        text(&vcp, "/status/endpoint").starts_with("https://"),
        "{}",
        vcp["status"]
    );
    ensure!(
        text(&vcp, "/spec/network/serviceCIDR").ends_with("/22"),
        "{}",
        vcp["spec"]
    );
    // Written there when it was made: another offer of the class doesn't upgrade it.
    ensure!(
        vcp["spec"]["version"] == vcp["status"]["version"],
        "{}",
        vcp["spec"]
    );
    let version = tenant
        .side
        .request(http::Method::GET, "/version", None)
        .await?;
    ensure!(
        text(&version, "/gitVersion") == format!("v{}", text(&vcp, "/status/version")),
        "{version}"
    );
    let kube_system = tenant.side.get(NAMESPACE, "", "kube-system").await?;
    ensure!(
        text(&vcp, "/status/proof/kubeSystemUID") == uid(&kube_system),
        "{}",
        vcp["status"]
    );

    let space = Space::open(tenant.clone(), "work").await?;
    space.run_web(2).await?;

    tenant.delete().await?;
    eventually(PODS, "nothing of the tenant is left", async || {
        let left = leftovers(above, tenant).await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f20_a_deletion_that_a_finalizer_holds_up_names_the_pod_and_ends_once_it_is_let_go() {
    run(async || {
        let name = make::unique("e2e-held");
        let tenant = Tenant::make(&name, json!({})).await?;
        let result = is_held_up(&tenant).await;
        if result.is_err() {
            eprintln!("{}", e2e::dump::control_plane(&tenant.above, &name).await);
            tenant.delete().await?;
        }
        result
    });
}

async fn is_held_up(tenant: &Tenant) -> anyhow::Result<()> {
    let above = &tenant.above;
    let space = Space::open(tenant.clone(), "work").await?;
    space.pod("held", make::pod_spec(make::idle())).await?;
    space.ready("held").await?;
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let held = finalizers(json!(["example.com/audit"]));
    above.merge(POD, &space.twin, "held", held).await?;
    above
        .delete(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
        .await?;
    let told = eventually(2 * PODS, "the deletion names the pod", async || {
        let vcp = above
            .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
            .await?;
        let message = text(&vcp, "/status/message");
        ensure!(
            message.contains("Pod held is held by the finalizer example.com/audit"),
            "{message}"
        );
        Ok(())
    })
    .await;
    let free = finalizers(Value::Null);
    above.merge(POD, &space.twin, "held", free).await?;
    told?;
    eventually(3 * PODS, "nothing of the tenant is left", async || {
        let vcp = above.find(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name);
        ensure!(vcp.await?.is_none(), "it is there");
        let left = leftovers(above, tenant).await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}

/// What carries the tenant's identity or is named after it.
pub(crate) async fn leftovers(above: &Side, tenant: &Tenant) -> anyhow::Result<Vec<String>> {
    left_of(above, &tenant.id, &tenant.name).await
}

/// The same of one that never ran.
pub(crate) async fn left_of(
    above: &Side,
    id: &TenantId,
    tenant: &str,
) -> anyhow::Result<Vec<String>> {
    let selector = format!("{}={id}", keys::TENANT);
    let kinds = [
        NAMESPACE,
        POD,
        CONFIG_MAP,
        SECRET,
        e2e::kind::SERVICE,
        e2e::kind::ROLE_BINDING,
        CLUSTER_ROLE,
        CLUSTER_ROLE_BINDING,
        PERSISTENT_VOLUME,
    ];
    let mut left = vec![];
    for kind in kinds {
        left.extend(
            above
                .list(kind, "", &selector)
                .await?
                .iter()
                .map(|object| described(kind, object)),
        );
    }
    // Whatever its labels.
    for namespace in above.list(NAMESPACE, "", "").await? {
        if name(&namespace).starts_with(&format!("{tenant}-")) {
            left.push(described(NAMESPACE, &namespace));
        }
    }
    for (kind, namespace) in [
        (SECRET, NAMESPACE_OF_TESTS),
        (SECRET, api::SYSTEM_NAMESPACE),
        (CONFIG_MAP, api::SYSTEM_NAMESPACE),
    ] {
        for object in above.list(kind, namespace, "").await? {
            let named = name(&object).contains(id.as_str()) || name(&object).contains(tenant);
            if named || object["data"]["name"] == tenant {
                left.push(described(kind, &object));
            }
        }
    }
    Ok(left)
}

fn described(kind: Kind, object: &Value) -> String {
    format!(
        "{} {}/{}",
        kind.name,
        text(object, "/metadata/namespace"),
        name(object)
    )
}

#[test]
fn an_identity_belongs_to_the_first_that_claims_it() {
    run(async || {
        let first = A.get().await?;
        let above = &first.above;
        let name = make::unique("e2e-thief");
        let before = above
            .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &first.name)
            .await?;
        request(above, &name, json!({"identity": first.id.as_str()})).await?;
        let refused = eventually(SOON, "the second one is refused", async || {
            let vcp = above.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name).await?;
            ensure!(
                condition(&vcp, "IdentityConflict") == "True",
                "{}",
                conditions(&vcp)
            );
            Ok(vcp)
        })
        .await;
        let told = refused.and_then(|vcp| {
            ensure!(
                text(&vcp, "/status/phase") == "Failed",
                "{}",
                conditions(&vcp)
            );
            ensure!(condition(&vcp, "Ready") == "False", "{}", conditions(&vcp));
            let holder = format!("{NAMESPACE_OF_TESTS}/{}", first.name);
            ensure!(
                text(&vcp, "/status/message").contains(&holder),
                "{}",
                conditions(&vcp)
            );
            Ok(())
        });
        let nothing = async {
            for namespace in above.list(NAMESPACE, "", "").await? {
                if e2e::read::name(&namespace).starts_with(&format!("{name}-")) {
                    bail!("something was provisioned: {}", e2e::read::name(&namespace));
                }
            }
            Ok(())
        };
        let nothing = nothing.await;
        delete(above, &name).await?;
        told?;
        nothing?;
        // Deleting the second took nothing of the first.
        let after = above
            .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &first.name)
            .await?;
        ensure!(
            uid(&after) == uid(&before) && condition(&after, "IdentityConflict") != "True",
            "{}",
            conditions(&after)
        );
        let space = Space::open(first.clone(), &make::unique("after")).await?;
        space.pod("web", make::pod_spec(make::idle())).await?;
        let ready = space.ready("web").await;
        space.side().delete(NAMESPACE, "", &space.name).await?;
        ready.map(drop)
    });
}

/// It is older than the one whose identity it takes up, paused meanwhile, and leads to an API server of its own.
#[test]
fn t46_an_identity_that_is_taken_up_later_stays_with_its_claim() {
    run(async || {
        let first = A.get().await?;
        let above = &first.above;
        let name = make::unique("e2e-older");
        let external = json!({"kubeconfigSecretRef": {"name": "no-such", "key": "value"}});
        let spec = json!({"paused": true, "external": external, "etcd": null});
        request(above, &name, spec).await?;
        let identity = json!({"spec": {"identity": first.id.as_str()}});
        above
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name, identity)
            .await?;
        let told = eventually(SOON, "the paused one is told", async || {
            let vcp = above.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name).await?;
            ensure!(
                condition(&vcp, "IdentityConflict") == "True",
                "{}",
                conditions(&vcp)
            );
            Ok(())
        })
        .await;
        let awake = json!({"spec": {"paused": false}});
        let awake = above
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name, awake)
            .await;
        let space = Space::open(first.clone(), &make::unique("beside")).await?;
        space.pod("web", make::pod_spec(make::idle())).await?;
        let ready = space.ready("web").await;
        space.side().delete(NAMESPACE, "", &space.name).await?;
        delete(above, &name).await?;
        told?;
        awake?;
        ready.map(drop)
    });
}

#[test]
fn what_the_class_does_not_offer_is_refused_by_a_condition() {
    run(async || {
        let above = super_cluster().await?;
        let taken = A.get().await?;
        let vcp = above
            .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &taken.name)
            .await?;
        let slice = text(&vcp, "/spec/network/serviceCIDR");
        let cases = [
            (
                "e2e-no-class",
                json!({"className": "no-such"}),
                "no ControlPlaneClass no-such",
            ),
            (
                "e2e-no-version",
                json!({"version": "1.20"}),
                "doesn't offer version 1.20",
            ),
            (
                "e2e-large",
                json!({"etcd": {"storage": {"ephemeral": false, "size": "17Gi"}}}),
                "spec.etcd.storage.size is 17Gi and may be 16Gi at most",
            ),
            (
                "e2e-slice",
                json!({"network": {"serviceCIDR": slice}}),
                "serviceCIDR",
            ),
        ];
        for (prefix, spec, words) in cases {
            let name = make::unique(prefix);
            request(&above, &name, spec).await?;
            let refused = eventually(SOON, &format!("{name} is refused"), async || {
                let vcp = above.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name).await?;
                ensure!(
                    text(&vcp, "/status/message").contains(words),
                    "{words:?}: {}",
                    conditions(&vcp)
                );
                ensure!(condition(&vcp, "Ready") == "False", "{}", conditions(&vcp));
                let is_conflict = condition(&vcp, "IdentityConflict") == "True";
                ensure!(
                    is_conflict == (prefix == "e2e-slice"),
                    "{}",
                    conditions(&vcp)
                );
                Ok(())
            })
            .await;
            delete(&above, &name).await?;
            refused?;
        }
        Ok(())
    });
}

#[test]
fn a_class_in_use_stays_until_nobody_names_it() {
    run(async || {
        let above = super_cluster().await?;
        let (class, name) = (make::unique("e2e-used"), make::unique("e2e-user"));
        let spec = above.get(CLASS, "", "default").await?["spec"].clone();
        let object = json!({"metadata": {"name": class}, "spec": spec});
        above.create(CLASS, object).await?;
        request(&above, &name, json!({"className": class, "paused": true})).await?;
        let result = async {
            eventually(SOON, "the class is held", async || {
                let held = above.get(CLASS, "", &class).await?;
                let finalizers = &held["metadata"]["finalizers"];
                ensure!(
                    *finalizers == json!([keys::CLASS_FINALIZER]),
                    "{finalizers}"
                );
                Ok(())
            })
            .await?;
            above.delete(CLASS, "", &class).await?;
            let going = above.get(CLASS, "", &class).await?;
            let since = text(&going, "/metadata/deletionTimestamp");
            ensure!(!since.is_empty() && going["spec"] == spec, "{going}");
            Ok(())
        }
        .await;
        delete(&above, &name).await?;
        eventually(SOON, "the class goes", async || {
            let left = above.find(CLASS, "", &class).await?;
            ensure!(left.is_none(), "{left:?}");
            Ok(())
        })
        .await?;
        result
    });
}

#[test]
fn a_class_is_refused_to_other_namespaces_than_it_is_for() {
    run(async || {
        let above = super_cluster().await?;
        let (class, name) = (make::unique("e2e-class"), make::unique("e2e-elsewhere"));
        let mut spec = above.get(CLASS, "", "default").await?["spec"].clone();
        spec["namespaces"] = json!(["elsewhere"]);
        let object = json!({"metadata": {"name": class}, "spec": spec});
        above.create(CLASS, object).await?;
        // Of one that leads elsewhere, no control plane begins to start once the class allows it.
        let external = json!({"kubeconfigSecretRef": {"name": "no-such", "key": "value"}});
        let spec = json!({"className": class, "external": external, "etcd": null});
        request(&above, &name, spec).await?;
        let is_refused = async |words: &str, expected: bool| {
            eventually(
                SOON,
                &format!("{name} says {words:?}: {expected}"),
                async || {
                    let vcp = above.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name).await?;
                    let said = conditions(&vcp);
                    ensure!(said.contains(words) == expected, "{said}");
                    ensure!(!text(&vcp, "/status/phase").is_empty(), "{said}");
                    Ok(())
                },
            )
            .await
        };
        let result = async {
            is_refused("ClassNotAllowed", true).await?;
            let vcp = above.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name).await?;
            let id = text(&vcp, "/spec/identity");
            let made = above
                .list(NAMESPACE, "", &format!("{}={id}", keys::TENANT))
                .await?;
            ensure!(made.is_empty(), "{made:?}");
            let wider = json!({"spec": {"namespaces": ["elsewhere", NAMESPACE_OF_TESTS]}});
            above.merge(CLASS, "", &class, wider).await?;
            is_refused("Ready=False ClassNotAllowed", false).await
        }
        .await;
        delete(&above, &name).await?;
        above.delete(CLASS, "", &class).await?;
        result
    });
}

#[test]
fn a_tenant_in_a_hurry_can_be_deleted_before_it_is_up() {
    run(async || {
        let above = super_cluster().await?;
        let name = make::unique("e2e-brief");
        request(&above, &name, json!({})).await?;
        let id = eventually(SOON, "it has an identity", async || {
            let vcp = above.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name).await?;
            let id = vcp["spec"]["identity"]
                .as_str()
                .context("it has none yet")?
                .to_owned();
            let namespaces = above
                .list(NAMESPACE, "", &format!("{}={id}", keys::TENANT))
                .await?;
            ensure!(!namespaces.is_empty(), "nothing is provisioned yet");
            Ok(id)
        })
        .await?;
        delete(&above, &name).await?;
        let left = above
            .list(NAMESPACE, "", &format!("{}={id}", keys::TENANT))
            .await?;
        ensure!(left.is_empty(), "{} namespaces are left", left.len());
        let claims = above.list(CONFIG_MAP, api::SYSTEM_NAMESPACE, "").await?;
        let own = claims
            .iter()
            .filter(|claim| items(claim, "").is_empty() && claim["data"]["name"] == name.as_str());
        ensure!(own.count() == 0, "a claim is left");
        Ok(())
    });
}
