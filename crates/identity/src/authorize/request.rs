//! Authorization requests: read, and checked against client and realm.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::claim::Asked;
use crate::client::{Client, GrantType, redirect};
use crate::mint;
use crate::parameter::Parameters;
use crate::pkce;
use crate::realm::Realm;
use crate::refusal::{Answer, Code, Refusal};
use crate::text::Notice;

/// Longest `state` and `nonce`, bytes.
const ECHO_BYTES_MAX: usize = 2048;
/// Longest `login_hint`, bytes.
const HINT_BYTES_MAX: usize = 255;

/// What says to whom an answer goes and how: where one of these is there twice, nobody can tell.
pub(super) const ADDRESS: [&str; 5] = ["client_id", "redirect_uri", "request_uri", "response_mode", "state"];
/// What else may be there once (RFC 6749 §3.1).
const ONCE: [&str; 15] = [
    "response_type",
    "scope",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "prompt",
    "max_age",
    "login_hint",
    "id_token_hint",
    "acr_values",
    "claims",
    "ui_locales",
    "dpop_jkt",
    "request",
    "registration",
];

/// How the answer goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// In the query of the redirect URI.
    Query,
    /// In its fragment (OAuth 2.0 Multiple Response Type Encoding Practices §2.1).
    Fragment,
    /// As a form (OAuth 2.0 Form Post Response Mode).
    FormPost,
}

impl Mode {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Query, Self::Fragment, Self::FormPost];

    /// The `response_mode` value.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Fragment => "fragment",
            Self::FormPost => "form_post",
        }
    }

    fn read(parameters: &Parameters) -> Answer<Self> {
        let Some(name) = parameters.get("response_mode") else { return Ok(Self::Query) };
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(|| {
            let told = "`response_mode` has to be query, fragment or form_post";
            Refusal::plain(Code::InvalidRequest, told)
        })
    }
}

/// Where an answer may go, error or not: to a client that exists, at an address of its.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) redirect_uri: String,
    pub(crate) mode: Mode,
    pub(crate) state: Option<String>,
}

impl Target {
    /// Reads what an answer needs. What is wrong here is told to the person, never sent
    /// to an address that may be anybody's (RFC 6749 §4.1.2.1). What is wrong with how the answer is
    /// wanted there, [`Request::read`] refuses: by the usual way, and without a `state` of any length.
    pub(crate) fn read(client: &Client, parameters: &Parameters) -> Answer<Self> {
        let uri = match (parameters.get("redirect_uri"), client.redirect_uris.as_slice()) {
            // OAuth 2.1 §4.1.1; OpenID Connect Core §3.1.2.1 wants it named.
            (None, [only]) if !is_openid(parameters) => only,
            _ => parameters.require("redirect_uri")?,
        };
        check_address(client, uri)?;
        let state = parameters.get("state").filter(|state| state.len() <= ECHO_BYTES_MAX);
        Ok(Self {
            redirect_uri: uri.to_owned(),
            mode: Mode::read(parameters).unwrap_or(Mode::Query),
            state: state.map(str::to_owned),
        })
    }
}

/// Whether it is a request of OpenID Connect (OpenID Connect Core §3.1.2.1).
fn is_openid(parameters: &Parameters) -> bool {
    parameters.get("scope").is_some_and(|scopes| scopes.split(' ').any(|scope| scope == "openid"))
}

/// That an answer to a client may go to this address, as it is registered now.
fn check_address(client: &Client, uri: &str) -> Answer<()> {
    if client.allows(GrantType::AuthorizationCode) && redirect::is_registered(uri, &client.redirect_uris) {
        return Ok(());
    }
    let found = keys::encoding::quote(uri);
    let reason = format!("client {:?}: redirect_uri \"{found}\" is not registered", client.id);
    Err(Refusal::person(Code::InvalidRequest, Notice::AddressNotRegistered, reason))
}

