//! `@pm`, `@pmFromFile`: whether a value contains one of many phrases, in any case of
//! ASCII letters, in one pass over it.

use super::{Argument, Found, Literal, OperatorFault};
use aho_corasick::AhoCorasick;

/// Most phrases of one operator.
pub(super) const PHRASES_MAX: usize = 500_000;

/// Most phrases that are also looked for beforehand, together with other rules' literals.
const LITERALS_MAX: usize = 10_000;

pub(super) struct Phrases {
    automaton: AhoCorasick,
    literals: Option<Vec<Literal>>,
}

impl Phrases {
    /// Phrases between spaces, as `@pm` takes them; `|41 42|` writes bytes.
    pub(super) fn from_argument(argument: &str) -> Result<Self, OperatorFault> {
        let text = argument.trim();
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        Self::new(words(text)?)
    }

    /// One phrase per line of each file; empty lines and lines that start with `#` are
    /// none. White space at the ends of a line is dropped.
    pub(super) fn from_files(argument: &Argument<'_>) -> Result<Self, OperatorFault> {
        let phrases = lines(argument)?;
        if phrases.is_empty() {
            return Err(OperatorFault::Argument {
                message: "these files hold no phrase".to_owned(),
                offset: 0,
            });
        }
        Self::new(phrases)
    }

    fn new(phrases: Vec<Vec<u8>>) -> Result<Self, OperatorFault> {
        let refused = |message: String| OperatorFault::Argument { message, offset: 0 };
        if phrases.is_empty() {
            return Err(refused("at least one phrase is needed".to_owned()));
        }
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(&phrases)
            .map_err(|error| refused(error.to_string()))?;
        let literals = (phrases.len() <= LITERALS_MAX).then(|| {
            let mut literals: Vec<Literal> = phrases.iter().map(|phrase| Literal::new(phrase)).collect();
            literals.sort_unstable();
            literals.dedup();
            literals
        });
        Ok(Self { automaton, literals })
    }

    pub(super) fn literals(&self) -> Option<&[Literal]> {
        self.literals.as_deref()
    }

    pub(super) fn evaluate(&self, value: &[u8], found: &mut Found) -> bool {
        self.automaton.find(value).map(|phrase| found.matched(phrase.range())).is_some()
    }
}

/// The lines of all files.
fn lines(argument: &Argument<'_>) -> Result<Vec<Vec<u8>>, OperatorFault> {
    let mut phrases = Vec::new();
    for line in argument.lines()? {
        phrases.push(line.text);
        if phrases.len() > PHRASES_MAX {
            let message = format!("more than {PHRASES_MAX} phrases");
            return Err(OperatorFault::File { path: line.path.to_string(), message });
        }
    }
    Ok(phrases)
}

/// The phrases of an argument: words, `|…|` as bytes and `\` before `:`, `;`, `"`, `\`
/// and `|`.
fn words(text: &str) -> Result<Vec<Vec<u8>>, OperatorFault> {
    let fault =
        |offset: usize, message: &str| OperatorFault::Argument { message: message.to_owned(), offset };
    let mut phrases: Vec<Vec<u8>> = Vec::new();
    let mut phrase = Vec::new();
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => phrases.push(std::mem::take(&mut phrase)),
            b'\\' => match bytes.next() {
                Some((_, escaped @ (b':' | b';' | b'"' | b'\\' | b'|'))) => phrase.push(escaped),
                _ => {
                    return Err(fault(
                        at,
                        r#"only `\:`, `\;`, `\"`, `\|` and `\\` may be escaped in phrases"#,
                    ));
                }
            },
            b'|' => {
                let digits: Vec<u8> = bytes
                    .by_ref()
                    .map(|(_, byte)| byte)
                    .take_while(|&byte| byte != b'|')
                    .filter(|&byte| byte != b' ')
                    .collect();
                let closed = text.as_bytes().get(at + 1..).is_some_and(|rest| rest.contains(&b'|'));
                let decoded = hexadecimal(&digits).filter(|decoded| closed && !decoded.is_empty());
                phrase.extend(decoded.ok_or_else(|| {
                    fault(at, "`|` opens bytes in hexadecimal, as in `|0d 0a|`; a bar itself is `\\|`")
                })?);
            }
            _ => phrase.push(byte),
        }
    }
    phrases.push(phrase);
    phrases.retain(|phrase| !phrase.is_empty());
    Ok(phrases)
}

