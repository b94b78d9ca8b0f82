//! `cargo xtask conformance`: the upstream suite, by tiers, against a tenant or the super cluster itself.
//!
//! A spec that fails natively is no fault of Sublet; only the difference counts. So run a tier with
//! `--native` as well before reading anything into a failure. Results stay under target/conformance: JUnit, a
//! line for each spec, the difference to the native run, and what Sublet wrote to the super cluster meanwhile.

mod audit;
mod known;
mod report;
mod tenant;
mod tiers;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

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
pub(crate) struct Suite {
    /// Whose API server.
    pub(crate) target: Target,
    /// Which specs, by tier.
    pub(crate) tier: Tier,
    /// Which specs, by a regular expression instead.
    pub(crate) focus: Option<String>,
    /// How many specs run at once.
    pub(crate) processes: u32,
    /// List what would run.
    pub(crate) dry_run: bool,
}

/// The tenant that [`api_in_a_tenant`] makes.
const OWN_TENANT: &str = "conformance";

/// Runs it; fails when a spec fails that isn't known to.
pub(crate) fn check(suite: &Suite) -> Result<()> {
    let folder = report_folder(suite);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let kubeconfig = kubeconfig(suite, &folder)?;
    if suite.dry_run {
        let mut command = ginkgo(suite, &kubeconfig, &folder)?;
        run::visibly(&mut command)?;
        say!("{} specs would run", report::read(&folder)?.len());
        return Ok(());
    }
    say!("the suite writes to {}", paths::typed(&folder));
    let began = Instant::now();
    let before = audit::mark()?;
    let log = File::create(folder.join("e2e.log")).context("cannot write the suite's log")?;
    let mut command = ginkgo(suite, &kubeconfig, &folder)?;
    command.stdout(log.try_clone()?).stderr(log);
    let status = command.status().context("cannot start ginkgo")?;
    let specs = report::read(&folder)
        .with_context(|| format!("the suite ended ({status}) and left no report"))?;
    report::write(&folder, &specs)?;
    say!(
        "{} of {} specs passed in {}",
        specs
            .iter()
            .filter(|spec| spec.state == State::Passed)
            .count(),
        specs.len(),
        seconds(began.elapsed())
    );
    let mut faults = judge(suite, &specs);
    if suite.target != Target::Native {
        compare(suite, &folder, &specs)?;
        faults.extend(audit::judge(&before, &folder)?);
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nmore in {}",
        faults.join("\n"),
        paths::typed(&folder.join("e2e.log"))
    );
}

/// Tier T0 in a tenant of its own, which is made before and removed after it.
pub(crate) fn api_in_a_tenant() -> Result<()> {
    check(&Suite {
        target: Target::Tenant(OWN_TENANT.to_owned()),
        tier: Tier::Api,
        focus: None,
        processes: 4,
        dry_run: false,
    })?;
    tenant::delete(OWN_TENANT)
}

/// Builds what the suite consists of.
pub(crate) fn build() -> Result<()> {
    for program in ["e2e.test", "ginkgo", "kubectl"] {
        binaries::path(program)?;
    }
    Ok(())
}

/// What is wrong with the outcome, a line each.
fn judge(suite: &Suite, specs: &[Spec]) -> Vec<String> {
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
        match known::reason(&suite.target, &spec.name) {
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

/// Says what passes natively and not in the tenant, when there is a native run to compare with.
fn compare(suite: &Suite, folder: &Path, specs: &[Spec]) -> Result<()> {
    let native = report_folder(&Suite {
        target: Target::Native,
        tier: suite.tier,
        focus: suite.focus.clone(),
        processes: suite.processes,
        dry_run: false,
    });
    let Ok(native) = report::read(&native) else {
        say!("no native run to compare with: `cargo xtask conformance --native` makes one");
        return Ok(());
    };
    let text = report::comparison(&native, specs);
    fs::write(folder.join("comparison.txt"), &text).context("cannot write the comparison")?;
    say!("{}", text.trim_end());
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
            "--label-filter=Conformance",
            "--json-report=report.json",
        ])
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

fn kubeconfig(suite: &Suite, folder: &Path) -> Result<PathBuf> {
    let ours = paths::kubeconfig();
    if !ours.exists() {
        bail!("no super cluster is up: `cargo xtask super up` first");
    }
    match &suite.target {
        Target::Native => Ok(ours),
        // A focus may name specs of any tier.
        Target::Tenant(name) if suite.focus.is_some() => {
            tenant::kubeconfig(name, &tenant::PODS, folder)
        }
        Target::Tenant(name) => tenant::kubeconfig(name, tenant::class_for(suite.tier), folder),
    }
}
