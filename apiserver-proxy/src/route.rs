//! What a request to a virtual node's kubelet asks for; pure: method, path and query in, a question or a refusal out.
//!
//! A path is read strictly: names hold no character that would have to be escaped, so a path with an escape, an empty
//! segment or a dot segment names nothing. What is sent on is never the path but a new one, made of the index's names.

use crate::query;
use http::{Method, StatusCode};
use tenancy::naming::{is_label, is_name};

/// Longest UID.
const UID_MAX: usize = 63;

/// What is asked for of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// What a container wrote.
    Logs,
    /// A new process in a container.
    Exec,
    /// The container's first process.
    Attach,
    /// Connections to ports of the pod.
    PortForward,
}

impl Verb {
    /// For logs and metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "port-forward",
        }
    }

    /// The super API server's subresource of pods.
    pub(crate) fn subresource(self) -> &'static str {
        match self {
            Self::Logs => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
        }
    }
}

/// A request that was understood; all names are the tenant's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// What is asked for.
    pub(crate) verb: Verb,
    /// Namespace of the pod.
    pub(crate) namespace: String,
    /// Name of the pod.
    pub(crate) pod: String,
    /// UID of the pod, when it was given.
    pub(crate) uid: Option<String>,
    /// The container; none for [`Verb::PortForward`].
    pub(crate) container: Option<String>,
    /// Parameters as the super API server spells them.
    pub(crate) parameters: Vec<(&'static str, String)>,
}

/// What is asked of a kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Whether it lives.
    Healthz,
    /// Something of a pod.
    Pod(Question),
    /// Something of the node, as far as it is the tenant's.
    Node(Whole),
}

/// What is asked for of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Its pods.
    Pods,
    /// What they use, as JSON.
    Summary,
    /// What they use, as Prometheus reads it.
    Resource,
}

impl Whole {
    /// For logs and metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Summary => "stats/summary",
            Self::Resource => "metrics/resource",
        }
    }
}

/// A request that isn't passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Not a name, or a path in a form that no client uses.
    #[error("the path is malformed")]
    Path,
    /// A parameter can't be read.
    #[error("the query is malformed")]
    Query,
    /// Another method.
    #[error("the method isn't allowed here")]
    Method,
    /// What would tell of other tenants, or would run something outside of a pod.
    #[error("a virtual node doesn't serve this")]
    NotServed,
}

impl Refusal {
    /// The answer's status.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Path | Self::Query => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotServed => StatusCode::FORBIDDEN,
        }
    }

    /// For metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Method => "method",
            Self::NotServed => "not_served",
        }
    }
}

