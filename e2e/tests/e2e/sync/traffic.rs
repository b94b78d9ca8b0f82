//! Ingresses, NetworkPolicies and PodDisruptionBudgets.

use anyhow::ensure;
use api::keys;
use e2e::{
    kind::{
        CLASS, DEPLOYMENT, DISRUPTION_BUDGET, INGRESS, INGRESS_CLASS, NAMESPACE, NETWORK_POLICY,
    },
    make,
    read::{self, text, uid},
    space::{Space, within},
    tenant::A,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

/// The class of the shared tenants lets each use names below its own.
async fn allow_hosts(space: &Space) -> anyhow::Result<String> {
    let hosts = json!({"spec": {"ingressHosts": ["*.{name}.example"]}});
    space.above().merge(CLASS, "", "default", hosts).await?;
    Ok(format!("shop.{}.example", space.tenant.name))
}

fn ingress(class: &str, host: &str) -> Value {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let paths = json!([{"path": "/", "pathType": "Prefix", "backend": backend}]);
    json!({
        "metadata": {"name": "web", "annotations": {"example.com/steers": "evil"}},
        "spec": {"ingressClassName": class, "rules": [{"host": host, "http": {"paths": paths}}]},
    })
}

#[test]
fn an_ingress_goes_down_and_its_address_comes_up() {
    within(A, "ingress", async |space| {
        let host = allow_hosts(space).await?;
        let class = make::unique("public");
        space
            .above()
            .create(
                INGRESS_CLASS,
                json!({"metadata": {"name": class, "labels": {keys::PUBLISHED: "true"}}, "spec": {"controller": "example.com/none"}}),
            )
            .await?;
        let result = crosses(space, &class, &host).await;
        space.above().delete(INGRESS_CLASS, "", &class).await?;
        result
    });
}

async fn crosses(space: &Space, class: &str, host: &str) -> anyhow::Result<()> {
    eventually(SOON, "the tenant sees the class", async || {
        Ok(space.side().get(INGRESS_CLASS, "", class).await?)
    })
    .await?;
    space.create(INGRESS, ingress(class, host)).await?;
    let twin = space.twin(INGRESS, "web").await?;
    ensure!(text(&twin, "/spec/rules/0/host") == host, "{twin}");
    ensure!(!twin.to_string().contains("evil"), "{twin}");
    let own = space.get(INGRESS, "web").await?;
    read::event(space.side(), INGRESS, &own, "LeftOut").await?;
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}});
    space
        .above()
        .merge_status(INGRESS, &space.twin, "web", status.clone())
        .await?;
    space
        .like(INGRESS, "web", "shows its address", SOON, |object| {
            object["status"] == status
        })
        .await?;
    let lie = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.66"}, {"ip": "192.0.2.67"}]}});
    space
        .side()
        .merge_status(INGRESS, &space.name, "web", lie)
        .await?;
    space
        .like(INGRESS, "web", "shows its address again", SOON, |object| {
            object["status"] == status
        })
        .await?;
    let twin = space.above().get(INGRESS, &space.twin, "web").await?;
    ensure!(twin["status"] == status, "{twin}");

    let mut greedy = ingress(class, "victim.example");
    greedy["metadata"]["name"] = "greedy".into();
    let greedy = space.create(INGRESS, greedy).await?;
    space.refused(INGRESS, &greedy, "HostNotAllowed").await?;
    let mut closed = ingress(class, host);
    closed["metadata"]["name"] = "closed".into();
    closed["metadata"]["annotations"]["nginx.ingress.kubernetes.io/auth-url"] =
        "https://a.example".into();
    let closed = space.create(INGRESS, closed).await?;
    space
        .refused(INGRESS, &closed, "AnnotationNotOffered")
        .await?;
    let mut unclassed = ingress("internal", host);
    unclassed["metadata"]["name"] = "unclassed".into();
    let unclassed = space.create(INGRESS, unclassed).await?;
    space
        .refused(INGRESS, &unclassed, "IngressClassNotOffered")
        .await?;

    space.delete(INGRESS, "web").await?;
    space.gone(INGRESS, "web").await
}

