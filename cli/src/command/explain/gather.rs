//! Asks both API servers about one object.

use super::{
    left_out, need,
    verdict::{Facts, Flow, Held, Hints, NamespaceState, Side, Twin},
};
use crate::{
    cluster::Cluster,
    command::whose::place,
    condition::{self, State},
    discovery::{Kind, Kinds},
    error, event,
    object_ref::ObjectRef,
    owner, pod,
    quota::{self, Limit},
    tenant,
};
use anyhow::Result;
use api::{ControlPlaneClass, CustomResource, Direction, VirtualControlPlane, keys};
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
};
use std::time::Duration;
use tenancy::{
    kind::{self, KINDS, SuperWatch},
    naming,
    object::Object,
    quota::{amount::Amounts, demand},
    tenant::TenantId,
};

/// How long the tenant's API server may take before only the other side is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// Objects that are asked for at once: of a large tenant's pods all together would be too much for an answer.
const PAGE: u32 = 500;

/// All that the verdict is made from.
pub(super) async fn facts(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    asked: &ObjectRef,
) -> Result<Facts> {
    let tenant_name = vcp.name_any();
    let (id, identity) = identity(cluster, vcp)?;
    let inside = open(cluster, vcp).await?;
    let kinds = match &inside {
        Some((_, kinds)) => kinds.clone(),
        None => Kinds::load(&cluster.client).await?,
    };
    let kind = kinds.find(&asked.kind)?;
    let namespace = place(asked, kind.namespaced, "default")?;
    let name = asked.name.as_str();
    let flow = match (kind.resource.kind.as_str(), namespace, name) {
        ("Service", Some("default"), "kubernetes") => Flow::ControlPlane,
        _ => flow(cluster, vcp, kind).await?,
    };

    let client = inside.as_ref().map(|(client, _)| client);
    let object = match client {
        Some(client) => kind.api(client, namespace).get_opt(name).await?,
        None => None,
    };
    let expected = expected_twin((&id, &tenant_name), kind, namespace, name, &flow);
    let twin = find_twin(&cluster.client, kind, &expected, &id, name, &flow).await?;
    let (super_namespace, super_name) = match &twin {
        Some(twin) => (twin.namespace().unwrap_or(expected.0), twin.name_any()),
        None => expected,
    };
    let asks = match flow {
        Flow::Down => asks(kind, twin.as_ref().or(object.as_ref()))?,
        _ => Amounts::new(),
    };
    let limits = limits(cluster, vcp, &asks).await?;
    let left_out = match (&flow, &object, &twin) {
        // No label of a namespace crosses, and all is well without.
        (Flow::Down, Some(object), Some(twin)) if namespace.is_some() => left_out::of(object, twin),
        _ => vec![],
    };

    Ok(Facts {
        kind: kind.resource.kind.clone(),
        tenant: side(
            namespace.unwrap_or_default(),
            name,
            inside.is_some(),
            object.as_ref(),
        ),
        place: match namespace {
            Some(_) if flow != Flow::ControlPlane => {
                place_state(&cluster.client, &super_namespace, &identity).await?
            }
            Some(_) | None => NamespaceState::NotNeeded,
        },
        flow,
        super_side: side(&super_namespace, &super_name, true, twin.as_ref()),
        need: match (client, namespace) {
            (Some(client), Some(namespace)) => {
                need::of(cluster, client, vcp, kind, (namespace, name)).await?
            }
            _ => None,
        },
        paused: vcp.spec.paused,
        without_kubelet: kind.resource.kind == "Pod" && has_no_way_out(vcp),
        trouble: trouble(vcp, kind),
        held: held(vcp),
        hints: hints(cluster, &tenant_name),
        events: match client {
            Some(client) => {
                let uid = object.as_ref().and_then(ResourceExt::uid);
                let namespace = namespace.unwrap_or("default");
                told(client, kind, namespace, name, uid.as_deref()).await?
            }
            None => vec![],
        },
        identity,
        tenant_name,
        left_out,
        limits,
        asks,
    })
}

