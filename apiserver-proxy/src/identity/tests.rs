use super::*;
use crate::index::tests::{TestAuthority, authority, leaf, route};
use std::time::Duration;

/// 2026-01-01.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600))
}

fn gate(authorities: &[&TestAuthority]) -> Gate {
    let index = Arc::new(Index::default());
    for (n, authority) in (1u8..).zip(authorities) {
        let tenant = Tenant::read(&route(n, "acme", &authority.pem)).unwrap();
        index.set_tenant(("s".into(), n.to_string()), tenant);
    }
    Gate::new(index)
}

fn who(gate: &Gate, certificate: CertificateDer<'static>) -> Option<String> {
    let tenant = gate.identify(&[certificate], now()).ok()?;
    Some(tenant.id.to_string())
}

fn tenant(n: u8) -> Option<String> {
    Some(tenancy::tenant::TenantId::from_bits([n; 16]).to_string())
}

/// T34: a certificate is worth something at its own tenant only, and nothing once that is gone.
#[test]
fn t34_a_certificate_proves_its_own_tenant() {
    let (a, b) = (authority("a"), authority("b"));
    let both = gate(&[&a, &b]);
    assert_eq!(who(&both, leaf(&a, 3650)), tenant(1));
    assert_eq!(who(&both, leaf(&b, 3650)), tenant(2));
    assert_eq!(who(&gate(&[&a]), leaf(&b, 3650)), None, "b is gone");
    assert_eq!(who(&both, leaf(&a, 365)), None, "it has expired");
    assert_eq!(who(&both, leaf(&authority("c"), 3650)), None, "nobody's");
}

/// T34: a self-signed certificate in a tenant's name, and authorities of the same name.
#[test]
fn t34_a_name_proves_nothing() {
    let (real, forged) = (authority("a"), authority("a"));
    assert_eq!(who(&gate(&[&real]), leaf(&forged, 3650)), None);
    let twins = gate(&[&real, &forged]);
    assert_eq!(who(&twins, leaf(&real, 3650)), tenant(1));
    assert_eq!(who(&twins, leaf(&forged, 3650)), tenant(2));
    assert!(twins.identify(&[], now()).is_err());
    let garbage = CertificateDer::from(b"garbage".to_vec());
    assert_eq!(who(&twins, garbage), None);
}

#[test]
fn callers_are_not_told_who_else_is_here() {
    let gate = gate(&[&authority("a")]);
    assert!(gate.root_hint_subjects().is_empty());
    assert!(gate.client_auth_mandatory());
}
