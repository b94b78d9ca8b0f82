//! O1: each object of a tenant that must cross has exactly its twin, each twin its object, and both say the same.
//!
//! What must cross, and how, is asked of the pure rules, with facts of the oracle's own; so it holds for every kind.

use super::facts::{Known, Place};
use crate::{
    kind::CONTROL_PLANE,
    rig::{Guest, Rig},
    side::Side,
    tenant::NAMESPACE_OF_TESTS,
    wait::{PODS, eventually},
};
use anyhow::{Context, ensure};
use api::{PodNetwork, VirtualControlPlane, keys};
use http::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{collections::HashMap, time::Duration};
use tenancy::{
    kind::{Cx, KINDS, Kind, SuperWatch, TenantView, is_finished, translate},
    meta,
    object::Object,
    offer::Offers,
    plan::{Plan, plan},
    pod_rules::PodRules,
    quota::amount::limits,
    reach::Reach,
    resolver::Resolver,
    sharing::{Opened, Shared},
    tenant::{TenantRules, Workload},
    to_super::Extent,
};

/// Differences that a message names.
const NAMED: usize = 12;

/// Waits until both sides of a tenant say the same.
pub async fn agree(rig: &Rig, guest: &Guest) -> anyhow::Result<()> {
    agree_within(rig, guest, PODS).await
}

/// The same, for so long.
pub async fn agree_within(rig: &Rig, guest: &Guest, limit: Duration) -> anyhow::Result<()> {
    eventually(
        limit,
        &format!("both sides of {} say the same (O1)", guest.name),
        async || {
            let found = differences(rig, guest).await?;
            let count = found.len();
            let named: Vec<String> = found.into_iter().take(NAMED).collect();
            ensure!(count == 0, "{count} differences: {}", named.join("; "));
            Ok(())
        },
    )
    .await
    .with_context(|| rig.syncer.tail())
}

/// What differs between the two sides of a tenant.
pub async fn differences(rig: &Rig, guest: &Guest) -> anyhow::Result<Vec<String>> {
    let rules = rules(&rig.side, guest).await?;
    let mut objects = HashMap::new();
    let mut twins = HashMap::new();
    let mut found = vec![];
    for rule in going_down() {
        for object in list(&guest.side, rule, "").await? {
            objects.insert(place(rule, object.namespace(), object.name()), object);
        }
        for twin in list(&rig.side, rule, &owned(guest)).await? {
            let Some(owner) = meta::owner(&twin) else {
                continue;
            };
            let place = place(rule, &owner.namespace, &owner.name);
            if twins.insert(place.clone(), twin).is_some() {
                found.push(format!("{place:?} has two twins"));
            }
        }
    }
    let known = Known::new(objects, &twins, &rules);
    let cx = Cx {
        rules: &rules,
        facts: &known,
    };
    for rule in going_down() {
        let of_kind = known
            .objects
            .iter()
            .filter(|((kind, ..), _)| *kind == rule.resource().kind);
        for (place, object) in of_kind {
            if let Some(difference) = compare(rule, object, twins.remove(place).as_ref(), &cx) {
                found.push(format!("{place:?}: {difference}"));
            }
        }
    }
    found.extend(twins.keys().map(|place| format!("{place:?} is an orphan")));
    found.sort_unstable();
    Ok(found)
}

fn compare(rule: &dyn Kind, object: &Object, twin: Option<&Object>, cx: &Cx<'_>) -> Option<String> {
    let is_pod = rule.resource().kind == "Pod";
    let wanted = match translate(rule, object, cx) {
        // A pod that has ended needs no twin, and a refused one may keep an older one.
        Ok(Some(_)) if is_pod && is_finished(object) => return None,
        Err(_) => return None,
        Ok(wanted) => wanted,
    };
    let (want, have) = match (wanted, twin) {
        (None, None) => return None,
        (None, Some(_)) => return Some("has a twin and must have none".into()),
        (Some(_), None) => return Some("has no twin".into()),
        (Some(want), Some(have)) => (want, have),
    };
    if object.is_terminating() || have.is_terminating() {
        return Some("is on its way out".into());
    }
    match plan(rule, want, Some(have)) {
        Ok(Plan::Nothing) => {}
        Ok(plan) => return Some(format!("the twin isn't as it must be: {plan:?}")),
        Err(foreign) => return Some(foreign.to_string()),
    }
    let view = TenantView {
        uid: object.uid().to_owned(),
        now: Some(object.clone()),
        bound: object
            .text("/spec/nodeName")
            .is_some_and(|node| !node.is_empty()),
        projection: meta::fingerprint(&rule.up_projection(object)),
    };
    let missing = rule.up(have, &view, cx);
    (!missing.is_empty()).then(|| format!("isn't shown its state: {missing:?}"))
}

