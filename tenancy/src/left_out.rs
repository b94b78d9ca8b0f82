//! What of an object that crosses doesn't, though something in a cluster would obey it: told to the tenant once for each
//! object, or refused where leaving it out would open what the tenant had closed (an internal load balancer, a login).
//!
//! Not told is what only the tenant's own side and people's tools go by, and labels of pods that only selectors go by, which
//! cross under other keys. What selects pods by the few labels that don't cross is told as well: its pods are found in the
//! tenant, and not in the super cluster.

use crate::{
    kind::{Cx, Refused},
    meta,
    object::Object,
};

/// Reason of the event that names what was left out.
const LEFT_OUT: &str = "LeftOut";

/// Parts of a domain by which controllers are told what to do with one kind of object.
struct Obeyed {
    kind: &'static str,
    /// Domains, with all below them.
    roots: &'static [&'static str],
    /// Keys of domains that mean nothing else there.
    keys: &'static [&'static str],
}

/// What decides who may reach an object, by the documentation of the controllers that are in use.
const CLOSING: [Obeyed; 3] = [
    Obeyed {
        kind: "Service",
        roots: BALANCERS,
        keys: BALANCER_KEYS,
    },
    Obeyed {
        kind: "Gateway",
        roots: BALANCERS,
        keys: BALANCER_KEYS,
    },
    Obeyed {
        kind: "Ingress",
        roots: &[
            "ingress.kubernetes.io",
            "haproxy.org",
            "haproxy-ingress.github.io",
            "ingress.cilium.io",
            "ingress.pomerium.io",
            "k8s.apisix.apache.org",
            "konghq.com",
            "networking.gke.io",
            "nginx.com",
            "nginx.org",
            "projectcontour.io",
        ],
        keys: &[
            "kubernetes.io/ingress.allow-http",
            "kubernetes.io/ingress.regional-static-ip-name",
        ],
    },
];

const BALANCERS: &[&str] = &[
    "kubernetes.digitalocean.com",
    "lbipam.cilium.io",
    "load-balancer.hetzner.cloud",
    "loadbalancer.openstack.org",
    "metallb.io",
    "metallb.universe.tf",
    "networking.gke.io",
    "networking.istio.io",
    "oci.oraclecloud.com",
    "service.cilium.io",
];

const BALANCER_KEYS: &[&str] = &["cloud.google.com/load-balancer-type"];

/// Keys of `service.kubernetes.io` and its kin that say nothing of who may reach a Service.
const ROUTING: [&str; 3] = [
    "topology-aware-hints",
    "topology-mode",
    "tolerate-unready-endpoints",
];

/// Domains of tools that leave notes for themselves, with all below them.
const NOTES: [&str; 9] = [
    "argocd.argoproj.io",
    "cattle.io",
    "fluxcd.io",
    "helm.sh",
    "k14s.io",
    // Of whatever scrapes the tenant itself.
    "prometheus.io",
    "pulumi.com",
    "skaffold.dev",
    "werf.io",
];

/// Of Kubernetes' own domains, which the tenant's control plane uses as well, those that something in the platform obeys.
const STEERING_PODS: [&str; 5] = [
    "cluster-autoscaler.kubernetes.io",
    "cni.cncf.io",
    "cni.projectcalico.org",
    "container.apparmor.security.beta.kubernetes.io",
    "seccomp.security.alpha.kubernetes.io",
];

/// Labels by which a pod asks for something of the platform. Others of their domains are what was injected, and selected by.
const ASKING: [&str; 7] = [
    "aadpodidbinding",
    "admission.datadoghq.com/enabled",
    "azure.workload.identity/use",
    "istio.io/dataplane-mode",
    "istio.io/rev",
    "kueue.x-k8s.io/queue-name",
    "sidecar.istio.io/inject",
];

