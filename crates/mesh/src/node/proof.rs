//! What a node shows to be attested, and how the control plane judges it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keys::jws::Unverified;
use keys::{Algorithm, CertificateRules, KeySet, Signer, encoding::parse_object, identify, sign_token};
use model::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Map, Value, json};

use super::key::Pin;
use super::{NODE_LIFETIME, is_name};
use crate::error::Error;
use crate::jwt_svid::{check_audience, check_time, refused};

/// `typ` of the statement that a certificate's key signs.
const STATEMENT_TYPE: &str = "bastide-node+jwt";
/// Algorithms of such statements.
const STATEMENT_ALGORITHMS: [Algorithm; 4] =
    [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa, Algorithm::Rs256];
/// Most certificates of a chain that is shown.
const CHAIN_MAX: usize = 8;

/// What a node shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The secret of a join token.
    Token(String),
    /// A certificate, those above it (DER), and what [`statement`] made with its key.
    X509 {
        /// Leaf first.
        chain: Vec<Vec<u8>>,
        /// A compact JWS.
        statement: String,
    },
    /// A projected token of a Kubernetes service account.
    Kubernetes(String),
}

/// Tokens of a Kubernetes cluster.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// `iss`: the cluster's `--service-account-issuer`.
    pub issuer: String,
    /// `aud`: what the projection asks for.
    pub audience: String,
    /// The cluster's keys, as a JWK Set.
    pub jwks: Vec<u8>,
    /// Which service accounts agents run as: `namespace/name`.
    pub service_accounts: BTreeSet<String>,
}

impl PartialEq for Kubernetes {
    fn eq(&self, other: &Self) -> bool {
        (&self.issuer, &self.audience, &self.jwks, &self.service_accounts)
            == (&other.issuer, &other.audience, &other.jwks, &other.service_accounts)
    }
}

impl Kubernetes {
    /// Algorithms of clusters.
    const ALGORITHMS: [Algorithm; 4] =
        [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::Ps256];

    /// The keys, ready.
    ///
    /// # Errors
    /// The document is no JWK Set, or has no key that can be used.
    pub fn keys(&self) -> Result<KeySet, Error> {
        Ok(KeySet::parse(&self.jwks, &Self::ALGORITHMS)?.0)
    }

    /// The node that a token was given to.
    fn node(&self, token: &str, now: Timestamp) -> Result<String, Error> {
        let token = Unverified::parse(token.as_bytes()).map_err(refused)?;
        let verified = self.keys()?.verify(token, &self.issuer).map_err(refused)?;
        let wrong = |what: &str| Error::Token(what.to_owned());
        let claims = parse_object(verified.payload()).map_err(|error| Error::Token(error.to_string()))?;
        let text = |from: &Map<String, Value>, pointer: [&str; 2]| {
            let object = from.get(pointer[0])?.as_object()?;
            object.get(pointer[1])?.as_str().map(str::to_owned)
        };
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(wrong("it is of another issuer"));
        }
        check_audience(&claims, &self.audience)?;
        check_time(&claims, now)?;
        let cluster = claims.get("kubernetes.io").and_then(Value::as_object);
        let cluster = cluster.ok_or_else(|| wrong("it is no token of a service account"))?;
        let namespace = cluster.get("namespace").and_then(Value::as_str).unwrap_or_default();
        let account = text(cluster, ["serviceaccount", "name"]).unwrap_or_default();
        let account = format!("{namespace}/{account}");
        if !self.service_accounts.contains(&account) {
            return Err(Error::Token(format!("the service account {account} is not one of agents'")));
        }
        let node = text(cluster, ["node", "name"]);
        node.ok_or_else(|| wrong("it names no node: expected a token that is bound to a pod"))
    }
}

/// How nodes may be attested, besides by join tokens, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Provers {
    /// Authorities of nodes' certificates, DER; none: nobody shows one.
    pub x509: Vec<Vec<u8>>,
    /// The cluster; `None`: nobody shows its tokens.
    pub kubernetes: Option<Kubernetes>,
    /// How long a node stays attested without a word from it.
    pub lifetime: Duration,
}

impl Default for Provers {
    fn default() -> Self {
        Self { x509: Vec::new(), kubernetes: None, lifetime: NODE_LIFETIME }
    }
}

