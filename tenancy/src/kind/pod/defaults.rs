//! Requests and limits of containers that say none, and the most that one may have.
//!
//! What is put in is noted on the super pod: it is part of how the pod was made and not of what the tenant asks for, so a
//! class that changes its defaults resizes no pod that runs. The tenant's pod keeps its own QoS class, which is never
//! mirrored.

use super::fields::{items_mut, text};
use crate::{
    kind::{Cx, Refused},
    object::Object,
    quota::{
        amount::{quantity, shown},
        demand::is_no_limit,
    },
};
use api::keys;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Fills in and judges the resources of init and app containers.
///
/// Where the pod as a whole says something of a resource, its containers needn't.
pub(super) fn step(
    spec: &mut Value,
    cx: &Cx<'_>,
    annotations: &mut Map<String, Value>,
) -> Result<(), Refused> {
    let rules = &cx.rules.pods;
    if rules.requests.is_empty() && rules.limits.is_empty() && rules.max.is_empty() {
        return Ok(());
    }
    let whole = spec.get("resources").cloned().unwrap_or_default();
    let mut noted = vec![];
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            let name = text(container, "name").to_owned();
            let mut put = |container: &mut Value, part: &str, resource: &str, amount: i128| {
                let mut at = &mut *container;
                for field in ["resources", part] {
                    at = &mut at[field];
                    if !at.is_object() {
                        *at = json!({});
                    }
                }
                at[resource] = shown(resource, amount).into();
                noted.push(format!("{name}/{part}/{resource}"));
            };
            for (resource, most) in &rules.max {
                match said(container, "limits", resource) {
                    Some(limit) if limit > *most => {
                        return Err(too_large(&name, resource, limit, *most));
                    }
                    None if says(&whole, resource) => {
                        // Within the pod's own limit one container may use all of it.
                        let limit = said_in(&whole, "limits", resource);
                        if limit.is_none_or(|limit| limit > *most) {
                            return Err(needs_limit(&name, resource, *most));
                        }
                    }
                    _ => {}
                }
            }
            // Limits first: what a container may have at most is what it is given when it asks for more.
            let capped = rules.limits.iter().chain(&rules.max);
            for (resource, amount) in capped {
                if says(&whole, resource) || said(container, "limits", resource).is_some() {
                    continue;
                }
                let request = said(container, "requests", resource).unwrap_or_default();
                let most = rules.max.get(resource).copied();
                if let Some(most) = most.filter(|most| request > *most) {
                    return Err(too_large(&name, resource, request, most));
                }
                let limit = (*amount).max(request);
                put(
                    container,
                    "limits",
                    resource,
                    most.map_or(limit, |most| limit.min(most)),
                );
            }
            for (resource, amount) in &rules.requests {
                if says(&whole, resource) || said(container, "requests", resource).is_some() {
                    continue;
                }
                let limit = said(container, "limits", resource);
                let request = limit.map_or(*amount, |limit| limit.min(*amount));
                put(container, "requests", resource, request);
            }
        }
    }
    if !noted.is_empty() {
        annotations.insert(keys::DEFAULTED.into(), noted.join(",").into());
    }
    Ok(())
}

/// The spec of a super pod without what was put in.
pub(super) fn asked(pod: &Object) -> Option<Cow<'_, Value>> {
    let spec = pod.at("/spec")?;
    let Some(noted) = pod.annotation(keys::DEFAULTED) else {
        return Some(Cow::Borrowed(spec));
    };
    let mut spec = spec.clone();
    for entry in noted.split(',') {
        let mut parts = entry.splitn(3, '/');
        let (Some(name), Some(part), Some(resource)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        for list in ["initContainers", "containers"] {
            let named =
                items_mut(&mut spec, list).filter(|container| text(container, "name") == name);
            for container in named {
                if let Some(quantities) = container
                    .pointer_mut(&format!("/resources/{part}"))
                    .and_then(Value::as_object_mut)
                {
                    quantities.remove(resource);
                }
            }
        }
    }
    Some(Cow::Owned(spec))
}

fn said(container: &Value, part: &str, resource: &str) -> Option<i128> {
    said_in(container.get("resources")?, part, resource)
}

fn said_in(resources: &Value, part: &str, resource: &str) -> Option<i128> {
    let amount = resources.get(part)?.get(resource)?;
    (!is_no_limit(part, resource, amount)).then(|| quantity(amount))
}

