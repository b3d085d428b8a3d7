//! What is wrong with a policy or with the names it uses, and where.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The policies are refused.
    Error,
    /// They load, but probably do not do what was meant.
    Warning,
}

/// What kind of thing is wrong. Each kind has a test that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Not Cedar.
    Syntax,
    /// The schema does not allow it: a wrong type, an unguarded optional attribute.
    Type,
    /// An entity, action, attribute or entity type that is not configured.
    Unknown,
    /// Two policies with one `@id`, or two declarations with one name.
    Duplicate,
    /// A form that is not taken: templates, looking into another entity than the
    /// request's own.
    Unsupported,
    /// Over a named limit.
    Limit,
    /// The vocabulary itself: a role that includes itself, a name that cannot be used.
    Vocabulary,
    /// A policy that can never apply, a route that no policy can permit.
    NeverApplies,
    /// Text that looks like other text.
    Confusable,
}

/// One thing that is wrong. `Display` gives `file:line:col: message`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub struct Fault {
    /// Whether it stops the load.
    pub severity: Severity,
    /// What kind of thing.
    pub kind: Kind,
    /// The policy file, or the position of the declaration; may be empty.
    pub source_name: String,
    /// Line, from 1; 0 when `source_name` is a whole position already.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What was expected, what was found, what to do.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.source_name.is_empty(), self.line) {
            (true, _) => {}
            (false, 0) => write!(f, "{}: ", self.source_name)?,
            (false, line) => write!(f, "{}:{line}:{}: ", self.source_name, self.column)?,
        }
        f.write_str(&self.message)
    }
}

impl Fault {
    /// A fault about a declaration whose position is text already.
    pub(crate) fn declared(kind: Kind, position: &str, message: String) -> Self {
        Self {
            severity: Severity::Error,
            kind,
            source_name: position.to_owned(),
            line: 0,
            column: 0,
            message,
        }
    }

    /// A fault at a byte of a source.
    pub(crate) fn at(kind: Kind, place: &Place<'_>, offset: usize, message: String) -> Self {
        let (line, column) = place.line_column(offset);
        Self { severity: Severity::Error, kind, source_name: place.name.to_owned(), line, column, message }
    }

    /// The same as a warning.
    pub(crate) fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }
}

/// A source with its line starts.
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Place<'a> {
    pub(crate) fn new(name: &'a str, text: &'a str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Self { name, text, line_starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// Line and column from 1, the column in characters.
    pub(crate) fn line_column(&self, offset: usize) -> (u32, u32) {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|at| self.line_starts.get(at)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).map_or(0, |text| text.chars().count());
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(before + 1).unwrap_or(u32::MAX))
    }
}
