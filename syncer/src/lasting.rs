//! Tasks that last until a token is cancelled. One that ended sooner would leave all else looking well.

use futures::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span};

/// Spawns one; `span` has its name, in which it logs.
///
/// # Panics
///
/// The task does if it ends by itself, and the process with it: releases abort.
pub(crate) fn spawn(
    tasks: &TaskTracker,
    span: Span,
    cancel: &CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let (cancel, name) = (cancel.clone(), span.metadata().map(|about| about.name()));
    // Not an async block: that would hold the work twice, as what it was given and as what it waits for.
    let lasts = work.map(move |()| {
        assert!(
            cancel.is_cancelled(),
            "the task {} ended by itself",
            name.unwrap_or_default()
        );
    });
    tasks.spawn(lasts.instrument(span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::info_span;

    #[tokio::test]
    async fn one_that_ends_by_itself_ends_the_process_and_one_that_was_told_to_does_not() {
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let ended = spawn(&tasks, info_span!("short"), &cancel, async {}).await;
        let panic = ended.unwrap_err().into_panic();
        let said = panic.downcast_ref::<String>().unwrap();
        assert_eq!(said, "the task short ended by itself");

        let told = cancel.clone();
        let lasting = spawn(&tasks, info_span!("long"), &cancel, async move {
            told.cancelled().await;
        });
        cancel.cancel();
        assert!(lasting.await.is_ok());
    }
}
