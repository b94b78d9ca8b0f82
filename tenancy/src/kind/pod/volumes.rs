//! Volumes: what comes from the tenant's own objects crosses; what reaches into the node or the network doesn't.

use super::{
    downward, env,
    fields::{Fields, Rule, items, items_mut, text},
    tokens,
};
use crate::{kind::Cx, object::Object, refs::Referent};
use serde_json::{Map, Value, json};

/// Translates the volumes that aren't the same on both sides; `spec` was built from the tenant's `pod`.
///
/// Annotations that the super pod must have for its downward API files are added to `carried`.
pub(super) fn step(spec: &mut Value, pod: &Object, cx: &Cx<'_>, carried: &mut Map<String, Value>) {
    let Some(tenant_spec) = pod.at("/spec") else {
        return;
    };
    for (volume, tenants) in items_mut(spec, "volumes").zip(items(tenant_spec, "volumes")) {
        let name = text(tenants, "name").to_owned();
        if tenants.get("ephemeral").is_some_and(Value::is_object) {
            // The tenant's controller makes this claim, so the super pod refers to it like to any other.
            volume["persistentVolumeClaim"] =
                json!({"claimName": format!("{}-{name}", pod.name())});
        }
        if let Some(source) = volume.get_mut("downwardAPI") {
            downward::files(source, pod, carried);
        }
        let (Some(projected), Some(tenants)) =
            (volume.get_mut("projected"), tenants.get("projected"))
        else {
            continue;
        };
        for (index, (source, tenants)) in items_mut(projected, "sources")
            .zip(items(tenants, "sources"))
            .enumerate()
        {
            if let Some(token) = tenants
                .get("serviceAccountToken")
                .filter(|token| token.is_object())
            {
                *source = tokens::secret_source(token, &name, index, pod, cx);
            }
            if let Some(source) = source.get_mut("downwardAPI") {
                downward::files(source, pod, carried);
            }
        }
    }
}

const IN_TREE: &str =
    "volumes of this type name storage outside the tenant: use a PersistentVolumeClaim";
const NETWORK: Rule = Rule::Refuse("VolumeTypeRefused", IN_TREE);

/// Volume.
pub(super) const VOLUME: Fields = &[
    ("awsElasticBlockStore", NETWORK),
    ("azureDisk", NETWORK),
    ("azureFile", NETWORK),
    ("cephfs", NETWORK),
    ("cinder", NETWORK),
    ("configMap", Rule::Object(CONFIG_MAP)),
    (
        "csi",
        Rule::Privileged(
            &Rule::Object(CSI),
            "VolumeTypeRefused",
            "its parameters reach a driver on the node: use a PersistentVolumeClaim",
        ),
    ),
    ("downwardAPI", Rule::Object(DOWNWARD)),
    (
        "emptyDir",
        Rule::Object(&[("medium", Rule::Pass), ("sizeLimit", Rule::Pass)]),
    ),
    (
        "ephemeral",
        Rule::Omit("becomes the claim that the tenant's controller makes"),
    ),
    ("fc", NETWORK),
    ("flexVolume", NETWORK),
    ("flocker", NETWORK),
    ("gcePersistentDisk", NETWORK),
    (
        "gitRepo",
        Rule::Refuse(
            "VolumeTypeRefused",
            "the node itself would run git (CVE-2024-10220): clone in an init container",
        ),
    ),
    ("glusterfs", NETWORK),
    (
        "hostPath",
        Rule::Object(&[("path", Rule::Judged), ("type", Rule::Pass)]),
    ),
    (
        "image",
        Rule::Object(&[("pullPolicy", Rule::Pass), ("reference", Rule::Pass)]),
    ),
    ("iscsi", NETWORK),
    ("name", Rule::Pass),
    ("nfs", NETWORK),
    (
        "persistentVolumeClaim",
        Rule::Object(&[
            ("claimName", Rule::Refers(Referent::Claim)),
            ("readOnly", Rule::Pass),
        ]),
    ),
    ("photonPersistentDisk", NETWORK),
    ("portworxVolume", NETWORK),
    ("projected", Rule::Object(PROJECTED)),
    ("quobyte", NETWORK),
    ("rbd", NETWORK),
    ("scaleIO", NETWORK),
    ("secret", Rule::Object(SECRET)),
    ("storageos", NETWORK),
    ("vsphereVolume", NETWORK),
];

