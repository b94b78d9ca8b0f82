//! What pods use: kubectl top, HorizontalPodAutoscalers, and what a virtual node's kubelet tells.

use crate::kubectl::with_kubectl;
use anyhow::{Context, ensure};
use e2e::{
    kind::{AUTOSCALER, DEPLOYMENT, NODE, POD, POD_METRICS},
    make,
    read::{items, name, text},
    space::{Space, within},
    tenant::{A, B},
    wait::{PODS, SOON, eventually, seldom},
    way_out::{Identity, WayOut},
};
use serde_json::{Value, json};

/// A container that uses all the CPU that it is let.
fn busy() -> Value {
    let mut container = make::shell("while :; do :; done");
    container["resources"] = json!({"requests": {"cpu": "20m"}, "limits": {"cpu": "60m"}});
    container
}

/// Waits until a pod was measured, and returns its PodMetrics.
///
/// metrics-server measures every 15 s or so, and the proxy lets a tenant ask only so often in all.
async fn measured(space: &Space, pod: &str) -> anyhow::Result<Value> {
    seldom(PODS, &format!("pod {pod} is measured"), async || {
        let seen = space.get(POD_METRICS, pod).await?;
        let cpu = text(&seen, "/containers/0/usage/cpu").to_owned();
        ensure!(cpu != "0" && !cpu.is_empty(), "{seen}");
        Ok(seen)
    })
    .await
}

#[test]
fn kubectl_top_shows_the_tenants_own_pods_and_nodes() {
    with_kubectl("top", async |space, kubectl| {
        let pod = json!({"metadata": {"name": "busy", "labels": {"app": "busy"}}, "spec": make::pod_spec(busy())});
        space.create(POD, pod).await?;
        space.ready("busy").await?;
        let seen = measured(space, "busy").await?;
        ensure!(text(&seen, "/metadata/namespace") == space.name, "{seen}");
        ensure!(text(&seen, "/metadata/labels/app") == "busy", "{seen}");

        let top = kubectl
            .run(&format!(
                "-n {} top pods -l app=busy --containers",
                space.name
            ))
            .await?;
        top.says(&["POD", "busy", "main", "CPU(cores)", "MEMORY(bytes)"])?;

        // Every virtual node has a figure, whether the tenant's pods run there or not.
        let nodes = space.side().list(NODE, "", "").await?;
        let top = kubectl.run("top nodes").await?;
        let names: Vec<&str> = nodes.iter().map(name).collect();
        let said = top.says(&names)?;
        ensure!(!said.contains("unknown"), "{said}");

        // And nothing of other tenants is among them.
        let place = |object: &Value| {
            (
                text(object, "/metadata/namespace").to_owned(),
                name(object).to_owned(),
            )
        };
        // Pods of other tests end between one list and the other.
        seldom(SOON, "all that is measured is the tenant's", async || {
            let own = space.side().list(POD, "", "").await?;
            let own: Vec<_> = own.iter().map(place).collect();
            let all = space.side().list(POD_METRICS, "", "").await?;
            ensure!(!all.is_empty());
            for seen in &all {
                ensure!(own.contains(&place(seen)), "{seen}");
                ensure!(!seen.to_string().contains("sublet.dev/"), "{seen}");
            }
            Ok(())
        })
        .await
    });
}

/// T31: the kubelet's figures are of the caller's own pods.
#[test]
fn t31_a_kubelets_figures_are_of_the_tenants_own_pods() {
    within(A, "figures", async |space| {
        space.pod("busy", make::pod_spec(busy())).await?;
        space.ready("busy").await?;
        measured(space, "busy").await?;
        let pod = space.get(POD, "busy").await?;
        let node = text(&pod, "/spec/nodeName");
        let out = WayOut::find(space.above()).await?;
        let own = Identity::of_api_server(&space.tenant).await?;
        let other = Identity::of_api_server(B.get().await?).await?;
        let get = async |who: &Identity, path: &str| {
            let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = out.kubelet_of(who, who, node, &head).await?;
            ensure!(answer.code == 200, "{path}: {answer:?}");
            anyhow::Ok(answer.body().to_owned())
        };
        let summary: Value = serde_json::from_str(&get(&own, "/stats/summary").await?)?;
        let told = items(&summary, "/pods")
            .iter()
            .find(|told| text(told, "/podRef/uid") == e2e::read::uid(&pod))
            .with_context(|| summary.to_string())?;
        ensure!(told["cpu"]["usageNanoCores"].as_u64() > Some(0), "{told}");
        let line = format!(
            "container=\"main\",namespace=\"{}\",pod=\"busy\"",
            space.name
        );
        let first = get(&own, "/metrics/resource").await?;
        ensure!(first.contains(&line), "{first}");
        eventually(SOON, "its seconds are counted up", async || {
            let now = get(&own, "/metrics/resource").await?;
            let counter = format!("container_cpu_usage_seconds_total{{{line}}} ");
            let value = now
                .split(&counter)
                .nth(1)
                .and_then(|rest| rest.split(' ').next());
            let value: f64 = value.context(now.clone())?.parse()?;
            ensure!(value > 0.0, "{value}");
            Ok(())
        })
        .await?;
        for path in ["/stats/summary", "/metrics/resource", "/pods"] {
            let told = get(&other, path).await?;
            ensure!(!told.contains(&space.name), "{path}: {told}");
            // As any client gets it, by the tenant's API server.
            let proxied = format!("/api/v1/nodes/{node}/proxy{path}");
            let told = space.side().text(&proxied).await?;
            ensure!(told.contains(&space.name), "{path}: {told}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_deployment_is_scaled_on_its_cpu() {
    within(A, "hpa", async |space| {
        let deployment = make::deployment("busy", 1, make::pod_spec(busy()));
        space.create(DEPLOYMENT, deployment).await?;
        let target = json!({"type": "Utilization", "averageUtilization": 50});
        let autoscaler = json!({
            "metadata": {"name": "busy"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
                "minReplicas": 1, "maxReplicas": 2,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            },
        });
        space.create(AUTOSCALER, autoscaler).await?;
        space
            .like(AUTOSCALER, "busy", "wants two replicas", 2 * PODS, |hpa| {
                hpa["status"]["desiredReplicas"] == 2
            })
            .await?;
        space.rolled_out(DEPLOYMENT, "busy", 2).await?;
        Ok(())
    });
}
