//! `sublet install` and `sublet uninstall`, on an API server of their own: what they put in runs nowhere, and disturbs nobody.

mod helm;

use anyhow::{Context, ensure};
use e2e::{
    kind::{
        ADMISSION_POLICY, CLASS, CLUSTER_ROLE, CONTROL_PLANE, CRD, DEPLOYMENT, NAMESPACE,
        SUBLET_CONTROL_PLANE,
    },
    program::{Folder, Outcome, Program},
    read::{items, label, name, text},
    rig::{
        keys::Authority,
        server::{Audit, Plan, Server},
    },
    settings,
    side::{PatchType, Side},
    space::run,
    wait::{SOON, eventually},
};
use serde_json::{Value, json};

pub(crate) const SYSTEM: &str = api::SYSTEM_NAMESPACE;
/// A policy that this version doesn't know.
const OLD_POLICY: &str = "sublet-of-an-earlier-version";
/// Label on all of Sublet's policies.
const PART_OF: &str = "app.kubernetes.io/part-of";

/// A cluster without nodes, in which nothing is.
pub(crate) struct Bare {
    pub(crate) side: Side,
    pub(crate) sublet: Program,
    pub(crate) kubectl: Program,
    _server: Server,
    // Last, so that it goes when nobody writes into it any more.
    _folder: Folder,
}

impl Bare {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        let plan = Plan {
            name: "bare".into(),
            services: "10.98.0.0/24".into(),
            syncer_groups: "system:serviceaccounts",
            controllers: true,
            version: None,
            etcd_flags: vec![],
            flags: vec![],
            audit: Audit::Nothing,
        };
        let mut server = Server::start(folder.path(), &Authority::make()?, plan)?;
        server.ready().await?;
        let kubectl = Program::kubectl(folder.path(), &server.admin_kubeconfig())?;
        Ok(Self {
            side: server.side().await?,
            sublet: kubectl.like(settings::sublet()?),
            kubectl,
            _server: server,
            _folder: folder,
        })
    }

    async fn sublet(&self, line: &str) -> anyhow::Result<Outcome> {
        self.sublet.run(line).await
    }

    async fn daemon(&self, daemon: &str) -> anyhow::Result<Value> {
        Ok(self.side.get(DEPLOYMENT, SYSTEM, daemon).await?)
    }
}

#[test]
fn sublet_is_put_in_brought_up_to_date_taken_out_and_put_in_again() {
    run(async || {
        let bare = Bare::start().await?;
        is_missing(&bare).await?;
        let done = bare.sublet("install --no-wait --ephemeral-etcd").await?;
        done.says(&["is applied", "sublet create NAME"])?;
        brought_up_to_date(&bare).await?;
        taken_out(&bare).await?;
        is_missing(&bare).await?;
        let done = bare.sublet("install --no-wait").await?;
        done.says(&["is applied"])?;
        // And it is another one, with none of the choices of before.
        let class = bare.side.get(CLASS, "", "default").await?;
        ensure!(class["spec"]["audit"] == "Metadata", "{class}");
        ensure!(bare.daemon("sublet-syncer").await?["spec"]["replicas"] == 2);
        Ok(())
    });
}

/// Whoever asks something of a cluster without Sublet is told so, and what to do.
async fn is_missing(bare: &Bare) -> anyhow::Result<()> {
    let doctor = bare.sublet("doctor -o json").await?;
    let findings: Value = serde_json::from_str(&doctor.out)?;
    let told = items(&findings, "/checks")
        .iter()
        .find(|check| check["level"] == "fail" && check["text"] == "Sublet isn't installed");
    let told = told.with_context(|| findings.to_string())?;
    ensure!(
        doctor.code == 1 && told.to_string().contains("sublet install"),
        "{doctor:?}"
    );
    for line in ["list", "describe x", "create x --no-wait"] {
        let answer = bare.sublet(line).await?;
        answer.fails(1, &["isn't installed", "sublet install"])?;
    }
    let nothing = bare.sublet("uninstall --yes").await?;
    nothing.says(&["there was nothing to remove"])?;
    Ok(())
}

