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
    (line, column, said(cause))
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
