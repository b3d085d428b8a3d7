//! What the rules take upon themselves of what the firewall else refuses by itself: a body that
//! was not read to its end, or that others could read otherwise.
//!
//! A rule does so where its first condition looks at what tells of it, while it can still be
//! refused. Whether it then refuses is the rule's own affair; but what only writes a name into
//! a log, or looks once the body is with the service, has judged nothing.

use crate::{
    rule::{Link, Phase, Rule},
    target::{Selector, Target},
    variable::{COUNT, Variable},
};

/// What rules judge, each as far as it can be doubtful.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judges {
    /// Variables that tell of a body.
    tells: [bool; COUNT],
    /// Which character sets a request's content type may name.
    pub(crate) charset: bool,
    /// Which character sets the parts of a multipart body may name.
    pub(crate) part_charset: bool,
    /// Which encodings the parts of a multipart body may have.
    pub(crate) part_encoding: bool,
}

impl Default for Judges {
    fn default() -> Self {
        Self { tells: [false; COUNT], charset: false, part_charset: false, part_encoding: false }
    }
}

impl Judges {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut judges = Self::default();
        rules.iter().for_each(|rule| judges.note(rule));
        judges
    }

    /// Whether a rule judges what a variable tells of the body.
    pub(crate) fn tells(&self, variable: Variable) -> bool {
        self.tells.get(variable as usize).copied().unwrap_or(false)
    }

    fn note(&mut self, rule: &Rule) {
        // Further conditions are looked at only where the first one holds.
        let Some(link) = rule.links.first().filter(|_| rule.phase <= Phase::RequestBody) else { return };
        let looked_at = |target: &&Target| {
            !target.count && !link.exclusions.iter().any(|exclusion| exclusion.takes_all_of(target))
        };
        for target in link.targets.iter().filter(looked_at) {
            if target.variable == Variable::RequestHeaders {
                self.charset |= names_content_type(&target.selector) && is_about(link, "charset");
            }
            // In phase 1 there is no body yet.
            if rule.phase < Phase::RequestBody {
                continue;
            }
            if target.variable == Variable::MultipartPartHeaders {
                // The Core Rule Set takes the whole type, and has another rule look at that.
                self.part_charset |=
                    is_about(link, "charset") || link.capture && is_about(link, "content-type");
                self.part_encoding |= is_about(link, "content-transfer-encoding");
            }
            if let Some(tells) = self.tells.get_mut(target.variable as usize) {
                *tells = true;
            }
        }
    }
}

/// Whether a word stands in what a link looks for.
fn is_about(link: &Link, word: &str) -> bool {
    link.test.as_ref().is_some_and(|test| test.operator.argument().to_ascii_lowercase().contains(word))
}

/// Whether it takes that header, and not as one of all.
fn names_content_type(selector: &Selector) -> bool {
    matches!(selector, Selector::Name(name) if name.eq_ignore_ascii_case(b"content-type"))
}
