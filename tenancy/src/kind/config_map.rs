//! ConfigMaps: copied when something that runs needs them. The smallest kind: read it first.
//!
//! `kube-root-ca.crt` holds the tenant's CA, and the super cluster puts its own under that name into every namespace;
//! [`crate::refs::config_map_name`] keeps the two apart.

use super::{Cx, Kind, Refused, Resource};
use crate::{meta, object::Object, refs};
use api::SyncObjects;

pub(super) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    namespaced: true,
};

/// The kind.
#[derive(Debug)]
pub(super) struct ConfigMap;

impl Kind for ConfigMap {
    fn resource(&self) -> &'static Resource {
        &RESOURCE
    }

    fn super_name(&self, name: &str, _cx: &Cx<'_>) -> String {
        refs::config_map_name(name)
    }

    fn down(&self, object: &Object, cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        if object.namespace() == "kube-system"
            && [api::MARK_NAME, api::QUOTA_NAME].contains(&object.name())
        {
            // Sublet's own, and different every few seconds.
            return Ok(None);
        }
        if cx.rules.to_super.objects(&RESOURCE) != SyncObjects::All
            && !cx
                .facts
                .is_referenced(&RESOURCE, object.namespace(), object.name())
        {
            return Ok(None);
        }
        let mut twin = meta::twin(&RESOURCE, object, &self.super_name(object.name(), cx), cx);
        // `immutable` stays behind: the tenant's API server upholds it, and a copy must be mendable.
        for field in ["data", "binaryData"] {
            if let Some(value) = object.value().get(field) {
                twin.value_mut()[field] = value.clone();
            }
        }
        Ok(Some(twin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::testing::{Answers, object, tenant};
    use serde_json::json;

    fn root_ca() -> Object {
        object(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
            "metadata": {"name": "kube-root-ca.crt", "namespace": "default", "uid": "u", "labels": {"a": "b"}},
            "data": {"ca.crt": "PEM"}, "binaryData": {"b": "AA=="},
        }))
    }

    #[test]
    fn it_crosses_when_referred_to_under_its_own_root_ca_name() {
        let (tenant, facts) = (
            tenant(),
            Answers {
                referenced: true,
                ..Answers::default()
            },
        );
        let twin = ConfigMap
            .down(
                &root_ca(),
                &Cx {
                    rules: &tenant,
                    facts: &facts,
                },
            )
            .unwrap()
            .unwrap();
        assert_eq!(twin.name(), "kube-root-ca.crt.tenant");
        assert_eq!(twin.at("/data"), root_ca().at("/data"));
        assert_eq!(twin.at("/binaryData"), root_ca().at("/binaryData"));
        assert_eq!(twin.at("/immutable"), None);
        // Whatever gathers ConfigMaps by label, dashboards for instance, finds none of a tenant's.
        assert_eq!(twin.label("a"), None);
    }

    #[test]
    fn it_stays_when_nothing_refers_to_it_unless_all_go_down() {
        let (mut tenant, facts) = (tenant(), Answers::default());
        assert_eq!(
            ConfigMap.down(
                &root_ca(),
                &Cx {
                    rules: &tenant,
                    facts: &facts
                }
            ),
            Ok(None)
        );
        let all = api::ToSuper {
            resource: "configmaps".into(),
            objects: SyncObjects::All,
        };
        tenant.to_super = crate::to_super::Extent::of(&[], &[all]);
        assert!(
            ConfigMap
                .down(
                    &root_ca(),
                    &Cx {
                        rules: &tenant,
                        facts: &facts
                    }
                )
                .unwrap()
                .is_some()
        );
    }
}
