//! Errors as people read them: one line that says what is wrong and what to do next, and an exit code.

mod forbidden;
mod reach;

use kube::core::Status;
use std::{io, process::ExitCode};

/// The command failed.
pub(crate) const FAILURE: u8 = 1;
/// The input was wrong; clap uses the same code.
pub(crate) const USAGE: u8 = 2;
/// Ended by Ctrl-C: 128 + SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// An error whose text is ready to be read.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Stop {
    message: String,
    exit: u8,
}

/// A failure in words.
pub(crate) fn fail(message: impl Into<String>) -> anyhow::Error {
    Stop {
        message: message.into(),
        exit: FAILURE,
    }
    .into()
}

/// Wrong input in words.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Stop {
        message: message.into(),
        exit: USAGE,
    }
    .into()
}

/// What Ctrl-C left behind, in words.
pub(crate) fn interrupted(message: impl Into<String>) -> anyhow::Error {
    Stop {
        message: message.into(),
        exit: INTERRUPTED,
    }
    .into()
}

/// A command that an error says to type next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// Puts Sublet into the cluster.
    Install,
    /// Makes the namespace of that name.
    MakeNamespace(&'a str),
}

/// Spells a command for the cluster that the error is of.
pub(crate) type Spell<'a> = &'a dyn Fn(Next<'_>) -> String;

/// Turns errors of the Kubernetes client into words; an error that has its words keeps them.
pub(crate) fn clear(err: anyhow::Error, url: &str, spell: Spell<'_>) -> anyhow::Error {
    if err.chain().any(|cause| cause.is::<Stop>()) || is_broken_pipe(&err) {
        return err;
    }
    let words = err.chain().find_map(|cause| {
        let kube = cause.downcast_ref::<kube::Error>()?;
        Some(match kube {
            kube::Error::Api(status) => api(status, url, spell),
            other => reach::unreachable(other, url),
        })
    });
    match words {
        Some(words) => fail(words),
        None => err,
    }
}

/// What the API server answered, in words.
fn api(status: &Status, url: &str, spell: Spell<'_>) -> String {
    let message = one_line(&status.message);
    let details = status.details.as_ref();
    let names_object = details.is_some_and(|details| !details.name.is_empty());
    let namespace = details.filter(|details| details.kind == "namespaces" && names_object);
    match status.code {
        401 => format!(
            "the API server at {url} doesn't accept your credentials: log in again, or check --context"
        ),
        403 => forbidden::words(&message),
        404 if namespace.is_some() => {
            let name = namespace.map_or("", |namespace| namespace.name.as_str());
            let make = spell(Next::MakeNamespace(name));
            format!("there is no namespace {name}: make it with `{make}`, or pass -n")
        }
        404 if !names_object => {
            format!(
                "Sublet isn't installed in this cluster: run `{}`",
                spell(Next::Install)
            )
        }
        422 => invalid(status).unwrap_or(message),
        409 if status.reason == "Conflict" && names_object => {
            let name = details.map_or("", |details| details.name.as_str());
            format!("{name} was changed meanwhile: run the command again")
        }
        500 => {
            let why = if message.is_empty() { "500" } else { &message };
            format!(
                "the API server at {url} failed ({why}): try again; if it stays, look at its logs"
            )
        }
        429 | 503 | 504 => {
            format!("the API server at {url} is busy ({message}): try again in a moment")
        }
        _ if message.is_empty() => format!(
            "the API server at {url} answered with status {}",
            status.code
        ),
        _ => message,
    }
}

/// The rules that the object breaks, without the API server's wrapping.
fn invalid(status: &Status) -> Option<String> {
    let causes = &status.details.as_ref()?.causes;
    let words: Vec<String> = causes
        .iter()
        .map(|cause| {
            let message = one_line(&cause.message);
            let rule = rule(&message).to_owned();
            // A rule of the whole object has no field.
            let is_whole = ["", "<nil>"].contains(&cause.field.as_str());
            if is_whole || rule.contains(&cause.field) {
                rule
            } else {
                format!("{}: {rule}", cause.field)
            }
        })
        .collect();
    if words.is_empty() {
        None
    } else {
        Some(words.join("; "))
    }
}

/// Of `Invalid value: VALUE: RULE` the rule: the value is what was just typed.
fn rule(message: &str) -> &str {
    let Some(rest) = message.strip_prefix("Invalid value: ") else {
        return message;
    };
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => rest[values.byte_offset()..]
            .strip_prefix(": ")
            .unwrap_or(rest),
        _ => rest,
    }
}

/// Prints `err` as one line and says how the process ends. A closed pipe is the reader's choice and no failure.
pub(crate) fn report(err: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(err) {
        return ExitCode::SUCCESS;
    }
    let (message, code) = words(err);
    tell!("{} {message}", crate::style::stderr().red("error:"));
    ExitCode::from(code)
}

