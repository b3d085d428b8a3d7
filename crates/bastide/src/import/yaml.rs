//! Writes YAML. Layout is left to the formatter; what counts here is that every text
//! means itself.

use std::fmt::Write as _;

/// A value to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Yaml {
    /// A text, quoted where it has to be.
    Text(String),
    /// A text of several lines.
    Block(String),
    /// `true` or `false`.
    Flag(bool),
    /// A list.
    List(Vec<Yaml>),
    /// A map in this order.
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A list of texts.
    pub(super) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(|text| Self::Text(text.into())).collect())
    }

    /// In one line; [`Yaml::Block`] has no such form and becomes a quoted text.
    pub(super) fn flow(&self) -> String {
        match self {
            Self::Text(text) | Self::Block(text) => quoted(text),
            Self::Flag(flag) => flag.to_string(),
            Self::List(items) => {
                format!("[ {} ]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", "))
            }
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| format!("{}: {}", quoted(key), value.flow()));
                format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// What follows `key:` in a block map that is indented by `depth`.
    pub(super) fn after_key(&self, out: &mut String, depth: usize) {
        let indent = " ".repeat(depth + 2);
        match self {
            Self::Block(text) => {
                out.push_str(" |\n");
                for line in text.trim_end().lines() {
                    let _ = writeln!(out, "{indent}{line}");
                }
            }
            Self::List(items) if items.iter().any(Self::is_large) => {
                out.push('\n');
                for item in items {
                    let _ = writeln!(out, "{indent}- {}", item.flow());
                }
            }
            other => {
                let _ = writeln!(out, " {}", other.flow());
            }
        }
    }

    fn is_large(&self) -> bool {
        matches!(self, Self::Map(_))
    }
}

/// A plain scalar where that can mean nothing else; else in double quotes, whose escapes
/// JSON and YAML share.
pub(super) fn quoted(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_./*- ".contains(c);
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_');
    // A colon before a space would end a key.
    let colons = if text.contains(' ') { text.to_owned() } else { text.replace(':', "") };
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if begins_well && !word && colons.chars().all(safe) && !text.ends_with([':', ' ']) {
        return text.to_owned();
    }
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_mean_themselves() {
        for text in [
            "a",
            "a b",
            "",
            "true",
            "*.x",
            "a: b",
            "a #b",
            "\u{e9}\n",
            "-x",
            "{a}",
            "1.20",
            "http://a:1/",
            "a:",
            "'",
            "\"",
        ] {
            let document = format!("k: {}\nl: [ {} ]\n", quoted(text), quoted(text));
            let node = crate::config::node::parse(0, &document).unwrap();
            let crate::config::node::Value::Map(entries) = &node.value else { panic!("{document}") };
            assert_eq!(entries[0].1.text(), Some(text), "{document}");
            assert_eq!(entries[1].1.items()[0].text(), Some(text), "{document}");
        }
    }
}
