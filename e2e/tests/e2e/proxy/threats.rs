//! T28 to T34: what a tenant tries who is cluster-admin of its own API server, and what a thief tries.

use super::way_out::refused_by;
use anyhow::{Context, ensure};
use api::keys;
use e2e::{
    kind::{API_SERVICE, ENDPOINT_SLICE, NAMESPACE, NODE, SERVICE},
    make,
    read::{condition, items, label, name, text},
    space::{Space, run, within},
    tenant::{A, B},
    wait::{PODS, SOON, eventually, seldom},
    way_out::{Identity, WayOut, ask},
};
use serde_json::{Value, json};

/// What the API server says when the way out refuses.
pub(super) const REFUSED: &str = "code 403";

async fn shell(space: &Space) -> anyhow::Result<()> {
    let spec = make::pod_spec(make::shell("echo secret; sleep 3600"));
    space.pod("web", spec).await?;
    space.ready("web").await?;
    Ok(())
}

/// Places that no tenant may reach: the super API server, another tenant's, the metadata service, a node, itself.
pub(super) async fn forbidden(space: &Space) -> anyhow::Result<Vec<(String, u16)>> {
    let above = space.above();
    let kubernetes = above.get(SERVICE, "default", "kubernetes").await?;
    let other = B.get().await?;
    let others = above
        .get(SERVICE, &other.control_plane_namespace(), "kubernetes")
        .await?;
    let nodes = above.list(NODE, "", "").await?;
    let address = items(&nodes[0], "/status/addresses")
        .iter()
        .find(|address| address["type"] == "InternalIP")
        .context("a node has an address")?;
    Ok(vec![
        (text(&kubernetes, "/spec/clusterIP").to_owned(), 443),
        (text(&others, "/spec/clusterIP").to_owned(), 443),
        ("169.254.169.254".into(), 80),
        (text(address, "/address").to_owned(), 10250),
        ("127.0.0.1".into(), 8080),
    ])
}

#[test]
fn t28_webhooks_by_url_lead_nowhere() {
    within(A, "t28", async |space| {
        let mut places = forbidden(space).await?;
        places.push(("metadata.google.internal".into(), 443));
        places.push(("kubernetes.default.svc.cluster.local".into(), 6443));
        for (host, port) in places {
            let url = format!("https://{host}:{port}/");
            let said = refused_by(space, json!({"url": url})).await?;
            ensure!(said.contains(REFUSED), "{url}: {said}");
        }
        Ok(())
    });
}

/// The API server itself proxies to addresses of pods alone; for webhooks and aggregated servers it follows whatever a
/// Service names.
#[test]
fn t29_services_that_name_other_places_lead_nowhere() {
    within(A, "t29", async |space| {
        let mut places = forbidden(space).await?;
        places.push(("kubernetes.default.svc.cluster.local".into(), 443));
        for (number, (host, port)) in places.into_iter().enumerate() {
            let service = format!("evil-{number}");
            let spec = json!({"type": "ExternalName", "externalName": host});
            let metadata = json!({"name": service});
            space
                .create(SERVICE, json!({"metadata": metadata, "spec": spec}))
                .await?;
            let client =
                json!({"service": {"namespace": space.name, "name": service, "port": port}});
            let said = refused_by(space, client).await?;
            ensure!(said.contains(REFUSED), "{host}:{port}: {said}");
        }
        Ok(())
    });
}

/// In a tenant of its own: an APIService that leads nowhere holds up the end of all its namespaces.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t29_api_services_lead_nowhere_else() {
    run(async || {
        let called = make::unique("t29");
        e2e::tenant::Tenant::within(&called, json!({}), async |tenant| {
            aggregates(&Space::open(tenant.clone(), "t29").await?).await
        })
        .await
    });
}

