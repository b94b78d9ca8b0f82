//! Secrets: copied when something that runs needs them.
//!
//! The super cluster's Secrets are watched by nobody here: a cluster-wide watch would hand the syncer every Secret of
//! the platform. They are read one super namespace at a time, by a RoleBinding made with the namespace.

use super::{Cx, Kind, Refused, Resource, SuperWatch};
use crate::{meta, naming, object::Object};
use api::SyncObjects;

pub(super) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    namespaced: true,
};

/// Types whose meaning the super cluster would act on: its token controller fills one and its bootstrap signer reads
/// the other.
const ACTED_ON: [&str; 2] = [
    "kubernetes.io/service-account-token",
    "bootstrap.kubernetes.io/token",
];

/// The kind.
#[derive(Debug)]
pub(super) struct Secret;

impl Kind for Secret {
    fn resource(&self) -> &'static Resource {
        &RESOURCE
    }

    fn super_watch(&self) -> SuperWatch {
        SuperWatch::Never
    }

    fn down(&self, object: &Object, cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        if cx.rules.to_super.objects(&RESOURCE) != SyncObjects::All
            && !cx
                .facts
                .is_referenced(&RESOURCE, object.namespace(), object.name())
        {
            return Ok(None);
        }
        if object.name().starts_with(naming::TOKEN_PREFIX) {
            return Err(Refused::new(
                "ReservedName",
                format!(
                    "Secret names that begin with {} are Sublet's own: choose another name",
                    naming::TOKEN_PREFIX
                ),
            ));
        }
        let mut twin = meta::twin(&RESOURCE, object, object.name(), cx);
        if let Some(data) = object.value().get("data") {
            twin.value_mut()["data"] = data.clone();
        }
        let kind = object.text("/type").unwrap_or("Opaque");
        twin.value_mut()["type"] = if ACTED_ON.contains(&kind) {
            "Opaque"
        } else {
            kind
        }
        .into();
        Ok(Some(twin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::testing::{Answers, object, tenant};
    use serde_json::json;

    fn down(name: &str, kind: &str) -> Result<Option<Object>, Refused> {
        let secret = object(json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind,
            "metadata": {"name": name, "namespace": "default", "uid": "u", "labels": {"argocd": "repository"},
                "annotations": {"kubernetes.io/service-account.name": "default"}},
            "data": {"token": "eA=="},
        }));
        let facts = Answers {
            referenced: true,
            ..Answers::default()
        };
        Secret.down(
            &secret,
            &Cx {
                rules: &tenant(),
                facts: &facts,
            },
        )
    }

    #[test]
    fn the_type_is_kept_unless_the_super_cluster_would_act_on_it() {
        assert_eq!(
            down("a", "kubernetes.io/tls")
                .unwrap()
                .unwrap()
                .text("/type"),
            Some("kubernetes.io/tls")
        );
        let token = down("a", "kubernetes.io/service-account-token")
            .unwrap()
            .unwrap();
        assert_eq!(token.text("/type"), Some("Opaque"));
        assert_eq!(token.label("argocd"), None);
        assert_eq!(token.annotation("kubernetes.io/service-account.name"), None);
        assert_eq!(token.text("/data/token"), Some("eA=="));
    }

    #[test]
    fn the_names_of_token_secrets_are_reserved() {
        assert_eq!(
            down("sublet-token-x", "Opaque").unwrap_err().reason,
            "ReservedName"
        );
    }
}
