//! cert-manager in a restricted tenant: its resource definitions, webhooks, injector and controllers, and certificates in
//! three namespaces that aren't its own.

use super::aggregated;
use anyhow::ensure;
use e2e::{
    dump,
    kind::{CRD, DEPLOYMENT, Kind, SECRET},
    make,
    program::{Folder, Program},
    read::{condition, uid},
    settings,
    side::{Problem, Side},
    space::{Space, run},
    tenant::Tenant,
    wait::{PODS, SOON, eventually},
};
use futures::future::try_join_all;
use serde_json::{Value, json};

const MANIFEST: &str = include_str!("cert-manager.yaml");
/// Where it runs.
const HOME: &str = "cert-manager";
const CERTIFICATE: Kind = Kind {
    api_version: "cert-manager.io/v1",
    name: "Certificate",
    plural: "certificates",
};
const ISSUER: Kind = Kind {
    api_version: "cert-manager.io/v1",
    name: "Issuer",
    plural: "issuers",
};
const CLUSTER_ISSUER: Kind = Kind {
    api_version: "cert-manager.io/v1",
    name: "ClusterIssuer",
    plural: "clusterissuers",
};

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn cert_manager_works_in_a_restricted_tenant_and_secures_an_aggregated_api() {
    run(async || {
        let spec = json!({"policy": {"podSecurity": "restricted"}});
        let tenant = Tenant::make("e2e-operators", spec).await?;
        let home = place(&tenant, HOME);
        let outcome = tried(&tenant, &home).await;
        if outcome.is_err() {
            eprintln!("{}", dump::space(&home).await);
            let api = place(&tenant, aggregated::HOME);
            eprintln!("{}", dump::space(&api).await);
        }
        tenant.delete().await?;
        outcome
    });
}

async fn tried(tenant: &Tenant, home: &Space) -> anyhow::Result<()> {
    let folder = Folder::make()?;
    let kubectl = Program::kubectl(folder.path(), &tenant.kubeconfig)?;
    install(&kubectl, home).await?;
    authority(tenant).await?;

    let teams: Vec<Space> = try_join_all(
        ["team-one", "team-two", "team-three"].map(|name| Space::open(tenant.clone(), name)),
    )
    .await?;
    try_join_all(teams.iter().map(certified)).await?;
    signs_itself(&teams[0]).await?;
    wrong_ones_are_refused(&teams[1]).await?;
    aggregated::works(&kubectl, &place(tenant, aggregated::HOME), &teams[2]).await?;

    // All of it is the tenant's: the super cluster has neither definitions nor issuers.
    let name = "certificates.cert-manager.io";
    let above = tenant.above.find(CRD, "", name).await?;
    ensure!(above.is_none(), "{name} is in the super cluster");
    Ok(())
}

/// A namespace that a manifest makes.
fn place(tenant: &Tenant, name: &str) -> Space {
    Space {
        twin: tenant.twin(name),
        name: name.to_owned(),
        tenant: tenant.clone(),
    }
}

/// Applies definitions and manifest, and waits until all three programs run.
async fn install(kubectl: &Program, home: &Space) -> anyhow::Result<()> {
    let source = settings::cert_manager_source()?;
    let line = format!(
        "apply --server-side -f {}",
        source.join("deploy/crds").display()
    );
    kubectl.run(&line).await?.ok()?;
    let manifest = MANIFEST.replace("VERSION", &settings::version(&source)?);
    let applied = kubectl.feed("apply --server-side -f -", &manifest);
    applied.await?.ok()?;
    for part in ["controller", "webhook", "cainjector"] {
        home.rolled_out(DEPLOYMENT, part, 1).await?;
    }
    Ok(())
}

/// An authority for the whole tenant, which has signed itself.
async fn authority(tenant: &Tenant) -> anyhow::Result<()> {
    let side = &tenant.side;
    let itself = json!({"metadata": {"name": "itself"}, "spec": {"selfSigned": {}}});
    // Its webhook has an authority only when the injector has written it, and is behind its Service a moment later.
    eventually(PODS, "the webhook lets an issuer in", async || {
        match side.create(CLUSTER_ISSUER, itself.clone()).await {
            Err(problem) if problem.code != 409 => Err(problem.into()),
            _ => Ok(()),
        }
    })
    .await?;
    let root = json!({
        "metadata": {"name": "root", "namespace": HOME},
        "spec": {
            "isCA": true, "commonName": "company", "secretName": "root",
            "privateKey": {"algorithm": "ECDSA", "size": 256},
            "issuerRef": {"kind": "ClusterIssuer", "name": "itself"},
        },
    });
    side.create(CERTIFICATE, root).await?;
    ready(side, CERTIFICATE, HOME, "root").await?;
    let company = json!({"metadata": {"name": "company"}, "spec": {"ca": {"secretName": "root"}}});
    side.create(CLUSTER_ISSUER, company).await?;
    ready(side, CLUSTER_ISSUER, "", "company").await
}