async fn aggregates(space: &Space) -> anyhow::Result<()> {
    let places = forbidden(space).await?;
    let (super_api, port) = &places[0];
    // A Service without a selector, and a slice that names the super API server.
    let ports = json!([{"name": "https", "port": port}]);
    let metadata = json!({"name": "slice"});
    space
        .create(
            SERVICE,
            json!({"metadata": metadata, "spec": {"ports": ports}}),
        )
        .await?;
    let slice = json!({
        "metadata": {"name": "slice-1", "labels": {"kubernetes.io/service-name": "slice"}},
        "addressType": "IPv4", "ports": ports,
        "endpoints": [{"addresses": [super_api], "conditions": {"ready": true}}],
    });
    space.create(ENDPOINT_SLICE, slice).await?;
    let mut services = vec![("slice".to_owned(), *port)];
    let names = [
        super_api.as_str(),
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    for (number, host) in names.into_iter().enumerate() {
        let service = format!("name-{number}");
        let spec = json!({"type": "ExternalName", "externalName": host, "ports": ports});
        let metadata = json!({"name": service});
        space
            .create(SERVICE, json!({"metadata": metadata, "spec": spec}))
            .await?;
        services.push((service, *port));
    }
    for (service, port) in services {
        let group = format!("{service}.example.com");
        let object = json!({
            "metadata": {"name": format!("v1.{group}")},
            "spec": {
                "group": group, "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
                "insecureSkipTLSVerify": true,
                "service": {"namespace": space.name, "name": service, "port": port},
            },
        });
        let object = space.side().create(API_SERVICE, object).await?;
        let why = eventually(PODS, "it is found unavailable", async || {
            let seen = space.side().get(API_SERVICE, "", name(&object)).await?;
            ensure!(condition(&seen, "Available") == "False", "{seen}");
            Ok(seen["status"].to_string())
        })
        .await?;
        ensure!(
            service == "slice" || why.contains(REFUSED),
            "{service}: {why}"
        );
        // Whatever answered there would answer with a code of its own.
        for path in [
            "v1",
            "v1/namespaces",
            "v1/redirect?location=https://10.96.0.1/",
        ] {
            let answer = space.side().text(&format!("/apis/{group}/{path}")).await;
            let code = answer.as_ref().map_or_else(|problem| problem.code, |_| 200);
            ensure!(code == 503, "{service} {path}: {answer:?}");
        }
    }
    let slices = space.above().list(ENDPOINT_SLICE, &space.twin, "").await?;
    for slice in &slices {
        let text = slice["endpoints"].to_string();
        ensure!(!text.contains(super_api), "{slice}");
    }
    Ok(())
}

/// In a tenant of its own: all others use their nodes.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t30_an_edited_node_leads_nowhere_and_is_put_right() {
    run(async || {
        let called = make::unique("t30");
        let tenant = e2e::tenant::Tenant::make(&called, json!({})).await?;
        let result = async { edits_nodes(&Space::open(tenant.clone(), "t30").await?).await }.await;
        tenant.delete().await?;
        result
    });
}

