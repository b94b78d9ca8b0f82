//! The attacks by what a tenant writes and the super cluster acts on, and the ways by which each can come.

mod reach;

use e2e::{
    kind::{CLAIM, ENDPOINT_SLICE, INGRESS, Kind, POD, SERVICE},
    make,
};
use serde_json::{Value, json};

/// One attack.
#[derive(Clone)]
pub(super) struct Attack {
    /// Of the threat model.
    pub(super) class: &'static str,
    /// For people.
    pub(super) what: &'static str,
    /// What is attacked with.
    pub(super) kind: Kind,
    /// A harmless object of that name.
    pub(super) first: fn(&str) -> Value,
    /// What turns it into the attack, as a merge patch.
    pub(super) change: Value,
    /// How it can come.
    pub(super) ways: &'static [Way],
    /// Text that is in the super object's JSON if the attack has worked, and not otherwise.
    pub(super) trace: &'static str,
    /// What layer A does.
    pub(super) answer: Answer,
    /// Why the other layers can't hold it; empty when they do.
    pub(super) alone: &'static str,
}

/// How an attack comes; what is written to when it isn't the object itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// POST.
    Create,
    /// PUT.
    Update(&'static str),
    /// PATCH.
    Patch(&'static str),
}

impl Way {
    /// For the table.
    pub(super) fn name(self) -> String {
        let (verb, part) = match self {
            Self::Create => ("create", ""),
            Self::Update(part) => ("update", part),
            Self::Patch(part) => ("patch", part),
        };
        if part.is_empty() {
            verb.to_owned()
        } else {
            format!("{verb} `{part}`")
        }
    }
}

/// What layer A does with an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing goes down, and the tenant is told.
    Told,
    /// The object crosses without it.
    LeftOut,
    /// The object has no twin at all.
    Nowhere,
}
use Answer::{LeftOut, Nowhere, Told};

/// What can't change later.
const AT_FIRST: &[Way] = &[Way::Create];
/// What can.
const ALWAYS: &[Way] = &[Way::Create, Way::Update(""), Way::Patch("")];
/// What is only added later.
const LATER: &[Way] = &[Way::Update(""), Way::Patch("")];
const EPHEMERAL: &[Way] = &[
    Way::Update("ephemeralcontainers"),
    Way::Patch("ephemeralcontainers"),
];
/// How a container's size changes while it runs.
const RESIZE: &[Way] = &[Way::Update("resize"), Way::Patch("resize")];

fn pod(name: &str) -> Value {
    let mut spec = make::pod_spec(make::idle());
    spec["automountServiceAccountToken"] = false.into();
    // Without layer A nobody puts the tenant's own server there.
    spec["dnsPolicy"] = "Default".into();
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

/// A pod that says how large it is: a resize changes amounts, and never adds or takes away one.
fn sized_pod(name: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = size("10m", "64Mi");
    pod
}

fn size(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": "16Mi"}, "limits": {"memory": memory}})
}

fn claim(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": super::STORAGE_CLASS,
        "resources": {"requests": {"storage": "1Gi"}},
    }})
}

/// A rule that leads a host to the tenant's Service.
fn rule(host: &str) -> Value {
    let backend = json!({"service": {"name": super::OPEN_SERVICE, "port": {"number": 80}}});
    json!({"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}})
}

fn ingress(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "ingressClassName": super::INGRESS_CLASS, "rules": [rule(super::OWN_HOST)],
    }})
}

fn slice(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": super::OPEN_SERVICE}},
        "addressType": "IPv4", "endpoints": [], "ports": [],
    })
}

/// An attack by a pod's spec when it is made.
fn by_pod(
    class: &'static str,
    what: &'static str,
    spec: Value,
    trace: &'static str,
    answer: Answer,
) -> Attack {
    Attack {
        class,
        what,
        kind: POD,
        first: pod,
        change: json!({"spec": spec}),
        ways: AT_FIRST,
        trace,
        answer,
        alone: "",
    }
}

