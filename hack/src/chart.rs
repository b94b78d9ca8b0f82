//! Laws over `manifests/chart` that need no Helm: its templates ask for what there is, and its values say what `sublet install`
//! does. What Helm makes of it is compared by the long test `install::helm`. Tests only.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::{crds, paths};

/// By what templates call a part of the values, and which part.
const ALIASES: [(&str, &str); 4] = [
    (".Values.", ""),
    ("$values.", ""),
    ("$daemon.", "daemons.*."),
    ("$door.", "frontDoor."),
];

fn text(file: &str) -> String {
    fs::read_to_string(paths::repository().join("manifests/chart").join(file)).unwrap()
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&text(file)).unwrap()
}

/// All templates, as one text.
fn templates() -> String {
    let folder = paths::repository().join("manifests/chart/templates");
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect()
}

/// Paths of the values that an admin sets, all daemons as one. The schema knows the same ones.
fn settings(values: &Value, schema: &Value, path: &str) -> BTreeSet<String> {
    let properties = &schema["properties"];
    if properties.is_null() || keys(values).is_empty() {
        let daemons = ["manager", "syncer", "proxy"].map(|name| format!("daemons.{name}."));
        let of = daemons
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix.as_str()));
        let path = of.map_or(path.to_owned(), |rest| format!("daemons.*.{rest}"));
        return [path].into();
    }
    let mut known = keys(properties);
    // Of charts that have this one as a part.
    known.remove("global");
    assert_eq!(keys(values), known, "{path}");
    assert_eq!(schema["additionalProperties"], false, "{path}");
    let all = known.iter().flat_map(|key| {
        let path = [path, key].join(if path.is_empty() { "" } else { "." });
        settings(&values[key], &properties[key], &path)
    });
    all.collect()
}

/// Paths of the values that templates ask for.
fn asked_for(templates: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let mut found = BTreeSet::new();
    for (alias, part) in ALIASES {
        for rest in templates.split(alias).skip(1) {
            let path = rest.split(|c| !is_part(c)).next().unwrap_or_default();
            found.insert(format!("{part}{path}"));
        }
    }
    found
}

#[test]
fn templates_ask_for_values_that_there_are_and_every_value_is_asked_for() {
    let schema: Value = serde_json::from_str(&text("values.schema.json")).unwrap();
    let mut known = settings(&yaml("values.yaml"), &schema, "");
    assert!(known.len() > 25, "{known:?}");
    // As a whole, of which `$daemon` is one.
    known.insert("daemons".to_owned());
    assert_eq!(asked_for(&templates()), known);
}

#[test]
fn a_hole_without_a_value_is_found() {
    let asked = asked_for("{{ .Values.a.b }}{{ with $daemon.args }}{{ eq $.Values.c \"d\" }}");
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    assert_eq!(asked, ["a.b", "c", "daemons.*.args"]);
}

#[test]
fn every_value_has_a_comment() {
    let text = text("values.yaml");
    let mut before = "";
    for line in text.lines() {
        let is_key = line
            .trim_start()
            .starts_with(|c: char| c.is_ascii_lowercase());
        let is_told = before.trim_start().starts_with('#');
        assert!(!is_key || is_told, "{line} has no comment");
        before = line;
    }
}

#[test]
fn templates_read_files_that_there_are_and_every_file_is_read() {
    let templates = templates();
    let read = templates.split(".Files.Get \"").skip(1);
    let read: BTreeSet<&str> = read.filter_map(|rest| rest.split('"').next()).collect();
    let copies = crds::COPIES.iter().map(|(file, _)| *file);
    let copies = copies.map(|file| file.strip_prefix("manifests/chart/").unwrap());
    // Helm itself reads the definitions.
    let copies = copies.filter(|file| !file.starts_with("crds/")).collect();
    assert_eq!(read, copies);
}

#[test]
fn files_of_the_chart_are_fresh() {
    for (file, of) in crds::COPIES {
        let read = |file: &str| fs::read_to_string(paths::repository().join(file)).unwrap();
        assert!(read(file) == read(of), "{file}: run `cargo xtask crds`");
    }
}

#[test]
fn values_say_what_is_installed_without_them() {
    let values = yaml("values.yaml");
    let installed: Vec<Value> = serde_saphyr::from_multiple(&text("files/install.yaml")).unwrap();
    let mut daemons = BTreeSet::new();
    for object in &installed {
        if object["kind"] == "Deployment" {
            let [container] = object["spec"]["template"]["spec"]["containers"]
                .as_array()
                .unwrap()
                .as_slice()
            else {
                panic!("{object}: values are for one container");
            };
            let name = container["name"].as_str().unwrap();
            daemons.insert(name);
            // Nobody says another number of what must be alone, and without a number it stays.
            let replicas = values["daemons"][name].get("replicas");
            assert_eq!(
                replicas.is_none(),
                object["spec"]["replicas"] == 1,
                "{name}"
            );
            assert!(replicas.is_none_or(|replicas| *replicas == 0), "{name}");
            let image = container["image"].as_str().unwrap();
            let registry = values["image"]["registry"].as_str().unwrap();
            let expected = format!(
                "{registry}/{}:{}",
                object["metadata"]["name"].as_str().unwrap(),
                env!("CARGO_PKG_VERSION")
            );
            assert_eq!(image, expected);
            assert_eq!(container["imagePullPolicy"], values["image"]["pullPolicy"]);
            assert!(
                container["env"].is_array(),
                "{name}: variables are added to it"
            );
        } else if object["metadata"]["name"] == "sublet-front-door" {
            assert_eq!(object["spec"]["type"], "NodePort");
            assert_eq!(values["frontDoor"]["type"], "", "it stays what it is");
        }
    }
    assert_eq!(daemons, keys(&values["daemons"]));
}

#[test]
fn the_chart_is_of_this_version() {
    let chart = yaml("Chart.yaml");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let oldest = chart["kubeVersion"].as_str().unwrap();
    let oldest = oldest.trim_start_matches(">=").trim_end_matches(".0-0");
    let page = fs::read_to_string(paths::repository().join("docs/install.md")).unwrap();
    assert!(
        page.contains(&format!("Kubernetes {oldest} or newer")),
        "{oldest}"
    );
}
