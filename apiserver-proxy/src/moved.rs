//! Bytes of a connection, counted as they pass: streams mostly end by an error or because their tenant is gone, and what
//! they moved until then counts too.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio_util::sync::CancellationToken;

/// A connection without a byte for so long is closed; a `kubectl exec` may well wait for hours.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);
/// Bytes of a stream that are held each way.
const BUFFER: usize = 32 << 10;

/// Bytes that went each way.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    there: AtomicU64,
    back: AtomicU64,
}

impl Moved {
    /// From the first to the second.
    pub(crate) fn there(&self) -> u64 {
        self.there.load(Ordering::Relaxed)
    }

    /// Back.
    pub(crate) fn back(&self) -> u64 {
        self.back.load(Ordering::Relaxed)
    }

    /// Both ways together.
    pub(crate) fn all(&self) -> u64 {
        self.there() + self.back()
    }

    /// So many more were read from the first.
    pub(crate) fn add_there(&self, bytes: usize) {
        self.there.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many more were read from the second.
    pub(crate) fn add_back(&self, bytes: usize) {
        self.back.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Moves bytes between two streams until both halves have ended, one breaks, nothing has come for `idle`, or the tenant is
    /// gone; says how it ended.
    pub(crate) async fn pass(
        &self,
        near: impl AsyncRead + AsyncWrite + Unpin,
        far: impl AsyncRead + AsyncWrite + Unpin,
        idle: Duration,
        gone: &CancellationToken,
    ) -> &'static str {
        let (mut near, mut far) = self.count(near, far);
        tokio::select! {
            () = gone.cancelled() => "gone",
            () = self.silence(idle) => "idle",
            ended = copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER) => match ended {
                Ok(_) => "done",
                Err(_) => "broken",
            },
        }
    }

    /// Ends when nothing has moved for `idle`, or for up to twice as long.
    async fn silence(&self, idle: Duration) {
        let mut before = self.all();
        loop {
            tokio::time::sleep(idle).await;
            let now = self.all();
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// Both ends of a connection, counted by what is read from them.
    fn count<A, B>(&self, first: A, second: B) -> (Metered<'_, A>, Metered<'_, B>) {
        let one = Metered {
            stream: first,
            read: &self.there,
        };
        let other = Metered {
            stream: second,
            read: &self.back,
        };
        (one, other)
    }
}

/// A stream of which all that is read is counted.
struct Metered<'a, S> {
    stream: S,
    read: &'a AtomicU64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional, duplex};

    /// T40: who says nothing holds nothing for ever, and who speaks now and then goes on.
    #[tokio::test(start_paused = true)]
    async fn t40_silence_ends_a_stream() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        let (moved, gone) = (Moved::default(), CancellationToken::new());
        let began = tokio::time::Instant::now();
        let talking = async {
            for _ in 0..10 {
                tokio::time::sleep(IDLE_LIMIT - Duration::from_secs(1)).await;
                client.write_all(b"x").await.unwrap();
                server.read_u8().await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            outcome = moved.pass(near, far, IDLE_LIMIT, &gone) => outcome,
            () = talking => unreachable!(),
        };
        assert_eq!((outcome, moved.there()), ("idle", 10));
        assert!(began.elapsed() < 13 * IDLE_LIMIT);
    }

    #[tokio::test]
    async fn what_passed_before_an_error_counts() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        let moved = Moved::default();
        let (mut near, mut far) = moved.count(near, far);
        let talking = async {
            client.write_all(b"question").await.unwrap();
            server.read_exact(&mut [0; 8]).await.unwrap();
            server.write_all(b"answer").await.unwrap();
            client.read_exact(&mut [0; 6]).await.unwrap();
            drop(server);
            client.write_all(b"more").await.unwrap();
        };
        let (ended, ()) = tokio::join!(copy_bidirectional(&mut near, &mut far), talking);
        assert!(ended.is_err(), "nobody takes the rest");
        assert_eq!((moved.there(), moved.back(), moved.all()), (12, 6, 18));
    }
}
