//! How marks are kept: a ConfigMap in the tenant, a Lease in the super cluster.

use crate::{
    apply::{self, Failure},
    engine::Engine,
    error::Error,
    fleet::{self, LEASES},
    live::read,
    tenants::Tenant,
    verdict::ControlPlane,
};
use api::keys;
use serde_json::json;
use tenancy::{
    fleet::Title,
    kind::{self, Resource},
    mark::{self, Mark},
    object::Object,
    tenant::TenantId,
};

/// Namespace of the tenant's mark.
pub(super) const PLACE: &str = "kube-system";

fn config_maps() -> &'static Resource {
    kind::rule(kind::index("ConfigMap")).resource()
}

/// The tenant's mark.
#[derive(Default)]
pub(super) struct Own {
    pub(super) nonce: Option<u64>,
    /// UID of the super cluster's kube-system namespace.
    pub(super) super_uid: String,
    /// Highest version seen of the super cluster's pods.
    pub(super) super_version: u64,
    stored: Option<Object>,
}

impl Own {
    pub(super) async fn read(tenant: &Tenant) -> Result<Self, Failure> {
        let path = config_maps().path(PLACE, api::MARK_NAME);
        let stored = read(&tenant.cluster, &path).await?;
        let text = |key: &str| {
            let found = stored
                .as_ref()
                .and_then(|mark| mark.text(&format!("/data/{key}")));
            found.unwrap_or_default().to_owned()
        };
        Ok(Self {
            nonce: mark::nonce(&text("nonce")),
            super_uid: text("superUID"),
            super_version: text("superVersion").parse().unwrap_or_default(),
            stored,
        })
    }
}

/// Writes the tenant's mark with the next nonce, which is the answer.
pub(super) async fn write_own(
    engine: &Engine,
    tenant: &Tenant,
    own: &Own,
    theirs: &Theirs,
) -> Result<u64, Failure> {
    let nonce = mark::next_nonce(own.nonce, theirs.mark.nonce);
    let super_uid = engine.super_proof.get().cloned().unwrap_or_default();
    let data = json!({
        "nonce": nonce.to_string(), "superUID": super_uid,
        "superVersion": engine.super_version().to_string(),
        "about": "Kept by Sublet, which sees by it that this cluster was restored from a backup. Deleting it holds \
                  deletions until an operator looks.",
    });
    apply::put(
        &tenant.cluster,
        tenant,
        config_maps(),
        own.stored.as_ref(),
        json!({"metadata": {"name": api::MARK_NAME, "namespace": PLACE}, "data": data}),
        &[("/data", data.clone())],
    )
    .await?;
    Ok(nonce)
}

/// The super cluster's mark of a tenant.
#[derive(Default)]
pub(super) struct Theirs {
    pub(super) mark: Mark,
    stored: Option<Object>,
}

impl Theirs {
    pub(super) async fn read(engine: &Engine, tenant: &Tenant) -> Result<Self, Failure> {
        let stored = read(&engine.cluster, &lease_path(&tenant.id)).await?;
        let term = &tenant.term;
        if let Some(lease) = &stored
            && fleet::title(lease).supersedes(term.me(), term.epoch())
        {
            // Another syncer came after this one (R7).
            term.revoke();
            return Err(Failure::Stopped);
        }
        let text = |key: &str| {
            let found = stored.as_ref().and_then(|lease| lease.annotation(key));
            found.unwrap_or_default().to_owned()
        };
        let mark = Mark {
            nonce: mark::nonce(&text(keys::MARK_NONCE)).unwrap_or_default(),
            versions: serde_json::from_str(&text(keys::MARK_VERSIONS)).unwrap_or_default(),
            restore_counter: text(keys::RESTORE_COUNTER).parse().unwrap_or_default(),
            acknowledged: text(keys::ACKNOWLEDGED).parse().unwrap_or_default(),
            released: text(keys::RELEASED),
        };
        Ok(Self { mark, stored })
    }

    pub(super) async fn write(
        &self,
        engine: &Engine,
        tenant: &Tenant,
        mark: &Mark,
    ) -> Result<(), Failure> {
        let versions = serde_json::to_string(&mark.versions)
            .map_err(|err| Failure::Api(Error::Malformed(err.to_string())))?;
        let annotations = json!({
            keys::MARK_NONCE: mark.nonce.to_string(),
            keys::MARK_VERSIONS: versions,
            keys::RESTORE_COUNTER: mark.restore_counter.to_string(),
            keys::ACKNOWLEDGED: mark.acknowledged.to_string(),
            keys::RELEASED: mark.released,
        });
        // Only where somebody deleted the Lease that the title was taken by.
        let title = Title {
            holder: tenant.term.me().to_owned(),
            epoch: tenant.term.epoch(),
        };
        let metadata = json!({
            "name": fleet::name(&tenant.id), "namespace": api::SYSTEM_NAMESPACE,
            "labels": {keys::TENANT: tenant.id.as_str()}, "annotations": annotations,
        });
        apply::put(
            &engine.cluster,
            tenant,
            &LEASES,
            self.stored.as_ref(),
            json!({"metadata": metadata, "spec": fleet::spec(&title)}),
            &[("/metadata/annotations", annotations.clone())],
        )
        .await
    }
}

/// Records on the VirtualControlPlane who the tenant is.
pub(super) async fn record_proof(
    engine: &Engine,
    tenant: &Tenant,
    uid: &str,
) -> Result<(), Failure> {
    let Some(vcp) = ControlPlane::of(tenant).read(engine).await? else {
        return Ok(());
    };
    let proof = json!({"kubeSystemUID": uid, "restoreCounter": tenant.rules().restore_counter});
    let proof = [("proof", proof)];
    apply::status(&engine.cluster, &vcp, &proof, &tenant.permit()).await?;
    tracing::info!(tenant = %tenant.id, "recorded who the tenant is, by its kube-system namespace");
    tenant.set_proof(uid);
    Ok(())
}

/// Deletes the mark of a tenant that is gone for good.
pub(crate) async fn forget(engine: &Engine, id: &TenantId) -> Result<(), Failure> {
    let path = lease_path(id);
    let Some(lease) = read(&engine.cluster, &path).await? else {
        return Ok(());
    };
    Ok(apply::delete_lease(&engine.cluster, &path, lease.uid()).await?)
}

fn lease_path(id: &TenantId) -> String {
    LEASES.path(api::SYSTEM_NAMESPACE, &fleet::name(id))
}
