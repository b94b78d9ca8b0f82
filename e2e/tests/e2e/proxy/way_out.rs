//! What a tenant's API server reaches: its own pods and Services, by proxy and by webhook.

use crate::kubectl::with_kubectl;
use anyhow::ensure;
use e2e::{
    kind::{CONFIG_MAP, POD, SERVICE, VALIDATING_WEBHOOK},
    make,
    space::{Space, within},
    tenant::A,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

/// A server with its Service.
async fn server(space: &Space) -> anyhow::Result<()> {
    let labels = json!({"name": "web", "labels": {"app": "web"}});
    let pod = json!({"metadata": labels, "spec": make::pod_spec(make::server())});
    space.create(POD, pod).await?;
    space.create(SERVICE, make::service("web")).await?;
    space.ready("web").await?;
    Ok(())
}

#[test]
fn pods_and_services_are_proxied() {
    within(A, "proxied", async |space| {
        server(space).await?;
        for what in ["pods/web:8080", "services/web:80", "services/web"] {
            let path = format!("/api/v1/namespaces/{}/{what}/proxy/hostname", space.name);
            eventually(SOON, &format!("{what} answers"), async || {
                let said = space.side().text(&path).await?;
                ensure!(said == "web", "{said}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    });
}

/// A webhook that is asked before a ConfigMap of the space is created.
pub(super) fn webhook(space: &Space, client: Value) -> Value {
    json!({
        "metadata": {"name": format!("{}.example.com", space.name)},
        "webhooks": [{
            "name": format!("{}.example.com", space.name), "clientConfig": client,
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 5,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}],
        }],
    })
}

/// Tries to create a ConfigMap until the webhook is asked, and returns why it was refused.
pub(super) async fn refused_by(space: &Space, client: Value) -> anyhow::Result<String> {
    let hook = space
        .side()
        .create(VALIDATING_WEBHOOK, webhook(space, client))
        .await?;
    let said = eventually(PODS, "the webhook is asked", async || {
        let name = format!("try-{:06x}", rand::random::<u32>() >> 8);
        match space
            .create(CONFIG_MAP, make::config_map(&name, "a", "b"))
            .await
        {
            Ok(_) => anyhow::bail!("the ConfigMap was let in"),
            Err(problem) => Ok(problem.message),
        }
    })
    .await;
    let name = e2e::read::name(&hook);
    space.side().delete(VALIDATING_WEBHOOK, "", name).await?;
    said
}

#[test]
fn a_webhook_in_a_service_of_the_tenant_is_asked() {
    with_kubectl("hook", async |space, kubectl| {
        server(space).await?;
        // The server speaks no TLS, so that it was reached is told by what is wrong with its answer.
        let service =
            json!({"service": {"namespace": space.name, "name": "web", "port": 80, "path": "/"}});
        // A ready pod isn't behind its Service's address on every node at once.
        eventually(SOON, "the webhook is reached", async || {
            let said = refused_by(space, service.clone()).await?;
            ensure!(
                said.contains("server gave HTTP response to HTTPS client"),
                "{said}"
            );
            Ok(())
        })
        .await?;
        kubectl
            .run(&format!("-n {} get pod web", space.name))
            .await?
            .says(&["Running"])?;
        Ok(())
    });
}
