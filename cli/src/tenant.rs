//! Tenants as commands know them: found by name, and opened by their kubeconfig.

use crate::{
    cluster::{self, Cluster},
    condition::{self, State},
    error, identity,
    kubeconfig::{self, Access, Mark},
    name, paging,
};
use anyhow::Result;
use api::{SecretRef, VirtualControlPlane, keys};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    config::Kubeconfig,
};
use serde_json::json;

/// The VirtualControlPlanes of the namespace that the command works in.
pub(crate) fn api(cluster: &Cluster) -> Api<VirtualControlPlane> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

/// Those that there are.
pub(crate) async fn of_namespace(
    cluster: &Cluster,
) -> Result<Vec<VirtualControlPlane>, kube::Error> {
    paging::all(&api(cluster), &ListParams::default()).await
}

/// The VirtualControlPlanes of all namespaces.
pub(crate) async fn all(cluster: &Cluster) -> Result<Vec<VirtualControlPlane>, kube::Error> {
    let api: Api<VirtualControlPlane> = Api::all(cluster.client.clone());
    paging::all(&api, &ListParams::default()).await
}

/// The tenant called `name`, or an error that names what may have been meant.
pub(crate) async fn find(cluster: &Cluster, name: &str) -> Result<VirtualControlPlane> {
    match api(cluster).get(name).await {
        Ok(vcp) => Ok(vcp),
        Err(err) if error::is_missing(&err) => Err(unknown(cluster, name).await),
        Err(err) => Err(err.into()),
    }
}

/// Says that there is no such tenant, and which there are.
pub(crate) async fn unknown(cluster: &Cluster, name: &str) -> anyhow::Error {
    // Who may not list everything still gets the names of the own namespace.
    let known = match all(cluster).await {
        Ok(known) => known,
        Err(_) => of_namespace(cluster).await.unwrap_or_default(),
    };
    let names: Vec<(String, String)> = known
        .iter()
        .map(|vcp| (vcp.namespace().unwrap_or_default(), vcp.name_any()))
        .collect();
    let Advice { text, command } = advise(name, &cluster.namespace, &names);
    let advice = match command {
        None => text,
        Some(Hint::List) => format!("{text} `{}`", cluster.hint_anywhere("list -A")),
        Some(Hint::Create) => format!("{text} `{}`", cluster.hint(&format!("create {name}"))),
    };
    let nor = if identity::is_one(name) {
        " and none with that identity anywhere"
    } else {
        ""
    };
    error::fail(format!(
        "there is no tenant {name:?} in namespace {}{nor}: {advice}",
        cluster.namespace
    ))
}

#[derive(Debug, PartialEq, Eq)]
struct Advice {
    text: String,
    command: Option<Hint>,
}

#[derive(Debug, PartialEq, Eq)]
enum Hint {
    List,
    Create,
}

/// What may have been meant by `name`, out of (namespace, name) pairs.
fn advise(name: &str, namespace: &str, known: &[(String, String)]) -> Advice {
    let elsewhere: Vec<&str> = known
        .iter()
        .filter(|(_, other)| other == name)
        .map(|(ns, _)| ns.as_str())
        .collect();
    if !elsewhere.is_empty() {
        let text = format!(
            "there is one in {}; add -n {}",
            elsewhere.join(", "),
            elsewhere[0]
        );
        return Advice {
            text,
            command: None,
        };
    }
    let here = known
        .iter()
        .filter(|(ns, _)| ns == namespace)
        .map(|(_, other)| other.as_str());
    let close = name::close(name, here);
    if !close.is_empty() {
        return Advice {
            text: format!("did you mean {}?", close.join(" or ")),
            command: None,
        };
    }
    if known.is_empty() {
        return Advice {
            text: "there are none yet; make it with".into(),
            command: Some(Hint::Create),
        };
    }
    Advice {
        text: "all there are:".into(),
        command: Some(Hint::List),
    }
}

