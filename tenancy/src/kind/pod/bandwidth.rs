//! Bandwidth: what a pod may send and receive, in the annotations that the CNI's bandwidth plugin reads.
//!
//! A tenant may ask for less than it is allowed, never for more. Containers' runtimes read the annotations when the pod's
//! network is made: a change holds for pods that are made later.

use crate::{
    kind::Cx,
    object::Object,
    quota::amount::{parse, shown},
};
use serde_json::{Map, Value};

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// What the plugin takes, in thousandths of a bit; with less or more the pod's network isn't made.
const LEAST: i128 = 1_000_000;
const MOST: i128 = 1_000_000_000_000_000_000;

/// Sets the annotations where the tenant has a ceiling or asks for one.
pub(super) fn step(pod: &Object, cx: &Cx<'_>, annotations: &mut Map<String, Value>) {
    let rules = &cx.rules.pods;
    for (key, ceiling) in [(INGRESS, rules.ingress), (EGRESS, rules.egress)] {
        let asked = pod.annotation(key).and_then(parse);
        let asked = asked.map(|asked| asked.clamp(LEAST, MOST));
        if let Some(most) = [asked, ceiling].into_iter().flatten().min() {
            annotations.insert(key.into(), shown(key, most).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::pod::tests::{down_as, pod};

    fn set(asked: Option<&str>, ceiling: Option<&str>) -> Option<String> {
        let mut pod = pod("{containers: []}");
        if let Some(asked) = asked {
            pod.annotate(EGRESS, asked);
        }
        let twin = down_as(&pod, |tenant, _| {
            tenant.pods.egress = ceiling.and_then(parse);
        });
        twin.unwrap().annotation(EGRESS).map(str::to_owned)
    }

    #[test]
    fn a_pod_gets_what_it_asks_for_up_to_what_it_may_have() {
        for (asked, ceiling, expected) in [
            (None, None, None),
            (None, Some("10M"), Some("10000000")),
            (Some("5M"), Some("10M"), Some("5000000")),
            (Some("1G"), Some("10M"), Some("10000000")),
            (Some("much"), Some("10M"), Some("10000000")),
            (Some("5M"), None, Some("5000000")),
            (Some("much"), None, None),
            (Some("0"), Some("10M"), Some("1000")),
        ] {
            assert_eq!(
                set(asked, ceiling).as_deref(),
                expected,
                "{asked:?} {ceiling:?}"
            );
        }
    }
}
