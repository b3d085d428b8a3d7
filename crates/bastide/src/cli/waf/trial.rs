//! `bastide waf test`: raw requests in, verdicts out.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use gateway::firewall::{mask, mask_name};
use model::event::{FirewallMatch, FirewallRaise, FirewallSide};
use model::{Clock as _, printable};
use serde_json::{Value, json};
use waf::{
    Budget, Connection, Intake, Match, Memory, MemoryLimits, RequestHead, ResponseHead, RuleSet, Scores,
    Side, Step, Transaction, Verdict,
};

use super::message::{MESSAGE_BYTES_MAX, Request, Response};
use super::profile::{Profile, Stopwatch, clock_cost};
use super::rules::{self as loading, ModeOption, Overrides};
use crate::cli::help::help;
use crate::cli::{COULD_NOT_RUN, Output, exit_code, say, say_json};
use crate::config::WafSettings;
use crate::process::clock::SystemClock;

/// How often a request is judged for its timing.
const ROUNDS: usize = 50;
/// Rules that a timing shows without `--limit`.
const TOP: usize = 20;

/// A phase begins without a budget, so that all of it is watched.
const WATCHED: Budget = Budget { work_max: 0 };

/// Arguments of `bastide waf test`.
#[derive(Debug, Args)]
#[command(after_help = help(PROSE, CODES, EXAMPLES))]
pub(super) struct TrialArguments {
    /// Raw HTTP/1 requests, one in a file; `-` is standard input. An answer to `name.http` is
    /// looked for in `name.response.http` beside it.
    #[arg(required = true, value_name = "REQUEST-FILE")]
    requests: Vec<PathBuf>,
    /// Rule files, globs, and folders (a release of the Core Rule Set, or `.conf` files); may be
    /// given several times.
    #[arg(long, value_name = "PATH", required_unless_present = "config")]
    rules: Vec<PathBuf>,
    /// Take rules and settings from this configuration instead.
    #[arg(long, short, value_name = "FILE", conflicts_with = "rules")]
    config: Option<PathBuf>,
    /// The route whose firewall is meant; without it the configuration's default.
    #[arg(long, requires = "config")]
    route: Option<String>,
    /// A raw HTTP/1 answer that every request is given. Answers are then inspected, whatever
    /// the rules say of that.
    #[arg(long, value_name = "FILE")]
    response: Option<PathBuf>,
    /// Block (rules after the one that decides do not run) or detect (all run).
    #[arg(long, value_enum)]
    mode: Option<ModeOption>,
    #[command(flatten)]
    overrides: Overrides,
    /// The client's address, for rules that look at it.
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.1")]
    from: IpAddr,
    /// Measure the processor time of each rule, most expensive first.
    #[arg(long)]
    timing: bool,
    /// How many rules a timing lists.
    #[arg(long, value_name = "N", default_value_t = TOP, requires = "timing")]
    limit: usize,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

const PROSE: &str = "\
A timing is the least of 50 rounds. What rules share (a decoded value, the search for literals) is
charged to the first rule that needs it; rules that are skipped without a look are not listed.";

const CODES: &str = "0 nothing was blocked, 1 something was, 2 wrong usage, 3 a file cannot be read, or the rules or the configuration have faults";

const EXAMPLES: &str = "\
bastide waf test --rules /opt/coreruleset request.http
printf 'GET /?q=1%27+OR+1=1-- HTTP/1.1\\r\\nHost: shop.example\\r\\n\\r\\n' |
  bastide waf test --rules /opt/coreruleset --paranoia 2 -
bastide waf test --config bastide.yaml --route orders --mode detect requests/*.http
bastide waf test --rules rules/*.conf --timing slow.http";

/// One request and what it came to.
struct Outcome {
    file: String,
    /// Request line, cut.
    line: String,
    verdict: Verdict,
    blocked: bool,
    scores: Option<Scores>,
    found: Vec<FirewallMatch>,
    further: u64,
    notes: Vec<String>,
    profile: Option<Profile>,
}

/// Prints what the rules do with requests; the exit code is 1 if one is blocked, 3 if the rules have
/// faults, which are printed.
///
/// # Errors
/// A file cannot be read or holds no request; the configuration has faults.
pub(super) fn run(arguments: &TrialArguments) -> anyhow::Result<ExitCode> {
    let rules = match loading::load_by(&settings(arguments)?) {
        Ok(rules) => rules,
        Err(faults) => {
            match arguments.output {
                Output::Text => faults.iter().for_each(say),
                Output::Json => say_json(&json!({ "faults": faults })),
            }
            return Ok(ExitCode::from(COULD_NOT_RUN));
        }
    };
    let mut outcomes = Vec::new();
    for path in &arguments.requests {
        outcomes.push(judge_file(arguments, &rules, path)?);
    }
    let blocked = outcomes.iter().filter(|outcome| outcome.blocked).count();
    match arguments.output {
        Output::Text => {
            for outcome in &outcomes {
                say(outcome.text(arguments.limit));
            }
            if outcomes.len() > 1 {
                say(format_args!("{blocked} of {} blocked", outcomes.len()));
            }
        }
        Output::Json => {
            let all: Vec<Value> = outcomes.iter().map(|outcome| outcome.json(arguments.limit)).collect();
            say_json(&json!({ "blocked": blocked, "requests": all }));
        }
    }
    Ok(exit_code(blocked == 0))
}

fn settings(arguments: &TrialArguments) -> anyhow::Result<WafSettings> {
    let mut settings = match &arguments.config {
        Some(path) => loading::settings_of(&loading::configuration(path)?, arguments.route.as_deref())?,
        None => WafSettings::of_rules(loading::typed(&arguments.rules)),
    };
    arguments.overrides.put_over(&mut settings);
    if let Some(mode) = arguments.mode {
        settings.settle_mode(mode.into());
    }
    if arguments.response.is_some() {
        settings.response_body.access = Some(true);
    }
    Ok(settings)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().take(MESSAGE_BYTES_MAX + 1).read_to_end(&mut bytes),
        false => std::fs::File::open(path)
            .and_then(|file| file.take(MESSAGE_BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > MESSAGE_BYTES_MAX {
        bail!("{} is larger than {} MiB", path.display(), MESSAGE_BYTES_MAX >> 20);
    }
    Ok(bytes)
}

fn judge_file(arguments: &TrialArguments, rules: &Arc<RuleSet>, path: &Path) -> anyhow::Result<Outcome> {
    let request = Request::parse(&read(path)?).with_context(|| path.display().to_string())?;
    let beside = path.with_extension("response.http");
    let answer = match &arguments.response {
        Some(path) => Some(path.clone()),
        None => beside.is_file().then_some(beside),
    };
    let response = match answer {
        Some(path) => Some(Response::parse(&read(&path)?).with_context(|| path.display().to_string())?),
        None => None,
    };
    let now_ms = i64::try_from(SystemClock::start().now().unix_millis()).unwrap_or(i64::MAX);
    let trial = Trial { rules, from: arguments.from, now_ms, request: &request, response: response.as_ref() };
    let mut transaction = trial.begin();
    let verdict = trial.run(&mut transaction, &mut ());
    let profile = arguments.timing.then(|| trial.profile());
    let mut notes = request.notes.clone();
    if let Some(response) = &response {
        notes.extend(response.notes.iter().map(|note| format!("answer: {note}")));
    }
    let line: String = String::from_utf8_lossy(&request.line).chars().take(100).collect();
    let matches: Vec<&Match> = transaction.matches().iter().filter(|found| found.log).collect();
    Ok(Outcome {
        file: path.display().to_string(),
        line,
        blocked: verdict != Verdict::Pass,
        verdict,
        scores: transaction.scores(),
        found: matches.into_iter().map(shown).collect(),
        further: transaction.matches_further(),
        notes,
        profile,
    })
}

/// A request to be judged.
struct Trial<'t> {
    rules: &'t Arc<RuleSet>,
    from: IpAddr,
    now_ms: i64,
    request: &'t Request,
    response: Option<&'t Response>,
}

impl Trial<'_> {
    fn begin(&self) -> Transaction {
        let connection = Connection {
            client_address: self.from,
            client_port: 40_000,
            server_address: IpAddr::from([127, 0, 0, 1]),
            server_port: 80,
        };
        let memory = Arc::new(Memory::new(MemoryLimits::default()));
        Transaction::new(Arc::clone(self.rules), memory, connection, "test", self.now_ms)
    }

    /// Takes it through its phases; the verdict of the first that stops it.
    fn run(&self, transaction: &mut Transaction, watch: &mut impl waf::Watch) -> Verdict {
        let verdict = self.phases(transaction, watch);
        let step = transaction.logging(self.now_ms, WATCHED);
        let _ = done(transaction, step, watch);
        verdict
    }

    fn phases(&self, transaction: &mut Transaction, watch: &mut impl waf::Watch) -> Verdict {
        let request = self.request;
        let fields = borrowed(&request.fields);
        let head = RequestHead {
            line: &request.line,
            method: &request.method,
            target: &request.target,
            protocol: &request.protocol,
            headers: &fields,
        };
        let step = transaction.request_headers(&head, WATCHED);
        let mut verdict = done(transaction, step, watch);
        if verdict == Verdict::Pass
            && transaction.needs_request_body()
            && !request.body.is_empty()
            && let Intake::Refused(refused) = transaction.request_body_chunk(&request.body)
        {
            verdict = refused;
        }
        if verdict == Verdict::Pass {
            let step = transaction.request_body_end(WATCHED);
            verdict = done(transaction, step, watch);
        }
        let Some(response) = self.response.filter(|_| verdict == Verdict::Pass) else { return verdict };
        let fields = borrowed(&response.fields);
        let head = ResponseHead { status: response.status, protocol: &response.protocol, headers: &fields };
        let step = transaction.response_headers(&head, WATCHED);
        verdict = done(transaction, step, watch);
        if verdict == Verdict::Pass
            && transaction.needs_response_body()
            && let Intake::Refused(refused) = transaction.response_body_chunk(&response.body)
        {
            verdict = refused;
        }
        if verdict == Verdict::Pass {
            let step = transaction.response_body_end(WATCHED);
            verdict = done(transaction, step, watch);
        }
        verdict
    }

    fn profile(&self) -> Profile {
        let rules = self.rules;
        let clock_cost = clock_cost();
        let round = |_| {
            let mut watch = Stopwatch::new(rules, clock_cost);
            let mut transaction = self.begin();
            let _ = self.run(&mut transaction, &mut watch);
            watch
        };
        let rounds: Vec<Stopwatch> = (0..ROUNDS).map(round).collect();
        Profile::of(rules, &rounds)
    }
}

fn done(transaction: &mut Transaction, mut step: Step, watch: &mut impl waf::Watch) -> Verdict {
    loop {
        match step {
            Step::Done(verdict) => return verdict,
            Step::Yield => step = transaction.resume_watched(Budget::UNLIMITED, watch),
        }
    }
}

fn borrowed(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect()
}

/// A match as the firewall's log shows it: masked.
fn shown(found: &Match) -> FirewallMatch {
    let side = |side| match side {
        Side::Inbound => FirewallSide::Inbound,
        Side::Outbound => FirewallSide::Outbound,
    };
    FirewallMatch {
        id: found.rule,
        phase: found.phase,
        severity: found.severity,
        msg: mask("", &found.message).into_owned(),
        data: mask(&found.variable, &found.log_data).into_owned(),
        variable: mask_name(&found.variable).into_owned(),
        tags: found.tags.clone(),
        adds: found
            .raises
            .iter()
            .map(|raise| FirewallRaise { side: side(raise.side), level: raise.level, score: raise.amount })
            .collect(),
        judges: found.judges.map(side),
        settles: found.settles,
        disruptive: found.disruptive,
        chain: found.is_chain,
        more: found.does_more,
    }
}

impl Outcome {
    fn verdict_text(&self) -> String {
        match &self.verdict {
            Verdict::Pass if self.found.is_empty() => "passed".to_owned(),
            Verdict::Pass => "passed, with matches".to_owned(),
            Verdict::Deny { status, cause: Some(cause), .. } => {
                format!("blocked with {status} by the engine itself: {cause}")
            }
            Verdict::Deny { status, rule, cause: None } => format!("blocked with {status} by rule {rule}"),
            Verdict::Drop { rule } => format!("blocked by rule {rule}, connection dropped"),
            Verdict::Redirect { status, location, rule } => {
                format!("redirected with {status} to {} by rule {rule}", String::from_utf8_lossy(location))
            }
        }
    }

    fn text(&self, top: usize) -> String {
        let mut text = format!("{}: {}\n  {}", self.file, self.verdict_text(), printable::line(&self.line));
        for note in &self.notes {
            let _ = write!(text, "\n  note: {note}");
        }
        if let Some(scores) = &self.scores {
            let _ = write!(
                text,
                "\n  anomaly score inbound {} of {}, outbound {} of {}; by level {:?} and {:?}; paranoia {} (rules run up to {})",
                scores.inbound,
                scores.threshold_inbound,
                scores.outbound,
                scores.threshold_outbound,
                scores.inbound_levels,
                scores.outbound_levels,
                scores.paranoia,
                scores.paranoia_detection
            );
        }
        for found in &self.found {
            let adds: String = found.adds.iter().map(|raise| format!(" +{}", raise.score)).collect();
            let severity = found.severity.map(|severity| format!(" severity {severity}")).unwrap_or_default();
            let _ = write!(
                text,
                "\n  {} phase {}{severity}{adds} {}: {}",
                found.id,
                found.phase,
                printable::line(&found.variable),
                printable::line(&found.msg)
            );
            if !found.data.is_empty() {
                let _ = write!(text, "\n      {}", printable::line(&found.data));
            }
        }
        if self.further > 0 {
            let _ = write!(text, "\n  and {} more matches of the same rules", self.further);
        }
        if let Some(profile) = &self.profile {
            let _ = write!(
                text,
                "\n  processor time of all rules that were looked at, {}: {:.1} µs",
                profile.rules.len(),
                micros(profile.total)
            );
            for (rule, time) in profile.rules.iter().take(top) {
                let share = 100.0 * micros(*time) / micros(profile.total).max(f64::MIN_POSITIVE);
                let _ = write!(text, "\n  {:>9.2} µs {share:>5.1} %  {rule}", micros(*time));
            }
        }
        text
    }

    fn json(&self, top: usize) -> Value {
        let (status, rule) = match &self.verdict {
            Verdict::Pass => (None, None),
            Verdict::Deny { status, rule, .. } | Verdict::Redirect { status, rule, .. } => {
                (Some(*status), Some(*rule))
            }
            Verdict::Drop { rule } => (None, Some(*rule)),
        };
        let verdict = match (self.blocked, self.found.is_empty()) {
            (true, _) => "blocked",
            (false, false) => "detected",
            (false, true) => "passed",
        };
        let mut json = json!({
            "file": self.file,
            "request": self.line,
            "verdict": verdict,
            "status": status,
            "rule": rule,
            "rules": self.found,
            "further": self.further,
            "notes": self.notes,
        });
        if let (Some(scores), Some(map)) = (&self.scores, json.as_object_mut()) {
            map.insert(
                "scores".to_owned(),
                json!({
                    "inbound": scores.inbound,
                    "outbound": scores.outbound,
                    "inbound_levels": scores.inbound_levels,
                    "outbound_levels": scores.outbound_levels,
                }),
            );
            map.insert("paranoia".to_owned(), json!(scores.paranoia));
            map.insert("paranoia_detection".to_owned(), json!(scores.paranoia_detection));
            let thresholds =
                json!({ "inbound": scores.threshold_inbound, "outbound": scores.threshold_outbound });
            map.insert("thresholds".to_owned(), thresholds);
        }
        if let (Some(profile), Some(map)) = (&self.profile, json.as_object_mut()) {
            let rules: Vec<Value> = profile
                .rules
                .iter()
                .take(top)
                .map(|(rule, time)| json!({ "rule": rule, "micros": micros(*time) }))
                .collect();
            map.insert("timing".to_owned(), json!({ "micros": micros(profile.total), "rules": rules }));
        }
        json
    }
}

fn micros(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
