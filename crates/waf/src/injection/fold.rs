//! Folds the tokens of SQL until at most five are left: what databases treat alike becomes
//! alike, so that `1+1`, `-1` and `a.b.c` cost an attacker nothing and us neither.

use super::fingerprint::TOKENS_MAX;
use super::token::{Kind, TEXT_MAX, Token};
use super::tokenizer::Tokenizer;
use super::words::look_up;

/// Tokens that are held at once: a sixth and more are read to judge the fifth.
const HELD: usize = TOKENS_MAX + 3;

/// Names of functions that are names of columns where no parenthesis follows.
const MAYBE_FUNCTIONS: &[&str] = &[
    "USER_ID",
    "USER_NAME",
    "DATABASE",
    "PASSWORD",
    "USER",
    "CURRENT_USER",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "LOCALTIME",
    "LOCALTIMESTAMP",
];

/// The folded tokens.
pub(super) struct Folded {
    tokens: [Token; HELD],
    pub(super) count: usize,
}

impl Folded {
    pub(super) fn token(&self, at: usize) -> Token {
        self.tokens.get(at).copied().unwrap_or_default()
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.tokens.iter().take(self.count).map(|token| token.kind)
    }

    pub(super) fn set_kind(&mut self, at: usize, kind: Kind) {
        if let Some(token) = self.tokens.get_mut(at) {
            token.kind = kind;
        }
    }
}

/// What a rule did.
enum Outcome {
    /// Nothing: try the next rules.
    Keep,
    /// Something: start again where it says.
    Again,
    /// The fingerprint ends here.
    Stop,
}

struct Folder<'a, 'b> {
    source: &'b mut Tokenizer<'a>,
    folded: Folded,
    /// Where the next token goes.
    end: usize,
    /// How many tokens at the start are done.
    left: usize,
    more: bool,
    last_comment: Option<Token>,
}

/// Reads all tokens and folds them.
pub(super) fn fold(source: &mut Tokenizer<'_>) -> Folded {
    let folded = Folded { tokens: [Token::default(); HELD], count: 0 };
    let mut folder = Folder { source, folded, end: 0, left: 0, more: true, last_comment: None };
    folder.run();
    folder.folded
}

impl Folder<'_, '_> {
    fn kind(&self, ahead: usize) -> Kind {
        self.folded.token(self.left + ahead).kind
    }

    fn token(&self, ahead: usize) -> Token {
        self.folded.token(self.left + ahead)
    }

    fn put(&mut self, at: usize, token: Token) {
        if let Some(slot) = self.folded.tokens.get_mut(at) {
            *slot = token;
        }
    }

    /// Copies a token over another one, both counted from the left.
    fn replace(&mut self, ahead: usize, by: usize) {
        self.put(self.left + ahead, self.token(by));
    }

    /// Drops tokens at the end and starts again from the first.
    fn again(&mut self, dropped: usize) -> Outcome {
        self.end -= dropped;
        self.left = 0;
        Outcome::Again
    }

    fn run(&mut self) {
        if !self.first() {
            return;
        }
        loop {
            self.fold_five();
            if !self.more || self.left >= TOKENS_MAX {
                self.left = self.end;
                break;
            }
            if !self.read(2) {
                self.left = self.end;
                continue;
            }
            match self.fold_two() {
                Outcome::Again => continue,
                Outcome::Stop => {
                    self.folded.count = self.left + 2;
                    return;
                }
                Outcome::Keep => {}
            }
            if !self.read(3) {
                self.left = self.end;
                continue;
            }
            if matches!(self.fold_three(), Outcome::Again) {
                continue;
            }
            self.left += 1;
        }
        if self.left < TOKENS_MAX
            && let Some(comment) = self.last_comment
        {
            self.put(self.left, comment);
            self.left += 1;
        }
        self.folded.count = self.left.min(TOKENS_MAX);
    }

    /// The first token that is no comment, parenthesis, type or sign.
    fn first(&mut self) -> bool {
        while let Some(token) = self.source.next() {
            if !matches!(token.kind, Kind::Comment | Kind::LeftParenthesis | Kind::SqlType)
                && !token.is_unary()
            {
                self.put(0, token);
                self.end = 1;
                return true;
            }
        }
        false
    }

