//! Kubeconfigs: written for users and the syncer, read by allow-list (T47).
//!
//! A kubeconfig may name programs to run, files to read, proxies and servers not to verify. One that comes from a Secret
//! is therefore read into [`Access`], which can hold none of that; a field that isn't on the list is refused, never
//! skipped. Only the current context is read. Error texts name fields and never values: the text holds keys.

use crate::closed;
use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// How to reach an API server, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// `https://HOST:PORT`.
    pub server: String,
    /// PEM of the authorities that may sign the server's certificate.
    pub ca: String,
    /// The name in the server's certificate, when it differs from the host.
    pub tls_server_name: Option<String>,
    /// Default namespace.
    pub namespace: Option<String>,
    /// As whom.
    pub credentials: Credentials,
}

/// Proof of who one is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
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

/// The kubeconfig can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It isn't YAML. The parser's own words may quote the text.
    #[error("it is no YAML")]
    Yaml,
    /// A part isn't there.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// It holds a field that isn't taken from a Secret, or one of another type than it must have.
    #[error(
        "it holds {0}, which isn't accepted from a Secret: only server, certificate-authority-data, tls-server-name, client-certificate-data, client-key-data and token are"
    )]
    Refused(String),
    /// The server's URL isn't https.
    #[error("its server {0:?} isn't an https URL")]
    Insecure(String),
    /// The server's address is none of an API server.
    #[error(
        "its server {0:?} has an address of the machine or the network itself, or none that is read alike everywhere"
    )]
    Nowhere(String),
    /// A value can't be decoded.
    #[error("its {0} isn't base64 of PEM")]
    Encoding(&'static str),
    /// Both kinds of credentials, or half of one.
    #[error("its user has neither a client certificate with its key nor a token alone")]
    Credentials,
    /// It could not be written as YAML.
    #[error("it can't be written as YAML")]
    Write,
}

const TOP: [&str; 7] = [
    "apiVersion",
    "kind",
    "preferences",
    "current-context",
    "clusters",
    "users",
    "contexts",
];
const CLUSTER: [&str; 3] = ["server", "certificate-authority-data", "tls-server-name"];
const USER: [&str; 3] = ["client-certificate-data", "client-key-data", "token"];
/// Says nothing about the connection.
const IGNORED: &str = "extensions";

impl Access {
    /// Reads the current context of a kubeconfig.
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        let config: Value = serde_saphyr::from_str(yaml).map_err(|_| Error::Yaml)?;
        let Value::Object(top) = &config else {
            return Err(Error::Missing("current context"));
        };
        if let Some(field) = top
            .keys()
            .find(|field| !TOP.contains(&field.as_str()) && *field != IGNORED)
        {
            return Err(Error::Refused(field.clone()));
        }
        let current = config["current-context"].as_str().unwrap_or_default();
        let context = entry(&config["contexts"], current, "context")
            .ok_or(Error::Missing("current context"))?;
        let named = |list: &str, key: &str| entry(&config[list], context[key].as_str()?, key);
        let cluster =
            named("clusters", "cluster").ok_or(Error::Missing("cluster for its context"))?;
        let user = named("users", "user").ok_or(Error::Missing("user for its context"))?;
        let mut cluster = allowed(cluster, &CLUSTER)?;
        let user = allowed(user, &USER)?;
        let server = cluster.remove("server").ok_or(Error::Missing("server"))?;
        if !server.starts_with("https://") {
            return Err(Error::Insecure(server));
        }
        if is_nowhere(&server) {
            return Err(Error::Nowhere(server));
        }
        let ca = cluster
            .remove("certificate-authority-data")
            .ok_or(Error::Missing("certificate-authority-data"))?;
        Ok(Self {
            server,
            ca: decode(&ca, "certificate-authority-data")?,
            tls_server_name: cluster.remove("tls-server-name"),
            namespace: context["namespace"].as_str().map(str::to_owned),
            credentials: Credentials::of(user)?,
        })
    }

    /// The kubeconfig as YAML, with one context.
    pub fn to_yaml(&self, context: &str, user: &str) -> Result<String, Error> {
        // Long values stay on their line, as in every kubeconfig.
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(&self.to_value(context, user), options)
            .map_err(|_| Error::Write)
    }

    /// The kubeconfig as JSON, with one context.
    pub fn to_value(&self, context: &str, user: &str) -> Value {
        let mut place = json!({"cluster": context, "user": user});
        if let Some(namespace) = &self.namespace {
            place["namespace"] = namespace.as_str().into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": self.cluster()}],
            "users": [{"name": user, "user": self.user()}],
            "contexts": [{"name": context, "context": place}],
            "current-context": context,
        })
    }

    /// The entry of a cluster.
    pub fn cluster(&self) -> Value {
        let mut cluster = json!({
            "server": self.server,
            "certificate-authority-data": BASE64.encode(self.ca.as_bytes()),
        });
        if let Some(name) = &self.tls_server_name {
            cluster["tls-server-name"] = json!(name);
        }
        cluster
    }

    /// The entry of a user.
    pub fn user(&self) -> Value {
        match &self.credentials {
            Credentials::Certificate { certificate, key } => json!({
                "client-certificate-data": BASE64.encode(certificate.as_bytes()),
                "client-key-data": BASE64.encode(key.as_bytes()),
            }),
            Credentials::Token(token) => json!({"token": token}),
        }
    }
}

