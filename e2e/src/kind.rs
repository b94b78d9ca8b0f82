//! The resources that tests touch.

#![expect(missing_docs, reason = "each constant says all by its name")]

/// A resource, as bodies and URLs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `v1` or `GROUP/VERSION`.
    pub api_version: &'static str,
    /// CamelCase.
    pub name: &'static str,
    /// As in URLs.
    pub plural: &'static str,
}

const fn kind(api_version: &'static str, name: &'static str, plural: &'static str) -> Kind {
    Kind {
        api_version,
        name,
        plural,
    }
}

pub const NAMESPACE: Kind = kind("v1", "Namespace", "namespaces");
pub const POD: Kind = kind("v1", "Pod", "pods");
pub const CONFIG_MAP: Kind = kind("v1", "ConfigMap", "configmaps");
pub const SECRET: Kind = kind("v1", "Secret", "secrets");
pub const SERVICE: Kind = kind("v1", "Service", "services");
pub const RESOURCE_QUOTA: Kind = kind("v1", "ResourceQuota", "resourcequotas");
pub const SERVICE_ACCOUNT: Kind = kind("v1", "ServiceAccount", "serviceaccounts");
pub const NODE: Kind = kind("v1", "Node", "nodes");
pub const EVENT: Kind = kind("v1", "Event", "events");
pub const PERSISTENT_VOLUME: Kind = kind("v1", "PersistentVolume", "persistentvolumes");
pub const CLAIM: Kind = kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims");
pub const STORAGE_CLASS: Kind = kind("storage.k8s.io/v1", "StorageClass", "storageclasses");
pub const RUNTIME_CLASS: Kind = kind("node.k8s.io/v1", "RuntimeClass", "runtimeclasses");
pub const CSI_DRIVER: Kind = kind("storage.k8s.io/v1", "CSIDriver", "csidrivers");
pub const CSI_STORAGE_CAPACITY: Kind = kind(
    "storage.k8s.io/v1",
    "CSIStorageCapacity",
    "csistoragecapacities",
);
pub const SNAPSHOT: Kind = kind(
    "snapshot.storage.k8s.io/v1",
    "VolumeSnapshot",
    "volumesnapshots",
);
pub const SNAPSHOT_CONTENT: Kind = kind(
    "snapshot.storage.k8s.io/v1",
    "VolumeSnapshotContent",
    "volumesnapshotcontents",
);
pub const SNAPSHOT_CLASS: Kind = kind(
    "snapshot.storage.k8s.io/v1",
    "VolumeSnapshotClass",
    "volumesnapshotclasses",
);
pub const DEVICE_CLASS: Kind = kind("resource.k8s.io/v1", "DeviceClass", "deviceclasses");
pub const RESOURCE_CLAIM: Kind = kind("resource.k8s.io/v1", "ResourceClaim", "resourceclaims");
pub const RESOURCE_CLAIM_TEMPLATE: Kind = kind(
    "resource.k8s.io/v1",
    "ResourceClaimTemplate",
    "resourceclaimtemplates",
);
pub const GATEWAY_CLASS: Kind = kind(
    "gateway.networking.k8s.io/v1",
    "GatewayClass",
    "gatewayclasses",
);
pub const GATEWAY: Kind = kind("gateway.networking.k8s.io/v1", "Gateway", "gateways");
pub const HTTP_ROUTE: Kind = kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes");
pub const REFERENCE_GRANT: Kind = kind(
    "gateway.networking.k8s.io/v1beta1",
    "ReferenceGrant",
    "referencegrants",
);
pub const TLS_ROUTE: Kind = kind("gateway.networking.k8s.io/v1", "TLSRoute", "tlsroutes");
pub const TCP_ROUTE: Kind = kind(
    "gateway.networking.k8s.io/v1alpha2",
    "TCPRoute",
    "tcproutes",
);
pub const UDP_ROUTE: Kind = kind(
    "gateway.networking.k8s.io/v1alpha2",
    "UDPRoute",
    "udproutes",
);
pub const GRPC_ROUTE: Kind = kind("gateway.networking.k8s.io/v1", "GRPCRoute", "grpcroutes");
pub const INGRESS_CLASS: Kind = kind("networking.k8s.io/v1", "IngressClass", "ingressclasses");
pub const SERVICE_CIDR: Kind = kind("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs");
pub const IP_ADDRESS: Kind = kind("networking.k8s.io/v1", "IPAddress", "ipaddresses");
pub const INGRESS: Kind = kind("networking.k8s.io/v1", "Ingress", "ingresses");
pub const NETWORK_POLICY: Kind = kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies");
pub const DISRUPTION_BUDGET: Kind =
    kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets");
