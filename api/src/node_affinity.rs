//! Nodes by terms over their labels, as the node affinity of a pod says it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{cmp::Ordering, fmt};

/// Nodes by terms over their labels.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAffinity {
    /// A node must meet one of these terms; any may be used when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub required: Vec<NodeTerm>,
    /// Nodes that pods are rather put on, of those that they may be put on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub preferred: Vec<PreferredNodes>,
}

/// What is asked of a node's labels, all of it at once.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeTerm {
    /// Each must be met.
    #[schemars(length(min = 1, max = 8))]
    pub match_expressions: Vec<NodeRequirement>,
}

/// Nodes that are preferred, and how much.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreferredNodes {
    /// How much, against other preferences of the pod: 1 to 100.
    #[schemars(range(min = 1, max = 100), extend("format" = "int32"))]
    pub weight: u8,
    /// Which nodes.
    pub preference: NodeTerm,
}

/// What is asked of one label.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.operator in ['Exists', 'DoesNotExist'] ? (!has(self.values) || size(self.values) == 0) : (has(self.values) && size(self.values) > 0)")
        .message("operators In, NotIn, Gt and Lt need values; Exists and DoesNotExist take none"),
    validation = Rule::new("!(self.operator in ['Gt', 'Lt']) || (has(self.values) && size(self.values) == 1 && self.values[0].matches('^[0-9]{1,18}$'))")
        .message("operators Gt and Lt compare with one number")
)]
pub struct NodeRequirement {
    /// Key of the label.
    #[schemars(
        length(min = 1, max = 317),
        regex(
            pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
        )
    )]
    pub key: String,
    /// How its value is compared with `values`.
    pub operator: NodeOperator,
    /// What it is compared with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(max = 63),
            regex(pattern = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")
        )
    )]
    pub values: Vec<String>,
}

/// How a label's value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeOperator {
    /// It is one of the values.
    #[default]
    In,
    /// It is none of the values, or there is no such label.
    NotIn,
    /// There is such a label.
    Exists,
    /// There is no such label.
    DoesNotExist,
    /// It is a number above the value.
    Gt,
    /// It is a number below the value.
    Lt,
}

impl NodeAffinity {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a node with these labels may be used, as Kubernetes tells.
    pub fn allows<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let is_met = |asked: &NodeRequirement| asked.is_met(label(&asked.key));
        let mut terms = self.required.iter().map(|term| &term.match_expressions);
        // A term without requirements is met by no node.
        self.required.is_empty() || terms.any(|all| !all.is_empty() && all.iter().all(is_met))
    }
}

impl NodeTerm {
    /// The same as a pod says it.
    pub fn of_pod(&self) -> Value {
        let all = self.match_expressions.iter();
        json!({"matchExpressions": all.map(NodeRequirement::of_pod).collect::<Vec<_>>()})
    }
}

impl NodeRequirement {
    /// The same as a pod says it.
    pub fn of_pod(&self) -> Value {
        let mut asked = json!({"key": self.key, "operator": self.operator});
        if !self.values.is_empty() {
            asked["values"] = json!(self.values);
        }
        asked
    }

    /// Whether a node whose label has this value, or that has no such label, meets it.
    fn is_met(&self, value: Option<&str>) -> bool {
        let is_named = value.is_some_and(|value| self.values.iter().any(|named| named == value));
        match self.operator {
            NodeOperator::In => is_named,
            NodeOperator::NotIn => !is_named,
            NodeOperator::Exists => value.is_some(),
            NodeOperator::DoesNotExist => value.is_none(),
            NodeOperator::Gt => self.compared(value) == Some(Ordering::Greater),
            NodeOperator::Lt => self.compared(value) == Some(Ordering::Less),
        }
    }

    /// A label's value against the number that is asked for; nothing if one is no number.
    fn compared(&self, value: Option<&str>) -> Option<Ordering> {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = self.values.first().and_then(|text| number(text))?;
        Some(number(value?)?.cmp(&bound))
    }
}

