//! What a realm is configured to be, and the checks that it has to pass.

mod change;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keys::Algorithm;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::claim::{ClaimRule, default_rules};
use crate::login::acr::{self, AcrLevel};
use crate::login::password::strength::PasswordRules;
use crate::method;
use crate::text::Language;
use crate::theme::Theme;

pub use change::SettingsChange;

/// A realm: users, clients, keys and policies of their own under one issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct RealmSettings {
    /// Its name: letters, digits, `-` and `_`; part of cookie names.
    pub name: String,
    /// Its issuer (RFC 8414 §2): `https://` without query, fragment and final slash.
    /// `http://` is for loopback alone.
    pub issuer: String,
    /// What pages call it.
    pub display_name: String,
    /// The language of pages for people whose own there is not, and of mails to them.
    pub language: Language,
    /// What pages look like.
    pub theme: Theme,
    /// Signing algorithms: each has keys, the first is the default. RS256 has to be among
    /// them (OpenID Connect Core §15.1).
    pub algorithms: Vec<Algorithm>,
    /// How long everything lasts.
    pub lifetimes: Lifetimes,
    /// The scopes that there are besides OpenID Connect's own, and what the consent page
    /// says of each.
    pub scopes: BTreeMap<String, String>,
    /// The order in which pages name those scopes; others come after, by name.
    pub scope_order: Vec<String>,
    /// The APIs that access tokens can be for (RFC 8707), by identifier.
    pub resources: BTreeMap<String, Resource>,
    /// Which claims tokens carry.
    pub claims: Vec<ClaimRule>,
    /// Classes of authentication (`acr`), the weakest first.
    pub acr_levels: Vec<AcrLevel>,
    /// Who is asked for more than a password.
    pub factors: FactorRules,
    /// Every client has to push its authorization requests (RFC 9126 §5).
    pub require_pushed_requests: bool,
    /// DPoP proofs have to carry a nonce of ours (RFC 9449 §8).
    pub require_dpop_nonce: bool,
    /// Clients are asked for certificates on the way here: what needs one is in the metadata.
    pub client_certificates: bool,
    /// What new passwords have to be.
    pub passwords: PasswordRules,
    /// Sessions that one person may have; the one that was not used for longest makes room.
    pub sessions_per_person: usize,
    /// Password hashes that are computed at the same time; others wait.
    pub password_hashes_at_once: usize,
    /// Settings that are not changed while it runs ([`SettingsChange`]), because whoever made
    /// these wrote them: `display_name`, `lifetimes.code`.
    pub written: BTreeSet<String>,
}

/// Who is asked for more than a password, besides those of whom a client or a request asks
/// it. Who has to show a factor and has none is led to enrolling one before the login ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactorRules {
    /// Whoever enrolled in a factor is asked for one at each login. Without it, only when a
    /// class of authentication is asked for that needs one.
    pub ask_enrolled: bool,
    /// The class of authentication (`acr`) that people of a role have to reach, by role.
    pub roles: BTreeMap<String, String>,
    /// The class that single people have to reach, whatever their roles here, by `sub`.
    pub users: BTreeMap<String, String>,
}

impl Default for FactorRules {
    fn default() -> Self {
        Self { ask_enrolled: true, roles: BTreeMap::new(), users: BTreeMap::new() }
    }
}

/// An API that tokens can be for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resource {
    /// The scopes that mean something there; empty: all.
    pub scopes: BTreeSet<String>,
    /// The algorithm that it verifies; `None`: the realm's default.
    pub algorithm: Option<Algorithm>,
    /// The life of tokens for it; `None`: the realm's.
    pub access_token: Option<Duration>,
}

