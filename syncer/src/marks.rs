//! Keeps the marks by which a tenant, or the super cluster, that went back in time is found out, and the proof of who
//! the tenant is (R1, R2, R5).
//!
//! The tenant's mark is the ConfigMap `sublet-mark` in its kube-system; the super cluster's is the annotations of a Lease
//! in Sublet's own namespace, one for each tenant: the one that names its leader. Both are looked at when a tenant is
//! served, after each list, every ten seconds while something happens and every minute else, and advanced when
//! something was seen since, the tenant's first. Who goes back in time must break its watches, so a quiet tenant's lists
//! tell of it at once. An operator's release is granted here.

mod store;

use crate::{
    apply::Failure,
    engine::Engine,
    gate::{Held, Hold},
    live::read,
    tenants::{Record, Tenant},
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use store::{Own, Theirs};
use tenancy::mark::{self, Mark, WentBack};
use tokio::{sync::Notify, time::Instant};

/// How often marks are advanced at most: what a store loses of the last seconds is then found out by versions alone, and
/// only while this process lives.
const PERIOD: Duration = Duration::from_secs(10);
/// How often the marks of a quiet tenant are looked at: with hundreds of them that is most of what an idle syncer asks.
const QUIET_PERIOD: Duration = Duration::from_secs(60);
/// So many times in a row a tenant refuses its mark before deletions are held for that.
const REFUSALS: u32 = 3;
/// Lists come in bursts.
const SETTLE: Duration = Duration::from_millis(50);

/// What is known of a tenant's marks.
#[derive(Default)]
pub(crate) struct Marks {
    inner: Mutex<Inner>,
    look: Notify,
}

#[derive(Default)]
struct Inner {
    mark: Mark,
    /// The Lease was read.
    loaded: bool,
    /// Something was seen that the marks don't tell.
    outdated: bool,
    /// Version of the last complete list of each resource.
    listed: BTreeMap<&'static str, u64>,
    /// Resources whose last list was older than what was seen before.
    behind: BTreeMap<&'static str, WentBack>,
    /// How many times in a row the tenant refused its mark.
    refused: u32,
}

impl Inner {
    /// Versions before the last lists say nothing any more.
    fn begin_anew(&mut self) {
        self.behind.clear();
        let listed = self.listed.iter();
        self.mark.versions = listed
            .map(|(resource, version)| ((*resource).to_owned(), *version))
            .collect();
    }
}

impl Marks {
    /// Something changed that an examination would find.
    pub(crate) fn look_again(&self) {
        self.look.notify_one();
    }

    /// Whether the marks are to be looked at again, so long after the last time.
    fn is_due(&self, since: Duration) -> bool {
        since >= QUIET_PERIOD || since >= PERIOD && self.inner.lock().outdated
    }

    /// An object was seen at a version.
    pub(crate) fn seen(&self, resource: &'static str, version: u64) {
        let mut inner = self.inner.lock();
        inner.outdated |= inner.mark.raise(resource, version);
    }

    /// A complete list was seen; the error is kept until a newer one comes.
    pub(crate) fn listed(&self, resource: &'static str, version: u64) -> Result<(), WentBack> {
        let mut inner = self.inner.lock();
        let judged = inner.mark.judge_version(resource, version);
        match &judged {
            Ok(()) => drop(inner.behind.remove(resource)),
            Err(why) => drop(inner.behind.insert(resource, why.clone())),
        }
        inner.listed.insert(resource, version);
        inner.outdated |= inner.mark.raise(resource, version);
        drop(inner);
        self.look_again();
        judged
    }

    /// The nonce that the tenant had at least.
    pub(crate) fn nonce(&self) -> Option<u64> {
        let inner = self.inner.lock();
        inner.loaded.then_some(inner.mark.nonce)
    }

    /// The mark was read, and says this.
    #[cfg(test)]
    pub(crate) fn read(&self, nonce: u64) {
        self.load(Mark {
            nonce,
            ..Mark::default()
        });
    }

    /// Whether an object that the tenant lacks must stay, by the restore counter that it carries.
    pub(crate) fn quarantines(&self, counter: i64, restore_counter: i64) -> bool {
        self.inner.lock().mark.quarantines(counter, restore_counter)
    }

    /// Takes up the super cluster's mark of the tenant: what it says of lists that came before it was read.
    ///
    /// Returns whether this was the first time.
    fn load(&self, found: Mark) -> bool {
        let mut inner = self.inner.lock();
        if inner.loaded {
            return false;
        }
        inner.loaded = true;
        let behind: Vec<_> = inner
            .listed
            .iter()
            .filter_map(|(resource, version)| {
                let why = found.judge_version(resource, *version).err()?;
                Some((*resource, why))
            })
            .collect();
        inner.behind.extend(behind);
        let seen = std::mem::replace(&mut inner.mark, found);
        for (resource, version) in seen.versions {
            inner.outdated |= inner.mark.raise(&resource, version);
        }
        true
    }

    /// Whether the tenant is as new as it was, by its nonce and its lists.
    ///
    /// A restore by Sublet sets versions back too; what is missing then is kept by its counter.
    fn judge(&self, nonce: Option<u64>, restore_counter: i64) -> Result<(), WentBack> {
        let mut inner = self.inner.lock();
        if restore_counter > inner.mark.restore_counter {
            inner.begin_anew();
        }
        inner.mark.judge_nonce(nonce, restore_counter)?;
        inner.behind.values().next().cloned().map_or(Ok(()), Err)
    }

    /// The tenant's mark was written, or refused; returns how many times in a row that was, or none if nothing follows from it.
    fn written(&self, written: &Result<u64, Failure>) -> Option<u32> {
        let mut inner = self.inner.lock();
        inner.refused = match written {
            Ok(_) => 0,
            Err(failure @ Failure::Api(_)) if !failure.is_unreachable() => inner.refused + 1,
            Err(_) => return None,
        };
        Some(inner.refused)
    }

    /// Takes what is there for right, as an operator says.
    fn rebase(&self, nonce: u64, restore_counter: i64) {
        let mut inner = self.inner.lock();
        inner.begin_anew();
        inner.mark.nonce = inner.mark.nonce.max(nonce);
        inner.mark.acknowledged = restore_counter;
        inner.outdated = true;
    }
}

/// Looks at the marks and advances them until the tenant is no longer served.
pub(crate) async fn keep(engine: Arc<Engine>, tenant: Arc<Tenant>) {
    loop {
        // Part of what must end before the tenant counts as stopped.
        let activity = tenant.activity.token();
        if let Err(err) = Box::pin(examine(&engine, &tenant)).await {
            tracing::debug!(tenant = %tenant.id, %err, "the marks can't be looked at now");
        }
        drop(activity);
        let looked = Instant::now();
        while !tenant.marks.is_due(looked.elapsed()) {
            tokio::select! {
                () = tenant.cancel.cancelled() => return,
                () = tenant.marks.look.notified() => {
                    tokio::time::sleep(SETTLE).await;
                    break;
                }
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }
}

async fn examine(engine: &Engine, tenant: &Tenant) -> Result<(), Failure> {
    let Some(found) = read(&tenant.cluster, "/api/v1/namespaces/kube-system").await? else {
        return Ok(());
    };
    let own = Own::read(tenant).await?;
    let theirs = Theirs::read(engine, tenant).await?;
    let is_first = tenant.marks.load(theirs.mark.clone());
    let held_before = tenant.gate.holds();
    let record = tenant.record();
    if let Some(wish) = wish(&record, tenant) {
        release(engine, tenant, &wish, found.uid(), &own, &theirs).await?;
        // What was written is looked at afresh.
        tenant.marks.look_again();
        return Ok(());
    } else if record.proof.is_none() && record.is_external {
        store::record_proof(engine, tenant, found.uid()).await?;
    }
    judge_identity(tenant, found.uid());
    judge_tenant(tenant, own.nonce);
    judge_super(engine, tenant, &own, &theirs);
    tenant.gate.examined();
    let held = tenant.gate.holds();
    let blocked = [Hold::Identity, Hold::WentBack, Hold::SuperWentBack]
        .iter()
        .any(|hold| held.contains_key(hold));
    if blocked || tenant.proof().is_none() {
        return Ok(());
    }
    advance(engine, tenant, own, theirs).await?;
    if is_first || held_before != held {
        engine.work_missing(tenant);
    }
    Ok(())
}

/// A wish to release that wasn't granted yet.
fn wish(record: &Record, tenant: &Tenant) -> Option<String> {
    let wish = record.release.clone()?;
    (tenant.marks.inner.lock().mark.released != wish).then_some(wish)
}

fn judge_identity(tenant: &Tenant, uid: &str) {
    let changed = tenant.proof().is_some_and(|proof| proof != uid);
    hold(
        tenant,
        Hold::Identity,
        changed.then(|| {
            "the tenant's kube-system namespace has another UID than the VirtualControlPlane records: its API server \
             or its data were exchanged"
                .into()
        }),
    );
}

fn judge_tenant(tenant: &Tenant, nonce: Option<u64>) {
    let judged = tenant.marks.judge(nonce, tenant.rules().restore_counter);
    let why = judged.err();
    hold(
        tenant,
        Hold::WentBack,
        why.map(|why| format!("the tenant went back to an older state: {why}")),
    );
}

fn judge_super(engine: &Engine, tenant: &Tenant, own: &Own, theirs: &Theirs) {
    let why = went_back(engine, own, theirs);
    hold(tenant, Hold::SuperWentBack, why);
}

/// Why the super cluster isn't the one that the tenant's mark was written for, or is older than it was.
///
/// By the nonce, which a restored super cluster has lost the newest values of, and by the version of its pods, which
/// tells sooner, but only until new ones have caught up.
fn went_back(engine: &Engine, own: &Own, theirs: &Theirs) -> Option<String> {
    let proof = engine
        .super_proof
        .get()
        .map(String::as_str)
        .unwrap_or_default();
    let (nonce, version) = (theirs.mark.nonce, engine.super_version());
    let is_told = !own.super_uid.is_empty();
    if is_told && own.super_uid != proof {
        Some(
            "the super cluster's kube-system namespace has another UID than the tenant's mark says"
                .into(),
        )
    } else if mark::is_ahead(own.nonce, nonce) {
        let found = own.nonce.unwrap_or_default();
        Some(format!(
            "the super cluster went back to an older state: its mark of the tenant says {nonce}, and the tenant's {found}"
        ))
    } else if is_told && own.super_version > version {
        Some(format!(
            "the super cluster went back to an older state: its pods are at version {version}, and were at {} before",
            own.super_version
        ))
    } else {
        None
    }
}

/// Read live: before a pod of the tenant is ended for lack of its super pod, the super cluster must not have gone back.
pub(crate) async fn prove_super(engine: &Engine, tenant: &Tenant) -> Result<(), Failure> {
    let own = Own::read(tenant).await?;
    let theirs = Theirs::read(engine, tenant).await?;
    match went_back(engine, &own, &theirs) {
        None if own.nonce.is_some() => Ok(()),
        None => Err(Held("the tenant has no mark yet".into()).into()),
        Some(why) => {
            tenant.marks.look_again();
            Err(Held(why).into())
        }
    }
}

fn hold(tenant: &Tenant, hold: Hold, why: Option<String>) {
    let held = tenant.gate.holds().contains_key(&hold);
    match &why {
        Some(why) if !held => {
            tracing::warn!(tenant = %tenant.id, reason = hold.reason(), %why, "deletions are held");
        }
        None if held => {
            tracing::info!(tenant = %tenant.id, reason = hold.reason(), "deletions are no longer held");
        }
        _ => {}
    }
    tenant.gate.hold(hold, why);
}

/// An operator has looked: what is held is let go, and what is there now is taken for right.
async fn release(
    engine: &Engine,
    tenant: &Tenant,
    wish: &str,
    uid: &str,
    own: &Own,
    theirs: &Theirs,
) -> Result<(), Failure> {
    tracing::info!(tenant = %tenant.id, "an operator lets go of what is held");
    if tenant.proof().as_deref() != Some(uid) {
        store::record_proof(engine, tenant, uid).await?;
    }
    let restore_counter = tenant.rules().restore_counter;
    tenant
        .marks
        .rebase(own.nonce.unwrap_or_default(), restore_counter);
    // Before the holds end, or a worker that still sees an open breaker would begin one anew.
    tenant.breakers.release();
    for entry in [
        Hold::Identity,
        Hold::WentBack,
        Hold::Breaker,
        Hold::Quarantine,
        Hold::SuperWentBack,
        Hold::UpwardBreaker,
    ] {
        tenant.gate.hold(entry, None);
    }
    // Both marks are made to agree at once: what they said before must hold nothing any more.
    let nonce = write_own(engine, tenant, own, theirs).await?;
    let mark = {
        let mut inner = tenant.marks.inner.lock();
        inner.mark.nonce = nonce;
        inner.mark.restore_counter = restore_counter;
        Mark {
            released: wish.to_owned(),
            ..inner.mark.clone()
        }
    };
    theirs.write(engine, tenant, &mark).await?;
    // Only now: a wish that counted as granted before both are written would be lost with one failed write.
    tenant.marks.inner.lock().mark.released = mark.released;
    engine.work_anew(tenant);
    Ok(())
}

/// Writes the tenant's mark. One that is refused time and again, by a policy of the tenant's own, tells nothing of a store
/// that went back: then deletions are held until it is taken.
async fn write_own(
    engine: &Engine,
    tenant: &Tenant,
    own: &Own,
    theirs: &Theirs,
) -> Result<u64, Failure> {
    let written = store::write_own(engine, tenant, own, theirs).await;
    match (tenant.marks.written(&written), &written) {
        (Some(0), _) => hold(tenant, Hold::MarkRefused, None),
        (Some(REFUSALS..), Err(err)) => {
            let why = format!(
                "the tenant refuses its mark, the ConfigMap {}/{}: {err}",
                store::PLACE,
                api::MARK_NAME
            );
            hold(tenant, Hold::MarkRefused, Some(why));
        }
        _ => {}
    }
    written
}

/// Writes both marks, the tenant's first, when there is something to tell.
async fn advance(
    engine: &Engine,
    tenant: &Tenant,
    own: Own,
    theirs: Theirs,
) -> Result<(), Failure> {
    let restore_counter = tenant.rules().restore_counter;
    let due = {
        let inner = tenant.marks.inner.lock();
        inner.outdated
            || inner.mark.nonce == 0
            || inner.mark.restore_counter != restore_counter
            || own.super_version < engine.super_version() && own.super_uid.is_empty()
    };
    if !due {
        return Ok(());
    }
    let nonce = write_own(engine, tenant, &own, &theirs).await?;
    let (mark, was_restored) = {
        let mut inner = tenant.marks.inner.lock();
        let was_restored = restore_counter > inner.mark.restore_counter;
        inner.mark.nonce = nonce;
        inner.mark.restore_counter = restore_counter;
        inner.outdated = false;
        (inner.mark.clone(), was_restored)
    };
    if was_restored {
        engine.work_anew(tenant);
    }
    if let Err(failure) = theirs.write(engine, tenant, &mark).await {
        tenant.marks.inner.lock().outdated = true;
        return Err(failure);
    }
    Ok(())
}

/// The tenant's own nonce, read live: before something is deleted for being missing, the tenant must not have gone back.
pub(crate) async fn is_current(tenant: &Tenant) -> Result<bool, Failure> {
    let Some(known) = tenant.marks.nonce() else {
        return Ok(false);
    };
    let own = Own::read(tenant).await?;
    Ok(known != 0 && own.nonce.is_some_and(|nonce| nonce >= known))
}

pub(crate) use store::forget;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, Received, Server, fake, tenant};
    use crate::gate::Basis;
    use api::keys;
    use serde_json::{Value, json};

    #[tokio::test(start_paused = true)]
    async fn r2_a_tenant_that_refuses_its_mark_has_its_deletions_held_until_it_takes_it() {
        let ((above, _super_server), (own, mut server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        fake::list_all(&tenant);
        let (refused, taken) = (json!({"message": "no"}), json!({"metadata": {}}));
        for (status, answer, is_held) in [
            (422, &refused, false),
            (503, &refused, false),
            (403, &refused, false),
            (500, &refused, true),
            (503, &refused, true),
            (201, &taken, false),
            (422, &refused, false),
        ] {
            let (own, theirs) = (Own::default(), Theirs::default());
            let written = write_own(&engine, &tenant, &own, &theirs);
            let _ = tokio::join!(written, server.answer("POST", status, answer));
            let is_told = tenant.gate.holds().contains_key(&Hold::MarkRefused);
            assert_eq!(
                (
                    is_told,
                    tenant
                        .gate
                        .check(tenancy::kind::index("Pod"), Basis::Told)
                        .is_err()
                ),
                (is_held, is_held),
                "{status}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r2_a_mark_that_was_made_immutable_is_made_anew() {
        let ((above, _super_server), (own, mut server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let stored = json!({
            "metadata": {"name": api::MARK_NAME, "namespace": "kube-system", "uid": "m"},
            "data": {"nonce": "1"}, "immutable": true,
        });
        let written = async {
            let own = Own::read(&tenant).await.unwrap();
            write_own(&engine, &tenant, &own, &Theirs::default()).await
        };
        let answers = async {
            server.answer("GET", 200, &stored).await;
            let gone = server.answer("DELETE", 200, &json!({})).await;
            assert_eq!(gone.body["preconditions"]["uid"], "m");
            server.answer("POST", 201, &json!({"metadata": {}})).await
        };
        let (nonce, made) = tokio::join!(written, answers);
        assert_eq!(made.body["data"]["nonce"], nonce.unwrap().to_string());
    }

    #[test]
    fn r2_versions_from_before_a_restore_by_sublet_hold_nothing_after_it() {
        let mut known = Mark {
            nonce: 5,
            ..Mark::default()
        };
        known.raise("configmaps", 210);
        let marks = Marks::default();
        marks.load(known);
        assert!(marks.listed("configmaps", 208).is_err());
        assert!(marks.judge(Some(5), 0).is_err());
        assert_eq!(marks.judge(Some(4), 1), Ok(()));
        // The marks were written since.
        marks.inner.lock().mark.restore_counter = 1;
        assert_eq!(marks.judge(Some(5), 1), Ok(()));
        assert_eq!(marks.listed("configmaps", 209), Ok(()));
        assert!(marks.listed("configmaps", 207).is_err());
    }

    /// What is read for an examination: a tenant whose mark has this data, and no mark of it here yet.
    async fn examined(
        engine: &Engine,
        tenant: &Tenant,
        servers: (&mut Server, &mut Server),
        data: Value,
        writes: [u16; 2],
    ) -> (Result<(), Failure>, Vec<Received>) {
        let (above, own) = servers;
        let kube_system = json!({"metadata": {"name": "kube-system", "uid": "right"}});
        let mark = json!({
            "metadata": {"name": api::MARK_NAME, "namespace": "kube-system", "uid": "m", "resourceVersion": "5"},
            "data": data,
        });
        let answers = async {
            own.answer("GET", 200, &kube_system).await;
            own.answer("GET", 200, &mark).await;
            above.answer("GET", 404, &json!({})).await;
            let mut received = vec![];
            if writes[0] != 0 {
                received.push(own.answer("PATCH", writes[0], &mark).await);
            }
            if writes[1] != 0 {
                let lease = json!({"metadata": {"name": "l", "uid": "l"}});
                received.push(above.answer("POST", writes[1], &lease).await);
            }
            received
        };
        tokio::join!(examine(engine, tenant), answers)
    }

    /// A tenant writes its own mark as it likes.
    #[tokio::test]
    async fn no_number_in_a_tenants_mark_ends_the_process_or_is_taken_over() {
        for (nonce, is_held) in [(u64::MAX, false), (u64::MAX - 1, false), (1 << 40, true)] {
            let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
            let (engine, tenant) = (fake::engine(&above), tenant(&own));
            tenant.set_proof("right");
            let writes = if is_held { [0, 0] } else { [200, 201] };
            let data = json!({"nonce": nonce.to_string(), "superUID": ""});
            let servers = (&mut super_server, &mut tenant_server);
            let (examined, written) = examined(&engine, &tenant, servers, data, writes).await;
            assert!(examined.is_ok(), "{examined:?}");
            assert_eq!(
                tenant.gate.holds().contains_key(&Hold::SuperWentBack),
                is_held
            );
            if let [_, lease] = written.as_slice() {
                assert_eq!(lease.body["metadata"]["annotations"][keys::MARK_NONCE], "1");
            }
            assert!(super_server.is_silent() && tenant_server.is_silent());
        }
    }

    #[tokio::test]
    async fn a_release_counts_only_when_both_marks_were_written() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        tenant.set_proof("right");
        let record = Record {
            proof: Some("right".into()),
            release: Some("now".into()),
            ..Record::default()
        };
        tenant.revise((*tenant.rules()).clone(), record);
        for (writes, is_granted) in [([409, 0], false), ([200, 429], false), ([200, 201], true)] {
            let servers = (&mut super_server, &mut tenant_server);
            let data = json!({"nonce": "50", "superUID": "another"});
            let (examined, written) = examined(&engine, &tenant, servers, data, writes).await;
            assert_eq!(examined.is_ok(), is_granted, "{examined:?}");
            assert_eq!(wish(&tenant.record(), &tenant).is_none(), is_granted);
            if let [_, lease] = written.as_slice() {
                let annotations = &lease.body["metadata"]["annotations"];
                assert_eq!(annotations[keys::RELEASED], "now");
            }
        }
    }

    #[test]
    fn marks_of_a_quiet_tenant_are_looked_at_less_often() {
        let marks = Marks::default();
        let seconds = |seconds| marks.is_due(Duration::from_secs(seconds));
        assert!(!seconds(59) && seconds(60));
        marks.seen("pods", 7);
        assert!(!seconds(9) && seconds(10));
    }
}
