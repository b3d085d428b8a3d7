use std::sync::Arc;
use std::time::Duration;

use keys::SystemRandom;
use proptest::prelude::*;

use super::*;
use crate::settings::Settings;
use crate::testing::{Hands, NOW, Notes, declared, workload_key};
use crate::trust_domain::TrustDomain;

async fn open(store: &Store) -> Arc<TrustDomain> {
    let settings = Settings::new("shop.example");
    let domain = TrustDomain::open(settings, store.clone(), Arc::new(SystemRandom::new())).await.unwrap();
    domain.declare(declared(&["orders", "payments"]));
    domain
}

fn id(name: &str) -> SpiffeId {
    format!("spiffe://shop.example/{name}").parse().unwrap()
}

fn audiences() -> [String; 1] {
    ["payments".to_owned()]
}

#[test]
fn a_serial_number_is_read_however_it_is_written() {
    for text in ["4fab", "4F:AB", "0x4fab", "004fab", "4f ab", "00:4F:AB"] {
        assert_eq!(serial(text).as_deref(), Some("4fab"), "{text}");
    }
    for text in ["", "0", "4fag", "4f-ab", &"1".repeat(41)] {
        assert_eq!(serial(text), None, "{text}");
    }
    assert!(serial(&"1".repeat(40)).is_some());
}

proptest! {
    #[test]
    fn any_text_is_a_serial_number_or_none(text in ".{0,60}") {
        if let Some(number) = serial(&text) {
            prop_assert_eq!(serial(&number), Some(number.clone()));
        }
    }
}

#[tokio::test]
async fn a_certificate_is_revoked_by_its_number_until_it_ends() {
    let clock = Hands::new();
    let store = Store::in_memory(clock.clone()).unwrap();
    let domain = open(&store).await;
    let [one, other] = [
        domain.issue_x509(&id("orders"), &workload_key()).await.unwrap(),
        domain.issue_x509(&id("orders"), &workload_key()).await.unwrap(),
    ];
    let colons: Vec<&str> =
        one.serial.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap()).collect();
    let done = domain.revoke(&Target::Serial(colons.join(":").to_uppercase())).await.unwrap();
    assert_eq!(done.len(), 1);
    let revoked = domain.revoked();
    assert!(revoked.certificate(&one.id, &one.serial).unwrap().contains(&one.serial));
    assert_eq!(revoked.certificate(&other.id, &other.serial), None);
    assert!(domain.issue_x509(&id("orders"), &workload_key()).await.is_ok(), "its workload is not");
    for unknown in ["4fab", "no number"] {
        assert!(matches!(domain.revoke(&Target::Serial(unknown.to_owned())).await, Err(Error::Revoked(_))));
    }
    // Lifted, it is good again; and nothing is kept of what has ended.
    assert!(domain.lift(&Target::Serial(one.serial.clone())).await.unwrap());
    assert!(!domain.lift(&Target::Serial(one.serial.clone())).await.unwrap());
    assert!(domain.revoked().is_empty());
    domain.revoke(&Target::Serial(one.serial)).await.unwrap();
    clock.forward(Duration::from_secs(3602));
    assert_eq!(domain.revocations().await.unwrap(), []);
}

#[tokio::test]
async fn a_workload_that_is_revoked_gets_nothing_until_it_is_lifted_and_its_old_ones_stay_revoked() {
    let clock = Hands::new();
    let domain = open(&Store::in_memory(clock.clone()).unwrap()).await;
    let old = domain.issue_x509(&id("orders"), &workload_key()).await.unwrap();
    let payments = domain.issue_x509(&id("payments"), &workload_key()).await.unwrap();
    let target = Target::Identity(id("orders"));
    assert_eq!(domain.revoke(&target).await.unwrap().len(), 2);
    assert!(matches!(domain.issue_x509(&id("orders"), &workload_key()).await, Err(Error::Revoked(_))));
    assert!(matches!(domain.issue_jwt(&id("orders"), &audiences()).await, Err(Error::Revoked(_))));
    assert!(domain.issue_x509(&id("payments"), &workload_key()).await.is_ok());
    assert!(domain.issue_jwt(&id("payments"), &audiences()).await.is_ok());
    let revoked = domain.revoked();
    assert!(revoked.certificate(&old.id, &old.serial).is_some());
    assert!(revoked.certificate(&old.id, "77").is_some(), "whatever names it");
    assert_eq!(revoked.certificate(&payments.id, &payments.serial), None);
    // Revoked again, it is so since the first time.
    clock.forward(Duration::from_secs(60));
    domain.revoke(&target).await.unwrap();
    let since = domain.revocations().await.unwrap().into_iter().find_map(|one| match one {
        Revocation::Identity { revoked, .. } => Some(revoked),
        Revocation::Certificate { .. } => None,
    });
    assert_eq!(since, Some(NOW));
    assert!(domain.lift(&target).await.unwrap());
    let new = domain.issue_x509(&id("orders"), &workload_key()).await.unwrap();
    let revoked = domain.revoked();
    assert_eq!(revoked.certificate(&new.id, &new.serial), None);
    assert!(revoked.certificate(&old.id, &old.serial).is_some());
    // Tokens of before are refused for as long as they could be good.
    assert!(revoked.token(&id("orders"), Some(domain.now())).is_some());
    assert!(revoked.token(&id("orders"), None).is_some());
    assert!(revoked.token(&id("orders"), Some(domain.now().plus(Duration::from_secs(1)))).is_none());
    assert!(revoked.token(&id("payments"), None).is_none());
}

