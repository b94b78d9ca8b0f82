//! `cargo xtask conformance`: the upstream suite, by tiers, against a tenant or the super cluster itself.
//!
//! A spec that fails natively is no fault of Sublet; only the difference counts. So run a tier with
//! `--native` first: what failed there is told and fails no run in a tenant. Results stay under target/conformance: JUnit,
//! a line for each spec, both sides of each spec, and what Sublet wrote to the super cluster meanwhile.

mod audit;
mod known;
mod report;
mod tenant;
mod tiers;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::progress::seconds;
use crate::{binaries, paths, run};
use report::{Spec, State};
pub(crate) use tiers::Tier;

/// Whose API server is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The super cluster's.
    Native,
    /// A tenant's, by its name.
    Tenant(String),
}

/// One run of the suite.
#[derive(Clone)]
pub(crate) struct Suite {
    /// Whose API server.
    pub(crate) target: Target,
    /// Which specs, by tier.
    pub(crate) tier: Tier,
    /// Which specs, by a regular expression instead.
    pub(crate) focus: Option<String>,
    /// Which of these, by their labels.
    pub(crate) labels: &'static str,
    /// How many specs run at once.
    pub(crate) processes: u32,
    /// List what would run.
    pub(crate) dry_run: bool,
    /// Keep the comparison with the native run in the repository.
    pub(crate) save: bool,
}

/// Which specs a run is about: those of conformance, unless some are chosen by their names.
pub(crate) fn labels(focus: Option<&str>) -> &'static str {
    if focus.is_some() { "" } else { "Conformance" }
}

/// The tenants that [`api_in_a_tenant`] makes, which specs of the tier run in each, and how many at once. Specs that must
/// run alone mostly wait; in a tenant of their own they are alone and hold nobody up.
const OWN_TENANTS: [(&str, &str, u32); 2] = [
    ("conformance", "Conformance && !Serial", 4),
    ("conformance-alone", "Conformance && Serial", 1),
];

/// Runs it; fails when a spec fails that isn't known to.
pub(crate) fn check(suite: &Suite) -> Result<()> {
    if suite.save && native_run(suite).is_none() {
        bail!("there is nothing to compare with: run the same tier with --native first");
    }
    if !suite.dry_run {
        return check_parts(std::slice::from_ref(suite));
    }
    let folder = empty_folder(suite)?;
    make(suite)?;
    let kubeconfig = kubeconfig(suite, &folder)?;
    run::visibly(&mut ginkgo(suite, &kubeconfig, &folder)?)?;
    say!("{} specs would run", report::read(&folder)?.len());
    Ok(())
}

/// Runs the parts of one tier at once, each in its own target, and judges them as one. Results that concern all are in
/// the folder of the first.
fn check_parts(parts: &[Suite]) -> Result<()> {
    let folders = parts.iter().map(empty_folder).collect::<Result<Vec<_>>>()?;
    let mut kubeconfigs = vec![];
    for part in parts {
        make(part)?;
    }
    for (part, folder) in parts.iter().zip(&folders) {
        kubeconfigs.push(kubeconfig(part, folder)?);
        say!("the suite writes to {}", paths::typed(folder));
    }
    let began = Instant::now();
    // Of what is run natively nothing is Sublet's, which needn't even be there.
    let is_native = parts.iter().all(|part| part.target == Target::Native);
    let before = (!is_native).then(audit::mark).transpose()?;
    let all = parts.iter().zip(&folders).zip(&kubeconfigs);
    let found: Vec<Result<Vec<Spec>>> = thread::scope(|scope| {
        let runs: Vec<_> = all
            .map(|((part, folder), kubeconfig)| {
                scope.spawn(|| {
                    let specs = run_suite(part, kubeconfig, folder)?;
                    try_again(part, kubeconfig, folder, specs)
                })
            })
            .collect();
        let ended = runs.into_iter().map(|run| run.join());
        ended
            .map(|found| found.unwrap_or_else(|_| bail!("a run of the suite has panicked")))
            .collect()
    });
    let mut specs: Vec<Spec> = found
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    let (suite, folder) = (&parts[0], &folders[0]);
    report::write(folder, &specs)?;
    say!(
        "{} of {} specs passed in {}",
        specs
            .iter()
            .filter(|spec| spec.state == State::Passed)
            .count(),
        specs.len(),
        seconds(began.elapsed())
    );
    let native = if is_native { None } else { native_run(suite) };
    let mut faults = judge(suite, &specs, native.as_deref().unwrap_or_default());
    if let Some(before) = before {
        match &native {
            Some(native) => compare(suite, folder, native, &specs)?,
            None => {
                say!("no native run to compare with: `cargo xtask conformance --native` makes one");
            }
        }
        faults.extend(audit::judge(&before, folder)?);
    }
    if faults.is_empty() {
        return Ok(());
    }
    let logs: Vec<String> = folders
        .iter()
        .map(|folder| paths::typed(&folder.join("e2e.log")))
        .collect();
    bail!("{}\nmore in {}", faults.join("\n"), logs.join(" and "));
}

