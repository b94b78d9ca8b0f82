//! Ctrl-C while something is waited for: the wait ends, and the person is told what is left and how to go on.

use crate::error;
use anyhow::Result;

/// Runs `future`, or ends with what `left` says when Ctrl-C comes first.
///
/// From the first call on, Ctrl-C no longer ends the process by itself: questions are asked before.
pub(crate) async fn or_ctrl_c<T>(
    future: impl Future<Output = Result<T>>,
    left: impl FnOnce() -> String,
) -> Result<T> {
    tokio::select! {
        result = future => result,
        _ = tokio::signal::ctrl_c() => Err(error::interrupted(format!("interrupted: {}", left()))),
    }
}
