//! A tenant as Cluster API has it: a Cluster and the two objects that it names.

use crate::{age, cluster::Cluster, discovery::Kinds, error, interrupt, progress::Progress, watch};
use anyhow::Result;
use api::{
    VirtualControlPlane,
    capi::{
        PlaceSettings, SubletCluster, SubletClusterSpec, SubletControlPlane,
        SubletControlPlaneSpec, TenantSettings,
    },
};
use kube::{
    ResourceExt,
    api::{DynamicObject, PostParams},
};
use serde_json::{Value, json};
use std::time::Duration;

/// Place, control plane and Cluster, all of the tenant's name; they ask for what `vcp` asks for.
///
/// The Cluster comes last: Cluster API looks half a minute later again for what it doesn't find when it sees a Cluster.
pub(super) fn objects(vcp: &VirtualControlPlane) -> Result<Vec<Value>> {
    let name = vcp.name_any();
    let spec = &vcp.spec;
    let reference =
        |group: &str, kind: &str| json!({"apiGroup": group, "kind": kind, "name": name});
    let cluster = json!({
        "apiVersion": format!("{}/v1beta2", api::capi::GROUP), "kind": "Cluster",
        "metadata": {"name": name},
        "spec": {
            "controlPlaneRef": reference(api::capi::CONTROL_PLANE_GROUP, "SubletControlPlane"),
            "infrastructureRef": reference(api::capi::INFRASTRUCTURE_GROUP, "SubletCluster"),
        },
    });
    let place = SubletCluster::new(
        &name,
        SubletClusterSpec {
            service_cidr: spec.network.service_cidr.clone(),
            place: PlaceSettings {
                dns: (spec.network.dns != api::Dns::default()).then_some(spec.network.dns),
                ..PlaceSettings::default()
            },
            ..SubletClusterSpec::default()
        },
    );
    let control_plane = SubletControlPlane::new(
        &name,
        SubletControlPlaneSpec {
            version: spec.version.as_deref().map(with_v),
            replicas: spec.replicas,
            tenant: TenantSettings {
                class_name: Some(spec.class_name.clone()),
                etcd: spec.etcd.clone(),
                authentication: (!spec.authentication.is_empty())
                    .then(|| spec.authentication.clone()),
                sync: None,
                policy: (spec.policy != api::Policy::default()).then(|| spec.policy.clone()),
            },
            ..SubletControlPlaneSpec::default()
        },
    );
    let mut objects = vec![
        serde_json::to_value(place)?,
        serde_json::to_value(control_plane)?,
        cluster,
    ];
    if let Some(namespace) = &vcp.metadata.namespace {
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(namespace);
        }
    }
    Ok(objects)
}

/// Makes the objects. One that can't be made is an error, which names those before it: they stay.
pub(super) async fn make(cluster: &Cluster, objects: &[Value]) -> Result<()> {
    let kinds = Kinds::load(&cluster.client).await?;
    let mut apis = vec![];
    for object in objects {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let Some(kind) = kinds.exact(text("apiVersion"), text("kind")) else {
            return Err(error::fail(format!(
                "this cluster doesn't serve {}: Cluster API's core is installed with `clusterctl init`, its kinds for \
                 tenants with `{}`",
                text("kind"),
                cluster.hint_anywhere("install --cluster-api")
            )));
        };
        apis.push(kind.api(&cluster.client, Some(&cluster.namespace)));
    }
    let mut made = vec![];
    for (object, api) in objects.iter().zip(apis) {
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        let kind = object.types.clone().unwrap_or_default().kind;
        let name = object.name_any();
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => made.push(format!("{kind}/{name}")),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                return Err(error::fail(format!(
                    "{kind} {name} in namespace {} exists already: choose another name, or delete it{}",
                    cluster.namespace,
                    left_behind(&made)
                )));
            }
            Err(err) if made.is_empty() => return Err(err.into()),
            Err(err) => {
                let why = cluster.clear(err.into());
                return Err(error::fail(format!("{why}{}", left_behind(&made))));
            }
        }
    }
    Ok(())
}

/// What was made before it went wrong, and what to do with it; nothing when nothing was.
fn left_behind(made: &[String]) -> String {
    if made.is_empty() {
        return String::new();
    }
    let made = made.join(", ");
    format!("; already created: {made}; delete them, or run again with another name")
}

/// Waits until the VirtualControlPlane is made, for at most `limit`.
pub(super) async fn tenant(
    cluster: &Cluster,
    name: &str,
    limit: Duration,
) -> Result<VirtualControlPlane> {
    let mut progress = Progress::start("waiting for Cluster API to make the tenant");
    let made = tokio::time::timeout(limit, watch::appears(cluster, name, &mut progress));
    let left = || {
        let look = cluster.kubectl(&cluster.namespace, "get clusters,scp,scl");
        format!("Cluster {name} stays, and becomes a tenant by itself; look with `{look}`")
    };
    let made = interrupt::or_ctrl_c(async { Ok(made.await) }, left).await?;
    made.map_err(|_| nothing_made(cluster, name, limit))?
}

/// The provider or Cluster API's core isn't at work, or something is wrong with the objects.
fn nothing_made(cluster: &Cluster, name: &str, limit: Duration) -> anyhow::Error {
    let look = cluster.kubectl(&cluster.namespace, "get clusters,scp,scl -o yaml");
    error::fail(format!(
        "Cluster {name} became no tenant in {}: its objects say why in their conditions, see `{look}`; if they have \
         none, `{}` and Cluster API's core are missing",
        age::elapsed(limit),
        cluster.hint_anywhere("install --cluster-api")
    ))
}

/// Cluster API wants versions with a `v`.
fn with_v(version: &str) -> String {
    format!("v{}", version.trim_start_matches('v'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::VirtualControlPlaneSpec;
    use expect_test::expect;

    #[test]
    fn what_was_made_before_a_failure_is_named() {
        assert_eq!(left_behind(&[]), "");
        assert_eq!(
            left_behind(&["SubletCluster/a".into(), "SubletControlPlane/a".into()]),
            "; already created: SubletCluster/a, SubletControlPlane/a; delete them, or run again with another name"
        );
    }

    #[test]
    fn a_tenant_becomes_three_objects_that_name_each_other() {
        let mut vcp = VirtualControlPlane::new(
            "blue",
            VirtualControlPlaneSpec {
                version: Some("1.36.3".into()),
                replicas: Some(3),
                ..VirtualControlPlaneSpec::default()
            },
        );
        vcp.metadata.namespace = Some("teams".into());
        let texts: Vec<String> = objects(&vcp)
            .unwrap()
            .iter()
            .map(|object| crate::output::yaml(object).unwrap())
            .collect();
        expect![[r#"
            apiVersion: infrastructure.cluster.x-k8s.io/v1alpha1
            kind: SubletCluster
            metadata:
              name: blue
              namespace: teams
            spec: {}
            ---
            apiVersion: controlplane.cluster.x-k8s.io/v1alpha1
            kind: SubletControlPlane
            metadata:
              name: blue
              namespace: teams
            spec:
              className: default
              replicas: 3
              version: v1.36.3
            ---
            apiVersion: cluster.x-k8s.io/v1beta2
            kind: Cluster
            metadata:
              name: blue
              namespace: teams
            spec:
              controlPlaneRef:
                apiGroup: controlplane.cluster.x-k8s.io
                kind: SubletControlPlane
                name: blue
              infrastructureRef:
                apiGroup: infrastructure.cluster.x-k8s.io
                kind: SubletCluster
                name: blue
        "#]]
        .assert_eq(&texts.join("---\n"));
    }
}
