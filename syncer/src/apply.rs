//! The only file that writes to any API server.
//!
//! Every write is tied to something: a POST to the object not being there, a patch to UID and resource version, a
//! delete to a UID. Each carries a permit: whether the tenant is still served, and led by this process, and whether the super
//! cluster's admission policies stand if that is where it goes, is asked again just before the request is sent, and when its
//! body is ([`crate::fence`]).

use crate::{
    audit::{Write, applied},
    client::{Cluster, PatchType, Preconditions},
    companions,
    error::Error,
    fleet::LEASES,
    gate::Held,
    paths,
    tenants::Tenant,
    term::Permit,
};
use serde_json::{Value, json};
use tenancy::{
    arrival::Shape,
    kind::{self, Resource, Upward, UpwardVerb},
    object::Object,
    plan::{Patch, guarded},
    tenant::TenantId,
};

/// Why a write wasn't made.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API server's answer.
    #[error(transparent)]
    Api(Error),
    /// The tenant is no longer served or led by this process; nothing was sent.
    #[error("the tenant is no longer served by this syncer")]
    Stopped,
    /// A deletion was decided and may not be carried out now.
    #[error(transparent)]
    Held(#[from] Held),
    /// The state isn't what this step needs yet; its change brings the key back.
    #[error("waiting: {0}")]
    Waiting(&'static str),
    /// Both sides stay as they are, for as long as that lasts: no change waits. Nothing tells of its end.
    #[error("resting: {0}")]
    Rests(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Revoked => Self::Stopped,
            other => Self::Api(other),
        }
    }
}

impl Failure {
    /// Whether an API server didn't answer or asked to wait: the key itself is not to blame.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Api(Error::Unavailable(_) | Error::Throttled(_)))
    }

    /// Whether it is the ordinary outcome of two writers meeting, not worth a warning.
    pub(crate) fn is_race(&self) -> bool {
        match self {
            Self::Api(Error::Conflict(_) | Error::AlreadyExists | Error::NotFound)
            | Self::Waiting(_)
            | Self::Rests(_) => true,
            // A RoleBinding made a moment ago isn't known to every authorizer yet; else it is told for the namespace.
            Self::Api(Error::Forbidden(message)) => {
                companions::are_missing(message) || companions::are_going(message)
            }
            _ => false,
        }
    }
}

/// Makes the super cluster refuse a field that it doesn't know, which it would otherwise leave out in silence: a tenant
/// may be newer than it.
const STRICT: &str = "?fieldValidation=Strict";

/// Creates an object in the super cluster.
pub(crate) async fn create(
    cluster: &Cluster,
    tenant: &Tenant,
    resource: &Resource,
    object: &Object,
) -> Result<Object, Failure> {
    let permit = sending(cluster, tenant, About::of(resource))?;
    let path = resource.path(object.namespace(), "") + STRICT;
    let result = cluster.post(&path, object.value(), &permit).await;
    let write = Write {
        tenant: tenant.id.as_str(),
        side: side(cluster, tenant),
        verb: "create",
        path: &path,
        name: object.name(),
        reason: "missing",
        ..Write::default()
    };
    write.record(result.as_ref().map(Some));
    stored(result?)
}

/// Patches an object of the super cluster; the subresources first, each guarded by the version that the one before left.
pub(crate) async fn patch(
    cluster: &Cluster,
    tenant: &Tenant,
    resource: &Resource,
    have: &Object,
    patches: &[Patch],
) -> Result<Object, Failure> {
    let mut current = have.clone();
    for patch in patches {
        let mut path = resource.path(have.namespace(), have.name());
        if let Some(subresource) = patch.subresource {
            path = format!("{path}/{subresource}");
        }
        let version = current
            .text("/metadata/resourceVersion")
            .unwrap_or_default();
        let body = guarded(&patch.operations, have.uid(), version);
        let before = applied(current.value());
        let about = About::of(resource);
        current = json_patch(cluster, tenant, about, path, have.uid(), &body, before).await?;
    }
    Ok(current)
}

