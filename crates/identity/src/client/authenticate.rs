//! Who the client is: exactly one way, and the one that is registered.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use keys::client::ASSERTION_TYPE;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::assertion;
use super::certificate::thumbprint;
use super::{Client, ClientAuthentication};
use crate::call::Call;
use crate::realm::Realm;
use crate::record::Written;
use crate::refusal::{Answer, Code, Refusal};
use crate::seen;

/// A client is refused no sooner: whether there is one of its name, and what was wrong with
/// what it showed, do not show in how long it takes. Longer than any of it takes.
const REFUSED_AFTER: Duration = Duration::from_millis(25);

/// The way that clients without any credentials are told (RFC 9110 §15.5.2).
pub(crate) const BASIC: &str = "Basic realm=\"token\"";

/// A client that showed who it is, as it is registered to.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated {
    pub(crate) client: Arc<Client>,
    /// `x5t#S256` of the certificate of its connection, whatever it authenticates by.
    pub(crate) certificate: Option<String>,
}

/// What a request shows.
enum Shown<'a> {
    Nothing,
    Secret { secret: Cow<'a, str>, as_sent: Option<String>, by_header: bool },
    Assertion(&'a str),
}

/// Authenticates the client of a request to the token endpoint or one of its kin
/// (RFC 6749 §2.3).
///
/// INVARIANT: one answer for every reason, after one time, so that nobody learns which clients
/// exist.
pub(crate) async fn authenticate(realm: &Realm, call: &Call) -> Answer<Authenticated> {
    authenticate_at(realm, call, "/token").await
}

/// The same at an endpoint whose own address is an audience of assertions too (RFC 9126 §2).
pub(crate) async fn authenticate_at(realm: &Realm, call: &Call, endpoint: &str) -> Answer<Authenticated> {
    let begun = Instant::now();
    let judged = judge(realm, call, endpoint).await;
    if judged.is_err() {
        Box::pin(tokio::time::sleep_until(begun + REFUSED_AFTER)).await;
    }
    judged
}

async fn judge(realm: &Realm, call: &Call, endpoint: &str) -> Answer<Authenticated> {
    let (id, shown) = shown(call)?;
    let by_header = matches!(shown, Shown::Secret { by_header: true, .. });
    let refused = |why: String| {
        let reason = format!("client \"{}\": {why}", keys::encoding::quote(&id));
        let refusal = Refusal::new(Code::InvalidClient, "client authentication failed", reason);
        // RFC 6749 §5.2: the scheme that was used is offered again.
        if by_header { refusal.with_field(header::WWW_AUTHENTICATE, BASIC) } else { refusal }
    };
    let client = realm.client(&id).await?.ok_or_else(|| refused("unknown or disabled".to_owned()))?;
    let certificate = call.certificate().map(thumbprint);
    match (&client.authentication, shown) {
        (ClientAuthentication::None, Shown::Nothing) => {}
        // RFC 6749 §2.3.1: a secret that is empty may be left out.
        (ClientAuthentication::None, Shown::Secret { secret, by_header: true, .. }) if secret.is_empty() => {}
        (ClientAuthentication::Secret { hashes }, Shown::Secret { secret, as_sent, .. }) => {
            let given = [Some(&*secret), as_sent.as_deref()].map(|secret| secret.map(crate::random::hash));
            let same = |hash: &String| {
                let is = |given: &String| bool::from(hash.as_bytes().ct_eq(given.as_bytes()));
                given.iter().flatten().fold(false, |found, given| is(given) | found)
            };
            if !hashes.iter().fold(false, |found, hash| same(hash) | found) {
                return Err(refused("wrong secret".to_owned()));
            }
        }
        (ClientAuthentication::PrivateKeyJwt { .. }, Shown::Assertion(text)) => {
            let (token_endpoint, own) = (realm.address("/token"), realm.address(endpoint));
            let audiences = [realm.settings.issuer.as_str(), token_endpoint.as_str(), own.as_str()];
            let assertion = assertion::verify(text, &client, &audiences, call.now).map_err(&refused)?;
            let first = Box::pin(seen::first(realm, &client.id, &assertion.id, assertion.expires)).await?;
            if first == Written::Conflict {
                return Err(refused("the assertion was used before".to_owned()));
            }
        }
        (ClientAuthentication::TlsClientAuth { subject }, Shown::Nothing) => {
            let leaf = call.certificate().ok_or_else(|| refused("no client certificate".to_owned()))?;
            if !subject.names(leaf).map_err(&refused)? {
                return Err(refused("the certificate is of another subject".to_owned()));
            }
        }
        (ClientAuthentication::SelfSignedTlsClientAuth { thumbprints }, Shown::Nothing) => {
            let given = certificate.as_ref().ok_or_else(|| refused("no client certificate".to_owned()))?;
            if !thumbprints.contains(given) {
                return Err(refused("another certificate".to_owned()));
            }
        }
        (registered, _) => {
            return Err(refused(format!("not by its registered way, {}", name(registered))));
        }
    }
    Ok(Authenticated { client, certificate })
}

const fn name(registered: &ClientAuthentication) -> &'static str {
    match registered {
        ClientAuthentication::None => "none",
        ClientAuthentication::Secret { .. } => "client_secret_basic or client_secret_post",
        ClientAuthentication::PrivateKeyJwt { .. } => "private_key_jwt",
        ClientAuthentication::TlsClientAuth { .. } => "tls_client_auth",
        ClientAuthentication::SelfSignedTlsClientAuth { .. } => "self_signed_tls_client_auth",
    }
}

