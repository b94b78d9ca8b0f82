//! T44, with real questions: a tenant without a DNS server of its own is told what one with CoreDNS is told, and nothing of
//! others.

use super::network::kubectl_of;
use anyhow::{Context, ensure};
use e2e::{
    kind::{CONTROL_PLANE, DEPLOYMENT, NETWORK_POLICY, POD, SERVICE},
    make,
    program::{Folder, Program},
    read::{condition, items, text},
    space::{Space, run},
    tenant::{A, B, NAMESPACE_OF_TESTS, Tenant},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// Name of the namespace in each tenant.
const SPACE: &str = "names";

/// Questions, as a pod of the namespace asks them: `~` is the namespace's own domain, `@` the cluster's. A word in braces
/// is the address of a pod or Service: plain, with dashes, or turned round. What begins with `+` is for dig: the search list
/// of the pod's own resolv.conf, and TCP.
const QUESTIONS: &[&str] = &[
    "web.~ A",
    "web.~ AAAA",
    "web.~ SRV",
    "web.~ TXT",
    "web.~ MX",
    "web.~ CNAME",
    "web.~ NS",
    "web.~ SOA",
    "web.~ HTTPS",
    "_http._tcp.web.~ SRV",
    "_http._tcp.web.~ A",
    "_http._udp.web.~ SRV",
    "_none._tcp.web.~ SRV",
    "_tcp.web.~ SRV",
    "{dashes web-0}.web.~ A",
    "db.~ A",
    "db.~ AAAA",
    "db.~ SRV",
    "_sql._tcp.db.~ SRV",
    "_sql._udp.db.~ SRV",
    "db-0.db.~ A",
    "db-0.db.~ SRV",
    "db-1.db.~ A",
    "db-9.db.~ A",
    "{dashes db-0}.db.~ A",
    "idle.~ A",
    "idle.~ SRV",
    "late.~ A",
    "late-0.late.~ A",
    "early.~ A",
    "in.~ A",
    "in.~ AAAA",
    "in.~ CNAME",
    "in.~ SRV",
    "in.~ TXT",
    "chain.~ A",
    "gone.~ A",
    "loop.~ A",
    "out.~ CNAME",
    "out.~ SRV",
    "a.out.~ A",
    "nothing.~ A",
    "nothing.~ SRV",
    "nothing.~ TXT",
    "a.b.c.web.~ A",
    "names.svc.@ A",
    "names.svc.@ SRV",
    "names.svc.@ TXT",
    "nowhere.svc.@ A",
    "web.nowhere.svc.@ A",
    "svc.@ A",
    "pod.@ A",
    "names.pod.@ A",
    "@ A",
    "@ SOA",
    "nothing.@ A",
    "dns-version.@ TXT",
    "dns-version.@ A",
    "kubernetes.default.svc.@ A",
    "kubernetes.default.svc.@ AAAA",
    "_https._tcp.kubernetes.default.svc.@ SRV",
    "{dashes db-0}.names.pod.@ A",
    "1-2-3-4.names.pod.@ A",
    "1-2-3-4.names.pod.@ AAAA",
    "1-2-3-4.nowhere.pod.@ A",
    "fd00--1.names.pod.@ AAAA",
    "client.names.pod.@ A",
    "{round web} PTR",
    "{round kubernetes} PTR",
    "{round db-0} PTR",
    "{round web-0} PTR",
    "+search web A",
    "+search web AAAA",
    "+search db-0.db A",
    "+search web.names A",
    "+search web.names.svc A",
    "+search kubernetes.default A",
    "+search nothing A",
    "+tcp web.~ A",
    "+tcp _sql._tcp.db.~ SRV",
    "+tcp nothing.~ A",
];

const _: () = assert!(QUESTIONS.len() >= 60, "as many as are specified");

/// A pod that waits, with a host name in a headless Service.
fn member(name: &str, service: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["hostname"] = name.into();
    spec["subdomain"] = service.into();
    json!({"metadata": {"name": name, "labels": {"app": service}}, "spec": spec})
}

/// A container that is never ready.
fn late() -> Value {
    let mut container = make::container(make::AGNHOST, &["/agnhost", "pause"]);
    container["readinessProbe"] = json!({"exec": {"command": ["false"]}});
    container
}

/// The same Services and pods in each tenant.
async fn populate(space: &Space) -> anyhow::Result<()> {
    let headless = |name: &str, pods: &str, more: Value| {
        let mut spec = json!({"clusterIP": "None", "selector": {"app": pods},
            "ports": [{"name": "sql", "port": 5432}]});
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let leads = |name: &str, target: String| json!({"metadata": {"name": name}, "spec": {"type": "ExternalName", "externalName": target}});
    let own = |name: &str| format!("{name}.{SPACE}.svc.cluster.local");
    let web = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [
        {"name": "http", "port": 80, "targetPort": 8080}, {"name": "other", "port": 81, "targetPort": 8080},
    ]}});
    for service in [
        web,
        headless("db", "db", json!({})),
        headless("idle", "nothing", json!({})),
        headless("late", "late", json!({})),
        headless("early", "late", json!({"publishNotReadyAddresses": true})),
        leads("in", own("web")),
        leads("chain", own("in")),
        leads("gone", own("nothing")),
        leads("loop", own("loop")),
        leads("out", "example.com".into()),
    ] {
        space.create(SERVICE, service).await?;
    }
    let waits = || make::pod_spec(make::container(make::AGNHOST, &["/agnhost", "pause"]));
    for (name, service) in [("db-0", "db"), ("db-1", "db")] {
        space.create(POD, member(name, service, waits())).await?;
    }
    space
        .create(POD, member("late-0", "late", make::pod_spec(late())))
        .await?;
    let web = json!({"metadata": {"name": "web-0", "labels": {"app": "web"}},
        "spec": make::pod_spec(make::server())});
    space.create(POD, web).await?;
    space.pod("client", waits()).await?;
    for pod in ["db-0", "db-1", "web-0", "client"] {
        space.ready(pod).await?;
    }
    space
        .like(POD, "late-0", "has an address", PODS, |pod| {
            !text(pod, "/status/podIP").is_empty()
        })
        .await?;
    Ok(())
}

