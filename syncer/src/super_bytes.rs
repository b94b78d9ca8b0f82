//! The bytes of a tenant's objects in the super cluster, held under a limit ([`tenancy::quota::bytes`]).
//!
//! Each entry of the table says how large its super object is, as the last answer or event told, and the table their sum.
//! What is about to be made or to grow is reserved beside that. After a start the watches tell of all that exists before
//! anything is made; Secrets, which nobody watches, are listed for it.

use crate::{
    apply::Failure,
    companions,
    engine::Engine,
    error::Error,
    intake::{self, is_twin, twin_name},
    quota,
    table::SuperSide,
    tenants::Tenant,
    watch::{self, Target},
};
use api::keys;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tenancy::{
    kind::{self, Refused, SuperWatch},
    meta,
    object::Object,
    quota::bytes::{self, Ledger, NoRoom, Outcome},
    tenant::Key,
};

/// What is reserved, and who waits.
#[derive(Default)]
pub(crate) struct SuperBytes {
    ledger: Mutex<Ledger>,
    /// What was last shown to be used.
    shown: AtomicU64,
}

impl SuperBytes {
    /// Takes up a limit, if it is news; who waits is worked again.
    pub(crate) fn limit(&self, limit: u64) -> Option<Vec<Key>> {
        let mut ledger = self.ledger.lock();
        // Whoever finds no room yet waits again.
        (ledger.most() != limit).then(|| ledger.limit(limit, 0))
    }

    /// Not all that exists is known yet.
    pub(crate) fn count(&self) {
        self.ledger.lock().count();
    }

    /// Whether that is so.
    pub(crate) fn is_counting(&self) -> bool {
        self.ledger.lock().is_counting()
    }
}

/// Room for one write.
pub(crate) struct Room<'a> {
    engine: &'a Engine,
    tenant: &'a Tenant,
    key: &'a Key,
    outcome: Outcome,
}

impl Room<'_> {
    /// The write came to this.
    pub(crate) fn end<T>(mut self, made: &Result<T, Failure>) {
        let is_known = match made {
            Ok(_) => true,
            Err(Failure::Api(error)) => matches!(
                error,
                Error::Invalid(_) | Error::Forbidden(_) | Error::NotServed
            ),
            // It may exist already, and is worked again.
            Err(_) => false,
        };
        if is_known {
            self.outcome = Outcome::Known;
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let (key, outcome) = (self.key, self.outcome);
        change(self.engine, self.tenant, |ledger, used| {
            ledger.settle(key, used, outcome)
        });
        let rounded = bytes::rounded(self.tenant.table.super_bytes());
        if is_shown(self.tenant) && self.tenant.quota.bytes.shown.load(Ordering::Relaxed) != rounded
        {
            self.tenant.quota.look_again();
        }
    }
}

/// Changes the ledger; what is used is read while it is held, or what was settled meanwhile would count nowhere.
fn change(engine: &Engine, tenant: &Tenant, change: impl FnOnce(&mut Ledger, u64) -> Vec<Key>) {
    let woken = {
        let mut ledger = tenant.quota.bytes.ledger.lock();
        change(&mut ledger, tenant.table.super_bytes())
    };
    quota::wake(engine, tenant, woken);
}

/// Reserves what a super object takes beside what it has, before it is made or changed.
///
/// # Errors
///
/// What exists isn't known yet.
pub(crate) fn reserve<'a>(
    engine: &'a Engine,
    tenant: &'a Tenant,
    key: &'a Key,
    twin: Option<&SuperSide>,
    want: &Object,
) -> Result<Result<Room<'a>, Refused>, Failure> {
    let is_applied = twin.is_some_and(|twin| twin.applied == meta::applied(want));
    let growth = if is_applied {
        // As it was when it was granted; API servers may write it shorter.
        0
    } else {
        bytes::of(want).saturating_sub(tenant.table.get(key).bytes)
    };
    let reserved = {
        let mut ledger = tenant.quota.bytes.ledger.lock();
        ledger.reserve(key, tenant.table.super_bytes(), growth.into())
    };
    match reserved {
        Ok(()) => Ok(Ok(Room {
            engine,
            tenant,
            key,
            outcome: Outcome::Unknown,
        })),
        Err(NoRoom::Uncounted) => Err(Failure::Waiting(
            "the bytes of the tenant's objects are being counted",
        )),
        Err(NoRoom::Exceeded {
            growth,
            used,
            limit,
        }) => Ok(Err(Refused::new(
            quota::EXCEEDED,
            bytes::explain(growth, used, limit),
        ))),
    }
}

