//! Laws over README and `docs/`: what they tell people to type is understood, their YAML is what the resource definitions
//! know, their links lead somewhere, and they name all that there is. Tests only.

mod monitoring;
mod proof;
mod schema;
mod text;

use crate::args::{Program, command};
use clap::error::ErrorKind;
use schema::Definitions;
use std::{collections::BTreeSet, fs, path::Path};
use text::{Page, pages, words};

/// Sources of the daemons' metrics, with the prefix that each registers.
const METRICS: [(&str, &str); 4] = [
    ("sublet_syncer_", "syncer/src/metrics.rs"),
    ("sublet_syncer_", "syncer/src/page.rs"),
    ("sublet_manager_", "manager/src/metrics.rs"),
    ("sublet_apiserver_proxy_", "apiserver-proxy/src/metrics.rs"),
];

fn understood(words: &[String]) -> Result<(), clap::Error> {
    match command(Program::Sublet).try_get_matches_from(words) {
        Err(err) if err.kind() != ErrorKind::DisplayHelp => Err(err),
        _ => Ok(()),
    }
}

#[test]
fn commands_of_the_pages_are_understood() {
    let mut count = 0;
    for page in pages() {
        for line in page.typed() {
            let words = words(&line);
            if words.first().is_some_and(|first| first == "sublet") {
                count += 1;
                if let Err(err) = understood(&words) {
                    panic!("{}: {line}\n{err}", page.name);
                }
            }
        }
    }
    assert!(count > 25, "{count}");
}

#[test]
fn commands_within_sentences_are_understood_as_far_as_they_go() {
    let mut count = 0;
    for page in pages() {
        for said in page.quoted() {
            let words = words(&said);
            if words.len() < 2 || words[0] != "sublet" {
                continue;
            }
            count += 1;
            match understood(&words).map_err(|err| err.kind()) {
                // A sentence may leave out the rest.
                Ok(())
                | Err(
                    ErrorKind::MissingRequiredArgument
                    | ErrorKind::MissingSubcommand
                    | ErrorKind::InvalidValue
                    // NAME is no name.
                    | ErrorKind::ValueValidation
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                ) => {}
                Err(kind) => panic!("{}: `{said}`: {kind:?}", page.name),
            }
        }
    }
    assert!(count > 25, "{count}");
}

#[test]
fn every_command_is_told_of() {
    let told: Vec<String> = pages()
        .iter()
        .flat_map(|page| page.typed().into_iter().chain(page.quoted()))
        .collect();
    for known in command(Program::Sublet).get_subcommands() {
        let wanted = ["sublet".to_owned(), known.get_name().to_owned()];
        assert!(
            told.iter().any(|line| words(line).starts_with(&wanted)),
            "no page tells of `sublet {}`",
            known.get_name()
        );
    }
}

#[test]
fn yaml_of_the_pages_holds_no_field_that_its_kind_has_not() {
    let definitions = Definitions::all();
    let mut count = 0;
    for page in pages() {
        for block in page.blocks("yaml") {
            let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&block)
                .unwrap_or_else(|err| panic!("{}: {err}\n{block}", page.name));
            for object in objects {
                let kind = object["kind"].as_str();
                let kind = kind.unwrap_or_else(|| panic!("{}: of what kind?\n{block}", page.name));
                let Some(definition) = definitions.of(kind) else {
                    continue;
                };
                count += 1;
                let wrong = definition.judge(&object);
                assert_eq!(wrong, [] as [&str; 0], "{}:\n{block}", page.name);
            }
        }
    }
    assert!(count > 12, "{count}");
}

#[test]
fn patches_of_the_pages_hold_no_field_that_their_kind_has_not() {
    let definitions = Definitions::all();
    let mut count = 0;
    for page in pages() {
        for line in page.typed() {
            let words = words(&line);
            let patch = words.iter().position(|word| word == "-p");
            let of = words
                .iter()
                .find_map(|word| definitions.by_short_name(word));
            let (Some(patch), Some(of)) = (patch.and_then(|at| words.get(at + 1)), of) else {
                continue;
            };
            count += 1;
            let patch: serde_json::Value = serde_json::from_str(patch)
                .unwrap_or_else(|err| panic!("{}: {line}: {err}", page.name));
            assert_eq!(of.judge(&patch), [] as [&str; 0], "{}: {line}", page.name);
        }
    }
    assert!(count > 1, "{count}");
}

