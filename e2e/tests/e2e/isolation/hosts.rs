//! T19: a host belongs to the tenant that had it first.

use anyhow::ensure;
use api::keys;
use e2e::{
    kind::{CLASS, INGRESS, INGRESS_CLASS},
    oracle,
    read::{event, items, text},
    rig::{Rig, Wish, on_rig},
    wait::{PODS, SOON, eventually},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Hosts for which both tenants come at once.
const CONTESTED: usize = 20;

async fn ingress(rig: &Rig, tenant: usize, name: &str, host: &str) -> anyhow::Result<Value> {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let paths = json!([{"path": "/", "pathType": "Prefix", "backend": backend}]);
    let ingress = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ingressClassName": "public", "rules": [{"host": host, "http": {"paths": paths}}]},
    });
    Ok(rig.tenants[tenant].side.create(INGRESS, ingress).await?)
}

/// Hosts in the super cluster, and how many tenants' Ingresses name each.
async fn hosts(rig: &Rig) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut hosts = BTreeMap::new();
    for twin in rig.side.list(INGRESS, "", keys::TENANT).await? {
        for rule in items(&twin, "/spec/rules") {
            *hosts.entry(text(rule, "/host").to_owned()).or_default() += 1;
        }
    }
    Ok(hosts)
}

#[test]
fn t19_a_host_belongs_to_the_tenant_that_had_it_first() {
    let wish = Wish {
        tenants: 2,
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        let class = json!({
            "metadata": {"name": "public", "labels": {keys::PUBLISHED: "true"}}, "spec": {"controller": "example.com/none"},
        });
        rig.side.create(INGRESS_CLASS, class).await?;
        let any = json!({"spec": {"ingressHosts": ["*"]}});
        rig.side.merge(CLASS, "", "default", any).await?;
        for guest in &rig.tenants {
            eventually(SOON, "the class is shown", async || {
                Ok(guest.side.get(INGRESS_CLASS, "", "public").await?)
            })
            .await?;
        }
        ingress(rig, 0, "first", "shop.example").await?;
        eventually(SOON, "the first crosses", async || {
            let hosts = hosts(rig).await?;
            ensure!(hosts.get("shop.example") == Some(&1), "{hosts:?}");
            Ok(())
        })
        .await?;
        for (name, host) in [("same", "shop.example"), ("above", "*.example")] {
            let thief = ingress(rig, 1, name, host).await?;
            event(&rig.tenants[1].side, INGRESS, &thief, "HostTaken").await?;
        }
        ingress(rig, 1, "other", "other.test").await?;
        // A tenant's own hosts may overlap as they like.
        ingress(rig, 0, "wide", "*.example").await?;
        eventually(SOON, "what is free crosses", async || {
            let found = hosts(rig).await?;
            let wanted = [("*.example", 1), ("other.test", 1), ("shop.example", 1)];
            let wanted: BTreeMap<String, usize> =
                wanted.map(|(host, count)| (host.to_owned(), count)).into();
            ensure!(found == wanted, "{found:?}");
            Ok(())
        })
        .await?;
        for name in ["first", "wide"] {
            rig.tenants[0].side.delete(INGRESS, "default", name).await?;
        }
        eventually(SOON, "what is free again is whose turn it is", async || {
            let own = rig.tenants[1].twin("default");
            for name in ["same", "above"] {
                rig.side.get(INGRESS, &own, name).await?;
            }
            Ok(())
        })
        .await?;

        // Both at once: in the end each host is one tenant's, and stays so.
        let comers = stream::iter(0..2 * CONTESTED).map(async |number| {
            let (tenant, host) = (number % 2, number / 2);
            ingress(
                rig,
                tenant,
                &format!("c{host}"),
                &format!("c{host}.contested.test"),
            )
            .await
        });
        comers
            .buffer_unordered(2 * CONTESTED)
            .try_collect::<Vec<_>>()
            .await?;
        eventually(PODS, "each host is one tenant's", async || {
            let mut found = hosts(rig).await?;
            found.retain(|host, _| host.ends_with(".contested.test"));
            ensure!(found.len() == CONTESTED, "{found:?}");
            ensure!(found.values().all(|count| *count == 1), "{found:?}");
            Ok(())
        })
        .await?;
        oracle::calm::nothing_is_written(rig).await?;
        oracle::terms::are_kept(rig).await
    });
}
