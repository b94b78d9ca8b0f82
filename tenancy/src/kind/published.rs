//! Classes and the like: objects of the super cluster that tenants are shown, read-only.
//!
//! One description for each kind says which fields a tenant sees; all else stays behind, above all parameters, which are
//! for drivers of the super cluster and may name its Secrets. What is shown is what the tenant is offered
//! ([`crate::offer`]). A tenant's own object of the same name is never touched.

use super::{
    Cx, Kind, Refused, Resource, SuperWatch, Upward, UpwardVerb, Withdrawal,
    pod::fields::{Fields, Rule, select},
};
use crate::{object::Object, offer};
use api::{CustomResource, ShownNodes, keys};
use serde_json::{Map, Value, json};

/// One kind of published objects.
#[derive(Debug)]
pub(super) struct Published {
    resource: &'static Resource,
    fields: Fields,
    /// Annotations that mean something to API servers and clients.
    annotations: &'static [&'static str],
    shown: Shown,
    served: Served,
}

/// Which objects a tenant is shown, and where.
#[derive(Debug)]
enum Shown {
    /// Those that it is offered.
    Offered,
    /// Those that it is offered, unless they keep volumes and it may have none such (T20). Which of them is the default is the
    /// platform's choice for the tenant, if it made one.
    StorageClass,
    /// Those of a StorageClass that it is offered, in the tenant's kube-system.
    OfStorageClass,
    /// Definitions that it is offered. They stay when they are withdrawn: the tenant's objects would go with them.
    Definition,
}

/// Whether an API server may lack a kind.
#[derive(Debug, PartialEq, Eq)]
enum Served {
    Always,
    Perhaps,
}

const fn class(resource: &'static Resource, fields: Fields) -> Published {
    Published {
        resource,
        fields,
        annotations: &[],
        shown: Shown::Offered,
        served: Served::Always,
    }
}

/// What makes a StorageClass that of claims which name none.
const DEFAULT_STORAGE_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// StorageClass.
pub(super) const STORAGE_CLASS: Published = Published {
    annotations: &[DEFAULT_STORAGE_CLASS],
    shown: Shown::StorageClass,
    ..class(
        &Resource {
            group: "storage.k8s.io",
            version: "v1",
            kind: "StorageClass",
            plural: "storageclasses",
            namespaced: false,
        },
        &[
            ("allowVolumeExpansion", Rule::Pass),
            ("provisioner", Rule::Pass),
            ("reclaimPolicy", Rule::Pass),
            ("volumeBindingMode", Rule::Pass),
        ],
    )
};

/// IngressClass.
pub(super) const INGRESS_CLASS: Published = Published {
    annotations: &["ingressclass.kubernetes.io/is-default-class"],
    ..class(
        &Resource {
            group: "networking.k8s.io",
            version: "v1",
            kind: "IngressClass",
            plural: "ingressclasses",
            namespaced: false,
        },
        &[("spec", Rule::Object(&[("controller", Rule::Pass)]))],
    )
};

/// PriorityClass.
pub(super) const PRIORITY_CLASS: Published = class(
    &Resource {
        group: "scheduling.k8s.io",
        version: "v1",
        kind: "PriorityClass",
        plural: "priorityclasses",
        namespaced: false,
    },
    &[
        ("description", Rule::Pass),
        ("globalDefault", Rule::Pass),
        ("preemptionPolicy", Rule::Pass),
        ("value", Rule::Pass),
    ],
);

/// RuntimeClass. Which nodes have the runtime is for the super cluster's scheduler.
pub(super) const RUNTIME_CLASS: Published = class(
    &Resource {
        group: "node.k8s.io",
        version: "v1",
        kind: "RuntimeClass",
        plural: "runtimeclasses",
        namespaced: false,
    },
    &[("handler", Rule::Pass), ("overhead", Rule::Pass)],
);

