//! Servers outside, which know the names that aren't the cluster's.

use super::message::{self, Transport};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long one server may take. Clients wait for five seconds, so a second one is asked in time.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many times it is asked: the first two servers, or the only one twice.
const TRIES: usize = 2;
/// The longest datagram.
const LONGEST: usize = 65_535;
/// Port of DNS.
const PORT: u16 = 53;

/// The servers, in the order in which they are asked.
#[derive(Debug, Default)]
pub(crate) struct Upstreams(Vec<SocketAddr>);

impl Upstreams {
    /// These servers.
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        Self(servers)
    }

    /// The servers that a `resolv.conf` names.
    pub(crate) fn from_resolv_conf(text: &str) -> Self {
        let servers = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = (words.next() == Some("nameserver")).then(|| words.next())??;
            Some(SocketAddr::new(address.parse().ok()?, PORT))
        });
        Self(servers.collect())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks a question as it came, and returns the answer as it came, under the question's number; `None` when nobody
    /// answers. Each time it goes out under a number and from a port that nobody else can know.
    pub(super) async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let own = message::number(question)?;
        for server in self.0.iter().cycle().take(TRIES) {
            let mut asked = question.to_vec();
            message::renumber(&mut asked, rand::random());
            let answered = timeout(PATIENCE, async {
                match transport {
                    Transport::Udp => by_datagram(*server, &asked).await,
                    Transport::Tcp => by_stream(*server, &asked).await,
                }
            });
            if let Ok(Ok(mut reply)) = answered.await {
                message::renumber(&mut reply, own);
                return Some(reply);
            }
        }
        None
    }
}

async fn by_datagram(server: SocketAddr, asked: &[u8]) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    // Only what comes from there is taken.
    socket.connect(server).await?;
    socket.send(asked).await?;
    let mut reply = Vec::with_capacity(LONGEST);
    loop {
        reply.clear();
        socket.recv_buf(&mut reply).await?;
        if message::answers(asked, &reply) {
            reply.shrink_to_fit();
            return Ok(reply);
        }
    }
}

async fn by_stream(server: SocketAddr, asked: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write(&mut stream, asked).await?;
    let reply = read(&mut stream).await?;
    if message::answers(asked, &reply) {
        Ok(reply)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Reads one message of a stream.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Writes one message to a stream, in one piece.
pub(super) async fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut whole = Vec::with_capacity(bytes.len() + 2);
    whole.extend(length.to_be_bytes());
    whole.extend(bytes);
    stream.write_all(&whole).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_from_a_resolv_conf() {
        let text = "# comment\nnameserver 10.0.0.2\nsearch example.com\nnameserver fd00::53\nnameserver what\n";
        let expected = ["10.0.0.2:53", "[fd00::53]:53"].map(|text| text.parse().unwrap());
        assert_eq!(Upstreams::from_resolv_conf(text).0, expected);
        assert!(Upstreams::from_resolv_conf("").is_empty());
    }
}
