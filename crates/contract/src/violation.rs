//! How a message breaks its contract, for the log: places and keywords, never values.

use std::fmt;

use jsonschema::ValidationError;
use serde_json::Value;

use crate::budget::{Budget, Seen, Validator};

/// Most violations of one message that are told apart; more are not looked for.
pub const VIOLATIONS_MAX: usize = 4;
/// Longest pointer that is told, in bytes: its names come from the client.
const POINTER_BYTES_MAX: usize = 256;

/// What kind of promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The path is in no document.
    Path,
    /// The path is, the method is not.
    Method,
    /// A parameter in the path, the query, a header or a cookie.
    Parameter,
    /// The body's media type, character set or encoding.
    MediaType,
    /// The body, or that there is one or none.
    Body,
    /// The body is too long to be judged.
    Size,
    /// A value takes more steps to be judged than its size allows.
    Complexity,
    /// A response's status.
    Status,
    /// A response's header field.
    Header,
}

impl Class {
    /// A short stable name for metrics and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Path => "undocumented_path",
            Self::Method => "undocumented_method",
            Self::Parameter => "contract_parameter",
            Self::MediaType => "contract_media_type",
            Self::Body => "contract_body",
            Self::Size => "contract_size",
            Self::Complexity => "contract_complexity",
            Self::Status => "contract_status",
            Self::Header => "contract_header",
        }
    }

    /// Whether the document does not speak of the endpoint at all.
    pub const fn is_undocumented(self) -> bool {
        matches!(self, Self::Path | Self::Method)
    }
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its kind.
    pub class: Class,
    /// Where: `body`, `query parameter "limit"`. Names come from the document.
    pub place: String,
    /// JSON pointer (RFC 6901) into the value there.
    pub pointer: String,
    /// The keyword of the schema that does not hold, or a word for what is wrong.
    pub keyword: String,
    /// JSON pointer of that keyword within the schema; may be empty.
    pub schema: String,
}

impl Violation {
    /// One without a schema behind it.
    pub(crate) fn plain(class: Class, place: impl Into<String>, keyword: &str) -> Self {
        Self {
            class,
            place: place.into(),
            pointer: String::new(),
            keyword: keyword.to_owned(),
            schema: String::new(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        if !self.pointer.is_empty() {
            write!(f, " {}", self.pointer)?;
        }
        write!(f, ": {}", self.keyword)?;
        if self.schema.is_empty() { Ok(()) } else { write!(f, " (schema {})", self.schema) }
    }
}

/// Everything that was found wrong with one message, at most [`VIOLATIONS_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations {
    first: Box<Violation>,
    others: Vec<Violation>,
    /// The methods that the document has for the path, for `Allow`.
    pub allow: String,
}

impl Violations {
    /// The first.
    pub fn first(&self) -> &Violation {
        &self.first
    }

    /// All that were looked for.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        std::iter::once(&*self.first).chain(&self.others)
    }

    /// From a list that may be empty.
    pub(crate) fn of(list: Vec<Violation>) -> Option<Self> {
        let mut list = list.into_iter();
        let first = Box::new(list.next()?);
        Some(Self { first, others: list.take(VIOLATIONS_MAX - 1).collect(), allow: String::new() })
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self { first: Box::new(violation), others: Vec::new(), allow: String::new() }
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, violation) in self.iter().enumerate() {
            write!(f, "{}{violation}", if number == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Whether a value keeps a schema; `None` when to say so takes more steps than it may.
fn verdict(validator: &Validator, value: &Value) -> Option<bool> {
    let budget = Budget::to_judge(value);
    let is_valid = validator.is_valid(budget.see(value));
    (!budget.is_spent()).then_some(is_valid)
}

/// Whether a value is known to keep a schema.
pub(crate) fn holds(validator: &Validator, value: &Value) -> bool {
    verdict(validator, value) == Some(true)
}

/// Asks a validator, and tells what does not hold.
pub(crate) fn judge(
    validator: &Validator,
    value: &Value,
    class: Class,
    place: &dyn Fn() -> String,
) -> Vec<Violation> {
    match verdict(validator, value) {
        Some(true) => Vec::new(),
        Some(false) => explain(validator, value, class, place),
        None => {
            let why = "more steps than the limit for validation";
            vec![Violation::plain(Class::Complexity, place(), why)]
        }
    }
}

/// What does not hold. To collect it can take far longer than the verdict, which is kept
/// for each schema and value where they meet again, and far more memory: the validator
/// collects everything before it hands out the first.
fn explain(validator: &Validator, value: &Value, class: Class, place: &dyn Fn() -> String) -> Vec<Violation> {
    let told = |error: ValidationError<'_>| Violation {
        class,
        place: place(),
        pointer: cut(error.instance_path().as_str()),
        keyword: error.kind().keyword().to_owned(),
        schema: error.schema_path().as_str().to_owned(),
    };
    let within = |ask: &dyn Fn(Seen<'_>) -> Vec<Violation>| {
        let budget = Budget::to_explain(value)?;
        let found = ask(budget.see(value));
        (!budget.is_spent() && !found.is_empty()).then_some(found)
    };
    within(&|seen| validator.iter_errors(seen).take(VIOLATIONS_MAX).map(told).collect())
        .or_else(|| within(&|seen| validator.validate(seen).err().map(told).into_iter().collect()))
        // Two ways of asking disagree, or there was no time to ask: the answer is no.
        .unwrap_or_else(|| vec![Violation::plain(class, place(), "schema")])
}

fn cut(pointer: &str) -> String {
    let mut end = pointer.len().min(POINTER_BYTES_MAX);
    while !pointer.is_char_boundary(end) {
        end -= 1;
    }
    pointer.get(..end).unwrap_or_default().to_owned()
}
