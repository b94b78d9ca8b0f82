//! Annotations of tenants that controllers of the super cluster may see.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An annotation that crosses, so that a controller of the super cluster obeys it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferedAnnotation {
    /// On objects of which kind.
    pub kind: AnnotatedKind,
    /// Such as `service.beta.kubernetes.io/aws-load-balancer-internal`.
    #[x_kube(validation = Rule::new("!self.startsWith('sublet.dev/') && !self.contains('.sublet.dev/') && self != 'kubernetes.io/ingress.class'").message("annotations of sublet.dev and kubernetes.io/ingress.class can't be offered: the first are Sublet's own, and an IngressClass is named in spec.ingressClassName"))]
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// Values that it may have; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub values: Vec<String>,
}

/// Kinds whose annotations controllers obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AnnotatedKind {
    /// A pod.
    Pod,
    /// A Service.
    Service,
    /// An Ingress.
    Ingress,
    /// A Gateway.
    Gateway,
    /// An HTTPRoute.
    HTTPRoute,
    /// A GRPCRoute.
    GRPCRoute,
}

impl AnnotatedKind {
    /// As objects of it say in `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::Ingress => "Ingress",
            Self::Gateway => "Gateway",
            Self::HTTPRoute => "HTTPRoute",
            Self::GRPCRoute => "GRPCRoute",
        }
    }
}
