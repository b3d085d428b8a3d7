//! Users, with what they show when they log in, and what they had to do at their next login.
//!
//! INVARIANT: who could not log in, or not before they had done something, does not get in here by what
//! they had until then.

use std::collections::{BTreeMap, BTreeSet};

use model::Timestamp;
use serde_json::{Map, Value, json};

use super::roles::Roles;
use super::{Importer, Records, Wanted, credential, entries, flag, is_issued_before, items, text, texts};
use crate::config::node::{At, Node};
use crate::import::Outcome;

/// The role of those who have to have a second factor, and may have none yet.
pub(super) const SECOND_FACTOR: &str = "second-factor";

pub(super) fn read<'n>(
    importer: &mut Importer<'n>,
    wanted: &Wanted,
    roles: &mut Roles<'n>,
    clients: &Records,
    trees: &'n [Node],
) -> Records {
    let shared = shared_addresses(trees);
    let mut users = Records::new();
    let mut seen = BTreeSet::new();
    let mut ids: BTreeSet<&str> = clients.keys().map(String::as_str).collect();
    for user in trees.iter().flat_map(|tree| items(tree, "users")) {
        let Some(name) = text(user, "username") else { continue };
        // The account of a client: its roles are the client's.
        if user.get("serviceAccountClientId").is_some() {
            continue;
        }
        let what = format!("user {name:?}");
        if !seen.insert(name.to_lowercase()) {
            importer.find(user.at, what, Outcome::Dropped, "there is one of this name already");
            continue;
        }
        if let Err(error) = identity::User::new("id", name, Timestamp::default()).check() {
            importer.find(user.at, what, Outcome::Dropped, format!("they cannot be one here: {error}"));
            continue;
        }
        let mut person = Person { importer: &mut *importer, user, what, closed: Vec::new(), second: false };
        let mut record = person.record(wanted, roles, &shared);
        let Person { what, closed, second, .. } = person;
        if second {
            let role = importer.second_factor_role(roles);
            if let Some(Value::Array(own)) = record.get_mut("roles") {
                own.push(json!(role));
            }
        }
        if let Some(id) = text(user, "id") {
            match identity::User::new(id, name, Timestamp::default()).check() {
                Ok(()) if ids.insert(id) => {
                    record.insert("id".to_owned(), json!(id));
                }
                _ => {
                    let note = "it cannot be theirs here: they get another `sub`";
                    importer.find(user.at, format!("id of {what}"), Outcome::Changed, note);
                }
            }
        }
        let is_off = record.get("disabled") == Some(&json!(true));
        users.insert(name.to_owned(), Value::Object(record));
        if closed.is_empty() {
            let note = if is_off { "a user, switched off" } else { "a user" };
            importer.find(user.at, what, Outcome::Translated, note);
        } else {
            let note = format!("{}: `bastide user enable NAME` lets them in", closed.join("; "));
            importer.find(user.at, what, Outcome::Closed, note);
        }
    }
    users
}

/// Verified addresses that several have, folded.
fn shared_addresses(trees: &[Node]) -> BTreeSet<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for user in trees.iter().flat_map(|tree| items(tree, "users")).filter(|user| flag(user, "emailVerified"))
    {
        if let Some(email) = text(user, "email") {
            *counts.entry(email.trim().to_lowercase()).or_default() += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(email, _)| email).collect()
}

/// One user on their way.
struct Person<'a, 'n> {
    importer: &'a mut Importer<'n>,
    user: &'n Node,
    what: String,
    /// Why they are switched off, besides that they were.
    closed: Vec<String>,
    /// Whether they have to have a second factor.
    second: bool,
}