/// CSIDriver.
pub(super) const CSI_DRIVER: Published = class(
    &Resource {
        group: "storage.k8s.io",
        version: "v1",
        kind: "CSIDriver",
        plural: "csidrivers",
        namespaced: false,
    },
    &[(
        "spec",
        Rule::Object(&[
            ("attachRequired", Rule::Pass),
            ("fsGroupPolicy", Rule::Pass),
            ("podInfoOnMount", Rule::Pass),
            ("requiresRepublish", Rule::Pass),
            ("seLinuxMount", Rule::Pass),
            ("storageCapacity", Rule::Pass),
            ("volumeLifecycleModes", Rule::Pass),
        ]),
    )],
);

/// Labels of nodes that name no single one.
const ZONES: [&str; 2] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// CSIStorageCapacity.
pub(super) const CSI_STORAGE_CAPACITY: Published = Published {
    shown: Shown::OfStorageClass,
    ..class(
        &Resource {
            group: "storage.k8s.io",
            version: "v1",
            kind: "CSIStorageCapacity",
            plural: "csistoragecapacities",
            namespaced: true,
        },
        &[
            ("capacity", Rule::Pass),
            ("maximumVolumeSize", Rule::Pass),
            ("nodeTopology", Rule::Pass),
            ("storageClassName", Rule::Pass),
        ],
    )
};

/// VolumeSnapshotClass.
pub(super) const VOLUME_SNAPSHOT_CLASS: Published = Published {
    annotations: &["snapshot.storage.kubernetes.io/is-default-class"],
    served: Served::Perhaps,
    ..class(
        &Resource {
            group: "snapshot.storage.k8s.io",
            version: "v1",
            kind: "VolumeSnapshotClass",
            plural: "volumesnapshotclasses",
            namespaced: false,
        },
        &[("deletionPolicy", Rule::Pass), ("driver", Rule::Pass)],
    )
};

/// DeviceClass. Its configuration is for the driver on the node.
pub(super) const DEVICE_CLASS: Published = Published {
    served: Served::Perhaps,
    ..class(
        &Resource {
            group: "resource.k8s.io",
            version: "v1",
            kind: "DeviceClass",
            plural: "deviceclasses",
            namespaced: false,
        },
        &[(
            "spec",
            Rule::Object(&[
                ("extendedResourceName", Rule::Pass),
                ("selectors", Rule::Pass),
            ]),
        )],
    )
};

/// GatewayClass, with what its controller says of it.
pub(super) const GATEWAY_CLASS: Published = Published {
    served: Served::Perhaps,
    ..class(
        &Resource {
            group: "gateway.networking.k8s.io",
            version: "v1",
            kind: "GatewayClass",
            plural: "gatewayclasses",
            namespaced: false,
        },
        &[
            (
                "spec",
                Rule::Object(&[("controllerName", Rule::Pass), ("description", Rule::Pass)]),
            ),
            (
                "status",
                Rule::Object(&[
                    ("conditions", Rule::Pass),
                    ("supportedFeatures", Rule::Pass),
                ]),
            ),
        ],
    )
};

/// CustomResourceDefinition. A conversion webhook is a Service of the super cluster, so only one version of such a
/// definition is shown.
pub(super) const DEFINITION: Published = Published {
    annotations: &["api-approved.kubernetes.io"],
    shown: Shown::Definition,
    ..class(
        &Resource {
            group: "apiextensions.k8s.io",
            version: "v1",
            kind: "CustomResourceDefinition",
            plural: "customresourcedefinitions",
            namespaced: false,
        },
        &[(
            "spec",
            Rule::Object(&[
                ("group", Rule::Pass),
                ("names", Rule::Pass),
                ("preserveUnknownFields", Rule::Pass),
                ("scope", Rule::Pass),
                ("versions", Rule::Pass),
            ]),
        )],
    )
};

