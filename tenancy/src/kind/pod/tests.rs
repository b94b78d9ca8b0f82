//! Whole pods, and laws over the tables. Tests of one step stand in the step's file.

use super::*;
use crate::{
    kind::{
        reduce,
        testing::{Answers, object, tenant},
        translate,
    },
    plan::{Plan, plan},
    tenant::TenantRules,
};
use api::PodSecurity;
use expect_test::expect;
use std::collections::BTreeMap;

/// A pod of the tenant with this spec, written in YAML.
pub(super) fn pod(spec: &str) -> Object {
    let spec: Value = serde_saphyr::from_str(spec).unwrap();
    object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "uid": "tenant-uid"},
        "spec": spec,
    }))
}

/// The super pod of a tenant that is like [`tenant`], apart from `change`.
pub(super) fn down_as(
    pod: &Object,
    change: impl FnOnce(&mut TenantRules, &mut Answers),
) -> Result<Object, Refused> {
    let (mut tenant, mut facts) = (tenant(), Answers::default());
    change(&mut tenant, &mut facts);
    let cx = Cx {
        rules: &tenant,
        facts: &facts,
    };
    translate(&Pod, pod, &cx).map(|translated| translated.expect("pods always go down"))
}

pub(super) fn down(pod: &Object) -> Object {
    down_as(pod, |_, _| ()).unwrap()
}

/// One field of the translated spec, in YAML.
pub(super) fn field(spec: &str, pointer: &str) -> String {
    let down = down(&pod(spec));
    yaml(down.at(&format!("/spec{pointer}")).unwrap_or(&Value::Null))
}

pub(super) fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap()
}

/// The reason for which a pod with this spec is refused, at `baseline`.
pub(super) fn refusal(spec: &str) -> Refused {
    down_as(&pod(spec), |_, _| ()).expect_err(spec)
}

/// A pod as the API server of a 1.36 tenant stores it, made from no more than an image.
pub(super) const DEFAULT: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  uid: 0e0e9cbb-7a9a-4a3e-9d4e-6a3f3c6d1f0a
  resourceVersion: "812"
  generation: 1
  creationTimestamp: "2026-11-24T08:00:00Z"
  labels: {app: web, sublet.dev/tenant: forged}
  annotations: {note: hello, kubectl.kubernetes.io/default-container: c, sidecar.istio.io/inject: "true"}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: x, controller: true}]
spec:
  containers:
  - image: nginx
    imagePullPolicy: Always
    name: c
    resources: {}
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
    volumeMounts:
    - {mountPath: /var/run/secrets/kubernetes.io/serviceaccount, name: kube-api-access-x7k2p, readOnly: true}
  dnsPolicy: ClusterFirst
  enableServiceLinks: true
  preemptionPolicy: PreemptLowerPriority
  priority: 0
  restartPolicy: Always
  schedulerName: default-scheduler
  securityContext: {}
  serviceAccount: default
  serviceAccountName: default
  terminationGracePeriodSeconds: 30
  tolerations:
  - {effect: NoExecute, key: node.kubernetes.io/not-ready, operator: Exists, tolerationSeconds: 300}
  - {effect: NoExecute, key: node.kubernetes.io/unreachable, operator: Exists, tolerationSeconds: 300}
  volumes:
  - name: kube-api-access-x7k2p
    projected:
      defaultMode: 420
      sources:
      - serviceAccountToken: {expirationSeconds: 3607, path: token}
      - configMap: {items: [{key: ca.crt, path: ca.crt}], name: kube-root-ca.crt}
      - downwardAPI:
          items:
          - {fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}, path: namespace}
status: {phase: Pending, qosClass: BestEffort}
"#;

pub(super) fn default_pod() -> Object {
    object(serde_saphyr::from_str(DEFAULT).unwrap())
}

