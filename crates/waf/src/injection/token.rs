//! A token of SQL.

/// The longest text of a token that is kept, in bytes: no word of the tables is longer,
/// so that longer texts are no words.
pub(super) const TEXT_MAX: usize = 31;

/// What a token is, named by the letter that it has in a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(super) enum Kind {
    /// No token.
    #[default]
    Nothing = 0,
    Keyword = b'k',
    Union = b'U',
    Group = b'B',
    Expression = b'E',
    SqlType = b't',
    Function = b'f',
    Bareword = b'n',
    Number = b'1',
    Variable = b'v',
    String = b's',
    Operator = b'o',
    LogicOperator = b'&',
    Comment = b'c',
    Collate = b'A',
    LeftParenthesis = b'(',
    RightParenthesis = b')',
    LeftBrace = b'{',
    RightBrace = b'}',
    Dot = b'.',
    Comma = b',',
    Colon = b':',
    Semicolon = b';',
    /// A statement of Transact-SQL.
    Tsql = b'T',
    Unknown = b'?',
    /// Cannot be read the way all databases read it, which no honest value needs.
    Evil = b'X',
    Backslash = b'\\',
}

impl Kind {
    /// The kind of a word by its letter in the tables.
    pub(super) const fn from_letter(letter: u8) -> Self {
        match letter {
            b'k' => Self::Keyword,
            b'U' => Self::Union,
            b'B' => Self::Group,
            b'E' => Self::Expression,
            b't' => Self::SqlType,
            b'f' => Self::Function,
            b'n' => Self::Bareword,
            b'1' => Self::Number,
            b'v' => Self::Variable,
            b'o' => Self::Operator,
            b'&' => Self::LogicOperator,
            b'A' => Self::Collate,
            b'T' => Self::Tsql,
            _ => Self::Nothing,
        }
    }
}

/// A token: what it is, the start of its text and how it is quoted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Token {
    pub(super) kind: Kind,
    text: [u8; TEXT_MAX],
    length: u8,
    /// The quote that opens it; none: it starts outside of the value, or has no quotes.
    pub(super) opened: Option<u8>,
    /// The quote that closes it; none: it goes on past the end of the value.
    pub(super) closed: Option<u8>,
}

impl Token {
    pub(super) fn new(kind: Kind, text: &[u8]) -> Self {
        let mut token = Self { kind, ..Self::default() };
        token.set_text(text);
        token
    }

    /// The text, cut to [`TEXT_MAX`] bytes.
    pub(super) fn text(&self) -> &[u8] {
        self.text.get(..usize::from(self.length)).unwrap_or_default()
    }

    pub(super) fn set_text(&mut self, text: &[u8]) {
        let length = text.len().min(TEXT_MAX);
        for (slot, byte) in self.text.iter_mut().zip(text) {
            *slot = *byte;
        }
        self.length = u8::try_from(length).unwrap_or_default();
    }

    pub(super) fn first(&self) -> Option<u8> {
        self.text().first().copied()
    }

    /// Whether the text is this one, in any case of letters.
    pub(super) fn is(&self, text: &str) -> bool {
        self.text().eq_ignore_ascii_case(text.as_bytes())
    }

    pub(super) fn is_unary(&self) -> bool {
        self.kind == Kind::Operator
            && (matches!(self.text(), [b'+' | b'-' | b'!' | b'~'] | [b'!', b'!']) || self.is("NOT"))
    }

    pub(super) fn is_arithmetic(&self) -> bool {
        self.kind == Kind::Operator && matches!(self.text(), [b'*' | b'/' | b'-' | b'+' | b'%'])
    }
}
