//! An ACME server that does what no real one does. A mock, for what cannot be had
//! otherwise: servers that lie, answer nonsense, or know RFC 9773, which Debian's Pebble
//! does not. It verifies no signature and looks at no proof.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Issues for a key of its own.
    AnotherKey,
    /// Issues for another name.
    AnotherName,
    /// Issues for the name and one more.
    OneMoreName,
    /// Issues what has ended.
    Ended,
    /// Issues what ends in a few seconds.
    Brief,
    /// Issues an authority's certificate.
    Authority,
    /// Issues nothing that is a certificate.
    NoCertificate,
    /// Its directory is no directory.
    Garbage,
    /// Its directory has no end.
    Huge,
    /// It sends to an address that only this machine reaches.
    Redirect,
    /// Its directory leads to places without TLS.
    Cleartext,
    /// It asks for proof of a name that was not ordered.
    ForeignName,
    /// Its token is a path.
    PathToken,
    /// It has had enough.
    Limited,
    /// It wants every certificate renewed (RFC 9773).
    WantsRenewal,
}

struct Desk {
    manner: Mutex<Manner>,
    base: String,
    authority: CertifiedIssuer<'static, KeyPair>,
    issued: Mutex<String>,
    orders: AtomicU64,
    nonces: AtomicU64,
}

pub(crate) struct Liar {
    desk: Arc<Desk>,
}

/// TLS in front of a server.
pub(crate) struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((socket, peer)) = self.tcp.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(socket).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Tls {
    /// On 127.0.0.1, with a certificate of an authority of its own, which is written to a file.
    pub(crate) async fn listen(pem: &Path) -> (Self, CertifiedIssuer<'static, KeyPair>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(pem, authority.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (Self { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) }, authority)
    }

    /// Where it listens.
    pub(crate) fn base(&self) -> String {
        format!("https://{}", self.tcp.local_addr().unwrap())
    }
}

impl Liar {
    /// Starts one. Its own certificate is from `liar.pem` in the folder, as what it issues.
    pub(crate) async fn start(folder: &Path) -> Self {
        let (tls, authority) = Tls::listen(&folder.join("liar.pem")).await;
        let base = tls.base();
        let desk = Arc::new(Desk {
            manner: Mutex::new(Manner::Honest),
            base,
            authority,
            issued: Mutex::default(),
            orders: AtomicU64::new(0),
            nonces: AtomicU64::new(0),
        });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&desk));
        tokio::spawn(async move { axum::serve(tls, app).await });
        Self { desk }
    }

    pub(crate) fn directory(&self) -> String {
        format!("{}/directory", self.desk.base)
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.desk.manner.lock().unwrap() = manner;
    }

    /// Orders that were placed.
    pub(crate) fn orders(&self) -> u64 {
        self.desk.orders.load(Ordering::SeqCst)
    }
}

async fn answer(State(desk): State<Arc<Desk>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let manner = *desk.manner.lock().unwrap();
    let nonce = desk.nonces.fetch_add(1, Ordering::SeqCst);
    let mut fields = HeaderMap::new();
    fields.insert("replay-nonce", format!("nonce-{nonce}").parse().unwrap());
    let payload = payload(&body);
    let at = |path: &str| format!("{}{path}", desk.base);
    let location = |fields: &mut HeaderMap, path: &str| {
        fields.insert(header::LOCATION, at(path).parse().unwrap());
    };
    match (method.as_str(), uri.path()) {
        ("GET", "/directory") => directory(&desk, manner, fields),
        ("HEAD", "/nonce") => fields.into_response(),
        ("POST", "/account") => {
            location(&mut fields, "/account/1");
            (StatusCode::CREATED, fields, json!({ "status": "valid" }).to_string()).into_response()
        }
        ("POST", "/orders") => {
            desk.orders.fetch_add(1, Ordering::SeqCst);
            if manner == Manner::Limited {
                fields.insert(header::RETRY_AFTER, "7200".parse().unwrap());
                fields.insert(header::CONTENT_TYPE, "application/problem+json".parse().unwrap());
                let problem =
                    json!({ "type": "urn:ietf:params:acme:error:rateLimited", "detail": "enough\nof you" });
                return (StatusCode::TOO_MANY_REQUESTS, fields, problem.to_string()).into_response();
            }
            location(&mut fields, "/order");
            let mut order = order(&desk, manner, false);
            order["replaces"] = payload["replaces"].clone();
            (StatusCode::CREATED, fields, order.to_string()).into_response()
        }
        ("POST", "/authorization") => (fields, authorization(&desk, manner).to_string()).into_response(),
        ("POST", "/finalize") => {
            let request = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap()).unwrap();
            *desk.issued.lock().unwrap() = issue(&desk, manner, &request);
            (fields, order(&desk, manner, true).to_string()).into_response()
        }
        ("POST", "/order") => {
            let done = !desk.issued.lock().unwrap().is_empty();
            (fields, order(&desk, manner, done).to_string()).into_response()
        }
        ("POST", "/certificate") => {
            let chain = std::mem::take(&mut *desk.issued.lock().unwrap());
            (fields, chain).into_response()
        }
        ("GET", path) if path.starts_with("/renewal/") => {
            fields.insert(header::RETRY_AFTER, "21600".parse().unwrap());
            let window = json!({ "start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z" });
            (fields, json!({ "suggestedWindow": window }).to_string()).into_response()
        }
        _ => (StatusCode::NOT_FOUND, fields).into_response(),
    }
}

