//! `sublet doctor`: checks the cluster, Sublet and its tenants, and says what to do about each finding.

mod admission;
mod certificates;
mod checks;
mod dns;
mod drain;
mod front_door;
mod leftover;
mod rights;
pub(super) mod storage;
mod syncers;
mod trust;

use crate::{
    args::{Global, Program},
    cluster::Cluster,
    error::{self, FAILURE},
    helm::Lines,
    output::{self, Data},
    style::{self, Style},
    table::{Mood, Table},
};
use anyhow::Result;
use serde_json::json;
use std::process::ExitCode;

/// Flags of `sublet doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print it as data
    #[arg(short, long, value_enum)]
    output: Option<Data>,
}

const EXAMPLES: &str = "\
Examples:
  sublet doctor
  sublet doctor -o json

The exit code is 1 when a check fails; warnings don't count.";

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    level: Level,
    /// What was looked at, one word.
    subject: &'static str,
    /// What was seen.
    text: String,
    /// What to do; empty when all is well.
    advice: String,
}

impl Check {
    fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            subject,
            text: text.into(),
            advice: String::new(),
        }
    }

    fn warn(subject: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            subject,
            text: text.into(),
            advice: advice.into(),
        }
    }

    fn fail(subject: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            subject,
            text: text.into(),
            advice: advice.into(),
        }
    }
}

/// Runs all checks. A finding is no error: only the exit code tells.
pub(crate) async fn run(args: &Args, global: &Global, program: Program) -> Result<ExitCode> {
    let cluster = Cluster::connect(global, program).await?;
    let checks = all(&cluster).await;
    output::print(&match args.output {
        Some(format) => format.text(&data(&checks))?,
        None => words(&checks, style::stdout()),
    })?;
    let failed = checks.iter().any(|check| check.level == Level::Fail);
    Ok(if failed {
        ExitCode::from(FAILURE)
    } else {
        ExitCode::SUCCESS
    })
}

/// All findings, in the order in which they would be fixed.
async fn all(cluster: &Cluster) -> Vec<Check> {
    let answers = match checks::cluster(cluster).await {
        Ok(answers) => answers,
        Err(err) => return vec![unanswered("cluster", err, cluster)],
    };
    let mut checks = vec![answers];
    checks.extend(told(checks::nodes(cluster).await, cluster));
    checks.extend(told(checks::addresses(cluster).await, cluster));
    checks.extend(told(rights::check(cluster).await, cluster));
    // Whoever may not look is told so by each check.
    if let Ok(false) = checks::is_installed(cluster).await {
        let install = format!("run `{}`", cluster.hint_anywhere("install"));
        checks.push(Check::fail("sublet", "Sublet isn't installed", install));
        return checks;
    }
    let lines = Lines::of(cluster).await;
    let definitions = told(checks::definitions(cluster, &lines).await, cluster);
    let missing = definitions.iter().any(|check| check.level == Level::Fail);
    checks.extend(told(admission::check(cluster, &lines).await, cluster));
    checks.extend(definitions);
    checks.extend(told(checks::daemons(cluster, &lines).await, cluster));
    checks.extend(told(front_door::check(cluster, &lines).await, cluster));
    checks.extend(told(checks::leases(cluster).await, cluster));
    // Without their definitions there are neither classes nor tenants to be found.
    if !missing {
        checks.extend(told(checks::classes(cluster, &lines).await, cluster));
        checks.extend(told(trust::check(cluster).await, cluster));
        checks.extend(told(storage::check(cluster, &lines).await, cluster));
        checks.extend(told(drain::check(cluster).await, cluster));
        checks.extend(told(syncers::check(cluster).await, cluster));
        checks.extend(told(dns::check(cluster, &lines).await, cluster));
        checks.extend(told(checks::tenants(cluster).await, cluster));
        checks.extend(told(certificates::check(cluster).await, cluster));
        checks.extend(told(front_door::reached(cluster).await, cluster));
        checks.extend(told(leftover::check(cluster).await, cluster));
    }
    checks
}

fn told(outcome: checks::Outcome, cluster: &Cluster) -> Vec<Check> {
    outcome.unwrap_or_else(|(subject, err)| vec![unanswered(subject, err, cluster)])
}

