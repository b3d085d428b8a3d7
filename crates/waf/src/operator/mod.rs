//! What a rule compares a value with: `@rx`, `@pm`, `@detectSQLi` and their kin, as the
//! ModSecurity reference manual documents them, with the behaviour of version 2.9 where
//! 2.9 and 3 differ. One small file for each kind.
//!
//! An [`Operator`] is compiled once, at load, and shared by all cores. What it cannot do
//! is refused there, by name and with the reason. Negation (`!@rx`) is the engine's.
//!
//! Deliberately different from 2.9: macros are expanded in every operator whose argument
//! is a text, a number, an expression, a range of bytes or a list of networks; an argument
//! of `@eq` and its kin that is no number is refused, where 2.9 takes it for zero; a bar
//! in `@pm` that opens no hexadecimal form is refused, where 2.9 drops what follows.

mod argument;
mod bytes;
mod class;
mod found;
mod geo;
mod ip;
mod literal;
mod number;
mod pcre;
mod pm;
mod proof;
mod rx;
mod text;
mod verify;

#[cfg(test)]
mod tests;

pub(crate) use found::Found;
#[cfg(test)]
pub(crate) use geo::tests::database as places;
pub(crate) use literal::Literal;
pub(crate) use number::Order;
pub(crate) use rx::escape;

use crate::{
    classes::{self, Classes},
    injection,
    sources::Sources,
};
use argument::Argument;
use std::fmt;
use text::Comparison;
use verify::Number;

/// Why an operator cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OperatorFault {
    /// There is no operator of this name.
    Unknown,
    /// The operator is known and not supported; why, and what to do instead.
    Refused(&'static str),
    /// The argument is wrong at this byte of it.
    Argument { message: String, offset: usize },
    /// A file that the argument names cannot be used.
    File { path: String, message: String },
}

impl fmt::Display for OperatorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such operator"),
            Self::Refused(reason) => f.write_str(reason),
            Self::Argument { message, .. } => f.write_str(message),
            Self::File { path, message } => write!(f, "{path}: {message}"),
        }
    }
}

/// Bytes that one unit of work pays for.
pub(crate) const BYTES_PER_WORK: u64 = 16;

/// How much an operator costs, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cost {
    /// Looks at no byte.
    Constant,
    /// Reads a number or an address.
    Number,
    /// One plain pass over the value.
    Text,
    /// One pass for many phrases.
    Phrases,
    /// One run of an expression.
    Regex,
    /// One run of an expression of more than a thousand states.
    LargeRegex,
    /// Takes the value apart as SQL or HTML, several times.
    Injection,
}

/// What an argument is turned into: at load where it is plain, else when it is expanded.
enum Value<T> {
    Known(T),
    Expanded,
}

enum Kind {
    Always(bool),
    Compare(Comparison),
    Order(Order, Value<i64>),
    Regex(Box<rx::Pattern>),
    ExpandingRegex(rx::Expanding),
    Phrases(Box<pm::Phrases>),
    Networks(Value<ip::Networks>),
    ByteRange(Value<Box<bytes::ByteRange>>),
    UrlEncoding,
    Utf8Encoding,
    Verify(Box<verify::Verify>),
    Place(Box<geo::Places>),
    Sql,
    Script,
}

