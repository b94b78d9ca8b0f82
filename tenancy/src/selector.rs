//! Label selectors, as `metav1.LabelSelector` defines them.

use serde_json::Value;
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

    #[test]
    fn all_keys_of_a_selector_are_found() {
        let term = json!({"key": "b", "operator": "Exists"});
        let selector = json!({"matchLabels": {"a": "1"}, "matchExpressions": [term, {}, 1]});
        assert_eq!(keys(&selector).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(keys(&Value::Null).count(), 0);
    }
}
