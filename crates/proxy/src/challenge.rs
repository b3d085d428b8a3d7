//! What proves control over a name while a certificate for it is ordered: the answers of
//! HTTP-01 (RFC 8555 §8.3) and the certificates of TLS-ALPN-01 (RFC 8737). The control
//! plane offers them, the cores look them up, and they are gone when their [`Offered`]
//! is dropped.
//!
//! What it must never do: answer for a name or token that nobody offered, or let a
//! connection that was opened for a proof carry anything else.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::tls::{Identity, TlsError};

/// Where HTTP-01 is asked (RFC 8555 §8.3).
const HTTP_PREFIX: &[u8] = b"/.well-known/acme-challenge/";
/// The protocol of TLS-ALPN-01 (RFC 8737 §6.2).
const TLS_PROTOCOL: &[u8] = b"acme-tls/1";

/// All proofs that are offered at this moment; shared by all cores.
#[derive(Default)]
pub struct Challenges {
    /// How many there are of both kinds: mostly none, and then nothing is locked.
    http_count: AtomicUsize,
    tls_count: AtomicUsize,
    /// Numbers them, so that each is taken back alone.
    offers: AtomicU64,
    /// By token.
    http: RwLock<HashMap<String, HttpProof>>,
    /// By name. Two orders for one name may overlap; a connection says no more than the
    /// name, so it is shown the newest.
    tls: RwLock<HashMap<String, Vec<TlsProof>>>,
}

struct HttpProof {
    number: u64,
    name: String,
    answer: Bytes,
}

struct TlsProof {
    number: u64,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges")
            .field("http", &self.http_count)
            .field("tls", &self.tls_count)
            .finish_non_exhaustive()
    }
}

impl Challenges {
    /// Answers HTTP-01 for `name` and `token` with `answer` from now on. The token must
    /// consist of base64url characters, as every path of a token does.
    pub fn offer_http(self: &Arc<Self>, name: &str, token: &str, answer: &str) -> Offered {
        let number = self.offers.fetch_add(1, Ordering::Relaxed);
        let answer = Bytes::from(answer.to_owned());
        let proof = HttpProof { number, name: name.to_ascii_lowercase(), answer };
        let mut http = self.http.write().unwrap_or_else(PoisonError::into_inner);
        http.insert(token.to_owned(), proof);
        self.http_count.store(http.len(), Ordering::Release);
        drop(http);
        Offered { challenges: Arc::clone(self), number, key: Key::Http(token.to_owned()) }
    }

    /// Shows this certificate to whoever opens a TLS-ALPN-01 connection for `name`.
    ///
    /// # Errors
    /// The key cannot be used.
    pub fn offer_tls(self: &Arc<Self>, name: &str, identity: Identity) -> Result<Offered, TlsError> {
        let provider = aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(identity.key.clone_key())?;
        // Not compared with the certificate: that would have to understand the critical
        // extension of a proof, which is there so that nobody else takes it for one.
        let shown = SingleCertAndKey::from(CertifiedKey::new(identity.chain, key));
        let builder =
            ServerConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(shown));
        config.alpn_protocols = vec![TLS_PROTOCOL.to_vec()];
        // Nothing may be resumed: every proof is a handshake of its own.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let name = name.to_ascii_lowercase();
        let number = self.offers.fetch_add(1, Ordering::Relaxed);
        let proof = TlsProof { number, config: Arc::new(config) };
        let mut tls = self.tls.write().unwrap_or_else(PoisonError::into_inner);
        tls.entry(name.clone()).or_default().push(proof);
        self.tls_count.store(tls.len(), Ordering::Release);
        drop(tls);
        Ok(Offered { challenges: Arc::clone(self), number, key: Key::Tls(name) })
    }

    /// What answers a request for this path of this host (lower case), when it asks for a
    /// proof that is offered.
    pub fn http_answer(&self, host: &[u8], path: &[u8]) -> Option<Bytes> {
        let token = path.strip_prefix(HTTP_PREFIX)?;
        if self.http_count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let http = self.http.read().unwrap_or_else(PoisonError::into_inner);
        let proof = http.get(str::from_utf8(token).ok()?)?;
        (proof.name.as_bytes() == host).then(|| proof.answer.clone())
    }

    /// Whether a TLS-ALPN-01 connection may come.
    pub(crate) fn expects_tls(&self) -> bool {
        self.tls_count.load(Ordering::Acquire) != 0
    }

    /// With which settings a connection is answered that asks for a proof which is
    /// offered. Such a connection offers this one protocol alone (RFC 8737 §3).
    pub(crate) fn tls_answer(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut protocols = hello.alpn()?;
        if protocols.next() != Some(TLS_PROTOCOL) || protocols.next().is_some() {
            return None;
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.newest_tls(&name)
    }

    fn newest_tls(&self, name: &str) -> Option<Arc<ServerConfig>> {
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner);
        tls.get(name)?.last().map(|proof| Arc::clone(&proof.config))
    }

    fn take_back(&self, key: &Key, number: u64) {
        match key {
            Key::Http(token) => {
                let mut http = self.http.write().unwrap_or_else(PoisonError::into_inner);
                if http.get(token).is_some_and(|proof| proof.number == number) {
                    http.remove(token);
                }
                self.http_count.store(http.len(), Ordering::Release);
            }
            Key::Tls(name) => {
                let mut tls = self.tls.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(proofs) = tls.get_mut(name) {
                    proofs.retain(|proof| proof.number != number);
                    if proofs.is_empty() {
                        tls.remove(name);
                    }
                }
                self.tls_count.store(tls.len(), Ordering::Release);
            }
        }
    }
}

