use super::*;
use crate::{
    lifecycle::{starts::Limit, visits::Visits},
    object::{DEPLOYMENT, Kind, NAMESPACE, Object, POD, SERVICE, STATEFUL_SET},
    observe::Provider,
    played::{Played, Watch},
    spec::{
        claims,
        control_plane::tests::{class, owner, vcp},
    },
    watching::caches,
};
use api::keys;
use futures::FutureExt;
use kube::{Client, api::DynamicObject, runtime::watcher::Event};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::convert::Infallible;

mod counts;
mod hanging;
mod leaving;
mod refusing;
mod service_cidr;

const SYSTEM: &str = "sublet-system";
const OWN: &str = "/apis/sublet.dev/v1alpha1/namespaces/tenants/virtualcontrolplanes/acme";

/// A super cluster with one VirtualControlPlane, which a manager looks after.
struct World {
    cluster: Played,
    tenant: Played,
    cx: Arc<Context>,
    own: Watch<VirtualControlPlane>,
    /// What watches told of so far.
    told: BTreeSet<String>,
}

type Request = http::Request<kube::client::Body>;
type Response = http::Response<kube::client::Body>;

impl World {
    /// From now on this answers what is asked inside of the tenant, which is given to it.
    fn answered_by<F>(
        &mut self,
        answer: impl Fn(Played, Request) -> F + Clone + Send + Sync + 'static,
    ) where
        F: Future<Output = Response> + Send + 'static,
    {
        let inside = self.tenant.clone();
        let cx = Arc::get_mut(&mut self.cx).unwrap();
        cx.observer.enter = Arc::new(move |_| {
            let (inside, answer) = (inside.clone(), answer.clone());
            let service = tower::service_fn(move |request: Request| {
                let answered = answer(inside.clone(), request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let client = Client::new(service, "default");
            async move { Ok(client) }.boxed()
        });
    }

    async fn new() -> Self {
        Self::with(Provider::Off, [])
    }

    /// One in which watches told of these Clusters.
    fn with(provider: Provider, clusters: impl IntoIterator<Item = DynamicObject>) -> Self {
        let (cluster, tenant) = (Played::default(), Played::default());
        let mut own = vcp();
        own.spec.version = Some("1.36.3".into());
        cluster.put(OWN, json!(own));
        let classes = "/apis/sublet.dev/v1alpha1/controlplaneclasses";
        cluster.put(&format!("{classes}/default"), json!(class()));
        let system = format!("/api/v1/namespaces/{SYSTEM}");
        let door = json!({"spec": {
            "clusterIP": "10.96.0.60", "ports": [{"port": 443, "nodePort": 30443}],
        }});
        for service in [keys::PROXY, keys::FRONT_DOOR, keys::SHARED_DNS] {
            cluster.put(&format!("{system}/services/{service}"), door.clone());
        }
        for secret in [keys::PROXY_AUTHORITY, keys::PROXY_NODES] {
            let data = json!({"data": {"tls.crt": "cGVt"}});
            cluster.put(&format!("{system}/secrets/{secret}"), data);
        }
        let node = json!({"status": {
            "allocatable": {"cpu": "8"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
        }});
        cluster.put("/api/v1/nodes/one", node);
        tenant.put("/api/v1/namespaces/kube-system", json!({}));

        let (caches, writers) = caches::begin();
        Watch::of(writers.classes).list([class()]);
        Watch::of(writers.groups).list([]);
        Watch::of(writers.clusters).list(clusters);
        let range = "10.96.0.0/16".parse().unwrap();
        let mut observer = Observer::new(
            cluster.cluster(),
            SYSTEM.into(),
            Some(range),
            provider,
            Limit::new(None),
            Arc::new(Visits::default()),
            caches,
        );
        let inside = tenant.clone();
        observer.enter = Arc::new(move |_| {
            let client = inside.client();
            async move { Ok(client) }.boxed()
        });
        let cx = Context {
            observer,
            slices: tokio::sync::Mutex::new(()),
            metrics: Metrics::register(&mut Registry::default()),
            fails: Fails::default(),
        };
        let mut world = Self {
            cluster,
            tenant,
            cx: Arc::new(cx),
            own: Watch::of(writers.tenants),
            told: BTreeSet::new(),
        };
        let first = world.vcp();
        world.own.list([first]);
        world
    }

    fn vcp(&self) -> VirtualControlPlane {
        serde_json::from_value(self.cluster.get(OWN).unwrap()).unwrap()
    }

    /// Watches tell what has changed; whether any of it was news.
    fn tell(&mut self) -> bool {
        let now = self.vcp();
        self.own.tell(Event::Apply(now));
        let whose = ("tenants".to_owned(), "acme".to_owned());
        let mut is_news = false;
        for path in self.cluster.paths() {
            let Some(kind) = watched(&path) else { continue };
            let object = Object::observed(kind, self.cluster.get(&path).unwrap());
            if object.annotation(keys::CONTROL_PLANE) != Some("tenants/acme")
                || !self.told.insert(format!(
                    "{path} {}",
                    object.text("/metadata/resourceVersion")
                ))
            {
                continue;
            }
            let told = crate::watching::answers::ObjectVersion {
                kind,
                name: object.name(),
                version: object.text("/metadata/resourceVersion"),
            };
            is_news |= self.cx.observer.answers.heard(&whose, &told);
        }
        is_news
    }

    /// One pass; returns what was asked for by it, and in how long the next one comes.
    async fn pass(&mut self) -> (Vec<String>, controller::Action) {
        let own = Arc::new(self.vcp());
        let next = reconcile(own, self.cx.clone()).await.unwrap();
        (self.cluster.take_asked(), next)
    }

    /// Workloads run what they shall.
    fn run(&self) {
        let inside = owner().control_plane_namespace();
        for path in self.cluster.paths() {
            let is_workload = path.contains("/deployments/") || path.contains("/statefulsets/");
            if !is_workload {
                continue;
            }
            let main = self.cluster.change(&path, |main| {
                let (wanted, generation) = (
                    main["spec"]["replicas"].clone(),
                    main["metadata"]["generation"].clone(),
                );
                main["status"] = json!({
                    "replicas": wanted, "readyReplicas": wanted, "updatedReplicas": wanted,
                    "availableReplicas": wanted, "observedGeneration": generation,
                });
            });
            let name = main["metadata"]["name"].as_str().unwrap();
            let template = &main["spec"]["template"]["metadata"];
            let pod = json!({
                "metadata": {"labels": template["labels"], "annotations": template["annotations"]},
                "status": {
                    "podIP": if name == "etcd" { "" } else { "192.0.2.9" },
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            });
            let at = format!("/api/v1/namespaces/{inside}/pods/{name}-0");
            if self.cluster.get(&at).is_none() {
                self.cluster.put(&at, pod);
            }
        }
        for path in self.tenant.paths() {
            if path.contains("/deployments/") {
                self.tenant.change(&path, |main| {
                    main["status"] = json!({"availableReplicas": 1});
                });
            }
        }
    }

    /// The syncer takes the tenant up.
    fn sync(&self) {
        self.cluster.change(OWN, |vcp| {
            let synced = json!({
                "type": "Synced", "status": "True", "reason": "Watching", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            });
            vcp["status"]["conditions"]
                .as_array_mut()
                .unwrap()
                .push(synced);
        });
    }

    fn phase(&self) -> Option<Phase> {
        self.vcp().status?.phase
    }

    /// Passes until it is ready; returns what all of them asked for, and their number.
    async fn start(&mut self) -> (Vec<String>, usize) {
        let (mut asked, mut passes) = (vec![], 0);
        while self.phase() != Some(Phase::Ready) {
            assert!(passes < 20, "{:?}", self.vcp().status);
            asked.extend(self.pass().await.0);
            passes += 1;
            self.run();
            if passes == 3 {
                self.sync();
            }
            self.tell();
        }
        (asked, passes)
    }
}

/// The kind of an object that is watched.
fn watched(path: &str) -> Option<Kind> {
    let (collection, _) = path.rsplit_once('/')?;
    let plural = collection.rsplit('/').next()?;
    [NAMESPACE, POD, SERVICE, DEPLOYMENT, STATEFUL_SET]
        .into_iter()
        .find(|kind| kind.plural == plural)
}

/// Those that read, and those that write.
fn sorted(asked: &[String]) -> (Vec<&str>, Vec<&str>) {
    asked
        .iter()
        .map(String::as_str)
        .partition(|what| what.starts_with("GET "))
}

/// Those that are there more than once.
fn repeated<'a>(asked: &[&'a str]) -> Vec<(&'a str, usize)> {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for what in asked {
        *counts.entry(what).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count > 1).collect()
}

#[tokio::test]
async fn a_pass_over_a_tenant_that_is_ready_writes_nothing_and_reads_each_thing_once() {
    let mut world = World::new().await;
    world.start().await;
    world.pass().await;
    world.tenant.take_asked();
    let (asked, next) = world.pass().await;
    let (reads, writes) = sorted(&asked);
    assert!(writes.is_empty(), "{writes:?}");
    assert!(repeated(&reads).is_empty(), "{reads:?}");
    assert!(reads.len() <= 17, "{} {reads:#?}", reads.len());
    assert_eq!(next, controller::Action::requeue(Duration::from_secs(60)));
    let inside = world.tenant.take_asked();
    let (_, writes) = sorted(&inside);
    assert!(writes.is_empty(), "{writes:?}");
}

/// Each thing once, and again what watches tell of: all that a start needs to know.
#[tokio::test]
async fn a_start_reads_no_more_than_it_writes() {
    let mut world = World::new().await;
    let (asked, passes) = world.start().await;
    let (reads, writes) = sorted(&asked);
    let again = repeated(&reads);
    assert!(
        reads.len() <= writes.len(),
        "{} in {passes} passes, {again:#?}",
        reads.len()
    );
    assert!(writes.len() <= 41, "{} {writes:#?}", writes.len());
    // What is kept to make it so is let go of.
    world.tell();
    world.pass().await;
    let secrets = format!(
        "/api/v1/namespaces/{}/secrets",
        owner().control_plane_namespace()
    );
    for _ in 0..2 {
        let (asked, _) = world.pass().await;
        assert!(asked.contains(&format!("GET {secrets}")), "{asked:?}");
    }
}

#[tokio::test]
async fn what_is_edited_is_put_right_by_the_next_look() {
    let mut world = World::new().await;
    world.start().await;
    let inside = owner().control_plane_namespace();
    let policy =
        format!("/apis/networking.k8s.io/v1/namespaces/{inside}/networkpolicies/default-deny");
    let wanted = world.cluster.get(&policy).unwrap();
    world.cluster.change(&policy, |policy| {
        policy["spec"]["policyTypes"] = json!(["Egress"]);
    });
    world.pass().await;
    world.pass().await;
    let now = world.cluster.get(&policy).unwrap();
    assert_eq!(now["spec"]["policyTypes"], wanted["spec"]["policyTypes"]);
    let deployments = format!("/apis/apps/v1/namespaces/{inside}/deployments/kube-apiserver");
    world
        .cluster
        .change(&deployments, |main| main["spec"]["replicas"] = json!(7));
    assert!(world.tell(), "somebody else did it");
    world.pass().await;
    let now = world.cluster.get(&deployments).unwrap();
    assert_eq!(now["spec"]["replicas"], 1);
}

/// Two may see the same slice as free; what is free is looked at by one at a time, and never from memory.
#[tokio::test]
async fn a_slice_that_was_taken_meanwhile_is_not_claimed() {
    let mut world = World::new().await;
    let other = crate::spec::control_plane::Owner {
        name: "beta".into(),
        uid: "other".into(),
        ..owner()
    };
    let taken = claims::slice_claim(SYSTEM, "10.96.4.0/22".parse().unwrap(), &other);
    let mut taken = taken.body.clone();
    taken["metadata"]["labels"][keys::TENANT] = json!("another");
    let at = format!("/api/v1/namespaces/{SYSTEM}/configmaps/slice-10-96-4-0");
    world.cluster.put(&at, taken);
    world.pass().await;
    let slice = world.vcp().spec.network.service_cidr.unwrap();
    assert_ne!(slice, "10.96.4.0/22");
    let claimed = format!(
        "/api/v1/namespaces/{SYSTEM}/configmaps/{}",
        claims::slice_claim_name(slice.parse().unwrap())
    );
    let claim: Value = world.cluster.get(&claimed).unwrap();
    assert_eq!(claim["data"]["name"], "acme");
}

/// A move leaves the status behind; Cluster API never copies another endpoint.
#[tokio::test]
async fn after_a_move_clients_stay_with_the_node_that_cluster_api_knows() {
    const CLUSTER: &str = "/apis/cluster.x-k8s.io/v1beta2/namespaces/tenants/clusters/acme";
    const PLACE: &str =
        "/apis/infrastructure.cluster.x-k8s.io/v1alpha1/namespaces/tenants/subletclusters/acme-y";
    const MAKER: &str = "/apis/controlplane.cluster.x-k8s.io/v1alpha1/namespaces/tenants/subletcontrolplanes/acme-x";
    for (known, chosen) in [("192.0.2.2", "192.0.2.2"), ("192.0.2.7", "192.0.2.1")] {
        let mut world = World::with(Provider::On, []);
        let node = json!({"status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.2"}],
        }});
        world.cluster.put("/api/v1/nodes/two", node);
        let endpoint = json!({"controlPlaneEndpoint": {"host": known, "port": 30443}});
        world.cluster.put(MAKER, json!({"spec": endpoint}));
        let spec = json!({
            "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "SubletCluster", "name": "acme-y"},
            "controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "SubletControlPlane", "name": "acme-x"},
        });
        world.cluster.put(CLUSTER, json!({"spec": spec}));
        let identity = json!({"identity": world.vcp().spec.identity});
        world.cluster.put(PLACE, json!({"spec": identity}));
        let system = json!({"metadata": {"uid": "west"}});
        world.cluster.put("/api/v1/namespaces/kube-system", system);
        world.cluster.change(OWN, |vcp| {
            vcp["metadata"]["labels"][api::capi::CLUSTER_NAME] = json!("acme");
            vcp["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "controlplane.cluster.x-k8s.io/v1alpha1", "kind": "SubletControlPlane",
                "name": "acme-x", "uid": "x", "controller": true,
            }]);
        });
        world.tell();
        let (asked, passes) = world.start().await;
        let endpoint = world.vcp().status.unwrap().endpoint.unwrap();
        assert_eq!(endpoint, format!("https://{chosen}:30443"));
        for once in [MAKER, "/namespaces/kube-system"] {
            let of_it = |what: &&String| what.ends_with(once);
            assert_eq!(
                asked.iter().filter(of_it).count(),
                1,
                "{once} in {passes} passes"
            );
        }
        let marked = world.vcp().metadata.annotations.unwrap();
        assert_eq!(
            marked.get(keys::SUPER_CLUSTER).map(String::as_str),
            Some("west")
        );
    }
}

