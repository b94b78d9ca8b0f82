//! Kubeconfigs: written for users and the syncer, read by allow-list.
//!
//! A kubeconfig may name programs to run, files to read, proxies and servers not to verify. One that comes from a
//! Secret is therefore read into [`Access`], which can hold none of that; a field that isn't expected is refused, never
//! skipped.

use base64::{Engine, prelude::BASE64_STANDARD};
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// How to reach an API server, and as whom.
#[derive(Clone)]
pub(crate) struct Access {
    /// `https://HOST:PORT`.
    pub(crate) server: String,
    /// PEM of the authorities that may sign the server's certificate.
    pub(crate) ca: String,
    /// The name in the server's certificate, when it differs from the host.
    pub(crate) tls_server_name: Option<String>,
    /// As whom.
    pub(crate) credentials: Credentials,
}

/// Proof of who one is.
#[derive(Clone)]
pub(crate) enum Credentials {
    /// PEM of certificate and key.
    Certificate {
        /// The certificate.
        certificate: String,
        /// Its key.
        key: String,
    },
    /// A bearer token.
    Token(String),
}

/// A kubeconfig can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It could not be written as YAML.
    #[error("the kubeconfig can't be written as YAML")]
    Write,
    /// It isn't a kubeconfig, or says more than is allowed. The text names fields only, never values.
    #[error("the kubeconfig is refused: {0}")]
    Refused(String),
    /// No client came of it.
    #[error("no client can be made of the kubeconfig: {0}")]
    Client(String),
}

impl Access {
    /// The kubeconfig as YAML, with one context.
    pub(crate) fn to_yaml(&self, context: &str, user: &str) -> Result<String, Error> {
        // Long values stay on their line, as in every kubeconfig.
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(&self.to_value(context, user), options)
            .map_err(|_| Error::Write)
    }

    /// Reads `text` by allow-list: server, authorities, server name, and a certificate with key or a token.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let refused = |why: &str| Error::Refused(why.into());
        // The parser's own message may quote the text, which holds keys.
        let value: Value = serde_saphyr::from_str(text).map_err(|_| refused("it isn't YAML"))?;
        let file: File = serde_json::from_value(value)
            .map_err(|error| Error::Refused(field_of(&error.to_string())))?;
        let context = file
            .contexts
            .iter()
            .find(|named| named.name == file.current_context);
        let context = context.ok_or_else(|| refused("current-context names no context"))?;
        let cluster = file
            .clusters
            .into_iter()
            .find(|named| named.name == context.context.cluster);
        let cluster = cluster
            .ok_or_else(|| refused("the context's cluster is missing"))?
            .cluster;
        let user = file
            .users
            .into_iter()
            .find(|named| named.name == context.context.user);
        let user = user
            .ok_or_else(|| refused("the context's user is missing"))?
            .user;
        if !cluster.server.starts_with("https://") {
            return Err(refused("the server isn't an https:// URL"));
        }
        let credentials = match (
            user.client_certificate_data,
            user.client_key_data,
            user.token,
        ) {
            (Some(certificate), Some(key), None) => Credentials::Certificate {
                certificate: decode(&certificate, "client-certificate-data")?,
                key: decode(&key, "client-key-data")?,
            },
            (None, None, Some(token)) => Credentials::Token(token),
            _ => {
                return Err(refused(
                    "the user has neither a client certificate with its key nor a token alone",
                ));
            }
        };
        Ok(Self {
            server: cluster.server,
            ca: decode(
                &cluster.certificate_authority_data,
                "certificate-authority-data",
            )?,
            tls_server_name: cluster.tls_server_name,
            credentials,
        })
    }

    /// A client that gives up early: a dead API server must not hold a pass.
    pub(crate) async fn client(&self) -> Result<Client, Error> {
        let failed = |error: &dyn std::error::Error| Error::Client(error.to_string());
        let file: Kubeconfig =
            serde_json::from_value(self.to_value("tenant", "sublet")).map_err(|e| failed(&e))?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(|e| failed(&e))?;
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(2));
        config.read_timeout = Some(Duration::from_secs(5));
        Client::try_from(config).map_err(|e| failed(&e))
    }

    fn to_value(&self, context: &str, user: &str) -> Value {
        let mut cluster = json!({
            "server": self.server,
            "certificate-authority-data": BASE64_STANDARD.encode(&self.ca),
        });
        if let Some(name) = &self.tls_server_name {
            cluster["tls-server-name"] = json!(name);
        }
        let credentials = match &self.credentials {
            Credentials::Certificate { certificate, key } => json!({
                "client-certificate-data": BASE64_STANDARD.encode(certificate),
                "client-key-data": BASE64_STANDARD.encode(key),
            }),
            Credentials::Token(token) => json!({"token": token}),
        };
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
            "current-context": context,
        })
    }
}

