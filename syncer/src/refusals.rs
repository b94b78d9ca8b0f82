//! Tells a tenant, by an event on its object, why something isn't in the super cluster; and the super cluster's people, by
//! an event there, that an edit of theirs was undone.

use crate::{
    apply::{self, Failure},
    engine::Engine,
    error::Error,
    intake::twin_name,
    tenants::Tenant,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use tenancy::{
    bucket::{Bucket, Rate, Shared},
    kind::{Refused, Resource, Upward, UpwardVerb},
    naming,
    object::Object,
    tenant::Key,
};
use tokio::time::Instant;

/// Events in a tenant: what is beyond is dropped, so that a flood of refusals is no flood of writes. The patrol works again
/// what is refused, and so tells it later.
const EVENTS_OF_TENANT: Rate = Rate {
    burst: 500,
    period: Duration::from_secs(1),
};
/// Events about a tenant in the super cluster, which keeps those of all.
const EVENTS_ABOVE: Rate = Rate {
    burst: 200,
    period: Duration::from_secs(1),
};
/// How many of them are for namespaces of which little was told, so that a flood in one hides no refusal in another.
const KEPT: u32 = 100;
/// What is little.
const EVENTS_OF_NAMESPACE: Rate = Rate {
    burst: 5,
    period: Duration::from_secs(60),
};

/// What was told less long ago isn't told again. Each change of a NetworkPolicy brings all pods of its namespace back, and with
/// them all that is refused there.
const JUST_TOLD: Duration = Duration::from_secs(60);
/// So many of them are remembered.
const MOST_JUST_TOLD: usize = 1024;

/// What a tenant may still be told, and what may be told of it.
pub(crate) struct Tellings {
    tenant: Mutex<Shared>,
    above: Mutex<Bucket>,
    /// Paths of events that were just written, and when.
    told: Mutex<HashMap<String, Instant>>,
}

impl Tellings {
    fn was_just_told(&self, event: &str) -> bool {
        let told = self.told.lock().get(event).copied();
        told.is_some_and(|told| told.elapsed() < JUST_TOLD)
    }

    fn told(&self, event: String) {
        let mut told = self.told.lock();
        if told.len() >= MOST_JUST_TOLD {
            told.retain(|_, told| told.elapsed() < JUST_TOLD);
        }
        if told.len() < MOST_JUST_TOLD {
            told.insert(event, Instant::now());
        }
    }
}

impl Default for Tellings {
    fn default() -> Self {
        let shared = Shared::of(EVENTS_OF_TENANT, KEPT, EVENTS_OF_NAMESPACE);
        Self {
            tenant: Mutex::new(shared),
            above: Mutex::new(Bucket::of(EVENTS_ABOVE)),
            told: Mutex::default(),
        }
    }
}

/// Counts an event that may not be written.
fn counted(engine: &Engine, tenant: &Tenant, may: bool) -> bool {
    if !may {
        engine.metrics.event_dropped(&tenant.id);
    }
    may
}

/// What a tenant is told of its object.
#[derive(Clone, Copy, Debug)]
struct Telling<'a> {
    type_: &'static str,
    reason: &'a str,
    message: &'a str,
    since: Since,
}

/// Since when what is told is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// As far as is known since just now: an event that told the same before is dated anew.
    Now,
    /// It was told before, or nobody knows: such an event stays as it is.
    Before,
}

/// Of an object that crosses again.
const SYNCED: &str = "Synced";

/// Writes the event about the tenant's object of that UID; the same refusal of the same object is told once.
///
/// The super cluster's own words are scrubbed of the super namespace's name. An event that can't be written is no
/// reason to work the key again.
pub(crate) async fn tell(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    uid: &str,
    refused: &Refused,
) -> Result<(), Failure> {
    tell_since(engine, tenant, key, uid, refused, Since::Before).await
}

/// The same, of what may be so since just now.
pub(crate) async fn tell_since(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    uid: &str,
    refused: &Refused,
    since: Since,
) -> Result<(), Failure> {
    tracing::debug!(tenant = %tenant.id, %key, reason = refused.reason, "refused");
    let telling = Telling {
        type_: "Warning",
        reason: refused.reason,
        message: &refused.message,
        since,
    };
    write(engine, tenant, key, uid, telling).await
}

/// Tells that what was refused of an object was put right: else the last that is told of it is the refusal.
pub(crate) async fn tell_synced(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    uid: &str,
) -> Result<(), Failure> {
    tracing::debug!(tenant = %tenant.id, %key, "what was refused was put right");
    let telling = Telling {
        type_: "Normal",
        reason: SYNCED,
        message: "what was refused was put right: it is synced",
        since: Since::Now,
    };
    write(engine, tenant, key, uid, telling).await
}

