//! One order (RFC 8555 §7.4): an account, proofs for the name, a key of our own, and what
//! the server issues for it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, ChallengeType,
    Error, ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use model::{Clock, Secret};
use proxy::challenge::{Challenges, Offered};
use proxy::tls::Identity;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::http::{Asked, Guarded};
use super::issued::Issued;
use super::schedule::Cause;
use super::storage::{self, AcmeStorage};
use super::{Wanted, schedule};
use crate::config::{AcmeAccount, AcmeChallenge};

/// How long a server may take to look at a proof, and then to issue.
const POLL_FOR: Duration = Duration::from_secs(120);
/// What a server says that does not know an account (RFC 8555 §6.7).
const UNKNOWN_ACCOUNT: &str = "accountDoesNotExist";
/// Longest reason of a failure.
const REASON_CHARACTERS_MAX: usize = 1_000;
/// Longest token (RFC 8555 §8 asks for 128 bits of chance; servers send 22 to 43 bytes).
const TOKEN_BYTES_MAX: usize = 256;

/// Why nothing was issued.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// In one line.
    pub(super) reason: String,
    /// How long the server asks to be left alone.
    pub(super) asked: Option<Duration>,
    /// Whether it asks that because of its limits: then a restart waits too.
    pub(super) limited: bool,
}

/// Who orders at one directory. The account is opened when it is first needed, and anew
/// after each failure.
pub(super) struct Client<'s> {
    settings: AcmeAccount,
    storage: &'s AcmeStorage,
    clock: Arc<dyn Clock>,
    asked: Asked,
    account: Option<Account>,
}

impl<'s> Client<'s> {
    pub(super) fn new(settings: &AcmeAccount, storage: &'s AcmeStorage, clock: Arc<dyn Clock>) -> Self {
        Self { settings: settings.clone(), storage, clock, asked: Asked::default(), account: None }
    }

