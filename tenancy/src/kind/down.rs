//! Kinds that tenants write and the super cluster acts on: spec down, status up.
//!
//! One description for each kind: a table of the fields of its spec, a step that judges and translates what a table
//! can't, and what of the super object the tenant is shown. The spec is built by the table, so a field that isn't in it
//! is refused. Descriptions are in the files of this folder.

pub(super) mod budget;
pub(super) mod claim;
pub(super) mod devices;
pub(super) mod gateway;
pub(super) mod ingress;
pub(super) mod policy;
pub(super) mod snapshot;

use super::{
    Cx, Kind, Reference, Refused, Resource, TenantView, Upward, UpwardVerb,
    pod::fields::{self, Fields, Path, Rule},
};
use crate::{
    left_out, meta,
    object::Object,
    plan::{Change, holds},
};
use api::{CustomResource, keys};
use serde_json::{Value, json};

/// One kind.
#[derive(Debug)]
pub(super) struct Down {
    pub(super) resource: &'static Resource,
    /// The spec.
    pub(super) spec: Fields,
    /// Judges and translates the spec that was built from the tenant's object.
    pub(super) step: Step,
    /// Fields of the spec that the super cluster fills in when the tenant doesn't: they stay.
    pub(super) filled: &'static [&'static str],
    /// The status, as the tenant is shown it.
    pub(super) status: Fields,
    /// Translates a status that goes up.
    pub(super) upward: fn(&mut Value, &Object, &Cx<'_>),
    /// Fields of the spec that the super cluster writes and the tenant is shown.
    pub(super) given: &'static [&'static str],
    /// Annotations that the super cluster writes and the tenant is shown.
    pub(super) annotations: &'static [&'static str],
    /// A published object that is shown for the super object's sake: its kind, and where its name stands.
    pub(super) brings: Option<(&'static str, &'static str)>,
    /// Whether the spec depends on the labels of the tenant's namespaces.
    pub(super) follows_namespaces: bool,
    /// What of an object that crosses doesn't.
    pub(super) shortfall: fn(&Object, &Cx<'_>) -> Option<Refused>,
    /// Part of the status that is the tenant's wish all the same.
    pub(super) wish: &'static [&'static str],
    /// Whether an API server may lack the kind.
    pub(super) is_optional: bool,
    /// Whether its twins hold data or devices.
    pub(super) is_kept: bool,
}

/// What a step decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crossing {
    /// It crosses.
    Now,
    /// Something that the tenant's own controllers write is still missing.
    Later,
}

