//! A [`Kind`] says how one resource crosses between a tenant and the super cluster.
//!
//! [`KINDS`] is the table of all of them; its order is the order in which they are synced. Adding a kind adds a file and
//! a line here and nothing to the engine.

mod config_map;
mod custom;
mod down;
mod endpoint_slice;
mod event;
pub mod isolation;
mod namespace;
mod node;
mod placed;
mod pod;
mod published;
mod secret;
mod service;
#[cfg(feature = "without-layer-a")]
mod unguarded;

pub use custom::intern;
pub use down::claim::{LOST, had_volume};
pub use endpoint_slice::{endpoint_addresses, endpoints_without};
pub use namespace::{SERVICE_ACCOUNT, environment};
pub use node::is_shown_of_nodes;
pub use pod::{
    decisions::{Decision, decisions},
    placement::{pins_node, was_bound},
    references as pod_references,
    status::{held_up, is_finished, own_addresses, running_addresses},
    tokens::{TokenRequest, token_requests},
};

use crate::{hosts, meta, naming, object::Object, plan::Change, tenant::TenantRules, to_super};
use api::{CustomResource, keys};
use isolation::Ruled;
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

/// All kinds, in sync order: what others refer to comes first.
pub const KINDS: &[&dyn Kind] = &[
    &namespace::Namespace,
    &config_map::ConfigMap,
    &secret::Secret,
    &service::Service,
    &endpoint_slice::EndpointSlice,
    &down::claim::CLAIM,
    &down::devices::CLAIM,
    &down::devices::TEMPLATE,
    &down::policy::POLICY,
    &pod::Pod,
    &down::budget::BUDGET,
    &down::ingress::INGRESS,
    &down::gateway::GATEWAY,
    &down::gateway::grant::GRANT,
    &down::gateway::HTTP_ROUTE,
    &down::gateway::GRPC_ROUTE,
    &down::gateway::transport::TLS_ROUTE,
    &down::gateway::transport::TCP_ROUTE,
    &down::gateway::transport::UDP_ROUTE,
    &down::snapshot::SNAPSHOT,
    &placed::VOLUME,
    &placed::SNAPSHOT_CONTENT,
    &node::Node,
    &published::STORAGE_CLASS,
    &published::INGRESS_CLASS,
    &published::PRIORITY_CLASS,
    &published::RUNTIME_CLASS,
    &published::CSI_DRIVER,
    &published::CSI_STORAGE_CAPACITY,
    &published::VOLUME_SNAPSHOT_CLASS,
    &published::DEVICE_CLASS,
    &published::GATEWAY_CLASS,
    &published::DEFINITION,
    &event::Event,
];

/// Index of a kind in [`KINDS`] by its name.
///
/// # Panics
/// When there is no such kind: callers name kinds of this crate.
pub fn index(kind: &str) -> u8 {
    let position = KINDS.iter().position(|entry| entry.resource().kind == kind);
    u8::try_from(position.expect("a kind of the table")).expect("fewer than 256 kinds")
}

/// The kind with an index, of the table or a custom one ([`intern`]).
///
/// # Panics
/// When nothing gave out that index.
pub fn rule(index: u8) -> &'static dyn Kind {
    let index = usize::from(index);
    let found = KINDS.get(index).copied();
    found
        .or_else(|| custom::rule(index))
        .expect("an index that was given out")
}

/// A resource of the API, as URLs and bodies name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version that both sides are asked for.
    pub version: &'static str,
    /// CamelCase kind.
    pub kind: &'static str,
    /// Plural, as in URLs.
    pub plural: &'static str,
    /// Whether its objects have a namespace.
    pub namespaced: bool,
}

impl Resource {
    /// `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// URL path of the collection, or of one object when `name` isn't empty.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced && !namespace.is_empty() {
            path = format!("{path}/namespaces/{}", segment(namespace));
        }
        path = format!("{path}/{}", self.plural);
        if name.is_empty() {
            path
        } else {
            format!("{path}/{}", segment(name))
        }
    }
}

