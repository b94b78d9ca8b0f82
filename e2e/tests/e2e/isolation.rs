//! Two tenants that must not notice each other.

mod benchmark;
mod dns;
mod full;
mod group;
mod hosts;
mod large;
mod layer_b;
mod layers;
mod logs;
mod namespace_quota;
mod network;
mod noise;
mod openings;
mod packets;
mod placement;
mod platform;
mod pod_rules;
mod policies;
mod quota;
mod runtime;
mod sharing;
mod stored;
mod trusted;
mod without;

use anyhow::ensure;
use api::keys;
use e2e::{
    kind::{
        CONFIG_MAP, DEPLOYMENT, EVENT, Kind, NAMESPACE, POD, SECRET, SELF_REVIEW, SERVICE,
        SERVICE_ACCOUNT,
    },
    make,
    read::{annotation, brief, condition, items, label, name, text, uid},
    side::Side,
    space::{Space, run, within},
    tenant::{A, B, NAMESPACE_OF_TESTS},
    wait::{PODS, eventually},
};
use serde_json::{Value, json};

/// Waits until there are so many super pods.
async fn exactly(
    count: usize,
    twins: impl AsyncFn() -> anyhow::Result<Vec<Value>>,
) -> anyhow::Result<Vec<Value>> {
    eventually(PODS, &format!("{count} pods are made"), async || {
        let twins = twins().await?;
        ensure!(twins.len() == count, "{} pods", twins.len());
        Ok(twins)
    })
    .await
}

/// Runs a test in namespaces of the same name in both tenants.
fn in_both(name: &str, body: impl AsyncFnOnce(&Space, &Space) -> anyhow::Result<()>) {
    within(A, name, async |a| {
        let b = Space::open(B.get().await?.clone(), &a.name).await?;
        let result = body(a, &b).await;
        b.side().delete(NAMESPACE, "", &b.name).await?;
        result
    });
}

#[test]
fn the_same_names_in_two_tenants_are_two_objects() {
    in_both("same", async |a, b| {
        ensure!(a.twin != b.twin);
        for (space, word) in [(a, "a"), (b, "b")] {
            space
                .create(CONFIG_MAP, make::config_map("settings", "who", word))
                .await?;
            let mut container = make::shell("echo $who > /dev/termination-log; sleep 600");
            container["envFrom"] = make::env_from("settings");
            space.pod("web", make::pod_spec(container)).await?;
            space.create(SERVICE, make::service("web")).await?;
        }
        for space in [a, b] {
            space.ready("web").await?;
        }
        let twins = [a.twin(POD, "web").await?, b.twin(POD, "web").await?];
        for (space, twin) in [a, b].into_iter().zip(&twins) {
            ensure!(
                label(twin, keys::TENANT) == Some(space.tenant.id.as_str()),
                "{twin}"
            );
            ensure!(
                annotation(twin, keys::UID) == Some(uid(&space.get(POD, "web").await?)),
                "{twin}"
            );
        }
        ensure!(
            a.twin(SERVICE, "web").await?["spec"]["clusterIP"]
                != b.twin(SERVICE, "web").await?["spec"]["clusterIP"]
        );

        a.delete(POD, "web").await?;
        a.delete(CONFIG_MAP, "settings").await?;
        a.gone(POD, "web").await?;
        let other = b.ready("web").await?;
        ensure!(
            condition(&other, "Ready") == "True"
                && uid(&b.twin(POD, "web").await?) == uid(&twins[1])
        );
        ensure!(b.twin(CONFIG_MAP, "settings").await?["data"]["who"] == "b");
        Ok(())
    });
}

