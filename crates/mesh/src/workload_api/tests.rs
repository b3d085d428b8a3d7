use std::time::Duration;

use http::uri::PathAndQuery;
use keys::SystemRandom;
use store::Store;
use tokio::net::UnixStream;
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::messages::{JwtBundlesRequest, JwtBundlesResponse, JwtSvidRequest, JwtSvidResponse};
use super::sds_messages::{DiscoveryRequest, DiscoveryResponse};
use super::*;
use crate::grpc::Channel;
use crate::revocation::Target;
use crate::settings::{Lifetimes, Settings};
use crate::testing::{Notes, Real, declared, not_after, verifies};
use crate::trust_domain::{Step, TrustDomain};
use crate::workload::Conditions;

mod floods;

/// A test bed of one socket, whose workloads are this very process.
struct TestBed {
    domain: Arc<TrustDomain>,
    workloads: watch::Sender<Arc<Workloads>>,
    foreign: watch::Sender<Arc<Foreign>>,
    notes: Arc<Notes>,
    socket: Socket,
    _folder: tempfile::TempDir,
}

fn mine() -> Conditions {
    Conditions { uid: vec![rustix::process::geteuid().as_raw()], ..Conditions::default() }
}

fn workload(name: &str, conditions: Conditions) -> Workload {
    let id = format!("spiffe://shop.example/{name}").parse().unwrap();
    Workload { name: name.to_owned(), id, hint: name.to_owned(), conditions, nodes: Vec::new() }
}

impl TestBed {
    async fn new(lifetimes: Lifetimes, list: Vec<Workload>) -> Self {
        Self::allowing(Allowances::default(), lifetimes, list).await
    }

    async fn allowing(allowances: Allowances, lifetimes: Lifetimes, list: Vec<Workload>) -> Self {
        let settings = Settings { lifetimes, ..Settings::new("shop.example") };
        let store = Store::in_memory(Arc::new(Real)).unwrap();
        let domain = TrustDomain::open(settings, store, Arc::new(SystemRandom::new())).await.unwrap();
        domain.declare(declared(&["orders", "orders-admin"]));
        tokio::spawn(Arc::clone(&domain).run(Arc::<Notes>::default()));
        let (workloads, known) = watch::channel(Arc::new(Workloads { list }));
        let (foreign, trusted) = watch::channel(Arc::new(Foreign::new()));
        let notes = Arc::new(Notes::default());
        let world = World {
            domain: domain.clone(),
            directory: domain.clone(),
            workloads: known,
            foreign: trusted,
            recorder: notes.clone(),
            svid_cache: SvidCache::default(),
            refusals: Refusals::default(),
            digests: Digests::default(),
            allowances,
        };
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::listen(&folder.path().join("api.sock"), world).unwrap();
        Self { domain, workloads, foreign, notes, socket, _folder: folder }
    }

    async fn usual() -> Self {
        let list = vec![workload("orders", mine()), workload("orders-admin", mine())];
        Self::new(Lifetimes::default(), list).await
    }

    async fn client(&self) -> Client {
        Client::connect(self.socket.path()).await.unwrap()
    }

    /// For what a [`Client`] does not do.
    async fn channel(&self) -> Channel {
        let stream = UnixStream::connect(self.socket.path()).await.unwrap();
        Channel::open(stream, ANSWER_BYTES_MAX).await.unwrap()
    }

    /// Now; where the machine was so slow that a certificate has ended meanwhile, at its end.
    fn verifies(&self, context: &X509Context) {
        for identity in &context.identities {
            let now = self.domain.now().min(not_after(&identity.chain[0]));
            verifies(&identity.chain, &context.anchors["shop.example"], now).unwrap();
        }
    }
}

