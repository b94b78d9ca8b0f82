//! The proxy as a process of this machine, outside of any cluster.

use super::{http, process::Process, server::free_ports};
use crate::{
    settings,
    wait::{SOON, eventually},
};
use anyhow::Context;
use std::path::Path;

/// A proxy at work; it ends with its handle.
pub struct Proxy {
    folder: std::path::PathBuf,
    /// Where tenants' API servers reach it, on 127.0.0.1.
    pub way_out: u16,
    process: Option<Process>,
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
        let process = Process::start(folder, "proxy", &settings::proxy()?, &all)?;
        let mut proxy = Self {
            folder: folder.to_owned(),
            way_out,
            process: Some(process),
        };
        let ready = eventually(SOON, "the proxy is ready", async || {
            if let Some(process) = &mut proxy.process {
                process.check()?;
            }
            http::get(listen, "/readyz").await
        });
        ready.await.map(drop).with_context(|| proxy.tail())?;
        Ok(proxy)
    }

    /// Kills it, so that its log is complete.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// All that it logged.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("proxy.log"))?)
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.as_ref().map(Process::tail).unwrap_or_default()
    }
}