/// One segment of a path, whatever a field of a tenant calls a name: what no name holds is escaped twice, so that the
/// server, which unescapes once, finds nothing by it rather than another object, a subresource or a parameter.
fn segment(name: &str) -> Cow<'_, str> {
    let is_dots = name.bytes().all(|byte| byte == b'.');
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"-_:".contains(&byte) || byte == b'.' && !is_dots
    };
    if name.bytes().all(is_plain) {
        return name.into();
    }
    let escape = |byte: u8| {
        if is_plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%25{byte:02X}")
        }
    };
    name.bytes().map(escape).collect()
}

/// Where a kind is watched in the super cluster, and whose its objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuperWatch {
    /// Not at all: what happened to it is found by the patrol (Secrets, for which no cluster-wide right is asked).
    Never,
    /// Objects that carry a tenant's label.
    Owned,
    /// All objects: they have no owner and are published to every tenant that may see them.
    Published,
    /// All objects of super namespaces that are twins: they go to the tenant of their namespace, once.
    ByNamespace,
    /// All objects: those that are in a super namespace that is a twin, or name one ([`Kind::placed_in`]), are published
    /// to the tenant of that namespace.
    Placed,
}

/// What else the rules need to know of the tenant; answered from the syncer's indexes.
pub trait Facts {
    /// Whether a synced object of the tenant refers to this ConfigMap or Secret.
    fn is_referenced(&self, kind: &Resource, namespace: &str, name: &str) -> bool;
    /// Whether `address` belongs to one of the tenant's own running pods.
    fn is_pod_address(&self, address: IpAddr) -> bool;
    /// The tenant's namespaces whose labels match a LabelSelector.
    fn namespaces(&self, selector: &Value) -> Vec<String>;
    /// Whether a Service of the tenant has a selector; `None` when there is no such Service.
    fn has_selector(&self, namespace: &str, service: &str) -> Option<bool>;
    /// UID of a tenant's object of a synced kind whose twin has the UID `twin`.
    fn uid(&self, kind: &str, namespace: &str, name: &str, twin: &str) -> Option<String>;
    /// Which directions of the traffic of a pod with these labels the tenant's NetworkPolicies rule.
    fn ruled(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Ruled;
    /// Whether the super cluster has this object of a published kind and the tenant may see it.
    fn is_offered(&self, kind: &str, name: &str) -> bool;
    /// Whether a StorageClass that the tenant isn't offered would be, if its volumes didn't stay when their claims are gone.
    fn is_kept_back(&self, _storage_class: &str) -> bool {
        false
    }
    /// DeviceClasses whose devices a pod has by this extended resource.
    fn device_classes(&self, _resource: &str) -> Vec<String> {
        vec![]
    }
    /// Whether the super cluster bound a pod of the tenant to a node.
    fn runs_on(&self, _node: &str) -> bool {
        false
    }
    /// Whether another tenant had a host name first.
    fn is_host_taken(&self, _host: &str) -> bool {
        false
    }
}

/// What a translation may read.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// Whose object it is.
    pub rules: &'a TenantRules,
    /// Answers from the indexes.
    pub facts: &'a dyn Facts,
}

/// Why an object doesn't cross; told to the tenant as an event on its object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// CamelCase word for programs.
    pub reason: &'static str,
    /// What is refused, and what to write instead.
    pub message: String,
}

impl Refused {
    /// A refusal with a reason for programs and a message for people.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// A reference from a synced object to a ConfigMap or Secret of the same tenant namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `ConfigMap` or `Secret`.
    pub kind: &'static str,
    /// Its name in the tenant.
    pub name: String,
}

/// What the tenant must see of a super object: one request to the tenant's API.
#[derive(Clone, Debug, PartialEq)]
pub struct Upward {
    /// Subresource to write to, if any.
    pub subresource: Option<&'static str>,
    /// How it is written.
    pub verb: UpwardVerb,
    /// The body.
    pub body: Value,
    /// Fingerprint of [`Kind::up_projection`] of the tenant's object once all is written that was to be, where the kind
    /// can tell: the event of the write is no news then.
    pub shows: Option<u128>,
}

