//! Merging a tenant's access into a person's kubeconfig without touching what others wrote.

use super::{Access, Mark, cluster_entry, context_entry, user_entry};
use serde_json::{Value, json};

/// Whether entries of the same name that Sublet didn't write for this tenant may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// They are kept and the merge fails.
    Keep,
    /// They are replaced.
    Replace,
}

/// An entry of that name belongs to something else.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    /// Somebody else's entry.
    #[error("it already has a {part} {name:?} that isn't this tenant's{whose}")]
    Taken {
        /// `cluster`, `user` or `context`.
        part: &'static str,
        /// Its name.
        name: String,
        /// Whose it is, as far as that can be told.
        whose: String,
    },
    /// The file isn't a kubeconfig.
    #[error("it isn't a kubeconfig: {0}")]
    Malformed(&'static str),
}

/// Puts cluster, user and context called `name` into `config`, in place of this tenant's older ones.
pub(crate) fn merge(
    mut config: Value,
    name: &str,
    access: &Access,
    mark: &Mark,
    foreign: Foreign,
) -> Result<Value, Error> {
    if config.is_null() {
        config = json!({});
    }
    let map = config
        .as_object_mut()
        .ok_or(Error::Malformed("not a map"))?;
    map.entry("apiVersion").or_insert_with(|| "v1".into());
    map.entry("kind").or_insert_with(|| "Config".into());
    let parts = [
        ("cluster", "clusters", cluster_entry(access, name, mark)),
        ("user", "users", user_entry(access, name, mark)),
        ("context", "contexts", context_entry(access, name, mark)),
    ];
    for (part, key, entry) in parts {
        let list = map.entry(key).or_insert(Value::Null);
        if list.is_null() {
            *list = json!([]);
        }
        let list = list.as_array_mut().ok_or(Error::Malformed(
            "clusters, users and contexts must be lists",
        ))?;
        put(list, part, name, entry, mark, foreign)?;
    }
    Ok(config)
}

fn put(
    list: &mut Vec<Value>,
    part: &'static str,
    name: &str,
    entry: Value,
    mark: &Mark,
    foreign: Foreign,
) -> Result<(), Error> {
    let Some(old) = list.iter_mut().find(|old| old["name"] == name) else {
        list.push(entry);
        return Ok(());
    };
    let owner = Mark::of(&old[part]);
    let ours = owner.as_ref().is_some_and(|owner| owner.same_tenant(mark));
    if !ours && foreign == Foreign::Keep {
        let whose = owner
            .map(|owner| format!(" but {}'s of {}", owner.control_plane, owner.super_cluster))
            .unwrap_or_default();
        return Err(Error::Taken {
            part,
            name: name.to_owned(),
            whose,
        });
    }
    *old = entry;
    Ok(())
}

/// Whether `config` holds contexts that Sublet didn't write for this tenant.
pub(crate) fn has_others(config: &Value, mark: &Mark) -> bool {
    let contexts = config["contexts"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    contexts
        .iter()
        .any(|entry| !Mark::of(&entry["context"]).is_some_and(|owner| owner.same_tenant(mark)))
}

/// Whether `config` holds a context of that name.
pub(crate) fn has_context(config: &Value, name: &str) -> bool {
    config["contexts"]
        .as_array()
        .is_some_and(|list| list.iter().any(|entry| entry["name"] == name))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SECRET, mark};
    use super::*;

    fn access() -> Access {
        Access::parse(SECRET).unwrap()
    }

    fn theirs() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "prod", "preferences": {"colors": true},
            "clusters": [{"name": "prod", "cluster": {"server": "https://prod"}}],
            "users": [{"name": "prod", "user": {"exec": {"command": "aws"}}}],
            "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "prod"}}],
        })
    }

    #[test]
    fn an_empty_file_becomes_a_kubeconfig() {
        let merged = merge(Value::Null, "a", &access(), &mark("i"), Foreign::Keep).unwrap();
        assert_eq!(
            (merged["kind"].as_str(), has_context(&merged, "a")),
            (Some("Config"), true)
        );
        assert_eq!(merged.get("current-context"), None);
    }

    #[test]
    fn others_entries_stay_as_they_were() {
        let merged = merge(theirs(), "a", &access(), &mark("i"), Foreign::Keep).unwrap();
        for key in ["clusters", "users", "contexts"] {
            assert_eq!(merged[key][0], theirs()[key][0]);
            assert_eq!(merged[key][1]["name"], "a");
        }
        assert_eq!(
            (&merged["current-context"], &merged["preferences"]),
            (&theirs()["current-context"], &theirs()["preferences"])
        );
    }

    #[test]
    fn a_second_merge_replaces_the_first() {
        let once = merge(theirs(), "a", &access(), &mark("i"), Foreign::Keep).unwrap();
        assert_eq!(
            merge(once.clone(), "a", &access(), &mark("i"), Foreign::Keep),
            Ok(once.clone())
        );
        // The tenant was deleted and made again: another identity under the same name in the same super cluster.
        let anew = merge(once, "a", &access(), &mark("j"), Foreign::Keep).unwrap();
        assert_eq!(anew["contexts"].as_array().map(Vec::len), Some(2));
        assert_eq!(Mark::of(&anew["users"][1]["user"]), Some(mark("j")));
    }

    #[test]
    fn a_foreign_entry_is_kept_unless_forced() {
        let taken = merge(theirs(), "prod", &access(), &mark("i"), Foreign::Keep).unwrap_err();
        assert_eq!(
            taken.to_string(),
            "it already has a cluster \"prod\" that isn't this tenant's"
        );
        let forced = merge(theirs(), "prod", &access(), &mark("i"), Foreign::Replace).unwrap();
        assert_eq!(
            forced["clusters"][0]["cluster"]["server"],
            "https://10.0.0.1:30001"
        );
        let elsewhere = Mark {
            super_cluster: "https://other".into(),
            ..mark("k")
        };
        let once = merge(theirs(), "a", &access(), &elsewhere, Foreign::Keep).unwrap();
        let err = merge(once, "a", &access(), &mark("i"), Foreign::Keep)
            .unwrap_err()
            .to_string();
        assert!(err.ends_with("but default/a's of https://other"), "{err}");
    }

    #[test]
    fn what_is_no_kubeconfig_is_left_alone() {
        assert!(merge(json!([1]), "a", &access(), &mark("i"), Foreign::Keep).is_err());
        assert!(
            merge(
                json!({"clusters": "x"}),
                "a",
                &access(),
                &mark("i"),
                Foreign::Keep
            )
            .is_err()
        );
    }

    #[test]
    fn other_contexts_are_noticed() {
        assert!(has_others(&theirs(), &mark("i")));
        assert!(!has_others(
            &super::super::named(&access(), "a", &mark("i")),
            &mark("i")
        ));
        assert!(!has_others(&Value::Null, &mark("i")));
    }
}
