//! HTTP/1.1 within a tunnel of the way out: what the kubelet of virtual nodes and the metrics API are served by.

use crate::{
    forward::ResponseBody,
    index::Tenant,
    metrics::{Metrics, Plane},
};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// How long a handshake may take.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept for the API server's next request, whose head must be whole by then.
const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// A server within tunnels.
pub(crate) struct Inner {
    /// Which one.
    pub(crate) plane: Plane,
    /// Room for a request's head, in bytes.
    pub(crate) head_max: usize,
    /// Counts what is no request.
    pub(crate) metrics: Arc<Metrics>,
    /// Connections end after the request that is under way once this is cancelled.
    pub(crate) cancel: CancellationToken,
}

impl Inner {
    /// Serves a connection of a tenant's to its end, or until it is upgraded.
    pub(crate) async fn serve<F>(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        tenant: &Tenant,
        answer: impl Fn(Request<Incoming>) -> F,
    ) where
        F: Future<Output = Response<ResponseBody>>,
    {
        let service = service_fn(|request| {
            let answering = answer(request);
            async move { Ok::<_, Infallible>(answering.await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_LIMIT)
            .max_buf_size(self.head_max)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        // Any other end is of no interest: the caller sees it.
        if ended.is_err_and(|error| error.is_parse()) {
            self.metrics.malformed(tenant, self.plane);
        }
    }
}
