//! Client configurations of kubeconfigs from Secrets, which are read by allow-list (T47).

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tenancy::kubeconfig::{self, Access};

/// Why a kubeconfig isn't used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It isn't one, or holds more than is taken from a Secret.
    #[error("the kubeconfig is refused: {0}")]
    Refused(#[from] kubeconfig::Error),
    /// No client can be made of it.
    #[error("no client can be made of the kubeconfig: {0}")]
    Unusable(String),
}

/// The client configuration of a kubeconfig's current context.
pub(crate) async fn parse(text: &str) -> Result<Config, Error> {
    let access = Access::parse(text)?;
    let unusable = |err: &dyn std::error::Error| Error::Unusable(err.to_string());
    let kubeconfig: Kubeconfig = serde_json::from_value(access.to_value("tenant", "sublet"))
        .map_err(|err| unusable(&err))?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|err| unusable(&err))
}
