//! Kinds that a tenant doesn't serve, and of which it may have objects all the same.
//!
//! That a resource isn't served says of no object that it is gone (R1): a definition may serve another version, or none for a
//! while, and its objects are where they were. Only where the definition itself is gone, they went with it.

use crate::{apply::Failure, engine::Engine, gate::Held, live::read, tenants::Tenant};
use tenancy::kind::{self, Kind};

/// The group of the only kinds that an API server may lack and that no definition makes: which of it is served is a setting.
const BUILT_IN: &str = "resource.k8s.io";

/// Makes sure that a kind that the tenant was just found not to serve isn't defined there either, read live.
///
/// # Errors
///
/// It is, or nobody can tell: then nothing is known of its objects.
pub(crate) async fn confirm(tenant: &Tenant, kind: u8) -> Result<(), Failure> {
    let rule = kind::rule(kind);
    let is_there = rule.resource().group == BUILT_IN || is_defined(tenant, rule).await?;
    tenant.gate.unserved(kind, is_there);
    if is_there {
        let resource = rule.resource();
        let why = format!(
            "the tenant doesn't serve its {} in version {}",
            resource.plural, resource.version
        );
        return Err(Held(why).into());
    }
    Ok(())
}

async fn is_defined(tenant: &Tenant, rule: &dyn Kind) -> Result<bool, Failure> {
    let definitions = kind::rule(kind::index("CustomResourceDefinition")).resource();
    let found = read(&tenant.cluster, &definitions.path("", &definition(rule))).await?;
    Ok(found.is_some())
}

/// Name of the definition that makes a kind.
fn definition(rule: &dyn Kind) -> String {
    let resource = rule.resource();
    format!("{}.{}", resource.plural, resource.group)
}

/// A definition of the tenant is gone: what waited since the kind it makes wasn't served is worked.
pub(crate) fn undefined(engine: &Engine, tenant: &Tenant, name: &str) {
    for kind in tenant.gate.all_unserved() {
        if definition(kind::rule(kind)) == name {
            tenant.gate.unserved(kind, false);
            for key in tenant.table.keys(kind, |entry| entry.twin.is_some()) {
                engine.down.add(&tenant.id, key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        downward,
        fake::{self, Server, fake, tenant},
    };
    use serde_json::json;
    use tenancy::tenant::Key;

    /// A tenant whose Gateway crossed.
    fn with_a_gateway() -> (Engine, Tenant, Key, [Server; 2]) {
        let ((above, super_server), (own, tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        fake::list_all(&tenant);
        tenant.set_proof("right");
        tenant.marks.read(5);
        let key = Key::new(kind::index("Gateway"), "work", "web");
        tenant.table.update(&key, |entry| {
            entry.twin = Some(fake::super_side("s", "u"));
        });
        (engine, tenant, key, [super_server, tenant_server])
    }

    #[tokio::test(start_paused = true)]
    async fn r1_what_is_only_not_served_any_more_is_not_gone_and_stays() {
        let (engine, tenant, key, [mut above, mut own]) = with_a_gateway();
        let name = definition(key.kind());
        let defined = json!({"metadata": {"name": name, "uid": "d"}});
        let answers = async {
            own.answer_plainly("GET", 404).await;
            let asked = own.answer("GET", 200, &defined).await;
            assert!(
                asked
                    .path
                    .ends_with(&format!("/customresourcedefinitions/{name}"))
            );
        };
        let (worked, ()) = tokio::join!(downward::work(&engine, &tenant, &key), answers);
        assert!(matches!(worked, Err(Failure::Held(_))), "{worked:?}");
        assert!(above.is_silent() && own.is_silent());
        let told = tenant.gate.health().borrow().clone();
        let blocker = told.blocker.unwrap();
        assert!(!told.synced && blocker.contains("gateways"), "{blocker}");
        // No other kind waits for it.
        let pods = kind::index("Pod");
        let inferred = crate::gate::Basis::Inferred;
        assert_eq!(tenant.gate.check(pods, inferred), Ok(()));
        undefined(&engine, &tenant, "others.example.com");
        assert_eq!(engine.down.depth(&tenant.id), 0);
        undefined(&engine, &tenant, &name);
        assert!(engine.down.has(&tenant.id, &key));
        assert!(tenant.gate.health().borrow().synced);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_tenant_no_longer_defines_went_with_its_definition() {
        let (engine, tenant, key, [mut above, mut own]) = with_a_gateway();
        let gone = json!({"kind": "Status", "code": 404});
        let kube_system = json!({"metadata": {"name": "kube-system", "uid": "right"}});
        let mark =
            json!({"metadata": {"name": api::MARK_NAME, "uid": "m"}, "data": {"nonce": "5"}});
        let answers = async {
            own.answer_plainly("GET", 404).await;
            own.answer("GET", 404, &gone).await;
            own.answer("GET", 200, &kube_system).await;
            own.answer("GET", 200, &mark).await;
            above.answer("DELETE", 200, &json!({})).await
        };
        let (worked, deletion) = tokio::join!(downward::work(&engine, &tenant, &key), answers);
        assert!(worked.is_ok(), "{worked:?}");
        assert_eq!(deletion.body["preconditions"]["uid"], "s");
    }
}
