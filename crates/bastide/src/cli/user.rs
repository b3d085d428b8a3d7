//! `bastide user`: the people of the identity provider's realms.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueHint};
use identity::{NoDelivery, Realm, User, World};
use keys::{SecureRandom as _, SystemRandom};
use model::{Clock, Secret};
use serde_json::{Value, json};

use super::{Output, say};
use crate::config::{self, Configuration};
use crate::process::clock::SystemClock;
use crate::process::storage;

/// Longest password that is read, bytes.
const PASSWORD_BYTES_MAX: u64 = 1_024;

/// Arguments of `bastide user`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bastide user add alice --role customer --email alice@example.org     a password is made and shown once\n  bastide user add bob --password-stdin < password.txt\n  bastide user list --output json\n  bastide user password alice\n  bastide user disable alice\n\nA running process takes it up at once.\n\nExit codes: 0 done, 1 there is no such user, or one already, 2 wrong usage, 3 could not run."
)]
pub struct UserArguments {
    #[command(subcommand)]
    command: UserCommand,
    /// The configuration, which says where the store is and which realms there are.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = ValueHint::FilePath, global = true)]
    config: PathBuf,
    /// The realm; may be left out where there is one alone.
    #[arg(long, global = true)]
    realm: Option<String>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Adds a person.
    Add {
        /// What they log in with.
        username: String,
        /// What tokens call them (`sub`), for people who come from elsewhere; else one is made.
        #[arg(long)]
        id: Option<String>,
        /// The full name.
        #[arg(long)]
        name: Option<String>,
        /// The e-mail address.
        #[arg(long)]
        email: Option<String>,
        /// A declared role that they have; may be given several times.
        #[arg(long = "role")]
        roles: Vec<String>,
        /// A group that they are in; may be given several times.
        #[arg(long = "group")]
        groups: Vec<String>,
        /// `name=value`: what claims can show; may be given several times.
        #[arg(long = "attribute")]
        attributes: Vec<String>,
        /// Read the password from standard input instead of making one.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Lists everybody.
    List,
    /// Gives a person another password.
    Password {
        /// What they log in with.
        username: String,
        /// Read it from standard input instead of making one.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Switches a person off: no login, no refresh, no token of theirs is active at the
    /// provider. A gateway takes their last token until it ends; `bastide revoke` ends that.
    Disable {
        /// What they log in with.
        username: String,
    },
    /// Lets a person in again.
    Enable {
        /// What they log in with.
        username: String,
    },
}

/// Runs the command.
///
/// # Errors
/// The configuration has faults, or the store cannot be read or written.
pub fn run(arguments: UserArguments) -> anyhow::Result<ExitCode> {
    let Some(configuration) = super::check::load_or_report(&arguments.config, arguments.output)? else {
        return Ok(ExitCode::FAILURE);
    };
    let wanted = wanted(&configuration, &arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let realm = open(&configuration, wanted, Arc::clone(&clock)).await?;
        let desk = Desk { configuration: &configuration, realm: &realm, clock, output: arguments.output };
        desk.serve(arguments.command).await
    })
}

fn wanted<'c>(
    configuration: &'c Configuration,
    arguments: &UserArguments,
) -> anyhow::Result<&'c config::Realm> {
    let names: Vec<&str> = configuration.realms.iter().map(|realm| realm.settings.name.as_str()).collect();
    let place = arguments.config.display();
    match (&arguments.realm, configuration.realms.as_slice()) {
        (_, []) => anyhow::bail!("{place} has no realms; add `realms: {{ NAME: https://id.example.org }}`"),
        (None, [only]) => Ok(only),
        (None, _) => anyhow::bail!("--realm says which of these: {}", names.join(", ")),
        (Some(name), realms) => realms
            .iter()
            .find(|realm| realm.settings.name == *name)
            .with_context(|| format!("{place} has no realm {name:?}; there are: {}", names.join(", "))),
    }
}

async fn open(
    configuration: &Configuration,
    wanted: &config::Realm,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Arc<Realm>> {
    let settings = &configuration.storage;
    let key = storage::local_key(&settings.unseal)?.context(
        "people have the shares of the store's key; this command needs a key file or the environment",
    )?;
    let place = || storage::place(&settings.database);
    let store = storage::open(&settings.database, key, Arc::clone(&clock)).await.with_context(place)?;
    let random = Arc::new(SystemRandom::new());
    let world = World { store, clock, random, deliver: Arc::new(NoDelivery), courier: None };
    Ok(Realm::open(wanted.settings.clone(), world).await?)
}

/// Where a command is carried out.
struct Desk<'c> {
    configuration: &'c Configuration,
    realm: &'c Realm,
    clock: Arc<dyn Clock>,
    output: Output,
}