#[test]
fn a_tenant_sees_nothing_of_another() {
    within(A, "unseen", async |space| {
        let b = B.get().await?;
        let metadata = json!({"name": "unseen", "labels": {"unseen": space.name}});
        space
            .create(
                POD,
                json!({"metadata": metadata, "spec": make::pod_spec(make::idle())}),
            )
            .await?;
        space.create(SERVICE, make::service("unseen")).await?;
        space.ready("unseen").await?;
        let traces = [
            space.name.as_str(),
            &space.twin,
            space.tenant.id.as_str(),
            &space.tenant.name,
        ];
        for kind in [
            NAMESPACE,
            POD,
            SERVICE,
            CONFIG_MAP,
            SECRET,
            EVENT,
            DEPLOYMENT,
            e2e::kind::NODE,
        ] {
            let all = Value::from(b.side.list(kind, "", "").await?).to_string();
            for trace in traces {
                ensure!(
                    !all.contains(trace),
                    "{} of tenant {} tell of {trace}",
                    kind.plural,
                    b.name
                );
            }
        }
        Ok(())
    });
}

/// A script that says of a name that it is found, which may be asked for more than once.
fn found(name: &str) -> String {
    format!(
        "until nslookup {name} > /tmp/out 2>&1; do sleep 1; done; echo found {name} >> /dev/termination-log"
    )
}

/// Waits until a pod of the platform has found a name.
async fn finds(above: &Side, pod: &str, name: &str) -> anyhow::Result<()> {
    let metadata = json!({"name": pod, "namespace": NAMESPACE_OF_TESTS});
    let mut spec = make::once(make::shell(&found(name)));
    spec["activeDeadlineSeconds"] = PODS.as_secs().into();
    above
        .create(POD, json!({"metadata": metadata, "spec": spec}))
        .await?;
    let result = eventually(PODS, &format!("the platform finds {name}"), async || {
        let pod = above.get(POD, NAMESPACE_OF_TESTS, pod).await?;
        ensure!(
            text(&pod, "/status/phase") == "Succeeded",
            "{}",
            brief(&pod)
        );
        Ok(())
    })
    .await;
    above.delete(POD, NAMESPACE_OF_TESTS, pod).await?;
    result
}

#[test]
fn the_names_of_one_tenant_do_not_resolve_in_another() {
    within(A, "dns", async |a| {
        a.create(SERVICE, make::service("web")).await?;
        a.twin(SERVICE, "web").await?;
        let foreign = format!("web.{}.svc.cluster.local", a.name);
        // The tenant's own name shows that its DNS works at all.
        let script = format!(
            "{}; nslookup {foreign} > /tmp/out 2>&1 && echo found {foreign} >> /dev/termination-log || echo none >> /dev/termination-log",
            found("kubernetes.default.svc.cluster.local"),
        );
        let b = Space::open(B.get().await?.clone(), &format!("{}-b", a.name)).await?;
        let said = b.ask("client", &script).await;
        let own = a.ask("client", &found(&foreign)).await;
        b.side().delete(NAMESPACE, "", &b.name).await?;
        ensure!(
            own? == format!("found {foreign}"),
            "the tenant doesn't find its own name"
        );
        let said = said?;
        ensure!(
            said == "found kubernetes.default.svc.cluster.local\nnone",
            "{said}"
        );
        Ok(())
    });
}

#[test]
fn the_super_clusters_names_do_not_resolve_in_a_tenant() {
    within(A, "supername", async |space| {
        // A Service that the super cluster has and the tenant doesn't.
        let name = format!("hidden-{}", space.name);
        let namespace = NAMESPACE_OF_TESTS;
        let mut service = make::service(&name);
        service["metadata"]["namespace"] = namespace.into();
        space.above().create(SERVICE, service).await?;
        let hidden = format!("{name}.{namespace}.svc.cluster.local");
        let script = format!(
            "cat /etc/resolv.conf > /dev/termination-log; {}; \
             until nslookup {hidden} > /tmp/out 2>&1 || grep -q NXDOMAIN /tmp/out; do sleep 1; done; \
             grep -q NXDOMAIN /tmp/out && echo unknown >> /dev/termination-log",
            found("kubernetes.default.svc.cluster.local")
        );
        let said = async {
            finds(space.above(), &format!("{name}-finder"), &hidden).await?;
            space.ask("client", &script).await
        }
        .await;
        space.above().delete(SERVICE, namespace, &name).await?;
        let said = said?;
        ensure!(said.contains("found kubernetes"), "{said}");
        ensure!(said.contains("unknown"), "it is known: {said}");
        let search = format!(
            "search {0}.svc.cluster.local svc.cluster.local cluster.local",
            space.name
        );
        ensure!(
            said.lines()
                .any(|line| line.trim_end().starts_with(&search)),
            "{said}"
        );
        ensure!(!said.contains(&space.twin), "{said}");
        let dns = space.side().get(SERVICE, "kube-system", "kube-dns").await?;
        ensure!(
            said.contains(&format!("nameserver {}", text(&dns, "/spec/clusterIP"))),
            "{said}"
        );
        Ok(())
    });
}

