//! Who is it: the proofs that the route looks for, in its order. The first that is
//! there decides; a wrong one is never passed over for another.

use std::sync::Arc;

use http::StatusCode;
use keys::{Look, Refusal as Unproven, Verdict};
use model::event::Step;
use model::{ClientNetwork, Principal, Switch, Timestamp};
use proxy::{ConnectionInfo, Known, RequestHead};

use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::snapshot::{Route, Snapshot};
use crate::step::inspect;
use crate::step::possession::{self, Good, Scheme};
use crate::step::session;

/// A proof of identity that a route looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// `Authorization: Bearer` or `DPoP` with a JSON Web Token (RFC 6750 §2.1, RFC 9449
    /// §7.1).
    Jwt,
    /// The same fields with an opaque token, which its issuer is asked about (RFC 7662).
    Opaque,
    /// `X-API-Key`, or `Authorization: ApiKey` or `Bearer` with an API key.
    ApiKey,
    /// A browser's session, begun by a login at an OpenID provider.
    Session,
    /// A TLS client certificate.
    Certificate,
}

/// Who asks.
///
/// # Errors
/// A proof is wrong, or there is none and the route wants one (401); the issuer's keys
/// cannot be had (503).
pub async fn authenticate(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    head: &RequestHead,
) -> Result<Arc<Principal>, Stop> {
    let proven = prove(gateway, journey, route, head).await;
    // Who is sent to log in is refused too, for now.
    const SHOWN: [StatusCode; 3] = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::SEE_OTHER];
    if matches!(&proven, Err(Stop::Refuse(refusal)) if SHOWN.contains(&refusal.status)) {
        inspect::unwelcome(gateway, journey, route, head).await;
    }
    proven
}

async fn prove(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    head: &RequestHead,
) -> Result<Arc<Principal>, Stop> {
    journey.step = Step::Authenticate;
    let now = journey.time;
    for proof in &route.authenticate {
        let found = match proof {
            Proof::Jwt => match token(head)?.filter(|(_, token)| route.reads_as_jwt(token)) {
                Some(offered) => Some(verify_token(gateway, journey, head, offered).await),
                None => None,
            },
            Proof::Opaque => match token(head)?.filter(|(_, token)| !route.reads_as_jwt(token)) {
                Some(offered) => Some(introspect(gateway, journey, head, offered).await),
                None => None,
            },
            Proof::ApiKey => api_key(head)?.map(|key| gateway.snapshot().api_keys.verify(key, now)),
            Proof::Session => session::prove(gateway, journey, route, head).await?,
            Proof::Certificate => gateway.certificate(journey.connection(), gateway.snapshot(), now),
        };
        match found {
            Some(Ok(principal)) => {
                journey.principal = Some(Arc::clone(&principal));
                return Ok(principal);
            }
            Some(Err(_)) if Switch::Authenticate.is_off() => {}
            Some(Err(unproven))
                if *proof == Proof::Session && !unproven.is_temporary() && session::is_navigation(head) =>
            {
                return Err(begin_session(gateway, journey, head, unproven.to_string()));
            }
            Some(Err(unproven)) => return Err(refuse(route, &unproven).into()),
            None => {}
        }
    }
    let in_clear = gateway.snapshot().came_in_clear(journey.connection());
    if in_clear {
        journey.note("plain text, where the mesh speaks TLS");
    }
    if route.anonymous || in_clear || Switch::Authenticate.is_off() {
        let anonymous = Arc::clone(gateway.anonymous());
        journey.principal = Some(Arc::clone(&anonymous));
        return Ok(anonymous);
    }
    let looked_for: Vec<&str> = route.authenticate.iter().map(|proof| proof.name()).collect();
    let why = format!("no proof of identity; the route looks for {}", looked_for.join(", "));
    if route.authenticate.contains(&Proof::Session) && session::is_navigation(head) {
        return Err(begin_session(gateway, journey, head, why));
    }
    Err(challenge(route, Refusal::new(Step::Authenticate, "no_credential", StatusCode::UNAUTHORIZED, why))
        .into())
}

impl Proof {
    /// The configuration's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Opaque => "opaque",
            Self::ApiKey => "api_key",
            Self::Session => "session",
            Self::Certificate => "mtls",
        }
    }
}

/// `Authorization`, split.
struct Authorization<'h> {
    scheme: &'h [u8],
    credential: &'h [u8],
}

impl Authorization<'_> {
    fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme.as_bytes())
    }
}