#[tokio::test]
async fn a_process_gets_each_of_its_identities_and_each_is_written_down() {
    let testbed = TestBed::usual().await;
    let client = testbed.client().await;
    let context = client.x509().await.unwrap().next().await.unwrap().unwrap();
    let ids: Vec<&str> = context.identities.iter().map(|one| one.id.path()).collect();
    assert_eq!(ids, ["/orders", "/orders-admin"]);
    assert_eq!(context.identities[1].hint, "orders-admin");
    assert_ne!(context.identities[0].key, context.identities[1].key);
    testbed.verifies(&context);
    let audience = vec!["payments".to_owned()];
    let tokens = client.jwt(audience.clone(), None).await.unwrap();
    assert_eq!(tokens.len(), 2);
    let orders = &context.identities[0].id;
    let tokens = client.jwt(audience.clone(), Some(orders)).await.unwrap();
    assert_eq!(client.validate_jwt("payments", &tokens[0].1).await.unwrap(), orders.as_str());
    assert_eq!(client.validate_jwt("orders", &tokens[0].1).await.unwrap_err().code(), Code::InvalidArgument);
    let events = testbed.notes.events.lock().unwrap();
    let given: Vec<&str> = events.iter().map(|event| event.document.split(' ').next().unwrap()).collect();
    assert_eq!(given, ["x509", "x509", "jwt", "jwt", "jwt"]);
    assert!(events.iter().all(|event| event.refused.is_empty() && event.pid > 0));
}

