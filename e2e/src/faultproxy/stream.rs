//! Watch streams, cut into single events.

use super::rule::{Action, Asked};
use super::{Body, Shared, rule};
use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::Value;
use std::sync::Arc;

struct Flow {
    shared: Arc<Shared>,
    asked: Asked,
    body: Incoming,
    buffer: BytesMut,
}

/// The events that the rules let pass, in their order.
pub(super) fn events(shared: Arc<Shared>, asked: Asked, body: Incoming) -> Body {
    let flow = Flow {
        shared,
        asked,
        body,
        buffer: BytesMut::new(),
    };
    let frames = stream::unfold(flow, |mut flow| async move {
        let next = flow.next().await?;
        Some((next.map(Frame::data), flow))
    });
    BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(frames))))
}

impl Flow {
    async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1).freeze();
                if self.passes(&line).await {
                    return Some(Ok(line));
                }
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Err(err) => return Some(Err(err)),
            }
        }
    }

    async fn passes(&self, line: &[u8]) -> bool {
        let event: Value = serde_json::from_slice(line).unwrap_or_default();
        let text = |pointer: &str| {
            let found = event.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let asked = Asked {
            verb: text("/type"),
            namespace: text("/object/metadata/namespace"),
            name: text("/object/metadata/name"),
            ..self.asked.clone()
        };
        let action = rule::decide(&self.shared.rules.lock(), &asked);
        if asked.verb != "BOOKMARK" {
            self.shared.note(&asked, 200);
        }
        match action {
            Some(Action::Drop) => return false,
            Some(Action::Delay(time)) => tokio::time::sleep(time).await,
            _ => {}
        }
        true
    }
}

/// A body must be `Sync`, which an async block needn't be; nobody polls it from two places.
struct SyncStream<S>(S);

impl<S: futures::Stream + Unpin> futures::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::pin::Pin::new(&mut self.0).poll_next(cx)
    }
}
