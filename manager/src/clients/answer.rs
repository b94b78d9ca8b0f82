//! The answers of an API server that may be anybody's: how much is read of them (T42).
//!
//! kube's own reader collects whatever comes, and logs all of what it can't parse.

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::{client::Body, core::Status};
use parking_lot::Mutex;
use std::{ops::ControlFlow, sync::Arc};
use tenancy::arrival::size::{MOST_BYTES, commas_between_values, said};

/// Bytes of all answers that one look at anybody's API server takes: there are sixteen at a time, and what is looked for is
/// some dozens of small objects.
const MOST_OF_ALL: usize = 4 << 20;
/// A value counts for so many bytes: parsed, it takes about as many, whereas its text needs but two.
const VALUE: usize = 64;
/// Bytes of the longest line that is kept; of a longer one nothing is.
const LONGEST_LINE: usize = 64 << 10;

/// How much may be read.
#[derive(Clone)]
pub(crate) struct Allowance {
    /// What is left of it for all answers together; `None` where each one has the same.
    left: Option<Arc<Mutex<usize>>>,
}

impl Allowance {
    /// So much of each answer, however many there are.
    pub(crate) fn of_each() -> Self {
        Self { left: None }
    }

    /// So much of all answers together.
    pub(crate) fn of_all() -> Self {
        let left = Some(Arc::new(Mutex::new(MOST_OF_ALL)));
        Self { left }
    }

    /// Bytes of the next answer.
    fn most(&self) -> usize {
        self.left.as_ref().map_or(MOST_BYTES, |left| *left.lock())
    }

    fn take(&self, read: &[u8]) -> Result<(), Unreadable> {
        let Some(left) = &self.left else {
            return Ok(());
        };
        let values = commas_between_values(read).saturating_mul(VALUE);
        let mut left = left.lock();
        let rest = left.checked_sub(values.saturating_add(read.len()));
        *left = rest.unwrap_or_default();
        rest.map(drop).ok_or(Unreadable::TooLarge)
    }
}

/// Nothing came that can be used.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// More came than is read.
    TooLarge,
    /// The connection broke, or the answer is a failure.
    Failed(Box<kube::Error>),
}

impl From<kube::Error> for Unreadable {
    fn from(error: kube::Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// The body of an answer that is no failure. A redirect is one: nobody follows it.
pub(crate) async fn good(
    response: Response<Body>,
    allowance: &Allowance,
) -> Result<Body, Unreadable> {
    let (head, body) = response.into_parts();
    if head.status.is_success() {
        return Ok(body);
    }
    let body = whole(body, allowance).await?;
    let status: Option<Status> = serde_json::from_slice(&body).ok();
    let status = status.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&body);
        match text.trim() {
            "" => Status::failure(&head.status.to_string(), ""),
            text => Status::failure(text, ""),
        }
    });
    let status = Status::failure(&said(&status.message), &said(&status.reason));
    Err(kube::Error::Api(status.with_code(head.status.as_u16()).boxed()).into())
}

/// All of a body.
pub(crate) async fn whole(body: Body, allowance: &Allowance) -> Result<Bytes, Unreadable> {
    let read = Limited::new(body, allowance.most()).collect().await;
    let read = read.map_err(|error| match error.downcast::<kube::Error>() {
        Ok(error) => Unreadable::Failed(error),
        Err(error) if error.is::<LengthLimitError>() => Unreadable::TooLarge,
        Err(error) => kube::Error::Service(error).into(),
    })?;
    let read = read.to_bytes();
    allowance.take(&read)?;
    Ok(read)
}

/// Each line of a body, until `each` has enough. What is no text is passed over, like what is too long.
pub(crate) async fn lines(
    mut body: Body,
    mut each: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<(), Unreadable> {
    let (mut begun, mut is_too_long) = (Vec::new(), false);
    let mut tell =
        |line: &[u8]| std::str::from_utf8(line).map_or(ControlFlow::Continue(()), &mut each);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n");
            is_too_long |= begun.len() + piece.len() > LONGEST_LINE;
            if !is_too_long {
                begun.extend_from_slice(text.unwrap_or(piece));
            }
            if text.is_some() {
                if !is_too_long && tell(&begun).is_break() {
                    return Ok(());
                }
                begun.clear();
                is_too_long = false;
            }
        }
    }
    if !is_too_long && !begun.is_empty() {
        let _ = tell(&begun);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(allowance: &Allowance, bytes: Vec<u8>) -> Result<usize, Unreadable> {
        let read = whole(Body::from(bytes), allowance).await;
        read.map(|bytes| bytes.len())
    }

    #[tokio::test]
    async fn t42_of_each_answer_and_of_all_of_anybody_only_so_much_is_read() {
        let own = Allowance::of_each();
        for _ in 0..2 {
            assert!(read(&own, vec![b' '; MOST_BYTES]).await.is_ok());
            let more = read(&own, vec![b' '; MOST_BYTES + 1]).await;
            assert!(matches!(more, Err(Unreadable::TooLarge)));
        }
        let anybody = Allowance::of_all();
        assert!(read(&anybody, vec![b' '; MOST_OF_ALL / 2]).await.is_ok());
        assert!(read(&anybody, vec![b' '; MOST_OF_ALL / 2]).await.is_ok());
        let more = read(&anybody, vec![b' ']).await;
        assert!(matches!(more, Err(Unreadable::TooLarge)));
    }

    #[tokio::test]
    async fn t42_what_would_grow_when_it_is_parsed_counts_for_more() {
        let values = format!("[{}0]", "0,".repeat(MOST_OF_ALL / VALUE));
        let text = format!("[\"{}\"]", ",".repeat(MOST_OF_ALL / VALUE));
        assert!(read(&Allowance::of_all(), text.into()).await.is_ok());
        let read = read(&Allowance::of_all(), values.into()).await;
        assert!(matches!(read, Err(Unreadable::TooLarge)));
    }

    #[tokio::test]
    async fn of_a_failure_little_is_kept_and_its_code_is_that_of_http() {
        let texts = [
            serde_json::json!({"message": "x".repeat(1 << 20), "code": 404}).to_string(),
            "x".repeat(1 << 20),
        ];
        for text in texts {
            let response = Response::builder().status(503);
            let response = response.body(Body::from(text.into_bytes())).unwrap();
            let error = good(response, &Allowance::of_each()).await.err().unwrap();
            let Unreadable::Failed(error) = error else {
                panic!("{error:?}")
            };
            let kube::Error::Api(status) = *error else {
                panic!("{error:?}")
            };
            assert_eq!((status.code, status.message.len()), (503, 1_000));
        }
    }

    #[tokio::test]
    async fn lines_are_told_until_there_are_enough_and_none_that_is_too_long() {
        let text = format!("one\n{}\ntwo\nthree\nfour", "x".repeat(LONGEST_LINE + 1));
        let told = |last: &'static str| {
            let body = Body::from(text.clone().into_bytes());
            async move {
                let mut told = vec![];
                let each = |line: &str| {
                    told.push(line.to_owned());
                    match line == last {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                };
                lines(body, each).await.unwrap();
                told
            }
        };
        assert_eq!(told("").await, ["one", "two", "three", "four"]);
        assert_eq!(told("two").await, ["one", "two"]);
    }
}
