//! What a tenant may keep in its own etcd: so many bytes, and so many objects of a resource; pure.
//!
//! Bytes are held by etcd itself, which takes no more writes when it is full, until there is [`room`](crate::store::room).
//! Objects are counted now and then; while there are as many of a resource as may be, the tenant's API server refuses to make
//! more. It does so by its configuration of authorizers, a file that it reads anew when it changes and that nothing inside of
//! the tenant can reach.
//!
//! A full etcd takes no word of this either: what shows the tenant its numbers is left as it is then, and the condition
//! is told all the same.

use crate::{
    object::{CONFIG_MAP, Object},
    provision::{coredns, keys, pod::CONFIG_DIR},
    spec::control_plane::ControlPlane,
    status::Fact,
    store::uncounted::Lasting,
};
use api::{Quantities, QuotaStatus};
use serde_json::{Value, json};
use std::{collections::BTreeMap, ops::ControlFlow};
use tenancy::quota::amount::{parse, shown};

/// Name of the limit of bytes; all others are resources, as `PLURAL` or `PLURAL.GROUP`.
pub(crate) const SIZE: &str = "size";
/// The condition that says whether there is room.
pub(crate) const CONDITION: &str = "StoredWithinLimits";
/// Its reason where something can't be counted.
const NOT_COUNTED: &str = "NotCounted";
/// The ConfigMap in the tenant's kube-system that shows it.
const NAME: &str = "sublet-stored";
/// What an API server reads a webhook's address from; nothing is ever asked there.
pub(crate) const NOWHERE: &str = "nowhere.kubeconfig";
/// Counted again so soon when nothing else is to be done while there is little room left.
pub(crate) const CLOSELY: std::time::Duration = std::time::Duration::from_secs(10);
/// Hundredths of a limit from which on there is little room left.
const LITTLE: u64 = 90;
/// It is counted again soon, too, if as much more as came since the last time, so many times over, left no room.
const PACE: u64 = 6;
/// Bytes of the largest request that etcd takes: with less than that left, the next one may be refused.
pub(crate) const LARGEST: u64 = 3 << 19;
/// What is used is told in steps of so many bytes, so that a page more or less isn't news.
const STEP: u64 = 1 << 20;

/// The limits that count: of class and VirtualControlPlane the lower ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits(BTreeMap<String, u64>);

/// What there is of each thing that is limited, as far as it is known.
pub(crate) type Used = BTreeMap<String, u64>;

impl Limits {
    /// Reads both; a limit that can't be read is one of nothing, so that a typing error opens nothing. What can't be the
    /// name of a resource names none: names become part of paths and of conditions.
    pub(crate) fn of(class: &Quantities, policy: &Quantities) -> Self {
        let mut limits: BTreeMap<String, u64> = BTreeMap::new();
        let all = class.0.iter().chain(&policy.0);
        for (name, text) in all.filter(|(name, _)| is_resource(name)) {
            let amount = parse(text).map_or(0, |amount| amount / 1000);
            let amount = u64::try_from(amount).unwrap_or(u64::MAX);
            let kept = limits.entry(name.clone()).or_insert(amount);
            *kept = amount.min(*kept);
        }
        Self(limits)
    }

