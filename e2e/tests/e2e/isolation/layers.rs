//! Every attack by what a tenant writes and the super cluster acts on, against each layer alone and against none.
//!
//! Layer A is switched off by a syncer that was built to copy what tenants write; layer B by working under an admin's name,
//! which the admission policies don't look at; layer C by an API server without Pod Security. What is attacked can be
//! attacked, or the test would show nothing: without any layer each attack must work.

mod attacks;
mod page;

use crate::sync::kinds;
use anyhow::{Context, ensure};
use attacks::{Answer, Attack, Way};
use e2e::{
    kind::{self, CLASS, CONTROL_PLANE, EVENT, Kind, SECRET, SERVICE, SERVICE_ACCOUNT},
    make,
    read::{items, label, name, text, uid},
    rig::{Rig, Wish, on_rig},
    settings,
    side::{PatchType, Side},
    tenant::NAMESPACE_OF_TESTS,
    wait::{SOON, eventually},
};
use futures::{StreamExt, TryStreamExt, stream};
use page::Row;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Offered to the tenant.
const STORAGE_CLASS: &str = "fast";
/// Not offered.
const RUNTIME_CLASS: &str = "weak";
/// Offered to the tenant.
const INGRESS_CLASS: &str = "front";
/// Offered to the tenant: of Gateways, snapshots and devices.
const OFFERED: &str = "offered";
/// Allowed to the tenant.
const OWN_HOST: &str = "own.example.com";
/// Whose images the tenant may run.
const REGISTRY: &str = "registry.k8s.io";
/// With rights in the super cluster.
const ACCOUNT: &str = "super-admin";
/// A Service without a selector.
const OPEN_SERVICE: &str = "open";
/// A Secret of the platform in the super namespace; the tenant has none of that name.
const SECRET_NAME: &str = "platforms-secret";
/// As many as the tenant may have.
const NODE_PORTS: usize = 10;
/// What its claims may ask for in all.
const STORAGE: &str = "500Gi";
/// What its pods may ask for in all: less than a node has, since the tenant's API server admits no more to a pod that has one.
const CPU: &str = "50";
/// Of the super cluster's Service range, and of no tenant's slice; the tenant says that it is its own.
const FOREIGN_RANGE: &str = "10.200.192.0/20";
/// Name of the ServiceCIDR.
const FOREIGN: &str = "more";
/// What its addresses have in a Service that an attack uses, and no other.
const FOREIGN_ADDRESSES: &str = r#""clusterIP":"10.200.20"#;
/// Attacks at once.
const AT_ONCE: usize = 8;
/// Tells that a change of an object crossed.
const CHANGED: &str = "changed";

/// What stands between the tenant and the super cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    A,
    B,
    C,
    None,
}

impl Layer {
    /// A namespace of its own in the tenant.
    fn namespace(self) -> &'static str {
        match self {
            Self::A => "with-a",
            Self::B => "with-b",
            Self::C => "with-c",
            Self::None => "without",
        }
    }
}

/// An address of [`FOREIGN_RANGE`]. One that an earlier layer let through is another's by now.
fn foreign_address() -> String {
    let [third, fourth] = rand::random::<[u8; 2]>();
    format!("10.200.20{}.{}", third % 8, fourth.clamp(1, 254))
}

