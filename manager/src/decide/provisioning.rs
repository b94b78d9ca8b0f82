//! What a claimed control plane lacks, in the order in which it is put there; pure.
//!
//! First what all else stands on, then keys, then the workloads that read them, and at last what is inside the tenant.

use super::{Action, Decision, due, foreign_secret, has_begun, lacking, push_unmet, workloads};
use crate::{
    lifecycle::{
        reminder,
        sleep::{self, Scale, Stage},
        starts::{self, Turn},
        upgrade,
    },
    network::proxy,
    object::SECRET,
    observe::Seen,
    pki::{self, Authority},
    provision::{self, Addresses, cluster_keys, keys, route::route},
    running::parts::Parts,
    spec::control_plane::{ControlPlane, Refusal},
    status::Report,
    store::room::{self, Space},
};
use api::keys as marks;
use std::time::Duration;

/// What comes next for a control plane whose claims stand.
pub(super) fn provision(seen: &Seen, cp: &ControlPlane, system: &str) -> Result<Decision, Refusal> {
    match &seen.namespace {
        Some(namespace) if namespace.label(marks::TENANT) != Some(cp.owner.id.as_str()) => {
            return Err(Refusal::ForeignNamespace(cp.namespace.clone()));
        }
        Some(namespace) if namespace.is_going() => {
            let waits = format!("waiting for the old namespace {} to end", cp.namespace);
            return Ok(Decision::rest(
                Report::provisioning(&waits).again(Duration::from_secs(1)),
            ));
        }
        Some(_) | None => {}
    }
    let mut actions = foundations(seen, cp, system);
    let addresses = match addresses(seen, cp) {
        Ok(addresses) => addresses,
        Err(waits) => {
            return Ok(Decision {
                actions,
                report: sleep::told(Report::lacking(seen, waits), seen, cp),
            });
        }
    };
    if cp.owner.cluster.is_some() {
        // What a person brought is used; until one may look, there may be something.
        let from_a_person = match seen.access_beside {
            None => return Ok(Decision::act(actions)),
            Some(_) => cluster_keys::from_a_person(cp, seen)?,
        };
        if !from_a_person.is_empty() {
            actions.extend(from_a_person.into_iter().map(Action::Create));
            return Ok(Decision::act(actions));
        }
    }
    actions.extend(due(
        keys::orders(cp, &addresses),
        |order| seen.objects.get(SECRET, &order.name),
        seen,
    ));
    if !actions.is_empty() {
        return Ok(Decision::act(actions));
    }
    let foreign = foreign_secret(seen, &cp.owner);
    if let (Some(refusal), false) = (foreign, has_begun(seen)) {
        return Err(refusal);
    }
    push_route(&mut actions, seen, cp, &addresses, system);
    let held = push_workloads(&mut actions, seen, cp, &addresses);
    push_kubeconfigs(&mut actions, seen, cp, &addresses);
    actions.extend(reminder::due(cp, &seen.objects));
    if seen.tenant.answers() {
        push_inside(&mut actions, seen, cp, &addresses, system);
    }
    let parts = Parts {
        held,
        ..Parts::of(&seen.objects, seen.now)
    };
    let report = Report::of(seen, cp, &addresses, &parts);
    Ok(Decision {
        actions,
        report: sleep::told(report, seen, cp),
    })
}

/// The namespace, the rights in it and beside it, and what stands there before any keys do.
fn foundations(seen: &Seen, cp: &ControlPlane, system: &str) -> Vec<Action> {
    let mut actions = vec![];
    let beside = provision::access_beside(&cp.owner, system);
    for (want, have) in [
        (provision::namespace(cp), &seen.namespace),
        (provision::access(cp, system), &seen.access),
        (beside, &seen.access_beside),
    ] {
        push_unmet(&mut actions, want, have.as_ref());
    }
    for want in provision::base(cp, system) {
        let have = seen.objects.get(want.kind, want.name());
        push_unmet(&mut actions, want, have);
    }
    actions
}

