//! Who gets in: proofs of identity, groups and consumers as issuers, roles and policies.

use super::Importer;
use super::plugins::{PROOFS, Plugin};
use super::source::{Entity, deck};
use crate::import::Outcome;
use crate::import::yaml::Yaml;

/// A consumer of Kong's.
pub(super) struct Consumer<'n> {
    pub(super) entity: Entity<'n>,
    pub(super) name: String,
    /// Its ACL groups.
    pub(super) groups: Vec<String>,
    /// Its consumer groups.
    pub(super) member_of: Vec<String>,
    /// Issuers whose tokens are its.
    pub(super) issuers: Vec<String>,
    /// Names in its client certificates.
    pub(super) certificates: Vec<String>,
    /// Whether it has API keys, which are made anew.
    pub(super) keys: bool,
}

/// What a route asks for.
#[derive(Default)]
pub(super) struct Access {
    /// Our names of the proofs; empty: nobody has to prove anything.
    pub(super) proofs: Vec<&'static str>,
    /// Conditions that permit, each a Cedar policy's `when` with its scope.
    pub(super) permits: Vec<Permit>,
    /// Forbids that come from `acl`.
    pub(super) forbids: Vec<Permit>,
    /// Why nobody gets in.
    pub(super) closed: Vec<String>,
    /// Whether one without any proof gets in too, in Kong.
    pub(super) anonymous: bool,
}

/// A scope for the principal and a condition; empty: none.
#[derive(Clone, Default)]
pub(super) struct Permit {
    pub(super) principal: String,
    pub(super) when: String,
}

impl Permit {
    fn of(principal: &str, when: String) -> Self {
        Self { principal: principal.to_owned(), when }
    }
}

/// Whom a plugin is for.
pub(super) struct Somebody {
    pub(super) name: String,
    /// How policies name it.
    pub(super) selectors: Vec<Permit>,
    /// Not where it is only mentioned: then it has no credential here, but could be given a key.
    pub(super) is_in_file: bool,
}

impl Somebody {
    pub(super) fn of(consumer: &Consumer<'_>) -> Self {
        Self { name: consumer.name.clone(), selectors: consumer.selectors(), is_in_file: true }
    }

    fn mentioned(name: &str) -> Self {
        Self { name: name.to_owned(), selectors: vec![has_key(name)], is_in_file: false }
    }
}

/// Settings of openid-connect that keep somebody out and have no counterpart.
const OIDC_RESTRICTING: &[&str] = &[
    "audience_required",
    "roles_required",
    "groups_required",
    "issuers_allowed",
    "claims_forbidden",
    "consumer_claim",
    "consumer_by",
    "introspection_endpoint",
    "introspect_jwt_tokens",
    "proof_of_possession_mtls",
    "proof_of_possession_dpop",
    "authenticated_groups_claim",
    "credential_claim",
    "required_claims",
];

