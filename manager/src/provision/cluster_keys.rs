//! A tenant's keys as Cluster API's contract names them: `CLUSTER-ca`, `-etcd`, `-proxy` and `-sa` beside the Cluster.
//!
//! Tools that join machines or renew kubeconfigs read them. They are copies of what lies in the control plane's namespace,
//! except where a person put one down first: that is used instead of a new one. One that turns up later is left as it is
//! and told of, since what runs has other keys already.
//!
//! Who may read them holds the tenant for good, as who may read the kubeconfig beside them holds it for a while.

use super::{keys, metadata, owner_reference};
use crate::{
    object::{Object, Objects, SECRET},
    observe::Seen,
    pki::{self, Authority, Material, OPAQUE},
    spec::{
        control_plane::{ControlPlane, Owner, Refusal},
        membership,
    },
    status::Fact,
};
use api::{capi, keys as marks};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a kubeconfig's Secret is called after the Cluster.
pub(crate) const KUBECONFIG: &str = "kubeconfig";

/// A Secret of the contract: what it is called after the Cluster, and what in the control plane's namespace it shows.
struct Shown {
    suffix: &'static str,
    material: Material,
    secret: &'static str,
    certificate: &'static str,
    key: &'static str,
}

fn shown() -> [Shown; 4] {
    let authority = |suffix, authority: Authority| Shown {
        suffix,
        material: Material::Authority(authority),
        secret: authority.secret(),
        certificate: "tls.crt",
        key: "tls.key",
    };
    [
        authority("ca", Authority::Cluster),
        authority("etcd", Authority::Etcd),
        authority("proxy", Authority::FrontProxy),
        Shown {
            suffix: "sa",
            material: Material::ServiceAccountKeys,
            secret: keys::SERVICE_ACCOUNT,
            certificate: "sa.pub",
            key: "sa.key",
        },
    ]
}

/// Names of all Secrets of the contract; none when the tenant isn't a Cluster.
pub(crate) fn names(owner: &Owner) -> Vec<String> {
    let suffixes = shown().map(|shown| shown.suffix);
    let all = suffixes.into_iter().chain([KUBECONFIG]);
    all.filter_map(|suffix| owner.cluster_secret(suffix))
        .collect()
}

/// Labels, annotations and owner of a Secret of the contract; `None` when the tenant isn't a Cluster.
pub(crate) fn contract_metadata(owner: &Owner) -> Option<Value> {
    let membership = owner.cluster.as_ref()?;
    let mut labels = json!(owner.labels());
    labels[capi::CLUSTER_NAME] = json!(membership.cluster);
    Some(json!({
        "labels": labels,
        "annotations": {marks::CONTROL_PLANE: owner.path()},
        "ownerReferences": [membership.control_plane.clone().unwrap_or_else(|| owner_reference(owner))],
    }))
}

/// A Secret of the contract beside the Cluster; `None` when the tenant isn't a Cluster.
pub(crate) fn secret(owner: &Owner, name: &str, data: &Value) -> Option<Object> {
    let metadata = contract_metadata(owner)?;
    let body = json!({"metadata": metadata, "type": capi::SECRET_TYPE, "data": data});
    Some(Object::new(SECRET, Some(&owner.namespace), name, body).sealed())
}

/// What a person put down beside the Cluster under the contract's names.
pub(crate) fn theirs<'a>(owner: &Owner, beside: &'a Objects) -> Vec<&'a Object> {
    let found = shown()
        .into_iter()
        .filter_map(|shown| shown.theirs(owner, beside));
    found.collect()
}

/// The same, if all of it can be used.
pub(crate) fn usable<'a>(seen: &'a Seen, owner: &Owner) -> Result<Vec<&'a Object>, Refusal> {
    let mut usable = vec![];
    for shown in shown() {
        let Some(theirs) = shown.theirs(owner, &seen.cluster_secrets) else {
            continue;
        };
        shown.read(seen, owner, theirs)?;
        usable.push(theirs);
    }
    Ok(usable)
}

/// Whether two Secrets hold the same key: a person may write the public half of a key pair in other ways.
pub(crate) fn is_same_key(one: &Object, other: &Object) -> bool {
    trimmed(one, "tls.key") == trimmed(other, "tls.key")
}

