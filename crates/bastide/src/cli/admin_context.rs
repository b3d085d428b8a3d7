//! What the commands of the administration share: where their calls go, which realm is
//! meant, and how answers become exit codes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};
use model::suggestion::suggestion;
use serde_json::Value;

use super::check::{self, Loaded};
use super::{Output, in_full, refuse, say, say_json, say_line, warn};
use crate::admin::client::{AdminClient, Answer};
use crate::admin::resource::encoded;
use crate::config::Configuration;

/// What every command of the administration takes.
#[derive(Debug, Args)]
pub struct At {
    /// The configuration, which says where the state folder and the store are and which
    /// realms there are.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = ValueHint::FilePath, global = true)]
    pub config: PathBuf,
    /// The realm; may be omitted if there is only one.
    #[arg(long, global = true)]
    pub realm: Option<String>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    pub output: Output,
}

/// What commands take that are about the gateway itself, whatever realms there are.
#[derive(Debug, Args)]
pub struct AtGateway {
    /// The configuration, which says where the state folder is and which roles exist.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = ValueHint::FilePath, global = true)]
    pub config: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    pub output: Output,
}

/// What a command of the administration works with.
pub struct AdminContext {
    /// Where calls go.
    pub admin: AdminClient,
    /// How results are printed.
    pub output: Output,
    /// The configuration's file, and its realms; where it has faults, those of the running process.
    file: PathBuf,
    realms: Result<Vec<String>, String>,
    realm: Option<String>,
    /// Issuers whose tokens count here; `None`: the file has faults.
    issuers: Option<Vec<String>>,
}

/// An answer that is a "no": exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct No(pub String);

impl AdminContext {
    /// Opens it: by a running process, although the file may have faults by now.
    ///
    /// # Errors
    /// No process runs, and the configuration has faults, or what it would work on cannot be opened.
    fn open(
        config: &Path,
        output: Output,
        realm: Option<&String>,
        connect: impl FnOnce(&Configuration) -> anyhow::Result<AdminClient>,
    ) -> anyhow::Result<Self> {
        let (admin, realms, issuers) = match check::load_or_running(config, output)? {
            Loaded::Whole(configuration) => {
                let realms = configuration.realms.iter().map(|realm| realm.settings.name.clone()).collect();
                let issuers = configuration.authentication.issuers.iter().map(|one| one.issuer.clone());
                (connect(&configuration)?, Ok(realms), Some(issuers.collect()))
            }
            Loaded::Running(state) => {
                let admin = AdminClient::at(&state);
                // Those that need none go on without, as while the store is sealed.
                let realms = admin.list(&below(&["realms"], &[]), false);
                let names =
                    |realms: Vec<Value>| realms.iter().map(|realm| text(realm, "name").to_owned()).collect();
                (admin, realms.map(names).map_err(|fault| in_full(&fault)), None)
            }
        };
        Ok(Self { admin, output, file: config.to_owned(), realms, realm: realm.cloned(), issuers })
    }

    /// Says to people that no token of this issuer counts here: a typing error would revoke nothing.
    pub fn doubt_issuer(&self, issuer: &str) {
        if self.output == Output::Text
            && let Some(known) = self.issuers.as_ref().filter(|known| !known.iter().any(|one| one == issuer))
        {
            let hint = suggestion(issuer, known.iter().map(String::as_str));
            warn(format_args!("{} has no issuer {issuer:?}{hint}", self.file.display()));
        }
    }

    /// The realm that is meant.
    ///
    /// # Errors
    /// There is none, there are several, or none of this name.
    pub fn realm(&self) -> anyhow::Result<&str> {
        let realms = self.realms.as_ref().map_err(|why| anyhow::anyhow!("{why}"))?;
        let names: Vec<&str> = realms.iter().map(String::as_str).collect();
        let place = self.file.display();
        match (&self.realm, names.as_slice()) {
            (_, []) => {
                anyhow::bail!("{place} has no realms; add `realms: {{ NAME: https://id.example.org }}`")
            }
            (None, [only]) => Ok(only),
            (None, _) => anyhow::bail!("--realm says which of these: {}", names.join(", ")),
            (Some(name), names) => {
                let found = names.iter().find(|known| *known == name).copied();
                let there = || No(format!("{place} has no realm {name:?}; there are: {}", names.join(", ")));
                Ok(found.ok_or_else(there)?)
            }
        }
    }

