//! What a name leads to, and which names an address has, out of what is known of a tenant.

use super::{
    names::{Known, LeadsTo, Port, Service, Slice},
    question::{Asked, NoSuchName, Part},
    zone::Zone,
};
use hickory_proto::rr::Name;
use std::net::IpAddr;

/// Whose names are asked for, and what is known of them.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) known: &'a Known,
    pub(super) zone: &'a Zone,
    /// Domains of the super cluster, of which tenants are told nothing.
    pub(super) hidden: &'a [Name],
}

/// Where a name leads.
pub(super) struct Found {
    /// The name that has the address: the Service's, or an endpoint's.
    pub(super) owner: Name,
    pub(super) host: Host,
    /// The port that is meant; `None` where none is declared.
    pub(super) port: Option<u16>,
}

/// An address, or a name that has one.
pub(super) enum Host {
    Address(IpAddr),
    Name(Name),
}

impl View<'_> {
    /// Everything that a name leads to; nothing when it is there and empty.
    pub(super) fn find(self, apex: &Name, labels: &[String]) -> Result<Vec<Found>, NoSuchName> {
        if labels == ["ns", "dns"] {
            return self.of_service(apex, "kube-system", "kube-dns", Part::Whole);
        }
        let exists = |namespace: &str| match self.known.is_namespace(&self.zone.tenant, namespace) {
            true => Ok(()),
            false => Err(NoSuchName),
        };
        match Asked::parse(labels)? {
            Asked::Branch => Ok(vec![]),
            Asked::Namespace(namespace) => exists(namespace).map(|()| vec![]),
            Asked::Service {
                namespace,
                service,
                part,
            } => self.of_service(apex, namespace, service, part),
            Asked::Pod { namespace, address } => {
                exists(namespace)?;
                let owner = full(&[address, namespace, "pod"], apex);
                let host = Host::Address(pod_address(address).ok_or(NoSuchName)?);
                Ok(vec![Found {
                    owner,
                    host,
                    port: None,
                }])
            }
        }
    }

    pub(super) fn of_service(
        self,
        apex: &Name,
        namespace: &str,
        name: &str,
        part: Part<'_>,
    ) -> Result<Vec<Found>, NoSuchName> {
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
        let owner = || full(&[name, namespace, "svc"], apex);
        let mut found = vec![];
        match (&service.leads_to, part) {
            (LeadsTo::Name(target), Part::Whole) => {
                // What is an address isn't a name.
                let target = target.parse::<IpAddr>().is_err().then_some(target);
                let target = target.and_then(|target| Name::from_ascii(target).ok());
                found.extend(target.map(|mut target| {
                    target.set_fqdn(true);
                    Found {
                        owner: owner(),
                        host: Host::Name(target),
                        port: None,
                    }
                }));
            }
            (LeadsTo::Name(_), _) => {}
            (LeadsTo::Itself(addresses), Part::Whole | Part::Port { .. }) => {
                for port in service.ports.iter().filter(|port| is_meant(part, port)) {
                    found.extend(addresses.iter().map(|address| Found {
                        owner: owner(),
                        host: Host::Address(*address),
                        port: port.number,
                    }));
                }
            }
            (LeadsTo::Itself(_) | LeadsTo::Endpoints | LeadsTo::Shown(_), part) => {
                for slice in slices {
                    for endpoint in &slice.endpoints {
                        let host = host_name(endpoint.hostname.as_deref(), endpoint.address);
                        if matches!(part, Part::Endpoint(asked) if !asked.eq_ignore_ascii_case(&host))
                        {
                            continue;
                        }
                        let ports = slice.ports.iter().filter(|port| is_meant(part, port));
                        found.extend(ports.map(|port| Found {
                            owner: full(&[&host, name, namespace, "svc"], apex),
                            host: Host::Address(endpoint.address),
                            port: port.number,
                        }));
                    }
                }
            }
        }
        if found.is_empty() {
            return Err(NoSuchName);
        }
        Ok(found)
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
        let mut names = vec![];
        for (namespace, name, _, slices) in all() {
            let endpoints = slices.flat_map(|slice| &slice.endpoints);
            for endpoint in endpoints.filter(|endpoint| endpoint.address == address) {
                let host = host_name(endpoint.hostname.as_deref(), address);
                push_new(&mut names, full(&[&host, name, namespace, "svc"], apex));
            }
        }
        names
    }
}

impl Found {
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

/// The label of an endpoint: the pod's host name, or its address with dashes.
fn host_name(own: Option<&str>, address: IpAddr) -> String {
    if let Some(own) = own {
        return own.to_ascii_lowercase();
    }
    let dashed = address.to_string().replace(['.', ':'], "-");
    // No label ends in a dash.
    if dashed.ends_with('-') {
        return format!("{dashed}0");
    }
    dashed
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

pub(super) fn push_new<T: PartialEq>(list: &mut Vec<T>, new: T) {
    if !list.contains(&new) {
        list.push(new);
    }
}
