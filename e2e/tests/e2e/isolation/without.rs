//! What attacks on API servers come to where nothing of Sublet stands between: they work, or what holds them would show
//! nothing.
//!
//! The API servers of a rig have no way out, no front door and no authority of their own each: they go wherever a tenant
//! sends them, and believe whoever has the keys that they all share.

use anyhow::ensure;
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    kind::{API_SERVICE, CONFIG_MAP, CONTROLLER_REVISION, Kind, NAMESPACE, NODE, POD, SERVICE},
    make,
    read::{text, uid},
    rig::{Rig, Wish, keys::Authority, on_rig, server::kubeconfig},
    side::Side,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{net::TcpListener, task::JoinHandle};

const WEBHOOK: Kind = Kind {
    api_version: "admissionregistration.k8s.io/v1",
    name: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
};
/// A place where no tenant's API server has any business; it ends with its handle.
struct Trap {
    port: u16,
    caught: Arc<AtomicUsize>,
    listening: JoinHandle<()>,
}

impl Trap {
    async fn set() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let caught = Arc::<AtomicUsize>::default();
        let count = caught.clone();
        let listening = tokio::spawn(async move {
            // Who came is let go at once.
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(Self {
            port,
            caught,
            listening,
        })
    }

    /// Does something until somebody is caught.
    async fn catches(
        &self,
        what: &str,
        lure: impl AsyncFn() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let before = self.caught.load(Ordering::SeqCst);
        eventually(PODS, what, async || {
            lure().await?;
            let now = self.caught.load(Ordering::SeqCst);
            ensure!(now > before, "nobody came");
            Ok(())
        })
        .await
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t28_t29_t30_an_api_server_without_the_way_out_goes_wherever_it_is_sent() {
    on_rig(Wish::default(), async |rig| {
        // It would put the node right.
        rig.syncer.stop()?;
        let (side, trap) = (&rig.tenants[0].side, Trap::set().await?);
        by_webhook(side, &trap).await?;
        by_api_service(side, &trap).await?;
        by_node(side, &trap).await
    });
}

/// T28: a webhook's URL.
async fn by_webhook(side: &Side, trap: &Trap) -> anyhow::Result<()> {
    let hook = json!({"metadata": {"name": "trap"}, "webhooks": [{
        "name": "trap.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "failurePolicy": "Ignore", "timeoutSeconds": 1,
        "clientConfig": {"url": format!("https://127.0.0.1:{}/", trap.port)},
        "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": [CONTROLLER_REVISION.plural]}],
    }]});
    side.create(WEBHOOK, hook).await?;
    trap.catches("the webhook is called", async || {
        let metadata = json!({"name": make::unique("try"), "namespace": "default"});
        side.create(
            CONTROLLER_REVISION,
            json!({"metadata": metadata, "data": {}, "revision": 1}),
        )
        .await?;
        Ok(())
    })
    .await?;
    side.delete(WEBHOOK, "", "trap").await?;
    Ok(())
}

/// T29: an aggregated API behind a Service that names another place.
async fn by_api_service(side: &Side, trap: &Trap) -> anyhow::Result<()> {
    let service = json!({
        "metadata": {"name": "trap", "namespace": "default"},
        "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": trap.port}]},
    });
    side.create(SERVICE, service).await?;
    let api = json!({"metadata": {"name": "v1.trap.example.com"}, "spec": {
        "group": "trap.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
        "insecureSkipTLSVerify": true,
        "service": {"namespace": "default", "name": "trap", "port": trap.port},
    }});
    side.create(API_SERVICE, api).await?;
    trap.catches("the aggregated API is asked", async || Ok(()))
        .await?;
    side.delete(API_SERVICE, "", "v1.trap.example.com").await?;
    Ok(())
}

