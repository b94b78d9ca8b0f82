//! `clusterctl init` with the providers' own files, on an API server of its own: all that they hold is put in, is known to
//! clusterctl from then on, and goes again.
//!
//! Nothing runs there, since there are no nodes. Of core and of cert-manager there are the definitions alone, as their
//! sources have them; clusterctl takes them from a folder, since a test doesn't ask the internet.

use super::tools;
use crate::install::{Bare, SYSTEM};
use anyhow::{Context, ensure};
use e2e::{
    kind::{
        CLASS, CLUSTER, DEPLOYMENT, Kind, NAMESPACE, SERVICE, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE,
    },
    program::{Folder, Outcome, Program},
    read::{items, label, name, text, uid},
    settings,
    space::run,
    wait::{PODS, eventually},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// What clusterctl writes down of a provider.
const PROVIDER: Kind = Kind {
    api_version: "clusterctl.cluster.x-k8s.io/v1alpha3",
    name: "Provider",
    plural: "providers",
};
/// Where the second provider is.
const INFRASTRUCTURE_SYSTEM: &str = "sublet-infrastructure-system";
/// As docs/cluster-api.md has it.
const INIT: &str = "init --bootstrap - --control-plane sublet --infrastructure sublet";
/// Where images come from unless a configuration says something else.
const NO_REGISTRY: &str = "sublet.dev";
const REGISTRY: &str = "registry.example.com";
/// clusterctl tries for some 160 s before it says what it was refused.
const PATIENT: Duration = Duration::from_secs(600);
/// Where it tries whether cert-manager works.
const TRIED: &str = "cert-manager-test";
/// Beginning of what it says when it puts in a provider.
const INSTALLING: &str = "Installing provider=";

/// A management cluster in which nothing is, with clusterctl's configuration.
struct Management {
    bare: Bare,
    clusterctl: Program,
    /// Where the daemons' images are to come from.
    registry: &'static str,
    folder: Folder,
}

impl Management {
    async fn start(registry: &'static str) -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        let mut providers = tools::providers()?;
        providers.push(core(folder.path())?);
        let mut configuration = json!({
            "providers": providers,
            "cert-manager": cert_manager(folder.path())?,
            // It would ask the internet.
            "CLUSTERCTL_DISABLE_VERSIONCHECK": "true",
        });
        if registry != NO_REGISTRY {
            configuration["images"] = json!({"control-plane-sublet": {"repository": registry}});
        }
        fs::write(
            folder.path().join("clusterctl.yaml"),
            configuration.to_string(),
        )?;
        let bare = Bare::start().await?;
        let clusterctl = bare.kubectl.like(settings::part("clusterctl")?);
        Ok(Self {
            clusterctl: clusterctl.with_limit(PATIENT),
            bare,
            registry,
            folder,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn clusterctl(&self, line: &str) -> anyhow::Result<Outcome> {
        let config = self.file("clusterctl.yaml");
        let line = format!("{line} --config {}", config.display());
        self.clusterctl.run(&line).await
    }

    /// `clusterctl init`. It looks for cert-manager in a namespace that it deletes again, and mustn't find the one of its last
    /// run while that goes.
    async fn init(&self, line: &str) -> anyhow::Result<Outcome> {
        eventually(PODS, "the namespace of the last run is gone", async || {
            let left = self.bare.side.find(NAMESPACE, "", TRIED).await?;
            ensure!(left.is_none(), "{TRIED} is there");
            Ok(())
        })
        .await?;
        self.clusterctl(line).await
    }

    /// The components of a provider with the images that are asked for, in a file.
    fn components(&self, file: &str) -> anyhow::Result<PathBuf> {
        let text = fs::read_to_string(Path::new(tools::ROOT).join(file))?;
        let ours = format!("image: {NO_REGISTRY}/");
        let text = text.replace(&ours, &format!("image: {}/", self.registry));
        let copy = self.file(&file.replace('/', "-"));
        fs::write(&copy, text)?;
        Ok(copy)
    }

    /// All of both providers is there as their files say it, and bears the labels by which clusterctl finds it.
    async fn is_complete(&self) -> anyhow::Result<()> {
        for (provider, _, file) in tools::PROVIDERS {
            let file = self.components(file)?;
            // Controllers write into some of it, and two reads may differ by that.
            eventually(PODS, "all is as the file says", async || {
                let line = format!("diff --server-side --force-conflicts -f {}", file.display());
                self.bare.kubectl.run(&line).await?.ok()
            })
            .await
            .with_context(|| format!("{provider}: {}", file.display()))?;
        }
        for (kind, file) in [
            ("control-plane-sublet", tools::PROVIDERS[0].2),
            ("infrastructure-sublet", tools::PROVIDERS[1].2),
        ] {
            let file = self.components(file)?;
            let wanted = documents(&fs::read_to_string(&file)?)?.len();
            let found = self.found(&file).await?;
            ensure!(
                found.len() == wanted && wanted > 2,
                "{kind}: {} of {wanted} objects",
                found.len()
            );
            for object in &found {
                ensure!(
                    label(object, "clusterctl.cluster.x-k8s.io") == Some("")
                        && label(object, "cluster.x-k8s.io/provider") == Some(kind),
                    "{} {}: {}",
                    object["kind"],
                    name(object),
                    object["metadata"]["labels"]
                );
            }
        }
        Ok(())
    }

    async fn found(&self, file: &Path) -> anyhow::Result<Vec<Value>> {
        let line = format!("get -o json -f {}", file.display());
        let list = self.bare.kubectl.run(&line).await?.ok()?;
        let list: Value = serde_json::from_str(&list)?;
        Ok(items(&list, "/items").to_vec())
    }

    /// Who each object of the control plane provider is, and how often its spec has changed.
    async fn objects(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let found = self.found(&self.components(tools::PROVIDERS[0].2)?).await?;
        let each = found.iter().map(|object| {
            let which = format!("{} {}", object["kind"], name(object));
            let seen = format!("{} {}", uid(object), object["metadata"]["generation"]);
            (which, seen)
        });
        Ok(each.collect())
    }

    /// Name, namespace, type, name of the provider and version of each that clusterctl knows, and nothing else.
    async fn known(&self) -> anyhow::Result<BTreeSet<String>> {
        let found = self.bare.side.list(PROVIDER, "", "").await?;
        let each = found.iter().map(|provider| {
            let namespace = text(provider, "/metadata/namespace");
            let facts = ["/type", "/providerName", "/version"].map(|at| text(provider, at));
            format!("{namespace}/{} {}", name(provider), facts.join(" "))
        });
        Ok(each.collect())
    }

    /// What is left of both providers, as kubectl names it. Classes, whose kind may be gone, are asked for elsewhere.
    async fn left(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut objects = vec![];
        for (_, _, file) in tools::PROVIDERS {
            objects.extend(documents(&fs::read_to_string(self.components(file)?)?)?);
        }
        objects.retain(|object| object["kind"] != CLASS.name);
        let file = self.file("asked.json");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        fs::write(&file, list.to_string())?;
        let line = format!("get --ignore-not-found -o name -f {}", file.display());
        let named = self.bare.kubectl.run(&line).await?.ok()?;
        Ok(named.lines().map(str::to_owned).collect())
    }

    /// Waits until of both providers there is nothing but objects of these kinds, and something of each.
    async fn only_is_left(&self, kinds: &[&str]) -> anyhow::Result<()> {
        let wanted: BTreeSet<&str> = kinds.iter().copied().collect();
        eventually(PODS, &format!("only {wanted:?} are left"), async || {
            let left = self.left().await?;
            let kinds = left.iter().filter_map(|name| name.split(['.', '/']).next());
            ensure!(kinds.collect::<BTreeSet<_>>() == wanted, "{left:?}");
            Ok(())
        })
        .await
    }
}

/// The objects of a file.
fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    documents.retain(Value::is_object);
    Ok(documents)
}

/// A manifest: a namespace, and all YAML of a folder.
fn manifest(namespace: &str, folder: &Path) -> anyhow::Result<String> {
    let mut manifest =
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
    let mut files = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<PathBuf>>>()?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    files.sort();
    for file in files {
        let text = fs::read_to_string(file)?;
        let text = text.trim_start().trim_start_matches("---");
        manifest += &format!("---\n{text}\n");
    }
    Ok(manifest)
}

/// A version of something in a folder of clusterctl's kind.
fn release(folder: &Path, of: &str, version: &str) -> anyhow::Result<PathBuf> {
    let release = folder.join(of).join(version);
    fs::create_dir_all(&release)?;
    Ok(release)
}

/// Core's definitions as a provider; its controllers and webhooks are missing.
fn core(folder: &Path) -> anyhow::Result<Value> {
    let source = settings::cluster_api_source()?;
    let release = release(folder, "cluster-api", &settings::version(&source)?)?;
    let metadata = fs::read(source.join("metadata.yaml"))?;
    fs::write(release.join("metadata.yaml"), metadata)?;
    let file = release.join("core-components.yaml");
    fs::write(
        &file,
        manifest("capi-system", &source.join("config/crd/bases"))?,
    )?;
    Ok(json!({"name": "cluster-api", "type": "CoreProvider", "url": file}))
}

/// cert-manager's definitions: clusterctl waits until issuers and certificates can be made, and no webhook refuses any.
fn cert_manager(folder: &Path) -> anyhow::Result<Value> {
    let source = settings::cert_manager_source()?;
    let version = settings::version(&source)?;
    let file = release(folder, "cert-manager", &version)?.join("cert-manager.yaml");
    fs::write(
        &file,
        manifest("cert-manager", &source.join("deploy/crds"))?,
    )?;
    Ok(json!({"url": file, "version": version, "timeout": "3m"}))
}

fn core_version() -> anyhow::Result<String> {
    settings::version(&settings::cluster_api_source()?)
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn clusterctl_init_puts_the_providers_in() {
    run(async || {
        let management = Management::start(NO_REGISTRY).await?;
        let first = management.init(INIT).await?;
        for (provider, place) in [
            ("control-plane-sublet", SYSTEM),
            ("infrastructure-sublet", INFRASTRUCTURE_SYSTEM),
        ] {
            let told = format!(
                "{INSTALLING}\"{provider}\" version=\"v0.1.0\" targetNamespace=\"{place}\""
            );
            ensure!(
                first.code == 0 && first.err.contains(&told),
                "{told:?} is missing: {first:#?}"
            );
        }
        management.is_complete().await?;
        are_known(&management).await?;

        // Once more: nothing happens to what is there.
        let before = management.objects().await?;
        let again = management.init(INIT).await?;
        ensure!(
            again.code == 0 && !again.err.contains(INSTALLING),
            "{again:#?}"
        );
        let after = management.objects().await?;
        ensure!(before == after, "{before:#?}\n{after:#?}");

        clusters_are_made_and_hold_up_a_deletion(&management).await?;
        taken_out(&management).await
    });
}

/// clusterctl's other commands find both.
async fn are_known(management: &Management) -> anyhow::Result<()> {
    let core = core_version()?;
    let known = management.known().await?;
    let wanted = [
        format!("capi-system/cluster-api CoreProvider cluster-api {core}"),
        format!(
            "{INFRASTRUCTURE_SYSTEM}/infrastructure-sublet InfrastructureProvider sublet v0.1.0"
        ),
        format!("{SYSTEM}/control-plane-sublet ControlPlaneProvider sublet v0.1.0"),
    ];
    ensure!(known == BTreeSet::from(wanted), "{known:#?}");
    let plan = management.clusterctl("upgrade plan").await?;
    let plan = plan.says(&["v1beta2", "You are already up to date!"])?;
    for row in [
        ["control-plane-sublet", SYSTEM, "ControlPlaneProvider"],
        [
            "infrastructure-sublet",
            INFRASTRUCTURE_SYSTEM,
            "InfrastructureProvider",
        ],
    ] {
        let wanted = [&row[..], &["v0.1.0", "Already", "up", "to", "date"][..]].concat();
        let is_told = plan
            .lines()
            .any(|line| line.split_whitespace().eq(wanted.iter().copied()));
        ensure!(is_told, "{wanted:?} is missing:\n{plan}");
    }
    Ok(())
}

/// What the page has people type next: the version of the provider comes from what clusterctl wrote down.
async fn clusters_are_made_and_hold_up_a_deletion(management: &Management) -> anyhow::Result<()> {
    let bare = &management.bare;
    bare.kubectl.run("create namespace teams").await?.ok()?;
    let generate =
        "generate cluster blue --infrastructure sublet -n teams --kubernetes-version v1.36.3";
    let made = management.clusterctl(generate).await?.ok()?;
    bare.kubectl
        .feed("apply -f -", &made)
        .await?
        .says(&["cluster.cluster.x-k8s.io/blue created"])?;
    bare.kubectl
        .run("-n teams get cluster,scp,scl")
        .await?
        .says(&[
            "cluster.cluster.x-k8s.io/blue",
            "subletcontrolplane.controlplane.cluster.x-k8s.io/blue",
            "subletcluster.infrastructure.cluster.x-k8s.io/blue",
        ])?;
    management
        .clusterctl("describe cluster blue -n teams --show-conditions=all")
        .await?
        .says(&["SubletControlPlane/blue", "SubletCluster/blue"])?;

    let delete = "delete --control-plane sublet --infrastructure sublet --include-crd";
    let refused = management.clusterctl(delete).await?;
    refused.fails(1, &["found existing objects for provider CRDs"])?;
    management.is_complete().await?;
    // No controller runs that would take objects of theirs along.
    for kind in [CLUSTER, SUBLET_CONTROL_PLANE, SUBLET_CLUSTER] {
        bare.side.delete(kind, "teams", "blue").await?;
    }
    Ok(())
}

/// As the page has it: all of Sublet by its own command, and by clusterctl the rest.
async fn taken_out(management: &Management) -> anyhow::Result<()> {
    let done = management.bare.sublet.run("uninstall --yes").await?;
    done.says(&["Sublet is uninstalled"])?;
    let rest = "delete --infrastructure sublet --include-namespace";
    management.clusterctl(rest).await?.ok()?;
    management.only_is_left(&[]).await?;
    let core = core_version()?;
    let known = management.known().await?;
    let wanted = [format!(
        "capi-system/cluster-api CoreProvider cluster-api {core}"
    )];
    ensure!(known == BTreeSet::from(wanted), "{known:#?}");
    Ok(())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn sublet_and_clusterctl_take_over_from_each_other_and_what_a_deletion_leaves_is_known() {
    run(async || {
        let management = Management::start(REGISTRY).await?;
        management.init(INIT).await?.ok()?;
        management.is_complete().await?;
        brought_up_to_date(&management).await?;

        // What clusterctl deletes of a provider, at an upgrade too: addresses go with the Services.
        let both = "delete --control-plane sublet --infrastructure sublet";
        management.clusterctl(both).await?.ok()?;
        let stay = [
            "clusterrole",
            "clusterrolebinding",
            "customresourcedefinition",
            "namespace",
            "priorityclass",
        ];
        management.only_is_left(&stay).await?;
        let bare = &management.bare;
        bare.side.get(CLASS, "", "default").await?;
        let services = bare.side.list(SERVICE, SYSTEM, "").await?;
        ensure!(services.is_empty(), "{} Services", services.len());

        // It is put in again over what was left.
        management.init(INIT).await?.ok()?;
        management.is_complete().await?;

        // All of it goes but what is the whole cluster's, once there is no class.
        let all = format!("{both} --include-crd --include-namespace");
        let refused = management.clusterctl(&all).await?;
        refused.fails(1, &["found existing objects for provider CRDs"])?;
        bare.side.delete(CLASS, "", "default").await?;
        management.clusterctl(&all).await?.ok()?;
        let stay = ["clusterrole", "clusterrolebinding", "priorityclass"];
        management.only_is_left(&stay).await?;
        let done = bare.sublet.run("uninstall --yes").await?;
        done.says(&["Sublet is uninstalled"])?;
        management.only_is_left(&[]).await?;
        for namespace in [SYSTEM, INFRASTRUCTURE_SYSTEM] {
            let left = bare.side.find(NAMESPACE, "", namespace).await?;
            ensure!(left.is_none(), "{namespace} is left");
        }
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn beside_core_alone_sublet_brings_the_provider_and_clusterctl_takes_it_over() {
    run(async || {
        let management = Management::start(NO_REGISTRY).await?;
        let alone = "init --bootstrap - --control-plane -";
        management.init(alone).await?.ok()?;
        let bare = &management.bare;
        let done = bare.sublet.run("install --no-wait --cluster-api").await?;
        done.says(&["is applied"])?;
        let known = management.known().await?;
        ensure!(known.len() == 1, "{known:#?}");
        let made = bare.sublet.run("create blue --cluster-api --no-wait");
        made.await?.ok()?;
        bare.side.get(CLUSTER, "default", "blue").await?;

        let before = addresses(bare).await?;
        management.init(INIT).await?.ok()?;
        management.is_complete().await?;
        let after = addresses(bare).await?;
        ensure!(
            before.len() > 2 && before == after,
            "{before:#?}\n{after:#?}"
        );
        let known = management.known().await?;
        ensure!(known.len() == 3, "{known:#?}");
        Ok(())
    });
}

/// Where Sublet's Services are, as kubeconfigs and pods of tenants have it.
async fn addresses(bare: &Bare) -> anyhow::Result<BTreeMap<String, Value>> {
    let services = bare.side.list(SERVICE, SYSTEM, "").await?;
    let each = services.iter().map(|service| {
        let ports: Vec<&Value> = items(service, "/spec/ports")
            .iter()
            .map(|port| &port["nodePort"])
            .collect();
        let address = json!([service["spec"]["clusterIP"], ports]);
        (name(service).to_owned(), address)
    });
    Ok(each.collect())
}

/// `sublet install` brings all to its own version, and what clusterctl knows stays.
async fn brought_up_to_date(management: &Management) -> anyhow::Result<()> {
    let bare = &management.bare;
    // As an earlier version's files had it.
    let old = r#"patch controlplaneclass default --type=merge --field-manager=clusterctl -p {"spec":{"audit":"None"}}"#;
    bare.kubectl.run(old).await?.ok()?;
    let known = management.known().await?;
    let done = bare.sublet.run("install --no-wait").await?;
    ensure!(!done.err.contains("kept as it is"), "{done:#?}");
    done.says(&["is applied"])?;
    management.is_complete().await?;
    let now = management.known().await?;
    ensure!(known == now, "{known:#?}\n{now:#?}");
    for daemon in bare.side.list(DEPLOYMENT, SYSTEM, "").await? {
        let image = text(&daemon, "/spec/template/spec/containers/0/image");
        ensure!(image.starts_with(&format!("{REGISTRY}/sublet-")), "{image}");
    }
    Ok(())
}
