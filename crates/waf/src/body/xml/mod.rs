//! XML 1.0: all text, and the value of each attribute. Nothing outside the document is
//! read and no entity but the five of the language and character references is
//! expanded; a document that declares entities or attributes of its own, or refers to
//! declarations elsewhere, is refused, because its other readers may fetch those, and find in
//! it what no rule has seen: entities stand for text, and attributes have default values
//! (XML 1.0, 3.3.2).
//!
//! The way through it: `encoding` makes text of bytes, `token` finds where markup ends,
//! [`Document`] takes each piece in as soon as it is whole. Each limit ends the reading
//! where it is passed.

mod encoding;
mod token;

use encoding::Decoder;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use token::Search;

use super::{BodyLimits, Parsed, over_no_files_limit};

/// Attributes of one document.
const ATTRIBUTES_MAX: usize = 10_000;
/// Attributes of one element: each is compared with those before it.
const ELEMENT_ATTRIBUTES_MAX: usize = 256;

/// Reads one document as it comes.
#[derive(Debug)]
pub(crate) struct Xml {
    decoder: Decoder,
    /// What came and is nothing whole yet: the beginning of markup or of a reference.
    pending: String,
    search: Search,
    document: Document,
    bytes: usize,
    bytes_max: usize,
}

impl Xml {
    pub(super) fn new(limits: &BodyLimits) -> Self {
        Self {
            decoder: Decoder::new(),
            pending: String::new(),
            search: Search::default(),
            document: Document {
                parsed: Parsed::default(),
                open: Open::default(),
                depth_max: limits.xml_depth_max,
                roots: 0,
            },
            bytes: 0,
            bytes_max: usize::try_from(limits.no_files_bytes_max).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.document.parsed.error.is_some() {
            return;
        }
        let room = self.bytes_max.saturating_sub(self.bytes);
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.bytes += taken.len();
        let decoded = self.decoder.decode(taken, &mut self.pending);
        // What stands before a fault is taken in first, as when it had come alone.
        let read = self.read().and(decoded);
        if let Err(fault) = read {
            self.fail(&fault);
        } else if taken.len() < bytes.len() {
            self.document.parsed.error = Some(over_no_files_limit(self.bytes_max as u64));
            self.document.parsed.over_no_files_limit = true;
        }
    }

    pub(super) fn finish(mut self, cut: bool) -> Parsed {
        if self.document.parsed.error.is_none() && self.bytes > 0 {
            let decoded = self.decoder.finish(&mut self.pending);
            let read = self.read().and(decoded);
            let whole = match self.pending.is_empty() {
                true => self.document.is_whole(),
                false => Err("it ends within markup".to_owned()),
            };
            if let Err(fault) = read.and(whole)
                && !cut
            {
                self.fail(&fault);
            }
        }
        self.document.parsed
    }

    fn fail(&mut self, fault: &str) {
        self.document.parsed.error =
            Some(format!("XML parsing error: XML: Failed to parse document: {fault}."));
        self.pending = String::new();
    }

    /// Takes in what is whole of what came.
    fn read(&mut self) -> Result<(), String> {
        let mut at = 0;
        let read = loop {
            let rest = self.pending.get(at..).unwrap_or_default();
            match piece(rest, &mut self.search, &mut self.document) {
                Ok(0) => break Ok(()),
                Ok(length) => at += length,
                Err(fault) => break Err(fault),
            }
        };
        self.pending.drain(..at);
        read
    }
}

/// Takes in one piece; its length, 0 when it is not whole.
fn piece(rest: &str, search: &mut Search, document: &mut Document) -> Result<usize, String> {
    let bytes = rest.as_bytes();
    let end = match bytes.first() {
        None => None,
        Some(b'<') => {
            let end = search.end(bytes)?;
            if let Some(end) = end {
                *search = Search::default();
                document.markup(rest.get(..end).unwrap_or_default())?;
            }
            end
        }
        Some(b'&') => {
            let end = search.reference(bytes)?;
            if let Some(end) = end {
                *search = Search::default();
                document.reference(bytes.get(1..end).unwrap_or_default())?;
            }
            end.map(|end| end + 1)
        }
        Some(_) => {
            let end = memchr::memchr2(b'<', b'&', bytes).unwrap_or(bytes.len());
            document.text(bytes.get(..end).unwrap_or_default())?;
            Some(end)
        }
    };
    Ok(end.unwrap_or(0))
}

/// The names of the elements that are open, outermost first.
#[derive(Debug, Default)]
struct Open {
    names: String,
    starts: Vec<usize>,
}

impl Open {
    fn depth(&self) -> usize {
        self.starts.len()
    }

