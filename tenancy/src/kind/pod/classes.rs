//! Priority, runtime and devices: by classes that the tenant is offered, and by its own claims.

use super::{
    containers,
    fields::{items, items_mut, text},
};
use crate::{
    kind::{Cx, Refused},
    object::Object,
    quota::demand::DEVICES_OF,
};
use serde_json::{Map, Value};

/// Puts in what the platform offers or prescribes, and the claims that the tenant's controller made from templates.
///
/// A priority class that isn't offered is the tenant's own, which means nothing among tenants: the pod runs with the one
/// of its tier, or without (T11). A runtime that isn't offered is refused: the pod would run with less isolation than it
/// asks for (T13). So is any but the one that is prescribed.
pub(super) fn step(spec: &mut Value, pod: &Object, cx: &Cx<'_>) -> Result<(), Refused> {
    let class = text(spec, "priorityClassName").to_owned();
    let rules = &cx.rules.pods;
    if !cx.facts.is_offered("PriorityClass", &class)
        && let Some(spec) = spec.as_object_mut()
    {
        spec.remove("priorityClassName");
        if let Some(tier) = &rules.priority_class {
            spec.insert("priorityClassName".into(), tier.as_str().into());
        }
    }
    let class = text(spec, "runtimeClassName").to_owned();
    if let Some(prescribed) = &rules.runtime_class {
        if !class.is_empty() && class != *prescribed {
            return Err(Refused::new(
                "RuntimeClassPrescribed",
                format!(
                    "spec.runtimeClassName {class:?} can't be chosen: all pods of this tenant run under {prescribed:?}; \
                     leave it out"
                ),
            ));
        }
        spec["runtimeClassName"] = prescribed.as_str().into();
    } else if class.is_empty() {
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("runtimeClassName");
        }
    } else if !cx.facts.is_offered("RuntimeClass", &class) {
        return Err(Refused::new(
            "RuntimeClassNotOffered",
            format!(
                "spec.runtimeClassName {class:?} isn't offered by the platform: `kubectl get runtimeclasses` shows what is"
            ),
        ));
    }
    require_devices(spec, cx)?;
    let tenants = pod.at("/spec").unwrap_or(&Value::Null);
    for (claim, tenants) in items_mut(spec, "resourceClaims").zip(items(tenants, "resourceClaims"))
    {
        if text(tenants, "resourceClaimTemplateName").is_empty() {
            continue;
        }
        match generated(pod, text(claim, "name")) {
            Some(Some(name)) => claim["resourceClaimName"] = name.into(),
            // The controller found that none is needed, so there is nothing to refer to.
            Some(None) => *claim = Value::Null,
            None => {
                return Err(Refused::new(
                    "ResourceClaimPending",
                    "its resource claims aren't made yet: the cluster's controller makes them from their templates",
                ));
            }
        }
    }
    if let Some(claims) = spec.get_mut("resourceClaims").and_then(Value::as_array_mut) {
        claims.retain(|claim| !claim.is_null());
    }
    Ok(())
}

