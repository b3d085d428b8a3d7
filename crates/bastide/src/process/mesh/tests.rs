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
    let audit = AuditHandle::open(queues.pop().unwrap(), "mesh-audit").unwrap();
    let store = Store::in_memory(Arc::clone(&clock)).unwrap();
    (MeshHost::start(Role::Authority, audit, clock, Arc::new(SystemRandom::new())), store, log)
}

/// Ends both. Tasks that are aborted are gone once they are polled, with what they have reserved in
/// the log.
async fn close(host: MeshHost, log: ::audit::Log) {
    drop(host);
    let closing = tokio::task::spawn_blocking(move || log.close(Duration::from_secs(60)));
    closing.await.unwrap().unwrap();
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
    // For another life of certificates the trust domain is opened anew.
    let mut third = configured("rates", "gateway");
    third.settings.lifetimes.x509_svid /= 2;
    host.follow(Some(&first), Some(&store)).await.unwrap();
    host.settle().await;
    assert_eq!(known(&host), ["orders"]);
    // One that is refused afterwards, for whatever reason.
    for refused in [&second, &third] {
        host.follow(Some(refused), Some(&store)).await.unwrap();
        assert_eq!(known(&host), ["orders"]);
    }
    host.follow(Some(&first), Some(&store)).await.unwrap();
    host.settle().await;
    assert_eq!(known(&host), ["orders"]);
    for (served, name) in [(&second, "stock"), (&third, "rates")] {
        host.follow(Some(served), Some(&store)).await.unwrap();
        host.settle().await;
        assert_eq!(known(&host), [name]);
    }
    close(host, log).await;
}

#[tokio::test]
async fn a_process_that_becomes_another_workload_is_that_before_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (host, store, log) = host(folder.path());
    for own in ["gateway", "edge", "gateway"] {
        host.follow(Some(&configured("orders", own)), Some(&store)).await.unwrap();
        assert_eq!(*host.member().unwrap().id(), workload(own).id);
    }
    close(host, log).await;
}

#[tokio::test]
async fn a_process_whose_new_configuration_cannot_be_had_is_the_workload_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (events, sockets) = (folder.path().join("audit"), folder.path().join("sockets"));
    for folder in [&events, &sockets] {
        std::fs::create_dir(folder).unwrap();
    }
    let (host, store, log) = host(&events);
    host.follow(Some(&configured("orders", "gateway")), Some(&store)).await.unwrap();
    let mut impossible = configured("orders", "edge");
    let place = sockets.join("api.sock");
    impossible.socket = Some(place.clone());
    let mut elsewhere = impossible.clone();
    elsewhere.settings.lifetimes.x509_svid /= 2;
    for impossible in [impossible, elsewhere] {
        // While the certificate is waited for, somebody puts something else in the socket's place.
        let taking = async {
            while std::fs::read_dir(&sockets).unwrap().next().is_none() {
                tokio::task::yield_now().await;
            }
            std::fs::create_dir_all(place.join("something")).unwrap();
        };
        // In this order: no certificate comes between the look and the end of the wait.
        let following = host.follow(Some(&impossible), Some(&store));
        let (followed, ()) = tokio::join!(biased; following, taking);
        assert!(format!("{:#}", followed.unwrap_err()).contains("Workload API"));
        assert_eq!(*host.member().unwrap().id(), workload("gateway").id);
        std::fs::remove_dir_all(&place).unwrap();
    }
    close(host, log).await;
}

/// A partner's newest bundle is not forgotten where the trust domain is opened anew.
#[tokio::test]
async fn what_was_fetched_of_a_partner_stays_in_use_over_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let (host, store, log) = host(folder.path());
    let partner = config::Partner {
        trust_domain: "partner.example".to_owned(),
        endpoint: Some("https://127.0.0.1:1/".to_owned()),
        endpoint_id: None,
        ca: None,
        allow_private_addresses: false,
        bundle: None,
    };
    let random = SystemRandom::new();
    let signer = Arc::new(keys::LocalSigner::generate(keys::Algorithm::Es256, &random).unwrap().0);
    let now = store.clock().now();
    let terms = keys::svid::AuthorityTerms {
        trust_domain: "partner.example",
        from: now,
        until: now.plus(Duration::from_secs(3600)),
        signs_authorities: false,
    };
    let authority = keys::svid::X509Authority::self_signed(signer, &terms, &random).unwrap();
    let fetched = ::mesh::Bundle {
        trust_domain: "partner.example".to_owned(),
        x509: vec![authority.certificate().to_vec()],
        jwt: Vec::new(),
        sequence: 7,
        refresh: Duration::from_secs(60),
    };
    partners::put(&store, &partner, &fetched).await;
    let mut first = configured("orders", "gateway");
    first.partners = vec![partner];
    host.follow(Some(&first), Some(&store)).await.unwrap();
    host.settle().await;
    let foreign = async || host.running.lock().await.as_ref().unwrap().foreign.subscribe();
    let is_known = |known: &Arc<Foreign>| known.get("partner.example") == Some(&fetched);
    let mut told = foreign().await;
    tokio::time::timeout(Duration::from_secs(60), told.wait_for(is_known)).await.unwrap().unwrap();

    // Nor by the store's word alone.
    store.delete_all(&store::Key::new("mesh").name("partners")).await.unwrap();
    let mut other = first.clone();
    other.settings.lifetimes.x509_svid /= 2;
    host.follow(Some(&other), Some(&store)).await.unwrap();
    host.settle().await;
    assert!(is_known(&foreign().await.borrow()), "it is forgotten");
    close(host, log).await;
}
