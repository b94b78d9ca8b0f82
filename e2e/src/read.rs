//! Reading JSON objects.

use crate::{
    kind::{EVENT, Kind},
    side::Side,
    wait::{SOON, eventually},
};
use anyhow::Context;
use serde_json::Value;

/// A text at a JSON pointer; empty when there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The items of a list at a JSON pointer.
pub fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Name of an object.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// UID of an object.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// A label, if the object has it.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

/// An annotation, if the object has it.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

/// Whether somebody asked for its end.
pub fn is_terminating(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// Whether a pod has ended, well or not.
pub fn has_ended(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Status of a condition; empty when there is none.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let found = items(object, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == kind);
    found
        .map(|condition| text(condition, "/status"))
        .unwrap_or_default()
}

/// What the first container said when it ended.
pub fn last_words(pod: &Value) -> &str {
    text(pod, "/status/containerStatuses/0/state/terminated/message").trim()
}

/// One line about a pod or other object, for messages.
pub fn brief(object: &Value) -> String {
    let status = &object["status"];
    let states = items(object, "/status/containerStatuses")
        .iter()
        .map(|container| container["state"].to_string());
    let conditions = items(object, "/status/conditions").iter().map(|c| {
        format!(
            "{}={} {} {}",
            text(c, "/type"),
            text(c, "/status"),
            text(c, "/reason"),
            text(c, "/message")
        )
    });
    format!(
        "{} {}{} on {:?}: {} {} [{}] [{}]",
        text(object, "/kind"),
        name(object),
        if is_terminating(object) {
            " (terminating)"
        } else {
            ""
        },
        text(object, "/spec/nodeName"),
        text(status, "/phase"),
        text(status, "/message"),
        states.collect::<Vec<_>>().join(" "),
        conditions.collect::<Vec<_>>().join("; "),
    )
}

/// Waits for an event about an object, by its reason.
pub async fn event(side: &Side, kind: Kind, object: &Value, reason: &str) -> anyhow::Result<Value> {
    let namespace = Some(text(object, "/metadata/namespace"))
        .filter(|name| !name.is_empty())
        .unwrap_or("default");
    let what = format!("event {reason} about {} {}", kind.name, name(object));
    eventually(SOON, &what, async || {
        let about: Vec<Value> = side
            .list(EVENT, namespace, "")
            .await?
            .into_iter()
            .filter(|event| text(event, "/involvedObject/uid") == uid(object))
            .collect();
        let reasons: Vec<&str> = about.iter().map(|event| text(event, "/reason")).collect();
        let seen = format!("events about it: {reasons:?}");
        about
            .iter()
            .find(|event| text(event, "/reason") == reason)
            .cloned()
            .context(seen)
    })
    .await
}