    /// Reads until `wanted` tokens stand right of the left ones; false: there are less.
    fn read(&mut self, wanted: usize) -> bool {
        while self.more && self.end <= TOKENS_MAX && self.end - self.left < wanted {
            match self.source.next() {
                None => {
                    self.more = false;
                    self.put(self.end, Token::default());
                }
                Some(token) if token.kind == Kind::Comment => {
                    self.put(self.end, token);
                    self.last_comment = Some(token);
                }
                Some(token) => {
                    self.last_comment = None;
                    self.put(self.end, token);
                    self.end += 1;
                }
            }
        }
        self.end - self.left >= wanted
    }

    /// Five tokens that are arithmetic become one.
    fn fold_five(&mut self) {
        use Kind::{Bareword, Comma, LeftParenthesis, Number, Operator, RightParenthesis};
        if self.end < TOKENS_MAX {
            return;
        }
        let kind = |at| self.folded.token(at).kind;
        let folds = matches!(
            (kind(0), kind(1), kind(2), kind(3), kind(4)),
            (Number, Operator | Comma, LeftParenthesis, Number, RightParenthesis)
                | (Bareword, Operator, LeftParenthesis, Bareword | Number, RightParenthesis)
                | (Number, RightParenthesis, Comma, LeftParenthesis, Number)
                | (Bareword, RightParenthesis, Operator, LeftParenthesis, Bareword)
        );
        if !folds {
            return;
        }
        if self.end > TOKENS_MAX {
            self.put(1, self.folded.token(TOKENS_MAX));
            self.end = 2;
        } else {
            self.end = 1;
        }
        self.left = 0;
    }

    fn fold_two(&mut self) -> Outcome {
        let (one, two) = (self.token(0), self.token(1));
        let step_back = |left: usize| left.saturating_sub(1);
        match (one.kind, two.kind) {
            // "a" "b" is one string, and so is ;; one end.
            (Kind::String, Kind::String) | (Kind::Semicolon, Kind::Semicolon) => {
                self.end -= 1;
                return Outcome::Again;
            }
            (Kind::Operator | Kind::LogicOperator, _) if two.is_unary() || two.kind == Kind::SqlType => {
                return self.again(1);
            }
            (Kind::LeftParenthesis, _) if two.is_unary() => {
                self.end -= 1;
                self.left = step_back(self.left);
                return Outcome::Again;
            }
            _ => {}
        }
        if self.merge(&one, &two) {
            self.end -= 1;
            self.left = step_back(self.left);
            return Outcome::Again;
        }
        self.fold_two_by_kind(&one, &two)
    }