/// The tenant's identity, parsed and as it is written.
fn identity(cluster: &Cluster, vcp: &VirtualControlPlane) -> Result<(TenantId, String)> {
    let Some(identity) = vcp.spec.identity.clone() else {
        return Err(error::fail(format!(
            "{} has no identity yet: the manager hasn't taken it up; see `{}`",
            vcp.name_any(),
            cluster.hint("doctor")
        )));
    };
    let id = TenantId::parse(&identity).map_err(|err| error::fail(err.to_string()))?;
    Ok((id, identity))
}

/// Namespace and name that an object of the tenant has in the super cluster; no namespace if it needs none there.
fn expected_twin(
    (id, tenant_name): (&TenantId, &str),
    kind: &Kind,
    namespace: Option<&str>,
    name: &str,
    flow: &Flow,
) -> (String, String) {
    let in_super = |namespace| naming::super_namespace(id, tenant_name, namespace);
    match (namespace, kind.resource.kind.as_str()) {
        (Some(_), _) if *flow == Flow::ControlPlane => (
            naming::control_plane_namespace(id, tenant_name),
            name.to_owned(),
        ),
        (Some(namespace), _) => (in_super(namespace), name.to_owned()),
        (None, "Namespace") => (String::new(), in_super(name)),
        (None, _) => (String::new(), name.to_owned()),
    }
}

/// The limits on what the object asks for.
async fn limits(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    asks: &Amounts,
) -> Result<Vec<Limit>> {
    if asks.is_empty() {
        return Ok(vec![]);
    }
    let groups = quota::groups(cluster, vcp).await?.unwrap_or_default();
    let mut limits = quota::limits(vcp, &groups);
    limits.retain(|limit| asks.contains_key(&limit.name));
    Ok(limits)
}

/// Whether an API server outside doesn't reach the tenant's pods.
fn has_no_way_out(vcp: &VirtualControlPlane) -> bool {
    let external = vcp.spec.external.as_ref();
    external.is_some_and(|external| external.way_out.is_none())
}

/// Command lines that lead on.
fn hints(cluster: &Cluster, tenant_name: &str) -> Hints {
    Hints {
        describe: cluster.hint(&format!("describe {tenant_name}")),
        doctor: cluster.hint("doctor"),
        resume: cluster.hint(&format!("resume {tenant_name}")),
        breaker: cluster.hint(&format!("breaker show {tenant_name}")),
    }
}

/// What an object takes of quotas, or would.
fn asks(kind: &Kind, object: Option<&DynamicObject>) -> Result<Amounts> {
    let (Some(known), Some(object)) = (known(kind), object) else {
        return Ok(Amounts::new());
    };
    let object = Object::from_value(serde_json::to_value(object)?);
    Ok(object.map_or_else(
        |_| Amounts::new(),
        |object| demand::of(known.resource(), &object),
    ))
}

/// What the syncer says about the tenant as a whole, unless all is well with objects of that kind.
fn trouble(vcp: &VirtualControlPlane, kind: &Kind) -> Option<String> {
    let Some(condition) = condition::find(vcp, "Synced") else {
        return Some("the syncer hasn't taken up this tenant yet".to_owned());
    };
    // Of custom resources it names those that it has no room for.
    let name = format!("{}.{}", kind.resource.plural, kind.resource.group);
    let is_named = || {
        let words = condition.message.split([' ', ',', ':']);
        words.into_iter().any(|word| word == name)
    };
    (condition.status != "True" || is_named())
        .then(|| format!("the syncer says: {}", error::one_line(&condition.message)))
}

/// Why deletions are held, if they are.
fn held(vcp: &VirtualControlPlane) -> Option<Held> {
    let condition = condition::find(vcp, "DeletionsHeld")?;
    (condition.status == "True").then(|| Held {
        reason: condition.reason.clone(),
        message: error::one_line(&condition.message),
    })
}