pub const DEFINITION: Kind = kind(
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
);
pub const ENDPOINT_SLICE: Kind = kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices");
pub const DEPLOYMENT: Kind = kind("apps/v1", "Deployment", "deployments");
pub const REPLICA_SET: Kind = kind("apps/v1", "ReplicaSet", "replicasets");
pub const STATEFUL_SET: Kind = kind("apps/v1", "StatefulSet", "statefulsets");
pub const DAEMON_SET: Kind = kind("apps/v1", "DaemonSet", "daemonsets");
pub const CRON_JOB: Kind = kind("batch/v1", "CronJob", "cronjobs");
pub const PRIORITY_CLASS: Kind = kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses");
pub const AUTOSCALER: Kind = kind(
    "autoscaling/v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
);
pub const POD_METRICS: Kind = kind("metrics.k8s.io/v1beta1", "PodMetrics", "pods");
pub const JOB: Kind = kind("batch/v1", "Job", "jobs");
pub const ROLE: Kind = kind("rbac.authorization.k8s.io/v1", "Role", "roles");
pub const ROLE_BINDING: Kind = kind(
    "rbac.authorization.k8s.io/v1",
    "RoleBinding",
    "rolebindings",
);
pub const CLUSTER_ROLE: Kind = kind(
    "rbac.authorization.k8s.io/v1",
    "ClusterRole",
    "clusterroles",
);
pub const CLUSTER_ROLE_BINDING: Kind = kind(
    "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding",
    "clusterrolebindings",
);
pub const LEASE: Kind = kind("coordination.k8s.io/v1", "Lease", "leases");
pub const CRD: Kind = kind(
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
);
pub const SELF_REVIEW: Kind = kind(
    "authentication.k8s.io/v1",
    "SelfSubjectReview",
    "selfsubjectreviews",
);
pub const VALIDATING_WEBHOOK: Kind = kind(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
);
pub const ADMISSION_POLICY: Kind = kind(
    "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
);
pub const ADMISSION_BINDING: Kind = kind(
    "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
);
pub const PRIORITY_LEVEL: Kind = kind(
    "flowcontrol.apiserver.k8s.io/v1",
    "PriorityLevelConfiguration",
    "prioritylevelconfigurations",
);
pub const FLOW_SCHEMA: Kind = kind(
    "flowcontrol.apiserver.k8s.io/v1",
    "FlowSchema",
    "flowschemas",
);
pub const CONTROL_PLANE: Kind = kind(
    "sublet.dev/v1alpha1",
    "VirtualControlPlane",
    "virtualcontrolplanes",
);
pub const CLASS: Kind = kind(
    "sublet.dev/v1alpha1",
    "ControlPlaneClass",
    "controlplaneclasses",
);
pub const GROUP: Kind = kind(
    "sublet.dev/v1alpha1",
    "ControlPlaneGroup",
    "controlplanegroups",
);
pub const API_SERVICE: Kind = kind("apiregistration.k8s.io/v1", "APIService", "apiservices");
/// Something that the syncer leaves where it is.
pub const CONTROLLER_REVISION: Kind = kind("apps/v1", "ControllerRevision", "controllerrevisions");
pub const CLUSTER: Kind = kind("cluster.x-k8s.io/v1beta2", "Cluster", "clusters");
pub const SUBLET_CONTROL_PLANE: Kind = kind(
    "controlplane.cluster.x-k8s.io/v1alpha1",
    "SubletControlPlane",
    "subletcontrolplanes",
);
pub const SUBLET_CLUSTER: Kind = kind(
    "infrastructure.cluster.x-k8s.io/v1alpha1",
    "SubletCluster",
    "subletclusters",
);

impl Kind {
    /// URL path of the collection in `namespace` (cluster-scoped when empty), or of one object when `name` isn't empty.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let root = if self.api_version.contains('/') {
            "/apis"
        } else {
            "/api"
        };
        let mut path = format!("{root}/{}", self.api_version);
        if !namespace.is_empty() {
            path += &format!("/namespaces/{namespace}");
        }
        path += &format!("/{}", self.plural);
        if !name.is_empty() {
            path += &format!("/{name}");
        }
        path
    }
}
