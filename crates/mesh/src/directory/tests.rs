use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use keys::SystemRandom;
use model::Clock;
use store::{Expect, Store};

use super::keep::{EXPIRE, End};
use super::table::{RegistrationKey, Table};
use super::*;
use crate::error::Error;
use crate::node;
use crate::revocation::Target;
use crate::settings::Settings;
use crate::testing::{Hands, NOW, Notes, declared};
use crate::trust_domain::TrustDomain;

const SECOND: Duration = Duration::from_secs(1);

async fn open(store: &Store) -> Arc<TrustDomain> {
    let settings = Settings::new("shop.example");
    TrustDomain::open(settings, store.clone(), Arc::new(SystemRandom::new())).await.unwrap()
}

fn id(name: &str) -> SpiffeId {
    format!("spiffe://shop.example/{name}").parse().unwrap()
}

fn at(number: u16) -> SocketAddr {
    ([10, 0, 0, 5], number).into()
}

/// Services and ports.
fn known(endpoints: &Endpoints) -> Vec<(String, Vec<u16>)> {
    let ports = |known: &BTreeSet<SocketAddr>| known.iter().map(SocketAddr::port).collect();
    endpoints.iter().map(|(id, known)| (id.path().to_owned(), ports(known))).collect()
}

fn now(domain: &TrustDomain) -> Vec<(String, Vec<u16>)> {
    known(&domain.watch_endpoints().borrow())
}

/// Waits until what is told there is so.
async fn until(there: &mut watch::Receiver<Arc<Endpoints>>, is_so: impl FnMut(&Arc<Endpoints>) -> bool) {
    tokio::time::timeout(60 * SECOND, there.wait_for(is_so)).await.unwrap().unwrap();
}

fn orders(ports: &[u16]) -> Vec<(String, Vec<u16>)> {
    vec![("/orders".to_owned(), ports.to_vec())]
}

#[test]
fn what_is_no_address_of_one_machine_with_a_port_is_refused() {
    let (here, six) = (Some("192.0.2.7".parse().unwrap()), Some("2001:db8::7".parse().unwrap()));
    for (said, here, expected) in [
        ("10.0.0.5:7001", None, Some("10.0.0.5:7001")),
        ("127.0.0.1:7001", None, Some("127.0.0.1:7001")),
        ("[2001:db8::5]:7001", None, Some("[2001:db8::5]:7001")),
        ("[::ffff:10.0.0.5]:7001", None, Some("10.0.0.5:7001")),
        ("0.0.0.0:7001", here, Some("192.0.2.7:7001")),
        ("[::]:7001", here, Some("192.0.2.7:7001")),
        ("0.0.0.0:7001", six, None),
        ("[::]:7001", six, Some("[2001:db8::7]:7001")),
        ("0.0.0.0:7001", None, None),
        ("[::]:7001", None, None),
        ("0.0.0.0:0", here, None),
        ("10.0.0.5:0", None, None),
        ("169.254.169.254:80", None, None),
        ("[::ffff:169.254.169.254]:80", None, None),
        ("[fe80::1]:7001", None, None),
        ("[fe80::1%2]:7001", None, None),
        ("[2001:db8::5%2]:7001", None, None),
        ("224.0.0.1:7001", None, None),
        ("[ff02::1]:7001", None, None),
        ("255.255.255.255:7001", None, None),
    ] {
        let found = parse(said).and_then(|said| advertised(said, here)).ok().map(|found| found.to_string());
        assert_eq!(found.as_deref(), expected, "{said}");
    }
    let long = format!("[2001:db8::5%{}]:1", "0".repeat(ADDRESS_BYTES_MAX));
    for said in ["", "7001", "10.0.0.5", "orders:7001", "http://10.0.0.5:7001", "10.0.0.5:70010", &long] {
        assert!(parse(said).is_err(), "{said}");
    }
}

#[test]
fn the_next_word_is_early_enough_for_two_that_are_lost_and_never_as_everybodys() {
    let random = SystemRandom::new();
    for failures in [0, 1, 5, u32::MAX] {
        let waits: Vec<Duration> = (0..100).map(|_| pause_before_renewal(failures, &random)).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(12)), "{waits:?}");
        assert!(failures > 1 || waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
    }
    assert!(2 * Duration::from_secs(12) < LEASE);
}

