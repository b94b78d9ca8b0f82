//! Label and annotation keys, and the fixed names that go with them.
//!
//! All keys live under `sublet.dev/`. What a tenant writes under that prefix never crosses into the super cluster, so a
//! key found on a super object was written by Sublet (or by a super-cluster admin).

/// Prefix of every key of Sublet; reserved on tenants' objects.
pub const PREFIX: &str = "sublet.dev/";

/// Label: `true` on every super namespace that Sublet made. Admission policies hold the syncer to such namespaces.
pub const MANAGED: &str = "sublet.dev/managed";
/// Label on super namespaces: whether containers in it may keep the capability `NET_RAW`, [`RAW_SOCKETS_ALLOWED`] or
/// [`RAW_SOCKETS_REFUSED`]. Admission policies go by it.
pub const RAW_SOCKETS: &str = "sublet.dev/raw-sockets";
/// Value of [`RAW_SOCKETS`]: they may.
pub const RAW_SOCKETS_ALLOWED: &str = "allowed";
/// Value of [`RAW_SOCKETS`]: each must drop it.
pub const RAW_SOCKETS_REFUSED: &str = "refused";

/// Label: identity of the tenant that owns a super object (26 characters of base32).
pub const TENANT: &str = "sublet.dev/tenant";
/// Label: 0–255, a function of the identity, by which a part of the tenants can be selected. Nothing in Sublet does
/// (docs/syncers.md says why); it is part of what every object's hash covers, so that leaving it out would write all anew.
pub const SHARD: &str = "sublet.dev/shard";
/// Label: what an object without a tenant twin is for (`token`, `control-plane`, …).
pub const ROLE: &str = "sublet.dev/role";

/// Label: `true` on an object of the super cluster that every tenant is shown, and on what a tenant is shown of it.
pub const PUBLISHED: &str = "sublet.dev/published";

/// Label: `true` on a Service and its slice that a tenant is shown of the platform's or another tenant's.
pub const SHARED: &str = "sublet.dev/shared";

/// Annotation on a Service of a tenant that has no DNS server of its own: the name that its name leads to. Its twin in the
/// super cluster leads nowhere; the shared server reads it there.
pub const EXTERNAL_NAME: &str = "sublet.dev/external-name";
/// Annotation on a Service that a tenant is shown, and on its twin: the address of the Service that it stands for.
pub const SHOWN_ADDRESS: &str = "sublet.dev/shown-address";

/// Annotation, `true`, on a tenant's Service: if something else in the super cluster has its address, it is given another one.
pub const RECREATE_ON_CLASH: &str = "sublet.dev/recreate-on-clash";
/// Annotation on a tenant's Service that is being given another address: its spec, as JSON, until it has it back.
pub const READDRESSED: &str = "sublet.dev/readdressed";

/// Label on a super pod: who decides who may reach it, [`BY_DEFAULT`] or [`BY_POLICY`].
pub const INGRESS: &str = "sublet.dev/ingress";
/// Label on a super pod: who decides what it may reach, [`BY_DEFAULT`] or [`BY_POLICY`].
pub const EGRESS: &str = "sublet.dev/egress";
/// Value of [`INGRESS`] and [`EGRESS`]: the tenant said nothing, so all pods of the tenant meet.
pub const BY_DEFAULT: &str = "default";
/// Value of [`INGRESS`] and [`EGRESS`]: NetworkPolicies of the tenant, and nothing else.
pub const BY_POLICY: &str = "policy";
/// Annotation on super namespaces: hash of the NetworkPolicies that isolate it, so that a change of them is one of it.
pub const ISOLATION: &str = "sublet.dev/isolation";
/// Annotation on super namespaces: hash of the limits that its ResourceQuota holds, so that a change of them is one of it.
pub const QUOTA: &str = "sublet.dev/quota";

/// Annotation on the ResourceQuota of a super namespace: limits that it holds no longer, since containers that the super
/// cluster puts into pods say nothing of them. Without it they are held again.
pub const UNHELD: &str = "sublet.dev/unheld";

