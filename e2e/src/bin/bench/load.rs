//! One run: pods are made as a plan says, in tenants or straight in the super cluster, and watched until they are ready.

use crate::{
    player::Player,
    pod::{self, Tokens},
    requests::{self, Counts, Requests},
    times::{Seen, Times},
    world::World,
};
use anyhow::{Context, ensure};
use e2e::bench::process::{self, Processes};
use e2e::{
    kind::{NAMESPACE, POD, SERVICE_ACCOUNT},
    side::Side,
    wait::{SOON, eventually},
};
use futures::StreamExt;
use rustix::process::Signal;
use serde_json::json;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

/// No run takes longer, unless something is stuck.
const LIMIT: Duration = Duration::from_secs(600);
/// Creations of one lane that are under way at once, in a burst.
const AT_ONCE: usize = 4;

/// Where pods are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Straight in the super cluster, a namespace for each lane.
    Direct,
    /// In the tenants.
    Synced,
}

/// The pods of one tenant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    /// How many.
    pub(crate) pods: usize,
    /// Time until the first creation, where there is time between them: so that those of several lanes don't coincide.
    pub(crate) first: Duration,
    /// Time from one creation to the next; a burst if there is none.
    pub(crate) every: Option<Duration>,
    /// Its API server is stopped as soon as its pods are made, and goes on when all others are ready.
    pub(crate) stopped: bool,
}

impl Lane {
    pub(crate) fn burst(pods: usize) -> Self {
        Self {
            pods,
            first: Duration::ZERO,
            every: None,
            stopped: false,
        }
    }

    /// Lanes of a pod each now and then, one lane's pods between the others'.
    pub(crate) fn steady(lanes: usize, pods: usize, every: Duration) -> Vec<Self> {
        let lane = |number: usize| Self {
            pods,
            first: every.mul_f64(number as f64 / lanes as f64),
            every: Some(every),
            stopped: false,
        };
        (0..lanes).map(lane).collect()
    }
}

/// What was seen.
pub(crate) struct Run {
    pub(crate) times: Arc<Times>,
    /// Numbers of the pods of each lane.
    pub(crate) lanes: Vec<Range<usize>>,
    /// CPU time by part.
    pub(crate) cpu: Vec<(&'static str, Duration)>,
    /// Share of the machine's processors that others used meanwhile, from 0 to 1.
    pub(crate) others: f64,
    /// Requests to the super cluster and to the tenants, without the load program's own.
    pub(crate) requests: BTreeMap<&'static str, Requests>,
    /// PSS of the syncer at the end, in MiB.
    pub(crate) pss: Option<f64>,
}

impl Run {
    /// All pods that are measured.
    pub(crate) fn pods(&self) -> Range<usize> {
        let last = self.lanes.last().map(|lane| lane.end);
        0..last.unwrap_or_default()
    }
}

/// Makes the pods of all lanes and waits until they are ready.
pub(crate) async fn run(
    world: &World,
    route: Route,
    lanes: &[Lane],
    tokens: Tokens,
) -> anyhow::Result<Run> {
    let name = format!("b{:06x}", rand::random::<u32>() >> 8);
    let mut ranges = vec![];
    let mut total = 0;
    for lane in lanes {
        ranges.push(total..total + lane.pods);
        total += lane.pods;
    }
    // One more pod for each lane goes first, so that its namespace and what belongs to it are there.
    let times = Arc::new(Times::new(total + lanes.len()));
    let _player = Player::start(&world.above, &name, &times).await?;
    let mut places = vec![];
    let mut watches = JoinSet::new();
    for number in 0..lanes.len() {
        let side = match route {
            Route::Direct => &world.above,
            Route::Synced => world
                .tenants
                .get(number)
                .context("a tenant for each lane")?,
        };
        let place = Place {
            side: side.clone(),
            namespace: format!("{name}-{number}"),
            run: name.clone(),
            tokens,
            times: times.clone(),
        };
        place.prepare().await?;
        place.watch(&mut watches).await?;
        place.make(total + number).await?;
        places.push(place);
    }
    all_ready(&times, total..total + lanes.len()).await?;

    let before = Before::note(world).await?;
    let mut creations = JoinSet::new();
    for ((place, lane), pods) in places.iter().zip(lanes).zip(&ranges) {
        let (place, lane, pods) = (place.clone(), *lane, pods.clone());
        creations.spawn(async move { (place.make_all(&lane, pods).await, lane) });
    }
    let stopped = lanes.iter().position(|lane| lane.stopped);
    while let Some(made) = creations.join_next().await {
        let (result, lane) = made?;
        result?;
        if let (true, Some(number)) = (lane.stopped, stopped) {
            world.rig()?.tenants[number].api()?.signal(Signal::STOP)?;
        }
    }
    let awaited = ranges.iter().zip(lanes).filter(|(_, lane)| !lane.stopped);
    all_ready(&times, awaited.flat_map(|(pods, _)| pods.clone())).await?;
    let run = before.compare(world, times.clone(), ranges.clone(), route, lanes);
    if let Some(number) = stopped {
        // Its metrics are part of what is compared.
        world.rig()?.tenants[number].api()?.signal(Signal::CONT)?;
        all_ready(&times, ranges[number].clone()).await?;
    }
    run.await
}

/// Waits until all pods are ready.
async fn all_ready(
    times: &Times,
    pods: impl IntoIterator<Item = usize> + Clone,
) -> anyhow::Result<()> {
    eventually(LIMIT, "all pods of the run are ready", async || {
        let missing = times.missing(pods.clone(), Seen::Ready);
        let in_super = times.missing(pods.clone(), Seen::SuperReady);
        ensure!(
            missing == 0,
            "{missing} aren't, of which {in_super} aren't in the super cluster either"
        );
        Ok(())
    })
    .await
}

/// One lane's namespace.
#[derive(Clone)]
struct Place {
    side: Side,
    namespace: String,
    run: String,
    tokens: Tokens,
    times: Arc<Times>,
}

impl Place {
    async fn prepare(&self) -> anyhow::Result<()> {
        let namespace = json!({"metadata": {"name": self.namespace}});
        self.side.create(NAMESPACE, namespace).await?;
        if self.tokens == Tokens::On {
            eventually(SOON, "the default ServiceAccount is there", async || {
                self.side
                    .get(SERVICE_ACCOUNT, &self.namespace, "default")
                    .await?;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Notes when pods are there, and when they are ready.
    async fn watch(&self, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
        let path = format!(
            "{}?watch=true&timeoutSeconds=3600&labelSelector={}",
            POD.path(&self.namespace, ""),
            pod::selector(&self.run)
        );
        let mut events = self.side.watch(&path).await?.boxed();
        let (side, times) = (self.side.clone(), self.times.clone());
        tasks.spawn(async move {
            loop {
                while let Some(event) = events.next().await {
                    let pod = &event["object"];
                    if let Some(number) = pod::number(pod) {
                        times.note(number, Seen::Pod);
                        if pod::is_ready(pod) {
                            times.note(number, Seen::Ready);
                        }
                    }
                }
                events = pod::watch_again(&side, &path).await;
            }
        });
        Ok(())
    }

    async fn make(&self, number: usize) -> anyhow::Result<()> {
        let pod = pod::make(&self.run, &self.namespace, number, self.tokens);
        self.times.note(number, Seen::Sent);
        self.side.create(POD, pod).await?;
        Ok(())
    }

    async fn make_all(&self, lane: &Lane, pods: Range<usize>) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        if let Some(every) = lane.every {
            let mut ticks = interval_at(Instant::now() + lane.first, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in pods {
                ticks.tick().await;
                let place = self.clone();
                tasks.spawn(async move { place.make(number).await });
            }
        } else {
            let next = Arc::new(AtomicUsize::new(pods.start));
            for _ in 0..AT_ONCE {
                let (place, next) = (self.clone(), next.clone());
                tasks.spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= pods.end {
                            return Ok(());
                        }
                        place.make(number).await?;
                    }
                });
            }
        }
        while let Some(made) = tasks.join_next().await {
            made??;
        }
        Ok(())
    }
}

/// What was counted before a run.
struct Before {
    above: Counts,
    tenants: Counts,
    parts: Vec<(&'static str, Processes, Duration)>,
    machine: Duration,
    at: Instant,
}

impl Before {
    async fn note(world: &World) -> anyhow::Result<Self> {
        let above = requests::counted(&[&world.above]).await?;
        let tenants: Vec<&Side> = world.tenants.iter().collect();
        let tenants = requests::counted(&tenants).await?;
        let mut parts = vec![];
        for (name, processes) in world.parts() {
            let cpu = processes.cpu()?;
            parts.push((name, processes, cpu));
        }
        Ok(Self {
            above,
            tenants,
            parts,
            machine: process::machine()?,
            at: crate::times::now(),
        })
    }

