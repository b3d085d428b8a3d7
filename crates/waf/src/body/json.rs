//! JSON (RFC 8259), read byte by byte: each scalar becomes an argument whose name is
//! its path: `json.user.name`. An item of a list is named after the list, `json.list.list`,
//! so that a rule about the end of a name meets it. A key that stands twice gives two
//! arguments, so that nothing hides behind it; an empty list or map under a key gives
//! an empty argument, so that the key is seen.
//!
//! Lists are named as in ModSecurity 2.9; `json.` in front is what libmodsecurity and
//! Coraza write, for which exclusions are made.

use super::{BodyLimits, Parsed, over_arguments_limit, over_no_files_limit};

/// Reads one JSON text.
#[derive(Debug)]
pub(crate) struct Json {
    parsed: Parsed,
    state: State,
    /// Whether the string that is being read is a key.
    in_key: bool,
    /// The open lists and maps, outermost first.
    open: Vec<Level>,
    /// The path of what is being read.
    path: Vec<u8>,
    /// Where the last key in it begins.
    key: usize,
    /// Whether there is an argument, and the name of the last one.
    named: bool,
    name: Vec<u8>,
    /// Bytes of all names so far; those of a list's items count once.
    names_bytes: usize,
    names_bytes_max: usize,
    /// The scalar or key that is being read.
    text: Vec<u8>,
    unicode: Unicode,
    bytes: u64,
    bytes_max: u64,
    depth_max: usize,
    arguments_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must come.
    Value,
    /// A byte of a byte order mark must come: of the first ones of the text.
    Mark(u8),
    /// A value, or the end of a list that is empty.
    FirstItem,
    /// A key, or the end of a map that is empty.
    FirstKey,
    /// A key must come.
    Key,
    /// A colon must come.
    Colon,
    /// A comma, or the end of a list or map.
    AfterValue,
    /// Nothing but white space.
    Done,
    String,
    Escape,
    /// So many hexadecimal digits of `\u` are still to come.
    Hex(u8),
    Number,
    /// `true`, `false` or `null`.
    Word,
}

#[derive(Debug)]
struct Level {
    is_list: bool,
    /// Length of the path up to this level.
    path: usize,
    /// Where the last key in it begins.
    key: usize,
    is_empty: bool,
}

/// A `\u` escape on its way.
#[derive(Debug, Default)]
struct Unicode {
    unit: u16,
    /// The first half of a surrogate pair.
    high: Option<u16>,
}

