//! Why a request to an API server failed.

use std::time::Duration;

/// Why a request failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// 404 for an object.
    #[error("not found")]
    NotFound,
    /// 404 for the resource itself: the API server doesn't serve that kind, or not yet.
    #[error("the API server doesn't serve this kind")]
    NotServed,
    /// 409 on a create.
    #[error("already exists")]
    AlreadyExists,
    /// 409 on a write: a precondition failed or the object changed.
    #[error("conflict: {0}")]
    Conflict(String),
    /// 400 and 422: the same request would fail again.
    #[error("{0}")]
    Invalid(String),
    /// 403.
    #[error("{0}")]
    Forbidden(String),
    /// 401: the credentials aren't taken.
    #[error("unauthorized: {0}")]
    Unauthorized(String),
    /// 410: the resource version is too old.
    #[error("the resource version is too old")]
    Expired,
    /// 429, with the wait that the server asked for.
    #[error("the API server asks to wait {0:?}")]
    Throttled(Duration),
    /// A time limit, a broken connection, or a server that says that it can't serve: 503, 504.
    #[error("the API server can't be reached: {0}")]
    Unavailable(String),
    /// Any other 5xx: the server lives, and this request went wrong.
    #[error("the API server failed: {0}")]
    Internal(String),
    /// The right to write ended before the request had left this process: it has no effect.
    #[error("this syncer may no longer write that")]
    Revoked,
    /// More than is read of one answer.
    #[error("the answer is too large")]
    TooLarge,
    /// The answer isn't what the API promises.
    #[error("malformed answer: {0}")]
    Malformed(String),
}
