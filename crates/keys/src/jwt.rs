//! Claims of a verified token → [`Principal`] (RFC 7519 §4.1, RFC 8725, RFC 9068 §4).
//!
//! Every claim that is read has exactly the types that its specification gives it; a
//! token in which one has another type is refused, not interpreted (CVE-2026-25537).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::principal::Attribute;
use model::{ClaimType, Credential, Principal, PrincipalKind, Switch, Timestamp};
use serde_json::{Map, Value};

use crate::binding::Binding;
use crate::encoding::{parse_object, quote};
use crate::issuer::{ClientRule, IssuerSettings};
use crate::jws::{Unverified, Verified};
use crate::refusal::Refusal;
use crate::revocation::{Revocations, TokenMarks};

/// Longest `sub`, bytes. OpenID Connect Core §2 allows 255 characters.
pub(crate) const SUBJECT_BYTES_MAX: usize = 255;
/// The event of a logout token (Back-Channel Logout §2.4).
pub const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Largest date in a token, Unix seconds: the end of the year 9999.
pub(crate) const SECONDS_MAX: u64 = 253_402_300_799;

/// What a token's claims amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// First moment at which it is good: `nbf` less the leeway.
    pub from: Timestamp,
    /// First moment at which it is not: `exp` plus the leeway.
    pub until: Timestamp,
    expires: Timestamp,
    /// What a revocation can name.
    pub marks: TokenMarks,
    /// What it is bound to.
    pub binding: Option<Arc<Binding>>,
}

impl Accepted {
    /// Checks that nobody revoked it.
    ///
    /// # Errors
    /// [`Refusal::Revoked`].
    pub fn check_revoked(&self, revocations: &Revocations) -> Result<(), Refusal> {
        self.check_marks(&self.marks, revocations)
    }

    /// Checks that nobody revoked another token of the same being, by its marks.
    ///
    /// # Errors
    /// [`Refusal::Revoked`].
    pub fn check_marks(&self, marks: &TokenMarks, revocations: &Revocations) -> Result<(), Refusal> {
        let issuer = self.principal.issuer.as_deref().unwrap_or_default();
        match revocations.revoked(marks, issuer, &self.principal.id) {
            Some(by) => Err(Refusal::Revoked { by }),
            None => Ok(()),
        }
    }

    /// What a revocation can name of a token that came together with this one; `None` where
    /// it cannot be read. Nothing in it is verified.
    ///
    /// INVARIANT: nobody is let in on this; it can only take away.
    pub fn marks_of(&self, token: &[u8]) -> Option<TokenMarks> {
        let token = Unverified::parse(token).ok()?;
        let mut marks = marks(&parse_claims(token.unverified_payload()).ok()?).ok()?;
        // Without a time of its own it would count as issued before every revocation.
        marks.issued = marks.issued.or(self.marks.issued);
        Some(marks)
    }

    /// Checks the times once more, for a token that was verified earlier.
    ///
    /// # Errors
    /// [`Refusal::Expired`], [`Refusal::NotYetValid`].
    pub fn check_time(&self, now: Timestamp) -> Result<(), Refusal> {
        if Switch::TokenTime.is_off() {
            return Ok(());
        }
        if now >= self.until {
            return Err(Refusal::Expired { at: self.expires, now });
        }
        if now < self.from {
            return Err(Refusal::NotYetValid { at: self.from, now });
        }
        Ok(())
    }
}

/// What of the other settings claims are read against.
#[derive(Clone, Copy, Debug)]
pub struct ClaimContext<'a> {
    /// The token's issuer.
    pub settings: &'a IssuerSettings,
    /// Roles that the configuration declares; others are dropped.
    pub declared_roles: &'a BTreeSet<String>,
    /// Prefixes of the other issuers, none empty.
    pub other_prefixes: &'a [String],
}

/// The `iss` of a token whose signature has not been checked, to find its keys by.
///
/// # Errors
/// The claims are not strict JSON, or `iss` is missing or not a text.
pub fn unverified_issuer(payload: &[u8]) -> Result<String, Refusal> {
    let claims = parse_claims(payload)?;
    Ok(required_text(&claims, "iss")?.to_owned())
}

/// Judges the claims.
///
/// # Errors
/// [`Refusal`] of the claims group and [`Refusal::Type`].
pub fn judge(token: &Verified, context: ClaimContext<'_>, now: Timestamp) -> Result<Accepted, Refusal> {
    check_type(token.token_type(), context.settings)?;
    judge_claims(&parse_claims(token.payload())?, context, Credential::Jwt, now)
}

/// Whom a token says that its holder is, for tools that ask what that one could do. Its times are
/// held against `now`; nothing in it is verified.
///
/// INVARIANT: nobody is let in on this.
///
/// # Errors
/// [`Refusal`] of the form, header and claims groups.
pub fn unproven(
    token: &[u8],
    issuers: &[IssuerSettings],
    declared_roles: &BTreeSet<String>,
    now: Timestamp,
) -> Result<Arc<Principal>, Refusal> {
    let token = Unverified::parse(token)?;
    let named = unverified_issuer(token.unverified_payload())?;
    let settings = issuers.iter().find(|settings| settings.issuer == named);
    let settings = settings.ok_or_else(|| Refusal::IssuerUnknown { found: quote(&named) })?;
    let context = ClaimContext { settings, declared_roles, other_prefixes: &[] };
    let claims = parse_claims(token.unverified_payload())?;
    judge_claims(&claims, context, Credential::Jwt, now).map(|accepted| accepted.principal)
}

