//! `bastide revoke`: tokens, sessions and subjects that count no more.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use keys::{Revocation, RevocationFile, SystemRandom};
use model::{Clock, Timestamp};
use serde_json::json;

use super::key::parse_lifetime;
use super::{Output, say};
use crate::process::clock::SystemClock;
use crate::process::state::{REVOCATIONS, make_private_folder};

/// Arguments of `bastide revoke`.
#[derive(Debug, Args)]
#[command(
    after_help = "A running gateway takes it up within a second: new requests are refused, open ones are cut.\n\nExamples:\n  bastide revoke token 4f1c9a52-6b0e --expires 1h\n  bastide revoke session s-2041 --issuer https://id.example.org\n  bastide revoke subject alice           everything that alice was issued until now\n  bastide revoke list --output json\n  bastide revoke undo s-2041\n\nExit codes: 0 done, 1 nothing of that name was revoked, 2 wrong usage, 3 could not run."
)]
pub struct RevokeArguments {
    #[command(subcommand)]
    command: RevokeCommand,
    /// The configuration, which says where the state is kept.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = clap::ValueHint::FilePath, global = true)]
    config: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

/// What all three have.
#[derive(Debug, Args)]
struct Scope {
    /// Only tokens of this issuer. Default: of every issuer.
    #[arg(long)]
    issuer: Option<String>,
    /// When the entry may be forgotten, because the tokens have ended by then: `1h`, `30d`.
    /// Default: never.
    #[arg(long)]
    expires: Option<String>,
}

#[derive(Debug, Subcommand)]
enum RevokeCommand {
    /// One token, by its `jti`.
    Token {
        /// The token's `jti`.
        id: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// All tokens of a session, by their `sid`.
    Session {
        /// The tokens' `sid`.
        id: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// All tokens of a principal that were issued until now.
    Subject {
        /// The principal's id, as events name it.
        id: String,
        /// Tokens that will be issued too.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        scope: Scope,
    },
    /// Lists what is revoked.
    List,
    /// Takes revocations back, by the name that was given.
    Undo {
        /// The `jti`, `sid` or principal.
        id: String,
    },
}

/// Runs the command.
///
/// # Errors
/// The configuration has faults, or the list cannot be read or written.
pub fn run(arguments: RevokeArguments) -> anyhow::Result<ExitCode> {
    let Some(configuration) = super::check::load_or_report(&arguments.config, arguments.output)? else {
        return Ok(ExitCode::FAILURE);
    };
    make_private_folder(&configuration.state)?;
    let file = RevocationFile::new(&configuration.state.join(REVOCATIONS), Arc::new(SystemRandom::new()));
    let now = SystemClock::start().now();
    let entry = match arguments.command {
        RevokeCommand::Token { id, scope } => Revocation { token: Some(id), ..scoped(scope, now)? },
        RevokeCommand::Session { id, scope } => Revocation { session: Some(id), ..scoped(scope, now)? },
        RevokeCommand::Subject { id, all, scope } => Revocation {
            subject: Some(id),
            issued_until: (!all).then(|| now.unix_seconds()),
            ..scoped(scope, now)?
        },
        RevokeCommand::List => {
            show(&file.entries()?, arguments.output);
            return Ok(ExitCode::SUCCESS);
        }
        RevokeCommand::Undo { id } => {
            let count = file.remove(&id, now)?;
            match arguments.output {
                Output::Text => say(format_args!("{count} revocations of {id} taken back")),
                Output::Json => say(json!({ "undone": count })),
            }
            return Ok(if count > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    };
    file.add(std::slice::from_ref(&entry), now)?;
    match arguments.output {
        Output::Text => say(format_args!("revoked: {}", describe(&entry))),
        Output::Json => say(json!({ "revoked": entry })),
    }
    Ok(ExitCode::SUCCESS)
}

fn scoped(scope: Scope, now: Timestamp) -> anyhow::Result<Revocation> {
    let until = scope.expires.as_deref().map(parse_lifetime).transpose()?;
    Ok(Revocation {
        issuer: scope.issuer,
        until: until.map(|life| now.plus(life).unix_seconds()),
        ..Revocation::default()
    })
}

fn show(entries: &[Revocation], output: Output) {
    match output {
        Output::Json => say(json!({ "revocations": entries })),
        Output::Text => entries.iter().for_each(|entry| say(describe(entry))),
    }
}

/// One entry in one line.
pub(crate) fn describe(entry: &Revocation) -> String {
    let named = [
        ("token", &entry.token),
        ("grant", &entry.grant),
        ("session", &entry.session),
        ("subject", &entry.subject),
    ];
    let found = named.into_iter().find_map(|(what, name)| Some((what, name.as_ref()?)));
    let Some((what, name)) = found else { return "nothing".to_owned() };
    let mut text = format!("{what} {name:?}");
    if let Some(until) = entry.issued_until {
        text += &format!(", issued until {until}");
    }
    if let Some(issuer) = &entry.issuer {
        text += &format!(", of {issuer}");
    }
    if let Some(until) = entry.until {
        text += &format!(", forgotten at {until}");
    }
    text
}
