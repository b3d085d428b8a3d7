//! `bastide undocumented`: endpoints that clients asked a running gateway for and that
//! no document describes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::help::help;
use super::key::date_of;
use super::{Output, check, exit_code, say, say_json, say_line};

/// Longest answer of the admin listener that is read, bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How long the admin listener may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `bastide undocumented`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "The list is that of the running gateway, since it started. A route is noted only for what its\n\
     `validate:` document does not describe.",
    "0 none, 1 there are some, 2 wrong usage, 3 no gateway is running, or the configuration has faults",
    "bastide undocumented\n\
     bastide undocumented --output json | jq '.endpoints[].path'"
))]
pub struct UndocumentedArguments {
    /// The configuration file of the running gateway.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = clap::ValueHint::FilePath)]
    config: PathBuf,
    /// How the list is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Prints the endpoints that the running gateway noted; the exit code is 1 if there are any.
///
/// # Errors
/// No gateway is running on this configuration, or it cannot be asked.
pub fn run(arguments: &UndocumentedArguments) -> anyhow::Result<ExitCode> {
    let configuration = check::load_or_report(&arguments.config, arguments.output)?;
    let ready = configuration.state.join("ready.json");
    let text = std::fs::read_to_string(&ready)
        .with_context(|| format!("no gateway is running: cannot read {}", ready.display()))?;
    let ready: Value = serde_json::from_str(&text).context("ready.json")?;
    let admin: SocketAddr =
        ready.get("admin").and_then(Value::as_str).context("ready.json names no admin listener")?.parse()?;
    let report = ask(admin)?;
    let endpoints = report.get("endpoints").and_then(Value::as_array).cloned().unwrap_or_default();
    match arguments.output {
        Output::Json => say_json(&report),
        Output::Text => {
            let text = |value: &Value, key: &str| match value.get(key) {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => String::new(),
            };
            for endpoint in &endpoints {
                say_line(format_args!(
                    "{:>8}  {} {}  (route {:?}, last seen {})",
                    text(endpoint, "requests"),
                    text(endpoint, "method"),
                    text(endpoint, "path"),
                    text(endpoint, "route"),
                    date_of(endpoint.get("last_seen").and_then(Value::as_u64).unwrap_or(0) / 1_000_000_000),
                ));
            }
            match report.get("requests_to_others").and_then(Value::as_u64) {
                Some(0) | None => {}
                Some(others) => say(format_args!("{others:>8}  requests to others, which are not listed")),
            }
            if endpoints.is_empty() {
                say("none");
            }
        }
    }
    Ok(exit_code(endpoints.is_empty()))
}

/// Asks the admin listener. It is ours and on loopback: HTTP/1.0 is enough.
fn ask(admin: SocketAddr) -> anyhow::Result<Value> {
    let mut connection = TcpStream::connect_timeout(&admin, PATIENCE)
        .with_context(|| format!("no gateway is running: nobody answers on {admin}"))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    connection.write_all(b"GET /undocumented HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    connection.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the admin listener's answer is cut short")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("the admin listener answered {:?}", head.lines().next().unwrap_or_default());
    }
    Ok(serde_json::from_str(body)?)
}