fn says(whole: &Value, resource: &str) -> bool {
    ["requests", "limits"]
        .iter()
        .any(|part| said_in(whole, part, resource).is_some())
}

/// Of a pod that says for all its containers together what they may have.
fn needs_limit(container: &str, resource: &str, most: i128) -> Refused {
    Refused::new(
        "ContainerTooLarge",
        format!(
            "container {container} has no limit of {resource} of its own, and the pod's own allows it more than {}: give \
             the container a limit",
            shown(resource, most)
        ),
    )
}

fn too_large(container: &str, resource: &str, asked: i128, most: i128) -> Refused {
    Refused::new(
        "ContainerTooLarge",
        format!(
            "container {container} asks for {} of {resource}: at most {} is allowed",
            shown(resource, asked),
            shown(resource, most)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kind::pod::tests::{down_as, pod, yaml},
        plan::{Plan, plan},
        quota::amount::{Amounts, parse},
    };
    use expect_test::expect;

    fn amounts(pairs: &[(&str, &str)]) -> Amounts {
        let pairs = pairs.iter();
        pairs
            .map(|(name, text)| ((*name).to_owned(), parse(text).unwrap()))
            .collect()
    }

    fn down(
        spec: &str,
        requests: &[(&str, &str)],
        limits: &[(&str, &str)],
        max: &[(&str, &str)],
    ) -> Result<Object, Refused> {
        down_as(&pod(spec), |tenant, _| {
            tenant.pods.requests = amounts(requests);
            tenant.pods.limits = amounts(limits);
            tenant.pods.max = amounts(max);
        })
    }

    const REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "64Mi")];
    const LIMITS: [(&str, &str); 1] = [("memory", "128Mi")];

    #[test]
    fn what_containers_do_not_say_is_filled_in() {
        let spec = "
          initContainers: [{name: i, image: i}]
          containers:
          - {name: silent, image: i}
          - {name: large, image: i, resources: {requests: {memory: 1Gi}}}
          - {name: small, image: i, resources: {limits: {memory: 32Mi}}}";
        let twin = down(spec, &REQUESTS, &LIMITS, &[]).unwrap();
        expect![[r#"
            - resources:
                limits:
                  memory: 128Mi
                requests:
                  cpu: 100m
                  memory: 64Mi
            - resources:
                limits:
                  memory: 1Gi
                requests:
                  cpu: 100m
                  memory: 1Gi
            - resources:
                limits:
                  memory: 32Mi
                requests:
                  cpu: 100m
                  memory: 32Mi
        "#]]
        .assert_eq(&yaml(&resources(&twin)));
        assert_eq!(
            twin.text("/spec/initContainers/0/resources/limits/memory"),
            Some("128Mi")
        );
    }

    fn resources(twin: &Object) -> Value {
        let containers = twin.at("/spec/containers").unwrap().as_array().unwrap();
        let resources = containers
            .iter()
            .map(|container| json!({"resources": container["resources"]}));
        resources.collect()
    }

    #[test]
    fn what_the_whole_pod_says_needs_no_default() {
        let spec = "{resources: {limits: {memory: 1Gi}}, containers: [{name: c, image: i}]}";
        let twin = down(spec, &REQUESTS, &LIMITS, &[]).unwrap();
        let resources = twin.at("/spec/containers/0/resources").unwrap();
        assert_eq!(*resources, json!({"requests": {"cpu": "100m"}}));
    }

    #[test]
    fn a_container_has_at_most_what_is_allowed() {
        let max = [("memory", "1Gi")];
        let with = |resources: &str| {
            let spec = format!("{{containers: [{{name: c, image: i, resources: {resources}}}]}}");
            down(&spec, &[], &[], &max)
        };
        assert_eq!(
            with("{limits: {memory: 2Gi}}").unwrap_err().reason,
            "ContainerTooLarge"
        );
        assert_eq!(
            with("{requests: {memory: 2Gi}}").unwrap_err().reason,
            "ContainerTooLarge"
        );
        assert!(with("{limits: {memory: 1Gi}}").is_ok());
        let twin = with("{}").unwrap();
        assert_eq!(
            twin.text("/spec/containers/0/resources/limits/memory"),
            Some("1Gi")
        );
    }

    /// T43: one container may use all that its pod may.
    #[test]
    fn t43_a_limit_of_the_whole_pod_passes_no_container_s_maximum() {
        let with = |whole: &str, own: &str| {
            let spec = format!(
                "{{resources: {whole}, containers: [{{name: c, image: i, resources: {own}}}]}}"
            );
            down(&spec, &[], &[], &[("memory", "1Gi")])
        };
        for (whole, own, is_allowed) in [
            ("{limits: {memory: 500Gi}}", "{}", false),
            ("{requests: {memory: 1Gi}}", "{}", false),
            ("{limits: {memory: 1Gi}}", "{}", true),
            ("{limits: {memory: 500Gi}}", "{limits: {memory: 1Gi}}", true),
            (
                "{limits: {memory: 500Gi}}",
                "{limits: {memory: 2Gi}}",
                false,
            ),
            ("{limits: {cpu: 500}}", "{}", true),
        ] {
            let twin = with(whole, own);
            assert_eq!(twin.is_ok(), is_allowed, "{whole} {own}: {twin:?}");
        }
    }

    /// T43: to a node a limit of 0 is none.
    #[test]
    fn t43_a_limit_of_nothing_is_no_limit() {
        let limit = |limits: &[(&str, &str)], max: &[(&str, &str)], zero: &str| {
            let spec = format!(
                "{{containers: [{{name: c, image: i, resources: {{limits: {{memory: {zero}}}, requests: {{memory: 0}}}}}}]}}"
            );
            let twin = down(&spec, &[], limits, max).unwrap();
            twin.at("/spec/containers/0/resources/limits/memory")
                .cloned()
        };
        for zero in ["0", "'0'", "0Gi", "0.0"] {
            assert_eq!(limit(&LIMITS, &[], zero), Some(json!("128Mi")), "{zero}");
            let max = limit(&[], &[("memory", "1Gi")], zero);
            assert_eq!(max, Some(json!("1Gi")), "{zero}");
        }
        let whole = "{resources: {requests: {memory: 1Gi}, limits: {memory: 0}}, containers: [{name: c, image: i}]}";
        let refused = down(whole, &[], &[], &[("memory", "1Gi")]).unwrap_err();
        assert_eq!(refused.reason, "ContainerTooLarge");
        let devices =
            "{containers: [{name: c, image: i, resources: {limits: {example.com/gpu: 0}}}]}";
        let twin = down(devices, &[], &[("example.com/gpu", "1")], &[]).unwrap();
        let none = twin.at("/spec/containers/0/resources/limits");
        assert_eq!(none, Some(&json!({"example.com/gpu": 0})));
    }

    /// T42: API servers of others may tell anything.
    #[test]
    fn t42_resources_of_another_form_are_replaced_or_refused() {
        let with = |resources: &str| {
            let spec = format!("{{containers: [{{name: c, image: i, resources: {resources}}}]}}");
            down(&spec, &REQUESTS, &LIMITS, &[])
        };
        for wrong in ["{limits: much}", "{limits: [1]}"] {
            let twin = with(wrong).unwrap();
            let limit = twin.text("/spec/containers/0/resources/limits/memory");
            assert_eq!(limit, Some("128Mi"), "{wrong}");
        }
        assert_eq!(with("much").unwrap_err().reason, "MalformedPod");
    }

    #[test]
    fn a_new_default_resizes_nothing_that_runs() {
        let spec = "{containers: [{name: c, image: i, resources: {requests: {cpu: 1}}}]}";
        let have = down(spec, &[], &[], &[]).unwrap();
        let want = down(spec, &REQUESTS, &LIMITS, &[]).unwrap();
        let Ok(Plan::Patch(patches)) = plan(&super::super::Pod, want, Some(&have)) else {
            panic!("the note is new");
        };
        assert!(
            patches.iter().all(|patch| patch.subresource.is_none()),
            "{patches:?}"
        );
        // What the tenant itself asks for anew is a resize.
        let more = spec.replace("cpu: 1", "cpu: 2");
        let want = down(&more, &REQUESTS, &LIMITS, &[]).unwrap();
        let Ok(Plan::Patch(patches)) = plan(&super::super::Pod, want, Some(&have)) else {
            panic!("the request is new");
        };
        let resize = patches
            .iter()
            .find(|patch| patch.subresource == Some("resize"));
        assert!(!format!("{resize:?}").contains("memory"), "{resize:?}");
    }
}
