//! `bastide policy suggest`: policies that permit what the audit log holds and no more, each
//! with its evidence, and the replay of the log that shows it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueHint};
use model::PrincipalKind;
use model::event::{AccessEvent, DecisionRecord, Outcome, Step};
use policy::limits::{POLICIES_MAX, SOURCE_BYTES_MAX};
use policy::suggest::{Call, Caller, Form, Suggester, Suggestion, Unsuggestible};
use policy::{Beside, Policies, Source, replay};
use serde_json::{Value, json};

use super::help::help;
use super::key::date_of;
use super::recorded::{self, Deciders, beside};
use super::{Output, count_of, exit_code, say, say_json};
use crate::config::Configuration;
use crate::wire::{self, Finder};

/// Most requests that are named where something could not be used.
const SAMPLES_MAX: usize = 3;

/// Arguments of `bastide policy suggest`.
#[derive(Debug, Args)]
#[command(after_help = help(PROSE, CODES, EXAMPLES))]
pub struct SuggestArguments {
    /// The audit log: its folder, or one of its files.
    #[arg(long, value_name = "LOG", value_hint = ValueHint::AnyPath)]
    from_log: PathBuf,
    /// The log is that of `bastide run --service NAME`; `--config` is then the configuration shared by
    /// the mesh's services.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Names users individually, whatever their roles.
    #[arg(long)]
    people_by_name: bool,
    /// Includes calls that policies denied, or would have denied without `danger_dry_run`; for
    /// instance when nothing is permitted yet.
    #[arg(long)]
    denied_too: bool,
}