#[tokio::test]
async fn more_revoked_certificates_than_are_kept_apart_revoke_whose_they_are_and_nobody_else() {
    let clock = Hands::new();
    let store = Store::in_memory(clock.clone()).unwrap();
    let domain = open(&store).await;
    let (mut orders, mut payments) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        orders.push(domain.issue_x509(&id("orders"), &workload_key()).await.unwrap());
    }
    for _ in 0..2 {
        payments.push(domain.issue_x509(&id("payments"), &workload_key()).await.unwrap());
    }
    domain.revoke(&Target::Identity(id("orders"))).await.unwrap();
    domain.lift(&Target::Identity(id("orders"))).await.unwrap();
    domain.revoke(&Target::Serial(payments[0].serial.clone())).await.unwrap();
    domain.revoke(&Target::Identity(id("shipping"))).await.unwrap();
    // At the limit each stands alone, one below it the workload with the most does not.
    let kept = Revoked::new(&read(&store, 7).await.unwrap());
    assert!(!kept.has_identity(&id("orders")) && orders.iter().all(|one| kept.has_serial(&one.serial)));
    let revoked = Revoked::new(&read(&store, 6).await.unwrap());
    assert!(orders.iter().all(|one| revoked.certificate(&one.id, &one.serial).is_some()));
    assert!(revoked.has_identity(&id("orders")) && revoked.has_identity(&id("shipping")));
    assert!(revoked.has_serial(&payments[0].serial) && !revoked.has_identity(&id("payments")));
    assert_eq!(revoked.certificate(&id("payments"), &payments[1].serial), None);
    // When they have ended, so has that.
    clock.forward(Duration::from_secs(3602));
    assert!(!Revoked::new(&read(&store, 6).await.unwrap()).has_identity(&id("orders")));
}

#[tokio::test]
async fn what_one_process_revokes_another_refuses() {
    let store = Store::in_memory(Hands::new()).unwrap();
    let (one, other) = (open(&store).await, open(&store).await);
    one.revoke(&Target::Identity(id("orders"))).await.unwrap();
    // Before it was told: what the store says counts.
    assert!(!other.revoked().has_identity(&id("orders")));
    let certificate = other.issue_x509(&id("orders"), &workload_key()).await;
    assert!(matches!(certificate, Err(Error::Revoked(_))), "{certificate:?}");
    let token = other.issue_jwt(&id("orders"), &audiences()).await;
    assert!(matches!(token, Err(Error::Revoked(_))), "{token:?}");
    assert!(other.issue_jwt(&id("payments"), &audiences()).await.is_ok());
    let mut told = other.watch_revoked();
    let task = tokio::spawn(Arc::clone(&other).run(Arc::<Notes>::default()));
    told.wait_for(|revoked| revoked.has_identity(&id("orders"))).await.unwrap();
    assert!(other.issue_jwt(&id("orders"), &audiences()).await.is_err());
    one.lift(&Target::Identity(id("orders"))).await.unwrap();
    told.wait_for(|revoked| !revoked.has_identity(&id("orders"))).await.unwrap();
    task.abort();
    assert!(open(&store).await.revoked().token(&id("orders"), None).is_some(), "after a restart too");
}

#[test]
fn two_lists_have_the_same_mark_when_they_refuse_the_same() {
    let serials = |list: &[&str]| Revoked::of(list.iter().map(|text| (*text).to_owned()), []);
    assert_eq!(serials(&["1", "2"]).mark(), serials(&["2", "1"]).mark());
    assert_ne!(serials(&["1", "2"]).mark(), serials(&["12"]).mark());
    assert_ne!(serials(&[]).mark(), Revoked::of([], [id("orders")]).mark());
}
