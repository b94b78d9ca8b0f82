//! The manifests that are built into the program, as objects in the order in which they are applied.

use crate::image;
use anyhow::{Context, Result};
use kube::api::DynamicObject;
use serde_json::{Value, json};

/// CustomResourceDefinitions.
const CRDS: &str = include_str!("../../manifests/crds.yaml");
/// Sublet's daemons with their rights.
const INSTALL: &str = include_str!("../../manifests/install.yaml");
/// The ControlPlaneClass that tenants get when they name none.
const CLASS: &str = include_str!("../../manifests/class.yaml");

/// CustomResourceDefinitions of the Cluster API provider.
const CLUSTER_API_CRDS: &str = include_str!("../../manifests/capi/crds.yaml");
/// The manager's rights as a Cluster API provider.
const CLUSTER_API_RIGHTS: &str = include_str!("../../manifests/capi/rights.yaml");

/// Name of the manager's Deployment.
pub(crate) const MANAGER: &str = "sublet-manager";
/// The variable that makes the manager a Cluster API provider. Its flags are left to the admin: a list of arguments has one
/// owner, and each variable one of its own.
const CLUSTER_API: &str = "SUBLET_CLUSTER_API";

/// The CustomResourceDefinitions.
pub(crate) fn crds() -> Result<Vec<DynamicObject>> {
    objects(CRDS).context("the built-in crds.yaml is broken")
}

/// Namespace, accounts, rights and daemons.
pub(crate) fn daemons() -> Result<Vec<DynamicObject>> {
    objects(INSTALL).context("the built-in install.yaml is broken")
}

/// The CustomResourceDefinitions of the Cluster API provider.
pub(crate) fn cluster_api_crds() -> Result<Vec<DynamicObject>> {
    objects(CLUSTER_API_CRDS).context("the built-in capi/crds.yaml is broken")
}

/// The manager's rights as a Cluster API provider.
pub(crate) fn cluster_api_rights() -> Result<Vec<DynamicObject>> {
    objects(CLUSTER_API_RIGHTS).context("the built-in capi/rights.yaml is broken")
}

/// Lets `clusterctl move` take VirtualControlPlanes along with the Clusters that they belong to.
pub(crate) fn with_move(crds: &mut [DynamicObject]) {
    let moved =
        |crd: &&mut DynamicObject| crd.data["spec"]["names"]["kind"] == "VirtualControlPlane";
    for crd in crds.iter_mut().filter(moved) {
        let labels = crd.metadata.labels.get_or_insert_default();
        labels.insert(api::capi::CLUSTERCTL.into(), String::new());
    }
}

/// Makes the manager among the daemons a Cluster API provider.
pub(crate) fn with_cluster_api(daemons: &mut [DynamicObject]) {
    let is_manager = |object: &&mut DynamicObject| {
        object.metadata.name.as_deref() == Some(MANAGER) && is_deployment(object)
    };
    for manager in daemons.iter_mut().filter(is_manager) {
        let env = &mut manager.data["spec"]["template"]["spec"]["containers"][0]["env"];
        if let Some(env) = env.as_array_mut() {
            env.push(json!({"name": CLUSTER_API, "value": "true"}));
        }
    }
}

/// Takes the daemons' images from another registry: each from where `registry` says, if it says so.
pub(crate) fn with_registry(
    daemons: &mut [DynamicObject],
    registry: impl Fn(&str) -> Option<String>,
) {
    for daemon in daemons.iter_mut().filter(|object| is_deployment(object)) {
        let containers = daemon
            .data
            .pointer_mut("/spec/template/spec/containers")
            .and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let image = container["image"].as_str().unwrap_or_default();
            if let Some(registry) = registry(image) {
                container["image"] = image::from(&registry, image).into();
            }
        }
    }
}

fn is_deployment(object: &DynamicObject) -> bool {
    let types = object.types.as_ref();
    types.is_some_and(|types| types.kind == "Deployment")
}

/// The default classes.
pub(crate) fn classes() -> Result<Vec<DynamicObject>> {
    objects(CLASS).context("the built-in class.yaml is broken")
}

/// Makes a class keep etcd on emptyDirs.
pub(crate) fn with_ephemeral_etcd(class: &mut DynamicObject) {
    class.data["spec"]["etcdStorage"] = json!({"ephemeral": true});
}

/// Names and images of the Deployments among `objects`.
pub(crate) fn deployments(objects: &[DynamicObject]) -> Vec<Daemon> {
    objects
        .iter()
        .filter(|object| is_deployment(object))
        .map(|object| Daemon {
            namespace: object
                .metadata
                .namespace
                .clone()
                .unwrap_or_else(|| api::SYSTEM_NAMESPACE.to_owned()),
            name: object.metadata.name.clone().unwrap_or_default(),
            images: images(&object.data),
        })
        .collect()
}

/// A Deployment of Sublet itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Daemon {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// Images of its containers.
    pub(crate) images: Vec<String>,
}

