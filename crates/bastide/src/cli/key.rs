//! `bastide key`: API keys, shown once, kept as hashes.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use model::principal::Attribute;
use serde_json::{Value, json};

use super::admin_context::{self, AdminContext, AtGateway, below, text, texts};
use super::help::{examples, help};
use super::{Output, name_and_value, say, say_json};
use crate::config;
use crate::process::clock::SystemClock;

/// Arguments of `bastide key`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "A running process carries it out; without one, the command works on the files of the state folder.",
    "0 done, 1 there is no such key, 2 wrong usage, 3 could not run (faults of the configuration included)",
    "bastide key new --name importer --owner ci@example.org --role merchant --expires 90d\n\
     bastide key list --output json\n\
     bastide key revoke 4fX0a9QmZk2b"
))]
pub struct KeyArguments {
    #[command(subcommand)]
    command: KeyCommand,
    #[command(flatten)]
    at: AtGateway,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Makes a key, and shows it once.
    #[command(after_help = examples(
        "bastide key new --owner ci@example.org --role merchant --expires 90d\n\
         bastide key new --name importer --owner ci@example.org --scope orders:read --attribute team=red"
    ))]
    #[command(visible_alias = "add")]
    New {
        /// The principal's name: `ApiKey::"<name>"` in policies. Default: the owner.
        #[arg(long)]
        name: Option<String>,
        /// Who is responsible for it.
        #[arg(long)]
        owner: String,
        /// A role that it has; may be given several times.
        #[arg(long = "role")]
        roles: Vec<String>,
        /// A scope that it has; may be given several times.
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// `name=value`: what policies may read as a claim; may be given several times.
        #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
        attributes: Vec<(String, Attribute)>,
        /// How long it is valid: `90d`, `12h`. Default: until it is revoked.
        #[arg(long, value_name = "TIME", value_parser = parse_lifetime)]
        expires: Option<Duration>,
    },
    /// Lists all keys, without their secrets.
    #[command(after_help = examples(
        "bastide key list\n\
         bastide key list --output json"
    ))]
    List,
    /// Revokes a key by its id. A running gateway has applied it when the command returns.
    #[command(after_help = examples("bastide key revoke 4fX0a9QmZk2b"))]
    Revoke {
        /// The id: the part of the key between the underscores. Of a whole key the id is taken.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
}

/// Makes, lists or revokes API keys.
///
/// # Errors
/// The configuration has faults, or it cannot be carried out.
pub fn run(arguments: KeyArguments) -> anyhow::Result<ExitCode> {
    let KeyArguments { command, at } = arguments;
    admin_context::run_at_gateway(&at, |context| {
        match command {
            KeyCommand::New { name, owner, roles, scopes, attributes, expires } => {
                let wanted = json!({
                    "name": name, "owner": owner, "roles": roles, "scopes": scopes,
                    "attributes": BTreeMap::from_iter(attributes),
                    "expires_in": expires.map(|life| life.as_secs()),
                });
                show_new(context, &context.call("POST", &below(&["api-keys"], &[]), Some(&wanted))?);
            }
            KeyCommand::List => {
                let now = model::Clock::now(&SystemClock::start()).unix_seconds();
                let keys = context.admin.list(&below(&["api-keys"], &[]), false)?;
                context.show_list(keys, "no keys; make one with `bastide key new`", |key| line(key, now));
            }
            KeyCommand::Revoke { id } => {
                let id = keys::api_key_id(&id);
                context.call("DELETE", &below(&["api-keys"], &[id]), None)?;
                context.done(&format!("{id}: revoked"), &json!({ "revoked": id }));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn parse_attribute(pair: &str) -> Result<(String, Attribute), String> {
    let (name, value) = name_and_value(pair)?;
    let value = match (value, value.parse::<i64>()) {
        ("true", _) => Attribute::Boolean(true),
        ("false", _) => Attribute::Boolean(false),
        (_, Ok(number)) => Attribute::Long(number),
        (text, Err(_)) => Attribute::Text(text.to_owned()),
    };
    Ok((name.to_owned(), value))
}

/// `90d`, `12h`, `30m`: whole seconds.
pub(super) fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let life = config::duration(text).map_err(|expected| format!("expected {expected}"))?;
    if life.as_secs() == 0 {
        return Err("expected a second or more".to_owned());
    }
    Ok(life)
}

fn show_new(context: &AdminContext, made: &Value) {
    match context.output {
        Output::Text => {
            say(text(made, "key"));
            say(format_args!(
                "\nThis is the only time that it is shown. Send it as `X-API-Key` or `Authorization: ApiKey`.\n\
                 id {}, {} of {}, {}",
                text(made, "id"),
                text(made, "name"),
                text(made, "owner"),
                ends(made)
            ));
        }
        Output::Json => say_json(made),
    }
}

fn line(key: &Value, now: u64) -> String {
    let seconds = |name: &str| key.get(name).and_then(Value::as_u64);
    let state = match (seconds("revoked"), seconds("expires")) {
        (Some(_), _) => "revoked".to_owned(),
        (None, Some(end)) if end <= now => "expired".to_owned(),
        _ => ends(key),
    };
    let (id, name, owner) = (text(key, "id"), text(key, "name"), text(key, "owner"));
    format!("{id}  {name:<20} {owner:<28} {:<24} {state}", texts(key, "roles"))
}

fn ends(key: &Value) -> String {
    let end = key.get("expires").and_then(Value::as_u64);
    end.map_or_else(|| "valid until revoked".to_owned(), |end| format!("valid until {}", date_of(end)))
}

/// RFC 3339 of Unix seconds.
pub(super) fn date_of(seconds: u64) -> String {
    let unix = i64::try_from(seconds).unwrap_or(i64::MAX);
    time::OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|date| date.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_read_as_written() {
        for (text, seconds) in [("90d", 90 * 86_400), ("12h", 12 * 3600), ("1m", 60), ("90s", 90)] {
            assert_eq!(parse_lifetime(text).unwrap().as_secs(), seconds, "{text}");
        }
        for wrong in ["", "d", "0d", "-1d", "90", "10ms", "1.5h", "9é"] {
            assert!(parse_lifetime(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn attributes_take_the_type_that_they_look_like() {
        let given = ["mfa=true", "level=3", "team=red=blue"].map(str::to_owned);
        let read: BTreeMap<_, _> = given.iter().map(|pair| parse_attribute(pair).unwrap()).collect();
        assert_eq!(read["mfa"], Attribute::Boolean(true));
        assert_eq!(read["level"], Attribute::Long(3));
        assert_eq!(read["team"], Attribute::Text("red=blue".to_owned()));
        assert!(parse_attribute("nothing").is_err() && parse_attribute("=value").is_err());
    }
}
