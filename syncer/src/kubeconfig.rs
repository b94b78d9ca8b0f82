//! Kubeconfigs from Secrets, parsed by allow-list (T47).
//!
//! A kubeconfig can name programs to run, files to read and proxies to trust. From a Secret only an address, a CA, a
//! server name and credentials in data are taken; anything else is refused, not ignored.

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Why a kubeconfig isn't used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It isn't a kubeconfig, or lacks a part.
    #[error("the kubeconfig can't be read: {0}")]
    Malformed(#[from] kube::config::KubeconfigError),
    /// It holds something that isn't on the list.
    #[error(
        "the kubeconfig sets {0}, which isn't taken from a Secret: use server, certificate-authority-data, \
         tls-server-name, client-certificate-data, client-key-data and token only"
    )]
    NotAllowed(&'static str),
}

/// The client configuration of a kubeconfig's current context.
pub(crate) async fn parse(text: &str) -> Result<Config, Error> {
    let kubeconfig = Kubeconfig::from_yaml(text)?;
    check(&kubeconfig)?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

fn check(kubeconfig: &Kubeconfig) -> Result<(), Error> {
    for cluster in kubeconfig
        .clusters
        .iter()
        .filter_map(|named| named.cluster.as_ref())
    {
        let refused = [
            (
                "insecure-skip-tls-verify",
                cluster.insecure_skip_tls_verify == Some(true),
            ),
            (
                "certificate-authority",
                cluster.certificate_authority.is_some(),
            ),
            ("proxy-url", cluster.proxy_url.is_some()),
        ];
        first(&refused)?;
        let plain = cluster
            .server
            .as_deref()
            .is_some_and(|server| !server.starts_with("https://"));
        first(&[
            ("a server without https", plain),
            (
                "no certificate-authority-data",
                cluster.certificate_authority_data.is_none(),
            ),
        ])?;
    }
    for user in kubeconfig
        .auth_infos
        .iter()
        .filter_map(|named| named.auth_info.as_ref())
    {
        let refused = [
            ("exec", user.exec.is_some()),
            ("auth-provider", user.auth_provider.is_some()),
            ("tokenFile", user.token_file.is_some()),
            ("client-certificate", user.client_certificate.is_some()),
            ("client-key", user.client_key.is_some()),
            ("username", user.username.is_some()),
            ("password", user.password.is_some()),
            ("as", user.impersonate.is_some()),
            ("as-groups", user.impersonate_groups.is_some()),
        ];
        first(&refused)?;
    }
    Ok(())
}

fn first(refused: &[(&'static str, bool)]) -> Result<(), Error> {
    match refused.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(Error::NotAllowed(field)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    const CLUSTER: &str = "server: 'https://10.0.0.1', certificate-authority-data: ''";

    #[tokio::test]
    async fn what_could_run_read_or_redirect_is_refused() {
        let clusters = [
            "server: 'https://x', insecure-skip-tls-verify: true",
            "server: 'https://x', certificate-authority: /etc/passwd",
            "server: 'https://x', certificate-authority-data: '', proxy-url: 'http://evil'",
            "server: 'http://x', certificate-authority-data: ''",
            "server: 'https://x'",
        ];
        for cluster in clusters {
            assert!(
                matches!(
                    parse(&kubeconfig(cluster, "token: t")).await,
                    Err(Error::NotAllowed(_))
                ),
                "{cluster}"
            );
        }
        let users = [
            "exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}",
            "auth-provider: {name: x, config: {}}",
            "tokenFile: /etc/passwd",
            "client-certificate: /etc/passwd",
            "client-key: /etc/passwd",
            "username: a, password: b",
            "as: system:admin",
        ];
        for user in users {
            assert!(
                matches!(
                    parse(&kubeconfig(CLUSTER, user)).await,
                    Err(Error::NotAllowed(_))
                ),
                "{user}"
            );
        }
    }

    #[test]
    fn what_is_on_the_list_is_taken() {
        let text = kubeconfig(
            CLUSTER,
            "token: t, client-certificate-data: '', client-key-data: ''",
        );
        assert!(check(&Kubeconfig::from_yaml(&text).unwrap()).is_ok());
    }
}
