//! Ctrl-C: whatever runs ends, and the person is told what is left and how to go on.

use crate::error;
use anyhow::Result;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many look after Ctrl-C by themselves now.
static ELSEWHERE: AtomicUsize = AtomicUsize::new(0);

/// While there is one, Ctrl-C is for somebody else, such as a program that runs in the foreground.
pub(crate) struct Elsewhere(());

impl Elsewhere {
    pub(crate) fn begin() -> Self {
        ELSEWHERE.fetch_add(1, Ordering::AcqRel);
        Self(())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        ELSEWHERE.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs `future`, or ends with what `left` says when Ctrl-C comes first.
pub(crate) async fn or_ctrl_c<T>(
    future: impl Future<Output = Result<T>>,
    left: impl FnOnce() -> String,
) -> Result<T> {
    tokio::select! {
        result = future => result,
        _ = tokio::signal::ctrl_c() => Err(error::interrupted(format!("interrupted: {}", left()))),
    }
}

/// Runs a whole command. Ctrl-C ends it wherever it is; who has more to say of what is left does so by [`or_ctrl_c`].
pub(crate) async fn wholly<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let ours = async {
        while tokio::signal::ctrl_c().await.is_ok() {
            if ELSEWHERE.load(Ordering::Acquire) == 0 {
                return;
            }
        }
        // Signals can't be waited for, so they end the process by themselves.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        // Its own words are better.
        biased;
        result = command => result,
        () = ours => Err(error::interrupted("interrupted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::poll;
    use std::{future::pending, pin::pin, time::Duration};

    fn press() {
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::INT).unwrap();
    }

    /// One test, since all tests of a process get the same signal.
    #[tokio::test]
    async fn ctrl_c_ends_a_command_wherever_it_is_with_one_line_and_130_unless_it_is_somebody_elses()
     {
        let shown = |result: Result<()>| error::words(&result.unwrap_err());
        let mut deaf = pin!(wholly(pending::<Result<()>>()));
        assert!(poll!(&mut deaf).is_pending());
        press();
        assert_eq!(shown(deaf.await), ("interrupted".to_owned(), 130));

        let waits = or_ctrl_c(pending::<Result<()>>(), || "look".to_owned());
        let mut says = pin!(wholly(waits));
        assert!(poll!(&mut says).is_pending());
        press();
        assert_eq!(shown(says.await), ("interrupted: look".to_owned(), 130));

        let elsewhere = Elsewhere::begin();
        let mut child = pin!(wholly(pending::<Result<()>>()));
        assert!(poll!(&mut child).is_pending());
        press();
        let goes_on = tokio::time::timeout(Duration::from_millis(300), &mut child).await;
        assert!(goes_on.is_err(), "it is the program's in the foreground");
        drop(elsewhere);
        press();
        assert_eq!(shown(child.await).1, 130);
    }
}
