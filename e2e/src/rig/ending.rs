//! Ends namespaces as their controller does, without waiting for it: it comes five seconds after somebody asked, and a
//! namespace has a controller on either side.

use super::inventory::{AT_ONCE, end, passing, types};
use crate::{
    kind::NAMESPACE,
    read::{is_terminating, items, name, uid},
    side::Side,
};
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::json;

/// One step towards the end of a namespace that is being deleted: asks all that is in it to go, or lets it go if nothing
/// is. Called again and again by who waits for its end.
///
/// # Errors
/// The API server refuses, or a type can't be listed.
pub async fn hasten(side: &Side, namespace: &str) -> anyhow::Result<()> {
    let found = side.find(NAMESPACE, "", namespace).await?;
    let Some(object) = found.filter(is_terminating) else {
        return Ok(());
    };
    let namespaced = types(side).await?.into_iter();
    let left = stream::iter(namespaced.filter(|of| of.is_namespaced))
        .map(|of| async move {
            let path = format!("{}/namespaces/{namespace}/{}", of.root, of.plural);
            empty(side, &path).await
        })
        .buffer_unordered(AT_ONCE)
        .try_fold(0, async |sum, left| Ok(sum + left))
        .await?;
    if left == 0 {
        end(side, &NAMESPACE.path("", namespace), object).await?;
    }
    Ok(())
}

/// Asks all objects of a collection to go; how many there were.
async fn empty(side: &Side, collection: &str) -> anyhow::Result<usize> {
    let list = match side.request(Method::GET, collection, None).await {
        // A custom type on its way out.
        Err(problem) if problem.code == 404 => return Ok(0),
        other => other?,
    };
    let objects = items(&list, "/items");
    for object in objects.iter().filter(|object| !is_terminating(object)) {
        let path = format!("{collection}/{}", name(object));
        let asked =
            json!({"preconditions": {"uid": uid(object)}, "propagationPolicy": "Background"});
        let done = side.request(Method::DELETE, &path, Some(asked)).await;
        done.map(drop).or_else(passing)?;
    }
    Ok(objects.len())
}
