//! Whether a tenant's Service range can be served: Services with its addresses must be able to exist in the super cluster.

use crate::{cluster::Cluster, tenant};
use anyhow::Result;
use api::ControlPlaneClass;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::{Api, Client, ResourceExt, api::ListParams};
use std::net::Ipv4Addr;
use tenancy::slice::Slice;

/// The IPv4 Service ranges of an API server.
pub(super) async fn of(client: &Client) -> Result<Vec<Slice>, kube::Error> {
    let api: Api<ServiceCIDR> = Api::all(client.clone());
    let all = api.list(&ListParams::default()).await?.items;
    let texts = all
        .into_iter()
        .filter_map(|cidr| cidr.spec)
        .flat_map(|spec| spec.cidrs.unwrap_or_default());
    Ok(texts.filter_map(|text| text.parse().ok()).collect())
}

/// Whether the super cluster can have Services with addresses of `range`; the inner error says why not.
pub(super) async fn check(
    cluster: &Cluster,
    range: Slice,
    class: &str,
) -> Result<Result<(), String>> {
    let ranges = of(&cluster.client).await?;
    let taken: Vec<(Slice, String)> = tenant::all(cluster)
        .await?
        .iter()
        .filter_map(|vcp| {
            let slice = vcp.spec.network.service_cidr.as_ref()?.parse().ok()?;
            let namespace = vcp.namespace().unwrap_or_default();
            Some((slice, format!("{namespace}/{}", vcp.name_any())))
        })
        .collect();
    let addresses: Api<IPAddress> = Api::all(cluster.client.clone());
    let used: Vec<Ipv4Addr> = addresses
        .list(&ListParams::default())
        .await?
        .iter()
        .filter_map(|address| address.name_any().parse().ok())
        .collect();
    let classes: Api<ControlPlaneClass> = Api::all(cluster.client.clone());
    let class = classes.get_opt(class).await?.map(|class| class.spec);
    let widest = class.unwrap_or_default().service_slice_prefix;
    Ok(judge(range, &ranges, &taken, &used, widest))
}

fn judge(
    range: Slice,
    ranges: &[Slice],
    taken: &[(Slice, String)],
    used: &[Ipv4Addr],
    widest: u8,
) -> Result<(), String> {
    if !ranges.iter().any(|whole| range.lies_in(*whole)) {
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        return Err(format!(
            "its Service range {range} doesn't lie in the super cluster's ({})",
            ranges.join(", ")
        ));
    }
    if range.prefix() < widest {
        return Err(format!(
            "its Service range {range} has more addresses than the /{widest} that serviceSlicePrefix of its class allows"
        ));
    }
    if let Some((slice, holder)) = taken.iter().find(|(slice, _)| slice.overlaps(range)) {
        return Err(format!(
            "its Service range {range} overlaps {slice} of tenant {holder}"
        ));
    }
    if let Some(address) = used.iter().find(|address| range.contains(**address)) {
        return Err(format!(
            "a Service of the super cluster has the address {address} of its Service range {range}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_free_part_of_the_super_clusters_range_is_served() {
        let slice = |text: &str| text.parse::<Slice>().unwrap();
        let (ranges, taken) = (
            [slice("10.96.0.0/16")],
            [(slice("10.96.4.0/22"), "a/b".to_owned())],
        );
        let used = ["10.96.9.7".parse().unwrap()];
        let judge = |text: &str| judge(slice(text), &ranges, &taken, &used, 22);
        assert_eq!(judge("10.96.16.0/22"), Ok(()));
        assert!(
            judge("10.97.0.0/22")
                .unwrap_err()
                .contains("doesn't lie in")
        );
        assert!(judge("10.0.0.0/8").unwrap_err().contains("doesn't lie in"));
        assert!(judge("10.96.0.0/20").unwrap_err().contains("than the /22"));
        assert!(judge("10.96.4.0/24").unwrap_err().contains("of tenant a/b"));
        assert!(judge("10.96.8.0/22").unwrap_err().contains("10.96.9.7"));
    }
}
