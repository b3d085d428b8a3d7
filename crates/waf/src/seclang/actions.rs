//! Actions as written: each read into an [`ActionSet`], and sets put over each other.

use super::{
    fault::Fault,
    rules::{At, Builder},
    syntax::{self, Piece, RawAction},
};
use crate::{
    action::{Act, Change, Sanitise, SetName, SetVar},
    rule::{AllowScope, Disruptive, Flow, Metadata, Phase},
    template::Template,
    transform::Transformation,
    variable::Variable,
};

/// Every action's name, for suggestions.
const NAMES: &[&str] = &[
    "accuracy",
    "allow",
    "auditlog",
    "block",
    "capture",
    "chain",
    "ctl",
    "deny",
    "deprecatevar",
    "drop",
    "expirevar",
    "id",
    "initcol",
    "log",
    "logdata",
    "maturity",
    "msg",
    "multiMatch",
    "noauditlog",
    "nolog",
    "pass",
    "phase",
    "redirect",
    "rev",
    "sanitiseArg",
    "sanitiseMatched",
    "sanitiseMatchedBytes",
    "sanitiseRequestHeader",
    "sanitiseResponseHeader",
    "setenv",
    "setrsc",
    "setsid",
    "setuid",
    "setvar",
    "severity",
    "skip",
    "skipAfter",
    "status",
    "t",
    "tag",
    "ver",
    "xmlns",
];

/// Actions of ModSecurity that are refused, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("append", "answers are not rewritten"),
    ("exec", "rules start no programs"),
    ("pause", "holding a connection costs the server more than its attacker; use a rate limit"),
    ("prepend", "answers are not rewritten"),
    ("proxy", "a request goes where its route says"),
];

/// The actions of a rule, a chained rule or a `SecDefaultAction`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ActionSet {
    pub(crate) id: Option<u64>,
    pub(crate) phase: Option<Phase>,
    pub(crate) disruptive: Option<Disruptive>,
    pub(crate) status: Option<u16>,
    pub(crate) flow: Option<Flow>,
    pub(crate) chain: bool,
    pub(crate) log: Option<bool>,
    pub(crate) audit: Option<bool>,
    pub(crate) capture: bool,
    pub(crate) multi_match: bool,
    pub(crate) transformations: Vec<Transformation>,
    /// `t:none` was seen: nothing is inherited.
    pub(crate) own_transformations: bool,
    pub(crate) acts: Vec<Act>,
    pub(crate) metadata: Metadata,
}

impl ActionSet {
    /// What holds where no `SecDefaultAction` was given.
    pub(crate) fn preset() -> Self {
        Self { disruptive: Some(Disruptive::Pass), log: Some(true), audit: Some(true), ..Self::default() }
    }

    /// The first action that only a rule, not a chained one, may have.
    pub(crate) fn starter_only(&self) -> Option<&'static str> {
        let Metadata { message, log_data, severity, revision, version: _, maturity, accuracy, .. } =
            &self.metadata;
        [
            (self.id.is_some(), "id"),
            (self.phase.is_some(), "phase"),
            (self.disruptive.is_some(), "a disruptive action"),
            (self.status.is_some(), "status"),
            (self.flow.is_some(), "skip, skipAfter"),
            (message.is_some(), "msg"),
            (log_data.is_some(), "logdata"),
            (severity.is_some(), "severity"),
            (!revision.is_empty(), "rev"),
            (maturity.is_some(), "maturity"),
            (accuracy.is_some(), "accuracy"),
        ]
        .into_iter()
        .find_map(|(present, name)| present.then_some(name))
    }

    /// Puts `newer` over this set: single values are replaced, lists go on.
    pub(crate) fn update(&mut self, newer: Self) {
        replace(&mut self.disruptive, newer.disruptive);
        replace(&mut self.status, newer.status);
        replace(&mut self.flow, newer.flow);
        replace(&mut self.log, newer.log);
        replace(&mut self.audit, newer.audit);
        self.capture |= newer.capture;
        self.multi_match |= newer.multi_match;
        if newer.own_transformations {
            self.own_transformations = true;
            self.transformations.clear();
        }
        self.transformations.extend(newer.transformations);
        self.acts.extend(newer.acts);
        let (metadata, newer) = (&mut self.metadata, newer.metadata);
        if newer.message.is_some() {
            metadata.message = newer.message;
            metadata.message_text = newer.message_text;
        }
        replace(&mut metadata.log_data, newer.log_data);
        replace(&mut metadata.severity, newer.severity);
        replace(&mut metadata.maturity, newer.maturity);
        replace(&mut metadata.accuracy, newer.accuracy);
        metadata.tags.extend(newer.tags);
        if !newer.revision.is_empty() {
            metadata.revision = newer.revision;
        }
        if !newer.version.is_empty() {
            metadata.version = newer.version;
        }
    }
}

