//! What the syncer says of a tenant on its VirtualControlPlane: the conditions `Synced`, `DeletionsHeld`
//! and `TenantIdentityChanged`; and the way in which it says things.

use crate::{
    apply::{self, Failure},
    engine::Engine,
    error::Error,
    gate::{Health, Hold},
    live::read,
    parked, paths,
    tenants::{Tenant, unknown},
    term::{Permit, Term},
    untaken,
};
use api::{Condition, SyncStatus, VirtualControlPlane, set_condition};
use futures::{StreamExt, stream};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tenancy::{object::Object, tenant::TenantId};

/// Reason and message for a tenant for which nothing is written any more.
const OVER: (&str, &str) = ("Stopped", "the syncer doesn't serve this tenant");
/// So many tenants' conditions are written at once.
const AT_ONCE: usize = 16;
/// Tries to write a condition, since the manager writes to the same object.
const TRIES: usize = 8;
/// When conditions are tried again that couldn't be written.
pub(crate) const SAY_AGAIN: Duration = Duration::from_secs(5);

/// What is to be said on a VirtualControlPlane.
pub(crate) struct Saying<'a> {
    /// Those that aren't named stay as they are.
    pub(crate) conditions: &'a [Condition],
    pub(crate) sync: SyncField,
}

/// What becomes of the field that tells of the lag.
pub(crate) enum SyncField {
    Stays,
    /// Nobody knows any more.
    Goes,
    Is(SyncStatus),
}

impl SyncField {
    /// What is to be written, beside what stands there; the time of an observation is none.
    fn news(&self, stands: Option<&Value>) -> Option<Value> {
        let stands = stands.filter(|stands| !stands.is_null());
        let but_time = |mut sync: Value| {
            sync["observedTime"].take();
            sync
        };
        match self {
            Self::Stays => None,
            Self::Goes => stands.map(|_| Value::Null),
            Self::Is(sync) => {
                let sync = serde_json::to_value(sync).unwrap_or_default();
                let is_said = stands.map(|stands| but_time(stands.clone()));
                (is_said != Some(but_time(sync.clone()))).then_some(sync)
            }
        }
    }
}

/// The VirtualControlPlane that a condition is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlPlane {
    pub(crate) id: TenantId,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ControlPlane {
    pub(crate) fn of(tenant: &Tenant) -> Self {
        let rules = tenant.rules();
        Self {
            id: tenant.id.clone(),
            namespace: rules.vcp_namespace.clone(),
            name: rules.vcp_name.clone(),
        }
    }

    /// The VirtualControlPlane as it is now, if it is there and still this tenant's.
    pub(crate) async fn read(&self, engine: &Engine) -> Result<Option<Object>, Failure> {
        let path = paths::control_plane(&self.namespace, &self.name);
        let found = read(&engine.cluster, &path).await?;
        Ok(found.filter(|vcp| vcp.text("/spec/identity") == Some(self.id.as_str())))
    }
}

/// Writes the condition whenever it changes, until the tenant is no longer served.
pub(crate) async fn report(engine: Arc<Engine>, tenant: Arc<Tenant>) {
    let mut health = tenant.gate.health();
    let mut guard = engine.guard.missing();
    let mut is_news = true;
    loop {
        // What began and ended meanwhile is news, too.
        is_news |= health.has_changed().unwrap_or_default();
        let now = health.borrow_and_update().clone();
        if std::mem::take(&mut is_news) {
            parked::free(&engine, &tenant);
        }
        let unguarded = guard.borrow_and_update().clone();
        let left_out: Vec<String> = unknown(&tenant.rules()).map(str::to_owned).collect();
        let too_many = untaken::words(&tenant);
        let mut conditions = vec![unguarded.map_or_else(
            || synced(&now, &left_out, too_many.as_deref()),
            |missing| unheld(&missing),
        )];
        if now.examined || !now.holds.is_empty() {
            conditions.extend(holds(&now));
        }
        // Part of what must end before the tenant counts as stopped.
        let activity = tenant.activity.token();
        let permit = tenant.permit();
        let control_plane = ControlPlane::of(&tenant);
        tenant.said(conditions.iter().map(essence).collect());
        let saying = Saying {
            conditions: &conditions,
            sync: SyncField::Stays,
        };
        let said = Box::pin(say(&engine, &control_plane, &saying, &permit)).await;
        drop(activity);
        tokio::select! {
            () = tenant.cancel.cancelled() => return,
            changed = health.changed() => match changed {
                Ok(()) => is_news = true,
                Err(_) => return,
            },
            changed = guard.changed() => if changed.is_err() { return },
            () = tenant.unsaid.notified() => {}
            () = tokio::time::sleep(SAY_AGAIN), if !said => {}
        }
    }
}

