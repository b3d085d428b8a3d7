//! What is wrong with a text that is not YAML, in words for those who wrote it.

use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, Location};

/// Line and column from 1, and what is wrong there.
pub fn syntax_fault(error: &Error, text: &str) -> (u32, u32, String) {
    let (line, column) = error.location().map_or((1, 1), place);
    let (line, column) = (line.max(1), column.max(1));
    let cause = cause(error);
    if let Error::Budget { breach: BudgetBreach::Documents { .. }, .. } = cause {
        let line = second_document(text).unwrap_or(line);
        return (
            line,
            1,
            "a second document begins here (---), and one is read: put it into a file of its own".into(),
        );
    }
    if let Some((line, column)) = tab(text, line).filter(|_| is_of_the_scanner(cause)) {
        return (line, column, "a tab cannot indent a line: use spaces".to_owned());
    }
    if let Some((column, message)) = unquoted(text, line, column).filter(|_| is_of_the_scanner(cause)) {
        return (line, column, message);
    }
    if let Some((column, message)) = bracketed(text, line).filter(|_| takes_no_list(cause)) {
        return (line, column, message);
    }
    (line, column, explained(said(cause), text, line, column))
}

/// Whether a list stands where there can be none.
fn takes_no_list(cause: &Error) -> bool {
    is_of_the_scanner(cause)
        || matches!(cause, Error::Unexpected { expected: "string scalar" | "string", .. })
}

/// The longest text of an IPv6 address: with one of IPv4 at its end.
const IPV6_CHARS_MAX: usize = 45;

/// An IPv6 address in brackets, which begin a list, and what stands around it. Its column, and what to do.
fn bracketed(text: &str, line: u32) -> Option<(u32, String)> {
    const ENDS: [char; 7] = [',', '{', '}', '[', ']', '"', '\''];
    let written: Vec<char> = line_of(text, line)?.chars().collect();
    let is_within = |sign: &&char| !sign.is_whitespace() && !ENDS.contains(sign);
    for (open, _) in written.iter().enumerate().filter(|(_, sign)| **sign == '[') {
        let (before, behind) = written.split_at_checked(open)?;
        let address: String =
            behind.iter().skip(1).take(IPV6_CHARS_MAX + 1).take_while(|sign| **sign != ']').collect();
        let rest = behind.get(address.chars().count() + 2..);
        let (Ok(_), Some(rest)) = (address.parse::<std::net::Ipv6Addr>(), rest) else { continue };
        let start = open - before.iter().rev().take_while(is_within).count();
        let is_quoted =
            start.checked_sub(1).and_then(|at| written.get(at)).is_some_and(|sign| "\"'".contains(*sign));
        let before: String = before.iter().skip(start).collect();
        let rest: String = rest.iter().take_while(is_within).collect();
        if !is_quoted && !rest.is_empty() {
            let column = u32::try_from(start + 1).ok()?;
            return Some((
                column,
                format!("an address in brackets has to be quoted here: \"{before}[{address}]{rest}\""),
            ));
        }
    }
    None
}

/// The error itself, without where an alias led to it.
fn cause(error: &Error) -> &Error {
    match error.without_snippet() {
        Error::AliasError { error, .. } => cause(error),
        other => other,
    }
}

fn said(cause: &Error) -> String {
    let own = match cause {
        Error::NullIntoString { .. } => {
            "a key is missing before the colon, or it is null: a text is expected (quote it where null is the name)"
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            "an alias (*NAME) stands within what it repeats (&NAME)"
        }
        Error::UnknownAnchor { .. } => {
            "an alias (*NAME) repeats what no anchor (&NAME) before it names (quote a text that begins with *)"
        }
        Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "aliases (*NAME) repeat more than is read",
        Error::DuplicateMappingKey { key: Some(key), .. } => return format!("key {key:?} stands here twice"),
        Error::DuplicateMappingKey { key: None, .. } => "a key stands here twice",
        Error::Budget { breach: BudgetBreach::Depth { depth }, .. } => {
            return format!("lists and maps are nested deeper than {} here", depth.saturating_sub(1));
        }
        Error::Budget { .. } => "the text holds more than is read",
        Error::UnexpectedContainerEndWhileReadingKeyNode { .. }
        | Error::Unexpected { expected: "string scalar" | "string", .. } => {
            "a list or a map stands where a text is expected"
        }
        _ => "",
    };
    if !own.is_empty() {
        return own.to_owned();
    }
    let text = cause.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.lines().next().filter(|line| !line.is_empty()).unwrap_or("this is not YAML").to_owned()
}

