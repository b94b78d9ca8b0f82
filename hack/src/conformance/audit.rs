//! What Sublet wrote to the super cluster while the suite ran in a tenant, from the super API server's audit log.
//!
//! A tenant writes Nodes, PersistentVolumes, StorageClasses, ServiceCIDRs and much else to its own API server; none of
//! that may reach the super cluster. So of all that has no namespace only Namespaces may be written, and the syncer
//! writes to no namespace that the super cluster had before Sublet.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::super_cluster::layout;

/// Where the audit log ends at some time.
pub(crate) struct Mark {
    file: u64,
    length: u64,
    time: SystemTime,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: Response,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    api_group: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Response {
    code: u16,
}

const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];
const DAEMONS: &str = "system:serviceaccount:sublet-system:";
const SYNCER: &str = "system:serviceaccount:sublet-system:sublet-syncer";
/// Resources without namespace that Sublet's daemons may write. Reviews store nothing.
const WITHOUT_NAMESPACE: [&str; 5] = [
    "namespaces",
    "tokenreviews",
    "subjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
];
/// Namespaces that a cluster has from the beginning.
const OLD_NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Where the log ends now.
pub(crate) fn mark() -> Result<Mark> {
    let path = layout::logs().join("audit.log");
    let about = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Mark {
        file: about.ino(),
        length: about.len(),
        time: SystemTime::now(),
    })
}

/// Counts what the daemons wrote since `mark` into `audit.txt`, and says what they must not have written.
pub(crate) fn judge(mark: &Mark, folder: &Path) -> Result<Vec<String>> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut faults = vec![];
    for path in logs_since(mark)? {
        let mut file =
            File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if file.metadata()?.ino() == mark.file {
            file.seek(SeekFrom::Start(mark.length))?;
        }
        for line in BufReader::new(file).lines() {
            // The last line may be half written.
            let Ok(event) = serde_json::from_str::<Event>(&line?) else {
                continue;
            };
            if !event.user.username.starts_with(DAEMONS) || !WRITES.contains(&event.verb.as_str()) {
                continue;
            }
            *counts.entry(what(&event)).or_default() += 1;
            faults.extend(fault(&event));
        }
    }
    let lines: String = counts
        .iter()
        .map(|(what, count)| format!("{count:7} {what}\n"))
        .collect();
    fs::write(folder.join("audit.txt"), lines).context("cannot write what was audited")?;
    say!(
        "the super cluster's audit log has {} writes of Sublet's daemons, {} of which must not be",
        counts.values().sum::<usize>(),
        faults.len()
    );
    faults.truncate(20);
    Ok(faults)
}

/// The log as it is now and its predecessors that were written to after the mark, oldest first.
fn logs_since(mark: &Mark) -> Result<Vec<PathBuf>> {
    let mut found = vec![];
    for entry in fs::read_dir(layout::logs())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let about = entry.metadata()?;
        if name.starts_with("audit") && about.modified()? >= mark.time {
            found.push((about.modified()?, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn what(event: &Event) -> String {
    let ObjectRef {
        resource,
        subresource,
        api_group,
        ..
    } = &event.object_ref;
    let daemon = event.user.username.trim_start_matches(DAEMONS);
    let outcome = match event.response_status.code {
        0..400 => "",
        403 => ", forbidden",
        _ => ", refused",
    };
    let resource = [resource.as_str(), subresource]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/");
    format!("{daemon} {} {resource} {api_group}{outcome}", event.verb)
}

fn fault(event: &Event) -> Option<String> {
    let object = &event.object_ref;
    if event.response_status.code >= 400 && event.response_status.code != 403 {
        return None;
    }
    let stray =
        object.namespace.is_empty() && !WITHOUT_NAMESPACE.contains(&object.resource.as_str());
    // Where an admin made the tenant, the syncer tells how it stands and what it uses.
    let is_report = object.resource == "virtualcontrolplanes" && object.subresource == "status";
    let foreign = event.user.username == SYNCER
        && !is_report
        && OLD_NAMESPACES.contains(&object.namespace.as_str());
    (stray || foreign).then(|| {
        format!(
            "written to the super cluster: {} {}/{}",
            what(event),
            object.namespace,
            object.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(user: &str, path: &str, namespace: &str, code: u16) -> Event {
        let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
        let json = format!(
            r#"{{"verb": "create", "user": {{"username": "{DAEMONS}{user}"}}, "responseStatus": {{"code": {code}}},
                "objectRef": {{"resource": "{resource}", "subresource": "{subresource}", "namespace": "{namespace}", "name": "a"}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn only_namespaces_may_be_written_outside_of_namespaces() {
        for (event, allowed) in [
            (event("sublet-syncer", "namespaces", "", 201), true),
            (event("sublet-syncer", "nodes", "", 201), false),
            (event("sublet-syncer", "storageclasses", "", 403), false),
            (event("sublet-syncer", "persistentvolumes", "", 409), true),
            (event("sublet-syncer", "pods", "acme-default-x", 201), true),
            (event("sublet-syncer", "pods", "kube-system", 201), false),
            (event("sublet-manager", "secrets", "default", 201), true),
            (
                event(
                    "sublet-syncer",
                    "virtualcontrolplanes/status",
                    "default",
                    200,
                ),
                true,
            ),
            (
                event("sublet-syncer", "virtualcontrolplanes", "default", 200),
                false,
            ),
        ] {
            assert_eq!(fault(&event).is_none(), allowed, "{}", what(&event));
        }
    }
}