/// Judges claims that somebody vouched for: a signature, or the server that was asked.
///
/// # Errors
/// [`Refusal`] of the claims group.
pub(crate) fn judge_claims(
    claims: &Map<String, Value>,
    context: ClaimContext<'_>,
    credential: Credential,
    now: Timestamp,
) -> Result<Accepted, Refusal> {
    let settings = context.settings;
    let issuer = required_text(claims, "iss")?;
    if issuer != settings.issuer {
        return Err(Refusal::IssuerUnknown { found: quote(issuer) });
    }
    check_audience(claims, &settings.audiences)?;
    let expires = required_date(claims, "exp")?;
    let leeway = settings.leeway;
    let from = optional_date(claims, "nbf")?;
    let issued = optional_date(claims, "iat")?;
    if let Some(issued) = issued
        && issued > now.plus(leeway)
    {
        return Err(Refusal::IssuedInFuture { at: issued, now });
    }
    let until = expires.plus(leeway);
    let principal = Arc::new(principal(claims, context, credential, until)?);
    let marks = marks(claims)?;
    let accepted = Accepted {
        principal,
        from: from.unwrap_or_default().minus(leeway),
        until,
        expires,
        marks,
        binding: Binding::of(claims)?,
    };
    accepted.check_time(now)?;
    Ok(accepted)
}

fn marks(claims: &Map<String, Value>) -> Result<TokenMarks, Refusal> {
    Ok(TokenMarks {
        token: optional_text(claims, "jti")?.map(Into::into),
        session: optional_text(claims, "sid")?.map(Into::into),
        client: optional_text(claims, "client_id")?.map(Into::into),
        issued: optional_date(claims, "iat")?,
        // Whatever others mean by it: without a number it is as old as can be.
        role_version: claims.get("role_version").and_then(Value::as_u64).unwrap_or_default(),
    })
}

pub(crate) fn parse_claims(payload: &[u8]) -> Result<Map<String, Value>, Refusal> {
    parse_object(payload).map_err(|error| Refusal::Json { part: "claims", why: quote(&error.to_string()) })
}

/// RFC 8725 §3.11, RFC 9068 §4: `at+jwt` and `application/at+jwt` are the same.
fn check_type(found: Option<&str>, settings: &IssuerSettings) -> Result<(), Refusal> {
    let good = match found {
        None => settings.type_may_be_absent,
        Some(found) => {
            let prefix = found.get(.."application/".len());
            let short = match prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("application/")) {
                true => found.get("application/".len()..).unwrap_or_default(),
                false => found,
            };
            settings.types.iter().any(|accepted| accepted.eq_ignore_ascii_case(short))
        }
    };
    if good {
        return Ok(());
    }
    Err(Refusal::Type { found: quote(found.unwrap_or_default()), expected: settings.types.join(", ") })
}

pub(crate) fn check_audience(claims: &Map<String, Value>, accepted: &[String]) -> Result<(), Refusal> {
    let claim = claims.get("aud").ok_or(Refusal::ClaimMissing { claim: "aud" })?;
    let found = texts("aud", claim)?;
    if Switch::TokenAudience.is_off() {
        return Ok(());
    }
    if found.iter().any(|audience| accepted.iter().any(|wanted| wanted == audience)) {
        return Ok(());
    }
    Err(Refusal::Audience { expected: accepted.join(", "), found: quote(&found.join(", ")) })
}

fn principal(
    claims: &Map<String, Value>,
    context: ClaimContext<'_>,
    credential: Credential,
    until: Timestamp,
) -> Result<Principal, Refusal> {
    let settings = context.settings;
    let subject = required_text(claims, "sub")?;
    // A control character would end a header line or a log line somewhere behind us.
    let readable = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
    if subject.len() > SUBJECT_BYTES_MAX || !readable(subject) {
        return Err(wrong(
            "sub",
            "a text of 1 to 255 bytes without control characters",
            &Value::String(String::new()),
        ));
    }
    let id = format!("{}{subject}", settings.prefix);
    if let Some(prefix) = context.other_prefixes.iter().find(|prefix| id.starts_with(prefix.as_str())) {
        return Err(Refusal::SubjectOfOtherIssuer { found: quote(&id), prefix: prefix.clone() });
    }
    Ok(Principal {
        kind: kind(claims, subject, &settings.client)?,
        id,
        credential,
        issuer: Some(settings.issuer.clone()),
        roles: roles(claims, context)?,
        scopes: scopes(claims)?,
        acr: optional_text(claims, "acr")?.map(str::to_owned),
        amr: claims.get("amr").map_or(Ok(Vec::new()), |claim| list("amr", claim))?,
        claims: declared(claims, &settings.claims)?,
        spiffe_id: None,
        expires: Some(until),
    })
}

