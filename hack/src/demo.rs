//! `cargo xtask demo`: from nothing to a tenant's pod that runs in the super cluster, told step by step.
//!
//! Each step shows the command that a person would type and what it answers.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::progress::seconds;
use crate::{binaries, images, needs, packages, paths, run, super_cluster};

/// The tenant that does something.
const BUSY: &str = "alpha";
/// The tenant that must see nothing of it.
const OTHER: &str = "beta";
/// What the first tenant's page says.
const GREETING: &str = "Hello from a tenant of its own API server";

/// What happens to the super cluster at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// It stays, for trying things.
    Keep,
    /// It is removed.
    Remove,
}

impl Afterwards {
    /// Who watches on a terminal wants to try things afterwards.
    pub(crate) fn by_default() -> Self {
        if io::stdout().is_terminal() {
            Self::Keep
        } else {
            Self::Remove
        }
    }
}

/// Runs the demo.
pub(crate) fn show(afterwards: Afterwards) -> Result<()> {
    let began = Instant::now();
    needs::to_build_and_run()?;
    packages::ensure_for_nodes()?;
    let sublet = Sublet::hand_out(images::all_and_cli()?)?;

    title("A real Kubernetes cluster: the super cluster");
    super_cluster::up(None, 0)?;
    let kubectl = Kubectl {
        kubeconfig: paths::kubeconfig(),
        name: "super",
    };
    kubectl.show(&["get", "nodes", "-o", "wide"])?;

    title("Sublet goes in, and two tenants");
    sublet.show(&["install", "--ephemeral-etcd"])?;
    let present = sublet.output(&["list", "-o", "name"])?;
    // The second is made in the background while the first one's birth is watched.
    for (tenant, how) in [(OTHER, "--no-wait"), (BUSY, "--wait")] {
        if !present
            .lines()
            .any(|line| line.rsplit('/').next() == Some(tenant))
        {
            sublet.show(&["create", tenant, how])?;
        }
    }
    sublet.show(&["list"])?;
    let alpha = sublet.tenant(BUSY)?;

    title("The first tenant works like on any cluster, with its own kubeconfig");
    let manifest = paths::handout().join("demo.json");
    fs::write(&manifest, serde_json::to_string_pretty(&workload())?)?;
    alpha.show(&["apply", "-f", &paths::typed(&manifest)])?;
    alpha.show(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    alpha.show(&[
        "wait",
        "pod/visitor",
        "--for=jsonpath={.status.phase}=Succeeded",
        "--timeout=60s",
    ])?;
    say!("\nThe pod `visitor` called http://web.default.svc.cluster.local and got:");
    let said = "jsonpath={.status.containerStatuses[0].state.terminated.message}";
    let answer = alpha.show(&["get", "pod", "visitor", "-o", said])?;
    if !answer.contains(GREETING) {
        bail!("the Service did not answer with the tenant's own page");
    }

    title("The same objects from both sides");
    alpha.show(&["get", "pods,services,configmaps", "-o", "wide"])?;
    let (namespace, pod) = super_pod(&kubectl)?;
    kubectl.show(&[
        "get",
        "pods,services,configmaps",
        "-n",
        &namespace,
        "-o",
        "wide",
    ])?;
    sublet.show(&["whose", &format!("pod/{namespace}/{pod}")])?;
    sublet.show(&["explain", BUSY, &format!("pod/default/{pod}")])?;

    title("The second tenant sees none of it");
    kubectl.show(&[
        "wait",
        &format!("vcp/{OTHER}"),
        "--for=condition=Ready",
        "--timeout=120s",
    ])?;
    let beta = sublet.tenant(OTHER)?;
    let seen = beta.show(&[
        "get",
        "deployments,services,configmaps,pods",
        "-n",
        "default",
    ])?;
    if seen.contains("web") || seen.contains("visitor") {
        bail!("the second tenant sees objects of the first");
    }

    say!("\nThe demo took {}.", seconds(began.elapsed()));
    match afterwards {
        Afterwards::Remove => super_cluster::down(),
        Afterwards::Keep => {
            what_next(&alpha);
            Ok(())
        }
    }
}

fn title(text: &str) {
    say!("\n\n== {text}");
}

/// Shows a command as a person would type it, runs it and shows its answer.
fn shown(line: &str, command: &mut Command) -> Result<String> {
    say!("\n$ {line}");
    let answer = run::output(command)?;
    say!("{}", answer.trim_end());
    Ok(answer)
}

/// kubectl as one cluster's user.
struct Kubectl {
    kubeconfig: PathBuf,
    name: &'static str,
}

impl Kubectl {
    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = run::command(binaries::path("kubectl")?, args);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .current_dir(paths::repository());
        Ok(command)
    }

    fn output(&self, args: &[&str]) -> Result<String> {
        run::output(&mut self.command(args)?)
    }

    fn show(&self, args: &[&str]) -> Result<String> {
        shown(
            &format!("[{}] kubectl {}", self.name, args.join(" ")),
            &mut self.command(args)?,
        )
    }
}

