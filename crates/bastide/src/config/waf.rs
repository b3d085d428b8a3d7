//! `waf:`: the firewall, as default, of a listener, of a route.
//!
//! What is written becomes [`WafSettings`]; those of a listener and a route are put over
//! the default's. Each different one is a [`Firewall`]; those that name the same files
//! share their compiled rules. A rule file that cannot be loaded whole is a fault of the
//! line that names it.

mod identity;
mod rules;
mod words;

pub use identity::{ATTACK_RULES, IDENTITY_SKIPS, identity_exclusions};
pub use rules::{CRS_MARK, load_rules};

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::decoder::{Decoder, Table};
use super::node::{At, Node, Value};
use super::schema::{Section, key};
use super::values::{self, Unfit};
use words::{media_type, method, rules_by_id, tag, target};

/// What the firewall does with what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WafMode {
    /// It refuses.
    Block,
    /// It only writes it down.
    Detect,
    /// It is not asked.
    Off,
}

/// Which firewall a listener or a route has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WafChoice {
    /// It says nothing: a route takes its listener's, a listener the default.
    #[default]
    Inherit,
    /// None.
    Off,
    /// The one at this place in [`super::Configuration::firewalls`].
    Firewall(usize),
}

/// The settings of one firewall.
#[derive(Clone, Debug, PartialEq)]
pub struct WafSettings {
    /// What it does.
    pub mode: WafMode,
    /// Whether that is settled; else `SecRuleEngine` of the rule files is still to be read.
    pub mode_is_settled: bool,
    /// Rule files, globs and folders of a Core Rule Set release, in their order.
    pub rules: Vec<PathBuf>,
    /// Core Rule Set: the paranoia level that blocks, 1 to 4.
    pub paranoia: Option<u8>,
    /// Core Rule Set: the paranoia level that is written down, at least the other.
    pub paranoia_detection: Option<u8>,
    /// Core Rule Set: the anomaly score at which a request is refused.
    pub threshold_inbound: Option<u32>,
    /// Core Rule Set: the anomaly score at which a response is refused.
    pub threshold_outbound: Option<u32>,
    /// Core Rule Set: the methods that it allows; none: those of the setup file.
    pub methods: Vec<String>,
    /// Core Rule Set: the media types of request bodies that it allows; none: those of the setup file.
    pub content_types: Vec<String>,
    /// What rules do not look at.
    pub exclusions: Vec<Exclusion>,
    /// Whether attack rules look at everything on routes to the identity provider too.
    pub inspects_identity: bool,
    /// Request bodies.
    pub request_body: WafRequestBody,
    /// Response bodies.
    pub response_body: WafResponseBody,
}

/// What is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// Which rules.
    pub which: Excluded,
    /// The target that they do not look at, `ARGS:comment`; without one they do not run.
    pub target: Option<String>,
}

impl Exclusion {
    /// From a command line: `942100`, `942000-942999`, `942100:ARGS:comment`,
    /// `tag=attack-sqli`, `tag=attack-sqli:ARGS:comment`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (rules, aim) = text.split_once(':').map_or((text, None), |(rules, aim)| (rules, Some(aim)));
        let told = |unfit: Unfit| format!("expected {}, found {text:?}", unfit.expected);
        let which = match rules.strip_prefix("tag=") {
            Some(name) => tag(name).map_err(told)?,
            None => rules_by_id(rules).map_err(told)?,
        };
        Ok(Self { which, target: aim.map(target).transpose().map_err(told)? })
    }
}

/// As the configuration says it: `{ rule: 942100, target: "ARGS:comment" }`.
impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Excluded::Rules(first, last) if first == last => write!(f, "{{ rule: {first}")?,
            Excluded::Rules(first, last) => write!(f, "{{ rule: {first}-{last}")?,
            Excluded::Tag(tag) => write!(f, "{{ tag: {tag:?}")?,
        }
        match &self.target {
            Some(target) => write!(f, ", target: {target:?} }}"),
            None => f.write_str(" }"),
        }
    }
}

/// Which rules an exclusion is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excluded {
    /// From the first to the last id.
    Rules(u64, u64),
    /// Those with this tag.
    Tag(String),
}

/// What is done with request bodies that have a content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WafCompressed {
    /// They are refused.
    Refuse,
    /// The rules read what they unpack to.
    Unpack,
    /// They pass unseen.
    Pass,
}

