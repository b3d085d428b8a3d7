//! Users with the hashes of their passwords.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use model::Timestamp;
use serde_json::{Map, Value, json};

use super::roles::{Roles, named};
use super::{Importer, Records, Wanted, entries, flag, items, text, texts};
use crate::config::node::Node;
use crate::import::Outcome;

pub(super) fn read(
    importer: &mut Importer<'_>,
    wanted: &Wanted,
    roles: &Roles,
    clients: &Records,
    trees: &[Node],
) -> Records {
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
        let mut record = one(importer, wanted, user, &what, roles);
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
        users.insert(name.to_owned(), Value::Object(record));
        importer.find(user.at, what, Outcome::Translated, "a user");
    }
    users
}

fn one(
    importer: &mut Importer<'_>,
    wanted: &Wanted,
    user: &Node,
    what: &str,
    roles: &Roles,
) -> Map<String, Value> {
    let mut record = Map::new();
    let (first, last) = (text(user, "firstName"), text(user, "lastName"));
    let name =
        [first, last].into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    if !name.is_empty() {
        record.insert("name".to_owned(), json!(name));
    }
    if let Some(email) = email(importer, user, what) {
        record.insert("email".to_owned(), json!(email));
        record.insert("email_verified".to_owned(), json!(flag(user, "emailVerified")));
    }
    record.insert("disabled".to_owned(), json!(text(user, "enabled") == Some("false")));
    let groups = texts(user, "groups");
    let mut own = roles.known(named(user));
    for group in &groups {
        own.extend(roles.of_groups.get(*group).into_iter().flatten().cloned());
    }
    record.insert("roles".to_owned(), json!(own));
    let groups: BTreeSet<&str> = groups.into_iter().map(|path| path.trim_start_matches('/')).collect();
    record.insert("groups".to_owned(), json!(groups));
    let mut attributes = Map::new();
    for (name, value) in [("given_name", first), ("family_name", last)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
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
    record.insert("attributes".to_owned(), Value::Object(attributes));
    if let Some(hash) = credentials(importer, wanted, user, what) {
        record.insert("password_hash".to_owned(), json!(hash));
    }
    for action in texts(user, "requiredActions") {
        let note = "nobody is asked to do something at the next login";
        importer.find(user.at, format!("required action {action} of {what}"), Outcome::Dropped, note);
    }
    if text(user, "federationLink").is_some_and(|link| !link.is_empty()) {
        let note = "their password is in a directory, which is not asked: give them another";
        importer.find(user.at, format!("federation link of {what}"), Outcome::Dropped, note);
    }
    for identity in items(user, "federatedIdentities") {
        let provider = text(identity, "identityProvider").unwrap_or_default();
        let note = "logging in by another provider is not there yet";
        importer.find(identity.at, format!("link of {what} to {provider:?}"), Outcome::Dropped, note);
    }
    record
}

/// The address, where it can be one here.
fn email<'n>(importer: &mut Importer<'_>, user: &'n Node, what: &str) -> Option<&'n str> {
    let email = text(user, "email").filter(|email| !email.is_empty())?;
    let mut probe = identity::User::new("id", "name", Timestamp::default());
    probe.email = Some(email.to_owned());
    match probe.check() {
        Ok(()) => Some(email),
        Err(_) => {
            let note = "it is not one address: give them another";
            importer.find(user.at, format!("e-mail address of {what}"), Outcome::Dropped, note);
            None
        }
    }
}

/// The hash of the password; other credentials are said to be left out.
fn credentials(importer: &mut Importer<'_>, wanted: &Wanted, user: &Node, what: &str) -> Option<String> {
    let mut found = None;
    for credential in items(user, "credentials") {
        let kind = text(credential, "type").unwrap_or_default();
        if kind != "password" {
            let note = "they have to enrol it again";
            importer.find(credential.at, format!("credential {kind:?} of {what}"), Outcome::Dropped, note);
            continue;
        }
        // A realm that was written by hand has the password itself.
        let clear = text(credential, "value").filter(|value| !value.is_empty());
        let hash = clear.map_or_else(|| phc(credential), wanted.hash).and_then(|hash| {
            identity::check_password_hash(&hash)?;
            Ok(hash)
        });
        match hash {
            Ok(hash) => {
                found = Some(hash);
                if flag(credential, "temporary") {
                    let note = "it stays theirs: nobody is asked to choose another at the next login";
                    importer.find(
                        credential.at,
                        format!("temporary password of {what}"),
                        Outcome::Changed,
                        note,
                    );
                }
            }
            Err(why) => {
                let note = format!("{why}: give them another password");
                importer.find(credential.at, format!("password of {what}"), Outcome::Dropped, note);
            }
        }
    }
    found
}

/// Keycloak's two texts of JSON as one PHC string.
fn phc(credential: &Node) -> Result<String, String> {
    let read = |key: &str| {
        let text = text(credential, key).ok_or_else(|| format!("there is no {key}"))?;
        serde_json::from_str::<Value>(text).map_err(|error| format!("{key} is not JSON: {error}"))
    };
    let (secret, about) = (read("secretData")?, read("credentialData")?);
    let member =
        |name: &str| secret.get(name).and_then(Value::as_str).ok_or_else(|| format!("it has no {name}"));
    let decode = |name: &'static str| {
        let text = member(name)?;
        STANDARD.decode(text).map_err(|_| format!("its {name} is not base64"))
    };
    let (hash, salt) = (decode("value")?, decode("salt")?);
    let rounds = about.get("hashIterations").and_then(Value::as_u64).unwrap_or_default();
    let (salt_text, hash_text) = (STANDARD_NO_PAD.encode(&salt), STANDARD_NO_PAD.encode(&hash));
    let length = hash.len();
    let algorithm = about.get("algorithm").and_then(Value::as_str).unwrap_or_default();
    let name = match algorithm {
        "pbkdf2" => "pbkdf2-sha1",
        "pbkdf2-sha256" | "pbkdf2-sha512" => algorithm,
        "argon2" => {
            let more = |name: &str| {
                let value = about.get("additionalParameters").and_then(|all| all.get(name));
                value.and_then(|values| values.get(0)).and_then(Value::as_str).unwrap_or_default()
            };
            let kind = more("type");
            if !["i", "d", "id"].contains(&kind) || more("version") != "1.3" {
                return Err(format!("argon2{kind} of version {} is not known", more("version")));
            }
            let (memory, lanes) = (more("memory"), more("parallelism"));
            if memory.parse::<u32>().is_err() || lanes.parse::<u32>().is_err() {
                return Err("its argon2 has no memory or parallelism".to_owned());
            }
            return Ok(format!("$argon2{kind}$v=19$m={memory},t={rounds},p={lanes}${salt_text}${hash_text}"));
        }
        other => return Err(format!("hashes by {other:?} are not known")),
    };
    if rounds == 0 {
        return Err("it has no number of iterations".to_owned());
    }
    Ok(format!("${name}$i={rounds},l={length}${salt_text}${hash_text}"))
}
