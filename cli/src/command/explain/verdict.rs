//! Why an object is or isn't where it should be, from what was seen on both sides. Pure.

use super::need::{self, Need};
use crate::{owner::Marks, quota::Limit};
use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::Time};
use tenancy::quota::amount::Amounts;

/// Which way objects of a kind cross.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// From the tenant into the super cluster.
    Down,
    /// From the super cluster into the tenant.
    Up,
    /// Not at all.
    Stays,
    /// Not at all, though the tenant's class offers it; holds the custom resource's name.
    Unasked(String),
    /// `default/kubernetes`: the control plane's own twin stands for it.
    ControlPlane,
}

/// What was seen.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// CamelCase kind.
    pub(super) kind: String,
    /// Name of the tenant.
    pub(super) tenant_name: String,
    /// Identity of the tenant.
    pub(super) identity: String,
    /// Which way the kind crosses.
    pub(super) flow: Flow,
    /// The tenant's side.
    pub(super) tenant: Side,
    /// The super cluster's side.
    pub(super) super_side: Side,
    /// The super namespace that the object belongs into.
    pub(super) place: NamespaceState,
    /// For ConfigMaps and Secrets: why it crosses.
    pub(super) need: Option<Need>,
    /// `spec.paused` of the VirtualControlPlane.
    pub(super) paused: bool,
    /// Whether it is a pod whose tenant's own API server has no way to the kubelets of virtual nodes.
    pub(super) without_kubelet: bool,
    /// Command lines that the advice says to type.
    pub(super) hints: Hints,
    /// What the syncer says about the tenant as a whole, unless all is well.
    pub(super) trouble: Option<String>,
    /// Why deletions are held, if they are.
    pub(super) held: Option<Held>,
    /// What the syncer told the tenant about the object, the oldest first.
    pub(super) events: Vec<Event>,
    /// Labels and annotations that don't cross.
    pub(super) left_out: Vec<String>,
    /// Limits of the tenant and its groups that an object of the kind counts for.
    pub(super) limits: Vec<Limit>,
    /// What the object takes of them, or would.
    pub(super) asks: Amounts,
}

/// The condition `DeletionsHeld`.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The first of the reasons.
    pub(super) reason: String,
    /// All of them at length.
    pub(super) message: String,
}

impl Held {
    /// Whether deletions that the tenant told of are held too, not only those that are inferred.
    fn holds_told(&self) -> bool {
        matches!(
            self.reason.as_str(),
            "TenantIdentityChanged" | "TenantWentBack" | "MarkRefused"
        )
    }

    /// Whether it is the ends of the tenant's own pods that are held.
    pub(super) fn holds_ends(&self) -> bool {
        matches!(
            self.reason.as_str(),
            "SuperClusterWentBack" | "UpwardBreakerOpen"
        )
    }
}

/// Command lines about the tenant, ready to be typed.
#[derive(Clone, Debug)]
pub(super) struct Hints {
    pub(super) describe: String,
    pub(super) doctor: String,
    pub(super) resume: String,
    pub(super) breaker: String,
}

/// One side.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// Namespace on this side; empty for cluster-scoped objects.
    pub(super) namespace: String,
    /// Name on this side.
    pub(super) name: String,
    /// Whether the API server answered.
    pub(super) reachable: bool,
    /// The object, if it is there.
    pub(super) object: Option<Twin>,
}

/// An object, as far as it matters here.
#[derive(Clone, Debug)]
pub(super) struct Twin {
    pub(super) uid: String,
    pub(super) state: String,
    pub(super) why: Option<String>,
    pub(super) created: Option<Time>,
    pub(super) deleting: bool,
    pub(super) marks: Option<Marks>,
}

/// State of the super namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamespaceState {
    /// The kind has no namespace.
    NotNeeded,
    /// It is there and the tenant's.
    Ready,
    /// It isn't there.
    Missing,
    /// It is being deleted.
    Deleting,
    /// It is there and not the tenant's.
    Foreign,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether all is as it should be.
    pub(super) synced: bool,
    /// What is so.
    pub(super) text: String,
    /// What to do; empty when nothing is.
    pub(super) advice: String,
}

impl Facts {
    /// Whether both sides answered and neither has it.
    pub(super) fn is_nowhere(&self) -> bool {
        self.tenant.reachable && self.tenant.object.is_none() && self.super_side.object.is_none()
    }

