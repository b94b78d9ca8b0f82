//! The Helm chart: what it makes is what `sublet install` applies, and a release that goes takes no tenant along.

use super::{Bare, SYSTEM};
use anyhow::{Context, ensure};
use api::keys::{FRONT_DOOR, SHARED_DNS};
use e2e::{
    kind::{CLASS, CONTROL_PLANE, CRD, DEPLOYMENT, NAMESPACE, PRIORITY_CLASS, SERVICE},
    program::Program,
    read::{items, label, name, text},
    settings,
    space::run,
    wait::{SOON, eventually},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/chart");
/// Annotation on what stays when a release goes.
const POLICY: &str = "helm.sh/resource-policy";

/// Objects by kind, namespace and name.
type Objects = BTreeMap<String, Value>;

fn objects(text: &str) -> anyhow::Result<Objects> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let objects = documents.into_iter().filter(|object| !object.is_null());
    let mut found = Objects::new();
    for object in objects {
        let part = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let key = ["/kind", "/metadata/namespace", "/metadata/name"]
            .map(|at| part(at).unwrap_or_default());
        let key = key.join(" ");
        ensure!(
            found.insert(key.clone(), object).is_none(),
            "{key} is there twice"
        );
    }
    Ok(found)
}

/// Takes the annotation off, and tells which objects had it.
fn kept(objects: &mut Objects) -> Vec<String> {
    let mut kept = vec![];
    for (key, object) in objects {
        let metadata = &mut object["metadata"];
        let annotations = metadata.get_mut("annotations");
        let Some(annotations) = annotations.and_then(Value::as_object_mut) else {
            continue;
        };
        if annotations
            .remove(POLICY)
            .is_some_and(|policy| policy == "keep")
        {
            kept.push(key.clone());
        }
        if annotations.is_empty()
            && let Some(metadata) = metadata.as_object_mut()
        {
            metadata.remove("annotations");
        }
    }
    kept
}

/// To Helm 0.0 is 0.
fn with_floats(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(values) => values.into_iter().map(with_floats).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key, with_floats(value)))
            .collect(),
        other => other,
    }
}

/// Says the first difference, since all of it would be thousands of lines.
fn are_same(made: &Objects, applied: &Objects) -> anyhow::Result<()> {
    let keys = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    ensure!(
        keys(made) == keys(applied),
        "{:?}\n{:?}",
        keys(made),
        keys(applied)
    );
    for (key, object) in made {
        let [made, applied] = [object, &applied[key]].map(|object| with_floats(object.clone()));
        ensure!(made == applied, "{key}:\n{made}\n{applied}");
    }
    Ok(())
}

struct Both {
    helm: Program,
    sublet: Program,
}

impl Both {
    fn find() -> anyhow::Result<Self> {
        let sublet = Program::sublet()?;
        Ok(Self {
            helm: sublet.like(settings::part("helm")?),
            sublet,
        })
    }

    async fn made(&self, flags: &str) -> anyhow::Result<Objects> {
        let line = format!("template sublet {CHART} --include-crds --kube-version 1.36.3 {flags}");
        objects(&self.helm.run(&line).await?.ok()?)
    }

