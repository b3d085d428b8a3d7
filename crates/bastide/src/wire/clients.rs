//! This process as a client of issuers: whom it asks about opaque tokens, and where
//! browsers log in.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use gateway::session::{RelyingParty, RelyingPartyEnvironment, RelyingPartySettings};
use keys::client::{ClientCredential, OwnClient};
use keys::{IntrospectionSettings, Introspector, IssuerSettings, Issuers, IssuersSettings, LocalSigner};
use model::Secret;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::{Parts, Reading};
use crate::config::{self, Authentication, Configuration, OwnCredential};

/// Who is asked about opaque tokens, if anybody.
pub(super) fn introspector(
    authentication: &Authentication,
    issuers: &Arc<Issuers>,
    reading: &Reading<'_>,
) -> anyhow::Result<Option<Arc<Introspector>>> {
    let asked =
        |issuer: &config::Issuer| issuer.introspection.clone().map(|how| (issuer.issuer.clone(), how));
    let Some((issuer, how)) = authentication.issuers.iter().find_map(asked) else { return Ok(None) };
    let settings = IntrospectionSettings {
        issuer,
        endpoint: how.endpoint.clone(),
        client: reading.or_before(own_client(&how.client), |before| {
            before.introspector.as_ref().map(|before| before.client().clone())
        })?,
        cache: how.cache,
        audience_may_be_absent: how.any_audience,
    };
    Ok(Some(Introspector::new(settings, issuers)?))
}

/// The relying party that browsers log in by, if any.
pub(super) fn party(
    parts: &Parts,
    configuration: &Configuration,
    roles: &BTreeSet<String>,
    access_tokens: &Arc<Issuers>,
    reading: &Reading<'_>,
) -> anyhow::Result<Option<Arc<RelyingParty>>> {
    let authentication = &configuration.authentication;
    let Some(session) = &authentication.session else { return Ok(None) };
    let issuer = authentication.issuers.iter().find(|issuer| issuer.issuer == session.issuer);
    let issuer = issuer.context("the provider is not one of authentication.issuers")?;
    let others = authentication.issuers.iter().filter(|other| other.issuer != issuer.issuer);
    // An ID token is for us alone, and is none of the other kinds of token.
    let id_token = IssuerSettings {
        audiences: vec![session.client.id.clone()],
        types: ["JWT", "logout+jwt"].map(str::to_owned).to_vec(),
        type_may_be_absent: true,
        ..super::issuers::one(issuer, authentication)?
    };
    let settings =
        IssuersSettings { issuers: vec![id_token], roles: roles.clone(), other_prefixes: Vec::new() };
    let before = reading.before().and_then(|before| before.party.as_deref());
    let id_tokens = Issuers::new(settings, before.map(RelyingParty::id_tokens))?;
    let settings = RelyingPartySettings {
        issuer: session.issuer.clone(),
        client: reading
            .or_before(own_client(&session.client), |before| Some(before.party.as_ref()?.client().clone()))?,
        path: session.path.clone(),
        scopes: session.scopes.clone(),
        resource: session.resource.clone(),
        claims_from: session.claims_from,
        idle: session.idle,
        absolute: session.absolute,
        leeway: issuer.leeway,
        allow_private_addresses: issuer.allow_private_addresses,
        other_prefixes: others
            .map(|other| other.prefix.clone())
            .filter(|prefix| !prefix.is_empty())
            .chain(super::listeners::prefixes(configuration))
            .collect(),
    };
    let fetch = &parts.fetch;
    let environment = RelyingPartyEnvironment {
        runtime: parts.runtime.clone(),
        fetch: fetch.clone(),
        post: fetch.clone(),
        clock: Arc::clone(&parts.process.clock),
        random: parts.random.clone(),
    };
    let issuers = (id_tokens, Arc::clone(access_tokens));
    Ok(Some(RelyingParty::new(settings, issuers, Arc::clone(parts.sessions.sessions()), environment, before)))
}

/// Who this process is at an issuer.
pub(super) fn own_client(client: &config::OwnClient) -> anyhow::Result<OwnClient> {
    let credential = match &client.credential {
        OwnCredential::None => ClientCredential::None,
        OwnCredential::Secret(hidden) => {
            ClientCredential::Secret(Arc::new(Secret::new(hidden.expose().to_owned())))
        }
        OwnCredential::Key(path) => {
            let bytes = super::read(path)?;
            let signer = signer(&bytes).with_context(|| path.display().to_string())?;
            ClientCredential::Key(Arc::new(signer))
        }
    };
    Ok(OwnClient { id: client.id.clone(), credential })
}

/// A private key out of a PEM or DER file.
///
/// # Errors
/// It is neither, or holds something else than a PKCS #8 document of a key to sign with.
pub fn signer(bytes: &[u8]) -> anyhow::Result<LocalSigner> {
    if !bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Ok(LocalSigner::from_pkcs8(bytes)?);
    }
    let document = PrivatePkcs8KeyDer::from_pem_slice(bytes)
        .map_err(|_| anyhow::anyhow!("expected a PKCS #8 key (`-----BEGIN PRIVATE KEY-----`)"))?;
    Ok(LocalSigner::from_pkcs8(document.secret_pkcs8_der())?)
}