    /// Bytes that etcd may hold.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.0.get(SIZE).copied()
    }

    /// Resources whose objects are counted.
    pub(crate) fn counted(&self) -> impl Iterator<Item = &str> {
        let names = self.0.keys().map(String::as_str);
        names.filter(|name| *name != SIZE)
    }

    /// Whether there are as many of something as may be, when there are so many.
    pub(crate) fn is_reached(&self, name: &str, used: u64) -> bool {
        let limit = self.0.get(name);
        limit.is_some_and(|limit| is_reached(name, used, *limit))
    }

    /// Resources of which nobody knows how many objects there are.
    pub(crate) fn uncounted<'a>(&'a self, used: &'a Used) -> impl Iterator<Item = &'a str> {
        self.counted().filter(|name| !used.contains_key(*name))
    }

    /// Whether nothing is limited.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same where etcd holds `bytes`, whatever was asked for: it has a least size, and its volume may be smaller.
    pub(crate) fn hold(&mut self, bytes: u64) {
        if let Some(size) = self.0.get_mut(SIZE) {
            *size = bytes;
        }
    }

    /// What of all that is limited `holds` for: (name, used, limit).
    fn those<'a>(
        &'a self,
        used: &'a Used,
        holds: impl Fn(&str, u64, u64) -> bool + 'a,
    ) -> impl Iterator<Item = (&'a str, u64, u64)> {
        let known = self.0.iter().filter_map(|(name, limit)| {
            let used = used.get(name)?;
            Some((name.as_str(), *used, *limit))
        });
        known.filter(move |(name, used, limit)| holds(name, *used, *limit))
    }

    /// Whether etcd has room for whatever comes next.
    pub(crate) fn has_room(&self, used: &Used) -> bool {
        let mut reached = self.those(used, is_reached);
        !reached.any(|(name, ..)| name == SIZE)
    }

    /// Whether what there is should be counted again soon; `before` is what was told the last time.
    pub(crate) fn is_near(&self, used: &Used, before: Option<&QuotaStatus>) -> bool {
        let told = |name: &str| parse(before?.used.get(name)?);
        let grows = |name: &str, used: u64, limit: u64| {
            let before = told(name).and_then(|amount| u64::try_from(amount / 1000).ok());
            let more = before.map_or(0, |before| used.saturating_sub(before));
            more > 0 && more.saturating_mul(PACE) >= limit.saturating_sub(used)
        };
        let is_soon =
            |name: &str, used, limit| is_little(name, used, limit) || grows(name, used, limit);
        self.those(used, is_soon).next().is_some() || self.uncounted(used).next().is_some()
    }

    /// The condition; none where nothing is limited and nothing was `refused` for want of room. Where nothing was counted at
    /// all, `used` is `None`.
    pub(crate) fn fact(&self, used: Option<&Used>, refused: Option<&str>) -> Option<Fact> {
        if self.is_empty() && refused.is_none() {
            return None;
        }
        let uncounted = used.and_then(|used| self.uncounted_told(used));
        let nothing = Used::new();
        let used = used.unwrap_or(&nothing);
        let said = |(name, used, limit): (&str, u64, u64)| {
            format!(
                "{name}: {} of {}",
                used_amount(name, used),
                amount(name, limit)
            )
        };
        let mut full: Vec<String> = self.those(used, is_reached).map(said).collect();
        let is_etcd_full = refused.is_some() || !self.has_room(used);
        if let (Some(refused), true) = (refused, self.has_room(used)) {
            full.push(format!("{SIZE}: {refused}"));
        }
        if !full.is_empty() {
            let until = match is_etcd_full {
                true => {
                    "it has deleted some, whereupon its etcd gives the room back within a minute"
                }
                false => "it deletes some",
            };
            let mut message = format!(
                "the tenant stores as much as it may ({}), and more is refused until {until}",
                full.join(", ")
            );
            if let Some(uncounted) = uncounted {
                message += &format!("; {uncounted}");
            }
            return Some(Fact::no(CONDITION, "Full", message));
        }
        if let Some(uncounted) = uncounted {
            return Some(Fact::no(CONDITION, NOT_COUNTED, uncounted));
        }
        let near: Vec<String> = self.those(used, is_little).map(said).collect();
        let mut fact = Fact::yes(CONDITION, "Room");
        if !near.is_empty() {
            fact.reason = "NearlyFull".into();
            fact.message = format!("little room is left: {}", near.join(", "));
        }
        Some(fact)
    }

    /// What there is to say of what nobody can count.
    fn uncounted_told(&self, used: &Used) -> Option<String> {
        let names: Vec<&str> = self.uncounted(used).collect();
        (!names.is_empty()).then(|| {
            format!(
                "nobody can tell how many the tenant stores of {}, and no more can be made when that lasts: its API server \
                 must list them itself, by no APIService with a service and no conversion webhook that fails",
                names.join(", ")
            )
        })
    }

    /// For the status: limits, and what is used of them.
    pub(crate) fn status(&self, used: &Used) -> Option<QuotaStatus> {
        let hard = |(name, value): (&String, &u64)| (name.clone(), amount(name, *value));
        let said = |(name, value): (&String, &u64)| (name.clone(), used_amount(name, *value));
        (!self.is_empty()).then(|| QuotaStatus {
            hard: self.0.iter().map(hard).collect(),
            used: used.iter().map(said).collect(),
        })
    }

    /// What the tenant is shown.
    pub(crate) fn shown(&self, used: &Used) -> Option<Object> {
        if self.is_empty() {
            return None;
        }
        let said = |(name, limit): (&String, &u64)| {
            let limit = amount(name, *limit);
            let text = match used.get(name) {
                Some(used) => format!("{} of {limit}", used_amount(name, *used)),
                None => format!("at most {limit}"),
            };
            (name.clone(), text)
        };
        let data: BTreeMap<String, String> = self.0.iter().map(said).collect();
        let body = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "sublet"}}, "data": data});
        Some(Object::new(CONFIG_MAP, Some(coredns::NAMESPACE), NAME, body).sealed())
    }

    /// The API server's authorizers while there is so much; `None` where no number is limited. Of what is `closed` nobody knows
    /// how much there is.
    pub(crate) fn authorizers(&self, used: &Used, closed: &[&str]) -> Option<Value> {
        self.counted().next()?;
        let full = self
            .those(used, is_reached)
            .filter(|(name, ..)| *name != SIZE);
        let mut authorizers = vec![no_masters()];
        authorizers.extend(full.map(|(name, _, limit)| no_more(name, limit)));
        authorizers.extend(closed.iter().map(|name| none_uncounted(name)));
        authorizers.push(json!({"type": "Node", "name": "node"}));
        authorizers.push(json!({"type": "RBAC", "name": "rbac"}));
        Some(json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": authorizers,
        }))
    }
}