impl Provers {
    /// Which node shows this, with the key `agent`, at the control plane with the key `server_pin`.
    ///
    /// # Errors
    /// Why it is nobody, for the log. Join tokens are not judged here: they are used up.
    pub fn judge(&self, proof: &Proof, agent: Pin, server_pin: Pin, now: Timestamp) -> Result<String, Error> {
        let (prefix, name) = match proof {
            Proof::Token(_) => return Err(Error::Token("a join token is used up, not judged".to_owned())),
            Proof::X509 { chain, statement } => {
                ("x509", self.certificate(chain, statement, agent, server_pin, now)?)
            }
            Proof::Kubernetes(token) => {
                let cluster = self.kubernetes.as_ref();
                let cluster = cluster.ok_or_else(|| Error::Token("no cluster is configured".to_owned()))?;
                ("kubernetes", cluster.node(token, now)?)
            }
        };
        let name = format!("{prefix}/{name}");
        if is_name(&name) { Ok(name) } else { Err(Error::Token(format!("{name:?} names no node"))) }
    }

    fn certificate(
        &self,
        chain: &[Vec<u8>],
        signed: &str,
        agent: Pin,
        server_pin: Pin,
        now: Timestamp,
    ) -> Result<String, Error> {
        let refuse = |why: String| Error::Token(format!("the node's certificate: {why}"));
        if self.x509.is_empty() {
            return Err(refuse("no authority of nodes is configured".to_owned()));
        }
        if chain.len() > CHAIN_MAX {
            return Err(refuse(format!("{} of them, at most {CHAIN_MAX} are read", chain.len())));
        }
        let chain: Vec<CertificateDer<'_>> =
            chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let Some((leaf, above)) = chain.split_first() else { return Err(refuse("there is none".to_owned())) };
        let mut roots = RootCertStore::empty();
        for root in &self.x509 {
            roots.add(CertificateDer::from(root.clone())).map_err(|error| refuse(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| refuse(error.to_string()))?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.unix_seconds()));
        verifier.verify_client_cert(leaf, above, time).map_err(|error| refuse(error.to_string()))?;
        let named = identify(leaf, &CertificateRules::default(), now);
        let named = named.map_err(|error| refuse(error.to_string()))?;
        check_statement(leaf, signed, agent, server_pin)?;
        Ok(named.principal.id.clone())
    }
}

/// What the key of a node's certificate signs: that the agent with this key is its own, at this
/// control plane.
///
/// # Errors
/// The signer fails.
pub(super) fn statement(signer: &dyn Signer, agent: Pin, server_pin: Pin) -> Result<String, Error> {
    let claims = json!({ "agent": agent.to_string(), "server": server_pin.to_string() });
    let Value::Object(claims) = claims else { return Err(Error::Token("no claims".to_owned())) };
    Ok(sign_token(signer, STATEMENT_TYPE, &claims)?)
}

/// A statement is good for the one agent that it names, which has proved its key, and at no other
/// control plane: whoever has copied it can do nothing with it.
fn check_statement(leaf: &[u8], signed: &str, agent: Pin, server_pin: Pin) -> Result<(), Error> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let wrong = |what: &str| Error::Token(format!("the statement of the node's key {what}"));
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| wrong("has no certificate"))?;
    let token = Unverified::parse(signed.as_bytes()).map_err(refused)?;
    let algorithms: Vec<Algorithm> =
        STATEMENT_ALGORITHMS.into_iter().filter(|algorithm| *algorithm == token.algorithm()).collect();
    let key = keys::VerifyingKey::from_spki(parsed.public_key().raw, &algorithms)?;
    let verified = token.verify(&[&key]).map_err(refused)?;
    if verified.token_type() != Some(STATEMENT_TYPE) {
        return Err(wrong("is something else"));
    }
    let claims = parse_object(verified.payload()).map_err(|error| Error::Token(error.to_string()))?;
    let says = |name: &str, pin: Pin| claims.get(name).and_then(Value::as_str) == Some(&pin.to_string());
    if !says("agent", agent) {
        return Err(wrong("is about another agent"));
    }
    if !says("server", server_pin) {
        return Err(wrong("is for another control plane"));
    }
    Ok(())
}
