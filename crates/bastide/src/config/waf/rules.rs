//! From settings to rules: a text in the rules' own language that names the files in
//! their order. Each different text is compiled once; what else settings say lies over
//! the compiled rules, so that a route with an exclusion of its own costs next to nothing.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use waf::{
    Chosen, EngineMode, Excluded as Taken, LimitAction, Options, Overlay, RuleSet, SourceFault, resolve,
};

use super::super::decoder::Decoder;
use super::super::node::At;
use super::super::sources::Sources;
use super::super::{Fault, Files, Severity};
use super::{Excluded, Exclusion, WafMode, WafSettings, Written};

/// Largest rule or data file, bytes.
const FILE_BYTES_MAX: usize = 16 << 20;
/// Name of the text that is made here.
const SETTINGS: &str = "(waf settings)";
/// The file by which a folder is known to be a release of the Core Rule Set.
pub const CRS_MARK: &str = "rules/REQUEST-901-INITIALIZATION.conf";
/// Where Debian keeps the setup file that belongs to `/usr/share/modsecurity-crs`.
const DEBIAN: (&str, &str) = ("/usr/share/modsecurity-crs", "/etc/modsecurity/crs/crs-setup.conf");

/// What the engine is set to before a Core Rule Set is read: bodies are parsed, and one
/// that cannot be parsed is refused. The fourth rule has each flag of `MULTIPART_STRICT_ERROR`
/// so that the log names it, but that of a boundary in quotes: the standard wants those around
/// some, and readers agree on them.
const BASE: &str = r#"
SecRuleEngine On
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
SecRule MULTIPART_BOUNDARY_WHITESPACE|MULTIPART_DATA_BEFORE|MULTIPART_DATA_AFTER|\
MULTIPART_HEADER_FOLDING|MULTIPART_INVALID_HEADER_FOLDING|MULTIPART_LF_LINE|MULTIPART_MISSING_SEMICOLON|\
MULTIPART_INVALID_QUOTING|MULTIPART_INVALID_PART|MULTIPART_FILE_LIMIT_EXCEEDED "!@eq 0" \
    "id:8000004,phase:2,deny,status:400,log,t:none,severity:2,\
    msg:'The multipart body is not strictly formed',logdata:'%{matched_var_name}'"
SecRule MULTIPART_UNMATCHED_BOUNDARY "@eq 1" \
    "id:8000005,phase:2,deny,status:400,log,t:none,severity:2,\
    msg:'The multipart body holds lines that could be boundaries'"
"#;

/// What the engine is set to before rules that come without a Core Rule Set: they count, and bodies are
/// looked at, unless the files say that they do not and are not.
const OWN: &str = "SecRuleEngine On\nSecRequestBodyAccess On\n";

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
    let whole = |fault: waf::Fault| Fault {
        severity: Severity::Fault,
        file: if is_ours(&fault) { PathBuf::from("rules") } else { PathBuf::from(&*fault.place.file) },
        line: if is_ours(&fault) { 0 } else { fault.place.line },
        column: if is_ours(&fault) { 0 } else { fault.place.column },
        message: fault.message,
        suggestion: fault.suggestion.map(|name| format!("did you mean {name:?}?")),
        count: 1,
    };
    let shared = decoder.waf_load_text(&text).map_err(|faults| {
        let mut all: Vec<Fault> = faults.faults.into_iter().map(whole).collect();
        if faults.further > 0 {
            let message = format!("{} further faults are not listed", faults.further);
            all.push(Fault { count: faults.further, ..Fault::whole_file(Path::new("rules"), message) });
        }
        all
    })?;
    let mut settings = settings.clone();
    settings.follow(&shared);
    shared.overlaid(&overlay(&shared, &settings)).map_err(|fault| vec![whole(fault)])
}

/// Whether it stands in the text that is made here, which is nobody's file.
fn is_ours(fault: &waf::Fault) -> bool {
    &*fault.place.file == SETTINGS
}

/// What the settings set of the Core Rule Set: the variable that an overlay sets, and those of
/// the rules that get its value; version 3.3, which Debian carries, has other names.
const VARIABLES: [(&str, &[&str]); 6] = [
    ("set_paranoia", &["blocking_paranoia_level", "paranoia_level"]),
    ("set_paranoia_detection", &["detection_paranoia_level", "executing_paranoia_level"]),
    ("set_threshold_inbound", &["inbound_anomaly_score_threshold"]),
    ("set_threshold_outbound", &["outbound_anomaly_score_threshold"]),
    ("set_methods", &["allowed_methods"]),
    ("set_content_types", &["allowed_request_content_type"]),
];

/// The rule sets that were compiled so far, each by the text that names its files; none
/// where the files are at fault.
#[derive(Default)]
pub(super) struct Compiled {
    sets: Vec<(String, Option<Arc<RuleSet>>)>,
    /// Warnings that were given: a default's exclusion is every route's.
    told: HashSet<String>,
}