impl ControlPlane {
    /// The authorizers for `used`, or those that the API server has while nothing is known. What can't be counted stays
    /// closed where it was, and is closed where that is `lasting`.
    pub(crate) fn authorizers_for(
        &self,
        used: Option<&Used>,
        now: Option<&str>,
        lasting: &Lasting,
    ) -> Option<String> {
        let limits = &self.stored;
        let made = |used: &Used, closed: &[&str]| {
            let authorizers = limits.authorizers(used, closed);
            authorizers.map(|value| value.to_string())
        };
        match (used, now) {
            (Some(used), _) => {
                let was_closed = closed_by(now);
                let stays = |name: &&str| lasting.contains(*name) || was_closed(name);
                let closed: Vec<&str> = limits.uncounted(used).filter(stays).collect();
                made(used, &closed)
            }
            (None, Some(now)) if limits.counted().next().is_some() => Some(now.to_owned()),
            (None, _) => made(&Used::new(), &[]),
        }
    }
}

/// Tells of which resources no more may be made by these authorizers.
fn closed_by(now: Option<&str>) -> impl Fn(&str) -> bool {
    let now: Value = now
        .and_then(|now| serde_json::from_str(now).ok())
        .unwrap_or_default();
    move |name| {
        let mut all = now["authorizers"].as_array().into_iter().flatten();
        let names = ["full", "uncounted"].map(|word| format!("{word}.{name}"));
        all.any(|one| names.iter().any(|name| one["name"] == **name))
    }
}

fn is_reached(name: &str, used: u64, limit: u64) -> bool {
    let next = if name == SIZE { LARGEST } else { 0 };
    used.saturating_add(next) >= limit
}