/// T30: a node that names another place as its kubelet's.
async fn by_node(side: &Side, trap: &Trap) -> anyhow::Result<()> {
    side.create(NODE, json!({"metadata": {"name": "trap"}}))
        .await?;
    let status = json!({
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": trap.port}},
    });
    side.merge_status(NODE, "", "trap", status).await?;
    let mut spec = make::pod_spec(make::idle());
    spec["nodeName"] = "trap".into();
    let pod = json!({"metadata": {"name": "trap", "namespace": "default"}, "spec": spec});
    eventually(SOON, "pods can be made", async || {
        Ok(side.create(POD, pod.clone()).await?)
    })
    .await?;
    let path = POD.path("default", "trap") + "/log";
    trap.catches("the node's kubelet is asked", async || {
        // What comes of it is no log.
        drop(side.text(&path).await);
        Ok(())
    })
    .await?;
    side.request(
        http::Method::DELETE,
        &(POD.path("default", "trap") + "?gracePeriodSeconds=0"),
        None,
    )
    .await?;
    side.delete(NODE, "", "trap").await?;
    Ok(())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t2_a_write_that_does_not_ask_whose_an_object_is_takes_it_over() {
    on_rig(Wish::default(), async |rig| {
        // The platform has put something where a tenant's object of that name would come to.
        let twin = rig.twin_of(0, "work").await?;
        let map = |whose: &str| {
            let metadata = json!({"name": "settings", "namespace": twin});
            json!({"metadata": metadata, "data": {"whose": whose}})
        };
        rig.side.create(CONFIG_MAP, map("the platform")).await?;
        // An API server refuses to make it twice, and nothing else.
        let again = rig.side.create(CONFIG_MAP, map("the tenant")).await;
        ensure!(
            again.as_ref().is_err_and(|problem| problem.code == 409),
            "{again:?}"
        );
        let taken = json!({"data": {"whose": "the tenant"}});
        rig.side.merge(CONFIG_MAP, &twin, "settings", taken).await?;
        let seen = rig.side.get(CONFIG_MAP, &twin, "settings").await?;
        ensure!(text(&seen, "/data/whose") == "the tenant", "{seen}");
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t33_an_api_server_that_is_told_to_believes_whom_headers_name() {
    const CLIENTS: &str = "clients.crt";
    on_rig(Wish::default(), async |rig| {
        let authority = Authority::make()?;
        let server = &mut rig.tenants[0].server;
        server.write(CLIENTS, &authority.certificate)?;
        server.restart_with(&[
            ("client-ca-file", CLIENTS),
            ("requestheader-client-ca-file", CLIENTS),
            // Kubernetes itself wants a name where one authority signs for both.
            ("requestheader-allowed-names", "nobody"),
            ("requestheader-username-headers", "X-Remote-User"),
            ("requestheader-group-headers", "X-Remote-Group"),
        ])?;
        server.ready().await?;
        let own = authority.client("nobody", "nobodies")?;
        let user = json!({
            "client-certificate-data": BASE64_STANDARD.encode(&own.certificate),
            "client-key-data": BASE64_STANDARD.encode(&own.key),
        });
        let trusted = &rig.authority().certificate;
        let text = kubeconfig(rig.tenants[0].server.port, trusted, json!({}), user);
        let plain = Side::connect("tenant", &text).await?;
        let refused = plain.list(NAMESPACE, "", "").await;
        ensure!(
            refused.as_ref().is_err_and(|problem| problem.code == 403),
            "{refused:?}"
        );
        let headers = [
            ("x-remote-user", "somebody"),
            ("x-remote-group", "system:masters"),
        ];
        let named = Side::saying(&text, &headers).await?;
        named.list(NAMESPACE, "", "").await?;
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t34_credentials_are_good_wherever_the_same_keys_are_trusted() {
    let wish = Wish {
        tenants: 2,
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        // The tenants of a rig know the same tokens, and one authority signs for all their servers.
        let [one, other] = [0, 1].map(|tenant: usize| &rig.tenants[tenant].server);
        let stolen = one.admin_kubeconfig_at(other.port);
        let thief = Side::connect("other", &stolen).await?;
        thief
            .create(NAMESPACE, json!({"metadata": {"name": "stolen"}}))
            .await?;
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t37_a_forged_status_stays_where_nobody_puts_it_right() {
    on_rig(Wish::default(), async |rig| {
        rig.tenants[0].namespace("work").await?;
        let pod = json!({"metadata": {"name": "web", "namespace": "work"}, "spec": make::pod_spec(make::idle())});
        rig.tenants[0].side.create(POD, pod).await?;
        let address = |pod: &Value| text(pod, "/status/podIP").to_owned();
        let own = eventually(PODS, "the pod runs", async || {
            let pod = shown(rig).await?;
            ensure!(
                text(&pod, "/status/phase") == "Running",
                "{}",
                pod["status"]
            );
            Ok(pod)
        })
        .await?;
        rig.syncer.stop()?;
        let forged = json!({"podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}]});
        let side = &rig.tenants[0].side;
        side.merge_status(POD, "work", "web", forged).await?;
        // Whatever else is at work in the tenant has done its part by then.
        let map = json!({"metadata": {"name": "later", "namespace": "work"}});
        side.create(CONFIG_MAP, map).await?;
        let pod = shown(rig).await?;
        ensure!(address(&pod) == "192.0.2.1", "{}", pod["status"]);
        rig.syncer.start().await?;
        eventually(PODS, "it is put right", async || {
            let pod = shown(rig).await?;
            ensure!(
                address(&pod) == address(&own) && uid(&pod) == uid(&own),
                "{}",
                pod["status"]
            );
            Ok(())
        })
        .await
    });
}

async fn shown(rig: &Rig) -> anyhow::Result<Value> {
    Ok(rig.tenants[0].side.get(POD, "work", "web").await?)
}
