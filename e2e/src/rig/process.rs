//! Programs that the test process starts and ends.
//!
//! They end with their handle, on a panic too, and with the test process, however that ends.

use super::http;
use crate::wait::{SOON, eventually};
use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, mpsc},
    thread,
};

/// How much of a log a failed test prints.
const TAIL: u64 = 4000;

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

type Order = (Command, mpsc::SyncSender<std::io::Result<Child>>);

/// A program started with `--pdeathsig` ends with the *thread* that started it, so that all are started by one thread
/// that lives as long as the process.
static SPAWNER: LazyLock<mpsc::SyncSender<Order>> = LazyLock::new(|| {
    let (orders, taken) = mpsc::sync_channel::<Order>(0);
    thread::spawn(move || {
        for (mut command, answer) in taken {
            // Whoever asked may be gone; then the child ends here, since nobody holds it.
            if let Err(mpsc::SendError(Ok(mut orphan))) = answer.send(command.spawn()) {
                let _ = orphan.kill();
                let _ = orphan.wait();
            }
        }
    });
    orders
});

impl Process {
    /// Starts `program`; what it writes goes to `FOLDER/NAME.log`.
    pub fn start(
        folder: &Path,
        name: &str,
        program: &Path,
        flags: &[String],
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(flags)
            // Programs in Go, of which many start at once: memory is spent for less work.
            .env("GOGC", "400")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let (answer, started) = mpsc::sync_channel(1);
        SPAWNER
            .send((command, answer))
            .ok()
            .context("the thread that starts programs is gone")?;
        let child = started.recv()?.with_context(|| {
            format!(
                "starting {} with setpriv (of util-linux)",
                program.display()
            )
        })?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its process ID, by which others may send it signals while this handle lives.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.pid(), signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Ends it by a signal and waits for its end.
    pub fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_none() {
            self.signal(signal)?;
        }
        self.child.wait()?;
        Ok(())
    }

    /// An error with the end of its log, if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(
            ended.is_none(),
            "{} has ended: {:?}\n{}",
            self.name,
            ended,
            self.tail()
        );
        Ok(())
    }

    /// Waits until it answers at `/readyz`.
    ///
    /// # Errors
    /// It ends, or it doesn't get so far in time; with the end of its log.
    pub async fn ready(&mut self, port: u16) -> anyhow::Result<()> {
        let what = format!("{} is ready", self.name);
        let ready = eventually(SOON, &what, async || {
            self.check()?;
            http::get(port, "/readyz").await
        });
        ready.await.map(drop).with_context(|| self.tail())
    }

    /// Kills it and gives all that it logged.
    pub fn into_log(self) -> anyhow::Result<String> {
        let log = self.log.clone();
        drop(self);
        Ok(std::fs::read_to_string(log)?)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut bytes = vec![];
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        format!("-- {}\n{}", self.name, read().unwrap_or_default())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A stopped process takes no other signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
