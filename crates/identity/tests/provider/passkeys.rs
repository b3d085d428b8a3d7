//! Passkeys: enrolled, as the second factor and alone; and signatures that prove something
//! else. The authenticator here is made to misbehave; an honest one that we did not write is
//! Chromium's, in `cargo xtask suite oidc`.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use ciborium::Value as Cbor;
use keys::encoding::encode_base64url;
use serde_json::{Value, json};

use crate::support::{Browser, PASSWORD, Reply, TestBed, payload, read_form};

const PARTY: &str = "id.example.org";
const ORIGIN: &str = "https://id.example.org";
const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const ELIGIBLE: u8 = 0x08;
const CREATED: u8 = 0x40;

/// What an authenticator could say instead of the truth.
#[derive(Clone)]
struct Say {
    kind: &'static str,
    challenge: Option<String>,
    origin: &'static str,
    cross_origin: bool,
    top_origin: Option<&'static str>,
    party: &'static str,
    flags: u8,
    handle: Option<String>,
    tail: &'static [u8],
}

impl Default for Say {
    fn default() -> Self {
        Self {
            kind: "",
            challenge: None,
            origin: ORIGIN,
            cross_origin: false,
            top_origin: None,
            party: PARTY,
            flags: PRESENT | VERIFIED,
            handle: None,
            tail: b"",
        }
    }
}

struct Authenticator {
    pair: EcdsaKeyPair,
    id: Vec<u8>,
    handle: String,
    count: u32,
}

impl Authenticator {
    fn new(id: u8) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        Self { pair, id: vec![id; 32], handle: String::new(), count: 0 }
    }

    fn client_data(options: &Value, kind: &str, say: &Say) -> Vec<u8> {
        let kind = if say.kind.is_empty() { kind } else { say.kind };
        let challenge =
            say.challenge.clone().unwrap_or_else(|| options["challenge"].as_str().unwrap().to_owned());
        let mut data = json!({
            "type": kind,
            "challenge": challenge,
            "origin": say.origin,
            "crossOrigin": say.cross_origin,
        });
        if let Some(top) = say.top_origin {
            data["topOrigin"] = top.into();
        }
        data.to_string().into_bytes()
    }

    fn data(&self, flags: u8, say: &Say) -> Vec<u8> {
        let mut data = digest(&SHA256, say.party.as_bytes()).as_ref().to_vec();
        data.push(flags);
        data.extend(self.count.to_be_bytes());
        data
    }

    fn create(&mut self, options: &Value, say: &Say) -> String {
        self.handle = options["user"]["id"].as_str().unwrap().to_owned();
        let point = self.pair.public_key().as_ref();
        let number = |number: i64| Cbor::Integer(number.into());
        let key = Cbor::Map(vec![
            (number(1), number(2)),
            (number(3), number(-7)),
            (number(-1), number(1)),
            (number(-2), Cbor::Bytes(point[1..33].to_vec())),
            (number(-3), Cbor::Bytes(point[33..].to_vec())),
        ]);
        let mut data = self.data(say.flags | CREATED, say);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend(&self.id);
        ciborium::into_writer(&key, &mut data).unwrap();
        data.extend(say.tail);
        let text = |text: &str| Cbor::Text(text.to_owned());
        let object = Cbor::Map(vec![
            (text("fmt"), text("none")),
            (text("attStmt"), Cbor::Map(vec![])),
            (text("authData"), Cbor::Bytes(data)),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&object, &mut bytes).unwrap();
        let client_data = Self::client_data(options, "webauthn.create", say);
        json!({
            "clientDataJSON": encode_base64url(&client_data),
            "attestationObject": encode_base64url(&bytes),
        })
        .to_string()
    }

    fn sign(&mut self, options: &Value, say: &Say) -> String {
        self.count += 1;
        let mut data = self.data(say.flags, say);
        data.extend(say.tail);
        let client_data = Self::client_data(options, "webauthn.get", say);
        let message = [data.as_slice(), digest(&SHA256, &client_data).as_ref()].concat();
        let signature = self.pair.sign(&SystemRandom::new(), &message).unwrap();
        json!({
            "id": encode_base64url(&self.id),
            "clientDataJSON": encode_base64url(&client_data),
            "authenticatorData": encode_base64url(&data),
            "signature": encode_base64url(signature.as_ref()),
            "userHandle": say.handle.as_ref().unwrap_or(&self.handle),
        })
        .to_string()
    }
}

