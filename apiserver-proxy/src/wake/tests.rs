use super::*;
use crate::{
    index::tests::{PEM_AUTHORITY, route},
    splice::tests::pair,
    visits,
};
use std::sync::atomic::{AtomicBool, Ordering};

fn tenant(word: Option<&str>) -> Tenant {
    let mut map = route(1, "acme", &PEM_AUTHORITY);
    if let Some(word) = word {
        let data = map.data.as_mut().unwrap();
        data.insert(tenancy::route::SLEEP.into(), word.into());
    }
    Tenant::read(&map).unwrap()
}

struct World {
    index: Arc<Index>,
    waker: Arc<Waker>,
    told: visits::tests::ToldVisits,
    name: String,
}

/// A tenant that sleeps.
fn asleep(word: &str) -> World {
    asleep_before(word, visits::tests::told())
}

fn asleep_before(word: &str, (visits, told): (Visits, visits::tests::ToldVisits)) -> World {
    let index = Arc::new(Index::default());
    let tenant = tenant(Some(word));
    let name = naming::tenant_host(&tenant.id);
    index.set_tenant(("s".into(), "route".into()), tenant);
    let metrics = Arc::new(Metrics::new());
    let waker = Arc::new(Waker::new(index.clone(), visits, metrics));
    World {
        index,
        waker,
        told,
        name,
    }
}

impl World {
    fn tenant(&self) -> Arc<Tenant> {
        self.index.tenant_by_server_name(&self.name).unwrap()
    }

    fn wakes_up(&self) {
        let place = ("s".into(), "route".into());
        self.index.set_tenant(place, tenant(Some("awake")));
    }

    async fn wake(&self, name: &str, client: &TcpStream) -> Result<Arc<Tenant>, Refusal> {
        let source = Some("192.0.2.1".parse().unwrap());
        let woken = self.waker.wake(&self.tenant(), name, client, source).await;
        woken.map(|(tenant, _)| tenant)
    }
}

#[tokio::test]
async fn a_connection_is_held_until_the_tenant_is_awake() {
    let world = asleep("wakeable");
    let (_client, door) = pair().await;
    let (woken, ()) = tokio::join!(world.wake(&world.name, &door), async {
        assert_eq!(world.told.next().await, [world.tenant().id.to_string()]);
        world.wakes_up();
    });
    assert!(!is_asleep(&woken.unwrap()));
}

#[tokio::test]
async fn t40_a_name_that_may_be_guessed_wakes_nobody_and_neither_does_one_that_is_shut() {
    let (_client, door) = pair().await;
    let world = asleep("wakeable");
    let outcome = world.wake("api.example.com", &door).await;
    assert_eq!(outcome.err(), Some(Refusal::Asleep));
    let shut = asleep("shut");
    let outcome = shut.wake(&shut.name, &door).await;
    assert_eq!(outcome.err(), Some(Refusal::Asleep));
    assert!(world.told.is_silent() && shut.told.is_silent());
}

#[tokio::test]
async fn a_client_that_leaves_is_held_no_longer() {
    let world = asleep("wakeable");
    let (client, door) = pair().await;
    let (outcome, ()) = tokio::join!(world.wake(&world.name, &door), async {
        world.told.next().await;
        drop(client);
    });
    assert_eq!(outcome.err(), Some(Refusal::Broken));
    let places = world.tenant().limits.held.free();
    assert_eq!((places, world.waker.held.free()), (HELD_OF_ONE, HELD));
}