/// The super pod as its API server, scheduler and kubelet leave it.
pub(super) fn stored(mut pod: Object) -> Object {
    pod.value_mut()["metadata"]["uid"] = "super-uid".into();
    pod.value_mut()["metadata"]["resourceVersion"] = "9001".into();
    pod.value_mut()["metadata"]["generation"] = 1.into();
    let spec = &mut pod.value_mut()["spec"];
    spec["nodeName"] = "n1".into();
    spec["priority"] = 0.into();
    spec["preemptionPolicy"] = "PreemptLowerPriority".into();
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
    ] {
        if spec.get(field).is_none() {
            spec[field] = value;
        }
    }
    for list in ["containers", "initContainers"] {
        for container in fields::items_mut(spec, list) {
            container["terminationMessagePath"] = "/dev/termination-log".into();
            // A LimitRange of the super namespace.
            if container["resources"]["limits"].get("memory").is_none() {
                container["resources"]["limits"]["memory"] = "512Mi".into();
            }
        }
    }
    pod
}

#[test]
fn the_default_pod() {
    expect![[r#"
        apiVersion: v1
        kind: Pod
        metadata:
          annotations:
            kubectl.kubernetes.io/default-container: c
            note: hello
            sublet.dev/applied: cf6519c5b1b61b1ea2f5bb7aa5d4e712
            sublet.dev/applied-keys: l:app,a:kubectl.kubernetes.io/default-container,a:note
            sublet.dev/generation: "1"
            sublet.dev/name: web
            sublet.dev/namespace: shop
            sublet.dev/restore-counter: "0"
            sublet.dev/uid: 0e0e9cbb-7a9a-4a3e-9d4e-6a3f3c6d1f0a
          labels:
            app: web
            sublet.dev/egress: default
            sublet.dev/ingress: default
            sublet.dev/shard: "134"
            sublet.dev/tenant: aeaqcaibaeaqcaibaeaqcaibae
          name: web
          namespace: acme-shop-xntxrp5nvritih3gtdvd6hn7ie
        spec:
          automountServiceAccountToken: false
          containers:
          - env:
            - name: KUBERNETES_SERVICE_HOST
              value: "10.96.4.1"
            - name: KUBERNETES_SERVICE_PORT
              value: "443"
            - name: KUBERNETES_SERVICE_PORT_HTTPS
              value: "443"
            - name: KUBERNETES_PORT
              value: tcp://10.96.4.1:443
            - name: KUBERNETES_PORT_443_TCP
              value: tcp://10.96.4.1:443
            - name: KUBERNETES_PORT_443_TCP_PROTO
              value: tcp
            - name: KUBERNETES_PORT_443_TCP_PORT
              value: "443"
            - name: KUBERNETES_PORT_443_TCP_ADDR
              value: "10.96.4.1"
            image: nginx
            imagePullPolicy: Always
            name: c
            resources: {}
            securityContext:
              capabilities:
                drop:
                - NET_RAW
            terminationMessagePath: /dev/termination-log
            terminationMessagePolicy: File
            volumeMounts:
            - mountPath: /var/run/secrets/kubernetes.io/serviceaccount
              name: kube-api-access-x7k2p
              readOnly: true
          dnsConfig:
            nameservers:
            - "10.96.4.10"
            options:
            - name: ndots
              value: "5"
            searches:
            - shop.svc.cluster.local
            - svc.cluster.local
            - cluster.local
          dnsPolicy: None
          enableServiceLinks: true
          restartPolicy: Always
          schedulerName: default-scheduler
          securityContext: {}
          serviceAccountName: sublet-pod
          terminationGracePeriodSeconds: 30
          tolerations:
          - effect: NoExecute
            key: node.kubernetes.io/not-ready
            operator: Exists
            tolerationSeconds: 300
          - effect: NoExecute
            key: node.kubernetes.io/unreachable
            operator: Exists
            tolerationSeconds: 300
          volumes:
          - name: kube-api-access-x7k2p
            projected:
              defaultMode: 420
              sources:
              - secret:
                  items:
                  - key: kube-api-access-x7k2p.0
                    path: token
                  name: sublet-token-z4feszpr35yshtsolgy7b64bzm
                  optional: false
              - configMap:
                  items:
                  - key: ca.crt
                    path: ca.crt
                  name: kube-root-ca.crt.tenant
              - downwardAPI:
                  items:
                  - fieldRef:
                      apiVersion: v1
                      fieldPath: metadata.annotations['sublet.dev/namespace']
                    path: namespace
    "#]]
    .assert_eq(&yaml(down(&default_pod()).value()));
}

#[test]
fn translation_is_a_function_and_its_result_needs_no_patch() {
    let want = down(&default_pod());
    assert_eq!(want, down(&default_pod()));
    assert_eq!(
        plan(&Pod, want.clone(), Some(&stored(want))),
        Ok(Plan::Nothing)
    );
}

#[test]
fn fields_that_nobody_knows_are_refused_at_every_depth() {
    for spec in [
        "{containers: [], future: 1}",
        "{containers: [{name: c, future: 1}]}",
        "{initContainers: [{name: c, securityContext: {future: {}}}]}",
        "{ephemeralContainers: [{name: c, env: [{name: a, valueFrom: {future: {}}}]}]}",
        "{volumes: [{name: v, future: {}}]}",
        "{volumes: [{name: v, projected: {sources: [{future: {}}]}}]}",
        "{affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{future: 1}]}}}",
        "{securityContext: {seccompProfile: {future: true}}}",
        "{dnsPolicy: {future: {a: 1}}}",
    ] {
        let refused = refusal(spec);
        assert_eq!(refused.reason, "UnknownField", "{spec}");
        assert!(refused.message.starts_with("spec."), "{}", refused.message);
        let privileged = down_as(&pod(spec), |tenant, _| {
            tenant.pod_security = PodSecurity::Privileged;
        });
        if !spec.contains("dnsPolicy") {
            assert!(
                yaml(privileged.unwrap().value()).contains("future"),
                "{spec}"
            );
        }
    }
    assert!(
        refusal("{containers: [{name: c}, {name: d, future: 1}]}")
            .message
            .starts_with("spec.containers[1].future isn't")
    );
}

#[test]
fn what_has_another_form_is_refused() {
    for spec in [
        "{containers: {}}",
        "{containers: [1]}",
        "{volumes: [{secret: {secretName: [a]}}]}",
        "{affinity: []}",
        "[]",
    ] {
        assert_eq!(refusal(spec).reason, "MalformedPod", "{spec}");
    }
}

#[test]
fn what_tenants_may_not_have_is_refused() {
    for (threat, spec, reason) in [
        ("T5", "{hostNetwork: true}", "PodSecurity"),
        ("T5", "{hostPID: true}", "PodSecurity"),
        ("T5", "{hostIPC: true}", "PodSecurity"),
        ("T5", "{hostUsers: true}", "HostUsers"),
        (
            "T6",
            "{volumes: [{name: v, hostPath: {path: /}}]}",
            "PodSecurity",
        ),
        (
            "T6",
            "{volumes: [{name: v, nfs: {server: s, path: /}}]}",
            "VolumeTypeRefused",
        ),
        (
            "T6",
            "{volumes: [{name: v, gitRepo: {}}]}",
            "VolumeTypeRefused",
        ),
        (
            "T6",
            "{volumes: [{name: v, iscsi: {}}]}",
            "VolumeTypeRefused",
        ),
        (
            "T7",
            "{containers: [{name: c, securityContext: {privileged: true}}]}",
            "PodSecurity",
        ),
        (
            "T7",
            "{ephemeralContainers: [{name: c, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]}",
            "PodSecurity",
        ),
        (
            "T8",
            "{containers: [{name: c, ports: [{containerPort: 80, hostPort: 80}]}]}",
            "PodSecurity",
        ),
        (
            "T8",
            "{containers: [{name: c, ports: [{containerPort: 80, hostIP: 10.0.0.1}]}]}",
            "HostPort",
        ),
        ("T13", "{runtimeClassName: kata}", "RuntimeClassNotOffered"),
        ("T13", "{schedulerName: mine}", "SchedulerNotOffered"),
        (
            "T21",
            "{volumes: [{name: v, csi: {driver: d}}]}",
            "VolumeTypeRefused",
        ),
        (
            "T22",
            "{imagePullSecrets: [{name: sublet-token-x}]}",
            "ReservedName",
        ),
        (
            "T22",
            "{volumes: [{name: v, secret: {secretName: sublet-token-x}}]}",
            "ReservedName",
        ),
        (
            "T22",
            "{volumes: [{name: v, projected: {sources: [{secret: {name: sublet-token-x}}]}}]}",
            "ReservedName",
        ),
        (
            "T22",
            "{ephemeralContainers: [{name: c, envFrom: [{secretRef: {name: sublet-token-x}}]}]}",
            "ReservedName",
        ),
        (
            "T23",
            "{volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {path: p}}]}}]}",
            "SourceRefused",
        ),
        (
            "T23",
            "{volumes: [{name: v, projected: {sources: [{podCertificate: {keyType: k}}]}}]}",
            "SourceRefused",
        ),
        (
            "",
            "{schedulingGroup: {podGroupName: g}}",
            "PodGroupsNotSynced",
        ),
        (
            "",
            "{securityContext: {windowsOptions: {gmsaCredentialSpec: s}}}",
            "DomainAccount",
        ),
        (
            "T7",
            "{securityContext: {seLinuxOptions: {level: 's0:c1,c2'}}}",
            "SELinuxLevel",
        ),
        (
            "T7",
            "{initContainers: [{name: c, securityContext: {seLinuxOptions: {level: 's0:c1,c2'}}}]}",
            "SELinuxLevel",
        ),
    ] {
        let refused = refusal(spec);
        assert_eq!(refused.reason, reason, "{threat} {spec}: {refused}");
    }
}

#[test]
fn what_is_merely_unset_is_no_reason_to_refuse() {
    let spec = "{hostNetwork: false, hostPID: false, hostUsers: false, resourceClaims: [], runtimeClassName: '', \
                schedulerName: default-scheduler, containers: [{name: c, ports: [{containerPort: 80, hostPort: 0, hostIP: ''}]}]}";
    let down = down(&pod(spec));
    // Dropping this one would put the pod into the node's user namespace.
    assert_eq!(down.at("/spec/hostUsers"), Some(&json!(false)));
    assert_eq!(down.at("/spec/runtimeClassName"), None);
}

#[test]
fn what_the_level_privileged_permits() {
    let spec = "{hostNetwork: true, dnsPolicy: ClusterFirst, containers: [{name: c, securityContext: {privileged: true}}], \
                volumes: [{name: a, hostPath: {path: /}}, {name: b, csi: {driver: d, nodePublishSecretRef: {name: s}}}]}";
    let down = |spec| {
        down_as(&pod(spec), |tenant, _| {
            tenant.pod_security = PodSecurity::Privileged;
        })
    };
    let translated = down(spec).unwrap();
    assert_eq!(translated.at("/spec/hostNetwork"), Some(&json!(true)));
    assert_eq!(
        translated.text("/spec/volumes/1/csi/nodePublishSecretRef/name"),
        Some("s")
    );
    assert_eq!(
        down("{volumes: [{name: v, nfs: {server: s, path: /}}]}")
            .unwrap_err()
            .reason,
        "VolumeTypeRefused"
    );
    assert_eq!(
        down("{volumes: [{name: v, csi: {nodePublishSecretRef: {name: sublet-token-x}}}]}")
            .unwrap_err()
            .reason,
        "ReservedName"
    );
}

#[test]
fn an_ephemeral_container_that_is_refused_keeps_nothing_else_back() {
    let (tenant, facts) = (tenant(), Answers::default());
    let cx = Cx {
        rules: &tenant,
        facts: &facts,
    };
    let pod = pod("
      containers: [{name: c}]
      ephemeralContainers: [{name: a}, {name: b, securityContext: {privileged: true}}, {name: d}]");
    assert!(Pod.down(&pod, &cx).is_err());
    let (less, want) = reduce(&Pod, &pod, &cx).unwrap();
    for object in [less, want] {
        let left = fields::items(object.at("/spec").unwrap(), "ephemeralContainers");
        let names: Vec<&str> = left
            .map(|container| fields::text(container, "name"))
            .collect();
        assert_eq!(names, ["a", "d"]);
    }
    let host = self::pod("{hostNetwork: true, ephemeralContainers: [{name: a}]}");
    assert_eq!(reduce(&Pod, &host, &cx), None);
}

#[test]
fn priorities_accounts_and_node_names_stay_behind() {
    let spec = "{serviceAccountName: admin, serviceAccount: admin, automountServiceAccountToken: true, nodeName: n1, \
                priorityClassName: system-node-critical, priority: 2000000000, preemptionPolicy: PreemptLowerPriority, \
                overhead: {cpu: 1}}";
    expect![[r#"
        automountServiceAccountToken: false
        dnsConfig:
          nameservers:
          - "10.96.4.10"
          options:
          - name: ndots
            value: "5"
          searches:
          - shop.svc.cluster.local
          - svc.cluster.local
          - cluster.local
        dnsPolicy: None
        serviceAccountName: sublet-pod
    "#]]
    .assert_eq(&field(spec, ""));
}

#[test]
fn metadata_crosses_by_rule() {
    let down = down(&default_pod());
    assert_eq!(
        (
            down.annotation("note"),
            down.annotation("sidecar.istio.io/inject")
        ),
        (Some("hello"), None)
    );
    assert_eq!(down.annotation(api::keys::GENERATION), Some("1"));
    assert_eq!(down.label(keys()), Some(tenant().id.as_str()));
    assert_eq!(down.at("/metadata/ownerReferences"), None);
    assert_eq!(down.at("/status"), None);
}

fn keys() -> &'static str {
    api::keys::TENANT
}

#[test]
fn every_reference_is_found() {
    let spec = "
      imagePullSecrets: [{name: s1}]
      initContainers: [{name: a, env: [{name: x, valueFrom: {secretKeyRef: {name: s2, key: k, optional: true}}}]}]
      containers: [{name: b, envFrom: [{configMapRef: {name: c1}}, {secretRef: {name: s3}}]}]
      ephemeralContainers: [{name: c, env: [{name: x, valueFrom: {configMapKeyRef: {name: c2, key: k}}}], envFrom: [{secretRef: {name: s4}}]}]
      volumes:
      - {name: a, secret: {secretName: s5}}
      - {name: b, configMap: {name: c3, optional: true}}
      - {name: c, projected: {sources: [{secret: {name: s6}}, {configMap: {name: kube-root-ca.crt}}, {secret: {name: s1}}]}}
      - {name: d, csi: {driver: d, nodePublishSecretRef: {name: s7}}}
      - {name: e, persistentVolumeClaim: {claimName: p}}";
    let names: Vec<String> = super::references(&pod(spec))
        .into_iter()
        .map(|found| format!("{} {}", found.kind, found.name))
        .collect();
    let wanted = [
        "ConfigMap c1",
        "ConfigMap c2",
        "ConfigMap c3",
        "ConfigMap kube-root-ca.crt",
    ];
    let secrets = (1..=7).map(|n| format!("Secret s{n}"));
    assert_eq!(
        names,
        wanted
            .into_iter()
            .map(str::to_owned)
            .chain(secrets)
            .collect::<Vec<_>>()
    );
}

/// Types of the OpenAPI with their fields, and each field's type if it is an object: `Some("[T]")` for a list.
fn open_api() -> BTreeMap<&'static str, BTreeMap<&'static str, Option<&'static str>>> {
    let lines = include_str!("status_1_36.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, fields) = line.split_once(": ").unwrap();
            let field = |field: &'static str| {
                field
                    .split_once(':')
                    .map_or((field, None), |(name, kind)| (name, Some(kind)))
            };
            (name, fields.split(' ').map(field).collect())
        })
        .collect()
}

/// Compares a table with a type of the OpenAPI.
fn compare(fields: Fields, name: &str, path: &str) {
    let types = open_api();
    let known = &types[name];
    for field in known.keys() {
        assert!(
            fields.iter().any(|(entry, _)| entry == field),
            "{path}: {name}.{field} has no decision"
        );
    }
    for (field, rule) in fields {
        let path = format!("{path}.{field}");
        let Some(kind) = known.get(field) else {
            panic!("{path}: {name} has no such field");
        };
        match (rule, kind) {
            (Rule::Object(fields), Some(kind)) => compare(fields, kind, &path),
            (Rule::List(fields), Some(kind)) => {
                compare(fields, kind.trim_matches(['[', ']']), &path);
            }
            (Rule::Omit(_) | Rule::Whole(..), _) | (Rule::Pass, None) => {}
            (rule, kind) => panic!("{path}: {rule:?} for {kind:?}"),
        }
    }
}

#[test]
fn every_field_of_the_status_of_kubernetes_1_36_has_a_decision() {
    compare(status::STATUS, "PodStatus", "status");
}

#[test]
fn every_field_that_names_another_object_is_translated_as_a_reference() {
    let mut references = vec![];
    fields::each(SPEC, "spec", &mut |path, rule| {
        let inner = rule.inner();
        if let Rule::Refers(referent) = inner {
            references.push(format!("{path} {}", referent.kind()));
        }
        let holders = [
            "ecretRef",
            "ecretKeyRef",
            "configMapKeyRef",
            "configMapRef",
            "configMap",
            "secret",
            "imagePullSecrets[]",
        ];
        let names = holders
            .iter()
            .any(|holder| path.ends_with(&format!("{holder}.name")));
        if names || path.ends_with(".secretName") || path.ends_with(".claimName") {
            assert!(matches!(inner, Rule::Refers(_)), "{path} is a reference");
        }
    });
    expect![[r#"
        spec.containers[].env[].valueFrom.configMapKeyRef.name ConfigMap
        spec.containers[].env[].valueFrom.secretKeyRef.name Secret
        spec.containers[].envFrom[].configMapRef.name ConfigMap
        spec.containers[].envFrom[].secretRef.name Secret
        spec.ephemeralContainers[].env[].valueFrom.configMapKeyRef.name ConfigMap
        spec.ephemeralContainers[].env[].valueFrom.secretKeyRef.name Secret
        spec.ephemeralContainers[].envFrom[].configMapRef.name ConfigMap
        spec.ephemeralContainers[].envFrom[].secretRef.name Secret
        spec.imagePullSecrets[].name Secret
        spec.initContainers[].env[].valueFrom.configMapKeyRef.name ConfigMap
        spec.initContainers[].env[].valueFrom.secretKeyRef.name Secret
        spec.initContainers[].envFrom[].configMapRef.name ConfigMap
        spec.initContainers[].envFrom[].secretRef.name Secret
        spec.volumes[].configMap.name ConfigMap
        spec.volumes[].csi.nodePublishSecretRef.name Secret
        spec.volumes[].persistentVolumeClaim.claimName PersistentVolumeClaim
        spec.volumes[].projected.sources[].configMap.name ConfigMap
        spec.volumes[].projected.sources[].secret.name Secret
        spec.volumes[].secret.secretName Secret"#]]
    .assert_eq(&references.join("\n"));
}
