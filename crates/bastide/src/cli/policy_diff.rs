//! `bastide policy diff`: which of the requests in an audit log other policies would
//! decide differently.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueHint};
use model::RequestId;
use model::event::{AccessEvent, DecisionRecord, Outcome, Step};
use policy::{Policies, Replayed, Undecidable, replay};
use serde_json::{Value, json};

use super::help::help;
use super::recorded::{self, Deciders, beside};
use super::{Output, exit_code, say, say_json};
use crate::config::{Configuration, Match};
use crate::process::generations::Generations;
use crate::wire::{self, Finder};

/// Most ways to differ that are kept apart; what comes later is counted together.
const GROUPS_MAX: usize = 10_000;
/// How often the progress is said.
const PROGRESS_EVERY: u64 = 500_000;

/// Arguments of `bastide policy diff`.
#[derive(Debug, Args)]
#[command(after_help = help(PROSE, CODES, EXAMPLES))]
pub struct DiffArguments {
    /// The old policies: a configuration file, or the number of a generation that the
    /// state folder of `--config` keeps.
    #[arg(value_hint = ValueHint::FilePath)]
    old: String,
    /// The new policies, in the same way.
    #[arg(value_hint = ValueHint::FilePath)]
    new: String,
    /// The audit log: its folder, or one of its files.
    #[arg(long, alias = "from-log", value_name = "LOG", value_hint = ValueHint::AnyPath)]
    against: PathBuf,
    /// How many request ids are shown for each difference.
    #[arg(long, default_value_t = 3, value_name = "N")]
    samples: usize,
    /// How many differences are shown as text; JSON has all.
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
}

const PROSE: &str = "\
Each decision in the log is made again under both sets of policies, from what the log says of the
request. What a policy reads and the log lacks is never guessed: such a decision is undecidable, unless
the rest settles it. A request is assumed to arrive at the route of the same name; where that route now
takes other requests, the decision is undecidable too.";

const CODES: &str =
    "0 every decision stays, 1 some differ or are undecidable, 2 wrong usage, 3 something cannot be read";

const EXAMPLES: &str = "\
bastide policy diff bastide.yaml new/bastide.yaml --against bastide-state/audit
bastide policy diff 12 bastide.yaml --against bastide-state/audit --output json";

/// One set of policies.
struct Side {
    policies: Arc<Policies>,
    /// What the administration is decided by.
    administration: Arc<Policies>,
    /// Its routes, when it comes from a configuration file.
    finder: Option<Finder>,
    /// What its routes take, when it comes from a configuration file.
    matches: Option<BTreeMap<String, Match>>,
    /// Where generations are kept.
    state: Option<PathBuf>,
}

/// Why a decision cannot be made again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Lack {
    /// The policies that made it are not kept.
    Generation(u64),
    /// Its route takes other requests now.
    Match(String),
    /// The log lacks something.
    Log(Undecidable),
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Generation(number) => {
                write!(f, "generation {number} of the policies, which decided, is not kept")
            }
            Self::Match(route) => write!(f, "route {route:?} takes other requests in NEW"),
            Self::Log(lack) => lack.fmt(f),
        }
    }
}

/// Requests that differ in one way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Way {
    principal: String,
    action: String,
    route: String,
    old: (bool, String),
    new: (bool, String),
    old_policies: Vec<String>,
    new_policies: Vec<String>,
}

/// How often, and some of the requests.
#[derive(Default)]
struct Tally {
    count: u64,
    samples: Vec<RequestId>,
}

impl Tally {
    fn add(&mut self, id: RequestId, samples: usize) {
        self.count += 1;
        if self.samples.len() < samples {
            self.samples.push(id);
        }
    }

    fn ids(&self) -> Vec<String> {
        self.samples.iter().map(ToString::to_string).collect()
    }
}

/// What came of the whole log.
#[derive(Default)]
struct Report {
    decisions: u64,
    same: u64,
    ways: HashMap<Way, Tally>,
    /// Beyond [`GROUPS_MAX`].
    further: u64,
    undecidable: BTreeMap<Lack, Tally>,
    /// The old policies say something else than what was decided then.
    otherwise_then: u64,
    /// Events of requests that were refused before policies were asked.
    without: u64,
    unreadable: u64,
}

