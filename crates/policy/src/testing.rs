//! Policy tests: who asks for what, what must come of it, and why. The binary parses
//! the file (`bastide policy test FILE`); the cases and their verdicts are here, and so
//! is the hypothetical request that `bastide explain` asks about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy_core::ast::EntityUID;
use model::principal::Attribute;
use model::suggestion::suggestion;
use model::{Credential, Date, Principal, PrincipalKind, SpiffeId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::decide::{Certificate, Circumstances};
use crate::explain::{Explanation, Finding, explain_request};
use crate::load::Policies;
use crate::names::kind_of;
use crate::permit::Subject;

/// One case of a test file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it is called in the report.
    pub name: String,
    /// Who asks; absent: nobody proved anything.
    #[serde(default)]
    pub principal: Who,
    /// What for.
    pub request: What,
    /// What must come of it.
    pub expect: Expect,
    /// The id of the policy that must decide, or a part of the explanation.
    #[serde(default)]
    pub why: Option<String>,
}

/// What must come of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Permitted.
    Allow,
    /// Not permitted.
    Deny,
}

/// Who asks: `User:alice`, or all that a credential can say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Who {
    /// `Kind:id`, or `anonymous`.
    Short(String),
    /// The long form.
    Long(Box<Identity>),
}

impl Default for Who {
    fn default() -> Self {
        Self::Short("anonymous".to_owned())
    }
}

/// All that a credential can say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `User`, `Service`, `Client`, `ApiKey` or `Anonymous`.
    pub kind: PrincipalKind,
    /// Its id.
    pub id: String,
    /// Roles that the credential grants; those of the configuration are added.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Declared claims.
    #[serde(default)]
    pub claims: BTreeMap<String, Attribute>,
    /// OAuth scopes.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Authentication context class.
    #[serde(default)]
    pub acr: Option<String>,
    /// Authentication methods.
    #[serde(default)]
    pub amr: Vec<String>,
    /// The token's issuer.
    #[serde(default)]
    pub issuer: Option<String>,
    /// How it was proved: `jwt`, `api_key`, `mtls`. Default: what fits the kind.
    #[serde(default)]
    pub credential: Option<String>,
}

/// What is asked for: a route by name, or host and path for the caller's router.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct What {
    /// The method; `GET` when absent.
    pub method: Option<String>,
    /// The route's name.
    pub route: Option<String>,
    /// The host, lower case.
    pub host: Option<String>,
    /// The path.
    pub path: Option<String>,
    /// Path parameters, when the route is given by name.
    pub params: BTreeMap<String, String>,
    /// Header fields; a list stands for several fields of one name.
    pub headers: BTreeMap<String, OneOrMany>,
    /// The client's address; `192.0.2.1` (RFC 5737) when absent.
    pub address: Option<IpAddr>,
    /// RFC 3339, for example `2026-11-23T09:30:00Z`; when absent, a Monday at noon.
    pub time: Option<String>,
    /// `false`, `"1.2"` or `"1.3"`; TLS 1.3 when absent.
    pub tls: Option<Tls>,
    /// The client certificate.
    pub certificate: Option<Certificate>,
    /// The end user on whose behalf a service of the mesh calls.
    pub user: Option<Who>,
}

/// One value or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// Whether and how the connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tls {
    /// Whether.
    Whether(bool),
    /// How.
    Version(String),
}

/// What a router says of a host and path: the route's name and the path parameters.
pub type Resolved = Result<(String, BTreeMap<String, String>), String>;

/// A request that is only thought of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hypothetical {
    route: usize,
    method: String,
    host: Vec<u8>,
    path: Vec<u8>,
    parameters: BTreeMap<String, String>,
    headers: Vec<(String, String)>,
}

impl Subject for Hypothetical {
    fn route(&self) -> usize {
        self.route
    }

    fn method(&self) -> &str {
        &self.method
    }

    fn path(&self) -> &[u8] {
        &self.path
    }

    fn host(&self) -> &[u8] {
        &self.host
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_bytes())
    }
}