/// Whether the tenant is shown every node that its pods may be put on.
fn sees_all_nodes(cx: &Cx<'_>) -> bool {
    cx.rules.nodes == ShownNodes::Selected
        && cx.rules.node_selector.is_empty()
        && cx
            .rules
            .node_affinity
            .iter()
            .all(|asked| asked.required.is_empty())
}

/// Whether a capacity names nothing smaller than a zone: others mostly name a node each.
fn is_of_zones(capacity: &Object) -> bool {
    let labels = capacity.at("/nodeTopology/matchLabels");
    let labels = labels.and_then(Value::as_object).into_iter();
    let expressions = capacity.at("/nodeTopology/matchExpressions");
    let expressions = expressions.and_then(Value::as_array).into_iter().flatten();
    labels
        .flat_map(Map::keys)
        .map(String::as_str)
        .chain(expressions.map(|one| one["key"].as_str().unwrap_or_default()))
        .all(|key| ZONES.contains(&key))
}

impl Kind for Published {
    fn resource(&self) -> &'static Resource {
        self.resource
    }

    fn goes_down(&self) -> bool {
        false
    }

    fn super_watch(&self) -> SuperWatch {
        SuperWatch::Published
    }

    fn is_optional(&self) -> bool {
        self.served == Served::Perhaps
    }

    fn published_namespace(&self) -> &'static str {
        if self.resource.namespaced {
            "kube-system"
        } else {
            ""
        }
    }

    fn down(&self, _object: &Object, _cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        Ok(None)
    }

    fn may_be_shown(&self, name: &str, labelled: bool, cx: &Cx<'_>) -> bool {
        let is_offered = || cx.rules.offers.includes(self.resource, name, labelled);
        let crosses = |resource: &CustomResource| resource.name == name;
        match self.shown {
            Shown::Offered | Shown::StorageClass => is_offered(),
            Shown::Definition => is_offered() || cx.rules.custom.iter().any(crosses),
            Shown::OfStorageClass => true,
        }
    }

    fn publish(&self, object: &Object, namespace: &str, cx: &Cx<'_>) -> Option<Object> {
        let name = object.name();
        let is_shown = self.may_be_shown(name, offer::is_labelled(object), cx)
            && match self.shown {
                Shown::Offered | Shown::Definition => true,
                Shown::StorageClass => !cx.rules.offers.keeps_back(offer::keeps_volumes(object)),
                Shown::OfStorageClass => {
                    let class = object.text("/storageClassName")?;
                    cx.facts.is_offered(STORAGE_CLASS.resource.kind, class)
                        && (sees_all_nodes(cx) || is_of_zones(object))
                }
            };
        if !is_shown {
            return None;
        }
        let mut copy = select(self.fields, object.value());
        if matches!(self.shown, Shown::Definition) {
            convertible(&mut copy, object);
        }
        copy["apiVersion"] = self.resource.api_version().into();
        copy["kind"] = self.resource.kind.into();
        let mut annotations: Map<String, Value> = object
            .annotations()
            .filter(|(key, _)| self.annotations.contains(key))
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        if matches!(self.shown, Shown::StorageClass) {
            choose_default(&mut annotations, name, cx);
        }
        copy["metadata"] =
            json!({"name": name, "labels": {keys::PUBLISHED: "true"}, "annotations": annotations});
        if self.resource.namespaced {
            copy["metadata"]["namespace"] = namespace.into();
        }
        Object::from_value(copy).ok()
    }

    fn withdrawal(&self, _have: &Object) -> Withdrawal {
        match self.shown {
            Shown::Offered | Shown::StorageClass | Shown::OfStorageClass => Withdrawal::Delete,
            Shown::Definition => {
                let body = json!({"metadata": {"labels": {keys::PUBLISHED: null}}});
                Withdrawal::Release(merge(None, body))
            }
        }
    }
}

