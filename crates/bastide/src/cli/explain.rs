//! `bastide explain`: which step decided a request, which policy, on which values.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use model::event::{AccessEvent, FirewallRecord, Outcome, Step};
use model::{RequestId, printable};
use policy::explain::{Explanation, explain_record, explain_request};
use policy::testing::{Identity, OneOrMany, What, Who};
use serde_json::json;

use super::check::{self, Loaded};
use super::help::help;
use super::{Output, WrongUsage, exit_code, refuse, say, say_json};
use crate::config::Configuration;
use crate::process::generations::Generations;
use crate::process::running;
use crate::wire;

/// Arguments of `bastide explain`.
#[derive(Debug, Args)]
#[command(after_help = help("", CODES, EXAMPLES))]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["id", "as_who", "url"]))]
pub struct ExplainArguments {
    /// The request's id, from the problem document, the `x-request-id` of the answer or
    /// the audit log.
    #[arg(conflicts_with_all = ["as_who", "method", "url"])]
    id: Option<RequestId>,
    /// The caller: `User:alice`, `ApiKey:importer`, `anonymous` (the default with --url); also as
    /// explanations print it, `User::"alice"`.
    #[arg(long = "as", value_name = "WHO", requires = "url")]
    as_who: Option<String>,
    /// A role of the caller; may be given several times.
    #[arg(long = "role", requires = "as_who")]
    roles: Vec<String>,
    /// An authentication method of the caller (`amr`), for example `otp`.
    #[arg(long = "amr", requires = "as_who")]
    amr: Vec<String>,
    /// A scope of the caller.
    #[arg(long = "scope", requires = "as_who")]
    scopes: Vec<String>,
    /// The request's method.
    #[arg(long, requires = "url", default_value = "GET")]
    method: String,
    /// The requested URL: `shop.example.org/orders/alice/17`.
    #[arg(long)]
    url: Option<String>,
    /// A header of the request, `name: value`; may be given several times.
    #[arg(long = "header", requires = "url", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// The client's address.
    #[arg(long, requires = "url")]
    address: Option<IpAddr>,
    /// The time, RFC 3339: `2026-11-23T09:30:00Z`.
    #[arg(long, requires = "url")]
    time: Option<String>,
    /// A call to this service of the mesh, in the log of its `bastide run`; `--config` is then the
    /// configuration shared by the mesh's services.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The configuration.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = clap::ValueHint::FilePath)]
    config: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

const CODES: &str = "0 the request was (would be) allowed, 1 it was not or is not in the log, 2 wrong usage, 3 could not run (faults of the configuration included)";

const EXAMPLES: &str = "\
bastide explain 019a8f0c3b7e5d1f2a4c6e8091b3d5f7
bastide explain --as User:alice --role customer --url shop.example.org/orders/bob/17
bastide explain 019a8f0c3b7e5d1f2a4c6e8091b3d5f7 --service payments --config mesh.yaml
bastide explain --as Service:spiffe://shop.example/orders --service payments --config mesh.yaml --url payments/charges
bastide explain --as User:bob --role merchant --method POST --url shop.example.org/payments/refunds --amr otp";

/// Explains a recorded or a hypothetical request; the exit code is 1 if it is refused, or no event
/// has this id.
///
/// # Errors
/// The log cannot be read, or the policies of the event are not kept any more.
pub fn run(arguments: &ExplainArguments) -> anyhow::Result<ExitCode> {
    let (service, path, output) = (arguments.service.as_deref(), &arguments.config, arguments.output);
    if let (None, Some(id)) = (service, arguments.id) {
        return match check::load_or_running(path, output)? {
            Loaded::Whole(configuration) => explain_event(&Log::of(&configuration), id, output),
            Loaded::Running(state) => explain_event(&Log::of_running(&state), id, output),
        };
    }
    let configuration = check::load_service_or_report(service, path, output)?;
    match arguments.id {
        Some(id) => explain_event(&Log::of(&configuration), id, output),
        None => {
            let who = arguments.as_who.as_deref().unwrap_or("anonymous");
            explain_hypothetical(arguments, &configuration, who)
        }
    }
}

/// Where the events of a gateway are, and what its policies were.
struct Log<'c> {
    folder: PathBuf,
    state: &'c Path,
    /// Absent where the file has faults.
    configuration: Option<&'c Configuration>,
}

