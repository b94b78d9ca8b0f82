//! How long a pod may take to end: no longer than its class allows, or it would outlive its tenant and hold up drains.

use crate::{
    kind::{Cx, Refused},
    object::Object,
};
use serde_json::Value;

const FIELD: &str = "terminationGracePeriodSeconds";

/// Shortens what is longer.
pub(super) fn step(spec: &mut Value, cx: &Cx<'_>) {
    let longest = cx.rules.pods.longest_grace();
    if spec[FIELD].as_i64().is_some_and(|asked| asked > longest) {
        spec[FIELD] = longest.into();
    }
}

/// Tells of it.
pub(super) fn shortfall(pod: &Object, cx: &Cx<'_>) -> Option<Refused> {
    let longest = cx.rules.pods.longest_grace();
    let asked = pod.at(&format!("/spec/{FIELD}"))?.as_i64()?;
    (asked > longest).then(|| {
        let text = format!(
            "spec.{FIELD} is {asked}: its class lets a pod take {longest} seconds to end, after which it is killed"
        );
        Refused::new("GracePeriodShortened", text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{
        pod::tests::{down_as, pod},
        testing::{Answers, tenant},
    };

    #[test]
    fn a_pod_takes_no_longer_to_end_than_its_class_allows() {
        for (asked, ceiling, given) in [
            (30, None, 30),
            (3_600, None, 3_600),
            (2_147_483_647_i64, None, 3_600),
            (0, Some(600), 0),
            (700, Some(600), 600),
            (7_200, Some(86_400), 7_200),
        ] {
            let pod = pod(&format!("{{containers: [], {FIELD}: {asked}}}"));
            let (mut tenant, facts) = (tenant(), Answers::default());
            tenant.pods.longest_grace = ceiling;
            let rules = tenant.pods.clone();
            let cx = Cx {
                rules: &tenant,
                facts: &facts,
            };
            let told = shortfall(&pod, &cx);
            let twin = down_as(&pod, |tenant, _| tenant.pods = rules).unwrap();
            let found = twin.at(&format!("/spec/{FIELD}")).and_then(Value::as_i64);
            assert_eq!(found, Some(given), "{asked} of {ceiling:?}");
            assert_eq!(told.is_some(), asked != given, "{asked} of {ceiling:?}");
        }
    }
}
