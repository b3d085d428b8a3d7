//! The boundary between parts: what the content type says of it, and which lines are it.

use super::{Fault, MultipartFlags, charset, disposition::is_token};

/// Longest content type of a multipart body, bytes.
const CONTENT_TYPE_BYTES_MAX: usize = 1024;

/// Longest boundary (RFC 2046 §5.1.1), bytes: readers may take no more of a longer one.
const BOUNDARY_BYTES_MAX: usize = 70;

/// The boundary, without the dashes before it.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    text: Vec<u8>,
    /// It, with the dashes.
    dashed: Vec<u8>,
    /// What of that readers take for it that end a boundary at a blank, a comma or a comment, or
    /// where it has its full length.
    stem: Option<Vec<u8>>,
    quoted: bool,
}

/// What a line is.
pub(super) enum Look {
    /// The boundary; the last one has two dashes behind it.
    Boundary { is_final: bool },
    /// Something that another reader could take for one.
    Unmatched,
    /// Content.
    Other,
}

impl Boundary {
    /// Reads it from a content type.
    pub(super) fn read(content_type: &[u8], flags: &mut MultipartFlags) -> Result<Self, &'static str> {
        const TYPE: &[u8] = b"multipart/form-data";
        if content_type.len() > CONTENT_TYPE_BYTES_MAX {
            return Err("Multipart: Invalid Content-Type header (length).");
        }
        let (kind, parameters) =
            content_type.split_at_checked(TYPE.len()).ok_or("Multipart: Invalid MIME type.")?;
        if !kind.eq_ignore_ascii_case(TYPE) {
            return Err("Multipart: Invalid MIME type.");
        }
        let (parameters, content_type) = match without_charset(content_type) {
            Some(rest) => (rest.get(TYPE.len()..).unwrap_or_default(), rest),
            None => (parameters, content_type),
        };
        if occurrences(content_type) > 1 {
            return Err("Multipart: Multiple boundary parameters in Content-Type.");
        }
        let Some(start) = memchr::memmem::find(parameters, b"boundary") else {
            let word = b"boundary";
            let any_case = content_type.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word));
            return Err(if any_case {
                "Multipart: Invalid boundary in C-T (case sensitivity)."
            } else {
                "Multipart: Boundary not found in C-T."
            });
        };
        let (before, rest) = parameters.split_at(start);
        let between: Vec<u8> = before.iter().copied().filter(|byte| !is_space(Some(byte))).collect();
        match between.as_slice() {
            b";" => {}
            b"" => flags.missing_semicolon = true,
            _ => return Err("Multipart: Invalid boundary in C-T (malformed)."),
        }
        let rest = rest.get(b"boundary".len()..).unwrap_or_default();
        let equals = memchr::memchr(b'=', rest).ok_or("Multipart: Invalid boundary in C-T (malformed).")?;
        let (space, value) = rest.split_at(equals);
        if !space.iter().all(|byte| is_space(Some(byte))) {
            return Err("Multipart: Invalid boundary in C-T (parameter name).");
        }
        let value = value.get(1..).unwrap_or_default();
        flags.boundary_whitespace |= !space.is_empty() || is_space(value.first());
        Self::of_value(value, flags)
    }

    fn of_value(value: &[u8], flags: &mut MultipartFlags) -> Result<Self, &'static str> {
        let quoted = match value {
            [b'"', .., b'"'] => true,
            [b'"', ..] | [.., b'"'] => return Err("Multipart: Invalid boundary in C-T (quote)."),
            _ => false,
        };
        flags.boundary_quoted = quoted;
        let text = if quoted { value.get(1..value.len() - 1).unwrap_or_default() } else { value };
        if occurrences(text) > 0 {
            return Err("Multipart: Invalid boundary in C-T (content).");
        }
        // RFC 2046 §5.1.1.
        let is_fit = |byte: &u8| byte.is_ascii_alphanumeric() || b" '()+_,-./:=?".contains(byte);
        if !text.iter().all(is_fit) || text.last() == Some(&b' ') {
            return Err("Multipart: Invalid boundary in C-T (characters).");
        }
        if text.is_empty() {
            return Err("Multipart: Invalid boundary in C-T (empty).");
        }
        // RFC 2045 §5.1 wants quotes around it then: some readers end it there (Werkzeug, Sanic).
        flags.invalid_quoting |= !quoted && !text.iter().all(|byte| is_token(*byte));
        let dashed = [b"--", text].concat();
        let end = dashed.iter().position(|byte| b" ,('".contains(byte)).unwrap_or(dashed.len());
        let end = end.min("--".len() + BOUNDARY_BYTES_MAX);
        let stem = dashed.get(..end).filter(|stem| stem.len() < dashed.len()).map(<[u8]>::to_vec);
        Ok(Self { text: text.to_vec(), dashed, stem, quoted })
    }

    /// What a line is. It begins where a line begins and has its end, unless it is long.
    pub(super) fn look(&self, line: &[u8], flags: &mut MultipartFlags) -> Result<Look, Fault> {
        let Some(after) = line.strip_prefix(b"--").filter(|_| line.len() > 3) else {
            return Ok(if self.is_within(line, flags) { Look::Unmatched } else { Look::Other });
        };
        if let Some(rest) = after.strip_prefix(self.text.as_slice()) {
            let (is_final, end) = rest.strip_prefix(b"--").map_or((false, rest), |end| (true, end));
            match end {
                b"\r\n" => flags.crlf = true,
                b"\n" => flags.lf = true,
                _ => {
                    let shown = line.get(..80).unwrap_or(line).trim_ascii_end();
                    return Err(format!("Multipart: Invalid boundary: {}", String::from_utf8_lossy(shown)));
                }
            }
            return Ok(Look::Boundary { is_final });
        }
        if self.quoted && after.strip_prefix(b"\"").is_some_and(|after| after.starts_with(&self.text)) {
            return Err("Multipart: Invalid boundary (quotes).".to_owned());
        }
        let space = after.iter().take_while(|byte| is_space(Some(byte))).count();
        if space > 0 && after.get(space..).is_some_and(|after| after.starts_with(&self.text)) {
            return Err("Multipart: Invalid boundary (whitespace).".to_owned());
        }
        let _ = self.is_within(line, flags);
        flags.boundary_within |= self.is_like(after);
        Ok(Look::Unmatched)
    }

    /// Whether a line, without its two dashes, begins as the boundary does to readers that cut it
    /// short, or to whom a capital is its small letter: with three quarters of what it has behind
    /// dashes. Boundaries of one program may have more than half in common; a text that begins
    /// with the random part of another's was written for this body.
    fn is_like(&self, after: &[u8]) -> bool {
        let length = self.text.len().min(BOUNDARY_BYTES_MAX);
        let dashes = self.text.iter().take_while(|byte| **byte == b'-').count().min(length);
        let telling = dashes + ((length - dashes) * 3).div_ceil(4);
        let start = |text: &[u8]| text.get(..telling).map(<[u8]>::to_ascii_lowercase);
        start(after).is_some_and(|begins| Some(begins) == start(&self.text))
    }

    /// Whether a line holds the boundary where it is none: some readers look for nothing else,
    /// and some for no more than its stem.
    pub(super) fn is_within(&self, line: &[u8], flags: &mut MultipartFlags) -> bool {
        let holds = |text: &[u8]| memchr::memmem::find(line, text).is_some();
        let within = holds(&self.dashed);
        flags.boundary_within |= within || self.stem.as_deref().is_some_and(holds);
        within
    }

    /// How many bytes before a place a boundary may begin that ends behind it.
    pub(super) fn reach(&self) -> usize {
        self.dashed.len().saturating_sub(1)
    }

    /// Whether the body's last bytes are the last boundary without a line end.
    pub(super) fn is_final_without_line_end(&self, line: &[u8]) -> bool {
        line.strip_prefix(b"--")
            .and_then(|line| line.strip_prefix(self.text.as_slice()))
            .is_some_and(|end| end == b"--")
    }
}

/// What stands before a last parameter that names a character set: one in which a text is what it
/// was read as. Whoever takes it for a part of the boundary finds no part at all.
fn without_charset(content_type: &[u8]) -> Option<&[u8]> {
    let end = memchr::memrchr(b';', content_type)?;
    let parameter = content_type.get(end + 1..)?;
    let blank = parameter.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let (name, value) = parameter.get(blank..)?.split_at_checked("charset=".len())?;
    let set = match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    };
    let is_one = name.eq_ignore_ascii_case(b"charset=") && !set.is_empty() && charset::is_read(set);
    content_type.get(..end).filter(|_| is_one)
}

/// White space as C's `isspace` has it.
pub(super) fn is_space(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r'))
}

/// How often the parameter stands in a text, in any case: the word, and somewhere behind
/// it an equals sign. Browsers have the word itself in their boundaries.
fn occurrences(text: &[u8]) -> usize {
    let end = memchr::memrchr(b'=', text).unwrap_or(0);
    let before = text.get(..end).unwrap_or_default();
    before.windows(b"boundary".len()).filter(|window| window.eq_ignore_ascii_case(b"boundary")).count()
}
