use anyhow::ensure;
use api::keys;
use e2e::{
    kind::{DEPLOYMENT, ENDPOINT_SLICE, IP_ADDRESS, POD, SERVICE},
    make,
    read::{annotation, items, label, text, uid},
    rig::{Wish, on_rig, slice},
    space::within,
    tenant::A,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

#[test]
fn a_service_has_the_same_address_on_both_sides_and_follows_edits() {
    within(A, "address", async |space| {
        let service = space.create(SERVICE, make::service("web")).await?;
        let twin = space.twin(SERVICE, "web").await?;
        let address = text(&service, "/spec/clusterIP");
        ensure!(
            !address.is_empty() && text(&twin, "/spec/clusterIP") == address,
            "{twin}"
        );
        ensure!(
            annotation(&twin, keys::UID) == Some(uid(&service)),
            "{twin}"
        );
        let patch = json!({"spec": {"ports": [{"name": "a", "port": 81, "targetPort": 8081}], "selector": {"app": "other"}}});
        space.merge(SERVICE, "web", patch).await?;
        let edited = space
            .twin_like(SERVICE, "web", "is edited", |twin| {
                twin["spec"]["ports"][0]["port"] == 81 && twin["spec"]["selector"]["app"] == "other"
            })
            .await?;
        ensure!(
            uid(&edited) == uid(&twin) && text(&edited, "/spec/clusterIP") == address,
            "{edited}"
        );
        space.delete(SERVICE, "web").await?;
        space.gone(SERVICE, "web").await
    });
}

#[test]
fn a_deployment_is_reached_by_the_name_of_its_service() {
    within(A, "reach", async |space| {
        space
            .create(
                DEPLOYMENT,
                make::deployment("web", 2, make::pod_spec(make::server())),
            )
            .await?;
        let service = space.create(SERVICE, make::service("web")).await?;
        space.rolled_out(DEPLOYMENT, "web", 2).await?;
        eventually(
            SOON,
            "the super cluster makes the slices of the Service",
            async || {
                let slices = space
                    .above()
                    .list(
                        ENDPOINT_SLICE,
                        &space.twin,
                        "kubernetes.io/service-name=web",
                    )
                    .await?;
                let ready = slices
                    .iter()
                    .flat_map(|slice| items(slice, "/endpoints"))
                    .count();
                ensure!(ready == 2, "{ready} endpoints");
                Ok(())
            },
        )
        .await?;
        let script = format!(
            "for name in web web.{0} web.{0}.svc web.{0}.svc.cluster.local; do \
             until wget -T 5 -qO /tmp/said http://$name/hostname; do sleep 1; done; \
             cat /tmp/said >> /dev/termination-log; echo >> /dev/termination-log; done; \
             nslookup web.{0}.svc.cluster.local | tail -n 3 | grep -o {1} >> /dev/termination-log",
            space.name,
            text(&service, "/spec/clusterIP").replace('.', "[.]"),
        );
        let said = space.ask("client", &script).await?;
        let lines: Vec<&str> = said.lines().collect();
        ensure!(lines.len() == 5, "{lines:?}");
        ensure!(
            lines[..4].iter().all(|line| line.starts_with("web-")),
            "pods answer with their names: {lines:?}"
        );
        ensure!(lines[4] == text(&service, "/spec/clusterIP"), "{lines:?}");
        Ok(())
    });
}

#[test]
fn a_node_port_is_the_same_on_both_sides() {
    within(A, "nodeport", async |space| {
        let mut service = make::service("web");
        service["spec"]["type"] = "NodePort".into();
        space.create(SERVICE, service).await?;
        let port = |service: &Value| service["spec"]["ports"][0]["nodePort"].clone();
        eventually(SOON, "both sides agree about the node port", async || {
            let (own, twin) = (
                space.get(SERVICE, "web").await?,
                space.twin(SERVICE, "web").await?,
            );
            ensure!(
                port(&own).is_u64() && port(&own) == port(&twin),
                "{} and {}",
                port(&own),
                port(&twin)
            );
            Ok(())
        })
        .await
    });
}

#[test]
fn a_node_port_that_is_taken_becomes_another() {
    within(A, "taken", async |space| {
        // Taken in the super cluster by somebody else; the tenant's API server can't know.
        let mut foreign = make::service("foreign");
        foreign["metadata"]["namespace"] = e2e::tenant::NAMESPACE_OF_TESTS.into();
        foreign["metadata"]["name"] = format!("foreign-{}", space.name).into();
        foreign["spec"]["type"] = "NodePort".into();
        let foreign = space.above().create(SERVICE, foreign).await?;
        let taken = foreign["spec"]["ports"][0]["nodePort"].clone();

        let mut service = make::service("web");
        service["spec"]["type"] = "NodePort".into();
        service["spec"]["ports"][0]["nodePort"] = taken.clone();
        let agreed = async {
            space.create(SERVICE, service).await?;
            eventually(
                SOON,
                "the tenant's Service gets the port that the super cluster chose",
                async || {
                    let (own, twin) = (
                        space.get(SERVICE, "web").await?,
                        space.twin(SERVICE, "web").await?,
                    );
                    let (own, twin) = (
                        &own["spec"]["ports"][0]["nodePort"],
                        &twin["spec"]["ports"][0]["nodePort"],
                    );
                    ensure!(
                        *own != taken && own == twin,
                        "{own} and {twin}; {taken} is taken"
                    );
                    Ok(())
                },
            )
            .await
        };
        let agreed = agreed.await;
        space
            .above()
            .delete(
                SERVICE,
                e2e::tenant::NAMESPACE_OF_TESTS,
                e2e::read::name(&foreign),
            )
            .await?;
        agreed
    });
}

/// As JobSet makes it for the pods of its jobs.
#[test]
fn a_headless_service_finds_pods_by_a_label_that_crosses_under_another_key() {
    const KEY: &str = "jobset.sigs.k8s.io/jobset-name";
    within(A, "jobset", async |space| {
        let mut service = make::service("j");
        service["spec"]["selector"] = json!({KEY: "j"});
        service["spec"]["clusterIP"] = "None".into();
        space.create(SERVICE, service).await?;
        let pod = json!({
            "metadata": {"name": "j-0", "labels": {KEY: "j"}},
            "spec": make::pod_spec(make::server()),
        });
        space.create(POD, pod).await?;
        let pod = space.ready("j-0").await?;
        let address = text(&pod, "/status/podIP");
        let twin = space.twin(POD, "j-0").await?;
        ensure!(label(&twin, KEY).is_none(), "{twin}");
        for (side, namespace) in [(space.side(), &space.name), (space.above(), &space.twin)] {
            eventually(SOON, "the pod is an endpoint", async || {
                let slices = side
                    .list(ENDPOINT_SLICE, namespace, "kubernetes.io/service-name=j")
                    .await?;
                let found: Vec<&str> = slices
                    .iter()
                    .flat_map(|slice| items(slice, "/endpoints"))
                    .map(|endpoint| text(endpoint, "/addresses/0"))
                    .collect();
                ensure!(found == [address], "{found:?}, not {address}");
                Ok(())
            })
            .await?;
        }
        // A pod that loses the label is found no more.
        let without = json!({"metadata": {"labels": {KEY: null}}});
        space.merge(POD, "j-0", without).await?;
        eventually(SOON, "the pod is no endpoint", async || {
            let slices = space
                .above()
                .list(ENDPOINT_SLICE, &space.twin, "kubernetes.io/service-name=j")
                .await?;
            let mut found = slices.iter().flat_map(|slice| items(slice, "/endpoints"));
            ensure!(found.next().is_none(), "{slices:?}");
            Ok(())
        })
        .await
    });
}

#[test]
fn a_service_that_selects_by_a_label_which_doesnt_cross_is_told_so() {
    within(A, "unmatched", async |space| {
        let mut service = make::service("web");
        service["spec"]["selector"] = json!({"example.sublet.dev/name": "j"});
        let own = space.create(SERVICE, service).await?;
        space.twin(SERVICE, "web").await?;
        let event = e2e::read::event(space.side(), SERVICE, &own, "LeftOut").await?;
        let message = event["message"].as_str().unwrap_or_default();
        ensure!(
            message.contains("example.sublet.dev/name") && message.contains("leads to none"),
            "{message}"
        );
        Ok(())
    });
}

#[test]
fn a_load_balancers_address_comes_back_and_what_the_tenant_claims_does_not_go_down() {
    within(A, "balancer", async |space| {
        let mut service = make::service("web");
        service["spec"]["type"] = "LoadBalancer".into();
        service["spec"]["loadBalancerIP"] = "192.0.2.9".into();
        space.create(SERVICE, service).await?;
        let twin = space.twin(SERVICE, "web").await?;
        ensure!(twin["spec"].get("loadBalancerIP").is_none(), "{twin}");
        let own = space.get(SERVICE, "web").await?;
        e2e::read::event(space.side(), SERVICE, &own, "LeftOut").await?;

        let mut inside = make::service("inside");
        inside["spec"]["type"] = "LoadBalancer".into();
        inside["metadata"]["annotations"] =
            json!({"service.beta.kubernetes.io/aws-load-balancer-internal": "true"});
        let inside = space.create(SERVICE, inside).await?;
        space
            .refused(SERVICE, &inside, "AnnotationNotOffered")
            .await?;

        let forged = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.66"}]}});
        space
            .side()
            .merge_status(SERVICE, &space.name, "web", forged)
            .await?;
        let none = |service: &Value| items(service, "/status/loadBalancer/ingress").is_empty();
        space
            .like(
                SERVICE,
                "web",
                "shows no address that nobody gave",
                SOON,
                none,
            )
            .await?;
        ensure!(
            none(&space.twin(SERVICE, "web").await?),
            "the tenant's status went down"
        );

        // What a load-balancer controller of the super cluster does.
        let given = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}});
        space
            .above()
            .merge_status(SERVICE, &space.twin, "web", given)
            .await?;
        let shows =
            |service: &Value| text(service, "/status/loadBalancer/ingress/0/ip") == "192.0.2.7";
        space
            .like(
                SERVICE,
                "web",
                "shows the load balancer's address",
                SOON,
                shows,
            )
            .await?;
        Ok(())
    });
}