const ITEMS: Rule = Rule::List(&[
    ("key", Rule::Pass),
    ("mode", Rule::Pass),
    ("path", Rule::Pass),
]);

const CONFIG_MAP: Fields = &[
    ("defaultMode", Rule::Pass),
    ("items", ITEMS),
    ("name", Rule::Refers(Referent::ConfigMap)),
    ("optional", Rule::Pass),
];

const SECRET: Fields = &[
    ("defaultMode", Rule::Pass),
    ("items", ITEMS),
    ("optional", Rule::Pass),
    ("secretName", Rule::Refers(Referent::Secret)),
];

/// An inline volume hands its parameters to a driver on the node, which no policy here can judge (T21).
const CSI: Fields = &[
    ("driver", Rule::Pass),
    ("fsType", Rule::Pass),
    (
        "nodePublishSecretRef",
        Rule::Object(&[("name", Rule::Refers(Referent::Secret))]),
    ),
    ("readOnly", Rule::Pass),
    ("volumeAttributes", Rule::Pass),
];

const DOWNWARD: Fields = &[
    ("defaultMode", Rule::Pass),
    ("items", Rule::List(DOWNWARD_FILE)),
];

const DOWNWARD_FILE: Fields = &[
    ("fieldRef", Rule::Object(env::FIELD)),
    ("mode", Rule::Pass),
    ("path", Rule::Pass),
    ("resourceFieldRef", Rule::Object(env::RESOURCE_FIELD)),
];

const PROJECTED: Fields = &[
    ("defaultMode", Rule::Pass),
    ("sources", Rule::List(PROJECTION)),
];

const PROJECTION: Fields = &[
    (
        "clusterTrustBundle",
        Rule::Refuse(
            "SourceRefused",
            "trust bundles of the super cluster aren't the tenant's: project a ConfigMap",
        ),
    ),
    (
        "configMap",
        Rule::Object(&[
            ("items", ITEMS),
            ("name", Rule::Refers(Referent::ConfigMap)),
            ("optional", Rule::Pass),
        ]),
    ),
    (
        "downwardAPI",
        Rule::Object(&[("items", Rule::List(DOWNWARD_FILE))]),
    ),
    (
        "podCertificate",
        Rule::Refuse(
            "SourceRefused",
            "signers of the super cluster aren't the tenant's: project a Secret",
        ),
    ),
    (
        "secret",
        Rule::Object(&[
            ("items", ITEMS),
            ("name", Rule::Refers(Referent::Secret)),
            ("optional", Rule::Pass),
        ]),
    ),
    (
        "serviceAccountToken",
        Rule::Omit("becomes a key of the pod's token Secret"),
    ),
];

#[cfg(test)]
mod tests {
    use crate::kind::pod::tests::field;
    use expect_test::expect;

    #[test]
    fn volumes_of_the_tenants_own_objects_cross() {
        let spec = "
          volumes:
          - {name: a, emptyDir: {medium: Memory, sizeLimit: 1Gi}}
          - {name: b, configMap: {name: kube-root-ca.crt, defaultMode: 420, items: [{key: k, path: p, mode: 256}]}}
          - {name: c, secret: {secretName: s, optional: true}}
          - {name: d, persistentVolumeClaim: {claimName: data, readOnly: true}}
          - {name: e, ephemeral: {volumeClaimTemplate: {spec: {storageClassName: fast, future: 1}}}}
          - {name: f, image: {reference: registry/model, pullPolicy: IfNotPresent}}";
        expect![[r#"
            - emptyDir:
                medium: Memory
                sizeLimit: 1Gi
              name: a
            - configMap:
                defaultMode: 420
                items:
                - key: k
                  mode: 256
                  path: p
                name: kube-root-ca.crt.tenant
              name: b
            - name: c
              secret:
                optional: true
                secretName: s
            - name: d
              persistentVolumeClaim:
                claimName: data
                readOnly: true
            - name: e
              persistentVolumeClaim:
                claimName: web-e
            - image:
                pullPolicy: IfNotPresent
                reference: registry/model
              name: f
        "#]]
        .assert_eq(&field(spec, "/volumes"));
    }
}