/// What the page asks the browser with.
fn options(page: &Reply) -> Value {
    let text = page.text.split_once("data-options=\"").unwrap_or_else(|| panic!("{page:?}")).1;
    let text =
        text.split('"').next().unwrap().replace("&#34;", "\"").replace("&quot;", "\"").replace("&amp;", "&");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
}

/// Posts what an authenticator says where the page's form for it leads.
async fn send(browser: &mut Browser<'_>, page: &Reply, action: &str, credential: &str) -> Reply {
    let (_, hidden) = read_form(&page.text);
    let fields =
        [("flow", hidden["flow"].as_str()), ("csrf", hidden["csrf"].as_str()), ("credential", credential)];
    browser.post(&format!("/realms/shop/login{action}"), &fields).await
}

/// Alice, who has to have a factor, at its enrolment.
async fn enrolling(testbed: &TestBed) -> (Browser<'_>, Reply) {
    let mut browser = Browser::new(testbed);
    let page = browser.authorize("web", &[]).await;
    let page = browser.log_in(&page).await;
    (browser, page)
}

async fn testbed() -> TestBed {
    TestBed::with(|settings| drop(settings.factors.roles.insert("customer".into(), "2".into()))).await
}

/// A test bed where alice has this passkey.
async fn enrolled(say: &Say) -> (TestBed, Authenticator) {
    let testbed = testbed().await;
    let mut authenticator = Authenticator::new(1);
    let (mut browser, page) = enrolling(&testbed).await;
    let sent = authenticator.create(&options(&page), say);
    let codes = send(&mut browser, &page, "/enrol", &sent).await;
    assert!(codes.text.contains("recovery codes"), "{codes:?}");
    assert!(browser.session().is_some());
    drop(browser);
    (testbed, authenticator)
}

async fn amr(testbed: &TestBed, reply: &Reply) -> Value {
    let answer = reply.answer();
    let tokens = testbed.redeem("web", &answer["code"]).await.json();
    payload(tokens["id_token"].as_str().unwrap())["amr"].clone()
}

#[tokio::test]
async fn a_passkey_is_the_second_factor_or_alone() {
    let (testbed, mut authenticator) = enrolled(&Say::default()).await;
    // After the password.
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let page = browser.log_in(&page).await;
    assert_eq!(options(&page)["allowCredentials"].as_array().unwrap().len(), 1);
    let policy = page.field("content-security-policy");
    assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    let say = Say { flags: PRESENT, ..Say::default() };
    let done = send(&mut browser, &page, "/factor", &authenticator.sign(&options(&page), &say)).await;
    assert_eq!(amr(&testbed, &done).await, json!(["pwd", "hwk", "user", "mfa"]));
    // Alone: whose it is, it says itself.
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let asked = options(&page);
    assert_eq!((&asked["allowCredentials"], &asked["userVerification"]), (&json!([]), &json!("required")));
    let done = send(&mut browser, &page, "/passkey", &authenticator.sign(&asked, &Say::default())).await;
    assert_eq!(amr(&testbed, &done).await, json!(["hwk", "user", "mfa"]));
    // One that somebody merely has is not enough to be let in by.
    let mut thief = Browser::new(&testbed);
    let page = thief.authorize("web", &[]).await;
    let refused = send(&mut thief, &page, "/passkey", &authenticator.sign(&options(&page), &say)).await;
    assert_eq!(refused.status, 401);
    assert!(thief.session().is_none());
    // What may be copied to other devices is called so.
    let (testbed, mut synced) =
        enrolled(&Say { flags: PRESENT | VERIFIED | ELIGIBLE, ..Say::default() }).await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let say = Say { flags: PRESENT | VERIFIED | ELIGIBLE, ..Say::default() };
    let done = send(&mut browser, &page, "/passkey", &synced.sign(&options(&page), &say)).await;
    assert_eq!(amr(&testbed, &done).await, json!(["swk", "user", "mfa"]));
}