/// An attack by the one container of a pod.
fn by_container(
    class: &'static str,
    what: &'static str,
    fields: Value,
    trace: &'static str,
) -> Attack {
    let mut container = make::idle();
    for (field, value) in fields.as_object().into_iter().flatten() {
        container[field] = value.clone();
    }
    by_pod(class, what, json!({"containers": [container]}), trace, Told)
}

/// A container that says which capabilities it drops, and keeps the one for raw sockets. Of others a syncer without layer A
/// drops it, or no pod of theirs would be taken.
fn raw_sockets() -> Attack {
    let mut container = make::idle();
    container["securityContext"] = json!({"capabilities": {"drop": ["KILL"]}});
    let spec = json!({"containers": [container]});
    by_pod("T7", "raw sockets", spec, r#""drop":["KILL"]"#, LeftOut)
}

fn by_volume(
    class: &'static str,
    what: &'static str,
    source: Value,
    trace: &'static str,
    answer: Answer,
) -> Attack {
    by_pod(class, what, json!({"volumes": [source]}), trace, answer)
}

/// The same of another kind than pods.
fn by(kind: Kind, first: fn(&str) -> Value, ways: &'static [Way], attack: Attack) -> Attack {
    Attack {
        kind,
        first,
        ways,
        ..attack
    }
}

/// An attack by what an object says of itself.
fn by_metadata(
    kind: Kind,
    first: fn(&str) -> Value,
    ways: &'static [Way],
    (class, what): (&'static str, &'static str),
    (metadata, trace): (Value, &'static str),
) -> Attack {
    Attack {
        change: json!({"metadata": metadata}),
        ..by(
            kind,
            first,
            ways,
            by_pod(class, what, json!({}), trace, LeftOut),
        )
    }
}

/// All of them, in the order of the threat model but for what objects say of themselves. `owner` is the UID of the class
/// that the platform gives to tenants.
pub(super) fn all(owner: &str) -> Vec<Attack> {
    let mut all = host();
    all.extend(sizes());
    all.extend(placement());
    all.extend(services());
    all.extend(volumes());
    all.extend(secrets());
    all.extend(accounts());
    all.extend(images());
    all.extend(names());
    all.extend(reach::all());
    all.extend(metadata(owner));
    all
}

/// Why layer A alone looks at images.
const IMAGES: &str = "which registries are allowed stands in classes, which admission doesn't read";

fn host() -> Vec<Attack> {
    let stolen = "registry.example.com/stolen:1";
    let privileged =
        json!({"name": "late", "image": make::PAUSE, "securityContext": {"privileged": true}});
    let at_first = json!({"initContainers": [privileged]});
    vec![
        by_pod(
            "T5",
            "the node's network",
            json!({"hostNetwork": true}),
            r#""hostNetwork":true"#,
            Told,
        ),
        by_pod(
            "T5",
            "the node's processes",
            json!({"hostPID": true}),
            r#""hostPID":true"#,
            Told,
        ),
        by_pod(
            "T5",
            "the node's IPC",
            json!({"hostIPC": true}),
            r#""hostIPC":true"#,
            Told,
        ),
        by_volume(
            "T6",
            "a path of the node",
            json!({"name": "v", "hostPath": {"path": "/"}}),
            r#""hostPath""#,
            Told,
        ),
        by_volume(
            "T6",
            "a share of the network",
            json!({"name": "v", "nfs": {"server": "192.0.2.9", "path": "/"}}),
            r#""nfs""#,
            Told,
        ),
        by_container(
            "T7",
            "a privileged container",
            json!({"securityContext": {"privileged": true}}),
            r#""privileged":true"#,
        ),
        by_pod(
            "T7",
            "a privileged init container",
            at_first,
            r#""privileged":true"#,
            Told,
        ),
        by_container(
            "T7",
            "a capability",
            json!({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}),
            "SYS_ADMIN",
        ),
        raw_sockets(),
        by_container(
            "T7",
            "no seccomp",
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "Unconfined",
        ),
        by_pod(
            "T7",
            "a sysctl",
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}}),
            "kernel.msgmax",
            Told,
        ),
        by_container(
            "T7",
            "a level of SELinux",
            json!({"securityContext": {"seLinuxOptions": {"level": "s0:c1,c2"}}}),
            "s0:c1,c2",
        ),
        by_container(
            "T8",
            "a port of the node",
            json!({"ports": [{"containerPort": 80, "hostPort": 80}]}),
            r#""hostPort":80"#,
        ),
        Attack {
            ways: EPHEMERAL,
            ..by_pod(
                "T38",
                "a privileged ephemeral container",
                json!({"ephemeralContainers": [privileged]}),
                r#""privileged":true"#,
                Told,
            )
        },
        Attack {
            ways: ALWAYS,
            alone: IMAGES,
            ..by_container(
                "T38",
                "an image of a registry that isn't allowed",
                json!({"image": stolen}),
                stolen,
            )
        },
        Attack {
            ways: EPHEMERAL,
            alone: IMAGES,
            ..by_pod(
                "T38",
                "such an image in an ephemeral container",
                json!({"ephemeralContainers": [{"name": "late", "image": stolen}]}),
                stolen,
                Told,
            )
        },
    ]
}