/// How long everything lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An access token. At most [`ACCESS_TOKEN_MAX`].
    pub access_token: Duration,
    /// An ID token.
    pub id_token: Duration,
    /// An authorization code. At most [`CODE_MAX`].
    pub code: Duration,
    /// A pushed authorization request.
    pub pushed_request: Duration,
    /// A login that nobody finishes.
    pub interaction: Duration,
    /// A device code (RFC 8628 §3.2).
    pub device_code: Duration,
    /// How long a device waits between two questions.
    pub device_interval: Duration,
    /// A refresh token that is not used.
    pub refresh_idle: Duration,
    /// A refresh family, however often it is used.
    pub refresh_absolute: Duration,
    /// How long the token before the current one is still answered, with the current one,
    /// so that a lost answer or two tabs do not end the family. Zero: not at all. At most
    /// [`REFRESH_GRACE_MAX`].
    pub refresh_grace: Duration,
    /// A session without activity.
    pub session_idle: Duration,
    /// A session, however active.
    pub session_absolute: Duration,
    /// How long a signing key signs.
    pub key_signs: Duration,
    /// How long a key is published before it signs: longer than what verifiers cache.
    pub key_prepared: Duration,
}

/// Longest life of an access token.
pub const ACCESS_TOKEN_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest life of an authorization code (RFC 6749 §4.1.2).
pub const CODE_MAX: Duration = Duration::from_secs(600);
/// Longest grace after a rotation.
pub const REFRESH_GRACE_MAX: Duration = Duration::from_secs(60);

/// Most sessions that one person may have.
pub const SESSIONS_MAX: usize = 1_000;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

impl Default for Lifetimes {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            access_token: seconds(300),
            id_token: seconds(300),
            code: seconds(60),
            pushed_request: seconds(90),
            interaction: seconds(900),
            device_code: seconds(600),
            device_interval: seconds(5),
            refresh_idle: seconds(14 * DAY),
            refresh_absolute: seconds(90 * DAY),
            refresh_grace: seconds(10),
            session_idle: seconds(8 * HOUR),
            session_absolute: seconds(DAY),
            key_signs: seconds(30 * DAY),
            key_prepared: seconds(DAY),
        }
    }
}

/// The scopes of OpenID Connect Core §5.4 and §11.
pub const STANDARD_SCOPES: [&str; 6] = ["openid", "profile", "email", "address", "phone", "offline_access"];

impl RealmSettings {
    /// A realm with defaults.
    pub fn new(name: &str, issuer: &str) -> Self {
        Self {
            name: name.to_owned(),
            issuer: issuer.to_owned(),
            display_name: name.to_owned(),
            language: Language::default(),
            theme: Theme::default(),
            algorithms: vec![Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256],
            lifetimes: Lifetimes::default(),
            scopes: BTreeMap::new(),
            scope_order: Vec::new(),
            resources: BTreeMap::new(),
            claims: default_rules(),
            acr_levels: AcrLevel::defaults(),
            factors: FactorRules::default(),
            require_pushed_requests: false,
            require_dpop_nonce: false,
            client_certificates: true,
            passwords: PasswordRules::default(),
            sessions_per_person: 20,
            password_hashes_at_once: 2,
            written: BTreeSet::new(),
        }
    }

    /// Checks them.
    ///
    /// # Errors
    /// [`Error::Settings`] with the first fault.
    pub fn check(&self) -> Result<(), Error> {
        let faults = [
            self.check_name(),
            self.check_issuer(),
            self.check_algorithms(),
            self.check_lifetimes(),
            self.check_key_count(),
            self.check_names(),
            self.claims.iter().find_map(ClaimRule::fault),
            AcrLevel::fault(&self.acr_levels),
            self.check_factors(),
            self.passwords.fault(),
            (!(1..=SESSIONS_MAX).contains(&self.sessions_per_person)).then(|| {
                format!(
                    "sessions_per_person: expected 1 to {SESSIONS_MAX}, found {}",
                    self.sessions_per_person
                )
            }),
        ];
        match faults.into_iter().flatten().next() {
            None => Ok(()),
            Some(why) => Err(Error::Settings { realm: self.name.clone(), why }),
        }
    }

