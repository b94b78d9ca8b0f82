//! A snapshot of the tenant's etcd: a claim that holds it, and a Job that fills it.
//!
//! The claim is the snapshot, and what came of it stands on it; the Job goes once that is written. Each has a claim of its
//! own, so that one is deleted with its claim, none fills the place of another, and one that is held for long is copied or
//! moved as any claim is. The pod does and may do no more than etcd's own: it runs etcd's image, and reaches etcd alone.

use super::{
    labels, metadata,
    pod::{self, CONFIG_DIR, key_files},
    selector,
};
use crate::{
    object::{CLAIM, JOB, NETWORK_POLICY, Object},
    provision::{
        etcd::{self, CLIENT_PORT},
        pod::Source,
    },
    spec::control_plane::ControlPlane,
};
use serde_json::{Value, json};

/// Name of the part, and of the policy that lets its pods out.
pub(crate) const NAME: &str = "snapshot";
/// Name of the policy that lets them into etcd.
const INTO_ETCD: &str = "etcd-snapshot";
/// Where the claim is mounted.
pub(super) const FOLDER: &str = "/snapshots";
/// A Job that takes longer has failed. etcd's largest file is 8 GiB, and a claim may be slow to come.
const PATIENCE: u32 = 3600;

/// Name of the claim and of the Job of a snapshot.
pub(crate) fn name(snapshot: &str) -> String {
    format!("{NAME}-{snapshot}")
}

/// The snapshot that a claim is, if it is one.
pub(crate) fn of_claim(claim: &Object) -> Option<&str> {
    let is_one = claim.label("app.kubernetes.io/name") == Some(NAME);
    let name = claim.name().strip_prefix(NAME)?.strip_prefix('-')?;
    is_one.then_some(name)
}

/// As large as what it is taken from, and of the same class.
pub(crate) fn claim(cp: &ControlPlane, snapshot: &str) -> Object {
    let body = json!({"metadata": metadata(cp, NAME), "spec": etcd::claim_spec(cp)});
    Object::new(CLAIM, Some(&cp.namespace), &name(snapshot), body)
}

/// What lets the pods of snapshots reach etcd, and nothing else.
pub(crate) fn policies(cp: &ControlPlane) -> [Object; 2] {
    let part = |name: &str| json!([{"podSelector": {"matchLabels": selector(name)}}]);
    let port = json!([{"protocol": "TCP", "port": CLIENT_PORT}]);
    let policy = |name: &str, spec: Value| {
        let body = json!({"metadata": metadata(cp, NAME), "spec": spec});
        Object::new(NETWORK_POLICY, Some(&cp.namespace), name, body).sealed()
    };
    [
        policy(
            NAME,
            json!({
                "podSelector": {"matchLabels": selector(NAME)},
                "policyTypes": ["Ingress", "Egress"],
                "egress": [{"to": part(etcd::NAME), "ports": port}],
            }),
        ),
        policy(
            INTO_ETCD,
            json!({
                "podSelector": {"matchLabels": selector(etcd::NAME)},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": part(NAME), "ports": port}],
            }),
        ),
    ]
}

/// Whether it is this claim that a Job fills, and not one of the same name that is gone.
pub(crate) fn fills(job: &Object, claim: &Object) -> bool {
    job.text("/metadata/ownerReferences/0/uid") == claim.uid()
}

/// Writes the snapshot, then reads it: one that can't be read is none. It ends with its claim.
pub(crate) fn job(cp: &ControlPlane, claim: &Object, etcd: &str) -> Object {
    let snapshot = of_claim(claim).unwrap_or_default();
    let file = file(snapshot);
    let key = |name: &str| format!("{CONFIG_DIR}/{name}");
    let save = [
        "etcdctl".to_owned(),
        format!("--endpoints=https://{etcd}:{CLIENT_PORT}"),
        format!("--cacert={}", key("ca.crt")),
        format!("--cert={}", key("client.crt")),
        format!("--key={}", key("client.key")),
        "snapshot".to_owned(),
        "save".to_owned(),
        file.clone(),
    ];
    let check = ["etcdutl", "snapshot", "status", &file].map(str::to_owned);
    let folder = json!({"name": "snapshot", "mountPath": FOLDER});
    let keys = json!({"name": "config", "mountPath": CONFIG_DIR, "readOnly": true});
    let files = [
        Source::Secret("etcd-ca", "tls.crt", "ca.crt"),
        Source::Secret("apiserver-etcd-client", "tls.crt", "client.crt"),
        Source::Secret("apiserver-etcd-client", "tls.key", "client.key"),
    ];
    let mut spec = pod::base(cp);
    spec["initContainers"] = json!([container(cp, "save", &save, &json!([folder, keys]))]);
    spec["containers"] = json!([container(cp, "check", &check, &json!([folder]))]);
    spec["volumes"] = json!([
        {"name": "config", "projected": key_files(&files)},
        {"name": "snapshot", "persistentVolumeClaim": {"claimName": name(snapshot)}},
    ]);
    let work = Work {
        part: NAME,
        pod: spec,
        patience: PATIENCE,
        retries: 3,
    };
    job_beside(cp, claim, &name(snapshot), work)
}

/// Where a snapshot is, for whoever has mounted its claim at [`FOLDER`].
pub(super) fn file(snapshot: &str) -> String {
    format!("{FOLDER}/{snapshot}.db")
}