    fn push(&mut self, name: &str) {
        self.starts.push(self.names.len());
        self.names.push_str(name);
    }

    /// Closes the innermost; false when it has another name.
    fn pop(&mut self, name: &str) -> bool {
        let Some(start) = self.starts.pop() else { return false };
        let same = self.names.get(start..) == Some(name);
        self.names.truncate(start);
        same
    }
}

/// What was read of a document.
#[derive(Debug)]
struct Document {
    parsed: Parsed,
    open: Open,
    depth_max: usize,
    roots: usize,
}

impl Document {
    /// One piece of markup, which is whole.
    fn markup(&mut self, markup: &str) -> Result<(), String> {
        let mut reader = Reader::from_str(markup);
        reader.config_mut().allow_unmatched_ends = true;
        loop {
            match reader.read_event().map_err(|error| error.to_string())? {
                Event::Start(tag) => {
                    self.start(&tag)?;
                    self.open.push(tag.name().as_ref());
                    if self.open.depth() > self.depth_max {
                        return Err(format!("nested deeper than {} levels", self.depth_max));
                    }
                }
                Event::Empty(tag) => self.start(&tag)?,
                Event::End(tag) => {
                    let name = tag.name();
                    if !self.open.pop(name.as_ref()) {
                        return Err(format!("</{}> closes nothing", name.as_ref()));
                    }
                }
                Event::CData(text) => self.text(text.as_bytes())?,
                Event::DocType(said) => declaration(said.as_bytes())?,
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
                Event::Eof => return Ok(()),
                // Both ends of the markup are known: nothing else is in it.
                Event::Text(_) | Event::GeneralRef(_) => return Err("markup that ends early".to_owned()),
            }
        }
    }

    fn is_whole(&self) -> Result<(), String> {
        match (self.open.depth(), self.roots) {
            (0, 1) => Ok(()),
            (0, 0) => Err("it has no element".to_owned()),
            (0, _) => Err("it has more than one root element".to_owned()),
            _ => Err("it ends within an element".to_owned()),
        }
    }

    fn start(&mut self, tag: &BytesStart<'_>) -> Result<(), String> {
        self.roots += usize::from(self.open.depth() == 0);
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
            let value = unescape(attribute.value.as_bytes());
            self.parsed.xml_attributes.push(value);
        }
        Ok(())
    }

    fn text(&mut self, text: &[u8]) -> Result<(), String> {
        if self.open.depth() == 0 {
            return if text.trim_ascii().is_empty() {
                Ok(())
            } else {
                Err("text outside of the root element".to_owned())
            };
        }
        self.parsed.xml_text.extend_from_slice(text);
        Ok(())
    }

    /// `&name;` between tags.
    fn reference(&mut self, name: &[u8]) -> Result<(), String> {
        if self.open.depth() == 0 {
            return Err("a reference outside of the root element".to_owned());
        }
        append_reference(&mut self.parsed.xml_text, name);
        Ok(())
    }
}

/// What stands between `<!DOCTYPE` and its end.
fn declaration(said: &[u8]) -> Result<(), String> {
    let has = |text: &[u8], word: &str| memchr::memmem::find(text, word.as_bytes()).is_some();
    if has(said, "<!ENTITY") {
        return Err("it declares entities".to_owned());
    }
    if has(said, "<!ATTLIST") {
        return Err("it declares attributes".to_owned());
    }
    let before = said.split(|byte| b"['\"".contains(byte)).next().unwrap_or_default();
    match has(before, "SYSTEM") || has(before, "PUBLIC") {
        true => Err("it refers to declarations elsewhere".to_owned()),
        false => Ok(()),
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

/// Appends what `&name;` stands for; what is unknown stays as it is written.
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