/// The one `Authorization` field.
fn authorization(head: &RequestHead) -> Result<Option<Authorization<'_>>, Stop> {
    let mut values = head.fields.values(Known::Authorization);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        // Two readers could each believe another one.
        return Err(Refusal::new(
            Step::Authenticate,
            "two_credentials",
            StatusCode::BAD_REQUEST,
            "more than one Authorization field",
        )
        .into());
    }
    let space = value.iter().position(|&byte| byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(space);
    Ok(Some(Authorization { scheme, credential: rest.trim_ascii() }))
}

/// Sends a browser that has no session to the provider.
fn begin_session(gateway: &Gateway, journey: &Journey<'_>, head: &RequestHead, why: String) -> Stop {
    session::send_to_provider(gateway, journey, head, None, (Step::Authenticate, "no_session", why))
}

/// The token that a request brings, and the scheme by which.
///
/// # Errors
/// More than one `Authorization` field (400).
pub(crate) fn token(head: &RequestHead) -> Result<Option<(Scheme, &[u8])>, Stop> {
    let Some(found) = authorization(head)? else { return Ok(None) };
    Ok(possession::scheme(found.scheme)
        .filter(|scheme| *scheme == Scheme::Dpop || !keys::api_key::is_api_key(found.credential))
        .map(|scheme| (scheme, found.credential)))
}

/// An API key from where clients put them. One in a `Bearer` is told from a token by
/// its prefix.
///
/// # Errors
/// More than one (400).
pub(crate) fn api_key(head: &RequestHead) -> Result<Option<&[u8]>, Stop> {
    let mut fields = head.fields.named(b"x-api-key");
    let (field, second) = (fields.next(), fields.next());
    let written = authorization(head)?
        .filter(|found| {
            found.is("apikey") || (found.is("bearer") && keys::api_key::is_api_key(found.credential))
        })
        .map(|found| found.credential);
    if second.is_some() || (field.is_some() && written.is_some()) {
        return Err(Refusal::new(
            Step::Authenticate,
            "two_credentials",
            StatusCode::BAD_REQUEST,
            "more than one API key",
        )
        .into());
    }
    Ok(field.or(written))
}

/// Whether some `Authorization` holds an API key of ours, on whatever route.
pub(crate) fn brings_api_key(head: &RequestHead) -> bool {
    let mut values = head.fields.values(Known::Authorization);
    values.any(|value| words(value).any(keys::api_key::is_api_key))
}

/// What stands between white space. Tokens are long and hold none: eight bytes are looked at
/// together.
fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let value = rest?;
        let (eights, _) = value.as_chunks::<8>();
        let dense = eights.iter().take_while(|eight| is_dense(**eight)).count() * 8;
        let space = value.iter().skip(dense).position(u8::is_ascii_whitespace).map(|at| dense + at);
        rest = space.and_then(|at| value.get(at + 1..));
        space.map_or(Some(value), |at| value.get(..at))
    })
}

/// Whether no byte is a space or below it. One that is borrows into its highest bit; one above
/// it may only seem to be.
fn is_dense(eight: [u8; 8]) -> bool {
    let each = |byte| u64::from_ne_bytes([byte; 8]);
    let word = u64::from_ne_bytes(eight);
    word.wrapping_sub(each(b' ' + 1)) & !word & each(0x80) == 0
}

async fn verify_token(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    head: &RequestHead,
    offered: (Scheme, &[u8]),
) -> Result<Arc<Principal>, Unproven> {
    let good = judge_token(gateway, journey, offered.1).await?;
    possession::possess(gateway, journey, head, offered, good)
}

async fn introspect(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    head: &RequestHead,
    offered: (Scheme, &[u8]),
) -> Result<Arc<Principal>, Unproven> {
    let Some(introspector) = &gateway.snapshot().introspector else {
        let why = "no issuer is configured to be asked".to_owned();
        return Err(Unproven::IntrospectionUnavailable { why });
    };
    let network = ClientNetwork::of(journey.address);
    let verdict = match introspector.look(offered.1, network, journey.time) {
        Look::Verdict(verdict) => verdict,
        Look::Wait(wait) => {
            journey.enter("introspect");
            let verdict = wait.ended(journey.time).await;
            journey.enter(Step::Authenticate.name());
            verdict
        }
    };
    let undecided = || Unproven::IntrospectionUnavailable { why: "a key was asked for".to_owned() };
    let good = settle(verdict, undecided)?;
    possession::possess(gateway, journey, head, offered, good)
}