#[test]
fn a_field_that_is_not_there_is_found() {
    let definitions = Definitions::all();
    let vcp = definitions.of("VirtualControlPlane").unwrap();
    let judged = |spec: serde_json::Value| vcp.judge(&serde_json::json!({"spec": spec}));
    assert_eq!(
        judged(serde_json::json!({"paused": true, "network": {"dns": "shared"}})),
        [] as [&str; 0]
    );
    assert_eq!(
        judged(serde_json::json!({"pausd": true, "network": {"dns": "both"}, "replicas": "1"})),
        [
            "spec.network.dns: \"both\" isn't one of dedicated, shared, none",
            "spec.pausd: there is no such field",
            "spec.replicas: \"1\" is no integer",
        ]
    );
}

#[test]
fn every_field_of_a_spec_is_told_of() {
    let definitions = Definitions::all();
    for (kind, page) in [
        ("VirtualControlPlane", "docs/tenants.md"),
        ("ControlPlaneClass", "docs/classes.md"),
        ("ControlPlaneGroup", "docs/classes.md"),
    ] {
        let page = page_named(page);
        for field in definitions.of(kind).unwrap().spec_fields() {
            // As code in a sentence, or as a key of an example.
            let told = page.quoted().iter().any(|said| {
                let said = said.strip_prefix("spec.").unwrap_or(said);
                said.split(['.', ' ', ':', '{']).next() == Some(field.as_str())
            });
            let shown = page.text.lines().any(|line| {
                let key = line.trim_start();
                key.starts_with(&format!("{field}:"))
            });
            assert!(told || shown, "{}: {kind} has {field}", page.name);
        }
    }
}

#[test]
fn every_condition_of_a_tenant_has_a_row() {
    let definitions = Definitions::all();
    let said = definitions
        .of("VirtualControlPlane")
        .unwrap()
        .description("/status/properties/conditions");
    let known: BTreeSet<&str> = said.split('`').skip(1).step_by(2).collect();
    assert!(known.len() > 10, "{known:?}");
    let page = page_named("docs/tenants.md");
    let (_, part) = page.text.split_once("\n## States\n").unwrap();
    let part = part.split("\n## ").next().unwrap_or_default();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(told, known);
}

#[test]
fn metrics_of_the_pages_are_those_of_the_daemons() {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let bare = |name: &str| {
        let end = ["_total", "_bucket"];
        let bare = end.iter().find_map(|end| name.strip_suffix(*end));
        bare.unwrap_or(name).to_owned()
    };
    let mut known = BTreeSet::new();
    for (prefix, file) in METRICS {
        let source = fs::read_to_string(text::repository().join(file)).unwrap();
        // Those that the registry holds, and those that are written by hand.
        let registered = source.split(".register(").skip(1);
        let registered = registered.filter_map(|rest| rest.split('"').nth(1));
        known.extend(registered.map(|name| format!("{prefix}{name}")));
        let written = source.split(prefix).skip(1);
        let written = written.map(|rest| rest.split(|c| !is_part(c)).next().unwrap_or_default());
        known.extend(written.map(|name| bare(&format!("{prefix}{name}"))));
    }
    assert!(known.len() > 15, "{known:?}");
    let is_metric = |word: &&str| METRICS.iter().any(|(prefix, _)| word.starts_with(prefix));
    let mut told = BTreeSet::new();
    for page in pages() {
        for word in page.text.split(|c| !is_part(c)).filter(is_metric) {
            let name = bare(word);
            assert!(known.contains(&name), "{}: {word}", page.name);
            told.insert(name);
        }
    }
    let untold: Vec<&String> = known.difference(&told).collect();
    assert!(untold.is_empty(), "no page tells of {untold:?}");
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut count = 0;
    for page in &pages {
        for link in page.links() {
            if link.contains("://") {
                continue;
            }
            count += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = match file {
                "" => page.path.clone(),
                file => page.path.with_file_name("").join(file),
            };
            let is_there = target.exists();
            assert!(is_there, "{}: there is no {link}", page.name);
            if heading.is_empty() {
                continue;
            }
            let target = Page::read(&target);
            assert!(
                target.anchors().iter().any(|anchor| anchor == heading),
                "{}: {link} is no heading of {}",
                page.name,
                target.name
            );
        }
    }
    assert!(count > 60, "{count}");
}

