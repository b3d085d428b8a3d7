//! From settings to rules: a text in the rules' own language that names the files in
//! their order, with what the settings say before, between and behind them.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use waf::{EngineMode, Options, RuleSet, SourceFault, resolve};

use super::super::decoder::Decoder;
use super::super::node::At;
use super::super::sources::Sources;
use super::super::{Fault, Files, Severity};
use super::{Excluded, Exclusion, WafMode, WafSettings};

/// Largest rule or data file, bytes.
const FILE_BYTES_MAX: usize = 16 << 20;
/// Name of the text that is made here.
const SETTINGS: &str = "(waf settings)";
/// The file by which a folder is known to be a release of the Core Rule Set.
pub const CRS_MARK: &str = "rules/REQUEST-901-INITIALIZATION.conf";
/// Where Debian keeps the setup file that belongs to `/usr/share/modsecurity-crs`.
const DEBIAN: (&str, &str) = ("/usr/share/modsecurity-crs", "/etc/modsecurity/crs/crs-setup.conf");

/// What the engine is set to before a Core Rule Set is read: bodies are parsed, and one
/// that cannot be parsed is refused.
const BASE: &str = r#"
SecRequestBodyAccess On
SecRequestBodyLimit 13107200
SecRequestBodyNoFilesLimit 131072
SecRequestBodyLimitAction Reject
SecRequestBodyJsonDepthLimit 512
SecArgumentsLimit 1000
SecResponseBodyAccess Off
SecResponseBodyMimeType text/plain text/html text/xml application/json
SecResponseBodyLimit 524288
SecResponseBodyLimitAction ProcessPartial
SecRule REQUEST_HEADERS:Content-Type "@rx (?i)^(?:application|text)/(?:[a-z0-9.-]+\+)?xml" \
    "id:8000001,phase:1,pass,nolog,t:none,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "@rx (?i)^application/(?:[a-z0-9.-]+\+)?json" \
    "id:8000002,phase:1,pass,nolog,t:none,ctl:requestBodyProcessor=JSON"
SecRule REQBODY_ERROR "!@eq 0" \
    "id:8000003,phase:2,deny,status:400,log,t:none,severity:2,\
    msg:'The request body could not be parsed',logdata:'%{reqbody_error_msg}'"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" \
    "id:8000004,phase:2,deny,status:400,log,t:none,severity:2,\
    msg:'The multipart body is not strictly formed'"
SecRule MULTIPART_UNMATCHED_BOUNDARY "@eq 1" \
    "id:8000005,phase:2,deny,status:400,log,t:none,severity:2,\
    msg:'The multipart body holds lines that could be boundaries'"
"#;

/// Loads the rules of these settings by themselves, for tools: as the configuration would
/// that says the same.
///
/// # Errors
/// Everything that is wrong with them.
pub fn load_rules(settings: &WafSettings, files: &dyn Files) -> Result<RuleSet, Vec<Fault>> {
    let mut decoder = Decoder::new(Sources::new(&|_| None, files));
    decoder.sources.number(Path::new("rules"));
    let Some(text) = decoder.waf_text(At::default(), settings) else {
        return Err(decoder.into_findings().0);
    };
    decoder.waf_load_text(text, settings).map_err(|faults| {
        let whole = |fault: waf::Fault| Fault {
            severity: Severity::Fault,
            file: PathBuf::from(&*fault.place.file),
            line: fault.place.line,
            column: fault.place.column,
            message: fault.message,
            suggestion: fault.suggestion.map(|name| format!("did you mean {name:?}?")),
        };
        let mut all: Vec<Fault> = faults.faults.into_iter().map(whole).collect();
        if faults.further > 0 {
            all.push(Fault::whole_file(Path::new("rules"), format!("and {} more faults", faults.further)));
        }
        all
    })
}

impl Decoder<'_> {
    fn waf_load_text(&mut self, text: String, settings: &WafSettings) -> Result<RuleSet, waf::LoadFaults> {
        let options = Options {
            engine: Some(match settings.mode {
                WafMode::Block => EngineMode::On,
                WafMode::Detect | WafMode::Off => EngineMode::DetectionOnly,
            }),
            ..Options::default()
        };
        let source = RuleSources { settings: text, sources: RefCell::new(&mut self.sources) };
        RuleSet::load(&source, &[SETTINGS], &options)
    }

    /// Loads the rules of these settings; what is wrong with them is recorded.
    pub(super) fn waf_rules(&mut self, at: At, settings: &WafSettings) -> Option<RuleSet> {
        let text = self.waf_text(at, settings)?;
        match self.waf_load_text(text, settings) {
            Ok(rules) => Some(rules),
            Err(faults) => {
                for fault in &faults.faults {
                    self.fault(at, fault.to_string());
                }
                if faults.further > 0 {
                    self.fault(at, format!("and {} more faults in rule files", faults.further));
                }
                None
            }
        }
    }

    /// The text that names everything.
    fn waf_text(&mut self, at: At, settings: &WafSettings) -> Option<String> {
        let mut text = String::new();
        let mut crs = false;
        for path in &settings.rules {
            if self.is_crs(path) {
                if crs {
                    self.fault(at, format!("{} is a second Core Rule Set", path.display()));
                    return None;
                }
                crs = true;
                let Some(setup) = self.crs_setup(path) else {
                    let message =
                        format!("{} has neither crs-setup.conf nor crs-setup.conf.example", path.display());
                    self.advise(at, message, "unpack a whole release of the Core Rule Set");
                    return None;
                };
                text.push_str(BASE);
                include(&mut text, &setup);
                core_rule_set(&mut text, settings);
                include(&mut text, &path.join("rules/*.conf"));
            } else {
                match self.sources.glob(path) {
                    Ok(found) if found.is_empty() => {
                        self.fault(at, format!("{} matches no rule file", path.display()));
                        return None;
                    }
                    Ok(_) => include(&mut text, path),
                    Err(reason) => {
                        self.fault(at, reason);
                        return None;
                    }
                }
            }
        }
        if !crs && names_core_rule_set(settings) {
            self.advise(
                at,
                "paranoia and thresholds are settings of the Core Rule Set, and rules names no folder of one",
                "name the folder of a release, or set them in the rule files",
            );
            return None;
        }
        bodies(&mut text, settings);
        for exclusion in &settings.exclusions {
            exclude(&mut text, exclusion);
        }
        Some(text)
    }

    fn is_crs(&mut self, path: &Path) -> bool {
        self.sources.exists(&path.join(CRS_MARK))
    }

    fn crs_setup(&mut self, path: &Path) -> Option<PathBuf> {
        let mut places = vec![path.join("crs-setup.conf")];
        if path == Path::new(DEBIAN.0) {
            places.push(PathBuf::from(DEBIAN.1));
        }
        places.push(path.join("crs-setup.conf.example"));
        places.into_iter().find(|place| self.sources.exists(place))
    }
}

