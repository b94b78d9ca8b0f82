//! How much of each resource of a tenant goes down, by its class and its VirtualControlPlane.

use crate::{
    kind::{Refused, Resource},
    offer::qualified,
};
use api::{SyncObjects, ToSuper};
use std::collections::BTreeMap;

/// Reason of a refusal of a resource that doesn't go down at all.
pub const NOT_SYNCED: &str = "KindNotSynced";

/// What goes down where that isn't the default, by `PLURAL.GROUP`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extent(BTreeMap<String, SyncObjects>);

impl Extent {
    /// What a tenant asks for under its class's ceiling; what neither names is as by default.
    pub fn of(class: &[ToSuper], own: &[ToSuper]) -> Self {
        let find = |list: &[ToSuper], resource: &str| {
            let found = list.iter().find(|entry| entry.resource == resource);
            found.map(|entry| entry.objects)
        };
        let named = class.iter().chain(own).map(|entry| {
            let resource = entry.resource.as_str();
            let ceiling = find(class, resource);
            let asked = find(own, resource).or(ceiling);
            let most = ceiling.unwrap_or(SyncObjects::All);
            let extent = asked.unwrap_or_else(|| by_default(resource)).min(most);
            (resource.to_owned(), extent)
        });
        Self(named.collect())
    }

    /// How much of a resource goes down.
    pub fn objects(&self, resource: &Resource) -> SyncObjects {
        let plural = resource.plural;
        if self.0.is_empty() {
            return by_default(plural);
        }
        let found = self.0.get(&qualified(resource)).copied();
        found.unwrap_or_else(|| by_default(plural))
    }

    /// Refuses what stays in the tenant.
    pub(crate) fn check(&self, resource: &Resource) -> Result<(), Refused> {
        if self.0.is_empty() || self.objects(resource) != SyncObjects::None {
            return Ok(());
        }
        Err(Refused::new(
            NOT_SYNCED,
            format!(
                "{} of this tenant stay in it: the platform, or toSuper of its VirtualControlPlane, says so",
                qualified(resource)
            ),
        ))
    }
}

/// Of ConfigMaps and Secrets what others refer to, of all else all.
fn by_default(resource: &str) -> SyncObjects {
    match resource {
        "configmaps" | "secrets" => SyncObjects::Referenced,
        _ => SyncObjects::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{KINDS, index, rule};

    fn list(entries: &[(&str, SyncObjects)]) -> Vec<ToSuper> {
        let entry = |(resource, objects): &(&str, SyncObjects)| ToSuper {
            resource: (*resource).to_owned(),
            objects: *objects,
        };
        entries.iter().map(entry).collect()
    }

    fn extent(extent: &Extent, kind: &str) -> SyncObjects {
        extent.objects(rule(index(kind)).resource())
    }

    #[test]
    fn what_nobody_names_goes_down_by_default() {
        for given in [
            Extent::default(),
            Extent::of(
                &[],
                &list(&[("ingresses.networking.k8s.io", SyncObjects::None)]),
            ),
        ] {
            assert_eq!(extent(&given, "ConfigMap"), SyncObjects::Referenced);
            assert_eq!(extent(&given, "Secret"), SyncObjects::Referenced);
            assert_eq!(extent(&given, "Pod"), SyncObjects::All);
        }
    }

    #[test]
    fn a_class_is_the_ceiling_and_what_a_tenant_gets_that_says_nothing() {
        let class = list(&[("configmaps", SyncObjects::All)]);
        assert_eq!(
            extent(&Extent::of(&class, &[]), "ConfigMap"),
            SyncObjects::All
        );
        let own = list(&[("configmaps", SyncObjects::Referenced)]);
        let narrowed = Extent::of(&class, &own);
        assert_eq!(extent(&narrowed, "ConfigMap"), SyncObjects::Referenced);
        let more = Extent::of(&own, &class);
        assert_eq!(extent(&more, "ConfigMap"), SyncObjects::Referenced);
        let own = list(&[("secrets", SyncObjects::All)]);
        assert_eq!(extent(&Extent::of(&[], &own), "Secret"), SyncObjects::All);
        let off = list(&[("ingresses.networking.k8s.io", SyncObjects::None)]);
        let on = list(&[("ingresses.networking.k8s.io", SyncObjects::All)]);
        assert_eq!(extent(&Extent::of(&off, &on), "Ingress"), SyncObjects::None);
    }

    #[test]
    fn what_stays_is_refused() {
        let off = Extent::of(
            &[],
            &list(&[("ingresses.networking.k8s.io", SyncObjects::None)]),
        );
        let check = |kind| off.check(rule(index(kind)).resource());
        assert_eq!(check("Ingress").unwrap_err().reason, NOT_SYNCED);
        assert_eq!(check("Service"), Ok(()));
        assert_eq!(
            Extent::default().check(rule(index("Ingress")).resource()),
            Ok(())
        );
    }

    #[test]
    fn the_resources_that_may_stay_are_kinds_that_go_down() {
        let down = KINDS.iter().filter(|kind| kind.goes_down());
        let known: Vec<String> = down.map(|kind| qualified(kind.resource())).collect();
        for name in api::MAY_STAY {
            assert!(known.iter().any(|known| known == name), "{name}");
        }
    }
}