impl<'c> Log<'c> {
    fn of(configuration: &'c Configuration) -> Self {
        let folder = configuration.audit.folder.clone();
        Self { folder, state: &configuration.state, configuration: Some(configuration) }
    }

    /// As the process says that runs on this state folder.
    fn of_running(state: &'c Path) -> Self {
        let folder = running::audit_folder(state).unwrap_or_else(|| state.join("audit"));
        Self { folder, state, configuration: None }
    }
}

fn explain_event(log: &Log<'_>, id: RequestId, output: Output) -> anyhow::Result<ExitCode> {
    let Log { folder, state, configuration } = log;
    let Some(stored) = audit::read::find(folder, id)? else {
        let why = format!("no event of request {id} in {}", folder.display());
        return Ok(refuse(&why, output));
    };
    let event = stored.event;
    let explanation = match &event.decision {
        None => None,
        Some(record) => {
            let policies = Generations::of(state).get(record.generation)?;
            Some(explain_record(&policies, record)?)
        }
    };
    match output {
        Output::Text => {
            say(describe(&event));
            if let Some(found) = &event.firewall {
                say(describe_firewall(found, configuration.is_some_and(|known| skips(known, &event.route))));
            }
            if let Some(explanation) = &explanation {
                say(format_args!("\n{explanation}").to_string().trim_end());
            }
        }
        Output::Json => say_json(&json!({ "event": event, "decision": explanation })),
    }
    Ok(exit_code(event.outcome != Outcome::Denied))
}

/// Whether attack rules skip the identity provider's own parameters on a route.
fn skips(configuration: &Configuration, route: &str) -> bool {
    let route = configuration.routes.iter().find(|known| known.name == route);
    route.is_some_and(|route| configuration.leads_to_identity(route))
        && configuration.firewalls.iter().any(|firewall| firewall.on_identity.is_some())
}

/// What the firewall found: one line, and two for each rule.
fn describe_firewall(found: &FirewallRecord, skips: bool) -> String {
    use std::fmt::Write as _;
    let decided = found.rule.map_or_else(String::new, |rule| format!(" by rule {rule}"));
    let mut text = format!(
        "firewall ({} mode): {}{decided}; anomaly score inbound {}, outbound {}",
        found.mode, found.verdict, found.scores.inbound, found.scores.outbound
    );
    if let Some(unread) = &found.unread {
        let _ = write!(text, "\n  the {}'s body was not read: {}", unread.body, printable::line(&unread.why));
    }
    for rule in &found.rules {
        let about = format!("{} phase {} {}: {}", rule.id, rule.phase, rule.variable, rule.msg);
        let _ = write!(text, "\n  {}", printable::line(&about));
        if !rule.data.is_empty() {
            let _ = write!(text, "\n    {}", printable::line(&rule.data));
        }
        if !rule.tags.is_empty() {
            let _ = write!(text, "\n    {}", printable::line(&rule.tags.join(", ")));
        }
    }
    if found.further > 0 {
        let _ = write!(text, "\n  and {} more", found.further);
    }
    if skips {
        text += "\n  attack rules skip the identity provider's own parameters here \
                 (waf.identity_parameters; `bastide waf check` lists them)";
    }
    text
}

/// One request in three lines.
fn describe(event: &AccessEvent<'_>) -> String {
    let who = match event.principal.as_ref() {
        "" => "nobody who proved anything".to_owned(),
        id => format!("{}::{id:?}", event.principal_kind.name()),
    };
    let what = match event.outcome {
        Outcome::Allowed => "allowed",
        Outcome::Denied => "refused",
        Outcome::Failed => "failed",
    };
    let why = if event.reason.is_empty() { String::new() } else { format!(": {}", event.reason) };
    let upstream = match event.upstream.as_ref() {
        "" => String::new(),
        upstream => format!(", upstream {upstream} after {} attempt(s)", event.attempts),
    };
    let asked = match event.method.as_ref() {
        // Refused before it could ask for anything.
        "" if event.step == Step::Accept => "a connection".to_owned(),
        method => format!("{method} {} {}", event.host, event.path),
    };
    let lines = [
        format!("{asked} from {} by {who}", event.client_address),
        format!("{what} by step {} with {}{why}", event.step.name(), event.status),
        format!("route {:?}{upstream}, {:.3} ms", event.route, event.duration_nanos as f64 / 1e6),
    ];
    lines.map(|line| printable::line(&line).into_owned()).join("\n")
}

