//! `bastide mesh tap`: the calls of a proxy, as they end. What is shown is what the proxy writes
//! to its audit log anyway, read from there: the proxy does nothing for it and knows nothing of
//! it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use audit::follow::Follower;
use clap::{Args, ValueHint};
use model::event::{AccessEvent, Outcome, Step};
use model::printable;
use serde_json::{Value, json};

use super::help::help;
use super::key::date_of;
use super::{Output, say, say_json_line};

/// How often the log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Arguments of `bastide mesh tap`.
#[derive(Debug, Args)]
#[command(after_help = help(PROSE, CODES, EXAMPLES))]
pub struct TapArguments {
    /// The calls of `bastide run --service NAME`; `--config` is then the configuration shared by the
    /// mesh's services. Default: those of the gateway of `--config`.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// An audit log's folder, instead of that of the configuration.
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    from_log: Option<PathBuf>,
    /// Calls by this caller: the end of its id, such as `orders`.
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// Calls with this method.
    #[arg(long)]
    method: Option<String>,
    /// Calls of paths that begin with this.
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// Calls that were answered with this status, or one of its class: `403`, `5xx`.
    #[arg(long, value_parser = status)]
    status: Option<Statuses>,
    /// Calls that policies denied, or would deny without `danger_dry_run`.
    #[arg(long)]
    denied: bool,
    /// Ends after so many calls. Default: at Ctrl-C.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Ends after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

const PROSE: &str = "\
One line for each call, when it has ended: time, caller, method, path, decision, status, latency. With
--output json, one object per line. `bastide explain ID` says why.

It reads the audit log of the proxy, and needs permission to do so: the proxy itself is not asked, and
nothing that happens here can slow it down.";

const CODES: &str = "0 ended as requested, 2 wrong usage, 3 something cannot be read";

const EXAMPLES: &str = "\
bastide mesh tap --service payments --config mesh.yaml
bastide mesh tap --service payments --config mesh.yaml --from orders --denied
bastide mesh tap --from-log /var/lib/bastide/audit --status 5xx --output json";

/// Which statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Statuses {
    first: u16,
    last: u16,
}

fn status(text: &str) -> Result<Statuses, String> {
    let wrong = || format!("expected a status such as 403 or a class such as 5xx, found {text:?}");
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().map_err(|_| wrong())?;
        let fits = (1..=5).contains(&class);
        return fits.then_some(Statuses { first: class * 100, last: class * 100 + 99 }).ok_or_else(wrong);
    }
    let status = text.parse().map_err(|_| wrong())?;
    Ok(Statuses { first: status, last: status })
}

/// Prints calls from the audit log as they end.
///
/// # Errors
/// The configuration or the log cannot be read.
pub async fn run(arguments: &TapArguments, config: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let folder = match &arguments.from_log {
        Some(folder) => folder.clone(),
        None => {
            let service = arguments.service.as_deref();
            super::check::load_service_or_report(service, config, output)?.audit.folder
        }
    };
    let mut follower = Follower::at_end(&folder)?;
    let end = arguments.seconds.map(|seconds| tokio::time::Instant::now() + Duration::from_secs(seconds));
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    while left > 0 && super::is_heard() && end.is_none_or(|end| tokio::time::Instant::now() < end) {
        let more = follower.look(&mut |stored| {
            if left > 0 && arguments.shows(&stored.event) {
                left -= 1;
                match output {
                    Output::Text => say(line(&stored.event)),
                    Output::Json => say_json_line(&to_json(&stored.event)),
                }
            }
        })?;
        if !more {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl TapArguments {
    fn shows(&self, event: &AccessEvent<'_>) -> bool {
        let is_from = |name: &String| {
            event.principal == name.as_str()
                || event.principal.strip_suffix(name.as_str()).is_some_and(|before| before.ends_with('/'))
        };
        self.from.as_ref().is_none_or(is_from)
            && self.method.as_ref().is_none_or(|method| event.method == method.as_str())
            && self.path.as_ref().is_none_or(|prefix| event.path.starts_with(prefix.as_str()))
            && self.status.is_none_or(|of| (of.first..=of.last).contains(&event.status))
            && (!self.denied || decision(event) != "allowed")
    }
}

/// What policies said of it.
fn decision(event: &AccessEvent<'_>) -> &'static str {
    let tried = event.decision.as_deref().is_some_and(|record| record.would_deny.is_some());
    match event.outcome {
        Outcome::Denied if event.step == Step::Authorize => "denied",
        Outcome::Denied => "refused",
        _ if tried => "would deny",
        Outcome::Allowed | Outcome::Failed => "allowed",
    }
}

fn caller<'e>(event: &'e AccessEvent<'_>) -> &'e str {
    if event.principal.is_empty() { "nobody" } else { &event.principal }
}

fn line(event: &AccessEvent<'_>) -> String {
    let why = if event.reason.is_empty() { String::new() } else { format!(": {}", event.reason) };
    let asked = match event.method.as_ref() {
        "" if event.step == Step::Accept => "(connection)".to_owned(),
        method => format!("{method} {}{}", event.host, event.path),
    };
    let line = format!(
        "{} {} {asked} {} {} {:.3} ms  {}{why}",
        date_of(event.time.unix_seconds()),
        caller(event),
        decision(event),
        event.status,
        event.duration_nanos as f64 / 1e6,
        event.id,
    );
    printable::line(&line).into_owned()
}

fn to_json(event: &AccessEvent<'_>) -> Value {
    let user = event.decision.as_deref().and_then(|record| record.read.get("context.user.id"));
    json!({
        "id": event.id.to_string(), "time": date_of(event.time.unix_seconds()),
        "caller": event.principal, "caller_type": event.principal_kind.name(), "user": user,
        "method": event.method, "host": event.host, "path": event.path, "route": event.route,
        "decision": decision(event), "step": event.step.name(), "reason": event.reason,
        "policies": event.decision.as_deref().map(|record| record.policies.clone()),
        "status": event.status, "milliseconds": event.duration_nanos as f64 / 1e6,
        "trace_id": event.trace_id,
    })
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    #[test]
    fn a_call_is_one_line_whatever_its_client_sent() {
        let sent = "a\u{1b}]0;x\u{7}\r\n2026-11-29 all is well\u{9b}2J\u{7f}\u{202e}";
        let mut event = AccessEvent::bare(
            "019a8f0c3b7e5d1f2a4c6e8091b3d5f7".parse().unwrap(),
            Timestamp::from_unix_seconds(0),
        );
        for field in
            [&mut event.method, &mut event.host, &mut event.path, &mut event.principal, &mut event.reason]
        {
            *field = sent.into();
        }
        let shown = line(&event);
        assert!(!shown.chars().any(printable::is_control), "{shown:?}");
        assert_eq!(shown.matches("a\\u{1b}]0;x\\u{7}\\u{d}\\u{a}2026").count(), 5, "{shown}");
    }
}
