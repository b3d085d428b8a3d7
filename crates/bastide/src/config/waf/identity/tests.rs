//! Logins as browsers and clients send them, held against the Core Rule Set.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use waf::{Budget, Connection, Memory, MemoryLimits, RequestHead, RuleSet, Step, Transaction, Verdict};

use super::super::super::{Disk, load_rules};
use super::super::WafSettings;
use super::*;

/// Logins that are tried at each level.
const LOGINS: usize = 12;
/// A word that reads like SQL (942100 at paranoia level 1), as a `state` of 128 random bits may.
const LIKE_SQL: &str = "5--aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// Two, as in a refresh token, that hold what rules take for a comment of SQL (942440 at level 2).
const LIKE_COMMENT: &str = "dGhpcy--c29tZXRoaW5n-IHJh.bmRvbQaaaa";

fn rules(paranoia: u8, exclusions: Vec<Exclusion>) -> Option<Arc<RuleSet>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/crs");
    if !folder.join("rules/REQUEST-901-INITIALIZATION.conf").is_file() {
        println!("skipped: no ../shared/crs beside the repository");
        return None;
    }
    let settings =
        WafSettings { paranoia: Some(paranoia), exclusions, ..WafSettings::of_rules(vec![folder]) };
    Some(Arc::new(load_rules(&settings, &Disk).unwrap()))
}

/// Whether a request passes, and which rules added to its score, with what they looked at.
fn judge(rules: &Arc<RuleSet>, request: &Request) -> (bool, Vec<String>) {
    let address = [192, 0, 2, 1].into();
    let connection =
        Connection { client_address: address, client_port: 1, server_address: address, server_port: 443 };
    let memory = Arc::new(Memory::new(MemoryLimits::default()));
    let mut transaction = Transaction::new(Arc::clone(rules), memory, connection, "id", 0);
    let (method, line) = if request.body.is_empty() { ("GET", "GET") } else { ("POST", "POST") };
    let line = format!("{line} {} HTTP/1.1", request.target);
    let length = request.body.len().to_string();
    let mut fields = request.fields.clone();
    fields.extend([("Host", "id.example.org".to_owned()), ("Accept", "*/*".to_owned())]);
    fields.push((
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0".to_owned(),
    ));
    if !request.body.is_empty() {
        fields.push(("Content-Type", "application/x-www-form-urlencoded".to_owned()));
        fields.push(("Content-Length", length));
    }
    let headers: Vec<(&[u8], &[u8])> =
        fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let head = RequestHead {
        line: line.as_bytes(),
        method: method.as_bytes(),
        target: request.target.as_bytes(),
        protocol: b"HTTP/1.1",
        headers: &headers,
    };
    let mut step = transaction.request_headers(&head, Budget::UNLIMITED);
    if step == Step::Done(Verdict::Pass) {
        let _ = transaction.request_body_chunk(request.body.as_bytes());
        step = transaction.request_body_end(Budget::UNLIMITED);
    }
    let raised = transaction.matches().iter().filter(|found| !found.raises.is_empty());
    (
        step == Step::Done(Verdict::Pass),
        raised.map(|found| format!("{} {}", found.rule, found.variable)).collect(),
    )
}

#[derive(Clone, Default)]
struct Request {
    target: String,
    fields: Vec<(&'static str, String)>,
    body: String,
}

impl Request {
    fn get(path: &str, query: &[(&str, String)]) -> Self {
        Self { target: format!("{path}?{}", encoded(query)), ..Self::default() }
    }

    fn post(path: &str, form: &[(&str, String)]) -> Self {
        Self { target: path.to_owned(), body: encoded(form), ..Self::default() }
    }

    fn field(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((name, value));
        self
    }
}

fn encoded(pairs: &[(&str, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Random words, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % below as u64) as usize
    }

    fn of(&mut self, letters: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(letters[self.next(letters.len())])).collect()
    }

    /// Base64url, as of 256 bits.
    fn word(&mut self, length: usize) -> String {
        self.of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", length)
    }

    fn token(&mut self) -> String {
        format!("eyJ{}.eyJ{}.{}", self.word(90), self.word(400), self.word(86))
    }

    /// As a password manager makes it. From level 3 on a form may hold no percent sign at all.
    fn password(&mut self, paranoia: u8) -> String {
        let all: Vec<u8> = (b'!'..=b'~').filter(|sign| paranoia < 3 || *sign != b'%').collect();
        self.of(&all, 20)
    }
}

