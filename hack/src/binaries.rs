//! Builds the real Kubernetes parts from their Go modules, once per content.
//!
//! A program is looked up in `SUBLET_ASSETS` first, then in the cache, and built last. What a build
//! depends on (module files, sources, Go version, flags) is its cache key.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::cache::{self, Key};
use crate::progress::Step;
use crate::{needs, paths, run};

/// The Kubernetes version everything is built from.
pub(crate) const KUBERNETES: &str = "1.36.3";
/// The version of etcd in hack/etcd/go.mod.
pub(crate) const ETCD: &str = "3.6.16";
/// The version of CoreDNS in hack/coredns/go.mod.
pub(crate) const COREDNS: &str = "1.15.0";

/// Other versions of Kubernetes, for tenants of the long tests: the module under hack/, and what it is built from. Each
/// holds an API server and a controller-manager, linked as `kube-apiserver-1.34` and so on.
pub(crate) const SKEWED: [(&str, &str); 2] = [("kube-1.34", "1.34.4"), ("kube-1.37", "1.37.2")];
/// The version of Cluster API in hack/capi/go.mod.
pub(crate) const CLUSTER_API: &str = "1.13.5";
/// The module of Cluster API.
pub(crate) const CLUSTER_API_MODULE: &str = "sigs.k8s.io/cluster-api";

/// The version of cert-manager in hack/cert-manager/go.mod.
pub(crate) const CERT_MANAGER: &str = "1.21.2";
/// The module of cert-manager.
pub(crate) const CERT_MANAGER_MODULE: &str = "github.com/cert-manager/cert-manager";

/// One `go build`.
struct Build {
    /// The file it makes.
    name: &'static str,
    /// The folder under hack/ with the go.mod.
    module: &'static str,
    /// The Go package, as seen from that module.
    package: &'static str,
    /// Names that the file is linked as; a multi-call binary chooses by them.
    links: &'static [&'static str],
    /// `go test -c` instead of `go build`.
    is_test: bool,
}

const KUBE_LINKS: &[&str] = &[
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
];

const fn program(name: &'static str, module: &'static str, package: &'static str) -> Build {
    Build {
        name,
        module,
        package,
        links: &[],
        is_test: false,
    }
}

const BUILDS: &[Build] = &[
    Build {
        links: KUBE_LINKS,
        ..program("kube", "kube", ".")
    },
    program("kubectl", "kube", "k8s.io/kubernetes/cmd/kubectl"),
    program("agnhost", "kube", "k8s.io/kubernetes/test/images/agnhost"),
    program("nnp", "kube", "k8s.io/kubernetes/test/images/nonewprivs"),
    program("sample-apiserver", "kube", "k8s.io/sample-apiserver"),
    Build {
        is_test: true,
        ..program("e2e.test", "kube", "k8s.io/kubernetes/test/e2e")
    },
    program("ginkgo", "kube", "github.com/onsi/ginkgo/v2/ginkgo"),
    program("etcd", "etcd", "."),
    program("etcdctl", "etcd", "go.etcd.io/etcd/etcdctl/v3"),
    program("etcdutl", "etcd", "go.etcd.io/etcd/etcdutl/v3"),
    program("coredns", "coredns", "."),
    program("cluster-api", "capi", CLUSTER_API_MODULE),
    program(
        "clusterctl",
        "capi",
        "sigs.k8s.io/cluster-api/cmd/clusterctl",
    ),
    program("cert-manager-controller", "cert-manager", "./controller"),
    program("cert-manager-webhook", "cert-manager", "./webhook"),
    program("cert-manager-cainjector", "cert-manager", "./cainjector"),
    program("helm", "helm", "helm.sh/helm/v4/cmd/helm"),
    program("kwok", "kwok", "."),
    program(
        "metrics-server",
        "metrics-server",
        "sigs.k8s.io/metrics-server/cmd/metrics-server",
    ),
    program("provisioner", "provisioner", "."),
    Build {
        links: &["kube-apiserver-1.34", "kube-controller-manager-1.34"],
        ..program("kube-1.34", "kube-1.34", ".")
    },
    Build {
        links: &["kube-apiserver-1.37", "kube-controller-manager-1.37"],
        ..program("kube-1.37", "kube-1.37", ".")
    },
];