    fn check_name(&self) -> Option<String> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let good = (1..=64).contains(&self.name.len()) && self.name.bytes().all(word);
        (!good).then(|| "expected a name of 1 to 64 letters, digits, `-` and `_`".to_owned())
    }

    fn check_issuer(&self) -> Option<String> {
        let issuer = &self.issuer;
        let found = || format!("issuer {:?}", keys::encoding::quote(issuer));
        let Ok(address) = issuer.parse::<axum::http::Uri>() else {
            return Some(format!("{}: expected an address", found()));
        };
        let host = address.host().unwrap_or_default();
        let good = match address.scheme_str() {
            Some("https") => !host.is_empty(),
            Some("http") => is_loopback(host),
            _ => false,
        };
        if !good {
            return Some(format!("{}: expected https://, or http:// with a loopback address", found()));
        }
        let path_is_plain = address
            .path()
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.'));
        if let Some(instead) = self.issuer_instead(&address) {
            return Some(format!(
                "{}: expected a lower-case host without the default port, such as {instead}",
                found()
            ));
        }
        if issuer.contains(['?', '#', '@']) || issuer.ends_with('/') || !path_is_plain {
            return Some(format!("{}: expected neither query, fragment, user nor final slash", found()));
        }
        None
    }

    /// Clients compare issuers as texts, so each has one spelling (RFC 3986 §6.2.2.1, §6.2.3):
    /// that one, when the issuer has another.
    fn issuer_instead(&self, address: &axum::http::Uri) -> Option<String> {
        let default_port = if address.scheme_str() == Some("https") { 443 } else { 80 };
        let authority = address.authority().map_or("", axum::http::uri::Authority::as_str);
        let port = address.port_u16().filter(|port| *port != default_port);
        let plain = authority.contains('@')
            || (!authority.ends_with(':') && address.port_u16() == port)
                && !self.origin().bytes().any(|byte| byte.is_ascii_uppercase());
        if plain {
            return None;
        }
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        let (scheme, host) = (address.scheme_str().unwrap_or_default(), address.host().unwrap_or_default());
        Some(format!("{scheme}://{}{port}{}", host.to_ascii_lowercase(), self.path()))
    }

    fn check_algorithms(&self) -> Option<String> {
        let supported = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];
        if let Some(other) = self.algorithms.iter().find(|algorithm| !supported.contains(algorithm)) {
            return Some(format!("algorithms: expected ES256, EdDSA and RS256, found {other}"));
        }
        if !self.algorithms.contains(&Algorithm::Rs256) {
            return Some("algorithms: RS256 has to be among them (OpenID Connect Core §15.1)".to_owned());
        }
        let mut of_resources = self.resources.iter().filter_map(|(name, one)| Some((name, one.algorithm?)));
        let missing = of_resources.find(|(_, algorithm)| !self.algorithms.contains(algorithm));
        missing.map(|(name, algorithm)| {
            format!("resource {name:?}: {algorithm} is not among the realm's algorithms")
        })
    }

    fn check_lifetimes(&self) -> Option<String> {
        let lifetimes = &self.lifetimes;
        let whole = Duration::from_secs(1);
        let bounds = [
            ("access_token", lifetimes.access_token, whole, ACCESS_TOKEN_MAX),
            ("id_token", lifetimes.id_token, whole, ACCESS_TOKEN_MAX),
            ("code", lifetimes.code, whole, CODE_MAX),
            ("pushed_request", lifetimes.pushed_request, whole, CODE_MAX),
            ("interaction", lifetimes.interaction, whole, Duration::from_secs(DAY)),
            ("device_code", lifetimes.device_code, whole, Duration::from_secs(HOUR)),
            ("device_interval", lifetimes.device_interval, whole, Duration::from_secs(60)),
            ("refresh_grace", lifetimes.refresh_grace, Duration::ZERO, REFRESH_GRACE_MAX),
            ("refresh_idle", lifetimes.refresh_idle, whole, lifetimes.refresh_absolute),
            ("session_idle", lifetimes.session_idle, whole, lifetimes.session_absolute),
            ("key_prepared", lifetimes.key_prepared, whole, lifetimes.key_signs),
        ];
        let of_resources = self.resources.values().filter_map(|resource| resource.access_token);
        let of_resources = of_resources.map(|life| ("access_token", life, whole, ACCESS_TOKEN_MAX));
        let mut bounds = bounds.into_iter().chain(of_resources);
        bounds.find(|(_, found, least, most)| found < least || found > most).map(
            |(name, found, least, most)| {
                format!(
                    "{name}: expected {} to {} seconds, found {}",
                    least.as_secs(),
                    most.as_secs(),
                    found.as_secs()
                )
            },
        )
    }

    /// More keys at once than verifiers read would leave tokens that nobody verifies.
    fn check_key_count(&self) -> Option<String> {
        let algorithms = u64::try_from(self.algorithms.len()).unwrap_or(u64::MAX);
        let keys = crate::key::published_at_once(self).saturating_mul(algorithms);
        let most = u64::try_from(keys::JWKS_KEYS_MAX).unwrap_or(u64::MAX);
        (keys > most).then(|| {
            format!(
                "key_signs: {} seconds make {keys} keys that are published at the same time, expected at most \
                 {most}: let keys sign longer, or prepare them and let tokens last less long",
                self.lifetimes.key_signs.as_secs()
            )
        })
    }

    fn check_names(&self) -> Option<String> {
        for scope in self.scopes.keys() {
            if !crate::scope::is_token(scope) || STANDARD_SCOPES.contains(&scope.as_str()) {
                return Some(format!(
                    "scope {scope:?}: expected a name of RFC 6749 §3.3 that OpenID Connect has not"
                ));
            }
        }
        for (name, resource) in &self.resources {
            if let Err(why) = crate::resource::check(name) {
                return Some(format!("resource {name:?}: {why}"));
            }
            if let Some(scope) = resource.scopes.iter().find(|scope| !self.scopes.contains_key(*scope)) {
                return Some(format!("resource {name:?}: unknown scope {scope:?}"));
            }
        }
        None
    }

    fn check_factors(&self) -> Option<String> {
        let roles = self.factors.roles.iter().map(|rule| ("role", rule));
        let mut rules = roles.chain(self.factors.users.iter().map(|rule| ("user", rule)));
        rules.find_map(|(kind, (name, class))| {
            Some(format!("factors: {kind} {name:?}: {}", self.class_fault(class)?))
        })
    }

    /// What is wrong with asking for a class: nobody could log in.
    pub fn class_fault(&self, class: &str) -> Option<String> {
        let levels = &self.acr_levels;
        if !levels.iter().any(|level| level.name == class) {
            let names: Vec<&str> = levels.iter().map(|level| level.name.as_str()).collect();
            return Some(format!("no class of authentication {class:?}; there are: {}", names.join(", ")));
        }
        let all = method::ALL.map(str::to_owned);
        let reachable = acr::satisfies(levels, acr::reached(levels, &all), &[class.to_owned()]);
        (!reachable).then(|| format!("class {class:?} cannot be reached by what can be shown here"))
    }

    /// Whether there is such a scope.
    pub(crate) fn knows_scope(&self, scope: &str) -> bool {
        STANDARD_SCOPES.contains(&scope) || self.scopes.contains_key(scope)
    }

    /// The path of the issuer: empty, or `/…`.
    pub fn path(&self) -> &str {
        let after_scheme = self.issuer.split_once("://").map_or("", |(_, rest)| rest);
        after_scheme.find('/').and_then(|at| after_scheme.get(at..)).unwrap_or_default()
    }

    /// Whether the realm is used over TLS. If not, its host is a loopback address.
    pub(crate) fn is_https(&self) -> bool {
        self.issuer.starts_with("https://")
    }

    /// The name of a cookie of the realm. `__Host-` binds it to this host, by TLS alone (RFC 6265bis
    /// §4.1.3): over `http://` cookie jars would neither take nor return it, nor one that is `Secure`.
    pub(crate) fn cookie_name(&self, what: &str) -> String {
        let prefix = if self.is_https() { "__Host-" } else { "" };
        format!("{prefix}{}-{what}", self.name)
    }

    /// The origin of the issuer: scheme, host and port.
    pub(crate) fn origin(&self) -> &str {
        self.issuer.strip_suffix(self.path()).unwrap_or(&self.issuer)
    }
}

