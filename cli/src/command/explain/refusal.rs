//! What the syncer told the tenant about an object that doesn't cross, or not whole, and what helps. Pure.

use super::verdict::Facts;
use crate::{error, quota::Limit};
use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::Time};

/// Reasons that are told of objects that cross, but not as they are written.
const SHORTFALLS: [&str; 4] = [
    "LeftOut",
    "EgressNotOpen",
    "GracePeriodShortened",
    "NodeLabelNotShown",
];
/// The reason that is told of an object that can't end.
const HELD_UP: &str = "DeletionHeldUp";

impl Facts {
    /// What the tenant was told that its object, which crosses, is without.
    pub(super) fn shortfall(&self) -> Option<(String, String)> {
        let event = self.last(is_shortfall)?;
        let advice = "change the tenant's object accordingly, if it matters";
        Some((words(event), advice.to_owned()))
    }

    /// Why its twin can't end.
    pub(super) fn held_up(&self) -> Option<(String, String)> {
        let event = self.last(is_held_up)?;
        let advice = "see who set the finalizers of the super object, and why they stay";
        Some((words(event), advice.to_owned()))
    }

    /// The last thing that the syncer refused, and what helps.
    ///
    /// What was refused before `made`, the time of its twin's making, was put right since. One and the same refusal is told
    /// only once: if it came again since, that isn't known.
    pub(super) fn refusal(&self, made: Option<&Time>) -> Option<(String, String)> {
        let is_over = |event: &Event| match (&event.last_timestamp, made) {
            (Some(told), Some(made)) => told < made,
            _ => false,
        };
        let event = self.last(|event| is_refusal(event) && !is_over(event))?;
        let message = words(event);
        let advice = self.advice(event.reason.as_deref().unwrap_or_default(), &message);
        Some((message, advice))
    }

    fn last(&self, is_it: impl Fn(&Event) -> bool) -> Option<&Event> {
        self.events.iter().rev().find(|event| is_it(event))
    }

    fn advice(&self, reason: &str, message: &str) -> String {
        match reason {
            "QuotaExceeded" => self.room(),
            "QuotaNeedsResources" => {
                "make a LimitRange in the tenant's namespace, or set spec.pods.containers of its class".to_owned()
            }
            "KindNotServed" => {
                "install in the super cluster what serves the kind, if tenants are to have it; the object crosses by itself then"
                    .to_owned()
            }
            "KindNotSynced" => {
                "let the kind go down by spec.sync.toSuper of the VirtualControlPlane and spec.toSuper of its class, if it is to"
                    .to_owned()
            }
            "VolumeLost" => {
                "give it its volume back if that is still there, as docs/operations.md says under 'Giving a lost volume back'; or let the tenant \
                 delete its claim and make it anew, for an empty one"
                    .to_owned()
            }
            "DNSNotReady" => format!("see the condition DNSReady in `{}`", self.hints.describe),
            "ResourceClaimPending" => self.waiting(),
            "WorkloadStopped" => format!(
                "wake the tenant, or wait until it wakes; see the condition StoppingWorkload in `{}`",
                self.hints.describe
            ),
            _ if message.contains(api::TRUSTED_TENANTS) => format!(
                "name the tenant in that ConfigMap if its pods may reach for the nodes (key {}, value NAMESPACE/NAME of its VirtualControlPlane), or give it \
                 podSecurity baseline",
                self.identity
            ),
            _ => "change the tenant's object accordingly".to_owned(),
        }
    }

    /// Where room can come from.
    fn room(&self) -> String {
        let asked = |limit: &&Limit| self.asks.contains_key(&limit.name) && limit.is_full();
        let full: Vec<String> = self
            .limits
            .iter()
            .filter(asked)
            .map(|limit| format!("{} of {}", limit.name, limit.of))
            .collect();
        let what = if full.is_empty() {
            "the limits below".to_owned()
        } else {
            full.join(" and ")
        };
        format!(
            "delete something that takes of it, or raise {what}; it goes down as soon as there is room"
        )
    }
}

fn words(event: &Event) -> String {
    error::one_line(event.message.as_deref().unwrap_or_default())
}

fn is_shortfall(event: &Event) -> bool {
    let reason = event.reason.as_deref();
    reason.is_some_and(|reason| SHORTFALLS.contains(&reason))
}

fn is_held_up(event: &Event) -> bool {
    event.reason.as_deref() == Some(HELD_UP)
}

