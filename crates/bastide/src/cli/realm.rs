//! `bastide realm`, `client`, `session`, `role` and `group`: the rest of what realms hold.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Command, Subcommand, ValueHint};
use model::suggestion::suggestion;
use serde_json::{Map, Value, json};

use super::admin_context::{self, AdminContext, At, below, text, texts};
use super::help::{examples, help};
use super::{Output, say, say_json};
use crate::config;

/// Largest file of a client, bytes.
const CLIENT_BYTES_MAX: u64 = 1 << 20;

/// Arguments of `bastide realm`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "",
    "0 done, 1 there is no such realm, 2 wrong usage, 3 could not run (faults of the configuration included)",
    "bastide realm list\n\
     bastide realm keys --output json\n\
     bastide realm export --hashes > shop.json     everything, for `bastide apply`\n\
     bastide realm set access_token=10m require_dpop_nonce=true\n\
     bastide realm unset access_token\n\
     bastide realm rotate-keys              new keys from now on; what was signed stays valid\n\
     bastide realm rotate-keys --forget     for keys that somebody else may know"
))]
pub struct RealmArguments {
    #[command(subcommand)]
    command: RealmCommand,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Subcommand)]
enum RealmCommand {
    /// Lists the realms.
    #[command(after_help = examples("bastide realm list"))]
    List,
    /// Shows the settings of the realm.
    #[command(after_help = examples(
        "bastide realm show\n\
         bastide realm show --realm staff --output json"
    ))]
    Show,
    /// Lists the signing keys.
    #[command(after_help = examples(
        "bastide realm keys\n\
         bastide realm keys --output json"
    ))]
    Keys,
    /// Writes clients and users of the realm in the form that `bastide apply` accepts.
    #[command(after_help = examples(
        "bastide realm export > shop.json\n\
         bastide realm export --hashes > shop.json     to move people and clients elsewhere"
    ))]
    Export {
        /// Include the hashes of passwords and secrets.
        #[arg(long)]
        hashes: bool,
    },
    /// Changes settings while the realm runs: those that the configuration does not set.
    #[command(after_help = examples(
        "bastide realm set access_token=10m\n\
         bastide realm set require_dpop_nonce=true display_name=\"The shop\""
    ))]
    Set {
        /// `name=value`: `display_name`, `require_pushed_requests`, `require_dpop_nonce`,
        /// `sessions_per_person`, or a lifetime, such as `access_token=10m`.
        #[arg(required = true)]
        settings: Vec<String>,
    },
    /// Resets settings to what is configured.
    #[command(after_help = examples("bastide realm unset access_token require_dpop_nonce"))]
    Unset {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Stops signing with the present keys and makes new ones.
    #[command(after_help = examples(
        "bastide realm rotate-keys\n\
         bastide realm rotate-keys --forget     for keys that somebody else may know"
    ))]
    RotateKeys {
        /// What they signed is no longer valid.
        #[arg(long)]
        forget: bool,
    },
}

