//! Text to statements of words, each byte with its place.
//!
//! As Apache reads its configuration: a backslash at the end of a line joins the next
//! one, a line whose first character is `#` is a comment, words are parted by spaces and
//! may be quoted with `"` or `'`; in quotes a backslash keeps the quote or another backslash.

use super::fault::{Fault, Place};
use std::sync::Arc;

/// Longest rule file, bytes.
pub(crate) const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most words of one statement.
pub(crate) const WORDS_MAX: usize = 1_024;

/// A rule file's text.
#[derive(Debug)]
pub(crate) struct Text {
    name: Arc<str>,
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// A word of a statement, quotes and escapes resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// For each byte of `text`, and one past it, where it stands in the file.
    offsets: Vec<u32>,
}

impl Word {
    /// Where byte `at` of the word stands in the file.
    pub(crate) fn offset(&self, at: usize) -> usize {
        self.offsets.get(at).or(self.offsets.last()).map_or(0, |offset| *offset as usize)
    }
}

/// A directive with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) name: Word,
    pub(crate) words: Vec<Word>,
}

impl Text {
    /// Takes a file's bytes.
    pub(crate) fn new(name: &str, bytes: Vec<u8>) -> Result<Self, Fault> {
        let name: Arc<str> = name.into();
        let start = |line, column| Place { file: Arc::clone(&name), line, column };
        if bytes.len() > FILE_BYTES_MAX {
            let message = format!("the file is longer than {FILE_BYTES_MAX} bytes");
            return Err(Fault { place: start(1, 1), message, suggestion: None });
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..valid).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let place = start(count(line), count(valid - begin + 1));
            Fault { place, message: "the file is not UTF-8 here".to_owned(), suggestion: None }
        })?;
        let lines = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1));
        Ok(Self { lines: lines.collect(), name: Arc::clone(&name), text })
    }

    /// The file's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Line and column of a byte.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|begin| *begin <= offset);
        let begin = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column =
            self.text.get(begin..offset).map_or(offset - begin.min(offset), |part| part.chars().count());
        Place { file: Arc::clone(&self.name), line: count(line.max(1)), column: count(column + 1) }
    }

    /// A fault at a byte.
    pub(crate) fn fault(&self, offset: usize, message: impl Into<String>) -> Fault {
        Fault { place: self.place(offset), message: message.into(), suggestion: None }
    }

    /// All statements; a fault in one does not hide those of others.
    pub(crate) fn statements(&self) -> Vec<Result<Statement, Fault>> {
        let mut statements = Vec::new();
        let mut line = 0;
        while line < self.lines.len() {
            let first = line;
            let mut bytes = Vec::new();
            loop {
                let joined = self.take_line(line, &mut bytes);
                line += 1;
                if !joined || line >= self.lines.len() {
                    break;
                }
            }
            statements.extend(self.statement(first, line, &bytes));
        }
        statements
    }

    /// Appends a physical line without its end; whether the next one is joined.
    fn take_line(&self, line: usize, bytes: &mut Vec<(u8, u32)>) -> bool {
        let begin = self.lines.get(line).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let part = self.text.as_bytes().get(begin..end).unwrap_or_default();
        let part = part.strip_suffix(b"\r").unwrap_or(part);
        let (part, joined) = match part.strip_suffix(b"\\") {
            Some(rest) if line + 1 < self.lines.len() => (rest, true),
            _ => (part, false),
        };
        bytes.extend(part.iter().enumerate().map(|(at, byte)| (*byte, offset(begin + at))));
        joined
    }

    fn statement(&self, first: usize, end: usize, bytes: &[(u8, u32)]) -> Option<Result<Statement, Fault>> {
        let begin = bytes.iter().position(|(byte, _)| !byte.is_ascii_whitespace())?;
        let bytes = bytes.get(begin..)?;
        if bytes.first()?.0 == b'#' {
            return self.swallowed(first, end).map(Err);
        }
        let mut words = match self.words(bytes) {
            Ok(words) => words,
            Err(fault) => return Some(Err(fault)),
        };
        if words.is_empty() {
            return None;
        }
        let name = words.remove(0);
        Some(Ok(Statement { name, words }))
    }

    /// A comment that ends in a backslash takes the next line with it. Where that line
    /// is no comment itself, a rule would be lost unseen.
    fn swallowed(&self, first: usize, end: usize) -> Option<Fault> {
        for line in first + 1..end {
            let begin = self.lines.get(line).copied()?;
            let text = self.text.get(begin..)?.lines().next().unwrap_or_default().trim_start();
            if !text.is_empty() && !text.starts_with('#') {
                return Some(self.fault(
                    begin,
                    "the comment above ends in a backslash and would swallow this line: remove the backslash or comment this line too",
                ));
            }
        }
        None
    }

    fn words(&self, bytes: &[(u8, u32)]) -> Result<Vec<Word>, Fault> {
        let mut words = Vec::new();
        let mut rest = bytes;
        loop {
            let skip = rest.iter().position(|(byte, _)| !byte.is_ascii_whitespace()).unwrap_or(rest.len());
            rest = rest.get(skip..).unwrap_or_default();
            let Some((first, at)) = rest.first().copied() else { return Ok(words) };
            if words.len() >= WORDS_MAX {
                let message = format!("more than {WORDS_MAX} words in one directive");
                return Err(self.fault(at as usize, message));
            }
            let taken = match first {
                quote @ (b'"' | b'\'') => self.quoted(quote, rest)?,
                _ => bare(rest),
            };
            words.push(taken.0);
            rest = rest.get(taken.1..).unwrap_or_default();
        }
    }

    fn quoted(&self, quote: u8, bytes: &[(u8, u32)]) -> Result<(Word, usize), Fault> {
        let begin = bytes.first().map_or(0, |(_, at)| *at as usize);
        let mut text = Vec::new();
        let mut at = 1;
        loop {
            let Some(&(byte, place)) = bytes.get(at) else {
                let quote = char::from(quote);
                return Err(self.fault(begin, format!("this {quote} is never closed")));
            };
            let next = bytes.get(at + 1).copied();
            match (byte, next) {
                (b'\\', Some((escaped, place))) if escaped == quote || escaped == b'\\' => {
                    text.push((escaped, place));
                    at += 2;
                }
                (byte, _) if byte == quote => {
                    text.push((0, place));
                    return Ok((word(&text), at + 1));
                }
                _ => {
                    text.push((byte, place));
                    at += 1;
                }
            }
        }
    }
}

