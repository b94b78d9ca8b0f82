//! Tenants: the two that tests share, and those that a test makes for itself.

use crate::{
    dump,
    kind::{CONTROL_PLANE, NAMESPACE, SECRET},
    read::{condition, items, text},
    settings,
    side::Side,
    wait::{PODS, SOON, eventually},
};
use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tenancy::{naming, tenant::TenantId};
use tokio::sync::OnceCell;

/// Super namespace of the VirtualControlPlanes that tests make.
pub const NAMESPACE_OF_TESTS: &str = "sublet-e2e";

/// One of the shared tenants.
#[derive(Clone, Copy, Debug)]
pub struct Shared(&'static str);

/// The tenant that most tests work in.
pub const A: Shared = Shared("e2e-a");
/// Another one, which must see nothing of the first.
pub const B: Shared = Shared("e2e-b");

/// A tenant that works.
#[derive(Clone)]
pub struct Tenant {
    /// Name of the VirtualControlPlane.
    pub name: String,
    /// Identity.
    pub id: TenantId,
    /// Kubeconfig of its admin.
    pub kubeconfig: String,
    /// Its API server, as admin.
    pub side: Side,
    /// The super cluster, as admin.
    pub above: Side,
}

/// The super cluster, as admin.
pub async fn super_cluster() -> anyhow::Result<Side> {
    let path = settings::kubeconfig()?;
    let kubeconfig =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Side::connect("the super cluster", &kubeconfig).await
}

impl Shared {
    /// The tenant; the first caller makes it, and one of an earlier run is taken as it is.
    pub async fn get(self) -> anyhow::Result<&'static Tenant> {
        static TENANTS: [OnceCell<Tenant>; 2] = [const { OnceCell::const_new() }; 2];
        let cell = if self.0 == A.0 {
            &TENANTS[0]
        } else {
            &TENANTS[1]
        };
        cell.get_or_try_init(|| async { Tenant::make(self.0, json!({})).await })
            .await
    }
}

impl Tenant {
    /// Makes a throw-away tenant and waits until it is Ready; `spec` is merged into its spec.
    pub async fn make(name: &str, spec: Value) -> anyhow::Result<Self> {
        let above = super_cluster().await?;
        request(&above, name, spec).await?;
        Self::ready(above, name).await
    }

    /// Waits until a VirtualControlPlane is Ready and opens it.
    pub async fn ready(above: Side, name: &str) -> anyhow::Result<Self> {
        let what = format!("VirtualControlPlane {name} is Ready");
        let ready = eventually(2 * PODS, &what, async || {
            let vcp = above.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, name).await?;
            ensure!(condition(&vcp, "Ready") == "True", "{}", conditions(&vcp));
            Ok(vcp)
        })
        .await;
        let vcp = match ready {
            Ok(vcp) => vcp,
            Err(err) => return Err(err.context(dump::control_plane(&above, name).await)),
        };
        let id = TenantId::parse(text(&vcp, "/spec/identity"))?;
        let kubeconfig = kubeconfig(&above, &vcp).await?;
        let side = Side::connect(&format!("tenant {name}"), &kubeconfig).await?;
        Ok(Self {
            name: name.to_owned(),
            id,
            kubeconfig,
            side,
            above,
        })
    }

    /// Runs a test in a throw-away tenant; on failure it prints the control plane's state. The tenant goes either way.
    pub async fn within(
        name: &str,
        spec: Value,
        body: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let tenant = Self::make(name, spec).await?;
        let result = body(&tenant).await;
        if result.is_err() {
            eprintln!("{}", dump::control_plane(&tenant.above, name).await);
        }
        tenant.delete().await?;
        result
    }

    /// The super namespace of one of its namespaces.
    pub fn twin(&self, namespace: &str) -> String {
        naming::super_namespace(&self.id, &self.name, namespace)
    }

    /// The super namespace of its control plane.
    pub fn control_plane_namespace(&self) -> String {
        naming::control_plane_namespace(&self.id, &self.name)
    }

    /// Deletes it and waits until its VirtualControlPlane is gone.
    pub async fn delete(&self) -> anyhow::Result<()> {
        delete(&self.above, &self.name).await
    }
}

/// Asks for a throw-away tenant unless there is one; one that is on its way out is waited for.
pub async fn request(above: &Side, name: &str, spec: Value) -> anyhow::Result<Value> {
    let namespace = json!({"metadata": {"name": NAMESPACE_OF_TESTS}});
    match above.create(NAMESPACE, namespace).await {
        Err(problem) if problem.code != 409 => return Err(problem.into()),
        _ => {}
    }
    let mut whole = json!({"className": "default", "etcd": {"storage": {"ephemeral": true}}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        whole[field] = value.clone();
    }
    let vcp = json!({"metadata": {"name": name, "namespace": NAMESPACE_OF_TESTS}, "spec": whole});
    eventually(
        PODS,
        &format!("an older VirtualControlPlane {name} is gone"),
        async || match above.create(CONTROL_PLANE, vcp.clone()).await {
            Ok(made) => Ok(made),
            Err(problem) if problem.code == 409 => {
                let old = above.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, name).await?;
                ensure!(
                    !crate::read::is_terminating(&old),
                    "it is being deleted: {}",
                    conditions(&old)
                );
                Ok(old)
            }
            Err(problem) => Err(problem.into()),
        },
    )
    .await
}

/// Deletes a VirtualControlPlane and waits until it is gone.
pub async fn delete(above: &Side, name: &str) -> anyhow::Result<()> {
    above
        .delete(CONTROL_PLANE, NAMESPACE_OF_TESTS, name)
        .await?;
    eventually(
        PODS,
        &format!("VirtualControlPlane {name} is gone"),
        async || match above.find(CONTROL_PLANE, NAMESPACE_OF_TESTS, name).await? {
            None => Ok(()),
            Some(vcp) => anyhow::bail!("{}", conditions(&vcp)),
        },
    )
    .await
}

/// Phase, message and conditions of a VirtualControlPlane in one line.
pub fn conditions(vcp: &Value) -> String {
    let list = items(vcp, "/status/conditions").iter().map(|c| {
        format!(
            "{}={} {} {:?}",
            text(c, "/type"),
            text(c, "/status"),
            text(c, "/reason"),
            text(c, "/message")
        )
    });
    let list: Vec<String> = list.collect();
    format!(
        "phase {:?}, {:?}; {}",
        text(vcp, "/status/phase"),
        text(vcp, "/status/message"),
        list.join("; ")
    )
}

async fn kubeconfig(above: &Side, vcp: &Value) -> anyhow::Result<String> {
    let (name, key) = (
        text(vcp, "/status/kubeconfigSecretRef/name"),
        text(vcp, "/status/kubeconfigSecretRef/key"),
    );
    let secret = eventually(SOON, "the kubeconfig Secret is there", async || {
        Ok(above.get(SECRET, NAMESPACE_OF_TESTS, name).await?)
    })
    .await?;
    let data = secret["data"][key]
        .as_str()
        .with_context(|| format!("Secret {name} has no key {key:?}"))?;
    Ok(String::from_utf8(BASE64_STANDARD.decode(data)?)?)
}
