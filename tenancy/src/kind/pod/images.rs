//! Images: from registries that are allowed, and pulled each time where the platform says so (T24).
//!
//! An image that somebody with the right to it had pulled lies on the node for everybody; only a pull asks the registry
//! who may have it. Where a class lists no registries, all may be named but those inside (`registry.rs`).

mod registry;

use super::{
    containers,
    fields::{items_mut, text},
};
use crate::kind::{Cx, Refused};
use serde_json::Value;

/// Refuses images from elsewhere, and sets the pull policy of containers and image volumes.
pub(super) fn step(spec: &mut Value, cx: &Cx<'_>) -> Result<(), Refused> {
    let rules = &cx.rules.pods;
    let (mut refused, mut cached, mut inside) = (None, None, None);
    let mut hold = |place: &mut Value, image: &str, policy: &str| {
        let name = text(place, image);
        if name.is_empty() || name == rules.dns_image {
            return;
        }
        if is_id(name) {
            cached.get_or_insert_with(|| name.to_owned());
            return;
        }
        if host(name).is_some_and(|host| registry::is_inside(host, &cx.rules.reach))
            && !is_from(name, &rules.known_registries)
        {
            inside.get_or_insert_with(|| name.to_owned());
        }
        if rules.registries.is_empty() && !rules.always_pull {
            return;
        }
        let name = name.to_owned();
        if !rules.registries.iter().all(|list| is_from(&name, list)) {
            refused.get_or_insert(name);
        }
        if rules.always_pull {
            place[policy] = "Always".into();
        }
    };
    containers::for_each(spec, |container| {
        hold(container, "image", "imagePullPolicy");
    });
    for volume in items_mut(spec, "volumes") {
        if let Some(image) = volume.get_mut("image") {
            hold(image, "reference", "pullPolicy");
        }
    }
    if let Some(image) = cached {
        return Err(Refused::new(
            "ImageNotAllowed",
            format!(
                "image {image:?} is the ID of one that lies on a node, whoever had it pulled: write its name"
            ),
        ));
    }
    if let Some(image) = refused {
        let lists = rules.registries.iter().map(|list| list.join(", "));
        let lists: Vec<String> = lists.collect();
        return Err(Refused::new(
            "ImageNotAllowed",
            format!(
                "image {image:?} doesn't come from where images may come from: {}",
                lists.join("; of those: ")
            ),
        ));
    }
    match inside {
        None => Ok(()),
        Some(image) => Err(Refused::new(
            "ImageNotAllowed",
            format!(
                "image {image:?} is of a registry inside, which a node would ask from its own network: take it from one with a \
                 public name, or ask the platform's admins for it (pods.images.registries of your ControlPlaneClass)"
            ),
        )),
    }
}

/// The registry that an image names, as container runtimes read it; `None` where that is Docker's.
fn host(image: &str) -> Option<&str> {
    let (host, _) = image.split_once('/')?;
    let is_host = host == "localhost"
        || host.contains(['.', ':'])
        || host.bytes().any(|byte| byte.is_ascii_uppercase());
    is_host.then_some(host)
}

/// Whether container runtimes look for an image by this among those that they hold, and in no registry.
fn is_id(image: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match image.split_once(':') {
        Some((digest, id)) => ["sha256", "sha384", "sha512"].contains(&digest) && is_hex(id),
        None => (12..=64).contains(&image.len()) && is_hex(image),
    }
}

