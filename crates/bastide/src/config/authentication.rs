//! `authentication:`: which proofs of identity count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway::session::Level;
use identity::claim::{ClaimRule, Source};
use keys::{Algorithm, KEY_AGE_MAX_DEFAULT, KEY_AGE_MAX_LEAST, LEEWAY_DEFAULT, LEEWAY_MAX};
use model::ClaimType;

use super::decoder::{Decoder, Table};
use super::introspection::Introspection;
use super::node::{At, Node, Value};
use super::outward::is_loopback;
use super::realms::Realm;
use super::schema::{Section, key};
use super::session::SessionLogin;
use super::values::{self, Unfit};

/// Which credentials are accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Authentication {
    /// Token issuers.
    pub issuers: Vec<Issuer>,
    /// Claims that become principal attributes, by name.
    pub claims: BTreeMap<String, ClaimType>,
    /// The file of API key hashes. Default: `api-keys.json` in the state folder.
    pub api_keys: PathBuf,
    /// How client certificates become principals.
    pub certificates: CertificatePrincipals,
    /// How browsers log in.
    pub session: Option<SessionLogin>,
    /// Stronger logins that policies can require, the weakest first.
    pub step_up: Vec<Level>,
}

/// One token issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// The exact `iss` of its tokens.
    pub issuer: String,
    /// A token must name one of these in `aud`. Never empty. Default:
    /// `authentication.audience`, and without that the exact hosts named in routes.
    pub audience: Vec<String>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Algorithms that are accepted. Never empty.
    pub algorithms: Vec<Algorithm>,
    /// Put in front of `sub`. At most one issuer has the empty prefix.
    pub prefix: String,
    /// Claim paths that carry role names.
    pub roles: Vec<String>,
    /// A claim whose presence says that the token belongs to a machine client.
    /// `None`: `sub` equals `client_id` or `azp`.
    pub client_claim: Option<String>,
    /// Whether the key fetch may go to loopback and private addresses; to loopback
    /// without TLS too.
    pub allow_private_addresses: bool,
    /// Whether keys may be fetched without TLS (`danger_plain_http`).
    pub plain_http: bool,
    /// Clock skew that is forgiven in `exp`, `nbf` and `iat`.
    pub leeway: Duration,
    /// Keys older than this are not used, even when the issuer is down.
    pub key_age_max: Duration,
    /// Accepted `typ` header values, lower case, without `application/`.
    pub types: Vec<String>,
    /// Whether a token without `typ` is accepted.
    pub untyped: bool,
    /// How it is asked about opaque tokens.
    pub introspection: Option<Introspection>,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// `<issuer>/.well-known/openid-configuration` says where (OpenID Connect
    /// Discovery §4).
    Discovery,
    /// A JWKS at this URL (RFC 7517 §5).
    Url(String),
    /// A JWKS file.
    File(PathBuf),
    /// One public JWK or a JWKS, as JSON text.
    Json(String),
    /// One public key, as PEM text.
    Pem(String),
}

/// How a verified client certificate becomes a principal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CertificatePrincipals {
    /// SPIFFE IDs of this trust domain make services at listeners with authorities of their own;
    /// any other SPIFFE ID is refused there. Never that of the mesh.
    pub trust_domain: Option<String>,
}

pub(super) const AUTHENTICATION: Section = Section {
    path: "authentication",
    about: "Which credentials are accepted.",
    short: "",
    keys: &[
        key("issuers", "list of maps", "none", "Token issuers."),
        key(
            "audience",
            "text or list",
            "the exact hosts named in routes",
            "A token must name one of these in `aud`; for all issuers without a setting of their own.",
        ),
        key(
            "claims",
            "map of name to text, long, boolean or texts",
            "none",
            "Claims that policies may read as `principal.claims.NAME`.",
        ),
        key(
            "api_keys",
            "`state` or path",
            "state",
            "The file of API key hashes that `bastide key new` writes; `state`: `api-keys.json` in the state folder.",
        ),
        key(
            "certificates",
            "map",
            "every certificate makes a client",
            "How client certificates become principals.",
        ),
        key("session", "map", "no logins", "How browsers log in (`authenticate: session`)."),
        key(
            "step_up",
            "list of texts or maps",
            "none",
            "Stronger logins that policies can require, the weakest first.",
        ),
    ],
};

