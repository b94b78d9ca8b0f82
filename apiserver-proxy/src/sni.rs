//! The server name in the first bytes of a TLS connection; pure: bytes in, a name out.
//!
//! rustls reads them, as it would for a connection of its own. What was read is kept, since the tenant's API server must
//! get it too.

use rustls::server::Acceptor;

/// Longest first message: a large one with post-quantum keys and tickets has 5 KiB.
pub(crate) const HELLO_MAX: usize = 16 << 10;

/// TLS alert `unrecognized_name`, fatal.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// TLS alert `access_denied`, fatal: the tenant sleeps, and this connection doesn't wake it.
pub(crate) const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// What came so far.
#[derive(Default)]
pub(crate) struct Hello {
    acceptor: Acceptor,
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
    pub(crate) fn feed(&mut self, mut more: &[u8]) -> Result<Option<String>, Refusal> {
        self.bytes.extend_from_slice(more);
        if self.bytes.len() > HELLO_MAX {
            return Err(Refusal::TooLong);
        }
        while !more.is_empty() {
            match self.acceptor.read_tls(&mut more) {
                Ok(0) | Err(_) => return Err(Refusal::NotTls),
                Ok(_) => {}
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let name = hello.server_name().ok_or(Refusal::NoName)?;
                    return Ok(Some(name.to_ascii_lowercase()));
                }
                Err(_) => return Err(Refusal::NotTls),
            }
        }
        Ok(None)
    }

    /// All bytes that came.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
pub(crate) mod tests;