/// For a resource that stands for a class of devices the super cluster's scheduler makes a claim of its own (KEP-5004).
fn require_devices(spec: &Value, cx: &Cx<'_>) -> Result<(), Refused> {
    let containers = containers::all(spec).filter_map(|container| container.get("resources"));
    for resources in containers.chain(spec.get("resources")) {
        for name in ["limits", "requests"]
            .into_iter()
            .filter_map(|part| resources.get(part)?.as_object())
            .flat_map(Map::keys)
        {
            let classes = match name.strip_prefix(DEVICES_OF) {
                Some(class) => vec![class.to_owned()],
                None if name.contains('/') => cx.facts.device_classes(name),
                None => continue,
            };
            let mut classes = classes.iter();
            if let Some(class) = classes.find(|class| !cx.facts.is_offered("DeviceClass", class)) {
                return Err(Refused::new(
                    "DeviceClassNotOffered",
                    format!(
                        "resource {name} means devices of DeviceClass {class:?}, which the platform doesn't offer: see \
                         which there are"
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// The pod's priority class, if the pod runs without it.
pub(super) fn left_out(spec: &Value, cx: &Cx<'_>) -> Option<String> {
    let class = text(spec, "priorityClassName");
    let is_given = class.is_empty()
        || cx.rules.pods.priority_class.as_deref() == Some(class)
        || cx.facts.is_offered("PriorityClass", class);
    (!is_given).then(|| format!("priorityClassName {class}"))
}

/// Whether the tenant's controller has yet to make claims from templates.
pub(super) fn awaits_claims(pod: &Object) -> bool {
    let spec = pod.at("/spec").unwrap_or(&Value::Null);
    items(spec, "resourceClaims").any(|claim| {
        claim.get("resourceClaimTemplateName").is_some()
            && generated(pod, text(claim, "name")).is_none()
    })
}

/// Name of the claim that was made for one of the pod's; `Some(None)` when none was needed.
fn generated<'a>(pod: &'a Object, name: &str) -> Option<Option<&'a str>> {
    let status = pod.at("/status").unwrap_or(&Value::Null);
    let made = items(status, "resourceClaimStatuses").find(|made| text(made, "name") == name)?;
    Some(made.get("resourceClaimName").and_then(Value::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::pod::tests::{down_as, pod};
    use serde_json::json;

    #[test]
    fn offered_classes_cross() {
        let spec = "{priorityClassName: gold, priority: 7, preemptionPolicy: Never, runtimeClassName: sandbox, \
                    overhead: {memory: 1Mi}}";
        let twin = down_as(&pod(spec), |_, facts| {
            facts.offered = vec![("PriorityClass", "gold"), ("RuntimeClass", "sandbox")];
        })
        .unwrap();
        assert_eq!(twin.text("/spec/priorityClassName"), Some("gold"));
        assert_eq!(twin.text("/spec/runtimeClassName"), Some("sandbox"));
        for left in ["priority", "preemptionPolicy", "overhead"] {
            assert_eq!(twin.at(&format!("/spec/{left}")), None, "{left}");
        }
    }

    #[test]
    fn other_priorities_are_left_out_and_other_runtimes_refused() {
        let twin = down_as(&pod("{priorityClassName: system-node-critical}"), |_, _| {});
        assert_eq!(twin.unwrap().at("/spec/priorityClassName"), None);
        let refused = down_as(&pod("{runtimeClassName: weak}"), |_, _| {}).unwrap_err();
        assert_eq!(refused.reason, "RuntimeClassNotOffered");
    }

    /// T43: the scheduler makes a claim for them, which nobody else judges.
    #[test]
    fn t43_devices_by_a_resource_are_those_of_offered_classes() {
        let down = |place: &str, name: &str| {
            let resources = format!("{{limits: {{cpu: 1, {name}: 1}}}}");
            let container =
                |resources: &str| format!("{{name: c, image: i, resources: {resources}}}");
            let spec = match place {
                "resources" => format!("resources: {resources}"),
                list => format!("{list}: [{}]", container(&resources)),
            };
            down_as(&pod(&format!("{{{spec}}}")), |_, facts| {
                facts.offered = vec![("DeviceClass", "gpu")];
                facts.device_classes =
                    vec![("example.com/gpu", "gpu"), ("example.com/fpga", "fpga")];
            })
        };
        for place in ["containers", "initContainers", "resources"] {
            for (name, is_offered) in [
                ("deviceclass.resource.kubernetes.io/gpu", true),
                ("deviceclass.resource.kubernetes.io/fpga", false),
                ("deviceclass.resource.kubernetes.io/", false),
                ("example.com/gpu", true),
                ("example.com/fpga", false),
                ("example.com/of-a-plugin", true),
            ] {
                let twin = down(place, name);
                let reason = twin.err().map(|refused| refused.reason);
                let expected = (!is_offered).then_some("DeviceClassNotOffered");
                assert_eq!(reason, expected, "{place} {name}");
            }
        }
    }

    #[test]
    fn a_tier_and_a_runtime_can_be_prescribed() {
        let down = |spec| {
            down_as(&pod(spec), |tenant, facts| {
                tenant.pods.priority_class = Some("paid".into());
                tenant.pods.runtime_class = Some("sandbox".into());
                facts.offered = vec![("PriorityClass", "gold"), ("RuntimeClass", "runc")];
            })
        };
        for (spec, priority) in [
            ("{}", "paid"),
            ("{priorityClassName: own}", "paid"),
            (
                "{priorityClassName: gold, runtimeClassName: sandbox}",
                "gold",
            ),
        ] {
            let twin = down(spec).unwrap();
            assert_eq!(twin.text("/spec/priorityClassName"), Some(priority));
            assert_eq!(twin.text("/spec/runtimeClassName"), Some("sandbox"));
        }
        let refused = down("{runtimeClassName: runc}").unwrap_err();
        assert_eq!(refused.reason, "RuntimeClassPrescribed");
    }

    #[test]
    fn claims_from_templates_are_those_that_the_tenants_controller_made() {
        let mut pod = pod(
            "{resourceClaims: [{name: own, resourceClaimName: shared}, {name: gpu, resourceClaimTemplateName: t}, \
             {name: none, resourceClaimTemplateName: t}]}",
        );
        assert!(awaits_claims(&pod));
        assert_eq!(
            down_as(&pod, |_, _| {}).unwrap_err().reason,
            "ResourceClaimPending"
        );
        pod.value_mut()["status"]["resourceClaimStatuses"] =
            json!([{"name": "gpu", "resourceClaimName": "web-gpu-x1"}, {"name": "none"}]);
        assert!(!awaits_claims(&pod));
        let twin = down_as(&pod, |_, _| {}).unwrap();
        assert_eq!(
            twin.at("/spec/resourceClaims"),
            Some(
                &json!([{"name": "own", "resourceClaimName": "shared"}, {"name": "gpu", "resourceClaimName": "web-gpu-x1"}])
            )
        );
    }
}
