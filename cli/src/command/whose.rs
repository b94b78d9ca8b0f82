//! `sublet whose`: from an object of the super cluster back to the tenant's.

use crate::{
    cluster::Cluster,
    discovery::Kinds,
    error,
    object_ref::ObjectRef,
    output,
    owner::{self, Marks},
    tenant,
};
use anyhow::Result;
use api::{VirtualControlPlane, keys};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, PartialObjectMeta},
};
use serde_json::json;
use tenancy::{naming, tenant::TenantId};

/// Flags of `sublet whose`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// KIND/NAMESPACE/NAME in the super cluster; KIND/NAME for namespaces and the like, or with -n
    #[arg(value_name = "KIND/NAMESPACE/NAME")]
    object: ObjectRef,
    /// Print it as data
    #[arg(short, long, value_enum)]
    output: Option<output::Data>,
}

const EXAMPLES: &str = "\
Examples:
  sublet whose pod/team-a-default-5hw2krqcv3ylhmfzqyvrq4wgpu/web
  sublet whose ns/team-a-default-5hw2krqcv3ylhmfzqyvrq4wgpu
  sublet whose pv/pvc-0b5a7a0e                   by the claim that it was made for
  sublet whose svc/web -n team-a-default-5hw2krqcv3ylhmfzqyvrq4wgpu";

/// Looks the object up and tells whose it is.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let kinds = Kinds::load(&cluster.client).await?;
    let kind = kinds.find(&args.object.kind)?;
    let name = &args.object.name;
    let namespace = place(&args.object, kind.namespaced, &cluster.namespace)?;
    let shown = match namespace {
        Some(namespace) => format!("{} {namespace}/{name}", kind.resource.kind),
        None => format!("{} {name}", kind.resource.kind),
    };
    let api = kind.api(&cluster.client, namespace);
    let asked = kind.resource.kind.as_str();
    let found = match claim_path(&kind.resource.group, asked) {
        Some(_) => api.get(name).await,
        // What is in it, such as a Secret's data, is nobody's business here.
        None => api.get_metadata(name).await.map(bare),
    };
    let object = match found {
        Ok(object) => object,
        Err(err) if error::is_missing(&err) => {
            return Err(error::fail(format!(
                "there is no {shown} in the super cluster; check its name and namespace"
            )));
        }
        Err(err) => return Err(err.into()),
    };
    let own = owner::marks(&object.metadata);
    let claim = claim_path(&kind.resource.group, asked).and_then(|path| claim(path, &object));
    let around = match namespace.or(claim.as_ref().map(|claim| claim.namespace.as_str())) {
        Some(namespace) if own.is_none() => {
            let api: Api<Namespace> = Api::all(cluster.client.clone());
            api.get_opt(namespace)
                .await?
                .and_then(|namespace| owner::marks(&namespace.metadata))
        }
        _ => None,
    };
    let left = match (&claim, own.as_ref().or(around.as_ref())) {
        (Some(claim), None) => left_behind(&claim.namespace, &tenant::all(cluster).await?),
        _ => None,
    };
    let known = own.as_ref().or(around.as_ref()).or(left.as_ref());
    let Some(marks) = known else {
        return Err(error::fail(format!(
            "{shown} belongs to no tenant: it has no label {}",
            keys::TENANT
        )));
    };
    let vcp = tenant::all(cluster)
        .await?
        .into_iter()
        .find(|vcp| vcp.spec.identity.as_deref() == Some(&marks.tenant));
    match args.output {
        Some(format) => {
            let vcp = vcp.map(|vcp| json!({"namespace": vcp.namespace(), "name": vcp.name_any()}));
            let object = own
                .as_ref()
                .filter(|marks| !marks.name.is_empty() && marks.role.is_empty())
                .map(|marks| {
                    json!({"kind": kind.resource.kind, "apiVersion": kind.resource.api_version,
                       "namespace": marks.namespace, "name": marks.name, "uid": marks.uid})
                });
            let made_for = claim.as_ref().map(
                |claim| json!({"kind": claim.kind, "namespace": marks.name, "name": claim.name}),
            );
            let value = json!({"identity": marks.tenant, "virtualControlPlane": vcp, "object": object, "role": marks.role,
                "madeFor": made_for});
            output::print(&format.text(&value)?)
        }
        None => {
            let owner = owner(marks, vcp.as_ref());
            output::print_line(&tell(
                &shown,
                &kind.resource.kind,
                own.as_ref(),
                marks,
                claim.as_ref(),
                &owner,
            ))
        }
    }
}