/// The path of a program: ready-made, cached, or built now.
pub(crate) fn path(program: &str) -> Result<PathBuf> {
    if let Some(ready) = asset(program)? {
        return Ok(ready);
    }
    let build = build_of(program)?;
    let key = key(build)?;
    let entry = if cache::holds("bin", build.name, &key)? {
        cache::entry("bin", build.name, &key, |_| Ok(()))?
    } else {
        let step = Step::start(format!("building {}", build.name));
        let entry = cache::entry("bin", build.name, &key, |folder| compile(build, folder))?;
        step.done("");
        entry
    };
    Ok(entry.join(program))
}

/// What `program` is made of, as text: the same text means the same file.
pub(crate) fn fingerprint(program: &str) -> Result<String> {
    if let Some(ready) = asset(program)? {
        let about = fs::metadata(&ready)?;
        return Ok(format!(
            "{} {} {:?}",
            ready.display(),
            about.len(),
            about.modified()?
        ));
    }
    Ok(key(build_of(program)?)?.text())
}

/// Links the programs into `target/super/bin`, where tests and people find them.
pub(crate) fn hand_out(programs: &[&str]) -> Result<()> {
    programs
        .iter()
        .try_for_each(|program| link(program, &path(program)?))
}

/// Links `target` into `target/super/bin` under this name.
pub(crate) fn link(name: &str, target: &Path) -> Result<()> {
    let folder = paths::handout().join("bin");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let place = folder.join(name);
    if fs::read_link(&place).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let draft = folder.join(format!(".{name}"));
    let _ = fs::remove_file(&draft);
    symlink(target, &draft)?;
    fs::rename(&draft, &place).with_context(|| format!("cannot link {}", place.display()))
}

/// The module folder of a Go module that hack/`module` depends on, for files that come with the source.
pub(crate) fn module_folder(module: &str, dependency: &str) -> Result<PathBuf> {
    let mut command = go()?;
    command.current_dir(paths::repository().join("hack").join(module));
    command.args(["mod", "download", "-json", dependency]);
    let answer: serde_json::Value = serde_json::from_str(&run::output(&mut command)?)?;
    let folder = answer["Dir"]
        .as_str()
        .with_context(|| format!("{dependency} has no folder"))?;
    Ok(PathBuf::from(folder))
}

fn build_of(program: &str) -> Result<&'static Build> {
    BUILDS
        .iter()
        .find(|build| build.name == program || build.links.contains(&program))
        .with_context(|| format!("no build makes {program}"))
}

/// The program from the folder that SUBLET_ASSETS names, if it has it.
fn asset(program: &str) -> Result<Option<PathBuf>> {
    let Some(folder) = env::var_os("SUBLET_ASSETS").filter(|folder| !folder.is_empty()) else {
        return Ok(None);
    };
    let folder = Path::new(&folder);
    if !folder.is_dir() {
        bail!(
            "SUBLET_ASSETS names {}, which is not a folder",
            folder.display()
        );
    }
    let candidate = folder.join(program);
    Ok(candidate
        .is_file()
        .then(|| candidate.canonicalize())
        .transpose()?)
}

fn go() -> Result<Command> {
    Ok(run::command(needs::go()?, [] as [&str; 0]))
}

fn go_version() -> Result<&'static str> {
    static VERSION: OnceLock<String> = OnceLock::new();
    if let Some(version) = VERSION.get() {
        return Ok(version);
    }
    let mut command = go()?;
    // Asked inside a module, since its go.mod may make Go switch to another toolchain.
    command
        .current_dir(paths::repository().join("hack/kube"))
        .args(["env", "GOVERSION", "GOARCH"]);
    let version = run::output(&mut command)?;
    Ok(VERSION.get_or_init(|| version.trim().replace('\n', " ")))
}