/// How request bodies are inspected. What is `None` is left to the rule files, and with a
/// Core Rule Set folder has the default of the reference page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WafRequestBody {
    /// Whether they are.
    pub access: Option<bool>,
    /// Most bytes of one.
    pub limit: Option<u64>,
    /// Most bytes of one besides files.
    pub no_files_limit: Option<u64>,
    /// Whether what goes past a limit passes unseen instead of being refused.
    pub partial: Option<bool>,
    /// What is done with those that have a content coding.
    pub compressed: Option<WafCompressed>,
}

/// How response bodies are inspected; see [`WafRequestBody`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WafResponseBody {
    /// Whether they are.
    pub access: Option<bool>,
    /// Most bytes of one.
    pub limit: Option<u64>,
    /// Whether what goes past the limit passes unseen instead of being refused.
    pub partial: Option<bool>,
    /// Whether one that cannot be unpacked passes unseen instead of being refused.
    pub unreadable_passes: Option<bool>,
    /// Media types that are.
    pub types: Vec<String>,
}

/// A firewall, loaded.
#[derive(Clone, Debug)]
pub struct Firewall {
    /// Its settings.
    pub settings: WafSettings,
    /// Its rules, checked whole.
    pub rules: Arc<waf::RuleSet>,
    /// Which one routes to the identity provider have in its place, where that is another.
    pub on_identity: Option<usize>,
}

