//! `sublet sleep` and `sublet wake`: a control plane's pods go and come back; what the tenant runs goes on, or ends first.

use crate::{
    age,
    cluster::Cluster,
    condition::{self, State},
    error, output,
    progress::Progress,
    tenant,
    waiting::Waiting,
    watch::{self, Limit},
};
use anyhow::Result;
use api::{SYSTEM_NAMESPACE, Sleep, SleepingWorkload, VirtualControlPlane, keys};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use std::time::Duration;

/// Flags of `sublet sleep`.
#[derive(Debug, clap::Args)]
#[command(after_help = SLEEP_EXAMPLES)]
pub(crate) struct ToSleep {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// A connection to its front door wakes it, and it sleeps again some time after the last one
    #[arg(long)]
    wake_on_connection: bool,
    /// How long after the last connection it sleeps again; 15m when left out
    #[arg(long, value_name = "DURATION", requires = "wake_on_connection", value_parser = idle)]
    after_idle: Option<Duration>,
    /// Not now, but whenever nobody has been connected for so long; a connection wakes it
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["wake_on_connection", "after_idle"], value_parser = idle)]
    when_idle: Option<Duration>,
    /// The tenant's pods end before it sleeps; without, they run on
    #[arg(long)]
    stop_workload: bool,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<3>,
}

const SLEEP_EXAMPLES: &str = "\
Examples:
  sublet sleep team-a                        asleep until it is woken
  sublet sleep team-a --wake-on-connection   asleep until somebody connects
  sublet sleep team-a --when-idle 30m        asleep whenever nobody was connected for so long
  sublet sleep team-a --stop-workload        asleep once its pods have ended, each with its grace";

/// Flags of `sublet wake`.
#[derive(Debug, clap::Args)]
#[command(after_help = WAKE_EXAMPLES)]
pub(crate) struct Wake {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<5>,
}

const WAKE_EXAMPLES: &str = "\
Examples:
  sublet wake team-a            waits until it works again
  sublet wake team-a --no-wait";

/// Puts a tenant to sleep.
pub(crate) async fn sleep(args: &ToSleep, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    if vcp.spec.external.is_some() {
        return Err(error::fail(format!(
            "Sublet doesn't run the control plane of {}: whoever runs it may stop it; after `{}` nothing of the \
             tenant is looked at meanwhile",
            args.name,
            cluster.hint(&format!("pause {}", args.name))
        )));
    }
    if let Some(owner) = tenant::cluster_of(&vcp) {
        return Err(error::fail(format!(
            "the tenant {} belongs to Cluster {owner} of Cluster API, which asks its API server every few seconds: it can't sleep",
            args.name
        )));
    }
    tenant::refuse_paused(cluster, &vcp)?;
    let wish = wish(args);
    if keeps_pods(&vcp, &wish) {
        let wake = cluster.hint(&format!("wake {}", args.name));
        return Err(error::fail(format!(
            "{} sleeps already, with its pods running, and only its own API server can end them: first `{wake}`",
            args.name
        )));
    }
    let asleep = wish.asleep;
    if args.when_idle.is_some() {
        // Idleness counts from now.
        visit(cluster, &vcp).await?;
    }
    ask(cluster, &vcp, &wish).await?;
    if args.waiting.no_wait || !asleep {
        let text = match args.when_idle {
            Some(idle) => format!(
                "{} falls asleep whenever nobody was connected for {}",
                args.name,
                age::elapsed(idle)
            ),
            None => format!("sleep of {} requested", args.name),
        };
        return output::print_line(&text);
    }
    let mut progress = Progress::start(&format!("putting {} to sleep", args.name));
    let left = |_: &str| watch::goes_on(cluster, &args.name);
    let limit = Limit {
        time: args.waiting.timeout,
        late: "isn't asleep",
        left: &left,
    };
    let asleep = watch::until(cluster, &vcp, &mut progress, limit, |now, progress| {
        if let Some(refused) = refusal(&now) {
            return Ok(Some(Some(refused)));
        }
        let text = match condition::state(&now) {
            State::Asleep(text) => text,
            State::Waiting(text) => {
                if condition::is_true(&now, "StoppingWorkload") {
                    progress.state(&condition::brief(&text));
                }
                return Ok(None);
            }
            State::Working | State::Stuck(_) => return Ok(None),
        };
        progress.state(&text);
        let falls = condition::find(&now, "Sleeping").map(|c| c.reason.as_str());
        // Of another super cluster only the phase is told here.
        Ok((falls != Some("FallingAsleep")).then_some(None))
    });
    let refused = asleep.await?;
    let total = age::elapsed(progress.elapsed());
    drop(progress);
    if let Some(refused) = refused {
        let ours = |now: &VirtualControlPlane| asked(&now.spec.sleep) == asked(&wish);
        let before = asked(&before(&vcp.spec.sleep));
        tenant::put_back(cluster, &vcp, ours, &before).await?;
        return Err(error::fail(format!("{} can't sleep: {refused}", args.name)));
    }
    output::print_line(&format!(
        "{} sleeps, after {total}; {}",
        args.name,
        if args.wake_on_connection {
            "a connection wakes it".to_owned()
        } else {
            format!(
                "`{}` wakes it",
                cluster.hint(&format!("wake {}", args.name))
            )
        }
    ))
}

