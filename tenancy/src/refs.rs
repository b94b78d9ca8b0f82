//! The one translator for every reference from a synced object to another object.
//!
//! Objects keep their names in the super namespace, so a reference keeps its name too, with two exceptions. They live
//! here and nowhere else, because the reference that a translator forgets is the one that reaches another object (T22).

use crate::{kind::Refused, naming};

/// ConfigMap of ours in every super namespace: the variables by which containers with `envFrom` find the API server.
pub(crate) const ENVIRONMENT: &str = "sublet-environment";
/// ConfigMaps of a super namespace that aren't the tenant's: the super cluster writes its own CA into the first.
const TAKEN: [&str; 2] = ["kube-root-ca.crt", ENVIRONMENT];
/// What moves a tenant's name out of their way.
const TENANT_SUFFIX: &str = ".tenant";

/// What a reference leads to; always in the namespace of the object that refers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referent {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
    /// A PersistentVolumeClaim.
    Claim,
}

impl Referent {
    /// Its kind, as objects name it.
    pub fn kind(self) -> &'static str {
        match self {
            Referent::ConfigMap => "ConfigMap",
            Referent::Secret => "Secret",
            Referent::Claim => "PersistentVolumeClaim",
        }
    }

    /// Name in the super namespace of what the tenant calls `name`.
    ///
    /// Secrets under [`naming::TOKEN_PREFIX`] carry other pods' tokens and can't be referred to.
    pub fn super_name(self, name: &str) -> Result<String, Refused> {
        match self {
            Referent::ConfigMap => Ok(config_map_name(name)),
            Referent::Secret if name.starts_with(naming::TOKEN_PREFIX) => Err(Refused::new(
                "ReservedName",
                format!(
                    "Secret {name}: names that begin with {} are Sublet's own; choose another name",
                    naming::TOKEN_PREFIX
                ),
            )),
            Referent::Secret | Referent::Claim => Ok(name.to_owned()),
        }
    }
}

/// Name in the super cluster of a tenant's ConfigMap.
///
/// `kube-root-ca.crt` holds the tenant's CA on one side and the super cluster's on the other, for one. Each taken name, and
/// every name it could be mapped to, gets one more `.tenant`, so distinct names stay distinct.
pub fn config_map_name(name: &str) -> String {
    if is_taken(name) {
        format!("{name}{TENANT_SUFFIX}")
    } else {
        name.to_owned()
    }
}

/// Name in the tenant of a super ConfigMap; `None` for those that aren't the tenant's.
pub fn tenant_config_map_name(name: &str) -> Option<&str> {
    match name {
        _ if TAKEN.contains(&name) => None,
        _ if is_taken(name) => name.strip_suffix(TENANT_SUFFIX),
        _ => Some(name),
    }
}

/// Whether `name` is a taken one with any number of `.tenant` behind it.
fn is_taken(name: &str) -> bool {
    TAKEN.iter().any(|taken| {
        name.strip_prefix(taken)
            .is_some_and(|rest| rest.replace(TENANT_SUFFIX, "").is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_root_ca_of_the_tenant_makes_way_for_that_of_the_super_cluster() {
        assert_eq!(
            config_map_name("kube-root-ca.crt"),
            "kube-root-ca.crt.tenant"
        );
        assert_eq!(
            config_map_name("kube-root-ca.crt.tenant"),
            "kube-root-ca.crt.tenant.tenant"
        );
        for kept in [
            "app",
            "kube-root-ca.crt.x",
            "kube-root-ca.crtx",
            "x.kube-root-ca.crt",
            "kube-root-ca.crt.tenantx",
        ] {
            assert_eq!(config_map_name(kept), kept);
        }
        assert_eq!(tenant_config_map_name("kube-root-ca.crt"), None);
        assert_eq!(tenant_config_map_name(ENVIRONMENT), None);
    }

    #[test]
    fn token_secrets_cannot_be_referred_to() {
        assert_eq!(
            Referent::Secret
                .super_name("sublet-token-x")
                .unwrap_err()
                .reason,
            "ReservedName"
        );
        assert_eq!(
            Referent::Secret.super_name("sublet-tokens").unwrap(),
            "sublet-tokens"
        );
        assert_eq!(
            Referent::Claim.super_name("sublet-token-x").unwrap(),
            "sublet-token-x"
        );
    }

    proptest! {
        #[test]
        fn config_map_names_come_back(name in "(kube-root-ca\\.crt|sublet-environment)?(\\.tenant){0,3}[a-z.]{0,3}") {
            let there = config_map_name(&name);
            prop_assert!(!TAKEN.contains(&there.as_str()));
            prop_assert_eq!(tenant_config_map_name(&there), Some(name.as_str()));
        }
    }
}
