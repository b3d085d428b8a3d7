//! Which kinds of bytes a value holds: one word of bits that says cheaply what cannot be.
//!
//! Two questions are answered by it before any work is done. Can this chain of
//! transformations change this value at all? Can this operator match it at all?
//! INVARIANT: both answers err towards "yes".

use crate::by_byte::by_byte;
use regex_syntax::hir::{Class, Hir, HirKind};

/// A set of kinds of bytes.
pub(crate) type Classes = u32;

/// Small letters, digits and `_`.
pub(crate) const LOWER: Classes = 1;
pub(crate) const UPPER: Classes = 1 << 1;
pub(crate) const SPACE: Classes = 1 << 2;
const DOT: Classes = 1 << 3;
pub(crate) const DASH: Classes = 1 << 4;
pub(crate) const SLASH: Classes = 1 << 5;
const COLON: Classes = 1 << 6;
pub(crate) const SEMICOLON: Classes = 1 << 7;
pub(crate) const COMMA: Classes = 1 << 8;
pub(crate) const EQUALS: Classes = 1 << 9;
pub(crate) const AMPERSAND: Classes = 1 << 10;
pub(crate) const PLUS: Classes = 1 << 11;
pub(crate) const PERCENT: Classes = 1 << 12;
pub(crate) const QUOTE: Classes = 1 << 13;
pub(crate) const ANGLE: Classes = 1 << 14;
pub(crate) const PARENTHESIS: Classes = 1 << 15;
const BRACKET: Classes = 1 << 16;
const BRACE: Classes = 1 << 17;
pub(crate) const BACKSLASH: Classes = 1 << 18;
const DOLLAR: Classes = 1 << 19;
pub(crate) const STAR: Classes = 1 << 20;
pub(crate) const HASH: Classes = 1 << 21;
const PIPE: Classes = 1 << 22;
pub(crate) const CARET: Classes = 1 << 23;
/// `!`, `?`, `@`, `~`.
const OTHER: Classes = 1 << 24;
/// 0 to 31 and 127.
pub(crate) const CONTROL: Classes = 1 << 25;
/// 128 to 255.
pub(crate) const HIGH: Classes = 1 << 26;
/// No byte: the value begins with or doubles a space, dot or dash, or ends in a space.
pub(crate) const ODD: Classes = 1 << 27;
/// No byte: every value has it.
pub(crate) const ALWAYS: Classes = 1 << 28;
/// No byte: the value holds two dots in a row.
pub(crate) const DOTS: Classes = 1 << 29;
/// Signs that are rare in honest values, and of use to take words apart.
pub(crate) const SIGNS: Classes = QUOTE
    | PARENTHESIS
    | BRACKET
    | BRACE
    | BACKSLASH
    | DOLLAR
    | STAR
    | HASH
    | PIPE
    | CARET
    | ANGLE
    | AMPERSAND
    | PLUS
    | PERCENT
    | SEMICOLON
    | EQUALS
    | OTHER
    | CONTROL
    | HIGH;
/// All of them.
pub(crate) const ALL: Classes = u32::MAX;

/// The classes of a set, one by one.
fn each(classes: Classes) -> impl Iterator<Item = Classes> {
    (0..Classes::BITS).map(|bit| 1 << bit).filter(move |class| classes & class != 0)
}

/// The class of a byte.
pub(crate) const fn of_byte(byte: u8) -> Classes {
    match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'_' => LOWER,
        b'A'..=b'Z' => UPPER,
        b' ' => SPACE,
        b'.' => DOT,
        b'-' => DASH,
        b'/' => SLASH,
        b':' => COLON,
        b';' => SEMICOLON,
        b',' => COMMA,
        b'=' => EQUALS,
        b'&' => AMPERSAND,
        b'+' => PLUS,
        b'%' => PERCENT,
        b'\'' | b'"' | b'`' => QUOTE,
        b'<' | b'>' => ANGLE,
        b'(' | b')' => PARENTHESIS,
        b'[' | b']' => BRACKET,
        b'{' | b'}' => BRACE,
        b'\\' => BACKSLASH,
        b'$' => DOLLAR,
        b'*' => STAR,
        b'#' => HASH,
        b'|' => PIPE,
        b'^' => CARET,
        b'!' | b'?' | b'@' | b'~' => OTHER,
        0..=31 | 127 => CONTROL,
        128..=255 => HIGH,
    }
}

const TABLE: [Classes; 256] = by_byte!(of_byte);

/// What a value holds.
pub(crate) fn of(value: &[u8]) -> Classes {
    const DOUBLING: Classes = SPACE | DOT | DASH;
    let class = |byte: &u8| TABLE.get(usize::from(*byte)).copied().unwrap_or(ALL);
    let (eights, rest) = value.as_chunks::<8>();
    let found = eights.iter().fold(ALWAYS, |found, [a, b, c, d, e, f, g, h]| {
        found | class(a) | class(b) | class(c) | class(d) | class(e) | class(f) | class(g) | class(h)
    });
    let found = rest.iter().fold(found, |found, byte| found | class(byte));
    if found & DOUBLING == 0 {
        return found;
    }
    let at_its_ends =
        value.first().is_some_and(|first| class(first) & DOUBLING != 0) || value.last() == Some(&b' ');
    let at_its_ends = if at_its_ends { ODD } else { 0 };
    found | at_its_ends | doubles(value)
}

/// The classes of a value in which a space, dot or dash follows itself. Written so that many bytes
/// are compared at a time.
fn doubles(value: &[u8]) -> Classes {
    let next = value.get(1..).unwrap_or_default();
    let pairs = value.iter().zip(next);
    let found = pairs.fold(0, |all, (one, two)| {
        let odd = u8::from((*one == b' ') | (*one == b'-'));
        let dots = u8::from(*one == b'.') << 1;
        all | ((odd | dots) & u8::from(one == two).wrapping_neg())
    });
    match found {
        0 => 0,
        1 => ODD,
        _ => ODD | DOTS,
    }
}

