//! Admission webhooks of the super cluster that don't answer, and without which its API server takes nothing: the tenant is told
//! that its object waits, and whoever runs the super cluster for which webhook.
//!
//! That remains a failure like others: the key is tried again, ever later.

use super::stays;
use crate::{
    apply::Failure, engine::Engine, error::Error, refusals, table::SuperSide, tenants::Tenant,
};
use std::time::Duration;
use tenancy::{kind::Refused, object::Object, tenant::Key};
use tokio::time::Instant;

/// How an API server's message of one begins, or goes on, until the webhook's name.
const FAILED: &str = "failed calling webhook \"";
/// What is over sooner isn't told: a webhook's pod that is replaced, say.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What became of the twin; beside it, all that wait are told if such a webhook is why it became nothing.
pub(super) async fn told<T>(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    twin: Option<&SuperSide>,
    made: Result<T, Failure>,
) -> Result<T, Failure> {
    let Err(Failure::Api(Error::Internal(words))) = &made else {
        return made;
    };
    let Some(webhook) = named(words) else {
        return made;
    };
    let now = Instant::now().into_std();
    let since = engine.down.since(&tenant.id, key);
    if since.is_none_or(|since| now.saturating_duration_since(since) < PATIENCE) {
        return made;
    }
    if !tenant.table.get(key).refused {
        refusals::tell_of_webhook(engine, tenant, key, webhook, words).await?;
    }
    // Which one it is says something of the platform.
    let message = "the platform can't take it for now, since an admission webhook of its own doesn't answer: it is tried again \
         until it does";
    let refused = Refused::new("NotSyncedYet", message);
    stays(engine, tenant, key, object, twin, &refused).await?;
    made
}

/// The webhook that a failure is of.
fn named(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once(FAILED)?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_that_could_not_be_called_is_known_by_the_api_servers_words() {
        for (words, webhook) in [
            (
                "Internal error occurred: failed calling webhook \"inject.example.com\": failed to call webhook: Post \"https://a.b.svc\": EOF",
                Some("inject.example.com"),
            ),
            ("Internal error occurred: etcdserver: no leader", None),
            (
                "admission webhook \"inject.example.com\" denied the request: no",
                None,
            ),
        ] {
            assert_eq!(named(words), webhook, "{words}");
        }
    }
}
