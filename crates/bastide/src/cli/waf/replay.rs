//! `bastide waf replay`: which requests of the log other settings would block or let
//! through.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use model::printable;
use serde_json::{Value, json};

use super::log::{self, Line, Unreadable};
use super::rules::{self, Overrides};
use super::settings::{Plan, log_of};
use super::verdict::{Outcome, Reason, replay};
use crate::cli::help::help;
use crate::cli::{Output, exit_code, say, say_json};
use crate::config::counted;

/// What is compared with when nothing else is said.
const DEFAULT: &str = "bastide.yaml";
/// Requests of one kind that a report lists without `--limit`.
const SHOWN: usize = 10;

/// Arguments of `bastide waf replay`.
#[derive(Debug, Args)]
#[command(after_help = help(PROSE, CODES, EXAMPLES))]
pub(super) struct ReplayArguments {
    /// Files or folders of the firewall's log; `-` is standard input. With --config the log
    /// that it names.
    #[arg(value_name = "LOG", required_unless_present = "config")]
    logs: Vec<PathBuf>,
    /// Compare with the firewalls of this configuration, route by route; without other settings
    /// `bastide.yaml`.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// How many requests of each kind are listed.
    #[arg(long, value_name = "N", default_value_t = SHOWN)]
    limit: usize,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

const PROSE: &str = "\
Verdicts are computed from the scores and matches that were logged. What these do not show is
counted as undecidable, with the reason, and never guessed: a paranoia level that did not run,
rules after one that stopped a request. To try a higher level, run with `paranoia_detection` at that
level for a while. In detect mode \"blocked\" is what block mode would have done. Rules that were not
loaded then cannot be seen: use `bastide waf test` for those.";

const CODES: &str = "0 no verdict changes, 1 some do or are undecidable, 2 wrong usage, 3 the log cannot be read, or the configuration has faults";

const EXAMPLES: &str = "\
bastide waf replay bastide-state/firewall
bastide waf replay --inbound-threshold 10 bastide-state/firewall
bastide waf replay --paranoia 2 bastide-state/firewall/access-0000000042-1795384267123.jsonl
bastide waf replay --exclude 942100:ARGS:comment bastide-state/firewall
bastide waf replay --config new.yaml bastide-state/firewall --output json";

/// Prints which verdicts would change; the exit code is 1 if any would.
///
/// # Errors
/// The log cannot be read, or the configuration has faults.
pub(super) fn run(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    let by_default = Path::new(DEFAULT).is_file().then(|| Path::new(DEFAULT));
    let compared = arguments.config.as_deref().or(by_default.filter(|_| !arguments.overrides.are_given()));
    let (plan, named) = match compared {
        Some(path) => {
            let log = log_of(&rules::configuration(path)?);
            (Plan::of_configuration(path, &arguments.overrides)?, Some(log))
        }
        None if !arguments.overrides.are_given() => bail!(
            "choose what to compare with: --paranoia, --inbound-threshold, --outbound-threshold, --exclude or --config; here is no {DEFAULT}"
        ),
        None => (Plan::of_options(&arguments.overrides), None),
    };
    let logs = match named.filter(|_| arguments.logs.is_empty()) {
        Some(log) => vec![log],
        None => arguments.logs.clone(),
    };
    let mut report = Report::new(arguments.limit);
    report.unreadable = log::read(&logs, |line| report.take(&line, &plan))?;
    if report.lines == 0 && report.unreadable.lines > 0 {
        bail!("not a firewall log: {}", report.unreadable.first.unwrap_or_default());
    }
    match arguments.output {
        Output::Text => say(report.text()),
        Output::Json => say_json(&report.json()),
    }
    Ok(exit_code(report.changes() == 0 && report.undecidable.is_empty()))
}

/// A request of which something is said.
#[derive(Clone, Debug)]
struct Sample {
    id: String,
    what: String,
    route: String,
    rules: Vec<u64>,
    inbound: [u32; 4],
    outbound: [u32; 4],
}

impl Sample {
    fn of(line: &Line) -> Self {
        let mut rules: Vec<u64> =
            line.found.rules.iter().filter(|found| found.judges.is_none()).map(|found| found.id).collect();
        rules.dedup();
        Self {
            id: line.request.clone(),
            what: format!("{} {}{}", line.method, line.host, line.path),
            route: line.route.clone(),
            rules,
            inbound: line.found.scores.inbound_levels,
            outbound: line.found.scores.outbound_levels,
        }
    }

    fn text(&self) -> String {
        let rules: Vec<String> = self.rules.iter().map(u64::to_string).collect();
        let rules =
            if rules.is_empty() { "no rule".to_owned() } else { format!("rules {}", rules.join(" ")) };
        let levels = format!("{:?}", self.inbound);
        let asked = format!("{} {} (route {:?})", self.id, self.what, self.route);
        format!("{}: {rules}; inbound by level {levels}", printable::line(&asked))
    }

