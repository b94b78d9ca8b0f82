//! What the tenant's Services get their addresses from.

use super::*;

const DEFAULT: &str = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
const OWN_ONE: &str = "/apis/networking.k8s.io/v1/servicecidrs/more";

/// What is said after one more pass: the phase, and status, reason and message of the condition.
async fn said(world: &mut World) -> (Option<Phase>, [String; 3]) {
    world.pass().await;
    world.tell();
    let status = world.vcp().status.unwrap();
    let mut told = status.conditions.iter();
    let told = told.find(|condition| condition.type_ == "ServiceCIDRReady");
    let told = told.unwrap();
    let words = [&told.status, &told.reason, &told.message].map(Clone::clone);
    (status.phase, words)
}

#[tokio::test]
async fn a_tenant_whose_services_get_no_addresses_is_not_ready_and_says_what_to_do_until_they_do() {
    let mut world = World::new().await;
    world.start().await;
    let slice = world.vcp().spec.network.service_cidr.unwrap();
    let conditions = |ready: &str| json!({"conditions": [{"type": "Ready", "status": ready}]});
    let spec = json!({"cidrs": [slice]});
    let unready = json!({"spec": spec, "status": conditions("False")});
    world.tenant.put(DEFAULT, unready);
    let (phase, [status, reason, message]) = said(&mut world).await;
    assert_eq!(phase, Some(Phase::Degraded));
    assert_eq!([status.as_str(), &reason], ["False", "NotReady"]);
    assert!(message.contains("kubectl get servicecidr"), "{message}");
    assert_eq!(world.vcp().status.unwrap().message, Some(message));

    world
        .tenant
        .change(DEFAULT, |cidr| cidr["status"] = conditions("True"));
    let (phase, [status, ..]) = said(&mut world).await;
    assert_eq!((phase, status.as_str()), (Some(Phase::Ready), "True"));

    let outside = json!({"spec": {"cidrs": ["10.200.0.0/24"]}, "status": conditions("True")});
    world.tenant.put(OWN_ONE, outside);
    let (phase, [status, reason, message]) = said(&mut world).await;
    assert_eq!(phase, Some(Phase::Ready), "it is the tenant's own affair");
    assert_eq!([status.as_str(), &reason], ["False", "OutsideSlice"]);
    assert!(message.contains("delete it"), "{message}");
}