/// Runs ginkgo, and gives the specs that ran.
fn run_suite(suite: &Suite, kubeconfig: &Path, folder: &Path) -> Result<Vec<Spec>> {
    let log = File::create(folder.join("e2e.log")).context("cannot write the suite's log")?;
    let mut command = ginkgo(suite, kubeconfig, folder)?;
    command.stdout(log.try_clone()?).stderr(log);
    let status = command.status().context("cannot start ginkgo")?;
    report::read(folder).with_context(|| format!("the suite ended ({status}) and left no report"))
}

/// Runs each spec once more, alone, that failed in a way which is known of any cluster, and says so.
fn try_again(
    suite: &Suite,
    kubeconfig: &Path,
    folder: &Path,
    mut specs: Vec<Spec>,
) -> Result<Vec<Spec>> {
    for spec in &mut specs {
        let failed = spec.state == State::Failed;
        let Some(reason) = known::flake(&spec.message).filter(|_| failed) else {
            continue;
        };
        say!("once more: {}\n  {reason}", spec.name);
        let alone = Suite {
            focus: Some(tiers::only(&spec.name)),
            processes: 1,
            ..suite.clone()
        };
        let place = emptied(folder.join("again"))?;
        if suite.target != Target::Native {
            fs::copy(tenant::hosts_file(folder), tenant::hosts_file(&place))
                .context("cannot copy the suite's hosts")?;
        }
        let again = run_suite(&alone, kubeconfig, &place)?;
        if let Some(second) = again.into_iter().find(|second| second.name == spec.name) {
            *spec = second;
        }
    }
    Ok(specs)
}

/// Tier T0 in tenants of its own, which are made before and removed after it.
pub(crate) fn api_in_a_tenant() -> Result<()> {
    let parts = OWN_TENANTS.map(|(name, labels, processes)| Suite {
        target: Target::Tenant(name.to_owned()),
        tier: Tier::Api,
        focus: None,
        labels,
        processes,
        dry_run: false,
        save: false,
    });
    check_parts(&parts)?;
    tenant::delete(&OWN_TENANTS.map(|(name, ..)| name))
}

/// Builds what the suite consists of.
pub(crate) fn build() -> Result<()> {
    for program in ["e2e.test", "ginkgo", "kubectl"] {
        binaries::path(program)?;
    }
    Ok(())
}

