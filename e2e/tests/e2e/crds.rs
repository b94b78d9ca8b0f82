//! The resource definitions refuse what is wrong, in words that say what to write, and fill in defaults.

use anyhow::ensure;
use e2e::{
    kind::{CLASS, CONTROL_PLANE, GROUP, Kind},
    side::{PatchType, Side},
    space::run,
    tenant::{A, NAMESPACE_OF_TESTS, super_cluster},
};
use serde_json::{Value, json};

/// Asks the API server to take an object, and expects these words in its refusal.
async fn refused(above: &Side, kind: Kind, object: Value, words: &str) -> anyhow::Result<()> {
    let shown = object["spec"].to_string();
    match above.try_create(kind, object).await {
        Ok(_) => anyhow::bail!("{} {shown} was accepted", kind.name),
        Err(problem) => {
            ensure!(problem.code == 422, "{shown}: {problem}");
            ensure!(
                problem.message.contains(words),
                "{words:?} is missing in the refusal of {shown}: {}",
                problem.message
            );
            Ok(())
        }
    }
}

fn control_plane(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

#[test]
fn a_wrong_control_plane_is_refused_with_what_to_write() {
    run(async || {
        let above = super_cluster().await?;
        let external = json!({"kubeconfigSecretRef": {"name": "x"}});
        let cases = [
            (
                json!({"identity": "abc"}),
                "26 characters of lower-case base32",
            ),
            (
                json!({"identity": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}),
                "leave it out and one is made",
            ),
            (json!({"version": "latest"}), "write 1.36 or 1.36.3"),
            (json!({"version": "2.0"}), "write 1.36 or 1.36.3"),
            (json!({"replicas": 0}), "spec.replicas is 1, 2 or 3"),
            (json!({"replicas": 4}), "spec.replicas is 1, 2 or 3"),
            (
                json!({"etcd": {"replicas": 2}}),
                "spec.etcd.replicas is 1 or 3",
            ),
            (
                json!({"etcd": {"storage": {"ephemeral": true, "storageClassName": "x"}}}),
                "leave one of the two out",
            ),
            (
                json!({"network": {"serviceCIDR": "10.96.4.0"}}),
                "in CIDR notation, such as 10.96.4.0/22",
            ),
            (json!({"network": {"dns": "both"}}), "dedicated"),
            (
                json!({"network": {"clusterDomain": "a.b {\n  hosts\n}"}}),
                "a DNS name such as cluster.local",
            ),
            (
                json!({"endpoint": {"host": "https://a.example.com", "port": 443}}),
                "without scheme and port",
            ),
            (
                json!({"etcd": {"storage": {"size": "much"}}}),
                "a quantity of bytes such as 8Gi",
            ),
            (
                json!({"etcd": {"storage": {"size": "0"}}}),
                "a quantity of bytes such as 8Gi",
            ),
            (
                json!({"external": external, "replicas": 1}),
                "leave out version, replicas and etcd",
            ),
            (
                json!({"external": external, "etcd": {}}),
                "leave out version, replicas and etcd",
            ),
            (
                json!({"external": external, "superCluster": external}),
                "exclude each other",
            ),
            (json!({"rollout": {"after": "tomorrow"}}), "date-time"),
            (json!({"policy": {"podSecurity": "loose"}}), "baseline"),
            (json!({"sync": {"nodes": "Some"}}), "Used"),
            (
                json!({"sync": {"toSuper": [{"resource": "pods", "objects": "None"}]}}),
                "names configmaps, secrets, or what may stay",
            ),
            (
                json!({"sync": {"toSuper": [{"resource": "secrets", "objects": "None"}]}}),
                "pods need what they refer to",
            ),
        ];
        for (spec, words) in cases {
            refused(&above, CONTROL_PLANE, control_plane("x", spec), words).await?;
        }
        for name in ["1a", "a.b", &"a".repeat(64)] {
            refused(
                &above,
                CONTROL_PLANE,
                control_plane(name, json!({})),
                "must be a DNS label",
            )
            .await?;
        }
        Ok(())
    });
}

#[test]
fn what_may_not_change_in_a_control_plane_does_not() {
    run(async || {
        let tenant = A.get().await?;
        let path = CONTROL_PLANE.path(NAMESPACE_OF_TESTS, &tenant.name) + "?dryRun=All";
        let cases = [
            (
                json!({"identity": "a".repeat(26)}),
                "spec.identity can't change",
            ),
            (json!({"identity": null}), "spec.identity can't change"),
            (
                json!({"network": {"serviceCIDR": "10.200.0.0/22"}}),
                "spec.network.serviceCIDR can't change",
            ),
            (
                json!({"network": {"clusterDomain": "other.local"}}),
                "pods keep the names",
            ),
            (
                json!({"external": {"kubeconfigSecretRef": {"name": "x"}}, "etcd": null}),
                "create another VirtualControlPlane",
            ),
            (
                json!({"superCluster": {"kubeconfigSecretRef": {"name": "x"}}}),
                "spec.superCluster can't be added or removed",
            ),
        ];
        for (spec, words) in cases {
            let answer = tenant
                .above
                .patch(&path, PatchType::Merge, json!({"spec": spec}))
                .await;
            let refused = answer
                .as_ref()
                .err()
                .is_some_and(|problem| problem.code == 422 && problem.message.contains(words));
            ensure!(refused, "{spec}: {words:?} is expected: {answer:?}");
        }
        Ok(())
    });
}

#[test]
fn defaults_are_filled_in() {
    run(async || {
        let above = super_cluster().await?;
        let made = above
            .try_create(CONTROL_PLANE, control_plane("x", json!({})))
            .await?;
        let expected = json!({
            "className": "default", "paused": false, "policy": {}, "sync": {},
            "network": {"clusterDomain": "cluster.local", "dns": "dedicated"},
        });
        ensure!(
            made["spec"] == expected,
            "{} instead of {expected}",
            made["spec"]
        );
        let made = above
            .try_create(
                CONTROL_PLANE,
                control_plane("x", json!({"etcd": {"storage": {}}})),
            )
            .await?;
        ensure!(
            made["spec"]["etcd"]["storage"] == json!({"ephemeral": false, "size": "8Gi"}),
            "{}",
            made["spec"]
        );
        let external = json!({"external": {"kubeconfigSecretRef": {"name": "x"}}});
        let made = above
            .try_create(CONTROL_PLANE, control_plane("x", external))
            .await?;
        ensure!(
            made["spec"]["external"]["kubeconfigSecretRef"]["key"] == "value",
            "{}",
            made["spec"]
        );

        let class = json!({"metadata": {"name": "x"}, "spec": {"versions": [version("1.36.3")]}});
        let made = above.try_create(CLASS, class).await?;
        ensure!(
            made["spec"]["podSecurity"] == "baseline" && made["spec"]["serviceSlicePrefix"] == 22,
            "{}",
            made["spec"]
        );
        Ok(())
    });
}

#[test]
fn a_wrong_class_or_group_is_refused_with_what_to_write() {
    run(async || {
        let above = super_cluster().await?;
        let class = |spec: Value| json!({"metadata": {"name": "x"}, "spec": spec});
        let cases = [
            (CLASS, class(json!({"versions": []})), "at least 1 items"),
            (
                CLASS,
                class(json!({"versions": [version("1.36")]})),
                "such as 1.36.3",
            ),
            (
                CLASS,
                class(json!({"versions": [version("v1.36.3")]})),
                "without v",
            ),
            (
                CLASS,
                class(json!({"versions": [version("1.36.3")], "serviceSlicePrefix": 28})),
                "is 16 to 27",
            ),
            (
                CLASS,
                class(json!({"versions": [version("1.36.3")], "max": {"replicas": 4}})),
                "spec.max.replicas is 1, 2 or 3",
            ),
            (
                CLASS,
                class(json!({"versions": [version("1.36.3")], "max": {"etcd": {"replicas": 2}}})),
                "spec.max.etcd.replicas is 1 or 3",
            ),
            (
                CLASS,
                class(
                    json!({"versions": [version("1.36.3")], "max": {"etcd": {"storage": {"size": "much"}}}}),
                ),
                "such as 16Gi",
            ),
            (GROUP, class(json!({"namespaces": []})), "at least 1 items"),
            (
                GROUP,
                class(json!({"namespaces": ["a"], "labels": {"sublet.dev/tenant": "x"}})),
                "Sublet sets those itself",
            ),
            (
                GROUP,
                class(
                    json!({"namespaces": ["a"], "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}),
                ),
                "spec.labels",
            ),
        ];
        for (kind, object, words) in cases {
            refused(&above, kind, object, words).await?;
        }
        Ok(())
    });
}

#[test]
fn the_api_server_shows_columns_names_and_categories() {
    run(async || {
        let above = super_cluster().await?;
        let list = above
            .request(http::Method::GET, "/apis/sublet.dev/v1alpha1", None)
            .await?;
        let names = |plural: &str| {
            let found = e2e::read::items(&list, "/resources")
                .iter()
                .find(|resource| resource["name"] == plural);
            found.map(|resource| {
                (
                    resource["shortNames"].clone(),
                    resource["categories"].clone(),
                    resource["namespaced"].clone(),
                )
            })
        };
        let sublet = json!(["sublet"]);
        ensure!(
            names("virtualcontrolplanes") == Some((json!(["vcp"]), sublet.clone(), json!(true))),
            "{list}"
        );
        ensure!(
            names("controlplaneclasses") == Some((json!(["cpc"]), sublet.clone(), json!(false))),
            "{list}"
        );
        ensure!(
            names("controlplanegroups") == Some((json!(["cpg"]), sublet, json!(false))),
            "{list}"
        );
        ensure!(
            names("virtualcontrolplanes/status").is_some(),
            "status isn't a subresource"
        );
        Ok(())
    });
}

fn version(version: &str) -> Value {
    json!({"version": version, "images": {"etcd": "e", "kubeApiserver": "a", "kubeControllerManager": "c"}})
}