/// The `sublet` command line, against the super cluster.
struct Sublet {
    program: PathBuf,
}

impl Sublet {
    fn hand_out(program: PathBuf) -> Result<Self> {
        for name in ["sublet", "kubectl-sublet"] {
            binaries::link(name, &program)?;
        }
        Ok(Self { program })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = run::command(&self.program, args);
        command
            .env("KUBECONFIG", paths::kubeconfig())
            .current_dir(paths::repository());
        command
    }

    fn output(&self, args: &[&str]) -> Result<String> {
        run::output(&mut self.command(args))
    }

    fn show(&self, args: &[&str]) -> Result<String> {
        shown(
            &format!("[super] sublet {}", args.join(" ")),
            &mut self.command(args),
        )
    }

    /// Writes the tenant's kubeconfig and gives its kubectl.
    fn tenant(&self, name: &'static str) -> Result<Kubectl> {
        let kubeconfig = paths::handout().join(format!("{name}.kubeconfig"));
        self.show(&["kubeconfig", name, "-o", &paths::typed(&kubeconfig)])?;
        Ok(Kubectl { kubeconfig, name })
    }
}

/// What the tenant runs: a page, a Service in front of it, and a visitor.
fn workload() -> Value {
    let page = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "page"},
        "data": {"index.html": format!("{GREETING}\n")}});
    let labels = json!({"app": "web"});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
    "spec": {"replicas": 2, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "containers": [{"name": "nginx", "image": "nginx", "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 80}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
                "volumeMounts": [{"name": "page", "mountPath": "/usr/share/nginx/html"}]}],
            "volumes": [{"name": "page", "configMap": {"name": "page"}}],
        }}}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": labels, "ports": [{"port": 80}]}});
    // Its answer goes where `kubectl get` shows it.
    let visit = "until wget -q -T 2 -O /dev/termination-log http://web.default.svc.cluster.local; \
                 do sleep 0.2; done";
    let visitor = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "visitor"},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "wget", "image": "busybox",
            "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", visit]}]}});
    json!({"apiVersion": "v1", "kind": "List", "items": [page, deployment, service, visitor]})
}

/// One of the tenant's own pods as the super cluster has it: namespace and name.
fn super_pod(kubectl: &Kubectl) -> Result<(String, String)> {
    let identity = kubectl.output(&["get", "vcp", BUSY, "-o", "jsonpath={.spec.identity}"])?;
    let selector = format!("sublet.dev/tenant={identity},app=web");
    let pods = kubectl.output(&["get", "pods", "-A", "-l", &selector, "-o", "json"])?;
    let pods: Value = serde_json::from_str(&pods)?;
    let pod = &pods["items"][0]["metadata"];
    match (pod["namespace"].as_str(), pod["name"].as_str()) {
        (Some(namespace), Some(name)) => Ok((namespace.to_owned(), name.to_owned())),
        _ => bail!("the super cluster has no pod of {BUSY}"),
    }
}

fn what_next(alpha: &Kubectl) {
    say!("The super cluster stays up. Try next:\n");
    say!(
        "  export PATH={}:$PATH",
        paths::typed(&paths::handout().join("bin"))
    );
    say!("  export KUBECONFIG={}", paths::typed(&alpha.kubeconfig));
    say!("  kubectl create deployment more --image=nginx:1.28 --replicas=3");
    say!("  kubectl get pods -o wide --watch");
    say!("");
    say!("  export KUBECONFIG={}", paths::typed(&paths::kubeconfig()));
    say!("  sublet list");
    say!("  sublet explain {BUSY} pod/default/visitor");
    say!("  sublet connect {OTHER}");
    say!("");
    say!("  cargo xtask super down      removes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workload_is_complete() {
        let workload = workload();
        let kinds: Vec<&str> = workload["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["ConfigMap", "Deployment", "Service", "Pod"]);
    }
}
