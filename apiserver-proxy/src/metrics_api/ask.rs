//! What a request to the metrics API asks for; pure: method, path and query in, a question or a refusal out.

use crate::{query, selector::Selector, usage};
use http::{Method, StatusCode};
use tenancy::naming;

/// What is asked for; names are the tenant's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Which versions there are.
    Group,
    /// Which resources there are.
    Resources,
    /// All nodes.
    Nodes { filter: Filter },
    /// One node.
    Node { name: String },
    /// Pods of one namespace or of all.
    Pods {
        namespace: Option<String>,
        filter: Filter,
    },
    /// One pod.
    Pod { namespace: String, name: String },
}

/// Which of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// By labels.
    pub(super) labels: Selector,
    /// By `metadata.name` and `metadata.namespace`.
    fields: Selector,
}

/// A request that isn't answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Nothing is there.
    #[error("the server could not find the requested resource")]
    Path,
    /// Figures are read and no more.
    #[error("metrics can be got and listed, and nothing else")]
    Method,
    /// A selector can't be read.
    #[error(
        "the selector can't be read; fields are metadata.name and metadata.namespace, operators =, != and, for labels, in, notin and !"
    )]
    Selector,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Selector => StatusCode::BAD_REQUEST,
        }
    }

    /// As API servers say it.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Path => "NotFound",
            Self::Method => "MethodNotAllowed",
            Self::Selector => "BadRequest",
        }
    }

    /// For metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Method => "method",
            Self::Selector => "query",
        }
    }
}

impl Question {
    /// For metrics.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Group | Self::Resources => "discovery",
            Self::Nodes { .. } | Self::Node { .. } => "nodes",
            Self::Pods { .. } | Self::Pod { .. } => "pods",
        }
    }
}

impl Filter {
    pub(super) fn lets_through(&self, namespace: &str, name: &str) -> bool {
        let fields = [("metadata.name", name), ("metadata.namespace", namespace)];
        let fields = fields.map(|(field, value)| (field.to_owned(), value.to_owned()));
        self.fields.matches(&fields.into())
    }
}

/// Reads a request.
pub(super) fn parse(method: &Method, path: &str, query: &str) -> Result<Question, Refusal> {
    let group = usage::API.rsplit_once('/').map_or("", |(group, _)| group);
    let segments: Vec<&str> = match path.strip_prefix(group) {
        Some("") => vec![],
        Some(rest) => match rest.strip_prefix('/') {
            Some(rest) => rest.split('/').collect(),
            None => return Err(Refusal::Path),
        },
        None => return Err(Refusal::Path),
    };
    let question = match segments.as_slice() {
        [] => Question::Group,
        ["v1beta1"] => Question::Resources,
        ["v1beta1", "nodes"] => Question::Nodes {
            filter: filter(query)?,
        },
        ["v1beta1", "nodes", name] => Question::Node {
            name: checked(name, naming::is_name)?,
        },
        ["v1beta1", "pods"] => Question::Pods {
            namespace: None,
            filter: filter(query)?,
        },
        ["v1beta1", "namespaces", namespace, "pods"] => Question::Pods {
            namespace: Some(checked(namespace, naming::is_label)?),
            filter: filter(query)?,
        },
        ["v1beta1", "namespaces", namespace, "pods", name] => Question::Pod {
            namespace: checked(namespace, naming::is_label)?,
            name: checked(name, naming::is_name)?,
        },
        _ => return Err(Refusal::Path),
    };
    if method != Method::GET {
        return Err(Refusal::Method);
    }
    Ok(question)
}

fn checked(name: &str, is_one: fn(&str) -> bool) -> Result<String, Refusal> {
    if is_one(name) {
        Ok(name.to_owned())
    } else {
        Err(Refusal::Path)
    }
}

