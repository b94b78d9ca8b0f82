//! The root folders from Debian packages: what is in each, and what makes it whole.

use std::path::Path;

use anyhow::{Context, Result};

use super::debian::{Root, accounts};
use super::tree::Tree;
use crate::run;

/// From a newer release: the busybox of bookworm dies of `wget -T`, which many a readiness loop calls.
pub(crate) const BUSYBOX: Root = Root {
    name: "busybox",
    release: "trixie",
    packages: &["busybox"],
    revision: 1,
    finish: finish_busybox,
};

/// What the upstream suite expects around agnhost.
pub(crate) const TOOLS: Root = Root {
    name: "agnhost",
    release: "bookworm",
    packages: &[
        "bash",
        "bind9-dnsutils",
        "coreutils",
        "curl",
        "dash",
        "findutils",
        "grep",
        "hostname",
        "iperf",
        "iproute2",
        "iputils-ping",
        "libc-bin",
        "mawk",
        "netcat-openbsd",
        "procps",
        "sed",
        "tar",
        "util-linux",
    ],
    revision: 1,
    finish: finish_tools,
};

/// A web server that logs where `kubectl logs` looks.
pub(crate) const NGINX: Root = Root {
    name: "nginx",
    release: "bookworm",
    packages: &["coreutils", "curl", "dash", "nginx-light"],
    revision: 1,
    finish: finish_nginx,
};

/// A link for each command that busybox knows. "busybox" itself is among them and must stay the program.
fn finish_busybox(tree: &mut Tree, root: &Path) -> Result<()> {
    let list =
        run::output(run::command("chroot", [root.as_os_str()]).args(["/bin/busybox", "--list"]))?;
    let bin = if root.join("bin").is_symlink() {
        "usr/bin"
    } else {
        "bin"
    };
    for command in list.lines() {
        tree.link(&format!("{bin}/{command}"), "busybox");
    }
    accounts(tree, "", "");
    Ok(())
}

fn finish_tools(tree: &mut Tree, root: &Path) -> Result<()> {
    link_alternatives(
        tree,
        root,
        &[("nc", "nc.openbsd"), ("awk", "mawk"), ("sh", "dash")],
    )?;
    tree.link("usr/local/bin/iperf", "/usr/bin/iperf");
    accounts(
        tree,
        "user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n",
        "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n",
    );
    Ok(())
}

fn finish_nginx(tree: &mut Tree, root: &Path) -> Result<()> {
    link_alternatives(tree, root, &[("sh", "dash")])?;
    accounts(
        tree,
        "nginx:x:101:101:nginx:/nonexistent:/bin/false\n",
        "nginx:x:101:\n",
    );
    for folder in ["var/lib/nginx", "var/log/nginx", "run", "etc/nginx/conf.d"] {
        tree.folder(folder, 0o755);
    }
    tree.text("usr/share/nginx/html/index.html", PAGE);
    tree.text("etc/nginx/nginx.conf", NGINX_CONFIG);
    tree.text("etc/nginx/conf.d/default.conf", NGINX_SITE);
    Ok(())
}

/// Links that maintainer scripts would have made.
fn link_alternatives(tree: &mut Tree, root: &Path, links: &[(&str, &str)]) -> Result<()> {
    for (link, target) in links {
        let folder = ["usr/bin", "bin"]
            .into_iter()
            .find(|folder| root.join(folder).join(target).exists())
            .with_context(|| format!("the packages hold no {target}"))?;
        tree.link(&format!("{folder}/{link}"), target);
    }
    Ok(())
}

const PAGE: &str = "<!DOCTYPE html>\n<html>\n<head><title>Welcome to nginx!</title></head>\n\
                    <body><h1>Welcome to nginx!</h1></body>\n</html>\n";

/// Logs go where `kubectl logs` finds them.
const NGINX_CONFIG: &str = "user nginx;
worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout;
    sendfile on;
    include /etc/nginx/conf.d/*.conf;
}
";

const NGINX_SITE: &str = "server {
    listen 80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
}
";
