//! Pods in simulated tenants, made and brought to readiness without a request of this program's own.

use crate::{
    plant::Plant,
    pod::{self, Tokens},
    world::NODE,
};
use anyhow::{Context, ensure};
use e2e::{
    kind,
    read::{name, text},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{net::Ipv4Addr, time::Duration};

const POD: &str = kind::POD.name;
const NAMESPACE: &str = "bench";
const RUN: &str = "bench";
/// No step takes longer, unless something is stuck.
const LIMIT: Duration = Duration::from_secs(600);

/// Pods of all tenants together.
pub(crate) struct Pods<'a> {
    plant: &'a Plant,
    made: usize,
}

impl<'a> Pods<'a> {
    /// None yet, but a node for them and a namespace in each tenant.
    pub(crate) fn prepare(plant: &'a Plant) -> anyhow::Result<Self> {
        let labels = json!({"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"});
        let node = json!({"metadata": {"name": NODE, "labels": labels}, "spec": {}});
        plant.above.seed(kind::NODE.name, node)?;
        for guest in &plant.guests {
            let namespace = json!({"metadata": {"name": NAMESPACE}});
            guest.server.seed(kind::NAMESPACE.name, namespace)?;
        }
        Ok(Self { plant, made: 0 })
    }

    /// How many there are.
    pub(crate) fn made(&self) -> usize {
        self.made
    }

    /// Makes so many more in each tenant, and waits until the super cluster has them.
    pub(crate) async fn make(&mut self, each: usize) -> anyhow::Result<()> {
        for _ in 0..each {
            for guest in &self.plant.guests {
                let pod = pod::make(RUN, NAMESPACE, self.made, Tokens::Off);
                guest.server.seed(POD, pod)?;
                self.made += 1;
            }
            // The servers answer in between.
            tokio::task::yield_now().await;
        }
        let above = &self.plant.above;
        eventually(LIMIT, "the super cluster has all pods", async || {
            let there = above.count(POD);
            ensure!(
                there == self.made,
                "{there} of {}; not simulated: {:?}",
                self.made,
                self.plant.gaps()
            );
            Ok(())
        })
        .await
    }

    /// Binds all that aren't bound, as a scheduler does, and waits until the tenants see it.
    pub(crate) async fn bind(&self) -> anyhow::Result<()> {
        let is_new = |pod: &Value| text(pod, "/spec/nodeName").is_empty();
        for (_, pod) in self.numbered().filter(|(_, pod)| is_new(pod)) {
            let bound = json!([{
                "type": "PodScheduled", "status": "True", "lastProbeTime": null,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]);
            let place = (text(&pod, "/metadata/namespace"), name(&pod));
            // Spec and status in one write, as by a binding.
            self.plant.above.change(POD, place, "binding", |pod| {
                pod["spec"]["nodeName"] = NODE.into();
                pod["status"]["conditions"] = bound;
            })?;
        }
        let show_node = |pod: &Value| text(pod, "/spec/nodeName") == NODE;
        self.all_show(("POST", "binding"), "their node", show_node)
            .await
    }

    /// Makes all ready that aren't, as a kubelet does, and waits until the tenants see it.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        for (number, pod) in self.numbered().filter(|(_, pod)| !pod::is_ready(pod)) {
            let address = Ipv4Addr::from(0x0a80_0001 + u32::try_from(number)?).to_string();
            let place = (text(&pod, "/metadata/namespace"), name(&pod));
            self.plant.above.change(POD, place, "status", |pod| {
                let ready = pod::ready_status(&address);
                for (field, value) in ready.as_object().into_iter().flatten() {
                    pod["status"][field] = value.clone();
                }
            })?;
        }
        self.all_show(("PATCH", "status"), "that they are ready", pod::is_ready)
            .await
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, Value)> {
        self.plant.above.all(POD).into_iter().enumerate()
    }

    /// Waits until every tenant was written to once for each of its pods, then until all of them show it: to look at all
    /// pods again and again would cost more than the sync.
    async fn all_show(
        &self,
        (verb, subresource): (&str, &str),
        what: &str,
        shows: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<()> {
        let guests = &self.plant.guests;
        let step = format!("all pods of the tenants show {what}");
        eventually(LIMIT, &step, async || {
            let written = guests.iter().map(|guest| {
                let counts = guest.server.counts();
                counts.count(verb, kind::POD.plural, subresource)
            });
            let written: usize = written.sum();
            ensure!(written >= self.made, "{written} writes for {}", self.made);
            Ok(())
        })
        .await?;
        eventually(LIMIT, &step, async || {
            let all = guests.iter().flat_map(|guest| guest.server.all(POD));
            let missing = all.filter(|pod| !shows(pod)).count();
            ensure!(missing == 0, "{missing} of {} don't", self.made);
            Ok(())
        })
        .await
        .with_context(|| format!("not simulated: {:?}", self.plant.gaps()))
    }
}
