//! T34: what a tenant's own authority signs, and what somebody signs in another tenant's name.

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    kind::{Kind, SELF_REVIEW},
    make,
    program::{Folder, Program},
    read::text,
    rig::keys::holder,
    side::Side,
    space::run,
    tenant::{A, B, Tenant},
    wait::{SOON, eventually},
    way_out::{Identity, WayOut, ask},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

const REQUEST: Kind = Kind {
    api_version: "certificates.k8s.io/v1",
    name: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
};
/// The name by which API servers come to the way out, all tenants' alike.
const CALLER: &str = "kube-apiserver-kubelet-client";
/// The group of a tenant's admins.
const ADMINS: &str = "sublet:admins";

/// A certificate with its key for whomever the tenant's admin says, signed by the tenant's own authority.
async fn signed(tenant: &Tenant, name: &str, group: &str) -> anyhow::Result<[String; 2]> {
    let key = KeyPair::generate()?;
    let asked = holder(name, group).serialize_request(&key)?.pem()?;
    let called = make::unique("t34");
    let object = json!({
        "metadata": {"name": called},
        "spec": {
            "request": BASE64_STANDARD.encode(asked), "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"], "expirationSeconds": 600,
        },
    });
    tenant.side.create(REQUEST, object).await?;
    let folder = Folder::make()?;
    let kubectl = Program::kubectl(folder.path(), &tenant.kubeconfig)?;
    let line = format!("certificate approve {called}");
    kubectl.run(&line).await?.says(&["approved"])?;
    let certificate = eventually(SOON, "it is signed", async || {
        let seen = tenant.side.get(REQUEST, "", &called).await?;
        let found = text(&seen, "/status/certificate");
        ensure!(!found.is_empty(), "{seen}");
        Ok(BASE64_STANDARD.decode(found)?)
    })
    .await?;
    tenant.side.delete(REQUEST, "", &called).await?;
    Ok([String::from_utf8(certificate)?, key.serialize_pem()])
}

/// What an authority signs that is called like the one of the victim's API servers, and has another key.
fn forged(victim: &Tenant) -> anyhow::Result<Identity> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name = DistinguishedName::new();
    authority
        .distinguished_name
        .push(DnType::CommonName, format!("proxy-client-ca.{}", victim.id));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = Issuer::new(authority, KeyPair::generate()?);
    let mut leaf = holder(CALLER, ADMINS);
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?.pem();
    Ok(Identity::of_pair(&certificate, &key.serialize_pem()))
}

/// The kubeconfig with other credentials.
fn with_user(kubeconfig: &str, user: &Value) -> anyhow::Result<String> {
    let mut config: Value = serde_saphyr::from_str(kubeconfig)?;
    config["users"][0]["user"] = user.clone();
    // JSON is YAML.
    Ok(config.to_string())
}

#[test]
fn t34_what_a_tenants_own_authority_signs_is_worth_nothing_elsewhere() {
    run(async || {
        let (a, b) = (A.get().await?, B.get().await?);
        // Kubernetes itself signs for nobody of this group.
        let refused = signed(a, "kubernetes-admin", "system:masters").await.err();
        let refused = format!("{:#}", refused.context("system:masters was signed for")?);
        ensure!(refused.contains("system:masters"), "{refused}");

        let [certificate, key] = signed(a, CALLER, ADMINS).await?;
        let user = json!({
            "client-certificate-data": BASE64_STANDARD.encode(&certificate),
            "client-key-data": BASE64_STANDARD.encode(&key),
        });
        let above = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
        for (name, kubeconfig, code) in [
            ("its own tenant", &a.kubeconfig, 200),
            ("the other tenant", &b.kubeconfig, 401),
            ("the super cluster", &above, 401),
        ] {
            let holder = Side::connect(name, &with_user(kubeconfig, &user)?).await?;
            let answer = holder.create(SELF_REVIEW, json!({})).await;
            let got = answer.as_ref().map_or_else(|problem| problem.code, |_| 200);
            ensure!(got == code, "{name}: {answer:?}");
        }

        let out = WayOut::find(&a.above).await?;
        let own = Identity::of_pair(&certificate, &key);
        let line = "CONNECT n.nodes.sublet.internal:10250 HTTP/1.1\r\nHost: x\r\n\r\n";
        for (who, identity) in [("the tenant's own", &own), ("one in b's name", &forged(b)?)] {
            let outcome = match out.connect(Some(identity)).await {
                Ok(mut stream) => ask(&mut stream, line).await.map(|answer| answer.code),
                Err(error) => Err(error),
            };
            ensure!(outcome.is_err(), "{who} was answered with {outcome:?}");
        }
        // Nor does it prove anything within the tunnel of an API server.
        let caller = Identity::of_api_server(a).await?;
        let head = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        ensure!(out.kubelet(&caller, &caller, head).await?.code == 200);
        let mixed = out.kubelet(&caller, &own, head).await;
        ensure!(mixed.is_err(), "{mixed:?}");
        Ok(())
    });
}
