//! A super cluster that is another one than the management cluster: a twin there, its status and Secrets here.
//!
//! The management cluster is a rig's. The super cluster is another plain API server, where the test does what a manager
//! would do, or the real one.

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    account,
    kind::{
        CLUSTER, CLUSTER_ROLE, CLUSTER_ROLE_BINDING, CONTROL_PLANE, CRD, Kind, NAMESPACE, SECRET,
        SUBLET_CLUSTER, SUBLET_CONTROL_PLANE,
    },
    read::{condition, is_terminating, items, text, uid},
    rig::{self, Guest, Rig, Wish, manager::Manager, on_rig},
    settings,
    side::Side,
    tenant::{self, NAMESPACE_OF_TESTS, Tenant, conditions},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::path::Path;
use tenancy::tenant::TenantId;

/// The Secret that leads to the super cluster.
pub(super) const WEST: &str = "west";

/// Label of what clusterctl moves though it belongs to no Cluster.
pub(super) const TAKEN_ALONG: &str = "clusterctl.cluster.x-k8s.io/move";

/// The management cluster, with a manager that runs beside it.
pub(super) struct Management<'a> {
    pub(super) side: &'a Side,
    manager: Manager,
}

impl<'a> Management<'a> {
    pub(super) async fn start(rig: &'a Rig, kubeconfig: &str) -> anyhow::Result<Self> {
        definitions(&rig.side).await?;
        // Marked as the page says, so that a move takes it along.
        let secret = json!({
            "metadata": {"name": WEST, "namespace": NAMESPACE_OF_TESTS, "labels": {TAKEN_ALONG: ""}},
            "stringData": {"value": kubeconfig},
        });
        rig.side.create(SECRET, secret).await?;
        let admin = rig.above.admin_kubeconfig();
        Self::of(&rig.side, rig.folder(), &admin).await
    }

    /// One that has the provider's kinds and the way to the super cluster. The manager has the rights that it is installed with.
    pub(super) async fn of(side: &'a Side, folder: &Path, admin: &str) -> anyhow::Result<Self> {
        let own = account::kubeconfig(side, admin, api::SYSTEM_NAMESPACE, "sublet-manager").await?;
        let mut manager = Manager::new(folder, &own, &["--cluster-api"])?;
        manager.start().await?;
        Ok(Self { side, manager })
    }

    /// The end of the manager's log.
    pub(super) fn tail(&self) -> String {
        self.manager.tail()
    }

    /// A VirtualControlPlane whose super cluster is the one of Secret `west`.
    async fn create(&self, name: &str) -> anyhow::Result<()> {
        let spec = json!({
            "className": "default", "etcd": {"storage": {"ephemeral": true}},
            "superCluster": {"kubeconfigSecretRef": {"name": "west", "key": "value"}},
        });
        let metadata = json!({"name": name, "namespace": NAMESPACE_OF_TESTS});
        let vcp = json!({"metadata": metadata, "spec": spec});
        self.side.create(CONTROL_PLANE, vcp).await?;
        Ok(())
    }

    async fn merge(&self, name: &str, patch: Value) -> anyhow::Result<Value> {
        Ok(self
            .side
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, name, patch)
            .await?)
    }

    /// Waits until the VirtualControlPlane is as `check` wants it.
    async fn like(
        &self,
        name: &str,
        what: &str,
        check: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        twin_like(self.side, name, what, check)
            .await
            .with_context(|| self.manager.tail())
    }
}

