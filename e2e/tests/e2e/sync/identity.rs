//! Who a pod is: the tenant's token and CA, and its own API server at the usual address.

use anyhow::ensure;
use api::keys;
use e2e::{
    kind::{CONFIG_MAP, POD, ROLE, ROLE_BINDING, SECRET, SERVICE_ACCOUNT},
    make,
    read::{items, name, text},
    space::within,
    tenant::A,
};
use serde_json::{Value, json};

/// Asks the API server as a client in a pod does, and says what it got.
const ASK: &str = "cd /var/run/secrets/kubernetes.io/serviceaccount
    test \"$(cat namespace)\" = \"$NAMESPACE\" || echo wrong namespace > /dev/termination-log
    until curl -sS --cacert ca.crt -H \"Authorization: Bearer $(cat token)\" -o /tmp/answer -w '%{http_code}' \
      https://kubernetes.default.svc/api/v1/namespaces/$(cat namespace)/configmaps/hello > /dev/termination-log 2>/tmp/error
    do sleep 1; done";

#[test]
fn a_pod_talks_to_its_own_api_server_as_its_service_account() {
    within(A, "speaks", async |space| {
        space
            .create(CONFIG_MAP, make::config_map("hello", "k", "v"))
            .await?;
        space
            .create(SERVICE_ACCOUNT, json!({"metadata": {"name": "reader"}}))
            .await?;
        let ask = async |pod: &str, account: &str| {
            let mut container = make::container(make::AGNHOST, &["sh", "-c", ASK]);
            container["env"] = json!([{"name": "NAMESPACE", "value": space.name}]);
            let mut spec = make::pod_spec(container);
            spec["restartPolicy"] = "Never".into();
            spec["serviceAccountName"] = account.into();
            space.pod(pod, spec).await?;
            space.outcome(pod).await
        };
        ensure!(
            ask("stranger", "default").await? == "403",
            "an account without rights is known, and refused"
        );
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        space
            .create(
                ROLE,
                json!({"metadata": {"name": "reader"}, "rules": rules}),
            )
            .await?;
        let binding = json!({
            "metadata": {"name": "reader"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": space.name}],
        });
        space.create(ROLE_BINDING, binding).await?;
        ensure!(ask("friend", "reader").await? == "200");
        Ok(())
    });
}

#[test]
fn tokens_and_ca_are_the_tenants_and_no_super_token_is_near() {
    within(A, "token", async |space| {
        // The middle part of a token holds its claims.
        let script = "cd /var/run/secrets/kubernetes.io/serviceaccount; md5sum < ca.crt > /dev/termination-log
                      cut -d. -f2 token | tr '_-' '/+' >> /dev/termination-log";
        let mut spec = make::once(make::shell(script));
        spec["automountServiceAccountToken"] = true.into();
        let pod = space.pod("web", spec).await?;
        let said = space.outcome("web").await?;
        let (_, claims) = said.split_once('\n').unwrap_or_default();
        let claims = claims_of(claims)?;
        let subject = format!("system:serviceaccount:{}:default", space.name);
        ensure!(text(&claims, "/sub") == subject, "{claims}");
        ensure!(
            claims["kubernetes.io"]["pod"]["uid"] == pod["metadata"]["uid"],
            "{claims}"
        );
        let (from, until) = (
            claims["iat"].as_i64().unwrap_or_default(),
            claims["exp"].as_i64().unwrap_or_default(),
        );
        ensure!(
            (600..=3600).contains(&(until - from)),
            "it lives for {} s",
            until - from
        );
        let discovery = space
            .side()
            .request(http::Method::GET, "/.well-known/openid-configuration", None)
            .await?;
        ensure!(
            text(&claims, "/iss") == text(&discovery, "/issuer"),
            "{claims}"
        );
        let above = space
            .above()
            .request(http::Method::GET, "/.well-known/openid-configuration", None)
            .await?;
        ensure!(
            text(&claims, "/iss") != text(&above, "/issuer"),
            "the issuer is the super cluster's"
        );

        let twin = space.twin(POD, "web").await?;
        ensure!(
            text(&twin, "/spec/serviceAccountName") == keys::POD_SERVICE_ACCOUNT,
            "{}",
            twin["spec"]
        );
        ensure!(
            twin["spec"]["automountServiceAccountToken"] == false,
            "{}",
            twin["spec"]
        );
        let volumes = twin["spec"]["volumes"].to_string();
        ensure!(
            !volumes.contains("serviceAccountToken"),
            "the kubelet would ask for a super token: {volumes}"
        );
        let own = space.get(CONFIG_MAP, "kube-root-ca.crt").await?;
        let copy = space.twin(CONFIG_MAP, "kube-root-ca.crt.tenant").await?;
        let supers = space.twin(CONFIG_MAP, "kube-root-ca.crt").await?;
        ensure!(
            copy["data"] == own["data"] && supers["data"] != own["data"],
            "the CA isn't the tenant's"
        );

        let tokens = space
            .above()
            .list(
                SECRET,
                &space.twin,
                &format!("{}={}", keys::ROLE, keys::ROLE_TOKEN),
            )
            .await?;
        ensure!(tokens.len() == 1, "{} token Secrets", tokens.len());
        let owner = &items(&tokens[0], "/metadata/ownerReferences")[0];
        ensure!(
            owner["kind"] == "Pod" && owner["uid"] == twin["metadata"]["uid"],
            "{owner}"
        );
        space.delete(POD, "web").await?;
        space.gone(POD, "web").await?;
        space.gone(SECRET, name(&tokens[0])).await
    });
}

/// Decodes the claims of a token, whose base64 may lack its padding.
fn claims_of(part: &str) -> anyhow::Result<Value> {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
    let part = part.trim().trim_end_matches('=');
    Ok(serde_json::from_slice(
        &BASE64_STANDARD_NO_PAD.decode(part)?,
    )?)
}