impl Credentials {
    fn of(mut user: std::collections::BTreeMap<String, String>) -> Result<Self, Error> {
        let fields = USER.map(|field| user.remove(field));
        match fields {
            [Some(certificate), Some(key), None] => Ok(Self::Certificate {
                certificate: decode(&certificate, USER[0])?,
                key: decode(&key, USER[1])?,
            }),
            [None, None, Some(token)] => Ok(Self::Token(token)),
            _ => Err(Error::Credentials),
        }
    }
}

impl std::fmt::Debug for Access {
    /// Names the server only: the rest is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Whether an https URL leads by its address where no API server is: whoever writes a Secret mustn't ask from there what
/// clouds tell of a machine. A name isn't looked up; a number that isn't an address as
/// it is usually written is read as one all the same by some.
fn is_nowhere(server: &str) -> bool {
    let rest = server.strip_prefix("https://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default().trim_end_matches('.');
    match host.parse::<IpAddr>() {
        Ok(address) => closed::is_never(address),
        Err(_) => {
            let last = host.rsplit('.').next().unwrap_or_default();
            let is_number = last.starts_with(|first: char| first.is_ascii_digit());
            host.is_empty() || is_number || authority.contains('@')
        }
    }
}

/// The named entry of a list of clusters, users or contexts; the only one when no name is given.
fn entry<'a>(list: &'a Value, name: &str, key: &str) -> Option<&'a Value> {
    let list = list.as_array()?;
    let found = match list.as_slice() {
        [only] if name.is_empty() => only,
        _ => list.iter().find(|entry| entry["name"] == name)?,
    };
    found.get(key)
}