/// Longest text that is shown, characters.
const SHOWN_MAX: usize = 80;

/// A text with braces that has to be quoted: the parser could not go on at the brace that begins
/// within it, or behind the one that ends within it. Its column, and what to do.
fn unquoted(text: &str, line: u32, column: u32) -> Option<(u32, String)> {
    let written: Vec<char> = line_of(text, line)?.chars().collect();
    let at = usize::try_from(column).ok()?.checked_sub(1)?;
    let is = |place: usize, sign: char| written.get(place) == Some(&sign);
    let is_text = |place: usize| {
        let within = |sign: &char| !sign.is_whitespace() && !"[]{},\"'".contains(*sign);
        written.get(place).is_some_and(within)
    };
    let before = at.checked_sub(1)?;
    if !(is(at, '{') && is_text(before) || is(before, '}') && is_text(at)) {
        return None;
    }
    let is_blank = |place: usize| written.get(place).is_none_or(|sign| sign.is_whitespace());
    let ends_what_is_before = |place: &usize| {
        is(*place, ',')
            || is(*place, '[')
            || (is_blank(place + 1) && [':', '{', '-'].iter().any(|sign| is(*place, *sign)))
    };
    let start = (0..before).rev().find(ends_what_is_before).map_or(0, |place| place + 1);
    let (mut found, mut open) = (String::new(), 0_usize);
    for (place, sign) in written.iter().enumerate().skip(start) {
        match sign {
            ',' | ']' => break,
            '#' if is_blank(place.saturating_sub(1)) => break,
            '{' => open += 1,
            '}' if open == 0 => break,
            '}' => open -= 1,
            _ => {}
        }
        found.push(*sign);
    }
    let indented = found.chars().take_while(|sign| sign.is_whitespace()).count();
    let found = found.trim();
    if found.is_empty() || found.contains(['"', '\'']) {
        return None;
    }
    let shown: String = found.chars().take(SHOWN_MAX).collect();
    let dots = if shown.len() < found.len() { "…" } else { "" };
    let column = u32::try_from(start + indented + 1).ok()?;
    Some((column, format!("a text with braces has to be quoted here: \"{shown}{dots}\"")))
}

/// What the parser said, in the words of somebody who wrote a text and not an indicator.
fn explained(said: String, text: &str, line: u32, column: u32) -> String {
    let sign = said.strip_prefix("unexpected character: `").and_then(|rest| rest.strip_suffix('\''));
    if let Some(sign) = sign {
        return format!("no text begins with {sign}: quote it");
    }
    if said.starts_with("mapping values are not allowed") {
        let before = usize::try_from(column).unwrap_or(0).saturating_sub(1);
        let before: String = line_of(text, line).unwrap_or_default().chars().take(before).collect();
        return match before.contains(": ") {
            true => "a second colon and blank on one line: quote the text in which it stands".to_owned(),
            false => "no key is expected here: indent it as those that it stands beside".to_owned(),
        };
    }
    said
}

fn line_of(text: &str, line: u32) -> Option<&str> {
    text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)
}

/// Whether the text could not even be taken apart.
fn is_of_the_scanner(cause: &Error) -> bool {
    matches!(
        cause,
        Error::Message { .. }
            | Error::ExternalMessage { .. }
            | Error::IndentationError { .. }
            | Error::ContainerEndMismatch { .. }
    )
}

/// The tab that indents a line, that line or the one after it.
fn tab(text: &str, line: u32) -> Option<(u32, u32)> {
    let before = usize::try_from(line).ok()?.saturating_sub(1);
    let mut near = text.lines().enumerate().skip(before).take(2);
    near.find_map(|(number, line)| {
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        let column = line.get(..indentation)?.find('\t')?;
        Some((u32::try_from(number + 1).ok()?, u32::try_from(column + 1).ok()?))
    })
}

/// The line on which a second document begins.
fn second_document(text: &str) -> Option<u32> {
    let is_marker = |line: &str| line == "---" || line.starts_with("--- ") || line.starts_with("---\t");
    let content = |line: &str| !(line.trim().is_empty() || line.starts_with(['#', '%']));
    let mut begun = false;
    for (number, line) in text.lines().enumerate() {
        if is_marker(line) && begun {
            return u32::try_from(number + 1).ok();
        }
        begun |= is_marker(line) || content(line);
    }
    None
}

fn place(location: Location) -> (u32, u32) {
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    (number(location.line()), number(location.column()))
}