/// Makes the one StorageClass that was chosen for the tenant its default, whatever it is in the super cluster; where none was
/// chosen, each is what it is there.
fn choose_default(annotations: &mut Map<String, Value>, name: &str, cx: &Cx<'_>) {
    let Some(chosen) = &cx.rules.offers.storage.default else {
        return;
    };
    annotations.remove(DEFAULT_STORAGE_CLASS);
    if chosen == name {
        annotations.insert(DEFAULT_STORAGE_CLASS.into(), "true".into());
    }
}

/// Without the super cluster's webhook only the version in which objects are stored can be served.
fn convertible(copy: &mut Value, object: &Object) {
    let converts = object.text("/spec/conversion/strategy") == Some("Webhook");
    copy["spec"]["conversion"] = json!({"strategy": "None"});
    if let (true, Some(versions)) = (converts, copy["spec"]["versions"].as_array_mut()) {
        versions.retain(|version| version["storage"] == true);
    }
}

/// All of a super object but what each write of it changes.
pub(super) fn source(object: &Object) -> Value {
    let mut source = object.value().clone();
    if let Some(metadata) = source.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["generation", "managedFields", "resourceVersion"] {
            metadata.remove(field);
        }
    }
    source
}

/// What of a published object is compared: labels, annotations that it was given, and the body, without status.
pub(super) fn state(object: &Object) -> Value {
    let body: Map<String, Value> = body(object)
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    json!({
        "labels": object.at("/metadata/labels"),
        "annotations": object.at("/metadata/annotations"),
        "body": body,
    })
}

/// The patches that make `have` say what `want` says; what the tenant added to it goes.
pub(super) fn changes(want: &Object, have: &Object) -> Vec<Upward> {
    let mut patch = Map::new();
    for (field, value) in body(want) {
        patch.extend(difference(value, have.value().get(field)).map(|d| (field.clone(), d)));
    }
    for (field, _) in body(have)
        .filter(|(field, value)| want.value().get(field.as_str()).is_none() && !is_empty(value))
    {
        patch.insert(field.clone(), Value::Null);
    }
    let mut metadata = Map::new();
    for field in ["labels", "annotations"] {
        let root = format!("/metadata/{field}");
        let wanted = want.at(&root).cloned().unwrap_or_else(|| json!({}));
        metadata.extend(difference(&wanted, have.at(&root)).map(|d| (field.to_owned(), d)));
    }
    if !metadata.is_empty() {
        patch.insert("metadata".into(), metadata.into());
    }
    let mut writes = vec![];
    if !patch.is_empty() {
        writes.push(merge(None, patch.into()));
    }
    if let Some(status) = want.at("/status")
        && let Some(difference) = difference(status, have.at("/status"))
    {
        writes.push(merge(Some("status"), json!({"status": difference})));
    }
    writes
}

/// The merge patch that makes `have` into `want`; nothing when they say the same.
fn difference(want: &Value, have: Option<&Value>) -> Option<Value> {
    let have = have.unwrap_or(&Value::Null);
    if want == have || is_empty(want) && is_empty(have) {
        return None;
    }
    let (Value::Object(wanted), Value::Object(now)) = (want, have) else {
        return Some(want.clone());
    };
    let mut patch = Map::new();
    for (key, value) in wanted {
        patch.extend(difference(value, now.get(key)).map(|d| (key.clone(), d)));
    }
    for (key, value) in now {
        if !wanted.contains_key(key) && !is_empty(value) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    (!patch.is_empty()).then(|| patch.into())
}

fn body(object: &Object) -> impl Iterator<Item = (&String, &Value)> {
    let fields = object.value().as_object().into_iter().flatten();
    fields.filter(|(field, _)| {
        !matches!(
            field.as_str(),
            "apiVersion" | "kind" | "metadata" | "status"
        )
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::String(text) => text.is_empty(),
        Value::Number(_) | Value::Bool(true) => false,
    }
}

fn merge(subresource: Option<&'static str>, body: Value) -> Upward {
    Upward {
        subresource,
        verb: UpwardVerb::Merge,
        body,
        shows: None,
    }
}

#[cfg(test)]
mod tests;
