//! One record for each write, when it is asked for: where, what, why, and the hashes before and after; nothing of what is
//! in an object.

use crate::error::Error;
use api::keys;
use serde_json::Value;

/// What logs are told by, to ask for the records alone.
const TARGET: &str = "audit";

/// A write that was sent. Most are never recorded, so nothing is worked out for it before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Write<'a> {
    /// Identity of the tenant that it is for; empty for what concerns several.
    pub(crate) tenant: &'a str,
    /// `super` or `tenant`.
    pub(crate) side: &'static str,
    /// As Kubernetes calls it.
    pub(crate) verb: &'static str,
    /// Where it was sent to.
    pub(crate) path: &'a str,
    /// Name of the object, where the path has none.
    pub(crate) name: &'a str,
    /// UID of the object, as far as it is known before the write.
    pub(crate) uid: &'a str,
    /// Why it was sent.
    pub(crate) reason: &'static str,
    /// Hash of what was applied before.
    pub(crate) before: &'a str,
}

impl Write<'_> {
    /// Records what came of it. Of a write that was refused nothing is left, and there is no record.
    ///
    /// `result` has the object as it is stored, if the answer shows that.
    pub(crate) fn record(&self, result: Result<Option<&Value>, &Error>) {
        if !tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
            return;
        }
        let (outcome, stored) = match result {
            Ok(stored) => ("done", stored),
            // It was sent, and nobody said what became of it.
            Err(Error::Unavailable(_)) => ("unknown", None),
            Err(_) => return,
        };
        let uid = stored.and_then(|stored| stored.pointer("/metadata/uid")?.as_str());
        let of = PathParts::of(self.path);
        tracing::debug!(
            target: TARGET,
            tenant = self.tenant,
            side = self.side,
            verb = self.verb,
            resource = of.resource,
            namespace = of.namespace,
            name = if of.name.is_empty() { self.name } else { of.name },
            subresource = of.subresource,
            uid = uid.unwrap_or(self.uid),
            reason = self.reason,
            outcome,
            before = self.before,
            after = stored.map(applied).unwrap_or_default(),
            "write"
        );
    }
}

/// The hash of what was applied, as it stands on an object; empty if there is none.
pub(crate) fn applied(object: &Value) -> &str {
    let annotations = object.pointer("/metadata/annotations");
    let hash = annotations.and_then(|annotations| annotations.get(keys::APPLIED)?.as_str());
    hash.unwrap_or_default()
}

/// What a path of the API names; what it doesn't is empty.
#[derive(Debug, PartialEq, Eq)]
struct PathParts<'a> {
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
    subresource: &'a str,
}

