//! What a name leads to, and which names an address has, out of what is known of a tenant.

use super::{
    names::{LeadsTo, NameTable, Port, Service, Slice},
    question::{Asked, NoSuchName, Part},
    zone::Zone,
};
use hickory_proto::rr::Name;
use std::{cell::Cell, collections::HashSet, net::IpAddr};

/// Places that a name leads to at most: no message holds more addresses.
const MOST: usize = 8192;
/// Another name of the server, by which a domain's first record calls it.
pub(super) const SERVER: [&str; 2] = ["ns", "dns"];

/// Whose names are asked for, and what is known of them.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) known: &'a NameTable,
    pub(super) zone: &'a Zone,
    /// Domains of the super cluster, of which tenants are told nothing.
    pub(super) hidden: &'a [Name],
    /// Counts endpoints and ports that were looked at.
    pub(super) looked: &'a Cell<usize>,
}

/// All places that a name leads to.
pub(super) struct Found<'a> {
    /// The Service's name, or the pod's.
    name: Name,
    pub(super) places: Vec<NameTarget<'a>>,
}

/// A place that a name leads to.
pub(super) struct NameTarget<'a> {
    /// The label of the endpoint that has the address; none where the name itself has it.
    pub(super) endpoint: Option<&'a str>,
    pub(super) host: Host,
    /// The port that is meant; `None` where none is declared.
    pub(super) port: Option<u16>,
}

/// An address, or a name that has one.
pub(super) enum Host {
    Address(IpAddr),
    Name(Name),
}

impl<'a> View<'a> {
    /// Everything that a name leads to; nothing when it is there and empty.
    pub(super) fn find(self, apex: &Name, labels: &[String]) -> Result<Found<'a>, NoSuchName> {
        if labels == SERVER {
            return self.of_service(apex, "kube-system", "kube-dns", Part::Whole);
        }
        let exists = |namespace: &str| match self.known.is_namespace(&self.zone.tenant, namespace) {
            true => Ok(()),
            false => Err(NoSuchName),
        };
        match Asked::parse(labels)? {
            Asked::Branch => Ok(Found::of(apex.clone(), vec![])),
            Asked::Namespace(namespace) => {
                exists(namespace).map(|()| Found::of(apex.clone(), vec![]))
            }
            Asked::Service {
                namespace,
                service,
                part,
            } => self.of_service(apex, namespace, service, part),
            Asked::Pod { namespace, address } => {
                exists(namespace)?;
                let name = full(&[address, namespace, "pod"], apex);
                let host = Host::Address(pod_address(address).ok_or(NoSuchName)?);
                let place = NameTarget {
                    endpoint: None,
                    host,
                    // A pod of any port, which CoreDNS writes so.
                    port: Some(0),
                };
                Ok(Found::of(name, vec![place]))
            }
        }
    }

    pub(super) fn of_service(
        self,
        apex: &Name,
        namespace: &str,
        name: &str,
        part: Part<'_>,
    ) -> Result<Found<'a>, NoSuchName> {
        let zone = self.zone;
        let own = match (namespace, name) {
            ("default", "kubernetes") => zone.api.as_ref().map(|api| (api, vec![])),
            _ => self
                .known
                .service(&zone.tenant, namespace, name)
                .map(|(service, slices)| (service, slices.collect())),
        };
        let is_server = (namespace, name) == ("kube-system", "kube-dns");
        let own = own.or_else(|| is_server.then(|| (&zone.server, vec![])));
        let (service, slices): (&Service, Vec<&Slice>) = own.ok_or(NoSuchName)?;
        let mut places = vec![];
        match (&service.leads_to, part) {
            (LeadsTo::Name(target), Part::Whole) => {
                // What is an address isn't a name.
                let target = target.parse::<IpAddr>().is_err().then_some(target);
                let target = target.and_then(|target| Name::from_ascii(target).ok());
                places.extend(target.map(|mut target| {
                    target.set_fqdn(true);
                    NameTarget {
                        endpoint: None,
                        host: Host::Name(target),
                        port: None,
                    }
                }));
            }
            (LeadsTo::Name(_), _) => {}
            (LeadsTo::Itself(addresses), Part::Whole | Part::Port { .. }) => {
                for port in self.meant(part, &service.ports) {
                    places.extend(addresses.iter().map(|address| NameTarget {
                        endpoint: None,
                        host: Host::Address(*address),
                        port: port.number,
                    }));
                }
            }
            (LeadsTo::Itself(_) | LeadsTo::Endpoints | LeadsTo::Shown(_), part) => {
                for slice in slices {
                    self.behind(slice, part, &mut places);
                }
            }
        }
        if places.is_empty() {
            return Err(NoSuchName);
        }
        Ok(Found::of(full(&[name, namespace, "svc"], apex), places))
    }

    /// Endpoints of a slice, as long as there is room.
    fn behind(self, slice: &'a Slice, part: Part<'_>, places: &mut Vec<NameTarget<'a>>) {
        let ports = self.meant(part, &slice.ports);
        if ports.is_empty() || places.len() >= MOST {
            return;
        }
        self.look_at(slice.endpoints.len());
        let endpoints = slice.endpoints.iter().filter(|endpoint| match part {
            Part::Endpoint(asked) => asked.eq_ignore_ascii_case(&endpoint.label),
            _ => true,
        });
        let all = endpoints.flat_map(|endpoint| {
            ports.iter().map(move |port| NameTarget {
                endpoint: Some(&endpoint.label),
                host: Host::Address(endpoint.address),
                port: port.number,
            })
        });
        let room = MOST - places.len();
        places.extend(all.take(room));
        self.look_at(places.len() + room - MOST);
    }

    /// Those of the ports that are asked for.
    fn meant<'p>(self, part: Part<'_>, ports: &'p [Port]) -> Vec<&'p Port> {
        self.look_at(ports.len());
        ports.iter().filter(|port| is_meant(part, port)).collect()
    }

    fn look_at(self, more: usize) {
        self.looked.set(self.looked.get() + more);
    }

    /// The labels before the domain, in lower case; the issuer of tokens is another name of the API server.
    pub(super) fn labels(self, name: &Name) -> Vec<String> {
        if *name == self.zone.issuer {
            return ["kubernetes", "default", "svc"].map(str::to_owned).into();
        }
        let before = name
            .num_labels()
            .saturating_sub(self.zone.domain.num_labels());
        let labels = name.iter().take(before.into());
        labels
            .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
            .collect()
    }

    /// Names of an address: of the Service that has it, else of all endpoints that do.
    pub(super) fn names_of(self, address: IpAddr) -> Vec<Name> {
        let (zone, apex) = (self.zone, &self.zone.domain);
        let has = |service: &Service| matches!(&service.leads_to, LeadsTo::Itself(own) if own.contains(&address));
        if zone.api.as_ref().is_some_and(has) {
            return vec![full(&["kubernetes", "default", "svc"], apex)];
        }
        let all = || self.known.by_address(&zone.tenant, address);
        if let Some((namespace, name, ..)) = all().find(|(.., service, _)| has(service)) {
            return vec![full(&[name, namespace, "svc"], apex)];
        }
        if has(&zone.server) {
            return vec![full(&["kube-dns", "kube-system", "svc"], apex)];
        }
        let (mut names, mut told) = (vec![], HashSet::new());
        for (namespace, name, _, slices) in all() {
            for slice in slices {
                self.look_at(slice.endpoints.len());
                let endpoints = slice.endpoints.iter();
                for endpoint in endpoints.filter(|endpoint| endpoint.address == address) {
                    let is_new =
                        told.len() < MOST && told.insert((namespace, name, &endpoint.label));
                    if is_new {
                        names.push(full(&[&endpoint.label, name, namespace, "svc"], apex));
                    }
                }
            }
        }
        self.look_at(names.len());
        names
    }
}

