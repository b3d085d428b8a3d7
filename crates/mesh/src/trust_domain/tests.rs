use std::future::poll_fn;
use std::task::Poll;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keys::SystemRandom;
use tokio::task::coop;

use super::*;
use crate::settings::{Anchor, Lifetimes};
use crate::testing::{Hands, Notes, verifies, workload_key};

fn settings() -> Settings {
    Settings::new("shop.example")
}

async fn open(store: &Store, settings: Settings) -> Result<Arc<TrustDomain>, Error> {
    TrustDomain::open(settings, store.clone(), Arc::new(SystemRandom::new())).await
}

fn audiences() -> Vec<String> {
    vec!["payments".to_owned()]
}

#[tokio::test]
async fn documents_are_good_and_their_numbers_kept_until_they_end() {
    let clock = Hands::new();
    let store = Store::in_memory(clock.clone()).unwrap();
    for anchor in [Anchor::Issuing, Anchor::Root] {
        let chain = if anchor == Anchor::Root { 2 } else { 1 };
        let domain = open(&store, Settings { anchor, ..settings() }).await.unwrap();
        let id = settings().workload("orders").unwrap();
        let svid = domain.issue_x509(&id, &workload_key()).await.unwrap();
        assert_eq!(svid.chain.len(), chain);
        verifies(&svid.chain, &domain.authorities().bundle.x509, domain.now()).unwrap();
        assert!(domain.authorities().is_good(&svid.authority));
        let kept = domain.issued(100).await.unwrap();
        assert!(kept.iter().any(|kept| kept.serial == svid.serial && kept.id == id));
        let other = "spiffe://other.example/orders".parse().unwrap();
        assert!(domain.issue_x509(&other, &workload_key()).await.is_err());
        assert!(domain.issue_jwt(&other, &audiences()).await.is_err());
    }
    clock.forward(Duration::from_secs(3602));
    let domain = open(&store, settings()).await.unwrap();
    assert_eq!(domain.issued(100).await.unwrap(), []);
}

#[tokio::test]
async fn a_token_is_good_for_its_audience_and_its_time() {
    let clock = Hands::new();
    let domain = open(&Store::in_memory(clock.clone()).unwrap(), settings()).await.unwrap();
    let id = settings().workload("orders").unwrap();
    let (token, until) = domain.issue_jwt(&id, &audiences()).await.unwrap();
    assert_eq!(until, domain.now().plus(Duration::from_secs(300)));
    let keys = domain.authorities().bundle.jwt_keys().unwrap();
    let validate =
        |token: &str, audience| jwt_svid::validate(token, audience, "shop.example", &keys, domain.now());
    assert_eq!(jwt_svid::unverified_trust_domain(&token).unwrap(), "shop.example");
    assert_eq!(validate(&token, "payments").unwrap().id, id);
    assert!(validate(&token, "orders").is_err() && validate(&token, "").is_err());
    let mut forged = token.clone().into_bytes();
    let at = forged.len() - 10;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    assert!(validate(std::str::from_utf8(&forged).unwrap(), "payments").is_err());
    let elsewhere = jwt_svid::validate(&token, "payments", "other.example", &keys, domain.now());
    assert!(elsewhere.is_err(), "a domain's keys speak for that domain alone");
    for bad in [vec![], vec![String::new()], vec!["a".to_owned(); 17], vec!["a".repeat(1025)]] {
        assert!(domain.issue_jwt(&id, &bad).await.is_err(), "{bad:?}");
    }
    clock.forward(Duration::from_secs(299));
    assert!(validate(&token, "payments").is_ok());
    clock.forward(Duration::from_secs(1));
    assert!(validate(&token, "payments").unwrap_err().to_string().contains("ended"));
}

#[test]
fn a_token_names_a_workload_and_no_whole_trust_domain() {
    let encoded = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let told = |subject: &str| {
        let (header, claims) = (serde_json::json!({ "alg": "ES256" }), serde_json::json!({ "sub": subject }));
        let token = format!("{}.{}.{}", encoded(&header), encoded(&claims), URL_SAFE_NO_PAD.encode([0; 64]));
        jwt_svid::unverified_trust_domain(&token).map_err(|error| error.to_string())
    };
    assert_eq!(told("spiffe://shop.example/orders").unwrap(), "shop.example");
    for whole in ["spiffe://shop.example", "spiffe://shop.example/", "shop.example/orders", ""] {
        assert!(told(whole).is_err_and(|why| why.contains("`sub`")), "{whole}");
    }
}