/// Whether an image is of one of these registries, or of a part of one.
fn is_from(image: &str, allowed: &[String]) -> bool {
    let Some(name) = full_name(image) else {
        return false;
    };
    allowed.iter().any(|entry| {
        let (host, path) = entry.split_once('/').unwrap_or((entry, ""));
        let host = host.to_ascii_lowercase();
        let entry = match path {
            "" => host,
            path => format!("{host}/{path}"),
        };
        name.strip_prefix(&entry)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// `REGISTRY/PATH` of an image as container runtimes read it, without tag and digest; `None` if it is none.
fn full_name(image: &str) -> Option<String> {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    // A colon after the last slash begins the tag; one before it is a registry's port.
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    let (host, path) = match host(name) {
        Some(host) => (host, name.get(host.len() + 1..)?),
        None => ("docker.io", name),
    };
    let host = match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    };
    let is_part = |part: &str| {
        let mut bytes = part.bytes();
        bytes
            .next()
            .is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
            && bytes.all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
            })
    };
    if !path.split('/').all(is_part) {
        return None;
    }
    Some(if host == "docker.io" && !path.contains('/') {
        format!("docker.io/library/{path}")
    } else {
        format!("{host}/{path}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::pod::tests::{down_as, pod};

    const ALL: &str = "
      initContainers: [{name: i, image: registry.example/team/init}]
      containers: [{name: c, image: 'registry.example/team/app:1', imagePullPolicy: IfNotPresent}]
      ephemeralContainers: [{name: e, image: registry.example/team/debug}]
      volumes: [{name: v, image: {reference: registry.example/team/data, pullPolicy: Never}}]";

    fn from(registries: &[&[&str]], spec: &str) -> Result<crate::object::Object, Refused> {
        down_as(&pod(spec), |tenant, _| {
            tenant.pods.registries = registries
                .iter()
                .map(|list| list.iter().map(|&entry| entry.to_owned()).collect())
                .collect();
        })
    }

    #[test]
    fn names_are_read_as_runtimes_read_them() {
        for (image, name) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.27", "docker.io/library/nginx"),
            ("team/app@sha256:aa", "docker.io/team/app"),
            ("Index.Docker.io/nginx", "docker.io/library/nginx"),
            ("localhost/app", "localhost/app"),
            ("Registry/app", "registry/app"),
            ("r.example:5000/a/b:v1", "r.example:5000/a/b"),
            ("r.example:5000/a/b", "r.example:5000/a/b"),
        ] {
            assert_eq!(full_name(image).as_deref(), Some(name), "{image}");
        }
        for none in [
            "",
            "r.example/",
            "r.example/team/../other/app",
            "r.example//a",
            "r.example/A",
        ] {
            assert_eq!(full_name(none), None, "{none}");
        }
    }

    #[test]
    fn t24_an_image_that_lies_on_a_node_is_not_had_by_its_id() {
        let digest = "a1b2c3d4e5f6".repeat(5) + "a1b2";
        for id in [
            "a1b2c3d4e5f6",
            &digest,
            &format!("sha256:{digest}"),
            "sha256:a1b2",
        ] {
            for place in ["containers", "initContainers", "ephemeralContainers"] {
                let spec = format!("{place}: [{{name: c, image: '{id}'}}]");
                let refused = from(&[], &spec).unwrap_err();
                assert_eq!(refused.reason, "ImageNotAllowed", "{spec}");
            }
            let volume = format!("volumes: [{{name: v, image: {{reference: '{id}'}}}}]");
            assert_eq!(from(&[], &volume).unwrap_err().reason, "ImageNotAllowed");
        }
        for name in [
            "nginx",
            "cafe",
            "team/a1b2c3d4e5f6",
            "a1b2c3d4e5f6:v1",
            &format!("app@sha256:{digest}"),
            "sha256:latest",
        ] {
            assert!(!is_id(name), "{name}");
        }
    }

    #[test]
    fn a_registry_or_a_part_of_it_is_allowed_and_no_namesake() {
        let allowed = [
            "registry.example/team".to_owned(),
            "Docker.io/library".to_owned(),
        ];
        for image in [
            "registry.example/team/app:1",
            "nginx",
            "registry.example/team",
        ] {
            assert!(is_from(image, &allowed), "{image}");
        }
        for image in [
            "registry.example/team2/app",
            "registry.example.evil.example/team/app",
            "registry.example/other",
            "evil/nginx",
            "registry.example/team/../other",
        ] {
            assert!(!is_from(image, &allowed), "{image}");
        }
    }

    #[test]
    fn every_place_of_an_image_is_held() {
        assert!(
            from(
                &[
                    &["registry.example"],
                    &["registry.example/team", "x.example"]
                ],
                ALL
            )
            .is_ok()
        );
        for part in ["init", "app:1", "debug", "data"] {
            let spec = ALL.replace(
                &format!("registry.example/team/{part}"),
                "elsewhere.example/x",
            );
            let refused = from(&[&["registry.example"]], &spec).unwrap_err();
            assert_eq!(refused.reason, "ImageNotAllowed", "{part}");
            assert!(refused.message.contains("elsewhere.example/x"));
        }
        assert!(from(&[&["registry.example"], &["registry.example/other"]], ALL).is_err());
        assert!(from(&[], ALL).is_ok());
    }

    /// T45: the node asks, past every NetworkPolicy.
    #[test]
    fn t45_no_image_comes_from_inside_unless_the_class_names_its_registry() {
        for image in [
            "169.254.169.254/latest/meta-data",
            "localhost:10255/a",
            "localhost/a",
            "10.96.0.1:443/a@sha256:aa",
            "etcd:2379/a",
            "ETCD/a",
            "kubernetes.default.svc:443/a:v1",
        ] {
            for part in ["init", "app:1", "debug", "data"] {
                let spec = ALL.replace(
                    &format!("registry.example/team/{part}"),
                    &format!("'{image}'"),
                );
                let spec = spec.replace("''", "'");
                let refused = from(&[], &spec).unwrap_err();
                assert_eq!(refused.reason, "ImageNotAllowed", "{spec}");
                assert!(refused.message.contains(image), "{}", refused.message);
                assert!(refused.message.contains("pods.images.registries"));
                let named = |known: &str| {
                    down_as(&pod(&spec), |tenant, _| {
                        tenant.pods.known_registries = vec![known.into(), "r.example".into()];
                    })
                };
                let (registry, _) = image.split_once('/').unwrap();
                assert!(named(registry).is_ok(), "{spec}");
                assert!(named("other.example").is_err(), "{spec}");
            }
        }
        // What a tenant's own list names narrows what its class allows, and opens nothing.
        let spec = "{containers: [{name: c, image: 'localhost:5000/a'}]}";
        assert!(from(&[&["localhost:5000"]], spec).is_err());
        for image in ["nginx", "team/app:1", "registry.example:5000/app"] {
            let spec = format!("{{containers: [{{name: c, image: '{image}'}}]}}");
            assert!(from(&[], &spec).is_ok(), "{image}");
        }
    }

    #[test]
    fn t24_images_are_pulled_each_time_where_the_platform_says_so() {
        let twin = down_as(&pod(ALL), |tenant, _| tenant.pods.always_pull = true).unwrap();
        for pointer in [
            "/spec/initContainers/0/imagePullPolicy",
            "/spec/containers/0/imagePullPolicy",
            "/spec/ephemeralContainers/0/imagePullPolicy",
            "/spec/volumes/0/image/pullPolicy",
        ] {
            assert_eq!(twin.text(pointer), Some("Always"), "{pointer}");
        }
        let twin = down_as(&pod(ALL), |_, _| ()).unwrap();
        assert_eq!(
            twin.text("/spec/containers/0/imagePullPolicy"),
            Some("IfNotPresent")
        );
    }

    #[test]
    fn the_platforms_dns_runs_whatever_is_said_of_images() {
        let spec = "{containers: [{name: c, image: 'r.example/coredns:v1', imagePullPolicy: IfNotPresent}]}";
        let twin = down_as(&pod(spec), |tenant, _| {
            tenant.pods.registries = vec![vec!["other.example".into()]];
            tenant.pods.always_pull = true;
            tenant.pods.dns_image = "r.example/coredns:v1".into();
        });
        assert_eq!(
            twin.unwrap().text("/spec/containers/0/imagePullPolicy"),
            Some("IfNotPresent")
        );
    }
}
