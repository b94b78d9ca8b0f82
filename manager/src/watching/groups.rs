//! Which news of a ControlPlaneGroup concern the manager: what it asks for, not what its tenants use of its budget.

use api::{ControlPlaneGroup, ControlPlaneGroupStatus};
use parking_lot::Mutex;
use std::collections::HashMap;

/// The groups as they were last told of.
#[derive(Debug, Default)]
pub(crate) struct Groups(Mutex<HashMap<String, GroupState>>);

#[derive(Debug, PartialEq)]
struct GroupState {
    generation: Option<i64>,
    status: Option<ControlPlaneGroupStatus>,
}

impl Groups {
    /// Whether more than the status changed; a group that is told of as it was has ended, or was listed anew.
    pub(crate) fn is_news(&self, group: &ControlPlaneGroup) -> bool {
        let told = GroupState {
            generation: group.metadata.generation,
            status: group.status.clone(),
        };
        let name = group.metadata.name.clone().unwrap_or_default();
        let mut known = self.0.lock();
        let Some(before) = known.get_mut(&name) else {
            known.insert(name, told);
            return true;
        };
        let is_status_alone = before.generation == told.generation && before.status != told.status;
        *before = told;
        !is_status_alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ControlPlaneGroupSpec;

    #[test]
    fn a_change_of_the_status_alone_is_no_news() {
        let groups = Groups::default();
        let mut group = ControlPlaneGroup::new("acme", ControlPlaneGroupSpec::default());
        group.metadata.generation = Some(1);
        assert!(groups.is_news(&group));
        group.status = Some(ControlPlaneGroupStatus::default());
        assert!(!groups.is_news(&group));
        // It was deleted: the last state is told once more.
        assert!(groups.is_news(&group));
        group.metadata.generation = Some(2);
        assert!(groups.is_news(&group));
    }
}