impl Json {
    pub(super) fn new(limits: &BodyLimits) -> Self {
        Self {
            parsed: Parsed::default(),
            state: State::Value,
            in_key: false,
            open: Vec::new(),
            path: b"json".to_vec(),
            key: 0,
            named: false,
            name: Vec::new(),
            names_bytes: 0,
            names_bytes_max: usize::try_from(limits.no_files_bytes_max)
                .unwrap_or(usize::MAX)
                .max(NAMES_BYTES_MIN),
            text: Vec::new(),
            unicode: Unicode::default(),
            bytes: 0,
            bytes_max: limits.no_files_bytes_max,
            depth_max: limits.json_depth_max,
            arguments_max: limits.arguments_max,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.parsed.error.is_some() {
            return;
        }
        let room = usize::try_from(self.bytes_max.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
        let taken = bytes.get(..room).unwrap_or(bytes);
        let mut rest = taken;
        while let Some(&byte) = rest.first() {
            let used = if self.state == State::String {
                let plain = rest.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20);
                let plain = plain.unwrap_or(rest.len());
                if plain > 0 {
                    self.end_surrogate();
                    self.text.extend_from_slice(rest.get(..plain).unwrap_or_default());
                    plain
                } else {
                    self.step(byte);
                    1
                }
            } else {
                self.step(byte);
                1
            };
            self.bytes += used as u64;
            if self.parsed.error.is_some() {
                return;
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        if taken.len() < bytes.len() {
            self.keep_open_scalar();
            self.parsed.error = Some(over_no_files_limit(self.bytes_max));
            self.parsed.over_no_files_limit = true;
        }
    }

    pub(super) fn finish(mut self, cut: bool) -> Parsed {
        if self.parsed.error.is_some() {
            return self.parsed;
        }
        if !cut && matches!(self.state, State::Number | State::Word) {
            self.end_bare();
        }
        // No body at all is no broken one.
        let empty = self.bytes == 0;
        if self.state != State::Done && !empty && self.parsed.error.is_none() {
            self.keep_open_scalar();
            if !cut {
                self.fail("premature end");
            }
        }
        self.parsed
    }

    fn fail(&mut self, what: &str) {
        let at = self.bytes + 1;
        self.parsed.error.get_or_insert_with(|| format!("JSON parsing error: {what} at byte {at}"));
    }

    /// A string that never ended was still sent: the rules see what there is of it.
    fn keep_open_scalar(&mut self) {
        let in_string = matches!(self.state, State::String | State::Escape | State::Hex(_));
        if in_string && !self.text.is_empty() {
            if self.in_key {
                let level = self.path.len();
                self.name_key();
                self.text.clear();
                self.argument();
                self.path.truncate(level);
            } else {
                self.argument();
            }
        }
    }

    fn step(&mut self, byte: u8) {
        match self.state {
            State::String => self.in_string(byte),
            State::Escape => self.escape(byte),
            State::Hex(left) => self.hex(byte, left),
            State::Number | State::Word => match byte {
                b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' => {
                    self.end_bare();
                    if self.parsed.error.is_none() {
                        self.step(byte);
                    }
                }
                _ if self.text.len() < BARE_BYTES_MAX => self.text.push(byte),
                _ => self.fail("a number or word that is too long"),
            },
            // RFC 8259 §8.1: readers either ignore it or take no such text.
            State::Value if byte == 0xef && self.bytes == 0 => self.state = State::Mark(0xbb),
            State::Mark(0xbb) if byte == 0xbb => self.state = State::Mark(0xbf),
            State::Mark(0xbf) if byte == 0xbf => self.state = State::Value,
            State::Mark(_) => self.fail("a broken byte order mark"),
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => {}
            State::FirstItem if byte == b']' => self.close(true),
            State::FirstKey if byte == b'}' => self.close(false),
            State::Value | State::FirstItem => self.value(byte),
            State::FirstKey | State::Key if byte == b'"' => {
                self.in_key = true;
                self.state = State::String;
            }
            State::FirstKey | State::Key => self.fail("expected a key"),
            State::Colon if byte == b':' => self.state = State::Value,
            State::Colon => self.fail("expected a colon"),
            State::AfterValue => self.after_value(byte),
            State::Done => self.fail("something behind the value"),
        }
    }

    fn value(&mut self, byte: u8) {
        if self.state == State::FirstItem || self.open.last().is_some_and(|level| level.is_list) {
            self.name_item();
            if self.parsed.error.is_some() {
                return;
            }
        }
        if let Some(level) = self.open.last_mut() {
            level.is_empty = false;
        }
        match byte {
            b'"' => {
                self.in_key = false;
                self.state = State::String;
            }
            b'{' | b'[' => self.open(byte == b'['),
            b'-' | b'0'..=b'9' => {
                self.text.push(byte);
                self.state = State::Number;
            }
            b't' | b'f' | b'n' => {
                self.text.push(byte);
                self.state = State::Word;
            }
            _ => self.fail("expected a value"),
        }
    }

    /// Puts the list's own key behind the path, for its next item.
    fn name_item(&mut self) {
        let Some(level) = self.open.last() else { return };
        self.path.truncate(level.path);
        let key = level.key..level.path;
        self.key = level.path + 1;
        self.path.push(b'.');
        self.path.extend_from_within(key);
        self.bound_name();
    }

    /// Puts the key that was read behind the path.
    fn name_key(&mut self) {
        if let Some(level) = self.open.last() {
            self.path.truncate(level.path);
        }
        self.path.push(b'.');
        self.key = self.path.len();
        self.path.extend_from_slice(&self.text);
        self.bound_name();
    }

    fn bound_name(&mut self) {
        if self.path.len() > NAME_BYTES_MAX {
            // Each argument below it would carry the whole name.
            self.path.truncate(NAME_BYTES_MAX);
            self.text.clear();
            self.argument();
            self.fail(&format!("a name longer than {NAME_BYTES_MAX} bytes"));
        }
    }

    fn open(&mut self, is_list: bool) {
        if self.open.len() >= self.depth_max {
            let depth = self.depth_max;
            self.fail(&format!("nested deeper than {depth} levels"));
            return;
        }
        if is_list && self.open.is_empty() {
            self.key = self.path.len() + 1;
            self.path.extend_from_slice(b".array");
        }
        self.open.push(Level { is_list, path: self.path.len(), key: self.key, is_empty: true });
        self.state = if is_list { State::FirstItem } else { State::FirstKey };
    }

    fn close(&mut self, is_list: bool) {
        match self.open.pop() {
            Some(level) if level.is_list == is_list => {
                self.path.truncate(level.path);
                if level.is_empty && !self.open.is_empty() {
                    self.argument();
                }
                self.end_value();
            }
            _ => self.fail("a bracket that closes nothing"),
        }
    }

    fn after_value(&mut self, byte: u8) {
        let in_list = self.open.last().is_some_and(|level| level.is_list);
        match byte {
            b',' => self.state = if in_list { State::Value } else { State::Key },
            b']' => self.close(true),
            b'}' => self.close(false),
            _ => self.fail("expected a comma or the end of a list or map"),
        }
    }

    fn end_value(&mut self) {
        self.state = if self.open.is_empty() { State::Done } else { State::AfterValue };
    }

    fn in_string(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.end_surrogate();
                self.end_string();
            }
            b'\\' => self.state = State::Escape,
            _ => self.fail("a control character in a string"),
        }
    }

