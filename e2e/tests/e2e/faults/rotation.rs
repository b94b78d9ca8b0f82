//! Keys and certificates that change while objects cross: F23.
//!
//! The syncer reaches the tenant's API server itself here, with no faultproxy between that would end TLS: it shows a client
//! certificate, and what it checks is the API server's own.

use super::crosses;
use anyhow::{Context, ensure};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use e2e::{
    faultproxy::link::Link,
    kind::{NAMESPACE, POD, SECRET},
    oracle,
    read::{name, text},
    rig::{
        Rig, Wish,
        keys::{Authority, Pair},
        kubeconfig_secret, on_rig, secret_name,
        server::kubeconfig,
    },
    side::Side,
    tenant::NAMESPACE_OF_TESTS,
    wait::{PODS, eventually},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The name that the API server shows a certificate of its own for; all others go on with the rig's.
const HOST: &str = "rotated.example.com";
/// What a change may cost beyond what crossing takes without any.
const MOST: Duration = Duration::from_secs(5);
/// Files of the API server, which reads them anew when they change.
const SERVING: [&str; 2] = ["rotated.crt", "rotated.key"];
const CLIENTS: &str = "clients.crt";

/// What the syncer goes by.
struct Access {
    link: Link,
    quiet: Duration,
    /// Numbers the objects that were made.
    made: usize,
}

impl Access {
    /// The time until the next object of the tenant has crossed.
    async fn crosses(&mut self, rig: &Rig) -> anyhow::Result<Duration> {
        self.made += 1;
        let own = format!("c{}", self.made);
        let began = Instant::now();
        crosses(rig, 0, ("work", &own), PODS).await?;
        Ok(began.elapsed())
    }

    /// With new connections an object crosses as if nothing had happened.
    async fn goes_on(&mut self, rig: &Rig, after: &str) -> anyhow::Result<()> {
        self.link.reset();
        let took = self.crosses(rig).await?;
        e2e::told!(
            "F23: {after}: the next object crossed after {:.1} s",
            took.as_secs_f64()
        );
        ensure!(
            took <= self.quiet + MOST,
            "{after}: {took:?} instead of {:?}",
            self.quiet
        );
        Ok(())
    }

    /// The syncer is given a kubeconfig with these authorities and this certificate. No way is left but the one by it.
    async fn give(&mut self, rig: &Rig, authorities: &str, own: &Pair) -> anyhow::Result<()> {
        let guest = &rig.tenants[0];
        let link = Link::start(guest.server.port).await?;
        let text = kubeconfig(
            link.port(),
            authorities,
            json!({"tls-server-name": HOST}),
            user(own),
        );
        let secret = kubeconfig_secret(&guest.name, &text);
        let name = secret_name(&guest.name);
        rig.side
            .merge(SECRET, NAMESPACE_OF_TESTS, &name, secret)
            .await?;
        self.link = link;
        Ok(())
    }
}

fn user(pair: &Pair) -> Value {
    json!({
        "client-certificate-data": BASE64_STANDARD.encode(&pair.certificate),
        "client-key-data": BASE64_STANDARD.encode(&pair.key),
    })
}

/// An external tenant's owner gives the syncer what rights there are.
fn syncer(authority: &Authority) -> anyhow::Result<Pair> {
    authority.client("syncer", "system:masters")
}

/// The certificate that the API server shows for [`HOST`].
async fn shown(port: u16, authorities: &[&Authority]) -> anyhow::Result<CertificateDer<'static>> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from_pem_slice(
            authority.certificate.as_bytes(),
        )?)?;
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector
        .connect(ServerName::try_from(HOST)?, stream)
        .await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let first = certificates.and_then(|certificates| certificates.first());
    Ok(first.context("no certificate")?.clone().into_owned())
}

/// The API server shows another certificate from now on.
async fn serve(rig: &Rig, pair: &Pair, authorities: &[&Authority]) -> anyhow::Result<()> {
    let server = &rig.tenants[0].server;
    let [certificate, key] = SERVING;
    server.write(key, &pair.key)?;
    server.write(certificate, &pair.certificate)?;
    let wanted = CertificateDer::from_pem_slice(pair.certificate.as_bytes())?;
    eventually(PODS, "the API server shows it", async || {
        let seen = shown(server.port, authorities).await?;
        ensure!(seen == wanted, "it shows the one before");
        Ok(())
    })
    .await
}

/// Whether the API server lets in whom an authority signed for.
async fn lets_in(rig: &Rig, authority: &Authority) -> anyhow::Result<bool> {
    let server = &rig.tenants[0].server;
    let trusted = &rig.authority().certificate;
    let text = kubeconfig(server.port, trusted, json!({}), user(&syncer(authority)?));
    let side = Side::connect("tenant", &text).await?;
    match side.list(NAMESPACE, "", "").await {
        Ok(_) => Ok(true),
        Err(problem) if problem.code == 401 => Ok(false),
        Err(problem) => Err(problem.into()),
    }
}