/// Shows or changes a realm.
///
/// # Errors
/// It cannot be carried out.
pub fn run(arguments: RealmArguments) -> anyhow::Result<ExitCode> {
    let RealmArguments { command, at } = arguments;
    admin_context::run(&at, |context| {
        match command {
            RealmCommand::List => {
                let realms = context.admin.list("/v1/realms", false)?;
                context.show_list(realms, "no realms", |realm| {
                    format!("{:<24} {}", text(realm, "name"), text(realm, "issuer"))
                });
            }
            RealmCommand::Show => context.show(&context.call("GET", &context.path(&[])?, None)?),
            RealmCommand::Keys => show_keys(context, &context.call("GET", &context.path(&["keys"])?, None)?),
            RealmCommand::Export { hashes } => super::apply::export(context, hashes)?,
            RealmCommand::Set { settings } => change_settings(context, |change| {
                settings.iter().try_for_each(|setting| {
                    let (name, value) = setting
                        .split_once('=')
                        .with_context(|| format!("expected name=value, found {setting:?}"))?;
                    set(change, name, Some(value))
                })
            })?,
            RealmCommand::Unset { names } => {
                change_settings(context, |change| names.iter().try_for_each(|name| set(change, name, None)))?;
            }
            RealmCommand::RotateKeys { forget } => {
                let path = context.path(&["keys", "rotate"])?;
                show_keys(context, &context.call("POST", &path, Some(&json!({ "forget": forget })))?);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Changes what is changed, when nobody changed it in between.
fn change_settings(
    context: &AdminContext,
    edit: impl FnOnce(&mut Map<String, Value>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let path = context.path(&["settings"])?;
    let before = context.admin.call("GET", &path, None)?;
    let tag = before.tag.clone();
    let mut change = admin_context::taken(before)?.as_object().cloned().unwrap_or_default();
    edit(&mut change)?;
    let condition = tag.as_deref().map_or(("if-none-match", "*"), |tag| ("if-match", tag));
    let answer = context.admin.call_if("PUT", &path, Some(condition), Some(&Value::Object(change)))?;
    let settings = admin_context::taken(answer)?;
    match (context.output, settings.as_object().is_some_and(Map::is_empty)) {
        (Output::Text, true) => say("every setting is as configured"),
        _ => context.show(&settings),
    }
    Ok(())
}

/// Sets one setting, or takes it out.
fn set(change: &mut Map<String, Value>, name: &str, value: Option<&str>) -> anyhow::Result<()> {
    const OTHERS: [&str; 4] =
        ["display_name", "require_pushed_requests", "require_dpop_nonce", "sessions_per_person"];
    let lifetimes = identity::Lifetimes::default().named().map(|(name, _)| name);
    let short = name.strip_prefix("lifetimes.").unwrap_or(name);
    let is_lifetime = lifetimes.contains(&short);
    let known: Vec<&str> = OTHERS.into_iter().chain(lifetimes).collect();
    anyhow::ensure!(
        is_lifetime || OTHERS.contains(&name),
        "there is no setting {name:?}{} that is changed here; there are: {}",
        suggestion(name, known.iter().copied()),
        known.join(", ")
    );
    let wrong = |expected: &str| anyhow::anyhow!("{name}: expected {expected}");
    let value = match value {
        None => None,
        Some(text) if is_lifetime => Some(json!(config::duration(text).map_err(wrong)?.as_secs())),
        Some(text) if name == "display_name" => Some(json!(text)),
        Some(text) if name == "sessions_per_person" => {
            Some(json!(text.parse::<u64>().map_err(|_| wrong("a number"))?))
        }
        Some(text) => Some(json!(text.parse::<bool>().map_err(|_| wrong("true or false"))?)),
    };
    let place = match is_lifetime {
        true => change.entry("lifetimes").or_insert_with(|| json!({})).as_object_mut(),
        false => Some(change),
    };
    if let Some(place) = place {
        match value {
            Some(value) => drop(place.insert(short.to_owned(), value)),
            None => drop(place.remove(short)),
        }
    }
    Ok(())
}

fn show_keys(context: &AdminContext, page: &Value) {
    let keys = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    context.show_list(keys, "no keys", |key| {
        let time =
            |name: &str| super::key::date_of(key.get(name).and_then(Value::as_u64).unwrap_or_default());
        let (id, algorithm) = (text(key, "id"), text(key, "algorithm"));
        format!("{id}  {algorithm:<6} signs from {} to {}", time("signs_from"), time("signs_until"))
    });
}

/// Arguments of `bastide client`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "Clients that `realms:` of the configuration declares are changed there.",
    "0 done, 1 there is no such client, or the configuration declares it, 2 wrong usage, 3 could not run (faults of the configuration included)",
    "bastide client list\n\
     bastide client show shop --output json > shop.json\n\
     bastide client put shop.json\n\
     bastide client secret importer                     a new secret, shown once; the old one is no longer valid\n\
     bastide client secret importer --keep-previous     both are valid until the next secret is made"
))]
pub struct ClientArguments {
    #[command(subcommand)]
    command: ClientCommand,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// Lists the clients.
    #[command(after_help = examples(
        "bastide client list\n\
         bastide client list --output json"
    ))]
    List,
    /// Shows a client.
    #[command(after_help = examples("bastide client show shop --output json > shop.json"))]
    Show {
        /// `client_id`.
        id: String,
    },
    /// Adds or replaces a client from a JSON file; see docs/administration.md.
    #[command(after_help = examples(
        "bastide client put shop.json\n\
         bastide client show shop --output json | jq '.disabled = true' | bastide client put -"
    ))]
    Put {
        /// The file; `-` reads standard input.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Makes a secret, and shows it once.
    #[command(after_help = examples(
        "bastide client secret importer\n\
         bastide client secret importer --keep-previous"
    ))]
    Secret {
        /// `client_id`.
        id: String,
        /// The previous one stays valid until the next is made without this.
        #[arg(long)]
        keep_previous: bool,
    },
    /// Removes a client.
    #[command(after_help = examples("bastide client remove importer"))]
    Remove {
        /// `client_id`.
        id: String,
    },
}

