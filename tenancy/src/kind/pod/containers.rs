//! Containers: init, app and ephemeral ones share their fields, and every rule holds for all three.
//!
//! Ephemeral containers and init containers are what policies forget (CVE-2023-2728, CVE-2024-3177), so nothing here
//! or in the steps walks one of the three lists alone.

use super::{
    env,
    fields::{Fields, Rule, items, items_mut, with},
    security,
};
use serde_json::Value;

/// The three lists of containers in a pod spec, in the order in which they start.
pub(super) const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a pod spec.
pub(super) fn all(spec: &Value) -> impl Iterator<Item = &Value> {
    LISTS.into_iter().flat_map(|list| items(spec, list))
}

/// Calls `change` with each container of a pod spec.
pub(super) fn for_each(spec: &mut Value, mut change: impl FnMut(&mut Value)) {
    for list in LISTS {
        items_mut(spec, list).for_each(&mut change);
    }
}

/// EphemeralContainer: a container with one field more.
pub(super) const EPHEMERAL_CONTAINER: Fields =
    &with::<{ CONTAINER.len() + 1 }>(CONTAINER, ("targetContainerName", Rule::Pass));

/// Container.
pub(super) const CONTAINER: Fields = &[
    ("args", Rule::Pass),
    ("command", Rule::Pass),
    ("env", Rule::List(env::ENV_VAR)),
    ("envFrom", Rule::List(env::ENV_FROM)),
    ("image", Rule::Pass),
    ("imagePullPolicy", Rule::Pass),
    ("lifecycle", Rule::Object(LIFECYCLE)),
    ("livenessProbe", Rule::Object(PROBE)),
    ("name", Rule::Pass),
    ("ports", Rule::List(PORT)),
    ("readinessProbe", Rule::Object(PROBE)),
    (
        "resizePolicy",
        Rule::List(&[("resourceName", Rule::Pass), ("restartPolicy", Rule::Pass)]),
    ),
    ("resources", Rule::Object(RESOURCES)),
    ("restartPolicy", Rule::Pass),
    ("restartPolicyRules", Rule::List(RESTART_RULE)),
    ("securityContext", Rule::Object(security::SECURITY_CONTEXT)),
    ("startupProbe", Rule::Object(PROBE)),
    ("stdin", Rule::Pass),
    ("stdinOnce", Rule::Pass),
    ("terminationMessagePath", Rule::Pass),
    ("terminationMessagePolicy", Rule::Pass),
    ("tty", Rule::Pass),
    (
        "volumeDevices",
        Rule::List(&[("devicePath", Rule::Pass), ("name", Rule::Pass)]),
    ),
    ("volumeMounts", Rule::List(VOLUME_MOUNT)),
    ("workingDir", Rule::Pass),
];

/// ResourceRequirements, of a container and of the whole pod.
pub(super) const RESOURCES: Fields = &[
    (
        "claims",
        Rule::List(&[("name", Rule::Pass), ("request", Rule::Pass)]),
    ),
    ("limits", Rule::Pass),
    ("requests", Rule::Pass),
];

const RESTART_RULE: Fields = &[
    ("action", Rule::Pass),
    (
        "exitCodes",
        Rule::Object(&[("operator", Rule::Pass), ("values", Rule::Pass)]),
    ),
];

const PORT: Fields = &[
    ("containerPort", Rule::Pass),
    (
        "hostIP",
        Rule::Privileged(
            &Rule::Pass,
            "HostPort",
            "it binds an address of the node: use a Service",
        ),
    ),
    ("hostPort", Rule::AboveBaseline(&Rule::Pass)),
    ("name", Rule::Pass),
    ("protocol", Rule::Pass),
];

const VOLUME_MOUNT: Fields = &[
    ("mountPath", Rule::Pass),
    // Bidirectional is for privileged containers alone; the API server sees to that.
    ("mountPropagation", Rule::Pass),
    ("name", Rule::Pass),
    ("readOnly", Rule::Pass),
    ("recursiveReadOnly", Rule::Pass),
    ("subPath", Rule::Pass),
    ("subPathExpr", Rule::Pass),
];

const LIFECYCLE: Fields = &[
    ("postStart", Rule::Object(HANDLER)),
    ("preStop", Rule::Object(HANDLER)),
    ("stopSignal", Rule::Pass),
];

const HANDLER: Fields = &[
    ("exec", Rule::Object(EXEC)),
    ("httpGet", Rule::Object(HTTP_GET)),
    ("sleep", Rule::Object(&[("seconds", Rule::Pass)])),
    ("tcpSocket", Rule::Object(TCP_SOCKET)),
];

const PROBE: Fields = &[
    ("exec", Rule::Object(EXEC)),
    ("failureThreshold", Rule::Pass),
    (
        "grpc",
        Rule::Object(&[("port", Rule::Pass), ("service", Rule::Pass)]),
    ),
    ("httpGet", Rule::Object(HTTP_GET)),
    ("initialDelaySeconds", Rule::Pass),
    ("periodSeconds", Rule::Pass),
    ("successThreshold", Rule::Pass),
    ("tcpSocket", Rule::Object(TCP_SOCKET)),
    ("terminationGracePeriodSeconds", Rule::Pass),
    ("timeoutSeconds", Rule::Pass),
];

const EXEC: Fields = &[("command", Rule::Pass)];

/// `host` makes the kubelet call where the pod can't, from the node's network.
const HTTP_GET: Fields = &[
    ("host", Rule::AboveBaseline(&Rule::Pass)),
    (
        "httpHeaders",
        Rule::List(&[("name", Rule::Pass), ("value", Rule::Pass)]),
    ),
    ("path", Rule::Pass),
    ("port", Rule::Pass),
    ("scheme", Rule::Pass),
];

const TCP_SOCKET: Fields = &[
    ("host", Rule::AboveBaseline(&Rule::Pass)),
    ("port", Rule::Pass),
];
