//! The tenant's nodes by terms: what its class and its VirtualControlPlane ask of them is asked by every pod of it.
//!
//! Kubernetes puts a pod onto a node that meets one of its terms. So each of the pod's terms is joined with each of the
//! tenant's, ours first: of a pod that waits behind a gate the API server lets terms grow at their ends only.

use super::fields::items;
use crate::kind::{Cx, Refused};
use api::{NodeRequirement, NodeTerm, PreferredNodes};
use serde_json::{Value, json};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const TERMS: &str = "nodeSelectorTerms";
/// So many terms may come of it: the scheduler goes through them for every node.
const MOST: usize = 256;

/// Adds what is asked of the tenant's nodes.
pub(super) fn step(spec: &mut Value, cx: &Cx<'_>) -> Result<(), Refused> {
    bound(spec, cx)?;
    // The VirtualControlPlane's comes after its class's, and so before it in each term.
    for asked in &cx.rules.node_affinity {
        require(spec, &asked.required);
        prefer(spec, &asked.preferred);
    }
    Ok(())
}

/// Refuses what becomes too many.
fn bound(spec: &Value, cx: &Cx<'_>) -> Result<(), Refused> {
    let ours = cx
        .rules
        .node_affinity
        .iter()
        .map(|asked| asked.required.len());
    let ours: Vec<usize> = ours.filter(|count| *count > 0).collect();
    let most = MOST / ours.iter().product::<usize>();
    let required = spec.pointer(&format!("/affinity/nodeAffinity/{REQUIRED}"));
    let own = required
        .into_iter()
        .flat_map(|all| items(all, TERMS))
        .count();
    if ours.is_empty() || own <= most {
        return Ok(());
    }
    Err(Refused::new(
        "TooManyNodeTerms",
        format!(
            "spec.affinity.nodeAffinity has {own} terms, each of which is joined with those of the tenant's nodes: write {most} at \
             most"
        ),
    ))
}

fn require(spec: &mut Value, ours: &[NodeTerm]) {
    if ours.is_empty() {
        return;
    }
    let written = spec.pointer(&format!("/affinity/nodeAffinity/{REQUIRED}/{TERMS}"));
    let written = written.and_then(Value::as_array);
    let terms: Vec<Value> = match written {
        None => ours.iter().map(NodeTerm::of_pod).collect(),
        Some(written) => {
            // No node meets a term that asks for nothing; joined with ours it would be met.
            let own: Vec<&Value> = written.iter().filter(|term| is_something(term)).collect();
            if own.is_empty() {
                return;
            }
            let joined = |own: &Value| ours.iter().map(|ours| both(ours, own)).collect::<Vec<_>>();
            own.into_iter().flat_map(joined).collect()
        }
    };
    spec["affinity"]["nodeAffinity"][REQUIRED][TERMS] = terms.into();
}

fn is_something(term: &Value) -> bool {
    let mut parts = ["matchExpressions", "matchFields"].into_iter();
    parts.any(|part| items(term, part).next().is_some())
}

/// The term of a node that meets both.
fn both(ours: &NodeTerm, own: &Value) -> Value {
    let asked = ours.match_expressions.iter().map(NodeRequirement::of_pod);
    let asked = asked.chain(items(own, "matchExpressions").cloned());
    let mut term = own.clone();
    term["matchExpressions"] = asked.collect();
    term
}

