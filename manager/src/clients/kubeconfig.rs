//! Clients of kubeconfigs that were read by allow-list.

pub(crate) use tenancy::kubeconfig::{Access, Credentials, Error};

use futures::{FutureExt, future::BoxFuture};
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use std::{sync::Arc, time::Duration};

/// Makes clients.
pub(crate) type Enter =
    Arc<dyn Fn(Access) -> BoxFuture<'static, Result<Client, NoClient>> + Send + Sync>;

/// By the network.
pub(crate) fn enter() -> Enter {
    Arc::new(|access: Access| async move { client(&access).await }.boxed())
}

/// No client came of a kubeconfig.
#[derive(Debug, thiserror::Error)]
#[error("no client can be made of the kubeconfig: {0}")]
pub(crate) struct NoClient(String);

/// A client that gives up early: a dead API server must not hold a pass.
pub(crate) async fn client(access: &Access) -> Result<Client, NoClient> {
    let failed = |error: &dyn std::error::Error| NoClient(error.to_string());
    let file: Kubeconfig =
        serde_json::from_value(access.to_value("tenant", "sublet")).map_err(|e| failed(&e))?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(file, &options)
        .await
        .map_err(|e| failed(&e))?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    config.read_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// T47: the allow-list refuses it (`tenancy::kubeconfig`); this is what a reader without one does.
    #[tokio::test]
    async fn t47_a_reader_without_an_allow_list_runs_what_a_kubeconfig_says() {
        let mark = std::env::temp_dir().join(format!("sublet-t47-{}", std::process::id()));
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [mark],
            "interactiveMode": "Never",
        });
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
            "users": [{"name": "c", "user": {"exec": exec}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        })
        .to_string();
        assert!(Access::parse(&text).is_err());
        let file = Kubeconfig::from_yaml(&text).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        // `touch` says nothing that would let anybody in.
        let client = Client::try_from(config.unwrap());
        let was_run = std::fs::remove_file(&mark).is_ok();
        assert!(was_run && client.is_err());
    }
}
