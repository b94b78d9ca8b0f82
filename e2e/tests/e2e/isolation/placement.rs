//! Which nodes a tenant's pods run on is the platform's to say (T9), and a tenant that is held to some sees those alone.

use anyhow::ensure;
use e2e::{
    kind::{CLASS, CONTROL_PLANE, NODE, POD},
    make,
    read::{event, label, name, text},
    rig::{
        Rig, Wish, on_rig,
        player::{THE_NODE, add_node},
        syncer::Periods,
    },
    side::Side,
    space::within,
    tenant::{A, NAMESPACE_OF_TESTS},
    wait::{PODS, SOON, eventually},
};
use http::Method;
use serde_json::{Value, json};

/// A pod that says what nodes it may run on.
fn pod(name: &str, selector: Value) -> Value {
    let mut spec = make::pod_spec(make::idle());
    spec["nodeSelector"] = selector;
    json!({"metadata": {"name": name}, "spec": spec})
}

/// Does a scheduler's work, as whoever may bind pods.
async fn bind(side: &Side, namespace: &str, pod: &str, node: &str) -> anyhow::Result<()> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod, "namespace": namespace},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let path = POD.path(namespace, pod) + "/binding";
    side.request(Method::POST, &path, Some(binding)).await?;
    Ok(())
}

#[test]
fn t9_a_binding_by_the_tenants_admin_binds_nothing_in_the_super_cluster() {
    within(A, "binding", async |space| {
        let nodes = space.side().list(NODE, "", "").await?;
        let node = nodes.first().map(name).unwrap_or_default();
        // No node has that name, so the super cluster's scheduler leaves the super pod where it is.
        let waits = pod("waits", json!({"kubernetes.io/hostname": "nowhere"}));
        space.create(POD, waits).await?;
        space.twin(POD, "waits").await?;
        // And this one has no super pod, since it goes around the platform.
        let mut around = pod("around", json!({}));
        around["spec"]["schedulerName"] = "other".into();
        let around = space.create(POD, around).await?;
        space.refused(POD, &around, "SchedulerNotOffered").await?;
        for pod in ["around", "waits"] {
            bind(space.side(), &space.name, pod, node).await?;
        }
        let later = json!({"metadata": {"labels": {"after": "binding"}}});
        space.merge(POD, "waits", later).await?;
        let is_later = |twin: &Value| label(twin, "after") == Some("binding");
        let twin = space
            .twin_like(POD, "waits", "has what came later", is_later)
            .await?;
        ensure!(text(&twin, "/spec/nodeName").is_empty(), "{}", twin["spec"]);
        ensure!(
            space.find_twin(POD, "around").await?.is_none(),
            "it was made"
        );
        Ok(())
    });
}

/// The names of the nodes that somebody sees, when they are these.
async fn sees(side: &Side, expected: &[&str]) -> anyhow::Result<()> {
    eventually(PODS, &format!("{expected:?} are seen"), async || {
        let nodes = side.list(NODE, "", "").await?;
        let mut names: Vec<&str> = nodes.iter().map(name).collect();
        names.sort_unstable();
        ensure!(names == expected, "{names:?}");
        Ok(())
    })
    .await
}

/// Makes a pod that no player binds, and gives it back.
async fn gated(rig: &Rig, name: &str, selector: Value) -> anyhow::Result<Value> {
    let mut pod = pod(name, selector);
    pod["metadata"]["namespace"] = "default".into();
    pod["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    Ok(rig.tenants[0].side.create(POD, pod).await?)
}

#[test]
fn a_tenant_that_is_held_to_some_nodes_sees_them_alone_and_its_pods_run_on_no_other() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        for (name, pool, room) in [
            ("acme-1", "tenants", "one"),
            ("acme-2", "tenants", "two"),
            ("theirs", "platform", "one"),
        ] {
            add_node(&rig.side, name).await?;
            let labels = json!({"metadata": {"labels": {"pool": pool, "room": room}}});
            rig.side.merge(NODE, "", name, labels).await?;
        }
        sees(&guest.side, &["acme-1", "acme-2", "rig-node", "theirs"]).await?;

        let class = json!({"spec": {"pods": {"nodeSelector": {"pool": "tenants"}}}});
        rig.side.merge(CLASS, "", "default", class).await?;
        sees(&guest.side, &["acme-1", "acme-2"]).await?;
        // A VirtualControlPlane narrows that, and says nothing under a key of its class.
        let own =
            json!({"spec": {"policy": {"nodeSelector": {"pool": "platform", "room": "one"}}}});
        rig.side
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &guest.name, own)
            .await?;
        sees(&guest.side, &["acme-1"]).await?;

        let twin = guest.twin("default");
        let both = json!({"pool": "tenants", "room": "one"});
        for (name, asked) in [("silent", json!({})), ("same", json!({"room": "one"}))] {
            gated(rig, name, asked).await?;
            let made = eventually(SOON, &format!("{name} crosses"), async || {
                Ok(rig.side.get(POD, &twin, name).await?)
            })
            .await?;
            ensure!(made["spec"]["nodeSelector"] == both, "{}", made["spec"]);
        }
        for (name, asked) in [
            ("pool", json!({"pool": "platform"})),
            ("room", json!({"room": "two"})),
        ] {
            let refused = gated(rig, name, asked).await?;
            event(&guest.side, POD, &refused, "NodeSelectorConflict").await?;
            ensure!(
                rig.side.find(POD, &twin, name).await?.is_none(),
                "{name} was made"
            );
        }
        Ok(())
    });
}

