//! The page of one tenant, from what was gathered.

use crate::{
    age,
    command::create::check,
    condition, error, event, lag, pod,
    quota::{self, Limit},
    style::Style,
    table::{Mood, Table},
};
use api::{Dns, External, ShownNodes, Sleep, SleepingWorkload, VirtualControlPlane, keys};
use k8s_openapi::{
    api::core::v1::{Event, Namespace, Pod},
    jiff::Timestamp,
};
use kube::ResourceExt;

/// What is shown; `None` is what may not be listed.
pub(super) struct Page {
    pub(super) vcp: VirtualControlPlane,
    /// The syncer that leads it.
    pub(super) leader: Option<String>,
    /// False when that one is known to be gone.
    pub(super) is_led: bool,
    pub(super) namespaces: Option<Vec<Namespace>>,
    pub(super) pods: Option<Vec<Pod>>,
    /// Names of the groups that it belongs to.
    pub(super) groups: Vec<String>,
    /// What it may use and uses.
    pub(super) limits: Vec<Limit>,
    pub(super) events: Vec<(&'static str, Event)>,
    /// The command line that wakes it.
    pub(super) wake: String,
    /// The command line that says how its way out is given.
    pub(super) attach_help: String,
}

impl Page {
    /// The page as text.
    pub(super) fn render(&self, style: Style, width: Option<usize>, now: Timestamp) -> String {
        let width = width.map(|width| width.saturating_sub(2));
        let section = |title: &str, table: &Table, none: &str| {
            let body = if table.is_empty() {
                format!("  {none}\n")
            } else {
                indent(&table.render(style, width))
            };
            format!("\n{}\n{body}", style.bold(title))
        };
        let status = self.vcp.status.clone().unwrap_or_default();
        let place = status
            .control_plane_namespace
            .map(|namespace| format!(" (namespace {namespace})"))
            .unwrap_or_default();
        [
            self.head(now).render(style, None),
            section(
                "Conditions",
                &self.conditions(now),
                "none yet: the manager hasn't taken it up",
            ),
            section(
                &format!("Control plane{place}"),
                &self.control_plane(now),
                hidden(self.pods.is_none(), "no pods yet"),
            ),
            section(
                "Namespaces in the super cluster",
                &self.places(now),
                hidden(self.namespaces.is_none(), "none"),
            ),
            if self.limits.is_empty() {
                String::new()
            } else {
                section("Quota", &quota::table(&self.limits, None), "")
            },
            section("Events", &event::table(&self.events, now), "none lately"),
        ]
        .concat()
    }

    /// What is said of it as a whole; a line without a value is left out.
    fn head(&self, now: Timestamp) -> Table {
        let mut table = Table::default();
        let lines = self.what_it_is(now).into_iter();
        for (key, value) in lines.chain(self.what_is_asked_of_it()) {
            if !value.is_empty() {
                table.row(vec![format!("{key}:"), value]);
            }
        }
        table
    }

    fn what_it_is(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let vcp = &self.vcp;
        let (spec, status) = (&vcp.spec, vcp.status.clone().unwrap_or_default());
        let message = status.message.map(|message| error::one_line(&message));
        let secret = status
            .kubeconfig_secret_ref
            .map(|secret| format!("Secret {}, key {}", secret.name, secret.key));
        vec![
            ("Name", vcp.name_any()),
            ("Namespace", vcp.namespace().unwrap_or_default()),
            ("Phase", condition::phase_word(vcp)),
            ("Message", message.unwrap_or_default()),
            (
                "Age",
                age::since(vcp.metadata.creation_timestamp.as_ref(), now),
            ),
            (
                "Version",
                version(status.version.as_deref(), spec.version.as_deref()),
            ),
            ("Endpoint", status.endpoint.unwrap_or_default()),
            ("Kubeconfig", secret.unwrap_or_default()),
            ("Class", spec.class_name.clone()),
            ("Groups", self.groups.join(", ")),
            ("Identity", spec.identity.clone().unwrap_or_default()),
            ("Syncer", self.leader.clone().unwrap_or_default()),
            ("Sync", lag::line(vcp, self.is_led, now).unwrap_or_default()),
        ]
    }

