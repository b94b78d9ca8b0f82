//! An answer of unknown length, read as fast as it comes.

use crate::connection::Way;
use anyhow::{Context, ensure};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

/// No answer is silent for longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Reads all of it; the bytes that came, framing among them, and how long they took from the question on.
pub(crate) async fn read(way: &Way, path: &str) -> anyhow::Result<(usize, Duration)> {
    let mut stream = way.open().await?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n");
    let began = Instant::now();
    stream.write_all(head.as_bytes()).await?;
    let (mut buffer, mut all, mut start) = (vec![0; 1 << 20], 0, vec![]);
    loop {
        let read = timeout(LIMIT, stream.read(&mut buffer)).await;
        match read.context("the answer is silent")? {
            // Servers that close without saying so in TLS have said all.
            Ok(0) | Err(_) => break,
            Ok(read) => {
                let room = 64usize.saturating_sub(start.len()).min(read);
                start.extend_from_slice(&buffer[..room]);
                all += read;
            }
        }
    }
    let start = String::from_utf8_lossy(&start).into_owned();
    ensure!(start.starts_with("HTTP/1.1 200"), "{path}: {start}");
    Ok((all, began.elapsed()))
}