#[test]
fn services_that_would_take_others_traffic_are_refused() {
    within(A, "takes", async |space| {
        let mut service = make::service("grab");
        service["spec"]["externalIPs"] = json!(["192.0.2.1"]);
        match space.create(SERVICE, service).await {
            // The tenant's API server may refuse by itself, which is as good.
            Err(problem) => ensure!(
                problem.code == 403 && problem.message.contains("external IPs"),
                "{problem}"
            ),
            Ok(service) => drop(space.refused(SERVICE, &service, "ExternalIPs").await?),
        }
        let external = json!({
            "metadata": {"name": "elsewhere"}, "spec": {"type": "ExternalName", "externalName": "kubernetes.default.svc"},
        });
        space.create(SERVICE, external).await?;
        space.create(SERVICE, make::service("later")).await?;
        space.twin(SERVICE, "later").await?;
        ensure!(
            space.find_twin(SERVICE, "elsewhere").await?.is_none(),
            "an ExternalName Service has crossed"
        );
        Ok(())
    });
}

#[test]
fn a_service_edited_into_an_external_name_is_taken_back() {
    within(A, "turned", async |space| {
        space.create(SERVICE, make::service("web")).await?;
        space.twin(SERVICE, "web").await?;
        let turned = json!({"spec": {"type": "ExternalName", "externalName": "example.com", "selector": null,
            "clusterIP": null, "clusterIPs": null, "ports": null, "ipFamilies": null, "ipFamilyPolicy": null,
            "internalTrafficPolicy": null, "sessionAffinity": null}});
        space.merge(SERVICE, "web", turned).await?;
        eventually(PODS, "the super Service is gone", async || {
            ensure!(
                space.find_twin(SERVICE, "web").await?.is_none(),
                "it is still there"
            );
            Ok(())
        })
        .await
    });
}