pub(super) const ISSUER: Section = Section {
    path: "authentication.issuers[]",
    about: "One token issuer. At most one of `jwks`, `jwks_file` and `key`; without them the keys are discovered.",
    short: "the issuer's URL as a text: `issuers: [ https://id.example.org ]`",
    keys: &[
        key("issuer", "URL", "", "The exact `iss` of its tokens, and where discovery begins."),
        key(
            "audience",
            "text or list",
            "`authentication.audience`",
            "A token must name one of these in `aud`.",
        ),
        key("jwks", "URL", "discovered", "Where its keys are (RFC 7517)."),
        key("jwks_file", "path", "none", "A file with its keys; read again when it changes."),
        key("key", "JWK as a map, PEM text, or path of either", "none", "Its one public key."),
        key(
            "algorithms",
            "list of RS256 … RS512, PS256 … PS512, ES256 … ES512, EdDSA",
            "all of these",
            "Signature algorithms that are accepted.",
        ),
        key(
            "prefix",
            "text",
            "empty",
            "Prepended to `sub`, so that two issuers cannot name the same user. At most one issuer may have none.",
        ),
        key(
            "roles",
            "list of claim paths",
            "roles, groups, realm_access.roles; roles alone for a realm of this configuration",
            "Claims that carry role names. Only declared roles count. In a realm of Bastide's, whoever may put users into groups gives them roles if `groups` is listed here; a claim made from an attribute is refused.",
        ),
        key(
            "client_claim",
            "claim name",
            "`sub` equals `client_id` or `azp`",
            "A claim whose presence says that the token belongs to a machine.",
        ),
        key(
            "allow_private_addresses",
            "true or false",
            "false",
            "Allows key fetches from loopback and private addresses; on loopback also without TLS.",
        ),
        key(
            "danger_plain_http",
            "true or false",
            "false",
            "With `allow_private_addresses`: also allows keys to be fetched without TLS from other machines. Whoever can modify them in transit can forge tokens.",
        ),
        key("leeway", "duration up to 5m", "30s", "Tolerated clock skew."),
        key(
            "key_age_max",
            "duration",
            "24h",
            "Keys older than this are not used, even when the issuer is down.",
        ),
        key(
            "type",
            "list of at+jwt, JWT, none or others",
            "at+jwt, JWT, none",
            "Accepted `typ` of tokens; `none`: absent.",
        ),
        key(
            "introspection",
            "map",
            "not asked",
            "How opaque tokens are introspected there (`authenticate: opaque`).",
        ),
    ],
};

pub(super) const CERTIFICATES: Section = Section {
    path: "authentication.certificates",
    about: "How client certificates become principals: a SPIFFE ID makes a `Service`, any other a `Client`.",
    short: "",
    keys: &[key(
        "trust_domain",
        "SPIFFE trust domain",
        "certificates with a SPIFFE ID are refused",
        "SPIFFE IDs of this trust domain make services at listeners with `client.ca`; any other SPIFFE ID is refused there. It is not the mesh's: whom the mesh certifies, listeners with `tls: { mesh: true }` take.",
    )],
};

const CLAIM_TYPES: &[(&str, ClaimType)] = &[
    ("text", ClaimType::Text),
    ("long", ClaimType::Long),
    ("boolean", ClaimType::Boolean),
    ("texts", ClaimType::Texts),
];

/// Largest key file, in bytes.
const KEYS_BYTES_MAX: usize = 1 << 20;
/// The claims that carry role names in tokens of whoever issues them.
const ROLE_CLAIMS: [&str; 3] = ["roles", "groups", "realm_access.roles"];
/// The claim of a realm's own tokens that does. Its groups are names that others may give.
const OWN_ROLE_CLAIM: &str = "roles";

