//! Directives that change or remove rules defined above them.

use super::{
    actions::ActionSet,
    ctl::{ids, text_pattern},
    fault::Fault,
    lexer::{Statement, Text, Word},
    rules::{At, Builder, LinkDraft, RuleDraft},
    syntax::Piece,
};
use crate::target::{Exclusion, Target};
use regex::Regex;

/// Which rules a directive means.
enum Which {
    /// Ranges of ids, and the one link of the chain that is meant.
    Id(Vec<(u64, u64)>, Option<usize>),
    Tag(Regex),
    Message(Regex),
}

impl Which {
    fn takes(&self, rule: &RuleDraft) -> bool {
        let metadata = rule.links.first().map(|link| &link.actions.metadata);
        match self {
            Self::Id(ranges, _) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&rule.id())),
            Self::Tag(pattern) => {
                metadata.is_some_and(|metadata| metadata.tags.iter().any(|(tag, _)| pattern.is_match(tag)))
            }
            Self::Message(pattern) => {
                metadata.is_some_and(|metadata| pattern.is_match(&metadata.message_text))
            }
        }
    }

    /// The link that is named, of a chain.
    fn link(&self) -> Option<usize> {
        match self {
            Self::Id(_, link) => *link,
            Self::Tag(_) | Self::Message(_) => None,
        }
    }

    /// The links of a rule whose targets are meant: all, unless one is named.
    fn links<'r>(&self, rule: &'r mut RuleDraft) -> impl Iterator<Item = &'r mut LinkDraft> {
        let named = self.link();
        let links = rule.links.iter_mut().enumerate();
        links.filter(move |(at, _)| named.is_none_or(|named| named == *at)).map(|(_, link)| link)
    }
}

fn whole(word: &Word) -> Piece {
    Piece { text: word.text.clone(), at: 0 }
}

/// `by` is what the directive's name ends in: `id`, `tag` or `msg`.
fn which(at: At<'_>, by: &str) -> Result<Which, Fault> {
    let mut piece = whole(at.word);
    Ok(match by {
        "tag" => Which::Tag(text_pattern(at, &piece)?),
        "msg" => Which::Message(text_pattern(at, &piece)?),
        _ => {
            let mut link = None;
            if let Some((id, offset)) = at.word.text.split_once(':') {
                link = Some(offset.parse().map_err(|_| {
                    at.fault(id.len() + 1, "expected the number of a chained rule after the colon")
                })?);
                piece.text = id.to_owned();
            }
            Which::Id(ids(at, &piece)?, link)
        }
    })
}

