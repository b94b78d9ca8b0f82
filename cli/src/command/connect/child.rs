//! Running a command to its end, whatever signals arrive meanwhile.

use crate::{error, interrupt::Elsewhere};
use anyhow::Result;
use std::{
    ffi::{OsStr, OsString},
    io::ErrorKind,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::ExitStatus,
};
use tokio::{
    process::Command,
    signal::unix::{Signal, SignalKind, signal},
};

/// The signals that would end the process: taken, so that the temporary file can be removed first.
pub(super) struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hang_up: Signal,
    _ours: Elsewhere,
}

impl Signals {
    /// Takes them over.
    pub(super) fn take() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            _ours: Elsewhere::begin(),
        })
    }
}

/// Runs `program` with KUBECONFIG set, and returns the exit code that a shell would give for its end.
///
/// Ctrl-C reaches the program through the terminal, and it decides what to do. Signals sent to this process alone are
/// passed on.
pub(super) async fn run(
    program: &OsStr,
    arguments: &[OsString],
    kubeconfig: &Path,
    mut signals: Signals,
) -> Result<u8> {
    let child = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .spawn();
    let mut child = child.map_err(|err| {
        let name = program.to_string_lossy();
        match err.kind() {
            ErrorKind::NotFound => error::fail(format!(
                "there is no command {name:?}: check its name and PATH"
            )),
            _ => error::fail(format!("can't run {name:?}: {err}")),
        }
    })?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(code(status?)),
            _ = signals.interrupt.recv() => {}
            _ = signals.quit.recv() => {}
            _ = signals.terminate.recv() => pass_on(&child, rustix::process::Signal::TERM),
            _ = signals.hang_up.recv() => pass_on(&child, rustix::process::Signal::HUP),
        }
    }
}

fn pass_on(child: &tokio::process::Child, signal: rustix::process::Signal) {
    let id = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // It may have ended by itself a moment ago.
        let _ = rustix::process::kill_process(id, signal);
    }
}

/// As shells have it: the program's own code, or 128 and the signal that ended it.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str) -> Result<u8> {
        let arguments = ["-c", script].map(OsString::from);
        run(
            OsStr::new("sh"),
            &arguments,
            Path::new("/some/file"),
            Signals::take()?,
        )
        .await
    }

    #[tokio::test]
    async fn the_exit_code_is_passed_through() {
        assert_eq!(sh("exit 7").await.unwrap(), 7);
        assert_eq!(sh("test \"$KUBECONFIG\" = /some/file").await.unwrap(), 0);
        assert_eq!(sh("kill -9 $$").await.unwrap(), 137);
    }

    #[tokio::test]
    async fn a_missing_command_is_named() {
        let err = run(
            OsStr::new("no-such-command"),
            &[],
            Path::new("f"),
            Signals::take().unwrap(),
        )
        .await
        .unwrap_err();
        assert!(err.to_string().contains("no-such-command"));
    }
}
