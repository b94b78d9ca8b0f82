//! The checks of the Multi-Tenancy Benchmark that nothing else shows, as they apply to Sublet: the tenant's own API lets it
//! ask, and no object that violates a check comes into being in the super cluster.

use anyhow::{Context, ensure};
use e2e::{
    kind::{
        CLUSTER_ROLE_BINDING, CONFIG_MAP, CONTROL_PLANE, DEPLOYMENT, EVENT, NAMESPACE,
        NETWORK_POLICY, NODE, POD, RESOURCE_QUOTA, ROLE, ROLE_BINDING, SECRET, SERVICE,
    },
    make, oracle,
    read::{event, items, name, text, uid},
    rig::{Rig, Wish, on_rig},
    side::{PatchType, Side},
    space::run,
    tenant::{A, B, NAMESPACE_OF_TESTS},
    wait::{SOON, eventually},
};
use http::Method;
use serde_json::{Value, json};

fn wish() -> Wish {
    Wish {
        controllers: false,
        ..Wish::default()
    }
}

async fn account(rig: &Rig) -> anyhow::Result<()> {
    rig.tenants[0].account().await?;
    Ok(())
}

/// A pod that meets `restricted`.
fn harmless(name: &str) -> Value {
    let mut container = make::idle();
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let metadata = json!({"name": name, "namespace": "default"});
    json!({"metadata": metadata, "spec": make::pod_spec(container)})
}

/// Makes a pod violate a check.
type Violate = fn(&mut Value);