    /// Orders a certificate and keeps it in the state folder. `old` is the one that it
    /// replaces.
    ///
    /// # Errors
    /// Nothing was issued, or not what was ordered; nothing has changed then.
    pub(super) async fn order(
        &mut self,
        wanted: &Wanted,
        old: Option<&Issued>,
        challenges: &Arc<Challenges>,
    ) -> Result<Issued, Failure> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut ordered = self.try_order(wanted, old, challenges).await;
        if let Err(fault) = &ordered
            && problem(fault).is_some_and(|problem| is(problem, UNKNOWN_ACCOUNT))
        {
            // A server that lost it, or an account that was closed: a new one is opened.
            tracing::warn!("{} does not know the account any more", self.settings.directory);
            self.account = None;
            ordered = match self.storage.forget_account(&self.settings.directory) {
                Ok(()) => self.try_order(wanted, old, challenges).await,
                Err(error) => Err(error.into()),
            };
        }
        ordered.map_err(|fault| {
            self.account = None;
            self.failure(&fault)
        })
    }

    fn failure(&self, fault: &anyhow::Error) -> Failure {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let reachable = match fault.downcast_ref::<Error>() {
            Some(Error::Api(problem)) => !is(problem, "serverInternal") && !is(problem, "badNonce"),
            Some(Error::Timeout(_)) => true,
            Some(_) => false,
            None => true,
        };
        let limited = problem(fault).is_some_and(|problem| is(problem, "rateLimited"));
        Failure {
            cause: if reachable { Cause::Refused } else { Cause::Unreachable },
            reason: one_line(fault),
            asked,
            limited: limited && asked.is_some(),
        }
    }

    async fn try_order(
        &mut self,
        wanted: &Wanted,
        old: Option<&Issued>,
        challenges: &Arc<Challenges>,
    ) -> anyhow::Result<Issued> {
        let account = self.account().await?;
        let identifiers = [Identifier::Dns(wanted.name.clone())];
        let mut order = new_order(&account, &identifiers, wanted, old).await?;
        let offered = prove(&mut order, wanted, challenges).await?;
        if !offered.is_empty() {
            let patience = RetryPolicy::new().timeout(POLL_FOR);
            let polled = order.poll_ready(&patience).await;
            if !matches!(polled, Ok(OrderStatus::Ready)) {
                let reason = why_invalid(&account, order, wanted).await;
                return match (reason, polled) {
                    (Some(reason), _) => Err(anyhow!("{reason}{}", advice(wanted.challenge))),
                    (None, Err(error)) => Err(error.into()),
                    (None, Ok(status)) => Err(anyhow!("the order is {status:?}, expected it to be ready")),
                };
            }
        }
        drop(offered);
        let (chain, key) = finalize(&mut order, &wanted.name).await?;
        let issued = Issued::check(chain.as_bytes(), key.expose().as_bytes(), &wanted.name, self.clock.now())
            .context("what was issued is not what was ordered")?;
        self.storage.keep_certificate(&self.settings.directory, &wanted.name, &chain, key.expose())?;
        Ok(issued)
    }

    /// When the server would like a certificate to be renewed, and in how long it wants to
    /// be asked again (RFC 9773); `None` when it has no such wish.
    pub(super) async fn renewal(
        &mut self,
        issued: &Issued,
        chance: f64,
    ) -> anyhow::Result<Option<(model::Timestamp, Duration)>> {
        if self.account.is_none() && self.storage.account(&self.settings.directory)?.is_none() {
            return Ok(None);
        }
        let account = self.account().await?;
        let leaf = issued.identity.chain.first().context("no certificate")?;
        let Ok(id) = CertificateIdentifier::try_from(leaf) else { return Ok(None) };
        match account.renewal_info(&id).await {
            Ok((info, again)) => {
                let seconds = |time: time::OffsetDateTime| {
                    model::Timestamp::from_unix_seconds(u64::try_from(time.unix_timestamp()).unwrap_or(0))
                };
                let window = info.suggested_window;
                let at = schedule::within(seconds(window.start), seconds(window.end), chance);
                Ok(Some((at, again)))
            }
            Err(Error::Unsupported(_)) => Ok(None),
            Err(error) => {
                self.account = None;
                Err(error.into())
            }
        }
    }

    /// The account of the state folder, or a new one.
    async fn account(&mut self) -> anyhow::Result<Account> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let guarded = Guarded::new(&self.settings, Arc::clone(&self.clock), Arc::clone(&self.asked))?;
        let builder = Account::builder_with_http(Box::new(guarded));
        let directory = &self.settings.directory;
        let contact = self.settings.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account = if let Some(kept) = self.storage.account(directory)? {
            let account = builder.from_credentials(kept.credentials).await?;
            if kept.email != self.settings.email {
                account.update_contacts(&contact).await?;
                // Read again: credentials cannot be copied.
                if let Some(kept) = self.storage.account(directory)? {
                    self.keep(kept.credentials)?;
                }
            }
            account
        } else {
            let external = self
                .settings
                .external
                .as_ref()
                .map(|e| ExternalAccountKey::new(e.key_id.clone(), &e.hmac_key));
            let new =
                NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
            let (account, credentials) = builder.create(&new, directory.clone(), external.as_ref()).await?;
            self.keep(credentials)?;
            tracing::info!("opened an account at {directory}");
            account
        };
        self.account = Some(account.clone());
        Ok(account)
    }

    fn keep(&self, credentials: AccountCredentials) -> anyhow::Result<()> {
        let kept = storage::Account { email: self.settings.email.clone(), credentials };
        self.storage.keep_account(&self.settings.directory, &kept)
    }
}

async fn new_order(
    account: &Account,
    identifiers: &[Identifier],
    wanted: &Wanted,
    old: Option<&Issued>,
) -> Result<Order, Error> {
    let plain = || {
        let order = NewOrder::new(identifiers);
        match &wanted.profile {
            Some(profile) => order.profile(profile),
            None => order,
        }
    };
    let replaced = old.and_then(|old| old.identity.chain.first());
    if let Some(id) = replaced.and_then(|leaf| CertificateIdentifier::try_from(leaf).ok()) {
        match account.new_order(&plain().replaces(id)).await {
            // Not every server knows RFC 9773, or this certificate: then it replaces nothing.
            Err(Error::Unsupported(_)) => {}
            Err(Error::Api(problem)) if !is(&problem, "rateLimited") && !is(&problem, UNKNOWN_ACCOUNT) => {}
            Err(Error::Other(error)) if error.to_string().starts_with("replaces field mismatch") => {}
            ordered => return ordered,
        }
    }
    account.new_order(&plain()).await
}

/// Offers a proof for everything that the server does not hold for proven, and tells it to
/// look.
async fn prove(
    order: &mut Order,
    wanted: &Wanted,
    challenges: &Arc<Challenges>,
) -> anyhow::Result<Vec<Offered>> {
    let kind = match wanted.challenge {
        AcmeChallenge::Http01 => ChallengeType::Http01,
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let mut offered = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let asked_for = authorization.identifier().to_string();
        ensure!(
            asked_for.eq_ignore_ascii_case(&wanted.name),
            "the server asks for proof of {asked_for:?}, which was not ordered"
        );
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => bail!("the authorization for {} is {status:?}", wanted.name),
        }
        let mut challenge = authorization.challenge(kind.clone()).with_context(|| {
            format!("the server does not offer {} for {}", label(wanted.challenge), wanted.name)
        })?;
        offered.push(offer(&challenge, wanted, challenges)?);
        challenge.set_ready().await?;
    }
    Ok(offered)
}

