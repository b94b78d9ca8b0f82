//! Good objects, to be bent.

use crate::kind::{Kind, decisions};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::LazyLock};

/// Names of fields of all kinds, and of what isn't one.
pub(super) static FIELDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let paths = decisions().into_iter().map(|(path, _)| path);
    let last = paths.filter_map(|path| path.rsplit('.').next().map(str::to_owned));
    let more = [
        "metadata",
        "name",
        "namespace",
        "uid",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "generation",
        "deletionTimestamp",
        "spec",
        "status",
        "data",
        "type",
        "clusterIP",
        "clusterIPs",
        "externalIPs",
        "ports",
        "nodePort",
        "selector",
        "externalName",
        "loadBalancerIP",
        "rules",
        "host",
        "tls",
        "backend",
        "defaultBackend",
        "endpoints",
        "addresses",
        "addressType",
        "ingress",
        "egress",
        "from",
        "to",
        "ipBlock",
        "cidr",
        "podSelector",
        "namespaceSelector",
        "policyTypes",
        "storageClassName",
        "volumeName",
        "dataSource",
        "dataSourceRef",
        "accessModes",
        "resources",
        "listeners",
        "hostname",
        "hostnames",
        "parentRefs",
        "sectionName",
        "source",
        "matchLabels",
        "matchExpressions",
        "operator",
        "key",
        "values",
        "involvedObject",
        "reason",
        "message",
        "conditions",
        "devices",
        "requests",
        "maxUnavailable",
        "sublet.dev/tenant",
        "sublet.dev/uid",
        "pod-security.kubernetes.io/enforce",
        "a-field-of-the-future",
        "",
    ];
    let all: BTreeSet<String> = last.chain(more.map(str::to_owned)).collect();
    all.into_iter().collect()
});

/// A pod that asks for much of what pods may ask for.
pub(super) fn pod() -> Value {
    let container = json!({
        "name": "c", "image": "nginx", "env": [{"name": "A", "value": "b"},
            {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "envFrom": [{"configMapRef": {"name": "m"}}],
        "ports": [{"containerPort": 80, "hostPort": 0}],
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
        "securityContext": {"privileged": false, "capabilities": {"add": ["CHOWN"], "drop": ["ALL"]}},
        "volumeMounts": [{"name": "token", "mountPath": "/var/run"}],
        "livenessProbe": {"httpGet": {"port": 80, "host": "10.0.0.1"}},
        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
    });
    let term = json!({"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone",
        "namespaces": ["shop"], "namespaceSelector": {}});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "5", "generation": 1,
            "labels": {"app": "web", "sublet.dev/tenant": "forged"}, "annotations": {"note": "x"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "r", "uid": "x"}], "finalizers": ["a/b"]},
        "spec": {
            "containers": [container], "initContainers": [{"name": "i", "image": "busybox", "restartPolicy": "Always"}],
            "ephemeralContainers": [{"name": "e", "image": "busybox", "targetContainerName": "c"}],
            "volumes": [
                {"name": "token", "projected": {"sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt"}},
                    {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
                {"name": "e", "emptyDir": {}}, {"name": "p", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "g", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}},
            ],
            "affinity": {
                "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term],
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]},
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}},
            },
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["hash"]}],
            "dnsPolicy": "ClusterFirst", "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
            "hostname": "web", "subdomain": "peers", "nodeName": "n1", "nodeSelector": {"disk": "fast"},
            "serviceAccountName": "default", "priorityClassName": "high", "priority": 7, "runtimeClassName": "gvisor",
            "tolerations": [{"operator": "Exists"}], "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
            "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]},
            "readinessGates": [{"conditionType": "a/b"}], "schedulingGates": [{"name": "a/g"}],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}],
            "imagePullSecrets": [{"name": "pull"}],
        },
        "status": {"phase": "Running", "conditions": [{"type": "a/b", "status": "True"}]},
    })
}

/// An object of each kind that says much.
pub(super) fn sample(kind: &dyn Kind) -> Value {
    let resource = kind.resource();
    if resource.kind == "Pod" {
        return pod();
    }
    let spec = match resource.kind {
        "Service" => {
            json!({"type": "LoadBalancer", "clusterIP": "10.96.4.9", "clusterIPs": ["10.96.4.9"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}], "selector": {"app": "web"},
            "externalIPs": ["10.96.0.1"], "loadBalancerSourceRanges": ["0.0.0.0/0"], "externalName": "example.com"})
        }
        "PersistentVolumeClaim" => {
            json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}}, "dataSource": {"kind": "VolumeSnapshot", "name": "s"}})
        }
        "Ingress" => {
            json!({"ingressClassName": "public", "tls": [{"hosts": ["a.example"], "secretName": "t"}],
            "rules": [{"host": "a.example", "http": {"paths": [{"path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]})
        }
        "NetworkPolicy" => json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}],
            "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 53, "endPort": 54}]}]}),
        "PodDisruptionBudget" => {
            json!({"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}})
        }
        "Gateway" => {
            json!({"gatewayClassName": "public", "listeners": [{"name": "a", "hostname": "a.example", "port": 443,
            "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "t"}]}, "allowedRoutes": {"namespaces": {"from": "All"}}}]})
        }
        "HTTPRoute" | "GRPCRoute" => {
            json!({"hostnames": ["a.example"], "parentRefs": [{"name": "g", "namespace": "shop"}],
            "rules": [{"backendRefs": [{"name": "web", "port": 80}], "filters": [{"type": "RequestMirror"}]}]})
        }
        "VolumeSnapshot" => {
            json!({"source": {"persistentVolumeClaimName": "data"}, "volumeSnapshotClassName": "fast"})
        }
        "ResourceClaim" => {
            json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}})
        }
        "ResourceClaimTemplate" => json!({"spec": {"devices": {"requests": [{"name": "r"}]}}}),
        "PersistentVolume" => {
            json!({"claimRef": {"namespace": "shop", "name": "data"}, "hostPath": {"path": "/"},
            "csi": {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "s", "namespace": "kube-system"}}})
        }
        _ => json!({}),
    };
    let mut object = json!({
        "apiVersion": resource.api_version(), "kind": resource.kind,
        "metadata": {"name": "a", "uid": "u1", "resourceVersion": "9", "generation": 3,
            "labels": {"app": "a", "sublet.dev/tenant": "forged", "kubernetes.io/service-name": "web"},
            "annotations": {"sublet.dev/uid": "forged"},
            "ownerReferences": [{"kind": "Node", "name": "n", "uid": "x"}], "finalizers": ["example.com/hold"]},
        "spec": spec, "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}, "phase": "Bound",
            "conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.9"}]},
        "data": {"a": "b"}, "type": "Opaque", "addressType": "IPv4", "provisioner": "p", "value": 7, "handler": "h",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.0.1"], "hostname": "h", "targetRef": {"kind": "Pod", "name": "web"}}],
        "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web", "uid": "u1"},
        "reason": "Why", "message": "acme-shop", "source": {"component": "kubelet", "host": "n1"},
    });
    if resource.namespaced {
        object["metadata"]["namespace"] = "shop".into();
    }
    object
}
