//! `sublet snapshot`: snapshots of a tenant's etcd, in claims beside it, and the way back to one.
//!
//! The commands write into `spec.backup.snapshots` which there shall be, and the manager makes and deletes them.

mod restore;

use crate::{
    age,
    ask::{self, Confirmation},
    cluster::Cluster,
    condition::{self, State},
    error, name,
    output::{self, Data},
    progress::Progress,
    style,
    table::{Mood, Table, terminal_width},
    tenant,
    waiting::Waiting,
    watch::{self, Limit},
};
use anyhow::Result;
use api::{SCHEDULED, Snapshot, SnapshotState, Trigger, VirtualControlPlane};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// As the resource definition has it.
const LONGEST: usize = 40;
/// How many may be asked for, as the resource definition has it.
const MOST: usize = 16;

/// Examples of all.
pub(super) const EXAMPLES: &str = "\
Examples:
  sublet snapshot create team-a --name before-upgrade
  sublet snapshot list team-a
  sublet snapshot restore team-a before-upgrade
  sublet snapshot delete team-a before-upgrade";

/// What to do with a tenant's snapshots.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a snapshot of a tenant's etcd and wait until it is complete; the tenant works meanwhile
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Create),
    /// List a tenant's snapshots, the newest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  sublet snapshot list team-a\n  sublet snapshot list team-a -o json"
    )]
    List(List),
    /// Set a tenant's etcd back to a snapshot; what it runs goes on, and its API is away for a moment
    #[command(after_help = restore::EXAMPLES)]
    Restore(restore::Args),
    /// Delete a snapshot that was asked for; those made by schedule go by themselves
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  sublet snapshot delete team-a before-upgrade        asks\n  \
                      sublet snapshot delete team-a before-upgrade --yes"
    )]
    Delete(Delete),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  sublet snapshot create team-a                         called after the time
  sublet snapshot create team-a --name before-upgrade
  sublet snapshot create team-a --no-wait";

/// Flags of `sublet snapshot create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Name of the tenant
    #[arg(value_parser = crate::name::known_tenant)]
    name: String,
    /// What to call it; manual-DATE-TIME, in UTC, when left out
    #[arg(long = "name", id = "snapshot", value_name = "SNAPSHOT", value_parser = new_name)]
    snapshot: Option<String>,
    #[command(flatten)]
    waiting: Waiting<10>,
}

/// Flags of `sublet snapshot list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Name of the tenant
    #[arg(value_parser = crate::name::known_tenant)]
    name: String,
    /// Leave out the headings
    #[arg(long)]
    no_headers: bool,
    /// Print it as data
    #[arg(short, long, value_enum)]
    output: Option<Data>,
}

/// Flags of `sublet snapshot delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Name of the tenant
    #[arg(value_parser = crate::name::known_tenant)]
    name: String,
    /// Name of the snapshot
    snapshot: String,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    waiting: Waiting<2>,
}

impl Command {
    /// Whose snapshots they are.
    pub(super) fn tenant(&mut self) -> &mut String {
        match self {
            Self::Create(args) => &mut args.name,
            Self::List(args) => &mut args.name,
            Self::Restore(args) => &mut args.name,
            Self::Delete(args) => &mut args.name,
        }
    }
}

/// Runs one of them.
pub(crate) async fn run(command: &Command, cluster: &Cluster) -> Result<()> {
    match command {
        Command::Create(args) => create(args, cluster).await,
        Command::List(args) => list(args, cluster).await,
        Command::Restore(args) => restore::run(args, cluster).await,
        Command::Delete(args) => delete(args, cluster).await,
    }
}

