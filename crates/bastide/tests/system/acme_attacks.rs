//! ACME servers that lie or break: what they issue is not published, what they say is
//! bounded, where they send is not gone to; and what was there before stays.

use std::net::SocketAddr;
use std::time::Duration;

use bastide::demo::client::http1::{self, Connection};
use bastide::demo::client::{Endpoint, Trust};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::acme::serial;
use crate::liar::{Liar, Manner};
use crate::peers::{free_address, has};
use crate::support::{Process, TestBed, get_request, read, until};

fn configuration(liar: &Liar, address: SocketAddr, more: &str) -> String {
    format!(
        "  - address: {address}\n    tls: {{ acme: {{ directory: \"{}\", trust: liar.pem, allow_private_addresses: true, \
         names: shop.test{more} }} }}\nworkers: 1\nservices:\n  here: [ http://127.0.0.1:9 ]\nroutes:\n  - {{ match: /**, to: here, \
         authenticate: none, allow: anyone }}\n",
        liar.directory()
    )
}

/// Whether a certificate that the liar's authority issued is shown for `shop.test`.
async fn is_served(testbed: &TestBed, address: SocketAddr) -> bool {
    let root = std::fs::read(testbed.path("liar.pem")).unwrap();
    let trust = Trust::new("shop.test", &root, None).unwrap();
    Connection::open(&Endpoint { address, tls: Some(trust), from: None }).await.is_ok()
}

/// A test bed with a good certificate.
async fn start() -> (TestBed, Liar, SocketAddr) {
    let mut testbed = TestBed::prepare("");
    let (liar, address) = (Liar::start(testbed.folder.path()).await, free_address());
    testbed.configure(&configuration(&liar, address, ""));
    testbed.start_gateway().await;
    until("a certificate", async || is_served(&testbed, address).await.then_some(())).await;
    (testbed, liar, address)
}

