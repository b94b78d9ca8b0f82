//! `external` tenants: a syncer outside of any cluster serves API servers that Sublet didn't make, with no manager.

use anyhow::ensure;
use e2e::{
    kind::{
        CLUSTER_ROLE_BINDING, CONFIG_MAP, CONTROL_PLANE, NAMESPACE, POD, SECRET, SERVICE,
        SERVICE_ACCOUNT,
    },
    make, oracle,
    program::{Folder, Program},
    read::{annotation, condition, event, items, text, uid},
    rig::{Wish, kubeconfig_secret, on_rig, secret_name},
    side::Side,
    tenant::{NAMESPACE_OF_TESTS, conditions},
    wait::{PODS, SOON, eventually},
};
use http::Method;
use serde_json::{Value, json};
use tenancy::{naming, tenant::TenantId};

#[test]
fn a_syncer_out_of_the_cluster_serves_an_external_tenant_without_a_manager() {
    on_rig(Wish::default(), async |rig| {
        let tenant = &rig.tenants[0];
        tenant.namespace("work").await?;
        let twin = tenant.twin("work");
        let create = async |kind, mut object: Value| {
            object["metadata"]["namespace"] = "work".into();
            tenant.side.create(kind, object).await
        };
        create(CONFIG_MAP, make::config_map("settings", "k", "v")).await?;
        create(SERVICE, make::service("web")).await?;
        let mut container = make::idle();
        container["envFrom"] = make::env_from("settings");
        let pod = json!({"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": make::pod_spec(container)});
        create(POD, pod).await?;
        eventually(PODS, "the pod runs, as the tenant sees it", async || {
            let pod = tenant.side.get(POD, "work", "web").await?;
            ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
            Ok(())
        })
        .await?;
        let vcp = rig.vcp(0).await?;
        let kube_system = tenant.side.get(NAMESPACE, "", "kube-system").await?;
        ensure!(
            text(&vcp, "/status/proof/kubeSystemUID") == uid(&kube_system),
            "nobody recorded who the tenant is: {}",
            vcp["status"]
        );
        oracle::all(rig).await?;
        tenant.side.delete(POD, "work", "web").await?;
        eventually(SOON, "the super pod is gone", async || {
            let left = rig.side.find(POD, &twin, "web").await?;
            ensure!(left.is_none(), "{}", left.unwrap_or_default());
            Ok(())
        })
        .await?;
        oracle::all(rig).await
    });
}

#[test]
fn a_changed_kubeconfig_is_taken_up_without_a_restart_and_a_bad_one_is_refused() {
    on_rig(Wish::default(), async |rig| {
        let tenant = &rig.tenants[0];
        let refused = kubeconfig_secret(
            &tenant.name,
            &tenant
                .server
                .syncer_kubeconfig(tenant.proxy.port())
                .replace("\"token\":", "\"tokenFile\":\"/etc/shadow\",\"token\":"),
        );
        let put = async |secret: &Value| {
            let name = secret_name(&tenant.name);
            rig.side
                .merge(SECRET, NAMESPACE_OF_TESTS, &name, secret.clone())
                .await
        };
        put(&refused).await?;
        eventually(SOON, "T47: the kubeconfig is refused", async || {
            let vcp = rig.vcp(0).await?;
            let synced = items(&vcp, "/status/conditions")
                .iter()
                .find(|condition| condition["type"] == "Synced");
            let told = synced.is_some_and(|condition| {
                condition["reason"] == "KubeconfigRefused"
                    && text(condition, "/message").contains("tokenFile")
                    && !text(condition, "/message").contains("syncer-token")
            });
            ensure!(told, "{}", conditions(&vcp));
            Ok(())
        })
        .await?;
        // The same API server by another way.
        let proxy = rig.another_proxy(tenant.server.port).await?;
        put(&kubeconfig_secret(
            &tenant.name,
            &tenant.server.syncer_kubeconfig(proxy.port()),
        ))
        .await?;
        rig.synced(0).await?;
        tenant.namespace("later").await?;
        eventually(SOON, "a namespace crosses by the new way", async || {
            rig.side.get(NAMESPACE, "", &tenant.twin("later")).await?;
            Ok(())
        })
        .await?;
        ensure!(!proxy.take_trace().is_empty(), "the new way isn't used");
        Ok(())
    });
}

