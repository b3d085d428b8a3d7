//! From the tree to typed values, keeping count of everything that is wrong.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use model::suggestion::nearest;

use super::contracts::Contracts;
use super::fault::{Fault, Severity};
use super::node::{At, Name, Node, Value};
use super::schema::Section;
use super::sources::Sources;
use super::values::{self, Unfit};

/// Most faults that one load reports, and most warnings.
const FINDINGS_MAX: usize = 1_000;
/// Most names that one load compares with unknown ones, to suggest what was meant.
const COMPARED_MAX: usize = 1_000_000;

/// Turns nodes into values. A method that cannot records a fault and gives `None`;
/// the caller goes on, so that one load shows everything that is wrong.
pub(super) struct Decoder<'a> {
    /// Where files come from.
    pub(super) sources: Sources<'a>,
    /// Whether every role and route that was written could be read: only then can
    /// policies be checked against them.
    pub(super) names_known: bool,
    /// Whether everything that is included could be read: only then is what is not there missing.
    pub(super) is_whole: bool,
    /// The keys at the top of the file that could not be read whole. What others miss in them may
    /// be there: the fault is reported already.
    pub(super) in_doubt: Vec<&'static str>,
    /// The documents of APIs that were read.
    pub(super) contracts: Contracts,
    /// The listener that is being read has `tls.acme`, there.
    pub(super) acme_seen: Option<At>,
    /// Where something first needs an identity of this process in the mesh.
    pub(super) mesh_at: Option<At>,
    /// Whether a listener asks for client certificates.
    pub(super) certificates_asked: bool,
    /// Which listeners have `tls.acme`, and where.
    pub(super) acme_at: Vec<(usize, At)>,
    /// The services that listeners are for.
    pub(super) listeners_to: Vec<Node>,
    findings: Vec<(At, Severity, String, Option<String>)>,
    /// How many faults and warnings there are, those included that are too many to be reported.
    faults: usize,
    warnings: usize,
    /// Names that were compared so far.
    compared: usize,
}

/// A map whose keys were checked against a [`Section`].
pub(super) struct Table<'n> {
    /// Where the map begins.
    pub(super) at: At,
    section: &'static Section,
    entries: &'n [(Name, Node)],
}

impl<'n> Table<'n> {
    /// The value of a key, when something was written there.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        debug_assert!(self.section.keys.iter().any(|k| k.name == key), "{}: {key}", self.section.path);
        let found = self.entries.iter().find(|(name, _)| name.text == key);
        found.map(|(_, node)| node)
    }

    /// Whether this key is not there and an unknown one was probably meant to be it: the fault of
    /// that one is enough.
    pub(super) fn is_misspelt(&self, key: &str) -> bool {
        let known = || self.section.keys.iter().map(|key| key.name);
        let is_it = |(name, _): &(Name, Node)| {
            !known().any(|known| known == name.text) && meant(&name.text, known()) == Some(key)
        };
        self.get(key).is_none() && self.entries.iter().any(is_it)
    }

    /// Whether there are keys that the section does not have.
    pub(super) fn has_unknown(&self) -> bool {
        let is_known = |name: &Name| self.section.keys.iter().any(|key| key.name == name.text);
        self.entries.iter().any(|(name, _)| !is_known(name))
    }

    /// Whether none of these keys is there because one of them is misspelt.
    pub(super) fn misspells_one_of(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.is_misspelt(key))
    }

    /// Where a key was written; the map's own place when it was not.
    pub(super) fn key_at(&self, key: &str) -> At {
        self.entries.iter().find(|(name, _)| name.text == key).map_or(self.at, |(name, _)| name.at)
    }
}

/// What other products call a key, and what it is here or stands in: no typing error leads from one to the other.
const ELSEWHERE: [(&str, &str); 23] = [
    ("auth", "authenticate"),
    ("backend", "to"),
    ("cors_origins", "cors"),
    ("grpc", "match"),
    ("host", "match"),
    ("hosts", "match"),
    ("jwks_uri", "jwks"),
    ("jwks_url", "jwks"),
    ("method", "match"),
    ("methods", "match"),
    ("path", "match"),
    ("paths", "match"),
    ("query", "match"),
    ("ratelimit", "limit"),
    ("rate_limit", "limit"),
    ("rate_limits", "limit"),
    ("service", "to"),
    ("strip_path", "strip_prefix"),
    ("target", "to"),
    ("targets", "endpoints"),
    ("upstream", "to"),
    ("url", "endpoints"),
    ("urls", "endpoints"),
];

