//! No key, token or password is in a log, however much is logged.

use anyhow::{Context, ensure};
use api::keys;
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    kind::{CONTROL_PLANE, NAMESPACE, POD, SECRET},
    make,
    read::{condition, name, text},
    rig::{
        Rig, Wish, kubeconfig_secret,
        manager::{self, Manager},
        on_rig,
        proxy::Proxy,
        secret_name,
        syncer::{Periods, Syncer},
    },
    side::Side,
    tenant::{NAMESPACE_OF_TESTS, conditions},
    wait::{PODS, SOON, eventually},
    way_out::{Identity, WayOut},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tenancy::{naming, tenant::TenantId};

/// Keys of Secrets that hold what everybody may know.
const PUBLIC: [&str; 4] = [".crt", ".pub", "namespace", "server"];
/// What stands before a secret word in a kubeconfig, whichever way it is written.
const BEFORE_SECRETS: [&str; 2] = ["client-key-data:", "token:"];
/// Of what is secret, so many letters are looked for.
const LENGTH: usize = 40;
/// Of words that are shorter, what is found says nothing.
const SHORTEST: usize = 8;
/// Fewer than these secrets would mean that little was done.
const LEAST: usize = 10;
/// The tenant's own.
const PASSWORDS: [&str; 2] = [
    "first-password-of-the-tenant",
    "second-password-of-the-tenant",
];
/// In a kubeconfig that is refused.
const REFUSED_TOKEN: &str = "token-in-a-kubeconfig-that-is-refused";
/// What a caller of the proxy says of itself, in a header and as a protocol of a WebSocket.
const CALLERS_TOKENS: [&str; 2] = [
    "token-of-a-caller-in-a-header",
    "token-of-a-caller-in-a-protocol",
];
/// The control plane that the manager makes.
const MADE: &str = "keys";

/// Part of a secret, from its middle: beginnings are often alike.
fn middle(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let start = letters.len().saturating_sub(LENGTH) / 2;
    letters.iter().skip(start).take(LENGTH).collect()
}

/// What of a text must be in no log.
fn secrets_in(text: &str) -> Vec<String> {
    let plain = text
        .replace(['"', '\''], "")
        .replace(['{', '}', '[', ']', ','], " ")
        .replace(':', ": ");
    let words: Vec<&str> = plain.split_whitespace().collect();
    // A kubeconfig's certificates are no secrets.
    let pairs = words.windows(2);
    let named = pairs.filter(|pair| BEFORE_SECRETS.contains(&pair[0]));
    let named: Vec<String> = named.map(|pair| middle(pair[1])).collect();
    if !named.is_empty() {
        return named;
    }
    // Lines of a key, a token, a word in a configuration.
    let long = words.iter().filter(|word| word.len() >= LENGTH);
    let long: Vec<String> = long.map(|word| middle(word)).collect();
    if long.is_empty() {
        vec![middle(text.trim())]
    } else {
        long
    }
}

/// What of all Secrets of a cluster must be in no log, as it is and as Secrets hold it.
async fn secrets_of(side: &Side) -> anyhow::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for secret in side.list(SECRET, "", "").await? {
        for (key, value) in secret["data"].as_object().into_iter().flatten() {
            if PUBLIC.iter().any(|end| key.ends_with(end)) {
                continue;
            }
            let encoded = value.as_str().unwrap_or_default();
            let text = String::from_utf8(BASE64_STANDARD.decode(encoded)?)?;
            all.insert(middle(encoded));
            all.extend(secrets_in(&text));
        }
    }
    Ok(all)
}

fn is_clean(daemon: &str, log: &str, secrets: &BTreeSet<String>) -> anyhow::Result<()> {
    ensure!(log.contains("TRACE"), "{daemon} doesn't log all there is");
    // A secret that is found isn't told here either.
    let line = |secret: &String| log.lines().position(|line| line.contains(secret.as_str()));
    let told = secrets.iter().filter(|secret| secret.len() >= SHORTEST);
    let found: Vec<usize> = told.filter_map(line).collect();
    ensure!(
        found.is_empty(),
        "{daemon} tells secrets in these lines of its log (SUBLET_KEEP_RIG=1 keeps it): {found:?}"
    );
    Ok(())
}

