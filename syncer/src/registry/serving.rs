//! Tenants that are served: each is started, changed and stopped as the registry wants it.

use super::{Registry, Wanted};
use crate::{
    budget,
    client::{Cluster, Traffic},
    engine::Engine,
    intake::TenantSink,
    kubeconfig, lag, lasting, marks,
    pace::Pace,
    patrol, quota, reserve,
    tenants::{Tenant, kinds},
    term::Term,
    verdict::{self, ControlPlane},
    watch::{self, Target},
};
use futures::{FutureExt, future::BoxFuture};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tenancy::{
    kind::{self, SuperWatch},
    tenant::TenantId,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info_span;

/// How long the work in progress of a tenant that is no longer served may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// What a tenant is served by; another one is served anew.
#[derive(PartialEq)]
pub(super) struct Served {
    /// Hash of the text: credentials aren't kept a second time.
    kubeconfig: Option<String>,
    kinds: Vec<u8>,
}

impl Served {
    fn of(wanted: &Wanted) -> Self {
        Self {
            kubeconfig: wanted
                .kubeconfig
                .as_ref()
                .ok()
                .map(|text| text.hash().to_owned()),
            kinds: kinds(&wanted.rules),
        }
    }
}

/// Whether a tenant must be stopped: it isn't to be served any more, or only anew.
///
/// The latter, too, when another syncer led it in between: by the title of before nothing is written ever again.
fn is_outdated(served: &Served, wanted: Option<&Wanted>, tenant: Option<&Tenant>) -> bool {
    wanted.is_none_or(|wanted| Served::of(wanted) != *served)
        || tenant.is_some_and(|tenant| tenant.term.is_revoked())
}

/// Starts, changes and stops tenants; returns whether those that can't be served have been told why.
pub(super) async fn reconcile(
    registry: &Arc<Registry>,
    engine: &Arc<Engine>,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
    running: &mut HashMap<TenantId, Served>,
    mut wanted: HashMap<TenantId, Wanted>,
    led: &HashMap<TenantId, Arc<Term>>,
) -> bool {
    let mut unserved = vec![];
    let outdated: Vec<TenantId> = running
        .iter()
        .filter(|(id, served)| is_outdated(served, wanted.get(*id), engine.tenant(id).as_deref()))
        .map(|(id, _)| id.clone())
        .collect();
    for id in outdated {
        running.remove(&id);
        stop(registry, engine, tasks, &id);
    }
    for (id, wanted) in wanted.drain() {
        for queue in [&engine.down, &engine.up] {
            queue.set_weight(&id, wanted.weight);
        }
        engine.down.set_rate(&id, wanted.rate);
        if running.contains_key(&id) {
            let Some(tenant) = engine.tenant(&id) else {
                continue;
            };
            tenant.heed(&wanted.told);
            let mut telling = tenant.telling.lock();
            if !lag::stands(&telling, wanted.lag.as_ref()) {
                telling.forget();
            }
            drop(telling);
            let own = wanted.rules.quota.clone();
            let is_revised = tenant.revise(wanted.rules, wanted.record);
            quota::wake(engine, &tenant, tenant.quota.limit(&own, wanted.shared));
            if is_revised {
                // What was translated under the old rules is translated again.
                for key in tenant
                    .table
                    .all_keys(|key, entry| key.kind().goes_down() && entry.tenant.is_some())
                {
                    engine.down.add(&id, key);
                }
                engine.reconsider(&tenant);
            }
            continue;
        }
        let Some(term) = led.get(&id) else {
            continue;
        };
        match start(engine, tasks, cancel, &wanted, term).await {
            Ok(()) => drop(running.insert(id, Served::of(&wanted))),
            Err(err) => {
                tracing::warn!(tenant = %id, %err, "the tenant can't be served");
                let control_plane = ControlPlane {
                    id,
                    namespace: wanted.rules.vcp_namespace,
                    name: wanted.rules.vcp_name,
                };
                unserved.push((control_plane, "KubeconfigRefused", err.to_string()));
            }
        }
    }
    verdict::unserved(engine, unserved, led).await
}

async fn start(
    engine: &Arc<Engine>,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
    wanted: &Wanted,
    term: &Arc<Term>,
) -> anyhow::Result<()> {
    let text = wanted.kubeconfig.clone().map_err(anyhow::Error::msg)?;
    let config = kubeconfig::parse(text.as_str()).await?;
    let id = wanted.rules.id.clone();
    let table = engine.table(&id);
    // Names alone may be those of several namespaces.
    let server = format!("{} ({id})", wanted.rules.vcp_name);
    let mut tenant = Tenant::new(
        wanted.rules.clone(),
        wanted.record.clone(),
        Cluster::new(&config, Pace::own(&server), Traffic::Rare)?,
        table,
        engine.offered.clone(),
        term.clone(),
        &engine.waiting,
    );
    tenant.cancel = cancel.child_token();
    tenant.guard = engine.guard.clone();
    *tenant.telling.lock() = lag::begin(wanted.lag.as_ref());
    // Nothing waits yet.
    tenant
        .quota
        .limit(&wanted.rules.quota, wanted.shared.clone());
    tenant.quota.bytes.count();
    let tenant = Arc::new(tenant);
    tracing::info!(tenant = %id, vcp = %tenant.rules().vcp_name, "serving");
    engine.tenants.insert(id.clone(), tenant.clone());
    let watches = info_span!("tenant watches");
    for kind in tenant.kinds() {
        let rule = kind::rule(kind);
        let watched = rule.goes_down()
            || matches!(
                rule.super_watch(),
                SuperWatch::Published | SuperWatch::Placed
            );
        if !watched {
            continue;
        }
        let target = Target::of(rule);
        let sink = TenantSink {
            engine: engine.clone(),
            tenant: tenant.clone(),
            kind,
            roll: crate::table::Roll::default(),
        };
        let (cluster, cancel) = (tenant.cluster.clone(), tenant.cancel.clone());
        lasting::spawn(tasks, watches.clone(), &tenant.cancel, async move {
            watch::run(&cluster, &target, &sink, &cancel).await;
        });
    }
    for key in engine.offered.keys() {
        engine.up.add(&id, key);
    }
    for key in tenant.table.all_keys(|_, entry| entry.twin.is_some()) {
        engine.up.add(&id, key);
    }
    // These rest most of the time, and so box the steps that they take: hundreds of tenants have as many tasks of each.
    let of = || (engine.clone(), tenant.clone());
    let all = [
        (info_span!("marks"), keeps(of(), marks::keep)),
        (info_span!("patrol"), keeps(of(), patrol::keep)),
        (info_span!("quota"), keeps(of(), quota::keep)),
        (info_span!("budget"), keeps(of(), budget::keep)),
        (info_span!("sharing"), keeps(of(), crate::sharing::keep)),
        (info_span!("reserve"), keeps(of(), reserve::keep)),
        (info_span!("verdict"), keeps(of(), verdict::report)),
    ];
    for (span, work) in all {
        lasting::spawn(tasks, span, &tenant.cancel, work);
    }
    Ok(())
}

/// One of a tenant's tasks.
fn keeps<F>(
    (engine, tenant): (Arc<Engine>, Arc<Tenant>),
    task: impl FnOnce(Arc<Engine>, Arc<Tenant>) -> F,
) -> BoxFuture<'static, ()>
where
    F: Future<Output = ()> + Send + 'static,
{
    task(engine, tenant).boxed()
}

/// Stops serving a tenant; its memory stays, since its objects do.
fn stop(registry: &Arc<Registry>, engine: &Arc<Engine>, tasks: &TaskTracker, id: &TenantId) {
    let Some((_, tenant)) = engine.tenants.remove(id) else {
        return;
    };
    tracing::info!(tenant = %id, "no longer serving");
    tenant.cancel.cancel();
    engine.down.remove(id);
    engine.up.remove(id);
    tenant.table.forget_tenant_side();
    let (engine, registry) = (engine.clone(), registry.clone());
    engine.stopping.insert(id.clone());
    tasks.spawn(async move {
        tenant.activity.close();
        if tokio::time::timeout(STOP_LIMIT, tenant.activity.wait())
            .await
            .is_err()
        {
            // Every request has a time limit, so this ends; till then nobody else may begin.
            tracing::warn!(tenant = %tenant.id, "its work takes long to end");
            tenant.activity.wait().await;
        }
        engine.stopping.remove(&tenant.id);
        let is_served_anew = engine.tenant(&tenant.id).is_some();
        if !is_served_anew {
            engine.metrics.forget(&tenant.id);
        }
        if engine.fleet.leads(&tenant.id) && !is_served_anew {
            verdict::stopped(&engine, &ControlPlane::of(&tenant), &tenant.term).await;
        }
        // Its title may be another's now.
        registry.changed.notify_one();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake::{fake, numbered_tenant},
        kubeconfig::Text,
    };
    use std::collections::BTreeMap;
    use tenancy::bucket::Rate;

    #[tokio::test]
    async fn the_series_of_a_tenant_that_is_handed_over_go_once_its_work_has_ended() {
        let (cluster, _server) = fake();
        let engine = Arc::new(crate::fake::engine(&cluster));
        let (registry, tasks) = (Arc::new(Registry::default()), TaskTracker::new());
        let tenant = Arc::new(numbered_tenant(1, &cluster));
        engine.tenants.insert(tenant.id.clone(), tenant.clone());
        let work = tenant.activity.token();
        stop(&registry, &engine, &tasks, &tenant.id);
        tokio::task::yield_now().await;
        engine.metrics.repaired(&tenant.id);
        drop(work);
        tasks.close();
        tasks.wait().await;
        let text = engine.metrics.text(&telemetry::Gauges::default()).unwrap();
        assert!(!text.contains(tenant.id.as_str()), "{text}");
    }

    /// F19: the title is taken back in the very step that finds it lost, so that the tenant is wanted all the time.
    #[tokio::test]
    async fn r7_a_tenant_that_another_syncer_led_in_between_is_served_anew() {
        let (cluster, _server) = fake();
        let tenant = numbered_tenant(1, &cluster);
        let wanted = Wanted {
            rules: (*tenant.rules()).clone(),
            record: tenant.record(),
            kubeconfig: Ok(Text::new("the same".into())),
            told: vec![],
            lag: None,
            weight: 1,
            rate: Rate::per_second(1, 1),
            shared: BTreeMap::new(),
        };
        let served = Served::of(&wanted);
        assert!(!is_outdated(&served, Some(&wanted), Some(&tenant)));
        tenant.term.revoke();
        assert!(is_outdated(&served, Some(&wanted), Some(&tenant)));
        assert!(is_outdated(&served, None, None));
    }
}
