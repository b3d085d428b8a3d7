//! What stands after an operator's name, and the files that it may name.

use super::{OperatorFault, Value};
use crate::sources::{Sources, resolve};
use std::rc::Rc;

/// An argument with what is needed to make sense of it.
pub(super) struct Argument<'a> {
    pub(super) text: &'a str,
    pub(super) has_macros: bool,
    pub(super) sources: &'a dyn Sources,
    pub(super) from: &'a str,
}

/// A line of a file of phrases or networks.
pub(super) struct Line {
    pub(super) path: Rc<str>,
    /// From 1.
    pub(super) number: usize,
    /// Without the white space at its ends; never empty.
    pub(super) text: Vec<u8>,
}

impl Argument<'_> {
    /// Makes sense of a plain argument now and leaves one with macros for later.
    pub(super) fn known<T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, OperatorFault>,
    ) -> Result<Value<T>, OperatorFault> {
        if self.has_macros { Ok(Value::Expanded) } else { parse(self.text).map(Value::Known) }
    }

    /// Refuses macros where the argument is compiled at load.
    pub(super) fn no_macros(&self) -> Result<(), OperatorFault> {
        if self.has_macros {
            let message =
                "macros `%{…}` are not expanded here: this argument is compiled when the rules are loaded";
            let offset = self.text.find("%{").unwrap_or_default();
            return Err(OperatorFault::Argument { message: message.to_owned(), offset });
        }
        Ok(())
    }

    /// The whole file at `path`, as seen from the rule file, and its resolved path.
    pub(super) fn read(&self, path: &str) -> Result<(String, Vec<u8>), OperatorFault> {
        if path.contains("://") {
            let message = "lists are not fetched while rules load: download the file and name it".to_owned();
            return Err(OperatorFault::File { path: path.to_owned(), message });
        }
        let path = resolve(self.from, path);
        match self.sources.read(&path) {
            Ok(bytes) => Ok((path, bytes)),
            Err(fault) => Err(OperatorFault::File { path, message: fault.to_string() }),
        }
    }

    /// The lines of all files that the argument names, without comments.
    pub(super) fn lines(&self) -> Result<Vec<Line>, OperatorFault> {
        let mut lines = Vec::new();
        let mut paths = self.text.split_whitespace().peekable();
        if paths.peek().is_none() {
            let message = "the path of a file is needed".to_owned();
            return Err(OperatorFault::Argument { message, offset: 0 });
        }
        for path in paths {
            let (path, bytes) = self.read(path)?;
            let path: Rc<str> = path.into();
            for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
                let text = line.trim_ascii();
                if !text.is_empty() && !text.starts_with(b"#") {
                    lines.push(Line { path: path.clone(), number: at + 1, text: text.to_vec() });
                }
            }
        }
        Ok(lines)
    }
}