/// Each check, and what it does to a pod.
fn violations() -> Vec<(&'static str, Violate)> {
    fn context(pod: &mut Value) -> &mut Value {
        &mut pod["spec"]["containers"][0]["securityContext"]
    }
    vec![
        ("cpi-3-capabilities", |pod| {
            context(pod)["capabilities"] = json!({"drop": ["ALL"], "add": ["NET_ADMIN"]});
        }),
        ("cpi-3-capabilities-kept", |pod| {
            context(pod)["capabilities"] = json!({});
        }),
        ("cpi-4-root", |pod| {
            context(pod)["runAsNonRoot"] = false.into();
            context(pod)["runAsUser"] = 0.into();
        }),
        ("cpi-5-privileged", |pod| {
            context(pod)["privileged"] = true.into();
            context(pod)["allowPrivilegeEscalation"] = true.into();
        }),
        ("cpi-6-escalation", |pod| {
            context(pod)["allowPrivilegeEscalation"] = true.into();
        }),
        ("hi-1-host-path", |pod| {
            pod["spec"]["volumes"] = json!([{"name": "h", "hostPath": {"path": "/"}}]);
        }),
        ("hi-3-host-network", |pod| {
            pod["spec"]["hostNetwork"] = true.into();
        }),
        ("hi-3-host-port", |pod| {
            pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
        }),
        ("hi-4-host-pid", |pod| {
            pod["spec"]["hostPID"] = true.into();
        }),
        ("hi-5-host-ipc", |pod| {
            pod["spec"]["hostIPC"] = true.into();
        }),
    ]
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn mtb_pods_that_violate_a_check_are_not_made() {
    on_rig(wish(), async |rig| {
        let guest = &rig.tenants[0];
        account(rig).await?;
        let restricted = json!({"spec": {"policy": {"podSecurity": "restricted"}}});
        rig.side
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &guest.name, restricted)
            .await?;
        let twin = guest.twin("default");
        eventually(SOON, "the tenant is restricted", async || {
            let space = rig
                .side
                .find(NAMESPACE, "", &twin)
                .await?
                .context("no super namespace yet")?;
            let level = text(
                &space,
                "/metadata/labels/pod-security.kubernetes.io~1enforce",
            );
            ensure!(level == "restricted", "{level}");
            Ok(())
        })
        .await?;
        for (check, violate) in violations() {
            let mut pod = harmless(check);
            violate(&mut pod);
            let made = guest.side.create(POD, pod).await?;
            eventually(SOON, &format!("{check} is told"), async || {
                let events = guest.side.list(EVENT, "default", "").await?;
                let is_told = events.iter().any(|event| {
                    text(event, "/involvedObject/uid") == uid(&made)
                        && text(event, "/source/component") == api::keys::SYNCER_COMPONENT
                });
                ensure!(is_told, "no event");
                Ok(())
            })
            .await?;
            ensure!(
                rig.side.find(POD, &twin, check).await?.is_none(),
                "{check}: the super pod exists"
            );
        }
        guest.side.create(POD, harmless("harmless")).await?;
        eventually(SOON, "a harmless pod is made", async || {
            Ok(rig.side.get(POD, &twin, "harmless").await?)
        })
        .await?;
        oracle::deeds::are_lawful(rig).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn mtb_what_the_platform_put_beside_the_twins_stays_and_rights_stay_inside() {
    on_rig(wish(), async |rig| {
        let guest = &rig.tenants[0];
        account(rig).await?;
        guest.side.create(POD, harmless("first")).await?;
        let twin = guest.twin("default");
        eventually(SOON, "the first pod is made", async || {
            Ok(rig.side.get(POD, &twin, "first").await?)
        })
        .await?;
        // CPI-2, TI-1: a quota, a policy and rights that an admin of the super cluster made.
        let place = |body: Value| {
            let mut body = body;
            body["metadata"]["namespace"] = twin.as_str().into();
            body
        };
        let quota = json!({"metadata": {"name": "platform"}, "spec": {"hard": {"pods": "100"}}});
        let policy = json!({"metadata": {"name": "platform"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}});
        let role = json!({"metadata": {"name": "platform"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
        let own = [
            (RESOURCE_QUOTA, quota),
            (NETWORK_POLICY, policy),
            (ROLE, role),
        ];
        let mut before = vec![];
        for (kind, body) in &own {
            before.push(rig.side.create(*kind, place(body.clone())).await?);
        }
        // The tenant has the same names, and wants more by them; it may, in its own API (OPS-3, OPS-4).
        let wider = [
            (
                RESOURCE_QUOTA,
                json!({"metadata": {"name": "platform"}, "spec": {"hard": {"pods": "100000"}}}),
            ),
            (
                NETWORK_POLICY,
                json!({"metadata": {"name": "platform"}, "spec": {"podSelector": {}, "egress": [{}]}}),
            ),
            (
                ROLE,
                json!({"metadata": {"name": "platform"},
                "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}),
            ),
        ];
        for (kind, body) in wider {
            let mut body = body;
            body["metadata"]["namespace"] = "default".into();
            let made = guest.side.create(kind, body).await?;
            if kind.name == "NetworkPolicy" {
                event(&guest.side, kind, &made, "NameTaken").await?;
            }
        }
        // Escalation inside the tenant is the tenant's own affair (PL2 TI-1) and leads nowhere.
        let admin = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
        let subject =
            json!([{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]);
        let binding = json!({"metadata": {"name": "rise"}, "roleRef": admin, "subjects": subject});
        guest
            .side
            .create(CLUSTER_ROLE_BINDING, binding.clone())
            .await?;
        let mut local = binding;
        local["metadata"]["namespace"] = "default".into();
        guest.side.create(ROLE_BINDING, local).await?;
        // What comes later than all that has crossed, so all that would cross has.
        guest.side.create(POD, harmless("last")).await?;
        eventually(SOON, "the last pod is made", async || {
            Ok(rig.side.get(POD, &twin, "last").await?)
        })
        .await?;
        for ((kind, _), before) in own.iter().zip(&before) {
            let after = rig.side.get(*kind, &twin, "platform").await?;
            ensure!(
                uid(&after) == uid(before)
                    && after["spec"] == before["spec"]
                    && after["rules"] == before["rules"],
                "{}: {after}",
                kind.name
            );
        }
        for kind in [ROLE_BINDING, CLUSTER_ROLE_BINDING] {
            let found = rig.side.list(kind, "", "").await?;
            let risen: Vec<&str> = found
                .iter()
                .map(name)
                .filter(|name| *name == "rise")
                .collect();
            ensure!(risen.is_empty(), "a {} crossed", kind.name);
            let accounts = found.iter().flat_map(|binding| items(binding, "/subjects"));
            let mut named = accounts.filter(|subject| text(subject, "/namespace") == twin);
            ensure!(
                named.next().is_none(),
                "an account of the super namespace has rights"
            );
        }
        oracle::deeds::are_lawful(rig).await
    });
}

#[test]
fn mtb_every_verb_of_one_tenant_is_refused_by_another_and_by_the_super_cluster() {
    run(async || {
        let (a, b) = (A.get().await?, B.get().await?);
        let above = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
        for (victim, kubeconfig) in [
            ("the other tenant", &b.kubeconfig),
            ("the super cluster", &above),
        ] {
            let thief = Side::misuse(victim, &a.kubeconfig, kubeconfig).await?;
            for kind in [
                NAMESPACE,
                NODE,
                POD,
                SECRET,
                CONFIG_MAP,
                SERVICE,
                DEPLOYMENT,
                ROLE,
                CLUSTER_ROLE_BINDING,
            ] {
                let namespace = match kind.name {
                    "Namespace" | "Node" | "ClusterRoleBinding" => "",
                    _ => "kube-system",
                };
                let (all, one) = (kind.path(namespace, ""), kind.path(namespace, "x"));
                let body = || {
                    Some(
                        json!({"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "x"}}),
                    )
                };
                let answers = [
                    ("list", thief.request(Method::GET, &all, None).await),
                    ("get", thief.request(Method::GET, &one, None).await),
                    ("create", thief.request(Method::POST, &all, body()).await),
                    ("update", thief.request(Method::PUT, &one, body()).await),
                    (
                        "patch",
                        thief.patch(&one, PatchType::Merge, json!({})).await,
                    ),
                    ("delete", thief.request(Method::DELETE, &one, None).await),
                    (
                        "deletecollection",
                        thief.request(Method::DELETE, &all, None).await,
                    ),
                ];
                for (verb, answer) in answers {
                    ensure!(
                        answer.as_ref().is_err_and(|problem| problem.code == 401),
                        "{verb} {} of {victim}: {answer:?}",
                        kind.plural
                    );
                }
            }
        }
        Ok(())
    });
}
