//! Claims: an identity and a Service slice belong to the first VirtualControlPlane that takes them.
//!
//! A claim is a ConfigMap in Sublet's own namespace whose name follows from what is claimed, so that its create is the
//! lock. Nobody who may only write VirtualControlPlanes can touch it.

use crate::{
    object::{CONFIG_MAP, Object},
    spec::control_plane::{Owner, Refusal},
};
use api::{VirtualControlPlane, keys};
use serde_json::json;
use std::net::Ipv4Addr;
use tenancy::{slice::Slice, tenant::TenantId};

/// How a VirtualControlPlane stands to the claim of its identity.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Standing {
    /// Nobody holds it.
    Free,
    /// It is ours.
    Ours,
    /// Its holder is gone: it may be taken over by an update of what was seen.
    Movable,
    /// Another one holds it.
    Theirs {
        /// Namespace and name of the holder.
        holder: String,
    },
}

/// What the super cluster's Service range looks like.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    /// All of it.
    pub(crate) range: Slice,
    /// Slices that others claimed or ask for, with their holder's name.
    pub(crate) taken: Vec<(Slice, String)>,
    /// Addresses of existing Services that aren't the tenant's.
    pub(crate) used: Vec<Ipv4Addr>,
}

/// Name of the claim of an identity.
pub(crate) fn identity_claim_name(id: &TenantId) -> String {
    format!("claim-{id}")
}

/// Name of the claim of a slice; its base address alone, so that two sizes at one place collide.
pub(crate) fn slice_claim_name(slice: Slice) -> String {
    let text = slice.to_string();
    let base = text.split('/').next().unwrap_or_default();
    format!("slice-{}", base.replace('.', "-"))
}

/// The claim of an identity for `owner`.
pub(crate) fn identity_claim(system: &str, owner: &Owner) -> Object {
    claim(
        system,
        &identity_claim_name(&owner.id),
        keys::ROLE_IDENTITY_CLAIM,
        owner,
        None,
    )
}

/// The claim of a slice for `owner`.
pub(crate) fn slice_claim(system: &str, slice: Slice, owner: &Owner) -> Object {
    claim(
        system,
        &slice_claim_name(slice),
        keys::ROLE_SLICE_CLAIM,
        owner,
        Some(slice),
    )
}

/// How `owner` stands to the claim; `holder_lives` tells whether the VirtualControlPlane named there exists with its UID.
pub(crate) fn standing(claim: Option<&Object>, owner: &Owner, holder_lives: bool) -> Standing {
    let Some(claim) = claim else {
        return Standing::Free;
    };
    let (namespace, name) = holder(claim);
    if (namespace, name, holder_uid(claim)) == (&owner.namespace, &owner.name, &owner.uid) {
        Standing::Ours
    } else if holder_lives {
        Standing::Theirs {
            holder: format!("{namespace}/{name}"),
        }
    } else {
        Standing::Movable
    }
}

/// Who has the identity of `vcp` while nobody claimed it, if that is another one of `all`: the first of them, as the syncer
/// decides too.
pub(crate) fn first_before(
    vcp: &VirtualControlPlane,
    all: impl Iterator<Item = VirtualControlPlane>,
) -> Option<String> {
    let place = |vcp: &VirtualControlPlane| {
        let metadata = &vcp.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        (namespace, metadata.name.clone().unwrap_or_default())
    };
    let rank = |vcp: &VirtualControlPlane| (vcp.precedence(), place(vcp));
    let claimants = all.filter(|other| {
        let conditions = other.status.iter().flat_map(|status| &status.conditions);
        let mut conditions = conditions.filter(|condition| condition.status == "True");
        other.spec.identity == vcp.spec.identity
            && rank(other) < rank(vcp)
            && !conditions.any(|condition| condition.type_ == "IdentityConflict")
    });
    let (namespace, name) = place(&claimants.min_by_key(rank)?);
    Some(format!("{namespace}/{name}"))
}

/// Namespace and name of the VirtualControlPlane that holds a claim.
pub(crate) fn holder(claim: &Object) -> (&str, &str) {
    (claim.text("/data/namespace"), claim.text("/data/name"))
}

/// UID of the VirtualControlPlane that holds a claim.
pub(crate) fn holder_uid(claim: &Object) -> &str {
    claim.text("/data/uid")
}

/// The slice that a claim is for.
pub(crate) fn claimed_slice(claim: &Object) -> Option<Slice> {
    claim.text("/data/cidr").parse().ok()
}

/// The slice to claim: `given` when it can be the tenant's, else the first free one of `/prefix`; none is wider.
pub(crate) fn choose(given: Option<Slice>, prefix: u8, range: &Range) -> Result<Slice, Refusal> {
    let Some(slice) = given else {
        let taken: Vec<Slice> = range.taken.iter().map(|(slice, _)| *slice).collect();
        return Ok(range.range.first_free(prefix, &taken, &range.used)?);
    };
    let refuse = |why: String| Err(Refusal::SliceRefused { slice, why });
    if let Some((other, holder)) = range.taken.iter().find(|(other, _)| other.overlaps(slice)) {
        return Err(Refusal::SliceTaken {
            slice,
            other: *other,
            holder: holder.clone(),
        });
    }
    if slice.prefix() < prefix {
        return refuse(format!(
            "has more addresses than the /{prefix} that serviceSlicePrefix of its class allows"
        ));
    }
    // Two aligned ranges that share an address lie one in the other; ours is the inner one if theirs holds more.
    if !(range.range.overlaps(slice)
        && range.range.contains(slice.api_address())
        && slice.prefix() >= range.range.prefix())
    {
        return refuse(format!(
            "lies outside the super cluster's Service range {}",
            range.range
        ));
    }
    if let Some(address) = range.used.iter().find(|address| slice.contains(**address)) {
        return refuse(format!("holds {address}, which is in use by a Service"));
    }
    Ok(slice)
}

