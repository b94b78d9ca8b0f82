//! Where a tenant is: what its super cluster is known by, and where clients reach it.

use super::{Error, Observer, Provider};
use crate::{
    network::endpoint,
    object::{NAMESPACE, SUBLET_CONTROL_PLANE},
    spec::control_plane::Owner,
    watching::answers::Reader,
};
use api::VirtualControlPlane;

impl Observer {
    /// What the super cluster is known by, which stays.
    pub(super) async fn here(&self) -> Result<Option<String>, Error> {
        if let Some(here) = self.here.get() {
            return Ok(Some(here.clone()));
        }
        let system = self.cluster.get(NAMESPACE, None, "kube-system").await?;
        let uid = system.map(|system| system.uid().to_owned());
        Ok(uid.map(|uid| self.here.get_or_init(|| uid).clone()))
    }

    /// The host that the tenant's endpoint names already. A move to another management cluster leaves the status behind:
    /// then Cluster API knows it still.
    pub(super) async fn named_host(
        &self,
        from: &Reader,
        vcp: &VirtualControlPlane,
        owner: &Owner,
    ) -> Result<Option<String>, Error> {
        let status = vcp.status.as_ref();
        let told = status.and_then(|status| status.endpoint.as_deref());
        if let Some(endpoint) = told {
            return Ok(endpoint::host(endpoint).map(str::to_owned));
        }
        let maker = owner
            .cluster
            .as_ref()
            .and_then(|of| of.control_plane.as_ref());
        let name = maker.and_then(|maker| maker["name"].as_str());
        let (Provider::On, Some(name)) = (self.cluster_api, name) else {
            return Ok(None);
        };
        let own = from.get(SUBLET_CONTROL_PLANE, Some(&owner.namespace), name);
        let own = own.await?;
        let host = own.map(|own| own.text("/spec/controlPlaneEndpoint/host").to_owned());
        Ok(host.filter(|host| !host.is_empty()))
    }
}