impl Desk<'_> {
    async fn serve(&self, command: UserCommand) -> anyhow::Result<ExitCode> {
        match command {
            UserCommand::List => self.list().await,
            UserCommand::Add { username, id, name, email, roles, groups, attributes, password_stdin } => {
                if self.realm.find_user(&username).await?.is_some() {
                    return Ok(self.no(&format!("there is a user {username:?} already")));
                }
                self.declared(&roles)?;
                let id = id.map_or_else(|| self.realm.new_user_id(), Ok)?;
                if self.realm.users().await?.iter().any(|user| user.id == id) {
                    return Ok(self.no(&format!("there is a user with the id {id:?} already")));
                }
                let mut user = User::new(&id, &username, self.clock.now());
                (user.name, user.email) = (name, email);
                user.roles = roles.into_iter().collect();
                user.groups = groups.into_iter().collect();
                user.attributes = parse_attributes(&attributes)?;
                // A password that cannot be read leaves no user without one behind.
                let password = Password::take(password_stdin)?;
                self.realm.put_user(&user).await?;
                self.realm.set_password(&user.id, password.secret()).await?;
                self.show_with(&user, &password);
                Ok(ExitCode::SUCCESS)
            }
            UserCommand::Password { username, password_stdin } => {
                let Some(user) = self.realm.find_user(&username).await? else {
                    return Ok(self.unknown(&username));
                };
                let password = Password::take(password_stdin)?;
                self.realm.set_password(&user.id, password.secret()).await?;
                self.show_with(&user, &password);
                Ok(ExitCode::SUCCESS)
            }
            UserCommand::Disable { username } => self.switch(&username, true).await,
            UserCommand::Enable { username } => self.switch(&username, false).await,
        }
    }

    async fn switch(&self, username: &str, disabled: bool) -> anyhow::Result<ExitCode> {
        let Some(mut user) = self.realm.find_user(username).await? else { return Ok(self.unknown(username)) };
        (user.disabled, user.updated) = (disabled, self.clock.now());
        self.realm.put_user(&user).await?;
        match self.output {
            Output::Text => {
                say(format_args!("{username}: {}", if disabled { "disabled" } else { "enabled" }))
            }
            Output::Json => say(describe(&user)),
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn list(&self) -> anyhow::Result<ExitCode> {
        let mut users = self.realm.users().await?;
        users.sort_by(|one, other| one.username.cmp(&other.username));
        if self.output == Output::Json {
            say(Value::Array(users.iter().map(describe).collect()));
            return Ok(ExitCode::SUCCESS);
        }
        if users.is_empty() {
            say("nobody yet; add somebody with `bastide user add`");
        }
        for user in &users {
            let roles: Vec<&str> = user.roles.iter().map(String::as_str).collect();
            let state = if user.disabled { "disabled" } else { "" };
            let email = user.email.as_deref().unwrap_or_default();
            say(format_args!("{:<24} {:<32} {:<24} {state}", user.username, email, roles.join(",")));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Policies know no other roles.
    fn declared(&self, roles: &[String]) -> anyhow::Result<()> {
        let declared: Vec<&str> = self.configuration.roles.iter().map(|role| role.name.as_str()).collect();
        for role in roles {
            anyhow::ensure!(
                declared.contains(&role.as_str()),
                "role {role:?} is not declared in {}; declared are: {}",
                self.configuration.file.display(),
                declared.join(", ")
            );
        }
        Ok(())
    }

    fn show_with(&self, user: &User, password: &Password) {
        let made = match password {
            Password::Made(text) => Some(text.as_str()),
            Password::Given(_) => None,
        };
        match (self.output, made) {
            (Output::Text, Some(made)) => {
                say(made);
                say(format_args!(
                    "\nThe password of {}. This is the only time that it is shown.",
                    user.username
                ));
            }
            (Output::Text, None) => say(format_args!("{}: done", user.username)),
            (Output::Json, made) => {
                let mut value = describe(user);
                if let (Some(object), Some(made)) = (value.as_object_mut(), made) {
                    object.insert("password".to_owned(), json!(made));
                }
                say(value);
            }
        }
    }

    fn unknown(&self, username: &str) -> ExitCode {
        self.no(&format!("there is no user {username:?}"))
    }

    fn no(&self, why: &str) -> ExitCode {
        match self.output {
            Output::Text => say(why),
            Output::Json => say(json!({ "error": why })),
        }
        ExitCode::FAILURE
    }
}

/// A new password.
enum Password {
    /// 120 random bits, shown once.
    Made(zeroize::Zeroizing<String>),
    Given(zeroize::Zeroizing<String>),
}

impl Password {
    fn take(from_stdin: bool) -> anyhow::Result<Self> {
        if !from_stdin {
            let mut bytes = [0; 15];
            SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("no random numbers"))?;
            return Ok(Self::Made(keys::encoding::encode_base64url(&bytes).into()));
        }
        let mut text = zeroize::Zeroizing::new(String::new());
        std::io::stdin().lock().take(PASSWORD_BYTES_MAX + 1).read_to_string(&mut text)?;
        let text = zeroize::Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
        anyhow::ensure!(
            (1..=usize::try_from(PASSWORD_BYTES_MAX)?).contains(&text.len()),
            "expected a password of 1 to {PASSWORD_BYTES_MAX} bytes on standard input"
        );
        Ok(Self::Given(text))
    }

    fn secret(&self) -> Secret<String> {
        let (Self::Made(text) | Self::Given(text)) = self;
        Secret::new(text.as_str().to_owned())
    }
}

fn parse_attributes(given: &[String]) -> anyhow::Result<BTreeMap<String, Value>> {
    let one = |pair: &String| {
        let wrong = || format!("--attribute wants name=value, found {pair:?}");
        let (name, value) = pair.split_once('=').with_context(wrong)?;
        Ok((name.to_owned(), json!(value)))
    };
    given.iter().map(one).collect()
}

fn describe(user: &User) -> Value {
    json!({
        "id": user.id,
        "username": user.username,
        "name": user.name,
        "email": user.email,
        "roles": user.roles,
        "groups": user.groups,
        "attributes": user.attributes,
        "disabled": user.disabled,
        "created": user.created.unix_seconds(),
    })
}
