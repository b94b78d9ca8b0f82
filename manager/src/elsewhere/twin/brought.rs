//! Authorities and keys that a person put down here for a tenant of another super cluster; pure.
//!
//! They are handed on before the twin is made, and lie there as if a person had put them down there, so that the manager
//! there uses them. The twin owns them as soon as there is one, and they go with it; what a person put down here stays.

use crate::{
    decide::Deed,
    object::{Object, Objects, SECRET},
    observe::Seen,
    provision::cluster_keys,
    spec::control_plane::{Owner, Refusal},
    status::Fact,
};
use api::{capi, keys as marks};
use serde_json::json;

/// What must be done there so that all that a person brought is used, before the twin is made.
pub(super) fn ahead(
    seen: &Seen,
    owner: &Owner,
    namespace: &str,
    there: &Objects,
) -> Result<Vec<Deed>, Refusal> {
    let mut deeds = vec![];
    for theirs in cluster_keys::usable(seen, owner)? {
        let wanted = handed_on(owner, namespace, theirs, None);
        match there.get(SECRET, theirs.name()) {
            Some(have) if !is_handed_on(owner, have) => {
                let path = format!("{namespace}/{}", have.name());
                return Err(Refusal::ForeignSecret(path));
            }
            Some(have) if wanted.is_met_by(have) => {}
            _ => deeds.push(Deed::Apply(wanted)),
        }
    }
    Ok(deeds)
}

/// What must be done there so that it goes with the twin.
pub(super) fn owned(seen: &Seen, owner: &Owner, twin: &Object, there: &Objects) -> Vec<Deed> {
    let namespace = twin.namespace().unwrap_or_default();
    let ours = there.of(SECRET).filter(|have| is_handed_on(owner, have));
    let free = ours.filter(|have| {
        let owners = have.items("/metadata/ownerReferences");
        !owners.iter().any(|owner| owner["uid"] == twin.uid())
    });
    let theirs = free.filter_map(|have| seen.cluster_secrets.get(SECRET, have.name()));
    theirs
        .map(|theirs| Deed::Apply(handed_on(owner, namespace, theirs, Some(twin))))
        .collect()
}

/// What is left there when there is no twin.
pub(super) fn left(owner: &Owner, there: &Objects) -> Vec<Deed> {
    let ours = there.of(SECRET).filter(|have| is_handed_on(owner, have));
    ours.cloned().map(Deed::Delete).collect()
}

/// Names of what a person brought: it is looked for there.
pub(crate) fn names(owner: &Owner, beside: &Objects) -> Vec<String> {
    let theirs = cluster_keys::theirs(owner, beside).into_iter();
    theirs.map(|theirs| theirs.name().to_owned()).collect()
}

/// Tells of what a person brought when the tenant had keys already; `None` when all is in use.
pub(super) fn too_late(seen: &Seen, owner: &Owner, there: &Objects) -> Option<Fact> {
    let theirs = cluster_keys::theirs(owner, &seen.cluster_secrets).into_iter();
    let unused = theirs.filter(|theirs| {
        let used = there.get(SECRET, theirs.name());
        used.is_some_and(|used| !cluster_keys::is_same_key(theirs, used))
    });
    let paths: Vec<String> = unused
        .map(|theirs| format!("{}/{}", owner.namespace, theirs.name()))
        .collect();
    (!paths.is_empty()).then(|| cluster_keys::not_used(&paths))
}

fn is_handed_on(owner: &Owner, have: &Object) -> bool {
    have.annotation(marks::TWIN_OF) == Some(owner.path().as_str())
}

/// Without the tenant's label: that marks what Sublet itself made.
fn handed_on(owner: &Owner, namespace: &str, theirs: &Object, twin: Option<&Object>) -> Object {
    let cluster = owner.cluster.as_ref().map(|membership| &membership.cluster);
    let owners: Vec<_> = twin
        .map(|twin| {
            json!({
                "apiVersion": twin.kind.api_version, "kind": twin.kind.kind,
                "name": twin.name(), "uid": twin.uid(),
            })
        })
        .into_iter()
        .collect();
    let body = json!({
        "metadata": {
            "labels": {capi::CLUSTER_NAME: cluster},
            "annotations": {marks::TWIN_OF: owner.path()},
            "ownerReferences": owners,
        },
        "type": capi::SECRET_TYPE,
        "data": {
            "tls.crt": theirs.body["data"]["tls.crt"],
            "tls.key": theirs.body["data"]["tls.key"],
        },
    });
    Object::new(SECRET, Some(namespace), theirs.name(), body).sealed()
}