impl<'a> PathParts<'a> {
    fn of(path: &'a str) -> Self {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let mut steps = path.split('/').skip(1);
        // The core group has no name.
        let before = if steps.next() == Some("api") { 1 } else { 2 };
        let mut steps = steps.skip(before);
        let mut next = || steps.next().unwrap_or_default();
        let (mut resource, mut namespace, mut name, mut subresource) = (next(), "", next(), next());
        // A namespace, or what is in it; a namespace has three subresources.
        if resource == "namespaces" && !matches!(subresource, "" | "status" | "finalize") {
            (namespace, resource) = (name, subresource);
            (name, subresource) = (next(), next());
        }
        Self {
            resource,
            namespace,
            name,
            subresource,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use serde_json::json;
    use std::{fmt, sync::Arc};
    use tracing::{Event, Metadata, Subscriber, field, span};

    #[test]
    fn a_path_says_what_was_written() {
        let place = |path| {
            let of = PathParts::of(path);
            [of.resource, of.namespace, of.name, of.subresource]
        };
        let cases = [
            ("/api/v1/namespaces/work", ["namespaces", "", "work", ""]),
            (
                "/api/v1/namespaces/work/status",
                ["namespaces", "", "work", "status"],
            ),
            (
                "/api/v1/namespaces/work/pods/web/binding",
                ["pods", "work", "web", "binding"],
            ),
            (
                "/apis/apps/v1/namespaces/work/deployments/web",
                ["deployments", "work", "web", ""],
            ),
            (
                "/apis/storage.k8s.io/v1/storageclasses/fast",
                ["storageclasses", "", "fast", ""],
            ),
            ("/api/v1/namespaces/work/events", ["events", "work", "", ""]),
            (
                "/api/v1/namespaces/work/events?fieldValidation=Strict",
                ["events", "work", "", ""],
            ),
            ("/nonsense", ["", "", "", ""]),
        ];
        for (path, expected) in cases {
            assert_eq!(place(path), expected, "{path}");
        }
    }

    /// Notes the fields of records.
    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Recorder {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == TARGET
        }
        fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}
        fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            struct Fields(String);
            impl field::Visit for Fields {
                fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
                    self.0 += &format!("{field}={value:?} ");
                }
            }
            let mut fields = Fields(String::new());
            event.record(&mut fields);
            self.0.lock().push(fields.0);
        }
        fn enter(&self, _span: &span::Id) {}
        fn exit(&self, _span: &span::Id) {}
    }

    #[tokio::test]
    async fn each_write_leaves_one_record_that_holds_nothing_of_its_object() {
        use crate::{
            apply,
            client::Preconditions,
            fake::{fake, tenant},
        };
        use tenancy::{kind, object::Object};
        let heard = Recorder::default();
        let _guard = tracing::subscriber::set_default(heard.clone());
        let ((above, mut super_server), (own, _tenant_server)) = (fake(), fake());
        let tenant = tenant(&own);
        let secrets = kind::rule(kind::index("Secret")).resource();
        let secret = |hash: &str| {
            json!({
                "metadata": {"name": "a", "namespace": "s", "uid": "u", "resourceVersion": "7", "annotations": {keys::APPLIED: hash}},
                "data": {"password": "c2VjcmV0"},
            })
        };
        let have = Object::from_value(secret("1")).unwrap();
        let patch = tenancy::plan::Patch {
            subresource: None,
            operations: vec![
                json!({"op": "add", "path": "/data", "value": {"password": "c2VjcmV0"}}),
            ],
        };
        let preconditions = Preconditions {
            uid: "u",
            ..Preconditions::default()
        };
        let path = "/api/v1/namespaces/s/secrets/a";
        let writes = async {
            let created = apply::create(&above, &tenant, secrets, &have).await;
            assert!(created.is_ok());
            let refused = apply::create(&above, &tenant, secrets, &have).await;
            assert!(refused.is_err());
            let patched = apply::patch(&above, &tenant, secrets, &have, &[patch]).await;
            assert!(patched.is_ok());
            apply::delete(&above, &tenant, path, &preconditions, "unneeded")
                .await
                .unwrap();
        };
        let answers = async {
            super_server.answer("POST", 201, &secret("1")).await;
            super_server
                .answer("POST", 422, &json!({"message": "c2VjcmV0"}))
                .await;
            super_server.answer("PATCH", 200, &secret("2")).await;
            super_server.answer("DELETE", 200, &json!({})).await;
        };
        tokio::join!(writes, answers);
        let heard = heard.0.lock();
        assert_eq!(heard.len(), 3, "{heard:?}");
        let says = |number: usize, parts: &[&str]| {
            for part in parts {
                assert!(heard[number].contains(part), "{}", heard[number]);
            }
        };
        let of = [
            "side=\"super\"",
            "resource=\"secrets\"",
            "namespace=\"s\"",
            "name=\"a\"",
            "uid=\"u\"",
        ];
        for (number, record) in heard.iter().enumerate() {
            assert!(record.contains(tenant.id.as_str()));
            assert!(!record.contains("c2VjcmV0"), "{record}");
            says(number, &of);
        }
        says(0, &["verb=\"create\"", "after=\"1\""]);
        says(1, &["verb=\"patch\"", "before=\"1\"", "after=\"2\""]);
        says(2, &["verb=\"delete\"", "reason=\"unneeded\""]);
    }
}
