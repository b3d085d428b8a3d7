//! `mesh.workloads`: which processes are known; and what the administration registers besides, held
//! against the same rules.

use mesh::Settings;
use mesh::workload::{Conditions, WORKLOADS_MAX, Workload};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agents;
use crate::config::decoder::Decoder;
use crate::config::node::{Name, Node};
use crate::config::schema::{Section, key};
use crate::config::values::{self, Unfit};

pub(in crate::config) const WORKLOAD: Section = Section {
    path: "mesh.workloads.NAME",
    about: "Which processes are this workload, by what the kernel says of them. At least one condition; all that are given have to hold; if one has several values, any of them is enough.",
    short: "",
    keys: &[
        key("id", "path such as /ns/shop/orders", "the workload's name", "Its path in the trust domain."),
        key(
            "hint",
            "text",
            "the workload's name",
            "What distinguishes it if one process has several identities.",
        ),
        key("uid", "number, or list of these", "any", "The user that it runs as."),
        key("gid", "number, or list of these", "any", "The group that it runs as."),
        key("path", "absolute path, or list of these", "any", "Its executable."),
        key("sha256", "64 hexadecimal digits, or list of these", "any", "The SHA-256 of its executable."),
        key("unit", "unit name, or list of these", "any", "Its unit of the system's systemd."),
        key("container", "64 hexadecimal digits, or list of these", "any", "The id of its container."),
        key(
            "node",
            "node name, or list of these",
            "on the machine of this process",
            "Where it runs, if that is a node with an agent: as its join token named it, `x509/NAME` or `kubernetes/NAME`.",
        ),
    ],
};

/// The keys of a workload that say who is it.
const CONDITIONS: [&str; 6] = ["uid", "gid", "path", "sha256", "unit", "container"];

/// Most values of one condition that the administration is told.
const VALUES_MAX: usize = 256;

type Read = fn(&str) -> Result<String, Unfit>;

fn digest(text: &str) -> Result<String, Unfit> {
    let lower = text.to_ascii_lowercase();
    let fits = lower.len() == 64 && lower.bytes().all(|byte| byte.is_ascii_hexdigit());
    let expected = "64 hexadecimal digits";
    if fits { Ok(lower) } else { Err(Unfit { expected, instead: None }) }
}

fn number(text: &str) -> Result<u32, Unfit> {
    text.parse().map_err(|_| Unfit { expected: "the number of a user or group", instead: None })
}

fn executable(text: &str) -> Result<String, Unfit> {
    let expected = "the absolute path of an executable";
    let fits = text.starts_with('/') && !text.contains('\0');
    if fits { Ok(text.to_owned()) } else { Err(Unfit { expected, instead: None }) }
}

fn unit(text: &str) -> Result<String, Unfit> {
    let fits = text.ends_with(".service") || text.ends_with(".scope");
    let instead = (!text.contains('.')).then(|| format!("{text}.service"));
    if fits { Ok(text.to_owned()) } else { Err(Unfit { expected: "a unit such as orders.service", instead }) }
}

/// Which processes are a workload, as the administration is told. At least one condition; all that
/// are given have to hold, of several values of one any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWorkload {
    /// Its path in the trust domain, or its SPIFFE ID. Absent: the one that it has, else its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub id: Option<String>,
    /// What distinguishes it if one process has several identities. Absent: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub hint: Option<String>,
    /// The users that it may run as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uid: Vec<u32>,
    /// The groups that it may run as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gid: Vec<u32>,
    /// Its executable: absolute paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// The SHA-256 of its executable, hexadecimal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sha256: Vec<String>,
    /// Its unit of the system's systemd.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unit: Vec<String>,
    /// The id of its container, hexadecimal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container: Vec<String>,
    /// The nodes where it runs. None: beside the control plane.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node: Vec<String>,
}