/// The texts of the allowed fields; another field may be there only when it says nothing.
fn allowed(
    value: &Value,
    fields: &[&'static str],
) -> Result<std::collections::BTreeMap<String, String>, Error> {
    let empty = Map::new();
    let map = match value {
        Value::Object(map) => map,
        Value::Null => &empty,
        _ => return Err(Error::Missing("fields")),
    };
    let mut kept = std::collections::BTreeMap::new();
    for (field, value) in map {
        let says_nothing = value.is_null() || *value == Value::Bool(false) || *value == "";
        match value {
            Value::String(text) if fields.contains(&field.as_str()) && !text.is_empty() => {
                kept.insert(field.clone(), text.clone());
            }
            _ if field == IGNORED || says_nothing => {}
            _ => return Err(Error::Refused(field.clone())),
        }
    }
    Ok(kept)
}

fn decode(encoded: &str, field: &'static str) -> Result<String, Error> {
    let bytes = BASE64.decode(encoded.trim().as_bytes()).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or(Error::Encoding(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access {
            server: "https://10.96.4.1:443".into(),
            ca: "authority".into(),
            tls_server_name: Some("kubernetes".into()),
            namespace: None,
            credentials: Credentials::Certificate {
                certificate: "certificate".into(),
                key: "hidden".into(),
            },
        }
    }

    #[test]
    fn t47_no_kubeconfig_leads_to_what_a_cloud_tells_of_a_machine() {
        let at = |server: &str| {
            let access = Access {
                server: server.into(),
                ..access()
            };
            Access::parse(&access.to_yaml("acme", "admin").unwrap()).is_ok()
        };
        for server in [
            "https://10.96.4.1:443",
            "https://127.0.0.1:6443",
            "https://[fd00::7]:6443/base",
            "https://api.example.com",
            "https://api.4you.example.com:6443",
        ] {
            assert!(at(server), "{server}");
        }
        for server in [
            "https://169.254.169.254",
            "https://169.254.169.254:443/latest",
            "https://[::ffff:169.254.169.254]/",
            "https://[fd00:ec2::254]",
            "https://[fe80::1]:6443",
            "https://0.0.0.0:6443",
            "https://168.63.129.16",
            "https://[64:ff9b::a9fe:a9fe]",
            "https://[2002:a9fe:a9fe::1]",
            "https://2852039166",
            "https://169.254.43518",
            "https://0xa9fea9fe",
            "https://user@10.96.4.1",
            "https://",
        ] {
            assert!(!at(server), "{server}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = access().to_yaml("acme", "admin").unwrap();
        assert!(
            text.contains("\n    certificate-authority-data: YXV0aG9yaXR5\n"),
            "{text}"
        );
        assert_eq!(Access::parse(&text), Ok(access()));
        let token = Access {
            credentials: Credentials::Token("t".into()),
            namespace: Some("work".into()),
            ..access()
        };
        let again = Access::parse(&token.to_yaml("acme", "admin").unwrap());
        assert_eq!(again, Ok(token));
    }

    #[test]
    fn t47_what_could_run_read_or_skip_is_refused_by_name_and_without_values() {
        let with = |path: &str, field: &str, value: Value| {
            let mut file = access().to_value("acme", "admin");
            file.pointer_mut(path).unwrap()[field] = value;
            Access::parse(&file.to_string()).unwrap_err()
        };
        let (cluster, user) = ("/clusters/0/cluster", "/users/0/user");
        for (path, field, value) in [
            (user, "exec", json!({"command": "sh"})),
            (user, "auth-provider", json!({"name": "gcp"})),
            (user, "client-certificate", json!("/etc/shadow")),
            (user, "client-key", json!("/etc/shadow")),
            (user, "tokenFile", json!("/etc/shadow")),
            (user, "as", json!("root")),
            (user, "as-groups", json!(["system:masters"])),
            (user, "username", json!("root")),
            (user, "password", json!("hidden")),
            (user, "a-field-of-the-future", json!("hidden")),
            (cluster, "insecure-skip-tls-verify", json!(true)),
            (cluster, "certificate-authority", json!("/etc/ssl/ca.pem")),
            (cluster, "proxy-url", json!("http://evil")),
            (cluster, "disable-compression", json!(true)),
            ("", "plugins", json!([])),
        ] {
            assert_eq!(with(path, field, value), Error::Refused(field.into()));
        }
        let wrong = with(user, "client-key-data", json!(["hidden"]));
        assert_eq!(wrong, Error::Refused("client-key-data".into()));
        let plain = with(cluster, "server", json!("http://plain"));
        assert_eq!(plain, Error::Insecure("http://plain".into()));
        assert_eq!(with(user, "token", json!("both")), Error::Credentials);
        let unverified = with(cluster, "certificate-authority-data", Value::Null);
        assert_eq!(unverified, Error::Missing("certificate-authority-data"));
        for text in ["\t", "[]", "", "{", "a: b"] {
            assert!(Access::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_says_nothing_is_no_reason_to_refuse() {
        let mut file = access().to_value("acme", "admin");
        file["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = false.into();
        file["clusters"][0]["cluster"]["extensions"] = json!([{"name": "x"}]);
        file["users"][0]["user"]["token"] = "".into();
        file["preferences"] = json!({});
        assert_eq!(Access::parse(&file.to_string()), Ok(access()));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let text = format!("{:?}", access());
        assert!(
            !text.contains("hidden") && text.contains("10.96.4.1"),
            "{text}"
        );
    }
}