impl Decoder<'_> {
    /// `authentication:`. Audiences that are not written stay empty here.
    pub(super) fn authentication(&mut self, node: Option<&Node>, state: &Path) -> Authentication {
        let mut found = Authentication {
            issuers: Vec::new(),
            claims: BTreeMap::new(),
            api_keys: state.join("api-keys.json"),
            certificates: CertificatePrincipals::default(),
            session: None,
            step_up: Vec::new(),
        };
        let Some(table) = node.and_then(|node| self.table(node, &AUTHENTICATION)) else { return found };
        let audience = table.get("audience").map_or(Vec::new(), |node| self.audiences(node));
        for item in table.get("issuers").map_or(&[][..], Node::items) {
            let Some(mut issuer) = self.issuer(item) else { continue };
            if issuer.audience.is_empty() {
                issuer.audience.clone_from(&audience);
            }
            self.beside_others(item, &issuer, &found.issuers);
            found.issuers.push(issuer);
        }
        if let Some(node) = table.get("claims") {
            for (name, node) in self.named(node, "a map of claim names") {
                if let Some(kind) = self.word(node, "claim type", CLAIM_TYPES) {
                    found.claims.insert(name.text.clone(), kind);
                }
            }
        }
        if let Some(node) = table.get("api_keys")
            && node.text() != Some("state")
            && let Some(path) = self.path(node)
        {
            found.api_keys = path;
        }
        found.session = table.get("session").and_then(|node| self.session(node, &found.issuers));
        found.step_up = table.get("step_up").map_or(Vec::new(), |node| self.step_up(node));
        let certificates = table.get("certificates").and_then(|node| self.table(node, &CERTIFICATES));
        if let Some(node) = certificates.and_then(|table| table.get("trust_domain")) {
            found.certificates.trust_domain = self.value(node, trust_domain);
        }
        found
    }

    fn audiences(&mut self, node: &Node) -> Vec<String> {
        self.values(node, |text| match text {
            "" => Err(Unfit { expected: "an audience", instead: None }),
            _ => Ok(text.to_owned()),
        })
    }

    /// INVARIANT: a group of a realm of ours is no role, unless the configuration says so: who may
    /// put somebody into groups must not give them roles by it. What is neither never is: who may write
    /// users gives them attributes, and nobody who has a role by one is asked for what it needs.
    pub(super) fn own_roles(&mut self, node: Option<&Node>, realms: &[Realm], issuers: &mut [Issuer]) {
        let items = node.and_then(|node| node.get("issuers")).map_or(&[][..], Node::items);
        for issuer in issuers {
            let is_own = |realm: &&Realm| realm.settings.issuer == issuer.issuer;
            let Some(realm) = realms.iter().find(is_own) else { continue };
            let of_issuer = |item: &&Node| item.get("issuer").and_then(Node::text) == Some(&issuer.issuer);
            let written = items.iter().filter(of_issuer).find_map(|item| item.get("roles"));
            if written.is_none() {
                issuer.roles = vec![OWN_ROLE_CLAIM.to_owned()];
            }
            let at = written.or(node).map_or(At::default(), |node| node.at);
            for name in &issuer.roles {
                let is_it = |claim: &str| {
                    name.strip_prefix(claim).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                let is_role = |rule: &&ClaimRule| matches!(rule.from, Source::Roles | Source::Groups);
                let mut rules = realm.settings.claims.iter().filter(|rule| is_it(&rule.claim));
                if let Some(rule) = rules.find(|rule| !is_role(rule)) {
                    let message = format!(
                        "claim {:?} of realm {:?} is none of roles: whoever may write its users says what is in it",
                        rule.claim, realm.settings.name
                    );
                    self.advise(at, message, "give users their roles as `roles`");
                }
            }
        }
    }

    /// Two issuers must not be able to speak of the same user.
    fn beside_others(&mut self, node: &Node, issuer: &Issuer, others: &[Issuer]) {
        let asked = |issuer: &&Issuer| issuer.introspection.is_some();
        if let (Some(_), Some(other)) = (Some(issuer).filter(asked), others.iter().find(asked)) {
            let message = format!(
                "issuers {:?} and {:?} are both asked about opaque tokens, which do not say whose they are",
                other.issuer, issuer.issuer
            );
            self.advise(node.at, message, "leave introspection to one of them");
        }
        if others.iter().any(|other| other.issuer == issuer.issuer) {
            self.fault(node.at, format!("issuer {:?} is configured twice", issuer.issuer));
        } else if let Some(other) = others.iter().find(|other| other.prefix == issuer.prefix) {
            let message = format!(
                "issuers {:?} and {:?} have the same prefix {:?}: each could speak for the other's users",
                other.issuer, issuer.issuer, issuer.prefix
            );
            self.advise(node.at, message, "give all but one a prefix");
        }
    }

    fn issuer(&mut self, node: &Node) -> Option<Issuer> {
        let mut issuer = Issuer {
            issuer: String::new(),
            audience: Vec::new(),
            keys: KeySource::Discovery,
            algorithms: Algorithm::ALL.to_vec(),
            prefix: String::new(),
            roles: ROLE_CLAIMS.map(str::to_owned).to_vec(),
            client_claim: None,
            allow_private_addresses: false,
            plain_http: false,
            leeway: LEEWAY_DEFAULT,
            key_age_max: KEY_AGE_MAX_DEFAULT,
            types: vec!["at+jwt".to_owned(), "jwt".to_owned()],
            untyped: true,
            introspection: None,
        };
        if node.text().is_some() {
            issuer.issuer = self.value(node, url)?;
            self.fetched_safely(node, &issuer.issuer, &issuer);
            return Some(issuer);
        }
        let table = self.table(node, &ISSUER)?;
        let name = self.required(&table, "issuer");
        issuer.allow_private_addresses =
            table.get("allow_private_addresses").and_then(|node| self.boolean(node)).unwrap_or(false);
        issuer.plain_http = self.danger(&table, "danger_plain_http", "keys are fetched without TLS");
        self.issuer_tokens(&table, &mut issuer);
        let keys = self.key_source(&table, &issuer.algorithms);
        issuer.introspection = table.get("introspection").and_then(|node| self.introspection(node));
        let text = name.and_then(|node| self.text(node));
        if let (Some(name), Some(text), Some(keys)) = (name, text, &keys) {
            issuer.issuer = match keys {
                KeySource::Discovery => {
                    let url = self.value(name, url)?;
                    self.fetched_safely(name, &url, &issuer);
                    url
                }
                _ => text.to_owned(),
            };
            if let (KeySource::Url(address), Some(node)) = (keys, table.get("jwks")) {
                self.fetched_safely(node, address, &issuer);
            }
            let asked = table.get("introspection");
            if let (Some(asked), Some(node)) = (&issuer.introspection, asked) {
                let at = if asked.endpoint.is_some() { node } else { name };
                let place = asked.endpoint.clone().unwrap_or_else(|| issuer.issuer.clone());
                self.fetched_safely(at, &place, &issuer);
            }
        }
        name?;
        issuer.keys = keys?;
        Some(issuer)
    }

    /// What its tokens must look like.
    fn issuer_tokens(&mut self, table: &Table<'_>, issuer: &mut Issuer) {
        if let Some(node) = table.get("audience") {
            issuer.audience = self.audiences(node);
        }
        if let Some(node) = table.get("algorithms") {
            issuer.algorithms.clear();
            let known = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
            for item in node.items() {
                let found = self.word(item, "signature algorithm", &known);
                issuer.algorithms.extend(found.filter(|algorithm| !issuer.algorithms.contains(algorithm)));
            }
            if issuer.algorithms.is_empty() && !self.faulty() {
                self.expected(node, "at least one signature algorithm");
            }
        }
        if let Some(node) = table.get("prefix") {
            issuer.prefix = self.text(node).unwrap_or_default().to_owned();
        }
        if let Some(node) = table.get("roles") {
            issuer.roles = self.values(node, values::name);
        }
        if let Some(node) = table.get("client_claim") {
            issuer.client_claim = self.value(node, values::name);
        }
        if let Some(leeway) = table.get("leeway").and_then(|node| self.duration(node, Duration::ZERO)) {
            if leeway > LEEWAY_MAX
                && let Some(node) = table.get("leeway")
            {
                self.expected(node, &format!("a leeway of at most {}m", LEEWAY_MAX.as_secs() / 60));
            }
            issuer.leeway = leeway;
        }
        let age = table.get("key_age_max").and_then(|node| self.duration(node, KEY_AGE_MAX_LEAST));
        issuer.key_age_max = age.unwrap_or(issuer.key_age_max);
        if let Some(node) = table.get("type") {
            let types = self.values(node, values::name);
            issuer.untyped = types.iter().any(|t| t == "none");
            let lower = types.iter().filter(|t| *t != "none").map(|t| t.to_ascii_lowercase());
            issuer.types = lower.map(|t| t.strip_prefix("application/").unwrap_or(&t).to_owned()).collect();
        }
    }

    fn key_source(&mut self, table: &Table<'_>, algorithms: &[Algorithm]) -> Option<KeySource> {
        let given: Vec<&str> =
            ["jwks", "jwks_file", "key"].into_iter().filter(|key| table.get(key).is_some()).collect();
        let (Some(one), None) = (given.first(), given.get(1)) else {
            if given.is_empty() {
                return Some(KeySource::Discovery);
            }
            let message = format!("an issuer's keys come from one place, found {}", given.join(" and "));
            self.fault(table.key_at(given.last().unwrap_or(&"")), message);
            return None;
        };
        let node = table.get(one)?;
        match *one {
            "jwks" => self.value(node, url).map(KeySource::Url),
            "jwks_file" => {
                let (path, bytes) = self.file(node, KEYS_BYTES_MAX)?;
                match keys::KeySet::parse(&bytes, algorithms) {
                    Ok((_, skipped)) => {
                        for reason in skipped {
                            self.warn(
                                node.at,
                                format!("{}: {reason}", path.display()),
                                "this key is not used",
                            );
                        }
                    }
                    Err(error) => {
                        self.fault(node.at, format!("{}: {error}", path.display()));
                        return None;
                    }
                }
                Some(KeySource::File(path))
            }
            _ => {
                let key = self.static_key(node)?;
                let text = match &key {
                    KeySource::Json(text) | KeySource::Pem(text) => text.as_bytes(),
                    KeySource::Discovery | KeySource::Url(_) | KeySource::File(_) => b"",
                };
                if let Err(error) = keys::KeySet::parse_pinned(text, algorithms) {
                    self.fault(node.at, error.to_string());
                    return None;
                }
                Some(key)
            }
        }
    }

    /// A JWK as a map, PEM or JSON as text, or the path of a file with one of these.
    fn static_key(&mut self, node: &Node) -> Option<KeySource> {
        if let Value::Map(entries) = &node.value {
            let mut map = serde_json::Map::new();
            for (name, node) in entries {
                let text = self.text(node)?;
                map.insert(name.text.clone(), serde_json::Value::from(text));
            }
            return Some(KeySource::Json(serde_json::Value::Object(map).to_string()));
        }
        let text = self.text(node)?.trim();
        let text = if text.starts_with("-----BEGIN") || text.starts_with('{') {
            text.to_owned()
        } else {
            let (path, bytes) = self.file(node, KEYS_BYTES_MAX)?;
            match String::from_utf8(bytes) {
                Ok(text) => text.trim().to_owned(),
                Err(_) => {
                    self.fault(node.at, format!("{} is neither PEM nor JSON", path.display()));
                    return None;
                }
            }
        };
        if text.contains("PRIVATE KEY") || text.contains("\"d\"") {
            self.advise(node.at, "this is a private key", "an issuer is known by its public key");
            return None;
        }
        if text.starts_with('{') {
            return Some(KeySource::Json(text));
        }
        if !text.starts_with("-----BEGIN") {
            self.expected(node, "a public key as PEM or JWK");
            return None;
        }
        Some(KeySource::Pem(text))
    }

    /// Keys travel under TLS, except on loopback.
    fn fetched_safely(&mut self, node: &Node, url: &str, issuer: &Issuer) {
        let Some(rest) = url.strip_prefix("http://") else { return };
        let loopback = is_loopback(rest.split('/').next().unwrap_or_default());
        if issuer.allow_private_addresses && (issuer.plain_http || loopback) {
            return;
        }
        let suggestion = if loopback {
            "allow_private_addresses: true, for an issuer on this machine"
        } else {
            "https://"
        };
        self.advise(node.at, "keys must be fetched with https", suggestion);
    }
}

