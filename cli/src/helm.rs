//! Whether Helm installed Sublet: what a release made is Helm's to change and to remove.

use crate::{args::Global, cluster::Cluster, error, manifest, shell};
use anyhow::Result;
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client};

/// Annotations by which Helm knows its own: the release, and its namespace.
const RELEASE: [&str; 2] = [
    "meta.helm.sh/release-name",
    "meta.helm.sh/release-namespace",
];

/// Brings definitions to a version, which no release does.
const DEFINITIONS: &str = "apply --server-side --force-conflicts -f CHART/crds";

/// What Helm calls what it installed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Release {
    name: String,
    namespace: String,
}

/// The release that the manager is of. What Helm leaves when it uninstalls is nobody's.
async fn release(client: &Client) -> Result<Option<Release>, kube::Error> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), api::SYSTEM_NAMESPACE);
    let manager = api.get_metadata_opt(manifest::MANAGER).await?;
    Ok(manager.and_then(|manager| release_of(&manager.metadata)))
}

/// Fails, with what to type instead, if a daemon is of a release.
pub(crate) async fn refuse(cluster: &Cluster, asked: Asked) -> Result<()> {
    match release(&cluster.client).await? {
        Some(release) => Err(error::fail(instead(asked, &release, cluster))),
        None => Ok(()),
    }
}

/// Command lines that put in what is missing of Sublet or is of another version: those of whoever put in the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    /// All but definitions.
    pub(crate) install: String,
    pub(crate) definitions: String,
    /// Images from another registry.
    pub(crate) registry: String,
    /// Tenants' etcds without volumes.
    pub(crate) ephemeral_etcd: String,
}

impl Lines {
    /// Asks who that is.
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        match release(&cluster.client).await {
            Ok(Some(release)) => Self::of_helm(cluster, &release),
            // Whoever may not ask is told so by what asks for the same.
            Ok(None) | Err(_) => Self::own(cluster),
        }
    }

    /// Of this program.
    pub(crate) fn own(cluster: &Cluster) -> Self {
        let line = |rest: &str| cluster.hint_anywhere(rest);
        Self {
            install: line("install"),
            definitions: line("install"),
            registry: line("install --registry HOST"),
            ephemeral_etcd: line("install --ephemeral-etcd"),
        }
    }

    fn of_helm(cluster: &Cluster, Release { name, namespace }: &Release) -> Self {
        let install = format!(
            "helm upgrade {name} CHART -n {namespace}{} --reset-then-reuse-values",
            flags(&cluster.global)
        );
        Self {
            definitions: cluster.kubectl_anywhere(DEFINITIONS),
            registry: format!("{install} --set image.registry=HOST"),
            ephemeral_etcd: format!("{install} --set class.spec.etcdStorage.ephemeral=true"),
            install,
        }
    }
}

/// Helm's flags that lead to the same API server as the same user, as far as it has any.
fn flags(global: &Global) -> String {
    let file = global.kubeconfig.as_ref();
    let file = file.map(|file| file.display().to_string());
    let flags = [
        ("kubeconfig", file.as_ref()),
        ("kube-context", global.context.as_ref()),
        ("kube-as-user", global.as_user.as_ref()),
    ];
    let groups = global
        .as_group
        .iter()
        .map(|group| ("kube-as-group", Some(group)));
    flags
        .into_iter()
        .chain(groups)
        .filter_map(|(flag, value)| Some(format!(" --{flag} {}", shell::quoted(value?))))
        .collect()
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// `sublet install`
    Install,
    /// `sublet uninstall`
    Uninstall,
}

fn release_of(object: &ObjectMeta) -> Option<Release> {
    let annotations = object.annotations.as_ref()?;
    let [name, namespace] = RELEASE.map(|key| annotations.get(key).cloned());
    Some(Release {
        name: name?,
        namespace: namespace?,
    })
}

fn instead(asked: Asked, Release { name, namespace }: &Release, cluster: &Cluster) -> String {
    let what = match asked {
        Asked::Install => format!(
            "change it with `helm upgrade {name} CHART -n {namespace}`, after `{definitions}` if that is another version; \
             to go on without Helm, `helm uninstall {name} -n {namespace}` first, which leaves all tenants",
            definitions = cluster.kubectl_anywhere(DEFINITIONS)
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
    use crate::cluster::fake::answering;
    use serde_json::{Value, json};

    fn mine() -> Release {
        Release {
            name: "mine".into(),
            namespace: "tools".into(),
        }
    }

    fn annotations() -> Value {
        json!({RELEASE[0]: "mine", RELEASE[1]: "tools"})
    }

    #[test]
    fn a_release_is_known_by_its_annotations() {
        let of = |annotations| {
            let object = json!({"name": "sublet-manager", "annotations": annotations});
            release_of(&serde_json::from_value(object).unwrap())
        };
        assert_eq!(of(annotations()), Some(mine()));
        assert_eq!(of(json!({RELEASE[0]: "mine"})), None);
        assert_eq!(of(json!({})), None);
        assert_eq!(release_of(&ObjectMeta::default()), None);
    }

    #[tokio::test]
    async fn what_to_type_instead_is_told() {
        let cluster = answering(|_| None);
        let told = instead(Asked::Install, &mine(), &cluster);
        assert!(
            told.contains("release tools/mine: change it with `helm upgrade mine CHART -n tools`"),
            "{told}"
        );
        // An upgrade alone changes no definitions, and `doctor` would say the same again.
        assert!(told.contains("-f CHART/crds`"), "{told}");
        let told = instead(Asked::Uninstall, &mine(), &cluster);
        assert!(
            told.contains("`helm uninstall mine -n tools`, and run this again"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn lines_are_of_whoever_put_it_in() {
        let own = answering(|_| None);
        let lines = Lines::of(&own).await;
        assert_eq!(lines, Lines::own(&own));
        assert_eq!(lines.definitions, "sublet install");

        let mut by_helm = answering(|path| {
            let metadata = json!({"name": manifest::MANAGER, "annotations": annotations()});
            path.ends_with(manifest::MANAGER).then(|| {
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
            })
        });
        by_helm.global.context = Some("c".into());
        let lines = Lines::of(&by_helm).await;
        assert_eq!(
            lines.install,
            "helm upgrade mine CHART -n tools --kube-context c --reset-then-reuse-values"
        );
        assert_eq!(
            lines.definitions,
            "kubectl --context c apply --server-side --force-conflicts -f CHART/crds"
        );
        assert!(lines.registry.ends_with("--set image.registry=HOST"));
    }
}
