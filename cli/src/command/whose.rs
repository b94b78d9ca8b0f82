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
use kube::{Api, ResourceExt};
use serde_json::json;

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
    let object = match kind
        .api(&cluster.client, namespace)
        .get_metadata(name)
        .await
    {
        Ok(object) => object,
        Err(err) if error::is_missing(&err) => {
            return Err(error::fail(format!(
                "there is no {shown} in the super cluster; check its name and namespace"
            )));
        }
        Err(err) => return Err(err.into()),
    };
    let own = owner::marks(&object.metadata);
    let around = match namespace {
        Some(namespace) if own.is_none() => {
            let api: Api<Namespace> = Api::all(cluster.client.clone());
            api.get_opt(namespace)
                .await?
                .and_then(|namespace| owner::marks(&namespace.metadata))
        }
        _ => None,
    };
    let Some(marks) = own.as_ref().or(around.as_ref()) else {
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
            let value = json!({"identity": marks.tenant, "virtualControlPlane": vcp, "object": object, "role": marks.role});
            output::print(&format.text(&value)?)
        }
        None => {
            let owner = owner(marks, vcp.as_ref());
            output::print_line(&tell(
                &shown,
                &kind.resource.kind,
                own.as_ref(),
                marks,
                &owner,
            ))
        }
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

fn tell(shown: &str, kind: &str, own: Option<&Marks>, marks: &Marks, owner: &str) -> String {
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
            tell("Pod x/web", "Pod", own.as_ref(), &marks, "tenant a")
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
    fn the_namespace_is_asked_for_where_there_is_one() {
        let object = |text: &str| text.parse::<ObjectRef>().unwrap();
        assert_eq!(place(&object("pod/a"), true, "d").unwrap(), Some("d"));
        assert_eq!(place(&object("pod/n/a"), true, "d").unwrap(), Some("n"));
        assert_eq!(place(&object("ns/a"), false, "d").unwrap(), None);
        assert!(place(&object("ns/n/a"), false, "d").is_err());
    }
}
