//! Metadata of super objects: ownership marks, and which of the tenant's labels and annotations cross.
//!
//! Metadata is built, not copied: uid, resourceVersion, owner references, finalizers and managed fields of the tenant's
//! object never cross, because nothing here names them.

use crate::{
    kind::{Cx, Resource},
    naming,
    object::Object,
    print::Print,
    tenant::TenantId,
};
use api::keys;
use serde_json::{Map, Value, json};

/// Which tenant object a super object belongs to, as read from its own marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The tenant.
    pub tenant: TenantId,
    /// Namespace in the tenant; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name in the tenant.
    pub name: String,
    /// UID in the tenant.
    pub uid: String,
}

/// The marks on a super object, if it carries them all.
pub fn owner(object: &Object) -> Option<Owner> {
    owner_in(object.at("/metadata")?)
}

/// The marks in the metadata of a super object, if it carries them all.
pub fn owner_in(metadata: &Value) -> Option<Owner> {
    let tenant = metadata.get("labels")?.get(keys::TENANT)?.as_str()?;
    let annotations = metadata.get("annotations")?;
    let annotation = |key: &str| Some(annotations.get(key)?.as_str()?.to_owned());
    Some(Owner {
        tenant: TenantId::parse(tenant).ok()?,
        namespace: annotation(keys::NAMESPACE)?,
        name: annotation(keys::NAME)?,
        uid: annotation(keys::UID)?,
    })
}

/// Whether an object with these marks stands in its owner's super namespace, or is one. Whoever may write in any other
/// namespace can put a tenant's marks there, and they say nothing.
pub fn is_in_place(object: &Object, owner: &Owner) -> bool {
    let (found, namespace) = if object.namespace().is_empty() {
        (object.name(), &owner.name)
    } else {
        (object.namespace(), &owner.namespace)
    };
    naming::is_super_namespace(found, &owner.tenant, namespace)
}

/// The hash of what was applied, as recorded on a super object; 0 when there is none.
pub fn applied(object: &Object) -> u128 {
    object
        .annotation(keys::APPLIED)
        .and_then(|hex| u128::from_str_radix(hex, 16).ok())
        .unwrap_or_default()
}

/// The restore counter under which a super object was made.
pub fn restore_counter(object: &Object) -> i64 {
    object
        .annotation(keys::RESTORE_COUNTER)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// A super object for the tenant's `object`, with metadata and without a body.
///
/// `name` is its name in the super cluster; a namespaced object lands in the twin of the tenant object's namespace.
pub fn twin(resource: &Resource, object: &Object, name: &str, cx: &Cx<'_>) -> Object {
    // Sidecars of the platform gather ConfigMaps and Secrets of all namespaces by label, and nothing of a tenant's needs one.
    let is_gathered = resource.group.is_empty() && ["ConfigMap", "Secret"].contains(&resource.kind);
    let is_selected = resource.group.is_empty() && resource.kind == "Pod";
    let crossing = |key: &str| {
        if is_selected {
            pod_label(key)
        } else {
            (!is_gathered && label_crosses(key)).then(|| key.to_owned())
        }
    };
    let mut labels: Map<String, Value> = object
        .labels()
        .filter_map(|(key, value)| Some((crossing(key)?, value.into())))
        .collect();
    labels.extend(tenant_labels(cx));
    let mut twin = json!({
        "apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {
            "name": name,
            "annotations": {
                keys::NAMESPACE: object.namespace(),
                keys::NAME: object.name(),
                keys::UID: object.uid(),
                keys::RESTORE_COUNTER: cx.rules.restore_counter.to_string(),
            },
        },
    });
    // Not by `json!`, which copies what is put into it.
    let metadata = &mut twin["metadata"];
    metadata["labels"] = labels.into();
    if resource.namespaced {
        metadata["namespace"] = super_namespace(object.namespace(), cx).into();
    }
    Object::from_value(twin).expect("metadata is a map")
}

/// Whether a group may put a label with this key on the namespaces of its tenants. Admission refuses others on groups; one
/// that slipped in must still neither loosen a namespace nor make it another tenant's.
pub fn is_stampable(key: &str) -> bool {
    !key.starts_with(keys::PREFIX) && !key.starts_with("pod-security.kubernetes.io/")
}

