//! This process as a member of the mesh: its certificate, and how it verifies others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::mesh::Revoked;
use ::mesh::backoff;
use ::mesh::verify::Verifier;
use ::mesh::workload_api::{self, Client, Code, Own, RevokedUpdates, Status, X509Context, X509Identity};
use anyhow::Context as _;
use gateway::step::user::ChainVerifier;
use keys::{CertificateRules, LocalSigner, SystemRandom};
use model::suggestion::nearest;
use model::{Clock, SpiffeId, Timestamp};
use proxy::tls::{ClientVerifier, Identity, ServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier as _;
use tokio::sync::watch;

/// A certificate of this process, the anchors of the domains that it trusts, and whom it
/// does not trust all the same.
#[derive(Debug)]
pub struct Member {
    identity: X509Identity,
    anchors: BTreeMap<String, Vec<Vec<u8>>>,
    revoked: Arc<Revoked>,
}

impl Member {
    /// What this process shows.
    pub fn identity(&self) -> Identity {
        let chain = self.identity.chain.iter().map(|der| CertificateDer::from(der.clone()));
        let key = PrivatePkcs8KeyDer::from(self.identity.key.to_vec());
        Identity { chain: chain.collect(), key: PrivateKeyDer::from(key) }
    }

    /// Verifies clients: workloads of a trusted domain.
    ///
    /// # Errors
    /// An anchor cannot be read.
    pub fn clients(&self) -> anyhow::Result<ClientVerifier> {
        let verifier = Arc::new(self.verifier(None)?);
        Ok(ClientVerifier { verifier, mark: self.mark("").into() })
    }

    /// Verifies a server: this workload.
    ///
    /// # Errors
    /// An anchor cannot be read.
    pub fn server(&self, id: &SpiffeId) -> anyhow::Result<ServerVerifier> {
        let verifier = Arc::new(self.verifier(Some(vec![id.clone()]))?);
        Ok(ServerVerifier { verifier, mark: self.mark(id.as_str()).into() })
    }

    /// How long its certificate is good still.
    fn ends_in(&self, now: Timestamp) -> Duration {
        let rules = CertificateRules::of_trust_domain(self.id().trust_domain());
        let leaf = self.identity.chain.first();
        let read = leaf.and_then(|leaf| keys::identify(leaf, &rules, now).ok());
        read.map_or(Duration::ZERO, |read| read.not_after.since(now))
    }

    /// Its SPIFFE ID.
    pub fn id(&self) -> &SpiffeId {
        &self.identity.id
    }

    /// Signs with the key of its certificate.
    ///
    /// # Errors
    /// The key is none that signs tokens.
    pub fn signer(&self) -> anyhow::Result<LocalSigner> {
        Ok(LocalSigner::from_pkcs8(&self.identity.key)?)
    }

    /// Verifies chains of this workload, and of no other.
    ///
    /// # Errors
    /// An anchor cannot be read.
    pub fn signers(&self, id: &SpiffeId) -> anyhow::Result<Arc<ChainVerifier>> {
        let verifier = self.verifier(Some(vec![id.clone()]))?;
        Ok(Arc::new(move |chain: &[Vec<u8>], now: Timestamp| {
            let mut chain = chain.iter().map(|der| CertificateDer::from(der.as_slice()));
            let leaf = chain.next().ok_or_else(|| "it brings no certificate".to_owned())?;
            let others: Vec<CertificateDer<'_>> = chain.collect();
            let time = UnixTime::since_unix_epoch(Duration::from_secs(now.unix_seconds()));
            let verified = verifier.verify_client_cert(&leaf, &others, time);
            verified.map(drop).map_err(|error| error.to_string())
        }))
    }

    fn verifier(&self, expected: Option<Vec<SpiffeId>>) -> anyhow::Result<Verifier> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            Verifier::new(&self.anchors, expected, &provider).context("the bundles of the mesh")?;
        Ok(verifier.without(Arc::clone(&self.revoked)))
    }

    /// Whether it shows and takes the same as another one.
    fn shows_as(&self, other: &Self) -> bool {
        self.identity.chain == other.identity.chain
            && self.anchors == other.anchors
            && self.revoked == other.revoked
    }

    fn mark(&self, id: &str) -> Vec<u8> {
        let mut mark = id.as_bytes().to_vec();
        for (name, anchors) in &self.anchors {
            mark.extend_from_slice(name.as_bytes());
            mark.extend(anchors.iter().flatten());
        }
        mark.extend(self.revoked.mark());
        mark
    }
}

/// The newest [`Member`], and each change of it.
pub(super) struct CurrentMember {
    newest: watch::Sender<Option<Arc<Member>>>,
    told: tokio::sync::Mutex<watch::Receiver<Option<Arc<Member>>>>,
}

impl Default for CurrentMember {
    fn default() -> Self {
        let (newest, told) = watch::channel(None);
        Self { newest, told: told.into() }
    }
}

impl CurrentMember {
    pub(super) fn now(&self) -> Option<Arc<Member>> {
        self.newest.borrow().clone()
    }

    /// Waits until there is one.
    pub(super) async fn first(&self) {
        // The sender lives as long as this does.
        let _ = self.newest.subscribe().wait_for(Option::is_some).await;
    }

    /// Waits until there is one of this workload.
    pub(super) async fn first_of(&self, id: &SpiffeId) {
        let is_of_it = |newest: &Option<Arc<Member>>| newest.as_ref().is_some_and(|newest| newest.id() == id);
        let _ = self.newest.subscribe().wait_for(is_of_it).await;
    }

    /// Waits until there is another one than the last time.
    pub(super) async fn changed(&self) {
        let _ = self.told.lock().await.changed().await;
    }