    fn what_is_asked_of_it(&self) -> Vec<(&'static str, String)> {
        let (vcp, spec) = (&self.vcp, &self.vcp.spec);
        let mut lines = vec![];
        if let Some(super_cluster) = &spec.super_cluster {
            let secret = &super_cluster.kubeconfig_secret_ref.name;
            let by = format!("by the kubeconfig in Secret {secret}");
            lines.push(("Super cluster", by));
        }
        match &spec.external {
            Some(external) => {
                let secret = &external.kubeconfig_secret_ref.name;
                lines.push(("External", format!("kubeconfig in Secret {secret}")));
                lines.push(("Way out", self.way_out(external)));
            }
            None => lines.push(("Control plane", parts(vcp))),
        }
        let dns = match spec.network.dns {
            Dns::Dedicated => "CoreDNS in the tenant",
            Dns::Shared => "Sublet's server for all tenants",
            Dns::None => "the tenant's own",
        };
        let security = spec.policy.pod_security;
        let selector = spec.policy.node_selector.iter();
        let selector: Vec<String> = selector
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let shown = match spec.sync.nodes {
            Some(ShownNodes::Used) => "those in use",
            Some(ShownNodes::Selected) | None => "",
        };
        let finalizers = match vcp.metadata.deletion_timestamp {
            Some(_) => vcp.finalizers().join(", "),
            None => String::new(),
        };
        lines.extend([
            (
                "Service range",
                spec.network.service_cidr.clone().unwrap_or_default(),
            ),
            ("DNS", format!("{dns}, {}", spec.network.cluster_domain)),
            (
                "Pod Security",
                security.map_or_else(String::new, |level| format!("{level:?}").to_lowercase()),
            ),
            ("Nodes", selector.join(",")),
            ("Node affinity", spec.policy.node_affinity.to_string()),
            ("Nodes shown", shown.to_owned()),
            ("Paused", if spec.paused { "yes" } else { "" }.to_owned()),
            ("Sleep", sleep(&spec.sleep, &self.wake)),
            ("Finalizers", finalizers),
        ]);
        lines
    }

    /// How an API server outside reaches the tenant's pods.
    fn way_out(&self, external: &External) -> String {
        let Some(way) = &external.way_out else {
            return format!(
                "none: logs, exec, attach, port-forward and top don't work in it; see `{}`",
                self.attach_help
            );
        };
        let (host, port, name) = (&way.host, way.port, self.vcp.name_any());
        format!("{host} port {port}, by the files in Secret {name}-way-out")
    }

    fn conditions(&self, now: Timestamp) -> Table {
        let mut table = Table::new(&["TYPE", "STATUS", "AGE", "REASON", "MESSAGE"]);
        for condition in condition::conditions(&self.vcp) {
            let mood = if condition::is_good(condition) {
                Mood::Good
            } else {
                Mood::Busy
            };
            let plain = |text: &str| (text.to_owned(), Mood::Plain);
            table.moody(vec![
                plain(&condition.type_),
                (condition.status.clone(), mood),
                plain(&age::since_text(&condition.last_transition_time, now)),
                plain(&condition.reason),
                plain(&error::one_line(&condition.message)),
            ]);
        }
        table
    }

    fn control_plane(&self, now: Timestamp) -> Table {
        let mut table = Table::new(&["POD", "READY", "STATE", "RESTARTS", "AGE", "NODE", "WHY"]);
        for pod in self.pods.iter().flatten() {
            let state = pod::state(pod);
            let plain = |text: String| (text, Mood::Plain);
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            table.moody(vec![
                plain(pod.name_any()),
                plain(pod::ready(pod)),
                (state.clone(), Mood::of(&state)),
                plain(pod::restarts(pod).to_string()),
                plain(age::since(pod.metadata.creation_timestamp.as_ref(), now)),
                plain(node.unwrap_or_else(|| "<none>".to_owned())),
                plain(pod::why(pod).unwrap_or_default()),
            ]);
        }
        table
    }