fn offer(
    challenge: &ChallengeHandle<'_>,
    wanted: &Wanted,
    challenges: &Arc<Challenges>,
) -> anyhow::Result<Offered> {
    let proof = challenge.key_authorization();
    match wanted.challenge {
        AcmeChallenge::Http01 => {
            let token = &challenge.token;
            let fits = (1..=TOKEN_BYTES_MAX).contains(&token.len())
                && token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            ensure!(fits, "the server's token is not base64url");
            Ok(challenges.offer_http(&wanted.name, token, proof.as_str()))
        }
        AcmeChallenge::TlsAlpn01 => {
            let identity = proof_certificate(&wanted.name, proof.digest().as_ref())?;
            Ok(challenges.offer_tls(&wanted.name, identity)?)
        }
    }
}

/// The certificate of RFC 8737 §3: for the name alone, with the proof's digest in the
/// critical extension `acmeIdentifier`.
fn proof_certificate(name: &str, digest: &[u8]) -> anyhow::Result<Identity> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow!(error))?;
    Ok(Identity { chain: vec![CertificateDer::from(certificate)], key })
}

/// What the server says about the proof, which the order itself does not tell.
async fn why_invalid(account: &Account, order: Order, wanted: &Wanted) -> Option<String> {
    let (url, _) = order.into_parts();
    let mut order = account.order(url).await.ok()?;
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        for challenge in &authorization.challenges {
            if let Some(problem) = &challenge.error {
                return Some(format!("{} was not proven: {problem}", wanted.name));
            }
        }
    }
    None
}

fn label(challenge: AcmeChallenge) -> &'static str {
    match challenge {
        AcmeChallenge::Http01 => "http-01",
        AcmeChallenge::TlsAlpn01 => "tls-alpn-01",
    }
}

fn advice(challenge: AcmeChallenge) -> &'static str {
    match challenge {
        AcmeChallenge::Http01 => {
            " (http-01: port 80 of the name has to lead to a listener without TLS of this gateway)"
        }
        AcmeChallenge::TlsAlpn01 => {
            " (tls-alpn-01: port 443 of the name has to lead to this listener, with nothing between that ends TLS)"
        }
    }
}

/// Sends a request for a key that was made for this order, and gives chain and key.
async fn finalize(order: &mut Order, name: &str) -> anyhow::Result<(String, Secret<String>)> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate()?;
    let request = params.serialize_request(&key)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&RetryPolicy::new().timeout(POLL_FOR)).await?;
    Ok((chain, Secret::new(key.serialize_pem())))
}

/// What a server says goes into the log: one line, and not without end.
fn one_line(fault: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in fault.chain().map(ToString::to_string) {
        // Some say their cause themselves.
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(REASON_CHARACTERS_MAX).collect()
}

fn problem(fault: &anyhow::Error) -> Option<&Problem> {
    match fault.downcast_ref::<Error>() {
        Some(Error::Api(problem)) => Some(problem),
        _ => None,
    }
}

/// Whether a problem is of this type (RFC 8555 §6.7).
fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|t| t.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_one_line_of_bounded_length() {
        let fault = |text: &str| anyhow!("{text}").context("order").context("order: one");
        assert_eq!(
            one_line(&fault("no: DNS\n2026 INFO forged\u{1b}[31m")),
            "order: one: no: DNS 2026 INFO forged [31m"
        );
        assert_eq!(one_line(&fault(&"ä".repeat(5_000))).chars().count(), REASON_CHARACTERS_MAX);
    }

    #[test]
    fn the_certificate_of_a_proof_is_what_rfc_8737_asks_for() {
        let identity = proof_certificate("shop.example.org", &[7; 32]).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&identity.chain[0]).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names.len(), 1);
        // id-pe-acmeIdentifier, an octet string of 32 bytes, critical (RFC 8737 §3, §6.1).
        let is_proof =
            |e: &&x509_parser::extensions::X509Extension<'_>| e.oid.to_id_string() == "1.3.6.1.5.5.7.1.31";
        let proof = leaf.extensions().iter().find(is_proof).unwrap();
        assert!(proof.critical);
        assert_eq!(proof.value, [&[4, 32][..], &[7; 32]].concat());
        // And it can be shown, although it says what nobody else understands.
        let challenges = Arc::new(Challenges::default());
        drop(challenges.offer_tls("shop.example.org", identity).unwrap());
    }
}