/// The token of a pod, as its super pod has it.
async fn token(rig: &Rig, pod: &str) -> anyhow::Result<String> {
    let guest = &rig.tenants[0];
    let twin = guest.twin("work");
    eventually(PODS, "the pod has its token", async || {
        let pod = rig.side.get(POD, &twin, pod).await?;
        let secrets = rig.side.list(SECRET, &twin, "").await?;
        let is_its = |secret: &&Value| {
            name(secret).starts_with(tenancy::naming::TOKEN_PREFIX)
                && secret["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
        };
        let secret = secrets.iter().find(is_its).context("no Secret")?;
        let data = secret["data"].as_object().context("no data")?;
        let token = data.values().find_map(|value| {
            let token = BASE64_STANDARD.decode(value.as_str()?).ok()?;
            String::from_utf8(token)
                .ok()
                .filter(|text| text.split('.').count() == 3)
        });
        token.context("no token in the Secret")
    })
    .await
}

/// Which key signed a token.
fn key_of(token: &str) -> anyhow::Result<String> {
    let head = token.split('.').next().unwrap_or_default();
    let head: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(head)?)?;
    Ok(text(&head, "/kid").to_owned())
}

/// Whom the tenant's API server takes the bearer of a token for.
async fn bearer(rig: &Rig, token: &str) -> anyhow::Result<String> {
    let server = &rig.tenants[0].server;
    let trusted = &rig.authority().certificate;
    let text = kubeconfig(server.port, trusted, json!({}), json!({"token": token}));
    let side = Side::connect("tenant", &text).await?;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let told = side.request(http::Method::POST, path, Some(review)).await?;
    Ok(e2e::read::text(&told, "/status/userInfo/username").to_owned())
}

async fn pod(rig: &Rig, name: &str) -> anyhow::Result<()> {
    rig.tenants[0]
        .side
        .create(POD, super::pod("work", name))
        .await?;
    Ok(())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f23_certificates_authorities_and_keys_change_while_objects_cross() {
    on_rig(Wish::default(), async |rig| {
        let first = Authority::make()?;
        let next = Authority::make()?;
        let both = format!("{}{}", first.certificate, next.certificate);
        let process = rig.syncer.pid();

        // An API server with authorities of its own, for the syncer alone.
        let server = &mut rig.tenants[0].server;
        let serving = first.server_named(HOST)?;
        let [certificate, key] = SERVING;
        server.write(certificate, &serving.certificate)?;
        server.write(key, &serving.key)?;
        server.write(CLIENTS, &first.certificate)?;
        server.restart_with(&[
            ("tls-sni-cert-key", &SERVING.join(",")),
            ("client-ca-file", CLIENTS),
        ])?;
        server.ready().await?;
        let link = Link::start(server.port).await?;
        let mut access = Access {
            link,
            quiet: Duration::ZERO,
            made: 0,
        };
        rig.tenants[0].namespace("work").await?;
        // The second time nothing is new but the way: what that costs isn't the change's.
        for _ in 0..2 {
            access
                .give(rig, &first.certificate, &syncer(&first)?)
                .await?;
            access.quiet = access.crosses(rig).await?;
            rig.synced(0).await?;
        }
        pod(rig, "before").await?;
        let before = token(rig, "before").await?;

        serve(rig, &first.server_named(HOST)?, &[&first]).await?;
        access.goes_on(rig, "another serving certificate").await?;

        // An authority is rolled in three steps: both are trusted, the new one signs, the old one isn't trusted.
        access.give(rig, &both, &syncer(&first)?).await?;
        access.goes_on(rig, "a second authority").await?;
        serve(rig, &next.server_named(HOST)?, &[&first, &next]).await?;
        access.goes_on(rig, "a certificate of the second").await?;
        access
            .give(rig, &next.certificate, &syncer(&first)?)
            .await?;
        access.goes_on(rig, "the second alone").await?;

        // The same for clients.
        rig.tenants[0].server.write(CLIENTS, &both)?;
        eventually(PODS, "both authorities' clients are let in", async || {
            ensure!(lets_in(rig, &next).await?, "the second one's aren't");
            Ok(())
        })
        .await?;
        access.give(rig, &next.certificate, &syncer(&next)?).await?;
        access
            .goes_on(rig, "a client certificate of the second")
            .await?;
        rig.tenants[0].server.write(CLIENTS, &next.certificate)?;
        eventually(PODS, "the first one's clients are nobody", async || {
            ensure!(!lets_in(rig, &first).await?, "they are let in");
            Ok(())
        })
        .await?;
        access.goes_on(rig, "clients of the second alone").await?;

        // Of keys of tokens an API server learns at its start alone.
        let server = &mut rig.tenants[0].server;
        server.change_token_key()?;
        server.ready().await?;
        access.goes_on(rig, "another key of tokens").await?;
        pod(rig, "after").await?;
        let after = token(rig, "after").await?;
        ensure!(key_of(&before)? != key_of(&after)?, "one key signed both");
        for token in [&before, &after] {
            let who = bearer(rig, token).await?;
            ensure!(who == "system:serviceaccount:work:default", "{who}");
        }

        ensure!(rig.syncer.pid() == process, "the syncer was restarted");
        rig.synced(0).await?;
        oracle::all(rig).await
    });
}
