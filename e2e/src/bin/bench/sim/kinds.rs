//! What simulated API servers serve: all kinds that the syncer knows, and what stands beside them in a super cluster.

use std::sync::LazyLock;
use tenancy::kind::KINDS;

/// A resource that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// `v1` or `GROUP/VERSION`.
    pub(crate) api_version: String,
    /// CamelCase.
    pub(crate) kind: &'static str,
    /// As in URLs.
    pub(crate) plural: &'static str,
    /// Whether its objects have a namespace.
    pub(crate) namespaced: bool,
}

/// What no tenant's object becomes.
const BESIDE: &[(&str, &str, &str, bool)] = &[
    ("v1", "ServiceAccount", "serviceaccounts", true),
    ("v1", "ResourceQuota", "resourcequotas", true),
    ("coordination.k8s.io/v1", "Lease", "leases", true),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    (
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "rolebindings",
        true,
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        "clusterroles",
        false,
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        false,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        false,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        false,
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        false,
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1",
        "FlowSchema",
        "flowschemas",
        false,
    ),
    ("networking.k8s.io/v1", "IPAddress", "ipaddresses", false),
    (
        "sublet.dev/v1alpha1",
        "VirtualControlPlane",
        "virtualcontrolplanes",
        true,
    ),
    (
        "sublet.dev/v1alpha1",
        "ControlPlaneClass",
        "controlplaneclasses",
        false,
    ),
    (
        "sublet.dev/v1alpha1",
        "ControlPlaneGroup",
        "controlplanegroups",
        false,
    ),
];

/// All of them; a kind is its place here.
pub(crate) static SERVED: LazyLock<Vec<Served>> = LazyLock::new(|| {
    let synced = KINDS.iter().map(|rule| rule.resource());
    let synced = synced.map(|resource| Served {
        api_version: resource.api_version(),
        kind: resource.kind,
        plural: resource.plural,
        namespaced: resource.namespaced,
    });
    let beside = BESIDE
        .iter()
        .map(|(api_version, kind, plural, namespaced)| Served {
            api_version: (*api_version).to_owned(),
            kind,
            plural,
            namespaced: *namespaced,
        });
    synced.chain(beside).collect()
});

/// The place of a resource, if it is served.
pub(crate) fn find(api_version: &str, plural: &str) -> Option<usize> {
    SERVED
        .iter()
        .position(|served| served.api_version == api_version && served.plural == plural)
}

/// The place of a kind by its name.
///
/// # Panics
/// When there is no such kind: callers name what is served.
pub(crate) fn index(kind: &str) -> usize {
    let found = SERVED.iter().position(|served| served.kind == kind);
    found.expect("a kind that is served")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_resource_is_served_once() {
        for (place, served) in SERVED.iter().enumerate() {
            assert_eq!(find(&served.api_version, served.plural), Some(place));
        }
        assert_eq!(find("v1", "componentstatuses"), None);
    }
}
