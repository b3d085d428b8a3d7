//! Character sets that a content type names. Rules look for attacks, which are written in
//! ASCII; a text in a set that has those letters elsewhere is one that no rule has seen.

/// Those in which all ASCII is where it is in UTF-8, and nothing else becomes ASCII; the Core
/// Rule Set lets the same ones pass.
const READ: [&str; 8] =
    ["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "latin1", "windows-1252"];
/// What the processor of XML reads besides: it looks at the document itself, and what it takes
/// for another set than this holds bytes that are errors there.
const READ_IN_XML: [&str; 3] = ["utf-16", "utf-16le", "utf-16be"];
/// The parameter's name.
const WORD: &[u8] = b"charset";

/// Whether the rules see what readers make of a text in this set. No name is no set.
pub(crate) fn is_read(name: &[u8]) -> bool {
    name.is_empty() || is_one_of(&READ, name)
}

/// Whether a content type names a set that is not read, in any way that some reader accepts.
pub(crate) fn is_foreign(content_type: &[u8], is_xml: bool) -> bool {
    let words = content_type.windows(WORD.len()).enumerate();
    words.filter(|(_, word)| word.eq_ignore_ascii_case(WORD)).any(|(at, _)| {
        let behind = without_blanks(content_type.get(at + WORD.len()..).unwrap_or_default());
        match behind.split_first() {
            // RFC 2231: a value that has a set of its own, or comes in pieces.
            Some((b'*', _)) => true,
            Some((b'=', value)) => {
                let name = named(value);
                !(is_read(name) || is_xml && is_one_of(&READ_IN_XML, name))
            }
            _ => false,
        }
    })
}

fn is_one_of(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// What stands up to the next parameter, without one pair of quotes.
fn named(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|byte| matches!(byte, b';' | b',')).unwrap_or(value.len());
    let name = value.get(..end).unwrap_or_default().trim_ascii();
    match name {
        [open @ (b'"' | b'\''), inner @ .., close] if open == close => inner.trim_ascii(),
        _ => name,
    }
}

/// Without blanks and control characters before it.
fn without_blanks(text: &[u8]) -> &[u8] {
    let blank = text.iter().take_while(|byte| **byte <= b' ' || **byte == 0x7f).count();
    text.get(blank..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_that_hide_ascii_are_found_however_they_are_written() {
        for foreign in [
            "application/json; charset=utf-7",
            "application/json;CHARSET=UTF-16LE",
            "text/plain; charset = \"utf-7\"",
            "text/plain; charset='utf-7'",
            "text/plain; charset\u{b}=utf-7",
            "text/plain; charset=\n utf-7",
            "text/plain; charset=utf-8; charset=utf-7",
            "text/plain; charset=utf-8, text/plain; charset=utf-7",
            "text/plain; charset=utf-8 utf-7",
            "text/plain; charset=(utf-8)utf-7",
            "text/plain; charset=\"utf\\-7\"",
            "text/plain; charset=\"utf-7; x\"",
            "text/plain; charset*=utf-8''utf-7",
            "text/plain; charset*0=utf-; charset*1=7",
            "text/plain; charset=ibm037",
            "text/plain; charset=base64",
            "text/plain; charset=shift_jis",
        ] {
            assert!(is_foreign(foreign.as_bytes(), false), "{foreign}");
            assert_eq!(is_foreign(foreign.as_bytes(), true), !foreign.contains("16"), "{foreign}");
        }
        for read in [
            "",
            "application/json",
            "application/json; charset=utf-8",
            "application/json;charset=UTF8; q=1",
            "text/plain; charset=\"UTF-8\"",
            "text/plain; charset=us-ascii",
            "text/plain; charset = Windows-1252 ",
            "text/plain; charset=iso-8859-1",
            "text/plain; charset=",
            "text/plain; charset=\"\"",
            "multipart/form-data; boundary=charset",
        ] {
            assert!(!is_foreign(read.as_bytes(), false), "{read}");
        }
    }
}
