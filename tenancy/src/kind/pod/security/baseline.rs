//! The level `baseline`: what would give a pod known ways out of its containers.

use super::{
    Check, Violation, containers_where, context, named, plural, quoted, setters, violation,
};
use crate::kind::pod::fields::{is_true, items, text};
use serde_json::Value;
use std::collections::BTreeSet;

/// Checks that hold at `restricted` too.
pub(super) const SHARED: &[Check] = &[
    app_armor,
    host_namespaces,
    host_ports,
    probe_hosts,
    privileged,
    se_linux,
    sysctls,
    windows_host_process,
];

/// Checks that `restricted` replaces by stricter ones.
pub(super) const REPLACED: &[Check] = &[
    capabilities,
    host_path,
    proc_mount_in_host_user_namespace,
    seccomp,
];

fn app_armor(spec: &Value) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let setters = bad_profiles(spec, "/appArmorProfile", &mut values)?;
    let reason = plural("forbidden AppArmor profile", values.len());
    violation(
        &reason,
        Some(format!(
            "{setters} must not set AppArmor profile type to {}",
            quoted(&values)
        )),
    )
}

pub(super) fn seccomp(spec: &Value) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let setters = bad_profiles(spec, "/seccompProfile", &mut values)?;
    let detail = format!(
        "{setters} must not set securityContext.seccompProfile.type to {}",
        quoted(&values)
    );
    violation("seccompProfile", Some(detail))
}

/// Who sets a profile whose type isn't allowed; the types go to `values`.
fn bad_profiles(spec: &Value, at: &str, values: &mut BTreeSet<String>) -> Option<String> {
    let mut bad = |holder: &Value| {
        let kind = context(holder, at).map(|profile| text(profile, "type"));
        let kind = kind.filter(|kind| !["RuntimeDefault", "Localhost"].contains(kind));
        values.extend(kind.map(str::to_owned));
        kind.is_some()
    };
    let pod = bad(spec);
    setters(pod, &containers_where(spec, bad))
}

fn capabilities(spec: &Value) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let mut bad = BTreeSet::new();
    let containers = containers_adding_other_than(&ALLOWED, spec, &mut bad);
    let detail = format!(
        "{} must not include {} in securityContext.capabilities.add",
        named("container", &containers),
        quoted(&bad)
    );
    violation(
        "non-default capabilities",
        (!containers.is_empty()).then_some(detail),
    )
}

/// Names of containers that add a capability that isn't allowed; the capabilities go to `bad`.
pub(super) fn containers_adding_other_than<'a>(
    allowed: &[&str],
    spec: &'a Value,
    bad: &mut BTreeSet<String>,
) -> Vec<&'a str> {
    containers_where(spec, |container| {
        let capabilities = context(container, "/capabilities").unwrap_or(&Value::Null);
        let names = items(capabilities, "add")
            .filter_map(Value::as_str)
            .filter(|name| !allowed.contains(name));
        let added: Vec<String> = names.map(str::to_owned).collect();
        let any = !added.is_empty();
        bad.extend(added);
        any
    })
}

fn host_namespaces(spec: &Value) -> Option<Violation> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| is_true(spec, field))
        .map(|field| format!("{field}=true"))
        .collect();
    violation("host namespaces", (!set.is_empty()).then(|| set.join(", ")))
}

fn host_path(spec: &Value) -> Option<Violation> {
    let volumes: Vec<&str> = items(spec, "volumes")
        .filter(|volume| volume.get("hostPath").is_some())
        .map(|volume| text(volume, "name"))
        .collect();
    violation(
        "hostPath volumes",
        (!volumes.is_empty()).then(|| named("volume", &volumes)),
    )
}

fn host_ports(spec: &Value) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let containers = containers_where(spec, |container| {
        let bad: Vec<String> = items(container, "ports")
            .filter_map(|port| port.get("hostPort"))
            .filter(|port| port.as_i64() != Some(0))
            .map(Value::to_string)
            .collect();
        let any = !bad.is_empty();
        ports.extend(bad);
        any
    });
    let detail = format!(
        "{} {} {} {}",
        named("container", &containers),
        if containers.len() == 1 { "uses" } else { "use" },
        plural("hostPort", ports.len()),
        ports
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "),
    );
    violation("hostPort", (!containers.is_empty()).then_some(detail))
}