/// A tenant's Secret that changes, a pod with a token, and a kubeconfig that is refused.
async fn make_the_syncer_work(rig: &Rig) -> anyhow::Result<()> {
    let guest = &rig.tenants[0];
    guest.namespace("work").await?;
    let login = json!({"metadata": {"name": "login", "namespace": "work"}, "stringData": {"password": PASSWORDS[0]}});
    guest.side.create(SECRET, login).await?;
    let pod = json!({"metadata": {"name": "web", "namespace": "work"}, "spec": make::pod_spec(make::idle())});
    guest.side.create(POD, pod).await?;
    let twin = guest.twin("work");
    eventually(PODS, "the pod's token is there", async || {
        let secrets = rig.side.list(SECRET, &twin, "").await?;
        let is_token = |secret: &Value| name(secret).starts_with(tenancy::naming::TOKEN_PREFIX);
        ensure!(secrets.iter().any(is_token), "{} Secrets", secrets.len());
        Ok(())
    })
    .await?;
    let changed = json!({"stringData": {"password": PASSWORDS[1]}});
    guest.side.merge(SECRET, "work", "login", changed).await?;
    let wanted = BASE64_STANDARD.encode(PASSWORDS[1]);
    eventually(SOON, "the change crosses", async || {
        let twin = rig.side.get(SECRET, &twin, "login").await?;
        ensure!(twin["data"]["password"] == wanted, "it has the old data");
        Ok(())
    })
    .await?;

    let good = guest.server.syncer_kubeconfig(guest.proxy.port());
    let mut bad: Value = serde_json::from_str(&good)?;
    bad["users"][0]["user"] = json!({"token": REFUSED_TOKEN, "exec": {"command": "sh"}});
    for (kubeconfig, synced) in [(bad.to_string(), "False"), (good, "True")] {
        let data = json!({"stringData": kubeconfig_secret(&guest.name, &kubeconfig)["stringData"]});
        let secret = secret_name(&guest.name);
        rig.side
            .merge(SECRET, NAMESPACE_OF_TESTS, &secret, data)
            .await?;
        eventually(PODS, "the kubeconfig is judged", async || {
            let vcp = rig.vcp(0).await?;
            ensure!(condition(&vcp, "Synced") == synced, "{}", conditions(&vcp));
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The keys of a control plane, in the Secrets of its namespace.
async fn make_the_manager_work(rig: &Rig) -> anyhow::Result<Manager> {
    manager::stand_in_for_the_proxy(&rig.side).await?;
    let flags = ["--log=trace"];
    let mut manager = Manager::new(rig.folder(), &rig.above.admin_kubeconfig(), &flags)?;
    manager.start().await?;
    let before = rig.side.list(SECRET, "", "").await?.len();
    let vcp = json!({
        "metadata": {"name": MADE, "namespace": NAMESPACE_OF_TESTS},
        "spec": {"className": "default", "etcd": {"storage": {"ephemeral": true}}},
    });
    rig.side.create(CONTROL_PLANE, vcp).await?;
    let made = eventually(PODS, "the control plane's keys are made", async || {
        let now = rig.side.list(SECRET, "", "").await?.len();
        ensure!(
            now >= before + LEAST,
            "{} Secrets more",
            now.saturating_sub(before)
        );
        Ok(())
    });
    made.await.with_context(|| manager.tail())?;
    Ok(manager)
}

/// A tenant that the proxy knows, with a pod of which something is asked by its API server's certificate.
async fn make_the_proxy_work(rig: &Rig) -> anyhow::Result<Proxy> {
    let admin = rig.above.admin_kubeconfig();
    let proxy = Proxy::start(rig.folder(), &admin, &["--log=trace"]).await?;
    let vcp = rig
        .side
        .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, MADE)
        .await?;
    let id = TenantId::parse(text(&vcp, "/spec/identity"))?;
    let namespace = naming::control_plane_namespace(&id, MADE);
    let twin = naming::super_namespace(&id, MADE, "work");
    // Nobody schedules it, so that what is asked of it is answered at once.
    let marks = json!({api::keys::NAMESPACE: "work", api::keys::NAME: "web", api::keys::UID: "u"});
    rig.side
        .create(NAMESPACE, json!({"metadata": {"name": twin}}))
        .await?;
    let mut spec = make::pod_spec(make::idle());
    spec["schedulingGates"] = json!([{"name": "example.com/never"}]);
    spec["automountServiceAccountToken"] = false.into();
    let pod = json!({
        "metadata": {"name": "web", "namespace": twin, "labels": {keys::TENANT: id.as_str()}, "annotations": marks},
        "spec": spec,
    });
    eventually(SOON, "a pod can be made there", async || {
        Ok(rig.side.create(POD, pod.clone()).await?)
    })
    .await?;
    let [header, protocol] = CALLERS_TOKENS;
    let upgrade = format!(
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.{protocol}\r\n"
    );
    let logs = ("GET /containerLogs/work/web/main", "");
    let exec = (
        "GET /exec/work/web/main?command=id&output=1",
        upgrade.as_str(),
    );
    for (line, more) in [logs, exec] {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {header}\r\n{more}\r\n"
        );
        eventually(PODS, "the super cluster's answer comes back", async || {
            let out = WayOut::of_this_machine(&rig.side, proxy.way_out).await?;
            let own = Identity::of_api_server_in(&rig.side, &namespace).await?;
            let answer = out.kubelet(&own, &own, &head).await?;
            // It has no node: nothing was logged, and nothing can be run.
            ensure!([200, 204, 400].contains(&answer.code), "{answer:?}");
            Ok(())
        })
        .await
        .with_context(|| proxy.tail())?;
    }
    Ok(proxy)
}

#[test]
fn no_secret_is_in_a_log_however_much_is_logged() {
    on_rig(Wish::default(), async |rig| {
        let own = rig.above.syncer_kubeconfig(rig.proxy.port());
        let traced = Syncer::new(rig.folder().to_owned(), "traced", &own, Periods::default())?
            .logging("trace");
        rig.put_in_place(traced).await?;
        make_the_syncer_work(rig).await?;
        let mut manager = make_the_manager_work(rig).await?;
        let proxy = make_the_proxy_work(rig).await?;

        let mut secrets = secrets_of(&rig.side).await?;
        secrets.extend(secrets_of(&rig.tenants[0].side).await?);
        ensure!(secrets.len() >= LEAST, "{} secrets", secrets.len());
        secrets.extend(secrets_in(&own));
        secrets.extend(secrets_in(&rig.above.admin_kubeconfig()));
        secrets.extend(PASSWORDS.map(middle));
        secrets.insert(middle(REFUSED_TOKEN));
        secrets.extend(CALLERS_TOKENS.map(middle));
        manager.kill();
        is_clean("the proxy", &proxy.into_log()?, &secrets)?;
        is_clean("the manager", &manager.log()?, &secrets)?;
        is_clean("the syncer", &rig.syncer.log()?, &secrets)
    });
}