/// What a kubeconfig from a Secret may hold; all else is refused.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    #[serde(rename = "preferences")]
    _preferences: Option<Nothing>,
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
    contexts: Vec<NamedContext>,
    current_context: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedCluster {
    name: String,
    cluster: FileCluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileCluster {
    server: String,
    certificate_authority_data: String,
    tls_server_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedUser {
    name: String,
    user: FileUser,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileUser {
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedContext {
    name: String,
    context: FileContext,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileContext {
    cluster: String,
    user: String,
    #[serde(rename = "namespace")]
    _namespace: Option<String>,
}

fn decode(encoded: &str, field: &str) -> Result<String, Error> {
    let bytes = BASE64_STANDARD.decode(encoded.trim()).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Error::Refused(format!("{field} isn't base64 of PEM")))
}

/// Keeps of a decoder's message what names a field; a message about a wrong type could quote a value.
fn field_of(message: &str) -> String {
    for (prefix, said) in [
        ("unknown field `", "it has the field"),
        ("missing field `", "it lacks the field"),
    ] {
        if let Some(field) = message
            .strip_prefix(prefix)
            .and_then(|rest| rest.split('`').next())
        {
            return format!(
                "{said} {field}; allowed are server, certificate-authority-data, tls-server-name, \
                 client-certificate-data, client-key-data and token"
            );
        }
    }
    "a field has the wrong type".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access {
            server: "https://10.96.4.1:443".into(),
            ca: "authority".into(),
            tls_server_name: Some("kubernetes".into()),
            credentials: Credentials::Certificate {
                certificate: "certificate".into(),
                key: "hidden".into(),
            },
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = access().to_yaml("acme", "admin").unwrap();
        assert!(
            text.contains("\n    certificate-authority-data: YXV0aG9yaXR5\n"),
            "{text}"
        );
        let again = Access::parse(&text).unwrap();
        assert_eq!(
            again.to_value("acme", "admin"),
            access().to_value("acme", "admin")
        );
        let token = Access {
            credentials: Credentials::Token("t".into()),
            ..access()
        };
        let again = Access::parse(&token.to_yaml("acme", "admin").unwrap()).unwrap();
        assert_eq!(again.to_value("a", "b"), token.to_value("a", "b"));
    }

    #[test]
    fn what_could_run_read_or_skip_is_refused_by_name_and_without_values() {
        let with = |path: &str, field: &str, value: Value| {
            let mut file = access().to_value("acme", "admin");
            file.pointer_mut(path).unwrap()[field] = value;
            Access::parse(&file.to_string())
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        for (path, field, value) in [
            ("/users/0/user", "exec", json!({"command": "sh"})),
            ("/users/0/user", "auth-provider", json!({"name": "gcp"})),
            ("/users/0/user", "client-key", json!("/etc/shadow")),
            ("/users/0/user", "tokenFile", json!("/etc/shadow")),
            ("/users/0/user", "as", json!("root")),
            ("/users/0/user", "username", json!("root")),
            (
                "/clusters/0/cluster",
                "insecure-skip-tls-verify",
                json!(true),
            ),
            (
                "/clusters/0/cluster",
                "certificate-authority",
                json!("/etc/ssl/ca.pem"),
            ),
            ("/clusters/0/cluster", "proxy-url", json!("http://evil")),
            ("/clusters/0/cluster", "extensions", json!([])),
        ] {
            let refusal = with(path, field, value);
            assert!(
                refusal.contains(&format!("the field {field};")),
                "{refusal}"
            );
        }
        let wrong = with("/users/0/user", "client-key-data", json!(["hidden"]));
        assert!(!wrong.contains("hidden"), "{wrong}");
        assert!(with("/clusters/0/cluster", "server", json!("http://plain")).contains("https"));
        assert!(with("/users/0/user", "token", json!("both")).contains("token alone"));
        assert!(Access::parse("\t").is_err());
        assert!(Access::parse("[]").is_err());
    }
}
