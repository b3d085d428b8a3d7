use std::time::Duration;

use ::mesh::Settings;
use ::mesh::workload::{Conditions, Workload, Workloads};

use super::*;
use crate::process::clock::SystemClock;

fn workload(name: &str) -> Workload {
    let conditions = Conditions { uid: vec![1], ..Conditions::default() };
    let id = format!("spiffe://shop.example/{name}").parse().unwrap();
    Workload { name: name.to_owned(), id, hint: name.to_owned(), conditions, nodes: Vec::new() }
}

/// A configuration with one workload, for a process that is another.
fn configured(known: &str, own: &str) -> config::Mesh {
    config::Mesh {
        settings: Settings::new("shop.example"),
        socket: None,
        workloads: Workloads { list: vec![workload(known)] },
        partners: Vec::new(),
        identity: workload(own),
        is_member: true,
        agents: None,
        looked_up: Vec::new(),
    }
}

/// A host, the store that it is opened on, and where it writes its events.
fn host(folder: &std::path::Path) -> (MeshHost, Store, ::audit::Log) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let (log, mut queues) = ::audit::open(::audit::Settings::new(folder), 1, Arc::clone(&clock)).unwrap();
    let book = Book::open(queues.pop().unwrap(), "mesh-audit").unwrap();
    let store = Store::in_memory(Arc::clone(&clock)).unwrap();
    (MeshHost::start(Role::Authority, book, clock, Arc::new(SystemRandom::new())), store, log)
}

fn known(host: &MeshHost) -> Vec<String> {
    let known = Arc::clone(&host.domain().unwrap().workloads().borrow());
    known.list.iter().map(|workload| workload.name.clone()).collect()
}

#[tokio::test]
async fn whom_a_configuration_knows_counts_once_that_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let (host, store, log) = host(folder.path());
    let [first, second] = ["orders", "stock"].map(|name| configured(name, "gateway"));
    host.follow(Some(&first), Some(&store)).await.unwrap();
    host.settle().await;
    assert_eq!(known(&host), ["orders"]);
    // One that is refused afterwards, for whatever reason.
    host.follow(Some(&second), Some(&store)).await.unwrap();
    assert_eq!(known(&host), ["orders"]);
    host.follow(Some(&first), Some(&store)).await.unwrap();
    host.settle().await;
    assert_eq!(known(&host), ["orders"]);
    host.follow(Some(&second), Some(&store)).await.unwrap();
    host.settle().await;
    assert_eq!(known(&host), ["stock"]);
    drop(host);
    log.close(Duration::from_secs(5)).unwrap();
}

#[tokio::test]
async fn a_process_that_becomes_another_workload_is_that_before_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (host, store, log) = host(folder.path());
    for own in ["gateway", "edge", "gateway"] {
        host.follow(Some(&configured("orders", own)), Some(&store)).await.unwrap();
        assert_eq!(*host.member().unwrap().id(), workload(own).id);
    }
    drop(host);
    log.close(Duration::from_secs(5)).unwrap();
}
