//! Tokens in pods: the tenant's own, asked for from its TokenRequest API and bound to the tenant's pod.
//!
//! The super pod comes first and the Secret with its tokens second, owned by that pod's UID: one create, nothing to
//! delete, and the kubelet retries the mount until it is there. Where a super pod is made again before the Secret of the
//! one before it is collected, that one goes first: nobody watches Secrets, and its end would be noticed by no one.
//!
//! Until it is there the pod doesn't start, so a token that the tenant's API server refuses is told to the tenant: the
//! kubelet knows of a missing Secret alone.

use crate::{
    apply::{self, Failure},
    client::Preconditions,
    downward,
    engine::Engine,
    error::Error,
    intake::{twin_name, twin_path},
    live::read,
    table::SuperSide,
    tenants::Tenant,
};
use api::keys;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tenancy::{
    kind::{self, Refused, Resource, TokenRequest},
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

/// Whether the super object was made just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// By this very key's work: nothing is beside it yet, no token Secret either.
    New,
    /// It was there before, with all that an earlier process put beside it.
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
    if key.kind().resource().kind != "Pod" || twin.is_ending() || kind::is_finished(pod) {
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
    if due.is_none()
        && age == Age::Known
        && read(&engine.cluster, &path)
            .await?
            .is_some_and(|have| is_owned_by(&have, twin))
    {
        let delay = longest_wait(&requests).mul_f64(spread(pod.uid()));
        return wait(tenant, key, delay);
    }
    let (data, life) = match ask(tenant, key, pod, &requests).await {
        Ok(tokens) => tokens,
        Err((request, failure)) => {
            if let Some(refused) = refusal(tenant, key, request, &failure).await? {
                downward::refuse(engine, tenant, key, pod, &refused).await?;
            }
            return Err(failure);
        }
    };
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
            if is_owned_by(&have, twin) {
                apply::replace_data(&engine.cluster, tenant, &SECRET, &have, &secret).await?;
            } else {
                make_anew(engine, tenant, key, twin, &have, &secret).await?;
            }
        }
        Err(failure) => return Err(failure),
    }
    wait(tenant, key, life / 5 * 4)
}

/// Puts a token Secret in the place of that of an earlier super pod (R1: it goes only once its owner is gone).
async fn make_anew(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    twin: &SuperSide,
    have: &Object,
    secret: &Object,
) -> Result<(), Failure> {
    let super_pod = read(&engine.cluster, &twin_path(tenant, key)).await?;
    if super_pod.is_none_or(|super_pod| *super_pod.uid() != *twin.uid) {
        return Err(Failure::Waiting("the super pod is another one"));
    }
    let preconditions = Preconditions {
        uid: have.uid(),
        ..Preconditions::default()
    };
    let path = SECRET.path(secret.namespace(), secret.name());
    apply::delete(&engine.cluster, tenant, &path, &preconditions, OUTLIVED).await?;
    let made = apply::create(&engine.cluster, tenant, &SECRET, secret).await;
    made.map(drop)
}

/// Why a token Secret is deleted, as it is recorded.
const OUTLIVED: &str = "its super pod is gone";

/// Whether a token Secret is there as long as this super pod. That of an earlier one is about to be collected, whatever is
/// written into it.
fn is_owned_by(secret: &Object, twin: &SuperSide) -> bool {
    let owners = secret.at("/metadata/ownerReferences");
    let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
    !secret.is_terminating() && owners.any(|owner| owner["uid"] == *twin.uid)
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

/// All tokens of a pod, and the shortest of their lives; or the one that isn't to be had, and why.
async fn ask<'a>(
    tenant: &Tenant,
    key: &Key,
    pod: &Object,
    requests: &'a [TokenRequest],
) -> Result<(Map<String, Value>, Duration), (&'a TokenRequest, Failure)> {
    let mut data = Map::new();
    let mut shortest = Duration::MAX;
    for request in requests {
        let asked = ask_one(tenant, key, pod, request).await;
        let (token, life) = asked.map_err(|failure| (request, failure))?;
        shortest = shortest.min(Duration::from_secs(life));
        data.insert(request.key.clone(), BASE64.encode(token.as_bytes()).into());
    }
    Ok((data, shortest))
}