/// Super objects may take less than before.
pub(crate) fn freed(engine: &Engine, tenant: &Tenant) {
    change(engine, tenant, Ledger::freed);
}

/// The key has been worked; nothing is reserved for it any more.
pub(crate) fn let_go(engine: &Engine, tenant: &Tenant, key: &Key) {
    change(engine, tenant, |ledger, used| ledger.let_go(key, used));
}

/// Nothing of the object is wanted any more.
pub(crate) fn forget(engine: &Engine, tenant: &Tenant, key: &Key) {
    change(engine, tenant, |ledger, used| ledger.forget(key, used));
}

/// Whether somebody named the limit: then it is shown with the others.
fn is_shown(tenant: &Tenant) -> bool {
    tenant.rules().quota.contains_key(bytes::NAME)
}

/// What is used, and the limit, as amounts of a quota; nothing where nobody named it.
pub(crate) fn state(tenant: &Tenant) -> Option<(i128, i128)> {
    if !is_shown(tenant) {
        return None;
    }
    let used = bytes::rounded(tenant.table.super_bytes());
    tenant.quota.bytes.shown.store(used, Ordering::Relaxed);
    let limit = tenant.quota.bytes.ledger.lock().most();
    Some((bytes::amount(used), bytes::amount(limit)))
}

/// Learns how large the super objects are of which no watch tells.
pub(crate) async fn count(engine: &Engine, tenant: &Tenant) -> Result<(), Failure> {
    engine.super_known().await;
    for kind in tenant.kinds() {
        let rule = kind::rule(kind);
        if rule.goes_down() && rule.super_watch() == SuperWatch::Never {
            list(engine, tenant, kind).await?;
        }
    }
    change(engine, tenant, |ledger, _| ledger.counted());
    Ok(())
}

/// Lists one kind in each of the tenant's super namespaces, the only places where the syncer may.
async fn list(engine: &Engine, tenant: &Tenant, kind: u8) -> Result<(), Failure> {
    let rule = kind::rule(kind);
    let namespaces = kind::index("Namespace");
    for namespace in tenant.table.keys(namespaces, |entry| entry.twin.is_some()) {
        let place = twin_name(tenant, &namespace).name;
        let target = Target {
            path: rule.resource().path(&place, ""),
            selector: Some(format!("{}={},!{}", keys::TENANT, tenant.id, keys::ROLE)),
            ..Target::of(rule)
        };
        let tell = |object: Object| learn(engine, tenant, kind, &object);
        match watch::each(&engine.cluster, &target, tell).await {
            // Without the right nothing is made there, either; the patrol lists it once the right is back.
            Err(Error::Forbidden(words)) => {
                companions::refused(engine, tenant, &namespace.name, &words);
            }
            other => other?,
        }
    }
    Ok(())
}

