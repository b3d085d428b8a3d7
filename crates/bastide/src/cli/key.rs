//! `bastide key`: API keys, shown once, kept as hashes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use keys::{ApiKeyFile, ApiKeyRecord, NewApiKey, SystemRandom};
use model::principal::Attribute;
use model::{Clock, Timestamp};
use serde_json::json;

use super::{Output, say};
use crate::process::clock::SystemClock;

/// Arguments of `bastide key`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bastide key new --name importer --owner ci@example.org --role merchant --expires 90d\n  bastide key list --output json\n  bastide key revoke 4fX0a9QmZk2b"
)]
pub struct KeyArguments {
    #[command(subcommand)]
    command: KeyCommand,
    /// The configuration, which says where the keys are kept and which roles exist.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = clap::ValueHint::FilePath, global = true)]
    config: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Makes a key and shows it, this once.
    New {
        /// The principal's name: `ApiKey::"<name>"` in policies. Default: the owner.
        #[arg(long)]
        name: Option<String>,
        /// Who answers for it.
        #[arg(long)]
        owner: String,
        /// A role that it has; may be given several times.
        #[arg(long = "role")]
        roles: Vec<String>,
        /// A scope that it has; may be given several times.
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// `name=value`: what policies may read as a claim; may be given several times.
        #[arg(long = "attribute")]
        attributes: Vec<String>,
        /// How long it is good: `90d`, `12h`. Default: until it is revoked.
        #[arg(long)]
        expires: Option<String>,
    },
    /// Lists all keys, without what would let anybody use them.
    List,
    /// Revokes a key by its id. A running gateway takes that up within a second.
    Revoke {
        /// The id: the part of the key between the underscores.
        id: String,
    },
}

/// Runs the command.
///
/// # Errors
/// The configuration has faults, or the store cannot be read or written.
pub fn run(arguments: KeyArguments) -> anyhow::Result<ExitCode> {
    let Some(configuration) = super::check::load_or_report(&arguments.config, arguments.output)? else {
        return Ok(ExitCode::FAILURE);
    };
    let random = Arc::new(SystemRandom::new());
    let path = &configuration.authentication.api_keys;
    if let Some(folder) = path.parent() {
        crate::process::state::make_private_folder(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let store = ApiKeyFile::new(path, random.clone());
    let now = SystemClock::start().now();
    match arguments.command {
        KeyCommand::New { name, owner, roles, scopes, attributes, expires } => {
            let declared: Vec<&str> = configuration.roles.iter().map(|role| role.name.as_str()).collect();
            for role in &roles {
                anyhow::ensure!(
                    declared.contains(&role.as_str()),
                    "role {role:?} is not declared in {}; declared are: {}",
                    arguments.config.display(),
                    declared.join(", ")
                );
            }
            let wanted = NewApiKey {
                name: name.unwrap_or_else(|| owner.clone()),
                owner,
                roles,
                scopes,
                attributes: parse_attributes(&attributes)?,
                expires: expires.as_deref().map(parse_lifetime).transpose()?.map(|life| now.plus(life)),
            };
            let (key, record) = keys::create_api_key(&store, &wanted, now, random.as_ref())?;
            show_new(key.expose(), &record, arguments.output);
        }
        KeyCommand::List => show_list(&keys::list_api_keys(&store)?, now, arguments.output),
        KeyCommand::Revoke { id } => {
            let record = keys::revoke_api_key(&store, &id, now)?;
            match arguments.output {
                Output::Text => say(format_args!("revoked {} ({})", record.id, record.name)),
                Output::Json => say(describe(&record)),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_attributes(given: &[String]) -> anyhow::Result<BTreeMap<String, Attribute>> {
    given
        .iter()
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .with_context(|| format!("--attribute wants name=value, found {pair:?}"))?;
            let value = match (value, value.parse::<i64>()) {
                ("true", _) => Attribute::Boolean(true),
                ("false", _) => Attribute::Boolean(false),
                (_, Ok(number)) => Attribute::Long(number),
                (text, Err(_)) => Attribute::Text(text.to_owned()),
            };
            Ok((name.to_owned(), value))
        })
        .collect()
}

/// `90d`, `12h`, `30m`.
pub(super) fn parse_lifetime(text: &str) -> anyhow::Result<Duration> {
    let wrong = || format!("--expires wants a number with d, h or m, like 90d; found {text:?}");
    let unit = text.chars().last().with_context(wrong)?;
    let number: u64 = text.trim_end_matches(unit).parse().with_context(wrong)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        _ => anyhow::bail!(wrong()),
    };
    anyhow::ensure!(number > 0, "--expires wants more than nothing, found {text:?}");
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

fn show_new(key: &str, record: &ApiKeyRecord, output: Output) {
    match output {
        Output::Text => {
            say(key);
            say(format_args!(
                "\nThis is the only time that it is shown. Send it as `X-API-Key` or `Authorization: ApiKey`.\n\
                 id {}, {} of {}, {}",
                record.id,
                record.name,
                record.owner,
                ends(record)
            ));
        }
        Output::Json => {
            let mut value = describe(record);
            if let Some(object) = value.as_object_mut() {
                object.insert("key".to_owned(), json!(key));
            }
            say(value);
        }
    }
}

fn show_list(records: &[ApiKeyRecord], now: Timestamp, output: Output) {
    if output == Output::Json {
        say(serde_json::Value::Array(records.iter().map(describe).collect()));
        return;
    }
    if records.is_empty() {
        say("no keys; make one with `bastide key new`");
    }
    for record in records {
        let state = match (record.revoked, record.expires) {
            (Some(_), _) => "revoked".to_owned(),
            (None, Some(end)) if end <= now => "expired".to_owned(),
            _ => ends(record),
        };
        say(format_args!(
            "{}  {:<20} {:<28} {:<24} {}",
            record.id,
            record.name,
            record.owner,
            record.roles.join(","),
            state
        ));
    }
}

fn ends(record: &ApiKeyRecord) -> String {
    record.expires.map_or_else(|| "good until revoked".to_owned(), |end| format!("good until {}", date(end)))
}

fn date(time: Timestamp) -> String {
    date_of(time.unix_seconds())
}

/// RFC 3339 of Unix seconds.
pub(super) fn date_of(seconds: u64) -> String {
    let unix = i64::try_from(seconds).unwrap_or(i64::MAX);
    time::OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|date| date.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}

fn describe(record: &ApiKeyRecord) -> serde_json::Value {
    json!({
        "id": record.id,
        "name": record.name,
        "owner": record.owner,
        "roles": record.roles,
        "scopes": record.scopes,
        "attributes": record.attributes,
        "created": date(record.created),
        "expires": record.expires.map(date),
        "revoked": record.revoked.map(date),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_read_as_written() {
        for (text, seconds) in [("90d", 90 * 86_400), ("12h", 12 * 3600), ("1m", 60)] {
            assert_eq!(parse_lifetime(text).unwrap().as_secs(), seconds, "{text}");
        }
        for wrong in ["", "d", "0d", "-1d", "90", "90s", "1.5h", "9é"] {
            assert!(parse_lifetime(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn attributes_take_the_type_that_they_look_like() {
        let given = ["mfa=true", "level=3", "team=red=blue"].map(str::to_owned);
        let read = parse_attributes(&given).unwrap();
        assert_eq!(read["mfa"], Attribute::Boolean(true));
        assert_eq!(read["level"], Attribute::Long(3));
        assert_eq!(read["team"], Attribute::Text("red=blue".to_owned()));
        assert!(parse_attributes(&["nothing".to_owned()]).is_err());
    }
}