#[test]
fn t46_an_identity_belongs_to_the_first_control_plane_that_has_it() {
    on_rig(
        Wish {
            tenants: 2,
            ..Wish::default()
        },
        async |rig| {
            let (victim, thief) = (&rig.tenants[0], &rig.tenants[1]);
            victim.namespace("work").await?;
            let settings = json!({"metadata": {"name": "settings", "namespace": "work"}, "data": {"k": "victim"}});
            victim.side.create(CONFIG_MAP, settings).await?;
            oracle::pairs::agree(rig, victim).await?;
            thief.namespace("work").await?;
            let settings = json!({"metadata": {"name": "settings", "namespace": "work"}, "data": {"k": "thief"}});
            thief.side.create(CONFIG_MAP, settings).await?;
            let before = rig
                .side
                .get(CONFIG_MAP, &victim.twin("work"), "settings")
                .await?;
            // The thief's own API server, under the victim's identity and name.
            let stolen = json!({
                "metadata": {"name": "stolen", "namespace": NAMESPACE_OF_TESTS},
                "spec": {
                    "identity": victim.id.as_str(),
                    "external": {"kubeconfigSecretRef": {"name": secret_name(&thief.name), "key": "value"}},
                },
            });
            rig.side.create(CONTROL_PLANE, stolen).await?;
            eventually(SOON, "the second one is told", async || {
                let vcp = rig
                    .side
                    .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, "stolen")
                    .await?;
                ensure!(
                    conditions(&vcp).contains("IdentityConflict"),
                    "{}",
                    conditions(&vcp)
                );
                Ok(())
            })
            .await?;
            // Its objects came to nothing, and the first one is served as before.
            victim.namespace("later").await?;
            oracle::all(rig).await?;
            let after = rig
                .side
                .get(CONFIG_MAP, &victim.twin("work"), "settings")
                .await?;
            ensure!(after == before, "the victim's object was touched: {after}");
            rig.side
                .delete(CONTROL_PLANE, NAMESPACE_OF_TESTS, "stolen")
                .await?;
            oracle::pairs::agree(rig, victim).await
        },
    );
}

#[test]
fn t46_an_api_server_that_is_another_one_deletes_nothing() {
    on_rig(
        Wish {
            tenants: 2,
            ..Wish::default()
        },
        async |rig| {
            let (tenant, other) = (&rig.tenants[0], &rig.tenants[1]);
            tenant.namespace("work").await?;
            for number in 0..10 {
                let object = json!({"metadata": {"name": format!("c{number}"), "namespace": "work"}, "data": {"k": "v"}});
                tenant.side.create(CONFIG_MAP, object).await?;
            }
            oracle::pairs::agree(rig, tenant).await?;
            let twin = tenant.twin("work");
            let uids = async || -> anyhow::Result<Vec<String>> {
                let list = rig
                    .side
                    .list(CONFIG_MAP, &twin, "sublet.dev/tenant")
                    .await?;
                Ok(list.iter().map(|object| uid(object).to_owned()).collect())
            };
            let before = uids().await?;
            ensure!(before.len() >= 10, "{before:?}");
            // Its kubeconfig leads to another tenant's API server, where none of this is.
            let secret = kubeconfig_secret(
                &tenant.name,
                &other.server.syncer_kubeconfig(other.proxy.port()),
            );
            rig.side
                .merge(
                    SECRET,
                    NAMESPACE_OF_TESTS,
                    &secret_name(&tenant.name),
                    secret,
                )
                .await?;
            eventually(PODS, "deletions are held", async || {
                let vcp = rig.vcp(0).await?;
                ensure!(
                    condition(&vcp, "TenantIdentityChanged") == "True",
                    "{}",
                    conditions(&vcp)
                );
                ensure!(
                    condition(&vcp, "DeletionsHeld") == "True",
                    "{}",
                    conditions(&vcp)
                );
                Ok(())
            })
            .await?;
            rig.synced(0).await?;
            ensure!(
                uids().await? == before,
                "objects were deleted for an API server that isn't the tenant's"
            );
            // Back to where it was: all is as before, and no one needs to let go of anything.
            let secret = kubeconfig_secret(
                &tenant.name,
                &tenant.server.syncer_kubeconfig(tenant.proxy.port()),
            );
            rig.side
                .merge(
                    SECRET,
                    NAMESPACE_OF_TESTS,
                    &secret_name(&tenant.name),
                    secret,
                )
                .await?;
            eventually(PODS, "nothing is held any more", async || {
                let vcp = rig.vcp(0).await?;
                ensure!(
                    condition(&vcp, "DeletionsHeld") == "False",
                    "{}",
                    conditions(&vcp)
                );
                Ok(())
            })
            .await?;
            ensure!(uids().await? == before, "objects were made anew");
            let namespace = rig.side.get(NAMESPACE, "", &twin).await?;
            ensure!(
                annotation(&namespace, "sublet.dev/name") == Some("work"),
                "{namespace}"
            );
            oracle::pairs::agree(rig, tenant).await
        },
    );
}

