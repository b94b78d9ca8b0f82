//! R7: each write for a tenant was sent by the syncer that led the tenant at that moment.
//!
//! Both are in the super cluster's audit log: who took and gave back a tenant's Lease, and who wrote what for whom. A
//! claim counts from when it came in; what a leader sends after its claim was answered comes in later, and what the one
//! before sent while it led came in earlier.

use crate::{
    kind::CONTROL_PLANE,
    read::text,
    rig::{
        Rig,
        audit::{Deed, deeds},
    },
};
use anyhow::ensure;
use std::collections::HashMap;

/// Deeds that a message names.
const NAMED: usize = 12;

/// Every write by every syncer was the leader's.
pub async fn are_kept(rig: &Rig) -> anyhow::Result<()> {
    let deeds = deeds(&rig.above.audit_log())?;
    let own: Vec<&Deed> = deeds.iter().filter(|deed| deed.is_syncers()).collect();
    let mut whose = super::deeds::spaces(rig, &own);
    for guest in &rig.tenants {
        whose.insert(guest.name.clone(), guest.id.as_str().to_owned());
    }
    let wrong = strangers(&own, &whose);
    let named: Vec<&str> = wrong.iter().take(NAMED).map(String::as_str).collect();
    ensure!(
        wrong.is_empty(),
        "{} writes by syncers that didn't lead the tenant (R7): {}",
        wrong.len(),
        named.join("; ")
    );
    Ok(())
}

/// Writes by others than the leader; `whose` tells the tenant of a super namespace and of a VirtualControlPlane.
fn strangers(deeds: &[&Deed], whose: &HashMap<String, String>) -> Vec<String> {
    let mut ordered = deeds.to_vec();
    ordered.sort_by(|one, other| one.at.cmp(&other.at));
    let mut leaders: HashMap<String, (String, String)> = HashMap::new();
    let mut wrong = vec![];
    for deed in ordered {
        if deed.resource == "leases" {
            if let Some(tenant) = deed.name.strip_prefix("tenant-") {
                let holder = text(&deed.response, "/spec/holderIdentity").to_owned();
                let known = leaders.get(tenant).map(|(holder, _)| holder.clone());
                // Marks are written on the same Lease, and change no holder.
                if known.as_ref() != Some(&holder) {
                    leaders.insert(tenant.to_owned(), (holder, deed.user_uid.clone()));
                    continue;
                }
            } else {
                continue;
            }
        }
        let status = format!("{}/status", CONTROL_PLANE.plural);
        let tenant = match deed.resource.as_str() {
            "leases" => deed.name.strip_prefix("tenant-"),
            "namespaces" => whose.get(&deed.name).map(String::as_str),
            resource if resource == status => whose.get(&deed.name).map(String::as_str),
            _ => whose.get(&deed.namespace).map(String::as_str),
        };
        let Some(tenant) = tenant else { continue };
        let leads = leaders
            .get(tenant)
            .is_some_and(|(holder, uid)| !holder.is_empty() && *uid == deed.user_uid);
        if !leads {
            let place = format!("{}/{}", deed.namespace, deed.name);
            let (at, who) = (&deed.at, &deed.user_uid);
            wrong.push(format!(
                "{} {} {place} at {at} by {who}",
                deed.verb, deed.resource
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deed(at: &str, uid: &str, resource: &str, name: &str, response: serde_json::Value) -> Deed {
        Deed {
            verb: "patch".into(),
            resource: resource.into(),
            namespace: "space".into(),
            name: name.into(),
            user: "system:serviceaccount:sublet-system:sublet-syncer".into(),
            user_uid: uid.into(),
            at: at.into(),
            code: 200,
            request: json!({}),
            response,
        }
    }

    #[test]
    fn who_writes_before_it_leads_or_after_is_found() {
        let holder = |holder: &str| json!({"spec": {"holderIdentity": holder}});
        let deeds = [
            deed("1", "2", "configmaps", "early", json!({})),
            deed("2", "2", "leases", "tenant-x", holder("a_1")),
            deed("3", "2", "configmaps", "right", json!({})),
            deed("4", "2", "leases", "tenant-x", holder("a_1")),
            deed("5", "3", "leases", "tenant-x", holder("b_1")),
            deed("6", "2", "configmaps", "late", json!({})),
            deed("7", "3", "configmaps", "right too", json!({})),
            deed("8", "3", "leases", "tenant-x", holder("")),
            deed("9", "3", "configmaps", "given", json!({})),
        ];
        let whose = HashMap::from([("space".to_owned(), "x".to_owned())]);
        let all: Vec<&Deed> = deeds.iter().collect();
        let found = strangers(&all, &whose).join(" ");
        for name in ["early", "late", "given"] {
            assert!(found.contains(&format!("space/{name} ")), "{name}: {found}");
        }
        assert!(!found.contains("right"), "{found}");
    }
}
