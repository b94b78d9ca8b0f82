//! Who a pod is: its account in the super cluster, and its host name.
//!
//! The account is ours and has no rights (T23); the tenant's own account lives in its tokens.
//!
//! Host names: the kubelet derives a pod's domain from the *super* namespace and the *super* cluster's domain, writes it
//! into `/etc/hosts` and answers `hostname -f` with it. No field changes the domain alone. `hostnameOverride`
//! (KEP-4762, on by default since 1.35) makes it leave the domain out, so it is set on every pod with a `subdomain`:
//! `hostname` stays what the tenant expects, the super namespace's name doesn't appear, and the full name resolves by
//! the tenant's DNS, which has it from the tenant's own EndpointSlices. `hostname -f` gives the short name.
//! `setHostnameAsFQDN` becomes an override with the full name in the tenant.

use super::fields::{is_true, text};
use crate::{
    kind::{Cx, Refused},
    object::Object,
};
use api::keys;
use serde_json::Value;

/// Longest host name that the kubelet gives without cutting it.
const HOSTNAME_MAX: usize = 63;

/// Name of the tenant's ServiceAccount that a pod runs under in the tenant.
pub(super) fn service_account(pod: &Object) -> &str {
    pod.text("/spec/serviceAccountName")
        .filter(|name| !name.is_empty())
        .unwrap_or("default")
}

/// Sets the account and the host name.
pub(super) fn step(spec: &mut Value, pod: &Object, cx: &Cx<'_>) -> Result<(), Refused> {
    spec["serviceAccountName"] = keys::POD_SERVICE_ACCOUNT.into();
    spec["automountServiceAccountToken"] = false.into();
    if let Some(name) = hostname_override(pod, cx)? {
        spec["hostnameOverride"] = name.into();
    }
    Ok(())
}

/// The host name that the kubelet must be told, so that it doesn't derive a domain of its own.
fn hostname_override(pod: &Object, cx: &Cx<'_>) -> Result<Option<String>, Refused> {
    let Some(spec) = pod.at("/spec") else {
        return Ok(None);
    };
    let subdomain = text(spec, "subdomain");
    if subdomain.is_empty()
        || !text(spec, "hostnameOverride").is_empty()
        || is_true(spec, "hostNetwork")
    {
        return Ok(None);
    }
    let hostname = Some(text(spec, "hostname"))
        .filter(|name| !name.is_empty())
        .unwrap_or(pod.name());
    if !is_true(spec, "setHostnameAsFQDN") {
        // The kubelet cuts the name of a pod in the same way.
        let cut = hostname
            .get(..HOSTNAME_MAX)
            .unwrap_or(hostname)
            .trim_end_matches(['-', '.']);
        return Ok(Some(cut.to_owned()));
    }
    let full = format!(
        "{hostname}.{subdomain}.{}.svc.{}",
        pod.namespace(),
        cx.rules.cluster_domain
    );
    if full.len() > HOSTNAME_MAX {
        return Err(Refused::new(
            "HostnameTooLong",
            format!(
                "spec.setHostnameAsFQDN: {full} is longer than {HOSTNAME_MAX} characters: shorten hostname or subdomain"
            ),
        ));
    }
    Ok(Some(full))
}

#[cfg(test)]
mod tests {
    use crate::kind::pod::tests::{field, refusal};

    fn hostname(spec: &str) -> String {
        field(spec, "/hostnameOverride").trim_end().to_owned()
    }

    #[test]
    fn a_pod_with_a_domain_is_kept_from_that_of_the_super_cluster() {
        assert_eq!(hostname("{subdomain: db}"), "web");
        assert_eq!(hostname("{subdomain: db, hostname: db-0}"), "db-0");
        assert_eq!(
            field("{subdomain: db, hostname: db-0}", "/subdomain"),
            "db\n"
        );
        assert_eq!(
            hostname("{subdomain: db, hostname: db-0, setHostnameAsFQDN: true}"),
            "db-0.db.shop.svc.cluster.local"
        );
        assert_eq!(
            field(
                "{subdomain: db, setHostnameAsFQDN: true}",
                "/setHostnameAsFQDN"
            ),
            "null\n"
        );
        assert_eq!(
            hostname("{subdomain: db, hostnameOverride: own.example}"),
            "own.example"
        );
        for without in ["{hostname: a}", "{setHostnameAsFQDN: true}", "{}"] {
            assert_eq!(hostname(without), "null", "{without}");
        }
    }

    #[test]
    fn a_full_name_that_the_kernel_would_not_take_is_refused() {
        let long = "a".repeat(50);
        assert_eq!(
            refusal(&format!("{{subdomain: {long}, setHostnameAsFQDN: true}}")).reason,
            "HostnameTooLong"
        );
    }
}