/// `http://` or `https://`, a host, no user, query or fragment.
pub(super) fn url(text: &str) -> Result<String, Unfit> {
    const EXPECTED: &str = "a URL such as https://id.example.org";
    let unfit = || Unfit { expected: EXPECTED, instead: None };
    let Some((scheme, rest)) = text.split_once("://") else {
        let looks_like_host =
            text.contains('.') && values::host(text.split('/').next().unwrap_or_default()).is_ok();
        let instead = looks_like_host.then(|| format!("https://{text}"));
        return Err(Unfit { expected: EXPECTED, instead });
    };
    let uri: http::Uri = text.parse().map_err(|_| unfit())?;
    let fits = matches!(scheme, "http" | "https")
        && uri.host().is_some_and(|host| values::host(host).is_ok())
        && !rest.contains(['@', '?', '#', '\\'])
        && (uri.port().is_none() || uri.port_u16().is_some_and(|port| port > 0));
    if fits { Ok(text.to_owned()) } else { Err(unfit()) }
}

fn trust_domain(text: &str) -> Result<String, Unfit> {
    let name = text.strip_prefix("spiffe://").unwrap_or(text);
    match format!("spiffe://{name}").parse::<model::SpiffeId>() {
        Ok(id) if id.path().is_empty() => Ok(name.to_owned()),
        _ => Err(Unfit {
            expected: "a trust domain such as shop.example (lower-case letters, digits, dots, dashes)",
            instead: None,
        }),
    }
}
