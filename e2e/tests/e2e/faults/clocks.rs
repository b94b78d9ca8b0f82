//! Clocks that don't agree: F18. Nothing that a syncer decides depends on the time of another host.

use super::crosses;
use anyhow::ensure;
use e2e::{
    kind::LEASE,
    oracle,
    read::text,
    rig::{Rig, Wish, on_rig},
    wait::{PODS, eventually},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tenancy::fleet::{LEASE_DURATION, RENEWAL_PERIOD, Replica, owner};

/// What the other host's clock is off by.
const OFF: SignedDuration = SignedDuration::from_mins(10);
/// How long the other one is watched at each time: long enough to be taken for dead.
const WATCHED: Duration = LEASE_DURATION.saturating_mul(2);
/// A certificate is good so long after it is shown first.
const LATER: Duration = Duration::from_secs(20);
/// Connections that may be begun meanwhile: one tenant is tried ever more seldom.
const MOST_TRIES: u64 = 60;

/// A syncer on another host that only keeps its Lease, by a clock of its own.
struct Peer {
    replica: Replica,
    lease: String,
}

impl Peer {
    /// One to which the first tenant belongs when both are there.
    async fn join(rig: &Rig) -> anyhow::Result<Self> {
        let replica = |name: &str| Replica {
            name: name.to_owned(),
            instance: "peer".to_owned(),
        };
        let name = ('b'..='z').map(String::from).find(|name| {
            let pair = [replica(&rig.syncer.name), replica(name)];
            owner(&rig.tenants[0].id, &pair).is_some_and(|owner| owner.name == *name)
        });
        let Some(name) = name else {
            anyhow::bail!("no name gets the tenant");
        };
        let peer = Self {
            lease: format!("syncer-{name}-peer"),
            replica: replica(&name),
        };
        let lease = json!({
            "metadata": {"name": peer.lease, "namespace": api::SYSTEM_NAMESPACE,
                "labels": {api::keys::ROLE: api::keys::ROLE_SYNCER}},
            "spec": {"holderIdentity": peer.replica.identity(), "leaseDurationSeconds": LEASE_DURATION.as_secs()},
        });
        rig.side.create(LEASE, lease).await?;
        Ok(peer)
    }

    /// Renews its Lease by a clock that is off.
    async fn renew(&self, rig: &Rig, off: SignedDuration) -> anyhow::Result<()> {
        let now = Timestamp::now() + off;
        let now = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let spec = json!({"spec": {"renewTime": now}});
        rig.side
            .merge(LEASE, api::SYSTEM_NAMESPACE, &self.lease, spec)
            .await?;
        Ok(())
    }

    /// The same for a while; `look` is asked after each renewal whether it may stop. An error once the time is over.
    async fn renew_until(
        &self,
        rig: &Rig,
        off: SignedDuration,
        mut look: impl AsyncFnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            self.renew(rig, off).await?;
            match look().await {
                Err(err) if began.elapsed() > PODS => return Err(err),
                Err(_) => tokio::time::sleep(RENEWAL_PERIOD / 2).await,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Takes the tenant, which must be free.
    async fn lead(&self, rig: &Rig) -> anyhow::Result<()> {
        let name = format!("tenant-{}", rig.tenants[0].id);
        let seen = rig.side.get(LEASE, api::SYSTEM_NAMESPACE, &name).await?;
        let holder = text(&seen, "/spec/holderIdentity");
        ensure!(holder.is_empty(), "{holder} leads");
        let epoch = seen["spec"]["leaseTransitions"]
            .as_u64()
            .unwrap_or_default();
        let taken = json!({
            "metadata": {"resourceVersion": seen["metadata"]["resourceVersion"]},
            "spec": {"holderIdentity": self.replica.identity(), "leaseTransitions": epoch + 1},
        });
        rig.side
            .merge(LEASE, api::SYSTEM_NAMESPACE, &name, taken)
            .await?;
        Ok(())
    }
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f18_a_lease_is_neither_stolen_nor_kept_for_what_its_holders_clock_says() {
    on_rig(Wish::default(), async |rig| {
        let peer = Peer::join(rig).await?;
        // Its clock is behind: by what it writes its Lease has run out long ago.
        peer.renew_until(rig, -OFF, async || peer.lead(rig).await)
            .await?;
        for off in [-OFF, OFF] {
            let began = Instant::now();
            while began.elapsed() < WATCHED {
                peer.renew(rig, off).await?;
                let leader = rig.leader(0).await?;
                ensure!(
                    leader == peer.replica.name,
                    "{leader} took the tenant of one that lives"
                );
                tokio::time::sleep(RENEWAL_PERIOD).await;
            }
        }
        // It dies with a Lease that is good for ten minutes, by what it wrote.
        let began = Instant::now();
        eventually(PODS, "the dead one's tenant is taken", async || {
            let leader = rig.leader(0).await?;
            ensure!(leader == rig.syncer.name, "{leader} leads");
            Ok(())
        })
        .await?;
        e2e::told!(
            "F18: taken over from one whose clock is ahead after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        rig.synced(0).await?;
        crosses(rig, 0, ("default", "after"), PODS).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await
    });
}

/// Made by a host whose clock is ahead, as a tenant's API server that was just renewed may show it.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f18_a_certificate_that_is_not_good_yet_is_waited_for_in_calm() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        crosses(rig, 0, ("default", "before"), PODS).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        guest
            .proxy
            .show(&rig.authority().server_from(now + LATER)?)?;
        let before = guest.proxy.greeted();
        guest.proxy.link().reset();
        crosses(rig, 0, ("default", "meanwhile"), PODS).await?;
        let then = SystemTime::now().duration_since(UNIX_EPOCH)?;
        ensure!(then >= now + LATER, "it was trusted before its time");
        let tries = guest.proxy.greeted() - before;
        ensure!(tries <= MOST_TRIES, "{tries} connections were tried");
        e2e::told!("F18: {tries} connections were tried within {LATER:?}");
        let deletions = oracle::deeds::deletions(rig)?;
        ensure!(deletions.is_empty(), "{deletions:?}");
        rig.synced(0).await?;
        oracle::all(rig).await
    });
}
