//! Where a piece of markup ends, looked for as it comes: no byte is looked at twice.

use quick_xml::parser::{ElementParser, Parser};

/// What the markup at hand is, as far as it was looked at.
#[derive(Debug, Default)]
pub(super) struct Search {
    kind: Kind,
    searched: usize,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Unknown,
    Element(ElementParser),
    /// Until this, wherever it stands.
    Until(&'static [u8]),
    Declaration(Declaration),
}

/// Where a document type declaration is (XML 1.0 §2.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declaration {
    Outside,
    Subset,
    /// Within a literal; whether that is in the subset.
    Literal(u8, bool),
    /// Within a comment of the subset, from here on.
    Comment(usize),
    /// Within an instruction of the subset, from here on.
    Instruction(usize),
}

/// Beginnings of markup, longest last; what ends it, and where that may begin.
const COMMENT: (&[u8], &[u8]) = (b"<!--", b"-->");
const INSTRUCTION: (&[u8], &[u8]) = (b"<?", b"?>");
const CDATA: (&[u8], &[u8]) = (b"<![CDATA[", b"]]>");
const DOCTYPE: &[u8] = b"<!DOCTYPE";

impl Search {
    /// The length of the markup that `text` begins with. None: its end must still come.
    ///
    /// # Errors
    /// There is no such markup.
    pub(super) fn end(&mut self, text: &[u8]) -> Result<Option<usize>, String> {
        if matches!(self.kind, Kind::Unknown) && !self.begin(text)? {
            return Ok(None);
        }
        let rest = text.get(self.searched..).unwrap_or_default();
        let found = match &mut self.kind {
            Kind::Unknown => None,
            Kind::Element(parser) => parser.feed(rest).map(|at| self.searched + at + 1),
            Kind::Until(end) => {
                let found = memchr::memmem::find(rest, end).map(|at| self.searched + at + end.len());
                // The end may have begun.
                let seen = text.len().saturating_sub(end.len() - 1);
                self.searched = self.searched.max(seen);
                return Ok(found);
            }
            Kind::Declaration(place) => {
                let mut bytes = (self.searched..).zip(rest);
                bytes.find(|(at, byte)| place.step(text, *at, **byte)).map(|(at, _)| at + 1)
            }
        };
        self.searched = text.len();
        Ok(found)
    }

    /// The place of the semicolon of the reference that `text` begins with.
    ///
    /// # Errors
    /// It has none.
    pub(super) fn reference(&mut self, text: &[u8]) -> Result<Option<usize>, String> {
        let from = self.searched.max(1);
        let rest = text.get(from..).unwrap_or_default();
        self.searched = text.len();
        match memchr::memchr3(b';', b'&', b'<', rest).map(|at| from + at) {
            Some(at) if text.get(at) == Some(&b';') => Ok(Some(at)),
            Some(_) => Err("a reference without its semicolon".to_owned()),
            None => Ok(None),
        }
    }

    /// Finds out what it is; false when too little came.
    fn begin(&mut self, text: &[u8]) -> Result<bool, String> {
        let is_doctype =
            |text: &[u8]| DOCTYPE.get(..text.len()).is_some_and(|d| d.eq_ignore_ascii_case(text));
        for (begin, end) in [COMMENT, INSTRUCTION, CDATA] {
            if text.starts_with(begin) {
                (self.kind, self.searched) = (Kind::Until(end), begin.len());
                return Ok(true);
            }
        }
        if text.get(..DOCTYPE.len()).is_some_and(is_doctype) {
            (self.kind, self.searched) = (Kind::Declaration(Declaration::Outside), DOCTYPE.len());
            return Ok(true);
        }
        let begins = |whole: &[u8]| whole.len() > text.len() && whole.starts_with(text);
        if begins(COMMENT.0) || begins(CDATA.0) || (text.len() < DOCTYPE.len() && is_doctype(text)) {
            return Ok(false);
        }
        if text.starts_with(b"<!") {
            return Err("a declaration that is unknown".to_owned());
        }
        self.kind = Kind::Element(ElementParser::default());
        Ok(true)
    }
}

impl Declaration {
    /// Takes the byte at this place in; whether it ends the declaration.
    fn step(&mut self, text: &[u8], at: usize, byte: u8) -> bool {
        let behind = |end: &[u8], from: usize| text.get(from..=at).is_some_and(|part| part.ends_with(end));
        *self = match (*self, byte) {
            (Self::Outside, b'>') => return true,
            (Self::Outside, b'[') => Self::Subset,
            (Self::Subset, b']') => Self::Outside,
            (Self::Outside, b'"' | b'\'') => Self::Literal(byte, false),
            (Self::Subset, b'"' | b'\'') => Self::Literal(byte, true),
            (Self::Subset, b'-') if behind(b"<!--", 0) => Self::Comment(at + 1),
            (Self::Subset, b'?') if behind(b"<?", 0) => Self::Instruction(at + 1),
            (Self::Literal(quote, false), _) if byte == quote => Self::Outside,
            (Self::Literal(quote, true), _) if byte == quote => Self::Subset,
            (Self::Comment(from), b'>') if behind(b"-->", from) => Self::Subset,
            (Self::Instruction(from), b'>') if behind(b"?>", from) => Self::Subset,
            (same, _) => same,
        };
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_ends_where_it_ends_however_it_comes() {
        for (text, end) in [
            ("<a>x", Some(3)),
            ("<a b='>' c=\">\"/>x", Some(16)),
            ("<!-- > -- --->x", Some(14)),
            ("<!-->x-->y", Some(9)),
            ("<?a > ? ?>x", Some(10)),
            ("<![CDATA[]>]] >]]>x", Some(18)),
            ("<!DOCTYPE a>x", Some(12)),
            ("<!doctype a '>' \"[>\">x", Some(21)),
            ("<!DOCTYPE a [<!ELEMENT a (b)> <!-- ]> ' --> <?x ]> ' ?> ']>' ]>x", Some(63)),
            ("<!DOCTYPE a [<!-->]>-->]>x", Some(25)),
            ("<!DOCTYPE a [", None),
            ("<!", None),
            ("<![CDAT", None),
            ("<a b='>", None),
        ] {
            let text = text.as_bytes();
            assert_eq!(Search::default().end(text).unwrap(), end, "{}", String::from_utf8_lossy(text));
            let mut search = Search::default();
            let pieces = (1..=text.len()).find_map(|length| search.end(&text[..length]).unwrap());
            assert_eq!(pieces, end, "in pieces: {}", String::from_utf8_lossy(text));
        }
        assert!(Search::default().end(b"<!ELEMENT a>").is_err());
    }
}