/// Wakes a tenant.
pub(crate) async fn wake(args: &Wake, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    tenant::refuse_paused(cluster, &vcp)?;
    let wish = Sleep {
        asleep: false,
        ..vcp.spec.sleep.clone()
    };
    ask(cluster, &vcp, &wish).await?;
    if wish.after_idle.is_some() {
        // It sleeps because nobody came: now somebody did.
        visit(cluster, &vcp).await?;
    }
    if args.waiting.no_wait {
        return output::print_line(&format!("waking of {} requested", args.name));
    }
    let mut progress = Progress::start(&format!("waking {}", args.name));
    let left = |_: &str| watch::goes_on(cluster, &args.name);
    let limit = Limit {
        time: args.waiting.timeout,
        late: "isn't awake",
        left: &left,
    };
    let awake = watch::until(cluster, &vcp, &mut progress, limit, |now, progress| {
        let is_current = now.spec.sleep == wish;
        match condition::state(&now) {
            State::Working if is_current => Ok(Some(())),
            State::Stuck(text) => Err(error::fail(format!("{} can't wake: {text}", args.name))),
            State::Waiting(text) => {
                progress.state(&condition::brief(&text));
                Ok(None)
            }
            // The manager hasn't heard of it yet; what wakes it is no news.
            State::Working | State::Asleep(_) => Ok(None),
        }
    });
    awake.await?;
    let total = age::elapsed(progress.elapsed());
    drop(progress);
    output::print_line(&format!("{} is awake, after {total}", args.name))
}

/// What the flags ask for.
fn wish(args: &ToSleep) -> Sleep {
    let after = args.when_idle.or(args.after_idle);
    Sleep {
        asleep: args.when_idle.is_none(),
        wake_on_connection: args.wake_on_connection || args.when_idle.is_some(),
        after_idle: after.map(spell),
        workload: match args.stop_workload {
            true => SleepingWorkload::Stop,
            false => SleepingWorkload::Keep,
        },
    }
}

/// Whether it fell asleep with its pods running, which are now wished to end.
fn keeps_pods(vcp: &VirtualControlPlane, wish: &Sleep) -> bool {
    let is_asleep = matches!(condition::state(vcp), State::Asleep(_));
    is_asleep
        && vcp.spec.sleep.workload == SleepingWorkload::Keep
        && wish.workload == SleepingWorkload::Stop
}

/// Why the tenant can't sleep as it is asked to now.
fn refusal(vcp: &VirtualControlPlane) -> Option<String> {
    let refused = condition::find(vcp, "SleepRefused")?;
    condition::is_true(vcp, "SleepRefused").then(|| refused.message.clone())
}

/// What is put back when sleep was refused: what stood there, unless that asks for the same.
fn before(sleep: &Sleep) -> Sleep {
    if sleep.asleep {
        Sleep::default()
    } else {
        sleep.clone()
    }
}

async fn ask(cluster: &Cluster, vcp: &VirtualControlPlane, wish: &Sleep) -> Result<()> {
    tenant::change(cluster, vcp, &asked(wish)).await
}

/// A wish as the spec has it.
fn asked(wish: &Sleep) -> Value {
    json!({"sleep": {
        "asleep": wish.asleep,
        "wakeOnConnection": wish.wake_on_connection,
        "afterIdle": wish.after_idle,
        "workload": wish.workload,
    }})
}