    fn end_string(&mut self) {
        if std::str::from_utf8(&self.text).is_err() {
            self.keep_open_scalar();
            self.fail("a string that is not UTF-8");
        } else if self.in_key {
            self.name_key();
            self.text.clear();
            self.state = State::Colon;
        } else {
            self.argument();
            self.end_value();
        }
    }

    fn escape(&mut self, byte: u8) {
        if byte == b'u' {
            self.unicode.unit = 0;
            self.state = State::Hex(4);
            return;
        }
        self.end_surrogate();
        self.text.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            _ => return self.fail("an unknown escape in a string"),
        });
        self.state = State::String;
    }

    fn hex(&mut self, byte: u8, left: u8) {
        let Some(digit) = char::from(byte).to_digit(16) else {
            return self.fail("a \\u escape that is not hexadecimal");
        };
        self.unicode.unit = self.unicode.unit << 4 | digit as u16;
        if left > 1 {
            self.state = State::Hex(left - 1);
            return;
        }
        self.state = State::String;
        let unit = self.unicode.unit;
        match (self.unicode.high.take(), unit) {
            (Some(high), 0xdc00..=0xdfff) => {
                let code = 0x1_0000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
                self.push(char::from_u32(code));
            }
            (high, 0xd800..=0xdbff) => {
                if high.is_some() {
                    self.push(None);
                }
                self.unicode.high = Some(unit);
            }
            (high, _) => {
                if high.is_some() {
                    self.push(None);
                }
                self.push(char::from_u32(u32::from(unit)));
            }
        }
    }

    /// The first half of a surrogate pair that has no second is no character.
    fn end_surrogate(&mut self) {
        if self.unicode.high.take().is_some() {
            self.push(None);
        }
    }

    fn push(&mut self, character: Option<char>) {
        let mut buffer = [0; 4];
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        self.text.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    }

    fn end_bare(&mut self) {
        let well = match self.state {
            State::Number => is_number(&self.text),
            _ => matches!(self.text.as_slice(), b"true" | b"false" | b"null"),
        };
        if !well {
            return self.fail("expected a number, true, false or null");
        }
        if self.text == b"null" {
            self.text.clear();
        }
        self.argument();
        self.end_value();
    }

    fn argument(&mut self) {
        if self.parsed.args.len() >= self.arguments_max {
            self.parsed.error.get_or_insert_with(|| over_arguments_limit(self.arguments_max));
            return;
        }
        let value = std::mem::take(&mut self.text);
        if self.named && self.name == self.path {
            self.parsed.args.push((None, value));
            return;
        }
        self.names_bytes = self.names_bytes.saturating_add(self.path.len());
        if self.names_bytes > self.names_bytes_max {
            let most = self.names_bytes_max;
            return self.fail(&format!("names of more than {most} bytes in all"));
        }
        self.named = true;
        self.name.clone_from(&self.path);
        self.parsed.args.push((Some(self.path.clone()), value));
    }
}

/// Longest name of an argument, bytes: all keys on the way to it.
const NAME_BYTES_MAX: usize = 4096;
/// So long may all names together be, however short the body may be: each carries all keys on the
/// way to its value. Bytes.
const NAMES_BYTES_MIN: usize = 128 * 1024;
/// Longest number, bytes.
const BARE_BYTES_MAX: usize = 1024;

/// RFC 8259 §6.
fn is_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> (usize, &[u8]) {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count, text.get(count..).unwrap_or_default())
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (count, mut rest) = digits(text);
    if count == 0 || (count > 1 && text.first() == Some(&b'0')) {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let (count, after) = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = after;
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let exponent =
            exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let (count, after) = digits(exponent);
        if count == 0 {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}
