//! An API server that a test answers for, request by request.

use crate::{
    ceiling::Ceiling,
    client::Cluster,
    connect::{ResponseBody, Stack, arriving},
    engine::Engine,
    fleet::Fleet,
    metrics::Metrics,
    namespace_quota::Listed,
    pending::Room,
    rounds::Rounds,
    table::{SuperSide, Table},
    tenants::{Record, Tenant},
    term::Term,
};
use bytes::Bytes;
use futures::{FutureExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tenancy::{
    offer::Offers,
    pod_rules::PodRules,
    sharing::{Opened, Shared},
    tenant::{TenantId, TenantRules, Workload},
    to_super::Extent,
};
use tower::BoxError;
use tower_test::mock::{self, Handle, SendResponse};

/// How long a request may take to come.
const LIMIT: Duration = Duration::from_secs(5);

/// A cluster and the side that answers.
pub(crate) fn fake() -> (Cluster, Server) {
    let (stack, server) = line();
    (Cluster::of(stack), server)
}

/// A connection and the side that answers.
pub(crate) fn line() -> (Stack, Server) {
    let (service, handle) = mock::pair::<Request<Body>, Response<ResponseBody>>();
    let server = Server {
        handle,
        come: None,
        left: vec![],
    };
    (Stack::new(service), server)
}

/// An engine whose super cluster is `cluster`, as yet without a right to write.
pub(crate) fn engine(cluster: &Cluster) -> Engine {
    let rounds = Rounds::every(Duration::from_secs(300));
    Engine::new(
        cluster.clone(),
        Fleet::of_test(cluster),
        Metrics::new(),
        rounds,
        Duration::from_secs(60),
        Ceiling::of(usize::MAX),
    )
}

/// A tenant whose API is `cluster`.
pub(crate) fn tenant(cluster: &Cluster) -> Tenant {
    numbered_tenant(1, cluster)
}

/// One of several tenants.
pub(crate) fn numbered_tenant(number: u8, cluster: &Cluster) -> Tenant {
    let rules = TenantRules {
        id: TenantId::from_bits([number; 16]),
        vcp_namespace: "tenants".into(),
        vcp_name: "acme".into(),
        slice: None,
        cluster_domain: "cluster.local".into(),
        resolver: tenancy::resolver::Resolver::default(),
        pod_security: api::PodSecurity::Baseline,
        pods: PodRules::default(),
        reach: tenancy::reach::Reach::default(),
        shared: Shared::default(),
        opened: Opened::default(),
        is_hosted: true,
        node_selector: BTreeMap::new(),
        node_affinity: vec![],
        nodes: api::ShownNodes::Selected,
        budgets: api::Budgets::Yielding,
        to_super: Extent::default(),
        group_labels: BTreeMap::new(),
        restore_counter: 0,
        quota: BTreeMap::new(),
        shared_quota: BTreeMap::new(),
        offers: Offers::default(),
        custom: vec![],
        workload: Workload::Runs,
    };
    let mut tenant = Tenant::new(
        rules,
        Record::default(),
        cluster.clone(),
        Arc::new(table_below(usize::MAX)),
        Arc::default(),
        Term::of_test(),
        &Room::of(usize::MAX / 2),
    );
    tenant.listed = Listed::spent();
    tenant.guard.let_pass();
    tenant
}

/// What is known of a tenant of whose objects no more is remembered than so many bytes.
pub(crate) fn table_below(bytes: usize) -> Table {
    Table::within(&Room::of(usize::MAX / 2), &Ceiling::of(bytes))
}

/// ConfigMaps go down without anything that refers to them.
pub(crate) fn all_config_maps() -> Extent {
    let all = api::ToSuper {
        resource: "configmaps".into(),
        objects: api::SyncObjects::All,
    };
    Extent::of(&[], &[all])
}

/// Everything of the tenant was listed.
pub(crate) fn list_all(tenant: &Tenant) {
    for kind in tenant.kinds() {
        tenant.gate.listed(kind, false);
    }
}

/// A super object that was made for the tenant's object `owner` and is as it was made.
pub(crate) fn super_side(uid: &str, owner: &str) -> SuperSide {
    SuperSide {
        uid: uid.into(),
        version: 9,
        owner_uid: owner.into(),
        applied: 1,
        state: 1,
        edition: 0,
        baseline: 1,
        ending: None,
        mirrored: 0,
        counter: 0,
        node: None,
    }
}

/// Answers requests in the order in which they come.
pub(crate) struct Server {
    handle: Handle<Request<Body>, Response<ResponseBody>>,
    /// One that was waited for.
    come: Option<(Request<Body>, SendResponse<Response<ResponseBody>>)>,
    /// Those that are never answered: without its end here, a request would fail.
    left: Vec<SendResponse<Response<ResponseBody>>>,
}

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

impl Server {
    /// Waits for the next request, which must have this method, and answers it.
    pub(crate) async fn answer(&mut self, method: &str, status: u16, answer: &Value) -> Received {
        let (received, send) = self.take(method).await;
        send.send_response(response(status, answer.to_string().into_bytes()));
        received
    }

    /// Waits for the next request and answers it as an API server answers for what it doesn't serve.
    pub(crate) async fn answer_plainly(&mut self, method: &str, status: u16) {
        self.answer_bytes(method, status, b"404 page not found\n".to_vec())
            .await;
    }

    /// Waits for the next request and answers it with these bytes.
    pub(crate) async fn answer_bytes(&mut self, method: &str, status: u16, bytes: Vec<u8>) {
        let (_, send) = self.take(method).await;
        send.send_response(response(status, bytes));
    }

    /// Waits for the next request and answers it by a redirect.
    pub(crate) async fn redirect(&mut self, method: &str, to: &str) {
        let (_, send) = self.take(method).await;
        let mut response = response(307, vec![]);
        let to = to.parse().unwrap();
        response.headers_mut().insert(http::header::LOCATION, to);
        send.send_response(response);
    }

    /// Waits for the next request and answers it by one byte in each second, for ever.
    pub(crate) async fn trickle(&mut self, method: &str, status: u16) {
        let (_, send) = self.take(method).await;
        let bytes = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let byte = Frame::data(Bytes::from_static(b" "));
            Some((Ok::<_, BoxError>(byte), ()))
        });
        let mut response = Response::new(arriving(StreamBody::new(bytes)));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        send.send_response(response);
    }

    /// Waits for the next request and leaves it without an answer.
    pub(crate) async fn leave(&mut self, method: &str) -> Received {
        let (received, send) = self.take(method).await;
        self.left.push(send);
        received
    }

    /// Waits for the next request and answers it with a body that never comes.
    pub(crate) async fn say_nothing(&mut self, method: &str) -> Received {
        let (received, send) = self.take(method).await;
        let silence = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>());
        send.send_response(Response::new(arriving(silence)));
        received
    }

    /// Waits, for however long, until a request comes; it is the next to be answered.
    pub(crate) async fn wait(&mut self) {
        self.come = self.handle.next_request().await;
    }

    /// The query of the request that was waited for.
    pub(crate) fn awaited(&self) -> &str {
        let come = self.come.as_ref();
        come.and_then(|(request, _)| request.uri().query())
            .unwrap_or_default()
    }

    /// The path of the request that was waited for.
    pub(crate) fn awaited_path(&self) -> &str {
        let come = self.come.as_ref();
        come.map_or("", |(request, _)| request.uri().path())
    }

    /// Whether a request came, without waiting for one.
    pub(crate) fn is_silent(&mut self) -> bool {
        let next = self.handle.next_request().now_or_never();
        next.flatten().is_none()
    }

    async fn take(&mut self, method: &str) -> (Received, SendResponse<Response<ResponseBody>>) {
        let (request, send) = match self.come.take() {
            Some(come) => come,
            None => {
                let next = tokio::time::timeout(LIMIT, self.handle.next_request()).await;
                next.expect("a request comes").expect("the client lives")
            }
        };
        assert_eq!(request.method().as_str(), method, "{}", request.uri());
        let (path, query) = (
            request.uri().path().to_owned(),
            request.uri().query().unwrap_or_default().to_owned(),
        );
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        let received = Received {
            path,
            query,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        };
        (received, send)
    }
}

fn response(status: u16, body: Vec<u8>) -> Response<ResponseBody> {
    let mut response = Response::new(arriving(Full::from(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    response
}