/// What a VirtualControlPlane says of the syncer: type, status and reason of each condition, in the order of [`report`].
pub(crate) fn told(vcp: &VirtualControlPlane) -> Vec<(String, String, String)> {
    let conditions = vcp.status.iter().flat_map(|status| &status.conditions);
    let of = |type_: &str| {
        conditions
            .clone()
            .find(|condition| condition.type_ == type_)
    };
    ["Synced", "DeletionsHeld", "TenantIdentityChanged"]
        .into_iter()
        .filter_map(of)
        .map(essence)
        .collect()
}

fn essence(condition: &Condition) -> (String, String, String) {
    let Condition {
        type_,
        status,
        reason,
        ..
    } = condition;
    (type_.clone(), status.clone(), reason.clone())
}

/// Says that nothing is written for this tenant any more; the manager waits for it before it deletes. Returns whether it
/// is said.
pub(crate) async fn stopped(
    engine: &Engine,
    control_plane: &ControlPlane,
    term: &Arc<Term>,
) -> bool {
    let (reason, text) = OVER;
    let saying = Saying {
        conditions: &[condition("Synced", "False", reason, text)],
        sync: SyncField::Goes,
    };
    say(engine, control_plane, &saying, &Permit::by(term)).await
}

/// Of which tenant what is to be said: reason and message.
type Unserved = (ControlPlane, &'static str, String);

/// That nothing is written for a tenant any more.
pub(crate) fn over(control_plane: ControlPlane) -> Unserved {
    let (reason, text) = OVER;
    (control_plane, reason, text.to_owned())
}

/// Says why tenants aren't served, of those that this process leads; returns whether all is said.
pub(crate) async fn unserved(
    engine: &Engine,
    all: Vec<Unserved>,
    led: &HashMap<TenantId, Arc<Term>>,
) -> bool {
    let mut sayings = vec![];
    for (control_plane, reason, text) in all {
        if let Some(term) = led.get(&control_plane.id) {
            let (said, permit) = (
                condition("Synced", "False", reason, &text),
                Permit::by(term),
            );
            sayings.push(async move {
                let saying = Saying {
                    conditions: &[said],
                    sync: SyncField::Goes,
                };
                say(engine, &control_plane, &saying, &permit).await
            });
        }
    }
    // Nobody waits for what is said of another.
    let mut said = stream::iter(sayings).buffer_unordered(AT_ONCE);
    let mut all = true;
    while let Some(said) = said.next().await {
        all &= said;
    }
    all
}

/// What is held, and who must look.
fn holds(health: &Health) -> [Condition; 2] {
    let held = match health.holds.first_key_value() {
        Some((first, _)) => {
            let all: Vec<&str> = health.holds.values().map(String::as_str).collect();
            condition("DeletionsHeld", "True", first.reason(), &all.join("; "))
        }
        None => condition(
            "DeletionsHeld",
            "False",
            "NothingHeld",
            "deletions are carried out",
        ),
    };
    let changed = match health.holds.get(&Hold::Identity) {
        Some(why) => condition("TenantIdentityChanged", "True", "OtherStore", why),
        None => condition(
            "TenantIdentityChanged",
            "False",
            "SameStore",
            "the tenant is the one that was recorded",
        ),
    };
    [held, changed]
}

fn synced(health: &Health, left_out: &[String], too_many: Option<&str>) -> Condition {
    let (status, reason, message) = match (health.synced, &health.blocker, too_many) {
        (true, _, Some(words)) => ("False", "TooManyObjects", words.to_owned()),
        (true, _, None) if !left_out.is_empty() => (
            "True",
            "CustomResourcesLeftOut",
            format!(
                "not synced, since the syncer has seen as many custom resources as it can: {}",
                left_out.join(", ")
            ),
        ),
        (true, _, None) => ("True", "Watching", "all kinds are watched".to_owned()),
        (false, Some(blocker), _) => ("False", "NotWatching", blocker.clone()),
        (false, None, _) => (
            "False",
            "Starting",
            "the syncer is starting its watches".to_owned(),
        ),
    };
    condition("Synced", status, reason, &message)
}

/// Nothing is written while the admission policies that hold the syncer don't stand.
fn unheld(missing: &[&str]) -> Condition {
    let message = format!(
        "nothing is written to the super cluster while the ValidatingAdmissionPolicies that hold the syncer, or their \
         bindings, are missing or don't deny: {}; run `sublet install`",
        missing.join(", ")
    );
    condition("Synced", "False", "AdmissionPoliciesMissing", &message)
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.chars().take(500).collect(),
        ..Condition::default()
    }
}