type Compile = fn(&Argument<'_>) -> Result<Kind, OperatorFault>;

fn order(order: Order, argument: &Argument<'_>) -> Result<Kind, OperatorFault> {
    let value = argument.known(|text| {
        let number = text.trim().strip_prefix('+').unwrap_or(text.trim());
        number.parse::<i64>().map_err(|_| OperatorFault::Argument {
            message: format!("`{text}` is no whole number"),
            offset: 0,
        })
    })?;
    Ok(Kind::Order(order, value))
}

fn regex(global: bool, argument: &Argument<'_>) -> Result<Kind, OperatorFault> {
    if argument.has_macros {
        return Ok(Kind::ExpandingRegex(rx::Expanding::new(global)));
    }
    Ok(Kind::Regex(Box::new(rx::Pattern::new(argument.text, global)?)))
}

fn verify(number: Number, argument: &Argument<'_>) -> Result<Kind, OperatorFault> {
    argument.no_macros()?;
    Ok(Kind::Verify(Box::new(verify::Verify::new(argument.text, number)?)))
}

fn phrases_of_files(argument: &Argument<'_>) -> Result<Kind, OperatorFault> {
    argument.no_macros()?;
    Ok(Kind::Phrases(Box::new(pm::Phrases::from_files(argument)?)))
}

fn networks_of_files(argument: &Argument<'_>) -> Result<Kind, OperatorFault> {
    argument.no_macros()?;
    Ok(Kind::Networks(Value::Known(ip::Networks::from_files(argument)?)))
}

/// Every operator, by the name that the reference manual gives it.
const OPERATORS: &[(&str, Compile)] = &[
    ("beginsWith", |_| Ok(Kind::Compare(Comparison::BeginsWith))),
    ("contains", |_| Ok(Kind::Compare(Comparison::Contains))),
    ("containsWord", |_| Ok(Kind::Compare(Comparison::ContainsWord))),
    ("detectSQLi", |_| Ok(Kind::Sql)),
    ("detectXSS", |_| Ok(Kind::Script)),
    ("endsWith", |_| Ok(Kind::Compare(Comparison::EndsWith))),
    ("eq", |argument| order(Order::Equal, argument)),
    ("ge", |argument| order(Order::GreaterOrEqual, argument)),
    ("geoLookup", |argument| Ok(Kind::Place(Box::new(geo::Places::from_file(argument)?)))),
    ("gt", |argument| order(Order::Greater, argument)),
    ("ipMatch", |argument| Ok(Kind::Networks(argument.known(ip::Networks::from_argument)?))),
    ("ipMatchF", networks_of_files),
    ("ipMatchFromFile", networks_of_files),
    ("le", |argument| order(Order::LessOrEqual, argument)),
    ("lt", |argument| order(Order::Less, argument)),
    ("noMatch", |_| Ok(Kind::Always(false))),
    ("pm", |argument| {
        argument.no_macros()?;
        Ok(Kind::Phrases(Box::new(pm::Phrases::from_argument(argument.text)?)))
    }),
    ("pmf", phrases_of_files),
    ("pmFromFile", phrases_of_files),
    ("rx", |argument| regex(false, argument)),
    ("rxGlobal", |argument| regex(true, argument)),
    ("streq", |_| Ok(Kind::Compare(Comparison::Equal))),
    ("strmatch", |_| Ok(Kind::Compare(Comparison::Contains))),
    ("unconditionalMatch", |_| Ok(Kind::Always(true))),
    ("validateByteRange", |argument| {
        Ok(Kind::ByteRange(argument.known(|text| bytes::ByteRange::new(text).map(Box::new))?))
    }),
    ("validateUrlEncoding", |_| Ok(Kind::UrlEncoding)),
    ("validateUtf8Encoding", |_| Ok(Kind::Utf8Encoding)),
    ("verifyCC", |argument| verify(Number::Card, argument)),
    ("verifyCPF", |argument| verify(Number::Cpf, argument)),
    ("verifySSN", |argument| verify(Number::Ssn, argument)),
    ("verifySVNR", |argument| verify(Number::Svnr, argument)),
    ("within", |_| Ok(Kind::Compare(Comparison::Within))),
];

/// Operators of the manuals that are not supported, and why.
const REFUSED: &[(&str, &str)] = &[
    (
        "fuzzyHash",
        "@fuzzyHash is not supported: it compares files with lists of ssdeep digests; scan uploads where they are stored",
    ),
    ("gsbLookup", "@gsbLookup is not supported: it needs a database that its publisher withdrew"),
    (
        "inspectFile",
        "@inspectFile is not supported: a rule must not start programs; scan uploads where they are stored",
    ),
    (
        "rbl",
        "@rbl is not supported: a request must not wait for name servers; fetch the list and use @ipMatchFromFile",
    ),
    ("rsub", "@rsub is not supported: a rule judges bodies and does not change them"),
    (
        "validateDTD",
        "@validateDTD is not supported: documents are read without type definitions, which is what stops attacks through them",
    ),
    (
        "validateHash",
        "@validateHash is not supported: it needs signatures that the engine would put into pages",
    ),
    (
        "validateSchema",
        "@validateSchema is not supported: validate against a schema in the service that reads the document",
    ),
];

/// A compiled operator.
pub(crate) struct Operator {
    kind: Kind,
    /// As written; used where the argument holds no macros.
    argument: Box<str>,
    /// The argument as a literal, for the comparisons that need it in the value.
    literal: Option<[Literal; 1]>,
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").field("argument", &self.argument).finish_non_exhaustive()
    }
}