    /// Takes it in the place of the one before, unless it is the same: others' renewals are told
    /// here too.
    fn take(&self, identity: X509Identity, anchors: BTreeMap<String, Vec<Vec<u8>>>, revoked: Arc<Revoked>) {
        let next = Member { identity, anchors, revoked };
        self.newest.send_if_modified(|current| {
            let same = current.as_ref().is_some_and(|current| current.shows_as(&next));
            if !same {
                *current = Some(Arc::new(next));
            }
            !same
        });
    }

    /// Shows one that was here before, in the place of whatever is here now.
    pub(super) fn put_back(&self, before: Option<Arc<Member>>) {
        self.newest.send_replace(before);
    }

    /// What is revoked is something else; all else stays.
    fn revoke(&self, revoked: Arc<Revoked>) {
        if let Some(now) = self.now() {
            self.take(now.identity.clone(), now.anchors.clone(), revoked);
        }
    }
}

/// Keeps the identity that this process issues itself. Ends when it is aborted.
pub(super) async fn run(
    mut own: Own,
    mut revoked: watch::Receiver<Arc<Revoked>>,
    current: Arc<CurrentMember>,
    random: Arc<SystemRandom>,
) {
    let now = |revoked: &mut watch::Receiver<Arc<Revoked>>| Arc::clone(&revoked.borrow_and_update());
    let mut failures = 0_u32;
    loop {
        let told = tokio::select! {
            told = own.next() => told,
            Ok(()) = revoked.changed() => {
                current.revoke(now(&mut revoked));
                continue;
            }
        };
        match told {
            Ok(context) => {
                failures = 0;
                if let Some(first) = context.identities.into_iter().next() {
                    current.take(first, context.anchors, now(&mut revoked));
                }
            }
            Err(error) => {
                tracing::error!(%error, "mesh: this process has no identity");
                failures = failures.saturating_add(1);
                tokio::select! {
                    () = tokio::time::sleep(backoff::after(failures, random.as_ref())) => {}
                    // Also when it is lifted.
                    Ok(()) = revoked.changed() => current.revoke(now(&mut revoked)),
                }
            }
        }
    }
}

/// Keeps the identity of a service that a Workload API gives. Ends when it is aborted.
pub(super) async fn follow(
    path: PathBuf,
    service: String,
    current: Arc<CurrentMember>,
    clock: Arc<dyn Clock>,
    random: Arc<SystemRandom>,
) {
    let mut failures = 0_u32;
    loop {
        let why = match updates(&path, &service, &current, &mut failures).await {
            Ok(()) => "it has ended".to_owned(),
            Err(why) => why,
        };
        let member = current.now();
        let meanwhile = match &member {
            Some(_) => "documents that are still valid stay in use",
            None => "this process waits for one",
        };
        tracing::warn!(socket = %path.display(), why, "mesh: the Workload API issues no identity; {meanwhile}");
        let ends_in = member.map_or(Duration::ZERO, |member| member.ends_in(clock.now()));
        tokio::time::sleep(backoff::before_end(ends_in, &mut failures, random.as_ref())).await;
    }
}

/// Why this process is not a service, though it is others.
fn not_it(service: &str, others: &[&str]) -> String {
    let names = others.iter().filter_map(|id| id.rsplit('/').next());
    let near = nearest(service, names).map(|name| format!(" (did you mean {name:?}?)"));
    format!(
        "this process is not the workload {service:?}{}: it is not registered as that, or was revoked; it is {}",
        near.unwrap_or_default(),
        others.join(", ")
    )
}

async fn updates(
    path: &std::path::Path,
    service: &str,
    current: &CurrentMember,
    failures: &mut u32,
) -> Result<(), String> {
    let client = Client::connect(path).await.map_err(|error| error.to_string())?;
    let said = |status: Status| workload_api::said(&status);
    let mut updates = client.x509().await.map_err(said)?;
    let (mut revocations, mut revoked) = match client.revoked().await {
        Ok(mut updates) => {
            let first = updates.next().await.map_err(said)?.unwrap_or_default();
            (Some(updates), Arc::new(first))
        }
        Err(status) if status.code() == Code::Unimplemented => {
            tracing::warn!("mesh: this Workload API does not report revocations");
            (None, Arc::default())
        }
        Err(status) => return Err(said(status)),
    };
    loop {
        let told = tokio::select! {
            told = updates.next() => told.map_err(said)?,
            list = next_revoked(&mut revocations) => match list.map_err(said)? {
                Some(list) => {
                    revoked = Arc::new(list);
                    current.revoke(Arc::clone(&revoked));
                    continue;
                }
                None => return Ok(()),
            },
        };
        let Some(X509Context { identities, anchors }) = told else { return Ok(()) };
        let found = identities.iter().find(|identity| identity.is(service)).cloned();
        let Some(identity) = found else {
            let others: Vec<&str> = identities.iter().map(|identity| identity.id.as_str()).collect();
            return Err(not_it(service, &others));
        };
        *failures = 0;
        current.take(identity, anchors, Arc::clone(&revoked));
    }
}

/// The next list; never where none is told.
async fn next_revoked(updates: &mut Option<RevokedUpdates>) -> Result<Option<Revoked>, Status> {
    match updates {
        Some(updates) => updates.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_somebody_else_is_told_who_and_whom_that_may_mean() {
        let ids = ["spiffe://shop.example/orders", "spiffe://shop.example/payments"];
        assert_eq!(
            not_it("order", &ids),
            "this process is not the workload \"order\" (did you mean \"orders\"?): it is not registered \
             as that, or was revoked; it is spiffe://shop.example/orders, spiffe://shop.example/payments"
        );
        assert!(!not_it("catalogue", &ids).contains("did you mean"));
    }
}
