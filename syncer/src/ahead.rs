//! A connection that is read in large pieces.
//!
//! Under TLS at most 4 KiB are asked of a connection at a time, and in a burst an API server has sent many events by then:
//! each piece would be a call of the kernel. So as much as there is is read into a buffer of the thread, and what wasn't
//! asked for is kept until it is. A connection that waits keeps nothing.

use bytes::{Buf, Bytes};
use hyper_util::client::legacy::connect::{Connected, Connection};
use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at once.
const PIECE: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into_boxed_slice());
}

/// The connection, and what was read of it and not asked for yet.
pub(crate) struct Ahead<S> {
    stream: S,
    read: Bytes,
}

impl<S> Ahead<S> {
    /// Nothing is read yet.
    pub(crate) fn of(stream: S) -> Self {
        Self {
            stream,
            read: Bytes::new(),
        }
    }
}

impl<S: Connection> Connection for Ahead<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        asked: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            if asked.remaining() >= PIECE {
                return Pin::new(&mut self.stream).poll_read(cx, asked);
            }
            return BUFFER.with_borrow_mut(|buffer| {
                let mut piece = ReadBuf::new(buffer);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
                let piece = piece.filled();
                let (now, later) = piece.split_at(piece.len().min(asked.remaining()));
                asked.put_slice(now);
                if !later.is_empty() {
                    self.read = Bytes::copy_from_slice(later);
                }
                Poll::Ready(Ok(()))
            });
        }
        let size = self.read.len().min(asked.remaining());
        asked.put_slice(&self.read[..size]);
        self.read.advance(size);
        if self.read.is_empty() {
            // The end of a buffer keeps all of it.
            self.read = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A text that is told from itself at every other place.
    fn text(length: u32) -> Vec<u8> {
        (0..length).flat_map(u32::to_be_bytes).collect()
    }

    #[tokio::test]
    async fn whatever_is_asked_for_everything_comes_once_and_in_order() {
        for asked in [1, 7, 4096, PIECE, 3 * PIECE] {
            let (near, mut far) = tokio::io::duplex(2 * PIECE);
            let sent = text(50_000);
            let sending = sent.clone();
            let writing = tokio::spawn(async move {
                far.write_all(&sending).await.unwrap();
                far
            });
            let (mut near, mut come, mut piece) = (Ahead::of(near), vec![], vec![0; asked]);
            while come.len() < sent.len() {
                let size = near.read(&mut piece).await.unwrap();
                assert!(size > 0, "it ended early");
                come.extend_from_slice(&piece[..size]);
            }
            assert!(come == sent, "{asked}");
            assert!(near.read.is_empty());
            drop(writing.await.unwrap());
            assert_eq!(near.read(&mut piece).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn what_two_connections_read_ahead_is_each_ones_own() {
        let (one, mut other_one) = tokio::io::duplex(PIECE);
        let (two, mut other_two) = tokio::io::duplex(PIECE);
        other_one.write_all(b"abcd").await.unwrap();
        other_two.write_all(b"wxyz").await.unwrap();
        let (mut one, mut two) = (Ahead::of(one), Ahead::of(two));
        let mut come = vec![];
        for _ in 0..4 {
            come.push(one.read_u8().await.unwrap());
            come.push(two.read_u8().await.unwrap());
        }
        assert_eq!(come, b"awbxcydz");
    }

    #[tokio::test]
    async fn what_is_written_goes_on_at_once() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Ahead::of(near);
        near.write_all(b"ping").await.unwrap();
        let mut come = [0; 4];
        far.read_exact(&mut come).await.unwrap();
        assert_eq!(&come, b"ping");
        near.shutdown().await.unwrap();
        assert_eq!(far.read(&mut come).await.unwrap(), 0);
    }
}
