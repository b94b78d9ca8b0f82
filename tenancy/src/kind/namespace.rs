//! Namespaces: each tenant namespace becomes one super namespace, with what isolates it.
//!
//! No label or annotation of the tenant's namespace crosses: every one that means something in a cluster steers
//! admission, and the Pod Security level comes from the VirtualControlPlane alone.

use super::{Cx, Kind, Refused, Resource, SuperWatch, config_map, isolation, pod};
use crate::{meta, object::Object, plan::Change, quota, refs};
use api::{PodSecurity, RawSockets, keys};
use serde_json::{Map, Value, json};

pub(super) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    namespaced: false,
};

/// ServiceAccount.
pub const SERVICE_ACCOUNT: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    namespaced: true,
};

const ROLE_BINDING: Resource = Resource {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    kind: "RoleBinding",
    plural: "rolebindings",
    namespaced: true,
};

/// ClusterRole that gives the syncer its rights inside one super namespace.
const SYNCER_ROLE: &str = "sublet-syncer-namespace";

/// ClusterRole that gives the proxy its rights inside one super namespace.
const PROXY_ROLE: &str = "sublet-apiserver-proxy-namespace";
/// ClusterRole that gives the syncer rights on custom resources inside one super namespace; admins fill it.
const CUSTOM_ROLE: &str = "sublet-syncer-namespace-custom";
/// Annotation: custom resources of the tenant may be in this super namespace.
const CUSTOM_RESOURCES: &str = "sublet.dev/custom-resources";

/// The kind.
#[derive(Debug)]
pub(super) struct Namespace;

impl Kind for Namespace {
    fn resource(&self) -> &'static Resource {
        &RESOURCE
    }

    fn super_watch(&self) -> SuperWatch {
        SuperWatch::Owned
    }

    fn super_name(&self, name: &str, cx: &Cx<'_>) -> String {
        meta::super_namespace(name, cx)
    }

    fn down(&self, object: &Object, cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        let mut twin = meta::twin(&RESOURCE, object, &self.super_name(object.name(), cx), cx);
        let level = match cx.rules.pod_security {
            PodSecurity::Restricted => "restricted",
            PodSecurity::Baseline => "baseline",
            PodSecurity::Privileged => "privileged",
        };
        let groups = cx.rules.group_labels.iter();
        let mut labels: Map<String, Value> = groups
            .filter(|(key, _)| meta::is_stampable(key))
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        labels.extend(meta::tenant_labels(cx));
        labels.insert(keys::MANAGED.into(), "true".into());
        labels.insert("pod-security.kubernetes.io/enforce".into(), level.into());
        // Both are written down: a label that isn't wanted any more would stay.
        let raw_sockets = match cx.rules.pods.raw_sockets {
            RawSockets::Allowed => keys::RAW_SOCKETS_ALLOWED,
            RawSockets::Refused => keys::RAW_SOCKETS_REFUSED,
        };
        labels.insert(keys::RAW_SOCKETS.into(), raw_sockets.into());
        twin.value_mut()["metadata"]["labels"] = labels.into();
        let control_plane = format!("{}/{}", cx.rules.vcp_namespace, cx.rules.vcp_name);
        twin.annotate(keys::CONTROL_PLANE, &control_plane);
        let policies: Value = isolation::of_namespace(object.name(), twin.name(), cx)
            .iter()
            .map(|policy| policy.value().clone())
            .collect();
        let hash = meta::hash(&policies);
        twin.annotate(keys::ISOLATION, &format!("{hash:032x}"));
        if let Some(quota) = quota::namespace::wanted(twin.name(), cx) {
            let hash = meta::hash(quota.value());
            twin.annotate(keys::QUOTA, &format!("{hash:032x}"));
        }
        if !cx.rules.custom.is_empty() {
            // Makes it another object, so that the binding below is made for it.
            twin.annotate(CUSTOM_RESOURCES, "true");
        }
        Ok(Some(twin))
    }

    fn companions(&self, object: &Object, cx: &Cx<'_>) -> Vec<(&'static Resource, Object)> {
        let namespace = self.super_name(object.name(), cx);
        let binding = |name, daemon, role| {
            (
                &ROLE_BINDING,
                daemon_binding(&namespace, name, daemon, role, cx),
            )
        };
        let mut companions = vec![
            binding("sublet-syncer", "sublet-syncer", SYNCER_ROLE),
            binding(keys::PROXY, keys::PROXY, PROXY_ROLE),
            (&SERVICE_ACCOUNT, pod_account(&namespace, cx)),
        ];
        if !cx.rules.custom.is_empty() {
            companions.push(binding(
                "sublet-syncer-custom",
                "sublet-syncer",
                CUSTOM_ROLE,
            ));
        }
        companions.extend(
            environment(&namespace, cx).map(|config_map| (&config_map::RESOURCE, config_map)),
        );
        companions
    }

    fn isolation(&self, object: &Object, cx: &Cx<'_>) -> Vec<Object> {
        isolation::of_namespace(object.name(), &self.super_name(object.name(), cx), cx)
    }

    fn changes(&self, _want: &Object, _have: &Object) -> Vec<Change> {
        // spec.finalizers belongs to the super cluster; labels and annotations are compared for every kind.
        vec![]
    }

    fn super_writes(&self) -> bool {
        true
    }
}

/// A RoleBinding by which one of Sublet's daemons may do its work in one super namespace, and nowhere else.
fn daemon_binding(namespace: &str, name: &str, daemon: &str, role: &str, cx: &Cx<'_>) -> Object {
    companion(
        &ROLE_BINDING,
        namespace,
        name,
        json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": daemon, "namespace": api::SYSTEM_NAMESPACE}],
        }),
        cx,
    )
}

