//! `bastide waf check`: everything that is wrong with rule files, and what can be proved
//! to do nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use waf::{Note, RuleSet, Weight};

use super::rules::{load_by, typed};
use crate::cli::help::help;
use crate::cli::{Output, exit_code, say, say_json};
use crate::config::{ATTACK_RULES, Fault, IDENTITY_SKIPS, WafSettings, counted};

/// Arguments of `bastide waf check`.
#[derive(Debug, Args)]
#[command(after_help = help(PROSE, CODES, EXAMPLES))]
pub(super) struct CheckArguments {
    /// Rule files, globs, and folders: a release of the Core Rule Set, or one of `.conf` files.
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    /// Warnings count as faults: for scripts that guard a repository of rules.
    #[arg(long)]
    strict: bool,
    /// Notes are left out; warnings stay.
    #[arg(long)]
    quiet: bool,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

const PROSE: &str = "\
The files are read as one rule set, in their order, as `waf:` in the configuration reads them.
Faults: what the firewall would refuse to load. Warnings: rules that can be proved never to match
or never to run, and skips to a marker that does not follow. Regular expressions need no check for
denial of service: each runs in time linear in its input.";

const CODES: &str = "0 good, 1 faults were found (with --strict also warnings), 2 wrong usage";

const EXAMPLES: &str = "\
bastide waf check /opt/coreruleset
bastide waf check rules/*.conf --strict
bastide waf check shop.conf --output json | jq '.faults[].message'";

/// Prints faults and notes of rule files; the exit code is 1 if there are faults.
///
/// # Errors
/// Never; faults are its result.
pub(super) fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let report = match load_by(&WafSettings::of_rules(typed(&arguments.files))) {
        Ok(rules) => Report::good(&rules, !arguments.quiet),
        Err(faults) => Report { faults, ..Report::default() },
    };
    match arguments.output {
        Output::Text => say(report.text()),
        Output::Json => say_json(&report.json(arguments.strict)),
    }
    Ok(exit_code(report.is_good(arguments.strict)))
}

/// What was found.
#[derive(Debug, Default)]
struct Report {
    faults: Vec<Fault>,
    notes: Vec<Note>,
    summary: Option<Summary>,
}

/// What a rule set consists of.
#[derive(Debug)]
struct Summary {
    statistics: waf::Statistics,
    phases: [u64; 5],
    ids: Option<(u64, u64)>,
    /// By paranoia level, from the tags of the Core Rule Set.
    levels: BTreeMap<u8, u64>,
    /// Rules that look elsewhere on routes to the identity provider.
    skipping: u64,
}

impl Summary {
    fn new(rules: &RuleSet) -> Self {
        let mut statistics = rules.statistics();
        // One of the files is the settings themselves.
        statistics.files = statistics.files.saturating_sub(1);
        let mut summary =
            Self { statistics, phases: [0; 5], ids: None, levels: BTreeMap::new(), skipping: 0 };
        let (first, last) = ATTACK_RULES;
        for rule in rules.descriptions() {
            summary.skipping += u64::from((first..=last).contains(&rule.id));
            if let Some(count) = summary.phases.get_mut(usize::from(rule.phase).saturating_sub(1)) {
                *count += 1;
            }
            let (least, most) = summary.ids.unwrap_or((rule.id, rule.id));
            summary.ids = Some((least.min(rule.id), most.max(rule.id)));
            let level = rule.tags.iter().find_map(|tag| tag.strip_prefix("paranoia-level/")?.parse().ok());
            if let Some(level) = level {
                *summary.levels.entry(level).or_default() += 1;
            }
        }
        summary
    }

    fn text(&self) -> String {
        let statistics = self.statistics;
        let phases: Vec<String> =
            (1..).zip(self.phases).map(|(phase, count): (u8, u64)| format!("{phase}: {count}")).collect();
        let mut text = format!(
            "{} in {}, {}; by phase {}",
            counted(statistics.rules, "rule"),
            counted(statistics.files, "file"),
            counted(statistics.links, "condition"),
            phases.join(", ")
        );
        if let Some((least, most)) = self.ids {
            text += &format!("; ids {least} to {most}");
        }
        if !self.levels.is_empty() {
            let levels: Vec<String> =
                self.levels.iter().map(|(level, count)| format!("{level}: {count}")).collect();
            text += &format!("\nparanoia levels {}", levels.join(", "));
        }
        if self.skipping > 0 {
            text += "\non routes to the identity provider, unless waf.identity_parameters is inspect,";
            for ((first, last), targets) in IDENTITY_SKIPS {
                text += &format!("\n  rules {first} to {last} skip {}", targets.join(", "));
            }
        }
        text += &format!(
            "\n{}, all of linear time: none can be made to backtrack",
            counted(statistics.expressions, "regular expression")
        );
        text
    }

    fn json(&self) -> Value {
        let statistics = self.statistics;
        json!({
            "rules": statistics.rules,
            "files": statistics.files,
            "conditions": statistics.links,
            "regular_expressions": { "count": statistics.expressions, "linear_time": true },
            "by_phase": (1..).zip(self.phases).map(|(phase, count): (u8, u64)| (phase.to_string(), json!(count))).collect::<serde_json::Map<_, _>>(),
            "by_paranoia_level": self.levels.iter().map(|(level, count)| (level.to_string(), json!(count))).collect::<serde_json::Map<_, _>>(),
            "on_identity": (self.skipping > 0).then(|| IDENTITY_SKIPS.iter().map(|((first, last), targets)| {
                json!({ "first": first, "last": last, "skip": targets })
            }).collect::<Vec<_>>()),
            "ids": self.ids.map(|(least, most)| json!({ "first": least, "last": most })),
        })
    }
}

impl Report {
    fn good(rules: &RuleSet, all: bool) -> Self {
        let mut notes = rules.lint();
        notes.retain(|note| all || note.weight == Weight::Warning);
        Self { faults: Vec::new(), notes, summary: Some(Summary::new(rules)) }
    }

    fn warnings(&self) -> usize {
        self.notes.iter().filter(|note| note.weight == Weight::Warning).count()
    }

    fn is_good(&self, strict: bool) -> bool {
        self.faults.is_empty() && (!strict || self.warnings() == 0)
    }

    fn text(&self) -> String {
        let mut lines: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        for note in &self.notes {
            let suggestion =
                note.suggestion.as_ref().map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default();
            lines.push(format!("{}: {}: {}{suggestion}", note.place, weight(note.weight), note.message));
        }
        let warnings = counted(self.warnings(), "warning");
        match &self.summary {
            Some(summary) => {
                lines.push(format!("ok: {}\n{warnings}", summary.text()));
            }
            None => lines.push(format!("refused: {}", counted(self.faults.len(), "fault"))),
        }
        lines.join("\n")
    }

    fn json(&self, strict: bool) -> Value {
        let note = |note: &Note| {
            json!({
                "severity": weight(note.weight),
                "file": &*note.place.file,
                "line": note.place.line,
                "column": note.place.column,
                "message": note.message,
                "suggestion": note.suggestion,
            })
        };
        json!({
            "ok": self.is_good(strict),
            "faults": self.faults,
            "notes": self.notes.iter().map(note).collect::<Vec<_>>(),
            "summary": self.summary.as_ref().map(Summary::json),
        })
    }
}

fn weight(weight: Weight) -> &'static str {
    match weight {
        Weight::Warning => "warning",
        Weight::Note => "note",
    }
}
