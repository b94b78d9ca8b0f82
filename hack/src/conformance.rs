//! `cargo xtask conformance`: the upstream suite, by tiers, against a tenant or the super cluster itself.
//!
//! A spec that fails natively is no fault of Sublet; only the difference counts. So run a tier with
//! `--native` as well before reading anything into a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::progress::seconds;
use crate::{binaries, cargo, paths, run};

/// Whose API server is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The super cluster's.
    Native,
    /// A tenant's, by its name.
    Tenant(String),
}

/// Which specs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tier {
    /// The API alone; no pod has to run
    #[value(name = "T0", alias = "t0")]
    Api,
    /// Pods, their volumes and their controllers
    #[value(name = "T1", alias = "t1")]
    Pods,
    /// Services, DNS, webhooks and aggregated APIs
    #[value(name = "T2", alias = "t2")]
    Services,
    /// Node writes and scheduling; these run alone
    #[value(name = "T3", alias = "t3")]
    Nodes,
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

/// All specs about the API's own machinery.
const MACHINERY: &str = r"\[sig-api-machinery\].*\[Conformance\]";
/// Specs elsewhere that need the API alone. With [`MACHINERY`] and without [`MACHINERY_WITH_PODS`] they are
/// 130 in Kubernetes 1.36; count again (`--dry-run`) after each change of version.
const API_ELSEWHERE: &str = concat!(
    r"SubjectReview|Certificates API|",
    r"ServiceAccounts should (create a serviceAccountToken|guarantee kube-root-ca|",
    r"run through the lifecycle|update a ServiceAccount)|",
    r"\[sig-node\] (ConfigMap should (fail to create|run through|update)|Lease |PodTemplates|",
    r"Secrets should (fail|patch)|RuntimeClass should support|.DRA. CRUD|Node Lifecycle)|",
    r"\[sig-instrumentation\]|API Server should|Ingress API|IngressClass API|ServiceCIDR|",
    r"Services should (complete a service status|delete a collection|find a service from)|",
    r"EndpointSlice should (support creating|create and delete)|",
    r"EndpointsController should create and delete|LimitRange|PriorityClass endpoints|",
    r"CSIInlineVolumes should run|CSINodes|CSIStorageCapacity|PersistentVolumes CSI|",
    r"StorageClasses CSI|VolumeAttachment|VolumeAttributesClass|immutable|CronJob API|",
    r"DisruptionController (should create|Listing)|Kubectl (api-versions|cluster-info|diff)|",
    r"Proxy server should",
);
/// Specs about the API's machinery that need pods after all, mostly as webhooks.
const MACHINERY_WITH_PODS: &str = concat!(
    "AdmissionWebhook|ConversionWebhook|Aggregator|CustomResourceFieldSelectors|",
    "all pods are removed|OrderedNamespaceDeletion",
);
/// Specs that need a way to Services, DNS or node ports.
const NETWORK: &str = r"\[sig-network\]";
/// Specs that write nodes or need a scheduler that obeys the tester, by name.
const NODES: &str = concat!(
    "DaemonSet|SchedulerPredicates|SchedulerPreemption|HostPort|two untainted nodes|",
    "NoExecuteTaintManager",
);
/// Specs that must run alone.
const SERIAL: &str = r"\[Serial\]";

/// The expressions for `--ginkgo.focus` and `--ginkgo.skip`. Each spec is in exactly one tier.
fn expressions(tier: Tier) -> (String, String) {
    let api = format!("{MACHINERY}|{API_ELSEWHERE}");
    match tier {
        Tier::Api => (api, MACHINERY_WITH_PODS.to_owned()),
        Tier::Pods => (
            r"\[Conformance\]".to_owned(),
            format!("{api}|{NETWORK}|{NODES}|{SERIAL}"),
        ),
        Tier::Services => (
            format!("{MACHINERY_WITH_PODS}|{NETWORK}"),
            format!("{API_ELSEWHERE}|{NODES}"),
        ),
        Tier::Nodes => (format!("{NODES}|{SERIAL}"), api),
    }
}

/// Runs it; fails when a spec fails.
pub(crate) fn check(suite: &Suite) -> Result<()> {
    let began = Instant::now();
    let folder = report_folder(suite);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let kubeconfig = kubeconfig(&suite.target, &folder)?;
    let arguments = arguments(suite, &kubeconfig, &folder)?;
    let test = binaries::path("e2e.test")?;
    let mut command = if suite.processes > 1 {
        let mut command = run::command(binaries::path("ginkgo")?, ["--no-color"]);
        command
            .arg(format!("--procs={}", suite.processes))
            .arg(test)
            .arg("--")
            .args(arguments);
        command
    } else {
        run::command(test, arguments)
    };
    say!("reports go to {}", folder.display());
    run::visibly(command.current_dir(&folder))?;
    say!("passed in {}", seconds(began.elapsed()));
    Ok(())
}

fn arguments(suite: &Suite, kubeconfig: &Path, folder: &Path) -> Result<Vec<String>> {
    let (focus, skip) = match &suite.focus {
        Some(focus) => (focus.clone(), String::new()),
        None => expressions(suite.tier),
    };
    let mut arguments = vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        "--provider=skeleton".to_owned(),
        "--disable-log-dump".to_owned(),
        format!("--report-dir={}", folder.display()),
        format!("--kubectl-path={}", binaries::path("kubectl")?.display()),
        "--allowed-not-ready-nodes=-1".to_owned(),
        "--minStartupPods=-1".to_owned(),
        // Without it the suite ends before the first spec where there are no nodes.
        "--num-nodes=2".to_owned(),
        "--ginkgo.label-filter=Conformance".to_owned(),
        format!("--ginkgo.focus={focus}"),
        "--ginkgo.v".to_owned(),
        "--ginkgo.no-color".to_owned(),
        "--ginkgo.timeout=4h".to_owned(),
    ];
    if !skip.is_empty() {
        arguments.push(format!("--ginkgo.skip={skip}"));
    }
    if suite.dry_run {
        arguments.push("--ginkgo.dry-run".to_owned());
    }
    Ok(arguments)
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

fn kubeconfig(target: &Target, folder: &Path) -> Result<PathBuf> {
    let ours = paths::kubeconfig();
    if !ours.exists() {
        bail!("no super cluster is up: `cargo xtask super up` first");
    }
    let Target::Tenant(name) = target else {
        return Ok(ours);
    };
    let place = folder.join("kubeconfig");
    let mut command = run::command(cargo::build_cli()?, ["kubeconfig", name, "--force", "-o"]);
    run::output(command.arg(&place).env("KUBECONFIG", &ours))?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_written_without_line_breaks() {
        for tier in [Tier::Api, Tier::Pods, Tier::Services, Tier::Nodes] {
            let (focus, skip) = expressions(tier);
            assert!(!focus.contains(char::is_control) && !skip.contains(char::is_control));
            assert!(!focus.contains("||") && !skip.contains("||"), "{skip}");
        }
    }
}