/// The account that the tenant's pods run under: no rights, no token.
fn pod_account(namespace: &str, cx: &Cx<'_>) -> Object {
    let body = json!({"automountServiceAccountToken": false});
    companion(
        &SERVICE_ACCOUNT,
        namespace,
        keys::POD_SERVICE_ACCOUNT,
        body,
        cx,
    )
}

/// The ConfigMap of a super namespace with the variables by which containers with `envFrom` find the API server; none when the
/// tenant has no Service range.
///
/// It carries no tenant's label, by which the engine would take it for a twin.
pub fn environment(namespace: &str, cx: &Cx<'_>) -> Option<Object> {
    let data: Map<String, Value> = pod::env::api_server(cx)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    if data.is_empty() {
        return None;
    }
    let mut object = companion(
        &config_map::RESOURCE,
        namespace,
        refs::ENVIRONMENT,
        json!({"data": data}),
        cx,
    );
    object.value_mut()["metadata"]["labels"] = json!({keys::MANAGED: "true"});
    Some(object)
}

fn companion(
    resource: &Resource,
    namespace: &str,
    name: &str,
    mut body: Value,
    cx: &Cx<'_>,
) -> Object {
    body["apiVersion"] = resource.api_version().into();
    body["kind"] = resource.kind.into();
    body["metadata"] =
        json!({"name": name, "namespace": namespace, "labels": meta::tenant_labels(cx)});
    Object::from_value(body).expect("metadata is a map")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::testing::{Answers, object, tenant};

    /// Admission policies go by it, so both are said: a label that isn't wanted any more would stay.
    #[test]
    fn a_namespace_says_whether_its_class_allows_raw_sockets() {
        let facts = Answers::default();
        let namespace = object(json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "default", "uid": "u", "labels": {keys::RAW_SOCKETS: "allowed"}},
        }));
        for (rule, label) in [
            (RawSockets::Refused, "refused"),
            (RawSockets::Allowed, "allowed"),
        ] {
            let mut tenant = tenant();
            tenant.pods.raw_sockets = rule;
            let cx = Cx {
                rules: &tenant,
                facts: &facts,
            };
            let twin = Namespace.down(&namespace, &cx).unwrap().unwrap();
            assert_eq!(twin.label(keys::RAW_SOCKETS), Some(label));
        }
    }

    #[test]
    fn a_namespace_is_another_one_when_the_limits_are_and_bears_no_mark_without_any() {
        let facts = Answers::default();
        let namespace = object(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "uid": "u"},
        }));
        let mark = |own: &[(&str, i128)], shared: &[(&str, i128)]| {
            let amounts = |limits: &[(&str, i128)]| {
                let limits = limits.iter();
                limits.map(|(name, hard)| ((*name).into(), *hard)).collect()
            };
            let tenant = crate::tenant::TenantRules {
                quota: amounts(own),
                shared_quota: amounts(shared),
                ..tenant()
            };
            let cx = Cx {
                rules: &tenant,
                facts: &facts,
            };
            let twin = Namespace.down(&namespace, &cx).unwrap().unwrap();
            twin.annotation(keys::QUOTA).map(str::to_owned)
        };
        let five = mark(&[("pods", 5000)], &[]);
        assert!(five.is_some());
        assert_eq!(mark(&[("pods", 9000)], &[("pods", 5000)]), five);
        assert_ne!(mark(&[("pods", 9000)], &[]), five);
        assert_eq!(mark(&[], &[]), None);
        assert_eq!(mark(&[("secrets", 5000)], &[]), None, "none can hold it");
    }

    #[test]
    fn labels_of_the_tenant_do_not_cross_and_those_of_its_group_do() {
        let mut tenant = tenant();
        tenant.group_labels.insert("customer".into(), "acme".into());
        // Admission refuses these, where it is on.
        for slipped_in in [keys::TENANT, keys::ROLE, "pod-security.kubernetes.io/warn"] {
            tenant.group_labels.insert(slipped_in.into(), "x".into());
        }
        let facts = Answers::default();
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let namespace = object(json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "default", "uid": "u", "labels": {
                "app": "x", "pod-security.kubernetes.io/enforce": "privileged", keys::TENANT: "forged",
            }},
        }));
        let twin = Namespace.down(&namespace, &cx).unwrap().unwrap();
        assert_eq!(twin.label("app"), None);
        assert_eq!(
            twin.label("pod-security.kubernetes.io/enforce"),
            Some("baseline")
        );
        assert_eq!(twin.label(keys::TENANT), Some(tenant.id.as_str()));
        assert_eq!(twin.label("customer"), Some("acme"));
        assert_eq!(twin.label(keys::ROLE), None);
        assert_eq!(twin.label("pod-security.kubernetes.io/warn"), None);
        assert_eq!(twin.label(keys::MANAGED), Some("true"));
        let companions = Namespace.companions(&namespace, &cx);
        assert!(
            companions
                .iter()
                .all(|(_, companion)| companion.namespace() == twin.name())
        );
        let daemons: Vec<_> = companions
            .iter()
            .filter_map(|(_, companion)| companion.text("/subjects/0/name"))
            .collect();
        assert_eq!(daemons, ["sublet-syncer", "sublet-apiserver-proxy"]);
        assert_eq!(
            companions[2].1.at("/automountServiceAccountToken"),
            Some(&json!(false))
        );
        let environment = &companions[3].1;
        assert_eq!(
            environment.text("/data/KUBERNETES_SERVICE_HOST"),
            Some("10.96.4.1")
        );
        assert_eq!(environment.label(keys::TENANT), None);
    }
}