impl<'n> Importer<'n> {
    /// Reads consumers with their credentials; asymmetric keys become issuers.
    pub(super) fn consumers(&mut self) {
        for entity in self.source.list(self.source.top, "consumers", "consumer") {
            let name = entity.text("username").or_else(|| entity.text("custom_id"));
            let name = name.unwrap_or_else(|| "consumer".to_owned());
            let place = format!("consumer {name:?}");
            let groups = entity.items("acls").iter().filter_map(|acl| Entity::new(acl, None).text("group"));
            let mut consumer = Consumer {
                entity,
                groups: groups.collect(),
                member_of: entity.items("groups").iter().filter_map(group_name).collect(),
                issuers: Vec::new(),
                certificates: Vec::new(),
                keys: !entity.items("keyauth_credentials").is_empty(),
                name: name.clone(),
            };
            if consumer.keys {
                let note = "it needs new keys: keys are random here, and kept as hashes";
                self.say(entity, &format!("{place}: keyauth_credentials"), Outcome::Changed, note);
                self.next_steps.push(format!(
                    "bastide key new --name {} --owner {}",
                    shell(&name),
                    shell(&entity.text("custom_id").unwrap_or_else(|| name.clone()))
                ));
            }
            for node in entity.items("jwt_secrets") {
                self.jwt_secret(Entity::new(node, None), &place, &mut consumer);
            }
            for node in entity.items("mtls_auth_credentials") {
                consumer.certificates.extend(Entity::new(node, None).text("subject_name"));
            }
            for (key, _, node) in entity.entries() {
                if key.ends_with("_credentials")
                    && !["keyauth_credentials", "mtls_auth_credentials"].contains(&key)
                {
                    let note =
                        "credentials of this kind are not translated: routes that ask for them are closed";
                    self.say(Entity::new(node, None), &format!("{place}: {key}"), Outcome::Dropped, note);
                }
            }
            self.say(entity, &place, Outcome::Translated, "a principal in the policies");
            self.consumers.push(consumer);
        }
        self.members();
        for group in self.consumers.iter().flat_map(|consumer| &consumer.groups) {
            if !self.roles.contains(group) {
                self.roles.push(group.clone());
            }
        }
    }

    /// decK lists members in their group too.
    fn members(&mut self) {
        for group in self.source.list(self.source.top, "consumer_groups", "consumer_group") {
            let Some(of) = group_called(&group) else { continue };
            for node in group.items("consumers") {
                let member = Entity::new(node, None);
                let keys = ["username", "id", "custom_id"].into_iter();
                let names: Vec<String> = node
                    .text()
                    .map(deck)
                    .into_iter()
                    .chain(keys.filter_map(|key| member.text(key)))
                    .collect();
                let mut is_known = false;
                for consumer in &mut self.consumers {
                    if names.iter().any(|name| consumer.entity.is_called(name)) {
                        is_known = true;
                        consumer.member_of.push(of.clone());
                    }
                }
                let name = names.into_iter().next().filter(|name| !is_known && !name.is_empty());
                if let Some(name) = name {
                    let note = "it is not in the file: it has no credential here, and a key of this name does not get \
                                in where a plugin of the group applies";
                    let place = format!("consumer {name:?} of consumer group {of:?}");
                    self.say(member, &place, Outcome::Closed, note);
                    self.strangers.push((of.clone(), name));
                }
            }
        }
    }