async fn write(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    uid: &str,
    telling: Telling<'_>,
) -> Result<(), Failure> {
    let message = scrub(tenant, key, telling.message);
    let hash = naming::hash(&[
        uid.as_bytes(),
        telling.reason.as_bytes(),
        message.as_bytes(),
    ]);
    let name = format!("{}.{}", start(&key.name), &hash[..16]);
    let path = format!("{}/{name}", key.namespace);
    if telling.since == Since::Before && tenant.tellings.was_just_told(&path) {
        return Ok(());
    }
    let now = Instant::now().into_std();
    let may = tenant.tellings.tenant.lock().take(&key.namespace, now);
    if !counted(engine, tenant, may) {
        return Ok(());
    }
    let resource = key.kind().resource();
    let namespace = if key.namespace.is_empty() {
        "default"
    } else {
        &key.namespace
    };
    let now = seconds(jiff::Timestamp::now());
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "type": telling.type_,
        "metadata": {"name": &name, "namespace": namespace},
        "involvedObject": {
            "apiVersion": resource.api_version(), "kind": resource.kind,
            "namespace": &*key.namespace, "name": &*key.name, "uid": uid,
        },
        "reason": telling.reason, "message": message, "count": 1,
        "firstTimestamp": &now, "lastTimestamp": &now,
        "source": {"component": api::keys::SYNCER_COMPONENT},
        "reportingComponent": api::keys::SYNCER_COMPONENT, "reportingInstance": "",
    });
    let collection = format!("/api/v1/namespaces/{namespace}/events");
    let created = send(tenant, &collection, UpwardVerb::Create, event).await;
    let is_there = matches!(created, Err(Failure::Api(Error::AlreadyExists)));
    let written = if is_there && telling.since == Since::Now {
        // Which of two events is the later one tells what holds.
        let dates = json!({"firstTimestamp": &now, "lastTimestamp": &now});
        let path = format!("{collection}/{name}");
        send(tenant, &path, UpwardVerb::Merge, dates).await
    } else {
        created
    };
    if written.is_ok() || is_there {
        tenant.tellings.told(path);
    }
    match written {
        // Told already, or a policy or a webhook of the tenant won't have it.
        Err(failure @ Failure::Api(_)) if !failure.is_unreachable() => {
            tracing::debug!(tenant = %tenant.id, %key, err = %failure, "an event isn't written");
            Ok(())
        }
        other => other,
    }
}

async fn send(tenant: &Tenant, path: &str, verb: UpwardVerb, body: Value) -> Result<(), Failure> {
    let write = Upward {
        subresource: None,
        verb,
        body,
        shows: None,
    };
    apply::upward(tenant, path, "", write).await.map(drop)
}

/// Tells, by an event in the super cluster, that somebody's edit of a super object was undone, and where to edit instead.
///
/// The tenant isn't told: its object is as it wrote it. An event that can't be written is no reason to work the key again.
pub(crate) async fn tell_super(
    engine: &Engine,
    tenant: &Tenant,
    resource: &Resource,
    twin: &Object,
) -> Result<(), Failure> {
    let may = tenant.tellings.above.lock().take(Instant::now().into_std());
    if !counted(engine, tenant, may) {
        return Ok(());
    }
    let namespace = if resource.namespaced {
        twin.namespace()
    } else {
        twin.name()
    };
    let version = twin.text("/metadata/resourceVersion").unwrap_or_default();
    let hash = naming::hash(&[twin.uid().as_bytes(), version.as_bytes()]);
    let name = start(twin.name());
    let now = seconds(jiff::Timestamp::now());
    let rules = tenant.rules();
    let message = format!(
        "an edit was undone: this object follows {} {} of tenant {}/{}; edit it there",
        resource.kind,
        twin.annotation(api::keys::NAME).unwrap_or_default(),
        rules.vcp_namespace,
        rules.vcp_name,
    );
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "type": "Warning",
        "metadata": {"name": format!("{name}.{}", &hash[..16]), "namespace": namespace},
        "involvedObject": {
            "apiVersion": resource.api_version(), "kind": resource.kind,
            "namespace": twin.namespace(), "name": twin.name(), "uid": twin.uid(),
        },
        "reason": "EditUndone", "message": message, "count": 1,
        "firstTimestamp": now, "lastTimestamp": now,
        "source": {"component": api::keys::SYNCER_COMPONENT},
        "reportingComponent": api::keys::SYNCER_COMPONENT, "reportingInstance": "",
    });
    send_above(engine, tenant, event).await
}

