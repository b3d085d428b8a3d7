//! `dns:`: who is asked about the names of endpoints.

use std::net::{IpAddr, SocketAddr};

use super::decoder::Decoder;
use super::node::{Node, Value};
use super::schema::{Section, key};
use super::values::Unfit;

pub(super) const DNS: Section = Section {
    path: "dns",
    about: "Which DNS servers resolve the names of endpoints.",
    short: "the servers as a list: `dns: [ 10.0.0.2 ]`",
    keys: &[key(
        "servers",
        "list of addresses, with port or without",
        "those of `/etc/resolv.conf`",
        "Name servers, over UDP and TCP.",
    )],
};

fn server(text: &str) -> Result<SocketAddr, Unfit> {
    let expected = "an address of a name server such as 10.0.0.2 or 127.0.0.1:5353";
    let with_port = text.parse::<SocketAddr>().ok();
    let bare = text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 53));
    with_port.or(bare).filter(|server| server.port() != 0).ok_or(Unfit { expected, instead: None })
}

impl Decoder<'_> {
    /// `dns:`; empty: the system's.
    pub(super) fn dns(&mut self, node: Option<&Node>) -> Vec<SocketAddr> {
        let Some(node) = node else { return Vec::new() };
        if !matches!(node.value, Value::Map(_)) {
            return self.values(node, server);
        }
        let Some(table) = self.table(node, &DNS) else { return Vec::new() };
        table.get("servers").map_or(Vec::new(), |node| self.values(node, server))
    }
}
