//! A network that can be stopped and cut: bytes between a port and another one of this machine.

use parking_lot::Mutex;
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A network at work; it ends with its handle.
pub struct Link {
    port: u16,
    /// Whether bytes pass.
    open: watch::Sender<bool>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    listening: JoinHandle<()>,
}

impl Link {
    /// From a free port to `port`.
    pub async fn start(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own = listener.local_addr()?.port();
        let open = watch::Sender::new(true);
        let connections = Arc::<Mutex<Vec<JoinHandle<()>>>>::default();
        let (gate, all) = (open.clone(), connections.clone());
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
            open,
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
        self.open.send_replace(false);
    }

    /// All passes again, what was held back first.
    pub fn resume(&self) {
        self.open.send_replace(true);
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

async fn carry(near: TcpStream, port: u16, gate: &watch::Sender<bool>) -> io::Result<()> {
    wait(gate).await;
    let far = TcpStream::connect(("127.0.0.1", port)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        done = pump(near_in, far_out, gate) => done,
        done = pump(far_in, near_out, gate) => done,
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    gate: &watch::Sender<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        wait(gate).await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

async fn wait(gate: &watch::Sender<bool>) {
    // The sender is at hand, so it isn't gone.
    let _ = gate.subscribe().wait_for(|open| *open).await;
}
