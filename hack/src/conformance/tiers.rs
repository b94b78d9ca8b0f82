//! Which specs belong to which tier.

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

impl Tier {
    /// How many specs the tier has in Kubernetes 1.36; together they are all 446 of the conformance suite, each once.
    pub(crate) fn specs(self) -> usize {
        match self {
            Self::Api => 130,
            Self::Pods => 233,
            Self::Services => 62,
            Self::Nodes => 21,
        }
    }
}

/// All specs about the API's own machinery.
const MACHINERY: &str = r"\[sig-api-machinery\].*\[Conformance\]";
/// Specs elsewhere that need the API alone. How many they are with [`MACHINERY`] and without [`MACHINERY_WITH_PODS`] says
/// [`Tier::specs`]; count again (`--dry-run`) after each change of version.
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
pub(crate) fn expressions(tier: Tier) -> (String, String) {
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

/// The expression that one spec alone meets, by its name.
pub(crate) fn only(spec: &str) -> String {
    let as_is = |c: char| c.is_ascii_alphanumeric() || c == ' ';
    let letter = |c: char| if as_is(c) { c } else { '.' };
    let text: String = spec.chars().map(letter).collect();
    format!("{text}$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specs_name_is_no_expression() {
        assert_eq!(
            only("[sig-x] A (b) works/fails [Conformance]"),
            ".sig.x. A .b. works.fails .Conformance.$"
        );
    }

    #[test]
    fn tiers_are_written_without_line_breaks() {
        for tier in [Tier::Api, Tier::Pods, Tier::Services, Tier::Nodes] {
            let (focus, skip) = expressions(tier);
            assert!(!focus.contains(char::is_control) && !skip.contains(char::is_control));
            assert!(!focus.contains("||") && !skip.contains("||"), "{skip}");
        }
    }
}
