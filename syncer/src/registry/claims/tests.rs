use super::*;
use serde_json::{Value, json};

fn victim() -> TenantId {
    TenantId::from_bits([7; 16])
}

/// Made on this day of January, with this of a spec.
fn hear(state: &mut RegistryState, name: &str, day: u8, spec: Value) {
    let vcp = json!({
        "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
        "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"),
            "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z")},
        "spec": spec,
    });
    let vcp = serde_json::from_value(vcp).unwrap();
    let place = ("n".to_owned(), name.to_owned());
    state.control_planes.insert(place, vcp);
}

fn proven(state: &mut RegistryState, name: &str) {
    let place = ("n".to_owned(), name.to_owned());
    let mut vcp = state.control_planes.remove(&place).unwrap();
    let proof = json!({"proof": {"kubeSystemUID": "u", "restoreCounter": 0}});
    vcp.status = Some(serde_json::from_value(proof).unwrap());
    state.control_planes.insert(place, vcp);
}

fn claim(role: &str, id: &TenantId, name: &str, data: Value) -> Object {
    let mut claim = json!({
        "metadata": {"name": name, "labels": {keys::TENANT: id.as_str(), keys::ROLE: role}},
        "data": data,
    });
    claim["apiVersion"] = "v1".into();
    claim["kind"] = "ConfigMap".into();
    Object::from_value(claim).unwrap()
}

fn identity_claim(name: &str, uid: &str) -> Object {
    let data = json!({"namespace": "n", "name": name, "uid": uid});
    claim(keys::ROLE_IDENTITY_CLAIM, &victim(), "claim", data)
}

fn slice_claim(id: &TenantId, cidr: &str) -> Object {
    claim(keys::ROLE_SLICE_CLAIM, id, cidr, json!({"cidr": cidr}))
}

fn has_it(state: &RegistryState) -> Option<&str> {
    state.holder(&victim()).map(|(_, name)| &**name)
}

#[test]
fn t46_an_identity_is_whose_the_claim_says_and_no_older_ones() {
    let mut state = RegistryState::default();
    let spec = json!({"identity": victim().as_str()});
    hear(&mut state, "victim", 2, spec.clone());
    hear(&mut state, "thief", 1, spec);
    state.claims.take(&identity_claim("victim", "uid-victim"));
    assert_eq!(has_it(&state), Some("victim"));
    let paused = json!({"identity": victim().as_str(), "paused": true});
    hear(&mut state, "thief", 1, paused);
    assert_eq!(has_it(&state), Some("victim"));
    let place = ("n".to_owned(), "thief".to_owned());
    let thief = &state.control_planes[&place];
    assert_eq!(state.identity("n", "thief", thief), None);
}

#[test]
fn t46_while_the_holder_of_a_claim_is_gone_or_made_anew_nobody_has_the_identity() {
    let mut state = RegistryState::default();
    let spec = json!({"identity": victim().as_str()});
    hear(&mut state, "thief", 1, spec.clone());
    state.claims.take(&identity_claim("victim", "uid-before"));
    assert_eq!(has_it(&state), None);
    hear(&mut state, "victim", 2, spec);
    assert_eq!(has_it(&state), None);
    // The manager moved the claim.
    state.claims.take(&identity_claim("victim", "uid-victim"));
    assert_eq!(has_it(&state), Some("victim"));
    state.claims.forget(&identity_claim("victim", "uid-victim"));
    assert_eq!(has_it(&state), Some("thief"));
}

#[test]
fn t46_without_claims_a_tenant_that_is_proven_goes_before_one_that_never_was() {
    let mut state = RegistryState::default();
    let spec = json!({"identity": victim().as_str()});
    hear(&mut state, "victim", 2, spec.clone());
    assert_eq!(has_it(&state), Some("victim"), "no manager is needed");
    proven(&mut state, "victim");
    hear(&mut state, "thief", 1, spec.clone());
    assert_eq!(has_it(&state), Some("victim"));
    hear(&mut state, "late", 3, spec);
    proven(&mut state, "late");
    assert_eq!(has_it(&state), Some("victim"));
}

#[test]
fn t46_a_slice_is_the_one_that_was_claimed() {
    let mut state = RegistryState::default();
    let spec = json!({"identity": victim().as_str(), "network": {"serviceCIDR": "10.96.4.0/22"}});
    hear(&mut state, "victim", 2, spec);
    let thief = TenantId::from_bits([8; 16]);
    let of = |state: &RegistryState, name: &str, id: &TenantId| {
        let place = ("n".to_owned(), name.to_owned());
        let slice = state.slice(id, &state.control_planes[&place]);
        slice.map(|slice| slice.to_string())
    };
    state.claims.take(&identity_claim("victim", "uid-victim"));
    assert_eq!(of(&state, "victim", &victim()), None, "not yet");
    state.claims.take(&slice_claim(&victim(), "10.96.4.0/22"));
    let claimed = Some("10.96.4.0/22".to_owned());
    assert_eq!(of(&state, "victim", &victim()), claimed);
    // A claim that says another's name now, is its.
    let name = json!({"cidr": "10.96.4.0/22"});
    let role = keys::ROLE_SLICE_CLAIM;
    state
        .claims
        .take(&claim(role, &thief, "10.96.4.0/22", name));
    assert_eq!(of(&state, "victim", &victim()), None);
    state.claims.forget(&slice_claim(&thief, "10.96.4.0/22"));
    assert!(state.claims.of.is_empty() && state.claims.slices.is_empty());
    state.claims.take(&slice_claim(&victim(), "10.96.4.0/22"));
    assert_eq!(of(&state, "victim", &victim()), claimed);

    for (day, cidr) in [
        (1, "10.96.4.0/22"),
        (1, "10.96.0.0/12"),
        (3, "10.96.5.0/24"),
        // Free, but nobody claimed it: a manager that was kept from it may refuse it yet.
        (3, "10.97.0.0/16"),
    ] {
        let spec = json!({"identity": thief.as_str(), "network": {"serviceCIDR": cidr}});
        hear(&mut state, "thief", day, spec);
        assert_eq!(of(&state, "thief", &thief), None, "{cidr}");
    }
    // The manager knows it, and refused the slice: free or not, it isn't its own.
    let data = json!({"namespace": "n", "name": "thief", "uid": "uid-thief"});
    let known = claim(keys::ROLE_IDENTITY_CLAIM, &thief, "claim-thief", data);
    state.claims.take(&known);
    assert_eq!(of(&state, "thief", &thief), None);
}

#[test]
fn t46_without_claims_a_slice_is_the_oldests() {
    let mut state = RegistryState::default();
    let thief = TenantId::from_bits([8; 16]);
    for (name, id, day, cidr) in [
        ("victim", &victim(), 2, "10.96.4.0/22"),
        ("thief", &thief, 3, "10.96.0.0/16"),
    ] {
        let spec = json!({"identity": id.as_str(), "network": {"serviceCIDR": cidr}});
        hear(&mut state, name, day, spec);
    }
    let of = |name: &str, id: &TenantId| {
        let place = ("n".to_owned(), name.to_owned());
        state.slice(id, &state.control_planes[&place])
    };
    assert!(of("victim", &victim()).is_some());
    assert_eq!(of("thief", &thief), None);
}