async fn create(args: &Create, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    tenant::refuse_paused(cluster, &vcp)?;
    if let Some(why) = cannot(&vcp) {
        return Err(error::fail(format!("no snapshot of {}: {why}", args.name)));
    }
    if let State::Asleep(_) = condition::state(&vcp) {
        return Err(error::fail(format!(
            "{} sleeps, and so does its etcd: wake it first with `{}`",
            args.name,
            cluster.hint(&format!("wake {}", args.name))
        )));
    }
    let snapshot = args.snapshot.clone();
    let snapshot = snapshot.unwrap_or_else(|| named_after(Timestamp::now()));
    change(cluster, &vcp, |asked| with(asked, &snapshot)).await?;
    let look = cluster.hint(&format!("snapshot list {}", args.name));
    if args.waiting.no_wait {
        return output::print_line(&format!(
            "snapshot {snapshot} requested; look with `{look}`"
        ));
    }
    let mut progress = Progress::start(&format!("making the snapshot {snapshot}"));
    let left = |_: &str| format!("it goes on by itself; look with `{look}`");
    let limit = Limit {
        time: args.waiting.timeout,
        late: "has no complete snapshot of that name",
        left: &left,
    };
    let made = watch::until(cluster, &vcp, &mut progress, limit, |now, progress| {
        if let Some(why) = cannot(&now) {
            return Ok(Some(Some(why)));
        }
        let Some(found) = all(&now).iter().find(|one| one.name == snapshot) else {
            return Ok(None);
        };
        let message = found.message.as_deref().unwrap_or_default();
        match found.state {
            SnapshotState::Complete => Ok(Some(None)),
            SnapshotState::Failed => Err(error::fail(format!(
                "the snapshot {snapshot} failed: {message}; take it away with `{}`",
                cluster.hint(&format!("snapshot delete {} {snapshot}", args.name))
            ))),
            SnapshotState::Running => {
                progress.state(message);
                Ok(None)
            }
        }
    });
    let refused = made.await?;
    let total = age::elapsed(progress.elapsed());
    drop(progress);
    if let Some(why) = refused {
        change(cluster, &vcp, |asked| Ok(without(asked, &snapshot))).await?;
        return Err(error::fail(format!("no snapshot of {}: {why}", args.name)));
    }
    output::print_line(&format!(
        "the snapshot {snapshot} of {} is complete, after {total}",
        args.name
    ))
}

async fn list(args: &List, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    let all = all(&vcp);
    if let Some(format) = args.output {
        return output::print(&format.text(&data(all))?);
    }
    if all.is_empty() {
        let make = cluster.hint(&format!("snapshot create {}", args.name));
        return output::print_line(&format!(
            "{} has no snapshots; make one with `{make}`",
            args.name
        ));
    }
    let mut table = table(all, Timestamp::now());
    if args.no_headers {
        table = table.without_headings();
    }
    output::print(&table.render(style::stdout(), terminal_width()))
}

async fn delete(args: &Delete, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    tenant::refuse_paused(cluster, &vcp)?;
    let Delete { name, snapshot, .. } = args;
    let is_known = all(&vcp).iter().any(|one| one.name == *snapshot);
    if !is_known && !asked(&vcp).contains(snapshot) {
        return Err(error::fail(unknown(name, snapshot, all(&vcp))));
    }
    if snapshot.starts_with(SCHEDULED) {
        return Err(error::fail(format!(
            "{snapshot} was made by schedule, and goes by itself when newer ones are there: lower spec.backup.retain to keep fewer"
        )));
    }
    if restore::reads(&vcp, snapshot) {
        return Err(error::fail(format!(
            "the snapshot {snapshot} of {name} is read just now, to restore it: delete it afterwards; look with `{}`",
            cluster.hint(&format!("describe {name}"))
        )));
    }
    let question = format!("The snapshot {snapshot} of {name} is deleted with its claim.");
    ask::confirm(&question, Confirmation::Yes, args.yes).await?;
    change(cluster, &vcp, |asked| Ok(without(asked, snapshot))).await?;
    if args.waiting.no_wait {
        return output::print_line(&format!("deletion of {snapshot} requested"));
    }
    let mut progress = Progress::start(&format!("deleting the snapshot {snapshot}"));
    let left = |_: &str| watch::goes_on(cluster, name);
    let limit = Limit {
        time: args.waiting.timeout,
        late: "still has that snapshot",
        left: &left,
    };
    let gone = watch::until(cluster, &vcp, &mut progress, limit, |now, _| {
        let is_there = all(&now).iter().any(|one| one.name == *snapshot);
        Ok((!is_there).then_some(()))
    });
    gone.await?;
    drop(progress);
    output::print_line(&format!("the snapshot {snapshot} of {name} is deleted"))
}