impl NewWorkload {
    /// What a workload was registered with.
    pub fn of(workload: &Workload) -> Self {
        let Conditions { uid, gid, path, sha256, unit, container } = workload.conditions.clone();
        Self {
            id: Some(workload.id.as_str().to_owned()),
            hint: Some(workload.hint.clone()),
            uid,
            gid,
            path,
            sha256,
            unit,
            container,
            node: workload.nodes.clone(),
        }
    }
}

fn few<T>(part: &str, list: &[T]) -> Result<(), String> {
    match list.len() {
        0..=VALUES_MAX => Ok(()),
        more => Err(format!("{part}: {more} values, at most {VALUES_MAX} can be registered")),
    }
}

/// The workload of this name that the administration is to register.
///
/// # Errors
/// What is wrong with which part of it.
pub fn registered(name: &str, given: NewWorkload, settings: &Settings) -> Result<Workload, String> {
    let one = |part: &str, text: &str, read: Read| {
        read(text).map_err(|Unfit { expected, .. }| format!("{part}: expected {expected}, found {text:?}"))
    };
    let each = |part: &str, list: &[String], read: Read| {
        few(part, list)?;
        list.iter().map(|text| one(part, text, read)).collect::<Result<Vec<_>, _>>()
    };
    few("uid", &given.uid)?;
    few("gid", &given.gid)?;
    let name = one("name", name, values::name)?;
    let path = given.id.as_deref().unwrap_or(&name);
    let path = path.strip_prefix(&format!("spiffe://{}/", settings.trust_domain)).unwrap_or(path);
    Ok(Workload {
        id: settings.workload(path).map_err(|error| format!("id: {error}"))?,
        hint: one("hint", given.hint.as_deref().unwrap_or(&name), values::name)?,
        conditions: Conditions {
            uid: given.uid,
            gid: given.gid,
            path: each("path", &given.path, executable)?,
            sha256: each("sha256", &given.sha256, digest)?,
            unit: each("unit", &given.unit, unit)?,
            container: each("container", &given.container, digest)?,
        },
        nodes: each("node", &given.node, agents::node_name)?,
        name,
    })
}

impl Decoder<'_> {
    pub(super) fn workloads(&mut self, node: &Node, settings: &Settings) -> Vec<Workload> {
        let entries = self.named(node, "a map of workloads");
        if entries.len() > WORKLOADS_MAX {
            self.fault(
                node.at,
                format!("{} workloads, at most {WORKLOADS_MAX} can be registered", entries.len()),
            );
            return Vec::new();
        }
        entries.iter().filter_map(|(name, node)| self.workload(name, node, settings)).collect()
    }

    fn workload(&mut self, name: &Name, node: &Node, settings: &Settings) -> Option<Workload> {
        let table = self.table(node, &WORKLOAD)?;
        let (at, path) = match table.get("id") {
            Some(node) => (node.at, self.text(node)?),
            None => (name.at, name.text.as_str()),
        };
        let id = settings.workload(path);
        let hint = table.get("hint").and_then(|node| self.value(node, values::name));
        let mut conditions = Conditions::default();
        for (key, place) in [("uid", &mut conditions.uid), ("gid", &mut conditions.gid)] {
            if let Some(node) = table.get(key) {
                *place = self.values(node, number);
                self.some_value(node);
            }
        }
        let texts: [(&str, &mut Vec<String>, Read); 4] = [
            ("path", &mut conditions.path, executable),
            ("sha256", &mut conditions.sha256, digest),
            ("unit", &mut conditions.unit, unit),
            ("container", &mut conditions.container, digest),
        ];
        for (key, place, read) in texts {
            if let Some(node) = table.get(key) {
                *place = self.values(node, read);
                self.some_value(node);
            }
        }
        let mut nodes = Vec::new();
        if let Some(node) = table.get("node") {
            nodes = self.values(node, agents::node_name);
            self.some_value(node);
        }
        if CONDITIONS.iter().all(|key| table.get(key).is_none()) {
            self.advise(
                name.at,
                format!("the workload {:?} has no condition: nobody could be it", name.text),
                "say what its process is, such as `uid: 1000` or `path: /usr/bin/orders`",
            );
        }
        let Conditions { uid, path: file, unit, container, sha256, .. } = &conditions;
        let is_anybodys = uid.is_empty() && file.is_empty() && unit.is_empty() && container.is_empty();
        if is_anybodys && let Some(node) = table.get("sha256").filter(|_| !sha256.is_empty()) {
            self.warn(
                node.at,
                "sha256 alone: the executable of every process that asks is hashed, of whatever user",
                "a `uid`, `unit` or `path` besides",
            );
        }
        match id {
            Ok(id) => {
                let hint = hint.unwrap_or_else(|| name.text.clone());
                Some(Workload { name: name.text.clone(), id, hint, conditions, nodes })
            }
            Err(error) => {
                self.fault(at, error.to_string());
                None
            }
        }
    }

    /// A condition with nothing to choose from is met by nobody, and reads as if by everybody.
    fn some_value(&mut self, node: &Node) {
        if node.items().is_empty() {
            self.expected(node, "at least one value");
        }
    }
}