impl<'a> Found<'a> {
    fn of(name: Name, places: Vec<NameTarget<'a>>) -> Self {
        Self { name, places }
    }

    /// The name that has a place's address.
    pub(super) fn owner(&self, place: &NameTarget<'_>) -> Name {
        match place.endpoint {
            Some(label) => full(&[label], &self.name),
            None => self.name.clone(),
        }
    }
}

impl NameTarget<'_> {
    pub(super) fn leads_to(&self) -> Option<Name> {
        match &self.host {
            Host::Name(target) => Some(target.clone()),
            Host::Address(_) => None,
        }
    }
}

/// Whether a port is one of those that are asked for.
fn is_meant(part: Part<'_>, port: &Port) -> bool {
    let Part::Port { name, protocol } = part else {
        return true;
    };
    let same = |asked: &str, own: &str| asked.is_empty() || asked.eq_ignore_ascii_case(own);
    same(name, &port.name) && same(protocol, &port.protocol)
}

/// The address that a pod's label means, whether there is such a pod or not.
fn pod_address(label: &str) -> Option<IpAddr> {
    let is_v4 = label.matches('-').count() == 3 && !label.contains("--");
    let address: IpAddr = label
        .replace('-', if is_v4 { "." } else { ":" })
        .parse()
        .ok()?;
    Some(address.to_canonical())
}

/// A name under `apex`; labels that make no name, since they are too long, are left out.
pub(super) fn full(labels: &[&str], apex: &Name) -> Name {
    let mut name = apex.clone();
    for label in labels.iter().rev() {
        match name.prepend_label(*label) {
            Ok(longer) => name = longer,
            Err(_) => return apex.clone(),
        }
    }
    name
}
