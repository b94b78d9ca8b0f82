//! Pods: built field by field from tables, then made the super cluster's by a list of steps; status back.
//!
//! [`SPEC`] and the tables below it hold a decision for every field of a pod in Kubernetes 1.36: copied, built by a table
//! of its own, translated as a reference, left out, or refused. What they don't name is refused (T38). The steps then
//! replace what means something else in the super cluster, and the Pod Security level judges the outcome, so no step can
//! widen what a pod may do.

pub(super) mod decisions;
pub(super) mod fields;
pub(super) mod scrub;

mod affinity;
mod bandwidth;
mod classes;
mod containers;
mod defaults;
mod dns;
mod downward;
pub(super) mod env;
mod grace;
mod identity;
mod images;
mod node_affinity;
mod node_labels;
pub(super) mod placement;
pub(super) mod raw_sockets;
mod security;
pub(super) mod tokens;
mod volumes;

pub(super) mod status;
mod update;

use super::{Cx, Kind, Reference, Refused, Resource, TenantView, Upward, isolation};
use crate::{left_out, meta, object::Object, plan::Change, refs::Referent};
use api::{CustomResource, keys};
use fields::{Fields, Path, Rule};
use serde_json::{Map, Value, json};

pub(super) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    namespaced: true,
};

/// The kind.
#[derive(Debug)]
pub(super) struct Pod;

impl Kind for Pod {
    fn resource(&self) -> &'static Resource {
        &RESOURCE
    }

    /// The super pod. What it may not be made with ([`Kind::creatable`]) is part of it all the same.
    fn down(&self, object: &Object, cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        let nothing = json!({});
        let tenant_spec = object.at("/spec").unwrap_or(&nothing);
        let mut spec = fields::build(
            SPEC,
            tenant_spec,
            &Path::Root("spec"),
            cx.rules.pod_security,
        )?;
        let mut annotations = Map::new();
        identity::step(&mut spec, object, cx)?;
        env::step(&mut spec, object, cx);
        volumes::step(&mut spec, object, cx, &mut annotations);
        dns::step(&mut spec, object, cx)?;
        node_labels::step(&mut spec, cx);
        placement::step(&mut spec, object, cx)?;
        node_affinity::step(&mut spec, cx)?;
        classes::step(&mut spec, object, cx)?;
        affinity::step(&mut spec, object, cx);
        images::step(&mut spec, cx)?;
        defaults::step(&mut spec, cx, &mut annotations)?;
        bandwidth::step(object, cx, &mut annotations);
        grace::step(&mut spec, cx);
        raw_sockets::step(&mut spec, cx);
        security::check(&spec, cx.rules.pod_security)?;

        let mut twin = meta::twin(&RESOURCE, object, object.name(), cx);
        twin.value_mut()["spec"] = spec;
        for (key, value) in isolation::pod_labels(object, cx) {
            twin.value_mut()["metadata"]["labels"][key] = value.into();
        }
        let conditions = status::gate_conditions(object);
        if !conditions.is_empty() {
            twin.value_mut()["status"] = json!({"conditions": conditions});
        }
        for (key, value) in left_out::annotations(RESOURCE.kind, object, cx)? {
            // What a step wrote stands.
            annotations.entry(key).or_insert_with(|| value.into());
        }
        if let Some(generation) = object.at("/metadata/generation") {
            annotations.insert(keys::GENERATION.into(), generation.to_string().into());
        }
        for (key, value) in &annotations {
            twin.annotate(key, value.as_str().unwrap_or_default());
        }
        Ok(Some(twin))
    }

    fn intent(&self, object: &Object) -> u128 {
        // Conditions of readiness gates are status, and yet the tenant's wish.
        // So are the claims that its controller made from templates.
        let claims = object.at("/status/resourceClaimStatuses");
        let wish = json!([status::gate_conditions(object), claims]);
        meta::intent(object) ^ meta::fingerprint(&wish)
    }

    /// Since Kubernetes 1.33 a pod's generation counts the changes of its spec, but for the binding, which is no intent.
    /// Gates and claims make a part of the status the tenant's wish.
    fn edition(&self, object: &Object) -> u128 {
        let wishes = ["/spec/readinessGates", "/spec/resourceClaims"];
        if wishes.iter().any(|field| object.at(field).is_some()) {
            return 0;
        }
        object.at("/metadata").map_or(0, meta::edition)
    }

    fn references(&self, object: &Object, _custom: &[CustomResource]) -> Vec<Reference> {
        references(object)
    }

    fn may_refer(&self, _custom: &[CustomResource]) -> bool {
        true
    }

    fn shortfall(&self, object: &Object, cx: &Cx<'_>) -> Option<Refused> {
        let spec = object.at("/spec")?;
        let more = [
            placement::left_out(spec, cx),
            classes::left_out(spec, cx),
            dns::left_out(spec, object, cx),
        ];
        let left = || left_out::of_pod(object, more.into_iter().flatten());
        let shortened = || grace::shortfall(object, cx);
        node_labels::shortfall(object, cx)
            .or_else(shortened)
            .or_else(left)
    }

    fn awaits(&self, object: &Object) -> bool {
        classes::awaits_claims(object)
    }

    fn creatable(&self, want: &Object) -> Option<Object> {
        update::creatable(want)
    }

    /// Nobody can take an ephemeral container out of a pod again, so one that is refused must not keep back all that
    /// the tenant changes later.
    fn reduced(&self, object: &Object, cx: &Cx<'_>) -> Option<Object> {
        let all = object.at("/spec/ephemeralContainers")?.as_array()?;
        let with = |containers: Vec<Value>| {
            let mut pod = object.clone();
            pod.value_mut()["spec"]["ephemeralContainers"] = containers.into();
            pod
        };
        let is_permitted = |container: &&Value| {
            let alone = with(vec![(*container).clone()]);
            self.down(&alone, cx).is_ok()
        };
        let permitted = all.iter().filter(is_permitted);
        Some(with(permitted.cloned().collect()))
    }

    fn changes(&self, want: &Object, have: &Object) -> Vec<Change> {
        update::changes(want, have)
    }

    fn deletes_early(&self) -> bool {
        true
    }

    fn super_writes(&self) -> bool {
        true
    }

    fn mirrors(&self) -> bool {
        true
    }

    fn up_projection(&self, tenant_object: &Object) -> Value {
        status::up_projection(tenant_object)
    }

    fn up(&self, super_object: &Object, tenant: &TenantView, cx: &Cx<'_>) -> Vec<Upward> {
        status::up(super_object, tenant, cx)
    }
}

