//! Logins by tokens of an issuer outside of the tenant: who gets in, under which name, and what it takes.

mod issuer;

use anyhow::{Context, ensure};
use e2e::{
    kind::{CLASS, CLUSTER_ROLE_BINDING, CONFIG_MAP, CONTROL_PLANE, POD, SELF_REVIEW},
    make,
    read::{condition, items, name, text, uid},
    side::{Problem, Side},
    space::run,
    tenant::{NAMESPACE_OF_TESTS as N, Tenant, conditions, super_cluster},
    wait::{PODS, SOON, eventually},
};
use issuer::{AUDIENCE, Issuer};
use serde_json::{Value, json};

/// What the tenant is told of an issuer. Nothing is put before names and groups, so that they could be any.
fn authentication(issuer: &Issuer) -> Value {
    json!({"jwt": [{
        "issuer": {
            "url": issuer.url(), "audiences": [AUDIENCE], "certificateAuthority": issuer.authority,
        },
        "claimMappings": {
            "username": {"claim": "name", "prefix": ""},
            "groups": {"claim": "teams", "prefix": ""},
        },
    }]})
}

/// A token of somebody whom the tenant knows nothing of.
fn token(issuer: &Issuer) -> anyhow::Result<String> {
    issuer.token(&json!({"name": "ada", "teams": ["blue"]}))
}

/// The tenant's API server, as whoever has the token.
async fn with_token(tenant: &Tenant, token: &str) -> anyhow::Result<Side> {
    let mut kubeconfig: Value = serde_saphyr::from_str(&tenant.kubeconfig)?;
    kubeconfig["users"][0]["user"] = json!({"token": token});
    Side::connect("somebody with a token", &kubeconfig.to_string()).await
}

/// Whom the API server takes somebody with the token for.
async fn whoami(tenant: &Tenant, token: &str) -> anyhow::Result<Result<Value, Problem>> {
    let side = with_token(tenant, token).await?;
    let review = side.create(SELF_REVIEW, json!({})).await;
    Ok(review.map(|review| review["status"]["userInfo"].clone()))
}

/// Waits until the token is taken for somebody.
async fn gets_in(tenant: &Tenant, token: &str) -> anyhow::Result<Value> {
    eventually(PODS, "the token is taken", async || {
        Ok(whoami(tenant, token).await??)
    })
    .await
}

async fn stays_out(tenant: &Tenant, token: &str, what: &str) -> anyhow::Result<()> {
    let answer = whoami(tenant, token).await?;
    let code = answer.as_ref().err().map(|problem| problem.code);
    ensure!(code == Some(401), "{what}: {answer:?}");
    Ok(())
}

