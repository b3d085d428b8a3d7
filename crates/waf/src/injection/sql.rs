//! Whether a value is an SQL injection: its fingerprint in each place that it could be put
//! in, and what speaks for chance.

use super::fingerprint::Fingerprint;
use super::fold::{Folded, fold};
use super::token::{Kind, TEXT_MAX};
use super::tokenizer::{BareExponent, Dialect, Tokenizer};
use super::words::{is_known, look_up, starts_phrase};

/// The fingerprint of the injection that `value` is, if it is one.
pub(super) fn detect(value: &[u8]) -> Option<Fingerprint> {
    // A number and a word at most: no known fingerprint but `1U`, which is chance.
    if value.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        return None;
    }
    if is_name(value) || is_prose(value) { None } else { examine(value) }
}

fn examine(value: &[u8]) -> Option<Fingerprint> {
    match places(value, BareExponent::Nothing) {
        // The original's earlier and later releases differ in this: each reading counts.
        (None, true) => places(value, BareExponent::Word).0,
        (found, _) => found,
    }
}

/// Whether a value is read as a single word: letters, digits and dots behind a letter, and no
/// word of SQL before a dot. No fingerprint is of one token.
fn is_name(value: &[u8]) -> bool {
    value.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
        && Tokenizer::splits(value).all(|before| matches!(look_up(before), Kind::Nothing | Kind::Bareword))
}

/// Whether a value is words of no meaning in SQL, and whole numbers, between single spaces
/// and dots. It is read as names and numbers alone, of which no fingerprint consists. A dot
/// behind a digit is left to the tokenizer: `1.e5or` is a number and an operator.
fn is_prose(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_ .".contains(byte))
        && !value.windows(2).any(|pair| matches!(pair, [b'0'..=b'9', b'.']))
        && value.split(|byte| matches!(byte, b' ' | b'.')).all(|word| match word.first() {
            None => false,
            Some(b'0'..=b'9') => word.iter().all(u8::is_ascii_digit),
            // The tokenizer cuts longer words, to what may be a known one.
            Some(_) if word.len() + 1 >= TEXT_MAX => false,
            Some(_) => look_up(word) == Kind::Nothing && !starts_phrase(word),
        })
}

/// What was found in a reading, and whether there was a number with a bare exponent.
type Found = (Option<Fingerprint>, bool);

/// The value as it stands and inside of each kind of quotes that it has.
fn places(value: &[u8], exponent: BareExponent) -> Found {
    let mut had_exponent = false;
    for (place, quote) in [None, Some(b'\''), Some(b'"')].into_iter().enumerate() {
        if quote.is_some_and(|quote| memchr::memchr(quote, value).is_none()) {
            continue;
        }
        // Double quotes hold a string in MySQL alone.
        let first = if place == 2 { Dialect::MySql } else { Dialect::Ansi };
        let reading = read(value, first, quote, exponent);
        had_exponent |= reading.had_exponent;
        let mut found = reading.found;
        if found.is_none() && first == Dialect::Ansi && reading.ambiguous {
            let reading = read(value, Dialect::MySql, quote, exponent);
            had_exponent |= reading.had_exponent;
            found = reading.found;
        }
        if found.is_some() {
            return (found, had_exponent);
        }
    }
    (None, had_exponent)
}

struct Reading {
    found: Option<Fingerprint>,
    /// MySQL could read something else.
    ambiguous: bool,
    had_exponent: bool,
}

fn read(value: &[u8], dialect: Dialect, quote: Option<u8>, exponent: BareExponent) -> Reading {
    let mut tokenizer = Tokenizer::new(value, dialect, quote, exponent);
    let (fingerprint, folded) = fingerprint(&mut tokenizer);
    let letters = fingerprint.as_bytes();
    let attack = is_known(letters) && !is_chance(letters, &folded, tokenizer.tokens, value);
    Reading {
        found: attack.then_some(fingerprint),
        ambiguous: tokenizer.ambiguous,
        had_exponent: tokenizer.had_bare_exponent,
    }
}

/// The fingerprint of what is read, known or not, and its tokens.
pub(super) fn fingerprint(tokenizer: &mut Tokenizer<'_>) -> (Fingerprint, Folded) {
    let mut folded = fold(tokenizer);
    // PHP reads an empty name in backticks that does not end as a comment.
    if folded.count > 2 {
        let last = folded.token(folded.count - 1);
        let unnamed = last.opened == Some(b'`') && last.text().is_empty() && last.closed.is_none();
        if last.kind == Kind::Bareword && unnamed {
            folded.set_kind(folded.count - 1, Kind::Comment);
        }
    }
    let fingerprint = if folded.kinds().any(|kind| kind == Kind::Evil) {
        Fingerprint::new(std::iter::once(Kind::Evil as u8))
    } else {
        Fingerprint::new(folded.kinds().map(|kind| kind as u8))
    };
    (fingerprint, folded)
}

