//! The answers of an API server that may be anybody's: how much of one is read, and what a failure says (T42).

pub(crate) use tenancy::arrival::size::{MOST_BYTES, said};

use crate::{connect::ResponseBody, error::Error};
use bytes::Bytes;
use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use http::{header, response::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use std::time::Duration;
use tenancy::arrival::{self, Shape, size::commas_between_values};
use tower::BoxError;

/// Values in the largest answer or event. Parsed, each takes some dozens of bytes, whereas a text needs but two.
const MOST_VALUES: usize = 1 << 20;
/// What an API server says, as if it had failed, of an object that is too large for its etcd: with what Sublet writes on it, one
/// that its tenant's etcd took may be. No other try will do.
const TOO_LARGE: [&str; 2] = [
    "etcdserver: request is too large",
    "trying to send message larger than max",
];
/// How an API server's message of an admission webhook's denial begins, and goes on after the webhook's name.
const DENIED: [&str; 2] = ["admission webhook \"", "\" denied the request"];
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The body of an answer; one that is larger than any is read no further.
pub(crate) fn body(body: ResponseBody) -> BoxFuture<'static, Result<Bytes, Error>> {
    let collected = Limited::new(body, MOST_BYTES).collect();
    let read = collected.map_ok(|all| all.to_bytes());
    read.map_err(|err| broken(&err)).boxed()
}

fn broken(err: &BoxError) -> Error {
    if err.is::<LengthLimitError>() {
        Error::TooLarge
    } else {
        unavailable(&**err)
    }
}

/// The JSON of a body.
pub(crate) fn json(bytes: &[u8], shape: Shape) -> Result<Value, Error> {
    check(bytes)?;
    arrival::read(bytes, shape).map_err(|err| Error::Malformed(err.to_string()))
}

/// Whether a text may be parsed: it can't have more values than commas, but for those that hold others.
pub(crate) fn check(text: &[u8]) -> Result<(), Error> {
    // Of the usual ones none is looked through.
    if text.len() > MOST_VALUES
        && memchr::memchr_iter(b',', text).count() > MOST_VALUES
        && commas_between_values(text) > MOST_VALUES
    {
        return Err(Error::TooLarge);
    }
    Ok(())
}

/// What an answer says that isn't what was asked for. A redirect is a failure like another: nobody follows it.
pub(crate) fn failure(parts: &Parts, body: &[u8]) -> Error {
    let parsed = json(body, Shape::Object).ok();
    let is_plain = parsed.is_none();
    let status = parsed.unwrap_or_default();
    let message = status["message"]
        .as_str()
        .map_or_else(|| parts.status.to_string(), said);
    match parts.status.as_u16() {
        400 | 413 | 415 | 422 => Error::Invalid(message),
        401 => Error::Unauthorized(message),
        403 => Error::Forbidden(message),
        // Of what it serves an API server speaks in JSON.
        404 if is_plain => Error::NotServed,
        404 => Error::NotFound,
        409 => Error::Conflict(message),
        410 => Error::Expired,
        // The webhook chose the code, and judged one object: the server itself has room.
        429 | 503 | 504 if is_denial(&message) => Error::Forbidden(message),
        429 => Error::Throttled(wait(parts)),
        503 | 504 => Error::Unavailable(message),
        500 if TOO_LARGE.iter().any(|words| message.contains(words)) => Error::Invalid(message),
        _ => Error::Internal(message),
    }
}

/// Whether a webhook denied the object; one that can't be called is a failure of the server (500).
fn is_denial(message: &str) -> bool {
    let [begins, goes_on] = DENIED;
    let named = message.strip_prefix(begins);
    named.is_some_and(|rest| rest.contains(goes_on))
}

/// A lying server may ask for hours, or for nothing.
fn wait(parts: &Parts) -> Duration {
    let asked = parts.headers.get(header::RETRY_AFTER);
    let digits = asked
        .and_then(|value| value.to_str().ok())
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    // Digits that are no number are a larger one.
    let seconds = digits.map(|text| text.parse().unwrap_or(u64::MAX));
    let seconds = Duration::from_secs(seconds.unwrap_or(1));
    seconds.clamp(Duration::from_secs(1), LONGEST_WAIT)
}