/// Tells of Secrets that came when the tenant had keys already.
pub(crate) fn not_used(paths: &[String]) -> Fact {
    let message = format!(
        "Secret {} came when the tenant had keys already and isn't used: delete it, and those in use are written there",
        paths.join(", ")
    );
    Fact::no("CertificatesAvailable", "NotUsed", message)
}

impl Shown {
    /// What a person put down under this name.
    fn theirs<'a>(&self, owner: &Owner, beside: &'a Objects) -> Option<&'a Object> {
        let found = beside.get(SECRET, &owner.cluster_secret(self.suffix)?)?;
        is_anothers(owner, found).then_some(found)
    }

    /// What comes of it in the control plane's namespace.
    fn read(
        &self,
        seen: &Seen,
        owner: &Owner,
        theirs: &Object,
    ) -> Result<BTreeMap<&'static str, String>, Refusal> {
        let secret = format!("{}/{}", owner.namespace, theirs.name());
        if !membership::is_for(seen, owner, theirs) {
            return Err(Refusal::ForeignSecret(secret));
        }
        pki::brought(&self.material, theirs, seen.now)
            .map_err(|why| Refusal::AuthorityRefused { secret, why })
    }
}

/// Secrets to be made in the control plane's namespace from what a person brought; none once there are any.
pub(crate) fn from_a_person(cp: &ControlPlane, seen: &Seen) -> Result<Vec<Object>, Refusal> {
    let mut made = vec![];
    for shown in shown() {
        let Some(theirs) = shown.theirs(&cp.owner, &seen.cluster_secrets) else {
            continue;
        };
        if seen.objects.get(SECRET, shown.secret).is_some() {
            continue;
        }
        let data = shown.read(seen, &cp.owner, theirs)?;
        let data: Map<String, Value> = data
            .into_iter()
            .map(|(key, text)| (key.to_owned(), json!(BASE64_STANDARD.encode(text))))
            .collect();
        let body = json!({"metadata": metadata(cp, shown.secret), "type": OPAQUE, "data": data});
        made.push(Object::new(SECRET, Some(&cp.namespace), shown.secret, body));
    }
    Ok(made)
}

/// The Secrets beside the Cluster, but those that a person put there.
pub(crate) fn objects(cp: &ControlPlane, seen: &Seen) -> Vec<Object> {
    let all = shown()
        .into_iter()
        .filter_map(|shown| copy(cp, &shown, &seen.objects));
    all.filter(|want| {
        let have = seen.cluster_secrets.get(SECRET, want.name());
        !have.is_some_and(|have| is_anothers(&cp.owner, have))
    })
    .collect()
}

/// Whether all keys of the contract are those that the tenant has; `None` when the tenant isn't a Cluster.
pub(crate) fn fact(cp: &ControlPlane, seen: &Seen) -> Option<Fact> {
    cp.owner.cluster.as_ref()?;
    let unused = |shown: &Shown| {
        let want = copy(cp, shown, &seen.objects)?;
        let have = seen.cluster_secrets.get(SECRET, want.name())?;
        (is_anothers(&cp.owner, have) && !is_same_key(have, &want))
            .then(|| format!("{}/{}", cp.owner.namespace, want.name()))
    };
    let unused: Vec<String> = shown().iter().filter_map(unused).collect();
    Some(if unused.is_empty() {
        Fact::yes("CertificatesAvailable", "Issued")
    } else {
        not_used(&unused)
    })
}

/// Whether a Secret isn't of the tenant's own make.
pub(crate) fn is_anothers(owner: &Owner, secret: &Object) -> bool {
    secret.label(marks::TENANT) != Some(owner.id.as_str())
}

fn copy(cp: &ControlPlane, shown: &Shown, inside: &Objects) -> Option<Object> {
    let source = inside.get(SECRET, shown.secret)?;
    let name = cp.owner.cluster_secret(shown.suffix)?;
    let data = json!({
        "tls.crt": source.body["data"][shown.certificate],
        "tls.key": source.body["data"][shown.key],
    });
    secret(&cp.owner, &name, &data)
}

fn trimmed(secret: &Object, key: &str) -> Option<String> {
    pki::text_of(secret, key).map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests;
