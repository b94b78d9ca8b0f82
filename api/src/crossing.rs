//! What of the super cluster a tenant is shown, and which custom resources cross.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Resources that may stay in a tenant wholly.
pub const MAY_STAY: [&str; 13] = [
    "gateways.gateway.networking.k8s.io",
    "grpcroutes.gateway.networking.k8s.io",
    "httproutes.gateway.networking.k8s.io",
    "ingresses.networking.k8s.io",
    "persistentvolumeclaims",
    "poddisruptionbudgets.policy",
    "referencegrants.gateway.networking.k8s.io",
    "resourceclaims.resource.k8s.io",
    "resourceclaimtemplates.resource.k8s.io",
    "tcproutes.gateway.networking.k8s.io",
    "tlsroutes.gateway.networking.k8s.io",
    "udproutes.gateway.networking.k8s.io",
    "volumesnapshots.snapshot.storage.k8s.io",
];

/// How much of a resource goes down.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.resource in ['configmaps', 'secrets', 'gateways.gateway.networking.k8s.io', 'grpcroutes.gateway.networking.k8s.io', 'httproutes.gateway.networking.k8s.io', 'ingresses.networking.k8s.io', 'persistentvolumeclaims', 'poddisruptionbudgets.policy', 'referencegrants.gateway.networking.k8s.io', 'resourceclaims.resource.k8s.io', 'resourceclaimtemplates.resource.k8s.io', 'tcproutes.gateway.networking.k8s.io', 'tlsroutes.gateway.networking.k8s.io', 'udproutes.gateway.networking.k8s.io', 'volumesnapshots.snapshot.storage.k8s.io']")
        .message("toSuper names configmaps, secrets, or what may stay in a tenant: claims, snapshots, resource claims, disruption budgets, Ingresses, and Gateways, routes and grants, each as PLURAL.GROUP"),
    validation = Rule::new("self.resource in ['configmaps', 'secrets'] ? self.objects != 'None' : self.objects != 'Referenced'")
        .message("configmaps and secrets are Referenced or All, since pods need what they refer to; all else is None or All")
)]
pub struct ToSuper {
    /// Resource as `PLURAL.GROUP`, such as `ingresses.networking.k8s.io`; the plural alone for the core group.
    #[schemars(length(min = 3, max = 253))]
    pub resource: String,
    /// Which of its objects.
    pub objects: SyncObjects,
}

/// A selection of the objects of one resource. The fewest first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum SyncObjects {
    /// None: they stay in the tenant, and what crossed before is taken away, unless it holds data or devices.
    None,
    /// Only those that a synced object refers to.
    Referenced,
    /// All of them.
    #[default]
    All,
}

/// Objects of the super cluster that tenants are shown: storage classes, runtime classes and the like.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Resource as `PLURAL.GROUP`, such as `storageclasses.storage.k8s.io`.
    #[schemars(length(min = 3, max = 253))]
    pub resource: String,
    /// Names of the objects.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub names: Vec<String>,
}

/// Which nodes of the super cluster a tenant is shown, of those that its selector matches. The strictest first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ShownNodes {
    /// Those that the super cluster bound a pod of the tenant to, and no others. DaemonSets have no pods then.
    Used,
    /// All of them.
    #[default]
    Selected,
}

/// A custom resource that crosses for the tenants that name it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomResource {
    /// Name of its CustomResourceDefinition in the super cluster: `PLURAL.GROUP`.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9-]+[.][a-z0-9.-]+$')").message("name is PLURAL.GROUP, as the CustomResourceDefinition's"))]
    #[schemars(length(min = 3, max = 253))]
    pub name: String,
    /// Version that both sides are asked for.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// CamelCase kind.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Which way its objects go.
    #[serde(default)]
    pub direction: Direction,
    /// Fields that name other objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub references: Vec<ReferencePath>,
    /// Where its status is written.
    #[serde(default)]
    pub status: StatusPlace,
}

/// Which way objects of a custom resource go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Direction {
    /// Tenants write them, a controller of the super cluster acts on them; their status goes up.
    #[default]
    ToSuper,
    /// The super cluster writes them in a tenant's super namespaces; the tenant reads them.
    FromSuper,
}

/// Where the status of a custom resource is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StatusPlace {
    /// Its status subresource.
    #[default]
    Subresource,
    /// The object itself: its definition has no status subresource.
    Object,
    /// It has none.
    None,
}

/// A field that names another object of the same tenant.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferencePath {
    /// Field names with dots between; `[]` behind a list or map: `spec.issuers[].secretRef.name`.
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_-]+([[][]])?([.][A-Za-z0-9_-]+([[][]])?)*$')").message("path is like spec.issuers[].secretRef.name"))]
    #[schemars(length(min = 1, max = 253))]
    pub path: String,
    /// What it names.
    pub kind: ReferenceKind,
}

/// What a reference of a custom resource leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReferenceKind {
    /// A ConfigMap beside the object; it goes down with it.
    ConfigMap,
    /// A Secret beside the object; it goes down with it.
    Secret,
    /// A PersistentVolumeClaim beside the object.
    PersistentVolumeClaim,
    /// A namespace of the tenant; becomes the super namespace's name.
    Namespace,
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::CustomResourceExt;

    #[test]
    fn the_schema_knows_all_that_may_stay() {
        let definition = serde_json::to_string(&crate::VirtualControlPlane::crd()).unwrap();
        for resource in MAY_STAY {
            assert!(definition.contains(&format!("'{resource}'")), "{resource}");
        }
    }
}
