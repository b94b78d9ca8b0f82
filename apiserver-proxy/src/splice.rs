//! Bytes from one TCP connection to the other, both ways, each half until its own end.
//!
//! A connection that waits holds no buffer: bytes are read into a buffer of the thread, and only what the other side
//! can't take yet is kept. So thousands of idle connections cost little.

use crate::moved::Moved;
use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    task::yield_now,
    time::{Instant, timeout_at},
};

/// Bytes moved at once.
const CHUNK: usize = 64 << 10;
/// Chunks after which other connections have their turn: two fast ends never wait by themselves.
const TURN: usize = 16;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// Moves bytes until both halves have ended, one breaks, or nothing at all has come for `idle`. `moved` counts them on the
/// way, however it ends.
pub(crate) async fn splice(
    mut one: TcpStream,
    mut other: TcpStream,
    idle: Duration,
    moved: &Moved,
) -> io::Result<()> {
    let (one_read, one_write) = one.split();
    let (other_read, other_write) = other.split();
    let last = parking_lot::Mutex::new(Instant::now());
    let both = async {
        tokio::try_join!(
            pump(one_read, other_write, &last, |read| moved.add_there(read)),
            pump(other_read, one_write, &last, |read| moved.add_back(read)),
        )
    };
    tokio::pin!(both);
    loop {
        let until = *last.lock() + idle;
        match timeout_at(until, &mut both).await {
            Ok(ended) => return ended.map(|((), ())| ()),
            Err(_) if *last.lock() + idle > Instant::now() => {}
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    last: &parking_lot::Mutex<Instant>,
    count: impl Fn(usize),
) -> io::Result<()> {
    let mut chunks = 0;
    loop {
        if chunks == TURN {
            chunks = 0;
            yield_now().await;
        }
        let (read, rest) = poll_fn(|cx| step(&mut from, &to, cx)).await?;
        if read == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        chunks += 1;
        count(read);
        *last.lock() = Instant::now();
        to.write_all(&rest).await?;
    }
}

/// Reads once and passes on what is taken at once; says how much was read, and what of it is left.
///
/// A read that fills less than the buffer has taken all there was, which `poll_read` remembers: each message costs one
/// question to the system, where `try_read` would ask a second time.
fn step(
    from: &mut ReadHalf<'_>,
    to: &WriteHalf<'_>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(usize, Vec<u8>)>> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok((0, vec![])));
        }
        let written = match to.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            other => other?,
        };
        Poll::Ready(Ok((bytes.len(), bytes[written..].to_vec())))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::{io::AsyncReadExt, net::TcpListener};

    /// Both ends of a connection.
    pub(crate) async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    #[tokio::test]
    async fn each_half_ends_by_itself_and_nothing_is_lost() {
        let ((mut client, near), (far, mut server)) = tokio::join!(pair(), pair());
        let moved = Arc::new(Moved::default());
        let counting = moved.clone();
        let splicing =
            tokio::spawn(
                async move { splice(near, far, Duration::from_secs(60), &counting).await },
            );
        let question: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let sent = question.clone();
        let asking = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = vec![];
            client.read_to_end(&mut answer).await.unwrap();
            answer
        });
        let mut heard = vec![];
        server.read_to_end(&mut heard).await.unwrap();
        assert!(heard == question);
        // The first half has ended long ago; the second still works.
        server.write_all(b"answer").await.unwrap();
        drop(server);
        assert_eq!(asking.await.unwrap(), b"answer");
        splicing.await.unwrap().unwrap();
        assert_eq!((moved.there(), moved.back()), (3_000_000, 6));
    }

    /// T40: one fast transfer keeps its thread from no other connection.
    #[tokio::test]
    async fn t40_a_fast_transfer_lets_others_have_their_turn() {
        use std::io::{Read, Write};
        const ALL: usize = 256 << 20;
        let ((client, near), (far, server)) = tokio::join!(pair(), pair());
        let [mut client, mut server] = [client, server].map(|stream| {
            let stream = stream.into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            stream
        });
        let writing = std::thread::spawn(move || {
            let chunk = vec![b'x'; 1 << 20];
            (0..ALL >> 20).for_each(|_| client.write_all(&chunk).unwrap());
        });
        let reading = std::thread::spawn(move || {
            let (mut chunk, mut read) = (vec![0; 1 << 20], 0);
            while read < ALL {
                read += server.read(&mut chunk).unwrap();
            }
        });
        let moved = Moved::default();
        let splicing = splice(near, far, Duration::from_secs(60), &moved);
        tokio::pin!(splicing);
        let mut most = 0;
        let ended = std::future::poll_fn(|cx| {
            let before = moved.all();
            let polled = splicing.as_mut().poll(cx);
            most = most.max(moved.all() - before);
            polled
        });
        ended.await.unwrap();
        writing.join().unwrap();
        reading.join().unwrap();
        assert!(most <= (TURN * CHUNK) as u64, "{most} bytes at a time");
    }

    /// T40: for a client that never reads no more is taken than fits on the way, and it ends like one that is silent.
    #[tokio::test]
    async fn t40_who_never_reads_is_let_go() {
        let ((_client, near), (far, mut server)) = tokio::join!(pair(), pair());
        let splicing = tokio::spawn(async move {
            splice(near, far, Duration::from_millis(200), &Moved::default()).await
        });
        let mut said = 0;
        let chunk = [b'x'; CHUNK];
        let error = loop {
            match server.write(&chunk).await {
                Ok(written) => said += written,
                Err(error) => break error,
            }
            assert!(said < 256 << 20, "{said} bytes were taken");
        };
        assert!(
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ),
            "{error}"
        );
        let outcome = splicing.await.unwrap().unwrap_err();
        assert_eq!(outcome.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn silence_ends_it_and_what_came_before_counts() {
        let ((mut client, near), (far, _server)) = tokio::join!(pair(), pair());
        client.write_all(b"abc").await.unwrap();
        let moved = Moved::default();
        let error = splice(near, far, Duration::from_millis(20), &moved).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!((moved.there(), moved.back()), (3, 0));
    }
}
