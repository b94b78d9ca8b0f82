//! Reasons of events whose messages speak of the object and of nothing else of the super cluster (T39).
//!
//! Of the kubelet, the scheduler and the controllers of Kubernetes 1.36, and of the sidecars and controllers that its own
//! projects publish. A message under another reason isn't told: who wrote it, and about whom, can't be known.

/// In the order of the alphabet.
const TOLD: [&str; 105] = [
    "AllocationFailed",
    "AlreadyMountedVolume",
    "AppArmor",
    "BackOff",
    "CheckLimitsForResolvConf",
    "ClaimLost",
    "ClaimMisbound",
    "Created",
    "CreatingSnapshot",
    "DNSConfigForming",
    "DeletedLoadBalancer",
    "DeletingLoadBalancer",
    "EnsuredLoadBalancer",
    "EnsuringLoadBalancer",
    "ErrImageNeverPull",
    "Evicted",
    "ExceededGracePeriod",
    "ExternalExpanding",
    "ExternalProvisioning",
    "ExternalTrafficPolicy",
    "Failed",
    "FailedAttachVolume",
    "FailedBinding",
    "FailedCreatePodContainer",
    "FailedCreatePodSandBox",
    "FailedKillPod",
    "FailedMapVolume",
    "FailedMount",
    "FailedMountOnFilesystemMismatch",
    "FailedPostStartHook",
    "FailedPreStopHook",
    "FailedPrepareDynamicResources",
    "FailedScheduling",
    "FailedStatusPodSandBox",
    "FailedSync",
    "FailedToRetrieveImagePullSecret",
    "FailedValidation",
    "FileSystemResizeFailed",
    "FileSystemResizeRequired",
    "FileSystemResizeSuccessful",
    "HostNetworkNotSupported",
    "HostPortConflict",
    "IPAllocated",
    "InspectFailed",
    "InvalidEnvironmentVariableNames",
    "Killing",
    "LoadBalancerIP",
    "LoadBalancerSourceRanges",
    "NetworkNotReady",
    "NoPods",
    "NodeAffinity",
    "NodeNotReady",
    "NodePorts",
    "NodeShutdown",
    "OutOfcpu",
    "OutOfephemeral-storage",
    "OutOfmemory",
    "OutOfpods",
    "PodAdmissionFailed",
    "Preempted",
    "Preempting",
    "ProbeWarning",
    "Provisioning",
    "ProvisioningCleanupFailed",
    "ProvisioningFailed",
    "ProvisioningSucceeded",
    "Pulled",
    "Pulling",
    "ResizeCompleted",
    "ResizeDeferred",
    "ResizeError",
    "ResizeFailed",
    "ResizeInfeasible",
    "ResizeStarted",
    "Resizing",
    "SandboxChanged",
    "Scheduled",
    "SnapshotContentCreationFailed",
    "SnapshotContentMisbound",
    "SnapshotContentMismatch",
    "SnapshotContentMissing",
    "SnapshotContentStaticCreationFailed",
    "SnapshotContentValidationFailed",
    "SnapshotCreated",
    "SnapshotFinalizerError",
    "SnapshotReady",
    "Started",
    "SuccessfulAttachVolume",
    "SuccessfulMountVolume",
    "Sync",
    "SyncLoadBalancerFailed",
    "SysctlForbidden",
    "TaintManagerEviction",
    "TopologyAffinityError",
    "Type",
    "UnAvailableLoadBalancer",
    "UndefinedShmVolume",
    "UnexpectedAdmissionError",
    "Unhealthy",
    "UpdatedLoadBalancer",
    "VolumeMismatch",
    "VolumeResizeFailed",
    "VolumeResizeSuccessful",
    "WaitForFirstConsumer",
    "WaitForPodScheduled",
];

/// Whether the message of an event with this reason is told.
pub(super) fn is_told(reason: &str) -> bool {
    TOLD.contains(&reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_a_claim_and_a_service_need_is_told() {
        for reason in [
            "FailedScheduling",
            "FailedMount",
            "BackOff",
            "ProvisioningFailed",
            "SyncLoadBalancerFailed",
        ] {
            assert!(is_told(reason), "{reason}");
        }
        assert!(!is_told("nodeAssigned") && !is_told(""));
    }
}