/// A host of this machine (RFC 8252 §7.3, RFC 6761 §6.3).
pub(crate) fn is_loopback(host: &str) -> bool {
    matches!(host, "127.0.0.1" | "[::1]" | "localhost") || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_that_need_more_keys_than_verifiers_read_are_refused() {
        let settings = |signs: u64, prepared: u64, access: u64| {
            let mut settings = RealmSettings::new("shop", "https://id.example.org");
            settings.lifetimes.key_signs = Duration::from_secs(signs);
            settings.lifetimes.key_prepared = Duration::from_secs(prepared);
            settings.lifetimes.access_token = Duration::from_secs(access);
            settings.check().err().map(|error| error.to_string())
        };
        for (signs, prepared, access) in [(30 * DAY, DAY, 300), (HOUR, HOUR, DAY), (180, 60, 300)] {
            assert_eq!(settings(signs, prepared, access), None, "{signs}");
        }
        for (signs, prepared, access) in [(1800, 60, DAY), (60, 60, 300), (1, 1, 300)] {
            let why = settings(signs, prepared, access).unwrap();
            assert!(why.contains("keys that are published at the same time"), "{why}");
        }
    }

    #[test]
    fn issuers_are_addresses_of_one_spelling() {
        let check = |issuer: &str| RealmSettings::new("shop", issuer).check().is_ok();
        for good in [
            "https://id.example.org",
            "https://id.example.org/realms/shop",
            "http://127.0.0.1:8080",
            "http://localhost",
            "https://id.example.org:80",
            "https://id.example.org/realms/Shop",
        ] {
            assert!(check(good), "{good}");
        }
        for wrong in [
            "http://id.example.org",
            "https://id.example.org/",
            "https://id.example.org?x",
            "https://id.example.org#x",
            "https://a@id.example.org",
            "ftp://127.0.0.1",
            "id.example.org",
            "https:///x",
            "https://id.example.org/a{b}",
            "https://ID.example.org",
            "HTTPS://id.example.org",
            "https://id.example.org:443",
            "https://id.example.org:443/realms/shop",
            "https://id.example.org:",
            "http://127.0.0.1:80",
            "",
        ] {
            assert!(!check(wrong), "{wrong}");
        }
        let settings = RealmSettings::new("shop", "https://id.example.org:8443/realms/shop");
        assert_eq!((settings.origin(), settings.path()), ("https://id.example.org:8443", "/realms/shop"));
        let settings = RealmSettings::new("shop", "https://id.example.org");
        assert_eq!((settings.origin(), settings.path()), ("https://id.example.org", ""));
    }

    #[test]
    fn settings_that_contradict_a_specification_are_refused() {
        let why = |change: fn(&mut RealmSettings)| {
            let mut settings = RealmSettings::new("shop", "https://id.example.org");
            change(&mut settings);
            settings.check().map_err(|error| error.to_string())
        };
        assert!(why(|_| {}).is_ok());
        assert!(why(|settings| settings.algorithms = vec![Algorithm::Es256]).unwrap_err().contains("RS256"));
        assert!(why(|settings| settings.algorithms.push(Algorithm::Es384)).unwrap_err().contains("ES384"));
        assert!(why(|settings| settings.name = "a b".to_owned()).is_err());
        assert!(why(|settings| settings.lifetimes.code = CODE_MAX).is_ok());
        assert!(why(|settings| settings.lifetimes.code = CODE_MAX + Duration::from_secs(1)).is_err());
        assert!(why(|settings| settings.lifetimes.refresh_grace = REFRESH_GRACE_MAX).is_ok());
        assert!(why(|settings| settings.lifetimes.refresh_grace = REFRESH_GRACE_MAX * 2).is_err());
        assert!(why(|settings| drop(settings.scopes.insert("a b".to_owned(), String::new()))).is_err());
        assert!(why(|settings| drop(settings.scopes.insert("openid".to_owned(), String::new()))).is_err());
        assert!(
            why(|settings| drop(settings.resources.insert("orders".to_owned(), Resource::default())))
                .is_err()
        );
    }
}
