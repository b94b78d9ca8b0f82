//! A change of etcd while one of its members is missing; pure.
//!
//! A StatefulSet replaces the pods that lack what is new from the last one on, and waits for none but those that have it already.
//! So a change would end a member that works while another is missing, and with it the quorum: twice if it can be made, and
//! until it is taken back if it can't. Therefore it waits until the member is back.
//!
//! It doesn't wait where nothing can be lost by it: when the missing member is the one that is replaced first, and waited for;
//! when there is no quorum; when pods are replaced only as they end; and when it mends a change that was tried and doesn't
//! come through, which is why the member is missing.

use crate::{
    lifecycle::upgrade,
    object::{Object, POD, STATEFUL_SET},
    observe::Seen,
    provision::{etcd, pod::FILES},
    running::parts::{has_had_its_time, is_ready},
};

/// A change that waits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Why.
    pub(crate) why: String,
    /// Whether those that need etcd wait with it: it is to be another etcd, or one of another authority.
    pub(crate) comes_first: bool,
}

/// How a workload isn't changed to what is wanted; `None`: it may be.
pub(crate) fn held(seen: &Seen, have: &Object, want: &Object) -> Option<Held> {
    let replicas = |of: &Object| of.number("/spec/replicas");
    // Who is put to sleep ends whatever is missing.
    if have.kind != STATEFUL_SET || replicas(have) != replicas(want) {
        return None;
    }
    let is_another = image(have) != image(want);
    if is_another && upgrade::is_taken_back(seen) {
        return None;
    }
    let why = at_stake(seen, have)?;
    let files = |of: &Object| of.body["spec"]["template"]["metadata"]["annotations"][FILES].clone();
    let comes_first = is_another || files(have) != files(want);
    Some(Held { why, comes_first })
}

/// Why etcd doesn't get another image; `None`: it may, or has it.
pub(crate) fn holds_image(seen: &Seen, wanted: &str) -> Option<String> {
    let have = seen.objects.get(STATEFUL_SET, etcd::NAME)?;
    let is_another = image(have) != wanted && !upgrade::is_taken_back(seen);
    at_stake(seen, have).filter(|_| is_another)
}

fn image(main: &Object) -> &str {
    main.text("/spec/template/spec/containers/0/image")
}

/// What a change would do to a quorum that there is.
fn at_stake(seen: &Seen, main: &Object) -> Option<String> {
    let wanted = main.number("/spec/replicas");
    let quorum = wanted / 2 + 1;
    let name = |n: i64| format!("{}-{n}", main.name());
    let works = |n: &i64| {
        let pod = seen.objects.get(POD, &name(*n));
        pod.is_some_and(|pod| is_ready(pod) && !pod.is_going())
    };
    let (ready, missing): (Vec<i64>, Vec<i64>) = (0..wanted).partition(works);
    let can_spare_none = ready.len() as i64 == quorum && !missing.is_empty();
    let is_last_replaced_first = ready.contains(&(wanted - 1));
    let on_delete = main.text("/spec/updateStrategy/type") == "OnDelete";
    let is_stuck = main.number("/status/updatedReplicas") < main.number("/status/replicas")
        && has_had_its_time(main, seen.now);
    let is_at_stake = can_spare_none && is_last_replaced_first && !on_delete && !is_stuck;
    is_at_stake.then(|| {
        let missing: Vec<String> = missing.into_iter().map(name).collect();
        format!(
            "a change of etcd waits for {}: another member would be replaced first, and {} of {wanted} can't work. It goes on once \
             that one is ready, or when the tenant is put to sleep and woken",
            missing.join(", "),
            quorum - 1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::seen;
    use jiff::SignedDuration;
    use serde_json::{Value, json};

    /// An etcd of which these pods are ready, when so many have what it was changed to long enough ago.
    fn etcd(seen: &mut Seen, pods: &[bool], updated: usize, more: Value) -> Object {
        for (n, is_ready) in pods.iter().enumerate() {
            let status = if *is_ready { "True" } else { "False" };
            let pod = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
            let name = format!("etcd-{n}");
            seen.objects.insert(Object::new(POD, Some("n"), &name, pod));
        }
        let changed = seen.now - SignedDuration::from_mins(26);
        let mut body = json!({
            "metadata": {"annotations": {api::keys::CHANGED: changed.to_string()}},
            "spec": {"replicas": pods.len()},
            "status": {"replicas": pods.len(), "updatedReplicas": updated},
        });
        body["spec"]["updateStrategy"] = more;
        Object::new(STATEFUL_SET, Some("n"), etcd::NAME, body)
    }

    #[test]
    fn a_change_waits_only_where_it_would_cost_a_quorum_that_there_is() {
        let rolling = || json!({"type": "RollingUpdate"});
        let waits = |pods: &[bool], updated, strategy: Value| {
            let mut seen = seen();
            let have = etcd(&mut seen, pods, updated, strategy);
            held(&seen, &have, &have.clone()).is_some()
        };
        let [yes, no] = [true, false];
        for (pods, expected) in [
            (vec![yes, yes, yes], false),
            (vec![no, yes, yes], true),
            (vec![yes, no, yes], true),
            // It is replaced first, and the others only once it is ready.
            (vec![yes, yes, no], false),
            // Nothing is left to lose, and it may be what mends it.
            (vec![no, no, yes], false),
            (vec![no, no, no], false),
            (vec![yes], false),
            (vec![no], false),
            // Of five one may go.
            (vec![no, yes, yes, yes, yes], false),
            (vec![no, no, yes, yes, yes], true),
        ] {
            assert_eq!(waits(&pods, pods.len(), rolling()), expected, "{pods:?}");
            assert!(!waits(&pods, pods.len(), json!({"type": "OnDelete"})));
            // What was tried doesn't come through.
            assert!(!waits(&pods, pods.len() - 1, rolling()), "{pods:?}");
        }
    }

    #[test]
    fn who_is_put_to_sleep_and_what_is_changed_still_wait_as_they_must() {
        let mut seen = seen();
        let pods = [false, true, true];
        let mut have = etcd(&mut seen, &pods, 1, Value::Null);
        have.body["spec"]["template"] = json!({
            "metadata": {"annotations": {FILES: "files"}}, "spec": {"containers": [{"image": "image"}]},
        });
        let mut asleep = have.clone();
        asleep.body["spec"]["replicas"] = json!(0);
        assert_eq!(held(&seen, &have, &asleep), None);
        assert_eq!(held(&seen, &have, &have.clone()), None, "it is stuck");
        seen.now -= SignedDuration::from_mins(20);
        let said = held(&seen, &have, &have.clone()).unwrap();
        assert!(said.why.contains("waits for etcd-0"), "{said:?}");
        assert!(!said.comes_first);
        for of in [
            "/spec/template/spec/containers/0/image",
            "/spec/template/metadata/annotations/sublet.dev~1config",
        ] {
            let mut other = have.clone();
            *other.body.pointer_mut(of).unwrap() = json!("other");
            let said = held(&seen, &have, &other).unwrap();
            assert!(said.comes_first, "{of}");
        }
        let mut server = have.clone();
        server.kind = crate::object::DEPLOYMENT;
        assert_eq!(held(&seen, &server, &server.clone()), None);
    }
}
