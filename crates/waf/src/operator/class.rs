//! Sets of bytes out of patterns.

use regex_syntax::hir::{Class, Hir, HirKind};

/// The parser for translated patterns: bytes, `.` matches everything.
pub(super) fn parse(pattern: &str) -> Result<Hir, Box<regex_syntax::Error>> {
    regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .dot_matches_new_line(true)
        .nest_limit(super::rx::GROUP_DEPTH_MAX)
        .build()
        .parse(pattern)
        .map_err(Box::new)
}

/// Whether two atoms that match one byte each have none in common, in any case of
/// letters. Anything else than such an atom counts as common.
pub(super) fn disjoint(one: &str, other: &str) -> bool {
    match (members(one), members(other)) {
        (Some(one), Some(other)) => !one.iter().any(|byte| other.contains(byte)),
        _ => false,
    }
}

/// The bytes that an atom matches, in small letters.
fn members(atom: &str) -> Option<Vec<u8>> {
    let hir = parse(atom).ok()?;
    match hir.kind() {
        HirKind::Literal(literal) => match literal.0.as_ref() {
            [byte] => Some(vec![byte.to_ascii_lowercase()]),
            _ => None,
        },
        HirKind::Class(class) => folded(class),
        _ => None,
    }
}

/// The bytes of a class, in small letters and without doubles.
pub(super) fn folded(class: &Class) -> Option<Vec<u8>> {
    let mut bytes: Vec<u8> = match class {
        Class::Bytes(class) => class.iter().flat_map(|range| range.start()..=range.end()).collect(),
        Class::Unicode(class) => {
            let mut bytes = Vec::new();
            for range in class.iter() {
                if !range.end().is_ascii() {
                    return None;
                }
                bytes.extend((range.start()..=range.end()).filter_map(|letter| u8::try_from(letter).ok()));
            }
            bytes
        }
    };
    bytes.iter_mut().for_each(|byte| *byte = byte.to_ascii_lowercase());
    bytes.sort_unstable();
    bytes.dedup();
    Some(bytes)
}
