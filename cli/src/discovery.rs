//! Kinds as people type them, looked up in what an API server serves: two requests, then none.

use crate::{error, name};
use anyhow::Result;
use kube::{
    Api, Client,
    api::DynamicObject,
    core::discovery::v2::{APIGroupDiscoveryList, APIResourceDiscovery},
    discovery::ApiResource,
};

/// A kind that an API server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Group, version, kind and plural.
    pub(crate) resource: ApiResource,
    /// Whether its objects have a namespace.
    pub(crate) namespaced: bool,
    /// Singular and short names.
    names: Vec<String>,
}

/// All kinds of an API server, the core group first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds(Vec<Kind>);

impl Kinds {
    /// Asks the API server.
    pub(crate) async fn load(client: &Client) -> Result<Self, kube::Error> {
        let core = client.list_core_api_versions_aggregated().await?;
        let groups = client.list_api_groups_aggregated().await?;
        Ok(Self([core, groups].into_iter().flat_map(kinds).collect()))
    }

    /// The kind that `word` means: `pod`, `pods`, `po`, `Pod`, `deploy.apps` or `deployments.v1.apps`.
    pub(crate) fn find(&self, word: &str) -> Result<&Kind> {
        let lower = word.to_ascii_lowercase();
        self.0
            .iter()
            .find(|kind| kind.answers_to(&lower))
            .ok_or_else(|| {
                let known = self.0.iter().map(|kind| kind.resource.plural.as_str());
                let close = name::close(&lower, known);
                let hint = if close.is_empty() {
                    "kubectl api-resources lists all".to_owned()
                } else {
                    format!("did you mean {}?", close.join(", "))
                };
                error::usage(format!("the API server knows no kind {word:?}: {hint}"))
            })
    }

    /// The kind with this `apiVersion` and `kind`.
    pub(crate) fn exact(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        self.0
            .iter()
            .find(|known| known.resource.api_version == api_version && known.resource.kind == kind)
    }
}

impl Kind {
    /// Its objects in a namespace, or all of them for a cluster-scoped kind.
    pub(crate) fn api(&self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) if self.namespaced => {
                Api::namespaced_with(client.clone(), namespace, &self.resource)
            }
            _ => Api::all_with(client.clone(), &self.resource),
        }
    }

    fn answers_to(&self, word: &str) -> bool {
        let ApiResource {
            group,
            version,
            plural,
            ..
        } = &self.resource;
        self.names.iter().chain([plural]).any(|name| {
            word.strip_prefix(name.as_str()).is_some_and(|rest| {
                rest.is_empty()
                    || rest.strip_prefix('.').is_some_and(|rest| {
                        !group.is_empty() && rest == group
                            || rest.trim_end_matches('.') == qualified(version, group)
                    })
            })
        })
    }
}

fn qualified(version: &str, group: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{version}.{group}")
    }
}

/// The kinds of the preferred version of each group, then those that only other versions have.
fn kinds(list: APIGroupDiscoveryList) -> Vec<Kind> {
    let mut found = vec![];
    for group in list.items {
        let name = group
            .metadata
            .and_then(|metadata| metadata.name)
            .unwrap_or_default();
        for version in group.versions {
            let number = version.version.unwrap_or_default();
            found.extend(
                version
                    .resources
                    .into_iter()
                    .map(|resource| kind(&name, &number, resource)),
            );
        }
    }
    found
}

fn kind(group: &str, version: &str, resource: APIResourceDiscovery) -> Kind {
    let kind = resource
        .response_kind
        .and_then(|gvk| gvk.kind)
        .unwrap_or_default();
    let mut names = resource.short_names;
    names.extend(resource.singular_resource.filter(|name| !name.is_empty()));
    names.push(kind.to_ascii_lowercase());
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Kind {
        resource: ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind,
            plural: resource.resource.unwrap_or_default(),
        },
        namespaced: resource.scope.as_deref() == Some("Namespaced"),
        names,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn sample() -> Kinds {
        let resource = |plural: &str, kind: &str, scope: &str, short: &[&str]| {
            json!({"resource": plural, "responseKind": {"kind": kind}, "scope": scope, "singularResource": kind.to_lowercase(),
                   "shortNames": short, "verbs": ["get"]})
        };
        let core = json!({"items": [{"versions": [{"version": "v1", "resources": [
            resource("pods", "Pod", "Namespaced", &["po"]),
            resource("namespaces", "Namespace", "Cluster", &["ns"]),
            resource("events", "Event", "Namespaced", &["ev"]),
        ]}]}]});
        let groups = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                resource("deployments", "Deployment", "Namespaced", &["deploy"])]}]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [
                resource("events", "Event", "Namespaced", &["ev"])]}]},
        ]});
        let parse = |value| kinds(serde_json::from_value(value).unwrap());
        Kinds(parse(core).into_iter().chain(parse(groups)).collect())
    }

    #[test]
    fn a_kind_answers_to_all_its_names() {
        let kinds = sample();
        for word in ["pod", "pods", "po", "Pod", "PODS", "pods.v1", "pods.v1."] {
            assert_eq!(kinds.find(word).unwrap().resource.kind, "Pod", "{word}");
        }
        for word in [
            "deploy",
            "deployments.apps",
            "deploy.apps",
            "deployment.v1.apps",
        ] {
            assert_eq!(
                kinds.find(word).unwrap().resource.kind,
                "Deployment",
                "{word}"
            );
        }
        assert_eq!(kinds.find("ev").unwrap().resource.group, "");
        assert_eq!(
            kinds.find("events.events.k8s.io").unwrap().resource.group,
            "events.k8s.io"
        );
        assert!(!kinds.find("ns").unwrap().namespaced);
        assert!(kinds.exact("apps/v1", "Deployment").is_some());
    }

    #[test]
    fn an_unknown_kind_gets_a_suggestion() {
        let said = |word: &str| sample().find(word).unwrap_err().to_string();
        assert!(
            said("podz").contains("did you mean pods?"),
            "{}",
            said("podz")
        );
        assert!(said("widgets").contains("kubectl api-resources"));
        assert!(sample().find("pods.apps").is_err());
    }
}
