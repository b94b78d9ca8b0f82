//! A test's own place: a namespace in a shared tenant, and its twin.

use crate::{
    dump,
    kind::{CONFIG_MAP, DEPLOYMENT, Kind, NAMESPACE, POD, SERVICE, SERVICE_ACCOUNT},
    make,
    read::{self, brief, condition, has_ended, last_words, text},
    side::{Problem, Side},
    tenant::{Shared, Tenant},
    wait::{PODS, SOON, eventually},
};
use anyhow::{Context, bail, ensure};
use futures::FutureExt;
use serde_json::{Value, json};
use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::LazyLock,
    time::Duration,
};
use tokio::{runtime::Runtime, sync::RwLock};

/// A namespace that only one test uses.
pub struct Space {
    /// The tenant it is in.
    pub tenant: Tenant,
    /// Name of the namespace.
    pub name: String,
    /// Name of the super namespace.
    pub twin: String,
}

/// One runtime for all tests of the process: clients are shared, and must not end with the test that made them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime can be started")
});

/// Shared by the tests that run beside others.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// Runs a test that needs no namespace of its own.
///
/// # Panics
/// When the test fails; that is how a test fails.
pub fn run(body: impl AsyncFnOnce() -> anyhow::Result<()>) {
    let beside = async {
        let _machine = MACHINE.read().await;
        body().await
    };
    if let Err(err) = RUNTIME.block_on(beside) {
        fail(&err);
    }
}

/// Runs a test that takes the whole machine, so that neither it nor another runs out of time.
///
/// # Panics
/// When the test fails; that is how a test fails.
pub fn alone(body: impl AsyncFnOnce() -> anyhow::Result<()>) {
    let alone = async {
        let _machine = MACHINE.write().await;
        body().await
    };
    if let Err(err) = RUNTIME.block_on(alone) {
        fail(&err);
    }
}

/// Fails the test with the error's causes and, when backtraces are on, the line of the test that saw it.
fn fail(err: &anyhow::Error) -> ! {
    let backtrace = err.backtrace().to_string();
    let place = backtrace
        .lines()
        .find(|line| line.contains("tests/e2e/"))
        .unwrap_or_default();
    panic!("{err:#} {}", place.trim());
}

/// Runs a test in a namespace of its own; on failure it prints the state of both sides. The namespace goes either way.
///
/// # Panics
/// When the test fails; that is how a test fails.
pub fn within(tenant: Shared, name: &str, body: impl AsyncFnOnce(&Space) -> anyhow::Result<()>) {
    RUNTIME.block_on(async {
        let _machine = MACHINE.read().await;
        let space = match Space::make(tenant, name).await {
            Ok(space) => space,
            Err(err) => fail(&err.context("no namespace for the test")),
        };
        let result = AssertUnwindSafe(body(&space)).catch_unwind().await;
        if !matches!(result, Ok(Ok(()))) {
            eprintln!("{}", dump::space(&space).await);
        }
        let gone = space.tenant.side.delete(NAMESPACE, "", &space.name).await;
        match result {
            Ok(Ok(())) => gone.unwrap_or_else(|err| panic!("{err}")),
            Ok(Err(err)) => fail(&err),
            Err(panic) => resume_unwind(panic),
        }
    });
}

impl Space {
    async fn make(tenant: Shared, name: &str) -> anyhow::Result<Self> {
        let tenant = tenant.get().await?.clone();
        let name = make::unique(name);
        Self::open(tenant, &name).await
    }

    /// Makes a namespace in a tenant and waits until pods can be made in it.
    pub async fn open(tenant: Tenant, name: &str) -> anyhow::Result<Self> {
        tenant
            .side
            .create(NAMESPACE, json!({"metadata": {"name": name}}))
            .await?;
        eventually(
            SOON,
            "the tenant's controller makes the default ServiceAccount",
            async || {
                tenant.side.get(SERVICE_ACCOUNT, name, "default").await?;
                Ok(())
            },
        )
        .await?;
        Ok(Self {
            twin: tenant.twin(name),
            name: name.to_owned(),
            tenant,
        })
    }

    /// The tenant's API server.
    pub fn side(&self) -> &Side {
        &self.tenant.side
    }

    /// The super cluster.
    pub fn above(&self) -> &Side {
        &self.tenant.above
    }

    /// Creates an object in the namespace.
    pub async fn create(&self, kind: Kind, mut object: Value) -> Result<Value, Problem> {
        object["metadata"]["namespace"] = self.name.clone().into();
        self.side().create(kind, object).await
    }

    /// Creates a pod.
    pub async fn pod(&self, name: &str, spec: Value) -> Result<Value, Problem> {
        self.create(POD, json!({"metadata": {"name": name}, "spec": spec}))
            .await
    }

    /// The tenant's object.
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Value, Problem> {
        self.side().get(kind, &self.name, name).await
    }

    /// The tenant's object, if there is one.
    pub async fn find(&self, kind: Kind, name: &str) -> Result<Option<Value>, Problem> {
        self.side().find(kind, &self.name, name).await
    }

    /// Deletes the tenant's object.
    pub async fn delete(&self, kind: Kind, name: &str) -> Result<(), Problem> {
        self.side().delete(kind, &self.name, name).await
    }

