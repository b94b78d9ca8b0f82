//! What a question is answered: the records that the tenant's own CoreDNS would give, out of what is known.
//!
//! Pure. The rules are those of Kubernetes' DNS specification 1.1.0 and of CoreDNS' `kubernetes` plugin with
//! `pods insecure`, `ttl 30` and `fallthrough in-addr.arpa ip6.arpa`, whose oddities clients know: a headless Service
//! without a ready endpoint has no name, and a port's name answers for addresses too.

use super::{
    find::{Found, Host, SERVER, View, full},
    outside,
    question::{NoSuchName, Part},
};
use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT},
    },
};
use std::{collections::HashSet, net::IpAddr};
use tenancy::block::Block;

/// Seconds that an answer may be kept.
const TTL: u32 = 30;
/// The version of the specification, under the name `dns-version`, and how many seconds it may be kept.
const VERSION: (&str, u32) = ("1.1.0", 28_800);
/// Names that lead to one another are followed so far.
const CHAIN: usize = 10;

/// How a question is dealt with.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is answered from what is known.
    Answer(Answer),
    /// Servers outside are asked the same.
    Forward,
    /// These records lead to a name outside, whose records come after them.
    Follow { chain: Vec<Record>, target: Name },
}

/// An answer.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) records: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

/// Answers a question of the Internet's class.
pub(super) fn answer(view: View<'_>, query: &Query) -> Verdict {
    let name = query.name();
    if view.zone.domain.zone_of(name) {
        return view.of_the_domain(query);
    }
    // What stands before the labels of an address belongs to the address.
    let mut suffixes = (2..=name.num_labels())
        .rev()
        .map(|labels| name.trim_to(labels.into()));
    if let Some((suffix, network)) = suffixes.find_map(|suffix| {
        let network = suffix.parse_arpa_name().ok()?;
        Some((suffix, network))
    }) {
        let network = Block::parse(&network.to_string());
        let address = network
            .filter(|_| suffix == *name)
            .and_then(|network| network.single());
        return view.of_an_address(query, address, network);
    }
    match outside::is_hidden(name, view.hidden) {
        true => Verdict::Answer(Answer::empty(ResponseCode::NXDomain)),
        false => Verdict::Forward,
    }
}

impl Answer {
    /// An answer without a record.
    pub(super) fn empty(code: ResponseCode) -> Self {
        Self {
            code,
            records: vec![],
            authorities: vec![],
            additionals: vec![],
        }
    }

    fn of(records: Vec<Record>) -> Self {
        Self {
            records,
            ..Self::empty(ResponseCode::NoError)
        }
    }
}

