//! Laws over `manifests/install.yaml` and `manifests/capi/rights.yaml`: what no account of Sublet may ever hold, and how
//! its daemons run.
//!
//! Tests only. They live here because the manager hands out the rights that the file names.

use serde_json::Value;

fn documents() -> Vec<Value> {
    [
        include_str!("../../manifests/install.yaml"),
        include_str!("../../manifests/capi/rights.yaml"),
    ]
    .into_iter()
    .flat_map(|text| serde_saphyr::from_multiple::<Value>(text).unwrap())
    .collect()
}

/// (role, group, resource, verb, whether the rule names its objects) of all rules of the given kinds.
fn rights(kinds: &[&str]) -> Vec<(String, String, String, String, bool)> {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        rule[field]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let mut rights = vec![];
    for role in documents()
        .iter()
        .filter(|document| kinds.iter().any(|kind| document["kind"] == *kind))
    {
        // What admins aggregate into a role isn't in the file.
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    for verb in texts(rule, "verbs") {
                        let name = role["metadata"]["name"].as_str().unwrap().to_owned();
                        let named = !rule["resourceNames"].is_null();
                        rights.push((name, group.clone(), resource.clone(), verb, named));
                    }
                }
            }
        }
    }
    rights
}

#[test]
fn no_account_holds_a_wildcard_or_a_right_that_makes_rights() {
    for right in rights(&["ClusterRole", "Role"]) {
        let (_, group, resource, verb, named) = &right;
        assert!(
            ![group, resource, verb]
                .iter()
                .any(|text| text.contains('*')),
            "{right:?}"
        );
        assert!(
            !["escalate", "impersonate", "deletecollection"].contains(&verb.as_str()),
            "{right:?}"
        );
        assert_ne!(resource, "nodes/proxy", "{right:?}");
        assert!(verb != "bind" || *named, "{right:?}");
    }
}

