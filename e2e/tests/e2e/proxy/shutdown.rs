//! The end of a proxy: what still comes to it is served, what is open goes on, and whoever comes next is sent elsewhere.

use anyhow::{Context, bail, ensure};
use api::keys;
use e2e::{
    kind::{CONFIG_MAP, NAMESPACE, POD},
    make,
    program::{Folder, Program},
    read::is_terminating,
    rig::{
        Rig, Wish,
        manager::{self, Manager},
        on_rig,
        proxy::Proxy,
    },
    space::{self, Space},
    tenant::{A, NAMESPACE_OF_TESTS},
    wait::{PODS, SOON, eventually},
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
use serde_json::json;
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tenancy::{naming, route, tenant::TenantId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// What a load balancer says of its client before the client's own words, in both versions of the PROXY protocol.
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 443\r\n";
const BLOCK: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\x9c\x40\x01\xbb";

/// A back end that gives back what it hears; it takes no more connections once it is dropped.
struct Echo {
    address: SocketAddr,
    listening: JoinHandle<()>,
}

impl Echo {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let listening = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    // Whoever is gone hears no more.
                    drop(tokio::io::copy(&mut from, &mut to).await);
                });
            }
        });
        Ok(Self { address, listening })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// The first words of a client that wants the tenant with this name.
fn hello(name: &str) -> anyhow::Result<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned())?;
    let mut client = ClientConnection::new(Arc::new(config), name)?;
    let mut bytes = vec![];
    client.write_tls(&mut bytes)?;
    Ok(bytes)
}

/// A connection by way of the front door.
struct Visit(TcpStream);

impl Visit {
    /// Begins one with these words and hears them from the back end, without those of the load balancer.
    async fn begin(port: u16, balancer: &[u8], hello: &[u8]) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(balancer).await?;
        let mut visit = Self(stream);
        visit.says(hello).await?;
        Ok(visit)
    }

    /// Says something and hears it again.
    async fn says(&mut self, words: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(words).await?;
        let mut heard = vec![0; words.len()];
        timeout(SOON, self.0.read_exact(&mut heard)).await??;
        ensure!(heard == words, "{heard:?} came back of {words:?}");
        Ok(())
    }
}

/// Makes the route of a tenant whose API server is that back end; returns the name that clients ask for.
async fn lead(rig: &Rig, back_end: SocketAddr) -> anyhow::Result<String> {
    let id = TenantId::from_bits(rand::random());
    let path = format!("{NAMESPACE_OF_TESTS}/echo");
    let object = json!({
        "metadata": {
            "name": route::name(&id), "namespace": api::SYSTEM_NAMESPACE,
            "labels": {keys::TENANT: id.as_str(), keys::ROLE: keys::ROLE_ROUTE},
            "annotations": {keys::CONTROL_PLANE: path},
        },
        "data": {route::AUTHORITY: rig.authority().certificate, route::BACKEND: back_end.to_string()},
    });
    rig.side.create(CONFIG_MAP, object).await?;
    Ok(naming::tenant_host(&id))
}

