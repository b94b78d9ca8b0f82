//! A tenant as Cluster API has it: a Cluster and the two objects that it names.

use crate::{cluster::Cluster, discovery::Kinds, error, tenant};
use anyhow::Result;
use api::{
    VirtualControlPlane,
    capi::{
        PlaceSettings, SubletCluster, SubletClusterSpec, SubletControlPlane,
        SubletControlPlaneSpec, TenantSettings,
    },
};
use futures::StreamExt;
use kube::{
    ResourceExt,
    api::{DynamicObject, PostParams},
    runtime::{WatchStreamExt, watcher::watch_object},
};
use serde_json::{Value, json};
use std::pin::pin;

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

/// Makes the objects. One that exists already is an error, and those before it stay.
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
                cluster.hint("install --cluster-api")
            )));
        };
        apis.push(kind.api(&cluster.client, Some(&cluster.namespace)));
    }
    for (object, api) in objects.iter().zip(apis) {
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let types = object.types.clone().unwrap_or_default();
                return Err(error::fail(format!(
                    "{} {} in namespace {} exists already: choose another name, or delete it",
                    types.kind,
                    object.name_any(),
                    cluster.namespace
                )));
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

/// Waits until the VirtualControlPlane is made.
pub(super) async fn tenant(cluster: &Cluster, name: &str) -> Result<VirtualControlPlane> {
    let mut stream = pin!(watch_object(tenant::api(cluster), name).default_backoff());
    while let Some(event) = stream.next().await {
        if let Ok(Some(vcp)) = event {
            return Ok(vcp);
        }
    }
    Err(error::fail(format!("the watch of {name} ended")))
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
