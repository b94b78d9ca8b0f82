//! The kubelet of the virtual nodes beside the real one: the same pod is asked through the tenant's API server and through
//! the super cluster's, in turns.

use crate::{
    connection::Way,
    exec::Session,
    figure::{Figure, Told, at, milliseconds},
    stream,
};
use anyhow::{Context, ensure};
use e2e::{
    kind::NAMESPACE,
    make, settings,
    space::Space,
    tenant::A,
    wait::{PODS, eventually},
};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Its name among the results that are kept.
pub(crate) const SCENARIO: &str = "kubelet";
/// Sessions whose start is measured in each round, each way.
const STARTS: usize = 20;
/// What the pod writes when its log is whole.
const DONE: &str = "the-log-is-whole";

/// Both ways to one pod.
struct Ways {
    space: Space,
    native: Way,
    tenant: Way,
}

/// Measures logs of so many bytes, the start of `exec`, and so many sessions at once.
pub(crate) async fn measure(
    rounds: u32,
    size: usize,
    sessions: usize,
) -> anyhow::Result<Vec<Figure>> {
    let above = std::fs::read_to_string(settings::kubeconfig()?)?;
    let tenant = A.get().await?;
    let name = e2e::make::unique("bench");
    let ways = Ways {
        space: Space::open(tenant.clone(), &name).await?,
        native: Way::of(&above)?,
        tenant: Way::of(&tenant.kubeconfig)?,
    };
    let figures = all(&ways, rounds, size, sessions).await;
    tenant.side.delete(NAMESPACE, "", &name).await?;
    figures
}

async fn all(
    ways: &Ways,
    rounds: u32,
    size: usize,
    sessions: usize,
) -> anyhow::Result<Vec<Figure>> {
    // Lines of a KiB, then one that says that all is there.
    let line = "x".repeat(1023);
    let script = format!("yes {line} | head -c {size}; echo {DONE}; sleep 86400");
    ways.space
        .pod("talker", make::pod_spec(make::shell(&script)))
        .await?;
    let quiet = make::pod_spec(make::shell("sleep 86400"));
    ways.space.pod("listener", quiet).await?;
    for pod in ["talker", "listener"] {
        ways.space.ready(pod).await?;
    }
    eprintln!("kubelet: a log of {} MB", size >> 20);
    let mut figures = vec![logs(ways, rounds, size).await?];
    eprintln!("kubelet: starts of exec");
    figures.push(starts(ways, rounds).await?);
    eprintln!("kubelet: {sessions} sessions of exec at once");
    figures.push(crowd(ways, sessions).await?);
    Ok(figures)
}

impl Ways {
    /// Both: the way and the namespace as it is called there, the native one first.
    fn both(&self) -> [(&Way, &str); 2] {
        [
            (&self.native, self.space.twin.as_str()),
            (&self.tenant, self.space.name.as_str()),
        ]
    }
}

async fn logs(ways: &Ways, rounds: u32, size: usize) -> anyhow::Result<Figure> {
    let tail = format!(
        "/api/v1/namespaces/{}/pods/talker/log?tailLines=1",
        ways.space.name
    );
    eventually(PODS, "the log is whole", async || {
        let last = ways.space.side().text(&tail).await?;
        ensure!(last.contains(DONE), "{last:.100}");
        Ok(())
    })
    .await?;
    let mut rates = [vec![], vec![]];
    for _ in 0..rounds {
        for ((way, namespace), rates) in ways.both().into_iter().zip(&mut rates) {
            let path = format!("/api/v1/namespaces/{namespace}/pods/talker/log");
            let (bytes, time) = stream::read(way, &path).await?;
            ensure!(
                bytes >= size,
                "{bytes} bytes of {size} came: the node rotates logs sooner; `cargo xtask super up` sets it up so that \
                 it doesn't"
            );
            rates.push(bytes as f64 / time.as_secs_f64() / 1e6);
        }
    }
    let [native, tenant] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    Ok(Figure::new(
        SCENARIO,
        Told::new(
            "logs",
            format!(
                "kubelet, logs of {} MB: share of the native rate",
                size >> 20
            ),
            "",
        ),
        tenant / native,
        json!({"nativeMBPerSecond": native, "tenantMBPerSecond": tenant}),
    ))
}

/// From the connection on until the program has spoken.
async fn starts(ways: &Ways, rounds: u32) -> anyhow::Result<Figure> {
    let mut times = [vec![], vec![]];
    for _ in 0..rounds {
        for _ in 0..STARTS {
            for ((way, namespace), times) in ways.both().into_iter().zip(&mut times) {
                let began = Instant::now();
                let command = ["echo", "here"];
                let mut session = Session::start(way, namespace, "listener", &command).await?;
                let said = session.hear("here\n".len()).await?;
                times.push(began.elapsed());
                ensure!(said == "here\n", "{said}");
            }
        }
    }
    let told = |times: &[Duration]| {
        let [p50, p99] = [0.5, 0.99].map(|share| milliseconds(at(times, share)));
        json!({"p50": p50, "p99": p99, "sessions": times.len()})
    };
    times.iter_mut().for_each(|times| times.sort_unstable());
    let [native, tenant] = &times;
    Ok(Figure::new(
        SCENARIO,
        Told::new("exec", "kubelet, start of exec: p50 over native", "ms"),
        milliseconds(at(tenant, 0.5)) - milliseconds(at(native, 0.5)),
        json!({"native": told(native), "tenant": told(tenant)}),
    ))
}

/// Sessions that are all open at the same time, each of which answers then and ends well.
async fn crowd(ways: &Ways, count: usize) -> anyhow::Result<Figure> {
    let namespace = &ways.space.name;
    let began = Instant::now();
    let mut open = vec![];
    for number in 0..count {
        let session = Session::start(&ways.tenant, namespace, "listener", &["cat"]).await;
        open.push(session.with_context(|| format!("session {number} of {count}"))?);
    }
    let opened = began.elapsed();
    let mut answers = 0;
    let talks = open.into_iter().enumerate().map(|(number, mut session)| {
        tokio::spawn(async move {
            let line = format!("session {number}\n");
            session.say(&line).await?;
            let said = session.hear(line.len()).await?;
            ensure!(said == line, "{said:?} instead of {line:?}");
            session.end().await
        })
    });
    let mut troubles = vec![];
    for talk in talks.collect::<Vec<_>>() {
        match talk.await? {
            Ok(()) => answers += 1,
            Err(trouble) => troubles.push(format!("{trouble:#}")),
        }
    }
    troubles.truncate(5);
    Ok(Figure::new(
        SCENARIO,
        Told::new(
            "sessions",
            format!("kubelet, {count} exec sessions at once: share that end well"),
            "",
        ),
        f64::from(answers) / count as f64,
        json!({
            "sessions": count, "endedWell": answers,
            "secondsToOpen": opened.as_secs_f64(), "secondsInAll": began.elapsed().as_secs_f64(),
            "troubles": troubles,
        }),
    ))
}