fn hexadecimal(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|&[high, low]| Some((digit(high)? << 4) | digit(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Files, compile, expect, fault_of, finds};
    use super::*;

    #[test]
    fn phrases_are_found_in_any_case() {
        expect(
            "pm",
            "WebZIP  WebCopier Sitesnagger",
            &[b"xx webzip yy", b"SITESNAGGER"],
            &[b"", b"web zip", b"WebCopie"],
        );
        expect("pm", "\"a1 b2\"", &[b"xb2"], &[b"a b"]);
        expect("pm", "( )", &[b"f(x", b")"], &[b"x"]);
        assert_eq!(finds("pm", "beta alpha", b"an ALPHA"), Some(b"ALPHA".to_vec()));
    }

    #[test]
    fn bytes_may_be_written_in_hexadecimal() {
        expect("pm", "|0d 0A|x a|7c|b |00|", &[b"\r\nX", b"a|b", b"\0"], &[b"|", b"0d 0Ax"]);
        expect("pm", r#"a\:b c\\d e\|f"#, &[b"a:b", br"c\d", b"e|f"], &[br"a\:b"]);
        for (argument, offset) in
            [("a |0", 2), ("|0d", 0), ("|0|", 0), ("|zz|", 0), ("||", 0), (r"a\n", 1), ("a\\", 1)]
        {
            match fault_of("pm", argument) {
                OperatorFault::Argument { offset: found, .. } => assert_eq!(found, offset, "{argument}"),
                fault => panic!("{argument}: {fault:?}"),
            }
        }
        assert!(matches!(fault_of("pm", "  "), OperatorFault::Argument { .. }));
    }

    #[test]
    fn files_hold_a_phrase_per_line() {
        let files = Files(&[
            ("rules/bad.data", b"# comment\n\n  two words \r\nnext|41|\\n\n"),
            ("rules/more.data", b"third"),
            ("rules/empty.data", b"# nothing\n"),
        ]);
        for name in ["pmFromFile", "PMF", "pmf"] {
            let operator = compile(name, "bad.data more.data", &files).unwrap();
            let mut found = Found::default();
            for value in [&b"x TWO WORDS y"[..], b"NEXT|41|\\n", b"THIRD"] {
                assert!(operator.evaluate(value, None, &mut found), "{}", value.escape_ascii());
            }
            for value in [&b"comment"[..], b"two", b"nextA", b""] {
                assert!(!operator.evaluate(value, None, &mut found), "{}", value.escape_ascii());
            }
        }
        match compile("pmFromFile", "bad.data gone.data", &files) {
            Err(OperatorFault::File { path, .. }) => assert_eq!(path, "rules/gone.data"),
            other => panic!("{:?}", other.err()),
        }
        for argument in ["", "empty.data"] {
            assert!(compile("pmFromFile", argument, &files).is_err(), "{argument}");
        }
        match compile("pmFromFile", "https://example.test/list", &files) {
            Err(OperatorFault::File { message, .. }) => assert!(message.contains("download"), "{message}"),
            other => panic!("{:?}", other.err()),
        }
    }

    #[test]
    fn files_hold_so_many_phrases_and_no_more() {
        let count = |lines: usize| {
            let text = b"a\n".repeat(lines);
            let files = Files(&[("rules/many.data", &text)]);
            let argument =
                Argument { text: "many.data", has_macros: false, sources: &files, from: "rules/main.conf" };
            super::lines(&argument).map(|phrases| phrases.len()).ok()
        };
        assert_eq!(count(PHRASES_MAX), Some(PHRASES_MAX));
        assert_eq!(count(PHRASES_MAX + 1), None);
    }

    #[test]
    fn every_phrase_is_a_literal() {
        let operator = compile("pm", "Bb aa AA", &Files(&[])).unwrap();
        let literals: Vec<&[u8]> = operator.literals().unwrap().iter().map(Literal::bytes).collect();
        assert_eq!(literals, [&b"aa"[..], b"bb"]);
    }
}
