//! One API server with its etcd and, when asked for, the controllers that no API works without.

use super::{
    audit::Log,
    keys::{self, Authority},
    process::Process,
};
use crate::{
    settings,
    side::Side,
    wait::{PODS, eventually},
};
use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// The user of the admin's token.
const ADMIN: &str = "admin-token";
/// The syncer's token; in the super cluster it stands for the account that `manifests/install.yaml` gives its rights to.
const SYNCER: &str = "syncer-token";
/// The token of another syncer: the same account, and another UID, by which the audit log tells them apart.
const OTHER_SYNCER: &str = "other-syncer-token";
/// How often an API server is started again that ended before it was ready.
const MOST_STARTS: u32 = 5;
/// Controllers that the tests can't do without; all others are left out.
const CONTROLLERS: &str = "namespace-controller,serviceaccount-controller,\
                           root-ca-certificate-publisher-controller,garbage-collector-controller,\
                           persistentvolumeclaim-protection-controller";

/// What an API server of the rig is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For messages and files.
    pub name: String,
    /// Its Service range.
    pub services: String,
    /// Groups of the syncer's token.
    pub syncer_groups: &'static str,
    /// Whether a controller-manager runs beside it.
    pub controllers: bool,
    /// Its minor version; the super cluster's when left out.
    pub version: Option<&'static str>,
    /// Further flags of etcd.
    pub etcd_flags: Vec<String>,
    /// Further flags of the API server.
    pub flags: Vec<String>,
    /// What its audit log holds.
    pub audit: Audit,
}

/// What an API server writes down of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Writes of the syncer and all deletions, with their bodies.
    Writes,
    /// Nothing, which is faster.
    Nothing,
}

impl Plan {
    /// Name of a program of Kubernetes in its version.
    fn program(&self, name: &str) -> String {
        match self.version {
            Some(version) => format!("{name}-{version}"),
            None => name.to_owned(),
        }
    }
}

/// An API server that runs on this machine.
pub struct Server {
    plan: Plan,
    folder: PathBuf,
    etcd_port: u16,
    peer_port: u16,
    /// Its port on 127.0.0.1.
    pub port: u16,
    ca: String,
    etcd: Option<Process>,
    api: Option<Process>,
    controllers: Option<Process>,
    was_stopped: bool,
    audit_from: usize,
}

impl Server {
    /// Writes its files and starts it; [`Server::ready`] waits for it.
    pub fn start(folder: &Path, authority: &Authority, plan: Plan) -> anyhow::Result<Self> {
        let folder = folder.join(&plan.name);
        fs::create_dir(&folder)?;
        let pair = authority.server()?;
        fs::write(folder.join("server.crt"), pair.certificate)?;
        fs::write(folder.join("server.key"), pair.key)?;
        fs::write(folder.join("ca.crt"), &authority.certificate)?;
        keys::service_account_keys(&folder, "sa")?;
        let syncer = |token: &str, uid: u8| {
            format!(
                "{token},system:serviceaccount:{}:sublet-syncer,{uid},\"{}\"",
                api::SYSTEM_NAMESPACE,
                plan.syncer_groups
            )
        };
        let tokens = format!(
            "{ADMIN},admin,1,\"system:masters\"\n{}\n{}\n",
            syncer(SYNCER, 2),
            syncer(OTHER_SYNCER, 3)
        );
        fs::write(folder.join("tokens.csv"), tokens)?;
        fs::write(folder.join("audit.json"), audit_policy().to_string())?;
        let [etcd_port, peer_port, port] = free_ports()?;
        let mut server = Self {
            plan,
            folder,
            etcd_port,
            peer_port,
            port,
            ca: authority.certificate.clone(),
            etcd: None,
            api: None,
            controllers: None,
            was_stopped: false,
            audit_from: 0,
        };
        fs::write(
            server.folder.join("admin.kubeconfig"),
            server.kubeconfig(port, ADMIN),
        )?;
        server.start_etcd()?;
        server.start_api()?;
        Ok(server)
    }

    /// Starts etcd on the data that are there.
    pub fn start_etcd(&mut self) -> anyhow::Result<()> {
        let (client, peer) = (
            format!("http://127.0.0.1:{}", self.etcd_port),
            format!("http://127.0.0.1:{}", self.peer_port),
        );
        let mut flags = vec![
            flag("name", "rig"),
            flag("data-dir", &self.data().display().to_string()),
            flag("listen-client-urls", &client),
            flag("advertise-client-urls", &client),
            flag("listen-peer-urls", &peer),
            flag("initial-advertise-peer-urls", &peer),
            flag("initial-cluster", &format!("rig={peer}")),
            flag("unsafe-no-fsync", "true"),
            flag("log-level", "error"),
        ];
        flags.extend(self.plan.etcd_flags.clone());
        let program = settings::part("etcd")?;
        self.etcd = Some(Process::start(&self.folder, "etcd", &program, &flags)?);
        Ok(())
    }