#[derive(Debug)]
enum Key {
    Http(String),
    Tls(String),
}

/// A proof that is offered until this is dropped.
#[derive(Debug)]
#[must_use = "dropped, it is offered no more"]
pub struct Offered {
    challenges: Arc<Challenges>,
    number: u64,
    key: Key,
}

impl Drop for Offered {
    fn drop(&mut self) {
        self.challenges.take_back(&self.key, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_for_the_offered_token_of_the_offered_name_until_it_is_dropped() {
        let challenges = Arc::new(Challenges::default());
        let path = b"/.well-known/acme-challenge/abc";
        assert_eq!(challenges.http_answer(b"shop.example.org", path), None);
        let offered = challenges.offer_http("Shop.example.org", "abc", "abc.thumb");
        let other = challenges.offer_http("api.example.org", "xyz", "xyz.thumb");
        let table = [
            ("shop.example.org", "/.well-known/acme-challenge/abc", Some("abc.thumb")),
            ("api.example.org", "/.well-known/acme-challenge/xyz", Some("xyz.thumb")),
            ("api.example.org", "/.well-known/acme-challenge/abc", None),
            ("shop.example.org", "/.well-known/acme-challenge/", None),
            ("shop.example.org", "/.well-known/acme-challenge/abc/", None),
            ("shop.example.org", "/abc", None),
        ];
        for (host, path, answer) in table {
            let answered = challenges.http_answer(host.as_bytes(), path.as_bytes());
            assert_eq!(answered.as_deref(), answer.map(str::as_bytes), "{path:?}");
        }
        assert_eq!(challenges.http_answer(b"shop.example.org", b"/.well-known/acme-challenge/\xff"), None);
        drop(offered);
        assert_eq!(challenges.http_answer(b"shop.example.org", path), None);
        drop(other);
        assert_eq!(challenges.http_count.load(Ordering::Acquire), 0);
    }

    /// A renewal may begin while an earlier order for the name has not ended yet.
    #[test]
    fn an_order_that_ends_takes_back_its_own_proof_and_no_other_of_the_name() {
        let identity = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let parameters = rcgen::CertificateParams::new(vec!["shop.example.org".to_owned()]).unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            Identity::from_pem("a proof", certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
                .unwrap()
        };
        let challenges = Arc::new(Challenges::default());
        let name = "shop.example.org";
        let first = challenges.offer_tls(name, identity()).unwrap();
        let shown = challenges.newest_tls(name).unwrap();
        let second = challenges.offer_tls(name, identity()).unwrap();
        let newer = challenges.newest_tls(name).unwrap();
        assert!(!Arc::ptr_eq(&shown, &newer));
        drop(first);
        assert!(Arc::ptr_eq(&newer, &challenges.newest_tls(name).unwrap()));
        let third = challenges.offer_tls(name, identity()).unwrap();
        drop(third);
        assert!(Arc::ptr_eq(&newer, &challenges.newest_tls(name).unwrap()));
        assert!(challenges.expects_tls());
        drop(second);
        assert!(challenges.newest_tls(name).is_none() && !challenges.expects_tls());

        let path = b"/.well-known/acme-challenge/abc";
        let first = challenges.offer_http(name, "abc", "one");
        let second = challenges.offer_http(name, "abc", "two");
        drop(first);
        assert_eq!(challenges.http_answer(name.as_bytes(), path).as_deref(), Some(&b"two"[..]));
        drop(second);
        assert_eq!(challenges.http_answer(name.as_bytes(), path), None);
    }
}
