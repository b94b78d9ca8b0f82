//! Custom resources: kinds that a class names while the program runs. Namespaced ones only.
//!
//! A definition becomes a kind of the table's form, once for each resource and direction; a process sees few of them. The
//! body is the controller's business and crosses whole, except for the references that the class declares.

use super::{
    Cx, KINDS, Kind, Reference, Refused, Resource, SuperWatch, TenantView, Upward, UpwardVerb,
    down::{generations, scrub},
    published,
};
use crate::{
    meta, naming,
    object::Object,
    offer,
    plan::{Change, holds},
    refs::Referent,
};
use api::{CustomResource, Direction, ReferenceKind, StatusPlace, keys};
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

/// Custom resources that one process can serve in its life: each is a watch on the super cluster.
const LIMIT: usize = 128;

static SLOTS: [OnceLock<Custom>; LIMIT] = [const { OnceLock::new() }; LIMIT];

/// A custom resource that crosses one way.
#[derive(Debug)]
struct Custom {
    resource: Resource,
    direction: Direction,
    status: StatusPlace,
}

/// The kind's index for keys; `None` when too many are in use or the name has no group.
pub fn intern(definition: &CustomResource) -> Option<u8> {
    let (plural, group) = definition.name.split_once('.')?;
    let is_it = |custom: &Custom| {
        let resource = &custom.resource;
        (resource.plural, resource.group, resource.version)
            == (plural, group, definition.version.as_str())
            && custom.resource.kind == definition.kind
            && custom.direction == definition.direction
            && custom.status == definition.status
    };
    // What is interned is never given back: the keys of the engine name it.
    let make = || {
        let keep = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        Custom {
            resource: Resource {
                group: keep(group),
                version: keep(&definition.version),
                kind: keep(&definition.kind),
                plural: keep(plural),
                namespaced: true,
            },
            direction: definition.direction,
            status: definition.status,
        }
    };
    let position = SLOTS
        .iter()
        .position(|slot| is_it(slot.get_or_init(make)))?;
    u8::try_from(KINDS.len() + position).ok()
}

/// The kind with an index above those of the table.
pub(super) fn rule(index: usize) -> Option<&'static dyn Kind> {
    let slot = SLOTS.get(index.checked_sub(KINDS.len())?)?;
    slot.get().map(|custom| custom as &dyn Kind)
}

