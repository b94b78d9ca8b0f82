//! Keeps the addresses of a tenant's slice that the platform's own Services have reserved in the tenant.
//!
//! One watch of the super cluster's Services that are no tenant's serves all tenants. A tenant is looked at when it begins
//! to be served, when such an address comes or goes, and now and then while it has reservations, since it may delete them.

use crate::{
    apply::{self, Failure},
    engine::Engine,
    error::Error,
    labelled::delete_others,
    tenants::Tenant,
    watch::{self, Sink, Target},
};
use api::keys;
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};
use tenancy::{
    kind::{self, Upward, UpwardVerb},
    object::Object,
    reservation,
    slice::Slice,
};
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

/// How often reservations that there are, are looked at again.
const PERIOD: Duration = Duration::from_secs(300);
/// Until it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Addresses of the super cluster's Services that are no tenant's.
pub(crate) struct Platform {
    inner: Mutex<Inner>,
    /// Counts what changed, from the first complete list on.
    changes: channel::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    /// By namespace and name.
    services: HashMap<(String, String), Vec<Ipv4Addr>>,
    /// What the list that goes on told of.
    told: HashSet<(String, String)>,
    is_complete: bool,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            changes: channel::Sender::new(0),
        }
    }
}

impl Platform {
    fn within(&self, slice: Slice) -> BTreeSet<Ipv4Addr> {
        let inner = self.inner.lock();
        reservation::within(slice, inner.services.values().flatten().copied())
    }

    fn changed(&self, inner: &Inner) {
        if inner.is_complete {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }
}

impl Sink for Platform {
    fn listing(&self) {
        self.inner.lock().told.clear();
    }

    fn applied(&self, object: Object) {
        let place = place(&object);
        let addresses = reservation::addresses(&object);
        let mut inner = self.inner.lock();
        inner.told.insert(place.clone());
        let before = inner.services.insert(place, addresses.clone());
        if before.unwrap_or_default() != addresses {
            self.changed(&inner);
        }
    }

    fn deleted(&self, object: Object) {
        let mut inner = self.inner.lock();
        if inner.services.remove(&place(&object)).is_some() {
            self.changed(&inner);
        }
    }

