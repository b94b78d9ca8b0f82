//! kubectl with a tenant's kubeconfig behaves as on any cluster.

use anyhow::ensure;
use e2e::{
    kind::{CONFIG_MAP, DEPLOYMENT, NODE, POD},
    make,
    program::{Folder, Program},
    read::name,
    space::{Space, within},
    tenant::A,
    wait::{SOON, eventually},
};
use serde_json::{Value, json};

/// Runs a test with kubectl; `{}` in a line stands for the test's namespace.
pub(crate) fn with_kubectl(
    test: &str,
    body: impl AsyncFnOnce(&Space, &Program) -> anyhow::Result<()>,
) {
    within(A, test, async |space| {
        let folder = Folder::make()?;
        let kubectl = Program::kubectl(folder.path(), &space.tenant.kubeconfig)?;
        body(space, &kubectl).await
    });
}

/// A manifest with a Deployment, its Service and its ConfigMap.
fn manifest(release: &str) -> String {
    let mut container = make::server();
    container["envFrom"] = make::env_from("settings");
    let mut deployment = make::deployment("web", 1, make::pod_spec(container));
    deployment["spec"]["template"]["metadata"]["annotations"] = json!({"release": release});
    let whole = [
        (DEPLOYMENT, deployment),
        (e2e::kind::SERVICE, make::service("web")),
        (CONFIG_MAP, make::config_map("settings", "mode", release)),
    ];
    let items: Vec<Value> = whole
        .into_iter()
        .map(|(kind, mut object)| {
            object["apiVersion"] = kind.api_version.into();
            object["kind"] = kind.name.into();
            object
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

#[test]
fn apply_rollout_get_describe_events_and_delete() {
    with_kubectl("apply", async |space, kubectl| {
        let n = format!("-n {}", space.name);
        let words = [
            "deployment.apps/web created",
            "service/web created",
            "configmap/settings created",
        ];
        kubectl
            .feed(&format!("{n} apply -f -"), &manifest("one"))
            .await?
            .says(&words)?;
        let done = "deployment \"web\" successfully rolled out";
        kubectl
            .run(&format!("{n} rollout status deployment/web --timeout=120s"))
            .await?
            .says(&[done])?;
        kubectl
            .feed(&format!("{n} apply -f -"), &manifest("one"))
            .await?
            .says(&["deployment.apps/web unchanged"])?;
        kubectl
            .feed(&format!("{n} apply -f -"), &manifest("two"))
            .await?
            .says(&["deployment.apps/web configured"])?;
        kubectl
            .run(&format!("{n} rollout status deployment/web --timeout=120s"))
            .await?
            .says(&[done])?;
        kubectl
            .run(&format!("{n} rollout history deployment/web"))
            .await?
            .says(&["REVISION", "2"])?;
        kubectl
            .run(&format!("{n} rollout undo deployment/web"))
            .await?
            .says(&["rolled back"])?;
        kubectl
            .run(&format!("{n} rollout status deployment/web --timeout=120s"))
            .await?
            .says(&[done])?;
        kubectl
            .run(&format!(
                "{n} wait --for=condition=Available deployment/web --timeout=60s"
            ))
            .await?
            .says(&["condition met"])?;

        let nodes = space.side().list(NODE, "", "").await?;
        let wide = eventually(SOON, "only the new pod is left", async || {
            let wide = kubectl
                .run(&format!("{n} get pods -o wide"))
                .await?
                .says(&["NAME", "READY", "NODE", "1/1", "Running"])?;
            ensure!(wide.lines().count() == 2, "{wide}");
            Ok(wide)
        })
        .await?;
        ensure!(nodes.iter().any(|node| wide.contains(name(node))), "{wide}");
        kubectl
            .run(&format!(
                "{n} get deployment,service,configmap web settings"
            ))
            .await?
            .fails(1, &["NotFound"])?;
        kubectl.run(&format!("{n} get all")).await?.says(&[
            "pod/web-",
            "service/web",
            "deployment.apps/web",
            "replicaset.apps/web-",
        ])?;
        let yaml = kubectl
            .run(&format!("{n} get configmap settings -o yaml"))
            .await?
            .says(&["mode: two", "kind: ConfigMap"])?;
        ensure!(
            !yaml.contains("sublet.dev"),
            "the tenant's object carries marks: {yaml}"
        );

        let pod = wide
            .lines()
            .nth(1)
            .and_then(|line| line.split_whitespace().next())
            .unwrap_or_default()
            .to_owned();
        let told = [
            "Status:",
            "Running",
            "Node:",
            "Successfully assigned",
            "Started",
            "Conditions:",
        ];
        // A kubelet tells its events some time after the status that it tells.
        let described = eventually(SOON, "the pod is described with its events", async || {
            let described = kubectl.run(&format!("{n} describe pod {pod}")).await?;
            described.says(&told)
        })
        .await?;
        ensure!(
            !described.contains(&space.twin),
            "the super namespace's name leaks: {described}"
        );
        kubectl
            .run(&format!("{n} describe service web"))
            .await?
            .says(&["Endpoints:", "8080"])?;
        kubectl
            .run(&format!("{n} describe deployment web"))
            .await?
            .says(&["1 available", "NewReplicaSet"])?;
        eventually(SOON, "kubectl events tells the pod's events", async || {
            let events = kubectl.run(&format!("{n} events --for pod/{pod}")).await?;
            events.says(&["Scheduled", "Started"])
        })
        .await?;
        eventually(SOON, "kubectl get events tells them too", async || {
            let events = kubectl.run(&format!("{n} get events")).await?;
            events.says(&["Scheduled", "ScalingReplicaSet"])
        })
        .await?;

        kubectl
            .run(&format!("{n} scale deployment/web --replicas=2"))
            .await?
            .says(&["scaled"])?;
        kubectl
            .run(&format!("{n} rollout status deployment/web --timeout=120s"))
            .await?
            .says(&[done])?;
        let words = [
            "deployment.apps \"web\" deleted",
            "service \"web\" deleted",
            "configmap \"settings\" deleted",
        ];
        kubectl
            .feed(&format!("{n} delete -f - --timeout=120s"), &manifest("two"))
            .await?
            .says(&words)?;
        kubectl
            .run(&format!(
                "{n} wait --for=delete pod -l app=web --timeout=120s"
            ))
            .await?
            .ok()?;
        kubectl.run(&format!("{n} get pods")).await?.ok()?;
        Ok(())
    });
}

#[test]
fn create_run_label_patch_wait_and_delete() {
    with_kubectl("verbs", async |space, kubectl| {
        let n = format!("-n {}", space.name);
        kubectl
            .run(&format!("{n} create configmap one --from-literal=a=b"))
            .await?
            .says(&["configmap/one created"])?;
        kubectl
            .run(&format!("{n} create configmap one --from-literal=a=b"))
            .await?
            .fails(1, &["already exists"])?;
        kubectl
            .run(&format!("{n} create secret generic two --from-literal=a=b"))
            .await?
            .says(&["secret/two created"])?;
        kubectl
            .run(&format!(
                "{n} create deployment three --image={} --replicas=1",
                make::PAUSE
            ))
            .await?
            .says(&["created"])?;
        kubectl
            .run(&format!(
                "{n} wait --for=condition=Available deployment/three --timeout=120s"
            ))
            .await?
            .says(&["condition met"])?;
        kubectl
            .run(&format!("{n} expose deployment three --port=80"))
            .await?
            .says(&["service/three exposed"])?;
        let run = format!(
            "{n} run four --image={} --restart=Never --image-pull-policy=IfNotPresent -- sh -c true",
            make::BUSYBOX
        );
        kubectl.run(&run).await?.says(&["pod/four created"])?;
        kubectl
            .run(&format!(
                "{n} wait --for=jsonpath={{.status.phase}}=Succeeded pod/four --timeout=120s"
            ))
            .await?
            .says(&["condition met"])?;
        kubectl
            .run(&format!("{n} label pod four x=y"))
            .await?
            .says(&["pod/four labeled"])?;
        kubectl
            .run(&format!("{n} annotate pod four note=z"))
            .await?
            .says(&["pod/four annotated"])?;
        kubectl
            .run(&format!("{n} get pods -l x=y -o name"))
            .await?
            .says(&["pod/four"])?;
        kubectl
            .run(&format!("{n} set env deployment/three A=B"))
            .await?
            .says(&["updated"])?;
        kubectl
            .run(&format!(
                "{n} rollout status deployment/three --timeout=120s"
            ))
            .await?
            .says(&["successfully rolled out"])?;
        kubectl
            .run(&format!("{n} rollout restart deployment/three"))
            .await?
            .says(&["restarted"])?;
        kubectl
            .run(&format!(
                "{n} rollout status deployment/three --timeout=120s"
            ))
            .await?
            .says(&["successfully rolled out"])?;
        let patch = format!("{n} patch configmap one --type=merge -p {{\"data\":{{\"a\":\"c\"}}}}");
        kubectl.run(&patch).await?.says(&["patched"])?;
        kubectl
            .run(&format!("{n} delete pod four --timeout=60s"))
            .await?
            .says(&["pod \"four\" deleted"])?;
        kubectl
            .run(&format!("{n} get pod four"))
            .await?
            .fails(1, &["pods \"four\" not found"])?;
        ensure!(space.find(POD, "four").await?.is_none());
        Ok(())
    });
}

#[test]
fn discovery_rights_and_errors() {
    with_kubectl("discover", async |space, kubectl| {
        kubectl.run("api-resources").await?.says(&[
            "pods",
            "deployments",
            "customresourcedefinitions",
            "Namespaced".to_uppercase().as_str(),
        ])?;
        kubectl
            .run("api-versions")
            .await?
            .says(&["apps/v1", "networking.k8s.io/v1"])?;
        kubectl
            .run("version")
            .await?
            .says(&["Server Version: v1."])?;
        kubectl
            .run("cluster-info")
            .await?
            .says(&["is running at"])?;
        kubectl.run("get nodes").await?.says(&["NAME", "Ready"])?;
        kubectl
            .run("get namespaces")
            .await?
            .says(&["default", "kube-system", &space.name])?;
        kubectl.run("auth can-i * *").await?.says(&["yes"])?;
        kubectl.run("auth whoami").await?.says(&["sublet:admin"])?;
        let account = format!("system:serviceaccount:{}:default", space.name);
        let refused = kubectl
            .run(&format!("auth can-i get secrets --as={account}"))
            .await?;
        ensure!(
            refused.code == 1 && refused.out.trim() == "no",
            "{refused:?}"
        );
        kubectl
            .run("get nosuchkind")
            .await?
            .fails(1, &["doesn't have a resource type"])?;
        kubectl
            .run("explain pod.spec")
            .await?
            .says(&["containers"])?;
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("things.{}.example.com", space.name)},
            "spec": {
                "group": format!("{}.example.com", space.name), "scope": "Namespaced",
                "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}}}],
            },
        });
        let group = format!("{}.example.com", space.name);
        kubectl
            .feed("apply -f -", &crd.to_string())
            .await?
            .says(&["created"])?;
        kubectl
            .run(&format!(
                "wait --for=condition=Established crd/things.{group} --timeout=30s"
            ))
            .await?
            .says(&["condition met"])?;
        let thing = json!({
            "apiVersion": format!("{group}/v1"), "kind": "Thing",
            "metadata": {"name": "one", "namespace": space.name}, "spec": {"size": 3},
        });
        // What is established is served, and listed among all that is served, a moment later.
        eventually(SOON, "a thing is made", async || {
            let made = kubectl.feed("apply -f -", &thing.to_string()).await?;
            made.says(&["created"])
        })
        .await?;
        let get = format!(
            "-n {} get things.{group} one -o jsonpath={{.spec.size}}",
            space.name
        );
        kubectl.run(&get).await?.says(&["3"])?;
        kubectl
            .run(&format!("delete crd things.{group} --timeout=60s"))
            .await?
            .says(&["deleted"])?;
        Ok(())
    });
}
