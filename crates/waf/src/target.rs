//! What a rule looks at: `ARGS`, `&REQUEST_HEADERS:Host`, `!REQUEST_COOKIES:/^_ga/`.

use crate::variable::Variable;
use regex::bytes::Regex;

/// One target of a rule.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) variable: Variable,
    pub(crate) selector: Selector,
    /// `&`: the number of values instead of the values.
    pub(crate) count: bool,
}

/// What a rule does not look at.
#[derive(Debug, Clone)]
pub(crate) struct Exclusion {
    pub(crate) variable: Variable,
    pub(crate) selector: Selector,
}

/// Which members of a collection.
#[derive(Debug, Clone)]
pub(crate) enum Selector {
    /// All of them.
    All,
    /// The ones of this name (lower case; names compare ASCII case-insensitively).
    Name(Vec<u8>),
    /// The ones whose name matches (case-insensitive, as ModSecurity 2).
    Pattern(Regex),
    /// The `TX` variable in this slot.
    Slot(u16),
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::Name(left), Self::Name(right)) => left == right,
            (Self::Pattern(left), Self::Pattern(right)) => left.as_str() == right.as_str(),
            (Self::Slot(left), Self::Slot(right)) => left == right,
            _ => false,
        }
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.variable == other.variable && self.count == other.count && self.selector == other.selector
    }
}

impl Selector {
    /// Whether it takes every member.
    pub(crate) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether it takes the member called `name`. Slots are matched by the caller.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Name(wanted) => wanted.eq_ignore_ascii_case(name),
            Self::Pattern(pattern) => pattern.is_match(name),
            Self::Slot(_) => false,
        }
    }

    /// As written, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Name(name) => format!(":{}", String::from_utf8_lossy(name)),
            Self::Pattern(pattern) => format!(":/{}/", pattern.as_str()),
            Self::Slot(slot) => format!(":#{slot}"),
        }
    }
}

impl Exclusion {
    /// Whether it takes a member out. `slot` is set for members of `TX`.
    pub(crate) fn takes(&self, variable: Variable, name: &[u8], slot: Option<u16>) -> bool {
        self.variable == variable
            && match &self.selector {
                Selector::Slot(wanted) => slot == Some(*wanted),
                selector => selector.takes(name),
            }
    }

    /// Whether it leaves nothing of a target.
    pub(crate) fn takes_all_of(&self, target: &Target) -> bool {
        self.variable == target.variable
            && !target.count
            && match &target.selector {
                Selector::Name(name) => self.selector.takes(name),
                selector => self.selector.is_all() || self.selector == *selector,
            }
    }

    /// Whether it could take something of a target out.
    pub(crate) fn may_take(&self, target: &Target) -> bool {
        self.variable == target.variable
            && !target.count
            && match (&self.selector, &target.selector) {
                (Selector::Name(own), Selector::Name(name)) => own.eq_ignore_ascii_case(name),
                (Selector::Pattern(pattern), Selector::Name(name)) => pattern.is_match(name),
                (Selector::Slot(own), Selector::Slot(slot)) => own == slot,
                _ => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusion_takes_its_own_variable_only() {
        let exclusion = Exclusion { variable: Variable::Args, selector: Selector::Name(b"q".to_vec()) };
        assert!(exclusion.takes(Variable::Args, b"Q", None));
        assert!(!exclusion.takes(Variable::Args, b"qq", None));
        assert!(!exclusion.takes(Variable::ArgsNames, b"q", None));
        let all = Exclusion { variable: Variable::Args, selector: Selector::All };
        assert!(all.takes(Variable::Args, b"anything", None));
        let target = |selector: Selector| Target { variable: Variable::Args, selector, count: false };
        let name = |name: &str| Selector::Name(name.as_bytes().to_vec());
        assert!(exclusion.takes_all_of(&target(name("Q"))) && !exclusion.takes_all_of(&target(name("qq"))));
        assert!(all.takes_all_of(&target(name("q"))) && all.takes_all_of(&target(Selector::All)));
        assert!(!exclusion.takes_all_of(&target(Selector::All)));
        assert!(!all.takes_all_of(&Target { count: true, ..target(Selector::All) }));
        let slot = Exclusion { variable: Variable::Tx, selector: Selector::Slot(12) };
        assert!(slot.takes(Variable::Tx, b"x", Some(12)) && !slot.takes(Variable::Tx, b"x", Some(13)));
    }
}
