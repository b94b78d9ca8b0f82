//! What a simulated API server answers to each request.

use super::{
    Shared,
    counts::Done,
    follow,
    kinds::SERVED,
    object::{Stored, Writer},
    patch,
    route::{Query, Route},
    store::{Preconditions, Refusal},
};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use std::{convert::Infallible, sync::Arc};

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers one request.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if path == "/metrics" {
        return Ok(plain(200, shared.counts.page()));
    }
    let Some(who) = token(&parts.headers) else {
        let refusal = Refusal::new(401, "Unauthorized", "Unauthorized".into());
        return Ok(refused(&refusal));
    };
    let Some(route) = Route::parse(path) else {
        shared.counts.gap(format!("{} {path}", parts.method));
        // Of what it doesn't serve a real one speaks in plain text.
        return Ok(plain(404, "404 page not found\n".into()));
    };
    let query = match Query::parse(parts.uri.query().unwrap_or_default()) {
        Ok(query) => query,
        Err(err) => {
            shared.counts.gap(format!("{} {}", parts.method, parts.uri));
            let refusal = Refusal::new(400, "BadRequest", err.to_string());
            return Ok(refused(&refusal));
        }
    };
    let verb = match (&parts.method, query.watch, route.name.is_empty()) {
        (&Method::GET, true, _) => "WATCH",
        (&Method::GET, false, true) => "LIST",
        (method, ..) => method.as_str(),
    };
    let plural = SERVED[route.kind].plural;
    shared.counts.asked(verb, plural, &route.subresource);
    if verb == "WATCH" {
        return Ok(watch(&shared, &route, query));
    }
    let bytes = body.collect().await?.to_bytes();
    let asked = Asked {
        route: &route,
        query: &query,
        headers: &parts.headers,
        body: &bytes,
        who: &who,
    };
    let result = asked.carry_out(&parts.method, &shared);
    if parts.method != Method::GET {
        shared.counts.wrote(|| Done {
            what: format!("{} {path}", parts.method),
            code: match &result {
                Ok((code, _)) => *code,
                Err(refusal) => refusal.code,
            },
        });
    }
    Ok(match result {
        Ok((code, bytes)) => with(code, bytes),
        Err(refusal) => {
            if refusal.code == 405 {
                shared.counts.gap(format!("{} {path}", parts.method));
            }
            refused(&refusal)
        }
    })
}

/// A request that isn't a watch.
struct Asked<'a> {
    route: &'a Route,
    query: &'a Query,
    headers: &'a HeaderMap,
    body: &'a Bytes,
    who: &'a str,
}

type Answered = Result<(u16, Bytes), Refusal>;

