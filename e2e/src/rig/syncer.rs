//! The syncer as a process of this machine, outside of any cluster.

use super::{http, memory::Memory, process::Process, server::free_ports};
use crate::{
    settings,
    wait::{SOON, eventually},
};
use anyhow::{Context, ensure};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use std::{path::PathBuf, sync::Arc};

/// How long the syncer takes its time, in seconds, and how much it remembers.
#[derive(Clone, Copy, Debug)]
pub struct Periods {
    /// A round of its patrol.
    pub patrol: u64,
    /// A ConfigMap or Secret that nothing refers to any more stays; as long as usual when left out.
    pub unneeded: Option<u64>,
    /// MiB that it remembers of one tenant; as much as usual when left out.
    pub tenant_memory: Option<u32>,
}

impl Default for Periods {
    fn default() -> Self {
        Self {
            patrol: 300,
            unneeded: None,
            tenant_memory: None,
        }
    }
}

/// A syncer that can be killed and started again.
///
/// Clones stand for the same one, so that a proxy can kill it.
#[derive(Clone)]
pub struct Syncer {
    /// Its name among others.
    pub name: String,
    folder: PathBuf,
    kubeconfig: PathBuf,
    program: Option<PathBuf>,
    filter: Option<&'static str>,
    memory: Option<Arc<Memory>>,
    periods: Periods,
    port: u16,
    process: Arc<Mutex<Option<Process>>>,
}

impl Syncer {
    /// One that reaches the super cluster by `kubeconfig`; it isn't started yet.
    pub fn new(
        folder: PathBuf,
        name: &str,
        kubeconfig: &str,
        periods: Periods,
    ) -> anyhow::Result<Self> {
        let file = folder.join(format!("syncer-{name}.kubeconfig"));
        std::fs::write(&file, kubeconfig)?;
        std::fs::create_dir(folder.join(format!("state-{name}")))?;
        let [port] = free_ports()?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            kubeconfig: file,
            program: None,
            filter: None,
            memory: None,
            periods,
            port,
            process: Arc::default(),
        })
    }

    /// The same of another build.
    pub fn built_as(self, program: PathBuf) -> Self {
        Self {
            program: Some(program),
            ..self
        }
    }

    /// The same, which logs what the filter says.
    pub fn logging(self, filter: &'static str) -> Self {
        Self {
            filter: Some(filter),
            ..self
        }
    }

    /// The same, which has no more memory than a group of processes has.
    pub fn within(self, memory: &Arc<Memory>) -> Self {
        Self {
            memory: Some(memory.clone()),
            ..self
        }
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.launch()?;
        self.ready().await
    }

    /// Starts it. One that still runs is killed first: the next could not take its lock, and would wait until its Lease
    /// has run out.
    pub fn launch(&self) -> anyhow::Result<()> {
        self.kill();
        let mut flags = vec![
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--listen=127.0.0.1:{}", self.port),
            format!("--patrol-period={}", self.periods.patrol),
            format!("--name={}", self.name),
            format!(
                "--state={}",
                self.folder.join(format!("state-{}", self.name)).display()
            ),
        ];
        let unneeded = self.periods.unneeded;
        flags.extend(unneeded.map(|seconds| format!("--unneeded-period={seconds}")));
        let memory = self.periods.tenant_memory;
        flags.extend(memory.map(|mib| format!("--tenant-memory={mib}")));
        let log = format!("syncer-{}", self.name);
        let program = match &self.program {
            Some(program) => program.clone(),
            None => settings::syncer()?,
        };
        let (program, flags) = match self.filter {
            None => (program, flags),
            // It is told by a variable of its environment.
            Some(filter) => {
                let own = [
                    format!("SUBLET_LOG={filter}"),
                    program.display().to_string(),
                ];
                ("env".into(), own.into_iter().chain(flags).collect())
            }
        };
        let (program, flags) = match &self.memory {
            None => (program, flags),
            Some(memory) => {
                let own = [
                    "-c".into(),
                    "echo $$ > \"$0\" && exec \"$@\"".into(),
                    memory.members().display().to_string(),
                    program.display().to_string(),
                ];
                ("sh".into(), own.into_iter().chain(flags).collect())
            }
        };
        let process = Process::start(&self.folder, &log, &program, &flags)?;
        *self.process.lock() = Some(process);
        Ok(())
    }

    /// Waits until it has listed the super cluster.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let ready = eventually(SOON, "the syncer is ready", async || {
            if let Some(process) = self.process.lock().as_mut() {
                process.check()?;
            }
            http::get(self.port, "/readyz").await
        });
        ready.await.map(drop).with_context(|| self.tail())
    }

    /// Kills it, as a machine that loses power does.
    pub fn kill(&self) {
        // Dropping it kills it and waits for its end.
        drop(self.process.lock().take());
    }

    /// Ends it as an orderly shutdown does.
    pub fn stop(&self) -> anyhow::Result<()> {
        let process = self.process.lock().take();
        process.map_or(Ok(()), |mut process| process.end(Signal::TERM))
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.process
            .lock()
            .as_mut()
            .is_some_and(|process| !process.has_ended())
    }

    /// Its process ID, if it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.process.lock().as_ref().map(Process::pid)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.lock();
        process
            .as_ref()
            .context("the syncer doesn't run")?
            .signal(signal)
    }

    /// The sum of a metric's series whose labels contain all of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> anyhow::Result<f64> {
        let text = http::get(self.port, "/metrics").await?;
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .collect();
        ensure!(!lines.is_empty(), "there is no metric {name}");
        let matching = lines
            .iter()
            .filter(|line| labels.iter().all(|label| line.contains(label)));
        let values =
            matching.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
        values
            .sum::<Result<f64, _>>()
            .with_context(|| format!("{name} has no number"))
    }

    /// All that it logged.
    pub fn log(&self) -> anyhow::Result<String> {
        let file = self.folder.join(format!("syncer-{}.log", self.name));
        Ok(std::fs::read_to_string(file)?)
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process
            .lock()
            .as_ref()
            .map(Process::tail)
            .unwrap_or_default()
    }
}
