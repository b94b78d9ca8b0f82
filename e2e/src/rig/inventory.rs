//! What an API server holds, so that one which a test has used can be put back to what it was.

use crate::{
    kind::NAMESPACE,
    read::{is_terminating, items, text},
    side::{PatchType, Problem, Side},
    wait::{SOON, eventually},
};
use anyhow::{bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// How long it may take to put an API server back.
const LIMIT: Duration = Duration::from_secs(20);
/// More objects than these are removed faster by throwing the API server away.
const MOST: usize = 300;
/// Requests at once.
pub(super) const AT_ONCE: usize = 16;
/// Types that follow others, or that tell of the past.
const PASSING: [&str; 5] = [
    "events",
    "endpoints",
    "endpointslices",
    "apiservices",
    "componentstatuses",
];
/// Others hold on to their UIDs or to what a kubelet wrote into their status, and neither comes back with them.
const IRREPLACEABLE: [&str; 2] = ["/api/v1/namespaces/kube-system", "/api/v1/nodes/"];
/// What controllers put into every namespace, when they come to it.
const OF_EVERY_NAMESPACE: [&str; 2] = ["serviceaccounts/default", "configmaps/kube-root-ca.crt"];

/// All objects of an API server, by their paths.
#[derive(Clone, Debug, Default)]
pub(super) struct Inventory(BTreeMap<String, Held>);

#[derive(Clone, Debug)]
struct Held {
    /// All but its status and what an API server gives each object anew.
    content: Value,
    uid: String,
    resource_version: String,
    is_terminating: bool,
    has_finalizers: bool,
}

impl Inventory {
    /// Reads all objects of all types.
    ///
    /// # Errors
    /// A type can't be listed.
    pub(super) async fn of(side: &Side) -> anyhow::Result<Self> {
        let types = types(side).await?.into_iter();
        let lasting = types.filter(|of| !PASSING.contains(&&*of.plural));
        let lists = stream::iter(lasting)
            .map(|of| async move { list(side, &of.root, &of.plural).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(Self(lists.into_iter().flatten().collect()))
    }

    /// Reads all, as soon as a new API server serves all types.
    ///
    /// # Errors
    /// It doesn't come to it.
    pub(super) async fn once_served(side: &Side) -> anyhow::Result<Self> {
        let what = format!("{} serves all its types", side.name());
        eventually(SOON, &what, async || Self::of(side).await).await
    }

    /// Removes from an API server what it didn't hold at the time of this inventory, and puts back what was changed.
    ///
    /// # Errors
    /// It can't be put back.
    pub(super) async fn restore(&self, side: &Side) -> anyhow::Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let now = Self::of(side).await?;
            let lost = self.lost(&now);
            ensure!(lost.is_empty(), "others stand in for {lost:?}, or none");
            let extra: Vec<(&String, &Held)> = now
                .0
                .iter()
                .filter(|(path, _)| !self.0.contains_key(*path) && !self.is_usual(path))
                .collect();
            let changed = self.changed(&now);
            if extra.is_empty() && changed.is_empty() {
                return Ok(());
            }
            ensure!(
                extra.len() <= MOST,
                "{} objects are too many to remove",
                extra.len()
            );
            if Instant::now() > end {
                let paths: Vec<_> = extra.iter().map(|(path, _)| path).collect();
                bail!("they don't go: {paths:?}; they don't come back: {changed:?}");
            }
            // In their order: a namespace before what is in it.
            for path in changed {
                put_back(side, path, &self.0[path], now.0.get(path)).await?;
            }
            let is_empty = extra.iter().all(|(path, _)| is_namespace(path));
            stream::iter(extra)
                .map(Ok)
                .try_for_each_concurrent(AT_ONCE, |(path, held)| async move {
                    if is_empty && held.is_terminating {
                        // Its controller would come for it five seconds later.
                        finalize(side, path, held).await
                    } else {
                        remove(side, path, held).await
                    }
                })
                .await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Controllers put it into every namespace, so also into one that stays.
    fn is_usual(&self, path: &str) -> bool {
        OF_EVERY_NAMESPACE.iter().any(|usual| {
            let namespace = path.strip_suffix(usual);
            namespace.is_some_and(|path| self.0.contains_key(path.trim_end_matches('/')))
        })
    }

    /// Paths of what can't be put back: it is gone, or another one has its name.
    fn lost(&self, now: &Self) -> Vec<&String> {
        let stands = |(path, held): &(&String, &Held)| {
            now.0.get(*path).map(|now| &now.uid) == Some(&held.uid)
        };
        let irreplaceable = self.0.iter().filter(|(path, _)| is_irreplaceable(path));
        irreplaceable
            .filter(|held| !stands(held))
            .map(|(path, _)| path)
            .collect()
    }

    /// Paths of what isn't as it was.
    fn changed(&self, now: &Self) -> Vec<&String> {
        let lasting = self.0.iter().filter(|(path, _)| {
            // Somebody is always renewing a Lease.
            !path.contains("/leases/") && !self.is_usual(path)
        });
        lasting
            .filter(|(path, held)| now.0.get(*path).map(|now| &now.content) != Some(&held.content))
            .map(|(path, _)| path)
            .collect()
    }
}

/// A type that can be listed and deleted.
pub(super) struct Type {
    /// Path of its group and version.
    pub(super) root: String,
    pub(super) plural: String,
    pub(super) is_namespaced: bool,
}

/// Every such type.
///
/// # Errors
/// A group can't be asked.
pub(super) async fn types(side: &Side) -> anyhow::Result<Vec<Type>> {
    let mut roots = vec!["/api/v1".to_owned()];
    let groups = side.request(Method::GET, "/apis", None).await?;
    for group in items(&groups, "/groups") {
        roots.push(format!(
            "/apis/{}",
            text(group, "/preferredVersion/groupVersion")
        ));
    }
    let lists = stream::iter(roots)
        .map(|root| async move {
            let found = side.request(Method::GET, &root, None).await;
            found.map(|list| (root, list))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    let mut types = vec![];
    for (root, list) in &lists {
        for resource in items(list, "/resources") {
            let name = text(resource, "/name");
            let verbs = items(resource, "/verbs");
            let can = |verb: &str| verbs.iter().any(|known| known == verb);
            if can("list") && can("delete") {
                types.push(Type {
                    root: root.clone(),
                    plural: name.to_owned(),
                    is_namespaced: resource["namespaced"] == true,
                });
            }
        }
    }
    Ok(types)
}

async fn list(side: &Side, root: &str, plural: &str) -> Result<Vec<(String, Held)>, Problem> {
    let mut list = match side
        .request(Method::GET, &format!("{root}/{plural}"), None)
        .await
    {
        // A custom type on its way out.
        Err(problem) if problem.code == 404 => return Ok(vec![]),
        other => other?,
    };
    let Value::Array(objects) = list["items"].take() else {
        return Ok(vec![]);
    };
    Ok(objects
        .into_iter()
        .map(|object| held(root, plural, object))
        .collect())
}

fn held(root: &str, plural: &str, mut object: Value) -> (String, Held) {
    let name = format!("{plural}/{}", text(&object, "/metadata/name"));
    let path = match text(&object, "/metadata/namespace") {
        "" => format!("{root}/{name}"),
        namespace => format!("{root}/namespaces/{namespace}/{name}"),
    };
    let (is_terminating, has_finalizers) = (
        is_terminating(&object),
        !items(&object, "/metadata/finalizers").is_empty(),
    );
    let resource_version = text(&object, "/metadata/resourceVersion").to_owned();
    let uid = text(&object, "/metadata/uid").to_owned();
    for given in [
        "resourceVersion",
        "managedFields",
        "uid",
        "creationTimestamp",
        "generation",
    ] {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove(given);
        }
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let held = Held {
        content: object,
        uid,
        resource_version,
        is_terminating,
        has_finalizers,
    };
    (path, held)
}

/// Makes an object again what it was.
async fn put_back(side: &Side, path: &str, was: &Held, now: Option<&Held>) -> Result<(), Problem> {
    let mut object = was.content.clone();
    let done = match (now, path.rsplit_once('/')) {
        (Some(now), _) => {
            object["metadata"]["resourceVersion"] = now.resource_version.as_str().into();
            side.request(Method::PUT, path, Some(object)).await
        }
        (None, Some((of_its_type, _))) => {
            side.request(Method::POST, of_its_type, Some(object)).await
        }
        (None, None) => return Ok(()),
    };
    done.map(drop).or_else(passing)
}

async fn remove(side: &Side, path: &str, held: &Held) -> Result<(), Problem> {
    let done = match (held.is_terminating, held.has_finalizers) {
        // Its controller empties it.
        (true, _) if is_namespace(path) => return Ok(()),
        (true, true) => {
            let none = json!({"metadata": {"finalizers": null}});
            side.patch(path, PatchType::Merge, none).await
        }
        (true, false) | (false, _) => {
            let now = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
            side.request(Method::DELETE, path, Some(now)).await
        }
    };
    done.map(drop).or_else(passing)
}

async fn finalize(side: &Side, path: &str, held: &Held) -> Result<(), Problem> {
    end(side, path, held.content.clone()).await
}

/// Lets a namespace go that is empty.
pub(super) async fn end(side: &Side, path: &str, mut namespace: Value) -> Result<(), Problem> {
    namespace["spec"]["finalizers"] = json!([]);
    let done = side
        .request(Method::PUT, &format!("{path}/finalize"), Some(namespace))
        .await;
    done.map(drop).or_else(passing)
}

/// It went by itself, or somebody else is at it.
pub(super) fn passing(problem: Problem) -> Result<(), Problem> {
    match problem.code {
        404 | 409 => Ok(()),
        _ => Err(problem),
    }
}

fn is_irreplaceable(path: &str) -> bool {
    IRREPLACEABLE
        .iter()
        .any(|one| path == *one || (one.ends_with('/') && path.starts_with(one)))
}

fn is_namespace(path: &str) -> bool {
    path.strip_prefix(&NAMESPACE.path("", ""))
        .is_some_and(|rest| !rest.trim_start_matches('/').contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(objects: &[(&str, &str, &str)]) -> Inventory {
        let each = objects.iter().map(|(plural, name, uid)| {
            held(
                "/api/v1",
                plural,
                json!({"metadata": {"name": name, "uid": uid}}),
            )
        });
        Inventory(each.collect())
    }

    #[test]
    fn what_others_hold_on_to_is_lost_when_another_has_its_name() {
        let before = inventory(&[
            ("nodes", "a", "1"),
            ("namespaces", "kube-system", "2"),
            ("namespaces", "kube-public", "3"),
        ]);
        assert_eq!(before.lost(&before), [""; 0]);
        let after = inventory(&[
            ("nodes", "b", "1"),
            ("namespaces", "kube-system", "20"),
            ("namespaces", "kube-public", "30"),
        ]);
        let lost = before.lost(&after);
        assert_eq!(lost, ["/api/v1/namespaces/kube-system", "/api/v1/nodes/a"]);
        // Any other one does in place of it.
        assert_eq!(before.changed(&after), ["/api/v1/nodes/a"]);
    }
}