impl Operator {
    /// Its argument as written.
    pub(crate) fn argument(&self) -> &str {
        &self.argument
    }

    /// The operator `name` (in any mix of upper and lower case) with its argument as
    /// written. `has_macros`: the argument contains `%{…}` and [`Self::evaluate`] is given
    /// its expansion. `from` is the rule file, from which paths are resolved. The argument
    /// of `geoLookup` is the path that `SecGeoLookupDb` names.
    ///
    /// # Errors
    /// When there is no such operator, it is not supported, or its argument is wrong.
    pub(crate) fn compile(
        name: &str,
        argument: &str,
        has_macros: bool,
        sources: &dyn Sources,
        from: &str,
    ) -> Result<Self, OperatorFault> {
        let Some((_, compile)) = OPERATORS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            let refused = REFUSED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            return Err(refused.map_or(OperatorFault::Unknown, |(_, reason)| OperatorFault::Refused(reason)));
        };
        let kind = compile(&Argument { text: argument, has_macros, sources, from })?;
        let literal = match kind {
            Kind::Compare(comparison)
                if comparison.needs_argument() && !has_macros && argument.len() >= 3 =>
            {
                Some([Literal::new(argument.as_bytes())])
            }
            _ => None,
        };
        Ok(Self { kind, argument: argument.into(), literal })
    }

    /// Whether `value` matches. `expanded` is the argument with its macros expanded, for
    /// an operator that was compiled with macros. What matched is left in `found`.
    pub(crate) fn evaluate(&self, value: &[u8], expanded: Option<&[u8]>, found: &mut Found) -> bool {
        found.clear();
        let argument = || expanded.unwrap_or(self.argument.as_bytes());
        match &self.kind {
            Kind::Always(matches) => *matches,
            Kind::Compare(comparison) => comparison.evaluate(value, argument(), found),
            Kind::Order(order, Value::Known(number)) => order.evaluate(number::leading(value), *number),
            Kind::Order(order, Value::Expanded) => {
                order.evaluate(number::leading(value), number::leading(argument()))
            }
            Kind::Regex(pattern) => pattern.evaluate(value, found),
            Kind::ExpandingRegex(expanding) => expanding.evaluate(value, argument(), found),
            Kind::Phrases(phrases) => phrases.evaluate(value, found),
            Kind::Networks(Value::Known(networks)) => networks.evaluate(value, found),
            Kind::Networks(Value::Expanded) => {
                match ip::Networks::from_argument(&String::from_utf8_lossy(argument())) {
                    Ok(networks) => networks.evaluate(value, found),
                    Err(fault) => found.fail(fault.to_string()),
                }
            }
            Kind::ByteRange(Value::Known(range)) => range.evaluate(value, found),
            Kind::ByteRange(Value::Expanded) => {
                match bytes::ByteRange::new(&String::from_utf8_lossy(argument())) {
                    Ok(range) => range.evaluate(value, found),
                    Err(fault) => found.fail(fault.to_string()),
                }
            }
            Kind::UrlEncoding => bytes::broken_url_encoding(value, found),
            Kind::Utf8Encoding => bytes::broken_utf8(value, found),
            Kind::Verify(verify) => verify.evaluate(value, found),
            Kind::Place(places) => places.evaluate(value, found),
            Kind::Sql => injection::sql(value)
                .map(|fingerprint| found.matched_text(fingerprint.as_bytes().to_vec()))
                .is_some(),
            Kind::Script => {
                let script = injection::script(value);
                if script {
                    found.matched(0..value.len());
                }
                script
            }
        }
    }

    /// Whether its argument is an expression, in which macros stand for themselves.
    pub(crate) fn expands_expression(&self) -> bool {
        matches!(self.kind, Kind::ExpandingRegex(_))
    }

    /// Whether its answer is of the value and the argument alone and cannot fail.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Always(_) | Kind::Compare(_) | Kind::Order(..))
    }

    /// How much one evaluation costs.
    pub(crate) fn cost(&self) -> Cost {
        match &self.kind {
            Kind::Always(_) => Cost::Constant,
            Kind::Order(..) | Kind::Networks(_) | Kind::Place(_) => Cost::Number,
            Kind::Compare(_) | Kind::ByteRange(_) | Kind::UrlEncoding | Kind::Utf8Encoding => Cost::Text,
            Kind::Phrases(_) => Cost::Phrases,
            Kind::Regex(pattern) => pattern.cost(),
            Kind::Verify(verify) => verify.pattern().cost(),
            Kind::ExpandingRegex(_) => Cost::LargeRegex,
            Kind::Sql | Kind::Script => Cost::Injection,
        }
    }

    /// Some: the operator matches only a value that contains at least one of these, in
    /// any case of ASCII letters, or a byte of [`Self::unless`]. None: it may match any value.
    pub(crate) fn literals(&self) -> Option<&[Literal]> {
        match &self.kind {
            Kind::Regex(pattern) => pattern.literals(),
            Kind::Phrases(phrases) => phrases.literals(),
            Kind::Verify(verify) => verify.pattern().literals(),
            Kind::Compare(_) => self.literal.as_ref().map(<[Literal; 1]>::as_slice),
            _ => None,
        }
    }

    /// Kinds of bytes whose presence makes [`Self::literals`] say nothing.
    pub(crate) fn unless(&self) -> Classes {
        match &self.kind {
            Kind::Regex(pattern) => pattern.unless(),
            Kind::Verify(verify) => verify.pattern().unless(),
            _ => 0,
        }
    }

    /// The comparison that it is, when it compares with a number that is known.
    pub(crate) fn order(&self) -> Option<(Order, i64)> {
        match &self.kind {
            Kind::Order(order, Value::Known(number)) => Some((*order, *number)),
            _ => None,
        }
    }

    /// Kinds of bytes of which the operator needs one in the value to match at all; 0 when
    /// nothing is known.
    pub(crate) fn needs(&self) -> Classes {
        match &self.kind {
            Kind::Regex(pattern) => pattern.needs(),
            Kind::Verify(verify) => verify.pattern().needs(),
            Kind::ByteRange(Value::Known(range)) => range.outside(),
            Kind::UrlEncoding => classes::PERCENT,
            Kind::Utf8Encoding => classes::HIGH,
            // A word or a number alone is no injection; a script needs a tag or an attribute.
            Kind::Sql => classes::ALL & !(classes::LOWER | classes::UPPER | classes::ODD | classes::ALWAYS),
            Kind::Script => classes::ANGLE | classes::EQUALS,
            _ => 0,
        }
    }

    /// Compiles what would otherwise be compiled when it first runs.
    pub(crate) fn prepare(&self) {
        match &self.kind {
            Kind::Regex(pattern) if !pattern.is_compiled() => drop(pattern.regex()),
            Kind::Verify(verify) => drop(verify.pattern().regex()),
            _ => {}
        }
    }

    /// Whether [`Self::prepare`] has nothing left to do.
    pub(crate) fn is_prepared(&self) -> bool {
        match &self.kind {
            Kind::Regex(pattern) => pattern.is_compiled(),
            Kind::Verify(verify) => verify.pattern().is_compiled(),
            _ => true,
        }
    }

    /// All names that [`Self::compile`] supports.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        OPERATORS.iter().map(|&(name, _)| name)
    }
}
