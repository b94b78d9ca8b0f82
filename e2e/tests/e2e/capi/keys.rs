//! The keys of a Cluster: those of the contract, those that a person brings, and their renewal.

use super::{Place, control_plane_of, while_true, with_clusters, without_a_lost_answer};
use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    kind::{CLUSTER, CONTROL_PLANE, NAMESPACE, SECRET, SUBLET_CONTROL_PLANE},
    read::{annotation, condition, items, label, text},
    rig::keys::Authority,
    tenant::conditions,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

/// Leaf certificates in the control plane's namespace.
const LEAVES: [&str; 7] = [
    "apiserver",
    "apiserver-etcd-client",
    "etcd-server",
    "etcd-peer",
    "front-proxy-client",
    "controller-manager",
    "manager",
];

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_clusters_keys_are_there_by_the_contract_and_an_authority_that_was_there_first_is_used() {
    with_clusters(async |place| {
        let authority = Authority::make()?;
        let theirs = json!({
            "metadata": {
                "name": "own-ca", "namespace": place.namespace, "labels": {"cluster.x-k8s.io/cluster-name": "own"},
            },
            "type": "cluster.x-k8s.io/secret",
            "stringData": {"tls.crt": authority.certificate, "tls.key": authority.key()},
        });
        let before = place.above.create(SECRET, theirs).await?;
        place.cluster("own").await?;
        place.available("own", 2 * PODS).await?;
        let after = place.get(SECRET, "own-ca").await?;
        ensure!(
            before["data"] == after["data"]
                && before["metadata"]["uid"] == after["metadata"]["uid"],
            "the authority that a person brought was changed"
        );
        let tenant = place.tenant("own").await?;
        ensure!(
            tenant
                .kubeconfig
                .contains(&BASE64_STANDARD.encode(&authority.certificate)),
            "another authority is in use"
        );
        tenant.side.get(NAMESPACE, "", "kube-system").await?;
        for name in ["own-etcd", "own-proxy", "own-sa"] {
            let secret = place.get(SECRET, name).await?;
            ensure!(
                text(&secret, "/type") == "cluster.x-k8s.io/secret"
                    && label(&secret, "cluster.x-k8s.io/cluster-name") == Some("own")
                    && secret["data"]["tls.crt"].is_string()
                    && secret["data"]["tls.key"].is_string(),
                "{name}: {}",
                secret["metadata"]
            );
            let owner = &items(&secret, "/metadata/ownerReferences")[0];
            ensure!(owner["kind"] == "SubletControlPlane", "{owner}");
        }
        place.delete(CLUSTER, "own").await?;
        place.gone(CLUSTER, "own", PODS).await?;
        eventually(
            SOON,
            "the Secrets but the person's own are gone",
            async || {
                let left = place.above.list(SECRET, &place.namespace, "").await?;
                let names: Vec<&str> = left.iter().map(e2e::read::name).collect();
                ensure!(names == ["own-ca"], "{names:?}");
                Ok(())
            },
        )
        .await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn certificates_and_kubeconfig_are_renewed_without_a_lost_probe() {
    with_clusters(async |place| {
        place.cluster("aged").await?;
        place.available("aged", 2 * PODS).await?;
        let tenant = place.tenant("aged").await?;
        let vcp = place.get(CONTROL_PLANE, "aged").await?;
        let inside = super::inside(&vcp)?;
        let old = age(place, &place.namespace, "aged-kubeconfig").await?;
        for leaf in LEAVES {
            age(place, &inside, leaf).await?;
        }
        // It looks at ages once a minute; a change of the spec makes it look now.
        let nudge = json!({"metadata": {"annotations": {"example.com/nudge": "1"}}});
        place.merge(CONTROL_PLANE, "aged", nudge).await?;
        let renewed = eventually(PODS, "all certificates are renewed", async || {
            for leaf in LEAVES {
                is_new(&place.above.get(SECRET, &inside, leaf).await?)?;
            }
            is_new(&place.get(SECRET, "aged-kubeconfig").await?)
        });
        let settled = async {
            without_a_lost_answer(&tenant, renewed).await?;
            let new = place.get(SECRET, "aged-kubeconfig").await?;
            ensure!(old["data"] != new["data"], "the kubeconfig is the old one");
            let renewed = place.tenant("aged").await?;
            renewed.side.get(NAMESPACE, "", "kube-system").await?;
            place
                .like(
                    SUBLET_CONTROL_PLANE,
                    &control_plane_of("aged"),
                    "is settled with the new ones",
                    PODS,
                    |object| {
                        condition(object, "Available") == "True"
                            && condition(object, "RollingOut") == "False"
                    },
                )
                .await
        };
        while_true(place, "aged", &["RemoteConnectionProbe"], settled).await?;
        let cluster = place.get(CLUSTER, "aged").await?;
        ensure!(
            condition(&cluster, "Available") == "True",
            "{}",
            conditions(&cluster)
        );
        Ok(())
    });
}

/// Makes a certificate look as if two thirds of its life were over.
async fn age(place: &Place, namespace: &str, name: &str) -> anyhow::Result<Value> {
    let old = json!({"metadata": {"annotations": {"sublet.dev/expires": "2020-01-01T00:00:00Z"}}});
    let aged = place.above.merge(SECRET, namespace, name, old).await;
    aged.with_context(|| format!("Secret {namespace}/{name}"))
}

fn is_new(secret: &Value) -> anyhow::Result<()> {
    let expires = annotation(secret, "sublet.dev/expires").unwrap_or_default();
    ensure!(
        !expires.starts_with("2020"),
        "{} is old",
        e2e::read::name(secret)
    );
    Ok(())
}
