//! `addresses:`: which client addresses may come in.

use ipnet::IpNet;

use super::decoder::Decoder;
use super::node::Node;
use super::schema::{Section, key};
use super::values;

/// Address lists. `deny` wins over `allow`; an empty `allow` allows all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Addresses {
    /// When not empty, only these may come in.
    pub allow: Vec<IpNet>,
    /// These are refused.
    pub deny: Vec<IpNet>,
}

pub(super) const ADDRESSES: Section = Section {
    path: "addresses",
    about: "Which client addresses are admitted; at the top for all requests, in a route for that route. `deny` wins over `allow`. Each entry is an address, a network, or `file:PATH`, a file with one of these a line (`#` begins a comment; at most 1,000,000 lines).",
    short: "",
    keys: &[
        key("allow", "list of addresses, networks, `file:PATH`", "everybody", "Only these are admitted."),
        key(
            "deny",
            "list of addresses, networks, `file:PATH`",
            "nobody",
            "These are refused; of an IPv4 address also its forms in IPv6: mapped, NAT64, 6to4, Teredo.",
        ),
    ],
};

/// Largest file of addresses, in bytes.
const FILE_BYTES_MAX: usize = 64 << 20;
/// Faults reported from one file of addresses.
const FAULTS_PER_FILE_MAX: usize = 20;

impl Decoder<'_> {
    /// `addresses:`, at the top or in a route.
    pub(super) fn addresses(&mut self, node: Option<&Node>) -> Addresses {
        let Some(table) = node.and_then(|node| self.table(node, &ADDRESSES)) else {
            return Addresses::default();
        };
        let allow_node = table.get("allow");
        let allow = allow_node.map_or(Vec::new(), |node| self.networks(node));
        if let Some(node) = allow_node
            && allow.is_empty()
            && !self.faulty()
        {
            self.advise(
                node.at,
                "an empty allow list would let everybody in",
                "remove the key, or name networks",
            );
        }
        let deny = table.get("deny").map_or(Vec::new(), |node| self.networks(node));
        Addresses { allow, deny }
    }

    fn networks(&mut self, node: &Node) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for item in node.items() {
            match item.text().and_then(|text| text.strip_prefix("file:")) {
                Some(path) => self.network_file(item, path.trim(), &mut networks),
                None => networks.extend(self.value(item, values::network)),
            }
        }
        networks
    }

    fn network_file(&mut self, node: &Node, path: &str, networks: &mut Vec<IpNet>) {
        let path = self.sources.beside(node.at.file, path);
        let read = self.sources.read(&path, FILE_BYTES_MAX);
        let text = read.and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))
        });
        let text = match text {
            Ok(text) => text,
            Err(reason) => return self.fault(node.at, reason),
        };
        let mut wrong = 0;
        for (number, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            match values::network(entry) {
                Ok(network) => networks.push(network),
                Err(unfit) if wrong < FAULTS_PER_FILE_MAX => {
                    wrong += 1;
                    let message = format!(
                        "{}:{}: expected {}, found {entry:?}",
                        path.display(),
                        number + 1,
                        unfit.expected
                    );
                    self.fault(node.at, message);
                }
                Err(_) => {}
            }
        }
    }
}
