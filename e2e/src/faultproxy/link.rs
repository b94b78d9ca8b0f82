//! A network that can be stopped, slowed and cut: bytes between a port and another one of this machine.

use parking_lot::Mutex;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// One of these pieces of a slow network's bytes is lost at first.
const LOSSES: u64 = 20;
/// After so long a lost piece is sent again; what follows it waits.
const SENT_AGAIN: Duration = Duration::from_secs(1);

/// In which direction bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Requests.
    ToServer,
    /// Answers.
    ToClient,
}

/// What the network does.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Nothing passes this way.
    is_stalled: [bool; 2],
    /// How long a piece of bytes takes, which are lost now and then if it is long.
    delay: Duration,
}

/// A network at work; it ends with its handle.
pub struct Link {
    port: u16,
    state: watch::Sender<State>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    listening: JoinHandle<()>,
}

impl Link {
    /// From a free port to `port`.
    pub async fn start(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own = listener.local_addr()?.port();
        let state = watch::Sender::new(State::default());
        let connections = Arc::<Mutex<Vec<JoinHandle<()>>>>::default();
        let (gate, all) = (state.clone(), connections.clone());
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let gate = gate.clone();
                let mut all = all.lock();
                all.retain(|connection| !connection.is_finished());
                all.push(tokio::spawn(async move {
                    // How a connection ends is its two ends' business.
                    let _ = carry(stream, port, &gate).await;
                }));
            }
        });
        Ok(Self {
            port: own,
            state,
            connections,
            listening,
        })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Nothing passes in either direction any more, and nobody is told: what a network does that drops all packets.
    pub fn stall(&self) {
        self.change(|state| state.is_stalled = [true; 2]);
    }

    /// The same in one direction alone: one side goes on hearing the other.
    pub fn stall_one_way(&self, way: Way) {
        self.change(|state| state.is_stalled[way as usize] = true);
    }

    /// From now on bytes take so long in each direction, and one piece in twenty is lost and sent again.
    pub fn slow(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    /// All passes again at once, what was held back first.
    pub fn resume(&self) {
        self.change(|state| *state = State::default());
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    /// Cuts all connections that there are.
    pub fn reset(&self) {
        for connection in self.connections.lock().drain(..) {
            connection.abort();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listening.abort();
        self.reset();
    }
}

async fn carry(near: TcpStream, port: u16, gate: &watch::Sender<State>) -> io::Result<()> {
    wait(gate, Way::ToServer).await;
    let far = TcpStream::connect(("127.0.0.1", port)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        done = pump(near_in, far_out, gate, Way::ToServer) => done,
        done = pump(far_in, near_out, gate, Way::ToClient) => done,
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    gate: &watch::Sender<State>,
    way: Way,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut pieces = 0;
    loop {
        let length = from.read(&mut buffer).await?;
        pieces += 1;
        late(gate, pieces).await;
        wait(gate, way).await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

async fn wait(gate: &watch::Sender<State>, way: Way) {
    let passes = |state: &State| !state.is_stalled[way as usize];
    // The sender is at hand, so it isn't gone.
    let _ = gate.subscribe().wait_for(passes).await;
}

async fn late(gate: &watch::Sender<State>, pieces: u64) {
    let delay = gate.borrow().delay;
    if delay.is_zero() {
        return;
    }
    tokio::time::sleep(delay).await;
    if pieces.is_multiple_of(LOSSES) {
        tokio::time::sleep(SENT_AGAIN).await;
    }
}
