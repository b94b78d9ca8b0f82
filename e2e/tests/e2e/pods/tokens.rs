//! Tokens that a pod asks for itself: for whom, for how long, and what follows when one is about to expire.

use anyhow::{bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use e2e::{
    kind::{ADMISSION_BINDING, ADMISSION_POLICY, POD},
    make,
    read::{event, last_words, text},
    space::{Space, within},
    tenant::A,
    wait::{PODS, eventually},
};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// A pod that runs a script beside a projected volume with these token sources.
fn with_tokens(script: &str, sources: Value) -> Value {
    let mut container = make::shell(script);
    container["volumeMounts"] = json!([{"name": "tokens", "mountPath": "/tokens"}]);
    let mut spec = make::once(container);
    spec["volumes"] = json!([{"name": "tokens", "projected": {"sources": sources}}]);
    spec
}

fn claims(part: &str) -> anyhow::Result<Value> {
    let part = part
        .trim()
        .trim_end_matches('=')
        .replace('-', "+")
        .replace('_', "/");
    Ok(serde_json::from_slice(
        &BASE64_STANDARD_NO_PAD.decode(part)?,
    )?)
}

fn life(claims: &Value) -> i64 {
    claims["exp"].as_i64().unwrap_or_default() - claims["iat"].as_i64().unwrap_or_default()
}

#[test]
fn tokens_have_the_audience_and_the_life_that_the_pod_asks_for() {
    within(A, "asked", async |space| {
        let script = "for name in vault plain; do cut -d. -f2 /tokens/$name >> /dev/termination-log; echo >> /dev/termination-log; done";
        let sources = json!([
            {"serviceAccountToken": {"path": "vault", "audience": "vault.example.com", "expirationSeconds": 1200}},
            {"serviceAccountToken": {"path": "plain"}},
        ]);
        let pod = space.pod("web", with_tokens(script, sources)).await?;
        let said = space.outcome("web").await?;
        let parts: Vec<&str> = said.split_whitespace().collect();
        ensure!(parts.len() == 2, "{said:?}");
        let (vault, plain) = (claims(parts[0])?, claims(parts[1])?);
        ensure!(
            vault["aud"] == json!(["vault.example.com"]) && life(&vault) == 1200,
            "{vault}"
        );
        ensure!(
            life(&plain) == 3600 && plain["aud"] != vault["aud"],
            "{plain}"
        );
        for claims in [vault, plain] {
            ensure!(
                claims["kubernetes.io"]["pod"]["uid"] == pod["metadata"]["uid"],
                "{claims}"
            );
            let subject = format!("system:serviceaccount:{}:default", space.name);
            ensure!(text(&claims, "/sub") == subject, "{claims}");
        }
        Ok(())
    });
}

/// A policy of the tenant's that refuses the tokens of all accounts of the space.
async fn refuse_tokens(space: &Space) -> anyhow::Result<()> {
    let policy = json!({
        "metadata": {"name": space.name}, "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["serviceaccounts/token"],
            }]},
            "validations": [{"expression": "false", "message": "no tokens today"}],
        },
    });
    space.side().create(ADMISSION_POLICY, policy).await?;
    let binding = json!({
        "metadata": {"name": space.name}, "spec": {
            "policyName": space.name, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}}},
        },
    });
    space.side().create(ADMISSION_BINDING, binding).await?;
    let path = format!(
        "/api/v1/namespaces/{}/serviceaccounts/default/token",
        space.name
    );
    eventually(PODS, "a token is refused", async || {
        let request =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        match space
            .side()
            .request(Method::POST, &path, Some(request))
            .await
        {
            Err(problem) if problem.message.contains("no tokens today") => Ok(()),
            Err(problem) => bail!("{problem}"),
            Ok(_) => bail!("it was given"),
        }
    })
    .await
}

#[test]
fn a_token_that_the_tenant_refuses_to_its_pod_is_told_and_so_is_that_it_came() {
    within(A, "refused", async |space| {
        refuse_tokens(space).await?;
        let sources = json!([{"serviceAccountToken": {"path": "t"}}]);
        let pod = space
            .pod("web", with_tokens("test -s /tokens/t", sources))
            .await?;
        let told = event(space.side(), POD, &pod, "TokenRefused").await?;
        let message = text(&told, "/message");
        ensure!(
            message.contains("ServiceAccount default") && message.contains("no tokens today"),
            "{told}"
        );
        for kind in [ADMISSION_BINDING, ADMISSION_POLICY] {
            space.side().delete(kind, "", &space.name).await?;
        }
        space.outcome("web").await?;
        event(space.side(), POD, &pod, "Synced").await?;
        Ok(())
    });
}

/// The shortest life that Kubernetes allows is ten minutes, of which four fifths have to pass.
#[test]
#[ignore = "takes ten minutes"]
fn a_token_is_renewed_before_it_expires() {
    within(A, "renewed", async |space| {
        let script = "first=$(md5sum < /tokens/t); while [ \"$(md5sum < /tokens/t)\" = \"$first\" ]; do sleep 1; done
                      date +%s > /dev/termination-log; cut -d. -f2 /tokens/t >> /dev/termination-log";
        let sources = json!([{"serviceAccountToken": {"path": "t", "expirationSeconds": 600}}]);
        space.pod("web", with_tokens(script, sources)).await?;
        let ended = |pod: &Value| text(pod, "/status/phase") == "Succeeded";
        let pod = space
            .like(
                POD,
                "web",
                "has seen a new token",
                Duration::from_secs(720),
                ended,
            )
            .await?;
        let (seen, token) = last_words(&pod).split_once('\n').unwrap_or_default();
        let (seen, claims): (i64, Value) = (seen.parse()?, claims(token)?);
        let started = claims["iat"].as_i64().unwrap_or_default() - 480;
        ensure!(
            life(&claims) == 600 && seen < started + 600,
            "seen at {seen}: {claims}"
        );
        Ok(())
    });
}
