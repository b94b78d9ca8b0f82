//! Taking connections, each in a task of its own, and letting go of those that don't say who they are.

use crate::metrics::{Metrics, NOBODY, Plane};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections whose caller isn't known yet. Each has ten seconds to say, and most cost a few KiB; all of them together, with
/// as much said as may be said, take half of the memory that a replica may have.
const UNKNOWN: usize = 16_000;
/// A peer that doesn't answer any more is noticed after about two minutes.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(60);
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
pub(crate) const KEEPALIVE_RETRIES: u32 = 4;
/// After an error; the system has run out of something.
const PAUSE: Duration = Duration::from_millis(50);

/// The connections whose callers aren't known yet. When there are too many, the one that has waited longest goes: a client
/// says who it is within a round trip or two, and those who fill the place don't.
pub(crate) struct Room {
    size: usize,
    waiting: Mutex<Waiting>,
}

/// In the order in which they came.
#[derive(Default)]
struct Waiting {
    next: u64,
    all: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A place in the [`Room`], held until the caller is known.
pub(crate) struct Unknown {
    room: Arc<Room>,
    number: u64,
    asked_to_go: oneshot::Receiver<()>,
}

/// A caller hasn't said who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// In the time that it had.
    Slow,
    /// Until others needed its place.
    Crowded,
}

impl Late {
    /// For metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Crowded => "crowded",
        }
    }
}

impl Room {
    pub(crate) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self {
            size,
            waiting: Mutex::default(),
        })
    }

    /// A place for a connection that has just come.
    pub(crate) fn enter(self: &Arc<Self>) -> Unknown {
        let (told, asked_to_go) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.all.len() >= self.size {
            // Dropping its sender tells it.
            drop(waiting.all.pop_first());
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.all.insert(number, told);
        Unknown {
            room: self.clone(),
            number,
            asked_to_go,
        }
    }

    /// How many are in it.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().all.len()
    }
}

impl Unknown {
    /// Waits until the caller has said who it is, which `saying` reads; then others may have its place.
    pub(crate) async fn wait<T>(
        mut self,
        limit: Duration,
        saying: impl Future<Output = T>,
    ) -> Result<T, Late> {
        tokio::select! {
            biased;
            said = timeout(limit, saying) => said.map_err(|_| Late::Slow),
            _ = &mut self.asked_to_go => Err(Late::Crowded),
        }
    }
}

impl Drop for Unknown {
    fn drop(&mut self) {
        self.room.waiting.lock().all.remove(&self.number);
    }
}

/// A port of the proxy.
pub(crate) struct Accept {
    pub(crate) listener: TcpListener,
    pub(crate) plane: Plane,
    pub(crate) metrics: Arc<Metrics>,
    /// What its connections are served by.
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
}

impl Accept {
    /// Takes connections until cancelled.
    pub(crate) async fn run<F>(self, serve: impl Fn(TcpStream, Unknown) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let room = Room::new(UNKNOWN);
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                () = self.cancel.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    failing = false;
                    prepare(&stream);
                    drop(self.tasks.spawn(serve(stream, room.enter())));
                }
                Err(error) => {
                    self.metrics.count(NOBODY, self.plane, "not_accepted");
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(plane = self.plane.word(), %error, "connections can't be accepted");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// No delay for small messages; dead peers are noticed.
pub(crate) fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    // A connection that has ended already is noticed when it is read.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    const LIMIT: Duration = Duration::from_secs(10);

    /// T40: who fills the place with silence is let go, and a client that speaks at once is heard.
    #[tokio::test(start_paused = true)]
    async fn t40_when_it_is_crowded_the_one_that_waited_longest_goes() {
        let room = Room::new(3);
        let [first, second, third] = [(); 3].map(|()| room.enter());
        let clients = [(); 2].map(|()| room.enter());
        assert_eq!(room.len(), 3);
        assert_eq!(first.wait(LIMIT, pending::<()>()).await, Err(Late::Crowded));
        // One that has spoken by then is served all the same.
        assert_eq!(second.wait(LIMIT, ready("here")).await, Ok("here"));
        for client in clients {
            assert_eq!(client.wait(LIMIT, ready("here")).await, Ok("here"));
        }
        assert_eq!(room.len(), 1);
        assert_eq!(third.wait(LIMIT, pending::<()>()).await, Err(Late::Slow));
        assert_eq!(room.len(), 0);
    }
}
