//! Directives that set a value.

use super::{
    ctl::{bytes, engine, switch},
    fault::Fault,
    lexer::{Statement, Text},
    rules::{At, Builder},
    syntax::Piece,
};
use crate::{seclang::actions::number, settings::LimitAction, sources::resolve};

/// Most media types of `SecResponseBodyMimeType`.
const TYPES_MAX: usize = 256;

/// Directives that are accepted and change nothing here; ignoring them weakens no rule.
pub(super) const NOTED: &[(&str, &str)] = &[
    ("SecAuditEngine", "what is logged is the caller's configuration"),
    ("SecAuditLog", "what is logged is the caller's configuration"),
    ("SecAuditLog2", "what is logged is the caller's configuration"),
    ("SecAuditLogDirMode", "what is logged is the caller's configuration"),
    ("SecAuditLogFileMode", "what is logged is the caller's configuration"),
    ("SecAuditLogFormat", "what is logged is the caller's configuration"),
    ("SecAuditLogParts", "what is logged is the caller's configuration"),
    ("SecAuditLogPrefix", "what is logged is the caller's configuration"),
    ("SecAuditLogRelevantStatus", "what is logged is the caller's configuration"),
    ("SecAuditLogStorageDir", "what is logged is the caller's configuration"),
    ("SecAuditLogType", "what is logged is the caller's configuration"),
    ("SecCacheTransformations", "results are always shared"),
    ("SecChrootDir", "the process is confined by its supervisor"),
    ("SecDataDir", "collections are held in memory"),
    ("SecDebugLog", "what is logged is the caller's configuration"),
    ("SecDebugLogLevel", "what is logged is the caller's configuration"),
    ("SecGuardianLog", "what is logged is the caller's configuration"),
    ("SecPcreMatchLimit", "regular expressions run in linear time"),
    ("SecPcreMatchLimitRecursion", "regular expressions run in linear time"),
    ("SecRequestBodyInMemoryLimit", "bodies are held in memory up to SecRequestBodyLimit"),
    ("SecRulePerfTime", "use `bastide waf test` to time rules"),
    ("SecServerSignature", "the Server header is the caller's configuration"),
    ("SecStatusEngine", "nothing is reported to anybody"),
    ("SecTmpDir", "no temporary files are written"),
    ("SecTmpSaveUploadedFiles", "no temporary files are written"),
    ("SecUnicodeMapFile", "the map of code page 20127 is built in"),
    ("SecUploadDir", "no temporary files are written"),
    ("SecUploadFileMode", "no temporary files are written"),
    ("SecUploadKeepFiles", "no temporary files are written"),
];

/// Directives that are accepted only with the value that asks for nothing.
pub(super) const ONLY_OFF: &[(&str, &str)] = &[
    ("SecConnEngine", "connections are limited by the server's own configuration"),
    ("SecContentInjection", "answers are not rewritten"),
    ("SecDisableBackendCompression", "set the upstream's Accept-Encoding instead"),
    ("SecHashEngine", "links of answers are not rewritten"),
    ("SecInterceptOnError", "an error is always a denial"),
    ("SecParseXmlIntoArgs", "XML text is read through XML:/* and XML://@*"),
    ("SecStreamInBodyInspection", "bodies are not rewritten; use REQUEST_BODY"),
    ("SecStreamOutBodyInspection", "bodies are not rewritten; use RESPONSE_BODY"),
    ("SecXmlExternalEntity", "external entities are never read"),
];

/// Directives that are refused, with the reason.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("SecConnReadStateLimit", "connections are limited by the server's own configuration"),
    ("SecConnWriteStateLimit", "connections are limited by the server's own configuration"),
    ("SecReadStateLimit", "connections are limited by the server's own configuration"),
    ("SecWriteStateLimit", "connections are limited by the server's own configuration"),
    ("SecGsbLookupDb", "the service behind it is gone"),
    ("SecHashKey", "links of answers are not rewritten"),
    ("SecHashMethodPm", "links of answers are not rewritten"),
    ("SecHashMethodRx", "links of answers are not rewritten"),
    ("SecHashParam", "links of answers are not rewritten"),
    ("SecHttpBlKey", "@rbl is not supported"),
    ("SecRemoteRules", "rules are read from files only"),
    ("SecRemoteRulesFailAction", "rules are read from files only"),
    ("SecRuleInheritance", "a rule set has one context"),
    ("SecRuleScript", "rules run no scripts"),
];