/// Addresses of pods and Services by name.
async fn addresses(space: &Space) -> anyhow::Result<BTreeMap<String, Ipv4Addr>> {
    let mut known = BTreeMap::new();
    for pod in ["db-0", "db-1", "late-0", "web-0"] {
        let pod_object = space.get(POD, pod).await?;
        known.insert(pod.to_owned(), text(&pod_object, "/status/podIP").parse()?);
    }
    let web = space.get(SERVICE, "web").await?;
    known.insert("web".to_owned(), text(&web, "/spec/clusterIP").parse()?);
    let api = space.side().get(SERVICE, "default", "kubernetes").await?;
    known.insert(
        "kubernetes".to_owned(),
        text(&api, "/spec/clusterIP").parse()?,
    );
    Ok(known)
}

/// An address as questions and answers write it: plain, with dashes, and turned round.
fn written(address: Ipv4Addr) -> [(&'static str, String); 3] {
    let mut turned = address.octets();
    turned.reverse();
    [
        ("round", format!("{}.in-addr.arpa.", Ipv4Addr::from(turned))),
        ("dashes", address.to_string().replace('.', "-")),
        ("plain", address.to_string()),
    ]
}

/// `text` in the place of an address, but not of a part of a longer one.
fn swapped(line: &str, address: &str, text: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(place) = rest.find(address) {
        let (before, from) = rest.split_at(place);
        let after = &from[address.len()..];
        let is_digit = |character: Option<char>| character.is_some_and(|c| c.is_ascii_digit());
        let is_part = is_digit(before.chars().next_back()) || is_digit(after.chars().next());
        out += before;
        out += if is_part { address } else { text };
        rest = after;
    }
    out + rest
}

/// What a pod is answered, with names in the place of addresses, in any order.
async fn answers(
    kubectl: &Program,
    known: &BTreeMap<String, Ipv4Addr>,
    questions: &[String],
) -> anyhow::Result<Vec<String>> {
    let mut script = String::new();
    for question in questions {
        let mut asked = question
            .replace('~', &format!("{SPACE}.svc.@"))
            .replace('@', "cluster.local.");
        for (name, address) in known {
            for (form, text) in written(*address) {
                asked = asked.replace(&format!("{{{form} {name}}}"), &text);
            }
        }
        script += &format!(
            "echo '? {question}'; dig +noall +comments +answer +tries=2 +time=3 {asked} || true\n"
        );
    }
    let said = kubectl.feed("exec -i client -- sh", &script).await?.ok()?;
    let mut all = vec![];
    for answer in said.split("? ").skip(1) {
        let (question, rest) = answer.split_once('\n').context("no answer")?;
        let status = rest
            .split_once("status: ")
            .and_then(|(_, rest)| rest.split_once(','))
            .map_or("none", |(status, _)| status);
        let mut records: Vec<String> = rest
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(';'))
            .map(|line| {
                // All but how long it may be kept.
                let mut words: Vec<&str> = line.split_whitespace().collect();
                if words.len() > 4 {
                    words.remove(1);
                }
                let is_soa = words.get(2) == Some(&"SOA");
                // Its serial number is a server's own.
                if is_soa && words.len() > 5 {
                    words.remove(5);
                }
                let mut line = words.join(" ");
                for (name, address) in known {
                    for (form, text) in written(*address) {
                        line = swapped(&line, &text, &format!("{{{form} {name}}}"));
                    }
                }
                line
            })
            .collect();
        records.sort_unstable();
        all.push(format!("{question}: {status} {}", records.join(", ")));
    }
    Ok(all)
}

