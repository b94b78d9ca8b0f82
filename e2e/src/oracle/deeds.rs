//! O2: what the syncer did in the super cluster, from the API server's audit log.

use crate::{
    kind::{CONTROL_PLANE, GROUP},
    read::{annotation, label, name, text, uid},
    rig::{
        Rig,
        audit::{Deed, deeds},
    },
};
use anyhow::ensure;
use api::keys;
use std::collections::{HashMap, HashSet};

/// Every deletion has a matching absence in the tenant, no write is outside of what the syncer manages, and none for one
/// tenant touches another's object.
pub async fn are_lawful(rig: &Rig) -> anyhow::Result<()> {
    let all = deeds(&rig.above.audit_log())?;
    let mut wrong = vec![];
    let owners = owners(&all);
    let live = live(rig).await?;
    let own: Vec<&Deed> = all.iter().filter(|deed| deed.is_syncers()).collect();
    ensure!(!own.is_empty(), "the audit log has no write of the syncer");
    let spaces = spaces(rig, &own);
    for deed in &own {
        let place = format!(
            "{} {} {}/{}",
            deed.verb, deed.resource, deed.namespace, deed.name
        );
        if !is_managed(deed, &spaces) {
            wrong.push(format!("{place}: outside of what the syncer manages"));
        }
        if let (Some(tenant), Some(space)) = (
            label(&deed.response, keys::TENANT),
            spaces.get(&deed.namespace),
        ) && tenant != space
        {
            wrong.push(format!(
                "{place}: in a namespace of tenant {space}, for {tenant}"
            ));
        }
        if deed.verb == "delete"
            && let Some(owner) = owners.get(deed.deleted_uid())
            && live.contains(owner)
        {
            wrong.push(format!("{place}: its tenant object {owner} is still there"));
        }
        if deed.verb == "delete" && deed.deleted_uid().is_empty() {
            wrong.push(format!("{place}: no UID was asked for"));
        }
    }
    ensure!(
        wrong.is_empty(),
        "the syncer's writes (O2): {}",
        wrong.join("; ")
    );
    Ok(())
}

/// Super UIDs of what the syncer deleted, its own Leases apart, with the tenant UIDs that they belonged to.
pub fn deletions(rig: &Rig) -> anyhow::Result<Vec<(Deed, String)>> {
    let all = deeds(&rig.above.audit_log())?;
    let owners = owners(&all);
    let deleted = all
        .iter()
        .filter(|deed| deed.is_syncers() && deed.verb == "delete" && deed.resource != "leases");
    Ok(deleted
        .map(|deed| {
            let owner = owners.get(deed.deleted_uid()).cloned();
            (deed.clone(), owner.unwrap_or_default())
        })
        .collect())
}

/// UID of a super object to the UID of its tenant object, from what creates and patches answered.
fn owners(all: &[Deed]) -> HashMap<String, String> {
    all.iter()
        .filter(|deed| deed.is_syncers())
        .filter_map(|deed| {
            let owner = annotation(&deed.response, keys::UID)?;
            Some((uid(&deed.response).to_owned(), owner.to_owned()))
        })
        .collect()
}

/// UIDs of all tenants' objects that exist and nobody asked to go.
async fn live(rig: &Rig) -> anyhow::Result<HashSet<String>> {
    let mut live = HashSet::new();
    for guest in &rig.tenants {
        for rule in super::pairs::going_down() {
            let list = super::pairs::list(&guest.side, rule, "").await?;
            let staying = list.iter().filter(|object| !object.is_terminating());
            live.extend(staying.map(|object| object.uid().to_owned()));
        }
    }
    Ok(live)
}

/// Super namespaces that the syncer made, and whose they are: by their making, or by their end, since an API server may
/// tell of a failure what it stored while the syncer was killed.
pub(super) fn spaces(rig: &Rig, own: &[&Deed]) -> HashMap<String, String> {
    let made = own.iter().filter(|deed| {
        deed.resource == "namespaces" && ["create", "delete"].contains(&deed.verb.as_str())
    });
    made.filter_map(|deed| {
        let tenant = label(&deed.response, keys::TENANT)?;
        let known = rig.tenants.iter().any(|guest| guest.id.as_str() == tenant);
        known.then(|| (name(&deed.response).to_owned(), tenant.to_owned()))
    })
    .collect()
}

fn is_managed(deed: &Deed, spaces: &HashMap<String, String>) -> bool {
    match deed.resource.as_str() {
        "namespaces" => {
            deed.verb == "create" && label(&deed.response, keys::MANAGED) == Some("true")
                || spaces.contains_key(&deed.name)
        }
        "leases" => deed.namespace == api::SYSTEM_NAMESPACE,
        "events" => true,
        resource if resource == format!("{}/status", CONTROL_PLANE.plural) => true,
        // What tenants use of their groups' budgets.
        resource if resource == format!("{}/status", GROUP.plural) => true,
        _ if deed.namespace.is_empty() => {
            // Cluster-scoped objects of other kinds carry the tenant's mark.
            label(&deed.response, keys::TENANT).is_some() || deed.verb == "delete"
        }
        _ => {
            spaces.contains_key(&deed.namespace)
                || text(&deed.response, "/metadata/labels/sublet.dev~1managed") == "true"
        }
    }
}