    async fn applied(&self, flags: &str) -> anyhow::Result<Objects> {
        objects(
            &self
                .sublet
                .run(&format!("install --dry-run {flags}"))
                .await?
                .ok()?,
        )
    }
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn the_chart_makes_what_sublet_install_applies() {
    run(async || {
        let both = Both::find()?;
        let mut made = both.made("").await?;
        let stay = [
            "ConfigMap sublet-system sublet-trusted-tenants",
            "ConfigMap sublet-system sublet-visits",
            "ControlPlaneClass  default",
            "Namespace  sublet-system",
            "PriorityClass  sublet-control-plane",
            "PriorityClass  sublet-system",
            "Service sublet-system sublet-apiserver-proxy",
            "Service sublet-system sublet-dns",
            "Service sublet-system sublet-front-door",
        ];
        ensure!(kept(&mut made) == stay);
        are_same(&made, &both.applied("").await?)?;

        let values = "--set image.registry=registry.example.com/a --set clusterApi.enabled=true --set \
                      class.spec.etcdStorage.ephemeral=true";
        let mut made = both.made(values).await?;
        ensure!(
            kept(&mut made).len() > stay.len(),
            "definitions of Cluster API's kinds stay"
        );
        let mut applied = both
            .applied("--registry registry.example.com/a --cluster-api --ephemeral-etcd")
            .await?;
        // Helm's definitions are as they are: the notes tell of the label.
        let definition =
            applied.get_mut("CustomResourceDefinition  virtualcontrolplanes.sublet.dev");
        let metadata = definition.and_then(|crd| crd["metadata"].as_object_mut());
        let labels = metadata.context("there is no definition")?.remove("labels");
        ensure!(
            labels == Some(json!({api::capi::CLUSTERCTL: ""})),
            "{labels:?}"
        );
        are_same(&made, &applied)
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn values_change_what_they_say_and_wrong_ones_are_told() {
    run(async || {
        let both = Both::find()?;
        both.helm.run(&format!("lint {CHART}")).await?.ok()?;
        let values = [
            "image.tag=1.2.3",
            "image.pullSecrets[0].name=pull",
            "daemons.syncer.replicas=3",
            "daemons.syncer.args={--log=debug}",
            "daemons.syncer.tolerations[0].key=pool",
            "daemons.proxy.tolerations[0].key=node.kubernetes.io/unreachable,daemons.proxy.tolerations[0].tolerationSeconds=99",
            "daemons.proxy.resources.limits.memory=1Gi",
            "daemons.manager.nodeSelector.zone=a",
            "daemons.manager.env[0].name=A,daemons.manager.env[0].value=b",
            "frontDoor.type=LoadBalancer",
            "frontDoor.annotations.who=me",
            "class.spec.quota.pods=7",
            "podMonitor.enabled=true,alerts.enabled=true,dashboard.enabled=true",
            "alerts.repository=https://example.com/sublet",
        ];
        let made = both
            .made(&values.map(|value| format!("--set {value}")).join(" "))
            .await?;
        let object = |key: &str| made.get(key).with_context(|| format!("there is no {key}"));
        let pod = |name: &str| {
            let deployment = object(&format!("Deployment {SYSTEM} {name}"))?;
            anyhow::Ok(&deployment["spec"]["template"]["spec"])
        };
        let (syncer, proxy, manager) = (
            pod("sublet-syncer")?,
            pod("sublet-apiserver-proxy")?,
            pod("sublet-manager")?,
        );
        let deployment = object("Deployment sublet-system sublet-syncer")?;
        ensure!(deployment["spec"]["replicas"] == 3, "{deployment}");
        let first = |pod: &Value| pod["containers"][0].clone();
        ensure!(
            first(syncer)["image"] == "sublet.dev/sublet-syncer:1.2.3",
            "{syncer}"
        );
        ensure!(first(syncer)["args"] == json!(["--log=debug"]), "{syncer}");
        ensure!(
            syncer["imagePullSecrets"] == json!([{"name": "pull"}]),
            "{syncer}"
        );
        ensure!(
            first(proxy)["resources"]["limits"]["memory"] == "1Gi",
            "{proxy}"
        );
        ensure!(
            first(proxy)["resources"]["requests"]["memory"] == "32Mi",
            "{proxy}"
        );
        ensure!(manager["nodeSelector"] == json!({"zone": "a"}), "{manager}");
        ensure!(
            borne(syncer)
                == [
                    ("node.kubernetes.io/not-ready", Some(30)),
                    ("node.kubernetes.io/unreachable", Some(30)),
                    ("pool", None)
                ],
            "{syncer}"
        );
        // Another one for the same taint would leave the shorter time in force.
        ensure!(
            borne(proxy)
                == [
                    ("node.kubernetes.io/not-ready", Some(30)),
                    ("node.kubernetes.io/unreachable", Some(99))
                ],
            "{proxy}"
        );
        let env = first(manager);
        ensure!(
            items(&env, "/env").last() == Some(&json!({"name": "A", "value": "b"})),
            "{env}"
        );
        let door = object("Service sublet-system sublet-front-door")?;
        ensure!(
            door["spec"]["type"] == "LoadBalancer"
                && door["metadata"]["annotations"]["who"] == "me",
            "{door}"
        );
        let class = object("ControlPlaneClass  default")?;
        let quota = &class["spec"]["quota"];
        ensure!(
            quota["pods"] == 7
                && quota["services.nodeports"] == "50"
                && quota["services"] == "1000",
            "{class}"
        );
        object("PodMonitor sublet-system sublet")?;
        let rules = object("PrometheusRule sublet-system sublet")?.to_string();
        ensure!(
            rules.contains("https://example.com/sublet/docs/runbook.md#") && rules.contains("{{ "),
            "{rules}"
        );
        let dashboard = object("ConfigMap sublet-system sublet-dashboard")?;
        let text = dashboard["data"]["sublet.json"]
            .as_str()
            .unwrap_or_default();
        let _: Value = serde_json::from_str(text)?;

        for (wrong, told) in [
            ("daemons.syncer.replica=3", "replica"),
            ("daemons.manager.replicas=2", "replicas"),
            ("image.registry=https://registry.example.com", "registry"),
            ("frontDoor.type=Ingress", "LoadBalancer"),
        ] {
            let line = format!("template sublet {CHART} --set {wrong}");
            both.helm.run(&line).await?.fails(1, &[told])?;
        }
        let old = format!("template sublet {CHART} --kube-version 1.33.0");
        both.helm.run(&old).await?.fails(1, &["1.34"])?;
        Ok(())
    });
}

/// Taints that a pod tolerates, and for how many seconds.
fn borne(pod: &Value) -> Vec<(&str, Option<i64>)> {
    let each = items(pod, "/tolerations")
        .iter()
        .map(|one| (text(one, "/key"), one["tolerationSeconds"].as_i64()));
    let mut borne: Vec<_> = each.collect();
    borne.sort_unstable();
    borne
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_release_is_put_in_changed_and_taken_out_without_its_tenants() {
    run(async || {
        let bare = Bare::start().await?;
        let helm = bare.kubectl.like(settings::part("helm")?);
        let install =
            format!("install sublet {CHART} -n {SYSTEM} --create-namespace --take-ownership");
        helm.run(&install).await?.says(&["sublet doctor"])?;
        let namespace = bare.side.get(NAMESPACE, "", SYSTEM).await?;
        let level = label(&namespace, "pod-security.kubernetes.io/enforce");
        ensure!(level == Some("restricted"), "{namespace}");
        let refused = bare.sublet("install --no-wait").await?;
        refused.fails(
            1,
            &[
                "by Helm",
                "kubectl apply --server-side --force-conflicts -f CHART/crds",
                "helm upgrade sublet CHART -n sublet-system",
            ],
        )?;
        let refused = bare.sublet("uninstall --yes").await?;
        refused.fails(1, &["by Helm", "helm uninstall sublet -n sublet-system"])?;

        let upgrade = format!("upgrade sublet {CHART} -n {SYSTEM} --set daemons.syncer.replicas=3");
        helm.run(&upgrade)
            .await?
            .says(&["kubectl apply --server-side"])?;
        ensure!(bare.daemon("sublet-syncer").await?["spec"]["replicas"] == 3);
        chosen_beside_it(&bare, &helm).await?;

        let external = json!({"kubeconfigSecretRef": {"name": "none"}});
        let tenant = json!({
            "metadata": {"name": "guest", "namespace": "default"}, "spec": {"external": external},
        });
        bare.side.create(CONTROL_PLANE, tenant).await?;
        is_left(&bare, &helm).await?;
        helm.run(&install).await?.ok()?;
        is_left(&bare, &helm).await?;

        // It takes over what is there.
        bare.sublet("install --no-wait")
            .await?
            .says(&["is applied"])?;
        helm.run(&format!("{install} --force-conflicts"))
            .await?
            .ok()?;
        is_balanced(&bare).await?;
        is_left(&bare, &helm).await?;

        // What Helm leaves, `sublet uninstall` removes.
        let done = bare.sublet("uninstall --force --yes").await?;
        done.says(&["Sublet is uninstalled"])?;
        ensure!(bare.side.find(NAMESPACE, "", SYSTEM).await?.is_none());
        let all = bare.side.list(CRD, "", "").await?;
        ensure!(
            !all.iter().any(|crd| name(crd).ends_with("sublet.dev")),
            "definitions are left"
        );
        Ok(())
    });
}

/// What no value says is as an admin made it meanwhile, and stops no upgrade.
async fn chosen_beside_it(bare: &Bare, helm: &Program) -> anyhow::Result<()> {
    let four = json!({"spec": {"replicas": 4}});
    bare.side
        .merge(DEPLOYMENT, SYSTEM, "sublet-syncer", four)
        .await?;
    let balanced = json!({"spec": {"type": "LoadBalancer"}});
    bare.side
        .merge(SERVICE, SYSTEM, FRONT_DOOR, balanced)
        .await?;
    let upgrade = format!("upgrade sublet {CHART} -n {SYSTEM} --reset-values");
    helm.run(&upgrade).await?.ok()?;
    let syncer = bare.daemon("sublet-syncer").await?;
    ensure!(syncer["spec"]["replicas"] == 4, "{syncer}");
    is_balanced(bare).await
}

async fn is_balanced(bare: &Bare) -> anyhow::Result<()> {
    let door = bare.side.get(SERVICE, SYSTEM, FRONT_DOOR).await?;
    ensure!(door["spec"]["type"] == "LoadBalancer", "{door}");
    Ok(())
}

/// Addresses and node ports of Sublet's Services, as pods of tenants and kubeconfigs have them.
async fn addresses(bare: &Bare) -> anyhow::Result<BTreeMap<String, Value>> {
    let services = bare.side.list(SERVICE, SYSTEM, "").await?;
    let each = services.iter().map(|service| {
        let spec = &service["spec"];
        let ports: Vec<&Value> = items(spec, "/ports")
            .iter()
            .map(|port| &port["nodePort"])
            .collect();
        let address = json!([spec["type"], spec["clusterIP"], ports]);
        (name(service).to_owned(), address)
    });
    Ok(each.collect())
}

/// The daemons go, and neither the tenant nor what it needs to go on.
async fn is_left(bare: &Bare, helm: &Program) -> anyhow::Result<()> {
    let before = addresses(bare).await?;
    ensure!(before.contains_key(SHARED_DNS), "{before:?}");
    helm.run(&format!("uninstall sublet -n {SYSTEM}"))
        .await?
        .ok()?;
    eventually(SOON, "the daemons are gone", async || {
        let left = bare.side.list(DEPLOYMENT, SYSTEM, "").await?;
        ensure!(left.is_empty(), "{} Deployments are left", left.len());
        Ok(())
    })
    .await?;
    for (kind, namespace, name) in [
        (CONTROL_PLANE, "default", "guest"),
        (CLASS, "", "default"),
        (NAMESPACE, "", SYSTEM),
        (PRIORITY_CLASS, "", "sublet-control-plane"),
    ] {
        let left = bare.side.get(kind, namespace, name).await?;
        let going = &left["metadata"]["deletionTimestamp"];
        ensure!(going.is_null(), "{left}");
    }
    let left = addresses(bare).await?;
    ensure!(left == before, "{before:?}\n{left:?}");
    Ok(())
}