/// What is wrong with the outcome, a line each; `native` is empty where there is no native run beside it.
fn judge(suite: &Suite, specs: &[Spec], native: &[Spec]) -> Vec<String> {
    let mut faults = vec![];
    let wanted = suite.tier.specs();
    if suite.focus.is_none() && specs.len() != wanted {
        faults.push(format!(
            "{} specs ran instead of {wanted}: the suite or the tier's expressions have changed",
            specs.len()
        ));
    }
    if specs.is_empty() {
        faults.push("no spec ran".to_owned());
    }
    for spec in specs.iter().filter(|spec| spec.state != State::Passed) {
        match excuse(&suite.target, spec, native) {
            Some(reason) => say!("does not pass, as known: {}\n  {reason}", spec.name),
            None => faults.push(format!(
                "{}: {}\n  {}",
                spec.state.word(),
                spec.name,
                spec.message
            )),
        }
    }
    faults
}

/// Why a spec that doesn't pass is no fault of Sublet; `None` when it is one.
fn excuse(target: &Target, spec: &Spec, native: &[Spec]) -> Option<&'static str> {
    // One that gets a second try natively may have passed then.
    let fails =
        |other: &Spec| other.state == State::Failed && known::flake(&other.message).is_none();
    let mut same = native.iter().filter(|other| other.name == spec.name);
    known::reason(target, &spec.name)
        .or_else(|| same.any(fails).then_some("it fails natively, too"))
}

/// The last native run of the same specs, if there is one.
fn native_run(suite: &Suite) -> Option<Vec<Spec>> {
    let folder = report_folder(&Suite {
        target: Target::Native,
        ..suite.clone()
    });
    report::read(&folder).ok()
}

/// Says what passes natively and not in the tenant, and writes down both sides of every spec.
fn compare(suite: &Suite, folder: &Path, native: &[Spec], specs: &[Spec]) -> Result<()> {
    let difference = report::comparison(native, specs);
    let text = format!("{difference}\n{}", report::side_by_side(native, specs));
    fs::write(folder.join("comparison.txt"), &text).context("cannot write the comparison")?;
    say!("{}", difference.trim_end());
    if suite.save {
        keep(suite, &text)?;
    }
    Ok(())
}

/// Writes a comparison to the others that the repository keeps, with what it is of.
fn keep(suite: &Suite, comparison: &str) -> Result<()> {
    let tier = suite.tier.to_possible_value();
    let tier = tier.as_ref().map_or("", |tier| tier.get_name());
    let describe = [
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ];
    let commit = run::output(run::command("git", describe).current_dir(paths::repository()))?;
    let day = run::output(&mut run::command("date", ["-u", "+%F"]))?;
    let text = format!(
        "The conformance suite's tier {tier} in the super cluster itself and in a tenant; commit {}, {}\n\n{comparison}",
        commit.trim(),
        day.trim()
    );
    let folder = paths::repository().join("docs/conformance");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = folder.join(format!("{}.txt", tier.to_lowercase()));
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    say!("kept in {}", paths::typed(&file));
    Ok(())
}

fn ginkgo(suite: &Suite, kubeconfig: &Path, folder: &Path) -> Result<std::process::Command> {
    let (focus, skip) = match &suite.focus {
        Some(focus) => (focus.clone(), String::new()),
        None => tiers::expressions(suite.tier),
    };
    let ginkgo = binaries::path("ginkgo")?;
    let mut command = match &suite.target {
        Target::Native => run::command(ginkgo, [] as [&str; 0]),
        Target::Tenant(_) => {
            let see = r#"mount --bind "$0" /etc/hosts && exec "$@""#;
            let mut command = run::command("unshare", ["--mount", "sh", "-c", see]);
            command.arg(tenant::hosts_file(folder)).arg(ginkgo);
            command
        }
    };
    command
        .args([
            "--no-color",
            "-v",
            "--timeout=4h",
            "--json-report=report.json",
        ])
        .arg(format!("--label-filter={}", suite.labels))
        .arg(format!("--output-dir={}", folder.display()))
        .arg(format!("--focus={focus}"));
    if !skip.is_empty() {
        command.arg(format!("--skip={skip}"));
    }
    // It lists in one process only.
    command.arg(if suite.dry_run {
        "--dry-run".to_owned()
    } else {
        format!("--procs={}", suite.processes)
    });
    command
        .arg(binaries::path("e2e.test")?)
        .arg("--")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg("--provider=skeleton")
        .arg("--disable-log-dump")
        .arg(format!("--report-dir={}", folder.display()))
        .arg(format!(
            "--kubectl-path={}",
            binaries::path("kubectl")?.display()
        ))
        .arg("--allowed-not-ready-nodes=-1")
        .arg("--minStartupPods=-1")
        // Without it the suite ends before the first spec where there are no nodes.
        .arg("--num-nodes=2");
    command.current_dir(folder);
    Ok(command)
}