/// The labels that every super object of the tenant carries.
pub fn tenant_labels(cx: &Cx<'_>) -> Map<String, Value> {
    Map::from_iter([
        (keys::TENANT.to_owned(), cx.rules.id.as_str().into()),
        (
            keys::SHARD.to_owned(),
            cx.rules.id.shard().to_string().into(),
        ),
    ])
}

/// The twin of one of the tenant's namespaces.
pub fn super_namespace(namespace: &str, cx: &Cx<'_>) -> String {
    naming::super_namespace(&cx.rules.id, &cx.rules.vcp_name, namespace)
}

/// Writes the hash of `object`, and the keys of its labels and annotations, onto it.
///
/// Called last: the hash covers everything that was translated, so that a later run sees whether the tenant's intent
/// changed, and the keys let a patch remove exactly what Sublet wrote and nothing of others.
pub fn seal(object: &mut Object) {
    let written = object
        .labels()
        .map(|(key, _)| format!("l:{key}"))
        .chain(object.annotations().map(|(key, _)| format!("a:{key}")))
        .filter(|key| !key[2..].starts_with(keys::PREFIX))
        .collect::<Vec<_>>()
        .join(",");
    if !written.is_empty() {
        object.annotate(keys::APPLIED_KEYS, &written);
    }
    let hash = hash(object.value());
    object.annotate(keys::APPLIED, &format!("{hash:032x}"));
}

/// 128 bits of SHA-256 over a JSON value, for what is written onto objects: equal values give equal bits, whatever order they
/// arrived in, in every version.
pub fn hash(value: &Value) -> u128 {
    // The map of serde_json is ordered, so equal values have equal text.
    let text = serde_json::to_vec(value).expect("JSON values are text, and memory takes all");
    naming::half(naming::digest(&[&text]))
}

/// 128 bits over a JSON value, for what a process remembers: equal values give equal bits, whatever order they arrived in.
pub fn fingerprint(value: &Value) -> u128 {
    let mut print = Print::default();
    print.value(value);
    print.end()
}

/// 128 bits over what a tenant asks of an object: labels, annotations, a wish to delete it, and the body without status and
/// without what the binding of pods and the life of namespaces write into the spec.
pub fn intent(object: &Object) -> u128 {
    let mut print = Print::default();
    for pointer in ["/metadata/labels", "/metadata/annotations"] {
        print.field(object.at(pointer));
    }
    wish(&mut print, object);
    print.end()
}

/// 128 bits over all of a super object that only Sublet should write: the same, but of labels and annotations its own alone.
///
/// What others add is theirs, and each of them may add something to every pod: the API server its node's zone, a network
/// plugin its address.
pub fn state(object: &Object) -> u128 {
    let named = object.annotation(keys::APPLIED_KEYS).unwrap_or_default();
    let mut print = Print::default();
    for (pointer, mark) in [("/metadata/labels", "l:"), ("/metadata/annotations", "a:")] {
        let is_own = |key: &str| {
            let mut named = named
                .split(',')
                .filter_map(|named| named.strip_prefix(mark));
            key.starts_with(keys::PREFIX) || named.any(|named| named == key)
        };
        let all = object.at(pointer).and_then(Value::as_object);
        for (key, value) in all.into_iter().flatten().filter(|(key, _)| is_own(key)) {
            print.text(mark);
            print.text(key);
            print.value(value);
        }
    }
    wish(&mut print, object);
    print.end()
}

/// Adds a wish to delete an object, and its body.
fn wish(print: &mut Print, object: &Object) {
    const WRITTEN_BY_THE_CLUSTER: [&str; 2] = ["nodeName", "finalizers"];
    print.field(object.at("/metadata/deletionTimestamp"));
    for (field, value) in object.value().as_object().into_iter().flatten() {
        match (field.as_str(), value) {
            ("apiVersion" | "kind" | "metadata" | "status", _) => {}
            ("spec", Value::Object(spec)) => {
                let asked = spec
                    .iter()
                    .filter(|(name, _)| !WRITTEN_BY_THE_CLUSTER.contains(&name.as_str()));
                for (name, value) in asked {
                    print.text(name);
                    print.value(value);
                }
            }
            _ => {
                print.text(field);
                print.value(value);
            }
        }
    }
}