fn key(build: &Build) -> Result<Key> {
    let mut key = Key::new("go build 1");
    key.add(go_version()?)
        .add(build.name)
        .add(build.package)
        .add(link_flags(build));
    let folder = paths::repository().join("hack").join(build.module);
    for file in module_files(&folder)? {
        let place = file.strip_prefix(&folder).unwrap_or(&file);
        key.add(place.as_os_str().as_encoded_bytes());
        key.add_file(&file)?;
    }
    Ok(key)
}

/// What a module consists of: its module files and sources, those of its packages among them.
fn module_files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let listing =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = BTreeSet::new();
    for entry in listing {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            files.extend(module_files(&path)?);
        } else if name == "go.mod" || name == "go.sum" || name.ends_with(".go") {
            files.insert(path);
        }
    }
    Ok(files)
}

/// Hands out the programs of [`SKEWED`], building what is missing.
pub(crate) fn hand_out_skewed() -> Result<()> {
    for (module, _) in SKEWED {
        hand_out(build_of(module)?.links)?;
    }
    Ok(())
}

/// The Kubernetes version that a module under hack/ is.
fn kubernetes_of(module: &str) -> Option<&'static str> {
    let all = [("kube", KUBERNETES)].into_iter().chain(SKEWED);
    all.into_iter()
        .find_map(|(known, version)| (known == module).then_some(version))
}

/// Without the version stamps the servers call themselves v0.0.0-master, and clients that check refuse them.
fn link_flags(build: &Build) -> String {
    let Some(version) = kubernetes_of(build.module) else {
        return "-s -w".to_owned();
    };
    let mut numbers = version.split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let stamp = "-X k8s.io/component-base/version";
    format!("-s -w {stamp}.gitVersion=v{version} {stamp}.gitMajor={major} {stamp}.gitMinor={minor}")
}

fn compile(build: &Build, folder: &Path) -> Result<()> {
    let mut command = go()?;
    command
        .current_dir(paths::repository().join("hack").join(build.module))
        .env("CGO_ENABLED", "0");
    command.args(if build.is_test {
        // Else it examines what Kubernetes wrote, and all that it imports: minutes.
        &["test", "-c", "-vet=off"][..]
    } else {
        &["build"][..]
    });
    command.args([
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        &link_flags(build),
        "-o",
    ]);
    command.arg(folder.join(build.name)).arg(build.package);
    run::output(&mut command)?;
    for link in build.links {
        symlink(build.name, folder.join(link))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_leads_to_its_build() {
        for link in KUBE_LINKS {
            assert_eq!(build_of(link).unwrap().name, "kube");
        }
        assert!(build_of("no-such-program").is_err());
    }

    #[test]
    fn versions_match_the_modules() {
        for (module, dependency, version) in [
            ("kube", "k8s.io/kubernetes", KUBERNETES),
            ("etcd", "go.etcd.io/etcd/server/v3", ETCD),
            ("coredns", "github.com/coredns/coredns", COREDNS),
            (SKEWED[0].0, "k8s.io/kubernetes", SKEWED[0].1),
            (SKEWED[1].0, "k8s.io/kubernetes", SKEWED[1].1),
            ("capi", CLUSTER_API_MODULE, CLUSTER_API),
            ("cert-manager", CERT_MANAGER_MODULE, CERT_MANAGER),
        ] {
            let manifest =
                fs::read_to_string(paths::repository().join("hack").join(module).join("go.mod"))
                    .unwrap();
            assert!(
                manifest.contains(&format!("{dependency} v{version}")),
                "{module}"
            );
        }
    }

    #[test]
    fn the_shipped_class_names_the_coredns_that_is_built() {
        let class = fs::read_to_string(paths::repository().join("manifests/class.yaml")).unwrap();
        assert!(class.contains(&format!("coredns:v{COREDNS}\n")), "{class}");
    }
}