/// A client of the tenant and what it serves; `None` when its API server doesn't answer.
async fn open(cluster: &Cluster, vcp: &VirtualControlPlane) -> Result<Option<(Client, Kinds)>> {
    let access = tenant::access(cluster, vcp).await?;
    if let State::Asleep(_) = condition::state(vcp) {
        // The other side is there all the same.
        let wake = cluster.hint(&format!("wake {}", vcp.name_any()));
        tell!("warning: the tenant sleeps, so its API server isn't asked; `{wake}` wakes it");
        return Ok(None);
    }
    let client = tenant::client(cluster, vcp, &access).await?;
    let why = match tokio::time::timeout(PATIENCE, Kinds::load(&client)).await {
        Ok(Ok(kinds)) => return Ok(Some((client, kinds))),
        Ok(Err(err)) => error::reason(&err),
        Err(_) => "it doesn't answer".to_owned(),
    };
    let look = cluster.hint(&format!("describe {}", vcp.name_any()));
    tell!("warning: {}", out_of_reach(&access.server, &why, &look));
    Ok(None)
}

/// The caller's kubeconfig has nothing to do with it: it leads to the super cluster.
fn out_of_reach(server: &str, why: &str, look: &str) -> String {
    format!("the tenant's API server at {server} can't be reached: {why}; see `{look}`")
}

/// Which way a kind crosses: as the table says, or for a custom resource as the tenant's class does.
async fn flow(cluster: &Cluster, vcp: &VirtualControlPlane, kind: &Kind) -> Result<Flow> {
    if let Some(flow) = table_flow(kind) {
        return Ok(flow);
    }
    let class = class(cluster, vcp).await?;
    let offered = class.map(|class| class.spec.custom_resources);
    let name = format!("{}.{}", kind.resource.plural, kind.resource.group);
    let named = &vcp.spec.sync.custom_resources;
    Ok(custom_flow(&name, &offered.unwrap_or_default(), named))
}

/// The tenant's class.
pub(super) async fn class(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
) -> Result<Option<ControlPlaneClass>> {
    let api: Api<ControlPlaneClass> = Api::all(cluster.client.clone());
    Ok(api.get_opt(&vcp.spec.class_name).await?)
}

fn table_flow(kind: &Kind) -> Option<Flow> {
    let known = known(kind)?;
    Some(if known.goes_down() {
        Flow::Down
    } else {
        Flow::Up
    })
}

/// Which way a custom resource crosses, of those that the class offers and the VirtualControlPlane names.
fn custom_flow(name: &str, offered: &[CustomResource], named: &[String]) -> Flow {
    match offered.iter().find(|offer| offer.name == name) {
        None => Flow::Stays,
        Some(_) if !named.iter().any(|wanted| wanted == name) => Flow::Unasked(name.to_owned()),
        Some(offer) => match offer.direction {
            Direction::ToSuper => Flow::Down,
            Direction::FromSuper => Flow::Up,
        },
    }
}

/// The super object of the expected name, or the one whose marks name the tenant's object: a few have another name there.
async fn find_twin(
    client: &Client,
    kind: &Kind,
    (namespace, name): &(String, String),
    id: &TenantId,
    tenant_name: &str,
    flow: &Flow,
) -> Result<Option<DynamicObject>> {
    if is_published_from_anywhere(kind) {
        let named = ListParams::default().fields(&format!("metadata.name={name}"));
        let found = served(kind.api(client, None).list(&named).await)?;
        return Ok(found.and_then(|found| found.items.into_iter().next()));
    }
    let namespace = Some(namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let api = kind.api(client, namespace);
    let Some(named) = served(api.get_opt(name).await)? else {
        return Ok(None);
    };
    let is_ours = |object: &DynamicObject| {
        owner::marks(&object.metadata)
            .is_some_and(|marks| marks.tenant == id.as_str() && marks.name == tenant_name)
    };
    if *flow != Flow::Down || named.as_ref().is_some_and(is_ours) {
        return Ok(named);
    }
    let owned = ListParams::default().labels(&format!("{}={id}", keys::TENANT));
    let mut renamed = None;
    each(&api, owned, |object| {
        if is_ours(&object) {
            renamed.get_or_insert(object);
        }
        Ok(())
    })
    .await?;
    Ok(renamed.or(named))
}

/// Looks at all objects of a list, page by page; of a kind that isn't served there are none.
pub(super) async fn each(
    api: &Api<DynamicObject>,
    params: ListParams,
    mut look: impl FnMut(DynamicObject) -> Result<()>,
) -> Result<()> {
    let mut params = params.limit(PAGE);
    while let Some(page) = served(api.list(&params).await)? {
        for object in page.items {
            look(object)?;
        }
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => break,
        }
    }
    Ok(())
}