    /// Each consumer that is called so, or is in the group of this name.
    pub(super) fn consumers_of(&self, name: Option<&str>, group: Option<&str>) -> Vec<Somebody> {
        let groups = group.filter(|_| name.is_none()).map(|group| self.names_of_group(group));
        let groups = groups.unwrap_or_default();
        let is_one = |consumer: &&Consumer<'n>| match name {
            Some(name) => consumer.entity.is_called(name),
            None => consumer.member_of.iter().any(|of| groups.contains(of)),
        };
        let mut found: Vec<Somebody> = self.consumers.iter().filter(is_one).map(Somebody::of).collect();
        let strangers = self.strangers.iter().filter(|(of, _)| groups.contains(of));
        found.extend(strangers.map(|(_, stranger)| Somebody::mentioned(stranger)));
        let unknown = name.filter(|name| found.is_empty() && !name.is_empty());
        found.extend(unknown.map(Somebody::mentioned));
        found
    }

    /// A group is referred to by its name or its id.
    fn names_of_group(&self, group: &str) -> Vec<String> {
        let groups = self.source.list(self.source.top, "consumer_groups", "consumer_group").into_iter();
        let meant = groups.filter(|known| known.is_called(group));
        let names = meant.flat_map(|known| ["name", "id"].into_iter().filter_map(move |key| known.text(key)));
        names.chain([group.to_owned()]).collect()
    }

    fn jwt_secret(&mut self, secret: Entity<'n>, place: &str, consumer: &mut Consumer<'n>) {
        let place = format!("{place}: jwt_secrets");
        let algorithm = secret.text("algorithm").unwrap_or_else(|| "HS256".to_owned());
        let (Some(issuer), Some(key)) = (secret.text("key"), secret.text("rsa_public_key")) else {
            let note = format!(
                "{algorithm} with a shared secret is not accepted here: tokens of this credential are refused"
            );
            self.say(secret, &place, Outcome::Dropped, &note);
            return;
        };
        let known =
            ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
        if !known.contains(&algorithm.as_str()) {
            self.say(
                secret,
                &place,
                Outcome::Dropped,
                &format!("algorithm {algorithm} is not accepted here"),
            );
            return;
        }
        // A consumer signs its own tokens: neither may it name roles nor be taken for another.
        let keys = vec![
            ("issuer".to_owned(), Yaml::text(issuer.clone())),
            ("prefix".to_owned(), Yaml::text(format!("{}/", consumer.name))),
            ("algorithms".to_owned(), Yaml::texts([algorithm])),
            ("roles".to_owned(), Yaml::List(Vec::new())),
            ("key".to_owned(), Yaml::Block(key)),
        ];
        self.issuers.push(Yaml::Map(keys));
        let note = "its tokens need sub and exp, and aud naming one of the issuer's audiences, which Kong does not ask for; \
                    a user is consumer/sub";
        self.say(secret, &place, Outcome::Changed, note);
        consumer.issuers.push(issuer);
    }

    /// What the plugins of a route ask of those who come.
    pub(super) fn access(&mut self, plugins: &[&Plugin<'n>]) -> Access {
        let mut access = Access::default();
        let proofs: Vec<&&Plugin<'n>> =
            plugins.iter().filter(|plugin| PROOFS.contains(&plugin.name.as_str())).collect();
        let acl = plugins.iter().find(|plugin| plugin.name == "acl");
        if proofs.len() > 1 && proofs.iter().any(|plugin| anonymous_of(plugin).is_none()) {
            access
                .closed
                .push("Kong asks for each of several proofs, and here any of them would do".to_owned());
        }
        for plugin in &proofs {
            self.anonymous(plugin, &mut access);
            let (proof, base) = match plugin.name.as_str() {
                "key-auth" => ("api_key", Some(self.key_auth(plugin))),
                "jwt" => ("jwt", self.jwt(plugin, &mut access)),
                "mtls-auth" => ("mtls", self.mtls(plugin, &mut access)),
                _ => ("jwt", self.oidc(plugin, &mut access)),
            };
            // Nobody can prove it; the route is closed.
            let Some(base) = base else { continue };
            if !access.proofs.contains(&proof) {
                access.proofs.push(proof);
            }
            self.permits(plugin, base, acl.map(|acl| acl.config()), &mut access);
        }
        if let Some(acl) = acl {
            self.acl(acl, &mut access);
        }
        access
    }

    /// `anonymous`: who proves nothing is a certain consumer.
    fn anonymous(&mut self, plugin: &Plugin<'n>, access: &mut Access) {
        let Some(name) = anonymous_of(plugin) else { return };
        let ended = self.plugins.iter().any(|other| {
            let named = other.consumer.as_ref().is_some_and(|consumer| {
                *consumer == name
                    || self
                        .consumers
                        .iter()
                        .any(|known| known.name == *consumer && known.entity.is_called(&name))
            });
            named && other.name == "request-termination" && other.route.is_none() && other.service.is_none()
        });
        if !ended {
            access.anonymous = true;
            let note = "who proves nothing is refused: a route here asks everybody for a proof, or with `allow: anyone` \
                        nobody";
            self.say(plugin.entity, &format!("{}: anonymous", plugin.place()), Outcome::Changed, note);
        }
    }

    fn key_auth(&mut self, plugin: &Plugin<'n>) -> Permit {
        let names = plugin.config().texts("key_names");
        let names = if names.is_empty() { "apikey".to_owned() } else { names.join(", ") };
        let note = format!("keys come in X-API-Key or Authorization, not in {names}, never in query or body");
        self.say(plugin.entity, &plugin.place(), Outcome::Changed, &note);
        Permit::of("principal is ApiKey", String::new())
    }

    fn jwt(&mut self, plugin: &Plugin<'n>, access: &mut Access) -> Option<Permit> {
        let config = plugin.config();
        if config.text("key_claim_name").is_some_and(|name| name != "iss") {
            access.closed.push("jwt looks for its credential in another claim than iss".to_owned());
        }
        if config.number("maximum_expiration").is_some_and(|most| most > 0) {
            access.closed.push("jwt bounds how long tokens may be good (maximum_expiration)".to_owned());
        }
        let issuers: Vec<String> =
            self.consumers.iter().flat_map(|consumer| consumer.issuers.clone()).collect();
        if issuers.is_empty() {
            access.closed.push("no credential of the jwt plugin could be translated".to_owned());
            return None;
        }
        self.say(
            plugin.entity,
            &plugin.place(),
            Outcome::Translated,
            "authenticate: jwt, and a policy that names the issuers",
        );
        Some(Permit::of("principal", issued_by(&issuers)))
    }

    fn mtls(&mut self, plugin: &Plugin<'n>, access: &mut Access) -> Option<Permit> {
        let config = plugin.config();
        let authorities = config.texts("ca_certificates");
        let bundle = self.authorities(&authorities);
        match (&self.client_authorities, bundle) {
            (_, None) => {
                access.closed.push("the ca_certificates of mtls-auth are not in the file".to_owned())
            }
            (Some(known), Some(_)) if *known != authorities => access.closed.push(
                "mtls-auth asks for other authorities than another mtls-auth, and a listener has one set"
                    .to_owned(),
            ),
            (_, Some(_)) => self.client_authorities = Some(authorities),
        }
        if config.text("revocation_check_mode").is_some_and(|mode| mode == "STRICT") {
            access.closed.push("mtls-auth checks revocation over the network; see tls.client.crl".to_owned());
        }
        let names: Vec<String> =
            self.consumers.iter().flat_map(|consumer| consumer.certificates.clone()).collect();
        let when = match config.flag("skip_consumer_lookup", false) {
            true => "context.credential == \"mtls\"".to_owned(),
            false if names.is_empty() => {
                access.closed.push("no consumer has a certificate's name (mtls_auth_credentials)".to_owned());
                return None;
            }
            false => named("Client", &names),
        };
        self.say(
            plugin.entity,
            &plugin.place(),
            Outcome::Changed,
            "a client is who its certificate's common name says, else its one DNS name",
        );
        Some(Permit::of("principal", when))
    }

    fn oidc(&mut self, plugin: &Plugin<'n>, access: &mut Access) -> Option<Permit> {
        let config = plugin.config();
        let restricting = OIDC_RESTRICTING.iter().find(|key| {
            config.get(key).is_some_and(|node| {
                node.text() != Some("false") && (node.text().is_some() || !node.items().is_empty())
            })
        });
        if let Some(key) = restricting {
            access.closed.push(format!("{key} of openid-connect is not translated"));
        }
        let written = config.text("issuer").unwrap_or_default();
        let issuer = written.split("/.well-known/").next().unwrap_or_default().to_owned();
        if !issuer.starts_with("https://") {
            access.closed.push("the issuer of openid-connect is no https URL".to_owned());
            return None;
        }
        let mut audience = config.texts("audience");
        audience.extend(config.texts("client_id"));
        let scopes = match config.texts("scopes_required") {
            scopes if scopes.is_empty() => String::new(),
            scopes => format!(" && ({})", any_scopes(&scopes)),
        };
        if audience.is_empty() {
            access.closed.push("openid-connect names neither client_id nor audience".to_owned());
            return None;
        }
        self.issuer(&issuer, audience, &config.texts("groups_claim"));
        let note = "bearer tokens alone: logins in a browser, sessions and introspection are not translated; aud has to name the client";
        self.say(plugin.entity, &plugin.place(), Outcome::Changed, note);
        Some(Permit::of("principal", format!("{}{scopes}", issued_by(&[issuer]))))
    }

    /// Once for each issuer; audiences of several plugins are joined.
    fn issuer(&mut self, issuer: &str, audience: Vec<String>, groups_claim: &[String]) {
        let name = Yaml::text(issuer);
        let known = self.issuers.iter_mut().find_map(|known| match known {
            Yaml::Map(keys) if keys.iter().any(|(key, value)| key == "issuer" && *value == name) => {
                Some(keys)
            }
            _ => None,
        });
        let groups = if groups_claim.is_empty() { "groups".to_owned() } else { groups_claim.join(".") };
        match known {
            Some(keys) => {
                if let Some((_, Yaml::List(list))) = keys.iter_mut().find(|(key, _)| key == "audience") {
                    let more = audience.into_iter().map(Yaml::Text);
                    more.for_each(|one| {
                        if !list.contains(&one) {
                            list.push(one)
                        }
                    });
                }
            }
            None => {
                let prefix = format!("{issuer}#");
                let keys = vec![
                    ("issuer".to_owned(), name),
                    ("prefix".to_owned(), Yaml::text(prefix)),
                    ("audience".to_owned(), Yaml::texts(audience)),
                    ("roles".to_owned(), Yaml::texts([groups])),
                ];
                self.issuers.push(Yaml::Map(keys));
            }
        }
    }

    /// What permits those who bring this proof: all of them, or those of `acl.allow`.
    fn permits(&mut self, plugin: &Plugin<'n>, base: Permit, acl: Option<Entity<'n>>, access: &mut Access) {
        let allow = acl.map_or(Vec::new(), |acl| [acl.texts("allow"), acl.texts("whitelist")].concat());
        if allow.is_empty() {
            access.permits.push(base);
            return;
        }
        self.declare(&allow);
        let and = |one: &str, other: String| {
            if one.is_empty() { other } else { format!("{one} && {other}") }
        };
        match plugin.name.as_str() {
            "jwt" => {
                let issuers = self.issuers_in(&allow);
                if !issuers.is_empty() {
                    access.permits.push(Permit::of("principal", issued_by(&issuers)));
                }
            }
            "mtls-auth" => {
                let names = self.certificates_in(&allow);
                if !names.is_empty() {
                    access.permits.push(Permit::of("principal", named("Client", &names)));
                }
            }
            _ => {
                let when = and(&base.when, in_roles(&allow));
                access.permits.push(Permit { principal: base.principal, when });
            }
        }
    }

    fn acl(&mut self, acl: &Plugin<'n>, access: &mut Access) {
        let config = acl.config();
        if access.proofs.is_empty() {
            access.closed.push("acl without a proof that could be translated: nobody has a group".to_owned());
        }
        if access.anonymous {
            access.closed.push("acl beside an anonymous consumer".to_owned());
        }
        for key in ["include_consumer_groups", "always_use_authenticated_groups"] {
            if config.flag(key, false) {
                access.closed.push(format!("{key} of acl is not translated"));
            }
        }
        let deny = [config.texts("deny"), config.texts("blacklist")].concat();
        if !deny.is_empty() {
            self.declare(&deny);
            access.forbids.push(Permit::of("principal", in_roles(&deny)));
            let issuers = self.issuers_in(&deny);
            if !issuers.is_empty() {
                access.forbids.push(Permit::of("principal", issued_by(&issuers)));
            }
        }
        self.say(acl.entity, &acl.place(), Outcome::Translated, "roles, and policies that name them");
    }

    /// Groups that nobody is in are roles too.
    fn declare(&mut self, groups: &[String]) {
        for group in groups {
            if !self.roles.contains(group) {
                self.roles.push(group.clone());
            }
        }
    }

    fn issuers_in(&self, groups: &[String]) -> Vec<String> {
        self.in_groups(groups).flat_map(|consumer| consumer.issuers.clone()).collect()
    }

    fn certificates_in(&self, groups: &[String]) -> Vec<String> {
        self.in_groups(groups).flat_map(|consumer| consumer.certificates.clone()).collect()
    }

    fn in_groups<'a>(&'a self, groups: &'a [String]) -> impl Iterator<Item = &'a Consumer<'n>> {
        self.consumers.iter().filter(|consumer| consumer.groups.iter().any(|group| groups.contains(group)))
    }

    /// `roles:` with their members.
    pub(super) fn roles_yaml(&self) -> Vec<(String, Yaml)> {
        let role = |group: &String| {
            let of = self.consumers.iter().filter(|consumer| consumer.groups.contains(group));
            let members = of.flat_map(|consumer| {
                let key = consumer.keys.then(|| format!("ApiKey:{}", consumer.name));
                let clients = consumer.certificates.iter().map(|name| format!("Client:{name}"));
                key.into_iter().chain(clients)
            });
            let members: Vec<String> = members.collect();
            let members = vec![("members".to_owned(), Yaml::texts(members))];
            (group.clone(), Yaml::Map(members))
        };
        self.roles.iter().map(role).collect()
    }
}

