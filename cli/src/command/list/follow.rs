//! `sublet list --watch`: the list first, then each tenant again whose row has changed, as kubectl does it.

use super::{Args, Format, More, api, more, none, place, print_names, table, typed, with_types};
use crate::{
    cluster::Cluster,
    output::{self, Data},
    style,
    table::terminal_width,
    watch::lost_sight,
};
use anyhow::Result;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::{
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use std::{collections::BTreeMap, pin::pin, time::Duration};
use tokio::time::Instant;

/// How long what a wide row shows besides counts as known: it is a list of all pods.
const FRESH: Duration = Duration::from_secs(10);

/// Tenants by namespace and name, in the order of the list.
type TenantsByName = BTreeMap<(String, String), DynamicObject>;

/// What is on the screen.
struct Screen<'a> {
    args: &'a Args,
    cluster: &'a Cluster,
    /// Ages don't count as a change, so rows are compared as they were at this moment.
    began: Timestamp,
    /// The row of each tenant that was shown last.
    rows: BTreeMap<(String, String), String>,
    has_headings: bool,
    /// What wide rows show besides, and since when it is known.
    more: Option<(Instant, More)>,
}

/// Shows tenants until Ctrl-C.
pub(super) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let mut config = watcher::Config::default();
    config.label_selector.clone_from(&args.selector);
    let api = api(args, cluster, cluster.watching.clone());
    let mut stream = pin!(watcher(api, config).default_backoff());
    let is_asked = |object: &DynamicObject| {
        let name = object.metadata.name.as_ref();
        args.names.is_empty() || name.is_some_and(|name| args.names.contains(name))
    };
    let mut screen = Screen {
        args,
        cluster,
        began: Timestamp::now(),
        rows: BTreeMap::new(),
        has_headings: args.no_headers,
        more: None,
    };
    let (mut known, mut listed, mut is_lost) = (TenantsByName::new(), TenantsByName::new(), false);
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) if is_asked(&object) => {
                listed.insert(place(&object), with_types(object));
            }
            Ok(Event::InitDone) => {
                known = std::mem::take(&mut listed);
                is_lost = false;
                if known.is_empty() {
                    let create = cluster.hint("create NAME");
                    tell!("{}", none(args, &cluster.namespace, &create));
                }
                screen
                    .show(&known, &known.keys().cloned().collect::<Vec<_>>())
                    .await?;
            }
            Ok(Event::Apply(object)) if is_asked(&object) => {
                let place = place(&object);
                known.insert(place.clone(), with_types(object));
                screen.show(&known, &[place]).await?;
            }
            Ok(Event::Delete(object)) => {
                let place = place(&object);
                known.remove(&place);
                screen.rows.remove(&place);
            }
            Ok(Event::InitApply(_) | Event::Apply(_)) => {}
            Err(err) => {
                let why = lost_sight(err)?;
                if !std::mem::replace(&mut is_lost, true) {
                    tell!("lost sight of them ({why}); trying again");
                }
            }
        }
    }
    Ok(())
}

impl Screen<'_> {
    /// Shows those of `places` that look otherwise than before.
    async fn show(&mut self, known: &TenantsByName, places: &[(String, String)]) -> Result<()> {
        let objects = places.iter().filter_map(|place| known.get(place));
        match self.args.output {
            Format::Json => print(objects, "", Data::Json),
            Format::Yaml => print(objects, "---\n", Data::Yaml),
            Format::Name => print_names(objects),
            Format::Table | Format::Wide => self.show_rows(known, places).await,
        }
    }

    async fn show_rows(
        &mut self,
        known: &TenantsByName,
        places: &[(String, String)],
    ) -> Result<()> {
        let mut changed = vec![];
        for place in places {
            let Some(object) = known.get(place) else {
                continue;
            };
            let alone = typed(std::iter::once(object))?;
            let row = table(&alone, self.args, None, self.began).render(style::plain(), None);
            if self.rows.insert(place.clone(), row.clone()).as_ref() != Some(&row) {
                changed.push(place);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let (all, now) = (typed(known.values())?, Timestamp::now());
        let is_old = |(since, _): &(Instant, More)| since.elapsed() > FRESH;
        if self.more.as_ref().is_none_or(is_old) {
            let more = more(self.args, self.cluster).await;
            self.more = more.map(|more| (Instant::now(), more));
        }
        let more = self.more.as_ref().map(|(_, more)| more);
        let width = if more.is_some() {
            None
        } else {
            terminal_width()
        };
        let text = table(&all, self.args, more, now).render(style::stdout(), width);
        let are_due = !std::mem::replace(&mut self.has_headings, true);
        let headings = (!self.args.no_headers).then_some(are_due);
        let rows = known.keys().map(|place| changed.contains(&place));
        output::print(&only(&text, headings.into_iter().chain(rows)))
    }
}

/// Prints each as a document of its own.
fn print<'a>(
    objects: impl Iterator<Item = &'a DynamicObject>,
    start: &str,
    format: Data,
) -> Result<()> {
    for object in objects {
        output::print(&format!("{start}{}", format.text(&output::tidy(object)?)?))?;
    }
    Ok(())
}

/// The lines of a table that are wanted, set as in the whole table.
fn only(text: &str, wanted: impl Iterator<Item = bool>) -> String {
    let lines = text.lines().zip(wanted);
    let lines = lines.filter(|(_, is_wanted)| *is_wanted);
    lines.flat_map(|(line, _)| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_row_is_shown_again_under_the_same_headings() {
        let text = "NAME     PHASE\nteam-a   Ready\nb        Provisioning\n";
        let shown = |wanted: &[bool]| only(text, wanted.iter().copied());
        assert_eq!(shown(&[true, true, true]), text);
        assert_eq!(shown(&[false, false, true]), "b        Provisioning\n");
    }
}
