//! From the regular expressions that rule files are written in (PCRE as ModSecurity 2.9
//! runs it: bytes, `.` matches everything, `$` only at the end) to the syntax of the
//! `regex` crate, whose engines take linear time whatever the pattern.
//!
//! Each construct is either written in a form that means the same, or refused with its
//! place. INVARIANT: nothing is handed through that the two read differently. The silent
//! traps are `[` and `&&` inside a class, `\<`, `\v`, `{` that opens no count, and `a++`.
//!
//! Not exactly the same: `\Z` also takes the last line end into the match.

use super::class::disjoint;
use std::fmt::Write;

/// Why a pattern cannot be used, and the byte where that is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PatternFault {
    pub(super) message: String,
    pub(super) offset: usize,
}

/// Constructs with no equivalent in linear time, or none at all.
const LOOKAROUND: &str = "lookaround is not supported: no engine runs it in linear time; match the neighbours and use `capture`, or chain a second rule";
const BACKREFERENCE: &str = "backreferences are not supported: no engine runs them in linear time; chain a rule that compares with %{TX.1}";
const ATOMIC: &str =
    "atomic groups are not supported: write a plain group `(?:…)`, matching takes linear time anyway";
const POSSESSIVE: &str = "this possessive quantifier changes what matches, which is not supported: write it without the second `+`, matching takes linear time anyway";

/// One member of a class.
enum Member {
    Byte(u8),
    /// A set in the syntax of the `regex` crate; cannot bound a range.
    Set(&'static str),
}

/// A possessive quantifier whose equivalence the next atom decides.
struct Possessive {
    atom: String,
    offset: usize,
}

struct Translator<'a> {
    input: &'a [u8],
    at: usize,
    out: String,
    /// Whether white space is ignored (`x`), for each open group and outside.
    extended: Vec<bool>,
    groups: usize,
    /// The last atom that stands for one byte: what a possessive quantifier may follow.
    atom: Option<String>,
    possessive: Option<Possessive>,
    /// The atom after a possessive quantifier was seen; a quantifier may still follow it.
    follower: Option<(Possessive, String)>,
}

/// The pattern in the syntax of the `regex` crate.
pub(super) fn translate(pattern: &str) -> Result<String, PatternFault> {
    let mut translator = Translator {
        input: pattern.as_bytes(),
        at: 0,
        out: String::with_capacity(pattern.len() + 16),
        extended: vec![false],
        groups: 0,
        atom: None,
        possessive: None,
        follower: None,
    };
    while let Some(byte) = translator.next() {
        translator.token(byte)?;
    }
    // A possessive quantifier that ends the pattern takes what a greedy one takes.
    translator.settle_follower()?;
    Ok(translator.out)
}

