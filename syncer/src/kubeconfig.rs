//! Client configurations of kubeconfigs from Secrets, which are read by allow-list (T47).

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::sync::Arc;
use tenancy::{
    kubeconfig::{self, Access},
    naming,
};

/// A kubeconfig as it stands in a Secret; copies share the text.
///
/// It is hashed once: those of all tenants are compared whenever one of them changes.
#[derive(Clone)]
pub(crate) struct Text(Arc<(String, String)>);

impl Text {
    pub(crate) fn new(text: String) -> Self {
        let hash = naming::hash(&[text.as_bytes()]);
        Self(Arc::new((text, hash)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0.0
    }

    /// What tells it from another one.
    pub(crate) fn hash(&self) -> &str {
        &self.0.1
    }
}

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
