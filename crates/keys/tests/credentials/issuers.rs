//! Keys that are fetched: discovery, rotation, outages, floods.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keys::{
    Algorithm, CoreVerifier, Fetch, FetchFailure, FetchFuture, FetchRequest, Fetched, IssuerSettings,
    Issuers, IssuersSettings, JWKS_BYTES_MAX, JWKS_KEYS_MAX, KEY_AGE_MAX_LEAST, KeySet, KeySource,
    LocalSigner, REFRESH_LEAST, REFRESH_MOST, RETRY_FIRST, Refusal, Signer, UNKNOWN_KEY_BURST,
    UNKNOWN_KEY_EVERY, Verdict, publish, sign_token,
};
use model::{Clock, Timestamp};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{AUDIENCE, HandClock, ISSUER, NOW_SECONDS, claims, issuers, settled, signer};

const KEYS_URL: &str = "https://id.example.org/keys";
/// Answers that an open origin gives at once.
const GATE: u32 = 1_000;
const DISCOVERY_URL: &str = "https://id.example.org/.well-known/openid-configuration";

/// Stands for the network, which cannot be had here: documents by address, counted,
/// held back or failing on demand.
#[derive(Debug)]
struct Origin {
    documents: Mutex<HashMap<String, Fetched>>,
    requests: Mutex<Vec<FetchRequest>>,
    open: Semaphore,
}

impl Origin {
    fn new() -> Arc<Self> {
        let open = Semaphore::new(GATE as usize);
        Arc::new(Self { documents: Mutex::default(), requests: Mutex::default(), open })
    }

    fn serve(&self, url: &str, body: &str) {
        let fetched = Fetched { body: body.as_bytes().to_vec(), cache_control: None };
        self.documents.lock().unwrap().insert(url.to_owned(), fetched);
    }

    fn serve_keys(&self, signers: &[&dyn Signer]) {
        self.serve(KEYS_URL, &publish(signers));
    }