/// 128 bits over what an object's metadata tell of [`intent`], its generation among them; 0 when there is none.
///
/// For kinds whose generation counts every change of the spec, such as pods: as long as one object keeps this, its intent
/// is the same, and its spec needn't be read to know that. Only within one watch: a store that went back counts anew.
pub fn edition(metadata: &Value) -> u128 {
    let Some(generation) = metadata.get("generation").and_then(Value::as_u64) else {
        return 0;
    };
    let mut print = Print::default();
    print.number(generation);
    for field in ["labels", "annotations", "deletionTimestamp"] {
        print.field(metadata.get(field));
    }
    print.end()
}

/// Whether a tenant's label may reach a super object under its own key.
///
/// Domains of Kubernetes itself and of what injects or picks out pods by label steer what the platform runs and are kept out,
/// except those that selectors of ordinary workloads need. Sublet's own keys never cross.
pub fn label_crosses(key: &str) -> bool {
    const NEEDED: [&str; 4] = [
        "app.kubernetes.io",
        "apps.kubernetes.io",
        "batch.kubernetes.io",
        "statefulset.kubernetes.io",
    ];
    match key.split_once('/') {
        // Azure's pod identity gives out credentials by it.
        None => key != "aadpodidbinding",
        Some((domain, _)) => NEEDED.contains(&domain) || !(reserved(domain) || steers(domain)),
    }
}

/// Domain of the keys under which labels of pods cross that don't under their own.
const CARRIED: &str = "label.sublet.dev";

/// Labels that an API server itself puts on a pod when it is bound (PodTopologyLabels, KEP-4742): the super pod has them from
/// the super cluster's, under their own keys.
pub(crate) const TOPOLOGY: [&str; 2] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Key of a super pod's label for the tenant's label `key` of its pod, if that crosses.
///
/// Whatever selects pods in the tenant must find their twins, so every label crosses that isn't Sublet's: the others that
/// [`label_crosses`] keeps out under a key that nothing in the super cluster obeys (T4), and that no tenant can write, being
/// below Sublet's own domain. Different keys stay different.
pub fn pod_label(key: &str) -> Option<String> {
    pod_label_crosses(key).then(|| selected(key).unwrap_or_else(|| key.to_owned()))
}

/// Whether [`pod_label`] has a key.
pub fn pod_label_crosses(key: &str) -> bool {
    !is_own(key) && !TOPOLOGY.contains(&key)
}

/// What a selector of super pods asks for in place of the tenant's `key`; nothing where that is the same.
///
/// Of Sublet's own keys, which the tenant's pods lose, it is one that no super pod has: a selector that asked for them would
/// find what Sublet wrote.
pub fn selected(key: &str) -> Option<String> {
    let is_same = label_crosses(key) || TOPOLOGY.contains(&key);
    (!is_same).then(|| format!("{CARRIED}/{}", naming::hash(&[key.as_bytes()])))
}

/// Whether a super pod's label is one of the tenant's under another key.
pub fn is_carried(key: &str) -> bool {
    key.split_once('/')
        .is_some_and(|(domain, _)| domain == CARRIED)
}

/// Whether a key is of Sublet's own domain, or of one below it.
pub(crate) fn is_own(key: &str) -> bool {
    key.split_once('/')
        .is_some_and(|(domain, _)| is_below(domain, OWN))
}

/// Domains of what a platform may run for all namespaces and that goes by labels of pods: injectors of sidecars, clouds'
/// identities, policies, queues of jobs, whatever prunes or backs up by label.
fn steers(domain: &str) -> bool {
    const ROOTS: [&str; 18] = [
        "amazonaws.com",
        "argocd.argoproj.io",
        "azure.workload.identity",
        "cilium.io",
        "consul.hashicorp.com",
        "datadoghq.com",
        "elbv2.k8s.aws",
        "gatekeeper.sh",
        "gke.io",
        "istio.io",
        "kuma.io",
        "kyverno.io",
        "linkerd.io",
        "opentelemetry.io",
        "projectcalico.org",
        "spiffe.io",
        "velero.io",
        // Kueue, JobSet, Cluster API and other projects beside Kubernetes; it isn't below `k8s.io`.
        "x-k8s.io",
    ];
    ROOTS.iter().any(|root| is_below(domain, root))
}

