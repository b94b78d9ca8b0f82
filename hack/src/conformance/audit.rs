//! What Sublet wrote to the super cluster while the suite ran in a tenant, from the super API server's audit log.
//!
//! A tenant writes Nodes, PersistentVolumes, StorageClasses, ServiceCIDRs and much else to its own API server; none of
//! that may reach the super cluster. So of all that has no namespace only Namespaces may be written, and those alone that
//! are Sublet's: super namespaces of tenants and namespaces of control planes. Daemons write in these, in Sublet's own, and
//! the manager where VirtualControlPlanes are. A log in which the syncer wrote nothing for a tenant shows nothing, and is a
//! fault itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::tenant::kubectl;
use crate::run;
use crate::super_cluster::layout;

/// Where the audit log ends at some time, and where the daemons may write then.
pub(crate) struct Mark {
    file: Identity,
    length: u64,
    time: SystemTime,
    places: Places,
}

/// Which file it is, whatever it is called: its number, which another may have once it is gone, and when it was made.
#[derive(PartialEq)]
struct Identity(u64, Option<SystemTime>);

impl Identity {
    fn of(about: &fs::Metadata) -> Self {
        Self(about.ino(), about.created().ok())
    }
}

/// Names of namespaces in which daemons may write.
#[derive(Clone, Default)]
struct Places {
    /// Those that carry Sublet's label.
    managed: BTreeSet<String>,
    /// Those in which there are VirtualControlPlanes.
    holders: BTreeSet<String>,
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
    /// The log has it of the syncer's writes only.
    #[serde(default)]
    response_object: Option<Object>,
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

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Labels,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labels {
    labels: BTreeMap<String, String>,
}

const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];
const DAEMONS: &str = "system:serviceaccount:sublet-system:";
const SYNCER: &str = "system:serviceaccount:sublet-system:sublet-syncer";
const MANAGER: &str = "system:serviceaccount:sublet-system:sublet-manager";
/// Sublet's own namespace.
const OWN: &str = "sublet-system";
/// The label of namespaces that are Sublet's.
const MANAGED: &str = "sublet.dev/managed";
/// Resources without namespace that Sublet's daemons may write beside namespaces. Reviews store nothing.
const WITHOUT_NAMESPACE: [&str; 4] = [
    "tokenreviews",
    "subjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
];
/// What tells how tenants stand and what they use, where an admin made them.
const REPORTS: [&str; 2] = ["virtualcontrolplanes", "controlplanegroups"];

/// Where the log ends now.
pub(crate) fn mark() -> Result<Mark> {
    let path = layout::logs().join("audit.log");
    let about = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Mark {
        file: Identity::of(&about),
        length: about.len(),
        time: SystemTime::now(),
        places: Places::now()?,
    })
}

/// Counts what the daemons wrote since `mark` into `audit.txt`, and says what they must not have written.
pub(crate) fn judge(mark: &Mark, folder: &Path) -> Result<Vec<String>> {
    let writes = writes_since(mark)?;
    let mut places = mark.places.clone();
    places.add(Places::now()?);
    let mut faults = faults(&writes, places);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for event in &writes {
        *counts.entry(what(event)).or_default() += 1;
    }
    let lines: String = counts
        .iter()
        .map(|(what, count)| format!("{count:7} {what}\n"))
        .collect();
    fs::write(folder.join("audit.txt"), lines).context("cannot write what was audited")?;
    say!(
        "the super cluster's audit log has {} writes of Sublet's daemons, with {} faults",
        writes.len(),
        faults.len()
    );
    faults.truncate(20);
    Ok(faults)
}

impl Places {
    /// As the super cluster says.
    fn now() -> Result<Self> {
        let names = |query: &[&str]| -> Result<BTreeSet<String>> {
            let text = run::output(kubectl()?.arg("get").args(query))?;
            Ok(text.split_whitespace().map(str::to_owned).collect())
        };
        let label = format!("{MANAGED}=true");
        let of_each = "jsonpath={.items[*].metadata.name}";
        let namespaces = "jsonpath={.items[*].metadata.namespace}";
        Ok(Self {
            managed: names(&["namespaces", "-l", &label, "-o", of_each])?,
            holders: names(&["virtualcontrolplanes", "-A", "-o", namespaces])?,
        })
    }

    fn add(&mut self, other: Self) {
        self.managed.extend(other.managed);
        self.holders.extend(other.holders);
    }
}

