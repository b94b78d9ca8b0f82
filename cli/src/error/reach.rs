//! Why an API server can't be reached, from the bottom of the client's chain of errors.

use crate::cluster::{ANSWER, CONNECT};
use std::{error::Error, io};

/// One line with the server's URL, the reason and what to check.
pub(super) fn unreachable(err: &kube::Error, url: &str) -> String {
    match err {
        kube::Error::Auth(err) => format!(
            "can't get credentials for {url}: {}; log in again, or check --context",
            deepest(err)
        ),
        kube::Error::SerdeError(err) => {
            format!(
                "the API server at {url} sent what isn't an answer of Kubernetes ({err}): check the server in the \
                 kubeconfig, and whether a proxy answers in its place"
            )
        }
        kube::Error::InferConfig(_) | kube::Error::InferKubeconfig(_) => {
            format!("{}; check KUBECONFIG", deepest(err))
        }
        other => format!(
            "can't reach the API server at {url}: {}; check --context or KUBECONFIG",
            reason(other)
        ),
    }
}

/// The innermost cause, in few words.
pub(super) fn reason(err: &(dyn Error + 'static)) -> String {
    let io = chain(err)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .last();
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::TimedOut) => {
            // What tells the two apart: a connection's timer is the error's source.
            let is_connection = io.is_some_and(|io| io.get_ref().is_some());
            let limit = if is_connection { CONNECT } else { ANSWER };
            format!("no answer within {} s", limit.as_secs())
        }
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        Some(io::ErrorKind::HostUnreachable) => "no route to the host".to_owned(),
        Some(io::ErrorKind::NetworkUnreachable) => "network unreachable".to_owned(),
        Some(io::ErrorKind::UnexpectedEof) => "the connection was closed".to_owned(),
        _ => certificate(deepest(err)),
    }
}

/// rustls names its variants; people know the kubeconfig's fields.
fn certificate(text: String) -> String {
    match text.strip_prefix("invalid peer certificate: ") {
        Some("UnknownIssuer") => {
            "its certificate isn't signed by the kubeconfig's certificate-authority".to_owned()
        }
        Some(other) => format!("its certificate is invalid: {other}"),
        None => text,
    }
}

fn deepest(err: &(dyn Error + 'static)) -> String {
    chain(err)
        .last()
        .map(|cause| super::one_line(&cause.to_string()))
        .unwrap_or_default()
}

fn chain<'a>(err: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(err);
    std::iter::from_fn(move || {
        let current: &'a (dyn Error + 'static) = next?;
        next = current.source();
        Some(current)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_reason_is_told() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let err = kube::Error::Service(Box::new(refused));
        assert_eq!(
            unreachable(&err, "https://k:6443"),
            "can't reach the API server at https://k:6443: connection refused; check --context or KUBECONFIG"
        );
        let silent = |err: io::Error| reason(&kube::Error::Service(Box::new(err)));
        let connecting = io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed");
        assert_eq!(silent(connecting), "no answer within 10 s");
        let reading = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(silent(reading), "no answer within 60 s");
        let other = kube::Error::Service("invalid peer certificate: UnknownIssuer".into());
        assert!(
            unreachable(&other, "u")
                .contains("isn't signed by the kubeconfig's certificate-authority")
        );
    }
}