/// The workload that this process is. Nobody has to meet its conditions.
pub(super) fn own_workload(id: model::SpiffeId) -> Workload {
    Workload {
        name: String::new(),
        id,
        hint: String::new(),
        conditions: Conditions::default(),
        nodes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_registered_keeps_to_the_rules_of_the_configuration() {
        let settings = Settings::new("shop.example");
        let read = |name: &str, given: NewWorkload| registered(name, given, &settings);
        let of = |uid| NewWorkload { uid: vec![uid], ..NewWorkload::default() };
        let orders = read("orders", of(7)).unwrap();
        assert_eq!((orders.id.as_str(), orders.hint.as_str()), ("spiffe://shop.example/orders", "orders"));
        // What is shown can be given back.
        assert_eq!(read("orders", NewWorkload::of(&orders)), Ok(orders));
        let id = |id: &str| NewWorkload { id: Some(id.to_owned()), ..of(7) };
        assert_eq!(read("a", id("/ns/a")).unwrap().id.as_str(), "spiffe://shop.example/ns/a");
        let texts = |text: &str| vec![text.to_owned()];
        let upper = NewWorkload { sha256: texts(&"AB".repeat(32)), ..of(7) };
        assert_eq!(read("a", upper).unwrap().conditions.sha256, ["ab".repeat(32)]);
        for (name, given, why) in [
            ("", of(7), "name: expected a name"),
            ("a\"b", of(7), "name: expected a name"),
            ("a", id("spiffe://other.example/a"), "id: "),
            ("a", id("a//b"), "id: "),
            ("a", NewWorkload { hint: Some(String::new()), ..of(7) }, "hint: expected a name"),
            ("a", NewWorkload { path: texts("bin/a"), ..of(7) }, "path: expected the absolute path"),
            ("a", NewWorkload { sha256: texts("ab"), ..of(7) }, "sha256: expected 64 hexadecimal"),
            ("a", NewWorkload { unit: texts("a"), ..of(7) }, "unit: expected a unit"),
            ("a", NewWorkload { container: texts("x"), ..of(7) }, "container: expected 64 hexadecimal"),
            ("a", NewWorkload { node: texts("a b"), ..of(7) }, "node: expected a node's name"),
            ("a", NewWorkload { gid: vec![0; 257], ..of(7) }, "gid: 257 values, at most 256"),
            ("a", NewWorkload { node: vec!["a".to_owned(); 257], ..of(7) }, "node: 257 values"),
        ] {
            let found = read(name, given).unwrap_err();
            assert!(found.starts_with(why), "{found}");
        }
        assert!(read("a", NewWorkload { gid: vec![0; 256], ..of(7) }).is_ok());
    }
}
