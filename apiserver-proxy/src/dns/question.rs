//! What a name of a tenant's domain asks for: the labels before the domain, read as Kubernetes' specification for DNS has
//! them.

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// The domain itself, or one of its two branches: there is such a name, and nothing stands there.
    Branch,
    /// A namespace of one of the branches.
    Namespace(&'a str),
    /// A Service, or a part of it.
    Service {
        namespace: &'a str,
        service: &'a str,
        part: Part<'a>,
    },
    /// A pod by its address.
    Pod {
        namespace: &'a str,
        address: &'a str,
    },
}

/// The part of a Service that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// All of it.
    Whole,
    /// One endpoint by its host name.
    Endpoint(&'a str),
    /// One port by its name and protocol; an empty one is any.
    Port { name: &'a str, protocol: &'a str },
}

/// No such name can be in a tenant's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoSuchName;

impl<'a> Asked<'a> {
    /// Reads the labels before the domain, in lower case, as they stand.
    pub(super) fn parse(labels: &'a [String]) -> Result<Self, NoSuchName> {
        let label = |from_the_right: usize| {
            let place = labels.len().checked_sub(from_the_right)?;
            labels.get(place).map(String::as_str)
        };
        let branch = match label(1) {
            None => return Ok(Self::Branch),
            Some(branch @ ("svc" | "pod")) => branch,
            Some(_) => return Err(NoSuchName),
        };
        let Some(namespace) = label(2) else {
            return Ok(Self::Branch);
        };
        let Some(name) = label(3) else {
            return Ok(Self::Namespace(namespace));
        };
        let part = match (label(4), label(5), labels.len()) {
            (None, ..) => Part::Whole,
            (Some(endpoint), None, _) => Part::Endpoint(endpoint),
            (Some(protocol), Some(port), 5) => Part::Port {
                name: port.strip_prefix('_').unwrap_or(port),
                protocol: protocol.strip_prefix('_').unwrap_or(protocol),
            },
            _ => return Err(NoSuchName),
        };
        Ok(if branch == "svc" {
            Self::Service {
                namespace,
                service: name,
                part,
            }
        } else {
            // What stands before a pod's address is as good as nothing.
            Self::Pod {
                namespace,
                address: name,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str) -> Vec<String> {
        let labels = name.split('.').filter(|label| !label.is_empty());
        labels.map(str::to_owned).collect()
    }

    #[test]
    fn names_are_read_from_the_right() {
        let web = |part| Asked::Service {
            namespace: "shop",
            service: "web",
            part,
        };
        for (name, expected) in [
            ("", Ok(Asked::Branch)),
            ("svc", Ok(Asked::Branch)),
            ("pod", Ok(Asked::Branch)),
            ("other", Err(NoSuchName)),
            ("shop.svc", Ok(Asked::Namespace("shop"))),
            ("web.shop.svc", Ok(web(Part::Whole))),
            ("a.web.shop.svc", Ok(web(Part::Endpoint("a")))),
            (
                "_http._tcp.web.shop.svc",
                Ok(web(Part::Port {
                    name: "http",
                    protocol: "tcp",
                })),
            ),
            ("a.b.c.web.shop.svc", Err(NoSuchName)),
            (
                "x.1-2-3-4.shop.pod",
                Ok(Asked::Pod {
                    namespace: "shop",
                    address: "1-2-3-4",
                }),
            ),
        ] {
            assert_eq!(Asked::parse(&labels(name)), expected, "{name}");
        }
    }
}