/// The annotations of an object that cross; refuses one that would be left out though it closes something.
pub(crate) fn annotations<'a>(
    kind: &str,
    object: &'a Object,
    cx: &Cx<'_>,
) -> Result<Vec<(&'a str, &'a str)>, Refused> {
    let mut crossing = vec![];
    for (key, value) in object.annotations() {
        match cx.rules.offers.annotation(kind, key) {
            Some(values) if values.is_empty() || values.iter().any(|offered| offered == value) => {
                crossing.push((key, value));
            }
            offered if closes(kind, key) => return Err(refused(key, offered)),
            _ if kind != "Service" && meta::annotation_crosses(key) => crossing.push((key, value)),
            _ => {}
        }
    }
    Ok(crossing)
}

fn refused(key: &str, offered: Option<&[String]>) -> Refused {
    let remedy = match offered {
        Some(values) => format!("write one of {}, or leave it out", values.join(", ")),
        None => "leave it out, or ask the platform's admins for it (annotations of your ControlPlaneClass)".to_owned(),
    };
    Refused::new(
        "AnnotationNotOffered",
        format!("annotation {key} wouldn't cross, and what it closes would be open: {remedy}"),
    )
}

/// Whether an annotation may close what is open without it.
fn closes(kind: &str, key: &str) -> bool {
    let Some((domain, name)) = key.split_once('/') else {
        return false;
    };
    let of_clouds = ["Service", "Gateway"].contains(&kind)
        && domain
            .strip_prefix("service.")
            .is_some_and(|rest| rest == "kubernetes.io" || rest.ends_with(".kubernetes.io"))
        && !ROUTING.contains(&name);
    let is_obeyed = |obeyed: &Obeyed| {
        obeyed.kind == kind && (is_below(domain, obeyed.roots) || obeyed.keys.contains(&key))
    };
    of_clouds || CLOSING.iter().any(is_obeyed)
}

fn is_below(domain: &str, roots: &[&str]) -> bool {
    roots.iter().any(|root| meta::is_below(domain, root))
}

/// What of an object of a kind that controllers act on is left out; `fields` are those of its spec.
pub(crate) fn of_steered(
    kind: &str,
    object: &Object,
    fields: &[&str],
    cx: &Cx<'_>,
) -> Option<Refused> {
    let is_told = |(key, _): &(&str, &str)| match key.split_once('/') {
        None => false,
        Some((domain, _)) => {
            cx.rules.offers.annotation(kind, key).is_none()
                && !meta::annotation_crosses(key)
                && !is_below(domain, &NOTES)
                && (!meta::reserved(domain) || domain.starts_with("external-dns."))
        }
    };
    let keys = object.annotations().filter(is_told).map(|(key, _)| key);
    let annotations = named("annotations", keys);
    told(
        annotations
            .into_iter()
            .chain(named("fields", fields.iter().copied())),
        "ask the platform's admins for what must hold (annotations of your ControlPlaneClass)",
    )
}

/// What of a pod's metadata is left out, and with it `more`.
pub(crate) fn of_pod(pod: &Object, more: impl IntoIterator<Item = String>) -> Option<Refused> {
    let labels = pod
        .labels()
        .map(|(key, _)| key)
        .filter(|key| meta::is_own(key) || ASKING.contains(key));
    let steers = |key: &&str| {
        key.split_once('/')
            .is_some_and(|(domain, _)| is_below(domain, &STEERING_PODS))
    };
    let annotations = pod.annotations().map(|(key, _)| key).filter(steers);
    let metadata = [named("labels", labels), named("annotations", annotations)];
    told(
        metadata.into_iter().flatten().chain(more),
        "they steer what the platform runs, so they are its admins' to set",
    )
}

/// What an object selects pods by, of all these keys, that super pods don't have; `so` is what becomes of it.
///
/// The selector crosses with that part: without it, it would select pods that it doesn't mean.
pub(crate) fn of_selector<'a>(
    keys: impl IntoIterator<Item = &'a str>,
    so: &str,
) -> Option<Refused> {
    let keys = keys.into_iter().filter(|key| meta::is_own(key));
    let labels = named("labels", keys)?;
    Some(Refused::new(
        LEFT_OUT,
        format!(
            "it selects pods by {labels}, which are left out of pods that cross: in the super cluster it selects as if no pod \
             had them, {so}: give the pods a label of a domain of your own, and select them by that"
        ),
    ))
}