impl Translator<'_> {
    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text.as_bytes());
        if found {
            self.at += text.len();
        }
        found
    }

    fn fault<T>(&self, back: usize, message: impl Into<String>) -> Result<T, PatternFault> {
        Err(PatternFault { message: message.into(), offset: self.at.saturating_sub(back) })
    }

    fn is_extended(&self) -> bool {
        self.extended.last().copied().unwrap_or_default()
    }

    /// One token outside of a class; its first byte is read already.
    fn token(&mut self, byte: u8) -> Result<(), PatternFault> {
        match byte {
            b'\\' => self.escape(),
            b'[' => self.class(),
            b'(' => {
                self.not_after_possessive()?;
                self.open()
            }
            b')' | b'|' => {
                self.not_after_possessive()?;
                self.atom = None;
                if byte == b')' {
                    if self.extended.len() == 1 {
                        return self.fault(1, "this `)` closes no group");
                    }
                    self.extended.pop();
                }
                self.out.push(char::from(byte));
                Ok(())
            }
            b'*' | b'+' | b'?' => {
                self.out.push(char::from(byte));
                self.quantified(byte != b'+')
            }
            b'{' => match self.count() {
                Some((text, optional)) => {
                    self.out.push_str(&text);
                    self.quantified(optional)
                }
                None => self.literal(byte),
            },
            b'^' => {
                self.not_after_possessive()?;
                self.assertion("^");
                Ok(())
            }
            b'$' => {
                self.assertion("$");
                Ok(())
            }
            b'.' => self.one_byte(".".to_owned()),
            b'#' if self.is_extended() => {
                while self.next().is_some_and(|byte| byte != b'\n') {}
                Ok(())
            }
            byte if self.is_extended() && (byte.is_ascii_whitespace() || byte == 0x0b) => Ok(()),
            byte => self.literal(byte),
        }
    }

    /// An assertion that no byte is taken by: what a possessive quantifier left stays left.
    fn assertion(&mut self, text: &str) {
        self.atom = None;
        self.possessive = None;
        self.out.push_str(text);
    }

    fn literal(&mut self, byte: u8) -> Result<(), PatternFault> {
        self.one_byte(literal(byte))
    }

    /// An atom that matches exactly one byte.
    fn one_byte(&mut self, text: String) -> Result<(), PatternFault> {
        self.settle_follower()?;
        self.out.push_str(&text);
        if let Some(possessive) = self.possessive.take() {
            self.follower = Some((possessive, text.clone()));
        }
        self.atom = Some(text);
        Ok(())
    }

    /// What follows a possessive quantifier, when it is there for certain, must not start
    /// with a byte that the quantified atom could have given back.
    fn settle_follower(&mut self) -> Result<(), PatternFault> {
        match self.follower.take() {
            Some((possessive, follower)) if !disjoint(&possessive.atom, &follower) => {
                Err(PatternFault { message: POSSESSIVE.to_owned(), offset: possessive.offset })
            }
            _ => Ok(()),
        }
    }

    fn not_after_possessive(&mut self) -> Result<(), PatternFault> {
        self.settle_follower()?;
        match self.possessive.take() {
            Some(possessive) => {
                Err(PatternFault { message: POSSESSIVE.to_owned(), offset: possessive.offset })
            }
            None => Ok(()),
        }
    }

    /// The `?` or `+` that may stand after a quantifier.
    fn quantified(&mut self, optional: bool) -> Result<(), PatternFault> {
        if let Some((possessive, _)) = &self.follower
            && optional
        {
            return Err(PatternFault { message: POSSESSIVE.to_owned(), offset: possessive.offset });
        }
        self.settle_follower()?;
        let atom = self.atom.take();
        match self.peek() {
            Some(b'?') => {
                self.at += 1;
                self.out.push('?');
            }
            Some(b'+') => {
                self.at += 1;
                let Some(atom) = atom else {
                    // After a group: right only where nothing can follow.
                    return if self.rest().is_empty() { Ok(()) } else { self.fault(1, POSSESSIVE) };
                };
                self.possessive = Some(Possessive { atom, offset: self.at - 1 });
            }
            _ => {}
        }
        Ok(())
    }

    /// `{2}`, `{2,}` or `{2,3}` after the brace, and whether the least count is zero.
    fn count(&mut self) -> Option<(String, bool)> {
        let length = self.rest().iter().position(|&byte| byte == b'}')?;
        let inner = std::str::from_utf8(self.rest().get(..length)?).ok()?;
        let (least, most) = inner.split_once(',').map_or((inner, None), |(least, most)| (least, Some(most)));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if least.is_empty() || !digits(least) || !most.is_none_or(digits) {
            return None;
        }
        let text = format!("{{{inner}}}");
        let optional = least.bytes().all(|byte| byte == b'0');
        self.at += length + 1;
        Some((text, optional))
    }

    /// After `(`.
    fn open(&mut self) -> Result<(), PatternFault> {
        self.atom = None;
        if self.peek() == Some(b'*') {
            return self.fault(1, "verbs `(*…)` are not supported");
        }
        let extended = self.is_extended();
        if !self.eat("?") {
            self.groups += 1;
            self.extended.push(extended);
            self.out.push('(');
            return Ok(());
        }
        for (start, message) in [
            ("=", LOOKAROUND),
            ("!", LOOKAROUND),
            ("<=", LOOKAROUND),
            ("<!", LOOKAROUND),
            (">", ATOMIC),
            ("|", "groups that share numbers, `(?|…)`, are not supported: number them apart"),
            ("P=", BACKREFERENCE),
            ("P>", "recursion is not supported"),
            ("&", "recursion is not supported"),
            ("R", "recursion is not supported"),
            ("+", "recursion is not supported"),
            ("(", "conditional groups are not supported: write both branches with `|`"),
            ("C", "callouts are not supported"),
        ] {
            if self.rest().starts_with(start.as_bytes()) {
                return self.fault(2, message);
            }
        }
        if self.eat("#") {
            while self.next().is_some_and(|byte| byte != b')') {}
            return Ok(());
        }
        if self.eat("P<") || self.eat("<") {
            return self.name(b'>');
        }
        if self.eat("'") {
            return self.name(b'\'');
        }
        self.flags()
    }

    fn name(&mut self, end: u8) -> Result<(), PatternFault> {
        let length =
            self.rest().iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let name = String::from_utf8_lossy(self.rest().get(..length).unwrap_or_default()).into_owned();
        self.at += length;
        if self.next() != Some(end) || name.is_empty() {
            return self.fault(1, "this group's name does not end");
        }
        self.groups += 1;
        self.extended.push(self.is_extended());
        let _ = write!(self.out, "(?P<{name}>");
        Ok(())
    }

    /// After `(?`: `i`, `m`, `s`, `x`, `U`, `-` and `:` or `)`. `x` is carried out here.
    fn flags(&mut self) -> Result<(), PatternFault> {
        let (mut on, mut off, mut negative) = (String::new(), String::new(), false);
        let mut extended = self.is_extended();
        loop {
            match self.next() {
                Some(b'-') if !negative => negative = true,
                Some(b'x') => extended = !negative,
                Some(flag @ (b'i' | b'm' | b's' | b'U')) => {
                    if negative { &mut off } else { &mut on }.push(char::from(flag));
                }
                Some(end @ (b':' | b')')) => {
                    let minus = if off.is_empty() { "" } else { "-" };
                    if end == b':' {
                        let _ = write!(self.out, "(?{on}{minus}{off}:");
                        self.extended.push(extended);
                    } else {
                        if !on.is_empty() || !off.is_empty() {
                            let _ = write!(self.out, "(?{on}{minus}{off})");
                        }
                        if let Some(current) = self.extended.last_mut() {
                            *current = extended;
                        }
                    }
                    return Ok(());
                }
                Some(b'0'..=b'9') => return self.fault(1, "recursion is not supported"),
                Some(other) => {
                    let other = char::from(other);
                    return self.fault(1, format!("`{other}` after `(?` is not supported"));
                }
                None => return self.fault(0, "this group does not end"),
            }
        }
    }

    /// After a backslash outside of a class.
    fn escape(&mut self) -> Result<(), PatternFault> {
        let Some(byte) = self.next() else { return self.fault(1, "a backslash ends the pattern") };
        match byte {
            b'd' | b'D' | b'w' | b'W' | b's' | b'S' => self.one_byte(format!("\\{}", char::from(byte))),
            b'b' | b'B' | b'A' => {
                self.not_after_possessive()?;
                self.assertion(&format!("\\{}", char::from(byte)));
                Ok(())
            }
            b'z' => {
                self.settle_follower()?;
                self.assertion("\\z");
                Ok(())
            }
            b'Z' => {
                self.not_after_possessive()?;
                self.assertion("(?:\\n?\\z)");
                Ok(())
            }
            b'v' => self.one_byte(format!("[{VERTICAL}]")),
            b'V' => self.one_byte(format!("[^{VERTICAL}]")),
            b'h' => self.one_byte(format!("[{HORIZONTAL}]")),
            b'H' => self.one_byte(format!("[^{HORIZONTAL}]")),
            b'N' => self.one_byte("[^\\n]".to_owned()),
            b'Q' => self.quoted(),
            b'E' => Ok(()),
            b'1'..=b'9' => self.fault(2, BACKREFERENCE),
            b'g' | b'k' => self.fault(2, BACKREFERENCE),
            b'R' => self.fault(2, "`\\R` is not supported: write `(?:\\r\\n|[\\n\\r])`"),
            b'K' | b'G' | b'X' | b'C' | b'p' | b'P' | b'o' | b'u' | b'U' | b'l' | b'L' => {
                self.fault(2, format!("`\\{}` is not supported", char::from(byte)))
            }
            _ => {
                let value = self.escaped_byte(byte)?;
                self.literal(value)
            }
        }
    }

    /// An escape that stands for one byte, in a class and outside.
    fn escaped_byte(&mut self, byte: u8) -> Result<u8, PatternFault> {
        Ok(match byte {
            b'a' => 0x07,
            b'e' => 0x1b,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'c' => match self.next() {
                Some(letter) if letter.is_ascii() => letter.to_ascii_uppercase() ^ 0x40,
                _ => return self.fault(2, "`\\c` needs an ASCII character"),
            },
            b'x' => return self.hexadecimal(),
            b'0'..=b'7' => {
                let mut value = u32::from(byte - b'0');
                for _ in 0..2 {
                    match self.peek() {
                        Some(digit @ b'0'..=b'7') => value = value * 8 + u32::from(digit - b'0'),
                        _ => break,
                    }
                    self.at += 1;
                }
                match u8::try_from(value) {
                    Ok(value) => value,
                    Err(_) => return self.fault(4, "this octal number is no byte"),
                }
            }
            // A backslash before anything else means that very character.
            other => other,
        })
    }

    /// After `\x`: `{h…}`, or up to two digits.
    fn hexadecimal(&mut self) -> Result<u8, PatternFault> {
        if self.eat("{") {
            let Some(length) = self.rest().iter().position(|&byte| byte == b'}') else {
                return self.fault(3, "this `\\x{` does not end");
            };
            let digits = String::from_utf8_lossy(self.rest().get(..length).unwrap_or_default()).into_owned();
            self.at += length + 1;
            return match u32::from_str_radix(&digits, 16).map(u8::try_from) {
                Ok(Ok(value)) => Ok(value),
                _ => self.fault(
                    length + 4,
                    format!(
                        "`\\x{{{digits}}}` is no byte: write the bytes of its UTF-8 form, `\\xe2\\x80\\x99`"
                    ),
                ),
            };
        }
        let mut value = 0_u8;
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else { break };
            value = (value << 4) | u8::try_from(digit).unwrap_or_default();
            self.at += 1;
        }
        Ok(value)
    }

    /// After `\Q`: literal up to `\E`.
    fn quoted(&mut self) -> Result<(), PatternFault> {
        while !self.rest().is_empty() && !self.eat("\\E") {
            if let Some(byte) = self.next() {
                self.literal(byte)?;
            }
        }
        Ok(())
    }

    /// After `[`.
    fn class(&mut self) -> Result<(), PatternFault> {
        let start = self.at - 1;
        let mut text = String::from("[");
        if self.eat("^") {
            text.push('^');
        }
        let mut first = true;
        loop {
            let Some(byte) = self.next() else {
                return Err(PatternFault { message: "this class does not end".to_owned(), offset: start });
            };
            if byte == b']' && !first {
                break;
            }
            first = false;
            match self.member(byte)? {
                Some(Member::Set(set)) => text.push_str(set),
                Some(Member::Byte(low)) => self.range(low, &mut text)?,
                None => {}
            }
        }
        text.push(']');
        self.one_byte(text)
    }

    /// A byte of a class, and the range that it may open.
    fn range(&mut self, low: u8, text: &mut String) -> Result<(), PatternFault> {
        let _ = write!(text, "\\x{low:02x}");
        if self.peek() != Some(b'-') || matches!(self.rest(), [b'-', b']', ..] | [b'-']) {
            return Ok(());
        }
        self.at += 1;
        let Some(byte) = self.next() else { return Ok(()) };
        match self.member(byte)? {
            Some(Member::Byte(high)) if high >= low => {
                let _ = write!(text, "-\\x{high:02x}");
                Ok(())
            }
            Some(Member::Byte(_)) => self.fault(1, "this range ends before it starts"),
            // `[a-\d]`: the hyphen is a member.
            Some(Member::Set(set)) => {
                let _ = write!(text, "\\x2d{set}");
                Ok(())
            }
            None => {
                text.push_str("\\x2d");
                Ok(())
            }
        }
    }

    /// One member of a class; its first byte is read already. None: `\E` alone.
    fn member(&mut self, byte: u8) -> Result<Option<Member>, PatternFault> {
        if byte == b'[' {
            for &(name, set) in POSIX {
                if self.eat(name) {
                    return Ok(Some(Member::Set(set)));
                }
            }
            if matches!(self.peek(), Some(b'.' | b'=')) || self.is_posix() {
                return self.fault(1, "this class in `[…]` is not known");
            }
            return Ok(Some(Member::Byte(b'[')));
        }
        if byte != b'\\' {
            return Ok(Some(Member::Byte(byte)));
        }
        let Some(escaped) = self.next() else { return self.fault(1, "a backslash ends the pattern") };
        Ok(Some(match escaped {
            b'd' => Member::Set("\\d"),
            b'D' => Member::Set("\\D"),
            b'w' => Member::Set("\\w"),
            b'W' => Member::Set("\\W"),
            b's' => Member::Set("\\s"),
            b'S' => Member::Set("\\S"),
            b'h' => Member::Set(HORIZONTAL),
            b'v' => Member::Set(VERTICAL),
            b'b' => Member::Byte(0x08),
            b'E' => return Ok(None),
            b'B' | b'H' | b'N' | b'Q' | b'R' | b'V' | b'X' | b'p' | b'P' | b'o' => {
                return self.fault(2, format!("`\\{}` in a class is not supported", char::from(escaped)));
            }
            _ => Member::Byte(self.escaped_byte(escaped)?),
        }))
    }

    /// Whether `:name:]` follows.
    fn is_posix(&self) -> bool {
        let Some(rest) = self.rest().strip_prefix(b":") else { return false };
        let name = rest.iter().take_while(|byte| byte.is_ascii_lowercase() || **byte == b'^').count();
        rest.get(name..).is_some_and(|rest| rest.starts_with(b":]"))
    }
}