/// The kubeconfig of one who may in the super cluster what docs/cluster-api.md asks for, and nothing else.
pub(super) async fn visitor(there: &Side, admin: &str) -> anyhow::Result<String> {
    let page = include_str!("../../../../docs/cluster-api.md");
    let blocks = page.split("```yaml\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    let role = blocks.find(|block| block.contains("kind: Role"));
    let mut role: Value = serde_saphyr::from_str(role.context("the page has a Role")?)?;
    role["metadata"]["namespace"] = json!(NAMESPACE_OF_TESTS);
    account::with_role(there, "visitor", role).await?;
    account::kubeconfig(there, admin, NAMESPACE_OF_TESTS, "visitor").await
}

/// The provider's kinds and rights, and of Cluster API as much as the provider reads: the test does what its core would do.
pub(super) async fn definitions(side: &Side) -> anyhow::Result<()> {
    let cluster = json!({"metadata": {"name": "clusters.cluster.x-k8s.io"}, "spec": {
        "group": "cluster.x-k8s.io", "scope": "Namespaced",
        "names": {"kind": "Cluster", "plural": "clusters", "singular": "cluster"},
        "versions": [{
            "name": "v1beta2", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
        }],
    }});
    let ours = include_str!("../../../../manifests/capi/crds.yaml");
    let mut all: Vec<Value> = serde_saphyr::from_multiple(ours)?;
    all.push(cluster);
    for definition in all {
        side.create(CRD, definition).await?;
    }
    let rights = include_str!("../../../../manifests/capi/rights.yaml");
    for object in serde_saphyr::from_multiple::<Value>(rights)? {
        let kind = match text(&object, "/kind") {
            "ClusterRole" => CLUSTER_ROLE,
            _ => CLUSTER_ROLE_BINDING,
        };
        side.create(kind, object).await?;
    }
    eventually(SOON, "the kinds are served", async || {
        for kind in [CLUSTER, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE] {
            side.list(kind, "", "").await?;
        }
        Ok(())
    })
    .await
}

/// A Cluster with its two objects, as core leaves them.
pub(super) async fn create(
    side: &Side,
    name: &str,
    labels: Value,
    place: Value,
) -> anyhow::Result<()> {
    let mut metadata = json!({"name": name, "namespace": NAMESPACE_OF_TESTS, "labels": labels});
    let cluster = json!({"metadata": metadata, "spec": super::cluster(name, name)});
    let cluster = side.create(CLUSTER, cluster).await?;
    metadata["ownerReferences"] = json!([{
        "apiVersion": CLUSTER.api_version, "kind": "Cluster", "name": name, "uid": uid(&cluster),
    }]);
    let place = json!({"metadata": metadata, "spec": place});
    side.create(SUBLET_CLUSTER, place).await?;
    let control_plane = json!({"metadata": metadata, "spec": super::control_plane_spec()});
    side.create(SUBLET_CONTROL_PLANE, control_plane).await?;
    Ok(())
}

pub(super) async fn twin_like(
    side: &Side,
    name: &str,
    what: &str,
    check: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let what = format!("{} in {}: {what}", name, side.name());
    eventually(2 * PODS, &what, async || {
        let vcp = side.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, name).await?;
        ensure!(check(&vcp), "{} {}", vcp["spec"], conditions(&vcp));
        Ok(vcp)
    })
    .await
}

pub(super) async fn gone(side: &Side, name: &str) -> anyhow::Result<()> {
    let what = format!("VirtualControlPlane {name} is gone from {}", side.name());
    eventually(2 * PODS, &what, async || {
        match side.find(CONTROL_PLANE, NAMESPACE_OF_TESTS, name).await? {
            None => Ok(()),
            Some(vcp) => anyhow::bail!("{} {}", vcp["metadata"], conditions(&vcp)),
        }
    })
    .await
}

fn reason<'a>(vcp: &'a Value, kind: &str) -> &'a str {
    let mut all = items(vcp, "/status/conditions").iter();
    let found = all.find(|condition| condition["type"] == kind);
    found
        .map(|found| text(found, "/reason"))
        .unwrap_or_default()
}

/// A kubeconfig as a manager of the super cluster would write it.
async fn play_kubeconfig(there: &Side, secret: &str) -> anyhow::Result<()> {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "t",
        "clusters": [{"name": "t", "cluster": {
            "server": "https://192.0.2.1:40443", "certificate-authority-data": BASE64_STANDARD.encode("authority"),
        }}],
        "users": [{"name": "t", "user": {"token": "secret"}}],
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
    });
    let body = json!({
        "metadata": {"name": secret, "namespace": NAMESPACE_OF_TESTS},
        "stringData": {"value": kubeconfig.to_string()},
    });
    there.create(SECRET, body).await?;
    Ok(())
}