/// A container of etcd's image that runs one of its programs to its end.
pub(super) fn container(
    cp: &ControlPlane,
    name: &str,
    command: &[String],
    mounts: &Value,
) -> Value {
    json!({
        "name": name,
        "image": cp.images.etcd,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
        "securityContext": pod::no_rights(),
    })
}

/// What a Job does.
pub(super) struct Work {
    /// Name of the part, by which its pods are known.
    pub(super) part: &'static str,
    /// `spec` of its pods.
    pub(super) pod: Value,
    /// Seconds after which it has failed.
    pub(super) patience: u32,
    /// How often it is tried again.
    pub(super) retries: u32,
}

/// A Job that ends with a claim.
pub(super) fn job_beside(cp: &ControlPlane, claim: &Object, name: &str, work: Work) -> Object {
    let mut pod = work.pod;
    pod["restartPolicy"] = json!("Never");
    let template = json!({
        "metadata": {
            "labels": labels(cp, work.part),
            "annotations": {api::keys::CONTROL_PLANE: cp.owner.path()},
        },
        "spec": pod,
    });
    let mut metadata = metadata(cp, work.part);
    metadata["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.name(), "uid": claim.uid(),
    }]);
    let body = json!({
        "metadata": metadata,
        "spec": {
            "backoffLimit": work.retries,
            "activeDeadlineSeconds": work.patience,
            "template": template,
        },
    });
    Object::new(JOB, Some(&cp.namespace), name, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::control_plane::tests::control_plane;

    fn made() -> Object {
        let cp = control_plane();
        job(&cp, &claim(&cp, "a"), "10.96.0.50")
    }

    #[test]
    fn a_job_ends_with_its_claim_and_fills_no_other() {
        let cp = control_plane();
        let mut old = claim(&cp, "a");
        old.body["metadata"]["uid"] = json!("old");
        let job = job(&cp, &old, "10.96.0.50");
        assert!(fills(&job, &old));
        let mut new = old.clone();
        new.body["metadata"]["uid"] = json!("new");
        assert!(!fills(&job, &new));
    }

    #[test]
    fn a_snapshot_is_written_by_the_api_servers_key_and_then_read() {
        let job = made();
        let pod = &job.body["spec"]["template"]["spec"];
        let words = |at: &Value| -> String {
            let words = at["command"].as_array().unwrap().iter();
            words
                .map(|word| word.as_str().unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            words(&pod["initContainers"][0]),
            "etcdctl --endpoints=https://10.96.0.50:2379 --cacert=/etc/kubernetes/ca.crt \
             --cert=/etc/kubernetes/client.crt --key=/etc/kubernetes/client.key snapshot save /snapshots/a.db"
        );
        assert_eq!(
            words(&pod["containers"][0]),
            "etcdutl snapshot status /snapshots/a.db"
        );
        // Who only reads it has no key.
        assert_eq!(
            pod["containers"][0]["volumeMounts"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            pod["volumes"][1]["persistentVolumeClaim"]["claimName"],
            "snapshot-a"
        );
    }

    #[test]
    fn pods_of_jobs_meet_the_restricted_level() {
        let job = made();
        let pod = &job.body["spec"]["template"]["spec"];
        let context = &pod["securityContext"];
        assert_eq!(context["runAsNonRoot"], true);
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(pod["automountServiceAccountToken"], false);
        for field in ["hostNetwork", "hostPID", "hostIPC", "serviceAccountName"] {
            assert!(pod[field].is_null(), "{field}");
        }
        let containers = ["initContainers", "containers"].map(|list| pod[list].as_array().unwrap());
        for container in containers.into_iter().flatten() {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["privileged"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
        }
        for volume in pod["volumes"].as_array().unwrap() {
            let known = ["projected", "persistentVolumeClaim"];
            assert!(known.iter().any(|kind| !volume[kind].is_null()), "{volume}");
        }
    }

    #[test]
    fn pods_of_snapshots_reach_etcd_alone_and_nothing_reaches_them() {
        let [out, into] = policies(&control_plane());
        assert_eq!(out.items("/spec/policyTypes").len(), 2);
        assert!(out.items("/spec/ingress").is_empty());
        let [egress] = out.items("/spec/egress") else {
            panic!("{out:?}")
        };
        let etcd = json!([{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "etcd"}}}]);
        assert_eq!(egress["to"], etcd);
        assert_eq!(egress["ports"][0]["port"], 2379);
        let [ingress] = into.items("/spec/ingress") else {
            panic!("{into:?}")
        };
        let snapshot =
            json!([{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "snapshot"}}}]);
        assert_eq!(ingress["from"], snapshot);
    }

    #[test]
    fn a_claim_is_as_large_as_etcds_and_gives_the_name_back() {
        let mut cp = control_plane();
        cp.storage.size = "3Gi".into();
        cp.storage.storage_class_name = Some("fast".into());
        let claim = claim(&cp, "before-upgrade");
        assert_eq!(of_claim(&claim), Some("before-upgrade"));
        assert_eq!(claim.text("/spec/resources/requests/storage"), "3Gi");
        assert_eq!(claim.text("/spec/storageClassName"), "fast");
        let mut others = claim;
        others.body["metadata"]["labels"] = json!({"app.kubernetes.io/name": "etcd"});
        assert_eq!(of_claim(&others), None);
    }
}
