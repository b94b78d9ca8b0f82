//! Specs that don't pass, each with its reason.

use super::Target;

/// A part of a spec's name, and why it fails in a tenant.
const IN_TENANTS: &[(&str, &str)] = &[];

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
