//! ServiceAccounts as users: kubeconfigs that lead somewhere with an account's rights alone.

use crate::{
    kind::{ROLE, ROLE_BINDING, SERVICE_ACCOUNT},
    side::{Problem, Side},
};
use anyhow::Context;
use http::Method;
use serde_json::{Value, json};

/// The kubeconfig of an admin, with the token of an account in place of the admin's own credentials.
///
/// # Errors
/// There is no such account, or the kubeconfig can't be read.
pub async fn kubeconfig(
    side: &Side,
    admin: &str,
    namespace: &str,
    account: &str,
) -> anyhow::Result<String> {
    let mut kubeconfig: Value = serde_saphyr::from_str(admin)?;
    let token = token(side, namespace, account).await?;
    kubeconfig["users"][0]["user"] = json!({"token": token});
    Ok(kubeconfig.to_string())
}

/// Makes an account with a Role and nothing else, where there is none yet; the Role says its namespace.
///
/// # Errors
/// As of the API server.
pub async fn with_role(side: &Side, account: &str, mut role: Value) -> anyhow::Result<()> {
    let namespace = role["metadata"]["namespace"].clone();
    let metadata = json!({"name": account, "namespace": namespace});
    role["metadata"] = metadata.clone();
    let binding = json!({
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    });
    let account = json!({"metadata": metadata});
    for (kind, object) in [
        (SERVICE_ACCOUNT, account),
        (ROLE, role),
        (ROLE_BINDING, binding),
    ] {
        present(side.create(kind, object).await)?;
    }
    Ok(())
}

/// What was there before is as good.
///
/// # Errors
/// It could not be made.
pub fn present(made: Result<Value, Problem>) -> Result<(), Problem> {
    match made {
        Err(problem) if problem.code != 409 => Err(problem),
        _ => Ok(()),
    }
}

async fn token(side: &Side, namespace: &str, account: &str) -> anyhow::Result<String> {
    let path = SERVICE_ACCOUNT.path(namespace, account) + "/token";
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 14400},
    });
    let answer = side.request(Method::POST, &path, Some(request)).await?;
    let token = answer["status"]["token"].as_str();
    Ok(token.context("a token was asked for")?.to_owned())
}