/// Changes the list of those that there shall be, as it is at that moment.
async fn change(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    to: impl Fn(&[String]) -> Result<Vec<String>>,
) -> Result<()> {
    let name = vcp.metadata.name.clone().unwrap_or_default();
    loop {
        let now = tenant::api(cluster).get(&name).await?;
        let patch = json!({
            "metadata": {"uid": vcp.metadata.uid, "resourceVersion": now.metadata.resource_version},
            "spec": {"backup": {"snapshots": to(asked(&now))?}},
        });
        let written = tenant::api(cluster)
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        match written {
            // Somebody wrote something meanwhile; the manager its status, as a rule.
            Err(kube::Error::Api(status))
                if status.code == 409 && now.metadata.uid == vcp.metadata.uid => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Those that there shall be beside those made by schedule.
fn asked(vcp: &VirtualControlPlane) -> &[String] {
    let backup = vcp.spec.backup.as_ref();
    backup
        .map(|backup| backup.snapshots.as_slice())
        .unwrap_or_default()
}

/// Those that there are.
fn all(vcp: &VirtualControlPlane) -> &[Snapshot] {
    let status = vcp.status.as_ref();
    status
        .map(|status| status.snapshots.as_slice())
        .unwrap_or_default()
}

fn with(asked: &[String], snapshot: &str) -> Result<Vec<String>> {
    if asked.iter().any(|one| one == snapshot) {
        return Err(error::fail(format!(
            "there is a snapshot {snapshot:?} already: choose another name"
        )));
    }
    if asked.len() >= MOST {
        return Err(error::fail(format!(
            "{MOST} snapshots were asked for, and that is the most: delete one first"
        )));
    }
    Ok(asked.iter().cloned().chain([snapshot.to_owned()]).collect())
}

fn without(asked: &[String], snapshot: &str) -> Vec<String> {
    asked
        .iter()
        .filter(|one| *one != snapshot)
        .cloned()
        .collect()
}

/// Why there can be no snapshot of this tenant.
fn cannot(vcp: &VirtualControlPlane) -> Option<String> {
    if vcp.spec.external.is_some() {
        return Some("Sublet doesn't run its etcd; whoever does may back it up".to_owned());
    }
    let etcd = vcp.spec.etcd.as_ref();
    let storage = etcd.and_then(|etcd| etcd.storage.as_ref());
    if storage.is_some_and(|storage| storage.ephemeral) {
        return Some("its etcd keeps its data in an emptyDir (--ephemeral-etcd), to which nothing could be restored".to_owned());
    }
    let failing = condition::find(vcp, "BackupFailing")?;
    let is_refused = condition::is_true(vcp, "BackupFailing");
    (is_refused && failing.reason == "StorageIsEphemeral").then(|| failing.message.clone())
}

fn unknown(tenant: &str, snapshot: &str, all: &[Snapshot]) -> String {
    let close = name::close(snapshot, all.iter().map(|one| one.name.as_str()));
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    let advice = match (close.is_empty(), names.is_empty()) {
        (false, _) => format!("did you mean {}?", close.join(" or ")),
        (true, false) => format!("there are {}", names.join(", ")),
        (true, true) => "it has none".to_owned(),
    };
    format!("{tenant} has no snapshot {snapshot:?}: {advice}")
}

/// A name that no schedule gives.
fn new_name(text: &str) -> Result<String, String> {
    let wrong = |why: String| Err(format!("{text:?} can't be a snapshot's name: {why}"));
    if text.starts_with(SCHEDULED) {
        return wrong(format!(
            "{SCHEDULED} is what those made by schedule begin with"
        ));
    }
    if text.len() > LONGEST {
        return wrong(format!("{LONGEST} characters are the most"));
    }
    let may_be = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || !text.chars().all(may_be) || text.starts_with('-') || text.ends_with('-')
    {
        return wrong("write lower-case letters, digits and '-' between them".to_owned());
    }
    Ok(text.to_owned())
}

fn named_after(now: Timestamp) -> String {
    format!("manual-{}", now.strftime("%Y%m%d-%H%M%S"))
}

fn table(all: &[Snapshot], now: Timestamp) -> Table {
    let mut table = Table::new(&["NAME", "STATE", "TRIGGER", "AGE", "MESSAGE"]);
    for snapshot in all {
        let mood = match snapshot.state {
            SnapshotState::Running => Mood::Busy,
            SnapshotState::Complete => Mood::Good,
            SnapshotState::Failed => Mood::Bad,
        };
        let age = snapshot.time.as_deref();
        let age = age
            .map(|time| age::since_text(time, now))
            .unwrap_or_default();
        let plain = |text: String| (text, Mood::Plain);
        table.moody(vec![
            plain(snapshot.name.clone()),
            (format!("{:?}", snapshot.state), mood),
            plain(match snapshot.trigger {
                Trigger::Manual => "manual".to_owned(),
                Trigger::Schedule => "schedule".to_owned(),
            }),
            plain(age),
            plain(snapshot.message.clone().unwrap_or_default()),
        ]);
    }
    table
}

fn data(all: &[Snapshot]) -> Value {
    json!({"snapshots": all})
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn snapshot(name: &str, state: SnapshotState, time: Option<&str>) -> Snapshot {
        Snapshot {
            name: name.into(),
            time: time.map(str::to_owned),
            state,
            message: (state == SnapshotState::Failed).then(|| "its Job failed".to_owned()),
            trigger: match name.starts_with(SCHEDULED) {
                true => Trigger::Schedule,
                false => Trigger::Manual,
            },
        }
    }

    #[test]
    fn each_snapshot_is_shown_with_its_state_and_age() {
        let now = "2026-01-01T03:00:00Z".parse().unwrap();
        let all = [
            snapshot("before-upgrade", SnapshotState::Running, None),
            snapshot("scheduled-20260101-0200", SnapshotState::Failed, None),
            snapshot(
                "scheduled-20260101-0100",
                SnapshotState::Complete,
                Some("2026-01-01T01:00:09Z"),
            ),
        ];
        let shown = table(&all, now).render(style::plain(), None);
        expect![[r#"
            NAME                      STATE      TRIGGER    AGE    MESSAGE
            before-upgrade            Running    manual
            scheduled-20260101-0200   Failed     schedule          its Job failed
            scheduled-20260101-0100   Complete   schedule   119m
        "#]]
        .assert_eq(&shown);
        assert_eq!(data(&all)["snapshots"][2]["state"], "Complete");
    }

    #[test]
    fn names_are_those_that_the_definition_takes() {
        for good in ["a", "before-upgrade", "1", "scheduled"] {
            assert_eq!(new_name(good).as_deref(), Ok(good));
        }
        for wrong in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a_b",
            "scheduled-1",
            &"a".repeat(41),
        ] {
            assert!(new_name(wrong).is_err(), "{wrong}");
        }
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(named_after(now), "manual-20260102-030405");
        assert!(new_name(&named_after(now)).is_ok());
    }

    #[test]
    fn a_name_is_asked_for_once_and_only_so_many() {
        let asked = ["a".to_owned(), "b".to_owned()];
        assert_eq!(with(&asked, "c").unwrap(), ["a", "b", "c"]);
        assert!(with(&asked, "a").is_err());
        assert_eq!(without(&asked, "a"), ["b"]);
        let many: Vec<String> = (0..MOST).map(|n| n.to_string()).collect();
        assert!(with(&many, "c").is_err());
    }

    #[test]
    fn one_that_is_not_there_is_told_with_what_is() {
        let all = [snapshot("before-upgrade", SnapshotState::Complete, None)];
        assert!(unknown("a", "before-upgrad", &all).ends_with("did you mean before-upgrade?"));
        assert!(unknown("a", "zzzzzz", &all).ends_with("there are before-upgrade"));
        assert!(unknown("a", "b", &[]).ends_with("it has none"));
    }

    #[test]
    fn tenants_without_an_etcd_on_a_volume_have_no_snapshots() {
        let vcp = |spec: Value| -> VirtualControlPlane {
            serde_json::from_value(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane", "metadata": {"name": "a"}, "spec": spec,
            }))
            .unwrap()
        };
        assert_eq!(cannot(&vcp(json!({}))), None);
        let external = json!({"external": {"kubeconfigSecretRef": {"name": "k"}}});
        assert!(cannot(&vcp(external)).is_some());
        let ephemeral = json!({"etcd": {"storage": {"ephemeral": true}}});
        assert!(cannot(&vcp(ephemeral)).unwrap().contains("emptyDir"));
    }
}