/// Directives that set a value; the table of [`Builder::set`].
pub(super) const NAMES: &[&str] = &[
    "SecArgumentSeparator",
    "SecArgumentsLimit",
    "SecCollectionTimeout",
    "SecComponentSignature",
    "SecCookieFormat",
    "SecCookieV0Separator",
    "SecGeoLookupDb",
    "SecRequestBodyAccess",
    "SecRequestBodyJsonDepthLimit",
    "SecRequestBodyLimit",
    "SecRequestBodyLimitAction",
    "SecRequestBodyNoFilesLimit",
    "SecResponseBodyAccess",
    "SecResponseBodyLimit",
    "SecResponseBodyLimitAction",
    "SecResponseBodyMimeType",
    "SecResponseBodyMimeTypesClear",
    "SecRuleEngine",
    "SecSensorId",
    "SecUploadFileLimit",
    "SecWebAppId",
];

impl Builder<'_> {
    /// Sets a value; `name` is lower case. False when it is no such directive.
    pub(super) fn set(&mut self, text: &Text, statement: &Statement, name: &str) -> Result<bool, Fault> {
        if !NAMES.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Ok(false);
        }
        if name == "secresponsebodymimetypesclear" {
            self.settings.response_body_types.clear();
            return Ok(true);
        }
        if name == "secresponsebodymimetype" {
            self.media_types(text, statement)?;
            return Ok(true);
        }
        let [word] = statement.words.as_slice() else {
            let message = format!("expected: {} VALUE", statement.name.text);
            return Err(text.fault(statement.name.offset(0), message));
        };
        let at = At { text, word };
        let piece = Piece { text: word.text.clone(), at: 0 };
        self.set_one(at, &piece, name)?;
        Ok(true)
    }

    fn set_one(&mut self, at: At<'_>, piece: &Piece, name: &str) -> Result<(), Fault> {
        let count = |min, max| {
            number(at, piece, min, max).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
        };
        let one_byte = || match piece.text.as_bytes() {
            [byte] => Ok(*byte),
            _ => Err(at.fault(0, format!("expected one character, found \"{}\"", piece.text))),
        };
        let set = &mut self.settings;
        match name {
            "secargumentseparator" => set.argument_separator = one_byte()?,
            "secargumentslimit" => set.arguments_max = count(1, 1_000_000)?,
            "seccollectiontimeout" => set.collection_timeout_s = number(at, piece, 1, u64::from(u32::MAX))?,
            "seccomponentsignature" => set.component_signatures.push(piece.text.clone()),
            "seccookieformat" => set.cookie_format = u8::try_from(number(at, piece, 0, 1)?).unwrap_or(0),
            "seccookiev0separator" => set.cookie_separator = one_byte()?,
            "secgeolookupdb" => self.geo_path = Some(resolve(at.text.name(), &piece.text)),
            "secrequestbodyaccess" => set.request_body_access = switch(at, piece)?,
            "secrequestbodyjsondepthlimit" => set.json_depth_max = count(1, 100_000)?,
            "secrequestbodylimit" => set.request_body_bytes_max = bytes(at, piece)?,
            "secrequestbodylimitaction" => set.request_body_limit_action = limit_action(at, piece)?,
            "secrequestbodynofileslimit" => set.request_body_no_files_bytes_max = bytes(at, piece)?,
            "secresponsebodyaccess" => set.response_body_access = switch(at, piece)?,
            "secresponsebodylimit" => set.response_body_bytes_max = bytes(at, piece)?,
            "secresponsebodylimitaction" => set.response_body_limit_action = limit_action(at, piece)?,
            "secruleengine" => set.engine = engine(at, piece)?,
            "secsensorid" => set.sensor_id.clone_from(&piece.text),
            "secuploadfilelimit" => set.files_max = count(0, 100_000)?,
            "secwebappid" => set.web_app_id.clone_from(&piece.text),
            _ => {}
        }
        Ok(())
    }

    fn media_types(&mut self, text: &Text, statement: &Statement) -> Result<(), Fault> {
        let types: Vec<_> = statement
            .words
            .iter()
            .flat_map(|word| word.text.split_whitespace())
            .map(str::to_ascii_lowercase)
            .collect();
        // The first directive stands in the place of what is preset, further ones add to it.
        let set = &mut self.settings.response_body_types;
        if !std::mem::replace(&mut self.media_types_named, true) {
            set.clear();
        }
        let known = set.len();
        for name in &types {
            if !set.contains(name) {
                set.push(name.clone());
            }
        }
        if types.is_empty() || set.len() > TYPES_MAX {
            set.truncate(known);
            let message = format!("expected 1 to {TYPES_MAX} media types in all");
            return Err(text.fault(statement.name.offset(0), message));
        }
        Ok(())
    }
}

fn limit_action(at: At<'_>, piece: &Piece) -> Result<LimitAction, Fault> {
    match piece.text.to_ascii_lowercase().as_str() {
        "reject" => Ok(LimitAction::Reject),
        "processpartial" => Ok(LimitAction::ProcessPartial),
        _ => Err(at.unknown(piece, "setting", ["Reject", "ProcessPartial"].into_iter())),
    }
}