/// Reads a request.
pub(crate) fn parse(method: &Method, path: &str, query: &str) -> Result<Request, Refusal> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(Refusal::Path);
    };
    let segments: Vec<&str> = rest.split('/').collect();
    let (verb, names) = match segments.as_slice() {
        ["healthz"] => return got(method, Request::Healthz),
        ["pods"] => return got(method, Request::Node(Whole::Pods)),
        ["stats", "summary"] => return got(method, Request::Node(Whole::Summary)),
        ["metrics", "resource"] => return got(method, Request::Node(Whole::Resource)),
        ["containerLogs", names @ ..] => (Verb::Logs, names),
        ["exec", names @ ..] => (Verb::Exec, names),
        ["attach", names @ ..] => (Verb::Attach, names),
        ["portForward", names @ ..] => (Verb::PortForward, names),
        _ => return Err(Refusal::NotServed),
    };
    let (namespace, pod, uid, container) = match (verb, names) {
        (Verb::PortForward, [namespace, pod]) => (namespace, pod, None, None),
        (Verb::PortForward, [namespace, pod, uid]) => (namespace, pod, Some(*uid), None),
        (Verb::PortForward, _) => return Err(Refusal::Path),
        (_, [namespace, pod, container]) => (namespace, pod, None, Some(*container)),
        (Verb::Exec | Verb::Attach, [namespace, pod, uid, container]) => {
            (namespace, pod, Some(*uid), Some(*container))
        }
        _ => return Err(Refusal::Path),
    };
    let uid_is_plain = uid.is_none_or(|uid| {
        !uid.is_empty()
            && uid.len() <= UID_MAX
            && uid
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    if !is_label(namespace) || !is_name(pod) || !container.is_none_or(is_label) || !uid_is_plain {
        return Err(Refusal::Path);
    }
    match (verb, method) {
        (_, &Method::GET) | (Verb::Exec | Verb::Attach | Verb::PortForward, &Method::POST) => {}
        _ => return Err(Refusal::Method),
    }
    let given = query::parse(query).map_err(|_| Refusal::Query)?;
    let mut parameters = match verb {
        Verb::Logs => log_options(&given)?,
        Verb::Exec => stream_options(&given, Commands::Allowed)?,
        Verb::Attach => stream_options(&given, Commands::Ignored)?,
        Verb::PortForward => ports(&given)?,
    };
    if let Some(container) = container {
        parameters.push(("container", container.to_owned()));
    }
    Ok(Request::Pod(Question {
        verb,
        namespace: (*namespace).to_owned(),
        pod: (*pod).to_owned(),
        uid: uid.map(str::to_owned),
        container: container.map(str::to_owned),
        parameters,
    }))
}

/// What can be got and nothing else.
fn got(method: &Method, request: Request) -> Result<Request, Refusal> {
    if method == Method::GET {
        Ok(request)
    } else {
        Err(Refusal::Method)
    }
}

type Given = [(String, String)];
type Parameters = Vec<(&'static str, String)>;

/// Log options have the same names on both sides; `tail` is the kubelet's old name of `tailLines`.
fn log_options(given: &Given) -> Result<Parameters, Refusal> {
    let mut options: Parameters = vec![];
    for (name, value) in given {
        let (name, fits) = match name.as_str() {
            "follow" => ("follow", is_bool(value)),
            "previous" => ("previous", is_bool(value)),
            "timestamps" => ("timestamps", is_bool(value)),
            "sinceSeconds" => ("sinceSeconds", is_number(value)),
            "limitBytes" => ("limitBytes", is_number(value)),
            "tail" if value == "all" => continue,
            "tail" | "tailLines" => ("tailLines", is_number(value)),
            "sinceTime" => ("sinceTime", value.parse::<jiff::Timestamp>().is_ok()),
            "stream" => (
                "stream",
                matches!(value.as_str(), "All" | "Stdout" | "Stderr"),
            ),
            _ => continue,
        };
        if !fits || options.iter().any(|(known, _)| *known == name) {
            return Err(Refusal::Query);
        }
        options.push((name, value.clone()));
    }
    // The super API server asks for them together, and "All" is what it does by itself; older ones don't know it.
    options.retain(|(name, value)| *name != "stream" || value != "All");
    Ok(options)
}

enum Commands {
    Allowed,
    Ignored,
}

/// A kubelet calls the streams input, output and error.
fn stream_options(given: &Given, commands: Commands) -> Result<Parameters, Refusal> {
    let mut options: Parameters = vec![];
    for (name, value) in given {
        let name = match name.as_str() {
            "input" => "stdin",
            "output" => "stdout",
            "error" => "stderr",
            "tty" => "tty",
            "command" => {
                if matches!(commands, Commands::Allowed) {
                    options.push(("command", value.clone()));
                }
                continue;
            }
            _ => continue,
        };
        if options.iter().any(|(known, _)| *known == name) {
            return Err(Refusal::Query);
        }
        match value.as_str() {
            "1" | "true" => options.push((name, "true".into())),
            "0" | "false" | "" => {}
            _ => return Err(Refusal::Query),
        }
    }
    Ok(options)
}

fn ports(given: &Given) -> Result<Parameters, Refusal> {
    let mut ports: Parameters = vec![];
    for (_, value) in given.iter().filter(|(name, _)| name == "port") {
        for port in value.split(',') {
            let port: u16 = port.parse().map_err(|_| Refusal::Query)?;
            if port == 0 {
                return Err(Refusal::Query);
            }
            ports.push(("ports", port.to_string()));
        }
    }
    Ok(ports)
}

fn is_bool(text: &str) -> bool {
    matches!(text, "true" | "false" | "1" | "0")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