/// Returns whether it is said.
pub(crate) async fn say(
    engine: &Engine,
    control_plane: &ControlPlane,
    saying: &Saying<'_>,
    permit: &Permit,
) -> bool {
    for attempt in 0..TRIES {
        match write(engine, control_plane, saying, permit).await {
            Ok(()) => return true,
            // It leads the tenant no more, or will say it once it does again.
            Err(Failure::Stopped) => return false,
            Err(Failure::Api(Error::Conflict(_) | Error::Invalid(_))) if attempt + 1 < TRIES => {
                // Another writer was first; what it wrote is read again.
                tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
            }
            Err(err) => {
                tracing::warn!(tenant = %control_plane.id, %err, "its status can't be written");
                return false;
            }
        }
    }
    false
}

async fn write(
    engine: &Engine,
    control_plane: &ControlPlane,
    saying: &Saying<'_>,
    permit: &Permit,
) -> Result<(), Failure> {
    let Some(vcp) = control_plane.read(engine).await? else {
        return Ok(());
    };
    let mut fields = vec![];
    if let Some(conditions) = with(&vcp, saying.conditions)? {
        fields.push(("conditions", conditions));
    }
    if let Some(sync) = saying.sync.news(vcp.at("/status/sync")) {
        fields.push(("sync", sync));
    }
    if fields.is_empty() {
        return Ok(());
    }
    apply::status(&engine.cluster, &vcp, &fields, permit).await
}

