//! What a tenant may keep in its own etcd: so many bytes, and so many objects of a resource; pure.
//!
//! Bytes are held by etcd itself, which takes no more writes when it is full. Objects are counted now and then; while there
//! are as many of a resource as may be, the tenant's API server refuses to make more. It does so by its configuration of
//! authorizers, a file that it reads anew when it changes and that nothing inside of the tenant can reach.

use crate::{
    control_plane::ControlPlane,
    object::{CONFIG_MAP, Object},
    provision::{coredns, keys, pod::CONFIG_DIR},
    status::Fact,
};
use api::{Quantities, QuotaStatus};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenancy::quota::amount::{parse, shown};

/// Name of the limit of bytes; all others are resources, as `PLURAL` or `PLURAL.GROUP`.
pub(crate) const SIZE: &str = "size";
/// The condition that says whether there is room.
pub(crate) const CONDITION: &str = "StoredWithinLimits";
/// The ConfigMap in the tenant's kube-system that shows it.
const NAME: &str = "sublet-stored";
/// What an API server reads a webhook's address from; nothing is ever asked there.
pub(crate) const NOWHERE: &str = "nowhere.kubeconfig";
/// Counted again so soon when nothing else is to be done while there is little room left.
pub(crate) const CLOSELY: std::time::Duration = std::time::Duration::from_secs(10);
/// Hundredths of a limit from which on there is little room left.
const LITTLE: u64 = 90;

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

    /// Whether nothing is limited.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Limits that are reached, and what they are.
    fn reached<'a>(&'a self, used: &'a Used) -> impl Iterator<Item = (&'a str, u64)> {
        self.filled(used, 100)
    }

    fn filled<'a>(
        &'a self,
        used: &'a Used,
        hundredths: u64,
    ) -> impl Iterator<Item = (&'a str, u64)> {
        let is_filled = move |name: &str, limit: u64| {
            let used = used.get(name).copied().unwrap_or_default();
            u128::from(used) * 100 >= u128::from(limit) * u128::from(hundredths)
        };
        let limits = self.0.iter().map(|(name, limit)| (name.as_str(), *limit));
        limits.filter(move |(name, limit)| used.contains_key(*name) && is_filled(name, *limit))
    }

    /// Whether what there is should be counted again soon.
    pub(crate) fn is_near(&self, used: &Used) -> bool {
        self.filled(used, LITTLE).next().is_some()
    }

    /// The condition; none where nothing is limited.
    pub(crate) fn fact(&self, used: &Used) -> Option<Fact> {
        if self.is_empty() {
            return None;
        }
        let said = |(name, limit): (&str, u64)| {
            let used = used.get(name).copied().unwrap_or_default();
            format!("{name}: {} of {}", amount(name, used), amount(name, limit))
        };
        let full: Vec<String> = self.reached(used).map(said).collect();
        if !full.is_empty() {
            let message = format!(
                "the tenant stores as much as it may ({}), and more is refused until it deletes some",
                full.join(", ")
            );
            return Some(Fact::no(CONDITION, "Full", message));
        }
        let near: Vec<String> = self.filled(used, LITTLE).map(said).collect();
        let mut fact = Fact::yes(CONDITION, "Room");
        if !near.is_empty() {
            fact.reason = "NearlyFull".into();
            fact.message = format!("little room is left: {}", near.join(", "));
        }
        Some(fact)
    }

    /// For the status: limits, and what is used of them.
    pub(crate) fn status(&self, used: &Used) -> Option<QuotaStatus> {
        let said = |(name, value): (&String, &u64)| (name.clone(), amount(name, *value));
        (!self.is_empty()).then(|| QuotaStatus {
            hard: self.0.iter().map(said).collect(),
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
                Some(used) => format!("{} of {limit}", amount(name, *used)),
                None => format!("at most {limit}"),
            };
            (name.clone(), text)
        };
        let data: BTreeMap<String, String> = self.0.iter().map(said).collect();
        let body = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "sublet"}}, "data": data});
        Some(Object::new(CONFIG_MAP, Some(coredns::NAMESPACE), NAME, body).sealed())
    }

    /// The API server's authorizers while there is so much; `None` where no number is limited.
    pub(crate) fn authorizers(&self, used: &Used) -> Option<Value> {
        self.counted().next()?;
        let full = self.reached(used).filter(|(name, _)| *name != SIZE);
        let mut authorizers = vec![no_masters()];
        authorizers.extend(full.map(|(name, limit)| no_more(name, limit)));
        authorizers.push(json!({"type": "Node", "name": "node"}));
        authorizers.push(json!({"type": "RBAC", "name": "rbac"}));
        Some(json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": authorizers,
        }))
    }
}