fn bare(bytes: &[(u8, u32)]) -> (Word, usize) {
    let end = bytes.iter().position(|(byte, _)| byte.is_ascii_whitespace()).unwrap_or(bytes.len());
    let mut text = bytes.get(..end).unwrap_or_default().to_vec();
    text.push((0, text.last().map_or(0, |(_, place)| place + 1)));
    (word(&text), end)
}

/// The last of `text` is the place one past the word.
fn word(text: &[(u8, u32)]) -> Word {
    let bytes = text.iter().take(text.len().saturating_sub(1)).map(|(byte, _)| *byte).collect();
    Word {
        text: String::from_utf8(bytes).unwrap_or_default(),
        offsets: text.iter().map(|(_, place)| *place).collect(),
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        let text = Text::new("a.conf", text.as_bytes().to_vec()).unwrap();
        text.statements()
            .into_iter()
            .map(|statement| {
                let statement = statement.unwrap();
                std::iter::once(statement.name).chain(statement.words).map(|word| word.text).collect()
            })
            .collect()
    }

    fn fault(text: &str) -> String {
        let text = Text::new("a.conf", text.as_bytes().to_vec()).unwrap();
        text.statements().into_iter().find_map(Result::err).unwrap().to_string()
    }

    #[test]
    fn lines_join_and_comments_go() {
        assert_eq!(
            words("# c\n  SecRule A \\\n   \"b c\" \\\r\n 'd'\n\nSecMarker X"),
            [vec!["SecRule", "A", "b c", "d"], vec!["SecMarker", "X"]]
        );
    }

    #[test]
    fn escapes_keep_quotes_and_backslashes() {
        assert_eq!(words(r#"R "a\"b\\c\d" e\f"#), [["R", r#"a"b\c\d"#, r"e\f"]]);
        assert_eq!(
            words(
                r#"R "x\
  y""#
            ),
            [["R", "x  y"]]
        );
    }

    #[test]
    fn a_backslash_at_the_very_end_of_the_file_is_text() {
        assert_eq!(words("R a\\"), [["R", "a\\"]]);
    }

    #[test]
    fn an_open_quote_is_a_fault_at_the_quote() {
        assert_eq!(fault("\nSecRule \"ARGS"), "a.conf:2:9: this \" is never closed");
    }

    #[test]
    fn a_comment_does_not_swallow_a_rule() {
        assert_eq!(words("# off \\\n# SecRule B\nSecMarker C"), [["SecMarker", "C"]]);
        assert!(fault("# off \\\nSecRule B").starts_with("a.conf:2:1: the comment above"));
    }

    #[test]
    fn places_count_characters_over_joined_lines() {
        let text = Text::new("a.conf", "R \"ä\\\n b\"".as_bytes().to_vec()).unwrap();
        let statement = text.statements().remove(0).unwrap();
        let word = &statement.words[0];
        assert_eq!(word.text, "ä b");
        let place = text.place(word.offset(3));
        assert_eq!((place.line, place.column), (2, 2));
        let end = text.place(statement.name.offset(0));
        assert_eq!((end.line, end.column), (1, 1));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_with_their_place() {
        let fault = Text::new("a.conf", b"ok\nab\xff".to_vec()).unwrap_err();
        assert_eq!(fault.to_string(), "a.conf:2:3: the file is not UTF-8 here");
    }

    #[test]
    fn a_directive_holds_so_many_words_and_no_more() {
        let at_limit = format!("R{}", " w".repeat(WORDS_MAX - 1));
        assert_eq!(words(&at_limit)[0].len(), WORDS_MAX);
        assert!(fault(&format!("R{}", " w".repeat(WORDS_MAX))).contains("more than 1024 words"));
    }

    #[test]
    fn a_file_at_the_limit_is_read_and_one_byte_more_is_not() {
        let mut bytes = b"#".repeat(FILE_BYTES_MAX);
        assert!(Text::new("a", bytes.clone()).is_ok());
        bytes.push(b'#');
        assert!(Text::new("a", bytes).is_err());
    }
}
