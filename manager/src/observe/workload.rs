//! Looking at what a tenant runs.

use super::{Error, Observer, Seen};
use crate::{
    lifecycle::sleep::workload,
    object::{Object, POD},
    spec::control_plane::Owner,
};
use api::keys;

impl Observer {
    /// The tenant's pods that run, where they are to end; read live, since nothing goes on sleeping while one is left.
    pub(super) async fn look_at_workload(
        &self,
        seen: &mut Seen,
        owner: &Owner,
    ) -> Result<(), Error> {
        if !workload::is_asked_for(seen) {
            return Ok(());
        }
        let selector = format!("{}={}", keys::TENANT, owner.id);
        let inside = owner.control_plane_namespace();
        let keep = |pod: Object| workload::essence(&pod, &inside);
        seen.workload = Some(self.cluster.list_of(POD, None, &selector, keep).await?);
        Ok(())
    }
}
