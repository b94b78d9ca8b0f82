//! Specs that don't pass, each with its reason, and failures that are the suite's own.

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

/// A part of a failure's message, and what makes it the suite's or Kubernetes' own on any cluster.
const FLAKES: &[(&str, &str)] = &[(
    "deleting CustomResourceDefinition: context deadline exceeded",
    "the suite gives a definition 30 s to go, and on a busy machine Kubernetes takes longer: \
     kubernetes/kubernetes#138085",
)];

/// Why a spec that failed with this message deserves a second try; `None` when it doesn't.
pub(crate) fn flake(message: &str) -> Option<&'static str> {
    FLAKES
        .iter()
        .find(|(part, _)| message.contains(part))
        .map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_that_are_known_anywhere_get_a_second_try() {
        assert!(flake("deleting CustomResourceDefinition: context deadline exceeded").is_some());
        assert_eq!(flake("context deadline exceeded"), None);
        assert_eq!(flake("pod is not running"), None);
    }
}
