//! An issuer of tokens: a pod of the super cluster that answers every question with one document, which says where its keys are
//! and holds them.

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use e2e::{
    kind::{POD, SECRET, SERVICE},
    make,
    read::{condition, text},
    side::Side,
    tenant::NAMESPACE_OF_TESTS as N,
    wait::{PODS, eventually},
};
use k8s_openapi::jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SigningKey};
use serde_json::{Value, json};

/// Whom its tokens are for.
pub(super) const AUDIENCE: &str = "e2e";

/// The issuer.
pub(super) struct Issuer {
    above: Side,
    name: String,
    key: KeyPair,
    /// Address of its Service, where it answers at port 443.
    pub(super) address: String,
    /// What its certificate is checked against.
    pub(super) authority: String,
}

impl Issuer {
    /// Runs `body` beside an issuer of that name.
    pub(super) async fn beside(
        above: &Side,
        name: &str,
        body: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let metadata = json!({"name": name, "namespace": N});
        let ports = json!([{"port": 443, "targetPort": 8443}]);
        let service =
            json!({"metadata": metadata, "spec": {"selector": {"app": name}, "ports": ports}});
        let service = above.create(SERVICE, service).await?;
        let address = text(&service, "/spec/clusterIP").to_owned();
        let own = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![address.clone()])?.self_signed(&own)?;
        let issuer = Self {
            above: above.clone(),
            name: name.to_owned(),
            key: KeyPair::generate()?,
            address,
            authority: certificate.pem(),
        };
        let result = async {
            issuer.start(&own.serialize_pem()).await?;
            body(&issuer).await
        }
        .await;
        for kind in [POD, SECRET, SERVICE] {
            above.delete(kind, N, name).await?;
        }
        result
    }

    /// As tokens name it.
    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    async fn start(&self, key: &str) -> anyhow::Result<()> {
        let metadata = json!({"name": self.name, "namespace": N, "labels": {"app": self.name}});
        let pair = json!({"tls.crt": self.authority, "tls.key": key});
        let secret = json!({"metadata": metadata, "type": "kubernetes.io/tls", "stringData": pair});
        self.above.create(SECRET, secret).await?;
        let mut container = make::container(make::AGNHOST, &["/agnhost", "porter"]);
        container["env"] = json!([
            {"name": "CERT_FILE", "value": "/keys/tls.crt"},
            {"name": "KEY_FILE", "value": "/keys/tls.key"},
            {"name": "SERVE_TLS_PORT_8443", "value": self.document()?.to_string()},
        ]);
        container["volumeMounts"] =
            json!([{"name": "keys", "mountPath": "/keys", "readOnly": true}]);
        let probe = json!({"path": "/", "port": 8443, "scheme": "HTTPS"});
        container["readinessProbe"] = json!({"httpGet": probe, "periodSeconds": 1});
        let mut spec = make::pod_spec(container);
        spec["volumes"] = json!([{"name": "keys", "secret": {"secretName": self.name}}]);
        self.above
            .create(POD, json!({"metadata": metadata, "spec": spec}))
            .await?;
        eventually(PODS, "the issuer is ready", async || {
            let pod = self.above.get(POD, N, &self.name).await?;
            ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
            Ok(())
        })
        .await
    }

    /// What it says of itself, and its key.
    fn document(&self) -> anyhow::Result<Value> {
        let point = self.key.der_bytes();
        let [4, rest @ ..] = point else {
            anyhow::bail!("an uncompressed point is expected");
        };
        let (x, y) = rest.split_at(rest.len() / 2);
        let key = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "one",
            "x": encoded(x), "y": encoded(y),
        });
        let url = self.url();
        Ok(json!({
            "issuer": url, "jwks_uri": format!("{url}/keys"),
            "authorization_endpoint": format!("{url}/login"), "token_endpoint": format!("{url}/token"),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "keys": [key],
        }))
    }

    /// A token with these claims, beside those that every token has.
    pub(super) fn token(&self, claims: &Value) -> anyhow::Result<String> {
        let now = Timestamp::now().as_second();
        let mut all = json!({"iss": self.url(), "aud": AUDIENCE, "iat": now, "exp": now + 3600});
        for (claim, value) in claims.as_object().into_iter().flatten() {
            all[claim] = value.clone();
        }
        let head = json!({"alg": "ES256", "kid": "one", "typ": "JWT"});
        let said = [head, all].map(|part| encoded(part.to_string().as_bytes()));
        let said = said.join(".");
        let signature = fixed(&self.key.sign(said.as_bytes())?)?;
        Ok(format!("{said}.{}", encoded(&signature)))
    }
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A signature of ECDSA P-256 as tokens have it, two numbers of 32 bytes, from a sequence of two integers in DER.
fn fixed(der: &[u8]) -> anyhow::Result<[u8; 64]> {
    let mut signature = [0; 64];
    let mut rest = der.get(2..).context("a sequence is expected")?;
    for place in signature.chunks_exact_mut(32) {
        let [2, length, more @ ..] = rest else {
            anyhow::bail!("an integer is expected");
        };
        let (number, after) = more
            .split_at_checked(usize::from(*length))
            .context("the integer is cut off")?;
        // One whose first bit is set has a zero before it, and one that is small is shorter.
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        let from = place.len().checked_sub(number.len());
        place[from.context("the integer is too large")?..].copy_from_slice(number);
        rest = after;
    }
    Ok(signature)
}