fn is_refused(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
fn a_proxy_that_is_asked_to_end_serves_who_still_comes_and_lets_what_is_open_go_on() {
    on_rig(Wish::default(), async |rig| {
        manager::stand_in_for_the_proxy(&rig.side).await?;
        let admin = rig.above.admin_kubeconfig();
        let mut manager = Manager::new(rig.folder(), &admin, &[])?;
        manager.start().await?;
        // It waits for what is open for longer than this test does, and for load balancers on this machine.
        let flags = ["--drain=600", "--proxy-protocol-from=127.0.0.0/8"];
        let mut proxy = Proxy::start(rig.folder(), &admin, &flags).await?;
        // The proxy has its certificate of it; a route that it doesn't know of it would take away.
        manager.kill();
        let back_end = Echo::start().await?;
        let hello = hello(&lead(rig, back_end.address).await?)?;
        let port = proxy.front_door;
        let mut open = eventually(SOON, "the front door knows the tenant", async || {
            Visit::begin(port, LINE, &hello).await
        })
        .await
        .with_context(|| proxy.tail())?;
        Visit::begin(port, BLOCK, &hello).await?;
        // Whoever says nothing of a client there might be anybody.
        let silent = Visit::begin(port, b"", &hello).await;
        ensure!(silent.is_err(), "it was let in without a header");

        proxy.ask_to_end()?;
        let mut late = 0;
        eventually(SOON, "no connection is taken any more", async || {
            let was_ready = proxy.is_ready().await;
            match Visit::begin(port, LINE, &hello).await {
                Ok(mut visit) => {
                    visit.says(b"late").await?;
                    late += usize::from(!was_ready);
                    bail!("one is served")
                }
                // One that came at the very moment is cut off.
                Err(error) if !is_refused(&error) => Err(error),
                Err(_) => Ok(()),
            }
        })
        .await?;
        ensure!(
            late > 0,
            "nobody was served after it had said that it ends: {}",
            proxy.tail()
        );
        open.says(b"still here")
            .await
            .context("by a connection that was open before")?;
        ensure!(!proxy.has_ended(), "{}", proxy.tail());
        drop(open);
        eventually(SOON, "it ends when nothing is open", async || {
            ensure!(proxy.has_ended(), "it runs");
            Ok(())
        })
        .await
        .with_context(|| proxy.tail())
    });
}

/// Does something over and over, and returns why it failed.
async fn over_and_over(
    times: &AtomicUsize,
    deed: impl AsyncFn() -> anyhow::Result<()>,
) -> anyhow::Error {
    loop {
        if let Err(error) = deed().await {
            return error;
        }
        times.fetch_add(1, Ordering::Relaxed);
    }
}

/// Alone: streams of all tenants that last longer than a proxy waits for them end with it.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn no_request_fails_while_proxies_are_replaced() {
    space::alone(async || {
        let name = make::unique("rolled");
        let space = Space::open(A.get().await?.clone(), &name).await?;
        let result = rolls(&space).await;
        space.side().delete(NAMESPACE, "", &space.name).await?;
        result
    });
}

async fn rolls(space: &Space) -> anyhow::Result<()> {
    let spec = make::pod_spec(make::shell("trap 'exit 0' TERM; sleep 3600 & wait"));
    space.pod("web", spec).await?;
    space.ready("web").await?;
    let folders = [Folder::make()?, Folder::make()?];
    let kubectl = Program::kubectl(folders[0].path(), &space.tenant.kubeconfig)?;
    let above = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
    let above = Program::kubectl(folders[1].path(), &above)?;

    let rolling = async {
        let (system, proxy) = (api::SYSTEM_NAMESPACE, keys::PROXY);
        let line = format!("-n {system} rollout restart deployment {proxy}");
        above.run(&line).await?.ok()?;
        let line = format!("-n {system} rollout status deployment {proxy}");
        above.run(&line).await?.ok()?;
        let selector = format!("app.kubernetes.io/name={proxy}");
        eventually(PODS, "the old ones are gone", async || {
            let pods = space.above().list(POD, system, &selector).await?;
            let ending = pods.iter().filter(|pod| is_terminating(pod)).count();
            ensure!(ending == 0, "{ending} are ending");
            Ok(())
        })
        .await
    };
    let (gets, streams) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let get = format!("-n {} get pod web", space.name);
    let getting = over_and_over(&gets, async || {
        kubectl.run(&get).await?.says(&["Running"]).map(drop)
    });
    // The shell's own blank: the line is split at all others.
    let exec = format!(
        "-n {} exec web -- sh -c sleep${{IFS}}3;echo${{IFS}}whole",
        space.name
    );
    let streaming = over_and_over(&streams, async || {
        kubectl.run(&exec).await?.says(&["whole"]).map(drop)
    });
    tokio::select! {
        rolled = rolling => rolled?,
        error = getting => return Err(error.context("a request failed")),
        error = streaming => return Err(error.context("a stream failed")),
    }
    let counts = [gets, streams].map(AtomicUsize::into_inner);
    ensure!(counts.iter().all(|count| *count > 0), "{counts:?}");
    Ok(())
}
