//! Claims: which of what is known of a subject goes into which token, by configuration.

use std::collections::BTreeSet;

use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::refusal::{Answer, Code, Refusal};
use crate::user::User;

/// Where a claim goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// What APIs and policies read.
    AccessToken,
    /// What the client reads.
    IdToken,
    /// The userinfo endpoint (OpenID Connect Core §5.3).
    Userinfo,
}

/// Where its value comes from. For a client as the subject of its own token only
/// `roles`, `attribute` and `fixed` mean something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The user name.
    Username,
    /// The full name.
    Name,
    /// The e-mail address.
    Email,
    /// Whether that is verified.
    EmailVerified,
    /// When the user was changed, Unix seconds.
    UpdatedAt,
    /// The roles.
    Roles,
    /// The groups.
    Groups,
    /// An attribute of this name.
    Attribute(String),
    /// Always this.
    Fixed(Value),
}

/// One line of the mapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRule {
    /// The claim's name.
    pub claim: String,
    /// Where its value comes from.
    pub from: Source,
    /// Only when this scope was granted; `None`: always.
    #[serde(default)]
    pub scope: Option<String>,
    /// Where it goes.
    pub into: BTreeSet<Target>,
}

/// Claims that the protocols give a meaning; a mapping must not.
const RESERVED: [&str; 28] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "client_id",
    "scope",
    "cnf",
    "act",
    "may_act",
    "sid",
    "auth_time",
    "acr",
    "amr",
    "azp",
    "nonce",
    "at_hash",
    "c_hash",
    "events",
    "active",
    "token_type",
    "username",
    "idp",
    "principal_type",
    "credential",
    "role_version",
];

/// Whether the protocols give a claim of this name a meaning.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

impl ClaimRule {
    /// What it shows of a user, where it shows anything.
    pub fn of_user(&self, user: &User) -> Option<Value> {
        Subject::User(user).value(&self.from)
    }

    /// What it shows of a client in the client's own tokens.
    pub fn of_client(&self, client: &Client) -> Option<Value> {
        Subject::Client(client).value(&self.from)
    }

    pub(crate) fn fault(&self) -> Option<String> {
        if self.claim.is_empty() || is_reserved(&self.claim) {
            return Some(format!("claims: {:?} has a meaning of its own and cannot be mapped", self.claim));
        }
        let scope = self.scope.as_deref().unwrap_or("openid");
        (!crate::scope::is_token(scope)).then(|| format!("claims: {scope:?} is not a scope"))
    }
}

/// The claims of OpenID Connect Core §5.4 for its scopes, and for APIs `roles` and
/// `groups`.
pub fn default_rules() -> Vec<ClaimRule> {
    let for_clients = BTreeSet::from([Target::IdToken, Target::Userinfo]);
    let for_apis = BTreeSet::from([Target::AccessToken]);
    let rule = |claim: &str, from: Source, scope: Option<&str>, into: &BTreeSet<Target>| ClaimRule {
        claim: claim.to_owned(),
        from,
        scope: scope.map(str::to_owned),
        into: into.clone(),
    };
    let mut rules = vec![
        rule("preferred_username", Source::Username, Some("profile"), &for_clients),
        rule("name", Source::Name, Some("profile"), &for_clients),
        rule("updated_at", Source::UpdatedAt, Some("profile"), &for_clients),
        rule("email", Source::Email, Some("email"), &for_clients),
        rule("email_verified", Source::EmailVerified, Some("email"), &for_clients),
        rule("roles", Source::Roles, None, &for_apis),
        rule("groups", Source::Groups, None, &for_apis),
    ];
    let of_attributes = [
        (
            "profile",
            &[
                "given_name",
                "family_name",
                "middle_name",
                "nickname",
                "profile",
                "picture",
                "website",
                "gender",
                "birthdate",
                "zoneinfo",
                "locale",
            ][..],
        ),
        ("address", &["address"]),
        ("phone", &["phone_number", "phone_number_verified"]),
    ];
    for (scope, names) in of_attributes {
        let of = |name: &&str| rule(name, Source::Attribute((*name).to_owned()), Some(scope), &for_clients);
        rules.extend(names.iter().map(of));
    }
    rules
}

