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
    (
        "awsElasticBlockStore",
        Rule::Whole(&NETWORK, "{fsType partition readOnly volumeID}"),
    ),
    (
        "azureDisk",
        Rule::Whole(
            &NETWORK,
            "{cachingMode diskName diskURI fsType kind readOnly}",
        ),
    ),
    (
        "azureFile",
        Rule::Whole(&NETWORK, "{readOnly secretName shareName}"),
    ),
    (
        "cephfs",
        Rule::Whole(
            &NETWORK,
            "{monitors path readOnly secretFile secretRef{name} user}",
        ),
    ),
    (
        "cinder",
        Rule::Whole(&NETWORK, "{fsType readOnly secretRef{name} volumeID}"),
    ),
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
        Rule::Translated(&Rule::Whole(&CLAIM_TEMPLATE, CLAIM_TEMPLATE_FIELDS)),
    ),
    (
        "fc",
        Rule::Whole(&NETWORK, "{fsType lun readOnly targetWWNs wwids}"),
    ),
    (
        "flexVolume",
        Rule::Whole(&NETWORK, "{driver fsType options readOnly secretRef{name}}"),
    ),
    (
        "flocker",
        Rule::Whole(&NETWORK, "{datasetName datasetUUID}"),
    ),
    (
        "gcePersistentDisk",
        Rule::Whole(&NETWORK, "{fsType partition pdName readOnly}"),
    ),
    (
        "gitRepo",
        Rule::Whole(
            &Rule::Refuse(
                "VolumeTypeRefused",
                "the node itself would run git (CVE-2024-10220): clone in an init container",
            ),
            "{directory repository revision}",
        ),
    ),
    (
        "glusterfs",
        Rule::Whole(&NETWORK, "{endpoints path readOnly}"),
    ),
    (
        "hostPath",
        Rule::AboveBaseline(&Rule::Object(&[("path", Rule::Pass), ("type", Rule::Pass)])),
    ),
    (
        "image",
        Rule::Object(&[("pullPolicy", Rule::Pass), ("reference", Rule::Pass)]),
    ),
    (
        "iscsi",
        Rule::Whole(
            &NETWORK,
            "{chapAuthDiscovery chapAuthSession fsType initiatorName iqn iscsiInterface lun portals readOnly secretRef{name} targetPortal}",
        ),
    ),
    ("name", Rule::Pass),
    ("nfs", Rule::Whole(&NETWORK, "{path readOnly server}")),
    (
        "persistentVolumeClaim",
        Rule::Object(&[
            ("claimName", Rule::Refers(Referent::Claim)),
            ("readOnly", Rule::Pass),
        ]),
    ),
    (
        "photonPersistentDisk",
        Rule::Whole(&NETWORK, "{fsType pdID}"),
    ),
    (
        "portworxVolume",
        Rule::Whole(&NETWORK, "{fsType readOnly volumeID}"),
    ),
    ("projected", Rule::Object(PROJECTED)),
    (
        "quobyte",
        Rule::Whole(&NETWORK, "{group readOnly registry tenant user volume}"),
    ),
    (
        "rbd",
        Rule::Whole(
            &NETWORK,
            "{fsType image keyring monitors pool readOnly secretRef{name} user}",
        ),
    ),
    (
        "scaleIO",
        Rule::Whole(
            &NETWORK,
            "{fsType gateway protectionDomain readOnly secretRef{name} sslEnabled storageMode storagePool system volumeName}",
        ),
    ),
    ("secret", Rule::Object(SECRET)),
    (
        "storageos",
        Rule::Whole(
            &NETWORK,
            "{fsType readOnly secretRef{name} volumeName volumeNamespace}",
        ),
    ),
    (
        "vsphereVolume",
        Rule::Whole(
            &NETWORK,
            "{fsType storagePolicyID storagePolicyName volumePath}",
        ),
    ),
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

/// The super pod refers to the claim that the tenant's controller makes of it.
const CLAIM_TEMPLATE: Rule = Rule::Omit("becomes the claim that the tenant's controller makes");

const CLAIM_TEMPLATE_FIELDS: &str = "{volumeClaimTemplate{metadata{annotations creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers generateName generation labels managedFields[]{apiVersion fieldsType fieldsV1 manager operation subresource time} name namespace ownerReferences[]{apiVersion blockOwnerDeletion controller kind name uid} resourceVersion selfLink uid} spec{accessModes dataSource{apiGroup kind name} dataSourceRef{apiGroup kind name namespace} resources{limits requests} selector{matchExpressions[]{key operator values} matchLabels} storageClassName volumeAttributesClassName volumeMode volumeName}}}";

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
        Rule::Whole(
            &Rule::Refuse(
                "SourceRefused",
                "trust bundles of the super cluster aren't the tenant's: project a ConfigMap",
            ),
            "{labelSelector{matchExpressions[]{key operator values} matchLabels} name optional path signerName}",
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
        Rule::Whole(
            &Rule::Refuse(
                "SourceRefused",
                "signers of the super cluster aren't the tenant's: project a Secret",
            ),
            "{certificateChainPath credentialBundlePath keyPath keyType maxExpirationSeconds signerName userAnnotations}",
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
        Rule::Translated(&Rule::Known(tokens::SOURCE)),
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