    /// `NAMESPACE/NAME` in the tenant.
    pub(super) fn shown(&self) -> String {
        let Side {
            namespace, name, ..
        } = &self.tenant;
        if namespace.is_empty() {
            name.clone()
        } else {
            format!("{namespace}/{name}")
        }
    }
}

pub(super) fn good(text: impl Into<String>) -> Verdict {
    Verdict {
        synced: true,
        text: text.into(),
        advice: String::new(),
    }
}

fn bad(text: impl Into<String>, advice: impl Into<String>) -> Verdict {
    Verdict {
        synced: false,
        text: text.into(),
        advice: advice.into(),
    }
}

/// Judges what was seen.
pub(super) fn of(facts: &Facts) -> Verdict {
    if !facts.tenant.reachable {
        return bad(
            "The tenant's API server can't be asked, so only one side is known.",
            format!("see `{}`", facts.hints.describe),
        );
    }
    match (&facts.flow, &facts.tenant.object, &facts.super_side.object) {
        (_, None, None) => bad(
            "There is no such object on either side.",
            "check its name and namespace, and the kind",
        ),
        (Flow::Stays, Some(_), _) => good(format!(
            "Objects of kind {} stay in the tenant: they aren't synced.",
            facts.kind
        )),
        (Flow::Unasked(name), Some(_), _) => bad(
            format!(
                "Objects of kind {} stay in the tenant, whose class would let them cross.",
                facts.kind
            ),
            format!("name {name} in spec.sync.customResources of the VirtualControlPlane"),
        ),
        (Flow::Stays | Flow::Unasked(_), None, Some(_)) => bad(
            "The tenant has no such object; the super cluster's is its own.",
            "",
        ),
        (Flow::ControlPlane, _, Some(_)) => {
            good("It stands for the tenant's API servers; its twin is part of the control plane.")
        }
        (Flow::ControlPlane, _, None) => bad(
            "It stands for the tenant's API servers, and its twin in the control plane is missing.",
            format!("see `{}`", facts.hints.describe),
        ),
        (Flow::Up, Some(_), Some(_)) => {
            good("It is published from the super cluster, and read-only in the tenant.")
        }
        (Flow::Up, Some(_), None) => bad(
            "It exists in the tenant only: the super cluster has none of that name.",
            facts.waiting(),
        ),
        (Flow::Up, None, Some(_)) => bad(
            "The tenant doesn't see it.",
            "its policy, or its class's, selects what it sees",
        ),
        (Flow::Down, None, Some(twin)) => left_over(facts, twin),
        (Flow::Down, Some(tenant), Some(twin)) => both(facts, tenant, twin),
        (Flow::Down, Some(tenant), None) => not_down(facts, tenant),
    }
}

impl Facts {
    pub(super) fn waiting(&self) -> String {
        match &self.trouble {
            Some(trouble) => trouble.clone(),
            None => format!(
                "it takes moments; if it stays so, see `{}`",
                self.hints.doctor
            ),
        }
    }

    /// Why what must go is still there.
    pub(super) fn kept(&self, text: &str, held: &Held) -> Verdict {
        bad(
            format!("{text}: deletions are held ({}).", held.reason),
            format!(
                "the syncer says: {}; see `{}`",
                held.message, self.hints.breaker
            ),
        )
    }

    fn resume(&self) -> String {
        format!("end the pause with `{}`", self.hints.resume)
    }

    fn is_ours(&self, twin: &Twin) -> bool {
        twin.marks
            .as_ref()
            .is_some_and(|marks| marks.tenant == self.identity)
    }
}

fn left_over(facts: &Facts, twin: &Twin) -> Verdict {
    if !facts.is_ours(twin) {
        return bad(
            "The tenant has no such object; the super cluster's isn't the tenant's.",
            "",
        );
    }
    if twin.deleting {
        return bad(
            "It is deleted in the tenant, and its twin is being removed.",
            "",
        );
    }
    // That the ends of the tenant's own pods are held keeps nothing here.
    match facts.held.as_ref().filter(|held| !held.holds_ends()) {
        Some(held) => facts.kept("It is gone from the tenant, and its twin is kept", held),
        None => bad(
            "It is gone from the tenant, and its twin is still there.",
            facts.waiting(),
        ),
    }
}