/// Reads the tenant's kubeconfig out of its Secret: the manager's, or for an attached tenant the one that was handed over.
pub(crate) async fn access(cluster: &Cluster, vcp: &VirtualControlPlane) -> Result<Access> {
    let name = vcp.name_any();
    let Some(reference) = kubeconfig_secret(vcp) else {
        let blocker =
            condition::blocker(vcp).unwrap_or_else(|| "the manager hasn't taken it up".into());
        let hint = cluster.hint(&format!("describe {name}"));
        return Err(error::fail(format!(
            "{name} has no kubeconfig yet: {blocker}; see `{hint}`"
        )));
    };
    let secrets: Api<Secret> =
        Api::namespaced(cluster.client.clone(), &vcp.namespace().unwrap_or_default());
    let secret = match secrets.get(&reference.name).await {
        Ok(secret) => secret,
        Err(err) if error::is_missing(&err) => {
            let advice = match &vcp.spec.external {
                None => format!(
                    "the manager makes it anew within moments; see `{}`",
                    cluster.hint("doctor")
                ),
                Some(_) => format!(
                    "hand it over again with `{}`",
                    cluster.hint(&format!("attach {name} --tenant-kubeconfig FILE"))
                ),
            };
            return Err(error::fail(format!(
                "the Secret {} with the kubeconfig of {name} is gone: {advice}",
                reference.name
            )));
        }
        Err(err) => return Err(err.into()),
    };
    let data = secret
        .data
        .unwrap_or_default()
        .remove(&reference.key)
        .map(|bytes| String::from_utf8(bytes.0));
    let Some(Ok(text)) = data else {
        return Err(error::fail(format!(
            "the Secret {} has no kubeconfig under the key {:?}",
            reference.name, reference.key
        )));
    };
    Access::parse(&text).map_err(|err| {
        error::fail(format!(
            "can't use the kubeconfig in the Secret {}: {err}",
            reference.name
        ))
    })
}

/// The Cluster of Cluster API that a tenant belongs to: its objects say what the tenant shall be.
pub(crate) fn cluster_of(vcp: &VirtualControlPlane) -> Option<&str> {
    let owner = vcp.labels().get(api::capi::CLUSTER_NAME);
    owner.map(String::as_str)
}

/// Changes fields of the spec, if the tenant is still the one that was found.
pub(crate) async fn change(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    spec: &serde_json::Value,
) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"uid": vcp.metadata.uid}, "spec": spec}));
    let params = PatchParams::default();
    api(cluster).patch(&vcp.name_any(), &params, &patch).await?;
    Ok(())
}

/// Says that nothing is changed for a tenant that is paused, and how to end that.
pub(crate) fn refuse_paused(cluster: &Cluster, vcp: &VirtualControlPlane) -> Result<()> {
    if !vcp.spec.paused {
        return Ok(());
    }
    let name = vcp.name_any();
    let resume = cluster.hint(&format!("resume {name}"));
    Err(error::fail(format!(
        "{name} is paused, so nothing of it is changed: end that first with `{resume}`"
    )))
}