/// Whom a token is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    User(&'a User),
    /// A client on its own behalf (RFC 6749 §4.4).
    Client(&'a Client),
}

impl Subject<'_> {
    /// `sub`.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::User(user) => &user.id,
            Self::Client(client) => &client.id,
        }
    }

    fn value(&self, source: &Source) -> Option<Value> {
        let list = |names: &BTreeSet<String>| (!names.is_empty()).then(|| json!(names));
        match (self, source) {
            (_, Source::Fixed(value)) => Some(value.clone()),
            (Self::User(user), source) => match source {
                Source::Username => Some(json!(user.username)),
                Source::Name => user.name.as_ref().map(|name| json!(name)),
                Source::Email => user.email.as_ref().map(|email| json!(email)),
                Source::EmailVerified => user.email.as_ref().map(|_| json!(user.email_verified)),
                Source::UpdatedAt => Some(json!(Timestamp::unix_seconds(user.updated))),
                Source::Roles => list(&user.roles),
                Source::Groups => list(&user.groups),
                Source::Attribute(name) => user.attributes.get(name).cloned(),
                Source::Fixed(value) => Some(value.clone()),
            },
            (Self::Client(client), Source::Roles) => list(&client.roles),
            (Self::Client(client), Source::Attribute(name)) => client.attributes.get(name).cloned(),
            (Self::Client(_), _) => None,
        }
    }
}

/// Adds the mapped claims for a target to `claims`, never over one that is there.
pub(crate) fn add(
    claims: &mut Map<String, Value>,
    rules: &[ClaimRule],
    subject: Subject<'_>,
    target: Target,
    scopes: &BTreeSet<String>,
    asked: &Asked,
) {
    for rule in rules {
        let by_scope =
            rule.into.contains(&target) && rule.scope.as_ref().is_none_or(|scope| scopes.contains(scope));
        let by_request = rule.scope.is_some() && asked.names(target).contains(&rule.claim);
        if (by_scope || by_request)
            && !claims.contains_key(&rule.claim)
            && let Some(value) = subject.value(&rule.from)
        {
            claims.insert(rule.claim.clone(), value);
        }
    }
}

/// Longest `claims` parameter, bytes.
const CLAIMS_BYTES_MAX: usize = 8 * 1024;

/// What the `claims` parameter asks for (OpenID Connect Core §5.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) id_token: BTreeSet<String>,
    pub(crate) userinfo: BTreeSet<String>,
    /// The subject that the ID token has to be about.
    pub(crate) subject: Option<String>,
    /// Classes of authentication, one of which has to be reached (§5.5.1.1).
    pub(crate) essential_acr: Vec<String>,
}

impl Asked {
    pub(crate) fn parse(text: &str) -> Answer<Self> {
        let refused = |why: &'static str| Refusal::plain(Code::InvalidRequest, why);
        if text.len() > CLAIMS_BYTES_MAX {
            return Err(refused("`claims` is too long"));
        }
        let whole = keys::encoding::parse_object(text.as_bytes())
            .map_err(|_| refused("`claims` is not a JSON object (OpenID Connect Core, section 5.5)"))?;
        let mut asked = Self::default();
        for (place, names) in [("id_token", &mut asked.id_token), ("userinfo", &mut asked.userinfo)] {
            match whole.get(place) {
                None | Some(Value::Null) => {}
                Some(Value::Object(members)) => names.extend(members.keys().cloned()),
                Some(_) => return Err(refused("`claims`: `id_token` and `userinfo` have to be objects")),
            }
        }
        let of_id_token = |name: &str| whole.get("id_token")?.get(name);
        asked.subject = of_id_token("sub").and_then(|sub| sub.get("value")?.as_str()).map(str::to_owned);
        if let Some(acr) = of_id_token("acr").filter(|acr| acr.get("essential") == Some(&Value::Bool(true))) {
            let values = acr.get("values").and_then(Value::as_array).cloned().unwrap_or_default();
            let values = values.into_iter().chain(acr.get("value").cloned());
            asked.essential_acr = values.filter_map(|value| value.as_str().map(str::to_owned)).collect();
        }
        Ok(asked)
    }

