//! A super cluster that is a function, for tests of commands.

use super::Cluster;
use crate::args::{Global, Program};
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// A cluster whose API server answers each request for a path with what `answer` says, and 404 for nothing.
pub(crate) fn answering(
    answer: impl Fn(&str) -> Option<Value> + Clone + Send + 'static,
) -> Cluster {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let path = request.uri().path();
        let name = path.rsplit('/').next().unwrap_or_default();
        let found = answer(path);
        let (code, body) = match found {
            Some(body) => (200, body),
            None => (
                404,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
                       "message": format!("{path} isn't there"), "details": {"name": name}}),
            ),
        };
        let response = http::Response::builder().status(code);
        let response = response.body(Body::from(body.to_string().into_bytes()));
        async move { response }
    });
    let client = Client::new(service, "default");
    Cluster {
        watching: client.clone(),
        client,
        url: "https://super.example.com".into(),
        namespace: "default".into(),
        program: Program::Sublet,
        global: Global::default(),
    }
}