#[tokio::test]
async fn several_processes_make_one_set_of_authorities() {
    let store = Store::in_memory(Hands::new()).unwrap();
    let opened: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn({
                let store = store.clone();
                async move { open(&store, settings()).await.unwrap().authorities().bundle.clone() }
            })
        })
        .collect();
    let mut bundles = Vec::new();
    for one in opened {
        bundles.push(one.await.unwrap());
    }
    assert!(bundles.iter().all(|bundle| *bundle == bundles[0]));
    assert_eq!((bundles[0].x509.len(), bundles[0].jwt.len()), (1, 1));
}

#[tokio::test]
async fn a_node_has_so_many_certificates_of_a_workload_and_no_other_pays_for_them() {
    let clock = Hands::new();
    let domain = open(&Store::in_memory(clock.clone()).unwrap(), settings()).await.unwrap();
    let (orders, payments) =
        (settings().workload("orders").unwrap(), settings().workload("payments").unwrap());
    let one = domain.issue_x509_on("edge-1", &orders, &workload_key()).await.unwrap();
    let kept = domain.issued(1).await.unwrap().remove(0);
    assert_eq!(kept.serial, one.serial);
    // Copies of the first: what is counted is kept.
    let ends = Some(one.not_after);
    for several in (2..ISSUED_PER_NODE_MAX).collect::<Vec<_>>().chunks(64) {
        let mut transaction = Transaction::new();
        for number in several {
            let place = issued().hidden(orders.as_str()).hidden("edge-1").hidden(number.to_string());
            let copy = IssuedRecord { serial: format!("4f{number:04x}"), ..kept.clone() };
            transaction = transaction.put(place, Value::from_json(&copy).unwrap(), ends, Expect::Absent);
        }
        domain.store.commit(transaction).await.unwrap();
    }
    domain.issue_x509_on("edge-1", &orders, &workload_key()).await.unwrap();
    let refused = domain.issue_x509_on("edge-1", &orders, &workload_key()).await;
    assert!(matches!(refused, Err(Error::Exhausted(_))), "{refused:?}");
    domain.issue_x509_on("edge-1", &payments, &workload_key()).await.unwrap();
    domain.issue_x509_on("edge-2", &orders, &workload_key()).await.unwrap();
    domain.issue_x509(&orders, &workload_key()).await.unwrap();
    // All of them are revoked with their workload, and new ones are given when they have ended.
    domain.revoke(&Target::Identity(orders.clone())).await.unwrap();
    assert!(domain.revoked().has_serial(&one.serial));
    domain.lift(&Target::Identity(orders.clone())).await.unwrap();
    clock.forward(Duration::from_secs(3602));
    domain.issue_x509_on("edge-1", &orders, &workload_key()).await.unwrap();
}

#[tokio::test]
async fn a_workload_has_documents_and_loses_them_however_long_its_name_is() {
    let clock = Hands::new();
    let domain = open(&Store::in_memory(clock.clone()).unwrap(), settings()).await.unwrap();
    let named = |bytes: usize, last: &str| {
        let beginning = "spiffe://shop.example/";
        let id: SpiffeId =
            format!("{beginning}{}{last}", "a".repeat(bytes - beginning.len() - 1)).parse().unwrap();
        assert_eq!(id.as_str().len(), bytes);
        id
    };
    for bytes in [512, 513, 2048] {
        let (id, other) = (named(bytes, "b"), named(bytes, "c"));
        let kept = domain.issue_x509(&id, &workload_key()).await.unwrap();
        verifies(&kept.chain, &domain.authorities().bundle.x509, domain.now()).unwrap();
        domain.issue_x509_on("edge-1", &id, &workload_key()).await.unwrap();
        domain.issue_jwt(&id, &audiences()).await.unwrap();
        let target = Target::Identity(id.clone());
        assert_eq!(domain.revoke(&target).await.unwrap().len(), 3, "the name and both certificates");
        assert!(domain.revoked().has_serial(&kept.serial));
        for (id, refused) in [(&id, true), (&other, false)] {
            assert_eq!(domain.issue_x509(id, &workload_key()).await.is_err(), refused, "{bytes}");
            assert_eq!(domain.issue_jwt(id, &audiences()).await.is_err(), refused, "{bytes}");
        }
        assert!(domain.lift(&target).await.unwrap());
    }
}