/// What a claim or snapshot in a super namespace, whose name it has in the tenant too, was given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    kind: String,
    /// Of the super cluster.
    namespace: String,
    name: String,
}

/// Whose super namespace one was that is gone, or that has lost its marks, by the hash in its name. The tenant's namespace is
/// read off the name, so one that was too long for it isn't found.
fn left_behind(namespace: &str, tenants: &[VirtualControlPlane]) -> Option<Marks> {
    let (front, _) = namespace.rsplit_once('-')?;
    let tried = front.match_indices('-').map(|(at, _)| &front[at + 1..]);
    let tried: Vec<&str> = tried.collect();
    tenants.iter().find_map(|vcp| {
        let id = TenantId::parse(vcp.spec.identity.as_deref()?).ok()?;
        let is_it = |name: &&&str| naming::is_super_namespace(namespace, &id, name);
        let name = tried.iter().find(is_it)?;
        Some(Marks {
            tenant: id.as_str().to_owned(),
            namespace: String::new(),
            name: (*name).to_owned(),
            uid: String::new(),
            role: String::new(),
            control_plane: String::new(),
        })
    })
}

/// Where objects that the super cluster makes for claims and snapshots name them.
fn claim_path(group: &str, kind: &str) -> Option<&'static str> {
    match (group, kind) {
        ("", "PersistentVolume") => Some("/spec/claimRef"),
        ("snapshot.storage.k8s.io", "VolumeSnapshotContent") => Some("/spec/volumeSnapshotRef"),
        _ => None,
    }
}

/// What it was made for.
fn claim(path: &str, object: &DynamicObject) -> Option<Claim> {
    let reference = object.data.pointer(path)?;
    let text = |field: &str| Some(reference.get(field)?.as_str()?.to_owned());
    let kind = match path {
        "/spec/claimRef" => "PersistentVolumeClaim",
        _ => "VolumeSnapshot",
    };
    Some(Claim {
        kind: kind.to_owned(),
        namespace: text("namespace")?,
        name: text("name")?,
    })
}

/// An object of which only the metadata are known.
fn bare(object: PartialObjectMeta<DynamicObject>) -> DynamicObject {
    DynamicObject {
        types: object.types,
        metadata: object.metadata,
        data: serde_json::Value::Null,
    }
}

/// The namespace to look in: `None` for kinds that have none.
pub(super) fn place<'a>(
    object: &'a ObjectRef,
    namespaced: bool,
    default: &'a str,
) -> Result<Option<&'a str>> {
    match (namespaced, object.namespace.as_deref()) {
        (true, given) => Ok(Some(given.unwrap_or(default))),
        (false, None) => Ok(None),
        (false, Some(_)) => {
            let ObjectRef { kind, name, .. } = object;
            Err(error::usage(format!(
                "objects of kind {kind} have no namespace: write {kind}/{name}"
            )))
        }
    }
}

fn owner(marks: &Marks, vcp: Option<&VirtualControlPlane>) -> String {
    match vcp {
        Some(vcp) => format!(
            "tenant {} (VirtualControlPlane {}/{0})",
            vcp.name_any(),
            vcp.namespace().unwrap_or_default()
        ),
        None if marks.control_plane.is_empty() => {
            format!("a tenant that is gone (identity {})", marks.tenant)
        }
        None => format!(
            "a tenant that is gone (it was {}, identity {})",
            marks.control_plane, marks.tenant
        ),
    }
}

