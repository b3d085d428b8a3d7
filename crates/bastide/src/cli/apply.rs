//! `bastide apply`: clients, people and role grants that stand in files; and the export that
//! it takes back.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};
use serde_json::{Map, json};

use super::admin_context::{self, AdminContext, At, text};
use super::help::help;
use super::{COULD_NOT_RUN, Output, exit_code, say, say_json, say_line};
use crate::apply::{self, Action, Carried, Fault, Plan};

/// Arguments of `bastide apply`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "What a file does not mention stays. Each object is changed in a transaction of its own, and only if\n\
     nobody changed it since it was compared. What is refused is reported with its place and the rest goes on,\n\
     but then nothing is removed. See docs/administration.md.",
    "0 nothing to do, or done; 1 something would change (with --dry-run); 2 wrong usage; 3 a file has faults, or a change is refused (with --dry-run: would be)",
    "bastide apply -f shop.yaml --dry-run      what would change, field by field\n\
     bastide apply -f realm/                   every *.yaml, *.yml and *.json of a folder\n\
     bastide apply -f shop.json --prune        also removes what no file mentions\n\
     bastide realm export > shop.json && bastide apply -f shop.json --dry-run    changes nothing"
))]
pub struct ApplyArguments {
    /// A file or a folder of files; may be given several times.
    #[arg(long = "file", short = 'f', required = true, value_hint = ValueHint::AnyPath)]
    files: Vec<PathBuf>,
    /// Change nothing; say what would change.
    #[arg(long)]
    dry_run: bool,
    /// Remove clients and users that no file mentions, and take roles from users to whom no file
    /// grants them. Only of the kinds of objects that the files contain.
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    at: At,
}

/// Compares files with a realm and, without `--dry-run`, changes it.
///
/// # Errors
/// What is there cannot be read.
pub fn run(arguments: ApplyArguments) -> anyhow::Result<ExitCode> {
    let ApplyArguments { files, dry_run, prune, mut at } = arguments;
    let wanted = match apply::read(&files) {
        Ok(wanted) => wanted,
        Err(faults) => return Ok(complain(&faults, at.output)),
    };
    if at.realm.is_none() {
        at.realm.clone_from(&wanted.realm);
    }
    admin_context::run(&at, |context| {
        let plan = apply::plan(&context.admin, context.realm()?, &wanted, prune)?;
        if dry_run {
            let judged = plan.judge(&context.admin)?;
            show(&plan, context.output, Some(&judged));
            return Ok(match judged.faults.is_empty() {
                true => exit_code(plan.is_empty()),
                false => ExitCode::from(COULD_NOT_RUN),
            });
        }
        let carried = plan.carry_out(&context.admin)?;
        if carried.faults.is_empty() {
            show(&plan, context.output, None);
            return Ok(ExitCode::SUCCESS);
        }
        Ok(refused(&carried, context.output))
    })
}

/// Says what was refused, and how much was done all the same.
fn refused(carried: &Carried, output: Output) -> ExitCode {
    let Carried { done, faults, left } = carried;
    if output == Output::Json {
        say_json(&json!({ "faults": faults, "changed": done, "left": left }));
        return ExitCode::from(COULD_NOT_RUN);
    }
    let code = complain(faults, output);
    say(format_args!("{done} changed, {} refused, {left} left as they were", faults.len()));
    code
}

#[expect(clippy::print_stderr, reason = "faults are the result of this command")]
fn complain_of(faults: &[Fault]) {
    faults.iter().for_each(|fault| eprintln!("{}", model::printable::lines(&fault.to_string())));
}

fn complain(faults: &[Fault], output: Output) -> ExitCode {
    match output {
        Output::Text => complain_of(faults),
        Output::Json => say_json(&json!({ "faults": faults })),
    }
    ExitCode::from(COULD_NOT_RUN)
}

/// Says what the plan has changed; or, where it was judged alone, would change, and what of it would be refused.
fn show(plan: &Plan, output: Output, judged: Option<&Carried>) {
    let refused = judged.filter(|judged| !judged.faults.is_empty());
    if output == Output::Json {
        let applied = judged.is_none();
        let mut told = json!({ "applied": applied, "changes": plan.changes, "notices": plan.notices });
        if let Some((members, refused)) = told.as_object_mut().zip(refused) {
            members.insert("faults".to_owned(), json!(refused.faults));
            members.insert("left".to_owned(), json!(refused.left));
        }
        return say_json(&told);
    }
    for change in &plan.changes {
        let sign = match change.action {
            Action::Add => '+',
            Action::Change => '~',
            Action::Remove => '-',
        };
        say(format_args!("{sign} {} {:?}", change.kind.name(), change.name));
        for difference in &change.differences {
            say_line(format_args!("    {}: {} → {}", difference.field, difference.from, difference.to));
        }
    }
    plan.notices.iter().for_each(say);
    match (plan.changes.len(), judged) {
        (0, _) => say("nothing to do"),
        (count, None) => say(format_args!("\n{count} changed")),
        (count, Some(judged)) if judged.faults.is_empty() => say(format_args!("\n{count} would change")),
        (_, Some(Carried { done, faults, left })) => {
            let left = if *left == 0 { String::new() } else { format!(", {left} be left as they are") };
            say(format_args!("\n{done} would change, {} be refused{left}", faults.len()));
            complain_of(faults);
        }
    }
}

/// `bastide realm export`: what [`run`] takes back.
///
/// # Errors
/// Something cannot be read.
pub(super) fn export(context: &AdminContext, hashes: bool) -> anyhow::Result<()> {
    let settings = context.call("GET", &context.path(&[])?, None)?;
    let mut clients = Map::new();
    let flag = if hashes { "?hashes=true" } else { "" };
    for mut client in context.admin.list(&format!("{}{flag}", context.path(&["clients"])?), true)? {
        let declared = client.get("declared") == Some(&json!(true));
        let id = text(&client, "id").to_owned();
        if let Some(members) = client.as_object_mut() {
            members.remove("declared");
            members.remove("id");
        }
        // Those of the configuration stand there.
        if !declared {
            clients.insert(id, client);
        }
    }
    let mut users = Map::new();
    for mut user in context.admin.list(&context.path(&["users"])?, true)? {
        let (id, username) = (text(&user, "id").to_owned(), text(&user, "username").to_owned());
        let Some(members) = user.as_object_mut() else { continue };
        for shown in ["username", "created", "updated"] {
            members.remove(shown);
        }
        if hashes {
            let answer = context.admin.call("GET", &context.path(&["users", &id, "password"])?, None)?;
            if answer.status != 404 {
                let hash = answer.done()?;
                members.insert("password_hash".to_owned(), hash.get("hash").cloned().unwrap_or_default());
            }
        }
        users.insert(username, user);
    }
    let document = json!({
        "realm": context.realm()?, "settings": settings, "clients": clients, "users": users,
    });
    say_json(&document);
    Ok(())
}
