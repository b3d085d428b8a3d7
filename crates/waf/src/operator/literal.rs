//! The texts that a regular expression needs: it can match only a value that contains at
//! least one of them. The plan looks for the literals of many rules in one pass and runs
//! an expression only where one of its own was found.
//!
//! Found on the syntax tree, inner ones too: `\bselect\s+.*\bfrom\b` needs `select`, and
//! needs `from`; the set that is rarest in honest traffic is taken. INVARIANT: a set that
//! is handed out is complete; when in doubt there is none.

use super::class::folded;
use crate::classes::{self, Classes};
use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, HirKind, Repetition};

/// A text in small letters that is looked for in any case of ASCII letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Literal(Vec<u8>);

impl Literal {
    /// A literal of these bytes; letters are folded.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_ascii_lowercase())
    }

    /// The bytes to look for, in small letters.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Most literals of one expression.
pub(super) const LITERALS_MAX: usize = 1_024;
/// Most texts that are multiplied out where parts follow each other.
const PRODUCT_MAX: usize = 256;
/// Most members of a class that are multiplied out with its neighbours.
const CLASS_MAX: usize = 16;
/// Most members of a class of rare signs alone that are looked for one by one.
const SIGNS_MAX: usize = 64;
/// Longest literal, in bytes; more tells no more.
const LENGTH_MAX: usize = 24;
/// Least rarity of a literal that is worth looking for; see [`rarity`].
const RARITY_MIN: u32 = 2;

type Texts = Vec<Vec<u8>>;

/// What is known of a part of an expression.
struct Part {
    /// All texts that it matches, when they are few.
    exact: Option<Texts>,
    /// Texts of which each of its matches contains at least one.
    required: Option<Texts>,
    /// Texts with one of which each of its matches starts, and with one of which it ends;
    /// known of a repetition whose matches are many.
    ends: Option<Texts>,
}

impl Part {
    const UNKNOWN: Self = Self { exact: None, required: None, ends: None };

    /// The better of both kinds of knowledge, as a requirement.
    fn requirement(self) -> Option<Texts> {
        better(self.required, self.exact)
    }
}

/// The literals that `expression` needs, when they tell anything; of values that hold a
/// byte of the second, nothing is known.
pub(super) fn required(expression: &Hir) -> Option<(Vec<Literal>, Classes)> {
    if let Some(literals) = telling(expression) {
        return Some((literals, 0));
    }
    // What takes words apart to hide them is rare: without it they are seen.
    // Signs that it does not name make no difference.
    let absent = classes::SIGNS & classes::held(expression);
    let plain = without(expression, absent)?;
    telling(&plain).map(|literals| (literals, absent))
}

fn telling(expression: &Hir) -> Option<Vec<Literal>> {
    let texts = part(expression).requirement()?;
    if least_rarity(&texts) < RARITY_MIN {
        return None;
    }
    let mut literals: Vec<Literal> = shortest(texts).into_iter().map(Literal).collect();
    literals.sort_unstable();
    (literals.len() <= LITERALS_MAX).then_some(literals)
}

/// What is left of an expression on values that hold no byte of `absent`; None where it
/// matches none of them.
fn without(expression: &Hir, absent: Classes) -> Option<Hir> {
    let is_absent = |byte: u8| classes::of_byte(byte) & absent != 0;
    Some(match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => expression.clone(),
        HirKind::Literal(literal) => {
            let gone = literal.0.iter().any(|byte| is_absent(*byte));
            return (!gone).then(|| expression.clone());
        }
        HirKind::Class(Class::Bytes(class)) => {
            let bytes = class.iter().flat_map(|range| range.start()..=range.end());
            let kept = bytes.filter(|byte| !is_absent(*byte)).map(|byte| ClassBytesRange::new(byte, byte));
            let class = ClassBytes::new(kept);
            if class.ranges().is_empty() {
                return None;
            }
            Hir::class(Class::Bytes(class))
        }
        HirKind::Class(Class::Unicode(_)) => expression.clone(),
        HirKind::Repetition(repetition) => match without(&repetition.sub, absent) {
            Some(sub) => Hir::repetition(Repetition { sub: Box::new(sub), ..repetition.clone() }),
            None if repetition.min == 0 => Hir::empty(),
            None => return None,
        },
        HirKind::Capture(capture) => without(&capture.sub, absent)?,
        HirKind::Concat(parts) => {
            Hir::concat(parts.iter().map(|part| without(part, absent)).collect::<Option<_>>()?)
        }
        HirKind::Alternation(parts) => {
            let parts: Vec<Hir> = parts.iter().filter_map(|part| without(part, absent)).collect();
            if parts.is_empty() {
                return None;
            }
            Hir::alternation(parts)
        }
    })
}

/// How rare a text is in honest values: letters and the signs of plain texts and paths
/// count one, other signs three.
fn rarity(text: &[u8]) -> u32 {
    text.iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b' ' | b'.' | b',' | b'-' | b'_' | b'/' | b':' => 1,
            _ => 3,
        })
        .sum()
}

fn least_rarity(texts: &Texts) -> u32 {
    texts.iter().map(|text| rarity(text)).min().unwrap_or_default()
}

/// What a set is worth: whether it tells enough, then how rare its commonest text is,
/// against how many there are to look for.
fn worth(texts: &Texts) -> (bool, i64) {
    let rarity = least_rarity(texts);
    // Past six a text is as good as absent from honest values.
    let (rare, many) = (i64::from(rarity.min(6)), i64::from(texts.len().max(1).ilog2()));
    (rarity >= RARITY_MIN, 2 * rare - many)
}

/// Sets that hold the empty text, too many texts or none tell nothing.
fn usable(texts: &Texts) -> bool {
    !texts.is_empty() && texts.len() <= LITERALS_MAX && texts.iter().all(|text| !text.is_empty())
}

