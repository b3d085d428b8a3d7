//! `policies:` and `policy:`: the Cedar texts and what they may read.

use policy::Source;

use super::decoder::Decoder;
use super::node::{Node, Value};
use super::schema::{Section, key};
use super::values;

/// Cedar policies and what they may read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// The texts, by file, sorted by name.
    pub sources: Vec<Source>,
    /// Request headers that policies may read, lower case.
    pub headers: Vec<String>,
    /// Whether some could not be read; only before a fault is reported.
    pub(super) faulty: bool,
}

pub(super) const POLICIES: Section = Section {
    path: "policies",
    about: "The Cedar policies.",
    short: "a path or glob, or a list of these: `policies: policies/*.cedar`",
    keys: &[key("inline", "Cedar text", "", "The policies themselves.")],
};

pub(super) const POLICY: Section = Section {
    path: "policy",
    about: "What policies may read in addition to what they always can.",
    short: "",
    keys: &[key(
        "headers",
        "list of header names",
        "none",
        "Request headers that policies may read as `context.headers.NAME`. Clients control their values.",
    )],
};

/// Largest policy file, in bytes.
const SOURCE_BYTES_MAX: usize = 4 << 20;

impl Decoder<'_> {
    /// `policies:` and `policy:`
    pub(super) fn policies(&mut self, policies: Option<&Node>, policy: Option<&Node>) -> Policies {
        let mut found = Policies::default();
        let before = self.count();
        for item in policies.map_or(&[][..], Node::items) {
            if matches!(item.value, Value::Map(_)) {
                let Some(table) = self.table(item, &POLICIES) else { continue };
                let Some(node) = self.required(&table, "inline") else { continue };
                let name = format!("{} (inline policies)", self.place(node.at));
                found.sources.extend(self.text(node).map(|text| Source { name, text: text.to_owned() }));
            } else {
                self.policy_files(item, &mut found.sources);
            }
        }
        found.faulty = self.count() > before;
        found.sources.sort_by(|a, b| a.name.cmp(&b.name));
        found.sources.dedup_by(|a, b| a.name == b.name);
        let table = policy.and_then(|node| self.table(node, &POLICY));
        if let Some(node) = table.and_then(|table| table.get("headers")) {
            found.headers = self.values(node, values::header_name);
            found.headers.sort();
            found.headers.dedup();
        }
        found
    }

    fn policy_files(&mut self, node: &Node, sources: &mut Vec<Source>) {
        let Some(pattern) = self.path(node) else { return };
        let paths = match self.sources.glob(&pattern) {
            Ok(paths) if paths.is_empty() => {
                return self.fault(node.at, format!("{} matches no file", node.shown()));
            }
            Ok(paths) => paths,
            Err(reason) => return self.fault(node.at, reason),
        };
        for path in paths {
            let text = self.sources.read(&path, SOURCE_BYTES_MAX).and_then(|bytes| {
                String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))
            });
            match text {
                Ok(text) => sources.push(Source { name: path.display().to_string(), text }),
                Err(reason) => self.fault(node.at, reason),
            }
        }
    }
}