fn both(facts: &Facts, tenant: &Twin, twin: &Twin) -> Verdict {
    let Some(marks) = twin.marks.as_ref().filter(|_| facts.is_ours(twin)) else {
        return bad(
            "The super cluster holds an object of that name that isn't the tenant's, and Sublet never takes one over.",
            "remove that object, or give the tenant's another name",
        );
    };
    if marks.uid != tenant.uid {
        let held = facts.held.as_ref().filter(|held| !held.holds_ends());
        if let Some(held) = held.filter(|_| !twin.deleting) {
            let uid = &marks.uid;
            let text = format!(
                "The twin belongs to an earlier object of that name (UID {uid}), and is kept"
            );
            return facts.kept(&text, held);
        }
        return bad(
            format!(
                "The twin belongs to an earlier object of that name (UID {}), and is replaced once it is gone.",
                marks.uid
            ),
            facts.waiting(),
        );
    }
    let held = facts.held.as_ref().filter(|held| held.holds_told());
    if let Some(held) = held.filter(|_| tenant.deleting && !twin.deleting) {
        return facts.kept(
            "It is being deleted in the tenant, and its twin is kept",
            held,
        );
    }
    if tenant.deleting || twin.deleting {
        return match facts.held_up() {
            Some((why, advice)) => bad(format!("It is being deleted: {why}"), advice),
            None => bad("It is being deleted.", ""),
        };
    }
    if facts.paused {
        return bad(
            "Both sides have it, but the tenant is paused: changes don't cross.",
            facts.resume(),
        );
    }
    if let Some(outlived) = need::outlived(facts) {
        return outlived;
    }
    if let Some((why, advice)) = facts.without_token(twin.created.as_ref()) {
        return bad(
            format!("Both sides have it, and it lacks a token: {why}"),
            advice,
        );
    }
    match facts.refusal(twin.created.as_ref()) {
        Some((refusal, advice)) => bad(
            format!("Both sides have it; the last change was refused: {refusal}"),
            advice,
        ),
        None if facts.without_kubelet => Verdict {
            advice: format!(
                "kubectl logs and exec don't reach it in the tenant, whose API server has no way to its node (see `{}`); in the \
                 super cluster they do, with -n {} {}",
                facts.hints.describe, facts.super_side.namespace, facts.super_side.name
            ),
            ..good("It is synced.")
        },
        None => match facts.shortfall() {
            Some((shortfall, advice)) => Verdict {
                advice,
                ..good(format!("It is synced, but not whole: {shortfall}"))
            },
            None => good("It is synced."),
        },
    }
}

fn not_down(facts: &Facts, tenant: &Twin) -> Verdict {
    if facts.paused {
        return bad("The tenant is paused: nothing crosses.", facts.resume());
    }
    if tenant.deleting {
        return bad(
            "It is being deleted in the tenant, and its twin is gone.",
            "see its finalizers",
        );
    }
    if let Some((refusal, advice)) = facts.refusal(None) {
        return bad(format!("It is refused: {refusal}"), advice);
    }
    match facts.place {
        NamespaceState::Missing => {
            return bad(
                format!(
                    "The super namespace {} isn't there yet.",
                    facts.super_side.namespace
                ),
                facts.waiting(),
            );
        }
        NamespaceState::Deleting => {
            return bad(
                format!(
                    "The super namespace {} is being deleted; it is made anew afterwards.",
                    facts.super_side.namespace
                ),
                "see its conditions with kubectl",
            );
        }
        NamespaceState::Foreign => {
            return bad(
                format!(
                    "The super namespace {} exists and isn't the tenant's.",
                    facts.super_side.namespace
                ),
                "find out who made it; Sublet never takes it over",
            );
        }
        NamespaceState::NotNeeded | NamespaceState::Ready => {}
    }
    if facts.need.as_ref().is_some_and(Need::is_none) {
        return good(format!(
            "Nothing of its namespace that crosses refers to it: a {} goes down once something does (or all do, where spec.sync.toSuper says so).",
            facts.kind
        ));
    }
    if ["Completed", "Failed", "Evicted", "Error"]
        .iter()
        .any(|ended| tenant.state.starts_with(ended))
    {
        return good(format!(
            "It has ended ({}), so it needs no twin any more.",
            tenant.state
        ));
    }
    let held = facts.held.as_ref().filter(|held| held.holds_ends());
    if let Some(held) = held.filter(|_| facts.kind == "Pod") {
        return facts.kept(
            "Its super pod is missing, and if it ran, its end waits",
            held,
        );
    }
    if facts.kind == "EndpointSlice" {
        return good(
            "The super cluster makes its own slices for Services with a selector; others cross.",
        );
    }
    bad("It isn't in the super cluster yet.", facts.waiting())
}

#[cfg(test)]
pub(super) mod tests;
