//! Events of both sides, in one order and one table.

use crate::{
    age, error, paging,
    table::{Mood, Table},
};
use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use kube::{Api, api::ListParams};
use serde_json::json;

/// Events that are asked for at once.
const PAGE: u32 = 500;
/// More than these nobody reads.
const MOST: usize = 5_000;

/// Events, the oldest first; with `fields`, only those that match.
pub(crate) async fn list(api: &Api<Event>, fields: &str) -> Result<Vec<Event>, kube::Error> {
    let mut events = paging::all(api, &ListParams::default().fields(fields)).await?;
    events.sort_by_key(when);
    Ok(events)
}

/// As many of these as anybody reads: a tenant may have any number.
pub(crate) async fn most(api: &Api<Event>, fields: &str) -> Result<Vec<Event>, kube::Error> {
    let mut params = ListParams::default().fields(fields).limit(PAGE);
    let mut found = vec![];
    loop {
        let page = api.list(&params).await?;
        let next = page.metadata.continue_.filter(|next| !next.is_empty());
        found.extend(page.items);
        match next {
            Some(next) if found.len() < MOST => params = params.continue_token(&next),
            _ => return Ok(found),
        }
    }
}

/// The field selector for events about one object.
pub(crate) fn about(kind: &str, name: &str) -> String {
    format!("involvedObject.kind={kind},involvedObject.name={name}")
}

/// When it was last seen.
pub(crate) fn when(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref())
        .map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let first = event
        .event_time
        .as_ref()
        .map(|time| time.0)
        .or(event.first_timestamp.as_ref().map(|time| time.0));
    let made = event
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| time.0);
    series.or(last).or(first).or(made)
}

/// Who reported it.
pub(crate) fn reporter(event: &Event) -> &str {
    let component = event
        .reporting_component
        .as_deref()
        .filter(|component| !component.is_empty());
    component
        .or_else(|| event.source.as_ref()?.component.as_deref())
        .unwrap_or_default()
}

/// `kind/name` of what it is about.
fn object(event: &Event) -> String {
    let object = &event.involved_object;
    let kind = object.kind.clone().unwrap_or_default().to_ascii_lowercase();
    format!("{kind}/{}", object.name.clone().unwrap_or_default())
}

/// An event for programs.
pub(crate) fn data(event: &Event) -> serde_json::Value {
    json!({
        "type": event.type_, "reason": event.reason, "object": object(event),
        "namespace": event.involved_object.namespace, "message": event.message,
        "time": when(event).map(|time| time.to_string()),
    })
}

/// A table of events, each with the side it was seen on.
pub(crate) fn table(events: &[(&'static str, Event)], now: Timestamp) -> Table {
    let mut table = Table::new(&["LAST SEEN", "SIDE", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    for (side, event) in events {
        let seen = when(event).map_or_else(
            || "<unknown>".to_owned(),
            |time| age::short(now.as_second() - time.as_second()),
        );
        let type_ = error::one_line(event.type_.as_deref().unwrap_or_default());
        let mood = if type_ == "Warning" {
            Mood::Busy
        } else {
            Mood::Plain
        };
        let plain = |text: String| (text, Mood::Plain);
        table.moody(vec![
            plain(seen),
            plain((*side).to_owned()),
            (type_, mood),
            plain(error::one_line(event.reason.as_deref().unwrap_or_default())),
            plain(error::one_line(&object(event))),
            plain(error::one_line(
                event.message.as_deref().unwrap_or_default(),
            )),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "callers pass literals")]
    fn event(value: serde_json::Value) -> Event {
        let mut whole = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "web"}, "type": "Warning"});
        for (key, value) in value.as_object().unwrap() {
            whole[key] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn the_newest_of_an_events_times_counts() {
        let both = event(
            json!({"firstTimestamp": "2025-01-01T00:00:00Z", "lastTimestamp": "2025-01-01T00:05:00Z"}),
        );
        assert_eq!(when(&both), Some("2025-01-01T00:05:00Z".parse().unwrap()));
        let new = event(json!({"eventTime": "2025-01-01T00:00:00.000000Z"}));
        assert_eq!(when(&new), Some("2025-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(when(&event(json!({}))), None);
    }

    #[test]
    fn both_forms_of_the_reporter_are_read() {
        assert_eq!(
            reporter(&event(json!({"source": {"component": "kubelet"}}))),
            "kubelet"
        );
        assert_eq!(
            reporter(&event(
                json!({"reportingComponent": "sublet-syncer", "source": {"component": ""}})
            )),
            "sublet-syncer"
        );
    }

    #[test]
    fn the_table_names_side_and_object() {
        let events = [(
            "tenant",
            event(
                json!({"reason": "NotSynced", "message": "two\nlines", "lastTimestamp": "2025-01-01T00:00:00Z"}),
            ),
        )];
        let text = table(&events, "2025-01-01T00:00:09Z".parse().unwrap())
            .render(crate::style::plain(), None);
        assert!(
            text.contains("9s          tenant   Warning   NotSynced   pod/web   two lines"),
            "{text}"
        );
        let told = data(&events[0].1);
        assert_eq!(
            (&told["object"], &told["time"]),
            (&json!("pod/web"), &json!("2025-01-01T00:00:00Z"))
        );
    }
}