type Step = fn(&mut Value, &Object, &Cx<'_>) -> Result<Crossing, Refused>;

/// A kind of which nothing is special.
pub(super) const fn plain(resource: &'static Resource, spec: Fields, status: Fields) -> Down {
    Down {
        resource,
        spec,
        step: |_, _, _| Ok(Crossing::Now),
        filled: &[],
        status,
        upward: |_, _, _| {},
        given: &[],
        annotations: &[],
        brings: None,
        follows_namespaces: false,
        shortfall: |_, _| None,
        wish: &[],
        is_optional: false,
        is_kept: false,
    }
}

impl Kind for Down {
    fn resource(&self) -> &'static Resource {
        self.resource
    }

    fn down(&self, object: &Object, cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        let nothing = json!({});
        let from = object.at("/spec").unwrap_or(&nothing);
        let mut spec = fields::build(self.spec, from, &Path::Root("spec"), cx.rules.pod_security)?;
        if (self.step)(&mut spec, object, cx)? == Crossing::Later {
            return Ok(None);
        }
        let name = self.super_name(object.name(), cx);
        let mut twin = meta::twin(self.resource, object, &name, cx);
        twin.value_mut()["spec"] = spec;
        for (key, value) in left_out::annotations(self.resource.kind, object, cx)? {
            twin.annotate(key, value);
        }
        if let Some(generation) = object.at("/metadata/generation") {
            twin.annotate(keys::GENERATION, &generation.to_string());
        }
        Ok(Some(twin))
    }

    fn intent(&self, object: &Object) -> u128 {
        let wish: Vec<Value> = self
            .wish
            .iter()
            .map(|pointer| object.at(pointer).cloned().unwrap_or_default())
            .collect();
        meta::intent(object) ^ meta::fingerprint(&wish.into())
    }

    fn references(&self, object: &Object, _custom: &[CustomResource]) -> Vec<Reference> {
        let mut found = vec![];
        let spec = object.at("/spec").unwrap_or(&Value::Null);
        fields::references(self.spec, spec, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    fn may_refer(&self, _custom: &[CustomResource]) -> bool {
        fields::may_refer(self.spec)
    }

    fn changes(&self, want: &Object, have: &Object) -> Vec<Change> {
        let mut spec = want.value()["spec"].clone();
        let now = have.at("/spec").unwrap_or(&Value::Null);
        for field in self.filled {
            if let (None, Some(value)) = (spec.get(field), now.get(field)) {
                spec[field] = value.clone();
            }
        }
        let is_edited = meta::applied(want) != meta::applied(have);
        if holds(now, &spec) && (!is_edited || spec == *now) {
            return vec![];
        }
        vec![Change {
            subresource: None,
            pointer: "/spec".into(),
            value: Some(spec),
        }]
    }

    fn super_writes(&self) -> bool {
        true
    }

    fn mirrors(&self) -> bool {
        true
    }

    fn is_optional(&self) -> bool {
        self.is_optional
    }

    fn is_kept(&self) -> bool {
        self.is_kept
    }

    fn follows_namespaces(&self) -> bool {
        self.follows_namespaces
    }

    fn shortfall(&self, object: &Object, cx: &Cx<'_>) -> Option<Refused> {
        (self.shortfall)(object, cx)
    }

    fn brings(&self, super_object: &Object) -> Option<(&'static str, String)> {
        let (kind, pointer) = self.brings?;
        Some((kind, super_object.text(pointer)?.to_owned()))
    }

    fn up_projection(&self, object: &Object) -> Value {
        json!({
            "given": self.given(object),
            "status": fields::select(self.status, object.at("/status").unwrap_or(&json!({}))),
        })
    }

    fn up(&self, super_object: &Object, tenant: &TenantView, cx: &Cx<'_>) -> Vec<Upward> {
        let mut shown = self.up_projection(super_object);
        let status = &mut shown["status"];
        (self.upward)(status, super_object, cx);
        let twin = super_object.namespace();
        let owner = meta::owner(super_object);
        let namespace = owner.map(|owner| owner.namespace).unwrap_or_default();
        scrub(status, twin, &namespace);
        generations(status, super_object);
        if meta::fingerprint(&shown) == tenant.projection {
            return vec![];
        }
        let mut writes = vec![];
        if !self.given.is_empty() || !self.annotations.is_empty() {
            writes.push(Upward {
                subresource: None,
                verb: UpwardVerb::Merge,
                body: self.given(super_object),
                shows: None,
            });
        }
        if !self.status.is_empty() {
            let whole = json!([{"op": "add", "path": "/status", "value": shown["status"]}]);
            writes.push(Upward {
                subresource: Some("status"),
                verb: UpwardVerb::Operations,
                body: whole,
                shows: None,
            });
        }
        writes
    }
}

impl Down {
    /// What the super cluster writes outside of the status, as a merge patch: an annotation that isn't there is null.
    fn given(&self, object: &Object) -> Value {
        let mut patch = json!({});
        for field in self.given {
            if let Some(value) = object.at(&format!("/spec/{field}")) {
                patch["spec"][field] = value.clone();
            }
        }
        for key in self.annotations {
            patch["metadata"]["annotations"][key] = object.annotation(key).into();
        }
        patch
    }
}

/// Puts the tenant's namespace wherever a text names the super namespace.
pub(super) fn scrub(value: &mut Value, twin: &str, namespace: &str) {
    match value {
        Value::String(text) if !twin.is_empty() && text.contains(twin) => {
            *text = text.replace(twin, namespace);
        }
        Value::Array(list) => list
            .iter_mut()
            .for_each(|item| scrub(item, twin, namespace)),
        Value::Object(map) => map
            .values_mut()
            .for_each(|item| scrub(item, twin, namespace)),
        _ => {}
    }
}

/// `observedGeneration` as the tenant counts: what was seen of the newest super object was seen of what it was made from.
pub(super) fn generations(status: &mut Value, super_object: &Object) {
    let newest = super_object.at("/metadata/generation");
    let applied = super_object
        .annotation(keys::GENERATION)
        .and_then(|text| text.parse::<i64>().ok());
    match status {
        Value::Array(list) => list
            .iter_mut()
            .for_each(|item| generations(item, super_object)),
        Value::Object(map) => {
            let is_newest =
                map.get("observedGeneration").is_some() && map.get("observedGeneration") == newest;
            if let (Some(observed), Some(applied)) = (map.get_mut("observedGeneration"), applied) {
                let of_older = applied.saturating_sub(1).max(0);
                *observed = if is_newest { applied } else { of_older }.into();
            }
            map.values_mut()
                .for_each(|item| generations(item, super_object));
        }
        _ => {}
    }
}

/// Refuses a class that the tenant isn't offered.
pub(super) fn require_offered(
    kind: &str,
    field: &str,
    name: &str,
    reason: &'static str,
    cx: &Cx<'_>,
) -> Result<(), Refused> {
    if cx.facts.is_offered(kind, name) {
        return Ok(());
    }
    let message = if name.is_empty() {
        format!(
            "{field} names no {kind}, and none that the platform offers is the default: name one, see which there are"
        )
    } else {
        format!(
            "{field} names {kind} {name:?}, which the platform doesn't offer: see which there are"
        )
    };
    Err(Refused::new(reason, message))
}

/// The items of a list at a pointer.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The items of a list at a pointer, to change.
pub(super) fn list_mut<'a>(
    value: &'a mut Value,
    pointer: &str,
) -> impl Iterator<Item = &'a mut Value> {
    value
        .pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// LabelSelector.
pub(super) const LABEL_SELECTOR: Fields = &[
    (
        "matchExpressions",
        Rule::List(&[
            ("key", Rule::Pass),
            ("operator", Rule::Pass),
            ("values", Rule::Pass),
        ]),
    ),
    ("matchLabels", Rule::Pass),
];

/// A status that stays the tenant's.
pub(super) const NO_STATUS: Fields = &[];