/// All attacks, each in all of its ways, in the order of the page, and a name for its object.
fn tries(owner: &str) -> Vec<(Attack, Way, String)> {
    let mut tries = vec![];
    for (number, attack) in attacks::all(owner).into_iter().enumerate() {
        for (index, way) in attack.ways.iter().enumerate() {
            tries.push((attack.clone(), *way, format!("attack{number}-{index}")));
        }
    }
    tries
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t5_to_t38_each_layer_holds_alone() {
    let results = Mutex::new(vec![vec![]; 4]);
    let plain = Wish::default();
    on_rig(plain, async |rig| {
        let found = run(rig, Layer::A).await?;
        results.lock()[0] = found;
        // Copies under an admin's name: Pod Security is what is left.
        let admin = rig.above.admin_kubeconfig_at(rig.proxy.port());
        let found = run_unguarded(rig, "c", &admin, Layer::C).await?;
        results.lock()[2] = found;
        Ok(())
    });
    let open = Wish {
        super_flags: vec!["--disable-admission-plugins=PodSecurity".into()],
        ..Wish::default()
    };
    on_rig(open, async |rig| {
        let own = rig.above.syncer_kubeconfig(rig.proxy.port());
        let found = run_unguarded(rig, "b", &own, Layer::B).await?;
        results.lock()[1] = found;
        let admin = rig.above.admin_kubeconfig_at(rig.proxy.port());
        let found = run_unguarded(rig, "n", &admin, Layer::None).await?;
        results.lock()[3] = found;
        let found = std::mem::take(&mut *results.lock());
        judge(&found)
    });
}

/// Every attack must work where nothing holds it, be held by layer A, and by one more layer unless it is said why not.
fn judge(found: &[Vec<String>]) -> anyhow::Result<()> {
    let mut rows = vec![];
    let mut wrong = vec![];
    for (index, (attack, way, _)) in tries("").into_iter().enumerate() {
        let results: [String; 4] = std::array::from_fn(|layer| found[layer][index].clone());
        let works = |layer: usize| results[layer] == WORKS;
        let held = !works(0) && works(3);
        let deep = !works(1) || !works(2);
        if !held || deep != attack.alone.is_empty() {
            wrong.push(format!(
                "{} {} by {way:?}: {results:?}",
                attack.class, attack.what
            ));
        }
        rows.push(Row {
            class: attack.class,
            what: attack.what,
            way: way.name(),
            results,
        });
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    page::compare(&rows)
}

const WORKS: &str = "works";

/// What becomes of each attack while one layer stands.
async fn run(rig: &Rig, layer: Layer) -> anyhow::Result<Vec<String>> {
    prepare(rig, layer).await?;
    let class = rig.side.get(CLASS, "", "default").await?;
    let all = tries(uid(&class));
    let mut found = vec![String::new(); all.len()];
    // While the tenant has a range that isn't its own, any of its Services may be given an address of it.
    for has_range in [false, true] {
        if has_range {
            give_foreign_addresses(rig, layer).await?;
        }
        let these = all.iter().enumerate();
        let these = these.filter(|(_, one)| (one.0.trace == FOREIGN_ADDRESSES) == has_range);
        let done = stream::iter(these).map(async |(index, (attack, way, name))| {
            let what = format!(
                "{} {} by {way:?} against {layer:?}",
                attack.class, attack.what
            );
            let done = attempt(rig, layer, attack, *way, name).await;
            anyhow::Ok((index, done.context(what)?))
        });
        let done: Vec<_> = done.buffered(AT_ONCE).try_collect().await?;
        for (index, result) in done {
            found[index] = result;
        }
    }
    let guest = &rig.tenants[0].side;
    guest.delete(kind::SERVICE_CIDR, "", FOREIGN).await?;
    Ok(found)
}

/// The same with a syncer that lacks layer A and acts by a kubeconfig.
async fn run_unguarded(
    rig: &mut Rig,
    name: &str,
    kubeconfig: &str,
    layer: Layer,
) -> anyhow::Result<Vec<String>> {
    rig.replace_syncer(name, settings::unguarded_syncer()?, kubeconfig)
        .await?;
    run(rig, layer).await
}

/// What attacks name: classes, an account, a Service, a Secret; and what the tenant may have.
async fn prepare(rig: &Rig, layer: Layer) -> anyhow::Result<()> {
    let (guest, namespace) = (&rig.tenants[0], layer.namespace());
    kinds::define(rig).await?;
    let twin = rig.twin_of(0, namespace).await?;
    let runtime = json!({"metadata": {"name": RUNTIME_CLASS}, "handler": "weak"});
    once(&rig.side, kind::RUNTIME_CLASS, runtime.clone()).await?;
    once(&guest.side, kind::RUNTIME_CLASS, runtime).await?;
    let offered = |name: &str| json!({"name": name, "labels": {api::keys::PUBLISHED: "true"}});
    let storage = json!({"metadata": offered(STORAGE_CLASS), "provisioner": "example.com/none"});
    let ingress =
        json!({"metadata": offered(INGRESS_CLASS), "spec": {"controller": "example.com/none"}});
    let gateways =
        json!({"metadata": offered(OFFERED), "spec": {"controllerName": "example.com/none"}});
    let snapshots =
        json!({"metadata": offered(OFFERED), "driver": "example.com", "deletionPolicy": "Delete"});
    let devices = json!({"metadata": offered(OFFERED), "spec": {}});
    for (of, class) in [
        (kind::STORAGE_CLASS, storage),
        (kind::INGRESS_CLASS, ingress),
        (kind::GATEWAY_CLASS, gateways),
        (kind::SNAPSHOT_CLASS, snapshots),
        (kind::DEVICE_CLASS, devices),
    ] {
        let name = name(&class).to_owned();
        once(&rig.side, of, class).await?;
        eventually(SOON, &format!("the class {name} is offered"), async || {
            Ok(guest.side.get(of, "", &name).await?)
        })
        .await?;
    }
    for (side, place) in [(&rig.side, twin.as_str()), (&guest.side, namespace)] {
        let account = json!({"metadata": {"name": ACCOUNT, "namespace": place}});
        side.create(SERVICE_ACCOUNT, account).await?;
    }
    let secret =
        json!({"metadata": {"name": SECRET_NAME, "namespace": twin}, "stringData": {"k": "v"}});
    rig.side.create(SECRET, secret).await?;
    limit(rig, layer).await?;
    let open = json!({"metadata": {"name": OPEN_SERVICE, "namespace": namespace}, "spec": {"ports": [{"port": 80}]}});
    guest.side.create(SERVICE, open).await?;
    eventually(SOON, "the Service crosses", async || {
        Ok(rig.side.get(SERVICE, &twin, OPEN_SERVICE).await?)
    })
    .await?;
    Ok(())
}

/// Lets the tenant's API server give Services addresses that aren't of the tenant's slice.
async fn give_foreign_addresses(rig: &Rig, layer: Layer) -> anyhow::Result<()> {
    let (guest, namespace) = (&rig.tenants[0].side, layer.namespace());
    let range = json!({"metadata": {"name": FOREIGN}, "spec": {"cidrs": [FOREIGN_RANGE]}});
    once(guest, kind::SERVICE_CIDR, range).await?;
    eventually(SOON, "the tenant gives such addresses away", async || {
        let mut service = make::service("tried");
        (service["apiVersion"], service["kind"]) =
            (SERVICE.api_version.into(), SERVICE.name.into());
        service["spec"]["clusterIP"] = foreign_address().into();
        let path = SERVICE.path(namespace, "") + "?dryRun=All";
        Ok(guest
            .request(http::Method::POST, &path, Some(service))
            .await?)
    })
    .await?;
    Ok(())
}

/// Makes an object unless an earlier layer's attacks left it.
async fn once(side: &Side, of: Kind, object: Value) -> anyhow::Result<()> {
    if side.find(of, "", name(&object)).await?.is_none() {
        side.create(of, object).await?;
    }
    Ok(())
}

/// Says which hosts and images the tenant may use, how large its containers may be, and how much it may have in all.
async fn limit(rig: &Rig, layer: Layer) -> anyhow::Result<()> {
    // Most pods here don't say what they need, and nobody may exceed what only some say.
    let containers = json!({"requests": {"cpu": "1m"}, "max": {"memory": "1Gi"}});
    let class = json!({"spec": {"ingressHosts": [OWN_HOST], "pods": {"containers": containers}}});
    rig.side.merge(CLASS, "", "default", class).await?;
    let policy = json!({
        "quota": {
            "services.nodeports": NODE_PORTS.to_string(), "requests.storage": STORAGE, "requests.cpu": CPU,
        },
        "pods": {"images": {"registries": [REGISTRY], "alwaysPull": true}},
    });
    let policy = json!({"spec": {"policy": policy}});
    let name = &rig.tenants[0].name;
    rig.side
        .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, name, policy)
        .await?;
    if layer != Layer::A {
        return Ok(());
    }
    // All of it is taken up together.
    eventually(SOON, "the quota holds", async || {
        let vcp = rig.vcp(0).await?;
        let limit = &vcp["status"]["quota"]["hard"]["services.nodeports"];
        ensure!(
            limit.as_str().map(str::parse) == Some(Ok(NODE_PORTS)),
            "{}",
            vcp["status"]
        );
        Ok(())
    })
    .await
}

/// Attacks, and says what became of it.
async fn attempt(
    rig: &Rig,
    layer: Layer,
    attack: &Attack,
    way: Way,
    name: &str,
) -> anyhow::Result<String> {
    let (guest, namespace) = (&rig.tenants[0], layer.namespace());
    let (of, twin) = (attack.kind, guest.twin(namespace));
    let mut object = (attack.first)(name);
    object["metadata"]["namespace"] = namespace.into();
    let mut change = attack.change.clone();
    let made = match way {
        Way::Create => {
            json_patch::merge(&mut object, &change);
            guest.side.create(of, object).await?
        }
        Way::Update(part) | Way::Patch(part) => {
            let made = guest.side.create(of, object).await?;
            eventually(SOON, "it crosses as long as it is harmless", async || {
                Ok(rig.side.get(of, &twin, name).await?)
            })
            .await?;
            if part.is_empty() {
                change["metadata"]["labels"][CHANGED] = "yes".into();
            }
            let mut path = of.path(namespace, name);
            if !part.is_empty() {
                path = format!("{path}/{part}");
            }
            if matches!(way, Way::Patch(_)) {
                guest.side.patch(&path, PatchType::Merge, change).await?;
            } else {
                // The syncer mirrors status meanwhile: what was read may be old by now.
                eventually(SOON, "it is written whole", async || {
                    let mut whole = guest.side.get(of, namespace, name).await?;
                    json_patch::merge(&mut whole, &change);
                    Ok(guest
                        .side
                        .request(http::Method::PUT, &path, Some(whole))
                        .await?)
                })
                .await?;
            }
            made
        }
    };
    if layer == Layer::A && attack.answer == Answer::Nowhere {
        return nowhere(rig, namespace, attack, way, name).await;
    }
    eventually(SOON, "something becomes of it", async || {
        let found = rig.side.find(of, &twin, name).await?;
        if found
            .as_ref()
            .is_some_and(|found| body(found).contains(attack.trace))
        {
            return Ok(WORKS.to_owned());
        }
        if layer == Layer::A && attack.answer == Answer::LeftOut {
            let crossed = found.is_some_and(|found| match way {
                Way::Create => true,
                Way::Update("") | Way::Patch("") => label(&found, CHANGED).is_some(),
                // All that is written to a part of an object is a container that comes later.
                Way::Update(_) | Way::Patch(_) => {
                    !items(&found, "/spec/ephemeralContainers").is_empty()
                }
            });
            ensure!(crossed, "it hasn't crossed yet");
            return Ok("left out".to_owned());
        }
        let told = told(rig, namespace, &made).await?;
        told.with_context(|| format!("no word of it, and {found:?}"))
    })
    .await
}

/// What a super object says of itself that may be a tenant's.
const OWN_WORDS: [&str; 3] = ["labels", "ownerReferences", "finalizers"];

/// All of a super object but what Sublet and the API server write on it.
fn body(object: &Value) -> String {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| OWN_WORDS.contains(&field.as_str()));
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    object.to_string()
}