fn report_folder(suite: &Suite) -> PathBuf {
    let whose = match &suite.target {
        Target::Native => "native",
        Target::Tenant(name) => name,
    };
    let what = match &suite.focus {
        Some(_) => "focus".to_owned(),
        None => format!("{:?}", suite.tier).to_lowercase(),
    };
    paths::repository()
        .join("target/conformance")
        .join(format!("{whose}-{what}"))
}

/// The folder for the results, empty.
fn empty_folder(suite: &Suite) -> Result<PathBuf> {
    emptied(report_folder(suite))
}

fn emptied(folder: PathBuf) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Makes the target, if it is a tenant that doesn't exist, and doesn't wait for it.
fn make(suite: &Suite) -> Result<()> {
    if !paths::kubeconfig().exists() {
        bail!("no super cluster is up: `cargo xtask super up` first");
    }
    match &suite.target {
        Target::Native => Ok(()),
        Target::Tenant(name) => tenant::make(name, class(suite)),
    }
}

fn kubeconfig(suite: &Suite, folder: &Path) -> Result<PathBuf> {
    match &suite.target {
        Target::Native => Ok(paths::kubeconfig()),
        Target::Tenant(name) => tenant::kubeconfig(name, folder),
    }
}

fn class(suite: &Suite) -> &'static tenant::Class {
    match suite.focus {
        // It may name specs of any tier.
        Some(_) => &tenant::PODS,
        None => tenant::class_for(suite.tier),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, state: State) -> Spec {
        Spec {
            name: name.to_owned(),
            state,
            seconds: 1.0,
            message: "it isn't so".to_owned(),
        }
    }

    fn faults(specs: &[Spec], native: &[Spec]) -> Vec<String> {
        let suite = Suite {
            target: Target::Tenant("a".to_owned()),
            tier: Tier::Pods,
            focus: Some("some".to_owned()),
            labels: "",
            processes: 1,
            dry_run: false,
            save: false,
        };
        judge(&suite, specs, native)
    }

    #[test]
    fn what_fails_natively_too_is_no_fault_in_a_tenant() {
        let specs = [
            spec("fails on both sides", State::Failed),
            spec("fails here alone", State::Failed),
            spec("never ran natively", State::Failed),
            spec("passes", State::Passed),
        ];
        let native = [
            spec("fails on both sides", State::Failed),
            spec("fails here alone", State::Passed),
            spec("passes", State::Failed),
        ];
        assert_eq!(
            faults(&specs, &native),
            [
                "FAILED: fails here alone\n  it isn't so",
                "FAILED: never ran natively\n  it isn't so"
            ]
        );
        assert_eq!(faults(&specs, &[]).len(), 3, "nothing ran beside it");
    }

    #[test]
    fn a_native_run_that_broke_or_was_unlucky_excuses_nothing() {
        let broken = spec("[SynchronizedBeforeSuite]", State::Broken);
        let both = std::slice::from_ref(&broken);
        assert_eq!(faults(both, both).len(), 1);
        let failed = spec("removes a definition", State::Failed);
        let unlucky = Spec {
            message: "deleting CustomResourceDefinition: context deadline exceeded".to_owned(),
            ..failed.clone()
        };
        assert_eq!(faults(&[failed], &[unlucky]).len(), 1);
    }
}
