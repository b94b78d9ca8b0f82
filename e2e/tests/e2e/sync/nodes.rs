use anyhow::{Context, ensure};
use e2e::{
    kind::{CONTROL_PLANE, DAEMON_SET, NODE, POD},
    make, oracle,
    read::{self, condition, items, label, name, text, uid},
    rig::{
        Guest, Wish, on_rig,
        player::{THE_NODE, add_node},
        syncer::Periods,
    },
    space::{run, within},
    tenant::{A, B, NAMESPACE_OF_TESTS},
    wait::{SOON, eventually},
};
use serde_json::{Value, json};

#[test]
fn a_tenant_sees_the_nodes_without_what_identifies_them() {
    run(async || {
        let tenant = A.get().await?;
        let real = tenant.above.list(NODE, "", "").await?;
        let names = |nodes: &[Value]| {
            nodes
                .iter()
                .map(|node| name(node).to_owned())
                .collect::<Vec<_>>()
        };
        let seen = eventually(SOON, "the tenant sees all nodes", async || {
            let seen = tenant.side.list(NODE, "", "").await?;
            ensure!(
                names(&seen) == names(&real),
                "{:?} instead of {:?}",
                names(&seen),
                names(&real)
            );
            Ok(seen)
        })
        .await?;
        for node in &seen {
            ensure!(condition(node, "Ready") == "True", "{node}");
            ensure!(label(node, "sublet.dev/virtual") == Some("true"), "{node}");
            let addresses = items(node, "/status/addresses");
            ensure!(
                addresses.iter().all(
                    |address| address["type"] == "Hostname" || address["type"] == "InternalDNS"
                ),
                "{addresses:?}"
            );
            let twin = real
                .iter()
                .find(|twin| name(twin) == name(node))
                .context("a node of that name")?;
            ensure!(
                node["status"]["capacity"] == twin["status"]["capacity"],
                "{}",
                node["status"]
            );
            for hidden in ["machineID", "systemUUID", "bootID"] {
                ensure!(
                    text(&node["status"]["nodeInfo"], &format!("/{hidden}")).is_empty(),
                    "{hidden} is told"
                );
            }
            let address = items(twin, "/status/addresses")
                .iter()
                .find(|address| address["type"] == "InternalIP");
            let address = text(address.context("a real node has an address")?, "/address");
            ensure!(
                !node.to_string().contains(address),
                "the node's real address is told"
            );
            ensure!(
                node["status"].get("images").is_none() && node["spec"].get("podCIDR").is_none(),
                "{node}"
            );
        }
        Ok(())
    });
}

#[test]
fn what_a_tenant_does_to_a_virtual_node_is_undone() {
    run(async || {
        // The other tenant's: a taint or a missing node would disturb tests of the first for a moment.
        let tenant = B.get().await?;
        let nodes = tenant.side.list(NODE, "", "").await?;
        let before = nodes.last().context("the tenant sees nodes")?.clone();
        let edit = json!({"metadata": {"labels": {"mine": "x"}}, "spec": {"taints": [{"key": "mine", "effect": "NoSchedule"}]}});
        tenant.side.merge(NODE, "", name(&before), edit).await?;
        let lie = json!({"capacity": {"cpu": "1000"}, "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]});
        tenant
            .side
            .merge_status(NODE, "", name(&before), lie)
            .await?;
        eventually(SOON, "the node is as it was", async || {
            let node = tenant.side.get(NODE, "", name(&before)).await?;
            ensure!(
                label(&node, "mine").is_none() && node["spec"].get("taints").is_none(),
                "{node}"
            );
            ensure!(
                node["status"]["capacity"] == before["status"]["capacity"],
                "{}",
                node["status"]["capacity"]
            );
            ensure!(
                node["status"]["addresses"] == before["status"]["addresses"],
                "{}",
                node["status"]["addresses"]
            );
            Ok(())
        })
        .await?;
        tenant.side.delete(NODE, "", name(&before)).await?;
        eventually(SOON, "a deleted node is there again", async || {
            let node = tenant.side.get(NODE, "", name(&before)).await?;
            ensure!(uid(&node) != uid(&before), "it is still the old one");
            Ok(())
        })
        .await
    });
}

#[test]
fn a_pod_can_ask_for_a_node_by_its_labels() {
    within(A, "place", async |space| {
        let nodes = space.side().list(NODE, "", "").await?;
        for (index, node) in nodes.iter().enumerate() {
            let hostname =
                label(node, "kubernetes.io/hostname").context("nodes carry their host name")?;
            let mut spec = make::pod_spec(make::idle());
            spec["nodeSelector"] = json!({"kubernetes.io/hostname": hostname});
            let pod = format!("on-{index}");
            space.pod(&pod, spec).await?;
            let pod = space.ready(&pod).await?;
            ensure!(
                text(&pod, "/spec/nodeName") == name(node),
                "{}",
                pod["spec"]["nodeName"]
            );
            let twin = space.twin(POD, name(&pod)).await?;
            ensure!(text(&twin, "/spec/nodeName") == name(node));
        }
        Ok(())
    });
}

#[test]
fn a_tenant_may_be_shown_the_nodes_alone_that_its_pods_run_on() {
    let wish = Wish {
        periods: Periods {
            unneeded: Some(2),
            ..Periods::default()
        },
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        add_node(&rig.side, "rig-other").await?;
        let guest = &rig.tenants[0];
        sees(guest, &["rig-node", "rig-other"]).await?;
        let used = json!({"spec": {"sync": {"nodes": "Used"}}});
        rig.side
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &guest.name, used)
            .await?;
        sees(guest, &[]).await?;
        guest.namespace("work").await?;
        let pod = |name: &str| {
            let metadata = json!({"name": name, "namespace": "work"});
            json!({"metadata": metadata, "spec": make::pod_spec(make::idle())})
        };
        guest.side.create(POD, pod("web")).await?;
        sees(guest, &[THE_NODE]).await?;
        // The garbage collector would take a pod whose owner isn't there.
        let labels = json!({"app": "daemon"});
        let set = json!({
            "metadata": {"name": "daemon", "namespace": "work"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": make::pod_spec(make::idle())},
            },
        });
        let set = guest.side.create(DAEMON_SET, set).await?;
        let mut daemon = pod("daemon");
        daemon["metadata"]["ownerReferences"] = json!([
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "daemon", "uid": uid(&set), "controller": true},
        ]);
        let daemon = guest.side.create(POD, daemon).await?;
        read::event(&guest.side, POD, &daemon, "DaemonSetsNotServed").await?;
        guest.side.delete(POD, "work", "web").await?;
        sees(guest, &[]).await?;
        oracle::pairs::agree(rig, guest).await
    });
}

async fn sees(guest: &Guest, wanted: &[&str]) -> anyhow::Result<()> {
    let what = format!("{} sees the nodes {wanted:?}", guest.name);
    eventually(SOON, &what, async || {
        let seen = guest.side.list(NODE, "", "").await?;
        let seen: Vec<&str> = seen.iter().map(name).collect();
        ensure!(seen == wanted, "{seen:?}");
        Ok(())
    })
    .await
}
