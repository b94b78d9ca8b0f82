//! What can be known before anything is made: that the class exists and offers what is asked for.

use crate::{cluster::Cluster, error};
use anyhow::Result;
use api::{ControlPlaneClass, ControlPlaneClassSpec, PodSecurity, VirtualControlPlane};
use kube::{Api, ResourceExt, api::ListParams};
use tenancy::ceiling;

/// A Kubernetes version as a VirtualControlPlane may name one.
pub(in crate::command) fn version(text: &str) -> Result<String, String> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.trim_start_matches('v').split('.').collect();
    let is_version = parts.first() == Some(&"1")
        && (2..=3).contains(&parts.len())
        && parts.iter().all(|part| is_number(part));
    if is_version {
        Ok(text.to_owned())
    } else {
        Err("write a version of Kubernetes, such as 1.36 or 1.36.3".to_owned())
    }
}

/// How many API servers there may be.
pub(super) fn replicas(text: &str) -> Result<i32, String> {
    let count = text.parse().ok();
    count
        .filter(|count| (1..=3).contains(count))
        .ok_or_else(|| "write 1, 2 or 3".to_owned())
}

/// Compares the object with its class. Who may not read classes is answered by the manager instead.
pub(in crate::command) async fn class(cluster: &Cluster, vcp: &VirtualControlPlane) -> Result<()> {
    let classes: Api<ControlPlaneClass> = Api::all(cluster.client.clone());
    let name = &vcp.spec.class_name;
    match classes.get(name).await {
        Ok(class) => against(vcp, &class.spec).map_err(error::usage),
        Err(err) if error::is_forbidden(&err) => Ok(()),
        Err(err) if error::is_missing(&err) => {
            let known = classes
                .list(&ListParams::default())
                .await
                .map(|list| list.items)
                .unwrap_or_default();
            let known: Vec<String> = known.iter().map(ResourceExt::name_any).collect();
            let known = if known.is_empty() {
                format!(
                    "there is none; `{}` makes the default one",
                    cluster.hint_anywhere("install")
                )
            } else {
                format!("there is {}", known.join(", "))
            };
            Err(error::fail(format!(
                "there is no ControlPlaneClass {name:?}: {known}"
            )))
        }
        Err(err) => Err(err.into()),
    }
}

fn against(vcp: &VirtualControlPlane, class: &ControlPlaneClassSpec) -> Result<(), String> {
    let name = &vcp.spec.class_name;
    if let Some(version) = &vcp.spec.version
        && !class
            .versions
            .iter()
            .any(|offered| offers(&offered.version, version))
    {
        let offered: Vec<&str> = class
            .versions
            .iter()
            .map(|version| version.version.as_str())
            .collect();
        return Err(format!(
            "the class {name} doesn't offer Kubernetes {version}: it offers {}",
            offered.join(", ")
        ));
    }
    let namespace = vcp.namespace().unwrap_or_default();
    if !class.is_for(&namespace) {
        return Err(format!(
            "the class {name} isn't for namespace {namespace}: it is for {}",
            class.namespaces.join(", ")
        ));
    }
    // One that exists keeps what it has.
    let new = vcp.metadata.uid.is_none().then_some(&vcp.spec);
    let excess = new.and_then(|spec| {
        let servers = ceiling::servers(spec, class);
        servers.or_else(|| ceiling::store(spec, class).into_iter().next())
    });
    if let Some(excess) = excess {
        return Err(format!(
            "the class {name} doesn't allow that much: {excess}"
        ));
    }
    match vcp.spec.policy.pod_security {
        Some(level) if level > class.pod_security => Err(format!(
            "the class {name} allows the Pod Security level {} at most, not {}",
            word(class.pod_security),
            word(level)
        )),
        _ => Ok(()),
    }
}

/// Whether `asked` (`1.36`, `v1.36.3`) means the version `offered` (`1.36.3`).
pub(in crate::command) fn offers(offered: &str, asked: &str) -> bool {
    let asked = asked.trim_start_matches('v');
    offered
        .strip_prefix(asked)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn word(level: PodSecurity) -> &'static str {
    match level {
        PodSecurity::Restricted => "restricted",
        PodSecurity::Baseline => "baseline",
        PodSecurity::Privileged => "privileged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Ceilings, Version, VirtualControlPlaneSpec};

    #[test]
    fn what_is_no_version_and_no_number_of_servers_is_wrong_input() {
        for good in ["1.36", "1.36.3", "v1.36.3"] {
            assert_eq!(version(good).as_deref(), Ok(good));
        }
        for wrong in [
            "", "banana", "1", "1.36.", "1.36.3.1", "2.0", "1.x", "latest",
        ] {
            assert!(version(wrong).is_err(), "{wrong}");
        }
        assert_eq!((replicas("3"), replicas("0").is_err()), (Ok(3), true));
    }

    #[test]
    fn a_version_may_be_named_in_short() {
        assert!(offers("1.36.3", "1.36") && offers("1.36.3", "v1.36.3"));
        assert!(
            !offers("1.36.3", "1.3") && !offers("1.36.3", "1.36.4") && !offers("1.36.3", "1.36.31")
        );
    }

    #[test]
    fn what_the_class_does_not_offer_is_told() {
        let class = ControlPlaneClassSpec {
            versions: vec![Version {
                version: "1.36.3".into(),
                ..Version::default()
            }],
            max: Ceilings {
                replicas: Some(2),
                ..Ceilings::default()
            },
            ..ControlPlaneClassSpec::default()
        };
        let mut spec = VirtualControlPlaneSpec {
            version: Some("1.30".into()),
            ..VirtualControlPlaneSpec::default()
        };
        let told = |spec: &VirtualControlPlaneSpec| {
            against(&VirtualControlPlane::new("a", spec.clone()), &class)
        };
        assert_eq!(
            told(&spec).unwrap_err(),
            "the class default doesn't offer Kubernetes 1.30: it offers 1.36.3"
        );
        spec.version = Some("1.36".into());
        assert_eq!(told(&spec), Ok(()));
        let mut elsewhere = class.clone();
        elsewhere.namespaces = vec!["platform".into()];
        let mut vcp = VirtualControlPlane::new("a", spec.clone());
        vcp.metadata.namespace = Some("tenants".into());
        assert_eq!(
            against(&vcp, &elsewhere).unwrap_err(),
            "the class default isn't for namespace tenants: it is for platform"
        );
        spec.replicas = Some(3);
        assert_eq!(
            told(&spec).unwrap_err(),
            "the class default doesn't allow that much: spec.replicas is 3 and may be 2 at most"
        );
        spec.replicas = Some(2);
        spec.policy.pod_security = Some(PodSecurity::Privileged);
        assert!(
            told(&spec)
                .unwrap_err()
                .contains("baseline at most, not privileged")
        );
    }
}
