//! `bastide mesh prepare`, `activate`, `taint` and `revoke` of authorities: by the administration of
//! the running process, or on the store when none runs. Either way they are events of the audit log.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum as _;
use model::{Clock as _, Timestamp};
use serde_json::{Value, json};

use super::{AuthorityKind, because, refuse};
use crate::admin::client::{AdminClient, Answer};
use crate::cli::admin_context::{below, text};
use crate::cli::{Output, say_json, say_line};
use crate::process::clock::SystemClock;

/// Makes another authority.
///
/// # Errors
/// There is no answer.
pub(super) fn prepare(
    admin: &AdminClient,
    kind: AuthorityKind,
    why: Option<&str>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let kind = kind.to_possible_value().context("a kind of authority")?;
    let body = json!({ "kind": kind.get_name() });
    let answer = admin.call("POST", &(below(&["authorities"], &[]) + &because(why)), Some(&body))?;
    Ok(show(&answer, output))
}

/// Takes a step of an authority's life.
///
/// # Errors
/// There is no answer.
pub(super) fn step(
    admin: &AdminClient,
    beginning: &str,
    step: &str,
    why: Option<&str>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let list = admin.list(&below(&["authorities"], &[]), false)?;
    let id = match whole(&list, beginning) {
        Ok(id) => id,
        Err(why) => return Ok(refuse(&why, output)),
    };
    let path = below(&["authorities"], &[id, step]) + &because(why);
    let answer = admin.call("POST", &path, None)?;
    Ok(show(&answer, output))
}

/// The id that begins so: no authority is meant, or several.
fn whole<'l>(list: &'l [Value], beginning: &str) -> Result<&'l str, String> {
    let ids = list.iter().map(|one| text(one, "id"));
    match ids.filter(|id| id.starts_with(beginning)).collect::<Vec<_>>().as_slice() {
        [id] => Ok(*id),
        [] => Err(format!("no authority's id begins with {beginning:?}; see `bastide mesh status`")),
        several => Err(format!("{} ids begin with {beginning:?}; give more of it", several.len())),
    }
}

/// The authorities after the step.
fn show(answer: &Answer, output: Output) -> ExitCode {
    if !answer.is_done() {
        return refuse(&answer.complaint(), output);
    }
    let list = answer.body.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match output {
        Output::Json => say_json(&json!({ "authorities": list })),
        Output::Text => {
            let now = SystemClock::start().now();
            list.iter().for_each(|one| say_line(line(one, now)));
        }
    }
    ExitCode::SUCCESS
}

fn line(authority: &Value, now: Timestamp) -> String {
    let left = |name: &str| {
        let seconds = authority.get(name).and_then(Value::as_u64).unwrap_or_default();
        Timestamp::from_unix_seconds(seconds).since(now).as_secs()
    };
    let when = match text(authority, "state") {
        "prepared" => format!("signs in {} s, ", left("signs_from")),
        "active" => format!("signs for {} s, ", left("signs_until")),
        _ => String::new(),
    };
    let [kind, state, id] = ["kind", "state", "id"].map(|name| text(authority, name));
    format!("  {kind:8}{state:9} {id}  {when}ends in {} s", left("ends"))
}