/// What is shown, and by whom it is said to be. Two ways at once refuse the request
/// (RFC 6749 §2.3).
fn shown(call: &Call) -> Answer<(Cow<'_, str>, Shown<'_>)> {
    let parameters = &call.parameters;
    let basic = basic(call)?;
    let posted = parameters.get("client_secret");
    let assertion = parameters.get("client_assertion");
    let ways = [basic.is_some(), posted.is_some(), assertion.is_some()];
    if ways.into_iter().filter(|used| *used).count() > 1 {
        return Err(Refusal::plain(Code::InvalidRequest, "more than one way of client authentication"));
    }
    let named = parameters.get("client_id");
    let (id, shown) = if let Some((id, secret, as_sent)) = basic {
        (
            Cow::Owned(id),
            Shown::Secret { secret: Cow::Owned(secret), as_sent: Some(as_sent), by_header: true },
        )
    } else if let Some(text) = assertion {
        if parameters.get("client_assertion_type") != Some(ASSERTION_TYPE) {
            return Err(Refusal::plain(Code::InvalidRequest, "unknown `client_assertion_type`"));
        }
        let failed = |why| Refusal::new(Code::InvalidClient, "client authentication failed", why);
        (Cow::Owned(assertion::unverified_client(text).map_err(failed)?), Shown::Assertion(text))
    } else {
        let id = named.ok_or_else(|| {
            let refusal = Refusal::plain(Code::InvalidClient, "no client authentication");
            refusal.with_field(header::WWW_AUTHENTICATE, BASIC)
        })?;
        let shown = posted.map(|secret| Shown::Secret {
            secret: Cow::Borrowed(secret),
            as_sent: None,
            by_header: false,
        });
        (Cow::Borrowed(id), shown.unwrap_or(Shown::Nothing))
    };
    if named.is_some_and(|named| named != id) {
        return Err(Refusal::plain(
            Code::InvalidRequest,
            "`client_id` is not the client that is authenticated",
        ));
    }
    Ok((id, shown))
}

/// Id and secret of `Authorization: Basic` (RFC 6749 §2.3.1): form-encoded, then base64;
/// and the secret as it was sent, for the many clients that do not encode it. Which of the
/// two is meant nobody can tell, and to guess either takes the secret. An id is what it says
/// decoded, unless no client can be called so: then it was not encoded.
fn basic(call: &Call) -> Answer<Option<(String, String, String)>> {
    let Some(field) = call.authorization()? else { return Ok(None) };
    let Some((scheme, text)) = field.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let broken = |reason: &str| {
        Refusal::new(Code::InvalidClient, "the Authorization field is not Basic credentials", reason)
            .with_field(header::WWW_AUTHENTICATE, BASIC)
    };
    let bytes = crate::call::decode_base64(text.trim()).ok_or_else(|| broken("not base64"))?;
    let text = String::from_utf8(bytes).map_err(|_| broken("not UTF-8"))?;
    let (id, secret) = text.split_once(':').ok_or_else(|| broken("no colon"))?;
    let decode = |part: &str| {
        form_urlencoded::parse(format!("x={part}").replace('&', "%26").as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
    };
    let as_sent = secret.to_owned();
    let (decoded, secret) = decode(id).zip(decode(secret)).ok_or_else(|| broken("not form-encoded"))?;
    let may_be_one = decoded.bytes().all(|byte| byte.is_ascii_graphic());
    let id = if may_be_one { decoded } else { id.to_owned() };
    Ok(Some((id, secret, as_sent)))
}