/// What a manager of the super cluster would say of a twin that runs.
async fn play_running(there: &Side, name: &str, secret: &str) -> anyhow::Result<()> {
    let vcp = there.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, name).await?;
    play_kubeconfig(there, secret).await?;
    let told = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "Answers", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let status = json!({
        "phase": "Ready", "endpoint": "https://192.0.2.1:40443", "version": "1.36.3",
        "observedGeneration": vcp["metadata"]["generation"],
        "kubeconfigSecretRef": {"name": secret, "key": "value"},
        "conditions": [told("ControlPlaneReady"), told("Ready")],
    });
    there
        .merge_status(CONTROL_PLANE, NAMESPACE_OF_TESTS, name, status)
        .await?;
    Ok(())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_tenant_of_another_super_cluster_has_a_twin_there_and_shows_what_it_says() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        let there = &guest.side;
        rig::install(there).await?;
        let admin = guest.server.admin_kubeconfig_at(guest.proxy.port());
        let kubeconfig = visitor(there, &admin).await?;
        let mut here = Management::start(rig, &kubeconfig).await?;

        here.create("east").await?;
        let twin = twin_like(there, "east", "the twin is made", |_| true).await?;
        let own = here
            .like("east", "waits for the super cluster", |vcp| {
                condition(vcp, "SuperClusterReachable") == "True"
            })
            .await?;
        ensure!(
            own["spec"]["identity"] == twin["spec"]["identity"]
                && twin["spec"]["superCluster"].is_null(),
            "{}",
            twin["spec"]
        );
        play_running(there, "east", "east-kubeconfig").await?;
        here.like("east", "shows the twin's status", |vcp| {
            vcp["status"]["phase"] == "Ready"
                && vcp["status"]["endpoint"] == "https://192.0.2.1:40443"
                && condition(vcp, "ControlPlaneReady") == "True"
        })
        .await?;
        let secret = here
            .side
            .get(SECRET, NAMESPACE_OF_TESTS, "east-kubeconfig")
            .await?;
        let data = secret["data"]["value"].as_str().context("no kubeconfig")?;
        let written = String::from_utf8(BASE64_STANDARD.decode(data)?)?;
        ensure!(
            written.contains("https://192.0.2.1:40443"),
            "another kubeconfig"
        );

        // A change goes there, also one that was made while no manager ran.
        here.manager.kill();
        here.merge("east", json!({"spec": {"replicas": 2}})).await?;
        here.manager.start().await?;
        twin_like(there, "east", "has two API servers", |twin| {
            twin["spec"]["replicas"] == 2
        })
        .await?;

        // A super cluster that hangs is told of, and nothing else of the tenant changes.
        guest.proxy.link().stall();
        let dead = here
            .like("east", "tells that the super cluster is dead", |vcp| {
                reason(vcp, "SuperClusterReachable") == "SuperClusterUnreachable"
            })
            .await?;
        ensure!(
            condition(&dead, "ControlPlaneReady") == "True",
            "{}",
            conditions(&dead)
        );
        ensure!(
            reason(&dead, "Ready") == "SuperClusterUnreachable",
            "{}",
            conditions(&dead)
        );
        // Nor may it hold up others: this one is refused by what is known here alone.
        let orphan = json!({
            "metadata": {"name": "nowhere", "namespace": NAMESPACE_OF_TESTS},
            "spec": {"superCluster": {"kubeconfigSecretRef": {"name": "no-such", "key": "value"}}},
        });
        here.side.create(CONTROL_PLANE, orphan).await?;
        here.like("nowhere", "misses its Secret", |vcp| {
            reason(vcp, "SuperClusterReachable") == "KubeconfigRefused"
        })
        .await?;
        guest.proxy.link().resume();
        here.like("east", "has its super cluster back", |vcp| {
            condition(vcp, "SuperClusterReachable") == "True" && condition(vcp, "Ready") == "True"
        })
        .await?;
        others_are_left_alone(&here, there).await?;
        leaves(&mut here, guest).await
    });
}

