//! The third-party images: one table that says what is in each and under which names it is known.

use std::path::PathBuf;

use anyhow::Result;

use super::archive::{self, Image, Process};
use super::debian::{self, cached_layer};
use super::roots::{BUSYBOX, NGINX, TOOLS};
use super::tree::Layer;
use super::{Bundle, PAUSE};
use crate::binaries::{self, CERT_MANAGER, COREDNS, ETCD, KUBERNETES};
use crate::cache::{self, Key};
use crate::progress::Step;
use crate::{packages, run};

/// Where the upstream suite's images are.
const SUITE: &str = "registry.k8s.io/e2e-test-images";
/// What of Kubernetes a tenant's control plane runs.
const SERVERS: [&str; 2] = ["kube-apiserver", "kube-controller-manager"];
/// The user that everything without a reason to be root runs as.
const NOBODY_SPECIAL: &str = "65532:65532";

/// Makes the archive with all third-party images.
pub(crate) fn bundle() -> Result<Bundle> {
    archived("third-party", images()?)
}

/// Makes the archive with the images that long tests alone need: an operator's, which is installed in a tenant, and those of
/// the next minor version, which a tenant gets.
pub(crate) fn of_long_tests() -> Result<Bundle> {
    let parts = ["controller", "webhook", "cainjector"];
    let operator = parts.into_iter().map(cert_manager);
    let mut images = operator.collect::<Result<Vec<_>>>()?;
    let [_, (next, version)] = binaries::SKEWED;
    images.extend(kubernetes(next, version, &SERVERS)?);
    archived("long-tests", images)
}

/// Writes images into an archive in the cache.
fn archived(title: &str, images: Vec<Image>) -> Result<Bundle> {
    let digests = archive::digests(&images);
    let mut key = Key::new("archive 1");
    for (name, digest) in &digests {
        key.add(name).add(digest);
    }
    let folder = if cache::holds("images", title, &key)? {
        cache::entry("images", title, &key, |_| Ok(()))?
    } else {
        let step = Step::start("writing the image archive");
        let folder = cache::entry("images", title, &key, |folder| {
            archive::write(&folder.join("archive.tar"), &images)
        })?;
        step.done(&format!("{} names", digests.len()));
        folder
    };
    Ok(Bundle {
        archive: folder.join("archive.tar"),
        images: digests,
    })
}

fn images() -> Result<Vec<Image>> {
    let mut images = vec![
        image(
            &[PAUSE, "registry.k8s.io/pause:3.10"],
            vec![pause()?],
            NOBODY_SPECIAL,
            &["/pause"],
            &[],
        ),
        coredns()?,
    ];
    images.extend(control_plane()?);
    images.extend(busybox()?);
    images.extend(suite()?);
    images.push(nginx()?);
    Ok(images)
}

fn image(
    names: &[&str],
    layers: Vec<Layer>,
    user: &str,
    entrypoint: &[&str],
    arguments: &[&str],
) -> Image {
    let owned = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let process = Process {
        entrypoint: owned(entrypoint),
        arguments: owned(arguments),
        user: user.to_owned(),
        folder: "/".to_owned(),
    };
    Image {
        names: owned(names),
        layers,
        process,
    }
}

/// A layer that holds built programs: (program, its path in the image, mode), and links.
fn programs(name: &str, files: &[(&str, &str, u32)], links: &[(&str, &str)]) -> Result<Layer> {
    let mut key = Key::new("program layer 1");
    for (program, place, mode) in files {
        key.add(binaries::fingerprint(program)?)
            .add(place)
            .add(mode.to_string());
    }
    for (link, target) in links {
        key.add(link).add(target);
    }
    cached_layer("layers", name, &key, |tree, _| {
        for (program, place, mode) in files {
            // A link in the cache leads to the file that holds several programs.
            tree.copy(place, binaries::path(program)?.canonicalize()?, *mode);
        }
        for (link, target) in links {
            tree.link(link, target);
        }
        tree.folder("tmp", 0o1777);
        Ok(())
    })
}

