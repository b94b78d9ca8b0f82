//! What the syncer told the tenant about an object that doesn't cross, or not whole, and what helps. Pure.

use super::verdict::Facts;
use crate::{error, event, quota::Limit};
use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use tenancy::quota::bytes;

/// Reasons that are told of objects that cross, but not as they are written.
const SHORTFALLS: [&str; 4] = [
    "LeftOut",
    "EgressNotOpen",
    "GracePeriodShortened",
    "NodeLabelNotShown",
];
/// The reason that is told of an object that can't end.
const HELD_UP: &str = "DeletionHeldUp";
/// The reason that is told of a pod whose token the tenant's own API server refuses.
const NO_TOKEN: &str = "TokenRefused";
/// The reason that is told once what was refused is put right.
const PUT_RIGHT: &str = "Synced";

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

    /// Why it has no token of its ServiceAccount, or will have none, if its twin was made at `made`.
    pub(super) fn without_token(&self, made: Option<&Time>) -> Option<(String, String)> {
        let event = self.last_that_holds(is_without_token, made)?;
        let advice = "see in the tenant whether the ServiceAccount is there, and which of its webhooks and policies refuse a token";
        Some((words(event), advice.to_owned()))
    }

    /// The last thing that the syncer refused, and what helps.
    ///
    /// What was refused before `made`, the time of its twin's making, was put right since.
    pub(super) fn refusal(&self, made: Option<&Time>) -> Option<(String, String)> {
        let event = self.last_that_holds(is_refusal, made)?;
        let message = words(event);
        let advice = self.advice(event.reason.as_deref().unwrap_or_default(), &message);
        Some((message, advice))
    }

    /// The last such event, unless what it tells of was put right since: the twin was made, or the syncer says so.
    fn last_that_holds(&self, is_it: fn(&Event) -> bool, made: Option<&Time>) -> Option<&Event> {
        let put_right = self.last(|event| event.reason.as_deref() == Some(PUT_RIGHT));
        let is_over = |event: &Event| {
            let told = event.last_timestamp.as_ref();
            let is_older = told.zip(made).is_some_and(|(told, made)| told < made);
            is_older || put_right.is_some_and(|put_right| order(event) < order(put_right))
        };
        self.last(|event| is_it(event) && !is_over(event))
    }

    fn last(&self, is_it: impl Fn(&Event) -> bool) -> Option<&Event> {
        self.events.iter().rev().find(|event| is_it(event))
    }

    fn advice(&self, reason: &str, message: &str) -> String {
        match reason {
            "QuotaExceeded" if message.contains(bytes::NAME) => format!(
                "delete objects of the tenant or make them smaller, or raise {} in the quota of its class; it goes down as soon as there is room",
                bytes::NAME
            ),
            "QuotaExceeded" => self.room(),
            "QuotaNeedsResources" => {
                "make a LimitRange in the tenant's namespace, or set spec.pods.containers of its class".to_owned()
            }
            "KindNotServed" => {
                "install in the super cluster what serves the kind, if tenants are to have it; the object crosses by itself then"
                    .to_owned()
            }
            "NotSyncedYet" => {
                "see the event WebhookFailing in its super namespace for the webhook, and mend that, or take away what asks for it; the object \
                 crosses by itself then"
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

/// When it was told; events have whole seconds, and within one the version tells which was written later.
fn order(told: &Event) -> (Option<Timestamp>, u64) {
    let version = told.metadata.resource_version.as_deref();
    let version = version.and_then(|version| version.parse().ok());
    (event::when(told), version.unwrap_or_default())
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

fn is_without_token(event: &Event) -> bool {
    event.reason.as_deref() == Some(NO_TOKEN)
}

fn is_refusal(event: &Event) -> bool {
    let is_told = event.type_.as_deref() == Some("Warning")
        || matches!(event.reason.as_deref(), Some("NotSynced" | "SyncRefused"));
    is_told && !is_shortfall(event) && !is_held_up(event) && !is_without_token(event)
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
                } else if reason == NO_TOKEN {
                    let waiting = told(reason, "words of\nits own", Some("11"));
                    says(&waiting, false, "it lacks a token: words of its own")
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
    fn what_was_put_right_after_its_twin_was_made_is_no_refusal_until_it_comes_again() {
        for reason in ["HostPort", NO_TOKEN] {
            let mut facts = told(reason, "no", Some("11"));
            let mut put_right = event(PUT_RIGHT, "it is synced");
            put_right.type_ = Some("Normal".into());
            put_right.metadata.resource_version = Some("10".into());
            facts.events[0].metadata.resource_version = Some("9".into());
            facts.events.push(put_right);
            says(&facts, true, "It is synced.");
            // The event of one and the same refusal is dated anew.
            facts.events[0].metadata.resource_version = Some("11".into());
            assert!(!verdict::of(&facts).synced, "{reason}, in the same second");
            let late = serde_json::from_value(json!("2026-01-01T12:00:01Z")).unwrap();
            facts.events[1].last_timestamp = Some(late);
            says(&facts, true, "It is synced.");
        }
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
