//! `bastide user`: the people of the identity provider's realms.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use identity::login::PASSWORD_BYTES_MAX;
use serde_json::{Value, json};

use super::admin_context::{self, AdminContext, At, text, texts};
use super::help::{examples, help};
use super::{Output, in_full, name_and_value, say, say_json};

/// Arguments of `bastide user`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "A running process carries it out; without one, the command works on the store.",
    "0 done, 1 there is no such user, or there is one already, 2 wrong usage, 3 could not run (faults of the configuration included)",
    "bastide user add alice --role customer --email alice@example.org     a password is made, and shown once\n\
     bastide user add carol --email carol@example.org --invite     she is sent a link to choose one\n\
     bastide user add bob --password-stdin < password.txt\n\
     bastide user list --output json\n\
     bastide user password alice\n\
     bastide user disable alice      ends sessions, grants, tokens and open connections within a second\n\
     bastide user sign-out alice     the same, but alice may log in again"
))]
pub struct UserArguments {
    #[command(subcommand)]
    command: UserCommand,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Adds a user.
    #[command(after_help = examples(
        "bastide user add alice --role customer --email alice@example.org\n\
         bastide user add carol --email carol@example.org --invite\n\
         bastide user add bob --group warehouse --attribute team=red --password-stdin < password.txt\n\
         bastide user add dave --attribute phone_number=+3261234567 --attribute phone_number_verified:=true"
    ))]
    Add {
        /// The user name.
        username: String,
        /// The `sub` in tokens, for users who come from another system. Default: a new one.
        #[arg(long)]
        id: Option<String>,
        /// The full name.
        #[arg(long)]
        name: Option<String>,
        /// The e-mail address.
        #[arg(long)]
        email: Option<String>,
        /// The address is known to be theirs: `email_verified` in tokens.
        #[arg(long, requires = "email", conflicts_with = "invite")]
        email_verified: bool,
        /// A declared role; may be given several times.
        #[arg(long = "role")]
        roles: Vec<String>,
        /// A group; may be given several times.
        #[arg(long = "group")]
        groups: Vec<String>,
        /// `name=value`, for claims; may be given several times. `name:=value` takes JSON: `true`, a
        /// number, a list, an object.
        #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
        attributes: Vec<(String, Value)>,
        /// Read the password from standard input instead of making one.
        #[arg(long)]
        password_stdin: bool,
        /// Send the user a link to choose it, in a realm with `mail:`.
        #[arg(long, requires = "email", conflicts_with = "password_stdin")]
        invite: bool,
    },
    /// Lists all users.
    #[command(after_help = examples(
        "bastide user list\n\
         bastide user list --realm staff --output json"
    ))]
    List,
    /// Shows a user.
    #[command(after_help = examples("bastide user show alice"))]
    Show {
        /// The user name.
        username: String,
    },
    /// Sets a new password, which ends everything started with the old one.
    #[command(after_help = examples(
        "bastide user password alice                       makes one, and shows it once\n\
         bastide user password carol --invite              sends another link to choose one\n\
         bastide user password alice --password-stdin < password.txt"
    ))]
    Password {
        /// The user name.
        username: String,
        /// Read it from standard input instead of making one.
        #[arg(long)]
        password_stdin: bool,
        /// Send the user a link to choose it, in a realm with `mail:`: again, if the last one has
        /// expired. Until they do, everything stays as it is.
        #[arg(long, conflicts_with = "password_stdin")]
        invite: bool,
    },
    /// Disables a user: no login, no refresh, and the user's tokens are no longer valid, here and
    /// at the gateways.
    #[command(after_help = examples("bastide user disable alice"))]
    Disable {
        /// The user name.
        username: String,
    },
    /// Enables a user again.
    #[command(after_help = examples("bastide user enable alice"))]
    Enable {
        /// The user name.
        username: String,
    },
    /// Ends all sessions, grants and tokens of a user.
    #[command(after_help = examples("bastide user sign-out alice"))]
    SignOut {
        /// The user name.
        username: String,
    },
    /// Sends a user a link by which they show that their e-mail address is theirs, in a realm with
    /// `mail:`.
    #[command(after_help = examples("bastide user verify-mail alice"))]
    VerifyMail {
        /// The user name.
        username: String,
    },
    /// Lists the factors that a user enrolled.
    #[command(after_help = examples(
        "bastide user factors alice\n\
         bastide user factors alice --output json"
    ))]
    Factors {
        /// The user name.
        username: String,
    },
    /// Removes a lost factor.
    #[command(after_help = examples("bastide user remove-factor alice 7Hq…       its id, as `bastide user factors alice` lists it"))]
    RemoveFactor {
        /// The user name.
        username: String,
        /// Its id.
        id: String,
    },
    /// Removes a user and everything that belongs to them.
    #[command(after_help = examples("bastide user remove alice"))]
    Remove {
        /// The user name.
        username: String,
    },
}