/// All conditions of a VirtualControlPlane with these among them, if that is news.
fn with(vcp: &Object, wanted: &[Condition]) -> Result<Option<Value>, Error> {
    let mut conditions: Vec<Condition> = vcp
        .at("/status/conditions")
        .cloned()
        .and_then(|list| serde_json::from_value(list).ok())
        .unwrap_or_default();
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let generation = vcp.at("/metadata/generation").and_then(Value::as_i64);
    let mut news = false;
    for condition in wanted {
        let mut condition = condition.clone();
        condition.last_transition_time.clone_from(&now);
        condition.observed_generation = generation;
        news |= set_condition(&mut conditions, condition);
    }
    let list = || serde_json::to_value(&conditions);
    let list = news.then(list).transpose();
    list.map_err(|err| Error::Malformed(err.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake::{self, fake, tenant},
        queue::Direction,
    };
    use serde_json::json;
    use tenancy::{kind, tenant::Key};

    fn vcp(tenant: &Tenant) -> Value {
        json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "acme", "namespace": "tenants", "uid": "v", "resourceVersion": "5"},
            "spec": {"identity": tenant.id.as_str()},
        })
    }

    #[tokio::test(start_paused = true)]
    async fn conditions_that_somebody_takes_away_are_said_again() {
        let ((above, mut super_server), (own, _tenant_server)) = (fake(), fake());
        let (engine, tenant) = (Arc::new(fake::engine(&above)), Arc::new(tenant(&own)));
        let vcp = vcp(&tenant);
        let report = tokio::spawn(report(engine, tenant.clone()));
        for _ in 0..2 {
            super_server.answer("GET", 200, &vcp).await;
            let said = super_server.answer("PATCH", 200, &vcp).await;
            assert!(said.body.to_string().contains("Synced"), "{}", said.body);
            tenant.heed(&[]);
        }
        report.abort();
    }

    /// Else a restart of the syncer would say so of a tenant whose deletions are held.
    #[tokio::test(start_paused = true)]
    async fn r2_that_nothing_is_held_is_said_once_the_marks_were_looked_at() {
        let ((above, mut super_server), (own, _tenant_server)) = (fake(), fake());
        let (engine, tenant) = (Arc::new(fake::engine(&above)), Arc::new(tenant(&own)));
        let vcp = vcp(&tenant);
        let report = tokio::spawn(report(engine, tenant.clone()));
        for is_said in [false, true] {
            super_server.answer("GET", 200, &vcp).await;
            let said = super_server.answer("PATCH", 200, &vcp).await;
            let said = said.body.to_string();
            assert_eq!(said.contains("DeletionsHeld"), is_said, "{said}");
            tenant.gate.examined();
        }
        report.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_the_end_of_a_hold_is_worked_at_its_end_and_not_before() {
        let ((above, mut server), (own, _tenant_server)) = (fake(), fake());
        let (engine, tenant) = (Arc::new(fake::engine(&above)), Arc::new(tenant(&own)));
        fake::list_all(&tenant);
        let key = Key::new(kind::index("ConfigMap"), "work", "a");
        let vcp = vcp(&tenant);
        let report = tokio::spawn(report(engine.clone(), tenant.clone()));
        for (hold, is_worked) in [(Some("older".to_owned()), false), (None, true)] {
            tenant.gate.hold(Hold::WentBack, hold);
            server.answer("GET", 200, &vcp).await;
            server.answer("PATCH", 200, &vcp).await;
            assert_eq!(engine.down.has(&tenant.id, &key), is_worked);
            let is_parked = parked::park(&tenant, Direction::Down, &key, None);
            assert_eq!(is_parked, !is_worked);
        }
        report.abort();
    }

    #[test]
    fn a_lag_is_said_where_another_stands_and_goes_where_any_does() {
        let of = |time: &str, since: Option<&str>| SyncStatus {
            observed_time: time.into(),
            behind_since: since.map(str::to_owned),
            ..SyncStatus::default()
        };
        let (known, later) = (of("a", None), of("b", None));
        let behind = of("b", Some("a"));
        let stands = json!(known);
        for (said, stands, is_news) in [
            (SyncField::Stays, Some(&stands), false),
            (SyncField::Goes, Some(&stands), true),
            (SyncField::Goes, Some(&Value::Null), false),
            (SyncField::Goes, None, false),
            (SyncField::Is(later.clone()), None, true),
            (SyncField::Is(later), Some(&stands), false),
            (SyncField::Is(behind), Some(&stands), true),
        ] {
            assert_eq!(said.news(stands).is_some(), is_news, "{stands:?}");
        }
    }

    /// What a tenant lagged behind by says nothing once nobody serves it.
    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_is_no_longer_served_has_no_lag() {
        let ((above, mut server), (own, _tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let mut vcp = vcp(&tenant);
        vcp["status"]["sync"] = json!(SyncStatus::default());
        let answers = async {
            server.answer("GET", 200, &vcp).await;
            let said = server.answer("PATCH", 200, &vcp).await.body.to_string();
            assert!(said.contains("Stopped"), "{said}");
            assert!(
                said.contains(r#"{"op":"remove","path":"/status/sync"}"#),
                "{said}"
            );
        };
        let control_plane = ControlPlane::of(&tenant);
        let (is_said, ()) = tokio::join!(stopped(&engine, &control_plane, &tenant.term), answers);
        assert!(is_said);
    }

    #[test]
    fn custom_resources_that_are_left_out_are_named() {
        let health = Health {
            synced: true,
            ..Health::default()
        };
        assert_eq!(synced(&health, &[], None).reason, "Watching");
        let said = synced(&health, &["backups.example.com".to_owned()], None);
        let (status, reason) = (&*said.status, &*said.reason);
        assert_eq!((status, reason), ("True", "CustomResourcesLeftOut"));
        assert!(
            said.message.ends_with("backups.example.com"),
            "{}",
            said.message
        );
    }

    #[test]
    fn t40_that_a_tenant_has_too_many_objects_is_said_once_all_is_watched() {
        let many = Some("700 objects or more aren't synced");
        let left_out = ["backups.example.com".to_owned()];
        for (is_synced, reason) in [(true, "TooManyObjects"), (false, "Starting")] {
            let health = Health {
                synced: is_synced,
                ..Health::default()
            };
            let said = synced(&health, &left_out, many);
            assert_eq!((&*said.status, &*said.reason), ("False", reason));
        }
    }

    /// One whose VirtualControlPlane can't be read now holds up no other, and of one that another syncer leads nothing is said.
    #[tokio::test(start_paused = true)]
    async fn that_tenants_are_not_served_is_said_of_all_at_once() {
        let (above, mut server) = fake();
        let engine = fake::engine(&above);
        let of = |number: u8| ControlPlane {
            id: TenantId::from_bits([number; 16]),
            namespace: "tenants".into(),
            name: number.to_string(),
        };
        let led = [1, 2].map(|number| (of(number).id, Term::of_test())).into();
        let answers = async {
            server.leave("GET").await;
            let vcp = json!({
                "metadata": {"name": "2", "namespace": "tenants", "uid": "v"},
                "spec": {"identity": of(2).id.as_str()},
            });
            server.answer("GET", 200, &vcp).await;
            let said = server.answer("PATCH", 200, &vcp).await;
            assert!(said.body.to_string().contains("Stopped"), "{}", said.body);
        };
        let said = unserved(&engine, [1, 2, 3].map(of).map(over).into(), &led);
        let (is_said, ()) = tokio::join!(said, answers);
        assert!(!is_said && server.is_silent());
    }
}
