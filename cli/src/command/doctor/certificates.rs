//! Whether certificates of tenants are renewed in time.

use super::{Check, checks::Outcome};
use crate::{
    cluster::Cluster,
    command::certs::{self, Gravity, Renewal, Verdict},
    tenant,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

const SUBJECT: &str = "certificates";

/// How many tenants' Secrets are asked for at a time.
const AT_ONCE: usize = 8;

/// Looks at the certificates of all tenants.
pub(super) async fn check(cluster: &Cluster) -> Outcome {
    let tenants = tenant::all(cluster).await.map_err(|err| (SUBJECT, err))?;
    let now = Timestamp::now();
    let each = tenants.iter().map(|vcp| async move {
        let (name, namespace) = (vcp.name_any(), vcp.namespace().unwrap_or_default());
        let certificates = certs::gather(cluster, vcp).await?;
        let verdict = certs::verdict(&certificates, now, &Renewal::of(cluster, vcp));
        Ok(verdict.map(|verdict| judge(&format!("{namespace}/{name}"), verdict)))
    });
    let found: Vec<Option<Check>> = stream::iter(each)
        .buffered(AT_ONCE)
        .try_collect()
        .await
        .map_err(|err| (SUBJECT, err))?;
    Ok(found.into_iter().flatten().collect())
}

fn judge(tenant: &str, verdict: Verdict) -> Check {
    let text = format!("{tenant}: {}", verdict.text);
    match verdict.gravity {
        Gravity::Over => Check::fail(SUBJECT, text, ""),
        Gravity::Late | Gravity::Expected => Check::warn(SUBJECT, text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::Level;

    #[test]
    fn one_that_is_over_is_a_failure_and_one_that_is_late_a_warning() {
        let judged = |gravity| {
            let text = "n/etcd".to_owned();
            judge("n/a", Verdict { gravity, text })
        };
        assert_eq!(judged(Gravity::Over).level, Level::Fail);
        assert_eq!(judged(Gravity::Late).level, Level::Warn);
        assert_eq!(judged(Gravity::Expected).level, Level::Warn);
        assert_eq!(judged(Gravity::Over).text, "n/a: n/etcd");
    }
}