#[test]
fn credentials_of_one_tenant_are_worth_nothing_elsewhere() {
    run(async || {
        let (a, b) = (A.get().await?, B.get().await?);
        let who = json!({});
        let own = a.side.create(SELF_REVIEW, who.clone()).await?;
        ensure!(
            text(&own, "/status/userInfo/username") == "sublet:admin",
            "{own}"
        );
        let above = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
        for (name, kubeconfig) in [
            ("the other tenant", &b.kubeconfig),
            ("the super cluster", &above),
        ] {
            let thief = Side::misuse(name, &a.kubeconfig, kubeconfig).await?;
            for kind in [NAMESPACE, SECRET] {
                let answer = thief.list(kind, "", "").await;
                ensure!(
                    answer.as_ref().is_err_and(|problem| problem.code == 401),
                    "{name}: {answer:?}"
                );
            }
        }
        Ok(())
    });
}

#[test]
fn a_token_of_one_tenant_is_worth_nothing_elsewhere() {
    within(A, "stolen", async |space| {
        let path = SERVICE_ACCOUNT.path(&space.name, "default") + "/token";
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
        let token = space
            .side()
            .request(http::Method::POST, &path, Some(request))
            .await?;
        let token = text(&token, "/status/token").to_owned();
        let above = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
        let b = B.get().await?;
        let servers = [
            ("its own tenant", &space.tenant.kubeconfig, 200),
            ("the other tenant", &b.kubeconfig, 401),
            ("the super cluster", &above, 401),
        ];
        for (name, kubeconfig, code) in servers {
            let user = json!({"token": token});
            let kubeconfig = with_user(kubeconfig, user)?;
            let holder = Side::connect(name, &kubeconfig).await?;
            let answer = holder.create(SELF_REVIEW, json!({})).await;
            let got = answer.as_ref().map_or_else(|problem| problem.code, |_| 200);
            ensure!(got == code, "{name}: {answer:?}");
        }
        Ok(())
    });
}

#[test]
fn no_synced_pod_has_rights_in_the_super_cluster() {
    within(A, "rights", async |space| {
        space.pod("web", make::pod_spec(make::idle())).await?;
        space.ready("web").await?;
        let owned = format!("{}={}", keys::TENANT, space.tenant.id);
        let namespaces = space
            .above()
            .list(NAMESPACE, "", &format!("{owned},{}=true", keys::MANAGED))
            .await?;
        let mut pods = 0;
        for namespace in namespaces
            .iter()
            .filter(|namespace| label(namespace, keys::ROLE).is_none())
        {
            for pod in space.above().list(POD, name(namespace), "").await? {
                pods += 1;
                ensure!(
                    text(&pod, "/spec/serviceAccountName") == keys::POD_SERVICE_ACCOUNT,
                    "{}",
                    brief(&pod)
                );
                ensure!(
                    pod["spec"]["automountServiceAccountToken"] == false,
                    "{}",
                    brief(&pod)
                );
                ensure!(
                    !pod["spec"]["volumes"]
                        .to_string()
                        .contains("serviceAccountToken"),
                    "{}",
                    brief(&pod)
                );
            }
        }
        ensure!(pods >= 2, "only {pods} synced pods were looked at");
        let account = format!(
            "system:serviceaccount:{}:{}",
            space.twin,
            keys::POD_SERVICE_ACCOUNT
        );
        for (group, resource) in [
            ("", "pods"),
            ("", "secrets"),
            ("", "configmaps"),
            ("apps", "deployments"),
            ("", "namespaces"),
        ] {
            for verb in ["get", "list", "create", "delete"] {
                let attributes = json!({"namespace": space.twin, "group": group, "resource": resource, "verb": verb});
                let review = json!({"spec": {"user": account, "resourceAttributes": attributes}});
                let kind = Kind {
                    api_version: "authorization.k8s.io/v1",
                    name: "SubjectAccessReview",
                    plural: "subjectaccessreviews",
                };
                let answer = space.above().create(kind, review).await?;
                ensure!(
                    answer["status"]["allowed"] == false,
                    "{account} may {verb} {resource}"
                );
            }
        }
        Ok(())
    });
}