/// The rules come from the settings and the files that these name; a change of a file is
/// seen by its time, not here.
impl PartialEq for Firewall {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

pub(super) const WAF: Section = Section {
    path: "waf",
    about: "The firewall: rules in ModSecurity's language, such as the OWASP Core Rule Set. At the top it is the default; settings in a listener or a route override the default, and a route's settings those of its listener. Without any `waf` nothing is inspected.",
    short: "`off`, `detect`, `block`, or a path of `rules`: `waf: /opt/coreruleset`",
    keys: &[
        key(
            "mode",
            "block, detect or off",
            "`SecRuleEngine` of the rule files; without one, block",
            "Refuse what the rules find, only log it, or do not inspect.",
        ),
        key(
            "rules",
            "path, glob, or list of these",
            "those of `waf` at the top; required where it has none",
            "Rule files in their order. A folder is a release of the Core Rule Set: its setup file, the settings below, and its rules are read.",
        ),
        key("paranoia", "1 to 4", "the setup file's, 1", "Core Rule Set: paranoia level that blocks."),
        key(
            "paranoia_detection",
            "1 to 4, at least `paranoia`",
            "`paranoia`",
            "Core Rule Set: paranoia level up to which rules run and are logged.",
        ),
        key("thresholds", "map", "the setup file's, 5 and 4", "Core Rule Set: anomaly scores that refuse."),
        key(
            "methods",
            "method or list of methods",
            "the setup file's, GET HEAD POST OPTIONS",
            "Core Rule Set: methods that it allows (rule 911100), in the place of the setup file's.",
        ),
        key(
            "content_types",
            "media type or list of media types",
            "the setup file's: forms, XML, SOAP and application/json",
            "Core Rule Set: media types of request bodies that it allows (rule 920420), such as application/grpc, in the place of the setup file's. What the rules read of them is another matter (docs/firewall.md, \"Methods and media types\").",
        ),
        key(
            "exclusions",
            "list of maps",
            "none",
            "False positives: rules that do not run here, or targets that they do not inspect. Those of a route are added to the default's.",
        ),
        key(
            "identity_parameters",
            "skip or inspect",
            "skip",
            "Core Rule Set, on routes `to: identity` and `to: sessions`: whether its attack rules (930000 to 944999) skip the provider's own random values, secrets and addresses, such as `code`, `state`, `password` and `redirect_uri` (docs/firewall.md has the list), which now and then look like an attack.",
        ),
        key("request_body", "map", "see there", "How request bodies are inspected."),
        key("response_body", "map", "see there", "How response bodies are inspected."),
    ],
};

pub(super) const THRESHOLDS: Section = Section {
    path: "waf.thresholds",
    about: "Core Rule Set: the anomaly scores at which a message is refused. Each critical rule adds 5.",
    short: "",
    keys: &[
        key("inbound", "1 to 100000", "the setup file's, 5", "Of a request."),
        key("outbound", "1 to 100000", "the setup file's, 4", "Of a response."),
    ],
};

pub(super) const EXCLUSIONS: Section = Section {
    path: "waf.exclusions[]",
    about: "One exclusion: `rule` or `tag`, and perhaps a `target`.",
    short: "",
    keys: &[
        key("rule", "id, or FIRST-LAST", "one of `rule` and `tag`", "The rules by id."),
        key("tag", "text", "one of `rule` and `tag`", "The rules by tag."),
        key(
            "target",
            "VARIABLE or VARIABLE:NAME",
            "the rules do not run at all",
            "What they do not inspect: `ARGS:comment`, `REQUEST_COOKIES:session`.",
        ),
    ],
};

pub(super) const REQUEST_BODY: Section = Section {
    path: "waf.request_body",
    about: "How request bodies are inspected. Settings that are left out are up to the rule files; with a Core Rule Set folder they have these defaults, and `access` has its default with all rule files that do not set it.",
    short: "",
    keys: &[
        key("access", "true or false", "true", "Whether they are (SecRequestBodyAccess)."),
        key(
            "limit",
            "size up to 1GiB",
            "12800KiB",
            "Most bytes of one that a rule looks at (SecRequestBodyLimit).",
        ),
        key(
            "no_files_limit",
            "size up to 1GiB",
            "128KiB",
            "Most bytes of one, not counting uploaded files (SecRequestBodyNoFilesLimit).",
        ),
        key(
            "over",
            "reject or partial",
            "reject",
            "What exceeds a limit: refuse it, or inspect what fits and let the rest pass.",
        ),
        key(
            "compressed",
            "refuse, unpack or pass",
            "refuse",
            "Bodies with a content coding: refuse them (415), inspect the decompressed gzip, deflate, br and zstd, or let them pass uninspected. `unpack` is for upstreams that decompress them too: any other would read a different body than the rules.",
        ),
    ],
};

pub(super) const RESPONSE_BODY: Section = Section {
    path: "waf.response_body",
    about: "How response bodies are inspected. A response is buffered until the verdict only if a rule needs its body and its type is one of these; event streams and gRPC never are. In block mode the upstream is then asked for an uncompressed response; one that is compressed all the same (gzip, deflate, br, zstd) is decompressed for the rules, and forwarded unchanged.",
    short: "",
    keys: &[
        key("access", "true or false", "false", "Whether they are (SecResponseBodyAccess)."),
        key("limit", "size up to 1GiB", "512KiB", "Most bytes of one (SecResponseBodyLimit)."),
        key(
            "over",
            "reject or partial",
            "partial",
            "What exceeds the limit: refuse it, or inspect what fits and let the rest pass.",
        ),
        key(
            "unreadable",
            "refuse or pass",
            "refuse",
            "What cannot be decompressed: refuse it (502), or let it pass uninspected. That is an unknown coding, several codings, a broken stream, or one that decompresses to more than 200 times its size after the first MiB.",
        ),
        key(
            "types",
            "list of media types",
            "text/plain, text/html, text/xml, application/json",
            "Which are inspected (SecResponseBodyMimeType).",
        ),
    ],
};

const MODES: &[(&str, WafMode)] =
    &[("block", WafMode::Block), ("detect", WafMode::Detect), ("off", WafMode::Off)];
const COMPRESSED: &[(&str, WafCompressed)] =
    &[("refuse", WafCompressed::Refuse), ("unpack", WafCompressed::Unpack), ("pass", WafCompressed::Pass)];
const UNREADABLE: &[(&str, bool)] = &[("refuse", false), ("pass", true)];
const IDENTITY_PARAMETERS: &[(&str, bool)] = &[("skip", false), ("inspect", true)];
const OVER: &[(&str, bool)] = &[("reject", false), ("partial", true)];
/// Largest limit of a body, bytes.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// What was read so far: the default, and every firewall that is loaded.
#[derive(Default)]
pub(super) struct Firewalls {
    default: Option<(WafSettings, Written)>,
    loaded: Vec<Firewall>,
    compiled: rules::Compiled,
    /// Settings whose rules could not be loaded: said once.
    refused: Vec<WafSettings>,
}

/// Where the parts of some settings were written.
#[derive(Clone, Default)]
struct Written {
    rules: At,
    /// One for each of [`WafSettings::exclusions`]; those of our own have none.
    exclusions: Vec<At>,
}

impl Firewalls {
    /// The one at this place.
    pub(super) fn get(&self, place: usize) -> Option<&Firewall> {
        self.loaded.get(place)
    }

    /// All that were loaded.
    pub(super) fn into_loaded(self) -> Vec<Firewall> {
        self.loaded
    }
}

impl WafSettings {
    fn new() -> Self {
        Self::of_rules(Vec::new())
    }

    /// Blocking, by these rules, everything else as these say.
    pub fn of_rules(rules: Vec<PathBuf>) -> Self {
        Self {
            mode: WafMode::Block,
            mode_is_settled: false,
            rules,
            paranoia: None,
            paranoia_detection: None,
            threshold_inbound: None,
            threshold_outbound: None,
            methods: Vec::new(),
            content_types: Vec::new(),
            exclusions: Vec::new(),
            inspects_identity: false,
            request_body: WafRequestBody::default(),
            response_body: WafResponseBody::default(),
        }
    }

