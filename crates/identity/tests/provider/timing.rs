//! How long a refusal takes says nothing of its reason.
//!
//! Twice: with a clock that moves only while everybody waits, where the time is exact; and,
//! by `cargo xtask suite timing`, with the machine's, where it is a matter of statistics.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use identity::{ClientAuthentication, User};
use keys::encoding::encode_base64url;
use keys::{Algorithm, LocalSigner, Signer, SystemRandom, publish, sign_token};
use serde_json::json;

use crate::support::{Browser, ISSUER, NOW, SECRET, TestBed, read_form, web};

/// A password is refused no sooner, milliseconds.
const PASSWORD_MS: u128 = 250;
/// A client is refused no sooner, milliseconds.
const CLIENT_MS: u128 = 25;
/// Welch's t above which two samples are told apart: what dudect takes (Reparaz, Balasch and
/// Verbauwhede, “Dude, is my code constant time?”, DATE 2017).
const T_MAX: f64 = 4.5;
/// As often as two samples have to be told apart, in the same direction each time.
const REPETITIONS: usize = 3;
/// A difference that has to be found, or nothing was measured.
const TO_BE_FOUND: Duration = Duration::from_micros(250);
/// Refusals of a client for each side of a comparison.
const CLIENT_SAMPLES: usize = 300;
/// Refusals of a password for each side.
const PASSWORD_SAMPLES: usize = 24;
/// Of Keycloak: another cost than ours.
const BROUGHT: &str = "$pbkdf2-sha256$i=27500,l=64$AAECAwQFBgcICQoLDA0ODw$Ca/W1uHPdOF53bPWSQyrHQQPdk6KOe20VTbaw0U+WWswH2gciKNBqwk+H7RPgAmCshFAhVRLSSar72bo1/g8dA";

/// A test bed with clients of each way to show who they are, and the key of one.
async fn clients() -> (TestBed, LocalSigner) {
    let testbed = TestBed::new().await;
    let signer = LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0;
    let jwks = serde_json::from_str(&publish(&[&signer as &dyn Signer])).unwrap();
    testbed.put(web("keyed", ClientAuthentication::PrivateKeyJwt { jwks })).await;
    let mut off = web("off", crate::support::secret());
    off.disabled = true;
    testbed.put(off).await;
    (testbed, signer)
}

/// An assertion of a client, signed by whoever this is.
fn assertion(client: &str, signer: &LocalSigner, jti: &str) -> String {
    let claims = json!({
        "iss": client, "sub": client, "aud": ISSUER, "jti": jti, "iat": NOW, "exp": NOW + 60,
    });
    sign_token(signer, "JWT", claims.as_object().unwrap()).unwrap()
}

/// A request for a token that is refused; how long it takes, by the clock of the runtime.
async fn refused(testbed: &TestBed, pairs: &[(&str, &str)]) -> Duration {
    let begin = tokio::time::Instant::now();
    let reply = testbed.post("/token", pairs).await;
    let took = begin.elapsed();
    reply.refused(401, "invalid_client");
    took
}

fn by_secret<'a>(client: &'a str, secret: &'a str) -> [(&'a str, &'a str); 3] {
    [("grant_type", "client_credentials"), ("client_id", client), ("client_secret", secret)]
}

fn by_assertion(assertion: &str) -> [(&str, &str); 3] {
    const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    [("grant_type", "client_credentials"), ("client_assertion_type", KIND), ("client_assertion", assertion)]
}

