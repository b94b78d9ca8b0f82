//! Label selectors, as `metav1.LabelSelector` defines them.
//!
//! In the tenant a selector of pods goes by their labels, in the super cluster by those of their twins, of which some have
//! other keys ([`meta::pod_label`]). So wherever one crosses, its keys become those, and it selects the twins of what it
//! selects in the tenant.

use crate::meta;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Whether `labels` match a LabelSelector; an empty selector matches everything, a missing one nothing.
pub fn matches(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector.as_object() else {
        return false;
    };
    let equal = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let terms = selector
        .get("matchExpressions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    equal
        .into_iter()
        .all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
        && terms.into_iter().all(|term| holds(term, labels))
}

/// The label keys that a LabelSelector names.
pub(crate) fn keys(selector: &Value) -> impl Iterator<Item = &str> {
    let equal = selector.get("matchLabels").and_then(Value::as_object);
    let terms = selector.get("matchExpressions").and_then(Value::as_array);
    let terms = terms.into_iter().flatten();
    let equal = equal.into_iter().flatten().map(|(key, _)| key.as_str());
    equal.chain(terms.filter_map(|term| term["key"].as_str()))
}

/// Makes a tenant's LabelSelector of pods one of their twins.
pub(crate) fn carry(selector: &mut Value) {
    let equal = selector.get_mut("matchLabels");
    if let Some(equal) = equal.and_then(Value::as_object_mut) {
        carry_labels(equal);
    }
    let terms = selector.get_mut("matchExpressions");
    let terms = terms.and_then(Value::as_array_mut);
    for term in terms.into_iter().flatten() {
        let key = term.get("key").and_then(Value::as_str);
        if let Some(carried) = key.and_then(meta::selected) {
            term["key"] = carried.into();
        }
    }
}

/// The same for a selector that is a map of labels, as of a Service.
pub(crate) fn carry_labels(selector: &mut Map<String, Value>) {
    let asked = std::mem::take(selector).into_iter();
    *selector = asked
        .map(|(key, value)| (meta::selected(&key).unwrap_or(key), value))
        .collect();
}

/// One requirement; an operator that isn't known matches nothing.
fn holds(term: &Value, labels: &BTreeMap<String, String>) -> bool {
    let Some(key) = term["key"].as_str() else {
        return false;
    };
    let value = labels.get(key);
    let listed = || {
        let values = term["values"].as_array().into_iter().flatten();
        values
            .filter_map(Value::as_str)
            .any(|item| value.is_some_and(|value| value == item))
    };
    match term["operator"].as_str() {
        Some("In") => listed(),
        Some("NotIn") => !listed(),
        Some("Exists") => value.is_some(),
        Some("DoesNotExist") => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kind::{
            Cx, KINDS, index,
            testing::{Answers, tenant},
            translate,
        },
        object::Object,
    };
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_selector_means_what_kubernetes_says() {
        let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        let term = |operator, values: Value| json!({"matchExpressions": [{"key": "team", "operator": operator, "values": values}]});
        assert!(matches(&json!({}), &labels));
        assert!(!matches(&Value::Null, &labels));
        assert!(matches(&json!({"matchLabels": {"team": "a"}}), &labels));
        assert!(!matches(&json!({"matchLabels": {"team": "b"}}), &labels));
        assert!(matches(&term("In", json!(["a", "b"])), &labels));
        assert!(!matches(&term("NotIn", json!(["a"])), &labels));
        assert!(matches(&term("NotIn", json!(["c"])), &BTreeMap::new()));
        assert!(matches(&term("Exists", json!([])), &labels));
        assert!(!matches(&term("DoesNotExist", json!([])), &labels));
        assert!(!matches(&term("Future", json!([])), &labels));
    }

    /// Keys of every sort: of one's own, of Kubernetes, of what steers, of Sublet, and one as it is carried.
    const KEYS: &[&str] = &[
        "app",
        "example.com/team",
        "app.kubernetes.io/name",
        "jobset.sigs.k8s.io/jobset-name",
        "linkerd.io/control-plane-component",
        "kueue.x-k8s.io/queue-name",
        "aadpodidbinding",
        "sublet.dev/tenant",
        "label.sublet.dev/hmmw7veqppw7khbqsduygxzppq",
    ];

    const OPERATORS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist", "Future"];

    fn key() -> impl Strategy<Value = String> {
        prop_oneof![
            proptest::sample::select(KEYS).prop_map(str::to_owned),
            "[a-z]{1,3}(\\.k8s\\.io|\\.example)/[a-z]{1,2}",
        ]
    }

    fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map(key(), "[ab]", 0..6)
    }

    fn term() -> impl Strategy<Value = Value> {
        let operator = proptest::sample::select(OPERATORS);
        let values = proptest::collection::vec("[ab]", 0..3);
        (key(), operator, values).prop_map(
            |(key, operator, values)| json!({"key": key, "operator": operator, "values": values}),
        )
    }

    /// What a selector goes by of a pod with these labels: in the tenant, but for those of Sublet's domain, which don't cross;
    /// and in the super cluster.
    fn both(labels: &BTreeMap<String, String>) -> [BTreeMap<String, String>; 2] {
        let pod = Object::from_value(json!({
            "metadata": {"name": "a", "namespace": "default", "uid": "u", "labels": labels},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }));
        let (tenant, facts) = (tenant(), Answers::default());
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let rule = KINDS[usize::from(index("Pod"))];
        let twin = translate(rule, &pod.unwrap(), &cx).unwrap().unwrap();
        let of_twin = twin.labels();
        let of_twin = of_twin.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut own = labels.clone();
        own.retain(|key, _| !meta::is_own(key));
        [own, of_twin.collect()]
    }

    proptest! {
        /// The law: what selects a pod in the tenant selects its twin, and nothing else does.
        #[test]
        fn a_selector_selects_the_twins_of_what_it_selects(
            labels in labels(), equal in labels(), terms in proptest::collection::vec(term(), 0..3),
        ) {
            let [own, of_twin] = both(&labels);
            let selector = json!({"matchLabels": equal, "matchExpressions": terms});
            let mut carried = selector.clone();
            carry(&mut carried);
            prop_assert_eq!(matches(&selector, &own), matches(&carried, &of_twin));
            // Half of a pod's labels find it always.
            let half = own.iter().step_by(2);
            let mut found = json!({"matchLabels": half.collect::<BTreeMap<_, _>>()});
            carry(&mut found);
            prop_assert!(matches(&found, &of_twin));
            // As of a Service.
            let mut plain = json!(equal);
            carry_labels(plain.as_object_mut().unwrap());
            prop_assert_eq!(matches(&json!({"matchLabels": equal}), &own), matches(&json!({"matchLabels": plain}), &of_twin));
        }
    }

    #[test]
    fn what_is_no_selector_stays_as_it_is() {
        for odd in [
            Value::Null,
            json!([]),
            json!("a"),
            json!({"matchLabels": [1], "matchExpressions": {"key": "k8s.io/a"}}),
            json!({"matchExpressions": [1, null, {"key": 1}, ["k8s.io/a"]]}),
        ] {
            let mut carried = odd.clone();
            carry(&mut carried);
            assert_eq!(carried, odd);
        }
    }

    #[test]
    fn all_keys_of_a_selector_are_found() {
        let term = json!({"key": "b", "operator": "Exists"});
        let selector = json!({"matchLabels": {"a": "1"}, "matchExpressions": [term, {}, 1]});
        assert_eq!(keys(&selector).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(keys(&Value::Null).count(), 0);
    }
}
