//! What API servers read anew while they run, brought to them at once; pure.
//!
//! A kubelet brings what is new in a ConfigMap into a pod within a minute and a half, since it looks at each pod so often;
//! and at once into a pod that has just changed. So a pod whose file of authorizers is an older one gets an annotation with
//! the hash of the new one. That costs one request for each such change, and nothing while nothing changes.

use crate::{
    decide::Action,
    object::{CONFIG_MAP, Object, Objects, POD},
    provision::apiserver,
    running::parts,
    spec::control_plane::ControlPlane,
    store::stored::Used,
};
use api::keys::AUTHORIZERS;
use serde_json::json;
use tenancy::naming;

/// Reminders of the pods that need one, once the ConfigMap holds what they shall read.
pub(crate) fn due(cp: &ControlPlane, seen: &Objects) -> Vec<Action> {
    let Some(wanted) = cp.authorizers.as_deref() else {
        return vec![];
    };
    let config = seen.get(CONFIG_MAP, apiserver::NAME);
    let written = config.and_then(|config| config.body["data"][apiserver::AUTHORIZERS].as_str());
    if written != Some(wanted) {
        return vec![];
    }
    let mark = naming::hash(&[wanted.as_bytes()]);
    // A pod without a mark has begun with the file as it was then, which is as a rule the one that refuses nothing.
    let is_open = cp
        .authorizers_for(
            Some(&Used::new()),
            None,
            &crate::store::uncounted::Lasting::new(),
        )
        .as_deref()
        == Some(wanted);
    let is_behind = |pod: &&Object| match pod.annotation(AUTHORIZERS) {
        Some(known) => known != mark,
        None => !is_open,
    };
    let pods = seen.of(POD).filter(|pod| {
        pod.label("app.kubernetes.io/name") == Some(apiserver::NAME)
            && !pod.is_going()
            && !parts::has_ended(pod)
    });
    let patch = json!({"metadata": {"annotations": {AUTHORIZERS: mark}}});
    pods.filter(is_behind)
        .map(|pod| Action::Remind(pod.clone(), patch.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{spec::control_plane::tests::control_plane, store::stored::Limits};
    use api::Quantities;
    use serde_json::Value;

    fn pod(name: &str, part: &str, annotations: Value) -> Object {
        let labels = json!({"app.kubernetes.io/name": part});
        let body = json!({"metadata": {"labels": labels, "annotations": annotations}});
        Object::new(POD, Some("n"), name, body)
    }

    /// A control plane that may have so many ConfigMaps and has `used`, whose file says `written`.
    fn limited(used: u64) -> ControlPlane {
        let mut cp = control_plane();
        let most = Quantities([("configmaps".to_owned(), "5".to_owned())].into());
        cp.stored = Limits::of(&most, &Quantities::default());
        let used = Used::from([("configmaps".to_owned(), used)]);
        cp.authorizers =
            cp.authorizers_for(Some(&used), None, &crate::store::uncounted::Lasting::new());
        cp
    }

    fn reminded(
        cp: &ControlPlane,
        written: &ControlPlane,
        pods: Vec<Object>,
    ) -> Vec<(String, String)> {
        let data = json!({"data": {apiserver::AUTHORIZERS: written.authorizers}});
        let config = Object::new(CONFIG_MAP, Some("n"), apiserver::NAME, data);
        let seen = Objects::from_iter(pods.into_iter().chain([config]));
        let mark = |patch: &Value| {
            patch["metadata"]["annotations"][AUTHORIZERS]
                .as_str()
                .unwrap()
                .to_owned()
        };
        due(cp, &seen)
            .into_iter()
            .map(|action| match action {
                Action::Remind(pod, patch) => (pod.name().to_owned(), mark(&patch)),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn api_servers_are_reminded_of_a_new_file_once_and_nobody_else_is() {
        let (full, open) = (limited(5), limited(0));
        let server = |annotations| pod("kube-apiserver-1", apiserver::NAME, annotations);
        let etcd = pod("etcd-0", "etcd", json!({}));
        let said = reminded(&full, &full, vec![server(json!({})), etcd]);
        let [(name, mark)] = &said[..] else {
            panic!("{said:?}");
        };
        assert_eq!(name, "kube-apiserver-1");
        let knows = json!({AUTHORIZERS: mark});
        assert!(reminded(&full, &full, vec![server(knows.clone())]).is_empty());
        // Room again: who was told of the old file is told of the new one, and whoever has just begun has it.
        assert_eq!(reminded(&open, &open, vec![server(knows)]).len(), 1);
        assert!(reminded(&open, &open, vec![server(json!({}))]).is_empty());
        // Before the file is written nobody is.
        assert!(reminded(&full, &open, vec![server(json!({}))]).is_empty());
        let mut going = server(json!({}));
        going.body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(reminded(&full, &full, vec![going]).is_empty());
        // Where no number is limited there is no such file.
        assert!(reminded(&control_plane(), &full, vec![server(json!({}))]).is_empty());
    }
}