/// PCRE's vertical and horizontal white space, as members of a class.
const VERTICAL: &str = "\\x0a-\\x0d\\x85";
const HORIZONTAL: &str = "\\x09\\x20\\xa0";

/// Named classes after their `[`, and what they are in a class.
const POSIX: &[(&str, &str)] = &[
    (":alnum:]", "[:alnum:]"),
    (":alpha:]", "[:alpha:]"),
    (":ascii:]", "[:ascii:]"),
    (":blank:]", "[:blank:]"),
    (":cntrl:]", "[:cntrl:]"),
    (":digit:]", "[:digit:]"),
    (":graph:]", "[:graph:]"),
    (":lower:]", "[:lower:]"),
    (":print:]", "[:print:]"),
    (":punct:]", "[:punct:]"),
    (":space:]", "[:space:]"),
    (":upper:]", "[:upper:]"),
    (":word:]", "[:word:]"),
    (":xdigit:]", "[:xdigit:]"),
    (":^alnum:]", "[:^alnum:]"),
    (":^alpha:]", "[:^alpha:]"),
    (":^blank:]", "[:^blank:]"),
    (":^digit:]", "[:^digit:]"),
    (":^space:]", "[:^space:]"),
    (":^word:]", "[:^word:]"),
    (":^xdigit:]", "[:^xdigit:]"),
];

/// A byte as itself.
fn literal(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        b' ' | b'_' | b'/' | b'<' | b'>' | b'=' | b'"' | b'\'' | b',' | b':' | b';' | b'%' | b'@' | b'!'
        | b'`' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    }
}

#[cfg(test)]
mod tests;