/// ConfigMaps and Secrets that a pod refers to.
pub fn references(pod: &Object) -> Vec<Reference> {
    let mut found = vec![];
    fields::references(SPEC, pod.at("/spec").unwrap_or(&Value::Null), &mut found);
    found.sort_unstable();
    found.dedup();
    found
}

const OURS: Rule =
    Rule::Omit("every pod gets the account without rights and no token of the super cluster");
const PRIORITY: Rule = Rule::Omit("a tenant's priorities mean nothing among tenants (T11)");

/// PodSpec.
const SPEC: Fields = &[
    ("activeDeadlineSeconds", Rule::Pass),
    ("affinity", Rule::Object(affinity::AFFINITY)),
    ("automountServiceAccountToken", OURS),
    ("containers", Rule::List(containers::CONTAINER)),
    ("dnsConfig", Rule::Object(dns::DNS_CONFIG)),
    ("dnsPolicy", Rule::Translated(&Rule::Pass)),
    ("enableServiceLinks", Rule::Pass),
    (
        "ephemeralContainers",
        Rule::List(containers::EPHEMERAL_CONTAINER),
    ),
    (
        "hostAliases",
        Rule::List(&[("hostnames", Rule::Pass), ("ip", Rule::Pass)]),
    ),
    ("hostIPC", Rule::AboveBaseline(&Rule::Pass)),
    ("hostNetwork", Rule::AboveBaseline(&Rule::Pass)),
    ("hostPID", Rule::AboveBaseline(&Rule::Pass)),
    (
        "hostUsers",
        Rule::Only(
            &["false"],
            "HostUsers",
            "it is the node's user namespace: write false or leave it out",
        ),
    ),
    ("hostname", Rule::Pass),
    ("hostnameOverride", Rule::Pass),
    (
        "imagePullSecrets",
        Rule::List(&[("name", Rule::Refers(Referent::Secret))]),
    ),
    ("initContainers", Rule::List(containers::CONTAINER)),
    (
        "nodeName",
        Rule::Omit("the super cluster's scheduler binds"),
    ),
    ("nodeSelector", Rule::Translated(&Rule::Pass)),
    ("os", Rule::Object(&[("name", Rule::Pass)])),
    (
        "overhead",
        Rule::Omit("follows from a runtime class of the super cluster"),
    ),
    ("preemptionPolicy", PRIORITY),
    ("priority", PRIORITY),
    // Both cross if the tenant is offered them (classes.rs).
    ("priorityClassName", Rule::Pass),
    (
        "readinessGates",
        Rule::List(&[("conditionType", Rule::Pass)]),
    ),
    (
        "resourceClaims",
        Rule::List(&[
            ("name", Rule::Pass),
            ("resourceClaimName", Rule::Pass),
            (
                "resourceClaimTemplateName",
                Rule::AboveBaseline(&Rule::Omit(
                    "becomes the claim that the tenant's controller makes",
                )),
            ),
        ]),
    ),
    ("resources", Rule::Object(containers::RESOURCES)),
    ("restartPolicy", Rule::Pass),
    ("runtimeClassName", Rule::Pass),
    (
        "schedulerName",
        Rule::Only(
            &["default-scheduler"],
            "SchedulerNotOffered",
            "write default-scheduler or leave it out",
        ),
    ),
    ("schedulingGates", Rule::List(&[("name", Rule::Pass)])),
    (
        "schedulingGroup",
        Rule::Whole(
            &Rule::Refuse("PodGroupsNotSynced", "pod groups don't cross: leave it out"),
            "{podGroupName}",
        ),
    ),
    (
        "securityContext",
        Rule::Object(security::POD_SECURITY_CONTEXT),
    ),
    ("serviceAccount", OURS),
    ("serviceAccountName", OURS),
    (
        "setHostnameAsFQDN",
        Rule::Translated(&Rule::Omit("becomes hostnameOverride")),
    ),
    ("shareProcessNamespace", Rule::Pass),
    ("subdomain", Rule::Pass),
    // Of a pod that asks for too much a step shortens it.
    ("terminationGracePeriodSeconds", Rule::Pass),
    ("tolerations", Rule::List(placement::TOLERATION)),
    ("topologySpreadConstraints", Rule::List(affinity::SPREAD)),
    ("volumes", Rule::List(volumes::VOLUME)),
];

#[cfg(test)]
mod tests;
