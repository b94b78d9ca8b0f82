//! The most that a VirtualControlPlane may ask for of its own control plane.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The most that a VirtualControlPlane of a class may ask for of its own control plane, under the names that it asks by. What
/// isn't named isn't limited, and what the class itself gives is never too much.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ceilings {
    /// API servers: 1 to 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 3").message("spec.max.replicas is 1, 2 or 3"))]
    pub replicas: Option<i32>,
    /// Its store.
    #[serde(default, skip_serializing_if = "EtcdCeilings::is_empty")]
    pub etcd: EtcdCeilings,
}

/// The most that a VirtualControlPlane may ask for of its etcd when that is made; one that exists keeps what it has.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdCeilings {
    /// Members: 1 or 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == 1 || self == 3").message("spec.max.etcd.replicas is 1 or 3"))]
    pub replicas: Option<i32>,
    /// Where members keep their data.
    #[serde(default, skip_serializing_if = "EtcdStorageCeilings::is_empty")]
    pub storage: EtcdStorageCeilings,
}

/// The most that a VirtualControlPlane may ask for of the volume of an etcd member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdStorageCeilings {
    /// Size of the claim, a Kubernetes quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
        .message("size is a quantity of bytes such as 16Gi"))]
    #[schemars(length(max = 32))]
    pub size: Option<String>,
    /// StorageClasses that the claim may name beside the class's own choice; any when left out, none when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub storage_class_names: Option<Vec<String>>,
}

impl Ceilings {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl EtcdCeilings {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl EtcdStorageCeilings {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