#[tokio::test]
async fn what_proves_something_else_proves_nothing() {
    let (testbed, mut authenticator) = enrolled(&Say::default()).await;
    let truth = Say::default;
    let attacks = [
        ("another ceremony", Say { kind: "webauthn.create", ..truth() }),
        ("another challenge", Say { challenge: Some("A".repeat(43)), ..truth() }),
        ("a phishing page", Say { origin: "https://id.example.org.evil.example", ..truth() }),
        ("another scheme", Say { origin: "http://id.example.org", ..truth() }),
        ("another port", Say { origin: "https://id.example.org:8443", ..truth() }),
        ("in a frame of others", Say { cross_origin: true, ..truth() }),
        ("in a frame, by its page alone", Say { top_origin: Some("https://evil.example"), ..truth() }),
        ("another relying party", Say { party: "example.org", ..truth() }),
        ("nobody there", Say { flags: VERIFIED, ..truth() }),
        ("backed up and not eligible", Say { flags: PRESENT | VERIFIED | 0x10, ..truth() }),
        ("another person's", Say { handle: Some("bob".to_owned()), ..truth() }),
        ("more than there is", Say { tail: b"\xa0", ..truth() }),
    ];
    for (what, say) in attacks {
        for (action, password) in [("/passkey", false), ("/factor", true)] {
            let mut browser = Browser::new(&testbed);
            let mut page = browser.authorize("web", &[]).await;
            if password {
                page = browser.log_in(&page).await;
            }
            let reply = send(&mut browser, &page, action, &authenticator.sign(&options(&page), &say)).await;
            assert_eq!(reply.status, 401, "{what}: {reply:?}");
            assert!(browser.session().is_none(), "{what}");
            // The innocent neighbour, in the same browser.
            let sent = authenticator.sign(&options(&reply), &truth());
            let done = send(&mut browser, &reply, action, &sent).await;
            assert!(done.answer().contains_key("code"), "{what}");
        }
    }
    // A changed byte, another's key under the same id, an id that nobody has, and nothing at all.
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let mut other = Authenticator::new(1);
    other.handle.clone_from(&authenticator.handle);
    other.count = 1000;
    let forged = other.sign(&options(&page), &truth());
    let mut unknown = Authenticator::new(9);
    let unknown = unknown.sign(&options(&page), &truth());
    let mut page = page;
    for sent in [forged.as_str(), unknown.as_str(), "{}", "x", "[]", "null"] {
        page = send(&mut browser, &page, "/passkey", sent).await;
        assert_eq!(page.status, 401, "{sent}");
    }
}

#[tokio::test]
async fn a_signature_counts_once_and_a_copy_is_seen() {
    let (testbed, mut authenticator) = enrolled(&Say::default()).await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let sent = authenticator.sign(&options(&page), &Say::default());
    assert!(send(&mut browser, &page, "/passkey", &sent).await.answer().contains_key("code"));
    // The same in another login, of another browser, or of this one again.
    let mut thief = Browser::new(&testbed);
    let page = thief.authorize("web", &[]).await;
    assert_eq!(send(&mut thief, &page, "/passkey", &sent).await.status, 401);
    // A copy counts on from where it was taken.
    let before = authenticator.count;
    let page = browser.authorize("web", &[("prompt", "login")]).await;
    let sent = authenticator.sign(&options(&page), &Say::default());
    assert!(send(&mut browser, &page, "/passkey", &sent).await.answer().contains_key("code"));
    authenticator.count = before;
    let page = thief.authorize("web", &[]).await;
    let sent = authenticator.sign(&options(&page), &Say::default());
    assert_eq!(send(&mut thief, &page, "/passkey", &sent).await.status, 401);
}

