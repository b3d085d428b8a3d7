use std::time::Duration;

use keys::SystemRandom;
use store::Store;

use super::*;
use crate::directory::Directory as _;
use crate::settings::Settings;
use crate::testing::{Hands, NOW, Notes, workload_key};
use crate::workload::Conditions;

async fn open(store: &Store) -> Arc<TrustDomain> {
    let settings = Settings::new("shop.example");
    TrustDomain::open(settings, store.clone(), Arc::new(SystemRandom::new())).await.unwrap()
}

fn workload(name: &str, path: &str, uid: u32) -> Workload {
    let conditions = Conditions { uid: vec![uid], ..Conditions::default() };
    let id = format!("spiffe://shop.example/{path}").parse().unwrap();
    Workload { name: name.to_owned(), id, hint: name.to_owned(), conditions, nodes: Vec::new() }
}

fn known(domain: &TrustDomain) -> Vec<String> {
    domain.workloads().borrow().list.iter().map(|one| one.name.clone()).collect()
}

fn declared(list: &[Workload]) -> Declared {
    let own = Some("spiffe://shop.example/gateway".parse().unwrap());
    Declared { workloads: Workloads { list: list.to_vec() }, own, here: LocalAddress::Unknown }
}

#[tokio::test]
async fn a_registered_workload_counts_at_once_everywhere_and_after_a_restart() {
    let store = Store::in_memory(Hands::new()).unwrap();
    let (domain, other) = (open(&store).await, open(&store).await);
    let task = tokio::spawn(Arc::clone(&other).run(Arc::<Notes>::default()));
    domain.declare(declared(&[workload("orders", "orders", 1)]));
    let (mut here, mut there) = (domain.workloads_here(), other.workloads());
    here.mark_unchanged();
    let edge = Workload { nodes: vec!["edge-1".to_owned()], ..workload("edge", "edge", 3) };
    domain.register(&edge, Expect::Absent).await.unwrap();
    assert!(!here.has_changed().unwrap(), "it is not here");
    let version = domain.register(&workload("stock", "ns/stock", 2), Expect::Absent).await.unwrap();
    assert_eq!(known(&domain), ["orders", "edge", "stock"]);
    let names: Vec<String> = here.borrow().list.iter().map(|one| one.name.clone()).collect();
    assert_eq!(names, ["orders", "stock"]);
    let all = there.wait_for(|known| known.list.len() == 2);
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap().unwrap();
    task.abort();
    let again = open(&store).await;
    assert_eq!(known(&again), ["edge", "stock"]);

    // Somebody else's change is not written over, nor one that was not asked for.
    let wider = workload("stock", "ns/stock", 7);
    assert!(domain.register(&wider, Expect::Absent).await.is_err());
    let next = domain.register(&wider, Expect::Version(version)).await.unwrap();
    assert!(domain.register(&wider, Expect::Version(version)).await.is_err());
    assert!(domain.unregister("stock", Expect::Version(version)).await.is_err());
    assert_eq!(domain.registration("stock").await.unwrap(), Some((wider.clone(), next)));
    assert_eq!(domain.unregister("stock", Expect::Version(next)).await.unwrap(), Some(wider));
    assert_eq!(domain.unregister("stock", Expect::Any).await.unwrap(), None);
    assert_eq!(known(&domain), ["orders", "edge"]);
}

#[tokio::test]
async fn what_the_configuration_declares_wins_its_name() {
    let store = Store::in_memory(Hands::new()).unwrap();
    let domain = open(&store).await;
    for one in [workload("stock", "stock", 1), workload("other", "orders", 1), workload("me", "gateway", 1)] {
        domain.register(&one, Expect::Absent).await.unwrap();
    }
    assert_eq!(known(&domain), ["me", "other", "stock"]);
    // The configuration comes to declare them: nobody is them by registration any more.
    let list = [workload("stock", "warehouse", 2), workload("orders", "orders", 2)];
    domain.declare(declared(&list));
    assert_eq!(domain.workloads().borrow().list, list);
    let claims = |one: &Workload| declared(&list).claims(one);
    assert_eq!(
        claims(&workload("stock", "stock", 1)).unwrap(),
        "the workload \"stock\" of the configuration: change it in `mesh.workloads`"
    );
    assert_eq!(
        claims(&workload("other", "orders", 1)).unwrap(),
        "spiffe://shop.example/orders is the workload \"orders\" of the configuration: change it in `mesh.workloads`"
    );
    assert!(claims(&workload("me", "gateway", 1)).unwrap().contains("`mesh.identity`"));
    assert_eq!(claims(&workload("free", "free", 1)), None);
    // It stops to: they are who they were.
    domain.declare(Declared::default());
    assert_eq!(known(&domain), ["me", "other", "stock"]);
}

