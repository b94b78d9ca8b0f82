//! The last look at the right to write: when the connection takes a request's body.
//!
//! A request may wait in this process for a connection, for a stream, or because the process was stopped. An API server
//! acts on no write whose body it hasn't got, so a body that isn't given out is a write that doesn't happen.

use crate::term::Permit;
use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use kube::client::Body;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tower::BoxError;

/// The right to write ended before the body was sent.
#[derive(Debug, thiserror::Error)]
#[error("the right to write ended before the request was sent")]
struct Ended;

/// The body of a request, given out only while its permit holds.
pub(crate) struct Fenced {
    body: Body,
    permit: Option<Permit>,
}

/// Ties a request to the permit that it carries, if any.
pub(crate) fn fence(request: Request<Body>) -> Request<Fenced> {
    let (mut parts, body) = request.into_parts();
    let permit = parts.extensions.remove::<Permit>();
    Request::from_parts(parts, Fenced { body, permit })
}

impl HttpBody for Fenced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.permit.as_ref().is_some_and(|permit| !permit.holds()) {
            return Poll::Ready(Some(Err(Ended.into())));
        }
        Pin::new(&mut self.body)
            .poll_frame(cx)
            .map(|frame| frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{guard::Guard, term::Term};
    use http_body_util::BodyExt;
    use std::sync::Arc;
    use tokio_util::sync::CancellationToken;

    fn request(permit: Option<Permit>) -> Request<Body> {
        let mut request = Request::new(Body::from(b"{}".to_vec()));
        if let Some(permit) = permit {
            request.extensions_mut().insert(permit);
        }
        request
    }

    #[tokio::test]
    async fn r7_a_write_that_waited_too_long_gives_no_body() {
        let (term, cancel) = (Term::of_test(), CancellationToken::new());
        let permit = Permit::of(&term, &cancel);
        let (in_time, late) = (
            fence(request(Some(permit.clone()))),
            fence(request(Some(permit))),
        );
        assert_eq!(
            in_time.into_body().collect().await.unwrap().to_bytes(),
            "{}"
        );
        term.revoke();
        assert!(late.into_body().collect().await.is_err());
        let read = fence(request(None));
        assert!(
            read.into_body().collect().await.is_ok(),
            "reads need no right"
        );
    }

    #[tokio::test]
    async fn a_write_to_the_super_cluster_gives_no_body_once_an_admission_policy_is_missing() {
        let (term, cancel) = (Term::of_test(), CancellationToken::new());
        let guard = Arc::new(Guard::default());
        guard.let_pass();
        let permit = Permit::of(&term, &cancel).under(&guard);
        let (in_time, late) = (
            fence(request(Some(permit.clone()))),
            fence(request(Some(permit))),
        );
        assert!(in_time.into_body().collect().await.is_ok());
        guard.lack(api::ADMISSION_POLICIES[0]);
        assert!(late.into_body().collect().await.is_err());
    }
}