/// Annotation: namespace of the tenant's object.
pub const NAMESPACE: &str = "sublet.dev/namespace";
/// Annotation: name of the tenant's object.
pub const NAME: &str = "sublet.dev/name";
/// Annotation: UID of the tenant's object.
pub const UID: &str = "sublet.dev/uid";
/// Label on the pods of an API server: the Kubernetes version that they run.
pub const VERSION: &str = "sublet.dev/version";
/// Annotation: hash of what was applied, as 32 hexadecimal digits.
pub const APPLIED: &str = "sublet.dev/applied";
/// Annotation: the label and annotation keys that were applied, so that a later patch removes exactly its own.
pub const APPLIED_KEYS: &str = "sublet.dev/applied-keys";
/// Annotation: the VCP's restore counter when the object was made; older ones are quarantined, not deleted.
pub const RESTORE_COUNTER: &str = "sublet.dev/restore-counter";
/// Annotation on super namespaces: `NAMESPACE/NAME` of the VirtualControlPlane, for people.
pub const CONTROL_PLANE: &str = "sublet.dev/control-plane";
/// Annotation on a super pod: `metadata.generation` of the tenant's pod when it was applied, for `observedGeneration`.
pub const GENERATION: &str = "sublet.dev/generation";
/// Annotation on a super pod: requests and limits that the platform put in, as `CONTAINER/PART/RESOURCE`.
pub const DEFAULTED: &str = "sublet.dev/defaulted";
/// Annotation on a super Ingress, Gateway or route: hosts that an edit gave it, each with the time, RFC 3339, as JSON. A host
/// that isn't there is as old as the object.
pub const HOSTS: &str = "sublet.dev/hosts";
/// Annotation on a token Secret, and on one with a certificate that Sublet made: when they end, RFC 3339.
pub const EXPIRES: &str = "sublet.dev/expires";

/// Annotation on a VirtualControlPlane: an operator's wish to let go of deletions that are held; any new text is a new
/// wish.
pub const RELEASE: &str = "sublet.dev/release";
/// Annotations on a tenant's Lease in Sublet's own namespace: the mark by which a tenant that went back in time is found
/// out, and what operators let go of.
pub const MARK_NONCE: &str = "sublet.dev/nonce";
/// Annotation on a tenant's Lease: the highest version seen of each resource, as JSON.
pub const MARK_VERSIONS: &str = "sublet.dev/versions";
/// Annotation on a tenant's Lease: the last value of [`RELEASE`] that was granted.
pub const RELEASED: &str = "sublet.dev/released";
/// Annotation on a tenant's Lease: objects made under an older restore counter than this may be deleted again.
pub const ACKNOWLEDGED: &str = "sublet.dev/acknowledged-restore";

/// Annotation on pods of an API server: hash of the file of authorizers that they were last reminded of.
pub const AUTHORIZERS: &str = "sublet.dev/authorizers";
/// Annotation on pods of an API server: its `AuthenticationConfiguration`, as JSON, where there are issuers in it.
pub const AUTHENTICATION: &str = "sublet.dev/authentication";
/// Annotation on pods of a control plane: the time at which they were to be started anew.
pub const ROLLOUT: &str = "sublet.dev/rollout";
/// Annotation on the workload of a control plane's part: when it was changed last.
pub const CHANGED: &str = "sublet.dev/changed";
/// Annotation on a VirtualControlPlane of a Cluster: UID of the namespace `kube-system` of the super cluster that it runs in.
pub const SUPER_CLUSTER: &str = "sublet.dev/super-cluster";
/// Annotation on a VirtualControlPlane: what it ran before the upgrade that is under way or was taken back.
pub const UPGRADE: &str = "sublet.dev/upgrade";
/// Annotation on a VirtualControlPlane: any new text has all certificates made anew; authorities aren't.
pub const RENEW_CERTIFICATES: &str = "sublet.dev/renew-certificates";
/// Annotation on a Secret: the text of [`RENEW_CERTIFICATES`] by which its certificate was made.
pub const RENEWED: &str = "sublet.dev/renewed";
/// Annotation on the claim of a snapshot: what came of it, as JSON of its entry in the status.
pub const SNAPSHOT: &str = "sublet.dev/snapshot";
/// Annotation on the namespace of a control plane: how far the last restore of its etcd is, as JSON.
pub const RESTORE: &str = "sublet.dev/restore";
/// Annotation on a VirtualControlPlane that is the twin of one in a management cluster: `NAMESPACE/NAME` of that one, for
/// people.
pub const TWIN_OF: &str = "sublet.dev/twin-of";
/// Annotation on a VirtualControlPlane of another super cluster: there may be a twin, `NAMESPACE/NAME`. It is written before
/// the twin is, so that a deletion waits for a super cluster only when it must.
pub const TWIN: &str = "sublet.dev/twin";

