//! `bastide waf exclude`: exclusions for false positives, each with its evidence.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use model::printable;
use serde_json::{Value, json};

use super::evidence::{Candidate, Evidence, Gathered};
use super::log;
use super::proposal::{Bar, Proposals};
use super::replay::Report;
use super::rules::Overrides;
use super::settings::Plan;
use crate::cli::help::help;
use crate::cli::{Output, exit_code, say, say_json};
use crate::config::{Exclusion, counted};

/// Candidates that were not proposed and are listed all the same.
const REFUSED_SHOWN: usize = 10;
/// Requests that would be let through and are listed.
const SHOWN: usize = 10;

/// Arguments of `bastide waf exclude`.
#[derive(Debug, Args)]
#[command(after_help = help(PROSE, CODES, EXAMPLES))]
pub(super) struct ExcludeArguments {
    /// Files or folders of the firewall's log; `-` is standard input.
    #[arg(long = "from-log", value_name = "LOG", required = true, num_args = 1..)]
    logs: Vec<PathBuf>,
    /// How many requests must speak for an exclusion.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    min_requests: u64,
    /// Of how many different clients: principals, or networks of those without one.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    min_clients: u64,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

const PROSE: &str = "\
It proposes the fewest exclusions, each of one rule for one target on one route, that let the
blocked requests of honest clients through. A request counts towards one only when no other critical
rule matched the same value, and when its client is otherwise served: it has a successful answer
in which nothing critical was found, and has not met more than 3 different critical rules. Where
more than a tenth as many requests look like attacks on the same place, nothing is proposed.

Look at the samples (bastide explain ID) before you paste: the log shows what was sent, not why.";

const CODES: &str =
    "0 there is something to propose, 1 there is not, 2 wrong usage, 3 the log cannot be read";

const EXAMPLES: &str = "\
bastide waf exclude --from-log bastide-state/firewall
bastide waf exclude --from-log bastide-state/firewall --min-clients 5 --min-requests 20
bastide waf exclude --from-log access.jsonl --output json | jq -r '.yaml'";

/// Prints proposed exclusions; the exit code is 1 if there are none.
///
/// # Errors
/// The log cannot be read.
pub(super) fn run(arguments: &ExcludeArguments) -> anyhow::Result<ExitCode> {
    let mut gathered = Gathered::default();
    let unreadable = log::read(&arguments.logs, |line| gathered.take(line))?;
    if gathered.requests == 0 && unreadable.lines > 0 {
        bail!("not a firewall log: {}", unreadable.first.unwrap_or_default());
    }
    let weighed = gathered.weigh();
    let bar = Bar {
        requests_min: arguments.min_requests,
        clients_min: usize::try_from(arguments.min_clients).unwrap_or(usize::MAX),
    };
    let proposals = Proposals::choose(&gathered, &weighed, bar);
    let answer = Answer {
        gathered: &gathered,
        weighed: &weighed,
        proposals: &proposals,
        unreadable: unreadable.lines,
    };
    match arguments.output {
        Output::Text => say(answer.text()),
        Output::Json => say_json(&answer.json()),
    }
    Ok(exit_code(!proposals.chosen.is_empty()))
}

/// What is said in the end.
struct Answer<'a> {
    gathered: &'a Gathered,
    weighed: &'a BTreeMap<Candidate, Evidence>,
    proposals: &'a Proposals,
    unreadable: u64,
}