impl Who {
    /// The principal that an authenticator would make.
    ///
    /// # Errors
    /// The kind, role or credential is unknown.
    pub fn principal(&self, policies: &Policies) -> Result<Principal, String> {
        let identity = match self {
            Self::Short(text) if text == "anonymous" => return Ok(Principal::anonymous()),
            Self::Short(text) => {
                let (kind, id) = named(text).ok_or_else(|| {
                    format!("principal {text:?}: expected \"anonymous\" or Kind:id, for example User:alice")
                })?;
                &Identity {
                    kind,
                    id,
                    roles: Vec::new(),
                    claims: BTreeMap::new(),
                    scopes: Vec::new(),
                    acr: None,
                    amr: Vec::new(),
                    issuer: None,
                    credential: None,
                }
            }
            Self::Long(identity) => identity.as_ref(),
        };
        let declared = &policies.vocabulary().roles;
        if let Some(role) = identity.roles.iter().find(|name| policies.names().role(name).is_none()) {
            let hint = suggestion(role, declared.iter().map(|role| role.name.as_str()));
            return Err(format!("unknown role {role:?}{hint}"));
        }
        let fitting = match identity.kind {
            PrincipalKind::Anonymous => Credential::None,
            PrincipalKind::User | PrincipalKind::Client => Credential::Jwt,
            PrincipalKind::ApiKey => Credential::ApiKey,
            PrincipalKind::Service => Credential::Certificate,
        };
        let credential = match &identity.credential {
            None => fitting,
            Some(name) => {
                Credential::ALL.into_iter().find(|credential| credential.name() == name).ok_or_else(|| {
                    format!("unknown credential {name:?}: jwt, opaque, session, api_key, mtls or none")
                })?
            }
        };
        Ok(Principal {
            kind: identity.kind,
            id: identity.id.clone(),
            credential,
            issuer: identity.issuer.clone(),
            roles: identity.roles.clone(),
            scopes: identity.scopes.clone(),
            acr: identity.acr.clone(),
            amr: identity.amr.clone(),
            claims: identity.claims.clone(),
            spiffe_id: identity
                .id
                .parse::<SpiffeId>()
                .ok()
                .filter(|_| identity.kind == PrincipalKind::Service),
            expires: None,
        })
    }
}

/// Kind and id of `User:alice`, or of `User::"alice"`, as policies and explanations write it.
fn named(text: &str) -> Option<(PrincipalKind, String)> {
    let (kind, id) = text.split_once(':')?;
    let kind = kind_of(kind)?;
    let id = match id.strip_prefix(":\"") {
        Some(_) => {
            let (_, eid) = text.parse::<EntityUID>().ok()?.components();
            AsRef::<str>::as_ref(&eid).to_owned()
        }
        None => id.to_owned(),
    };
    (!id.is_empty()).then_some((kind, id))
}

impl What {
    /// The circumstances and the request. `resolve` is asked when no route is named.
    ///
    /// # Errors
    /// The route, a parameter, the time or the TLS version is unknown.
    pub fn request(
        &self,
        policies: &Policies,
        resolve: &dyn Fn(&What) -> Resolved,
    ) -> Result<(Circumstances, Hypothetical), String> {
        let (name, parameters) = match &self.route {
            Some(name) => (name.clone(), self.params.clone()),
            None => resolve(self)?,
        };
        let routes = &policies.vocabulary().routes;
        let number = policies.names().route(&name).ok_or_else(|| {
            format!("unknown route {name:?}{}", suggestion(&name, routes.iter().map(|r| r.name.as_str())))
        })?;
        let known = routes.get(number).map(|route| route.parameters.as_slice()).unwrap_or_default();
        if let Some(odd) = parameters.keys().find(|parameter| !known.contains(parameter)) {
            let hint = suggestion(odd, known.iter().map(String::as_str));
            return Err(format!("route {name:?} has no parameter {odd:?}{hint}"));
        }
        let now = self.time.as_deref().unwrap_or("2026-11-23T12:00:00Z");
        let now = parse_time(now)
            .ok_or_else(|| format!("time {now:?}: expected RFC 3339, for example 2026-11-23T09:30:00Z"))?;
        let tls_version = match &self.tls {
            None | Some(Tls::Whether(true)) => Some("1.3"),
            Some(Tls::Whether(false)) => None,
            Some(Tls::Version(version)) => match version.as_str() {
                "1.2" => Some("1.2"),
                "1.3" => Some("1.3"),
                _ => return Err(format!("tls {version:?}: expected false, \"1.2\" or \"1.3\"")),
            },
        };
        let headers = self.headers.iter().flat_map(|(name, values)| {
            let values = match values {
                OneOrMany::One(value) => std::slice::from_ref(value),
                OneOrMany::Many(values) => values.as_slice(),
            };
            values.iter().map(|value| (name.to_ascii_lowercase(), value.clone()))
        });
        let circumstances = Circumstances {
            now,
            address: self.address.unwrap_or(IpAddr::from([192, 0, 2, 1])),
            tls_version,
            certificate: self.certificate.clone().map(Arc::new),
            user: self.user(policies)?.map(Arc::new),
        };
        let request = Hypothetical {
            route: number,
            method: self.method.clone().unwrap_or_else(|| "GET".to_owned()),
            host: self.host.clone().unwrap_or_default().into_bytes(),
            path: self.path.clone().unwrap_or_else(|| "/".to_owned()).into_bytes(),
            parameters,
            headers: headers.collect(),
        };
        Ok((circumstances, request))
    }

    fn user(&self, policies: &Policies) -> Result<Option<Principal>, String> {
        let Some(who) = &self.user else { return Ok(None) };
        let user = who.principal(policies)?;
        Ok(Some(Principal { roles: policies.roles_of(&user), ..user }))
    }
}