    /// Settles the mode, whatever the rule files say.
    pub fn settle_mode(&mut self, mode: WafMode) {
        (self.mode, self.mode_is_settled) = (mode, true);
    }
}

impl Decoder<'_> {
    /// `waf:` at the top.
    pub(super) fn waf_default(&mut self, node: Option<&Node>, all: &mut Firewalls) -> WafChoice {
        let Some(node) = node else { return WafChoice::Off };
        let settings = self.waf_settings(node, (WafSettings::new(), Written::default()));
        all.default.clone_from(&settings);
        self.waf_load(node.at, settings, all)
    }

    /// `waf:` of a listener or a route.
    pub(super) fn waf(&mut self, node: Option<&Node>, all: &mut Firewalls) -> WafChoice {
        let Some(node) = node else { return WafChoice::Inherit };
        let base = all.default.clone().unwrap_or_else(|| (WafSettings::new(), Written::default()));
        let settings = self.waf_settings(node, base);
        self.waf_load(node.at, settings, all)
    }

    fn waf_load(
        &mut self,
        at: At,
        settings: Option<(WafSettings, Written)>,
        all: &mut Firewalls,
    ) -> WafChoice {
        let Some((mut settings, written)) = settings else { return WafChoice::Inherit };
        if settings.mode == WafMode::Off {
            return WafChoice::Off;
        }
        if all.refused.contains(&settings) {
            return WafChoice::Inherit;
        }
        let Some(shared) = self.waf_shared(at, &settings, &written, &mut all.compiled) else {
            all.refused.push(settings);
            return WafChoice::Inherit;
        };
        self.waf_mode(at, &mut settings, &shared, &mut all.compiled);
        if settings.mode == WafMode::Off {
            return WafChoice::Off;
        }
        if let Some(known) = all.loaded.iter().position(|known| known.settings == settings) {
            return WafChoice::Firewall(known);
        }
        match self.waf_rules(at, &settings, &written, &shared, &mut all.compiled) {
            Some(rules) => {
                all.loaded.push(Firewall { settings, rules: Arc::new(rules), on_identity: None });
                WafChoice::Firewall(all.loaded.len() - 1)
            }
            None => {
                all.refused.push(settings);
                WafChoice::Inherit
            }
        }
    }

    /// Lays the exclusions of routes to the identity provider over each firewall that such a
    /// route may meet.
    pub(super) fn waf_on_identity(&mut self, choices: impl Iterator<Item = WafChoice>, all: &mut Firewalls) {
        let (first, last) = ATTACK_RULES;
        for choice in choices {
            let WafChoice::Firewall(number) = choice else { continue };
            let Some(firewall) = all.loaded.get(number) else { continue };
            let is_meant = firewall.rules.ids().any(|id| (first..=last).contains(&id));
            if firewall.settings.inspects_identity || !is_meant || firewall.on_identity.is_some() {
                continue;
            }
            let mut settings = firewall.settings.clone();
            settings.exclusions.extend(identity_exclusions());
            if let WafChoice::Firewall(other) =
                self.waf_load(At::default(), Some((settings, Written::default())), all)
                && let Some(firewall) = all.loaded.get_mut(number)
            {
                firewall.on_identity = Some(other);
            }
        }
    }

    /// What is written, over `base`.
    fn waf_settings(
        &mut self,
        node: &Node,
        (mut settings, mut written): (WafSettings, Written),
    ) -> Option<(WafSettings, Written)> {
        let before = self.count();
        if let Some(text) = node.text() {
            match MODES.iter().find(|(word, _)| *word == text) {
                Some((_, mode)) => settings.settle_mode(*mode),
                None => {
                    let on =
                        "write block or detect, with rules: waf: { mode: block, rules: /opt/coreruleset }";
                    if !self.is_switch(node, "block, detect, off or a path of rules", on, "write off") {
                        settings.rules = self.path(node).into_iter().collect();
                    }
                    written.rules = node.at;
                }
            }
        } else if matches!(node.value, Value::List(_)) {
            settings.rules = self.waf_paths(node);
            written.rules = node.at;
        } else {
            let table = self.table(node, &WAF)?;
            self.waf_table(&table, &mut settings, &mut written);
        }
        if settings.mode != WafMode::Off && settings.rules.is_empty() && self.count() == before {
            self.advise(
                node.at,
                "the firewall has no rules",
                "add rules: the folder of a Core Rule Set release, or waf: off",
            );
        }
        (self.count() == before).then_some((settings, written))
    }