fn filter(query: &str) -> Result<Filter, Refusal> {
    let mut filter = Filter::default();
    for (name, value) in query::parse(query).map_err(|_| Refusal::Selector)? {
        let selector = || Selector::parse(&value).map_err(|_| Refusal::Selector);
        match name.as_str() {
            "labelSelector" => filter.labels = selector()?,
            "fieldSelector" => {
                filter.fields = selector()?;
                let mut keys = filter.fields.keys();
                if !keys.all(|key| matches!(key, "metadata.name" | "metadata.namespace")) {
                    return Err(Refusal::Selector);
                }
            }
            "watch" if matches!(value.as_str(), "true" | "1") => return Err(Refusal::Method),
            // Limits and resource versions: a list is always whole and new.
            _ => {}
        }
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const API: &str = "/apis/metrics.k8s.io";

    fn get(path: &str, query: &str) -> Result<Question, Refusal> {
        parse(&Method::GET, &format!("{API}{path}"), query)
    }

    #[test]
    fn pods_and_nodes_are_asked_for() {
        assert_eq!(get("", ""), Ok(Question::Group));
        assert_eq!(get("/v1beta1", "timeout=32s"), Ok(Question::Resources));
        let filter = Filter::default();
        assert_eq!(
            get("/v1beta1/nodes", "limit=500"),
            Ok(Question::Nodes {
                filter: filter.clone()
            })
        );
        assert_eq!(
            get("/v1beta1/nodes/ip-10.example", ""),
            Ok(Question::Node {
                name: "ip-10.example".into()
            })
        );
        assert_eq!(
            get("/v1beta1/namespaces/shop/pods/web", ""),
            Ok(Question::Pod {
                namespace: "shop".into(),
                name: "web".into()
            })
        );
        let selected = get("/v1beta1/pods", "labelSelector=app%3Dweb%2Ctier+in+%28a%29");
        let labels = Selector::parse("app=web,tier in (a)").unwrap();
        assert_eq!(
            selected,
            Ok(Question::Pods {
                namespace: None,
                filter: Filter { labels, ..filter }
            })
        );
    }

    #[test]
    fn fields_are_names_and_namespaces() {
        let Ok(Question::Pods { filter, .. }) = get(
            "/v1beta1/pods",
            "fieldSelector=metadata.namespace%21%3Dkube-system",
        ) else {
            panic!("it is a list");
        };
        assert!(filter.lets_through("shop", "web"));
        assert!(!filter.lets_through("kube-system", "web"));
        let other = get("/v1beta1/pods", "fieldSelector=spec.nodeName%3Dn1");
        assert_eq!(other, Err(Refusal::Selector));
    }

    #[test]
    fn everything_else_is_refused() {
        for path in [
            "/v1",
            "/v1beta1/",
            "/v1beta1/secrets",
            "/v1beta1/pods/web",
            "/v1beta1/namespaces/..%2fother/pods",
            "/v1beta1/namespaces/SHOP/pods",
            "/v1beta1/namespaces//pods",
            "/v1beta1/namespaces/shop/pods/web/log",
            "x/v1beta1/pods",
        ] {
            assert_eq!(get(path, ""), Err(Refusal::Path), "{path}");
        }
        assert_eq!(get("/v1beta1/pods", "watch=true"), Err(Refusal::Method));
        assert_eq!(
            get("/v1beta1/pods", "labelSelector=%28"),
            Err(Refusal::Selector)
        );
        let pods = format!("{API}/v1beta1/pods");
        assert_eq!(parse(&Method::POST, &pods, ""), Err(Refusal::Method));
        for path in ["/api/v1/pods", "/apis", "/openapi/v2", "*", ""] {
            assert_eq!(parse(&Method::GET, path, ""), Err(Refusal::Path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_request_does_harm(path in "(/apis/metrics.k8s.io)?[ -~]{0,40}", query in "[ -~]{0,40}") {
            if let Ok(Question::Pod { namespace, name }) = parse(&Method::GET, &path, &query) {
                prop_assert!(!namespace.contains('/') && !name.contains('/') && !name.is_empty());
            }
        }
    }
}