/// What a JWS carries; `Null` when it carries nothing.
fn payload(body: &[u8]) -> Value {
    let jws: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = jws["payload"].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn directory(desk: &Desk, manner: Manner, mut fields: HeaderMap) -> Response {
    let base = match manner {
        Manner::Cleartext => desk.base.replace("https://", "http://"),
        _ => desk.base.clone(),
    };
    let mut directory = json!({
        "newNonce": format!("{base}/nonce"),
        "newAccount": format!("{base}/account"),
        "newOrder": format!("{base}/orders"),
    });
    match manner {
        Manner::Garbage => return (fields, "<html>It works!</html>").into_response(),
        Manner::Huge => return (fields, " ".repeat(64 << 20)).into_response(),
        Manner::Redirect => {
            fields.insert(header::LOCATION, "https://169.254.169.254/latest/meta-data".parse().unwrap());
            return (StatusCode::FOUND, fields).into_response();
        }
        Manner::WantsRenewal => directory["renewalInfo"] = format!("{base}/renewal").into(),
        _ => {}
    }
    (fields, directory.to_string()).into_response()
}

fn order(desk: &Desk, manner: Manner, done: bool) -> Value {
    let asks = matches!(manner, Manner::ForeignName | Manner::PathToken);
    let status = if done {
        "valid"
    } else if asks {
        "pending"
    } else {
        "ready"
    };
    let authorizations = if asks { vec![format!("{}/authorization", desk.base)] } else { Vec::new() };
    json!({
        "status": status,
        "authorizations": authorizations,
        "finalize": format!("{}/finalize", desk.base),
        "certificate": format!("{}/certificate", desk.base),
    })
}

fn authorization(desk: &Desk, manner: Manner) -> Value {
    let name = if manner == Manner::ForeignName { "evil.test" } else { "shop.test" };
    let challenge = |kind: &str| {
        json!({
            "type": kind, "url": format!("{}/challenge", desk.base), "status": "pending",
            "token": "../../state/ca",
        })
    };
    json!({
        "identifier": { "type": "dns", "value": name }, "status": "pending",
        "challenges": [ challenge("http-01"), challenge("tls-alpn-01") ],
    })
}

/// The key that a request is for.
struct Requested(Vec<u8>);

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn issue(desk: &Desk, manner: Manner, request: &[u8]) -> String {
    if manner == Manner::NoCertificate {
        return "I am a certificate".to_owned();
    }
    let (_, request) = X509CertificationRequest::from_der(request).unwrap();
    let mut key = request.certification_request_info.subject_pki.subject_public_key.data.to_vec();
    if manner == Manner::AnotherKey {
        key = KeyPair::generate().unwrap().der_bytes().to_vec();
    }
    let names: &[&str] = match manner {
        Manner::AnotherName => &["api.test"],
        Manner::OneMoreName => &["shop.test", "evil.test"],
        _ => &["shop.test"],
    };
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(1);
    params.not_after = now
        + match manner {
            Manner::Ended => Duration::hours(-1),
            Manner::Brief => Duration::seconds(20),
            _ => Duration::days(30),
        };
    params.use_authority_key_identifier_extension = true;
    if manner == Manner::Authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params.signed_by(&Requested(key), &desk.authority).unwrap().pem()
}