const PROSE: &str = "\
Calls that agree in who, method, route and, where the route ends in `**`, the shape of the path
become one policy. People become the role that holds them, path parameters become any value (or the
caller's own id, when it was that in every call), numbers and identifiers in a path become any segment;
each policy says so, and how often, when first and when last it was seen. Then the log is replayed
under the suggested policies alone. Routes with `allow:` need no policy and get none; existing `forbid`
policies are yours to keep. Calls of the administration are left out.";

const CODES: &str = "0 the replay allows every call, 1 some calls could not be covered or replayed, 2 wrong usage, 3 something cannot be read";

const EXAMPLES: &str = "\
bastide policy suggest --from-log bastide-state/audit > suggested.cedar
bastide policy suggest --config mesh.yaml --service payments --from-log bastide-payments/audit
bastide policy suggest --from-log bastide-state/audit --output json";

/// What came of the log.
#[derive(Default)]
struct Report {
    calls: u64,
    /// Calls whose routes need no policy.
    open: u64,
    /// Calls that policies denied.
    denied: u64,
    /// Calls of the administration.
    administration: u64,
    /// Requests that were refused before policies were asked.
    without: u64,
    unreadable: u64,
    /// Calls that no policy can be made from, or that the replay does not allow: why, how many,
    /// some of them.
    lacks: BTreeMap<String, (u64, Vec<String>)>,
    replayed: u64,
    /// Policies that would be needed, and are more than a configuration may have.
    left_out: usize,
}

impl Report {
    fn lack(&mut self, why: String, event: &AccessEvent<'_>) {
        let (count, samples) = self.lacks.entry(why).or_default();
        *count += 1;
        if samples.len() < SAMPLES_MAX {
            samples.push(event.id.to_string());
        }
    }
}

/// Prints policies for the logged calls; the exit code is 1 if some calls are not covered.
///
/// # Errors
/// The configuration or the log cannot be read, or it holds too many different calls.
pub fn run(arguments: &SuggestArguments, config: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let service = arguments.service.as_deref();
    let configuration = super::check::load_service_or_report(service, config, output)?;
    let reader = Reader {
        finder: Finder::new(&configuration)?,
        now: Arc::new(wire::load_policies(&configuration, 0)?),
        denied_too: arguments.denied_too,
        of_mesh: service.is_some(),
    };
    let mut report = Report::default();
    let forms = forms(&configuration, service.is_some());
    let mut suggester = Suggester::new(reader.now.vocabulary(), forms, arguments.people_by_name);
    let mut stop = None;
    audit::read::each(&arguments.from_log, &mut |stored| match stored {
        None => report.unreadable += 1,
        Some(stored) if stored.is_request && stop.is_none() => {
            stop = reader.gather(&stored.event, &mut suggester, &mut report).err();
        }
        Some(_) => {}
    })?;
    if let Some(stop) = stop {
        return Err(stop.into());
    }
    let mut suggestions = suggester.suggestions();
    report.left_out = leave_out(&mut suggestions);
    let suggested = load(&reader.now, &suggestions)?;
    let mut deciders = Deciders::new(vec![Arc::clone(&reader.now)], vec![configuration.state.clone()]);
    audit::read::each(&arguments.from_log, &mut |stored| {
        if let Some(stored) = stored.filter(|stored| stored.is_request) {
            reader.again(&stored.event, &suggested, &mut deciders, &mut report);
        }
    })?;
    match output {
        Output::Text => say(text(&report, &suggestions).trim_end()),
        Output::Json => say_json(&to_json(&report, &suggestions)),
    }
    Ok(exit_code(report.lacks.is_empty()))
}

/// How the routes are written.
fn forms(configuration: &Configuration, of_mesh: bool) -> BTreeMap<String, Form> {
    let form = |pattern: &str| Form { pattern: pattern.to_owned(), by_service: of_mesh };
    configuration.routes.iter().map(|route| (route.name.clone(), form(&route.matches.path))).collect()
}

/// Leaves out those with the fewest calls where there are more than a configuration may have; returns how many.
fn leave_out(suggestions: &mut Vec<Suggestion>) -> usize {
    let over = suggestions.len().saturating_sub(POLICIES_MAX);
    if over > 0 {
        suggestions.sort_by_key(|one| Reverse(one.evidence.count));
        suggestions.truncate(POLICIES_MAX);
    }
    over
}

/// The suggested policies alone, in as many files as they need, under the names of the configuration.
fn load(now: &Policies, suggestions: &[Suggestion]) -> anyhow::Result<Policies> {
    let mut sources: Vec<Source> = Vec::new();
    for Suggestion { text, .. } in suggestions {
        match sources.last_mut() {
            Some(last) if last.text.len() + text.len() < SOURCE_BYTES_MAX => {
                let _ = writeln!(last.text, "{text}");
            }
            _ => {
                let name = format!("suggested-{}.cedar", sources.len() + 1);
                sources.push(Source { name, text: format!("{text}\n") });
            }
        }
    }
    policy::load(now.vocabulary().clone(), &sources, 0).map_err(|faults| {
        let first = faults.first().map(ToString::to_string).unwrap_or_default();
        anyhow::anyhow!("the suggested policies cannot be loaded: {first}")
    })
}

/// Reads calls from events.
struct Reader {
    finder: Finder,
    /// The policies of now.
    now: Arc<Policies>,
    denied_too: bool,
    /// Whether the log is that of a service of the mesh.
    of_mesh: bool,
}

impl Reader {
    /// Whether the event is a call that suggestions are made from.
    fn counts<'e>(&self, event: &'e AccessEvent<'_>) -> Result<&'e DecisionRecord, Uncounted> {
        if recorded::is_administration(event) {
            return Err(Uncounted::Administration);
        }
        let record = event.decision.as_deref().ok_or(Uncounted::Without)?;
        let is_denied = event.step == Step::Authorize && event.outcome == Outcome::Denied;
        if (is_denied || record.would_deny.is_some()) && !self.denied_too {
            Err(Uncounted::Denied)
        } else {
            Ok(record)
        }
    }

    /// Takes a call from an event.
    fn gather(
        &self,
        event: &AccessEvent<'_>,
        suggester: &mut Suggester<'_>,
        report: &mut Report,
    ) -> Result<(), Unsuggestible> {
        let record = match self.counts(event) {
            Ok(record) => record,
            Err(Uncounted::Without) => {
                report.without += 1;
                return Ok(());
            }
            Err(Uncounted::Denied) => {
                report.denied += 1;
                return Ok(());
            }
            Err(Uncounted::Administration) => {
                report.administration += 1;
                return Ok(());
            }
        };
        report.calls += 1;
        let place = match self.place(event) {
            Ok(place) => place,
            Err(why) => {
                report.lack(why, event);
                return Ok(());
            }
        };
        let call = Call {
            caller: caller(event, record),
            user: user(record),
            // By a service's proxy; the gateway knows of no end user but the caller.
            for_nobody: self.of_mesh && record.read.get("for_user").and_then(Value::as_bool) == Some(false),
            method: event.method.clone().into_owned(),
            route: place.route,
            path: String::from_utf8_lossy(&place.path).into_owned(),
            parameters: place.parameters,
            seconds: event.time.unix_seconds(),
            id: event.id.to_string(),
        };
        match suggester.see(call) {
            Ok(true) => {}
            Ok(false) => report.open += 1,
            Err(stop @ Unsuggestible::TooMany) => return Err(stop),
            Err(lack) => report.lack(lack.to_string(), event),
        }
        Ok(())
    }

    /// Where the request arrived, as the routes of now have it.
    fn place(&self, event: &AccessEvent<'_>) -> Result<wire::Place, String> {
        recorded::place(&self.finder, event)
    }

    /// Makes the decision again under the suggested policies.
    fn again(
        &self,
        event: &AccessEvent<'_>,
        suggested: &Policies,
        deciders: &mut Deciders,
        report: &mut Report,
    ) {
        let (Ok(record), Ok(place)) = (self.counts(event), self.place(event)) else { return };
        let Some(then) = deciders.of(record) else {
            let generation = record.generation;
            return report
                .lack(format!("generation {generation} of the policies, which decided, is not kept"), event);
        };
        match replay(suggested, &then, record, &self.beside(event, place)) {
            Ok(replayed) if replayed.allowed => report.replayed += 1,
            Ok(replayed) => report.lack(format!("not allowed: {}", replayed.reason), event),
            Err(lack) => report.lack(lack.to_string(), event),
        }
    }

    fn beside(&self, event: &AccessEvent<'_>, place: wire::Place) -> Beside {
        let mut beside = beside(event);
        if let Ok(path) = String::from_utf8(place.path) {
            beside.insert("context.path".to_owned(), Some(path.into()));
        }
        recorded::parameters(&self.now, &place.parameters, &mut beside);
        beside
    }
}

/// Why an event is no call that suggestions are made from.
enum Uncounted {
    Without,
    Denied,
    Administration,
}

/// Who called, with the roles that the record of the decision holds.
fn caller(event: &AccessEvent<'_>, record: &DecisionRecord) -> Caller {
    let roles = record.read.get("principal.roles").and_then(Value::as_array);
    let roles = roles.into_iter().flatten().filter_map(Value::as_str);
    let principal = record.read.get("principal").and_then(|principal| principal.get("id"));
    Caller {
        kind: event.principal_kind,
        id: principal.and_then(Value::as_str).unwrap_or(&event.principal).to_owned(),
        roles: roles.map(str::to_owned).collect(),
    }
}

/// The end user of the call.
fn user(record: &DecisionRecord) -> Option<Caller> {
    let text = |key: &str| record.read.get(key).and_then(Value::as_str);
    let kinds = [PrincipalKind::User, PrincipalKind::Client, PrincipalKind::ApiKey];
    let kind = text("context.user.kind")?;
    let roles = record.read.get("context.user.roles").and_then(Value::as_array);
    let roles = roles.into_iter().flatten().filter_map(Value::as_str);
    Some(Caller {
        kind: kinds.into_iter().find(|known| known.name() == kind)?,
        // Users are not told apart: policies name their roles.
        id: String::new(),
        roles: roles.map(str::to_owned).collect(),
    })
}

/// The policies as a file, with the evidence of each as comments.
fn text(report: &Report, suggestions: &[Suggestion]) -> String {
    let mut out = format!(
        "// {}; replayed under {} alone, {} allowed.\n",
        count_of(report.calls, "call"),
        match suggestions.len() {
            1 => "this policy".to_owned(),
            count => format!("these {count} policies"),
        },
        if report.replayed == 1 { "1 is".to_owned() } else { format!("{} are", report.replayed) },
    );
    for (count, what) in [
        (report.open, "came to routes that need no policy"),
        (report.denied, "were denied by policies and are left out (--denied-too takes them)"),
        (report.administration, "were calls of the administration and are left out: permit those by name"),
        (report.without, "were refused before policies were asked"),
        (report.unreadable, "lines of the log are no events"),
    ] {
        if count > 0 {
            let _ = writeln!(out, "// {count} {what}.");
        }
    }
    if report.left_out > 0 {
        let _ = writeln!(
            out,
            "// {} more would be needed than the {POLICIES_MAX} that a configuration may have: those with the fewest \
             calls are left out. A shorter log needs fewer, and so do people who have roles.",
            report.left_out
        );
    }
    for (why, (count, samples)) in &report.lacks {
        let _ = writeln!(out, "// {count} could not be taken: {why}; requests: {}", samples.join(", "));
    }
    let mut policies = String::new();
    for Suggestion { text, generalised, evidence, .. } in suggestions {
        let callers =
            if evidence.callers == 1 { "1 caller" } else { &format!("{} callers", evidence.callers) };
        let (first, last) = (date_of(evidence.first), date_of(evidence.last));
        let _ = writeln!(policies, "\n// {} × by {callers}, from {first} to {last}", evidence.count);
        if !generalised.is_empty() {
            let _ = writeln!(policies, "// generalised to {}", generalised.join(", "));
        }
        let _ = writeln!(policies, "// for instance {}\n{text}", evidence.requests.join(", "));
    }
    if out.len() + policies.len() > SOURCE_BYTES_MAX {
        let _ = writeln!(
            out,
            "// This is more than the 1 MiB that one file of policies may have: put it into several."
        );
    }
    out + &policies
}

fn to_json(report: &Report, suggestions: &[Suggestion]) -> Value {
    let policies = suggestions.iter().map(|one| {
        let evidence = &one.evidence;
        json!({
            "id": one.id, "policy": one.text, "generalised": one.generalised,
            "evidence": {
                "count": evidence.count, "callers": evidence.callers,
                "first_seen": date_of(evidence.first), "last_seen": date_of(evidence.last),
                "requests": evidence.requests,
            },
        })
    });
    let lacks = report
        .lacks
        .iter()
        .map(|(why, (count, samples))| json!({ "lack": why, "count": count, "samples": samples }));
    json!({
        "policies": policies.collect::<Vec<_>>(), "left_out": report.left_out,
        "calls": report.calls, "replayed_allowed": report.replayed,
        "need_no_policy": report.open, "denied": report.denied, "administration": report.administration,
        "without_decision": report.without, "unreadable": report.unreadable,
        "lacks": lacks.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use policy::suggest::Evidence;

    use super::*;
    use crate::config::{self, Disk};

    fn suggestions(count: usize, id_bytes: usize) -> Vec<Suggestion> {
        let one = |number: usize| Suggestion {
            id: number.to_string(),
            text: format!(
                "@id(\"{number}\")\npermit (principal == User::\"{number:0>id_bytes$}\", action, resource == Route::\"here\");"
            ),
            generalised: Vec::new(),
            evidence: Evidence { count: if number == 7 { 1 } else { 2 }, ..Evidence::default() },
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn what_one_file_cannot_have_is_printed_and_replayed_all_the_same() {
        const NOTE: &str = "// This is more than the 1 MiB";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bastide.yaml");
        let written = "listen: [ 127.0.0.1:0 ]\nservices: { a: http://127.0.0.1:1 }\npolicies: { inline: \"permit (principal, action, resource);\" }\nroutes: [ { name: here, match: /**, to: a } ]\n";
        std::fs::write(&file, written).unwrap();
        let configuration = config::load(&file, &|_| None, &Disk).unwrap();
        let now = wire::load_policies(&configuration, 0).unwrap();
        for (count, id_bytes, is_noted) in [(0, 0, false), (20, 8, false), (300, 4_096, true)] {
            let suggestions = suggestions(count, id_bytes);
            load(&now, &suggestions).unwrap();
            let said = text(&Report::default(), &suggestions);
            assert_eq!(said.matches("permit (").count(), count);
            assert_eq!(said.contains(NOTE), is_noted, "{count}");
        }
    }

    #[test]
    fn what_a_configuration_cannot_have_is_left_out_and_reported() {
        for (count, over) in [(POLICIES_MAX, 0), (POLICIES_MAX + 1, 1)] {
            let mut suggestions = suggestions(count, 1);
            let left_out = leave_out(&mut suggestions);
            assert_eq!((left_out, suggestions.len()), (over, POLICIES_MAX));
            assert_eq!(
                suggestions.iter().any(|one| one.id == "7"),
                over == 0,
                "the one with the fewest calls"
            );
            let said = text(&Report { left_out, ..Report::default() }, &suggestions);
            assert_eq!(said.contains("// 1 more would be needed than the 10000"), over == 1);
        }
    }
}
