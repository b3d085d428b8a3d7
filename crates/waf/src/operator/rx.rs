//! `@rx` and `@rxGlobal`: regular expressions over bytes, as ModSecurity 2.9 sets PCRE:
//! `.` matches every byte, `$` only at the very end. Matching takes time linear in the
//! value, whatever the expression (CVE-2019-11387 and its kin cannot be).
//!
//! An expression is checked at load and compiled when it first runs: most expressions of
//! a rule set never do, because none of their literals is ever seen.

use super::{Cost, Found, Literal, OperatorFault, class, literal, pcre};
use crate::classes::{self, Classes};
use regex_automata::{Input, meta::Regex, util::syntax};
use regex_syntax::hir::{Hir, HirKind};
use std::sync::OnceLock;

/// Deepest nesting of groups.
pub(super) const GROUP_DEPTH_MAX: u32 = 200;
/// Longest expression, in bytes.
pub(super) const PATTERN_LENGTH_MAX: usize = 256 * 1024;
/// Most states of one expression, reckoned before it is compiled: `(?:a{1000}){1000}` is
/// short to write and a million states long.
pub(super) const STATES_MAX: u64 = 200_000;
/// Memory of one compiled expression, in bytes. More than [`STATES_MAX`] states ever
/// need, so that what passed the check at load compiles later.
const COMPILED_SIZE_MAX: usize = 256 * 1024 * 1024;

/// A checked expression.
pub(super) struct Pattern {
    /// In the syntax of the `regex` crate.
    source: String,
    compiled: OnceLock<Result<Regex, String>>,
    literals: Option<Vec<Literal>>,
    /// Of values that hold one of these, the literals say nothing.
    unless: Classes,
    needs: Classes,
    cost: Cost,
    global: bool,
    /// Whether it matches every value, and all of it: how a rule takes a name into a variable.
    whole: bool,
}

/// Expressions that match all of any value.
const WHOLE: [&str; 3] = ["^.*$", "^.*", ".*"];

/// How many states an expression has, about.
fn states(expression: &Hir) -> u64 {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(_) => 2,
        HirKind::Capture(capture) => states(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(1, |sum, part| sum.saturating_add(states(part)))
        }
        HirKind::Repetition(repetition) => {
            let times = u64::from(repetition.max.unwrap_or(repetition.min).max(repetition.min).max(1));
            states(&repetition.sub).saturating_add(1).saturating_mul(times)
        }
    }
}

/// Checks a pattern: its translation and its tree.
fn check(pattern: &str) -> Result<(String, Hir), OperatorFault> {
    if pattern.len() > PATTERN_LENGTH_MAX {
        let message =
            format!("this expression has {} bytes, at most {PATTERN_LENGTH_MAX} are allowed", pattern.len());
        return Err(OperatorFault::Argument { message, offset: 0 });
    }
    let source = pcre::translate(pattern)
        .map_err(|fault| OperatorFault::Argument { message: fault.message, offset: fault.offset })?;
    let tree = class::parse(&source).map_err(|error| OperatorFault::Argument {
        message: match *error {
            regex_syntax::Error::Parse(error) => error.kind().to_string(),
            regex_syntax::Error::Translate(error) => error.kind().to_string(),
            error => error.to_string(),
        },
        offset: 0,
    })?;
    let states = states(&tree);
    if states > STATES_MAX {
        let message = format!(
            "this expression has about {states} states, at most {STATES_MAX} are allowed: lower its counts"
        );
        return Err(OperatorFault::Argument { message, offset: 0 });
    }
    Ok((source, tree))
}

/// Without literals of its own to look for first: the plan has looked for them, and on
/// short values the search for them costs more than the expression.
fn compile(source: &str) -> Result<Regex, String> {
    Regex::builder()
        .configure(
            Regex::config().utf8_empty(false).nfa_size_limit(Some(COMPILED_SIZE_MAX)).auto_prefilter(false),
        )
        .syntax(
            syntax::Config::new()
                .unicode(false)
                .utf8(false)
                .dot_matches_new_line(true)
                .nest_limit(GROUP_DEPTH_MAX),
        )
        .build(source)
        .map_err(|error| error.to_string())
}