/// Why layer A alone counts.
const COUNTED: &str =
    "what a tenant has in all is counted in the syncer; admission sees one object";

fn sizes() -> Vec<Attack> {
    let resize = |class, what, size: Value, trace, alone| Attack {
        first: sized_pod,
        ways: RESIZE,
        alone,
        ..by_container(class, what, json!({"resources": size}), trace)
    };
    let most = "how much a container may have stands in classes, which admission doesn't read";
    vec![
        resize(
            "T38",
            "more memory than a container may have",
            size("10m", "8Gi"),
            r#""memory":"8Gi""#,
            most,
        ),
        resize(
            "T43",
            "more CPU than may be",
            size("60", "64Mi"),
            r#""cpu":"60""#,
            COUNTED,
        ),
    ]
}

fn placement() -> Vec<Attack> {
    let victims = json!({"matchLabels": {"app": "victim"}});
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": victims, "namespaceSelector": {}});
    let spread = json!({"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": victims});
    let given = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let control_plane = json!({"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"});
    let cordoned = json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"});
    let others = json!({"key": "metadata.name", "operator": "NotIn", "values": ["none-such"]});
    let nearly_all = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchFields": [others]}],
    }}});
    let tolerations = json!([
        given("node.kubernetes.io/not-ready"),
        given("node.kubernetes.io/unreachable"),
        control_plane
    ]);
    vec![
        by_pod(
            "T9",
            "a chosen node",
            json!({"nodeName": "rig-node-2"}),
            r#""nodeName":"rig-node-2""#,
            Told,
        ),
        by_pod(
            "T10",
            "a toleration of all taints",
            json!({"tolerations": [{"operator": "Exists"}]}),
            r#"{"operator":"Exists"}"#,
            LeftOut,
        ),
        Attack {
            alone: "whom an admin's taints keep a node for stands in classes, which admission doesn't read",
            ..by_pod(
                "T10",
                "a toleration of the taint of another's nodes",
                json!({"tolerations": [{"key": "customer", "value": "victim", "effect": "NoSchedule"}]}),
                r#""value":"victim""#,
                LeftOut,
            )
        },
        Attack {
            alone: "a class may give this toleration to all pods of a tenant, and admission doesn't read classes",
            ..by_pod(
                "T10",
                "a toleration of cordoned nodes by what runs on any",
                json!({"tolerations": [cordoned], "affinity": nearly_all}),
                "node.kubernetes.io/unschedulable",
                LeftOut,
            )
        },
        Attack {
            ways: LATER,
            ..by_pod(
                "T10",
                "a toleration added later",
                json!({"tolerations": tolerations}),
                "node-role.kubernetes.io/control-plane",
                LeftOut,
            )
        },
        by_pod(
            "T11",
            "a system priority",
            json!({"priorityClassName": "system-node-critical"}),
            "system-node-critical",
            LeftOut,
        ),
        by_pod(
            "T12",
            "affinity to pods of all namespaces",
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}),
            r#""namespaceSelector":{}"#,
            LeftOut,
        ),
        by_pod(
            "T12",
            "spreading among pods of others",
            json!({"topologySpreadConstraints": [spread]}),
            r#""labelSelector":{"matchLabels":{"app":"victim"}}"#,
            LeftOut,
        ),
        by_pod(
            "T13",
            "another scheduler",
            json!({"schedulerName": "other"}),
            r#""schedulerName":"other""#,
            Told,
        ),
        Attack {
            alone: "which runtimes are offered to whom stands in classes, which admission doesn't read",
            ..by_pod(
                "T13",
                "a runtime that isn't offered",
                json!({"runtimeClassName": super::RUNTIME_CLASS}),
                r#""runtimeClassName":"weak""#,
                Told,
            )
        },
    ]
}

