//! Gives a tenant's Service another address when the super cluster has given its own to something else, and it asks for that.

use crate::{
    apply::{self, Failure},
    error::Error,
    tenants::Tenant,
};
use serde_json::Value;
use tenancy::{
    kind::{Refused, Upward, UpwardVerb},
    object::Object,
    readdress,
    tenant::Key,
};

/// What the tenant is told if its Service wasn't made since its address is taken.
pub(crate) fn clash<T>(key: &Key, service: &Object, made: &Result<T, Failure>) -> Option<Refused> {
    match made {
        Err(Failure::Api(Error::Invalid(message))) if is_service(key) => {
            readdress::clash(service, message)
        }
        _ => None,
    }
}

/// Begins and ends it, if the Service asks for it; its own event brings it back.
pub(crate) async fn begin(tenant: &Tenant, key: &Key, service: &Object) -> Result<(), Failure> {
    if let Some(operations) = readdress::release(service) {
        tracing::info!(tenant = %tenant.id, %key, "giving the Service another address: its own is taken");
        let released = write(tenant, key, service, operations).await?;
        end(tenant, key, &released).await?;
    }
    Ok(())
}

/// Ends what was begun, perhaps by another syncer; returns whether there was anything to end.
pub(crate) async fn end(tenant: &Tenant, key: &Key, service: &Object) -> Result<bool, Failure> {
    let operations = is_service(key)
        .then(|| readdress::give_back(service))
        .flatten();
    match operations {
        Some(operations) => write(tenant, key, service, operations).await.map(|_| true),
        None => Ok(false),
    }
}

fn is_service(key: &Key) -> bool {
    key.kind().resource().kind == "Service"
}

async fn write(
    tenant: &Tenant,
    key: &Key,
    service: &Object,
    operations: Value,
) -> Result<Object, Failure> {
    let write = Upward {
        subresource: None,
        verb: UpwardVerb::Operations,
        body: operations,
        shows: None,
    };
    let path = key.kind().resource().path(&key.namespace, &key.name);
    let stored = apply::upward(tenant, &path, service.uid(), write).await?;
    Object::from_value(stored).map_err(|err| Failure::Api(Error::Malformed(err.to_string())))
}

#[cfg(test)]
mod tests {
    use crate::{
        downward,
        fake::{self, fake, tenant},
    };
    use serde_json::{Value, json};
    use std::sync::Arc;
    use tenancy::{kind::index, object::Object, tenant::Key};

    const SPEC: &str = r#"{"clusterIP":"10.96.4.9","ports":[{"port":80}]}"#;

    fn service(spec: &Value, annotations: &Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "spec": spec, "metadata": {
                "name": "web", "namespace": "work", "uid": "u", "resourceVersion": "7", "annotations": annotations,
            },
        })
    }

    /// Works it against a super cluster that has given its address away; what the tenant is told and written.
    async fn worked(service: Value, patched: &[Value]) -> Vec<Value> {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let mut rules = (*tenant.rules()).clone();
        rules.slice = Some("10.96.4.0/22".parse().unwrap());
        tenant.revise(rules, tenant.record());
        let namespace = Key::new(index("Namespace"), "", "work");
        tenant.table.update(&namespace, |entry| {
            entry.twin = Some(fake::super_side("n", "own"));
        });
        let key = Key::new(index("Service"), "work", "web");
        let is_begun = service["spec"]["type"] == "ExternalName";
        let object = Object::from_value(service).unwrap();
        tenant.down.put(key.clone(), Arc::new(object));
        let answers = async {
            let mut seen = vec![];
            if !is_begun {
                let message = "spec.clusterIPs: Invalid value: [\"10.96.4.9\"]: failed to allocate IP 10.96.4.9: provided IP \
                    is already allocated";
                let refused = json!({"kind": "Status", "code": 422, "message": message});
                super_server.answer("POST", 422, &refused).await;
                seen.push(tenant_server.answer("POST", 201, &json!({})).await.body);
            }
            for stored in patched {
                seen.push(tenant_server.answer("PATCH", 200, stored).await.body);
            }
            seen
        };
        let (result, seen) = tokio::join!(downward::work(&engine, &tenant, &key), answers);
        assert!(result.is_ok(), "{result:?}");
        assert!(super_server.is_silent() && tenant_server.is_silent());
        seen
    }

    fn spec() -> Value {
        serde_json::from_str(SPEC).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_whose_address_is_taken_is_told_so_and_left_alone() {
        let seen = worked(service(&spec(), &json!({})), &[]).await;
        assert_eq!(seen[0]["reason"], "AddressTaken");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_asks_for_it_gets_another_address_and_a_syncer_that_crashes_leaves_it_to_the_next()
     {
        let asks = json!({"sublet.dev/recreate-on-clash": "true"});
        let nowhere = json!({"type": "ExternalName", "externalName": "x"});
        let half = json!({"sublet.dev/recreate-on-clash": "true", "sublet.dev/readdressed": SPEC});
        let begun = service(&nowhere, &half);
        let end = service(&json!({"ports": [{"port": 80}]}), &asks);
        let seen = worked(service(&spec(), &asks), &[begun.clone(), end.clone()]).await;
        assert_eq!(seen[0]["reason"], "AddressTaken");
        assert_eq!(seen[1][0]["path"], "/metadata/uid");
        assert_eq!(seen[2][3]["value"], json!({"ports": [{"port": 80}]}));
        assert_eq!(worked(begun, &[end]).await, seen[2..]);
    }
}
