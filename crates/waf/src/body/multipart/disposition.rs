//! `Content-Disposition` of a part (RFC 7578 §4.2): only `form-data` with `name` and
//! `filename`, and `filename*` (RFC 8187) as .NET writes it, because on anything else readers
//! differ.

use crate::transform::Transformation;
use std::borrow::Cow;

/// What it said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Disposition {
    pub(super) name: Option<Vec<u8>>,
    pub(super) filename: Option<Vec<u8>>,
    /// What `filename*` says, decoded.
    pub(super) filename_extended: Option<Vec<u8>>,
    /// Whether some readers find no file's name in it: with a blank beside its equals sign it is no
    /// parameter to many, and behind `filename*` the Rust crate multer looks for none.
    pub(super) is_doubtful: bool,
}

/// The number of the fault, as ModSecurity counts them.
type Code = i8;

/// Reads a value. `invalid_quoting` is raised where quotes are used as only some readers
/// accept them.
pub(super) fn read(value: &[u8], invalid_quoting: &mut bool) -> Result<Disposition, Code> {
    let mut said = Disposition::default();
    let rest = value.strip_prefix(b"form-data").ok_or(-1)?;
    let mut rest = skip_blank(rest);
    if rest.is_empty() {
        return Ok(said);
    }
    rest = rest.strip_prefix(b";").ok_or(-2)?;
    while !rest.is_empty() {
        rest = skip_blank(rest);
        if rest.is_empty() {
            return Err(-3);
        }
        let end = rest.iter().position(|byte| matches!(byte, b'=' | b' ' | b'\t')).ok_or(-4)?;
        let (name, spaced) = rest.split_at(end);
        let equals = skip_blank(spaced);
        if equals.is_empty() {
            return Err(-5);
        }
        let spaced_value = equals.strip_prefix(b"=").ok_or(-13)?;
        let after = skip_blank(spaced_value);
        said.is_doubtful |= equals.len() < spaced.len() || after.len() < spaced_value.len();
        said.is_doubtful |= name == b"filename" && said.filename_extended.is_some();
        let (text, after) = match after.split_first() {
            None => return Err(-6),
            Some((b'"' | b'\'', _)) if name == b"filename*" => return Err(-11),
            Some((&quote @ (b'"' | b'\''), after)) => quoted(after, quote, invalid_quoting)?,
            Some(_) => {
                let end = after.iter().position(|&byte| !is_token(byte)).unwrap_or(after.len());
                let (text, after) = after.split_at(end);
                match name {
                    b"filename*" => (extended(text).ok_or(-11)?, after),
                    _ => {
                        *invalid_quoting |= text.contains(&b'\'');
                        (text.to_vec(), after)
                    }
                }
            }
        };
        let (place, twice) = match name {
            b"name" => (&mut said.name, -14),
            b"filename" => (&mut said.filename, -15),
            b"filename*" => (&mut said.filename_extended, -15),
            _ => return Err(-11),
        };
        if place.replace(text).is_some() {
            return Err(twice);
        }
        rest = skip_blank(after);
        if rest.is_empty() {
            return Ok(said);
        }
        rest = rest.strip_prefix(b";").ok_or_else(|| {
            *invalid_quoting |= matches!(
                value.len().checked_sub(rest.len() + 1).and_then(|at| value.get(at)),
                Some(b'"' | b'\'')
            );
            -12
        })?;
    }
    Ok(said)
}

/// An extended value (RFC 8187 §3.2.1) in UTF-8: a set, a language or none, and text with escapes.
/// One that readers could decode to something else is none: in another set, with an escape that is
/// broken, or of letters that end a name or a line somewhere.
fn extended(text: &[u8]) -> Option<Vec<u8>> {
    let mut pieces = text.split(|byte| *byte == b'\'');
    let (set, language, value) = (pieces.next()?, pieces.next()?, pieces.next()?);
    let is_fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~%".contains(byte);
    let is_language = language.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    if pieces.next().is_some() || !set.eq_ignore_ascii_case(b"utf-8") || !is_language {
        return None;
    }
    if value.is_empty() || !value.iter().all(is_fit) {
        return None;
    }
    let (mut plain, mut rest) = (Vec::new(), value);
    while let Some((&byte, after)) = rest.split_first() {
        let (letter, after) = match byte {
            b'%' => escaped(after)?,
            _ => (byte, after),
        };
        plain.push(letter);
        rest = after;
    }
    let is_text = std::str::from_utf8(&plain).is_ok_and(|text| !text.chars().any(char::is_control));
    is_text.then_some(plain)
}