/// Has the certificate renewed by a server of this manner; gives what is said about it.
async fn renewed_by(manner: Manner) -> (String, bool) {
    let (testbed, liar, address) = start().await;
    let kept = || {
        let folder = std::fs::read_dir(testbed.path("state/acme")).unwrap().next().unwrap().unwrap();
        read(&folder.path().join("shop.test.pem"))
    };
    let before = kept();
    liar.behave(manner);
    testbed.configure(&configuration(&liar, address, ", renew_before: 30d"));
    let said = until("what is said about it", async || {
        let log = testbed.log();
        log.lines().find(|line| line.contains("no certificate for shop.test, again in")).map(str::to_owned)
    })
    .await;
    let stays = kept() == before && is_served(&testbed, address).await;
    (said, stays && testbed.admin("/readyz").await.status == 200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lies_changes_nothing() {
    let table = [
        (Manner::AnotherKey, "the certificate is for another key than the order's"),
        (
            Manner::AnotherName,
            "expected a certificate for shop.test alone, found one for [DNSName(api.test)]",
        ),
        (
            Manner::OneMoreName,
            "expected a certificate for shop.test alone, found one for [DNSName(shop.test), ",
        ),
        (Manner::Ended, "the certificate has ended"),
        (Manner::Authority, "the certificate is an authority's"),
        (Manner::NoCertificate, "expected PEM with at least one certificate, found none"),
        (Manner::Garbage, "expected value at line 1 column 1"),
        (Manner::Huge, "127.0.0.1 sent more than 262144 bytes"),
        (Manner::Redirect, "redirects (302 Found), which is not followed"),
        (Manner::Cleartext, "which is not https"),
        (Manner::ForeignName, "asks for proof of \"evil.test\", which was not ordered"),
        (Manner::Limited, "enough of you (urn:ietf:params:acme:error:rateLimited)"),
    ];
    // Two at a time: each has a process of its own.
    for pair in table.chunks(2) {
        let [(one, _), (other, _)] = pair else { panic!("an odd number") };
        let (one, other) = tokio::join!(renewed_by(*one), renewed_by(*other));
        for ((manner, wanted), (said, stays)) in pair.iter().zip([one, other]) {
            assert!(said.contains(wanted), "{manner:?}: {said}");
            assert!(stays, "{manner:?}: the old certificate is gone");
        }
    }
}

#[tokio::test]
async fn a_token_that_is_a_path_is_not_answered() {
    let mut testbed = TestBed::prepare("");
    let (liar, address) = (Liar::start(testbed.folder.path()).await, free_address());
    liar.behave(Manner::PathToken);
    testbed.configure(&configuration(&liar, address, ", challenge: http-01"));
    testbed.start_gateway().await;
    until("the refusal", async || {
        testbed.log().contains("the server's token is not base64url").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_private_server_is_reached_only_when_that_is_configured() {
    let mut testbed = TestBed::prepare("");
    let (liar, address) = (Liar::start(testbed.folder.path()).await, free_address());
    let text = configuration(&liar, address, "");
    testbed.configure(&text.replace("allow_private_addresses: true", "allow_private_addresses: false"));
    testbed.start_gateway().await;
    until("the refusal", async || {
        testbed.log().contains("127.0.0.1 is at 127.0.0.1, which is not a public address").then_some(())
    })
    .await;
    assert_eq!(liar.orders(), 0);
    // Allowed, it is asked at once.
    testbed.configure(&text);
    until("a certificate", async || is_served(&testbed, address).await.then_some(())).await;
}

#[tokio::test]
async fn a_server_that_has_had_enough_is_left_alone_over_restarts() {
    let mut testbed = TestBed::prepare("");
    let (liar, address) = (Liar::start(testbed.folder.path()).await, free_address());
    liar.behave(Manner::Limited);
    testbed.configure(&configuration(&liar, address, ""));
    testbed.start_gateway().await;
    until("the pause", async || {
        testbed.log().contains("no certificate for shop.test, again in 7200 s").then_some(())
    })
    .await;
    liar.behave(Manner::Honest);
    for _ in 0..2 {
        testbed.stop_gateway().await;
        testbed.start_gateway().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(liar.orders(), 1);
    assert_eq!(testbed.admin("/readyz").await.status, 503);
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_renewed_is_followed_once() {
    let (mut testbed, liar, address) = start().await;
    testbed.stop_gateway().await;
    liar.behave(Manner::WantsRenewal);
    testbed.start_gateway().await;
    until("the renewal", async || (liar.orders() == 2).then_some(())).await;
    until("its publication", async || {
        testbed.log().contains("a certificate for shop.test was issued").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(liar.orders(), 2);
    assert!(is_served(&testbed, address).await);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_renewed_is_shown_until_it_ends_and_no_longer() {
    if !has("openssl") {
        return;
    }
    let mut testbed = TestBed::prepare("");
    let (liar, address) = (Liar::start(testbed.folder.path()).await, free_address());
    liar.behave(Manner::Brief);
    testbed.configure(&configuration(&liar, address, ""));
    testbed.start_gateway().await;
    until("a certificate", async || is_served(&testbed, address).await.then_some(())).await;
    liar.behave(Manner::AnotherKey);
    until("a failure", async || {
        testbed.log().contains("no certificate for shop.test, again in").then_some(())
    })
    .await;
    assert!(is_served(&testbed, address).await, "{}", testbed.log());
    assert_eq!(testbed.admin("/readyz").await.status, 200);
    until("the end", async || (testbed.admin("/readyz").await.status == 503).then_some(())).await;
    // A client would refuse it anyway; here the listener does.
    until("the refusal", async || serial(address, "shop.test").await.is_none().then_some(())).await;
    let ended = "the certificate for shop.test has ended and was not renewed";
    until("the log", async || testbed.log().contains(ended).then_some(())).await;
    assert_eq!(testbed.log().matches(ended).count(), 1, "{}", testbed.log());
    // It is not taken up again by a restart either. What answers nonsense is tried again
    // after seconds.
    liar.behave(Manner::Garbage);
    testbed.stop_gateway().await;
    testbed.start_gateway().await;
    assert_eq!(serial(address, "shop.test").await, None);
    liar.behave(Manner::Honest);
    until("a new one", async || is_served(&testbed, address).await.then_some(())).await;
    assert_eq!(testbed.admin("/readyz").await.status, 200);
}

#[tokio::test]
async fn after_a_hand_over_the_new_process_orders_and_the_old_one_does_not() {
    let (mut testbed, liar, address) = start().await;
    let mut command = testbed.serve("log-2");
    command.arg("--take-over");
    let mut heir = Process::spawn(&mut command);
    assert!(testbed.gateway().ended().await.success());
    assert!(is_served(&testbed, address).await);
    assert_eq!(liar.orders(), 1);
    testbed.configure(&configuration(&liar, address, ", renew_before: 30d"));
    until("the renewal", async || {
        read(&testbed.path("log-2")).contains("a certificate for shop.test was issued").then_some(())
    })
    .await;
    assert_eq!(liar.orders(), 2);
    heir.signal(rustix::process::Signal::TERM);
    assert!(heir.ended().await.success());
}

#[tokio::test]
async fn who_may_not_come_near_is_not_sent_to_https_either() {
    let redirect = "  - address: 127.0.0.1:0\n    https_redirect: true\nroutes: []\n";
    let testbed = TestBed::start(redirect).await;
    let ask = async |testbed: &TestBed| {
        http1::ask(&Endpoint::clear(testbed.address(2)), &get_request("/a?b=c")).await.unwrap()
    };
    let answer = ask(&testbed).await;
    assert_eq!((answer.status, answer.field("location")), (308, Some("https://localhost/a?b=c")));
    // Where no host is named it would be our address, which is not told.
    for (line, status) in [("GET /a HTTP/1.0\r\n", "400"), ("GET /a HTTP/1.0\r\nhost: localhost\r\n", "308")]
    {
        let mut socket = tokio::net::TcpStream::connect(testbed.address(2)).await.unwrap();
        socket.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        assert!(!said.contains("127.0.0.1"), "{said}");
    }
    let testbed = TestBed::start(&format!("{redirect}addresses: {{ deny: 127.0.0.1 }}\n")).await;
    let answer = ask(&testbed).await;
    assert_eq!((answer.status, answer.field("location")), (403, None));
}
