//! What the syncer shows to probes and scrapers.

use crate::{engine::Engine, metrics::PREFIX};
use std::fmt;
use telemetry::{Gauges, Page};
use tenancy::{circuit::Advice, tenant::TenantId};

impl Page for Engine {
    fn ready(&self) -> Result<(), &'static str> {
        if self.is_ready() {
            Ok(())
        } else {
            Err("the super cluster's objects aren't listed yet")
        }
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        self.metrics.text(&state(self))
    }
}

/// Gauges that are read when they are asked for.
fn state(engine: &Engine) -> Gauges {
    let mut now = Gauges::new(PREFIX);
    let one = |value| [(vec![], value)];
    let (led, alive) = engine.fleet.count();
    now.register(
        "super_request_limit",
        "Requests to the super API server at once",
        engine.cluster.pace().places().into_iter().flat_map(one),
    );
    now.register("led_tenants", "Tenants that it leads", one(led));
    now.register("replicas", "Syncers that it sees alive", one(alive));
    let served = engine.served();
    let of = |tenant: &TenantId| vec![("tenant", tenant.to_string())];
    let both = |tenant: &TenantId, [down, up]: [usize; 2]| {
        [("down", down), ("up", up)].map(|(direction, value)| {
            let direction = ("direction", direction.to_owned());
            ([of(tenant), vec![direction]].concat(), value)
        })
    };
    now.register(
        "queue_depth",
        "Keys that wait",
        served.iter().flat_map(|tenant| {
            let depths = [&engine.down, &engine.up].map(|queue| queue.depth(&tenant.id));
            both(&tenant.id, depths)
        }),
    );
    now.register(
        "objects",
        "Objects that are known of a tenant",
        served
            .iter()
            .map(|tenant| (of(&tenant.id), tenant.table.len())),
    );
    now.register(
        "object_bytes",
        "Bytes of memory that what is known of a tenant's objects takes",
        served
            .iter()
            .map(|tenant| (of(&tenant.id), tenant.table.bytes())),
    );
    now.register(
        "objects_untaken",
        "Objects of a tenant that aren't taken in, since too many are known",
        served
            .iter()
            .map(|tenant| (of(&tenant.id), tenant.untaken.count())),
    );
    now.register(
        "tenant_reachable",
        "Whether a tenant's API server is asked",
        served.iter().map(|tenant| {
            let reachable = tenant.cluster.pace().advice() == Advice::Ask;
            (of(&tenant.id), usize::from(reachable))
        }),
    );
    now.register(
        "breaker_open",
        "Whether the breaker is open",
        served.iter().flat_map(|tenant| {
            let open = tenant.breakers.state().map(|(open, _)| usize::from(open));
            both(&tenant.id, open)
        }),
    );
    now.register(
        "breaker_waiting",
        "Deletions that wait at the breaker",
        served.iter().flat_map(|tenant| {
            let waiting = tenant.breakers.state().map(|(_, waiting)| waiting);
            both(&tenant.id, waiting)
        }),
    );
    now.register(
        "deletions_held",
        "Reasons for which deletions are held",
        served
            .iter()
            .map(|tenant| (of(&tenant.id), tenant.gate.holds().len())),
    );
    now
}