/// Takes up a super object that a list told of; what is known of it already is newer.
fn learn(engine: &Engine, tenant: &Tenant, kind: u8, object: &Object) {
    let owner = meta::owner(object)
        .filter(|owner| owner.tenant == tenant.id && meta::is_in_place(object, owner));
    let Some(owner) = owner else {
        return;
    };
    let key = Key::new(kind, &owner.namespace, &owner.name);
    let twin = tenant.table.get(&key).twin;
    // One that was led elsewhere meanwhile may have grown.
    let is_news = twin.is_none_or(|twin| twin.version < object.resource_version());
    if is_news && is_twin(tenant, &key, object) {
        intake::seen_in_super(engine, tenant, &key, object, &owner.uid);
        // The tenant may lack it by now.
        engine.down.add(&tenant.id, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake, tenant};
    use serde_json::{Value, json};

    fn key(name: &str) -> Key {
        Key::new(kind::index("Secret"), "n", name)
    }

    fn object(tenant: &Tenant, name: &str, bytes: usize) -> Value {
        let place = tenancy::naming::super_namespace(&tenant.id, "acme", "n");
        json!({
            "apiVersion": "v1", "kind": "Secret", "data": {"k": "x".repeat(bytes)},
            "metadata": {
                "name": name, "namespace": place, "uid": name, "resourceVersion": "7",
                "labels": {keys::TENANT: tenant.id.as_str()},
                "annotations": {keys::NAMESPACE: "n", keys::NAME: name, keys::UID: "u"},
            },
        })
    }

    /// Reserves room for an object that isn't there.
    fn asks<'a>(
        engine: &'a Engine,
        tenant: &'a Tenant,
        key: &'a Key,
        bytes: usize,
    ) -> Result<Result<Room<'a>, Refused>, Failure> {
        let want = Object::from_value(object(tenant, &key.name, bytes)).unwrap();
        reserve(engine, tenant, key, None, &want)
    }

    /// T43: many that are made at once take no more than there is, and what ends gives its room to those who wait.
    #[test]
    fn t43_the_bytes_of_super_objects_stay_below_the_limit() {
        let (cluster, _server) = fake();
        let (engine, tenant) = (fake::engine(&cluster), tenant(&cluster));
        tenant.quota.bytes.limit(10_000);
        let (one, two) = (key("one"), key("two"));
        let room = asks(&engine, &tenant, &one, 6_000).unwrap().unwrap();
        let refused = asks(&engine, &tenant, &two, 6_000).unwrap().err().unwrap();
        assert_eq!(refused.reason, quota::EXCEEDED);
        assert!(refused.message.contains(bytes::NAME), "{}", refused.message);

        let stored = Object::from_value(object(&tenant, "one", 6_000)).unwrap();
        intake::seen_in_super(&engine, &tenant, &one, &stored, "u");
        room.end(&Ok(()));
        assert_eq!(tenant.table.super_bytes(), u64::from(bytes::of(&stored)));
        assert!(asks(&engine, &tenant, &two, 6_000).unwrap().is_err());
        // An older state of it says nothing.
        let mut older = object(&tenant, "one", 10);
        older["metadata"]["resourceVersion"] = "6".into();
        let older = Object::from_value(older).unwrap();
        intake::seen_in_super(&engine, &tenant, &one, &older, "u");
        assert_eq!(tenant.table.super_bytes(), u64::from(bytes::of(&stored)));

        assert!(!engine.down.has(&tenant.id, &two));
        assert!(intake::gone_in_super(&engine, &tenant, &one, "one"));
        assert_eq!(tenant.table.super_bytes(), 0);
        assert!(engine.down.has(&tenant.id, &two), "it is worked again");
        assert!(asks(&engine, &tenant, &two, 6_000).unwrap().is_ok());
    }

    #[test]
    fn a_write_that_was_never_answered_keeps_its_room() {
        let (cluster, _server) = fake();
        let (engine, tenant) = (fake::engine(&cluster), tenant(&cluster));
        tenant.quota.bytes.limit(10_000);
        let (one, two) = (key("one"), key("two"));
        let room = asks(&engine, &tenant, &one, 6_000).unwrap().unwrap();
        room.end::<()>(&Err(Failure::Api(Error::Unavailable("late".into()))));
        assert!(asks(&engine, &tenant, &two, 6_000).unwrap().is_err());
        forget(&engine, &tenant, &one);
        assert!(asks(&engine, &tenant, &two, 6_000).unwrap().is_ok());
    }

    /// T43: what was made before a restart counts before anything else is made.
    #[tokio::test]
    async fn t43_secrets_are_counted_before_anything_grows() {
        let (cluster, mut server) = fake();
        let (engine, tenant) = (fake::engine(&cluster), tenant(&cluster));
        tenant.quota.bytes.limit(10_000);
        tenant.quota.bytes.count();
        let namespace = Key::new(kind::index("Namespace"), "", "n");
        tenant.table.update(&namespace, |entry| {
            entry.twin = Some(fake::super_side("n", "own"));
        });
        let two = key("two");
        assert!(asks(&engine, &tenant, &two, 6_000).is_err());
        let list = json!({
            "kind": "SecretList", "metadata": {"resourceVersion": "9"}, "items": [object(&tenant, "one", 6_000)],
        });
        let (listed, asked) = tokio::join!(
            super::list(&engine, &tenant, kind::index("Secret")),
            server.answer("GET", 200, &list)
        );
        assert!(listed.is_ok(), "{listed:?}");
        assert!(asked.path.ends_with("/secrets"), "{}", asked.path);
        change(&engine, &tenant, |ledger, _| ledger.counted());
        assert!(tenant.table.super_bytes() > 6_000);
        assert!(asks(&engine, &tenant, &two, 6_000).unwrap().is_err());
        assert!(asks(&engine, &tenant, &two, 2_000).unwrap().is_ok());
    }
}