/// A token of an account in the namespace `work` that may read most of the tenant and write nothing. No controller runs that
/// would put together the role `view`.
async fn reader(side: &Side) -> anyhow::Result<String> {
    let metadata = json!({"name": "reader", "namespace": "work"});
    side.create(SERVICE_ACCOUNT, json!({"metadata": metadata}))
        .await?;
    let binding = json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregate-to-view"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "work"}],
    });
    side.create(CLUSTER_ROLE_BINDING, binding).await?;
    let path = "/api/v1/namespaces/work/serviceaccounts/reader/token";
    let body =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let answer = side.request(Method::POST, path, Some(body)).await?;
    Ok(text(&answer, "/status/token").to_owned())
}

#[test]
fn sublet_attach_makes_a_tenant_of_an_api_server_and_says_what_of_it_is_not_served() {
    let wish = Wish {
        tenants: 2,
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        let guest = &rig.tenants[1];
        // The rig has announced it; now it is nobody's.
        rig.side
            .delete(CONTROL_PLANE, NAMESPACE_OF_TESTS, &guest.name)
            .await?;
        let folder = Folder::make()?;
        let admin = folder.path().join("admin.conf");
        std::fs::write(&admin, rig.above.admin_kubeconfig())?;
        let theirs = folder.path().join("tenant.conf");
        let access = guest.server.syncer_kubeconfig(guest.proxy.port());
        std::fs::write(&theirs, &access)?;
        let sublet = Program::sublet_at(&admin)?;
        let attach = async |name: &str, more: &str| {
            let file = theirs.display();
            sublet
                .run(&format!(
                    "attach {name} -n {NAMESPACE_OF_TESTS} --tenant-kubeconfig {file} {more}"
                ))
                .await
        };
        let identity = async |name: &str| -> anyhow::Result<TenantId> {
            let vcp = rig
                .side
                .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, name)
                .await?;
            Ok(TenantId::parse(text(&vcp, "/spec/identity"))?)
        };
        guest.namespace("work").await?;
        let mut service = make::service("web");
        service["metadata"]["namespace"] = "work".into();
        let service = guest.side.create(SERVICE, service).await?;

        // By a kubeconfig that may only read nothing is made.
        let mut reading: Value = serde_json::from_str(&access)?;
        reading["users"][0]["user"] = json!({"token": reader(&guest.side).await?});
        std::fs::write(&theirs, reading.to_string())?;
        eventually(SOON, "the rights that it lacks are named", async || {
            let outcome = attach("home", "").await?;
            outcome.fails(1, &["list secrets", "cluster-admin"])
        })
        .await?;
        let made = rig
            .side
            .find(CONTROL_PLANE, NAMESPACE_OF_TESTS, "home")
            .await?;
        ensure!(made.is_none(), "{}", made.unwrap_or_default());
        std::fs::write(&theirs, &access)?;

        // A range that isn't the super cluster's: all but Services with an address.
        let outcome = attach("abroad", "--service-cidr 10.99.0.0/24").await?;
        ensure!(outcome.err.contains("ServiceRangeNotServed"), "{outcome:?}");
        outcome.says(&["abroad is attached and synced"])?;
        event(&guest.side, SERVICE, &service, "ServiceRangeNotServed").await?;
        let twin = naming::super_namespace(&identity("abroad").await?, "abroad", "work");
        eventually(SOON, "the namespace crosses", async || {
            Ok(rig.side.get(NAMESPACE, "", &twin).await?)
        })
        .await?;
        rig.side
            .delete(CONTROL_PLANE, NAMESPACE_OF_TESTS, "abroad")
            .await?;

        // The API server tells its range itself, which is free.
        attach("home", "")
            .await?
            .says(&["home is attached and synced"])?;
        let twin = naming::super_namespace(&identity("home").await?, "home", "work");
        eventually(
            SOON,
            "the Service has its address on both sides",
            async || {
                let above = rig.side.get(SERVICE, &twin, "web").await?;
                ensure!(
                    above["spec"]["clusterIP"] == service["spec"]["clusterIP"],
                    "{above}"
                );
                Ok(())
            },
        )
        .await?;
        // Again with a kubeconfig that isn't one: told at once, and nothing changes.
        std::fs::write(&theirs, "hello")?;
        attach("home", "").await?.fails(1, &["tenant.conf"])?;

        // No manager runs: the command removes what the syncer made.
        let delete = async |more: &str| {
            let line = format!("delete home -n {NAMESPACE_OF_TESTS} --yes {more}");
            sublet.run(&line).await
        };
        delete("--no-wait")
            .await?
            .fails(1, &["no manager", "--no-wait"])?;
        ensure!(rig.side.find(NAMESPACE, "", &twin).await?.is_some());
        delete("").await?.says(&["home deleted"])?;
        let left = rig.side.find(NAMESPACE, "", &twin).await?;
        ensure!(left.is_none(), "{}", left.unwrap_or_default());
        Ok(())
    });
}
