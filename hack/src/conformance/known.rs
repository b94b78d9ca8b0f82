//! Specs that don't pass, each with its reason.

use super::Target;

/// A part of a spec's name, and why it fails in a tenant.
const IN_TENANTS: &[(&str, &str)] = &[
    (
        "RuntimeClass should schedule a Pod requesting a RuntimeClass without PodOverhead",
        "what runs a pod is the platform's to say: a tenant's own RuntimeClass names a handler of the nodes",
    ),
    (
        "RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead",
        "what runs a pod is the platform's to say: a tenant's own RuntimeClass names a handler of the nodes",
    ),
    (
        "StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Should recreate evicted statefulset",
        "its first pod goes around the scheduler by spec.nodeName, which no tenant may",
    ),
];

/// Why a spec that fails is expected to; `None` when it is a fault.
pub(crate) fn reason(target: &Target, spec: &str) -> Option<&'static str> {
    let list = match target {
        Target::Native => &[],
        Target::Tenant(_) => IN_TENANTS,
    };
    list.iter()
        .find(|(part, _)| spec.contains(part))
        .map(|(_, reason)| *reason)
}
