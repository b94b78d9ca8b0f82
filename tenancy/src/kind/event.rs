//! Events about synced objects, names translated back.
//!
//! The super cluster's scheduler and kubelets say why a pod doesn't run in events; without them `kubectl describe` in a
//! tenant would be silent. Only events about objects that the tenant has go up.

mod reasons;

use super::{Cx, KINDS, Kind, Refused, Resource, SuperWatch, pod::scrub::Scrub};
use crate::{
    meta, naming,
    object::{Object, pick},
};
use api::keys;
use serde_json::{Value, json};

pub(super) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    namespaced: true,
};

/// Fields that go up as they are.
const CROSSING: [&str; 9] = [
    "type",
    "reason",
    "action",
    "count",
    "firstTimestamp",
    "lastTimestamp",
    "eventTime",
    "series",
    "reportingComponent",
];

/// How often a kubelet misses a Secret of tokens before it is told: it tries again after half a second, and then twice as
/// late each time. By then it should have come.
const MISSES: u64 = 5;

/// Instead of a message that isn't told.
const UNTOLD: &str = "(what the platform says of it isn't shown)";

/// The kind.
#[derive(Debug)]
pub(super) struct Event;

impl Kind for Event {
    fn resource(&self) -> &'static Resource {
        &RESOURCE
    }

    fn goes_down(&self) -> bool {
        false
    }

    fn super_watch(&self) -> SuperWatch {
        SuperWatch::ByNamespace
    }

    fn down(&self, _object: &Object, _cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        Ok(None)
    }

    fn publish(&self, event: &Object, namespace: &str, cx: &Cx<'_>) -> Option<Object> {
        if event.text("/source/component") == Some(keys::SYNCER_COMPONENT) {
            // Told to the super cluster's people; the tenant's object is as the tenant wrote it.
            return None;
        }
        if tells_of_a_token_secret(event) && !is_seen_again(event) {
            return None;
        }
        let kind = event.text("/involvedObject/kind")?;
        let name = event.text("/involvedObject/name")?;
        let super_uid = event.text("/involvedObject/uid").unwrap_or_default();
        // An object of that name that isn't the twin is none of the tenant's business.
        let uid = cx.facts.uid(kind, namespace, name, super_uid)?;
        let twin = meta::super_namespace(namespace, cx);
        let mut involved = pick(
            event.at("/involvedObject")?,
            &["kind", "apiVersion", "fieldPath"],
        );
        involved.insert("namespace".into(), namespace.into());
        involved.insert("name".into(), name.into());
        involved.insert("uid".into(), uid.as_str().into());
        let mut body = Value::Object(pick(event.value(), &CROSSING));
        body["apiVersion"] = "v1".into();
        body["kind"] = "Event".into();
        body["metadata"] = json!({"name": event.name(), "namespace": namespace});
        body["involvedObject"] = involved.into();
        let component = event.text("/source/component").unwrap_or_default();
        let reporter = event.text("/reportingComponent").unwrap_or_default();
        body["source"] = json!({"component": component});
        body["reportingInstance"] = reporter.into();
        if [component, reporter].contains(&"kubelet") {
            // The node that the pod is on; other programs run where no tenant sees.
            body["source"]["host"] = event.text("/source/host").unwrap_or_default().into();
            body["reportingInstance"] = event.text("/reportingInstance").unwrap_or_default().into();
        }
        let scrub = Scrub {
            namespace: (&twin, namespace),
            uid: (super_uid, &uid),
        };
        // Of a custom resource its class knows the controller.
        let is_of_table = KINDS.iter().any(|known| known.resource().kind == kind);
        let reason = event.text("/reason").unwrap_or_default();
        let message = event.text("/message").unwrap_or_default();
        body["message"] = if !is_of_table || message.is_empty() || reasons::is_told(reason) {
            scrub.text(message).into()
        } else {
            UNTOLD.into()
        };
        Object::from_value(body).ok()
    }
}

/// Whether a kubelet misses the Secret that the syncer is about to fill for a new pod: it tries again at once, and no
/// object of the tenant's has that name.
fn tells_of_a_token_secret(event: &Object) -> bool {
    event.text("/reason") == Some("FailedMount")
        && event
            .text("/message")
            .is_some_and(|message| message.contains(naming::TOKEN_PREFIX))
}