/// How an [`Upward`] is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpwardVerb {
    /// POST.
    Create,
    /// PATCH with `application/strategic-merge-patch+json`; the engine adds the tenant object's UID as a condition.
    StrategicMerge,
    /// PATCH with `application/merge-patch+json`; the engine adds the tenant object's UID as a condition.
    Merge,
    /// PATCH with `application/json-patch+json`: the body is a list of operations, before which the engine tests the
    /// tenant object's UID.
    Operations,
}

/// How one resource crosses. No I/O, clock or randomness.
pub trait Kind: Sync {
    /// The resource.
    fn resource(&self) -> &'static Resource;

    /// Whether the tenant's objects are watched and go down.
    fn goes_down(&self) -> bool {
        true
    }

    /// Where it is watched in the super cluster.
    fn super_watch(&self) -> SuperWatch {
        SuperWatch::Owned
    }

    /// Name of the twin in the super cluster.
    fn super_name(&self, name: &str, _cx: &Cx<'_>) -> String {
        name.to_owned()
    }

    /// What the super cluster must hold for the tenant's object; `None` when it must hold nothing.
    fn down(&self, object: &Object, cx: &Cx<'_>) -> Result<Option<Object>, Refused>;

    /// Objects without a twin that must exist beside the super object, in the order of their making.
    fn companions(&self, _object: &Object, _cx: &Cx<'_>) -> Vec<(&'static Resource, Object)> {
        vec![]
    }

    /// NetworkPolicies without a twin that must exist beside the super object and be kept as they are.
    fn isolation(&self, _object: &Object, _cx: &Cx<'_>) -> Vec<Object> {
        vec![]
    }

    /// What of a tenant's object that crosses doesn't, for the tenant to know.
    fn shortfall(&self, _object: &Object, _cx: &Cx<'_>) -> Option<Refused> {
        None
    }

    /// ConfigMaps and Secrets that the tenant's object needs; they go down before it. `custom` are the custom resources that
    /// cross for the tenant.
    fn references(&self, _object: &Object, _custom: &[CustomResource]) -> Vec<Reference> {
        vec![]
    }

    /// Whether objects of the kind may have [`Kind::references`].
    fn may_refer(&self, _custom: &[CustomResource]) -> bool {
        false
    }

    /// Fingerprint of what the tenant asks for by its object; the key is worked downward when it changes.
    fn intent(&self, object: &Object) -> u128 {
        meta::intent(object)
    }

    /// [`meta::edition`] of an object, of either side, whose intent is the same as long as that is; 0 of any other.
    fn edition(&self, _object: &Object) -> u128 {
        0
    }

    /// Whether something that the tenant's own controllers write is missing, without which a new object can't be made.
    fn awaits(&self, _object: &Object) -> bool {
        false
    }

    /// `want` as a create may say it, when that is less than all; [`Kind::changes`] finds what it lacks afterwards.
    ///
    /// What is left out is left out of the applied hash too, so that the object counts as not yet made whole.
    fn creatable(&self, _want: &Object) -> Option<Object> {
        None
    }

    /// What must change in `have` to make it `want`; empty when nothing must.
    ///
    /// By default the top-level fields of `want` other than metadata are owned whole.
    fn changes(&self, want: &Object, have: &Object) -> Vec<Change> {
        crate::plan::whole_fields(want, have)
    }

    /// Whether `have` can't become `want`, since what differs can't be changed: it is deleted and made anew.
    fn must_be_remade(&self, _want: &Object, _have: &Object) -> bool {
        false
    }

    /// Whether deleting the tenant's object, once asked for, is passed on before its finalizers are gone (pods).
    fn deletes_early(&self) -> bool {
        false
    }

    /// Whether the super cluster itself writes to such objects all the time, so that a delete can't be tied to a
    /// resource version.
    fn super_writes(&self) -> bool {
        false
    }

    /// The part of an object that flows up, for comparing the two sides; `Null` when nothing does.
    ///
    /// Applied to the tenant's object it says what the tenant sees; applied to what [`Kind::up`] would write, what it
    /// should see.
    fn up_projection(&self, _tenant_object: &Object) -> Value {
        Value::Null
    }

    /// Whether what goes up stands in fields that the tenant writes, too: [`Kind::up`] is then given the tenant's object
    /// as it is now.
    fn up_reads(&self) -> bool {
        false
    }

    /// What the tenant must see of the super object, given the tenant's object as last known.
    fn up(&self, _super_object: &Object, _tenant: &TenantView, _cx: &Cx<'_>) -> Vec<Upward> {
        vec![]
    }

    /// Whether the tenant may see a super object as far as its name tells, and whether it is labelled for all tenants;
    /// one that it may not see needn't be read.
    fn may_be_shown(&self, _name: &str, _labelled: bool, _cx: &Cx<'_>) -> bool {
        true
    }

    /// For kinds whose objects have no owner (every [`SuperWatch`] but [`SuperWatch::Owned`]): the tenant's
    /// object, in `namespace`, for a super object; `None` when this tenant doesn't see it.
    fn publish(&self, _super_object: &Object, _namespace: &str, _cx: &Cx<'_>) -> Option<Object> {
        None
    }

    /// The super namespace that decides whose an object is ([`SuperWatch::Placed`]).
    fn placed_in<'a>(&self, super_object: &'a Object) -> &'a str {
        super_object.text("/metadata/namespace").unwrap_or_default()
    }

    /// Namespace in the tenant of what is published to all; empty for cluster-scoped kinds.
    fn published_namespace(&self) -> &'static str {
        ""
    }

    /// The part of a super object that what is published of it is made of: when all else changes that is no news.
    fn published_source(&self, object: &Object) -> Value {
        published::source(object)
    }

    /// The part of a published object in the tenant that only Sublet should write.
    fn published_state(&self, object: &Object) -> Value {
        published::state(object)
    }

    /// The writes that make a published object in the tenant say what `want` says.
    fn published_changes(&self, want: &Object, have: &Object) -> Vec<Upward> {
        published::changes(want, have)
    }

    /// What becomes of an object in the tenant that is no longer published.
    fn withdrawal(&self, _have: &Object) -> Withdrawal {
        Withdrawal::Delete
    }

    /// Whether an object in the tenant is one that Sublet put there, as far as it says so itself.
    fn is_published_copy(&self, object: &Object) -> bool {
        object.label(keys::PUBLISHED).is_some()
    }

    /// Whether an object in the tenant that Sublet didn't put there is taken over (nodes: nobody else makes any).
    fn takes_over(&self) -> bool {
        false
    }

    /// Whether an API server may lack the kind.
    fn is_optional(&self) -> bool {
        false
    }

    /// Whether a translation depends on the labels of the tenant's namespaces.
    fn follows_namespaces(&self) -> bool {
        false
    }

    /// A published object, by kind and name, that is to be shown now that the super object names it.
    fn brings(&self, _super_object: &Object) -> Option<(&'static str, String)> {
        None
    }

    /// Whether state of super objects is shown on the tenant's ([`Kind::up`]).
    fn mirrors(&self) -> bool {
        false
    }

    /// Whether a twin holds data or devices, so that it stays when its resource is no longer synced.
    fn is_kept(&self) -> bool {
        false
    }

    /// The tenant's object without what of it is refused, which a twin that is there must follow; `None` leaves the twin
    /// as it is.
    fn reduced(&self, _object: &Object, _cx: &Cx<'_>) -> Option<Object> {
        None
    }

    /// `want` without what the super cluster refused to give because another object has it (a node port).
    fn relax(&self, _want: &Object) -> Option<Object> {
        None
    }

    /// Label selector that narrows the watch of the tenant's objects.
    fn tenant_selector(&self) -> Option<&'static str> {
        None
    }
}