/// Tells, by an event in the super cluster, of a webhook there without which its API server takes no object of the tenant's, in
/// that server's own words: one for each super namespace, about the first object. A namespace that can't be made has none.
pub(crate) async fn tell_of_webhook(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    webhook: &str,
    words: &str,
) -> Result<(), Failure> {
    let twin = twin_name(tenant, key);
    if twin.namespace.is_empty() {
        return Ok(());
    }
    let may = tenant.tellings.above.lock().take(Instant::now().into_std());
    if !counted(engine, tenant, may) {
        return Ok(());
    }
    let resource = key.kind().resource();
    let hash = naming::hash(&[twin.namespace.as_bytes(), webhook.as_bytes()]);
    let message: String = words.chars().take(1000).collect();
    let now = seconds(jiff::Timestamp::now());
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "type": "Warning",
        "metadata": {"name": format!("sublet-webhook.{}", &hash[..16]), "namespace": &twin.namespace},
        "involvedObject": {
            "apiVersion": resource.api_version(), "kind": resource.kind,
            "namespace": &twin.namespace, "name": &twin.name,
        },
        "reason": "WebhookFailing", "message": message, "count": 1,
        "firstTimestamp": now, "lastTimestamp": now,
        "source": {"component": api::keys::SYNCER_COMPONENT},
        "reportingComponent": api::keys::SYNCER_COMPONENT, "reportingInstance": "",
    });
    send_above(engine, tenant, event).await
}

async fn send_above(engine: &Engine, tenant: &Tenant, event: Value) -> Result<(), Failure> {
    let event =
        Object::from_value(event).map_err(|err| Failure::Api(Error::Malformed(err.to_string())))?;
    match apply::create(&engine.cluster, tenant, &EVENTS, &event).await {
        Err(Failure::Api(_)) => Ok(()),
        other => other.map(drop),
    }
}

const EVENTS: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    namespaced: true,
};

/// An event's message has at most 1,024 bytes.
fn scrub(tenant: &Tenant, key: &Key, message: &str) -> String {
    let twin = twin_name(tenant, key);
    let text = if twin.namespace.is_empty() {
        message.replace(&twin.name, &key.name)
    } else {
        message.replace(&twin.namespace, &key.namespace)
    };
    text.chars().take(1000).collect()
}

/// What of a name an event's name may begin with.
fn start(name: &str) -> &str {
    let start = name.get(..200).unwrap_or(name);
    // No part of a name may end so, where it was cut.
    start.trim_end_matches(['-', '.'])
}

