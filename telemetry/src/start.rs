//! The way to the super cluster, and the end of a daemon.

use kube::{
    Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use std::{fmt::Write as _, io, path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

/// No way to the super cluster.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither a kubeconfig nor a pod's service account.
    #[error("not in a cluster: give --kubeconfig PATH")]
    NotInCluster(#[source] InClusterError),
    /// It can't be read, or leads nowhere.
    #[error("--kubeconfig {}", path.display())]
    Kubeconfig {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with it.
        source: KubeconfigError,
    },
    /// kubectl takes it for HTTP, and no client of Kubernetes in Rust takes it.
    #[error("the kubeconfig's server {0:?} is no whole URL: write https://HOST:PORT")]
    Server(String),
}

/// How the super cluster's API server is reached: by a kubeconfig, or from a pod by its service account.
pub async fn config(kubeconfig: Option<PathBuf>) -> Result<Config, ConfigError> {
    let Some(path) = kubeconfig else {
        return Config::incluster().map_err(ConfigError::NotInCluster);
    };
    let wrong = |source| {
        let path = path.clone();
        ConfigError::Kubeconfig { path, source }
    };
    let file = Kubeconfig::read_from(&path).map_err(wrong)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    whole(config.map_err(wrong)?)
}

/// Refuses what the client of Kubernetes would panic at.
fn whole(config: Config) -> Result<Config, ConfigError> {
    let url = &config.cluster_url;
    if url.scheme().is_none() || url.host().is_none() {
        return Err(ConfigError::Server(url.to_string()));
    }
    Ok(config)
}

/// Waits until the process is asked to end, by SIGTERM or SIGINT.
///
/// # Errors
/// When signals can't be waited for.
pub async fn asked_to_end() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What a daemon ends with; what went wrong is said in one line.
pub fn end<E>(result: Result<(), E>) -> ExitCode
where
    E: AsRef<dyn std::error::Error + Send + Sync>,
{
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error with all its causes in one line, each said once.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_whole_url() {
        let of = |server: &str| whole(Config::new(server.parse().unwrap()));
        for right in ["https://10.0.0.1:6443", "http://localhost:8001/k8s"] {
            assert!(of(right).is_ok(), "{right}");
        }
        for wrong in ["10.0.0.1:6443", "localhost", "/path"] {
            let said = with_causes(&of(wrong).unwrap_err());
            assert!(
                said.contains(wrong) && said.contains("https://HOST:PORT"),
                "{said}"
            );
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named_in_one_line() {
        let error = config(Some("/nowhere/super.conf".into()))
            .await
            .unwrap_err();
        let said = with_causes(&error);
        assert!(
            said.starts_with("--kubeconfig /nowhere/super.conf: "),
            "{said}"
        );
        assert_eq!(said.matches("No such file").count(), 1, "{said}");
        assert!(!said.contains('\n'), "{said}");
    }
}
