//! Service account tokens of projected volumes: the tenant's, from its own TokenRequest API.
//!
//! A token source becomes a key of one Secret per pod, which the syncer fills. It is not optional: the kubelet retries
//! the mount until the Secret is there, so the pod can be created first and the Secret owned by it.

use super::{
    fields::{Fields, Rule, items, text},
    identity,
};
use crate::{kind::Cx, naming, object::Object};
use serde_json::{Value, json};

/// Default of the API, and the length that is asked for instead of [`ADMISSION_SECONDS`].
const HOUR: i64 = 3600;
/// What the ServiceAccount admission plugin writes into every pod: one hour, marked by the odd seconds as its own, which
/// makes an API server that extends tokens answer with a year.
const ADMISSION_SECONDS: i64 = 3607;

/// ServiceAccountTokenProjection: becomes a key of the pod's token Secret, and a request for what stands there.
pub(super) const SOURCE: Fields = &[
    ("audience", Rule::Translated(&Rule::Pass)),
    ("expirationSeconds", Rule::Translated(&Rule::Pass)),
    ("path", Rule::Translated(&Rule::Pass)),
];

/// One token that a pod's projected volume asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// Key in the data of [`naming::token_secret`].
    pub key: String,
    /// ServiceAccount in the pod's tenant namespace.
    pub service_account: String,
    /// Audience; that of the tenant's API server when absent.
    pub audience: Option<String>,
    /// Lifetime to ask for.
    pub expiration_seconds: i64,
}

/// The tokens that a tenant's pod asks for, one for each source.
pub fn token_requests(pod: &Object) -> Vec<TokenRequest> {
    let spec = pod.at("/spec").unwrap_or(&Value::Null);
    let mut requests = vec![];
    for volume in items(spec, "volumes") {
        let sources = items(volume.get("projected").unwrap_or(&Value::Null), "sources");
        for (index, source) in sources.enumerate() {
            let Some(token) = source
                .get("serviceAccountToken")
                .filter(|token| token.is_object())
            else {
                continue;
            };
            let asked = token
                .get("expirationSeconds")
                .and_then(Value::as_i64)
                .unwrap_or(HOUR);
            requests.push(TokenRequest {
                key: key(text(volume, "name"), index),
                service_account: identity::service_account(pod).to_owned(),
                audience: Some(text(token, "audience"))
                    .filter(|audience| !audience.is_empty())
                    .map(str::to_owned),
                expiration_seconds: if asked == ADMISSION_SECONDS {
                    HOUR
                } else {
                    asked
                },
            });
        }
    }
    requests
}

/// The source that stands for the token source at `index` of a volume.
pub(super) fn secret_source(
    token: &Value,
    volume: &str,
    index: usize,
    pod: &Object,
    cx: &Cx<'_>,
) -> Value {
    json!({"secret": {
        "name": naming::token_secret(&cx.rules.id, pod.uid()),
        "items": [{"key": key(volume, index), "path": text(token, "path")}],
        "optional": false,
    }})
}

/// Unique in a pod: volume names are unique and hold no dot.
fn key(volume: &str, index: usize) -> String {
    format!("{volume}.{index}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::pod::tests::{default_pod, down, pod, yaml};
    use expect_test::expect;

    #[test]
    fn the_token_of_the_default_pod_is_asked_for_an_hour() {
        let request = TokenRequest {
            key: "kube-api-access-x7k2p.0".into(),
            service_account: "default".into(),
            audience: None,
            expiration_seconds: 3600,
        };
        assert_eq!(token_requests(&default_pod()), [request]);
    }

    #[test]
    fn each_source_has_its_key_and_the_volume_keeps_the_rest() {
        let pod = pod("
          serviceAccountName: builder
          volumes:
          - name: v
            projected:
              defaultMode: 256
              sources:
              - {secret: {name: s, optional: true}}
              - {serviceAccountToken: {path: a, audience: vault, expirationSeconds: 7200}}
              - {serviceAccountToken: {path: b}}
          - {name: w, projected: {sources: [{serviceAccountToken: {path: c, audience: ''}}]}}");
        let requests = token_requests(&pod);
        let brief: Vec<_> = requests
            .iter()
            .map(|r| (r.key.as_str(), r.audience.as_deref(), r.expiration_seconds))
            .collect();
        assert_eq!(
            brief,
            [
                ("v.1", Some("vault"), 7200),
                ("v.2", None, 3600),
                ("w.0", None, 3600)
            ]
        );
        assert!(
            requests
                .iter()
                .all(|request| request.service_account == "builder")
        );
        expect![[r#"
            - name: v
              projected:
                defaultMode: 256
                sources:
                - secret:
                    name: s
                    optional: true
                - secret:
                    items:
                    - key: v.1
                      path: a
                    name: sublet-token-n5acoogskkoteo3njnegag4xw4
                    optional: false
                - secret:
                    items:
                    - key: v.2
                      path: b
                    name: sublet-token-n5acoogskkoteo3njnegag4xw4
                    optional: false
            - name: w
              projected:
                sources:
                - secret:
                    items:
                    - key: w.0
                      path: c
                    name: sublet-token-n5acoogskkoteo3njnegag4xw4
                    optional: false
        "#]]
        .assert_eq(&yaml(down(&pod).at("/spec/volumes").unwrap()));
    }

    #[test]
    fn another_incarnation_has_another_secret() {
        let mut pod = default_pod();
        let name = |pod: &Object| {
            down(pod)
                .text("/spec/volumes/0/projected/sources/0/secret/name")
                .unwrap()
                .to_owned()
        };
        let first = name(&pod);
        pod.value_mut()["metadata"]["uid"] = "other".into();
        assert_ne!(first, name(&pod));
        assert!(first.starts_with(naming::TOKEN_PREFIX));
    }
}
