//! What the syncer shows to probes and scrapers.

use crate::engine::Engine;
use std::fmt;
use telemetry::Page;
use tenancy::circuit::Advice;

impl Page for Engine {
    fn ready(&self) -> Result<(), &'static str> {
        if self.is_ready() {
            Ok(())
        } else {
            Err("the super cluster's objects aren't listed yet")
        }
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        Ok(self.metrics.text()? + &state(self))
    }
}

/// Gauges that are read when they are asked for.
fn state(engine: &Engine) -> String {
    let mut text = String::new();
    if let Some(places) = engine.cluster.pace().places() {
        text += &format!("sublet_syncer_super_request_limit {places}\n");
    }
    let (led, alive) = engine.fleet.count();
    text += &format!("sublet_syncer_led_tenants {led}\nsublet_syncer_replicas {alive}\n");
    for tenant in engine.served() {
        let id = &tenant.id;
        let (down, up, known) = (
            engine.down.depth(id),
            engine.up.depth(id),
            tenant.table.len(),
        );
        text +=
            &format!("sublet_syncer_queue_depth{{tenant=\"{id}\",direction=\"down\"}} {down}\n");
        text += &format!("sublet_syncer_queue_depth{{tenant=\"{id}\",direction=\"up\"}} {up}\n");
        text += &format!("sublet_syncer_objects{{tenant=\"{id}\"}} {known}\n");
        let reachable = u8::from(tenant.cluster.pace().advice() == Advice::Ask);
        text += &format!("sublet_syncer_tenant_reachable{{tenant=\"{id}\"}} {reachable}\n");
        for (direction, (open, waiting)) in ["down", "up"].iter().zip(tenant.breakers.state()) {
            let labels = format!("tenant=\"{id}\",direction=\"{direction}\"");
            text += &format!(
                "sublet_syncer_breaker_open{{{labels}}} {}\n",
                u8::from(open)
            );
            text += &format!("sublet_syncer_breaker_waiting{{{labels}}} {waiting}\n");
        }
        let holds = tenant.gate.holds().len();
        text += &format!("sublet_syncer_deletions_held{{tenant=\"{id}\"}} {holds}\n");
    }
    text
}