/// `prompt` (OpenID Connect Core §3.1.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prompt {
    /// Nobody is to be asked anything.
    pub(crate) none: bool,
    /// The person is to show who they are, logged in or not.
    pub(crate) login: bool,
    /// The person is to be asked, consent given or not.
    pub(crate) consent: bool,
}

impl Prompt {
    fn parse(text: &str) -> Answer<Self> {
        let mut prompt = Self::default();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            match word {
                "none" => prompt.none = true,
                // There is one account per browser: choosing another is logging in.
                "login" | "select_account" => prompt.login = true,
                "consent" => prompt.consent = true,
                _ => return Err(Refusal::plain(Code::InvalidRequest, "unknown `prompt`")),
            }
        }
        if prompt == Self::default() {
            return Err(Refusal::plain(Code::InvalidRequest, "`prompt` names nothing"));
        }
        if prompt.none && (prompt.login || prompt.consent) {
            return Err(Refusal::plain(Code::InvalidRequest, "`prompt` none stands alone"));
        }
        Ok(prompt)
    }
}

/// A request that can be granted, if a person says so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) client: String,
    pub(crate) target: Target,
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) resources: BTreeSet<String>,
    pub(crate) challenge: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) prompt: Prompt,
    pub(crate) max_age: Option<u64>,
    pub(crate) login_hint: Option<String>,
    /// Classes of authentication that are wished for, the dearest first.
    pub(crate) acr_values: Vec<String>,
    pub(crate) asked: Asked,
    /// Who the person has to be: of `id_token_hint` or `claims`.
    pub(crate) subject: Option<String>,
    /// RFC 9449 §10.
    pub(crate) jkt: Option<String>,
}

impl Request {
    /// Checks everything that the client may be told of. `jkt`: the key that a pushed
    /// request proved.
    pub(crate) fn read(
        realm: &Realm,
        client: &Client,
        target: &Target,
        parameters: &Parameters,
        jkt: Option<String>,
    ) -> Answer<Self> {
        let refused = |code, why: &'static str| Err(Refusal::plain(code, why));
        parameters.check_once(&ONCE)?;
        Mode::read(parameters)?;
        if parameters.get("state").is_some_and(|state| state.len() > ECHO_BYTES_MAX) {
            return refused(Code::InvalidRequest, "`state` is too long");
        }
        // OpenID Connect Core §6: requests by value are not taken; pushed ones are.
        for (name, code) in [
            ("request", Code::RequestNotSupported),
            ("request_uri", Code::RequestUriNotSupported),
            ("registration", Code::RegistrationNotSupported),
        ] {
            if parameters.get(name).is_some() {
                return refused(code, "push the request instead (RFC 9126)");
            }
        }
        if parameters.require("response_type")? != "code" {
            return refused(Code::UnsupportedResponseType, "`response_type` has to be code");
        }
        let challenge = pkce::challenge(client, parameters)?;
        let scopes = scopes(realm, client, parameters)?;
        let resources = crate::resource::requested(parameters, client, &realm.settings)?;
        let nonce = parameters.get("nonce").map(str::to_owned);
        if nonce.as_ref().is_some_and(|nonce| nonce.len() > ECHO_BYTES_MAX) {
            return refused(Code::InvalidRequest, "`nonce` is too long");
        }
        let max_age = match parameters.get("max_age").map(str::parse) {
            None => client.default_max_age,
            Some(Ok(seconds)) => Some(seconds),
            Some(Err(_)) => return refused(Code::InvalidRequest, "`max_age` is not a number of seconds"),
        };
        let rules = &realm.settings.claims;
        let asked = parameters.get("claims").map(Asked::parse).transpose()?.unwrap_or_default();
        let asked = asked.restricted(rules, &client.scopes);
        let acr_values = parameters.get("acr_values").unwrap_or_default();
        Ok(Self {
            client: client.id.clone(),
            target: target.clone(),
            scopes,
            resources: if resources.is_empty() { client.resources.clone() } else { resources },
            challenge,
            nonce,
            prompt: parameters.get("prompt").map(Prompt::parse).transpose()?.unwrap_or_default(),
            max_age,
            login_hint: login_hint(parameters),
            acr_values: acr_values.split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            subject: subject(realm, client, parameters, &asked)?,
            asked,
            jkt: key(parameters, jkt)?,
        })
    }
}