/// A hash over what the super cluster holds for one of a tenant's namespaces, the same for every run of one workload:
/// without UIDs, addresses, hashes and the namespace's own name.
pub async fn digest(rig: &Rig, guest: &Guest, namespace: &str) -> anyhow::Result<String> {
    let twin = guest.twin(namespace);
    let mut lines = vec![];
    for rule in going_down().filter(|rule| rule.resource().namespaced) {
        let path = rule.resource().path(&twin, "");
        let list = match rig.side.request(Method::GET, &path, None).await {
            Err(problem) if problem.code == 404 && rule.is_optional() => continue,
            other => other?,
        };
        for object in list["items"].as_array().into_iter().flatten() {
            let role = &object["metadata"]["labels"][keys::ROLE];
            let mut body = object.clone();
            for field in ["metadata", "status"] {
                body[field].take();
            }
            if let Some(spec) = body["spec"].as_object_mut() {
                spec.retain(|field, _| !field.starts_with("clusterIP"));
            }
            // Tokens differ from run to run, and their Secrets are named after the pod's UID.
            let (name, body) = if role == keys::ROLE_TOKEN {
                ("token".into(), String::new())
            } else {
                (object["metadata"]["name"].to_string(), body.to_string())
            };
            let name = name.replace(namespace, "N");
            lines.push(format!(
                "{} {name} {}",
                rule.resource().kind,
                scrub(&body, &twin, namespace)
            ));
        }
    }
    lines.sort_unstable();
    let digest = Sha256::digest(lines.join("\n"));
    Ok(format!("{} objects, {digest:x}", lines.len()))
}

/// Without names that differ from run to run: the namespace's, and those that hold a hash of a UID.
fn scrub(text: &str, twin: &str, namespace: &str) -> String {
    let text = text.replace(twin, "N").replace(namespace, "N");
    ["sublet-token-", "kube-api-access-"]
        .iter()
        .fold(text, |text, prefix| without_suffixes(&text, prefix))
}

fn without_suffixes(text: &str, prefix: &str) -> String {
    let mut parts = text.split(prefix);
    let mut out = parts.next().unwrap_or_default().to_owned();
    let is_suffix = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    for part in parts {
        out += prefix;
        out += part.trim_start_matches(is_suffix);
    }
    out
}

/// Kinds that go down and that the super cluster serves to the syncer.
pub(super) fn going_down() -> impl Iterator<Item = &'static dyn Kind> {
    KINDS.iter().copied().filter(|rule| {
        rule.goes_down() && matches!(rule.super_watch(), SuperWatch::Owned | SuperWatch::Never)
    })
}

/// Selects a tenant's twins, without what has no twin: tokens and isolation.
pub(super) fn owned(guest: &Guest) -> String {
    format!("{}={},!{}", keys::TENANT, guest.id, keys::ROLE)
}

fn place(rule: &dyn Kind, namespace: &str, name: &str) -> Place {
    (rule.resource().kind, namespace.into(), name.into())
}

/// All objects of a kind; none when the API server doesn't serve it.
pub(super) async fn list(
    side: &Side,
    rule: &dyn Kind,
    selector: &str,
) -> anyhow::Result<Vec<Object>> {
    let resource = rule.resource();
    let mut query = crate::side::encode(selector);
    if let Some(own) = rule.tenant_selector().filter(|_| selector.is_empty()) {
        query = crate::side::encode(own);
    }
    let path = format!("{}?labelSelector={query}", resource.path("", ""));
    let mut list: Value = match side.request(Method::GET, &path, None).await {
        Err(problem) if problem.code == 404 => return Ok(vec![]),
        other => other?,
    };
    let items = list["items"].as_array_mut().map(std::mem::take);
    items
        .unwrap_or_default()
        .into_iter()
        .map(|mut item| {
            item["apiVersion"] = resource.api_version().into();
            item["kind"] = resource.kind.into();
            Ok(Object::from_value(item)?)
        })
        .collect()
}

async fn rules(side: &Side, guest: &Guest) -> anyhow::Result<TenantRules> {
    let vcp = side
        .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &guest.name)
        .await?;
    let vcp: VirtualControlPlane = serde_json::from_value(vcp)?;
    let proof = vcp.status.as_ref().and_then(|status| status.proof.as_ref());
    Ok(TenantRules {
        id: guest.id.clone(),
        vcp_namespace: NAMESPACE_OF_TESTS.into(),
        vcp_name: guest.name.clone(),
        slice: vcp
            .spec
            .network
            .service_cidr
            .as_deref()
            .and_then(|text| text.parse().ok()),
        cluster_domain: vcp.spec.network.cluster_domain.clone(),
        resolver: Resolver::of(
            vcp.spec.network.dns,
            vcp.status
                .as_ref()
                .and_then(|status| status.dns_address.as_deref()),
        ),
        pod_security: vcp.spec.policy.pod_security.unwrap_or_default(),
        pods: PodRules::default(),
        reach: Reach::of(&PodNetwork::default(), vcp.spec.policy.egress.as_deref()),
        shared: Shared::default(),
        opened: Opened::default(),
        is_hosted: vcp.spec.external.is_none(),
        node_selector: vcp.spec.policy.node_selector.clone(),
        node_affinity: api::PodRules::default().affinities(&vcp.spec.policy.node_affinity),
        nodes: vcp.spec.sync.nodes.unwrap_or_default(),
        budgets: api::Budgets::Yielding,
        to_super: Extent::of(&[], &vcp.spec.sync.to_super),
        group_labels: std::collections::BTreeMap::new(),
        quota: limits(&vcp.spec.policy.quota.0).map_err(anyhow::Error::msg)?,
        shared_quota: std::collections::BTreeMap::new(),
        offers: Offers::default(),
        custom: vec![],
        workload: Workload::Runs,
        restore_counter: proof.map_or(0, |proof| proof.restore_counter),
    })
}