#[tokio::test]
async fn what_was_not_created_here_is_not_enrolled() {
    let testbed = testbed().await;
    let attacks = [
        Say { kind: "webauthn.get", ..Say::default() },
        Say { challenge: Some("A".repeat(43)), ..Say::default() },
        Say { origin: "https://evil.example", ..Say::default() },
        Say { party: "evil.example", ..Say::default() },
        Say { flags: VERIFIED, ..Say::default() },
        Say { tail: b"x", ..Say::default() },
    ];
    let (mut browser, mut page) = enrolling(&testbed).await;
    for say in attacks {
        let sent = Authenticator::new(1).create(&options(&page), &say);
        page = send(&mut browser, &page, "/enrol", &sent).await;
        assert_eq!(page.status, 401);
        assert!(testbed.realm.factors("alice").await.unwrap().is_empty() && browser.session().is_none());
    }
    let mut authenticator = Authenticator::new(1);
    let sent = authenticator.create(&options(&page), &Say::default());
    send(&mut browser, &page, "/enrol", &sent).await;
    assert_eq!(testbed.realm.factors("alice").await.unwrap().len(), 1);
    // Nobody enrols it a second time, for themselves or another.
    testbed.give_password("bob").await;
    let mut bob = Browser::new(&testbed);
    let page = bob.authorize("web", &[]).await;
    let page = bob.submit(&page, &[("username", "bob"), ("password", PASSWORD)]).await;
    let sent = authenticator.create(&options(&page), &Say::default());
    assert_eq!(send(&mut bob, &page, "/enrol", &sent).await.status, 400);
    assert!(testbed.realm.factors("bob").await.unwrap().is_empty());
    // Once it is removed it lets nobody in, and may be enrolled again.
    let id = testbed.realm.factors("alice").await.unwrap()[0].id.clone();
    testbed.realm.remove_factor("alice", &id).await.unwrap();
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    let signed = authenticator.sign(&options(&page), &Say::default());
    assert_eq!(send(&mut browser, &page, "/passkey", &signed).await.status, 401);
}

#[tokio::test]
async fn an_id_has_as_many_bytes_as_the_specification_lets_it_have() {
    for (bytes, good) in [(1, true), (384, true), (385, true), (1_023, true), (1_024, false)] {
        let testbed = testbed().await;
        let mut authenticator = Authenticator::new(1);
        authenticator.id = vec![7; bytes];
        let (mut browser, page) = enrolling(&testbed).await;
        let sent = authenticator.create(&options(&page), &Say::default());
        let reply = send(&mut browser, &page, "/enrol", &sent).await;
        assert_eq!(reply.status, if good { 200 } else { 401 }, "{bytes}: {reply:?}");
        // Whoever shows one to somebody who does not know it is refused, whatever its length.
        let mut browser = Browser::new(&testbed);
        let page = browser.authorize("web", &[]).await;
        let sent = authenticator.sign(&options(&page), &Say::default());
        let reply = send(&mut browser, &page, "/passkey", &sent).await;
        if !good {
            assert_eq!(reply.status, 401, "{bytes}: {reply:?}");
            continue;
        }
        assert!(reply.answer().contains_key("code"), "{bytes}");
        let id = testbed.realm.factors("alice").await.unwrap()[0].id.clone();
        assert!(testbed.realm.remove_factor("alice", &id).await.unwrap());
        let mut browser = Browser::new(&testbed);
        let page = browser.authorize("web", &[]).await;
        let sent = authenticator.sign(&options(&page), &Say::default());
        assert_eq!(send(&mut browser, &page, "/passkey", &sent).await.status, 401, "{bytes}");
        // It is nobody's, and may be enrolled again.
        let (mut browser, page) = enrolling(&testbed).await;
        let sent = authenticator.create(&options(&page), &Say::default());
        assert_eq!(send(&mut browser, &page, "/enrol", &sent).await.status, 200, "{bytes}");
    }
}

#[tokio::test]
async fn a_realm_at_an_address_of_numbers_offers_none() {
    for (issuer, offered) in [
        ("http://127.0.0.1:8080/realms/shop", false),
        ("http://[::1]:8080/realms/shop", false),
        ("http://localhost:8080/realms/shop", true),
        (crate::support::ISSUER, true),
    ] {
        let testbed = TestBed::with(|settings| settings.issuer = issuer.to_owned()).await;
        let mut browser = Browser::new(&testbed);
        let page = browser.authorize("web", &[]).await;
        assert_eq!(page.text.contains("data-passkey"), offered, "{issuer}");
    }
}
