//! A word's inside: targets, operator, actions, each piece with its place in the word.

use std::ops::Range;

/// `!ARGS:name`, `&TX:/x/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawTarget {
    pub(crate) negated: bool,
    pub(crate) count: bool,
    pub(crate) name: Piece,
    pub(crate) selector: Option<Piece>,
    /// The selector stood between slashes.
    pub(crate) pattern: bool,
}

/// `@rx ^a`, `!@eq 0`, or an implicit `@rx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawOperator {
    pub(crate) negated: bool,
    pub(crate) name: Piece,
    pub(crate) argument: Piece,
}

/// `name` or `name:value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawAction {
    pub(crate) name: Piece,
    pub(crate) value: Option<Piece>,
}

/// A text and where it begins in its word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) at: usize,
}

/// What is wrong with a word, at which byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) at: usize,
    pub(crate) message: &'static str,
}

const fn wrong(at: usize, message: &'static str) -> Wrong {
    Wrong { at, message }
}

/// A reader over a word.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn slice(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    /// Up to the first byte that `ends`.
    fn until(&mut self, ends: impl Fn(u8) -> bool) -> Piece {
        let begin = self.at;
        while self.peek().is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
        Piece { text: self.slice(begin..self.at).to_owned(), at: begin }
    }

    /// A text in single quotes; the cursor stands on the opening one. `\'` and `\\` lose
    /// their backslash, any other backslash stays.
    fn quoted(&mut self) -> Result<Piece, Wrong> {
        let open = self.at;
        self.at += 1;
        let begin = self.at;
        let mut text = String::new();
        let mut copied = begin;
        loop {
            match self.peek() {
                None => return Err(wrong(open, "this ' is never closed")),
                Some(b'\'') => {
                    text.push_str(self.slice(copied..self.at));
                    self.at += 1;
                    return Ok(Piece { text, at: begin });
                }
                Some(b'\\') if matches!(self.text.as_bytes().get(self.at + 1), Some(b'\'' | b'\\')) => {
                    text.push_str(self.slice(copied..self.at));
                    copied = self.at + 1;
                    self.at += 2;
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// A pattern between slashes; the cursor stands on the opening one. It ends at a slash
    /// that is followed by the end or by what parts targets; `\/` loses its backslash.
    fn pattern(&mut self, ends: impl Fn(u8) -> bool) -> Result<Piece, Wrong> {
        let open = self.at;
        self.at += 1;
        let begin = self.at;
        let mut text = String::new();
        let mut copied = begin;
        loop {
            match self.peek() {
                None => return Err(wrong(open, "this / is never closed")),
                Some(b'/') if self.text.as_bytes().get(self.at + 1).is_none_or(|next| ends(*next)) => {
                    text.push_str(self.slice(copied..self.at));
                    self.at += 1;
                    return Ok(Piece { text, at: begin });
                }
                Some(b'\\') if self.text.as_bytes().get(self.at + 1) == Some(&b'/') => {
                    text.push_str(self.slice(copied..self.at));
                    copied = self.at + 1;
                    self.at += 2;
                }
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
    }
}

fn parts_targets(byte: u8) -> bool {
    matches!(byte, b'|' | b',')
}

/// `A|!B:c|&D:/e/`.
pub(crate) fn targets(text: &str) -> Result<Vec<RawTarget>, Wrong> {
    let mut cursor = Cursor { text, at: 0 };
    let mut targets = Vec::new();
    loop {
        cursor.skip_spaces();
        targets.push(target(&mut cursor)?);
        cursor.skip_spaces();
        match cursor.peek() {
            None => return Ok(targets),
            Some(byte) if parts_targets(byte) => cursor.at += 1,
            Some(_) => return Err(wrong(cursor.at, "expected | between targets")),
        }
    }
}

fn target(cursor: &mut Cursor<'_>) -> Result<RawTarget, Wrong> {
    let negated = cursor.take(b'!');
    let count = cursor.take(b'&');
    let name = cursor.until(|byte| byte == b':' || parts_targets(byte) || byte.is_ascii_whitespace());
    if name.text.is_empty() {
        return Err(wrong(name.at, "expected a variable"));
    }
    if negated && count {
        return Err(wrong(name.at, "a target is either taken out (!) or counted (&), not both"));
    }
    if !cursor.take(b':') {
        return Ok(RawTarget { negated, count, name, selector: None, pattern: false });
    }
    let (selector, pattern) = selector(cursor, name.text.eq_ignore_ascii_case("XML"))?;
    if selector.text.is_empty() {
        return Err(wrong(selector.at, "expected a name or a /pattern/ after the colon"));
    }
    Ok(RawTarget { negated, count, name, selector: Some(selector), pattern })
}

/// XPath begins with a slash too, so `XML:/*` is no pattern.
fn selector(cursor: &mut Cursor<'_>, xpath: bool) -> Result<(Piece, bool), Wrong> {
    match cursor.peek() {
        Some(b'\'') => {
            let piece = cursor.quoted()?;
            let inner = piece.text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
            Ok(match inner.filter(|_| !xpath) {
                Some(inner) => (Piece { text: inner.to_owned(), at: piece.at + 1 }, true),
                None => (piece, false),
            })
        }
        Some(b'/') if !xpath => Ok((cursor.pattern(parts_targets)?, true)),
        _ => {
            let mut piece = cursor.until(parts_targets);
            piece.text.truncate(piece.text.trim_end().len());
            Ok((piece, false))
        }
    }
}

/// `!@name argument`, or an implicit `@rx`.
pub(crate) fn operator(text: &str) -> RawOperator {
    let mut cursor = Cursor { text, at: 0 };
    cursor.skip_spaces();
    let negated = cursor.take(b'!');
    if negated {
        cursor.skip_spaces();
    }
    if !cursor.take(b'@') {
        let argument = Piece { text: cursor.slice(cursor.at..text.len()).to_owned(), at: cursor.at };
        return RawOperator { negated, name: Piece { text: "rx".to_owned(), at: cursor.at }, argument };
    }
    let name = cursor.until(|byte| byte.is_ascii_whitespace());
    cursor.skip_spaces();
    let argument = Piece { text: cursor.slice(cursor.at..text.len()).to_owned(), at: cursor.at };
    RawOperator { negated, name, argument }
}

/// `id:1,phase:2,msg:'a, b'`.
pub(crate) fn actions(text: &str) -> Result<Vec<RawAction>, Wrong> {
    let mut cursor = Cursor { text, at: 0 };
    let mut actions = Vec::new();
    loop {
        cursor.skip_spaces();
        while cursor.take(b',') {
            cursor.skip_spaces();
        }
        if cursor.peek().is_none() {
            return Ok(actions);
        }
        actions.push(action(&mut cursor)?);
        cursor.skip_spaces();
        match cursor.peek() {
            None | Some(b',') => {}
            Some(_) => return Err(wrong(cursor.at, "expected a comma between actions")),
        }
    }
}

fn action(cursor: &mut Cursor<'_>) -> Result<RawAction, Wrong> {
    let name = cursor.until(|byte| byte == b':' || byte == b',' || byte.is_ascii_whitespace());
    if name.text.is_empty() {
        return Err(wrong(name.at, "expected an action"));
    }
    cursor.skip_spaces();
    if !cursor.take(b':') {
        return Ok(RawAction { name, value: None });
    }
    cursor.skip_spaces();
    if cursor.peek() == Some(b'\'') {
        return Ok(RawAction { name, value: Some(cursor.quoted()?) });
    }
    // `setvar:tx.a='b, c'` and `ctl:ruleRemoveTargetById=1;ARGS:'x'` quote inside the value.
    let begin = cursor.at;
    let mut text = String::new();
    loop {
        let piece = cursor.until(|byte| byte == b',' || byte == b'\'');
        text.push_str(&piece.text);
        if cursor.peek() == Some(b'\'') && text.ends_with('=') {
            text.push_str(&cursor.quoted()?.text);
        } else if cursor.take(b'\'') {
            text.push('\'');
        } else {
            break;
        }
    }
    text.truncate(text.trim_end().len());
    Ok(RawAction { name, value: Some(Piece { text, at: begin }) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> Vec<String> {
        targets(text)
            .unwrap()
            .into_iter()
            .map(|target| {
                let RawTarget { negated, count, name, selector, pattern } = target;
                let mark = if negated {
                    "!"
                } else if count {
                    "&"
                } else {
                    ""
                };
                let selector = selector.map(|piece| {
                    if pattern { format!(" /{}/", piece.text) } else { format!(" {}", piece.text) }
                });
                format!("{mark}{}{}", name.text, selector.unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn targets_come_apart() {
        assert_eq!(
            show("ARGS|!ARGS:a b|&TX:/^M|x/|REQUEST_COOKIES:'/a|b/'|XML:/*|XML://@*|ARGS:json.x"),
            ["ARGS", "!ARGS a b", "&TX /^M|x/", "REQUEST_COOKIES /a|b/", "XML /*", "XML //@*", "ARGS json.x"]
        );
        assert_eq!(show("ARGS,ARGS_NAMES"), ["ARGS", "ARGS_NAMES"]);
        assert_eq!(show(r"ARGS:/a\/b/"), ["ARGS /a/b/"]);
    }

    #[test]
    fn broken_targets_are_told_with_their_place() {
        for (text, at) in
            [("ARGS|", 5), ("|A", 0), ("A:", 2), ("A:/x", 2), ("A:'x", 2), ("!&A", 2), ("A B", 2)]
        {
            assert_eq!(targets(text).unwrap_err().at, at, "{text}");
        }
    }

    #[test]
    fn operators_come_apart() {
        let raw = operator("!@eq 0");
        assert!(raw.negated && raw.name.text == "eq" && raw.argument.text == "0" && raw.argument.at == 5);
        let raw = operator("^a b");
        assert!(!raw.negated && raw.name.text == "rx" && raw.argument.text == "^a b");
        let raw = operator("@detectSQLi");
        assert!(raw.name.text == "detectSQLi" && raw.argument.text.is_empty());
        assert!(operator("!^a").negated);
    }

    fn acts(text: &str) -> Vec<(String, Option<String>)> {
        actions(text)
            .unwrap()
            .into_iter()
            .map(|raw| (raw.name.text, raw.value.map(|value| value.text)))
            .collect()
    }

    #[test]
    fn actions_come_apart() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            acts(r"id:1,  phase:2 , msg:'it\'s, a \d',log,setvar:tx.a=+1,setvar:'tx.b=%{x}',t:none"),
            [
                ("id".to_owned(), some("1")),
                ("phase".to_owned(), some("2")),
                ("msg".to_owned(), some(r"it's, a \d")),
                ("log".to_owned(), None),
                ("setvar".to_owned(), some("tx.a=+1")),
                ("setvar".to_owned(), some("tx.b=%{x}")),
                ("t".to_owned(), some("none")),
            ]
        );
        assert_eq!(
            acts("setvar:tx.a='b, c',log"),
            [("setvar".to_owned(), some("tx.a=b, c")), ("log".to_owned(), None)]
        );
        assert_eq!(acts("deny,"), [("deny".to_owned(), None)]);
    }

    #[test]
    fn broken_actions_are_told_with_their_place() {
        for (text, at) in [("id:1 phase:2,x", usize::MAX), ("msg:'a", 4), ("msg:'a' b", 8), (":x", 0)] {
            match actions(text) {
                Err(wrong) => assert_eq!(wrong.at, at, "{text}"),
                // An unquoted value goes on to the comma; reading the number refuses it.
                Ok(_) => assert_eq!(at, usize::MAX, "{text}"),
            }
        }
    }
}