impl Kind for Custom {
    fn resource(&self) -> &'static Resource {
        SLOTS
            .iter()
            .filter_map(OnceLock::get)
            .find(|custom| std::ptr::eq(*custom, self))
            .map(|custom| &custom.resource)
            .expect("every custom kind is in a slot")
    }

    fn goes_down(&self) -> bool {
        self.direction == Direction::ToSuper
    }

    fn super_watch(&self) -> SuperWatch {
        match self.direction {
            Direction::ToSuper => SuperWatch::Owned,
            Direction::FromSuper => SuperWatch::Placed,
        }
    }

    fn is_optional(&self) -> bool {
        true
    }

    fn mirrors(&self) -> bool {
        self.goes_down()
    }

    fn super_writes(&self) -> bool {
        true
    }

    fn down(&self, object: &Object, cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        let mut twin = meta::twin(&self.resource, object, object.name(), cx);
        let mut body: Value = content(object)
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect::<Map<String, Value>>()
            .into();
        self.check_undeclared(&body, cx)?;
        let mut refused = None;
        for reference in self.declared(&cx.rules.custom) {
            visit(
                &mut body,
                &reference.path,
                &mut |name| match translated(name, reference.kind, cx) {
                    Ok(there) => *name = there,
                    Err(why) => refused = Some(why),
                },
            );
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        if let (Some(twin), Value::Object(body)) = (twin.value_mut().as_object_mut(), body) {
            twin.extend(body);
        }
        let crossing = object
            .annotations()
            .filter(|(key, _)| meta::annotation_crosses(key));
        for (key, value) in crossing {
            twin.annotate(key, value);
        }
        if let Some(generation) = object.at("/metadata/generation") {
            twin.annotate(keys::GENERATION, &generation.to_string());
        }
        Ok(Some(twin))
    }

    fn may_refer(&self, custom: &[CustomResource]) -> bool {
        self.declared(custom).next().is_some()
    }

    fn references(&self, object: &Object, custom: &[CustomResource]) -> Vec<Reference> {
        let mut found = vec![];
        let mut body = object.value().clone();
        for reference in self.declared(custom) {
            let kind = match reference.kind {
                ReferenceKind::ConfigMap => "ConfigMap",
                ReferenceKind::Secret => "Secret",
                ReferenceKind::PersistentVolumeClaim | ReferenceKind::Namespace => continue,
            };
            visit(&mut body, &reference.path, &mut |name| {
                found.push(Reference {
                    kind,
                    name: name.clone(),
                });
            });
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn changes(&self, want: &Object, have: &Object) -> Vec<Change> {
        let is_edited = meta::applied(want) != meta::applied(have);
        let change = |field: &str, value| Change {
            subresource: None,
            pointer: format!("/{}", crate::plan::escape(field)),
            value,
        };
        let differs = |field: &str, value: &Value| {
            let now = have.value().get(field).unwrap_or(&Value::Null);
            !holds(now, value) || is_edited && now != value
        };
        let set = content(want)
            .filter(|(field, value)| differs(field, value))
            .map(|(field, value)| change(field, Some(value.clone())));
        let gone = content(have)
            .filter(|(field, _)| is_edited && want.value().get(field.as_str()).is_none())
            .map(|(field, _)| change(field, None));
        set.chain(gone).collect()
    }

    fn up_projection(&self, object: &Object) -> Value {
        if self.status == StatusPlace::None {
            return Value::Null;
        }
        object.at("/status").cloned().unwrap_or_else(|| json!({}))
    }

    fn up(&self, super_object: &Object, tenant: &TenantView, _cx: &Cx<'_>) -> Vec<Upward> {
        let mut status = self.up_projection(super_object);
        let namespace = meta::owner(super_object)
            .map(|owner| owner.namespace)
            .unwrap_or_default();
        scrub(&mut status, super_object.namespace(), &namespace);
        generations(&mut status, super_object);
        let subresource = match self.status {
            StatusPlace::None => return vec![],
            StatusPlace::Subresource => Some("status"),
            StatusPlace::Object => None,
        };
        if meta::fingerprint(&status) == tenant.projection {
            return vec![];
        }
        vec![Upward {
            subresource,
            verb: UpwardVerb::Operations,
            body: json!([{"op": "add", "path": "/status", "value": status}]),
            shows: None,
        }]
    }

    fn publish(&self, object: &Object, namespace: &str, _cx: &Cx<'_>) -> Option<Object> {
        let mut copy = object.value().clone();
        let twin = object.namespace().to_owned();
        // By some of them what writes such objects, and what reads them, knows them.
        let crossing = object.labels().filter(|(key, _)| meta::label_crosses(key));
        let mut labels: Map<String, Value> = crossing
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        labels.insert(keys::PUBLISHED.to_owned(), "true".into());
        copy["metadata"] = json!({"name": object.name(), "namespace": namespace, "labels": labels});
        scrub(&mut copy, &twin, namespace);
        if self.status == StatusPlace::None {
            copy.as_object_mut()?.remove("status");
        }
        Object::from_value(copy).ok()
    }

    fn published_changes(&self, want: &Object, have: &Object) -> Vec<Upward> {
        let mut writes = published::changes(want, have);
        if self.status == StatusPlace::Object {
            writes.iter_mut().for_each(|write| write.subresource = None);
        }
        writes
    }
}

impl Custom {
    /// Refuses what leads out of the super namespace, or to a token of Sublet's, by a field that the class doesn't declare.
    ///
    /// A field is known by its name alone: what a controller makes of others, only its class's author can tell.
    fn check_undeclared(&self, body: &Value, cx: &Cx<'_>) -> Result<(), Refused> {
        let mut rest = body.clone();
        for reference in self.declared(&cx.rules.custom) {
            visit(&mut rest, &reference.path, &mut String::clear);
        }
        let Some((path, text)) = undeclared(&rest, "") else {
            return Ok(());
        };
        Err(if text.starts_with(naming::TOKEN_PREFIX) {
            Refused::new(
                "ReservedName",
                format!("{path} names a Secret of Sublet's own: name another"),
            )
        } else {
            Refused::new(
                "CrossNamespaceReference",
                format!(
                    "{path} names namespace {text:?}, which isn't the tenant's where it leads to: leave it out, or ask the \
                     platform's admins to declare it (references of customResources in your ControlPlaneClass)"
                ),
            )
        })
    }

    /// The references that the tenant's class declares.
    fn declared<'a>(
        &self,
        custom: &'a [CustomResource],
    ) -> impl Iterator<Item = &'a api::ReferencePath> + use<'a> {
        let name = offer::qualified(&self.resource);
        let definition = custom
            .iter()
            .find(move |definition| definition.name == name);
        definition
            .into_iter()
            .flat_map(|definition| &definition.references)
    }
}

/// Everything of an object but what says what it is and how it is.
fn content(object: &Object) -> impl Iterator<Item = (&String, &Value)> {
    let fields = object.value().as_object().into_iter().flatten();
    fields.filter(|(field, _)| {
        !matches!(
            field.as_str(),
            "apiVersion" | "kind" | "metadata" | "status"
        )
    })
}

fn translated(name: &str, kind: ReferenceKind, cx: &Cx<'_>) -> Result<String, Refused> {
    match kind {
        ReferenceKind::ConfigMap => Referent::ConfigMap.super_name(name),
        ReferenceKind::Secret => Referent::Secret.super_name(name),
        ReferenceKind::PersistentVolumeClaim => Referent::Claim.super_name(name),
        ReferenceKind::Namespace => Ok(meta::super_namespace(name, cx)),
    }
}

/// The first text that names a namespace or a Secret of Sublet's, and where it stands.
fn undeclared<'a>(value: &'a Value, path: &str) -> Option<(String, &'a str)> {
    match value {
        Value::Object(map) => map.iter().find_map(|(field, value)| {
            let path = match path {
                "" => field.clone(),
                path => format!("{path}.{field}"),
            };
            let is_namespace = field == "namespace" || field.ends_with("Namespace");
            match value {
                Value::String(text) if is_namespace && !text.is_empty() => {
                    Some((path, text.as_str()))
                }
                value => undeclared(value, &path),
            }
        }),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .find_map(|(at, item)| undeclared(item, &format!("{path}[{at}]"))),
        Value::String(text) if text.starts_with(naming::TOKEN_PREFIX) => {
            Some((path.to_owned(), text.as_str()))
        }
        _ => None,
    }
}

