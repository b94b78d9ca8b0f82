//! What the suite reports: from ginkgo's JSON to one line for each spec.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// One spec that ran.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spec {
    /// Its full text.
    pub(crate) name: String,
    /// How it ended.
    pub(crate) state: State,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Why it failed, in one line.
    pub(crate) message: String,
}

/// How a spec ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// As it should.
    Passed,
    /// Any other way.
    Failed,
    /// It is no spec but set-up or tear-down of the whole suite, and failed.
    Broken,
}

impl State {
    /// In lists.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Broken => "BROKEN",
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    spec_reports: Option<Vec<SpecReport>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SpecReport {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    #[serde(default)]
    leaf_node_text: String,
    state: String,
    #[serde(default)]
    run_time: f64,
    #[serde(default)]
    failure: Failure,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

/// The specs that ran, and whatever else of the suite failed, by name.
pub(crate) fn read(folder: &Path) -> Result<Vec<Spec>> {
    let path = folder.join("report.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let reports: Vec<Report> =
        serde_json::from_slice(&text).context("ginkgo's report isn't what it used to be")?;
    let all = reports
        .into_iter()
        .flat_map(|report| report.spec_reports.unwrap_or_default());
    let mut specs: Vec<Spec> = all.filter_map(spec).collect();
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(specs)
}

fn spec(report: SpecReport) -> Option<Spec> {
    let state = match report.state.as_str() {
        "passed" => State::Passed,
        "skipped" | "pending" => return None,
        _ if report.leaf_node_type == "It" => State::Failed,
        _ => State::Broken,
    };
    // Set-up and tear-down are no specs, unless they fail.
    if report.leaf_node_type != "It" && state == State::Passed {
        return None;
    }
    let mut words = report.container_hierarchy_texts.unwrap_or_default();
    words.push(report.leaf_node_text);
    if report.leaf_node_type != "It" {
        words.push(format!("[{}]", report.leaf_node_type));
    }
    Some(Spec {
        name: words.join(" ").trim().to_owned(),
        state,
        seconds: report.run_time / 1e9,
        message: report
            .failure
            .message
            .lines()
            .map(str::trim)
            .collect::<Vec<_>>()
            .join(" "),
    })
}

/// Writes one line for each spec.
pub(crate) fn write(folder: &Path, specs: &[Spec]) -> Result<()> {
    let lines: String = specs
        .iter()
        .map(|spec| {
            format!(
                "{}\t{:7.1} s\t{}\n",
                spec.state.word(),
                spec.seconds,
                spec.name
            )
        })
        .collect();
    fs::write(folder.join("specs.txt"), lines).context("cannot write the list of specs")
}

/// What a native run and a tenant's have in common, and what not.
pub(crate) fn comparison(native: &[Spec], tenant: &[Spec]) -> String {
    let natively = states(native);
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for spec in tenant {
        let group = match (natively.get(spec.name.as_str()), spec.state) {
            (Some(State::Passed), State::Passed) => "passes on both sides",
            (Some(State::Passed), _) => "passes natively, fails in the tenant",
            (Some(_), State::Passed) => "fails natively, passes in the tenant",
            (Some(_), _) => "fails on both sides",
            (None, _) => "did not run natively",
        };
        groups.entry(group).or_default().push(&spec.name);
    }
    let mut text = String::new();
    for (group, names) in groups {
        text += &format!("{group}: {}\n", names.len());
        if group != "passes on both sides" {
            text.extend(names.iter().map(|name| format!("  {name}\n")));
        }
    }
    text
}

/// How each spec ended natively and in the tenant, a line each; those that ran on one side alone have a dash on the other.
pub(crate) fn side_by_side(native: &[Spec], tenant: &[Spec]) -> String {
    let (natively, in_tenant) = (states(native), states(tenant));
    let names: BTreeSet<&str> = natively.keys().chain(in_tenant.keys()).copied().collect();
    let word = |states: &BTreeMap<&str, State>, name: &str| match states.get(name) {
        Some(state) => state.word(),
        None => "-",
    };
    let mut text = "natively  tenant  spec\n".to_owned();
    for name in names {
        text += &format!(
            "{:8}  {:6}  {name}\n",
            word(&natively, name),
            word(&in_tenant, name)
        );
    }
    text
}

fn states(specs: &[Spec]) -> BTreeMap<&str, State> {
    let all = specs.iter();
    all.map(|spec| (spec.name.as_str(), spec.state)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: &str, kind: &str) -> SpecReport {
        let json = format!(
            r#"{{"ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeType": "{kind}", "LeafNodeText": "does b",
                "State": "{state}", "RunTime": 1500000000, "Failure": {{"Message": "no\n  b"}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn specs_are_what_ran_and_what_broke() {
        assert_eq!(spec(report("skipped", "It")), None);
        assert_eq!(spec(report("passed", "BeforeSuite")), None);
        let failed = spec(report("panicked", "It")).unwrap();
        assert_eq!(
            (failed.name.as_str(), failed.state, failed.message.as_str()),
            ("[sig-x] A does b", State::Failed, "no b")
        );
        let broken = spec(report("failed", "SynchronizedBeforeSuite")).unwrap();
        assert_eq!(
            (broken.name.as_str(), broken.state),
            ("[sig-x] A does b [SynchronizedBeforeSuite]", State::Broken)
        );
    }

    #[test]
    fn each_spec_has_a_line_with_both_ends() {
        let one = spec(report("passed", "It")).unwrap();
        let failed = spec(report("failed", "It")).unwrap();
        let other = Spec {
            name: "[sig-x] B".to_owned(),
            ..one.clone()
        };
        assert_eq!(
            side_by_side(&[one], &[failed, other]),
            "natively  tenant  spec\n\
             passed    FAILED  [sig-x] A does b\n\
             -         passed  [sig-x] B\n"
        );
    }

    #[test]
    fn only_differences_are_listed() {
        let one = spec(report("passed", "It")).unwrap();
        let other = spec(report("failed", "It")).unwrap();
        assert_eq!(
            comparison(std::slice::from_ref(&one), std::slice::from_ref(&one)),
            "passes on both sides: 1\n"
        );
        assert_eq!(
            comparison(&[one], &[other]),
            "passes natively, fails in the tenant: 1\n  [sig-x] A does b\n"
        );
    }
}