/// Puts back what a command asked for and the manager refused, unless somebody asked for something else meanwhile.
pub(crate) async fn put_back(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    is_ours: impl Fn(&VirtualControlPlane) -> bool,
    before: &serde_json::Value,
) -> Result<()> {
    let (name, params) = (vcp.name_any(), PatchParams::default());
    loop {
        let now = api(cluster).get(&name).await?;
        let Some(patch) = undo(vcp, &now, &is_ours, before) else {
            return Ok(());
        };
        match api(cluster)
            .patch(&name, &params, &Patch::Merge(patch))
            .await
        {
            // Somebody wrote something meanwhile; the manager its status, as a rule.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// What puts it back in what is there `now`.
fn undo(
    vcp: &VirtualControlPlane,
    now: &VirtualControlPlane,
    is_ours: impl Fn(&VirtualControlPlane) -> bool,
    before: &serde_json::Value,
) -> Option<serde_json::Value> {
    let (metadata, is_same) = (&now.metadata, now.metadata.uid == vcp.metadata.uid);
    (is_same && is_ours(now)).then(|| {
        json!({
            "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
            "spec": before,
        })
    })
}

/// Where the tenant's kubeconfig lies, once it does.
fn kubeconfig_secret(vcp: &VirtualControlPlane) -> Option<SecretRef> {
    let external = vcp.spec.external.as_ref();
    let handed_over = external.map(|external| external.kubeconfig_secret_ref.clone());
    let made = || vcp.status.as_ref()?.kubeconfig_secret_ref.clone();
    handed_over.or_else(made)
}

/// What marks this tenant's entries in a person's kubeconfig.
pub(crate) fn mark(cluster: &Cluster, vcp: &VirtualControlPlane) -> Mark {
    Mark {
        control_plane: format!("{}/{}", vcp.namespace().unwrap_or_default(), vcp.name_any()),
        identity: vcp.spec.identity.clone().unwrap_or_default(),
        super_cluster: cluster.url.clone(),
    }
}

/// A client of the tenant's own API server; one that sleeps isn't woken for it.
pub(crate) async fn client(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    access: &Access,
) -> Result<Client> {
    cluster::client_of(awake(cluster, vcp, access)?).await
}

/// The same for watches.
pub(crate) async fn watching(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    access: &Access,
) -> Result<Client> {
    cluster::watching_of(awake(cluster, vcp, access)?).await
}

/// The kubeconfig of a tenant that doesn't sleep.
fn awake(cluster: &Cluster, vcp: &VirtualControlPlane, access: &Access) -> Result<Kubeconfig> {
    if let State::Asleep(_) = condition::state(vcp) {
        let name = vcp.name_any();
        return Err(error::fail(format!(
            "{name} sleeps, so its API server can't be asked; wake it with `{}`",
            cluster.hint(&format!("wake {name}"))
        )));
    }
    let value = kubeconfig::named(access, &vcp.name_any(), &mark(cluster, vcp));
    Ok(serde_json::from_value(value)?)
}

/// Selects the super namespaces of the tenant with this identity.
pub(crate) fn namespaces_of(identity: &str) -> String {
    format!("{}={identity},{}=true", keys::TENANT, keys::MANAGED)
}

/// The command line that removes them, where no manager does.
pub(crate) fn remove_namespaces(cluster: &Cluster, identity: &str) -> String {
    cluster.kubectl_anywhere(&format!("delete namespaces -l {}", namespaces_of(identity)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<(String, String)> {
        [
            ("default", "team-a"),
            ("default", "team-b"),
            ("shop", "cart"),
        ]
        .map(|(ns, n)| (ns.to_owned(), n.to_owned()))
        .to_vec()
    }

    #[test]
    fn advice_names_what_may_have_been_meant() {
        assert_eq!(
            advise("cart", "default", &known()).text,
            "there is one in shop; add -n shop"
        );
        assert_eq!(
            advise("team-c", "default", &known()).text,
            "did you mean team-a or team-b?"
        );
        assert_eq!(advise("zzz", "default", &known()).command, Some(Hint::List));
        assert_eq!(advise("zzz", "default", &[]).command, Some(Hint::Create));
    }

    #[test]
    fn what_somebody_else_asked_for_meanwhile_is_not_put_back() {
        let vcp = |uid: &str, version: &str| -> VirtualControlPlane {
            let metadata = json!({"name": "a", "uid": uid, "resourceVersion": "7"});
            let spec = json!({"className": "c", "version": version});
            serde_json::from_value(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane", "metadata": metadata, "spec": spec,
            }))
            .unwrap()
        };
        let before = json!({"version": "1.36.3"});
        let is_ours = |now: &VirtualControlPlane| now.spec.version.as_deref() == Some("1.99.0");
        let undone = |now: VirtualControlPlane| undo(&vcp("u", "1.36.3"), &now, is_ours, &before);
        let metadata = json!({"uid": "u", "resourceVersion": "7"});
        let back = json!({"metadata": metadata, "spec": before});
        assert_eq!(undone(vcp("u", "1.99.0")), Some(back));
        assert_eq!(undone(vcp("u", "1.37.0")), None, "another admin's wish");
        assert_eq!(undone(vcp("v", "1.99.0")), None, "another tenant");
    }

    #[test]
    fn an_attached_tenant_has_the_kubeconfig_that_was_handed_over() {
        let vcp = |spec: serde_json::Value, status: serde_json::Value| -> VirtualControlPlane {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane", "metadata": {"name": "a"},
                "spec": spec, "status": status,
            }))
            .unwrap()
        };
        let secret = |vcp: &VirtualControlPlane| kubeconfig_secret(vcp).map(|found| found.name);
        let none = serde_json::json!({});
        let made =
            serde_json::json!({"kubeconfigSecretRef": {"name": "a-kubeconfig", "key": "value"}});
        let external = serde_json::json!({"external": {"kubeconfigSecretRef": {"name": "a-tenant-kubeconfig"}}});
        assert_eq!(secret(&vcp(none.clone(), none.clone())), None);
        assert_eq!(
            secret(&vcp(none.clone(), made)).as_deref(),
            Some("a-kubeconfig")
        );
        assert_eq!(
            secret(&vcp(external, none)).as_deref(),
            Some("a-tenant-kubeconfig")
        );
    }
}
