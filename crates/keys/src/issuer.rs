//! Who may issue tokens, and how their claims are read: settings, checked at load.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use model::ClaimType;

use crate::algorithm::Algorithm;
use crate::error::Error;
use crate::jwk::KeySet;

/// Most that an issuer's clock may be off: more would keep expired tokens alive.
pub const LEEWAY_MAX: Duration = Duration::from_secs(300);
/// Clock difference that is forgiven unless configured otherwise.
pub const LEEWAY_DEFAULT: Duration = Duration::from_secs(30);
/// How long keys stay in use after they were last fetched, unless configured otherwise.
pub const KEY_AGE_MAX_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Shortest that can be configured for it: twice the slowest background refresh.
pub const KEY_AGE_MAX_LEAST: Duration = Duration::from_secs(60);

/// Where an issuer's keys come from.
#[derive(Debug, PartialEq)]
pub enum KeySource {
    /// `<issuer>/.well-known/openid-configuration` (OpenID Connect Discovery §4).
    Discovery,
    /// A JWK Set at this address.
    JwksUrl(String),
    /// A JWK Set in this file, read again at each refresh.
    JwksFile(PathBuf),
    /// Keys in the configuration itself ([`KeySet::parse_pinned`]).
    Pinned(KeySet),
}

/// How a machine client's token is told from a person's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientRule {
    /// `sub` equals `client_id` or `azp` (RFC 9068 §2.2, OpenID Connect Core §2).
    SubjectIsClient,
    /// The token has a claim at this path.
    HasClaim(String),
}

/// One issuer of tokens. Start from [`IssuerSettings::new`]. Two that are equal judge every
/// token alike, given the same keys.
#[derive(Debug, PartialEq)]
pub struct IssuerSettings {
    /// The exact `iss`.
    pub issuer: String,
    /// Where its keys come from.
    pub source: KeySource,
    /// Accepted `aud` values; must not be empty.
    pub audiences: Vec<String>,
    /// Algorithms that its keys may have, most wanted first for RSA keys without `alg`.
    pub algorithms: Vec<Algorithm>,
    /// Put in front of `sub`. At most one issuer has an empty one.
    pub prefix: String,
    /// Paths (`realm_access.roles`) of claims that carry role names.
    pub role_claims: Vec<String>,
    /// How machine clients are told from people.
    pub client: ClientRule,
    /// Claims that policy may read, by path, with their types.
    pub claims: BTreeMap<String, ClaimType>,
    /// Accepted clock difference, at most [`LEEWAY_MAX`].
    pub leeway: Duration,
    /// Accepted `typ` values, without `application/`, compared without case.
    pub types: Vec<String>,
    /// Whether a token without `typ` is accepted.
    pub type_may_be_absent: bool,
    /// How long keys stay in use after they were last fetched.
    pub key_age_max: Duration,
    /// Whether its addresses may be loopback or private, and plain `http`.
    pub allow_private_addresses: bool,
}