fn better(one: Option<Texts>, other: Option<Texts>) -> Option<Texts> {
    let (one, other) = (one.filter(usable), other.filter(usable));
    match (one, other) {
        (Some(one), Some(other)) => Some(if worth(&other) > worth(&one) { other } else { one }),
        (one, other) => one.or(other),
    }
}

fn dedup(mut texts: Texts) -> Texts {
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// Without the texts that contain another one of the set, and cut to the longest length.
fn shortest(texts: Texts) -> Texts {
    let mut texts = texts;
    texts.iter_mut().for_each(|text| text.truncate(LENGTH_MAX));
    let mut texts = dedup(texts);
    texts.sort_by_key(Vec::len);
    let mut kept: Texts = Vec::with_capacity(texts.len());
    for text in texts {
        if !kept.iter().any(|short| memchr::memmem::find(&text, short).is_some()) {
            kept.push(text);
        }
    }
    kept
}

/// Every text of `one` followed by every text of `other`, when they stay few.
fn product(one: &Texts, other: &Texts) -> Option<Texts> {
    if one.len().saturating_mul(other.len()) > PRODUCT_MAX {
        return None;
    }
    let mut texts = Vec::with_capacity(one.len() * other.len());
    for start in one {
        for end in other {
            let text = [start.as_slice(), end].concat();
            if text.len() > LENGTH_MAX {
                return None;
            }
            texts.push(text);
        }
    }
    Some(dedup(texts))
}

fn part(expression: &Hir) -> Part {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => {
            Part { exact: Some(vec![Vec::new()]), required: None, ends: None }
        }
        HirKind::Literal(literal) => {
            let text = literal.0.to_ascii_lowercase();
            if text.len() <= LENGTH_MAX {
                return Part { exact: Some(vec![text]), required: None, ends: None };
            }
            Part {
                exact: None,
                required: text.get(..LENGTH_MAX).map(|start| vec![start.to_vec()]),
                ends: None,
            }
        }
        HirKind::Class(class) => match folded(class) {
            Some(bytes) if bytes.is_empty() || bytes.len() > SIGNS_MAX => Part::UNKNOWN,
            Some(bytes) => {
                let few = bytes.len() <= CLASS_MAX;
                let texts: Texts = bytes.into_iter().map(|byte| vec![byte]).collect();
                if few {
                    return Part { exact: Some(texts), required: None, ends: None };
                }
                Part {
                    exact: None,
                    required: Some(texts).filter(|texts| least_rarity(texts) > 1),
                    ends: None,
                }
            }
            None => Part::UNKNOWN,
        },
        HirKind::Repetition(repetition) => repeated(repetition.min, repetition.max, part(&repetition.sub)),
        HirKind::Capture(capture) => part(&capture.sub),
        HirKind::Concat(parts) => in_a_row(parts.iter().map(part)),
        HirKind::Alternation(parts) => either(parts.iter().map(part)),
    }
}

fn repeated(min: u32, max: Option<u32>, inner: Part) -> Part {
    if min == 0 {
        let exact = inner.exact.filter(|_| max == Some(1)).map(|mut texts| {
            texts.push(Vec::new());
            dedup(texts)
        });
        return Part { exact, required: None, ends: None };
    }
    if min == 1 && max == Some(1) {
        return inner;
    }
    let Part { exact, required, .. } = inner;
    let mut row = exact.clone();
    for _ in 1..min.min(8) {
        row = row.as_ref().zip(exact.as_ref()).and_then(|(row, one)| product(row, one));
    }
    if max == Some(min) && min <= 8 && row.is_some() {
        return Part { exact: row, required, ends: None };
    }
    let ends = row.clone().or_else(|| exact.clone());
    Part { exact: None, required: better(better(required, exact), row), ends }
}

fn in_a_row(parts: impl Iterator<Item = Part>) -> Part {
    let mut best: Option<Texts> = None;
    // What all parts since the last unknown one match together.
    let mut run: Texts = vec![Vec::new()];
    let mut whole = true;
    for Part { exact, required, ends } in parts {
        best = better(best, required);
        match exact {
            Some(exact) => match product(&run, &exact) {
                Some(longer) => {
                    if longer.len() > run.len() {
                        best = better(best, Some(run));
                    }
                    run = longer;
                }
                None => {
                    whole = false;
                    best = better(best, Some(std::mem::replace(&mut run, exact)));
                }
            },
            None => {
                whole = false;
                best = better(best, ends.as_ref().and_then(|ends| product(&run, ends)));
                best =
                    better(best, Some(std::mem::replace(&mut run, ends.unwrap_or_else(|| vec![Vec::new()]))));
            }
        }
    }
    if whole {
        return Part { exact: Some(run), required: best, ends: None };
    }
    Part { exact: None, required: better(best, Some(run)), ends: None }
}

fn either(parts: impl Iterator<Item = Part>) -> Part {
    let (mut exact, mut required) = (Some(Texts::new()), Some(Texts::new()));
    for branch in parts {
        exact = exact.zip(branch.exact.as_ref()).and_then(|(mut all, texts)| {
            all.extend(texts.iter().cloned());
            (all.len() <= LITERALS_MAX).then_some(all)
        });
        required = required.zip(branch.requirement()).and_then(|(mut all, texts)| {
            all.extend(texts);
            // Doubles go before the set is called too large.
            if all.len() > LITERALS_MAX {
                all = shortest(all);
            }
            (all.len() <= LITERALS_MAX).then_some(all)
        });
    }
    Part { exact: exact.map(dedup), required: required.map(shortest), ends: None }
}

#[cfg(test)]
mod tests;
