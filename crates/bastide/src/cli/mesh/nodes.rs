//! `bastide mesh token`, `nodes`, `evict` and `admit`: nodes with an agent. All but `nodes` go by the
//! administration of the running process, or to the store when none runs: either way they are
//! events of the audit log.

use std::process::ExitCode;
use std::time::Duration;

use ::mesh::node;
use keys::SystemRandom;
use serde_json::{Value, json};
use store::Store;

use super::{because, refuse, tell};
use crate::admin::client::AdminClient;
use crate::admin::resource::NewToken;
use crate::cli::admin_context::{below, text};
use crate::cli::{Output, exit_code, say, say_json, say_line, span};

/// Makes a join token and prints it.
///
/// # Errors
/// There is no answer.
pub(super) fn token(
    admin: &AdminClient,
    name: &str,
    life: Duration,
    why: Option<&str>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let body = json!(NewToken { expires_in: Some(life.as_secs()) });
    let path = below(&["nodes"], &[name, "token"]) + &because(why);
    let answer = admin.call("POST", &path, Some(&body))?;
    Ok(tell(&answer, output, || answer.body.clone(), || text(&answer.body, "token").to_owned()))
}

/// Lists the nodes that are attested, and says what agents know the control plane by.
///
/// # Errors
/// The store cannot be read.
pub(super) async fn list(store: &Store, output: Output) -> anyhow::Result<ExitCode> {
    let pin = node::server_pin(store, &SystemRandom::new()).await?;
    let (nodes, evicted) = (node::nodes(store).await?, node::all_kept_out(store).await?);
    match output {
        Output::Json => say_json(&json!({ "pin": pin.to_string(), "nodes": nodes, "evicted": evicted })),
        Output::Text => {
            say(format_args!("pin {pin}"));
            let now = store.clock().now();
            for record in nodes {
                let left = span(record.ends.since(now).as_secs());
                say_line(format_args!("  {} by {}, attested for {left} more", record.node, record.by));
            }
            for kept_out in evicted {
                say_line(format_args!("  {} evicted", kept_out.node));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets a node have nothing more, and not come again.
///
/// # Errors
/// There is no answer.
pub(super) fn evict(
    admin: &AdminClient,
    name: &str,
    why: Option<&str>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let answer = admin.call("PUT", &eviction(name, why), None)?;
    if !answer.is_done() {
        return Ok(refuse(&answer.complaint(), output));
    }
    let count = answer.body.get("keys").and_then(Value::as_u64).unwrap_or_default();
    match output {
        Output::Json => say_json(&json!({ "evicted": count })),
        Output::Text if count == 1 => say(format_args!("1 key of {name} is no longer known; it is kept out")),
        Output::Text => say(format_args!("{count} keys of {name} are no longer known; it is kept out")),
    }
    Ok(exit_code(count > 0))
}

/// Lets a node come again that was evicted.
///
/// # Errors
/// There is no answer.
pub(super) fn admit(
    admin: &AdminClient,
    name: &str,
    why: Option<&str>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let answer = admin.call("DELETE", &eviction(name, why), None)?;
    let admitted = answer.is_done();
    if !admitted && answer.status != 404 {
        return Ok(refuse(&answer.complaint(), output));
    }
    match output {
        Output::Json => say_json(&json!({ "admitted": admitted })),
        Output::Text if admitted => say(format_args!("{name} may come again")),
        Output::Text => say(format_args!("{name} was not evicted")),
    }
    Ok(exit_code(admitted))
}

fn eviction(name: &str, why: Option<&str>) -> String {
    below(&["nodes"], &[name, "eviction"]) + &because(why)
}
