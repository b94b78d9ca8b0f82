//! How long Sublet takes: from a pod in a tenant to its super pod, and from a super pod's status to the tenant's.
//!
//! Both sides are watched by this one process, so there is one clock. Pods go to a node that exists for the API only:
//! the real scheduler binds them, nothing runs, and this tool plays their kubelet. What is measured is what everybody
//! sees: the arrival of watch events, with their way through two API servers and with this tool's own decoding.

mod clock;
mod node;
mod process;
mod report;

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use clock::{Clock, Seen};
use e2e::{
    daemon,
    kind::{NAMESPACE, POD, SECRET, SERVICE_ACCOUNT},
    make,
    read::{self, annotation, text},
    tenant::{A, Tenant},
    wait::{PODS, eventually},
};
use process::Process;
use report::{Report, Row};
use serde_json::{Value, json};
use std::{future::Future, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

/// Measures the latency of the syncer with one tenant.
#[derive(Debug, Parser)]
struct Args {
    /// Pods made, and given a status, per second
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: u32,
    /// Pods made for each kind of pod
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5000))]
    count: u32,
    /// Kinds of pods: without a token, with the default token, or first the one and then the other
    #[arg(long, value_enum, default_value = "both")]
    tokens: Tokens,
    /// Process ID of the syncer, if it isn't the only one on this machine
    #[arg(long, value_name = "PID")]
    syncer_pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tokens {
    Off,
    On,
    Both,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let pid = match args.syncer_pid {
        Some(pid) => pid,
        None => daemon::process(daemon::SYNCER)?,
    };
    let syncer = Process::new(pid);
    let tenant = A.get().await?;
    let node = node::Fake::make(&tenant.above).await?;
    let modes = match args.tokens {
        Tokens::Off => vec![false],
        Tokens::On => vec![true],
        Tokens::Both => vec![false, true],
    };
    let mut report = Report::new(args.rate, args.count);
    let mut result = Ok(());
    for with_token in modes {
        result = measure(&args, tenant, &syncer, with_token, &mut report).await;
        if result.is_err() {
            break;
        }
    }
    node.remove(&tenant.above).await?;
    result?;
    report.print(&syncer)
}

/// Measures one kind of pod in a namespace of its own.
async fn measure(
    args: &Args,
    tenant: &Tenant,
    syncer: &Process,
    with_token: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let namespace = format!("latency-{:06x}", rand::random::<u32>() >> 8);
    let twin = tenant.twin(&namespace);
    tenant
        .side
        .create(NAMESPACE, json!({"metadata": {"name": namespace}}))
        .await?;
    let result = in_namespace(args, tenant, syncer, with_token, &namespace, report).await;
    // This tool is the kubelet too: nobody else ends the super pods.
    tenant.side.delete(NAMESPACE, "", &namespace).await?;
    eventually(PODS, "the namespace is gone on both sides", async || {
        let now = json!({"gracePeriodSeconds": 0});
        for (side, namespace) in [(&tenant.side, &namespace), (&tenant.above, &twin)] {
            let path = POD.path(namespace, "");
            let _ = side
                .request(http::Method::DELETE, &path, Some(now.clone()))
                .await;
        }
        let own = tenant.side.find(NAMESPACE, "", &namespace).await?;
        let twin = tenant.above.find(NAMESPACE, "", &twin).await?;
        ensure!(own.is_none() && twin.is_none(), "it is still there");
        Ok(())
    })
    .await?;
    result
}