/// Replaces the spec of an object into whose status the super cluster writes all the time: tied to its UID, and to the spec
/// that was read.
pub(crate) async fn replace_spec(
    cluster: &Cluster,
    tenant: &Tenant,
    resource: &Resource,
    have: &Object,
    spec: &Value,
) -> Result<Object, Failure> {
    let path = resource.path(have.namespace(), have.name());
    let body = json!([
        {"op": "test", "path": "/metadata/uid", "value": have.uid()},
        {"op": "test", "path": "/spec", "value": have.at("/spec")},
        {"op": "replace", "path": "/spec", "value": spec},
    ]);
    let about = About::of(resource);
    json_patch(cluster, tenant, about, path, have.uid(), &body, "").await
}

/// Takes endpoints out of a super EndpointSlice of a tenant that this process leads, served or not: tied to the UID and the
/// version that was read.
pub(crate) async fn put_endpoints(
    cluster: &Cluster,
    id: &TenantId,
    have: &Object,
    endpoints: &Value,
    permit: &Permit,
) -> Result<(), Failure> {
    if !permit.holds() {
        return Err(Failure::Stopped);
    }
    let operations = [json!({"op": "replace", "path": "/endpoints", "value": endpoints})];
    let version = have.text("/metadata/resourceVersion").unwrap_or_default();
    let resource = kind::rule(kind::index("EndpointSlice")).resource();
    let path = resource.path(have.namespace(), have.name()) + STRICT;
    let body = guarded(&operations, have.uid(), version);
    let result = cluster.patch(&path, PatchType::Json, &body, permit).await;
    let write = Write {
        tenant: id.as_str(),
        side: "super",
        verb: "patch",
        path: &path,
        uid: have.uid(),
        reason: "address",
        before: applied(have.value()),
        ..Write::default()
    };
    write.record(result.as_ref().map(Some));
    result?;
    Ok(())
}

/// Sends a JSON Patch of the object with this UID; `before` is what was applied to it till then, as far as it is known.
async fn json_patch(
    cluster: &Cluster,
    tenant: &Tenant,
    about: About,
    path: String,
    uid: &str,
    body: &Value,
    before: &str,
) -> Result<Object, Failure> {
    let permit = sending(cluster, tenant, about)?;
    let path = path + STRICT;
    let result = cluster.patch(&path, PatchType::Json, body, &permit).await;
    let write = Write {
        tenant: tenant.id.as_str(),
        side: side(cluster, tenant),
        verb: "patch",
        path: &path,
        uid,
        reason: "differs",
        before,
        ..Write::default()
    };
    write.record(result.as_ref().map(Some));
    stored(result?)
}