fn probe_hosts(spec: &Value) -> Option<Violation> {
    const HANDLERS: [&str; 5] = [
        "/livenessProbe",
        "/readinessProbe",
        "/startupProbe",
        "/lifecycle/postStart",
        "/lifecycle/preStop",
    ];
    let mut hosts = BTreeSet::new();
    let mut containers = containers_where(spec, |container| {
        let handlers = HANDLERS
            .iter()
            .filter_map(|handler| container.pointer(handler));
        let bad: Vec<String> = handlers
            .flat_map(|handler| {
                ["httpGet", "tcpSocket"]
                    .into_iter()
                    .filter_map(|action| handler.get(action))
            })
            .map(|action| text(action, "host").to_owned())
            .filter(|host| !host.is_empty())
            .collect();
        let any = !bad.is_empty();
        hosts.extend(bad);
        any
    });
    containers.sort_unstable();
    let detail = format!(
        "{} {} {} {}",
        named("container", &containers),
        if containers.len() == 1 { "uses" } else { "use" },
        plural("probe or lifecycle host", hosts.len()),
        quoted(&hosts),
    );
    violation(
        "probe or lifecycle host",
        (!containers.is_empty()).then_some(detail),
    )
}

fn privileged(spec: &Value) -> Option<Violation> {
    let containers = containers_where(spec, |container| {
        context(container, "/privileged") == Some(&Value::Bool(true))
    });
    let detail = format!(
        "{} must not set securityContext.privileged=true",
        named("container", &containers)
    );
    violation("privileged", (!containers.is_empty()).then_some(detail))
}

/// A user namespace makes an unmasked `/proc` harmless.
fn proc_mount_in_host_user_namespace(spec: &Value) -> Option<Violation> {
    if spec.get("hostUsers") == Some(&Value::Bool(false)) {
        None
    } else {
        proc_mount(spec)
    }
}

pub(super) fn proc_mount(spec: &Value) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let containers = containers_where(spec, |container| {
        let kind = context(container, "/procMount")
            .and_then(Value::as_str)
            .filter(|kind| *kind != "Default");
        kinds.extend(kind.map(str::to_owned));
        kind.is_some()
    });
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        named("container", &containers),
        quoted(&kinds)
    );
    violation("procMount", (!containers.is_empty()).then_some(detail))
}

fn se_linux(spec: &Value) -> Option<Violation> {
    const TYPES: [&str; 5] = [
        "",
        "container_t",
        "container_init_t",
        "container_kvm_t",
        "container_engine_t",
    ];
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut bad = |holder: &Value| {
        let Some(options) = context(holder, "/seLinuxOptions") else {
            return false;
        };
        let kind = text(options, "type");
        let bad_kind = !TYPES.contains(&kind);
        types.extend(bad_kind.then(|| kind.to_owned()));
        let (sets_user, sets_role) = (
            !text(options, "user").is_empty(),
            !text(options, "role").is_empty(),
        );
        user |= sets_user;
        role |= sets_role;
        bad_kind || sets_user || sets_role
    };
    let pod = bad(spec);
    let containers = containers_where(spec, bad);
    let setters = setters(pod, &containers)?;
    let kinds = types.iter().map(String::as_str).collect::<Vec<_>>();
    let data: Vec<String> = [
        (!kinds.is_empty()).then(|| named("type", &kinds)),
        user.then(|| "user may not be set".to_owned()),
        role.then(|| "role may not be set".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let detail = format!(
        "{setters} set forbidden securityContext.seLinuxOptions: {}",
        data.join("; ")
    );
    violation("seLinuxOptions", Some(detail))
}

fn sysctls(spec: &Value) -> Option<Violation> {
    const ALLOWED: [&str; 12] = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    ];
    let set = spec
        .get("securityContext")
        .into_iter()
        .flat_map(|context| items(context, "sysctls"));
    let bad: Vec<&str> = set
        .map(|sysctl| text(sysctl, "name"))
        .filter(|name| !ALLOWED.contains(name))
        .collect();
    violation(
        "forbidden sysctls",
        (!bad.is_empty()).then(|| bad.join(", ")),
    )
}

fn windows_host_process(spec: &Value) -> Option<Violation> {
    let bad =
        |holder: &Value| context(holder, "/windowsOptions/hostProcess") == Some(&Value::Bool(true));
    let setters = setters(bad(spec), &containers_where(spec, bad))?;
    violation(
        "hostProcess",
        Some(format!(
            "{setters} must not set securityContext.windowsOptions.hostProcess=true"
        )),
    )
}