/// Leaves a mark, as the front door does of a client.
async fn visit(cluster: &Cluster, vcp: &VirtualControlPlane) -> Result<()> {
    let Some(identity) = &vcp.spec.identity else {
        return Ok(());
    };
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let mark = format!("sublet-{:016x}", rand::random::<u64>());
    let patch = Patch::Merge(json!({"data": {identity: mark}}));
    api.patch(keys::VISITS, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// A duration that may be one of idleness.
fn idle(text: &str) -> Result<Duration, String> {
    let duration = age::parse(text)?;
    if duration < Duration::from_secs(120) {
        return Err("two minutes are the least: visits are told of twice a minute".to_owned());
    }
    if duration > Duration::from_secs(99_999 * 60) {
        return Err("69 days are the most".to_owned());
    }
    Ok(duration)
}

/// As the resource definition wants it.
fn spell(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds.is_multiple_of(3600) && seconds >= 3600 => {
            format!("{}h", seconds / 3600)
        }
        seconds if seconds.is_multiple_of(60) || seconds > 99_999 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ToSleep,
    }

    fn asks(flags: &[&str]) -> Option<(bool, bool, Option<String>)> {
        let words = ["sleep", "a"].iter().chain(flags);
        let wish = wish(&Line::try_parse_from(words).ok()?.args);
        Some((wish.asleep, wish.wake_on_connection, wish.after_idle))
    }

    #[test]
    fn flags_ask_for_what_they_say() {
        assert_eq!(asks(&[]), Some((true, false, None)));
        assert_eq!(asks(&["--wake-on-connection"]), Some((true, true, None)));
        assert_eq!(
            asks(&["--wake-on-connection", "--after-idle", "90m"]),
            Some((true, true, Some("90m".into())))
        );
        assert_eq!(
            asks(&["--when-idle", "2h"]),
            Some((false, true, Some("2h".into())))
        );
        for wrong in [
            &["--after-idle", "30m"][..],
            &["--when-idle", "30s"],
            &["--when-idle", "30m", "--wake-on-connection"],
        ] {
            assert_eq!(asks(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn pods_of_a_tenant_that_sleeps_already_cannot_be_ended() {
        let wish_of = |flags: &[&str]| {
            let words = ["sleep", "a"].iter().chain(flags);
            wish(&Line::try_parse_from(words).unwrap().args)
        };
        let (keep, stop) = (wish_of(&[]), wish_of(&["--stop-workload"]));
        assert_eq!(asked(&stop)["sleep"]["workload"], "Stop");
        assert_eq!(asked(&keep)["sleep"]["workload"], "Keep");
        let vcp = |phase: &str, workload: &str| -> VirtualControlPlane {
            serde_json::from_value(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane", "metadata": {"name": "a"},
                "spec": {"sleep": {"asleep": true, "workload": workload}}, "status": {"phase": phase},
            }))
            .unwrap()
        };
        assert!(keeps_pods(&vcp("Sleeping", "Keep"), &stop));
        assert!(!keeps_pods(&vcp("Sleeping", "Keep"), &keep));
        assert!(!keeps_pods(&vcp("Sleeping", "Stop"), &stop), "once more");
        assert!(!keeps_pods(&vcp("Ready", "Keep"), &stop));
    }

    #[test]
    fn a_refusal_counts_for_the_present_wish_and_leaves_no_wish_behind() {
        let vcp = |generation| -> VirtualControlPlane {
            serde_json::from_value(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": "a", "generation": generation}, "spec": {},
                "status": {"conditions": [{
                    "type": "SleepRefused", "status": "True", "reason": "StorageIsEphemeral", "message": "its etcd",
                    "lastTransitionTime": "2025-01-01T00:00:00Z", "observedGeneration": 2,
                }]},
            }))
            .unwrap()
        };
        assert_eq!(refusal(&vcp(2)).as_deref(), Some("its etcd"));
        assert_eq!(refusal(&vcp(3)), None, "of an earlier wish");
        let idle = Sleep {
            wake_on_connection: true,
            after_idle: Some("30m".into()),
            ..Sleep::default()
        };
        assert_eq!(before(&idle), idle);
        let asleep = Sleep {
            asleep: true,
            ..idle
        };
        assert_eq!(before(&asleep), Sleep::default());
    }

    #[test]
    fn durations_are_spelled_as_the_definition_wants_them() {
        let spelled = [120, 125, 5400, 7200, 360_000, 99_999 * 60]
            .map(|seconds| spell(Duration::from_secs(seconds)));
        assert_eq!(spelled, ["2m", "125s", "90m", "2h", "100h", "99999m"]);
    }
}
