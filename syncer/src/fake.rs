//! An API server that a test answers for, request by request.

use crate::{
    client::Cluster,
    connect::{Stack, arriving},
    engine::Engine,
    fleet::Fleet,
    metrics::Metrics,
    patrol::Rounds,
    table::Table,
    tenants::{Record, Tenant},
    term::Term,
};
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tenancy::{
    offer::Offers,
    pod_rules::PodRules,
    sharing::{Opened, Shared},
    tenant::{Tenant as Rules, TenantId},
};
use tower::ServiceExt;
use tower_test::mock::{self, Handle};

/// How long a request may take to come.
const LIMIT: Duration = Duration::from_secs(5);

/// A cluster and the side that answers.
pub(crate) fn fake() -> (Cluster, Server) {
    let (stack, server) = line();
    (Cluster::of(stack), server)
}

/// A connection and the side that answers.
pub(crate) fn line() -> (Stack, Server) {
    let (service, handle) = mock::pair::<Request<Body>, Response<Body>>();
    let service = service.map_response(|response: Response<Body>| response.map(arriving));
    (Stack::new(service), Server(handle))
}

/// An engine whose super cluster is `cluster`, as yet without a right to write.
pub(crate) fn engine(cluster: &Cluster) -> Engine {
    let rounds = Rounds::every(Duration::from_secs(300));
    Engine::new(
        cluster.clone(),
        Fleet::of_test(cluster),
        Metrics::new(),
        rounds,
    )
}

/// A tenant whose API is `cluster`.
pub(crate) fn tenant(cluster: &Cluster) -> Tenant {
    numbered_tenant(1, cluster)
}

/// One of several tenants.
pub(crate) fn numbered_tenant(number: u8, cluster: &Cluster) -> Tenant {
    let rules = Rules {
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
        all_config_objects: false,
        group_labels: BTreeMap::new(),
        restore_counter: 0,
        quota: BTreeMap::new(),
        offers: Offers::default(),
        custom: vec![],
    };
    Tenant::new(
        rules,
        Record::default(),
        cluster.clone(),
        Arc::new(Table::default()),
        Arc::default(),
        Term::of_test(),
    )
}

/// Answers requests in the order in which they come.
pub(crate) struct Server(Handle<Request<Body>, Response<Body>>);

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
        let next = tokio::time::timeout(LIMIT, self.0.next_request()).await;
        let (request, send) = next.expect("a request comes").expect("the client lives");
        assert_eq!(request.method().as_str(), method, "{}", request.uri());
        let (path, query) = (
            request.uri().path().to_owned(),
            request.uri().query().unwrap_or_default().to_owned(),
        );
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        send.send_response(response);
        Received {
            path,
            query,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        }
    }

    /// Waits for the next request and answers it as an API server answers for what it doesn't serve.
    pub(crate) async fn answer_plainly(&mut self, method: &str, status: u16) {
        let next = tokio::time::timeout(LIMIT, self.0.next_request()).await;
        let (request, send) = next.expect("a request comes").expect("the client lives");
        assert_eq!(request.method().as_str(), method, "{}", request.uri());
        let mut response = Response::new(Body::from(b"404 page not found\n".to_vec()));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        send.send_response(response);
    }

    /// Whether a request came, without waiting for one.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.0.next_request().now_or_never().flatten().is_none()
    }
}