async fn servers(tenant: &Tenant) -> anyhow::Result<Vec<Value>> {
    let place = tenant.control_plane_namespace();
    let selector = "app.kubernetes.io/name=kube-apiserver";
    Ok(tenant.above.list(POD, &place, selector).await?)
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t28_t34_tokens_of_an_issuer_are_taken_where_the_class_lets_it_be_asked_and_for_no_name_of_kubernetes()
 {
    run(async || {
        let above = super_cluster().await?;
        let name = make::unique("e2e-logins");
        let mut class = above.get(CLASS, "", "default").await?["spec"].take();
        // The issuer stands in the super cluster, which is closed by these otherwise.
        class["podNetwork"]["clusterRanges"] = json!(["192.0.2.0/24"]);
        class["apiServerEgress"] = json!([]);
        let class = json!({"metadata": {"name": name}, "spec": class});
        above.create(CLASS, class).await?;
        let result = Issuer::beside(&above, &name, async |issuer| {
            let spec = json!({"className": name, "authentication": authentication(issuer)});
            Tenant::within(&name, spec, async |tenant| logins(tenant, issuer).await).await
        })
        .await;
        above.delete(CLASS, "", &name).await?;
        result
    });
}

async fn logins(tenant: &Tenant, issuer: &Issuer) -> anyhow::Result<()> {
    is_closed_at_first(tenant, issuer).await?;
    let listed = json!([{"cidr": format!("{}/32", issuer.address), "port": 443}]);
    let class = json!({"spec": {"apiServerEgress": listed}});
    tenant.above.merge(CLASS, "", &tenant.name, class).await?;
    let user = gets_in(tenant, &token(issuer)?).await?;
    ensure!(
        user["username"] == "ada" && user["groups"] == json!(["blue", "system:authenticated"]),
        "{user}"
    );
    others_stay_out(tenant, issuer).await?;
    is_held_to_rbac(tenant, issuer).await?;
    a_wrong_rule_takes_nothing_down(tenant, issuer).await?;

    let patch = json!({"spec": {"authentication": null}});
    tenant
        .above
        .merge(CONTROL_PLANE, N, &tenant.name, patch)
        .await?;
    let token = token(issuer)?;
    eventually(PODS, "the issuer isn't believed any more", async || {
        stays_out(tenant, &token, "an issuer of the past").await
    })
    .await
}

/// The issuer isn't asked, and the API server says why.
async fn is_closed_at_first(tenant: &Tenant, issuer: &Issuer) -> anyhow::Result<()> {
    eventually(
        PODS,
        "the API server tells that it got no keys",
        async || {
            let all = servers(tenant).await?;
            let server = all.first().context("an API server")?;
            let path = POD.path(&tenant.control_plane_namespace(), name(server)) + "/log";
            let log = tenant.above.text(&path).await?;
            let mut lines = log.lines();
            ensure!(
                lines.any(
                    |line| line.contains("oidc authenticator: initializing plugin")
                        && line.contains(&issuer.address)
                        && line.contains("403")
                ),
                "no such line in the log of {}",
                name(server)
            );
            Ok(())
        },
    )
    .await?;
    stays_out(tenant, &token(issuer)?, "nobody has the issuer's keys").await
}

async fn others_stay_out(tenant: &Tenant, issuer: &Issuer) -> anyhow::Result<()> {
    for (claims, what) in [
        (
            json!({"name": "ada", "aud": "another"}),
            "of another audience",
        ),
        (json!({"name": "ada", "exp": 1}), "of the past"),
        (
            json!({"name": "ada", "iss": format!("{}/x", issuer.url())}),
            "of another issuer",
        ),
        (json!({"teams": ["blue"]}), "without a name"),
        (json!({"name": ""}), "of an empty name"),
        (
            json!({"name": "ada", "teams": ["blue", "system:masters"]}),
            "a master",
        ),
        (
            json!({"name": "ada", "teams": ["sublet:admins"]}),
            "an admin of Sublet's",
        ),
        (json!({"name": "system:admin"}), "a name of Kubernetes'"),
        (
            json!({"name": "system:serviceaccount:kube-system:default"}),
            "a ServiceAccount",
        ),
        (json!({"name": "sublet:syncer"}), "the syncer's name"),
    ] {
        stays_out(tenant, &issuer.token(&claims)?, what).await?;
    }
    // What was signed is another token.
    let [ada, eve] = [token(issuer)?, issuer.token(&json!({"name": "eve"}))?];
    let (said, _) = ada.rsplit_once('.').context("a signature")?;
    let (_, signature) = eve.rsplit_once('.').context("a signature")?;
    stays_out(tenant, &format!("{said}.{signature}"), "forged").await
}

/// What somebody may do the tenant's own bindings say.
async fn is_held_to_rbac(tenant: &Tenant, issuer: &Issuer) -> anyhow::Result<()> {
    let ada = with_token(tenant, &token(issuer)?).await?;
    let denied = ada.list(CONFIG_MAP, "default", "").await;
    ensure!(
        denied.as_ref().is_err_and(|problem| problem.code == 403),
        "{denied:?}"
    );
    let binding = json!({
        "metadata": {"name": "blue"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "blue"}],
    });
    tenant.side.create(CLUSTER_ROLE_BINDING, binding).await?;
    eventually(SOON, "the group may look", async || {
        Ok(ada.list(CONFIG_MAP, "default", "").await.map(drop)?)
    })
    .await
}

/// An expression that doesn't compile is noticed by an API server alone: the new one, while the old one goes on.
async fn a_wrong_rule_takes_nothing_down(tenant: &Tenant, issuer: &Issuer) -> anyhow::Result<()> {
    let before = servers(tenant).await?;
    let mut wrong = authentication(issuer);
    wrong["jwt"][0]["claimValidationRules"] = json!([{"expression": "claims."}]);
    let ask = async |authentication: &Value| {
        let patch = json!({"spec": {"authentication": authentication}});
        let above = &tenant.above;
        above.merge(CONTROL_PLANE, N, &tenant.name, patch).await
    };
    ask(&wrong).await?;
    eventually(PODS, "the pod that doesn't start is named", async || {
        let vcp = tenant.above.get(CONTROL_PLANE, N, &tenant.name).await?;
        ensure!(
            condition(&vcp, "RolloutStuck") == "True",
            "{}",
            conditions(&vcp)
        );
        ensure!(condition(&vcp, "Ready") == "True", "{}", conditions(&vcp));
        let all = servers(tenant).await?;
        let is_new = |pod: &&Value| before.iter().all(|old| uid(old) != uid(pod));
        let new = all.iter().find(is_new).context("a new API server")?;
        let message = text(&vcp, "/status/message");
        ensure!(message.contains(name(new)), "{message}");
        // It crashes: nobody but its log says why.
        ensure!(message.contains("logs --previous"), "{message}");
        Ok(())
    })
    .await?;
    let old = before.first().context("an API server")?;
    let place = tenant.control_plane_namespace();
    let now = tenant.above.get(POD, &place, name(old)).await?;
    let restarts = &items(&now, "/status/containerStatuses")[0]["restartCount"];
    ensure!(
        uid(&now) == uid(old) && condition(&now, "Ready") == "True" && restarts == 0,
        "{}",
        now["status"]
    );
    whoami(tenant, &token(issuer)?).await??;

    ask(&authentication(issuer)).await?;
    eventually(PODS, "nothing is stuck", async || {
        let vcp = tenant.above.get(CONTROL_PLANE, N, &tenant.name).await?;
        ensure!(
            condition(&vcp, "RolloutStuck") != "True",
            "{}",
            conditions(&vcp)
        );
        ensure!(servers(tenant).await?.len() == 1, "an API server more");
        Ok(())
    })
    .await?;
    gets_in(tenant, &token(issuer)?).await.map(drop)
}