fn claim(system: &str, name: &str, role: &str, owner: &Owner, slice: Option<Slice>) -> Object {
    let mut body = json!({
        "metadata": {
            "labels": {keys::TENANT: owner.id.as_str(), keys::ROLE: role},
            "annotations": {keys::CONTROL_PLANE: owner.path()},
        },
        "data": {"namespace": owner.namespace, "name": owner.name, "uid": owner.uid},
    });
    if let Some(slice) = slice {
        body["data"]["cidr"] = json!(slice.to_string());
    }
    Object::new(CONFIG_MAP, Some(system), name, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::control_plane::tests::owner;

    fn slice(text: &str) -> Slice {
        text.parse().unwrap()
    }

    #[test]
    fn an_identity_belongs_to_the_first_that_claims_it() {
        let claim = identity_claim("sublet-system", &owner());
        assert_eq!(standing(None, &owner(), false), Standing::Free);
        assert_eq!(standing(Some(&claim), &owner(), true), Standing::Ours);

        let thief = Owner {
            name: "thief".into(),
            uid: "other".into(),
            ..owner()
        };
        assert_eq!(
            standing(Some(&claim), &thief, true),
            Standing::Theirs {
                holder: "tenants/acme".into()
            }
        );
        assert_eq!(standing(Some(&claim), &thief, false), Standing::Movable);

        // The same name, made anew: the old one is gone.
        let again = Owner {
            uid: "other".into(),
            ..owner()
        };
        assert_eq!(standing(Some(&claim), &again, false), Standing::Movable);
    }

    #[test]
    fn t46_what_nobody_claimed_is_the_first_ones_and_an_older_one_that_was_never_served_comes_later()
     {
        let made = |name: &str, day: u8, is_proven: bool| -> VirtualControlPlane {
            let mut vcp = crate::spec::control_plane::tests::vcp();
            vcp.metadata.name = Some(name.into());
            let time = json!(format!("2026-01-{day:02}T00:00:00Z"));
            vcp.metadata.creation_timestamp = serde_json::from_value(time).unwrap();
            if is_proven {
                let proof = json!({"proof": {"kubeSystemUID": "u"}});
                vcp.status = Some(serde_json::from_value(proof).unwrap());
            }
            vcp
        };
        let (victim, thief) = (made("victim", 2, true), made("thief", 1, false));
        let late = made("late", 3, true);
        let all = [&victim, &thief, &late].map(VirtualControlPlane::clone);
        let before = |vcp: &VirtualControlPlane| first_before(vcp, all.clone().into_iter());
        assert_eq!(before(&victim), None);
        assert_eq!(before(&thief).unwrap(), "tenants/victim");
        assert_eq!(before(&late).unwrap(), "tenants/victim");
        let mut other = made("other", 9, false);
        other.spec.identity = Some(TenantId::from_bits([9; 16]).to_string());
        assert_eq!(before(&other), None);
    }

    #[test]
    fn a_claim_of_a_slice_is_named_after_its_place_and_says_what_it_is() {
        let claim = slice_claim("sublet-system", slice("10.96.4.0/22"), &owner());
        assert_eq!(claim.name(), "slice-10-96-4-0");
        assert_eq!(claimed_slice(&claim), Some(slice("10.96.4.0/22")));
        assert_eq!(claim.name(), slice_claim_name(slice("10.96.4.0/24")));
    }

    #[test]
    fn a_slice_is_free_inside_and_nobody_elses() {
        let range = Range {
            range: slice("10.96.0.0/16"),
            taken: vec![(slice("10.96.4.0/22"), "other/tenant".into())],
            used: vec!["10.96.9.9".parse().unwrap()],
        };
        let choose = |given: Option<&str>| {
            choose(given.map(slice), 22, &range).map(|slice| slice.to_string())
        };
        assert_eq!(choose(None).unwrap(), "10.96.12.0/22");
        assert_eq!(choose(Some("10.96.16.0/22")).unwrap(), "10.96.16.0/22");
        for (given, why) in [
            ("10.96.6.0/24", "overlaps 10.96.4.0/22 of other/tenant"),
            ("10.97.0.0/22", "lies outside"),
            ("10.96.8.0/22", "holds 10.96.9.9"),
            ("10.96.128.0/17", "more addresses than the /22"),
            ("10.0.0.0/8", "overlaps"),
        ] {
            match choose(Some(given)) {
                Err(refusal) => assert!(refusal.to_string().contains(why), "{refusal}"),
                Ok(taken) => assert_eq!((given, why), (taken.as_str(), "")),
            }
        }
        let empty = Range {
            taken: vec![],
            used: vec![],
            ..range
        };
        assert!(super::choose(Some(slice("10.0.0.0/8")), 22, &empty).is_err());
    }
}