fn is_refusal(event: &Event) -> bool {
    let is_told = event.type_.as_deref() == Some("Warning")
        || matches!(event.reason.as_deref(), Some("NotSynced" | "SyncRefused"));
    is_told && !is_shortfall(event) && !is_held_up(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        command::explain::verdict::{
            self, Verdict,
            tests::{facts, twin},
        },
        pages,
    };
    use serde_json::json;
    use tenancy::quota::amount::Amounts;

    fn event(reason: &str, message: &str) -> Event {
        let event = json!({
            "metadata": {}, "involvedObject": {}, "type": "Warning", "reason": reason, "message": message,
            "lastTimestamp": "2026-01-01T12:00:00Z",
        });
        serde_json::from_value(event).unwrap()
    }

    /// Facts of an object that something was told of, and whose twin was made at that hour if there is one.
    fn told(reason: &str, message: &str, made: Option<&str>) -> Facts {
        let other = made.map(|hour| {
            let mut twin = twin("s1", Some(("t", "u1")));
            let time = format!("2026-01-01T{hour}:00:00Z");
            twin.created = Some(serde_json::from_value(json!(time)).unwrap());
            twin
        });
        Facts {
            events: vec![event(reason, message)],
            ..facts(Some(twin("u1", None)), other)
        }
    }

    fn says(facts: &Facts, synced: bool, text: &str) -> Verdict {
        let verdict = verdict::of(facts);
        assert!(
            verdict.synced == synced && verdict.text.contains(text),
            "{verdict:?}"
        );
        verdict
    }

    #[test]
    fn each_reason_that_a_tenant_may_be_told_has_words_and_advice() {
        let mut count = 0;
        for row in pages::refusals() {
            let crosses = ["crosses", "it is made", "the rest of the policy holds"]
                .iter()
                .any(|words| row.refused.contains(words));
            // Whoever reads the page can do nothing, so that the admin who asks must be told something else.
            let is_admins = row.instead.is_empty()
                || ["nothing", "an admin"]
                    .iter()
                    .any(|words| row.instead.starts_with(words));
            for reason in &row.reasons {
                count += 1;
                let refused = if reason == HELD_UP {
                    let mut ending = told(reason, "words of\nits own", Some("11"));
                    ending.tenant.object.as_mut().unwrap().deleting = true;
                    says(&ending, false, "It is being deleted: words of its own")
                } else if crosses {
                    let whole = told(reason, "words of\nits own", Some("11"));
                    says(&whole, true, "not whole: words of its own")
                } else {
                    let changed = told(reason, "words of\nits own", Some("11"));
                    says(
                        &changed,
                        false,
                        "the last change was refused: words of its own",
                    );
                    let new = told(reason, "words of\nits own", None);
                    says(&new, false, "It is refused: words of its own")
                };
                let advice = refused.advice;
                assert!(advice.len() > 20, "{reason}: {advice:?}");
                assert!(
                    !is_admins || !advice.starts_with("change the tenant's object"),
                    "{reason}: {advice}"
                );
            }
        }
        assert!(count > 70, "{count}");
    }

    #[test]
    fn what_was_refused_before_its_twin_was_made_was_put_right() {
        says(
            &told("HostPort", "no", Some("11")),
            false,
            "the last change was refused",
        );
        says(&told("HostPort", "no", Some("13")), true, "It is synced.");
    }

    #[test]
    fn who_may_reach_for_the_nodes_is_said() {
        let message = "only tenants in the ConfigMap sublet-system/sublet-trusted-tenants may be more than baseline";
        let refused = told("RefusedBySuperCluster", message, None);
        let advice = says(&refused, false, "It is refused").advice;
        assert!(advice.starts_with("name the tenant"), "{advice}");
    }

    #[test]
    fn the_limits_that_are_full_are_named() {
        let mut refused = told("QuotaExceeded", "no room", None);
        refused.asks = Amounts::from([("pods".to_owned(), 1000)]);
        refused.limits = ["2", "3"]
            .map(|used| Limit {
                of: format!("group {used}"),
                name: "pods".into(),
                used: used.into(),
                own: "1".into(),
                hard: "3".into(),
            })
            .into();
        let advice = says(&refused, false, "It is refused: no room").advice;
        assert!(advice.contains("raise pods of group 3;"), "{advice}");
    }
}