impl Consumer<'_> {
    /// Conditions that mean this consumer, each with its scope.
    pub(super) fn selectors(&self) -> Vec<Permit> {
        let mut all = Vec::new();
        if self.keys {
            all.push(has_key(&self.name));
        }
        for name in &self.certificates {
            all.push(Permit::of(&format!("principal == Client::{}", cedar(name)), String::new()));
        }
        if !self.issuers.is_empty() {
            all.push(Permit::of("principal", issued_by(&self.issuers)));
        }
        all
    }
}

/// The consumer that those are who prove nothing. An empty name is none, as in old files.
fn anonymous_of(plugin: &Plugin<'_>) -> Option<String> {
    plugin.config().text("anonymous").filter(|name| !name.is_empty())
}

fn group_name(node: &crate::config::node::Node) -> Option<String> {
    node.text().map(deck).or_else(|| group_called(&Entity::new(node, None)))
}

/// The name of a consumer group, else its id.
pub(super) fn group_called(group: &Entity<'_>) -> Option<String> {
    group.text("name").or_else(|| group.text("id"))
}

/// Who comes with the API key of this name.
pub(super) fn has_key(name: &str) -> Permit {
    Permit::of(&format!("principal == ApiKey::{}", cedar(name)), String::new())
}

/// A text of Cedar.
pub(super) fn cedar(text: &str) -> String {
    format!("{text:?}")
}