#[test]
fn t44_the_shared_dns_server_answers_as_coredns_does_and_tells_of_nobody_else() {
    run(async || {
        let spec = json!({"network": {"dns": "shared"}});
        Tenant::within("e2e-dns", spec, compare).await
    });
}

async fn compare(tenant: &Tenant) -> anyhow::Result<()> {
    let shared = Space::open(tenant.clone(), SPACE).await?;
    let dedicated = Space::open(A.get().await?.clone(), SPACE).await?;
    let result = async {
        populate(&shared).await?;
        populate(&dedicated).await?;
        same_answers(&shared, &dedicated).await?;
        nothing_of_others(&shared, &dedicated).await?;
        outside_the_index(&shared).await
    }
    .await;
    dedicated
        .side()
        .delete(e2e::kind::NAMESPACE, "", SPACE)
        .await?;
    result
}

/// The same list of names, asked in both tenants until both say the same.
async fn same_answers(shared: &Space, dedicated: &Space) -> anyhow::Result<()> {
    let questions: Vec<String> = QUESTIONS.iter().map(|&text| text.to_owned()).collect();
    let (one, other) = (Folder::make()?, Folder::make()?);
    let shared_pod = kubectl_of(&one, &shared.tenant.kubeconfig, SPACE)?;
    let dedicated_pod = kubectl_of(&other, &dedicated.tenant.kubeconfig, SPACE)?;
    let (ours, theirs) = (addresses(shared).await?, addresses(dedicated).await?);
    // CoreDNS believes for half a minute that something isn't there.
    eventually(PODS, "both tenants are told the same", async || {
        let got = answers(&shared_pod, &ours, &questions).await?;
        let expected = answers(&dedicated_pod, &theirs, &questions).await?;
        ensure!(got.len() == QUESTIONS.len(), "{} answers", got.len());
        let pairs = got.iter().zip(&expected);
        let differ = pairs.filter(|(got, expected)| got != expected);
        let differ: Vec<String> = differ
            .map(|(got, expected)| format!("{got}\n  CoreDNS: {expected}"))
            .collect();
        ensure!(differ.is_empty(), "{}", differ.join("\n"));
        let answered = got
            .iter()
            .filter(|line| line.contains("NOERROR {") || line.contains(" IN "));
        ensure!(
            answered.count() > 20,
            "most names aren't known:\n{}",
            got.join("\n")
        );
        Ok(())
    })
    .await
}