    fn waf_table(&mut self, table: &Table<'_>, settings: &mut WafSettings, written: &mut Written) {
        if let Some(mode) = table.get("mode").and_then(|node| self.word(node, "mode", MODES)) {
            settings.settle_mode(mode);
        }
        if let Some(node) = table.get("rules") {
            settings.rules = self.waf_paths(node);
            written.rules = node.at;
        }
        let level = |this: &mut Self, key| table.get(key).and_then(|node| this.number(node, 1, 4));
        settings.paranoia = level(self, "paranoia").or(settings.paranoia);
        settings.paranoia_detection = level(self, "paranoia_detection").or(settings.paranoia_detection);
        if let (Some(blocks), Some(detects)) = (settings.paranoia, settings.paranoia_detection)
            && detects < blocks
        {
            let at = table.get("paranoia_detection").map_or(table.at, |node| node.at);
            self.fault(
                at,
                format!("paranoia_detection is at least paranoia, which is {blocks}; found {detects}"),
            );
        }
        if let Some(table) = table.get("thresholds").and_then(|node| self.table(node, &THRESHOLDS)) {
            let score = |this: &mut Self, key| table.get(key).and_then(|node| this.number(node, 1, 100_000));
            settings.threshold_inbound = score(self, "inbound").or(settings.threshold_inbound);
            settings.threshold_outbound = score(self, "outbound").or(settings.threshold_outbound);
        }
        if let Some(node) = table.get("methods") {
            settings.methods = self.values(node, method);
        }
        if let Some(node) = table.get("content_types") {
            settings.content_types = self.values(node, media_type);
        }
        for item in table.get("exclusions").map_or(&[][..], Node::items) {
            if let Some(exclusion) = self.waf_exclusion(item) {
                settings.exclusions.push(exclusion);
                written.exclusions.push(item.at);
            }
        }
        let parameters = table.get("identity_parameters");
        settings.inspects_identity = parameters
            .and_then(|node| self.word(node, "answer", IDENTITY_PARAMETERS))
            .unwrap_or(settings.inspects_identity);
        if let Some(table) = table.get("request_body").and_then(|node| self.table(node, &REQUEST_BODY)) {
            let body = &mut settings.request_body;
            body.access = table.get("access").and_then(|node| self.boolean(node)).or(body.access);
            body.limit = self.waf_size(&table, "limit").or(body.limit);
            body.no_files_limit = self.waf_size(&table, "no_files_limit").or(body.no_files_limit);
            body.partial =
                table.get("over").and_then(|node| self.word(node, "answer", OVER)).or(body.partial);
            let compressed = table.get("compressed");
            body.compressed =
                compressed.and_then(|node| self.word(node, "answer", COMPRESSED)).or(body.compressed);
        }
        if let Some(table) = table.get("response_body").and_then(|node| self.table(node, &RESPONSE_BODY)) {
            let body = &mut settings.response_body;
            body.access = table.get("access").and_then(|node| self.boolean(node)).or(body.access);
            body.limit = self.waf_size(&table, "limit").or(body.limit);
            body.partial =
                table.get("over").and_then(|node| self.word(node, "answer", OVER)).or(body.partial);
            let unreadable = table.get("unreadable");
            body.unreadable_passes =
                unreadable.and_then(|node| self.word(node, "answer", UNREADABLE)).or(body.unreadable_passes);
            if let Some(node) = table.get("types") {
                body.types = self.values(node, media_type);
            }
        }
    }

    fn waf_size(&mut self, table: &Table<'_>, key: &str) -> Option<u64> {
        let node = table.get(key)?;
        let bytes = self.value(node, values::size)?;
        if !(1..=BODY_BYTES_MAX).contains(&bytes) {
            self.expected(node, "a size from 1B to 1GiB");
        }
        Some(bytes)
    }

    fn waf_paths(&mut self, node: &Node) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for item in node.items() {
            paths.extend(self.path(item));
        }
        paths
    }

    fn waf_exclusion(&mut self, node: &Node) -> Option<Exclusion> {
        let table = self.table(node, &EXCLUSIONS)?;
        let target = table.get("target").map(|node| self.value(node, target));
        let which = match (table.get("rule"), table.get("tag")) {
            (Some(node), None) => self.value(node, rules_by_id),
            (None, Some(node)) => self.value(node, tag),
            (found, _) => {
                let found = if found.is_some() { "both" } else { "neither" };
                self.advise(
                    node.at,
                    format!("an exclusion names rules by rule or by tag, found {found}"),
                    "write {rule: 942100, target: ARGS:comment}",
                );
                None
            }
        };
        Some(Exclusion { which: which?, target: target.map_or(Some(None), |target| target.map(Some))? })
    }
}