/// What an API server answers that may lack the kind.
fn served<T>(answer: kube::Result<T>) -> kube::Result<Option<T>> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        other => other.map(Some),
    }
}

/// Whether objects of the kind are shown in one namespace, whichever they are in in the super cluster (CSIStorageCapacity).
fn is_published_from_anywhere(kind: &Kind) -> bool {
    let published = known(kind).filter(|rule| rule.super_watch() == SuperWatch::Published);
    published.is_some_and(|rule| rule.resource().namespaced)
}

/// The kind of the table, if it is one.
fn known(kind: &Kind) -> Option<&'static dyn kind::Kind> {
    let mut all = KINDS.iter().copied();
    all.find(|known| {
        let resource = known.resource();
        resource.kind == kind.resource.kind && resource.group == kind.resource.group
    })
}

async fn place_state(client: &Client, namespace: &str, identity: &str) -> Result<NamespaceState> {
    let api: Api<Namespace> = Api::all(client.clone());
    let Some(found) = api.get_opt(namespace).await? else {
        return Ok(NamespaceState::Missing);
    };
    if owner::marks(&found.metadata).is_none_or(|marks| marks.tenant != identity) {
        return Ok(NamespaceState::Foreign);
    }
    Ok(if found.metadata.deletion_timestamp.is_some() {
        NamespaceState::Deleting
    } else {
        NamespaceState::Ready
    })
}

/// What the syncer told the tenant about this object, not about an earlier one of its name.
async fn told(
    client: &Client,
    kind: &Kind,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Vec<Event>> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut events = event::list(&api, &event::about(&kind.resource.kind, name)).await?;
    events.retain(|event| event::reporter(event) == "sublet-syncer");
    events.retain(|event| {
        uid.is_none_or(|uid| {
            event
                .involved_object
                .uid
                .as_deref()
                .is_none_or(|about| about == uid)
        })
    });
    Ok(events)
}

fn side(namespace: &str, name: &str, reachable: bool, object: Option<&DynamicObject>) -> Side {
    Side {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        reachable,
        object: object.map(twin),
    }
}

fn twin(object: &DynamicObject) -> Twin {
    let pod = object
        .types
        .as_ref()
        .filter(|types| types.kind == "Pod")
        .and_then(|_| serde_json::from_value::<Pod>(serde_json::to_value(object).ok()?).ok());
    let deleting = object.metadata.deletion_timestamp.is_some();
    let (state, why) = match &pod {
        Some(found) => {
            let node = found.spec.as_ref().and_then(|spec| spec.node_name.clone());
            let state = pod::state(found);
            (
                node.map_or(state.clone(), |node| format!("{state} on {node}")),
                pod::why(found),
            )
        }
        None if deleting => ("Terminating".to_owned(), None),
        None => (state(object), None),
    };
    Twin {
        uid: object.uid().unwrap_or_default(),
        state,
        why,
        created: object.metadata.creation_timestamp.clone(),
        deleting,
        marks: owner::marks(&object.metadata),
    }
}

