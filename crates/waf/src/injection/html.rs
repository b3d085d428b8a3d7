//! Takes a value apart as browsers do, old ones too: the tokenizer of HTML 5 (sections
//! 12.2.5.1 and following), with what Internet Explorer, Opera and Safari made of it.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// The name of a tag that opens, or of one that closes and does not end.
    Tag,
    /// The end of a tag.
    End,
    AttributeName,
    AttributeValue,
    Comment,
    Doctype,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a [u8],
}

/// Where in a page a value starts or the tokenizer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Data,
    TagOpen,
    TagName,
    TagEnd,
    SelfClosing,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    /// In a value between quotes of this kind; the opening one is still to be read,
    /// except at the very start.
    Quoted(u8),
    AfterQuoted,
    Bare,
    Finished,
}

pub(super) struct Tokenizer<'a> {
    input: &'a [u8],
    at: usize,
    state: State,
    closes: bool,
}

/// White space in tags, and NUL, which old browsers skip.
const fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | 0)
}

impl<'a> Tokenizer<'a> {
    pub(super) const fn new(input: &'a [u8], state: State) -> Self {
        Self { input, at: 0, state, closes: false }
    }

    fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// A token of the next `length` bytes; then `skip` more are passed over.
    fn take(&mut self, kind: Kind, length: usize, skip: usize, state: State) -> Option<Token<'a>> {
        let text = self.rest().get(..length).unwrap_or(self.rest());
        self.at += text.len() + skip;
        self.state = state;
        Some(Token { kind, text })
    }

    /// The rest as one token.
    fn take_rest(&mut self, kind: Kind) -> Option<Token<'a>> {
        self.take(kind, usize::MAX, 0, State::Finished)
    }

    fn skip_white(&mut self) -> Option<u8> {
        self.at += self.rest().iter().take_while(|byte| is_white(**byte)).count();
        self.rest().first().copied()
    }

    /// The next token. None: the value ends.
    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        loop {
            match self.state {
                State::Finished => return None,
                State::Data => match memchr::memchr(b'<', self.rest()) {
                    None if self.rest().is_empty() => return None,
                    None => return self.take_rest(Kind::Text),
                    Some(0) => {
                        self.at += 1;
                        self.state = State::TagOpen;
                    }
                    Some(length) => return self.take(Kind::Text, length, 1, State::TagOpen),
                },
                State::TagOpen => {
                    if let Some(token) = self.tag_open()? {
                        return Some(token);
                    }
                }
                State::TagName => return self.tag_name(),
                State::TagEnd => {
                    self.closes = false;
                    return self.take(Kind::End, 1, 0, State::Data);
                }
                State::SelfClosing => {
                    if *self.rest().first()? == b'>' {
                        return self.take(Kind::End, 1, 0, State::Data);
                    }
                    self.state = State::BeforeName;
                }
                State::BeforeName => match self.skip_white()? {
                    b'/' => {
                        self.at += 1;
                        self.state = State::SelfClosing;
                    }
                    b'>' => return self.take(Kind::End, 1, 0, State::Data),
                    _ => self.state = State::Name,
                },
                State::Name => return self.attribute_name(),
                State::AfterName => match self.skip_white()? {
                    b'/' => {
                        self.at += 1;
                        self.state = State::SelfClosing;
                    }
                    b'=' => {
                        self.at += 1;
                        self.state = State::BeforeValue;
                    }
                    b'>' => self.state = State::TagEnd,
                    _ => self.state = State::Name,
                },
                State::BeforeValue => {
                    self.state = match self.skip_white()? {
                        quote @ (b'"' | b'\'' | b'`') => State::Quoted(quote),
                        _ => State::Bare,
                    }
                }
                State::Quoted(quote) => return self.quoted(quote),
                State::AfterQuoted => match *self.rest().first()? {
                    b'/' => {
                        self.at += 1;
                        self.state = State::SelfClosing;
                    }
                    b'>' => return self.take(Kind::End, 1, 0, State::Data),
                    byte => {
                        self.at += usize::from(is_white(byte));
                        self.state = State::BeforeName;
                    }
                },
                State::Bare => return self.bare(),
            }
        }
    }

    /// After `<`. The outer option is none where the value ends.
    #[expect(clippy::option_option, reason = "the outer one ends the value, the inner one is a token")]
    fn tag_open(&mut self) -> Option<Option<Token<'a>>> {
        match *self.rest().first()? {
            b'!' => {
                self.at += 1;
                Some(self.declaration())
            }
            b'/' => {
                self.at += 1;
                self.closes = true;
                match *self.rest().first()? {
                    b'>' => self.state = State::Data,
                    byte if byte.is_ascii_alphabetic() => self.state = State::TagName,
                    _ => {
                        self.closes = false;
                        return Some(self.comment_until(b">"));
                    }
                }
                Some(None)
            }
            b'?' => {
                self.at += 1;
                Some(self.comment_until(b">"))
            }
            // Comments of Internet Explorer up to 9 and Safari before 4.
            b'%' => {
                self.at += 1;
                Some(self.comment_until(b"%>"))
            }
            byte if byte.is_ascii_alphabetic() || byte == 0 => {
                self.state = State::TagName;
                Some(None)
            }
            _ => {
                self.state = State::Data;
                Some(Some(Token { kind: Kind::Text, text: b"<" }))
            }
        }
    }

    fn comment_until(&mut self, end: &[u8]) -> Option<Token<'a>> {
        match memchr::memmem::find(self.rest(), end) {
            Some(length) => self.take(Kind::Comment, length, end.len(), State::Data),
            None => self.take_rest(Kind::Comment),
        }
    }

    /// After `<!`.
    fn declaration(&mut self) -> Option<Token<'a>> {
        let rest = self.rest();
        if rest.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"DOCTYPE")) {
            return match memchr::memchr(b'>', rest) {
                Some(length) => self.take(Kind::Doctype, length, 1, State::Data),
                None => self.take_rest(Kind::Doctype),
            };
        }
        if rest.starts_with(b"[CDATA[") {
            self.at += 7;
            return match memchr::memmem::find(self.rest(), b"]]>") {
                Some(length) => self.take(Kind::Text, length, 3, State::Data),
                None => self.take_rest(Kind::Text),
            };
        }
        if rest.starts_with(b"--") {
            self.at += 2;
            return self.comment();
        }
        self.comment_until(b">")
    }

    /// After `<!--`: up to `-->` or `-!>`, with any NUL after the first dash skipped.
    fn comment(&mut self) -> Option<Token<'a>> {
        let rest = self.rest();
        for dash in memchr::memchr_iter(b'-', rest) {
            if dash + 3 > rest.len() {
                break;
            }
            let nulls =
                rest.get(dash + 1..).unwrap_or_default().iter().take_while(|byte| **byte == 0).count();
            let end = dash + 1 + nulls;
            if matches!(rest.get(end..), Some([b'-' | b'!', b'>', ..])) {
                return self.take(Kind::Comment, dash, end + 2 - dash, State::Data);
            }
        }
        self.take_rest(Kind::Comment)
    }

    fn tag_name(&mut self) -> Option<Token<'a>> {
        // Old browsers skip NUL in the name of a tag.
        let ends = |byte: &u8| *byte != 0 && (is_white(*byte) || matches!(byte, b'/' | b'>'));
        let rest = self.rest();
        let Some(length) = rest.iter().position(ends) else { return self.take_rest(Kind::Tag) };
        match rest.get(length) {
            Some(b'>') if self.closes => {
                self.closes = false;
                self.take(Kind::End, length, 1, State::Data)
            }
            Some(b'>') => self.take(Kind::Tag, length, 0, State::TagEnd),
            Some(b'/') => self.take(Kind::Tag, length, 1, State::SelfClosing),
            _ => self.take(Kind::Tag, length, 1, State::BeforeName),
        }
    }

    fn attribute_name(&mut self) -> Option<Token<'a>> {
        // The first byte is part of the name whatever it is.
        let rest = self.rest();
        let ends = |byte: &u8| is_white(*byte) || matches!(byte, b'/' | b'=' | b'>');
        let length = rest.iter().skip(1).position(ends).map(|length| length + 1);
        let Some(length) = length else { return self.take_rest(Kind::AttributeName) };
        match rest.get(length) {
            Some(b'>') => self.take(Kind::AttributeName, length, 0, State::TagEnd),
            Some(b'/') => self.take(Kind::AttributeName, length, 1, State::SelfClosing),
            Some(b'=') => self.take(Kind::AttributeName, length, 1, State::BeforeValue),
            _ => self.take(Kind::AttributeName, length, 1, State::AfterName),
        }
    }

    fn quoted(&mut self, quote: u8) -> Option<Token<'a>> {
        // At the very start the quote is thought to stand before the value.
        if self.at > 0 {
            self.at += 1;
        }
        match memchr::memchr(quote, self.rest()) {
            Some(length) => self.take(Kind::AttributeValue, length, 1, State::AfterQuoted),
            None => self.take_rest(Kind::AttributeValue),
        }
    }

    fn bare(&mut self) -> Option<Token<'a>> {
        let rest = self.rest();
        let Some(length) = rest.iter().position(|byte| is_white(*byte) || *byte == b'>') else {
            return self.take_rest(Kind::AttributeValue);
        };
        match rest.get(length) {
            Some(b'>') => self.take(Kind::AttributeValue, length, 0, State::TagEnd),
            _ => self.take(Kind::AttributeValue, length, 1, State::BeforeName),
        }
    }
}