/// A VirtualControlPlane of the twin's name that isn't the tenant's.
async fn others_are_left_alone(here: &Management<'_>, there: &Side) -> anyhow::Result<()> {
    let metadata = json!({"name": "taken", "namespace": NAMESPACE_OF_TESTS});
    let theirs = json!({"metadata": metadata, "spec": {"className": "theirs"}});
    let before = there.create(CONTROL_PLANE, theirs).await?;
    here.create("taken").await?;
    here.like("taken", "is refused", |vcp| {
        reason(vcp, "Ready") == "NameTaken"
    })
    .await?;
    here.side
        .delete(CONTROL_PLANE, NAMESPACE_OF_TESTS, "taken")
        .await?;
    gone(here.side, "taken").await?;
    let after = there
        .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, "taken")
        .await?;
    ensure!(
        before["metadata"] == after["metadata"],
        "{}",
        after["metadata"]
    );
    Ok(())
}

/// The twin goes first; while its super cluster is dead, the tenant stays and says why.
async fn leaves(here: &mut Management<'_>, guest: &Guest) -> anyhow::Result<()> {
    let there = &guest.side;
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let held = finalizers(json!(["example.com/held"]));
    there
        .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, "east", held)
        .await?;
    guest.proxy.link().stall();
    for name in ["east", "nowhere"] {
        here.side
            .delete(CONTROL_PLANE, NAMESPACE_OF_TESTS, name)
            .await?;
    }
    gone(here.side, "nowhere").await?;
    here.like("east", "says why it stays", |vcp| {
        text(vcp, "/status/message").contains("take the finalizer")
    })
    .await?;
    guest.proxy.link().resume();
    twin_like(there, "east", "is to be deleted", is_terminating).await?;
    here.manager.kill();
    let free = finalizers(Value::Null);
    there
        .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, "east", free)
        .await?;
    gone(there, "east").await?;
    let own = here.side.find(CONTROL_PLANE, NAMESPACE_OF_TESTS, "east");
    ensure!(own.await?.is_some(), "it went while no manager ran");
    here.manager.start().await?;
    gone(here.side, "east").await?;
    let secret = here
        .side
        .find(SECRET, NAMESPACE_OF_TESTS, "east-kubeconfig");
    ensure!(secret.await?.is_none(), "its kubeconfig stays behind");
    Ok(())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_cluster_of_another_super_cluster_comes_up_and_goes_in_the_contracts_order() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        let there = &guest.side;
        rig::install(there).await?;
        let admin = guest.server.admin_kubeconfig_at(guest.proxy.port());
        let kubeconfig = visitor(there, &admin).await?;
        let here = Management::start(rig, &kubeconfig).await?;
        let side = here.side;
        let get = async |kind: Kind| side.get(kind, NAMESPACE_OF_TESTS, "blue").await;
        let like = async |kind: Kind, what: &str, check: &dyn Fn(&Value) -> bool| {
            eventually(PODS, &format!("{} {what}", kind.name), async || {
                let object = get(kind).await?;
                ensure!(check(&object), "{} {}", object["spec"], conditions(&object));
                Ok(object)
            })
            .await
            .with_context(|| here.manager.tail())
        };

        let leads = json!({"kubeconfigSecretRef": {"name": WEST, "key": "value"}});
        create(side, "blue", json!({}), json!({"superCluster": leads})).await?;

        twin_like(there, "blue", "the twin is made", |_| true).await?;
        play_running(there, "blue", "blue-user-kubeconfig").await?;
        let own = like(
            SUBLET_CONTROL_PLANE,
            "waits for its kubeconfig",
            &|object| reason(object, "Available") == "KubeconfigMissing",
        )
        .await?;
        let place = get(SUBLET_CLUSTER).await?;
        ensure!(
            own["status"]["initialization"].is_null()
                && place["status"]["initialization"].is_null(),
            "{own} {place}"
        );
        play_kubeconfig(there, "blue-kubeconfig").await?;
        like(SUBLET_CONTROL_PLANE, "is initialized", &|object| {
            object["status"]["initialization"]["controlPlaneInitialized"] == true
                && object["spec"]["controlPlaneEndpoint"]["port"] == 40443
                && condition(object, "Available") == "True"
        })
        .await?;
        like(SUBLET_CLUSTER, "is provisioned", &|object| {
            object["status"]["initialization"]["provisioned"] == true
        })
        .await?;
        let moved = json!({"spec": {"superCluster": {"namespace": "elsewhere"}}});
        let refused = side
            .merge(SUBLET_CLUSTER, NAMESPACE_OF_TESTS, "blue", moved)
            .await;
        ensure!(
            refused.is_err_and(|problem| problem.message.contains("left behind")),
            "a tenant's namespace was changed"
        );

        // The manager there took it up; keys and identity wait for the place.
        let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
        let both = finalizers(json!(["sublet.dev/infrastructure", "sublet.dev/tenant"]));
        there
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, "blue", both)
            .await?;
        side.delete(SUBLET_CONTROL_PLANE, NAMESPACE_OF_TESTS, "blue")
            .await?;
        twin_like(there, "blue", "is to be deleted", is_terminating).await?;
        let ended = json!({"phase": "Deleting", "conditions": [{
            "type": "ControlPlaneReady", "status": "False", "reason": "Ended", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]});
        there
            .merge_status(CONTROL_PLANE, NAMESPACE_OF_TESTS, "blue", ended)
            .await?;
        eventually(PODS, "the control plane is gone", async || {
            let left = side.find(SUBLET_CONTROL_PLANE, NAMESPACE_OF_TESTS, "blue");
            ensure!(left.await?.is_none(), "it is there");
            Ok(())
        })
        .await?;
        let twin = there.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, "blue").await?;
        ensure!(
            items(&twin, "/metadata/finalizers").len() == 2,
            "{}",
            twin["metadata"]
        );

        side.delete(SUBLET_CLUSTER, NAMESPACE_OF_TESTS, "blue")
            .await?;
        twin_like(there, "blue", "is let go of by its place", |twin| {
            *items(twin, "/metadata/finalizers") == [json!("sublet.dev/tenant")]
        })
        .await?;
        ensure!(
            side.find(SUBLET_CLUSTER, NAMESPACE_OF_TESTS, "blue")
                .await?
                .is_some()
        );
        let free = finalizers(Value::Null);
        there
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, "blue", free)
            .await?;
        gone(side, "blue").await?;
        eventually(PODS, "the place is gone", async || {
            let left = side.find(SUBLET_CLUSTER, NAMESPACE_OF_TESTS, "blue");
            ensure!(left.await?.is_none(), "it is there");
            Ok(())
        })
        .await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_tenant_of_a_real_super_cluster_is_made_used_and_deleted_from_elsewhere() {
    on_rig(Wish::default(), async |rig| {
        let there = tenant::super_cluster().await?;
        let space = json!({"metadata": {"name": NAMESPACE_OF_TESTS}});
        account::present(there.create(NAMESPACE, space).await)?;
        let admin = std::fs::read_to_string(settings::kubeconfig()?)?;
        let kubeconfig = visitor(&there, &admin).await?;
        let mut here = Management::start(rig, &kubeconfig).await?;
        let name = e2e::make::unique("e2e-afar");
        here.create(&name).await?;
        twin_like(&there, &name, "is begun", |twin| {
            twin["status"]["phase"] == "Provisioning"
        })
        .await?;
        here.manager.kill();
        here.manager.start().await?;
        let vcp = here
            .like(&name, "is Ready", |vcp| condition(vcp, "Ready") == "True")
            .await?;

        // By the kubeconfig that is here.
        let secret = text(&vcp, "/status/kubeconfigSecretRef/name");
        let secret = here.side.get(SECRET, NAMESPACE_OF_TESTS, secret).await?;
        let data = secret["data"]["value"].as_str().context("no kubeconfig")?;
        let kubeconfig = String::from_utf8(BASE64_STANDARD.decode(data)?)?;
        let tenant = Tenant {
            name: name.clone(),
            id: TenantId::parse(text(&vcp, "/spec/identity"))?,
            side: Side::connect(&name, &kubeconfig).await?,
            kubeconfig,
            above: there.clone(),
        };
        tenant.side.get(NAMESPACE, "", "kube-system").await?;

        here.side
            .delete(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name)
            .await?;
        twin_like(&there, &name, "is to be deleted", is_terminating).await?;
        here.manager.kill();
        here.manager.start().await?;
        gone(here.side, &name).await?;
        gone(&there, &name).await?;
        eventually(SOON, "nothing of the tenant is left", async || {
            let left = crate::lifecycle::leftovers(&there, &tenant).await?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
    });
}
