//! Tokens in pods: the tenant's own, asked for from its TokenRequest API and bound to the tenant's pod.
//!
//! The super pod comes first and the Secret with its tokens second, owned by that pod's UID: one create, nothing to
//! delete, and the kubelet retries the mount until it is there.

use crate::{
    apply::{self, Failure},
    engine::Engine,
    error::Error,
    intake::twin_name,
    live::read,
    table::SuperSide,
    tenants::Tenant,
};
use api::keys;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tenancy::{
    kind::{self, Resource, TokenRequest},
    meta, naming,
    object::Object,
    tenant::Key,
};
use tokio::time::Instant;

const SECRET: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    namespaced: true,
};

/// A token Secret that an earlier process wrote is renewed within this time, spread over all pods: how old its tokens
/// are can't be told without comparing the clocks of two hosts.
const UNKNOWN_AGE: Duration = Duration::from_secs(300);

/// Whether the super pod was made just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// By this very key's work: no token Secret is there yet.
    New,
    /// It was there before, perhaps with a token Secret of an earlier process.
    Known,
}

/// Makes sure that the pod's token Secret exists and is fresh.
pub(crate) async fn ensure(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    pod: &Object,
    twin: &SuperSide,
    age: Age,
) -> Result<(), Failure> {
    if key.kind().resource().kind != "Pod" || twin.terminating || kind::is_finished(pod) {
        return Ok(());
    }
    let requests = kind::token_requests(pod);
    let due = tenant.table.get(key).renew_at;
    if requests.is_empty() || due.is_some_and(|due| due > Instant::now()) {
        return Ok(());
    }
    let name = naming::token_secret(&tenant.id, pod.uid());
    let namespace = twin_name(tenant, key).namespace;
    let path = SECRET.path(&namespace, &name);
    if due.is_none() && age == Age::Known && read(&engine.cluster, &path).await?.is_some() {
        let delay = longest_wait(&requests).mul_f64(spread(pod.uid()));
        return wait(tenant, key, delay);
    }
    let (data, life) = ask(tenant, key, pod, &requests).await?;
    let secret = secret(tenant, key, twin, &namespace, &name, data);
    match apply::create(&engine.cluster, tenant, &SECRET, &secret).await {
        Ok(_) => {}
        Err(Failure::Api(Error::AlreadyExists)) => {
            let Some(have) = read(&engine.cluster, &path).await? else {
                return Err(Failure::Waiting("the token Secret went away"));
            };
            if have.label(keys::TENANT) != Some(tenant.id.as_str())
                || have.label(keys::ROLE) != Some(keys::ROLE_TOKEN)
            {
                return Err(Failure::Api(Error::Invalid(format!(
                    "Secret {namespace}/{name} isn't Sublet's"
                ))));
            }
            apply::replace_data(&engine.cluster, tenant, &SECRET, &have, &secret).await?;
        }
        Err(failure) => return Err(failure),
    }
    wait(tenant, key, life / 5 * 4)
}

/// How long tokens of unknown age may wait. Those of a syncer that did its work have a fifth of their life left when it ends,
/// and half of that is left for the time without one and for the kubelet.
fn longest_wait(requests: &[TokenRequest]) -> Duration {
    let lives = requests.iter().map(|one| one.expiration_seconds);
    let shortest = lives.min().unwrap_or_default();
    UNKNOWN_AGE.min(Duration::from_secs(shortest.max(0).unsigned_abs() / 10))
}

fn wait(tenant: &Tenant, key: &Key, delay: Duration) -> Result<(), Failure> {
    tenant
        .table
        .update(key, |entry| entry.renew_at = Some(Instant::now() + delay));
    Ok(())
}

/// All tokens of a pod, and the shortest of their lives.
async fn ask(
    tenant: &Tenant,
    key: &Key,
    pod: &Object,
    requests: &[TokenRequest],
) -> Result<(Map<String, Value>, Duration), Failure> {
    let mut data = Map::new();
    let mut shortest = Duration::MAX;
    for request in requests {
        let answer = apply::request_token(
            tenant,
            &key.namespace,
            &request.service_account,
            request.audience.as_deref(),
            request.expiration_seconds,
            (pod.name(), pod.uid()),
        )
        .await?;
        let token = answer
            .pointer("/status/token")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let life =
            life(token).ok_or_else(|| Error::Malformed("a token without iat and exp".into()))?;
        if life > request.expiration_seconds.unsigned_abs() + 1 {
            return Err(Failure::Api(Error::Invalid(format!(
                "the tenant's API server gave a token of {life} s where {} s were asked: run it with \
                 --service-account-extend-token-expiration=false",
                request.expiration_seconds
            ))));
        }
        shortest = shortest.min(Duration::from_secs(life));
        data.insert(request.key.clone(), BASE64.encode(token.as_bytes()).into());
    }
    Ok((data, shortest))
}

/// Seconds from issue to expiry, both by the issuer's clock (RFC 7519 sections 4.1.4 and 4.1.6).
fn life(token: &str) -> Option<u64> {
    let claims = BASE64URL_NOPAD
        .decode(token.split('.').nth(1)?.as_bytes())
        .ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["exp"].as_u64()?.checked_sub(claims["iat"].as_u64()?)
}

fn secret(
    tenant: &Tenant,
    key: &Key,
    twin: &SuperSide,
    namespace: &str,
    name: &str,
    data: Map<String, Value>,
) -> Object {
    let mut labels = tenant.with_cx(meta::tenant_labels);
    labels.insert(keys::ROLE.into(), keys::ROLE_TOKEN.into());
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
        "metadata": {
            "name": name, "namespace": namespace, "labels": labels,
            "annotations": {keys::NAMESPACE: &*key.namespace, keys::NAME: &*key.name},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": &*key.name, "uid": &*twin.uid}],
        },
    });
    Object::from_value(secret).expect("metadata is a map")
}

/// Between a tenth and one, by the pod.
fn spread(uid: &str) -> f64 {
    let sum = uid.bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    0.1 + 0.9 * f64::from(sum % 1000) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_unknown_age_wait_no_longer_than_half_of_what_they_may_have_left() {
        let of = |lives: &[i64]| {
            let request = |life: &i64| TokenRequest {
                key: "k".into(),
                service_account: "a".into(),
                audience: None,
                expiration_seconds: *life,
            };
            let requests: Vec<_> = lives.iter().map(request).collect();
            longest_wait(&requests).as_secs()
        };
        assert_eq!(of(&[600]), 60);
        assert_eq!(of(&[3600, 600]), 60);
        assert_eq!(of(&[3600]), 300);
        assert_eq!(of(&[86400]), 300);
    }

    #[test]
    fn a_tokens_life_is_read_from_its_own_claims() {
        let claims = BASE64URL_NOPAD.encode(br#"{"iat":1000,"exp":4600}"#);
        assert_eq!(life(&format!("h.{claims}.s")), Some(3600));
        for broken in ["", "a.b.c", "h..s"] {
            assert_eq!(life(broken), None);
        }
    }
}
