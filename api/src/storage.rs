//! Which of the StorageClasses that tenants are offered is their default, and whether volumes may outlive their claims.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the tenants of a class use the StorageClasses that they are offered.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageRules {
    /// The StorageClass of claims that name none: one of those in `offers`. When left out, whichever of those that are offered
    /// is the super cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub default: Option<String>,
    /// Whether StorageClasses with `reclaimPolicy: Retain` are offered, whose volumes stay with their data when their claims,
    /// or the tenant, are gone.
    #[serde(default)]
    pub retain: Retain,
}

/// The same of one tenant, where that is narrower than its class.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageWishes {
    /// The StorageClass of claims that name none: one of those that the tenant is offered. Its class's choice when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub default: Option<String>,
    /// Whether the tenant is offered StorageClasses with `reclaimPolicy: Retain`, if its class offers them; its class's choice
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<Retain>,
}

/// Whether volumes may outlive their claims. The strictest first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Retain {
    /// They may not.
    #[default]
    Refused,
    /// They may; nobody but an admin of the super cluster deletes them then.
    Allowed,
}

impl StorageRules {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same for a tenant that asks for `own`: its own default, and never more than the class allows.
    #[must_use]
    pub fn narrowed(&self, own: &StorageWishes) -> Self {
        Self {
            default: own.default.clone().or_else(|| self.default.clone()),
            retain: own.retain.unwrap_or(self.retain).min(self.retain),
        }
    }
}

impl StorageWishes {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_chooses_its_default_and_opens_nothing_that_its_class_closes() {
        let class = StorageRules {
            default: Some("fast".into()),
            retain: Retain::Refused,
        };
        let own = StorageWishes {
            default: Some("slow".into()),
            retain: Some(Retain::Allowed),
        };
        assert_eq!(class.narrowed(&StorageWishes::default()), class);
        let narrowed = class.narrowed(&own);
        assert_eq!(narrowed.default.as_deref(), Some("slow"));
        assert_eq!(narrowed.retain, Retain::Refused);
        let open = StorageRules {
            retain: Retain::Allowed,
            ..StorageRules::default()
        };
        assert_eq!(open.narrowed(&StorageWishes::default()), open);
        let closed = StorageWishes {
            retain: Some(Retain::Refused),
            ..StorageWishes::default()
        };
        assert_eq!(open.narrowed(&closed).retain, Retain::Refused);
    }

    #[test]
    fn a_class_that_says_nothing_refuses_volumes_that_outlive_their_claims() {
        assert_eq!(StorageRules::default().retain, Retain::Refused);
        assert!(StorageRules::default().is_empty());
    }
}