fn include(text: &mut String, path: &Path) {
    let _ = writeln!(text, "Include \"{}\"", path.display());
}

fn names_core_rule_set(settings: &WafSettings) -> bool {
    settings.paranoia.is_some()
        || settings.paranoia_detection.is_some()
        || settings.threshold_inbound.is_some()
        || settings.threshold_outbound.is_some()
}

/// What is set between the setup file and the rules.
fn core_rule_set(text: &mut String, settings: &WafSettings) {
    let detection = settings.paranoia_detection.or(settings.paranoia).map(u32::from);
    let blocking = settings.paranoia.map(u32::from);
    let values = [
        ("blocking_paranoia_level", blocking),
        ("detection_paranoia_level", detection),
        // As version 3.3 calls them, which Debian carries.
        ("paranoia_level", blocking),
        ("executing_paranoia_level", detection),
        ("inbound_anomaly_score_threshold", settings.threshold_inbound),
        ("outbound_anomaly_score_threshold", settings.threshold_outbound),
    ];
    let set: String = values
        .iter()
        .filter_map(|(name, value)| value.map(|value| format!(",setvar:tx.{name}={value}")))
        .collect();
    if !set.is_empty() {
        let _ = writeln!(text, "SecAction \"id:8000010,phase:1,pass,nolog,t:none{set}\"");
    }
}

/// What the settings say of bodies, behind the files: it counts.
fn bodies(text: &mut String, settings: &WafSettings) {
    let on = |on: bool| if on { "On" } else { "Off" }.to_owned();
    let over = |partial: bool| if partial { "ProcessPartial" } else { "Reject" }.to_owned();
    let (request, response) = (&settings.request_body, &settings.response_body);
    let types = (!response.types.is_empty()).then(|| response.types.join(" "));
    let values = [
        ("SecRequestBodyAccess", request.access.map(on)),
        ("SecRequestBodyLimit", request.limit.map(|limit| limit.to_string())),
        ("SecRequestBodyNoFilesLimit", request.no_files_limit.map(|limit| limit.to_string())),
        ("SecRequestBodyLimitAction", request.partial.map(over)),
        ("SecResponseBodyAccess", response.access.map(on)),
        ("SecResponseBodyLimit", response.limit.map(|limit| limit.to_string())),
        ("SecResponseBodyLimitAction", response.partial.map(over)),
        ("SecResponseBodyMimeTypesClear", types.as_ref().map(|_| String::new())),
        ("SecResponseBodyMimeType", types),
    ];
    for (directive, value) in values {
        if let Some(value) = value {
            let _ = writeln!(text, "{}", format!("{directive} {value}").trim_end());
        }
    }
}

fn exclude(text: &mut String, exclusion: &Exclusion) {
    let (way, which) = match &exclusion.which {
        Excluded::Rules(first, last) if first == last => ("Id", first.to_string()),
        Excluded::Rules(first, last) => ("Id", format!("{first}-{last}")),
        Excluded::Tag(tag) => ("Tag", format!("^{}$", tag.replace('.', "\\."))),
    };
    let _ = match &exclusion.target {
        None => writeln!(text, "SecRuleRemoveBy{way} \"{which}\""),
        Some(target) => writeln!(text, "SecRuleUpdateTargetBy{way} \"{which}\" \"!{target}\""),
    };
}

/// The text of the settings, and everything else from where the configuration comes
/// from, so that a change of any rule file is seen.
struct RuleSources<'s, 'f> {
    settings: String,
    sources: RefCell<&'s mut Sources<'f>>,
}

impl waf::Sources for RuleSources<'_, '_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceFault> {
        if path == SETTINGS {
            return Ok(self.settings.clone().into_bytes());
        }
        self.sources.borrow_mut().read(Path::new(path), FILE_BYTES_MAX).map_err(SourceFault)
    }

    fn glob(&self, pattern: &str, from: &str) -> Result<Vec<String>, SourceFault> {
        let pattern = if from == SETTINGS { pattern.to_owned() } else { resolve(from, pattern) };
        let found = self.sources.borrow_mut().glob(Path::new(&pattern)).map_err(SourceFault)?;
        Ok(found.into_iter().map(|path| path.display().to_string()).collect())
    }
}