    fn json(&self) -> Value {
        json!({
            "request": self.id,
            "what": self.what,
            "route": self.route,
            "rules": self.rules,
            "inbound_levels": self.inbound,
            "outbound_levels": self.outbound,
        })
    }
}

/// What a log came to.
#[derive(Debug)]
pub(super) struct Report {
    show: usize,
    pub(super) lines: u64,
    unreadable: Unreadable,
    blocked: u64,
    passed: u64,
    pub(super) newly_blocked: u64,
    pub(super) newly_passed: u64,
    answers_unseen: u64,
    pub(super) undecidable: BTreeMap<Reason, u64>,
    elsewhere: u64,
    samples_blocked: Vec<Sample>,
    samples_passed: Vec<Sample>,
}

impl Report {
    pub(super) fn new(show: usize) -> Self {
        Self {
            show,
            lines: 0,
            unreadable: Unreadable::default(),
            blocked: 0,
            passed: 0,
            newly_blocked: 0,
            newly_passed: 0,
            answers_unseen: 0,
            undecidable: BTreeMap::new(),
            elsewhere: 0,
            samples_blocked: Vec::new(),
            samples_passed: Vec::new(),
        }
    }

    /// Adds a line.
    pub(super) fn take(&mut self, line: &Line, plan: &Plan) {
        self.lines += 1;
        let outcome = match plan.of(&line.route) {
            Ok(settings) => replay(line, settings),
            Err(_) if line.is_refused_elsewhere() => Outcome::RefusedElsewhere,
            Err(reason) => Outcome::Undecidable(reason),
        };
        match outcome {
            Outcome::Same { blocked: true } => self.blocked += 1,
            Outcome::Same { blocked: false } => self.passed += 1,
            Outcome::RefusedElsewhere => self.elsewhere += 1,
            Outcome::Undecidable(reason) => *self.undecidable.entry(reason).or_default() += 1,
            Outcome::NewlyBlocked => {
                self.newly_blocked += 1;
                if self.samples_blocked.len() < self.show {
                    self.samples_blocked.push(Sample::of(line));
                }
            }
            Outcome::NewlyPassed { answer_unseen } => {
                self.newly_passed += 1;
                self.answers_unseen += u64::from(answer_unseen);
                if self.samples_passed.len() < self.show {
                    self.samples_passed.push(Sample::of(line));
                }
            }
        }
    }

    pub(super) fn changes(&self) -> u64 {
        self.newly_blocked + self.newly_passed
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}: {} stay blocked, {} still pass, {} were refused by other steps",
            counted(self.lines, "inspected request"),
            self.blocked,
            self.passed,
            self.elsewhere
        );
        let unseen = match self.answers_unseen {
            0 => String::new(),
            count => format!(" (of {count} nobody has seen the answer, which rules might stop)"),
        };
        for (count, what, rest, samples) in [
            (self.newly_blocked, "newly blocked", "", &self.samples_blocked),
            (self.newly_passed, "newly let through", unseen.as_str(), &self.samples_passed),
        ] {
            let _ = write!(text, "\n{what}: {count}{rest}");
            for sample in samples {
                let _ = write!(text, "\n  {}", sample.text());
            }
            let further = count.saturating_sub(u64::try_from(samples.len()).unwrap_or(u64::MAX));
            if further > 0 {
                let _ = write!(text, "\n  and {further} more");
            }
        }
        let _ = write!(text, "\nundecidable: {}", self.undecidable.values().sum::<u64>());
        for (reason, count) in &self.undecidable {
            let _ = write!(text, "\n  {count}: {reason}");
        }
        if let Some(first) = &self.unreadable.first {
            let _ = write!(text, "\nunreadable lines: {} (first {first})", self.unreadable.lines);
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let reasons = self.undecidable.iter().map(|(reason, count)| (reason.name().to_owned(), json!(count)));
        let samples = |samples: &[Sample]| samples.iter().map(Sample::json).collect::<Vec<_>>();
        json!({
            "requests": self.lines,
            "unreadable": self.unreadable.lines,
            "refused_elsewhere": self.elsewhere,
            "still_blocked": self.blocked,
            "still_passing": self.passed,
            "newly_blocked": { "count": self.newly_blocked, "samples": samples(&self.samples_blocked) },
            "newly_passed": {
                "count": self.newly_passed,
                "answers_unseen": self.answers_unseen,
                "samples": samples(&self.samples_passed),
            },
            "undecidable": {
                "count": self.undecidable.values().sum::<u64>(),
                "by_reason": reasons.collect::<serde_json::Map<_, _>>(),
            },
        })
    }
}
