//! `bastide mesh workload`: workloads that are registered beside those of the configuration, by the
//! administration of the running process, or on the store when none runs.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::tell;
use crate::admin::client::{AdminClient, Answer};
use crate::cli::admin_context::{below, text};
use crate::cli::help::examples;
use crate::cli::{Output, say_json, say_line};
use crate::config::NewWorkload;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum WorkloadCommand {
    /// Registers a workload: its processes get an identity at once.
    #[command(after_help = examples(
        "bastide mesh workload add orders --uid 1000\n\
         bastide mesh workload add payments --path /usr/bin/payments --sha256 9f86d0…\n\
         bastide mesh workload add cache --unit cache.service --node edge-1"
    ))]
    Add {
        /// Its name.
        name: String,
        #[command(flatten)]
        what: What,
    },
    /// Redefines which processes a registered workload is. Their documents stay valid until they expire.
    #[command(after_help = examples("bastide mesh workload change orders --uid 1001 --uid 1002"))]
    Change {
        /// Its name.
        name: String,
        #[command(flatten)]
        what: What,
    },
    /// Lists the workloads, those of the configuration too.
    #[command(after_help = examples(
        "bastide mesh workload list\n\
         bastide mesh workload list --output json"
    ))]
    List,
    /// Shows a workload.
    #[command(after_help = examples("bastide mesh workload show orders --output json"))]
    Show {
        /// Its name.
        name: String,
    },
    /// Removes a registered workload: its processes get no more documents, and those they have are revoked.
    #[command(after_help = examples("bastide mesh workload remove orders"))]
    Remove {
        /// Its name.
        name: String,
    },
}

/// Which processes: at least one condition. All that are given have to hold; of several values of
/// one, any.
#[derive(Clone, Debug, Args)]
pub(super) struct What {
    /// Its path in the trust domain. Default: its present one, else its name.
    #[arg(long, value_name = "PATH")]
    id: Option<String>,
    /// What distinguishes it if one process has several identities. Default: its name.
    #[arg(long)]
    hint: Option<String>,
    /// The user that it runs as; may be given several times, like all options below.
    #[arg(long)]
    uid: Vec<u32>,
    /// The group that it runs as.
    #[arg(long)]
    gid: Vec<u32>,
    /// Its executable: an absolute path.
    #[arg(long)]
    path: Vec<String>,
    /// The SHA-256 of its executable.
    #[arg(long)]
    sha256: Vec<String>,
    /// Its unit of the system's systemd.
    #[arg(long)]
    unit: Vec<String>,
    /// The id of its container.
    #[arg(long)]
    container: Vec<String>,
    /// The node with an agent where it runs. Default: the machine of the control plane.
    #[arg(long)]
    node: Vec<String>,
}

impl What {
    fn body(self) -> anyhow::Result<Value> {
        let Self { id, hint, uid, gid, path, sha256, unit, container, node } = self;
        let given = NewWorkload { id, hint, uid, gid, path, sha256, unit, container, node };
        Ok(serde_json::to_value(given)?)
    }
}

/// Lists, shows, registers, changes or removes workloads.
///
/// # Errors
/// There is no answer.
pub(super) fn run(admin: &AdminClient, command: WorkloadCommand, output: Output) -> anyhow::Result<ExitCode> {
    let place = |name: &str| below(&["workloads"], &[name]);
    let (answer, done) = match command {
        WorkloadCommand::List => {
            list(&admin.list("/v1/workloads", false)?, output);
            return Ok(ExitCode::SUCCESS);
        }
        WorkloadCommand::Show { name } => (admin.call("GET", &place(&name), None)?, ""),
        WorkloadCommand::Add { name, what } => {
            let condition = Some(("if-none-match", "*"));
            let answer = admin.call_if("PUT", &place(&name), condition, Some(&what.body()?))?;
            let there = || format!("a workload {name:?} is registered already; `change` redefines it");
            (explained(answer, there), "registered: ")
        }
        WorkloadCommand::Change { name, what } => {
            let answer = admin.call_if("PUT", &place(&name), Some(("if-match", "*")), Some(&what.body()?))?;
            let absent = || format!("no workload {name:?} is registered; `add` registers one");
            (explained(answer, absent), "changed: ")
        }
        WorkloadCommand::Remove { name } => {
            let answer = admin.call("DELETE", &place(&name), None)?;
            return Ok(tell(&answer, output, || json!({ "removed": name }), || format!("removed: {name}")));
        }
    };
    Ok(tell(&answer, output, || answer.body.clone(), || format!("{done}{}", line(&answer.body))))
}

/// What the condition of a call that was not met means here.
fn explained(mut answer: Answer, why: impl FnOnce() -> String) -> Answer {
    if answer.status == 412
        && let Some(detail) = answer.body.get_mut("detail")
    {
        *detail = Value::String(why());
    }
    answer
}

fn list(workloads: &[Value], output: Output) {
    match output {
        Output::Json => say_json(&workloads),
        Output::Text => workloads.iter().for_each(|one| say_line(line(one))),
    }
}

/// A workload in one line: its name in the mesh, and who is it.
fn line(workload: &Value) -> String {
    let mut line = text(workload, "id").to_owned();
    for key in ["uid", "gid", "path", "sha256", "unit", "container", "node"] {
        for value in workload.get(key).and_then(Value::as_array).into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            line += &format!("  {key} {value}");
        }
    }
    if workload.get("declared") == Some(&Value::Bool(true)) {
        line += "  (of the configuration)";
    }
    if let Some(why) = workload.get("set_aside").and_then(Value::as_str) {
        line += &format!("  (nobody: it is {why})");
    }
    line
}
