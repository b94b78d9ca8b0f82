//! The manager as a process of this machine, outside of any cluster.

use super::{process::Process, server::free_ports};
use crate::{account::present, kind::SERVICE, settings, side::Side};
use api::keys;
use serde_json::json;
use std::path::{Path, PathBuf};

/// A manager that can be killed and started again.
pub struct Manager {
    folder: PathBuf,
    kubeconfig: PathBuf,
    port: u16,
    flags: Vec<String>,
    process: Option<Process>,
}

impl Manager {
    /// One that looks after the cluster that `kubeconfig` leads to, with further flags; it isn't started yet.
    pub fn new(folder: &Path, kubeconfig: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let file = folder.join("manager.kubeconfig");
        std::fs::write(&file, kubeconfig)?;
        let [port] = free_ports()?;
        Ok(Self {
            folder: folder.to_owned(),
            kubeconfig: file,
            port,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            process: None,
        })
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let mut flags = vec![
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--listen=127.0.0.1:{}", self.port),
        ];
        flags.extend(self.flags.clone());
        let process = Process::start(&self.folder, "manager", &settings::manager()?, &flags)?;
        self.process.insert(process).ready(self.port).await
    }

    /// Kills it, as a machine that loses power does.
    pub fn kill(&mut self) {
        // Dropping it kills it and waits for its end.
        drop(self.process.take());
    }

    /// All that it logged.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("manager.log"))?)
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.as_ref().map(Process::tail).unwrap_or_default()
    }
}

/// Puts the Services of the proxy there, which doesn't run: what the manager asks of it are its addresses.
pub async fn stand_in_for_the_proxy(side: &Side) -> anyhow::Result<()> {
    for (name, how) in [
        (keys::PROXY, "ClusterIP"),
        (keys::FRONT_DOOR, "LoadBalancer"),
    ] {
        let service = json!({
            "metadata": {"name": name, "namespace": api::SYSTEM_NAMESPACE},
            "spec": {"type": how, "ports": [{"port": 443}]},
        });
        present(side.create(SERVICE, service).await)?;
    }
    let address = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    side.merge_status(SERVICE, api::SYSTEM_NAMESPACE, keys::FRONT_DOOR, address)
        .await?;
    Ok(())
}
