//! Texts with macros: `Matched %{MATCHED_VAR} in %{tx.area}`.

use crate::{rule::Names, variable::Variable};

/// A text that may hold macros, taken apart at load.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Template {
    /// In order; no two literals follow each other.
    pub(crate) parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(Vec<u8>),
    /// A `TX` variable by its slot.
    Tx(u16),
    /// Any other variable; the name is lower case.
    Macro(Variable, Option<Vec<u8>>),
}

/// A macro that names no variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownMacro {
    /// The name as written.
    pub(crate) name: String,
    /// Where `%{` begins, in bytes.
    pub(crate) at: usize,
}

impl Template {
    /// Takes `text` apart. A `%{` that is not closed, or that does not begin with a
    /// letter, is text.
    pub(crate) fn parse(text: &str, names: &mut Names) -> Result<Self, UnknownMacro> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        let mut at = 0;
        while let Some(begin) = rest.find("%{") {
            let (before, from) = rest.split_at(begin);
            let inside = from.get(2..).unwrap_or_default();
            let Some((inner, after)) = inside.split_once('}').filter(|(inner, _)| is_macro(inner)) else {
                literal.extend_from_slice(before.as_bytes());
                literal.extend_from_slice(b"%{");
                rest = inside;
                at += begin + 2;
                continue;
            };
            literal.extend_from_slice(before.as_bytes());
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part(inner, names).ok_or(UnknownMacro { name: inner.to_owned(), at: at + begin })?);
            at += begin + 3 + inner.len();
            rest = after;
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }

    /// The text where it holds no macro.
    pub(crate) fn literal(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Variables that it reads.
    pub(crate) fn variables(&self) -> impl Iterator<Item = Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Macro(variable, _) => Some(*variable),
            Part::Tx(_) | Part::Literal(_) => None,
        })
    }
}

fn is_macro(inner: &str) -> bool {
    inner.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && inner
            .bytes()
            .take_while(|byte| !b".:".contains(byte))
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn part(inner: &str, names: &mut Names) -> Option<Part> {
    let (variable, name) = match inner.split_once(['.', ':']) {
        Some((variable, name)) => (variable, Some(name)),
        None => (inner, None),
    };
    let variable = Variable::from_name(variable)?;
    Some(match name {
        Some(name) if variable == Variable::Tx => Part::Tx(names.slot(name)),
        name => Part::Macro(variable, name.map(|name| name.to_ascii_lowercase().into_bytes())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<Part> {
        Template::parse(text, &mut Names::default()).unwrap().parts
    }

    #[test]
    fn macros_and_text_come_apart() {
        assert_eq!(
            parse("a %{MATCHED_VAR}b%{args.Q}"),
            [
                Part::Literal(b"a ".to_vec()),
                Part::Macro(Variable::MatchedVar, None),
                Part::Literal(b"b".to_vec()),
                Part::Macro(Variable::Args, Some(b"q".to_vec())),
            ]
        );
        assert_eq!(parse("%{tx.1}"), [Part::Tx(1)]);
        assert_eq!(parse("plain"), [Part::Literal(b"plain".to_vec())]);
        assert_eq!(parse(""), []);
    }

    #[test]
    fn what_only_looks_like_a_macro_is_text() {
        for text in ["%{", "50%{ x }", "%{1,3}", "a%{b c}", "%{tx"] {
            assert_eq!(parse(text), [Part::Literal(text.as_bytes().to_vec())], "{text}");
        }
    }

    #[test]
    fn an_unknown_variable_is_named_with_its_place() {
        let fault = Template::parse("ab %{tx.a} %{NO_SUCH.x}", &mut Names::default()).unwrap_err();
        assert_eq!((fault.name.as_str(), fault.at), ("NO_SUCH.x", 11));
    }
}
