//! Conditions of Sublet's resources, as Kubernetes defines them (`metav1.Condition`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One observation about an object; `type` is unique within the list.
///
/// The message says what happened, to which object, and what to do; the reason is CamelCase for programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, CamelCase.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// CamelCase word for programs.
    pub reason: String,
    /// A sentence for people; names the blocker when something is waited for.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed, RFC 3339.
    pub last_transition_time: String,
    /// `metadata.generation` that this was observed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Puts `condition` into `conditions`, keeping `lastTransitionTime` when the status did not change.
///
/// Returns whether anything but the time changed.
pub fn set_condition(conditions: &mut Vec<Condition>, mut condition: Condition) -> bool {
    let Some(old) = conditions
        .iter_mut()
        .find(|old| old.type_ == condition.type_)
    else {
        conditions.push(condition);
        return true;
    };
    if old.status == condition.status {
        condition
            .last_transition_time
            .clone_from(&old.last_transition_time);
    }
    let changed = *old != condition;
    *old = condition;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(status: &str, reason: &str, time: &str) -> Condition {
        Condition {
            type_: "Ready".into(),
            status: status.into(),
            reason: reason.into(),
            last_transition_time: time.into(),
            ..Condition::default()
        }
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut list = vec![];
        assert!(set_condition(
            &mut list,
            condition("False", "Waiting", "t1")
        ));
        assert!(set_condition(
            &mut list,
            condition("False", "StillWaiting", "t2")
        ));
        assert_eq!(list[0].last_transition_time, "t1");
        assert!(!set_condition(
            &mut list,
            condition("False", "StillWaiting", "t3")
        ));
        assert!(set_condition(&mut list, condition("True", "Up", "t4")));
        assert_eq!(
            (list.len(), list[0].last_transition_time.as_str()),
            (1, "t4")
        );
    }
}
