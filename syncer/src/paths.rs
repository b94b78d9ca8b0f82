//! Where Sublet's own objects are in the super cluster's API.

/// A VirtualControlPlane.
pub(crate) fn control_plane(namespace: &str, name: &str) -> String {
    let (group, version) = (api::GROUP, api::VERSION);
    format!("/apis/{group}/{version}/namespaces/{namespace}/virtualcontrolplanes/{name}")
}

/// A ControlPlaneGroup.
pub(crate) fn group(name: &str) -> String {
    let (group, version) = (api::GROUP, api::VERSION);
    format!("/apis/{group}/{version}/controlplanegroups/{name}")
}
