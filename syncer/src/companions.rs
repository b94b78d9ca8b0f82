//! What stands beside the objects in a super namespace, that nobody watches: the right to write there, the account that pods
//! run under, and the variables that name the tenant's API server.
//!
//! Where the super cluster refuses something for want of right or account, they are made again. The syncer may neither read nor
//! change them, so one that somebody edited must be deleted before. Nothing is refused for want of the variables, and their
//! ConfigMap may be read: the patrol looks at it, one request for each namespace, and what differs is put right.

use crate::{
    apply::{self, Failure},
    engine::Engine,
    error::Error,
    intake::twin_name,
    live::read,
    table::Entry,
    tenants::Tenant,
    tokens::Age,
};
use api::keys;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tenancy::{
    kind::{self, Resource},
    object::Object,
    tenant::Key,
};
use tokio::time::Instant;

/// A right that was given a moment ago isn't known to every authorizer yet.
const SETTLE: Duration = Duration::from_secs(3);
/// They are made again no oftener, since something else may be wrong: a syncer that is newer than its ClusterRole.
const PERIOD: Duration = Duration::from_secs(30);

/// Namespaces of one tenant in which something was refused, and from when on they are worked again for it.
#[derive(Default)]
pub(crate) struct Refusals {
    due: Mutex<HashMap<Arc<str>, Instant>>,
}

impl Refusals {
    /// Something was refused; the answer is whether the namespace is to be worked again.
    fn note(&self, namespace: &str, now: Instant) -> bool {
        let mut due = self.due.lock();
        match due.get_mut(namespace) {
            Some(at) if now >= *at => {
                *at = now + PERIOD;
                true
            }
            Some(_) => false,
            None => {
                // Of those from long ago nothing is refused any more.
                due.retain(|_, at| now < *at + 2 * PERIOD);
                due.insert(namespace.into(), now + SETTLE);
                false
            }
        }
    }
}

/// Whether the super cluster's words say that a right or the pods' account is missing, and nothing of what was asked.
pub(crate) fn are_missing(words: &str) -> bool {
    words.contains("is forbidden: User") || words.contains("error looking up service account")
}

/// Whether the super cluster's words say that the namespace is going: it is made again once it is gone.
pub(crate) fn are_going(words: &str) -> bool {
    words.contains("because it is being terminated")
}

/// The super cluster refused something in a namespace of the tenant in these words: if what must stand there is missing
/// for longer than a moment, the namespace is worked again.
pub(crate) fn refused(engine: &Engine, tenant: &Tenant, namespace: &str, words: &str) {
    if namespace.is_empty() || !are_missing(words) {
        return;
    }
    if tenant.companions.note(namespace, Instant::now()) {
        tracing::warn!(tenant = %tenant.id, %namespace, err = %words, "a right or an account is missing in a super namespace: they are made again; a RoleBinding of Sublet's there that was edited must be deleted for that");
        let key = Key::new(kind::index("Namespace"), "", namespace);
        tenant.table.suspect(&key);
        engine.down.add(&tenant.id, key);
    }
}

/// What makes a ConfigMap beside the objects what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// It is missing, or was edited.
    Write,
    /// Somebody else made it, or took its label off: it is never touched.
    Foreign,
}

fn step(want: &Object, have: Option<&Object>) -> Step {
    let Some(have) = have else {
        return Step::Write;
    };
    if have.label(keys::MANAGED) != want.label(keys::MANAGED) {
        Step::Foreign
    } else if have.is_terminating() || have.at("/data") == want.at("/data") {
        Step::Nothing
    } else {
        Step::Write
    }
}

