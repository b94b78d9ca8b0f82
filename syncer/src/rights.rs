//! Law: the rights in `manifests/install.yaml` are those that the table of kinds needs, and no others.

use std::collections::BTreeSet;
use tenancy::kind::{KINDS, SuperWatch};

/// (group, resource, verb) of a ClusterRole of the manifest.
fn rights(role: &str) -> BTreeSet<(String, String, String)> {
    let manifest = include_str!("../../manifests/install.yaml");
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(manifest).unwrap();
    let role = documents
        .iter()
        .find(|document| document["kind"] == "ClusterRole" && document["metadata"]["name"] == role)
        .unwrap_or_else(|| panic!("no ClusterRole {role}"));
    let texts = |rule: &serde_json::Value, field: &str| -> Vec<String> {
        let list = rule[field].as_array().cloned().unwrap_or_default();
        list.iter()
            .map(|item| item.as_str().unwrap().to_owned())
            .collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                for verb in texts(rule, "verbs") {
                    rights.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    rights
}

fn all(group: &str, resource: &str, verbs: &[&str]) -> BTreeSet<(String, String, String)> {
    verbs
        .iter()
        .map(|verb| (group.to_owned(), resource.to_owned(), (*verb).to_owned()))
        .collect()
}

#[test]
fn the_syncer_reads_cluster_wide_what_it_watches_and_nothing_else() {
    let mut wanted = all("rbac.authorization.k8s.io", "rolebindings", &["create"]);
    wanted.extend(all("rbac.authorization.k8s.io", "clusterroles", &["bind"]));
    for status in ["virtualcontrolplanes/status", "controlplanegroups/status"] {
        wanted.extend(all("sublet.dev", status, &["patch"]));
    }
    for plural in [
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ] {
        let group = "admissionregistration.k8s.io";
        wanted.extend(all(group, plural, &["get", "list", "watch"]));
    }
    for plural in [
        "virtualcontrolplanes",
        "controlplaneclasses",
        "controlplanegroups",
    ] {
        wanted.extend(all("sublet.dev", plural, &["get", "list", "watch"]));
    }
    for kind in KINDS
        .iter()
        .filter(|kind| kind.super_watch() != SuperWatch::Never)
    {
        let resource = kind.resource();
        wanted.extend(all(
            resource.group,
            resource.plural,
            &["get", "list", "watch"],
        ));
        if kind.goes_down() && !resource.namespaced {
            wanted.extend(all(
                resource.group,
                resource.plural,
                &["create", "patch", "delete"],
            ));
        }
    }
    wanted.extend(all("", "resourcequotas", &["list"]));
    assert_eq!(rights("sublet-syncer"), wanted);
}

#[test]
fn the_syncer_writes_in_its_super_namespaces_what_goes_down_and_nothing_else() {
    let mut wanted = all("", "serviceaccounts", &["create"]);
    wanted.extend(all("", "events", &["create"]));
    let verbs = ["get", "create", "patch", "delete"];
    wanted.extend(all("", "resourcequotas", &verbs));
    for subresource in ["pods/ephemeralcontainers", "pods/resize", "pods/status"] {
        wanted.extend(all("", subresource, &["patch"]));
    }
    for kind in KINDS
        .iter()
        .filter(|kind| kind.goes_down() && kind.resource().namespaced)
    {
        let resource = kind.resource();
        wanted.extend(all(
            resource.group,
            resource.plural,
            &["create", "patch", "delete"],
        ));
        if kind.super_watch() == SuperWatch::Never {
            wanted.extend(all(resource.group, resource.plural, &["get", "list"]));
        }
    }
    assert_eq!(rights("sublet-syncer-namespace"), wanted);
}