/// The keys as one part of a message.
pub(crate) fn named<'a>(what: &str, keys: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut keys: Vec<&str> = keys.into_iter().collect();
    keys.sort_unstable();
    keys.dedup();
    (!keys.is_empty()).then(|| format!("{what} {}", keys.join(", ")))
}

fn told(parts: impl IntoIterator<Item = String>, remedy: &str) -> Option<Refused> {
    let parts: Vec<String> = parts.into_iter().collect();
    (!parts.is_empty()).then(|| {
        Refused::new(
            LEFT_OUT,
            format!("left out: {}: {remedy}", parts.join("; ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        kind::{
            Cx, KINDS, Refused, index,
            testing::{Answers, object, tenant},
            translate,
        },
        object::Object,
        offer::Offers,
    };
    use api::{AnnotatedKind, OfferedAnnotation};
    use serde_json::{Value, json};

    /// An object of a kind that crosses, with one annotation.
    fn annotated(kind: &str, key: &str, value: &str) -> Object {
        let spec = match kind {
            "Service" => {
                json!({"type": "LoadBalancer", "clusterIP": "10.96.4.7", "ports": [{"port": 80}]})
            }
            "Ingress" => json!({"ingressClassName": "public", "rules": [{"host": "a.example"}]}),
            "Gateway" => json!({"gatewayClassName": "public", "listeners": []}),
            _ => json!({}),
        };
        let metadata =
            json!({"name": "a", "namespace": "default", "uid": "u", "annotations": {key: value}});
        object(json!({"metadata": metadata, "spec": spec}))
    }

    /// What becomes of an object, and what the tenant is told of one that crosses.
    fn crosses(
        kind: &str,
        object: &Object,
        offers: Offers,
    ) -> (Result<Object, Refused>, Option<Refused>) {
        let mut tenant = tenant();
        tenant.offers = Offers {
            hosts: vec!["*".into()],
            ..offers
        };
        let facts = Answers {
            offers_all: kind != "Pod",
            ..Answers::default()
        };
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let rule = KINDS[usize::from(index(kind))];
        let twin = translate(rule, object, &cx).map(|twin| twin.expect("it crosses"));
        (twin, rule.shortfall(object, &cx))
    }

    fn reason(kind: &str, object: &Object, offers: Offers) -> Option<&'static str> {
        crosses(kind, object, offers)
            .0
            .err()
            .map(|refused| refused.reason)
    }

    fn offer(kind: AnnotatedKind, key: &str, values: &[&str]) -> Offers {
        let offered = OfferedAnnotation {
            kind,
            key: key.into(),
            values: values.iter().map(|&value| value.into()).collect(),
        };
        Offers {
            annotations: vec![offered],
            ..Offers::default()
        }
    }

    const INTERNAL: &str = "service.beta.kubernetes.io/aws-load-balancer-internal";

    #[test]
    fn t15_a_load_balancer_that_was_to_be_internal_is_no_public_one() {
        for key in [
            INTERNAL,
            "service.beta.kubernetes.io/load-balancer-source-ranges",
            "service.kubernetes.io/ibm-load-balancer-cloud-provider-ip-type",
            "networking.gke.io/load-balancer-type",
            "cloud.google.com/load-balancer-type",
            "metallb.io/address-pool",
        ] {
            let service = annotated("Service", key, "x");
            assert_eq!(
                reason("Service", &service, Offers::default()),
                Some("AnnotationNotOffered"),
                "{key}"
            );
        }
        let mut classed = annotated("Service", "note", "x");
        classed.value_mut()["spec"]["loadBalancerClass"] = "internal".into();
        assert_eq!(
            reason("Service", &classed, Offers::default()),
            Some("LoadBalancerClassNotOffered")
        );
        let offers = Offers {
            balancer_classes: vec!["internal".into()],
            ..Offers::default()
        };
        let twin = crosses("Service", &classed, offers).0.unwrap();
        assert_eq!(twin.text("/spec/loadBalancerClass"), Some("internal"));
        // Of another type it means nothing.
        let mut inside = annotated("Service", INTERNAL, "true");
        inside.value_mut()["spec"]["type"] = "ClusterIP".into();
        let (twin, told) = crosses("Service", &inside, Offers::default());
        assert_eq!((twin.unwrap().annotation(INTERNAL), told), (None, None));
    }

    #[test]
    fn t19_an_ingress_that_was_to_ask_who_comes_is_not_open_to_all() {
        for key in [
            "nginx.ingress.kubernetes.io/auth-url",
            "nginx.ingress.kubernetes.io/configuration-snippet",
            "alb.ingress.kubernetes.io/scheme",
            "traefik.ingress.kubernetes.io/router.middlewares",
            "haproxy.org/allow-list",
            "konghq.com/plugins",
        ] {
            let ingress = annotated("Ingress", key, "x");
            assert_eq!(
                reason("Ingress", &ingress, Offers::default()),
                Some("AnnotationNotOffered"),
                "{key}"
            );
        }
        let gateway = annotated("Gateway", "networking.istio.io/service-type", "ClusterIP");
        assert_eq!(
            reason("Gateway", &gateway, Offers::default()),
            Some("AnnotationNotOffered")
        );
    }

    #[test]
    fn an_annotation_that_a_class_offers_crosses_with_the_values_that_it_offers() {
        let offers = || offer(AnnotatedKind::Service, INTERNAL, &["true"]);
        let service = annotated("Service", INTERNAL, "true");
        let (twin, told) = crosses("Service", &service, offers());
        assert_eq!(twin.unwrap().annotation(INTERNAL), Some("true"));
        assert_eq!(told, None);
        let other = annotated("Service", INTERNAL, "false");
        let refused = crosses("Service", &other, offers()).0.unwrap_err();
        assert_eq!(
            refused.message,
            format!(
                "annotation {INTERNAL} wouldn't cross, and what it closes would be open: write one of true, or leave it out"
            )
        );
        let elsewhere = offer(AnnotatedKind::Ingress, INTERNAL, &[]);
        assert_eq!(
            reason("Service", &service, elsewhere),
            Some("AnnotationNotOffered")
        );
        let key = "nginx.ingress.kubernetes.io/rewrite-target";
        let any = offer(AnnotatedKind::Ingress, key, &[]);
        let twin = crosses("Ingress", &annotated("Ingress", key, "/"), any).0;
        assert_eq!(twin.unwrap().annotation(key), Some("/"));
    }

    #[test]
    fn what_is_sublets_own_is_nobodys_to_offer() {
        let key = "sublet.dev/uid";
        for kind in [AnnotatedKind::Service, AnnotatedKind::Ingress] {
            let object = annotated(kind.as_str(), key, "forged");
            let twin = crosses(kind.as_str(), &object, offer(kind, key, &[])).0;
            assert_eq!(twin.unwrap().annotation(key), Some("u"));
        }
    }

    #[test]
    fn what_a_controller_does_not_see_of_an_object_is_told_once_with_all_its_keys() {
        let key = "cert-manager.io/cluster-issuer";
        for kind in ["Service", "Ingress", "Gateway", "HTTPRoute", "GRPCRoute"] {
            let mut object = annotated(kind, key, "x");
            object.annotate("acme.example/a", "x");
            let (twin, told) = crosses(kind, &object, Offers::default());
            assert_eq!(twin.unwrap().annotation(key), None, "{kind}");
            let told = told.unwrap_or_else(|| panic!("{kind} is told nothing"));
            assert_eq!(told.reason, "LeftOut");
            let said = "left out: annotations acme.example/a, cert-manager.io/cluster-issuer: ";
            assert!(told.message.starts_with(said), "{}", told.message);
        }
        let mut service = annotated("Service", "note", "x");
        service.value_mut()["spec"]["loadBalancerIP"] = "192.0.2.1".into();
        let told = crosses("Service", &service, Offers::default()).1.unwrap();
        assert!(
            told.message.contains("fields spec.loadBalancerIP"),
            "{told}"
        );
    }

    #[test]
    fn what_selects_pods_by_labels_that_do_not_cross_is_told_which() {
        let asks = |key: &str| json!({"matchLabels": {key: "x", "app": "a"}});
        let lacks =
            |key: &str| json!({"matchExpressions": [{"key": key, "operator": "DoesNotExist"}]});
        let peer = |selector: Value| json!([{"podSelector": selector}, {"namespaceSelector": asks("k8s.io/ns")}]);
        let all = json!({"podSelector": {}});
        let with = |spec: &Value, part: Value| {
            let mut spec = spec.clone();
            let parts = spec.as_object_mut().unwrap();
            parts.extend(part.as_object().unwrap().clone());
            spec
        };
        let (key, carried) = ("evil.sublet.dev/x", "jobset.sigs.k8s.io/jobset-name");
        for (kind, spec, expected) in [
            (
                "Service",
                json!({"selector": {key: "j", "app": "a"}}),
                Some(key),
            ),
            ("Service", json!({"selector": {"app": "a"}}), None),
            ("Service", json!({"selector": {carried: "j"}}), None),
            ("Service", json!({}), None),
            (
                "PodDisruptionBudget",
                json!({"minAvailable": 1, "selector": asks(key)}),
                Some(key),
            ),
            (
                "PodDisruptionBudget",
                json!({"minAvailable": 1, "selector": lacks(key)}),
                Some(key),
            ),
            (
                "PodDisruptionBudget",
                json!({"minAvailable": 1, "selector": asks("team")}),
                None,
            ),
            (
                "PodDisruptionBudget",
                json!({"minAvailable": 1, "selector": asks(carried)}),
                None,
            ),
            ("PodDisruptionBudget", json!({"minAvailable": 1}), None),
            (
                "NetworkPolicy",
                json!({"podSelector": lacks(key)}),
                Some(key),
            ),
            (
                "NetworkPolicy",
                with(&all, json!({"ingress": [{"from": peer(asks(key))}]})),
                Some(key),
            ),
            (
                "NetworkPolicy",
                with(&all, json!({"egress": [{"to": peer(lacks(key))}]})),
                Some(key),
            ),
            (
                "NetworkPolicy",
                with(&all, json!({"ingress": [{"from": peer(asks("team"))}]})),
                None,
            ),
            (
                "NetworkPolicy",
                with(&all, json!({"ingress": [{"from": peer(lacks(carried))}]})),
                None,
            ),
        ] {
            let metadata = json!({"name": "a", "namespace": "default", "uid": "u"});
            let mut asked = json!({"metadata": metadata, "spec": spec});
            if kind == "Service" {
                asked["spec"]["clusterIP"] = json!("None");
            }
            let (twin, told) = crosses(kind, &object(asked), Offers::default());
            assert!(twin.is_ok(), "{kind} {spec}: it crosses all the same");
            let named = told.as_ref().map(|told| {
                assert_eq!(told.reason, "LeftOut");
                told.message
                    .strip_prefix("it selects pods by labels ")
                    .unwrap()
                    .split(", ")
                    .next()
                    .unwrap()
            });
            assert_eq!(named, expected, "{kind} {spec}");
        }
        let elsewhere =
            json!({"type": "ExternalName", "externalName": "a.example", "selector": {key: "j"}});
        let elsewhere =
            object(json!({"metadata": {"name": "a", "namespace": "default"}, "spec": elsewhere}));
        let (tenant, facts) = (tenant(), Answers::default());
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let service = KINDS[usize::from(index("Service"))];
        assert_eq!(
            service.shortfall(&elsewhere, &cx),
            None,
            "it selects nothing"
        );
    }

    #[test]
    fn notes_of_tools_and_of_kubernetes_are_no_news() {
        for key in [
            "note",
            "checksum/config",
            "kubectl.kubernetes.io/last-applied-configuration",
            "meta.helm.sh/release-name",
            "argocd.argoproj.io/tracking-id",
            "kustomize.toolkit.fluxcd.io/ssa",
            "deployment.kubernetes.io/revision",
            "prometheus.io/scrape",
            "service.kubernetes.io/topology-mode",
        ] {
            for kind in ["Service", "Ingress", "Gateway", "HTTPRoute", "Pod"] {
                let (_, told) = crosses(kind, &annotated(kind, key, "x"), Offers::default());
                assert_eq!(told, None, "{kind} {key}");
            }
        }
    }

    /// What a pod's tenant is told, without the remedy.
    fn told_of(pod: Value) -> Option<String> {
        let told = crosses("Pod", &object(pod), Offers::default()).1?;
        let said = told.message.strip_prefix("left out: ").unwrap();
        Some(said.split(": ").next().unwrap().to_owned())
    }

    #[test]
    fn what_scrapes_pods_of_all_namespaces_finds_those_whose_class_offers_it() {
        let key = "prometheus.io/scrape";
        let pod = annotated("Pod", key, "true");
        let twin = |offers| crosses("Pod", &pod, offers).0.unwrap();
        assert_eq!(twin(Offers::default()).annotation(key), None);
        let offers = offer(AnnotatedKind::Pod, key, &["true"]);
        assert_eq!(twin(offers).annotation(key), Some("true"));
    }

    #[test]
    fn a_pod_is_told_what_it_runs_without() {
        let node = |key: &str| json!({"key": key, "operator": "Exists"});
        let long = |n: u8| format!("d{n}.example");
        let pod = json!({
            "metadata": {
                "name": "a", "namespace": "default", "uid": "u",
                "labels": {
                    "app": "a", "evil.sublet.dev/x": "y", "sidecar.istio.io/inject": "true",
                    "jobset.sigs.k8s.io/jobset-name": "j", "topology.kubernetes.io/zone": "z",
                },
                "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "ci.acme.example/build": "7"},
            },
            "spec": {
                "containers": [{"name": "c", "image": "i"}], "priorityClassName": "system-node-critical",
                "tolerations": [{"operator": "Exists"}, node("customer"), node("node.kubernetes.io/not-ready")],
                "dnsConfig": {"searches": (0..40).map(long).collect::<Vec<_>>()},
            },
        });
        assert_eq!(
            told_of(pod).as_deref(),
            Some(
                "labels evil.sublet.dev/x, sidecar.istio.io/inject; annotations cluster-autoscaler.kubernetes.io/safe-to-evict; tolerations \
                 customer, of all taints; priorityClassName system-node-critical; the last of dnsConfig's searches"
            )
        );
    }

    #[test]
    fn an_ordinary_pod_is_told_nothing() {
        let only =
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]});
        let required = json!({"nodeSelectorTerms": [only]});
        let given =
            |effect: &str, key: &str| json!({"effect": effect, "key": key, "operator": "Exists"});
        let pod = json!({
            "metadata": {
                "name": "a", "namespace": "default", "uid": "u",
                "labels": {"app": "a", "pod-template-hash": "x", "app.kubernetes.io/name": "a", "apps.kubernetes.io/pod-index": "0"},
                "annotations": {"kubectl.kubernetes.io/restartedAt": "now", "kubernetes.io/limit-ranger": "defaults"},
            },
            "spec": {
                "containers": [{"name": "c", "image": "i"}], "priority": 0, "preemptionPolicy": "PreemptLowerPriority",
                "tolerations": [
                    given("NoExecute", "node.kubernetes.io/not-ready"), given("NoExecute", "node.kubernetes.io/unreachable"),
                    given("NoSchedule", "node.kubernetes.io/disk-pressure"), given("NoSchedule", "node.kubernetes.io/unschedulable"),
                ],
                // As the DaemonSet controller writes it.
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
                "dnsPolicy": "ClusterFirst", "dnsConfig": {"searches": ["acme.example"], "options": [{"name": "ndots", "value": "2"}]},
            },
        });
        assert_eq!(told_of(pod), None);
    }
}
