//! The server name in the first bytes of a TLS connection; pure: bytes in, a name out.
//!
//! rustls reads them, as it would for a connection of its own, but not before the message is whole: until then nothing is
//! held of a client but what it sent. What was read is kept, since the tenant's API server must get it too.

use rustls::server::Acceptor;

/// Longest first message: a large one with post-quantum keys and tickets has 5 KiB.
pub(crate) const HELLO_MAX: usize = 16 << 10;

/// Most bytes that a record may carry.
const RECORD_MAX: usize = 1 << 14;
/// Types of records and of messages.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// TLS alert `unrecognized_name`, fatal.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// TLS alert `access_denied`, fatal: the tenant sleeps, and this connection doesn't wake it.
pub(crate) const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// What came so far.
#[derive(Default)]
pub(crate) struct Hello {
    bytes: Vec<u8>,
}

/// The connection leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not TLS, or no client's first message.
    NotTls,
    /// More bytes than any client sends.
    TooLong,
    /// No name is in it, so the tenant can't be told.
    NoName,
}

impl Refusal {
    /// For metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::TooLong => "too_long",
            Self::NoName => "no_name",
        }
    }
}

impl Hello {
    /// Takes more bytes; `None`: more are needed.
    pub(crate) fn feed(&mut self, more: &[u8]) -> Result<Option<String>, Refusal> {
        self.bytes.extend_from_slice(more);
        if self.bytes.len() > HELLO_MAX {
            return Err(Refusal::TooLong);
        }
        if !is_whole(&self.bytes)? {
            return Ok(None);
        }
        let (mut acceptor, mut rest) = (Acceptor::default(), self.bytes.as_slice());
        while !rest.is_empty() {
            match acceptor.read_tls(&mut rest) {
                Ok(0) | Err(_) => return Err(Refusal::NotTls),
                Ok(_) => {}
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let name = hello.server_name().ok_or(Refusal::NoName)?;
                    return Ok(Some(name.to_ascii_lowercase()));
                }
                Err(_) => return Err(Refusal::NotTls),
            }
        }
        Err(Refusal::NotTls)
    }

    /// All bytes that came.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Whether all of a client's first message has come, in however many records. What it says of itself is all that is read.
fn is_whole(mut bytes: &[u8]) -> Result<bool, Refusal> {
    let (mut head, mut seen) = ([0; 4], 0);
    loop {
        let Some((record, rest)) = bytes.split_first_chunk::<5>() else {
            let may_be = bytes.first().is_none_or(|kind| *kind == HANDSHAKE);
            return may_be.then_some(false).ok_or(Refusal::NotTls);
        };
        let [kind, major, _, high, low] = *record;
        let size = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != 3 || !(1..=RECORD_MAX).contains(&size) {
            return Err(Refusal::NotTls);
        }
        let part = &rest[..size.min(rest.len())];
        for (to, from) in head.iter_mut().skip(seen).zip(part) {
            *to = *from;
        }
        seen += part.len();
        if seen > 0 && head[0] != CLIENT_HELLO {
            return Err(Refusal::NotTls);
        }
        let [_, length @ ..] = head;
        let length = length
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if seen >= head.len() && length > HELLO_MAX {
            return Err(Refusal::TooLong);
        }
        if rest.len() < size {
            return Ok(false);
        }
        if seen >= head.len() && seen - head.len() >= length {
            return Ok(true);
        }
        bytes = &rest[size..];
    }
}

#[cfg(test)]
pub(crate) mod tests;
