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
use serde_json::json;
use std::time::Duration;
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

/// What a tenant may still be told, and what may be told of it.
pub(crate) struct Tellings {
    tenant: Mutex<Shared>,
    above: Mutex<Bucket>,
}

impl Default for Tellings {
    fn default() -> Self {
        let shared = Shared::of(EVENTS_OF_TENANT, KEPT, EVENTS_OF_NAMESPACE);
        Self {
            tenant: Mutex::new(shared),
            above: Mutex::new(Bucket::of(EVENTS_ABOVE)),
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
    tracing::debug!(tenant = %tenant.id, %key, reason = refused.reason, "refused");
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
    let message = scrub(tenant, key, &refused.message);
    let hash = naming::hash(&[
        uid.as_bytes(),
        refused.reason.as_bytes(),
        message.as_bytes(),
    ]);
    let name = start(&key.name);
    let now = jiff::Timestamp::now();
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "type": "Warning",
        "metadata": {"name": format!("{name}.{}", &hash[..16]), "namespace": namespace},
        "involvedObject": {
            "apiVersion": resource.api_version(), "kind": resource.kind,
            "namespace": &*key.namespace, "name": &*key.name, "uid": uid,
        },
        "reason": refused.reason, "message": message, "count": 1,
        "firstTimestamp": seconds(now), "lastTimestamp": seconds(now),
        "source": {"component": api::keys::SYNCER_COMPONENT},
        "reportingComponent": api::keys::SYNCER_COMPONENT, "reportingInstance": "",
    });
    let write = Upward {
        subresource: None,
        verb: UpwardVerb::Create,
        body: event,
        shows: None,
    };
    let collection = format!("/api/v1/namespaces/{namespace}/events");
    match apply::upward(tenant, &collection, "", write).await {
        // Told already, or a policy or a webhook of the tenant won't have it.
        Err(failure @ Failure::Api(_)) if !failure.is_unreachable() => {
            tracing::debug!(tenant = %tenant.id, %key, err = %failure, "an event isn't written");
            Ok(())
        }
        other => other.map(drop),
    }
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
            tell(&engine, &noisy, &key(1), "u", &refused).await.unwrap();
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