/// What the tenant was told of its object.
async fn told(rig: &Rig, namespace: &str, made: &Value) -> anyhow::Result<Option<String>> {
    let events = rig.tenants[0].side.list(EVENT, namespace, "").await?;
    let about = events.iter().find(|event| {
        text(event, "/involvedObject/uid") == uid(made)
            && text(event, "/source/component") == api::keys::SYNCER_COMPONENT
    });
    Ok(about.map(|event| {
        let (reason, message) = (text(event, "/reason"), text(event, "/message"));
        if reason != "RefusedBySuperCluster" {
            return format!("`{reason}`");
        }
        let policy = message
            .split_once("ValidatingAdmissionPolicy '")
            .and_then(|(_, rest)| rest.split_once('\''));
        match policy {
            Some((policy, _)) => format!("`{policy}`"),
            None if message.contains("violates PodSecurity") => "Pod Security".to_owned(),
            None => message.to_owned(),
        }
    }))
}

const STAYS: &str = "stays in the tenant";

/// Waits until an object that was made later has crossed, and looks that this one hasn't; one that crossed before goes.
async fn nowhere(
    rig: &Rig,
    namespace: &str,
    attack: &Attack,
    way: Way,
    name: &str,
) -> anyhow::Result<String> {
    let (guest, twin) = (&rig.tenants[0], rig.tenants[0].twin(namespace));
    if way != Way::Create {
        return eventually(SOON, "what crossed before goes", async || {
            let found = rig.side.find(attack.kind, &twin, name).await?;
            match found {
                Some(found) => anyhow::bail!("{found}"),
                None => Ok(STAYS.to_owned()),
            }
        })
        .await;
    }
    let later = format!("{name}-later");
    let mut object = make::service(&later);
    object["metadata"]["namespace"] = namespace.into();
    guest.side.create(SERVICE, object).await?;
    eventually(SOON, "what came later crosses", async || {
        Ok(rig.side.get(SERVICE, &twin, &later).await?)
    })
    .await?;
    Ok(match rig.side.find(attack.kind, &twin, name).await? {
        Some(_) => WORKS.to_owned(),
        None => STAYS.to_owned(),
    })
}