fn services() -> Vec<Attack> {
    let service = |class, what, spec, trace, answer| {
        by(
            SERVICE,
            make::service,
            ALWAYS,
            by_pod(class, what, spec, trace, answer),
        )
    };
    let external =
        json!({"type": "ExternalName", "externalName": "victim.example.com", "selector": null});
    let node_ports: Value = (0..=super::NODE_PORTS)
        .map(|number| json!({"name": format!("p{number}"), "port": 1000 + number}))
        .collect();
    vec![
        service(
            "T14",
            "an external IP",
            json!({"externalIPs": ["203.0.113.66"]}),
            "203.0.113.66",
            Told,
        ),
        Attack {
            ways: AT_FIRST,
            alone: "whose range an address is of stands in claims, which admission doesn't read",
            ..service(
                "T14",
                "an address of another's range",
                json!({"clusterIP": super::foreign_address()}),
                super::FOREIGN_ADDRESSES,
                Told,
            )
        },
        service(
            "T15",
            "a load balancer's address",
            json!({"type": "LoadBalancer", "loadBalancerIP": "203.0.113.67"}),
            "203.0.113.67",
            LeftOut,
        ),
        Attack {
            alone: "how many ports a tenant has is counted in the syncer; admission sees one object",
            ..service(
                "T16",
                "more node ports than may be",
                json!({"type": "NodePort", "ports": node_ports}),
                r#""type":"NodePort""#,
                Told,
            )
        },
        Attack {
            change: json!({"endpoints": [{"addresses": ["10.99.0.66"]}]}),
            alone: "whose an address is stands in the syncer's index; what is sent there, NetworkPolicies hold",
            ..by(
                ENDPOINT_SLICE,
                slice,
                ALWAYS,
                by_pod(
                    "T17",
                    "a foreign address as an endpoint",
                    json!({}),
                    "10.99.0.66",
                    Told,
                ),
            )
        },
        Attack {
            change: json!({"endpoints": [{"addresses": ["100.100.100.200"]}]}),
            ..by(
                ENDPOINT_SLICE,
                slice,
                ALWAYS,
                by_pod(
                    "T17",
                    "a cloud's metadata service as an endpoint",
                    json!({}),
                    "100.100.100.200",
                    Told,
                ),
            )
        },
        Attack {
            change: json!({"addressType": "FQDN", "endpoints": [{"addresses": ["victim.example.com"]}]}),
            ..by(
                ENDPOINT_SLICE,
                slice,
                AT_FIRST,
                by_pod(
                    "T17",
                    "a name as an endpoint",
                    json!({}),
                    "victim.example.com",
                    Told,
                ),
            )
        },
        service(
            "T18",
            "an external name",
            external,
            "victim.example.com",
            Nowhere,
        ),
        Attack {
            alone: "which hosts a tenant may use stands in classes, which admission doesn't read",
            ..by(
                INGRESS,
                ingress,
                ALWAYS,
                by_pod(
                    "T19",
                    "a host of another",
                    json!({"rules": [rule("victim.example.com")]}),
                    "victim.example.com",
                    Told,
                ),
            )
        },
    ]
}

