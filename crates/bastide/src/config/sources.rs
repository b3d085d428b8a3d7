//! Reading: files, includes, globs and `${…}`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use globset::Glob;

use super::decoder::Decoder;
use super::files::Files;
use super::matching::is_method;
use super::node::{self, At, FILE_BYTES_MAX, Name, Node, Scalar, Value};

/// Largest file that `${file:…}` takes in, in bytes.
const VALUE_FILE_BYTES_MAX: usize = 1 << 20;
/// Most configuration files.
const INCLUDES_MAX: usize = 1_000;
/// Most files that one glob may match.
const MATCHES_MAX: usize = 10_000;

/// What may be merged when several files say it: maps entry by entry, lists one after
/// the other. Everything else said twice is a fault.
const MERGED: &[&str] = &[
    "listen",
    "authentication",
    "authentication.issuers",
    "authentication.audience",
    "authentication.claims",
    "roles",
    "realms",
    "mesh",
    "mesh.services",
    "mesh.workloads",
    "mesh.federates",
    "services",
    "routes",
    "policies",
    "policy",
    "policy.headers",
    "limits",
    "addresses",
    "addresses.allow",
    "addresses.deny",
];

/// Where text comes from, and a record of everything that was looked at.
pub(super) struct Sources<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    files: &'a dyn Files,
    /// Files by number.
    names: Vec<PathBuf>,
    /// Those of them that are configuration files.
    documents: Vec<PathBuf>,
    looked_at: BTreeSet<PathBuf>,
    globs: BTreeSet<PathBuf>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(environment: &'a dyn Fn(&str) -> Option<String>, files: &'a dyn Files) -> Self {
        Self {
            environment,
            files,
            names: Vec::new(),
            documents: Vec::new(),
            looked_at: BTreeSet::new(),
            globs: BTreeSet::new(),
        }
    }

    /// The name of the file with this number.
    pub(super) fn name(&self, file: u32) -> PathBuf {
        self.names.get(file as usize).cloned().unwrap_or_default()
    }

    /// The number under which faults of another file than YAML stand.
    pub(super) fn number(&mut self, path: &Path) -> u32 {
        let known = self.names.iter().position(|name| name == path);
        let number = known.unwrap_or_else(|| {
            self.names.push(path.to_owned());
            self.names.len() - 1
        });
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// `text` as a path seen from the folder of the file with this number.
    pub(super) fn beside(&self, file: u32, text: &str) -> PathBuf {
        let name = self.names.get(file as usize);
        tidy(&name.and_then(|path| path.parent()).unwrap_or(Path::new("")).join(text))
    }

    /// The configuration files: the main one and those that it includes.
    pub(super) fn documents(&self) -> Vec<PathBuf> {
        self.documents.clone()
    }

    /// All files and globs that were looked at.
    pub(super) fn into_looked_at(self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        (self.looked_at.into_iter().collect(), self.globs.into_iter().collect())
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// A sentence for the fault.
    pub(super) fn read(&mut self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        self.read_called(path, &path.display(), bytes_max)
    }

    /// A file's bytes, where the fault calls it `name`.
    fn read_called(
        &mut self,
        path: &Path,
        name: &dyn fmt::Display,
        bytes_max: usize,
    ) -> Result<Vec<u8>, String> {
        self.looked_at.insert(path.to_owned());
        let unread = |error| format!("cannot read {name}: {error}");
        let bytes = self.files.read(path, bytes_max).map_err(unread)?;
        if bytes.len() > bytes_max {
            return Err(format!("{name} has more than {bytes_max} bytes, the limit"));
        }
        Ok(bytes)
    }

    /// Whether there is such a file.
    pub(super) fn exists(&mut self, path: &Path) -> bool {
        self.looked_at.insert(path.to_owned());
        self.files.read(path, 0).is_ok()
    }

    /// Whether everybody on this machine may read the file.
    pub(super) fn world_readable(&self, path: &Path) -> bool {
        self.files.world_readable(path)
    }

    /// The files that a glob names, see [`matching`].
    ///
    /// # Errors
    /// A sentence for the fault.
    pub(super) fn glob(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        self.globs.insert(pattern.to_owned());
        matching(self.files, pattern)
    }
}

/// The files that a glob names, sorted. `*`, `?`, `[…]` and `{…}` within one path
/// segment; names that begin with a dot only when the pattern does.
///
/// # Errors
/// A sentence for the fault.
pub(crate) fn matching(files: &dyn Files, pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let part = component.as_os_str().to_string_lossy();
        if !part.contains(['*', '?', '[', '{']) {
            for path in &mut found {
                path.push(component);
            }
            continue;
        }
        if part.contains("**") {
            return Err("** is not supported here (name each folder)".to_owned());
        }
        let glob = Glob::new(&part).map_err(|error| format!("{part:?} is not a pattern: {error}"))?;
        let matcher = glob.compile_matcher();
        let mut next = Vec::new();
        for folder in &found {
            for name in files.list(folder_or_here(folder)).unwrap_or_default() {
                let hidden = name.to_string_lossy().starts_with('.') && !part.starts_with('.');
                if !hidden && matcher.is_match(&name) {
                    next.push(folder.join(name));
                }
            }
            if next.len() > MATCHES_MAX {
                return Err(format!("{} matches more than {MATCHES_MAX} files", pattern.display()));
            }
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

fn folder_or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// `a/./b/../c` is `a/c`.
pub(super) fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidied.components().next_back(), Some(Component::Normal(_))) => {
                tidied.pop();
            }
            other => tidied.push(other),
        }
    }
    tidied
}