impl Asked<'_> {
    fn carry_out(&self, method: &Method, shared: &Shared) -> Answered {
        let subresource = self.route.subresource.as_str();
        let is_named = !self.route.name.is_empty();
        match (method.as_str(), is_named, subresource) {
            ("GET", true, "" | "status") => {
                let (kind, namespace, name) = self.place();
                let found = shared.store.lock().get(kind, namespace, name)?;
                Ok((200, found.bytes.clone()))
            }
            ("GET", false, _) => self.list(shared),
            ("POST", false, _) => self.create(shared),
            ("POST", true, "binding") => self.bind(shared),
            ("PATCH", true, "" | "status") => self.patch(shared),
            ("DELETE", true, "") => self.delete(shared),
            _ => {
                let message = format!("a simulated API server has no {method} {subresource}");
                Err(Refusal::new(405, "MethodNotAllowed", message))
            }
        }
    }

    fn place(&self) -> (usize, &str, &str) {
        (self.route.kind, &self.route.namespace, &self.route.name)
    }

    fn list(&self, shared: &Shared) -> Answered {
        let (kind, namespace, _) = self.place();
        let limit = self.query.limit.unwrap_or(usize::MAX);
        let from = self.query.from.as_deref();
        let selector = &self.query.selector;
        let page = shared
            .store
            .lock()
            .list(kind, namespace, selector, from, limit)?;
        let served = &SERVED[kind];
        let metadata = json!({
            "resourceVersion": page.version.to_string(), "continue": page.next.unwrap_or_default(),
        });
        let size: usize = page
            .objects
            .iter()
            .map(|object| object.bytes.len() + 1)
            .sum();
        let mut bytes = Vec::with_capacity(size + 256);
        let head = format!(
            r#"{{"kind":"{}List","apiVersion":"{}","metadata":{metadata},"items":["#,
            served.kind, served.api_version
        );
        bytes.extend_from_slice(head.as_bytes());
        for (number, object) in page.objects.iter().enumerate() {
            if number > 0 {
                bytes.push(b',');
            }
            bytes.extend_from_slice(&object.bytes);
        }
        bytes.extend_from_slice(b"]}");
        Ok((200, bytes.into()))
    }

    fn create(&self, shared: &Shared) -> Answered {
        let (kind, namespace, _) = self.place();
        let value = self.parsed()?;
        let stored = shared.write(kind, |store, now| {
            store.create(kind, namespace, value, &uid(), self.writer(now))
        })?;
        Ok((201, stored.bytes.clone()))
    }

    fn patch(&self, shared: &Shared) -> Answered {
        let media = self.headers.get(header::CONTENT_TYPE);
        let media = media
            .and_then(|media| media.to_str().ok())
            .unwrap_or_default();
        let body = self.parsed()?;
        self.change(shared, &self.route.subresource, |value| {
            patch::apply(media, value, &body)
        })
        .map(|stored| (200, stored.bytes.clone()))
    }

    /// Binds a pod, once.
    fn bind(&self, shared: &Shared) -> Answered {
        let body = self.parsed()?;
        let at = now();
        let conflict = |message: &str| Err(Refusal::new(409, "Conflict", message.into()));
        self.change(shared, "binding", |pod| {
            let uid = &body["metadata"]["uid"];
            if uid.is_string() && *uid != pod["metadata"]["uid"] {
                return conflict("Precondition failed: UID in precondition");
            }
            if pod["spec"]["nodeName"].is_string() {
                return conflict("pod is already assigned to node");
            }
            pod["spec"]["nodeName"] = body["target"]["name"].clone();
            let scheduled = json!({
                "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": at,
            });
            match pod["status"]["conditions"].as_array_mut() {
                Some(conditions) => conditions.push(scheduled),
                None => pod["status"]["conditions"] = json!([scheduled]),
            }
            Ok(())
        })?;
        let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok((201, success.to_string().into()))
    }

    fn change(
        &self,
        shared: &Shared,
        subresource: &str,
        change: impl FnOnce(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Arc<Stored>, Refusal> {
        let (kind, namespace, name) = self.place();
        shared.write(kind, |store, now| {
            let writer = self.writer(now);
            store.change(kind, (namespace, name), subresource, writer, change)
        })
    }

    fn delete(&self, shared: &Shared) -> Answered {
        let (kind, namespace, name) = self.place();
        let options = if self.body.is_empty() {
            Value::Null
        } else {
            self.parsed()?
        };
        let text = |field: &str| options["preconditions"][field].as_str().map(str::to_owned);
        let preconditions = Preconditions {
            uid: text("uid"),
            version: text("resourceVersion"),
        };
        let stored = shared.write(kind, |store, now| {
            store.delete(kind, namespace, name, &preconditions, now)
        })?;
        Ok((200, stored.bytes.clone()))
    }

    fn parsed(&self) -> Result<Value, Refusal> {
        serde_json::from_slice(self.body)
            .map_err(|err| Refusal::new(400, "BadRequest", format!("the body: {err}")))
    }

    fn writer<'a>(&'a self, now: &'a str) -> Writer<'a> {
        Writer {
            manager: self.query.manager.as_deref().unwrap_or(self.who),
            now,
        }
    }
}

fn watch(shared: &Arc<Shared>, route: &Route, query: Query) -> Response<Body> {
    let lines = follow::lines(shared, route, query);
    let frames = lines.map(|line| Ok::<_, Infallible>(Frame::data(line)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}

fn with(code: u16, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn plain(code: u16, text: String) -> Response<Body> {
    let mut response = with(code, text.into());
    let plain = header::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": refusal.reason,
        "code": refusal.code, "message": refusal.message,
    });
    with(refusal.code, status.to_string().into())
}

/// Now, as objects tell it.
pub(crate) fn now() -> String {
    let now = k8s_openapi::jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A new UID.
pub(crate) fn uid() -> String {
    let bits: u128 = rand::random();
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
