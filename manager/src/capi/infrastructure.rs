//! What comes next for a SubletCluster; pure.
//!
//! It gives the tenant its identity and keeps what outlives the control plane. It counts as provisioned when the tenant
//! answers: Cluster API connects at that moment, and tries again only half a minute later when nobody is there.

use super::{
    Action, Decision,
    facts::{Facts, Tenant, is_managed_elsewhere},
    network,
    report::{Blocker, Fact, Report},
    stage::{self, Stage},
    without,
};
use crate::{elsewhere::twin, object::SUBLET_CONTROL_PLANE};
use api::keys;
use serde_json::json;

/// Decides.
pub(super) fn decide(seen: &Facts) -> Decision {
    if is_managed_elsewhere(&seen.object) {
        return Decision::default();
    }
    let owner = match stage::of(seen, "infrastructureRef") {
        Stage::Decided(decision) => return decision,
        Stage::Paused(why) => {
            return stage::let_move(seen)
                .map_or_else(|| Decision::say(Report::paused(seen, why)), Decision::act);
        }
        Stage::Unowned(blocker, paused) => {
            return Decision::say(waiting(blocker).set_aside(paused));
        }
        Stage::Leaving => return leave(seen),
        Stage::Held(blocker) => {
            let mut report = waiting(blocker.clone());
            report.set(Fact::of("Deleting", "True", blocker));
            return Decision::say(report);
        }
        Stage::Owned(owner) => owner,
    };
    let spec = &seen.object.body["spec"];
    let Some(identity) = spec["identity"].as_str() else {
        return Decision::act(Action::Identify);
    };
    let tenant = seen
        .tenant
        .as_ref()
        .filter(|tenant| tenant.vcp.spec.identity.as_deref() == Some(identity));
    if let (true, Some(slice)) = (
        spec["serviceCIDR"].is_null(),
        tenant.and_then(|tenant| tenant.vcp.spec.network.service_cidr.as_deref()),
    ) {
        return Decision::act(Action::Patch(json!({"spec": {"serviceCIDR": slice}})));
    }
    if let (true, Some(action)) = (tenant.is_some_and(Tenant::answers), stage::let_move(seen)) {
        return Decision::act(action);
    }
    Decision::say(settled(seen, owner, tenant))
}

fn settled(seen: &Facts, owner: &str, tenant: Option<&Tenant>) -> Report {
    let provisioned = seen.object.body["status"]["initialization"]["provisioned"] == true
        || tenant.is_some_and(Tenant::answers);
    let conflict = tenant
        .and_then(|tenant| tenant.condition("IdentityConflict"))
        .filter(|conflict| conflict.status == "True");
    let no_way = tenant
        .and_then(|tenant| tenant.condition(twin::REACHABLE))
        .filter(|way| way.status == "False");
    let ready = match (conflict.or(no_way), provisioned, tenant) {
        (Some(conflict), ..) => {
            Fact::no("Ready", Blocker::new(&*conflict.reason, &*conflict.message))
        }
        (None, true, _) => {
            let unused = tenant.map(|tenant| network::unused(seen, tenant));
            let said = Blocker::new("Provisioned", unused.unwrap_or_default());
            Fact::of("Ready", "True", said)
        }
        (None, false, Some(tenant)) => {
            Fact::no("Ready", Blocker::new("Provisioning", tenant.message()))
        }
        (None, false, None) => Fact::no("Ready", no_tenant(seen, owner)),
    };
    let not_deleting = Fact::no("Deleting", Blocker::new("NotDeleting", ""));
    let mut fields = vec![];
    if let Some(status) = tenant.and_then(|tenant| tenant.vcp.status.as_ref()) {
        let zones = &status.failure_domains;
        // An empty list isn't written: the contract knows none.
        let told = (!zones.is_empty()).then_some(zones);
        fields.push(("failureDomains", json!(told)));
    }
    if provisioned {
        fields.push(("initialization", json!({"provisioned": true})));
    }
    Report::of(vec![ready, not_deleting]).with(fields)
}

fn no_tenant(seen: &Facts, owner: &str) -> Blocker {
    let Some(cluster) = &seen.cluster else {
        let message =
            format!("Cluster {owner} owns this object and doesn't exist: delete the object");
        return Blocker::new("ClusterMissing", message);
    };
    match Facts::referred(cluster, "controlPlaneRef", SUBLET_CONTROL_PLANE) {
        Some(name) => Blocker::new(
            "WaitingForControlPlane",
            format!("waiting for SubletControlPlane {name} to make the tenant"),
        ),
        None => Blocker::new(
            "ControlPlaneMissing",
            format!(
                "Cluster {owner} names no SubletControlPlane in spec.controlPlaneRef: create one and name it there"
            ),
        ),
    }
}

fn waiting(blocker: Blocker) -> Report {
    let not_deleting = Fact::no("Deleting", Blocker::new("NotDeleting", ""));
    Report::of(vec![Fact::no("Ready", blocker), not_deleting])
}

/// Once the control plane has gone, all else goes; then the finalizer.
fn leave(seen: &Facts) -> Decision {
    let identity = seen.object.body["spec"]["identity"].as_str();
    let is_ours =
        |tenant: &&Tenant| identity.is_some() && tenant.vcp.spec.identity.as_deref() == identity;
    let Some(tenant) = seen.tenant.as_ref().filter(is_ours) else {
        return Decision::act(Action::Release);
    };
    let waits = |message: &str| {
        let blocker = Blocker::new("Deleting", message);
        let deleting = Fact::of("Deleting", "True", blocker.clone());
        Decision::say(Report::of(vec![deleting, Fact::no("Ready", blocker)]))
    };
    if let Some(control_plane) = &seen.other {
        let name = control_plane.name();
        return waits(&format!(
            "waiting for SubletControlPlane {name} to go first: delete the Cluster, or that object"
        ));
    }
    if !tenant.object.is_going() {
        return Decision::act(Action::Delete(tenant.object.clone()));
    }
    let held = tenant.object.items("/metadata/finalizers");
    if held
        .iter()
        .any(|held| held == keys::INFRASTRUCTURE_FINALIZER)
    {
        let patch = without(&tenant.object, keys::INFRASTRUCTURE_FINALIZER);
        return Decision::act(Action::PatchTenant(tenant.object.clone(), patch));
    }
    waits(tenant.message())
}
