use super::*;
use crate::identity::provider;
use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
use std::sync::Arc;

/// The first bytes of a client that looks for `name`.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = vec![];
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same message in TLS records of `size` bytes each.
fn fragmented(hello: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = vec![];
    for part in hello[5..].chunks(size) {
        bytes.extend_from_slice(&[22, 3, 1]);
        bytes.extend_from_slice(&(part.len() as u16).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

fn read(bytes: &[u8]) -> Result<Option<String>, Refusal> {
    Hello::default().feed(bytes)
}

#[test]
fn the_name_is_found_whole_in_pieces_and_in_fragments() {
    let bytes = hello("Tenant.Example");
    assert_eq!(read(&bytes), Ok(Some("tenant.example".into())));
    let mut slow = Hello::default();
    for byte in &bytes[..bytes.len() - 1] {
        assert_eq!(slow.feed(&[*byte]), Ok(None));
    }
    let last = slow.feed(&bytes[bytes.len() - 1..]);
    assert_eq!(last, Ok(Some("tenant.example".into())));
    assert_eq!(slow.into_bytes(), bytes);
    for size in [1, 7, 100] {
        assert_eq!(
            read(&fragmented(&bytes, size)),
            Ok(Some("tenant.example".into())),
            "{size}"
        );
    }
}

#[test]
fn what_follows_the_hello_is_kept() {
    let mut bytes = hello("tenant.example");
    bytes.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
    let mut both = Hello::default();
    assert!(both.feed(&bytes).unwrap().is_some());
    assert_eq!(both.into_bytes(), bytes);
}

#[test]
fn garbage_and_nameless_hellos_are_refused() {
    assert_eq!(read(&hello("192.0.2.1")), Err(Refusal::NoName));
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0, 1, 0],
        &[0x17, 3, 3, 0, 1, 0],
    ] {
        assert_eq!(read(garbage), Err(Refusal::NotTls), "{garbage:?}");
    }
}

/// T40: a client may promise much, or send much; it is let go as soon as that shows.
#[test]
fn t40_a_huge_hello_is_cut_off() {
    // A handshake message that says that it has 64 KiB.
    let promise = [22, 3, 1, 0x10, 0, 1, 1, 0, 0];
    assert_eq!(read(&promise[..8]), Ok(None));
    assert_eq!(read(&promise), Err(Refusal::TooLong));
    // One of 16,000 bytes in records of one: six times as much.
    let mut hello = vec![22, 3, 1, 0x3e, 0x80, 1, 0, 0x3e, 0x7c];
    hello.resize(5 + 16_000, 0);
    let mut slow = Hello::default();
    let mut outcome = Ok(None);
    let mut sent = 0;
    for piece in fragmented(&hello, 1).chunks(1024) {
        outcome = slow.feed(piece);
        sent += piece.len();
        if outcome.is_err() {
            break;
        }
    }
    assert_eq!(outcome, Err(Refusal::TooLong));
    assert!(sent <= HELLO_MAX + 1024, "{sent}");
}

/// Nobody has to send all of it to be told that it is none.
#[test]
fn what_can_be_no_hello_is_refused_at_once() {
    for (bytes, outcome) in [
        (&[22][..], Ok(None)),
        (&[22, 3, 1, 0, 5], Ok(None)),
        (&[22, 3, 1, 0, 5, 1, 0, 0, 40, 3], Ok(None)),
        (&[21], Err(Refusal::NotTls)),
        (&[22, 2, 1, 0, 5], Err(Refusal::NotTls)),
        (&[22, 3, 1, 0, 0], Err(Refusal::NotTls)),
        (&[22, 3, 1, 0x40, 1], Err(Refusal::NotTls)),
        (&[22, 3, 1, 0, 5, 2], Err(Refusal::NotTls)),
        (&[22, 3, 1, 0, 1, 1, 23], Err(Refusal::NotTls)),
        // All that it promises, and nothing in it.
        (&[22, 3, 1, 0, 4, 1, 0, 0, 0], Err(Refusal::NotTls)),
    ] {
        assert_eq!(read(bytes), outcome, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_at_all(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let mut hello = Hello::default();
        for piece in pieces {
            if hello.feed(&piece).is_err() {
                break;
            }
        }
    }

    #[test]
    fn any_change_to_a_hello(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
        let mut bytes = hello("tenant.example");
        let length = bytes.len();
        bytes[at % length] = byte;
        let _ = read(&bytes);
        let _ = read(&bytes[..cut % length]);
    }
}
