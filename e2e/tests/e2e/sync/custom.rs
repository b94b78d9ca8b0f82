//! Custom resources, and kinds that come to be served later; in a tenant of its own, whose etcd is on a volume claim.

use super::kinds::serve;
use anyhow::{bail, ensure};
use api::keys;
use e2e::{
    kind::{CLAIM, CLASS, CLUSTER_ROLE, DEFINITION, EVENT, GATEWAY, HTTP_ROUTE, Kind, SECRET},
    make, oracle,
    program::Program,
    read::{self, annotation, items, text, uid},
    rig::{Wish, on_rig},
    side::Side,
    space::{Space, run},
    tenant::{NAMESPACE_OF_TESTS, Tenant},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

const BACKUP: Kind = Kind {
    api_version: "kinds.e2e.sublet.dev/v1",
    name: "Backup",
    plural: "backups",
};
const REPORT: Kind = Kind {
    api_version: "kinds.e2e.sublet.dev/v1",
    name: "Report",
    plural: "reports",
};
const CUSTOM_CLASS: &str = "e2e-custom";
const ROLES: [&str; 2] = ["e2e-custom-read", "e2e-custom-write"];

fn definition(kind: Kind) -> Value {
    make::definition(kind, "Namespaced")
}

/// A class like the default one that offers the two custom resources.
async fn class(above: &Side) -> anyhow::Result<Value> {
    let mut class = above.get(CLASS, "", "default").await?;
    let spec = &mut class["spec"];
    spec["customResources"] = json!([
        {"name": "backups.kinds.e2e.sublet.dev", "version": "v1", "kind": "Backup",
            "references": [{"path": "spec.secretName", "kind": "Secret"}]},
        {"name": "reports.kinds.e2e.sublet.dev", "version": "v1", "kind": "Report", "direction": "FromSuper"},
    ]);
    Ok(json!({"metadata": {"name": CUSTOM_CLASS}, "spec": spec}))
}

async fn prepare(above: &Side) -> anyhow::Result<()> {
    above.create(CLASS, class(above).await?).await?;
    let groups = json!(["kinds.e2e.sublet.dev"]);
    let resources = json!(["backups", "reports"]);
    for (name, label, verbs) in [
        (
            ROLES[0],
            "sublet.dev/aggregate-to-syncer",
            json!(["get", "list", "watch"]),
        ),
        (
            ROLES[1],
            "sublet.dev/aggregate-to-syncer-namespace",
            json!(["create", "patch", "delete"]),
        ),
    ] {
        let role = json!({
            "metadata": {"name": name, "labels": {label: "true"}},
            "rules": [{"apiGroups": groups, "resources": resources, "verbs": verbs}],
        });
        above.create(CLUSTER_ROLE, role).await?;
    }
    Ok(())
}

async fn clean(above: &Side) -> anyhow::Result<()> {
    for kind in [BACKUP, REPORT, GATEWAY] {
        let name = text(&definition(kind), "/metadata/name").to_owned();
        above.delete(DEFINITION, "", &name).await?;
    }
    for role in ROLES {
        above.delete(CLUSTER_ROLE, "", role).await?;
    }
    Ok(above.delete(CLASS, "", CUSTOM_CLASS).await?)
}

#[test]
fn custom_resources_cross_and_kinds_that_come_later_are_taken_up() {
    run(async || {
        let above = e2e::tenant::super_cluster().await?;
        clean(&above).await?;
        let result = async {
            prepare(&above).await?;
            let spec = json!({
                "className": CUSTOM_CLASS, "etcd": {"storage": {"size": "64Mi"}},
                "sync": {"customResources": ["backups.kinds.e2e.sublet.dev", "reports.kinds.e2e.sublet.dev"]},
            });
            let name = make::unique("e2e-custom");
            Tenant::within(&name, spec, crosses).await
        }
        .await;
        clean(&above).await?;
        result
    });
}

async fn crosses(tenant: &Tenant) -> anyhow::Result<()> {
    let claims = tenant
        .above
        .list(CLAIM, &tenant.control_plane_namespace(), "")
        .await?;
    ensure!(
        claims.len() == 1 && text(&claims[0], "/status/phase") == "Bound",
        "the tenant's etcd is on a volume claim: {claims:?}"
    );
    let space = Space::open(tenant.clone(), "work").await?;
    // The definitions are made only now: nobody serves them yet.
    for kind in [BACKUP, REPORT] {
        space.above().create(DEFINITION, definition(kind)).await?;
        let name = text(&definition(kind), "/metadata/name").to_owned();
        eventually(SOON, &format!("the tenant is given {name}"), async || {
            Ok(space.side().get(DEFINITION, "", &name).await?)
        })
        .await?;
    }
    down(&space).await?;
    up(&space).await?;
    without_a_class(&space).await
}

async fn down(space: &Space) -> anyhow::Result<()> {
    let secret = json!({"metadata": {"name": "key"}, "stringData": {"key": "x"}});
    space.create(SECRET, secret).await?;
    let backup =
        json!({"metadata": {"name": "b"}, "spec": {"secretName": "key", "any": {"thing": [1]}}});
    eventually(SOON, "the tenant serves backups", async || {
        Ok(space.create(BACKUP, backup.clone()).await?)
    })
    .await?;
    let twin = space.twin(BACKUP, "b").await?;
    ensure!(twin["spec"] == backup["spec"], "{twin}");
    space.twin(SECRET, "key").await?;
    space
        .above()
        .merge_status(BACKUP, &space.twin, "b", json!({"done": true}))
        .await?;
    space
        .like(BACKUP, "b", "shows its status", SOON, |object| {
            object["status"]["done"] == true
        })
        .await?;
    space
        .merge(BACKUP, "b", json!({"spec": {"any": null, "more": 1}}))
        .await?;
    space
        .twin_like(BACKUP, "b", "is updated", |twin| {
            twin["spec"] == json!({"secretName": "key", "more": 1})
        })
        .await?;
    explained(space, "backups.kinds.e2e.sublet.dev", "b", "is synced").await?;
    explained(space, "secret", "key", "Referred to by: Backup b").await?;
    space.delete(BACKUP, "b").await?;
    space.gone(BACKUP, "b").await
}

/// `sublet explain` and `sublet whose` know custom resources like any other kind.
async fn explained(space: &Space, kind: &str, name: &str, says: &str) -> anyhow::Result<()> {
    let sublet = Program::sublet()?;
    let (tenant, namespace) = (&space.tenant.name, &space.name);
    sublet
        .run(&format!(
            "explain {tenant} {kind}/{namespace}/{name} -n {NAMESPACE_OF_TESTS}"
        ))
        .await?
        .says(&[says])?;
    let twin = &space.twin;
    sublet
        .run(&format!("whose {kind}/{twin}/{name}"))
        .await?
        .says(&[tenant, &format!("{namespace}/{name}")])?;
    Ok(())
}

async fn up(space: &Space) -> anyhow::Result<()> {
    let report = json!({
        "metadata": {"name": "r", "namespace": space.twin, "labels": {"report.of": space.twin}},
        "spec": {"of": format!("{}/web", space.twin)},
    });
    space.above().create(REPORT, report).await?;
    let seen = space
        .like(REPORT, "r", "comes up", PODS, |report| {
            report["spec"]["of"] == format!("{}/web", space.name)
        })
        .await?;
    ensure!(!seen.to_string().contains(&space.twin), "{seen}");
    ensure!(
        seen["metadata"]["labels"]["report.of"] == space.name,
        "{seen}"
    );
    space
        .merge(REPORT, "r", json!({"spec": {"of": "mine"}}))
        .await?;
    space
        .like(REPORT, "r", "is repaired", SOON, |report| {
            report["spec"]["of"] == format!("{}/web", space.name)
        })
        .await?;
    space.above().delete(REPORT, &space.twin, "r").await?;
    eventually(SOON, "the report goes", async || {
        match space.find(REPORT, "r").await? {
            Some(report) => bail!("{report}"),
            None => Ok(()),
        }
    })
    .await
}

/// A Gateway of a class that nobody can be offered, since the platform doesn't serve gateways at all, is told of.
async fn without_a_class(space: &Space) -> anyhow::Result<()> {
    space.side().create(DEFINITION, definition(GATEWAY)).await?;
    let hosts = json!({"spec": {"ingressHosts": ["*"], "offers": [
        {"resource": "gatewayclasses.gateway.networking.k8s.io", "names": ["public"]},
    ]}});
    space.above().merge(CLASS, "", CUSTOM_CLASS, hosts).await?;
    let gateway = json!({
        "metadata": {"name": "g"}, "spec": {"gatewayClassName": "public", "listeners": [{"name": "a", "port": 80}]},
    });
    let gateway = eventually(SOON, "the tenant serves gateways", async || {
        Ok(space.create(GATEWAY, gateway.clone()).await?)
    })
    .await?;
    read::event(space.side(), GATEWAY, &gateway, "GatewayClassNotOffered").await?;
    Ok(())
}

#[test]
fn a_kind_that_only_the_tenant_serves_is_told_of_once_and_crosses_as_soon_as_the_super_cluster_serves_it()
 {
    const NOT_SERVED: &str = "KindNotServed";
    on_rig(Wish::default(), async |rig| {
        let any_host = json!({"spec": {"ingressHosts": ["*"]}});
        rig.side.merge(CLASS, "", "default", any_host).await?;
        let twin = rig.twin_of(0, "work").await?;
        let guest = &rig.tenants[0];
        let kind = [(HTTP_ROUTE, "Namespaced")];
        serve(&guest.side, &kind).await?;
        let route = json!({
            "metadata": {"name": "h", "namespace": "work"},
            "spec": {
                "hostnames": ["shop.example"], "parentRefs": [{"name": "g"}],
                "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
            },
        });
        let route = guest.side.create(HTTP_ROUTE, route).await?;
        read::event(&guest.side, HTTP_ROUTE, &route, NOT_SERVED).await?;
        let refused = async || -> anyhow::Result<f64> {
            let labels = [guest.id.as_str(), NOT_SERVED];
            let name = "sublet_syncer_refused_total";
            rig.syncer.metric(name, &labels).await
        };
        let is_told_once = async || -> anyhow::Result<()> {
            let told = guest.side.list(EVENT, "work", "").await?;
            let of_it: Vec<&Value> = told
                .iter()
                .filter(|event| text(event, "/involvedObject/uid") == uid(&route))
                .collect();
            ensure!(
                of_it.len() == 1
                    && text(of_it[0], "/reason") == NOT_SERVED
                    && of_it[0]["count"] == 1,
                "{of_it:?}"
            );
            Ok(())
        };
        let before = refused().await?;
        let edit = json!({"spec": {"hostnames": ["shop.example", "help.example"]}});
        let edited = guest.side.merge(HTTP_ROUTE, "work", "h", edit).await?;
        eventually(SOON, "the edit is refused as well", async || {
            ensure!(refused().await? > before, "it is as before");
            Ok(())
        })
        .await?;
        is_told_once().await?;
        let explained = format!(
            "explain {} httproute/work/h -n {NAMESPACE_OF_TESTS}",
            guest.name
        );
        let sublet = rig.sublet()?;
        sublet
            .run(&explained)
            .await?
            .says(&["It is refused: the platform doesn't serve"])?;

        serve(&rig.side, &kind).await?;
        eventually(SOON, "the route crosses", async || {
            let found = rig.side.get(HTTP_ROUTE, &twin, "h").await?;
            ensure!(
                annotation(&found, keys::UID) == Some(uid(&route))
                    && items(&found, "/spec/hostnames") == items(&edited, "/spec/hostnames"),
                "{found}"
            );
            Ok(())
        })
        .await?;
        is_told_once().await?;
        sublet.run(&explained).await?.says(&["It is synced."])?;
        oracle::all(rig).await
    });
}
