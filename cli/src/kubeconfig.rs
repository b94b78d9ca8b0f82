//! A tenant's kubeconfig: read from its Secret by allow-list, written under the tenant's own name.
//!
//! A kubeconfig can run programs, read files and turn off verification. The Secret of a tenant may have been written by
//! others, so only a server, a CA, a name and credentials are taken from it, and anything else is refused.

pub(crate) mod file;
pub(crate) mod merge;

pub(crate) use tenancy::kubeconfig::Access;

use serde_json::{Value, json};

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

/// A kubeconfig in which cluster, user and context are called `name`, and nothing else.
pub(crate) fn named(access: &Access, name: &str, mark: &Mark) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [cluster_entry(access, name, mark)],
        "users": [user_entry(access, name, mark)],
        "contexts": [context_entry(access, name, mark)],
    })
}

fn cluster_entry(access: &Access, name: &str, mark: &Mark) -> Value {
    json!({"name": name, "cluster": mark.put_on(access.cluster())})
}

fn user_entry(access: &Access, name: &str, mark: &Mark) -> Value {
    json!({"name": name, "user": mark.put_on(access.user())})
}

fn context_entry(access: &Access, name: &str, mark: &Mark) -> Value {
    let mut context = json!({"cluster": name, "user": name});
    if let Some(namespace) = &access.namespace {
        context["namespace"] = namespace.as_str().into();
    }
    json!({"name": name, "context": mark.put_on(context)})
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
        let config = named(&Access::parse(SECRET).unwrap(), "a", &mark("i"));
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
}
