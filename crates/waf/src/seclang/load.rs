//! Files to a rule set: includes are followed, and nothing is kept when anything is at fault.

use super::{
    directive::Include,
    fault::{Fault, Place},
    lexer::Text,
    rules::Builder,
};
use crate::sources::{SourceFault, Sources, resolve};

/// How deep includes may lie in each other.
pub(crate) const INCLUDE_DEPTH_MAX: usize = 16;
/// Most rule files of one rule set.
pub(crate) const FILES_MAX: usize = 1_000;

/// Reads `entries` and everything that they include.
pub(crate) fn read<'s>(sources: &'s dyn Sources, entries: &[&str]) -> Builder<'s> {
    let mut builder = Builder::new(sources);
    for entry in entries {
        let place = Place { file: (*entry).into(), line: 1, column: 1 };
        let include = Include { pattern: (*entry).to_owned(), optional: false };
        follow(&mut builder, &include, "", &place, 0);
    }
    if builder.names.overflow {
        let message = format!("more than {} names of TX variables", crate::rule::TX_NAMES_MAX);
        let place = Place { file: entries.first().copied().unwrap_or_default().into(), line: 1, column: 1 };
        builder.faults.push(Fault { place, message, suggestion: None });
    }
    builder
}

fn follow(builder: &mut Builder<'_>, include: &Include, from: &str, place: &Place, depth: usize) {
    let fault = |message| Fault { place: place.clone(), message, suggestion: None };
    if depth > INCLUDE_DEPTH_MAX {
        return builder
            .faults
            .push(fault(format!("files include each other more than {INCLUDE_DEPTH_MAX} deep")));
    }
    let paths = match paths(builder.sources, include, from) {
        Ok(paths) if paths.is_empty() && !include.optional => {
            return builder.faults.push(fault(format!("no file matches \"{}\"", include.pattern)));
        }
        Ok(paths) => paths,
        Err(_) if include.optional => return,
        Err(SourceFault(message)) => {
            return builder.faults.push(fault(format!("\"{}\": {message}", include.pattern)));
        }
    };
    for path in paths {
        builder.files += 1;
        if builder.files > FILES_MAX {
            return builder.faults.push(fault(format!("more than {FILES_MAX} rule files")));
        }
        match builder.sources.read(&path) {
            Ok(bytes) => file(builder, &path, bytes, depth),
            Err(SourceFault(message)) if include.optional => {
                builder.note(place.clone(), format!("{path}: {message}"))
            }
            Err(SourceFault(message)) => builder.faults.push(fault(format!("{path}: {message}"))),
        }
    }
}

fn paths(sources: &dyn Sources, include: &Include, from: &str) -> Result<Vec<String>, SourceFault> {
    if include.pattern.contains(['*', '?', '[']) {
        return sources.glob(&include.pattern, from);
    }
    Ok(vec![resolve(from, &include.pattern)])
}

fn file(builder: &mut Builder<'_>, path: &str, bytes: Vec<u8>, depth: usize) {
    let text = match Text::new(path, bytes) {
        Ok(text) => text,
        Err(fault) => return builder.faults.push(fault),
    };
    for statement in text.statements() {
        match statement {
            Ok(statement) => {
                if let Some(include) = builder.directive(&text, &statement) {
                    let place = text.place(statement.name.offset(0));
                    follow(builder, &include, path, &place, depth + 1);
                }
            }
            Err(fault) => builder.faults.push(fault),
        }
    }
    builder.close_chain();
}
