//! References to objects as people type them: `KIND/NAMESPACE/NAME`, `KIND/NAME` and `namespace//NAME`.

/// An object by its kind as typed, its namespace if given, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectRef {
    /// Kind, plural or short name, perhaps with its group: `pod`, `po`, `deployments.apps`.
    pub(crate) kind: String,
    /// Namespace; `None` when left out or empty.
    pub(crate) namespace: Option<String>,
    /// Name.
    pub(crate) name: String,
}

impl std::str::FromStr for ObjectRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, namespace, name) = match parts[..] {
            [kind, name] => (kind, "", name),
            [kind, namespace, name] => (kind, namespace, name),
            _ => return Err(wrong(text)),
        };
        if kind.is_empty() || name.is_empty() {
            return Err(wrong(text));
        }
        let namespace = Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty());
        Ok(Self {
            kind: kind.to_owned(),
            namespace,
            name: name.to_owned(),
        })
    }
}

fn wrong(text: &str) -> String {
    format!(
        "{text:?} names no object: write KIND/NAMESPACE/NAME, such as pod/default/web, or KIND/NAME, such as node/n1"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, Option<String>, String), String> {
        text.parse::<ObjectRef>()
            .map(|found| (found.kind, found.namespace, found.name))
    }

    #[test]
    fn references_parse() {
        let found = |kind: &str, namespace: Option<&str>, name: &str| {
            Ok((
                kind.to_owned(),
                namespace.map(str::to_owned),
                name.to_owned(),
            ))
        };
        assert_eq!(
            parse("pod/default/web"),
            found("pod", Some("default"), "web")
        );
        assert_eq!(parse("ns/kube-system"), found("ns", None, "kube-system"));
        assert_eq!(parse("namespace//x"), found("namespace", None, "x"));
        assert_eq!(
            parse("deployments.apps/a/b"),
            found("deployments.apps", Some("a"), "b")
        );
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "pod", "pod/", "/a", "a/b/c/d", "//", "pod/x/"] {
            assert!(
                parse(text).unwrap_err().contains("KIND/NAMESPACE/NAME"),
                "{text}"
            );
        }
    }
}