#[tokio::test]
async fn another_processes_steps_are_followed_and_told() {
    let store = Store::in_memory(Hands::new()).unwrap();
    let (one, other) = (open(&store, settings()).await.unwrap(), open(&store, settings()).await.unwrap());
    let task = tokio::spawn(Arc::clone(&other).run(Arc::<Notes>::default()));
    let mut told = other.watch();
    let id = settings().workload("orders").unwrap();
    let svid = other.issue_x509(&id, &workload_key()).await.unwrap();
    one.step(&Step::Taint(svid.authority.clone())).await.unwrap();
    told.wait_for(|authorities| !authorities.is_good(&svid.authority)).await.unwrap();
    assert_ne!(other.issue_x509(&id, &workload_key()).await.unwrap().authority, svid.authority);
    verifies(&svid.chain, &other.authorities().bundle.x509, other.now()).expect("good until it is replaced");
    one.step(&Step::Revoke(svid.authority.clone())).await.unwrap();
    told.wait_for(|authorities| authorities.bundle.x509.len() == 1).await.unwrap();
    assert!(verifies(&svid.chain, &other.authorities().bundle.x509, other.now()).is_err());
    task.abort();
}

#[tokio::test]
async fn a_store_holds_one_trust_domain() {
    let store = Store::in_memory(Hands::new()).unwrap();
    open(&store, settings()).await.unwrap();
    let other = open(&store, Settings::new("other.example")).await.unwrap_err().to_string();
    assert!(other.contains("shop.example"), "{other}");
    assert!(open(&store, settings()).await.is_ok());
}

#[test]
fn settings_that_could_not_be_kept_are_refused() {
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        settings.check()
    };
    let seconds = Duration::from_secs;
    assert!(with(&|_| {}).is_ok());
    assert!(with(&|settings| settings.lifetimes.x509_svid = seconds(4 * 3600)).is_ok());
    assert!(
        with(&|settings| {
            settings.lifetimes = Lifetimes {
                root: seconds(36),
                authority: seconds(6),
                x509_svid: seconds(1),
                jwt_svid: seconds(1),
            };
        })
        .is_ok()
    );
    let attacks: [&dyn Fn(&mut Settings); 6] = [
        &|settings| settings.trust_domain = "Shop.example".to_owned(),
        &|settings| settings.trust_domain = "shop.example/orders".to_owned(),
        &|settings| settings.lifetimes.x509_svid = seconds(4 * 3600 + 1),
        &|settings| settings.lifetimes.jwt_svid = seconds(5 * 3600),
        &|settings| settings.lifetimes.x509_svid = Duration::from_millis(999),
        &|settings| {
            settings.anchor = Anchor::Root;
            settings.lifetimes.root = seconds(5 * 86_400);
        },
    ];
    for (place, attack) in attacks.iter().enumerate() {
        assert!(matches!(with(attack), Err(Error::Settings(_))), "{place}");
    }
}

#[tokio::test]
async fn who_looked_earlier_does_not_take_back_what_was_written_since() {
    let domain = open(&Store::in_memory(Hands::new()).unwrap(), settings()).await.unwrap();
    let id = settings().workload("orders").unwrap();
    let mut early = Box::pin(domain.take_revoked());
    // What is found does not reach it yet, however soon that is: its budget is used up.
    while coop::has_budget_remaining() {
        coop::consume_budget().await;
    }
    assert!(poll_fn(|context| Poll::Ready(early.as_mut().poll(context).is_pending())).await);
    let revoking = {
        let (domain, target) = (Arc::clone(&domain), Target::Identity(id.clone()));
        tokio::spawn(async move { domain.revoke(&target).await.map(drop) })
    };
    // It may have to wait for who looked earlier, and else is done by then.
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if revoking.is_finished() {
            break;
        }
    }
    early.await.unwrap();
    revoking.await.unwrap().unwrap();
    assert!(domain.revoked().has_identity(&id));
}
