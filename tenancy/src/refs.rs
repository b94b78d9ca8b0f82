//! One translator for each reference to another object.

/// Name in the super cluster of a tenant's ConfigMap.
///
/// The super cluster writes its own CA as `kube-root-ca.crt` into every namespace, so that name, and any name it could
/// be mapped to, gets one more `.tenant`.
pub fn config_map_name(name: &str) -> String {
    if is_root_ca(name) {
        format!("{name}.tenant")
    } else {
        name.to_owned()
    }
}

fn is_root_ca(name: &str) -> bool {
    let mut rest = name;
    while let Some(shorter) = rest.strip_suffix(".tenant") {
        rest = shorter;
    }
    rest == "kube-root-ca.crt"
}
