//! F10, the crash sweep: the syncer is killed before, or after, it sends its k-th write, for every k of a workload that
//! creates, updates and deletes every kind; what it finds at its next start must lead to the same end.

use super::same;
use anyhow::{Context, ensure};
use e2e::{
    faultproxy::rule::{Action, Asked, Kill, Rule, Times},
    kind::{
        CLAIM, CONFIG_MAP, DISRUPTION_BUDGET, ENDPOINT_SLICE, INGRESS, Kind, NAMESPACE,
        NETWORK_POLICY, POD, SECRET, SERVICE, SERVICE_ACCOUNT,
    },
    make, oracle,
    rig::{Rig, Wish, ending::hasten, on_rig},
    wait::{PODS, eventually},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};

/// Crashes of the short sweep: after what part of the workload's writes, in percent, and whether before the next one is
/// sent on or after it was answered. At the first nothing is written yet; the last are among the deletes.
const SHORT: [(u64, &str); 5] = [
    (0, "before"),
    (25, "after"),
    (45, "before"),
    (65, "after"),
    (80, "before"),
];
/// How often a crash at one write is tried.
const TRIES: usize = 10;
/// How often one is tried after the writes that a run takes by itself.
const TRIES_AFTER: usize = 3;
/// No workload of this size takes so many writes: the sweep has an end.
const MOST: u64 = 300;

/// What the super cluster holds after each phase.
#[derive(Debug, PartialEq)]
struct Outcome {
    created: String,
    updated: String,
    /// When the namespace is all that the tenant has left.
    deleted: String,
}

