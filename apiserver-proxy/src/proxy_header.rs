//! The PROXY protocol, versions 1 and 2: what a load balancer says of a client before the client's own bytes; pure.
//!
//! It is read only where it comes from networks that an admin named, and required there: whoever else wrote such a header
//! could choose its own address. Only the client's address is taken from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Begins version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1, its end included.
const LINE_MAX: usize = 107;
/// Longest header of version 2 that is taken: addresses, and what balancers append.
const BLOCK_MAX: usize = 1024;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The client; `None` when the balancer speaks for itself, as in a health check.
    pub(crate) source: Option<IpAddr>,
    /// Bytes of the header: what comes after them is the client's.
    pub(crate) length: usize,
}

/// The bytes aren't a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoHeader;

/// Reads the header that a connection begins with; `None`: more bytes are needed.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let begins = |with: &[u8]| {
        let common = bytes.len().min(with.len());
        bytes[..common] == with[..common]
    };
    if begins(&SIGNATURE) {
        return read_block(bytes);
    }
    if begins(b"PROXY ") {
        return read_line(bytes);
    }
    Err(NoHeader)
}

fn read_block(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else {
        return Ok(None);
    };
    let size = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if size > BLOCK_MAX {
        return Err(NoHeader);
    }
    let source = match (head[12], head[13]) {
        // Of the balancer itself.
        (0x20, _) => None,
        (0x21, 0x11) if size >= 12 => Some(4),
        (0x21, 0x21) if size >= 36 => Some(16),
        // Clients that are no TCP over IP, which have no address here.
        (0x21, family) if ![0x11, 0x21].contains(&family) => None,
        _ => return Err(NoHeader),
    };
    if rest.len() < size {
        return Ok(None);
    }
    let source = source.and_then(|width| match width {
        4 => rest
            .first_chunk::<4>()
            .map(|bytes| IpAddr::V4(Ipv4Addr::from(*bytes))),
        _ => rest
            .first_chunk::<16>()
            .map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes))),
    });
    Ok(Some(Header {
        source,
        length: 16 + size,
    }))
}

fn read_line(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let seen = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = seen.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() < LINE_MAX {
            Ok(None)
        } else {
            Err(NoHeader)
        };
    };
    let line = std::str::from_utf8(&seen[..end]).map_err(|_| NoHeader)?;
    let words: Vec<&str> = line.split(' ').collect();
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_| NoHeader);
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4" | "TCP6", source, destination, from, to] => {
            let ports = [from, to].map(str::parse::<u16>);
            let (source, destination) = (address(source)?, address(destination)?);
            let is_v4 = words[1] == "TCP4";
            let fits = source.is_ipv4() == is_v4 && destination.is_ipv4() == is_v4;
            if !fits || ports.iter().any(Result::is_err) {
                return Err(NoHeader);
            }
            Some(source)
        }
        _ => return Err(NoHeader),
    };
    Ok(Some(Header {
        source,
        length: end + 2,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn source(bytes: &[u8]) -> Result<Option<String>, NoHeader> {
        let header = read(bytes)?.expect("it is whole");
        assert_eq!(header.length, bytes.len());
        Ok(header.source.map(|source| source.to_string()))
    }

    #[test]
    fn both_versions_tell_the_clients_address() {
        let four = [192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 1, 187];
        let mut six = [0; 36];
        six[..2].copy_from_slice(&[0x20, 1]);
        six[15] = 7;
        let mut more = four.to_vec();
        more.extend([3, 0, 4, 1, 2, 3, 4]);
        for (bytes, wanted) in [
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 258 443\r\n".to_vec(),
                Some("192.0.2.1"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 2001:db8::2 1 443\r\n".to_vec(),
                Some("2001:db8::1"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN a b c d\r\n".to_vec(), None),
            (block(0x21, 0x11, &four), Some("192.0.2.1")),
            (block(0x21, 0x11, &more), Some("192.0.2.1")),
            (block(0x21, 0x21, &six), Some("2001::7")),
            (block(0x20, 0, &[]), None),
            (block(0x21, 0, &[]), None),
        ] {
            assert_eq!(source(&bytes).unwrap().as_deref(), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn t33_what_is_no_header_is_refused_as_soon_as_it_shows() {
        let long = [b"PROXY ".to_vec(), vec![b'x'; 200]].concat();
        for wrong in [
            &b"\x16\x03\x01"[..],
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 258\r\n",
            b"PROXY TCP4 2001:db8::1 10.0.0.1 258 443\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 258 99999\r\n",
            b"PROXY TCP4  192.0.2.1 10.0.0.1 258 443\r\n",
            b"PROXY UDP4 192.0.2.1 10.0.0.1 258 443\r\n",
            &long,
            &block(0x31, 0x11, &[0; 12]),
            &block(0x21, 0x11, &[0; 11]),
            &block(0x22, 0x11, &[0; 12]),
            &block(0x21, 0x11, &[0; 2000]),
        ] {
            assert_eq!(read(wrong), Err(NoHeader), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end_and_more_bytes_change_no_answer(
            start in prop_oneof![Just(SIGNATURE.to_vec()), Just(b"PROXY ".to_vec()), Just(vec![])],
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let all = [start, bytes].concat();
            let mut first = None;
            for end in 0..=all.len() {
                let answer = read(&all[..end]);
                if let Some(first) = first {
                    prop_assert_eq!(answer, first);
                } else if answer != Ok(None) {
                    if let Ok(Some(header)) = answer {
                        prop_assert!(header.length <= end);
                    }
                    first = Some(answer);
                }
            }
        }
    }
}
