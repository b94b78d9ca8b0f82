//! The processes of a tenant's control plane on this machine, by the part that they are.

use anyhow::{Context, ensure};
use e2e::{
    bench::{numbers, process::Processes},
    kind::POD,
    read::{label, name, uid},
    tenant::Tenant,
};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fs, time::Duration};

/// What a control plane is made of; the manager labels its pods so.
const PARTS: [&str; 3] = ["kube-apiserver", "etcd", "kube-controller-manager"];
/// The label.
const PART: &str = "app.kubernetes.io/name";
/// The process that holds a pod's namespaces: a node has it once, whoever made the pod.
const PAUSE: &str = "pause";

/// Processes by part.
pub(crate) struct Parts(BTreeMap<&'static str, Processes>);

impl Parts {
    /// Finds them.
    ///
    /// # Errors
    /// A part doesn't run, or not on this machine.
    pub(crate) async fn of(tenant: &Tenant) -> anyhow::Result<Self> {
        let namespace = tenant.control_plane_namespace();
        let pods = tenant.above.list(POD, &namespace, "").await?;
        let running = running()?;
        let mut parts = BTreeMap::new();
        for part in PARTS {
            let mut pids = vec![];
            for pod in pods.iter().filter(|pod| label(pod, PART) == Some(part)) {
                let own = running.iter().filter(|process| process.is_of(uid(pod)));
                let before = pids.len();
                pids.extend(own.map(|process| process.pid));
                ensure!(
                    pids.len() > before,
                    "{} has no process on this machine",
                    name(pod)
                );
            }
            ensure!(!pids.is_empty(), "the tenant has no pod of {part}");
            parts.insert(part, Processes::new(pids));
        }
        Ok(Self(parts))
    }

    /// CPU time that each has used.
    pub(crate) fn cpu(&self) -> anyhow::Result<BTreeMap<&'static str, Duration>> {
        let all = self.0.iter();
        all.map(|(part, processes)| Ok((*part, processes.cpu()?)))
            .collect()
    }

    /// The proportional share of memory of each, in MiB.
    pub(crate) fn pss(&self) -> anyhow::Result<Value> {
        let all = self.0.iter().map(|(part, processes)| {
            let pss = numbers::round(processes.pss()?);
            Ok(((*part).to_owned(), pss.into()))
        });
        Ok(Value::Object(all.collect::<anyhow::Result<Map<_, _>>>()?))
    }
}

/// A process of this machine.
struct Running {
    pid: u32,
    program: String,
    cgroups: String,
}

impl Running {
    /// Whether it is a program of this pod; either driver of cgroups has the pod's UID in their names.
    fn is_of(&self, pod: &str) -> bool {
        let names = [format!("pod{pod}"), format!("pod{}", pod.replace('-', "_"))];
        self.program != PAUSE && names.iter().any(|name| self.cgroups.contains(name))
    }
}

fn running() -> anyhow::Result<Vec<Running>> {
    let mut all = vec![];
    for entry in fs::read_dir("/proc")? {
        let folder = entry.context("reading /proc")?.path();
        let pid = folder
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        // It may end at any moment; what is asked for doesn't.
        let read = |file| fs::read_to_string(folder.join(file)).unwrap_or_default();
        if let Some(pid) = pid {
            let program = read("comm").trim().to_owned();
            let cgroups = read("cgroup");
            all.push(Running {
                pid,
                program,
                cgroups,
            });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_of_the_pod_that_its_cgroup_names() {
        let of = |program: &str, cgroups: &str| {
            let running = Running {
                pid: 1,
                program: program.into(),
                cgroups: cgroups.into(),
            };
            running.is_of("0f3a-77")
        };
        assert!(of(
            "etcd",
            "4:memory:/sublet-dev/node-1/kubepods/burstable/pod0f3a-77/c1\n"
        ));
        assert!(of(
            "etcd",
            "0::/kubepods.slice/kubepods-pod0f3a_77.slice/cri-c1.scope\n"
        ));
        assert!(!of("pause", "0::/kubepods/pod0f3a-77/c0\n"));
        assert!(!of("etcd", "0::/kubepods/pod0f3a-78/c1\n"));
    }

    #[test]
    fn this_process_is_found() {
        let own = std::process::id();
        assert!(running().unwrap().iter().any(|process| process.pid == own));
    }
}
