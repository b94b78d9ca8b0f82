//! `sublet events --watch`: what happened so far, then each event when it happens, as kubectl does it.

use super::{Args, EventSource, Output, Sided, is_asked, of_syncer, sources, told};
use crate::{
    cluster::Cluster,
    event,
    output::{self, Data},
    style,
    table::terminal_width,
    tenant,
    watch::lost_sight,
};
use anyhow::Result;
use api::VirtualControlPlane;
use futures::{
    StreamExt,
    stream::{BoxStream, SelectAll},
};
use k8s_openapi::{api::core::v1, jiff::Timestamp};
use kube::runtime::{
    WatchStreamExt,
    watcher::{self, Event, watcher},
};
use std::collections::{BTreeMap, BTreeSet};

/// Rows that the columns are made to fit.
const WINDOW: usize = 200;

type WatchEvent = Result<Event<v1::Event>, watcher::Error>;

/// Shows `happened`, then what happens, until Ctrl-C.
pub(super) async fn run(
    args: &Args,
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    happened: Vec<Sided>,
) -> Result<()> {
    let mut sources = sources(&cluster.watching, vcp);
    // Why the tenant's are left out was told with what happened so far.
    if let Ok(access) = tenant::access(cluster, vcp).await
        && let Ok(client) = tenant::watching(cluster, vcp, &access).await
    {
        sources.push(of_syncer(client));
    }
    let mut known = ShownEvents::default();
    for (_, event) in &happened {
        known.is_news(event);
    }
    let mut screen = Screen {
        args,
        rows: vec![],
        has_headings: args.no_headers,
    };
    if happened.is_empty() {
        tell!("Nothing happened lately; watching, end with Ctrl-C.");
    } else {
        screen.show(happened)?;
    }
    let mut heard: SelectAll<BoxStream<'_, (&'static str, WatchEvent)>> =
        sources.into_iter().map(follow).collect();
    let mut lost = BTreeSet::new();
    while let Some((side, event)) = heard.next().await {
        match event {
            Ok(Event::Init) => {}
            Ok(Event::InitDone) => {
                lost.remove(side);
            }
            Ok(Event::InitApply(event) | Event::Apply(event)) => {
                lost.remove(side);
                if is_asked(args, &event) && known.is_news(&event) {
                    screen.show(vec![(side, event)])?;
                }
            }
            Ok(Event::Delete(event)) => known.forget(&event),
            Err(err) => {
                let why = lost_sight(err)?;
                if lost.insert(side) {
                    tell!("lost sight of events of the {side} side ({why}); trying again");
                }
            }
        }
    }
    Ok(())
}

fn follow(source: EventSource) -> BoxStream<'static, (&'static str, WatchEvent)> {
    let EventSource { side, api, fields } = source;
    let config = watcher::Config::default().fields(&fields);
    let heard = watcher(api, config).default_backoff();
    heard.map(move |heard| (side, heard)).boxed()
}

/// Versions of the events that were shown, by UID.
#[derive(Default)]
struct ShownEvents(BTreeMap<String, Option<String>>);

impl ShownEvents {
    /// Whether an event is another than before; from now on it isn't.
    fn is_news(&mut self, event: &v1::Event) -> bool {
        let uid = event.metadata.uid.clone().unwrap_or_default();
        let version = event.metadata.resource_version.clone();
        self.0.insert(uid, version.clone()) != Some(version)
    }

    /// Kubernetes keeps an event for an hour.
    fn forget(&mut self, event: &v1::Event) {
        let uid = event.metadata.uid.as_deref();
        self.0.remove(uid.unwrap_or_default());
    }
}

/// What is on the screen.
struct Screen<'a> {
    args: &'a Args,
    /// The last rows.
    rows: Vec<Sided>,
    has_headings: bool,
}

impl Screen<'_> {
    fn show(&mut self, events: Vec<Sided>) -> Result<()> {
        let width = match self.args.output {
            Output::Json => return print(&events, "", Data::Json),
            Output::Yaml => return print(&events, "---\n", Data::Yaml),
            Output::Table => terminal_width(),
            Output::Wide => None,
        };
        let new = events.len();
        self.rows.extend(events);
        let too_many = self.rows.len().saturating_sub(WINDOW.max(new));
        self.rows.drain(..too_many);
        let text = event::table(&self.rows, Timestamp::now()).render(style::stdout(), width);
        let are_due = !std::mem::replace(&mut self.has_headings, true);
        output::print(&end(&text, are_due, new))
    }
}

/// The last rows of a table, set as in the whole table, and its headings if they are due.
fn end(text: &str, are_headings_due: bool, rows: usize) -> String {
    let count = text.lines().count();
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(at, _)| *at + rows >= count || (*at == 0 && are_headings_due));
    lines.flat_map(|(_, line)| [line, "\n"]).collect()
}

/// Prints each as a document of its own.
fn print(events: &[Sided], start: &str, format: Data) -> Result<()> {
    for event in events {
        output::print(&format!("{start}{}", format.text(&told(event))?))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(uid: &str, version: &str) -> v1::Event {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "uid": uid, "resourceVersion": version}, "involvedObject": {},
        }))
        .unwrap()
    }

    #[test]
    fn an_event_is_shown_again_only_when_it_happened_again() {
        let mut known = ShownEvents::default();
        let told = [("a", "1"), ("b", "2"), ("a", "1"), ("a", "3"), ("b", "2")];
        let told = told.map(|(uid, version)| known.is_news(&event(uid, version)));
        assert_eq!(told, [true, true, false, true, false]);
        known.forget(&event("a", "3"));
        known.forget(&event("b", "2"));
        assert!(known.0.is_empty());
    }

    #[test]
    fn new_rows_follow_the_old_ones_under_the_same_headings() {
        let text = "LAST SEEN   SIDE\n9s          super\n0s          tenant\n";
        assert_eq!(end(text, true, 2), text);
        assert_eq!(end(text, false, 1), "0s          tenant\n");
        assert_eq!(
            end(text, false, 2),
            "9s          super\n0s          tenant\n"
        );
    }
}
