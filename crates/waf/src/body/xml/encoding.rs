//! The encodings that every reader of XML knows (XML 1.0, appendix F), read as they come.
//! Another one could hide from the rules what its reader sees.

/// Turns the bytes of a document into text.
#[derive(Debug)]
pub(super) enum Decoder {
    /// Not enough came to know the encoding.
    Unknown {
        raw: Vec<u8>,
        /// How far the end of the declaration was looked for.
        searched: usize,
    },
    Utf8 {
        /// The beginning of a character.
        carry: Vec<u8>,
    },
    Latin1,
    Utf16(Units),
}

/// UTF-16 on its way.
#[derive(Debug)]
pub(super) struct Units {
    unit: fn([u8; 2]) -> u16,
    /// The first byte of a unit.
    half: Option<u8>,
    /// The first half of a surrogate pair.
    high: Option<u16>,
}

impl Units {
    const fn of(unit: fn([u8; 2]) -> u16) -> Self {
        Self { unit, half: None, high: None }
    }

    fn decode(&mut self, bytes: &[u8], out: &mut String) -> Result<(), String> {
        for &byte in bytes {
            let Some(first) = self.half.take() else {
                self.half = Some(byte);
                continue;
            };
            let unit = (self.unit)([first, byte]);
            let before = self.high.take();
            if before.is_none() && (0xd800..0xdc00).contains(&unit) {
                self.high = Some(unit);
                continue;
            }
            for character in char::decode_utf16(before.into_iter().chain([unit])) {
                out.push(character.map_err(|_| INVALID_UTF16)?);
            }
        }
        Ok(())
    }
}

const INVALID_UTF8: &str = "it is not valid UTF-8";
const INVALID_UTF16: &str = "it is not valid UTF-16";
const MARK: &[u8] = b"\xef\xbb\xbf";
const DECLARATION: &[u8] = b"<?xml";

impl Decoder {
    pub(super) fn new() -> Self {
        Self::Unknown { raw: Vec::new(), searched: 0 }
    }

    /// Appends what the next bytes say. On an error, what came before it was appended.
    pub(super) fn decode(&mut self, bytes: &[u8], out: &mut String) -> Result<(), String> {
        match self {
            Self::Unknown { raw, searched } => {
                raw.extend_from_slice(bytes);
                match known(raw, searched, false)? {
                    Some((decoder, behind)) => self.begin(decoder, behind, out),
                    None => Ok(()),
                }
            }
            Self::Utf8 { carry } if carry.is_empty() => utf8(bytes, carry, out),
            Self::Utf8 { carry } => {
                let mut whole = std::mem::take(carry);
                whole.extend_from_slice(bytes);
                utf8(&whole, carry, out)
            }
            Self::Latin1 => {
                out.extend(bytes.iter().map(|&byte| char::from(byte)));
                Ok(())
            }
            Self::Utf16(units) => units.decode(bytes, out),
        }
    }

    /// No more comes. An error when the last character is not whole.
    pub(super) fn finish(&mut self, out: &mut String) -> Result<(), String> {
        if let Self::Unknown { raw, searched } = self
            && let Some((decoder, behind)) = known(raw, searched, true)?
        {
            self.begin(decoder, behind, out)?;
        }
        match self {
            Self::Utf8 { carry } if !carry.is_empty() => Err(INVALID_UTF8.to_owned()),
            Self::Utf16(Units { half, high, .. }) if half.is_some() || high.is_some() => {
                Err(INVALID_UTF16.to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The encoding is known: what was kept is decoded behind its mark.
    fn begin(&mut self, decoder: Self, behind: usize, out: &mut String) -> Result<(), String> {
        match std::mem::replace(self, decoder) {
            Self::Unknown { raw, .. } => self.decode(raw.get(behind..).unwrap_or_default(), out),
            _ => Ok(()),
        }
    }
}

/// The encoding of a document that begins with `raw`, and how long its mark is. None: more
/// must come, which it does not when this is the `last` of it.
fn known(raw: &[u8], searched: &mut usize, last: bool) -> Result<Option<(Decoder, usize)>, String> {
    if raw.len() < 4 && !last {
        return Ok(None);
    }
    match raw {
        [0xff, 0xfe, 0, 0, ..] | [b'<', 0, 0, 0, ..] => {
            return Err("its encoding \"UTF-32\" is not supported".to_owned());
        }
        [0xff, 0xfe, ..] => return Ok(Some((Decoder::Utf16(Units::of(u16::from_le_bytes)), 2))),
        [0xfe, 0xff, ..] => return Ok(Some((Decoder::Utf16(Units::of(u16::from_be_bytes)), 2))),
        [b'<', 0, ..] => return Ok(Some((Decoder::Utf16(Units::of(u16::from_le_bytes)), 0))),
        [0, b'<', ..] => return Ok(Some((Decoder::Utf16(Units::of(u16::from_be_bytes)), 0))),
        _ => {}
    }
    let behind = if raw.starts_with(MARK) { MARK.len() } else { 0 };
    let text = raw.get(behind..).unwrap_or_default();
    let unsure = text.len() < DECLARATION.len() && DECLARATION.starts_with(text);
    if unsure && !last {
        return Ok(None);
    }
    let utf8 = || Decoder::Utf8 { carry: Vec::new() };
    let Some(declaration) = text.strip_prefix(DECLARATION) else { return Ok(Some((utf8(), behind))) };
    let end = memchr::memmem::find(declaration.get(*searched..).unwrap_or_default(), b"?>");
    let declaration = match end {
        Some(end) => declaration.get(..*searched + end).unwrap_or_default(),
        None if last => return Ok(Some((utf8(), behind))),
        None => {
            *searched = declaration.len().saturating_sub(1);
            return Ok(None);
        }
    };
    match declared(declaration).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"utf-8" | b"utf8" | b"us-ascii" | b"ascii") => Ok(Some((utf8(), behind))),
        Some(b"iso-8859-1" | b"latin1") => Ok(Some((Decoder::Latin1, behind))),
        Some(other) => Err(format!("its encoding {:?} is not supported", String::from_utf8_lossy(other))),
    }
}

/// The encoding that the XML declaration names.
fn declared(declaration: &[u8]) -> Option<&[u8]> {
    let after = declaration.get(memchr::memmem::find(declaration, b"encoding")? + 8..)?.trim_ascii_start();
    let (&quote, value) = after.strip_prefix(b"=")?.trim_ascii_start().split_first()?;
    value.get(..memchr::memchr(quote, value)?)
}

fn utf8(bytes: &[u8], carry: &mut Vec<u8>, out: &mut String) -> Result<(), String> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.push_str(text);
            return Ok(());
        }
        Err(error) => error,
    };
    let (valid, rest) = bytes.split_at(error.valid_up_to());
    out.push_str(std::str::from_utf8(valid).unwrap_or_default());
    if error.error_len().is_some() {
        return Err(INVALID_UTF8.to_owned());
    }
    carry.extend_from_slice(rest);
    Ok(())
}