/// A check that couldn't be made: a missing right is no fault of Sublet.
fn unanswered(subject: &'static str, err: kube::Error, cluster: &Cluster) -> Check {
    let forbidden = error::is_forbidden(&err);
    let text = cluster.clear(err.into()).to_string();
    if forbidden {
        Check::warn(subject, text, "")
    } else {
        Check::fail(subject, text, "")
    }
}

fn data(checks: &[Check]) -> serde_json::Value {
    let list: Vec<_> = checks
        .iter()
        .map(|check| json!({"level": word(check.level), "subject": check.subject, "text": check.text, "advice": check.advice}))
        .collect();
    let worst = checks
        .iter()
        .map(|check| check.level)
        .max()
        .unwrap_or(Level::Ok);
    json!({"result": word(worst), "checks": list})
}

/// Findings about the same for which the same must be done, as one each.
fn folded(checks: &[Check]) -> Vec<Check> {
    let mut rows: Vec<(Check, usize)> = vec![];
    for check in checks {
        let same = |(row, _): &&mut (Check, usize)| {
            (row.level, row.subject, &row.advice) == (check.level, check.subject, &check.advice)
        };
        match rows.iter_mut().find(same) {
            Some((row, count)) if check.level != Level::Ok && !check.advice.is_empty() => {
                *count += 1;
                if *count <= TOLD {
                    row.text = format!("{}; {}", row.text, check.text);
                }
            }
            _ => rows.push((check.clone(), 1)),
        }
    }
    let rows = rows.into_iter().map(|(mut row, count)| {
        if count > TOLD {
            row.text = format!("{}; and {} more", row.text, count - TOLD);
        }
        row
    });
    rows.collect()
}

/// How many findings with the same advice are told one by one.
const TOLD: usize = 3;

fn words(checks: &[Check], style: Style) -> String {
    let mut table = Table::default();
    for check in folded(checks) {
        let mood = match check.level {
            Level::Ok => Mood::Good,
            Level::Warn => Mood::Busy,
            Level::Fail => Mood::Bad,
        };
        let text = if check.advice.is_empty() {
            check.text.clone()
        } else {
            format!("{}: {}", check.text, check.advice)
        };
        table.moody(vec![
            (word(check.level).to_owned(), mood),
            (check.subject.to_owned(), Mood::Plain),
            (text, Mood::Plain),
        ]);
    }
    let count = |level| checks.iter().filter(|check| check.level == level).count();
    let end = match (count(Level::Fail), count(Level::Warn)) {
        (0, 0) => "All is well.".to_owned(),
        (0, warnings) => format!("{warnings} to look at."),
        (failures, 0) => format!("{failures} failed."),
        (failures, warnings) => format!("{failures} failed, {warnings} to look at."),
    };
    format!("{}\n{}\n", table.render(style, None), style.bold(&end))
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "fail",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Check> {
        vec![
            Check::ok("cluster", "it answers"),
            Check::warn("nodes", "n1 isn't ready", "look at it"),
            Check::fail("class", "none", "install"),
        ]
    }

    #[test]
    fn findings_are_told_with_what_to_do() {
        assert_eq!(
            words(&sample(), style::plain()),
            "ok     cluster   it answers\nwarn   nodes     n1 isn't ready: look at it\nfail   class     none: install\n\n1 failed, 1 to look at.\n"
        );
        assert!(words(&sample()[..1], style::plain()).ends_with("All is well.\n"));
    }

    #[test]
    fn findings_with_the_same_advice_are_one_row() {
        let lacking = |name: &str| Check::fail("roles", format!("{name} isn't there"), "install");
        let mut checks: Vec<Check> = ["a", "b", "c", "d", "e"].map(lacking).into();
        checks.push(Check::fail("daemons", "m isn't there", "install"));
        checks.extend([Check::ok("leases", "x"), Check::ok("leases", "y")]);
        assert_eq!(
            words(&checks, style::plain()),
            "fail   roles     a isn't there; b isn't there; c isn't there; and 2 more: install\n\
             fail   daemons   m isn't there: install\n\
             ok     leases    x\n\
             ok     leases    y\n\n6 failed.\n"
        );
        assert_eq!(data(&checks)["checks"].as_array().map(Vec::len), Some(8));
    }

    #[test]
    fn data_holds_the_worst_level() {
        assert_eq!(data(&sample())["result"], "fail");
        assert_eq!(data(&sample()[..2])["result"], "warn");
        assert_eq!(data(&sample())["checks"][1]["advice"], "look at it");
    }
}