/// Before a Cluster is moved it is paused, and what is deleted then ends here alone.
#[tokio::test]
async fn a_deletion_goes_by_the_pause_of_the_cluster_as_it_is_at_that_moment() {
    const CLUSTER: &str = "/apis/cluster.x-k8s.io/v1beta2/namespaces/tenants/clusters/acme";
    let cluster = |paused: bool| {
        json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
            "metadata": {"name": "acme", "namespace": "tenants"}, "spec": {"paused": paused},
        })
    };
    let told = serde_json::from_value(cluster(false)).unwrap();
    let mut world = World::with(Provider::On, [told]);
    world.cluster.put(CLUSTER, cluster(true));
    world.cluster.change(OWN, |vcp| {
        vcp["metadata"]["labels"][api::capi::CLUSTER_NAME] = json!("acme");
        vcp["metadata"]["finalizers"] = json!([keys::FINALIZER]);
        vcp["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    world.tell();
    let (asked, _) = world.pass().await;
    assert_eq!(sorted(&asked).1, [format!("PATCH {OWN}/status")]);
    assert_eq!(world.phase(), Some(Phase::Paused));
}

#[tokio::test]
async fn nothing_is_kept_of_one_that_a_person_must_change_first() {
    let mut world = World::new().await;
    world.pass().await;
    world
        .cluster
        .change(OWN, |vcp| vcp["spec"]["className"] = json!("gold"));
    world.tell();
    world.pass().await;
    assert_eq!(world.phase(), Some(Phase::Failed));
    world.tell();
    let (asked, _) = world.pass().await;
    assert!(asked.contains(&format!("GET {OWN}")), "{asked:?}");
}
