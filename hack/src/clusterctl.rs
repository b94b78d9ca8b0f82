//! Laws over `manifests/capi`: what `clusterctl` asks for of a provider's files. Tests only.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::paths;

/// The providers: folder and file of each.
const PROVIDERS: [(&str, &str); 2] = [
    ("control-plane-sublet", "control-plane-components.yaml"),
    ("infrastructure-sublet", "infrastructure-components.yaml"),
];

/// Files that make Clusters.
const TEMPLATES: [&str; 2] = ["cluster-template.yaml", "cluster-template-topology.yaml"];
const CLASS: &str = "clusterclass-sublet.yaml";

/// What tells people how to use them.
const PAGE: &str = include_str!("../../docs/cluster-api.md");
/// Where tests run clusterctl.
const RUNS: [&str; 2] = [
    include_str!("../../e2e/tests/e2e/capi/init.rs"),
    include_str!("../../e2e/tests/e2e/capi/life.rs"),
];

/// Variables that clusterctl knows itself; others bear the provider's prefix.
const KNOWN: [&str; 4] = [
    "CLUSTER_NAME",
    "NAMESPACE",
    "KUBERNETES_VERSION",
    "CONTROL_PLANE_MACHINE_COUNT",
];

/// `metadata.yaml`, which is read strictly.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata {
    api_version: String,
    kind: String,
    release_series: Vec<Series>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    major: u64,
    minor: u64,
    contract: String,
}

/// A provider's one folder of a version.
fn release(provider: &str) -> PathBuf {
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    paths::repository()
        .join("manifests/capi")
        .join(provider)
        .join(version)
}

fn text(provider: &str, file: &str) -> String {
    fs::read_to_string(release(provider).join(file)).unwrap()
}

