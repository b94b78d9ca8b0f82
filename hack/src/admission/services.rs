//! Services and claims.

use serde_json::{Value, json};

use super::{Request, broken};

#[test]
fn each_attack_by_a_service_or_claim_breaks_its_rule() {
    let address = json!({"spec": {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1"}});
    assert_eq!(
        broken(
            "sublet-syncer-services",
            &Request::create("services", address)
        ),
        ["Services of tenants choose no load balancer's address"]
    );
    let claim = |spec: Value| json!({"metadata": {"name": "c"}, "spec": spec});
    let create = |spec: Value| {
        let request = Request::create("persistentvolumeclaims", claim(spec));
        broken("sublet-syncer-claims", &request)
    };
    assert_eq!(
        create(json!({"storageClassName": "fast"})),
        Vec::<String>::new()
    );
    let named = json!({"volumeName": "victims"});
    assert_eq!(
        create(named.clone()),
        ["claims of tenants choose no volume by its name"]
    );
    assert_eq!(create(json!({"selector": {}})).len(), 1);
    let across =
        json!({"dataSourceRef": {"kind": "VolumeSnapshot", "name": "s", "namespace": "victim"}});
    assert_eq!(create(across).len(), 1);
    let update = |old: Value, new: Value| {
        let request = Request::update("persistentvolumeclaims", claim(old), claim(new));
        broken("sublet-syncer-claims", &request)
    };
    // What the super cluster bound stays; another volume can't be chosen.
    assert_eq!(update(named.clone(), named.clone()), Vec::<String>::new());
    assert_eq!(update(json!({}), named.clone()).len(), 1);
    assert_eq!(update(json!({"volumeName": "own"}), named).len(), 1);
    let mut status = Request::update("persistentvolumeclaims", claim(json!({})), claim(json!({})));
    status.subresource = "status";
    assert_eq!(broken("sublet-syncer-claims", &status).len(), 1);
}