impl ControlPlane {
    /// The authorizers for `used`, or those that the API server has while nothing is known.
    pub(crate) fn authorizers_for(&self, used: Option<&Used>, now: Option<&str>) -> Option<String> {
        let made = |used: &Used| self.stored.authorizers(used).map(|value| value.to_string());
        match (used, now) {
            (Some(used), _) => made(used),
            (None, Some(now)) if self.stored.counted().next().is_some() => Some(now.to_owned()),
            (None, _) => made(&Used::new()),
        }
    }
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

/// Refuses to make more objects of a resource, to everybody but Sublet.
fn no_more(name: &str, limit: u64) -> Value {
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    let syncer = keys::SYNCER;
    let asked = format!(
        "request.resourceAttributes.verb == 'create' && request.resourceAttributes.subresource == '' && \
         request.resourceAttributes.resource == '{plural}' && request.resourceAttributes.group == '{group}' && \
         !('{syncer}' in request.groups)"
    );
    let why = format!("this tenant stores all {name} that it may: {limit}. Delete some");
    refusing(&format!("full.{name}"), &asked, &why)
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

/// The bytes that an API server says its etcd takes, from its metrics.
pub(crate) fn bytes_told(metrics: &str) -> Option<u64> {
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_storage_size_bytes{"));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    let most = values.fold(None, |most: Option<f64>, value| {
        Some(most.map_or(value, |most| most.max(value)))
    });
    // Written as `2.3e+07`; a size is neither negative nor beyond what etcd holds.
    most.filter(|bytes| (0.0..1e15).contains(bytes))
        .map(|bytes| bytes as u64)
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

    fn used(pairs: &[(&str, u64)]) -> Used {
        let pairs = pairs.iter();
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
            let fact = limits.fact(used).unwrap();
            (fact.holds, fact.reason, fact.message)
        };
        let room = used(&[("configmaps", 10), ("size", 5 << 20)]);
        assert_eq!(told(&room), (true, "Room".into(), String::new()));
        assert!(!limits.is_near(&room));
        let near = used(&[("configmaps", 450)]);
        let (holds, reason, message) = told(&near);
        assert!(holds && limits.is_near(&near), "{reason}");
        assert_eq!(message, "little room is left: configmaps: 450 of 500");
        let (holds, reason, message) = told(&used(&[("configmaps", 501), ("size", 1 << 30)]));
        assert_eq!((holds, &*reason), (false, "Full"));
        expect!["the tenant stores as much as it may (configmaps: 501 of 500, size: 1Gi of 1Gi), and more is refused until it deletes some"]
            .assert_eq(&message);
        assert_eq!(Limits::default().fact(&near), None);
    }

    #[test]
    fn the_tenant_and_the_platform_are_shown_what_is_used() {
        let used = used(&[("configmaps", 12), ("size", 3 << 20)]);
        let shown = limits().shown(&used).unwrap();
        assert_eq!(
            shown.body["data"],
            json!({"configmaps": "12 of 500", "size": "3Mi of 1Gi", "widgets.example.com": "at most 10"})
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
            let all = limits().authorizers(used).unwrap();
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
            .authorizers(&used(&[("widgets.example.com", 10)]))
            .unwrap();
        let webhook = &full["authorizers"][1]["webhook"];
        assert_eq!(webhook["failurePolicy"], "Deny");
        expect!["!(has(request.resourceAttributes) && request.resourceAttributes.verb == 'create' && request.resourceAttributes.subresource == '' && request.resourceAttributes.resource == 'widgets' && request.resourceAttributes.group == 'example.com' && !('sublet:syncer' in request.groups)) ? false : {'': true}['this tenant stores all widgets.example.com that it may: 10. Delete some']"]
            .assert_eq(webhook["matchConditions"][0]["expression"].as_str().unwrap());
        // A limit of bytes alone needs no authorizers.
        let bytes = Limits::of(&quantities(&[("size", "1Gi")]), &quantities(&[]));
        assert_eq!(bytes.authorizers(&used(&[])), None);
    }

    #[test]
    fn what_is_not_known_changes_nothing() {
        let mut cp = crate::control_plane::tests::control_plane();
        assert_eq!(cp.authorizers_for(None, Some("old")), None);
        cp.stored = limits();
        assert_eq!(
            cp.authorizers_for(None, Some("old")).as_deref(),
            Some("old")
        );
        let open = cp.authorizers_for(None, None);
        assert_eq!(open, cp.authorizers_for(Some(&Used::new()), Some("old")));
    }

    #[test]
    fn the_size_is_read_from_the_api_servers_metrics() {
        let metrics = "# TYPE apiserver_storage_size_bytes gauge\n\
                       apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} 2.3441408e+07\nother 5\n";
        assert_eq!(bytes_told(metrics), Some(23_441_408));
        assert_eq!(bytes_told(""), None);
    }
}