#[tokio::test]
async fn who_comes_again_gets_the_same_while_it_is_fresh_and_it_is_written_down_again() {
    let testbed = TestBed::usual().await;
    let first = testbed.client().await.x509().await.unwrap().next().await.unwrap().unwrap();
    let again = testbed.client().await.x509().await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(first.identities[0].chain, again.identities[0].chain);
    assert_eq!(testbed.domain.issued(10).await.unwrap().len(), 2, "one for each workload");
    assert_eq!(testbed.notes.events.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn who_matches_nothing_gets_nothing_and_is_not_told_why() {
    let other = Conditions { uid: vec![u32::MAX - 7], ..Conditions::default() };
    let testbed = TestBed::new(Lifetimes::default(), vec![workload("orders", other)]).await;
    let client = testbed.client().await;
    let audience = vec!["payments".to_owned()];
    let id = "spiffe://shop.example/orders".parse().unwrap();
    let refusals = [
        client.x509().await.unwrap_err(),
        client.jwt(audience.clone(), None).await.unwrap_err(),
        client.jwt(audience.clone(), Some(&id)).await.unwrap_err(),
        client.jwt_bundles().await.unwrap_err(),
        client.validate_jwt("payments", "a.b.c").await.unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!((refusal.code(), refusal.message()), (Code::PermissionDenied, "no identity issued"));
    }
    let events = testbed.notes.events.lock().unwrap().clone();
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|event| event.refused.contains("not orders by its uid")), "{events:?}");

    // Registered while it runs, it is somebody.
    testbed.workloads.send_replace(Arc::new(Workloads { list: vec![workload("orders", mine())] }));
    assert!(client.x509().await.is_ok());
    let foreign = "spiffe://shop.example/payments".parse().unwrap();
    assert_eq!(client.jwt(audience, Some(&foreign)).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(client.jwt(Vec::new(), None).await.unwrap_err().code(), Code::InvalidArgument);
}

/// How a call ends that sends nothing after its head; `None`: it does not, for a while.
async fn begun(channel: &Channel) -> Option<Code> {
    let path = PathAndQuery::from_static(calls::FETCH_JWT_SVID);
    let requests = client::with_header(tokio_stream::pending::<JwtSvidRequest>());
    let mut grpc = channel.grpc();
    let answer = grpc.streaming(requests, path, ProstCodec::<JwtSvidRequest, JwtSvidResponse>::default());
    let ended = async {
        match answer.await {
            Ok(answer) => answer.into_inner().message().await.unwrap_err().code(),
            Err(status) => status.code(),
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.ok()
}

#[tokio::test]
async fn of_whoever_is_nobody_no_message_is_read_and_of_others_so_many_are_unfinished() {
    let testbed = TestBed::usual().await;
    // Over two connections: it is the user who has so many.
    let channels = [Arc::new(testbed.channel().await), Arc::new(testbed.channel().await)];
    let calls = (0..=UNFINISHED_PER_USER_MAX).map(|number| {
        let channel = Arc::clone(&channels[number % 2]);
        tokio::spawn(async move { begun(&channel).await })
    });
    let mut ended = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        ended.push(call.await.unwrap());
    }
    assert_eq!(ended.iter().filter(|code| **code == Some(Code::ResourceExhausted)).count(), 1, "{ended:?}");
    assert_eq!(ended.iter().filter(|code| code.is_none()).count(), UNFINISHED_PER_USER_MAX);
    // Those that were given up make room as soon as that is noticed.
    let makes_room = async {
        while testbed.client().await.jwt(vec!["payments".to_owned()], None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), makes_room).await.unwrap();

    let other = Conditions { uid: vec![u32::MAX - 7], ..Conditions::default() };
    let by_digest = Conditions { sha256: vec!["ab".repeat(32)], ..other.clone() };
    testbed.workloads.send_replace(Arc::new(Workloads {
        list: vec![workload("orders", other), workload("orders-admin", by_digest)],
    }));
    assert_eq!(begun(&channels[0]).await, Some(Code::PermissionDenied));
    // Where it is the digest that decides, it is made when the message is there.
    let by_digest = Conditions { sha256: vec!["ab".repeat(32)], ..mine() };
    testbed.workloads.send_replace(Arc::new(Workloads { list: vec![workload("orders", by_digest)] }));
    assert_eq!(begun(&channels[0]).await, None);
    let refused = testbed.client().await.jwt(vec!["payments".to_owned()], None).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

/// It is let in, as it may be a workload until its digest is made: each call has to look by itself.
#[tokio::test]
async fn whose_executable_alone_is_another_gets_nothing_by_any_call() {
    let by_digest = Conditions { sha256: vec!["ab".repeat(32)], ..mine() };
    let testbed = TestBed::new(Lifetimes::default(), vec![workload("orders", by_digest)]).await;
    let client = testbed.client().await;
    let id: SpiffeId = "spiffe://shop.example/orders".parse().unwrap();
    let address = "10.0.0.5:7001".parse().unwrap();
    let refusals = [
        client.x509().await.unwrap_err(),
        client.jwt(vec!["payments".to_owned()], None).await.unwrap_err(),
        client.jwt_bundles().await.unwrap_err(),
        client.validate_jwt("payments", "a.b.c").await.unwrap_err(),
        client.revoked().await.err().unwrap(),
        client.register(&id, address).await.unwrap_err(),
        client.withdraw(&id, address).await.unwrap_err(),
        client.endpoints(&[id]).await.err().unwrap(),
    ];
    for refusal in refusals {
        assert_eq!((refusal.code(), refusal.message()), (Code::PermissionDenied, "no identity issued"));
    }
    assert!(testbed.domain.endpoints().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_on_which_nobody_is_known_ends_and_one_of_a_workload_stays() {
    let testbed = TestBed::usual().await;
    let client = testbed.client().await;
    let audience = vec!["payments".to_owned()];
    assert!(client.jwt(audience.clone(), None).await.is_ok());
    let began = tokio::time::Instant::now();
    let mut silent = UnixStream::connect(testbed.socket.path()).await.unwrap();
    let until_closed = async {
        let mut bytes = [0; 1024];
        while tokio::io::AsyncReadExt::read(&mut silent, &mut bytes).await.unwrap_or(0) > 0 {}
    };
    tokio::time::timeout(visit::STRANGER_TIME_MAX * 6, until_closed).await.expect("it is closed");
    assert!(began.elapsed() >= visit::STRANGER_TIME_MAX);
    assert!(client.jwt(audience, None).await.is_ok(), "on the same connection");
}

#[tokio::test]
async fn a_call_without_its_header_is_refused() {
    let fields = |list: &[(&'static str, &'static str)]| {
        let mut fields = http::HeaderMap::new();
        for (name, value) in list {
            fields.append(*name, http::HeaderValue::from_static(value));
        }
        fields
    };
    let name = "workload.spiffe.io";
    assert!(has_header(&fields(&[(name, "true")])));
    for attack in
        [&[][..], &[(name, "")], &[(name, "True")], &[(name, "false")], &[(name, "true"), (name, "true")]]
    {
        assert!(!has_header(&fields(attack)), "{attack:?}");
    }
    let testbed = TestBed::usual().await;
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--http2-prior-knowledge", "--dump-header", "-", "--unix-socket"])
        .arg(testbed.socket.path())
        .args(["-H", "content-type: application/grpc", "--data-binary", "@/dev/null"])
        .arg(format!("http://localhost{}", calls::FETCH_X509_SVID));
    let output = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("grpc-status: 3"), "{text}");
    assert_eq!(testbed.notes.events.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn documents_are_renewed_at_half_of_their_life_with_fresh_keys() {
    let seconds = Duration::from_secs;
    let lifetimes = Lifetimes {
        authority: seconds(12),
        x509_svid: seconds(2),
        jwt_svid: seconds(1),
        ..Lifetimes::default()
    };
    let testbed = TestBed::new(lifetimes, vec![workload("orders", mine())]).await;
    let client = testbed.client().await;
    let mut updates = client.x509().await.unwrap();
    let (mut keys, mut anchors) = (Vec::new(), std::collections::BTreeSet::new());
    // Of the life that was left to each when it came, what had passed when the next one did, percent.
    let (mut passed, mut before) = (Vec::new(), None);
    // Where the machine stands still for a while, some are late: of the last ones it is the middle that
    // tells, and whoever renews at another time never has it there.
    let is_at_half = |passed: &[u128]| {
        let mut last = passed.iter().rev().take(8).copied().collect::<Vec<_>>();
        last.sort_unstable();
        last.len() == 8 && (40..80).contains(&last[4])
    };
    let begun = tokio::time::Instant::now();
    // Through a whole rotation of the authorities.
    while anchors.len() < 3 || !is_at_half(&passed) {
        assert!(begun.elapsed() < seconds(120), "{} anchors, never at half: {passed:?}", anchors.len());
        let next = tokio::time::timeout(seconds(60), updates.next()).await.unwrap();
        let (context, now) = (next.unwrap().unwrap(), testbed.domain.now());
        testbed.verifies(&context);
        anchors.extend(context.anchors["shop.example"].clone());
        let identity = &context.identities[0];
        if keys.last().map(Vec::as_slice) != Some(&identity.key[..]) {
            let ends = not_after(&identity.chain[0]);
            if let Some((came, ends)) = before.replace((now, ends)) {
                let [passed_ms, life_ms] = [now, ends].map(|at| at.since(came).as_millis());
                passed.push(passed_ms * 100 / life_ms.max(1));
            }
        }
        keys.push(identity.key.to_vec());
    }
    let told = keys.len();
    keys.dedup();
    keys.sort();
    keys.dedup();
    // Besides new keys, each change of the authorities is told.
    let changes = 2 * (anchors.len() - 1);
    assert!(keys.len() + changes >= told, "{} keys in {told} updates, {changes} changes", keys.len());
}

#[tokio::test]
async fn what_a_tainted_authority_signed_is_replaced_at_once() {
    let testbed = TestBed::usual().await;
    let client = testbed.client().await;
    let mut updates = client.x509().await.unwrap();
    let before = updates.next().await.unwrap().unwrap();
    let authority = testbed.domain.issued(10).await.unwrap()[0].authority.clone();
    testbed.domain.step(&Step::Taint(authority.clone())).await.unwrap();
    let after = updates.next().await.unwrap().unwrap();
    assert!(before.identities[0].chain != after.identities[0].chain);
    testbed.verifies(&after);
    testbed.domain.step(&Step::Revoke(authority)).await.unwrap();
    let last = updates.next().await.unwrap().unwrap();
    assert_eq!(last.identities[0].chain, after.identities[0].chain, "what is good is not made anew");
    let now = testbed.domain.now();
    assert!(verifies(&before.identities[0].chain, &last.anchors["shop.example"], now).is_err());
    testbed.verifies(&last);
}

#[tokio::test]
async fn a_revoked_certificate_is_replaced_at_once_and_a_revoked_workload_gets_nothing() {
    let testbed = TestBed::usual().await;
    let client = testbed.client().await;
    let mut updates = client.x509().await.unwrap();
    let mut revoked = client.revoked().await.unwrap();
    assert!(revoked.next().await.unwrap().unwrap().is_empty());
    let before = updates.next().await.unwrap().unwrap();
    let issued = testbed.domain.issued(10).await.unwrap();
    let orders = issued.iter().find(|one| one.id.path() == "/orders").unwrap().clone();
    testbed.domain.revoke(&Target::Serial(orders.serial.clone())).await.unwrap();
    assert!(revoked.next().await.unwrap().unwrap().has_serial(&orders.serial));
    let after = updates.next().await.unwrap().unwrap();
    assert_ne!(before.identities[0].chain, after.identities[0].chain);
    assert_eq!(before.identities[1].chain, after.identities[1].chain, "the other is as it was");

    let audience = vec!["payments".to_owned()];
    let token = client.jwt(audience.clone(), Some(&orders.id)).await.unwrap().remove(0).1;
    testbed.domain.revoke(&Target::Identity(orders.id.clone())).await.unwrap();
    let last = updates.next().await.unwrap().unwrap();
    assert_eq!(last.identities.len(), 1);
    assert_eq!(last.identities[0].id.path(), "/orders-admin");
    assert!(revoked.next().await.unwrap().unwrap().has_identity(&orders.id));
    let refused = client.jwt(audience.clone(), Some(&orders.id)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(client.validate_jwt("payments", &token).await.is_err());
    // Where it is all that a process is, the stream ends.
    testbed.workloads.send_replace(Arc::new(Workloads { list: vec![workload("orders", mine())] }));
    assert_eq!(updates.next().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(client.x509().await.unwrap_err().code(), Code::PermissionDenied);
    assert!(
        testbed
            .notes
            .events
            .lock()
            .unwrap()
            .iter()
            .any(|event| event.refused.ends_with("/orders is revoked"))
    );
    testbed.domain.lift(&Target::Identity(orders.id)).await.unwrap();
    let lifted = client.x509().await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(lifted.identities.len(), 1);
    testbed.verifies(&lifted);
}

#[tokio::test]
async fn a_workload_that_is_registered_no_more_is_told_and_gets_nothing_further() {
    let testbed = TestBed::usual().await;
    let client = testbed.client().await;
    let mut updates = client.x509().await.unwrap();
    assert_eq!(updates.next().await.unwrap().unwrap().identities.len(), 2);
    testbed.workloads.send_replace(Arc::new(Workloads { list: vec![workload("orders", mine())] }));
    assert_eq!(updates.next().await.unwrap().unwrap().identities.len(), 1);
    let path = PathAndQuery::from_static(calls::FETCH_JWT_BUNDLES);
    let codec = ProstCodec::<JwtBundlesRequest, JwtBundlesResponse>::default();
    let request = client::with_header(JwtBundlesRequest {});
    let channel = testbed.channel().await;
    let mut bundles = channel.grpc().server_streaming(request, path, codec).await.unwrap().into_inner();
    assert_eq!(bundles.message().await.unwrap().unwrap().bundles.len(), 1);
    testbed.workloads.send_replace(Arc::default());
    assert_eq!(updates.next().await.unwrap_err().code(), Code::PermissionDenied);
    let told = tokio::time::timeout(Duration::from_secs(60), bundles.message()).await;
    assert_eq!(told.unwrap().unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_given() {
    let testbed = TestBed::usual().await;
    testbed.notes.full.store(true, std::sync::atomic::Ordering::SeqCst);
    let client = testbed.client().await;
    assert_eq!(client.x509().await.unwrap_err().code(), Code::Unavailable);
    let audience = vec!["payments".to_owned()];
    assert_eq!(client.jwt(audience.clone(), None).await.unwrap_err().code(), Code::Unavailable);
    testbed.notes.full.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(client.x509().await.is_ok() && client.jwt(audience, None).await.is_ok());
}

#[tokio::test]
async fn a_request_names_so_many_secrets_and_each_is_made_once() {
    let testbed = TestBed::usual().await;
    let channel = testbed.channel().await;
    let asked =
        |names: Vec<String>| DiscoveryRequest { resource_names: names, ..DiscoveryRequest::default() };
    let codec = ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default;
    let fetch = async |names: Vec<String>| {
        let path = PathAndQuery::from_static(sds::FETCH_SECRETS);
        let answer = channel.grpc().unary(Request::new(asked(names)), path, codec()).await;
        answer.map(|answer| answer.into_inner().resources.len()).map_err(|status| status.code())
    };
    let stream = async |names: Vec<String>| {
        let path = PathAndQuery::from_static(sds::STREAM_SECRETS);
        let requests = Request::new(tokio_stream::once(asked(names)).chain(tokio_stream::pending()));
        let answer = channel.grpc().streaming(requests, path, codec()).await;
        let first = answer.unwrap().into_inner().message().await;
        first.map(|first| first.unwrap().resources.len()).map_err(|status| status.code())
    };
    let equal = |count: usize| vec!["ALL".to_owned(); count];
    let different = |count: usize| (0..count).map(|number| format!("spiffe://{number}.example")).collect();
    let over = Err(Code::InvalidArgument);
    for names in [equal(257), different(257)] {
        assert_eq!((fetch(names.clone()).await, stream(names).await), (over, over));
    }
    assert_eq!((fetch(equal(256)).await, stream(equal(256)).await), (Ok(1), Ok(1)));
    assert_eq!(fetch(different(256)).await, Err(Code::PermissionDenied), "there are no such secrets");
    let several = vec!["ROOTCA".to_owned(), "default".to_owned(), "ROOTCA".to_owned()];
    assert_eq!((fetch(several.clone()).await, stream(several).await), (Ok(2), Ok(2)));

    // Bundles of which one answer takes one and not two.
    let large = |name: &str| Bundle {
        trust_domain: name.to_owned(),
        x509: vec![vec![0; 6_500_000]],
        jwt: Vec::new(),
        sequence: 0,
        refresh: Duration::from_secs(1),
    };
    let (one, other) = (large("one.example"), large("other.example"));
    let names = vec!["spiffe://one.example".to_owned(), "spiffe://other.example".to_owned()];
    let foreign = [one, other].map(|bundle| (bundle.trust_domain.clone(), bundle));
    testbed.foreign.send_replace(Arc::new(Foreign::from(foreign)));
    assert_eq!(fetch(names[..1].to_vec()).await, Ok(1));
    assert_eq!(fetch(names).await, over);
}

#[tokio::test]
async fn another_domains_bundle_comes_along_and_verifies_its_tokens_alone() {
    let testbed = TestBed::usual().await;
    let store = Store::in_memory(Arc::new(Real)).unwrap();
    let random = Arc::new(SystemRandom::new());
    let partner = TrustDomain::open(Settings::new("partner.example"), store, random).await.unwrap();
    let audience = vec!["payments".to_owned()];
    let id = "spiffe://partner.example/billing".parse().unwrap();
    let (token, _) = partner.issue_jwt(&id, &audience).await.unwrap();
    let client = testbed.client().await;
    let mut updates = client.x509().await.unwrap();
    assert_eq!(updates.next().await.unwrap().unwrap().anchors.len(), 1);
    assert!(client.validate_jwt("payments", &token).await.is_err());

    let bundle = partner.authorities().bundle.clone();
    let foreign = Foreign::from([("partner.example".to_owned(), bundle)]);
    testbed.foreign.send_replace(Arc::new(foreign));
    let context = updates.next().await.unwrap().unwrap();
    assert_eq!(context.anchors.keys().collect::<Vec<_>>(), ["partner.example", "shop.example"]);
    assert_eq!(client.validate_jwt("payments", &token).await.unwrap(), id.as_str());
    assert_eq!(client.jwt_bundles().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_socket_takes_the_place_of_the_one_before_and_leaves_other_files_alone() {
    let testbed = TestBed::usual().await;
    let path = testbed.socket.path().to_owned();
    let world = || World {
        domain: testbed.domain.clone(),
        directory: testbed.domain.clone(),
        workloads: testbed.workloads.subscribe(),
        foreign: testbed.foreign.subscribe(),
        recorder: testbed.notes.clone(),
        svid_cache: SvidCache::default(),
        refusals: Refusals::default(),
        digests: Digests::default(),
        allowances: Allowances::default(),
    };
    let before = testbed.client().await;
    let next = Socket::listen(&path, world()).unwrap();
    assert!(before.x509().await.is_ok() && testbed.client().await.x509().await.is_ok());
    // One that is never published leaves it where it is, and nothing behind.
    drop(Socket::prepare(&path, world()).unwrap());
    assert!(testbed.client().await.x509().await.is_ok());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    drop(next);
    assert!(!path.exists());
    std::fs::write(&path, "a file").unwrap();
    assert!(Socket::listen(&path, world()).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
}

#[tokio::test]
async fn a_process_registers_as_whom_it_is_and_as_nobody_else() {
    let other = Conditions { uid: vec![u32::MAX - 7], ..Conditions::default() };
    let list = vec![workload("orders", mine()), workload("payments", other)];
    let testbed = TestBed::new(Lifetimes::default(), list).await;
    let client = testbed.client().await;
    let [orders, payments]: [SpiffeId; 2] =
        ["orders", "payments"].map(|name| format!("spiffe://shop.example/{name}").parse().unwrap());
    let address = |text: &str| text.parse::<std::net::SocketAddr>().unwrap();
    let (first, second) = (address("10.0.0.5:7001"), address("[2001:db8::5]:7001"));

    let others = (0..9).map(|number| format!("spiffe://shop.example/other-{number}").parse().unwrap());
    let wanted: Vec<SpiffeId> = [&orders, &payments, &orders].into_iter().cloned().chain(others).collect();
    let mut updates = client.endpoints(&wanted).await.unwrap();
    assert!(updates.next().await.unwrap().unwrap().is_empty(), "the first comes at once");
    assert_eq!(client.register(&orders, first).await.unwrap(), first);
    let known = updates.next().await.unwrap().unwrap();
    assert_eq!(known[&orders].iter().collect::<Vec<_>>(), [&first]);
    // Renewed, it is what it was: nobody is told, nothing is written down again.
    client.register(&orders, first).await.unwrap();
    client.register(&orders, second).await.unwrap();
    assert_eq!(updates.next().await.unwrap().unwrap()[&orders].len(), 2);

    // Whose identity is another's, or nobody's.
    for id in [&payments, &"spiffe://shop.example/nobody".parse().unwrap()] {
        assert_eq!(client.register(id, first).await.unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(client.withdraw(id, first).await.unwrap_err().code(), Code::PermissionDenied);
    }
    for wrong in ["0.0.0.0:7001", "10.0.0.5:0"] {
        assert_eq!(client.register(&orders, address(wrong)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    // Who asks for others is told of them alone.
    let mut others = client.endpoints(std::slice::from_ref(&payments)).await.unwrap();
    assert!(others.next().await.unwrap().unwrap().is_empty());

    // An address that a node has registered is registered here anew, and written down.
    let of_node = address("10.0.0.6:7001");
    testbed.domain.register_at("edge-1", &orders, of_node).await.unwrap();
    assert_eq!(updates.next().await.unwrap().unwrap()[&orders].len(), 3);
    client.register(&orders, of_node).await.unwrap();
    testbed.domain.withdraw_at("edge-1", &orders, of_node).await.unwrap();
    client.withdraw(&orders, of_node).await.unwrap();
    assert_eq!(updates.next().await.unwrap().unwrap()[&orders].len(), 2);

    client.withdraw(&orders, first).await.unwrap();
    client.withdraw(&orders, first).await.unwrap();
    let known = updates.next().await.unwrap().unwrap();
    assert_eq!(known[&orders].iter().collect::<Vec<_>>(), [&second]);
    let events = testbed.notes.events.lock().unwrap().clone();
    let given = events.iter().filter(|event| event.refused.is_empty());
    let given: Vec<(&str, &str)> = given.map(|event| (event.call, event.document.as_str())).collect();
    assert_eq!(
        given,
        [
            (endpoints::REGISTER, "endpoint 10.0.0.5:7001"),
            (endpoints::REGISTER, "endpoint [2001:db8::5]:7001"),
            (endpoints::REGISTER, "endpoint 10.0.0.6:7001"),
            (endpoints::WITHDRAW, "endpoint 10.0.0.6:7001"),
            (endpoints::WITHDRAW, "endpoint 10.0.0.5:7001"),
        ]
    );
    assert!(events.iter().any(|event| event.refused.contains("payments\", which it is not")), "{events:?}");
    let silent = tokio::time::timeout(Duration::from_millis(50), others.next()).await;
    assert!(silent.is_err(), "nothing of theirs has changed");

    // What cannot be written down does not happen.
    testbed.notes.full.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(client.register(&orders, first).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(testbed.domain.endpoints().await.unwrap().len(), 1);

    // Who is nobody any more is told nothing further, and nothing when he asks again.
    testbed.workloads.send_replace(Arc::default());
    assert_eq!(updates.next().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(client.endpoints(&[orders]).await.unwrap_err().code(), Code::PermissionDenied);
}

/// The one thread for what may wait for a disk is taken.
#[test]
fn an_executable_is_opened_where_that_holds_nobody_up() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let (stream, _other) = UnixStream::pair().unwrap();
        let caller = Arc::new(Caller::of(&stream).unwrap());
        let (leaves, stays) = std::sync::mpsc::channel::<()>();
        let other = tokio::task::spawn_blocking(move || stays.recv());
        let mut opening = std::pin::pin!(opened(&caller));
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut opening).await.is_err());
        drop(leaves);
        assert!(opening.await.is_some());
        assert!(other.await.unwrap().is_err());
    });
}