/// Whether it was told so often that what it tells of isn't about to pass.
fn is_seen_again(event: &Object) -> bool {
    let count = event.at("/count").and_then(Value::as_u64);
    count.is_some_and(|count| count >= MISSES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::testing::{Answers, object, tenant};

    /// Of a tenant that has the object that an event is about.
    fn facts() -> Answers {
        Answers {
            uid: Some("tenant-uid".into()),
            ..Answers::default()
        }
    }

    #[test]
    fn what_the_syncer_tells_the_super_clusters_people_stays_there() {
        let tenant = tenant();
        let facts = facts();
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let own = object(json!({
            "metadata": {"name": "web.1", "namespace": "s"}, "reason": "EditUndone",
            "involvedObject": {"kind": "Pod", "name": "web", "uid": "super-uid"},
            "source": {"component": keys::SYNCER_COMPONENT},
        }));
        assert_eq!(Event.publish(&own, "default", &cx), None);
    }

    #[test]
    fn a_token_secret_that_is_not_there_yet_is_no_news_for_the_tenant() {
        let tenant = tenant();
        let facts = facts();
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let told = |secret: &str, count: u64| {
            let message = format!(
                "MountVolume.SetUp failed for volume \"v\" : secret \"{secret}\" not found"
            );
            let event = object(json!({
                "metadata": {"name": "web.1", "namespace": "s"}, "type": "Warning", "reason": "FailedMount",
                "message": message, "count": count, "involvedObject": {"kind": "Pod", "name": "web", "uid": "super-uid"},
            }));
            Event.publish(&event, "default", &cx).is_some()
        };
        let tokens = naming::token_secret(&tenant.id, "uid");
        assert!(!told(&tokens, 1) && !told(&tokens, MISSES - 1));
        assert!(told(&tokens, MISSES), "it doesn't come");
        assert!(told("mine", 1));
    }

    /// What a tenant sees of an event about its object of a kind.
    fn seen(kind: &str, mut event: Value) -> Object {
        let (tenant, facts) = (tenant(), facts());
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        event["metadata"] = json!({"name": "web.1", "namespace": "s"});
        event["involvedObject"] = json!({"kind": kind, "name": "web", "uid": "super-uid"});
        Event.publish(&object(event), "default", &cx).unwrap()
    }

    #[test]
    fn t39_a_preemptor_and_the_host_of_the_scheduler_are_not_told() {
        let uid = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed";
        let preempted = seen(
            "Pod",
            json!({
                "reason": "Preempted", "message": format!("Preempted by pod {uid} on node n1"), "action": "Preempting",
                "reportingComponent": "default-scheduler", "reportingInstance": "default-scheduler-master-7",
                "source": {"component": "default-scheduler", "host": "master-7"},
            }),
        );
        assert_eq!(
            preempted.text("/message"),
            Some("Preempted by pod (another) on node n1")
        );
        let text = preempted.value().to_string();
        assert!(!text.contains(uid) && !text.contains("master-7"), "{text}");
        let killing = seen(
            "Pod",
            json!({
                "reason": "Killing", "message": "Stopping container c", "reportingComponent": "kubelet",
                "reportingInstance": "n1", "source": {"component": "kubelet", "host": "n1"},
            }),
        );
        assert_eq!(killing.text("/source/host"), Some("n1"));
        assert_eq!(killing.text("/reportingInstance"), Some("n1"));
    }

    #[test]
    fn t39_a_message_under_a_reason_that_nobody_listed_is_not_told() {
        let event =
            json!({"reason": "nodeAssigned", "message": "announcing from node \"master-7\""});
        let told = seen("Service", event.clone());
        assert_eq!(told.text("/message"), Some(UNTOLD));
        assert_eq!(told.text("/reason"), Some("nodeAssigned"));
        assert_eq!(
            seen("Certificate", event.clone()).text("/message"),
            event["message"].as_str()
        );
    }

    #[test]
    fn the_event_speaks_of_the_tenants_object() {
        let tenant = tenant();
        let facts = facts();
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let twin = meta::super_namespace("default", &cx);
        let event = object(json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1", "namespace": twin, "uid": "e"},
            "involvedObject": {"kind": "Pod", "name": "web", "namespace": twin, "uid": "super", "resourceVersion": "9"},
            "reason": "Scheduled", "message": format!("Successfully assigned {twin}/web to n1"), "count": 1,
        }));
        let seen = Event.publish(&event, "default", &cx).unwrap();
        assert_eq!(
            seen.text("/message"),
            Some("Successfully assigned default/web to n1")
        );
        let involved =
            json!({"kind": "Pod", "name": "web", "namespace": "default", "uid": "tenant-uid"});
        assert_eq!(seen.at("/involvedObject"), Some(&involved));
        let nobody = Answers::default();
        assert_eq!(
            Event.publish(
                &event,
                "default",
                &Cx {
                    rules: &tenant,
                    facts: &nobody
                }
            ),
            None
        );
    }
}
