//! `realms.NAME.passwords`: what new passwords have to be.

use identity::PasswordRules;

use crate::config::decoder::Decoder;
use crate::config::node::Node;
use crate::config::schema::{Section, key};

pub(in crate::config) const PASSWORDS: Section = Section {
    path: "realms.NAME.passwords",
    about: "Requirements for passwords that users choose.",
    short: "",
    keys: &[
        key("length", "8 to 128", "8", "The fewest characters."),
        key(
            "strength",
            "0 to 4",
            "3",
            "The least strength by zxcvbn, computed with the user's name and address in mind: 3 takes some hundred million guesses, 4 ten billion.",
        ),
        key(
            "breached",
            "path of a file",
            "none",
            "Passwords that are known from breaches and are refused: sorted SHA-1 hashes as Have I Been Pwned distributes them. The file is searched in place, not loaded.",
        ),
    ],
};

impl Decoder<'_> {
    /// `passwords:`
    pub(super) fn passwords(&mut self, node: &Node) -> Option<PasswordRules> {
        let table = self.table(node, &PASSWORDS)?;
        let mut rules = PasswordRules::default();
        let (lengths, strengths) = (PasswordRules::LENGTHS, PasswordRules::STRENGTHS);
        if let Some(node) = table.get("length") {
            rules.length_min = self.number(node, *lengths.start(), *lengths.end())?;
        }
        if let Some(node) = table.get("strength") {
            rules.strength_min = self.number(node, *strengths.start(), *strengths.end())?;
        }
        if let Some(node) = table.get("breached") {
            let path = self.path(node)?;
            if let Err(error) = identity::check_breached_passwords(&path) {
                self.fault(node.at, format!("{}: {error}", path.display()));
            }
            rules.breached = Some(path);
        }
        Some(rules)
    }
}
