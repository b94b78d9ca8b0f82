//! Server-side apply of the built-in objects.

use crate::{discovery::Kinds, error, progress::Progress};
use anyhow::Result;
use api::{ControlPlaneClass, keys};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::ApiResource,
};
use serde_json::Value;
use std::time::Duration;

/// Applies objects of kinds that the cluster serves, in their order. They are Sublet's own: its fields win.
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
        api.patch(&object.name_any(), &params, &Patch::Apply(object))
            .await?;
    }
    Ok(())
}

/// Whether the Cluster API provider's kinds are there from an earlier run.
pub(super) async fn serves_cluster_api(client: &Client) -> Result<bool> {
    let kinds = Kinds::load(client).await?;
    let api_version = format!("{}/{}", api::capi::CONTROL_PLANE_GROUP, api::VERSION);
    Ok(kinds.exact(&api_version, "SubletControlPlane").is_some())
}

/// Applies a class without taking fields that an admin has changed.
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
    match api.patch(&name, &params, &Patch::Apply(&class)).await {
        Ok(_) => Ok(()),
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

fn keep_storage(class: &mut Value, live: &Value) {
    if let Some(storage) = live.pointer("/spec/etcdStorage") {
        class["spec"]["etcdStorage"] = storage.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