impl Decoder<'_> {
    /// The rules of the files that these settings name; what is wrong with them is recorded.
    pub(super) fn waf_shared(
        &mut self,
        whole: At,
        settings: &WafSettings,
        written: &Written,
        compiled: &mut Compiled,
    ) -> Option<Arc<RuleSet>> {
        // Settings of a route over a default's rules: the fault is where those are named.
        let named = if written.rules.line > 0 { written.rules } else { whole };
        let text = self.waf_text(named, settings)?;
        match compiled.sets.iter().find(|(known, _)| *known == text) {
            Some((_, set)) => set.clone(),
            None => {
                let set = self.waf_compile(named, &text).map(Arc::new);
                compiled.sets.push((text, set.clone()));
                set
            }
        }
    }

    /// Settles the mode; where it is not written, as the rule files say.
    pub(super) fn waf_mode(
        &mut self,
        at: At,
        settings: &mut WafSettings,
        shared: &RuleSet,
        compiled: &mut Compiled,
    ) {
        if settings.mode_is_settled {
            return;
        }
        settings.follow(shared);
        let word = match settings.mode {
            WafMode::Block => return,
            WafMode::Detect => "DetectionOnly",
            WafMode::Off => "Off",
        };
        // Of each set of files once, however many routes have it.
        if compiled.told.insert(format!("{word} of {:?}", settings.rules)) {
            let message = format!("no attack is refused: the rule files say SecRuleEngine {word}");
            self.warn(at, message, "write mode: block; or mode: detect or off, if that is meant");
        }
    }

    /// Lays what these settings say over the rules; what is wrong with it is recorded.
    pub(super) fn waf_rules(
        &mut self,
        whole: At,
        settings: &WafSettings,
        written: &Written,
        shared: &RuleSet,
        compiled: &mut Compiled,
    ) -> Option<RuleSet> {
        match shared.overlaid(&overlay(shared, settings)) {
            Ok(rules) => {
                let notes = rules.notes().iter().skip(shared.notes().len());
                let new: Vec<&str> = notes
                    .map(|note| note.message.as_str())
                    .filter(|message| compiled.told.insert((*message).to_owned()))
                    .collect();
                if !new.is_empty() {
                    // Each exclusion is laid once, however many of them match nothing.
                    let own = |laid: RuleSet| {
                        let notes = laid.notes().iter().skip(shared.notes().len());
                        notes.map(|note| note.message.clone()).collect::<Vec<_>>()
                    };
                    let said: Vec<_> = exclusions_alone(shared, settings, written)
                        .map(|(at, laid)| (at, laid.map(own).unwrap_or_default()))
                        .collect();
                    for message in new {
                        let found = said.iter().find(|(_, own)| own.iter().any(|note| note == message));
                        let at = found.map_or(whole, |(at, _)| *at);
                        self.warn(at, message.to_owned(), "see the ids and tags in the rule files");
                    }
                }
                Some(rules)
            }
            Err(fault) => {
                let faulty = exclusions_alone(shared, settings, written).find(|(_, laid)| laid.is_err());
                let at = faulty.map_or(whole, |(at, _)| at);
                let message = format!("an exclusion's target: {}", fault.message);
                match fault.suggestion {
                    Some(near) => self.advise(at, message, format!("did you mean {near:?}?")),
                    None => self.fault(at, message),
                }
                None
            }
        }
    }

    fn waf_load_text(&mut self, text: &str) -> Result<RuleSet, waf::LoadFaults> {
        let source = RuleSources { settings: text, sources: RefCell::new(&mut self.sources) };
        RuleSet::load(&source, &[SETTINGS], &Options::default())
    }

    fn waf_compile(&mut self, at: At, text: &str) -> Option<RuleSet> {
        match self.waf_load_text(text) {
            Ok(rules) => Some(rules),
            Err(faults) => {
                for fault in &faults.faults {
                    // What could not be read is named by the reason too.
                    let reason = fault.message.find("cannot read ").and_then(|at| fault.message.get(at..));
                    let own = || reason.unwrap_or(&fault.message).to_owned();
                    self.fault(at, if is_ours(fault) { own() } else { fault.to_string() });
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
                core_rule_set(&mut text);
                // In the order that the release documents (plugins/README.md there).
                for part in
                    ["plugins/*-config.conf", "plugins/*-before.conf", "rules/*.conf", "plugins/*-after.conf"]
                {
                    let part = path.join(part);
                    match self.sources.glob(&part) {
                        Ok(found) if found.is_empty() => {}
                        Ok(_) => include(&mut text, &part),
                        Err(reason) => {
                            self.fault(at, reason);
                            return None;
                        }
                    }
                }
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
                "paranoia, thresholds, methods and content_types are settings of the Core Rule Set, and rules names no folder of one",
                "name the folder of a release, or set them in the rule files",
            );
            return None;
        }
        if !crs {
            text.insert_str(0, OWN);
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
        || !settings.methods.is_empty()
        || !settings.content_types.is_empty()
}

/// Between the setup file and the rules: what an overlay sets counts, not the setup file.
fn core_rule_set(text: &mut String) {
    for ((set, names), id) in VARIABLES.iter().zip(8_000_010..) {
        let gets: String = names.iter().map(|name| format!(",setvar:tx.{name}=%{{tx.{set}}}")).collect();
        let _ = writeln!(text, "SecRule &TX:{set} \"@eq 1\" \"id:{id},phase:1,pass,nolog,t:none{gets}\"");
    }
}

impl WafSettings {
    /// Takes the mode that the rule files say, unless it is settled.
    fn follow(&mut self, rules: &RuleSet) {
        if !self.mode_is_settled {
            self.settle_mode(match rules.settings().engine {
                EngineMode::On => WafMode::Block,
                EngineMode::DetectionOnly => WafMode::Detect,
                EngineMode::Off => WafMode::Off,
            });
        }
    }
}

/// Each exclusion with where it is written, laid over the rules by itself.
fn exclusions_alone(
    shared: &RuleSet,
    settings: &WafSettings,
    written: &Written,
) -> impl Iterator<Item = (At, Result<RuleSet, waf::Fault>)> {
    let mut alone = overlay(shared, settings);
    let each = std::mem::take(&mut alone.exclusions).into_iter().zip(&written.exclusions);
    each.map(move |(exclusion, at)| {
        alone.exclusions = vec![exclusion];
        (*at, shared.overlaid(&alone))
    })
}

/// What the settings say besides the files.
fn overlay(shared: &RuleSet, settings: &WafSettings) -> Overlay {
    let detection = settings.paranoia_detection.or(settings.paranoia).map(u32::from);
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    // As the setup file writes them.
    let types = settings.content_types.iter().map(|media_type| format!("|{media_type}|"));
    let list = |words: Vec<String>| (!words.is_empty()).then(|| words.join(" "));
    let values = [
        number(settings.paranoia.map(u32::from)),
        number(detection),
        number(settings.threshold_inbound),
        number(settings.threshold_outbound),
        list(settings.methods.clone()),
        list(types.collect()),
    ];
    let values = VARIABLES.iter().zip(values);
    let set = values.filter_map(|((name, _), value)| Some(((*name).to_owned(), value?)));
    Overlay {
        settings: engine_settings(shared.settings().clone(), settings),
        variables: set.collect(),
        exclusions: settings.exclusions.iter().map(excluded).collect(),
    }
}

/// The engine's settings: the mode's word counts, then ours of bodies, then the files'.
fn engine_settings(mut engine: waf::Settings, settings: &WafSettings) -> waf::Settings {
    let over = |partial| if partial { LimitAction::ProcessPartial } else { LimitAction::Reject };
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let (request, response) = (&settings.request_body, &settings.response_body);
    engine.engine = match settings.mode {
        WafMode::Block => EngineMode::On,
        WafMode::Detect | WafMode::Off => EngineMode::DetectionOnly,
    };
    engine.request_body_access = request.access.unwrap_or(engine.request_body_access);
    engine.request_body_bytes_max = request.limit.map_or(engine.request_body_bytes_max, bytes);
    engine.request_body_no_files_bytes_max =
        request.no_files_limit.map_or(engine.request_body_no_files_bytes_max, bytes);
    engine.request_body_limit_action = request.partial.map_or(engine.request_body_limit_action, over);
    engine.response_body_access = response.access.unwrap_or(engine.response_body_access);
    engine.response_body_bytes_max = response.limit.map_or(engine.response_body_bytes_max, bytes);
    engine.response_body_limit_action = response.partial.map_or(engine.response_body_limit_action, over);
    if !response.types.is_empty() {
        engine.response_body_types.clone_from(&response.types);
    }
    engine
}

fn excluded(exclusion: &Exclusion) -> Taken {
    let rules = match &exclusion.which {
        Excluded::Rules(first, last) => Chosen::Ids(*first, *last),
        Excluded::Tag(tag) => Chosen::Tag(tag.clone()),
    };
    Taken { rules, target: exclusion.target.clone() }
}

/// The text of the settings, and everything else from where the configuration comes
/// from, so that a change of any rule file is seen.
struct RuleSources<'s, 'f> {
    settings: &'s str,
    sources: RefCell<&'s mut Sources<'f>>,
}

impl waf::Sources for RuleSources<'_, '_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceFault> {
        if path == SETTINGS {
            return Ok(self.settings.as_bytes().to_vec());
        }
        self.sources.borrow_mut().read(Path::new(path), FILE_BYTES_MAX).map_err(SourceFault)
    }

    fn glob(&self, pattern: &str, from: &str) -> Result<Vec<String>, SourceFault> {
        let pattern = if from == SETTINGS { pattern.to_owned() } else { resolve(from, pattern) };
        let found = self.sources.borrow_mut().glob(Path::new(&pattern)).map_err(SourceFault)?;
        Ok(found.into_iter().map(|path| path.display().to_string()).collect())
    }
}
