//! A tenant's kubeconfig: read from its Secret by allow-list, written under the tenant's own name.
//!
//! A kubeconfig can run programs, read files and turn off verification. The Secret of a tenant may have been written by
//! others, so only a server, a CA, a name and credentials are taken from it, and anything else is refused.

pub(crate) mod file;
pub(crate) mod merge;

use serde_json::{Value, json};

/// How a tenant's API server is reached.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Access {
    /// `https://HOST:PORT`.
    pub(crate) server: String,
    /// Default namespace.
    pub(crate) namespace: Option<String>,
    cluster: Value,
    user: Value,
}

/// Marks the entries that Sublet wrote into a person's kubeconfig, so that it never takes another's for its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// `NAMESPACE/NAME` of the VirtualControlPlane.
    pub(crate) control_plane: String,
    /// Identity of the tenant.
    pub(crate) identity: String,
    /// URL of the super cluster.
    pub(crate) super_cluster: String,
}

/// The kubeconfig can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    /// It isn't YAML. The parser's own words may quote the text, which holds keys.
    #[error("it is no YAML")]
    Yaml,
    /// A part isn't there.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// It holds a field that isn't taken from a Secret.
    #[error(
        "it holds {0}, which isn't accepted from a Secret: only server, certificate-authority-data, tls-server-name, client-certificate-data, client-key-data and token are"
    )]
    Refused(String),
    /// The server's URL isn't https.
    #[error("its server {0:?} isn't an https URL")]
    Insecure(String),
}

const CLUSTER: [&str; 3] = ["server", "certificate-authority-data", "tls-server-name"];
const USER: [&str; 3] = ["client-certificate-data", "client-key-data", "token"];
/// Says nothing about the connection.
const IGNORED: &str = "extensions";

impl Access {
    /// Reads the current context of a kubeconfig.
    pub(crate) fn parse(yaml: &str) -> Result<Self, Error> {
        let config: Value = serde_saphyr::from_str(yaml).map_err(|_| Error::Yaml)?;
        let current = config["current-context"].as_str().unwrap_or_default();
        let context = entry(&config["contexts"], current, "context")
            .ok_or(Error::Missing("current context"))?;
        let named =
            |list: &str, key: &str| entry(&config[list], context[key].as_str()?, key).cloned();
        let cluster =
            named("clusters", "cluster").ok_or(Error::Missing("cluster for its context"))?;
        let user = named("users", "user").ok_or(Error::Missing("user for its context"))?;
        let cluster = allowed(cluster, &CLUSTER)?;
        let user = allowed(user, &USER)?;
        let server = cluster["server"]
            .as_str()
            .ok_or(Error::Missing("server"))?
            .to_owned();
        if !server.starts_with("https://") {
            return Err(Error::Insecure(server));
        }
        let namespace = context["namespace"].as_str().map(str::to_owned);
        Ok(Self {
            server,
            namespace,
            cluster,
            user,
        })
    }