    /// Merges a patch into the tenant's object.
    pub async fn merge(&self, kind: Kind, name: &str, patch: Value) -> Result<Value, Problem> {
        self.side().merge(kind, &self.name, name, patch).await
    }

    /// The super object of that name, if there is one.
    pub async fn find_twin(&self, kind: Kind, name: &str) -> Result<Option<Value>, Problem> {
        self.above().find(kind, &self.twin, name).await
    }

    /// Waits for the super object of that name.
    pub async fn twin(&self, kind: Kind, name: &str) -> anyhow::Result<Value> {
        eventually(
            SOON,
            &format!("{} {name} is in the super cluster", kind.name),
            async || Ok(self.above().get(kind, &self.twin, name).await?),
        )
        .await
    }

    /// Waits until the super object is as `check` wants it.
    pub async fn twin_like(
        &self,
        kind: Kind,
        name: &str,
        what: &str,
        check: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        eventually(
            SOON,
            &format!("super {} {name}: {what}", kind.name),
            async || {
                let twin = self.above().get(kind, &self.twin, name).await?;
                ensure!(check(&twin), "{twin}");
                Ok(twin)
            },
        )
        .await
    }

    /// Waits until the tenant's object is as `check` wants it.
    pub async fn like(
        &self,
        kind: Kind,
        name: &str,
        what: &str,
        limit: Duration,
        check: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        eventually(
            limit,
            &format!("{} {name}: {what}", kind.name),
            async || {
                let object = self.get(kind, name).await?;
                ensure!(check(&object), "{}", brief(&object));
                Ok(object)
            },
        )
        .await
    }

    /// Waits until the tenant's pod is Ready.
    pub async fn ready(&self, pod: &str) -> anyhow::Result<Value> {
        self.like(POD, pod, "is Ready", PODS, |pod| {
            condition(pod, "Ready") == "True"
        })
        .await
    }

    /// Waits until a pod that runs once has succeeded, and returns what it said at its end.
    pub async fn outcome(&self, pod: &str) -> anyhow::Result<String> {
        let pod = self.like(POD, pod, "has ended", PODS, has_ended).await?;
        ensure!(
            text(&pod, "/status/phase") == "Succeeded",
            "{}",
            brief(&pod)
        );
        Ok(last_words(&pod).to_owned())
    }

    /// Waits until neither side has an object of that name.
    pub async fn gone(&self, kind: Kind, name: &str) -> anyhow::Result<()> {
        eventually(
            PODS,
            &format!("{} {name} is gone on both sides", kind.name),
            async || {
                if let Some(object) = self.find(kind, name).await? {
                    bail!("the tenant has {}", brief(&object));
                }
                if let Some(twin) = self.find_twin(kind, name).await? {
                    bail!("the super cluster has {}", brief(&twin));
                }
                Ok(())
            },
        )
        .await
    }

    /// Waits for the event that says why an object isn't synced, and checks that the super cluster has no such object.
    pub async fn refused(&self, kind: Kind, object: &Value, reason: &str) -> anyhow::Result<Value> {
        let event = read::event(self.side(), kind, object, reason).await?;
        let twin = self.find_twin(kind, read::name(object)).await?;
        ensure!(
            twin.is_none(),
            "{reason} was told, and yet the super cluster has it: {}",
            twin.unwrap_or_default()
        );
        Ok(event)
    }

    /// Runs the Deployment `web`, whose pods read the ConfigMap `settings`, behind the Service `web`.
    pub async fn run_web(&self, replicas: u32) -> anyhow::Result<()> {
        self.create(CONFIG_MAP, make::config_map("settings", "k", "v"))
            .await?;
        let mut container = make::idle();
        container["envFrom"] = make::env_from("settings");
        let deployment = make::deployment("web", replicas, make::pod_spec(container));
        self.create(DEPLOYMENT, deployment).await?;
        self.create(SERVICE, make::service("web")).await?;
        self.rolled_out(DEPLOYMENT, "web", replicas.into()).await?;
        Ok(())
    }

    /// Waits until a Deployment or StatefulSet has so many ready replicas, and no others.
    pub async fn rolled_out(&self, kind: Kind, name: &str, replicas: u64) -> anyhow::Result<Value> {
        self.like(
            kind,
            name,
            &format!("has {replicas} ready replicas"),
            PODS,
            |object| {
                let number = |pointer| {
                    object
                        .pointer(pointer)
                        .and_then(Value::as_u64)
                        .unwrap_or_default()
                };
                number("/status/observedGeneration") == number("/metadata/generation")
                    && number("/status/replicas") == replicas
                    && number("/status/readyReplicas") == replicas
                    && number("/status/updatedReplicas") == replicas
            },
        )
        .await
    }

    /// The tenant's pods with a label.
    pub async fn pods(&self, selector: &str) -> Result<Vec<Value>, Problem> {
        self.side().list(POD, &self.name, selector).await
    }

    /// Runs a shell script in a pod of the tenant, and returns what it wrote to `/dev/termination-log`.
    pub async fn ask(&self, pod: &str, script: &str) -> anyhow::Result<String> {
        self.pod(pod, crate::make::once(crate::make::shell(script)))
            .await?;
        self.outcome(pod)
            .await
            .with_context(|| format!("pod {pod} runs {script:?}"))
    }
}
