//! `realms.NAME.back_channel_logout`: how far logout tokens to clients may go.

use proxy::fetch::special_address;

use crate::config::decoder::Decoder;
use crate::config::node::Node;
use crate::config::schema::Section;
use crate::config::{outward, pem};

/// What allows addresses that are not public.
pub const PRIVATE_SWITCH: &str =
    "the realm's `back_channel_logout: { allow_private_addresses: true }` allows it";

/// How far logout tokens may go.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BackChannel {
    /// Whether loopback and private addresses may be reached.
    pub allow_private_addresses: bool,
    /// PEM certificates that a client's has to lead to; `None`: the public ones.
    pub ca: Option<Vec<u8>>,
}

impl BackChannel {
    /// Why no logout token is ever delivered to an address, as far as its text tells.
    pub fn refusal(&self, url: &str) -> Option<String> {
        let address = special_address(url).filter(|_| !self.allow_private_addresses)?;
        Some(format!(
            "{address} is not a public address, so no logout token would get there; {PRIVATE_SWITCH}"
        ))
    }
}

impl std::fmt::Debug for BackChannel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { allow_private_addresses, ca } = self;
        write!(formatter, "BackChannel(private: {allow_private_addresses}, ca: {})", ca.is_some())
    }
}

pub(in crate::config) const BACK_CHANNEL_LOGOUT: Section = Section {
    path: "realms.NAME.back_channel_logout",
    about: "How far logout tokens may go: to the `backchannel_logout_uri` of the realm's clients, public addresses behind public authorities by default.",
    short: "",
    keys: &[outward::ALLOW_PRIVATE, outward::CA],
};

impl Decoder<'_> {
    /// `back_channel_logout:`
    pub(super) fn back_channel(&mut self, node: &Node) -> BackChannel {
        let Some(table) = self.table(node, &BACK_CHANNEL_LOGOUT) else { return BackChannel::default() };
        let allowed = table.get("allow_private_addresses").and_then(|node| self.boolean(node));
        let ca = table.get("ca").and_then(|node| {
            let (_, bytes) = self.file(node, pem::BYTES_MAX)?;
            if let Err(why) = pem::certificates(&bytes) {
                self.fault(node.at, why);
            }
            Some(bytes)
        });
        BackChannel { allow_private_addresses: allowed == Some(true), ca }
    }
}