/// A connection that failed, with all its causes.
pub(crate) fn unavailable(err: &dyn std::error::Error) -> Error {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Error::Unavailable(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::arriving;
    use http::Response;
    use http_body_util::Full;
    use serde_json::json;
    use tenancy::arrival::size::MOST_SAID;

    fn parts(status: u16, retry_after: &str) -> Parts {
        let response = Response::builder()
            .status(status)
            .header(header::RETRY_AFTER, retry_after);
        response.body(()).unwrap().into_parts().0
    }

    #[test]
    fn t42_no_server_makes_the_syncer_wait_for_hours_or_ask_without_a_pause() {
        let long = "9".repeat(40);
        for (asked, waited) in [
            ("7", 7),
            ("0", 1),
            ("86400", 60),
            (long.as_str(), 60),
            ("-5", 1),
            ("Fri, 31 Dec 2999 23:59:59 GMT", 1),
            ("", 1),
        ] {
            match failure(&parts(429, asked), b"{}") {
                Error::Throttled(wait) => assert_eq!(wait.as_secs(), waited, "{asked}"),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn an_object_that_is_too_large_for_the_store_is_refused_and_no_failure_of_the_server() {
        let said = |words: &str| {
            let body = json!({"kind": "Status", "code": 500, "message": words}).to_string();
            failure(&parts(500, "1"), body.as_bytes())
        };
        for words in TOO_LARGE {
            assert!(matches!(said(words), Error::Invalid(_)), "{words}");
        }
        // Another time it has room.
        let full = said("etcdserver: mvcc: database space exceeded");
        assert!(matches!(full, Error::Internal(_)), "{full}");
    }

    /// Else one object of one tenant would hold the writes of all.
    #[test]
    fn a_webhook_that_denies_an_object_by_the_code_of_a_busy_server_makes_nobody_wait() {
        let said = |status: u16, words: &str| {
            let body = json!({"kind": "Status", "code": status, "message": words}).to_string();
            failure(&parts(status, "7"), body.as_bytes())
        };
        let denied = "admission webhook \"quota.example.com\" denied the request";
        for words in [
            format!("{denied}: ask later"),
            format!("{denied} without explanation"),
        ] {
            for status in [429, 503, 504] {
                let refused = matches!(said(status, &words), Error::Forbidden(of) if of == words);
                assert!(refused, "{status} {words}");
            }
        }
        for words in [
            "too many requests".to_owned(),
            format!("configmaps \"a\": {denied}"),
        ] {
            let throttled = said(429, &words);
            assert!(matches!(throttled, Error::Throttled(_)), "{throttled}");
            let unavailable = said(503, &words);
            assert!(
                matches!(unavailable, Error::Unavailable(_)),
                "{unavailable}"
            );
        }
    }

    #[test]
    fn t42_of_what_a_failure_says_little_is_kept() {
        let body = json!({"message": "x".repeat(1 << 20)}).to_string();
        let said = failure(&parts(500, "1"), body.as_bytes()).to_string();
        assert!(said.len() < 2 * MOST_SAID, "{}", said.len());
    }

    #[tokio::test]
    async fn t42_an_answer_without_end_or_of_too_many_values_is_too_large() {
        let of = |bytes: Vec<u8>| body(arriving(Full::from(bytes)));
        assert!(of(vec![b' '; MOST_BYTES]).await.is_ok());
        assert!(matches!(
            of(vec![b' '; MOST_BYTES + 1]).await,
            Err(Error::TooLarge)
        ));
        let values = |count: usize| format!("[{}0]", "0,".repeat(count));
        assert!(json(values(MOST_VALUES).as_bytes(), Shape::Object).is_ok());
        let more = json(values(MOST_VALUES + 1).as_bytes(), Shape::List);
        assert!(matches!(more, Err(Error::TooLarge)));
        // A string is one value, whatever is in it.
        let text = format!(r#"["\"{}"]"#, ",".repeat(MOST_VALUES + 1));
        assert!(json(text.as_bytes(), Shape::Object).is_ok());
    }
}
