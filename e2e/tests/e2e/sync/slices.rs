//! EndpointSlices that a tenant writes itself.

use anyhow::ensure;
use e2e::{
    kind::{CONTROL_PLANE, ENDPOINT_SLICE, POD, SERVICE},
    make,
    read::{condition, has_ended, items, label, text},
    space::{Space, run, within},
    tenant::{A, NAMESPACE_OF_TESTS, Tenant, conditions},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

fn slice(name: &str, service: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
    })
}

fn without_selector(name: &str) -> Value {
    let mut service = make::service(name);
    service["spec"]["selector"] = Value::Null;
    service
}

#[test]
fn a_slice_leads_to_the_tenants_own_pods() {
    within(A, "slice", async |space| {
        space.create(SERVICE, without_selector("web")).await?;
        space.pod("backend", make::pod_spec(make::server())).await?;
        let pod = space.ready("backend").await?;
        space
            .create(
                ENDPOINT_SLICE,
                slice("web-1", "web", text(&pod, "/status/podIP")),
            )
            .await?;
        let twin = space.twin(ENDPOINT_SLICE, "web-1").await?;
        ensure!(
            label(&twin, "endpointslice.kubernetes.io/managed-by") == Some("sublet.dev"),
            "{twin}"
        );
        ensure!(
            label(&twin, "kubernetes.io/service-name") == Some("web"),
            "{twin}"
        );
        ensure!(items(&twin, "/endpoints").len() == 1, "{twin}");
        let said = space
            .ask(
                "client",
                "until wget -T 5 -qO /tmp/said http://web/hostname; do sleep 1; done; cat /tmp/said > /dev/termination-log",
            )
            .await?;
        ensure!(said == "backend", "{said:?} has answered");

        space.delete(POD, "backend").await?;
        eventually(
            SOON,
            "an address that is no longer the tenant's isn't served",
            async || {
                let twin = space.find_twin(ENDPOINT_SLICE, "web-1").await?;
                let served = twin
                    .map(|twin| items(&twin, "/endpoints").to_vec())
                    .unwrap_or_default();
                ensure!(served.is_empty(), "{served:?}");
                Ok(())
            },
        )
        .await
    });
}

#[test]
fn a_slice_with_a_foreign_address_is_refused() {
    within(A, "foreign", async |space| {
        space.create(SERVICE, without_selector("web")).await?;
        // An instance's metadata server; the super cluster's API server; a pod of the control plane.
        let above = space.above().get(SERVICE, "default", "kubernetes").await?;
        let own = space
            .above()
            .list(POD, &space.tenant.control_plane_namespace(), "")
            .await?;
        let etcd = own
            .iter()
            .map(|pod| text(pod, "/status/podIP"))
            .find(|address| !address.is_empty());
        let addresses = [
            Some("169.254.169.254"),
            Some(text(&above, "/spec/clusterIP")),
            etcd,
        ];
        for (name, address) in ["metadata", "super", "control-plane"]
            .into_iter()
            .zip(addresses)
        {
            let address = address.unwrap_or_default();
            match space
                .create(ENDPOINT_SLICE, slice(name, "web", address))
                .await
            {
                // Some addresses the tenant's own API server refuses.
                Err(problem) => ensure!(problem.code == 422, "{problem}"),
                Ok(made) => drop(
                    space
                        .refused(ENDPOINT_SLICE, &made, "ForeignAddress")
                        .await?,
                ),
            }
        }
        Ok(())
    });
}

async fn pause(tenant: &Tenant, paused: bool) -> anyhow::Result<()> {
    let paused = json!({"spec": {"paused": paused}});
    let above = &tenant.above;
    above
        .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name, paused)
        .await?;
    Ok(())
}

/// Two pods behind a slice, of which one ends while nobody serves the tenant.
async fn ends_meanwhile(space: &Space) -> anyhow::Result<()> {
    let tenant = &space.tenant;
    eventually(SOON, "nothing is synced any more", async || {
        let vcp = tenant
            .above
            .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
            .await?;
        ensure!(condition(&vcp, "Synced") == "False", "{}", conditions(&vcp));
        Ok(())
    })
    .await?;
    // The kubelet ends it, and it stays as what has ended.
    let deadline = json!({"spec": {"activeDeadlineSeconds": 1}});
    space
        .above()
        .merge(POD, &space.twin, "ends", deadline)
        .await?;
    space
        .twin_like(
            ENDPOINT_SLICE,
            "web-1",
            "lost the address of the pod that ended",
            |twin| items(twin, "/endpoints").len() == 1,
        )
        .await?;
    let ended = space.above().get(POD, &space.twin, "ends").await?;
    ensure!(has_ended(&ended), "{ended}");
    Ok(())
}

/// The next pod that has the address may be another tenant's.
#[test]
fn t17_an_address_leaves_the_slice_of_a_tenant_that_is_paused_when_its_pod_ends() {
    run(async || {
        let name = make::unique("e2e-slice");
        Tenant::within(&name, json!({}), async |tenant| {
            let space = Space::open(tenant.clone(), "work").await?;
            space.create(SERVICE, without_selector("web")).await?;
            let mut addresses = vec![];
            for name in ["ends", "stays"] {
                space.pod(name, make::once(make::server())).await?;
                let pod = space.ready(name).await?;
                addresses.push(text(&pod, "/status/podIP").to_owned());
            }
            let of =
                |address: &String| json!({"addresses": [address], "conditions": {"ready": true}});
            let mut both = slice("web-1", "web", "");
            both["endpoints"] = addresses.iter().map(of).collect();
            space.create(ENDPOINT_SLICE, both).await?;
            space
                .twin_like(ENDPOINT_SLICE, "web-1", "leads to both", |twin| {
                    items(twin, "/endpoints").len() == 2
                })
                .await?;
            pause(tenant, true).await?;
            let left = ends_meanwhile(&space).await;
            // What is paused isn't deleted.
            pause(tenant, false).await?;
            left?;
            space
                .like(POD, "ends", "has ended", PODS, has_ended)
                .await?;
            let twin = space.twin(ENDPOINT_SLICE, "web-1").await?;
            let left = text(&twin, "/endpoints/0/addresses/0");
            ensure!(items(&twin, "/endpoints").len() == 1, "{twin}");
            ensure!(left == addresses[1], "{twin}");
            Ok(())
        })
        .await
    });
}