/// As kubectl's selectors are written.
impl fmt::Display for NodeAffinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let required: Vec<String> = self.required.iter().map(NodeTerm::to_string).collect();
        f.write_str(&required.join(" or "))?;
        let mut separator = if required.is_empty() { "" } else { "; " };
        for PreferredNodes { weight, preference } in &self.preferred {
            write!(f, "{separator}rather {preference} ({weight})")?;
            separator = "; ";
        }
        Ok(())
    }
}

impl fmt::Display for NodeTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.match_expressions.iter();
        let all: Vec<String> = all.map(NodeRequirement::to_string).collect();
        f.write_str(&all.join(","))
    }
}

impl fmt::Display for NodeRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            NodeOperator::In => write!(f, "{key} in ({values})"),
            NodeOperator::NotIn => write!(f, "{key} notin ({values})"),
            NodeOperator::Exists => f.write_str(key),
            NodeOperator::DoesNotExist => write!(f, "!{key}"),
            NodeOperator::Gt => write!(f, "{key}>{values}"),
            NodeOperator::Lt => write!(f, "{key}<{values}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affinity(required: Value) -> NodeAffinity {
        serde_json::from_value(json!({"required": required})).unwrap()
    }

    fn one(key: &str, operator: &str, values: &[&str]) -> Value {
        json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}])
    }

    #[test]
    fn a_label_is_compared_as_kubernetes_does_it() {
        for (operator, values, value, is_met) in [
            ("In", &["a", "b"][..], Some("b"), true),
            ("In", &["a"], Some("b"), false),
            ("In", &["a"], None, false),
            ("NotIn", &["a"], Some("b"), true),
            ("NotIn", &["a"], Some("a"), false),
            ("NotIn", &["a"], None, true),
            ("Exists", &[], Some(""), true),
            ("Exists", &[], None, false),
            ("DoesNotExist", &[], None, true),
            ("DoesNotExist", &[], Some("a"), false),
            ("Gt", &["4"], Some("5"), true),
            ("Gt", &["4"], Some("4"), false),
            ("Gt", &["4"], Some("many"), false),
            ("Gt", &["4"], None, false),
            ("Lt", &["4"], Some("3"), true),
            ("Lt", &["4"], Some("4"), false),
        ] {
            let found = affinity(one("k", operator, values));
            let label = |key: &str| value.filter(|_| key == "k");
            assert_eq!(
                found.allows(label),
                is_met,
                "{operator} {values:?} {value:?}"
            );
        }
    }

    #[test]
    fn one_term_is_enough_and_all_of_it_must_be_met() {
        let exists = |key: &str| json!({"key": key, "operator": "Exists"});
        let either = affinity(json!([
            {"matchExpressions": [exists("a"), exists("b")]},
            {"matchExpressions": [exists("c")]},
        ]));
        let allows = |keys: &[&str]| either.allows(|key| keys.contains(&key).then_some("x"));
        assert!(allows(&["a", "b"]) && allows(&["c"]));
        assert!(!allows(&["a"]) && !allows(&[]));
        assert!(NodeAffinity::default().allows(|_| None));
        assert!(!affinity(json!([{"matchExpressions": []}])).allows(|_| Some("x")));
    }

    #[test]
    fn it_is_shown_as_selectors_are_written() {
        let mut found = affinity(json!([
            {"matchExpressions": [
                {"key": "pool", "operator": "In", "values": ["a", "b"]}, {"key": "gpu", "operator": "DoesNotExist"},
            ]},
            {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["8"]}]},
        ]));
        assert_eq!(found.to_string(), "pool in (a,b),!gpu or cores>8");
        found.preferred = vec![PreferredNodes {
            weight: 5,
            preference: found.required[1].clone(),
        }];
        assert_eq!(
            found.to_string(),
            "pool in (a,b),!gpu or cores>8; rather cores>8 (5)"
        );
    }
}
