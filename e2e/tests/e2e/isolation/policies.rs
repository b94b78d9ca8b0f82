//! The NetworkPolicies that isolate a tenant stand before anything that they are for, and stay as they are.

use anyhow::{Context, ensure};
use api::keys;
use e2e::{
    faultproxy::rule::{Action, Rule, Times},
    kind::{NETWORK_POLICY, POD, SERVICE},
    make, oracle,
    read::{event, label, name, uid},
    rig::{Rig, Wish, audit::deeds, on_rig},
    wait::{SOON, eventually},
};
use serde_json::{Value, json};

/// What every namespace has.
const ALL: [&str; 3] = ["sublet-egress", "sublet-ingress", "sublet-isolation"];

async fn pod(rig: &Rig, namespace: &str, name: &str) -> anyhow::Result<Value> {
    let metadata = json!({"name": name, "namespace": namespace, "labels": {"app": name}});
    let pod = json!({"metadata": metadata, "spec": make::pod_spec(make::idle())});
    Ok(rig.tenants[0].side.create(POD, pod).await?)
}

async fn standing(rig: &Rig, twin: &str) -> anyhow::Result<Vec<Value>> {
    let selector = format!("{}={}", keys::ROLE, keys::ROLE_ISOLATION);
    Ok(rig.side.list(NETWORK_POLICY, twin, &selector).await?)
}

async fn all_stand(rig: &Rig, twin: &str) -> anyhow::Result<Vec<Value>> {
    eventually(SOON, "the isolating policies stand", async || {
        let policies = standing(rig, twin).await?;
        let names: Vec<&str> = policies.iter().map(name).collect();
        ensure!(names == ALL, "{names:?}");
        Ok(policies)
    })
    .await
}

#[test]
fn no_pod_is_made_before_its_namespace_is_isolated() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        let refuse = Rule::new(
            |asked| asked.verb == "create" && asked.resource == "networkpolicies",
            Times::All,
            Action::Answer(500),
        );
        rig.proxy.add(refuse.clone());
        guest.namespace("work").await?;
        pod(rig, "work", "web").await?;
        eventually(
            SOON,
            "the policies were tried again and again",
            async || {
                ensure!(refuse.met() > 3, "{} times", refuse.met());
                Ok(())
            },
        )
        .await?;
        let twin = guest.twin("work");
        ensure!(
            rig.side.find(POD, &twin, "web").await?.is_none(),
            "a pod without isolation"
        );
        rig.proxy.clear();
        all_stand(rig, &twin).await?;
        eventually(SOON, "the pod is made then", async || {
            Ok(rig.side.get(POD, &twin, "web").await?)
        })
        .await?;
        let deeds = deeds(&rig.above.audit_log())?;
        let first = |resource: &str, object: &str| {
            let found = deeds.iter().find(|deed| {
                deed.verb == "create"
                    && deed.resource == resource
                    && deed.namespace == twin
                    && deed.name == object
            });
            found
                .map(|deed| deed.at.clone())
                .with_context(|| format!("no {object} was made"))
        };
        for policy in ALL {
            ensure!(
                first("networkpolicies", policy)? < first("pods", "web")?,
                "{policy} came late"
            );
        }
        oracle::all(rig).await
    });
}

#[test]
fn isolation_that_somebody_edits_or_deletes_is_made_good() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        guest.namespace("work").await?;
        pod(rig, "work", "web").await?;
        let mut service = make::service("web");
        service["metadata"]["namespace"] = "work".into();
        service["spec"]["type"] = "NodePort".into();
        guest.side.create(SERVICE, service).await?;
        let twin = guest.twin("work");
        let named = |policies: &[Value], wanted: &str| -> anyhow::Result<Value> {
            let found = policies.iter().find(|policy| name(policy) == wanted);
            found.cloned().with_context(|| format!("no {wanted}"))
        };
        let before = eventually(SOON, "all policies stand", async || {
            let policies = standing(rig, &twin).await?;
            ensure!(policies.len() == 4, "{}", policies.len());
            Ok(policies)
        })
        .await?;
        for policy in &before {
            let (wanted, everybody) = (
                name(policy),
                json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}}),
            );
            rig.side
                .merge(NETWORK_POLICY, &twin, wanted, everybody)
                .await?;
            let back = |spec: &Value| spec == &policy["spec"];
            eventually(SOON, &format!("{wanted} is what it was"), async || {
                let now = rig.side.get(NETWORK_POLICY, &twin, wanted).await?;
                ensure!(back(&now["spec"]), "{now}");
                Ok(())
            })
            .await?;
            rig.side.delete(NETWORK_POLICY, &twin, wanted).await?;
            eventually(SOON, &format!("{wanted} is there again"), async || {
                let now = named(&standing(rig, &twin).await?, wanted)?;
                ensure!(back(&now["spec"]) && uid(&now) != uid(policy), "{now}");
                Ok(())
            })
            .await?;
        }
        // What happens while the syncer is down, it finds when it is back.
        rig.syncer.kill();
        rig.side
            .delete(NETWORK_POLICY, &twin, "sublet-egress")
            .await?;
        rig.syncer.start().await?;
        eventually(SOON, "the policy is there again", async || {
            named(&standing(rig, &twin).await?, "sublet-egress").map(drop)
        })
        .await?;
        oracle::all(rig).await
    });
}

#[test]
fn a_pod_says_whether_policies_of_its_tenant_rule_it() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        guest.namespace("work").await?;
        for name in ["web", "db"] {
            pod(rig, "work", name).await?;
        }
        let twin = guest.twin("work");
        let says = async |pod: &str, ingress: &str, egress: &str| {
            eventually(
                SOON,
                &format!("{pod} says {ingress} and {egress}"),
                async || {
                    let twin = rig.side.get(POD, &twin, pod).await?;
                    let said = [keys::INGRESS, keys::EGRESS].map(|key| label(&twin, key));
                    ensure!(said == [Some(ingress), Some(egress)], "{said:?}");
                    Ok(())
                },
            )
            .await
        };
        for name in ["web", "db"] {
            says(name, keys::BY_DEFAULT, keys::BY_DEFAULT).await?;
        }
        let policy = json!({
            "metadata": {"name": "p", "namespace": "work"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"],
                "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}],
            },
        });
        let policy = guest.side.create(NETWORK_POLICY, policy).await?;
        says("web", keys::BY_POLICY, keys::BY_POLICY).await?;
        says("db", keys::BY_DEFAULT, keys::BY_DEFAULT).await?;
        // What the platform doesn't open is told.
        event(&guest.side, NETWORK_POLICY, &policy, "EgressNotOpen").await?;
        eventually(SOON, "it crosses without that", async || {
            let twin_policy = rig.side.get(NETWORK_POLICY, &twin, "p").await?;
            let egress = twin_policy["spec"]["egress"].as_array();
            ensure!(egress.is_none_or(Vec::is_empty), "{twin_policy}");
            Ok(())
        })
        .await?;
        guest.side.delete(NETWORK_POLICY, "work", "p").await?;
        says("web", keys::BY_DEFAULT, keys::BY_DEFAULT).await?;
        oracle::all(rig).await
    });
}
