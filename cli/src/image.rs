//! Names of images: where one comes from, and what it is. Pure.

/// Where an image comes from (`registry.example.com/path`, or nothing) and what it is there (`name:tag`).
pub(crate) fn split(image: &str) -> (&str, &str) {
    image.rsplit_once('/').unwrap_or(("", image))
}

/// Whether both are the same program in the same version, wherever they come from.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    split(one).1 == split(other).1
}

/// Whether both are the same program, in whatever version and wherever they come from.
pub(crate) fn is_same_program(one: &str, other: &str) -> bool {
    fn name(image: &str) -> &str {
        let (_, file) = split(image);
        file.split([':', '@']).next().unwrap_or(file)
    }
    name(one) == name(other)
}

/// `image` from another registry.
pub(crate) fn from(registry: &str, image: &str) -> String {
    let (_, file) = split(image);
    format!("{registry}/{file}")
}

/// `HOST[/PATH]`, or what is wrong with it.
pub(crate) fn registry(text: &str) -> Result<String, String> {
    let is_part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:[]".contains(c);
        !part.is_empty() && part.chars().all(allowed)
    };
    if text.split('/').all(is_part) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is no registry: write HOST[:PORT][/PATH], as images begin"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_has_the_same_image() {
        let mirror = "registry.example.com:5000/sublet/sublet-syncer:0.1.0";
        let built_in = "sublet.dev/sublet-syncer:0.1.0";
        assert!(is_same(mirror, built_in) && is_same_program(mirror, built_in));
        assert_eq!(
            split(mirror).0,
            "registry.example.com:5000/sublet",
            "a port is no tag"
        );
        let older = "registry.example.com/sublet-syncer:0.0.9";
        assert!(!is_same(older, built_in) && is_same_program(older, built_in));
        let digest = "registry.example.com/sublet-syncer@sha256:00";
        assert!(!is_same(digest, built_in) && is_same_program(digest, built_in));
        assert!(!is_same_program("r/sublet-manager:0.1.0", built_in));
        assert_eq!(
            from("r.example.com/a", built_in),
            "r.example.com/a/sublet-syncer:0.1.0"
        );
    }

    #[test]
    fn a_registry_is_a_host_with_a_path() {
        for good in [
            "registry.example.com",
            "localhost:5000",
            "ghcr.io/a/b",
            "[fd00::1]:5000",
        ] {
            assert_eq!(registry(good).as_deref(), Ok(good));
        }
        for wrong in ["", "https://r.example.com", "r.example.com/", "/a", "a b"] {
            assert!(registry(wrong).is_err(), "{wrong}");
        }
    }
}
