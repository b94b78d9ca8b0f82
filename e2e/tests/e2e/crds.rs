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

/// An issuer that is let in, with one thing changed.
fn issuer(pointer: &str, value: Value) -> Value {
    let mut issuer = json!({
        "issuer": {"url": "https://login.example.com", "audiences": ["kubernetes"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}},
    });
    let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
    if let Some(parent) = issuer.pointer_mut(parent) {
        parent[field] = value;
    }
    issuer
}

fn believing(issuers: &[Value]) -> Value {
    json!({"authentication": {"jwt": issuers}})
}

/// What an API server would refuse as it starts is refused before.
#[test]
fn a_wrong_issuer_is_refused_with_what_to_write() {
    run(async || {
        let above = super_cluster().await?;
        let one = || issuer("/issuer/url", json!("https://login.example.com"));
        for right in [
            issuer(
                "/issuer/url",
                json!("https://login.example.com:8443/realms/a/"),
            ),
            issuer("/issuer/audienceMatchPolicy", json!("MatchAny")),
            issuer("/claimMappings/username/prefix", json!("")),
            issuer(
                "/claimMappings/username",
                json!({"expression": "'oidc:' + claims.sub"}),
            ),
            issuer(
                "/claimMappings/groups",
                json!({"claim": "groups", "prefix": ""}),
            ),
            issuer("/claimMappings/uid", json!({"expression": "claims.oid"})),
            issuer(
                "/claimMappings/extra",
                json!([{"key": "example.com/a", "valueExpression": "claims.a"}]),
            ),
            issuer(
                "/claimValidationRules",
                json!([{"claim": "hd"}, {"claim": "a", "requiredValue": "b"}]),
            ),
        ] {
            let object = control_plane("x", believing(&[right]));
            above.try_create(CONTROL_PLANE, object).await?;
        }
        let mut other = one();
        other["issuer"]["url"] = json!("https://login.example.net");
        other["issuer"]["discoveryURL"] = json!("https://login.example.org/a");
        let mut third = other.clone();
        third["issuer"]["url"] = json!("https://login.example.org");
        let unverified = json!({"expression": "claims.email"});
        let cases = [
            (
                issuer("/issuer/url", json!("http://login.example.com")),
                "issuer.url is https://HOST",
            ),
            (
                issuer("/issuer/url", json!("https://a@login.example.com")),
                "without user, query",
            ),
            (
                issuer("/issuer/url", json!("https://login.example.com?a=b")),
                "without user, query",
            ),
            (
                issuer("/issuer/url", json!("https://login.example.com/#a")),
                "without user, query",
            ),
            (
                issuer("/issuer/url", json!("https://")),
                "issuer.url is https://HOST",
            ),
            (
                issuer("/issuer/discoveryURL", json!("http://login.example.com/a")),
                "issuer.discoveryURL is https://HOST/PATH",
            ),
            (issuer("/issuer/audiences", json!([])), "at least 1 items"),
            (
                issuer("/issuer/audiences", json!(["a", "a"])),
                "Duplicate value",
            ),
            (
                issuer("/issuer/audiences", json!(["a", "b"])),
                "write audienceMatchPolicy: MatchAny",
            ),
            (
                issuer("/issuer/audienceMatchPolicy", json!("MatchAll")),
                "MatchAny",
            ),
            (
                issuer("/issuer/certificateAuthority", json!("/etc/ssl/ca.crt")),
                "certificates in PEM",
            ),
            (
                issuer("/issuer/certificateAuthority", json!("-".repeat(16385))),
                "16384",
            ),
            (
                issuer("/claimMappings/username", json!({})),
                "write one of the two",
            ),
            (
                issuer(
                    "/claimMappings/username",
                    json!({"claim": "a", "prefix": "", "expression": "b"}),
                ),
                "write one of the two",
            ),
            (
                issuer("/claimMappings/username", json!({"claim": "sub"})),
                "claim needs prefix",
            ),
            (
                issuer(
                    "/claimMappings/username",
                    json!({"expression": "a", "prefix": "b"}),
                ),
                "put it into the expression",
            ),
            (
                issuer("/claimMappings/username/prefix", json!("system:")),
                "must not begin with system:",
            ),
            (
                issuer(
                    "/claimMappings/groups",
                    json!({"claim": "a", "prefix": "sublet:x"}),
                ),
                "must not begin with system: or sublet:",
            ),
            (
                issuer("/claimMappings/username", unverified),
                "claims.email needs claims.email_verified",
            ),
            (
                issuer(
                    "/claimMappings/uid",
                    json!({"claim": "a", "expression": "b"}),
                ),
                "a UID comes either from claim or from expression",
            ),
            (
                issuer(
                    "/claimMappings/extra",
                    json!([{"key": "team", "valueExpression": "a"}]),
                ),
                "such as example.com/team",
            ),
            (
                issuer(
                    "/claimMappings/extra",
                    json!([{"key": "a.kubernetes.io/b", "valueExpression": "a"}]),
                ),
                "write one under a domain of yours",
            ),
            (
                issuer(
                    "/claimMappings/extra",
                    json!([{"key": "a.io/b", "valueExpression": "a"}, {"key": "a.io/b", "valueExpression": "b"}]),
                ),
                "Duplicate value",
            ),
            (
                issuer("/claimValidationRules", json!([{}])),
                "either claim, with requiredValue, or expression",
            ),
            (
                issuer(
                    "/claimValidationRules",
                    json!([{"expression": "a", "requiredValue": "b"}]),
                ),
                "requiredValue goes with claim",
            ),
            (
                issuer(
                    "/claimValidationRules",
                    json!([{"claim": "a", "message": "b"}]),
                ),
                "message goes with expression",
            ),
            (
                issuer(
                    "/claimValidationRules",
                    json!([{"claim": "a"}, {"claim": "a"}]),
                ),
                "leave the others out",
            ),
            (
                issuer(
                    "/claimValidationRules",
                    json!([{"expression": "a"}, {"claim": "b"}, {"expression": "a"}]),
                ),
                "leave the others out",
            ),
            (
                issuer(
                    "/userValidationRules",
                    json!([{"expression": "a"}, {"expression": "a"}]),
                ),
                "Duplicate value",
            ),
            (
                issuer("/userValidationRules", json!([{"message": "a"}])),
                "expression",
            ),
        ];
        let cases = cases.map(|(issuer, words)| (vec![issuer], words));
        let itself = issuer("/issuer/discoveryURL", json!("https://login.example.com/a"));
        let mut itself_again = itself.clone();
        itself_again["issuer"]["url"] = json!("https://login.example.com/a");
        let several = [
            (vec![itself_again], "and another than issuer.url"),
            (vec![one(), one()], "stands in one entry only"),
            (vec![other, third], "a discoveryURL of its own"),
            (vec![one(); 9], "at most 8 items"),
        ];
        for (issuers, words) in cases.into_iter().chain(several) {
            refused(
                &above,
                CONTROL_PLANE,
                control_plane("x", believing(&issuers)),
                words,
            )
            .await?;
        }

        let identity = "a".repeat(26);
        let own = format!("https://{identity}.kubernetes.default.svc.cluster.local");
        let mut spec = believing(&[issuer("/issuer/url", json!(own))]);
        spec["identity"] = json!(identity);
        let words = "that of the tenant's own ServiceAccounts";
        refused(&above, CONTROL_PLANE, control_plane("x", spec), words).await?;
        let mut spec = believing(&[one()]);
        spec["external"] = json!({"kubeconfigSecretRef": {"name": "x"}});
        let words = "leave out spec.authentication";
        refused(&above, CONTROL_PLANE, control_plane("x", spec), words).await
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
        let class = json!({"metadata": {"name": "x"}, "spec": {
            "versions": [version("1.36.3")], "storage": {"default": "fast"},
            "offers": [{"resource": "storageclasses.storage.k8s.io", "names": ["slow", "fast"]}],
        }});
        let made = above.try_create(CLASS, class).await?;
        ensure!(
            made["spec"]["storage"] == json!({"default": "fast", "retain": "Refused"}),
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
            (
                CLASS,
                class(json!({"versions": [version("1.36.3")], "storage": {"default": "fast"}})),
                "names a StorageClass that isn't in offers",
            ),
            (
                CLASS,
                class(
                    json!({"versions": [version("1.36.3")], "storage": {"default": "fast"},
                    "offers": [{"resource": "storageclasses.storage.k8s.io", "names": ["slow"]}]}),
                ),
                "names a StorageClass that isn't in offers",
            ),
            (
                CLASS,
                class(
                    json!({"versions": [version("1.36.3")], "pods": {"nodeAffinity": {"required": [
                        {"matchExpressions": [{"key": "pool", "operator": "In"}]},
                    ]}}}),
                ),
                "need values",
            ),
            (
                CLASS,
                class(
                    json!({"versions": [version("1.36.3")], "pods": {"nodeAffinity": {"required": [
                        {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["many"]}]},
                    ]}}}),
                ),
                "compare with one number",
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
