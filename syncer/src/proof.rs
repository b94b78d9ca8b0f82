//! R1 (b) and R5: the API server that is reached is the tenant's own, and isn't older than it was; the super cluster is the one
//! that it was. All is read live.
//!
//! Each deletion needs a proof that began after the deletion was decided. Those that are decided while one is under way
//! share the next, so that hundreds at once don't read the same two objects hundreds of times.

use crate::{apply::Failure, engine::Engine, gate::Held, live::read, marks, tenants::Tenant};
use std::sync::atomic::{AtomicU64, Ordering};
use tenancy::object::Object;
use tokio::sync::Mutex;

/// The proofs of one tenant, or of the super cluster, one at a time.
#[derive(Default)]
pub(crate) struct Proofs {
    /// How many have begun.
    begun: AtomicU64,
    last: Mutex<Last>,
}

/// How the last one ended, and which it was.
struct Last {
    number: u64,
    outcome: Result<(), Failure>,
}

impl Default for Last {
    fn default() -> Self {
        Self {
            number: 0,
            outcome: Ok(()),
        }
    }
}

impl Proofs {
    /// The outcome of a look that began after this was asked for; those who wait at once share one.
    async fn shared(&self, look: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.number > asked {
            return last.outcome.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = look.await;
        *last = Last {
            number,
            outcome: outcome.clone(),
        };
        outcome
    }
}

/// Proves who the tenant is: by the UID of its kube-system namespace, and by its mark.
///
/// # Errors
/// It isn't proven: another store, an older one, or one that can't be read.
pub(crate) async fn prove(tenant: &Tenant) -> Result<(), Failure> {
    tenant.proofs.shared(look(tenant)).await
}

/// Proves that the super cluster is the one that this process started with: by the UID of its kube-system namespace.
///
/// # Errors
/// It isn't proven: another one, or one that can't be read.
pub(crate) async fn prove_super(engine: &Engine) -> Result<(), Failure> {
    engine.super_proofs.shared(look_at_super(engine)).await
}

async fn look_at_super(engine: &Engine) -> Result<(), Failure> {
    let found = read(&engine.cluster, "/api/v1/namespaces/kube-system").await?;
    let is_it = |namespace: Object| {
        let proof = engine.super_proof.get();
        proof.is_some_and(|proof| proof == namespace.uid())
    };
    if found.is_some_and(is_it) {
        return Ok(());
    }
    Err(Held(
        "the super cluster's kube-system namespace isn't the one that was there at the start"
            .into(),
    )
    .into())
}

async fn look(tenant: &Tenant) -> Result<(), Failure> {
    let Some(proof) = tenant.proof() else {
        return Err(Held(
            "the VirtualControlPlane records no proof of the tenant's identity yet".into(),
        )
        .into());
    };
    let found = read(&tenant.cluster, "/api/v1/namespaces/kube-system").await?;
    match found {
        Some(namespace) if namespace.uid() == proof => {
            if marks::is_current(tenant).await? {
                return Ok(());
            }
            tenant.marks.look_again();
            Err(Held("the tenant's mark isn't there, or is older than it was".into()).into())
        }
        Some(_) => {
            tenant.marks.look_again();
            Err(Held("the tenant's kube-system namespace has another UID than the VirtualControlPlane records".into()).into())
        }
        None => Err(Held("the tenant has no kube-system namespace".into()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{fake, tenant};
    use futures::future::join_all;
    use serde_json::{Value, json};

    fn kube_system(uid: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": uid}})
    }

    #[tokio::test(start_paused = true)]
    async fn r1_each_proof_begins_after_it_is_asked_for_and_those_that_wait_share_the_next() {
        let (cluster, mut server) = fake();
        let tenant = tenant(&cluster);
        tenant.set_proof("right");
        let first = prove(&tenant);
        // Polled second, while the first one is under way.
        let others = join_all((0..20).map(|_| prove(&tenant)));
        let answers = async {
            for uid in ["wrong", "changed since"] {
                server.answer("GET", 200, &kube_system(uid)).await;
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            assert!(server.is_silent(), "nobody asks a third time");
        };
        let (first, others, ()) = tokio::join!(first, others, answers);
        assert!(first.is_err());
        assert_eq!(others.len(), 20);
        assert!(others.iter().all(Result::is_err));
        assert_eq!(tenant.proofs.begun.load(Ordering::SeqCst), 2);
    }
}