fn replace<T>(old: &mut Option<T>, newer: Option<T>) {
    if newer.is_some() {
        *old = newer;
    }
}

impl Builder<'_> {
    /// All actions of a word, or None when one is at fault.
    pub(crate) fn action_set(&mut self, at: At<'_>) -> Option<ActionSet> {
        let raw = match syntax::actions(&at.word.text) {
            Ok(raw) => raw,
            Err(wrong) => {
                self.faults.push(at.wrong(&wrong));
                return None;
            }
        };
        let mut set = ActionSet::default();
        let mut whole = true;
        for raw in &raw {
            if let Err(fault) = self.one(at, raw, &mut set) {
                self.faults.push(fault);
                whole = false;
            }
        }
        whole.then_some(set)
    }

    fn one(&mut self, at: At<'_>, raw: &RawAction, set: &mut ActionSet) -> Result<(), Fault> {
        let name = raw.name.text.to_ascii_lowercase();
        if self.flag(at, raw, &name, set)? || self.disruptive(at, raw, &name, set)? {
            return Ok(());
        }
        let value = || raw.value.as_ref().filter(|value| !value.text.is_empty());
        let Some(value) = value() else {
            return Err(match NAMES.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                true => at.fault(raw.name.at, format!("{} needs a value: {0}:VALUE", raw.name.text)),
                false => self.unknown_action(at, &raw.name),
            });
        };
        if self.metadata(at, &name, value, set)? || self.change(at, &name, value, set)? {
            return Ok(());
        }
        Err(self.unknown_action(at, &raw.name))
    }

    fn unknown_action(&self, at: At<'_>, name: &Piece) -> Fault {
        match REFUSED.iter().find(|row| row.0.eq_ignore_ascii_case(&name.text)) {
            Some((_, reason)) => at.fault(name.at, format!("{} is not supported: {reason}", name.text)),
            None => at.unknown(name, "action", NAMES.iter().copied()),
        }
    }

    /// Actions without a value.
    fn flag(&mut self, at: At<'_>, raw: &RawAction, name: &str, set: &mut ActionSet) -> Result<bool, Fault> {
        match name {
            "log" => (set.log, set.audit) = (Some(true), Some(true)),
            "nolog" => (set.log, set.audit) = (Some(false), Some(false)),
            "auditlog" => set.audit = Some(true),
            "noauditlog" => set.audit = Some(false),
            "capture" => set.capture = true,
            "chain" => set.chain = true,
            "multimatch" => set.multi_match = true,
            "sanitisematched" | "sanitizematched" => set.acts.push(Act::Sanitise(Sanitise::Matched)),
            // How many bytes to leave at the ends may follow; here all are masked.
            "sanitisematchedbytes" | "sanitizematchedbytes" => {
                set.acts.push(Act::Sanitise(Sanitise::Matched));
                return Ok(true);
            }
            _ => return Ok(false),
        }
        match &raw.value {
            Some(value) => Err(at.fault(value.at, format!("{} takes no value", raw.name.text))),
            None => Ok(true),
        }
    }

    fn disruptive(
        &mut self,
        at: At<'_>,
        raw: &RawAction,
        name: &str,
        set: &mut ActionSet,
    ) -> Result<bool, Fault> {
        let found = match (name, &raw.value) {
            ("allow", None) => Disruptive::Allow(AllowScope::Transaction),
            ("allow", Some(value)) => Disruptive::Allow(match value.text.to_ascii_lowercase().as_str() {
                "phase" => AllowScope::Phase,
                "request" => AllowScope::Request,
                _ => return Err(at.unknown(value, "scope of allow", ["phase", "request"].into_iter())),
            }),
            ("redirect", Some(value)) if !value.text.is_empty() => {
                Disruptive::Redirect(self.template(at, value)?)
            }
            ("block" | "deny" | "drop" | "pass", Some(value)) => {
                return Err(at.fault(value.at, format!("{name} takes no value")));
            }
            ("block", None) => Disruptive::Block,
            ("deny", None) => Disruptive::Deny,
            ("drop", None) => Disruptive::Drop,
            ("pass", None) => Disruptive::Pass,
            _ => return Ok(false),
        };
        set.disruptive = Some(found);
        Ok(true)
    }

    /// What the rule says about itself and where evaluation goes on.
    fn metadata(
        &mut self,
        at: At<'_>,
        name: &str,
        value: &Piece,
        set: &mut ActionSet,
    ) -> Result<bool, Fault> {
        match name {
            "id" => set.id = Some(number(at, value, 1, u64::from(u32::MAX))?),
            "phase" => {
                let known = ["1", "2", "3", "4", "5", "request", "response", "logging"];
                set.phase = Some(
                    Phase::parse(&value.text).ok_or_else(|| at.unknown(value, "phase", known.into_iter()))?,
                );
            }
            "msg" => {
                set.metadata.message = Some(self.template(at, value)?);
                set.metadata.message_text.clone_from(&value.text);
            }
            "logdata" => set.metadata.log_data = Some(self.template(at, value)?),
            "severity" => set.metadata.severity = Some(severity(at, value)?),
            "tag" => {
                let template = self.template(at, value)?;
                set.metadata.tags.push((value.text.clone(), template));
            }
            "rev" => set.metadata.revision.clone_from(&value.text),
            "ver" => set.metadata.version.clone_from(&value.text),
            "maturity" => set.metadata.maturity = u8::try_from(number(at, value, 0, 9)?).ok(),
            "accuracy" => set.metadata.accuracy = u8::try_from(number(at, value, 0, 9)?).ok(),
            "status" => set.status = u16::try_from(number(at, value, 100, 599)?).ok(),
            "skip" => {
                let count = usize::try_from(number(at, value, 1, 1_000_000)?).unwrap_or(1);
                set.flow = Some(Flow::Skip(count));
            }
            "skipafter" => set.flow = Some(Flow::SkipAfter(value.text.clone())),
            "xmlns" => {
                self.note(at.place(value.at), "xmlns changes nothing: XML:/* and XML://@* know no namespaces")
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What it changes when it matches.
    fn change(&mut self, at: At<'_>, name: &str, value: &Piece, set: &mut ActionSet) -> Result<bool, Fault> {
        let lower = || value.text.to_ascii_lowercase().into_bytes();
        let act = match name {
            "t" => {
                let found = Transformation::from_name(&value.text)
                    .ok_or_else(|| at.unknown(value, "transformation", Transformation::names()))?;
                if found == Transformation::None {
                    set.transformations.clear();
                    set.own_transformations = true;
                } else {
                    set.transformations.push(found);
                }
                return Ok(true);
            }
            "ctl" => {
                let ctls = self.ctl(at, value)?;
                set.acts.extend(ctls.into_iter().map(Act::Ctl));
                return Ok(true);
            }
            "setvar" => Act::SetVar(self.set_var(at, value)?),
            "expirevar" => {
                let (collection, name, seconds) = self.assigned(at, value)?;
                Act::ExpireVar { collection, name, seconds }
            }
            "deprecatevar" => self.deprecate(at, value)?,
            "initcol" => {
                let (collection, key) = pair(at, value, "initcol:COLLECTION=KEY")?;
                let found = Variable::from_name(&collection.text).filter(|found| found.is_persistent());
                let known = ["ip", "global", "session", "user", "resource"];
                let collection =
                    found.ok_or_else(|| at.unknown(&collection, "collection", known.into_iter()))?;
                Act::InitCol { collection, key: self.template(at, &key)? }
            }
            "setenv" => {
                let (name, value) = match pair(at, value, "") {
                    Ok(pair) => pair,
                    Err(_) => (value.clone(), Piece { text: "1".to_owned(), at: value.at }),
                };
                Act::SetEnv { name: self.template(at, &name)?, value: self.template(at, &value)? }
            }
            "setsid" => Act::SetSid(self.template(at, value)?),
            "setuid" => Act::SetUid(self.template(at, value)?),
            "setrsc" => Act::SetRsc(self.template(at, value)?),
            "sanitisearg" | "sanitizearg" => Act::Sanitise(Sanitise::Argument(lower())),
            "sanitiserequestheader" | "sanitizerequestheader" => {
                Act::Sanitise(Sanitise::RequestHeader(lower()))
            }
            "sanitiseresponseheader" | "sanitizeresponseheader" => {
                Act::Sanitise(Sanitise::ResponseHeader(lower()))
            }
            _ => return Ok(false),
        };
        set.acts.push(act);
        Ok(true)
    }

    /// A text with macros.
    pub(crate) fn template(&mut self, at: At<'_>, piece: &Piece) -> Result<Template, Fault> {
        Template::parse(&piece.text, &mut self.names)
            .map_err(|unknown| self.unknown_macro(at, piece.at, &unknown))
    }

    /// `tx.name` at the start of what a `…var` action names.
    fn variable(&mut self, at: At<'_>, piece: &Piece) -> Result<(Variable, Piece), Fault> {
        let Some((collection, name)) = piece.text.split_once(['.', ':']).filter(|(_, name)| !name.is_empty())
        else {
            return Err(at.fault(piece.at, format!("expected COLLECTION.NAME, found \"{}\"", piece.text)));
        };
        let collection = Piece { text: collection.to_owned(), at: piece.at };
        let known = ["tx", "ip", "global", "session", "user", "resource"];
        let found = Variable::from_name(&collection.text).filter(|found| found.is_writable());
        let found = found.ok_or_else(|| at.unknown(&collection, "collection", known.into_iter()))?;
        Ok((found, Piece { text: name.to_owned(), at: piece.at + collection.text.len() + 1 }))
    }

    fn set_var(&mut self, at: At<'_>, value: &Piece) -> Result<SetVar, Fault> {
        let (unset, text) = match value.text.strip_prefix('!') {
            Some(rest) => (true, Piece { text: rest.to_owned(), at: value.at + 1 }),
            None => (false, value.clone()),
        };
        let (target, assigned) = match pair(at, &text, "") {
            Ok((target, assigned)) if !unset => (target, Some(assigned)),
            _ => (text, None),
        };
        let (collection, name) = self.variable(at, &target)?;
        let template = self.template(at, &name)?;
        let name = match template.literal() {
            Some(_) if collection == Variable::Tx => SetName::Slot(self.names.slot(&name.text)),
            _ => SetName::Text(template),
        };
        let change = match assigned {
            _ if unset => Change::Unset,
            None => Change::SetNumber(1),
            Some(assigned) => self.assignment(at, &assigned)?,
        };
        Ok(SetVar { collection, name, change })
    }

    fn assignment(&mut self, at: At<'_>, piece: &Piece) -> Result<Change, Fault> {
        let rest = |sign| {
            piece.text.strip_prefix(sign).map(|rest| Piece { text: rest.to_owned(), at: piece.at + 1 })
        };
        if let Some(rest) = rest('+') {
            return Ok(match rest.text.parse() {
                Ok(number) => Change::AddNumber(number),
                Err(_) => Change::Add(self.template(at, &rest)?),
            });
        }
        if let Some(rest) = rest('-') {
            return Ok(Change::Subtract(self.template(at, &rest)?));
        }
        Ok(match piece.text.parse::<i64>() {
            Ok(number) if number.to_string() == piece.text => Change::SetNumber(number),
            _ => Change::Set(self.template(at, piece)?),
        })
    }

    /// `collection.name=value`.
    fn assigned(&mut self, at: At<'_>, value: &Piece) -> Result<(Variable, Template, Template), Fault> {
        let (target, assigned) = pair(at, value, "COLLECTION.NAME=VALUE")?;
        let (collection, name) = self.variable(at, &target)?;
        Ok((collection, self.template(at, &name)?, self.template(at, &assigned)?))
    }

    fn deprecate(&mut self, at: At<'_>, value: &Piece) -> Result<Act, Fault> {
        let (target, assigned) = pair(at, value, "deprecatevar:COLLECTION.NAME=AMOUNT/SECONDS")?;
        let (collection, name) = self.variable(at, &target)?;
        let parsed = assigned.text.split_once('/').and_then(|(amount, period)| {
            Some((
                amount.trim().parse::<i64>().ok()?,
                period.trim().parse::<i64>().ok().filter(|period| *period > 0)?,
            ))
        });
        let Some((amount, period_s)) = parsed else {
            return Err(
                at.fault(assigned.at, format!("expected AMOUNT/SECONDS, found \"{}\"", assigned.text))
            );
        };
        Ok(Act::DeprecateVar { collection, name: self.template(at, &name)?, amount, period_s })
    }
}

/// `left=right`.
pub(crate) fn pair(at: At<'_>, piece: &Piece, usage: &str) -> Result<(Piece, Piece), Fault> {
    let Some((left, right)) = piece.text.split_once('=') else {
        return Err(at.fault(piece.at, format!("expected {usage}, found \"{}\"", piece.text)));
    };
    let right_at = piece.at + left.len() + 1;
    Ok((Piece { text: left.trim().to_owned(), at: piece.at }, Piece { text: right.to_owned(), at: right_at }))
}

/// A whole number within bounds.
pub(crate) fn number(at: At<'_>, piece: &Piece, min: u64, max: u64) -> Result<u64, Fault> {
    let found = piece.text.trim().parse::<u64>().ok().filter(|number| (min..=max).contains(number));
    found.ok_or_else(|| {
        at.fault(piece.at, format!("expected a number from {min} to {max}, found \"{}\"", piece.text))
    })
}

fn severity(at: At<'_>, piece: &Piece) -> Result<u8, Fault> {
    const LEVELS: [&str; 8] =
        ["EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"];
    let named = LEVELS.iter().position(|level| level.eq_ignore_ascii_case(&piece.text));
    let numbered = || piece.text.parse::<usize>().ok().filter(|level| *level < LEVELS.len());
    let found = named.or_else(numbered).and_then(|level| u8::try_from(level).ok());
    found.ok_or_else(|| at.unknown(piece, "severity", LEVELS.into_iter()))
}