/// T14: no two Services have one address, whoever gave it away first.
#[test]
fn addresses_of_the_platforms_services_are_reserved_in_the_tenant_that_has_their_slice() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        let base = slice(0).replace(".0/22", "");
        let (theirs, ours) = (format!("{base}.77"), format!("{base}.78"));
        let service = |name: &str, namespace: &str, address: &str| {
            let mut service = make::service(name);
            service["metadata"]["namespace"] = namespace.into();
            service["spec"]["clusterIP"] = address.into();
            service
        };
        let platform = service("platform", "default", &theirs);
        rig.side.create(SERVICE, platform).await?;
        let reserved = eventually(SOON, "the address is reserved", async || {
            Ok(guest.side.get(IP_ADDRESS, "", &theirs).await?)
        })
        .await?;
        let manager = label(&reserved, "ipaddress.kubernetes.io/managed-by");
        ensure!(manager == Some("sublet.dev"), "{reserved}");
        guest.namespace("work").await?;
        let refused = guest
            .side
            .create(SERVICE, service("web", "work", &theirs))
            .await;
        ensure!(refused.is_err(), "the tenant gave it away: {refused:?}");
        // The tenant was first.
        let own = guest
            .side
            .create(SERVICE, service("first", "work", &ours))
            .await?;
        let twin = guest.twin("work");
        eventually(SOON, "the tenant's Service crosses", async || {
            Ok(rig.side.get(SERVICE, &twin, "first").await?)
        })
        .await?;
        let clash = rig
            .side
            .create(SERVICE, service("second", "default", &ours))
            .await;
        ensure!(clash.is_err(), "{clash:?} beside {own}");
        rig.side.delete(SERVICE, "default", "platform").await?;
        eventually(SOON, "the address is free again", async || {
            let left = guest.side.find(IP_ADDRESS, "", &theirs).await?;
            ensure!(left.is_none(), "{left:?}");
            Ok(())
        })
        .await
    });
}