    fn listed(&self, _version: u64) {
        let mut inner = self.inner.lock();
        let told = std::mem::take(&mut inner.told);
        inner.services.retain(|place, _| told.contains(place));
        inner.is_complete = true;
        self.changed(&inner);
    }
}

fn place(object: &Object) -> (String, String) {
    (object.namespace().to_owned(), object.name().to_owned())
}

/// Watches the super cluster's Services that are no tenant's.
pub(crate) async fn watch_platform(engine: Arc<Engine>, cancel: CancellationToken) {
    let target = Target {
        selector: Some(format!("!{}", keys::TENANT)),
        ..Target::of(kind::rule(kind::index("Service")))
    };
    let sink = &engine.platform;
    watch::run(&engine.cluster, &target, sink, &cancel).await;
}

/// Reserves and releases, until the tenant isn't served.
pub(crate) async fn keep(engine: Arc<Engine>, tenant: Arc<Tenant>) {
    let mut changes = engine.platform.changes.subscribe();
    let mut held = None;
    loop {
        let is_known = *changes.borrow_and_update() > 0;
        let wanted = tenant.rules().slice.filter(|_| is_known);
        let wanted = wanted.map(|slice| engine.platform.within(slice));
        let mut rest = None;
        if let Some(wanted) = wanted.filter(|wanted| held.as_ref() != Some(wanted)) {
            // Part of what must end before the tenant counts as stopped.
            let activity = tenant.activity.token();
            let reserved = Box::pin(reserve(&tenant, &wanted)).await;
            drop(activity);
            match reserved {
                Ok(()) => held = Some(wanted),
                Err(err) => {
                    tracing::debug!(tenant = %tenant.id, %err, "addresses will be reserved again");
                    rest = Some(AGAIN);
                }
            }
        }
        let is_any = held.as_ref().is_some_and(|held| !held.is_empty());
        let rest = rest.or_else(|| is_any.then_some(PERIOD));
        tokio::select! {
            () = tenant.cancel.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(rest.unwrap_or_default()), if rest.is_some() => held = None,
        }
    }
}

/// Makes the tenant hold these reservations and no others.
async fn reserve(tenant: &Tenant, wanted: &BTreeSet<Ipv4Addr>) -> Result<(), Failure> {
    let resource = &reservation::RESOURCE;
    let selector = reservation::selector();
    let mut held = BTreeSet::new();
    let keeps = |object: &Object| {
        let kept = reservation::kept(wanted, object);
        held.extend(kept);
        kept.is_some()
    };
    match delete_others(tenant, resource, &selector, "released", keeps).await {
        // An API server that is older than such objects, or that lets nobody at them: clashes are told of one by one.
        Err(Failure::Api(Error::NotServed | Error::Forbidden(_))) => return Ok(()),
        other => other?,
    }
    for address in wanted.difference(&held).copied() {
        let create = Upward {
            subresource: None,
            verb: UpwardVerb::Create,
            body: reservation::object(address),
            shows: None,
        };
        match apply::upward(tenant, &resource.path("", ""), "", create).await {
            // A Service of the tenant has it: the super cluster's answer to that one is told to it. Or it may not be made.
            Err(Failure::Api(Error::AlreadyExists | Error::Forbidden(_))) => {}
            other => drop(other?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake, tenant};
    use serde_json::{Value, json};

    fn service(name: &str, address: &str) -> Object {
        let metadata = json!({"name": name, "namespace": "platform"});
        Object::from_value(json!({"metadata": metadata, "spec": {"clusterIP": address}})).unwrap()
    }

    fn list(names: &[&str]) -> Value {
        let items = names
            .iter()
            .map(|name| json!({"metadata": {"name": name, "uid": name}}));
        json!({"metadata": {"resourceVersion": "1"}, "items": items.collect::<Vec<_>>()})
    }

    #[test]
    fn what_a_list_tells_of_no_more_is_free() {
        let platform = Platform::default();
        let slice: Slice = "10.96.4.0/22".parse().unwrap();
        platform.listing();
        platform.applied(service("a", "10.96.4.7"));
        platform.applied(service("b", "10.96.4.8"));
        assert_eq!(*platform.changes.borrow(), 0, "the list goes on");
        platform.listed(1);
        assert_eq!(platform.within(slice).len(), 2);
        let known = *platform.changes.borrow();
        platform.applied(service("a", "10.96.4.7"));
        assert_eq!(*platform.changes.borrow(), known, "that is no news");
        platform.listing();
        platform.applied(service("b", "10.96.4.8"));
        platform.listed(2);
        assert_eq!(
            platform.within(slice),
            BTreeSet::from(["10.96.4.8".parse().unwrap()])
        );
        platform.deleted(service("b", "10.96.4.8"));
        assert!(platform.within(slice).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_the_platform_are_reserved_at_once_and_released_when_they_are_free() {
        let ((above, _super_server), (own, mut server)) = (fake(), fake());
        let engine = Arc::new(fake::engine(&above));
        let tenant = Arc::new(tenant(&own));
        let mut rules = (*tenant.rules()).clone();
        rules.slice = Some("10.96.4.0/22".parse().unwrap());
        tenant.revise(rules, tenant.record());
        let kept = tokio::spawn(keep(engine.clone(), tenant.clone()));
        engine.platform.applied(service("a", "10.96.4.7"));
        engine.platform.listed(1);
        server.answer("GET", 200, &list(&[])).await;
        let made = server.answer("POST", 201, &json!({})).await;
        assert_eq!(made.body["metadata"]["name"], "10.96.4.7");
        engine.platform.deleted(service("a", "10.96.4.7"));
        server.answer("GET", 200, &list(&["10.96.4.7"])).await;
        let gone = server.answer("DELETE", 200, &json!({})).await;
        assert_eq!(gone.body["preconditions"]["uid"], "10.96.4.7");
        tenant.cancel.cancel();
        kept.await.unwrap();
        assert!(server.is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_the_tenant_has_given_already_is_left_to_it() {
        let (own, mut server) = fake();
        let tenant = tenant(&own);
        let wanted = BTreeSet::from(["10.96.4.7".parse().unwrap()]);
        let taken = json!({"kind": "Status", "code": 409, "reason": "AlreadyExists", "message": "already exists"});
        let answers = async {
            server.answer("GET", 200, &list(&[])).await;
            server.answer("POST", 409, &taken).await;
        };
        let (reserved, ()) = tokio::join!(reserve(&tenant, &wanted), answers);
        assert!(reserved.is_ok(), "{reserved:?}");
    }
}
