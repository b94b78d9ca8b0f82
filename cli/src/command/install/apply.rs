//! Server-side apply of the built-in objects.

use crate::{discovery::Kinds, error, image, manifest, progress::Progress};
use anyhow::Result;
use api::{ControlPlaneClass, keys};
use k8s_openapi::{
    api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ObjectMeta, Patch, PatchParams},
    core::{ApiResource, Status},
};
use serde_json::Value;
use std::time::Duration;

/// Fields of the spec that are an admin's choice once the object is there, by kind.
const CHOICES: [(&str, &str); 2] = [("Service", "type"), ("Deployment", "replicas")];

/// What a class says of limits: those that an admin wrote are a choice, whatever else this program brings.
const LIMITS: [&str; 4] = ["quota.", "stored.", "max.", "controlPlane.resources."];

/// Field manager of `clusterctl`, whose files have what this program applies: a choice of nobody's.
const CLUSTERCTL: &str = "clusterctl";

/// Applies objects of kinds that the cluster serves, in their order. They are Sublet's own: its fields win, but for
/// [`CHOICES`] in an object that is there.
pub(super) async fn known(client: &Client, objects: &[DynamicObject]) -> Result<()> {
    let kinds = Kinds::load(client).await?;
    for object in objects {
        let types = object.types.clone().unwrap_or_default();
        let Some(kind) = kinds.exact(&types.api_version, &types.kind) else {
            return Err(error::fail(format!(
                "this cluster doesn't serve {} {}: Sublet needs Kubernetes 1.34 or newer",
                types.api_version, types.kind
            )));
        };
        let api = kind.api(client, object.metadata.namespace.as_deref());
        let params = PatchParams::apply(keys::FIELD_MANAGER).force();
        let name = object.name_any();
        let mut object = object.clone();
        if CHOICES.iter().any(|(kind, _)| *kind == types.kind)
            && let Some(live) = api.get_opt(&name).await?
        {
            keep_choices(&mut object, &live);
        }
        api.patch(&name, &params, &Patch::Apply(&object)).await?;
    }
    Ok(())
}

/// Images of the daemons that are there.
pub(super) async fn images(client: &Client) -> Result<Vec<String>> {
    let mut images = vec![];
    for daemon in manifest::deployments(&manifest::daemons()?) {
        let api: Api<Deployment> = Api::namespaced(client.clone(), &daemon.namespace);
        if let Some(live) = api.get_opt(&daemon.name).await? {
            images.extend(manifest::images(&serde_json::to_value(live)?));
        }
    }
    Ok(images)
}

/// Where the same program comes from among the images that are there: whoever chose a registry meant it for later versions.
pub(super) fn registry_of(image: &str, found: &[String]) -> Option<String> {
    let same = found
        .iter()
        .find(|live| image::is_same_program(live, image))?;
    let (registry, _) = image::split(same);
    (!registry.is_empty()).then(|| registry.to_owned())
}

/// Whether the Cluster API provider's kinds are there from an earlier run.
pub(super) async fn serves_cluster_api(client: &Client) -> Result<bool> {
    let kinds = Kinds::load(client).await?;
    let api_version = format!("{}/{}", api::capi::CONTROL_PLANE_GROUP, api::VERSION);
    Ok(kinds.exact(&api_version, "SubletControlPlane").is_some())
}

/// Applies a class without taking fields that an admin has changed. Of one whose limits alone were changed all else is applied;
/// else it is kept as a whole, since versions, images and settings belong together.
///
/// Where existing tenants keep their etcd isn't changed by a later run without the flag: a class that is there keeps its
/// storage.
pub(super) async fn class(
    client: &Client,
    mut class: DynamicObject,
    ephemeral: bool,
    progress: &Progress,
) -> Result<()> {
    let name = class.name_any();
    let api: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource::erase::<ControlPlaneClass>(&()),
    );
    if !ephemeral && let Some(live) = served(&api, &name).await? {
        keep_storage(&mut class.data, &live.data);
    }
    let params = PatchParams::apply(keys::FIELD_MANAGER);
    let mut answer = api.patch(&name, &params, &Patch::Apply(&class)).await;
    if let Err(kube::Error::Api(status)) = &answer {
        let limits = limits_of_an_admin(status);
        if !limits.is_empty() {
            for limit in &limits {
                leave_out(&mut class.data["spec"], limit);
            }
            progress.note(&format!(
                "the class {name} keeps the limits that an admin set: {}",
                limits.join(", ")
            ));
            answer = api.patch(&name, &params, &Patch::Apply(&class)).await;
        }
    }
    match answer {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if is_with_clusterctl(&status) => {
            let params = params.force();
            api.patch(&name, &params, &Patch::Apply(&class)).await?;
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let why = error::one_line(&status.message);
            progress.note(&format!(
                "the class {name} is kept as it is, since an admin changed it: {why}"
            ));
            Ok(())
        }
        Err(err) => Err(err.into()),
    }
}