    /// Starts the API server.
    pub fn start_api(&mut self) -> anyhow::Result<()> {
        let started = self.launch_api("kube-apiserver", self.port, self.etcd_port)?;
        self.api = Some(started);
        Ok(())
    }

    /// Starts another API server beside it, on the same data, which reaches etcd at a port of its own.
    pub fn start_another(&mut self, etcd_port: u16) -> anyhow::Result<Another> {
        // It leaves a Lease of its own behind.
        self.was_stopped = true;
        let [port] = free_ports()?;
        let process = self.launch_api("another-kube-apiserver", port, etcd_port)?;
        Ok(Another { port, process })
    }

    /// Ends the API server and starts it with further flags; of a flag that is there already the last one counts.
    pub fn restart_with(&mut self, flags: &[(&str, &str)]) -> anyhow::Result<()> {
        self.end_api(Signal::TERM)?;
        let further = flags.iter().map(|(name, value)| flag(name, value));
        self.plan.flags.extend(further);
        self.start_api()
    }

    /// Writes a file among its own, by whose name a flag may refer to it.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        // At once and whole: it may be read at any moment.
        let fresh = self.folder.join(format!("{name}.new"));
        fs::write(&fresh, text)?;
        Ok(fs::rename(fresh, self.folder.join(name))?)
    }

    /// From its next start it signs tokens of ServiceAccounts by another key, and knows those of the first one still.
    pub fn change_token_key(&mut self) -> anyhow::Result<()> {
        const NAME: &str = "next-sa";
        keys::service_account_keys(&self.folder, NAME)?;
        self.restart_with(&[
            ("service-account-key-file", &format!("{NAME}.pub")),
            ("service-account-signing-key-file", &format!("{NAME}.key")),
        ])
    }

    /// Where etcd listens.
    pub fn etcd_port(&self) -> u16 {
        self.etcd_port
    }

    fn launch_api(&self, log: &str, port: u16, etcd_port: u16) -> anyhow::Result<Process> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mut flags = vec![
            flag("etcd-servers", &format!("http://127.0.0.1:{etcd_port}")),
            flag("bind-address", "127.0.0.1"),
            flag("secure-port", &port.to_string()),
            flag("endpoint-reconciler-type", "none"),
            flag("tls-cert-file", &file("server.crt")),
            flag("tls-private-key-file", &file("server.key")),
            flag("token-auth-file", &file("tokens.csv")),
            flag("authorization-mode", "RBAC"),
            flag("service-cluster-ip-range", &self.plan.services),
            flag("service-account-issuer", "https://kubernetes.default.svc"),
            flag("service-account-key-file", &file("sa.pub")),
            flag("service-account-signing-key-file", &file("sa.key")),
            flag("enable-priority-and-fairness", "false"),
            flag("allow-privileged", "true"),
            flag("profiling", "false"),
        ];
        if self.plan.audit == Audit::Writes {
            flags.push(flag("audit-policy-file", &file("audit.json")));
            flags.push(flag("audit-log-path", &file("audit.log")));
        }
        flags.extend(self.plan.flags.clone());
        let program = settings::part(&self.plan.program("kube-apiserver"))?;
        Process::start(&self.folder, log, &program, &flags)
    }

    fn start_controllers(&mut self) -> anyhow::Result<()> {
        let started = self.launch_controllers("kube-controller-manager", CONTROLLERS)?;
        self.controllers = Some(started);
        Ok(())
    }

    /// Starts the controller without which no ResourceQuota holds; it ends with its handle.
    pub fn start_quota_controller(&self) -> anyhow::Result<Process> {
        self.launch_controllers("quota-controller", "resourcequota-controller")
    }

    fn launch_controllers(&self, log: &str, controllers: &str) -> anyhow::Result<Process> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let flags = [
            flag("kubeconfig", &file("admin.kubeconfig")),
            flag("controllers", controllers),
            flag("service-account-private-key-file", &file("sa.key")),
            flag("root-ca-file", &file("ca.crt")),
            flag("leader-elect", "false"),
            flag("bind-address", "127.0.0.1"),
            flag("secure-port", "0"),
            flag("kube-api-qps", "200"),
            flag("kube-api-burst", "400"),
        ];
        let program = settings::part(&self.plan.program("kube-controller-manager"))?;
        Process::start(&self.folder, log, &program, &flags)
    }

    /// Waits until it answers.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let side = self.side().await?;
        let what = format!("the API server {} answers", self.plan.name);
        let mut starts = 0;
        let answers = eventually(PODS, &what, async || {
            if let Some(api) = &mut self.api
                && api.has_ended()
                && starts < MOST_STARTS
            {
                // Its etcd may not have been there yet.
                starts += 1;
                self.start_api()?;
            }
            let text = side.text("/readyz").await?;
            anyhow::ensure!(text.trim() == "ok", "{text}");
            Ok(())
        })
        .await;
        answers.with_context(|| self.dump())?;
        // Earlier it would wait for an API server that isn't there, and in long steps.
        if self.plan.controllers && self.controllers.is_none() {
            self.start_controllers()?;
        }
        Ok(())
    }

    /// Its admin's client.
    pub async fn side(&self) -> anyhow::Result<Side> {
        Side::connect(&self.plan.name, &self.admin_kubeconfig()).await
    }

    /// Its admin's kubeconfig.
    pub fn admin_kubeconfig(&self) -> String {
        self.kubeconfig(self.port, ADMIN)
    }

    /// The same for what stands before the API server at another port.
    pub fn admin_kubeconfig_at(&self, port: u16) -> String {
        self.kubeconfig(port, ADMIN)
    }

    /// The syncer's kubeconfig, for the API server itself or for what stands before it at another port.
    pub fn syncer_kubeconfig(&self, port: u16) -> String {
        self.kubeconfig(port, SYNCER)
    }

    /// Another syncer's.
    pub fn other_syncer_kubeconfig(&self, port: u16) -> String {
        self.kubeconfig(port, OTHER_SYNCER)
    }

    /// The admin's, for another API server beside this one.
    pub fn admin_kubeconfig_of(&self, another: &Another) -> String {
        self.kubeconfig(another.port, ADMIN)
    }

    fn kubeconfig(&self, port: u16, token: &str) -> String {
        kubeconfig(port, &self.ca, json!({}), json!({"token": token}))
    }

    /// For messages.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Kills the API server and starts it with further flags; returns when it answers. Asked to end, it would keep its
    /// watches for a minute.
    pub async fn start_anew_with(&mut self, flags: Vec<String>) -> anyhow::Result<()> {
        self.plan.flags.extend(flags);
        self.end_api(Signal::KILL)?;
        self.start_api()?;
        self.ready().await
    }

    /// The audit log: writes of the syncer and all deletions, with their bodies.
    pub fn audit_log(&self) -> Log {
        Log {
            path: self.folder.join("audit.log"),
            from: self.audit_from,
        }
    }

    /// What the audit log holds so far belongs to nobody any more.
    pub fn forget_audit(&mut self) {
        let file = fs::metadata(self.audit_log().path);
        self.audit_from = file.map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX));
    }

    /// Whether it has ever been ended, by a test or by itself.
    pub fn was_stopped(&mut self) -> bool {
        let all = [&mut self.etcd, &mut self.api, &mut self.controllers];
        self.was_stopped || all.into_iter().flatten().any(Process::has_ended)
    }

    /// The API server's process.
    pub fn api(&self) -> anyhow::Result<&Process> {
        self.api.as_ref().context("the API server doesn't run")
    }

    /// The process IDs of all that runs of it.
    pub fn pids(&self) -> Vec<Pid> {
        let all = [&self.etcd, &self.api, &self.controllers];
        all.into_iter().flatten().map(Process::pid).collect()
    }

    /// Ends the API server by a signal.
    pub fn end_api(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.was_stopped = true;
        match self.api.take() {
            Some(mut api) => api.end(signal),
            None => Ok(()),
        }
    }

    /// Ends API server and etcd, forgets all data and starts both anew.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        self.swap(|data| Ok(fs::remove_dir_all(data)?))
    }

    /// Copies etcd's data away, as a backup does that stops etcd.
    pub fn back_up(&mut self, copy: &Path) -> anyhow::Result<()> {
        self.swap(|data| copy_folder(data, copy))
    }

    /// Puts a copy of etcd's data in the place of what is there.
    pub fn restore(&mut self, copy: &Path) -> anyhow::Result<()> {
        self.swap(|data| {
            fs::remove_dir_all(data)?;
            copy_folder(copy, data)
        })
    }

    fn swap(&mut self, change: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
        // Controllers would go on from versions that don't exist any more; they start again with the API server.
        drop(self.controllers.take());
        self.end_api(Signal::KILL)?;
        if let Some(mut etcd) = self.etcd.take() {
            etcd.end(Signal::TERM)?;
        }
        change(&self.data())?;
        self.start_etcd()?;
        self.start_api()
    }

    /// Forgets all revisions of etcd before the present one.
    pub async fn compact(&self) -> anyhow::Result<()> {
        let head = self.etcd_call("kv/range", &json!({"key": "AA=="})).await?;
        let revision = head["header"]["revision"]
            .as_str()
            .context("etcd tells no revision")?;
        self.etcd_call(
            "kv/compaction",
            &json!({"revision": revision, "physical": true}),
        )
        .await?;
        Ok(())
    }

    /// Whether etcd raised an alarm: that it is full.
    pub async fn is_full(&self) -> anyhow::Result<bool> {
        let answer = self
            .etcd_call("maintenance/alarm", &json!({"action": "GET"}))
            .await?;
        Ok(answer["alarms"]
            .as_array()
            .is_some_and(|alarms| !alarms.is_empty()))
    }

    /// Does what an operator does to an etcd that was full, once there is less in it.
    pub async fn make_room(&self) -> anyhow::Result<()> {
        self.compact().await?;
        self.etcd_call("maintenance/defragment", &json!({})).await?;
        let answer = self
            .etcd_call("maintenance/alarm", &json!({"action": "GET"}))
            .await?;
        for alarm in answer["alarms"].as_array().into_iter().flatten() {
            let mut disarm = alarm.clone();
            disarm["action"] = "DEACTIVATE".into();
            self.etcd_call("maintenance/alarm", &disarm).await?;
        }
        Ok(())
    }

    async fn etcd_call(&self, what: &str, body: &Value) -> anyhow::Result<Value> {
        let text =
            super::http::post(self.etcd_port, &format!("/v3/{what}"), &body.to_string()).await?;
        serde_json::from_str(&text).with_context(|| format!("etcd answers {text}"))
    }

    fn data(&self) -> PathBuf {
        self.folder.join("etcd-data")
    }

    /// The ends of the logs.
    pub fn dump(&self) -> String {
        let all = [&self.etcd, &self.api, &self.controllers];
        let tails: Vec<String> = all.into_iter().flatten().map(Process::tail).collect();
        format!("{}:\n{}", self.plan.name, tails.join("\n"))
    }
}

