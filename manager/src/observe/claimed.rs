//! What is claimed by whom, and what is free of the Service range.

use super::{Error, Observer, Seen, decode};
use crate::{
    lifecycle::pause,
    object::{CONFIG_MAP, IP_ADDRESS, NAMESPACE, Object, SERVICE_CIDR, VIRTUAL_CONTROL_PLANE},
    spec::{
        claims::{self, Range, Standing},
        control_plane::{Owner, given_slice},
    },
    watching::answers::Reader,
};
use api::{VirtualControlPlane, keys};
use std::{collections::BTreeSet, net::Ipv4Addr};

impl Observer {
    pub(super) async fn look_at_claims(
        &self,
        from: &Reader,
        seen: &mut Seen,
        owner: &Owner,
    ) -> Result<(), Error> {
        let system = Some(self.system.as_str());
        let name = claims::identity_claim_name(&owner.id);
        seen.claim = from.get(CONFIG_MAP, system, &name).await?;
        let holder_lives = match &seen.claim {
            Some(claim) if claims::holder_uid(claim) == owner.uid => true,
            Some(claim) => {
                let (namespace, name) = claims::holder(claim);
                let holder = self
                    .cluster
                    .get(VIRTUAL_CONTROL_PLANE, Some(namespace), name)
                    .await?;
                holder.is_some_and(|holder| holder.uid() == claims::holder_uid(claim))
            }
            None => false,
        };
        seen.standing = claims::standing(seen.claim.as_ref(), owner, holder_lives);
        if seen.standing == Standing::Free
            && let Some(holder) = claims::first_before(&seen.vcp, self.tenants().await?.into_iter())
        {
            seen.standing = Standing::Theirs { holder };
        }
        if seen.standing != Standing::Ours {
            return Ok(());
        }
        let selector = format!(
            "{}={},{}={}",
            keys::ROLE,
            keys::ROLE_SLICE_CLAIM,
            keys::TENANT,
            owner.id
        );
        seen.slice_claims = from.list(CONFIG_MAP, system, &selector).await?;
        Ok(())
    }

    /// All VirtualControlPlanes that this version can read. Of what is told lately, all that are older than one of which was
    /// told are part.
    async fn tenants(&self) -> Result<Vec<VirtualControlPlane>, Error> {
        if let Some(heard) = self.caches.tenants.now() {
            let all = heard.state().into_iter();
            return Ok(all.map(|vcp| VirtualControlPlane::clone(&vcp)).collect());
        }
        let read = |vcp: Object| decode(&vcp).ok();
        let all = self.cluster.list_of(VIRTUAL_CONTROL_PLANE, None, "", read);
        Ok(all.await?)
    }

    /// Whether a slice is to be claimed, and what is free must be known for it.
    pub(crate) fn wants_slice(seen: &Seen) -> bool {
        let given = given_slice(&seen.vcp).ok().flatten();
        let held = seen.slice_claims.iter().find_map(claims::claimed_slice);
        // An external tenant has a slice only if it is given one; that of a twin is another super cluster's.
        let wanted = seen.vcp.spec.super_cluster.is_none()
            && (given.is_some() || seen.vcp.spec.external.is_none());
        let settled = held.is_some() && (given.is_none() || given == held);
        let is_looked_after = pause::of(seen).is_none() && seen.standing == Standing::Ours;
        let may = seen.class.is_some() || seen.vcp.spec.external.is_some();
        let stays = seen.vcp.metadata.deletion_timestamp.is_none();
        wanted && !settled && is_looked_after && may && stays
    }

    /// What is free; to be asked by one at a time.
    pub(crate) async fn look_at_range(
        &self,
        owner: &Owner,
    ) -> Result<Result<Range, String>, Error> {
        let range = match self.service_range {
            Some(range) => range,
            None => {
                let object = self
                    .cluster
                    .get_if_served(SERVICE_CIDR, None, "kubernetes")
                    .await?;
                let cidrs = object
                    .as_ref()
                    .map(|object| object.items("/spec/cidrs"))
                    .unwrap_or_default();
                match cidrs
                    .iter()
                    .filter_map(|cidr| cidr.as_str()?.parse().ok())
                    .next()
                {
                    Some(range) => range,
                    None => {
                        return Ok(Err(
                            "no ServiceCIDR object named kubernetes with an IPv4 range".into(),
                        ));
                    }
                }
            }
        };
        let selector = format!("{}={}", keys::ROLE, keys::ROLE_SLICE_CLAIM);
        let claims = self
            .cluster
            .list(CONFIG_MAP, Some(&self.system), &selector)
            .await?;
        let others = claims
            .iter()
            .filter(|claim| claim.label(keys::TENANT) != Some(owner.id.as_str()));
        let taken = others.filter_map(|claim| {
            let (namespace, name) = claims::holder(claim);
            Some((claims::claimed_slice(claim)?, format!("{namespace}/{name}")))
        });
        let selector = format!("{}={}", keys::TENANT, owner.id);
        let own = self.cluster.list(NAMESPACE, None, &selector).await?;
        let own: BTreeSet<&str> = own.iter().map(Object::name).collect();
        let addresses = self.cluster.list(IP_ADDRESS, None, "").await?;
        let used = addresses
            .iter()
            .filter(|address| !own.contains(address.text("/spec/parentRef/namespace")));
        let used: Vec<Ipv4Addr> = used
            .filter_map(|address| address.name().parse().ok())
            .collect();
        Ok(Ok(Range {
            range,
            taken: taken.collect(),
            used,
        }))
    }
}
