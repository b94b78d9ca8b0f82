//! The tenant that the suite runs in.
//!
//! Some specs wait for periodic work of a control plane. So a tenant that is made for the suite has a class of its own,
//! which differs from the default one by short intervals; and where no pod has to run, by a quota that lets none run, since
//! a small machine takes minutes for the hundred pods that one of those specs makes only to delete them. Some specs about
//! pods reach for the node: there the tenant is trusted, which an admin says in two places.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Tier;
use crate::{binaries, cargo, paths, run};

/// The class of tenants whose pods run, as an example for other clusters.
const EXAMPLE: &str = "manifests/conformance.yaml";

/// A class that the suite's tenants have.
pub(crate) struct Class {
    name: &'static str,
    /// How many pods may run; none is counted when it is left out.
    pods: Option<u32>,
    /// Whether pods may reach for the node: its network, its files, its devices.
    trusted: bool,
}

/// The class of tenants whose pods run.
pub(crate) const PODS: Class = Class {
    name: "conformance",
    pods: None,
    trusted: true,
};
/// The class of tenants whose API alone is tested: CoreDNS runs, and what comes first.
const API: Class = Class {
    name: "conformance-api",
    pods: Some(3),
    trusted: false,
};

/// The class that the specs of a tier need.
pub(crate) fn class_for(tier: Tier) -> &'static Class {
    match tier {
        Tier::Api => &API,
        Tier::Pods | Tier::Services | Tier::Nodes => &PODS,
    }
}

/// Makes a tenant if it doesn't exist, and doesn't wait for it.
pub(crate) fn make(name: &str, class: &Class) -> Result<()> {
    let query = ["--ignore-not-found", "-o", "jsonpath={.spec.className}"];
    let known = run::output(
        kubectl()?
            .args(["get", "virtualcontrolplane", name])
            .args(query),
    )?;
    if known == API.name && class.name != API.name {
        bail!(
            "tenant {name} was made for tier T0 and lets next to no pod run: give --tenant another name, or delete it first"
        );
    }
    if known.is_empty() {
        apply(class)?;
        let how = ["--class", class.name, "--ephemeral-etcd", "--no-wait"];
        run::visibly(sublet()?.args(["create", name]).args(how))?;
    }
    if class.trusted {
        trust(name)?;
    }
    Ok(())
}

/// The tenant's kubeconfig, once it is ready.
pub(crate) fn kubeconfig(name: &str, folder: &Path) -> Result<PathBuf> {
    let ready = ["--for=condition=Ready", "--timeout=3m"];
    run::visibly(
        kubectl()?
            .args(["wait", "virtualcontrolplane", name])
            .args(ready),
    )?;
    let place = folder.join("kubeconfig");
    run::output(
        sublet()?
            .args(["kubeconfig", name, "--force", "-o"])
            .arg(&place),
    )?;
    let text = fs::read_to_string(&place).context("cannot read the tenant's kubeconfig")?;
    let (text, hosts) = by_name(&text);
    fs::write(&place, text).context("cannot write the tenant's kubeconfig")?;
    let machine = fs::read_to_string("/etc/hosts").unwrap_or_default();
    fs::write(hosts_file(folder), machine + &hosts).context("cannot write the suite's hosts")?;
    Ok(place)
}

/// The hosts file that the suite must see instead of the machine's.
pub(crate) fn hosts_file(folder: &Path) -> PathBuf {
    folder.join("hosts")
}

/// Replaces the address in a kubeconfig by the server's name, since the suite forgets `tls-server-name`; and the line
/// of a hosts file that leads there.
fn by_name(kubeconfig: &str) -> (String, String) {
    let value = |key: &str| {
        let mut values = kubeconfig
            .lines()
            .filter_map(|line| line.trim().strip_prefix(key));
        values.next().map(str::trim)
    };
    let server = value("server:").and_then(|url| url.strip_prefix("https://"));
    let parts = server.and_then(|server| server.rsplit_once(':'));
    let (Some((address, port)), Some(name)) = (parts, value("tls-server-name:")) else {
        return (kubeconfig.to_owned(), String::new());
    };
    let lines: Vec<String> = kubeconfig
        .lines()
        .filter(|line| !line.trim().starts_with("tls-server-name:"))
        .map(|line| line.replace(&format!("//{address}:{port}"), &format!("//{name}:{port}")))
        .collect();
    (lines.join("\n") + "\n", format!("\n{address} {name}\n"))
}

/// Removes tenants.
pub(crate) fn delete(names: &[&str]) -> Result<()> {
    run::output(sublet()?.arg("delete").args(names).arg("--yes")).map(drop)
}

