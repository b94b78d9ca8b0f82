use super::*;
use crate::{
    index::tests::{authority, place, pod, running},
    world::{PROXY, Speaks, World, code, counted, head, id, say, text},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

async fn world() -> World {
    World::new(|_| Response::new(text(""))).await
}

/// Asks the way out as tenant 1.
async fn ask(world: &World, bytes: &[u8]) -> u16 {
    let one = world.one();
    let mut stream = world.connect(Speaks::well(Some(&one))).await.unwrap();
    code(&say(&mut stream, bytes).await)
}

/// T33: whatever isn't a plain CONNECT to an authority is answered with its code and leads nowhere.
#[tokio::test]
async fn t33_bad_requests_are_answered_with_their_code() {
    let world = world().await;
    let long = format!(
        "CONNECT 10.9.9.9:443 HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(2 * HEAD_MAX)
    );
    let many = format!(
        "CONNECT 10.9.9.9:443 HTTP/1.1\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    let rows: &[(&[u8], u16)] = &[
        (b"GET http://10.9.9.9/ HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (b"CONNECT 10.9.9.9:443 HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd", 405),
        (b"CONNECT 10.9.9.9:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 405),
        (b"CONNECT 10.9.9.9 HTTP/1.1\r\n\r\n", 405),
        (b"CONNECT user@10.9.9.9:443 HTTP/1.1\r\n\r\n", 405),
        (b"CONNECT 10.9.9.9:443 HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        // A well-formed one to a place that isn't the tenant's, whatever the headers say.
        (b"CONNECT 10.9.9.9:443 HTTP/1.1\r\nHost: 10.96.4.1\r\n\r\n", 403),
        (b"CONNECT 10.9.9.9:443 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 403),
        (b"CONNECT 10.9.9.9:443 HTTP/1.1\r\nConnection: Host, X-Remote-User\r\nX-Remote-User: system:admin\r\n\r\n", 403),
        (b"CONNECT 10.9.9.9:443 HTTP/1.1\r\nX-Forwarded-Host: 10.96.4.1\r\nForwarded: host=10.96.4.1\r\n\r\n", 403),
        (b"CONNECT a_b!:443 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT ..%2f:443 HTTP/1.1\r\n\r\n", 400),
        // HTTP/2 on a connection that speaks HTTP/1.1 is closed without a word; no HTTP at all.
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 0),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"CONNECT 10.9.9.9:443 HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"CONNECT 10.9.9.9:443 HTTP/1.1\r\nX : y\r\n\r\n", 400),
        (long.as_bytes(), 431),
        (many.as_bytes(), 431),
    ];
    for (bytes, wanted) in rows {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(ask(&world, bytes).await, *wanted, "{text:.100}");
    }
    // A host that is none is refused as well, before it is looked for.
    let refused = 1 + rows.iter().filter(|(_, code)| *code == 403).count() as u64;
    counted(&world.metrics, &id(1), Plane::Out, "refused", refused).await;
    // All others were no requests, and are counted as that.
    let malformed = rows.len() as u64 - refused;
    counted(&world.metrics, &id(1), Plane::Out, "malformed", malformed).await;
    assert!(world.asked.lock().is_empty());
}

/// T28: a name is judged by the address that it has now; a wide entry of the class opens neither loopback nor private ones.
#[tokio::test]
async fn t28_a_name_is_judged_by_its_address() {
    let world = world().await;
    let inside = TcpListener::bind("127.0.0.11:0").await.unwrap();
    let port = inside.local_addr().unwrap().port();
    for host in [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.0.0.3",
        "[::1]",
        "[::ffff:127.0.0.3]",
    ] {
        let line = format!("CONNECT {host}:{port} HTTP/1.1\r\n\r\n");
        assert_eq!(ask(&world, line.as_bytes()).await, 403, "{host}");
    }
    // Its own pod is another thing.
    let line = format!("CONNECT 127.0.0.11:{port} HTTP/1.1\r\n\r\n");
    let one = world.one();
    let mut stream = world.connect(Speaks::well(Some(&one))).await.unwrap();
    stream.write_all(line.as_bytes()).await.unwrap();
    assert_eq!(code(&head(&mut stream).await.unwrap()), 200);
    let (mut pod, _) = inside.accept().await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    pod.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ping");
}

/// T34: who shows no certificate, an old one, a foreign one, or one by a namesake of a tenant's authority.
#[tokio::test]
async fn t34_who_proves_nothing_is_let_go_and_counted() {
    let world = world().await;
    let (expired, foreign, forged) = (
        world.authorities[0].client(365),
        authority("nobody").client(36_500),
        authority("one").client(36_500),
    );
    let good = world.one();
    let h2 = Speaks {
        protocol: "h2",
        ..Speaks::well(Some(&good))
    };
    let old = Speaks {
        version: &rustls::version::TLS12,
        ..Speaks::well(Some(&good))
    };
    let rows = [
        ("no certificate", Speaks::well(None)),
        ("an expired one", Speaks::well(Some(&expired))),
        ("a foreign one", Speaks::well(Some(&foreign))),
        ("one of a namesake", Speaks::well(Some(&forged))),
        ("HTTP/2 alone", h2),
        ("TLS 1.2", old),
    ];
    let line = b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n";
    for (who, speaks) in rows {
        // In TLS 1.3 a client learns of it when it reads.
        if let Ok(mut stream) = world.connect(speaks).await {
            assert_eq!(say(&mut stream, line).await, "", "{who}");
        }
    }
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 64],
        b"\x16\x03\x01\xff\xff\x01\0\0",
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let answer = say(&mut stream, garbage).await;
        assert_eq!(code(&answer), 0, "{answer:?}");
    }
    let times = rows.len() as u64 + 3;
    counted(&world.metrics, "", Plane::Out, "no_identity", times).await;
    assert_eq!(world.metrics.counted(&id(1), Plane::Out, "refused"), 0);
}

/// T34: with a tenant end its tunnels, and its certificate is worth nothing.
#[tokio::test]
async fn t34_tunnels_end_with_the_tenant() {
    let world = world().await;
    let inside = TcpListener::bind("127.0.0.11:0").await.unwrap();
    let line = format!("CONNECT {} HTTP/1.1\r\n\r\n", inside.local_addr().unwrap());
    let one = world.one();
    let mut stream = world.connect(Speaks::well(Some(&one))).await.unwrap();
    stream.write_all(line.as_bytes()).await.unwrap();
    assert_eq!(code(&head(&mut stream).await.unwrap()), 200);
    let (mut pod, _) = inside.accept().await.unwrap();
    world.index.drop_tenant(&("s".into(), "1".into()));
    assert_eq!(say(&mut stream, b"").await, "");
    assert_eq!(pod.read(&mut [0]).await.unwrap_or_default(), 0);
    counted(&world.metrics, &id(1), Plane::Out, "gone", 1).await;
    if let Ok(mut again) = world.connect(Speaks::well(Some(&one))).await {
        assert_eq!(say(&mut again, line.as_bytes()).await, "");
    }
}

/// T28: the next pod that has the address may be another tenant's. Tunnels to other pods go on.
#[tokio::test]
async fn t28_a_tunnel_ends_when_its_address_is_no_pods_of_the_tenant_any_more() {
    let world = world().await;
    let set = |name, status| {
        let of = pod(1, "default", name, status);
        world.index.set_pod(place(1, "default", name), &of);
    };
    set("stays", running("127.0.0.13"));
    let one = world.one();
    let open = async |address: &str| {
        let inside = TcpListener::bind((address, 0)).await.unwrap();
        let line = format!("CONNECT {} HTTP/1.1\r\n\r\n", inside.local_addr().unwrap());
        let mut stream = world.connect(Speaks::well(Some(&one))).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        assert_eq!(code(&head(&mut stream).await.unwrap()), 200);
        let (inside, _) = inside.accept().await.unwrap();
        (stream, inside)
    };
    let (mut ended, mut near) = open("127.0.0.11").await;
    let (mut stays, mut far) = open("127.0.0.13").await;
    let mut status = running("127.0.0.11");
    status["phase"] = "Succeeded".into();
    set("web", status);
    assert_eq!(say(&mut ended, b"").await, "");
    assert_eq!(near.read(&mut [0]).await.unwrap_or_default(), 0);
    counted(&world.metrics, &id(1), Plane::Out, "gone", 1).await;
    stays.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ping");
}

/// A renewed certificate is shown to the next caller; connections that are open go on, and one that is broken changes nothing.
#[tokio::test]
async fn a_renewed_certificate_is_taken_up_while_it_runs() {
    let world = world().await;
    let one = world.one();
    let connect = async || world.connect(Speaks::well(Some(&one))).await.unwrap();
    let shown = |stream: &tokio_rustls::client::TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let mut before = connect().await;
    let renewed = world.renew();
    assert_ne!(shown(&before), renewed);
    assert_eq!(shown(&connect().await), renewed);
    let (good, _) = world.own.server(&[PROXY]);
    let (_, other_key) = world.own.server(&[PROXY]);
    for (certificate, key) in [
        (good.pem(), "no key".to_owned()),
        ("no certificate".into(), other_key.serialize_pem()),
        (good.pem(), other_key.serialize_pem()),
        (String::new(), String::new()),
    ] {
        let taken = world.serving.set(certificate.as_bytes(), key.as_bytes());
        assert!(taken.is_err(), "{certificate:.40}");
        assert_eq!(shown(&connect().await), renewed);
    }
    let answer = say(&mut before, b"CONNECT 10.9.9.9:443 HTTP/1.1\r\n\r\n").await;
    assert_eq!(code(&answer), 403);
}

/// A tenant's authority is renewed by its route: what the new one signed is let in, what the old one signed is not.
#[tokio::test]
async fn a_renewed_authority_of_a_tenant_is_taken_up_while_it_runs() {
    let world = world().await;
    let (old, next) = (world.one(), authority("one"));
    let line = b"CONNECT 10.9.9.9:443 HTTP/1.1\r\n\r\n";
    assert_eq!(ask(&world, line).await, 403);
    let route = crate::index::tests::route(1, "acme", &next.pem);
    let tenant = Tenant::read(&route).unwrap();
    world.index.set_tenant(("s".into(), "1".into()), tenant);
    let new = next.client(36_500);
    let mut stream = world.connect(Speaks::well(Some(&new))).await.unwrap();
    assert_eq!(code(&say(&mut stream, line).await), 403);
    if let Ok(mut stream) = world.connect(Speaks::well(Some(&old))).await {
        assert_eq!(say(&mut stream, line).await, "");
    }
}