#[test]
fn files_that_pages_name_are_there() {
    let entries = fs::read_dir(text::repository()).unwrap();
    let folders: Vec<String> = entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir() && entry.file_name() != "target")
        .map(|entry| format!("{}/", entry.file_name().display()))
        .collect();
    let mut count = 0;
    for page in pages() {
        for said in page.quoted() {
            // The one that a reader is to make.
            let is_example = said.contains("/foo.");
            if !is_example && folders.iter().any(|folder| said.starts_with(folder)) {
                count += 1;
                // A module is named without its end, too.
                let path = text::repository().join(&said);
                let is_there = path.exists() || path.with_extension("rs").exists();
                assert!(is_there, "{}: there is no {said}", page.name);
            }
        }
    }
    assert!(count > 15, "{count}");
}

#[test]
fn the_readme_leads_to_every_page() {
    let readme = page_named("README.md");
    let links: Vec<String> = readme.links();
    for page in pages().iter().filter(|page| page.name != readme.name) {
        let is_there = links
            .iter()
            .any(|link| link.split('#').next() == Some(page.name.as_str()));
        assert!(is_there, "the README doesn't lead to {}", page.name);
    }
}

fn page_named(name: &str) -> Page {
    Page::read(&text::repository().join(Path::new(name)))
}

/// What `Refused` and the tables of fields say first.
const REFUSALS: [&str; 7] = [
    "Refused::new(",
    "Rule::Refuse(",
    "Rule::Only(",
    "Rule::Privileged(",
    "const TAKEN: &str =",
    "const EXCEEDED: &str =",
    "const UNSAID: &str =",
];

/// A row of the page of refusals.
pub(crate) struct Refusal {
    pub(crate) reasons: Vec<String>,
    pub(crate) refused: String,
    pub(crate) instead: String,
}

/// All of them.
pub(crate) fn refusals() -> Vec<Refusal> {
    let page = page_named("docs/refusals.md");
    let rows = page.text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, reasons, refused, instead, _] = cells[..] else {
            panic!("{row}");
        };
        let reasons = reasons.split('`').filter(|word| word.len() > 2);
        Refusal {
            reasons: reasons.map(str::to_owned).collect(),
            refused: refused.to_owned(),
            instead: instead.to_owned(),
        }
    })
    .collect()
}

#[test]
fn every_reason_of_a_refusal_has_a_row() {
    let page = page_named("docs/refusals.md");
    let rows = refusals();
    let told: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row.reasons.iter().map(String::as_str))
        .collect();
    assert!(told.len() > 40, "{told:?}");
    let mut sources = vec![];
    for folder in ["tenancy/src", "syncer/src"] {
        text::sources_below(&text::repository().join(folder), &mut sources);
    }
    for reason in &told {
        let literal = format!("\"{reason}\"");
        let is_there = sources.iter().any(|source| source.contains(&literal));
        assert!(is_there, "nothing is refused as {reason}");
    }
    for source in &sources {
        for begun in REFUSALS {
            for rest in source.split(begun).skip(1) {
                // Values that are allowed, or another rule, may stand before it.
                let rest = match rest.trim_start().strip_prefix('&') {
                    Some(rest) if begun.starts_with("Rule::") => {
                        let end = if rest.starts_with('[') { "]," } else { "," };
                        rest.split_once(end).map_or(rest, |(_, after)| after)
                    }
                    _ => rest,
                };
                let Some(literal) = rest.trim_start().strip_prefix('"') else {
                    continue;
                };
                let reason = literal.split('"').next().unwrap_or_default();
                assert!(told.contains(reason), "{}: {reason} has no row", page.name);
            }
        }
    }
}
