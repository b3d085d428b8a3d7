//! What people show when they log in: hashes of passwords, and authenticator apps.
//!
//! INVARIANT: who showed a second factor in Keycloak does not get in by the password alone. Where no
//! factor of theirs can be taken, they are switched off, and asked for another once they are switched on.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use identity::TotpSecret;
use serde_json::{Value, json};

use super::{Importer, Wanted, flag, items, text};
use crate::config::node::Node;
use crate::import::Outcome;

/// What somebody can show here.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) password_hash: Option<String>,
    /// As `bastide apply` takes them.
    pub(super) apps: Vec<Value>,
    /// Whether they had a second factor, and have none here.
    pub(super) lost: bool,
}

/// Takes what can be taken of somebody's credentials. `choose`: why they choose a password anew, if they
/// have to: then none is taken.
pub(super) fn read(
    importer: &mut Importer<'_>,
    wanted: &Wanted,
    user: &Node,
    what: &str,
    choose: Option<&str>,
) -> Shown {
    let mut shown = Shown::default();
    let mut lost = Vec::new();
    for credential in items(user, "credentials") {
        let kind = text(credential, "type").unwrap_or_default();
        match kind {
            "password" => shown.password_hash = password(importer, wanted, credential, what, choose),
            "recovery-authn-codes" => {
                let note = "other ones are made with the first factor that they enrol";
                importer.find(
                    credential.at,
                    format!("credential {kind:?} of {what}"),
                    Outcome::Dropped,
                    note,
                );
            }
            "otp" => match app(credential, shown.apps.len()) {
                Ok(app) => {
                    let note = "an authenticator app, with its secret";
                    importer.find(
                        credential.at,
                        format!("credential {kind:?} of {what}"),
                        Outcome::Translated,
                        note,
                    );
                    shown.apps.push(app);
                }
                Err(why) => lost.push((credential, kind, why)),
            },
            _ => lost.push((credential, kind, "it cannot be moved".to_owned())),
        }
    }
    shown.lost = !lost.is_empty() && shown.apps.is_empty();
    for (credential, kind, why) in lost {
        let (outcome, then) = match shown.lost {
            true => (Outcome::Closed, "they are switched off, so that nobody gets in by a password alone"),
            false => (Outcome::Dropped, "they have another factor, and enrol this one again"),
        };
        importer.find(
            credential.at,
            format!("credential {kind:?} of {what}"),
            outcome,
            format!("{why}: {then}"),
        );
    }
    shown
}

/// The hash of a password, where it can be used on.
fn password(
    importer: &mut Importer<'_>,
    wanted: &Wanted,
    credential: &Node,
    what: &str,
    choose: Option<&str>,
) -> Option<String> {
    let temporary = flag(credential, "temporary").then_some("it was theirs for one login only");
    if let Some(why) = choose.or(temporary) {
        let note = format!(
            "{why}: they choose another, by a link that they ask for where the realm has `mail:`, or are sent by `bastide user password NAME --invite`"
        );
        importer.find(credential.at, format!("password of {what}"), Outcome::Closed, note);
        return None;
    }
    // A realm that was written by hand has the password itself.
    let clear = text(credential, "value").filter(|value| !value.is_empty());
    let hash = clear.map_or_else(|| phc(credential), wanted.hash).and_then(|hash| {
        identity::check_password_hash(&hash)?;
        Ok(hash)
    });
    hash.inspect_err(|why| {
        let note = format!("{why}: give them another password");
        importer.find(credential.at, format!("password of {what}"), Outcome::Dropped, note);
    })
    .ok()
}

/// One of Keycloak's two texts of JSON.
fn part(credential: &Node, key: &str) -> Result<Value, String> {
    let text = text(credential, key).ok_or_else(|| format!("there is no {key}"))?;
    serde_json::from_str::<Value>(text).map_err(|error| format!("{key} is not JSON: {error}"))
}

/// An authenticator app, where it computes what is computed here: SHA-1, six digits, 30 seconds.
fn app(credential: &Node, number: usize) -> Result<Value, String> {
    let (secret, about) = (part(credential, "secretData")?, part(credential, "credentialData")?);
    let text_of = |key: &str| about.get(key).and_then(Value::as_str);
    let number_of = |key: &str| about.get(key).and_then(Value::as_u64);
    let found = (text_of("subType"), text_of("algorithm"), number_of("digits"), number_of("period"));
    if found != (Some("totp"), Some("HmacSHA1"), Some(6), Some(30)) {
        let (kind, algorithm) = (found.0.unwrap_or("nothing"), found.1.unwrap_or("no algorithm"));
        let (digits, period) = (found.2.unwrap_or_default(), found.3.unwrap_or_default());
        return Err(format!(
            "it is {kind} by {algorithm}, {digits} digits, {period} s, and not totp by HmacSHA1, 6 digits, 30 s"
        ));
    }
    let value = secret.get("value").and_then(Value::as_str).unwrap_or_default();
    let secret = match text_of("secretEncoding") {
        // The letters themselves are the key.
        None => TotpSecret::of(value.as_bytes().to_vec()),
        Some("BASE32") => TotpSecret::parse(value),
        Some(other) => return Err(format!("its secret is written as {other:?}")),
    };
    let secret = secret.map_err(|error| error.to_string())?;
    let label =
        text(credential, "userLabel").filter(|label| !label.is_empty()).unwrap_or("Authenticator app");
    let id = text(credential, "id").filter(|id| identity::factor_id_fault(id).is_none());
    let id = id.map_or_else(|| format!("keycloak-{}", number + 1), str::to_owned);
    Ok(json!({ "id": id, "name": label, "secret": secret.text().as_str() }))
}

/// Keycloak's two texts of JSON as one PHC string.
fn phc(credential: &Node) -> Result<String, String> {
    let (secret, about) = (part(credential, "secretData")?, part(credential, "credentialData")?);
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
