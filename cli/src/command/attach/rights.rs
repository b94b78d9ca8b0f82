//! Whether a kubeconfig may do in the tenant what the syncer does there, as the tenant's API server itself says.
//!
//! Of kinds that an API server may lack nothing is asked: they may come later, and who has all else has them too.

use crate::error;
use anyhow::Result;
use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use tenancy::kind::KINDS;

/// Rights that are asked for at once.
const AT_ONCE: usize = 8;
/// More than these nobody reads.
const MOST_NAMED: usize = 8;

/// A right in the whole tenant, or in one namespace if one is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    namespace: &'static str,
}

/// A right in the core group.
const fn right(verb: &'static str, resource: &'static str, subresource: &'static str) -> Right {
    Right {
        verb,
        group: "",
        resource,
        subresource,
        namespace: "",
    }
}

/// The mark by which a tenant that was restored is known.
const fn mark(verb: &'static str) -> Right {
    Right {
        namespace: "kube-system",
        ..right(verb, "configmaps", "")
    }
}

/// What is written, but for the objects that are published.
const WRITES: [Right; 11] = [
    right("create", "pods", "binding"),
    right("patch", "pods", "status"),
    right("delete", "pods", ""),
    right("create", "serviceaccounts", "token"),
    right("patch", "services", ""),
    right("patch", "services", "status"),
    right("patch", "persistentvolumeclaims", "status"),
    right("patch", "nodes", "status"),
    right("patch", "events", ""),
    mark("create"),
    mark("patch"),
];

/// Fails if the kubeconfig lacks a right. Where nobody can tell, the syncer will find out.
pub(super) async fn check(theirs: &Client) -> Result<()> {
    let needed = needed();
    match ask(theirs, &needed).await {
        Ok(allowed) => judge(&needed, &allowed),
        Err(err) => {
            let why = error::reason(&err);
            tell!("whether the kubeconfig has the rights that are needed can't be asked: {why}");
            Ok(())
        }
    }
}

fn needed() -> Vec<Right> {
    let mut needed = vec![];
    for kind in KINDS.iter().filter(|kind| !kind.is_optional()) {
        let resource = kind.resource();
        let list = Right {
            group: resource.group,
            ..right("list", resource.plural, "")
        };
        needed.push(list);
        if !kind.goes_down() {
            needed.push(Right {
                verb: "create",
                ..list
            });
        }
    }
    needed.extend(WRITES);
    needed
}

async fn ask(theirs: &Client, needed: &[Right]) -> Result<Vec<bool>, kube::Error> {
    let mut allowed = vec![];
    for some in needed.chunks(AT_ONCE) {
        allowed.extend(try_join_all(some.iter().map(|right| is_allowed(theirs, right))).await?);
    }
    Ok(allowed)
}

async fn is_allowed(theirs: &Client, right: &Right) -> Result<bool, kube::Error> {
    let api: Api<SelfSubjectAccessReview> = Api::all(theirs.clone());
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: named(right.verb),
                group: named(right.group),
                resource: named(right.resource),
                subresource: named(right.subresource),
                namespace: named(right.namespace),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn judge(needed: &[Right], allowed: &[bool]) -> Result<()> {
    let missing: Vec<String> = needed
        .iter()
        .zip(allowed)
        .filter(|(_, allowed)| !**allowed)
        .map(|(right, _)| words(right))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let named = missing[..missing.len().min(MOST_NAMED)].join(", ");
    let more = match missing.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(error::fail(format!(
        "the kubeconfig lacks rights in the tenant that the syncer needs: {named}{more}; bind its user there to the \
         ClusterRole cluster-admin, or to one with these rights, and run the same command again"
    )))
}

fn words(right: &Right) -> String {
    let mut words = format!("{} {}", right.verb, right.resource);
    if !right.group.is_empty() {
        words = format!("{words}.{}", right.group);
    }
    if !right.subresource.is_empty() {
        words = format!("{words}/{}", right.subresource);
    }
    if right.namespace.is_empty() {
        words
    } else {
        format!("{words} in {}", right.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake::answering;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_named() {
        let needed = needed();
        assert!(judge(&needed, &vec![true; needed.len()]).is_ok());
        let lacks = |is_missing: &dyn Fn(&Right) -> bool| {
            let allowed: Vec<bool> = needed.iter().map(|right| !is_missing(right)).collect();
            judge(&needed, &allowed).unwrap_err().to_string()
        };
        let read_only = lacks(&|right: &Right| right.resource == "pods" && right.verb != "list");
        let named = "needs: create pods/binding, patch pods/status, delete pods; ";
        assert!(read_only.contains(named), "{read_only}");
        let unpublished =
            lacks(&|right: &Right| right.group == "storage.k8s.io" && right.verb == "create");
        let named = "create storageclasses.storage.k8s.io";
        assert!(unpublished.contains(named), "{unpublished}");
        let markless = lacks(&|right: &Right| !right.namespace.is_empty());
        let named = "create configmaps in kube-system, patch configmaps in kube-system; ";
        assert!(markless.contains(named), "{markless}");
        let nothing = lacks(&|_: &Right| true);
        let more = format!(" and {} more; ", needed.len() - MOST_NAMED);
        assert!(nothing.contains(&more), "{nothing}");
    }

    #[tokio::test]
    async fn the_tenants_api_server_itself_says_what_may_be_done() {
        for (allowed, is_enough) in [(Some(true), true), (Some(false), false), (None, true)] {
            let cluster = answering(move |path| {
                assert!(path.ends_with("/selfsubjectaccessreviews"), "{path}");
                let review = |allowed: bool| {
                    json!({
                        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                        "metadata": {}, "spec": {}, "status": {"allowed": allowed},
                    })
                };
                allowed.map(review)
            });
            let checked = check(&cluster.client).await;
            assert_eq!(checked.is_ok(), is_enough, "{checked:?}");
        }
    }
}