/// Whether a tenant's annotation may reach the super object: keys without a domain, and those of two domains that nothing
/// in a cluster obeys. What scrapes the platform's pods obeys `prometheus.io`, so a class must offer it.
pub fn annotation_crosses(key: &str) -> bool {
    const HARMLESS: [&str; 2] = ["kubectl.kubernetes.io", "checksum"];
    match key.split_once('/') {
        None => true,
        Some((domain, _)) => HARMLESS.contains(&domain),
    }
}

/// Sublet's own domain, as in [`keys::PREFIX`].
const OWN: &str = "sublet.dev";

/// Domains that belong to Kubernetes or to Sublet, with all below them.
pub(crate) fn reserved(domain: &str) -> bool {
    ["kubernetes.io", "k8s.io", OWN]
        .iter()
        .any(|root| is_below(domain, root))
}

/// Whether a domain is `root` or one below it.
pub(crate) fn is_below(domain: &str, root: &str) -> bool {
    domain
        .strip_suffix(root)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_steer_do_not_cross() {
        for key in [
            "app",
            "example.com/x",
            "app.kubernetes.io/name",
            "batch.kubernetes.io/job-name",
            "notk8s.io/x",
            "notx-k8s.io/y",
            "notistio.io/x",
        ] {
            assert!(label_crosses(key), "{key}");
        }
        for key in [
            "sublet.dev/tenant",
            "x.sublet.dev/y",
            "pod-security.kubernetes.io/enforce",
            "k8s.io/a",
            "a.k8s.io/b",
            "x-k8s.io/a",
            "kueue.x-k8s.io/queue-name",
            "cluster.x-k8s.io/cluster-name",
            "sidecar.istio.io/inject",
            "istio.io/rev",
            "azure.workload.identity/use",
            "admission.datadoghq.com/enabled",
            "argocd.argoproj.io/instance",
            "aadpodidbinding",
        ] {
            assert!(!label_crosses(key), "{key}");
        }
        assert!(!annotation_crosses("prometheus.io/scrape"));
    }

    /// T4: nothing obeys the key, whatever the tenant's is; and what Sublet writes nobody forges.
    #[test]
    fn t4_labels_of_pods_that_steer_cross_under_a_key_that_steers_nothing() {
        for key in ["app", "example.com/x", "batch.kubernetes.io/job-name"] {
            assert_eq!(pod_label(key).as_deref(), Some(key));
            assert_eq!(selected(key), None);
        }
        let steering = [
            "jobset.sigs.k8s.io/jobset-name",
            "gateway.networking.k8s.io/gateway-name",
            "linkerd.io/control-plane-component",
            "sidecar.istio.io/inject",
            "aadpodidbinding",
        ];
        let carried: std::collections::BTreeSet<String> =
            steering.into_iter().filter_map(pod_label).collect();
        assert_eq!(carried.len(), steering.len(), "{carried:?}");
        for (key, steering) in carried.iter().zip(steering) {
            assert!(is_carried(key) && !is_carried(steering), "{key}");
            assert!(!label_crosses(key), "a tenant can't write it itself");
            let (domain, name) = key.split_once('/').unwrap();
            assert!(!steers(domain) && name.len() <= 63, "{key}");
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
        let own = [keys::TENANT, keys::INGRESS, "evil.sublet.dev/x"];
        for key in own.into_iter().chain(carried.iter().map(String::as_str)) {
            assert_eq!(pod_label(key), None, "{key}");
            let asked = selected(key).unwrap();
            assert!(asked != key && is_carried(&asked), "{key}");
        }
        for key in TOPOLOGY {
            assert_eq!((pod_label(key), selected(key)), (None, None));
        }
    }

    #[test]
    fn the_prefix_is_that_of_the_domain() {
        assert_eq!(keys::PREFIX.strip_suffix('/'), Some(OWN));
    }

    #[test]
    fn fingerprints_and_hashes_ignore_order() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).unwrap();
        for of in [fingerprint, hash] {
            assert_eq!(of(&one), of(&other));
            assert_ne!(of(&one), of(&json!({"a": 1})));
        }
    }

    #[test]
    fn what_is_written_onto_objects_is_the_same_hash_in_every_version() {
        let value = json!({"a": [1, -1, 1.5, null, true], "b": {"c": "d\n"}});
        assert_eq!(
            format!("{:032x}", hash(&value)),
            "ad99a5bfe6b5864927fae9019e8f64d7"
        );
    }

    #[test]
    fn status_and_binding_are_no_intent() {
        let pod = |spec: Value, status: Value| {
            Object::from_value(
                json!({"metadata": {"labels": {"a": "b"}}, "spec": spec, "status": status}),
            )
            .unwrap()
        };
        let asked = intent(&pod(json!({"x": 1}), json!({})));
        assert_eq!(
            asked,
            intent(&pod(
                json!({"x": 1, "nodeName": "n"}),
                json!({"phase": "Running"})
            ))
        );
        assert_ne!(asked, intent(&pod(json!({"x": 2}), json!({}))));
    }

    #[test]
    fn what_others_write_onto_a_super_object_is_no_change_of_its_state_and_every_key_of_ours_is() {
        let mut made = Object::from_value(json!({
            "metadata": {"labels": {"app": "web", keys::TENANT: "t"}, "annotations": {keys::UID: "u"}}, "spec": {"x": 1},
        }))
        .unwrap();
        seal(&mut made);
        let with = |change: &dyn Fn(&mut Value)| {
            let mut other = made.clone();
            change(other.value_mut());
            state(&other)
        };
        let same = state(&made);
        let by_others: [&dyn Fn(&mut Value); 3] = [
            &|pod| pod["metadata"]["labels"]["topology.kubernetes.io/zone"] = "z".into(),
            &|pod| pod["metadata"]["annotations"]["example.com/address"] = "10.0.0.1".into(),
            &|pod| pod["spec"]["nodeName"] = "n".into(),
        ];
        for change in by_others {
            assert_eq!(with(change), same);
        }
        let of_ours: [&dyn Fn(&mut Value); 7] = [
            &|pod| pod["metadata"]["labels"]["app"] = "other".into(),
            &|pod| {
                drop(
                    pod["metadata"]["labels"]
                        .as_object_mut()
                        .unwrap()
                        .remove("app"),
                );
            },
            &|pod| pod["metadata"]["labels"][keys::TENANT] = "other".into(),
            &|pod| pod["metadata"]["annotations"][keys::UID] = "other".into(),
            &|pod| pod["metadata"]["annotations"][keys::APPLIED_KEYS] = "".into(),
            &|pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
            &|pod| pod["spec"]["x"] = 2.into(),
        ];
        for (number, change) in of_ours.into_iter().enumerate() {
            assert_ne!(with(change), same, "{number}");
        }
    }

    #[test]
    fn an_edition_changes_with_all_that_metadata_tell_of_the_intent() {
        let metadata = json!({"generation": 2, "labels": {"a": "b"}, "resourceVersion": "7"});
        let with = |field: &str, value: Value| {
            let mut other = metadata.clone();
            other[field] = value;
            edition(&other)
        };
        let same = edition(&metadata);
        assert_ne!(same, 0);
        assert_eq!(with("resourceVersion", json!("8")), same);
        let told = [
            ("generation", json!(3)),
            ("labels", json!({"a": "c"})),
            ("annotations", json!({})),
            ("deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ];
        for (field, value) in told {
            assert_ne!(with(field, value), same, "{field}");
        }
        assert_eq!(with("generation", Value::Null), 0);
    }

    #[test]
    fn a_seal_records_keys_and_hash() {
        let mut object =
            Object::from_value(json!({"metadata": {"labels": {"app": "x", keys::TENANT: "t"}, "annotations": {"n": "1"}}}))
                .unwrap();
        seal(&mut object);
        assert_eq!(object.annotation(keys::APPLIED_KEYS), Some("l:app,a:n"));
        let first = applied(&object);
        assert_ne!(first, 0);
        let mut again = object.clone();
        again.value_mut()["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove(keys::APPLIED);
        again.value_mut()["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove(keys::APPLIED_KEYS);
        seal(&mut again);
        assert_eq!(applied(&again), first);
    }
}
