//! What Sublet labels in a tenant, and the tenant perhaps too: it is listed page by page, and no more is kept of a page than
//! the names of what must go (T40).

use crate::{
    apply::{self, Failure},
    client::Preconditions,
    pages::Pages,
    tenants::Tenant,
    watch::encode,
};
use tenancy::{kind::Resource, object::Object};

/// Deletes the tenant's objects that a selector names and that nobody keeps; what it won't let go is left to the next time.
///
/// # Errors
///
/// The list was refused, or the tenant can't be reached or isn't served any more.
pub(crate) async fn delete_others(
    tenant: &Tenant,
    resource: &Resource,
    selector: &str,
    reason: &'static str,
    mut keeps: impl FnMut(&Object) -> bool,
) -> Result<(), Failure> {
    let query = format!("&labelSelector={}", encode(selector));
    let mut pages = Pages::of(&resource.path("", ""), query);
    loop {
        let lister = tenant.cluster.lister().await;
        let Some(page) = pages.next(&lister).await? else {
            return Ok(());
        };
        drop(lister);
        let objects = page.items.into_iter().flat_map(Object::from_value);
        let gone: Vec<(String, String)> = objects
            .filter(|object| !object.is_terminating() && !keeps(object))
            .map(|object| {
                let path = resource.path(object.namespace(), object.name());
                (path, object.uid().to_owned())
            })
            .collect();
        for (path, uid) in gone {
            let preconditions = Preconditions {
                uid: &uid,
                ..Preconditions::default()
            };
            match apply::delete(&tenant.cluster, tenant, &path, &preconditions, reason).await {
                Err(failure @ Failure::Api(_)) if !failure.is_unreachable() => {
                    tracing::debug!(tenant = %tenant.id, path, err = %failure, "left to the next time");
                }
                other => {
                    other?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{fake, tenant};
    use serde_json::{Value, json};
    use tenancy::kind;

    fn page(names: &[&str], token: &str) -> Value {
        let items = names.iter().map(
            |name| json!({"metadata": {"name": name, "namespace": "work", "uid": format!("u-{name}")}}),
        );
        json!({"metadata": {"resourceVersion": "1", "continue": token}, "items": items.collect::<Vec<_>>()})
    }

    /// However many there are, those of one page are held at a time.
    #[tokio::test]
    async fn t40_each_page_is_worked_before_the_next_is_asked_for() {
        let (own, mut server) = fake();
        let tenant = tenant(&own);
        let services = kind::rule(kind::index("Service")).resource();
        let deleted = delete_others(&tenant, services, "a/b", "withdrawn", |object| {
            object.name() == "b"
        });
        let answers = async {
            let first = server.answer("GET", 200, &page(&["a", "b"], "2")).await;
            assert!(first.query.contains("labelSelector=a%2Fb"), "{first:?}");
            let gone = server.answer("DELETE", 200, &json!({})).await;
            assert!(gone.path.ends_with("/work/services/a"), "{gone:?}");
            assert_eq!(gone.body["preconditions"]["uid"], "u-a");
            let next = server.answer("GET", 200, &page(&["c", "d"], "")).await;
            assert!(next.query.ends_with("continue=2"), "{next:?}");
            // One that the tenant holds fast keeps no other.
            server.answer("DELETE", 422, &json!({})).await;
            let gone = server.answer("DELETE", 200, &json!({})).await;
            assert!(gone.path.ends_with("/d"), "{gone:?}");
        };
        let (deleted, ()) = tokio::join!(deleted, answers);
        assert!(deleted.is_ok() && server.is_silent(), "{deleted:?}");
    }
}
