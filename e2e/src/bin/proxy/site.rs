//! Where a front door is measured: ways to tenants through it, a way around it, and the processes that serve it.

use crate::{connection::Way, local::Running};
use anyhow::{Context, ensure};
use e2e::{
    kind::{CONFIG_MAP, SERVICE},
    make,
    read::text,
    tenant::{A, B, Tenant},
};
use std::{fs, time::Duration};

/// The kernel counts CPU time in hundredths of a second on every architecture that Linux runs containers on.
const TICK: Duration = Duration::from_millis(10);

/// A front door and what is behind it.
pub(crate) struct Site {
    /// Ways to tenants by the front door, two at least: one tenant may not have all its connections.
    pub(crate) tenants: Vec<Way>,
    /// The way to the first tenant's API server itself.
    pub(crate) direct: Way,
    /// The proxy.
    pub(crate) proxies: Proxies,
    /// What was started for it, and ends with it.
    pub(crate) _running: Option<Running>,
}

/// All replicas of the proxy on this machine, or one that this program started.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proxies {
    All,
    Own(u32),
}

impl Site {
    /// The object that is read.
    pub(crate) const PATH: &str = "/api/v1/namespaces/default/configmaps/door";

    /// The running super cluster, with the tenants that the tests use.
    pub(crate) async fn cluster() -> anyhow::Result<Self> {
        let (a, b) = (A.get().await?, B.get().await?);
        let mut object = make::config_map("door", "a", "b");
        object["metadata"]["namespace"] = "default".into();
        for tenant in [a, b] {
            match tenant.side.create(CONFIG_MAP, object.clone()).await {
                Err(problem) if problem.code != 409 => return Err(problem.into()),
                _ => {}
            }
        }
        let tenants = vec![Way::of(&a.kubeconfig)?, Way::of(&b.kubeconfig)?];
        Ok(Self {
            direct: tenants[0].at(direct(a).await?),
            tenants,
            proxies: Proxies::All,
            _running: None,
        })
    }
}

/// `HOST:PORT` of the tenant's API servers.
async fn direct(tenant: &Tenant) -> anyhow::Result<String> {
    let namespace = tenant.control_plane_namespace();
    let service = tenant
        .above
        .get(SERVICE, &namespace, "kube-apiserver")
        .await?;
    let port = service["spec"]["ports"][0]["port"].as_u64();
    let port = port.context("the Service has a port")?;
    Ok(format!("{}:{port}", text(&service, "/spec/clusterIP")))
}

impl Proxies {
    /// Their memory (RSS) together, in MB.
    pub(crate) fn memory(self) -> anyhow::Result<f64> {
        // Of 1,024 bytes, whatever the kernel calls them.
        let mut kilobytes = 0;
        for pid in self.pids()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let number = line.and_then(|line| line.split_whitespace().next());
            kilobytes += number
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or_default();
        }
        ensure!(kilobytes > 0, "no proxy runs on this machine");
        Ok(kilobytes as f64 * 1024.0 / 1e6)
    }

    /// CPU time that they have used.
    pub(crate) fn cpu(self) -> anyhow::Result<Duration> {
        let mut ticks = 0;
        for pid in self.pids()? {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The name in parentheses may hold blanks; utime and stime are the 12th and 13th field behind it.
            let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
            let fields = behind.split_whitespace().skip(11).take(2);
            ticks += fields.filter_map(|n| n.parse::<u32>().ok()).sum::<u32>();
        }
        Ok(TICK * ticks)
    }

    fn pids(self) -> anyhow::Result<Vec<u32>> {
        if let Self::Own(pid) = self {
            return Ok(vec![pid]);
        }
        let mut pids = vec![];
        for entry in fs::read_dir("/proc")? {
            let folder = entry?.path();
            let comm = fs::read_to_string(folder.join("comm")).unwrap_or_default();
            let pid = folder
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            // The kernel keeps fifteen characters of a name.
            if let Some(pid) = pid
                && comm.trim() == &api::keys::PROXY[..15]
            {
                pids.push(pid);
            }
        }
        Ok(pids)
    }
}