impl Decoder<'_> {
    /// The main file with everything that it includes.
    pub(super) fn document(&mut self, main: &Path) -> Option<Node> {
        // Faults name it: `.` too.
        let main =
            Some(tidy(main)).filter(|tidied| !tidied.as_os_str().is_empty()).unwrap_or(main.to_owned());
        self.sources.names.push(main.clone());
        let mut whole = Node { at: At { file: 0, line: 1, column: 1 }, value: Value::Map(Vec::new()) };
        let read = self.include(0, &main, &mut whole, &mut vec![main.clone()]);
        read.then_some(whole)
    }

    /// Reads one file and merges it, and what it includes, into `whole`.
    fn include(&mut self, file: u32, path: &Path, whole: &mut Node, within: &mut Vec<PathBuf>) -> bool {
        let Some(node) = self.read_document(file, path) else { return false };
        let at = node.at;
        let entries = match node.value {
            Value::Map(entries) => entries,
            Value::Nothing => {
                self.fault(At { file, line: 1, column: 1 }, "the file holds no configuration");
                return false;
            }
            _ => {
                self.fault(at, format!("expected a map of settings, found {}", node.kind()));
                return false;
            }
        };
        let (includes, rest): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(name, _)| name.text == "include");
        self.merge("", whole, Node { at, value: Value::Map(rest) });
        for (_, node) in includes {
            for item in node.items() {
                let before = self.count();
                self.include_pattern(item, whole, within);
                self.is_whole &= self.count() == before;
            }
        }
        true
    }

    fn include_pattern(&mut self, item: &Node, whole: &mut Node, within: &mut Vec<PathBuf>) {
        let Some(pattern) = self.path(item) else { return };
        let paths = match self.sources.glob(&pattern) {
            Ok(paths) if paths.is_empty() => {
                return self.fault(item.at, format!("include {} matches no file", item.shown()));
            }
            Ok(paths) => paths,
            Err(reason) => return self.fault(item.at, reason),
        };
        for path in paths {
            if within.contains(&path) {
                self.fault(item.at, format!("{} is included by itself", path.display()));
                continue;
            }
            if self.sources.names.contains(&path) {
                self.fault(item.at, format!("{} is included twice", path.display()));
                continue;
            }
            if self.sources.names.len() >= INCLUDES_MAX {
                return self.fault(item.at, format!("more than {INCLUDES_MAX} files"));
            }
            // The file must be there before it has a number: a missing file is a fault
            // of the line that names it.
            if let Err(reason) = self.sources.read(&path, FILE_BYTES_MAX) {
                self.fault(item.at, reason);
                continue;
            }
            let file = u32::try_from(self.sources.names.len()).unwrap_or(u32::MAX);
            self.sources.names.push(path.clone());
            within.push(path.clone());
            self.include(file, &path, whole, within);
            within.pop();
        }
    }

    fn read_document(&mut self, file: u32, path: &Path) -> Option<Node> {
        self.sources.documents.push(path.to_owned());
        // The fault stands behind the file's name.
        let bytes = match self.sources.read_called(path, &"it", FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(reason) => {
                self.fault(At { file, line: 0, column: 0 }, reason);
                return None;
            }
        };
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let text = String::from_utf8_lossy(before);
                let line = u32::try_from(text.matches('\n').count()).unwrap_or(0) + 1;
                let column = text.rsplit('\n').next().map_or(0, |last| last.chars().count());
                let column = u32::try_from(column).unwrap_or(0) + 1;
                self.fault(At { file, line, column }, "the file is not UTF-8");
                return None;
            }
        };
        match node::parse(file, text) {
            Ok(mut node) => {
                self.match_at_commas(&mut node);
                self.expand(&mut node);
                Some(node)
            }
            Err((line, column, message)) => {
                self.fault(At { file, line, column }, message);
                None
            }
        }
    }

    /// `{ match: GET,POST /x, to: orders }` without quotes: YAML ends a text at a comma within braces, and
    /// takes what follows for keys. One fault, and no other about the parts.
    fn match_at_commas(&mut self, node: &mut Node) {
        let entries = match &mut node.value {
            Value::Map(entries) => entries,
            Value::List(items) => return items.iter_mut().for_each(|item| self.match_at_commas(item)),
            _ => return,
        };
        let cut = entries.iter().position(|(name, node)| name.text == "match" && node.text().is_some());
        if let Some(cut) = cut {
            let is_part =
                |name: &str| name.contains('/') || name.split_whitespace().next().is_some_and(is_method);
            let rest =
                |(name, node): &&(Name, Node)| matches!(node.value, Value::Nothing) && is_part(&name.text);
            let parts: Vec<String> =
                entries.iter().skip(cut + 1).take_while(rest).map(|(name, _)| name.text.clone()).collect();
            if !parts.is_empty()
                && let Some((_, node)) = entries.get_mut(cut)
            {
                let whole =
                    [node.text().unwrap_or_default()].into_iter().chain(parts.iter().map(String::as_str));
                let whole = whole.collect::<Vec<_>>().join(",");
                let message = format!("a text without quotes ends at a comma here, after {}", node.shown());
                self.advise(node.at, message, format!("write match: {whole:?}"));
                node.value = Value::Broken;
                entries.drain(cut + 1..=cut + parts.len());
            }
        }
        entries.iter_mut().for_each(|(_, node)| self.match_at_commas(node));
    }

    /// Merges `new` into `old`, which stands at `path`.
    fn merge(&mut self, path: &str, old: &mut Node, new: Node) {
        if matches!(old.value, Value::Scalar(_)) {
            let single = Node { at: old.at, value: std::mem::replace(&mut old.value, Value::Nothing) };
            old.value = Value::List(vec![single]);
        }
        match (&mut old.value, new.value) {
            (Value::Map(entries), Value::Map(more)) => {
                if entries.is_empty() {
                    old.at = new.at;
                }
                for (name, node) in more {
                    self.merge_entry(path, entries, name, node);
                }
            }
            (Value::List(items), Value::List(more)) => items.extend(more),
            (Value::List(items), other @ Value::Scalar(_)) => items.push(Node { at: new.at, value: other }),
            _ => {
                let first = self.place(old.at);
                self.advise(
                    new.at,
                    format!("{path} is set twice, in ways that cannot be joined"),
                    format!("first at {first}"),
                );
            }
        }
    }

    fn merge_entry(&mut self, path: &str, entries: &mut Vec<(Name, Node)>, name: Name, node: Node) {
        let place = if path.is_empty() { name.text.clone() } else { format!("{path}.{}", name.text) };
        // Within one file a second key is a duplicate, which the decoder reports.
        let known = entries.iter_mut().find(|(n, _)| n.text == name.text && n.at.file != name.at.file);
        match known {
            Some((_, old)) if MERGED.contains(&place.as_str()) => self.merge(&place, old, node),
            _ => entries.push((name, node)),
        }
    }

    /// Expands `${…}` in all texts below `node`.
    fn expand(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Nothing | Value::Broken => {}
            Value::Scalar(scalar) => {
                if scalar.text.contains("${") && !self.expand_scalar(node.at, scalar) {
                    node.value = Value::Broken;
                }
            }
            Value::List(items) => {
                for item in items {
                    self.expand(item);
                }
            }
            Value::Map(entries) => {
                for (_, value) in entries {
                    self.expand(value);
                }
            }
        }
    }

    /// Whether everything in it could be expanded; what could not is recorded.
    fn expand_scalar(&mut self, at: At, scalar: &mut Scalar) -> bool {
        let mut whole = true;
        let mut text = String::new();
        let mut rest = scalar.text.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            // `$${` is a literal `${`.
            if let Some(before) = before.strip_suffix('$') {
                text.push_str(before);
                text.push_str("${");
                rest = after;
                continue;
            }
            text.push_str(before);
            let Some((inside, after)) = after.split_once('}') else {
                self.advise(at, "${ without }", "write $${ for a literal ${");
                return false;
            };
            rest = after;
            match self.reference(at, inside) {
                Some(value) => text.push_str(&value),
                None => whole = false,
            }
        }
        text.push_str(rest);
        scalar.written = Some(std::mem::replace(&mut scalar.text, text));
        whole
    }

    /// What `${inside}` stands for.
    fn reference(&mut self, at: At, inside: &str) -> Option<String> {
        if let Some(path) = inside.strip_prefix("file:") {
            let path = self.sources.beside(at.file, path.trim());
            let read = self.sources.read(&path, VALUE_FILE_BYTES_MAX);
            let text = read.and_then(|bytes| {
                String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))
            });
            return match text {
                Ok(mut text) => {
                    if self.sources.world_readable(&path) {
                        let message = format!("{} can be read by everybody on this machine", path.display());
                        self.warn(at, message, "chmod 600");
                    }
                    if text.ends_with('\n') {
                        text.pop();
                    }
                    Some(text)
                }
                Err(reason) => {
                    self.fault(at, reason);
                    None
                }
            };
        }
        let fits = !inside.starts_with(|c: char| c.is_ascii_digit())
            && !inside.is_empty()
            && inside.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !fits {
            self.advise(
                at,
                format!(
                    "{:?} is neither the name of an environment variable nor file:path",
                    format!("${{{inside}}}")
                ),
                "write $${ for a literal ${",
            );
            return None;
        }
        let value = (self.sources.environment)(inside);
        if value.is_none() {
            self.advise(at, format!("environment variable {inside:?} is not set"), "set it before the start");
        }
        value
    }
}