/// What is said of an error, and the exit code that it gives.
pub(crate) fn words(err: &anyhow::Error) -> (String, u8) {
    match err.chain().find_map(|cause| cause.downcast_ref::<Stop>()) {
        Some(stop) => (stop.message.clone(), stop.exit),
        None => (one_line(&format!("{err:#}")), FAILURE),
    }
}

fn is_broken_pipe(err: &anyhow::Error) -> bool {
    err.chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|err| err.kind() == io::ErrorKind::BrokenPipe)
}

/// `text` without line breaks, and without what would steer a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    crate::output::visible(&line)
}

/// The innermost cause, in few words.
pub(crate) fn reason(err: &kube::Error) -> String {
    match err {
        kube::Error::Api(status) => one_line(&status.message),
        other => reach::reason(other),
    }
}

/// Whether the API server says that the named object isn't there.
pub(crate) fn is_missing(err: &kube::Error) -> bool {
    matches!(err, kube::Error::Api(status)
        if status.code == 404 && status.details.as_ref().is_some_and(|details| !details.name.is_empty()))
}

/// Whether a right is missing.
pub(crate) fn is_forbidden(err: &kube::Error) -> bool {
    matches!(err, kube::Error::Api(status) if status.code == 403)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: serde_json::Value) -> anyhow::Error {
        kube::Error::Api(Box::new(serde_json::from_value(json).unwrap())).into()
    }

    fn told(json: serde_json::Value) -> String {
        words(&clear(status(json), "https://k:6443", &spell)).0
    }

    fn spell(next: Next<'_>) -> String {
        match next {
            Next::Install => "sublet install --context c".to_owned(),
            Next::MakeNamespace(name) => format!("kubectl --context c create namespace {name}"),
        }
    }

    #[test]
    fn the_api_servers_answers_become_one_line() {
        let missing = serde_json::json!({"code": 404, "message": "404 page not found"});
        assert_eq!(
            told(missing),
            "Sublet isn't installed in this cluster: run `sublet install --context c`"
        );
        let named = serde_json::json!({
            "code": 404, "reason": "NotFound", "message": "secrets \"a\" not found", "details": {"name": "a", "kind": "secrets"},
        });
        assert_eq!(told(named), "secrets \"a\" not found");
        let namespace = serde_json::json!({
            "code": 404, "message": "namespaces \"a\" not found", "details": {"name": "a", "kind": "namespaces"},
        });
        assert!(told(namespace).contains("`kubectl --context c create namespace a`"));
        let unauthorized = serde_json::json!({"code": 401, "message": "Unauthorized"});
        assert!(told(unauthorized).contains("--context"));
        let busy = serde_json::json!({"code": 429, "message": "too many\n requests"});
        assert!(told(busy).contains("(too many requests)"));
        let failed = serde_json::json!({"code": 500, "message": "etcdserver: request timed out"});
        assert_eq!(
            told(failed),
            "the API server at https://k:6443 failed (etcdserver: request timed out): try again; if it stays, look at \
             its logs"
        );
        let details = serde_json::json!({"name": "a", "kind": "virtualcontrolplanes"});
        let conflict = |reason: &str| serde_json::json!({"code": 409, "reason": reason, "message": "m", "details": details});
        assert_eq!(
            told(conflict("Conflict")),
            "a was changed meanwhile: run the command again"
        );
        assert_eq!(told(conflict("AlreadyExists")), "m");
    }

    #[test]
    fn a_broken_rule_is_told_without_its_wrapping() {
        let json = serde_json::json!({
            "code": 422, "message": "VirtualControlPlane.sublet.dev \"a\" is invalid: ...",
            "details": {"name": "a", "causes": [
                {"field": "spec.replicas", "message": "Invalid value: 5: spec.replicas is 1, 2 or 3"},
                {"field": "<nil>", "message": "Invalid value: \"object\": the name must be a DNS label"},
                {"field": "spec.endpoint.host", "message": "Invalid value: \"a: b\": it is no host"},
                {"field": "spec.className", "message": "Required value"},
            ]},
        });
        assert_eq!(
            told(json),
            "spec.replicas is 1, 2 or 3; the name must be a DNS label; spec.endpoint.host: it is no host; \
             spec.className: Required value"
        );
    }

    #[test]
    fn words_and_exit_codes_survive_context() {
        let err = usage("no such name").context("while creating");
        assert_eq!(
            words(&clear(err, "u", &spell)),
            ("no such name".to_owned(), USAGE)
        );
        assert_eq!(words(&interrupted("x")).1, 130);
        assert_eq!(
            words(&anyhow::anyhow!("inner\nline").context("outer")),
            ("outer: inner line".to_owned(), FAILURE)
        );
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let err = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe)).context("writing");
        assert!(is_broken_pipe(&err));
        assert_eq!(report(&err), ExitCode::SUCCESS);
    }
}