fn objects(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

fn components() -> impl Iterator<Item = (&'static str, Vec<Value>)> {
    PROVIDERS
        .map(|(provider, file)| (provider, objects(&text(provider, file))))
        .into_iter()
}

fn all<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

/// What stands between `${` and `}`, without a default.
fn variables(text: &str) -> BTreeSet<&str> {
    let begun = text.split("${").skip(1);
    let names = begun.map(|rest| rest.split(['}', ':']).next().unwrap_or_default());
    names.collect()
}

/// With a host, without which clusterctl takes it for none.
fn is_canonical(image: &str) -> bool {
    let (host, rest) = image.split_once('/').unwrap_or_default();
    let tag = rest
        .rsplit_once(':')
        .is_some_and(|(name, tag)| !name.is_empty() && !tag.is_empty());
    (host.contains('.') || host.contains(':')) && tag
}

#[test]
fn metadata_has_a_series_for_this_version_and_the_contract_of_the_definitions() {
    for (provider, objects) in components() {
        let metadata: Metadata = serde_saphyr::from_str(&text(provider, "metadata.yaml")).unwrap();
        assert_eq!(metadata.api_version, "clusterctl.cluster.x-k8s.io/v1alpha3");
        assert_eq!(metadata.kind, "Metadata");
        let mut version = env!("CARGO_PKG_VERSION")
            .split('.')
            .map(|part| part.parse().unwrap());
        let (major, minor): (u64, u64) = (version.next().unwrap(), version.next().unwrap());
        let series = metadata.release_series.iter();
        let contracts: Vec<&str> = series
            .filter(|series| (series.major, series.minor) == (major, minor))
            .map(|series| &*series.contract)
            .collect();
        let [contract] = contracts[..] else {
            panic!("{provider}: {contracts:?}");
        };
        let label = format!("cluster.x-k8s.io/{contract}");
        let definitions = all(&objects, "CustomResourceDefinition");
        let labelled = definitions
            .iter()
            .filter(|crd| crd["metadata"]["labels"][&label].is_string());
        assert_eq!(labelled.count(), 2, "{provider}: object and template");
    }
}

#[test]
fn all_of_a_provider_is_in_its_one_namespace_and_bears_its_label() {
    for (provider, objects) in components() {
        let namespaces = all(&objects, "Namespace");
        let [namespace] = namespaces[..] else {
            panic!("{provider}: {} namespaces", namespaces.len());
        };
        let namespaced = [
            "ServiceAccount",
            "Role",
            "RoleBinding",
            "ConfigMap",
            "Secret",
            "Service",
            "Deployment",
            "PodDisruptionBudget",
            "NetworkPolicy",
        ];
        for object in &objects {
            let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
            let name = format!("{provider}: {kind} {}", metadata["name"]);
            assert_eq!(
                metadata["labels"]["cluster.x-k8s.io/provider"], provider,
                "{name}"
            );
            if namespaced.contains(&kind) || metadata["namespace"].is_string() {
                assert_eq!(
                    metadata["namespace"], namespace["metadata"]["name"],
                    "{name}"
                );
            }
            for subject in object["subjects"].as_array().into_iter().flatten() {
                if subject["kind"] == "ServiceAccount" {
                    assert_eq!(
                        subject["namespace"], namespace["metadata"]["name"],
                        "{name}"
                    );
                }
            }
        }
    }
}

#[test]
fn one_container_is_called_manager_and_all_images_have_a_host() {
    let mut managers = 0;
    for (provider, objects) in components() {
        for deployment in all(&objects, "Deployment") {
            let pod = &deployment["spec"]["template"]["spec"];
            let lists = [&pod["containers"], &pod["initContainers"]];
            for container in lists.into_iter().filter_map(Value::as_array).flatten() {
                let image = container["image"].as_str().unwrap();
                assert!(is_canonical(image), "{provider}: {image}");
                managers += usize::from(container["name"] == "manager");
            }
        }
        // Nothing is to be given at an installation; `images` of clusterctl's own configuration names another registry.
        let (_, file) = PROVIDERS
            .iter()
            .find(|(name, _)| *name == provider)
            .unwrap();
        assert_eq!(
            variables(&text(provider, file)),
            BTreeSet::new(),
            "{provider}"
        );
    }
    assert_eq!(managers, 1, "one manager serves both providers");
    assert!(!is_canonical("sublet/manager:1") && !is_canonical("registry.example.com/manager"));
}

#[test]
fn templates_make_all_in_one_namespace_by_known_variables() {
    for file in TEMPLATES {
        let text = text("infrastructure-sublet", file);
        for variable in variables(&text) {
            let known = KNOWN.contains(&variable) || variable.starts_with("SUBLET_");
            assert!(known, "{file}: {variable}");
        }
        let objects = objects(&text);
        assert_eq!(objects.last().unwrap()["kind"], "Cluster", "{file}");
        for object in objects {
            assert_eq!(object["metadata"]["namespace"], "${NAMESPACE}", "{file}");
        }
    }
}

#[test]
fn the_class_refers_to_what_is_in_its_file_and_takes_no_variables() {
    let text = text("infrastructure-sublet", CLASS);
    assert_eq!(variables(&text), BTreeSet::new());
    let objects = objects(&text);
    assert!(
        objects
            .iter()
            .all(|object| object["metadata"]["namespace"].is_null())
    );
    let [class] = all(&objects, "ClusterClass")[..] else {
        panic!("one class");
    };
    let file = format!(
        "clusterclass-{}.yaml",
        class["metadata"]["name"].as_str().unwrap()
    );
    assert_eq!(file, CLASS, "clusterctl finds a class by its name");
    for part in ["controlPlane", "infrastructure"] {
        let reference = &class["spec"][part]["templateRef"];
        let refers = |object: &&Value| {
            ["apiVersion", "kind"]
                .iter()
                .all(|field| object[*field] == reference[*field])
                && object["metadata"]["name"] == reference["name"]
        };
        assert_eq!(objects.iter().filter(refers).count(), 1, "{reference}");
    }
    assert_eq!(objects.len(), 3);
}

/// What the page has people type of clusterctl, without where its configuration is and what becomes of its output.
fn typed() -> Vec<String> {
    let whole = PAGE.replace("\\\n", " ");
    let lines = whole.lines().filter_map(|line| {
        let (variables, rest) = line.strip_prefix("$ ")?.split_once("clusterctl ")?;
        let is_first = variables.split_whitespace().all(|word| word.contains('='));
        is_first.then_some(rest)
    });
    let bare = lines.map(|line| {
        let ends = [" | ", " > ", "  #"];
        let end = ends.iter().filter_map(|end| line.find(end)).min();
        let line = line[..end.unwrap_or(line.len())].replace("--config clusterctl.yaml", "");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    bare.collect()
}

#[test]
fn a_test_runs_each_line_of_the_page() {
    let typed = typed();
    assert!(typed.len() > 5, "{typed:?}");
    for line in typed {
        let elsewhere = line.replace("-n teams", "-n {}");
        let is_run = RUNS
            .iter()
            .any(|run| run.contains(&format!("\"{line}")) || run.contains(&elsewhere));
        assert!(is_run, "no test runs `clusterctl {line}`");
    }
}

#[test]
fn the_configuration_of_the_page_leads_to_the_providers() {
    let (_, block) = PAGE.split_once("```text\n# clusterctl.yaml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let configuration: Value = serde_saphyr::from_str(block).unwrap();
    let named = configuration["providers"].as_array().unwrap();
    assert_eq!(named.len(), PROVIDERS.len());
    for (provider, (folder, file)) in named.iter().zip(PROVIDERS) {
        let kind = match folder.strip_suffix("-sublet") {
            Some("control-plane") => "ControlPlaneProvider",
            _ => "InfrastructureProvider",
        };
        assert_eq!(provider["name"], "sublet");
        assert_eq!(provider["type"], kind);
        let place = provider["url"].as_str().unwrap();
        let place = place.strip_prefix("ROOT/").unwrap();
        let whole = paths::repository().join("manifests/capi").join(place);
        assert_eq!(whole, release(folder).join(file));
        assert!(whole.exists(), "there is no {place}");
    }
    let images = configuration["images"].as_object().unwrap();
    assert!(
        images
            .keys()
            .all(|of| PROVIDERS.iter().any(|(folder, _)| folder == of))
    );
}

#[test]
fn the_page_tells_of_each_variable_of_the_templates() {
    for file in TEMPLATES {
        for variable in variables(&text("infrastructure-sublet", file)) {
            assert!(PAGE.contains(&format!("`{variable}`")), "{variable}");
        }
    }
}
