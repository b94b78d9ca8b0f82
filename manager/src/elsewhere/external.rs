//! A tenant whose API server runs elsewhere: nothing is provisioned, its kubeconfig is checked and handed to the syncer.

use crate::{
    clients::kubeconfig::{Access, Error},
    decide::{Action, Decision, Settled, push_unmet, settle_slice},
    object::{Object, SECRET},
    observe::Seen,
    pki,
    provision::{self, keys},
    spec::{
        ceilings,
        control_plane::{Owner, Refusal, given_slice},
    },
    status::{Fact, Report},
};
use api::External;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;
use std::time::Duration;
use tenancy::naming;

pub(crate) mod way_out;

/// What comes next for an external tenant whose identity is claimed.
pub(crate) fn decide(
    seen: &Seen,
    owner: &Owner,
    external: &External,
    system: &str,
) -> Result<Decision, Refusal> {
    let beside = provision::access_beside(owner, system);
    if !seen
        .access_beside
        .as_ref()
        .is_some_and(|have| beside.is_met_by(have))
    {
        return Ok(Decision::act(vec![Action::Apply(beside)]));
    }
    let class = ceilings::class(seen)?;
    ceilings::allowed(owner, class)?;
    if given_slice(&seen.vcp)?.is_some() {
        let prefix = class.spec.service_slice_prefix;
        if let Settled::Not(actions) = settle_slice(seen, owner, prefix, system)? {
            return Ok(Decision::act(actions));
        }
    }
    let reference = &external.kubeconfig_secret_ref;
    let path = format!("{}/{}", owner.namespace, reference.name);
    let Some(secret) = &seen.external_secret else {
        return Err(Refusal::Kubeconfig(format!(
            "Secret {path} doesn't exist: create it with the tenant's kubeconfig"
        )));
    };
    let refused = |why: &dyn std::fmt::Display| {
        Refusal::Kubeconfig(format!("Secret {path}, key {}: {why}", reference.key))
    };
    let text = pki::text_of(secret, &reference.key)
        .ok_or_else(|| refused(&"there is no text under this key"))?;
    let access = Access::parse(&text).map_err(|error| refused(&error))?;
    let copy = copy(owner, &access, system).map_err(|error| refused(&error))?;
    let mut facts = vec![
        Fact::yes("ControlPlaneReady", "External"),
        Fact::yes("DNSReady", "NotOurs"),
    ];
    if given_slice(&seen.vcp)?.is_none() {
        facts[0].message =
            "spec.network.serviceCIDR isn't set: ClusterIP Services aren't synced".into();
    }
    let mut report = Report::summed_up(
        seen,
        facts,
        vec![("endpoint", json!(access.server))],
        Duration::from_secs(60),
    );
    let (mut actions, offer) = way_out::decide(seen, owner, external.way_out.as_ref(), system)?;
    // It syncs without: not ready is only what doesn't sync.
    report.conditions.push(offer);
    push_unmet(&mut actions, copy, seen.syncer_secret.as_ref());
    Ok(Decision { actions, report })
}

/// The syncer's Secret: written from what was understood, never copied as text.
fn copy(owner: &Owner, access: &Access, system: &str) -> Result<Object, Error> {
    let text = access.to_yaml(&owner.name, "sublet")?;
    let mut body = json!({"metadata": keys::syncer_metadata(owner), "type": "Opaque"});
    body["data"][keys::SYNCER_KEY] = json!(BASE64_STANDARD.encode(text));
    Ok(Object::new(
        SECRET,
        Some(system),
        &naming::tenant_kubeconfig(&owner.id),
        body,
    )
    .sealed())
}

#[cfg(test)]
mod tests;