/// The upstream pause program: waits for signals and buries children. In C, since one runs in every pod
/// and a Go runtime would cost each of them a megabyte.
fn pause() -> Result<Layer> {
    let mut key = Key::new("pause 1");
    key.add(KUBERNETES);
    cached_layer("layers", "pause", &key, |tree, work| {
        packages::ensure_for_images()?;
        let kubernetes = format!("k8s.io/kubernetes@v{KUBERNETES}");
        let source =
            binaries::module_folder("kube", &kubernetes)?.join("build/pause/linux/pause.c");
        let program = work.join("pause");
        let mut command = run::command(
            "cc",
            ["-Os", "-Wall", "-static", "-s", "-DVERSION=3.10.2", "-o"],
        );
        run::output(command.arg(&program).arg(source))?;
        tree.copy("pause", program, 0o755);
        Ok(())
    })
}

/// One of cert-manager's three programs.
fn cert_manager(part: &str) -> Result<Image> {
    let program = format!("cert-manager-{part}");
    let layer = programs(&program, &[(&program, &program, 0o755)], &[])?;
    let name = format!("quay.io/jetstack/{program}:v{CERT_MANAGER}");
    let entrypoint = format!("/{program}");
    Ok(image(
        &[&name],
        vec![layer],
        NOBODY_SPECIAL,
        &[&entrypoint],
        &[],
    ))
}

fn coredns() -> Result<Image> {
    let layer = programs("coredns", &[("coredns", "coredns", 0o755)], &[])?;
    let names = [
        format!("registry.k8s.io/coredns/coredns:v{COREDNS}"),
        format!("docker.io/coredns/coredns:{COREDNS}"),
    ];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(image(
        &names,
        vec![layer],
        NOBODY_SPECIAL,
        &["/coredns"],
        &[],
    ))
}

/// The Kubernetes parts of a control plane. They are one file under several names, so the nodes hold it once and running
/// ones share its memory pages.
fn kubernetes(module: &str, version: &str, parts: &[&str]) -> Result<Vec<Image>> {
    let places: Vec<String> = parts
        .iter()
        .map(|name| format!("usr/local/bin/{name}"))
        .collect();
    let links: Vec<(&str, &str)> = places
        .iter()
        .map(|place| (place.as_str(), "kube"))
        .collect();
    let program = module.replacen("kube", "kube-apiserver", 1);
    let file = (program.as_str(), "usr/local/bin/kube", 0o755);
    let shared = programs(module, &[file], &links)?;
    let mut images = Vec::new();
    for name in parts {
        let reference = format!("registry.k8s.io/{name}:v{version}");
        let entrypoint = format!("/usr/local/bin/{name}");
        images.push(image(
            &[&reference],
            vec![shared.clone()],
            NOBODY_SPECIAL,
            &[&entrypoint],
            &[],
        ));
    }
    Ok(images)
}

/// What tenants' control planes are made of.
fn control_plane() -> Result<Vec<Image>> {
    let [server, controllers] = SERVERS;
    let parts = [server, controllers, "kube-scheduler", "kube-proxy"];
    let mut images = kubernetes("kube", KUBERNETES, &parts)?;
    // As upstream's image has them; snapshots are made by the two others.
    let etcd = ["etcd", "etcdctl", "etcdutl"];
    let places = etcd.map(|name| format!("usr/local/bin/{name}"));
    let files = [0, 1, 2].map(|at| (etcd[at], places[at].as_str(), 0o755));
    let etcd = programs("etcd", &files, &[])?;
    let entrypoint = ["/usr/local/bin/etcd"];
    let ours = format!("registry.k8s.io/etcd:{ETCD}-0");
    images.push(image(
        &[&ours],
        vec![etcd.clone()],
        NOBODY_SPECIAL,
        &entrypoint,
        &[],
    ));
    // The suite's etcd writes below `/`, as upstream's does, which runs as root.
    images.push(image(
        &["registry.k8s.io/etcd:3.6.8-0"],
        vec![etcd],
        "",
        &[],
        &["etcd"],
    ));
    Ok(images)
}