/// The limits by which a class was refused, if it was by nothing else and an admin wrote them; as paths in its spec.
fn limits_of_an_admin(status: &Status) -> Vec<String> {
    if status.code != 409 || is_with_clusterctl(status) {
        return vec![];
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let paths = causes.map(|cause| {
        let path = cause.field.strip_prefix(".spec.")?;
        let is_limit = LIMITS.iter().any(|limits| path.starts_with(limits));
        is_limit.then(|| path.to_owned())
    });
    let all: Option<Vec<String>> = paths.collect();
    all.unwrap_or_default()
}

/// Takes a field out by its path. Names in it may have dots themselves, as `services.nodeports` has.
fn leave_out(from: &mut Value, path: &str) {
    let Some(fields) = from.as_object_mut() else {
        return;
    };
    if fields.remove(path).is_some() {
        return;
    }
    for (name, value) in fields {
        let rest = path.strip_prefix(name.as_str());
        if let Some(rest) = rest.and_then(|rest| rest.strip_prefix('.')) {
            leave_out(value, rest);
        }
    }
}

/// Whether what is refused are fields that `clusterctl` wrote when it put in an earlier version, and no other's.
fn is_with_clusterctl(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut others = causes.map(|cause| {
        let with = cause.message.strip_prefix("conflict with \"");
        with.and_then(|rest| rest.split('"').next())
    });
    status.code == 409
        && others.next().is_some_and(|first| first == Some(CLUSTERCTL))
        && others.all(|other| other == Some(CLUSTERCTL))
}

/// The class, once the API server serves classes at all: a new definition takes it a moment.
async fn served(api: &Api<DynamicObject>, name: &str) -> Result<Option<DynamicObject>> {
    for _ in 0..50 {
        match api.get(name).await {
            Ok(live) => return Ok(Some(live)),
            Err(err) if error::is_missing(&err) => return Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(None)
}

/// Makes `object` ask for what `live` has where that is an admin's choice.
///
/// A field that another manager has is left out. One that is Sublet's own must stay in with its value: a field that its
/// owner leaves out is removed, and a Service without a type is a ClusterIP.
fn keep_choices(object: &mut DynamicObject, live: &DynamicObject) {
    let kind = object.types.as_ref().map(|types| types.kind.clone());
    let chosen = CHOICES
        .iter()
        .filter(|(of, _)| kind.as_deref() == Some(*of));
    for (_, field) in chosen {
        let (Some(spec), Some(value)) = (
            object.data.get_mut("spec").and_then(Value::as_object_mut),
            live.data["spec"].get(*field),
        ) else {
            continue;
        };
        if !spec.contains_key(*field) {
            continue;
        }
        if is_own(live, field) {
            spec.insert((*field).to_owned(), value.clone());
        } else {
            spec.remove(*field);
        }
    }
}

/// What this program applied to an object, by its managed fields.
pub(super) fn own(live: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
    live.managed_fields.iter().flatten().filter(|entry| {
        entry.manager.as_deref() == Some(keys::FIELD_MANAGER)
            && entry.operation.as_deref() == Some("Apply")
    })
}

/// Whether this program applied the field of the spec.
fn is_own(live: &DynamicObject, field: &str) -> bool {
    own(&live.metadata).any(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| fields["f:spec"].get(format!("f:{field}")).is_some())
    })
}

fn keep_storage(class: &mut Value, live: &Value) {
    if let Some(storage) = live.pointer("/spec/etcdStorage") {
        class["spec"]["etcdStorage"] = storage.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(kind: &str, spec: &Value, own: &Value) -> DynamicObject {
        let fields = json!([
            {"manager": keys::FIELD_MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": own}},
            {"manager": "kubectl-patch", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:type": {}}}},
        ]);
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": kind, "metadata": {"name": "a", "managedFields": fields}, "spec": spec,
        }))
        .unwrap()
    }

    fn kept(kind: &str, asked: &Value, live: &Value, own: &Value) -> Value {
        let mut asked = object(kind, asked, &json!({}));
        keep_choices(&mut asked, &object(kind, live, own));
        asked.data["spec"].clone()
    }

    #[test]
    fn what_an_admin_chose_is_not_asked_for_again() {
        let asked = json!({"type": "NodePort", "selector": {"a": "b"}});
        let live = json!({"type": "LoadBalancer", "selector": {"a": "x"}});
        assert_eq!(
            kept("Service", &asked, &live, &json!({"f:selector": {}})),
            json!({"selector": {"a": "b"}})
        );
        let scaled = json!({"replicas": 5, "paused": true});
        assert_eq!(
            kept("Deployment", &json!({"replicas": 2}), &scaled, &json!({})),
            json!({})
        );
    }

    #[test]
    fn what_nobody_chose_stays_as_it_was_made() {
        let own = json!({"f:type": {}, "f:replicas": {}});
        let live = json!({"type": "NodePort", "replicas": 2});
        let newer = json!({"type": "LoadBalancer"});
        assert_eq!(
            kept("Service", &newer, &live, &own),
            json!({"type": "NodePort"})
        );
        assert_eq!(
            kept("Deployment", &json!({"replicas": 3}), &live, &own),
            json!({"replicas": 2})
        );
        // A type that isn't asked for isn't taken, and another kind's fields are Sublet's.
        assert_eq!(kept("Service", &json!({}), &live, &own), json!({}));
        assert_eq!(kept("ConfigMap", &newer, &live, &own), newer);
    }

    #[test]
    fn what_clusterctl_wrote_is_no_choice_of_an_admins() {
        let conflict = |managers: &[&str]| {
            let each = managers.iter().map(|manager| {
                let message = format!("conflict with \"{manager}\" using sublet.dev/v1alpha1");
                json!({"reason": "FieldManagerConflict", "message": message, "field": ".spec.versions"})
            });
            let causes: Vec<Value> = each.collect();
            serde_json::from_value(json!({"code": 409, "details": {"causes": causes}})).unwrap()
        };
        assert!(is_with_clusterctl(&conflict(&["clusterctl", "clusterctl"])));
        assert!(!is_with_clusterctl(&conflict(&[
            "clusterctl",
            "kubectl-edit"
        ])));
        assert!(!is_with_clusterctl(&conflict(&[
            "kubectl-edit",
            "clusterctl"
        ])));
        assert!(!is_with_clusterctl(&conflict(&[])));
    }

    #[test]
    fn limits_that_an_admin_set_stay_and_all_else_is_applied() {
        let conflict = |manager: &str, fields: &[&str]| {
            let each = fields.iter().map(|field| {
                let message = format!("conflict with \"{manager}\" using sublet.dev/v1alpha1");
                json!({"reason": "FieldManagerConflict", "message": message, "field": field})
            });
            let causes: Vec<Value> = each.collect();
            serde_json::from_value(json!({"code": 409, "details": {"causes": causes}})).unwrap()
        };
        let kept = limits_of_an_admin(&conflict(
            "kubectl-edit",
            &[
                ".spec.quota.services.nodeports",
                ".spec.controlPlane.resources.etcd.limits.memory",
            ],
        ));
        let mut spec = json!({
            "quota": {"services": "9", "services.nodeports": "50"}, "stored": {"secrets": "7"},
            "controlPlane": {"resources": {"etcd": {"limits": {"memory": "2Gi"}}}},
        });
        for path in &kept {
            leave_out(&mut spec, path);
        }
        let rest = json!({
            "quota": {"services": "9"}, "stored": {"secrets": "7"},
            "controlPlane": {"resources": {"etcd": {"limits": {}}}},
        });
        assert_eq!(spec, rest);

        let with_images = [
            ".spec.quota.pods",
            ".spec.versions[version=\"1.36.3\"].images.etcd",
        ];
        assert!(limits_of_an_admin(&conflict("kubectl-edit", &with_images)).is_empty());
        assert!(limits_of_an_admin(&conflict("clusterctl", &[".spec.quota.pods"])).is_empty());
        assert!(limits_of_an_admin(&conflict("kubectl-edit", &[])).is_empty());
    }

    #[test]
    fn a_later_run_keeps_the_registry() {
        let found = [
            "registry.example.com/mesh:1".to_owned(),
            "registry.example.com/sublet/sublet-syncer:0.0.9".to_owned(),
        ];
        let of = |image: &str| registry_of(image, &found);
        assert_eq!(
            of("sublet.dev/sublet-syncer:0.1.0").as_deref(),
            Some("registry.example.com/sublet")
        );
        assert_eq!(of("sublet.dev/sublet-manager:0.1.0"), None);
    }

    #[test]
    fn a_later_run_keeps_the_storage() {
        let mut class = json!({"spec": {"versions": []}});
        keep_storage(
            &mut class,
            &json!({"spec": {"etcdStorage": {"ephemeral": true}}}),
        );
        assert_eq!(
            class,
            json!({"spec": {"versions": [], "etcdStorage": {"ephemeral": true}}})
        );
        keep_storage(&mut class, &json!({"spec": {}}));
        assert_eq!(class["spec"]["etcdStorage"]["ephemeral"], true);
    }
}