fn is_little(name: &str, used: u64, limit: u64) -> bool {
    is_reached(name, used, limit)
        || u128::from(used) * 100 >= u128::from(limit) * u128::from(LITTLE)
}

fn is_resource(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(is_plain))
}

fn amount(name: &str, value: u64) -> String {
    match name {
        SIZE => shown("requests.memory", i128::from(value) * 1000),
        _ => value.to_string(),
    }
}

fn used_amount(name: &str, used: u64) -> String {
    match name {
        SIZE => amount(name, used.div_ceil(STEP).saturating_mul(STEP)),
        _ => amount(name, used),
    }
}

/// Bytes for people, in the steps in which they are told.
pub(crate) fn bytes_shown(bytes: u64) -> String {
    used_amount(SIZE, bytes)
}

/// Refuses to make more objects of a resource that is full.
fn no_more(name: &str, limit: u64) -> Value {
    let why = format!("this tenant stores all {name} that it may: {limit}. Delete some");
    refusing(&format!("full.{name}"), &makes(name), &why)
}

/// The same of one that can't be counted.
fn none_uncounted(name: &str) -> Value {
    let why = format!(
        "nobody can tell how many {name} this tenant stores, which are limited. Let its API server list them itself"
    );
    refusing(&format!("uncounted.{name}"), &makes(name), &why)
}

/// Whether somebody else than Sublet makes objects of a resource.
fn makes(name: &str) -> String {
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    let syncer = keys::SYNCER;
    format!(
        "request.resourceAttributes.verb == 'create' && request.resourceAttributes.subresource == '' && \
         request.resourceAttributes.resource == '{plural}' && request.resourceAttributes.group == '{group}' && \
         !('{syncer}' in request.groups)"
    )
}

/// Refuses to act as somebody of `system:masters`, whom authorizers aren't asked about.
fn no_masters() -> Value {
    let asked = "request.resourceAttributes.verb.startsWith('impersonate') && \
                 request.resourceAttributes.resource == 'groups' && \
                 request.resourceAttributes.name == 'system:masters'";
    let why = "what is stored here is limited, and system:masters would go around that. Use another group";
    refusing("no-masters", asked, why)
}

/// An authorizer that refuses what `asked` holds for, and says `why`, and has no opinion on all else.
///
/// It is a webhook that is never called: its condition fails where it would have to say yes, which counts as a refusal, and
/// the API server answers with the failed condition, of which `why` is a part.
fn refusing(name: &str, asked: &str, why: &str) -> Value {
    let expression =
        format!("!(has(request.resourceAttributes) && {asked}) ? false : {{'': true}}['{why}']");
    json!({"type": "Webhook", "name": name, "webhook": {
        "authorizedTTL": "1s", "unauthorizedTTL": "1s", "timeout": "1s",
        "subjectAccessReviewVersion": "v1", "matchConditionSubjectAccessReviewVersion": "v1",
        "failurePolicy": "Deny",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": format!("{CONFIG_DIR}/{NOWHERE}")},
        "matchConditions": [{"expression": expression}],
    }})
}

/// A kubeconfig that leads nowhere: an API server wants one for each webhook.
pub(crate) fn nowhere() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "nowhere",
        "clusters": [{"name": "nowhere", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "nowhere", "user": {}}],
        "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nowhere"}}],
    })
}

/// The bytes that an API server says its etcd takes, from the lines of its metrics.
#[derive(Default)]
pub(crate) struct SizeInMetrics {
    most: Option<f64>,
}

impl SizeInMetrics {
    /// Hears a line. What is looked for stands together, so it is enough when that is over.
    pub(crate) fn hear(&mut self, line: &str) -> ControlFlow<()> {
        if !line.starts_with("apiserver_storage_size_bytes{") {
            return match self.most {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            };
        }
        let value = line.rsplit(' ').next().and_then(|text| text.parse().ok());
        if let Some(value) = value {
            self.most = Some(self.most.map_or(value, |most| most.max(value)));
        }
        ControlFlow::Continue(())
    }