/// What becomes of an object in a tenant that is no longer published.
#[derive(Clone, Debug, PartialEq)]
pub enum Withdrawal {
    /// It is deleted.
    Delete,
    /// It is written to first, then deleted.
    DeleteAfter(Upward),
    /// It stays and is the tenant's from now on.
    Release(Upward),
}

/// What the fingerprints know of the tenant's object when the super object's state goes up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TenantView {
    /// UID of the tenant's object.
    pub uid: String,
    /// The object as it was just read, for kinds of [`Kind::up_reads`].
    pub now: Option<Object>,
    /// The pod is bound to a node.
    pub bound: bool,
    /// Fingerprint of [`Kind::up_projection`] of the tenant's object.
    pub projection: u128,
}

/// Whether the twin of what is refused for this reason goes: its host is another's, it would hold up every drain, or its
/// resource isn't synced.
pub fn takes_away(kind: &dyn Kind, refused: &Refused) -> bool {
    matches!(refused.reason, hosts::TAKEN | down::budget::BLOCKS)
        || refused.reason == to_super::NOT_SYNCED && !kind.is_kept()
}

/// [`Kind::reduced`], and its translation.
pub fn reduce(kind: &dyn Kind, object: &Object, cx: &Cx<'_>) -> Option<(Object, Object)> {
    let less = kind.reduced(object, cx)?;
    let want = translate(kind, &less, cx).ok()??;
    Some((less, want))
}