/// A phase or an address where there is one.
fn state(object: &DynamicObject) -> String {
    let text = |pointer: &str| {
        object
            .data
            .pointer(pointer)
            .and_then(serde_json::Value::as_str)
    };
    text("/status/phase")
        .or_else(|| text("/spec/clusterIP"))
        .unwrap_or("exists")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::tests::sample;
    use serde_json::json;

    #[test]
    fn the_table_of_kinds_says_which_way_one_flows() {
        let kinds = sample();
        let flow = |word: &str| table_flow(kinds.find(word).unwrap());
        assert_eq!(
            (flow("pod"), flow("ns"), flow("deploy")),
            (Some(Flow::Down), Some(Flow::Down), None)
        );
        assert_eq!(
            (flow("ev"), flow("events.events.k8s.io")),
            (Some(Flow::Up), None)
        );
    }

    #[tokio::test]
    async fn a_long_list_is_asked_for_page_by_page() {
        let service = tower::service_fn(|request: http::Request<kube::client::Body>| {
            let query = request.uri().query().unwrap_or_default();
            assert!(query.contains("limit=500"), "{query}");
            let (name, next) = if query.contains("continue=more") {
                ("b", "")
            } else {
                ("a", "more")
            };
            let item = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}});
            let list = json!({
                "apiVersion": "v1", "kind": "PodList", "metadata": {"continue": next}, "items": [item],
            });
            let body = kube::client::Body::from(list.to_string().into_bytes());
            async move { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
        });
        let client = Client::new(service, "default");
        let kinds = sample();
        let api = kinds.find("po").unwrap().api(&client, Some("work"));
        let mut names = vec![];
        let looked = each(&api, ListParams::default(), |object| {
            names.push(object.name_any());
            Ok(())
        });
        looked.await.unwrap();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_custom_resource_crosses_if_the_class_offers_it_and_the_tenant_names_it() {
        let offer = |direction: &str| -> CustomResource {
            let offer =
                json!({"name": "a.b", "version": "v1", "kind": "A", "direction": direction});
            serde_json::from_value(offer).unwrap()
        };
        let named = ["a.b".to_owned()];
        let flow = |offered: &[_], named: &[_]| custom_flow("a.b", offered, named);
        assert_eq!(flow(&[], &named), Flow::Stays);
        assert_eq!(flow(&[offer("ToSuper")], &[]), Flow::Unasked("a.b".into()));
        assert_eq!(flow(&[offer("ToSuper")], &named), Flow::Down);
        assert_eq!(flow(&[offer("FromSuper")], &named), Flow::Up);
    }

    #[test]
    fn what_the_syncer_says_concerns_a_kind_that_it_has_no_room_for() {
        let vcp = |status: &str, message: &str| -> VirtualControlPlane {
            let condition = json!({
                "type": "Synced", "status": status, "reason": "Watching", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            });
            serde_json::from_value(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": "a"}, "spec": {}, "status": {"conditions": [condition]},
            }))
            .unwrap()
        };
        let kinds = sample();
        let of = |vcp: &VirtualControlPlane, word: &str| trouble(vcp, kinds.find(word).unwrap());
        assert_eq!(of(&vcp("True", "all kinds are watched"), "deploy"), None);
        let full = vcp(
            "True",
            "all kinds are watched but deployments.apps: no room",
        );
        assert!(of(&full, "deploy").unwrap().contains("no room"));
        assert_eq!(of(&full, "pod"), None);
        assert!(
            of(&vcp("False", "broken"), "pod")
                .unwrap()
                .contains("broken")
        );
    }

    #[test]
    fn a_tenant_out_of_reach_is_no_fault_of_the_callers_kubeconfig() {
        assert_eq!(
            out_of_reach("https://k:443", "connection refused", "sublet describe a"),
            "the tenant's API server at https://k:443 can't be reached: connection refused; see `sublet describe a`"
        );
    }

    #[test]
    fn states_are_short() {
        let object = |value| serde_json::from_value::<DynamicObject>(value).unwrap();
        let running = object(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running"}}),
        );
        assert_eq!(twin(&running).state, "Running on n1");
        let service = object(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"clusterIP": "10.0.0.1"}}),
        );
        assert_eq!(twin(&service).state, "10.0.0.1");
        assert_eq!(
            twin(&object(
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
            ))
            .state,
            "exists"
        );
    }
}