/// Images of a Deployment's containers.
pub(crate) fn images(deployment: &Value) -> Vec<String> {
    let containers = deployment
        .pointer("/spec/template/spec/containers")
        .and_then(Value::as_array);
    let image = |container: &Value| container["image"].as_str().map(str::to_owned);
    containers.into_iter().flatten().filter_map(image).collect()
}

/// All objects as one YAML text.
pub(crate) fn yaml(objects: &[DynamicObject]) -> Result<String> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&crate::output::yaml(&serde_json::to_value(object)?)?);
    }
    Ok(text)
}

fn objects(text: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|document| Ok(serde_json::from_value(document)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_manifests_are_objects() {
        assert_eq!(crds().unwrap().len(), api::crds().len());
        assert!(!classes().unwrap().is_empty());
        for object in [crds(), daemons(), classes()]
            .into_iter()
            .flat_map(Result::unwrap)
        {
            assert!(
                object.types.is_some() && object.metadata.name.is_some(),
                "{object:?}"
            );
        }
    }

    /// On a node that only seems to be gone it would write on beside the next one, while others of a kind stand side by side.
    #[test]
    fn all_daemons_but_the_manager_leave_a_node_that_seems_to_be_gone_after_half_a_minute() {
        let daemons = daemons().unwrap();
        let deployments = daemons.iter().filter(|object| is_deployment(object));
        let seconds = deployments.map(|daemon| {
            let pod = &daemon.data["spec"]["template"]["spec"];
            let tolerations = pod["tolerations"].as_array().into_iter().flatten();
            let seconds: Vec<Option<u64>> = tolerations
                .map(|toleration| toleration["tolerationSeconds"].as_u64())
                .collect();
            (daemon.metadata.name.as_deref() == Some(MANAGER), seconds)
        });
        let seconds: Vec<_> = seconds.collect();
        assert!(seconds.iter().any(|(is_manager, _)| *is_manager));
        for (is_manager, seconds) in seconds {
            let expected = if is_manager {
                vec![]
            } else {
                vec![Some(30); 2]
            };
            assert_eq!(seconds, expected);
        }
    }

    #[test]
    fn the_manager_alone_becomes_a_cluster_api_provider() {
        let before = daemons().unwrap();
        let mut after = before.clone();
        with_cluster_api(&mut after);
        let changed: Vec<_> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .collect();
        let [(_, manager)] = changed[..] else {
            panic!("{changed:?}");
        };
        let container = &manager.data["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["name"], "manager");
        let env = container["env"].as_array().unwrap();
        assert_eq!(
            env.last(),
            Some(&json!({"name": "SUBLET_CLUSTER_API", "value": "true"}))
        );
        assert!(env.len() > 1, "what was there stays");
        assert!(container.get("args").is_none(), "flags are the admin's");
        assert_eq!(cluster_api_crds().unwrap().len(), api::capi::crds().len());
        assert_eq!(cluster_api_rights().unwrap().len(), 2);
    }

    #[test]
    fn all_daemons_come_from_the_registry_that_is_named() {
        let mut all = daemons().unwrap();
        with_registry(&mut all, |_| Some("registry.example.com/sublet".into()));
        let images: Vec<_> = deployments(&all)
            .into_iter()
            .flat_map(|daemon| daemon.images)
            .collect();
        assert!(images.len() > 2);
        for image in images {
            assert!(
                image.starts_with("registry.example.com/sublet/sublet-"),
                "{image}"
            );
        }
        let before = daemons().unwrap();
        let mut after = before.clone();
        with_registry(&mut after, |_| None);
        assert_eq!(before, after);
    }

    #[test]
    fn the_base_for_kustomize_is_what_is_installed() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests"));
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        let base: Value = serde_saphyr::from_str(&read("kustomization.yaml")).unwrap();
        let files = base["resources"].as_array().unwrap();
        let named = files
            .iter()
            .map(|file| objects(&read(file.as_str().unwrap())));
        let named: Vec<_> = named.flat_map(Result::unwrap).collect();
        let installed = [crds(), daemons(), classes()];
        let installed: Vec<_> = installed.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(named, installed);
    }

    #[test]
    fn the_printed_manifests_read_back() {
        let all: Vec<_> = [crds(), daemons(), classes()]
            .into_iter()
            .flat_map(Result::unwrap)
            .collect();
        assert_eq!(objects(&yaml(&all).unwrap()).unwrap(), all);
    }

    #[test]
    fn the_default_class_can_keep_etcd_on_an_empty_dir() {
        let mut class = classes().unwrap().remove(0);
        with_ephemeral_etcd(&mut class);
        let class: api::ControlPlaneClass =
            serde_json::from_value(serde_json::to_value(class).unwrap()).unwrap();
        assert!(class.spec.etcd_storage.ephemeral);
        assert!(class.spec.etcd_storage.storage_class_name.is_none());
    }
}
