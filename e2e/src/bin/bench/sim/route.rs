//! What a request asks for, read from its URL.

use super::{
    kinds::{self, SERVED},
    select::{Malformed, Selector},
};

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Place of the kind among those that are served.
    pub(crate) kind: usize,
    /// Empty for all namespaces, and for what has none.
    pub(crate) namespace: String,
    /// Empty for the collection.
    pub(crate) name: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
}

impl Route {
    /// Reads a path; nothing is served at one that leads nowhere.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (api_version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            // A namespace itself has subresources of its own.
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, plural, ..] if !plural.is_empty() => (*namespace, &rest[2..]),
            _ => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource] => (*plural, *name, *subresource),
            _ => return None,
        };
        let kind = kinds::find(&api_version, plural)?;
        (namespace.is_empty() || SERVED[kind].namespaced).then(|| Self {
            kind,
            namespace: decode(namespace),
            name: decode(name),
            subresource: subresource.to_owned(),
        })
    }
}

/// The parameters of a list or watch, and of writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// Whether changes are to be told as they come.
    pub(crate) watch: bool,
    /// Whether the version is told now and then while nothing changes.
    pub(crate) bookmarks: bool,
    /// Version to start from; none for the most recent state.
    pub(crate) version: Option<u64>,
    /// Seconds after which a watch ends.
    pub(crate) timeout: Option<u64>,
    /// Objects on a page.
    pub(crate) limit: Option<usize>,
    /// Where the last page ended.
    pub(crate) from: Option<String>,
    /// Which objects.
    pub(crate) selector: Selector,
    /// Who writes.
    pub(crate) manager: Option<String>,
}

impl Query {
    /// Reads the part of a URL behind the question mark. What isn't known is ignored, as API servers do it.
    pub(crate) fn parse(text: &str) -> Result<Self, Malformed> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            match name {
                "watch" => query.watch = value == "true" || value == "1",
                "allowWatchBookmarks" => query.bookmarks = value == "true",
                "resourceVersion" => query.version = value.parse().ok().filter(|at| *at != 0),
                "timeoutSeconds" => query.timeout = value.parse().ok(),
                "limit" => query.limit = value.parse().ok().filter(|limit| *limit != 0),
                "continue" => query.from = Some(value).filter(|from| !from.is_empty()),
                "labelSelector" => query.selector.labels(&value)?,
                "fieldSelector" => query.selector.fields(&value)?,
                "fieldManager" => query.manager = Some(value),
                _ => {}
            }
        }
        Ok(query)
    }
}

/// Undoes percent-encoding; what isn't any stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let code = behind
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        let (byte, next) = match code {
            Some(byte) => (byte, &behind[2..]),
            None => (*first, behind),
        };
        bytes.push(byte);
        rest = next;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_collection_an_object_or_a_part_of_it() {
        let told = |path: &str| {
            let route = Route::parse(path)?;
            let kind = SERVED[route.kind].kind;
            Some(format!(
                "{kind} {} {} {}",
                route.namespace, route.name, route.subresource
            ))
        };
        for (path, expected) in [
            ("/api/v1/pods", Some("Pod   ")),
            ("/api/v1/namespaces/a/pods", Some("Pod a  ")),
            ("/api/v1/namespaces/a/pods/b/status", Some("Pod a b status")),
            ("/api/v1/namespaces", Some("Namespace   ")),
            ("/api/v1/namespaces/a", Some("Namespace  a ")),
            ("/api/v1/namespaces/a/status", Some("Namespace  a status")),
            (
                "/apis/coordination.k8s.io/v1/namespaces/s/leases/l",
                Some("Lease s l "),
            ),
            ("/apis/storage.k8s.io/v1/namespaces/s/storageclasses", None),
            ("/api/v1/gadgets", None),
            ("/version", None),
        ] {
            assert_eq!(told(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_query_is_read() {
        let query = "watch=true&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion=7&limit=500&continue=a%2Fb";
        let query = Query::parse(query).unwrap();
        assert!(query.watch && query.bookmarks);
        assert_eq!((query.version, query.timeout), (Some(7), Some(300)));
        assert_eq!(query.from.as_deref(), Some("a/b"));
        assert_eq!(Query::parse("resourceVersion=0").unwrap().version, None);
        assert!(Query::parse("fieldSelector=spec.nodeName%3Dn").is_err());
    }
}
