//! What an inspection found, as JSON: in the audit event and as a line of the
//! firewall's log.

use std::io::Write as _;

use model::RequestId;
use model::Timestamp;

use super::mask::{mask, mask_name};
use super::{Inspection, Stopped};

/// Rules that a record lists; further ones are counted.
const RULES_MAX: usize = 128;
/// Longest list of rules that it has, bytes: with what stands around it no longer than the audit
/// event keeps whole. Further rules are counted.
const RULES_BYTES_MAX: usize = audit::record::FIREWALL_BYTES_MAX - 4096;
/// Longest text that it keeps, bytes.
const TEXT_BYTES_MAX: usize = 512;
/// Tags of one rule that it keeps.
const TAGS_MAX: usize = 24;

/// What the line of the firewall's log says besides what was found.
pub(crate) struct Line<'a> {
    pub(crate) time: Timestamp,
    pub(crate) id: RequestId,
    pub(crate) client_address: &'a str,
    pub(crate) client_port: u16,
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) route: &'a str,
    /// `User::alice`; empty for nobody in particular.
    pub(crate) principal: &'a str,
    /// The step that answered.
    pub(crate) step: &'a str,
    pub(crate) status: u16,
}

impl Line<'_> {
    /// Appends the line of an inspection with this record, newline included. Its first key
    /// is no `id`: readers look for rules by that name.
    pub(crate) fn append(&self, record: &[u8], out: &mut Vec<u8>) {
        let _ = write!(out, "{{\"time\":{},\"request\":\"", self.time.unix_millis());
        out.extend_from_slice(&self.id.to_ascii());
        out.push(b'"');
        text(out, "client_address", self.client_address);
        let _ = write!(out, ",\"client_port\":{}", self.client_port);
        text(out, "method", self.method);
        text(out, "host", self.host);
        text(out, "path", self.path);
        text(out, "route", self.route);
        text(out, "principal", self.principal);
        text(out, "step", self.step);
        let _ = write!(out, ",\"status\":{},", self.status);
        // The record's own members follow.
        out.extend_from_slice(record.strip_prefix(b"{").unwrap_or(b"}"));
        out.push(b'\n');
    }
}

impl Inspection {
    /// Appends `{"mode":…,"verdict":…,"rule":…,"unread":…,"unfinished":…,"scores":…,
    /// "rules":[…]}`.
    pub(crate) fn append_record(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.append_findings(out);
        out.push(b'}');
    }

    fn append_findings(&self, out: &mut Vec<u8>) {
        let (verdict, rule) = match self.stopped() {
            Some(Stopped::Deny { rule, .. } | Stopped::Drop { rule } | Stopped::Redirect { rule, .. }) => {
                ("blocked", *rule)
            }
            Some(Stopped::Unreadable { .. } | Stopped::Unable) => ("blocked", 0),
            None if self.has_findings() => ("detected", 0),
            None => ("passed", 0),
        };
        let _ = write!(out, "\"mode\":\"{}\",\"verdict\":\"{verdict}\"", self.mode().name());
        if rule != 0 {
            let _ = write!(out, ",\"rule\":{rule}");
        }
        if let Some(rule) = self.intended().filter(|_| self.stopped().is_none()) {
            let _ = write!(out, ",\"intended\":{rule}");
        }
        if let Some((side, why)) = self.unread() {
            let _ = write!(out, ",\"unread\":{{\"body\":\"{}\"", side.name());
            text(out, "why", &why.to_string());
            out.push(b'}');
        }
        if self.is_unfinished() {
            out.extend_from_slice(b",\"unfinished\":true");
        }
        append_scores(out, self.scores());
        out.extend_from_slice(b",\"rules\":[");
        let (start, mut further) = (out.len(), 0_usize);
        for (number, found) in self.found().enumerate() {
            if further > 0 || number >= RULES_MAX {
                further += 1;
                continue;
            }
            let end = out.len();
            if number > 0 {
                out.push(b',');
            }
            append_match(out, found);
            if out.len() - start > RULES_BYTES_MAX {
                out.truncate(end);
                further += 1;
            }
        }
        out.push(b']');
        let further = further as u64 + self.matches_further();
        if further > 0 {
            let _ = write!(out, ",\"further\":{further}");
        }
    }
}

/// The scores, and where rules keep some by level, what they were held against: enough to
/// tell later what other settings would have come to.
fn append_scores(out: &mut Vec<u8>, scores: Option<waf::Scores>) {
    let scores = scores.unwrap_or_default();
    let _ = write!(out, ",\"scores\":{{\"inbound\":{},\"outbound\":{}", scores.inbound, scores.outbound);
    for (side, levels) in
        [("inbound_levels", scores.inbound_levels), ("outbound_levels", scores.outbound_levels)]
    {
        if levels != [0; waf::LEVELS] {
            let _ = write!(out, ",\"{side}\":{levels:?}");
        }
    }
    out.push(b'}');
    if scores.paranoia > 0 {
        let _ = write!(
            out,
            ",\"paranoia\":{},\"paranoia_detection\":{},\"thresholds\":{{\"inbound\":{},\"outbound\":{}}}",
            scores.paranoia, scores.paranoia_detection, scores.threshold_inbound, scores.threshold_outbound
        );
    }
}

fn append_match(out: &mut Vec<u8>, found: &waf::Match) {
    let _ = write!(out, "{{\"id\":{},\"phase\":{}", found.rule, found.phase);
    if let Some(severity) = found.severity {
        let _ = write!(out, ",\"severity\":{severity}");
    }
    text(out, "msg", &mask("", &found.message));
    text(out, "data", &mask(&found.variable, &found.log_data));
    text(out, "variable", &mask_name(&found.variable));
    out.extend_from_slice(b",\"tags\":[");
    for (number, tag) in found.tags.iter().take(TAGS_MAX).enumerate() {
        if number > 0 {
            out.push(b',');
        }
        quoted(out, tag);
    }
    out.push(b']');
    append_effects(out, found);
    out.push(b'}');
}

/// What the match did besides being written down.
fn append_effects(out: &mut Vec<u8>, found: &waf::Match) {
    let side = |side| match side {
        waf::Side::Inbound => "inbound",
        waf::Side::Outbound => "outbound",
    };
    for (number, raise) in found.raises.iter().enumerate() {
        let before = if number == 0 { ",\"adds\":[" } else { "," };
        let (amount, level) = (raise.amount, raise.level);
        let _ =
            write!(out, "{before}{{\"side\":\"{}\",\"level\":{level},\"score\":{amount}}}", side(raise.side));
    }
    if !found.raises.is_empty() {
        out.push(b']');
    }
    if let Some(judged) = found.judges {
        let _ = write!(out, ",\"judges\":\"{}\"", side(judged));
    }
    let is = [
        ("settles", found.settles),
        ("disruptive", found.disruptive),
        ("chain", found.is_chain),
        ("more", found.does_more),
    ];
    for (name, is) in is {
        if is {
            let _ = write!(out, ",\"{name}\":true");
        }
    }
}

/// `,"name":"text"`
fn text(out: &mut Vec<u8>, name: &str, text: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    quoted(out, text);
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let start = out.len();
    if serde_json::to_writer(&mut *out, text.get(..end).unwrap_or_default()).is_err() {
        // A text is always JSON; should it not be, the line must still be.
        out.truncate(start);
        out.extend_from_slice(b"\"\"");
    }
}

#[cfg(test)]
mod tests;