    fn fold_two_by_kind(&mut self, one: &Token, two: &Token) -> Outcome {
        use Kind::{
            Backslash, Bareword, Collate, Function, Keyword, LeftBrace, LeftParenthesis, Number, Operator,
            RightBrace, RightParenthesis, Semicolon, SqlType, String, Tsql, Variable,
        };
        match (one.kind, two.kind) {
            // IF is a statement of Transact-SQL after a semicolon.
            (Semicolon, Function)
                if two.text().get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"IF")) =>
            {
                self.folded.set_kind(self.left + 1, Tsql);
                return Outcome::Again;
            }
            (Bareword | Variable, LeftParenthesis) if MAYBE_FUNCTIONS.iter().any(|name| one.is(name)) => {
                self.folded.set_kind(self.left, Function);
                return Outcome::Again;
            }
            (Keyword, _) if one.is("IN") || one.is("NOT IN") => {
                let kind = if two.kind == LeftParenthesis { Operator } else { Bareword };
                self.folded.set_kind(self.left, kind);
                return Outcome::Again;
            }
            (Operator, next) if one.is("LIKE") || one.is("NOT LIKE") => {
                let kind = if next == LeftParenthesis { Function } else { Operator };
                self.folded.set_kind(self.left, kind);
            }
            (SqlType, Bareword | Number | SqlType | LeftParenthesis | Function | Variable | String) => {
                self.replace(0, 1);
                return self.again(1);
            }
            // There are too many collations to list; all have an underscore.
            (Collate, Bareword) if two.text().contains(&b'_') => {
                self.folded.set_kind(self.left + 1, SqlType);
                self.left = 0;
            }
            (Backslash, _) => {
                // SQL Server reads `\%1` as `0%1` and `\1` as `1`.
                if two.is_arithmetic() {
                    self.folded.set_kind(self.left, Number);
                    return self.again(0);
                }
                self.replace(0, 1);
                return self.again(1);
            }
            (LeftParenthesis, LeftParenthesis) | (RightParenthesis, RightParenthesis) => {
                return self.again(1);
            }
            (LeftBrace, Bareword) => {
                // MySQL takes {``.``.id}, which nobody honest writes.
                if two.text().is_empty() {
                    self.folded.set_kind(self.left + 1, Kind::Evil);
                    return Outcome::Stop;
                }
                return self.again(2);
            }
            (_, RightBrace) => return self.again(1),
            _ => {}
        }
        Outcome::Keep
    }

    /// Two words that are one phrase: UNION ALL.
    fn merge(&mut self, one: &Token, two: &Token) -> bool {
        use Kind::{Bareword, Expression, Function, Keyword, LogicOperator, Operator, SqlType, Tsql, Union};
        let wordy = |kind| {
            matches!(kind, Keyword | Bareword | Operator | Union | Function | Expression | Tsql | SqlType)
        };
        if !wordy(one.kind) || !(wordy(two.kind) || two.kind == LogicOperator) {
            return false;
        }
        let length = one.text().len() + 1 + two.text().len();
        if length > TEXT_MAX {
            return false;
        }
        let mut phrase = [b' '; TEXT_MAX];
        for (slot, byte) in phrase.iter_mut().zip(one.text().iter().chain(b" ").chain(two.text())) {
            *slot = *byte;
        }
        let phrase = phrase.get(..length).unwrap_or_default();
        let kind = look_up(phrase);
        if kind == Kind::Nothing {
            return false;
        }
        let mut merged = *one;
        merged.kind = kind;
        merged.set_text(phrase);
        self.put(self.left, merged);
        true
    }

    fn fold_three(&mut self) -> Outcome {
        use Kind::{
            Bareword, Comma, Dot, Expression, Function, Group, Keyword, LeftParenthesis, LogicOperator,
            Number, Operator, RightParenthesis, SqlType, String, Variable,
        };
        let middle = self.token(1);
        let unary = middle.is_unary();
        match (self.kind(0), middle.kind, self.kind(2)) {
            (Operator, kind, Operator) if kind != LeftParenthesis => self.again(2),
            (LogicOperator, _, LogicOperator) => self.again(2),
            (Variable, Operator, Variable | Number | Bareword) => self.again(2),
            (Bareword | Number, Operator, Number | Bareword) => self.again(2),
            (Bareword | Number | Variable | String, Operator, SqlType) if middle.text() == b"::" => {
                self.again(2)
            }
            (Bareword | Number | String | Variable, Comma, Number | Bareword | String | Variable) => {
                self.again(2)
            }
            (Expression | Group | Comma, _, LeftParenthesis) if unary => self.drop_sign(),
            (Keyword | Expression | Group, _, Number | Bareword | Variable | String | Function) if unary => {
                self.drop_sign()
            }
            (Comma, _, Number | Bareword | Variable | String) if unary => {
                // `1,-1` becomes `1,1`, and one token more is taken back to fold on.
                self.replace(1, 2);
                self.again(3)
            }
            (Comma, _, Function) if unary => self.drop_sign(),
            (Bareword, Dot, Bareword) => self.again(2),
            (Expression, Dot, Bareword) => self.drop_sign(),
            (Function, LeftParenthesis, kind) if kind != RightParenthesis => {
                // USER() takes no argument: with one it is no function.
                if self.token(0).is("USER") {
                    self.folded.set_kind(self.left, Bareword);
                }
                Outcome::Keep
            }
            _ => Outcome::Keep,
        }
    }

    /// Drops the middle one of three.
    fn drop_sign(&mut self) -> Outcome {
        self.replace(1, 2);
        self.again(1)
    }
}
