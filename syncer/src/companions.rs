//! What stands beside the objects in a super namespace, that nobody watches: the right to write there, and the account
//! that pods run under. Where the super cluster refuses something for want of them, they are made again.

use crate::{engine::Engine, tenants::Tenant};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tenancy::{kind, tenant::Key};
use tokio::time::Instant;

/// A right that was given a moment ago isn't known to every authorizer yet.
const SETTLE: Duration = Duration::from_secs(3);
/// They are made again no oftener, since something else may be wrong: a syncer that is newer than its ClusterRole.
const PERIOD: Duration = Duration::from_secs(30);

/// Namespaces of one tenant in which something was refused, and from when on they are worked again for it.
#[derive(Default)]
pub(crate) struct Refusals {
    due: Mutex<HashMap<Arc<str>, Instant>>,
}

impl Refusals {
    /// Something was refused; the answer is whether the namespace is to be worked again.
    fn note(&self, namespace: &str, now: Instant) -> bool {
        let mut due = self.due.lock();
        match due.get_mut(namespace) {
            Some(at) if now >= *at => {
                *at = now + PERIOD;
                true
            }
            Some(_) => false,
            None => {
                // Of those from long ago nothing is refused any more.
                due.retain(|_, at| now < *at + 2 * PERIOD);
                due.insert(namespace.into(), now + SETTLE);
                false
            }
        }
    }
}

/// Whether the super cluster's words say that a right or the pods' account is missing, and nothing of what was asked.
pub(crate) fn are_missing(words: &str) -> bool {
    words.contains("is forbidden: User") || words.contains("error looking up service account")
}

/// Whether the super cluster's words say that the namespace is going: it is made again once it is gone.
pub(crate) fn are_going(words: &str) -> bool {
    words.contains("because it is being terminated")
}

/// The super cluster refused something in a namespace of the tenant in these words: if what must stand there is missing
/// for longer than a moment, the namespace is worked again.
pub(crate) fn refused(engine: &Engine, tenant: &Tenant, namespace: &str, words: &str) {
    if namespace.is_empty() || !are_missing(words) {
        return;
    }
    if tenant.companions.note(namespace, Instant::now()) {
        tracing::warn!(tenant = %tenant.id, %namespace, err = %words, "a right or an account is missing in a super namespace: they are made again");
        let key = Key::new(kind::index("Namespace"), "", namespace);
        tenant.table.suspect(&key);
        engine.down.add(&tenant.id, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_its_surroundings_is_no_refusal_of_what_was_asked() {
        let account = "pods \"a\" is forbidden: error looking up service account s/sublet: serviceaccount \"sublet\" not found";
        assert!(are_missing(account) && !are_going(account));
        let going = "configmaps \"a\" is forbidden: unable to create new content in namespace s because it is being terminated";
        assert!(are_going(going) && !are_missing(going));
        let policy = "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\"";
        assert!(!are_going(policy) && !are_missing(policy));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_longer_than_a_moment_has_the_namespace_worked_now_and_then() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let note = |seconds| refusals.note("work", start + Duration::from_secs(seconds));
        assert_eq!(
            [0, 2, 3, 4, 32, 33].map(note),
            [false, false, true, false, false, true]
        );
        assert!(!refusals.note("other", start + Duration::from_secs(33)));
        assert_eq!(refusals.due.lock().len(), 2);
        assert!(!refusals.note("third", start + Duration::from_secs(200)));
        assert_eq!(refusals.due.lock().len(), 1);
    }
}