    /// What was told.
    pub(crate) fn bytes(self) -> Option<u64> {
        // Written as `2.3e+07`; a size is neither negative nor beyond what etcd holds.
        let bytes = self.most.filter(|bytes| (0.0..1e15).contains(bytes));
        bytes.map(|bytes| bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn quantities(pairs: &[(&str, &str)]) -> Quantities {
        let pairs = pairs.iter();
        Quantities(
            pairs
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
        )
    }

    fn limits() -> Limits {
        let class = quantities(&[
            ("size", "1Gi"),
            ("configmaps", "1k"),
            ("widgets.example.com", "10"),
        ]);
        Limits::of(
            &class,
            &quantities(&[("configmaps", "500"), ("size", "2Gi")]),
        )
    }

    /// All is counted; what isn't named isn't there.
    fn used(pairs: &[(&str, u64)]) -> Used {
        let nothing = [("configmaps", 0), ("widgets.example.com", 0)];
        let pairs = nothing.iter().chain(pairs);
        pairs
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn the_lower_of_class_and_control_plane_counts() {
        let limits = limits();
        assert_eq!(limits.bytes(), Some(1 << 30));
        let counted: Vec<&str> = limits.counted().collect();
        assert_eq!(counted, ["configmaps", "widgets.example.com"]);
        assert_eq!(limits.0["configmaps"], 500);
        assert!(Limits::of(&quantities(&[]), &quantities(&[])).is_empty());
        // What could reach beyond its place isn't taken for a name.
        for name in [
            "a'] || true || b['",
            "../nodes",
            "Pods",
            "pods?limit=1",
            "a..b",
            "",
        ] {
            let limits = Limits::of(&quantities(&[]), &quantities(&[(name, "1")]));
            assert!(limits.is_empty(), "{name}");
        }
        // An unreadable one allows nothing.
        assert_eq!(
            Limits::of(&quantities(&[("pods", "x")]), &quantities(&[])).0["pods"],
            0
        );
    }

    #[test]
    fn what_is_full_is_told_and_what_is_nearly() {
        let limits = limits();
        let told = |used: &Used| {
            let fact = limits.fact(Some(used), None).unwrap();
            (fact.holds, fact.reason, fact.message)
        };
        let room = used(&[("configmaps", 10), ("size", 5 << 20)]);
        assert_eq!(told(&room), (true, "Room".into(), String::new()));
        assert!(!limits.is_near(&room, None));
        let near = used(&[("configmaps", 450)]);
        let (holds, reason, message) = told(&near);
        assert!(holds && limits.is_near(&near, None), "{reason}");
        assert_eq!(message, "little room is left: configmaps: 450 of 500");
        let (holds, reason, message) = told(&used(&[("configmaps", 501), ("size", 1 << 30)]));
        assert_eq!((holds, &*reason), (false, "Full"));
        expect!["the tenant stores as much as it may (configmaps: 501 of 500, size: 1Gi of 1Gi), and more is refused until it has deleted some, whereupon its etcd gives the room back within a minute"]
            .assert_eq(&message);
        let (.., message) = told(&used(&[("configmaps", 500)]));
        assert!(message.ends_with("until it deletes some"), "{message}");
        assert_eq!(Limits::default().fact(Some(&near), None), None);
    }

    /// etcd is full when the next request doesn't fit, which is before it holds as much as it may.
    #[test]
    fn etcd_counts_as_full_when_the_largest_request_has_no_room() {
        let mut limits = limits();
        limits.hold(48 << 20);
        let said = |bytes: u64| {
            let used = used(&[("size", bytes)]);
            (
                limits.has_room(&used),
                limits.fact(Some(&used), None).unwrap().message,
            )
        };
        let (room, message) = said(46 << 20);
        assert!(room, "{message}");
        let (room, message) = said((47 << 20) + 1);
        assert!(
            !room && message.contains("(size: 48Mi of 48Mi)"),
            "{message}"
        );
        let mut unlimited = Limits::default();
        unlimited.hold(1);
        assert!(unlimited.is_empty());
    }

    #[test]
    fn what_etcd_refuses_is_told_whatever_is_limited_and_counted() {
        let refusal =
            "apply ConfigMap kube-system/sublet-stored: etcdserver: mvcc: database space exceeded";
        for limits in [limits(), Limits::default()] {
            let fact = limits.fact(None, Some(refusal)).unwrap();
            assert_eq!((fact.holds, &*fact.reason), (false, "Full"));
            let said = &fact.message;
            assert!(said.contains(&format!("size: {refusal}")), "{said}");
            assert!(
                !said.contains("nobody can tell"),
                "nothing is closed: {said}"
            );
        }
    }

    #[test]
    fn what_fills_up_quickly_is_counted_again_soon() {
        let limits = limits();
        let before = |configmaps: u64| {
            limits.status(&used(&[("configmaps", configmaps), ("size", 1 << 20)]))
        };
        let now = used(&[("configmaps", 100), ("size", 1 << 20)]);
        for (then, soon) in [(100, false), (90, false), (30, true), (120, false)] {
            assert_eq!(limits.is_near(&now, before(then).as_ref()), soon, "{then}");
        }
    }

    #[test]
    fn the_tenant_and_the_platform_are_shown_what_is_used() {
        let used = used(&[("configmaps", 12), ("size", 3 << 20)]);
        let shown = limits().shown(&used).unwrap();
        assert_eq!(
            shown.body["data"],
            json!({"configmaps": "12 of 500", "size": "3Mi of 1Gi", "widgets.example.com": "0 of 10"})
        );
        let status = limits().status(&used).unwrap();
        assert_eq!(
            (&*status.hard["size"], &*status.used["configmaps"]),
            ("1Gi", "12")
        );
    }

    #[test]
    fn only_what_is_full_is_refused_and_nobody_goes_around_it() {
        let names = |used: &Used| -> Vec<String> {
            let all = limits().authorizers(used, &[]).unwrap();
            let all = all["authorizers"].as_array().unwrap().clone();
            all.iter()
                .map(|one| one["name"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(&used(&[])), ["no-masters", "node", "rbac"]);
        assert_eq!(
            names(&used(&[("widgets.example.com", 10), ("size", 2 << 30)])),
            ["no-masters", "full.widgets.example.com", "node", "rbac"]
        );
        let full = limits()
            .authorizers(&used(&[("widgets.example.com", 10)]), &[])
            .unwrap();
        let webhook = &full["authorizers"][1]["webhook"];
        assert_eq!(webhook["failurePolicy"], "Deny");
        expect!["!(has(request.resourceAttributes) && request.resourceAttributes.verb == 'create' && request.resourceAttributes.subresource == '' && request.resourceAttributes.resource == 'widgets' && request.resourceAttributes.group == 'example.com' && !('sublet:syncer' in request.groups)) ? false : {'': true}['this tenant stores all widgets.example.com that it may: 10. Delete some']"]
            .assert_eq(webhook["matchConditions"][0]["expression"].as_str().unwrap());
        // A limit of bytes alone needs no authorizers.
        let bytes = Limits::of(&quantities(&[("size", "1Gi")]), &quantities(&[]));
        assert_eq!(bytes.authorizers(&used(&[]), &[]), None);
    }

    #[test]
    fn what_is_not_known_changes_nothing() {
        let mut cp = crate::spec::control_plane::tests::control_plane();
        let none = Lasting::new();
        assert_eq!(cp.authorizers_for(None, Some("old"), &none), None);
        cp.stored = limits();
        assert_eq!(
            cp.authorizers_for(None, Some("old"), &none).as_deref(),
            Some("old")
        );
        let open = cp.authorizers_for(None, None, &none);
        assert_eq!(open, cp.authorizers_for(Some(&Used::new()), None, &none));
    }

    /// Else who breaks his own API so that nothing can be counted would store what he likes.
    #[test]
    fn what_can_not_be_counted_stays_closed_and_is_closed_when_that_lasts() {
        let mut cp = crate::spec::control_plane::tests::control_plane();
        cp.stored = limits();
        let names = |used: &Used, now: Option<&str>, lasting: &Lasting| -> Vec<String> {
            let all = cp.authorizers_for(Some(used), now, lasting).unwrap();
            let all: Value = serde_json::from_str(&all).unwrap();
            let all = all["authorizers"].as_array().unwrap().clone();
            let names = all
                .iter()
                .map(|one| one["name"].as_str().unwrap().to_owned());
            names.filter(|name| name.contains('.')).collect()
        };
        let mut unknown = used(&[("configmaps", 1)]);
        unknown.remove("widgets.example.com");
        let none = Lasting::new();
        let lasting = Lasting::from(["widgets.example.com".to_owned()]);
        assert!(names(&unknown, None, &none).is_empty());
        assert_eq!(
            names(&unknown, None, &lasting),
            ["uncounted.widgets.example.com"]
        );
        let full = used(&[("widgets.example.com", 10)]);
        let mut now = cp.authorizers_for(Some(&full), None, &none).unwrap();
        for _ in 0..2 {
            // Once closed it stays so, until it is counted.
            let closed = names(&unknown, Some(&now), &none);
            assert_eq!(closed, ["uncounted.widgets.example.com"]);
            now = cp
                .authorizers_for(Some(&unknown), Some(&now), &none)
                .unwrap();
        }
        assert!(names(&used(&[]), Some(&now), &lasting).is_empty());

        assert!(
            cp.stored.is_near(&unknown, None),
            "it is counted again soon"
        );
        let fact = cp.stored.fact(Some(&unknown), None).unwrap();
        assert!(!fact.holds && fact.message.contains("widgets.example.com"));
    }

    #[test]
    fn what_can_not_be_counted_is_told_beside_what_is_full() {
        let mut unknown = used(&[("configmaps", 500)]);
        unknown.remove("widgets.example.com");
        for refused in [None, Some("etcd takes no more writes")] {
            let fact = limits().fact(Some(&unknown), refused).unwrap();
            assert_eq!(fact.reason, "Full");
            let both = [
                "configmaps: 500 of 500",
                "nobody can tell how many the tenant stores of widgets.example.com",
            ];
            assert!(
                both.iter().all(|said| fact.message.contains(said)),
                "{fact:?}"
            );
        }
    }

    #[test]
    fn t42_whatever_an_etcd_says_that_it_uses_can_be_told() {
        for bytes in [u64::MAX, u64::MAX - 1, (1 << 63) + 1] {
            assert!(!bytes_shown(bytes).is_empty());
            let used = used(&[("size", bytes), ("configmaps", bytes)]);
            assert!(!limits().fact(Some(&used), None).unwrap().holds);
            assert!(limits().status(&used).is_some() && limits().shown(&used).is_some());
            assert!(limits().is_near(&used, limits().status(&used).as_ref()));
        }
    }

    #[test]
    fn the_size_is_read_from_the_api_servers_metrics() {
        let told = |metrics: &str| {
            let mut told = SizeInMetrics::default();
            let heard = metrics
                .lines()
                .take_while(|line| told.hear(line).is_continue());
            let heard = heard.count();
            (told.bytes(), heard)
        };
        let metrics = "# TYPE apiserver_storage_size_bytes gauge\n\
                       apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} 2.3441408e+07\n\
                       apiserver_storage_size_bytes{storage_cluster_id=\"etcd-1\"} 5\nother 5\nanother 5\n";
        assert_eq!(told(metrics), (Some(23_441_408), 3));
        assert_eq!(told("other 5"), (None, 1));
    }
}