/// What the daemons wrote, or were refused to write, since the mark.
fn writes_since(mark: &Mark) -> Result<Vec<Event>> {
    let mut writes = vec![];
    for path in logs_since(mark, &layout::logs())? {
        let mut file =
            File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if Identity::of(&file.metadata()?) == mark.file {
            file.seek(SeekFrom::Start(mark.length))?;
        }
        for line in BufReader::new(file).lines() {
            // The last line may be half written.
            let Ok(event) = serde_json::from_str::<Event>(&line?) else {
                continue;
            };
            if event.user.username.starts_with(DAEMONS) && WRITES.contains(&event.verb.as_str()) {
                writes.push(event);
            }
        }
    }
    Ok(writes)
}

/// The log as it is now and its predecessors that were written to after the mark, oldest first. An error when the one of the
/// mark isn't among them any more: the API server keeps so many and no more.
fn logs_since(mark: &Mark, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut logs = vec![];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("audit") {
            logs.push((entry.metadata()?, entry.path()));
        }
    }
    if !logs
        .iter()
        .any(|(about, _)| Identity::of(about) == mark.file)
    {
        bail!("the audit log no longer has what was written first: more was written than it keeps");
    }
    let mut found = vec![];
    for (about, path) in logs {
        let written = about.modified()?;
        if written >= mark.time {
            found.push((written, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// What must not be. `places` are those that were there at the beginning or the end.
fn faults(writes: &[Event], mut places: Places) -> Vec<String> {
    let made = writes.iter().filter(|event| makes_a_place(event));
    places
        .managed
        .extend(made.map(|event| event.object_ref.name.clone()));
    let mut faults: Vec<String> = writes
        .iter()
        .filter_map(|event| fault(event, &places))
        .collect();
    let is_synced = |event: &Event| {
        event.user.username == SYNCER
            && event.response_status.code < 400
            && places.managed.contains(&event.object_ref.namespace)
    };
    if !writes.iter().any(is_synced) {
        faults.push("the audit log has nothing that the syncer wrote for a tenant".to_owned());
    }
    faults
}

/// Whether a namespace was made that is Sublet's. Of the manager's the log has no labels; other daemons make none.
fn makes_a_place(event: &Event) -> bool {
    let object = &event.object_ref;
    let is_managed = |stored: &Object| {
        let label = stored.metadata.labels.get(MANAGED);
        label.is_some_and(|value| value == "true")
    };
    object.resource == "namespaces"
        && event.response_status.code == 201
        && match event.user.username.as_str() {
            SYNCER => event.response_object.as_ref().is_some_and(is_managed),
            user => user == MANAGER,
        }
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

fn fault(event: &Event, places: &Places) -> Option<String> {
    let object = &event.object_ref;
    if event.response_status.code >= 400 && event.response_status.code != 403 {
        return None;
    }
    let is_report = REPORTS.contains(&object.resource.as_str()) && object.subresource == "status";
    let may = is_report
        || match (object.resource.as_str(), object.namespace.as_str()) {
            ("namespaces", _) => places.managed.contains(&object.name),
            // The manager holds those that are in use.
            ("controlplaneclasses", _) => event.user.username == MANAGER,
            (resource, "") => WITHOUT_NAMESPACE.contains(&resource),
            (_, OWN) => true,
            (_, namespace) => {
                places.managed.contains(namespace)
                    || event.user.username == MANAGER && places.holders.contains(namespace)
            }
        };
    (!may).then(|| {
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

    fn event(user: &str, path: &str, place: &str, code: u16) -> Event {
        let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
        let (namespace, name) = place.split_once('/').unwrap_or((place, "a"));
        let json = format!(
            r#"{{"verb": "create", "user": {{"username": "{DAEMONS}{user}"}}, "responseStatus": {{"code": {code}}},
                "objectRef": {{"resource": "{resource}", "subresource": "{subresource}", "namespace": "{namespace}", "name": "{name}"}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn labelled(value: &str, event: Event) -> Event {
        let object = format!(r#"{{"metadata": {{"labels": {{"{MANAGED}": "{value}"}}}}}}"#);
        Event {
            response_object: Some(serde_json::from_str(&object).unwrap()),
            ..event
        }
    }

    fn places() -> Places {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Places {
            managed: names(&["acme-default-x", "acme"]),
            holders: names(&["default"]),
        }
    }

    #[test]
    fn daemons_write_in_sublets_namespaces_and_the_manager_beside_its_tenants() {
        let (syncer, manager, proxy) =
            ("sublet-syncer", "sublet-manager", "sublet-apiserver-proxy");
        let report = "virtualcontrolplanes/status";
        for (user, path, place, code, allowed) in [
            (syncer, "nodes", "", 201, false),
            (syncer, "storageclasses", "", 403, false),
            (syncer, "persistentvolumes", "", 409, true),
            (syncer, "subjectaccessreviews", "", 201, true),
            (syncer, "pods", "acme-default-x", 201, true),
            (syncer, "pods", "kube-system", 201, false),
            (syncer, "pods", "kube-system", 403, false),
            (syncer, "pods", "platform", 201, false),
            (syncer, "secrets", "default", 201, false),
            (syncer, "leases", "sublet-system", 200, true),
            (syncer, report, "default", 200, true),
            (syncer, report, "elsewhere", 200, true),
            (syncer, "controlplanegroups/status", "", 200, true),
            (syncer, "virtualcontrolplanes", "default", 200, false),
            (syncer, "controlplaneclasses", "", 200, false),
            (manager, "controlplaneclasses", "", 200, true),
            // Requests for a namespace are in it.
            (syncer, "namespaces", "acme/acme", 200, true),
            (syncer, "namespaces", "platform/platform", 200, false),
            (manager, "namespaces", "kube-system/kube-system", 200, false),
            (manager, "secrets", "default", 201, true),
            (manager, "secrets", "platform", 201, false),
            (manager, "statefulsets", "acme", 201, true),
            (proxy, "pods/exec", "acme-default-x", 101, true),
            (proxy, "pods/exec", "kube-system", 101, false),
        ] {
            let event = event(user, path, place, code);
            let found = fault(&event, &places());
            assert_eq!(found.is_none(), allowed, "{} {place}", what(&event));
        }
    }

    #[test]
    fn a_namespace_is_sublets_when_the_log_has_its_making() {
        let made = |user, code| event(user, "namespaces", "/late", code);
        let inside = || event("sublet-syncer", "pods", "late", 201);
        let count = |made| {
            let other = event("sublet-syncer", "pods", "acme", 201);
            faults(&[made, inside(), other], places()).len()
        };
        assert_eq!(count(labelled("true", made("sublet-syncer", 201))), 0);
        assert_eq!(count(made("sublet-manager", 201)), 0);
        // Without the label, changed and not made, refused, made by another daemon: both are faults.
        for other in [
            made("sublet-syncer", 201),
            labelled("false", made("sublet-syncer", 201)),
            labelled("true", made("sublet-syncer", 200)),
            made("sublet-manager", 200),
            made("sublet-manager", 403),
            made("sublet-apiserver-proxy", 201),
        ] {
            assert_eq!(count(other), 2);
        }
    }

    #[test]
    fn a_log_in_which_the_syncer_wrote_nothing_for_a_tenant_is_a_fault() {
        let others = [
            event("sublet-manager", "secrets", "acme", 200),
            event("sublet-syncer", "leases", "sublet-system", 200),
        ];
        for writes in [&others[..], &[]] {
            assert_eq!(
                faults(writes, places()),
                ["the audit log has nothing that the syncer wrote for a tenant"]
            );
        }
    }

    #[test]
    fn a_log_that_goes_on_in_another_file_is_read_whole_and_one_that_is_gone_is_an_error() {
        let folder = std::env::temp_dir().join(format!("sublet-audit-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let (log, older) = (folder.join("audit.log"), folder.join("audit-1.log"));
        fs::write(&log, "first\n").unwrap();
        let about = fs::metadata(&log).unwrap();
        let mark = Mark {
            file: Identity::of(&about),
            length: about.len(),
            time: SystemTime::UNIX_EPOCH,
            places: Places::default(),
        };
        assert_eq!(
            logs_since(&mark, &folder).unwrap(),
            std::slice::from_ref(&log)
        );
        fs::rename(&log, &older).unwrap();
        fs::write(&log, "second\n").unwrap();
        assert_eq!(logs_since(&mark, &folder).unwrap().len(), 2);
        fs::remove_file(&older).unwrap();
        assert!(logs_since(&mark, &folder).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