fn busybox() -> Result<Vec<Image>> {
    let suite = ["1.37.0-1", "1.36.1-1"].map(|tag| format!("{SUITE}/busybox:{tag}"));
    let mut names: Vec<&str> = suite.iter().map(String::as_str).collect();
    names.extend([
        "docker.io/library/busybox:latest",
        "docker.io/library/busybox:1.36",
        "docker.io/library/busybox:1.37",
    ]);
    Ok(vec![image(
        &names,
        vec![debian::layer(&BUSYBOX)?],
        "",
        &[],
        &["sh"],
    )])
}

fn nginx() -> Result<Image> {
    let suite = ["1.15-4", "1.27-0"].map(|tag| format!("{SUITE}/nginx:{tag}"));
    let docker = ["latest", "1.27", "1.28", "alpine", "stable"]
        .map(|tag| format!("docker.io/library/nginx:{tag}"));
    let names: Vec<&str> = suite.iter().chain(&docker).map(String::as_str).collect();
    let layer = debian::layer(&NGINX)?;
    Ok(image(
        &names,
        vec![layer],
        "",
        &[],
        &["nginx", "-g", "daemon off;"],
    ))
}

/// The other images of the upstream suite.
fn suite() -> Result<Vec<Image>> {
    let tools = debian::layer(&TOOLS)?;
    let agnhost = agnhost_layer()?;
    let name = |image: &str| format!("{SUITE}/{image}");
    let base = || vec![tools.clone(), agnhost.clone()];
    let entrypoint = ["/agnhost"];
    let agnhost_names = [name("agnhost:2.63.0"), name("agnhost:2.55")];
    let agnhost_names: Vec<&str> = agnhost_names.iter().map(String::as_str).collect();
    let mut images = vec![
        image(&agnhost_names, base(), "", &entrypoint, &["pause"]),
        image(
            &[&name("nonroot:1.5")],
            base(),
            "1234",
            &entrypoint,
            &["pause"],
        ),
    ];
    // Both are asked for tools only.
    let plain = [name("glibc-dns-testing:2.0.0"), name("ipc-utils:1.4")];
    let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
    images.push(image(&plain, vec![tools.clone()], "", &[], &["bash"]));
    for page in ["nautilus", "kitten"] {
        let mut layers = base();
        layers.push(page_layer(page)?);
        images.push(image(
            &[&name(&format!("{page}:1.8"))],
            layers,
            "",
            &entrypoint,
            &["test-webserver"],
        ));
    }
    let nnp = programs("nnp", &[("nnp", "usr/local/bin/nnp", 0o6755)], &[])?;
    images.push(image(
        &[&name("nonewprivs:1.4")],
        vec![tools, nnp],
        "1000",
        &[],
        &["nnp"],
    ));
    let sample = programs(
        "sample-apiserver",
        &[("sample-apiserver", "sample-apiserver", 0o755)],
        &[],
    )?;
    images.push(image(
        &[&name("sample-apiserver:1.29.2")],
        vec![sample],
        "",
        &["/sample-apiserver"],
        &[],
    ));
    Ok(images)
}

fn agnhost_layer() -> Result<Layer> {
    let mut key = Key::new("agnhost layer 1");
    key.add(binaries::fingerprint("agnhost")?).add(KUBERNETES);
    cached_layer("layers", "agnhost-program", &key, |tree, _| {
        tree.copy("agnhost", binaries::path("agnhost")?, 0o755);
        tree.link("agnhost-2", "agnhost");
        tree.folder("uploads", 0o755);
        let porter = suite_source()?.join("agnhost/porter");
        tree.copy("localhost.crt", porter.join("localhost.crt"), 0o644);
        tree.copy("localhost.key", porter.join("localhost.key"), 0o644);
        Ok(())
    })
}

fn page_layer(page: &str) -> Result<Layer> {
    let mut key = Key::new("page layer 1");
    key.add(page).add(KUBERNETES);
    cached_layer("layers", page, &key, |tree, _| {
        let source = suite_source()?.join(page).join("html");
        for file in [format!("{page}.jpg"), "data.json".to_owned()] {
            tree.copy(&file, source.join(&file), 0o644);
        }
        Ok(())
    })
}

fn suite_source() -> Result<PathBuf> {
    let folder = binaries::module_folder("kube", &format!("k8s.io/kubernetes@v{KUBERNETES}"))?;
    Ok(folder.join("test/images"))
}
