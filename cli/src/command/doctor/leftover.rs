//! Whether namespaces are left of tenants that are gone.

use super::{Check, checks::Outcome};
use crate::{cluster::Cluster, paging, tenant};
use api::{VirtualControlPlane, keys};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, api::ListParams};
use std::collections::{BTreeMap, BTreeSet};

const SUBJECT: &str = "leftovers";

/// Looks for super namespaces of identities that no VirtualControlPlane has.
pub(super) async fn check(cluster: &Cluster) -> Outcome {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let theirs = ListParams::default().labels(&format!("{},{}=true", keys::TENANT, keys::MANAGED));
    let failed = |err| (SUBJECT, err);
    let namespaces = paging::metadata(&api, &theirs).await.map_err(failed)?;
    // Those that came meanwhile have theirs.
    let tenants = tenant::all(cluster).await.map_err(failed)?;
    let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for namespace in namespaces {
        if let Some(identity) = namespace.labels().get(keys::TENANT) {
            of.entry(identity.clone())
                .or_default()
                .push(namespace.name_any());
        }
    }
    let remove = |identity: &str| tenant::remove_namespaces(cluster, identity);
    Ok(judge(&of, &tenants, remove))
}

fn judge(
    namespaces: &BTreeMap<String, Vec<String>>,
    tenants: &[VirtualControlPlane],
    remove: impl Fn(&str) -> String,
) -> Vec<Check> {
    let known: BTreeSet<&str> = tenants
        .iter()
        .filter_map(|vcp| vcp.spec.identity.as_deref())
        .collect();
    let left = namespaces
        .iter()
        .filter(|(identity, _)| !known.contains(identity.as_str()));
    left.map(|(identity, names)| {
        let text = match names.as_slice() {
            [name] => format!("the namespace {name} is of the tenant {identity}, which is gone"),
            names => format!(
                "{} namespaces are of the tenant {identity}, which is gone: {}{}",
                names.len(),
                names[..names.len().min(3)].join(", "),
                if names.len() > 3 { ", …" } else { "" },
            ),
        };
        let advice = format!(
            "unless its VirtualControlPlane comes back, run `{}`",
            remove(identity)
        );
        Check::warn(SUBJECT, text, advice)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn namespaces_of_nobody_are_named_with_what_removes_them() {
        let vcp = json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a"}, "spec": {"identity": "one"},
        });
        let tenants = [serde_json::from_value(vcp).unwrap()];
        let names = |count: usize| (0..count).map(|number| format!("n{number}")).collect();
        let namespaces = BTreeMap::from([
            ("one".to_owned(), names(2)),
            ("three".to_owned(), names(1)),
            ("two".to_owned(), names(4)),
        ]);
        let checks = judge(&namespaces, &tenants, |identity| {
            format!("remove {identity}")
        });
        let told: Vec<(&str, &str)> = checks
            .iter()
            .map(|check| (check.text.as_str(), check.advice.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "the namespace n0 is of the tenant three, which is gone",
                    "unless its VirtualControlPlane comes back, run `remove three`"
                ),
                (
                    "4 namespaces are of the tenant two, which is gone: n0, n1, n2, …",
                    "unless its VirtualControlPlane comes back, run `remove two`"
                ),
            ]
        );
    }
}