impl IssuerSettings {
    /// The defaults: keys by discovery, all algorithms, `typ` `at+jwt`, `JWT` or
    /// absent, roles from `roles`, `realm_access.roles` and `groups`.
    pub fn new(issuer: &str, audiences: Vec<String>) -> Self {
        Self {
            issuer: issuer.to_owned(),
            source: KeySource::Discovery,
            audiences,
            algorithms: Algorithm::ALL.to_vec(),
            prefix: String::new(),
            role_claims: ["roles", "realm_access.roles", "groups"].map(str::to_owned).to_vec(),
            client: ClientRule::SubjectIsClient,
            claims: BTreeMap::new(),
            leeway: LEEWAY_DEFAULT,
            types: ["at+jwt", "JWT"].map(str::to_owned).to_vec(),
            type_may_be_absent: true,
            key_age_max: KEY_AGE_MAX_DEFAULT,
            allow_private_addresses: false,
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.issuer.is_empty() {
            return Err("expected the exact `iss` of its tokens, found nothing".to_owned());
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Err("expected at least one audience and none empty; a token for anybody is a token \
                        for an attacker's service too"
                .to_owned());
        }
        if self.algorithms.is_empty() {
            return Err("expected at least one algorithm".to_owned());
        }
        if self.leeway > LEEWAY_MAX {
            let (found, most) = (self.leeway.as_secs(), LEEWAY_MAX.as_secs());
            return Err(format!("leeway of {found} s, expected at most {most} s"));
        }
        if self.key_age_max < KEY_AGE_MAX_LEAST {
            let (found, least) = (self.key_age_max.as_secs(), KEY_AGE_MAX_LEAST.as_secs());
            return Err(format!("key_age_max of {found} s, expected at least {least} s"));
        }
        match &self.source {
            KeySource::Discovery => self.check_address(&self.issuer),
            KeySource::JwksUrl(url) => self.check_address(url),
            KeySource::JwksFile(_) | KeySource::Pinned(_) => Ok(()),
        }
    }

    fn check_address(&self, url: &str) -> Result<(), String> {
        check_fetched(url, self.allow_private_addresses).map_err(|why| format!("keys at {why}"))
    }
}

/// What came over a plain connection is whoever's sits on it, and what is sent there too.
pub(crate) fn check_fetched(url: &str, allow_private_addresses: bool) -> Result<(), String> {
    if url.starts_with("https://") || (allow_private_addresses && url.starts_with("http://")) {
        return Ok(());
    }
    Err(format!("{url:?}: expected https:// (http:// needs `allow_private_addresses: true`)"))
}

/// Checks the issuers one by one and against each other.
///
/// # Errors
/// [`Error::Issuer`] for the first fault.
pub fn check_issuers(issuers: &[IssuerSettings]) -> Result<(), Error> {
    for (place, issuer) in issuers.iter().enumerate() {
        let fault = |why| Error::Issuer { issuer: issuer.issuer.clone(), why };
        issuer.check().map_err(fault)?;
        for other in issuers.iter().take(place) {
            if other.issuer == issuer.issuer {
                return Err(fault("is configured twice".to_owned()));
            }
            let (one, two) = (&other.prefix, &issuer.prefix);
            // If one prefix began another, a subject could be read in two ways.
            let clash = match (one.is_empty(), two.is_empty()) {
                (true, true) => true,
                (false, false) => one.starts_with(two.as_str()) || two.starts_with(one.as_str()),
                _ => false,
            };
            if clash {
                let name = &other.issuer;
                return Err(fault(format!(
                    "prefix {two:?} and prefix {one:?} of {name:?} cannot be told apart: with several \
                     issuers, all but one need a `prefix`, and none may begin another"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(name: &str, prefix: &str) -> IssuerSettings {
        IssuerSettings {
            prefix: prefix.to_owned(),
            ..IssuerSettings::new(name, vec!["shop.example.org".to_owned()])
        }
    }

    #[test]
    fn two_issuers_cannot_name_one_subject() {
        for (one, two, good) in [
            ("", "corp/", true),
            ("corp/", "", true),
            ("a/", "b/", true),
            ("", "", false),
            ("corp/", "corp/", false),
            ("corp", "corp/", false),
        ] {
            let both = [issuer("https://one.example", one), issuer("https://two.example", two)];
            assert_eq!(check_issuers(&both).is_ok(), good, "{one:?} {two:?}");
        }
        let twice = [issuer("https://one.example", ""), issuer("https://one.example", "x/")];
        assert!(check_issuers(&twice).is_err());
    }

    #[test]
    fn weak_settings_are_refused_at_the_limit() {
        let with = |change: fn(&mut IssuerSettings)| {
            let mut settings = issuer("https://id.example", "");
            change(&mut settings);
            check_issuers(&[settings]).is_ok()
        };
        assert!(with(|_| {}));
        assert!(with(|settings| settings.leeway = LEEWAY_MAX));
        assert!(!with(|settings| settings.leeway = LEEWAY_MAX + Duration::from_secs(1)));
        assert!(with(|settings| settings.key_age_max = KEY_AGE_MAX_LEAST));
        assert!(!with(|settings| settings.key_age_max = KEY_AGE_MAX_LEAST - Duration::from_secs(1)));
        assert!(!with(|settings| settings.audiences.clear()));
        assert!(!with(|settings| settings.audiences.push(String::new())));
        assert!(!with(|settings| settings.algorithms.clear()));
        assert!(!with(|settings| settings.issuer = "http://id.example".to_owned()));
        assert!(with(|settings| {
            settings.issuer = "http://127.0.0.1:1".to_owned();
            settings.allow_private_addresses = true;
        }));
        assert!(!with(|settings| settings.source = KeySource::JwksUrl("http://id.example/k".to_owned())));
        assert!(!with(|settings| settings.source = KeySource::JwksUrl("file:///etc/k".to_owned())));
    }
}
