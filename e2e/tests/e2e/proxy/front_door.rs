//! The front door: one address for all tenants, whoever knocks.

use anyhow::{Context, ensure};
use e2e::{
    kind::{CONFIG_MAP, CONTROL_PLANE, SERVICE},
    program::{Folder, Program},
    read::text,
    side::Side,
    space::run,
    tenant::{A, B, NAMESPACE_OF_TESTS, Tenant},
    wait::{SOON, eventually},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

fn cluster(tenant: &Tenant) -> anyhow::Result<Value> {
    let config: Value = serde_saphyr::from_str(&tenant.kubeconfig)?;
    Ok(config["clusters"][0]["cluster"].clone())
}

/// `HOST:PORT` of the front door.
async fn address() -> anyhow::Result<String> {
    let server = cluster(A.get().await?)?;
    let server = text(&server, "/server").strip_prefix("https://");
    Ok(server.context("an https URL")?.to_owned())
}

#[test]
fn all_tenants_share_one_address_and_none_has_a_node_port() {
    run(async || {
        let (a, b) = (A.get().await?, B.get().await?);
        let (one, two) = (cluster(a)?, cluster(b)?);
        ensure!(
            one["server"] == two["server"],
            "{} and {}",
            one["server"],
            two["server"]
        );
        ensure!(one["tls-server-name"] != two["tls-server-name"]);
        for (tenant, cluster) in [(a, &one), (b, &two)] {
            let name = text(cluster, "/tls-server-name");
            ensure!(name == tenancy::naming::tenant_host(&tenant.id), "{name}");
            let services = tenant
                .above
                .list(SERVICE, &tenant.control_plane_namespace(), "")
                .await?;
            ensure!(
                services
                    .iter()
                    .all(|service| text(service, "/spec/type") == "ClusterIP")
            );
            eventually(SOON, "it is ready", async || {
                ensure!(tenant.side.text("/readyz").await? == "ok");
                Ok(())
            })
            .await?;
            ensure!(tenant.side.text("/").await?.contains("/api/v1"));
        }
        Ok(())
    });
}

/// What the front door answers to some first bytes, until it closes.
async fn knock(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address().await?).await?;
    stream.write_all(bytes).await?;
    let mut answer = vec![];
    // A reset is an end, too.
    let _ = timeout(SOON, stream.read_to_end(&mut answer))
        .await
        .context("the connection stays open")?;
    Ok(answer)
}

#[test]
fn t40_garbage_is_let_go_and_leads_nowhere() {
    run(async || {
        for garbage in [
            &b"GET / HTTP/1.1\r\nHost: kubernetes\r\n\r\n"[..],
            b"SSH-2.0-OpenSSH_9.2\r\n",
            &[0; 64],
            &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0, 1, 0],
        ] {
            let answer = knock(garbage).await?;
            ensure!(answer.is_empty() || answer[0] == 21, "{answer:?}");
        }
        // A proper hello for a tenant that isn't there, and one without a name.
        let a = A.get().await?;
        for name in [
            "aaaaaaaaaaaaaaaaaaaaaaaaaa.tenants.sublet.internal",
            "kubernetes",
            "10.96.0.1",
        ] {
            let stranger = Side::knock(&a.kubeconfig, name).await?;
            let answer = stranger.text("/readyz").await;
            ensure!(
                answer.as_ref().is_err_and(|problem| problem.code == 0),
                "{name}: {answer:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn t40_half_open_connections_hold_up_nobody() {
    run(async || {
        let (a, address) = (A.get().await?, address().await?);
        // The quickest of some: what other tests do meanwhile slows down one or another, and a stall all of them.
        let time = async || {
            let mut quickest = Duration::MAX;
            for _ in 0..20 {
                let began = Instant::now();
                let fresh = Side::connect("a new connection", &a.kubeconfig).await?;
                fresh.text("/version").await?;
                quickest = quickest.min(began.elapsed());
            }
            Ok::<Duration, anyhow::Error>(quickest)
        };
        let quiet = time().await?;
        let mut held = vec![];
        for number in 0..1500 {
            let mut stream = TcpStream::connect(&address).await?;
            if number % 2 == 0 {
                stream.write_all(&[22, 3, 1, 2, 0, 1]).await?;
            }
            held.push(stream);
        }
        let crowded = time().await?;
        // Shared machines are uneven: what is looked for is a stall, not a percentage.
        ensure!(
            crowded < quiet * 4 + Duration::from_secs(2),
            "{quiet:?} became {crowded:?}"
        );
        // They are let go after a while.
        let mut first = held.swap_remove(0);
        let mut rest = vec![];
        let _ = timeout(SOON, first.read_to_end(&mut rest))
            .await
            .context("a half-open connection stays open")?;
        Ok(())
    });
}

#[test]
fn large_answers_pass_whole() {
    e2e::space::within(A, "door", async |space| {
        let big = "x".repeat(700_000);
        space
            .create(CONFIG_MAP, e2e::make::config_map("big", "a", &big))
            .await?;
        let back = space.get(CONFIG_MAP, "big").await?;
        ensure!(text(&back, "/data/a") == big);
        Ok(())
    });
}

/// As with any Service: an API server that isn't ready for a moment keeps its connections, and new ones wait.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn while_no_api_server_is_ready_open_connections_go_on_and_new_ones_wait() {
    run(async || {
        Tenant::within("e2e-unready", json!({}), async |tenant| {
            let folder = Folder::make()?;
            let kubectl = Program::kubectl(folder.path(), &tenant.kubeconfig)?;
            let pause = async |paused: bool| {
                let patch = json!({"spec": {"paused": paused}});
                tenant
                    .above
                    .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name, patch)
                    .await
            };
            // Else the manager would mend the Service at once.
            pause(true).await?;
            eventually(SOON, "the manager lets it alone", async || {
                let vcp = tenant
                    .above
                    .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
                    .await?;
                ensure!(text(&vcp, "/status/phase") == "Paused", "{}", vcp["status"]);
                Ok(())
            })
            .await?;
            let select = async |part: &str| {
                let patch = json!({"spec": {"selector": {"app.kubernetes.io/name": part}}});
                let place = tenant.control_plane_namespace();
                let service = "kube-apiserver";
                tenant.above.merge(SERVICE, &place, service, patch).await
            };
            let create = async |name: &str| {
                let object = json!({"metadata": {"name": name, "namespace": "default"}});
                tenant.side.create(CONFIG_MAP, object).await
            };
            create("before").await?;
            // To the proxy this is an API server that failed its probe: its Service has no endpoint.
            select("nobody").await?;
            let unanswered = async || {
                let ready = kubectl
                    .run("get --raw /readyz --request-timeout=2s")
                    .await?;
                ensure!(ready.code != 0, "{ready:?}");
                Ok(())
            };
            eventually(SOON, "new connections aren't answered", unanswered).await?;
            create("meanwhile")
                .await
                .context("by a connection that was open before")?;
            // It comes while nobody answers, and waits until somebody does.
            let late = kubectl.run("-n default create configmap late");
            let (late, mended) = tokio::join!(late, async {
                unanswered().await?;
                select("kube-apiserver").await?;
                pause(false).await.map_err(anyhow::Error::from)
            });
            mended?;
            late?.says(&["created"])?;
            Ok(())
        })
        .await
    });
}