fn kind(claims: &Map<String, Value>, subject: &str, rule: &ClientRule) -> Result<PrincipalKind, Refusal> {
    let client = match rule {
        ClientRule::SubjectIsClient => {
            let client = optional_text(claims, "client_id")?;
            let party = optional_text(claims, "azp")?;
            client == Some(subject) || party == Some(subject)
        }
        ClientRule::HasClaim(path) => at_path(claims, path).is_some(),
    };
    Ok(if client { PrincipalKind::Client } else { PrincipalKind::User })
}

fn roles(claims: &Map<String, Value>, context: ClaimContext<'_>) -> Result<Vec<String>, Refusal> {
    let mut roles: Vec<String> = Vec::new();
    for path in &context.settings.role_claims {
        let Some(claim) = at_path(claims, path) else { continue };
        for role in texts(path, claim)? {
            if context.declared_roles.contains(&role) && !roles.contains(&role) {
                roles.push(role);
            }
        }
    }
    Ok(roles)
}

/// `scope` is one text with spaces (RFC 8693 §4.2); `scp` is what others call it, as a
/// text or a list.
pub(crate) fn scopes(claims: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let mut scopes: Vec<String> = Vec::new();
    for name in ["scope", "scp"] {
        let Some(claim) = claims.get(name) else { continue };
        for scope in texts(name, claim)?.iter().flat_map(|text| text.split(' ')) {
            if !scope.is_empty() && !scopes.iter().any(|known| known == scope) {
                scopes.push(scope.to_owned());
            }
        }
    }
    Ok(scopes)
}

fn declared(
    claims: &Map<String, Value>,
    declared: &BTreeMap<String, ClaimType>,
) -> Result<BTreeMap<String, Attribute>, Refusal> {
    let mut attributes = BTreeMap::new();
    for (path, claim_type) in declared {
        let Some(claim) = at_path(claims, path) else { continue };
        let attribute = match (claim_type, claim) {
            (ClaimType::Boolean, Value::Bool(value)) => Attribute::Boolean(*value),
            (ClaimType::Boolean, _) => return Err(wrong(path, "true or false", claim)),
            (ClaimType::Long, Value::Number(number)) if number.is_i64() => {
                Attribute::Long(number.as_i64().unwrap_or_default())
            }
            (ClaimType::Long, _) => return Err(wrong(path, "a whole number of 64 bits", claim)),
            (ClaimType::Text, Value::String(text)) => Attribute::Text(text.clone()),
            (ClaimType::Text, _) => return Err(wrong(path, "a text", claim)),
            (ClaimType::Texts, _) => Attribute::Texts(list(path, claim)?),
        };
        attributes.insert(path.clone(), attribute);
    }
    Ok(attributes)
}

/// The claim of that very name, or else the one at that path of members.
fn at_path<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(claim) = claims.get(path) {
        return Some(claim);
    }
    let mut steps = path.split('.');
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(step))
}

pub(crate) fn required_text<'a>(
    claims: &'a Map<String, Value>,
    claim: &'static str,
) -> Result<&'a str, Refusal> {
    optional_text(claims, claim)?.ok_or(Refusal::ClaimMissing { claim })
}

pub(crate) fn optional_text<'a>(
    claims: &'a Map<String, Value>,
    claim: &str,
) -> Result<Option<&'a str>, Refusal> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(claim, "a text", other)),
    }
}

/// A text or a list of texts.
fn texts(claim: &str, value: &Value) -> Result<Vec<String>, Refusal> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        _ => list(claim, value).map_err(|_| wrong(claim, "a text or a list of texts", value)),
    }
}

pub(crate) fn list(claim: &str, value: &Value) -> Result<Vec<String>, Refusal> {
    let items = value.as_array().ok_or_else(|| wrong(claim, "a list of texts", value))?;
    items
        .iter()
        .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| wrong(claim, "a list of texts", value)))
        .collect()
}

pub(crate) fn required_date(claims: &Map<String, Value>, claim: &'static str) -> Result<Timestamp, Refusal> {
    optional_date(claims, claim)?.ok_or(Refusal::ClaimMissing { claim })
}

/// NumericDate (RFC 7519 §2): seconds since 1970, whole or with a fraction.
fn optional_date(claims: &Map<String, Value>, claim: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let refused = || wrong(claim, "a number of seconds from 1970 to 9999", value);
    let number = value.as_number().ok_or_else(refused)?;
    if let Some(seconds) = number.as_u64() {
        return (seconds <= SECONDS_MAX)
            .then(|| Some(Timestamp::from_unix_seconds(seconds)))
            .ok_or_else(refused);
    }
    let seconds = number.as_f64().filter(|seconds| (0.0..=SECONDS_MAX as f64).contains(seconds));
    let seconds = seconds.ok_or_else(refused)?;
    Duration::try_from_secs_f64(seconds)
        .map(|since| Some(Timestamp::default().plus(since)))
        .map_err(|_| refused())
}

fn wrong(claim: &str, expected: &'static str, found: &Value) -> Refusal {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number of another kind or range",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Refusal::ClaimType { claim: claim.to_owned(), expected, found }
}