#[test]
fn the_control_planes_namespace_holds_its_own_pods_and_no_others() {
    run(async || {
        let tenant = A.get().await?;
        let place = tenant.control_plane_namespace();
        let namespace = tenant.above.get(NAMESPACE, "", &place).await?;
        ensure!(
            label(&namespace, "pod-security.kubernetes.io/enforce") == Some("restricted"),
            "{namespace}"
        );
        let pods = tenant.above.list(POD, &place, "").await?;
        ensure!(
            pods.len() >= 3,
            "etcd, API server and controller manager are expected: {}",
            pods.len()
        );
        for pod in &pods {
            ensure!(
                annotation(pod, keys::UID).is_none(),
                "a synced pod is in the control plane's namespace: {}",
                brief(pod)
            );
            for container in items(pod, "/spec/containers") {
                let context = &container["securityContext"];
                ensure!(
                    context["allowPrivilegeEscalation"] == false,
                    "{}",
                    brief(pod)
                );
                ensure!(
                    context["capabilities"]["drop"] == json!(["ALL"]),
                    "{}",
                    brief(pod)
                );
            }
        }
        Ok(())
    });
}

#[test]
fn a_tenants_forged_objects_do_not_reach_another() {
    in_both("forged", async |a, b| {
        // A pod of A that carries the marks of B's twin, in a namespace named like B's super namespace.
        let victim = b.pod("web", make::pod_spec(make::idle())).await?;
        b.ready("web").await?;
        let before = b.twin(POD, "web").await?;
        let metadata = json!({
            "name": "web", "labels": {keys::TENANT: b.tenant.id.as_str(), keys::MANAGED: "true"},
            "annotations": {keys::NAMESPACE: b.name, keys::NAME: "web", keys::UID: uid(&victim)},
        });
        a.create(
            POD,
            json!({"metadata": metadata, "spec": make::pod_spec(make::idle())}),
        )
        .await?;
        let namesake = Space::open(a.tenant.clone(), &b.twin).await?;
        namesake
            .create(CONFIG_MAP, make::config_map("settings", "k", "v"))
            .await?;
        a.ready("web").await?;
        a.delete(POD, "web").await?;
        a.gone(POD, "web").await?;
        namesake
            .side()
            .delete(NAMESPACE, "", &namesake.name)
            .await?;
        eventually(PODS, "the namesake is gone", async || {
            let found = namesake.side().find(NAMESPACE, "", &namesake.name).await?;
            let twin = namesake.above().find(NAMESPACE, "", &namesake.twin).await?;
            ensure!(found.is_none() && twin.is_none(), "it is still there");
            Ok(())
        })
        .await?;
        let after = b.twin(POD, "web").await?;
        ensure!(
            uid(&after) == uid(&before),
            "the victim's super pod was made anew"
        );
        ensure!(
            annotation(&after, keys::UID) == Some(uid(&victim)),
            "{after}"
        );
        ensure!(uid(&b.ready("web").await?) == uid(&victim));
        Ok(())
    });
}

/// The kubeconfig with other credentials.
fn with_user(kubeconfig: &str, user: Value) -> anyhow::Result<String> {
    let mut config: Value = serde_saphyr::from_str(kubeconfig)?;
    config["users"][0]["user"] = user;
    // JSON is YAML.
    Ok(config.to_string())
}
