//! Clients of kubeconfigs that were read by allow-list.

pub(crate) use tenancy::kubeconfig::{Access, Credentials, Error};

use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use std::time::Duration;

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
