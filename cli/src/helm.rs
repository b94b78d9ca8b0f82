//! Whether Helm installed Sublet: what a release made is Helm's to change and to remove.

use crate::{error, manifest};
use anyhow::Result;
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client};

/// Annotations by which Helm knows its own: the release, and its namespace.
const RELEASE: [&str; 2] = [
    "meta.helm.sh/release-name",
    "meta.helm.sh/release-namespace",
];

/// Fails, with what to type instead, if a daemon is of a release. What Helm leaves when it uninstalls is nobody's.
pub(crate) async fn refuse(client: &Client, asked: Asked) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), api::SYSTEM_NAMESPACE);
    let manager = api.get_metadata_opt(manifest::MANAGER).await?;
    match manager.and_then(|manager| release(&manager.metadata)) {
        Some((name, namespace)) => Err(error::fail(instead(asked, &name, &namespace))),
        None => Ok(()),
    }
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// `sublet install`
    Install,
    /// `sublet uninstall`
    Uninstall,
}

fn release(object: &ObjectMeta) -> Option<(String, String)> {
    let annotations = object.annotations.as_ref()?;
    let [name, namespace] = RELEASE.map(|key| annotations.get(key).cloned());
    Some((name?, namespace?))
}

fn instead(asked: Asked, name: &str, namespace: &str) -> String {
    let what = match asked {
        Asked::Install => format!(
            "change it with `helm upgrade {name} CHART -n {namespace}`; to go on without Helm, `helm uninstall {name} -n \
             {namespace}` first, which leaves all tenants"
        ),
        Asked::Uninstall => format!(
            "delete the tenants, then `helm uninstall {name} -n {namespace}`, and run this again: it removes what Helm leaves"
        ),
    };
    format!("Sublet was installed here by Helm, as the release {namespace}/{name}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_release_is_known_by_its_annotations() {
        let of = |annotations| {
            let object = json!({"name": "sublet-manager", "annotations": annotations});
            release(&serde_json::from_value(object).unwrap())
        };
        let both = json!({RELEASE[0]: "mine", RELEASE[1]: "tools"});
        assert_eq!(of(both), Some(("mine".into(), "tools".into())));
        assert_eq!(of(json!({RELEASE[0]: "mine"})), None);
        assert_eq!(of(json!({})), None);
        assert_eq!(release(&ObjectMeta::default()), None);
    }

    #[test]
    fn what_to_type_instead_is_told() {
        let told = instead(Asked::Install, "mine", "tools");
        assert!(
            told.contains("release tools/mine: change it with `helm upgrade mine CHART -n tools`"),
            "{told}"
        );
        let told = instead(Asked::Uninstall, "mine", "tools");
        assert!(
            told.contains("`helm uninstall mine -n tools`, and run this again"),
            "{told}"
        );
    }
}
