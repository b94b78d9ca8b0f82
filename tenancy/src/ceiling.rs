//! What a VirtualControlPlane asks for of its own control plane beyond its class.

use crate::quota::amount;
use api::{ControlPlaneClassSpec, EtcdStorage, VirtualControlPlaneSpec};
use std::fmt::{self, Display};

/// A field of a VirtualControlPlane's spec that asks for more than its class allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    field: &'static str,
    /// What it says; nothing when it is left out.
    asked: Option<String>,
    /// What it may say.
    allowed: String,
}

impl Excess {
    fn of(field: &'static str, asked: impl Display, most: impl Display) -> Self {
        Self {
            field,
            asked: Some(asked.to_string()),
            allowed: format!("{most} at most"),
        }
    }
}

impl Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (field, allowed) = (self.field, &self.allowed);
        match &self.asked {
            Some(asked) => write!(f, "{field} is {asked} and may be {allowed}"),
            None => write!(f, "{field} is left out and must be {allowed}"),
        }
    }
}

/// Too many API servers.
pub fn servers(spec: &VirtualControlPlaneSpec, class: &ControlPlaneClassSpec) -> Option<Excess> {
    count("spec.replicas", spec.replicas, class.max.replicas)
}

/// What is too much of an etcd that is still to be made.
pub fn store(spec: &VirtualControlPlaneSpec, class: &ControlPlaneClassSpec) -> Vec<Excess> {
    let Some(etcd) = &spec.etcd else {
        return vec![];
    };
    let members = count("spec.etcd.replicas", etcd.replicas, class.max.etcd.replicas);
    // One without a volume takes nothing of what is limited here.
    let storage = etcd.storage.as_ref().filter(|storage| !storage.ephemeral);
    let of_storage = |excess: fn(&EtcdStorage, &ControlPlaneClassSpec) -> Option<Excess>| {
        storage.and_then(|storage| excess(storage, class))
    };
    let all = [members, of_storage(size), of_storage(storage_class)];
    all.into_iter().flatten().collect()
}

/// One is what there is when nothing is said, and so never too many.
fn count(field: &'static str, asked: Option<i32>, most: Option<i32>) -> Option<Excess> {
    let (asked, most) = asked.zip(most)?;
    (asked > most).then(|| Excess::of(field, asked, most))
}

fn size(asked: &EtcdStorage, class: &ControlPlaneClassSpec) -> Option<Excess> {
    let most = class.max.etcd.storage.size.as_ref()?;
    let own = &class.etcd_storage;
    // Without a volume the class gives no size.
    let own = (!own.ephemeral).then_some(&own.size);
    let most = own
        .filter(|own| amount::parse(own) > amount::parse(most))
        .unwrap_or(most);
    // What can't be read is too much, and a ceiling that can't be read is one of nothing.
    let fits = amount::parse(&asked.size).is_some_and(|asked| Some(asked) <= amount::parse(most));
    (!fits).then(|| Excess::of("spec.etcd.storage.size", &asked.size, most))
}

fn storage_class(asked: &EtcdStorage, class: &ControlPlaneClassSpec) -> Option<Excess> {
    let others = class.max.etcd.storage.storage_class_names.as_ref()?;
    let own = &class.etcd_storage.storage_class_name;
    let asked = &asked.storage_class_name;
    let is_listed = asked.as_ref().is_some_and(|asked| others.contains(asked));
    if asked == own || is_listed {
        return None;
    }
    let mut names: Vec<&str> = own.iter().chain(others).map(String::as_str).collect();
    names.dedup();
    let names = names.join(" or ");
    Some(Excess {
        field: "spec.etcd.storage.storageClassName",
        asked: asked.clone(),
        allowed: match (own, names.as_str()) {
            (None, "") => "left out only".to_owned(),
            (None, names) => format!("{names}, or left out"),
            (Some(_), names) => names.to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(class: Value, spec: Value) -> Vec<String> {
        let mut whole = json!({"versions": []});
        for (field, value) in class.as_object().unwrap() {
            whole[field] = value.clone();
        }
        let class: ControlPlaneClassSpec = serde_json::from_value(whole).unwrap();
        let spec: VirtualControlPlaneSpec = serde_json::from_value(spec).unwrap();
        let all = servers(&spec, &class)
            .into_iter()
            .chain(store(&spec, &class));
        all.map(|excess| excess.to_string()).collect()
    }

    #[test]
    fn a_class_that_says_nothing_limits_nothing() {
        let much = json!({"replicas": 3, "etcd": {"replicas": 3, "storage": {"size": "9Ti", "storageClassName": "gold"}}});
        assert!(told(json!({}), much).is_empty());
    }

    #[test]
    fn what_is_more_than_the_class_allows_is_named_with_what_may_be() {
        let class = json!({"max": {"replicas": 2, "etcd": {"replicas": 1, "storage": {"size": "16Gi", "storageClassNames": []}}}});
        let spec = json!({"replicas": 3, "etcd": {"replicas": 3, "storage": {"size": "17Gi", "storageClassName": "gold"}}});
        assert_eq!(
            told(class.clone(), spec),
            [
                "spec.replicas is 3 and may be 2 at most",
                "spec.etcd.replicas is 3 and may be 1 at most",
                "spec.etcd.storage.size is 17Gi and may be 16Gi at most",
                "spec.etcd.storage.storageClassName is gold and may be left out only",
            ]
        );
        let fits = json!({"replicas": 2, "etcd": {"replicas": 1, "storage": {"size": "16384Mi"}}});
        assert!(told(class.clone(), fits).is_empty());
        assert!(told(class, json!({})).is_empty());
    }

    #[test]
    fn sizes_are_compared_however_they_are_written() {
        let asked = |size: &str| {
            let class = json!({"max": {"etcd": {"storage": {"size": "16Gi"}}}});
            told(class, json!({"etcd": {"storage": {"size": size}}})).is_empty()
        };
        for fits in ["16Gi", "17G", "1.5e10", "17179869184", "+1Gi"] {
            assert!(asked(fits), "{fits}");
        }
        for more in [
            "17179869185",
            "18G",
            "1Ti",
            "2e10",
            "99999999999999999999",
            "much",
        ] {
            assert!(!asked(more), "{more}");
        }
    }

    #[test]
    fn what_the_class_itself_gives_is_never_too_much() {
        let class = json!({
            "etcdStorage": {"size": "32Gi", "storageClassName": "fast"},
            "max": {"etcd": {"storage": {"size": "16Gi", "storageClassNames": ["slow"]}}},
        });
        let asked = |storage: Value| told(class.clone(), json!({"etcd": {"storage": storage}}));
        assert!(asked(json!({"size": "32Gi", "storageClassName": "fast"})).is_empty());
        assert!(asked(json!({"storageClassName": "slow"})).is_empty());
        assert_eq!(
            asked(json!({"size": "33Gi", "storageClassName": "fast"})),
            ["spec.etcd.storage.size is 33Gi and may be 32Gi at most"]
        );
        assert_eq!(
            asked(json!({})),
            ["spec.etcd.storage.storageClassName is left out and must be fast or slow"]
        );
    }

    #[test]
    fn an_etcd_without_a_volume_has_no_size_and_no_class() {
        let class =
            json!({"max": {"etcd": {"storage": {"size": "1Gi", "storageClassNames": ["slow"]}}}});
        let ephemeral = json!({"etcd": {"storage": {"ephemeral": true}}});
        assert!(told(class, ephemeral).is_empty());
    }
}