#[tokio::test]
async fn an_address_is_there_while_it_is_renewed() {
    let clock = Hands::new();
    let domain = open(&Store::in_memory(clock.clone()).unwrap()).await;
    let mut told = domain.watch_endpoints();
    domain.register_at("", &id("orders"), at(1)).await.unwrap();
    domain.register_at("edge-1", &id("orders"), at(2)).await.unwrap();
    assert_eq!(now(&domain), orders(&[1, 2]));
    told.mark_unchanged();
    clock.forward(LEASE - SECOND);
    domain.register_at("", &id("orders"), at(1)).await.unwrap();
    assert!(!told.has_changed().unwrap(), "a renewal is told to nobody");
    let kept = domain.endpoints().await.unwrap().remove(0);
    assert_eq!((kept.since, kept.renewed, kept.node.as_str()), (NOW, NOW.plus(LEASE - SECOND), ""));

    domain.end_leases(&Notes::default()).await.unwrap();
    assert_eq!(now(&domain), orders(&[1, 2]));
    clock.forward(SECOND);
    domain.end_leases(&Notes::default()).await.unwrap();
    assert_eq!(now(&domain), orders(&[1]), "the other one's time is over");
    assert_eq!(domain.endpoints().await.unwrap().len(), 1);
    clock.forward(LEASE);
    domain.end_leases(&Notes::default()).await.unwrap();
    assert_eq!((now(&domain), told.has_changed().unwrap()), (Vec::new(), true));

    // Withdrawn, it is gone at once; once.
    domain.register_at("", &id("orders"), at(1)).await.unwrap();
    assert!(!domain.withdraw_at("edge-1", &id("orders"), at(1)).await.unwrap(), "another node's word");
    assert!(domain.withdraw_at("", &id("orders"), at(1)).await.unwrap());
    assert!(!domain.withdraw_at("", &id("orders"), at(1)).await.unwrap());
    assert_eq!((now(&domain), domain.endpoints().await.unwrap()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_lease_that_ends_leaves_one_event_whichever_process_ends_it() {
    let clock = Hands::new();
    let store = Store::in_memory(clock.clone()).unwrap();
    let (domain, other) = (open(&store).await, open(&store).await);
    for (node, port) in [("", 1), ("edge-1", 2)] {
        domain.register_at(node, &id("orders"), at(port)).await.unwrap();
    }
    domain.withdraw_at("", &id("orders"), at(3)).await.unwrap();
    other.take_endpoints().await.unwrap();
    let notes = Notes::default();
    clock.forward(GRACE);
    for process in [&domain, &other, &domain] {
        process.end_leases(&notes).await.unwrap();
    }
    let events = std::mem::take(&mut *notes.events.lock().unwrap());
    let said: Vec<_> = events.iter().map(|event| (event.node.as_str(), event.document.as_str())).collect();
    assert_eq!(
        said,
        [
            ("", "endpoint 10.0.0.5:1, not renewed within 30 s"),
            ("edge-1", "endpoint 10.0.0.5:2, not renewed within 30 s")
        ]
    );
    assert!(events.iter().all(|event| event.id == Some(id("orders")) && event.call == EXPIRE));
    // It is gone also when that cannot be written down.
    notes.full.store(true, Ordering::SeqCst);
    domain.register_at("", &id("orders"), at(4)).await.unwrap();
    clock.forward(LEASE);
    domain.end_leases(&notes).await.unwrap();
    assert_eq!(domain.endpoints().await.unwrap(), []);
}

#[tokio::test]
async fn no_address_is_lost_because_the_store_does_not_answer() {
    let clock = Hands::new();
    let domain = open(&Store::in_memory(clock.clone()).unwrap()).await;
    domain.register_at("", &id("orders"), at(1)).await.unwrap();
    clock.forward(LEASE);
    // Whoever is to take it out of the store cannot.
    assert_eq!(domain.overdue().len(), 1);
    assert_eq!(now(&domain), orders(&[1]));
    // It answers again: who could not renew has some time for it.
    domain.take_endpoints().await.unwrap();
    clock.forward(GRACE - SECOND);
    domain.end_leases(&Notes::default()).await.unwrap();
    assert_eq!(now(&domain), orders(&[1]));
    clock.forward(SECOND);
    // Renewed at another process, which has not been heard yet.
    let (place, version) = domain.overdue().remove(0);
    assert!(domain.take_end(&place, version, End::Renewed(version)).is_none());
    assert!(domain.overdue().is_empty());
    assert_eq!(now(&domain), orders(&[1]));
    clock.forward(LEASE);
    domain.end_leases(&Notes::default()).await.unwrap();
    assert_eq!(now(&domain), []);
}

#[tokio::test]
async fn who_registers_anew_while_the_lease_ends_is_there() {
    let clock = Hands::new();
    let store = Store::in_memory(clock.clone()).unwrap();
    let (domain, other, notes) = (open(&store).await, open(&store).await, Notes::default());
    domain.register_at("", &id("orders"), at(1)).await.unwrap();
    other.take_endpoints().await.unwrap();
    clock.forward(GRACE);
    // Its lease was taken out of the store, and that is not known here yet.
    let (place, version) = domain.overdue().remove(0);
    domain.register_at("", &id("orders"), at(1)).await.unwrap();
    assert!(domain.take_end(&place, version, End::LocalAddress).is_none());
    assert_eq!(now(&domain), orders(&[1]));
    // At another process, which has not heard of it yet.
    other.end_leases(&notes).await.unwrap();
    assert_eq!(now(&other), orders(&[1]));
    assert_eq!(domain.endpoints().await.unwrap().len(), 1);
    assert!(notes.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn other_processes_follow_and_one_that_begins_gives_everybody_time() {
    let clock = Hands::new();
    let store = Store::in_memory(clock.clone()).unwrap();
    let (domain, other) = (open(&store).await, open(&store).await);
    let task = tokio::spawn(Arc::clone(&other).run(Arc::<Notes>::default()));
    let mut there = other.watch_endpoints();
    domain.register_at("", &id("orders"), at(1)).await.unwrap();
    domain.register_at("", &id("orders"), at(2)).await.unwrap();
    until(&mut there, |now| known(now) == orders(&[1, 2])).await;
    domain.withdraw_at("", &id("orders"), at(1)).await.unwrap();
    until(&mut there, |now| known(now) == orders(&[2])).await;
    // A name that is kept as its digest.
    let long = id(&"a".repeat(store::limits::KEY_SEGMENT_BYTES_MAX));
    domain.register_at("", &long, at(2)).await.unwrap();
    until(&mut there, |now| now.contains_key(&long)).await;
    domain.withdraw_at("", &long, at(2)).await.unwrap();
    until(&mut there, |now| !now.contains_key(&long)).await;
    until(&mut there, |now| known(now) == orders(&[2])).await;
    task.abort();

    // No control plane was there for longer than a lease.
    clock.forward(2 * LEASE);
    let again = open(&store).await;
    assert_eq!(now(&again), orders(&[2]));
    assert_eq!(again.endpoints().await.unwrap(), [], "nobody has renewed it yet");
    clock.forward(GRACE - SECOND);
    again.end_leases(&Notes::default()).await.unwrap();
    assert_eq!(now(&again), orders(&[2]));
    clock.forward(SECOND);
    again.end_leases(&Notes::default()).await.unwrap();
    assert_eq!(now(&again), []);

    // For much longer.
    domain.register_at("", &id("orders"), at(3)).await.unwrap();
    clock.forward(KEPT_MAX);
    let much_later = open(&store).await;
    assert_eq!(now(&much_later), []);
}

#[tokio::test]
async fn no_lease_ends_sooner_or_later_because_a_clock_was_set() {
    let clock = Hands::new();
    let store = Store::in_memory(clock.clone()).unwrap();
    let (domain, other) = (open(&store).await, open(&store).await);
    let task = tokio::spawn(Arc::clone(&other).run(Arc::<Notes>::default()));
    let mut there = other.watch_endpoints();
    domain.register_at("", &id("orders"), at(1)).await.unwrap();
    until(&mut there, |now| known(now) == orders(&[1])).await;
    clock.set_on(10 * LEASE);
    for process in [&domain, &other] {
        process.end_leases(&Notes::default()).await.unwrap();
        assert_eq!(now(process), orders(&[1]));
    }
    domain.register_at("", &id("orders"), at(2)).await.unwrap();
    until(&mut there, |now| known(now) == orders(&[1, 2])).await;
    // What was written is of a time to come.
    clock.set_back(10 * LEASE);
    clock.forward(GRACE);
    for process in [&domain, &other] {
        process.end_leases(&Notes::default()).await.unwrap();
        assert_eq!(now(process), []);
    }
    task.abort();
}

#[tokio::test]
async fn who_is_revoked_or_evicted_is_found_nowhere_and_registers_nothing() {
    let clock = Hands::new();
    let store = Store::in_memory(clock.clone()).unwrap();
    let domain = open(&store).await;
    domain.declare(declared(&["orders", "payments", "stock"]));
    let register = async |node: &str, name: &str| domain.register_at(node, &id(name), at(1)).await;
    for (node, name) in [("", "orders"), ("edge-1", "orders"), ("edge-1", "payments"), ("edge-2", "stock")] {
        register(node, name).await.unwrap();
    }
    let left = async || {
        let list = domain.endpoints().await.unwrap();
        list.iter().map(|one| format!("{} {}", one.node, one.id.path())).collect::<Vec<_>>()
    };
    let target = Target::Identity(id("orders"));
    domain.revoke(&target).await.unwrap();
    assert_eq!(left().await, ["edge-1 /payments", "edge-2 /stock"]);
    assert!(!now(&domain).iter().any(|(name, _)| name == "/orders"));
    assert!(matches!(register("", "orders").await, Err(Error::Revoked(_))));
    domain.lift(&target).await.unwrap();
    assert_eq!(left().await.len(), 2, "it has to come itself");
    register("", "orders").await.unwrap();

    node::evict(&domain, "edge-1").await.unwrap();
    assert_eq!(left().await, [" /orders", "edge-2 /stock"]);
    assert!(matches!(register("edge-1", "payments").await, Err(Error::Revoked(_))));
    node::readmit(&domain, "edge-1").await.unwrap();
    register("edge-1", "payments").await.unwrap();

    let foreign = "spiffe://other.example/orders".parse().unwrap();
    assert!(domain.register_at("", &foreign, at(1)).await.is_err());
}

#[tokio::test]
async fn a_node_is_withdrawn_whole_however_many_addresses_there_are_in_a_few_writes() {
    let store = Store::in_memory(Hands::new()).unwrap();
    let domain = open(&store).await;
    let address = |number: usize| SocketAddr::from(([10, 0, 0, 5], u16::try_from(number).unwrap()));
    for node in ["edge-1", "edge-2"] {
        for several in (0..ALL_MAX / 2 + 1_000).collect::<Vec<_>>().chunks(512) {
            let transaction = several.iter().fold(store::Transaction::new(), |all, number| {
                let key = store::Key::new("mesh").name("endpoints").hidden(id("orders").as_str());
                let key = key.hidden(node).hidden(address(*number).to_string());
                all.put(key, "", None, Expect::Absent)
            });
            store.commit(transaction).await.unwrap();
        }
    }
    let before = store.version().number();
    node::evict(&domain, "edge-1").await.unwrap();
    let writes = store.version().number() - before;
    assert!(writes < 100, "{writes} writes");
    let left = store.scan_all(&store::Key::new("mesh").name("endpoints"), 2 * ALL_MAX).await.unwrap();
    assert_eq!(left.len(), ALL_MAX / 2 + 1_000);
    assert!(left.iter().all(|record| record.key.text(3) == Some("edge-2")));
}

/// Goes on by a second at one of the next looks at it.
struct Leaping {
    hands: Arc<Hands>,
    looks_left: AtomicI64,
}

impl Clock for Leaping {
    fn now(&self) -> Timestamp {
        if self.looks_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.hands.forward(SECOND);
        }
        self.hands.now()
    }

    fn monotonic(&self) -> Duration {
        self.hands.monotonic()
    }
}

#[tokio::test]
async fn who_was_lifted_registers_also_while_the_word_on_it_ends() {
    let clock = Arc::new(Leaping { hands: Hands::new(), looks_left: AtomicI64::new(0) });
    let domain = open(&Store::in_memory(clock.clone()).unwrap()).await;
    domain.declare(declared(&["orders"]));
    let target = Target::Identity(id("orders"));
    for looks in 1..12 {
        domain.revoke(&target).await.unwrap();
        domain.lift(&target).await.unwrap();
        clock.hands.forward(domain.settings().lifetimes.jwt_svid - SECOND);
        clock.looks_left.store(looks, Ordering::SeqCst);
        domain.register_at("", &id("orders"), at(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_service_and_a_node_have_so_many_addresses_and_no_other_pays_for_them() {
    let domain = open(&Store::in_memory(Hands::new()).unwrap()).await;
    let register = async |name: &str, number: u16| domain.register_at("", &id(name), at(number)).await;
    for number in 1..=u16::try_from(PER_SERVICE_MAX).unwrap() {
        register("orders", number).await.unwrap();
    }
    let refused = register("orders", 7_000).await;
    assert!(matches!(&refused, Err(Error::Exhausted(why)) if why.contains("/orders")), "{refused:?}");
    register("orders", 1).await.expect("one that is there is renewed");
    register("payments", 1).await.expect("another service");
    domain.withdraw_at("", &id("orders"), at(1)).await.unwrap();
    register("orders", 7_000).await.expect("in the place of another");
}

/// The place of a service on a node.
fn place(service: usize, node: usize) -> RegistrationKey {
    RegistrationKey { id: id(&format!("s{service}")), node: format!("edge-{node}"), address: at(1) }
}

fn put(table: &mut Table, place: RegistrationKey, ends: Duration) -> bool {
    let RegistrationKey { id, node, address } = place;
    let kept = Registration { id, node, address, since: NOW, renewed: NOW };
    table.put(&kept, ends, store::Version::from_number(1))
}

#[test]
fn what_is_gone_makes_room_on_its_node() {
    let mut table = Table::default();
    let fill = |table: &mut Table, count: usize, of: &dyn Fn(usize) -> RegistrationKey| {
        for number in 0..count {
            put(table, of(number), LEASE);
        }
        [table.full(&place(ALL_MAX, 1)), table.full(&place(ALL_MAX, ALL_MAX))].map(|why| why.is_none())
    };
    let here = |number: usize| place(number, 1);
    assert_eq!(fill(&mut table, PER_NODE_MAX - 1, &here), [true, true]);
    assert_eq!(fill(&mut table, PER_NODE_MAX, &here), [false, true]);
    let spread = |number: usize| place(number, 2 + number / 100);
    assert_eq!(fill(&mut table, ALL_MAX - PER_NODE_MAX - 1, &spread), [false, true]);
    assert_eq!(fill(&mut table, ALL_MAX - PER_NODE_MAX, &spread), [false, false]);
    for (remove, room) in [(true, true), (false, true)] {
        assert_eq!(table.remove(&here(0)), remove);
        assert_eq!(table.full(&place(ALL_MAX, 1)).is_none(), room);
    }
    assert_eq!(fill(&mut table, 1, &here), [false, false]);
    // Of a service: there, and on the other node where it is.
    assert!(table.remove_all(&here(0).id) && !table.remove_all(&here(0).id));
    assert!(table.full(&place(ALL_MAX, 1)).is_none());
    assert_eq!(fill(&mut table, 1, &here), [false, true]);
    let over = table.over(LEASE);
    assert_eq!(over.len(), ALL_MAX - 1);
    over.iter().for_each(|(place, _)| assert!(table.remove(place)));
    assert!(table.over(LEASE).is_empty());
    assert_eq!((table.next_end(), table.endpoints()), (None, Endpoints::new()));
    assert_eq!(fill(&mut table, PER_NODE_MAX - 1, &here), [true, true]);
}

#[test]
fn each_ends_when_it_was_not_renewed_whatever_the_others_do() {
    let mut table = Table::default();
    let after = |seconds: u32| seconds * SECOND;
    let ended = |table: &mut Table, seconds: u32| {
        let over = table.over(after(seconds)).into_iter();
        over.map(|(place, _)| table.remove(&place).then(|| place.id.path().to_owned()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!((table.next_end(), ended(&mut table, 0)), (None, Vec::new()));
    for (service, end) in [(1, 30), (2, 31), (3, 60)] {
        assert!(put(&mut table, place(service, 1), after(end)));
    }
    assert_eq!(table.next_end(), Some(after(30)));
    assert!(!put(&mut table, place(1, 1), after(40)));
    assert_eq!(ended(&mut table, 29), [""; 0]);
    assert_eq!(ended(&mut table, 30), [""; 0], "it was renewed");
    assert_eq!(table.next_end(), Some(after(31)));
    assert_eq!(ended(&mut table, 31), ["/s2"]);
    assert!(put(&mut table, place(4, 1), after(35)), "one that ends before the others");
    assert_eq!(ended(&mut table, 35), ["/s4"]);
    assert!(table.remove(&place(1, 1)));
    assert_eq!(ended(&mut table, 40), [""; 0]);
    assert_eq!(table.next_end(), Some(after(60)));
    assert_eq!(ended(&mut table, 70), ["/s3"]);
}

fn told(services: &[(&str, &[u16])]) -> Endpoints {
    let one = |(name, ports): &(&str, &[u16])| (id(name), ports.iter().map(|port| at(*port)).collect());
    services.iter().map(one).collect()
}

#[test]
fn differences_make_the_one_of_the_other() {
    let states = [
        told(&[]),
        told(&[("orders", &[1])]),
        told(&[("orders", &[1, 2]), ("payments", &[1])]),
        told(&[("payments", &[2])]),
        told(&[("stock", &[3]), ("orders", &[1])]),
    ];
    for before in &states {
        for after in &states {
            let mut known = before.clone();
            apply(&mut known, differences(before, after)).unwrap();
            assert_eq!(known, *after);
        }
        assert_eq!(differences(before, before), []);
    }
    let changed = differences(&states[2], &states[1]);
    assert_eq!(changed.len(), 2, "{changed:?}");
    // What cannot be read changes nothing.
    let wrong = ServiceAt { id: "spiffe://shop.example/orders".to_owned(), addresses: vec!["x".to_owned()] };
    let mut known = states[2].clone();
    let gone = ServiceAt { id: id("payments").as_str().to_owned(), addresses: Vec::new() };
    assert!(apply(&mut known, vec![gone, wrong]).is_err());
    assert_eq!(known, states[2]);
}

#[test]
fn what_was_told_last_is_used_for_a_while_and_beside_what_is_told_anew_for_a_shorter_one() {
    let mut held = Held::default();
    let say = |held: &mut Held, services: &[(&str, &[u16])], now: Duration| {
        let news = differences(&Endpoints::new(), &told(services));
        held.take(news, now).unwrap();
    };
    let began = 5 * SECOND;
    held.begin(began);
    say(&mut held, &[("orders", &[1, 2])], began);
    assert_eq!(held.shown(began), told(&[("orders", &[1, 2])]));
    // The control plane is away, then back: leases have ended meanwhile.
    let back = began + KEPT_MAX;
    assert_eq!(held.shown(back), told(&[("orders", &[1, 2])]));
    assert_eq!(held.shown(back + SECOND), told(&[]), "nobody said anything for too long");
    held.begin(back);
    say(&mut held, &[("orders", &[3]), ("payments", &[4])], back);
    assert_eq!(held.shown(back), told(&[("orders", &[1, 2, 3]), ("payments", &[4])]));
    say(&mut held, &[("orders", &[1, 3])], back + SECOND);
    // It goes once more: what was left of before does not stay for longer because of that.
    let again = back + GRACE - SECOND;
    held.begin(again);
    say(&mut held, &[("orders", &[1])], again);
    assert_eq!(held.shown(again), told(&[("orders", &[1, 2, 3]), ("payments", &[4])]));
    assert_eq!(held.shown(back + GRACE), told(&[("orders", &[1, 3]), ("payments", &[4])]));
    assert_eq!(held.shown(again + GRACE), told(&[("orders", &[1])]));
    // What is taken out by whoever is there is out at once, also then.
    let gone = differences(&told(&[("orders", &[1])]), &told(&[]));
    held.take(gone, again + SECOND).unwrap();
    assert_eq!(held.shown(again + SECOND), told(&[("orders", &[3]), ("payments", &[4])]));
    // What was over does not come back.
    say(&mut held, &[("orders", &[5])], again + SECOND);
    let late = again + 2 * KEPT_MAX;
    held.begin(late);
    say(&mut held, &[], late);
    assert_eq!(held.shown(late), told(&[]));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_hides_no_other() {
    let store = Store::in_memory(Hands::new()).unwrap();
    let domain = open(&store).await;
    domain.register_at("", &id("orders"), at(1)).await.unwrap();
    let key =
        store::Key::new("mesh").name("endpoints").hidden("spiffe://shop.example/x").hidden("").hidden("y");
    store.put(key, "no registration", None, Expect::Any).await.unwrap();
    let again = open(&store).await;
    assert_eq!(now(&again), orders(&[1]));
    assert_eq!(domain.endpoints().await.unwrap().len(), 1);
    domain.register_at("edge-1", &id("orders"), at(2)).await.unwrap();
    node::evict(&domain, "edge-1").await.unwrap();
    domain.revoke(&Target::Identity(id("orders"))).await.unwrap();
    assert_eq!(domain.endpoints().await.unwrap(), []);
}
