//! The results that the repository keeps of a release, and what is made of them: a chart for the README, and a table of
//! what was wanted and what was measured.

use super::{chart, table};
use crate::document;
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::{path::Path, process::Command};

/// Where they are, below the root of the repository.
const FILE: &str = "docs/bench/results.json";
const CHART: &str = "docs/bench/results.svg";
const TABLE: &str = "docs/bench/results.md";

/// How often at least all is measured that is kept.
pub const ROUNDS: u32 = 3;

/// Refuses to keep the medians of so few rounds that one of them may be chance.
///
/// # Errors
/// It says how many are needed.
pub fn judge_rounds(rounds: u32) -> anyhow::Result<()> {
    ensure!(
        rounds >= ROUNDS,
        "what is measured {rounds} times isn't kept: use --rounds {ROUNDS} or more"
    );
    Ok(())
}

/// Where a measurement that begins now comes from: version, commit, date and machine.
///
/// # Errors
/// The sources aren't a clone of the repository, or git isn't there.
pub fn origin(root: &Path, machine: &Value) -> anyhow::Result<Value> {
    let git = |arguments: &[&str]| -> anyhow::Result<String> {
        let run = Command::new("git")
            .args(arguments)
            .current_dir(root.join("."))
            .output();
        let output = run.context("starting git, which tells the commit")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "git tells no commit: {}",
            errors.trim()
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let mut commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Results that were kept before are no change of what is measured.
    if !git(&["status", "--porcelain", "--", ".", ":!docs/bench"])?.is_empty() {
        commit += ", dirty";
    }
    let date = jiff::Timestamp::now().strftime("%F").to_string();
    Ok(
        json!({"version": env!("CARGO_PKG_VERSION"), "commit": commit, "date": date, "machine": machine}),
    )
}

/// Takes what was measured into the results of the repository, and draws chart and table anew.
///
/// # Errors
/// Something that the syncer asked for wasn't simulated: such a figure counts nothing. Or the files below `root` can't be
/// read or written.
pub fn keep(root: &Path, origin: &Value, measured: &Value) -> anyhow::Result<()> {
    let gaps = gaps(measured);
    ensure!(
        gaps.is_empty(),
        "what was measured isn't kept: the simulated API servers lack {gaps:?}"
    );
    let path = root.join(FILE);
    let results = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("reading {FILE}"))?,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => json!({}),
        Err(err) => return Err(err).with_context(|| format!("reading {FILE}")),
    };
    let mut measured = measured.clone();
    if let (Some(measured), Some(origin)) = (measured.as_object_mut(), origin.as_object()) {
        measured.extend(origin.clone());
    }
    let text = serde_json::to_string_pretty(&with(results, measured))?;
    document::write(&path, &format!("{text}\n"))?;
    redraw(root)
}

/// What simulated API servers were asked for and didn't serve.
fn gaps(measured: &Value) -> Vec<&str> {
    let gaps = measured["figures"]["notSimulated"].as_array();
    gaps.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Draws chart and table from the results of the repository.
///
/// # Errors
/// As [`keep`].
pub fn redraw(root: &Path) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(root.join(FILE)).with_context(|| format!("reading {FILE}"))?;
    let results = serde_json::from_str(&text).with_context(|| format!("reading {FILE}"))?;
    document::write(&root.join(CHART), &chart::draw(&results))?;
    document::write(&root.join(TABLE), &table::draw(&results))
}

/// Results with what was measured in place of what was measured before of the same.
pub fn with(mut results: Value, measured: Value) -> Value {
    let what = |one: &Value| {
        let [scenario, tokens] = ["scenario", "tokens"].map(|field| one[field].to_string());
        (scenario, tokens, one["tenants"].as_u64())
    };
    let mut all = match results["measured"].take() {
        Value::Array(all) => all,
        _ => vec![],
    };
    match all.iter_mut().find(|one| what(one) == what(&measured)) {
        Some(one) => *one = measured,
        None => all.push(measured),
    }
    all.sort_by_key(what);
    json!({"measured": all})
}

/// The newest figure of a scenario that has it.
pub fn median<'a>(
    document: &'a Value,
    scenario: &str,
    tokens: &str,
    pointer: &str,
) -> Option<&'a Value> {
    newest(document, scenario, tokens, pointer).map(|(_, figure)| figure)
}

/// A letter for where such a figure comes from, the same in chart and table: its place among the [`origins`].
pub fn letter(document: &Value, scenario: &str, tokens: &str, pointer: &str) -> Option<char> {
    let (one, _) = newest(document, scenario, tokens, pointer)?;
    let about = about(one)?;
    ('A'..='Z')
        .zip(origins(document))
        .find_map(|(letter, origin)| (origin == about).then_some(letter))
}

/// Where the measurements come from, each once.
pub fn origins(document: &Value) -> Vec<String> {
    let mut all = vec![];
    for one in document["measured"].as_array().into_iter().flatten() {
        all.extend(about(one).filter(|about| !all.contains(about)));
    }
    all
}