/// Seconds since the epoch of an RFC 3339 time, with `Z` or an offset.
fn parse_time(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone = time.rfind(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
    };
    let mut clock = clock.splitn(3, ':').map(|part| part.split('.').next()?.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next().unwrap_or(Some(0))?);
    let fits = (1970..=2500).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second)
        && offset.abs() < 86_400;
    if !fits {
        return None;
    }
    let days = Date { year, month, day }.days();
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    u64::try_from(seconds).ok().map(Timestamp::from_unix_seconds)
}

/// How a case came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The case's name.
    pub name: String,
    /// Why it failed; `None` when it passed.
    pub failure: Option<String>,
    /// What was decided and why; `None` when the case itself is wrong.
    pub explanation: Option<Explanation>,
}

/// How all cases came out. `Display` is for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// In the order of the file.
    pub outcomes: Vec<Outcome>,
    /// Policies that applied in no case.
    pub unexercised: Vec<String>,
}

impl Report {
    /// Whether every case came out as it must.
    pub fn passed(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.failure.is_none())
    }
}

/// Runs cases that name their routes.
pub fn run(policies: &Policies, cases: &[Case]) -> Report {
    run_with(policies, cases, &|_| Err("the case names no route".to_owned()))
}

/// Runs cases; `resolve` finds the route of those that give host and path instead.
pub fn run_with(policies: &Policies, cases: &[Case], resolve: &dyn Fn(&What) -> Resolved) -> Report {
    let mut exercised: BTreeSet<String> = BTreeSet::new();
    let outcomes = cases
        .iter()
        .map(|case| match explain_case(policies, case, resolve) {
            Err(failure) => Outcome { name: case.name.clone(), failure: Some(failure), explanation: None },
            Ok(explanation) => {
                let applied = explanation.considered.iter();
                let applied = applied.filter(|policy| matches!(policy.finding, Finding::Applies { .. }));
                exercised.extend(applied.map(|policy| policy.policy.clone()));
                Outcome {
                    name: case.name.clone(),
                    failure: failure(case, &explanation),
                    explanation: Some(explanation),
                }
            }
        })
        .collect();
    let unexercised = policies.ids().filter(|id| !exercised.contains(*id)).map(str::to_owned).collect();
    Report { outcomes, unexercised }
}

fn explain_case(
    policies: &Policies,
    case: &Case,
    resolve: &dyn Fn(&What) -> Resolved,
) -> Result<Explanation, String> {
    let principal = case.principal.principal(policies)?;
    let (circumstances, request) = case.request.request(policies, resolve)?;
    Ok(explain_request(policies, &principal, &circumstances, &request))
}

fn failure(case: &Case, explanation: &Explanation) -> Option<String> {
    let found = if explanation.allowed { Expect::Allow } else { Expect::Deny };
    if found != case.expect {
        let word = |expect| if expect == Expect::Allow { "allow" } else { "deny" };
        return Some(format!("expected {}, found {}", word(case.expect), word(found)));
    }
    let why = case.why.as_deref()?;
    let decided = explanation.considered.iter().any(|policy| {
        let effect = if explanation.allowed { "permit" } else { "forbid" };
        policy.policy == why && policy.effect == effect && matches!(policy.finding, Finding::Applies { .. })
    });
    let said = explanation.reason.contains(why)
        || explanation
            .considered
            .iter()
            .any(|policy| policy.to_string().contains(why) && policy.policy != why);
    (!decided && !said).then(|| format!("expected it because of {why:?}, found: {}", explanation.reason))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in &self.outcomes {
            let Some(failure) = &outcome.failure else {
                writeln!(f, "ok      {}", outcome.name)?;
                continue;
            };
            writeln!(f, "FAILED  {}: {failure}", outcome.name)?;
            if let Some(explanation) = &outcome.explanation {
                for line in explanation.to_string().lines() {
                    writeln!(f, "        {line}")?;
                }
            }
        }
        let failed = self.outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
        writeln!(f, "{} passed, {failed} failed", self.outcomes.len() - failed)?;
        for policy in &self.unexercised {
            writeln!(f, "no case in which {policy} applies")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::parse_time;

    #[test]
    fn times_are_read_as_rfc_3339_says() {
        let table = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-22T21:51:07Z", Some(1_795_384_267)),
            ("2026-11-22T22:51:07+01:00", Some(1_795_384_267)),
            ("2026-11-22T16:21:07-05:30", Some(1_795_384_267)),
            ("2026-11-22T21:51:07.999Z", Some(1_795_384_267)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2026-13-22T21:51:07Z", None),
            ("2026-11-22T24:00:00Z", None),
            ("2026-11-22", None),
            ("yesterday", None),
            ("2026-11-22T21:51:07", None),
        ];
        for (text, seconds) in table {
            assert_eq!(parse_time(text).map(model::Timestamp::unix_seconds), seconds, "{text}");
        }
    }
}