    /// A kubeconfig in which cluster, user and context are called `name`, and nothing else.
    pub(crate) fn kubeconfig(&self, name: &str, mark: &Mark) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [self.cluster_entry(name, mark)],
            "users": [self.user_entry(name, mark)],
            "contexts": [self.context_entry(name, mark)],
        })
    }

    fn cluster_entry(&self, name: &str, mark: &Mark) -> Value {
        json!({"name": name, "cluster": mark.put_on(self.cluster.clone())})
    }

    fn user_entry(&self, name: &str, mark: &Mark) -> Value {
        json!({"name": name, "user": mark.put_on(self.user.clone())})
    }

    fn context_entry(&self, name: &str, mark: &Mark) -> Value {
        let mut context = json!({"cluster": name, "user": name});
        if let Some(namespace) = &self.namespace {
            context["namespace"] = namespace.as_str().into();
        }
        json!({"name": name, "context": mark.put_on(context)})
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

impl Mark {
    const NAME: &str = "sublet.dev";

    fn put_on(&self, mut entry: Value) -> Value {
        let extension = json!({
            "controlPlane": self.control_plane, "identity": self.identity, "superCluster": self.super_cluster,
        });
        entry["extensions"] = json!([{"name": Self::NAME, "extension": extension}]);
        entry
    }

    /// The mark on a cluster, user or context.
    fn of(entry: &Value) -> Option<Self> {
        let extensions = entry["extensions"].as_array()?;
        let extension = &extensions
            .iter()
            .find(|extension| extension["name"] == Self::NAME)?["extension"];
        let text = |key: &str| extension[key].as_str().unwrap_or_default().to_owned();
        Some(Self {
            control_plane: text("controlPlane"),
            identity: text("identity"),
            super_cluster: text("superCluster"),
        })
    }

    /// Whether both name the same tenant, or one that was made anew under the same name in the same super cluster.
    fn same_tenant(&self, other: &Self) -> bool {
        self.identity == other.identity
            || (self.control_plane == other.control_plane
                && self.super_cluster == other.super_cluster)
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

fn allowed(value: Value, fields: &[&str]) -> Result<Value, Error> {
    let Value::Object(map) = value else {
        return Err(Error::Missing("fields"));
    };
    let mut kept = serde_json::Map::new();
    for (key, value) in map {
        if fields.contains(&key.as_str()) && value.is_string() {
            kept.insert(key, value);
        } else if key != IGNORED && !value.is_null() && value != Value::Bool(false) && value != "" {
            return Err(Error::Refused(key));
        }
    }
    Ok(Value::Object(kept))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SECRET: &str = "
apiVersion: v1
kind: Config
current-context: admin@t
clusters:
- name: t
  cluster: {server: 'https://10.0.0.1:30001', certificate-authority-data: Q0E=, tls-server-name: kubernetes}
users:
- name: admin
  user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}
contexts:
- name: admin@t
  context: {cluster: t, user: admin, namespace: default}
";

    pub(crate) fn mark(identity: &str) -> Mark {
        Mark {
            control_plane: "default/a".into(),
            identity: identity.into(),
            super_cluster: "https://super".into(),
        }
    }

    #[test]
    fn a_plain_kubeconfig_is_taken_under_the_tenants_name() {
        let config = Access::parse(SECRET).unwrap().kubeconfig("a", &mark("i"));
        assert_eq!(config["current-context"], "a");
        assert_eq!(
            config["clusters"][0]["cluster"]["server"],
            "https://10.0.0.1:30001"
        );
        assert_eq!(
            config["clusters"][0]["cluster"]["tls-server-name"],
            "kubernetes"
        );
        assert_eq!(config["users"][0]["user"]["client-key-data"], "S0VZ");
        assert_eq!(config["contexts"][0]["context"]["namespace"], "default");
        assert_eq!(Mark::of(&config["contexts"][0]["context"]), Some(mark("i")));
    }

    #[test]
    fn what_could_do_harm_is_refused() {
        let with = |from: &str, to: &str| Access::parse(&SECRET.replace(from, to)).unwrap_err();
        let refused = |field: &str| Error::Refused(field.to_owned());
        assert_eq!(
            with("client-key-data: S0VZ", "exec: {command: sh}"),
            refused("exec")
        );
        assert_eq!(
            with("client-key-data: S0VZ", "client-key: /etc/x"),
            refused("client-key")
        );
        assert_eq!(
            with("client-key-data: S0VZ", "token: {a: b}"),
            refused("token")
        );
        assert_eq!(
            with("tls-server-name: kubernetes", "proxy-url: 'http://x'"),
            refused("proxy-url")
        );
        assert_eq!(
            with(
                "tls-server-name: kubernetes",
                "insecure-skip-tls-verify: true"
            ),
            refused("insecure-skip-tls-verify")
        );
        assert_eq!(
            with("https://10", "http://10"),
            Error::Insecure("http://10.0.0.1:30001".into())
        );
    }

    #[test]
    fn missing_parts_are_named() {
        assert_eq!(
            Access::parse("a: b").unwrap_err(),
            Error::Missing("current context")
        );
        assert_eq!(
            Access::parse(&SECRET.replace("name: admin\n", "name: b\n")).unwrap_err(),
            Error::Missing("user for its context")
        );
        assert_eq!(Access::parse("{").unwrap_err(), Error::Yaml);
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let text = format!("{:?}", Access::parse(SECRET).unwrap());
        assert!(
            !text.contains("S0VZ") && text.contains("10.0.0.1"),
            "{text}"
        );
    }
}