#[test]
fn a_network_policy_stays_inside_the_tenant_and_follows_its_namespaces() {
    within(A, "policy", async |space| {
        let spec = json!({
            "podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"namespaceSelector": {}}, {"namespaceSelector": {"matchLabels": {"for": space.name}}}]}],
            "egress": [{}],
        });
        space
            .create(
                NETWORK_POLICY,
                json!({"metadata": {"name": "p"}, "spec": spec}),
            )
            .await?;
        let twin = space.twin(NETWORK_POLICY, "p").await?;
        let peers = &twin["spec"]["ingress"][0]["from"];
        ensure!(
            peers[0]["namespaceSelector"]["matchLabels"][keys::TENANT].is_string(),
            "{peers}"
        );
        let named = |twin: &Value| {
            twin["spec"]["ingress"][0]["from"][1]["namespaceSelector"]["matchExpressions"][0]
                ["values"]
                .clone()
        };
        ensure!(named(&twin) != json!([space.twin]), "{peers}");
        // Everybody is whom the default allows: the class of tests opens nothing outside.
        let everywhere = twin["spec"]["egress"].to_string();
        ensure!(
            everywhere.contains(keys::TENANT) && !everywhere.contains("ipBlock"),
            "{everywhere}"
        );

        let labels = json!({"metadata": {"labels": {"for": space.name}}});
        space
            .side()
            .merge(NAMESPACE, "", &space.name, labels)
            .await?;
        let wanted = json!([space.twin]);
        space
            .twin_like(NETWORK_POLICY, "p", "names the namespace", |twin| {
                named(twin) == wanted
            })
            .await?;
        space.delete(NETWORK_POLICY, "p").await?;
        space.gone(NETWORK_POLICY, "p").await
    });
}

#[test]
fn a_disruption_budget_that_lets_no_pod_go_holds_in_the_tenant_alone() {
    within(A, "blocking", async |space| {
        let spec = json!({"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}});
        let budget = json!({"metadata": {"name": "web"}, "spec": spec});
        let budget = space.create(DISRUPTION_BUDGET, budget).await?;
        space
            .refused(DISRUPTION_BUDGET, &budget, "BudgetBlocksDrains")
            .await?;
        let say = async |missing: u8| {
            let spec = json!({"spec": {"maxUnavailable": missing}});
            space.merge(DISRUPTION_BUDGET, "web", spec).await
        };
        say(1).await?;
        let what = "lets pods go";
        space
            .twin_like(DISRUPTION_BUDGET, "web", what, |twin| {
                twin["spec"].get("minAvailable").is_some()
            })
            .await?;
        say(0).await?;
        eventually(SOON, "what was there goes", async || {
            let twin = space.find_twin(DISRUPTION_BUDGET, "web").await?;
            ensure!(twin.is_none(), "{twin:?}");
            Ok(())
        })
        .await
    });
}

#[test]
fn a_disruption_budget_goes_down_as_a_number_and_its_status_is_true() {
    within(A, "budget", async |space| {
        let deployment = make::deployment("web", 2, make::pod_spec(make::idle()));
        space.create(DEPLOYMENT, deployment).await?;
        space.rolled_out(DEPLOYMENT, "web", 2).await?;
        let spec = json!({"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}});
        let budget = json!({"metadata": {"name": "web"}, "spec": spec});
        let budget = space.create(DISRUPTION_BUDGET, budget).await?;
        space
            .like(
                DISRUPTION_BUDGET,
                "web",
                "allows one disruption",
                PODS,
                |object| {
                    object["status"]["disruptionsAllowed"] == 1
                        && object["status"]["currentHealthy"] == 2
                },
            )
            .await?;
        space
            .twin_like(DISRUPTION_BUDGET, "web", "protects one pod", |twin| {
                twin["spec"]["minAvailable"] == 1
                    && twin["spec"].get("maxUnavailable").is_none()
                    && twin["status"]["disruptionsAllowed"] == 1
            })
            .await?;
        let now = space.get(DISRUPTION_BUDGET, "web").await?;
        ensure!(
            uid(&now) == uid(&budget) && now["spec"] == budget["spec"],
            "{now}"
        );
        Ok(())
    });
}