/// Replays the log under two sets of policies; the exit code is 1 if decisions differ.
///
/// # Errors
/// A configuration, a generation or the log cannot be read.
pub fn run(arguments: &DiffArguments, config: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let (old, new) = (side(&arguments.old, config, output)?, side(&arguments.new, config, output)?);
    let states = [&old.state, &new.state].into_iter().flatten().cloned().collect();
    let known = [&old, &new].into_iter().flat_map(|side| [&side.policies, &side.administration]);
    let known = known.map(Arc::clone).collect();
    let mut replayer = Replayer { old: &old, new: &new, deciders: Deciders::new(known, states) };
    let mut report = Report::default();
    let mut read: u64 = 0;
    audit::read::each(&arguments.against, &mut |stored| {
        read += 1;
        if read.is_multiple_of(PROGRESS_EVERY) {
            say_progress(read);
        }
        match stored {
            Some(stored) if stored.is_request => {
                replayer.event(&stored.event, arguments.samples, &mut report);
            }
            Some(_) => {}
            None => report.unreadable += 1,
        }
    })?;
    match output {
        Output::Text => say(text(&report, arguments.limit).trim_end()),
        Output::Json => say_json(&to_json(&report)),
    }
    let same = report.ways.is_empty() && report.undecidable.is_empty();
    Ok(exit_code(same))
}

#[expect(clippy::print_stderr, reason = "standard output is the report")]
fn say_progress(read: u64) {
    eprintln!("{read} events read");
}

/// A configuration file, or a generation by its number.
fn side(named: &str, config: &Path, output: Output) -> anyhow::Result<Side> {
    let load = |path: &Path| super::check::load_or_report(path, output);
    if let Ok(number) = named.parse::<u64>() {
        let configuration = load(config)?;
        let policies = Arc::new(Generations::of(&configuration.state).get(number)?);
        let (administration, state) = (Arc::clone(&policies), Some(configuration.state));
        return Ok(Side { policies, administration, finder: None, matches: None, state });
    }
    let configuration = load(Path::new(named))?;
    let policies = Arc::new(wire::load_policies(&configuration, 0).with_context(|| named.to_owned())?);
    let administration = match configuration.is_administered() {
        true => Arc::clone(&policies),
        false => {
            let (vocabulary, sources) = configuration.administration();
            Arc::new(wire::load(vocabulary, &sources, 0).with_context(|| named.to_owned())?)
        }
    };
    let finder = Some(Finder::new(&configuration)?);
    let matches = Some(matches(&configuration));
    Ok(Side { policies, administration, finder, matches, state: Some(configuration.state) })
}

fn matches(configuration: &Configuration) -> BTreeMap<String, Match> {
    configuration.routes.iter().map(|route| (route.name.clone(), route.matches.clone())).collect()
}

struct Replayer<'s> {
    old: &'s Side,
    new: &'s Side,
    deciders: Deciders,
}

impl Replayer<'_> {
    fn event(&mut self, event: &AccessEvent<'_>, samples: usize, report: &mut Report) {
        let Some(record) = event.decision.as_deref() else {
            report.without += 1;
            return;
        };
        report.decisions += 1;
        match self.both(event, record) {
            Err(lack) => report.undecidable.entry(lack).or_default().add(event.id, samples),
            Ok((old, new)) => {
                let refused = event.step == Step::Authorize && event.outcome == Outcome::Denied;
                let allowed_then = !refused && record.would_deny.is_none();
                report.otherwise_then += u64::from(old.allowed != allowed_then);
                if old.allowed == new.allowed {
                    report.same += 1;
                } else if report.ways.len() < GROUPS_MAX {
                    let way = way(event, old, new);
                    report.ways.entry(way).or_default().add(event.id, samples);
                } else {
                    match report.ways.get_mut(&way(event, old, new)) {
                        Some(tally) => tally.add(event.id, samples),
                        None => report.further += 1,
                    }
                }
            }
        }
    }

    fn both(
        &mut self,
        event: &AccessEvent<'_>,
        record: &DecisionRecord,
    ) -> Result<(Replayed, Replayed), Lack> {
        let then = self.deciders.of(record).ok_or(Lack::Generation(record.generation))?;
        if let (Some(old), Some(new)) = (&self.old.matches, &self.new.matches)
            && let (Some(old), Some(new)) = (old.get(event.route.as_ref()), new.get(event.route.as_ref()))
            && old != new
        {
            return Err(Lack::Match(event.route.clone().into_owned()));
        }
        Ok((self.old.again(event, record, &then)?, self.new.again(event, record, &then)?))
    }
}

