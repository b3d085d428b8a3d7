//! `ctl:…`: changes of the engine for one transaction.

use super::{
    actions::{number, pair},
    fault::Fault,
    rules::{At, Builder},
    syntax::{self, Piece},
};
use crate::{
    action::{By, Ctl, Selection},
    body::BodyKind,
    settings::EngineMode,
    target::Exclusion,
};

/// Every option's name, for suggestions.
const NAMES: &[&str] = &[
    "auditEngine",
    "auditLogParts",
    "debugLogLevel",
    "forceRequestBodyVariable",
    "requestBodyAccess",
    "requestBodyLimit",
    "requestBodyProcessor",
    "responseBodyAccess",
    "responseBodyLimit",
    "ruleEngine",
    "ruleRemoveById",
    "ruleRemoveByMsg",
    "ruleRemoveByTag",
    "ruleRemoveTargetById",
    "ruleRemoveTargetByMsg",
    "ruleRemoveTargetByTag",
];

/// Options of ModSecurity that are refused, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("hashEngine", "links of answers are not rewritten"),
    ("hashEnforcement", "links of answers are not rewritten"),
    ("parseXmlIntoArgs", "XML text is read through XML:/* and XML://@*"),
];

impl Builder<'_> {
    /// `name=value`; one option may be several changes.
    pub(crate) fn ctl(&mut self, at: At<'_>, value: &Piece) -> Result<Vec<Ctl>, Fault> {
        let (name, value) = pair(at, value, "ctl:NAME=VALUE")?;
        let one = match name.text.to_ascii_lowercase().as_str() {
            "auditengine" => Ctl::AuditEngine(audit(at, &value)?),
            "auditlogparts" | "debugloglevel" => Ctl::Nothing,
            "forcerequestbodyvariable" => Ctl::ForceRequestBodyVariable(switch(at, &value)?),
            "requestbodyaccess" => Ctl::RequestBodyAccess(switch(at, &value)?),
            "responsebodyaccess" => Ctl::ResponseBodyAccess(switch(at, &value)?),
            "requestbodylimit" => Ctl::RequestBodyLimit(bytes(at, &value)?),
            "responsebodylimit" => Ctl::ResponseBodyLimit(bytes(at, &value)?),
            "requestbodyprocessor" => {
                Ctl::RequestBodyProcessor(BodyKind::from_name(value.text.as_bytes()).ok_or_else(|| {
                    at.unknown(&value, "body processor", BodyKind::ALL.iter().map(|kind| kind.name()))
                })?)
            }
            "ruleengine" => Ctl::RuleEngine(engine(at, &value)?),
            "ruleremovebyid" => Ctl::RemoveRules(selection(By::Id(ids(at, &value)?))),
            "ruleremovebytag" => Ctl::RemoveRules(selection(By::Tag(text_pattern(at, &value)?))),
            "ruleremovebymsg" => Ctl::RemoveRules(selection(By::Message(text_pattern(at, &value)?))),
            "ruleremovetargetbyid" => {
                return self.remove_target(at, &value, |at, piece| Ok(By::Id(ids(at, piece)?)));
            }
            "ruleremovetargetbytag" => {
                return self.remove_target(at, &value, |at, piece| Ok(By::Tag(text_pattern(at, piece)?)));
            }
            "ruleremovetargetbymsg" => {
                return self.remove_target(at, &value, |at, piece| Ok(By::Message(text_pattern(at, piece)?)));
            }
            _ => {
                return Err(match REFUSED.iter().find(|row| row.0.eq_ignore_ascii_case(&name.text)) {
                    Some((_, reason)) => {
                        at.fault(name.at, format!("ctl:{} is not supported: {reason}", name.text))
                    }
                    None => at.unknown(&name, "ctl option", NAMES.iter().copied()),
                });
            }
        };
        Ok(vec![one])
    }

    /// `WHICH;TARGETS`.
    fn remove_target(
        &mut self,
        at: At<'_>,
        value: &Piece,
        which: impl Fn(At<'_>, &Piece) -> Result<By, Fault>,
    ) -> Result<Vec<Ctl>, Fault> {
        let Some((rules, targets)) = value.text.split_once(';') else {
            return Err(at.fault(value.at, format!("expected RULES;TARGET, found \"{}\"", value.text)));
        };
        let by = which(at, &Piece { text: rules.to_owned(), at: value.at })?;
        let base = value.at + rules.len() + 1;
        let raw = syntax::targets(targets).map_err(|wrong| at.fault(base + wrong.at, wrong.message))?;
        raw.iter()
            .map(|raw| {
                let mut raw = raw.clone();
                // An exclusion of XML needs no path.
                raw.negated = true;
                let target = self.target(at, &raw, base)?;
                let exclusion = Exclusion { variable: target.variable, selector: target.selector };
                Ok(Ctl::RemoveTarget(selection(by.clone()), exclusion))
            })
            .collect()
    }
}

fn selection(by: By) -> Selection {
    Selection { by, rules: Vec::new() }
}

/// `On` or `Off`.
pub(crate) fn switch(at: At<'_>, piece: &Piece) -> Result<bool, Fault> {
    match piece.text.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(at.unknown(piece, "setting", ["On", "Off"].into_iter())),
    }
}

/// `On`, `Off` or `DetectionOnly`.
pub(crate) fn engine(at: At<'_>, piece: &Piece) -> Result<EngineMode, Fault> {
    match piece.text.to_ascii_lowercase().as_str() {
        "on" => Ok(EngineMode::On),
        "off" => Ok(EngineMode::Off),
        "detectiononly" => Ok(EngineMode::DetectionOnly),
        _ => Err(at.unknown(piece, "engine mode", ["On", "Off", "DetectionOnly"].into_iter())),
    }
}

fn audit(at: At<'_>, piece: &Piece) -> Result<bool, Fault> {
    match piece.text.to_ascii_lowercase().as_str() {
        "on" | "relevantonly" => Ok(true),
        "off" => Ok(false),
        _ => Err(at.unknown(piece, "setting", ["On", "Off", "RelevantOnly"].into_iter())),
    }
}

/// A number of bytes, up to 1 GiB.
pub(crate) fn bytes(at: At<'_>, piece: &Piece) -> Result<usize, Fault> {
    number(at, piece, 0, 1 << 30).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

/// `1,5-9 12`.
pub(crate) fn ids(at: At<'_>, piece: &Piece) -> Result<Vec<(u64, u64)>, Fault> {
    let mut ranges = Vec::new();
    for part in piece.text.split([',', ' ']).filter(|part| !part.is_empty()) {
        let range = match part.split_once('-') {
            Some((first, last)) => first.trim().parse().ok().zip(last.trim().parse().ok()),
            None => part.parse().ok().map(|id| (id, id)),
        };
        match range {
            Some((first, last)) if first <= last => ranges.push((first, last)),
            _ => {
                return Err(at.fault(piece.at, format!("expected an id or a range of ids, found \"{part}\"")));
            }
        }
    }
    if ranges.is_empty() {
        return Err(at.fault(piece.at, "expected an id or a range of ids"));
    }
    Ok(ranges)
}

/// A regular expression over tags or messages.
pub(crate) fn text_pattern(at: At<'_>, piece: &Piece) -> Result<regex::Regex, Fault> {
    regex::Regex::new(&piece.text).map_err(|error| {
        let text = error.to_string();
        at.fault(
            piece.at,
            format!("no valid regular expression: {}", text.lines().last().unwrap_or_default()),
        )
    })
}
