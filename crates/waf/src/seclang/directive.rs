//! The directives: each is obeyed, noted because ignoring it weakens nothing, or refused by name.

use super::{
    fault::Fault,
    lexer::{Statement, Text},
    rules::Builder,
    settings::{NAMES, NOTED, ONLY_OFF, REFUSED},
};
use model::suggestion::nearest;

/// Directives with a handler of their own.
const OWN: &[&str] = &[
    "Include",
    "IncludeOptional",
    "SecAction",
    "SecDefaultAction",
    "SecMarker",
    "SecRule",
    "SecRuleRemoveById",
    "SecRuleRemoveByMsg",
    "SecRuleRemoveByTag",
    "SecRuleUpdateActionById",
    "SecRuleUpdateTargetById",
    "SecRuleUpdateTargetByMsg",
    "SecRuleUpdateTargetByTag",
];

/// A file to read next.
pub(super) struct Include {
    pub(super) pattern: String,
    /// No file at all is no fault.
    pub(super) optional: bool,
}

impl Builder<'_> {
    /// Obeys a directive. An include is handed back for the caller to follow.
    pub(super) fn directive(&mut self, text: &Text, statement: &Statement) -> Option<Include> {
        let name = statement.name.text.to_ascii_lowercase();
        if name != "secrule" && self.is_chain_open() && name != "secaction" {
            self.close_chain();
        }
        match name.as_str() {
            "secrule" => self.rule(text, statement),
            "secaction" => self.action(text, statement),
            "secmarker" => self.marker(text, statement),
            "secdefaultaction" => self.default_action(text, statement),
            "secruleremovebyid" => self.remove(text, statement, "id"),
            "secruleremovebytag" => self.remove(text, statement, "tag"),
            "secruleremovebymsg" => self.remove(text, statement, "msg"),
            "secruleupdatetargetbyid" => self.update_target(text, statement, "id"),
            "secruleupdatetargetbytag" => self.update_target(text, statement, "tag"),
            "secruleupdatetargetbymsg" => self.update_target(text, statement, "msg"),
            "secruleupdateactionbyid" => self.update_action(text, statement),
            "include" | "includeoptional" => return self.include(text, statement, name == "includeoptional"),
            _ => {
                if let Err(fault) = self.value(text, statement, &name) {
                    self.faults.push(fault);
                }
            }
        }
        None
    }

    fn include(&mut self, text: &Text, statement: &Statement, optional: bool) -> Option<Include> {
        match statement.words.as_slice() {
            [path] if !path.text.is_empty() => Some(Include { pattern: path.text.clone(), optional }),
            _ => {
                self.usage(text, statement, "FILE");
                None
            }
        }
    }

    fn value(&mut self, text: &Text, statement: &Statement, name: &str) -> Result<(), Fault> {
        if self.set(text, statement, name)? {
            return Ok(());
        }
        let at = statement.name.offset(0);
        let find = |table: &'static [(&'static str, &'static str)]| {
            table.iter().find(|row| row.0.eq_ignore_ascii_case(name))
        };
        if let Some((known, reason)) = find(NOTED) {
            self.note(text.place(at), format!("{known} changes nothing here: {reason}"));
            return Ok(());
        }
        if let Some((known, reason)) = find(ONLY_OFF) {
            return match statement.words.as_slice() {
                [word] if word.text.eq_ignore_ascii_case("off") => Ok(()),
                _ => Err(text.fault(at, format!("{known} is supported only as Off: {reason}"))),
            };
        }
        if let Some((known, reason)) = find(REFUSED) {
            return Err(text.fault(at, format!("{known} is not supported: {reason}")));
        }
        if statement.name.text.starts_with('<') {
            let message = format!(
                "\"{}\" is a section of Apache's configuration, not of the rule language",
                statement.name.text
            );
            return Err(text.fault(at, message));
        }
        let message = format!("unknown directive \"{}\"", statement.name.text);
        let suggestion = nearest(&statement.name.text, all_names()).map(str::to_owned);
        Err(Fault { place: text.place(at), message, suggestion })
    }
}

fn all_names() -> impl Iterator<Item = &'static str> {
    let tables = [NOTED, ONLY_OFF, REFUSED].into_iter().flatten().map(|row| row.0);
    OWN.iter().chain(NAMES).copied().chain(tables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, RuleSet, SourceFault, Sources};

    struct One(String);

    impl Sources for One {
        fn read(&self, _: &str) -> Result<Vec<u8>, SourceFault> {
            Ok(self.0.clone().into_bytes())
        }

        fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
            Ok(Vec::new())
        }
    }

    /// What is said of a line by which nothing loads.
    fn said(line: &str) -> String {
        RuleSet::load(&One(line.to_owned()), &["r.conf"], &Options::default()).expect_err(line).to_string()
    }

    #[test]
    fn each_that_is_refused_is_refused_by_name_and_with_the_reason() {
        for (name, reason) in REFUSED {
            assert_eq!(said(&format!("{name} x")), format!("r.conf:1:1: {name} is not supported: {reason}"));
        }
        for (name, reason) in ONLY_OFF {
            let said = said(&format!("{name} On"));
            assert_eq!(said, format!("r.conf:1:1: {name} is supported only as Off: {reason}"));
        }
    }

    #[test]
    fn a_name_that_lacks_a_letter_is_unknown_and_leads_to_a_known_one() {
        let slips = all_names().map(|name| &name[..name.len() - 1]);
        for slip in slips.filter(|slip| !all_names().any(|name| name == *slip)) {
            let said = said(&format!("{slip} x"));
            assert!(
                said.contains("unknown directive") && said.contains("(did you mean \""),
                "{slip}: {said}"
            );
        }
    }

    #[test]
    fn a_directive_stands_in_one_table_only() {
        let mut names: Vec<_> = all_names().map(str::to_ascii_lowercase).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