/// Finalizer on a VirtualControlPlane: held until nothing of the tenant is left in the super cluster.
pub const FINALIZER: &str = "sublet.dev/tenant";
/// Finalizer on a VirtualControlPlane that belongs to a SubletCluster: while it is there, a deletion ends workload and
/// control plane and keeps keys, addresses and identity.
pub const INFRASTRUCTURE_FINALIZER: &str = "sublet.dev/infrastructure";
/// Finalizer on a ControlPlaneClass that is in use: held until no VirtualControlPlane names it.
pub const CLASS_FINALIZER: &str = "sublet.dev/in-use";

/// Value of [`ROLE`] on the super namespace that holds a control plane's own pods.
pub const ROLE_CONTROL_PLANE: &str = "control-plane";
/// Value of [`ROLE`] on Secrets that carry tenant tokens for a pod.
pub const ROLE_TOKEN: &str = "token";
/// Value of [`ROLE`] on the NetworkPolicies that keep a tenant's pods to themselves.
pub const ROLE_ISOLATION: &str = "isolation";
/// Value of [`ROLE`] on the Secrets in Sublet's own namespace by which the syncer reaches a tenant.
pub const ROLE_TENANT_KUBECONFIG: &str = "tenant-kubeconfig";
/// Value of [`ROLE`] on the ConfigMaps in Sublet's own namespace that say whose an identity is.
pub const ROLE_IDENTITY_CLAIM: &str = "identity-claim";
/// Value of [`ROLE`] on the ConfigMaps in Sublet's own namespace that say whose a Service slice is.
pub const ROLE_SLICE_CLAIM: &str = "slice-claim";
/// Value of [`ROLE`] on the Leases of syncers.
pub const ROLE_SYNCER: &str = "syncer";
/// Annotation on a syncer's Lease: mark of the lock that its process holds.
pub const LOCK: &str = "sublet.dev/lock";
/// Value of [`ROLE`] on the ConfigMaps in Sublet's own namespace that tell the proxy of a tenant.
pub const ROLE_ROUTE: &str = "route";
/// Name of the Secret in Sublet's own namespace with the authority of the proxy's certificate.
pub const PROXY_AUTHORITY: &str = "proxy-ca";
/// Name of the Secret in Sublet's own namespace with the certificate that the proxy shows to tenants' API servers.
pub const PROXY_SERVER: &str = "proxy-server";
/// Secret with the authority by which the proxy signs for the addresses of virtual nodes, and for nothing else.
pub const PROXY_NODES: &str = "proxy-nodes-ca";
/// Name of the proxy's Deployment, and of the Service by which tenants' API servers reach it.
pub const PROXY: &str = "sublet-apiserver-proxy";
/// Name of the Service by which pods of tenants in shared mode reach DNS.
pub const SHARED_DNS: &str = "sublet-dns";
/// Name of the Service by which clients reach tenants through the proxy.
pub const FRONT_DOOR: &str = "sublet-front-door";
/// Name of the ConfigMap in Sublet's own namespace in which the proxy tells who was visited at the front door: a mark for
/// each identity of a tenant that sleeps at times, another one whenever somebody came.
pub const VISITS: &str = "sublet-visits";
/// What annotations on that ConfigMap begin with, of which each replica of the proxy has one: another word in each round in which
/// it told all visits that it knows of, and none once it has taken its leave. As long as one is silent, silence says nothing.
pub const LISTENING: &str = "sublet.dev/listening";
/// Name of the ServiceAccount without rights that synced pods run under.
pub const POD_SERVICE_ACCOUNT: &str = "sublet-pod";
/// Component that the syncer's own events name as their source.
pub const SYNCER_COMPONENT: &str = "sublet-syncer";
/// Field manager of everything Sublet writes.
pub const FIELD_MANAGER: &str = "sublet";