#[test]
fn a_tenant_sees_the_nodes_that_meet_its_classs_terms_and_its_own_and_its_pods_run_there() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        for (name, pool, room) in [
            ("acme-1", "tenants", "one"),
            ("acme-2", "spare", "two"),
            ("theirs", "platform", "one"),
        ] {
            add_node(&rig.side, name).await?;
            let labels = json!({"metadata": {"labels": {"pool": pool, "room": room}}});
            rig.side.merge(NODE, "", name, labels).await?;
        }
        let asks = |key: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": "In", "values": values}]});
        let pools = asks("pool", json!(["tenants", "spare"]));
        let class = json!({"spec": {"pods": {"nodeAffinity": {"required": [pools]}}}});
        rig.side.merge(CLASS, "", "default", class).await?;
        sees(&guest.side, &["acme-1", "acme-2"]).await?;
        let rooms = asks("room", json!(["one"]));
        let own = json!({"spec": {"policy": {"nodeAffinity": {"required": [rooms]}}}});
        rig.side
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &guest.name, own)
            .await?;
        sees(&guest.side, &["acme-1"]).await?;

        gated(rig, "silent", json!({})).await?;
        let twin = guest.twin("default");
        let made = eventually(SOON, "silent crosses", async || {
            Ok(rig.side.get(POD, &twin, "silent").await?)
        })
        .await?;
        let affinity = &made["spec"]["affinity"]["nodeAffinity"];
        let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
        let asked = [rooms, pools].map(|term| term["matchExpressions"][0].clone());
        ensure!(
            required["nodeSelectorTerms"] == json!([{"matchExpressions": asked}]),
            "{}",
            made["spec"]
        );
        Ok(())
    });
}

/// Else each DaemonSet of a tenant would wait for ever for its pod on a control plane's node.
#[test]
fn a_node_that_is_kept_for_others_is_shown_while_a_pod_of_the_tenant_is_there_and_to_whom_it_is_for()
 {
    let wish = Wish {
        periods: Periods {
            unneeded: Some(2),
            ..Periods::default()
        },
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        let guest = &rig.tenants[0];
        add_node(&rig.side, "kept").await?;
        sees(&guest.side, &["kept", THE_NODE]).await?;
        let taint =
            json!({"key": "example.com/customer", "value": "globex", "effect": "NoSchedule"});
        let tainted = json!({"spec": {"taints": [taint]}});
        rig.side.merge(NODE, "", "kept", tainted).await?;
        sees(&guest.side, &[THE_NODE]).await?;

        // Whatever brought a pod of the tenant there: its own controllers mustn't take it for lost.
        let mut web = pod("web", json!({"kubernetes.io/hostname": "kept"}));
        web["metadata"]["namespace"] = "default".into();
        guest.side.create(POD, web).await?;
        sees(&guest.side, &["kept", THE_NODE]).await?;
        let ours = json!([{"key": "sublet.dev/kept-for-others", "effect": "NoSchedule"}]);
        eventually(SOON, "it has our taint and no other", async || {
            let node = guest.side.get(NODE, "", "kept").await?;
            ensure!(node["spec"]["taints"] == ours, "{}", node["spec"]);
            Ok(())
        })
        .await?;
        guest.side.delete(POD, "default", "web").await?;
        sees(&guest.side, &[THE_NODE]).await?;

        let toleration = json!({"key": "example.com/customer", "value": "globex"});
        let class = json!({"spec": {"pods": {"tolerations": [toleration]}}});
        rig.side.merge(CLASS, "", "default", class).await?;
        sees(&guest.side, &["kept", THE_NODE]).await?;
        let node = guest.side.get(NODE, "", "kept").await?;
        ensure!(!node.to_string().contains("globex"), "{node}");
        Ok(())
    });
}

#[test]
fn t9_a_node_that_a_tenant_merely_names_isnt_shown() {
    let wish = Wish {
        controllers: false,
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        let guest = &rig.tenants[0];
        guest.account().await?;
        add_node(&rig.side, "theirs").await?;
        let used = json!({"spec": {"sync": {"nodes": "Used"}}});
        rig.side
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &guest.name, used)
            .await?;
        sees(&guest.side, &[]).await?;

        let make = async |mut pod: Value| {
            pod["metadata"]["namespace"] = "default".into();
            guest.side.create(POD, pod).await
        };
        let mut named = pod("named", json!({}));
        named["spec"]["nodeName"] = "theirs".into();
        let named = make(named).await?;
        event(&guest.side, POD, &named, "NodeNameSet").await?;
        // The tenant's own scheduler binds this one.
        let mut around = pod("around", json!({}));
        around["spec"]["schedulerName"] = "other".into();
        let around = make(around).await?;
        event(&guest.side, POD, &around, "SchedulerNotOffered").await?;
        bind(&guest.side, "default", "around", "theirs").await?;

        // What is bound by the super cluster shows its node, after all of that; the other one isn't there even for a moment.
        make(pod("web", json!({}))).await?;
        let seen = eventually(PODS, "the node of web is seen", async || {
            let nodes = guest.side.list(NODE, "", "").await?;
            ensure!(nodes.iter().any(|node| name(node) == THE_NODE));
            Ok(nodes)
        })
        .await?;
        ensure!(
            seen.len() == 1,
            "{:?}",
            seen.iter().map(name).collect::<Vec<_>>()
        );
        let asks = make(pod("asks", json!({"kubernetes.io/hostname": "theirs"}))).await?;
        event(&guest.side, POD, &asks, "NodeNotShown").await?;
        sees(&guest.side, &[THE_NODE]).await?;
        let stays = guest.side.find(POD, "default", "named").await?;
        ensure!(stays.is_some(), "a pod that is refused stays the tenant's");
        let twin = guest.twin("default");
        for name in ["named", "around", "asks"] {
            ensure!(
                rig.side.find(POD, &twin, name).await?.is_none(),
                "{name} was made"
            );
        }
        Ok(())
    });
}
