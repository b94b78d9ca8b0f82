//! T28: a webhook of the tenant's own that sends the API server elsewhere.

use super::{
    threats::{REFUSED, forbidden},
    way_out::refused_by,
};
use anyhow::ensure;
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    kind::{CONFIG_MAP, POD, SECRET, SERVICE},
    make,
    space::{Space, within},
    tenant::A,
    wait::{PODS, eventually},
};
use serde_json::json;

const NGINX: &str = "docker.io/library/nginx:1.28";
/// Name of all that makes the webhook.
const NAME: &str = "elsewhere";

/// A web server with TLS that sends whoever asks for `/NUMBER` to the place of that number; returns its certificate.
async fn server(space: &Space, places: &[(u16, String)]) -> anyhow::Result<String> {
    let key = rcgen::KeyPair::generate()?;
    let names = vec![format!("{NAME}.{}.svc", space.name)];
    let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
    let pair = json!({"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()});
    let secret =
        json!({"metadata": {"name": NAME}, "type": "kubernetes.io/tls", "stringData": pair});
    space.create(SECRET, secret).await?;
    let redirects: String = places
        .iter()
        .enumerate()
        .map(|(number, (code, place))| {
            format!("location = /{number} {{ return {code} https://{place}/; }}\n")
        })
        .collect();
    let config = format!(
        "user nginx;\nerror_log /dev/stderr notice;\npid /run/nginx.pid;\nevents {{}}\nhttp {{\nserver {{\n\
         listen 8080 ssl;\nssl_certificate /keys/tls.crt;\nssl_certificate_key /keys/tls.key;\n\
         location = /healthz {{ return 200; }}\n{redirects}}}\n}}\n"
    );
    space
        .create(CONFIG_MAP, make::config_map(NAME, "nginx.conf", &config))
        .await?;
    let command = ["nginx", "-c", "/config/nginx.conf", "-g", "daemon off;"];
    let mut container = make::container(NGINX, &command);
    container["volumeMounts"] = json!([
        {"name": "keys", "mountPath": "/keys", "readOnly": true},
        {"name": "config", "mountPath": "/config", "readOnly": true},
    ]);
    let probe = json!({"path": "/healthz", "port": 8080, "scheme": "HTTPS"});
    container["readinessProbe"] = json!({"httpGet": probe, "periodSeconds": 1});
    let mut spec = make::pod_spec(container);
    spec["volumes"] = json!([
        {"name": "keys", "secret": {"secretName": NAME}},
        {"name": "config", "configMap": {"name": NAME}},
    ]);
    let metadata = json!({"name": NAME, "labels": {"app": NAME}});
    space
        .create(POD, json!({"metadata": metadata, "spec": spec}))
        .await?;
    space.create(SERVICE, make::service(NAME)).await?;
    space.ready(NAME).await?;
    Ok(certificate.pem())
}

/// Of a webhook's address the way out judges the Service; of what it answers, each further address by itself.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t28_redirects_of_a_webhook_lead_nowhere_either() {
    within(A, "redirects", async |space| {
        let places = forbidden(space).await?;
        let mut redirects = vec![];
        // By one code the body goes along, by the other it's a plain question.
        for code in [307, 302] {
            for (host, port) in &places {
                redirects.push((code, format!("{host}:{port}")));
            }
        }
        let certificate = server(space, &redirects).await?;
        for (number, (code, place)) in redirects.iter().enumerate() {
            let path = format!("/{number}");
            let service = json!({"namespace": space.name, "name": NAME, "path": path, "port": 80});
            let client =
                json!({"service": service, "caBundle": BASE64_STANDARD.encode(&certificate)});
            // A ready pod isn't behind its Service's address on every node at once.
            eventually(PODS, &format!("{code} to {place} is refused"), async || {
                let said = refused_by(space, client.clone()).await?;
                ensure!(said.contains(REFUSED) && said.contains(place), "{said}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    });
}