#[tokio::test]
async fn what_cannot_be_registered_is_refused_with_the_reason() {
    let store = Store::in_memory(Hands::new()).unwrap();
    let domain = open(&store).await;
    domain.register(&workload("stock", "stock", 1), Expect::Absent).await.unwrap();
    let nobody = Workload { conditions: Conditions::default(), ..workload("a", "a", 1) };
    let elsewhere = Workload { id: "spiffe://other.example/a".parse().unwrap(), ..workload("a", "a", 1) };
    for (one, why) in [
        (nobody, "has no condition"),
        (elsewhere, "is not of the trust domain"),
        (workload("stock", "orders", 1), "remove it before another takes its name"),
    ] {
        let error = domain.register(&one, Expect::Any).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(known(&domain), ["stock"]);
}

#[tokio::test]
async fn who_is_removed_has_nothing_any_more_and_may_come_again() {
    let clock = Hands::new();
    let store = Store::in_memory(clock.clone()).unwrap();
    let domain = open(&store).await;
    let (stock, twin) = (workload("stock", "stock", 1), workload("twin", "stock", 2));
    let issue = async || domain.issue_x509(&stock.id, &workload_key()).await;
    for one in [&stock, &twin] {
        domain.register(one, Expect::Absent).await.unwrap();
    }
    let first = issue().await.unwrap();
    domain.register_at("", &stock.id, ([10, 0, 0, 5], 7001).into()).await.unwrap();
    let taken = |serial: &str| domain.revoked().certificate(&stock.id, serial).is_some();
    let is_found = || domain.watch_endpoints().borrow().contains_key(&stock.id);
    // Somebody else is of the same name still.
    domain.unregister("twin", Expect::Any).await.unwrap();
    assert!(!taken(&first.serial) && is_found());
    domain.unregister("stock", Expect::Any).await.unwrap();
    assert!(taken(&first.serial) && !is_found());
    assert_eq!(domain.endpoints().await.unwrap(), []);
    assert!(domain.revoked().token(&stock.id, Some(NOW)).is_some(), "a token of before");
    clock.forward(Duration::from_secs(1));
    domain.register(&stock, Expect::Absent).await.unwrap();
    let second = issue().await.unwrap();
    assert!(!taken(&second.serial) && taken(&first.serial));
    assert!(domain.revoked().token(&stock.id, Some(domain.now())).is_none());
    // What the operator revoked stays so.
    domain.revoke(&Target::Identity(stock.id.clone())).await.unwrap();
    domain.unregister("stock", Expect::Any).await.unwrap();
    assert!(domain.revoked().has_identity(&stock.id));
    // The configuration's own is not touched by a registration that counted for nothing.
    let orders = workload("orders", "orders", 1);
    domain.register(&orders, Expect::Absent).await.unwrap();
    let issued = domain.issue_x509(&orders.id, &workload_key()).await.unwrap();
    domain.declare(declared(&[workload("orders", "orders", 9)]));
    domain.unregister("orders", Expect::Any).await.unwrap();
    assert!(domain.revoked().certificate(&orders.id, &issued.serial).is_none());
}

#[tokio::test]
async fn who_was_found_to_be_somebody_before_its_removal_gets_nothing_after_it() {
    let clock = Hands::new();
    let store = Store::in_memory(clock.clone()).unwrap();
    // The other process is told nothing by itself.
    let (domain, other) = (open(&store).await, open(&store).await);
    let (stock, twin) = (workload("stock", "stock", 1), workload("twin", "stock", 2));
    for one in [&stock, &twin] {
        domain.register(one, Expect::Absent).await.unwrap();
    }
    other.take_registered().await.unwrap();
    let audiences = ["payments".to_owned()];
    let given = async |process: &TrustDomain| {
        let certificate = process.issue_x509(&stock.id, &workload_key()).await;
        let token = process.issue_jwt(&stock.id, &audiences).await;
        let place = process.register_at("", &stock.id, ([10, 0, 0, 5], 7001).into()).await;
        let is_given = certificate.is_ok();
        assert_eq!((is_given, is_given), (token.is_ok(), place.is_ok()));
        for error in [certificate.err(), token.err(), place.err()].into_iter().flatten() {
            assert!(matches!(error, Error::Revoked(_)), "{error}");
        }
        is_given
    };
    domain.unregister("twin", Expect::Any).await.unwrap();
    assert!(given(&domain).await && given(&other).await, "somebody else is of the same name still");
    domain.unregister("stock", Expect::Any).await.unwrap();
    assert!(!given(&domain).await && !given(&other).await);
    assert_eq!(domain.endpoints().await.unwrap(), []);
    clock.forward(Duration::from_secs(301));
    assert!(!given(&other).await, "its list is of before still");
    // Registered again, in whatever name, it is somebody, and is known to be where that is known.
    domain.register(&workload("again", "stock", 3), Expect::Absent).await.unwrap();
    assert!(given(&domain).await && !given(&other).await);
    other.take_registered().await.unwrap();
    assert!(given(&other).await);
    // Who is declared needs no registration.
    other.declare(declared(&[workload("warehouse", "stock", 1)]));
    domain.unregister("again", Expect::Any).await.unwrap();
    assert!(given(&other).await && !given(&domain).await);
}

#[tokio::test]
async fn of_two_of_one_name_that_are_removed_at_once_the_last_takes_back_what_they_have() {
    let clock = Hands::new();
    let domain = open(&Store::in_memory(clock.clone()).unwrap()).await;
    let (stock, twin) = (workload("stock", "stock", 1), workload("twin", "stock", 2));
    for _ in 0..16 {
        for one in [&stock, &twin] {
            domain.register(one, Expect::Absent).await.unwrap();
        }
        let issued = domain.issue_x509(&stock.id, &workload_key()).await.unwrap();
        let (one, other) =
            tokio::join!(domain.unregister("stock", Expect::Any), domain.unregister("twin", Expect::Any));
        assert_eq!((one.unwrap(), other.unwrap()), (Some(stock.clone()), Some(twin.clone())));
        assert!(domain.revoked().certificate(&stock.id, &issued.serial).is_some());
        assert!(domain.revoked().token(&stock.id, Some(domain.now())).is_some());
        clock.forward(Duration::from_secs(1));
    }
    // What somebody expects of it himself is not decided anew.
    domain.register(&stock, Expect::Absent).await.unwrap();
    let version = domain.register(&twin, Expect::Absent).await.unwrap();
    assert!(domain.unregister("stock", Expect::Version(version)).await.is_err());
}