#[test]
fn nobody_reads_secrets_across_namespaces() {
    let everywhere: Vec<String> = documents()
        .iter()
        .filter(|document| document["kind"] == "ClusterRoleBinding")
        .map(|binding| binding["roleRef"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        everywhere,
        [
            "sublet-manager",
            "sublet-syncer",
            "sublet-syncer-custom",
            "sublet-apiserver-proxy",
            "sublet-manager-cluster-api",
        ]
    );
    for right in rights(&["ClusterRole"]) {
        assert!(
            !everywhere.contains(&right.0) || right.2 != "secrets",
            "{right:?}"
        );
    }
}

#[test]
fn the_roles_that_may_be_bound_exist_and_are_those_the_manager_binds() {
    let text = include_str!("../../manifests/install.yaml");
    for role in [
        "sublet-manager-control-plane",
        "sublet-manager-kubeconfig",
        "sublet-syncer-namespace",
        "sublet-apiserver-proxy-namespace",
        "sublet-syncer-namespace-custom",
    ] {
        assert!(text.contains(&format!("\n  name: {role}\n")), "{role}");
    }
    let cp = crate::spec::control_plane::tests::control_plane();
    let bound = [
        crate::provision::access(&cp, api::SYSTEM_NAMESPACE),
        crate::provision::access_beside(&cp.owner, api::SYSTEM_NAMESPACE),
    ];
    let bound = bound
        .each_ref()
        .map(|binding| binding.text("/roleRef/name"));
    assert_eq!(
        bound,
        ["sublet-manager-control-plane", "sublet-manager-kubeconfig"]
    );
}

/// T31, T32: what the proxy may do, word for word.
#[test]
fn the_proxy_reads_pods_and_their_figures_and_does_a_kubelets_work_in_tenants_namespaces_alone() {
    let words = |name: &str| -> Vec<String> {
        rights(&["ClusterRole", "Role"])
            .into_iter()
            .filter(|right| right.0 == name)
            .map(|(_, group, resource, verb, named)| {
                let group = if group.is_empty() {
                    group
                } else {
                    format!(".{group}")
                };
                let named = if named { " by name" } else { "" };
                format!("{verb} {resource}{group}{named}")
            })
            .collect()
    };
    assert_eq!(
        words("sublet-apiserver-proxy"),
        [
            "list pods",
            "watch pods",
            "list services",
            "watch services",
            "list namespaces",
            "watch namespaces",
            "list endpointslices.discovery.k8s.io",
            "watch endpointslices.discovery.k8s.io",
            "list pods.metrics.k8s.io",
            "list nodes.metrics.k8s.io",
            "list configmaps",
            "watch configmaps",
            "list secrets by name",
            "watch secrets by name",
            "patch configmaps by name",
        ]
    );
    assert_eq!(
        words("sublet-apiserver-proxy-namespace"),
        [
            "get pods/log",
            "get pods/exec",
            "create pods/exec",
            "get pods/attach",
            "create pods/attach",
            "get pods/portforward",
            "create pods/portforward",
        ]
    );
}

/// Every account's requests wait in a level of Sublet's own, and Leases before all others and beside them.
#[test]
fn daemons_have_a_share_of_the_api_server_and_leases_wait_behind_nothing() {
    let documents = documents();
    let of_kind = |kind: &str| -> Vec<&Value> {
        let of_kind = documents.iter().filter(|document| document["kind"] == kind);
        of_kind.collect()
    };
    let accounts: Vec<&Value> = of_kind("ServiceAccount")
        .iter()
        .map(|account| &account["metadata"]["name"])
        .collect();
    let levels = of_kind("PriorityLevelConfiguration");
    for level in &levels {
        let limited = &level["spec"]["limited"];
        assert_eq!(level["spec"]["type"], "Limited");
        assert!(limited["nominalConcurrencyShares"].as_u64().unwrap() > 0);
        // Without a limit it might borrow all that others lend.
        assert!(limited["borrowingLimitPercent"].is_u64(), "{level:?}");
        assert_eq!(limited["limitResponse"]["type"], "Queue");
    }
    let schemas = of_kind("FlowSchema");
    let [all, leases] = schemas[..] else {
        panic!("{schemas:?}");
    };
    for schema in [all, leases] {
        let level = &schema["spec"]["priorityLevelConfiguration"]["name"];
        let is_level = |other: &&Value| other["metadata"]["name"] == *level;
        assert_eq!(levels.iter().filter(|other| is_level(other)).count(), 1);
        assert_eq!(schema["spec"]["distinguisherMethod"]["type"], "ByUser");
    }
    let named = |schema: &Value| -> Vec<Value> {
        let subjects = schema["spec"]["rules"][0]["subjects"].as_array().unwrap();
        let accounts = subjects.iter().map(|subject| &subject["serviceAccount"]);
        let in_system = accounts.inspect(|a| assert_eq!(a["namespace"], api::SYSTEM_NAMESPACE));
        in_system.map(|account| account["name"].clone()).collect()
    };
    assert_eq!(named(all).iter().collect::<Vec<_>>(), accounts);
    let writers = rights(&["Role"])
        .into_iter()
        .filter(|right| right.2 == "leases")
        .map(|right| (right.0, right.3))
        .collect::<Vec<_>>();
    let rule = &leases["spec"]["rules"][0]["resourceRules"][0];
    let verbs = rule["verbs"].as_array().unwrap();
    let covered: Vec<(String, String)> = named(leases)
        .iter()
        .flat_map(|name| verbs.iter().map(move |verb| (name, verb)))
        .map(|(name, verb)| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(name), text(verb))
        })
        .collect();
    assert_eq!(covered, writers);
    assert_ne!(
        all["spec"]["priorityLevelConfiguration"],
        leases["spec"]["priorityLevelConfiguration"]
    );
    let precedence = |schema: &Value| schema["spec"]["matchingPrecedence"].as_u64().unwrap();
    // The servers' own for all service accounts comes at 9000.
    assert!(precedence(leases) < precedence(all) && precedence(all) < 9000);
}

#[test]
fn daemons_meet_the_restricted_level() {
    let documents = documents();
    let deployments: Vec<&Value> = documents
        .iter()
        .filter(|document| document["kind"] == "Deployment")
        .collect();
    assert_eq!(deployments.len(), 3);
    for deployment in deployments {
        let strategy = &deployment["spec"]["strategy"]["type"];
        match deployment["metadata"]["name"].as_str().unwrap() {
            // Two managers at once would race for claims.
            "sublet-manager" => assert_eq!(strategy, "Recreate"),
            // The proxy writes marks that only must differ, and syncers share the tenants by Leases.
            _ => assert_eq!(strategy, "RollingUpdate"),
        }
        let spec = &deployment["spec"]["template"]["spec"];
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            spec["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        let context = &spec["containers"][0]["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"][0], "ALL");
    }
}
