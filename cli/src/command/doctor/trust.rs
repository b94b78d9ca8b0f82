//! Whether whoever is trusted with the nodes is a tenant that there is.

use super::{Check, checks::Outcome};
use crate::{cluster::Cluster, tenant};
use api::{SYSTEM_NAMESPACE, TRUSTED_TENANTS, VirtualControlPlane};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt};
use std::collections::BTreeMap;

const SUBJECT: &str = "trust";

/// Looks for trusted identities that no VirtualControlPlane has, or another one than the admin meant.
pub(super) async fn check(cluster: &Cluster) -> Outcome {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let trusted = maps
        .get_opt(TRUSTED_TENANTS)
        .await
        .map_err(|err| (SUBJECT, err))?;
    let trusted = trusted.and_then(|map| map.data).unwrap_or_default();
    if trusted.is_empty() {
        return Ok(vec![]);
    }
    let tenants = tenant::all(cluster).await.map_err(|err| (SUBJECT, err))?;
    let take_away = |identity: &str| {
        let patch = format!("'{{\"data\": {{\"{identity}\": null}}}}'");
        cluster.kubectl(
            SYSTEM_NAMESPACE,
            &format!("patch configmap {TRUSTED_TENANTS} --type merge -p {patch}"),
        )
    };
    Ok(judge(&trusted, &tenants, take_away))
}

fn judge(
    trusted: &BTreeMap<String, String>,
    tenants: &[VirtualControlPlane],
    take_away: impl Fn(&str) -> String,
) -> Vec<Check> {
    let all = trusted.iter().filter_map(|(identity, meant)| {
        let has_it = |vcp: &&VirtualControlPlane| vcp.spec.identity.as_ref() == Some(identity);
        let holders = tenants.iter().filter(has_it);
        let holders: Vec<String> = holders
            .map(|vcp| format!("{}/{}", vcp.namespace().unwrap_or_default(), vcp.name_any()))
            .collect();
        let text = match holders.as_slice() {
            [] => format!(
                "the identity {identity} ({meant}) is trusted and no VirtualControlPlane has it: one that takes it up under that \
                 name is trusted with the nodes"
            ),
            holders if holders.contains(meant) => return None,
            holders => format!(
                "the identity {identity} is trusted for {meant}, and {} has it, which isn't trusted",
                holders.join(" and ")
            ),
        };
        let advice = format!("unless that is meant, run `{}`", take_away(identity));
        Some(Check::warn(SUBJECT, text, advice))
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::VirtualControlPlaneSpec;

    #[test]
    fn a_trusted_identity_that_nobody_has_is_told_with_how_to_take_it_away() {
        let tenant = |name: &str, identity: &str| {
            let mut vcp = VirtualControlPlane::new(
                name,
                VirtualControlPlaneSpec {
                    identity: Some(identity.into()),
                    ..VirtualControlPlaneSpec::default()
                },
            );
            vcp.metadata.namespace = Some("n".into());
            vcp
        };
        let trusted = [("one", "n/a"), ("two", "n/gone"), ("three", "n/c")];
        let trusted = trusted.map(|(id, meant)| (id.to_owned(), meant.to_owned()));
        let tenants = [tenant("a", "one"), tenant("other", "three")];
        let told = judge(&trusted.into(), &tenants, |id| format!("untrust {id}"));
        let texts: Vec<&str> = told.iter().map(|check| check.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "the identity three is trusted for n/c, and n/other has it, which isn't trusted",
                "the identity two (n/gone) is trusted and no VirtualControlPlane has it: one that takes it up under that name is \
                 trusted with the nodes",
            ]
        );
        assert_eq!(told[1].advice, "unless that is meant, run `untrust two`");
    }
}
