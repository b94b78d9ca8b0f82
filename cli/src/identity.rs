//! Identities in the place of names: alerts, metrics and logs name a tenant by its identity, which says nothing of its namespace.

use crate::{cluster::Cluster, error, tenant};
use anyhow::Result;
use api::VirtualControlPlane;
use kube::ResourceExt;
use std::collections::BTreeSet;
use tenancy::tenant::TenantId;

/// Replaces each of `names` that is no name in the cluster's namespace, but some tenant's identity, by that tenant's name, and
/// goes over to its namespace.
///
/// What isn't found stays as it is typed, for the command to say so.
///
/// # Errors
///
/// The names are of several namespaces, or several tenants have one identity.
pub(crate) async fn resolve(cluster: &mut Cluster, names: Vec<&mut String>) -> Result<()> {
    let mut missing = vec![];
    for name in names.iter().filter(|name| is_one(name)) {
        // A tenant may be called like that.
        if tenant::api(cluster).get_metadata_opt(name).await?.is_none() {
            missing.push(name.as_str().to_owned());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    // Who may not list everything still finds those of the own namespace.
    let known = match tenant::all(cluster).await {
        Ok(known) => known,
        Err(err) if error::is_forbidden(&err) => tenant::of_namespace(cluster).await?,
        Err(err) => return Err(err.into()),
    };
    let typed: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    let known: Vec<Known> = known.iter().filter_map(Known::of).collect();
    let (namespace, found) = decide(&cluster.namespace, &typed, &missing, &known)
        .map_err(|why| error::usage(format!("{why}; use names, and -n NAMESPACE")))?;
    for (name, found) in names.into_iter().zip(found) {
        *name = found;
    }
    if namespace != cluster.namespace {
        cluster.namespace.clone_from(&namespace);
        // What is to be typed next is of that namespace, too.
        cluster.global.namespace = Some(namespace);
    }
    Ok(())
}

/// Whether it can be an identity.
pub(crate) fn is_one(name: &str) -> bool {
    TenantId::parse(name).is_ok()
}

/// A tenant as it may be named.
struct Known {
    identity: String,
    namespace: String,
    name: String,
}

impl Known {
    fn of(vcp: &VirtualControlPlane) -> Option<Self> {
        Some(Self {
            identity: vcp.spec.identity.clone()?,
            namespace: vcp.namespace()?,
            name: vcp.name_any(),
        })
    }
}

/// The namespace of all that is named, and the names in it. Those that are `missing` are looked up as identities.
fn decide(
    namespace: &str,
    names: &[&str],
    missing: &[String],
    known: &[Known],
) -> Result<(String, Vec<String>), String> {
    let mut namespaces = BTreeSet::new();
    let mut found = vec![];
    for name in names {
        let is_missing = missing.iter().any(|missing| missing == name);
        let have = known
            .iter()
            .filter(|known| is_missing && known.identity == **name);
        let place = match have.collect::<Vec<_>>()[..] {
            [] => (namespace, *name),
            [one] => (one.namespace.as_str(), one.name.as_str()),
            [one, other, ..] => {
                return Err(format!(
                    "{}/{} and {}/{} have the same identity {name}",
                    one.namespace, one.name, other.namespace, other.name
                ));
            }
        };
        namespaces.insert(place.0);
        found.push(place.1.to_owned());
    }
    let namespaces: Vec<&str> = namespaces.into_iter().collect();
    match namespaces[..] {
        [one] => Ok((one.to_owned(), found)),
        _ => Err(format!(
            "what is named is in several namespaces: {}",
            namespaces.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ALPHA: &str = "5hw2krqcv3ylhmfzqyvrq4wgpu";
    const BETA: &str = "abcdefghijklmnopqrstuvwxyz";

    fn known() -> Vec<Known> {
        let known = |identity: &str, namespace: &str, name: &str| Known {
            identity: identity.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        vec![
            known(ALPHA, "customers", "alpha"),
            known(BETA, "default", "beta"),
            known("twotwotwotwotwotwotwotwotw", "customers", "one"),
            known("twotwotwotwotwotwotwotwotw", "default", "two"),
        ]
    }

    fn decided(names: &[&str]) -> Result<(String, Vec<String>), String> {
        let missing: Vec<String> = names
            .iter()
            .filter(|name| is_one(name))
            .map(|name| (*name).to_owned())
            .collect();
        decide("default", names, &missing, &known())
    }

    #[test]
    fn an_identity_stands_for_a_name_and_its_namespace() {
        let found = |namespace: &str, name: &str| Ok((namespace.to_owned(), vec![name.to_owned()]));
        assert_eq!(decided(&[ALPHA]), found("customers", "alpha"));
        assert_eq!(decided(&[BETA]), found("default", "beta"));
        let nobodys = "zzzzzzzzzzzzzzzzzzzzzzzzzz";
        assert_eq!(decided(&[nobodys]), found("default", nobodys));
        let both = Ok((
            "default".to_owned(),
            vec!["team".to_owned(), "beta".to_owned()],
        ));
        assert_eq!(decided(&["team", BETA]), both);
    }

    #[test]
    fn what_can_mean_several_is_refused() {
        let apart = "what is named is in several namespaces: customers, default";
        assert_eq!(decided(&[ALPHA, BETA]), Err(apart.into()));
        assert_eq!(decided(&["team", ALPHA]), Err(apart.into()));
        let same = decided(&["twotwotwotwotwotwotwotwotw"]).unwrap_err();
        assert!(
            same.starts_with("customers/one and default/two have"),
            "{same}"
        );
    }

    #[test]
    fn a_tenant_that_is_called_like_an_identity_is_meant_first() {
        let is_there = decide("default", &[ALPHA], &[], &known());
        assert_eq!(is_there, Ok(("default".into(), vec![ALPHA.into()])));
    }

    #[tokio::test]
    async fn the_command_goes_on_in_the_namespace_of_the_tenant() {
        let mut cluster = crate::cluster::fake::answering(|path| {
            let vcp = json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": "alpha", "namespace": "customers"}, "spec": {"identity": ALPHA},
            });
            path.ends_with("/v1alpha1/virtualcontrolplanes").then(|| {
                json!({"apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlaneList", "metadata": {}, "items": [vcp]})
            })
        });
        let mut name = ALPHA.to_owned();
        resolve(&mut cluster, vec![&mut name]).await.unwrap();
        assert_eq!(
            (name.as_str(), cluster.namespace.as_str()),
            ("alpha", "customers")
        );
        assert_eq!(
            cluster.hint("describe alpha"),
            "sublet describe alpha -n customers"
        );
    }
}