fn about(one: &Value) -> Option<String> {
    let machine = one["machine"].as_object()?;
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    Some(format!(
        "version {}, commit {}, {}; {} processors ({}), {} GiB of memory, Linux {}",
        text(&one["version"]),
        text(&one["commit"]),
        one["date"].as_str().unwrap_or("of an unknown day"),
        machine["processors"],
        text(&machine["processor"]),
        machine["memoryGiB"],
        text(&machine["kernel"]),
    ))
}

/// The measurement of the scenario that has the figure and was made last, and the figure. What has no day is from before days
/// were told; of one day the one with the fewest tenants counts, as a release has it.
fn newest<'a>(
    document: &'a Value,
    scenario: &str,
    tokens: &str,
    pointer: &str,
) -> Option<(&'a Value, &'a Value)> {
    let measured = document["measured"].as_array()?.iter().rev();
    measured
        .filter(|one| one["scenario"] == scenario && one["tokens"] == tokens)
        .filter_map(|one| Some((one, one["figures"]["median"].pointer(pointer)?)))
        .max_by_key(|&(one, _)| one["date"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(scenario: &str, median: &Value) -> Value {
        json!({"scenario": scenario, "tokens": "off", "tenants": 10, "figures": {"median": median}})
    }

    #[test]
    fn chart_and_table_are_those_of_the_results() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            redraw(root).unwrap();
        }
        let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
        let results: Value = serde_json::from_str(&read(FILE)).unwrap();
        assert_eq!(
            read(CHART),
            chart::draw(&results),
            "cargo xtask bench chart"
        );
        assert_eq!(
            read(TABLE),
            table::draw(&results),
            "cargo xtask bench chart"
        );
        for one in results["measured"].as_array().unwrap() {
            assert_eq!(gaps(one), [""; 0], "{} counts nothing", one["scenario"]);
        }
    }

    #[test]
    fn a_figure_with_gaps_is_not_kept() {
        let mut one = one("ceiling", &json!({}));
        one["figures"]["notSimulated"] = json!(["GET /apis/x"]);
        let err = keep(Path::new("/nowhere"), &json!({}), &one).unwrap_err();
        assert_eq!(
            err.to_string(),
            r#"what was measured isn't kept: the simulated API servers lack ["GET /apis/x"]"#
        );
    }

    #[test]
    fn figures_of_one_commit_and_machine_have_one_letter() {
        let of = |scenario, commit| {
            let mut one = one(scenario, &json!({"a": 1}));
            one["machine"] =
                json!({"processors": 2, "processor": "p", "memoryGiB": 4, "kernel": "k"});
            one["commit"] = json!(commit);
            one
        };
        let results = with(json!({}), of("burst", "one"));
        let results = with(results, of("steady", "two"));
        let results = with(results, of("fair", "one"));
        let letter = |scenario| letter(&results, scenario, "off", "/a");
        assert_eq!(
            ["burst", "fair", "steady", "idle"].map(letter),
            [Some('A'), Some('A'), Some('B'), None]
        );
        assert!(origins(&results)[1].contains("commit two"));
    }

    #[test]
    fn the_origin_is_the_commit_of_the_sources() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let origin = origin(root, &json!({})).unwrap();
        let commit = origin["commit"].as_str().unwrap();
        let digits = commit.split(',').next().unwrap();
        assert!(
            digits.len() >= 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{commit}"
        );
    }

    #[test]
    fn the_newest_figure_is_that_of_the_last_day_however_many_tenants_it_is_of() {
        let of = |tenants: u32, date: Value, a: u32| {
            let mut one = one("idle", &json!({"a": a}));
            one["tenants"] = tenants.into();
            one["date"] = date;
            one
        };
        let newest = |all: &[Value]| {
            let results = all.iter().cloned().fold(json!({}), with);
            median(&results, "idle", "off", "/a").and_then(Value::as_u64)
        };
        let (day, next) = (json!("2026-01-09"), json!("2026-01-10"));
        let first = of(10, day.clone(), 1);
        assert_eq!(newest(&[of(5, day.clone(), 2), first.clone()]), Some(2));
        assert_eq!(newest(&[of(50, day, 2), first.clone()]), Some(1));
        assert_eq!(newest(&[of(50, next.clone(), 2), first.clone()]), Some(2));
        assert_eq!(newest(&[of(5, next, 2), first.clone()]), Some(2));
        assert_eq!(newest(&[of(50, Value::Null, 2), first]), Some(1));
    }

    #[test]
    fn two_rounds_are_too_few_to_be_kept() {
        judge_rounds(ROUNDS).unwrap();
        let why = judge_rounds(2).unwrap_err().to_string();
        assert!(
            why.contains("2 times") && why.contains("--rounds 3"),
            "{why}"
        );
    }

    #[test]
    fn what_is_measured_again_takes_the_place_of_what_was() {
        let results = with(json!({}), one("steady", &json!({"a": 1})));
        let results = with(results, one("burst", &json!({"a": 2})));
        let results = with(results, one("steady", &json!({"a": 3})));
        assert_eq!(results["measured"].as_array().unwrap().len(), 2);
        let at = |scenario| median(&results, scenario, "off", "/a");
        assert_eq!(
            (at("burst"), at("steady")),
            (Some(&json!(2)), Some(&json!(3)))
        );
    }
}