/// One token, and the seconds of its life.
async fn ask_one(
    tenant: &Tenant,
    key: &Key,
    pod: &Object,
    request: &TokenRequest,
) -> Result<(String, u64), Failure> {
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
    let life = life(token).ok_or_else(|| Error::Malformed("a token without iat and exp".into()))?;
    if life > request.expiration_seconds.unsigned_abs() + 1 {
        return Err(Failure::Api(Error::Invalid(format!(
            "the API server gave a token of {life} s where {} s were asked: run it with \
             --service-account-extend-token-expiration=false",
            request.expiration_seconds
        ))));
    }
    Ok((token.to_owned(), life))
}

/// What the tenant is told of a token that it refuses to its own pod. A server that doesn't answer is no refusal, and a pod
/// that is another one meanwhile needs none.
async fn refusal(
    tenant: &Tenant,
    key: &Key,
    request: &TokenRequest,
    failure: &Failure,
) -> Result<Option<Refused>, Failure> {
    let Failure::Api(error) = failure else {
        return Ok(None);
    };
    if failure.is_unreachable() || matches!(error, Error::Conflict(_)) {
        return Ok(None);
    }
    let account = &request.service_account;
    let words = if matches!(error, Error::NotFound) {
        // The account, or else the pod that the token is bound to.
        if has_account(tenant, key, account).await? {
            return Ok(None);
        }
        "there is no such ServiceAccount; make it".to_owned()
    } else {
        error.to_string()
    };
    let message = format!(
        "the pod needs a token of its ServiceAccount {account}, and this cluster's API server doesn't give it: {words}"
    );
    Ok(Some(Refused::new("TokenRefused", message)))
}

