use super::*;

pub(in crate::command::explain) fn twin(uid: &str, marks: Option<(&str, &str)>) -> Twin {
    let marks = marks.map(|(tenant, uid)| Marks {
        tenant: tenant.into(),
        namespace: "default".into(),
        name: "web".into(),
        uid: uid.into(),
        role: String::new(),
        control_plane: String::new(),
    });
    Twin {
        uid: uid.into(),
        state: "Running".into(),
        why: None,
        created: None,
        deleting: false,
        marks,
    }
}

pub(in crate::command::explain) fn facts(tenant: Option<Twin>, twin: Option<Twin>) -> Facts {
    let side = |object| Side {
        namespace: "default".into(),
        name: "web".into(),
        reachable: true,
        object,
    };
    Facts {
        kind: "Pod".into(),
        tenant_name: "a".into(),
        identity: "t".into(),
        flow: Flow::Down,
        tenant: side(tenant),
        super_side: side(twin),
        place: NamespaceState::Ready,
        need: None,
        paused: false,
        without_kubelet: false,
        trouble: None,
        held: None,
        hints: Hints {
            describe: "sublet describe a".into(),
            doctor: "sublet doctor".into(),
            resume: "sublet resume a".into(),
            breaker: "sublet breaker show a".into(),
        },
        events: vec![],
        left_out: vec![],
        limits: vec![],
        asks: Amounts::new(),
    }
}

fn mine() -> Option<Twin> {
    Some(twin("u1", None))
}

fn told(facts: &Facts, synced: bool, part: &str) {
    let verdict = of(facts);
    assert!(
        verdict.synced == synced && verdict.text.contains(part),
        "{verdict:?}"
    );
}

#[test]
fn what_is_synced_is_said_to_be() {
    told(
        &facts(mine(), Some(twin("s1", Some(("t", "u1"))))),
        true,
        "is synced",
    );
}

#[test]
fn it_is_said_how_a_pod_is_reached_whose_tenant_cannot() {
    let mut facts = facts(mine(), Some(twin("s1", Some(("t", "u1")))));
    assert_eq!(of(&facts).advice, "");
    facts.without_kubelet = true;
    told(&facts, true, "is synced");
    let advice = of(&facts).advice;
    for part in ["logs", "sublet describe a", "-n default web"] {
        assert!(advice.contains(part), "{advice}");
    }
}

#[test]
fn owners_are_compared() {
    told(
        &facts(mine(), Some(twin("s1", None))),
        false,
        "isn't the tenant's",
    );
    told(
        &facts(mine(), Some(twin("s1", Some(("other", "u1"))))),
        false,
        "isn't the tenant's",
    );
    told(
        &facts(mine(), Some(twin("s1", Some(("t", "u0"))))),
        false,
        "earlier object of that name (UID u0)",
    );
    told(
        &facts(None, Some(twin("s1", Some(("t", "u1"))))),
        false,
        "gone from the tenant",
    );
    told(&facts(None, None), false, "no such object on either side");
}

#[test]
fn what_is_kept_since_deletions_are_held_is_told_so() {
    let with = |tenant, twin, reason: &str| Facts {
        held: Some(Held {
            reason: reason.into(),
            message: "30 of 40".into(),
        }),
        ..facts(tenant, twin)
    };
    let left = || Some(twin("s1", Some(("t", "u1"))));
    let open = with(None, left(), "BreakerOpen");
    told(&open, false, "kept: deletions are held (BreakerOpen)");
    assert_eq!(
        of(&open).advice,
        "the syncer says: 30 of 40; see `sublet breaker show a`"
    );
    let earlier = Some(twin("s1", Some(("t", "u0"))));
    told(
        &with(mine(), earlier, "Quarantined"),
        false,
        "(Quarantined)",
    );
    let ending = || {
        let mut own = twin("u1", None);
        own.deleting = true;
        Some(own)
    };
    for reason in ["TenantIdentityChanged", "TenantWentBack", "MarkRefused"] {
        told(&with(ending(), left(), reason), false, reason);
    }
    let ends = with(None, left(), "UpwardBreakerOpen");
    told(&ends, false, "its twin is still there");
    told(
        &with(ending(), left(), "BreakerOpen"),
        false,
        "It is being deleted.",
    );
    let upward = with(mine(), None, "UpwardBreakerOpen");
    told(&upward, false, "its end waits");
    told(
        &with(mine(), None, "BreakerOpen"),
        false,
        "isn't in the super cluster yet",
    );
}

#[test]
fn what_keeps_it_up_is_named() {
    let with = |change: fn(&mut Facts)| {
        let mut facts = facts(mine(), None);
        change(&mut facts);
        facts
    };
    told(&with(|_| ()), false, "isn't in the super cluster yet");
    told(&with(|f| f.paused = true), false, "paused");
    told(
        &with(|f| f.place = NamespaceState::Missing),
        false,
        "default isn't there yet",
    );
    told(
        &with(|f| f.place = NamespaceState::Foreign),
        false,
        "isn't the tenant's",
    );
    told(&with(|f| f.flow = Flow::Stays), true, "stay in the tenant");
    let unasked = with(|f| f.flow = Flow::Unasked("things.example.com".into()));
    told(&unasked, false, "whose class would let them cross");
    assert!(of(&unasked).advice.contains("name things.example.com"));
    told(
        &with(|f| f.tenant.reachable = false),
        false,
        "can't be asked",
    );
    told(
        &with(|f| (f.kind, f.need) = ("Secret".into(), Some(Need::By(vec![])))),
        true,
        "Nothing of its namespace that crosses refers to it",
    );
    let mut waiting = facts(mine(), None);
    waiting.trouble = Some("the syncer says: no".into());
    assert_eq!(of(&waiting).advice, "the syncer says: no");
}

#[test]
fn published_kinds_come_from_the_other_side() {
    let up = |tenant, twin| Facts {
        flow: Flow::Up,
        ..facts(tenant, twin)
    };
    told(&up(mine(), mine()), true, "published");
    told(&up(None, mine()), false, "doesn't see it");
    told(&up(mine(), None), false, "in the tenant only");
    let own = Facts {
        flow: Flow::ControlPlane,
        ..facts(mine(), mine())
    };
    told(&own, true, "stands for the tenant's API servers");
}
