//! Kinds that need a driver or controller which the development cluster lacks: this test is that controller, on a rig.
//!
//! Snapshots and the Gateway API are definitions, which take whatever is written; devices and classes are the API
//! server's own.

mod explained;

use anyhow::{Context, ensure};
use api::keys;
use e2e::{
    kind::{
        CLASS, CSI_DRIVER, CSI_STORAGE_CAPACITY, DEFINITION, DEVICE_CLASS, GATEWAY, GATEWAY_CLASS,
        GRPC_ROUTE, HTTP_ROUTE, INGRESS_CLASS, Kind, POD, PRIORITY_CLASS, REFERENCE_GRANT,
        RESOURCE_CLAIM, RESOURCE_CLAIM_TEMPLATE, RUNTIME_CLASS, SNAPSHOT, SNAPSHOT_CLASS,
        SNAPSHOT_CONTENT, STORAGE_CLASS, TCP_ROUTE, TLS_ROUTE, UDP_ROUTE,
    },
    make, oracle,
    read::{annotation, label, name, text, uid},
    rig::{Guest, Rig, Wish, on_rig},
    side::Side,
    wait::{SOON, eventually},
};
use serde_json::{Value, json};

/// The tenant's namespace.
const WORK: &str = "work";

/// Pointers into an object, and what must stand there; `Null` for what must not be there.
type Told = Vec<(&'static str, Value)>;

/// Something of the platform's that tenants are shown.
struct Shown {
    kind: Kind,
    /// Of the super cluster.
    object: Value,
    /// What its controller says of it there, if anything.
    status: Value,
    /// The tenant's.
    seen: Told,
}

/// Something of a tenant's that goes down.
struct Crossing {
    kind: Kind,
    /// Of the tenant.
    object: Value,
    /// The super cluster's, given the name of the super namespace.
    twin: fn(&str) -> Told,
    /// What its controller says of the twin, if anything.
    status: fn(&str) -> Value,
    /// The tenant's, then.
    seen: Told,
}

#[test]
fn kinds_of_drivers_and_gateways_cross_with_spec_and_status() {
    on_rig(Wish::default(), async |rig| {
        define(rig).await?;
        let any_host = json!({"spec": {"ingressHosts": ["*"]}});
        rig.side.merge(CLASS, "", "default", any_host).await?;
        let guest = &rig.tenants[0];
        guest.namespace(WORK).await?;

        are_shown(rig, guest).await?;
        for row in crossing() {
            let what = format!("{} {}", row.kind.name, name(&row.object));
            crosses(rig, guest, row).await.context(what)?;
        }
        explained::are_explained(rig, guest).await?;
        content_is_shown(rig, guest).await?;
        claims_are_used(rig, guest).await?;
        for row in crossing() {
            go(rig, guest, row.kind, name(&row.object)).await?;
        }
        are_withdrawn(rig, guest).await?;
        oracle::all(rig).await
    });
}

/// Both sides come to serve what isn't the API server's own, the super cluster first.
pub(crate) async fn define(rig: &Rig) -> anyhow::Result<()> {
    let definitions = [
        (SNAPSHOT, "Namespaced"),
        (SNAPSHOT_CONTENT, "Cluster"),
        (SNAPSHOT_CLASS, "Cluster"),
        (GATEWAY_CLASS, "Cluster"),
        (GATEWAY, "Namespaced"),
        (HTTP_ROUTE, "Namespaced"),
        (GRPC_ROUTE, "Namespaced"),
        (TLS_ROUTE, "Namespaced"),
        (TCP_ROUTE, "Namespaced"),
        (UDP_ROUTE, "Namespaced"),
        (REFERENCE_GRANT, "Namespaced"),
    ];
    for side in [&rig.side, &rig.tenants[0].side] {
        serve(side, &definitions).await?;
    }
    Ok(())
}

/// One side comes to serve kinds, of the scopes given.
pub(super) async fn serve(side: &Side, definitions: &[(Kind, &str)]) -> anyhow::Result<()> {
    for (kind, scope) in definitions {
        let definition = make::definition(*kind, scope);
        if side
            .find(DEFINITION, "", name(&definition))
            .await?
            .is_none()
        {
            side.create(DEFINITION, definition).await?;
        }
    }
    for (kind, _) in definitions {
        let what = format!("{} serves {}", side.name(), kind.plural);
        eventually(SOON, &what, async || Ok(side.list(*kind, "", "").await?)).await?;
    }
    Ok(())
}

/// An object that every tenant is offered.
fn offered(name: &str, mut body: Value) -> Value {
    body["metadata"] = json!({"name": name, "labels": {keys::PUBLISHED: "true"}});
    body
}

fn shown() -> Vec<Shown> {
    let driver = "csi.example.com";
    let mut capacity = json!({"storageClassName": "kinds", "capacity": "5Gi", "nodeTopology": {"matchLabels": {"zone": "a"}}});
    capacity["metadata"] = json!({"name": "kinds", "namespace": "default"});
    let plain = |kind, object, seen| Shown {
        kind,
        object,
        status: Value::Null,
        seen,
    };
    let conditions = json!([{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let reference =
        json!({"group": "example.com", "apiGroup": "example.com", "kind": "Config", "name": "c"});
    vec![
        plain(
            STORAGE_CLASS,
            offered(
                "kinds",
                json!({"provisioner": driver, "parameters": {"secret": "x"}, "reclaimPolicy": "Delete"}),
            ),
            vec![
                ("/provisioner", json!(driver)),
                ("/reclaimPolicy", json!("Delete")),
                ("/parameters", Value::Null),
            ],
        ),
        plain(
            CSI_STORAGE_CAPACITY,
            capacity,
            vec![
                ("/metadata/namespace", json!("kube-system")),
                ("/capacity", json!("5Gi")),
                ("/storageClassName", json!("kinds")),
            ],
        ),
        plain(
            CSI_DRIVER,
            offered(
                driver,
                json!({"spec": {"attachRequired": false, "tokenRequests": [{"audience": "secret"}]}}),
            ),
            vec![
                ("/spec/attachRequired", json!(false)),
                ("/spec/tokenRequests", Value::Null),
            ],
        ),
        plain(
            SNAPSHOT_CLASS,
            offered(
                "kinds",
                json!({"driver": driver, "deletionPolicy": "Delete", "parameters": {"secret": "x"}}),
            ),
            vec![
                ("/driver", json!(driver)),
                ("/deletionPolicy", json!("Delete")),
                ("/parameters", Value::Null),
            ],
        ),
        plain(
            INGRESS_CLASS,
            offered(
                "kinds",
                json!({"spec": {"controller": "example.com/c", "parameters": {"apiGroup": "example.com", "kind": "Config", "name": "c"}}}),
            ),
            vec![
                ("/spec/controller", json!("example.com/c")),
                ("/spec/parameters", Value::Null),
            ],
        ),
        plain(
            PRIORITY_CLASS,
            offered("kinds", json!({"value": 7, "description": "seven"})),
            vec![("/value", json!(7)), ("/description", json!("seven"))],
        ),
        plain(
            RUNTIME_CLASS,
            offered(
                "kinds",
                json!({"handler": "sandbox", "scheduling": {"nodeSelector": {"secret": "x"}}}),
            ),
            vec![("/handler", json!("sandbox")), ("/scheduling", Value::Null)],
        ),
        plain(
            DEVICE_CLASS,
            offered(
                "kinds",
                json!({"spec": {
                    "selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}],
                    "config": [{"opaque": {"driver": "gpu.example.com", "parameters": {"secret": "x"}}}],
                }}),
            ),
            vec![
                (
                    "/spec/selectors/0/cel/expression",
                    json!("device.driver == 'gpu.example.com'"),
                ),
                ("/spec/config", Value::Null),
            ],
        ),
        Shown {
            kind: GATEWAY_CLASS,
            object: offered(
                "kinds",
                json!({"spec": {"controllerName": "example.com/c", "parametersRef": reference}}),
            ),
            status: json!({"conditions": conditions}),
            seen: vec![
                ("/spec/controllerName", json!("example.com/c")),
                ("/spec/parametersRef", Value::Null),
                ("/status/conditions", conditions),
            ],
        },
    ]
}

fn crossing() -> Vec<Crossing> {
    let named = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let requests = json!([{"name": "one", "exactly": {"deviceClassName": "kinds"}}]);
    vec![
        Crossing {
            kind: SNAPSHOT,
            object: named(
                "s",
                json!({"source": {"persistentVolumeClaimName": "data"}, "volumeSnapshotClassName": "kinds"}),
            ),
            twin: |_| {
                vec![
                    ("/spec/source/persistentVolumeClaimName", json!("data")),
                    ("/spec/volumeSnapshotClassName", json!("kinds")),
                ]
            },
            status: |twin| {
                json!({"readyToUse": true, "restoreSize": "1Gi", "boundVolumeSnapshotContentName": "content",
                    "error": {"message": format!("{twin}/data was busy"), "time": "2026-01-01T00:00:00Z"}})
            },
            seen: vec![
                ("/status/readyToUse", json!(true)),
                ("/status/restoreSize", json!("1Gi")),
                ("/status/error/message", json!("work/data was busy")),
            ],
        },
        Crossing {
            kind: GATEWAY,
            object: named(
                "g",
                json!({"gatewayClassName": "kinds", "listeners": [{"name": "web", "port": 80, "protocol": "HTTP",
                    "hostname": "shop.example", "allowedRoutes": {"namespaces": {"from": "All"}}}]}),
            ),
            twin: |_| {
                vec![
                    ("/spec/gatewayClassName", json!("kinds")),
                    ("/spec/listeners/0/hostname", json!("shop.example")),
                    // Those of the same tenant, by a label.
                    (
                        "/spec/listeners/0/allowedRoutes/namespaces/from",
                        json!("Selector"),
                    ),
                ]
            },
            status: |_| json!({"addresses": [{"type": "IPAddress", "value": "192.0.2.9"}]}),
            seen: vec![("/status/addresses/0/value", json!("192.0.2.9"))],
        },
        Crossing {
            kind: HTTP_ROUTE,
            object: named(
                "h",
                json!({
                    "hostnames": ["shop.example"], "parentRefs": [{"name": "g", "namespace": WORK}],
                    "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
                }),
            ),
            twin: |twin| {
                vec![
                    ("/spec/hostnames", json!(["shop.example"])),
                    ("/spec/parentRefs/0/namespace", json!(twin)),
                    ("/spec/rules/0/backendRefs/0/name", json!("web")),
                ]
            },
            status: |twin| {
                json!({"parents": [{"parentRef": {"name": "g", "namespace": twin}, "controllerName": "example.com/c",
                    "conditions": []}]})
            },
            seen: vec![
                ("/status/parents/0/parentRef/namespace", json!(WORK)),
                ("/status/parents/0/controllerName", json!("example.com/c")),
            ],
        },
        Crossing {
            kind: GRPC_ROUTE,
            object: named(
                "r",
                json!({
                    "hostnames": ["rpc.example"], "parentRefs": [{"name": "g"}],
                    "rules": [{"matches": [{"method": {"service": "a.B"}}], "backendRefs": [{"name": "web", "port": 90}]}],
                }),
            ),
            twin: |_| {
                vec![
                    ("/spec/rules/0/matches/0/method/service", json!("a.B")),
                    ("/spec/rules/0/backendRefs/0/port", json!(90)),
                ]
            },
            status: |_| json!({"parents": [{"parentRef": {"name": "g"}, "controllerName": "example.com/c"}]}),
            seen: vec![("/status/parents/0/parentRef/name", json!("g"))],
        },
        Crossing {
            kind: TLS_ROUTE,
            object: named(
                "l",
                json!({
                    "hostnames": ["db.example"], "parentRefs": [{"name": "g"}],
                    "rules": [{"backendRefs": [{"name": "db", "namespace": WORK, "port": 5432}]}],
                }),
            ),
            twin: |twin| {
                vec![
                    ("/spec/hostnames", json!(["db.example"])),
                    ("/spec/rules/0/backendRefs/0/namespace", json!(twin)),
                ]
            },
            status: |_| json!({"parents": [{"parentRef": {"name": "g"}, "controllerName": "example.com/c"}]}),
            seen: vec![("/status/parents/0/parentRef/name", json!("g"))],
        },
        by_port(TCP_ROUTE, "tcp"),
        by_port(UDP_ROUTE, "udp"),
        Crossing {
            kind: REFERENCE_GRANT,
            object: named(
                "grant",
                json!({
                    "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": WORK}],
                    "to": [{"group": "", "kind": "Service"}],
                }),
            ),
            twin: |twin| {
                vec![
                    ("/spec/from/0/namespace", json!(twin)),
                    ("/spec/to/0/kind", json!("Service")),
                ]
            },
            status: |_| Value::Null,
            seen: vec![],
        },
        Crossing {
            kind: RESOURCE_CLAIM_TEMPLATE,
            object: named("t", json!({"spec": {"devices": {"requests": requests}}})),
            twin: |_| {
                vec![(
                    "/spec/spec/devices/requests/0/exactly/deviceClassName",
                    json!("kinds"),
                )]
            },
            status: |_| Value::Null,
            seen: vec![],
        },
        Crossing {
            kind: RESOURCE_CLAIM,
            object: named("c", json!({"devices": {"requests": requests}})),
            twin: |_| {
                vec![(
                    "/spec/devices/requests/0/exactly/deviceClassName",
                    json!("kinds"),
                )]
            },
            status: |_| {
                json!({"allocation": {"devices": {"results": [
                    {"request": "one", "driver": "gpu.example.com", "pool": "p", "device": "gpu-1"},
                ]}}})
            },
            seen: vec![(
                "/status/allocation/devices/results/0/device",
                json!("gpu-1"),
            )],
        },
    ]
}

/// A route that names no host.
fn by_port(kind: Kind, name: &str) -> Crossing {
    Crossing {
        kind,
        object: json!({"metadata": {"name": name}, "spec": {
            "parentRefs": [{"name": "g", "namespace": WORK, "sectionName": "s"}],
            "rules": [{"backendRefs": [{"name": "db", "port": 53}]}],
        }}),
        twin: |twin| {
            vec![
                ("/spec/parentRefs/0/namespace", json!(twin)),
                ("/spec/rules/0/backendRefs/0/port", json!(53)),
            ]
        },
        status: |twin| json!({"parents": [{"parentRef": {"name": "g", "namespace": twin}, "controllerName": "example.com/c"}]}),
        seen: vec![("/status/parents/0/parentRef/namespace", json!(WORK))],
    }
}

/// Waits until an object is as it must be.
async fn is_told(
    side: &Side,
    kind: Kind,
    (namespace, name): (&str, &str),
    told: &Told,
) -> anyhow::Result<Value> {
    let what = format!("{} has {} {name} as it must be", side.name(), kind.name);
    eventually(SOON, &what, async || {
        let object = side.get(kind, namespace, name).await?;
        for (pointer, value) in told {
            let found = object.pointer(pointer).unwrap_or(&Value::Null);
            ensure!(
                found == value,
                "{pointer} is {found} instead of {value}: {object}"
            );
        }
        Ok(object)
    })
    .await
}

async fn is_gone(side: &Side, kind: Kind, namespace: &str, name: &str) -> anyhow::Result<()> {
    let what = format!("{} has no {} {name}", side.name(), kind.name);
    eventually(SOON, &what, async || {
        let left = side.find(kind, namespace, name).await?;
        ensure!(left.is_none(), "{}", left.unwrap_or_default());
        Ok(())
    })
    .await
}

/// Namespace in the tenant of what it is shown.
fn place(row: &Shown) -> &'static str {
    match text(&row.object, "/metadata/namespace") {
        "" => "",
        _ => "kube-system",
    }
}

/// Classes and the like come up without what is the platform's, and what the tenant does to them is undone.
async fn are_shown(rig: &Rig, guest: &Guest) -> anyhow::Result<()> {
    for row in shown() {
        let name = name(&row.object);
        rig.side.create(row.kind, row.object.clone()).await?;
        if !row.status.is_null() {
            rig.side
                .merge_status(row.kind, "", name, row.status)
                .await?;
        }
    }
    for row in shown() {
        let at = (place(&row), name(&row.object));
        is_told(&guest.side, row.kind, at, &row.seen).await?;
        let edit = json!({"metadata": {"labels": {"mine": "1", keys::PUBLISHED: null}}});
        guest.side.merge(row.kind, at.0, at.1, edit).await?;
    }
    for row in shown() {
        let at = (place(&row), name(&row.object));
        let what = format!("an edit of {} is undone", row.kind.name);
        eventually(SOON, &what, async || {
            let object = guest.side.get(row.kind, at.0, at.1).await?;
            ensure!(
                label(&object, "mine").is_none() && label(&object, keys::PUBLISHED).is_some(),
                "{object}"
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn are_withdrawn(rig: &Rig, guest: &Guest) -> anyhow::Result<()> {
    for row in shown() {
        let namespace = text(&row.object, "/metadata/namespace");
        rig.side
            .delete(row.kind, namespace, name(&row.object))
            .await?;
    }
    for row in shown() {
        is_gone(&guest.side, row.kind, place(&row), name(&row.object)).await?;
    }
    Ok(())
}

/// An object goes down, translated, with its marks; what is said of it there comes up, with the tenant's names.
async fn crosses(rig: &Rig, guest: &Guest, row: Crossing) -> anyhow::Result<()> {
    let twin = guest.twin(WORK);
    let (kind, name) = (row.kind, name(&row.object).to_owned());
    let mut object = row.object;
    object["metadata"]["namespace"] = WORK.into();
    let made = guest.side.create(kind, object).await?;
    let copy = is_told(&rig.side, kind, (&twin, &name), &(row.twin)(&twin)).await?;
    ensure!(
        annotation(&copy, keys::UID) == Some(uid(&made)),
        "the twin is of another one: {copy}"
    );
    let status = (row.status)(&twin);
    if status.is_null() {
        return Ok(());
    }
    rig.side.merge_status(kind, &twin, &name, status).await?;
    let seen = is_told(&guest.side, kind, (WORK, &name), &row.seen).await?;
    ensure!(!seen["status"].to_string().contains(&twin), "{seen}");
    Ok(())
}

/// What a snapshot's driver made for it is shown as the tenant's own, without where it is.
async fn content_is_shown(rig: &Rig, guest: &Guest) -> anyhow::Result<()> {
    let twin = rig.side.get(SNAPSHOT, &guest.twin(WORK), "s").await?;
    let own = guest.side.get(SNAPSHOT, WORK, "s").await?;
    let reference = json!({
        "apiVersion": SNAPSHOT.api_version, "kind": SNAPSHOT.name, "namespace": text(&twin, "/metadata/namespace"),
        "name": "s", "uid": uid(&twin),
    });
    let content = json!({
        "metadata": {"name": "content"},
        "spec": {"driver": "csi.example.com", "deletionPolicy": "Delete", "source": {"volumeHandle": "secret"},
            "volumeSnapshotRef": reference},
    });
    rig.side.create(SNAPSHOT_CONTENT, content).await?;
    let told = vec![
        ("/spec/volumeSnapshotRef/namespace", json!(WORK)),
        ("/spec/volumeSnapshotRef/uid", json!(uid(&own))),
        ("/spec/source", json!({"snapshotHandle": "content"})),
    ];
    is_told(&guest.side, SNAPSHOT_CONTENT, ("", "content"), &told).await?;
    rig.side.delete(SNAPSHOT_CONTENT, "", "content").await?;
    is_gone(&guest.side, SNAPSHOT_CONTENT, "", "content").await
}

/// A pod has the claims that it names and those that the tenant's controller made for it, and who holds a claim is told by
/// the tenant's UID.
async fn claims_are_used(rig: &Rig, guest: &Guest) -> anyhow::Result<()> {
    let space = guest.twin(WORK);
    let requests = json!([{"name": "one", "exactly": {"deviceClassName": "kinds"}}]);
    let made = json!({
        "metadata": {"name": "made", "namespace": WORK}, "spec": {"devices": {"requests": requests}},
    });
    guest.side.create(RESOURCE_CLAIM, made).await?;
    let mut spec = make::pod_spec(make::idle());
    spec["resourceClaims"] = json!([
        {"name": "named", "resourceClaimName": "c"}, {"name": "made", "resourceClaimTemplateName": "t"},
    ]);
    let pod = json!({"metadata": {"name": "user", "namespace": WORK}, "spec": spec});
    let pod = guest.side.create(POD, pod).await?;
    // As the tenant's controller says; till then the pod isn't made.
    let statuses =
        json!({"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "made"}]});
    guest.side.merge_status(POD, WORK, "user", statuses).await?;
    let told = vec![
        ("/spec/resourceClaims/0/resourceClaimName", json!("c")),
        ("/spec/resourceClaims/1/resourceClaimName", json!("made")),
    ];
    let twin = is_told(&rig.side, POD, (&space, "user"), &told).await?;
    let holder = json!({"reservedFor": [{"resource": "pods", "name": "user", "uid": uid(&twin)}]});
    rig.side
        .merge_status(RESOURCE_CLAIM, &space, "c", holder)
        .await?;
    let told = vec![("/status/reservedFor/0/uid", json!(uid(&pod)))];
    is_told(&guest.side, RESOURCE_CLAIM, (WORK, "c"), &told).await?;
    for (kind, name) in [(POD, "user"), (RESOURCE_CLAIM, "made")] {
        go(rig, guest, kind, name).await?;
    }
    Ok(())
}

/// What the tenant deletes goes on both sides.
async fn go(rig: &Rig, guest: &Guest, kind: Kind, name: &str) -> anyhow::Result<()> {
    guest.side.delete(kind, WORK, name).await?;
    is_gone(&guest.side, kind, WORK, name).await?;
    is_gone(&rig.side, kind, &guest.twin(WORK), name).await
}