/// Whether a known fingerprint of few tokens is more likely plain text.
fn is_chance(letters: &[u8], folded: &Folded, tokens: usize, value: &[u8]) -> bool {
    // SQL Server's audit log leaves out statements with this word in a comment.
    if letters.len() > 1 && letters.ends_with(b"c") && memchr::memmem::find(value, b"sp_password").is_some() {
        return false;
    }
    match letters.len() {
        2 => is_chance_of_two(letters, folded, tokens, value),
        3 => is_chance_of_three(letters, folded, tokens),
        _ => false,
    }
}

fn is_chance_of_two(letters: &[u8], folded: &Folded, tokens: usize, value: &[u8]) -> bool {
    let (one, two) = (folded.token(0), folded.token(1));
    if letters.ends_with(b"U") {
        // `1 union` alone is text; what was folded to it is not.
        return tokens == 2;
    }
    if two.first() == Some(b'#') {
        return true;
    }
    match (one.kind, two.kind) {
        (Kind::Bareword, Kind::Comment) if two.first() != Some(b'/') => true,
        (Kind::Number, Kind::Comment) => {
            // `1234--` is an attack, `1234-ABCDEF--` is some identifier.
            let after = value.get(one.text().len()..).unwrap_or_default();
            let attack = two.first() == Some(b'/')
                || tokens > 2
                || after.first().is_none_or(|byte| *byte <= b' ' || *byte >= 0x80)
                || after.starts_with(b"/*")
                || after.starts_with(b"--");
            !attack
        }
        // `foo--` is a scan, `foo -- bar` is text.
        _ => two.text().len() > 2 && two.first() == Some(b'-'),
    }
}

fn is_chance_of_three(letters: &[u8], folded: &Folded, tokens: usize) -> bool {
    match letters {
        b"sos" | b"s&s" => {
            // …foo' + 'bar… is an attack: neither end is in the value.
            let (one, three) = (folded.token(0), folded.token(2));
            one.opened.is_some() || three.closed.is_some() || one.closed != three.opened
        }
        b"s&n" | b"n&1" | b"1&1" | b"1&v" | b"1&s" => tokens == 3,
        _ if folded.token(1).kind == Kind::Keyword => {
            // INTO OUTFILE and INTO DUMPFILE.
            let text = folded.token(1);
            let text = text.text();
            text.len() < 5 || !text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"INTO"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_name_is_no_injection(value in "((json|order|value|x|q|N|_|SYS|current|select|union|not|int|binary|database|e5or|USER_ID|if)[.0-9_]{0,2}){1,6}") {
            if is_name(value.as_bytes()) {
                prop_assert!(examine(value.as_bytes()).is_none(), "{value}");
                let mut tokenizer = Tokenizer::new(value.as_bytes(), Dialect::Ansi, None, BareExponent::Nothing);
                prop_assert!(tokenizer.next().is_some() && tokenizer.next().is_none(), "{value}");
            }
        }

        #[test]
        fn prose_is_no_injection(value in "((value|order|a|x|_|SYS|current|sleep|at|1|0x1|1e5|42|b|e1|DATABASE_NAME|time|or|and|like|union|e5or|e5like|fUNION|dOR)[ .]{0,2}){0,7}") {
            if is_prose(value.as_bytes()) {
                prop_assert!(examine(value.as_bytes()).is_none(), "{value}");
            }
        }
    }

    #[test]
    fn an_operator_at_the_end_of_a_number_is_no_prose() {
        for attack in ["1.e5or 1.e5or 1", "1.e5or 1.e5like 1.e5"] {
            assert!(detect(attack.as_bytes()).is_some(), "{attack}");
        }
        for honest in ["version 1.5", "1.e5", "12.50 a piece"] {
            assert!(detect(honest.as_bytes()).is_none(), "{honest}");
        }
    }

    #[test]
    fn a_name_is_told_from_sql() {
        for name in ["json.order.field1", "order", "a..b", "_.select", "user.name", "order.by"] {
            assert!(is_name(name.as_bytes()), "{name}");
        }
        for other in ["", "1.e5or", "select.1", "a b", ".a"] {
            assert!(!is_name(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn prose_is_told_from_sql() {
        for prose in ["value 12", "json.item.field1", "a b c 1 2"] {
            assert!(is_prose(prose.as_bytes()), "{prose}");
        }
        for other in
            ["1 or 1", "a  b", " a", "a-b", "1e5 x", "full join", "utl_http.request", "", "sleep 1", "1.5"]
        {
            assert!(!is_prose(other.as_bytes()), "{other}");
        }
    }
}
