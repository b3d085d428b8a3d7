//! XML 1.0: all text, and the value of each attribute. Nothing outside the document is
//! read and no entity but the five of the language and character references is
//! expanded; a document that declares entities of its own is refused, because its other
//! readers may expand them to what no rule has seen.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::{BodyLimits, Parsed, over_no_files_limit};

/// Attributes of one document.
const ATTRIBUTES_MAX: usize = 10_000;
/// Attributes of one element: each is compared with those before it.
const ELEMENT_ATTRIBUTES_MAX: usize = 256;

/// Reads one document: kept up to its limit while it comes, tokenised at its end.
#[derive(Debug)]
pub(crate) struct Xml {
    text: Vec<u8>,
    over: bool,
    bytes_max: usize,
    depth_max: usize,
}

impl Xml {
    pub(super) fn new(limits: &BodyLimits) -> Self {
        Self {
            text: Vec::new(),
            over: false,
            bytes_max: usize::try_from(limits.no_files_bytes_max).unwrap_or(usize::MAX),
            depth_max: limits.xml_depth_max,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let room = self.bytes_max.saturating_sub(self.text.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.text.extend_from_slice(taken);
        self.over |= taken.len() < bytes.len();
    }

    pub(super) fn finish(self, cut: bool) -> Parsed {
        let mut parsed = Parsed::default();
        if self.text.is_empty() {
            return parsed;
        }
        let read = utf8(&self.text).and_then(|text| {
            Document { parsed: &mut parsed, depth: 0, depth_max: self.depth_max, roots: 0 }.read(&text)
        });
        if self.over {
            parsed.error = Some(over_no_files_limit(self.bytes_max as u64));
            parsed.over_no_files_limit = true;
        } else if let Err(fault) = read
            && !cut
        {
            parsed.error = Some(format!("XML parsing error: XML: Failed to parse document: {fault}."));
        }
        parsed
    }
}

struct Document<'p> {
    parsed: &'p mut Parsed,
    depth: usize,
    depth_max: usize,
    roots: usize,
}

impl Document<'_> {
    fn read(mut self, text: &str) -> Result<(), String> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_end_names = true;
        loop {
            match reader.read_event().map_err(|error| error.to_string())? {
                Event::Start(tag) => {
                    self.open(&tag)?;
                    self.depth += 1;
                    if self.depth > self.depth_max {
                        return Err(format!("nested deeper than {} levels", self.depth_max));
                    }
                }
                Event::Empty(tag) => self.open(&tag)?,
                Event::End(_) => self.depth = self.depth.saturating_sub(1),
                Event::Text(text) => self.text(text.as_bytes())?,
                Event::CData(text) => self.text(text.as_bytes())?,
                Event::GeneralRef(reference) => self.reference(&reference)?,
                Event::DocType(said) => {
                    if memchr::memmem::find(said.as_bytes(), b"<!ENTITY").is_some() {
                        return Err("it declares entities".to_owned());
                    }
                }
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
                Event::Eof => break,
            }
        }
        match (self.depth, self.roots) {
            (0, 1) => Ok(()),
            (0, 0) => Err("it has no element".to_owned()),
            (0, _) => Err("it has more than one root element".to_owned()),
            _ => Err("it ends within an element".to_owned()),
        }
    }

    fn open(&mut self, tag: &BytesStart<'_>) -> Result<(), String> {
        self.roots += usize::from(self.depth == 0);
        for (number, attribute) in tag.attributes().enumerate() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            if number >= ELEMENT_ATTRIBUTES_MAX {
                return Err(format!("more than {ELEMENT_ATTRIBUTES_MAX} attributes of one element"));
            }
            if self.parsed.xml_attributes.len() >= ATTRIBUTES_MAX {
                return Err(format!("more than {ATTRIBUTES_MAX} attributes"));
            }
            // A namespace is no attribute of the document's model.
            let name = attribute.key.as_ref();
            if name == "xmlns" || name.starts_with("xmlns:") {
                continue;
            }
            self.parsed.xml_attributes.push(unescape(attribute.value.as_bytes()));
        }
        Ok(())
    }

    fn text(&mut self, text: &[u8]) -> Result<(), String> {
        if self.depth == 0 {
            return if text.trim_ascii().is_empty() {
                Ok(())
            } else {
                Err("text outside of the root element".to_owned())
            };
        }
        self.parsed.xml_text.extend_from_slice(text);
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), String> {
        if self.depth == 0 {
            return Err("a reference outside of the root element".to_owned());
        }
        append_reference(&mut self.parsed.xml_text, reference.as_bytes());
        Ok(())
    }
}