impl Route {
    /// Whether a token is for [`Proof::Jwt`]: on a route that takes both kinds its form
    /// says which it is, so that a bad one of one kind is never tried as the other.
    pub(crate) fn reads_as_jwt(&self, token: &[u8]) -> bool {
        let (jwt, opaque) =
            (self.authenticate.contains(&Proof::Jwt), self.authenticate.contains(&Proof::Opaque));
        jwt && (!opaque || token.iter().filter(|&&byte| byte == b'.').count() == 2)
    }
}

async fn judge_token(gateway: &Gateway, journey: &mut Journey<'_>, token: &[u8]) -> Result<Good, Unproven> {
    let now = journey.time;
    let ask = || {
        let mut verifier = gateway.core().verifier.borrow_mut();
        let verdict = verifier.verify(token, now);
        if let Some(metrics) = &gateway.core().metrics {
            let counts = verifier.counts();
            metrics.token_cache(counts.hits, counts.misses);
        }
        verdict
    };
    let mut verdict = ask();
    // One wait for the one refresh that is under way; after it the answer is final
    // unless yet another key is unknown by then.
    for _ in 0..2 {
        let Verdict::NeedsKey(wait) = verdict else { break };
        journey.enter("fetch keys");
        wait.ended().await;
        journey.enter(Step::Authenticate.name());
        verdict = ask();
    }
    settle(verdict, || Unproven::KeysUnavailable {
        issuer: "the token's issuer".to_owned(),
        why: "its keys keep changing".to_owned(),
    })
}

/// What a verdict comes to; `undecided` where it still asks for a key and nobody waits any
/// more.
fn settle(verdict: Verdict, undecided: impl FnOnce() -> Unproven) -> Result<Good, Unproven> {
    match verdict {
        Verdict::Accepted(principal) => Ok(Good::Bearer(principal)),
        Verdict::Bound(bound) => Ok(Good::Bound(bound)),
        Verdict::Refused(unproven) => Err(unproven),
        Verdict::NeedsKey(_) => Err(undecided()),
    }
}

impl Gateway {
    /// Whom the connection's client certificate names.
    pub(crate) fn certificate(
        &self,
        connection: &ConnectionInfo,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Option<Result<Arc<Principal>, Unproven>> {
        let known = self.read_certificate(connection, snapshot, now)?;
        Some(match &*known {
            Err(unproven) => Err(unproven.clone()),
            // Read once, valid at each request or not.
            Ok(known) if !known.identity.is_good_at(now) => Err(Unproven::CertificateValidity {
                not_before: known.identity.not_before,
                not_after: known.identity.not_after,
                now,
            }),
            Ok(known) => Ok(Arc::clone(&known.identity.principal)),
        })
    }
}

fn refuse(route: &Route, unproven: &Unproven) -> Refusal {
    if unproven.is_temporary() {
        return Refusal::new(
            Step::Authenticate,
            unproven.code(),
            StatusCode::SERVICE_UNAVAILABLE,
            unproven.to_string(),
        )
        .with("retry-after", "5");
    }
    let refusal =
        Refusal::new(Step::Authenticate, unproven.code(), StatusCode::UNAUTHORIZED, unproven.to_string());
    match unproven.challenge() {
        Some(text) => refusal.with("www-authenticate", text),
        None => challenge(route, refusal),
    }
}

/// Names the schemes that would be accepted (RFC 9110 §11.6.1). A certificate has none.
pub(crate) fn challenge(route: &Route, mut refusal: Refusal) -> Refusal {
    for proof in &route.authenticate {
        match proof {
            Proof::Jwt if route.authenticate.contains(&Proof::Opaque) => {}
            Proof::Jwt | Proof::Opaque => refusal = refusal.with("www-authenticate", "Bearer"),
            Proof::ApiKey => refusal = refusal.with("www-authenticate", "ApiKey"),
            Proof::Session | Proof::Certificate => {}
        }
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_stand_between_white_space_wherever_it_is() {
        let split =
            |value: &[u8]| value.split(u8::is_ascii_whitespace).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let found = |value: &[u8]| words(value).map(<[u8]>::to_vec).collect::<Vec<_>>();
        for value in
            [&b""[..], b" ", b"Bearer x", b"  a  b  ", b"Bearer\tlong-token-without-any-space-in-it x"]
        {
            assert_eq!(found(value), split(value), "{value:?}");
        }
        for byte in 0..=u8::MAX {
            for length in 1..=26 {
                for place in 0..length {
                    let mut value = vec![b'!'; length];
                    value[place] = byte;
                    assert_eq!(found(&value), split(&value), "{byte:#x} at {place} of {length}");
                }
            }
        }
    }
}