/// No name or address of another tenant, of the super cluster, or of the tenant's own super namespaces.
async fn nothing_of_others(shared: &Space, dedicated: &Space) -> anyhow::Result<()> {
    let folder = Folder::make()?;
    let kubectl = kubectl_of(&folder, &shared.tenant.kubeconfig, SPACE)?;
    let theirs = addresses(dedicated).await?;
    let api = shared.above().get(SERVICE, "default", "kubernetes").await?;
    let dns = shared
        .above()
        .get(SERVICE, "kube-system", "kube-dns")
        .await?;
    let b = B.get().await?;
    let mut questions = vec![
        format!("web.{}.svc.@ A", dedicated.twin),
        format!("web.{}.svc.@ A", shared.twin),
        format!("kubernetes.{}.svc.@ A", b.control_plane_namespace()),
        "sublet-dns.sublet-system.svc.@ A".to_owned(),
    ];
    let foreign = [text(&api, "/spec/clusterIP"), text(&dns, "/spec/clusterIP")];
    let foreign = foreign.into_iter().map(str::parse::<Ipv4Addr>);
    let foreign = foreign.collect::<Result<Vec<_>, _>>()?;
    for address in foreign.iter().chain(theirs.values()) {
        questions.push(format!("{} PTR", written(*address)[0].1));
    }
    // An answer may get lost on the way; one that tells something comes again.
    eventually(SOON, "nothing is told of others", async || {
        for line in answers(&kubectl, &BTreeMap::new(), &questions).await? {
            ensure!(line.contains(": NXDOMAIN"), "{line}");
        }
        Ok(())
    })
    .await
}

/// What else is true of such a tenant.
async fn outside_the_index(shared: &Space) -> anyhow::Result<()> {
    let name = &shared.tenant.name;
    let vcp = shared
        .above()
        .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, name)
        .await?;
    ensure!(condition(&vcp, "DNSReady") == "True", "{vcp}");
    let own = shared.side().list(DEPLOYMENT, "kube-system", "").await?;
    ensure!(own.is_empty(), "the tenant runs {own:?}");
    ensure!(shared.side().list(POD, "kube-system", "").await?.is_empty());
    let server = shared
        .above()
        .get(SERVICE, "sublet-system", "sublet-dns")
        .await?;
    let pod = shared.twin(POD, "client").await?;
    ensure!(
        items(&pod, "/spec/dnsConfig/nameservers") == [server["spec"]["clusterIP"].clone()],
        "{pod}"
    );

    // A Service that becomes a name and an address again keeps being found.
    let folder = Folder::make()?;
    let kubectl = kubectl_of(&folder, &shared.tenant.kubeconfig, SPACE)?;
    let says = async |wanted: &str| {
        eventually(SOON, &format!("turn is {wanted}"), async || {
            let asked = ["turn.~ A".to_owned()];
            let said = answers(&kubectl, &addresses(shared).await?, &asked).await?;
            ensure!(said[0].contains(wanted), "{}", said[0]);
            Ok(())
        })
        .await
    };
    let mut turn = make::service("turn");
    turn["spec"]["selector"] = json!({"app": "web"});
    let made = shared.create(SERVICE, turn).await?;
    says(text(&made, "/spec/clusterIP")).await?;
    let into_a_name = json!({"spec": {"type": "ExternalName", "clusterIP": null, "clusterIPs": null,
        "externalName": format!("web.{SPACE}.svc.cluster.local")}});
    shared.merge(SERVICE, "turn", into_a_name).await?;
    says("{plain web}").await?;
    let back = json!({"spec": {"type": "ClusterIP", "externalName": null}});
    let made = shared.merge(SERVICE, "turn", back).await?;
    says(text(&made, "/spec/clusterIP")).await?;

    // The tenant's own policies rule the way to the server as they rule the way to a CoreDNS.
    let policy = |name: &str, egress: Value| {
        json!({"metadata": {"name": name}, "spec": {
            "podSelector": {}, "policyTypes": ["Egress"], "egress": egress,
        }})
    };
    shared
        .create(NETWORK_POLICY, policy("silent", json!([])))
        .await?;
    says("none").await?;
    let dns = json!([{
        "to": [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    }]);
    shared.create(NETWORK_POLICY, policy("dns", dns)).await?;
    says(text(&made, "/spec/clusterIP")).await
}