/// An attribute's value with its references replaced.
fn unescape(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(start) = memchr::memchr(b'&', rest) {
        let (plain, after) = rest.split_at(start);
        out.extend_from_slice(plain);
        let after = after.get(1..).unwrap_or_default();
        let Some(end) = memchr::memchr(b';', after) else {
            out.push(b'&');
            rest = after;
            continue;
        };
        let (name, after) = after.split_at(end);
        append_reference(&mut out, name);
        rest = after.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// What `&name;` stands for. An unknown one stays as it is written.
fn append_reference(out: &mut Vec<u8>, name: &[u8]) {
    let known: &[u8] = match name {
        b"lt" => b"<",
        b"gt" => b">",
        b"amp" => b"&",
        b"quot" => b"\"",
        b"apos" => b"'",
        _ => b"",
    };
    if !known.is_empty() {
        return out.extend_from_slice(known);
    }
    if let Some(character) = numbered(name) {
        let mut buffer = [0; 4];
        return out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    }
    out.push(b'&');
    out.extend_from_slice(name);
    out.push(b';');
}

/// `#38` or `#x26`.
fn numbered(name: &[u8]) -> Option<char> {
    let number = std::str::from_utf8(name.strip_prefix(b"#")?).ok()?;
    let code = match number.strip_prefix('x') {
        Some(hex) if !hex.starts_with('+') => u32::from_str_radix(hex, 16).ok()?,
        None if !number.starts_with('+') => number.parse().ok()?,
        _ => return None,
    };
    char::from_u32(code)
}

/// The document as UTF-8, from the encodings that every reader knows (XML 1.0,
/// appendix F). Another one could hide from the rules what its reader sees.
fn utf8(bytes: &[u8]) -> Result<std::borrow::Cow<'_, str>, String> {
    use std::borrow::Cow;
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks(2).map(|pair| match pair {
            [first, second] => unit([*first, *second]),
            _ => 0xd800,
        });
        char::decode_utf16(units)
            .collect::<Result<String, _>>()
            .map(Cow::Owned)
            .map_err(|_| "it is not valid UTF-16".to_owned())
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => return wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => return wide(rest, u16::from_be_bytes),
        [b'<', 0, ..] => return wide(bytes, u16::from_le_bytes),
        [0, b'<', ..] => return wide(bytes, u16::from_be_bytes),
        _ => {}
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let label = declared(bytes).map(<[u8]>::to_ascii_lowercase);
    match label.as_deref() {
        None | Some(b"utf-8" | b"utf8" | b"us-ascii" | b"ascii") => {
            std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| "it is not valid UTF-8".to_owned())
        }
        Some(b"iso-8859-1" | b"latin1") => {
            Ok(Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()))
        }
        Some(other) => Err(format!("its encoding {:?} is not supported", String::from_utf8_lossy(other))),
    }
}

/// The encoding that the XML declaration names.
fn declared(bytes: &[u8]) -> Option<&[u8]> {
    let declaration = bytes.strip_prefix(b"<?xml")?;
    let declaration = declaration.get(..memchr::memmem::find(declaration, b"?>")?)?;
    let after = declaration.get(memchr::memmem::find(declaration, b"encoding")? + 8..)?.trim_ascii_start();
    let (&quote, value) = after.strip_prefix(b"=")?.trim_ascii_start().split_first()?;
    value.get(..memchr::memchr(quote, value)?)
}