/// An API server that doesn't answer holds a connection no longer than the telling may take, and the next one tells again.
#[tokio::test(start_paused = true)]
async fn who_cannot_tell_lets_go() {
    let index = Arc::new(Index::default());
    let tenant = Arc::new(tenant(Some("wakeable")));
    let name = naming::tenant_host(&tenant.id);
    let waker = Waker::new(index, visits::tests::deaf(), Arc::new(Metrics::new()));
    let began = Instant::now();
    let (client, door) = pair().await;
    let outcome = waker.wake(&tenant, &name, &door, None).await;
    assert_eq!(outcome.err(), Some(Refusal::Broken));
    assert!(began.elapsed() < HOLD, "{:?}", began.elapsed());
    assert_eq!(*tenant.asked.lock(), None);
    // A client that leaves meanwhile is noticed.
    let began = Instant::now();
    drop(client);
    let outcome = waker.wake(&tenant, &name, &door, None).await;
    assert_eq!(outcome.err(), Some(Refusal::Broken));
    assert!(began.elapsed() < Duration::from_secs(1));
}

/// T40: who knocks and leaves at once, again and again, has the tenant woken and keeps nobody out.
#[tokio::test(start_paused = true)]
async fn t40_clients_that_leave_at_once_shut_no_tenant_off() {
    let slow = visits::tests::told_by(|| (Duration::from_secs(1), 200));
    let world = asleep_before("wakeable", slow);
    for _ in 0..10 {
        let (client, door) = pair().await;
        drop(client);
        let outcome = world.wake(&world.name, &door).await;
        assert_eq!(outcome.err(), Some(Refusal::Broken));
    }
    assert_eq!(world.told.next().await, [world.tenant().id.to_string()]);
    assert!(world.told.is_silent(), "one wake is told once");
    let (_client, door) = pair().await;
    let (woken, ()) = tokio::join!(world.wake(&world.name, &door), async {
        world.wakes_up();
    });
    assert!(!is_asleep(&woken.unwrap()));
}

/// T40: a super API server that fails for a moment uses up nothing of what a tenant may be woken.
#[tokio::test(start_paused = true)]
async fn t40_wakes_that_cannot_be_told_are_not_charged() {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = is_down.clone();
    let failing = visits::tests::told_by(move || {
        let status = if down.load(Ordering::Relaxed) {
            503
        } else {
            200
        };
        (Duration::ZERO, status)
    });
    let world = asleep_before("wakeable", failing);
    let (_client, door) = pair().await;
    for _ in 0..50 {
        let outcome = world.wake(&world.name, &door).await;
        assert_eq!(outcome.err(), Some(Refusal::Broken));
        // One source is let in so often and no more.
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    is_down.store(false, Ordering::Relaxed);
    let (woken, ()) = tokio::join!(world.wake(&world.name, &door), async {
        world.told.next().await;
        world.wakes_up();
    });
    assert!(!is_asleep(&woken.unwrap()));
}

/// As a crowd of rightful ones may be too many at once, none of them is told to give up.
#[tokio::test]
async fn t40_only_so_many_are_held_for_one_tenant_and_half_of_them_for_one_source() {
    let world = asleep("wakeable");
    let tenant = world.tenant();
    let hold = |source: &str, many: usize| -> Vec<_> {
        let source = Some(source.parse().unwrap());
        (0..many)
            .map(|_| world.waker.hold(&tenant, source))
            .collect()
    };
    let one = hold("192.0.2.2", HELD_OF_ONE);
    let held = one.iter().filter(|place| place.is_ok());
    assert_eq!(held.count(), HELD_OF_ONE / 2);
    let another = hold("192.0.2.3", HELD_OF_ONE / 2);
    assert!(another.iter().all(Result::is_ok));
    let (_client, door) = pair().await;
    let outcome = world.wake(&world.name, &door).await;
    assert_eq!(outcome.err(), Some(Refusal::Full));
    assert!(Refusal::Full.is_told() && !Refusal::Full.is_final());
    assert!(world.told.is_silent());
    drop((one, another));
    assert_eq!(world.waker.held.free(), HELD);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_closed_before_its_client_gives_up() {
    let world = asleep("wakeable");
    let (_client, door) = pair().await;
    let began = Instant::now();
    let outcome = world.wake(&world.name, &door).await;
    assert_eq!(outcome.err(), Some(Refusal::TryAgain));
    assert!(began.elapsed() >= HOLD && HOLD < Duration::from_secs(10));
    assert!(!Refusal::TryAgain.is_final());
}