/// Calls `each` with every text that a path such as `spec.issuers[].secretRef.name` leads to.
fn visit(value: &mut Value, path: &str, each: &mut dyn FnMut(&mut String)) {
    let (field, rest) = path.split_once('.').unwrap_or((path, ""));
    let (field, many) = match field.strip_suffix("[]") {
        Some(field) => (field, true),
        None => (field, false),
    };
    let Some(found) = value.get_mut(field) else {
        return;
    };
    let items: Vec<&mut Value> = match (many, found) {
        (true, Value::Array(list)) => list.iter_mut().collect(),
        (true, Value::Object(map)) => map.values_mut().collect(),
        (true, _) => vec![],
        (false, one) => vec![one],
    };
    for item in items {
        match item {
            Value::String(text) if rest.is_empty() && !text.is_empty() => each(text),
            _ if rest.is_empty() => {}
            _ => visit(item, rest, each),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kind::{
            self,
            testing::{Answers, object, tenant},
            translate,
        },
        plan::{Plan, plan},
        tenant::TenantRules,
    };
    use api::ReferencePath;

    fn definition(direction: Direction) -> CustomResource {
        let reference = |path: &str, kind| ReferencePath {
            path: path.into(),
            kind,
        };
        CustomResource {
            name: "backups.example.com".into(),
            version: "v1".into(),
            kind: "Backup".into(),
            direction,
            references: vec![
                reference("spec.secretName", ReferenceKind::Secret),
                reference("spec.sources[].configMap.name", ReferenceKind::ConfigMap),
                reference("spec.target.namespace", ReferenceKind::Namespace),
            ],
            status: StatusPlace::Subresource,
        }
    }

    fn rule(direction: Direction) -> &'static dyn Kind {
        kind::rule(intern(&definition(direction)).unwrap())
    }

    fn owner() -> TenantRules {
        let mut tenant = tenant();
        tenant.custom = vec![definition(Direction::ToSuper)];
        tenant
    }

    fn backup() -> Object {
        object(json!({
            "apiVersion": "example.com/v1", "kind": "Backup",
            "metadata": {"name": "b", "namespace": "default", "uid": "u", "generation": 7, "finalizers": ["x"]},
            "spec": {"secretName": "key", "sources": [{"configMap": {"name": "kube-root-ca.crt"}}, {}],
                "target": {"namespace": "other"}, "any": {"thing": [1]}},
            "status": {"made": "up"},
        }))
    }

    fn with<R>(rule: impl FnOnce(&Cx<'_>) -> R) -> R {
        rule(&Cx {
            rules: &owner(),
            facts: &Answers::default(),
        })
    }

    #[test]
    fn a_definition_is_one_kind() {
        let one = intern(&definition(Direction::ToSuper)).unwrap();
        assert_eq!(intern(&definition(Direction::ToSuper)), Some(one));
        assert_ne!(intern(&definition(Direction::FromSuper)), Some(one));
        let mut nameless = definition(Direction::ToSuper);
        nameless.name = "backups".into();
        assert_eq!(intern(&nameless), None);
        assert_eq!(kind::rule(one).resource().plural, "backups");
    }

    #[test]
    fn the_body_goes_down_with_its_declared_references_translated() {
        let rule = rule(Direction::ToSuper);
        let twin = with(|cx| translate(rule, &backup(), cx)).unwrap().unwrap();
        let other = with(|cx| meta::super_namespace("other", cx));
        assert_eq!(
            twin.at("/spec"),
            Some(
                &json!({"secretName": "key", "sources": [{"configMap": {"name": "kube-root-ca.crt.tenant"}}, {}],
                "target": {"namespace": other}, "any": {"thing": [1]}})
            )
        );
        assert_eq!(
            (twin.at("/status"), twin.at("/metadata/finalizers")),
            (None, None)
        );
        let names: Vec<_> = with(|cx| rule.references(&backup(), &cx.rules.custom))
            .into_iter()
            .map(|reference| (reference.kind, reference.name))
            .collect();
        assert_eq!(
            names,
            [
                ("ConfigMap", "kube-root-ca.crt".to_owned()),
                ("Secret", "key".to_owned())
            ]
        );
        assert_eq!(
            with(|_| plan(rule, twin.clone(), Some(&twin))),
            Ok(Plan::Nothing)
        );
        let mut stolen = backup();
        stolen.value_mut()["spec"]["secretName"] = "sublet-token-x".into();
        let refused = with(|cx| translate(rule, &stolen, cx)).unwrap_err();
        assert_eq!(refused.reason, "ReservedName");
    }

    #[test]
    fn t22_what_leads_elsewhere_is_declared_or_refused() {
        let rule = rule(Direction::ToSuper);
        let reason = |field: Value| {
            let mut backup = backup();
            backup.value_mut()["spec"]["more"] = field;
            with(|cx| translate(rule, &backup, cx)).err()
        };
        let ways = [
            (json!({"namespace": "platform"}), "CrossNamespaceReference"),
            (
                json!([{"ref": {"targetNamespace": "default"}}]),
                "CrossNamespaceReference",
            ),
            (json!({"keys": ["sublet-token-x"]}), "ReservedName"),
        ];
        for (field, expected) in ways {
            let refused = reason(field.clone()).map(|refused| refused.reason);
            assert_eq!(refused, Some(expected), "{field}");
        }
        let message = reason(json!([{"ref": {"targetNamespace": "default"}}]));
        let message = message.unwrap().message;
        assert!(
            message.starts_with("spec.more[0].ref.targetNamespace names"),
            "{message}"
        );
        for harmless in [
            json!({"namespace": ""}),
            json!({"namespaces": 3}),
            json!("x"),
        ] {
            assert_eq!(reason(harmless), None);
        }
    }

    #[test]
    fn status_comes_up_in_the_tenants_words() {
        let rule = rule(Direction::ToSuper);
        let mut twin = with(|cx| translate(rule, &backup(), cx)).unwrap().unwrap();
        let message = format!("wrote {}/b", twin.namespace());
        twin.value_mut()["metadata"]["generation"] = 2.into();
        twin.value_mut()["status"] = json!({"message": message, "observedGeneration": 2});
        let writes = with(|cx| rule.up(&twin, &TenantView::default(), cx));
        assert_eq!(
            writes[0].body,
            json!([{"op": "add", "path": "/status", "value": {"message": "wrote default/b", "observedGeneration": 7}}])
        );
        assert_eq!(writes[0].subresource, Some("status"));
    }

    #[test]
    fn fields_that_the_tenant_took_out_go_and_others_stay() {
        let rule = rule(Direction::ToSuper);
        let mut before = backup();
        before.value_mut()["extra"] = json!({"x": 1});
        let mut have = with(|cx| translate(rule, &before, cx)).unwrap().unwrap();
        have.value_mut()["spec"]["defaulted"] = true.into();
        let same = with(|cx| translate(rule, &before, cx)).unwrap().unwrap();
        assert_eq!(rule.changes(&same, &have), vec![]);
        let want = with(|cx| translate(rule, &backup(), cx)).unwrap().unwrap();
        let changes = rule.changes(&want, &have);
        assert!(
            changes
                .iter()
                .any(|change| change.pointer == "/extra" && change.value.is_none())
        );
    }

    #[test]
    fn what_the_super_cluster_writes_is_shown() {
        let rule = rule(Direction::FromSuper);
        assert!(!rule.goes_down());
        let twin = with(|cx| meta::super_namespace("default", cx));
        let report = object(json!({
            "apiVersion": "example.com/v1", "kind": "Backup",
            "metadata": {"name": "b", "namespace": twin, "uid": "x", "ownerReferences": [{}],
                "annotations": {"a": "b"}, "labels": {
                    "report.of": twin, "app.kubernetes.io/name": "scanner", "scanner.example.com/kind": "Pod",
                    "topology.kubernetes.io/zone": "a", keys::TENANT: "forged", keys::PUBLISHED: "false",
                }},
            "spec": {"of": format!("{twin}/web")}, "status": {"ok": true},
        }));
        assert_eq!(rule.placed_in(&report), twin);
        let copy = with(|cx| rule.publish(&report, "default", cx)).unwrap();
        assert_eq!(
            copy.value(),
            &json!({
                "apiVersion": "example.com/v1", "kind": "Backup",
                "metadata": {"name": "b", "namespace": "default", "labels": {
                    "report.of": "default", "app.kubernetes.io/name": "scanner", "scanner.example.com/kind": "Pod",
                    keys::PUBLISHED: "true",
                }},
                "spec": {"of": "default/web"}, "status": {"ok": true},
            })
        );
    }
}