/// What two hexadecimal digits stand for, and what is behind them.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = text.split_at_checked(2)?;
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))?;
    Some((u8::from_str_radix(digits, 16).ok()?, after))
}

/// A quoted text without its quotes, and what stands behind it.
fn quoted<'a>(text: &'a [u8], quote: u8, invalid: &mut bool) -> Result<(Vec<u8>, &'a [u8]), Code> {
    // RFC 7578 knows no other quote; some readers do.
    *invalid |= quote == b'\'';
    if text.is_empty() {
        return Err(-7);
    }
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        let Some((&byte, after)) = rest.split_first() else { return Err(-10) };
        rest = after;
        match byte {
            b'\\' => match rest.split_first() {
                None => return Err(-8),
                Some((&escaped, after)) if escaped == quote || escaped == b'\\' => {
                    // PHP and Python take the second of two backslashes for the escape of a quote
                    // behind them.
                    *invalid |= escaped == b'\\' && after.first() == Some(&quote);
                    out.push(escaped);
                    rest = after;
                }
                // Old browsers send paths unescaped.
                Some(_) => out.push(byte),
            },
            _ if byte == quote => return Ok((out, rest)),
            _ => out.push(byte),
        }
    }
}

/// Whether some readers find no name in a file's name, and so take the part for an ordinary
/// field: none at all (busboy, Go, Perl's CGI), slashes alone (aiohttp), blanks alone (Spring),
/// escapes of those (Rack, which takes a path off it too), or what is no UTF-8 (multer). Browsers send
/// an empty name where no file was chosen.
pub(super) fn names_no_file(filename: &[u8]) -> bool {
    if std::str::from_utf8(filename).is_err() {
        return true;
    }
    let plain = Transformation::UrlDecode.apply(Cow::Borrowed(filename));
    let last = plain.rsplit(|byte| matches!(byte, b'/' | b'\\')).next().unwrap_or_default();
    let nothing =
        |letter: char| letter.is_whitespace() || letter.is_control() || matches!(letter, '"' | '\'' | '.');
    String::from_utf8_lossy(last).chars().all(nothing)
}

/// Whether a header may have a file's name that Perl's readers do not find. CGI looks for the first of
/// these words with a blank before it, and without quotes takes only some letters; Mojolicious knows
/// names in quotes alone.
pub(super) fn is_overlooked(value: &[u8]) -> bool {
    const WORD: &[u8] = b" filename=";
    let first = memchr::memmem::find(value, WORD).and_then(|at| value.get(at + WORD.len()..));
    let holds = |text: &[u8]| memchr::memmem::find(value, text).is_some();
    match first.and_then(<[u8]>::split_first) {
        Some((b'"', rest)) => memchr::memchr(b'"', rest).is_none(),
        Some((byte, _)) if byte.is_ascii_alphanumeric() || b"!#'*+,.^_`{}|~".contains(byte) => {
            holds(b" name=\"") || holds(b";name=\"")
        }
        _ => true,
    }
}

fn skip_blank(text: &[u8]) -> &[u8] {
    let blank = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    text.get(blank..).unwrap_or_default()
}

/// RFC 9110 §5.6.2: RFC 2045 has braces too, at which readers for HTTP end a token or leave the
/// parameter out.
pub(super) fn is_token(byte: u8) -> bool {
    byte > 0x20 && byte < 0x7f && !b"()<>@,;:\\\"/[]?={}".contains(&byte)
}