impl<'n> Person<'_, 'n> {
    fn find(&mut self, at: At, part: &str, outcome: Outcome, note: impl Into<String>) {
        let what = format!("{part} of {}", self.what);
        self.importer.find(at, what, outcome, note);
    }

    fn record(
        &mut self,
        wanted: &Wanted,
        roles: &Roles<'n>,
        shared: &BTreeSet<String>,
    ) -> Map<String, Value> {
        let user = self.user;
        let mut record = Map::new();
        let name = [text(user, "firstName"), text(user, "lastName")].into_iter().flatten();
        let name = name.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        if !name.is_empty() {
            record.insert("name".to_owned(), json!(name));
        }
        let email = self.email();
        if let Some(email) = email {
            self.address(&mut record, email, shared);
        }
        let groups = texts(user, "groups");
        let mut own = roles.of(user);
        for group in &groups {
            own.extend(roles.of_groups.get(*group).into_iter().flatten().cloned());
        }
        record.insert("roles".to_owned(), json!(own));
        let groups: BTreeSet<&str> = groups.into_iter().map(|path| path.trim_start_matches('/')).collect();
        record.insert("groups".to_owned(), json!(groups));
        record.insert("attributes".to_owned(), Value::Object(attributes(user)));
        let unverified = email.is_some() && !flag(user, "emailVerified");
        self.credentials(&mut record, wanted, unverified);
        self.left_behind();
        let is_off =
            text(user, "enabled") == Some("false") || self.importer.is_off || !self.closed.is_empty();
        record.insert("disabled".to_owned(), json!(is_off));
        record
    }

    /// Their address. One that several have shown to be theirs is nobody's until one shows it again.
    fn address(&mut self, record: &mut Map<String, Value>, email: &str, shared: &BTreeSet<String>) {
        let verified = flag(self.user, "emailVerified");
        let is_shared = verified && shared.contains(&email.trim().to_lowercase());
        if is_shared {
            let note = "several have it verified, and one can: nobody has, until they show that it is theirs";
            self.find(self.user.at, "e-mail address", Outcome::Changed, note);
        }
        record.insert("email".to_owned(), json!(email));
        record.insert("email_verified".to_owned(), json!(verified && !is_shared));
    }

    /// Their password and factors; whoever had a factor that cannot be taken is closed.
    fn credentials(&mut self, record: &mut Map<String, Value>, wanted: &Wanted, unverified: bool) {
        let user = self.user;
        let choose = self.actions(unverified);
        let shown = credential::read(self.importer, wanted, user, &self.what, choose);
        if let Some(hash) = shown.password_hash {
            record.insert("password_hash".to_owned(), json!(hash));
        }
        // Exports without credentials say who has a code.
        let is_lost = shown.lost || flag(user, "totp") && shown.apps.is_empty();
        if !shown.apps.is_empty() {
            record.insert("totp".to_owned(), json!(shown.apps));
        }
        if is_lost {
            self.second = true;
            let why =
                "none of their second factors can be taken, so they are asked to enrol one at the next login";
            self.closed.push(why.to_owned());
        }
    }

    /// Says what does not come along.
    fn left_behind(&mut self) {
        let user = self.user;
        if is_issued_before(user) {
            let note = "nothing that Keycloak issued is good here";
            self.find(user.at, "`notBefore`", Outcome::Translated, note);
        }
        if text(user, "federationLink").is_some_and(|link| !link.is_empty()) {
            let note = "their password is in a directory, which is not asked: give them another";
            self.find(user.at, "federation link", Outcome::Dropped, note);
        }
        for identity in items(user, "federatedIdentities") {
            let provider = text(identity, "identityProvider").unwrap_or_default();
            let note = "logging in by another provider is not there yet: who has no password besides does not get in";
            let what = format!("link of {} to {provider:?}", self.what);
            self.importer.find(identity.at, what, Outcome::Dropped, note);
        }
    }

    /// What they had to do at the next login. Gives why their password is not taken: it let them in only to
    /// do that.
    fn actions(&mut self, unverified: bool) -> Option<&'static str> {
        let user = self.user;
        let mut choose = None;
        if unverified && flag(self.importer.realm, "verifyEmail") {
            choose = Some("they had to show that their address is theirs first, which a link to it does");
        }
        for action in texts(user, "requiredActions") {
            let (outcome, note) = match action {
                "UPDATE_PASSWORD" => {
                    choose = Some("it let them in only to choose another");
                    (Outcome::Changed, "their password is not taken: they choose another")
                }
                "VERIFY_EMAIL" if unverified => {
                    choose =
                        Some("they had to show that their address is theirs first, which a link to it does");
                    (
                        Outcome::Changed,
                        "their password is not taken: they choose another by a link to their address",
                    )
                }
                "CONFIGURE_TOTP" | "webauthn-register" | "webauthn-register-passwordless" => {
                    self.second = true;
                    (
                        Outcome::Translated,
                        "a role of theirs asks for a second factor: who has none enrols one",
                    )
                }
                "CONFIGURE_RECOVERY_AUTHN_CODES" => {
                    (Outcome::Dropped, "recovery codes are made with the first factor that they enrol")
                }
                "VERIFY_EMAIL"
                | "UPDATE_PROFILE"
                | "VERIFY_PROFILE"
                | "UPDATE_EMAIL"
                | "update_user_locale"
                | "TERMS_AND_CONDITIONS"
                | "terms_and_conditions"
                | "delete_account" => (Outcome::Dropped, "nobody is asked to do this at the next login"),
                other => {
                    self.closed.push(format!("they had to do {other:?} first, which is not known here"));
                    (Outcome::Closed, "it is not known here: they are switched off")
                }
            };
            self.find(user.at, &format!("required action {action}"), outcome, note);
        }
        choose
    }

    /// The address, where it can be one here.
    fn email(&mut self) -> Option<&'n str> {
        let email = text(self.user, "email").filter(|email| !email.is_empty())?;
        let mut probe = identity::User::new("id", "name", Timestamp::default());
        probe.email = Some(email.to_owned());
        if probe.check().is_ok() {
            return Some(email);
        }
        let note = "it is not one address: give them another";
        self.find(self.user.at, "e-mail address", Outcome::Dropped, note);
        None
    }
}

/// What is known of somebody besides, for `claims:`.
fn attributes(user: &Node) -> Map<String, Value> {
    let mut attributes = Map::new();
    for (name, key) in [("given_name", "firstName"), ("family_name", "lastName")] {
        if let Some(value) = text(user, key).filter(|value| !value.is_empty()) {
            attributes.insert(name.to_owned(), json!(value));
        }
    }
    for (name, values) in entries(user, "attributes") {
        let values: Vec<&str> = values.items().iter().filter_map(Node::text).collect();
        let value = match values.as_slice() {
            [one] => json!(one),
            many => json!(many),
        };
        attributes.insert(name.to_owned(), value);
    }
    attributes
}
