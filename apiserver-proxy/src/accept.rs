//! Taking connections, each in a task of its own, no more than there is room for.

use crate::metrics::{Metrics, NOBODY, Plane};
use socket2::{SockRef, TcpKeepalive};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections whose caller isn't known yet. Each has ten seconds to say; half-open ones cost little, so there may be many.
const UNKNOWN: usize = 16_000;
/// A peer that doesn't answer any more is noticed after about two minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Held until the caller is known.
pub(crate) type Unknown = OwnedSemaphorePermit;

/// Takes connections until cancelled.
pub(crate) async fn run<F>(
    listener: TcpListener,
    plane: Plane,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    serve: impl Fn(TcpStream, Unknown) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(UNKNOWN));
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(plane = plane.word(), %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Without room the newest is refused: it knows to try again.
        match room.clone().try_acquire_owned() {
            Ok(unknown) => {
                prepare(&stream);
                drop(tasks.spawn(serve(stream, unknown)));
            }
            Err(_) => metrics.count(NOBODY, plane, "full"),
        }
    }
}

/// No delay for small messages; dead peers are noticed.
pub(crate) fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(4);
    // A connection that has ended already is noticed when it is read.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}