async fn has_account(tenant: &Tenant, key: &Key, account: &str) -> Result<bool, Failure> {
    let path = kind::SERVICE_ACCOUNT.path(&key.namespace, account);
    Ok(read(&tenant.cluster, &path).await?.is_some())
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
    use crate::fake::{self, fake, tenant};

    /// The super pod was deleted before it ran, and made again before the super cluster had collected its Secret.
    #[tokio::test(start_paused = true)]
    async fn a_super_pod_that_is_made_again_has_a_secret_of_its_own_and_not_one_that_is_about_to_go()
     {
        for (owner, is_made_anew) in [("before", true), ("now", false)] {
            let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
            let (engine, tenant) = (fake::engine(&above), tenant(&own));
            let key = Key::new(kind::index("Pod"), "work", "web");
            let twin = fake::super_side("now", "u");
            tenant
                .table
                .update(&key, |entry| entry.twin = Some(twin.clone()));
            let source =
                json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}});
            let pod = Object::from_value(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "work", "uid": "u"},
                "spec": {"containers": [], "volumes": [{"name": "t", "projected": {"sources": [source]}}]},
            }))
            .unwrap();
            let claims = BASE64URL_NOPAD.encode(br#"{"iat":1000,"exp":4600}"#);
            let token = json!({"status": {"token": format!("h.{claims}.s")}});
            let stored = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
                "name": "t", "namespace": "s", "uid": "old", "resourceVersion": "7",
                "labels": {keys::TENANT: tenant.id.as_str(), keys::ROLE: keys::ROLE_TOKEN},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": owner}],
            }});
            let super_pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "uid": "now"}});
            let exists =
                json!({"kind": "Status", "code": 409, "message": "secrets \"t\" already exists"});
            let answers = async {
                tenant_server.answer("POST", 201, &token).await;
                super_server.answer("POST", 409, &exists).await;
                super_server.answer("GET", 200, &stored).await;
                if !is_made_anew {
                    super_server.answer("PATCH", 200, &stored).await;
                    return;
                }
                super_server.answer("GET", 200, &super_pod).await;
                let gone = super_server.answer("DELETE", 200, &json!({})).await;
                assert_eq!(gone.body["preconditions"]["uid"], "old");
                let made = super_server.answer("POST", 201, &stored).await;
                assert_eq!(made.body["metadata"]["ownerReferences"][0]["uid"], "now");
            };
            let ensured = ensure(&engine, &tenant, &key, &pod, &twin, Age::New);
            let (ensured, ()) = tokio::join!(ensured, answers);
            assert!(ensured.is_ok(), "{ensured:?}");
            assert!(super_server.is_silent() && tenant_server.is_silent());
        }
    }

    /// A pod that has a super pod and asks for a token of its account `builder`.
    fn asking(tenant: &Tenant) -> (Key, SuperSide, Object) {
        let key = Key::new(kind::index("Pod"), "work", "web");
        let twin = fake::super_side("now", "u");
        tenant
            .table
            .update(&key, |entry| entry.twin = Some(twin.clone()));
        let source = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}});
        let pod = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "work", "uid": "u"},
            "spec": {
                "serviceAccountName": "builder", "containers": [],
                "volumes": [{"name": "t", "projected": {"sources": [source]}}],
            },
        }));
        (key, twin, pod.unwrap())
    }

    /// The kubelet's own words, of a Secret that isn't there, aren't shown.
    #[tokio::test(start_paused = true)]
    async fn a_token_that_the_tenants_api_server_refuses_is_told_to_the_tenant_in_its_words() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let (key, twin, pod) = asking(&tenant);
        let denied = json!({"kind": "Status", "code": 403, "message": "no tokens on Sundays"});
        let answers = async {
            tenant_server.answer("POST", 403, &denied).await;
            let told = tenant_server.answer("POST", 201, &json!({})).await;
            assert_eq!(told.body["reason"], "TokenRefused");
            assert_eq!(told.body["involvedObject"]["uid"], "u");
            let message = told.body["message"].as_str().unwrap();
            for words in ["ServiceAccount builder", "no tokens on Sundays"] {
                assert!(message.contains(words), "{message}");
            }
        };
        let ensured = ensure(&engine, &tenant, &key, &pod, &twin, Age::New);
        let (ensured, ()) = tokio::join!(ensured, answers);
        assert!(ensured.is_err(), "it is asked for again");
        assert!(tenant.table.get(&key).refused, "and told when it is there");
        assert!(super_server.is_silent() && tenant_server.is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_whose_account_is_gone_is_told_and_one_that_is_gone_itself_is_not() {
        for (is_there, is_told) in [(false, true), (true, false)] {
            let ((above, _super_server), (own, mut tenant_server)) = (fake(), fake());
            let (engine, tenant) = (fake::engine(&above), tenant(&own));
            let (key, twin, pod) = asking(&tenant);
            let missing = json!({"kind": "Status", "code": 404, "message": "not found"});
            let account = json!({"kind": "ServiceAccount", "metadata": {"name": "builder"}});
            let answers = async {
                tenant_server.answer("POST", 404, &missing).await;
                let (status, answer) = if is_there {
                    (200, &account)
                } else {
                    (404, &missing)
                };
                let asked = tenant_server.answer("GET", status, answer).await;
                let path = "/api/v1/namespaces/work/serviceaccounts/builder";
                assert_eq!(asked.path, path);
                if is_told {
                    let told = tenant_server.answer("POST", 201, &json!({})).await;
                    assert_eq!(told.body["reason"], "TokenRefused");
                }
            };
            let ensured = ensure(&engine, &tenant, &key, &pod, &twin, Age::New);
            let (ensured, ()) = tokio::join!(ensured, answers);
            assert!(ensured.is_err() && tenant_server.is_silent());
            assert_eq!(tenant.table.get(&key).refused, is_told);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_does_not_answer_refuses_no_token() {
        let ((above, _super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let (key, twin, pod) = asking(&tenant);
        let ensured = ensure(&engine, &tenant, &key, &pod, &twin, Age::New);
        let answer = json!({});
        let (ensured, _) = tokio::join!(ensured, tenant_server.answer("POST", 503, &answer));
        assert!(ensured.is_err() && tenant_server.is_silent());
        assert!(!tenant.table.get(&key).refused);
    }

    #[tokio::test(start_paused = true)]
    async fn r1_a_token_secret_goes_only_if_its_super_pod_is_gone() {
        let ((above, mut super_server), (own, _tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let key = Key::new(kind::index("Pod"), "work", "web");
        let twin = fake::super_side("known", "u");
        let have = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
            "name": "t", "namespace": "s", "uid": "s", "resourceVersion": "7",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "newer"}],
        }});
        let have = Object::from_value(have).unwrap();
        let newer =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "uid": "newer"}});
        let (made, _) = tokio::join!(
            make_anew(&engine, &tenant, &key, &twin, &have, &have),
            super_server.answer("GET", 200, &newer)
        );
        assert!(matches!(made, Err(Failure::Waiting(_))), "{made:?}");
        assert!(super_server.is_silent());
    }

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