/// The client of a request; told to the person when there is none.
pub(crate) async fn client(realm: &Realm, id: &str) -> Answer<Arc<Client>> {
    let found = realm.client(id).await?;
    found.ok_or_else(|| {
        let reason = format!("client \"{}\" is unknown or disabled", keys::encoding::quote(id));
        Refusal::new(Code::InvalidRequest, "The application is not registered here.", reason)
    })
}

/// The client of a request that waited, while answers to it may go where they were to go: it may
/// be another, or registered with other addresses, than when the request began.
pub(crate) async fn client_still(realm: &Realm, request: &Request) -> Answer<Arc<Client>> {
    let client = client(realm, &request.client).await?;
    check_address(&client, &request.target.redirect_uri)?;
    Ok(client)
}

/// RFC 6749 §3.3. Without the parameter: all that the client may ask for, but nothing of
/// OpenID Connect, which has to be asked for by name.
fn scopes(realm: &Realm, client: &Client, parameters: &Parameters) -> Answer<BTreeSet<String>> {
    let Some(text) = parameters.get("scope") else {
        let standard = crate::settings::STANDARD_SCOPES;
        return Ok(client
            .scopes
            .iter()
            .filter(|scope| !standard.contains(&scope.as_str()))
            .cloned()
            .collect());
    };
    crate::scope::allowed(text, client, &realm.settings)
}

fn login_hint(parameters: &Parameters) -> Option<String> {
    let hint = parameters.get("login_hint")?;
    let good = hint.len() <= HINT_BYTES_MAX && !hint.chars().any(char::is_control);
    good.then(|| hint.to_owned())
}

/// Who the person has to be.
fn subject(realm: &Realm, client: &Client, parameters: &Parameters, asked: &Asked) -> Answer<Option<String>> {
    let Some(hint) = parameters.get("id_token_hint") else { return Ok(asked.subject.clone()) };
    let refused =
        |why: String| Refusal::new(Code::InvalidRequest, "`id_token_hint` was not issued by this realm", why);
    // One that is over still says who was meant.
    let claims = mint::read_hint(realm, hint).map_err(&refused)?;
    let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str);
    if text("aud") != Some(client.id.as_str()) {
        return Err(refused("it is of another client".to_owned()));
    }
    let subject = text("sub").map(str::to_owned);
    match (&subject, &asked.subject) {
        (Some(one), Some(two)) if one != two => Err(refused("`claims` asks for another subject".to_owned())),
        _ => Ok(subject),
    }
}

/// The key that the code will be bound to.
fn key(parameters: &Parameters, proved: Option<String>) -> Answer<Option<String>> {
    let named = parameters.get("dpop_jkt").map(str::to_owned);
    match (named, proved) {
        (Some(named), Some(proved)) if named != proved => {
            Err(Refusal::plain(Code::InvalidDpopProof, "`dpop_jkt` is not the key of the proof"))
        }
        (named, proved) => Ok(named.or(proved)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_that_contradict_each_other_are_refused() {
        let prompt = |none, login, consent| Prompt { none, login, consent };
        assert_eq!(Prompt::parse("none").unwrap(), prompt(true, false, false));
        assert_eq!(Prompt::parse("login consent").unwrap(), prompt(false, true, true));
        assert_eq!(Prompt::parse("select_account").unwrap(), prompt(false, true, false));
        assert_eq!(Prompt::parse(" login  consent ").unwrap(), prompt(false, true, true));
        for wrong in ["none login", "consent none", "", " ", "create", "login  create"] {
            assert!(Prompt::parse(wrong).is_err(), "{wrong}");
        }
    }
}