impl Pattern {
    pub(super) fn new(pattern: &str, global: bool) -> Result<Self, OperatorFault> {
        let (source, tree) = check(pattern)?;
        let cost = if states(&tree) > 1_000 { Cost::LargeRegex } else { Cost::Regex };
        let needs = classes::required(&tree).unwrap_or(0);
        let (literals, unless) = literal::required(&tree).unzip();
        Ok(Self {
            literals,
            unless: unless.unwrap_or(0),
            needs,
            source,
            compiled: OnceLock::new(),
            cost,
            global,
            whole: WHOLE.contains(&pattern) && !global,
        })
    }

    pub(super) fn literals(&self) -> Option<&[Literal]> {
        self.literals.as_deref()
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn unless(&self) -> Classes {
        self.unless
    }

    pub(super) fn needs(&self) -> Classes {
        self.needs
    }

    pub(super) fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether nothing is left to compile before it can run.
    pub(super) fn is_compiled(&self) -> bool {
        self.whole || self.compiled.get().is_some()
    }

    pub(super) fn regex(&self) -> Result<&Regex, &str> {
        self.compiled.get_or_init(|| compile(&self.source)).as_ref().map_err(String::as_str)
    }

    pub(super) fn evaluate(&self, value: &[u8], found: &mut Found) -> bool {
        if self.whole {
            found.matched(0..value.len());
            return true;
        }
        match self.regex() {
            Ok(regex) => search(regex, value, self.global, found),
            Err(error) => found.fail(error.to_owned()),
        }
    }
}

/// Runs an expression and keeps its groups; of many matches the last one's, as version 3.
fn search(regex: &Regex, value: &[u8], global: bool, found: &mut Found) -> bool {
    if regex.captures_len() == 1 && !global {
        return regex.find(value).map(|matched| found.matched(matched.range())).is_some();
    }
    if !regex.is_match(value) {
        return false;
    }
    let mut groups = regex.create_captures();
    let mut start = 0;
    while start <= value.len() {
        regex.search_captures(&Input::new(value).range(start..), &mut groups);
        let Some(matched) = groups.get_match() else { break };
        for index in 0..groups.group_len() {
            let range = groups.get_group(index).map(|group| group.range());
            // A group of a later match that took no part does not undo an earlier one.
            if range.is_some() || !global {
                found.set(index, range);
            }
        }
        start = matched.end().max(matched.start() + 1);
        if !global {
            break;
        }
    }
    true
}

/// An expression with macros: compiled when its text is known. The text is the same for
/// nearly every transaction, so the first one is kept.
pub(super) struct Expanding {
    first: OnceLock<(Vec<u8>, Result<Pattern, String>)>,
    global: bool,
}

impl Expanding {
    /// Longest text after expansion, in bytes: it may come from a request.
    pub(super) const EXPANDED_LENGTH_MAX: usize = 4_096;

    pub(super) fn new(global: bool) -> Self {
        Self { first: OnceLock::new(), global }
    }

    pub(super) fn evaluate(&self, value: &[u8], pattern: &[u8], found: &mut Found) -> bool {
        let build = || -> Result<Pattern, String> {
            if pattern.len() > Self::EXPANDED_LENGTH_MAX {
                return Err(format!(
                    "the expanded expression has more than {} bytes",
                    Self::EXPANDED_LENGTH_MAX
                ));
            }
            let pattern = std::str::from_utf8(pattern).map_err(|error| error.to_string())?;
            Pattern::new(pattern, self.global).map_err(|fault| fault.to_string())
        };
        let (text, first) = self.first.get_or_init(|| (pattern.to_vec(), build()));
        let mut run = |pattern: &Result<Pattern, String>| match pattern {
            Ok(pattern) => pattern.evaluate(value, found),
            Err(error) => found.fail(error.clone()),
        };
        if text == pattern { run(first) } else { run(&build()) }
    }
}

#[cfg(test)]
mod tests;