/// Where the API server is reached, or what that waits for.
fn addresses(seen: &Seen, cp: &ControlPlane) -> Result<Addresses, &'static str> {
    let Some(proxy) = &seen.proxy else {
        return Err(proxy::AWAITED);
    };
    Addresses::of(cp, &seen.objects, proxy, seen.node.as_deref()).ok_or(
        "waiting for a node with an InternalIP: clients reach the API server there; or set \
         spec.endpoint, or endpointHost of the class",
    )
}

/// What tells the proxy of the tenant.
fn push_route(
    actions: &mut Vec<Action>,
    seen: &Seen,
    cp: &ControlPlane,
    addresses: &Addresses,
    system: &str,
) {
    let authority = seen.objects.get(SECRET, Authority::ProxyClient.secret());
    if let Some(Ok(authority)) = authority.map(|secret| pki::text(secret, "tls.crt")) {
        let before = (seen.route.as_ref(), seen.now);
        let route = route(cp, addresses, &authority, system, before);
        push_unmet(actions, route, seen.route.as_ref());
    }
}

/// The [`workloads`]; if they start by that, not before it is their turn. Returns why one isn't changed.
fn push_workloads(
    actions: &mut Vec<Action>,
    seen: &Seen,
    cp: &ControlPlane,
    addresses: &Addresses,
) -> Option<String> {
    let (planned, held) = match cp.stage {
        Stage::LettingGo => (vec![], None),
        _ => workloads(seen, cp, addresses),
    };
    let may = cp.stage.scale() != Scale::Full
        || !starts::is_start(&planned)
        || upgrade::is_taken_back(seen)
        || starts::has_place(&seen.vcp, seen.now);
    match seen.turn {
        _ if may => actions.extend(planned),
        Some(Turn::Later { .. }) => {}
        Some(Turn::Now) | None => actions.push(Action::TakePlace),
    }
    held
}

/// Kubeconfigs for people and for Cluster API, and the other Secrets that it reads.
fn push_kubeconfigs(
    actions: &mut Vec<Action>,
    seen: &Seen,
    cp: &ControlPlane,
    addresses: &Addresses,
) {
    let user = keys::user_kubeconfig(cp, addresses);
    let for_cluster_api = keys::cluster_kubeconfig(cp, addresses).map(|order| {
        let have = seen.cluster_secrets.get(SECRET, &order.name);
        (order, have)
    });
    for (order, have) in [(user, seen.user_secret.as_ref())]
        .into_iter()
        .chain(for_cluster_api)
    {
        if have.is_some_and(|secret| cluster_keys::is_anothers(&cp.owner, secret)) {
            continue;
        }
        actions.extend(due(vec![order], |_| have, seen));
    }
    for want in cluster_keys::objects(cp, seen) {
        let have = seen.cluster_secrets.get(SECRET, want.name());
        push_unmet(actions, want, have);
    }
}

/// What the tenant lacks inside, and the syncer's credentials.
///
/// The syncer's rights come before its credentials. Once it has both, what the tenant refuses doesn't keep it from new
/// ones: without them its sync would end.
fn push_inside(
    actions: &mut Vec<Action>,
    seen: &Seen,
    cp: &ControlPlane,
    addresses: &Addresses,
    system: &str,
) {
    let syncer = keys::syncer_kubeconfig(cp, addresses, system);
    let have = seen.syncer_secret.as_ref();
    let mut syncer = due(vec![syncer], |_| have, seen);
    if have.is_some() {
        actions.append(&mut syncer);
    }
    if room::is_lacking(seen, cp) {
        actions.push(Action::MakeRoom(Space::of(cp)));
    }
    // What was refused for want of room is tried again by the next pass.
    if seen.refused.is_none() {
        let lacking = lacking(seen, cp).into_iter();
        actions.extend(lacking.map(Action::ApplyInTenant));
    }
    actions.extend(syncer);
}