fn volumes() -> Vec<Attack> {
    let volume = |class, what, ways, spec, trace| {
        by(CLAIM, claim, ways, by_pod(class, what, spec, trace, Told))
    };
    vec![
        volume(
            "T20",
            "a volume by its name",
            ALWAYS,
            json!({"volumeName": "victims-volume"}),
            "victims-volume",
        ),
        volume(
            "T20",
            "a volume by its labels",
            AT_FIRST,
            json!({"selector": {"matchLabels": {"who": "victim"}}}),
            r#""who":"victim""#,
        ),
        volume(
            "T20",
            "a volume that something of the platform's fills",
            AT_FIRST,
            json!({"dataSourceRef": {"apiGroup": "example.com", "kind": "Export", "name": "victims"}}),
            r#""Export""#,
        ),
        Attack {
            alone: "which storage classes are offered to whom stands in classes, which admission doesn't read",
            ..volume(
                "T21",
                "a storage class that isn't offered",
                AT_FIRST,
                json!({"storageClassName": "the-platforms"}),
                "the-platforms",
            )
        },
        by_volume(
            "T21",
            "a CSI volume with parameters of its own",
            json!({"name": "v", "csi": {"driver": "csi.example.com", "volumeAttributes": {"share": "victims"}}}),
            r#""csi""#,
            Told,
        ),
        Attack {
            alone: COUNTED,
            ..volume(
                "T43",
                "more storage than may be",
                AT_FIRST,
                json!({"resources": {"requests": {"storage": "1000Gi"}}}),
                r#""storage":"1000Gi""#,
            )
        },
    ]
}

/// Images that lie on a node already, and that others' pull secrets brought there.
fn images() -> Vec<Attack> {
    let late = json!({"name": "late", "image": make::PAUSE, "imagePullPolicy": "IfNotPresent"});
    let trace = r#""imagePullPolicy":"IfNotPresent""#;
    let attacks = [
        Attack {
            answer: LeftOut,
            ..by_container(
                "T24",
                "an image of the node's cache",
                json!({"imagePullPolicy": "IfNotPresent"}),
                trace,
            )
        },
        Attack {
            ways: EPHEMERAL,
            ..by_pod(
                "T24",
                "such an image in an ephemeral container",
                json!({"ephemeralContainers": [late]}),
                trace,
                LeftOut,
            )
        },
    ];
    let alone =
        "whether images are pulled each time stands in classes, which admission doesn't read";
    let all = attacks.map(|attack| Attack {
        first: careful_pod,
        alone,
        ..attack
    });
    all.into()
}

/// A pod that takes nothing of a node's cache.
fn careful_pod(name: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    pod
}

/// What the super cluster's own DNS server tells.
fn names() -> Vec<Attack> {
    vec![by_pod(
        "T44",
        "the super cluster's DNS server and search path",
        json!({"dnsPolicy": "ClusterFirst"}),
        r#""dnsPolicy":"ClusterFirst""#,
        LeftOut,
    )]
}

