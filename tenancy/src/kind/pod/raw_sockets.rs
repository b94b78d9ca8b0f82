//! Raw sockets: containers drop the capability `NET_RAW`, unless their class says otherwise.
//!
//! Runtimes give it to every container that doesn't drop it. With it a pod sends packets under the address of another, past
//! NetworkPolicies of a network without checks of its own, and answers for others on its node (T44, T45). What asks for it
//! by `add` is for the Pod Security level to judge. A pod that runs keeps what it was made with: it can't change.

use super::{containers, fields::items};
use crate::kind::Cx;
use serde_json::{Value, json};

const CAPABILITY: &str = "NET_RAW";

/// Has every container drop it. Containers of Windows have no capabilities; a kubelet runs no pod of another system than its
/// node's.
pub(super) fn step(spec: &mut Value, cx: &Cx<'_>) {
    let system = spec.pointer("/os/name").and_then(Value::as_str);
    if system != Some("windows") && !cx.rules.keeps_raw_sockets() {
        containers::for_each(spec, drop_in);
    }
}

/// Has each container that says nothing of capabilities drop it: as much as it takes for a pod to be taken at all.
#[cfg(feature = "without-layer-a")]
pub(in crate::kind) fn drop_unsaid(spec: &mut Value) {
    containers::for_each(spec, |container| {
        if container.pointer("/securityContext/capabilities").is_none() {
            drop_in(container);
        }
    });
}

fn drop_in(container: &mut Value) {
    let capabilities = container.pointer("/securityContext/capabilities");
    let is_dropped = |named: &Value| matches!(named.as_str(), Some("ALL" | CAPABILITY));
    if capabilities.is_some_and(|all| items(all, "drop").any(is_dropped)) {
        return;
    }
    let dropped = &mut container["securityContext"]["capabilities"]["drop"];
    match dropped.as_array_mut() {
        Some(dropped) => dropped.push(CAPABILITY.into()),
        None => *dropped = json!([CAPABILITY]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kind::pod::{
            Pod,
            containers::LISTS,
            tests::{down_as, pod, stored},
        },
        object::Object,
        plan::{Plan, plan},
        tenant::TenantRules,
    };
    use api::{PodSecurity, RawSockets};

    /// A pod with one container in each of its lists.
    fn everywhere(context: &str) -> Object {
        let list = |list: &str| format!("{list}: [{{name: {}, {context}}}]", list.to_lowercase());
        pod(&format!("{{{}}}", LISTS.map(list).join(", ")))
    }

    fn dropped(pod: &Object, change: impl FnOnce(&mut TenantRules)) -> Vec<Value> {
        let twin = down_as(pod, |tenant, _| change(tenant)).unwrap();
        let spec = twin.at("/spec").unwrap();
        let drop = |container: &Value| {
            let drop = container.pointer("/securityContext/capabilities/drop");
            drop.cloned().unwrap_or_default()
        };
        containers::all(spec).map(drop).collect()
    }

    #[test]
    fn t45_every_container_drops_raw_sockets_beside_what_it_drops_itself() {
        for (context, expected) in [
            ("image: i", json!(["NET_RAW"])),
            ("securityContext: {runAsUser: 1}", json!(["NET_RAW"])),
            (
                "securityContext: {capabilities: {add: [CHOWN]}}",
                json!(["NET_RAW"]),
            ),
            (
                "securityContext: {capabilities: {drop: [KILL]}}",
                json!(["KILL", "NET_RAW"]),
            ),
            (
                "securityContext: {capabilities: {drop: [NET_RAW]}}",
                json!(["NET_RAW"]),
            ),
            (
                "securityContext: {capabilities: {drop: [ALL]}}",
                json!(["ALL"]),
            ),
            // To a runtime it may mean something, to the policies of the super cluster it means nothing.
            (
                "securityContext: {capabilities: {drop: [all]}}",
                json!(["all", "NET_RAW"]),
            ),
        ] {
            let found = dropped(&everywhere(context), |_| ());
            assert_eq!(found, [(); 3].map(|()| expected.clone()), "{context}");
        }
    }

    #[test]
    fn who_may_have_them_keeps_them() {
        let nothing = [Value::Null, Value::Null, Value::Null];
        let pod = everywhere("image: i");
        let allowed = dropped(&pod, |tenant| tenant.pods.raw_sockets = RawSockets::Allowed);
        assert_eq!(allowed, nothing);
        let level = PodSecurity::Privileged;
        assert_eq!(dropped(&pod, |tenant| tenant.pod_security = level), nothing);
        let mut windows = pod;
        windows.value_mut()["spec"]["os"] = json!({"name": "windows"});
        assert_eq!(dropped(&windows, |_| ()), nothing);
        windows.value_mut()["spec"]["os"] = json!({"name": "linux"});
        assert_ne!(dropped(&windows, |_| ()), nothing);
    }

    #[test]
    fn who_asks_for_them_is_judged_by_the_pod_security_level() {
        for allowed in [RawSockets::Refused, RawSockets::Allowed] {
            let asking = everywhere("securityContext: {capabilities: {add: [NET_RAW]}}");
            let refused = down_as(&asking, |tenant, _| tenant.pods.raw_sockets = allowed);
            assert_eq!(refused.unwrap_err().reason, "PodSecurity");
        }
    }

    /// It can't change, so no other pod may be made in its place.
    #[test]
    fn a_pod_of_before_stays_as_it_was_made() {
        let pod = pod("{containers: [{name: c, image: i}]}");
        let before = down_as(&pod, |tenant, _| {
            tenant.pods.raw_sockets = RawSockets::Allowed;
        });
        let have = stored(before.unwrap());
        let want = down_as(&pod, |_, _| ()).unwrap();
        let Ok(Plan::Patch(patches)) = plan(&Pod, want, Some(&have)) else {
            panic!("the hash of what was applied differs, and nothing else");
        };
        for operation in patches.iter().flat_map(|patch| &patch.operations) {
            let path = operation["path"].as_str().unwrap();
            assert!(path.starts_with("/metadata/annotations/"), "{operation}");
        }
    }
}