    /// What is different now.
    fn compare<'a>(
        self,
        world: &'a World,
        times: Arc<Times>,
        lanes: Vec<Range<usize>>,
        route: Route,
        plan: &[Lane],
    ) -> impl Future<Output = anyhow::Result<Run>> + use<'a> {
        // All that can be told at once is, before anything else happens.
        let elapsed = self.at.elapsed();
        let machine = process::machine();
        let parts: anyhow::Result<Vec<(&'static str, Duration)>> = self
            .parts
            .iter()
            .map(|(name, processes, before)| Ok((*name, processes.cpu()?.saturating_sub(*before))))
            .collect();
        let pss = world.syncer.as_ref().map(Processes::pss);
        let pods: usize = plan.iter().map(|lane| lane.pods).sum();
        async move {
            let cpu = parts?;
            let own: Duration = cpu.iter().map(|(_, cpu)| *cpu).sum();
            let others = machine?.saturating_sub(self.machine).saturating_sub(own);
            let processors = std::thread::available_parallelism()?.get() as f64;
            let above = requests::counted(&[&world.above]).await?;
            let tenants: Vec<&Side> = world.tenants.iter().collect();
            let tenants = requests::counted(&tenants).await?;
            let mut own_above = vec![("POST pods/binding", pods), ("PATCH pods/status", pods)];
            let mut own_tenants = vec![];
            match route {
                Route::Direct => own_above.push(("POST pods", pods)),
                Route::Synced => own_tenants.push(("POST pods", pods)),
            }
            let extent = requests::Extent {
                pods,
                tenants: world.tenants.len(),
                time: elapsed,
            };
            let down = requests::between(&self.above, &above, &own_above, extent);
            let up = requests::between(&self.tenants, &tenants, &own_tenants, extent);
            Ok(Run {
                times,
                lanes,
                cpu,
                others: others.as_secs_f64() / elapsed.as_secs_f64() / processors,
                requests: BTreeMap::from([("down", down), ("up", up)]),
                pss: pss.transpose()?,
            })
        }
    }
}