    /// A path below the realm that is meant.
    ///
    /// # Errors
    /// As [`Self::realm`].
    pub fn path(&self, segments: &[&str]) -> anyhow::Result<String> {
        Ok(below(&["realms", self.realm()?], segments))
    }

    /// A call that has to succeed.
    ///
    /// # Errors
    /// [`No`] for what is not there, is there already, or was changed; others.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        taken(self.admin.call(method, path, body)?)
    }

    /// The user of this name.
    ///
    /// # Errors
    /// [`No`]: there is none.
    pub fn user(&self, username: &str) -> anyhow::Result<Value> {
        let path = format!("{}?username={}", self.path(&["users"])?, encoded(username));
        let found = self.admin.list(&path, false)?.into_iter().next();
        Ok(found.ok_or_else(|| No(format!("there is no user {username:?}")))?)
    }

    /// A path below the user of this name.
    ///
    /// # Errors
    /// As [`Self::user`].
    pub fn of_user(&self, username: &str, segments: &[&str]) -> anyhow::Result<String> {
        let user = self.user(username)?;
        let id = user.get("id").and_then(Value::as_str).unwrap_or_default();
        self.path(&[&["users", id], segments].concat())
    }

    /// Prints a list: whole for programs, in lines for people.
    pub fn show_list(&self, items: Vec<Value>, nothing: &str, line: impl Fn(&Value) -> String) {
        match self.output {
            Output::Json => say_json(&items),
            Output::Text if items.is_empty() => say(nothing),
            Output::Text => items.iter().for_each(|item| say_line(line(item))),
        }
    }

    /// Prints one thing: whole for programs, as YAML-like lines for people.
    pub fn show(&self, value: &Value) {
        match (self.output, value) {
            (Output::Text, Value::Object(members)) => {
                for (name, value) in members {
                    match value {
                        Value::Null => {}
                        Value::String(text) => say_line(format_args!("{name}: {text}")),
                        other => say_line(format_args!("{name}: {other}")),
                    }
                }
            }
            (_, value) => say_json(value),
        }
    }

    /// Prints that something was done.
    pub fn done(&self, text: &str, value: &Value) {
        match self.output {
            Output::Text => say(text),
            Output::Json => say_json(value),
        }
    }
}

/// A path of the administration.
pub fn below(above: &[&str], segments: &[&str]) -> String {
    above.iter().chain(segments).fold("/v1".to_owned(), |path, segment| path + "/" + &encoded(segment))
}

/// The body of an answer.
///
/// # Errors
/// [`No`] or what the process said.
pub fn taken(answer: Answer) -> anyhow::Result<Value> {
    match answer.status {
        404 | 409 | 412 => Err(No(answer.complaint()).into()),
        _ => answer.done(),
    }
}

/// Runs a command of the administration; a [`No`] is exit code 1.
///
/// # Errors
/// No process runs and the store cannot be opened; what the command says.
pub fn run(
    at: &At,
    command: impl FnOnce(&AdminContext) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    carry_out(&AdminContext::open(&at.config, at.output, at.realm.as_ref(), AdminClient::of)?, command)
}

/// The same for what needs no realm, and so no store.
///
/// # Errors
/// No process runs and the state folder cannot be used; what the command says.
pub fn run_at_gateway(
    at: &AtGateway,
    command: impl FnOnce(&AdminContext) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    carry_out(&AdminContext::open(&at.config, at.output, None, AdminClient::without_realms)?, command)
}

fn carry_out(
    context: &AdminContext,
    command: impl FnOnce(&AdminContext) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    match command(context) {
        Err(fault) => match fault.downcast::<No>() {
            Ok(No(why)) => Ok(refuse(&why, context.output)),
            Err(fault) => Err(fault),
        },
        done => done,
    }
}

/// A member of an answer as a text; empty when it is none.
pub fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The texts of a member, joined.
pub fn texts(value: &Value, name: &str) -> String {
    let items = value.get(name).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}