/// Runs `bastide client`.
///
/// # Errors
/// It cannot be carried out.
pub fn run_client(arguments: ClientArguments) -> anyhow::Result<ExitCode> {
    let ClientArguments { command, at } = arguments;
    admin_context::run(&at, |context| {
        let path = |id: &str| context.path(&["clients", id]);
        match command {
            ClientCommand::List => {
                let clients = context.admin.list(&context.path(&["clients"])?, true)?;
                context.show_list(clients, "no clients", |client| {
                    let flag =
                        |name: &str, word| if client.get(name) == Some(&json!(true)) { word } else { "" };
                    let way = client.pointer("/authentication/method").and_then(Value::as_str);
                    let id = text(client, "id");
                    let state = [flag("declared", "declared"), flag("disabled", "disabled")].join(" ");
                    format!("{id:<24} {:<28} {}", way.unwrap_or_default(), state.trim())
                });
            }
            ClientCommand::Show { id } => context.show(&context.call("GET", &path(&id)?, None)?),
            ClientCommand::Put { file } => {
                let mut client = read_json(&file)?;
                let id = text(&client, "id").to_owned();
                anyhow::ensure!(!id.is_empty(), "{}: expected an object with an `id`", file.display());
                if let Some(members) = client.as_object_mut() {
                    members.remove("declared");
                }
                let client = context.call("PUT", &path(&id)?, Some(&client))?;
                context.done(&format!("{id}: done"), &client);
            }
            ClientCommand::Secret { id, keep_previous } => {
                let path = context.path(&["clients", &id, "secret"])?;
                let made = context.call("POST", &path, Some(&json!({ "keep_previous": keep_previous })))?;
                match context.output {
                    Output::Text => {
                        say(text(&made, "secret"));
                        say(format_args!("\nThe secret of {id}. This is the only time that it is shown."));
                    }
                    Output::Json => say_json(&json!({ "client": id, "secret": made.get("secret") })),
                }
            }
            ClientCommand::Remove { id } => {
                context.call("DELETE", &path(&id)?, None)?;
                context.done(&format!("{id}: removed"), &json!({ "removed": id }));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// A file of JSON.
pub(super) fn read_json(file: &std::path::Path) -> anyhow::Result<Value> {
    let mut text = String::new();
    let cannot = || format!("cannot read {}", file.display());
    if file.as_os_str() == "-" {
        std::io::stdin().lock().take(CLIENT_BYTES_MAX).read_to_string(&mut text)?;
    } else {
        let source = std::fs::File::open(file).with_context(cannot)?;
        source.take(CLIENT_BYTES_MAX).read_to_string(&mut text).with_context(cannot)?;
    }
    serde_json::from_str(&text).map_err(|error| {
        anyhow::anyhow!("{}:{}:{}: expected JSON: {error}", file.display(), error.line(), error.column())
    })
}

/// Arguments of `bastide session`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "`bastide user sign-out alice` ends all of them.",
    "0 done, 1 there is no such user, session or grant, 2 wrong usage, 3 could not run (faults of the configuration included)",
    "bastide session list alice\n\
     bastide session end 4fX0a9QmZk2bR7cD1eF5gA\n\
     bastide session grants alice                   what she allowed applications\n\
     bastide session end-grant 9aB…"
))]
pub struct SessionArguments {
    #[command(subcommand)]
    command: SessionCommand,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Subcommand)]
enum SessionCommand {
    /// Lists the sessions of a user.
    #[command(after_help = examples(
        "bastide session list alice\n\
         bastide session list alice --output json"
    ))]
    List {
        /// The user name.
        username: String,
    },
    /// Ends a session with its tokens and open connections.
    #[command(after_help = examples("bastide session end 4fX0a9QmZk2bR7cD1eF5gA"))]
    End {
        /// Its `sid`.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// Lists what a user allowed clients.
    #[command(after_help = examples("bastide session grants alice"))]
    Grants {
        /// The user name.
        username: String,
    },
    /// Ends a grant and its tokens.
    #[command(after_help = examples("bastide session end-grant 9aB…"))]
    EndGrant {
        /// Its id.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
}

/// Runs `bastide session`.
///
/// # Errors
/// It cannot be carried out.
pub fn run_session(arguments: SessionArguments) -> anyhow::Result<ExitCode> {
    let SessionArguments { command, at } = arguments;
    admin_context::run(&at, |context| {
        let time = |value: &Value, name: &str| {
            super::key::date_of(value.get(name).and_then(Value::as_u64).unwrap_or_default())
        };
        match command {
            SessionCommand::List { username } => {
                let sessions = context.admin.list(&context.of_user(&username, &["sessions"])?, false)?;
                context.show_list(sessions, "no sessions", |session| {
                    let (begun, seen) = (time(session, "authenticated"), time(session, "seen"));
                    format!(
                        "{}  since {begun}, seen {seen}, by {}",
                        text(session, "id"),
                        texts(session, "amr")
                    )
                });
            }
            SessionCommand::Grants { username } => {
                let grants = context.admin.list(&context.of_user(&username, &["grants"])?, false)?;
                context.show_list(grants, "no grants", |grant| {
                    let (id, client) = (text(grant, "id"), text(grant, "client"));
                    format!("{id}  {client:<20} {} until {}", texts(grant, "scopes"), time(grant, "until"))
                });
            }
            SessionCommand::End { id } => end(context, "sessions", &id)?,
            SessionCommand::EndGrant { id } => end(context, "grants", &id)?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn end(context: &AdminContext, what: &str, id: &str) -> anyhow::Result<()> {
    context.call("DELETE", &context.path(&[what, id])?, None)?;
    context.done(&format!("{id}: ended"), &json!({ "ended": id }));
    Ok(())
}

/// The help of `bastide role`: with examples of its own, for arguments that groups share.
pub(super) fn role_help(command: Command) -> Command {
    const LINES: [&str; 4] = [
        "bastide role list\nbastide role list --output json",
        "bastide role members merchant",
        "bastide role add merchant alice",
        "bastide role remove merchant alice",
    ];
    members_help(command, LINES)
}

/// The help of `bastide group`.
pub(super) fn group_help(command: Command) -> Command {
    const LINES: [&str; 4] = [
        "bastide group list\nbastide group list --output json",
        "bastide group members warehouse",
        "bastide group add warehouse bob",
        "bastide group remove warehouse bob",
    ];
    members_help(command, LINES)
}

fn members_help(command: Command, lines: [&str; 4]) -> Command {
    const NAMES: [&str; 4] = ["list", "members", "add", "remove"];
    let command = command.after_help(help("", MEMBERS_CODES, &lines.join("\n")));
    NAMES.into_iter().zip(lines).fold(command, |command, (name, lines)| {
        command.mut_subcommand(name, |below| below.after_help(help("", MEMBERS_CODES, lines)))
    })
}

const MEMBERS_CODES: &str = "0 done, 1 there is no such person, 2 wrong usage, 3 could not run (faults of the configuration \
     included)";

/// Arguments of `bastide role` and `bastide group`.
#[derive(Debug, Args)]
pub struct MembersArguments {
    #[command(subcommand)]
    command: MembersCommand,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Subcommand)]
enum MembersCommand {
    /// Lists them.
    List,
    /// Lists the users who have one.
    Members {
        /// Its name.
        name: String,
    },
    /// Adds a user.
    Add {
        /// Its name.
        name: String,
        /// The user name.
        username: String,
    },
    /// Removes a user.
    Remove {
        /// Its name.
        name: String,
        /// The user name.
        username: String,
    },
}

/// Runs `bastide role` or `bastide group`: `what` is `roles` or `groups`.
///
/// # Errors
/// It cannot be carried out.
pub fn run_members(arguments: MembersArguments, what: &'static str) -> anyhow::Result<ExitCode> {
    let MembersArguments { command, at } = arguments;
    admin_context::run(&at, |context| {
        match command {
            MembersCommand::List => {
                let path = if what == "roles" { below(&["roles"], &[]) } else { context.path(&[what])? };
                let items = context.admin.list(&path, false)?;
                context.show_list(items, "none", |item| {
                    let members = match item.get("members") {
                        Some(Value::Array(_)) => texts(item, "members"),
                        Some(other) => other.to_string(),
                        None => String::new(),
                    };
                    format!("{:<24} {members}", text(item, "name"))
                });
            }
            MembersCommand::Members { name } => {
                let singular = what.trim_end_matches('s');
                let name = crate::admin::resource::encoded(&name);
                let path = format!("{}?{singular}={name}", context.path(&["users"])?);
                let users = context.admin.list(&path, true)?;
                context.show_list(users, "nobody", |user| text(user, "username").to_owned());
            }
            MembersCommand::Add { name, username } => {
                let path = context.of_user(&username, &[what, &name])?;
                let user = context.call("PUT", &path, None)?;
                context.done(&format!("{username}: {}", texts(&user, what)), &user);
            }
            MembersCommand::Remove { name, username } => {
                let path = context.of_user(&username, &[what, &name])?;
                let user = context.call("DELETE", &path, None)?;
                context.done(&format!("{username}: {}", texts(&user, what)), &user);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}