impl Answer<'_> {
    /// What the same log would come to with these left out.
    fn effect<'e>(&self, chosen: impl Iterator<Item = &'e (Candidate, Exclusion)>) -> Report {
        let mut plan = Plan::of_options(&Overrides::default());
        for (candidate, exclusion) in chosen {
            plan.exclude(&candidate.route, std::slice::from_ref(exclusion));
        }
        let mut report = Report::new(SHOWN);
        self.gathered.lines.iter().for_each(|line| report.take(line, &plan));
        report
    }

    /// As it is pasted under a route of the configuration.
    fn yaml(&self) -> String {
        let mut text = String::new();
        let mut route = None;
        for (candidate, exclusion) in &self.proposals.chosen {
            if route != Some(&candidate.route) {
                route = Some(&candidate.route);
                let name = candidate.route.replace(['\r', '\n'], " ");
                let _ = write!(text, "  # under route {name:?}:\n    waf:\n      exclusions:\n");
            }
            let about = self.weighed.get(candidate).map(|evidence| {
                let sample = evidence.samples.first().map(String::as_str).unwrap_or_default();
                let (requests, clients) = (evidence.requests, evidence.clients.len());
                format!("   # {requests} requests of {clients} clients, e.g. {}", printable::line(sample))
            });
            let exclusion = exclusion.to_string();
            let _ = writeln!(text, "        - {}{}", printable::line(&exclusion), about.unwrap_or_default());
        }
        text
    }

    /// What was not proposed, that most requests met first.
    fn refused(&self) -> Vec<(&Candidate, &str, u64)> {
        let met = |candidate: &Candidate| {
            let evidence = self.weighed.get(candidate);
            evidence.map_or(0, |evidence| evidence.requests + evidence.strangers + evidence.attacks)
        };
        let refused = self.proposals.refused.iter();
        let mut all: Vec<(&Candidate, &str, u64)> =
            refused.map(|(candidate, why)| (candidate, why.as_str(), met(candidate))).collect();
        all.sort_by(|one, other| other.2.cmp(&one.2).then(one.0.cmp(other.0)));
        all.truncate(REFUSED_SHOWN);
        all
    }

    fn text(&self) -> String {
        let chosen = &self.proposals.chosen;
        let mut text = format!(
            "{}, {} blocked: {}",
            counted(self.gathered.requests, "inspected request"),
            self.gathered.blocked,
            match chosen.len() {
                0 => "nothing to propose".to_owned(),
                count => counted(count, "exclusion"),
            }
        );
        if self.unreadable > 0 {
            let _ = write!(text, "; {} unreadable", counted(self.unreadable, "line"));
        }
        if self.gathered.further > 0 {
            let _ = write!(
                text,
                "; {} more with findings were not looked at",
                counted(self.gathered.further, "line")
            );
        }
        for (at, pair) in chosen.iter().enumerate() {
            let _ = write!(text, "\n\n{}. {}", at + 1, self.proposal(pair));
        }
        if !chosen.is_empty() {
            let report = self.effect(chosen.iter());
            let undecidable: u64 = report.undecidable.values().sum();
            let _ = write!(
                text,
                "\n\nWith all of them this log would let through {} more, undecidable {undecidable}.\nTo paste into the configuration:\n\n{}",
                report.newly_passed,
                self.yaml().trim_end()
            );
        }
        let refused = self.refused();
        if !refused.is_empty() {
            let _ = write!(text, "\n\nNot proposed:");
            for (candidate, why, met) in refused {
                let target = printable::line(candidate.target.as_deref().unwrap_or("whole rule"));
                let _ = write!(
                    text,
                    "\n  {} {target} on route {:?}, {}: {why}",
                    candidate.rule,
                    candidate.route,
                    counted(met, "request")
                );
            }
        }
        text
    }

    fn proposal(&self, pair: &(Candidate, Exclusion)) -> String {
        let (candidate, exclusion) = pair;
        let exclusion = exclusion.to_string();
        let mut text = format!("{} on route {:?}", printable::line(&exclusion), candidate.route);
        if candidate.target.is_none() {
            text += "\n   the whole rule: what it looks at cannot be left out by name";
        }
        if let Some(evidence) = self.weighed.get(candidate) {
            let _ = write!(
                text,
                "\n   {}\n   for: {} of {} otherwise served, {} of them authenticated\n   against: {} by others, {} with another critical rule on the same value\n   samples: {}",
                printable::line(&evidence.message),
                counted(evidence.requests, "request"),
                counted(evidence.clients.len(), "client"),
                evidence.authenticated.len(),
                counted(evidence.strangers, "request"),
                counted(evidence.attacks, "request"),
                printable::line(&evidence.samples.join(" "))
            );
        }
        let alone = self.effect(std::iter::once(pair));
        let undecidable: u64 = alone.undecidable.values().sum();
        let _ = write!(text, "\n   alone it would let through {} of this log", alone.newly_passed);
        if undecidable > 0 {
            let _ = write!(text, ", {undecidable} are undecidable");
        }
        text
    }

    fn json(&self) -> Value {
        let one = |pair: &(Candidate, Exclusion)| {
            let (candidate, exclusion) = pair;
            let evidence = self.weighed.get(candidate);
            json!({
                "route": candidate.route,
                "rule": candidate.rule,
                "target": candidate.target,
                "exclusion": exclusion.to_string(),
                "message": evidence.map(|evidence| &evidence.message),
                "evidence": evidence.map(evidence_json),
                "effect": self.effect(std::iter::once(pair)).json(),
            })
        };
        let refused = |(candidate, why, met): (&Candidate, &str, u64)| {
            json!({
                "route": candidate.route,
                "rule": candidate.rule,
                "target": candidate.target,
                "requests": met,
                "why": why,
            })
        };
        json!({
            "requests": self.gathered.requests,
            "blocked": self.gathered.blocked,
            "unreadable": self.unreadable,
            "not_looked_at": self.gathered.further,
            "proposals": self.proposals.chosen.iter().map(one).collect::<Vec<_>>(),
            "effect": self.effect(self.proposals.chosen.iter()).json(),
            "not_proposed": self.refused().into_iter().map(refused).collect::<Vec<_>>(),
            "yaml": self.yaml(),
        })
    }
}

fn evidence_json(evidence: &Evidence) -> Value {
    json!({
        "requests": evidence.requests,
        "clients": evidence.clients.len(),
        "authenticated_clients": evidence.authenticated.len(),
        "samples": evidence.samples,
        "requests_by_others": evidence.strangers,
        "requests_like_attacks": evidence.attacks,
    })
}