impl Side {
    /// Makes a decision again.
    fn again(
        &self,
        event: &AccessEvent<'_>,
        record: &DecisionRecord,
        then: &Policies,
    ) -> Result<Replayed, Lack> {
        if recorded::is_administration(event) {
            // A generation without the administration says nothing of it: what decided then stands.
            let mut known = self.administration.vocabulary().routes.iter();
            let policies: &Policies =
                if known.any(|route| route.name == event.route) { &self.administration } else { then };
            let beside = recorded::of_administration(event, policies);
            return replay(policies, then, record, &beside).map_err(Lack::Log);
        }
        let mut beside = beside(event);
        let place = self.finder.as_ref().and_then(|finder| recorded::place(finder, event).ok());
        if let Some(place) = place {
            recorded::parameters(&self.policies, &place.parameters, &mut beside);
        }
        replay(&self.policies, then, record, &beside).map_err(Lack::Log)
    }
}

fn way(event: &AccessEvent<'_>, old: Replayed, new: Replayed) -> Way {
    Way {
        principal: format!("{}::{:?}", event.principal_kind.name(), event.principal),
        action: event.method.clone().into_owned(),
        route: event.route.clone().into_owned(),
        old: (old.allowed, old.reason),
        new: (new.allowed, new.reason),
        old_policies: old.policies,
        new_policies: new.policies,
    }
}

impl Report {
    /// The most frequent first.
    fn sorted(&self) -> Vec<(&Way, &Tally)> {
        let mut ways: Vec<_> = self.ways.iter().collect();
        ways.sort_by(|(one, tally), (other, others)| others.count.cmp(&tally.count).then(one.cmp(other)));
        ways
    }

    fn differ(&self) -> u64 {
        self.ways.values().map(|tally| tally.count).sum::<u64>() + self.further
    }

    fn undecided(&self) -> u64 {
        self.undecidable.values().map(|tally| tally.count).sum()
    }
}

fn text(report: &Report, most: usize) -> String {
    let mut out = format!(
        "{} decisions replayed: {} stay, {} differ, undecidable: {}\n",
        report.decisions,
        report.same,
        report.differ(),
        report.undecided()
    );
    let ways = report.sorted();
    for (way, tally) in ways.iter().take(most) {
        let word = if way.new.0 { "allowed" } else { "denied" };
        let Way { principal, action, route, old, new, .. } = way;
        let _ = writeln!(out, "\n{word} now: {} × {action} on route {route:?} by {principal}", tally.count);
        let _ = writeln!(out, "  old: {}\n  new: {}", old.1, new.1);
        let _ = writeln!(out, "  requests: {}", tally.ids().join(", "));
    }
    let hidden = ways.len().saturating_sub(most);
    if hidden > 0 {
        let _ = writeln!(out, "\n{hidden} further ways to differ: --limit shows more, --output json all");
    }
    if report.further > 0 {
        let _ = writeln!(out, "\n{} further requests differ in ways that are not told apart", report.further);
    }
    if !report.undecidable.is_empty() {
        let _ = writeln!(out, "\nundecidable: {}", report.undecided());
    }
    for (lack, tally) in &report.undecidable {
        let _ = writeln!(out, "  {} × {lack}; requests: {}", tally.count, tally.ids().join(", "));
    }
    for (count, what) in [
        (report.otherwise_then, "decisions differ from what the old policies say: others decided then"),
        (report.without, "requests were refused before policies were asked"),
        (report.unreadable, "lines of the log are no events"),
    ] {
        if count > 0 {
            let _ = writeln!(out, "\n{count} {what}");
        }
    }
    out
}

fn to_json(report: &Report) -> Value {
    let decision = |(allowed, reason): &(bool, String), policies: &[String]| json!({ "allowed": allowed, "reason": reason, "policies": policies });
    let differences = report.sorted().into_iter().map(|(way, tally)| {
        json!({
            "principal": way.principal, "action": way.action, "route": way.route,
            "old": decision(&way.old, &way.old_policies), "new": decision(&way.new, &way.new_policies),
            "count": tally.count, "samples": tally.ids(),
        })
    });
    let undecidable = report.undecidable.iter().map(
        |(lack, tally)| json!({ "lack": lack.to_string(), "count": tally.count, "samples": tally.ids() }),
    );
    json!({
        "decisions": report.decisions, "same": report.same, "different": report.differ(),
        "undecidable": report.undecided(),
        "differences": differences.collect::<Vec<_>>(), "further": report.further,
        "lacks": undecidable.collect::<Vec<_>>(),
        "decided_otherwise_then": report.otherwise_then,
        "without_decision": report.without, "unreadable": report.unreadable,
    })
}
