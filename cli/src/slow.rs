//! An answer that is long in coming: whom it is waited for.

use crate::progress::Progress;
use std::{pin::pin, sync::Arc, time::Duration};

/// Answers that come before say nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// `answer`, and meanwhile on standard error who is asked. Says nothing while something else is told of.
pub(crate) async fn told<T>(url: Arc<str>, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    match tokio::time::timeout(PATIENCE, &mut answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let _progress = Progress::alone(&format!("asking {url}"));
            answer.await
        }
    }
}