/// What somebody's login consists of, from the client's first question to the logout.
fn login(random: &mut Random, paranoia: u8) -> Vec<Request> {
    let cookies = |random: &mut Random| {
        format!(
            "__Host-town-browser={}; __Host-town-session={}.{}; __Host-town-known={}.{}; __Host-town-language=en",
            random.word(43),
            random.word(22),
            random.word(43),
            random.word(60),
            random.word(43)
        )
    };
    let text = str::to_owned;
    let registered = text("https://app.example.org/callback");
    let authorize = Request::get(
        "/authorize",
        &[
            ("response_type", text("code")),
            ("client_id", text("web")),
            ("redirect_uri", registered),
            ("scope", text("openid profile email offline_access")),
            ("state", random.word(43)),
            ("nonce", random.word(22)),
            ("code_challenge", random.word(43)),
            ("code_challenge_method", text("S256")),
            ("resource", text("https://api.example.org/orders")),
            ("claims", text(r#"{"id_token":{"acr":{"essential":true,"values":["2"]}}}"#)),
        ],
    )
    .field("Cookie", cookies(random));
    let page = format!("https://id.example.org{}", authorize.target);
    let password = Request::post(
        "/login/password",
        &[
            ("flow", random.word(43)),
            ("csrf", random.word(43)),
            ("username", text("alice")),
            ("password", random.password(paranoia)),
        ],
    )
    .field("Cookie", cookies(random))
    .field("Referer", page.clone())
    .field("Origin", text("https://id.example.org"));
    let credential = format!(
        r#"{{"id":"{}","type":"public-key","response":{{"clientDataJSON":"{}","authenticatorData":"{}","signature":"{}"}}}}"#,
        random.word(43),
        random.word(180),
        random.word(50),
        random.word(96)
    );
    let passkey = Request::post(
        "/login/passkey",
        &[("flow", random.word(43)), ("csrf", random.word(43)), ("credential", credential)],
    )
    .field("Cookie", cookies(random))
    .field("Referer", page);
    let pushed = Request::get(
        "/authorize",
        &[
            ("client_id", text("web")),
            ("request_uri", format!("urn:ietf:params:oauth:request_uri:{}", random.word(43))),
        ],
    );
    let code = Request::post(
        "/token",
        &[
            ("grant_type", text("authorization_code")),
            ("code", random.word(43)),
            ("redirect_uri", text("http://127.0.0.1:53211/callback")),
            ("code_verifier", random.word(43)),
            ("client_secret", random.word(43)),
        ],
    )
    .field("DPoP", random.token());
    let refresh = Request::post(
        "/token",
        &[
            ("grant_type", text("refresh_token")),
            ("refresh_token", format!("{}.{}", random.word(22), random.word(43))),
            ("client_assertion_type", text("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")),
            ("client_assertion", random.token()),
        ],
    );
    let back = Request::get(
        "/auth/callback",
        &[("code", random.word(43)), ("state", random.word(43)), ("iss", text("https://id.example.org"))],
    );
    let logout = Request::get(
        "/logout",
        &[
            ("id_token_hint", random.token()),
            ("post_logout_redirect_uri", text("https://app.example.org/bye")),
            ("state", random.word(22)),
        ],
    )
    .field("Cookie", cookies(random));
    vec![authorize, password, passkey, pushed, back, code, refresh, logout]
}

#[test]
fn honest_logins_pass_at_every_level_but_the_last() {
    for paranoia in 1..=3 {
        let Some(rules) = rules(paranoia, identity_exclusions()) else { return };
        let mut random = Random(u64::from(paranoia));
        let (mut refused, mut why) = (0, BTreeMap::<String, usize>::new());
        for _ in 0..LOGINS {
            for request in login(&mut random, paranoia) {
                let (passes, raised) = judge(&rules, &request);
                refused += usize::from(!passes);
                if !passes {
                    raised.into_iter().for_each(|rule| *why.entry(rule).or_default() += 1);
                }
            }
        }
        assert_eq!(refused, 0, "level {paranoia}: {why:#?}");
    }
}

#[test]
fn a_word_that_reads_like_sql_is_passed_where_it_is_random_and_nowhere_else() {
    for (paranoia, word) in [(1, LIKE_SQL), (2, LIKE_COMMENT)] {
        let (Some(plain), Some(skipping)) =
            (rules(paranoia, Vec::new()), rules(paranoia, identity_exclusions()))
        else {
            return;
        };
        let ask = |name: &str| Request::get("/authorize", &[(name, word.to_owned())]);
        let post = |name: &str| Request::post("/token", &[(name, word.to_owned())]);
        for name in ["code", "state", "nonce", "code_challenge", "request_uri", "refresh_token", "csrf"] {
            for request in [ask(name), post(name)] {
                assert!(!judge(&plain, &request).0, "{name}={word} is passed without the exclusion");
                assert!(judge(&skipping, &request).0, "{name}={word} is refused");
            }
        }
        for name in ["q", "username", "scope", "states"] {
            assert!(
                !judge(&skipping, &ask(name)).0 && !judge(&skipping, &post(name)).0,
                "{name}={word} is passed"
            );
        }
        let cookie = |name: &str| Request::get("/", &[]).field("Cookie", format!("{name}={word}"));
        assert!(judge(&skipping, &cookie("__Host-town-session")).0);
        assert!(!judge(&skipping, &cookie("__Host-town-cart")).0);
    }
}