fn apply(class: &Class) -> Result<()> {
    let text = run::output(kubectl()?.args(["get", "controlplaneclass", "default", "-o", "json"]))
        .context("the suite's class is made from the default one: `sublet install` first")?;
    let default: Value = serde_json::from_str(&text)?;
    // kubectl reads YAML; nothing is sent.
    let read = ["create", "--dry-run=client", "-o", "json", "-f"];
    let example = run::output(kubectl()?.args(read).arg(paths::repository().join(EXAMPLE)))?;
    let example: Value = serde_json::from_str(&example)?;
    let spec = spec(class, &default["spec"], &example["spec"]);
    let object = json!({
        "apiVersion": "sublet.dev/v1alpha1", "kind": "ControlPlaneClass",
        "metadata": {"name": class.name}, "spec": spec,
    });
    let file = paths::handout().join("conformance-class.json");
    fs::write(&file, object.to_string()).context("cannot write the class")?;
    run::output(kubectl()?.args(["apply", "-f"]).arg(&file)).map(drop)
}

/// The default class's spec, with what the example has for the suite.
fn spec(class: &Class, default: &Value, example: &Value) -> Value {
    let mut spec = default.clone();
    spec["intervals"] = example["intervals"].clone();
    if let Some(pods) = class.pods {
        spec["quota"]["pods"] = pods.to_string().into();
    }
    if class.trusted {
        spec["namespaces"] = example["namespaces"].clone();
        spec["podSecurity"] = example["podSecurity"].clone();
        spec["pods"]["rawSockets"] = example["pods"]["rawSockets"].clone();
        spec["podNetwork"]["nodeRanges"] = example["podNetwork"]["nodeRanges"].clone();
    }
    spec
}

/// Says to the admission policies that this tenant's pods may do what its class allows.
fn trust(name: &str) -> Result<()> {
    let vcp = [
        "get",
        "virtualcontrolplane",
        name,
        "-o",
        "jsonpath={.spec.identity} {.metadata.namespace}/{.metadata.name}",
    ];
    let found = run::output(kubectl()?.args(vcp))?;
    let (identity, holder) = found.trim().split_once(' ').unwrap_or_default();
    let patch = json!({"data": {identity: holder}}).to_string();
    let map = [
        "-n",
        "sublet-system",
        "patch",
        "configmap",
        "sublet-trusted-tenants",
    ];
    let patched = run::output(kubectl()?.args(map).args(["--type", "merge", "-p", &patch]));
    patched.map(drop)
}

/// `kubectl` of the super cluster's admin.
pub(crate) fn kubectl() -> Result<Command> {
    let mut command = run::command(binaries::path("kubectl")?, [] as [&str; 0]);
    command.env("KUBECONFIG", paths::kubeconfig());
    Ok(command)
}

fn sublet() -> Result<Command> {
    let mut command = run::command(cargo::build_cli()?, [] as [&str; 0]);
    command.env("KUBECONFIG", paths::kubeconfig());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::super_cluster::layout::NODE_NETWORK;

    fn class(file: &str) -> Value {
        let text = fs::read_to_string(paths::repository().join(file)).unwrap();
        serde_saphyr::from_str(&text).unwrap()
    }

    #[test]
    fn the_example_is_the_default_class_with_what_the_suite_needs() {
        let (default, example) = (class("manifests/class.yaml"), class(EXAMPLE));
        assert_eq!(example["metadata"]["name"], PODS.name);
        assert_eq!(
            spec(&PODS, &default["spec"], &example["spec"]),
            example["spec"]
        );
        assert_eq!(
            example["spec"]["podNetwork"]["nodeRanges"],
            json!([NODE_NETWORK])
        );
    }

    #[test]
    fn a_class_for_the_api_alone_lets_few_pods_run_and_trusts_nobody() {
        let (default, example) = (json!({"podSecurity": "baseline"}), class(EXAMPLE));
        assert_eq!(
            spec(&API, &default, &example["spec"]),
            json!({
                "podSecurity": "baseline", "quota": {"pods": "3"},
                "intervals": {"etcdCompaction": "30s", "resourceQuotaSync": "10s"},
            })
        );
    }

    #[test]
    fn the_suite_finds_the_front_door_by_name() {
        let kubeconfig = "clusters:\n- cluster:\n    server: https://10.0.0.1:31735\n    tls-server-name: x.tenants\n";
        let (text, hosts) = by_name(kubeconfig);
        assert_eq!(
            text,
            "clusters:\n- cluster:\n    server: https://x.tenants:31735\n"
        );
        assert_eq!(hosts, "\n10.0.0.1 x.tenants\n");
        let plain = "    server: https://example.com:443\n";
        assert_eq!(by_name(plain), (plain.to_owned(), String::new()));
    }
}