#[tokio::test(start_paused = true)]
async fn clients_are_refused_after_one_time_whatever_the_reason() {
    let (testbed, signer) = clients().await;
    let stranger = LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0;
    let of = |client: &str, signer: &LocalSigner| assertion(client, signer, "1");
    for (what, pairs) in [
        ("unknown", by_secret("nobody", SECRET)),
        ("wrong secret", by_secret("web", "a-secret-of-somebody-else-0123456789")),
        ("switched off", by_secret("off", SECRET)),
        ("another way", by_secret("keyed", SECRET)),
        ("unknown, assertion", by_assertion(&of("nobody", &signer))),
        ("another key", by_assertion(&of("keyed", &stranger))),
        ("assertion for one with a secret", by_assertion(&of("web", &signer))),
    ] {
        assert_eq!(refused(&testbed, &pairs).await.as_millis(), CLIENT_MS, "{what}");
    }
    // Whoever is who they say waits for nothing.
    let begin = tokio::time::Instant::now();
    let reply = testbed.post("/token", &by_assertion(&of("keyed", &signer))).await;
    reply.refused(400, "unauthorized_client");
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

/// A login that fails; how long its answer takes.
async fn failed_login(browser: &mut Browser<'_>, username: &str) -> Duration {
    let page = browser.authorize("web", &[("prompt", "login")]).await;
    let (action, hidden) = read_form(&page.text);
    let mut fields = vec![("username", username), ("password", "not the password")];
    fields.extend(hidden.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let begin = tokio::time::Instant::now();
    let reply = browser.post_and_stay(&action, &fields).await;
    let took = begin.elapsed();
    assert_eq!(reply.status, 401, "{reply:?}");
    took
}

#[tokio::test(start_paused = true)]
async fn logins_fail_after_one_time_whatever_the_reason() {
    let testbed = TestBed::new().await;
    testbed.realm.put_password_hash("bob", BROUGHT).await.unwrap();
    let mut carol = User::new("carol", "carol", testbed.now());
    carol.disabled = true;
    testbed.realm.put_user(&carol).await.unwrap();
    for username in ["alice", "bob", "carol", "nobody"] {
        let mut browser = Browser::new(&testbed);
        assert_eq!(failed_login(&mut browser, username).await.as_millis(), PASSWORD_MS, "{username}");
    }
}

/// Welch's t of two samples without the slowest tenth of each, where other work of the machine
/// shows.
fn welch([one, other]: [&[f64]; 2]) -> f64 {
    let of = |sample: &[f64]| {
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.truncate(sorted.len() * 9 / 10);
        let count = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / count;
        let variance = sorted.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((one, one_error), (other, other_error)) = (of(one), of(other));
    (one - other) / (one_error + other_error).sqrt().max(f64::MIN_POSITIVE)
}

#[test]
fn samples_are_told_apart_when_they_differ_and_only_then() {
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 31)
    };
    let mut sample = |shift: f64| (0..300).map(|_| 100.0 + shift + 10.0 * noise()).collect::<Vec<_>>();
    let (one, other, slower) = (sample(0.0), sample(0.0), sample(2.0));
    assert!(welch([&one, &other]).abs() < T_MAX);
    assert!(welch([&slower, &one]) > T_MAX && welch([&one, &slower]) < -T_MAX);
}

/// Whether two kinds are told apart, in the same direction each time: takes samples of both in
/// turn, and again while they are.
async fn are_told_apart(
    what: &str,
    samples: usize,
    mut take: impl AsyncFnMut(bool, usize) -> Duration,
) -> bool {
    let mut before = None;
    for repetition in 0..REPETITIONS {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for number in 0..samples {
            let number = repetition * samples + number;
            // Neither is always first.
            let first = number.is_multiple_of(2);
            for which in [first, !first] {
                let took = take(which, number).await.as_secs_f64() * 1e6;
                if which { one.push(took) } else { other.push(took) }
            }
        }
        let t = welch([&one, &other]);
        let mean = |sample: &[f64]| sample.iter().sum::<f64>() / sample.len() as f64;
        println!("{what}: t = {t:.2}, means {:.0} and {:.0} µs", mean(&one), mean(&other));
        if t.abs() < T_MAX || before.is_some_and(|before: f64| before.signum() != t.signum()) {
            return false;
        }
        before = Some(t);
    }
    true
}

async fn cannot_be_told_apart(what: &str, samples: usize, take: impl AsyncFnMut(bool, usize) -> Duration) {
    let told = are_told_apart(what, samples, take).await;
    assert!(!told, "{what}: told apart {REPETITIONS} times in the same direction");
}

/// On a machine where this fails the tests below say nothing: they would pass whatever there is
/// to find.
#[tokio::test]
#[ignore = "measures time: cargo xtask suite timing"]
async fn a_quarter_of_a_millisecond_would_be_found() {
    let (testbed, _) = clients().await;
    let told = are_told_apart("a quarter of a millisecond more", CLIENT_SAMPLES, async |slower, _| {
        let took = refused(&testbed, &by_secret("web", "a-secret-of-somebody-else-0123456789")).await;
        if slower { took + TO_BE_FOUND } else { took }
    });
    assert!(told.await, "the machine is too busy to measure on");
}

#[tokio::test]
#[ignore = "measures time: cargo xtask suite timing"]
async fn unknown_clients_cannot_be_told_from_known_ones() {
    let (testbed, signer) = clients().await;
    let stranger = LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0;
    cannot_be_told_apart("secret", CLIENT_SAMPLES, async |known, _| {
        let name = if known { "web" } else { "wob" };
        refused(&testbed, &by_secret(name, "a-secret-of-somebody-else-0123456789")).await
    })
    .await;
    cannot_be_told_apart("private_key_jwt", CLIENT_SAMPLES, async |known, number| {
        let name = if known { "keyed" } else { "koyed" };
        let text = assertion(name, &stranger, &number.to_string());
        refused(&testbed, &by_assertion(&text)).await
    })
    .await;
    // The key's own name, so that the signature is looked at.
    cannot_be_told_apart("private_key_jwt with the key's id", CLIENT_SAMPLES, async |known, number| {
        let name = if known { "keyed" } else { "koyed" };
        let text = assertion(name, &signer, &number.to_string());
        let (signed, _) = text.rsplit_once('.').unwrap();
        let other = encode_base64url(&[digest(&SHA256, signed.as_bytes()).as_ref(), &[1; 32]].concat());
        refused(&testbed, &by_assertion(&format!("{signed}.{other}"))).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures time: cargo xtask suite timing"]
async fn unknown_people_cannot_be_told_from_known_ones() {
    for (what, hash) in [("a hash of ours", None), ("a hash of Keycloak", Some(BROUGHT))] {
        let testbed = TestBed::new().await;
        let ours = testbed.realm.password_hash("alice").await.unwrap().unwrap();
        for number in 0..REPETITIONS * PASSWORD_SAMPLES {
            let name = format!("person-{number}");
            testbed.realm.put_user(&User::new(&name, &name, testbed.now())).await.unwrap();
            testbed.realm.put_password_hash(&name, hash.unwrap_or(&ours)).await.unwrap();
        }
        // Each at an address of its own: nobody is slowed down.
        cannot_be_told_apart(what, PASSWORD_SAMPLES, async |known, number| {
            let name = format!("{}-{number}", if known { "person" } else { "parson" });
            let mut browser = Browser::at(&testbed, &format!("10.{}.{}.1", u8::from(known), number));
            failed_login(&mut browser, &name).await
        })
        .await;
    }
}
