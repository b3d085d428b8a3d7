//! A look at a source before Cedar reads it: how deep it nests and how long its
//! expressions are. Cedar's reader descends by recursion, so both are bounded here.

use crate::fault::{Fault, Kind, Place};
use crate::limits::{NESTING_MAX, OPERATORS_MAX, SOURCE_BYTES_MAX};

/// The first limit that the source is over.
pub(crate) fn over_limit(place: &Place<'_>, text: &str) -> Option<Fault> {
    if text.len() > SOURCE_BYTES_MAX {
        let message = format!("the file has {} bytes, at most {SOURCE_BYTES_MAX} can be", text.len());
        return Some(Fault::at(Kind::Limit, place, 0, message));
    }
    let (mut depth, mut operators) = (0_usize, 0_usize);
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => {
                // A string ends at the next quote that is not escaped.
                while let Some((_, inside)) = letters.next() {
                    match inside {
                        '\\' => drop(letters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '/' if letters.peek().is_some_and(|(_, next)| *next == '/') => {
                for (_, inside) in letters.by_ref() {
                    if inside == '\n' {
                        break;
                    }
                }
            }
            '(' | '[' | '{' => {
                depth += 1;
                operators += 1;
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            // Not only at depth 0: a stray bracket must not switch the count off, and
            // no honest policy holds a semicolon elsewhere.
            ';' => operators = 0,
            '.' | '&' | '|' | '+' | '-' | '*' | '!' | '<' | '>' | '=' | '@' | ':' => operators += 1,
            _ if letter.is_alphabetic() => {
                let mut end = at + letter.len_utf8();
                while let Some((next, _)) = letters.next_if(|(_, c)| c.is_alphanumeric() || *c == '_') {
                    end = next + 1;
                }
                if matches!(text.get(at..end), Some("if" | "then" | "else" | "in" | "has" | "like" | "is")) {
                    operators += 1;
                }
            }
            _ => {}
        }
        if depth > NESTING_MAX {
            let message = format!("brackets nest more than {NESTING_MAX} deep: split the policy");
            return Some(Fault::at(Kind::Limit, place, at, message));
        }
        if operators > OPERATORS_MAX {
            let message = format!("a policy has more than {OPERATORS_MAX} operators: split it");
            return Some(Fault::at(Kind::Limit, place, at, message));
        }
    }
    None
}