    /// The scopes whose claims are asked for one by one: consent is to these.
    pub(crate) fn scopes(&self, rules: &[ClaimRule]) -> BTreeSet<String> {
        let asked =
            |rule: &&ClaimRule| self.id_token.contains(&rule.claim) || self.userinfo.contains(&rule.claim);
        rules.iter().filter(asked).filter_map(|rule| rule.scope.clone()).collect()
    }

    /// Leaves only claims whose scope is among `allowed`.
    pub(crate) fn restricted(mut self, rules: &[ClaimRule], allowed: &BTreeSet<String>) -> Self {
        let may = |claim: &String| {
            let mut of_claim = rules.iter().filter(|rule| rule.claim == *claim);
            of_claim.any(|rule| rule.scope.as_ref().is_none_or(|scope| allowed.contains(scope)))
        };
        self.id_token.retain(may);
        self.userinfo.retain(may);
        self
    }

    fn names(&self, target: Target) -> &BTreeSet<String> {
        const NONE: &BTreeSet<String> = &BTreeSet::new();
        match target {
            Target::AccessToken => NONE,
            Target::IdToken => &self.id_token,
            Target::Userinfo => &self.userinfo,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn alice() -> User {
        let mut user = User::new("u1", "alice", Timestamp::from_unix_seconds(5));
        user.email = Some("alice@example.org".to_owned());
        user.roles = set(&["customer"]);
        user.attributes.insert("department".to_owned(), json!("sales"));
        user
    }

    fn mapped(target: Target, scopes: &[&str], asked: &Asked) -> Value {
        let mut rules = default_rules();
        rules.push(ClaimRule {
            claim: "department".to_owned(),
            from: Source::Attribute("department".to_owned()),
            scope: None,
            into: BTreeSet::from([Target::AccessToken]),
        });
        let mut claims = Map::new();
        add(&mut claims, &rules, Subject::User(&alice()), target, &set(scopes), asked);
        Value::Object(claims)
    }

    #[test]
    fn scopes_and_rules_decide_what_a_token_says() {
        let none = Asked::default();
        assert_eq!(
            mapped(Target::AccessToken, &[], &none),
            json!({ "roles": ["customer"], "department": "sales" })
        );
        assert_eq!(mapped(Target::IdToken, &["openid"], &none), json!({}));
        assert_eq!(
            mapped(Target::Userinfo, &["email"], &none),
            json!({ "email": "alice@example.org", "email_verified": false })
        );
    }

    #[test]
    fn single_claims_can_be_asked_for_within_what_is_allowed() {
        let asked = Asked::parse(r#"{"id_token":{"email":null,"phone_number":{"essential":true}}}"#).unwrap();
        assert_eq!(asked.scopes(&default_rules()), set(&["email", "phone"]));
        assert_eq!(mapped(Target::IdToken, &["openid"], &asked), json!({ "email": "alice@example.org" }));
        assert_eq!(mapped(Target::Userinfo, &["openid"], &asked), json!({}));
        let restricted = asked.restricted(&default_rules(), &set(&["phone"]));
        assert_eq!(mapped(Target::IdToken, &["openid"], &restricted), json!({}));
        let essential =
            Asked::parse(r#"{"id_token":{"sub":{"value":"u1"},"acr":{"essential":true,"values":["2"]}}}"#);
        let essential = essential.unwrap();
        assert_eq!(
            (essential.subject.as_deref(), essential.essential_acr),
            (Some("u1"), vec!["2".to_owned()])
        );
        for wrong in ["", "[]", "x", r#"{"id_token":1}"#, r#"{"id_token":{},"id_token":{}}"#] {
            assert!(Asked::parse(wrong).is_err(), "{wrong}");
        }
        // Departments belong to no scope: no request brings them to a client.
        let asked = Asked::parse(r#"{"userinfo":{"department":null}}"#).unwrap();
        assert_eq!(mapped(Target::Userinfo, &["openid"], &asked), json!({}));
    }

    #[test]
    fn a_mapping_cannot_forge_the_protocols_own_claims() {
        for claim in RESERVED {
            let rule = ClaimRule {
                claim: claim.to_owned(),
                from: Source::Fixed(json!("x")),
                scope: None,
                into: BTreeSet::from([Target::AccessToken]),
            };
            assert!(rule.fault().is_some(), "{claim}");
        }
        assert!(default_rules().iter().all(|rule| rule.fault().is_none()));
    }
}