/// What an earlier version left is put right, and what an admin chose stays.
async fn brought_up_to_date(bare: &Bare) -> anyhow::Result<()> {
    // Limits that an admin set stay, and keep nothing else from being brought.
    let own = json!({"spec": {"quota": {"pods": "20", "services": null}}});
    bare.side.merge(CLASS, "", "default", own).await?;
    let done = bare.sublet("install --no-wait").await?;
    ensure!(
        done.err.contains("quota.pods") && !done.err.contains("kept as it is"),
        "{done:?}"
    );
    let class = bare.side.get(CLASS, "", "default").await?;
    let quota = &class["spec"]["quota"];
    ensure!(
        quota["pods"] == "20" && !quota["services"].is_null(),
        "{class}"
    );
    let new = text(
        &bare.daemon("sublet-syncer").await?,
        "/spec/template/spec/containers/0/image",
    )
    .to_owned();
    let (_, program) = new.rsplit_once('/').context("an image has a registry")?;
    let (file, _) = program.rsplit_once(':').context("an image has a tag")?;
    let old = format!("registry.example.com/sublet/{file}:0.0.1");
    let image =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": old}]);
    let path = DEPLOYMENT.path(SYSTEM, "sublet-syncer");
    bare.side.patch(&path, PatchType::Json, image).await?;
    let rules = json!({"rules": []});
    bare.side
        .merge(CLUSTER_ROLE, "", "sublet-syncer", rules)
        .await?;
    let policy = json!({
        "apiVersion": ADMISSION_POLICY.api_version, "kind": ADMISSION_POLICY.name,
        "metadata": {"name": OLD_POLICY, "labels": {PART_OF: "sublet"}},
        "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]},
            ]},
            "validations": [{"expression": "true"}],
        },
    });
    let apply = "apply --server-side --field-manager=sublet -f -";
    bare.kubectl.feed(apply, &policy.to_string()).await?.ok()?;
    // The admin's own.
    let three = json!({"spec": {"replicas": 3}});
    bare.side
        .merge(DEPLOYMENT, SYSTEM, "sublet-syncer", three)
        .await?;
    let silent = json!({"spec": {"audit": "None"}});
    bare.side.merge(CLASS, "", "default", silent).await?;

    let done = bare.sublet("install --no-wait --cluster-api").await?;
    ensure!(
        done.err.contains(OLD_POLICY) && done.err.contains("kept as it is"),
        "{done:?}"
    );
    done.says(&["is applied"])?;
    let syncer = bare.daemon("sublet-syncer").await?;
    let now = text(&syncer, "/spec/template/spec/containers/0/image");
    ensure!(
        now == format!("registry.example.com/sublet/{program}"),
        "{now}"
    );
    ensure!(syncer["spec"]["replicas"] == 3, "{}", syncer["spec"]);
    let role = bare.side.get(CLUSTER_ROLE, "", "sublet-syncer").await?;
    ensure!(!items(&role, "/rules").is_empty(), "{role}");
    let left = bare.side.find(ADMISSION_POLICY, "", OLD_POLICY).await?;
    ensure!(left.is_none(), "the earlier version's policy stays");
    let class = bare.side.get(CLASS, "", "default").await?;
    ensure!(class["spec"]["audit"] == "None", "{class}");
    eventually(SOON, "Cluster API's kinds are served", async || {
        Ok(bare.side.list(SUBLET_CONTROL_PLANE, "", "").await?)
    })
    .await?;
    // Of which core's are missing still.
    let create = "create blue --cluster-api --no-wait";
    bare.sublet(create).await?.fails(1, &["clusterctl init"])?;
    Ok(())
}

/// All of it goes, but not while there is a tenant that nobody said should go.
async fn taken_out(bare: &Bare) -> anyhow::Result<()> {
    let external = json!({"kubeconfigSecretRef": {"name": "none"}});
    let tenant = json!({
        "metadata": {"name": "guest", "namespace": "default"}, "spec": {"external": external},
    });
    eventually(SOON, "tenants can be made", async || {
        Ok(bare.side.create(CONTROL_PLANE, tenant.clone()).await?)
    })
    .await?;
    let refused = bare.sublet("uninstall --yes").await?;
    refused.fails(1, &["default/guest", "--force"])?;
    let asked = bare.sublet("uninstall --force").await?;
    asked.fails(2, &["default/guest", "--yes"])?;
    ensure!(bare.side.find(NAMESPACE, "", SYSTEM).await?.is_some());
    let done = bare.sublet("uninstall --force --yes").await?;
    done.says(&["Sublet is uninstalled"])?;
    ensure!(bare.side.find(NAMESPACE, "", SYSTEM).await?.is_none());
    for kind in [CRD, CLUSTER_ROLE] {
        let all = bare.side.list(kind, "", "").await?;
        let left = all.iter().map(name).filter(|name| name.contains("sublet"));
        let left: Vec<&str> = left.collect();
        ensure!(left.is_empty(), "{left:?}");
    }
    let all = bare.side.list(ADMISSION_POLICY, "", "").await?;
    let left = all.iter().filter(|policy| label(policy, PART_OF).is_some());
    ensure!(left.count() == 0, "policies are left");
    Ok(())
}
