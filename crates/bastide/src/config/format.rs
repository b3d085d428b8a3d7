//! The canonical layout of a configuration file: what `bastide fmt` writes.
//!
//! Layout is `pretty_yaml`'s; what stands here is the proof that nothing but layout
//! changed. The file is read before and after by the reader that the gateway itself uses,
//! and comments, anchors, aliases and tags are compared one by one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use pretty_yaml::config::{FormatOptions, LanguageOptions, LayoutOptions, Quotes};
use yaml_parser::SyntaxKind;

use super::fault::{Fault, Severity};
use super::node::{self, FILE_BYTES_MAX, Node, Value};

/// Characters in a line, where the text lets it be broken.
const WIDTH: usize = 110;
/// How often the layout may be applied until it does not change any more.
const PASSES_MAX: usize = 4;
/// A comment that begins with this leaves what follows as it is.
const IGNORE: &str = "fmt: off";

/// The canonical layout of `text`, which `file` holds. Layout again changes nothing.
///
/// # Errors
/// The text is no YAML that the configuration's reader takes, or its layout cannot be
/// changed without changing what it says.
pub fn format(file: &Path, text: &str) -> Result<String, Fault> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes, the limit is {FILE_BYTES_MAX}", text.len());
        return Err(Fault::whole_file(file, message));
    }
    node::parse(0, text).map_err(|(line, column, message)| Fault {
        severity: Severity::Fault,
        file: file.to_owned(),
        line,
        column,
        message,
        suggestion: None,
        count: 1,
    })?;
    let refused = |why: &str| Fault {
        suggestion: Some("the file is left as it is".to_owned()),
        ..Fault::whole_file(file, why.to_owned())
    };
    let mut formatted = lay_out(text).ok_or_else(|| refused("the formatter cannot lay out this file"))?;
    for _ in 1..PASSES_MAX {
        let again = lay_out(&formatted).ok_or_else(|| refused("the formatter cannot read its own text"))?;
        if again == formatted {
            return prove(text, &formatted).map(|()| formatted).map_err(refused);
        }
        formatted = again;
    }
    Err(refused("the layout does not settle"))
}

/// Shows that `after` says what `before` says.
fn prove(before: &str, after: &str) -> Result<(), &'static str> {
    let parse = |text| node::parse(0, text).map_err(|_| "formatting would break it");
    if !same(&parse(before)?, &parse(after)?) {
        return Err("formatting would change what it means");
    }
    match (marks(before), marks(after)) {
        (Some(before), Some(after)) if before == after => Ok(()),
        _ => Err("formatting would lose a comment or an anchor"),
    }
}

/// One pass. A panic of the library is an answer like any other: this file is not
/// formatted.
fn lay_out(text: &str) -> Option<String> {
    let options = FormatOptions {
        layout: LayoutOptions { print_width: WIDTH, ..LayoutOptions::default() },
        language: LanguageOptions {
            quotes: Quotes::PreferDouble,
            trailing_comma: false,
            bracket_spacing: true,
            ignore_comment_directive: IGNORE.to_owned(),
            ..LanguageOptions::default()
        },
    };
    guarded(|| pretty_yaml::format_text(text, &options).ok())
}

/// Comments, anchors, aliases and tags in their order: what the tree of values does not
/// show, or shows only by what it stands for.
fn marks(text: &str) -> Option<Vec<String>> {
    let listed = |kind| {
        matches!(
            kind,
            SyntaxKind::COMMENT | SyntaxKind::ANCHOR_PROPERTY | SyntaxKind::ALIAS | SyntaxKind::TAG_PROPERTY
        )
    };
    guarded(|| {
        let tree = yaml_parser::parse(text).ok()?;
        let all = tree.descendants_with_tokens().filter(|element| listed(element.kind()));
        Some(all.map(|element| element.to_string().trim_end().to_owned()).collect())
    })
}

fn guarded<T>(run: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok().flatten()
}

/// Whether two trees say the same, wherever they say it.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Nothing, Value::Nothing) | (Value::Broken, Value::Broken) => true,
        (Value::Scalar(one), Value::Scalar(other)) => one.text == other.text,
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Map(one), Value::Map(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|((name, one), (other_name, other))| {
                    name.text == other_name.text && same(one, other)
                })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_layout_may_differ() {
        let text = "a: &x [1, '2'] # c\nb: *x\nc: ${D}\n";
        assert_eq!(prove(text, "a: &x\n  - 1\n  - \"2\" # c\nb: *x\n\nc:   '${D}'\n"), Ok(()));
        for other in [
            "a: &x [1, '3'] # c\nb: *x\nc: ${D}\n",
            "a: &x [1] # c\nb: *x\nc: ${D}\n",
            "a: &x [1, '2'] # c\nc: ${D}\nb: *x\n",
            "a: &x [1, '2'] # c\nb: *x\nc: ${E}\n",
            "a: &x [1, '2']\nb: *x\nc: ${D}\n",
            "a: &x [1, '2'] # d\nb: *x\nc: ${D}\n",
            "a: [1, '2'] # c\nb: [1, '2']\nc: ${D}\n",
            "a: &x [1, '2' # c\nb: *x\nc: ${D}\n",
            "a: &x [1, ~] # c\nb: *x\nc: ${D}\n",
        ] {
            assert!(prove(text, other).is_err(), "{other}");
        }
    }
}
