//! Takes a value apart into the tokens of SQL, as several databases at once would.

use super::token::{Kind, TEXT_MAX, Token};
use super::words::look_up;

/// What is made of a number that ends in a bare exponent, `1.e`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BareExponent {
    /// Nothing, as MySQL does: `1.e(1)` is `(1)`.
    Nothing,
    /// A bare word.
    Word,
}

/// Whose comments and brackets are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Ansi,
    MySql,
}

pub(super) struct Tokenizer<'a> {
    input: &'a [u8],
    at: usize,
    dialect: Dialect,
    /// The quote that is thought to stand before the value.
    quote: Option<u8>,
    bare_exponent: BareExponent,
    /// Whether a number ended in a bare exponent.
    pub(super) had_bare_exponent: bool,
    /// Tokens so far.
    pub(super) tokens: usize,
    /// Whether a comment was seen that MySQL reads otherwise.
    pub(super) ambiguous: bool,
}

/// White space of any database: Oracle's NUL and the no-break space of Latin-1 too.
const fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | 0xa0 | 0)
}

/// What ends a bare word.
const fn ends_word(byte: u8) -> bool {
    is_white(byte)
        || matches!(
            byte,
            b'[' | b']'
                | b'{'
                | b'}'
                | b'<'
                | b'>'
                | b':'
                | b'\\'
                | b'?'
                | b'='
                | b'@'
                | b'!'
                | b'#'
                | b'~'
                | b'+'
                | b'-'
                | b'*'
                | b'/'
                | b'&'
                | b'|'
                | b'^'
                | b'%'
                | b'('
                | b')'
                | b','
                | b'\''
                | b';'
                | b'"'
        )
}

/// What ends the name of a variable.
const fn ends_variable(byte: u8) -> bool {
    byte == b'`' || (ends_word(byte) && !matches!(byte, b'[' | b']' | b'{' | b'}' | 0xa0))
}

impl<'a> Tokenizer<'a> {
    pub(super) const fn new(
        input: &'a [u8],
        dialect: Dialect,
        quote: Option<u8>,
        bare_exponent: BareExponent,
    ) -> Self {
        Self {
            input,
            at: 0,
            dialect,
            quote,
            bare_exponent,
            had_bare_exponent: false,
            tokens: 0,
            ambiguous: false,
        }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.input.get(self.at + ahead).copied()
    }