/// Shows or changes users of a realm.
///
/// # Errors
/// The configuration has faults, or the store cannot be read or written.
pub fn run(arguments: UserArguments) -> anyhow::Result<ExitCode> {
    let UserArguments { command, at } = arguments;
    admin_context::run(&at, |context| serve(context, command))
}

fn serve(context: &AdminContext, command: UserCommand) -> anyhow::Result<ExitCode> {
    match command {
        UserCommand::List => list(context)?,
        UserCommand::Show { username } => context.show(&context.user(&username)?),
        UserCommand::Add {
            username,
            id,
            name,
            email,
            email_verified,
            roles,
            groups,
            attributes,
            password_stdin,
            invite,
        } => {
            let user = json!({
                "username": username, "name": name, "email": email, "email_verified": email_verified,
                "roles": roles, "groups": groups, "attributes": BTreeMap::from_iter(attributes),
            });
            // A password that cannot be read leaves no user without one behind.
            let password = if invite { Password::Invited } else { Password::take(password_stdin)? };
            let user = add(context, id.as_deref(), &user)?;
            let made = with_password(context, &user, &password)?;
            show_with(context, user, &made);
            tell_of_invitation(context, &username, invite);
        }
        UserCommand::Password { username, password_stdin, invite } => {
            let user = context.user(&username)?;
            let path = context.path(&["users", text(&user, "id"), "password"])?;
            let password = if invite { Password::Invited } else { Password::take(password_stdin)? };
            show_with(context, user, &password.give(context, &path)?);
            tell_of_invitation(context, &username, invite);
        }
        UserCommand::Disable { username } => switch(context, &username, true)?,
        UserCommand::Enable { username } => switch(context, &username, false)?,
        UserCommand::SignOut { username } => {
            let ended = context.call("DELETE", &context.of_user(&username, &["sessions"])?, None)?;
            let count = ended.get("ended").and_then(Value::as_u64).unwrap_or_default();
            context.done(&format!("{username}: {count} sessions and grants ended"), &ended);
        }
        UserCommand::VerifyMail { username } => {
            context.call("POST", &context.of_user(&username, &["verification"])?, None)?;
            context.done(&format!("{username}: a link is on its way"), &json!({ "asked": username }));
        }
        UserCommand::Factors { username } => {
            let factors = context.admin.list(&context.of_user(&username, &["factors"])?, false)?;
            context.show_list(factors, "no factors", |factor| {
                format!("{}  {:<8} {}", text(factor, "id"), text(factor, "kind"), text(factor, "name"))
            });
        }
        UserCommand::RemoveFactor { username, id } => {
            context.call("DELETE", &context.of_user(&username, &["factors", &id])?, None)?;
            context.done(&format!("{id}: removed"), &json!({ "removed": id }));
        }
        UserCommand::Remove { username } => {
            context.call("DELETE", &context.of_user(&username, &[])?, None)?;
            context.done(&format!("{username}: removed"), &json!({ "removed": username }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell_of_invitation(context: &AdminContext, username: &str, invited: bool) {
    if invited && context.output == Output::Text {
        say(format_args!("{username} is sent a link to choose a password"));
    }
}

/// Adds them under an id that is made, or under theirs when nobody has it.
fn add(context: &AdminContext, id: Option<&str>, user: &Value) -> anyhow::Result<Value> {
    let Some(id) = id else { return context.call("POST", &context.path(&["users"])?, Some(user)) };
    let path = context.path(&["users", id])?;
    let answer = context.admin.call_if("PUT", &path, Some(("if-none-match", "*")), Some(user))?;
    if answer.status == 412 {
        return Err(admin_context::No(format!("there is a user with the id {id:?} already")).into());
    }
    admin_context::taken(answer)
}

/// Gives a new user their password. Who cannot have one is not left behind without.
fn with_password(context: &AdminContext, user: &Value, password: &Password) -> anyhow::Result<Value> {
    let id = text(user, "id");
    password.give(context, &context.path(&["users", id, "password"])?).map_err(|fault| {
        let name = text(user, "username");
        match context.path(&["users", id]).and_then(|path| context.call("DELETE", &path, None)) {
            Ok(_) => anyhow::anyhow!("{}; so {name:?} was not added", in_full(&fault)),
            Err(stays) => anyhow::anyhow!(
                "{}; {name:?} is there now without a password, and could not be removed: {}",
                in_full(&fault),
                in_full(&stays)
            ),
        }
    })
}

fn switch(context: &AdminContext, username: &str, disabled: bool) -> anyhow::Result<()> {
    let mut user = context.user(username)?;
    let path = context.path(&["users", text(&user, "id")])?;
    if let Some(members) = user.as_object_mut() {
        for shown in ["id", "created", "updated"] {
            members.remove(shown);
        }
        members.insert("disabled".to_owned(), json!(disabled));
    }
    // Roles that are declared no more are no reason to let somebody in.
    let user = context.call("PUT", &format!("{path}?any_role=true"), Some(&user))?;
    context.done(&format!("{username}: {}", if disabled { "disabled" } else { "enabled" }), &user);
    Ok(())
}

fn list(context: &AdminContext) -> anyhow::Result<()> {
    let mut users = context.admin.list(&context.path(&["users"])?, true)?;
    users.sort_by(|one, other| text(one, "username").cmp(text(other, "username")));
    context.show_list(users, "nobody yet; add somebody with `bastide user add`", |user| {
        let state = if user.get("disabled") == Some(&json!(true)) { "disabled" } else { "" };
        let (name, email) = (text(user, "username"), text(user, "email"));
        format!("{name:<24} {email:<32} {:<24} {state}", texts(user, "roles"))
    });
    Ok(())
}

fn show_with(context: &AdminContext, mut user: Value, made: &Value) {
    let made = made.get("secret").and_then(Value::as_str);
    match (context.output, made) {
        (Output::Text, Some(made)) => {
            say(made);
            say(format_args!(
                "\nThe password of {}. This is the only time that it is shown.",
                text(&user, "username")
            ));
        }
        (Output::Text, None) => say(format_args!("{}: done", text(&user, "username"))),
        (Output::Json, made) => {
            if let (Some(members), Some(made)) = (user.as_object_mut(), made) {
                members.insert("password".to_owned(), json!(made));
            }
            say_json(&user);
        }
    }
}

/// A new password.
enum Password {
    /// One that is made, and shown once.
    Made,
    /// Theirs to choose, by a letter.
    Invited,
    Given(zeroize::Zeroizing<String>),
}

impl Password {
    fn take(from_stdin: bool) -> anyhow::Result<Self> {
        if !from_stdin {
            return Ok(Self::Made);
        }
        let mut text = zeroize::Zeroizing::new(String::new());
        let most = u64::try_from(PASSWORD_BYTES_MAX)?;
        std::io::stdin().lock().take(most + 1).read_to_string(&mut text)?;
        let text = zeroize::Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
        anyhow::ensure!(
            (1..=PASSWORD_BYTES_MAX).contains(&text.len()),
            "expected a password of 1 to {PASSWORD_BYTES_MAX} bytes on standard input"
        );
        Ok(Self::Given(text))
    }

    /// Gives it to a user; what was made comes back.
    fn give(&self, context: &AdminContext, path: &str) -> anyhow::Result<Value> {
        let body = match self {
            Self::Made => json!({}),
            Self::Invited => json!({ "invite": true }),
            Self::Given(text) => json!({ "password": text.as_str() }),
        };
        context.call("PUT", path, Some(&body))
    }
}

fn parse_attribute(pair: &str) -> Result<(String, Value), String> {
    let (name, value) = name_and_value(pair)?;
    let Some(name) = name.strip_suffix(':') else { return Ok((name.to_owned(), value.into())) };
    if name.is_empty() {
        return Err("expected name:=value".to_owned());
    }
    let value = serde_json::from_str(value).map_err(|error| format!("expected JSON after `:=`: {error}"))?;
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_text_unless_it_is_written_as_json() {
        for (pair, expected) in [
            ("team=red", ("team", json!("red"))),
            ("team=", ("team", json!(""))),
            ("verified=true", ("verified", json!("true"))),
            ("verified:=true", ("verified", json!(true))),
            ("address:={\"locality\":\"Ghent\"}", ("address", json!({ "locality": "Ghent" }))),
            ("at=a:=b", ("at", json!("a:=b"))),
        ] {
            assert_eq!(parse_attribute(pair), Ok((expected.0.to_owned(), expected.1)), "{pair}");
        }
        for wrong in ["team", "=red", "team:=red", "team:=", ":=1"] {
            assert!(parse_attribute(wrong).is_err(), "{wrong}");
        }
    }
}