/// The key that another product's name stands for, where it is one of the known.
fn elsewhere<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let written = written.to_lowercase().replace('-', "_");
    let names = ELSEWHERE.iter().filter(|(theirs, _)| *theirs == written);
    let ours: Vec<&str> = names.map(|(_, ours)| *ours).collect();
    known.into_iter().find(|name| ours.contains(name))
}

/// The known name that a written one was probably meant to be.
fn meant<'k>(written: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> Option<&'k str> {
    elsewhere(written, known.clone()).or_else(|| nearest(written, known))
}

impl<'a> Decoder<'a> {
    pub(super) fn new(sources: Sources<'a>) -> Self {
        Self {
            sources,
            names_known: false,
            is_whole: true,
            in_doubt: Vec::new(),
            contracts: Contracts::default(),
            acme_seen: None,
            mesh_at: None,
            certificates_asked: false,
            acme_at: Vec::new(),
            listeners_to: Vec::new(),
            findings: Vec::new(),
            faults: 0,
            warnings: 0,
            compared: 0,
        }
    }

    fn find(&mut self, at: At, severity: Severity, message: String, suggestion: Option<String>) {
        if self.findings.iter().rev().take(50).any(|(a, _, m, _)| *a == at && *m == message) {
            return;
        }
        // INVARIANT: a fault counts, however many findings there are: without one, the configuration is taken.
        let count = match severity {
            Severity::Fault => &mut self.faults,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= FINDINGS_MAX {
            self.findings.push((at, severity, message, suggestion));
        }
    }

    /// Records a fault.
    pub(super) fn fault(&mut self, at: At, message: impl Into<String>) {
        self.find(at, Severity::Fault, message.into(), None);
    }

    /// Records a fault and what to do about it.
    pub(super) fn advise(&mut self, at: At, message: impl Into<String>, suggestion: impl Into<String>) {
        self.find(at, Severity::Fault, message.into(), Some(suggestion.into()));
    }

    /// Records a warning and what to do about it.
    pub(super) fn warn(&mut self, at: At, message: impl Into<String>, suggestion: impl Into<String>) {
        self.find(at, Severity::Warning, message.into(), Some(suggestion.into()));
    }

    /// Records `unknown <what> "<written>"`, with the nearest known name.
    pub(super) fn unknown<'k>(
        &mut self,
        at: At,
        what: &str,
        written: &str,
        known: impl IntoIterator<Item = &'k str> + Clone,
    ) {
        let message = format!("unknown {what} {written:?}");
        self.compared = self.compared.saturating_add(known.clone().into_iter().count());
        if self.faults >= FINDINGS_MAX || self.compared > COMPARED_MAX {
            return self.find(at, Severity::Fault, message, None);
        }
        let near = meant(written, known.clone()).map(|name| format!("did you mean {name:?}?"));
        let all: Vec<&str> = known.into_iter().take(13).collect();
        let listed = match all.len() {
            0 => Some("none are configured".to_owned()),
            1..=12 => Some(format!("known: {}", all.join(", "))),
            _ => None,
        };
        self.find(at, Severity::Fault, message, near.or(listed));
    }