/// A time as the API writes one.
pub(crate) fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake, numbered_tenant};
    use tenancy::kind::index;

    #[test]
    fn the_name_of_an_event_about_a_long_name_is_one() {
        assert_eq!(start("web"), "web");
        let long = format!("{}.-{}", "a".repeat(198), "b".repeat(50));
        assert_eq!(start(&long), "a".repeat(198));
    }

    #[tokio::test(start_paused = true)]
    async fn t40_a_flood_of_refusals_is_no_flood_of_events_and_no_other_tenants() {
        let (above, mut super_server) = fake();
        let engine = fake::engine(&above);
        let ((own, mut server), (others, mut other_server)) = (fake(), fake());
        let (noisy, quiet) = (numbered_tenant(1, &own), numbered_tenant(2, &others));
        let refused = Refused::new("HostPath", "no".to_owned());
        let key = |number: usize| Key::new(index("Pod"), "work", &format!("p{number}"));
        let flood = async {
            for number in 0..1_000 {
                tell(&engine, &noisy, &key(number), "u", &refused)
                    .await
                    .unwrap();
            }
        };
        let answers = async {
            for _ in KEPT..EVENTS_OF_TENANT.burst {
                server.answer("POST", 201, &json!({"metadata": {}})).await;
            }
        };
        tokio::join!(flood, answers);
        assert!(server.is_silent() && super_server.is_silent());
        let dropped = format!("{{tenant=\"{}\"}} 600", noisy.id);
        let text = engine.metrics.text(&telemetry::Gauges::default()).unwrap();
        let line = format!("sublet_syncer_events_dropped_total{dropped}");
        assert!(text.contains(&line), "{text}");
        let told = async {
            tell(&engine, &quiet, &key(1), "u", &refused).await.unwrap();
            tokio::time::sleep(EVENTS_OF_TENANT.period).await;
            tell(&engine, &noisy, &key(1_000), "u", &refused)
                .await
                .unwrap();
        };
        let answers = async {
            other_server
                .answer("POST", 201, &json!({"metadata": {}}))
                .await;
            server.answer("POST", 201, &json!({"metadata": {}})).await;
        };
        tokio::join!(told, answers);
    }

    #[tokio::test(start_paused = true)]
    async fn t40_an_event_that_the_tenant_refuses_is_no_reason_to_work_the_key_again() {
        let ((above, _super_server), (own, mut server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), numbered_tenant(1, &own));
        let refused = Refused::new("HostPath", "no".to_owned());
        let key = Key::new(index("Pod"), "work", "p");
        for (status, is_told) in [
            (422, true),
            (400, true),
            (413, true),
            (500, true),
            (503, false),
        ] {
            let answer = json!({});
            let answers = server.answer("POST", status, &answer);
            let (told, _) = tokio::join!(tell(&engine, &tenant, &key, "u", &refused), answers);
            assert_eq!(told.is_ok(), is_told, "{status}: {told:?}");
        }
    }

    /// Else an object that is refused, put right and refused as before is told to be right.
    #[tokio::test(start_paused = true)]
    async fn what_is_so_anew_is_dated_anew_and_what_was_told_before_is_not() {
        let ((above, _super_server), (own, mut server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), numbered_tenant(1, &own));
        let refused = Refused::new("HostPath", "no".to_owned());
        let key = Key::new(index("Pod"), "work", "p");
        let exists =
            json!({"kind": "Status", "code": 409, "message": "events \"p\" already exists"});
        let told = tell_since(&engine, &tenant, &key, "u", &refused, Since::Before);
        let (told, _) = tokio::join!(told, server.answer("POST", 409, &exists));
        assert!(told.is_ok() && server.is_silent(), "{told:?}");
        let answers = async {
            let made = server.answer("POST", 409, &exists).await;
            let name = made.body["metadata"]["name"].as_str().unwrap().to_owned();
            let dated = server.answer("PATCH", 200, &json!({})).await;
            assert_eq!(dated.path, format!("{}/{name}", made.path));
            assert_eq!(dated.body["lastTimestamp"], made.body["lastTimestamp"]);
        };
        let told = tell_since(&engine, &tenant, &key, "u", &refused, Since::Now);
        let (told, ()) = tokio::join!(told, answers);
        assert!(told.is_ok(), "{told:?}");
        let answers = async {
            let made = server.answer("POST", 201, &json!({})).await;
            assert_eq!(made.body["type"], "Normal");
            assert_eq!(made.body["reason"], SYNCED);
        };
        let told = tell_synced(&engine, &tenant, &key, "u");
        let (told, ()) = tokio::join!(told, answers);
        assert!(told.is_ok(), "{told:?}");
    }

    /// Each policy that changes brings all of a namespace back.
    #[tokio::test(start_paused = true)]
    async fn t40_what_was_just_told_costs_nothing_when_it_is_refused_again_and_is_told_again_later()
    {
        let ((above, _super_server), (own, mut server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), numbered_tenant(1, &own));
        let refused = Refused::new("HostPath", "no".to_owned());
        let (key, made) = (Key::new(index("Pod"), "work", "p"), json!({}));
        for _ in 0..2 {
            let answers = server.answer("POST", 201, &made);
            let (told, _) = tokio::join!(tell(&engine, &tenant, &key, "u", &refused), answers);
            assert!(told.is_ok(), "{told:?}");
            for _ in 0..2 * EVENTS_OF_TENANT.burst {
                tell(&engine, &tenant, &key, "u", &refused).await.unwrap();
            }
            assert!(server.is_silent());
            let another = Refused::new("HostPort", "no".to_owned());
            let answers = server.answer("POST", 201, &made);
            let (told, _) = tokio::join!(tell(&engine, &tenant, &key, "u", &another), answers);
            assert!(told.is_ok(), "{told:?}");
            tokio::time::sleep(JUST_TOLD).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn t40_a_flood_of_refusals_in_one_namespace_hides_none_in_another() {
        let (above, _super_server) = fake();
        let engine = fake::engine(&above);
        let (own, mut server) = fake();
        let tenant = numbered_tenant(1, &own);
        let refused = Refused::new("HostPath", "no".to_owned());
        let key = |namespace: &str, number: usize| {
            Key::new(index("Pod"), namespace, &format!("p{number}"))
        };
        let told = async {
            for number in 0..1_000 {
                tell(&engine, &tenant, &key("loud", number), "u", &refused)
                    .await
                    .unwrap();
            }
            tell(&engine, &tenant, &key("quiet", 0), "u", &refused)
                .await
                .unwrap();
        };
        let answers = async {
            loop {
                let told = server.answer("POST", 201, &json!({"metadata": {}})).await;
                if told.path.contains("/quiet/") {
                    break;
                }
            }
        };
        tokio::join!(told, answers);
    }
}
