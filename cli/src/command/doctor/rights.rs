//! Whether the person may do what the commands do, as the cluster itself says.

use super::Check;
use crate::cluster::Cluster;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};

/// A right and the commands that need it.
struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    everywhere: bool,
    needed_for: &'static str,
}

const fn right(
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    everywhere: bool,
    needed_for: &'static str,
) -> Right {
    Right {
        verb,
        group,
        resource,
        everywhere,
        needed_for,
    }
}

const RIGHTS: &[Right] = &[
    right("list", api::GROUP, "virtualcontrolplanes", false, "list"),
    right(
        "watch",
        api::GROUP,
        "virtualcontrolplanes",
        false,
        "create --wait",
    ),
    right(
        "create",
        api::GROUP,
        "virtualcontrolplanes",
        false,
        "create",
    ),
    right(
        "delete",
        api::GROUP,
        "virtualcontrolplanes",
        false,
        "delete",
    ),
    right("get", "", "secrets", false, "kubeconfig and connect"),
    right(
        "list",
        api::GROUP,
        "virtualcontrolplanes",
        true,
        "list -A and whose",
    ),
    right("list", api::GROUP, "controlplaneclasses", true, "class"),
    right("list", "", "namespaces", true, "describe"),
    right("list", "", "pods", true, "describe and explain"),
    right("list", "", "events", true, "events and explain"),
    right(
        "create",
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        true,
        "install",
    ),
];

/// Asks for every right at once.
pub(super) async fn check(cluster: &Cluster) -> Result<Vec<Check>, (&'static str, kube::Error)> {
    let asked =
        futures::future::try_join_all(RIGHTS.iter().map(|right| is_allowed(cluster, right)));
    let allowed = asked.await.map_err(|err| ("rights", err))?;
    let missing: Vec<String> = RIGHTS
        .iter()
        .zip(allowed)
        .filter(|(_, allowed)| !allowed)
        .map(|(right, _)| words(right, &cluster.namespace))
        .collect();
    if missing.is_empty() {
        return Ok(vec![Check::ok(
            "rights",
            "you may do all that the commands do",
        )]);
    }
    let advice = "ask an admin of the cluster, or check --context";
    Ok(missing
        .into_iter()
        .map(|text| Check::warn("rights", text, advice))
        .collect())
}

async fn is_allowed(cluster: &Cluster, right: &Right) -> Result<bool, kube::Error> {
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(right.verb.to_owned()),
                group: Some(right.group.to_owned()),
                resource: Some(right.resource.to_owned()),
                namespace: if right.everywhere {
                    None
                } else {
                    Some(cluster.namespace.clone())
                },
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn words(right: &Right, namespace: &str) -> String {
    let resource = if right.group.is_empty() {
        right.resource.to_owned()
    } else {
        format!("{}.{}", right.resource, right.group)
    };
    let place = if right.everywhere {
        "in the whole cluster".to_owned()
    } else {
        format!("in namespace {namespace}")
    };
    format!(
        "you may not {} {resource} {place}, which `{}` needs",
        right.verb, right.needed_for
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_names_the_command() {
        assert_eq!(
            words(&RIGHTS[2], "default"),
            "you may not create virtualcontrolplanes.sublet.dev in namespace default, which `create` needs"
        );
        assert!(words(&RIGHTS[8], "x").starts_with("you may not list pods in the whole cluster"));
    }
}