    fn fail(&self) {
        self.documents.lock().unwrap().clear();
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Fetch for Origin {
    fn fetch(&self, request: FetchRequest) -> FetchFuture<'_> {
        self.requests.lock().unwrap().push(request.clone());
        Box::pin(async move {
            let _open = self.open.acquire().await.unwrap();
            let found = self.documents.lock().unwrap().get(&request.url).cloned();
            found.ok_or_else(|| FetchFailure("connection refused".to_owned()))
        })
    }
}

fn settings(source: KeySource) -> IssuerSettings {
    IssuerSettings { source, ..IssuerSettings::new(ISSUER, vec![AUDIENCE.to_owned()]) }
}

fn by_url() -> Arc<Issuers> {
    issuers(vec![settings(KeySource::JwksUrl(KEYS_URL.to_owned()))])
}

fn token(signer: &dyn Signer) -> Vec<u8> {
    let mut claims = claims();
    claims.insert("exp".to_owned(), json!(NOW_SECONDS + 10_000_000));
    sign_token(signer, "at+jwt", &claims).unwrap().into_bytes()
}

/// A test bed whose task runs.
struct Kept {
    clock: Arc<HandClock>,
    origin: Arc<Origin>,
    issuers: Arc<Issuers>,
    verifier: CoreVerifier,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kept {
    async fn start(signers: &[&dyn Signer], issuers: Arc<Issuers>) -> Self {
        let (clock, origin) = (HandClock::new(), Origin::new());
        origin.serve_keys(signers);
        let task = Arc::clone(&issuers).run(origin.clone(), clock.clone());
        let verifier = CoreVerifier::new(Arc::clone(&issuers));
        let task = tokio::spawn(task);
        let kept = Self { clock, origin, issuers, verifier, task };
        settle().await;
        kept
    }

    /// Replaces the configuration by one that is alike, as each new snapshot does.
    fn replace(&mut self) {
        let settings = IssuersSettings {
            issuers: vec![settings(KeySource::JwksUrl(KEYS_URL.to_owned()))],
            ..IssuersSettings::default()
        };
        let issuers = Issuers::new(settings, Some(&self.issuers)).unwrap();
        let task = Arc::clone(&issuers).run(self.origin.clone(), self.clock.clone());
        self.verifier.adopt(Arc::clone(&issuers));
        self.issuers = issuers;
        std::mem::replace(&mut self.task, tokio::spawn(task)).abort();
    }

    fn verify(&mut self, token: &[u8]) -> Verdict {
        self.verifier.verify(token, self.clock.now())
    }

    /// As the gateway does: waits for the refresh that a token needs, then asks again.
    async fn verify_waiting(&mut self, token: &[u8]) -> Result<String, Refusal> {
        let verdict = match self.verify(token) {
            Verdict::NeedsKey(wait) => {
                wait.ended().await;
                self.verify(token)
            }
            verdict => verdict,
        };
        settled(verdict).map(|principal| principal.id.clone())
    }

    /// Moves both clocks; the task does what is due then.
    async fn pass(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(Duration::from_secs(1));
            self.clock.advance(step);
            tokio::time::advance(step).await;
            settle().await;
            left -= step;
        }
    }
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn refreshed(issuers: &Arc<Issuers>, origin: &Arc<Origin>) -> Result<(), Vec<keys::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(issuers.refresh_all(origin.as_ref(), HandClock::new().as_ref()))
}

#[test]
fn keys_that_are_pinned_are_there_without_a_fetch() {
    let (one, origin) = (signer(Algorithm::Es256), Origin::new());
    let set = KeySet::parse_pinned(one.public_jwk().to_string().as_bytes(), &Algorithm::ALL).unwrap();
    refreshed(&issuers(vec![settings(KeySource::Pinned(set))]), &origin).unwrap();
    assert!(origin.requests.lock().unwrap().is_empty());
}

#[test]
fn discovery_leads_to_the_keys() {
    let (one, origin) = (signer(Algorithm::Es256), Origin::new());
    origin.serve_keys(&[&one]);
    origin.serve(DISCOVERY_URL, &json!({ "issuer": ISSUER, "jwks_uri": KEYS_URL, "x": [1] }).to_string());
    let issuers = issuers(vec![settings(KeySource::Discovery)]);
    refreshed(&issuers, &origin).unwrap();
    let mut verifier = CoreVerifier::new(issuers);
    assert!(settled(verifier.verify(&token(&one), Timestamp::from_unix_seconds(NOW_SECONDS))).is_ok());
    let requests = origin.requests.lock().unwrap();
    assert_eq!(
        requests.iter().map(|request| request.url.as_str()).collect::<Vec<_>>(),
        [DISCOVERY_URL, KEYS_URL]
    );
    assert!(requests.iter().all(|request| !request.allow_private_addresses));
}

#[test]
fn a_discovery_document_of_somebody_else_is_refused() {
    let one = signer(Algorithm::Es256);
    for document in [
        json!({ "issuer": "https://evil.example", "jwks_uri": KEYS_URL }).to_string(),
        json!({ "issuer": format!("{ISSUER}/"), "jwks_uri": KEYS_URL }).to_string(),
        json!({ "jwks_uri": KEYS_URL }).to_string(),
        json!({ "issuer": ISSUER }).to_string(),
        json!({ "issuer": ISSUER, "jwks_uri": "http://id.example.org/keys" }).to_string(),
        json!({ "issuer": ISSUER, "jwks_uri": "file:///etc/passwd" }).to_string(),
        json!({ "issuer": [ISSUER], "jwks_uri": KEYS_URL }).to_string(),
        format!(r#"{{"issuer":"https://evil.example","issuer":"{ISSUER}","jwks_uri":"{KEYS_URL}"}}"#),
        "<html>".to_owned(),
    ] {
        let origin = Origin::new();
        origin.serve_keys(&[&one]);
        origin.serve(DISCOVERY_URL, &document);
        let issuers = issuers(vec![settings(KeySource::Discovery)]);
        assert!(refreshed(&issuers, &origin).is_err(), "{document}");
        assert_eq!(origin.requests(), 1, "{document}");
    }
}

#[test]
fn boundary_discovery_bytes_max() {
    let one = signer(Algorithm::Es256);
    let document = json!({ "issuer": ISSUER, "jwks_uri": KEYS_URL }).to_string();
    for (bytes, is_read) in [(64 << 10, true), ((64 << 10) + 1, false)] {
        let origin = Origin::new();
        origin.serve_keys(&[&one]);
        origin.serve(DISCOVERY_URL, &(document.clone() + &" ".repeat(bytes - document.len())));
        let issuers = issuers(vec![settings(KeySource::Discovery)]);
        assert_eq!(refreshed(&issuers, &origin).is_ok(), is_read, "{bytes}");
    }
}

#[test]
fn keys_from_a_file_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (one, two, origin) = (signer(Algorithm::Es256), signer(Algorithm::EdDsa), Origin::new());
    std::fs::write(&path, publish(&[&one])).unwrap();
    let issuers = issuers(vec![settings(KeySource::JwksFile(path.clone()))]);
    let mut verifier = CoreVerifier::new(Arc::clone(&issuers));
    let now = Timestamp::from_unix_seconds(NOW_SECONDS);
    refreshed(&issuers, &origin).unwrap();
    assert!(settled(verifier.verify(&token(&one), now)).is_ok());
    std::fs::write(&path, publish(&[&two])).unwrap();
    refreshed(&issuers, &origin).unwrap();
    assert!(settled(verifier.verify(&token(&two), now)).is_ok());
    assert!(matches!(verifier.verify(&token(&one), now), Verdict::NeedsKey(_)));
    assert_eq!(origin.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let (one, two) = (signer(Algorithm::Es256), signer(Algorithm::EdDsa));
    let mut kept = Kept::start(&[&one], by_url()).await;
    assert_eq!(kept.verify_waiting(&token(&one)).await.as_deref(), Ok("alice"));
    assert_eq!(kept.origin.requests(), 1);
    kept.origin.serve_keys(&[&one, &two]);
    assert_eq!(kept.verify_waiting(&token(&two)).await.as_deref(), Ok("alice"));
    assert_eq!(kept.verify_waiting(&token(&one)).await.as_deref(), Ok("alice"));
    assert_eq!(kept.origin.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_cause_one_fetch() {
    let (one, two) = (signer(Algorithm::Es256), signer(Algorithm::EdDsa));
    let mut kept = Kept::start(&[&one], by_url()).await;
    kept.origin.serve_keys(&[&one, &two]);
    let origin = Arc::clone(&kept.origin);
    origin.open.acquire_many(GATE).await.unwrap().forget();
    let mut cores: Vec<_> = (0..8).map(|_| CoreVerifier::new(Arc::clone(&kept.issuers))).collect();
    let wanted = token(&two);
    let mut waits = Vec::new();
    for core in &mut cores {
        for _ in 0..4 {
            match core.verify(&wanted, kept.clock.now()) {
                Verdict::NeedsKey(wait) => waits.push(wait),
                verdict => panic!("{verdict:?}"),
            }
            settle().await;
        }
    }
    origin.open.add_permits(GATE as usize);
    for wait in waits {
        assert!(wait.ended().await);
    }
    for core in &mut cores {
        assert!(settled(core.verify(&wanted, kept.clock.now())).is_ok());
    }
    assert_eq!(kept.origin.requests(), 2);
    assert!(kept.verify_waiting(&wanted).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_ends_although_its_configuration_is_replaced_meanwhile() {
    let (one, two) = (signer(Algorithm::Es256), signer(Algorithm::EdDsa));
    let mut kept = Kept::start(&[&one], by_url()).await;
    kept.origin.serve_keys(&[&one, &two]);
    let origin = Arc::clone(&kept.origin);
    origin.open.acquire_many(GATE).await.unwrap().forget();
    let Verdict::NeedsKey(wait) = kept.verify(&token(&two)) else { panic!("it is not known yet") };
    settle().await;
    for _ in 0..5 {
        kept.replace();
        kept.pass(Duration::from_secs(1)).await;
    }
    let Verdict::NeedsKey(joins) = kept.verify(&token(&two)) else { panic!("it is not known yet") };
    assert_eq!(origin.requests(), 2, "one is under way, and no other is begun");
    origin.open.add_permits(GATE as usize);
    assert!(wait.ended().await && joins.ended().await);
    assert!(settled(kept.verify(&token(&two))).is_ok());
    assert_eq!(origin.requests(), 2);

    // Asked for in the moment of another replacement.
    let three = signer(Algorithm::EdDsa);
    origin.serve_keys(&[&one, &three]);
    let Verdict::NeedsKey(wait) = kept.verify(&token(&three)) else { panic!("it is not known yet") };
    kept.replace();
    assert!(wait.ended().await);
    assert!(settled(kept.verify(&token(&three))).is_ok());
    assert_eq!(origin.requests(), 3);
    // And the newest configuration goes on in the background.
    kept.pass(REFRESH_MOST).await;
    assert!(origin.requests() > 3);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_invented_kids_is_a_few_fetches() {
    let one = signer(Algorithm::Es256);
    let mut kept = Kept::start(&[&one], by_url()).await;
    let mut asked = 0;
    for _ in 0..200 {
        let token = token(&signer(Algorithm::EdDsa));
        match kept.verify(&token) {
            Verdict::NeedsKey(wait) => {
                asked += 1;
                assert!(wait.ended().await);
                // The answer is final: it is not asked for a second time.
                let refusal = settled(kept.verify(&token)).unwrap_err();
                assert!(matches!(refusal, Refusal::KeyUnknown { .. }), "{refusal:?}");
            }
            Verdict::Refused(Refusal::KeyUnknown { .. }) => {}
            verdict => panic!("{verdict:?}"),
        }
    }
    assert_eq!(asked, UNKNOWN_KEY_BURST);
    assert_eq!(kept.origin.requests(), 1 + UNKNOWN_KEY_BURST as usize);
    // An honest token never noticed, and after a while one more may be asked for.
    assert!(kept.verify_waiting(&token(&one)).await.is_ok());
    kept.pass(UNKNOWN_KEY_EVERY - Duration::from_nanos(1)).await;
    assert!(matches!(kept.verify(&token(&signer(Algorithm::EdDsa))), Verdict::Refused(_)));
    kept.pass(Duration::from_nanos(1)).await;
    assert!(matches!(kept.verify(&token(&signer(Algorithm::EdDsa))), Verdict::NeedsKey(_)));
    assert!(
        matches!(kept.verify(&token(&signer(Algorithm::EdDsa))), Verdict::NeedsKey(_)),
        "joins the first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_stop_new_keys() {
    let one = signer(Algorithm::Es256);
    let mut kept = Kept::start(&[&one], by_url()).await;
    let ahead = Timestamp::from_unix_seconds(NOW_SECONDS + 1_000_000);
    let _ = kept.verifier.verify(&token(&signer(Algorithm::EdDsa)), ahead);
    settle().await;
    assert!(matches!(kept.verify(&token(&signer(Algorithm::EdDsa))), Verdict::NeedsKey(_)));
}

#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_in_the_background_within_bounds() {
    for (cache_control, pause) in [
        (None, Duration::from_secs(300)),
        (Some("max-age=1"), REFRESH_LEAST),
        (Some("no-store"), REFRESH_LEAST),
        (Some("max-age=900"), Duration::from_secs(900)),
        (Some("max-age=31536000"), REFRESH_MOST),
    ] {
        let one = signer(Algorithm::Es256);
        let kept = Kept::start(&[], by_url()).await;
        let fetched =
            Fetched { body: publish(&[&one]).into_bytes(), cache_control: cache_control.map(str::to_owned) };
        kept.origin.documents.lock().unwrap().insert(KEYS_URL.to_owned(), fetched);
        // The first fetch found no keys; the second, soon after, does.
        kept.pass(RETRY_FIRST).await;
        assert_eq!(kept.issuers.health(kept.clock.now())[0].1, Ok(()), "{cache_control:?}");
        let before = kept.origin.requests();
        kept.pass(pause - Duration::from_secs(1)).await;
        assert_eq!(kept.origin.requests(), before, "{cache_control:?}");
        kept.pass(Duration::from_secs(1)).await;
        assert_eq!(kept.origin.requests(), before + 1, "{cache_control:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_down_leaves_its_keys_until_their_age_then_none() {
    let one = signer(Algorithm::Es256);
    let age = Duration::from_secs(3600);
    let mut slow = settings(KeySource::JwksUrl(KEYS_URL.to_owned()));
    slow.key_age_max = age;
    let mut kept = Kept::start(&[&one], issuers(vec![slow])).await;
    let cached = token(&one);
    assert!(kept.verify_waiting(&cached).await.is_ok());
    kept.origin.fail();

    kept.pass(age - Duration::from_secs(1)).await;
    assert!(kept.origin.requests() > 10, "it is tried again and again: {}", kept.origin.requests());
    assert!(kept.verify_waiting(&cached).await.is_ok());
    let mut cold = CoreVerifier::new(Arc::clone(&kept.issuers));
    assert!(settled(cold.verify(&cached, kept.clock.now())).is_ok());

    kept.pass(Duration::from_secs(1)).await;
    for _ in 0..2 {
        let refusal = kept.verify_waiting(&cached).await.unwrap_err();
        let Refusal::KeysUnavailable { why, .. } = &refusal else { panic!("{refusal:?}") };
        assert!(why.contains("connection refused"), "{why}");
        assert!(refusal.is_temporary());
    }
    assert!(kept.issuers.health(kept.clock.now())[0].1.is_err());

    kept.origin.serve_keys(&[&one]);
    kept.pass(REFRESH_LEAST).await;
    assert!(kept.verify_waiting(&cached).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_key_set_changes_nothing() {
    let one = signer(Algorithm::Es256);
    let mut kept = Kept::start(&[&one], by_url()).await;
    for broken in
        ["", "{}", r#"{"keys":[]}"#, r#"{"keys":{}}"#, "<html>", r#"{"keys":[{"kty":"oct","k":"AA"}]}"#]
    {
        kept.origin.serve(KEYS_URL, broken);
        let before = kept.origin.requests();
        kept.pass(Duration::from_secs(300)).await;
        assert!(kept.origin.requests() > before, "{broken}");
        assert!(kept.verify_waiting(&token(&one)).await.is_ok(), "{broken}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_issuer_withdraws_is_good_no_more_even_for_cached_tokens() {
    let (one, two) = (signer(Algorithm::Es256), signer(Algorithm::EdDsa));
    let mut kept = Kept::start(&[&one, &two], by_url()).await;
    let (first, second) = (token(&one), token(&two));
    assert!(kept.verify_waiting(&first).await.is_ok());
    assert!(kept.verify_waiting(&second).await.is_ok());
    kept.origin.serve_keys(&[&two]);
    kept.pass(Duration::from_secs(300)).await;
    assert!(matches!(kept.verify_waiting(&first).await, Err(Refusal::KeyUnknown { .. })));
    assert!(kept.verify_waiting(&second).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_confirms_the_keys_keeps_the_cache() {
    let one = signer(Algorithm::Es256);
    let mut kept = Kept::start(&[&one], by_url()).await;
    let cached = token(&one);
    assert!(kept.verify_waiting(&cached).await.is_ok());
    kept.pass(Duration::from_secs(301)).await;
    assert_eq!(kept.origin.requests(), 2);
    assert!(kept.verify_waiting(&cached).await.is_ok());
    assert_eq!(kept.verifier.counts(), keys::VerifierCounts { hits: 1, misses: 1 });
}

#[test]
fn a_reload_keeps_fetched_keys_of_the_same_source_only() {
    let (one, origin) = (signer(Algorithm::Es256), Origin::new());
    origin.serve_keys(&[&one]);
    let old = by_url();
    refreshed(&old, &origin).unwrap();
    let now = Timestamp::from_unix_seconds(NOW_SECONDS);
    let reload = |settings| {
        let settings = IssuersSettings { issuers: vec![settings], ..IssuersSettings::default() };
        Issuers::new(settings, Some(&old)).unwrap().health(now)[0].1.is_ok()
    };
    assert!(reload(settings(KeySource::JwksUrl(KEYS_URL.to_owned()))));
    assert!(!reload(settings(KeySource::JwksUrl("https://id.example.org/other".to_owned()))));
    assert!(!reload(settings(KeySource::Discovery)));
    let mut narrower = settings(KeySource::JwksUrl(KEYS_URL.to_owned()));
    narrower.algorithms = vec![Algorithm::Rs256];
    assert!(!reload(narrower));
    let mut shorter = settings(KeySource::JwksUrl(KEYS_URL.to_owned()));
    shorter.key_age_max = KEY_AGE_MAX_LEAST;
    assert!(!reload(shorter));
}

/// Two configurations count their keys apart: that the numbers are equal says nothing.
#[test]
fn keys_that_changed_over_a_reload_verify_cached_tokens_anew() {
    let (one, two) = (signer(Algorithm::Es256), signer(Algorithm::Es256));
    let token = sign_token(&one, "at+jwt", &claims()).unwrap();
    for (keys, stands) in [(&one, true), (&two, false)] {
        let (origin, old, new) = (Origin::new(), by_url(), by_url());
        origin.serve_keys(&[&one]);
        refreshed(&old, &origin).unwrap();
        origin.serve_keys(&[keys]);
        refreshed(&new, &origin).unwrap();
        let mut verifier = CoreVerifier::new(old);
        let now = Timestamp::from_unix_seconds(NOW_SECONDS);
        assert!(matches!(verifier.verify(token.as_bytes(), now), Verdict::Accepted(_)));
        verifier.adopt(new);
        let judged = verifier.verify(token.as_bytes(), now);
        assert_eq!(matches!(judged, Verdict::Accepted(_)), stands, "{judged:?}");
        assert_eq!(verifier.counts().hits == 1, stands);
    }
}

fn jwk(signer: &LocalSigner, kid: &str) -> Value {
    let mut jwk = signer.public_jwk();
    jwk["kid"] = json!(kid);
    jwk
}

fn parse(keys: &[Value]) -> Result<(KeySet, Vec<String>), keys::Error> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), &Algorithm::ALL)
}

#[test]
fn key_sets_have_limits() {
    let one = signer(Algorithm::EdDsa);
    let many = |count: usize| (0..count).map(|place| jwk(&one, &place.to_string())).collect::<Vec<_>>();
    assert_eq!(parse(&many(JWKS_KEYS_MAX)).unwrap().0.len(), JWKS_KEYS_MAX);
    assert!(parse(&many(JWKS_KEYS_MAX + 1)).is_err());
    let padded = |bytes: usize| {
        let mut text = json!({ "keys": many(1) }).to_string().into_bytes();
        text.resize(bytes, b' ');
        KeySet::parse(&text, &Algorithm::ALL)
    };
    assert!(padded(JWKS_BYTES_MAX).is_ok());
    assert!(padded(JWKS_BYTES_MAX + 1).is_err());
    let named = |bytes: usize| parse(&[jwk(&one, &"k".repeat(bytes))]);
    assert!(named(keys::KEY_ID_BYTES_MAX).is_ok());
    assert!(named(keys::KEY_ID_BYTES_MAX + 1).is_err());
}

#[test]
fn keys_that_cannot_be_used_are_left_out_and_named() {
    let (one, two) = (signer(Algorithm::EdDsa), signer(Algorithm::Es256));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut jwk = jwk(&two, "bad");
        change(&mut jwk);
        let (set, skipped) = parse(&[jwk, self::jwk(&one, "good")]).unwrap();
        (set.len(), skipped.join(";"))
    };
    assert_eq!(changed(&|_| {}), (2, String::new()));
    assert_eq!(changed(&|jwk| jwk["key_ops"] = json!(["verify"])), (2, String::new()));
    assert_eq!(changed(&|jwk| drop(jwk.as_object_mut().unwrap().remove("alg"))), (2, String::new()));
    for (change, why) in [
        (&(|jwk: &mut Value| jwk["use"] = json!("enc")) as &dyn Fn(&mut Value), "`use`"),
        (&|jwk| jwk["key_ops"] = json!(["encrypt"]), "key_ops"),
        (&|jwk| jwk["d"] = json!("AAAA"), "secret"),
        (&|jwk| jwk["kty"] = json!("oct"), "symmetric"),
        (&|jwk| jwk["kty"] = json!("RSA"), "`n` is missing"),
        (&|jwk| jwk["alg"] = json!("HS256"), "expected one of"),
        (&|jwk| jwk["alg"] = json!("none"), "expected one of"),
        (&|jwk| jwk["alg"] = json!("ES384"), "ES384 on a key for ES256"),
        (&|jwk| jwk["alg"] = json!("RS256"), "RS256 on a key for ES256"),
        (&|jwk| jwk["crv"] = json!("secp256k1"), "`crv`"),
        (&|jwk| jwk["crv"] = json!("P-384"), "48 bytes"),
        (&|jwk| jwk["x"] = jwk["y"].clone(), "not a point"),
        (&|jwk| jwk["x"] = json!("AA"), "32 bytes"),
        (&|jwk| jwk["x"] = json!("not base64url!"), "base64url"),
        (&|jwk| jwk["kid"] = json!(1), "`kid`"),
    ] {
        let (usable, skipped) = changed(change);
        assert_eq!(usable, 1, "{why}");
        assert!(skipped.contains(why), "{why}: {skipped}");
    }
    assert!(parse(&[jwk(&one, "k"), jwk(&two, "k")]).is_err(), "which is meant would be a guess");
}

#[test]
fn rsa_keys_are_bound_to_one_algorithm_and_must_be_strong() {
    // 2048 and 2047 bits, odd, not from the broken generator.
    let modulus = |bytes: usize, first: u8| {
        let mut modulus = vec![0x5b; bytes];
        modulus[0] = first;
        modulus
    };
    let key = |n: Vec<u8>, e: &str, alg: Option<&str>, allowed: &[Algorithm]| {
        use base64::Engine as _;
        let n = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(n);
        let mut jwk = json!({ "kty": "RSA", "kid": "k", "n": n, "e": e });
        if let Some(alg) = alg {
            jwk["alg"] = json!(alg);
        }
        let set = json!({ "keys": [jwk] }).to_string();
        KeySet::parse(set.as_bytes(), allowed).map(|(set, _)| set.keys()[0].algorithm())
    };
    let strong = || modulus(256, 0x80);
    let all = &Algorithm::ALL;
    assert_eq!(key(strong(), "AQAB", None, all).unwrap(), Algorithm::Rs256);
    assert_eq!(key(strong(), "AQAB", Some("PS512"), all).unwrap(), Algorithm::Ps512);
    let allowed = [Algorithm::Es256, Algorithm::Ps384, Algorithm::Rs512];
    assert_eq!(key(strong(), "AQAB", None, &allowed).unwrap(), Algorithm::Ps384);
    assert!(key(strong(), "AQAB", Some("RS256"), &allowed).is_err());
    assert!(key(strong(), "AQAB", None, &[Algorithm::Es256]).is_err());
    assert!(key(strong(), "AQAB", Some("ES256"), all).is_err());
    assert_eq!(key(strong(), "Aw", None, all).unwrap(), Algorithm::Rs256, "an exponent of 3");
    for exponent in ["AQ", "Ag", "AAEAAQ", "", "AQABAQABAQABAQAB"] {
        assert!(key(strong(), exponent, None, all).is_err(), "{exponent}");
    }
    assert!(key(modulus(256, 0x7f), "AQAB", None, all).is_err(), "2047 bits");
    assert!(key(modulus(128, 0x80), "AQAB", None, all).is_err(), "1024 bits");
    assert!(key(modulus(1024, 0x80), "AQAB", None, all).is_ok(), "8192 bits");
    assert!(key(modulus(1025, 0x01), "AQAB", None, all).is_err(), "8193 bits");
}

#[test]
fn a_pinned_key_is_read_from_jwk_and_pem() {
    let pem = "-----BEGIN PUBLIC KEY-----\n\
               MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
               -----END PUBLIC KEY-----\n";
    let set = KeySet::parse_pinned(pem.as_bytes(), &Algorithm::ALL).unwrap();
    assert_eq!(set.keys()[0].algorithm(), Algorithm::EdDsa);
    let one = signer(Algorithm::Es256);
    let mut nameless = one.public_jwk();
    nameless.as_object_mut().unwrap().remove("kid");
    let set = KeySet::parse_pinned(nameless.to_string().as_bytes(), &Algorithm::ALL).unwrap();
    let mut verifier = CoreVerifier::new(issuers(vec![settings(KeySource::Pinned(set))]));
    let now = Timestamp::from_unix_seconds(NOW_SECONDS);
    // Pinned without `kid`, it stands for any `kid`; a stranger's signature does not.
    assert!(settled(verifier.verify(&token(&one), now)).is_ok());
    assert_eq!(settled(verifier.verify(&token(&signer(Algorithm::Es256)), now)), Err(Refusal::Signature));
    for wrong in [
        "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n",
        "-----BEGIN",
        "",
        "{}",
        r#"{"kty":"oct","k":"AAAA"}"#,
        r#"{"keys":[]}"#,
    ] {
        assert!(KeySet::parse_pinned(wrong.as_bytes(), &Algorithm::ALL).is_err(), "{wrong}");
    }
    let half = json!({ "keys": [one.public_jwk(), { "kty": "oct", "k": "AA" }] }).to_string();
    assert!(
        KeySet::parse_pinned(half.as_bytes(), &Algorithm::ALL).is_err(),
        "every pinned key must be usable"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unknown_kid_of_pinned_keys_is_refused_at_once() {
    let one = signer(Algorithm::Es256);
    let mut verifier = CoreVerifier::new(issuers(vec![crate::support::pinned(ISSUER, &one)]));
    let now = Timestamp::from_unix_seconds(NOW_SECONDS);
    let found = settled(verifier.verify(&token(&signer(Algorithm::Es256)), now));
    assert!(matches!(found, Err(Refusal::KeyUnknown { .. })), "{found:?}");
}