/// Deletes an object on either side, for a reason that is recorded. The answer is whether it was there; one that is gone
/// already is no failure.
pub(crate) async fn delete(
    cluster: &Cluster,
    tenant: &Tenant,
    path: &str,
    preconditions: &Preconditions<'_>,
    reason: &'static str,
) -> Result<bool, Failure> {
    let permit = sending(cluster, tenant, About::Object)?;
    let result = cluster.delete(path, preconditions, &permit).await;
    let write = Write {
        tenant: tenant.id.as_str(),
        side: side(cluster, tenant),
        verb: "delete",
        path,
        uid: preconditions.uid,
        reason,
        ..Write::default()
    };
    write.record(result.as_ref().map(|()| None));
    match result {
        Err(Error::NotFound | Error::NotServed) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// Creates a Lease of Sublet itself.
pub(crate) async fn create_lease(
    cluster: &Cluster,
    collection: &str,
    body: &Value,
) -> Result<Value, Error> {
    cluster.post(collection, body, &Permit::own()).await
}

/// Changes a Lease of Sublet itself; the operations begin with what it must say.
pub(crate) async fn patch_lease(
    cluster: &Cluster,
    path: &str,
    operations: &Value,
) -> Result<Value, Error> {
    cluster
        .patch(path, PatchType::Json, operations, &Permit::own())
        .await
}

/// Deletes a Lease of Sublet itself: of a syncer or a tenant that is gone.
pub(crate) async fn delete_lease(cluster: &Cluster, path: &str, uid: &str) -> Result<(), Error> {
    let preconditions = Preconditions {
        uid,
        ..Preconditions::default()
    };
    match cluster.delete(path, &preconditions, &Permit::own()).await {
        Err(Error::NotFound | Error::NotServed) => Ok(()),
        other => other,
    }
}

/// Writes what the tenant must see of a super object; `uid` is the tenant object's. Of an answer whose content is known
/// beforehand ([`Upward::shows`]) only the metadata is read.
pub(crate) async fn upward(
    tenant: &Tenant,
    path: &str,
    uid: &str,
    write: Upward,
) -> Result<Value, Failure> {
    let permit = serving(tenant.permit())?;
    let path = write.subresource.map_or_else(
        || path.to_owned(),
        |subresource| format!("{path}/{subresource}"),
    );
    let mut body = write.body;
    if !uid.is_empty() {
        if let Some(operations) = body.as_array_mut() {
            let test = json!({"op": "test", "path": "/metadata/uid", "value": uid});
            operations.insert(0, test);
        } else {
            // A patch that names another UID than the object has is refused by the API server.
            body["metadata"]["uid"] = uid.into();
        }
    }
    let record = Write {
        tenant: tenant.id.as_str(),
        side: "tenant",
        verb: "patch",
        path: &path,
        uid,
        reason: "differs",
        ..Write::default()
    };
    let kind = match write.verb {
        UpwardVerb::Create => {
            let result = tenant.cluster.post(&path, &body, &permit).await;
            let created = Write {
                verb: "create",
                reason: "missing",
                name: body["metadata"]["name"].as_str().unwrap_or_default(),
                ..record
            };
            created.record(result.as_ref().map(Some));
            return Ok(result?);
        }
        UpwardVerb::Merge => PatchType::Merge,
        UpwardVerb::Operations => PatchType::Json,
        UpwardVerb::StrategicMerge => PatchType::StrategicMerge,
    };
    let answer = match write.shows {
        Some(_) => Shape::Metadata,
        None => Shape::Object,
    };
    let patched = tenant
        .cluster
        .patch_for(answer, &path, kind, &body, &permit);
    let result = patched.await;
    record.record(result.as_ref().map(Some));
    Ok(result?)
}

/// Asks the tenant for a token that is bound to a pod.
pub(crate) async fn request_token(
    tenant: &Tenant,
    namespace: &str,
    account: &str,
    audience: Option<&str>,
    seconds: i64,
    pod: (&str, &str),
) -> Result<Value, Failure> {
    let permit = serving(tenant.permit())?;
    let mut spec = json!({
        "expirationSeconds": seconds,
        "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod.0, "uid": pod.1},
    });
    if let Some(audience) = audience {
        spec["audiences"] = json!([audience]);
    }
    let body =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let result = tenant.cluster.post(&path, &body, &permit).await;
    let write = Write {
        tenant: tenant.id.as_str(),
        side: "tenant",
        verb: "create",
        path: &path,
        reason: "token",
        ..Write::default()
    };
    write.record(result.as_ref().map(|_| None));
    Ok(result?)
}

/// Replaces the data of a Secret without a twin, guarded by UID and version.
pub(crate) async fn replace_data(
    cluster: &Cluster,
    tenant: &Tenant,
    resource: &Resource,
    have: &Object,
    want: &Object,
) -> Result<Object, Failure> {
    let operations = ["/data", "/metadata/annotations"]
        .iter()
        .filter_map(|path| Some(json!({"op": "add", "path": path, "value": want.at(path)?})))
        .collect();
    patch(
        cluster,
        tenant,
        resource,
        have,
        &[Patch {
            subresource: None,
            operations,
        }],
    )
    .await
}

/// Writes an object of Sublet's own for a tenant: makes it if `stored` is none, or else sets whole fields of what is stored,
/// guarded by UID and version. What somebody made immutable is made anew.
pub(crate) async fn put(
    cluster: &Cluster,
    tenant: &Tenant,
    resource: &Resource,
    stored: Option<&Object>,
    mut new: Value,
    fields: &[(&str, Value)],
) -> Result<(), Failure> {
    let is_immutable = |stored: &&Object| stored.at("/immutable") == Some(&Value::Bool(true));
    if let Some(stored) = stored.filter(is_immutable) {
        let preconditions = Preconditions {
            uid: stored.uid(),
            ..Preconditions::default()
        };
        let path = resource.path(stored.namespace(), stored.name());
        delete(cluster, tenant, &path, &preconditions, "immutable").await?;
    }
    let Some(stored) = stored.filter(|stored| !is_immutable(stored)) else {
        new["apiVersion"] = resource.api_version().into();
        new["kind"] = resource.kind.into();
        let new = Object::from_value(new)
            .map_err(|err| Failure::Api(Error::Malformed(err.to_string())))?;
        return create(cluster, tenant, resource, &new).await.map(drop);
    };
    let operations = fields
        .iter()
        .map(|(path, value)| json!({"op": "add", "path": path, "value": value}))
        .collect();
    let whole = Patch {
        subresource: None,
        operations,
    };
    patch(cluster, tenant, resource, stored, &[whole])
        .await
        .map(drop)
}

/// Writes fields of a VirtualControlPlane's status, guarded by UID and version; one that is to be null goes.
pub(crate) async fn status(
    cluster: &Cluster,
    vcp: &Object,
    fields: &[(&str, Value)],
    permit: &Permit,
) -> Result<(), Failure> {
    let mut operations = vec![];
    if vcp.at("/status").is_none() {
        operations.push(json!({"op": "add", "path": "/status", "value": {}}));
    }
    for (field, value) in fields {
        let path = format!("/status/{field}");
        operations.push(match value {
            Value::Null if vcp.at(&path).is_none() => continue,
            Value::Null => json!({"op": "remove", "path": path}),
            value => json!({"op": "add", "path": path, "value": value}),
        });
    }
    let version = vcp.text("/metadata/resourceVersion").unwrap_or_default();
    let path = format!(
        "{}/status",
        paths::control_plane(vcp.namespace(), vcp.name())
    );
    let body = guarded(&operations, vcp.uid(), version);
    let result = cluster.patch(&path, PatchType::Json, &body, permit).await;
    let write = Write {
        tenant: vcp.text("/spec/identity").unwrap_or_default(),
        side: "super",
        verb: "patch",
        path: &path,
        uid: vcp.uid(),
        reason: "status",
        ..Write::default()
    };
    write.record(result.as_ref().map(|_| None));
    result?;
    Ok(())
}

/// Writes a ControlPlaneGroup's status, guarded by UID and version; the group as it is then.
pub(crate) async fn group_status(
    cluster: &Cluster,
    group: &Object,
    status: &Value,
    permit: &Permit,
) -> Result<Object, Failure> {
    if !permit.holds() {
        return Err(Failure::Stopped);
    }
    let operations = [json!({"op": "add", "path": "/status", "value": status})];
    let version = group.text("/metadata/resourceVersion").unwrap_or_default();
    let path = format!("{}/status", paths::group(group.name()));
    let body = guarded(&operations, group.uid(), version);
    let result = cluster.patch(&path, PatchType::Json, &body, permit).await;
    let write = Write {
        tenant: "",
        side: "super",
        verb: "patch",
        path: &path,
        uid: group.uid(),
        reason: "status",
        ..Write::default()
    };
    write.record(result.as_ref().map(|_| None));
    stored(result?)
}

/// On which side of the tenant an API server is.
fn side(cluster: &Cluster, tenant: &Tenant) -> &'static str {
    if cluster.is(&tenant.cluster) {
        "tenant"
    } else {
        "super"
    }
}

/// What a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// A tenant's object, or one beside it.
    Object,
    /// A tenant's Lease, with the mark of what was seen of it: nothing goes down by it, and it must not lag behind the tenant.
    Lease,
}

