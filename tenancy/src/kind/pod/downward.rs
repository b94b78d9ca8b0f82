//! The downward API: what the super pod would say of itself, and what the tenant's pod is.
//!
//! Labels and annotations that don't cross are still the pod's to read. Letting one cross because a pod names it would
//! hand the tenant every key that super controllers obey (T4), so its value travels under a key of ours instead.

use super::fields::{items_mut, text};
use crate::{meta, naming, object::Object};
use api::keys;
use serde_json::{Map, Value};

/// A field that the downward API offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldPath<'a> {
    Namespace,
    Uid,
    ServiceAccount,
    Label(&'a str),
    Annotation(&'a str),
    /// All labels, as a file.
    Labels,
    /// All annotations, as a file.
    Annotations,
    /// The same on both sides, or only known in the super cluster.
    Other,
}

impl<'a> FieldPath<'a> {
    pub(super) fn parse(path: &'a str) -> Self {
        let key = |prefix: &str| {
            path.strip_prefix(prefix)?
                .strip_prefix("['")?
                .strip_suffix("']")
        };
        match path {
            "metadata.namespace" => Self::Namespace,
            "metadata.uid" => Self::Uid,
            "spec.serviceAccountName" => Self::ServiceAccount,
            "metadata.labels" => Self::Labels,
            "metadata.annotations" => Self::Annotations,
            _ => match (key("metadata.labels"), key("metadata.annotations")) {
                (Some(label), _) => Self::Label(label),
                (_, Some(annotation)) => Self::Annotation(annotation),
                _ => Self::Other,
            },
        }
    }

    /// Whether the super pod has the same at the same path.
    pub(super) fn crosses(&self) -> bool {
        match self {
            Self::Label(key) => meta::label_crosses(key) || meta::TOPOLOGY.contains(key),
            Self::Annotation(key) => meta::annotation_crosses(key),
            Self::Namespace
            | Self::Uid
            | Self::ServiceAccount
            | Self::Labels
            | Self::Annotations => false,
            Self::Other => true,
        }
    }
}

/// What the tenant's pod has at `path`, as far as its metadata tells.
pub(super) fn value(path: &FieldPath<'_>, pod: &Object) -> Option<String> {
    match path {
        FieldPath::Label(key) => pod.label(key).map(str::to_owned),
        FieldPath::Annotation(key) => pod.annotation(key).map(str::to_owned),
        FieldPath::Labels => Some(lines(pod.labels())),
        FieldPath::Annotations => Some(lines(pod.annotations())),
        _ => None,
    }
}

/// A map as the kubelet writes it into a file: one `key="value"` a line, sorted by key.
fn lines<'a>(map: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut lines: Vec<String> = map
        .map(|(key, value)| format!("{key}={}", quoted(value)))
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// A text in Go's double quotes.
fn quoted(text: &str) -> String {
    let inner: String = text
        .chars()
        .map(|character| match character {
            '"' | '\\' => format!("\\{character}"),
            '\n' => "\\n".into(),
            '\t' => "\\t".into(),
            '\r' => "\\r".into(),
            control if control.is_ascii_control() => format!("\\x{:02x}", u32::from(control)),
            other => other.to_string(),
        })
        .collect();
    format!("\"{inner}\"")
}

/// Translates the files of one downward API volume or projection, and adds to `carried` the annotations they need.
///
/// A file follows later changes, so it is pointed at an annotation of the super pod that follows too.
pub(super) fn files(source: &mut Value, pod: &Object, carried: &mut Map<String, Value>) {
    for field in items_mut(source, "items").filter_map(|file| file.get_mut("fieldRef")) {
        let path = FieldPath::parse(text(field, "fieldPath"));
        let key = match path {
            FieldPath::Namespace => keys::NAMESPACE.to_owned(),
            FieldPath::Uid => keys::UID.to_owned(),
            _ if path.crosses() => continue,
            _ => {
                let key = format!(
                    "downward.{}{}",
                    keys::PREFIX,
                    naming::hash(&[text(field, "fieldPath").as_bytes()])
                );
                carried.extend(value(&path, pod).map(|value| (key.clone(), value.into())));
                key
            }
        };
        field["fieldPath"] = format!("metadata.annotations['{key}']").into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::pod::tests::{down, pod, yaml};
    use expect_test::expect;

    #[test]
    fn files_point_at_what_the_tenants_pod_has() {
        let mut pod = pod("
          volumes:
          - name: v
            downwardAPI:
              items:
              - {path: a, fieldRef: {fieldPath: metadata.namespace}}
              - {path: b, fieldRef: {fieldPath: metadata.uid}}
              - {path: c, fieldRef: {fieldPath: metadata.labels}}
              - {path: d, fieldRef: {fieldPath: \"metadata.annotations['k8s.v1.cni.cncf.io/networks']\"}}
              - {path: e, fieldRef: {fieldPath: \"metadata.annotations['note']\"}}
              - {path: f, fieldRef: {fieldPath: \"metadata.labels['sublet.dev/tenant']\"}}
              - {path: g, resourceFieldRef: {containerName: c, resource: limits.cpu}}");
        pod.annotate("k8s.v1.cni.cncf.io/networks", "host-network");
        let down = down(&pod);
        expect![[r#"
            - fieldRef:
                fieldPath: metadata.annotations['sublet.dev/namespace']
              path: a
            - fieldRef:
                fieldPath: metadata.annotations['sublet.dev/uid']
              path: b
            - fieldRef:
                fieldPath: metadata.annotations['downward.sublet.dev/ajcdb346irrcln3qokrsggacpm']
              path: c
            - fieldRef:
                fieldPath: metadata.annotations['downward.sublet.dev/6hcnaygl7b3tbxl2zlcpmarorm']
              path: d
            - fieldRef:
                fieldPath: metadata.annotations['note']
              path: e
            - fieldRef:
                fieldPath: metadata.annotations['downward.sublet.dev/2s6nnk5ynvfcoe6e2m4m2tewty']
              path: f
            - path: g
              resourceFieldRef:
                containerName: c
                resource: limits.cpu
        "#]]
        .assert_eq(&yaml(down.at("/spec/volumes/0/downwardAPI/items").unwrap()));
        // Its value is there, but no controller of the super cluster finds it under the name it obeys.
        assert_eq!(down.annotation("k8s.v1.cni.cncf.io/networks"), None);
        assert_eq!(
            down.annotations()
                .filter(|(_, value)| *value == "host-network")
                .count(),
            1
        );
        let key = down
            .annotations()
            .find(|(_, value)| *value == "host-network")
            .unwrap()
            .0;
        assert!(key.starts_with("downward.sublet.dev/"), "{key}");
        assert!(down.annotation(keys::APPLIED_KEYS).unwrap().contains(key));
    }

    #[test]
    fn a_map_is_written_as_the_kubelet_writes_it() {
        let map = [("b", "say \"hi\"\n"), ("a", "1")];
        assert_eq!(lines(map.into_iter()), "a=\"1\"\nb=\"say \\\"hi\\\"\\n\"");
    }

    #[test]
    fn paths_are_parsed() {
        assert_eq!(
            FieldPath::parse("metadata.labels['a.b/c']"),
            FieldPath::Label("a.b/c")
        );
        assert_eq!(
            FieldPath::parse("metadata.annotations['x']"),
            FieldPath::Annotation("x")
        );
        assert_eq!(FieldPath::parse("metadata.labels"), FieldPath::Labels);
        for other in ["metadata.labels['x'", "status.podIP", ""] {
            assert_eq!(FieldPath::parse(other), FieldPath::Other, "{other}");
        }
    }
}