impl Builder<'_> {
    /// `SecRuleRemoveById 1 5-9`, `SecRuleRemoveByTag PATTERN`, `SecRuleRemoveByMsg PATTERN`.
    pub(crate) fn remove(&mut self, text: &Text, statement: &Statement, by: &str) {
        if statement.words.is_empty() {
            return self.usage(text, statement, "RULES");
        }
        for word in &statement.words {
            let at = At { text, word };
            match which(at, by) {
                Ok(which) => {
                    let mut found = false;
                    for rule in self.drafts.iter_mut().filter(|rule| which.takes(rule)) {
                        rule.removed = true;
                        found = true;
                    }
                    self.unmet(found, at);
                }
                Err(fault) => self.faults.push(fault),
            }
        }
    }

    /// `SecRuleUpdateTargetById ID "TARGETS" ["REPLACED"]` and its kin.
    pub(crate) fn update_target(&mut self, text: &Text, statement: &Statement, by: &str) {
        let (rules, targets, replaced) = match statement.words.as_slice() {
            [rules, targets] => (rules, targets, None),
            [rules, targets, replaced] => (rules, targets, Some(replaced)),
            _ => return self.usage(text, statement, "RULES \"TARGETS\""),
        };
        let at = At { text, word: rules };
        let which = match which(at, by) {
            Ok(which) => which,
            Err(fault) => return self.faults.push(fault),
        };
        let Some((added, excluded)) = self.targets(At { text, word: targets }) else { return };
        let replaced = match replaced {
            Some(word) => match self.targets(At { text, word }) {
                Some((replaced, _)) => replaced,
                None => return,
            },
            None => Vec::new(),
        };
        let mut found = false;
        let mut unlooked: Vec<&Exclusion> = excluded.iter().collect();
        for rule in self.drafts.iter_mut().filter(|rule| which.takes(rule)) {
            for link in which.links(rule) {
                unlooked.retain(|exclusion| !link.targets.iter().any(|target| exclusion.may_take(target)));
                change_targets(link, &added, &excluded, &replaced);
                found = true;
            }
        }
        self.unmet(found, at);
        if let (true, Which::Id(..), Some(_)) = (found, &which, unlooked.first()) {
            let message = format!(
                "\"{}\" names something that no rule meant by \"{}\" looks at",
                targets.text, rules.text
            );
            self.warn(At { text, word: targets }.place(0), message);
        }
    }

    /// `SecRuleUpdateActionById ID[:LINK] "ACTIONS"`.
    pub(crate) fn update_action(&mut self, text: &Text, statement: &Statement) {
        let [rules, actions] = statement.words.as_slice() else {
            return self.usage(text, statement, "ID \"ACTIONS\"");
        };
        let at = At { text, word: rules };
        let which = match which(at, "id") {
            Ok(which) => which,
            Err(fault) => return self.faults.push(fault),
        };
        let actions_at = At { text, word: actions };
        let Some(set) = self.action_set(actions_at) else { return };
        if set.id.is_some() || set.phase.is_some() || set.chain {
            let fault = actions_at.fault(0, "id, phase and chain of a rule cannot be changed");
            return self.faults.push(fault);
        }
        if let (Some(1..), Some(word)) = (which.link(), set.starter_only()) {
            let fault =
                actions_at.fault(0, format!("\"{word}\" may stand only in the first rule of a chain"));
            return self.faults.push(fault);
        }
        let mut found = false;
        for rule in self.drafts.iter_mut().filter(|rule| which.takes(rule)) {
            if let Some(link) = rule.links.get_mut(which.link().unwrap_or_default()) {
                link.actions.update(set.clone());
                found = true;
            }
        }
        self.unmet(found, at);
    }

    /// `SecDefaultAction "phase:2,log,pass"`.
    pub(crate) fn default_action(&mut self, text: &Text, statement: &Statement) {
        let [actions] = statement.words.as_slice() else {
            return self.usage(text, statement, "\"phase:N,ACTIONS\"");
        };
        let at = At { text, word: actions };
        let Some(set) = self.action_set(at) else { return };
        if let Err(message) = checked_default(&set) {
            return self.faults.push(at.fault(0, message));
        }
        let mut merged = ActionSet::preset();
        let phase = set.phase;
        merged.update(set);
        if let Some(slot) = phase.and_then(|phase| self.defaults.get_mut(phase.index())) {
            *slot = Some(merged);
        }
    }

    pub(crate) fn usage(&mut self, text: &Text, statement: &Statement, arguments: &str) {
        let message = format!("expected: {} {arguments}", statement.name.text);
        self.faults.push(text.fault(statement.name.offset(0), message));
    }

    fn unmet(&mut self, found: bool, at: At<'_>) {
        if !found {
            let message =
                format!("no rule defined above is meant by \"{}\": nothing is changed", at.word.text);
            self.warn(at.place(0), message);
        }
    }
}

fn checked_default(set: &ActionSet) -> Result<(), &'static str> {
    use crate::rule::Disruptive;
    if set.phase.is_none() {
        return Err("SecDefaultAction needs a phase");
    }
    match set.disruptive {
        None => {
            return Err("SecDefaultAction needs a disruptive action: pass, deny, drop, redirect or allow");
        }
        Some(Disruptive::Block) => {
            return Err("block asks for the default action: it cannot be the default itself");
        }
        Some(_) => {}
    }
    if set.chain || set.flow.is_some() || set.id.is_some() || set.metadata.message.is_some() {
        return Err("SecDefaultAction takes no id, msg, chain, skip or skipAfter");
    }
    Ok(())
}

/// Of targets that stand in the place of others, only a link that has those gets them. A link
/// without a test looks at nothing.
fn change_targets(link: &mut LinkDraft, added: &[Target], excluded: &[Exclusion], replaced: &[Target]) {
    if link.targets.is_empty() {
        return;
    }
    let before = link.targets.len();
    link.targets.retain(|target| !replaced.contains(target));
    if replaced.is_empty() || link.targets.len() < before {
        let new: Vec<_> = added.iter().filter(|new| !link.targets.contains(new)).cloned().collect();
        link.targets.extend(new);
    }
    link.exclusions.extend(excluded.iter().cloned());
}