impl About {
    fn of(resource: &Resource) -> Self {
        if *resource == LEASES {
            Self::Lease
        } else {
            Self::Object
        }
    }
}

/// The right to send a write to either side; the tenant's rate is charged for one to the super cluster, whatever comes of it.
fn sending(cluster: &Cluster, tenant: &Tenant, about: About) -> Result<Permit, Failure> {
    if cluster.is(&tenant.cluster) {
        return serving(tenant.permit());
    }
    let permit = match about {
        About::Lease => serving(tenant.permit())?,
        About::Object if tenant.guard.is_intact() => serving(tenant.permit_down())?,
        About::Object => return Err(Failure::Waiting(UNGUARDED)),
    };
    tenant.note_write();
    Ok(permit)
}

const UNGUARDED: &str = "admission policies that hold this syncer are missing";

fn serving(permit: Permit) -> Result<Permit, Failure> {
    if permit.holds() {
        Ok(permit)
    } else {
        Err(Failure::Stopped)
    }
}

fn stored(value: Value) -> Result<Object, Failure> {
    Object::from_value(value).map_err(|err| Failure::Api(Error::Malformed(err.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{fake, tenant};
    use std::sync::Arc;
    use tenancy::kind::{KINDS, index};

    fn config_maps() -> &'static Resource {
        KINDS[usize::from(index("ConfigMap"))].resource()
    }

    fn config_map(version: &str) -> Object {
        Object::from_value(json!({
            "metadata": {"name": "a", "namespace": "s", "uid": "u", "resourceVersion": version},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn r4_a_patch_tests_uid_and_the_version_that_the_one_before_left() {
        let (cluster, mut server) = fake();
        let answering = tokio::spawn(async move {
            let mut bodies = vec![];
            for version in ["8", "9"] {
                bodies.push(
                    server
                        .answer("PATCH", 200, config_map(version).value())
                        .await,
                );
            }
            bodies
        });
        let patch_of = |subresource| Patch {
            subresource,
            operations: vec![json!({"op": "add"})],
        };
        let patches = [patch_of(Some("resize")), patch_of(None)];
        let stored = patch(
            &cluster,
            &tenant(&cluster),
            config_maps(),
            &config_map("7"),
            &patches,
        )
        .await
        .unwrap();
        assert_eq!(stored.resource_version(), 9);
        let bodies = answering.await.unwrap();
        assert_eq!(bodies[0].path, "/api/v1/namespaces/s/configmaps/a/resize");
        assert_eq!(
            bodies[0].query,
            "fieldValidation=Strict&fieldManager=sublet"
        );
        let tests = |version: &str| {
            json!([
                {"op": "test", "path": "/metadata/uid", "value": "u"},
                {"op": "test", "path": "/metadata/resourceVersion", "value": version},
                {"op": "add"},
            ])
        };
        assert_eq!(
            (&bodies[0].body, &bodies[1].body),
            (&tests("7"), &tests("8"))
        );
    }

    #[tokio::test]
    async fn a_field_that_the_super_cluster_does_not_know_is_refused_and_not_left_out() {
        let (cluster, mut server) = fake();
        let refusal = json!({"kind": "Status", "code": 400, "message": "strict decoding error: unknown field \"x\""});
        let answering = tokio::spawn(async move { server.answer("POST", 400, &refusal).await });
        let created = create(&cluster, &tenant(&cluster), config_maps(), &config_map("")).await;
        assert!(
            matches!(created, Err(Failure::Api(Error::Invalid(message))) if message.contains("unknown field"))
        );
        assert_eq!(answering.await.unwrap().query, "fieldValidation=Strict");
    }

    #[tokio::test]
    async fn r1_a_delete_carries_the_uid() {
        let (cluster, mut server) = fake();
        let answering = tokio::spawn(async move { server.answer("DELETE", 404, &json!({})).await });
        let preconditions = Preconditions {
            uid: "u",
            resource_version: Some(7),
            grace: None,
        };
        delete(
            &cluster,
            &tenant(&cluster),
            "/api/v1/namespaces/s/configmaps/a",
            &preconditions,
            "unneeded",
        )
        .await
        .unwrap();
        let tests = json!({"uid": "u", "resourceVersion": "7"});
        assert_eq!(answering.await.unwrap().body["preconditions"], tests);
    }

    #[tokio::test]
    async fn every_write_to_the_super_cluster_counts_whatever_its_answer_and_none_to_the_tenant() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let tenant = tenant(&own);
        let preconditions = Preconditions {
            uid: "u",
            ..Preconditions::default()
        };
        let (have, path) = (config_map("7"), "/api/v1/namespaces/s/configmaps/a");
        let patches = [None, Some("resize")].map(|subresource| Patch {
            subresource,
            operations: vec![json!({"op": "add"})],
        });
        let writes = async {
            for cluster in [&above, &own] {
                let _ = create(cluster, &tenant, config_maps(), &have).await;
                let _ = patch(cluster, &tenant, config_maps(), &have, &patches).await;
                let _ = delete(cluster, &tenant, path, &preconditions, "unneeded").await;
            }
        };
        let answers = async {
            for server in [&mut super_server, &mut tenant_server] {
                server.answer("POST", 409, &json!({})).await;
                server.answer("PATCH", 200, config_map("8").value()).await;
                server.answer("PATCH", 422, &json!({})).await;
                server.answer("DELETE", 200, &json!({})).await;
            }
        };
        tokio::join!(writes, answers);
        assert_eq!((tenant.take_writes(), tenant.take_writes()), (4, 0));
    }

    #[tokio::test]
    async fn a_spec_that_is_replaced_counts_as_every_other_write() {
        let (above, mut super_server) = fake();
        let (own, _tenant_server) = fake();
        let (tenant, have) = (tenant(&own), config_map("7"));
        let (spec, stored) = (json!({}), config_map("8"));
        let (replaced, _) = tokio::join!(
            replace_spec(&above, &tenant, config_maps(), &have, &spec),
            super_server.answer("PATCH", 200, stored.value())
        );
        assert!(replaced.is_ok());
        assert_eq!(tenant.take_writes(), 1);
    }

    #[tokio::test]
    async fn nothing_is_sent_for_a_tenant_that_is_no_longer_served() {
        let (cluster, mut server) = fake();
        let tenant = Arc::new(tenant(&cluster));
        tenant.cancel.cancel();
        let created = create(&cluster, &tenant, config_maps(), &config_map("")).await;
        assert!(matches!(created, Err(Failure::Stopped)));
        let preconditions = Preconditions {
            uid: "u",
            ..Preconditions::default()
        };
        assert!(matches!(
            delete(&cluster, &tenant, "/x", &preconditions, "unneeded").await,
            Err(Failure::Stopped)
        ));
        assert!(server.is_silent());
        assert_eq!(tenant.take_writes(), 0);
    }

    /// Whichever task it is of: the keys that are worked wait anyhow.
    #[tokio::test]
    async fn nothing_goes_down_while_an_admission_policy_is_missing_and_all_else_goes_on() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let tenant = tenant(&own);
        tenant.guard.lack(api::ADMISSION_POLICIES[0]);
        let (have, path) = (config_map("7"), "/api/v1/namespaces/s/configmaps/a");
        let patch_of = || Patch {
            subresource: None,
            operations: vec![json!({"op": "add"})],
        };
        let preconditions = Preconditions {
            uid: "u",
            ..Preconditions::default()
        };
        let fields = [("/data", json!({}))];
        let waits = [
            create(&above, &tenant, config_maps(), &have).await.err(),
            patch(&above, &tenant, config_maps(), &have, &[patch_of()])
                .await
                .err(),
            replace_spec(&above, &tenant, config_maps(), &have, &json!({}))
                .await
                .err(),
            delete(&above, &tenant, path, &preconditions, "unneeded")
                .await
                .err(),
            put(
                &above,
                &tenant,
                config_maps(),
                None,
                json!({"metadata": {}}),
                &fields,
            )
            .await
            .err(),
        ];
        for wait in waits {
            assert!(matches!(wait, Some(Failure::Waiting(_))), "{wait:?}");
        }
        assert!(super_server.is_silent());
        assert_eq!(tenant.take_writes(), 0);
        let writes = async {
            assert!(create(&own, &tenant, config_maps(), &have).await.is_ok());
            assert!(create(&above, &tenant, &LEASES, &have).await.is_ok());
        };
        let answers = async {
            tenant_server.answer("POST", 201, have.value()).await;
            super_server.answer("POST", 201, have.value()).await;
        };
        tokio::join!(writes, answers);
        tenant.guard.let_pass();
        let (made, _) = tokio::join!(
            create(&above, &tenant, config_maps(), &have),
            super_server.answer("POST", 201, have.value())
        );
        assert!(made.is_ok(), "{made:?}");
    }
}
