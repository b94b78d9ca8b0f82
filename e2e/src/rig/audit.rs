//! Reading audit logs.

use crate::read::text;
use anyhow::Context;
use serde_json::Value;
use std::path::PathBuf;

/// A write that an API server carried out.
#[derive(Clone, Debug)]
pub struct Deed {
    /// `create`, `patch`, `delete`, `deletecollection`…
    pub verb: String,
    /// Plural, with the subresource if there is one.
    pub resource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name, or empty.
    pub name: String,
    /// Who.
    pub user: String,
    /// Which of several of that name.
    pub user_uid: String,
    /// When the request came, RFC 3339 with microseconds: texts compare as times do.
    pub at: String,
    /// Status of the answer.
    pub code: u64,
    /// What was sent.
    pub request: Value,
    /// What was answered.
    pub response: Value,
}

/// The part of an audit log that belongs to one test.
#[derive(Clone, Debug)]
pub struct Log {
    /// The file.
    pub path: PathBuf,
    /// Where the part begins, in bytes.
    pub from: usize,
}

/// All writes in an audit log that succeeded, in their order.
pub fn deeds(log: &Log) -> anyhow::Result<Vec<Deed>> {
    let text = std::fs::read_to_string(&log.path)
        .with_context(|| format!("reading {}", log.path.display()))?;
    let part = text.get(log.from..).context("the audit log was cut off")?;
    let deeds = part.lines().filter_map(|line| {
        // The last line may be half written.
        let event: Value = serde_json::from_str(line).ok()?;
        let deed = deed(&event);
        (200..300).contains(&deed.code).then_some(deed)
    });
    Ok(deeds.collect())
}

fn deed(event: &Value) -> Deed {
    let own = |pointer: &str| text(event, pointer).to_owned();
    let mut resource = own("/objectRef/resource");
    let subresource = text(event, "/objectRef/subresource");
    if !subresource.is_empty() {
        resource = format!("{resource}/{subresource}");
    }
    let response = event["responseObject"].clone();
    let name = match text(event, "/objectRef/name") {
        "" => text(&response, "/metadata/name").to_owned(),
        name => name.to_owned(),
    };
    Deed {
        verb: own("/verb"),
        resource,
        namespace: own("/objectRef/namespace"),
        name,
        user: own("/user/username"),
        user_uid: own("/user/uid"),
        at: own("/requestReceivedTimestamp"),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        request: event["requestObject"].clone(),
        response,
    }
}

impl Deed {
    /// Whether the syncer did it.
    pub fn is_syncers(&self) -> bool {
        self.user.ends_with(":sublet-syncer")
    }

    /// UID of the object that was deleted.
    pub fn deleted_uid(&self) -> &str {
        match text(&self.request, "/preconditions/uid") {
            "" => match text(&self.response, "/metadata/uid") {
                "" => text(&self.response, "/details/uid"),
                uid => uid,
            },
            uid => uid,
        }
    }
}