/// An API server beside another one, on the same data; it ends with its handle.
pub struct Another {
    /// Its port on 127.0.0.1.
    pub port: u16,
    process: Process,
}

impl Another {
    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

/// A kubeconfig for a port of this machine, whose server `authority` proves; what else is to be said of cluster and user.
pub fn kubeconfig(port: u16, authority: &str, cluster: Value, user: Value) -> String {
    let mut described = json!({
        "server": format!("https://127.0.0.1:{port}"),
        "certificate-authority-data": BASE64_STANDARD.encode(authority),
    });
    json_patch::merge(&mut described, &cluster);
    // JSON is YAML, so this is a kubeconfig like any other.
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "rig",
        "clusters": [{"name": "rig", "cluster": described}],
        "users": [{"name": "rig", "user": user}],
        "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "rig"}}],
    })
    .to_string()
}

/// Ports that nobody has just now, and that this process gives to nobody else.
///
/// They lie below those that the system gives to outgoing connections, any of which could take a port before the program
/// that it is meant for listens; and below the node ports.
pub fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    /// Where they begin, and how many there are.
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 18_000;
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(rand::random()));
    let mut ports = [0; N];
    for port in &mut ports {
        let free = (0..COUNT).find_map(|_| {
            let place = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let tried = u16::try_from(FIRST + place).ok()?;
            TcpListener::bind(("127.0.0.1", tried)).ok().map(|_| tried)
        });
        *port = free.context("no port is free")?;
    }
    Ok(ports)
}

fn flag(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}

fn audit_policy() -> Value {
    let syncer = json!({"level": "RequestResponse",
        "users": [format!("system:serviceaccount:{}:sublet-syncer", api::SYSTEM_NAMESPACE)],
        "verbs": ["create", "update", "patch", "delete", "deletecollection"]});
    let deletions = json!({"level": "RequestResponse", "verbs": ["delete", "deletecollection"]});
    json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [syncer, deletions, {"level": "None"}]})
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
