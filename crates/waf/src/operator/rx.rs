//! `@rx` and `@rxGlobal`: regular expressions over bytes, as ModSecurity 2.9 sets PCRE:
//! `.` matches every byte, `$` only at the very end. Matching takes time linear in the
//! value, whatever the expression (CVE-2019-11387 and its kin cannot be).
//!
//! An expression is checked at load and compiled when it first runs: most expressions of
//! a rule set never do, because none of their literals is ever seen.

use super::{BYTES_PER_WORK, Cost, Found, Literal, OperatorFault, class, literal, pcre};
use crate::classes::{self, Classes};
use regex_automata::{Input, meta::Regex, util::syntax};
use regex_syntax::hir::{Hir, HirKind};
use std::{fmt, sync::OnceLock};

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
/// What compiling a state counts for, in units of work.
const WORK_PER_STATE: u64 = 4;

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
        Ok(Self::of(pattern, source, &tree, global))
    }

    fn of(pattern: &str, source: String, tree: &Hir, global: bool) -> Self {
        let cost = if states(tree) > 1_000 { Cost::LargeRegex } else { Cost::Regex };
        let needs = classes::required(tree).unwrap_or(0);
        let (literals, unless) = literal::required(tree).unzip();
        Self {
            literals,
            unless: unless.unwrap_or(0),
            needs,
            source,
            compiled: OnceLock::new(),
            cost,
            global,
            whole: WHOLE.contains(&pattern) && !global,
        }
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
/// nearly every transaction, so the first one is kept. Of others the transaction keeps the last
/// one: it is compiled once for all values.
pub(super) struct Expanding {
    first: OnceLock<Expanded>,
    global: bool,
}

/// An expression whose text was not known when the rules were loaded.
pub(super) struct Expanded {
    text: Vec<u8>,
    global: bool,
    pattern: Result<Pattern, String>,
}

impl Expanded {
    /// Compiles it, and what that cost.
    fn new(text: &[u8], global: bool) -> (Self, u64) {
        let (pattern, states) = match Self::check(text, global) {
            Ok((pattern, states)) => (Ok(pattern), states),
            Err(error) => (Err(error), 0),
        };
        if let Ok(pattern) = &pattern {
            // What is wrong with it is told when it runs.
            let _ = pattern.regex();
        }
        let work = text.len() as u64 / BYTES_PER_WORK + states * WORK_PER_STATE;
        (Self { text: text.to_vec(), global, pattern }, work)
    }

    fn check(text: &[u8], global: bool) -> Result<(Pattern, u64), String> {
        if text.len() > Expanding::EXPANDED_LENGTH_MAX {
            let most = Expanding::EXPANDED_LENGTH_MAX;
            return Err(format!("the expanded expression has more than {most} bytes"));
        }
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        let (source, tree) = check(text).map_err(|fault| fault.to_string())?;
        let states = states(&tree);
        if states > Expanding::EXPANDED_STATES_MAX {
            let most = Expanding::EXPANDED_STATES_MAX;
            return Err(format!(
                "the expanded expression has about {states} states, at most {most} are allowed"
            ));
        }
        Ok((Pattern::of(text, source, &tree, global), states))
    }

    fn is(&self, text: &[u8], global: bool) -> bool {
        self.global == global && self.text == text
    }
}

impl fmt::Debug for Expanded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expanded").field("text", &self.text).finish_non_exhaustive()
    }
}

impl Expanding {
    /// Longest text after expansion, in bytes: it may come from a request.
    pub(super) const EXPANDED_LENGTH_MAX: usize = 8_192;
    /// Most states then: it is compiled while a request waits.
    pub(super) const EXPANDED_STATES_MAX: u64 = 20_000;

    pub(super) fn new(global: bool) -> Self {
        Self { first: OnceLock::new(), global }
    }

    pub(super) fn evaluate(&self, value: &[u8], text: &[u8], found: &mut Found) -> bool {
        let mut work = 0;
        let mut compile = || {
            let (expanded, cost) = Expanded::new(text, self.global);
            work = cost;
            expanded
        };
        let first = self.first.get_or_init(&mut compile);
        let matches = if first.is(text, self.global) {
            first.evaluate(value, found)
        } else {
            let kept = found.expanded.take().filter(|kept| kept.is(text, self.global));
            let last = kept.unwrap_or_else(|| Box::new(compile()));
            let matches = last.evaluate(value, found);
            found.expanded = Some(last);
            matches
        };
        found.work += work;
        matches
    }
}

impl Expanded {
    fn evaluate(&self, value: &[u8], found: &mut Found) -> bool {
        match &self.pattern {
            Ok(pattern) => pattern.evaluate(value, found),
            Err(error) => found.fail(error.clone()),
        }
    }
}

/// What a macro brings into an expression stands for itself: who sends it does not write
/// expressions.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' => out.push(byte),
            b'!'..=b'~' => out.extend_from_slice(&[b'\\', byte]),
            _ => {
                let digit =
                    |half: u8| char::from_digit(u32::from(half), 16).map_or(b'0', |digit| digit as u8);
                out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
