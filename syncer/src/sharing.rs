//! Keeps what a tenant is shown of Services of the platform and of other tenants, and what NetworkPolicies open for them.
//!
//! The Services are read every few seconds, not watched: there are few, and an address that changed is a Service that was
//! made anew. What is opened becomes part of the tenant's rules, so that the isolation of its namespaces follows it.

use crate::{
    apply::{self, Failure},
    engine::Engine,
    error::Error,
    labelled::delete_others,
    live::read,
    tenants::Tenant,
};
use api::{ServiceRef, keys};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tenancy::{
    kind::{self, Resource},
    object::Object,
    sharing::{self, Opened},
};

/// How often the Services are looked at.
const PERIOD: Duration = Duration::from_secs(15);
/// Until it is tried again.
const AGAIN: Duration = Duration::from_secs(3);

/// Shows and opens, until the tenant isn't served.
pub(crate) async fn keep(engine: Arc<Engine>, tenant: Arc<Tenant>) {
    loop {
        // Part of what must end before the tenant counts as stopped.
        let activity = tenant.activity.token();
        let worked = Box::pin(refresh(&engine, &tenant)).await;
        drop(activity);
        let rules = tenant.rules();
        let shares = !(rules.shared.links.is_empty() && rules.shared.visits.is_empty());
        let rest = match worked {
            Ok(()) => PERIOD,
            Err(err) => {
                tracing::debug!(tenant = %tenant.id, %err, "shared Services will be looked at again");
                AGAIN
            }
        };
        tokio::select! {
            () = tenant.cancel.cancelled() => return,
            () = tenant.sharing.notified() => {}
            () = tokio::time::sleep(rest), if shares || rest == AGAIN => {}
        }
    }
}

async fn refresh(engine: &Engine, tenant: &Tenant) -> Result<(), Failure> {
    let shared = tenant.rules().shared.clone();
    let (mut opened, mut shown) = (Opened::default(), vec![]);
    for link in &shared.links {
        let Some(source) = service(engine, &link.source).await? else {
            continue;
        };
        let owner = link.of.as_ref().map(|of| of.as_str());
        if source.label(keys::TENANT) != owner {
            // It isn't, or not only, whose it is said to be.
            continue;
        }
        opened.link(link, &source);
        shown.extend(sharing::shown(link, &source));
    }
    for visit in &shared.visits {
        let found = service(engine, &visit.service).await?;
        if let Some(own) = found.filter(|own| own.label(keys::TENANT) == Some(tenant.id.as_str())) {
            opened.visit(visit, &own);
        }
    }
    if tenant.open(opened) {
        let namespace = kind::index("Namespace");
        for key in tenant.table.keys(namespace, |entry| entry.tenant.is_some()) {
            engine.down.add(&tenant.id, key);
        }
    }
    show(tenant, &shown).await
}

/// A Service as it is now; one that may not be read is none, so that nothing is opened for it and all else goes on.
async fn service(engine: &Engine, at: &ServiceRef) -> Result<Option<Object>, Failure> {
    let path = services().path(&at.namespace, &at.name);
    match read(&engine.cluster, &path).await {
        Err(Failure::Api(Error::Forbidden(_) | Error::Malformed(_))) => Ok(None),
        other => other,
    }
}

fn services() -> &'static Resource {
    kind::rule(kind::index("Service")).resource()
}

fn slices() -> &'static Resource {
    kind::rule(kind::index("EndpointSlice")).resource()
}

/// Makes the tenant hold these Services and slices of those that are labelled as shown, and no others.
async fn show(tenant: &Tenant, shown: &[(Value, Value)]) -> Result<(), Failure> {
    let wanted = |object: &Object, resource: &Resource| {
        shown.iter().any(|(service, slice)| {
            let body = if resource == services() {
                service
            } else {
                slice
            };
            let metadata = &body["metadata"];
            metadata["name"] == object.name() && metadata["namespace"] == object.namespace()
        })
    };
    for resource in [slices(), services()] {
        let kept = |object: &Object| wanted(object, resource);
        delete_others(tenant, resource, keys::SHARED, "withdrawn", kept).await?;
    }
    // Last: what can't be made keeps nothing that was withdrawn.
    for (service, slice) in shown {
        put(
            tenant,
            services(),
            service,
            &["/spec/ports", "/metadata/annotations"],
        )
        .await?;
        put(tenant, slices(), slice, &["/ports", "/endpoints"]).await?;
    }
    Ok(())
}

/// Makes one object, or mends the fields of one that is there; a namesake of the tenant's own stays as it is, and a
/// namespace that the tenant doesn't have is waited for.
async fn put(
    tenant: &Tenant,
    resource: &Resource,
    want: &Value,
    fields: &[&'static str],
) -> Result<(), Failure> {
    let name = |field: &str| want["metadata"][field].as_str().unwrap_or_default();
    let stored = read(
        &tenant.cluster,
        &resource.path(name("namespace"), name("name")),
    )
    .await?;
    if let Some(stored) = &stored {
        let holds = |field: &&'static str| {
            let now = stored.at(field).unwrap_or(&Value::Null);
            want.pointer(field)
                .is_some_and(|wanted| tenancy::plan::holds(now, wanted))
        };
        if !sharing::is_shown(stored) || fields.iter().all(holds) {
            return Ok(());
        }
    }
    let values: Vec<(&str, Value)> = fields
        .iter()
        .filter_map(|field| Some((*field, want.pointer(field)?.clone())))
        .collect();
    let made = apply::put(
        &tenant.cluster,
        tenant,
        resource,
        stored.as_ref(),
        want.clone(),
        &values,
    );
    match made.await {
        Err(Failure::Api(Error::NotFound)) => Ok(()),
        other => other,
    }
}
