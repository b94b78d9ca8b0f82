//! Which proxy leads to an API server, by the rules that kubectl follows.
//!
//! The client library takes HTTPS_PROXY for every server, whatever NO_PROXY says, so the choice is made here.

use http::Uri;
use std::net::IpAddr;

/// What the environment says about proxies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// HTTPS_PROXY.
    proxy: Option<String>,
    /// NO_PROXY.
    exceptions: Option<String>,
}

impl Environment {
    /// Reads the variables, in capitals or not.
    pub(crate) fn read() -> Self {
        let variable = |names: [&str; 2]| {
            names
                .into_iter()
                .filter_map(|name| std::env::var(name).ok())
                .find(|value| !value.is_empty())
        };
        Self {
            proxy: variable(["HTTPS_PROXY", "https_proxy"]),
            exceptions: variable(["NO_PROXY", "no_proxy"]),
        }
    }

    /// The proxy to `server`: the kubeconfig's own, else the environment's unless the server is an exception.
    pub(crate) fn proxy(&self, own: Option<&str>, server: &Uri) -> Result<Option<Uri>, String> {
        let chosen = match (own.filter(|own| !own.is_empty()), &self.proxy) {
            (Some(own), _) => own,
            (None, Some(proxy)) if server.scheme_str() == Some("https") && !self.spares(server) => {
                proxy
            }
            (None, _) => return Ok(None),
        };
        // HOST:PORT alone means an HTTP proxy.
        let url = if chosen.contains("://") {
            chosen.to_owned()
        } else {
            format!("http://{chosen}")
        };
        url.parse()
            .map(Some)
            .map_err(|_| format!("{chosen:?} is no URL of a proxy: check proxy-url or HTTPS_PROXY"))
    }

    fn spares(&self, server: &Uri) -> bool {
        let host = server
            .host()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let port = server.port_u16().unwrap_or(443);
        let list = self.exceptions.as_deref().unwrap_or_default();
        list.split(',')
            .map(|entry| entry.trim().to_ascii_lowercase())
            .any(|entry| matches(&entry, &host, address, port))
    }
}

/// Whether an entry of NO_PROXY means the host: `*`, an address, a range, a domain, each perhaps with a port.
fn matches(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if entry.is_empty() {
        return false;
    }
    if entry == "*" {
        return true;
    }
    if let Some((base, prefix)) = entry.split_once('/') {
        return address.is_some_and(|address| in_range(address, base, prefix));
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, wanted)) if !name.contains(':') || name.ends_with(']') => {
            (name, wanted.parse::<u16>().ok())
        }
        _ => (entry, None),
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let name = name.trim_matches(['[', ']']);
    if let Some(address) = address {
        return name.parse() == Ok(address);
    }
    let domain = name.trim_start_matches('*').trim_start_matches('.');
    // `.example.com` means what lies below it, `example.com` that name too.
    let below = host
        .strip_suffix(domain)
        .is_some_and(|rest| rest.ends_with('.'));
    below || (host == domain && domain == name)
}

fn in_range(address: IpAddr, base: &str, prefix: &str) -> bool {
    let (Ok(base), Ok(prefix)) = (base.parse::<IpAddr>(), prefix.parse::<u32>()) else {
        return false;
    };
    match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) => {
            let mask = u32::MAX
                .checked_shl(32u32.saturating_sub(prefix))
                .unwrap_or(0);
            u32::from(address) & mask == u32::from(base) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(base)) => {
            let mask = u128::MAX
                .checked_shl(128u32.saturating_sub(prefix))
                .unwrap_or(0);
            u128::from(address) & mask == u128::from(base) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(proxy: &str, exceptions: &str, own: Option<&str>, server: &str) -> Option<String> {
        let environment = Environment {
            proxy: Some(proxy.to_owned()),
            exceptions: Some(exceptions.to_owned()),
        };
        environment
            .proxy(own, &server.parse().unwrap())
            .unwrap()
            .map(|uri| uri.to_string())
    }

    #[test]
    fn the_environments_proxy_is_used_unless_the_server_is_spared() {
        let through = |exceptions: &str, server: &str| {
            chosen("http://p:3128", exceptions, None, server).is_some()
        };
        assert!(through("", "https://10.0.0.1:6443"));
        assert!(
            !through("", "https://127.0.0.1:6443")
                && !through("", "https://localhost:6443")
                && !through("", "https://[::1]:6443")
        );
        assert!(
            !through("10.0.0.0/8", "https://10.0.0.1:6443")
                && through("10.0.0.0/8", "https://11.0.0.1:6443")
        );
        assert!(
            !through("a, 10.0.0.1", "https://10.0.0.1:6443")
                && !through("*", "https://k.example.com")
        );
        assert!(
            !through("example.com", "https://k.example.com")
                && !through("example.com", "https://example.com")
        );
        assert!(
            !through(".example.com", "https://k.example.com")
                && through(".example.com", "https://example.com")
        );
        assert!(through("example.com", "https://notexample.com"));
        assert!(
            !through("k.io:6443", "https://k.io:6443") && through("k.io:6443", "https://k.io:443")
        );
        assert!(
            !through("fd00::/8", "https://[fd00::1]:6443")
                && !through("[fd00::1]:6443", "https://[fd00::1]:6443")
        );
    }

    #[test]
    fn the_kubeconfigs_own_proxy_comes_first() {
        assert_eq!(
            chosen("http://p", "*", Some("socks5://s:1"), "https://k").as_deref(),
            Some("socks5://s:1/")
        );
        assert_eq!(
            chosen("p:3128", "", None, "https://k").as_deref(),
            Some("http://p:3128/")
        );
        assert_eq!(
            Environment::default().proxy(None, &"https://k".parse().unwrap()),
            Ok(None)
        );
    }
}