/// Makes what must stand beside a super object, and what may be read what it must be.
pub(crate) async fn keep(
    engine: &Engine,
    tenant: &Tenant,
    resource: &Resource,
    want: &Object,
    age: Age,
) -> Result<(), Failure> {
    let may_read = resource.kind == "ConfigMap";
    if age == Age::New || !may_read {
        match apply::create(&engine.cluster, tenant, resource, want).await {
            Err(Failure::Api(Error::AlreadyExists)) if may_read => {}
            Ok(_) | Err(Failure::Api(Error::AlreadyExists)) => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
    let have = find(engine, resource, want).await?;
    match step(want, have.as_ref()) {
        Step::Nothing => Ok(()),
        Step::Foreign => {
            tracing::warn!(tenant = %tenant.id, namespace = want.namespace(), name = want.name(), "a ConfigMap that Sublet didn't make has the name of one that tells containers where the tenant's API server is: remove it");
            Ok(())
        }
        Step::Write => {
            tracing::info!(tenant = %tenant.id, namespace = want.namespace(), name = want.name(), "putting a ConfigMap right that somebody edited or deleted");
            let data = want.at("/data").cloned().unwrap_or_default();
            let (new, fields) = (want.value().clone(), [("/data", data)]);
            apply::put(
                &engine.cluster,
                tenant,
                resource,
                have.as_ref(),
                new,
                &fields,
            )
            .await
        }
    }
}

/// As it is now.
async fn find(
    engine: &Engine,
    resource: &Resource,
    want: &Object,
) -> Result<Option<Object>, Failure> {
    let path = resource.path(want.namespace(), want.name());
    read(&engine.cluster, &path).await
}

/// Queues the namespaces in which the variables that name the API server aren't what they must be.
pub(crate) async fn patrol(engine: &Engine, tenant: &Tenant) -> Result<(), Failure> {
    let resource = kind::rule(kind::index("ConfigMap")).resource();
    let stands = |entry: &Entry| entry.twin.as_ref().is_some_and(|twin| !twin.is_ending());
    for key in tenant.table.keys(kind::index("Namespace"), stands) {
        let twin = twin_name(tenant, &key).name;
        let Some(want) = tenant.with_cx(|cx| kind::environment(&twin, cx)) else {
            return Ok(());
        };
        let have = find(engine, resource, &want).await?;
        if step(&want, have.as_ref()) == Step::Write {
            // It isn't whole until it has been worked again.
            tenant.table.suspect(&key);
            engine.down.add(&tenant.id, key);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake, tenant};
    use serde_json::{Value, json};

    /// A tenant with a Service range, one namespace of it, and the variables that belong into that.
    fn with_range(tenant: &Tenant) -> (Key, Object) {
        let mut rules = (*tenant.rules()).clone();
        rules.slice = Some("10.96.4.0/22".parse().unwrap());
        tenant.revise(rules, tenant.record());
        let key = Key::new(kind::index("Namespace"), "", "work");
        tenant.table.update(&key, |entry| {
            entry.twin = Some(fake::super_side("n", "own"));
        });
        let twin = twin_name(tenant, &key).name;
        let want = tenant.with_cx(|cx| kind::environment(&twin, cx));
        (key, want.unwrap())
    }

    /// As the super cluster has them, or with another value.
    fn stored(want: &Object, value: Option<&str>) -> Value {
        let mut stored = want.value().clone();
        stored["metadata"]["uid"] = "c".into();
        stored["metadata"]["resourceVersion"] = "7".into();
        if let Some(value) = value {
            stored["data"]["KUBERNETES_SERVICE_HOST"] = value.into();
        }
        stored
    }

    fn config_maps() -> &'static Resource {
        kind::rule(kind::index("ConfigMap")).resource()
    }

    #[tokio::test(start_paused = true)]
    async fn variables_that_somebody_edited_or_deleted_are_put_right_and_others_are_not_touched() {
        let ((above, mut super_server), (own, _tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let (_, want) = with_range(&tenant);
        let keep = |age| keep(&engine, &tenant, config_maps(), &want, age);
        let right = stored(&want, None);
        let (kept, _) = tokio::join!(keep(Age::Known), super_server.answer("GET", 200, &right));
        assert!(kept.is_ok(), "{kept:?}");
        // A new namespace costs no read.
        let (kept, _) = tokio::join!(keep(Age::New), super_server.answer("POST", 201, &right));
        assert!(kept.is_ok(), "{kept:?}");
        let edited = stored(&want, Some("10.0.0.1"));
        let exists = json!({"kind": "Status", "code": 409, "message": "configmaps \"sublet-environment\" already exists"});
        for age in [Age::Known, Age::New] {
            let answers = async {
                if age == Age::New {
                    super_server.answer("POST", 409, &exists).await;
                }
                super_server.answer("GET", 200, &edited).await;
                super_server.answer("PATCH", 200, &right).await
            };
            let (kept, patch) = tokio::join!(keep(age), answers);
            assert!(kept.is_ok(), "{kept:?}");
            let operations = patch.body.as_array().unwrap();
            let tests = ["/metadata/uid", "/metadata/resourceVersion"];
            for tested in tests {
                let is_it = |operation: &&Value| operation["path"] == tested;
                let test = operations.iter().find(is_it).unwrap();
                assert_eq!(test["op"], "test", "{test}");
            }
            let written = operations.last().unwrap();
            assert_eq!(written["path"], "/data");
            assert_eq!(Some(&written["value"]), want.at("/data"));
        }
        let answers = async {
            let gone = json!({"kind": "Status", "code": 404});
            super_server.answer("GET", 404, &gone).await;
            super_server.answer("POST", 201, &right).await
        };
        let (kept, made) = tokio::join!(keep(Age::Known), answers);
        assert!(kept.is_ok(), "{kept:?}");
        assert_eq!(Some(&made.body["data"]), want.at("/data"));
        let mut foreign = edited.clone();
        foreign["metadata"]["labels"] = json!({});
        let (kept, _) = tokio::join!(keep(Age::Known), super_server.answer("GET", 200, &foreign));
        assert!(kept.is_ok(), "{kept:?}");
        assert!(super_server.is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn the_patrol_asks_once_for_the_variables_of_a_namespace_and_queues_it_where_they_differ()
    {
        let ((above, mut super_server), (own, _tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let (key, want) = with_range(&tenant);
        let mut foreign = stored(&want, Some("10.0.0.1"));
        foreign["metadata"]["labels"] = json!({});
        let gone = json!({"kind": "Status", "code": 404});
        for (status, have, is_queued) in [
            (200, stored(&want, None), false),
            (200, foreign, false),
            (404, gone, true),
            (200, stored(&want, Some("10.0.0.1")), true),
        ] {
            tenant.table.update(&key, |entry| {
                entry.twin = Some(fake::super_side("n", "own"));
            });
            let (patrolled, asked) = tokio::join!(
                patrol(&engine, &tenant),
                super_server.answer("GET", status, &have)
            );
            patrolled.unwrap();
            assert!(asked.path.ends_with("/configmaps/sublet-environment"));
            assert_eq!(engine.down.has(&tenant.id, &key), is_queued);
            assert_eq!(
                tenant.table.get(&key).twin.unwrap().baseline == 0,
                is_queued
            );
        }
        tenant.table.update(&key, |entry| {
            let twin = entry.twin.as_mut().unwrap();
            twin.ending = Some(0);
        });
        patrol(&engine, &tenant).await.unwrap();
        assert!(super_server.is_silent(), "a suspicion writes nothing");
    }

    #[test]
    fn what_is_refused_for_its_surroundings_is_no_refusal_of_what_was_asked() {
        let account = "pods \"a\" is forbidden: error looking up service account s/sublet: serviceaccount \"sublet\" not found";
        assert!(are_missing(account) && !are_going(account));
        let going = "configmaps \"a\" is forbidden: unable to create new content in namespace s because it is being terminated";
        assert!(are_going(going) && !are_missing(going));
        let policy = "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\"";
        assert!(!are_going(policy) && !are_missing(policy));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_longer_than_a_moment_has_the_namespace_worked_now_and_then() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let note = |seconds| refusals.note("work", start + Duration::from_secs(seconds));
        assert_eq!(
            [0, 2, 3, 4, 32, 33].map(note),
            [false, false, true, false, false, true]
        );
        assert!(!refusals.note("other", start + Duration::from_secs(33)));
        assert_eq!(refusals.due.lock().len(), 2);
        assert!(!refusals.note("third", start + Duration::from_secs(200)));
        assert_eq!(refusals.due.lock().len(), 1);
    }
}
