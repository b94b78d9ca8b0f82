//! The page of one tenant as data. What may not be listed is null.

use super::page::Page;
use crate::{command::events::listed, output, pod, quota};
use anyhow::Result;
use api::keys;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

/// One report as it is, several as a list.
pub(super) fn all(mut reports: Vec<Value>) -> Value {
    if reports.len() == 1 {
        reports.remove(0)
    } else {
        json!({"tenants": reports})
    }
}

/// All that the page tells.
pub(super) fn of(page: &Page) -> Result<Value> {
    let Page {
        vcp,
        leader,
        namespaces,
        pods,
        groups,
        limits,
        events,
        ..
    } = page;
    Ok(json!({
        "virtualControlPlane": output::tidy(vcp)?,
        "syncer": leader,
        "groups": groups,
        "controlPlanePods": pods.as_ref().map(|pods| pods.iter().map(of_pod).collect::<Vec<_>>()),
        "namespaces": namespaces.as_ref().map(|all| all.iter().map(of_namespace).collect::<Vec<_>>()),
        "quota": quota::data(limits, None),
        "events": listed(events),
    }))
}

fn of_pod(pod: &Pod) -> Value {
    json!({
        "name": pod.name_any(), "ready": pod::ready(pod), "state": pod::state(pod), "restarts": pod::restarts(pod),
        "node": pod.spec.as_ref().and_then(|spec| spec.node_name.clone()), "why": pod::why(pod),
    })
}

fn of_namespace(namespace: &Namespace) -> Value {
    json!({"namespace": namespace.annotations().get(keys::NAME), "superNamespace": namespace.name_any()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::describe::page::tests::in_the_making;

    #[test]
    fn data_hold_what_the_page_tells() {
        let told = of(&in_the_making()).unwrap();
        assert_eq!(told["virtualControlPlane"]["metadata"]["name"], "a");
        assert_eq!(told["syncer"], "sublet-syncer-1");
        assert_eq!(told["groups"], json!(["acme"]));
        assert_eq!(told["controlPlanePods"][0]["state"], "Pending");
        assert_eq!(
            told["namespaces"],
            json!([{"namespace": "default", "superNamespace": "a-default-x"}])
        );
        assert_eq!(told["quota"][0]["hard"], "20");
        assert_eq!(told["events"], json!([]));
    }

    #[test]
    fn what_may_not_be_listed_is_null() {
        let mut page = in_the_making();
        (page.pods, page.namespaces) = (None, None);
        let told = of(&page).unwrap();
        assert!(told["controlPlanePods"].is_null() && told["namespaces"].is_null());
    }

    #[test]
    fn one_tenant_is_itself_and_several_are_a_list() {
        assert_eq!(all(vec![json!(1)]), json!(1));
        assert_eq!(all(vec![json!(1), json!(2)]), json!({"tenants": [1, 2]}));
    }
}