async fn edits_nodes(space: &Space) -> anyhow::Result<()> {
    shell(space).await?;
    let pod = space.get(e2e::kind::POD, "web").await?;
    let node = text(&pod, "/spec/nodeName");
    let (super_api, _) = forbidden(space).await?.swap_remove(0);
    let edits = [
        json!({"addresses": [{"type": "Hostname", "address": super_api}], "daemonEndpoints": {"kubeletEndpoint": {"Port": 443}}}),
        json!({"addresses": [{"type": "Hostname", "address": "kubernetes.default.svc"}]}),
        json!({"addresses": [{"type": "InternalDNS", "address": super_api}], "daemonEndpoints": {"kubeletEndpoint": {"Port": 443}}}),
        json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": 6443}}}),
    ];
    let logs = format!("/api/v1/namespaces/{}/pods/web/log", space.name);
    for edit in edits {
        space.side().merge_status(NODE, "", node, edit).await?;
        // Either it is refused, or the syncer was quicker; another's answer it never is.
        match space.side().text(&logs).await {
            Ok(said) => ensure!(said == "secret\n", "{said}"),
            Err(problem) => ensure!(problem.message.contains("proxy error"), "{problem}"),
        }
        eventually(SOON, "the node is put right", async || {
            let seen = space.side().get(NODE, "", node).await?;
            let address = text(&seen, "/status/addresses/0/address");
            ensure!(address == tenancy::naming::node_host(node), "{address}");
            let port = seen.pointer("/status/daemonEndpoints/kubeletEndpoint/Port");
            ensure!(port == Some(&json!(10250)), "{port:?}");
            ensure!(space.side().text(&logs).await? == "secret\n");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[test]
fn t31_a_virtual_node_tells_nothing_of_the_whole_node() {
    within(A, "t31", async |space| {
        shell(space).await?;
        let pod = space.get(e2e::kind::POD, "web").await?;
        let node = text(&pod, "/spec/nodeName");
        let (out, own) = (
            WayOut::find(space.above()).await?,
            Identity::of_api_server(&space.tenant).await?,
        );
        let get = async |path: &str| {
            let head = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            out.kubelet_of(&own, &own, node, &head).await
        };
        ensure!(get("healthz").await?.text.ends_with("ok"));
        // What it does tell is of the tenant's own pods; those of other tests end between one list and the other.
        seldom(SOON, "all that it tells of is the tenant's", async || {
            let own = space.side().list(e2e::kind::POD, "", "").await?;
            let own: Vec<&str> = own.iter().map(e2e::read::uid).collect();
            let answer = get("pods").await?;
            let list: Value = serde_json::from_str(answer.body()).context(answer.text.clone())?;
            let told = items(&list, "/items");
            let is_it = |told: &Value| e2e::read::uid(told) == e2e::read::uid(&pod);
            ensure!(told.iter().any(is_it), "{list}");
            for told in told {
                ensure!(own.contains(&e2e::read::uid(told)), "{told}");
            }
            Ok(())
        })
        .await?;
        for path in [
            "runningpods/",
            "metrics",
            "metrics/cadvisor",
            "logs/",
            "configz",
            "run/default/web/main",
            "checkpoint/default/web/main",
            "debug/pprof/cmdline",
        ] {
            let answer = get(path).await?;
            ensure!(answer.code == 403, "{path}: {answer:?}");
            let proxy = format!("/api/v1/nodes/{node}/proxy/{path}");
            let said = space.side().text(&proxy).await;
            ensure!(said.is_err(), "{path}: {said:?}");
        }
        // The kubelet itself tells of everybody's, to whoever may ask it.
        let all = format!("/api/v1/nodes/{node}/proxy/pods");
        let all: Value = serde_json::from_str(&space.above().text(&all).await?)?;
        let others = items(&all, "/items")
            .iter()
            .filter(|pod| label(pod, keys::TENANT) != Some(space.tenant.id.as_str()));
        ensure!(others.count() > 0, "no pod of anybody else runs there");
        // And the proxy couldn't ask for it.
        for (verb, resource, subresource) in [
            ("get", "nodes", "proxy"),
            ("create", "nodes", "proxy"),
            ("get", "nodes", ""),
            ("create", "pods", "exec"),
            ("get", "secrets", ""),
        ] {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": {
                    "user": format!("system:serviceaccount:{}:{}", api::SYSTEM_NAMESPACE, keys::PROXY),
                    "resourceAttributes": {"verb": verb, "resource": resource, "subresource": subresource, "namespace": "kube-system"},
                },
            });
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            let answer = space
                .above()
                .request(http::Method::POST, path, Some(review))
                .await?;
            ensure!(
                answer["status"]["allowed"] != true,
                "{verb} {resource}/{subresource}"
            );
        }
        Ok(())
    });
}

#[test]
fn t32_no_path_leads_to_another_tenants_pod() {
    within(A, "t32", async |a| {
        let b = Space::open(B.get().await?.clone(), &a.name).await?;
        let result = async {
            shell(&b).await?;
            let (ns, twin) = (&b.name, &b.twin);
            let pod = b.get(e2e::kind::POD, "web").await?;
            let (out, own) = (WayOut::find(a.above()).await?, Identity::of_api_server(&a.tenant).await?);
            for path in [
                format!("/containerLogs/{ns}/web/main"),
                format!("/containerLogs/{twin}/web/main"),
                format!("/containerLogs/kube-system/../{ns}/web/main"),
                format!("/containerLogs/..%2f{twin}/web/main"),
                format!("/containerLogs//{twin}/web/main"),
                format!("//containerLogs/{twin}/web/main"),
                format!("/containerLogs/{}/WEB/main", ns.to_uppercase()),
                format!("/containerLogs/{ns}/web/main%2f..%2fmain"),
                format!("/exec/{ns}/web/main?command=id&output=1"),
                format!("/exec/{twin}/web/main?command=id&output=1"),
                format!("/portForward/{twin}/web?port=80"),
                format!("/attach/{ns}/web/{}/main?output=1", e2e::read::uid(&pod)),
            ] {
                for upgrade in ["SPDY/3.1", "websocket"] {
                    let head = format!(
                        "GET {path} HTTP/1.1\r\nHost: {twin}\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\
                         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                    );
                    let answer = out.kubelet(&own, &own, &head.replace("Upgrade\r\n", "close\r\n")).await?;
                    ensure!(
                        matches!(answer.code, 400 | 403 | 404) && !answer.text.contains("secret"),
                        "{path}: {answer:?}"
                    );
                }
            }
            streams_stay_inside(&out, &own, &b, &pod).await?;
            // The super cluster gives it to whoever may ask there.
            let path = format!("/api/v1/namespaces/{twin}/pods/web/log?container=main");
            let log = a.above().text(&path).await?;
            ensure!(log.contains("secret"), "{log}");
            // The owner gets it by the same plain path.
            let theirs = Identity::of_api_server(&b.tenant).await?;
            let head = format!("GET /containerLogs/{ns}/web/main HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = out.kubelet(&theirs, &theirs, &head).await?;
            ensure!(answer.code == 200 && answer.text.contains("secret"), "{answer:?}");
            // And streams, asked for in the very form that leads to none from outside.
            for (kind, head) in UPGRADES {
                for path in streams(ns, &pod) {
                    let answer = out.stream(&theirs, &upgrade(kind, &path, head)).await?;
                    ensure!(answer.code == 101, "{path} by {kind}: {answer:?}");
                }
            }
            Ok(())
        }
        .await;
        b.side().delete(NAMESPACE, "", &b.name).await?;
        result
    });
}

/// How streams are asked for: the method, and the headers of the upgrade.
const UPGRADES: [(&str, &str); 2] = [
    (
        "POST",
        "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n",
    ),
    (
        "GET",
        "Upgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n",
    ),
];

/// The head of a request for a stream, as a client sends it.
fn upgrade(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{headers}\r\n")
}

/// Paths by which a kubelet gives streams of the pod `web`.
fn streams(namespace: &str, pod: &Value) -> [String; 3] {
    let uid = e2e::read::uid(pod);
    [
        format!("/exec/{namespace}/web/main?command=id&output=1"),
        format!("/exec/{namespace}/web/{uid}/main?command=id&output=1"),
        format!("/attach/{namespace}/web/{uid}/main?output=1"),
    ]
}

/// T32: a real upgrade that names tenant B's pod, as itself or as its twin, becomes no stream.
async fn streams_stay_inside(
    out: &WayOut,
    own: &Identity,
    b: &Space,
    pod: &Value,
) -> anyhow::Result<()> {
    let twin = b.twin(e2e::kind::POD, "web").await?;
    let mut paths = vec![
        format!("/portForward/{}/web", b.name),
        format!("/portForward/{}/web", b.twin),
        format!("/exec/..%2f{}/web/main?command=id&output=1", b.twin),
    ];
    for (namespace, pod) in [
        (&b.name, pod),
        (&b.twin, pod),
        (&b.name, &twin),
        (&b.twin, &twin),
    ] {
        paths.extend(streams(namespace, pod));
    }
    for (kind, head) in UPGRADES {
        for path in &paths {
            let answer = out.stream(own, &upgrade(kind, path, head)).await?;
            ensure!(
                matches!(answer.code, 400 | 403 | 404),
                "{path} by {kind}: {answer:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn t33_headers_and_framing_change_nothing() {
    within(A, "t33", async |space| {
        shell(space).await?;
        let (out, own) = (
            WayOut::find(space.above()).await?,
            Identity::of_api_server(&space.tenant).await?,
        );
        let other = B.get().await?;
        let path = format!("/containerLogs/{}/web/main", other.twin(&space.name));
        let identities = format!(
            "X-Remote-User: system:admin\r\nX-Remote-Group: system:masters\r\nImpersonate-User: system:admin\r\n\
             Authorization: Bearer \r\nX-Forwarded-For: 127.0.0.1\r\nX-Sublet-Tenant: {}\r\nConnection: close, X-Remote-User\r\n",
            other.id
        );
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{identities}\r\n");
        let answer = out.kubelet(&own, &own, &head).await?;
        ensure!(answer.code == 404, "{answer:?}");
        let exec = format!("/exec/{}/web/main?command=id&output=1", space.name);
        for (framing, code) in [
            ("Upgrade: SPDY/3.1\r\nUpgrade: websocket\r\n", 400),
            ("Upgrade: SPDY/3.1\r\nContent-Length: 5\r\n", 400),
            (
                "Upgrade: SPDY/3.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                400,
            ),
            ("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", 400),
            ("Content-Length: 1\r\nContent-Length: 2\r\n", 400),
        ] {
            let head =
                format!("POST {exec} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{framing}\r\n");
            let answer = out.kubelet(&own, &own, &head).await?;
            ensure!(answer.code == code, "{framing:?}: {answer:?}");
        }
        // The way out itself: anything but a plain CONNECT to an authority, and HTTP/2 in the middle of it.
        for (head, codes) in [
            (
                "GET http://10.96.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n",
                &[405][..],
            ),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                &[405],
            ),
            (
                "CONNECT 10.96.0.1:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd",
                &[405],
            ),
            (
                "CONNECT user@10.96.0.1:443 HTTP/1.1\r\nHost: x\r\n\r\n",
                &[400, 405],
            ),
            ("CONNECT 10.96.0.1 HTTP/1.1\r\nHost: x\r\n\r\n", &[400, 405]),
            (
                "CONNECT http://10.96.0.1:443/ HTTP/1.1\r\nHost: x\r\n\r\n",
                &[400, 403, 405],
            ),
            (
                "CONNECT 10.96.0.1:443 HTTP/1.1\r\nHost: kubernetes\r\nX-Remote-User: a\r\n\r\n",
                &[403],
            ),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 505]),
        ] {
            let mut stream = out.connect(Some(&own)).await?;
            // Closed without a word is as good.
            let code = ask(&mut stream, head).await.map_or(0, |answer| answer.code);
            ensure!(code == 0 || codes.contains(&code), "{head:?}: {code}");
        }
        Ok(())
    });
}

#[test]
fn t34_stolen_certificates_are_worth_nothing_at_the_way_out() {
    run(async || {
        let (a, b) = (A.get().await?, B.get().await?);
        let out = WayOut::find(&a.above).await?;
        let (of_a, of_b) = (
            Identity::of_api_server(a).await?,
            Identity::of_api_server(b).await?,
        );
        let line = "CONNECT n.nodes.sublet.internal:10250 HTTP/1.1\r\nHost: x\r\n\r\n";
        // A tenant's admin, whom the tenant's own authority signed for, and nobody at all.
        let admin = Identity::of_admin(a)?;
        for (who, identity) in [("the tenant's admin", Some(&admin)), ("nobody", None)] {
            let outcome = match out.connect(identity).await {
                Ok(mut stream) => ask(&mut stream, line).await.map(|answer| answer.code),
                Err(error) => Err(error),
            };
            ensure!(outcome.is_err(), "{who} was answered with {outcome:?}");
        }
        // One tenant's API server inside another's tunnel.
        let head = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        ensure!(out.kubelet(&of_a, &of_a, head).await?.code == 200);
        let mixed = out.kubelet(&of_a, &of_b, head).await;
        ensure!(mixed.is_err(), "{mixed:?}");
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t34_credentials_end_with_the_tenant() {
    run(async || {
        let called = make::unique("gone");
        let tenant = e2e::tenant::Tenant::make(&called, json!({})).await?;
        let out = WayOut::find(&tenant.above).await?;
        let identity = Identity::of_api_server(&tenant).await?;
        let head = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        ensure!(out.kubelet(&identity, &identity, head).await?.code == 200);
        tenant.delete().await?;
        eventually(PODS, "its certificate is refused", async || {
            let answer = out.kubelet(&identity, &identity, head).await;
            ensure!(answer.is_err(), "{answer:?}");
            Ok(())
        })
        .await?;
        let maps = e2e::kind::CONFIG_MAP;
        let routes = tenant
            .above
            .list(
                maps,
                api::SYSTEM_NAMESPACE,
                &format!("{}=route", keys::ROLE),
            )
            .await?;
        let left: Vec<&Value> = routes
            .iter()
            .filter(|route| label(route, keys::TENANT) == Some(tenant.id.as_str()))
            .collect();
        ensure!(
            left.is_empty(),
            "{:?}",
            left.iter().map(|route| name(route)).collect::<Vec<_>>()
        );
        Ok(())
    });
}