fn tell(
    shown: &str,
    kind: &str,
    own: Option<&Marks>,
    marks: &Marks,
    claim: Option<&Claim>,
    owner: &str,
) -> String {
    let Marks {
        name,
        namespace,
        uid,
        role,
        ..
    } = marks;
    let object = if namespace.is_empty() {
        name.clone()
    } else {
        format!("{namespace}/{name}")
    };
    if let (None, "", Some(claim)) = (own, role.as_str(), claim) {
        // The namespace's mark has the name of the tenant's.
        let place = format!("{name}/{}", claim.name);
        return format!("{shown} was made for {} {place} of {owner}", claim.kind);
    }
    match (own.is_some(), role.as_str()) {
        (_, keys::ROLE_CONTROL_PLANE) => format!("{shown} is part of the control plane of {owner}"),
        (false, _) => format!("{shown} wasn't made by Sublet, but lies in a namespace of {owner}"),
        (true, keys::ROLE_TOKEN) => {
            format!("{shown} carries the tokens of Pod {object} of {owner}")
        }
        (true, "") if !name.is_empty() => {
            format!("{shown} is {kind} {object} of {owner}, UID {uid}")
        }
        (true, "") => format!("{shown} was made for {owner}"),
        (true, role) => format!("{shown} was made for {owner} ({role})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(name: &str, role: &str) -> Marks {
        Marks {
            tenant: "t".into(),
            namespace: "default".into(),
            name: name.into(),
            uid: "u1".into(),
            role: role.into(),
            control_plane: String::new(),
        }
    }

    #[test]
    fn each_kind_of_object_is_told() {
        let told = |own: Option<Marks>, around: Marks| {
            let marks = own.clone().unwrap_or(around);
            tell("Pod x/web", "Pod", own.as_ref(), &marks, None, "tenant a")
        };
        assert_eq!(
            told(Some(marks("web", "")), marks("", "")),
            "Pod x/web is Pod default/web of tenant a, UID u1"
        );
        assert_eq!(
            told(Some(marks("web", "token")), marks("", "")),
            "Pod x/web carries the tokens of Pod default/web of tenant a"
        );
        assert_eq!(
            told(None, marks("", "control-plane")),
            "Pod x/web is part of the control plane of tenant a"
        );
        assert!(told(None, marks("default", "")).contains("wasn't made by Sublet"));
        assert!(owner(&marks("web", ""), None).contains("is gone"));
    }

    #[test]
    fn a_volume_is_whose_claim_it_was_made_for() {
        let object = |spec| -> DynamicObject {
            let object =
                json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "x"}, "spec": spec});
            serde_json::from_value(object).unwrap()
        };
        let named = json!({"namespace": "a-default-h", "name": "data", "kind": "ignored"});
        for (group, kind, field, of) in [
            ("", "PersistentVolume", "claimRef", "PersistentVolumeClaim"),
            (
                "snapshot.storage.k8s.io",
                "VolumeSnapshotContent",
                "volumeSnapshotRef",
                "VolumeSnapshot",
            ),
        ] {
            let path = claim_path(group, kind).unwrap();
            let found = claim(path, &object(json!({field: named}))).unwrap();
            assert_eq!(found.namespace, "a-default-h");
            let tell = |role| {
                tell(
                    "X",
                    kind,
                    None,
                    &marks("default", role),
                    Some(&found),
                    "tenant a",
                )
            };
            assert_eq!(
                tell(""),
                format!("X was made for {of} default/data of tenant a")
            );
            assert!(tell("control-plane").contains("part of the control plane"));
            assert_eq!(claim(path, &object(json!({}))), None);
        }
        assert_eq!(claim_path("", "Pod"), None);
    }

    #[test]
    fn a_volume_that_its_claims_namespace_left_behind_is_whose_that_was() {
        let id = TenantId::from_bits([3; 16]);
        let vcp = |name: &str, identity: &str| -> VirtualControlPlane {
            serde_json::from_value(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": name, "namespace": "n"}, "spec": {"identity": identity},
            }))
            .unwrap()
        };
        let other = TenantId::from_bits([4; 16]);
        let tenants = [vcp("team-b", other.as_str()), vcp("team-a", id.as_str())];
        for namespace in ["default", "my-shop"] {
            let gone = naming::super_namespace(&id, "team-a", namespace);
            let marks = left_behind(&gone, &tenants).unwrap();
            assert_eq!(
                (marks.tenant.as_str(), &*marks.name),
                (id.as_str(), namespace)
            );
            assert_eq!(left_behind(&gone, &tenants[..1]), None);
        }
        for foreign in [
            "default",
            "kube-system",
            "team-a-default-5hw2krqcv3ylhmfzqyvrq4wgpu",
            "",
        ] {
            assert_eq!(left_behind(foreign, &tenants), None, "{foreign}");
        }
    }

    #[test]
    fn the_namespace_is_asked_for_where_there_is_one() {
        let object = |text: &str| text.parse::<ObjectRef>().unwrap();
        assert_eq!(place(&object("pod/a"), true, "d").unwrap(), Some("d"));
        assert_eq!(place(&object("pod/n/a"), true, "d").unwrap(), Some("n"));
        assert_eq!(place(&object("ns/a"), false, "d").unwrap(), None);
        assert!(place(&object("ns/n/a"), false, "d").is_err());
    }
}
