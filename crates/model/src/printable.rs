//! Text of strangers on a terminal: the paths that clients ask for, the names in their
//! certificates, what stores and upstreams say. Nobody of them may move the cursor, begin a line
//! of their own, or turn the direction of what stands beside it.

use std::borrow::Cow;

/// Whether a terminal, or who reads there, would take the character for more than itself: control
/// characters (C0, DEL, C1), line and paragraph separators, and what changes the direction of text.
pub const fn is_control(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// The text in one line, everything else in it as `\u{1b}`.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false, |character, out| out.extend(character.escape_unicode()))
}

/// The same of a text of several lines, with tabs.
pub fn lines(text: &str) -> Cow<'_, str> {
    let stays = |character| matches!(character, '\n' | '\t');
    escape(text, stays, |character, out| out.extend(character.escape_unicode()))
}

/// The same of a JSON text, which says what it said. Such characters stand in its strings alone,
/// line ends and tabs aside.
pub fn json(text: &str) -> Cow<'_, str> {
    use std::fmt::Write as _;
    let stays = |character| matches!(character, '\n' | '\r' | '\t');
    escape(text, stays, |character, out| {
        let _ = write!(out, "\\u{:04x}", u32::from(character));
    })
}

fn escape(text: &str, stays: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(|character| is_control(character) && !stays(character)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_control(character) && !stays(character) {
            write(character, &mut out);
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each kind, and what it becomes.
    const KINDS: [(&str, &str, &str); 11] = [
        ("\u{1b}[31m", "\\u{1b}[31m", "\\u001b[31m"),
        ("\u{7}", "\\u{7}", "\\u0007"),
        ("\u{0}", "\\u{0}", "\\u0000"),
        ("\u{7f}", "\\u{7f}", "\\u007f"),
        ("\u{9b}2J", "\\u{9b}2J", "\\u009b2J"),
        ("\u{85}", "\\u{85}", "\\u0085"),
        ("\u{202e}", "\\u{202e}", "\\u202e"),
        ("\u{2069}", "\\u{2069}", "\\u2069"),
        ("\u{61c}\u{200f}", "\\u{61c}\\u{200f}", "\\u061c\\u200f"),
        ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}", "\\u2028\\u2029"),
        ("é ß ° 漢 👩‍🚀 \u{200b} עברית", "é ß ° 漢 👩‍🚀 \u{200b} עברית", "é ß ° 漢 👩‍🚀 \u{200b} עברית"),
    ];

    #[test]
    fn nothing_moves_the_cursor_or_turns_the_text() {
        for (text, plain, in_json) in KINDS {
            let text = format!("a{text}b");
            assert_eq!(line(&text), format!("a{plain}b"), "{text:?}");
            assert_eq!(lines(&text), format!("a{plain}b"), "{text:?}");
            assert_eq!(json(&text), format!("a{in_json}b"), "{text:?}");
        }
        for character in (0..=0x10_ffff).filter_map(char::from_u32) {
            assert!(!character.is_control() || is_control(character), "{character:?}");
        }
    }

    #[test]
    fn line_ends_are_left_where_lines_are_meant() {
        assert_eq!(line("a\r\nb\tc"), "a\\u{d}\\u{a}b\\u{9}c");
        assert_eq!(lines("a\r\nb\tc"), "a\\u{d}\nb\tc");
        assert_eq!(json("{\r\n\t\"a\": 1\n}"), "{\r\n\t\"a\": 1\n}");
        assert!(matches!(line("as it stands"), Cow::Borrowed(_)));
    }
}
