//! What a tenant may use and uses: its own quota, and the budgets of groups that it shares with others.

use crate::{cluster::Cluster, table::Table};
use anyhow::Result;
use api::{ControlPlaneGroup, QuotaStatus, VirtualControlPlane};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tenancy::quota::amount::{Amounts, parse, shown};

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Whose it is: the tenant's own, or which group's.
    pub(crate) of: String,
    /// Such as `requests.cpu`.
    pub(crate) name: String,
    /// What is used of it, by all who share it.
    pub(crate) used: String,
    /// What of that is the tenant's.
    pub(crate) own: String,
    /// The limit.
    pub(crate) hard: String,
}

impl Limit {
    /// Whether nothing is left.
    pub(crate) fn is_full(&self) -> bool {
        match (parse(&self.used), parse(&self.hard)) {
            (Some(used), Some(hard)) => used >= hard,
            _ => false,
        }
    }
}

/// The groups that a tenant belongs to; `None` when they may not be listed.
pub(crate) async fn groups(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
) -> Result<Option<Vec<ControlPlaneGroup>>> {
    let api: Api<ControlPlaneGroup> = Api::all(cluster.client.clone());
    let mut groups = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(err) if crate::error::is_forbidden(&err) => return Ok(None),
        Err(err) => return Err(err.into()),
    };
    let namespace = vcp.namespace().unwrap_or_default();
    groups.retain(|group| group.spec.namespaces.contains(&namespace));
    Ok(Some(groups))
}

/// All limits that a tenant is under.
pub(crate) fn limits(vcp: &VirtualControlPlane, groups: &[ControlPlaneGroup]) -> Vec<Limit> {
    let status = vcp.status.as_ref().and_then(|status| status.quota.as_ref());
    let mut limits: Vec<Limit> = status
        .into_iter()
        .flat_map(|quota| rows(quota, "the tenant", |_, used| used.to_owned()))
        .collect();
    let identity = vcp.spec.identity.clone().unwrap_or_default();
    for group in groups {
        let Some(status) = &group.status else {
            continue;
        };
        if group.spec.quota.is_empty() {
            // It had a budget once.
            continue;
        }
        let share = status.shares.get(&identity);
        let own = |name: &str, _: &str| {
            let found = share.and_then(|share| share.used.0.get(name));
            found.cloned().unwrap_or_else(|| "0".to_owned())
        };
        let of = format!("group {}", group.name_any());
        limits.extend(status.quota.iter().flat_map(|quota| rows(quota, &of, own)));
    }
    limits
}

fn rows(quota: &QuotaStatus, of: &str, own: impl Fn(&str, &str) -> String) -> Vec<Limit> {
    let rows = quota.hard.iter().map(|(name, hard)| {
        let used = quota.used.get(name).cloned();
        let used = used.unwrap_or_else(|| "0".to_owned());
        Limit {
            of: of.to_owned(),
            name: name.clone(),
            own: own(name, &used),
            used,
            hard: hard.clone(),
        }
    });
    rows.collect()
}

/// The limits as a table, with what an object asks for of each where that is known.
pub(crate) fn table(limits: &[Limit], asks: Option<&Amounts>) -> Table {
    let mut table = match asks {
        Some(_) => Table::new(&["LIMIT", "SCOPE", "USED", "USED-HERE", "HARD", "REQUESTED"]),
        None => Table::new(&["LIMIT", "SCOPE", "USED", "USED-HERE", "HARD"]),
    };
    for limit in limits {
        let mut row = vec![
            limit.name.clone(),
            limit.of.clone(),
            limit.used.clone(),
            limit.own.clone(),
            limit.hard.clone(),
        ];
        if let Some(asks) = asks {
            let asked = asks.get(&limit.name);
            row.push(asked.map_or_else(|| "-".to_owned(), |asked| shown(&limit.name, *asked)));
        }
        table.row(row);
    }
    table
}

/// The same as data. What nobody asks for is null.
pub(crate) fn data(limits: &[Limit], asks: Option<&Amounts>) -> Vec<Value> {
    let rows = limits.iter().map(|limit| {
        let asked = asks.and_then(|asks| asks.get(&limit.name));
        json!({
            "name": limit.name, "of": limit.of, "used": limit.used, "usedByTenant": limit.own, "hard": limit.hard,
            "requested": asked.map(|asked| shown(&limit.name, *asked)),
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style;
    use expect_test::expect;

    #[test]
    fn limits_of_the_tenant_and_of_its_groups_stand_beside_each_other() {
        let vcp: VirtualControlPlane = serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "acme"}, "spec": {"identity": "a".repeat(26)},
            "status": {"quota": {"hard": {"pods": "20"}, "used": {"pods": "3"}}},
        }))
        .unwrap();
        let group: ControlPlaneGroup = serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "ControlPlaneGroup", "metadata": {"name": "g"},
            "spec": {"namespaces": ["acme"], "quota": {"pods": "9"}},
            "status": {"quota": {"hard": {"pods": "9"}, "used": {"pods": "9"}},
                "shares": {"a".repeat(26): {"controlPlane": "acme/a", "used": {"pods": "3"}}}},
        }))
        .unwrap();
        let limits = limits(&vcp, &[group]);
        let full: Vec<bool> = limits.iter().map(Limit::is_full).collect();
        assert_eq!(full, [false, true]);
        let asks = Amounts::from([("pods".to_owned(), 1000)]);
        expect![[r#"
            LIMIT   SCOPE        USED   USED-HERE   HARD   REQUESTED
            pods    the tenant   3      3           20     1
            pods    group g      9      3           9      1
        "#]]
        .assert_eq(&table(&limits, Some(&asks)).render(style::plain(), None));
        assert_eq!(
            data(&limits, Some(&asks))[1],
            json!({"name": "pods", "of": "group g", "used": "9", "usedByTenant": "3", "hard": "9", "requested": "1"})
        );
        assert_eq!(data(&limits, None)[0]["requested"], Value::Null);
    }
}
