//! Specs that don't pass, each with its reason, and failures that are the suite's own.

use super::Target;

/// A part of a spec's name, and why it fails wherever the development cluster runs it.
const ON_BOTH_SIDES: &[(&str, &str)] = &[
    ("ConfigMap should be consumable via the environment", DASHES),
    (
        "ConfigMap should be consumable as environment variable names with various prefixes",
        DASHES,
    ),
    ("Secrets should be consumable via the environment", DASHES),
    (
        "Secrets should be consumable as environment variable names variable names with various prefixes",
        DASHES,
    ),
    (
        "ImageVolume should succeed with pod and pull policy of Always",
        "the development cluster has no registry",
    ),
];
const DASHES: &str = "names with a dash: the shell in the development image drops them";

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
    (
        "DNS should provide /etc/hosts entries for the cluster",
        "the kubelet would write the super namespace and the super cluster's domain there: it writes the short name alone",
    ),
];

/// Why a spec that fails is expected to; `None` when it is a fault.
pub(crate) fn reason(target: &Target, spec: &str) -> Option<&'static str> {
    let in_tenants = match target {
        Target::Native => &[],
        Target::Tenant(_) => IN_TENANTS,
    };
    let mut all = ON_BOTH_SIDES.iter().chain(in_tenants);
    all.find(|(part, _)| spec.contains(part))
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
    fn what_fails_in_tenants_alone_is_a_fault_natively() {
        let tenant = Target::Tenant("a".to_owned());
        let own = "[sig-node] Secrets should be consumable via the environment [NodeConformance]";
        for target in [&tenant, &Target::Native] {
            assert_eq!(reason(target, own), Some(DASHES));
        }
        let (part, why) = IN_TENANTS[0];
        assert_eq!(reason(&tenant, part), Some(why));
        assert_eq!(reason(&Target::Native, part), None);
    }

    #[test]
    fn only_failures_that_are_known_anywhere_get_a_second_try() {
        assert!(flake("deleting CustomResourceDefinition: context deadline exceeded").is_some());
        assert_eq!(flake("context deadline exceeded"), None);
        assert_eq!(flake("pod is not running"), None);
    }
}
