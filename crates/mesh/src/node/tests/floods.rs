//! Nodes that ask without end: each takes its own share.

use tonic::Status;

use super::messages::{EndpointRequest, EndpointResponse, Update, WatchRequest};
use super::*;
use crate::allowance::Asked;

/// A node that says what it likes.
struct Node {
    channel: Channel,
}

impl Node {
    async fn attested(control: &Control, name: &str) -> Self {
        let key = NodeKey::generate(NOW, &SystemRandom::new()).unwrap();
        let record =
            register::NodeRecord::new(name.to_owned(), "token", key.pin().unwrap(), NOW, 24 * 3600 * SECOND);
        let record = register::NodeRecord { ends: control.domain.now().plus(3600 * SECOND), ..record };
        assert!(register::admit(&control.store, key.pin().unwrap(), &record, None).await.unwrap());
        Self { channel: Channel::open(connected(control, &key).await, 1 << 20).await.unwrap() }
    }

    async fn issue(&self, name: &str) -> Result<(), Status> {
        let id = on("", name).id.to_string();
        let request = tonic::Request::new(IssueRequest { id, key: workload_key().to_spki() });
        let path = http::uri::PathAndQuery::from_static(documents::ISSUE);
        let codec = ProstCodec::<IssueRequest, IssueResponse>::default();
        self.channel.grpc().unary(request, path, codec).await.map(drop)
    }

    async fn say(&self, path: &'static str, name: &str, port: u16) -> Result<(), Status> {
        let request =
            EndpointRequest { id: on("", name).id.to_string(), address: format!("10.0.0.5:{port}") };
        let path = http::uri::PathAndQuery::from_static(path);
        let codec = ProstCodec::<EndpointRequest, EndpointResponse>::default();
        self.channel.grpc().unary(tonic::Request::new(request), path, codec).await.map(drop)
    }

    async fn watch(&self) -> Result<tonic::Streaming<Update>, Status> {
        let path = http::uri::PathAndQuery::from_static(listener::WATCH);
        let codec = ProstCodec::<WatchRequest, Update>::default();
        let request = tonic::Request::new(WatchRequest {});
        Ok(self.channel.grpc().server_streaming(request, path, codec).await?.into_inner())
    }
}

#[tokio::test]
async fn a_node_that_asks_without_end_waits_and_no_other_does() {
    let control = Control::allowing(Allowances::few(3), Lifetimes::default(), Provers::default()).await;
    let one = Node::attested(&control, "edge-1").await;
    let other = Node::attested(&control, "edge-2").await;
    let exhausted = |asked: Result<(), Status>, what: &str| {
        let status = asked.unwrap_err();
        let said = format!("this node asks for too many {what}; try again later");
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, said.as_str()));
    };
    let register = async |port| one.say(endpoints::REGISTER, "orders", port).await;
    register(1).await.unwrap();
    register(2).await.unwrap();
    register(2).await.unwrap();
    exhausted(register(2).await, "renewals of addresses");
    other.say(endpoints::REGISTER, "payments", 1).await.unwrap();
    other.say(endpoints::WITHDRAW, "payments", 1).await.unwrap();

    // An agent whose share is taken by one workload gives another what is good still.
    let agent = control.agent(Prover::Token(control.token("edge-1").await)).await;
    assert!(agent.met().await);
    let (orders, audiences) = (on("", "orders").id, ["payments".to_owned()]);
    let token = agent.remote.jwt(&orders, &audiences).await.unwrap();
    one.issue("orders").await.unwrap();
    one.issue("orders").await.unwrap();
    exhausted(one.issue("orders").await, "documents");
    assert_eq!(agent.remote.jwt(&orders, &audiences).await.unwrap(), token);
    let others = agent.remote.jwt(&orders, &["stock".to_owned()]).await;
    assert!(matches!(others, Err(Error::Exhausted(_))), "{others:?}");
    other.issue("payments").await.unwrap();
}

#[tokio::test]
async fn a_node_changes_its_addresses_only_so_often() {
    let control = Control::allowing(Allowances::few(3), Lifetimes::default(), Provers::default()).await;
    let one = Node::attested(&control, "edge-1").await;
    // Whatever it says is a word on an address; of those that are other than before, it has fewer.
    (0..3).for_each(|_| assert!(control.allowances.take("edge-1", Asked::Change)));
    for path in [endpoints::REGISTER, endpoints::WITHDRAW] {
        let refused = one.say(path, "orders", 1).await.unwrap_err();
        let said = "this node asks for too many registrations of addresses; try again later";
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, said), "{path}");
    }
    assert!(control.domain.endpoints().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_node_that_is_refused_without_end_fills_no_log() {
    let control = Control::usual().await;
    let one = Node::attested(&control, "edge-1").await;
    let began = tokio::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(one.issue("payments").await.unwrap_err().code(), Code::PermissionDenied);
    }
    let most = 10 + usize::try_from(began.elapsed().as_secs()).unwrap();
    let written = control.refusals().len();
    assert!((10..=most).contains(&written), "{written}");
    tokio::time::sleep(SECOND + SECOND / 10).await;
    assert!(one.issue("payments").await.is_err());
    let last = control.refusals().pop().unwrap();
    assert!(
        last.contains("is not registered for this node (and ") && last.contains("more from there"),
        "{last}"
    );
}

#[tokio::test]
async fn a_key_follows_what_there_is_to_know_so_many_times() {
    let control = Control::usual().await;
    let one = Node::attested(&control, "edge-1").await;
    let mut watches = Vec::new();
    for _ in 0..listener::WATCHES_PER_KEY_MAX {
        let mut watch = one.watch().await.unwrap();
        assert_eq!(watch.message().await.unwrap().unwrap().node, "edge-1");
        watches.push(watch);
    }
    assert_eq!(one.watch().await.unwrap_err().code(), Code::ResourceExhausted);
    assert!(Node::attested(&control, "edge-2").await.watch().await.is_ok());
    watches.pop();
    until("room", async || one.watch().await.ok()).await;
}

#[tokio::test]
async fn a_bundle_that_cannot_be_read_keeps_no_revocation_and_no_other_bundle_from_an_agent() {
    let control = Control::usual().await;
    let agent = control.agent(Prover::Token(control.token("edge-1").await)).await;
    assert!(agent.met().await);
    let own = control.domain.authorities().bundle.clone();
    let good = crate::Bundle { trust_domain: "partner.example".to_owned(), ..own.clone() };
    // What is told of it has no key.
    let bad =
        crate::Bundle { trust_domain: "bad.example".to_owned(), x509: Vec::new(), jwt: Vec::new(), ..own };
    let foreign = [good, bad].map(|bundle| (bundle.trust_domain.clone(), bundle));
    control.foreign.send_replace(Arc::new(foreign.into()));
    let orders = on("", "orders").id;
    control.domain.revoke(&Target::Identity(orders.clone())).await.unwrap();
    until("the revocation", async || agent.remote.revoked().has_identity(&orders).then_some(())).await;
    let told = agent.remote.foreign();
    let told = || told.borrow().keys().cloned().collect::<Vec<_>>();
    until("the other bundle", async || (told() == ["partner.example"]).then_some(())).await;
}
