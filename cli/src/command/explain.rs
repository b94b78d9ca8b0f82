//! `sublet explain`: one object on both sides, and why it is or isn't where it should be.

mod gather;
mod left_out;
mod need;
mod refusal;
mod verdict;

use crate::{
    age,
    cluster::Cluster,
    error, event,
    object_ref::ObjectRef,
    output, quota,
    style::{self, Style},
    table::{Table, terminal_width},
    tenant,
};
use anyhow::Result;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use verdict::{Facts, Verdict};

/// Flags of `sublet explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// The object as the tenant knows it; without NAMESPACE, the one called default
    #[arg(value_name = "KIND[/NAMESPACE]/NAME")]
    object: ObjectRef,
    /// Print it as data
    #[arg(short, long, value_enum)]
    output: Option<output::Data>,
}

const EXAMPLES: &str = "\
Examples:
  sublet explain team-a pod/default/web
  sublet explain team-a cm/settings              in the tenant's namespace default
  sublet explain team-a ns/kube-system";

/// Looks at both sides and tells.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    let facts = gather::facts(cluster, &vcp, &args.object).await?;
    if facts.is_nowhere() {
        let (kind, shown) = (&facts.kind, facts.shown());
        return Err(error::fail(format!(
            "there is no {kind} {shown} in tenant {}, and no twin of one: check its name and namespace",
            args.name
        )));
    }
    let verdict = verdict::of(&facts);
    match args.output {
        Some(format) => output::print(&format.text(&data(&facts, &verdict))?),
        None => output::print(&words(
            &facts,
            &verdict,
            style::stdout(),
            terminal_width(),
            Timestamp::now(),
        )),
    }
}

fn data(facts: &Facts, verdict: &Verdict) -> serde_json::Value {
    let side = |side: &verdict::Side| match &side.object {
        Some(object) => {
            json!({"namespace": side.namespace, "name": side.name, "exists": true, "uid": object.uid, "state": object.state})
        }
        None => json!({"namespace": side.namespace, "name": side.name, "exists": false}),
    };
    let events: Vec<_> = facts.events.iter().map(event::data).collect();
    json!({
        "kind": facts.kind, "tenant": side(&facts.tenant), "super": side(&facts.super_side),
        "synced": verdict.synced, "verdict": verdict.text, "advice": verdict.advice, "events": events,
        "leftOut": facts.left_out, "referredToBy": facts.need.as_ref().and_then(need::Need::referrers),
        "quota": quota::data(&facts.limits, Some(&facts.asks)),
    })
}

fn words(
    facts: &Facts,
    verdict: &Verdict,
    style: Style,
    width: Option<usize>,
    now: Timestamp,
) -> String {
    let mut table = Table::new(&["", "TENANT", "SUPER-CLUSTER"]);
    let (mine, other) = (&facts.tenant, &facts.super_side);
    let mut line = |key: &str, value: &dyn Fn(&verdict::Side) -> String| {
        let (a, b) = (value(mine), value(other));
        if !(a.is_empty() && b.is_empty()) {
            table.row(vec![key.to_owned(), a, b]);
        }
    };
    line("namespace", &|side| side.namespace.clone());
    line("name", &|side| side.name.clone());
    let known = |side: &verdict::Side, text: fn(&verdict::Twin) -> String| {
        side.object.as_ref().map(text).unwrap_or_default()
    };
    line("state", &|side| match (&side.object, side.reachable) {
        (Some(twin), _) => twin.state.clone(),
        (None, true) => "isn't there".to_owned(),
        (None, false) => "can't be asked".to_owned(),
    });
    line("age", &|side| {
        side.object
            .as_ref()
            .map(|twin| age::since(twin.created.as_ref(), now))
            .unwrap_or_default()
    });
    line("UID", &|side| known(side, |twin| twin.uid.clone()));
    let mood = if verdict.synced {
        style.green(&verdict.text)
    } else {
        style.yellow(&verdict.text)
    };
    let advice = if verdict.advice.is_empty() {
        String::new()
    } else {
        format!("What to do: {}\n", verdict.advice)
    };
    let says = says(facts);
    let need = facts.need.as_ref().map(need::Need::line);
    let need = need.unwrap_or_default();
    let left_out = if facts.left_out.is_empty() {
        String::new()
    } else {
        format!("Doesn't cross: {}\n", facts.left_out.join(", "))
    };
    let events = if facts.events.is_empty() {
        String::new()
    } else {
        let rows: Vec<_> = facts
            .events
            .iter()
            .map(|event| ("tenant", event.clone()))
            .collect();
        format!(
            "\n{}\n{}",
            style.bold("Told to the tenant"),
            event::table(&rows, now).render(style, width)
        )
    };
    let limits = if facts.limits.is_empty() {
        String::new()
    } else {
        let table = quota::table(&facts.limits, Some(&facts.asks));
        format!("\n{}\n{}", style.bold("Quota"), table.render(style, width))
    };
    let title = format!(
        "{} {} of tenant {}",
        facts.kind,
        facts.shown(),
        facts.tenant_name
    );
    format!(
        "{}\n\n{}\n{mood}\n{advice}{need}{left_out}{says}{limits}{events}",
        style.bold(&title),
        table.render(style, None)
    )
}

/// What each side says of a pod that doesn't run; once when they say the same.
fn says(facts: &Facts) -> String {
    let why = |side: &verdict::Side| side.object.as_ref().and_then(|twin| twin.why.clone());
    match (why(&facts.tenant), why(&facts.super_side)) {
        (Some(tenant), Some(other)) if tenant == other => format!("Both sides say: {tenant}\n"),
        (tenant, other) => {
            let tenant = tenant.map(|why| format!("The tenant is told: {why}\n"));
            let other = other.map(|why| format!("The super cluster says: {why}\n"));
            tenant.unwrap_or_default() + &other.unwrap_or_default()
        }
    }
}
