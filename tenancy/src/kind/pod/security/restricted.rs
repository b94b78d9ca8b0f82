//! The level `restricted`: current hardening practice, on top of `baseline`.

use super::{
    Check, Violation, baseline, containers_where, context, named, plural, quoted, setters,
    violation,
};
use crate::kind::pod::{
    containers,
    fields::{items, text},
};
use serde_json::Value;
use std::collections::BTreeSet;

/// The checks that come on top, or in place, of those of `baseline`.
pub(super) const CHECKS: &[Check] = &[
    privilege_escalation,
    capabilities,
    baseline::proc_mount,
    volume_types,
    run_as_non_root,
    run_as_user,
    seccomp,
];

/// Fields of Linux can't be set on a Windows pod, so their absence is no violation there.
fn is_windows(spec: &Value) -> bool {
    spec.pointer("/os/name").and_then(Value::as_str) == Some("windows")
}

/// In a user namespace, root is nobody outside.
fn has_user_namespace(spec: &Value) -> bool {
    spec.get("hostUsers") == Some(&Value::Bool(false))
}

fn privilege_escalation(spec: &Value) -> Option<Violation> {
    let bad = |container: &Value| {
        context(container, "/allowPrivilegeEscalation") != Some(&Value::Bool(false))
    };
    let containers = if is_windows(spec) {
        vec![]
    } else {
        containers_where(spec, bad)
    };
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        named("container", &containers)
    );
    violation(
        "allowPrivilegeEscalation != false",
        (!containers.is_empty()).then_some(detail),
    )
}

fn capabilities(spec: &Value) -> Option<Violation> {
    if is_windows(spec) {
        return None;
    }
    let drops_all = |container: &Value| {
        let dropped = context(container, "/capabilities")
            .into_iter()
            .flat_map(|capabilities| items(capabilities, "drop"));
        dropped.filter_map(Value::as_str).any(|name| name == "ALL")
    };
    let keeping = containers_where(spec, |container| !drops_all(container));
    let mut added = BTreeSet::new();
    let adding = baseline::containers_adding_other_than(&["NET_BIND_SERVICE"], spec, &mut added);
    let details: Vec<String> = [
        (!keeping.is_empty()).then(|| {
            format!(
                "{} must set securityContext.capabilities.drop=[\"ALL\"]",
                named("container", &keeping)
            )
        }),
        (!adding.is_empty()).then(|| {
            format!(
                "{} must not include {} in securityContext.capabilities.add",
                named("container", &adding),
                quoted(&added)
            )
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    violation(
        "unrestricted capabilities",
        (!details.is_empty()).then(|| details.join("; ")),
    )
}

fn volume_types(spec: &Value) -> Option<Violation> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let bad = |volume: &&Value| !ALLOWED.iter().any(|kind| volume.get(kind).is_some());
    let volumes: Vec<&Value> = items(spec, "volumes").filter(bad).collect();
    let names: Vec<&str> = volumes.iter().map(|volume| text(volume, "name")).collect();
    let kinds: BTreeSet<&str> = volumes
        .iter()
        .map(|volume| {
            let kinds = volume
                .as_object()
                .into_iter()
                .flatten()
                .map(|(field, _)| field.as_str());
            kinds
                .into_iter()
                .find(|field| *field != "name")
                .unwrap_or("unknown")
        })
        .collect();
    let detail = format!(
        "{} {} {} {}",
        named("volume", &names),
        if names.len() == 1 { "uses" } else { "use" },
        plural("restricted volume type", kinds.len()),
        quoted(&kinds),
    );
    violation(
        "restricted volume types",
        (!names.is_empty()).then_some(detail),
    )
}

fn run_as_non_root(spec: &Value) -> Option<Violation> {
    if has_user_namespace(spec) {
        return None;
    }
    let asks = |holder: &Value| context(holder, "/runAsNonRoot").and_then(Value::as_bool);
    let explicit = containers_where(spec, |container| asks(container) == Some(false));
    let detail = setters(asks(spec) == Some(false), &explicit)
        .map(|setters| format!("{setters} must not set securityContext.runAsNonRoot=false"))
        .or_else(|| {
            let implicit = containers_where(spec, |container| {
                asks(container).is_none() && asks(spec) != Some(true)
            });
            let who = named("container", &implicit);
            (!implicit.is_empty())
                .then(|| format!("pod or {who} must set securityContext.runAsNonRoot=true"))
        });
    violation("runAsNonRoot != true", detail)
}

fn run_as_user(spec: &Value) -> Option<Violation> {
    if has_user_namespace(spec) {
        return None;
    }
    let root = |holder: &Value| context(holder, "/runAsUser").and_then(Value::as_i64) == Some(0);
    let setters = setters(root(spec), &containers_where(spec, root))?;
    violation(
        "runAsUser=0",
        Some(format!("{setters} must not set runAsUser=0")),
    )
}

fn seccomp(spec: &Value) -> Option<Violation> {
    if is_windows(spec) {
        return None;
    }
    let has = |holder: &Value| context(holder, "/seccompProfile").is_some();
    baseline::seccomp(spec).or_else(|| {
        let without: Vec<&str> = containers::all(spec)
            .filter(|container| !has(container) && !has(spec))
            .map(|container| text(container, "name"))
            .collect();
        let who = named("container", &without);
        let detail =
            format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"");
        violation("seccompProfile", (!without.is_empty()).then_some(detail))
    })
}
