//! `bastide revoke`: tokens, sessions and subjects that are no longer accepted.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::admin_context::{self, AtGateway, below, text};
use super::help::{examples, help};
use super::key::{date_of, parse_lifetime};

/// Arguments of `bastide revoke`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "A running gateway has applied it when the command returns: new requests are refused; open ones end\n\
     within a second.",
    "0 done, 1 nothing of that name is revoked, 2 wrong usage, 3 could not run (faults of the configuration included)",
    "bastide revoke token 4f1c9a52-6b0e --expires 1h\n\
     bastide revoke session s-2041 --issuer https://id.example.org\n\
     bastide revoke subject alice           everything that alice was issued until now\n\
     bastide revoke list --output json\n\
     bastide revoke undo s-2041"
))]
pub struct RevokeArguments {
    #[command(subcommand)]
    command: RevokeCommand,
    #[command(flatten)]
    at: AtGateway,
}

/// What all of them have.
#[derive(Debug, Args)]
struct Scope {
    /// Only tokens of this issuer. Default: of every issuer.
    #[arg(long)]
    issuer: Option<String>,
    /// When the entry may be deleted, because the tokens have expired by then: `1h`, `30d`.
    /// Default: never.
    #[arg(long, value_name = "TIME", value_parser = parse_lifetime)]
    expires: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum RevokeCommand {
    /// One token, by its `jti`.
    #[command(after_help = examples(
        "bastide revoke token 4f1c9a52-6b0e\n\
         bastide revoke token 4f1c9a52-6b0e --expires 1h     no token of that id lives longer"
    ))]
    Token {
        /// The token's `jti`.
        #[arg(allow_hyphen_values = true)]
        id: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// All tokens of a grant of a realm: those whose `jti` begins with its id and a dot.
    #[command(after_help = examples("bastide revoke grant 9aB…"))]
    Grant {
        /// The grant's id, as `bastide session grants` lists it.
        #[arg(allow_hyphen_values = true)]
        id: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// All tokens of a session, by their `sid`.
    #[command(after_help = examples("bastide revoke session s-2041 --issuer https://id.example.org"))]
    Session {
        /// The tokens' `sid`.
        #[arg(allow_hyphen_values = true)]
        id: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// All tokens of a principal that were issued until now.
    #[command(after_help = examples(
        "bastide revoke subject alice           what alice was issued until now\n\
         bastide revoke subject alice --all     and what she will be issued"
    ))]
    Subject {
        /// The principal's id, as events name it.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Also tokens that will be issued later.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        scope: Scope,
    },
    /// Lists what is revoked.
    #[command(after_help = examples(
        "bastide revoke list\n\
         bastide revoke list --output json"
    ))]
    List,
    /// Undoes revocations, by the name that was given.
    #[command(after_help = examples("bastide revoke undo s-2041"))]
    Undo {
        /// The `jti`, grant, `sid` or principal.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
}

/// Revokes, lists or undoes.
///
/// # Errors
/// The configuration has faults, or it cannot be carried out.
pub fn run(arguments: RevokeArguments) -> anyhow::Result<ExitCode> {
    let RevokeArguments { command, at } = arguments;
    admin_context::run_at_gateway(&at, |context| {
        let wanted = match command {
            RevokeCommand::List => {
                let entries = context.admin.list(&below(&["revocations"], &[]), false)?;
                context.show_list(entries, "nothing is revoked", describe);
                return Ok(ExitCode::SUCCESS);
            }
            RevokeCommand::Undo { id } => {
                context.call("DELETE", &below(&["revocations"], &[&id]), None)?;
                context.done(&format!("{id}: no longer revoked"), &json!({ "undone": id }));
                return Ok(ExitCode::SUCCESS);
            }
            RevokeCommand::Token { id, scope } => named("token", &id, &scope),
            RevokeCommand::Grant { id, scope } => named("grant", &id, &scope),
            RevokeCommand::Session { id, scope } => named("session", &id, &scope),
            RevokeCommand::Subject { id, all, scope } => {
                let mut wanted = named("subject", &id, &scope);
                wanted.insert("all".to_owned(), json!(all));
                wanted
            }
        };
        if let Some(issuer) = wanted.get("issuer").and_then(Value::as_str) {
            context.doubt_issuer(issuer);
        }
        let revoked = context.call("POST", &below(&["revocations"], &[]), Some(&Value::Object(wanted)))?;
        context.done(&format!("revoked: {}", describe(&revoked)), &json!({ "revoked": revoked }));
        Ok(ExitCode::SUCCESS)
    })
}

fn named(what: &str, id: &str, scope: &Scope) -> Map<String, Value> {
    let members = [
        (what, json!(id)),
        ("issuer", json!(scope.issuer)),
        ("expires_in", json!(scope.expires.map(|life| life.as_secs()))),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// One entry in one line.
fn describe(entry: &Value) -> String {
    let names = ["token", "grant", "session", "subject", "client", "certificate", "identity"];
    let named = names.into_iter().find(|name| entry.get(*name).is_some()).unwrap_or_default();
    let mut line = format!("{named} {:?}", text(entry, named));
    let time = |name: &str| entry.get(name).and_then(Value::as_u64).map(date_of);
    if let Some(until) = time("issued_until") {
        line += &format!(", issued until {until}");
    }
    if entry.get("issuer").is_some() {
        line += &format!(", of {}", text(entry, "issuer"));
    }
    if let Some(until) = time("until") {
        line += &format!(", forgotten at {until}");
    }
    line
}
