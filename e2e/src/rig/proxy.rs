//! The proxy as a process of this machine, outside of any cluster.

use super::{http, process::Process, server::free_ports};
use crate::settings;
use rustix::process::Signal;
use std::path::Path;

/// A proxy at work; it ends with its handle.
pub struct Proxy {
    /// Where tenants' API servers reach it, on 127.0.0.1.
    pub way_out: u16,
    /// Where clients of tenants reach it.
    pub front_door: u16,
    /// Where it tells of itself.
    page: u16,
    process: Process,
}

impl Proxy {
    /// Starts one for the cluster that `kubeconfig` leads to, with further flags, and waits until it is ready: then it knows
    /// its tenants and has a certificate.
    pub async fn start(folder: &Path, kubeconfig: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let file = folder.join("proxy.kubeconfig");
        std::fs::write(&file, kubeconfig)?;
        let [listen, front_door, way_out, dns] = free_ports()?;
        let ports = [
            ("listen", listen),
            ("front-door", front_door),
            ("way-out", way_out),
            ("dns", dns),
        ];
        let mut all: Vec<String> = ports
            .iter()
            .map(|(name, port)| format!("--{name}=127.0.0.1:{port}"))
            .collect();
        all.push(format!("--kubeconfig={}", file.display()));
        // Nobody is asked there.
        all.push("--dns-upstream=127.0.0.1:53".to_owned());
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let mut process = Process::start(folder, "proxy", &settings::proxy()?, &all)?;
        process.ready(listen).await?;
        Ok(Self {
            way_out,
            front_door,
            page: listen,
            process,
        })
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        http::get(self.page, "/readyz").await.is_ok()
    }

    /// Asks it to end, as is done with a pod.
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Kills it and gives all that it logged.
    pub fn into_log(self) -> anyhow::Result<String> {
        self.process.into_log()
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}