fn list(texts: &[String]) -> String {
    texts.iter().map(|text| cedar(text)).collect::<Vec<_>>().join(", ")
}

fn issued_by(issuers: &[String]) -> String {
    format!(
        "context.credential == \"jwt\" && principal has issuer && [{}].contains(principal.issuer)",
        list(issuers)
    )
}

fn named(kind: &str, names: &[String]) -> String {
    let names: Vec<String> =
        names.iter().map(|name| format!("principal == {kind}::{}", cedar(name))).collect();
    format!("({})", names.join(" || "))
}

fn in_roles(roles: &[String]) -> String {
    let roles: Vec<String> = roles.iter().map(|role| format!("Role::{}", cedar(role))).collect();
    format!("principal in [{}]", roles.join(", "))
}

/// Kong: within a text all of them, of several texts any.
fn any_scopes(texts: &[String]) -> String {
    let all = |text: &String| {
        let scopes =
            text.split_whitespace().map(|scope| format!("principal.scopes.contains({})", cedar(scope)));
        format!("({})", scopes.collect::<Vec<_>>().join(" && "))
    };
    texts.iter().map(all).collect::<Vec<_>>().join(" || ")
}

/// A word for a shell.
fn shell(text: &str) -> String {
    let safe = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./@:".contains(c));
    if safe { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
