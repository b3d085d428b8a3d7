//! Tokens bound to a key or a certificate at the gateway, on routes that list nothing but
//! `jwt`: what a thief sends beside what the owner sends.

use std::time::Duration;

use bastide::demo::client::http1::{self, Connection};
use bastide::demo::client::{Answer, ClientCertificate, Endpoint, Request, Trust, http2};
use bastide::process::clock::SystemClock;
use keys::encoding::encode_base64url;
use keys::{Algorithm, LocalSigner, Signer, SystemRandom, publish, sign_token};
use model::Clock as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::support::{TestBed, Upstream};

fn signer() -> LocalSigner {
    LocalSigner::generate(Algorithm::Es256, &SystemRandom::new()).unwrap().0
}

fn hash(bytes: &[u8]) -> String {
    encode_base64url(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

fn seconds() -> u64 {
    SystemClock::start().now().unix_seconds()
}

/// The test bed's issuer, a client with a key and one with a certificate.
struct Bench {
    testbed: TestBed,
    _upstream: Upstream,
    issuer: LocalSigner,
    authority: Vec<u8>,
    certificates: [ClientCertificate; 2],
}

impl Bench {
    async fn start() -> Self {
        let upstream = Upstream::start().await;
        let issuer = signer();
        let mut testbed = TestBed::prepare("");
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let partners = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let text = format!(
            "state: ./state\nadmin: {{ address: 127.0.0.1:0 }}\nlisten:\n  - address: 127.0.0.1:0\n    tls:\n      \
             local: true\n      client: {{ ca: partners.pem, mode: optional }}\n  - address: 127.0.0.1:0\n\
             workers: 2\nauthentication:\n  audience: town\n  issuers:\n    - issuer: https://id.test\n      jwks_file: jwks.json\n\
             services: {{ orders: [ http://{} ] }}\nroutes:\n  - name: orders\n    match: /**\n    to: orders\n    \
             authenticate: jwt\n    allow: authenticated\n",
            upstream.address
        );
        std::fs::write(testbed.path("bastide.yaml"), text).unwrap();
        std::fs::write(testbed.path("partners.pem"), partners.pem()).unwrap();
        std::fs::write(testbed.path("jwks.json"), publish(&[&issuer])).unwrap();
        testbed.start_gateway().await;
        let authority = std::fs::read(testbed.path("state/ca/ca.pem")).unwrap();
        let certificates = ["one", "two"].map(|name| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let certificate = params.signed_by(&key, &partners).unwrap();
            ClientCertificate { chain: certificate.pem(), key: key.serialize_pem() }
        });
        Self { testbed, _upstream: upstream, issuer, authority, certificates }
    }

    fn token(&self, cnf: Value) -> String {
        let now = seconds();
        let mut claims = json!({ "iss": "https://id.test", "aud": "town", "sub": "alice", "exp": now + 300 });
        if !cnf.is_null() {
            claims["cnf"] = cnf;
        }
        sign_token(&self.issuer, "at+jwt", claims.as_object().unwrap()).unwrap()
    }

    fn endpoint(&self, certificate: Option<usize>) -> Endpoint {
        let certificate = certificate.map(|number| &self.certificates[number]);
        let trust = Trust::new("localhost", &self.authority, certificate).unwrap();
        Endpoint { address: self.testbed.tls_address(), tls: Some(trust), from: None }
    }
}

/// A proof for a token, with some claims of its own.
fn proof(key: &LocalSigner, token: &str, id: &str, changes: Value) -> String {
    let mut jwk = key.public_jwk();
    for name in ["kid", "use"] {
        jwk.as_object_mut().unwrap().remove(name);
    }
    let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
    let mut claims = json!({
        "htm": "GET", "htu": "https://localhost/cart", "iat": seconds(), "jti": id, "ath": hash(token.as_bytes()),
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let input = [header, claims].map(|part| encode_base64url(part.to_string().as_bytes())).join(".");
    format!("{input}.{}", encode_base64url(&key.sign(input.as_bytes()).unwrap()))
}

fn request(scheme: &str, token: &str, proofs: &[&str]) -> Request {
    let mut request =
        Request::new("GET", "localhost", "/cart?page=1").field("authorization", &format!("{scheme} {token}"));
    for proof in proofs {
        request = request.field("dpop", proof);
    }
    request
}

async fn ask(endpoint: &Endpoint, request: &Request) -> Answer {
    http1::ask(endpoint, request).await.unwrap()
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_key_takes_a_fresh_proof_of_it() {
    let bench = Bench::start().await;
    let endpoint = bench.endpoint(None);
    let (mine, thief) = (signer(), signer());
    let bound = bench.token(json!({ "jkt": mine.key_id() }));
    let free = bench.token(Value::Null);
    let other = bench.token(json!({ "jkt": mine.key_id(), "x5t#S256": hash(b"none") }));
    let good = |id: &str| proof(&mine, &bound, id, json!({}));
    let first = good("1");
    let cases: [(&str, &str, &str, Vec<String>, u16); 15] = [
        ("the owner", "DPoP", &bound, vec![first.clone()], 200),
        ("the owner, without regard to case", "dpop", &bound, vec![good("2")], 200),
        ("the owner's proof again", "DPoP", &bound, vec![first], 401),
        ("no proof", "DPoP", &bound, vec![], 401),
        ("as a bearer token", "Bearer", &bound, vec![], 401),
        ("as a bearer token with a proof", "Bearer", &bound, vec![good("3")], 401),
        ("two proofs", "DPoP", &bound, vec![good("4"), good("5")], 401),
        ("another key's proof", "DPoP", &bound, vec![proof(&thief, &bound, "6", json!({}))], 401),
        ("another token's proof", "DPoP", &bound, vec![proof(&mine, &free, "7", json!({}))], 401),
        ("another method's", "DPoP", &bound, vec![proof(&mine, &bound, "8", json!({ "htm": "POST" }))], 401),
        (
            "another address'",
            "DPoP",
            &bound,
            vec![proof(&mine, &bound, "9", json!({ "htu": "https://localhost/pay" }))],
            401,
        ),
        (
            "an old one",
            "DPoP",
            &bound,
            vec![proof(&mine, &bound, "10", json!({ "iat": seconds() - 90 }))],
            401,
        ),
        ("a free token with a proof", "DPoP", &free, vec![proof(&mine, &free, "11", json!({}))], 401),
        ("a free token as what it is", "Bearer", &free, vec![], 200),
        ("half of what it is bound to", "DPoP", &other, vec![proof(&mine, &other, "12", json!({}))], 401),
    ];
    for (name, scheme, token, proofs, status) in &cases {
        let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
        let answer = ask(&endpoint, &request(scheme, token, &proofs)).await;
        assert_eq!(answer.status, *status, "{name}: {}", bench.testbed.log());
        let challenge = answer.field("www-authenticate").unwrap_or_default();
        assert!(*status == 200 || challenge.contains("error=\"invalid_"), "{name}: {challenge}");
    }
    let missing = ask(&endpoint, &request("DPoP", &bound, &[])).await;
    assert!(missing.field("www-authenticate").is_some_and(|value| value.starts_with("DPoP ")));
    // The address that HTTP/2 asks for is the same one.
    let over_http2 = http2::ask(&endpoint, &request("DPoP", &bound, &[&good("20")])).await.unwrap();
    assert_eq!(over_http2.status, 200);
}

#[tokio::test]
async fn one_proof_is_good_once_over_all_cores() {
    let bench = Bench::start().await;
    let endpoint = bench.endpoint(None);
    let mine = signer();
    let bound = bench.token(json!({ "jkt": mine.key_id() }));
    for round in 0..5 {
        let proof = proof(&mine, &bound, &format!("round {round}"), json!({}));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (endpoint, request) = (endpoint.clone(), request("DPoP", &bound, &[&proof]));
            tasks.spawn(async move { http1::ask(&endpoint, &request).await.unwrap().status });
        }
        let statuses = tasks.join_all().await;
        let taken = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(taken, 1, "{statuses:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_certificate_takes_its_connection() {
    let bench = Bench::start().await;
    let leaf = |number: usize| {
        let chain = bench.certificates[number].chain.as_bytes();
        hash(CertificateDer::pem_slice_iter(chain).next().unwrap().unwrap().as_ref())
    };
    let bound = bench.token(json!({ "x5t#S256": leaf(0) }));
    let free = bench.token(Value::Null);
    for (name, certificate, token, status) in [
        ("the owner", Some(0), &bound, 200),
        ("another client", Some(1), &bound, 401),
        ("no certificate", None, &bound, 401),
        ("a free token with a certificate", Some(1), &free, 200),
        ("a free token without", None, &free, 200),
    ] {
        let answer = ask(&bench.endpoint(certificate), &request("Bearer", token, &[])).await;
        assert_eq!(answer.status, status, "{name}: {}", bench.testbed.log());
    }
    // The certificate that an honest connection proved does not speak for the next one.
    let mut connection = Connection::open(&bench.endpoint(Some(0))).await.unwrap();
    assert!(!connection.leftovers(Duration::from_millis(50)).await.1);
    assert_eq!(ask(&bench.endpoint(None), &request("Bearer", &bound, &[])).await.status, 401);
}
