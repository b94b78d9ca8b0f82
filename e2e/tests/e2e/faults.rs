//! Faults, on rigs of plain API servers: what the syncer does when something breaks, and what it never does.

mod clocks;
mod downtime;
mod eviction;
mod external;
mod finalizers;
mod fleet;
mod footprint;
mod freezing;
mod full;
mod killed;
mod lag;
mod lost;
mod partition;
mod rotation;
mod skew;
mod stale;
mod sweep;
mod traffic;

use anyhow::ensure;
use e2e::{
    kind::{CONFIG_MAP, NAMESPACE, POD},
    make, oracle,
    rig::Rig,
    wait::{busy, eventually},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Requests of a test that are under way at once.
const AT_ONCE: usize = 8;

/// What a namespace is filled with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    ConfigMaps,
    Pods,
}

/// Makes a namespace with so many objects, `o0` and on.
async fn fill(
    rig: &Rig,
    tenant: usize,
    namespace: &str,
    count: usize,
    what: Fill,
) -> anyhow::Result<()> {
    let guest = &rig.tenants[tenant];
    if guest.side.find(NAMESPACE, "", namespace).await?.is_none() {
        guest.namespace(namespace).await?;
    }
    each(0..count, async |number| {
        let name = format!("o{number}");
        match what {
            Fill::ConfigMaps => {
                guest
                    .side
                    .create(CONFIG_MAP, settings(namespace, &name))
                    .await?
            }
            Fill::Pods => guest.side.create(POD, pod(namespace, &name)).await?,
        };
        Ok(())
    })
    .await
}

/// Does something for each number, several at once.
async fn each(
    numbers: impl IntoIterator<Item = usize>,
    step: impl AsyncFn(usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let step = &step;
    stream::iter(numbers)
        .map(|number| async move { step(number).await })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}

/// Both sides of a tenant say the same within the limit that the specification sets, from `began` on, as a busy machine keeps
/// it; returns how long that took.
async fn recovers(
    rig: &Rig,
    tenant: usize,
    began: Instant,
    specified: Duration,
) -> anyhow::Result<Duration> {
    let left = busy(specified).saturating_sub(began.elapsed());
    oracle::pairs::agree_within(rig, &rig.tenants[tenant], left).await?;
    Ok(began.elapsed())
}

/// A new object of a tenant crosses in time.
async fn crosses(
    rig: &Rig,
    tenant: usize,
    (namespace, name): (&str, &str),
    limit: Duration,
) -> anyhow::Result<()> {
    let guest = &rig.tenants[tenant];
    let object = settings(namespace, name);
    guest.side.create(CONFIG_MAP, object).await?;
    let what = format!("{name} of tenant {tenant} crosses");
    eventually(limit, &what, async || {
        let twin = guest.twin(namespace);
        Ok(rig.side.get(CONFIG_MAP, &twin, name).await?)
    })
    .await
    .map(drop)
}

fn settings(namespace: &str, name: &str) -> Value {
    let mut object = make::config_map(name, "k", "v");
    object["metadata"]["namespace"] = namespace.into();
    object
}

fn pod(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace}, "spec": make::pod_spec(make::idle())})
}

/// An error that names what is compared.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, have: &T, want: &T) -> anyhow::Result<()> {
    ensure!(have == want, "{what}: {have:?} instead of {want:?}");
    Ok(())
}