fn parse_header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once(':').ok_or("expected `name: value`")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn explain_hypothetical(
    arguments: &ExplainArguments,
    configuration: &Configuration,
    who: &str,
) -> anyhow::Result<ExitCode> {
    let policies = wire::load_policies(configuration, 0)?;
    let wrong = |fault: String| anyhow::Error::new(WrongUsage(fault));
    let mut who = Who::Short(who.to_owned());
    if let Ok(principal) = who.principal(&policies)
        && principal.kind != model::PrincipalKind::Anonymous
    {
        who = Who::Long(Box::new(Identity {
            kind: principal.kind,
            id: principal.id,
            roles: arguments.roles.clone(),
            claims: std::collections::BTreeMap::new(),
            scopes: arguments.scopes.clone(),
            acr: None,
            amr: arguments.amr.clone(),
            issuer: None,
            credential: None,
        }));
    }
    let principal = who.principal(&policies).map_err(wrong)?;
    let url = arguments.url.as_deref().unwrap_or_default();
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, path) = url.find('/').map_or((url, "/"), |slash| url.split_at(slash));
    let mut what = What {
        method: Some(arguments.method.to_ascii_uppercase()),
        host: Some(host.to_owned()),
        path: Some(path.to_owned()),
        address: arguments.address,
        time: arguments.time.clone(),
        ..What::default()
    };
    let headers = arguments.headers.iter().cloned();
    what.headers.extend(headers.map(|(name, value)| (name, OneOrMany::One(value))));
    let finder = wire::Finder::new(configuration)?;
    let found = finder.find(&what);
    if let Err(why) = &found {
        match arguments.output {
            Output::Text => say(format_args!("refused before any policy is asked: {why}")),
            Output::Json => say_json(&json!({ "allowed": false, "refused": why })),
        }
        return Ok(ExitCode::FAILURE);
    }
    let (circumstances, request) = what.request(&policies, &|_| found.clone()).map_err(wrong)?;
    let explanation: Explanation = explain_request(&policies, &principal, &circumstances, &request);
    match arguments.output {
        Output::Text => say(explanation.to_string().trim_end()),
        Output::Json => say_json(&explanation),
    }
    Ok(exit_code(explanation.allowed))
}

#[cfg(test)]
mod tests {
    use model::Timestamp;
    use model::event::FirewallMatch;

    use super::*;

    #[test]
    fn an_event_is_described_in_lines_of_our_own() {
        let sent = "a\u{1b}[31m\u{7}\r\nallowed by nobody\u{9b}2J\u{7f}\u{202e}";
        let mut event = AccessEvent::bare(RequestId::new(1, 1), Timestamp::from_unix_seconds(0));
        let fields =
            [&mut event.method, &mut event.host, &mut event.path, &mut event.principal, &mut event.reason];
        for field in fields {
            *field = sent.into();
        }
        event.upstream = sent.into();
        let sent = || sent.to_owned();
        let rule = FirewallMatch {
            msg: sent(),
            data: sent(),
            variable: sent(),
            tags: vec![sent()],
            ..FirewallMatch::default()
        };
        let found = FirewallRecord { rules: vec![rule], ..FirewallRecord::default() };
        for (shown, lines) in [(describe(&event), 3), (describe_firewall(&found, false), 4)] {
            assert_eq!(shown.lines().count(), lines, "{shown}");
            assert!(shown.lines().all(|line| !line.chars().any(printable::is_control)), "{shown:?}");
        }
    }
}