    /// The same for a value, which is shown as it was written.
    pub(super) fn unknown_value<'k>(
        &mut self,
        node: &Node,
        what: &str,
        known: impl IntoIterator<Item = &'k str> + Clone,
    ) {
        match node.text() {
            Some(text) if !node.expanded() => self.unknown(node.at, what, text, known),
            _ => self.fault(node.at, format!("unknown {what} {}", node.shown())),
        }
    }

    /// Everything that was found, by file and line; whether all names are known.
    pub(super) fn into_findings(self) -> (Vec<Fault>, bool, Sources<'a>) {
        let mut findings = self.findings;
        findings.sort_by_key(|(at, ..)| *at);
        let sources = self.sources;
        let named = findings.into_iter().map(|(at, severity, message, suggestion)| Fault {
            severity,
            file: sources.name(at.file),
            line: at.line,
            column: at.column,
            message,
            suggestion,
            count: 1,
        });
        let mut named: Vec<Fault> = named.collect();
        let further =
            [(self.faults, Severity::Fault, "faults"), (self.warnings, Severity::Warning, "warnings")];
        for (count, severity, what) in further {
            if let Some(further) = count.checked_sub(FINDINGS_MAX).filter(|further| *further > 0) {
                let message = format!("{further} further {what} are not listed");
                let whole_file = Fault::whole_file(&sources.name(0), message);
                named.push(Fault { severity, count: further, ..whole_file });
            }
        }
        (named, self.names_known, sources)
    }

    /// How many faults were recorded so far.
    pub(super) fn count(&self) -> usize {
        self.faults
    }

    /// Whether any fault was recorded.
    pub(super) fn faulty(&self) -> bool {
        self.faults > 0
    }

    /// Decodes a key at the top, and notes that it could not be read whole where it is misspelt or has faults.
    pub(super) fn doubting<T>(
        &mut self,
        top: &Table<'_>,
        key: &'static str,
        decode: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let before = self.count();
        let decoded = decode(self);
        if self.count() > before || top.is_misspelt(key) {
            self.in_doubt.push(key);
        }
        decoded
    }

    /// Whether what is missed under one of these keys may only not have been readable.
    pub(super) fn doubts(&self, keys: &[&str]) -> bool {
        !self.is_whole || keys.iter().any(|key| self.in_doubt.contains(key))
    }

    /// `file:line` of a place, for faults that speak of two places.
    pub(super) fn place(&self, at: At) -> String {
        format!("{}:{}", self.sources.name(at.file).display(), at.line)
    }

    /// `file:line:column` of a place.
    pub(super) fn position(&self, at: At) -> String {
        format!("{}:{}", self.place(at), at.column)
    }

    /// A map with the keys of `section`; unknown and duplicate keys are recorded.
    pub(super) fn table<'n>(&mut self, node: &'n Node, section: &'static Section) -> Option<Table<'n>> {
        let Value::Map(entries) = &node.value else {
            self.expected(node, &format!("a map ({})", section.path));
            return None;
        };
        self.no_duplicates(entries);
        for (name, _) in entries {
            if !section.keys.iter().any(|key| key.name == name.text) {
                let what = if section.path.is_empty() {
                    "key".to_owned()
                } else {
                    format!("key of {}", section.path)
                };
                self.unknown(name.at, &what, &name.text, section.keys.iter().map(|key| key.name));
            }
        }
        Some(Table { at: node.at, section, entries })
    }

    /// A map whose keys are the user's names; duplicates are recorded.
    pub(super) fn named<'n>(&mut self, node: &'n Node, what: &str) -> &'n [(Name, Node)] {
        match &node.value {
            Value::Map(entries) => {
                self.no_duplicates(entries);
                entries
            }
            Value::Nothing => &[],
            _ => {
                self.expected(node, what);
                &[]
            }
        }
    }

    fn no_duplicates(&mut self, entries: &[(Name, Node)]) {
        let mut seen: HashMap<&str, At> = HashMap::with_capacity(entries.len());
        for (name, _) in entries {
            if let Some(first) = seen.get(name.text.as_str()) {
                let first = self.place(*first);
                self.advise(name.at, format!("duplicate key {:?}", name.text), format!("first at {first}"));
            } else {
                seen.insert(&name.text, name.at);
            }
        }
    }

    /// The value of a key that must be there.
    pub(super) fn required<'n>(&mut self, table: &Table<'n>, key: &str) -> Option<&'n Node> {
        let node = table.get(key).filter(|node| !matches!(node.value, Value::Nothing));
        // It may stand in a file that could not be included.
        let is_elsewhere = table.section.path.is_empty() && !self.is_whole;
        if node.is_none() && !table.is_misspelt(key) && !is_elsewhere {
            let place = if table.section.path.is_empty() { "the file" } else { table.section.path };
            let kind = table.section.keys.iter().find(|k| k.name == key).map_or("", |k| k.kind);
            self.advise(table.key_at(key), format!("{place} needs {key:?}"), format!("{key}: {kind}"));
        }
        node
    }

    /// Records `expected …, found …`.
    pub(super) fn expected(&mut self, node: &Node, what: &str) {
        if !matches!(node.value, Value::Broken) {
            self.fault(node.at, format!("expected {what}, found {}", node.shown()));
        }
    }

    /// A scalar as it stands.
    pub(super) fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        let text = node.text();
        if text.is_none() {
            self.expected(node, "a text");
        }
        text
    }

    /// A scalar read by `read`.
    pub(super) fn value<T>(&mut self, node: &Node, read: impl FnOnce(&str) -> Result<T, Unfit>) -> Option<T> {
        let text = self.text(node)?;
        match read(text) {
            Ok(value) => Some(value),
            Err(unfit) => {
                let message = format!("expected {}, found {}", unfit.expected, node.shown());
                // A suggestion is made from the text, so it could show what was expanded.
                match unfit.instead.filter(|_| !node.expanded()) {
                    Some(instead) => self.advise(node.at, message, format!("write {instead:?}")),
                    None => self.fault(node.at, message),
                }
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match node.text() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => {
                let instead = match other.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" | "1" => Some("true"),
                    "no" | "off" | "n" | "false" | "0" => Some("false"),
                    _ => None,
                };
                let message = format!("expected true or false, found {}", node.shown());
                match instead {
                    Some(instead) => self.advise(node.at, message, format!("write {instead}")),
                    None => self.fault(node.at, message),
                }
                None
            }
            None => {
                self.expected(node, "true or false");
                None
            }
        }
    }

    /// A whole number from `least` to `most`.
    pub(super) fn number<T>(&mut self, node: &Node, least: T, most: T) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let number = node.text().and_then(|text| text.parse::<T>().ok());
        let fits = number.filter(|number| *number >= least && *number <= most);
        if fits.is_none() {
            self.expected(node, &format!("a whole number from {least} to {most}"));
        }
        fits
    }

    /// A duration of at least `least`.
    pub(super) fn duration(&mut self, node: &Node, least: Duration) -> Option<Duration> {
        let duration = self.value(node, values::duration)?;
        if duration < least {
            self.expected(node, &format!("a duration of at least {}ms", least.as_millis()));
            return None;
        }
        Some(duration)
    }

    /// A path, joined with the folder of the file that it is written in.
    pub(super) fn path(&mut self, node: &Node) -> Option<PathBuf> {
        let text = self.text(node)?;
        if text.is_empty() || text.contains('\0') {
            self.expected(node, "a path");
            return None;
        }
        Some(self.sources.beside(node.at.file, text))
    }

    /// Whether a short form that is a path or a name is a word for on or off, which nobody calls a
    /// file. Then that is recorded, with what to write for `on` or for `off`.
    pub(super) fn is_switch(&mut self, node: &Node, what: &str, on: &str, off: &str) -> bool {
        let text = node.text().unwrap_or_default().to_ascii_lowercase();
        let advice = match text.as_str() {
            "on" | "true" | "yes" => on,
            "off" | "false" | "no" | "none" | "null" => off,
            _ => return false,
        };
        self.advise(node.at, format!("expected {what}, found {}", node.shown()), advice);
        true
    }

    /// A path whose file can be read; its bytes come too.
    pub(super) fn file(&mut self, node: &Node, bytes_max: usize) -> Option<(PathBuf, Vec<u8>)> {
        let path = self.path(node)?;
        match self.sources.read(&path, bytes_max) {
            Ok(bytes) => Some((path, bytes)),
            Err(reason) => {
                self.fault(node.at, reason);
                None
            }
        }
    }

    /// A map with the keys of `section`, or nothing at all.
    pub(super) fn optional_table<'n>(
        &mut self,
        node: &'n Node,
        section: &'static Section,
    ) -> Option<Table<'n>> {
        if matches!(node.value, Value::Nothing) { None } else { self.table(node, section) }
    }

    /// One or several texts.
    pub(super) fn texts(&mut self, node: &Node) -> Vec<String> {
        self.values(node, |text| Ok(text.to_owned()))
    }

    /// One or several scalars, each read by `read`.
    pub(super) fn values<T>(&mut self, node: &Node, read: impl Fn(&str) -> Result<T, Unfit>) -> Vec<T> {
        let mut list = Vec::new();
        for item in node.items() {
            list.extend(self.value(item, &read));
        }
        list
    }

    /// One of a closed set of words.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        self.unknown_value(node, what, words.iter().map(|(word, _)| *word));
        None
    }

    /// A `danger_` switch. Setting it is a warning.
    pub(super) fn danger(&mut self, table: &Table<'_>, key: &str, what: &str) -> bool {
        let set = table.get(key).and_then(|node| self.boolean(node)).unwrap_or(false);
        if set {
            self.warn(table.key_at(key), format!("{key}: {what}"), "remove it when you can");
        }
        set
    }
}