    fn rest(&self, ahead: usize) -> &'a [u8] {
        self.input.get(self.at + ahead..).unwrap_or_default()
    }

    /// Takes `length` bytes as a token.
    fn take(&mut self, kind: Kind, length: usize) -> Token {
        let text = self.rest(0).get(..length).unwrap_or(self.rest(0));
        self.at += text.len();
        Token::new(kind, text)
    }

    /// How many bytes in a row, from `ahead` on, satisfy the condition. NUL counts as
    /// satisfying it, as in the original.
    fn span(&self, ahead: usize, accept: impl Fn(u8) -> bool) -> usize {
        self.rest(ahead).iter().take_while(|&&byte| byte == 0 || accept(byte)).count()
    }

    /// The next token; none: the value ends.
    pub(super) fn next(&mut self) -> Option<Token> {
        if self.input.is_empty() {
            return None;
        }
        let token = match self.quote {
            Some(quote) if self.at == 0 => self.string(quote, 0),
            _ => loop {
                let byte = self.byte(0)?;
                if let Some(token) = self.token(byte) {
                    break token;
                }
            },
        };
        self.tokens += 1;
        Some(token)
    }

    /// The token that starts with this byte; none: what starts with it is nothing.
    fn token(&mut self, byte: u8) -> Option<Token> {
        Some(match byte {
            0..=b' ' | 0x7f | 0xa0 => {
                self.at += 1;
                return None;
            }
            b'!' | b'&' | b'*' | b':' | b'<' | b'=' | b'>' | b'|' => self.operator(),
            b'"' | b'\'' => self.string(byte, 1),
            b'#' => self.hash(),
            b'$' => self.money(),
            b'%' | b'^' | b'+' | b'~' => self.take(Kind::Operator, 1),
            b'(' => self.take(Kind::LeftParenthesis, 1),
            b')' => self.take(Kind::RightParenthesis, 1),
            b',' => self.take(Kind::Comma, 1),
            b';' => self.take(Kind::Semicolon, 1),
            b'{' => self.take(Kind::LeftBrace, 1),
            b'}' => self.take(Kind::RightBrace, 1),
            b'?' | b']' => self.take(Kind::Unknown, 1),
            b'-' => self.dash(),
            b'.' | b'0'..=b'9' => return self.number(),
            b'/' => self.slash(),
            b'@' => self.variable(),
            b'[' => self.bracket(),
            b'\\' => match self.byte(1) {
                Some(b'N') => self.take(Kind::Number, 2),
                _ => self.take(Kind::Backslash, 1),
            },
            b'`' => self.tick(),
            b'b' | b'B' => self.digits_in_quotes(|byte| matches!(byte, b'0' | b'1')),
            b'x' | b'X' => self.digits_in_quotes(|byte| byte.is_ascii_hexdigit()),
            b'e' | b'E' => self.escaped_string(),
            b'n' | b'N' => match self.rest(1) {
                [b'\'', _, ..] => self.escaped_string(),
                _ => self.oracle_string(1),
            },
            b'q' | b'Q' => self.oracle_string(0),
            b'u' | b'U' => self.unicode_string(),
            _ => self.word(),
        })
    }

    fn operator(&mut self) -> Token {
        let rest = self.rest(0);
        if rest.starts_with(b"<=>") {
            return self.take(Kind::Operator, 3);
        }
        if let Some(two) = rest.get(..2) {
            match look_up(two) {
                Kind::Nothing => {}
                kind => return self.take(kind, 2),
            }
            if rest.starts_with(b":") {
                return self.take(Kind::Colon, 1);
            }
        }
        self.take(Kind::Operator, 1)
    }

    fn line_comment(&mut self) -> Token {
        let end = memchr::memchr(b'\n', self.rest(0));
        let token = self.take(Kind::Comment, end.unwrap_or(usize::MAX));
        self.at += usize::from(end.is_some());
        token
    }

    /// A comment for MySQL, an operator for the others.
    fn hash(&mut self) -> Token {
        self.ambiguous = true;
        match self.dialect {
            Dialect::MySql => self.line_comment(),
            Dialect::Ansi => self.take(Kind::Operator, 1),
        }
    }

    /// `--` is a comment where white space or nothing follows, and in all databases but
    /// MySQL whatever follows.
    fn dash(&mut self) -> Token {
        match (self.byte(1), self.byte(2)) {
            (Some(b'-'), None) => self.line_comment(),
            (Some(b'-'), Some(byte)) if is_white(byte) => self.line_comment(),
            (Some(b'-'), _) if self.dialect == Dialect::Ansi => {
                self.ambiguous = true;
                self.line_comment()
            }
            _ => self.take(Kind::Operator, 1),
        }
    }

    /// `/*…*/`. A comment in a comment and MySQL's `/*!…*/` are read so differently by
    /// databases that they are taken for an attack.
    fn slash(&mut self) -> Token {
        if self.byte(1) != Some(b'*') {
            return self.take(Kind::Operator, 1);
        }
        let body = self.rest(2);
        let end = memchr::memmem::find(body, b"*/");
        let nested = end
            .and_then(|end| body.get(..end + 1))
            .is_some_and(|inside| memchr::memmem::find(inside, b"/*").is_some());
        let kind = if nested || body.starts_with(b"!") { Kind::Evil } else { Kind::Comment };
        self.take(kind, end.map_or(usize::MAX, |end| end + 4))
    }

    /// A string after `skip` bytes that open it. A backslash escapes the quote, and so
    /// does a second one.
    fn string(&mut self, quote: u8, skip: usize) -> Token {
        let text = self.rest(skip);
        let mut from = 0;
        let mut end = None;
        while let Some(found) = text.get(from..).and_then(|rest| memchr::memchr(quote, rest)) {
            let place = from + found;
            let before = text.get(..place).unwrap_or_default();
            let escapes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
            if escapes % 2 == 1 {
                from = place + 1;
            } else if text.get(place + 1) == Some(&quote) {
                from = place + 2;
            } else {
                end = Some(place);
                break;
            }
        }
        let mut token = Token::new(Kind::String, text.get(..end.unwrap_or(text.len())).unwrap_or_default());
        token.opened = (skip > 0).then_some(quote);
        token.closed = end.map(|_| quote);
        self.at += skip + end.map_or(text.len(), |end| end + 1);
        token
    }

    /// `E'…'` of PostgreSQL and `N'…'`.
    fn escaped_string(&mut self) -> Token {
        match self.rest(1) {
            [b'\'', _, ..] => self.string(b'\'', 2),
            _ => self.word(),
        }
    }

    /// `U&'…'`.
    fn unicode_string(&mut self) -> Token {
        if !self.rest(1).starts_with(b"&'") {
            return self.word();
        }
        self.at += 2;
        let mut token = self.string(b'\'', 1);
        token.opened = Some(b'u');
        token.closed = token.closed.map(|_| b'u');
        token
    }

    /// Oracle's `q'(…)'` after `skip` bytes.
    fn oracle_string(&mut self, skip: usize) -> Token {
        let open = match self.rest(skip) {
            [b'q' | b'Q', b'\'', open @ b'!'..=0x7f, ..] => *open,
            _ => return self.word(),
        };
        let close = match open {
            b'(' => b')',
            b'[' => b']',
            b'{' => b'}',
            b'<' => b'>',
            other => other,
        };
        let text = self.rest(skip + 3);
        let end = memchr::memmem::find(text, &[close, b'\'']);
        let mut token = Token::new(Kind::String, text.get(..end.unwrap_or(text.len())).unwrap_or_default());
        token.opened = Some(b'q');
        token.closed = end.map(|_| b'q');
        self.at += skip + 3 + end.map_or(text.len(), |end| end + 2);
        token
    }

    /// `B'01'` and `X'1f'`.
    fn digits_in_quotes(&mut self, digit: impl Fn(u8) -> bool) -> Token {
        if !matches!(self.rest(1), [b'\'', _, ..]) {
            return self.word();
        }
        let length = self.span(2, digit);
        match self.byte(2 + length) {
            Some(b'\'') => self.take(Kind::Number, length + 3),
            _ => self.word(),
        }
    }

    /// `[name]` of SQL Server.
    fn bracket(&mut self) -> Token {
        let end = memchr::memchr(b']', self.rest(0));
        self.take(Kind::Bareword, end.map_or(usize::MAX, |end| end + 1))
    }

    /// What stands in a word before each place where it may be two: `SELECT.1` and
    /// SELECT`column` are a keyword and something else.
    pub(super) fn splits(word: &[u8]) -> impl Iterator<Item = &[u8]> {
        let kept = word.get(..word.len().min(TEXT_MAX)).unwrap_or_default();
        memchr::memchr2_iter(b'.', b'`', kept).map(|split| word.get(..split).unwrap_or_default())
    }

    fn word(&mut self) -> Token {
        let length = self.rest(0).iter().take_while(|byte| !ends_word(**byte)).count();
        let whole = self.rest(0).get(..length).unwrap_or_default();
        for before in Self::splits(whole) {
            match look_up(before) {
                Kind::Nothing | Kind::Bareword => {}
                kind => return self.take(kind, before.len()),
            }
        }
        match look_up(whole) {
            Kind::Nothing => self.take(Kind::Bareword, length),
            kind => self.take(kind, length),
        }
    }

    /// MySQL's backticks: a name, which may be a function's.
    fn tick(&mut self) -> Token {
        let mut token = self.string(b'`', 1);
        token.kind = match look_up(token.text()) {
            Kind::Function => Kind::Function,
            _ => Kind::Bareword,
        };
        token
    }

    fn variable(&mut self) -> Token {
        self.at += if self.byte(1) == Some(b'@') { 2 } else { 1 };
        let mut token = match self.byte(0) {
            Some(b'`') => self.tick(),
            Some(quote @ (b'\'' | b'"')) => self.string(quote, 1),
            _ => {
                let length = self.rest(0).iter().take_while(|byte| !ends_variable(**byte)).count();
                self.take(Kind::Variable, length)
            }
        };
        token.kind = Kind::Variable;
        token
    }

    /// `$1,000.00`, and the quotes of PostgreSQL, `$$…$$` and `$name$…$name$`.
    fn money(&mut self) -> Token {
        if self.rest(1).is_empty() {
            return self.take(Kind::Bareword, 1);
        }
        let digits = self.span(1, |byte| byte.is_ascii_digit() || matches!(byte, b'.' | b','));
        if digits == 1 && self.byte(1) == Some(b'.') {
            return self.word();
        }
        if digits > 0 {
            return self.take(Kind::Number, 1 + digits);
        }
        let name =
            if self.byte(1) == Some(b'$') { 0 } else { self.span(1, |byte| byte.is_ascii_alphabetic()) };
        if self.byte(1 + name) != Some(b'$') {
            return self.take(Kind::Bareword, 1);
        }
        let quote = self.rest(0).get(..name + 2).unwrap_or_default();
        let text = self.rest(name + 2);
        let end = memchr::memmem::find(text, quote);
        let mut token = Token::new(Kind::String, text.get(..end.unwrap_or(text.len())).unwrap_or_default());
        token.opened = Some(b'$');
        token.closed = end.map(|_| b'$');
        self.at += name + 2 + end.map_or(text.len(), |end| end + name + 2);
        token
    }

    /// A number. None: one that ends in a bare exponent, where those are skipped.
    fn number(&mut self) -> Option<Token> {
        if let [b'0', base @ (b'x' | b'X' | b'b' | b'B'), ..] = self.rest(0) {
            let hexadecimal = base.eq_ignore_ascii_case(&b'x');
            let digits = self.span(2, |byte| {
                if hexadecimal { byte.is_ascii_hexdigit() } else { byte == b'0' || byte == b'1' }
            });
            let kind = if digits == 0 { Kind::Bareword } else { Kind::Number };
            return Some(self.take(kind, 2 + digits));
        }
        let digits = |from: usize| self.rest(from).iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut length = digits(0);
        if self.byte(length) == Some(b'.') {
            length += 1;
            length += digits(length);
            if length == 1 {
                return Some(self.take(Kind::Dot, 1));
            }
        }
        let mut bare_exponent = false;
        if matches!(self.byte(length), Some(b'e' | b'E')) {
            length += 1;
            length += usize::from(matches!(self.byte(length), Some(b'+' | b'-')));
            let exponent = digits(length);
            bare_exponent = exponent == 0;
            length += exponent;
        }
        // Oracle's suffixes; `1fUNION` is `1f UNION`.
        if matches!(self.byte(length), Some(b'd' | b'D' | b'f' | b'F')) {
            let ends = match self.byte(length + 1) {
                None | Some(b';' | b'u' | b'U') => true,
                Some(byte) => is_white(byte),
            };
            length += usize::from(ends);
        }
        self.had_bare_exponent |= bare_exponent;
        if bare_exponent && self.bare_exponent == BareExponent::Nothing {
            self.at += length;
            return None;
        }
        let kind = if bare_exponent { Kind::Bareword } else { Kind::Number };
        Some(self.take(kind, length))
    }
}
