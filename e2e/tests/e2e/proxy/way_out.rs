//! What a tenant's API server reaches: its own pods and Services, by proxy and by webhook.

use crate::kubectl::with_kubectl;
use anyhow::ensure;
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    kind::{CONFIG_MAP, DEFINITION, Kind, POD, SECRET, SERVICE, VALIDATING_WEBHOOK},
    make,
    space::{Space, within},
    tenant::A,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

/// A server with its Service.
async fn server(space: &Space) -> anyhow::Result<()> {
    let labels = json!({"name": "web", "labels": {"app": "web"}});
    let pod = json!({"metadata": labels, "spec": make::pod_spec(make::server())});
    space.create(POD, pod).await?;
    space.create(SERVICE, make::service("web")).await?;
    space.ready("web").await?;
    Ok(())
}

#[test]
fn pods_and_services_are_proxied() {
    within(A, "proxied", async |space| {
        server(space).await?;
        for what in ["pods/web:8080", "services/web:80", "services/web"] {
            let path = format!("/api/v1/namespaces/{}/{what}/proxy/hostname", space.name);
            eventually(SOON, &format!("{what} answers"), async || {
                let said = space.side().text(&path).await?;
                ensure!(said == "web", "{said}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    });
}

/// A webhook that is asked before a ConfigMap of the space is created.
pub(super) fn webhook(space: &Space, client: Value) -> Value {
    json!({
        "metadata": {"name": format!("{}.example.com", space.name)},
        "webhooks": [{
            "name": format!("{}.example.com", space.name), "clientConfig": client,
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 5,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}],
        }],
    })
}

/// Tries to create a ConfigMap until the webhook is asked, and returns why it was refused.
pub(super) async fn refused_by(space: &Space, client: Value) -> anyhow::Result<String> {
    let hook = space
        .side()
        .create(VALIDATING_WEBHOOK, webhook(space, client))
        .await?;
    let said = eventually(PODS, "the webhook is asked", async || {
        let name = make::unique("try");
        match space
            .create(CONFIG_MAP, make::config_map(&name, "a", "b"))
            .await
        {
            Ok(_) => anyhow::bail!("the ConfigMap was let in"),
            // On a busy machine nobody may have answered in the webhook's time; a place that never does fails the test.
            Err(problem) if problem.message.contains("deadline exceeded") => {
                anyhow::bail!("{problem}")
            }
            Err(problem) => Ok(problem.message),
        }
    })
    .await;
    let name = e2e::read::name(&hook);
    space.side().delete(VALIDATING_WEBHOOK, "", name).await?;
    said
}

#[test]
fn a_webhook_in_a_service_of_the_tenant_is_asked() {
    with_kubectl("hook", async |space, kubectl| {
        server(space).await?;
        // The server speaks no TLS, so that it was reached is told by what is wrong with its answer.
        let service =
            json!({"service": {"namespace": space.name, "name": "web", "port": 80, "path": "/"}});
        // A ready pod isn't behind its Service's address on every node at once.
        eventually(SOON, "the webhook is reached", async || {
            let said = refused_by(space, service.clone()).await?;
            ensure!(
                said.contains("server gave HTTP response to HTTPS client"),
                "{said}"
            );
            Ok(())
        })
        .await?;
        kubectl
            .run(&format!("-n {} get pod web", space.name))
            .await?
            .says(&["Running"])?;
        Ok(())
    });
}

const MAPPING: Kind = Kind {
    api_version: "stable.example.com/v1",
    name: "Mapping",
    plural: "mappings",
};
const MAPPING_2: Kind = Kind {
    api_version: "stable.example.com/v2",
    ..MAPPING
};
const MAPPINGS: &str = "mappings.stable.example.com";

/// A webhook of the upstream suite that converts `hostPort` into `host` and `port`; returns its certificate.
async fn converter(space: &Space) -> anyhow::Result<String> {
    let key = rcgen::KeyPair::generate()?;
    let names = vec![format!("convert.{}.svc", space.name)];
    let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
    let pair = json!({"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()});
    let secret =
        json!({"metadata": {"name": "convert"}, "type": "kubernetes.io/tls", "stringData": pair});
    space.create(SECRET, secret).await?;
    let mut container = make::container(
        make::AGNHOST,
        &[
            "/agnhost",
            "crd-conversion-webhook",
            "--tls-cert-file=/keys/tls.crt",
            "--tls-private-key-file=/keys/tls.key",
            "--port=8080",
        ],
    );
    container["volumeMounts"] = json!([{"name": "keys", "mountPath": "/keys", "readOnly": true}]);
    let probe = json!({"path": "/readyz", "port": 8080, "scheme": "HTTPS"});
    container["readinessProbe"] = json!({"httpGet": probe, "periodSeconds": 1});
    let mut spec = make::pod_spec(container);
    spec["volumes"] = json!([{"name": "keys", "secret": {"secretName": "convert"}}]);
    let metadata = json!({"name": "convert", "labels": {"app": "convert"}});
    let pod = json!({"metadata": metadata, "spec": spec});
    space.create(POD, pod).await?;
    space.create(SERVICE, make::service("convert")).await?;
    space.ready("convert").await?;
    Ok(certificate.pem())
}

#[test]
fn a_conversion_webhook_of_the_tenant_is_asked() {
    within(A, "convert", async |space| {
        let certificate = converter(space).await?;
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let version = |name: &str, stored: bool| json!({"name": name, "served": true, "storage": stored, "schema": {"openAPIV3Schema": any}});
        let service =
            json!({"namespace": space.name, "name": "convert", "path": "/crdconvert", "port": 80});
        let client = json!({"service": service, "caBundle": BASE64_STANDARD.encode(certificate)});
        let definition = json!({
            "metadata": {"name": MAPPINGS},
            "spec": {
                "group": "stable.example.com", "scope": "Namespaced",
                "names": {"plural": MAPPING.plural, "singular": "mapping", "kind": MAPPING.name},
                "versions": [version("v1", true), version("v2", false)],
                "conversion": {
                    "strategy": "Webhook",
                    "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]},
                },
            },
        });
        space.side().create(DEFINITION, definition).await?;
        let result = converts(space).await;
        space.side().delete(DEFINITION, "", MAPPINGS).await?;
        result
    });
}

async fn converts(space: &Space) -> anyhow::Result<()> {
    let object = json!({"metadata": {"name": "one"}, "hostPort": "localhost:8080"});
    eventually(
        SOON,
        "an object of the first version is made",
        async || match space.create(MAPPING, object.clone()).await {
            Err(problem) if problem.code != 409 => Err(problem.into()),
            _ => Ok(()),
        },
    )
    .await?;
    // A ready pod isn't behind its Service's address on every node at once.
    eventually(SOON, "it is read in the second version", async || {
        let read = space.get(MAPPING_2, "one").await?;
        ensure!(
            read["host"] == "localhost" && read["port"] == "8080",
            "{read}"
        );
        Ok(())
    })
    .await?;
    let object = json!({"metadata": {"name": "two"}, "host": "example.com", "port": "443"});
    space.create(MAPPING_2, object).await?;
    let stored = space.get(MAPPING, "two").await?;
    ensure!(stored["hostPort"] == "example.com:443", "{stored}");
    let listed = space.side().list(MAPPING_2, &space.name, "").await?;
    ensure!(listed.len() == 2, "{listed:?}");
    Ok(())
}
