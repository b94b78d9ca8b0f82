//! Whether the tenant's API server can give Services their addresses, and gives none that nobody serves; pure.
//!
//! Its ServiceCIDR `kubernetes` is the tenant's slice. Without it, or while it isn't Ready, no Service gets an address. Others
//! are the tenant's own: it may make them, and its controller-manager sets them Ready whoever says otherwise, so the
//! syncer refuses Services with their addresses (`AddressOutsideSlice`), and this tells of it.

use crate::{
    object::{Object, Objects, SERVICE_CIDR},
    running::parts,
    status::Fact,
};
use serde_json::Value;
use tenancy::slice::Slice;

/// Condition that tells of it.
pub(crate) const CONDITION: &str = "ServiceCIDRReady";
/// The one that is made out of the API server's flag.
pub(crate) const DEFAULT: &str = "kubernetes";
/// How many of a tenant's own are looked at: a tenant makes as many as it likes, of any size.
pub(crate) const OWN: usize = 8;

/// What there is to say of the ServiceCIDRs that were seen in a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was seen: it has none before 1.33, and its API server makes the first one before it is ready.
    Nothing,
    /// Services get no addresses, or those of others: the tenant isn't Ready.
    Blocking(Fact),
    /// They get them, whatever else there is to say.
    Served(Fact),
}

/// What there is to say of the ServiceCIDRs in `objects`, where the tenant has `slice`.
pub(crate) fn told(objects: &Objects, slice: Slice) -> Verdict {
    let Some(default) = objects.get(SERVICE_CIDR, DEFAULT) else {
        return Verdict::Nothing;
    };
    if let Some((reason, message)) = blocker(default, slice) {
        return Verdict::Blocking(Fact::no(CONDITION, reason, message));
    }
    let others = objects
        .of(SERVICE_CIDR)
        .filter(|other| other.name() != DEFAULT);
    let mut outside = others.filter(|other| !lies_in(other, slice));
    Verdict::Served(match outside.next() {
        None => Fact::yes(CONDITION, "Ready"),
        Some(other) => {
            let message = format!(
                "the tenant's ServiceCIDR {:?} lies outside of its slice {slice}: Services that get addresses of it aren't \
                 synced; delete it in the tenant, and make those Services anew",
                other.name()
            );
            Fact::no(CONDITION, "OutsideSlice", message)
        }
    })
}

/// Why the tenant's Services get no addresses of its slice, and what to do.
fn blocker(default: &Object, slice: Slice) -> Option<(&'static str, String)> {
    if default.is_going() {
        let message = "the tenant's ServiceCIDR \"kubernetes\" is being deleted, and its Services get no addresses: take off \
                       its finalizer networking.k8s.io/service-cidr-finalizer in the tenant, then its API server makes it anew";
        return Some(("Terminating", message.into()));
    }
    if !lies_in(default, slice) {
        let message = format!(
            "the ServiceCIDR \"kubernetes\" in the tenant's data isn't {slice}, which spec.network.serviceCIDR says: the data are \
             of a tenant with another slice; create it again with that one, or delete this ServiceCIDR and all Services in \
             the tenant"
        );
        return Some(("AnotherSlice", message));
    }
    if !parts::is_ready(default) {
        let message = "the tenant's ServiceCIDR \"kubernetes\" isn't Ready, and its Services get no addresses; if it stays so, \
                       `kubectl get servicecidr kubernetes -o yaml` in the tenant says why, and so does the log of its \
                       kube-controller-manager";
        return Some(("NotReady", message.into()));
    }
    None
}

/// Whether all its ranges lie in the slice.
fn lies_in(cidr: &Object, slice: Slice) -> bool {
    let range = |text: &Value| text.as_str()?.parse::<Slice>().ok();
    let ranges = cidr.items("/spec/cidrs");
    !ranges.is_empty()
        && ranges
            .iter()
            .all(|text| range(text).is_some_and(|range| range.lies_in(slice)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    const SLICE: &str = "10.96.4.0/22";

    pub(crate) fn cidr(name: &str, ranges: &[&str], ready: &str) -> Object {
        let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
        let body = json!({"spec": {"cidrs": ranges}, "status": status});
        Object::new(SERVICE_CIDR, None, name, body)
    }

    fn told_of(cidrs: impl IntoIterator<Item = Object>) -> Verdict {
        let mut objects = Objects::default();
        objects.extend(cidrs);
        told(&objects, SLICE.parse().unwrap())
    }

    /// What it says of them: whether that keeps the tenant from being Ready, the reason, and the message.
    fn said(cidrs: impl IntoIterator<Item = Object>) -> (bool, String, String) {
        match told_of(cidrs) {
            Verdict::Nothing => panic!("nothing was said"),
            Verdict::Blocking(fact) => (true, fact.reason, fact.message),
            Verdict::Served(fact) => (false, fact.reason, fact.message),
        }
    }

    #[test]
    fn a_tenant_that_has_its_slice_is_well_and_one_without_service_cidrs_is_not_spoken_of() {
        let good = cidr(DEFAULT, &[SLICE], "True");
        assert_eq!(
            told_of([good.clone()]),
            Verdict::Served(Fact::yes(CONDITION, "Ready"))
        );
        let within = cidr("part", &["10.96.5.0/24"], "True");
        assert_eq!(
            told_of([good, within]),
            Verdict::Served(Fact::yes(CONDITION, "Ready"))
        );
        assert_eq!(told_of([]), Verdict::Nothing);
    }

    #[test]
    fn a_default_that_gives_no_addresses_keeps_the_tenant_from_being_ready_and_says_what_to_do() {
        let mut going = cidr(DEFAULT, &[SLICE], "False");
        going.body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let mut fresh = cidr(DEFAULT, &[SLICE], "True");
        fresh.body["status"] = json!({});
        for (default, reason, todo) in [
            (going, "Terminating", "take off its finalizer"),
            (
                cidr(DEFAULT, &[SLICE], "False"),
                "NotReady",
                "kubectl get servicecidr",
            ),
            (fresh, "NotReady", "kubectl get servicecidr"),
            (
                cidr(DEFAULT, &["10.97.0.0/22"], "True"),
                "AnotherSlice",
                "create it again",
            ),
            (
                cidr(DEFAULT, &[], "True"),
                "AnotherSlice",
                "create it again",
            ),
        ] {
            let (blocks, said, message) = said([default]);
            assert_eq!((blocks, said.as_str()), (true, reason));
            assert!(message.contains(todo), "{message}");
        }
    }

    #[test]
    fn one_of_the_tenants_own_outside_of_its_slice_is_told_and_the_tenant_stays_ready() {
        for ranges in [
            &["10.98.0.0/16"][..],
            &["10.96.0.0/16"],
            &["10.96.4.0/24", "fd00::/112"],
        ] {
            let good = cidr(DEFAULT, &[SLICE], "True");
            let (blocks, reason, message) = said([good, cidr("more", ranges, "True")]);
            assert_eq!((blocks, reason.as_str()), (false, "OutsideSlice"));
            assert!(
                message.contains("\"more\"") && message.contains("delete it"),
                "{message}"
            );
        }
    }
}
