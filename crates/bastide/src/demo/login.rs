//! Tokens of the demo's people, by the way that an application gets them: authorization
//! code with PKCE, a login by real requests, and perhaps a proof of possession.

use anyhow::{Context, bail};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::Clock as _;
use serde_json::Value;

use super::browser::{Browser, Landed, Person, encode};
use super::jose::{Proof, SigningKey};
use crate::process::clock::SystemClock;

/// An application of the shop, as a client of the realm.
const APPLICATION: &str = "app";
/// Where its answers go: the demo reads them off the redirect.
const CALLBACK: &str = "https://app.shop.localhost/callback";

/// Where the application finds the provider, and how it shows there who it is.
pub(crate) struct Provider<'p> {
    /// The issuer.
    pub(crate) issuer: &'p str,
    /// Its host.
    pub(crate) host: &'p str,
    /// The application's secret.
    pub(crate) secret: &'p str,
}

/// What a token is to be.
#[derive(Clone, Copy, Default)]
pub(crate) struct TokenRequest<'w> {
    /// For which API.
    pub(crate) resource: &'w str,
    /// After which class of login.
    pub(crate) acr: Option<&'w str>,
    /// Bound to this key.
    pub(crate) key: Option<&'w SigningKey>,
}

/// Logs in and gives the access token.
///
/// # Errors
/// The provider does not give one; the error says what it says.
pub(crate) async fn token(
    browser: &mut Browser,
    person: &mut Person,
    provider: &Provider<'_>,
    wanted: &TokenRequest<'_>,
) -> anyhow::Result<String> {
    let (issuer, host) = (provider.issuer, provider.host);
    let mut bytes = [0; 32];
    rand::fill(&mut bytes)?;
    let verifier = URL_SAFE_NO_PAD.encode(bytes);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut query = vec![
        pair("response_type", "code"),
        pair("client_id", APPLICATION),
        pair("redirect_uri", CALLBACK),
        pair("scope", "openid"),
        pair("resource", wanted.resource),
        pair("code_challenge", &URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))),
        pair("code_challenge_method", "S256"),
    ];
    query.extend(wanted.acr.map(|acr| pair("acr_values", acr)));
    let start = format!("{issuer}/authorize?{}", encode(&query));
    let landed = match browser.visit(&start, person).await? {
        Landed::Away(address) => address,
        Landed::Page(answer) => {
            let page = String::from_utf8_lossy(&answer.body).into_owned();
            bail!("{} cannot log in: {} {page}", person.name, answer.status)
        }
    };
    let answer = landed.strip_prefix(CALLBACK).and_then(|rest| rest.strip_prefix('?'));
    let answer = answer.with_context(|| format!("{} was led to {landed}", person.name))?;
    let code = form_urlencoded::parse(answer.as_bytes()).find(|(name, _)| name == "code");
    let (_, code) = code.with_context(|| format!("no code for {}: {answer}", person.name))?;
    let form = [
        pair("grant_type", "authorization_code"),
        pair("code", &code),
        pair("client_id", APPLICATION),
        pair("client_secret", provider.secret),
        pair("redirect_uri", CALLBACK),
        pair("code_verifier", &verifier),
    ];
    let mut request =
        browser.request("POST", host, "/token").field("content-type", "application/x-www-form-urlencoded");
    if let Some(key) = wanted.key {
        let url = format!("{issuer}/token");
        let seconds = SystemClock::start().now().unix_seconds();
        let proof = Proof { method: "POST", url: &url, token: None, id: &verifier, seconds };
        request = request.field("dpop", &key.prove(&proof)?);
    }
    request.body = encode(&form).into_bytes();
    let given = browser.send(host, request).await?.json();
    let token = given.get("access_token").and_then(Value::as_str);
    token.map(str::to_owned).with_context(|| format!("no token for {}: {given}", person.name))
}