/// A Secret that the platform put beside the twins.
fn secrets() -> Vec<Attack> {
    let from = json!([{"secretRef": {"name": super::SECRET_NAME}}]);
    let one = json!([{"name": "STOLEN", "valueFrom": {"secretKeyRef": {"name": super::SECRET_NAME, "key": "k"}}}]);
    let late = json!({"name": "late", "image": make::PAUSE, "envFrom": from});
    let plain = json!({"name": "v", "secret": {"secretName": super::SECRET_NAME}});
    let projected =
        json!({"name": "v", "projected": {"sources": [{"secret": {"name": super::SECRET_NAME}}]}});
    let pull = json!({"imagePullSecrets": [{"name": super::SECRET_NAME}]});
    let trace = super::SECRET_NAME;
    let attacks = [
        by_container(
            "T22",
            "the platform's Secret as variables",
            json!({"envFrom": from}),
            trace,
        ),
        by_container(
            "T22",
            "the platform's Secret as a variable",
            json!({"env": one}),
            trace,
        ),
        by_volume(
            "T22",
            "the platform's Secret as a volume",
            plain,
            trace,
            Told,
        ),
        by_volume(
            "T22",
            "the platform's Secret in a projected volume",
            projected,
            trace,
            Told,
        ),
        by_pod(
            "T22",
            "the platform's Secret to pull images",
            pull,
            trace,
            Told,
        ),
        Attack {
            ways: EPHEMERAL,
            ..by_pod(
                "T22",
                "the platform's Secret in an ephemeral container",
                json!({"ephemeralContainers": [late]}),
                trace,
                Told,
            )
        },
    ];
    let alone = "whose a Secret is stands on the Secret, and admission sees the pod alone";
    attacks.map(|attack| Attack { alone, ..attack }).into()
}

/// What objects say of themselves.
fn metadata(owner: &str) -> Vec<Attack> {
    let owners = json!({"ownerReferences": [{"apiVersion": format!("{}/{}", api::GROUP, api::VERSION), "kind": "ControlPlaneClass",
        "name": "default", "uid": owner, "blockOwnerDeletion": true}]});
    let held = json!({"finalizers": ["example.com/hold"]});
    let service = |ways, what, metadata| by_metadata(SERVICE, make::service, ways, what, metadata);
    let pod = |ways, what, metadata| by_metadata(POD, pod, ways, what, metadata);
    vec![
        service(
            AT_FIRST,
            ("T3", "the mark of another tenant"),
            (
                json!({"labels": {api::keys::TENANT: "victim"}}),
                r#""sublet.dev/tenant":"victim""#,
            ),
        ),
        pod(
            ALWAYS,
            ("T4", "a label that steers what the platform runs"),
            (
                json!({"labels": {"sidecar.istio.io/inject": "true"}}),
                "sidecar.istio.io/inject",
            ),
        ),
        service(
            ALWAYS,
            ("T4", "a label of Kubernetes' own"),
            (
                json!({"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": "true"}}),
                "exclude-from-external-load-balancers",
            ),
        ),
        service(
            ALWAYS,
            ("T25", "an object of the platform as a Service's owner"),
            (owners.clone(), "ControlPlaneClass"),
        ),
        pod(
            ALWAYS,
            ("T25", "an object of the platform as a pod's owner"),
            (owners, "ControlPlaneClass"),
        ),
        service(
            ALWAYS,
            ("T26", "a finalizer of a Service"),
            (held.clone(), "example.com/hold"),
        ),
        pod(
            ALWAYS,
            ("T26", "a finalizer of a pod"),
            (held, "example.com/hold"),
        ),
    ]
}

fn accounts() -> Vec<Attack> {
    let token = json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}});
    vec![
        by_pod(
            "T23",
            "an account of the super cluster",
            json!({"serviceAccountName": super::ACCOUNT}),
            super::ACCOUNT,
            LeftOut,
        ),
        by_pod(
            "T23",
            "the account's token",
            json!({"automountServiceAccountToken": true}),
            r#""automountServiceAccountToken":true"#,
            LeftOut,
        ),
        by_volume(
            "T23",
            "a token as a volume",
            token,
            "serviceAccountToken\"",
            LeftOut,
        ),
    ]
}
