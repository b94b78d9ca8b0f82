//! Pod Security Standards, judged on the translated pod.
//!
//! The super namespace enforces the same level once more. Judging here too turns the API server's refusal into an event
//! on the tenant's pod, and holds where that namespace's label is missing. The checks are those of Kubernetes 1.36
//! (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>), in its order and its words. Its checks of
//! deprecated annotations are absent: such annotations never cross.

mod baseline;
mod restricted;

use super::{
    containers,
    fields::{Fields, Rule, text},
};
use crate::kind::Refused;
use api::PodSecurity;
use serde_json::Value;

/// What one check finds: `None`, or what is forbidden and where.
type Check = fn(&Value) -> Option<Violation>;

/// Something that a level forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    reason: String,
    detail: String,
}

/// Refuses a pod spec that violates the level, naming every violation at once.
pub(super) fn check(spec: &Value, level: PodSecurity) -> Result<(), Refused> {
    let (name, checks) = match level {
        PodSecurity::Privileged => return Ok(()),
        PodSecurity::Baseline => ("baseline", [baseline::SHARED, baseline::REPLACED].concat()),
        PodSecurity::Restricted => (
            "restricted",
            [baseline::SHARED, restricted::CHECKS].concat(),
        ),
    };
    let violations: Vec<String> = checks
        .iter()
        .filter_map(|check| check(spec))
        .map(|violation| format!("{} ({})", violation.reason, violation.detail))
        .collect();
    if violations.is_empty() {
        return Ok(());
    }
    Err(Refused::new(
        "PodSecurity",
        format!("violates PodSecurity {name:?}: {}", violations.join(", ")),
    ))
}

/// PodSecurityContext.
pub(super) const POD_SECURITY_CONTEXT: Fields = &[
    ("appArmorProfile", Rule::Object(PROFILE)),
    ("fsGroup", Rule::Pass),
    ("fsGroupChangePolicy", Rule::Pass),
    ("runAsGroup", Rule::Pass),
    ("runAsNonRoot", Rule::Judged),
    ("runAsUser", Rule::Judged),
    ("seLinuxChangePolicy", Rule::Pass),
    ("seLinuxOptions", Rule::Object(SE_LINUX)),
    ("seccompProfile", Rule::Object(PROFILE)),
    ("supplementalGroups", Rule::Pass),
    ("supplementalGroupsPolicy", Rule::Pass),
    (
        "sysctls",
        Rule::List(&[("name", Rule::Judged), ("value", Rule::Pass)]),
    ),
    ("windowsOptions", Rule::Object(WINDOWS)),
];

/// SecurityContext of a container.
pub(super) const SECURITY_CONTEXT: Fields = &[
    ("allowPrivilegeEscalation", Rule::Judged),
    ("appArmorProfile", Rule::Object(PROFILE)),
    (
        "capabilities",
        Rule::Object(&[
            ("add", Rule::Judged),
            ("drop", Rule::Translated(&Rule::Judged)),
        ]),
    ),
    ("privileged", Rule::AboveBaseline(&Rule::Pass)),
    ("procMount", Rule::Judged),
    ("readOnlyRootFilesystem", Rule::Pass),
    ("runAsGroup", Rule::Pass),
    ("runAsNonRoot", Rule::Judged),
    ("runAsUser", Rule::Judged),
    ("seLinuxOptions", Rule::Object(SE_LINUX)),
    ("seccompProfile", Rule::Object(PROFILE)),
    ("windowsOptions", Rule::Object(WINDOWS)),
];

const PROFILE: Fields = &[("localhostProfile", Rule::Pass), ("type", Rule::Judged)];

const SE_LINUX: Fields = &[
    // A runtime gives each pod categories of its own; with those of another pod it would reach that one's files.
    (
        "level",
        Rule::Privileged(
            &Rule::Pass,
            "SELinuxLevel",
            "it keeps pods of a node apart, and each is given its own: leave it out",
        ),
    ),
    ("role", Rule::AboveBaseline(&Rule::Pass)),
    ("type", Rule::Judged),
    ("user", Rule::AboveBaseline(&Rule::Pass)),
];

/// A domain account is given to a ServiceAccount by the super cluster's RBAC, which the tenant's accounts aren't in.
const GMSA: Rule = Rule::Privileged(
    &Rule::Pass,
    "DomainAccount",
    "domain accounts are the super cluster's: leave it out",
);

const WINDOWS: Fields = &[
    ("gmsaCredentialSpec", GMSA),
    ("gmsaCredentialSpecName", GMSA),
    ("hostProcess", Rule::AboveBaseline(&Rule::Pass)),
    ("runAsUserName", Rule::Pass),
];

/// Names of the containers for which `bad` holds.
fn containers_where(spec: &Value, mut bad: impl FnMut(&Value) -> bool) -> Vec<&str> {
    // Not `any`: `bad` also collects values, so it must see all of them.
    containers::all(spec)
        .filter(|container| bad(container))
        .map(|container| text(container, "name"))
        .collect()
}

/// Who sets something bad: the pod, some containers, or both.
fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let pod = pod.then(|| "pod".to_owned());
    let containers = (!containers.is_empty()).then(|| named("container", containers));
    let setters: Vec<String> = pod.into_iter().chain(containers).collect();
    (!setters.is_empty()).then(|| setters.join(" and "))
}

/// `container "a"` or `containers "a", "b"`.
fn named(noun: &str, names: &[&str]) -> String {
    format!("{} {}", plural(noun, names.len()), quoted(names))
}

fn plural(noun: &str, count: usize) -> String {
    if count == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}

fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    names
        .into_iter()
        .map(|name| format!("\"{}\"", name.as_ref()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A violation, unless nobody commits it.
fn violation(reason: &str, detail: Option<String>) -> Option<Violation> {
    detail.map(|detail| Violation {
        reason: reason.to_owned(),
        detail,
    })
}

/// The pod's or a container's field at `pointer` below `securityContext`.
fn context<'a>(holder: &'a Value, pointer: &str) -> Option<&'a Value> {
    holder.get("securityContext")?.pointer(pointer)
}

#[cfg(test)]
mod tests;