/// Translates and seals: the only way by which the engine obtains a super object.
///
/// The result carries the ownership marks, the hash of what was applied, and no field that a kind didn't put there.
pub fn translate(kind: &dyn Kind, object: &Object, cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
    #[cfg(feature = "without-layer-a")]
    if let Some(mut copy) = unguarded::copy(kind, object, cx) {
        meta::seal(&mut copy);
        return Ok(Some(copy));
    }
    named(kind.resource(), object)?;
    cx.rules.to_super.check(kind.resource())?;
    let Some(mut want) = kind.down(object, cx)? else {
        return Ok(None);
    };
    meta::seal(&mut want);
    Ok(Some(want))
}

/// Names stand in the paths of requests, so one that no API server would have taken goes nowhere (T42).
fn named(resource: &Resource, object: &Object) -> Result<(), Refused> {
    let is_placed = !resource.namespaced || naming::is_label(object.namespace());
    if is_placed && naming::is_name(object.name()) {
        return Ok(());
    }
    Err(Refused::new(
        "NameNotPossible",
        "its name or its namespace's is none that Kubernetes takes: make it under another",
    ))
}

/// Whether layer A is switched off, which tests alone do: then the engine's own checks of what tenants ask for (nodes,
/// quotas, whose a Secret is) are off as well.
pub const UNGUARDED: bool = cfg!(feature = "without-layer-a");

/// What of the tenant's metadata is written onto a twin that is there: nothing, while layer A stands.
#[cfg(feature = "without-layer-a")]
pub(crate) use unguarded::metadata_changes;

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod laws;

#[cfg(test)]
mod tests {
    use super::*;

    /// T42: a Secret's name in a pod's volume is any text, and API servers of others tell any name.
    #[test]
    fn t42_a_name_stays_one_segment_of_a_path() {
        let secrets = KINDS[usize::from(index("Secret"))].resource();
        for (name, segment) in [
            ("web-1.example.com", "web-1.example.com"),
            ("system:node", "system:node"),
            ("..", "%252E%252E"),
            (
                "../../kube-system/secrets/key",
                "..%252F..%252Fkube-system%252Fsecrets%252Fkey",
            ),
            ("x?watch=true", "x%253Fwatch%253Dtrue"),
            ("x/exec", "x%252Fexec"),
            ("%2e%2e", "%25252e%25252e"),
            ("\u{e9} #", "%25C3%25A9%2520%2523"),
        ] {
            let path = secrets.path("work", name);
            assert_eq!(path, format!("/api/v1/namespaces/work/secrets/{segment}"));
        }
    }
}