    fn places(&self, now: Timestamp) -> Table {
        let mut table = Table::new(&["NAMESPACE", "SUPER-NAMESPACE", "AGE"]);
        for namespace in self.namespaces.iter().flatten() {
            let theirs = namespace.annotations().get(keys::NAME).cloned();
            table.row(vec![
                theirs.unwrap_or_else(|| "<none>".to_owned()),
                namespace.name_any(),
                age::since(namespace.metadata.creation_timestamp.as_ref(), now),
            ]);
        }
        table
    }
}

fn version(runs: Option<&str>, asked: Option<&str>) -> String {
    match (runs, asked) {
        (Some(runs), Some(asked)) if !check::offers(runs.trim_start_matches('v'), asked) => {
            format!("{runs} ({asked} is asked for)")
        }
        (Some(runs), _) => runs.to_owned(),
        (None, Some(asked)) => format!("{asked} is asked for"),
        (None, None) => String::new(),
    }
}

fn parts(vcp: &VirtualControlPlane) -> String {
    let etcd = vcp.spec.etcd.clone().unwrap_or_default();
    let servers = vcp.spec.replicas.unwrap_or(1);
    let members = etcd.replicas.unwrap_or(1);
    let storage = match etcd.storage {
        Some(storage) if storage.ephemeral => "ephemeral".to_owned(),
        Some(storage) => storage.size,
        None => "the class's storage".to_owned(),
    };
    format!(
        "{servers} API server{}, {members} etcd member{} ({storage})",
        plural(servers),
        plural(members)
    )
}

/// When the control plane sleeps; nothing when it never does.
fn sleep(wish: &Sleep, wake: &str) -> String {
    let by_itself = wish.after_idle.as_ref();
    let wakes = if wish.wake_on_connection {
        "a connection wakes it".to_owned()
    } else {
        format!("only `{wake}` wakes it")
    };
    let pods = match wish.workload {
        SleepingWorkload::Keep => "",
        SleepingWorkload::Stop => "; its pods end first",
    };
    match (wish.asleep, by_itself) {
        (false, None) => String::new(),
        (true, None) => format!("yes; {wakes}{pods}"),
        (true, Some(idle)) => format!("yes; {wakes}, for {idle} after the last one{pods}"),
        (false, Some(idle)) => format!("after {idle} without a connection; {wakes}{pods}"),
    }
}

fn plural(count: i32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn hidden(hidden: bool, none: &'static str) -> &'static str {
    if hidden {
        "you may not list them"
    } else {
        none
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::style;
    use expect_test::expect;
    use serde_json::json;

    fn parse<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    /// A tenant that waits for its etcd.
    pub(in crate::command::describe) fn in_the_making() -> Page {
        Page {
            vcp: parse(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": "a", "namespace": "default", "creationTimestamp": "2025-01-01T00:00:00Z"},
                "spec": {"identity": "abcdefghijklmnopqrstuvwxyz", "etcd": {"storage": {"ephemeral": true}}},
                "status": {"phase": "Provisioning", "controlPlaneNamespace": "a-cp", "sync": {"observedTime": "2025-01-01T00:00:20Z"}, "conditions": [
                    {"type": "ControlPlaneReady", "status": "False", "reason": "Waiting", "message": "etcd-0 isn't ready",
                     "lastTransitionTime": "2025-01-01T00:00:10Z"}]},
            })),
            leader: Some("sublet-syncer-1".into()),
            is_led: true,
            namespaces: Some(vec![parse(
                json!({"metadata": {"name": "a-default-x", "annotations": {keys::NAME: "default"},
                                                     "creationTimestamp": "2025-01-01T00:00:20Z"}}),
            )]),
            pods: Some(vec![parse(
                json!({"metadata": {"name": "etcd-0", "creationTimestamp": "2025-01-01T00:00:05Z"},
                                         "spec": {"containers": [{"name": "etcd"}]},
                                         "status": {"phase": "Pending"}}),
            )]),
            groups: vec!["acme".into()],
            limits: vec![Limit {
                of: "the tenant".into(),
                name: "pods".into(),
                used: "3".into(),
                own: "3".into(),
                hard: "20".into(),
            }],
            events: vec![],
            wake: "sublet wake a".into(),
            attach_help: "sublet attach --help".into(),
        }
    }

    #[test]
    fn the_page_of_a_tenant_in_the_making() {
        let page = in_the_making();
        let now = "2025-01-01T00:00:30Z".parse().unwrap();
        expect![[r#"
            Name:            a
            Namespace:       default
            Phase:           Provisioning
            Age:             30s
            Class:           default
            Groups:          acme
            Identity:        abcdefghijklmnopqrstuvwxyz
            Syncer:          sublet-syncer-1
            Sync:            in step
            Control plane:   1 API server, 1 etcd member (ephemeral)
            DNS:             CoreDNS in the tenant, cluster.local

            Conditions
              TYPE                STATUS   AGE   REASON    MESSAGE
              ControlPlaneReady   False    20s   Waiting   etcd-0 isn't ready

            Control plane (namespace a-cp)
              POD      READY   STATE     RESTARTS   AGE   NODE     WHY
              etcd-0   0/1     Pending   0          25s   <none>

            Namespaces in the super cluster
              NAMESPACE   SUPER-NAMESPACE   AGE
              default     a-default-x       10s

            Quota
              LIMIT   SCOPE        USED   USED-HERE   HARD
              pods    the tenant   3      3           20

            Events
              none lately
        "#]]
        .assert_eq(&page.render(style::plain(), None, now));
    }

    #[test]
    fn versions_that_differ_are_both_named() {
        assert_eq!(version(Some("1.36.3"), Some("1.36")), "1.36.3");
        assert_eq!(
            version(Some("1.35.4"), Some("1.36")),
            "1.35.4 (1.36 is asked for)"
        );
        assert_eq!(
            version(Some("1.36.10"), Some("1.36.1")),
            "1.36.10 (1.36.1 is asked for)"
        );
        assert_eq!(version(None, Some("1.36")), "1.36 is asked for");
    }
}
