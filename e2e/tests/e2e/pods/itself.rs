//! What a pod learns about itself and its surroundings: the downward API and environment variables.

use anyhow::ensure;
use e2e::{
    kind::{CONFIG_MAP, POD, SERVICE},
    make,
    read::{items, text, uid},
    space::within,
    tenant::A,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `NAME=value` lines.
fn variables(said: &str) -> BTreeMap<&str, &str> {
    said.lines()
        .filter_map(|line| line.split_once('='))
        .collect()
}

fn resources() -> Value {
    json!({
        "requests": {"cpu": "20m", "memory": "16Mi", "ephemeral-storage": "8Mi"},
        "limits": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "32Mi"},
    })
}

const QUANTITIES: [(&str, &str, &str); 6] = [
    ("requests.cpu", "1m", "20"),
    ("limits.cpu", "1m", "100"),
    ("requests.memory", "1Mi", "16"),
    ("limits.memory", "1Mi", "64"),
    ("requests.ephemeral-storage", "1Mi", "8"),
    ("limits.ephemeral-storage", "1Mi", "32"),
];

#[test]
fn every_field_of_the_downward_api_is_the_tenants_in_variables() {
    within(A, "fields", async |space| {
        let fields = [
            "metadata.name",
            "metadata.namespace",
            "metadata.uid",
            "metadata.labels['app']",
            "metadata.labels['sublet.dev/mine']",
            "metadata.annotations['note']",
            "metadata.annotations['sidecar.istio.io/inject']",
            "spec.nodeName",
            "spec.serviceAccountName",
            "status.hostIP",
            "status.hostIPs",
            "status.podIP",
            "status.podIPs",
        ];
        let mut env: Vec<Value> = fields
            .iter()
            .enumerate()
            .map(|(n, field)| json!({"name": format!("F{n}"), "valueFrom": {"fieldRef": {"fieldPath": field}}}))
            .collect();
        env.extend(QUANTITIES.iter().enumerate().map(|(n, (resource, divisor, _))| {
            json!({"name": format!("R{n}"), "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}})
        }));
        let mut container = make::shell("env > /dev/termination-log");
        container["env"] = env.into();
        container["resources"] = resources();
        let metadata = json!({
            "name": "web", "labels": {"app": "web", "sublet.dev/mine": "kept"},
            "annotations": {"note": "a=$(F0)", "sidecar.istio.io/inject": "false"},
        });
        space
            .create(
                POD,
                json!({"metadata": metadata, "spec": make::once(container)}),
            )
            .await?;
        let said = space.outcome("web").await?;
        let pod = space.get(POD, "web").await?;
        let list = |pointer: &str| {
            let addresses: Vec<&str> = items(&pod, pointer)
                .iter()
                .map(|entry| text(entry, "/ip"))
                .collect();
            addresses.join(",")
        };
        let expected = [
            "web",
            &space.name,
            uid(&pod),
            "web",
            "kept",
            "a=$(F0)",
            "false",
            text(&pod, "/spec/nodeName"),
            "default",
            text(&pod, "/status/hostIP"),
            &list("/status/hostIPs"),
            text(&pod, "/status/podIP"),
            &list("/status/podIPs"),
        ];
        let said = variables(&said);
        for (n, (field, wanted)) in fields.iter().zip(expected).enumerate() {
            let found = said.get(format!("F{n}").as_str()).copied();
            ensure!(
                found == Some(wanted) && !wanted.is_empty(),
                "{field} is {found:?} instead of {wanted:?}"
            );
        }
        for (n, (resource, _, wanted)) in QUANTITIES.iter().enumerate() {
            let found = said.get(format!("R{n}").as_str()).copied();
            ensure!(
                found == Some(*wanted),
                "{resource} is {found:?} instead of {wanted:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn every_field_of_the_downward_api_is_the_tenants_in_files_and_follows_changes() {
    within(A, "files", async |space| {
        let fields = [
            ("name", "metadata.name"),
            ("namespace", "metadata.namespace"),
            ("uid", "metadata.uid"),
            ("labels", "metadata.labels"),
            ("annotations", "metadata.annotations"),
            ("label", "metadata.labels['app']"),
            (
                "annotation",
                "metadata.annotations['sidecar.istio.io/inject']",
            ),
        ];
        let files: Vec<Value> = fields
            .iter()
            .map(|(path, field)| json!({"path": path, "fieldRef": {"fieldPath": field}}))
            .chain(QUANTITIES.iter().map(|(resource, divisor, _)| {
                let source =
                    json!({"containerName": "main", "resource": resource, "divisor": divisor});
                json!({"path": resource, "resourceFieldRef": source})
            }))
            .collect();
        // Both kinds of volumes have the same files.
        let script = "until grep -q '^tier=\"front\"$' /a/labels && grep -q changed /b/annotations; do sleep 0.2; done
                      for file in /a/*; do cmp $file /b/${file#/a/} || exit 1; echo \"${file#/a/}=$(cat $file | tr '\\n' ' ')\"; done \
                      > /dev/termination-log";
        let mut container = make::shell(script);
        container["volumeMounts"] =
            json!([{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"}]);
        container["resources"] = resources();
        let mut spec = make::once(container);
        spec["volumes"] = json!([
            {"name": "a", "downwardAPI": {"items": files}},
            {"name": "b", "projected": {"sources": [{"downwardAPI": {"items": files}}]}},
        ]);
        let metadata = json!({
            "name": "web", "labels": {"app": "web"}, "annotations": {"sidecar.istio.io/inject": "false", "note": "first"},
        });
        let pod = space
            .create(POD, json!({"metadata": metadata, "spec": spec}))
            .await?;
        let patch =
            json!({"metadata": {"labels": {"tier": "front"}, "annotations": {"note": "changed"}}});
        space.merge(POD, "web", patch).await?;
        let said = space.outcome("web").await?;
        let said = variables(&said);
        let mut expected = vec![
            ("name", "web"),
            ("namespace", &space.name),
            ("uid", uid(&pod)),
            ("labels", "app=\"web\" tier=\"front\""),
            (
                "annotations",
                "note=\"changed\" sidecar.istio.io/inject=\"false\"",
            ),
            ("label", "web"),
            ("annotation", "false"),
        ];
        expected.extend(
            QUANTITIES
                .iter()
                .map(|(resource, _, value)| (*resource, *value)),
        );
        for (file, wanted) in expected {
            let found = said.get(file).map(|found| found.trim());
            ensure!(
                found == Some(wanted),
                "{file} holds {found:?} instead of {wanted:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn service_links_are_those_of_the_tenants_namespace_or_none() {
    within(A, "links", async |space| {
        let service = space.create(SERVICE, make::service("db")).await?;
        space.twin(SERVICE, "db").await?;
        for (name, links) in [("with", true), ("without", false)] {
            let mut spec = make::once(make::shell("env | sort > /dev/termination-log"));
            spec["enableServiceLinks"] = links.into();
            space.pod(name, spec).await?;
            let said = space.outcome(name).await?;
            let said = variables(&said);
            let of = |name: &str| said.get(name).copied().unwrap_or_default();
            let address = text(&service, "/spec/clusterIP");
            let wanted = if links { address } else { "" };
            ensure!(of("DB_SERVICE_HOST") == wanted, "{said:?}");
            let kubernetes = space.side().get(SERVICE, "default", "kubernetes").await?;
            ensure!(
                of("KUBERNETES_SERVICE_HOST") == text(&kubernetes, "/spec/clusterIP"),
                "{said:?}"
            );
            ensure!(
                of("KUBERNETES_PORT") == format!("tcp://{}:443", of("KUBERNETES_SERVICE_HOST")),
                "{said:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn what_env_from_says_of_the_api_server_counts() {
    within(A, "env-from", async |space| {
        space
            .create(
                CONFIG_MAP,
                make::config_map("own", "KUBERNETES_SERVICE_HOST", "mine"),
            )
            .await?;
        // Ours is out of the way of the tenant's ConfigMap of that name.
        space
            .create(
                CONFIG_MAP,
                make::config_map("sublet-environment", "PLAIN", "kept"),
            )
            .await?;
        let mut container = make::shell("env > /dev/termination-log");
        container["envFrom"] = json!([{"configMapRef": {"name": "own"}}, {"configMapRef": {"name": "sublet-environment"}}]);
        container["env"] = json!([{"name": "URL", "value": "$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"}]);
        space.pod("web", make::once(container)).await?;
        let said = space.outcome("web").await?;
        let said = variables(&said);
        let of = |name: &str| said.get(name).copied().unwrap_or_default();
        ensure!(
            of("KUBERNETES_SERVICE_HOST") == "mine"
                && of("URL") == "mine:443"
                && of("PLAIN") == "kept",
            "{said:?}"
        );
        let kubernetes = space.side().get(SERVICE, "default", "kubernetes").await?;
        ensure!(
            of("KUBERNETES_PORT_443_TCP_ADDR") == text(&kubernetes, "/spec/clusterIP"),
            "{said:?}"
        );
        Ok(())
    });
}