/// How common a class is in honest values; what is rare says more.
const fn weight(class: Classes) -> u32 {
    match class {
        LOWER => 1_000,
        UPPER => 300,
        SPACE => 200,
        DOT | DASH | SLASH => 60,
        COLON | COMMA => 40,
        SEMICOLON | EQUALS | PARENTHESIS => 20,
        _ => 5,
    }
}

fn cost(classes: Classes) -> u32 {
    each(classes & !ALWAYS).map(weight).sum()
}

/// A set of which every match of `expression` holds at least one, when there is a telling one.
pub(crate) fn required(expression: &Hir) -> Option<Classes> {
    need(expression).filter(|classes| classes & LOWER == 0)
}

fn need(expression: &Hir) -> Option<Classes> {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => None,
        HirKind::Literal(literal) => {
            let dots = literal.0.windows(2).any(|pair| pair == b"..").then_some(DOTS);
            let classes = literal.0.iter().map(|byte| of_byte(*byte));
            classes.chain(dots).min_by_key(|class| cost(*class))
        }
        HirKind::Class(class) => Some(of_class(class)),
        HirKind::Repetition(repetition) if repetition.min > 0 => match repetition.sub.kind() {
            HirKind::Literal(literal) if repetition.min > 1 && *literal.0 == *b"." => Some(DOTS),
            _ => need(&repetition.sub),
        },
        HirKind::Repetition(_) => None,
        HirKind::Capture(capture) => need(&capture.sub),
        HirKind::Concat(parts) => parts.iter().filter_map(need).min_by_key(|classes| cost(*classes)),
        HirKind::Alternation(parts) => {
            parts.iter().try_fold(0, |all, part| need(part).map(|classes| all | classes))
        }
    }
}

/// The classes of all bytes that an expression names.
pub(crate) fn held(expression: &Hir) -> Classes {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.iter().fold(0, |all, byte| all | of_byte(*byte)),
        HirKind::Class(class) => of_class(class),
        HirKind::Repetition(repetition) => held(&repetition.sub),
        HirKind::Capture(capture) => held(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(0, |all, part| all | held(part))
        }
    }
}

fn of_class(class: &Class) -> Classes {
    let bytes = |first: u8, last: u8| (first..=last).fold(0, |all, byte| all | of_byte(byte));
    match class {
        Class::Bytes(class) => class.iter().fold(0, |all, range| all | bytes(range.start(), range.end())),
        Class::Unicode(class) => class.iter().fold(0, |all, range| {
            let low = |letter: char| u8::try_from(u32::from(letter).min(128)).unwrap_or(128);
            all | bytes(low(range.start()), low(range.end()))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(pattern: &str) -> Hir {
        regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(pattern).unwrap()
    }

    #[test]
    fn what_a_value_holds_is_told() {
        assert_eq!(of(b""), ALWAYS);
        assert_eq!(of(b"value 12"), ALWAYS | LOWER | SPACE);
        assert_eq!(of(b"json.a.b"), ALWAYS | LOWER | DOT);
        for odd in ["a  b", " a", "a ", "a..b", ".a", "-a", "a--b"] {
            assert!(of(odd.as_bytes()) & ODD != 0, "{odd}");
            // Wherever it stands.
            let odd = |filled: usize| odd.replace('a', &"a".repeat(filled));
            assert!((1..20).all(|filled| of(odd(filled).as_bytes()) & ODD != 0), "{}", odd(1));
        }
        for even in ["a b", "a.b.c", "a-b"] {
            let even = |filled: usize| even.replace('a', &"a".repeat(filled));
            assert!((1..20).all(|filled| of(even(filled).as_bytes()) & ODD == 0), "{}", even(1));
        }
        assert!(of(b"a..b") & DOTS != 0 && of(b"...") & DOTS != 0 && of(b".a. .") & DOTS == 0);
        assert_eq!(of(b"\xff\0") & (HIGH | CONTROL | LOWER), HIGH | CONTROL);
    }

    #[test]
    fn an_expression_needs_its_rarest_part() {
        assert_eq!(required(&parse("a+;b")), Some(SEMICOLON));
        assert_eq!(required(&parse(r"(?:\$|`)\s*x")), Some(DOLLAR | QUOTE));
        assert_eq!(required(&parse("(?:;|x)y")), None);
        assert_eq!(required(&parse(";*a")), None);
        assert_eq!(required(&parse("^$")), None);
        assert_eq!(required(&parse(r"/\.{2,3}/")), Some(DOTS));
        assert_eq!(required(&parse(r"/\.\./")), Some(DOTS));
        assert_eq!(required(&parse(r"a\.?\.a")), Some(DOT));
    }

    proptest! {
        #[test]
        fn a_match_holds_what_its_expression_needs(
            pattern in r"[a-c;$]{0,3}(\([;|]\)|[.]|\\\.|\\\.\\\.|\[a;\]|\[\^a\])?([*+?]|\{2\})?[a;]{0,2}",
            value in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b';'), Just(b'$'), Just(b'.'), any::<u8>()], 0..12),
        ) {
            let Ok(regex) = regex::bytes::RegexBuilder::new(&pattern).unicode(false).build() else { return Ok(()) };
            if let Some(needed) = required(&parse(&pattern)) && regex.is_match(&value) {
                prop_assert!(of(&value) & needed != 0, "{pattern} {value:?}");
            }
        }
    }
}