impl View<'_> {
    /// A name of the tenant's domain.
    fn of_the_domain(self, query: &Query) -> Verdict {
        let name = query.name();
        // As the client wrote it: some compare letter by letter.
        let apex = name.trim_to(usize::from(self.zone.domain.num_labels()));
        let labels = self.labels(name);
        let is_apex = labels.is_empty();
        let records = match query.query_type() {
            RecordType::A | RecordType::AAAA => match self.addresses(query, &apex, &labels) {
                Ok(Ok(records)) => Ok(records),
                Ok(Err(follow)) => return follow,
                Err(none) => Err(none),
            },
            RecordType::SOA if is_apex => Ok(vec![self.soa(&apex)]),
            // Asked of any other name, it is never denied.
            RecordType::SOA => Ok(vec![]),
            RecordType::NS if is_apex => return Verdict::Answer(self.servers(&apex)),
            // Of that name CoreDNS knows addresses alone.
            RecordType::SRV if labels == SERVER => Ok(vec![]),
            RecordType::TXT | RecordType::PTR if labels == SERVER => Err(NoSuchName),
            RecordType::SRV => match self.find(&apex, &labels) {
                Ok(found) => return Verdict::Answer(self.ports(name, &apex, &found)),
                Err(none) => Err(none),
            },
            RecordType::CNAME => self.find(&apex, &labels).map(|found| {
                let first = found.places.first();
                let leads = first.and_then(|place| place.leads_to());
                let record = leads.map(|target| record(name, RData::CNAME(CNAME(target))));
                record.into_iter().collect()
            }),
            RecordType::TXT => self.texts(name, &apex, &labels),
            RecordType::AXFR | RecordType::IXFR => {
                return Verdict::Answer(Answer::empty(ResponseCode::Refused));
            }
            _ => self.find(&apex, &labels).map(|_| vec![]),
        };
        Verdict::Answer(match records {
            Ok(records) if !records.is_empty() => Answer::of(records),
            Ok(_) => self.nothing(ResponseCode::NoError, &apex),
            Err(NoSuchName) => self.nothing(ResponseCode::NXDomain, &apex),
        })
    }

    /// The name of an address; of one that isn't the tenant's it is asked outside, unless only the inside could tell.
    fn of_an_address(
        self,
        query: &Query,
        address: Option<IpAddr>,
        network: Option<Block>,
    ) -> Verdict {
        let name = query.name();
        if query.query_type() == RecordType::PTR
            && let Some(address) = address
        {
            let names = self.names_of(address);
            if !names.is_empty() {
                let records = names
                    .into_iter()
                    .map(|target| record(name, RData::PTR(PTR(target))));
                return Verdict::Answer(Answer::of(records.collect()));
            }
        }
        let is_open = network.is_some_and(|network| outside::may_ask(&network, &self.zone.closed));
        if is_open {
            return Verdict::Forward;
        }
        let apex = name.trim_to(2);
        let code = if name.num_labels() <= 2 {
            ResponseCode::NoError
        } else {
            ResponseCode::NXDomain
        };
        Verdict::Answer(self.nothing(code, &apex))
    }

    /// Addresses of a name; where it leads to another, of that. The inner error: the other one is outside.
    fn addresses(
        self,
        query: &Query,
        apex: &Name,
        labels: &[String],
    ) -> Result<Result<Vec<Record>, Verdict>, NoSuchName> {
        let kind = query.query_type();
        let (mut name, mut chain) = (query.name().clone(), vec![]);
        let mut found = self.find(apex, labels)?;
        loop {
            let leads = match found.places.as_slice() {
                [only] => only.leads_to(),
                _ => None,
            };
            let Some(target) = leads else {
                let records = of_kind(&name, &found, kind);
                if records.is_empty() {
                    // Nor is there a use of the way to it.
                    return Ok(Ok(vec![]));
                }
                chain.extend(records);
                return Ok(Ok(chain));
            };
            let is_known = |record: &Record| record.name == target;
            if target == name || chain.len() > CHAIN || chain.iter().any(is_known) {
                return Ok(Ok(vec![]));
            }
            chain.push(record(&name, RData::CNAME(CNAME(target.clone()))));
            if !self.zone.domain.zone_of(&target) {
                if outside::is_hidden(&target, self.hidden) {
                    return Ok(Ok(chain));
                }
                return Ok(Err(Verdict::Follow { chain, target }));
            }
            let Ok(next) = self.find(apex, &self.labels(&target)) else {
                return Ok(Ok(vec![]));
            };
            (name, found) = (target, next);
        }
    }

    /// Ports of a Service or of its endpoints, and the addresses of those that have them.
    fn ports(self, name: &Name, apex: &Name, found: &Found<'_>) -> Answer {
        // All have the same weight; each record says its part of a hundred.
        let weight = u16::try_from(100 / found.places.len().max(1))
            .unwrap_or(100)
            .max(1);
        let (mut records, mut additionals) = (vec![], vec![]);
        let (mut ports, mut addresses) = (HashSet::new(), HashSet::new());
        for place in &found.places {
            let (Host::Address(address), Some(port)) = (&place.host, place.port) else {
                continue;
            };
            let is_new_port = ports.insert((place.endpoint, port));
            let is_new_address = addresses.insert((place.endpoint, address));
            if !is_new_port && !is_new_address {
                continue;
            }
            let owner = found.owner(place);
            if is_new_address {
                additionals.push(record(&owner, data(*address)));
            }
            if is_new_port {
                let target = SRV::new(0, weight, port, owner);
                records.push(record(name, RData::SRV(target)));
            }
        }
        if records.is_empty() {
            return self.nothing(ResponseCode::NoError, apex);
        }
        Answer {
            additionals,
            ..Answer::of(records)
        }
    }

    fn texts(self, name: &Name, apex: &Name, labels: &[String]) -> Result<Vec<Record>, NoSuchName> {
        if labels == ["dns-version"] {
            let (version, ttl) = VERSION;
            let text = RData::TXT(TXT::new(vec![version.into()]));
            return Ok(vec![Record::from_rdata(name.clone(), ttl, text)]);
        }
        match self.find(apex, labels)?.places.is_empty() {
            true => Err(NoSuchName),
            false => Ok(vec![]),
        }
    }

    /// The server of the domain: this one, under the name of its Service.
    fn servers(self, apex: &Name) -> Answer {
        let found = self.of_service(apex, "kube-system", "kube-dns", Part::Whole);
        let Ok(found) = found else {
            return self.nothing(ResponseCode::NoError, apex);
        };
        let (mut records, mut additionals) = (vec![], vec![]);
        let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
        for place in &found.places {
            let Host::Address(address) = place.host else {
                continue;
            };
            if names.insert(place.endpoint) {
                records.push(record(apex, RData::NS(NS(found.owner(place)))));
            }
            if addresses.insert((place.endpoint, address)) {
                additionals.push(record(&found.owner(place), data(address)));
            }
        }
        if records.is_empty() {
            return self.nothing(ResponseCode::NoError, apex);
        }
        Answer {
            additionals,
            ..Answer::of(records)
        }
    }

    /// Says that there is nothing, and for how long that may be believed.
    fn nothing(self, code: ResponseCode, apex: &Name) -> Answer {
        Answer {
            authorities: vec![self.soa(apex)],
            ..Answer::empty(code)
        }
    }

    fn soa(self, apex: &Name) -> Record {
        let soa = SOA::new(
            full(&["ns", "dns"], apex),
            full(&["hostmaster"], apex),
            self.known.version(),
            7200,
            1800,
            86_400,
            TTL,
        );
        record(apex, RData::SOA(soa))
    }
}

/// Address records of the kind that is asked for, each once.
fn of_kind(name: &Name, found: &Found<'_>, kind: RecordType) -> Vec<Record> {
    let mut told = HashSet::new();
    let addresses = found.places.iter().filter_map(|place| match place.host {
        Host::Address(address) => Some(address),
        Host::Name(_) => None,
    });
    let fitting = addresses.filter(|address| match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        _ => false,
    });
    fitting
        .filter(|address| told.insert(*address))
        .map(|address| record(name, data(address)))
        .collect()
}

fn data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}