#[test]
fn f10_a_crash_at_a_write_changes_nothing_in_the_end_short() {
    on_rig(Wish::default(), async |rig| {
        let mut sweep = Sweep::start(rig).await?;
        for (percent, moment) in SHORT {
            let choose = |writes| 1 + writes * percent / 100;
            sweep.crash_at(choose, moment).await?;
        }
        sweep.end(SHORT.len()).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f10_a_crash_at_any_write_changes_nothing_in_the_end() {
    on_rig(Wish::default(), async |rig| {
        let mut sweep = Sweep::start(rig).await?;
        let writes = sweep.count().await?;
        for moment in ["before", "after"] {
            sweep.crash_at_all(writes, moment).await?;
        }
        sweep.end(2 * usize::try_from(writes)?).await
    });
}

/// Whether a run of the workload had the crash that was meant for it.
#[derive(PartialEq)]
enum Crash {
    Yes,
    /// It took fewer writes.
    No,
}

/// Runs of one workload, all but the first with a crash.
struct Sweep<'a> {
    rig: &'a Rig,
    began: Instant,
    /// The outcome without a crash.
    wanted: Outcome,
    /// Writes of the last run without a crash.
    writes: u64,
    runs: usize,
    crashes: usize,
}

impl<'a> Sweep<'a> {
    /// The run without a crash.
    async fn start(rig: &'a Rig) -> anyhow::Result<Self> {
        let began = Instant::now();
        let rule = count(rig);
        let wanted = workload(rig, "s-none", None)
            .await
            .context("without a fault")?;
        let writes = rule.met();
        ensure!(writes > 15, "the workload took {writes} writes only");
        Ok(Self {
            rig,
            began,
            wanted,
            writes,
            runs: 0,
            crashes: 0,
        })
    }

    /// Another run without a crash, which goes on at the pace of those with one: it doesn't wait until nothing is written
    /// any more. How many writes it took.
    async fn count(&mut self) -> anyhow::Result<u64> {
        let crash = self.crash(MOST, "before").await?;
        ensure!(crash == Crash::No, "the workload took {MOST} writes");
        Ok(self.writes)
    }

    /// Runs in which the syncer is killed at the first write, the second, and so on: at each of those `writes` that a run
    /// takes without a crash, and at what comes after them, until no run takes so many.
    async fn crash_at_all(&mut self, writes: u64, moment: &str) -> anyhow::Result<()> {
        for k in 1..=writes {
            self.crash_at(|_| k, moment).await?;
        }
        for k in writes + 1..MOST {
            if self.try_at(|_| k, moment, TRIES_AFTER).await? == Crash::No {
                return Ok(());
            }
        }
        anyhow::bail!("the workload took {MOST} writes")
    }

    /// A run in which the syncer is killed at the write that is chosen by how many the last run without a crash took.
    async fn crash_at(&mut self, choose: impl Fn(u64) -> u64, moment: &str) -> anyhow::Result<()> {
        let crash = self.try_at(&choose, moment, TRIES).await?;
        ensure!(
            crash == Crash::Yes,
            "{TRIES} runs ended before write {}: the last took {}",
            choose(self.writes),
            self.writes
        );
        Ok(())
    }

    /// The same, so many times at most: on a busy machine many writes become one, so that a run may end before its crash.
    async fn try_at(
        &mut self,
        choose: impl Fn(u64) -> u64,
        moment: &str,
        tries: usize,
    ) -> anyhow::Result<Crash> {
        for _ in 0..tries {
            if self.crash(choose(self.writes), moment).await? == Crash::Yes {
                return Ok(Crash::Yes);
            }
        }
        Ok(Crash::No)
    }

    /// A run in which the syncer is killed at its `k`th write.
    async fn crash(&mut self, k: u64, moment: &str) -> anyhow::Result<Crash> {
        let what = format!("killed {moment} write {k}");
        let rule = kill_at(self.rig, k, moment);
        let namespace = format!("s{}-{moment}-{k}", self.runs);
        let found = workload(self.rig, &namespace, Some(&self.wanted)).await;
        same(&what, &found.context(what.clone())?, &self.wanted)?;
        self.runs += 1;
        if rule.met() < k {
            self.writes = rule.met();
            return Ok(Crash::No);
        }
        self.crashes += 1;
        Ok(Crash::Yes)
    }

    async fn end(self, crashes: usize) -> anyhow::Result<()> {
        clear(self.rig);
        ensure!(
            self.crashes >= crashes,
            "{} crashes in {} runs",
            self.crashes,
            self.runs
        );
        oracle::all(self.rig).await?;
        e2e::told!(
            "F10: {} writes without a fault; {} runs with {} crashes, all with the same end, in {} s",
            self.writes,
            self.runs,
            self.crashes,
            self.began.elapsed().as_secs()
        );
        Ok(())
    }
}

fn clear(rig: &Rig) {
    rig.proxy.clear();
    rig.tenants[0].proxy.clear();
}

fn is_counted(asked: &Asked) -> bool {
    asked.is_write() && !oracle::calm::is_mark(asked)
}

/// Counts writes to both sides.
fn count(rig: &Rig) -> Rule {
    clear(rig);
    let nothing = Action::Delay(std::time::Duration::ZERO);
    let rule = Rule::new(is_counted, Times::All, nothing);
    rig.proxy.add(rule.clone());
    rig.tenants[0].proxy.add(rule.clone());
    rule
}

fn kill_at(rig: &Rig, k: u64, moment: &str) -> Rule {
    clear(rig);
    let syncer = rig.syncer.clone();
    let kill: Kill = Arc::new(move || syncer.kill());
    let action = match moment {
        "before" => Action::KillBefore(kill),
        _ => Action::KillAfter(kill),
    };
    let rule = Rule::new(is_counted, Times::Only(k), action);
    rig.proxy.add(rule.clone());
    rig.tenants[0].proxy.add(rule.clone());
    rule
}

/// Creates, updates and deletes in a namespace of its own; each phase ends when both sides say the same, and what was
/// wanted if that is known.
async fn workload(rig: &Rig, namespace: &str, wanted: Option<&Outcome>) -> anyhow::Result<Outcome> {
    let side = &rig.tenants[0].side;
    rig.tenants[0].namespace(namespace).await?;
    for (kind, mut object) in objects(namespace) {
        object["metadata"]["namespace"] = namespace.into();
        side.create(kind, object).await?;
    }
    let created = settled(rig, namespace, wanted.map(|wanted| &*wanted.created))
        .await
        .context("after the creates")?;
    for (kind, name, patch) in updates() {
        side.merge(kind, namespace, name, patch).await?;
    }
    let labels = json!({"metadata": {"labels": {"team": "a"}}});
    side.merge(NAMESPACE, "", namespace, labels).await?;
    let updated = settled(rig, namespace, wanted.map(|wanted| &*wanted.updated))
        .await
        .context("after the updates")?;
    for (kind, object) in objects(namespace).into_iter().rev() {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        side.delete(kind, namespace, name).await?;
    }
    // Only then: a namespace's end takes with it what a lost deletion left.
    let deleted = settled(rig, namespace, wanted.map(|wanted| &*wanted.deleted))
        .await
        .context("after the deletes")?;
    side.delete(NAMESPACE, "", namespace).await?;
    let twin = rig.tenants[0].twin(namespace);
    eventually(PODS, "nothing is left on either side", async || {
        revive(rig).await?;
        hasten(side, namespace).await?;
        hasten(&rig.side, &twin).await?;
        let left = [
            side.find(NAMESPACE, "", namespace).await?,
            rig.side.find(NAMESPACE, "", &twin).await?,
        ];
        ensure!(left.iter().all(Option::is_none), "{left:?}");
        Ok(())
    })
    .await
    .context("after the namespace's deletion")?;
    Ok(Outcome {
        created,
        updated,
        deleted,
    })
}

/// Waits until both sides say the same, and starts the syncer again when it was killed. The answer is the digest of the
/// super cluster's side: the wanted one, or else the one when nothing is written any more, since tokens and what else has no
/// pair come after the pairs.
async fn settled(rig: &Rig, namespace: &str, wanted: Option<&str>) -> anyhow::Result<String> {
    let digest = async || oracle::pairs::digest(rig, &rig.tenants[0], namespace).await;
    let agreed = eventually(PODS, "both sides say the same", async || {
        revive(rig).await?;
        let found = oracle::pairs::differences(rig, &rig.tenants[0]).await?;
        ensure!(found.is_empty(), "{}", found.join("; "));
        let now = digest().await?;
        if let Some(wanted) = wanted {
            ensure!(now == wanted, "{now} instead of {wanted}");
        }
        Ok(now)
    })
    .await
    .with_context(|| rig.syncer.tail())?;
    if wanted.is_some() {
        return Ok(agreed);
    }
    oracle::calm::nothing_is_written(rig).await?;
    digest().await
}

async fn revive(rig: &Rig) -> anyhow::Result<()> {
    if !rig.syncer.runs() {
        rig.syncer.start().await?;
    }
    Ok(())
}

/// One of each sort of kind, what is referred to first. A host is one namespace's alone.
fn objects(namespace: &str) -> Vec<(Kind, Value)> {
    let mut container = make::idle();
    container["envFrom"] = json!([{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}]);
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let mut spec = make::pod_spec(container);
    spec["serviceAccountName"] = "own".into();
    spec["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    let claim = json!({
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let ingress = json!({
        "metadata": {"name": "web"},
        "spec": {
            "tls": [{"secretName": "s"}],
            "rules": [{"host": format!("{namespace}.example"),
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    });
    let policy = json!({"metadata": {"name": "web"}, "spec": {"podSelector": {"matchLabels": {"app": "web"}}}});
    let budget = json!({
        "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    });
    let slice = json!({
        "metadata": {"name": "bare-1", "labels": {"kubernetes.io/service-name": "bare"}},
        "addressType": "IPv4", "endpoints": [], "ports": [{"port": 8080, "name": "", "protocol": "TCP"}],
    });
    vec![
        (SERVICE_ACCOUNT, json!({"metadata": {"name": "own"}})),
        (CONFIG_MAP, make::config_map("c", "k", "v")),
        (
            SECRET,
            json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}}),
        ),
        (SERVICE, make::service("web")),
        (
            SERVICE,
            json!({"metadata": {"name": "bare"}, "spec": {"ports": [{"port": 80}]}}),
        ),
        (ENDPOINT_SLICE, slice),
        (INGRESS, ingress),
        (NETWORK_POLICY, policy),
        (DISRUPTION_BUDGET, budget),
        (CLAIM, claim),
        (
            POD,
            json!({"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": spec}),
        ),
    ]
}

fn updates() -> Vec<(Kind, &'static str, Value)> {
    let other = json!({"podSelector": {"matchLabels": {"tier": "front"}}});
    vec![
        (CONFIG_MAP, "c", json!({"data": {"k": "w"}})),
        (SECRET, "s", json!({"stringData": {"k": "w"}})),
        (
            SERVICE,
            "web",
            json!({"spec": {"selector": {"tier": "front"}}}),
        ),
        (NETWORK_POLICY, "web", json!({"spec": other})),
        (
            DISRUPTION_BUDGET,
            "web",
            json!({"spec": {"minAvailable": 0}}),
        ),
        (
            INGRESS,
            "web",
            json!({"metadata": {"annotations": {"team": "a"}}, "spec": {"tls": null}}),
        ),
        (
            CLAIM,
            "data",
            json!({"metadata": {"labels": {"team": "a"}}}),
        ),
        (
            POD,
            "web",
            json!({"metadata": {"labels": {"tier": "front"}}}),
        ),
    ]
}
