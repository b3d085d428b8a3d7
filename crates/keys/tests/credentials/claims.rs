//! Claims, one rule at a time: the attack and its honest neighbour.

use std::time::Duration;

use keys::{
    Algorithm, ClientRule, Issuers, IssuersSettings, KeySource, Refusal, Signer, publish, sign_token,
};
use model::principal::Attribute;
use model::{ClaimType, Credential, PrincipalKind, Timestamp};
use serde_json::{Value, json};

use crate::support::{
    AUDIENCE, ISSUER, NOW_SECONDS, TestBed, claims, issuers, now, pinned, settled, signer, with,
};

fn base64url(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

/// A token with exactly this header and these claims as text.
fn raw(signer: &dyn Signer, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", base64url(header), base64url(claims));
    use base64::Engine as _;
    let signature = signer.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn an_honest_token_becomes_a_principal() {
    let mut testbed = TestBed::with(|settings| {
        settings.prefix = "corp/".to_owned();
        settings.claims.insert("department".to_owned(), ClaimType::Text);
        settings.claims.insert("level".to_owned(), ClaimType::Long);
        settings.claims.insert("mfa".to_owned(), ClaimType::Boolean);
        settings.claims.insert("org.teams".to_owned(), ClaimType::Texts);
        settings.claims.insert("absent".to_owned(), ClaimType::Text);
    });
    let mut claims = claims();
    let more = json!({
        "roles": ["customer", "undeclared"], "realm_access": { "roles": ["merchant", "customer"] },
        "groups": "customer", "scope": "read  write", "scp": ["read", "admin"], "acr": "2",
        "amr": ["pwd", "otp"], "department": "sales", "level": -3, "mfa": true,
        "org": { "teams": ["a", "b"] }, "undeclared": "x", "nbf": NOW_SECONDS, "jti": "1",
    });
    claims.extend(more.as_object().unwrap().clone());
    let principal = testbed.judge(&claims).unwrap();
    assert_eq!((principal.kind, principal.id.as_str()), (PrincipalKind::User, "corp/alice"));
    assert_eq!(principal.credential, Credential::Jwt);
    assert_eq!(principal.issuer.as_deref(), Some(ISSUER));
    assert_eq!(principal.roles, ["customer", "merchant"]);
    assert_eq!(principal.scopes, ["read", "write", "admin"]);
    assert_eq!(principal.acr.as_deref(), Some("2"));
    assert_eq!(principal.amr, ["pwd", "otp"]);
    let attributes: Vec<_> =
        principal.claims.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    assert_eq!(
        attributes,
        [
            ("department", Attribute::Text("sales".to_owned())),
            ("level", Attribute::Long(-3)),
            ("mfa", Attribute::Boolean(true)),
            ("org.teams", Attribute::Texts(vec!["a".to_owned(), "b".to_owned()])),
        ]
    );
    // The end of the credential, forgiven clock difference included.
    assert_eq!(principal.expires, Some(Timestamp::from_unix_seconds(NOW_SECONDS + 330)));
}

#[test]
fn every_claim_has_its_type_or_the_token_is_refused() {
    let innocents = [
        ("aud", json!(AUDIENCE)),
        ("aud", json!(["other", AUDIENCE])),
        ("exp", json!(NOW_SECONDS + 1)),
        ("exp", json!(NOW_SECONDS as f64 + 1.5)),
        ("exp", json!(253_402_300_799_u64)),
        ("nbf", json!(0)),
        ("iat", json!(NOW_SECONDS as f64)),
        ("sub", json!("a".repeat(255))),
        ("sub", json!("Zoë 🦀")),
        ("roles", json!([])),
        ("roles", json!("customer")),
        ("realm_access", json!("not an object, so no path")),
        ("scope", json!("")),
        ("acr", json!("0")),
        ("amr", json!([])),
        ("level", json!(9_223_372_036_854_775_807_i64)),
    ];
    let attacks = [
        ("iss", json!(1)),
        ("iss", json!([ISSUER])),
        ("sub", json!(1)),
        ("sub", json!(["alice"])),
        ("sub", json!("")),
        ("sub", json!("a".repeat(256))),
        ("sub", json!("alice\0")),
        ("sub", json!("alice\r\nX-User: root")),
        ("sub", json!("alice\u{85}")),
        ("aud", json!(1)),
        ("aud", json!([AUDIENCE, 1])),
        ("aud", json!({ AUDIENCE: true })),
        ("aud", json!([[AUDIENCE]])),
        ("exp", json!((NOW_SECONDS + 300).to_string())),
        ("exp", json!(true)),
        ("exp", json!([NOW_SECONDS + 300])),
        ("exp", json!(-1)),
        ("exp", json!(-0.5)),
        ("exp", json!(253_402_300_800_u64)),
        ("exp", json!(1e300)),
        ("exp", json!(u64::MAX)),
        ("nbf", json!("0")),
        ("nbf", json!(-1)),
        ("nbf", json!({})),
        ("iat", json!("now")),
        ("roles", json!(1)),
        ("roles", json!({ "customer": true })),
        ("roles", json!(["customer", 1])),
        ("groups", json!([null])),
        ("realm_access", json!({ "roles": true })),
        ("scope", json!(1)),
        ("scp", json!({ "admin": 1 })),
        ("acr", json!(2)),
        ("amr", json!("pwd")),
        ("amr", json!([1])),
        ("azp", json!(["alice"])),
        ("client_id", json!(1)),
        ("level", json!("3")),
        ("level", json!(3.0)),
        ("level", json!(9_223_372_036_854_775_808_u64)),
        ("mfa", json!("true")),
        ("mfa", json!(1)),
        ("department", json!(["sales"])),
        ("teams", json!("a")),
        ("teams", json!(["a", true])),
    ];
    let mut testbed = TestBed::with(|settings| {
        for (name, claim_type) in [
            ("department", ClaimType::Text),
            ("level", ClaimType::Long),
            ("mfa", ClaimType::Boolean),
            ("teams", ClaimType::Texts),
        ] {
            settings.claims.insert(name.to_owned(), claim_type);
        }
    });
    for (name, value) in innocents {
        assert!(testbed.judge(&with(name, value.clone())).is_ok(), "{name} {value}");
    }
    for (name, value) in attacks {
        let found = testbed.judge(&with(name, value.clone()));
        let Err(Refusal::ClaimType { claim, .. }) = &found else { panic!("{name} {value}: {found:?}") };
        assert!(claim.starts_with(name), "{name} {claim}");
    }
}

#[test]
fn an_explicit_null_is_no_value_of_a_claim() {
    let mut testbed = TestBed::new();
    for name in ["iss", "sub", "aud", "exp", "nbf", "iat", "roles", "scope", "acr", "amr", "azp"] {
        let mut claims = claims();
        claims.insert(name.to_owned(), Value::Null);
        assert!(matches!(testbed.judge(&claims), Err(Refusal::ClaimType { .. })), "{name}");
    }
}

#[test]
fn required_claims_are_required() {
    let mut testbed = TestBed::new();
    for claim in ["iss", "sub", "aud", "exp"] {
        assert_eq!(testbed.judge(&with(claim, Value::Null)), Err(Refusal::ClaimMissing { claim }));
    }
    assert!(testbed.judge(&with("iat", Value::Null)).is_ok());
}

#[test]
fn times_hold_at_the_leeway_and_one_second_past_it() {
    let mut testbed = TestBed::new();
    let leeway = 30;
    assert!(testbed.judge(&with("exp", json!(NOW_SECONDS - leeway + 1))).is_ok());
    let ended = testbed.judge(&with("exp", json!(NOW_SECONDS - leeway)));
    assert!(matches!(ended, Err(Refusal::Expired { .. })), "{ended:?}");
    assert!(testbed.judge(&with("nbf", json!(NOW_SECONDS + leeway))).is_ok());
    let early = testbed.judge(&with("nbf", json!(NOW_SECONDS + leeway + 1)));
    assert!(matches!(early, Err(Refusal::NotYetValid { .. })), "{early:?}");
    assert!(testbed.judge(&with("iat", json!(NOW_SECONDS + leeway))).is_ok());
    let future = testbed.judge(&with("iat", json!(NOW_SECONDS + leeway + 1)));
    assert!(matches!(future, Err(Refusal::IssuedInFuture { .. })), "{future:?}");
    let mut exact = TestBed::with(|settings| settings.leeway = Duration::ZERO);
    assert!(exact.judge(&with("exp", json!(NOW_SECONDS + 1))).is_ok());
    assert!(exact.judge(&with("exp", json!(NOW_SECONDS))).is_err());
}

#[test]
fn the_audience_must_be_ours_to_the_letter() {
    let mut testbed = TestBed::new();
    for wrong in
        [json!("other"), json!([]), json!(""), json!(["SHOP.example.org"]), json!("shop.example.org/")]
    {
        let found = testbed.judge(&with("aud", wrong.clone()));
        assert!(matches!(found, Err(Refusal::Audience { .. })), "{wrong} {found:?}");
    }
}

#[test]
fn the_issuer_must_be_ours_to_the_letter() {
    let mut testbed = TestBed::new();
    for wrong in ["https://id.example.org/", "https://ID.example.org", "http://id.example.org", ""] {
        let found = testbed.judge(&with("iss", json!(wrong)));
        assert_eq!(found, Err(Refusal::IssuerUnknown { found: wrong.to_owned() }));
    }
}

#[test]
fn one_issuers_key_never_speaks_for_another() {
    let (one, two) = (signer(Algorithm::Es256), signer(Algorithm::EdDsa));
    let mut second = pinned("https://two.example", &two);
    second.prefix = "two/".to_owned();
    let mut verifier = keys::CoreVerifier::new(issuers(vec![pinned(ISSUER, &one), second]));
    let mut of = |signer: &dyn Signer, issuer: &str, subject: &str| {
        let mut claims = with("iss", json!(issuer));
        claims.insert("sub".to_owned(), json!(subject));
        let token = sign_token(signer, "at+jwt", &claims).unwrap();
        settled(verifier.verify(token.as_bytes(), now())).map(|principal| principal.id.clone())
    };
    assert_eq!(of(&one, ISSUER, "alice").as_deref(), Ok("alice"));
    assert_eq!(of(&two, "https://two.example", "alice").as_deref(), Ok("two/alice"));
    assert!(of(&two, ISSUER, "alice").is_err());
    assert!(of(&one, "https://two.example", "alice").is_err());
    // A subject of the issuer without prefix that reads like the other's.
    let found = of(&one, ISSUER, "two/alice");
    assert!(matches!(found, Err(Refusal::SubjectOfOtherIssuer { .. })), "{found:?}");
    assert_eq!(of(&two, "https://two.example", "two/alice").as_deref(), Ok("two/two/alice"));
}

#[test]
fn no_issuers_key_speaks_for_those_whom_certificates_name() {
    let signer = signer(Algorithm::Es256);
    let issuers = |other: &str| {
        let (issuers, other_prefixes) = (vec![pinned(ISSUER, &signer)], vec![other.to_owned()]);
        let settings = IssuersSettings { issuers, other_prefixes, ..IssuersSettings::default() };
        Issuers::new(settings, None).unwrap()
    };
    let claims = with("sub", json!("partner/reports"));
    let token = sign_token(&signer, "at+jwt", &claims).unwrap();
    let mut verifier = keys::CoreVerifier::new(issuers(""));
    assert!(settled(verifier.verify(token.as_bytes(), now())).is_ok());
    // What was verified before counts no more.
    verifier.adopt(issuers("partner/"));
    let found = settled(verifier.verify(token.as_bytes(), now()));
    assert!(matches!(found, Err(Refusal::SubjectOfOtherIssuer { .. })), "{found:?}");
}

#[test]
fn types_of_token_are_told_apart() {
    let mut testbed = TestBed::new();
    let mut of = |kind: Option<&str>| {
        let mut header = json!({ "alg": "ES256", "kid": testbed.signer.key_id() });
        if let Some(kind) = kind {
            header["typ"] = json!(kind);
        }
        let token = raw(&testbed.signer, &header.to_string(), &Value::Object(claims()).to_string());
        settled(testbed.verifier.verify(token.as_bytes(), now())).is_ok()
    };
    for good in [Some("at+jwt"), Some("AT+JWT"), Some("application/at+jwt"), Some("JWT"), Some("jwt"), None] {
        assert!(of(good), "{good:?}");
    }
    for wrong in
        ["dpop+jwt", "logout+jwt", "secevent+jwt", "bastide-identity+jwt", "", "application/", "at+jwt "]
    {
        assert!(!of(Some(wrong)), "{wrong:?}");
    }
    let mut strict = TestBed::with(|settings| {
        settings.type_may_be_absent = false;
        settings.types = vec!["at+jwt".to_owned()];
    });
    assert!(strict.judge(&claims()).is_ok());
    let header = json!({ "alg": "ES256", "kid": strict.signer.key_id() }).to_string();
    let token = raw(&strict.signer, &header, &Value::Object(claims()).to_string());
    assert!(matches!(strict.verify(token.as_bytes()), Err(Refusal::Type { .. })));
}

#[test]
fn headers_that_change_the_meaning_are_refused() {
    let mut testbed = TestBed::new();
    let kid = testbed.signer.key_id().to_owned();
    let body = Value::Object(claims()).to_string();
    let mut of = |header: String| {
        let token = raw(&testbed.signer, &header, &body);
        settled(testbed.verifier.verify(token.as_bytes(), now()))
    };
    let header = |more: &str| format!(r#"{{"alg":"ES256","kid":"{kid}"{more}}}"#);
    for good in [
        "",
        r#","typ":"JWT""#,
        r#","x5t":"abc""#,
        r#","x5c":["MIIB"]"#,
        r#","jku":"https://evil.example/keys""#,
        r#","cty":"JWT""#,
    ] {
        assert!(of(header(good)).is_ok(), "{good}");
    }
    for (more, name) in [
        (r#","crit":["exp"]"#, "crit"),
        (r#","crit":[]"#, "crit"),
        (r#","crit":["b64"],"b64":false"#, "crit"),
        (r#","b64":true"#, "b64"),
        (r#","zip":"DEF""#, "zip"),
        (r#","jwk":{"kty":"EC"}"#, "jwk"),
    ] {
        assert_eq!(of(header(more)), Err(Refusal::HeaderParameter { name }), "{more}");
    }
    for more in [r#","alg":"ES256""#, r#","\u0061lg":"none""#, r#","kid":"x""#] {
        assert!(matches!(of(header(more)), Err(Refusal::Json { part: "header", .. })), "{more}");
    }
    for wrong in [r#"{"kid":"x"}"#, r#"{"alg":1}"#, r#"{"alg":["ES256"]}"#, r#"{"alg":"ES256","kid":1}"#] {
        assert!(matches!(of(wrong.to_owned()), Err(Refusal::Malformed { .. })), "{wrong}");
    }
    let long = |bytes: usize| format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(bytes));
    let unknown = of(long(keys::KEY_ID_BYTES_MAX));
    assert!(matches!(unknown, Err(Refusal::KeyUnknown { .. })), "{unknown:?}");
    let too_long = of(long(keys::KEY_ID_BYTES_MAX + 1));
    assert!(matches!(too_long, Err(Refusal::Malformed { .. })), "{too_long:?}");
}

#[test]
fn claims_with_a_name_twice_are_refused() {
    let mut testbed = TestBed::new();
    let header = json!({ "alg": "ES256", "kid": testbed.signer.key_id() }).to_string();
    let honest = Value::Object(claims()).to_string();
    let token = raw(&testbed.signer, &header, &honest);
    assert!(testbed.verify(token.as_bytes()).is_ok());
    let twice = honest.replacen('{', r#"{"sub":"root","#, 1);
    let token = raw(&testbed.signer, &header, &twice);
    assert!(matches!(testbed.verify(token.as_bytes()), Err(Refusal::Json { part: "claims", .. })));
}

#[test]
fn only_the_compact_form_is_read() {
    let mut testbed = TestBed::new();
    let token = sign_token(&testbed.signer, "at+jwt", &claims()).unwrap();
    assert!(testbed.verify(token.as_bytes()).is_ok());
    let parts: Vec<&str> = token.split('.').collect();
    let json = json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2] }).to_string();
    for wrong in [
        String::new(),
        "..".to_owned(),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], parts[2]),
        json,
    ] {
        assert!(
            matches!(testbed.verify(wrong.as_bytes()), Err(Refusal::Malformed { .. } | Refusal::Json { .. })),
            "{wrong}"
        );
    }
    assert_eq!(testbed.verify(b"a.b.c.d.e"), Err(Refusal::Encrypted));
}

#[test]
fn a_token_has_a_greatest_length() {
    let mut testbed = TestBed::new();
    // Base64url and the rest of the token make the length, so find the filler that fits.
    let token_of = |filler: usize| {
        let mut claims = claims();
        claims.insert("filler".to_owned(), json!("x".repeat(filler)));
        claims
    };
    let bytes =
        |testbed: &TestBed, filler| sign_token(&testbed.signer, "at+jwt", &token_of(filler)).unwrap().len();
    let at = (11_000..12_400).rev().find(|filler| bytes(&testbed, *filler) <= keys::TOKEN_BYTES_MAX).unwrap();
    assert!(keys::TOKEN_BYTES_MAX - bytes(&testbed, at) <= 1);
    assert!(testbed.judge(&token_of(at)).is_ok());
    assert!(matches!(testbed.judge(&token_of(at + 1)), Err(Refusal::TooLong { .. })));
    let long = "A".repeat(keys::TOKEN_BYTES_MAX + 1);
    let parsed = keys::jws::Unverified::parse(long.as_bytes());
    assert_eq!(parsed.map(drop), Err(Refusal::TooLong { bytes: long.len() }));
}

#[test]
fn machine_clients_are_not_people() {
    let mut testbed = TestBed::new();
    let mut kind = |more: Value| {
        let mut claims = claims();
        claims.extend(more.as_object().unwrap().clone());
        testbed.judge(&claims).unwrap().kind
    };
    assert_eq!(kind(json!({})), PrincipalKind::User);
    assert_eq!(kind(json!({ "azp": "app", "client_id": "app" })), PrincipalKind::User);
    assert_eq!(kind(json!({ "azp": "alice" })), PrincipalKind::Client);
    assert_eq!(kind(json!({ "client_id": "alice", "azp": "other" })), PrincipalKind::Client);
    let mut ruled =
        TestBed::with(|settings| settings.client = ClientRule::HasClaim("gty.machine".to_owned()));
    let machine = ruled.judge(&with("gty", json!({ "machine": 1 }))).unwrap();
    assert_eq!(machine.kind, PrincipalKind::Client);
    assert_eq!(ruled.judge(&with("azp", json!("alice"))).unwrap().kind, PrincipalKind::User);
}

#[test]
fn an_algorithm_that_the_issuer_may_not_use_is_refused() {
    let mut testbed = TestBed::with(|settings| settings.algorithms = vec![Algorithm::Rs256]);
    let found = testbed.judge(&claims());
    assert_eq!(found, Err(Refusal::AlgorithmNotAllowed { found: Algorithm::Es256 }));
}

#[test]
fn a_token_without_kid_is_tried_with_few_keys_only() {
    let tokens_with = |count: usize| {
        let signers: Vec<_> = (0..count).map(|_| signer(Algorithm::EdDsa)).collect();
        let dynamic: Vec<&dyn Signer> = signers.iter().map(|signer| signer as &dyn Signer).collect();
        let (set, _) = keys::KeySet::parse(publish(&dynamic).as_bytes(), &Algorithm::ALL).unwrap();
        let mut settings = pinned(ISSUER, &signers[0]);
        settings.source = KeySource::Pinned(set);
        let mut verifier = keys::CoreVerifier::new(issuers(vec![settings]));
        let body = Value::Object(claims()).to_string();
        let token = raw(signers.last().unwrap(), r#"{"alg":"EdDSA"}"#, &body);
        settled(verifier.verify(token.as_bytes(), now()))
    };
    assert!(tokens_with(1).is_ok());
    assert!(tokens_with(keys::KEYS_TRIED_MAX).is_ok());
    let many = tokens_with(keys::KEYS_TRIED_MAX + 1);
    assert_eq!(many, Err(Refusal::KeyAmbiguous { candidates: keys::KEYS_TRIED_MAX + 1 }));
}

#[test]
fn refusals_tell_the_operator_all_and_the_client_nothing() {
    let mut testbed = TestBed::new();
    let refusal = testbed.judge(&with("exp", json!(NOW_SECONDS - 100))).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        format!("exp {} passed: it is {NOW_SECONDS} (Unix seconds), 100 s away", NOW_SECONDS - 100)
    );
    assert_eq!(refusal.challenge(), Some("Bearer error=\"invalid_token\""));
    assert_eq!(refusal.code(), "expired");
    let refusal = testbed.judge(&with("aud", json!("evil\nline"))).unwrap_err();
    assert_eq!(refusal.to_string(), "aud evil\\nline: expected one of shop.example.org");
}
