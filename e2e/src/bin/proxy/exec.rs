//! `exec` over a WebSocket, as kubectl does it, with nothing between the clock and the wire.

use crate::connection::Way;
use anyhow::{Context, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Channels of `v5.channel.k8s.io`.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STATUS: u8 = 3;
const CLOSE: u8 = 255;

/// Opcodes of frames.
const BINARY: u8 = 2;
const END: u8 = 8;
const PING: u8 = 9;

/// A running session.
pub(crate) struct Session {
    stream: TlsStream<TcpStream>,
    /// What came and wasn't looked at.
    bytes: Vec<u8>,
}

impl Session {
    /// Starts a program in the container `main` of a pod.
    pub(crate) async fn start(
        way: &Way,
        namespace: &str,
        pod: &str,
        command: &[&str],
    ) -> anyhow::Result<Self> {
        let words: String = command
            .iter()
            .map(|word| format!("command={word}&"))
            .collect();
        let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
        let head = format!(
            "GET /api/v1/namespaces/{namespace}/pods/{pod}/exec?{words}container=main&stdin=true&stdout=true HTTP/1.1\r\n\
             Host: server\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
        );
        let mut session = Self {
            stream: way.open().await?,
            bytes: vec![],
        };
        session.stream.write_all(head.as_bytes()).await?;
        let end = loop {
            let end = session
                .bytes
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => session.more().await?,
            }
        };
        let answer = String::from_utf8_lossy(&session.bytes[..end]).into_owned();
        ensure!(answer.starts_with("HTTP/1.1 101"), "exec: {answer}");
        session.bytes.drain(..end);
        Ok(session)
    }

    /// Writes to the program.
    pub(crate) async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let mut message = vec![STDIN];
        message.extend(text.as_bytes());
        self.send(BINARY, &message).await
    }

    /// Reads from the program until it said so much.
    pub(crate) async fn hear(&mut self, length: usize) -> anyhow::Result<String> {
        let mut said = vec![];
        while said.len() < length {
            let (channel, data) = self.message().await?;
            match channel {
                STDOUT => said.extend(data),
                STATUS => bail!("it ended: {}", String::from_utf8_lossy(&data)),
                _ => {}
            }
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// Ends what the program reads, and waits for its good end.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.send(BINARY, &[CLOSE, STDIN]).await?;
        loop {
            let (channel, data) = self.message().await?;
            if channel == STATUS {
                let status = String::from_utf8_lossy(&data).into_owned();
                ensure!(status.contains("\"Success\""), "{status}");
                return Ok(());
            }
        }
    }

    /// The next message that isn't empty: its channel and what it carries.
    async fn message(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        loop {
            let Some((opcode, data, length)) = frame(&self.bytes) else {
                self.more().await?;
                continue;
            };
            self.bytes.drain(..length);
            match (opcode, data.split_first()) {
                (END, _) => bail!("the session has ended"),
                (PING, _) => self.send(10, &data).await?,
                (_, Some((channel, rest))) if !rest.is_empty() => {
                    return Ok((*channel, rest.to_vec()));
                }
                _ => {}
            }
        }
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        let read = timeout(LIMIT, self.stream.read_buf(&mut self.bytes));
        let read = read.await.context("the session is silent")??;
        ensure!(read > 0, "the connection has ended");
        Ok(())
    }

    /// Sends a short frame; a client's are masked.
    async fn send(&mut self, opcode: u8, data: &[u8]) -> anyhow::Result<()> {
        ensure!(data.len() < 126, "short messages only");
        let mask: [u8; 4] = rand::random();
        let mut bytes = vec![0x80 | opcode, 0x80 | data.len() as u8];
        bytes.extend(mask);
        bytes.extend(data.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }
}

/// The frame that `bytes` begin with: opcode, what it carries, and its length; a server's isn't masked.
fn frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (size, at) = match second & 0x7f {
        126 => (
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            4,
        ),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        size => (u64::from(size), 2),
    };
    let end = at + usize::try_from(size).ok()?;
    Some((first & 0x0f, bytes.get(at..end)?.to_vec(), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_once_they_are_whole() {
        let short = [0x82, 3, STDOUT, b'h', b'i', 0x88];
        assert_eq!(frame(&short[..4]), None);
        assert_eq!(frame(&short), Some((BINARY, vec![STDOUT, b'h', b'i'], 5)));
        let mut long = vec![0x82, 126, 1, 0];
        long.extend([7; 256]);
        assert_eq!(frame(&long), Some((BINARY, vec![7; 256], 260)));
        assert_eq!(frame(&long[..259]), None);
        assert_eq!(frame(&[]), None);
    }
}