/// Waits until an object of cert-manager's is Ready.
async fn ready(side: &Side, kind: Kind, namespace: &str, name: &str) -> anyhow::Result<()> {
    eventually(
        PODS,
        &format!("{} {name} is Ready", kind.name),
        async || {
            let object = side.get(kind, namespace, name).await?;
            ensure!(
                condition(&object, "Ready") == "True",
                "{}",
                object["status"]
            );
            Ok(())
        },
    )
    .await
}

fn certificate(name: &str, issuer: (&str, &str)) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "secretName": format!("{name}-tls"), "dnsNames": [format!("{name}.example.com")],
            "privateKey": {"algorithm": "ECDSA", "size": 256},
            "issuerRef": {"kind": issuer.0, "name": issuer.1},
        },
    })
}

/// The namespace gets a certificate of the tenant's authority, a pod has it, and one whose Secret is lost is issued anew.
async fn certified(team: &Space) -> anyhow::Result<()> {
    let side = team.side();
    team.create(
        CERTIFICATE,
        certificate("web", ("ClusterIssuer", "company")),
    )
    .await?;
    ready(side, CERTIFICATE, &team.name, "web").await?;
    let first = team.get(SECRET, "web-tls").await?;
    let root = side.get(SECRET, HOME, "root").await?;
    ensure!(
        first["data"]["ca.crt"] == root["data"]["tls.crt"],
        "it is signed by another authority"
    );

    let mut container = make::shell("wc -l < /tls/tls.crt > /dev/termination-log");
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    });
    container["volumeMounts"] = json!([{"name": "tls", "mountPath": "/tls"}]);
    let mut spec = make::once(container);
    spec["volumes"] = json!([{"name": "tls", "secret": {"secretName": "web-tls"}}]);
    team.pod("reader", spec).await?;
    let lines: usize = team.outcome("reader").await?.trim().parse()?;
    ensure!(lines > 5, "the pod has a certificate of {lines} lines");

    team.delete(SECRET, "web-tls").await?;
    eventually(SOON, "the lost certificate is issued anew", async || {
        let second = team.get(SECRET, "web-tls").await?;
        ensure!(
            uid(&second) != uid(&first),
            "the Secret is still the old one"
        );
        ensure!(
            second["data"]["tls.crt"].is_string()
                && second["data"]["tls.crt"] != first["data"]["tls.crt"],
            "it holds no other certificate"
        );
        Ok(())
    })
    .await?;
    ready(side, CERTIFICATE, &team.name, "web").await
}

/// An issuer of the namespace's own.
async fn signs_itself(team: &Space) -> anyhow::Result<()> {
    let own = json!({"metadata": {"name": "own"}, "spec": {"selfSigned": {}}});
    team.create(ISSUER, own).await?;
    ready(team.side(), ISSUER, &team.name, "own").await?;
    team.create(CERTIFICATE, certificate("own", ("Issuer", "own")))
        .await?;
    ready(team.side(), CERTIFICATE, &team.name, "own").await
}

/// What the resource definitions let through and the webhook doesn't.
async fn wrong_ones_are_refused(team: &Space) -> anyhow::Result<()> {
    let mut wrong = certificate("wrong", ("ClusterIssuer", "company"));
    wrong["spec"]["duration"] = "1m".into();
    refused(team.create(CERTIFICATE, wrong).await, "duration")?;
    // Nothing of it stays, and what was let in can't become wrong.
    ensure!(team.find(CERTIFICATE, "wrong").await?.is_none());
    let patch = json!({"spec": {"duration": "1m"}});
    refused(team.merge(CERTIFICATE, "web", patch).await, "duration")?;
    Ok(())
}

fn refused(answer: Result<Value, Problem>, why: &str) -> anyhow::Result<()> {
    let Err(problem) = answer else {
        anyhow::bail!("it was let in");
    };
    for word in ["webhook.cert-manager.io", "denied the request", why] {
        ensure!(
            problem.message.contains(word),
            "{word:?} is missing: {problem}"
        );
    }
    Ok(())
}