fn prefer(spec: &mut Value, ours: &[PreferredNodes]) {
    if ours.is_empty() {
        return;
    }
    let ours = ours
        .iter()
        .map(|one| json!({"weight": one.weight, "preference": one.preference.of_pod()}));
    let own = spec.pointer("/affinity/nodeAffinity").into_iter();
    let own = own.flat_map(|own| items(own, PREFERRED)).cloned();
    let all: Vec<Value> = own.chain(ours).collect();
    spec["affinity"]["nodeAffinity"][PREFERRED] = all.into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::pod::tests::{down_as, pod};
    use api::NodeAffinity;

    fn given(value: Value) -> NodeAffinity {
        serde_json::from_value(value).unwrap()
    }

    /// One requirement, that there be such a label.
    fn has(key: &str) -> Value {
        json!({"key": key, "operator": "Exists"})
    }

    fn required(keys: &[&str]) -> NodeAffinity {
        let terms = keys
            .iter()
            .map(|key| json!({"matchExpressions": [has(key)]}));
        given(json!({"required": terms.collect::<Vec<_>>()}))
    }

    fn down(spec: &str, given: &[NodeAffinity]) -> Result<Value, Refused> {
        let twin = down_as(&pod(spec), |tenant, _| {
            tenant.node_affinity = given.to_vec();
            tenant.pods.node_labels = ["own", "other"].map(str::to_owned).to_vec();
        });
        Ok(twin?.at("/spec/affinity").cloned().unwrap_or_default())
    }

    /// The keys that each term asks for.
    fn terms(affinity: &Value) -> Vec<Vec<&str>> {
        let terms = &affinity["nodeAffinity"][REQUIRED];
        let keys = |term| {
            let keys = items(term, "matchExpressions").chain(items(term, "matchFields"));
            keys.filter_map(|one| one["key"].as_str()).collect()
        };
        items(terms, TERMS).map(keys).collect()
    }

    fn asking(terms: &str) -> String {
        format!("{{affinity: {{nodeAffinity: {{{REQUIRED}: {{{TERMS}: [{terms}]}}}}}}}}")
    }

    #[test]
    fn a_pod_that_asks_for_nothing_asks_for_the_tenants_nodes() {
        let found = down("{}", &[required(&["a", "b"])]).unwrap();
        assert_eq!(
            found,
            json!({"nodeAffinity": {REQUIRED: {TERMS: [
                {"matchExpressions": [has("a")]}, {"matchExpressions": [has("b")]},
            ]}}})
        );
        assert_eq!(down("{}", &[]).unwrap(), Value::Null);
    }

    #[test]
    fn each_term_of_the_pod_is_narrowed_by_each_of_the_class_and_of_the_control_plane() {
        let own = asking(
            "{matchExpressions: [{key: own, operator: Exists}]}, {matchExpressions: [{key: other, operator: Exists}]}",
        );
        let (class, policy) = (required(&["a", "b"]), required(&["c"]));
        let found = down(&own, &[class.clone(), policy.clone()]).unwrap();
        assert_eq!(
            terms(&found),
            [
                ["c", "a", "own"],
                ["c", "b", "own"],
                ["c", "a", "other"],
                ["c", "b", "other"],
            ]
        );
        assert_eq!(
            terms(&down("{}", &[class, policy]).unwrap()),
            [["c", "a"], ["c", "b"]]
        );
    }

    #[test]
    fn a_pod_for_one_node_runs_there_if_it_is_the_tenants() {
        let own = asking("{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}");
        let found = down(&own, &[required(&["a"])]).unwrap();
        assert_eq!(terms(&found), [["a", "metadata.name"]]);
    }

    #[test]
    fn what_no_node_meets_is_met_by_none_afterwards() {
        for none in ["{}", "{matchExpressions: []}, {}"] {
            let found = down(&asking(none), &[required(&["a"])]).unwrap();
            assert!(terms(&found).concat().is_empty(), "{found}");
        }
        let one = asking("{}, {matchExpressions: [{key: own, operator: Exists}]}");
        let found = down(&one, &[required(&["a"])]).unwrap();
        assert_eq!(terms(&found), [["a", "own"]]);
    }

    #[test]
    fn preferences_stand_beside_the_pods_own() {
        let ours = json!({"weight": 7, "preference": {"matchExpressions": [has("a")]}});
        let rules = [given(json!({"preferred": [ours]}))];
        let own = format!(
            "{{affinity: {{nodeAffinity: {{{PREFERRED}: [{{weight: 1, preference: {{matchExpressions: [{{key: own, operator: Exists}}]}}}}]}}}}}}"
        );
        let all = |spec: &str| down(spec, &rules).unwrap()["nodeAffinity"][PREFERRED].clone();
        assert_eq!(all("{}"), json!([ours]));
        let found = all(&own);
        assert_eq!((&found[0]["weight"], &found[1]), (&json!(1), &ours));
    }

    #[test]
    fn a_pods_terms_are_bounded_where_they_are_multiplied() {
        let term = "{matchExpressions: [{key: own, operator: Exists}]}";
        let many = |count: usize| asking(&vec![term; count].join(", "));
        let class = [required(&["a", "b"])];
        assert_eq!(terms(&down(&many(128), &class).unwrap()).len(), 256);
        let refused = down(&many(129), &class).unwrap_err();
        assert_eq!(refused.reason, "TooManyNodeTerms");
        assert!(refused.message.contains("128 at most"), "{refused}");
        assert!(down(&many(129), &[]).is_ok());
    }
}