async fn in_namespace(
    args: &Args,
    tenant: &Tenant,
    syncer: &Process,
    with_token: bool,
    namespace: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let twin = tenant.twin(namespace);
    let mode = if with_token {
        "with a token"
    } else {
        "without token"
    };
    eventually(PODS, "pods can be made", async || {
        Ok(tenant
            .side
            .get(SERVICE_ACCOUNT, namespace, "default")
            .await
            .map(drop)?)
    })
    .await?;
    // The namespace, its companions and what the first pod needs are there before the clock starts.
    tenant
        .side
        .create(POD, pod("first", namespace, with_token))
        .await?;
    eventually(PODS, "the first pod is synced", async || {
        let first = tenant.side.get(POD, namespace, "first").await?;
        ensure!(
            !text(&first, "/spec/nodeName").is_empty(),
            "it isn't bound yet"
        );
        Ok(())
    })
    .await?;

    let clock = Clock::default();
    let watches = [
        clock
            .watch(&tenant.side, &POD.path(namespace, ""), in_tenant)
            .await?,
        clock
            .watch(&tenant.above, &POD.path(&twin, ""), in_super)
            .await?,
        clock
            .watch(&tenant.above, &SECRET.path(&twin, ""), token)
            .await?,
    ];
    let names: Vec<String> = (0..args.count).map(|n| format!("pod-{n:04}")).collect();

    let before = syncer.cpu()?;
    at_rate(args.rate, &names, |name| {
        let (side, clock) = (tenant.side.clone(), clock.clone());
        let (pod, name) = (pod(name, namespace, with_token), name.to_owned());
        async move {
            clock.note(&name, Seen::Sent);
            side.create(POD, pod).await.map(drop).map_err(Into::into)
        }
    })
    .await?;
    clock.all(&names, Seen::Bound).await?;
    if with_token {
        clock.all(&names, Seen::Token).await?;
    }
    let create_cpu = syncer.cpu()? - before;
    let between = |from, to| clock.between(&names, from, to);
    report.add(Row::new(
        "tenant pod seen → super pod seen",
        mode,
        between(Seen::Pod, Seen::SuperPod)?,
    ));
    report.add(Row::new(
        "create sent → super pod seen",
        mode,
        between(Seen::Sent, Seen::SuperPod)?,
    ));
    if with_token {
        report.add(Row::new(
            "super pod seen → its token Secret seen",
            mode,
            between(Seen::SuperPod, Seen::Token)?,
        ));
    }
    report.add(Row::new(
        "super pod bound → tenant pod bound",
        mode,
        between(Seen::SuperBound, Seen::Bound)?,
    ));

    let before = syncer.cpu()?;
    at_rate(args.rate, &names, |name| {
        let (above, path) = (tenant.above.clone(), POD.path(&twin, name) + "/status");
        async move {
            let status = json!({"status": running()});
            above
                .patch(&path, e2e::side::PatchType::Merge, status)
                .await
                .map(drop)
                .map_err(Into::into)
        }
    })
    .await?;
    clock.all(&names, Seen::Running).await?;
    let status_cpu = syncer.cpu()? - before;
    report.add(Row::new(
        "super status seen → tenant status seen",
        mode,
        between(Seen::SuperRunning, Seen::Running)?,
    ));
    report.cpu(mode, create_cpu, status_cpu);
    for watch in watches {
        watch.abort();
    }
    Ok(())
}

/// Starts one request after the other at a steady rate, without waiting for the answers of earlier ones.
async fn at_rate<F>(rate: u32, names: &[String], request: impl Fn(&str) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    for name in names {
        ticks.tick().await;
        requests.spawn(request(name));
    }
    while let Some(answer) = requests.join_next().await {
        answer.context("a request was cancelled")??;
    }
    Ok(())
}

fn pod(name: &str, namespace: &str, with_token: bool) -> Value {
    let mut spec = make::pod_spec(make::idle());
    spec["automountServiceAccountToken"] = with_token.into();
    spec["nodeSelector"] = json!({"kubernetes.io/hostname": node::NAME});
    spec["tolerations"] = json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}]);
    json!({"metadata": {"name": name, "namespace": namespace, "labels": {"app": "latency"}}, "spec": spec})
}

/// What a kubelet writes once a pod runs.
fn running() -> Value {
    let now = "2026-01-01T00:00:00Z";
    let conditions = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}))
        .collect();
    let container = json!({
        "name": "main", "image": make::PAUSE, "imageID": make::PAUSE, "containerID": "containerd://latency",
        "ready": true, "started": true, "restartCount": 0, "state": {"running": {"startedAt": now}},
    });
    json!({
        "phase": "Running", "conditions": conditions, "containerStatuses": [container], "startTime": now,
        "hostIP": "192.0.2.1", "podIP": "192.0.2.2", "podIPs": [{"ip": "192.0.2.2"}],
    })
}

/// What a tenant's pod shows.
fn in_tenant(pod: &Value) -> Option<(String, Vec<Seen>)> {
    let bound = !text(pod, "/spec/nodeName").is_empty();
    let running = text(pod, "/status/phase") == "Running";
    let mut seen = vec![Seen::Pod];
    seen.extend(bound.then_some(Seen::Bound));
    seen.extend(running.then_some(Seen::Running));
    Some((read::name(pod).to_owned(), seen))
}

/// What a super pod shows; it counts as the tenant's only with its marks.
fn in_super(pod: &Value) -> Option<(String, Vec<Seen>)> {
    let owner = annotation(pod, api::keys::NAME)?.to_owned();
    let bound = !text(pod, "/spec/nodeName").is_empty();
    let running = text(pod, "/status/phase") == "Running";
    let mut seen = vec![Seen::SuperPod];
    seen.extend(bound.then_some(Seen::SuperBound));
    seen.extend(running.then_some(Seen::SuperRunning));
    Some((owner, seen))
}

/// A token Secret, which is its pod's.
fn token(secret: &Value) -> Option<(String, Vec<Seen>)> {
    let role = read::label(secret, api::keys::ROLE)?;
    let owner = text(secret, "/metadata/ownerReferences/0/name").to_owned();
    (role == api::keys::ROLE_TOKEN).then_some((owner, vec![Seen::Token]))
}

/// Now, on the one clock.
fn now() -> Instant {
    Instant::now()
}
